# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from fixed_images import IMAGES, registered  # noqa: F401 (a fixture)
from test_loading import GOOD

from qiskit_kd.errors import ConfigError
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.result import Axis, StudyResult, choose, environment
from qiskit_kd.experiment.statistics import paired_gain
from qiskit_kd.seeding import stream


def row(student: str, variant: str, seed: int, temperature: float | None, **values: float):
    noise = stream(seed, student, variant, str(temperature)).normal(0, 0.01)
    validation, test = values.get("validation", 0.8), values.get("test", 0.8 + noise)
    return {
        "key": f"{student}-{variant}-{seed}-{temperature}", "student": student, "variant": variant,
        "seed": seed, "parameters": 74, "options": {"temperature": temperature},
        "validation": {"accuracy": validation, "macro_f1": 0.5, "nll": values.get("nll", 1.0)},
        "test": {"accuracy": test, "macro_f1": test / 2, "nll": 1.0, "ece": 0.1},
        "curves": {}, "distribution": [], "extra": {},
    }  # fmt: skip


def candidates(gain: float = 0.1, placebo: float = 0.0) -> list[dict]:
    rows = [row("teacher", "plain", seed, None, test=0.95) for seed in range(5)]
    for student in ("linear", "quantum"):
        for seed in range(5):
            base = 0.5 + 0.05 * seed
            shift, other = 0.001 * seed, 0.001 * (2 * seed % 5)  # of one mean
            rows.append(row(student, "plain", seed, None, test=base))
            rows.append(row(student, "smoothed", seed, None, test=base + other))
            for variant, extra in (("distilled", gain), ("shuffled", placebo)):
                for t, validation in ((1, 0.7), (4, 0.8)):
                    wobble = shift if variant == "distilled" else other
                    value = base + extra + wobble if t == 4 else 0.99
                    rows.append(row(student, variant, seed, t, validation=validation, test=value))
    return rows


def result(rows: list[dict], *overrides: str) -> StudyResult:
    config = parse(GOOD, ["seeds=5", *overrides])
    return StudyResult(
        config.name, config.resolved(), tuple(rows), {}, 0, "qkd run small", environment()
    )


def test_validation_alone_chooses_the_temperature() -> None:
    """At temperature 1 the test accuracy is 0.99, and nobody may notice."""
    chosen = result(candidates()).rows
    assert {r["options"]["temperature"] for r in chosen if r["variant"] == "distilled"} == {4}
    assert max(r["test"]["accuracy"] for r in chosen if r["student"] != "teacher") < 0.99
    assert len(chosen) == 5 + 2 * 4 * 5
    assert [r["student"] for r in chosen[:5]] == ["teacher"] * 5


def test_table() -> None:
    table = result(candidates()).table
    assert [(t["student"], t["variant"]) for t in table][:3] == [
        ("teacher", "plain"), ("linear", "plain"), ("linear", "distilled"),
    ]  # fmt: skip
    entry = next(t for t in table if (t["student"], t["variant"]) == ("quantum", "plain"))
    assert entry == {
        "student": "quantum", "variant": "plain", "parameters": 74, "n": 5,
        "accuracy": pytest.approx(0.6), "macro_f1": pytest.approx(0.3), "collapsed": 0,
    }  # fmt: skip


def test_comparisons() -> None:
    found = result(candidates()).comparisons
    per_student = {
        (c["variant"], c["baseline"], c["metric"]) for c in found if c["student"] == "quantum"
    }
    pairs = [("distilled", "plain"), ("shuffled", "plain"), ("smoothed", "plain"),
             ("distilled", "shuffled"), ("distilled", "smoothed")]  # fmt: skip
    assert per_student == {(*pair, m) for pair in pairs for m in ("accuracy", "macro_f1")}
    assert len(found) == 2 * len(per_student)
    first = found[0]
    gain = paired_gain([0.1, 0.101, 0.102, 0.103, 0.104], [0.0] * 5)
    assert first == {
        "student": "linear", "variant": "distilled", "baseline": "plain", "metric": "accuracy",
        "gain": pytest.approx(gain.mean),
        "ci95": [pytest.approx(gain.low), pytest.approx(gain.high)], "n": 5,
        "verdict": "confirmed", "shared": 0.0, "p_sign_flip": 2 / 32,
    }  # fmt: skip


def test_one_seed_has_no_interval() -> None:
    rows = [r for r in candidates() if r["seed"] == 0]
    found = result(rows).comparisons[0]
    assert (found["n"], found["ci95"], found["verdict"]) == (1, [None, None], "not confirmed")


def test_seeds_are_paired_by_number_not_by_position() -> None:
    rows = [r for r in candidates() if not (r["variant"] == "plain" and r["seed"] == 0)]
    gain = result(rows).gain("quantum", "distilled", "plain")
    assert gain is not None
    assert (gain.n, gain.mean) == (4, pytest.approx(0.1025))
    assert result(rows).gain("quantum", "distilled", "nothing") is None


