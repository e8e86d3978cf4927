# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest
from fixed_images import IMAGES, registered  # noqa: F401 (a fixture)
from pydantic import ValidationError

from qiskit_kd.errors import ConfigError
from qiskit_kd.experiment.config import ExperimentConfig
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.schema import is_teacher, teacher_row

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"kind": "digits"},
    "students": {"linear": {"kind": "linear"}, "other": {"kind": "linear", "variants": ["plain"]}},
    "variants": {"plain": {"terms": [{"loss": "ce"}]}},
}


def config(**more: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate({**SMALL, **more})


def test_rows_of_teachers() -> None:
    assert [teacher_row(name) for name in ("teacher", "soft")] == ["teacher", "teacher:soft"]
    assert all(map(is_teacher, ("teacher", "teacher:soft")))
    assert not any(map(is_teacher, ("teachers", "teacher_like", "linear", "my-teacher")))


def test_the_short_form_is_a_teacher_called_teacher() -> None:
    short, long = config(teacher={"kind": "mlp"}), config(teachers={"teacher": {"kind": "mlp"}})
    assert short == long
    assert "teacher" not in short.resolved()
    assert short.resolved()["teachers"]["teacher"]["shared"] is False
    assert config(teacher=None).teachers == {}
    with pytest.raises(ValidationError, match=r"`teacher` is the short form for a single teacher; "
                       r"got `teachers` too. Write all of them below `teachers`"):  # fmt: skip
        config(teacher={"kind": "mlp"}, teachers={"soft": {"kind": "mlp"}})


def test_points_are_all_combinations_in_order() -> None:
    assert config().points() == [{}]
    axes = {
        "a": {"key": "training.epochs", "values": [1, 2]},
        "b": {"values": {"x": {"training.batch_size": 8}, "y": {"training.batch_size": 9}}},
    }
    made = config(axes=axes)
    assert made.points() == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"},
                             {"a": 2, "b": "y"}]  # fmt: skip
    here = made.at({"a": 2, "b": "y"})
    assert (here.training.epochs, here.training.batch_size, here.axes) == (2, 9, {})
    assert config().at({}) == config()


@pytest.mark.usefixtures("registered")
def test_points_survive_json() -> None:
    made = parse(IMAGES)
    stored = ExperimentConfig.model_validate(json.loads(json.dumps(made.resolved())))
    assert stored.points() == made.points()
    assert stored.points()[-1] == {"images": 24, "sees": "all"}
    assert stored.resolved() == made.resolved()


@pytest.mark.usefixtures("registered")
def test_settings_of_a_point_are_merged_into_what_is_there() -> None:
    here = parse(IMAGES).at({"images": 24, "sees": "all"})
    assert here.data.options == {"train": 24}
    assert here.training.epochs == 3
    assert {name: t.sees for name, t in here.teachers.items()} == {"soft": "all", "hybrid": "all"}
    assert (here.teachers["soft"].training.epochs, here.teachers["soft"].shared) == (2, True)
    assert here.teachers["hybrid"].training.epochs == 1


def test_an_axis_reaches_the_short_form() -> None:
    axes = {"sees": {"key": "teacher.sees", "values": ["same", "all"]}}
    made = config(teacher={"kind": "mlp"}, axes=axes)
    assert [made.at(p).teachers["teacher"].sees for p in made.points()] == ["same", "all"]


def test_a_point_that_makes_no_experiment() -> None:
    made = config(axes={"a": {"key": "training.epochs", "values": [1, "many"]}})
    with pytest.raises(ConfigError, match=r"the axes make an invalid experiment at a many; got "
                       r"training.epochs: Input .* Correct the values of the axes"):  # fmt: skip
        made.at({"a": "many"})
    made = config(axes={"a": {"key": "name.first", "values": [1]}})
    with pytest.raises(ConfigError, match=r"axis a name.first: there is nothing below name"):
        made.at({"a": 1})


def test_taught_variants_and_controls() -> None:
    kl = {"loss": "kl"}
    made = config(
        teachers={"soft": {"kind": "mlp"}},
        variants={
            "plain": {"terms": [{"loss": "ce"}]},
            "real": {"teacher": "soft", "terms": [{"loss": "ce"}, kl]},
            "named": {"terms": [{**kl, "teacher": "soft"}]},
            "half": {"teacher": "soft", "terms": [kl, {"loss": "jsd", "placebo": "shuffled"}]},
            "flat": {"placebo": "uniform", "terms": [kl]},
            "saved": {"teacher": "soft", "placebo": "shuffled",
                      "terms": [{"loss": "ce"}, {**kl, "placebo": "none"}]},
            "smooth": {"terms": [{"loss": "label_smoothing"}]},
            "idle": {"teacher": "soft", "terms": [{"loss": "ce"}]},
        },
    )  # fmt: skip
    assert made.taught() == ["real", "named", "saved"]
    assert made.controls() == ["half", "flat", "smooth", "idle"]


@pytest.mark.usefixtures("registered")
def test_variants_of_a_student_and_whom_the_first_line_is_about() -> None:
    made = parse(IMAGES, ["headline=null"])
    assert made.resolved()["headline"] == "classical"  # nobody teaches the last one
    assert config().resolved()["headline"] == "other"
    assert made.variants_of("classical") == ["plain", "both", "untrained", "shuffled"]
    assert made.variants_of("quantum") == ["plain"]


def test_unequal_steps_and_a_number_of_steps_exclude_each_other() -> None:
    assert config().training.steps == "equal"
    own = {"linear": {"kind": "linear", "training": {"steps_per_epoch": 2}}}
    for more in (
        {"training": {"steps": "unequal", "steps_per_epoch": 3}},
        {"training": {"steps": "unequal"}, "students": own},
    ):
        what = r"students\.linear: as many steps an epoch .* equal; got `steps: unequal` too"
        with pytest.raises(ValidationError, match=what):
            config(**more)


def test_a_teacher_has_one_learning_rate() -> None:
    swept = {"training": {"learning_rate": [0.1, 0.2]}}
    teacher = {"kind": "mlp", "training": {"learning_rate": 0.1}}
    what = r"a teacher has one learning rate; got \[0.1, 0.2\]\. Set teachers\.teacher\.training\."
    with pytest.raises(ValidationError, match=what):
        config(teacher={"kind": "mlp"}, **swept)
    assert config(teacher=teacher, **swept).candidates("linear", "plain") == [
        {"learning_rate": 0.1}, {"learning_rate": 0.2}
    ]  # fmt: skip
