# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Gate, Parameter
from qiskit.circuit.library import QFTGate, UnitaryGate
from qiskit.quantum_info import random_unitary

from qiskit_kd import circuits as kd
from qiskit_kd.circuits import CircuitModel, ClassGroups, Observables
from qiskit_kd.errors import CircuitError, DataError, ExecutionError, ResourceError
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.execution.exact import engine as engine_module
from tests.reference import reference_outputs, reference_weight_gradient

from .strategies import GATES, circuits, random_circuit

BOTH = Needs(features=True, weights=True)
WEIGHTS = Needs(features=False, weights=True)


def inputs(model: CircuitModel, batch: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, model.num_features)), rng.normal(size=model.num_weights)


def readouts(n: int):
    labels = "XYZI"
    pauli = "".join(labels[k % 4] for k in range(n))
    return [ClassGroups(2, n), Observables(["Z" * n]), Observables([pauli, "I" * (n - 1) + "X"])]


def assert_matches(model: CircuitModel, batch: int, *, gradient: bool = True) -> None:
    x, w = inputs(model, batch)
    engine = ExactEngine()
    values, pullback = engine.vjp(model, x, w, WEIGHTS)
    np.testing.assert_allclose(values, reference_outputs(model, x, w), atol=1e-10)
    if gradient:
        cotangent = np.random.default_rng(1).normal(size=values.shape)
        _, slope = pullback(cotangent)
        expected = reference_weight_gradient(model, x, w, cotangent)
        np.testing.assert_allclose(slope, expected, atol=2e-6 * max(1, np.abs(expected).max()))


@settings(max_examples=60, deadline=None)
@given(circuit=circuits, which=st.integers(0, 2))
def test_equals_statevector_on_random_circuits(circuit, which):
    n = circuit.num_qubits
    assert_matches(CircuitModel(kd.angle(n), circuit, readouts(n)[which]), 2)


@pytest.mark.parametrize("name", sorted(GATES))
def test_every_standard_gate(name):
    n = max(2, GATES[name].num_qubits)
    circuit = random_circuit(n, 3, seed=len(name), names=[name])
    assert_matches(CircuitModel(kd.angle(n), circuit, readouts(n)[2]), 2)


@pytest.mark.parametrize("encoding", ["amplitude", "amplitude_mps", "angle", "dense_angle"])
@pytest.mark.parametrize("batch", [1, 8, 9, 20])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_encoding_in_both_modes(encoding, batch, which):
    # more samples than the 8 basis states: the ansatz is applied as one matrix
    ansatz = kd.hardware_efficient(3, 1)
    assert_matches(CircuitModel(kd.encodings[encoding](3), ansatz, readouts(3)[which]), batch)


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 2])
@pytest.mark.parametrize("ansatz", [kd.real_amplitudes(3, 1), kd.su4_brickwork(3, 1)])
def test_reuploading_interleaves(ansatz, which):
    assert_matches(CircuitModel(kd.reuploading(3, 2), ansatz, readouts(3)[which]), 5)


@pytest.mark.parametrize("encoding", [kd.amplitude(3), kd.angle(3), kd.dense_angle(3),
                                      kd.reuploading(3, 2)])  # fmt: skip
@pytest.mark.parametrize("batch", [4, 12])
@pytest.mark.parametrize("which", [0, 2])
def test_gradient_reaches_the_features(encoding, batch, which):
    model = CircuitModel(encoding, kd.real_amplitudes(3, 1), readouts(3)[which])
    x, w = inputs(model, batch)
    engine, step = ExactEngine(), 1e-5
    values, pullback = engine.vjp(model, x, w, BOTH)
    cotangent = np.random.default_rng(1).normal(size=values.shape)
    gx, gw = pullback(cotangent)
    for column in range(model.num_features):
        shift = np.zeros_like(x)
        shift[:, column] = step
        up, down = engine.outputs(model, x + shift, w), engine.outputs(model, x - shift, w)
        expected = ((up - down) * cotangent).sum(1) / (2 * step)
        np.testing.assert_allclose(gx[:, column], expected, atol=1e-7)
    np.testing.assert_allclose(gw, reference_weight_gradient(model, x, w, cotangent), atol=1e-7)


def test_nonlinear_angles():
    a, b = Parameter("a"), Parameter("b")
    circuit = QuantumCircuit(2)
    circuit.ry(a * b, 0)
    circuit.rz(a**2, 0)
    circuit.crx((a + b).sin(), 0, 1)
    circuit.rx(a * b, 1)
    assert_matches(CircuitModel(kd.angle(2), circuit, Observables(["XY", "ZZ"])), 3)


