# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixed_images import SHAPE, fixed_images
from torch import nn

from qiskit_kd.data import Split
from qiskit_kd.data.perturbations import noisy, rotated
from qiskit_kd.distill.metrics import metrics
from qiskit_kd.errors import DataError
from qiskit_kd.experiment import evaluation
from qiskit_kd.experiment.evaluation import feature_maps, judged, perturbed, robustness
from qiskit_kd.nn.images import convolution


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
    assert set(found) == {"validation", "test", "distribution", "extra"}
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
