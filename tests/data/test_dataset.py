# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qiskit_kd.data import Dataset, Split, dataset
from qiskit_kd.errors import DataError

Array = NDArray[Any]


def samples(count: int = 60, classes: int = 3, features: int = 4) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    return random.normal(size=(count, features)), np.arange(count) % classes


def part(count: int = 6, classes: int = 3, features: int = 4) -> Dataset:
    return Dataset(*samples(count, classes, features), classes, "toy")


IMAGE = Dataset(*samples(6), 3, "toy", (1, 2, 2))


class TestDataset:
    def test_keeps_private_copies_in_fixed_dtypes(self) -> None:
        x, y = samples()
        data = Dataset(x.astype(np.float32), y.astype(np.int8), 3, "toy")
        assert data.features.dtype == np.float64
        assert data.labels.dtype == np.int64
        before = data.fingerprint
        x[0], y[0] = 9.0, 2
        assert data.features[0, 0] != 9.0
        assert data.labels[0] == 0
        # torch warns (here: fails) where an array is read-only.
        assert torch.as_tensor(data.features).dtype == torch.float64
        assert torch.as_tensor(data.labels).dtype == torch.int64
        assert Dataset(data.features, data.labels, 3, "other name").fingerprint == before
        assert len(data) == 60
        assert data.num_features == 4

    def test_whole_floats_are_labels(self) -> None:
        data = Dataset(samples()[0], samples()[1].astype(float), 3, "toy")
        assert data.labels.dtype == np.int64

    def test_zero_rows_are_the_encodings_business(self) -> None:
        assert not Dataset(np.zeros((2, 4)), [0, 1], 2, "toy").features.any()

    def test_arrays_handed_over_are_not_copied(self) -> None:
        x, y = samples()
        data = Dataset(x, y, 3, "toy", copy=False)
        assert data.features is x
        assert data.labels is y
        # Others are, and checks are the same.
        assert Dataset(x.astype(np.float32), y, 3, "toy", copy=False).features.dtype == np.float64
        with pytest.raises(DataError, match="finite numbers; got nan in row 0"):
            Dataset(np.full((2, 1), np.nan), [0, 1], 2, "toy", copy=False)

    def test_a_sample_may_have_a_shape(self) -> None:
        assert part().shape is None
        x, y = samples(features=12)
        data = Dataset(x, y, 3, "toy", (3, 2, 2))
        assert data.shape == (3, 2, 2)
        assert Dataset(x, y, 3, "toy", [np.int64(12)]).shape == (12,)
        plain, other = Dataset(x, y, 3, "toy"), Dataset(x, y, 3, "toy", (3, 4, 1))
        assert len({data.fingerprint, plain.fingerprint, other.fingerprint}) == 3

    @pytest.mark.parametrize("shape", [(1, 2, 3), (), (0, 4), (-1, -4), (2.0, 2.0), ("a",)])
    def test_a_shape_has_to_fit(self, shape: Any) -> None:
        with pytest.raises(
            DataError, match=r"shape of a sample multiplies to its number of features; got shape "
            r"\(.*\) for 4 features; expected for an image \(channels, height, width\)",
        ):  # fmt: skip
            Dataset(*samples(), 3, "toy", shape)

    def test_reads_briefly(self) -> None:
        assert repr(part()) == "Dataset('toy', 6 samples, shape (4,), 3 classes)"

    def test_pickles(self) -> None:
        data = part()
        assert pickle.loads(pickle.dumps(data)).fingerprint == data.fingerprint

    @pytest.mark.parametrize("change", ["feature", "label", "classes", "shape", "order"])
    def test_the_fingerprint_sees(self, change: str) -> None:
        x, y = samples()
        data = Dataset(x, y, 3, "toy")
        z = x.copy()
        z[17, 2] = np.nextafter(z[17, 2], 9)
        w = y.copy()
        w[5] = (w[5] + 1) % 3
        other = {
            "feature": lambda: Dataset(z, y, 3, "toy"),
            "label": lambda: Dataset(x, w, 3, "toy"),
            "classes": lambda: Dataset(x, y, 4, "toy"),
            "shape": lambda: Dataset(x[:, :3], y, 3, "toy"),
            "order": lambda: Dataset(x[::-1], y[::-1], 3, "toy"),
        }[change]()
        assert other.fingerprint != data.fingerprint

    def test_the_fingerprint_is_the_same_in_every_version(self) -> None:
        data = Dataset([[0.0, 1.0], [2.0, 3.0]], [0, 1], 2, "toy")
        assert data.fingerprint == (
            "d8d0f1662226890bdcf3620ffe0baf11aedd6a4a4c5d342ec4305e5b6e8be86a"
        )

    @pytest.mark.parametrize(
        ("features", "labels", "classes", "message"),
        [
            (np.zeros(4), [0], 2, r"features form a matrix; got shape \(4,\); expected \(samples"),
            (np.zeros((2, 0)), [0, 1], 2, r"features form a matrix; got shape \(2, 0\)"),
            ([["a"]], [0], 2, "features are numbers; got .*'a'"),
            ([[1.0, 2.0], [3.0, np.nan]], [0, 1], 2, "finite numbers; got nan in row 1, feature 1"),
            ([[np.inf], [1.0]], [0, 1], 2, "finite numbers; got inf in row 0, feature 0"),
            (np.ones((3, 2)), [0, 1], 2, "one label; got 3 samples, 2 labels"),
            (np.ones((0, 2)), np.array([], int), 2, "at least one sample; got none"),
            (np.ones((2, 2)), [0, 0], 1, "at least two classes; got num_classes=1; expected 2"),
            (np.ones((2, 2)), [0, 3], 3, r"lie in 0\.\.2; got label 3 in row 1\. Relabel"),
            (np.ones((2, 2)), [-1, 0], 3, r"lie in 0\.\.2; got label -1 in row 0"),
            (np.ones((2, 2)), [0, 0.5], 2, r"labels are integers; got 0\.5 in row 1"),
            (np.ones((2, 2)), [0, np.nan], 2, r"labels are integers; got nan in row 1"),
            (np.ones((2, 2)), ["a", "b"], 2, r"labels are integers; got dtype <U1\. Number the"),
            (np.ones((2, 2)), np.eye(2) * 2, 2, r"labels form a vector; got shape \(2, 2\)"),
            (np.ones((2, 2)), [[0.3, 0.7]] * 2, 2, r"labels form a vector; .*argmax\(axis=1\)"),
        ],
    )
    def test_refuses(self, features: object, labels: object, classes: int, message: str) -> None:
        with pytest.raises(DataError, match=message):
            Dataset(features, labels, classes, "toy")


