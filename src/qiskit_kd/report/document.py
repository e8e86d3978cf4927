# SPDX-License-Identifier: Apache-2.0
"""A report as a sequence of blocks, for two renderers: `html` and `text`.

A block is a headline, a text, a table, pictures, facts, code, or blocks that are folded away. A
section is a title with blocks for the page, and those of them that the terminal shows: a function
of the frame in a file of its own, behind `@section`. Elsewhere such a function is found by an entry
point of the group `qiskit_kd.report_section`, or in a plugin file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from matplotlib.figure import Figure

from qiskit_kd.experiment.statistics import Gain
from qiskit_kd.registry import Registry
from qiskit_kd.report.frame import Cell, Frame
from qiskit_kd.report.style import Looks, ends_of, points

Item = TypeVar("Item")
MARKS = {"confirmed": "*", "harmful": "!"}
LEGEND = "* confirmed, ! harmful, unmarked: neither"


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in a cell of a table; a text alone will do as well."""

    text: str
    note: str = ""
    """Smaller, beside or below it."""
    verdict: str = ""
    """Adds a mark, see `MARKS`, and on a page a colour."""
    color: str = ""
    """Of a dot before it, as figures have it."""


@dataclass(frozen=True, slots=True)
class Headline:
    """What was found, in at most three sentences."""

    tag: str
    """The verdict in a word; empty for none."""
    text: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A note, or a warning."""

    text: str
    kind: str = "note"


Line = Sequence[str | Entry]


@dataclass(frozen=True, slots=True)
class Table:
    """Lines of entries below heads."""

    heads: Sequence[str]
    lines: Sequence[Line]
    title: str = ""
    words: int = 1
    """How many columns are words, which stand on the left."""
    narrow: int | None = None
    """How many columns a terminal shows; all by default."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure, drawn when it is needed."""

    name: str
    """Of its file, unlike any other's."""
    draw: Callable[[], Figure]
    alt: str
    """What it shows, in words."""
    title: str = ""
    caption: str = ""
    drawing: bool = False
    """Whether it is a circuit, whose formulas and colours stay as they are."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Figures side by side."""

    items: Sequence[Picture]
    shape: str = "pair"
    """`pair`, `trio` or `wide`."""
    legend: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Labels and texts."""

    items: Sequence[tuple[str, str]]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """Text as it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class Details:
    """Blocks that are folded away until somebody asks."""

    summary: str
    blocks: Sequence[Block]


Block = Headline | Text | Table | Pictures | Facts | Code | Details


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report."""

    title: str
    blocks: Sequence[Block]
    brief: Sequence[Block] = field(default=())
    """What the terminal shows of it."""


Write = Callable[[Frame], Section | None]
sections: Registry[Write] = Registry("report section")
_places: dict[str, tuple[float, bool]] = {}
_ELSEWHERE = (65.0, False)


def section(name: str, *, place: float = 65.0, terminal: bool = False) -> Callable[[Write], Write]:
    """Decorator that adds a section to every report.

    Args:
        name: Of the section.
        place: Sections stand in ascending order: the verdict is 0, settings are 70.
        terminal: Whether the terminal shows its `brief`.
    """
    _places[name] = place, terminal
    return sections.register(name)


def written(frame: Frame, *, terminal: bool = False) -> list[Section]:
    """The sections that a study has something for, in their order."""
    order = sorted(sections, key=lambda name: _places.get(name, _ELSEWHERE))
    wanted = [name for name in order if not terminal or _places.get(name, _ELSEWHERE)[1]]
    return [found for name in wanted if (found := sections[name](frame)) is not None]


def tabled(
    items: Iterable[Item],
    columns: Mapping[str, Callable[[Item], str | Entry] | bool | None],
    **how: Any,
) -> Table:
    """A line per item, a column per head with what it says of an item; columns of nothing fall out.

    Args:
        items: What the table is about.
        columns: By head, from an item to its entry, or nothing.
        how: Options of the table.
    """
    kept = {head: entry for head, entry in columns.items() if callable(entry)}
    return Table([*kept], [[entry(item) for entry in kept.values()] for item in items], **how)


def share(cell: Cell | None, color: str = "") -> Entry:
    """A mean with half of its interval, in per cent."""
    if cell is None:
        return Entry("")
    half = "" if cell.half is None else f"±{100 * cell.half:.1f}"
    return Entry(f"{100 * cell.mean:.1f}", half, color=color)


def gained(gain: Gain | None) -> Entry:
    """A paired gain in points, with its interval and the mark of its verdict."""
    if gain is None:
        return Entry("")
    note = f"[{ends_of(gain)}]" if gain.ends else "(one seed)"
    return Entry(points(gain.mean), note, gain.verdict)


def legend_of(looks: Looks, student: str | None) -> list[Entry]:
    """A coloured name for every line of a student."""
    return [Entry(s.label, color=s.color) for (name, _), s in looks.items() if name == student]
