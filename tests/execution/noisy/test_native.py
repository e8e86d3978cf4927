# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import CZGate, RZGate, XGate
from qiskit.quantum_info import Statevector
from qiskit.transpiler import InstructionProperties, Target

from qiskit_kd.circuits.ansatze import hardware_efficient, real_amplitudes
from qiskit_kd.circuits.encodings import amplitude, angle, reuploading
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.noisy import isa
from qiskit_kd.execution.noisy.isa import to_isa

from .conftest import bound, device

OPTIONS = {"optimization_level": 3, "seed": 0, "idle": False}


def model(num_qubits: int = 3) -> CircuitModel:
    return CircuitModel(
        angle(num_qubits), hardware_efficient(num_qubits, 1), ClassGroups(2, num_qubits)
    )


@pytest.mark.parametrize("level", [0, 1, 3])
@pytest.mark.parametrize("source", ["torino", "rates"])
def test_parts_make_up_the_circuit(source, level) -> None:
    one = CircuitModel(amplitude(3), hardware_efficient(3, 1), ClassGroups(3, 3))
    noise = device(source, num_qubits=3)
    native = to_isa(one, noise, optimization_level=level, seed=1, idle=False)
    assert [part.source for part in native.parts] == ["inputs", "weights"]
    assert set(native.final) <= set(native.active)
    assert all(
        gate.qubits in noise.target[gate.operation.name]
        for part in native.parts for gate in part.gates
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 8)), rng.normal(size=one.num_weights)
    state = Statevector(bound(native, one, x[0], w))
    places = [native.active.index(q) for q in native.final]
    values = dict(zip(one.inputs, one.encoding.angles(x)[0], strict=True))
    values |= dict(zip(one.weights, w, strict=True))
    np.testing.assert_allclose(
        state.probabilities(places),
        Statevector(one.circuit.assign_parameters(values)).probabilities(), atol=1e-12,
    )  # fmt: skip


def test_users_own_barriers_are_no_seams() -> None:
    ansatz = hardware_efficient(2, 1).copy()
    ansatz.barrier()
    ansatz.compose(real_amplitudes(2, 1), inplace=True)
    one = CircuitModel(reuploading(2, 2), ansatz, ClassGroups(2, 2))
    native = to_isa(one, device("torino"), **OPTIONS)
    assert [part.source for part in native.parts] == ["inputs", "weights"] * 2


def test_equal_circuits_have_equal_fingerprints() -> None:
    noise = device("torino")
    first, second = (to_isa(model(), noise, **OPTIONS).fingerprint() for _ in range(2))
    assert first == second
    other = CircuitModel(angle(3, scale=1.0), real_amplitudes(3, 1), ClassGroups(2, 3))
    assert to_isa(other, noise, **OPTIONS).fingerprint() != first


def test_waiting_is_kept_on_the_active_qubits_only() -> None:
    native = to_isa(model(), device("torino"), **{**OPTIONS, "idle": True})
    delays = [g for part in native.parts for g in part.gates if g.seconds is not None]
    assert delays
    assert all(0 < g.seconds < 1e-5 for g in delays)
    assert {q for g in delays for q in g.qubits} <= set(native.active)
    assert len(native.active) == 3


def poor_device() -> DeviceNoise:
    """X, RZ and CZ: no way to a superposition."""
    target = Target(num_qubits=3)
    wires = {(q,): InstructionProperties(1e-8, 1e-3) for q in range(3)}
    target.add_instruction(XGate(), wires)
    target.add_instruction(RZGate(Parameter("a")), wires)
    target.add_instruction(CZGate(), {(0, 1): None, (1, 0): None, (1, 2): None, (2, 1): None})
    return DeviceNoise("poor", target, np.zeros((3, 2)))


def test_gates_that_a_device_cannot_do() -> None:
    with pytest.raises(
        CircuitError,
        match=r"a circuit can be written in the gates of 'poor'; got Unable to translate .*; "
        r"expected cz, rz, x\. Write the circuit in other gates, or use another device\.",
    ):
        to_isa(model(), poor_device(), **OPTIONS)


def test_gates_that_are_left_over_are_named() -> None:
    with pytest.raises(
        CircuitError,
        match=r"a circuit consists of gates of the device; got 'sx' on qubits \[1\]; expected the "
        r"gates of 'poor': .*cz.*\. Write the gate as a circuit of those, or use another device\.",
    ):
        poor_device().gate_error("sx", (1,))
    with pytest.raises(CircuitError, match=r"got 'cz' on qubits \[0, 2\]"):
        poor_device().gate_error("cz", (0, 2))


def test_seams_that_the_transpiler_loses_are_noticed(monkeypatch) -> None:

    monkeypatch.setattr(isa, "_pieces", lambda circuit: [circuit])
    with pytest.raises(
        CircuitError,
        match=r"keeps the seam between data and weights; got 1 parts; expected 2\. Choose another "
        r"optimization_level\.",
    ):
        to_isa(model(), device("rates", num_qubits=3), **OPTIONS)


def test_delays_in_a_circuit_of_the_users() -> None:
    ansatz = QuantumCircuit(1)
    ansatz.ry(Parameter("a"), 0)
    for length, unit in ((100, "ns"), (0.2, "us"), (50, "dt")):
        ansatz.delay(length, 0, unit)
    one = CircuitModel(angle(1), ansatz, ClassGroups(2, 1))
    noise = device("torino")
    native = to_isa(one, noise, **OPTIONS)
    seconds = [g.seconds for part in native.parts for g in part.gates if g.seconds is not None]
    np.testing.assert_allclose(sum(seconds), 1e-7 + 2e-7 + 50 * noise.target.dt, rtol=0.05)
