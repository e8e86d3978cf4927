# SPDX-License-Identifier: Apache-2.0
"""Which training holds: chosen on validation data alone, measured on test data, seed by seed."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qiskit_kd.report.grid import at
from qiskit_kd.report.summary import paired
from qiskit_kd.report.trainings import (
    averaged,
    compared,
    contest,
    lost,
    noisy_points,
    preferred,
    scale_at,
    scaled,
    under_noise,
)

from .fake_axes import make as without_noise
from .fake_noise import EFFECTS, FakeStudy, grid, make

RESULT = make()
GRID = grid(RESULT)


def changed(change: Any) -> FakeStudy:
    """The study with every student's row changed."""
    rows = copy.deepcopy(RESULT.rows)
    for row in rows:
        if not row["student"].startswith("teacher"):
            change(row)
    return replace(RESULT, rows=rows)


def test_students_trained_in_several_ways() -> None:
    assert compared(RESULT) == ["sharp", "hybrid"]
    assert compared(make(students={"sharp": ("noisy", "noise_free"), "hybrid": ("noisy",)})) == [
        "sharp"
    ]


def test_every_point_has_the_variant_that_validation_prefers() -> None:
    found = preferred(RESULT, GRID, "sharp")
    assert [item.point for item in found] == GRID.points
    assert {item.variant for item in found} == {"from_classical"}
    for item in found:
        rows = [r for r in at(RESULT.rows, item.point) if r["student"] == "sharp"]
        mine = [r["validation"]["accuracy"] for r in rows if r["variant"] == item.variant]
        assert item.accuracy == pytest.approx(np.mean(mine))
        assert set(item.gains) == set(EFFECTS) - {"from_classical"}
        for other, gain in item.gains.items():
            assert gain == paired(rows, "sharp", "from_classical", other)


def test_the_test_data_choose_nothing() -> None:
    def flattered(row: dict[str, Any]) -> None:
        row["test"]["accuracy"] = 0.99 if row["variant"] == "shuffled" else 0.1

    def liked(row: dict[str, Any]) -> None:
        row["validation"]["accuracy"] = 0.9 if row["variant"] == "noisy" else 0.5

    untouched = [item.variant for item in preferred(RESULT, GRID, "sharp")]
    assert [item.variant for item in preferred(changed(flattered), GRID, "sharp")] == untouched
    assert {item.variant for item in preferred(changed(liked), GRID, "sharp")} == {"noisy"}


def test_ties_and_the_metric_of_the_study() -> None:
    def tied(row: dict[str, Any]) -> None:
        row["validation"] = {"accuracy": 0.5, "nll": 0.1 if row["variant"] == "shuffled" else 0.2}

    def diverged(row: dict[str, Any]) -> None:
        tied(row)
        row["validation"]["nll"] = None if row["variant"] == "shuffled" else 0.2

    def split(row: dict[str, Any]) -> None:
        tied(row)
        row["validation"]["accuracy"] = 0.9 if row["variant"] == "noisy" else 0.5

    def chosen(result: FakeStudy) -> set[str]:
        return {item.variant for item in preferred(result, GRID, "sharp")}

    assert chosen(changed(tied)) == {"shuffled"}
    assert chosen(changed(diverged)) == {"noise_free"}  # the first one listed
    by_accuracy = changed(split)
    assert chosen(by_accuracy) == {"noisy"}
    assert chosen(replace(by_accuracy, config={**RESULT.config, "metric": "loss"})) == {"shuffled"}


def test_only_seeds_that_all_variants_have_finished_choose() -> None:
    def lucky(row: dict[str, Any]) -> None:
        row["validation"]["accuracy"] = 0.9 if row["seed"] == 4 else 0.5
        row["validation"]["accuracy"] += 0.01 * (row["variant"] == "noisy")

    rows = [r for r in changed(lucky).rows if (r["variant"], r["seed"]) != ("noisy", 4)]
    waiting = replace(RESULT, rows=rows)
    assert {item.variant for item in preferred(waiting, GRID, "sharp")} == {"noisy"}
    lonely = replace(RESULT, rows=[r for r in RESULT.rows if r["variant"] == "noisy"])
    assert preferred(lonely, GRID, "sharp") == []


