# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import pickle
import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from qiskit_aer import AerSimulator

from qiskit_kd import QuantumLayer
from qiskit_kd.circuits.ansatze import hardware_efficient, real_amplitudes, su4_brickwork
from qiskit_kd.circuits.encodings import amplitude, amplitude_mps, angle, reuploading
from qiskit_kd.circuits.model import CircuitModel, Encoding
from qiskit_kd.circuits.readouts import ClassGroups, Observables
from qiskit_kd.errors import CircuitError, DataError, ResourceError
from qiskit_kd.execution import memory
from qiskit_kd.execution.backends import load_backend
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.noisy import NoisyEngine
from qiskit_kd.execution.noisy import engine as engine_module
from qiskit_kd.execution.noisy.program_cache import ProgramCache
from tests.execution.exact.strategies import random_circuit
from tests.reference import reference_noisy_outputs

from .conftest import AER_CUTOFF, aer_outputs, bound, device, finite_differences, programs

BOTH = Needs(features=True, weights=True)
WEIGHTS = Needs(features=False, weights=True)
INTERLEAVED = "ignore:data and weights interleave"


def numbers(model: CircuitModel, batch: int = 2, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, model.num_features)), rng.normal(size=model.num_weights)


def reference(engine: NoisyEngine, model: CircuitModel, x, w):
    native = engine.program(model).native
    return reference_noisy_outputs(model, native, engine.programs.device(model.num_qubits), x, w)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["torino", "marrakesh", "rates"])
@settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    num_qubits=st.integers(2, 6), gates=st.integers(1, 8), seed=st.integers(0, 2**32 - 1),
    measured=st.integers(1, 6),
)  # fmt: skip
def test_equals_aers_density_matrix(source, num_qubits, gates, seed, measured) -> None:
    shop = programs(source, readout=False, cutoff=AER_CUTOFF)
    qubits = tuple(np.random.default_rng(seed).permutation(num_qubits)[:measured].tolist())
    readout = ClassGroups(2, num_qubits, qubits=qubits)
    model = CircuitModel(angle(num_qubits), random_circuit(num_qubits, gates, seed), readout)
    x, w = numbers(model, 2, seed)
    engine = NoisyEngine(shop)
    expected = aer_outputs(engine.program(model).native, model, x, w, source)
    np.testing.assert_allclose(engine.outputs(model, x, w), expected, atol=1e-10, rtol=0)
    w = w + 0.1  # the second time the states are found, not made
    expected = aer_outputs(engine.program(model).native, model, x, w, source)
    np.testing.assert_allclose(engine.outputs(model, x, w), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("source", ["torino", "marrakesh", "rates"])
def test_amplitude_students_equal_aer(source) -> None:
    model = CircuitModel(amplitude(4), hardware_efficient(4, 2, final_ry=True), ClassGroups(3, 4))
    engine = NoisyEngine(programs(source, readout=False, cutoff=AER_CUTOFF))
    x, w = numbers(model, 3)
    expected = aer_outputs(engine.program(model).native, model, x, w, source)
    np.testing.assert_allclose(engine.outputs(model, x, w), expected, atol=1e-10, rtol=0)
    # Without the cut the outputs add up to one, which Aer's do not quite.
    whole = NoisyEngine(programs(source, readout=False)).outputs(model, x, w)
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(whole, expected, atol=1e-6)


@pytest.mark.parametrize("source", ["torino", "marrakesh", "rates"])
def test_readout_error_agrees_with_shots(source) -> None:
    model = CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(8, 3))
    engine = NoisyEngine(programs(source))
    x, w = 0.5 * numbers(model, 1)[0], 0.5 * numbers(model)[1]
    native, shots = engine.program(model).native, 200_000
    circuit = bound(native, model, x[0], w)
    noise = engine.programs.device(3).noise_model(circuit, native.active)
    circuit.measure_all()
    simulator = AerSimulator(method="density_matrix", noise_model=noise, seed_simulator=5)
    counts = simulator.run(circuit, shots=shots).result().get_counts()
    seen = np.zeros(8)
    for key, count in counts.items():
        bits = [int(key[len(key) - 1 - native.active.index(q)]) for q in native.final]
        seen[model.readout.labels[sum(b << k for k, b in enumerate(bits))]] += count / shots
    p = engine.outputs(model, x, w)[0]
    assert (np.abs(seen - p) < 4 * np.sqrt(p * (1 - p) / shots)).all()
    plain = NoisyEngine(programs(source, readout=False)).outputs(model, x, w)[0]
    assert np.abs(plain - p).max() > 5 * np.sqrt(0.25 / shots)  # it would be missed


