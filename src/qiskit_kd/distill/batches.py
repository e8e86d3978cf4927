# SPDX-License-Identifier: Apache-2.0
"""Training data as a few tensors, checked once, and the order in which an epoch visits them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qiskit_kd.errors import DataError
from qiskit_kd.seeding import stream

__all__ = ["Labelled", "Samples", "check_samples"]


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
            expected="(n, ...) and (n,), n > 0", remedy="Check how it was split.",
        )  # fmt: skip
    _check_finite(data.features, where)
    bad = np.flatnonzero((data.labels < 0) | (data.labels >= data.num_classes))
    if len(bad):
        raise DataError(
            f"labels of {where} are classes", got=f"{data.labels[bad[0]]} in row {bad[0]}",
            expected=f"0 to {data.num_classes - 1}", remedy="Renumber the labels from 0.",
        )  # fmt: skip
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
            got=f"class {train.labels[0]} only", remedy="Draw more samples, or stratify the split.",
        )  # fmt: skip
    if transfer is not None and len(transfer):
        if transfer.shape[1:] != train.features.shape[1:]:
            raise DataError(
                "the transfer set has samples like the training set's",
                got=f"shape {transfer.shape}", expected=f"(m, {train.features.shape[1:]})",
                remedy="Take both from one split.",
            )  # fmt: skip
        _check_finite(transfer, "the transfer set")


def _check_finite(features: NDArray[np.float64], where: str) -> None:
    # One sum finds NaN and infinity alike; only then is the row looked for.
    with np.errstate(over="ignore", invalid="ignore"):
        total = features.sum()
    if not np.isfinite(total) and not (finite := np.isfinite(features)).all():
        row = int(np.argwhere(~finite)[0][0])
        raise DataError(
            f"features of {where} are finite numbers", got=f"NaN or infinity in row {row}",
            remedy="Remove or impute the row.",
        )  # fmt: skip


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
