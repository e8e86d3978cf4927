# SPDX-License-Identifier: Apache-2.0
"""`Dataset`, `Split` and how samples become them: checks, fingerprints, stratified splits.

A split has four parts: labelled samples to train on, labelled samples to choose a model on, a test
set to touch once, and a *transfer set*: samples whose labels are thrown away and on which only a
teacher can speak.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.registry import Registry
from qiskit_kd.seeding import stream

__all__ = ["Dataset", "Split", "arrays", "datasets", "npz", "stratified_split"]

datasets: Registry[Any] = Registry("data set")
"""Builders `(*, seed: int, **options) -> Split`."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled samples; the arrays are private copies, not to be written to.

    Args:
        features: `(samples, features)`, kept as float64.
        labels: `(samples,)` integers `0 .. num_classes - 1`, kept as int64.
        num_classes: Number of classes, at least 2; a part of a split need not show all of them.
        name: What reports call it.

    Raises:
        DataError: If shapes or lengths do not fit, a feature is NaN or infinite, or a label is no
            integer of the range; the message names the row.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    num_classes: int
    name: str

    def __post_init__(self) -> None:
        features, labels = _features(self.features), _labels(self.labels)
        if len(features) != len(labels):
            raise DataError(
                "every sample has one label", got=f"{len(features)} samples, {len(labels)} labels",
                expected="arrays of one length",
            )  # fmt: skip
        if len(features) == 0:
            raise DataError("a data set has at least one sample", got="none")
        if self.num_classes < 2:
            raise DataError(
                "a data set has at least two classes", got=f"num_classes = {self.num_classes}",
                expected="2 or more", remedy="A single class cannot be learned.",
            )  # fmt: skip
        foreign = np.flatnonzero((labels < 0) | (labels >= self.num_classes))
        if len(foreign):
            raise DataError(
                f"labels of {self.num_classes} classes lie in 0..{self.num_classes - 1}",
                got=f"label {labels[foreign[0]]} in row {foreign[0]}",
                remedy="Relabel from 0 without gaps, or give num_classes.",
            )  # fmt: skip
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_features(self) -> int:
        """Width of a row."""
        return int(self.features.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the arrays, their shapes and the number of classes."""
        return _digest(self.features, self.labels, np.int64(self.num_classes))


@dataclass(frozen=True, eq=False)
class Split:
    """The four parts of one experiment's data.

    Args:
        train: Labelled samples the student learns from.
        validation: Chooses epochs and settings.
        test: Touched once, at the end.
        transfer: `(samples, features)` unlabelled samples; None means there are none.
        pool: For a teacher that is to see more than its student: the training samples, the
            transfer samples and maybe further ones, all with labels. None means `train`.

    Raises:
        DataError: If the parts differ in width or classes, or `train` shows a single class.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    transfer: NDArray[np.float64]
    pool: Dataset

    def __init__(
        self, train: Dataset, validation: Dataset, test: Dataset,
        transfer: ArrayLike | None = None, pool: Dataset | None = None,
    ) -> None:  # fmt: skip
        empty = np.empty((0, train.num_features))
        unlabelled = empty if transfer is None else _features(transfer, of="the transfer set")
        pool = train if pool is None else pool
        parts = {"train": train, "validation": validation, "test": test, "pool": pool}
        widths = {name: part.num_features for name, part in parts.items()}
        widths["transfer"] = int(unlabelled.shape[1])
        if len(set(widths.values())) > 1:
            raise DataError(
                "all parts of a split have the same number of features",
                got=", ".join(f"{name}: {width}" for name, width in widths.items()),
            )  # fmt: skip
        if len({part.num_classes for part in parts.values()}) > 1:
            raise DataError(
                "all parts of a split have the same classes",
                got=", ".join(f"{name}: {part.num_classes}" for name, part in parts.items()),
            )  # fmt: skip
        _two_classes(train.labels, "the training samples")
        for name, part in parts.items():
            object.__setattr__(self, name, part)
        object.__setattr__(self, "transfer", unlabelled)

    @property
    def num_features(self) -> int:
        """Width of a row."""
        return self.train.num_features

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.train.num_classes

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of all parts."""
        labelled = (self.train, self.validation, self.test, self.pool)
        return _digest(*(a for part in labelled for a in (part.features, part.labels)),
                       self.transfer, np.int64(self.num_classes))  # fmt: skip


def stratified_split(
    features: ArrayLike, labels: ArrayLike, *, seed: int, train: int | float | None = None,
    validation: int | float = 0.2, test: int | float = 0.2, transfer: int | float = 0,
    num_classes: int | None = None, name: str = "arrays",
) -> Split:  # fmt: skip
    """Split samples so that every part has each class in its share of the whole, within one sample.

    Samples are put into one order in which every stretch is stratified. `train` is cut from its
    front and `transfer` after it, `test` from its end and `validation` before it: with one seed, a
    larger `train` contains the smaller one, and validation and test stay as they are.

    Args:
        features: `(samples, features)`.
        labels: `(samples,)`.
        seed: Fixes the order.
        train: A number of samples, a fraction (a float between 0 and 1) or None for all the rest.
        validation: A number of samples or a fraction.
        test: A number of samples or a fraction.
        transfer: A number of samples or a fraction; their labels are dropped.
        num_classes: None counts `0 .. max(labels)`.
        name: What reports call the data.

    Raises:
        DataError: As `Dataset`; if more samples are asked for than there are, a part would be
            empty, there is one class only, or a class would have no training sample.
    """
    numbers = _labels(labels)
    if num_classes is None:  # at least 2: a single class is refused below, for what it is
        num_classes = int(numbers.max(initial=1)) + 1
    whole = Dataset(_features(features), numbers, num_classes, name)
    _two_classes(whole.labels, name)
    total = len(whole)
    sizes = {
        part: _size(part, size, total)
        for part, size in (("validation", validation), ("test", test), ("transfer", transfer))
    }
    rest = total - sum(sizes.values())
    sizes = {"train": rest if train is None else _size("train", train, total), **sizes}
    if sum(sizes.values()) > total or sizes["train"] < 1:
        asked = " + ".join(f"{size} {part}" for part, size in sizes.items() if size)
        raise DataError(
            f"the parts of a split fit into the data set {name!r}",
            got=asked if sizes["train"] >= 1 else f"{asked}, leaving nothing to train on",
            expected=f"at most {total} samples in all", remedy="Ask for fewer samples.",
        )  # fmt: skip
    order = _stratified_order(whole.labels, seed)
    end = total - sizes["test"]
    stretches = {
        "train": order[: sizes["train"]],
        "transfer": order[sizes["train"] : sizes["train"] + sizes["transfer"]],
        "validation": order[end - sizes["validation"] : end],
        "test": order[end:],
    }
    missing = sorted(set(whole.labels.tolist()) - set(whole.labels[stretches["train"]].tolist()))
    if missing:
        raise DataError(
            "every class has a training sample",
            got=f"{sizes['train']} training samples without classes {missing}",
            expected=f"{num_classes} or more", remedy="Raise train.",
        )  # fmt: skip
    unlabelled = whole.features[stretches.pop("transfer")]
    stretches["pool"] = order[: sizes["train"] + sizes["transfer"]]
    part = {
        key: Dataset(whole.features[rows], whole.labels[rows], num_classes, name)
        for key, rows in stretches.items()
    }
    return Split(**part, transfer=unlabelled)


@datasets.register("arrays")
def arrays(features: ArrayLike, labels: ArrayLike, *, seed: int = 0, **options: Any) -> Split:
    """A split of arrays at hand; `options` as `stratified_split`."""
    return stratified_split(features, labels, seed=seed, **options)


@datasets.register("npz")
def npz(
    path: str | Path, *, seed: int, features: str = "features", labels: str = "labels",
    **options: Any,
) -> Split:  # fmt: skip
    """A split of two arrays in a NumPy `.npz` file.

    Args:
        path: The file; pickled objects in it are never loaded.
        seed: Fixes the split.
        features: Key of the `(samples, features)` array.
        labels: Key of the `(samples,)` array.
        **options: As `stratified_split`.

    Raises:
        DataError: As `stratified_split`, or if the file is missing, is no complete `.npz` file,
            lacks a key or holds Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            "the data file does not exist", got=str(path), expected="a NumPy .npz file",
            remedy="Relative paths start at the working directory.",
        )  # fmt: skip
    try:
        # Read through a handle of our own: numpy leaves its own one open when the file is damaged.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            known = list(file.files)
            found = {key: file[key] for key in (features, labels) if key in known}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, AttributeError,
            TypeError) as error:  # fmt: skip
        objects = "Object arrays" in str(error)
        raise DataError(
            "the data file cannot be read", got=f"{path} ({error or type(error).__name__})",
            expected="arrays of numbers" if objects else "a complete NumPy .npz file",
            remedy="Write it again with numpy.savez(path, features=..., labels=...).",
        ) from error  # fmt: skip
    for key in (features, labels):
        if key not in found:
            raise DataError(
                f"the data file has no array {key!r}", got=f"keys {', '.join(known) or 'none'}",
                expected=f"{features!r} and {labels!r}",
                remedy="Name the arrays with the options features and labels.",
            )  # fmt: skip
    options.setdefault("name", path.stem)
    return stratified_split(found[features], found[labels], seed=seed, **options)


