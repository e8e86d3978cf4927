# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2
from qiskit.quantum_info import SparsePauliOp

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import angle
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups, Observables
from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.backends import load_backend
from qiskit_kd.execution.noisy import NoisyEngine
from qiskit_kd.execution.noisy.primitives import NoisyEstimator, NoisySampler

from .conftest import device


@pytest.fixture(autouse=True)
def _shipped(monkeypatch) -> None:
    monkeypatch.delenv("QISKIT_KD_BACKENDS", raising=False)


def on_the_device(model: CircuitModel, engine: NoisyEngine, w: np.ndarray, row: np.ndarray):
    """The engine's own circuit on all qubits of the device, bound, and where its qubits end."""
    native = engine.program(model).native
    values = dict(zip(model.inputs, model.encoding.angles(row[None])[0], strict=True))
    values |= dict(zip(model.weights, w, strict=True))
    circuit = native.circuit.copy()
    return circuit.assign_parameters({p: values[p] for p in circuit.parameters}), native.final


def test_samples_follow_the_engine() -> None:
    model = CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(8, 3))
    engine = NoisyEngine(device("torino"))
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 3)), rng.normal(size=model.num_weights)
    p = engine.outputs(model, x, w)[0]
    circuit, final = on_the_device(model, engine, w, x[0])
    circuit.add_register(ClassicalRegister(3, "meas"))
    circuit.measure(list(final), range(3))
    shots = 50_000
    sampler = NoisySampler(device("torino"), default_shots=shots, seed=1)
    assert isinstance(sampler, BaseSamplerV2)
    assert sampler.default_shots == shots
    bits = sampler.run([circuit]).result()[0].data.meas
    seen = np.bincount(bits.array.ravel(), minlength=8) / shots
    sigma = np.sqrt(p * (1 - p) / shots)
    assert (np.abs(seen - p) < 4.5 * sigma).all()
    ideal = load_backend("exact").engine().outputs(model, x, w)[0]
    assert (np.abs(seen - ideal) > 10 * sigma).any()


def test_estimates_follow_the_engine() -> None:
    labels = ["ZIZ", "IIX", "YZI"]
    model = CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(2, 3))
    engine = NoisyEngine(device("torino"))
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 3)), rng.normal(size=model.num_weights)
    circuit, final = on_the_device(model, engine, w, x[0])
    estimator = NoisyEstimator(device("torino"))
    assert isinstance(estimator, BaseEstimatorV2)
    assert estimator.default_precision == 0
    observables = [SparsePauliOp(label).apply_layout(final, 133) for label in labels]
    found = estimator.run([(circuit, observables)]).result()[0].data.evs
    # One diagonal observable at the end of the same circuit, without readout error.
    native = engine.program(model).native
    plain = CircuitModel(angle(3), hardware_efficient(3, 1), Observables(["ZIZ"]))
    silent = NoisyEngine(device("torino", readout=False))
    assert silent.program(plain).native.fingerprint() == native.fingerprint()
    assert found[0] == pytest.approx(silent.outputs(plain, x, w)[0, 0], abs=1e-6)
    rest = CircuitModel(angle(3), hardware_efficient(3, 1), Observables(labels[1:]))
    # The engine's turns into the Z basis are gates that err as well.
    np.testing.assert_allclose(found[1:], silent.outputs(rest, x, w)[0], atol=2e-3)


def test_seeded_runs_repeat_and_registers_survive() -> None:
    backend = load_backend("noisy")
    circuit = QuantumCircuit(2, 1)
    circuit.ry(Parameter("a"), 0)
    circuit.cx(0, 1)
    circuit.measure(1, 0)
    circuit.measure_all()
    native = backend.pass_manager().run(circuit)
    data = [
        backend.sampler(seed=3).run([(native, [[0.5], [2.0]])]).result()[0].data for _ in range(2)
    ]
    assert {"c", "meas"} == set(data[0].keys())
    np.testing.assert_array_equal(data[0].meas.array, data[1].meas.array)
    assert data[0].meas.num_shots == 1024
    assert data[0].c.shape == (2,)


def test_circuits_that_cannot_run() -> None:
    sampler = NoisySampler(device("rates", num_qubits=2))
    wide = QuantumCircuit(3)
    wide.x(0)
    wide.measure_all()
    with pytest.raises(CircuitError, match="a circuit is no wider than the device; got 3 qubits"):
        sampler.run([wide])
    foreign = QuantumCircuit(2)
    foreign.h(0)
    foreign.measure_all()
    with pytest.raises(CircuitError, match=r"consists of gates of the device; got 'h' on qubits"):
        sampler.run([foreign])
    flow = QuantumCircuit(2, 1)
    with flow.if_test((0, 1)):
        flow.x(0)
    with pytest.raises(
        CircuitError,
        match=r"noisy primitives run circuits without control flow; got 'if_else'\. Unroll it\.",
    ):
        sampler.run([flow])
