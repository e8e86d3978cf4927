# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from fixed_images import SHAPE, fixed_images
from noisy_study import backends  # noqa: F401 (a fixture)
from torch import nn

from qiskit_kd.data import Split
from qiskit_kd.data.perturbations import noisy, rotated
from qiskit_kd.distill.metrics import kl, metrics
from qiskit_kd.errors import ConfigError, DataError
from qiskit_kd.execution.transpiling import circuit_facts
from qiskit_kd.experiment import evaluation
from qiskit_kd.experiment.devices import open_backend
from qiskit_kd.experiment.evaluation import Jury, feature_maps, judged, perturbed, robustness
from qiskit_kd.nn.images import convolution, quanvolution
from qiskit_kd.nn.students import fully_quantum, linear


@pytest.fixture
def split() -> Split:
    return fixed_images(seed=0)


@pytest.fixture
def network() -> nn.Module:
    return convolution(16, 3, seed=0, shape=SHAPE, dtype="float64")


def logits(network: nn.Module, features: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(features)).numpy()


def test_nothing_but_metrics_unless_asked(network: nn.Module, split: Split) -> None:
    found = judged(network, split, {})
    assert set(found) == {"validation", "test", "correct", "distribution", "extra"}
    expected = metrics(logits(network, split.test.features), split.test.labels)
    assert found["test"] == {
        name: expected[name] for name in ("accuracy", "macro_f1", "nll", "ece")
    }
    assert set(found["validation"]) == {"accuracy", "macro_f1", "nll"}


def test_large_sets_are_judged_in_pieces(
    network: nn.Module, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"robustness": {"noise": [0.1]}, "feature_maps": {"layer": "filters", "images": 5}}
    whole = judged(network, split, asked)
    sizes: list[int] = []
    network.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    monkeypatch.setattr(evaluation, "_CHUNK", 4)
    pieces = judged(network, split, asked)
    assert sizes == [4, 4, 4, 3, *[4, 4, 4, 4, 2] * 2, 5]
    assert pieces["feature_maps"] == whole["feature_maps"]
    for part in ("validation", "test"):
        assert pieces[part] == pytest.approx(whole[part], abs=1e-12)
    assert pieces["robustness"][0] == pytest.approx(whole["robustness"][0], abs=1e-12)


def test_robustness_is_the_metrics_on_disturbed_samples(network: nn.Module, split: Split) -> None:
    found = robustness(network, split.test, {"noise": [0.1, 0.5], "rotation": [20]})
    assert [(entry["kind"], entry["level"]) for entry in found] == [
        ("noise", 0.1), ("noise", 0.5), ("rotation", 20),
    ]  # fmt: skip
    features, labels = split.test.features, split.test.labels
    for entry, disturbed in zip(
        found,
        [noisy(features, 0.1, shape=SHAPE, seed=0), noisy(features, 0.5, shape=SHAPE, seed=0),
         rotated(features, 20.0, shape=SHAPE, seed=0)],
        strict=True,
    ):  # fmt: skip
        expected = metrics(logits(network, disturbed), labels)
        for name in ("accuracy", "macro_f1", "nll"):
            assert entry[name] == pytest.approx(expected[name], abs=1e-12)
        assert set(entry) == {"kind", "level", "accuracy", "macro_f1", "nll"}


def test_every_network_sees_the_same_disturbed_samples(split: Split) -> None:
    one = perturbed(split.test, "noise", 0.3, torch.float32)
    assert perturbed(fixed_images(seed=5).test, "noise", 0.3, torch.float32) is one
    assert one.dtype == torch.float32
    assert not torch.equal(one, perturbed(split.test, "noise", 0.4, torch.float32))


def test_rows_cannot_be_rotated(network: nn.Module, split: Split) -> None:
    rows = replace(split.test, shape=None)
    with pytest.raises(DataError, match="only images can be rotated"):
        robustness(network, rows, {"rotation": [10.0]})


