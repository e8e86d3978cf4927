# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from qiskit_kd.errors import ConfigError
from qiskit_kd.experiment.grafting import graft, node_at
from qiskit_kd.yamlfile import parse_yaml


def test_mappings_are_merged_and_lists_are_reached() -> None:
    tree = {"a": {"b": 1, "c": [{"d": 2}]}, "e": None}
    graft(tree, ["a"], {"b": 3, "new": {"x": 4}})
    graft(tree, ["a", "c", "0", "d"], 5)
    graft(tree, ["e", "f"], 6)
    graft(tree, ["a", "new"], {})
    assert tree == {"a": {"b": 3, "c": [{"d": 5}], "new": {}}, "e": {"f": 6}}


def test_a_key_that_is_a_number_is_found_by_its_digits() -> None:
    tree = {50: {"x": 1}}
    graft(tree, ["50", "x"], 2)
    graft(tree, ["50"], {"y": 3})
    assert tree == {50: {"x": 2, "y": 3}}


def test_the_yaml_tree_grows_along() -> None:
    data, locate = parse_yaml("a: {b: 1}\n")
    value, other = parse_yaml("\n\n  {b: 2, c: {d: 3}}", name="other")
    graft(data, ["a"], value, root=locate.node, node=other.node)
    assert data == {"a": {"b": 2, "c": {"d": 3}}}
    assert locate(("a", "b")).endswith(":3:7")
    assert locate(("a", "c", "d")).endswith(":3:17")
    assert node_at(locate.node, ("a", "x")) is None


def test_new_keys_stand_where_the_path_is_named() -> None:
    data, locate = parse_yaml("a: 1\n")
    key, value = parse_yaml("x.y")[1].node, parse_yaml("\n\n\n7")[1].node
    graft(data, ["x", "y"], 7, root=locate.node, node=value, key=key)
    assert locate(("x", "y"), key=True).endswith(":1:1")
    assert locate(("x", "y")).endswith(":4:1")


def test_nothing_grows_below_a_number() -> None:
    with pytest.raises(ConfigError, match=r"axis a x.y: there is nothing below x; got int there; "
                       r"expected a mapping, or a list and a position in it"):  # fmt: skip
        graft({"x": 3}, ["x", "y"], 1, what="axis a")
