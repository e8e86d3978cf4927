# SPDX-License-Identifier: Apache-2.0
"""`Dataset`, `Split` and what makes samples fit for them: checks and fingerprints.

A split has four parts: labelled samples to train on, labelled samples to choose a model on, a test
set to touch once, and a *transfer set*: samples whose labels are thrown away and on which only a
teacher can speak.
"""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.registry import Registry
from qiskit_kd.values import class_labels, image_shape, numbers, plain, shown, whole

datasets: Registry[Any] = Registry("data set")
"""Builders `(*, seed: int, **options) -> Split`."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled samples; the arrays are private copies, not to be written to.

    Args:
        features: `(samples, features)` real numbers, kept as float64; any array, frame or tensor.
        labels: `(samples,)` integers `0 .. num_classes - 1`, kept as int64; a column or one-hot
            rows are understood too.
        num_classes: Number of classes, at least 2; a part of a split need not show all of them.
        name: What reports call it.
        shape: Shape of one sample, `(channels, height, width)` for images, whose product is the
            number of features; None if a sample is just a row.
        copy: False keeps float64 and int64 arrays as they are, for a caller who made them for
            this data set and never writes to them again.

    Raises:
        DataError: If shapes or lengths do not fit, a feature is no finite real number, or a label
            no integer of the range; the message names the row.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    num_classes: int
    name: str
    shape: tuple[int, ...] | None = None
    copy: InitVar[bool] = field(default=True, kw_only=True)

    def __post_init__(self, copy: bool) -> None:
        features = feature_matrix(self.features, copy=copy)
        labels = class_labels(self.labels, copy=copy)
        if len(features) != len(labels):
            raise DataError(
                "every sample has one label",
                got=f"{len(features)} samples, {len(labels)} labels",
                expected="arrays of one length",
            )
        if len(features) == 0:
            raise DataError("a data set has at least one sample", got="none")
        num_classes = whole(
            self.num_classes,
            "a data set has at least two classes",
            name="num_classes",
            least=2,
            error=DataError,
            remedy="A single class cannot be learned.",
        )
        foreign = np.flatnonzero((labels < 0) | (labels >= num_classes))
        if len(foreign):
            negative = labels[foreign[0]] < 0
            raise DataError(
                f"labels of {num_classes} classes lie in 0..{num_classes - 1}",
                got=f"label {labels[foreign[0]]} in row {foreign[0]}",
                remedy="Relabel: numpy.unique(labels, return_inverse=True)[1]"
                + ("." if negative else f", or give num_classes={labels.max() + 1}."),
            )
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "num_classes", num_classes)
        if self.shape is not None:
            object.__setattr__(self, "shape", image_shape(self.shape, self.num_features))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, {len(self)} samples, "
            f"shape {self.shape or (self.num_features,)}, {self.num_classes} classes)"
        )

    @property
    def num_features(self) -> int:
        """Width of a row."""
        return int(self.features.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the arrays, all shapes and the number of classes."""
        return self._fingerprint(self.features)

    def _fingerprint(self, samples: NDArray[Any]) -> str:
        shape = () if self.shape is None else (np.array(self.shape, np.int64),)
        return digest(samples, self.labels, np.int64(self.num_classes), *shape)