class TestSplit:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"validation": part(features=5)},
                "same number of features; got train: 4, validation: 5, test: 4",
            ),
            ({"transfer": np.ones((3, 2))}, r"same number of features; got .*transfer: 2"),
            ({"validation": part(classes=2)}, "same classes; got train: 3, validation: 2"),
            (
                {"test": IMAGE},
                r"same shape of sample; got train: None, validation: None, test: \(1, 2, 2\)",
            ),
            (
                {"train": Dataset(np.ones((3, 4)), [1, 1, 1], 3, "toy")},
                "two classes; got only class 1 in the training sample",
            ),
            (
                {"transfer": np.full((1, 4), np.nan)},
                r"the transfer set are finite .*nan in row 0, feature",
            ),
        ],
    )
    def test_parts_must_fit(self, change: dict[str, Any], message: str) -> None:
        parts = dict.fromkeys(("train", "validation", "test"), part())
        assert Split(**parts).shape is None
        assert Split(IMAGE, IMAGE, IMAGE).shape == (1, 2, 2)
        with pytest.raises(DataError, match=message):
            Split(**{**parts, **change})

    def test_transfer_rows_handed_over_are_not_copied(self) -> None:
        x = np.ones((2, 4))
        assert Split(part(), part(), part(), x, copy=False).transfer is x
        assert Split(part(), part(), part(), x).transfer is not x

    def test_shared_parts_are_hashed_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hashed = []

        def counted(*values: Any) -> str:
            hashed.append(values[0])
            return digest(*values)

        digest = dataset.digest
        monkeypatch.setattr(dataset, "digest", counted)
        shared = part()
        for _ in range(3):
            assert Split(part(9), shared, shared, pool=shared).fingerprint
        assert sum(values is shared.features for values in hashed) == 1

    def test_without_transfer_there_is_an_empty_one_and_the_pool_is_the_training_set(self) -> None:
        split = Split(part(), part(), part())
        assert split.transfer.shape == (0, 4)
        assert split.pool is split.train
        assert (split.num_features, split.num_classes) == (4, 3)

    def test_the_fingerprint_sees_every_part(self) -> None:
        a, b = part(), part(9)
        seen = [
            Split(a, a, a), Split(b, a, a), Split(a, b, a), Split(a, a, b),
            Split(a, a, a, np.ones((2, 4))), Split(a, a, a, None, b),
        ]  # fmt: skip
        assert len({split.fingerprint for split in seen}) == len(seen)
        assert Split(part(), a, a).fingerprint == seen[0].fingerprint
