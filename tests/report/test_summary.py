# SPDX-License-Identifier: Apache-2.0
"""The numbers and sentences a report says aloud."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qiskit_kd.experiment.statistics import paired_gain
from qiskit_kd.report.summary import (
    cells,
    gains,
    headline,
    interval,
    paired,
    placebo_sentence,
    points,
    roles,
    students_of,
    values,
    variants_of,
    verdict_sentence,
)

from .fake_result import FakeResult, make


def tiny(
    alone: list[float], distilled: list[float], shuffled: list[float] | None = None
) -> FakeResult:
    """One student with given accuracies per seed."""
    rows: list[dict[str, Any]] = []
    groups = {"plain": alone, "distilled": distilled, "shuffled": shuffled or []}
    for variant, numbers in groups.items():
        for seed, number in enumerate(numbers):
            rows.append(
                {
                    "student": "tiny",
                    "variant": variant,
                    "seed": seed,
                    "parameters": 74,
                    "options": {},
                    "curves": {},
                    "distribution": None,
                    "extra": {},
                    "test": {"accuracy": number, "macro_f1": number},
                    "validation": {"accuracy": number},
                }
            )
    found = paired(rows, "tiny", "distilled", "plain")
    comparison = {
        "student": "tiny",
        "variant": "distilled",
        "baseline": "plain",
        "metric": "accuracy",
        "gain": found.mean,
        "ci95": [found.low, found.high],
        "n": found.n,
        "verdict": found.verdict,
    }
    return FakeResult(rows=rows, comparisons=[comparison], config={"headline": "tiny"})


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_interval_is_students(numbers: list[float]) -> None:
    mean, half = interval(numbers)
    assert mean == pytest.approx(np.mean(numbers))
    assert half == pytest.approx(
        stats.t.ppf(0.975, len(numbers) - 1) * stats.sem(numbers), abs=1e-12
    )


def test_one_number_has_no_interval() -> None:
    assert interval([0.5]) == (0.5, None)


def test_points_have_a_real_minus_and_keep_the_side_of_zero() -> None:
    assert points(0.0251) == "+2.5"
    assert points(-0.0251) == "−2.5"
    assert points(-0.0001) == "−0.0"
    assert points(0.0001) == "+0.0"
    assert points(0.0) == "0.0"
    assert points(0.5, sign=False) == "50.0"


def test_order_of_students_and_variants() -> None:
    rows = list(reversed(make(seeds=2).rows))
    assert students_of(rows)[0] == "teacher"
    assert variants_of(rows) == ["plain", "distilled", "label_smoothing", "shuffled"]


def test_cells_hold_every_student_and_variant_over_all_seeds() -> None:
    result = make(seeds=4)
    table = cells(result.rows)
    assert len(table) == 1 + 6 * 4
    assert {cell.n for cell in table} == {4}
    cell = next(c for c in table if (c.student, c.variant) == ("hybrid", "distilled"))
    assert cell.parameters == 74
    assert cell.mean == pytest.approx(
        np.mean(list(values(result.rows, "hybrid", "distilled", "accuracy").values()))
    )


def test_paired_pairs_by_seed_not_by_position() -> None:
    result = tiny([0.1, 0.5, 0.9], [0.2, 0.6, 1.0])
    shuffled_rows = [result.rows[k] for k in (5, 0, 4, 2, 3, 1)]
    found = paired(shuffled_rows, "tiny", "distilled", "plain")
    assert found.differences == pytest.approx((0.1, 0.1, 0.1))
    assert found.mean == pytest.approx(paired_gain([0.2, 0.6, 1.0], [0.1, 0.5, 0.9]).mean)


def test_paired_leaves_out_seeds_that_only_one_side_has() -> None:
    assert paired(tiny([0.1, 0.5], [0.2, 0.6, 1.0]).rows, "tiny", "distilled", "plain").n == 2


def test_gains_carry_the_studys_own_numbers_and_the_differences_beside_them() -> None:
    result = make(seeds=3)
    found = gains(result.rows, result.comparisons, baseline="plain")
    assert {g.baseline for g in found} == {"plain"}
    for gain in found:
        assert np.mean(gain.differences) == pytest.approx(gain.mean)
    f1 = gains(result.rows, result.comparisons, metric="macro_f1", baseline="plain")
    assert len(f1) == len(found)


@pytest.mark.parametrize("ci95", [None, [None, None], [float("-inf"), float("inf")]])
def test_an_interval_of_one_seed_counts_as_none(ci95: Any) -> None:
    result = tiny([0.5], [0.6])
    result.comparisons[0]["ci95"] = ci95
    gain = headline(result)
    assert gain is not None
    assert (gain.low, gain.high) == (None, None)
    assert "one seed only, n = 1" in verdict_sentence(result)


def test_headline_is_the_student_the_configuration_names() -> None:
    result = make(seeds=3)
    first = headline(result)
    assert first is not None
    assert (first.student, first.variant) == ("fully_quantum_learnable", "distilled")
    result.config["headline"] = "hybrid"
    named = headline(result)
    assert named is not None
    assert named.student == "hybrid"


def test_roles_come_from_the_configuration_where_it_has_them() -> None:
    result = make(seeds=2)
    assert roles(result) == ("plain", {"shuffled", "label_smoothing"})
    # A variant called like a placebo that has the real teacher is none, and the other way round.
    result.config["variants"] = {
        "shuffled": {"teacher": "teacher"},
        "distilled": {"teacher": "shuffled"},
    }
    assert roles(result) == ("plain", {"distilled", "label_smoothing"})


def test_a_clear_gain_reads_as_one() -> None:
    result = tiny([0.50, 0.52, 0.51], [0.60, 0.63, 0.61], [0.51, 0.52, 0.50])
    assert verdict_sentence(result).startswith("Distillation helps the tiny student: +10.3 points")
    assert "n = 3 paired seeds" in verdict_sentence(result)
    assert placebo_sentence(result).startswith(
        "With the teacher it beats the placebo shuffled teacher"
    )


def test_a_harm_and_a_doubt_read_as_such() -> None:
    harm = tiny([0.60, 0.63, 0.61], [0.50, 0.52, 0.51], [0.60, 0.63, 0.61])
    assert verdict_sentence(harm).startswith("Distillation harms the tiny student: −10.3")
    assert "does worse than the placebo" in placebo_sentence(harm)
    doubt = tiny([0.5, 0.6, 0.7], [0.7, 0.6, 0.52], [0.5, 0.6, 0.7])
    assert verdict_sentence(doubt).startswith("No gain from distillation is confirmed")
    assert "does not clearly beat the placebo" in placebo_sentence(doubt)


def test_no_placebo_is_said_aloud() -> None:
    assert placebo_sentence(tiny([0.1, 0.2], [0.2, 0.4])).startswith("No placebo was run")


def test_nothing_to_compare() -> None:
    result = make(seeds=2, variants=("plain",))
    assert headline(result) is None
    assert "Nothing to compare" in verdict_sentence(result)
    assert placebo_sentence(result) == ""
