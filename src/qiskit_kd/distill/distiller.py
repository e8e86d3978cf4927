# SPDX-License-Identifier: Apache-2.0
"""`Distiller`: the training loop, granular by step, resumable to the bit.

All data, labels and teacher outputs are tensors before the first step; a step is one gather, one
forward pass, the losses, one backward pass and one fused optimiser call. What a step does depends
only on the configuration and on what a checkpoint keeps, so a run that was interrupted anywhere
ends, on a CPU, with the same bits as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from qiskit_kd.distill.batches import (
    AnySamples,
    Labelled,
    check_samples,
    check_training,
    labelled_sets,
    unlabelled,
)
from qiskit_kd.distill.callbacks import Callback, History, Progress, State
from qiskit_kd.distill.checkpoints import Keeper, run_hash
from qiskit_kd.distill.objective import Objective, check_sources, named, norm, student_layers
from qiskit_kd.distill.optimizers import AnyOptimizer, make_optimizer, optimizer_name
from qiskit_kd.distill.outputs import FeatureCapture, check_logits, class_rows, passed
from qiskit_kd.distill.teacher import Teacher
from qiskit_kd.distill.terms import Term, check_terms
from qiskit_kd.errors import DistillError
from qiskit_kd.execution.engine import with_job_context
from qiskit_kd.nn.modules import as_student
from qiskit_kd.nn.shots import warn_few_shots
from qiskit_kd.seeding import derive
from qiskit_kd.values import real, shown, whole

CHUNK = 4096
"""Rows per forward pass of the validation; bounds memory where a network has many patches."""


class Distiller:
    """Trains a student on a weighted sum of terms.

    Args:
        student: Maps `(batch, ...)` samples to `(batch, classes)` logits. A bare `QuantumLayer` of
            class probabilities becomes the student it makes, of logits `log p`: see `student`.
        terms: The objective, e.g. `[Term("ce"), Term("kl", 0.9, options={"temperature": 2})]`.
        teacher: Where soft targets and feature maps come from; needed if a term needs it. Several
            by name, `{"soft": ..., "maps": ...}`, for terms that say `teacher="soft"`.
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
        checkpoint_dir: Where to keep checkpoints; a run found there is continued.
        checkpoint_epochs: Write one every so many epochs (and at the end).
        checkpoint_steps: Also write one every so many steps.
        keep_start: Whether the weights it starts with may be the best ones, as epoch 0: for a
            student that is trained already. That is one validation more.
        callbacks: Hooks, see `Callback`.
        progress: Show a progress bar.

    Raises:
        DistillError: If options are out of range, the terms are no objective, a teacher is missing
            or is the student itself, a layer does not exist, or the student has nothing to train.
        UnknownNameError: For an unknown optimiser or teacher.
    """

    def __init__(
        self,
        student: nn.Module,
        terms: Sequence[Term],
        *,
        teacher: Teacher | Mapping[str, Teacher] | None = None,
        optimizer: AnyOptimizer = "adam",
        optimizer_options: Mapping[str, Any] | None = None,
        learning_rate: float = 0.01,
        epochs: int = 100,
        batch_size: int = 32,
        steps_per_epoch: int | None = None,
        steps: Literal["equal", "unequal"] = "equal",
        patience: int | None = None,
        metric: Literal["loss", "accuracy"] = "loss",
        seed: int = 0,
        gradient_every: int = 1,
        checkpoint_dir: str | Path | None = None,
        checkpoint_epochs: int = 1,
        checkpoint_steps: int | None = None,
        keep_start: bool = False,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
    ) -> None:
        self.student = as_student(_module(student))
        self.terms = _terms(terms)
        self.teachers = named(teacher)
        self._options: dict[str, Any] = {
            "optimizer": optimizer_name(optimizer, optimizer_options),
            "optimizer_options": {  # as plain data, which checkpoints keep
                key: value.item() if isinstance(value, np.generic) else value
                for key, value in (optimizer_options or {}).items()
            },
            "learning_rate": real(
                learning_rate,
                "learning_rate is a positive number",
                least=0,
                strict=True,
                error=DistillError,
                expected="a positive learning_rate",
            ),
            "epochs": epochs,
            "batch_size": batch_size,
            "steps_per_epoch": steps_per_epoch,
            "steps": steps,
            "patience": patience,
            "metric": metric,
            "seed": seed,
            "gradient_every": gradient_every,
            **({"keep_start": True} if keep_start else {}),
        }
        self.keep_start = bool(keep_start)
        self.epochs, self.batch_size, self.patience = epochs, batch_size, patience
        self.steps_per_epoch, self.steps = steps_per_epoch, steps
        self.metric, self.seed, self.gradient_every = metric, seed, gradient_every
        if not isinstance(checkpoint_dir, str | Path | None):
            raise DistillError(
                "checkpoints are kept in a folder", got=shown(checkpoint_dir), expected="a path"
            )
        self._folder = None if checkpoint_dir is None else Path(checkpoint_dir)
        self._save_epochs, self._save_steps = checkpoint_epochs, checkpoint_steps
        self._callbacks = [*_callbacks(callbacks), *([Progress()] if progress else [])]
        check_terms(self.terms)
        check_sources(student, self.terms, self.teachers)
        self._check_options()
        self.adapters: dict[str, nn.Module] = {}
        """Adapters of the latest fit by the label of their term, as its last step left them."""
        self._along = nn.ModuleList()  # what learns along with the student
        if not any(p.requires_grad for p in student.parameters()):
            raise DistillError(
                "a student has at least one trainable parameter",
                got="none",
                remedy="Unfreeze it: student.requires_grad_(True).",
            )
        self._optimizer = optimizer
        self._make_optimizer()  # refuses an unknown name or option here, not in fit

    def _make_optimizer(self) -> Optimizer:
        parts = (self.student, self._along)
        parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
        options = {"lr": self._options["learning_rate"], **self._options["optimizer_options"]}
        return make_optimizer(self._optimizer, parameters, options)

    def _check_options(self) -> None:
        for name, value, low in (
            ("epochs", self.epochs, 1),
            ("batch_size", self.batch_size, 1),
            ("steps_per_epoch", self.steps_per_epoch, 1),
            ("patience", self.patience, 1),
            ("seed", self.seed, 0),
            ("gradient_every", self.gradient_every, 0),
            ("checkpoint_epochs", self._save_epochs, 1),
            ("checkpoint_steps", self._save_steps, 1),
        ):
            if value is None and name in ("steps_per_epoch", "patience", "checkpoint_steps"):
                continue
            number = whole(
                value,
                f"{name} is a whole number of at least {low}",
                least=low,
                error=DistillError,
                remedy="See the documentation of Distiller.",
            )
            field = {"checkpoint_epochs": "_save_epochs", "checkpoint_steps": "_save_steps"}
            setattr(self, field.get(name, name), number)
            if name in self._options:
                self._options[name] = number
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

    def fit(
        self,
        train: AnySamples,
        validation: AnySamples,
        transfer: object = None,
        *,
        num_classes: int | None = None,
    ) -> History:
        """Train, and leave the student with the weights of its best epoch, in eval mode.

        Args:
            train: Labelled samples: a `Dataset`, a pair of arrays or tensors `(x, y)`, a torch data
                set or a `DataLoader` of such pairs. Order and batches are the Distiller's own.
            validation: Labelled samples the best epoch is chosen by.
            transfer: `(m, ...)` samples without labels, in any of those forms; labels are not
                looked at. Terms that need targets do not see them; if every term does, they are
                left out.
            num_classes: Of data other than a `Dataset`; None counts their labels.

        Raises:
            DataError: For data that cannot be learned from.
            DistillError: If student, teacher and data do not fit each other, a term has a weight
                but no gradient, or a value is not finite.
            StorageError: For a checkpoint that is damaged, foreign or cannot be written.
        """
        train, validation = labelled_sets(train, validation, num_classes)
        transfer = unlabelled(transfer)
        check_training(train, transfer)
        check_samples(validation, role="validation set", like=train)
        if all(term.resolved.target for term in self.terms):
            transfer = None
        like = next(p for p in self.student.parameters() if p.requires_grad)
        data, samples = Labelled.of(train, transfer, like=like)
        held_out, _ = Labelled.of(validation, None, like=like)
        with ExitStack() as stack:
            capture = FeatureCapture(self.student, student_layers(self.terms), role="student")
            stack.callback(capture.close)
            objective = self._objective(data, samples, train.num_classes, capture)
            self.adapters = objective.adapters
            modules = [module for term in self.terms for module in term.modules]
            self._along = nn.ModuleList([*modules, *self.adapters.values()])
            optimizer = self._make_optimizer()
            # Hashing all data takes longer than a short epoch; only checkpoints need it.
            config = (
                ""
                if self._folder is None
                else run_hash(
                    self.student,
                    self.terms,
                    self._options,
                    [
                        data.features,
                        data.labels,
                        held_out.features,
                        held_out.labels,
                        *objective.targets.values(),
                    ],
                )
            )
            keeper = Keeper(self._folder, config, self.student, self._along, optimizer)
            state = State(self.epochs)
            if self.gradient_every:
                state.gradients = {term.label: 0.0 for term in self.terms}
            # Dropout draws from torch's global generator; what the caller left there is put back.
            stack.enter_context(torch.random.fork_rng(devices=[]))
            keeper.resume(state)
            # Jobs on a device are journalled with what the training could go on from.
            stack.enter_context(with_job_context(lambda: keeper.packed(state)))
            if self.keep_start and not state.best:
                loss, accuracy = self._merit(state, held_out)
                state.start = {"validation/loss": loss, "validation/accuracy": accuracy}
                self._rank(state, loss, accuracy)
            for callback in self._callbacks:
                stack.callback(callback.on_fit_end, state)
                callback.on_fit_start(state)
            while state.stopped is None:
                self._epoch(state, objective, data, optimizer, keeper)
                self._validate(state, held_out)
                for callback in self._callbacks:
                    callback.on_epoch_end(state)
                if state.stopped is not None or state.epoch % self._save_epochs == 0:
                    keeper.save(state)
        self.student.load_state_dict(state.best_weights)
        self.student.eval()
        warn_few_shots(self.student, held_out.features, what="the trained student", stacklevel=3)
        return History(
            state.curves, state.best_epoch, state.stopped, state.start, self._count(data)
        )

    def dry_step(self, samples: AnySamples) -> None:
        """What the first step of `fit` does on a few labelled samples, but that no weight moves.

        Raises:
            DistillError: As `fit`.
        """
        like = next(p for p in self.student.parameters() if p.requires_grad)
        few, _ = labelled_sets(samples, samples, None)
        data, features = Labelled.of(few, None, like=like)
        with FeatureCapture(self.student, student_layers(self.terms), role="student") as capture:
            objective = self._objective(data, features, few.num_classes, capture)
            rows = torch.arange(len(few.labels))
            objective.check_gradients(objective.values(rows, len(rows)))

    def _objective(
        self, data: Labelled, samples: Any, num_classes: int, capture: FeatureCapture
    ) -> Objective:
        return Objective(
            self.student, self.terms, data, num_classes=num_classes, teachers=self.teachers,
            samples=samples, capture=capture, seed=self.seed,
        )  # fmt: skip

    def _count(self, data: Labelled) -> int:
        """Steps of one epoch."""
        if self.steps_per_epoch is not None:
            return min(self.steps_per_epoch, len(data.labels))
        counted = data.labels if self.steps == "equal" else data.features
        return -(-len(counted) // self.batch_size)

    def _epoch(
        self,
        state: State,
        objective: Objective,
        data: Labelled,
        optimizer: Optimizer,
        keeper: Keeper,
    ) -> None:
        batches = data.batches(self._count(data), seed=self.seed, epoch=state.epoch)
        weights = [term.weight_at(state.epoch) for term in self.terms]
        measures = bool(self.gradient_every) and state.epoch % self.gradient_every == 0
        self.student.train()
        self._along.train()
        if state.batch == 0:
            torch.default_generator.manual_seed(derive(self.seed, "torch", state.epoch))
            state.sums = {term.label: [0.0, 0] for term in self.terms}
            if measures and len(self.terms) > 1:
                state.gradients = objective.gradient_norms(*batches[0])
        for rows, labelled in batches[state.batch :]:
            total = self._total(state, objective, rows, labelled, weights)
            if total is not None:
                optimizer.zero_grad()
                total.backward()  # type: ignore[no-untyped-call]
                if measures and state.batch == 0 and len(self.terms) == 1:
                    gradient = norm([p.grad for p in objective.parameters]) / abs(weights[0])
                    state.gradients = {self.terms[0].label: gradient}
                optimizer.step()
            state.step += 1
            state.batch += 1
            if self._save_steps and state.step % self._save_steps == 0:
                keeper.save(state)
            for callback in self._callbacks:
                callback.on_step_end(state)

    def _total(
        self, state: State, objective: Objective, rows: Tensor, labelled: int, weights: list[float]
    ) -> Tensor | None:
        """The weighted sum of the terms; None if no term with a weight applies to these rows."""
        values = objective.values(rows, labelled)
        if state.step == 0:
            objective.check_gradients(values)
        total: Tensor | None = None
        for term, value, weight in zip(self.terms, values, weights, strict=True):
            if value is None:
                continue
            number = value.item()
            if not math.isfinite(number):
                raise DistillError(
                    f"the term {term.label!r} stays finite",
                    got=f"{number} at step {state.step + 1}, epoch {state.epoch + 1}",
                    remedy=_why_not_finite(self.student),
                )
            sums = state.sums[term.label]
            count = labelled if term.resolved.target else len(rows)
            sums[0] += number * count
            sums[1] += count
            if weight:
                part = value if weight == 1 else value * weight
                total = part if total is None else total + part
        return total

    def _validate(self, state: State, held_out: Labelled) -> None:
        """Close the epoch: record it, keep the best weights, decide whether to stop."""
        loss, accuracy = self._merit(state, held_out)
        state.epoch += 1
        state.batch = 0
        row: dict[str, float] = {"epoch": state.epoch}
        row |= {f"train/{key}": total / max(n, 1) for key, (total, n) in state.sums.items()}
        row |= {f"grad/{key}": value for key, value in state.gradients.items()}
        row |= {"validation/loss": loss, "validation/accuracy": accuracy}
        for key, value in row.items():
            state.curves.setdefault(key, []).append(value)
        self._rank(state, loss, accuracy)
        if state.stopped is not None:
            return
        if state.epoch >= self.epochs:
            state.stopped = "epochs"
        elif self.patience is not None and state.epoch - state.best_epoch >= self.patience:
            state.stopped = "patience"

    def _merit(self, state: State, held_out: Labelled) -> tuple[float, float]:
        """Validation loss and accuracy of the present weights."""
        self.student.eval()
        with torch.no_grad():
            parts = torch.split(held_out.features, CHUNK)
            logits = torch.cat(
                [
                    class_rows(
                        passed(self.student, part, role="student"), len(part), role="student"
                    )
                    for part in parts
                ]
            )
            if state.epoch == 0:
                check_logits(logits, role="student")
            loss = functional.cross_entropy(logits, held_out.labels).item()
            accuracy = (logits.argmax(dim=1) == held_out.labels).double().mean().item()
        self.student.train()
        if not math.isfinite(loss):
            raise DistillError(
                "the validation loss stays finite",
                got=f"{loss} after epoch {state.epoch + 1}",
                remedy=_why_not_finite(self.student),
            )
        return loss, accuracy

    def _rank(self, state: State, loss: float, accuracy: float) -> None:
        """Keep the present weights if they are the best so far."""
        score = [accuracy, -loss] if self.metric == "accuracy" else [-loss]
        if not state.best or score > state.best:
            state.best, state.best_epoch = score, state.epoch
            state.best_weights = deepcopy(self.student.state_dict())


def _module(student: object) -> nn.Module:
    if not isinstance(student, nn.Module):
        raise DistillError(
            "a student is a torch module",
            got=type(student).__name__,
            remedy="Build one: qiskit_kd.students['hybrid'](num_features, num_classes, seed=0).",
        )
    return student


def _terms(terms: object) -> tuple[Term, ...]:
    found = (terms,) if isinstance(terms, Term) else terms
    if not isinstance(found, Sequence) or not all(isinstance(term, Term) for term in found):
        raise DistillError(
            "an objective is a list of terms",
            got=shown(terms),
            expected="[Term(...), ...]",
            remedy="For example [Term('ce'), Term('kl', 0.5)].",
        )
    return tuple(found)


def _callbacks(callbacks: object) -> Sequence[Callback]:
    found = (callbacks,) if isinstance(callbacks, Callback) else callbacks
    if not isinstance(found, Sequence) or not all(isinstance(each, Callback) for each in found):
        raise DistillError(
            "callbacks is a list of Callback objects",
            got=shown(callbacks),
            expected="[...]",
            remedy="Derive from qiskit_kd.distill.Callback and pass an instance.",
        )
    return found


def _why_not_finite(student: nn.Module) -> str:
    """What to do about a loss that is not finite: it is told from the weights."""
    if all(bool(p.isfinite().all()) for p in student.parameters()):
        return (
            "The student's weights are finite, so look at what it makes of them: its outputs, its "
            "samples and the teacher's values; with weights that grew large, lower learning_rate."
        )
    return "The student's weights are not finite any more: lower learning_rate."
