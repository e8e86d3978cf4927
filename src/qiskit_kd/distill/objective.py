# SPDX-License-Identifier: Apache-2.0
"""The weighted terms of one training run, bound to student, data and the teacher's outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qiskit_kd.distill.adapters import adapters
from qiskit_kd.distill.batches import Labelled
from qiskit_kd.distill.outputs import (
    FeatureCapture,
    check_logits,
    check_paths,
    class_rows,
    engines,
    passed,
    untouched,
)
from qiskit_kd.distill.teacher import Teacher
from qiskit_kd.distill.terms import Term
from qiskit_kd.errors import DistillError, UnknownNameError
from qiskit_kd.nn import Quanvolution
from qiskit_kd.seeding import derive
from qiskit_kd.values import shown

ONLY = "teacher"
"""What a single teacher is called."""


def named(teacher: Teacher | Mapping[str, Teacher] | None) -> dict[str, Teacher]:
    """Teachers by name; one that was given without a name is called `teacher`.

    Raises:
        DistillError: If something else than a `Teacher` is among them.
    """
    if teacher is None:
        return {}
    teachers = dict(teacher) if isinstance(teacher, Mapping) else {ONLY: teacher}
    for name, each in teachers.items():
        if not isinstance(name, str):
            raise DistillError(
                "teachers have names",
                got=shown(name),
                expected="text",
                remedy="teacher={'name': ...}.",
            )
        if not isinstance(each, Teacher):
            raise DistillError(
                f"the teacher {name!r} is a Teacher",
                got=type(each).__name__,
                remedy="Wrap a network: Teacher.from_module(network).",
            )
    return teachers


def source(term: Term, teachers: Mapping[str, Teacher]) -> str | None:
    """Name of the teacher `term` learns from; None if its loss reads none.

    Raises:
        DistillError: If there is no teacher, or several and the term names none.
        UnknownNameError: If the term names a teacher that is not there.
    """
    if not term.resolved.teacher:
        return None
    if not teachers:
        raise DistillError(
            f"the term {term.label!r} needs a teacher",
            got="none",
            expected="teacher=...",
            remedy="Teacher.from_module(...), or train with Term('ce') only.",
        )
    if term.teacher is None:
        if len(teachers) > 1:
            raise DistillError(
                f"the term {term.label!r} says which of several teachers it learns from",
                got="no name",
                expected=f"one of {', '.join(map(repr, sorted(teachers)))}",
                remedy=f"Term({term.resolved.name!r}, ..., teacher={sorted(teachers)[0]!r}).",
            )
        return next(iter(teachers))
    if term.teacher not in teachers:
        raise UnknownNameError.of("teacher", term.teacher, teachers)
    return term.teacher


def check_sources(
    student: nn.Module, terms: Sequence[Term], teachers: Mapping[str, Teacher]
) -> None:
    """Refuse terms without the teacher or layer they need, and a student that teaches itself.

    Raises:
        DistillError: As said.
        UnknownNameError: For a teacher that is not there; the message lists near names.
    """
    for term in terms:
        name, (own, other) = source(term, teachers), term.paths
        check_paths(student, filter(None, [own]), role="student")
        if name is not None and other:
            role = ONLY if len(teachers) == 1 else f"teacher {name!r}"
            for module in teachers[name].modules:
                check_paths(module, [other], role=role)
    weights = {id(parameter) for parameter in student.parameters()}
    for teacher in teachers.values():
        if any(id(p) in weights for module in teacher.modules for p in module.parameters()):
            raise DistillError(
                "a student does not share weights with its teacher",
                got="a common parameter",
                remedy="Build the student anew, or pass a deep copy of it as teacher.",
            )


LOGITS = ""


def student_layers(terms: Sequence[Term]) -> list[str]:
    """Module paths of the student that the terms read."""
    return sorted({term.paths[0] for term in terms} - {LOGITS})


class Objective:
    """Evaluates every term on a batch of rows.

    Args:
        student: The network that learns.
        terms: The terms.
        data: Samples and labels.
        num_classes: Classes of the data set.
        teachers: Sources of soft targets, asked here and only here, for all samples at once.
        samples: The samples in double precision, as the teachers get them.
        capture: Keeps the student's layers that `student_layers` names.
        seed: Of the initial values of adapters.

    Raises:
        DistillError: For a layer that does not exist, or an adapter that does not fit the shapes.
    """

    def __init__(
        self,
        student: nn.Module,
        terms: Sequence[Term],
        data: Labelled,
        *,
        num_classes: int,
        teachers: Mapping[str, Teacher],
        samples: NDArray[np.float64],
        capture: FeatureCapture,
        seed: int,
    ) -> None:
        self.student = student
        self.terms = tuple(terms)
        self._data = data
        self._num_classes = num_classes
        self._capture = capture
        self._looked = False  # whether the student's outputs have been told from probabilities
        self._losses = [term.resolved for term in terms]
        self.parameters = [p for p in student.parameters() if p.requires_grad]
        # What each term reads of a teacher, as a key into the tables.
        self._keys = [(source(term, teachers), term.paths[1]) for term in terms]
        self.targets: dict[tuple[str, str], Tensor] = {}
        for name, layer in self._keys:
            if name is not None and (name, layer) not in self.targets:
                teacher = teachers[name]
                values = (
                    teacher.features_for(samples, layer) if layer else teacher.logits_for(samples)
                )
                self.targets[name, layer] = values.to(data.features)
        self.adapters: dict[str, nn.Module] = self._build_adapters(seed)
        """Adapters by the label of their term."""
        own = [term.paths[0] for term in terms]
        found = [self.adapters.get(term.label) for term in terms]
        self._reads = list(zip(self.terms, self._losses, own, found, self._keys, strict=True))

    def _build_adapters(self, seed: int) -> dict[str, nn.Module]:
        found: dict[str, nn.Module] = {}
        maps: dict[str, Tensor] = {}
        for term, (name, layer) in zip(self.terms, self._keys, strict=True):
            if isinstance(term.adapter, nn.Module):
                found[term.label] = term.adapter
            elif term.adapter is not None and name is not None:
                maps = maps or self._maps_of_one_sample()
                own = maps[term.paths[0]]
                build = adapters[term.adapter] if isinstance(term.adapter, str) else term.adapter
                module = build(
                    tuple(own.shape[1:]),
                    tuple(self.targets[name, layer].shape[1:]),
                    seed=derive(seed, "adapter", term.label),
                    dtype=own.dtype,
                )
                if not isinstance(module, nn.Module):
                    raise DistillError(
                        f"the adapter of the term {term.label!r} builds a module",
                        got=type(module).__name__,
                        expected="a torch.nn.Module",
                    )
                found[term.label] = module.to(own.device)
        return found

    def _maps_of_one_sample(self) -> dict[str, Tensor]:
        """What the student and its captured layers return; nothing in the student changes."""
        drawn = [(engine, engine.position()) for engine in engines(self.student)]
        self.student.eval()
        with ExitStack() as stack:
            for layer in self.student.modules():
                if isinstance(layer, Quanvolution):
                    stack.enter_context(layer.without_memory())
            stack.enter_context(untouched(self.student))
            stack.enter_context(torch.no_grad())
            first = passed(self.student, self._data.features[:1], role="student")
            logits = class_rows(first, 1, role="student")
        for engine, position in drawn:
            engine.seek(position)
        return {LOGITS: logits} | {path: self._capture[path] for path in self._capture.outputs}

    def values(self, rows: Tensor, labelled: int) -> list[Tensor | None]:
        """Value of each term on `rows`, of which the first `labelled` have labels.

        A term that needs targets sees the labelled rows only, and is None where there are none.

        Raises:
            DistillError: If the student's output is not `(batch, classes)`, student and teacher
                differ in classes, or a layer of the student does not return one map per sample.
        """
        output = passed(self.student, self._data.features.index_select(0, rows), role="student")
        logits = self._check(output, len(rows))
        target = self._data.labels.index_select(0, rows[:labelled]) if labelled else None
        targets = {key: table.index_select(0, rows) for key, table in self.targets.items()}
        found: list[Tensor | None] = []
        for term, loss, own, adapter, (name, layer) in self._reads:
            student = self._features(own, len(rows)) if own else logits
            if adapter is not None:
                student = adapter(student)
            teacher = None if name is None else targets[name, layer]
            if not loss.target:
                found.append(loss.function(student, teacher, None, **term.options))
            elif labelled:
                if teacher is not None:
                    teacher = teacher[:labelled]
                found.append(loss.function(student[:labelled], teacher, target, **term.options))
            else:
                found.append(None)
        return found

    def _features(self, path: str, rows: int) -> Tensor:
        features = self._capture[path]
        if features.ndim < 1 or len(features) != rows:
            raise DistillError(
                f"the layer {path!r} of the student returns one map per sample",
                got=f"shape {tuple(features.shape)} for {rows} samples",
                expected=f"({rows}, ...)",
                remedy="Choose a layer whose first axis is the batch.",
            )
        return features

    def _check(self, output: object, rows: int) -> Tensor:
        """The student's output, if it is one row of logits per sample for the data's classes."""
        logits = class_rows(output, rows, role="student")
        if logits.shape[1] != self._num_classes:
            raise DistillError(
                "a student returns one row of class logits per sample",
                got=f"shape {tuple(logits.shape)} for {rows} samples",
                expected=f"({rows}, {self._num_classes})",
                remedy="Build the student for the classes of the data set; of plain arrays, fit "
                "counts the classes unless it is given num_classes=.",
            )
        if not self._looked:  # once: it waits for the device
            check_logits(logits, role="student")
            self._looked = True
        for loss, (name, layer) in zip(self._losses, self._keys, strict=True):
            if name is None or loss.features:
                continue
            classes = self.targets[name, layer].shape[1]
            if classes != self._num_classes:
                raise DistillError(
                    "student and teacher tell the same classes apart",
                    got=f"{self._num_classes} classes in the student, {classes} in the teacher",
                    expected="equal numbers",
                    remedy="Train the teacher on this data set, or match features instead of "
                    "logits.",
                )
        return logits

    def check_gradients(self, values: Sequence[Tensor | None]) -> None:
        """Refuse a term with a weight whose value does not depend on the student's weights.

        The graph is walked, not differentiated: it costs nothing on a paid device.

        Raises:
            DistillError: Naming the term.
        """
        own = {id(parameter) for parameter in self.parameters}
        for term, value in zip(self.terms, values, strict=True):
            if term.weight and value is not None and not _reaches(value, own):
                raise DistillError(
                    f"the term {term.label!r} has a weight but no gradient into the student",
                    got=f"weight {term.weight}, a value detached from every trainable parameter",
                    expected="a loss computed from the student's live outputs",
                    remedy="Look for detach(), .item() or no_grad in the loss or the student, or "
                    "set the weight to 0 to log it only.",
                )

    def gradient_norms(self, rows: Tensor, labelled: int) -> dict[str, float]:
        """Norm of each term's gradient with respect to the student's parameters.

        Each term gets a forward pass of its own, because an engine's pullback may be called once
        only. Random generators and buffers are put back: looking does not change the run.
        """
        norms: dict[str, float] = {}
        with untouched(self.student, *self.adapters.values()):
            for place, term in enumerate(self.terms):
                with torch.random.fork_rng(devices=[]):
                    value = self.values(rows, labelled)[place]
                if value is None or not value.requires_grad:
                    norms[term.label] = 0.0
                    continue
                gradients = torch.autograd.grad(value, self.parameters, allow_unused=True)
                norms[term.label] = norm(gradients)
        return norms


def norm(tensors: Sequence[Tensor | None]) -> float:
    """Euclidean norm of all entries together; None counts as zeros."""
    return math.hypot(*(float(t.detach().norm()) for t in tensors if t is not None))


def _reaches(value: Tensor, parameters: set[int]) -> bool:
    """Whether `value` depends on one of the leaves with these ids."""
    stack: list[Any] = [value.grad_fn]
    seen: set[Any] = set()
    if id(value) in parameters:
        return True
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if id(getattr(node, "variable", None)) in parameters:
            return True
        stack.extend(following for following, _ in node.next_functions)
    return False
