# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fixed_images import IMAGES, fixed_images, registered  # noqa: F401 (a fixture)

from qiskit_kd.data import Dataset, Split, datasets
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
  shuffled:
    {teacher: teacher, placebo: shuffled, temperature: [1, 4], terms: [{loss: ce}, {loss: kl}]}
  uniform: {placebo: uniform, terms: [{loss: ce}, {loss: kl, options: {temperature: 3}}]}
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
        assert task.needs == ((teachers[task.seed].key,) if wants else ())
        json.loads(canonical(task.spec))


def test_labels() -> None:
    labels = [task.label for task in tasks()]
    assert "teacher, plain, seed 0" in labels
    assert "quantum, distilled, seed 1, temperature 4" in labels


def test_variants_of_one_seed_differ_in_their_lessons_alone() -> None:
    lessons = {"variant", "terms", "teachers", "candidate"}
    found = [t.spec for t in tasks() if (t.role, t.student, t.seed) == ("student", "quantum", 1)]
    common = [{k: v for k, v in spec.items() if k not in lessons} for spec in found]
    assert all(spec == common[0] for spec in common)
    assert common[0]["training"]["learning_rate"] == 0.05


def test_temperature_goes_to_the_terms_that_have_one_and_do_not_set_it() -> None:
    found = {(t.variant, t.candidate.get("temperature")): t.spec["terms"]
             for t in tasks() if t.student == "linear"}  # fmt: skip
    assert found["distilled", 4.0][1]["options"] == {"temperature": 4.0}
    assert found["distilled", 4.0][0]["options"] == {}
    assert found["uniform", None][1]["options"] == {"temperature": 3}


def test_every_variant_is_trained_with_every_candidate() -> None:
    """The baseline too: a learning rate belongs to no variant."""
    made = tasks("training.learning_rate=[0.01, 0.1]", "teacher.training.learning_rate=0.02",
                 "variants.distilled.terms.1.weight=[0.5, 2]")  # fmt: skip
    mine = [t for t in made if (t.student, t.seed) == ("linear", 0)]
    tried = {
        variant: [
            (t.spec["training"]["learning_rate"], *(term["weight"] for term in t.spec["terms"]),
             t.candidate.get("temperature"))
            for t in mine if t.variant == variant
        ]
        for variant in ("plain", "distilled")
    }  # fmt: skip
    assert tried["plain"] == [(0.01, 1.0, None), (0.1, 1.0, None)]
    assert tried["distilled"] == [
        (rate, 1.0, weight, warm) for warm in (1.0, 4.0) for weight in (0.5, 2.0)
        for rate in (0.01, 0.1)
    ]  # fmt: skip
    assert {t.spec["training"]["learning_rate"] for t in made if t.role == "teacher"} == {0.02}
    assert mine[0].label == "linear, plain, seed 0, learning rate 0.01"
    assert len({t.key for t in made}) == len(made)


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
    assert "\n  teachers.teacher: unknown activation; got 'sin'" in text


def test_an_axis_that_changes_nothing() -> None:
    unused = "backends.unused={base: noisy}"
    idle = "axes.scale={key: backends.unused.scale, values: [0.5, 1.0]}"
    with pytest.raises(ConfigError) as caught:
        tasks(unused, idle, "axes.rate={key: training.learning_rate, values: [0.1, 0.2]}")
    assert str(caught.value) == (
        "axes.scale: the values of an axis make a difference; got the same tasks at 0.5, 1.0; "
        "expected a key that a student, a teacher or the evaluation depends on. Correct its key, "
        "or remove the axis."
    )
    assert tasks(unused, idle, "axes.scale.only=[1.0]")
    used = "students.linear.training.epochs"  # a single student is enough
    assert tasks(f"axes.epochs={{key: {used}, values: [1, 2]}}")


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


# Axes, and several teachers.


def images(*overrides: str) -> list[Task]:
    return plan(parse(IMAGES, overrides))


