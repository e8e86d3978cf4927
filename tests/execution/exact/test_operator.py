# SPDX-License-Identifier: Apache-2.0
"""Ansatz as an operator: quanvolution-sized batches, and the monomials they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qiskit_kd import circuits as kd
from qiskit_kd.circuits import CircuitModel, ClassGroups, Encoding, Observables
from qiskit_kd.errors import CircuitError, DataError, ExecutionError
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.exact import ExactEngine, contraction, program
from qiskit_kd.execution.exact.product import Terms
from tests.reference import reference_outputs, reference_weight_gradient

from .strategies import random_circuit


def live_table(n: int, seed: int, share: float) -> np.ndarray:
    live = np.random.default_rng(seed).random([3] * n) < share
    live.flat[seed % live.size] = True
    return live


@settings(max_examples=80, deadline=None)
@given(n=st.integers(1, 5), seed=st.integers(0, 10**6), share=st.sampled_from([0.02, 0.2, 0.7, 1]))
def test_every_product_that_occurs_once_and_from_rows_below(n, seed, share):
    live = live_table(n, seed, share)
    terms = Terms(live)
    assert len(set(terms.index.tolist())) == len(terms.index) == terms.head.size * terms.width
    assert set(np.flatnonzero(live)) <= set(terms.index.tolist())
    factors = np.random.default_rng(1).normal(size=(n, 3))
    factors[:, 0] = 1
    below = np.ones(1)
    for level in terms.levels:
        here = np.full(level.size, np.nan)
        here[: len(level.ones)] = below[level.ones]
        for block in level.blocks:
            lines = factors[level.qubit, 1:][block.trig]
            here[block.target] = np.outer(lines, below[block.source]).ravel()
        below = here
    table = factors[n - 1]
    for q in range(n - 2, -1, -1):
        table = np.outer(table, factors[q]).ravel()
    head = [f for t, f in enumerate(factors[terms.head.qubit]) if t == 0 or _trig(terms, t)]
    head = head if terms.head.one else head[1:]
    np.testing.assert_allclose(np.outer(head, below).ravel(), table[terms.index], rtol=1e-12)


def _trig(terms: Terms, t: int) -> bool:
    return terms.head.trig.start <= t - 1 < terms.head.trig.stop


def test_the_cheapest_order_is_taken():
    # Qubit 0 has a factor only where 1 has, and 1 only where 2 has: built from 2 down, every
    # level contains the one before.
    live = np.zeros([3] * 4, bool)
    live[1:, 0, 0, 0] = live[1:, 1:, 0, 0] = live[1:, 1:, 1:, :] = True
    terms = Terms(live)
    assert [level.qubit for level in terms.levels] == [2, 1, 0]
    assert all(level.whole for level in terms.levels)
    assert [level.size for level in terms.levels] == [3, 7, 15]
    assert sum(level.cost for level in terms.levels) == 14


@pytest.mark.parametrize("n", [1, 4])
def test_one_product_of_sines(n):
    live = np.zeros([3] * n, bool)
    live[(1,) * n] = True
    terms = Terms(live)
    assert (terms.head.size, terms.head.one, terms.width) == (1, 0, 1)
    assert terms.index.tolist() == [sum(3**q for q in range(n))]


def test_a_constant():
    live = np.zeros([3] * 3, bool)
    live[0, 0, 0] = True
    terms = Terms(live)
    assert (terms.head.size, terms.head.one, terms.width, terms.levels) == (1, 1, 1, [])
    assert terms.index.tolist() == [0]


BOTH = Needs(features=True, weights=True)
WEIGHTS = Needs(features=False, weights=True)
NOTHING = Needs(features=False, weights=False)


def quanvolution() -> CircuitModel:
    return CircuitModel(
        kd.angle(4, scale=np.pi), kd.hardware_efficient(4, 1), Observables(["ZIII"])
    )


def readout(kind: str, n: int):
    mixed = "".join("XYZI"[k % 4] for k in range(n))
    return {
        "groups": ClassGroups(2, n),
        "highest": Observables(["Z" + "I" * (n - 1)]),
        "paulis": Observables([mixed, "I" * (n - 1) + "X", "Y" + "I" * (n - 1)]),
    }[kind]


def draw(model: CircuitModel, batch: int, lead: tuple[int, ...], seed: int = 0):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(batch, model.num_features)), rng.normal(size=(*lead, model.num_weights))
    return x, w, rng.normal(size=(*lead, batch, model.num_outputs))


def evaluate(model, x, w, cotangent, needs=BOTH):
    values, pullback = ExactEngine().vjp(model, x, w, needs)
    return values, *pullback(cotangent)


def without_operator(monkeypatch, *arguments):
    monkeypatch.setattr(program, "_OPERATOR", 10**9)
    result = evaluate(*arguments)
    monkeypatch.setattr(program, "_OPERATOR", 0)
    return result


def assert_equal(ours, theirs, atol=1e-10):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 4), gates=st.integers(0, 12), seed=st.integers(0, 2**32 - 1),
    batch=st.sampled_from([1, 2, 7, 8, 9, 16, 17, 31, 40]), axis=st.sampled_from("xyz"),
    lead=st.sampled_from([(), (1,), (3,), (2, 2)]), scale=st.floats(-4, 4).filter(bool),
    kind=st.sampled_from(["groups", "highest", "paulis"]), chunk=st.sampled_from([1, 2000, 10**6]),
)  # fmt: skip
def test_equals_the_other_modes_and_the_reference(
    n, gates, seed, batch, axis, lead, scale, kind, chunk
):
    model = CircuitModel(
        kd.angle(n, axis=axis, scale=scale), random_circuit(n, gates, seed), readout(kind, n)
    )
    x, w, g = draw(model, batch, lead, seed)
    with pytest.MonkeyPatch.context() as patch:
        expected = without_operator(patch, model, x, w, g)
        patch.setattr(contraction, "_BLOCK", 8)
        patch.setattr(contraction, "_LEAST", 8)
        patch.setattr(contraction, "_CHUNK_BYTES", chunk)
        ours = evaluate(model, x, w, g)
    assert_equal(ours, expected)
    first = (0,) * len(lead)
    np.testing.assert_allclose(
        ours[0][first][:4], reference_outputs(model, x[:4], w[first]), atol=1e-10
    )


@pytest.mark.parametrize("n", [5, 6])
@pytest.mark.parametrize("kind", ["groups", "paulis"])
def test_wider_circuits(monkeypatch, n, kind):
    model = CircuitModel(kd.angle(n, axis="x"), kd.strongly_entangling(n, 1), readout(kind, n))
    x, w, g = draw(model, 4 * 2**n + 1, (2,))
    ours = evaluate(model, x, w, g)
    compiled = ExactEngine().program(model, float)
    assert len(x) > compiled.operator_from
    assert compiled.operator is not None
    assert_equal(ours, without_operator(monkeypatch, model, x, w, g))


@pytest.mark.parametrize("batch", [4095, 4096, 4097, 8192, 20000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_block_and_chunk_boundaries(monkeypatch, batch, dtype):
    model = quanvolution()
    x, w, g = (a.astype(dtype) for a in draw(model, batch, (3,)))
    g /= batch
    x = np.asfortranarray(x)
    ours = evaluate(model, x, w, g)
    assert {a.dtype for a in ours} == {np.dtype(dtype)}
    wide = [a.astype(float) for a in (x, w, g)]
    atol = 2e-6 if dtype is np.float32 else 1e-12
    assert_equal(ours, without_operator(monkeypatch, model, *wide), atol)


def test_gradient_equals_differences_of_the_reference():
    model = quanvolution()
    x, w, g = draw(model, 70, ())
    _, gx, gw = evaluate(model, x, w, g)
    np.testing.assert_allclose(gw, reference_weight_gradient(model, x, w, g), atol=1e-7)
    step = 1e-5
    up, down = (reference_outputs(model, x + sign * step * np.eye(4)[0], w) for sign in (1, -1))
    np.testing.assert_allclose(gx[:, 0], ((up - down) * g).sum(1) / (2 * step), atol=1e-7)


def test_modes_meet_at_the_switch():
    model = quanvolution()
    most = program._OPERATOR * 16
    x, w, _ = draw(model, most + 1, (3,))
    compiled = ExactEngine().program(model, float)
    assert compiled.operator_from == most
    assert compiled.operator is not None
    before, after = (ExactEngine().outputs(model, x[:rows], w) for rows in (most, most + 1))
    np.testing.assert_allclose(before, after[:, :most], atol=1e-14)


def test_results_do_not_depend_on_the_number_of_threads():
    model = quanvolution()
    x, w, g = draw(model, 30001, (3,))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3, 2):
            torch.set_num_threads(count)
            results.append(evaluate(model, x, w, g))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_products_too_large_to_keep_are_computed_again(monkeypatch):
    model = quanvolution()
    x, w, g = draw(model, 9000, (3,))
    kept = evaluate(model, x, w, g)
    monkeypatch.setattr(contraction, "_KEEP_BYTES", 0)
    for a, b in zip(evaluate(model, x, w, g), kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_what_is_asked_for():
    model = quanvolution()
    x, w, g = draw(model, 100, (3,))
    _, gx, gw = evaluate(model, x, w, g)
    engine = ExactEngine()
    values, pullback = engine.vjp(model, x, w, WEIGHTS)
    none, only = pullback(g)
    assert none is None
    np.testing.assert_array_equal(only, gw)
    assert (engine.usage.executions, engine.usage.backward) == (300, 3)
    only, none = engine.vjp(model, x, w, Needs(features=True, weights=False))[1](g)
    assert none is None
    np.testing.assert_array_equal(only, gx)
    again, nothing = engine.vjp(model, x, w, NOTHING)
    np.testing.assert_array_equal(again, values)
    with pytest.raises(ExecutionError, match="no gradient was asked for"):
        nothing(g)


def test_pullback_may_be_repeated_while_other_runs_go_on():
    model = quanvolution()
    x, w, g = draw(model, 5000, (3,))
    engine = ExactEngine()
    _, pullback = engine.vjp(model, x, w, BOTH)
    first = pullback(g)
    engine.vjp(model, x + 1, w + 1, BOTH)[1](g)
    for again, before in zip(pullback(g), first, strict=True):
        np.testing.assert_array_equal(again, before)


def test_work_arrays_are_used_again_and_do_not_remember(monkeypatch):
    model = quanvolution()
    x, w, g = draw(model, 5000, (3,))
    engine = ExactEngine()
    expected = evaluate(model, x, w, g)
    with np.errstate(all="ignore"):
        infinite = engine.vjp(model, np.full((8192, 4), 1e308), w, BOTH)  # angles overflow
        infinite[1](np.ones((3, 8192, 1)))
    del infinite
    made = []
    original = contraction._Bench.__init__
    monkeypatch.setattr(
        contraction._Bench, "__init__", lambda *a: (made.append(1), original(*a))[1]
    )
    values, pullback = engine.vjp(model, x, w, BOTH)
    assert_equal((values, *pullback(g)), expected, 0)
    assert not made


@pytest.mark.parametrize("n", [4, 5])  # one and two Kronecker factors
def test_sweeps_are_stacked_as_far_as_memory_goes(monkeypatch, n):
    from qiskit_kd.execution.exact import operator, sweep

    model = CircuitModel(kd.angle(n), kd.su4_brickwork(n, 1), readout("paulis", n))
    x, w, g = draw(model, 300, (5,))
    whole = evaluate(model, x, w, g)
    for one, row, cotangent in zip(whole[2], w, g, strict=True):
        np.testing.assert_allclose(one, evaluate(model, x, row, cotangent)[2], atol=1e-12)
    engine = ExactEngine()
    compiled = engine.program(model, float)
    engine.outputs(model, x, w)
    assert list(compiled.sweep._pool) == [(2**n, 5)]
    monkeypatch.setattr(operator, "_STACK_BYTES", 2 * compiled.sweep.bytes_for(2**n))
    monkeypatch.setattr(sweep, "_DENSE", 0)
    assert_equal(evaluate(model, x, w, g), whole, 1e-12)
    engine.outputs(model, x, w)
    assert set(compiled.sweep._pool) == {(2**n, k) for k in (5, 2, 1)}


def test_products_that_never_occur_are_left_out():
    terms = ExactEngine().program(quanvolution(), float).operator._contraction.terms
    # A chain of controlled rotations brings no identity to the qubit that is read, and only the
    # identity to those behind a qubit that has it: 1 + 2 (1 + 2 x 3) products of the other three.
    assert (terms.head.qubit, terms.head.one, terms.head.size) == (3, 0, 2)
    assert terms.width == 15
    assert len(terms.index) == 2 * 15
    blind = CircuitModel(kd.angle(3), kd.hardware_efficient(3, 1), Observables(["IIZ"]))
    terms = ExactEngine().program(blind, float).operator._contraction.terms
    assert (terms.head.qubit, terms.head.size, terms.width, terms.levels) == (0, 2, 1, [])


def test_what_vanishes_at_these_weights_only_is_kept(monkeypatch):
    model = CircuitModel(kd.angle(4), kd.real_amplitudes(4, 1), Observables(["ZIII"]))
    x, w, g = draw(model, 100, (1,))
    w[:] = 0
    ours = evaluate(model, x, w, g)
    assert np.abs(ours[2]).max() > 0.1
    assert_equal(ours, without_operator(monkeypatch, model, x, w, g))


def test_a_readout_that_sees_nothing():
    model = CircuitModel(kd.angle(2), kd.hardware_efficient(2, 1), Observables(["II", "ZZ"]))
    x, w, g = draw(model, 50, (2,))
    values, gx, _ = evaluate(model, x, w, g)
    np.testing.assert_allclose(values[..., 0], 1, atol=1e-14)
    constant = CircuitModel(kd.angle(2), kd.hardware_efficient(2, 1), Observables(["II"]))
    values, gx, gw = evaluate(constant, x, w, g[..., :1])
    np.testing.assert_allclose(values, 1, atol=1e-14)
    assert not gx.any()
    np.testing.assert_allclose(gw, 0, atol=1e-13)


# --- which encodings are products -----------------------------------------------------------------


def identity(x):
    return x


def same(_x, gradient):
    return gradient


def encoding(circuit: QuantumCircuit) -> Encoding:
    return Encoding("mine", circuit, circuit.num_parameters, identity, angle_pullback=same)


def is_operator(part: Encoding) -> bool:
    n = part.num_qubits
    model = CircuitModel(part, kd.strongly_entangling(n, 1), ClassGroups(2, n))
    return ExactEngine().program(model, float).operator is not None


def test_products_are_recognised_however_they_are_written(monkeypatch):
    a, b = (Parameter(f"input_{k:02d}") for k in range(2))
    circuit = QuantumCircuit(4)
    circuit.h(0)
    circuit.rz(b, 0)
    circuit.barrier()
    circuit.sx(0)
    circuit.u(0.3, -a + 0.7, 0.2, 1)
    inner = QuantumCircuit(1, name="inner")
    inner.t(0)
    inner.rx(b, 0)
    circuit.append(inner.to_gate(), [2])
    circuit.ry(1.1, 3)
    model = CircuitModel(
        encoding(circuit), kd.strongly_entangling(4, 1), Observables(["XYZI", "IZZX"])
    )
    assert is_operator(model.encoding)
    x, w, g = draw(model, 100, (2,))
    ours = evaluate(model, x, w, g)
    assert_equal(ours, without_operator(monkeypatch, model, x, w, g))
    assert np.abs(ours[1]).max(0).min() > 0.1


def one_qubit(build) -> Encoding:
    a, b = (Parameter(f"input_{k:02d}") for k in range(2))
    circuit = QuantumCircuit(2)
    circuit.ry(b, 1)
    build(circuit, a)
    return encoding(circuit)


@pytest.mark.parametrize(
    "part",
    [
        kd.dense_angle(2), kd.amplitude(2), kd.amplitude_mps(2), kd.reuploading(2, 2), kd.angle(7),
        one_qubit(lambda c, a: c.crx(a, 1, 0)),
        one_qubit(lambda c, a: (c.ry(a, 0), c.cx(0, 1))),
        one_qubit(lambda c, a: (c.ry(a, 0), c.ry(a, 0))),
        one_qubit(lambda c, a: c.ry(a / 2, 0)),
        one_qubit(lambda c, a: c.ry(a**2, 0)),
        one_qubit(lambda c, a: c.u(a, a, 0, 0)),
        one_qubit(lambda c, a: c.rx(a, 1)),
    ],
    ids=["dense_angle", "amplitude", "mps", "reuploading", "wide", "controlled", "entangled",
         "twice", "half", "square", "two angles", "two inputs"],
)  # fmt: skip
def test_other_encodings_run_as_before(part):
    assert not is_operator(part)


def test_errors_name_the_row_among_all():
    model = quanvolution()
    x, w, _ = draw(model, 50_000, ())
    x[49_990, 2] = np.nan
    with pytest.raises(DataError, match="nan in row 49990, feature 2"):
        ExactEngine().outputs(model, x, w)
    with pytest.raises(DataError, match=r"takes rows of 4 features; got shape \(100, 3\)"):
        ExactEngine().outputs(model, x[:100, :3], w)


def test_no_gradient_without_a_derivative():
    part = kd.angle(2)
    blind = Encoding("blind", part.circuit, 2, part.angle_map)
    model = CircuitModel(blind, kd.hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, _ = draw(model, 100, ())
    with pytest.raises(CircuitError, match=r"'blind' has no derivative.*Detach"):
        ExactEngine().vjp(model, x, w, BOTH)


@pytest.mark.parametrize("build", [kd.angle, kd.dense_angle, kd.reuploading])
def test_a_scale_is_the_whole_angle_map(build):
    part = build(3, scale=0.7)
    x = np.random.default_rng(0).normal(size=(4, part.num_features))
    np.testing.assert_array_equal(part.angles(x), part.scale * x)
    assert part.num_inputs == part.num_features
    assert kd.amplitude(3).scale is None
