# SPDX-License-Identifier: Apache-2.0
"""Which teacher each term learns from, and the checks before anybody is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from qiskit_kd.distill.features import check_paths
from qiskit_kd.distill.teacher import Teacher
from qiskit_kd.distill.terms import Term
from qiskit_kd.errors import DistillError, UnknownNameError
from qiskit_kd.values import shown

__all__ = ["check_sources", "named", "source"]

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
            raise DistillError("teachers have names", got=shown(name), expected="text",
                               remedy="teacher={'name': ...}.")  # fmt: skip
        if not isinstance(each, Teacher):
            raise DistillError(
                f"the teacher {name!r} is a Teacher", got=type(each).__name__,
                remedy="Wrap a network: Teacher.from_module(network).",
            )  # fmt: skip
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
            f"the term {term.label!r} needs a teacher", got="none", expected="teacher=...",
            remedy="Teacher.from_module(...), or train with Term('ce') only.",
        )  # fmt: skip
    if term.teacher is None:
        if len(teachers) > 1:
            raise DistillError(
                f"the term {term.label!r} says which of several teachers it learns from",
                got="no name", expected=f"one of {', '.join(map(repr, sorted(teachers)))}",
                remedy=f"Term({term.resolved.name!r}, ..., teacher={sorted(teachers)[0]!r}).",
            )  # fmt: skip
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
                "a student does not share weights with its teacher", got="a common parameter",
                remedy="Build the student anew, or pass a deep copy of it as teacher.",
            )  # fmt: skip