@pytest.mark.usefixtures("registered")
def test_one_task_for_all_points_at_which_it_is_the_same() -> None:
    made = images()
    assert len({task.key for task in made}) == len(made)
    roles = [task.role for task in made]
    assert roles == sorted(roles, reverse=True)  # teachers first
    places: dict[tuple[str, str, int, float | None], list[tuple[int, ...]]] = {}
    for task in made:
        cell = task.student, task.variant, task.seed, task.candidate.get("temperature")
        places.setdefault(cell, []).append(task.points)
    # Points: 0 and 1 with 12 images, 2 and 3 with 24; teachers see all at 1 and 3.
    for seed in (0, 1):
        assert places["classical", "plain", seed, None] == [(0, 1), (2, 3)]
        assert places["quantum", "plain", seed, None] == [(0, 1), (2, 3)]
        assert places["classical", "untrained", seed, None] == [(0, 1), (2, 3)]
        for temperature in (1.0, 4.0):
            assert places["classical", "both", seed, temperature] == [(0,), (1,), (2,), (3,)]
        assert places["classical", "shuffled", seed, None] == [(0,), (1,), (2,), (3,)]
    for name in ("teacher:soft", "teacher:hybrid"):
        assert places[name, "plain", 0, None] == [(0,), (1, 3), (2,)]
        assert places[name, "plain", 1, None] == [(0,), (2,)]  # what is shared is of the first seed
    assert len(places) == 2 * (2 + 1 + 2 + 1) + 4


@pytest.mark.usefixtures("registered")
def test_labels_say_what_their_points_have_in_common() -> None:
    labels = {task.label for task in images()}
    assert {
        "teacher:soft, plain, sees all, seed 0", "classical, plain, images 12, seed 1",
        "classical, both, images 24, sees same, seed 0, temperature 4",
    } <= labels  # fmt: skip


@pytest.mark.usefixtures("registered")
def test_students_need_the_teachers_of_their_point() -> None:
    made = images()
    teachers = {(t.student, t.points, t.seed): t.key for t in made if t.role == "teacher"}
    for task in (t for t in made if t.role == "student"):
        wanted = {
            "plain": [], "untrained": [], "shuffled": ["teacher:soft"],
            "both": ["teacher:soft", "teacher:hybrid"],
        }[task.variant]  # fmt: skip
        shared = task.points[0] in (1, 3)
        points, seed = ((1, 3), 0) if shared else (task.points, task.seed)
        assert list(task.needs) == [teachers[name, points, seed] for name in wanted]
        assert [entry["key"] for entry in task.spec["teachers"].values()] == (
            [None] if task.variant == "untrained" else list(task.needs)
        )


@pytest.mark.usefixtures("registered")
def test_a_teacher_of_the_whole_pool_does_not_depend_on_how_it_is_divided() -> None:
    def keys(*overrides: str) -> dict[tuple[str, int], str]:
        made = images("axes.sees.only=[all]", "axes.images.only=[12]", *overrides)
        return {(t.student, t.seed): t.key for t in made if t.role == "teacher"}

    shared = keys()
    assert shared.keys() == {("teacher:soft", 0), ("teacher:hybrid", 0)}
    assert keys("axes.images.only=[24]")["teacher:soft", 0] == shared["teacher:soft", 0]
    assert keys("seeds=[0]") == shared
    assert keys("seeds=[1, 0]").keys() == {("teacher:soft", 1), ("teacher:hybrid", 1)}
    # The hybrid one takes its batch size from the training of all.
    assert keys("training.batch_size=7")["teacher:hybrid", 0] != shared["teacher:hybrid", 0]
    own = keys("teachers.soft.shared=false")
    assert own["teacher:soft", 0] == shared["teacher:soft", 0]
    assert own["teacher:soft", 1] != own["teacher:soft", 0]


def test_a_shared_teacher_needs_a_pool_that_all_seeds_have() -> None:
    with pytest.raises(ConfigError, match=r"teachers.teacher: a shared teacher sees the same pool, "
                       r"validation and test set for every seed; got other samples of the data set "
                       r"'digits' for seed 1 than for seed 0; expected data such as fashion_mnist, "
                       r".*. Set `shared: false`: one teacher per seed"):  # fmt: skip
        tasks("teacher.shared=true", "teacher.sees=all")
    assert tasks("teacher.shared=true")  # sees the same: there is nothing to share
    assert tasks("teacher.shared=true", "teacher.sees=all", "seeds=1")


