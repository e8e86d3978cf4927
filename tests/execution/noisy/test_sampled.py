# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
from qiskit_aer import AerSimulator

from qiskit_kd import QuantumLayer
from qiskit_kd.circuits.ansatze import hardware_efficient, real_amplitudes
from qiskit_kd.circuits.encodings import amplitude, angle, reuploading
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups, Observables
from qiskit_kd.errors import ConfigError, ExecutionError, ResourceError, UnknownNameError
from qiskit_kd.execution import memory
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.mitigation import mitigate
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.noisy import NoisyEngine, primitives
from qiskit_kd.execution.noisy.sampled import SAMPLED_BY
from qiskit_kd.execution.sampled import Block, SampledEngine
from tests.execution.engines import exact_shots, noisy_shots

from .conftest import device, programs

BOTH = Needs(features=True, weights=True)
MODELS = {
    "amplitude": CircuitModel(amplitude(3), hardware_efficient(3, 1), ClassGroups(3, 3)),
    "one of two": CircuitModel(angle(2), real_amplitudes(2, 1), ClassGroups(2, 2, qubits=(1,))),
    "observables": CircuitModel(
        angle(3), hardware_efficient(3, 1), Observables(["ZIX", "YYI", "IIZ", "III"])
    ),
    "reuploading": CircuitModel(reuploading(2, 2), real_amplitudes(2, 1), ClassGroups(2, 2)),
}
pytestmark = pytest.mark.filterwarnings("ignore:data and weights interleave")


def numbers(model: CircuitModel, batch: int = 2, seed: int = 0):
    rng = np.random.default_rng(seed)
    return 0.5 * rng.normal(size=(batch, model.num_features)), 0.5 * rng.normal(
        size=model.num_weights
    )


def deviation(values: np.ndarray, model: CircuitModel, shots: int) -> np.ndarray:
    """Standard errors of shares, or of means of Pauli strings, that have these exact values."""
    if isinstance(model.readout, ClassGroups):
        return np.sqrt(values * (1 - values) / shots)
    return np.sqrt(np.clip(1 - values**2, 0, None) / shots)


@pytest.mark.slow
@pytest.mark.parametrize("sampled_by", SAMPLED_BY)
@pytest.mark.parametrize(
    ("source", "idle", "name"),
    [*(("torino", True, name) for name in MODELS), ("rates", False, "amplitude")],
)
def test_shots_agree_with_the_noisy_engine(source, idle, sampled_by, name) -> None:
    model, shots = MODELS[name], 200_000
    x, w = numbers(model)
    noisy = NoisyEngine(programs(source, idle=idle))
    sampled = noisy_shots(noisy, shots=shots, sampled_by=sampled_by, seed=1)
    mitigated, raw = sampled.outputs_with_raw(model, x, w)
    assert mitigated.shape == raw.shape == (2, model.num_outputs)
    read = noisy.outputs(model, x, w)
    there = NoisyEngine(programs(source, readout=False, idle=idle)).outputs(model, x, w)
    assert (np.abs(raw - read) <= 5 * deviation(read, model, shots) + 1e-12).all()
    # The inverse amplifies noise by 1 / (1 - a - b) per qubit, here at most 1.1 each.
    assert (np.abs(mitigated - there) <= 5 * 1.1**3 * deviation(there, model, shots) + 1e-12).all()
    # It would be seen if either were the other.
    assert (np.abs(raw - there) > 5 * 1.1**3 * deviation(there, model, shots)).any()


@pytest.mark.parametrize("source", ["torino", "marrakesh", "rates"])
def test_mitigation_is_exact_on_exact_probabilities(source) -> None:
    model = CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(8, 3))
    x, w = numbers(model, 4)
    noisy = NoisyEngine(programs(source))
    there = NoisyEngine(programs(source, readout=False)).outputs(model, x, w)
    final, here = noisy.program(model).native.final, noisy.programs.device(3)
    assignments = [here.assignment(q) for q in final]
    read = noisy.outputs(model, x, w)
    assert np.abs(read - there).max() > 1e-3
    np.testing.assert_allclose(mitigate(read, assignments), there, atol=1e-12)


def test_only_active_qubits_are_simulated_and_noise_is_made_once(monkeypatch) -> None:
    model = MODELS["one of two"]
    made, runs = [], []
    noise_model, run = DeviceNoise.noise_model, AerSimulator.run

    def counted(self, circuit, qubits):
        made.append((circuit.num_qubits, tuple(qubits)))
        return noise_model(self, circuit, qubits)

    def watched(self, circuits, *arguments, **options):
        runs.append((self.options.method, [c.num_qubits for c in circuits]))
        return run(self, circuits, *arguments, **options)

    monkeypatch.setattr(DeviceNoise, "noise_model", counted)
    monkeypatch.setattr(AerSimulator, "run", watched)
    noisy = NoisyEngine(programs("torino"))
    engine = noisy_shots(noisy, shots=20, mitigation="none", sampled_by="qiskit_aer", seed=1)
    assert noisy.programs.device(2).num_qubits == 133
    x, w = numbers(model, 5)
    for step in (1, 2):  # SPSA: forward rows and both sides of four directions in one job
        engine.vjp(model, x, w, Needs(features=False, weights=True))
        assert runs == [("density_matrix", [2])] * step
        assert engine.usage.jobs == step
        assert engine.usage.executions == 5 * 9 * 20 * step
    assert [width for width, _ in made] == [2]


