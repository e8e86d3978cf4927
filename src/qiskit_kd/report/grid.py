# SPDX-License-Identifier: Apache-2.0
"""The points of a study with axes: along which axis lines run, and which panels stand side by side.

A point is a dictionary, axis name to value, and every row carries its own. The axis of numbers with
most values becomes the horizontal one; every combination of the other axes' values is a panel.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Real
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import QiskitKDError
from qiskit_kd.experiment.config import set_key

if TYPE_CHECKING:
    from qiskit_kd.data import Split

Row = Mapping[str, Any]
Point = Mapping[str, Any]


def is_number(value: Any) -> bool:
    """Whether a value is a number; a switch is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Grid:
    """Points as panels times values."""

    titles: Mapping[str, str]
    """What people call each axis."""
    x: str
    """The axis along which lines run."""
    values: tuple[Any, ...]
    """Its values."""
    panels: tuple[Point, ...]
    """Every combination of the other axes' values; one empty point where there is no other axis."""

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers, to be drawn to scale."""
        return all(map(is_number, self.values))

    @property
    def logarithmic(self) -> bool:
        """Whether the numbers span more than a decade."""
        return self.numeric and min(self.values) > 0 and max(self.values) > 10 * min(self.values)

    @property
    def points(self) -> list[Point]:
        """All points, panel by panel."""
        return [self.point(panel, value) for panel in self.panels for value in self.values]

    def point(self, panel: Point, value: Any) -> Point:
        """The point of a panel at one value."""
        return {**panel, self.x: value}

    def say(self, point: Point) -> str:
        """`labelled samples K = 50, teacher data: all`; of the whole point or of a panel."""
        return ", ".join(
            f"{title}{' =' if isinstance(point[name], Real) else ':'} {shown(point[name])}"
            for name, title in self.titles.items()
            if name in point
        )


def grid_of(result: Any) -> Grid | None:
    """The grid of a study; None for one without axes."""
    axes = getattr(result, "axes", None) or {}
    values = {name: tuple(axis.values) for name, axis in axes.items()}
    return _grid(values, {name: str(axis.title or name) for name, axis in axes.items()})


def rows_grid(rows: Sequence[Row]) -> Grid | None:
    """The grid of the points that rows have, axes by their names; None for rows without."""
    found: dict[str, dict[Any, None]] = {}
    for row in rows:
        for name, value in row.get("point", {}).items():
            found.setdefault(name, {})[value] = None
    values = {
        name: tuple(sorted(seen) if all(isinstance(v, Real) for v in seen) else seen)
        for name, seen in found.items()
    }
    return _grid(values, {name: name for name in found})


def at(rows: Sequence[Row], point: Point) -> list[Row]:
    """Rows (or comparisons) of one point."""
    return [row for row in rows if row.get("point", {}) == point]


def varied(config: Mapping[str, Any], *, always: bool = False) -> dict[str, list[Any]]:
    """The settings that the axes of a resolved configuration change: dotted key to values.

    With `always`, only those that an axis changes at all its values.
    """
    found: dict[str, list[Any]] = {}
    for axis in config.get("axes", {}).values():
        changes = [dict(_leaves(changes_at(axis, label))) for label in labels_of(axis)]
        for key, setting in (item for change in changes for item in change.items()):
            if not always or all(key in change for change in changes):
                known = found.setdefault(key, [])
                known += [] if setting in known else [setting]
    return found


def settled(config: Mapping[str, Any], point: Point | None = None) -> dict[str, Any]:
    """A copy of a resolved configuration with the settings of one point, not validated.

    Args:
        config: A resolved configuration.
        point: Values of axes; an axis that it does not name has its last value.
    """
    found = copy.deepcopy(dict(config))
    for name, axis in config.get("axes", {}).items():
        label = (point or {}).get(name, labels_of(axis)[-1])
        for key, value in changes_at(axis, label).items():
            path = key.split(".")
            # The short form of a single teacher is resolved in a resolved configuration.
            path = ["teachers", *path] if path[0] == "teacher" else path
            set_key(found, path, copy.deepcopy(value), what=f"axis {name}")
    return found


def split_of(config: Mapping[str, Any]) -> Split | None:
    """The data of a resolved configuration's first seed; None where it cannot be had here.

    Where axes change the data, it is that of their last values.
    """
    from qiskit_kd.data import datasets

    data = config.get("data", {})
    if "kind" not in data:
        return None
    options = settled(config)["data"].get("options", {})
    with contextlib.suppress(QiskitKDError):
        split: Split = datasets[data["kind"]](seed=config["seeds"][0], **options)
        return split
    return None


def changes_at(axis: Mapping[str, Any], label: Any) -> Mapping[str, Any]:
    """The settings that a value of an axis stands for: dotted keys and values."""
    values = axis["values"]
    if not isinstance(values, Mapping):
        return {axis["key"]: label}
    # A configuration that has been through JSON has words for keys, numbers or not.
    found: Mapping[str, Any] = next(v for key, v in values.items() if str(key) == str(label))
    return found


def labels_of(axis: Mapping[str, Any]) -> list[Any]:
    """The values of an axis of a resolved configuration, without those that `only` leaves out."""
    only = axis.get("only")
    return [v for v in axis["values"] if only is None or str(v) in map(str, only)]


def _leaves(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def shown(value: Any) -> str:
    """A value of an axis as people write it."""
    if not is_number(value):
        return str(value).replace("_", " ")
    return f"{value:,}" if isinstance(value, int) else f"{float(value):g}"


def _grid(values: Mapping[str, tuple[Any, ...]], titles: Mapping[str, str]) -> Grid | None:
    if not values:
        return None
    # The longest axis of numbers; where there is none, the longest axis. The first one wins a tie.
    x = max(values, key=lambda name: (all(map(is_number, values[name])), len(values[name])))
    others = {name: seen for name, seen in values.items() if name != x}
    panels = tuple(dict(zip(others, chosen, strict=True)) for chosen in product(*others.values()))
    return Grid(titles, x, values[x], panels)