def test_a_contest_counts_equal_runs_once() -> None:
    tally = contest(RESULT, "sharp", "from_quantum", "noisy", GRID.points)
    assert len(tally.found) == 12

    def alike(row: dict[str, Any]) -> None:
        row["key"] = row["key"].replace("marrakesh", "torino")

    assert len(contest(changed(alike), "sharp", "from_quantum", "noisy", GRID.points).found) == 6
    assert contest(RESULT, "hybrid", "from_quantum", "noisy", GRID.points).found == ()


def test_a_contest_has_the_gains_of_the_study() -> None:
    (found,) = [
        c for c in RESULT.comparisons
        if (c["student"], c["variant"], c["baseline"]) == ("sharp", "from_quantum", "noisy")
        and c["metric"] == "accuracy" and c["point"] == GRID.points[-1]
    ]  # fmt: skip
    ((_, gain),) = contest(RESULT, "sharp", "from_quantum", "noisy", GRID.points[-1:]).found
    assert [gain.mean, [gain.low, gain.high]] == [found["gain"], found["ci95"]]


def test_means_over_settings_are_taken_seed_by_seed() -> None:
    tally = contest(RESULT, "sharp", "noise_free", "noisy", noisy_points(RESULT, GRID))
    gain = averaged(RESULT, tally)
    by_seed = np.mean([g.differences for _, g in tally.found], axis=0)
    assert gain is not None
    assert (gain.mean, gain.n) == (pytest.approx(by_seed.mean()), 5)
    half = 2.776445105 * by_seed.std(ddof=1) / np.sqrt(5)
    assert (gain.low, gain.high) == (
        pytest.approx(gain.mean - half), pytest.approx(gain.mean + half)
    )  # fmt: skip
    gone = replace(RESULT, rows=[r for r in RESULT.rows if (r["seed"], r["point"]) != (
        3, GRID.points[-1])])  # fmt: skip
    partly = averaged(gone, contest(gone, "sharp", "noise_free", "noisy", noisy_points(gone, GRID)))
    assert partly is not None
    assert partly.n == 4
    assert averaged(RESULT, contest(RESULT, "sharp", "noisy", "noise_free", [])) is None


def test_what_a_variant_loses_along_the_axis() -> None:
    change = lost(RESULT, GRID, "sharp", "noise_free")
    assert change is not None
    assert change.mean == pytest.approx(-0.4, abs=0.004)
    steady = lost(RESULT, GRID, "sharp", "noisy")
    assert steady is not None
    assert steady.mean == pytest.approx(-0.1)
    assert lost(RESULT, GRID, "hybrid", "shuffled") is None
    one = make(scales=(1,))
    assert lost(one, grid(one), "sharp", "noisy") is None


def test_settings_with_noise() -> None:
    assert [scale_at(RESULT, point) for point in GRID.points] == [
        float(point["scale"]) for point in GRID.points
    ]
    assert [p["scale"] for p in noisy_points(RESULT, GRID)] == [
        p["scale"] for p in GRID.points if p["scale"]
    ]
    assert scaled(RESULT, GRID)
    assert under_noise(RESULT) == (["noisy"], ["noise_free"])
    quiet = without_noise(seeds=1, train=(50,), sees=("same", "all"), maps=False, robust=False)
    assert noisy_points(quiet, grid(quiet)) == []
    assert not scaled(quiet, grid(quiet))


def test_where_each_is_judged_where_it_was_trained() -> None:
    evaluation = {"backend": None, "shots": [], "teacher": "classical"}
    at_home = replace(RESULT, config={**RESULT.config, "evaluation": evaluation})
    assert scale_at(at_home, {"scale": 2, "device": "torino", "encoding": "angle"}) == 2.0
    alone = {"noise_free": RESULT.config["variants"]["noise_free"]}
    quiet = replace(at_home, config={**at_home.config, "variants": alone})
    assert scale_at(quiet, {"scale": 2, "device": "torino", "encoding": "angle"}) is None
