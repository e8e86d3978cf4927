# SPDX-License-Identifier: Apache-2.0
"""`Training`: how a student is trained, as one checked value, and the optimiser it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from qiskit_kd.errors import DistillError, UnknownNameError
from qiskit_kd.values import real, shown, whole

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}

_ONE_OR_MORE = (
    *("epochs", "batch_size", "steps_per_epoch", "patience"),
    *("checkpoint_epochs", "checkpoint_steps"),
)
_LEAST = {**dict.fromkeys(_ONE_OR_MORE, 1), "seed": 0, "gradient_every": 0}
_MAY_BE_NONE = ("steps_per_epoch", "patience", "checkpoint_steps")


@dataclass(frozen=True)
class Training:
    """How a `Distiller` trains; each field is a keyword of the `Distiller` too.

    Args:
        optimizer: `"adam"`, `"adamw"`, `"sgd"`, a class of optimisers, or a function from
            parameters to an optimiser.
        optimizer_options: Further options of an optimiser by name or class, e.g. `weight_decay`.
        learning_rate: Step size of an optimiser by name or class.
        epochs: Passes over the data at most.
        batch_size: Labelled samples per step at most; an epoch's batches are made equally large.
            Samples of a transfer set come along in their share, so that a student that is taught
            takes as many steps as one that is not.
        steps_per_epoch: Instead of `batch_size`; at most one per labelled sample.
        steps: `"unequal"`: `batch_size` counts the samples of a transfer set too, so that a student
            that is taught takes more steps. A gain over one that is not may come from these alone.
        patience: Stop after this many epochs without a better validation metric; None never does.
        metric: What the best epoch is chosen by: validation cross entropy or accuracy (of equal
            accuracies the one with the smaller loss).
        seed: Root of all randomness: order of samples, dropout.
        gradient_every: Log gradient norms every so many epochs; in between the last is repeated.
            With several terms this costs one more pass per term, and on a sampled backend shots
            and their place in the random stream. 0 never does.
        keep_start: Whether the weights it starts with may be the best ones, as epoch 0: for a
            student that is trained already. That is one validation more.
        checkpoint_dir: Where to keep checkpoints; a run found there is continued.
        checkpoint_epochs: Write one every so many epochs (and at the end).
        checkpoint_steps: Also write one every so many steps.

    Raises:
        DistillError: If an option is out of range.
    """

    optimizer: str | Callable[[Iterable[Tensor]], Optimizer] = "adam"
    optimizer_options: Mapping[str, Any] | None = None
    learning_rate: float = 0.01
    epochs: int = 100
    batch_size: int = 32
    steps_per_epoch: int | None = None
    steps: Literal["equal", "unequal"] = "equal"
    patience: int | None = None
    metric: Literal["loss", "accuracy"] = "loss"
    seed: int = 0
    gradient_every: int = 1
    keep_start: bool = False
    checkpoint_dir: str | Path | None = None
    checkpoint_epochs: int = 1
    checkpoint_steps: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer_options, Mapping | None):
            raise DistillError(
                "options of an optimiser are named",
                got=shown(self.optimizer_options),
                expected="a mapping",
            )
        if not isinstance(self.checkpoint_dir, str | Path | None):
            raise DistillError(
                "checkpoints are kept in a folder",
                got=shown(self.checkpoint_dir),
                expected="a path",
            )
        taken: dict[str, Any] = {
            "optimizer_options": {  # as plain data, which checkpoints keep
                key: value.item() if isinstance(value, np.generic) else value
                for key, value in (self.optimizer_options or {}).items()
            },
            "learning_rate": real(
                self.learning_rate,
                "learning_rate is a positive number",
                least=0,
                strict=True,
                error=DistillError,
                expected="a positive learning_rate",
            ),
            "keep_start": bool(self.keep_start),
        }
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None or name not in _MAY_BE_NONE:
                taken[name] = whole(
                    value,
                    f"{name} is a whole number of at least {least}",
                    least=least,
                    error=DistillError,
                    remedy="See the documentation of Distiller.",
                )
        for name, value in taken.items():
            object.__setattr__(self, name, value)
        if self.steps not in ("equal", "unequal"):
            raise DistillError(
                "steps says whether a transfer set lengthens an epoch",
                got=repr(self.steps),
                expected="'equal' or 'unequal'",
                remedy="The default is 'equal'.",
            )
        if self.steps == "unequal" and self.steps_per_epoch is not None:
            raise DistillError(
                "as many steps an epoch as `steps_per_epoch` says are equal",
                got="steps='unequal' too",
                remedy="Leave one of them out, or give batch_size instead.",
            )
        if self.metric not in ("loss", "accuracy"):
            raise DistillError(
                "the best epoch is chosen by a validation metric",
                got=repr(self.metric),
                expected="'loss' or 'accuracy'",
                remedy="The default is 'loss'.",
            )

    def describe(self) -> dict[str, Any]:
        """Plain values that decide how a run goes, for the identity of its checkpoints."""
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        left_out = [name for name in kept if name.startswith("checkpoint_")]
        left_out += [] if self.keep_start else ["keep_start"]
        kind = self.optimizer
        known = f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else "custom"
        kept["optimizer"] = kind if isinstance(kind, str) else known
        return {name: value for name, value in kept.items() if name not in left_out}

    def steps_of(self, labelled: int, total: int) -> int:
        """Steps of one epoch over so many samples."""
        if self.steps_per_epoch is not None:
            return min(self.steps_per_epoch, labelled)
        return -(-(labelled if self.steps == "equal" else total) // self.batch_size)

    def make_optimizer(self, parameters: Sequence[Tensor]) -> Optimizer:
        """The optimiser of these parameters; by name in torch's fast fused form."""
        kind = self.optimizer
        if isinstance(kind, Optimizer) or not (isinstance(kind, str) or callable(kind)):
            raise DistillError(
                "an optimiser is made for the student's weights and what learns along with them",
                got=type(kind).__name__,
                expected="a name, a class, or a function of parameters",
                remedy="For example optimizer=torch.optim.Adam, learning_rate=0.01.",
            )
        options, ours = dict(self.optimizer_options or {}), isinstance(kind, str | type)
        if options and not ours:
            raise DistillError(
                "a function that makes the optimiser knows its options",
                got="optimizer_options too",
                remedy="Set them inside the function, or give a name or a class.",
            )
        make: Any = kind
        if ours:
            options = {"lr": self.learning_rate, **options}
        if isinstance(kind, str):
            if kind not in OPTIMIZERS:
                raise UnknownNameError.of("optimizer", kind, OPTIMIZERS)
            make, options = OPTIMIZERS[kind], {"fused": True, **options}
        problem: Exception | None = None
        try:
            made = make(parameters, **options)
            got = type(made).__name__
        except Exception as error:  # somebody else's function
            made, problem = None, error
            got = str(error) if ours else f"{type(error).__name__}: {error}"
        if not isinstance(made, Optimizer):
            rule = "a function from parameters to an optimiser returns one"
            expected, remedy = "a torch.optim.Optimizer", None
            if ours:
                rule = f"the optimiser {kind!r} takes these options"
                expected = "a positive learning_rate and options of torch.optim"
                remedy = "Correct learning_rate or optimizer_options."
            raise DistillError(rule, got=got, expected=expected, remedy=remedy) from problem
        if isinstance(made, torch.optim.LBFGS):
            raise DistillError(
                "an optimiser steps once after one backward pass",
                got="LBFGS, which asks for the loss again",
                expected="adam, adamw, sgd or one like them",
                remedy="Train with LBFGS in a loop of your own.",
            )
        return made
