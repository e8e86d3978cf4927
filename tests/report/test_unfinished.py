# SPDX-License-Identifier: Apache-2.0
"""A report can be written at any moment of a study, with whatever rows it has by then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_kd.report import plot_accuracy, plot_gains, plot_parameters, render, terminal_table
from qiskit_kd.report.document import written
from qiskit_kd.report.frame import Frame
from qiskit_kd.report.page import rows_csv

from .fake_result import FakeResult, make

VARIANTS = {
    "plain": {"teacher": "none", "terms": [{"loss": "ce"}]},
    "distilled": {"teacher": "teacher", "terms": [{"loss": "kl"}]},
    "shuffled": {"teacher": "teacher", "placebo": "shuffled", "terms": [{"loss": "kl"}]},
    "label_smoothing": {"teacher": "none", "terms": [{"loss": "ce"}]},
}


def study(students: tuple[str, ...] = ("linear", "hybrid")) -> FakeResult:
    """Rows in the order of a plan: teachers, then one student after the other."""
    result = make(seeds=2, students=students)
    result.rows.sort(key=lambda r: (r["student"] != "teacher", students.index(r["student"])
                                    if r["student"] in students else 0))  # fmt: skip
    result.config |= {"headline": students[-1], "variants": VARIANTS}
    return result


STUDY = study()


def everything_but_the_page(result: FakeResult) -> str:
    text = terminal_table(result)
    assert all(section.blocks for section in written(Frame(result)))
    rows_csv(result)
    plot_accuracy(result.rows)
    plot_gains(result.rows, result.comparisons)
    plot_parameters(result.rows)
    return text


@pytest.mark.parametrize("count", range(1, len(STUDY.rows) + 1))
def test_every_prefix(count: int) -> None:
    text = everything_but_the_page(replace(STUDY, rows=STUDY.rows[:count]))
    hybrid = [r for r in STUDY.rows[:count] if r["student"] == "hybrid"]
    paired = {r["seed"] for r in hybrid if r["variant"] == "plain"} & {
        r["seed"] for r in hybrid if r["variant"] == "distilled"
    }
    assert text.startswith("No verdict yet for the hybrid student") is not bool(paired)
    assert "linear student" not in text


@pytest.mark.slow
@given(st.lists(st.sampled_from(range(len(STUDY.rows))), min_size=1, unique=True))
@settings(max_examples=25, deadline=None)
def test_rows_dropped_at_random(chosen: list[int]) -> None:
    everything_but_the_page(replace(STUDY, rows=[STUDY.rows[k] for k in chosen]))


@pytest.mark.slow
@pytest.mark.parametrize("count", range(1, 11))
def test_every_prefix_makes_a_page(count: int) -> None:
    result = study(("hybrid",))
    page, _ = render(replace(result, rows=result.rows[:count]))
    assert "Results" in page


@pytest.mark.parametrize("variants", [("shuffled",), ("distilled", "label_smoothing")])
def test_a_page_without_the_student_alone(variants: tuple[str, ...]) -> None:
    result = study(("hybrid",))
    rows: list[dict[str, Any]] = [r for r in result.rows if r["variant"] in variants]
    page, _ = render(replace(result, rows=rows))
    assert "No verdict yet for the hybrid student" in page