def test_gates_without_a_rule():
    theta = Parameter("t")
    inner = QuantumCircuit(2, name="mine")
    inner.ryy(theta, 0, 1)
    circuit = QuantumCircuit(3)
    circuit.append(inner.to_gate(), [2, 0])
    circuit.append(inner.to_gate().control(1), [0, 1, 2])
    circuit.append(UnitaryGate(random_unitary(8, seed=1)), [1, 2, 0])
    circuit.append(UnitaryGate(random_unitary(4, seed=2)), [2, 1])
    circuit.append(QFTGate(3), [0, 1, 2])
    circuit.append(GATES["ry"].base_class(0.3).control(2, annotated=True), [2, 0, 1])
    assert_matches(CircuitModel(kd.angle(3), circuit, Observables(["XYZ"])), 2)


def test_a_users_gate_that_borrows_a_name_is_not_mistaken():
    definition = QuantumCircuit(1, name="rx")
    definition.ry(0.7, 0)
    circuit = QuantumCircuit(1)
    circuit.ry(Parameter("t"), 0)
    circuit.append(definition.to_gate(), [0])
    assert_matches(CircuitModel(kd.angle(1), circuit, ClassGroups(2, 1)), 2)


@pytest.mark.parametrize("angle", [1e-7, 1e-6, np.pi + 1e-6, np.pi / 2 - 1e-6])
def test_tiny_fixed_rotations_are_kept(angle):
    circuit = QuantumCircuit(2)
    circuit.ry(Parameter("t"), 0)
    circuit.cu(angle, 0.3, 0.2, 0.1, 0, 1)
    circuit.append(GATES["xx_plus_yy"].base_class(angle, 0.4), [1, 0])
    circuit.append(UnitaryGate(GATES["rx"].base_class(angle).to_matrix()), [1])
    assert_matches(CircuitModel(kd.angle(2), circuit, Observables(["XY", "ZY", "YI"])), 2)


@pytest.mark.parametrize("name", ["barrier", "delay", "id", "x", "global_phase"])
def test_a_users_gate_that_borrows_an_inert_name_is_carried_out(name):
    t = Parameter("t")
    inner = QuantumCircuit(1, name=name)
    inner.ry(t, 0)
    circuit = QuantumCircuit(1)
    circuit.append(inner.to_gate(), [0])
    circuit.barrier()
    circuit.delay(100, 0)
    circuit.id(0)
    assert_matches(CircuitModel(kd.angle(1), circuit, ClassGroups(2, 1)), 2)


def test_empty_batches_and_no_settings():
    model = CircuitModel(kd.amplitude(2), kd.hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w = inputs(model, 3)
    engine = ExactEngine()
    assert engine.outputs(model, x[:0], w).shape == (0, 2)
    values, pullback = engine.vjp(model, x, w[None][:0], BOTH)
    assert values.shape == (0, 3, 2)
    gx, gw = pullback(values)
    assert not gx.any()
    assert gw.shape == (0, model.num_weights)
    by_x, by_w = engine.jacobian(model, x[:0], w, BOTH)
    assert by_x.shape == (0, 2, 4)
    assert by_w.shape == (0, 2, model.num_weights)


def test_float32_stays_float32_and_is_close():
    model = CircuitModel(kd.amplitude(6), kd.hardware_efficient(6, 4), ClassGroups(3, 6))
    x, w = inputs(model, 100)
    engine = ExactEngine()
    values, pullback = engine.vjp(model, x.astype(np.float32), w.astype(np.float32), BOTH)
    exact, exact_pullback = engine.vjp(model, x, w, BOTH)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, exact, atol=1e-6)
    cotangent = np.ones_like(exact) * [1, -1, 0]
    for single, double in zip(
        pullback(cotangent.astype(np.float32)), exact_pullback(cotangent), strict=True
    ):
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, double, atol=2e-5)


def test_leading_axes_of_weights():
    model = CircuitModel(kd.angle(2), kd.hardware_efficient(2, 1), ClassGroups(2, 2))
    x, _ = inputs(model, 5)
    w = np.random.default_rng(3).normal(size=(2, 3, model.num_weights))
    engine = ExactEngine()
    values, pullback = engine.vjp(model, x, w, BOTH)
    assert values.shape == (2, 3, 5, 2)
    cotangent = np.random.default_rng(4).normal(size=values.shape)
    gx, gw = pullback(cotangent)
    assert gx.shape == x.shape
    assert gw.shape == w.shape
    total = np.zeros_like(x)
    for index in np.ndindex(2, 3):
        one, back = engine.vjp(model, x, w[index], BOTH)
        np.testing.assert_allclose(values[index], one, atol=1e-14)
        dx, dw = back(cotangent[index])
        total += dx
        np.testing.assert_allclose(gw[index], dw, atol=1e-14)
    np.testing.assert_allclose(gx, total, atol=1e-13)


