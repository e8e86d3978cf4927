# SPDX-License-Identifier: Apache-2.0
"""Random circuits over the whole standard gate library, with free, shared and affine parameters.

Fixed angles are often special: zero, tiny, a multiple of pi/2, and those displaced by a millionth;
gates are often wrapped: open controls, controlled, inverted, boxed in a gate of their own.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import ControlledGate, Gate, Parameter
from qiskit.circuit.library import get_standard_gate_name_mapping

GATES = {
    name: gate
    for name, gate in get_standard_gate_name_mapping().items()
    if isinstance(gate, Gate) and gate.num_qubits and name not in ("delay", "global_phase")
}


def random_circuit(
    num_qubits: int, gates: int, seed: int, *, names: list[str] | None = None, weights: int = 4
) -> QuantumCircuit:
    """`gates` random gates; half of the angles are affine in one of `weights` shared weights."""
    rng = np.random.default_rng(seed)
    pool = [g for g in (names or sorted(GATES)) if GATES[g].num_qubits <= num_qubits]
    special = [0, 1e-7, -1e-6, np.pi / 2, np.pi, -np.pi / 2, np.pi + 1e-6, np.pi / 2 - 1e-6]
    free = [Parameter(f"w{k}") for k in range(weights)]
    circuit = QuantumCircuit(num_qubits)
    circuit.ry(free[0], 0)
    for _ in range(gates):
        gate = GATES[str(rng.choice(pool))]
        angles = [
            float(rng.normal()) * free[int(rng.integers(weights))] + float(rng.normal())
            if rng.random() < 0.5
            else float(rng.choice([rng.normal(), *special]))
            for _ in gate.params
        ]
        made = _wrapped(gate.base_class(*angles), num_qubits, rng)
        qubits = [int(q) for q in rng.permutation(num_qubits)[: made.num_qubits]]
        circuit.append(made, qubits)
    return circuit


def _wrapped(gate: Gate, num_qubits: int, rng: np.random.Generator) -> Gate:
    kind = rng.integers(8)
    if kind == 0 and isinstance(gate, ControlledGate):
        gate = gate.to_mutable()
        gate.ctrl_state = int(rng.integers(2**gate.num_ctrl_qubits))
    elif kind == 1 and gate.num_qubits < num_qubits:
        gate = gate.control(1, ctrl_state=int(rng.integers(2)), annotated=bool(rng.integers(2)))
    elif kind == 2:
        gate = gate.inverse()
    elif kind == 3:
        inner = QuantumCircuit(gate.num_qubits, name=str(rng.choice(["mine", "rx", "barrier"])))
        inner.append(gate, range(gate.num_qubits))
        gate = inner.to_gate()
    return gate


circuits = st.builds(
    random_circuit,
    num_qubits=st.integers(1, 5),
    gates=st.integers(1, 18),
    seed=st.integers(0, 2**32 - 1),
)
