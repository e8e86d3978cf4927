# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_kd.distill.batches import Labelled, check_samples, check_training
from qiskit_kd.errors import DataError

from .toys import FEATURES, blobs


def rows(labelled: int, transfer: int) -> Labelled:
    return Labelled(torch.zeros(labelled + transfer, 2), torch.zeros(labelled, dtype=torch.int64))


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
    data, transfer = blobs(9, "a"), blobs(5, "b").features
    joined, samples = Labelled.of(data, transfer, like=torch.zeros(1, dtype=torch.float64))
    assert torch.equal(joined.features, torch.from_numpy(np.concatenate([data.features, transfer])))
    assert joined.labels.tolist() == data.labels.tolist()
    assert np.array_equal(samples, joined.features.numpy())
    assert Labelled.of(data, None, like=torch.zeros(1))[0].features.dtype == torch.float32
    assert len(Labelled.of(data, transfer[:0], like=torch.zeros(1))[0].features) == 9


def fake(**changes) -> SimpleNamespace:
    parts = {"features": np.ones((4, FEATURES)), "labels": np.array([0, 1, 2, 0]),
             "num_classes": 3, "name": "fake"}  # fmt: skip
    return SimpleNamespace(**parts | changes)


def test_bad_data_sets_are_refused():
    check_samples(fake(), role="training set", like=fake())
    with pytest.raises(DataError, match=r"validation set 'fake' has one label per sample.*got f"):
        check_samples(fake(labels=np.array([0])), role="validation set")
    with pytest.raises(DataError, match="and at least one sample"):
        check_samples(fake(features=np.ones((0, 2)), labels=np.ones(0, int)), role="x")
    bad = np.ones((4, FEATURES))
    bad[2, 1] = np.nan
    with pytest.raises(DataError, match=r"finite numbers; got NaN or infinity in row 2"):
        check_samples(fake(features=bad), role="training set")
    bad[2, 1] = -np.inf
    with pytest.raises(DataError, match="in row 2"):
        check_training(fake(), bad)
    for label in (3, -1):
        with pytest.raises(DataError, match=rf"are classes; got {label} in row 1; expected 0 to 2"):
            check_samples(fake(labels=np.array([0, label, 2, 0])), role="training set")
    with pytest.raises(DataError, match=r"agrees with the training set.*got samples \(6,\), 3"):
        check_samples(fake(), role="validation set", like=fake(features=np.ones((4, 2))))
    with pytest.raises(DataError, match=r"expected samples .* 4 classes"):
        check_samples(fake(), role="validation set", like=fake(num_classes=4))
    with pytest.raises(DataError, match=r"at least two classes; got class 1 only"):
        check_training(fake(labels=np.ones(4, int)), None)
    with pytest.raises(DataError, match=r"transfer set has samples like .*got shape \(5, 2\)"):
        check_training(fake(), np.ones((5, 2)))


def test_large_finite_features_are_fine():
    check_samples(fake(features=np.full((4, FEATURES), 1e308)), role="training set")
