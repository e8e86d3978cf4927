# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

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


SOME = {"seed": 2, "classes": [3, 8, 9], "train": 60, "transfer": 90, "test": 100}
PARTS = ("train", "validation", "test", "pool")


@pytest.mark.parametrize("count", [1, 6])
def test_components_are_scikit_learns_whitened_ones(count: int) -> None:
    raw, turned = digits(**SOME), digits(components=count, **SOME)
    pca = PCA(count, whiten=True, svd_solver="full").fit(raw.pool.features)
    n = len(raw.pool)
    whole = np.sqrt(n / (n - 1))  # scikit-learn divides by n - 1
    largest = np.abs(pca.components_).argmax(axis=1)
    sign = np.sign(pca.components_[np.arange(count), largest])
    for part in PARTS:
        before, after = getattr(raw, part), getattr(turned, part)
        expected = pca.transform(before.features) * whole * sign
        np.testing.assert_allclose(after.features, expected, atol=1e-9)
        assert np.array_equal(after.labels, before.labels)
        assert (after.name, after.num_classes) == (before.name, before.num_classes)
    np.testing.assert_allclose(
        turned.transfer, pca.transform(raw.transfer) * whole * sign, atol=1e-9
    )
    assert turned.num_features == count


def test_components_are_no_images_and_have_deviation_one_among_what_a_learner_sees() -> None:
    split = digits(components=6, **SOME)
    assert split.shape is None
    seen = split.pool.features
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cov(seen.T, ddof=0), np.eye(6), atol=1e-12)
    assert len(split.pool) == len(split.train) + len(split.transfer)
    assert np.abs(split.test.features.std(axis=0) - 1).max() > 1e-3  # nobody looked there


def test_components_are_fitted_without_validation_and_test(monkeypatch) -> None:
    module = importlib.import_module("qiskit_kd.data.digits")  # the function has its name
    whole = digits(components=4, **SOME)
    cut = module.stratified_split

    def spoilt(*arguments: Any, **options: Any) -> Split:
        split = cut(*arguments, **options)
        held_out = (split.validation, split.test)
        large = [replace(part, features=1000 * part.features) for part in held_out]
        return Split(split.train, *large, split.transfer, split.pool)

    monkeypatch.setattr(module, "stratified_split", spoilt)
    other = digits(components=4, **SOME)
    for part in ("train", "pool"):
        assert np.array_equal(getattr(other, part).features, getattr(whole, part).features)
    assert np.array_equal(other.transfer, whole.transfer)
    assert np.abs(other.test.features).max() > 100


def test_components_do_not_depend_on_the_order_of_pixels_or_the_centre() -> None:
    plain = digits(components=3, **SOME)
    for options in ({"order": "column"}, {"centre": True}):
        other = digits(components=3, **options, **SOME)
        np.testing.assert_allclose(other.test.features, plain.test.features, atol=1e-9)


@pytest.mark.parametrize("count", [0, -1, 65, 2.0, True, "6"])
def test_refuses_other_numbers_of_components(count: Any) -> None:
    with pytest.raises(
        DataError, match=r"the samples have as many principal components as they span directions; "
        rf"got components={count!r}; expected an integer from 1 to (5\d|6[0-4])(\. Write 2, .*)?$",
    ):  # fmt: skip
        digits(components=count, **SOME)


def test_few_samples_have_few_components() -> None:
    few = {**SOME, "train": 9, "transfer": 0}
    assert digits(components=8, **few).num_features == 8
    with pytest.raises(DataError, match=r"got components=9; expected an integer from 1 to 8$"):
        digits(components=9, **few)


def test_the_name_states_the_classes() -> None:
    assert digits(seed=0, classes=[3, 8, 9]).train.name == "digits-389"
    assert datasets["digits"](seed=0).train.name == "digits"


def test_refuses_other_orders() -> None:
    with pytest.raises(DataError, match="unknown order of pixels; got 'diagonal'; expected 'row'"):
        digits(seed=0, order="diagonal")


@pytest.mark.parametrize("classes", [[3], [3, 3], [3, 10], [-1, 2], []])
def test_refuses_other_classes(classes: list[int]) -> None:
    with pytest.raises(
        DataError, match=r"distinct class numbers of digits; got \[.*at least two of 0"
    ):
        digits(seed=0, classes=classes)


def test_refuses_more_samples_than_exist() -> None:
    with pytest.raises(
        DataError, match=r"got 1500 train \+ 359 validation \+ 359 test.*at most 1797"
    ):
        digits(seed=0, train=1500)
