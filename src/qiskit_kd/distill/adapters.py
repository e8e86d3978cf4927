# SPDX-License-Identifier: Apache-2.0
"""Adapters: small trainable maps from a student's features to the shape of its teacher's.

A registered builder is `(student_shape, teacher_shape, *, seed, dtype) -> nn.Module`; shapes are
without the batch. An adapter learns along with the student and is dropped after the training: it
belongs to the loss, so no parameter of it counts as the student's. Reference: Romero et al.
(FitNets), arXiv:1412.6550, section 2.2: regressors between hidden layers.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import nn

from qiskit_kd.errors import DistillError
from qiskit_kd.nn.modules import seeded, seeded_linear
from qiskit_kd.registry import Registry
from qiskit_kd.values import listed, shown, whole

Shape = tuple[int, ...]


class AdapterBuilder(Protocol):
    """What the registry holds."""

    def __call__(
        self, student_shape: Shape, teacher_shape: Shape, *, seed: int, dtype: torch.dtype
    ) -> nn.Module:
        """A module from `(batch, *student_shape)` to `(batch, *teacher_shape)`."""


adapters: Registry[AdapterBuilder] = Registry("adapter")
"""Builders by name."""

_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@adapters.register("channels")
def channels(
    student_shape: Shape, teacher_shape: Shape, *, seed: int, dtype: torch.dtype
) -> nn.Module:
    """A convolution of kernel 1: mixes channels, the same way at every position.

    Shapes are `(channels, ...)` with one to three axes of positions, equal on both sides.

    Raises:
        DistillError: If the positions differ, or there are none.
    """
    own, other = _shapes(student_shape, teacher_shape, dtype)
    kind = _CONVOLUTIONS.get(len(own) - 1)
    if kind is None or own[1:] != other[1:]:
        raise DistillError(
            "the adapter 'channels' keeps the positions of a map and mixes its channels",
            got=f"student {own}, teacher {other}",
            expected="(channels, ...) with one to three axes of equal positions",
            remedy="Use the adapter 'linear', which takes any shape to any other.",
        )
    convolution = kind(own[0], other[0], 1, dtype=dtype, device="meta")
    return seeded(convolution, own[0], seed=seed, name="adapter")


@adapters.register("linear")
def linear(
    student_shape: Shape, teacher_shape: Shape, *, seed: int, dtype: torch.dtype
) -> nn.Module:
    """One linear layer, `(student values + 1) * teacher values` weights; any shapes with an axis.

    Raises:
        DistillError: If one side is a single number per sample without an axis.
    """
    own, other = _shapes(student_shape, teacher_shape, dtype)
    if not own or not other:
        raise DistillError(
            "the adapter 'linear' goes between maps with an axis besides the batch",
            got=f"student {own}, teacher {other}",
            expected="(width,) or more",
            remedy="Choose other layers.",
        )
    layer = seeded_linear(math.prod(own), math.prod(other), seed=seed, name="adapter", dtype=dtype)
    return nn.Sequential(nn.Flatten(), layer, nn.Unflatten(1, other))


def _shapes(student: object, teacher: object, dtype: object) -> tuple[Shape, Shape]:
    """Both shapes as Python's numbers, for weights of a floating-point type."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise DistillError(
            "an adapter's weights are real numbers",
            got=f"dtype={shown(dtype)}",
            expected="torch.float32 or torch.float64",
        )
    rule = "a shape is a list of whole numbers, without the batch"
    sizes = [listed(shape, rule, error=DistillError) for shape in (student, teacher)]
    own, other = (
        tuple(whole(n, rule, least=1, error=DistillError) for n in part) for part in sizes
    )
    return own, other
