# SPDX-License-Identifier: Apache-2.0
"""Registered parts as an experiment sees them: found by kind, with the options they take.

Nothing here is imported before it is asked for: a worker sets its threads before torch loads.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from qiskit_kd.errors import QiskitKDError

if TYPE_CHECKING:
    from qiskit_kd.distill.losses import Loss

_HOMES = {
    "student": ("qiskit_kd.nn.students", "students"),
    "loss": ("qiskit_kd.distill.losses", "losses"),
    "adapter": ("qiskit_kd.distill.adapters", "adapters"),
    "data set": ("qiskit_kd.data", "datasets"),
    "perturbation": ("qiskit_kd.data.perturbations", "perturbations"),
}

# Arguments the runner itself gives to builders and losses: no options.
_GIVEN = {
    "seed",
    "backend",
    "dtype",
    "shape",
    "samples",
    "num_features",
    "num_classes",
    "student",
    "teacher",
    "target",
}


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


def option_fault(builder: Callable[..., Any], what: str, option: str, value: object) -> str | None:
    """Why a registered part does not take an option; None if it does.

    Args:
        builder: The part.
        what: What messages call it.
        option: Name of the option.
        value: Its value.
    """
    known = option_names(builder)
    if known is None:
        return None
    if option not in known:
        near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return (
            f"unknown option of the {what}; got {option!r}. {hint}"
            f"known: {', '.join(known) or 'none'}"
        )
    adapter = _adapter(builder, option)
    if adapter is None:
        return None
    try:
        understood = adapter.validate_python(value)
    except ValidationError as error:
        message = str(error.errors(include_url=False)[0]["msg"])
        expected: str | None = message.removeprefix("Input should be ")
    else:
        expected = _turned_into(value, understood)
    return None if expected is None else f"wrong value; got {value!r}; expected {expected}"


@lru_cache(maxsize=512)
def _adapter(builder: Callable[..., Any], option: str) -> TypeAdapter[Any] | None:
    """What checks an option's type; None for one that only the builder itself can check."""
    try:
        hint = typing.get_type_hints(builder).get(option, Any)
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (NameError, TypeError, PydanticSchemaGenerationError, PydanticUserError):
        return None


def _turned_into(value: object, understood: object) -> str | None:
    """What pydantic silently made of a value; builders get the value as it stands."""
    if isinstance(value, list) and isinstance(understood, list | tuple):
        return next(filter(None, map(_turned_into, value, understood)), None)
    kinds: dict[type, str] = {bool: "true or false", int: "an integer", float: "a number"}
    same = type(value) is type(understood) or (type(value), type(understood)) == (int, float)
    return None if same else kinds.get(type(understood))