def test_feature_maps_of_one_image_per_class_in_turn(network: nn.Module, split: Split) -> None:
    labels = np.array([2, 2, 0, 1, 1, 0, 2, 0])
    test = replace(split.test, features=split.test.features[:8], labels=labels)
    found = feature_maps(network, test, layer="filters", images=5)
    assert found is not None
    assert found["rows"] == [2, 3, 0, 5, 4]
    assert np.shape(found["images"]) == (5, *SHAPE)
    assert np.shape(found["maps"]) == (5, 3, 2, 2)
    images = torch.from_numpy(test.features[found["rows"]])
    with torch.no_grad():
        maps = network.filters(images.reshape(-1, *SHAPE)).numpy()
    assert np.abs(np.array(found["maps"]) - maps).max() <= 0.5e-4 + 1e-12
    assert np.abs(np.array(found["images"]).reshape(5, -1) - images.numpy()).max() <= 0.5e-4 + 1e-12
    assert all(round(value, 4) == value for value in np.ravel(found["maps"]).tolist())


def test_a_network_without_the_layer_has_no_feature_maps(network: nn.Module, split: Split) -> None:
    assert feature_maps(network, split.test, layer="absent", images=2) is None
    assert "feature_maps" not in judged(
        network, split, {"feature_maps": {"layer": "absent", "images": 2}}
    )


# With a jury: other backends, shots, a teacher.

ENTRIES = {name: {"name": name, "kind": name[:5]} for name in ("exact", "noisy", "lagos", "aer")}


@pytest.fixture
def rows() -> Split:
    """Two features: what the circuit of two qubits reads by angles."""
    whole = fixed_images(seed=0)
    parts = {
        name: replace(getattr(whole, name), features=getattr(whole, name).features[:, :2],
                      shape=None)
        for name in ("train", "validation", "test", "pool")
    }  # fmt: skip
    return Split(parts["train"], parts["validation"], parts["test"], pool=parts["pool"])


def circuit(backend: Any = "exact", **options: Any) -> nn.Module:
    return fully_quantum(
        2, 3, seed=0, backend=backend, encoding="angle", num_qubits=2, layers=1, dtype="float64",
        **options,
    )  # fmt: skip


