# SPDX-License-Identifier: Apache-2.0
"""Stratified splits of samples that are at hand, as arrays or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qiskit_kd.data.dataset import Dataset, Split, check_two_classes, datasets, feature_matrix
from qiskit_kd.data.tables import LABEL_NAMES, read_arrays, read_path
from qiskit_kd.errors import DataError
from qiskit_kd.seeding import stream
from qiskit_kd.values import class_labels, listed, real, shown, spread, whole


@dataclass(frozen=True)
class Sizes:
    """The parts of a split: each a number of samples, or a fraction (a float between 0 and 1).

    Args:
        train: Labelled samples to learn from; None takes all the rest.
        validation: Samples to choose a model on.
        test: Samples touched once.
        transfer: Samples whose labels are dropped.
    """

    train: int | float | None = None
    validation: int | float = 0.2
    test: int | float = 0.2
    transfer: int | float = 0

    def counted(self, total: int, name: str) -> dict[str, int]:
        """Samples of each part, of `total` in all.

        Raises:
            DataError: For what is no size, and for more than there are.
        """
        sizes = {
            part: _size(part, getattr(self, part), total)
            for part in ("validation", "test", "transfer")
        }
        rest = total - sum(sizes.values())
        sizes = {
            "train": rest if self.train is None else _size("train", self.train, total),
            **sizes,
        }
        if sum(sizes.values()) > total or sizes["train"] < 1:
            asked = " + ".join(f"{size} {part}" for part, size in sizes.items() if size)
            raise DataError(
                f"the parts of a split fit into the data set {name!r}",
                got=asked if sizes["train"] >= 1 else f"{asked}, leaving nothing to train on",
                expected=f"at most {total} samples in all",
                remedy="Ask for fewer samples.",
            )
        return sizes


@dataclass(frozen=True)
class Parts(Sizes):
    """`Sizes`, and what a data set is made of.

    `num_classes` None counts `0 .. max(labels)`; `name`, what reports call it, is `arrays` or that
    of the file where it is None; `shape` is that of one sample, see `Dataset`.
    """

    num_classes: int | None = None
    name: str | None = None
    shape: Sequence[int] | None = None


@datasets.register("arrays")
@spread(parts=Parts)
def stratified_split(
    features: ArrayLike, labels: ArrayLike, *, seed: int = 0, parts: Parts
) -> Split:
    """Split samples so that every part has each class in its share of the kept.

    Exactly so where classes are equally large and sizes are multiples of their number; else within
    the rounding of all classes together.

    Samples are put into one order in which every stretch is stratified. `train` is cut from its
    front and `transfer` after it, `test` from its end and `validation` before it: with one seed, a
    larger `train` contains the smaller one, and validation and test stay as they are.

    Args:
        features: `(samples, features)`.
        labels: `(samples,)`.
        seed: Fixes the order.
        parts: Its fields are keywords: `train`, `validation`, `test` and `transfer`, each a number
            of samples or a fraction, `num_classes`, `name` and `shape`.

    Raises:
        DataError: As `Dataset`; if more samples are asked for than there are, a part would be
            empty, there is one class only, a class would have no training sample, or labels that
            are counted have gaps.
    """
    name, num_classes = parts.name or "arrays", parts.num_classes
    classes = class_labels(labels, copy=True)
    if num_classes is None:  # at least 2: a single class is refused below, for what it is
        num_classes = int(classes.max(initial=1)) + 1
    # Nothing of it is handed on but the rows picked below, which are copies.
    matrix = feature_matrix(features, copy=False)
    shape = parts.shape
    sample = None if shape is None else tuple(listed(shape, "a shape is a list", error=DataError))
    kept = Dataset(matrix, classes, num_classes, name, sample, copy=False)
    check_two_classes(kept.labels, name)
    if parts.num_classes is None:
        _check_gaps(kept.labels)
    total = len(kept)
    sizes = parts.counted(total, name)
    order = _stratified_order(kept.labels, seed)
    end = total - sizes["test"]
    stretches = {
        "train": order[: sizes["train"]],
        "transfer": order[sizes["train"] : sizes["train"] + sizes["transfer"]],
        "validation": order[end - sizes["validation"] : end],
        "test": order[end:],
    }
    check_every_class(kept.labels[stretches["train"]], np.unique(kept.labels), part="train")
    unlabelled = kept.features[stretches.pop("transfer")]
    stretches["pool"] = order[: sizes["train"] + sizes["transfer"]]
    made: dict[str, Any] = {}
    for key, rows in stretches.items():
        x, y = kept.features[rows], kept.labels[rows]
        made[key] = Dataset(x, y, num_classes, name, kept.shape, copy=False)
    return Split(
        **made, transfer=unlabelled, drawn_from=total, test_rows=stretches["test"], copy=False
    )


arrays = stratified_split
"""The name of `stratified_split` among data sets."""


@datasets.register("file")
@datasets.register("npz")
@spread(parts=Parts)
def npz(
    path: str | Path, *, seed: int, features: str = "features", labels: str = "labels", parts: Parts
) -> Split:
    """A split of the samples in a file: `.npz`, `.safetensors`, `.npy` or `.csv`.

    - `.npz` and `.safetensors` hold one array of features and one of labels.
    - `.npy` holds the features; `labels` is the path of a second one.
    - `.csv` has a row per sample, cells between commas, semicolons or tabs. With a header the
      labels are the column `labels` (or `label`, `class`, `target`, `y`), without one the last
      column; all others are features. Labels that are words are numbered in alphabetical order.

    Args:
        path: The file; pickled objects in it are never loaded.
        seed: Fixes the split.
        features: Key of the `(samples, features)` array.
        labels: Key of the `(samples,)` array, name of the column, or path of the `.npy` file.
        parts: As of `stratified_split`; without a name the data are called after the file.

    Raises:
        DataError: As `stratified_split`, or if the file is missing, damaged or of another kind,
            lacks a key or holds Python objects.
    """
    where = read_path(path, kinds="an .npz, .safetensors, .npy or .csv file")
    x, y = _from_file(where, features, labels)
    named = {**vars(parts), "name": where.stem if parts.name is None else parts.name}
    split: Split = stratified_split(x, y, seed=seed, **named)
    return split


def _from_file(path: Path, features: str, labels: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Features and labels of a file."""
    again = "Write it again with numpy.savez(path, features=..., labels=...)."
    kind, found = read_arrays(path, remedy=again)
    if kind == "npy":
        if labels == "labels":
            raise DataError(
                "an .npy file holds the features alone",
                got=str(path),
                expected="the option labels: the path of a second .npy file",
                remedy="Or write both into one: numpy.savez(path, features=..., labels=...).",
            )
        other = read_path(labels, kinds="an .npy file with the labels")
        (y,) = list(read_arrays(other, remedy="Write it with numpy.save.")[1].values())[:1]
        return found[path.stem], y
    if kind == "csv":
        if labels == "labels":
            last = list(found)[-1] if list(found) == [*map(str, range(len(found)))] else labels
            labels = next((each for each in LABEL_NAMES if each in found), last)
        if labels not in found or len(found) < 2:
            raise DataError(
                f"the table has no column {labels!r} beside others",
                got=f"columns {', '.join(list(found)[:8]) or 'none'}",
                remedy="Name the column of the labels with the option labels.",
            )
        y = found.pop(labels)
        words = [name for name, column in found.items() if column.dtype.kind == "U"]
        if words:
            raise DataError(
                "features are numbers",
                got=f"{found[words[0]][0]!r} in column {words[0]!r}",
                remedy="Remove the column, or write numbers with a decimal point.",
            )
        if y.dtype.kind == "U":
            y = np.unique(y, return_inverse=True)[1]
        return np.column_stack(list(found.values())), y
    for key in (features, labels):
        if key not in found:
            raise DataError(
                f"the data file has no array {key!r}",
                got=f"keys {', '.join(found) or 'none'}",
                expected=f"{features!r} and {labels!r}",
                remedy="Name the arrays with the options features and labels.",
            )
    return found[features], found[labels]


