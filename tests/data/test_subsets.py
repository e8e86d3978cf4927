# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qiskit_kd.data.splits import (
    balanced_order,
    check_count,
    check_every_class,
    choose_classes,
    relabelled,
)
from qiskit_kd.errors import DataError

COUNTS = st.lists(st.integers(0, 9), min_size=2, max_size=6).filter(lambda c: sum(c) > 0)


@given(counts=COUNTS, seed=st.none() | st.integers(0, 2**32))
def test_every_beginning_is_balanced_while_classes_last(
    counts: list[int], seed: int | None
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    order = balanced_order(labels, None if seed is None else np.random.default_rng(seed))
    assert np.array_equal(np.sort(order), np.arange(len(labels)))
    for size in range(1, len(labels) + 1):
        taken = np.bincount(labels[order[:size]], minlength=len(counts))
        lasting = taken < counts
        assert np.all(taken[lasting] >= taken.max() - 1)


def test_without_shuffling_rows_and_classes_keep_their_order() -> None:
    labels = np.array([1, 1, 0, 2, 0, 1])
    assert balanced_order(labels, None).tolist() == [2, 0, 3, 4, 1, 5]


def test_shuffling_changes_the_samples_and_which_class_comes_first() -> None:
    labels = np.arange(100) % 10
    orders = [balanced_order(labels, np.random.default_rng(k)) for k in range(30)]
    assert len({order.tobytes() for order in orders}) == 30
    assert len({labels[order[0]] for order in orders}) > 5


def test_relabels_in_the_order_given() -> None:
    rows, labels = relabelled(np.array([3, 0, 9, 3, 5], np.uint8), (9, 3))
    assert rows.tolist() == [0, 2, 3]
    assert labels.tolist() == [1, 0, 1]
    assert labels.dtype == np.int64
    assert relabelled(np.array([0, 1]), (1, 9))[0].tolist() == [1]


def test_the_choice_of_classes_names_the_data() -> None:
    assert choose_classes(None, 3, name="toy") == ((0, 1, 2), "toy")
    assert choose_classes([2, 0], 3, name="toy") == ((2, 0), "toy-20")


@pytest.mark.parametrize("classes", [[1], [1, 1], [1, 3], [-1, 2], [], 2, "01", [[0], 1], [0.5, 1]])
def test_refuses_other_classes(classes: object) -> None:
    with pytest.raises(
        DataError, match=r"distinct class numbers of toy; got .*; expected at least two of 0\.\.2"
    ):
        choose_classes(classes, 3, name="toy")


@pytest.mark.parametrize("size", [4, -1, 7.0, True, "9", None])
def test_refuses_what_is_no_number_of_samples(size: object) -> None:
    with pytest.raises(
        DataError, match=r"train of toy is a number of samples to draw; got .*integer from 5 on"
    ):
        check_count(size, 5, what="train of toy")
    check_count(5, 5, what="train of toy")
    check_count(np.int64(6), 5, what="train of toy")


def test_names_the_classes_without_samples() -> None:
    check_every_class(np.array([1, 0, 1]), [0, 1], part="train")
    with pytest.raises(
        DataError,
        match=r"class has a training sample; got 3 training samples without classes \[0, 3\]; "
        r"expected 4 or more\. Raise train\.",
    ):
        check_every_class(np.array([1, 2, 1]), np.arange(4), part="train")
    with pytest.raises(DataError, match=r"a test sample; got 1 test samples .*Raise test"):
        check_every_class(np.array([1]), [0, 1], part="test")