MODELS = {
    "amplitude": CircuitModel(amplitude(3), hardware_efficient(3, 2), ClassGroups(3, 3)),
    "angle": CircuitModel(angle(2), real_amplitudes(2, 1), ClassGroups(2, 2, qubits=(1,))),
    "mps": CircuitModel(amplitude_mps(3), su4_brickwork(3, 1), ClassGroups(4, 3)),
    "one qubit": CircuitModel(angle(1), real_amplitudes(1, 1), ClassGroups(2, 1)),
    "observables": CircuitModel(
        angle(3), hardware_efficient(3, 1), Observables(["ZIX", "YYI", "IIZ", "III"])
    ),
    "reuploading": CircuitModel(reuploading(2, 3), real_amplitudes(2, 1), ClassGroups(2, 2)),
}


@pytest.mark.slow
@pytest.mark.filterwarnings(INTERLEAVED)
@pytest.mark.parametrize(("source", "idle"), [("torino", True), ("rates", False)])
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_reference(name, source, idle) -> None:
    model = MODELS[name]
    engine = NoisyEngine(programs(source, idle=idle))
    x, w = numbers(model)
    expected = reference(engine, model, x, w)
    np.testing.assert_allclose(engine.outputs(model, x, w), expected, atol=1e-12)
    x, w = x.astype(np.float32), w.astype(np.float32)
    single = engine.outputs(model, x, w)
    assert single.dtype == np.float32
    double = engine.outputs(model, x.astype(np.float64), w.astype(np.float64))
    np.testing.assert_allclose(single, double, atol=2e-6)


@pytest.mark.filterwarnings(INTERLEAVED)
@pytest.mark.parametrize("name", [n for n in MODELS if n != "mps"])
def test_gradients_equal_finite_differences(name) -> None:
    model = MODELS[name]
    engine = NoisyEngine(programs("torino"))
    x, w = numbers(model, 3)
    c = np.random.default_rng(1).normal(size=(3, model.num_outputs))
    by_w = finite_differences(lambda v: (engine.outputs(model, x, v) * c).sum(), w)
    by_x = finite_differences(lambda v: (engine.outputs(model, v, w) * c).sum(), x)
    y, pullback = engine.vjp(model, x, w, WEIGHTS)
    np.testing.assert_allclose(y, engine.outputs(model, x, w), atol=1e-14)
    for _ in range(2):  # any number of times
        gx, gw = pullback(c)
        assert gx is None
        np.testing.assert_allclose(gw, by_w, atol=1e-9)
    y, pullback = engine.vjp(model, x, w, BOTH)  # by the other way: the batch evolves
    np.testing.assert_allclose(y, engine.outputs(model, x, w), atol=1e-13)
    for _ in range(2):
        gx, gw = pullback(c)
        np.testing.assert_allclose(gw, by_w, atol=1e-9)
        np.testing.assert_allclose(gx, by_x, atol=1e-9)
    assert engine.usage.backward == 4