def _check_gaps(labels: NDArray[np.int64]) -> None:
    """Refuse numbers of classes that skip one."""
    shown = np.unique(labels)
    jumps = np.flatnonzero(shown != np.arange(len(shown)))
    if len(jumps):
        gap = int(jumps[0])
        row = int(np.flatnonzero(labels > gap)[0])
        raise DataError(
            "labels number the classes 0, 1, 2 ... without gaps",
            got=f"label {labels[row]} in row {row}, but no sample of class {gap}",
            expected=f"labels 0 to {len(shown) - 1} for {len(shown)} classes",
            remedy="Relabel without gaps, or give num_classes.",
        )


def _size(part: str, size: int | float, total: int) -> int:
    """A part's size as a number of samples."""
    smallest = 0 if part == "transfer" else 1
    rule = f"{part} is a number of samples or a fraction of them"
    expected = f"an integer from {smallest} on, or a float between 0 and 1"
    number = real(size, rule, error=DataError, expected=expected)
    if 0.0 < number < 1.0:
        # Rounded down, so that fractions that add up to 1 fit; 0.29 * 100 is 28.999999999999996.
        return max(smallest, int(number * total + 1e-9))
    if number != int(number) or number < smallest:
        raise DataError(rule, got=shown(size), expected=expected)
    return int(number)


def _stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.intp]:
    """An order of all samples, any stretch of which is stratified.

    The k-th of a class's m shuffled samples is put at `(k + 1/2) / m` of the whole way.
    """
    random = stream(seed, "split")
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[random.permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(rows)
    # Classes of equal size tie; ties go by class number, which shuffling leaves in peace.
    return np.lexsort((labels, place))


def choose_classes(
    classes: Sequence[int] | None, total: int, *, name: str
) -> tuple[tuple[int, ...], str]:
    """The classes to keep, at least two of `total` or all, and what to call the data then."""
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

    Classes take turns; one that has run out is passed over, and the others go on. `random` shuffles
    the samples of each class and the turns of the classes; None keeps the order of the rows and
    goes by class number.
    """
    place = np.empty(len(labels), np.int64)
    shown = np.unique(labels)
    for label in shown:
        rows = np.flatnonzero(labels == label)
        place[rows if random is None else random.permutation(rows)] = np.arange(len(rows))
    turn = np.arange(int(shown[-1]) + 1) if random is None else random.permutation(shown[-1] + 1)
    return np.argsort(place * len(turn) + turn[labels])


def check_count(size: object, least: int, *, what: str) -> None:
    """Refuse what is no number of samples, or too small a one."""
    rule, expected = f"{what} is a number of samples to draw", f"an integer from {least} on"
    whole(size, rule, least=least, error=DataError, expected=expected)


def check_every_class(labels: NDArray[np.int64], classes: ArrayLike, *, part: str) -> None:
    """Refuse a part of a split (`train`, `validation`, `test`) that lacks one of the classes."""
    missing = np.setdiff1d(np.asarray(classes), labels).tolist()
    if missing:
        kind = "training" if part == "train" else part
        raise DataError(
            f"every class has a {kind} sample",
            got=f"{len(labels)} {kind} samples without classes {missing}",
            expected=f"{len(np.asarray(classes))} or more",
            remedy=f"Raise {part}.",
        )