def _features(values: ArrayLike, of: str = "features") -> NDArray[np.float64]:
    """A float64 matrix of finite numbers, a copy.

    It stays writable: torch warns at every tensor made from a read-only array.
    """
    try:
        array = np.array(values, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{of} are numbers", got=str(error), expected="a matrix (samples, features)"
        ) from error
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(
            f"{of} form a matrix", got=f"shape {array.shape}", expected="(samples, features)",
            remedy="Flatten images into rows.",
        )  # fmt: skip
    finite = np.isfinite(array)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise DataError(
            f"{of} are finite numbers", got=f"{array[row, column]} in row {row}, feature {column}",
            remedy="Remove or impute the row.",
        )  # fmt: skip
    return array


def _labels(values: ArrayLike) -> NDArray[np.int64]:
    """An int64 vector, a copy; floats pass if every one is a whole number."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(
            "labels form a vector", got=f"shape {array.shape}", expected="(samples,)",
            remedy="Turn one-hot rows into integers with argmax.",
        )  # fmt: skip
    if array.dtype.kind == "f":
        broken = np.flatnonzero(~np.isfinite(array) | (array != np.round(array)))
        if len(broken):
            raise DataError(
                "labels are integers", got=f"{array[broken[0]]} in row {broken[0]}",
                remedy="Give class numbers 0, 1, 2 ...",
            )  # fmt: skip
    elif array.dtype.kind not in "iu":
        raise DataError(
            "labels are integers", got=f"dtype {array.dtype}",
            remedy="Number the classes: numpy.unique(labels, return_inverse=True)[1].",
        )  # fmt: skip
    return array.astype(np.int64)


def _two_classes(labels: NDArray[np.int64], what: str) -> None:
    shown = np.unique(labels)
    if len(shown) < 2:
        raise DataError(
            "learning needs at least two classes", got=f"only class {shown[0]} in {what}",
            remedy="A single class cannot be learned; check the labels.",
        )  # fmt: skip


def _size(part: str, size: int | float, total: int) -> int:
    """A part's size as a number of samples."""
    smallest = 0 if part == "transfer" else 1
    if isinstance(size, float) and 0.0 < size < 1.0:
        count = max(smallest, round(size * total))
    elif not isinstance(size, bool) and size == int(size) and size >= smallest:
        count = int(size)
    else:
        raise DataError(
            f"{part} is a number of samples or a fraction of them", got=repr(size),
            expected=f"an integer from {smallest} on, or a float between 0 and 1",
        )  # fmt: skip
    return count


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


def _digest(*values: NDArray[Any] | np.integer[Any]) -> str:
    """SHA-256 of arrays; little-endian bytes, so that it is the same on every machine."""
    digest = hashlib.sha256()
    for value in values:
        array = np.ascontiguousarray(value)
        digest.update(f"{array.dtype.kind}{array.shape}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()
