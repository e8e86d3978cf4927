# SPDX-License-Identifier: Apache-2.0
"""One fixed look per variant, in every figure, table and report.

Colours are Okabe and Ito's colour-blind-safe set (jfly.uni-koeln.de/color) with a lighter twin for
dark backgrounds; markers differ too, so nothing rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

__all__ = ["BASELINE", "GRID", "INK", "MUTED", "PAPER", "TEACHER", "Look", "dark_twins", "look"]
__all__ += ["SERIES", "listed", "looks", "order_variants", "readable", "told_apart"]

INK = "#1b1f24"
MUTED = "#5b6471"
GRID = "#d5dae1"
PAPER = "#fdfdfe"

BASELINE = "plain"
TEACHER = "teacher"


@dataclass(frozen=True, slots=True)
class Look:
    """How one variant is drawn and called."""

    label: str
    """Name for people."""
    color: str
    """Colour on light paper, `#rrggbb`."""
    dark: str
    """Colour on dark paper."""
    marker: str
    """Matplotlib marker."""
    is_placebo: bool = False
    """Whether the name is one that placebos have; only for rows without a configuration, which
    decides wherever there is one."""
    is_known: bool = True
    """Whether the name has a look of its own here; other names share a few colours."""


_LOOKS = {
    BASELINE: Look("alone", "#6f7782", "#a3abb6", "o"),
    "distilled": Look("distilled", "#0072b2", "#56b4e9", "D"),
    "shuffled": Look("shuffled teacher", "#c65102", "#f39a4d", "^", is_placebo=True),
    "label_smoothing": Look("label smoothing", "#a8508a", "#dd94c1", "s", is_placebo=True),
    "uniform": Look("uniform teacher", "#8a6d00", "#e3c84a", "v", is_placebo=True),
    "teacher_labels": Look("teacher's labels", "#007a5e", "#3fc9a3", "P"),
    # A study on a device compares these two, so they must not look alike.
    "fine_tuned": Look("fine-tuned", "#0072b2", "#56b4e9", "p"),
    "noise_aware": Look("noise-aware", "#5a43a8", "#a794f2", "d"),
    TEACHER: Look("teacher", INK, "#e8eaed", "*"),
}
SERIES = (
    ("#0072b2", "#56b4e9"),
    ("#c65102", "#f39a4d"),
    ("#007a5e", "#3fc9a3"),
    ("#a8508a", "#dd94c1"),
    ("#8a6d00", "#e3c84a"),
    ("#6f7782", "#a3abb6"),
    ("#5a43a8", "#a794f2"),
)
"""Colours on light and on dark paper, for lines that are not variants."""
_MARKERS = "vPX<>h"
_apart: ContextVar[tuple[Mapping[str, str], Mapping[str, str]]] = ContextVar(
    "names_told_apart", default=({}, {})
)
_SPARE = "oD^spd8H*1234+x"


def readable(name: str) -> str:
    """`name` as people write it: no underscores, hyphens or colons; see `told_apart`."""
    return _apart.get()[0].get(name, name.translate(str.maketrans("_-:", "   ")))


@contextmanager
def told_apart(students: Iterable[str], variants: Iterable[str]) -> Iterator[None]:
    """Inside, of names that would be written alike all but the first are written as they are.

    Args:
        students: Those of a study, teachers too.
        variants: Those of a study.
    """
    written: dict[str, str] = {}
    for name in dict.fromkeys(students):
        text = readable(name)
        written[name] = name if text in written.values() else text
    labels = {name: one.label for name, one in looks(variants).items()}
    token = _apart.set((written, labels))
    try:
        yield
    finally:
        _apart.reset(token)


def listed(names: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def look(variant: str) -> Look:
    """The look of `variant`; names this package does not know get a stable look of their own.

    Two of the latter may look alike; where several are drawn together, `looks` keeps them apart.
    """
    if variant in _LOOKS:
        return _LOOKS[variant]
    # The sum of bytes, not hash(): the same colour in every process.
    slot = sum(variant.encode())
    light, dark = SERIES[2 + slot % 3]
    label = _apart.get()[1].get(variant, readable(variant))
    return Look(label, light, dark, _MARKERS[slot % len(_MARKERS)], is_known=False)


def looks(variants: Iterable[str]) -> dict[str, Look]:
    """The looks of variants that are drawn together: no two share a label, or colour and marker.

    Each keeps its own look where it can, known names first.
    """
    names = list(dict.fromkeys(variants))
    found: dict[str, Look] = {}
    for name in sorted(names, key=lambda name: name not in _LOOKS):
        own, taken = look(name), list(found.values())
        colors = [(own.color, own.dark), *SERIES]
        markers = [own.marker, *_MARKERS, *_SPARE]
        free = [c for c in colors if c[0] not in {item.color for item in taken}]
        unused = [m for m in markers if m not in {item.marker for item in taken}]
        pairs = {(item.color, item.marker) for item in taken}
        light, dark = (free or colors)[0]
        marker = (unused or [m for m in markers if (light, m) not in pairs] or markers)[0]
        labels = {item.label for item in taken}
        label = next(t for t in (own.label, name, f"variant {name}") if t not in labels)
        found[name] = replace(own, label=label, color=light, dark=dark, marker=marker)
    return {name: found[name] for name in names}


def order_variants(variants: Iterable[str]) -> list[str]:
    """Baseline, then treatments, then placebos; within these the order of appearance."""
    seen = list(dict.fromkeys(variants))
    return sorted(seen, key=lambda v: 0 if v == BASELINE else 1 + look(v).is_placebo)


def dark_twins() -> dict[str, str]:
    """Light colour to dark colour, for every colour the figures use."""
    twins = {item.color: item.dark for item in _LOOKS.values()}
    twins.update(SERIES)
    twins.update({INK: "#e8eaed", MUTED: "#a9b1bc", GRID: "#363c44", PAPER: "#14171b"})
    return twins
