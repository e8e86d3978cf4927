# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qiskit_kd.errors import ConfigError
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.plan import Task, plan
from qiskit_kd.experiment.store import canonical

SMALL = """\
name: small
data: {kind: digits, options: {classes: [3, 5], train: 20, validation: 30, test: 40, transfer: 20}}
teacher: {kind: mlp}
students:
  linear: {kind: linear}
  quantum:
    kind: fully_quantum
    options: {layers: 1, ansatz_options: {}}
    training: {learning_rate: 0.05}
variants:
  plain: {terms: [{loss: ce}]}
  distilled: {teacher: teacher, temperature: [1, 4], terms: [{loss: ce}, {loss: kl}]}
  shuffled: {teacher: shuffled, temperature: [1, 4], terms: [{loss: ce}, {loss: kl}]}
  uniform: {teacher: uniform, terms: [{loss: ce}, {loss: kl, options: {temperature: 3}}]}
seeds: 2
training: {epochs: 3, batch_size: 16}
"""


def tasks(*overrides: str) -> list[Task]:
    return plan(parse(SMALL, overrides))


def test_expansion() -> None:
    made = tasks()
    teachers = [t for t in made if t.role == "teacher"]
    assert [t.seed for t in teachers] == [0, 1]
    assert made[:2] == teachers
    students = [t for t in made if t.role == "student"]
    assert len(students) == 2 * 2 * (1 + 2 + 2 + 1)
    assert len({t.key for t in made}) == len(made)
    for task in students:
        wants = task.variant in ("distilled", "shuffled")
        assert task.needs == (teachers[task.seed].key if wants else None)
        json.loads(canonical(task.spec))


def test_labels() -> None:
    labels = [task.label for task in tasks()]
    assert "teacher, plain, seed 0" in labels
    assert "quantum, distilled, seed 1, temperature 4" in labels


def test_variants_of_one_seed_differ_in_their_lessons_alone() -> None:
    lessons = {"variant", "terms", "teacher", "temperature", "taught_by"}
    found = [t.spec for t in tasks() if (t.role, t.student, t.seed) == ("student", "quantum", 1)]
    common = [{k: v for k, v in spec.items() if k not in lessons} for spec in found]
    assert all(spec == common[0] for spec in common)
    assert common[0]["training"]["learning_rate"] == 0.05


def test_temperature_goes_to_the_terms_that_have_one_and_do_not_set_it() -> None:
    found = {(t.variant, t.temperature): t.spec["terms"] for t in tasks() if t.student == "linear"}
    assert found["distilled", 4.0][1]["options"] == {"temperature": 4.0}
    assert found["distilled", 4.0][0]["options"] == {}
    assert found["uniform", None][1]["options"] == {"temperature": 3}


def test_keys_are_stable_and_care_about_what_matters() -> None:
    keys = {t.label: t.key for t in tasks()}
    assert keys == {t.label: t.key for t in tasks()}
    assert keys == {t.label: t.key for t in tasks("title=other", "training.checkpoint_epochs=1")}
    assert not set(keys.values()) & {t.key for t in tasks("training.epochs=4")}
    assert not set(keys.values()) & {t.key for t in tasks("data.options.train=24")}

    def changed(*overrides: str) -> set[str]:
        other = {t.label: t.key for t in tasks(*overrides)}
        return {label for label in keys if other.get(label) != keys[label]}

    fewer = changed("seeds=1")
    assert fewer == {label for label in keys if "seed 1" in label}
    taught = changed("teacher.training.epochs=9")  # the teacher, and whoever it teaches
    assert taught == {
        label
        for label in keys
        if label.startswith("teacher") or "distilled" in label or "shuffled" in label
    }
    assert changed("students.linear.training.epochs=9") == {
        label for label in keys if label.startswith("linear")
    }


def test_networks_that_cannot_be_built_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        tasks("students.quantum.options={sharpness: very}", "teacher.options={activation: sin}")
    text = str(caught.value)
    assert text.startswith("networks that cannot be built:\n  students.quantum: unknown sharpness")
    assert "\n  teacher: unknown activation; got 'sin'" in text


def test_data_that_cannot_be_had() -> None:
    with pytest.raises(ConfigError, match=r"data: the parts .* fit into the data set 'digits-35'"):
        tasks("data.options.train=5000")


def test_losses_that_do_not_fit_the_data_are_all_named() -> None:
    """Decoupled distillation needs three classes, and only the data say how many there are."""
    with pytest.raises(ConfigError) as caught:
        tasks("variants.distilled.terms.1.loss=dkd", "variants.uniform.terms.1.loss=dkd")
    text = str(caught.value)
    assert text.startswith("terms that cannot work:\n  variants.distilled.terms.1: decoupled")
    assert "\n  variants.uniform.terms.1: decoupled" in text
    assert text.count("variants.distilled") == 1  # not once per temperature


def test_samples_that_cannot_be_encoded(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(40, 4))
    np.savez(tmp_path / "good.npz", features=features, labels=np.arange(40) % 2)
    features[17] = 0.0
    np.savez(tmp_path / "bad.npz", features=features, labels=np.arange(40) % 2)

    text = SMALL.replace(
        "data: {kind: digits, options: {classes: [3, 5], train: 20, validation: 30, test: 40, "
        "transfer: 20}}", f"data: {{kind: npz, options: {{path: {tmp_path}/good.npz}}}}",
    )  # fmt: skip
    assert "npz" in text
    assert plan(parse(text))
    with pytest.raises(ConfigError, match=r"students.quantum cannot encode the \w+ samples of seed "
                       r"0: amplitude .* got a zero vector in row \d+"):  # fmt: skip
        plan(parse(text.replace("good", "bad")))
    linear = ["students.quantum.kind=linear", "students.quantum.options={}"]
    assert plan(parse(text.replace("good", "bad"), linear))  # nobody else minds
