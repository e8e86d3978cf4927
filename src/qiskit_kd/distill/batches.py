# SPDX-License-Identifier: Apache-2.0
"""Training data as a few tensors, checked once, and the order in which an epoch visits them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torch.utils.data import Dataset as TorchDataset

from qiskit_kd.data import Dataset, Split
from qiskit_kd.errors import DataError, QiskitKDError
from qiskit_kd.seeding import stream
from qiskit_kd.values import class_labels, numbers, plain, shown, whole


class Samples(Protocol):
    """A labelled data set; `qiskit_kd.data.Dataset` is one."""

    @property
    def features(self) -> NDArray[np.float64]:
        """`(n, ...)` samples."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """`(n,)` classes from 0."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def name(self) -> str:
        """What messages call it."""


AnySamples = Samples | DataLoader[Any] | TorchDataset[Any] | tuple[Any, Any]
"""What is taken for a labelled data set."""


@dataclass(frozen=True, eq=False)
class _Plain:
    """Arrays as a data set."""

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    num_classes: int
    name: str


def labelled_sets(
    train: object, validation: object, num_classes: int | None
) -> tuple[Samples, Samples]:
    """Training and validation set, from whatever holds them.

    Args:
        train: A `Dataset`, a pair of arrays or tensors `(x, y)`, a torch data set or loader.
        validation: The same.
        num_classes: Of data that do not say so; None counts their labels, of both together.

    Raises:
        DataError: For anything else, and for numbers that are no samples or labels.
    """
    parts = [_labelled(train, "training set"), _labelled(validation, "validation set")]
    said = next((int(p.num_classes) for p in parts if p.num_classes), None)
    counted = 1 + max((int(p.labels.max(initial=0)) for p in parts if not p.num_classes), default=1)
    if num_classes is not None:
        rule = "num_classes is the number of classes"
        said = whole(num_classes, rule, name="num_classes", least=2, error=DataError)
    found = [
        p if p.num_classes else _Plain(p.features, p.labels, said or max(2, counted), p.name)
        for p in parts
    ]
    return found[0], found[1]


def _labelled(data: object, role: str) -> Samples:
    """One of them; its `num_classes` is 0 where nobody knows."""
    if isinstance(data, Dataset):
        return data  # checked when it was made
    if isinstance(data, Split):
        raise DataError(
            f"the {role} is one part of a split",
            got="a Split",
            expected="a Dataset",
            remedy="fit(split.train, split.validation, split.transfer).",
        )
    if all(hasattr(data, key) for key in ("features", "labels", "num_classes", "name")):
        x, y, count, name = (
            getattr(data, k) for k in ("features", "labels", "num_classes", "name")
        )
        count = whole(count, f"the {role} has at least two classes", least=2, error=DataError)
    else:
        found = _collected(data, role)
        if len(found) != 2:
            raise DataError(
                f"the {role} is samples and labels",
                got=shown(data),
                expected="a Dataset, a pair (x, y), a TensorDataset of two or a DataLoader of such",
                remedy="For example fit((x, y), (x_val, y_val)).",
            )
        (x, y), count, name = found, 0, role
    features = numbers(x, f"features of the {role}")
    return _Plain(features, class_labels(y, f"labels of the {role}"), count, str(name))


def unlabelled(data: object) -> NDArray[np.float64] | None:
    """The transfer set `(m, ...)`, from whatever holds it; None where it is empty.

    Raises:
        DataError: If there are no numbers in it.
    """
    if data is None:
        return None
    x = getattr(data, "features", None)
    if x is None:
        if isinstance(data, tuple) and len(data) in (1, 2) and getattr(data[0], "ndim", 0) > 1:
            x = data[0]
        elif isinstance(data, _TORCH):
            x = next(iter(_collected(data, "transfer set")), ())
        else:
            x = data
    rows = plain(x, "the transfer set")
    return None if rows.ndim and not rows.size else numbers(rows, "the transfer set")


_TORCH = (DataLoader, TorchDataset)


def _collected(data: object, role: str) -> list[Any]:
    """Samples and labels of a pair, a torch data set or a loader, each as one array.

    A loader's batches are read once, in the order of its data set unless a sampler of its own
    decides; what a step sees is the Distiller's business. The generators of torch stay untouched.

    Raises:
        DataError: If something in it is no array, or it is nothing that holds samples.
    """
    if isinstance(data, tuple | list):
        return list(data)
    if not isinstance(data, _TORCH):
        return []
    if isinstance(data, DataLoader):
        usual = isinstance(data.sampler, RandomSampler | SequentialSampler)
        if usual and data.batch_size is not None:
            data = DataLoader(data.dataset, batch_size=256, collate_fn=data.collate_fn)
    else:
        data = DataLoader(data, batch_size=256)
    columns: list[list[Any]] = []
    try:
        with torch.random.fork_rng(devices=[]):
            for batch in data:
                parts = batch if isinstance(batch, tuple | list) else [batch]
                columns = columns or [[] for _ in parts]
                for column, part in zip(columns, parts, strict=True):
                    column.append(torch.as_tensor(part))
        return [torch.cat(column) for column in columns]
    except QiskitKDError:
        raise
    except Exception as problem:  # a data set is somebody else's code
        raise DataError(
            f"the {role} can be read as tensors",
            got=f"{type(problem).__name__}: {problem}",
            expected="batches (x, y) of tensors",
            remedy="Pass the tensors themselves: fit((x, y), ...).",
        ) from problem