@pytest.mark.filterwarnings(INTERLEAVED)
@pytest.mark.parametrize("name", ["amplitude", "reuploading"])
def test_slices_of_a_large_batch_change_nothing(name, monkeypatch) -> None:
    model = MODELS[name]
    x, w = numbers(model, 7)
    c = np.random.default_rng(1).normal(size=(7, model.num_outputs))
    whole, back = NoisyEngine(programs("rates")).vjp(model, x, w, WEIGHTS)
    small = programs("rates", cache_bytes=3 * 4**model.num_qubits * 8)
    engine = NoisyEngine(small)
    monkeypatch.setattr(engine_module, "_EVOLVED_BYTES", 1)
    with (
        pytest.warns(UserWarning, match="more encoded rows than are kept")
        if name == "amplitude" else monkeypatch.context()
    ):  # fmt: skip
        y, pullback = engine.vjp(model, x, w, WEIGHTS)
        slope = pullback(c)[1]
    np.testing.assert_allclose(y, whole, atol=1e-14)
    np.testing.assert_allclose(slope, back(c)[1], atol=1e-13)
    assert small.states.nbytes <= 3 * 4**model.num_qubits * 8


def test_weights_side_by_side_and_empty_batches() -> None:
    model = MODELS["amplitude"]
    engine = NoisyEngine(programs("rates"))
    x, _ = numbers(model)
    w = np.random.default_rng(0).normal(size=(2, 3, model.num_weights))
    y, pullback = engine.vjp(model, x, w, WEIGHTS)
    assert y.shape == (2, 3, 2, 3)
    c = np.random.default_rng(1).normal(size=y.shape)
    slopes = pullback(c)[1]
    for index in np.ndindex(2, 3):
        one, back = engine.vjp(model, x, w[index], WEIGHTS)
        np.testing.assert_allclose(y[index], one, atol=1e-14)
        np.testing.assert_allclose(slopes[index], back(c[index])[1], atol=1e-14)
    empty, back = engine.vjp(model, x[:0], w[0, 0], WEIGHTS)
    assert empty.shape == (0, 3)
    assert not back(empty)[1].any()


@pytest.mark.parametrize(
    "place", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
)  # fmt: skip
@pytest.mark.filterwarnings(INTERLEAVED)
@pytest.mark.parametrize("name", MODELS)
def test_torch_operations_give_the_same(name, place) -> None:
    if place == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = MODELS[name]
    engine = NoisyEngine(programs("rates"))
    x, w = numbers(model)
    c = np.random.default_rng(1).normal(size=(2, model.num_outputs))
    needs = WEIGHTS if name == "mps" else BOTH
    y, pullback = engine.vjp(model, x, w, needs)
    gx, gw = pullback(c)
    for wants_x in {False, needs.features}:
        tx = torch.tensor(x, device=place, requires_grad=wants_x)
        tw = torch.tensor(w, device=place, requires_grad=True)
        values = engine.torch_outputs(model, tx, tw)
        (values * torch.tensor(c, device=place)).sum().backward()
        np.testing.assert_allclose(values.detach().cpu(), y, atol=1e-13)
        np.testing.assert_allclose(tw.grad.cpu(), gw, atol=1e-12)
        if wants_x:
            np.testing.assert_allclose(tx.grad.cpu(), gx, atol=1e-12)


def test_interleaved_circuits_say_what_they_cost() -> None:
    model = MODELS["reuploading"]
    engine = NoisyEngine(programs("rates"))
    with pytest.warns(UserWarning, match="interleave in this circuit, so every step carries"):
        engine.outputs(model, *numbers(model))
    engine.outputs(model, *numbers(model))  # once


def test_work_is_done_once_and_shared() -> None:
    shop = programs("rates")
    first, second = NoisyEngine(shop), NoisyEngine(shop)
    one, other = (
        CircuitModel(amplitude(3), hardware_efficient(3, 1), ClassGroups(2, 3)) for _ in range(2)
    )
    x, w = numbers(one, 6)
    y = first.outputs(one, x, w)
    kept = shop.states.nbytes
    assert kept == 6 * 4**3 * 8
    order = np.array([3, 1, 3, 5])
    np.testing.assert_allclose(second.outputs(other, x[order], w), y[order], atol=1e-15)
    assert shop.states.nbytes == kept
    assert first.program(one) is second.program(other)
    assert (first.usage.transpilations, first.usage.executions) == (1, 6)
    copied = copy.deepcopy(first)
    assert copied.programs is shop
    np.testing.assert_array_equal(copied.outputs(one, x, w), y)


