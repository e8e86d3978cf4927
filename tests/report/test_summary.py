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
from qiskit_kd.report.sentences import verdict_sentence
from qiskit_kd.report.summary import (
    cells,
    gains,
    headline,
    interval,
    is_taught,
    paired,
    points,
    roles,
    students_of,
    treatment,
    values,
    variants_of,
)

from .fake_result import kept, make, tiny


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


def test_no_other_student_or_treatment_steps_in_for_the_one_named() -> None:
    result = make(seeds=2)
    result.config["headline"] = "hybrid"
    found = kept(result, [r for r in result.rows if r["student"] != "hybrid"])
    assert headline(found) is None
    result.config["variants"] = {
        "plain": {"terms": [{"loss": "ce"}]},
        "stronger": {"teacher": "teacher", "terms": [{"loss": "kl"}]},
        "distilled": {"teacher": "teacher", "terms": [{"loss": "kl"}]},
    }
    assert treatment(result) == "stronger"
    assert headline(result) is None


def test_roles_come_from_the_configuration_where_it_has_them() -> None:
    result = make(seeds=2)
    assert roles(result) == ("plain", {"shuffled", "label_smoothing"})
    # A variant called like a placebo that has the real teacher is none, and the other way round.
    result.config["variants"] = {
        "shuffled": {"teacher": "teacher", "terms": [{"loss": "kl"}]},
        "distilled": {"teacher": "teacher", "placebo": "shuffled", "terms": [{"loss": "kl"}]},
    }
    assert roles(result) == ("plain", {"distilled", "label_smoothing"})


def test_a_default_placebo_that_no_teacher_term_takes_is_none() -> None:
    terms = [{"loss": "ce"}, {"loss": "kl", "teacher": "soft", "placebo": "none"}]
    assert is_taught({"placebo": "shuffled", "terms": terms})
    assert not is_taught({"placebo": "shuffled", "terms": [*terms, {"loss": "logit_mse"}]})
    assert not is_taught({"teacher": "soft", "terms": [{"loss": "ce"}]})
