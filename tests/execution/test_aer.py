# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import standard_gates as gates
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_aer import AerSimulator

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import amplitude, angle, encodings, reuploading
from qiskit_kd.circuits.model import CircuitModel, Encoding
from qiskit_kd.circuits.readouts import ClassGroups, Observables
from qiskit_kd.errors import CircuitError, ConfigError, DataError, ResourceError, UnknownNameError
from qiskit_kd.execution import aer as aer_module
from qiskit_kd.execution import memory
from qiskit_kd.execution.aer import AerExactEngine
from qiskit_kd.execution.aer_primitives import AerEstimator, AerSampler, aer_target, bindable
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.expansion import FREQUENCIES
from qiskit_kd.execution.reference import reference_outputs, reference_weight_gradient

BOTH = Needs(features=True, weights=True)
READOUTS = {
    "classes": ClassGroups(3, 3),
    "selected": ClassGroups(2, 3, "contiguous", qubits=(2, 0)),
    "diagonal": Observables(["ZII", SparsePauliOp(["IZZ", "III"], [0.5, 2.0])]),
    "general": Observables(["XIY", SparsePauliOp(["ZZI", "IXI", "YII"], [1.0, -0.5, 2.0])]),
}


def encoding_called(name: str) -> Encoding:
    builder = encodings[name]
    layers = {"layers": 2} if "layers" in inspect.signature(builder).parameters else {}
    return builder(3, **layers)


def draw(model: CircuitModel, *, batch: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, model.num_features))
    return x, rng.normal(size=model.num_weights), rng.normal(size=(batch, model.num_outputs))


def feature_differences(model: CircuitModel, x, w, upstream, step: float = 1e-5) -> np.ndarray:
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        d = np.zeros_like(x)
        d[place] = step
        up, down = reference_outputs(model, x + d, w), reference_outputs(model, x - d, w)
        gradient[place] = ((up - down) * upstream).sum() / (2 * step)
    return gradient


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("name", list(encodings))
def test_equals_statevector_for_every_encoding(name: str, readout: str) -> None:
    model = CircuitModel(
        encoding_called(name), hardware_efficient(3, 1, final_ry=True), READOUTS[readout]
    )
    x, w, upstream = draw(model)
    values, pullback = AerExactEngine().vjp(
        model, x, w, Needs(features=model.encoding.angle_pullback is not None, weights=True)
    )
    np.testing.assert_allclose(values, reference_outputs(model, x, w), atol=1e-10)
    gx, gw = pullback(upstream)
    np.testing.assert_allclose(gw, reference_weight_gradient(model, x, w, upstream), atol=1e-6)
    if gx is not None:
        np.testing.assert_allclose(gx, feature_differences(model, x, w, upstream), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 4))
def test_equals_statevector_on_random_circuits(seed: int, num_qubits: int) -> None:
    ansatz = QuantumCircuit(num_qubits)
    ansatz.compose(random_circuit(num_qubits, 4, seed=seed), inplace=True)
    a, b = Parameter("a"), Parameter("b")
    ansatz.crx(a, 0, 1)
    ansatz.cu(2 * b, a, 0.3, -b, 1, 0)
    ansatz.ryy(a - b, 1, 0)
    ansatz.compose(random_circuit(num_qubits, 3, seed=seed + 1), inplace=True)
    model = CircuitModel(angle(num_qubits), ansatz, ClassGroups(4, num_qubits))
    x, w, _ = draw(model, seed=seed)
    np.testing.assert_allclose(
        AerExactEngine().outputs(model, x, w), reference_outputs(model, x, w), atol=1e-10
    )