@pytest.mark.parametrize("encoding", [kd.amplitude(4), kd.angle(4)])
def test_split_runs_equal_whole_runs(monkeypatch, encoding):
    model = CircuitModel(encoding, kd.hardware_efficient(4, 2), Observables(["XYZZ"]))
    x, w = inputs(model, 13)
    whole, back = ExactEngine().vjp(model, x, w, BOTH)
    monkeypatch.setattr(engine_module, "_CHUNK_BYTES", 20_000)
    split, split_back = ExactEngine().vjp(model, x, w, BOTH)
    np.testing.assert_allclose(split, whole, atol=1e-14)
    cotangent = np.random.default_rng(0).normal(size=whole.shape)
    for a, b in zip(split_back(cotangent), back(cotangent), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)


def test_larger_circuits_use_the_factorised_tables(monkeypatch):
    from qiskit_kd.execution.exact import sweep

    model = CircuitModel(kd.amplitude(5), kd.strongly_entangling(5, 2), ClassGroups(3, 5))
    x, w = inputs(model, 7)
    dense, back = ExactEngine().vjp(model, x, w, WEIGHTS)
    monkeypatch.setattr(sweep, "_DENSE", 0)
    factorised, factorised_back = ExactEngine().vjp(model, x, w, WEIGHTS)
    np.testing.assert_allclose(factorised, dense, atol=1e-13)
    cotangent = np.random.default_rng(0).normal(size=dense.shape)
    np.testing.assert_allclose(factorised_back(cotangent)[1], back(cotangent)[1], atol=1e-12)


def test_ten_qubits_in_three_groups():
    model = CircuitModel(kd.amplitude(10), kd.real_amplitudes(10, 2), ClassGroups(10, 10))
    assert_matches(model, 2, gradient=False)


def test_amplitude_padding():
    model = CircuitModel(
        kd.amplitude(3, num_features=5), kd.hardware_efficient(3, 1), ClassGroups(2, 3)
    )
    for batch in (3, 11):
        assert_matches(model, batch)


def test_frozen_parts_cost_nothing():
    model = CircuitModel(kd.amplitude(3), kd.hardware_efficient(3, 1), ClassGroups(2, 3))
    x, w = inputs(model, 4)
    engine = ExactEngine()
    engine.outputs(model, x, w)
    assert engine.usage.backward == 0
    values, pullback = engine.vjp(model, x, w, Needs(features=True, weights=False))
    gx, gw = pullback(np.ones_like(values))
    assert gw is None
    assert gx.shape == x.shape
    assert engine.usage.backward == 1
    assert engine.usage.executions == 8


def test_engine_survives_pickle_and_deepcopy():
    model = CircuitModel(kd.amplitude(3), kd.hardware_efficient(3, 1), ClassGroups(2, 3))
    x, w = inputs(model, 4)
    engine = ExactEngine()
    values = engine.outputs(model, x, w)
    for other in (pickle.loads(pickle.dumps(engine)), copy.deepcopy(engine)):
        assert other.usage.executions == 4
        np.testing.assert_array_equal(other.outputs(model, x, w), values)


@pytest.mark.parametrize("batch", [4, 20])
def test_pullback_may_be_repeated_while_other_runs_go_on(batch):
    model = CircuitModel(kd.amplitude(3), kd.hardware_efficient(3, 1), ClassGroups(2, 3))
    x, w = inputs(model, batch)
    engine = ExactEngine()
    values, pullback = engine.vjp(model, x, w, BOTH)
    cotangent = np.random.default_rng(1).normal(size=values.shape)
    first = pullback(cotangent)
    other, _ = engine.vjp(model, x[::-1].copy(), w + 1, BOTH)
    assert np.abs(other - values).max() > 1e-3
    for again, before in zip(pullback(cotangent), first, strict=True):
        np.testing.assert_array_equal(again, before)


def test_work_arrays_are_used_again():
    model = CircuitModel(kd.amplitude(3), kd.hardware_efficient(3, 1), ClassGroups(2, 3))
    x, w = inputs(model, 4)
    engine = ExactEngine()
    values, pullback = engine.vjp(model, x, w, WEIGHTS)
    pullback(np.ones_like(values))
    del pullback
    (spare,) = engine.program(model, x.dtype).sweep._pool[4,]
    _, pullback = engine.vjp(model, x, w, WEIGHTS)
    assert engine.program(model, x.dtype).sweep._pool[4,] == []
    del pullback
    assert engine.program(model, x.dtype).sweep._pool[4,] == [spare]