def test_equal_circuits_with_other_angles_do_not_share_states() -> None:
    engine = NoisyEngine(programs("rates"))
    for make in (
        lambda scale: angle(2, scale=scale),
        lambda scale: Encoding("own", angle(2).circuit, 2, lambda rows: scale * rows),
        lambda scale: Encoding("own", angle(2).circuit, 2, partial(np.multiply, np.full(2, scale))),
    ):
        one, other = (
            CircuitModel(make(scale), real_amplitudes(2, 1), ClassGroups(2, 2))
            for scale in (1.0, 2.0)
        )
        x, w = numbers(one)
        y = engine.outputs(one, x, w)
        assert engine.program(one) is engine.program(other)
        assert np.abs(engine.outputs(other, x, w) - y).max() > 1e-2
        np.testing.assert_allclose(engine.outputs(other, x / 2, w), y, atol=1e-14)


def test_engines_can_be_pickled() -> None:
    engine = NoisyEngine(device("rates"))
    model = MODELS["amplitude"]
    x, w = numbers(model)
    y = engine.outputs(model, x, w)
    assert engine.name == "noisy rates x 1"
    other = pickle.loads(pickle.dumps(engine))
    np.testing.assert_allclose(other.outputs(model, x, w), y, atol=1e-14)
    assert other.programs.states.nbytes == engine.programs.states.nbytes


def test_one_word_moves_a_model_between_backends(monkeypatch) -> None:
    monkeypatch.delenv("QISKIT_KD_BACKENDS", raising=False)
    model = MODELS["amplitude"]
    x = torch.tensor(numbers(model)[0])
    values = {
        name: QuantumLayer(model, name, seed=3)(x) for name in ("exact", "noisy", "aer", "noisy")
    }
    torch.testing.assert_close(values["exact"], values["aer"], atol=1e-10, rtol=0)
    assert 1e-3 < (values["exact"] - values["noisy"]).abs().max() < 0.3
    layer = QuantumLayer(model, "noisy", seed=3)
    layer(x)[:, 0].sum().backward()
    assert layer.weight.grad.abs().max() > 1e-2
    layer.engine = load_backend("exact").engine()
    torch.testing.assert_close(layer(x), values["exact"], atol=1e-12, rtol=0)


@pytest.mark.slow
def test_noise_that_is_scaled_to_nothing_is_none() -> None:
    model = MODELS["amplitude"]
    x, w = numbers(model)
    exact = load_backend("exact").engine().outputs(model, x, w)
    far = []
    for scale in (0.0, 0.25, 1.0, 4.0):
        engine = NoisyEngine(device("torino", scale=scale))
        far.append(np.abs(engine.outputs(model, x, w) - exact).max())
    assert far[0] < 1e-13
    assert far == sorted(far)
    assert far[1] > 1e-3


def test_shots_of_a_noisy_device(tmp_path, monkeypatch) -> None:
    model = MODELS["amplitude"]
    x, w = numbers(model)
    backend = load_backend("noisy")
    exact = backend.engine().outputs(model, x, w)
    sampled = backend.engine(shots=4000, seed=1)
    assert (sampled.shots, sampled.gradient) == (4000, "spsa")
    y = sampled.outputs(model, x, w)
    assert (np.abs(y - exact) < 5 * np.sqrt(exact * (1 - exact) / 4000)).all()
    np.testing.assert_allclose(y * 4000, np.round(y * 4000), atol=1e-9)
    shifted = backend.engine(gradient="shift").vjp(model, x, w, WEIGHTS)
    own = backend.engine().vjp(model, x, w, WEIGHTS)
    np.testing.assert_allclose(shifted[0], own[0], atol=1e-12)