@pytest.mark.usefixtures("registered")
def test_an_untrained_teacher_is_no_matter_of_training() -> None:
    def key(*overrides: str) -> str:
        (found,) = {
            t.key for t in images("axes={}", *overrides)
            if (t.variant, t.seed) == ("untrained", 0)
        }  # fmt: skip
        return found

    assert key() == key("teachers.hybrid.training.epochs=7")
    assert key() != key("teachers.hybrid.options.filters=3")
    trained = "variants.untrained.terms=[{loss: kl}, {loss: jsd, placebo: none}]"
    assert key(trained) != key(trained, "teachers.hybrid.training.epochs=7")


@pytest.mark.usefixtures("registered")
def test_evaluation_is_a_part_of_the_spec_and_maps_are_kept_once() -> None:
    made = images("axes={}")
    for task in made:
        asked = task.spec["evaluation"]
        assert asked["robustness"] == {"noise": [0.1], "rotation": [10.0]}
        assert ("feature_maps" in asked) == (task.seed == 0)
    keys = {task.key for task in made}
    assert not keys & {t.key for t in images("axes={}", "evaluation={}")}
    assert {t.seed for t in images("axes={}", "evaluation.feature_maps.images=5")
            if t.key in keys} == {1}  # fmt: skip


@pytest.mark.usefixtures("registered")
def test_a_split_is_made_once_for_all_points(monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_kd.data import datasets

    calls: list[tuple[int, int]] = []
    monkeypatch.setitem(
        datasets._parts, "fixed_images",
        lambda *, seed, train=12: fixed_images(seed=seed, train=train, calls=calls),
    )  # fmt: skip
    images()
    assert sorted(calls) == [(0, 12), (0, 24), (1, 12), (1, 24)]


def test_a_configuration_made_in_python_is_checked_too() -> None:
    config = parse(SMALL)
    broken = config.model_copy(update={"baseline": "alone"})
    with pytest.raises(
        ConfigError, match=r"the experiment cannot be run:\n  baseline: unknown vari"
    ):
        plan(broken)


def test_where_the_files_lie_is_no_part_of_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def placed(
        *, seed: int, root: str | None = None, download: bool = False, train: int = 12
    ) -> Split:
        split = fixed_images(seed=seed, train=train)
        if root == "altered":
            features = split.test.features + 0.001
            test = Dataset(features, split.test.labels, 3, "fixed_images", split.shape)
            return Split(split.train, split.validation, test, pool=split.pool)
        return split

    monkeypatch.setitem(datasets._parts, "fixed_images", placed)
    here = images()
    moved = images("data.options.root=there", "data.options.download=true")
    assert [t.key for t in moved] == [t.key for t in here]
    assert moved[0].spec["data"]["options"]["root"] == "there"  # the workers read it there
    altered = images("data.options.root=altered")
    assert not {t.key for t in altered} & {t.key for t in here}

    keys = []
    for path in (tmp_path / "one.npz", tmp_path / "two.npz"):
        rows = np.random.default_rng(1).random((60, 4)) + 0.1
        np.savez(path, features=rows, labels=np.arange(60) % 2)
        data = f"data: {{kind: npz, options: {{train: 20, path: {path}}}}}"
        text = SMALL.replace(SMALL.splitlines()[1], data)
        keys.append([t.key for t in plan(parse(text))])
    assert keys[0] == keys[1]


@pytest.mark.usefixtures("registered")
def test_errors_say_at_which_values_of_the_axes() -> None:
    with pytest.raises(ConfigError, match=r"(?s)^data: .*found at axes.images = 1$"):
        images("axes.images.values={12: {data.options.train: 12}, 1: {data.options.train: 1}}")
    with pytest.raises(ConfigError) as caught:
        images("axes.size={key: students.classical.options.kernel_size, values: [2, 9]}",
               "students.quantum.variants=[plain]")  # fmt: skip
    assert "students.classical: a kernel is no larger than" in str(caught.value)
    assert str(caught.value).endswith("found at axes.sees = same, axes.size = 9")
    with pytest.raises(ConfigError) as caught:
        tasks("data.options.train=5000")
    assert "found at" not in str(caught.value)
