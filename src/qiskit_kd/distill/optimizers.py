# SPDX-License-Identifier: Apache-2.0
"""Optimisers by name, class or function; by name in torch's fast fused form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from qiskit_kd.errors import DistillError, UnknownNameError
from qiskit_kd.values import shown

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}

AnyOptimizer = str | Callable[[Iterable[Tensor]], Optimizer]
"""A name, a class of optimisers, or a function from parameters to an optimiser."""


def optimizer_name(optimizer: object, options: object) -> str:
    """What identifies the optimiser of a run.

    Raises:
        DistillError: If it is none, or has options that it cannot take.
    """
    if not isinstance(options, Mapping | None):
        raise DistillError(
            "options of an optimiser are named", got=shown(options), expected="a mapping"
        )
    if isinstance(optimizer, str):
        return optimizer
    if isinstance(optimizer, Optimizer) or not callable(optimizer):
        raise DistillError(
            "an optimiser is made for the student's weights and what learns along with them",
            got=type(optimizer).__name__,
            expected="a name, a class, or a function of parameters",
            remedy="For example optimizer=torch.optim.Adam, learning_rate=0.01.",
        )
    if isinstance(optimizer, type):
        return f"{optimizer.__module__}.{optimizer.__qualname__}"
    if options:
        raise DistillError(
            "a function that makes the optimiser knows its options",
            got="optimizer_options too",
            remedy="Set them inside the function, or give a name or a class.",
        )
    return "custom"


def make_optimizer(
    optimizer: AnyOptimizer, parameters: Sequence[Tensor], options: Mapping[str, Any]
) -> Optimizer:
    """The optimiser of these parameters.

    Args:
        optimizer: `"adam"`, `"adamw"` or `"sgd"`, a class of optimisers, or a function.
        parameters: What it moves.
        options: As torch's optimiser of that name or class takes them; a function knows its own.

    Raises:
        UnknownNameError: For another name.
        DistillError: For options it refuses, what makes no optimiser, and L-BFGS.
    """
    if isinstance(optimizer, str | type):
        made = _named(optimizer, parameters, options)
    else:
        rule = "a function from parameters to an optimiser returns one"
        try:
            made = optimizer(parameters)
        except Exception as error:  # somebody else's function
            raise DistillError(
                rule, got=f"{type(error).__name__}: {error}", expected="a torch.optim.Optimizer"
            ) from error
        if not isinstance(made, Optimizer):
            raise DistillError(rule, got=type(made).__name__, expected="a torch.optim.Optimizer")
    if isinstance(made, torch.optim.LBFGS):
        raise DistillError(
            "an optimiser steps once after one backward pass",
            got="LBFGS, which asks for the loss again",
            expected="adam, adamw, sgd or one like them",
            remedy="Train with LBFGS in a loop of your own.",
        )
    return made


def _named(name: str | type, parameters: Sequence[Tensor], options: Mapping[str, Any]) -> Optimizer:
    if isinstance(name, str) and name not in OPTIMIZERS:
        raise UnknownNameError.of("optimizer", name, OPTIMIZERS)
    try:
        if isinstance(name, str):
            return OPTIMIZERS[name](parameters, **{"fused": True, **options})
        made = name(parameters, **options)
        if isinstance(made, Optimizer):
            return made
        raise TypeError(f"{name.__name__} is no torch.optim.Optimizer")
    except (TypeError, ValueError, RuntimeError) as error:
        raise DistillError(
            f"the optimiser {name!r} takes these options",
            got=str(error),
            expected="a positive learning_rate and options of torch.optim",
            remedy="Correct learning_rate or optimizer_options.",
        ) from error