def check_samples(data: Samples, *, role: str, like: Samples | None = None) -> None:
    """Refuse a data set that cannot be learned from.

    Args:
        data: The data set.
        role: What messages call it, e.g. `"training set"`.
        like: A data set it has to agree with in width and classes.

    Raises:
        DataError: If it is empty, has NaN, labels out of range or not one per sample, or differs
            from `like`.
    """
    where = f"the {role} {data.name!r}"
    if not len(data.features) or data.labels.shape != (len(data.features),):
        raise DataError(
            f"{where} has one label per sample, and at least one sample",
            got=f"features {data.features.shape}, labels {data.labels.shape}",
            expected="(n, ...) and (n,), n > 0",
            remedy="Check how it was split.",
        )
    _check_finite(data.features, where)
    bad = np.flatnonzero((data.labels < 0) | (data.labels >= data.num_classes))
    if len(bad):
        raise DataError(
            f"labels of {where} are classes",
            got=f"{data.labels[bad[0]]} in row {bad[0]}",
            expected=f"0 to {data.num_classes - 1}",
            remedy="Renumber the labels from 0.",
        )
    if like is not None and (
        data.features.shape[1:] != like.features.shape[1:] or data.num_classes != like.num_classes
    ):
        raise DataError(
            f"{where} agrees with the training set in width and classes",
            got=f"samples {data.features.shape[1:]}, {data.num_classes} classes",
            expected=f"samples {like.features.shape[1:]}, {like.num_classes} classes",
            remedy="Take both from one split.",
        )


def check_training(train: Samples, transfer: NDArray[np.float64] | None) -> None:
    """Refuse a training set of one class, or a transfer set that does not go with it.

    Raises:
        DataError: As said, and as `check_samples`.
    """
    check_samples(train, role="training set")
    if len(np.unique(train.labels)) < 2:
        raise DataError(
            f"the training set {train.name!r} has samples of at least two classes",
            got=f"class {train.labels[0]} only",
            remedy="Draw more samples, or stratify the split.",
        )
    if transfer is not None and len(transfer):
        if transfer.shape[1:] != train.features.shape[1:]:
            raise DataError(
                "the transfer set has samples like the training set's",
                got=f"shape {transfer.shape}",
                expected=f"(m, {train.features.shape[1:]})",
                remedy="Take both from one split.",
            )
        _check_finite(transfer, "the transfer set")


def _check_finite(features: NDArray[np.float64], where: str) -> None:
    # One sum finds NaN and infinity alike; only then is the row looked for.
    with np.errstate(over="ignore", invalid="ignore"):
        total = features.sum()
    if not np.isfinite(total) and not (finite := np.isfinite(features)).all():
        row = int(np.argwhere(~finite)[0][0])
        raise DataError(
            f"features of {where} are finite numbers",
            got=f"NaN or infinity in row {row}",
            remedy="Remove or impute the row.",
        )


@dataclass(frozen=True)
class Labelled:
    """Samples with the labelled ones first, and the labels of those.

    Args:
        features: `(n + m, ...)` samples; the last m have no label.
        labels: `(n,)` classes.
    """

    features: Tensor
    labels: Tensor

    @staticmethod
    def of(
        data: Samples, transfer: NDArray[np.float64] | None, *, like: Tensor
    ) -> tuple[Labelled, NDArray[np.float64]]:
        """Join data and transfer set, on the device and in the dtype of `like`.

        Returns:
            The tensors, and the joined samples in double precision for the teacher.
        """
        joined = np.asarray(data.features, np.float64)
        if transfer is not None and len(transfer):
            joined = np.concatenate([joined, transfer])
        # torch.tensor copies, as it must: the arrays may be read-only. It converts in one pass.
        features = torch.tensor(joined, dtype=like.dtype, device=like.device)
        if not bool(features.isfinite().all()):
            row = int(torch.nonzero(~features.isfinite())[0, 0])
            raise DataError(
                f"features stay finite as {like.dtype}, the type of the student's weights",
                got=f"a number too large in row {row}",
                remedy="Scale the features, or build the student in double precision.",
            )
        labels = torch.tensor(data.labels, dtype=torch.int64, device=like.device)
        return Labelled(features, labels), joined

    def batches(self, count: int, *, seed: int, epoch: int) -> list[tuple[Tensor, int]]:
        """Row numbers of each batch of an epoch, its labelled ones first, and how many those are.

        Every sample occurs once. The `count` batches differ by at most one or two samples, and each
        has its share of the labelled ones, so that no gradient rests on a tiny remainder.
        """
        labelled, total = len(self.labels), len(self.features)
        random = stream(seed, "shuffle", epoch)
        first = np.array_split(random.permutation(labelled), count)
        # The longer parts of one come with the shorter parts of the other.
        rest = np.array_split(labelled + random.permutation(total - labelled), count)[::-1]
        device = self.features.device
        return [
            (torch.from_numpy(np.concatenate([a, b])).to(device), len(a))
            for a, b in zip(first, rest, strict=True)
        ]
