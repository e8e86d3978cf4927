# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from qiskit_kd.data import Split, datasets, digits
from qiskit_kd.errors import DataError

Array = NDArray[Any]


def everything(split: Split) -> tuple[Array, Array]:
    parts = (split.pool, split.validation, split.test)
    return np.concatenate([p.features for p in parts]), np.concatenate([p.labels for p in parts])


def as_set(rows: Array) -> set[bytes]:
    return {np.ascontiguousarray(row).tobytes() for row in rows}


def test_all_1797_images_are_there() -> None:
    split = digits(seed=0, train=100, transfer=0.3, validation=300, test=500)
    assert (split.num_features, split.num_classes) == (64, 10)
    assert split.shape == digits(seed=0, centre=True).shape == (1, 8, 8)
    sizes = [len(split.train), len(split.transfer), len(split.validation), len(split.test)]
    assert sizes == [100, 539, 300, 500]
    x, y = everything(digits(seed=0))
    assert len(x) == 1797
    images, values = load_digits(return_X_y=True)
    assert as_set(x) == as_set(images / 16.0)
    assert np.bincount(y).tolist() == np.bincount(values).tolist()


def test_classes_are_kept_and_relabelled_in_the_order_given() -> None:
    x, y = everything(digits(seed=3, classes=[8, 3]))
    images, values = load_digits(return_X_y=True)
    for label, digit in enumerate((8, 3)):
        assert as_set(x[y == label]) == as_set(images[values == digit] / 16.0)


def test_column_order_transposes_every_image() -> None:
    row, column = digits(seed=1, classes=[0, 1]), digits(seed=1, classes=[0, 1], order="column")
    transposed = row.test.features.reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, 64)
    assert np.array_equal(column.test.features, transposed)
    assert np.array_equal(column.test.labels, row.test.labels)


def test_centring_uses_the_samples_a_learner_may_see_and_no_others() -> None:
    options = {"seed": 2, "classes": [3, 8, 9], "train": 60, "transfer": 200, "test": 100}
    raw, centred = digits(**options), digits(centre=True, **options)
    mean = raw.pool.features.mean(axis=0)
    assert np.abs(centred.pool.features.mean(axis=0)).max() < 1e-12
    for part in ("train", "validation", "test", "pool"):
        before, after = getattr(raw, part), getattr(centred, part)
        np.testing.assert_allclose(after.features, before.features - mean, atol=1e-12)
        assert np.array_equal(after.labels, before.labels)
    np.testing.assert_allclose(centred.transfer, raw.transfer - mean, atol=1e-12)


def test_the_name_states_the_classes() -> None:
    assert digits(seed=0, classes=[3, 8, 9]).train.name == "digits-389"
    assert datasets["digits"](seed=0).train.name == "digits"


@pytest.mark.parametrize("classes", [[3], [3, 3], [3, 10], [-1, 2], []])
def test_refuses_other_classes(classes: list[int]) -> None:
    with pytest.raises(
        DataError, match=r"distinct class numbers of digits; got \[.*at least two of 0"
    ):
        digits(seed=0, classes=classes)


def test_refuses_other_orders() -> None:
    with pytest.raises(DataError, match="unknown order of pixels; got 'diagonal'; expected 'row'"):
        digits(seed=0, order="diagonal")


def test_refuses_more_samples_than_exist() -> None:
    with pytest.raises(
        DataError, match=r"got 1500 train \+ 359 validation \+ 359 test.*at most 1797"
    ):
        digits(seed=0, train=1500)
