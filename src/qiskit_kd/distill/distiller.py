# SPDX-License-Identifier: Apache-2.0
"""`Distiller`: the training loop, granular by step, resumable to the bit.

All data, labels and teacher outputs are tensors before the first step; a step is one gather, one
forward pass, the losses, one backward pass and one fused optimiser call. What a step does depends
only on the configuration and on what a checkpoint keeps, so a run that was interrupted anywhere
ends, on a CPU, with the same bits as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from qiskit_kd.distill.batches import AnySamples, Labelled, check_sets, labelled_sets, unlabelled
from qiskit_kd.distill.callbacks import Callback, History, Progress, State
from qiskit_kd.distill.checkpoints import Keeper, run_hash
from qiskit_kd.distill.losses import Loss
from qiskit_kd.distill.objective import LOGITS, Objective, check_sources, named, norm
from qiskit_kd.distill.outputs import FeatureCapture, check_logits, logits_of
from qiskit_kd.distill.terms import Term, check_terms
from qiskit_kd.distill.training import Training
from qiskit_kd.errors import DistillError
from qiskit_kd.execution.engine import with_job_context
from qiskit_kd.nn.modules import as_student
from qiskit_kd.nn.shots import warn_few_shots
from qiskit_kd.seeding import derive
from qiskit_kd.values import shown

CHUNK = 4096
"""Rows per forward pass of the validation; bounds memory where a network has many patches."""

T = TypeVar("T")


class Distiller:
    """Trains a student on a weighted sum of terms.

    Args:
        student: Maps `(batch, ...)` samples to `(batch, classes)` logits. A bare `QuantumLayer` of
            class probabilities becomes the student it makes, of logits `log p`: see `student`.
        terms: The objective, e.g. `["ce", Term("kl", 0.9, temperature=2)]`.
        teacher: Where soft targets and feature maps come from; needed if a term needs it: a
            `Teacher`, or what `Teacher` takes. Several by name, `{"soft": ..., "maps": ...}`, for
            terms that say `teacher="soft"`.
        training: How it trains; None: as `Training` has it.
        callbacks: Hooks, see `Callback`.
        progress: Show a progress bar.
        options: Fields of `Training`, instead of those in `training`: `epochs=20`.

    Raises:
        DistillError: If options are out of range, the terms are no objective, a teacher is missing
            or is the student itself, a layer does not exist, or the student has nothing to train.
        UnknownNameError: For an unknown optimiser or teacher.
    """

    def __init__(
        self,
        student: nn.Module,
        terms: str | Loss | Term | Sequence[str | Loss | Term],
        *,
        teacher: Any = None,
        training: Training | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
        **options: Any,
    ) -> None:
        if not isinstance(student, nn.Module):
            raise DistillError(
                "a student is a torch module",
                got=type(student).__name__,
                remedy="Build one: qiskit_kd.students['hybrid'](num_features, num_classes, "
                "seed=0).",
            )
        if not isinstance(training, Training | None):
            raise DistillError(
                "how a student is trained is one value", got=shown(training), expected="Training()"
            )
        self.student = as_student(student)
        self.training = replace(training or Training(), **options)
        self.terms = _listed(_as_terms(terms), Term)
        self.teachers = named(teacher)
        self._callbacks = _listed(callbacks, Callback)
        self._callbacks += (Progress(),) if progress else ()
        check_terms(self.terms)
        check_sources(student, self.terms, self.teachers)
        if not any(p.requires_grad for p in student.parameters()):
            raise DistillError(
                "a student has at least one trainable parameter",
                got="none",
                remedy="Unfreeze it: student.requires_grad_(True).",
            )
        self.adapters: dict[str, nn.Module] = {}
        """Adapters of the latest fit by the label of their term, as its last step left them."""
        self._along = nn.ModuleList()  # what learns along with the student
        self._make_optimizer()  # refuses an unknown name or option here, not in fit

    def _make_optimizer(self) -> Optimizer:
        learning = [*self.student.parameters(), *self._along.parameters()]
        return self.training.make_optimizer([p for p in learning if p.requires_grad])

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
        check_sets(train, validation, transfer)
        if all(term.loss.target for term in self.terms):
            transfer = None
        data, held_out = self._tensors(train, transfer), self._tensors(validation)
        with ExitStack() as stack:
            objective = self._objective(data, stack)
            self.adapters = objective.adapters
            modules = [module for term in self.terms for module in term.modules]
            self._along = nn.ModuleList([*modules, *self.adapters.values()])
            optimizer = self._make_optimizer()
            keeper = self._keeper(objective, held_out, optimizer)
            state = State(self.training.epochs)
            if self.training.gradient_every:
                state.gradients = {term.label: 0.0 for term in self.terms}
            # Dropout draws from torch's global generator; what the caller left there is put back.
            stack.enter_context(torch.random.fork_rng(devices=[]))
            keeper.resume(state)
            # Jobs on a device are journalled with what the training could go on from.
            stack.enter_context(with_job_context(lambda: keeper.packed(state)))
            if self.training.keep_start and not state.best:
                state.start = self._merit(state, held_out)
                self._rank(state, state.start)
            for callback in self._callbacks:
                stack.callback(callback.on_fit_end, state)
                callback.on_fit_start(state)
            while state.stopped is None:
                self._epoch(state, objective, optimizer, keeper)
                self._validate(state, held_out)
                for callback in self._callbacks:
                    callback.on_epoch_end(state)
                if state.stopped is not None or state.epoch % self.training.checkpoint_epochs == 0:
                    keeper.save(state)
        self.student.load_state_dict(state.best_weights)
        self.student.eval()
        warn_few_shots(self.student, held_out.features, what="the trained student", stacklevel=3)
        steps = self.training.steps_of(len(data.labels), len(data.features))
        return History(state.curves, state.best_epoch, state.stopped, state.start, steps)

    def dry_step(self, samples: AnySamples) -> None:
        """What the first step of `fit` does on a few labelled samples, but that no weight moves.

        Raises:
            DistillError: As `fit`.
        """
        few, _ = labelled_sets(samples, samples)
        with ExitStack() as stack:
            objective = self._objective(self._tensors(few), stack)
            rows = torch.arange(len(few.labels))
            objective.check_gradients(objective.values(rows, len(rows)))

    def _tensors(self, data: Any, transfer: Any = None) -> Labelled:
        like = next(p for p in self.student.parameters() if p.requires_grad)
        return Labelled.of(data, transfer, like=like)

    def _objective(self, data: Labelled, stack: ExitStack) -> Objective:
        layers = sorted({term.paths[0] for term in self.terms} - {LOGITS})
        capture = stack.enter_context(FeatureCapture(self.student, layers, role="student"))
        return Objective(self.student, self.terms, data, self.teachers, capture, self.training.seed)

    def _keeper(self, objective: Objective, held_out: Labelled, optimizer: Optimizer) -> Keeper:
        folder, config = self.training.checkpoint_dir, ""
        if folder is not None:  # hashing all data takes longer than a short epoch
            data = objective.data
            tensors = [data.features, data.labels, held_out.features, held_out.labels]
            tensors += objective.targets.values()
            config = run_hash(self.student, self.terms, self.training.describe(), tensors)
        where = None if folder is None else Path(folder)
        return Keeper(where, config, self.student, self._along, optimizer)

    def _epoch(
        self, state: State, objective: Objective, optimizer: Optimizer, keeper: Keeper
    ) -> None:
        training, data = self.training, objective.data
        count = training.steps_of(len(data.labels), len(data.features))
        batches = data.batches(count, seed=training.seed, epoch=state.epoch)
        weights = [term.weight_at(state.epoch) for term in self.terms]
        measures = training.gradient_every and state.epoch % training.gradient_every == 0
        self.student.train()
        self._along.train()
        if state.batch == 0:
            torch.default_generator.manual_seed(derive(training.seed, "torch", state.epoch))
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
            if training.checkpoint_steps and state.step % training.checkpoint_steps == 0:
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
                where = f"at step {state.step + 1}, epoch {state.epoch + 1}"
                raise self._not_finite(f"the term {term.label!r}", f"{number} {where}")
            sums = state.sums[term.label]
            count = labelled if term.loss.target else len(rows)
            sums[0] += number * count
            sums[1] += count
            if weight:
                part = value if weight == 1 else value * weight
                total = part if total is None else total + part
        return total

    def _validate(self, state: State, held_out: Labelled) -> None:
        """Close the epoch: record it, keep the best weights, decide whether to stop."""
        merit = self._merit(state, held_out)  # its jobs are those of the epoch that ends
        state.epoch += 1
        state.batch = 0
        row: dict[str, float] = {"epoch": state.epoch}
        row |= {f"train/{key}": total / max(n, 1) for key, (total, n) in state.sums.items()}
        row |= {f"grad/{key}": value for key, value in state.gradients.items()}
        for key, value in (row | merit).items():
            state.curves.setdefault(key, []).append(value)
        self._rank(state, merit)
        patience = self.training.patience
        if state.stopped is None and state.epoch >= self.training.epochs:
            state.stopped = "epochs"
        elif state.stopped is None and patience and state.epoch - state.best_epoch >= patience:
            state.stopped = "patience"

    def _merit(self, state: State, held_out: Labelled) -> dict[str, float]:
        """Validation loss and accuracy of the present weights."""
        self.student.eval()
        with torch.no_grad():
            found = [
                logits_of(self.student, part, role="student")
                for part in torch.split(held_out.features, CHUNK)
            ]
            logits = torch.cat(found)
            if state.epoch == 0:
                check_logits(logits, role="student")
            loss = functional.cross_entropy(logits, held_out.labels).item()
            accuracy = (logits.argmax(dim=1) == held_out.labels).double().mean().item()
        self.student.train()
        if not math.isfinite(loss):
            raise self._not_finite("the validation loss", f"{loss} after epoch {state.epoch + 1}")
        return {"validation/loss": loss, "validation/accuracy": accuracy}

    def _rank(self, state: State, merit: dict[str, float]) -> None:
        """Keep the present weights if they are the best so far."""
        loss, accuracy = merit.values()
        score = [accuracy, -loss] if self.training.metric == "accuracy" else [-loss]
        if not state.best or score > state.best:
            state.best, state.best_epoch = score, state.epoch
            state.best_weights = deepcopy(self.student.state_dict())

    def _not_finite(self, what: str, got: str) -> DistillError:
        """The error, with what to do about it, which is told from the weights."""
        remedy = "The student's weights are not finite any more: lower learning_rate."
        if all(bool(p.isfinite().all()) for p in self.student.parameters()):
            remedy = (
                "The student's weights are finite, so look at what it makes of them: its outputs, "
                "its samples and the teacher's values; with weights that grew large, lower "
                "learning_rate."
            )
        return DistillError(f"{what} stays finite", got=got, remedy=remedy)


_LISTS: dict[type, tuple[str, str, str]] = {
    Term: (
        "an objective is a list of terms",
        "[Term(...), ...]",
        "For example [Term('ce'), Term('kl', 0.5)].",
    ),
    Callback: (
        "callbacks is a list of Callback objects",
        "[...]",
        "Derive from qiskit_kd.distill.Callback and pass an instance.",
    ),
}


def _as_terms(terms: Any) -> Any:
    """Terms, with names and losses as the terms they are short for."""
    found = [terms] if isinstance(terms, str | Loss) else terms
    if not isinstance(found, Sequence):
        return found
    return [Term(each) if isinstance(each, str | Loss) else each for each in found]


def _listed(given: object, kind: type[T]) -> tuple[T, ...]:
    """One object of a kind, or a list of them."""
    found = (given,) if isinstance(given, kind) else given
    if not isinstance(found, Sequence) or not all(isinstance(each, kind) for each in found):
        rule, expected, remedy = _LISTS[kind]
        raise DistillError(rule, got=shown(given), expected=expected, remedy=remedy)
    return tuple(found)
