# SPDX-License-Identifier: Apache-2.0
"""Teachers that know nothing: what a gain has to beat before it may be called distillation."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from qiskit_kd.distill.teacher import Teacher
from qiskit_kd.errors import DistillError
from qiskit_kd.nn.cache import sample_keys
from qiskit_kd.seeding import stream
from qiskit_kd.values import numbers, whole


class ShuffledTeacher(Teacher):
    """Gives each sample another sample's outputs; see `shuffled`."""

    def __init__(self, teacher: Teacher, seed: int) -> None:
        self._teacher, self._seed = teacher, seed

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The teacher's networks."""
        return self._teacher.modules

    def _order(self, samples: ArrayLike) -> Tensor:
        """The permutation of one data set, a single random cycle: no sample keeps its own."""
        keys = sample_keys(numbers(samples, "samples"))
        if len(keys) < 2:
            raise DistillError(
                "a shuffled teacher swaps outputs between samples",
                got=f"{len(keys)} sample",
                expected="at least 2",
                remedy="Ask it for the whole training set at once.",
            )
        # Drawn over the samples sorted by content, so that their order does not matter.
        by_content = np.array(sorted(range(len(keys)), key=keys.__getitem__))
        cycle = by_content[stream(self._seed, "shuffled teacher").permutation(len(keys))]
        source = np.empty(len(keys), dtype=np.int64)
        source[cycle] = np.roll(cycle, -1)
        return torch.from_numpy(source)

    def logits_for(self, samples: ArrayLike) -> Tensor:
        """The teacher's logits, permuted among these samples."""
        return self._teacher.logits_for(samples)[self._order(samples)]

    def features_for(self, samples: ArrayLike, layer: str) -> Tensor:
        """The teacher's features, permuted among these samples like the logits."""
        return self._teacher.features_for(samples, layer)[self._order(samples)]


class UniformTeacher(Teacher):
    """Gives every sample equal logits; see `uniform`."""

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes

    def logits_for(self, samples: ArrayLike) -> Tensor:
        """Zeros."""
        return torch.zeros(len(numbers(samples, "samples")), self._num_classes, dtype=torch.float64)


def shuffled(teacher: Teacher, seed: int) -> ShuffledTeacher:
    """A placebo: every sample gets the outputs of a random other sample of the same data set.

    The outputs as a whole stay exactly what they were; only their pairing with samples is lost. The
    permutation belongs to the set of samples asked for together (training plus transfer set) and to
    the seed; their order plays no part.

    Raises:
        DistillError: When it is asked for a single sample.
    """
    if not isinstance(teacher, Teacher):
        raise DistillError(
            "a shuffled teacher is made of a Teacher",
            got=type(teacher).__name__,
            remedy="Wrap a network: Teacher.from_module(network).",
        )
    return ShuffledTeacher(teacher, whole(seed, "a seed is a whole number", error=DistillError))


def uniform(num_classes: int) -> UniformTeacher:
    """A placebo: every class is equally likely, for every sample alike.

    Beside the labels this pulls every output towards the uniform distribution, at the temperature
    and with the weight of the term. Label smoothing mixes the labels themselves, and is a loss of
    its own: `label_smoothing`.

    Raises:
        DistillError: For fewer than two classes.
    """
    rule = "a uniform teacher spreads over at least two classes"
    remedy = "Pass the number of classes of the data set."
    return UniformTeacher(whole(num_classes, rule, least=2, error=DistillError, remedy=remedy))
