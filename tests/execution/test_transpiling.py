# SPDX-License-Identifier: Apache-2.0
"""Every pass manager, on circuits that Qiskit's own does not finish with in hours; their sizes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import AnnotatedOperation, ControlModifier, Gate, InverseModifier, Parameter
from qiskit.circuit.library import standard_gates as gates
from qiskit.quantum_info import Operator
from qiskit.transpiler import Target

import qiskit_kd
from qiskit_kd.circuits import CircuitModel, ClassGroups, angle, hardware_efficient
from qiskit_kd.errors import ResourceError
from qiskit_kd.execution import memory
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.noise_sources import DeviceNoise, fake_device, rate_device, readout_rates
from qiskit_kd.execution.noisy import NoisyEngine
from qiskit_kd.execution.runtime.tiling import tile_circuit
from qiskit_kd.execution.schema import (
    AerOptions,
    BackendOptions,
    ExactOptions,
    NoisyOptions,
    RuntimeOptions,
)
from qiskit_kd.execution.transpiling import CarefulPassManager, CircuitFacts, circuit_facts, inlined
from tests.execution.exact.strategies import random_circuit

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


LAGOS = fake_device("fake_lagos").target
RATES = rate_device(4, two_qubit=0.01, one_qubit_time=3.2e-8, two_qubit_time=3e-7)[0]


def is_double(item) -> bool:
    return len(item.qubits) == 2


@pytest.mark.parametrize(("target", "name"), [(LAGOS, "fake_lagos"), (RATES, "rates")])
@settings(max_examples=15)
@given(num_qubits=st.integers(1, 4), gates=st.integers(0, 14), seed=st.integers(0, 2**32 - 1))
def test_as_qiskit_counts(target: Target, name: str, num_qubits: int, gates: int, seed: int):
    manager = generate_preset_pass_manager(1, target=target, seed_transpiler=seed)
    circuit = inlined(random_circuit(num_qubits, gates, seed))
    circuit.data = [
        item for item in circuit.data if item.operation.name not in ("barrier", "delay")
    ]
    circuit = manager.run(circuit)
    facts = circuit_facts(circuit, target, device=name)
    assert facts.device == name
    assert facts.gates == circuit.size()
    assert facts.two_qubit_gates == circuit.num_nonlocal_gates()
    assert facts.depth == circuit.depth()
    assert facts.two_qubit_depth == circuit.depth(is_double)
    assert facts.qubits == sum(
        any(qubit in item.qubits for item in circuit.data) for qubit in circuit.qubits
    )
    expected = circuit.estimate_duration(target, unit="s") if circuit.size() else 0.0
    assert facts.seconds == pytest.approx(expected, abs=1e-12)


def test_readout_waiting_and_barriers_do_not_count() -> None:
    circuit = QuantumCircuit(4)
    circuit.sx(0)
    circuit.cz(0, 1)
    plain = circuit_facts(circuit, RATES, device="rates")
    assert plain == CircuitFacts("rates", 2, 2, 1, 2, 1, pytest.approx(3.2e-8 + 3e-7))
    more = circuit.copy()
    more.barrier()
    more.delay(500, 3, "ns")
    more.measure_all()
    assert circuit_facts(more, RATES, device="rates") == plain


def test_gates_side_by_side_take_the_time_of_the_longest() -> None:
    circuit = QuantumCircuit(4)
    circuit.cz(0, 1)
    circuit.sx(2)
    circuit.sx(2)
    circuit.rz(0.3, 2)
    facts = circuit_facts(circuit, RATES, device="rates")
    assert (facts.gates, facts.depth, facts.two_qubit_depth) == (4, 3, 1)
    assert facts.seconds == pytest.approx(3e-7)


def test_an_empty_circuit() -> None:
    assert circuit_facts(QuantumCircuit(2), RATES, device="x") == CircuitFacts(
        "x", 0, 0, 0, 0, 0, 0.0
    )


def test_durations_that_nobody_knows() -> None:
    strange = QuantumCircuit(2)
    strange.sx(0)
    strange.append(Gate("mystery", 2, []), [0, 1])
    facts = circuit_facts(strange, RATES, device="rates")
    assert facts.seconds is None
    assert (facts.gates, facts.two_qubit_gates, facts.depth) == (2, 1, 2)
    poor = Target(num_qubits=2)
    poor.add_instruction(RATES.operation_from_name("sx"), {(0,): None, (1,): None})
    circuit = QuantumCircuit(2)
    circuit.sx(1)
    assert circuit_facts(circuit, poor, device="poor").seconds is None


def test_of_a_circuit_whose_density_matrices_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aer may sample what the engine of density matrices has no memory for."""
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    device = fake_device("fake_lagos")
    noise = DeviceNoise("lagos", device.target, readout_rates(device))
    fits = NoisyEngine(noise)
    assert fits.program(model).native.circuit == fits.programs.native(model).circuit
    expected = fits.compiled(model)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    monkeypatch.setattr(memory, "_NEGLIGIBLE", 0)
    engine = NoisyEngine(noise)
    with pytest.raises(ResourceError):
        engine.program(model)
    assert engine.compiled(model) == expected