def test_trajectories_of_wide_circuits(monkeypatch) -> None:
    assert primitives.aer_method(10) == "density_matrix"
    assert primitives.aer_method(11) == "statevector"
    monkeypatch.setattr(primitives, "_DENSITY_QUBITS", 1)
    model, shots = MODELS["one of two"], 4000
    x, w = numbers(model)
    noisy = NoisyEngine(programs("rates"))
    engine = noisy_shots(noisy, shots=shots, mitigation="none", sampled_by="qiskit_aer", seed=1)
    p = noisy.outputs(model, x, w)
    assert (np.abs(engine.outputs(model, x, w) - p) < 5 * deviation(p, model, shots)).all()


def test_aer_goes_where_density_matrices_do_not_fit(monkeypatch) -> None:
    model = MODELS["amplitude"]
    noisy = NoisyEngine(programs("rates"))
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    monkeypatch.setattr(memory, "_NEGLIGIBLE", 2**14)
    with pytest.raises(
        ResourceError, match=r"the noisy simulation of 3 qubits.*sampled_by: qiskit_aer\."
    ):
        noisy.outputs(model, *numbers(model))
    engine = noisy_shots(noisy, shots=2000, sampled_by="qiskit_aer", seed=1)
    np.testing.assert_allclose(engine.outputs(model, *numbers(model)).sum(1), 1, atol=1e-12)
    with pytest.raises(
        ResourceError, match=r"the shots of 200 circuits by 8 outcomes must fit into memory.*Use a "
        r"smaller batch, or read fewer qubits\.",
    ):  # fmt: skip
        engine.outputs(model, *numbers(model, 200))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampled_by", "name"),
    [("probabilities", "one of two"), ("probabilities", "observables"),
     ("probabilities", "reuploading"), ("qiskit_aer", "one of two")],
)  # fmt: skip
def test_shifted_inputs_and_weights(sampled_by, name) -> None:
    model, shots = MODELS[name], 200_000
    x, w = numbers(model, 1)
    noisy = NoisyEngine(programs("rates", readout=sampled_by == "probabilities"))
    silent = NoisyEngine(programs("rates", readout=False))
    engine = noisy_shots(
        noisy, shots=shots, sampled_by=sampled_by, gradient="shift", seed=1,
        mitigation="tensored" if sampled_by == "probabilities" else "none",
    )  # fmt: skip
    c = np.ones((1, model.num_outputs)) * np.arange(1, model.num_outputs + 1)
    gx, gw = engine.vjp(model, x, w, BOTH)[1](c)
    fx, fw = silent.vjp(model, x, w, BOTH)[1](c)
    # Half differences of means of deviation 1 at most, of up to four occurrences.
    most = 5 * np.linalg.norm(c) * np.sqrt(4 * 2 / shots) / 2
    assert np.abs(fw).max() > 3 * most
    np.testing.assert_allclose(gw, fw, atol=most)
    np.testing.assert_allclose(gx, fx, atol=most)


def test_raw_values_of_every_block() -> None:
    model = MODELS["observables"]
    expansion = Expansion(model)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 3))
    inputs = expansion.input_slots(np.asarray(model.encoding.angles(x)))
    weights = expansion.weight_slots(rng.normal(size=(2, model.num_weights)))
    blocks = [Block(inputs, weights, x), Block(inputs[:3] + 1, weights[:1])]
    noisy = NoisyEngine(programs("rates"))
    engine = noisy_shots(noisy, shots=50, mitigation="none", sampled_by="qiskit_aer", seed=1)
    values = engine.evaluate(expansion, blocks)
    assert [v.shape for v in values] == [(2, 4, 4), (1, 3, 4)]
    for value, raw in zip(values, engine._raw, strict=True):
        np.testing.assert_allclose(value, raw, atol=1e-14)
    engine = noisy_shots(noisy, shots=2000, seed=1)
    values = engine.evaluate(expansion, blocks)
    for value, raw in zip(values, engine._raw, strict=True):
        assert value.shape == raw.shape
        assert 1e-3 < np.abs(value - raw).max() < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("sampled_by", SAMPLED_BY)
