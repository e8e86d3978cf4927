# SPDX-License-Identifier: Apache-2.0
"""Training data as a few tensors, checked once, and the order in which an epoch visits them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

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


@dataclass(frozen=True, eq=False)
class Samples:
    """A labelled data set: `(n, ...)` features, `(n,)` classes from 0, and what messages call it.

    `num_classes` is 0 where nobody has said it yet.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    num_classes: int
    name: str


AnySamples = Dataset | Samples | DataLoader[Any] | TorchDataset[Any] | tuple[Any, Any]
"""What is taken for a labelled data set."""

_TORCH = (DataLoader, TorchDataset)


def labelled_sets(
    train: object, validation: object, num_classes: int | None = None
) -> tuple[Samples, Samples]:
    """Training and validation set, from whatever holds them; None counts the labels of both."""
    sets = _labelled(train, "training set"), _labelled(validation, "validation set")
    said = next((each.num_classes for each in sets if each.num_classes), None)
    if num_classes is not None:
        rule = "num_classes is the number of classes"
        said = whole(num_classes, rule, name="num_classes", least=2, error=DataError)
    largest = max((int(s.labels.max(initial=0)) for s in sets if not s.num_classes), default=1)
    count = said or max(2, 1 + largest)
    first, second = (
        each if each.num_classes else replace(each, num_classes=count) for each in sets
    )
    return first, second


def _labelled(data: object, role: str) -> Samples:
    if isinstance(data, Dataset):  # checked when it was made
        return Samples(data.features, data.labels, data.num_classes, data.name)
    if isinstance(data, Split):
        raise DataError(
            f"the {role} is one part of a split",
            got="a Split",
            expected="a Dataset",
            remedy="fit(split.train, split.validation, split.transfer).",
        )
    known = [getattr(data, key, None) for key in ("features", "labels", "num_classes", "name")]
    if not any(part is None for part in known):
        x, y, count, name = known
        count = whole(count, f"the {role} has at least two classes", least=2, error=DataError)
    else:
        found = collected(data, role)
        if len(found) != 2:
            raise DataError(
                f"the {role} is samples and labels",
                got=shown(data),
                expected="a Dataset, a pair (x, y), a TensorDataset of two or a DataLoader of such",
                remedy="For example fit((x, y), (x_val, y_val)).",
            )
        (x, y), count, name = found, 0, role
    features = numbers(x, f"features of the {role}")
    return Samples(features, class_labels(y, f"labels of the {role}"), count, str(name))


def unlabelled(data: object) -> NDArray[np.float64] | None:
    """The transfer set `(m, ...)`, from whatever holds it; None where it is empty."""
    if data is None:
        return None
    x = getattr(data, "features", None)
    if x is None:
        if isinstance(data, tuple) and len(data) in (1, 2) and getattr(data[0], "ndim", 0) > 1:
            x = data[0]
        else:
            x = (
                next(iter(collected(data, "transfer set")), ())
                if isinstance(data, _TORCH)
                else data
            )
    rows = plain(x, "the transfer set")
    return None if rows.ndim and not rows.size else numbers(rows, "the transfer set")


def collected(data: object, role: str) -> list[Any]:
    """Samples and labels of a pair, a torch data set or a loader, each as one array.

    A loader's batches are read once, in the order of its data set unless a sampler of its own
    decides; what a step sees is the Distiller's business. The generators of torch stay untouched.
    """
    if isinstance(data, tuple | list):
        return list(data)
    if not isinstance(data, _TORCH):
        return []
    if not isinstance(data, DataLoader):
        data = DataLoader(data, batch_size=256)
    elif (
        isinstance(data.sampler, RandomSampler | SequentialSampler) and data.batch_size is not None
    ):
        data = DataLoader(data.dataset, batch_size=256, collate_fn=data.collate_fn)
    try:
        with torch.random.fork_rng(devices=[]):
            batches = [batch if isinstance(batch, tuple | list) else [batch] for batch in data]
            columns = zip(*batches, strict=True)
            return [torch.cat([torch.as_tensor(part) for part in parts]) for parts in columns]
    except QiskitKDError:
        raise
    except Exception as problem:  # a data set is somebody else's code
        raise DataError(
            f"the {role} can be read as tensors",
            got=f"{type(problem).__name__}: {problem}",
            expected="batches (x, y) of tensors",
            remedy="Pass the tensors themselves: fit((x, y), ...).",
        ) from problem


def check_sets(
    train: Samples, validation: Samples, transfer: NDArray[np.float64] | None = None
) -> None:
    """Refuse sets that cannot be learned from, or that do not go together."""
    for role, data in (("training set", train), ("validation set", validation)):
        where = f"the {role} {data.name!r}"
        if not len(data.features) or data.labels.shape != (len(data.features),):
            raise DataError(
                f"{where} has one label per sample, and at least one sample",
                got=f"features {data.features.shape}, labels {data.labels.shape}",
                expected="(n, ...) and (n,), n > 0",
                remedy="Check how it was split.",
            )
        bad = np.flatnonzero((data.labels < 0) | (data.labels >= data.num_classes))
        if len(bad):
            raise DataError(
                f"labels of {where} are classes",
                got=f"{data.labels[bad[0]]} in row {bad[0]}",
                expected=f"0 to {data.num_classes - 1}",
                remedy="Renumber the labels from 0.",
            )
    own, other = (
        f"samples {s.features.shape[1:]}, {s.num_classes} classes" for s in (validation, train)
    )
    if own != other:
        raise DataError(
            f"the validation set {validation.name!r} agrees with the training set in width and "
            "classes",
            got=own,
            expected=other,
            remedy="Take both from one split.",
        )
    if len(np.unique(train.labels)) < 2:
        raise DataError(
            f"the training set {train.name!r} has samples of at least two classes",
            got=f"class {train.labels[0]} only",
            remedy="Draw more samples, or stratify the split.",
        )
    if transfer is not None and transfer.shape[1:] != train.features.shape[1:]:
        raise DataError(
            "the transfer set has samples like the training set's",
            got=f"shape {transfer.shape}",
            expected=f"(m, {train.features.shape[1:]})",
            remedy="Take both from one split.",
        )


@dataclass(frozen=True, eq=False)
class Labelled:
    """Samples with the labelled ones first, as the student takes them.

    Args:
        features: `(n + m, ...)` samples; the last m have no label.
        labels: `(n,)` classes.
        num_classes: Number of classes.
        samples: The features in double precision, as teachers take them.
    """

    features: Tensor
    labels: Tensor
    num_classes: int
    samples: NDArray[np.float64]

    @staticmethod
    def of(data: Samples, transfer: NDArray[np.float64] | None, *, like: Tensor) -> Labelled:
        """Join data and transfer set, on the device and in the dtype of `like`."""
        joined = data.features if transfer is None else np.concatenate([data.features, transfer])
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
        return Labelled(features, labels, data.num_classes, joined)

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
