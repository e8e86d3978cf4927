# SPDX-License-Identifier: Apache-2.0
"""Points: which axis lines run along, which panels stand side by side, what a point is called."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qiskit_kd.experiment.result import Axis
from qiskit_kd.report.grid import at, grid_of, labels_of, rows_grid, shown, varied

from .fake_axes import make
from .fake_result import FakeResult
from .fake_result import make as plain


def study(**axes: tuple[Any, ...]) -> FakeResult:
    named = {name: Axis(f"the {name}", values) for name, values in axes.items()}
    return FakeResult(rows=[], axes=named)


def test_a_study_without_axes_has_no_grid() -> None:
    assert grid_of(plain(seeds=1, students=("hybrid",))) is None
    assert grid_of(study()) is None
    assert rows_grid([{"point": {}}, {}]) is None


@pytest.mark.parametrize(
    ("axes", "x"),
    [
        ({"train": (50, 100), "sees": ("a", "b", "c")}, "train"),  # numbers before words
        ({"few": (1, 2), "many": (1, 2, 3)}, "many"),  # the longest of numbers
        ({"first": (1, 2), "second": (1, 2)}, "first"),
        ({"short": ("a",), "long": ("a", "b")}, "long"),
        ({"flag": (True, False, None), "train": (1, 2)}, "train"),  # a switch is no number
    ],
)
def test_lines_run_along_numbers(axes: dict[str, tuple[Any, ...]], x: str) -> None:
    grid = grid_of(study(**axes))
    assert grid.x == x


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
       st.lists(st.sampled_from("abc"), max_size=3, unique=True))  # fmt: skip
def test_points_are_every_combination_once(numbers: list[int], words: list[str]) -> None:
    axes: dict[str, tuple[Any, ...]] = {"words": tuple(words), "numbers": tuple(numbers)}
    grid = grid_of(study(**{name: values for name, values in axes.items() if values}))
    assert grid.x == "numbers"
    assert len(grid.points) == len(numbers) * max(len(words), 1)
    wanted = [{"numbers": n, **({"words": w} if w else {})} for n in numbers for w in words or [""]]
    assert all(point in grid.points for point in wanted)


def test_more_than_a_decade_is_drawn_on_a_logarithmic_axis() -> None:
    def logarithmic(*values: Any) -> bool:
        grid = grid_of(study(x=values))
        return grid.logarithmic

    assert logarithmic(50, 100, 5000)
    assert not logarithmic(50, 500)
    assert not logarithmic(0, 1, 100)
    assert not logarithmic("a", "b")


def test_rows_alone_give_the_same_grid_with_the_axes_names() -> None:
    result = make(seeds=1, train=(500, 50), sees=("same", "all"), maps=False, robust=False)
    grid = rows_grid(result.rows)
    assert grid.values == (50, 500)
    assert grid.titles == {"train": "train", "sees": "sees"}
    assert grid.panels == ({"sees": "same"}, {"sees": "all"})


def test_points_are_said_in_the_order_of_the_axes() -> None:
    grid = grid_of(make(seeds=1, train=(50, 5000), maps=False, robust=False))
    assert grid.say(grid.point({"sees": "all"}, 5000)) == (
        "labelled samples K = 5,000, teacher data: all"
    )
    assert grid.say({}) == ""


def test_rows_of_a_point() -> None:
    rows = [{"point": {"k": 1}}, {"point": {"k": 2}}, {}]
    assert at(rows, {"k": 2}) == [rows[1]]
    assert at(rows, {}) == [rows[2]]


@pytest.mark.parametrize(
    ("value", "text"), [(5000, "5,000"), (0.25, "0.25"), ("no_noise", "no noise"), (True, "True")]
)
def test_values_as_people_write_them(value: object, text: str) -> None:
    assert shown(value) == text


def test_what_axes_change_is_found_below_any_key() -> None:
    config = {
        "axes": {
            "k": {"key": "data.options.train", "values": [50, 100, 50]},
            "sees": {
                "values": {
                    "same": {"teachers.a.sees": "same"},
                    "all": {"teachers.a": {"sees": "all", "training": {"epochs": 3}}},
                }
            },
        }
    }
    assert varied(config) == {
        "data.options.train": [50, 100], "teachers.a.sees": ["same", "all"],
        "teachers.a.training.epochs": [3],
    }  # fmt: skip
    assert varied({}) == {}


def test_values_that_are_left_out_do_not_count_even_if_they_became_words() -> None:
    axis = {"values": {"50": {"a": 1}, "500": {"a": 2}}, "only": [500]}
    assert labels_of(axis) == ["500"]
    assert varied({"axes": {"k": axis}}) == {"a": [2]}
