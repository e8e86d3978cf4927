# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from test_loading import GOOD

from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.result import StudyResult, choose, environment
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


def test_table() -> None:
    table = result(candidates()).table
    assert [(t["student"], t["variant"]) for t in table][:3] == [
        ("teacher", "plain"), ("linear", "plain"), ("linear", "distilled"),
    ]  # fmt: skip
    entry = next(t for t in table if (t["student"], t["variant"]) == ("quantum", "plain"))
    assert entry == {
        "student": "quantum", "variant": "plain", "parameters": 74, "n": 5,
        "accuracy": pytest.approx(0.6), "macro_f1": pytest.approx(0.3),
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
        "verdict": "confirmed",
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
    assert alone.verdict == "no verdict: no variant has a teacher"


def test_fingerprint_is_of_the_configuration() -> None:
    assert result([]).fingerprint == result(candidates()).fingerprint
    assert result([]).fingerprint != result([], "training.epochs=8").fingerprint


def test_environment() -> None:
    facts = environment()
    assert facts["torch"][0].isdigit()
    assert facts["numpy"] == np.__version__
    assert "cores" in facts["system"]
