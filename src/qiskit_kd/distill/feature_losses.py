# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG001 - every loss takes a target, and none of these reads it
"""Losses between intermediate tensors, or between the relations of samples in a batch.

Same form as in `losses`, with `(batch, ...)` features f of the student and g of the teacher, of
equal shapes unless said. The relational ones (RKD, kernel alignment) compare sample with sample, so
f and g may differ in width; they also work on logits. Fewer samples than a relation needs, and
features that are all equal, give 0 with a zero gradient, never NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from qiskit_kd.distill.losses import loss
from qiskit_kd.errors import DistillError


def _norm(vectors: Tensor) -> Tensor:
    """Euclidean norm over the last axis; where its square underflows, 0 with gradient 0."""
    square = vectors.square().sum(dim=-1)
    positive = square > torch.finfo(square.dtype).tiny
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0)


def _unit(vectors: Tensor, length: Tensor) -> Tensor:
    """Vectors over the last axis divided by their lengths; zeros stay zeros."""
    length = length.unsqueeze(-1)
    return vectors / torch.where(length > 0, length, 1)


def _check_shapes(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise DistillError(
            "feature maps are compared element by element",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="equal shapes",
            remedy="Set the term's adapter ('channels' for other channels at equal positions, "
            "'linear' for any shape), or use a relational loss such as 'rkd_distance'.",
        )


@loss("feature_mse", teacher=True, features=True)
def feature_mse(student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
    """Mean squared difference of feature maps, `mean (f - g)^2`.

    References:
        Romero et al. (FitNets), arXiv:1412.6550, eq. 3.
    """
    _check_shapes(student, teacher)
    return functional.mse_loss(student, teacher)


@loss("feature_cosine", teacher=True, features=True)
def feature_cosine(student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
    """Angle between flattened feature maps, `mean_b (1 - f_b . g_b / (||f_b|| ||g_b||))`.

    The scale of either side plays no part. A map of zeros has no direction: it counts as orthogonal
    and gets no gradient.

    References:
        Sanh et al. (DistilBERT), arXiv:1910.01108, section 2: the cosine embedding loss.
    """
    _check_shapes(student, teacher)
    f, g = student.flatten(start_dim=1), teacher.flatten(start_dim=1)
    length_f, length_g = _norm(f), _norm(g)
    directed = (length_f > 0) & (length_g > 0)
    # One after the other: the product of two tiny lengths would be zero.
    cosine = (_unit(f, length_f) * _unit(g, length_g)).sum(dim=-1)
    return 1 - torch.where(directed, cosine, 0).mean()


def _attention_map(features: Tensor, power: float) -> Tensor:
    """`(batch, channels, ...)` to `(batch, positions)`, normalised per sample."""
    energy = features.abs().pow(power).mean(dim=1).flatten(start_dim=1)
    return functional.normalize(energy, dim=-1)


@loss("attention", teacher=True, features=True)
def attention(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *, power: float = 2.0
) -> Tensor:
    """Attention transfer, `mean_b sum_x (Q(f)_x - Q(g)_x)^2`.

    `Q(f) = q / ||q||_2` with `q_x = mean_c |f_cx|^p` of `(batch, channels, ...)` maps with equal
    positions, p = `power` >= 1: where a network looks, whatever its number of channels. The square
    replaces the paper's norm, which has no gradient at equality.

    References:
        Zagoruyko and Komodakis, arXiv:1612.03928, eq. 2.
    """
    if power < 1:
        raise DistillError(
            "the power of an attention map is at least 1", got=str(power), remedy="2 is customary."
        )
    if student.ndim < 3 or student.shape[2:] != teacher.shape[2:]:
        raise DistillError(
            "attention maps are compared position by position",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="(batch, channels, ...) with equal positions",
            remedy="Choose layers of equal height and width, or set the term's adapter to "
            "'linear'.",
        )
    difference = _attention_map(student, power) - _attention_map(teacher, power)
    return difference.square().sum(dim=-1).mean()


def _compared(
    student: Tensor, teacher: Tensor, relation: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """Huber loss between relations of all unordered pairs of different samples."""
    size = len(student)
    if size < 2:
        return student.sum() * 0  # still hangs on the student: no fault to differentiate it
    pairs = torch.triu_indices(size, size, offset=1, device=student.device)
    first, second = (
        relation(f.flatten(start_dim=1), pairs[0], pairs[1]) for f in (student, teacher)
    )
    return functional.smooth_l1_loss(first, second)


def _relative_distances(flat: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Distances of the pairs, in units of their mean."""
    distance = _norm(flat[first] - flat[second])
    mean = distance.mean()
    return distance / torch.where(mean > 0, mean, 1)


@loss("rkd_distance", teacher=True, features=True)
def rkd_distance(student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
    """Relational distillation by distance, `mean_(i<j) huber(d_ij(f) - d_ij(g))`.

    `d_ij(f) = ||f_i - f_j|| / mean_(i<j) ||f_i - f_j||`. Fewer than two samples give 0.

    References:
        Park et al., arXiv:1904.05068, eq. 4 to 7 (mean over pairs for the sum).
    """
    return _compared(student, teacher, _relative_distances)


def _cosines(features: Tensor) -> Tensor:
    """`(batch, batch, batch)` cosines `[j, i, k]` of the angle at j between i and k."""
    flat = features.flatten(start_dim=1)
    edges = flat.unsqueeze(0) - flat.unsqueeze(1)
    edges = _unit(edges, _norm(edges))
    return edges @ edges.mT


@loss("rkd_angle", teacher=True, features=True)
def rkd_angle(student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
    """Relational distillation by angle, `mean_ijk huber(cos_ijk(f) - cos_ijk(g))`.

    `cos_ijk` is the cosine of the angle at j in the triangle of three different samples. Fewer than
    three samples give 0; time and memory grow with the cube of the batch.

    References:
        Park et al., arXiv:1904.05068, eq. 8 and 9 (mean over triplets for the sum).
    """
    size = len(student)
    if size < 3:
        return student.sum() * 0
    error = functional.smooth_l1_loss(_cosines(student), _cosines(teacher), reduction="none")
    # An edge of i = j is zero on both sides; only i = k has to be taken out.
    total = error.sum() - error.diagonal(dim1=1, dim2=2).sum()
    return total / (size * (size - 1) * (size - 2))


def _fidelities(flat: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Squared overlaps of the normalised feature vectors of the pairs."""
    unit = _unit(flat, _norm(flat))
    return (unit[first] * unit[second]).sum(dim=-1).square()


@loss("kernel_alignment", teacher=True, features=True)
def kernel_alignment(student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
    """Alignment of fidelity kernels, `mean_(i<j) huber(K_ij(f) - K_ij(g))`.

    `K_ij(f) = (f_i . f_j)^2 / (||f_i||^2 ||f_j||^2)`, the fidelity of amplitude-encoded features.
    The gradient flows through the student's kernel. Fewer than two samples give 0.

    References:
        Liu et al. (QRKD), arXiv:2508.13054: the kernel term.
    """
    return _compared(student, teacher, _fidelities)
