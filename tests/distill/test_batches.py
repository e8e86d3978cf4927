# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_kd.distill.batches import Labelled, Samples, check_sets, labelled_sets
from qiskit_kd.errors import DataError

from .toys import CE, FEATURES, blobs, fit, linear


def rows(labelled: int, transfer: int) -> Labelled:
    x, y = np.zeros((labelled + transfer, 2)), np.zeros(labelled, int)
    return Labelled(torch.tensor(x), torch.tensor(y), 2, x)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60), st.integers(0, 60), st.data(), st.integers(0, 5))
def test_an_epoch_visits_every_sample_once_in_even_batches(n: int, m: int, data, epoch: int):
    count = data.draw(st.integers(1, n + m))
    batches = rows(n, m).batches(count, seed=1, epoch=epoch)
    assert len(batches) == count
    visited = torch.cat([batch for batch, _ in batches]).tolist()
    assert sorted(visited) == list(range(n + m))
    lengths = [len(batch) for batch, _ in batches]
    assert max(lengths) - min(lengths) <= 2
    shares = [count for _, count in batches]
    assert max(shares) - min(shares) <= 1
    for batch, count in batches:
        assert (batch[:count] < n).all(), "labelled samples come first"
        assert (batch[count:] >= n).all()
    assert batches[0][1] > 0


def test_the_order_depends_on_seed_and_epoch_only():
    def order(seed: int, epoch: int) -> list[int]:
        batches = rows(20, 10).batches(4, seed=seed, epoch=epoch)
        return torch.cat([batch for batch, _ in batches]).tolist()

    torch.manual_seed(0)
    first = order(3, 1)
    torch.manual_seed(1)
    assert order(3, 1) == first
    assert order(3, 2) != first
    assert order(4, 1) != first


def test_samples_become_tensors_like_the_students_weights():
    (data, _), transfer = labelled_sets(blobs(9, "a"), blobs(9, "a")), blobs(5, "b").features
    joined = Labelled.of(data, transfer, like=torch.zeros(1, dtype=torch.float64))
    assert np.array_equal(joined.samples, np.concatenate([data.features, transfer]))
    assert torch.equal(joined.features, torch.from_numpy(joined.samples))
    assert joined.labels.tolist() == data.labels.tolist()
    assert Labelled.of(data, None, like=torch.zeros(1)).features.dtype == torch.float32
    assert len(Labelled.of(data, transfer[:0], like=torch.zeros(1)).features) == 9


def fake(**changes) -> Samples:
    parts = {"features": np.ones((4, FEATURES)), "labels": np.array([0, 1, 2, 0])}
    return Samples(**{**parts, "num_classes": 3, "name": "fake", **changes})


@pytest.mark.parametrize(
    ("train", "validation", "transfer", "text"),
    [
        (
            {},
            {"labels": np.array([0])},
            None,
            r"validation set 'fake' has one label per sample.*got f",
        ),
        (
            {"features": np.ones((0, 2)), "labels": np.ones(0, int)},
            {},
            None,
            "and at least one sample",
        ),
        (
            {},
            {"labels": np.array([0, 3, 2, 0])},
            None,
            "are classes; got 3 in row 1; expected 0 to 2",
        ),
        (
            {"labels": np.array([0, -1, 2, 0])},
            {},
            None,
            "are classes; got -1 in row 1; expected 0 to 2",
        ),
        (
            {"features": np.ones((4, 2))},
            {},
            None,
            r"agrees with the training set.*got samples \(6,\), 3",
        ),
        ({"num_classes": 4}, {}, None, r"expected samples .* 4 classes"),
        ({"labels": np.ones(4, int)}, {}, None, r"at least two classes; got class 1 only"),
        ({}, {}, np.ones((5, 2)), r"transfer set has samples like .*got shape \(5, 2\)"),
    ],
)
def test_bad_data_sets_are_refused(train, validation, transfer, text: str):
    check_sets(fake(), fake(), np.ones((5, FEATURES)))
    with pytest.raises(DataError, match=text):
        check_sets(fake(**train), fake(**validation), transfer)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_numbers_that_are_not_finite_are_refused_and_large_ones_are_fine(bad: float):
    large = np.full((4, FEATURES), 1e308)
    train, validation = labelled_sets(fake(features=large), fake(features=large))
    check_sets(train, validation, large)
    large[2, 1] = bad
    text = r"finite numbers; got .* in row 2"
    for sets in ((fake(features=large), fake()), (fake(), fake(features=large))):
        with pytest.raises(DataError, match=text):
            fit(linear(), CE, *sets, epochs=1)
    with pytest.raises(DataError, match=text):
        fit(linear(), CE, transfer=large, epochs=1)