def test_leading_axes_dtypes_and_needs() -> None:
    model = CircuitModel(amplitude(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, _, _ = draw(model)
    w = np.random.default_rng(1).normal(size=(2, 3, model.num_weights)).astype(np.float32)
    engine = AerExactEngine()
    values, pullback = engine.vjp(model, x.astype(np.float32), w, BOTH)
    assert values.shape == (2, 3, 3, 2)
    assert values.dtype == np.float32
    upstream = np.random.default_rng(2).normal(size=values.shape)
    gx, gw = pullback(upstream)
    assert gx is not None
    assert gw is not None
    assert (gx.dtype, gw.dtype, gw.shape) == (np.float32, np.float32, w.shape)
    total = 0
    for k in np.ndindex(2, 3):
        np.testing.assert_allclose(values[k], reference_outputs(model, x, w[k]), atol=1e-6)
        expected = reference_weight_gradient(model, x, w[k].astype(float), upstream[k])
        np.testing.assert_allclose(gw[k], expected, atol=1e-5)
        total = total + feature_differences(model, x, w[k], upstream[k])
    np.testing.assert_allclose(gx, total, atol=1e-5)
    before = engine.usage.executions
    values, pullback = engine.vjp(model, x, w[0, 0], Needs(features=False, weights=False))
    assert pullback(upstream[0, 0]) == (None, None)
    assert engine.usage.executions == before + 3  # forward rows only


def test_jacobian_is_one_job() -> None:
    model = CircuitModel(reuploading(2, 2), hardware_efficient(2, 1), ClassGroups(3, 2))
    x, w, upstream = draw(model)
    engine = AerExactEngine()
    jx, jw = engine.jacobian(model, x, w, BOTH)
    assert engine.usage.jobs == 1
    gx, gw = engine.vjp(model, x, w, BOTH)[1](upstream)
    np.testing.assert_allclose(np.einsum("bo,bof->bf", upstream, jx), gx, atol=1e-12)
    np.testing.assert_allclose(np.einsum("bo,bow->w", upstream, jw), gw, atol=1e-12)


def test_transpiles_once_and_runs_one_job_per_step() -> None:
    model = CircuitModel(amplitude(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, upstream = draw(model)
    engine = AerExactEngine()
    for step in range(1, 4):
        engine.vjp(model, x, w, Needs(features=False, weights=True))[1](upstream)
        usage = engine.usage
        assert (usage.transpilations, usage.jobs, usage.pubs, usage.backward) == (1, *[step] * 3)
    rows = 1 + 2 * 4 + 4  # two shifts of four rotations, four of one CRX
    assert usage.executions == 3 * len(x) * rows


def test_splits_runs_that_would_keep_too_much(monkeypatch) -> None:
    model = CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(2, 3))
    x, w, _ = draw(model, batch=7)
    engine = AerExactEngine()
    whole = engine.outputs(model, x, w)
    monkeypatch.setattr(aer_module, "_CHUNK_BYTES", 8 * 8 * 3)
    np.testing.assert_array_equal(engine.outputs(model, x, w), whole)
    assert engine.usage.jobs == 1 + 3


def test_empty_batch_runs_nothing() -> None:
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    engine = AerExactEngine()
    values, pullback = engine.vjp(model, np.zeros((0, 2)), np.zeros(model.num_weights), BOTH)
    assert values.shape == (0, 2)
    gx, gw = pullback(values)
    assert gx is not None
    assert gx.shape == (0, 2)
    np.testing.assert_array_equal(gw, 0)
    assert engine.usage.jobs == 0


def test_spsa_is_reproducible_and_advances() -> None:
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, upstream = draw(model)

    def gradients(seed: int) -> list:
        engine = AerExactEngine(gradient="spsa", seed=seed)
        return [
            engine.vjp(model, x, w, Needs(features=False, weights=True))[1](upstream)[1]
            for _ in range(3)
        ]

    first, again, other = gradients(5), gradients(5), gradients(6)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, other)


def test_spsa_gives_exact_feature_gradients() -> None:
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, upstream = draw(model)
    gx, _ = AerExactEngine(gradient="spsa", seed=0).vjp(model, x, w, BOTH)[1](upstream)
    np.testing.assert_allclose(gx, feature_differences(model, x, w, upstream), atol=1e-6)


def test_copies_and_pickles() -> None:
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, _ = draw(model)
    engine = AerExactEngine(seed=3)
    values = engine.outputs(model, x, w)
    for other in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        np.testing.assert_array_equal(other.outputs(model, x, w), values)
        assert (other.seed, other.usage.jobs, engine.usage.jobs) == (3, 2, 1)
        assert other.usage is other.source.usage


def test_too_many_qubits_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 3 * 2**30)
    model = CircuitModel(angle(30), hardware_efficient(30, 1), ClassGroups(2, 30, qubits=(0,)))
    with pytest.raises(
        ResourceError,
        match=r"a statevector of 30 qubits must fit into memory; got 16\.0 GiB needed; "
        r"expected at most the 3\.0 GiB available\. Use fewer qubits or a device\.",
    ):
        AerExactEngine().outputs(model, np.zeros((1, 30)), np.zeros(model.num_weights))


def test_errors_of_arguments() -> None:
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, _ = draw(model)
    engine = AerExactEngine()
    with pytest.raises(DataError, match=r"the model takes 5 weights; got shape \(4,\); expected "
                       r"\(\.\.\., 5\)"):  # fmt: skip
        engine.outputs(model, x, w[:4])
    w[2] = np.nan
    with pytest.raises(DataError, match=r"weights are finite numbers; got nan at \[2\]\. The "
                       r"training diverged: lower the learning rate\."):  # fmt: skip
        engine.outputs(model, x, w)
    with pytest.raises(ConfigError, match="SPSA averages at least one perturbation; got 0; exp"):
        AerExactEngine(perturbations=0)
    with pytest.raises(ConfigError, match=r"the SPSA step is positive; got -0\.1; expected radia"):
        AerExactEngine(epsilon=-0.1)
    with pytest.raises(UnknownNameError, match=r"unknown gradient rule; got 'spas'. did you mean"):
        AerExactEngine(gradient="spas")


def test_encodings_without_derivative_are_named() -> None:
    plain = angle(2)
    encoding = Encoding("mine", plain.circuit, 2, plain.angle_map)
    model = CircuitModel(encoding, hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, upstream = draw(model)
    engine = AerExactEngine()
    with pytest.raises(
        CircuitError,
        match=r"the encoding 'mine' has no derivative with respect to the features; got features "
        r"that require a gradient; expected an encoding with an angle_pullback\. Detach",
    ):
        engine.vjp(model, x, w, BOTH)
    gx, gw = engine.vjp(model, x, w, Needs(features=False, weights=True))[1](upstream)
    assert gx is None
    assert gw is not None


def circuit_of(gate: type) -> QuantumCircuit:
    own = [Parameter(f"a{k}") for k in range(len(FREQUENCIES[gate]))]
    operation = gates.MCPhaseGate(own[0], 2) if gate is gates.MCPhaseGate else gate(*own)
    circuit = QuantumCircuit(operation.num_qubits)
    for qubit in range(circuit.num_qubits):
        circuit.ry(0.4 + qubit, qubit)
    circuit.append(operation, range(circuit.num_qubits))
    for qubit in range(circuit.num_qubits):
        circuit.rx(0.7 + qubit, qubit)
    return circuit


@pytest.mark.parametrize("gate", FREQUENCIES, ids=lambda gate: gate.__name__)
def test_primitives_bind_every_gate(gate: type) -> None:
    circuit = circuit_of(gate)
    values = np.random.default_rng(0).uniform(1, 3, circuit.num_parameters)
    n = circuit.num_qubits
    exact = Statevector(circuit.assign_parameters(values))
    operator = SparsePauliOp(["Z" * n, "X" + "I" * (n - 1)])
    found = AerEstimator().run([(circuit, operator, values)]).result()[0].data.evs
    assert found == pytest.approx(exact.expectation_value(operator).real, abs=1e-10)
    measured = circuit.measure_all(inplace=False)
    counts = AerSampler(seed=1).run([(measured, values)], shots=20_000).result()[0].data.meas
    p = exact.probabilities()
    seen = np.array([counts.get_int_counts().get(k, 0) for k in range(2**n)]) / 20_000
    assert (np.abs(seen - p) < 5 * np.sqrt(p * (1 - p) / 20_000) + 1e-12).all()


def test_aer_still_binds_controlled_gates_wrongly() -> None:
    """If this fails Aer has been mended, and `aer_primitives` can go (qiskit-aer 2391, 2403)."""
    circuit = circuit_of(gates.CRYGate)
    exact = Statevector(circuit.assign_parameters([2.0])).probabilities()
    circuit.save_probabilities()
    result = AerSimulator().run([circuit], parameter_binds=[{circuit.parameters[0]: [2.0]}])
    assert np.abs(result.result().data(0)["probabilities"] - exact).max() > 0.01


def test_only_circuits_that_need_it_are_translated() -> None:
    good, bad = circuit_of(gates.RXXGate), circuit_of(gates.CRXGate)
    assert bindable(good) is good
    assert bindable(bad.assign_parameters([0.3])).count_ops()["crx"] == 1
    assert "crx" not in bindable(bad).count_ops()
    assert {"rxx", "u", "cx", "mcx", "measure"} <= set(aer_target().operation_names)
    assert not {"crx", "cp", "cu", "mcphase", "mcrx"} & set(aer_target().operation_names)


def test_primitives_of_aer_keep_their_defaults() -> None:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    sampler = AerSampler(default_shots=77)
    assert sampler.default_shots == 77
    measured = circuit.measure_all(inplace=False)
    assert sampler.run([measured]).result()[0].data.meas.num_shots == 77
    assert sampler.run([measured], shots=5).result()[0].data.meas.num_shots == 5
    assert sampler.run([(measured, None, 6)]).result()[0].data.meas.num_shots == 6
    estimator = AerEstimator(default_precision=0.1, seed=4)
    assert estimator.default_precision == 0.1
    pub = (circuit, "Z")
    values = [float(estimator.run([pub]).result()[0].data.evs) for _ in range(2)]
    assert values[0] == values[1] != 0.0
    assert float(estimator.run([pub], precision=0).result()[0].data.evs) == pytest.approx(0.0)