def test_verdict_names_gain_interval_n_and_placebos() -> None:
    text = result(candidates(0.1, 0.0)).verdict
    assert text.startswith(
        "test accuracy, confirmed: quantum distilled against plain +0.102 [+0.100, +0.104] (n = 5)"
    )
    assert "; beats shuffled +0.100" in text
    assert "; beats smoothed +0.100" in text
    assert "does not beat shuffled +0.000" in result(candidates(0.1, 0.1)).verdict
    assert "loses to shuffled" in result(candidates(0.1, 0.2)).verdict
    assert result(candidates(-0.1)).verdict.startswith("test accuracy, harmful: quantum")
    assert "confirmed: linear" in result(candidates(), "headline=linear").verdict


def test_nothing_to_judge() -> None:
    assert result([]).verdict == "no verdict: quantum has no seed with both distilled and plain"
    assert (result([]).rows, result([]).table, result([]).comparisons) == ([], [], [])
    lone = parse(GOOD).model_copy(update={"variants": {"plain": parse(GOOD).variants["plain"]}})
    alone = StudyResult("x", lone.resolved(), (), {}, 0, "", {})
    assert alone.verdict == "no verdict: no variant of quantum has a teacher"


def test_fingerprint_is_of_the_configuration() -> None:
    assert result([]).fingerprint == result(candidates()).fingerprint
    assert result([]).fingerprint != result([], "training.epochs=8").fingerprint


def test_environment() -> None:
    facts = environment()
    assert facts["torch"][0].isdigit()
    assert facts["numpy"] == np.__version__
    assert "cores" in facts["system"]


# Axes.

AXES = """\
axes:
  images: {title: labelled images, key: data.options.train, values: [20, 30]}
  sees: {values: {same: {teacher.sees: same}, all: {teacher.sees: all}}}
"""
POINTS = [{"images": i, "sees": s} for i in (20, 30) for s in ("same", "all")]


def at_points(*gains: float | None, **overrides: str) -> StudyResult:
    """A study with a gain at each of the points; None: no rows there."""
    config = parse(GOOD + AXES, ["seeds=5", *(f"{k}={v}" for k, v in overrides.items())])
    rows = [
        {**row, "point": point}
        for point, gain in zip(POINTS, gains, strict=True)
        for row in (() if gain is None else candidates(gain))
    ]
    return StudyResult(config.name, config.resolved(), tuple(rows), {}, 0, "qkd run small", {})


def test_axes_and_points() -> None:
    found = at_points(0.1, 0.0, -0.1, None)
    assert found.axes == {"images": Axis("labelled images", (20, 30)),
                          "sees": Axis("sees", ("same", "all"))}  # fmt: skip
    assert found.points == POINTS
    assert (result([]).axes, result([]).points) == ({}, [{}])
    assert {tuple(row["point"]) for row in result(candidates()).rows} == {()}


def test_everything_is_said_point_by_point() -> None:
    found = at_points(0.1, 0.0, -0.1, None)
    per_point = len(result(candidates()).rows)
    assert [row["point"] for row in found.rows] == [
        point for point in POINTS[:3] for _ in range(per_point)
    ]
    plain, whole = result(candidates(0.0)), [e for e in found.table if e["point"] == POINTS[1]]
    assert whole == [{"point": POINTS[1], **entry} for entry in plain.table]
    whole = [c for c in found.comparisons if c["point"] == POINTS[1]]
    assert whole == [{"point": POINTS[1], **entry} for entry in plain.comparisons]
    assert all("point" not in entry for entry in plain.table + plain.comparisons)


def test_a_gain_belongs_to_a_point() -> None:
    found = at_points(0.1, 0.0, -0.1, None)

    def gain(point: dict | None) -> float | None:
        measured = found.gain("quantum", "distilled", "plain", point=point)
        return None if measured is None else measured.mean

    assert [gain(point) for point in POINTS] == [
        pytest.approx(0.102), pytest.approx(0.002), pytest.approx(-0.098), None,
    ]  # fmt: skip
    for point in (None, {"images": 20}, {"images": 21, "sees": "all"}):
        with pytest.raises(ConfigError, match=r"a gain is measured at one point of the study's axes"
                           r"; got .*; expected for example {'images': 20, 'sees': 'same'}. See Stu"
                           ):  # fmt: skip
            gain(point)
    lone = at_points(0.1, 0.0, -0.1, None).config
    lone = parse(GOOD + AXES, ["axes.images.only=[30]", "axes.sees.only=[all]"])
    single = StudyResult("x", lone.resolved(), (), {}, 0, "", {})
    assert single.gain("quantum", "distilled", "plain") is None


