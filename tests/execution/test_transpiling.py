# SPDX-License-Identifier: Apache-2.0
"""Every pass manager, on circuits that Qiskit's own does not finish with in hours."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import AnnotatedOperation, ControlModifier, InverseModifier, Parameter
from qiskit.circuit.library import standard_gates as gates
from qiskit.quantum_info import Operator

import qiskit_kd
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.noise_sources import fake_device
from qiskit_kd.execution.runtime.tiling import tile_circuit
from qiskit_kd.execution.schema import (
    AerOptions,
    BackendOptions,
    ExactOptions,
    NoisyOptions,
    RuntimeOptions,
)
from qiskit_kd.execution.transpiling import CarefulPassManager

OPTIONS: dict[str, BackendOptions] = {
    "exact": ExactOptions(kind="exact"),
    "aer": AerOptions(kind="aer"),
    "noisy": NoisyOptions(kind="noisy", noise={"rates": {"coupling": "full", "num_qubits": 4}}),
    "device": RuntimeOptions(kind="runtime", device="fake_lagos"),
}
PLACES = {name: Backend(name, options, "f") for name, options in OPTIONS.items()}


def many(kind: type, count: int) -> QuantumCircuit:
    """`count` gates of one kind with angles of their own."""
    width = kind(*[0.0] * len(numbers(kind))).num_qubits
    circuit = QuantumCircuit(3)
    for k in range(count):
        free = [Parameter(f"w{k:02d}_{j}") for j in range(len(numbers(kind)))]
        circuit.append(kind(*free), [(k + j) % 3 for j in range(width)])
        circuit.cx(k % 3, (k + 1) % 3)
    return circuit


def numbers(kind: type) -> range:
    counts = {gates.U2Gate: 2, gates.UGate: 3, gates.U3Gate: 3, gates.CU3Gate: 3, gates.CUGate: 4}
    return range(counts.get(kind, 1))


def formulas(count: int) -> QuantumCircuit:
    """Products, powers and functions of two parameters, in gates, modifiers and the phase."""
    a, b = Parameter("a"), Parameter("b")
    forms = [a * b / 3, (a / 2).sin(), (1.3 * a).cos() + b, (a / 4).exp(), a**2 / 2, a - 2 * b]
    circuit = QuantumCircuit(3, global_phase=a * b)
    inner = QuantumCircuit(1, name="x", global_phase=(a / 3).sin())
    inner.u(a * b, b, 0.3, 0)
    for k in range(count):
        circuit.p(forms[k % 6], k % 3)
        circuit.crx(forms[(k + 1) % 6], k % 3, (k + 1) % 3, ctrl_state=k % 2)
        turn = gates.RYGate(forms[(k + 2) % 6])
        circuit.append(AnnotatedOperation(turn, [ControlModifier(1), InverseModifier()]),
                       [k % 3, (k + 2) % 3])  # fmt: skip
        if k % 3 == 0:
            circuit.append(inner.to_gate(), [k % 3])
            circuit.append(AnnotatedOperation(inner.to_gate(), ControlModifier(1)), [0, 1])
    return circuit


CIRCUITS = {
    **{f"40 {kind.__name__}": many(kind, 40)
       for kind in (gates.PhaseGate, gates.U1Gate, gates.U2Gate, gates.UGate, gates.U3Gate)},
    **{f"20 {kind.__name__}": many(kind, 20)
       for kind in (gates.CPhaseGate, gates.CU1Gate, gates.CUGate, gates.CU3Gate, gates.CRXGate)},
    "formulas": formulas(9),
    "few phases": many(gates.PhaseGate, 3),
}  # fmt: skip


def unitary(circuit: QuantumCircuit, values: dict[str, float]) -> np.ndarray:
    found = circuit.assign_parameters({p: values[p.name] for p in circuit.parameters})
    return Operator.from_circuit(found).data


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CIRCUITS)
def test_circuits_are_equal_up_to_a_phase(name: str, place: str) -> None:
    circuit = CIRCUITS[name]
    made = PLACES[place].pass_manager().run(circuit)
    draw = np.random.default_rng(0)
    values = {p.name: float(draw.uniform(-3, 3)) for p in circuit.parameters}
    wanted = unitary(circuit, values)
    if made.num_qubits > circuit.num_qubits:  # the device's other qubits stay as they are
        wanted = np.kron(np.eye(2 ** (made.num_qubits - circuit.num_qubits)), wanted)
    overlap = np.trace(wanted.conj().T @ unitary(made, values)) / len(wanted)
    assert abs(overlap) == pytest.approx(1, abs=1e-9)


def test_few_phases_are_kept() -> None:
    """Where Qiskit can add them up, its circuit is not touched."""
    circuit = CIRCUITS["few phases"]
    manager = generate_preset_pass_manager(optimization_level=1, basis_gates=["rz", "sx", "cx"])
    assert CarefulPassManager(manager).run(circuit) == manager.run(circuit)


def test_blocks_of_control_flow() -> None:
    a = Parameter("a")
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        for _ in range(20):
            circuit.u((a / 2).sin(), a * a, a, 1)
    manager = generate_preset_pass_manager(optimization_level=1, basis_gates=["rz", "sx", "cx"])
    made = CarefulPassManager(manager).run([circuit, circuit])[1]
    (block,) = next(item for item in made.data if item.operation.name == "if_else").operation.blocks
    (wanted, *_) = circuit.data[-1].operation.blocks
    overlap = unitary(wanted, {"a": 0.4}).conj().T @ unitary(block, {"a": 0.4})
    assert abs(np.trace(overlap)) == pytest.approx(len(overlap))
    assert made.clbits == circuit.clbits


def test_tiles_of_many_phases() -> None:
    circuit = many(gates.UGate, 30)
    circuit.measure_all()
    target = fake_device("fake_lagos").target
    tiled = tile_circuit(circuit, target, tiles=2, optimization_level=1)
    assert len(tiled.tiles) == 2


def test_no_pass_manager_is_made_without_care() -> None:
    """The rule, over the source: what a preset returns goes into a `CarefulPassManager`."""
    for path in Path(qiskit_kd.__file__).parent.rglob("*.py"):
        text = path.read_text()
        made = len(re.findall(r"generate_preset_pass_manager\(", text))
        careful = len(re.findall(r"CarefulPassManager\(", text)) - text.count("class Careful")
        assert made <= careful, path
