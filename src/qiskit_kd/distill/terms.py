# SPDX-License-Identifier: Apache-2.0
"""`Term`: one named, weighted loss of a training objective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real

from torch import nn

from qiskit_kd.distill.losses import Loss, losses
from qiskit_kd.errors import DistillError

__all__ = ["Ramp", "Term"]


@dataclass(frozen=True, slots=True)
class Ramp:
    """A weight factor that goes linearly from one value to another, then stays.

    Args:
        first: Factor in the first epoch.
        last: Factor after `epochs` epochs.
        epochs: Length of the ramp, at least 1.

    Raises:
        DistillError: For a ramp without length.
    """

    first: float
    last: float
    epochs: int

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise DistillError(
                "a ramp takes at least one epoch", got=str(self.epochs), expected="epochs >= 1",
                remedy="For a constant weight leave the schedule out.",
            )  # fmt: skip

    def __call__(self, epoch: int) -> float:
        """Factor in `epoch`, counted from 0."""
        return self.first + (self.last - self.first) * min(epoch / self.epochs, 1.0)


@dataclass(frozen=True)
class Term:
    """A loss, its weight, and between which tensors it is taken.

    Args:
        loss: A `Loss`, or the name of a registered one.
        weight: Factor in the objective; 0 logs the term without training on it.
        name: What histories and messages call it; the loss's name by default.
        options: Keyword options of the loss. A module among them (an adapter) is trained along.
        schedule: Factor on the weight by epoch, see `Ramp`.
        layers: Module paths `(student, teacher)` of the features to compare, for feature losses;
            without, they compare logits.

    Raises:
        DistillError: For an unknown option, a weight that is not finite, or layers given to a loss
            on logits.
        UnknownNameError: For an unknown loss.
    """

    loss: str | Loss
    weight: float = 1.0
    name: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    schedule: Ramp | None = field(default=None, kw_only=True)
    layers: tuple[str, str] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.resolved.check(self.options)
        if not isinstance(self.weight, Real) or not math.isfinite(self.weight):
            raise DistillError(
                f"the weight of the term {self.label!r} is a finite number", got=repr(self.weight),
                remedy="Use 0 to log a term without training on it.",
            )  # fmt: skip
        if self.layers is not None and not self.resolved.features:
            raise DistillError(
                f"the loss {self.resolved.name!r} compares class logits",
                got=f"layers {tuple(self.layers)}", expected="no layers",
                remedy="Feature losses: "
                + ", ".join(name for name in losses if losses[name].features) + ".",
            )  # fmt: skip

    @property
    def resolved(self) -> Loss:
        """The loss itself."""
        return losses[self.loss] if isinstance(self.loss, str) else self.loss

    @property
    def label(self) -> str:
        """What histories and messages call the term."""
        return self.name or self.resolved.name

    @property
    def modules(self) -> list[nn.Module]:
        """Modules among the options, to be trained along with the student."""
        return [option for option in self.options.values() if isinstance(option, nn.Module)]

    def weight_at(self, epoch: int) -> float:
        """Weight in `epoch`, counted from 0."""
        return self.weight * (1.0 if self.schedule is None else self.schedule(epoch))

    def describe(self) -> dict[str, object]:
        """Plain values that identify the term, for hashes and records."""
        return {
            "loss": self.resolved.name,
            "weight": self.weight,
            "name": self.label,
            "options": {
                key: str(value) if isinstance(value, nn.Module) else value
                for key, value in sorted(self.options.items())
            },
            "schedule": repr(self.schedule),
            "layers": None if self.layers is None else list(self.layers),
        }


def check_terms(terms: Sequence[Term]) -> None:
    """Refuse an objective that is empty, names two terms alike, or trains on nothing.

    Raises:
        DistillError: As said.
    """
    if not any(term.weight for term in terms):
        raise DistillError(
            "an objective has at least one term of weight other than 0",
            got=f"{len(terms)} terms" if terms else "no terms",
            remedy="For example Term('ce').",
        )
    labels = [term.label for term in terms]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise DistillError(
            "terms are told apart by name", got=f"{sorted(twice)[0]!r} more than once",
            remedy="Give one of them another name=.",
        )  # fmt: skip
