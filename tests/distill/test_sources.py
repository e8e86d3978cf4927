# SPDX-License-Identifier: Apache-2.0
"""Who teaches what, and what is refused before anybody is asked."""

from __future__ import annotations

import pytest
from torch import nn

from qiskit_kd.distill import Distiller, Teacher, Term, shuffled, uniform
from qiskit_kd.distill.objective import named, source
from qiskit_kd.errors import DistillError, UnknownNameError

from .toys import CLASSES, linear, mlp

TWO = {"soft": uniform(CLASSES), "maps": Teacher.from_module(mlp(7))}


def test_a_single_teacher_needs_no_name():
    one = uniform(CLASSES)
    assert named(None) == {}
    assert named(one) == {"teacher": one}
    assert named(TWO) == TWO
    assert source(Term("ce"), TWO) is None
    assert source(Term("kl"), named(one)) == "teacher"
    assert source(Term("kl", teacher="teacher"), named(one)) == "teacher"
    assert source(Term("kl"), {"soft": one}) == "soft"
    assert source(Term("kl", teacher="maps"), TWO) == "maps"


def test_terms_without_their_teacher_are_refused():
    with pytest.raises(DistillError, match=r"term 'kl' needs a teacher; got none.*Term\('ce'\)"):
        Distiller(linear(), [Term("kl", teacher="soft")])
    with pytest.raises(
        DistillError,
        match=r"term 'soft targets' says which of several teachers.*; got no name; expected one of "
        r"'maps', 'soft'\. Term\('kl', \.\.\., teacher='maps'\)",
    ):
        Distiller(linear(), [Term("kl", name="soft targets")], teacher=TWO)
    with pytest.raises(
        UnknownNameError, match=r"unknown teacher; got 'sofd'\. did you mean 'soft'\? known: maps, "
    ):
        Distiller(linear(), [Term("kl", teacher="sofd")], teacher=TWO)
    with pytest.raises(UnknownNameError, match=r"unknown teacher; got 'soft'\. known: teacher"):
        Distiller(linear(), [Term("kl", teacher="soft")], teacher=uniform(CLASSES))
    for wrong in (linear(), {"teacher": linear()}):
        with pytest.raises(DistillError, match=r"'teacher' is a Teacher; got Linear.*from_module"):
            Distiller(linear(), [Term("kl")], teacher=wrong)
    # Without a term for them, teachers are at leisure.
    Distiller(linear(), [Term("ce")], teacher=TWO)


def network() -> nn.Sequential:
    module = nn.Sequential()
    module.add_module("filters", mlp())
    module.add_module("activation", nn.Identity())
    return module


def test_unknown_layers_of_both_sides_are_answered_with_near_names():
    student, source = network(), Teacher.from_module(network())
    with pytest.raises(
        DistillError, match=r"the student has no layer of that name; got 'filtres'.*'filters'"
    ):
        Distiller(student, [Term("attention", layers=("filtres", "filters"))], teacher=source)
    with pytest.raises(
        DistillError, match=r"the teacher has no layer of that name; got 'activaton'.*'activation'"
    ):
        Distiller(student, [Term("attention", layers=("filters", "activaton"))], teacher=source)
    term = Term("attention", layers=("filters", "filtres"), teacher="b")
    teachers = {"a": uniform(CLASSES), "b": shuffled(source, 0)}
    with pytest.raises(
        DistillError, match=r"the teacher 'b' has no layer .*; got 'filtres'.*'filters'"
    ):
        Distiller(student, [term], teacher=teachers)
    assert not student.filters._forward_hooks


def test_no_teacher_is_the_student_not_even_in_disguise():
    module = linear()
    for own in (Teacher.from_module(module), shuffled(Teacher.from_module(module), 0)):
        with pytest.raises(DistillError, match="does not share weights with its teacher; got a co"):
            Distiller(
                module, [Term("kl", teacher="soft")], teacher={"soft": TWO["soft"], "own": own}
            )
