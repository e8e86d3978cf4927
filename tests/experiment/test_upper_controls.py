# SPDX-License-Identifier: Apache-2.0
"""Variants that learn the teacher's labels, and options that validation chooses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qiskit_kd.data import datasets
from qiskit_kd.errors import ConfigError
from qiskit_kd.experiment import Study
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.plan import Task, plan
from qiskit_kd.experiment.task import build_network, run_task
from qiskit_kd.report import terminal_table

TEXT = """\
name: labels
data: {kind: digits, options: {classes: [3, 5], train: 12, validation: 30, test: 40, transfer: 24}}
teacher: {kind: mlp, sees: all, training: {epochs: 2}}
students:
  linear: {kind: linear}
  control: {kind: classical_control, candidates: {control: [pca_linear, random_mlp]}}
variants:
  plain: {terms: [{loss: ce}]}
  distilled: {teacher: teacher, terms: [{loss: ce}, {loss: kl}]}
  teacher_labels: {sees: all, terms: [{loss: ce}]}
seeds: 2
training: {epochs: 2, batch_size: 4}
"""


def test_the_control_learns_the_pool_in_as_many_steps() -> None:
    specs = {(t.student, t.variant): t.spec for t in plan(parse(TEXT)) if t.seed == 0}
    row, _ = run_task(specs["linear", "teacher_labels"])
    assert row["steps_per_epoch"] == run_task(specs["linear", "plain"])[0]["steps_per_epoch"] == 3
    assert specs["linear", "teacher_labels"]["sees"] == "all"
    assert "sees" not in specs["linear", "plain"]


def test_a_second_stage_is_part_of_the_task_and_as_long_as_others() -> None:
    def taught(epochs: int) -> dict[str, Task]:
        stage = f"fine_tune={{backend: exact, training: {{epochs: {epochs}}}}}"
        changes = [f"variants.{name}.{stage}" for name in ("plain", "teacher_labels")]
        return {t.variant: t for t in plan(parse(TEXT, changes)) if t.student == "linear"}

    one, two = taught(1), taught(2)
    assert all(one[name].key != two[name].key for name in ("plain", "teacher_labels"))
    row, plain = (run_task(one[name].spec)[0] for name in ("teacher_labels", "plain"))
    assert row["fine_tuning"]["steps_per_epoch"] == plain["fine_tuning"]["steps_per_epoch"] == 3


def test_a_training_of_its_own_is_one_task_however_the_pool_is_divided() -> None:
    own = "variants.teacher_labels.training={epochs: 3, batch_size: 8}"
    axis = "axes.n={key: data.options.train, values: [6, 12]}"
    fixed = "data.options.transfer=0"
    tasks = plan(parse(TEXT, [own, axis, fixed]))
    mine = [t for t in tasks if (t.student, t.variant) == ("linear", "teacher_labels")]
    assert all(t.spec["training"]["epochs"] == 3 for t in mine)
    assert {t.spec["training"]["batch_size"] for t in mine} == {8}


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("variants.distilled.sees=all", "a control without a teacher; got `sees: all`"),
        ("variants.plain.training={epochs: 3}", "variants on the same samples are trained alike"),
        (
            "students.control.options={control: pca_mlp}",
            "an option is set or chosen; got 'control'",
        ),
        ("students.control.candidates={control: [pca_mlp, pca_mlp]}", "candidates are different"),
        ("students.control.candidates={contrl: [pca_mlp]}", "contrl"),
        ("students.control.candidates={control: [pca_mlp, pca_lin]}", "pca_lin"),
    ],
)
def test_what_contradicts_itself_is_refused(override: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        plan(parse(TEXT, [override]))


def test_components_see_the_samples_of_training_alone() -> None:
    split = datasets["digits"](
        seed=0, classes=[3, 5], train=12, validation=30, test=40, transfer=24
    )
    spec = {
        "kind": "classical_control",
        "options": {"control": "pca_linear"},
        "dtype": "float64",
    }
    net = build_network(spec, split, seed=0)
    assert np.allclose(net.components.mean.numpy(), split.train.features.mean(axis=0))


@pytest.mark.slow
def test_validation_chooses_the_option_and_the_report_names_the_labels(tmp_path: Path) -> None:
    result = Study(parse(TEXT)).run(tmp_path / "run", workers=1)
    for variant in ("plain", "distilled", "teacher_labels"):
        rows = [r for r in result.rows if (r["student"], r["variant"]) == ("control", variant)]
        candidates = [
            r for r in result.candidates if (r["student"], r["variant"]) == ("control", variant)
        ]
        merit = {
            name: np.mean([r["validation"]["accuracy"] for r in candidates
                           if r["options"]["control"] == name])
            for name in ("pca_linear", "random_mlp")
        }  # fmt: skip
        assert len(candidates) == 4
        (chosen,) = {r["options"]["control"] for r in rows}
        assert merit[chosen] == max(merit.values())
    text = " ".join(terminal_table(result).split())
    assert "does a teacher that saw 36 labels help a student of 12" in text
    assert "trained on the labels that a teacher could see gains" in text
