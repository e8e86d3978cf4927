# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from qiskit_kd import registry
from qiskit_kd.errors import ConfigError, UnknownNameError
from qiskit_kd.registry import Registry


@pytest.fixture
def shapes() -> Registry[object]:
    shapes: Registry[object] = Registry("shape")
    shapes.register("square")(lambda: 4)
    shapes.register("circle")(lambda: 0)
    return shapes


def test_is_a_sorted_mapping(shapes):
    assert list(shapes) == ["circle", "square"]
    assert len(shapes) == 2
    assert "square" in shapes
    assert shapes["square"]() == 4


def test_register_returns_the_part_and_refuses_a_second_one(shapes):
    def triangle():
        return 3

    assert shapes.register("triangle")(triangle) is triangle
    shapes.register("triangle")(triangle)  # a reloaded module registers the same object again
    with pytest.raises(
        ConfigError, match=r"the shape 'triangle' is registered twice; got .*another"
    ):
        shapes.register("triangle")(lambda: 33)


def test_unknown_name(shapes):
    with pytest.raises(
        UnknownNameError, match=r"unknown shape; got 'sqare'\. did you mean 'square'"
    ):
        shapes["sqare"]


def test_third_parties_register_through_entry_points(monkeypatch):
    asked = []

    def entry_points(group: str):
        asked.append(group)
        return [EntryPoint("pi", "math:pi", group)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    numbers: Registry[float] = Registry("magic number")
    assert asked == []  # nothing is loaded before it is needed
    assert 3.14 < numbers["pi"] < 3.15
    assert "pi" in numbers
    assert list(numbers) == ["pi"]
    assert asked == ["qiskit_kd.magic_number"]
