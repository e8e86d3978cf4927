# SPDX-License-Identifier: Apache-2.0
"""Registered parts as an experiment sees them: found by kind, with the options they take.

Nothing here is imported before it is asked for: a worker sets its threads before torch loads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import QiskitKDError

if TYPE_CHECKING:
    from qiskit_kd.distill.losses import Loss

__all__ = ["complaint", "has_temperature", "option_names", "reads_teacher", "registry"]

_HOMES = {
    "student": ("qiskit_kd.nn.students", "students"),
    "loss": ("qiskit_kd.distill.losses", "losses"),
    "adapter": ("qiskit_kd.distill.adapters", "adapters"),
    "data set": ("qiskit_kd.data", "datasets"),
    "perturbation": ("qiskit_kd.data.perturbations", "perturbations"),
}

# Arguments the runner itself gives to builders and losses: no options.
_GIVEN = {
    "seed", "backend", "dtype", "shape", "samples", "num_features", "num_classes", "student",
    "teacher", "target",
}  # fmt: skip


def registry(kind: str) -> Mapping[str, Any]:
    """The registry of `student`, `loss`, `adapter`, `data set` or `perturbation`."""
    module, name = _HOMES[kind]
    found: Mapping[str, Any] = getattr(import_module(module), name)
    return found


def option_names(builder: Callable[..., Any]) -> list[str] | None:
    """Names of the options a registered part takes; None if it takes any."""
    parameters = inspect.signature(builder).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return sorted(p.name for p in parameters if p.name not in _GIVEN)


def reads_teacher(loss: str) -> bool:
    """Whether a loss reads a teacher; one that is not registered may."""
    table = registry("loss")
    return loss not in table or bool(table[loss].teacher)


def has_temperature(loss: Loss) -> bool:
    """Whether a loss takes the option `temperature`."""
    return "temperature" in (option_names(loss.function) or ())


def complaint(loss: Loss, options: Mapping[str, Any], *, num_classes: int) -> str | None:
    """Why a loss refuses its options, found out with one tiny batch; None if it does not."""
    import torch

    logits = torch.linspace(-1.0, 1.0, 4 * num_classes, dtype=torch.float64)
    student, teacher = logits.sin().reshape(4, -1), logits.cos().reshape(4, -1)
    try:
        loss(student, teacher, torch.arange(4) % num_classes, **options)
    except (QiskitKDError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        return str(error)
    return None