def test_seeds_and_copies(sampled_by) -> None:
    model = MODELS["amplitude"]
    x, w = numbers(model)

    def engine(seed: int) -> SampledEngine:
        return noisy_shots(NoisyEngine(device("rates", num_qubits=3)), shots=2000,
                                sampled_by=sampled_by, seed=seed)  # fmt: skip

    one = engine(3)
    first, second = one.outputs(model, x, w), one.outputs(model, x, w)
    assert np.abs(first - second).max() > 0  # jobs have shots of their own
    assert np.abs(first - engine(4).outputs(model, x, w)).max() > 0
    for other in (engine(3), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        other.seek({"steps": 0, "drawn": 0})
        np.testing.assert_array_equal(other.outputs(model, x, w), first)
        np.testing.assert_array_equal(other.outputs(model, x, w), second)


def test_mitigated_outputs_are_distributions_in_the_callers_precision() -> None:
    model = MODELS["amplitude"]
    x, w = numbers(model, 6)
    w = np.stack([w, w + 1])
    engine = noisy_shots(NoisyEngine(programs("rates")), shots=1000, seed=0)
    y, raw = engine.outputs_with_raw(model, x.astype(np.float32), w)
    assert y.dtype == raw.dtype == np.float32
    assert y.shape == raw.shape == (2, 6, 3)
    assert (y >= 0).all()
    np.testing.assert_allclose(y.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(raw * 1000, np.round(raw * 1000), atol=1e-3)
    y, raw = engine.outputs_with_raw(model, x[:0], w[0])
    assert y.shape == raw.shape == (0, 3)


def test_layers_train_on_mitigated_shots() -> None:
    import torch

    model = MODELS["amplitude"]
    engine = noisy_shots(NoisyEngine(programs("rates")), shots=1000, seed=0)
    layer = QuantumLayer(model, engine, seed=1)
    layer(torch.tensor(numbers(model, 4)[0], dtype=torch.float32))[:, 0].sum().backward()
    assert layer.weight.grad.abs().max() > 0


def test_without_mitigation_the_law_is_that_of_exact_shots() -> None:
    """Why the short way is the default: means and covariances of many jobs, side by side."""
    model, shots, runs = MODELS["amplitude"], 100, 4000
    x, w = numbers(model, 1)
    x = np.repeat(x, runs, 0)
    noisy = NoisyEngine(programs("rates"))
    p = noisy.outputs(model, x[:1], w)[0]
    exact = (np.diag(p) - np.outer(p, p)) / shots
    short = exact_shots(noisy, shots=shots, seed=1)
    aer = noisy_shots(noisy, shots=shots, mitigation="none", sampled_by="qiskit_aer", seed=1)
    for engine, rows in ((short, x), (aer, x[:400])):
        y = engine.outputs(model, rows, w)
        assert (np.abs(y.mean(0) - p) < 5 * np.sqrt(np.diag(exact) / len(rows))).all()
        # A covariance of n samples has a relative standard error of about sqrt(2 / n).
        np.testing.assert_allclose(
            np.cov(y.T), exact, atol=5 * np.sqrt(2 / len(rows)) * exact.max()
        )


def test_failures_of_aer_are_told(monkeypatch) -> None:
    model = MODELS["one of two"]
    engine = noisy_shots(NoisyEngine(programs("rates")), shots=9, mitigation="none",
                              sampled_by="qiskit_aer", seed=0)  # fmt: skip

    class Failed:
        success, status = False, "ERROR: out of luck"

        def result(self):
            return self

    monkeypatch.setattr(AerSimulator, "run", lambda *_, **__: Failed())
    with pytest.raises(ExecutionError, match=r"Aer failed; got ERROR: out of luck"):
        engine.outputs(model, *numbers(model))


def test_what_cannot_be_mitigated() -> None:
    noisy = NoisyEngine(programs("rates"))
    for options, what in (
        ({}, "readout mitigation corrects"),
        ({"mitigation": "none", "sampled_by": "qiskit_aer"}, "Aer draws"),
    ):
        with pytest.raises(
            ConfigError, match=what + r" shots of a device; got no shots; expected a number of "
            r"shots\. Set shots, or leave mitigation and sampled_by out for exact values\.",
        ):  # fmt: skip
            noisy_shots(noisy, shots=None, **options)
    with pytest.raises(UnknownNameError, match=r"unknown readout mitigation; got 'tensor'\. did you"
                       " mean 'tensored'"):  # fmt: skip
        noisy_shots(noisy, shots=2000, mitigation="tensor")
    with pytest.raises(
        UnknownNameError, match=r"unknown source of shots; got 'qiskit-aer'\. did you mean "
        r"'qiskit_aer'\? known: probabilities, qiskit_aer",
    ):  # fmt: skip
        noisy_shots(noisy, shots=2000, sampled_by="qiskit-aer")
    with pytest.raises(
        ConfigError,
        match=r"readout mitigation undoes readout errors; got 'rates', whose measurements do not "
        r"err; expected a device with readout errors\. Use mitigation: none, or leave readout: "
        r"false out\.",
    ):
        noisy_shots(NoisyEngine(programs("rates", readout=False)), shots=2000)
    with pytest.warns(UserWarning, match="readout mitigation amplifies shot noise, and 64 shots"):
        noisy_shots(noisy, shots=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noisy_shots(noisy, shots=64, mitigation="none")


def test_a_perfect_device_has_nothing_to_undo() -> None:
    model = MODELS["amplitude"]
    engine = noisy_shots(NoisyEngine(device("torino", scale=0)), shots=2000, seed=0)
    y, raw = engine.outputs_with_raw(model, *numbers(model))
    np.testing.assert_allclose(y, raw, atol=1e-14)