@dataclass(frozen=True, eq=False)
class Split:
    """The four parts of one experiment's data.

    Args:
        train: Labelled samples the student learns from.
        validation: Chooses epochs and settings.
        test: Touched once, at the end.
        transfer: `(samples, features)` unlabelled samples, or a `Dataset` whose labels are not
            looked at; None means there are none.
        pool: For a teacher that is to see more than its student: the training samples, the
            transfer samples and maybe further ones, all with labels. None means `train`.
        drawn_from: How many samples the training samples were drawn from, where every seed draws
            from the same ones: splits of several seeds then share samples, and intervals allow for
            that. None where each seed has samples of its own.
        test_rows: `(test samples,)` numbers of the test samples among these; None where they were
            not drawn from them.
        copy: As of `Dataset`, for `transfer`.

    Raises:
        DataError: If the parts differ in width, shape or classes, or `train` shows a single class.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    transfer: NDArray[np.float64]
    pool: Dataset
    drawn_from: int | None
    test_rows: NDArray[np.intp] | None

    def __init__(
        self,
        train: Dataset,
        validation: Dataset,
        test: Dataset,
        transfer: ArrayLike | Dataset | None = None,
        pool: Dataset | None = None,
        *,
        drawn_from: int | None = None,
        test_rows: NDArray[np.intp] | None = None,
        copy: bool = True,
    ) -> None:
        given = {"train": train, "validation": validation, "test": test, "pool": pool}
        for name, each in given.items():
            if not isinstance(each, Dataset) and (name != "pool" or each is not None):
                raise DataError(
                    "the parts of a split are data sets",
                    got=f"{name}: {shown(each)}",
                    expected="a Dataset",
                    remedy="Wrap it, Dataset(features, labels, num_classes, name), or split arrays "
                    "with qiskit_kd.data.arrays(features, labels).",
                )
        rows = () if transfer is None else getattr(transfer, "features", transfer)
        rows = plain(rows, "the transfer set")
        rows = rows if rows.size else np.empty((0, train.num_features))
        unlabelled = feature_matrix(rows, of="the transfer set", copy=copy)
        pool = train if pool is None else pool
        parts = {"train": train, "validation": validation, "test": test, "pool": pool}
        widths = {name: part.num_features for name, part in parts.items()}
        widths["transfer"] = int(unlabelled.shape[1])
        if len(set(widths.values())) > 1:
            raise DataError(
                "all parts of a split have the same number of features",
                got=", ".join(f"{name}: {width}" for name, width in widths.items()),
            )
        if len({part.shape for part in parts.values()}) > 1:
            raise DataError(
                "all parts of a split have the same shape of sample",
                got=", ".join(f"{name}: {part.shape}" for name, part in parts.items()),
            )
        if len({part.num_classes for part in parts.values()}) > 1:
            raise DataError(
                "all parts of a split have the same classes",
                got=", ".join(f"{name}: {part.num_classes}" for name, part in parts.items()),
            )
        check_two_classes(train.labels, "the training samples")
        for name, part in parts.items():
            object.__setattr__(self, name, part)
        object.__setattr__(self, "transfer", unlabelled)
        object.__setattr__(self, "drawn_from", drawn_from)
        object.__setattr__(self, "test_rows", test_rows)

    @property
    def num_features(self) -> int:
        """Width of a row."""
        return self.train.num_features

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.train.num_classes

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of one sample, see `Dataset`."""
        return self.train.shape

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the fingerprints of all parts.

        A part that many splits share is hashed once.
        """
        labelled = (self.train, self.validation, self.test, self.pool)
        parts = [*(part.fingerprint for part in labelled), digest(self.transfer)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def feature_matrix(
    values: ArrayLike, of: str = "features", *, copy: bool = True
) -> NDArray[np.float64]:
    """A copy as a float64 matrix of finite numbers.

    It stays writable: torch warns at every tensor made from a read-only array.

    Args:
        values: `(samples, features)`.
        of: What messages call it.
        copy: False copies only what is no float64 matrix in row order.

    Raises:
        DataError: As `values.numbers`, and if it is no matrix.
    """
    array = numbers(values, of, copy=copy)
    if array.ndim != 2 or array.shape[1] == 0:
        images = array.ndim == 4 and array.shape[3] in (1, 3, 4) and min(array.shape[1:3]) > 4
        raise DataError(
            f"{of} form a matrix",
            got=f"shape {array.shape}",
            expected="(samples, features)",
            remedy="Flatten images into rows"
            + (
                ", channels first: x.transpose(0, 3, 1, 2).reshape(len(x), -1)."
                if images
                else ": x.reshape(len(x), -1)."
            ),
        )
    return array


def check_two_classes(labels: NDArray[np.int64], what: str) -> None:
    """Refuse samples of a single class.

    Raises:
        DataError: As said.
    """
    shown = np.unique(labels)
    if len(shown) < 2:
        raise DataError(
            "learning needs at least two classes",
            got=f"only class {shown[0]} in {what}",
            remedy="A single class cannot be learned; check the labels.",
        )


def digest(*values: NDArray[Any] | np.integer[Any]) -> str:
    """SHA-256 of arrays; little-endian bytes, so that it is the same on every machine."""
    total = hashlib.sha256()
    for value in values:
        array = np.ascontiguousarray(value)
        total.update(f"{array.dtype.kind}{array.shape}".encode())
        total.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return total.hexdigest()
