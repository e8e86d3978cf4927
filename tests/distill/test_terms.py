from __future__ import annotations

import json
import math

import pytest
from torch import nn

from qiskit_kd.distill import Distiller, Loss, Ramp, Teacher, Term, losses, shuffled, uniform
from qiskit_kd.distill.objective import named, source
from qiskit_kd.distill.terms import check_terms
from qiskit_kd.errors import DistillError, UnknownNameError

from .toys import CLASSES, linear, mlp


def test_a_term_is_known_by_its_loss_or_its_name():
    assert Term("kl").label == "kl"
    assert Term("kl", name="soft").label == "soft"
    assert Term(losses["kl"]).loss is losses["kl"]
    assert Term(Loss("mine", lambda s, *_: s.sum())).label == "mine"


def test_weights_follow_their_schedule():
    term = Term("ce", 2.0, schedule=Ramp(0.0, 1.0, 4))
    assert [term.weight_at(epoch) for epoch in range(6)] == [0, 0.5, 1, 1.5, 2, 2]
    assert Term("ce", 0.3).weight_at(9) == 0.3
    with pytest.raises(DistillError, match="ramp takes at least one epoch; got 0; expected epochs"):
        Ramp(0, 1, 0)


def test_descriptions_are_plain_and_tell_terms_apart():
    adapter = nn.Linear(2, 3)
    own = Loss("own", lambda student, *_, scale: scale(student).sum())
    terms = [
        Term("kl"), Term("kl", 0.5), Term("kl", options={"temperature": 2}), Term("reverse_kl"),
        Term("kl", schedule=Ramp(0, 1, 3)), Term("kl", name="x"),
        Term("feature_mse", adapter=adapter), Term("feature_mse", adapter="linear"),
        Term("feature_mse", adapter="channels"), Term("kl", teacher="a"), Term("kl", teacher="b"),
        Term("feature_mse", layers=("0", "1")), Term("feature_mse", layers=("1", "1")),
    ]  # fmt: skip
    texts = {json.dumps(term.describe()) for term in terms}
    assert len(texts) == len(terms)
    assert Term(own, options={"scale": adapter}).modules == [adapter]


@pytest.mark.parametrize("weight", [math.nan, math.inf, "0.5", None])
def test_weights_are_finite_numbers(weight):
    with pytest.raises(DistillError, match=r"the term 'ce' is a finite number; got .*Use 0"):
        Term("ce", weight)


def test_unknown_losses_options_and_pointless_layers_are_refused():
    with pytest.raises(UnknownNameError, match="unknown loss; got 'kll'"):
        Term("kll")
    with pytest.raises(DistillError, match=r"no such option; got 'temp'"):
        Term("kl", options={"temp": 2})
    with pytest.raises(DistillError, match=r"'kl' compares class logits.*losses: attention"):
        Term("kl", layers=("0", "0"))


def test_adapters_and_layers_belong_to_feature_losses():
    with pytest.raises(DistillError, match=r"'kl' compares class logits; got adapter 'linear'.*no"):
        Term("kl", adapter="linear")
    with pytest.raises(UnknownNameError, match=r"unknown adapter; got 'chanels'.*'channels'"):
        Term("feature_mse", adapter="chanels")
    with pytest.raises(DistillError, match=r"is a name or a module; got float.*channels, linear"):
        Term("feature_mse", adapter=0.5)
    alone = Loss("sparse", lambda student, *_: student.abs().mean(), features=True)
    with pytest.raises(DistillError, match=r"'linear' for the loss 'sparse', which reads no teach"):
        Term(alone, adapter="linear")
    assert Term(alone, adapter=nn.Flatten()).adapter is not None
    for layers in ("ab", ("a",), ("a", None), ("a", "b", "c")):
        with pytest.raises(DistillError, match=r"are two module paths; got .*\(student's, teach"):
            Term("feature_mse", layers=layers)
    assert Term("feature_mse", layers=["a", "b"]).paths == ("a", "b")
    assert Term("feature_mse").paths == ("", "")


def test_terms_name_their_teachers():
    with pytest.raises(DistillError, match=r"a term names its teacher; got Linear.*teacher=\{"):
        Term("kl", teacher=nn.Linear(2, 2))
    with pytest.raises(DistillError, match=r"the loss 'ce' reads no teacher; got 'soft'\. Leave"):
        Term("ce", teacher="soft")


def test_an_objective_trains_something_and_names_its_terms_apart():
    with pytest.raises(DistillError, match=r"one term of weight other than 0; got no terms"):
        check_terms([])
    with pytest.raises(DistillError, match="got 1 terms"):
        check_terms([Term("ce", 0)])
    with pytest.raises(DistillError, match=r"told apart by name; got 'kl' more than once"):
        check_terms([Term("kl"), Term("ce"), Term("reverse_kl", name="kl")])
    check_terms([Term("ce", 0), Term("kl")])


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
    for given in (mlp(), {"teacher": mlp()}):
        assert isinstance(Distiller(linear(), ["kl"], teacher=given).teachers["teacher"], Teacher)
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
        rule = "does not share weights with its teacher; got a common"
        with pytest.raises(DistillError, match=rule):
            Distiller(
                module, [Term("kl", teacher="soft")], teacher={"soft": TWO["soft"], "own": own}
            )
