# SPDX-License-Identifier: Apache-2.0
"""The weighted terms of one training run, bound to student, data and the teacher's outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from qiskit_kd.distill.adapters import adapters
from qiskit_kd.distill.batches import Labelled
from qiskit_kd.distill.losses import Loss
from qiskit_kd.distill.outputs import (
    FeatureCapture,
    check_logits,
    check_paths,
    engines,
    logits_of,
    map_rows,
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
LOGITS = ""
"""The path of what is no layer."""


def named(teacher: Any) -> dict[str, Teacher]:
    """Teachers by name; one that was given without a name is called `teacher`."""
    if teacher is None:
        return {}
    teachers = dict(teacher) if isinstance(teacher, Mapping) else {ONLY: teacher}
    for name, each in teachers.items():
        if not isinstance(name, str):
            remedy = "teacher={'name': ...}."
            raise DistillError(
                "teachers have names", got=shown(name), expected="text", remedy=remedy
            )
        if not isinstance(each, Teacher):
            make: Any = Teacher
            teachers[name] = make(each)
    return teachers


def source(term: Term, teachers: Mapping[str, Teacher]) -> str | None:
    """Name of the teacher `term` learns from; None if its loss reads none."""
    if not term.loss.teacher:
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
                remedy=f"Term({term.loss.name!r}, ..., teacher={sorted(teachers)[0]!r}).",
            )
        return next(iter(teachers))
    if term.teacher not in teachers:
        raise UnknownNameError.of("teacher", term.teacher, teachers)
    return term.teacher


def check_sources(
    student: nn.Module, terms: Sequence[Term], teachers: Mapping[str, Teacher]
) -> None:
    """Refuse terms without the teacher or layer they need, and a student that teaches itself."""
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


class Objective:
    """Evaluates every term on a batch of rows.

    Args:
        student: The network that learns.
        terms: The terms.
        data: Samples and labels.
        teachers: Sources of soft targets, asked here and only here, for all samples at once.
        capture: Keeps the layers of the student that the terms read.
        seed: Of the initial values of adapters.
    """

    def __init__(
        self,
        student: nn.Module,
        terms: Sequence[Term],
        data: Labelled,
        teachers: Mapping[str, Teacher],
        capture: FeatureCapture,
        seed: int,
    ) -> None:
        self.student, self.data, self._capture = student, data, capture
        self.parameters = [p for p in student.parameters() if p.requires_grad]
        self._looked = False  # whether the student's first outputs have been judged
        self.targets: dict[tuple[str, str], Tensor] = {}
        """What the terms read of a teacher, by its name and layer."""
        self.adapters: dict[str, nn.Module] = {}
        """Adapters by the label of their term."""
        self._reads: list[tuple[Term, Loss, tuple[str, str] | None]] = []
        for term in terms:
            name, (_, layer) = source(term, teachers), term.paths
            key = None if name is None else (name, layer)
            if name is not None and key not in self.targets:
                ask = teachers[name]
                found = (
                    ask.features_for(data.samples, layer) if layer else ask.logits_for(data.samples)
                )
                self.targets[name, layer] = found.to(data.features)
            self._reads.append((term, term.loss, key))
        for term, _, key in self._reads:
            if isinstance(term.adapter, nn.Module):
                self.adapters[term.label] = term.adapter
            elif term.adapter is not None and key is not None:
                self.adapters[term.label] = self._built(term, self.targets[key], seed)

    def _built(self, term: Term, target: Tensor, seed: int) -> nn.Module:
        build: Any = adapters[term.adapter] if isinstance(term.adapter, str) else term.adapter
        own = self._maps[term.paths[0]]
        seed = derive(seed, "adapter", term.label)
        shapes = tuple(own.shape[1:]), tuple(target.shape[1:])
        module = build(*shapes, seed=seed, dtype=own.dtype)
        if not isinstance(module, nn.Module):
            raise DistillError(
                f"the adapter of the term {term.label!r} builds a module",
                got=type(module).__name__,
                expected="a torch.nn.Module",
            )
        return module.to(own.device)

    @cached_property
    def _maps(self) -> dict[str, Tensor]:
        """What the student and its captured layers return for one sample; it stays as it was."""
        drawn = [(engine, engine.position()) for engine in engines(self.student)]
        self.student.eval()
        with ExitStack() as stack:
            for layer in self.student.modules():
                if isinstance(layer, Quanvolution):
                    stack.enter_context(layer.without_memory())
            stack.enter_context(untouched(self.student))
            stack.enter_context(torch.no_grad())
            logits = logits_of(self.student, self.data.features[:1], role="student")
        for engine, position in drawn:
            engine.seek(position)
        return {LOGITS: logits} | {path: self._capture[path] for path in self._capture.outputs}

    def values(self, rows: Tensor, labelled: int) -> list[Tensor | None]:
        """Value of each term on `rows`, of which the first `labelled` have labels.

        A term that needs targets sees the labelled rows only, and is None where there are none.
        """
        samples = self.data.features.index_select(0, rows)
        logits = self._checked(logits_of(self.student, samples, role="student"))
        target = self.data.labels.index_select(0, rows[:labelled]) if labelled else None
        targets = {key: table.index_select(0, rows) for key, table in self.targets.items()}
        found: list[Tensor | None] = []
        for term, loss, key in self._reads:
            if path := term.paths[0]:
                student = map_rows(self._capture[path], len(rows), path, role="student")
            else:
                student = logits
            if term.label in self.adapters:
                student = self.adapters[term.label](student)
            teacher = None if key is None else targets[key]
            if not loss.target:
                found.append(loss.function(student, teacher, None, **term.options))
            elif labelled:
                teacher = None if teacher is None else teacher[:labelled]
                found.append(loss.function(student[:labelled], teacher, target, **term.options))
            else:
                found.append(None)
        return found

    def _checked(self, logits: Tensor) -> Tensor:
        """The student's logits, if they are of the data's classes."""
        rows, classes = len(logits), self.data.num_classes
        if logits.shape[1] != classes:
            raise DistillError(
                "a student returns one row of class logits per sample",
                got=f"shape {tuple(logits.shape)} for {rows} samples",
                expected=f"({rows}, {classes})",
                remedy="Build the student for the classes of the data set; of plain arrays, fit "
                "counts the classes unless it is given num_classes=.",
            )
        if self._looked:
            return logits
        check_logits(logits, role="student")  # once: it waits for the device
        self._looked = True
        for _, loss, key in self._reads:
            if key is not None and not loss.features:
                others = self.targets[key].shape[1]
                if others != classes:
                    raise DistillError(
                        "student and teacher tell the same classes apart",
                        got=f"{classes} classes in the student, {others} in the teacher",
                        expected="equal numbers",
                        remedy="Train the teacher on this data set, or match features instead of "
                        "logits.",
                    )
        return logits

    def check_gradients(self, values: Sequence[Tensor | None]) -> None:
        """Refuse a term with a weight whose value does not depend on the student's weights.

        The graph is walked, not differentiated: it costs nothing on a paid device.
        """
        own = {id(parameter) for parameter in self.parameters}
        for (term, *_), value in zip(self._reads, values, strict=True):
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
            for place, (term, *_) in enumerate(self._reads):
                with torch.random.fork_rng(devices=[]):
                    value = self.values(rows, labelled)[place]
                norms[term.label] = 0.0
                if value is not None and value.requires_grad:
                    found = torch.autograd.grad(value, self.parameters, allow_unused=True)
                    norms[term.label] = norm(found)
        return norms


def norm(tensors: Sequence[Tensor | None]) -> float:
    """Euclidean norm of all entries together; None counts as zeros."""
    return math.hypot(*(float(t.detach().norm()) for t in tensors if t is not None))


def _reaches(value: Tensor, leaves: set[int]) -> bool:
    """Whether `value` depends on one of the leaves with these ids."""
    stack: list[Any] = [value.grad_fn]
    seen: set[Any] = {None}
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            if id(getattr(node, "variable", None)) in leaves:
                return True
            stack.extend(following for following, _ in node.next_functions)
    return id(value) in leaves
