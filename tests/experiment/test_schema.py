# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from qiskit_kd.experiment.schema import (
    AxisConfig,
    EvaluationConfig,
    SideBySideConfig,
    TeacherConfig,
    TermConfig,
    TrainingConfig,
    VariantConfig,
)

CE, KL = {"loss": "ce"}, {"loss": "kl"}


def variant(*terms: dict, **defaults: str) -> VariantConfig:
    return VariantConfig.model_validate({"terms": list(terms), **defaults})


def test_a_term_takes_from_its_variant_what_it_does_not_say() -> None:
    made = variant(
        CE, KL, {"loss": "reverse_kl", "teacher": "other"},
        {"loss": "jsd", "placebo": "shuffled"}, {"loss": "logit_mse", "placebo": "uniform"},
        teacher="soft",
    )  # fmt: skip
    assert [made.source(term) for term in made.terms] == [
        (None, "none"), ("soft", "none"), ("other", "none"), ("soft", "shuffled"),
        (None, "uniform"),
    ]  # fmt: skip
    assert made.sources == [made.source(term) for term in made.terms[1:]]


def test_a_term_may_refuse_the_placebo_of_its_variant() -> None:
    made = variant(KL, {"loss": "jsd", "placebo": "none"}, teacher="soft", placebo="untrained")
    assert made.sources == [("soft", "untrained"), ("soft", "none")]


def test_a_loss_nobody_registered_may_read_a_teacher() -> None:
    made = variant({"loss": "of_a_plugin"}, teacher="soft")
    assert made.source(TermConfig(loss="of_a_plugin")) == ("soft", "none")


def test_the_two_forms_of_an_axis() -> None:
    listed = AxisConfig(key="training.epochs", values=[5, 10])
    assert listed.labels == [5, 10]
    assert listed.settings(10) == {"training.epochs": 10}
    named = AxisConfig(values={"few": {"training.epochs": 5}, "many": {"training.epochs": 10}})
    assert named.labels == ["few", "many"]
    assert named.settings("many") == {"training.epochs": 10}


@pytest.mark.parametrize(
    ("label", "expected"),
    [("50", 50), (50, 50), ("-3", -3), ("0.5", 0.5), ("1e3", 1000.0), (".5", 0.5), ("x1", "x1"),
     ("inf", "inf"), ("nan", "nan"), ("1_0", "1_0"), ("", "")],
)  # fmt: skip
def test_labels_that_read_as_numbers_are_numbers(label: object, expected: object) -> None:
    (found,) = AxisConfig(values={label: {"training.epochs": 5}}).labels
    assert found == expected
    assert type(found) is type(expected)


