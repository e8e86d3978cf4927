# SPDX-License-Identifier: Apache-2.0
"""Which samples to take: a choice of classes, class-balanced orders, and the checks of both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.values import listed, whole

__all__ = ["balanced_order", "check_count", "check_every_class", "choose_classes", "relabelled"]


def choose_classes(
    classes: Sequence[int] | None, total: int, *, name: str
) -> tuple[tuple[int, ...], str]:
    """The classes to keep, and what to call the data then.

    Args:
        classes: Distinct numbers below `total`, at least two; None keeps all.
        total: How many there are.
        name: The whole data set's name.

    Raises:
        DataError: If `classes` is anything else.
    """
    if classes is None:
        return tuple(range(total)), name
    rule = f"classes are distinct class numbers of {name}"
    remedy = "For example classes: [3, 5, 8]."
    expected = f"at least two of 0..{total - 1}"
    given = listed(classes, rule, error=DataError, expected=expected, remedy=remedy)
    try:
        kept = tuple(whole(k, rule, most=total - 1, error=DataError) for k in given)
    except DataError:
        kept = ()
    if len(kept) < 2 or len(set(kept)) < len(kept):
        raise DataError(rule, got=str(given), expected=expected, remedy=remedy)
    return kept, f"{name}-" + "".join(map(str, kept))


def relabelled(
    values: NDArray[np.integer], kept: Sequence[int]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Rows of the classes kept, and their labels: 0, 1, ... in the order of `kept`."""
    number = np.full(max(int(values.max(initial=0)), *kept) + 1, -1, np.int64)
    number[list(kept)] = np.arange(len(kept))
    labels = number[values]
    rows = np.flatnonzero(labels >= 0)
    return rows, labels[rows]


def balanced_order(
    labels: NDArray[np.int64], random: np.random.Generator | None
) -> NDArray[np.intp]:
    """An order of all samples, every beginning of which is class-balanced within one sample.

    Classes take turns; one that has run out is passed over, and the others go on.

    Args:
        labels: `(samples,)`.
        random: Shuffles the samples of each class and the turns of the classes; None keeps the
            order of the rows and goes by class number.
    """
    place = np.empty(len(labels), np.int64)
    shown = np.unique(labels)
    for label in shown:
        rows = np.flatnonzero(labels == label)
        place[rows if random is None else random.permutation(rows)] = np.arange(len(rows))
    turn = np.arange(int(shown[-1]) + 1) if random is None else random.permutation(shown[-1] + 1)
    return np.argsort(place * len(turn) + turn[labels])


def check_count(size: object, least: int, *, what: str) -> None:
    """Refuse what is no number of samples, or too small a one.

    Raises:
        DataError: As said.
    """
    whole(
        size, f"{what} is a number of samples to draw", least=least, error=DataError,
        expected=f"an integer from {least} on",
    )  # fmt: skip


def check_every_class(labels: NDArray[np.int64], classes: ArrayLike, *, part: str) -> None:
    """Refuse a part of a split that lacks a class.

    Args:
        labels: The part's labels.
        classes: Those it has to show.
        part: Its name: `train`, `validation` or `test`.

    Raises:
        DataError: Naming the classes.
    """
    missing = np.setdiff1d(np.asarray(classes), labels).tolist()
    if missing:
        kind = "training" if part == "train" else part
        raise DataError(
            f"every class has a {kind} sample",
            got=f"{len(labels)} {kind} samples without classes {missing}",
            expected=f"{len(np.asarray(classes))} or more", remedy=f"Raise {part}.",
        )  # fmt: skip
