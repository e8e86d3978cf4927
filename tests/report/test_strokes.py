# SPDX-License-Identifier: Apache-2.0
"""How lines are drawn: nothing alike, placebos pale, the usual looks kept."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qiskit_kd.report.palette import INK, dark_twins, look
from qiskit_kd.report.strokes import strokes

from .fake_axes import STUDENTS, make


def rows(**students: list[str]) -> list[dict[str, Any]]:
    return [{"student": s, "variant": v} for s, variants in students.items() for v in variants]


def test_the_published_set_of_lines() -> None:
    result = make(seeds=1, train=(50,), sees=("all",), maps=False, robust=False)
    found = strokes(result.rows, headline="convolution", placebos={"untrained", "shuffled"})
    assert len(found) == len(STUDENTS["convolution"][1]) + 1 + 2
    drawn = [(s.color, s.marker, str(s.dash)) for s in found.values()]
    assert len(set(drawn)) == len(drawn)
    labels = [s.label for s in found.values()]
    assert labels[0] == "convolution alone"
    assert "soft" in labels
    assert "quanvolution alone" in labels
    assert labels[-2:] == ["teacher hybrid", "teacher classical"]
    mine = [s.color for (student, _), s in found.items() if student == "convolution"]
    assert len(set(mine)) == len(mine)
    assert found["quanvolution", "plain"].color not in mine


def test_placebos_are_pale_and_dashed_teachers_thin_and_dark() -> None:
    found = strokes(
        rows(teacher=["plain"], a=["plain", "taught", "odd"]), placebos={"odd"}
    )  # fmt: skip
    taught, odd, teacher = found["a", "taught"], found["a", "odd"], found["teacher", "plain"]
    assert odd.alpha < taught.alpha == 1.0
    assert (odd.dash != "-", taught.dash) == (True, "-")
    assert teacher.color == INK
    assert teacher.width < odd.width < taught.width
    assert taught.label == "taught"


def test_known_variants_keep_their_looks() -> None:
    found = strokes(rows(a=["plain", "distilled", "shuffled", "label_smoothing", "mine"]))
    for variant in ("plain", "distilled", "shuffled", "label_smoothing"):
        assert found["a", variant].color == look(variant).color
        assert found["a", variant].marker == look(variant).marker
    assert found["a", "mine"].color not in {look(v).color for v in ("plain", "distilled")}


def test_a_baseline_of_another_name_looks_like_alone() -> None:
    found = strokes(rows(a=["labels", "soft"]), baseline="labels")
    assert found["a", "labels"].color == look("plain").color
    assert found["a", "labels"].label == "alone"


def test_no_students_no_strokes_but_teachers() -> None:
    assert strokes([]) == {}
    assert list(strokes(rows(teacher=["plain"]))) == [("teacher", "plain")]


@given(st.lists(st.text("abc_", min_size=1, max_size=4), min_size=1, max_size=9, unique=True))
def test_any_names_get_colours_that_have_a_dark_twin(names: list[str]) -> None:
    found = strokes(rows(one=["plain", *names], two=["plain"], three=["plain"]))
    assert {s.color for s in found.values()} <= set(dark_twins())
    marks = [s.marker for (student, _), s in found.items() if student == "one"]
    assert len(set(marks)) >= min(len(marks), 9)


def test_a_baseline_among_other_trainings_goes_by_its_name() -> None:
    found = strokes(
        rows(a=["soft", "hard"], b=["soft", "hard"]), baseline="hard", alone="hard"
    )  # fmt: skip
    assert [s.label for s in found.values()] == ["a, soft", "a, hard", "b, soft", "b, hard"]
    single = strokes(rows(a=["soft", "hard"]), baseline="hard", alone="hard")
    assert [s.label for s in single.values()] == ["soft", "hard"]