def test_values_alone_keep_nothing_for_a_gradient(monkeypatch) -> None:
    model = MODELS["amplitude"]
    engine = NoisyEngine(programs("rates"))
    x, w = numbers(model)
    seen = []
    original = engine_module.pull_back

    def watched(*arguments, **options):
        seen.append(original(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(engine_module, "pull_back", watched)
    y, pullback = engine.vjp(model, x, w, Needs(features=False, weights=False))
    assert pullback(y) == (None, None)
    expected, _ = engine.vjp(model, x, w, WEIGHTS)
    np.testing.assert_array_equal(y, expected)
    assert [bool(pulled._inputs) for pulled in seen] == [False, True]
    assert engine.usage.backward == 0


def test_small_products_run_on_one_thread(monkeypatch) -> None:
    model = MODELS["amplitude"]
    engine = NoisyEngine(programs("rates"))
    x, w = numbers(model)
    seen = []
    original = engine_module.pull_back

    def watched(*arguments, **options):
        seen.append(torch.get_num_threads())
        return original(*arguments, **options)

    monkeypatch.setattr(engine_module, "pull_back", watched)
    torch.set_num_threads(2)  # the fixture puts back what was there
    y, pullback = engine.vjp(model, x, w, WEIGHTS)
    pullback(y)
    assert seen == [1]
    assert torch.get_num_threads() == 2
    with pytest.raises(DataError):
        engine.vjp(model, 0 * x, w, WEIGHTS)
    assert torch.get_num_threads() == 2


def test_other_precisions_are_refused() -> None:
    model = MODELS["angle"]
    x, w = numbers(model)
    with pytest.raises(
        DataError,
        match=r"the noisy engine computes in single or double precision; got float16; expected "
        r"float32 or float64\. Convert the features first\.",
    ):
        NoisyEngine(programs("rates")).outputs(model, x.astype(np.float16), w)


def test_rows_that_cannot_be_encoded_are_named() -> None:
    model = MODELS["amplitude"]
    engine = NoisyEngine(programs("rates"))
    x, w = numbers(model, 4)
    engine.outputs(model, x[:2], w)
    x[3] = 0
    with pytest.raises(DataError, match=r"got a zero vector in row 3"):
        engine.outputs(model, x, w)


def test_features_without_derivative_are_refused() -> None:
    model = MODELS["mps"]
    engine = NoisyEngine(programs("rates"))
    x, w = numbers(model)
    message = "the encoding 'amplitude_mps' has no derivative with respect to the features"
    with pytest.raises(CircuitError, match=message):
        engine.vjp(model, x, w, BOTH)
    with pytest.raises(CircuitError, match=message):
        engine.torch_outputs(model, torch.tensor(x, requires_grad=True), torch.tensor(w))


def test_a_circuit_wider_than_the_device() -> None:
    model = CircuitModel(angle(3), real_amplitudes(3, 1), ClassGroups(2, 3))
    engine = NoisyEngine(ProgramCache(lambda _: device("rates", num_qubits=2)))
    with pytest.raises(
        CircuitError,
        match=r"a circuit is no wider than the device; got 3 qubits; expected at most the 2 of "
        r"'rates'\. Use fewer qubits or a larger device\.",
    ):
        engine.outputs(model, *numbers(model))


def test_memory_is_estimated_first(monkeypatch) -> None:
    model = CircuitModel(angle(16), real_amplitudes(16, 1), ClassGroups(2, 16))
    monkeypatch.setattr(memory, "available_bytes", lambda: 8 * 2**30)
    with pytest.raises(
        ResourceError,
        match=r"the noisy simulation of 16 qubits must fit into memory; got [\d,]+\.\d GiB needed; "
        r"expected at most the 8\.0 GiB available\. Use fewer qubits, float32, or shots with s",
    ):
        NoisyEngine(programs("rates")).outputs(model, *numbers(model))
    model = CircuitModel(angle(6), real_amplitudes(6, 1), ClassGroups(2, 6))
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**25)
    with pytest.raises(
        ResourceError,
        match=re.escape("the density matrices of 4,000 samples on 6 qubits must fit into memory"),
    ):
        NoisyEngine(programs("rates")).outputs(model, *numbers(model, 4000))
