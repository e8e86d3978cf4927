# SPDX-License-Identifier: Apache-2.0
"""The plain text table."""

from __future__ import annotations

import re

import pytest

from qiskit_kd.report import terminal_table
from qiskit_kd.report.terminal import WIDTH

from .fake_result import make


@pytest.mark.parametrize("seeds", [1, 2, 10])
def test_never_wider_than_promised(seeds: int) -> None:
    text = terminal_table(make(seeds=seeds))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert all(line == line.rstrip() for line in text.splitlines())


def test_says_verdict_placebos_and_every_student() -> None:
    text = terminal_table(make())
    lines = text.splitlines()
    assert lines[0].startswith("Distillation helps the fully quantum learnable student")
    assert "beats the placebos" in text
    assert "mean ± 95 % interval over 10 paired seeds" in text
    for student in ("teacher", "linear", "equal size", "hybrid", "fully quantum", "separable"):
        assert sum(line.startswith(student + " ") for line in lines) >= 1
    row = next(line for line in lines if line.startswith("fully quantum learnable"))
    assert re.search(r"75 +\d\d\.\d±\d\.\d( +\d\d\.\d±\d\.\d){3} +\+\d\.\d \[.*\] \*$", row)
    assert lines[-3].startswith("* ")
    assert lines[-2].startswith("The sign-flip test of the gain")
    assert lines[-1].startswith("6 comparisons are shown; at 95 % about one in twenty")


def test_columns_line_up() -> None:
    lines = terminal_table(make()).splitlines()
    head = next(k for k, line in enumerate(lines) if line.startswith("student"))
    end = lines[head].index("distilled") + len("distilled")
    for line in lines[head + 3 : head + 9]:
        assert line[end - 1].isdigit()
        assert line[end] == " "


def test_one_seed_has_no_interval() -> None:
    text = terminal_table(make(seeds=1))
    assert "one seed: no interval" in text
    assert "±" not in text
    assert "(one seed)" in text


@pytest.mark.parametrize(("letters", "lines"), [(42, 2), (60, 4)])
def test_long_names_get_two_tables_or_one_line_per_variant(letters: int, lines: int) -> None:
    result = make(seeds=3)
    name = "hybrid_with_a_very_long_name_for_a_student".ljust(letters, "x")
    for row in (*result.rows, *result.comparisons):
        if row["student"] == "hybrid":
            row["student"] = name
    text = terminal_table(result)
    assert sum("very long name" in line for line in text.splitlines()) == lines
    assert "comparisons are shown" in text
    assert max(map(len, text.splitlines())) <= max(WIDTH, letters + 58)


def test_another_metric() -> None:
    assert "test macro-f1" in terminal_table(make(seeds=2), metric="macro_f1")


def test_a_study_without_distillation() -> None:
    text = terminal_table(make(seeds=2, variants=("plain",)))
    assert text.startswith("Nothing to compare")
    assert "hybrid" in text


def test_a_student_that_lacks_a_variant_leaves_a_gap() -> None:
    result = make(seeds=2)
    result.rows = [
        row for row in result.rows if (row["student"], row["variant"]) != ("hybrid", "shuffled")
    ]
    assert "hybrid" in terminal_table(result)


def test_a_teacher_alone_is_a_line() -> None:
    result = make(seeds=2)
    result.rows = [row for row in result.rows if row["student"] == "teacher"]
    result.comparisons = []
    assert sum(line.startswith("teacher ") for line in terminal_table(result).splitlines()) == 1


def test_says_what_the_teacher_saw() -> None:
    assert "the whole labelled pool (sees: all)" in terminal_table(make(seeds=2)).replace("\n", " ")
