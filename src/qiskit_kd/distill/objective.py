# SPDX-License-Identifier: Apache-2.0
"""The weighted terms of one training run, bound to student, data and the teacher's outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qiskit_kd.distill.batches import Labelled
from qiskit_kd.distill.features import FeatureCapture
from qiskit_kd.distill.teacher import ModuleTeacher, Teacher
from qiskit_kd.distill.terms import Term
from qiskit_kd.errors import DistillError

__all__ = ["Objective", "check_teacher"]

LOGITS = ""


def check_teacher(student: nn.Module, terms: Sequence[Term], teacher: Teacher | None) -> None:
    """Refuse terms without the teacher they need, and a student that is its own teacher.

    Raises:
        DistillError: As said.
    """
    needing = [term.label for term in terms if term.resolved.teacher]
    if needing and teacher is None:
        raise DistillError(
            f"the term {needing[0]!r} needs a teacher", got="none", expected="teacher=...",
            remedy="Teacher.from_module(...), or train with Term('ce') only.",
        )  # fmt: skip
    if isinstance(teacher, ModuleTeacher):
        own = {id(parameter) for parameter in student.parameters()}
        if any(id(p) in own for module in teacher.modules for p in module.parameters()):
            raise DistillError(
                "a student does not share weights with its teacher", got="a common parameter",
                remedy="Build the student anew, or pass a deep copy of it as teacher.",
            )  # fmt: skip


class Objective:
    """Evaluates every term on a batch of rows.

    Args:
        student: The network that learns.
        terms: The terms.
        data: Samples and labels.
        num_classes: Classes of the data set.
        teacher: Source of soft targets, asked here and only here, for all samples at once.
        samples: The samples in double precision, as the teacher gets them.

    Raises:
        DistillError: For a layer that does not exist.
    """

    def __init__(
        self, student: nn.Module, terms: Sequence[Term], data: Labelled, *, num_classes: int,
        teacher: Teacher | None, samples: NDArray[np.float64],
    ) -> None:  # fmt: skip
        self.student = student
        self.terms = tuple(terms)
        self._data = data
        self._num_classes = num_classes
        self._losses = [term.resolved for term in terms]
        self.parameters = [p for p in student.parameters() if p.requires_grad]
        layers = [term.layers or (LOGITS, LOGITS) for term in terms]
        self._layers = layers
        self.targets: dict[str, Tensor] = {}
        for loss, (_, layer) in zip(self._losses, layers, strict=True):
            if loss.teacher and teacher is not None and layer not in self.targets:
                values = (
                    teacher.features_for(samples, layer) if layer else teacher.logits_for(samples)
                )
                self.targets[layer] = values.to(data.features)
        self.capture = FeatureCapture(
            student, sorted({own for own, _ in layers if own}), role="student"
        )

    def values(self, rows: Tensor, labelled: int) -> list[Tensor | None]:
        """Value of each term on `rows`, of which the first `labelled` have labels.

        A term that needs targets sees the labelled rows only, and is None where there are none.

        Raises:
            DistillError: If the student's output is not `(batch, classes)`, or student and teacher
                differ in classes.
        """
        logits = self.student(self._data.features.index_select(0, rows))
        self._check(logits, len(rows))
        target = self._data.labels.index_select(0, rows[:labelled]) if labelled else None
        targets = {key: table.index_select(0, rows) for key, table in self.targets.items()}
        found: list[Tensor | None] = []
        for term, loss, (own, other) in zip(self.terms, self._losses, self._layers, strict=True):
            student = self.capture.outputs[own] if own else logits
            teacher = targets[other] if loss.teacher else None
            if not loss.target:
                found.append(loss.function(student, teacher, None, **term.options))
            elif labelled:
                if teacher is not None:
                    teacher = teacher[:labelled]
                found.append(loss.function(student[:labelled], teacher, target, **term.options))
            else:
                found.append(None)
        return found

    def _check(self, logits: Tensor, rows: int) -> None:
        if logits.shape != (rows, self._num_classes):
            raise DistillError(
                "a student returns one row of class logits per sample",
                got=f"shape {tuple(logits.shape)} for {rows} samples",
                expected=f"({rows}, {self._num_classes})",
                remedy="Build the student for the classes of the data set.",
            )  # fmt: skip
        teacher = self.targets.get(LOGITS)
        if teacher is not None and teacher.shape[1] != logits.shape[1]:
            raise DistillError(
                "student and teacher tell the same classes apart",
                got=f"{logits.shape[1]} classes in the student, {teacher.shape[1]} in the teacher",
                expected="equal numbers",
                remedy="Train the teacher on this data set, or match features instead of logits.",
            )  # fmt: skip

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
        kept = [buffer.clone() for buffer in self.student.buffers()]
        norms: dict[str, float] = {}
        for place, term in enumerate(self.terms):
            with torch.random.fork_rng(devices=[]):
                value = self.values(rows, labelled)[place]
            if value is None or not value.requires_grad:
                norms[term.label] = 0.0
                continue
            gradients = torch.autograd.grad(value, self.parameters, allow_unused=True)
            norms[term.label] = norm(gradients)
        with torch.no_grad():
            for buffer, before in zip(self.student.buffers(), kept, strict=True):
                buffer.copy_(before)
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
