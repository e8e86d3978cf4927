# SPDX-License-Identifier: Apache-2.0
"""Random circuits over the whole standard gate library, with free, shared and affine parameters."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Gate, Parameter
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
    free = [Parameter(f"w{k}") for k in range(weights)]
    circuit = QuantumCircuit(num_qubits)
    circuit.ry(free[0], 0)
    for _ in range(gates):
        gate = GATES[str(rng.choice(pool))]
        angles = [
            float(rng.normal()) * free[int(rng.integers(weights))] + float(rng.normal())
            if rng.random() < 0.5
            else float(rng.normal())
            for _ in gate.params
        ]
        qubits = [int(q) for q in rng.permutation(num_qubits)[: gate.num_qubits]]
        circuit.append(gate.base_class(*angles), qubits)
    return circuit


circuits = st.builds(
    random_circuit,
    num_qubits=st.integers(1, 5),
    gates=st.integers(1, 18),
    seed=st.integers(0, 2**32 - 1),
)
