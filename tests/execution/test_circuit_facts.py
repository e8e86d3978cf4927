# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import Gate
from qiskit.transpiler import Target

from qiskit_kd.circuits import CircuitModel, ClassGroups, angle, hardware_efficient
from qiskit_kd.errors import ResourceError
from qiskit_kd.execution import memory
from qiskit_kd.execution.noise_sources import DeviceNoise, fake_device, rate_device, readout_rates
from qiskit_kd.execution.noisy import NoisyEngine
from qiskit_kd.execution.transpiling import CircuitFacts, circuit_facts, inlined
from tests.execution.exact.strategies import random_circuit

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


def test_of_a_circuit_whose_density_matrices_would_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
