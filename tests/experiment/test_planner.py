# SPDX-License-Identifier: Apache-2.0
"""Specs and keys of studies that train on one backend and are judged on another."""

from __future__ import annotations

from pathlib import Path

import pytest
from noisy_study import STUDY, backends, by_label, study  # noqa: F401 (a fixture)

from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.plan import plan
from qiskit_kd.experiment.store import canonical

pytestmark = pytest.mark.usefixtures("backends")

FROZEN = """\
name: frozen
data: {kind: digits, options: {classes: [3, 5], train: 20, validation: 30, test: 40}}
teacher: {kind: mlp}
students:
  quantum: {kind: fully_quantum, options: {layers: 1, ansatz_options: {}}}
variants:
  plain: {terms: [{loss: ce}]}
  distilled: {teacher: teacher, temperature: 4, terms: [{loss: ce}, {loss: kl}]}
seeds: 1
training: {epochs: 3, batch_size: 16}
evaluation: {robustness: {noise: [0.1]}}
"""
# As they are with schema 3.
KEYS = {
    "exact": {
        "teacher, plain, seed 0":
            "ef398c63af689377d23dbe00dfa0102b4fa0a28fe1725880eff335cdc051e723",
        "quantum, plain, seed 0":
            "46f329e493029e5cff0f2caba5c0c293e76366e7c060d2f5ee4a52e29a93ba3e",
        "quantum, distilled, seed 0, temperature 4":
            "89904bb723c8bde1ec76a264746eab2e4036960e2ff2666f0226e86647bebe21",
    },
    "aer": {
        "teacher, plain, seed 0":
            "ef398c63af689377d23dbe00dfa0102b4fa0a28fe1725880eff335cdc051e723",
        "quantum, plain, seed 0":
            "3372657e70cb0c4ec3eb6ba5a83e8c4e6b18699ff3392fab420494cee1f94917",
        "quantum, distilled, seed 0, temperature 4":
            "0f9e7f933ba08347e06b7ee680e0a89a23d3af8435686367380307dd0f09e14a",
    },
}  # fmt: skip


@pytest.mark.parametrize("backend", KEYS)
def test_rows_of_older_studies_are_found_again(backend: str) -> None:
    """Whoever has trained for days must not do so again because of settings they do not use."""
    found = {task.label: task.key for task in plan(parse(FROZEN, [f"backend={backend}"]))}
    assert found == KEYS[backend]
    unused = "backends.mine={base: noisy, scale: 3}"  # nobody runs there
    assert {t.key for t in plan(parse(FROZEN, [f"backend={backend}", unused]))} == set(
        KEYS[backend].values()
    )


def test_where_a_variant_is_trained() -> None:
    specs = {t.variant: t.spec for t in study() if (t.student, t.seed) == ("quantum", 0)}
    assert {name: spec["backend"]["name"] for name, spec in specs.items()} == {
        "plain": "exact", "noisy": "device", "tuned": "exact", "taught": "exact",
    }  # fmt: skip
    there = specs["noisy"]["backend"]
    assert {key: there[key] for key in ("base", "settings", "kind", "scale")} == {
        "base": "noisy", "settings": {"scale": 2.0}, "kind": "noisy", "scale": 2.0,
    }  # fmt: skip
    everywhere = {t.variant: t.spec["backend"]["name"] for t in study("backend=device")
                  if t.role == "student"}  # fmt: skip
    assert set(everywhere.values()) == {"device"}


def test_variants_that_differ_in_their_backend_differ_in_nothing_else() -> None:
    specs = {t.variant: t.spec for t in study() if (t.student, t.seed) == ("quantum", 1)}
    different = {key for key in specs["plain"] if specs["plain"][key] != specs["noisy"][key]}
    assert different == {"variant", "backend"}
    assert set(specs["tuned"]) - set(specs["plain"]) == {"fine_tune"}


def test_the_second_stage() -> None:
    (spec,) = (t.spec for t in study() if t.label == "quantum, tuned, seed 0")
    stage = spec["fine_tune"]
    assert stage["backend"] == spec["evaluation"]["backend"]
    assert stage["training"] == {**spec["training"], "epochs": 1, "learning_rate": 0.001}
    (spec,) = (
        t.spec for t in study("students.quantum.training={epochs: 7, optimizer: sgd}")
        if t.label == "quantum, tuned, seed 0"
    )  # fmt: skip
    assert (spec["training"]["epochs"], spec["training"]["optimizer"]) == (7, "sgd")
    assert (spec["fine_tune"]["training"]["epochs"], spec["fine_tune"]["training"]["optimizer"]) \
        == (1, "sgd")  # fmt: skip


def test_what_students_are_judged_by() -> None:
    made = by_label()
    first, second = (made[f"quantum, plain, seed {seed}"].spec["evaluation"] for seed in (0, 1))
    assert first["backend"]["name"] == "device"
    assert (first["shots"], first["teacher"]) == ([64, 1000], "other")
    beside = first["side_by_side"]
    assert [entry["name"] for entry in beside["backends"]] == ["exact", "aer", "device"]
    assert beside["backends"][2] == first["backend"]
    assert beside["samples"] == 5
    assert second == {key: value for key, value in first.items() if key != "side_by_side"}
    late = by_label("seeds=[1, 0]")
    assert "side_by_side" in late["quantum, plain, seed 1"].spec["evaluation"]
    assert "side_by_side" not in late["quantum, plain, seed 0"].spec["evaluation"]