def test_verdict_counts_points() -> None:
    text = at_points(0.1, 0.0, -0.1, 0.1).verdict
    assert text.startswith(
        "test accuracy, quantum distilled against plain at 4 of 4 points: confirmed at 3"
    )
    text = at_points(0.1, 0.0, -0.1, None).verdict
    assert (
        "against plain at 3 of 4 points: confirmed at 2 (images 20, sees same; images 20, "
        "sees all), not confirmed at 0, harmful at 1 (images 30, sees same); against "
        "shuffled at 3 of 4 points: " in text
    )
    assert (
        "; against smoothed at 3 of 4 points: confirmed at 1 (images 20, sees same), not " in text
    )
    assert at_points(None, None, None, None).verdict == (
        "no verdict: quantum has no seed with both distilled and plain"
    )


def test_what_holds_at_a_point_is_used_there() -> None:
    """Temperatures, and whether a variant is a placebo, may be set by an axis."""
    axes = """\
axes:
  kind:
    values:
      real: {variants.distilled.temperature: [1]}
      fake: {variants.distilled.placebo: untrained}
"""
    config = parse(GOOD + axes, ["seeds=5"])
    rows = [{**row, "point": point} for point in config.points() for row in candidates()]
    found = StudyResult("x", config.resolved(), tuple(rows), {}, 0, "", {})
    temperatures = {
        row["point"]["kind"]: row["options"]["temperature"]
        for row in found.rows if row["variant"] == "distilled"
    }  # fmt: skip
    assert temperatures == {"real": 1, "fake": 4}
    against = {
        (c["point"]["kind"], c["baseline"])
        for c in found.comparisons if c["variant"] == "distilled"
    }  # fmt: skip
    assert against == {("real", "plain"), ("real", "shuffled"), ("real", "smoothed"),
                       ("fake", "plain")}  # fmt: skip


def test_a_shared_teacher_has_one_row_at_each_point() -> None:
    config = parse(GOOD + AXES, ["seeds=5"])
    rows = [{**row("teacher", "plain", 0, None), "point": point} for point in POINTS]
    found = StudyResult("x", config.resolved(), tuple(rows), {}, 0, "", {})
    assert [entry["point"] for entry in found.table] == POINTS
    assert {(entry["student"], entry["n"]) for entry in found.table} == {("teacher", 1)}


def test_another_training_is_no_placebo() -> None:
    """Neither label smoothing nor a teacher's placebo: a control that only differs otherwise."""
    made = result(
        candidates(), "variants.smoothed.terms=[{loss: ce}]",
        "variants.shuffled.terms=[{loss: ce}]", "variants.shuffled.placebo=none",
        "variants.shuffled.teacher=none", "variants.shuffled.temperature=null",
    )  # fmt: skip
    assert made.verdict.endswith("; no placebo was run")
    assert "; beats smoothed +0.100" in made.verdict
    assert "no placebo was run" not in result(candidates()).verdict


def test_longer_training_is_said_in_the_verdict() -> None:
    rows = [{**r, "steps_per_epoch": 7 if r["variant"] == "distilled" else 2}
            for r in candidates()]  # fmt: skip
    assert result(rows).verdict.endswith(
        "; unequal steps: distilled took 7 an epoch and plain 2, so a gain may come from training "
        "for longer"
    )
    equal = [{**r, "steps_per_epoch": 2} for r in candidates()]
    assert "steps" not in result(equal).verdict
    twice = [{**r, **({"fine_tuning": {}} if r["variant"] == "distilled" else {})} for r in equal]
    assert result(twice).verdict.endswith(
        "; only distilled had a second stage of training, not plain"
    )


def test_a_placebo_that_was_tuned_less_is_named() -> None:
    less = result(candidates(), "variants.shuffled.temperature=4").verdict
    assert less.endswith("; shuffled was tuned less: 1 of 2 candidates")
    assert "tuned less" not in result(candidates()).verdict


def test_collapsed_seeds_and_the_sign_flip_test_are_in_the_verdict() -> None:
    rows = [
        {**r, "distribution": [[1, 0], [0, 1]],
         "test": {**r["test"], "accuracy": 0.51 if (r["variant"], r["seed"]) == ("plain", 2)
                  else 0.9 + 0.01 * r["seed"] * (r["variant"] == "distilled")}}
        for r in candidates()
    ]  # fmt: skip
    found = result(rows)
    assert "; 1 seed of plain collapsed" in found.verdict
    assert ", sign-flip p = 0.12" in found.verdict
    assert {(t["student"], t["variant"]): t["collapsed"] for t in found.table}[
        "quantum", "plain"
    ] == 1  # fmt: skip
    assert "collapsed" not in result(candidates()).verdict


