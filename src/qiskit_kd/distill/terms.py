# SPDX-License-Identifier: Apache-2.0
"""`Term`: one named, weighted loss of a training objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from qiskit_kd.distill.adapters import AdapterBuilder, adapters
from qiskit_kd.distill.losses import Loss, losses
from qiskit_kd.errors import DistillError
from qiskit_kd.values import real, shown, whole


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
        for key in ("first", "last"):
            number = real(getattr(self, key), f"{key} of a ramp is a number", error=DistillError)
            object.__setattr__(self, key, number)
        epochs = whole(
            self.epochs,
            "a ramp takes at least one epoch",
            least=1,
            error=DistillError,
            expected="epochs >= 1",
            remedy="For a constant weight leave the schedule out.",
        )
        object.__setattr__(self, "epochs", epochs)

    def __call__(self, epoch: int) -> float:
        """Factor in `epoch`, counted from 0."""
        return self.first + (self.last - self.first) * min(epoch / self.epochs, 1.0)


@dataclass(frozen=True, init=False)
class Term:
    """A loss, its weight, and between which tensors it is taken.

    Args:
        loss: A `Loss`, or the name or the function of a registered one.
        weight: Factor in the objective; 0 logs the term without training on it.
        name: What histories and messages call it; the loss's name by default.
        options: Options of the loss, or as keywords of their own: `Term("kl", temperature=4)`. A
            module among them is trained along.
        schedule: Factor on the weight by epoch, see `Ramp`.
        layers: Module paths `(student, teacher)` of the features to compare, for feature losses;
            without, they compare logits.
        teacher: Which of the Distiller's teachers the loss reads, by name; None: the only one.
        adapter: What brings the student's features to the teacher's shape before a feature loss
            sees them, trained along with the student: a name in `adapters` or a builder like
            those, built when a fit knows both shapes (the student's from one sample), or a module.

    Raises:
        DistillError: For an unknown option, a weight that is not finite, layers or an adapter given
            to a loss on logits, or a teacher given to a loss that reads none.
        UnknownNameError: For an unknown loss or adapter.
    """

    loss: Loss
    weight: float
    name: str | None
    options: Mapping[str, object]
    schedule: Callable[[int], float] | None
    layers: tuple[str, str] | None
    teacher: str | None
    adapter: str | AdapterBuilder | nn.Module | None

    def __init__(
        self,
        loss: str | Loss | Callable[..., Any],
        weight: float = 1.0,
        name: str | None = None,
        options: Mapping[str, object] | None = None,
        *,
        schedule: Callable[[int], float] | None = None,
        layers: tuple[str, str] | None = None,
        teacher: str | None = None,
        adapter: str | AdapterBuilder | nn.Module | None = None,
        **keywords: object,
    ) -> None:
        given = {} if options is None else options
        given = {**given, **keywords} if keywords else given
        values = (_loss(loss), weight, name, given, schedule, layers, teacher, adapter)
        for each, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, each.name, value)
        if not isinstance(name, str | None) or name == "":
            raise DistillError("a term's name is text", got=shown(name), expected="a name, or None")
        object.__setattr__(self, "options", self.loss.check(given))
        number = real(
            weight,
            f"the weight of the term {self.label!r} is a finite number",
            error=DistillError,
            remedy="Use 0 to log a term without training on it.",
        )
        if type(weight) not in (int, float):
            object.__setattr__(self, "weight", number)
        if schedule is not None and not callable(schedule):
            raise DistillError(
                f"the schedule of the term {self.label!r} is a function of the epoch",
                got=shown(schedule),
                expected="Ramp(first, last, epochs), or a function",
            )
        self._check_features()
        if teacher is not None and not isinstance(teacher, str):
            raise DistillError(
                "a term names its teacher",
                got=type(teacher).__name__,
                expected="a name",
                remedy="Pass the teachers to the Distiller, as teacher={'name': ...}.",
            )
        if teacher is not None and not self.loss.teacher:
            raise DistillError(
                f"the loss {self.loss.name!r} reads no teacher",
                got=f"{teacher!r}",
                remedy="Leave teacher= out of this term.",
            )

    def _check_features(self) -> None:
        for key, value in (("layers", self.layers), ("adapter", self.adapter)):
            if value is not None and not self.loss.features:
                known = ", ".join(name for name in losses if losses[name].features)
                raise DistillError(
                    f"the loss {self.loss.name!r} compares class logits",
                    got=f"{key} {value!r}",
                    expected=f"no {key}",
                    remedy=f"Feature losses: {known}.",
                )
        if self.layers is not None and (
            not isinstance(self.layers, tuple | list)
            or [type(path) for path in self.layers] != [str, str]
        ):
            raise DistillError(
                f"the layers of the term {self.label!r} are two module paths",
                got=repr(self.layers),
                expected="(student's, teacher's)",
                remedy="For example layers=('filters', 'filters').",
            )
        if isinstance(self.adapter, nn.Module | None):
            return
        if not isinstance(self.adapter, str) and not callable(self.adapter):
            raise DistillError(
                f"the adapter of the term {self.label!r} is a name or a module",
                got=type(self.adapter).__name__,
                expected=f"one of {', '.join(adapters)}",
                remedy="Or pass a torch.nn.Module.",
            )
        if isinstance(self.adapter, str):
            adapters[self.adapter]
        if not self.loss.teacher:
            raise DistillError(
                "an adapter by name leads to the shape of a teacher's features",
                got=f"{shown(self.adapter)} for the loss {self.loss.name!r}, which reads no "
                "teacher",
                remedy="Pass a module, or leave the adapter out.",
            )

    @property
    def label(self) -> str:
        """What histories and messages call the term."""
        return self.name or self.loss.name

    @property
    def modules(self) -> list[nn.Module]:
        """Modules among the options, to be trained along with the student."""
        return [option for option in self.options.values() if isinstance(option, nn.Module)]

    @property
    def paths(self) -> tuple[str, str]:
        """Module paths `(student, teacher)` of what is compared; empty for logits."""
        own, other = self.layers or ("", "")
        return own, other

    def weight_at(self, epoch: int) -> float:
        """Weight in `epoch`, counted from 0."""
        return self.weight * (1.0 if self.schedule is None else self.schedule(epoch))

    def describe(self) -> dict[str, object]:
        """Plain values that identify the term, for hashes and records."""
        return {
            "loss": self.loss.name,
            "weight": self.weight,
            "name": self.label,
            "options": {
                key: str(value) if isinstance(value, nn.Module) else value
                for key, value in sorted(self.options.items())
            },
            "schedule": repr(self.schedule),
            "layers": None if self.layers is None else list(self.layers),
            "teacher": self.teacher,
            "adapter": _described(self.adapter),
        }


def _loss(given: object) -> Loss:
    """The loss that a name, a `Loss` or a registered function stands for."""
    if isinstance(given, str):
        return losses[given]
    if isinstance(given, Loss):
        return given
    found = next((each for each in losses.values() if each.function is given), None)
    if found is None:
        known = callable(given)
        raise DistillError(
            "a term is made of a loss",
            got=shown(given),
            expected="a name or a Loss",
            remedy="Say what the function reads: Loss('mine', function, teacher=True)."
            if known
            else f"Known: {', '.join(losses)}.",
        )
    return found


def _described(adapter: object) -> str | None:
    """What identifies an adapter."""
    if isinstance(adapter, nn.Module):
        return str(adapter)
    if adapter is None or isinstance(adapter, str):
        return adapter
    known = adapters.name_of(adapter)
    return known or f"{adapter.__module__}.{getattr(adapter, '__qualname__', adapter)}"


def check_terms(terms: Sequence[Term]) -> None:
    """Refuse an objective that is empty, names two terms alike, or trains on nothing."""
    if not any(term.weight for term in terms):
        raise DistillError(
            "an objective has at least one term of weight other than 0",
            got=f"{len(terms)} terms" if terms else "no terms",
            remedy="For example Term('ce').",
        )
    labels = [term.label for term in terms]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise DistillError(
            "terms are told apart by name",
            got=f"{sorted(twice)[0]!r} more than once",
            remedy="Give one of them another name=.",
        )