def test_teachers_are_judged_where_they_are() -> None:
    made = by_label("evaluation.robustness={noise: [0.1]}")
    teachers = [task for task in made.values() if task.role == "teacher"]
    assert len(teachers) == 4
    for task in teachers:
        assert task.spec["evaluation"] == {"robustness": {"noise": [0.1]}}
        assert task.spec["backend"]["name"] == "exact"
    assert {t.key for t in study() if t.role == "teacher"} == {
        t.key for t in study("evaluation={}", "backends.device.scale=0.5", "evaluation.shots=[9]")
        if t.role == "teacher"
    }  # fmt: skip


def test_the_judge_has_to_be_trained() -> None:
    made = by_label()
    soft, other = (made[f"teacher:{name}, plain, seed 0"].key for name in ("soft", "other"))
    plain, taught = made["quantum, plain, seed 0"], made["quantum, taught, seed 0, temperature 2"]
    assert plain.needs == (other,)
    assert list(plain.spec["teachers"]) == ["other"]
    assert plain.spec["teachers"]["other"]["key"] == other
    assert taught.needs == (soft, other)
    same = by_label("evaluation.teacher=soft")
    assert same["quantum, taught, seed 0, temperature 2"].needs == (soft,)  # once
    assert same["quantum, plain, seed 0"].needs == (soft,)
    none = by_label("evaluation.teacher=null")
    assert none["quantum, plain, seed 0"].needs == ()
    assert none["quantum, plain, seed 0"].spec["teachers"] == {}


def test_a_judge_that_is_also_an_untrained_placebo_is_trained() -> None:
    made = by_label(
        "variants.taught={teacher: other, placebo: untrained, terms: [{loss: ce}, {loss: kl}]}",
        "variants.taught.temperature=null",
    )
    task = made["quantum, taught, seed 0"]
    assert task.needs == (made["teacher:other, plain, seed 0"].key,)
    (_, term) = task.spec["terms"]
    assert (term["teacher"], term["placebo"]) == ("other", "untrained")


def changed(*overrides: str) -> set[str]:
    """Students and variants of seed 0 whose tasks are others."""
    before, after = (
        {(t.student, t.variant): t.key for t in tasks if t.seed == 0}
        for tasks in (study(), study(*overrides))
    )
    return {" ".join(cell) for cell in before if after[cell] != before[cell]}


def test_keys_care_about_where_a_task_runs_and_is_judged() -> None:
    quantum = {f"quantum {name}" for name in ("plain", "noisy", "tuned", "taught")}
    students = {*quantum, "linear plain"}
    assert changed("backends.device.scale=3.0") == students  # all are judged there
    alone = ("evaluation={backend: null, shots: [], side_by_side: null, teacher: null}",)
    assert changed(*alone) == students
    before = {(t.student, t.variant): t.key for t in study(*alone) if t.seed == 0}
    for override, cells in (
        ("backends.device.scale=3.0", {"quantum noisy", "quantum tuned"}),
        ("variants.noisy.backend=aer", {"quantum noisy"}),
        ("variants.tuned.fine_tune.training.epochs=2", {"quantum tuned"}),
        ("variants.tuned.fine_tune.backend=aer", {"quantum tuned"}),
        ("evaluation.shots=[9]", students), ("evaluation.backend=aer", students),
        ("evaluation.teacher=soft", students),
        ("evaluation.side_by_side={backends: [aer]}", students),
    ):  # fmt: skip
        after = {(t.student, t.variant): t.key for t in study(*alone, override) if t.seed == 0}
        assert {" ".join(c) for c in before if before[c] != after[c]} == cells, override


def test_the_backend_file_counts(backends: Path) -> None:  # noqa: F811
    before = {t.label: t.key for t in study()}
    backends.write_text(backends.read_text().replace("two_qubit: 0.04", "two_qubit: 0.05"))
    after = {t.label: t.key for t in study()}
    assert {label for label in before if before[label] != after[label]} == {
        label for label in before if not label.startswith("teacher")
    }


def test_axes_over_settings_of_a_backend() -> None:
    made = plan(parse(STUDY + """\
axes:
  scale: {key: backends.device.scale, values: [0, 0.5, 2.0]}
  noise:
    values:
      plain: {backends.device.description: as it is}
      worse: {backends.device.noise: {rates: {two_qubit: 0.2, readout: 0.1}}}
      read: {backends.device.noise.rates.readout: 0.3, backends.device.noise.rates.two_qubit: 0.01}
""", ["seeds=1"]))  # fmt: skip
    config = parse(STUDY)
    noisy = [t for t in made if t.variant == "noisy"]
    assert [t.points for t in noisy] == [(k,) for k in range(9)]
    for task, (scale, noise) in zip(
        noisy, [(s, n) for s in (0, 0.5, 2.0) for n in ("plain", "worse", "read")], strict=True
    ):
        entry = task.spec["backend"]
        assert entry["scale"] == entry["settings"]["scale"] == scale
        rates = entry["noise"]["rates"]
        assert (rates["two_qubit"], rates["readout"]) == {
            "plain": (0.04, (0.02, 0.05)), "worse": (0.2, (0.1, 0.1)), "read": (0.01, (0.3, 0.3)),
        }[noise]  # fmt: skip
        assert task.spec["evaluation"]["backend"] == entry
    assert config.backends["device"].settings == {"scale": 2.0}
    teachers = [t for t in made if t.role == "teacher"]
    assert [t.points for t in teachers] == [tuple(range(9))] * 2  # at all points the same
    canonical([t.spec for t in made])


def test_a_point_in_the_middle_is_the_study_without_axes() -> None:
    axes = "axes.scale={key: backends.device.scale, values: [0, 2.0]}"
    at_two = {t.label.replace("scale 2, ", "").replace("scale 2.0, ", ""): t.key
              for t in study(axes) if 1 in t.points}  # fmt: skip
    assert at_two == {t.label: t.key for t in study()}