class Moves:
    """Moves circuits between backends, as a task does, and remembers where to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int | None]] = []

    def __call__(self, entry: Mapping[str, Any], shots: int | None) -> nn.Module:
        self.asked.append((entry["name"], shots))
        return circuit(open_backend(entry, shots=shots))

    def jury(self, home: str = "noisy", teacher: nn.Module | None = None) -> Jury:
        return Jury(ENTRIES[home], self, teacher)


def merits(network: nn.Module, split: Split, part: str = "test") -> dict[str, float]:
    data = getattr(split, part)
    return metrics(logits(network, data.features), data.labels)


@pytest.mark.usefixtures("backends")
def test_judged_where_it_is_asked_to_be(rows: Split) -> None:
    moves = Moves()
    found = judged(circuit(), rows, {"backend": ENTRIES["noisy"]}, moves.jury())
    assert moves.asked == [("noisy", None)]
    there, here = circuit("noisy"), circuit()
    for part in ("validation", "test"):
        expected = merits(there, rows, part)
        assert found[part] == {name: expected[name] for name in found[part]}
        assert found[part]["nll"] != pytest.approx(merits(here, rows, part)["nll"], abs=1e-4)
    assert found["circuits"][0]["device"] == "rates"
    shares = np.exp(logits(there, rows.test.features))
    for label, share in enumerate(found["distribution"]):
        np.testing.assert_allclose(share, shares[rows.test.labels == label].mean(0), atol=1e-9)
    disturbed = judged(
        circuit(), rows, {"backend": ENTRIES["noisy"], "robustness": {"noise": [0.1]}}, moves.jury()
    )["robustness"]
    assert disturbed == robustness(there, rows.test, {"noise": [0.1]})


@pytest.mark.usefixtures("backends")
def test_circuits_as_they_run_on_the_device(rows: Split) -> None:
    assert "circuits" not in judged(circuit(), rows, {})  # no device, no circuit of it
    assert "circuits" not in judged(circuit("aer"), rows, {})
    for sampled in ({}, {"shots": 10}):
        network = circuit("noisy", **sampled)
        (found,) = judged(network, rows, {})["circuits"]
        engine = circuit("noisy").circuit.engine
        native, device = engine.program(network.circuit.model).native, engine.programs.device(2)
        assert found == asdict(circuit_facts(native.circuit, device.target, device="rates"))
        assert found["qubits"] == 2
        assert found["two_qubit_gates"] >= 1


@pytest.mark.usefixtures("backends")
def test_circuits_of_images(split: Split) -> None:
    network = quanvolution(16, 3, seed=0, shape=SHAPE, backend="lagos")
    (found,) = judged(network, split, {})["circuits"]
    assert (found["device"], found["qubits"]) == ("fake_lagos", 4)


@pytest.mark.usefixtures("backends")
def test_a_teacher_adds_its_divergence_everywhere(rows: Split) -> None:
    teacher = linear(2, 3, seed=0, dtype="float64")
    asked = {
        "backend": ENTRIES["noisy"], "shots": [50],
        "side_by_side": {"backends": [ENTRIES["exact"]]},
    }  # fmt: skip
    found = judged(circuit(), rows, asked, Moves().jury(teacher=teacher))
    for part in ("validation", "test"):
        features = getattr(rows, part).features
        expected = kl(logits(teacher, features), logits(circuit("noisy"), features))
        assert found[part]["kl"] == pytest.approx(expected, abs=1e-12)
    features = rows.test.features
    exact = kl(logits(teacher, features), logits(circuit(), features))
    assert found["backends"][0]["kl"] == pytest.approx(exact, abs=1e-12)
    assert exact != pytest.approx(found["test"]["kl"], abs=1e-4)
    assert found["shots"][0]["kl"] == pytest.approx(found["test"]["kl"], abs=0.5)
    without = judged(circuit(), rows, asked, Moves().jury())
    for merit in (without["test"], without["validation"], *without["shots"], *without["backends"]):
        assert "kl" not in merit
    own = judged(circuit(), rows, {}, Moves().jury("exact", circuit()))
    assert own["test"]["kl"] == pytest.approx(0, abs=1e-12)


@pytest.mark.usefixtures("backends")
@pytest.mark.parametrize("home", ["exact", "noisy"])
def test_shots_are_taken_where_it_was_judged(rows: Split, home: str) -> None:
    moves = Moves()
    found = judged(circuit(home), rows, {"shots": [2, 20_000]}, moves.jury(home))["shots"]
    assert moves.asked == [(home, 2), (home, 20_000)]
    assert [set(entry) for entry in found] == [{"shots", "accuracy", "macro_f1", "nll"}] * 2
    assert [entry["shots"] for entry in found] == [2, 20_000]
    exact = merits(circuit(home), rows)["nll"]
    few, many = (abs(entry["nll"] - exact) for entry in found)
    assert many < 0.02
    assert few > 5 * many
    other = merits(circuit("noisy" if home == "exact" else "exact"), rows)["nll"]
    assert abs(other - exact) > 2 * many  # it would be seen


@pytest.mark.usefixtures("backends")
def test_side_by_side(rows: Split) -> None:
    moves = Moves()
    names = ["exact", "aer", "noisy", "lagos"]
    beside = {"backends": [ENTRIES[name] for name in names], "samples": 5}
    asked = {"backend": ENTRIES["noisy"], "side_by_side": beside}
    found = judged(circuit(), rows, asked, moves.jury())["backends"]
    assert moves.asked == [(name, None) for name in ("noisy", "exact", "aer", "lagos")]
    assert [(entry["backend"], entry["kind"], entry["samples"]) for entry in found] == [
        (name, name[:5], 5) for name in names
    ]
    # The first samples, one per class in turn.
    labels = rows.test.labels
    chosen = [np.flatnonzero(labels == k % 3)[k // 3] for k in range(5)]
    here = np.exp(logits(circuit("noisy"), rows.test.features[chosen]))
    for entry in found:
        there = logits(circuit(entry["backend"]), rows.test.features[chosen])
        expected = metrics(there, labels[chosen])
        for name in ("accuracy", "macro_f1", "nll"):
            assert entry[name] == pytest.approx(expected[name], abs=1e-9)
        distance = np.abs(np.exp(there) - here).sum(1).mean() / 2
        assert entry["distance"] == pytest.approx(distance, abs=1e-9)
        assert entry["shots"] is None
    exact, aer, noisy, lagos = (entry["distance"] for entry in found)
    assert noisy == 0
    assert exact == pytest.approx(aer, abs=1e-9)
    assert min(exact, lagos) > 1e-3
    every = judged(circuit("noisy"), rows, {"side_by_side": {"backends": [ENTRIES["exact"]]}},
                   moves.jury("noisy"))["backends"]  # fmt: skip
    assert every[0]["samples"] == len(rows.test)
    assert every[0]["nll"] == pytest.approx(merits(circuit(), rows)["nll"], abs=1e-12)


@pytest.mark.usefixtures("backends")
def test_distances_are_of_the_circuits_own_probabilities(rows: Split) -> None:
    """However sharp the logits are: what is sharpened tells of the student, not of the device."""

    def sharp(entry: Mapping[str, Any], _: int | None) -> nn.Module:
        return circuit(entry["name"], initial_sharpness=9.0)

    asked = {"side_by_side": {"backends": [ENTRIES["noisy"]]}}
    (found,) = judged(circuit(initial_sharpness=9.0), rows, asked,
                      Jury(ENTRIES["exact"], sharp))["backends"]  # fmt: skip
    (plain,) = judged(circuit(), rows, asked, Moves().jury("exact"))["backends"]
    assert found["distance"] == pytest.approx(plain["distance"], abs=1e-12)
    assert found["nll"] != pytest.approx(plain["nll"], abs=1e-3)


@pytest.mark.usefixtures("backends")
def test_shots_of_an_entry_are_those_of_the_circuits(rows: Split) -> None:
    def own(entry: Mapping[str, Any], _: int | None) -> nn.Module:
        return circuit(entry["name"], shots=17)

    asked = {"side_by_side": {"backends": [ENTRIES["exact"]]}}
    found = judged(circuit(), rows, asked, Jury(ENTRIES["noisy"], own))["backends"]
    assert found[0]["shots"] == 17


@pytest.mark.usefixtures("backends")
def test_where_it_was_judged_nothing_is_run_again(rows: Split) -> None:
    """On a device it would cost as much once more, and give other shots."""
    moves = Moves()
    home = {"name": "exact", "kind": "exact", "base": "exact", "settings": {"shots": 20}}
    asked = {"side_by_side": {"backends": [home, ENTRIES["noisy"]], "samples": 6}}
    jury = Jury(home, moves)
    row = judged(circuit(shots=20), rows, asked, jury)
    assert moves.asked == [("noisy", None)]
    here, there = row["backends"]
    assert (here["distance"], here["shots"]) == (0, 20)
    assert there["distance"] > 0
    every = judged(circuit(shots=20), rows, {"side_by_side": {"backends": [home]}}, jury)
    merits = {name: every["test"][name] for name in ("accuracy", "macro_f1", "nll")}
    assert {name: every["backends"][0][name] for name in merits} == merits


@pytest.mark.parametrize(
    "asked",
    [{"backend": {"name": "exact"}}, {"shots": [3]},
     {"side_by_side": {"backends": [{"name": "exact"}]}}],
)  # fmt: skip
def test_other_backends_need_a_jury(network: nn.Module, split: Split, asked: dict) -> None:
    with pytest.raises(
        ConfigError, match=r"other backends and shots need to know how a network is moved; got no "
        r"jury; expected Jury\(\.\.\.\)",
    ):  # fmt: skip
        judged(network, split, asked)
