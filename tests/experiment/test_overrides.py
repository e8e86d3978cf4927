# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from qiskit_kd.errors import ConfigError
from qiskit_kd.experiment.overrides import Origins, set_key
from qiskit_kd.yamlfile import parse_yaml


def test_mappings_are_merged_and_lists_are_reached() -> None:
    tree = {"a": {"b": 1, "c": [{"d": 2}]}, "e": None}
    set_key(tree, ["a"], {"b": 3, "new": {"x": 4}})
    set_key(tree, ["a", "c", "0", "d"], 5)
    set_key(tree, ["e", "f"], 6)
    set_key(tree, ["a", "new"], {})
    assert tree == {"a": {"b": 3, "c": [{"d": 5}], "new": {}}, "e": {"f": 6}}


def test_a_key_that_is_a_number_is_found_by_its_digits() -> None:
    tree = {50: {"x": 1}}
    set_key(tree, ["50", "x"], 2)
    set_key(tree, ["50"], {"y": 3})
    assert tree == {50: {"x": 2, "y": 3}}


def test_every_value_keeps_the_place_where_it_was_said() -> None:
    data, locate = parse_yaml("a: {b: 1, e: [8, {f: 9}]}\n")
    value, other = parse_yaml("\n\n  {b: 2, c: {d: 3}}", name="other")
    tree = Origins(locate, data)
    tree.set(["a"], value, other)
    tree.set(["a", "e", "1", "f"], 7, parse_yaml("\n7", name="third")[1])
    assert data == {"a": {"b": 2, "c": {"d": 3}, "e": [8, {"f": 7}]}}
    assert tree(("a", "b")) == "other:3:7"
    assert tree(("a", "c", "d")) == "other:3:17"
    assert tree(("a", "e", 0)) == "<text>:1:15"
    assert tree(("a", "e", 1, "f")) == "third:2:1"
    tree.set(["a"], {"b": {}}, parse_yaml("b: {}", name="last")[1])
    assert tree(("a", "b")) == "last:1:4"
    tree.set(["a", "c"], {}, parse_yaml("{}", name="empty")[1])  # nothing of before is left
    assert tree(("a", "c", "d")) == "empty:1:1"


def test_new_keys_stand_where_the_path_is_named() -> None:
    data, locate = parse_yaml("a: 1\n")
    tree = Origins(locate, data)
    tree.set(["x", "y"], 7, parse_yaml("\n\n\n7")[1], key_place="<text>:9:9")
    assert tree(("x", "y"), key=True) == "<text>:9:9"
    assert tree(("x",), key=True) == "<text>:9:9"
    assert tree(("x", "y")) == "<text>:4:1"


def test_nothing_grows_below_a_number() -> None:
    with pytest.raises(
        ConfigError,
        match=r"axis a x.y: there is nothing below x; got int there; "
        r"expected a mapping, or a list and a position in it",
    ):
        set_key({"x": 3}, ["x", "y"], 1, what="axis a")