def test_few_work_arrays_are_kept():
    model = CircuitModel(kd.amplitude(3), kd.hardware_efficient(3, 1), ClassGroups(2, 3))
    x, w = inputs(model, 4)
    engine = ExactEngine()
    alive = [engine.vjp(model, x, w, WEIGHTS) for _ in range(20)]
    del alive
    assert len(engine.program(model, x.dtype).sweep._pool[4,]) == 4


def test_one_sample_that_does_not_fit_is_refused(monkeypatch):
    from qiskit_kd.execution import memory

    model = CircuitModel(kd.amplitude(5), kd.hardware_efficient(5, 2), ClassGroups(2, 5))
    x, w = inputs(model, 2)
    monkeypatch.setattr(engine_module, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(memory, "_NEGLIGIBLE", 0)
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**17)
    engine = ExactEngine()
    monkeypatch.setattr(engine_module, "_compile", lambda m, kind: engine_module.Program(m, kind))
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**10)
    with pytest.raises(ResourceError, match=r"the states of one sample .* fewer layers"):
        engine.outputs(model, x, w)


def test_no_pullback_where_none_was_asked_for():
    model = CircuitModel(kd.amplitude(3), kd.hardware_efficient(3, 1), ClassGroups(2, 3))
    x, w = inputs(model, 4)
    values = ExactEngine().outputs(model, x, w)
    _, nothing = ExactEngine().vjp(model, x, w, Needs(features=False, weights=False))
    with pytest.raises(ExecutionError, match="no gradient was asked for"):
        nothing(np.ones_like(values))


def test_no_gradient_through_amplitude_mps():
    model = CircuitModel(kd.amplitude_mps(3), kd.hardware_efficient(3, 1), ClassGroups(2, 3))
    x, w = inputs(model, 2)
    with pytest.raises(CircuitError, match=r"'amplitude_mps' has no derivative.*Detach"):
        ExactEngine().vjp(model, x, w, BOTH)


def test_refusals():
    model = CircuitModel(kd.amplitude(3), kd.hardware_efficient(3, 1), ClassGroups(2, 3))
    x, w = inputs(model, 2)
    engine = ExactEngine()
    with pytest.raises(DataError, match=r"the model takes 8 weights; got shape \(3,\)"):
        engine.outputs(model, x, w[:3])
    with pytest.raises(DataError, match="single or double precision; got float16"):
        engine.outputs(model, x.astype(np.float16), w)
    with pytest.raises(DataError, match="a zero vector in row 1"):
        engine.outputs(model, x * [[1], [0]], w)
    w[3] = np.nan
    with pytest.raises(
        DataError, match=r"weights are finite numbers; got nan at \[3\]. Set finite"
    ):
        engine.outputs(model, x, w)
    w[3] = 0
    with pytest.raises(DataError, match=r"takes rows of 8 features; got shape \(2, 5\)"):
        engine.outputs(model, x[:, :5], w)
    with pytest.raises(DataError, match=r"a norm that over- or underflows in row 0"):
        engine.outputs(model, np.full((2, 8), 1e30, np.float32), w)
    x[1, 2] = np.nan
    with pytest.raises(DataError, match="nan in row 1, feature 2"):
        engine.outputs(model, x, w)


def test_refuses_what_does_not_fit_into_memory():
    n = 27
    circuit = QuantumCircuit(n)
    for k in range(2000):
        circuit.rz(Parameter(f"w{k:04d}"), k % n)
    model = CircuitModel(kd.angle(n), circuit, Observables(["Z" * n]))
    with pytest.raises(ResourceError, match=r"27 qubits and 2\d+ gates must fit.*fewer qubits"):
        ExactEngine().outputs(model, np.ones((1, n)), np.zeros(2000))


def test_a_gate_nobody_can_open():
    class Opaque(Gate):
        def __init__(self, angle):
            super().__init__("opaque", 1, [angle])

    circuit = QuantumCircuit(1)
    circuit.append(Opaque(Parameter("t")), [0])
    with pytest.raises(
        CircuitError, match=r"'opaque' on qubits \[0\]: it has neither a matrix nor"
    ):
        CircuitModel(kd.angle(1), circuit, ClassGroups(2, 1))  # before anything is run


def test_programs_are_kept_by_many_threads_at_once() -> None:
    kept: dict[int, int] = {}
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            asked = [k % 150 for k in range(20_000)]
            found = list(pool.map(lambda k: engine_module._cached(kept, k, lambda: k), asked))
    finally:
        sys.setswitchinterval(before)
    assert found == asked
    assert len(kept) <= engine_module._KEPT