def test_only_some_values_of_an_axis() -> None:
    axis = AxisConfig(key="training.epochs", values=[5, 10, 20], only=[20, 5])
    assert axis.labels == [5, 20]
    axis = AxisConfig.model_validate({"values": {"50": {"a": 1}, "60": {"a": 2}}, "only": [60]})
    assert axis.labels == [60]
    assert AxisConfig.model_validate(axis.model_dump(mode="json")) == axis


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"values": [1, 2]}, "an axis with a list of values names their `key`, a dotted one"),
        ({"values": {"a": {"x": 1}}, "key": "x"}, "names its keys below them; remove `key`"),
        ({"values": {"a": 3}}, "a label of an axis stands for settings; got 3 for 'a'; expected a "
         "mapping such as {training.epochs: 20}"),
        ({"values": {"a": {}}}, "a label of an axis stands for settings; got {} for 'a'"),
        ({"key": "x", "values": [[1, 2]]}, r"a value of an axis is a number or a word; got \[1, 2\]"
         r". Give it a label: {LABEL: {dotted.key: value}}"),
        ({"key": "x", "values": "abc"}, "an axis has values; got 'abc'; expected a list, or a map"),
        ({"key": "x", "values": []}, "an axis has one or more different values"),
        ({"key": "x", "values": [1, 1]}, "an axis has one or more different values"),
        ({"values": {"1": {"x": 1}, 1: {"x": 2}}}, "an axis has one or more different values"),
        ({"key": "x", "values": [1, 2], "only": [3]},
         r"`only` lists values of the axis; got \[3\]; known: 1, 2"),
        ({"key": "x", "values": [1, 2], "only": []}, r"`only` lists values of the axis; got \[\]"),
    ],
)  # fmt: skip
def test_an_axis_that_makes_no_sense(axis: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AxisConfig.model_validate(axis)


def test_shared_is_true_or_false() -> None:
    with pytest.raises(ValidationError, match="shared"):
        TeacherConfig.model_validate({"kind": "mlp", "shared": "yes"})


def test_placebos_are_placebos_of_terms_and_label_smoothing() -> None:
    smooth = {"loss": "label_smoothing"}
    assert variant(KL, teacher="soft", placebo="shuffled").is_placebo
    assert variant(KL, {"loss": "jsd", "placebo": "uniform"}, teacher="soft").is_placebo
    assert variant(smooth).is_placebo
    assert not variant({"loss": "ce"}).is_placebo
    assert not variant({"loss": "ce"}, backend="device").is_placebo
    assert not variant(KL, teacher="soft").is_placebo
    assert not variant(smooth, KL, teacher="soft").is_placebo  # taught, with smoothed labels


@pytest.mark.parametrize("setting", [{"dtype": "float64"}, {"checkpoint_epochs": 2}])
def test_a_second_stage_refuses_what_it_would_not_follow(setting: dict) -> None:
    (key,) = setting
    stage = {"backend": "device", "training": setting}
    with pytest.raises(ValidationError, match=f"a second stage has no `{key}` of its own; got"):
        VariantConfig.model_validate({"terms": [CE], "fine_tune": stage})
    stage["training"] = {"epochs": 2}
    assert VariantConfig.model_validate({"terms": [CE], "fine_tune": stage}).fine_tune is not None


@pytest.mark.parametrize(
    ("value", "message"),
    [([], r"candidates are one or more different numbers; got \[\]"),
     ([1, 1], r"candidates are one or more different numbers; got \[1, 1\]"),
     ([1, -2], "greater than 0"), (0, "greater than 0"), ("1", "valid number"),
     ([True], "valid number"), ([[1]], "valid number"), (float("nan"), "finite number")],
)  # fmt: skip
def test_candidates_are_positive_numbers(value: object, message: str) -> None:
    for build in (
        lambda: variant({"loss": "ce", "weight": value}),
        lambda: TrainingConfig.model_validate({"learning_rate": value}),
    ):
        with pytest.raises(ValidationError, match=message):
            build()


def test_a_second_stage_has_one_learning_rate() -> None:
    stage = {"backend": "device", "training": {"learning_rate": [0.1, 0.2]}}
    with pytest.raises(ValidationError, match=r"has one learning rate; got \[0.1, 0.2\]. Choose"):
        VariantConfig.model_validate({"terms": [CE], "fine_tune": stage})


def test_nothing_is_asked_for_by_default() -> None:
    assert EvaluationConfig().model_dump(exclude_none=True) == {"robustness": {}, "shots": []}


def test_everything() -> None:
    asked = {
        "robustness": {"noise": [0.1]}, "feature_maps": {"layer": "filters", "images": 2},
        "backend": "noisy", "shots": [64, 16384], "teacher": "soft",
        "side_by_side": {"backends": ["exact", "noisy"], "samples": 48},
    }  # fmt: skip
    config = EvaluationConfig.model_validate(asked)
    assert config.model_dump() == asked
    assert SideBySideConfig(backends=["exact"]).samples is None
    with pytest.raises(ValidationError, match="frozen"):
        config.backend = "exact"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"shots": [64, 64]}, "shots\n  Value error, each is named once; got [64, 64]"),
        ({"shots": [0]}, "shots.0\n  Input should be greater than or equal to 1"),
        ({"shots": ["64"]}, "shots.0\n  Input should be a valid integer"),
        ({"shots": [True]}, "shots.0\n  Input should be a valid integer"),
        ({"shots": 64}, "shots\n  Input should be a valid list"),
        ({"side_by_side": {"backends": []}}, "backends\n  List should have at least 1 item"),
        ({"side_by_side": {"backends": ["a", "a"]}},
         "backends\n  Value error, each is named once; got ['a', 'a']"),
        ({"side_by_side": {"backends": ["a"], "samples": 0}}, "samples\n  Input should be greater"),
        ({"side_by_side": {}}, "side_by_side.backends\n  Field required"),
        ({"side_by_side": {"backends": ["a"], "sample": 3}}, "side_by_side.sample\n  Extra inputs"),
        ({"backend": 3}, "backend\n  Input should be a valid string"),
        ({"bakend": "noisy"}, "bakend\n  Extra inputs"),
        ({"feature_maps": {"layer": ""}}, "layer\n  String should have at least 1 character"),
        ({"feature_maps": {"layer": "a", "images": 0}}, "images\n  Input should be greater than"),
        ({"feature_maps": {"layer": "a", "images": 101}}, "images\n  Input should be less than"),
        ({"robustness": {"noise": []}}, "the levels of noise are one or more different numbers"),
        ({"robustness": {"noise": [1, 1.0]}}, "the levels of noise are one or more different"),
    ],
)  # fmt: skip
def test_refuses(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        EvaluationConfig.model_validate(asked)
