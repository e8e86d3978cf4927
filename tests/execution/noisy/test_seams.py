# SPDX-License-Identifier: Apache-2.0
"""Circuits in which data and weights interleave: sampled engines follow the exact engine's law.

They run a model as several circuits of their own making. Were those placed or simplified in
another way than the model itself, their noise would be that of another circuit.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import Operator

from qiskit_kd.circuits.ansatze import hardware_efficient, real_amplitudes
from qiskit_kd.circuits.encodings import amplitude, angle, reuploading
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups, Observables
from qiskit_kd.execution import sampled
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.noisy import NoisyEngine
from qiskit_kd.execution.noisy.isa import to_isa
from qiskit_kd.execution.noisy.program_cache import ProgramCache
from tests.execution.engines import exact_shots, noisy_shots

from .conftest import device, programs

pytestmark = pytest.mark.filterwarnings("ignore:data and weights interleave")


def crossed() -> QuantumCircuit:
    """Every qubit with every other: on a device, some of them have to be swapped."""
    circuit = QuantumCircuit(4)
    for k, (a, b) in enumerate([(0, 2), (1, 3), (0, 3), (0, 1), (2, 1), (3, 2)]):
        circuit.ry(Parameter(f"w{k}"), a)
        circuit.cx(a, b)
    return circuit


STRINGS = {2: ["XX", "YZ", "ZI", "XI"], 3: ["XXI", "ZYX", "IZZ", "YIY"]}
MODELS = {
    "two": CircuitModel(reuploading(2, 2), real_amplitudes(2, 1), Observables(STRINGS[2])),
    "three": CircuitModel(reuploading(3, 2), hardware_efficient(3, 1), Observables(STRINGS[3])),
    "thrice": CircuitModel(reuploading(2, 3), hardware_efficient(2, 1), Observables(STRINGS[2])),
    "one layer": CircuitModel(angle(3), hardware_efficient(3, 1), Observables(STRINGS[3])),
    "groups": CircuitModel(reuploading(3, 2), hardware_efficient(3, 1), ClassGroups(3, 3)),
    "routed": CircuitModel(angle(4), crossed(), Observables(["XXII", "IZYX", "ZIIZ"])),
    "routed groups": CircuitModel(amplitude(4), crossed(), ClassGroups(3, 4)),
}
BOTH = Needs(features=True, weights=True)


@cache
def shop(source: str, *, idle: bool = False, readout: bool = True) -> ProgramCache:
    """One for all tests of the same settings: programs take most of the time."""
    return programs(source, idle=idle, readout=readout)


class Expected:
    """A generator whose draws are their expectation."""

    def multinomial(self, count: int, p: np.ndarray) -> np.ndarray:
        return count * p


def numbers(model: CircuitModel, batch: int = 2, seed: int = 0):
    rng = np.random.default_rng(seed)
    return 0.7 * rng.normal(size=(batch, model.num_features)), rng.normal(size=model.num_weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "source", "idle"),
    [("two", "torino", False), ("three", "marrakesh", True), ("thrice", "marrakesh", False),
     ("one layer", "rates", False), ("groups", "torino", False), ("routed", "marrakesh", True),
     ("routed groups", "torino", False)],
)  # fmt: skip
def test_the_law_is_that_of_the_exact_engine(name, source, idle, monkeypatch) -> None:
    model = MODELS[name]
    x, w = numbers(model)
    noisy = NoisyEngine(shop(source, idle=idle))
    expected = noisy.outputs(model, x, w)
    shifted = exact_shots(noisy, shots=None, seed=0)
    np.testing.assert_allclose(shifted.outputs(model, x, w), expected, atol=1e-10)
    monkeypatch.setattr(sampled, "stream", lambda *_: Expected())
    for engine in (
        exact_shots(noisy, shots=100, seed=0),
        noisy_shots(noisy, shots=100, mitigation="none", seed=0),
    ):
        np.testing.assert_allclose(engine.outputs(model, x, w), expected, atol=1e-10)
    silent = NoisyEngine(shop(source, idle=idle, readout=False)).outputs(model, x, w)
    engine = noisy_shots(noisy, shots=2000, mitigation="tensored", seed=0)
    mitigated, raw = engine.outputs_with_raw(model, x, w)
    np.testing.assert_allclose(raw, expected, atol=1e-10)
    np.testing.assert_allclose(mitigated, silent, atol=1e-10)
    assert np.abs(silent - expected).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["groups", "one layer"])
def test_shifted_circuits_follow_it_too(name) -> None:
    """Gradients by shifting angles equal the exact engine's own."""
    model = MODELS[name]
    x, w = numbers(model)
    noisy = NoisyEngine(shop("torino"))
    c = np.random.default_rng(1).normal(size=(2, model.num_outputs))
    gx, gw = exact_shots(noisy, shots=None, gradient="shift", seed=0).vjp(model, x, w, BOTH)[1](c)
    ex, ew = noisy.vjp(model, x, w, BOTH)[1](c)
    np.testing.assert_allclose(gw, ew, atol=1e-9)
    np.testing.assert_allclose(gx, ex, atol=1e-9)


