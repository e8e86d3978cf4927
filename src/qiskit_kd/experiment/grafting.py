# SPDX-License-Identifier: Apache-2.0
"""Setting a dotted key in an experiment's tree: overrides, presets and axes all do this.

Beside the plain data goes the YAML tree it came from, so that a fault is reported at the place of
the value that was put in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from qiskit_kd.errors import ConfigError

__all__ = ["graft", "node_at"]


def graft(
    data: dict[str, Any], path: Sequence[str], value: Any, *, what: str = "override",
    root: yaml.Node | None = None, node: yaml.Node | None = None, key: yaml.Node | None = None,
) -> None:  # fmt: skip
    """Set `path` to `value` in the data and in the tree beside it; mappings are merged.

    Args:
        data: The experiment as plain mappings and lists, changed in place.
        path: Keys, and positions in lists as digits.
        value: What to put there.
        what: What messages call this.
        root: The YAML tree of `data`, changed along.
        node: The YAML node of `value`.
        key: The YAML node that names the path, where faults of new keys are reported.

    Raises:
        ConfigError: If something on the path is neither a mapping nor a list.
    """
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            below = node_at(node, (str(name),))
            graft(data, [*path, str(name)], inner, what=what, root=root, node=below, key=key)
        return
    here: Any = data
    at: yaml.Node | None = root
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            position = int(part)
            if last:
                here[position] = value
                if isinstance(at, yaml.SequenceNode) and node is not None:
                    at.value[position] = node
                return
            here = here[position]
            at = at.value[position] if isinstance(at, yaml.SequenceNode) else None
            continue
        if not isinstance(here, dict):
            raise ConfigError(
                f"{what} {'.'.join(path)}: there is nothing below {'.'.join(path[:depth])}",
                got=f"{type(here).__name__} there",
                expected="a mapping, or a list and a position in it",
            )
        part = next((name for name in here if str(name) == part), part)  # 50 is found as "50"
        if last or here.get(part) is None:
            here[part] = value if last else {}
            below = node if last or node is None else _mapping_like(node)
            if isinstance(at, yaml.MappingNode) and below is not None:
                mark = below.start_mark if key is None else key.start_mark
                name = yaml.ScalarNode("tag:yaml.org,2002:str", str(part), mark)
                at.value = [p for p in at.value if p[0].value != str(part)] + [(name, below)]
        here, at = here[part], node_at(at, (str(part),))


def node_at(node: yaml.Node | None, path: Sequence[str]) -> yaml.Node | None:
    """The node at a path of keys; None if there is none."""
    for part in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((p[1] for p in node.value if p[0].value == str(part)), None)
    return node


def _mapping_like(node: yaml.Node) -> yaml.MappingNode:
    return yaml.MappingNode("tag:yaml.org,2002:map", [], node.start_mark, node.end_mark)