def test_intervals_allow_for_samples_that_seeds_share() -> None:
    told = {"source": "one", "of": 8, "tested": "ff", "trained": 0.0}
    rights = {"plain": ["01", "03", "01", "07", "03"], "distilled": ["0f", "3f", "1f", "ff", "7f"]}
    rows = [
        {**r, "correct": {**told, "right": rights.get(r["variant"], rights["plain"])[r["seed"]]},
         "test": {**r["test"], "accuracy": rights.get(r["variant"], rights["plain"])[
             r["seed"]].count("f") / 8}}
        for r in candidates()
    ]  # fmt: skip
    gain = result(rows).gain("quantum", "distilled", "plain")
    plain = result([{k: v for k, v in r.items() if k != "correct"} for r in rows]).gain(
        "quantum", "distilled", "plain"
    )
    assert gain.shared > 0 == plain.shared
    assert gain.high - gain.mean > plain.high - plain.mean
    assert "; intervals allow for samples that seeds share" in result(rows).verdict


# Which candidate counts.


def test_choice_over_seeds_and_per_seed() -> None:
    rows = []
    for seed, (cold, warm) in enumerate([(0.9, 0.8), (0.5, 0.8), (0.7, 0.6)]):
        rows += [row("linear", "distilled", seed, 1.0, validation=cold),
                 row("linear", "distilled", seed, 4.0, validation=warm)]  # fmt: skip

    def temperatures(*overrides: str) -> list[float]:
        return [r["options"]["temperature"] for r in choose(rows, parse(GOOD, overrides))]

    assert temperatures() == [4.0, 4.0, 4.0]
    assert temperatures("selection=per_seed") == [1.0, 4.0, 1.0]


def test_ties_go_to_the_smaller_validation_loss_then_to_the_first() -> None:
    def pick(cold: float, warm: float, *overrides: str) -> float:
        rows = [row("linear", "distilled", seed, t, validation=0.8, nll=nll)
                for seed in range(3) for t, nll in ((1.0, cold), (4.0, warm))]  # fmt: skip
        return choose(rows, parse(GOOD, overrides))[0]["options"]["temperature"]

    assert pick(0.5, 0.4) == 4.0
    assert pick(0.4, 0.5) == 1.0
    assert pick(0.4, 0.4) == 1.0
    assert pick(0.5, None) == 1.0  # a loss that was not finite
    assert pick(0.5, 0.4, "metric=loss") == 4.0


def test_a_candidate_is_judged_on_seeds_that_all_have() -> None:
    rows = [row("linear", "distilled", 0, 1.0, validation=0.6),
            row("linear", "distilled", 0, 4.0, validation=0.7),
            row("linear", "distilled", 1, 1.0, validation=0.99)]  # fmt: skip
    chosen = choose(rows, parse(GOOD))
    assert [(r["seed"], r["options"]["temperature"]) for r in chosen] == [(0, 4.0)]


def test_learning_rate_and_weights_are_chosen_for_the_baseline_as_for_the_rest() -> None:
    config = parse(GOOD, ["training.learning_rate=[0.01, 0.1]",
                          "teacher.training.learning_rate=0.1", "students.quantum.training={}",
                          "variants.shuffled.terms.1.weight=[0.5, 2]",
                          "variants.shuffled.temperature=4"])  # fmt: skip
    rows = []
    for seed in range(3):
        for rate, validation in ((0.01, 0.6), (0.1, 0.7)):
            one = row("linear", "plain", seed, None, validation=validation, test=1 - validation)
            rows.append({**one, "options": {"temperature": None, "learning_rate": rate}})
            for weight, more in ((0.5, 0.02), (2.0, 0.01)):
                other = row("linear", "shuffled", seed, 4.0, validation=1 - validation + more)
                options = {"temperature": 4.0, "weight of kl": weight, "learning_rate": rate}
                rows.append({**other, "options": options})
    chosen = {(r["variant"], *r["options"].values()) for r in choose(rows, config)}
    assert chosen == {("plain", None, 0.1), ("shuffled", 4.0, 0.5, 0.01)}


@pytest.mark.usefixtures("registered")
def test_teachers_come_first_and_students_only_in_their_variants() -> None:
    config = parse(IMAGES, ["seeds=1"]).at({"images": 12, "sees": "same"})
    rows = [row(student, variant, 0, None)
            for student in ("quantum", "classical", "teacher:hybrid", "teacher:soft")
            for variant in ("shuffled", "plain")]  # fmt: skip
    assert [(r["student"], r["variant"]) for r in choose(rows, config)] == [
        ("teacher:soft", "plain"), ("teacher:hybrid", "plain"), ("classical", "plain"),
        ("classical", "shuffled"), ("quantum", "plain"),
    ]  # fmt: skip