def test_it_would_not_without_seams_and_placement(monkeypatch) -> None:
    """What the tests above would see, if either were missing."""

    def gap(name: str) -> float:
        model = replace(MODELS[name])  # one that nobody has run
        x, w = numbers(model)
        noisy = NoisyEngine(programs("marrakesh"))
        found = exact_shots(noisy, shots=None, seed=0).outputs(model, x, w)
        return float(np.abs(found - noisy.outputs(model, x, w)).max())

    with monkeypatch.context() as patch:
        patch.setattr(ProgramCache, "place", lambda *_, **__: None)
        assert gap("one layer") > 1e-6
    with monkeypatch.context() as patch:
        patch.setattr(Expansion, "circuit_with_seams", property(lambda self: self.circuit))
        assert gap("three") > 1e-6


@pytest.mark.parametrize("name", ["two", "groups"])
def test_aer_agrees(name) -> None:
    model, shots = MODELS[name], 50_000
    x, w = numbers(model, 1)
    noisy = NoisyEngine(shop("torino"))
    engine = noisy_shots(noisy, shots=shots, mitigation="none", sampled_by="qiskit_aer", seed=4)
    expected = noisy.outputs(model, x, w)
    variance = expected * (1 - expected) if name == "groups" else 1 - expected**2
    assert (np.abs(engine.outputs(model, x, w) - expected) < 5 * np.sqrt(variance / shots)).all()


@pytest.mark.slow
@pytest.mark.parametrize("sampled_by", ["probabilities", "qiskit_aer"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))],
                         ids=["deepcopy", "pickle"])  # fmt: skip
def test_placement_survives_copies(sampled_by, copied) -> None:
    model = MODELS["three"]
    x, w = numbers(model, 1)
    # A lambda, as tests open devices, cannot be pickled.
    noisy = NoisyEngine(device("torino", num_qubits=3))
    engine = noisy_shots(noisy, shots=3000, sampled_by=sampled_by, mitigation="none", seed=4)
    first = engine.outputs(model, x, w)
    other = copied(engine)
    engine.seek({"steps": 0, "drawn": 0})
    other.seek({"steps": 0, "drawn": 0})
    np.testing.assert_array_equal(other.outputs(model, x, w), first)
    np.testing.assert_array_equal(engine.outputs(model, x, w), first)
    exact = copied(exact_shots(noisy, shots=None, seed=0))
    for twice in (exact, copied(exact)):
        np.testing.assert_allclose(
            twice.outputs(model, x, w), noisy.outputs(model, x, w), atol=1e-10
        )


def test_a_model_and_its_stand_in_begin_on_the_same_qubits() -> None:
    model = MODELS["three"]
    bench = programs("torino")
    first = bench.program(model).native.first
    twin = replace(model, readout=ClassGroups(8, 3))
    bench.place_as(twin, model)  # nothing is placed yet
    assert twin not in bench._originals
    bench.place(twin, like=model)
    assert bench.native(twin).first == first
    assert len(set(first)) == 3
    third = replace(model, readout=ClassGroups(2, 3))
    bench.place_as(third, twin)
    assert bench.native(third).first == first
    away = [q for q in range(20, 60) if q not in first]
    elsewhere = replace(model, readout=ClassGroups(4, 3))
    moved = to_isa(elsewhere, device("torino"), optimization_level=3, seed=0, idle=False,
                      qubits=away[:3])  # fmt: skip
    assert moved.first == tuple(away[:3])
    assert set(moved.first) <= set(moved.active)


@pytest.mark.parametrize("name", MODELS)
def test_seams_change_nothing_but_what_may_be_simplified(name) -> None:
    expansion = Expansion(MODELS[name])
    plain, seamed = expansion.circuit, expansion.circuit_with_seams
    barriers = seamed.count_ops().get("barrier", 0) - plain.count_ops().get("barrier", 0)
    assert barriers == 2 * expansion.layers - 1
    assert [p.name for p in seamed.parameters] == [p.name for p in plain.parameters]
    values = np.random.default_rng(0).normal(size=plain.num_parameters)
    assert Operator(seamed.assign_parameters(values)) == Operator(plain.assign_parameters(values))
