# SPDX-License-Identifier: Apache-2.0
"""How each line of a figure with many lines is drawn: one student under one variant.

Variants keep the look they have everywhere (`palette`); names that have none there take colours
that nobody else on the page has. Placebos are pale and dashed, teachers thin, dashed and in ink,
and other students than the headline's have a dash of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from qiskit_kd.report.palette import BASELINE, INK, SERIES, look, looks, readable
from qiskit_kd.report.summary import Row, is_teacher, students_of, variants_of

__all__ = ["Stroke", "placebos_of", "strokes"]

_TREATED = (0, 2, 4, 6, 3, 1)  # slots of SERIES, in the order in which treatments take them
_PLACEBOS = (1, 3, 5, 6, 4)
_OTHERS = (6, 3, 4, 1, 5)
_MARKERS = "Dv^sPX<>h"
_DASHES: tuple[Any, ...] = ((0, (6, 1.5, 1.2, 1.5)), (0, (1.2, 1.2)), (0, (8, 2)))


@dataclass(frozen=True, slots=True)
class Stroke:
    """How one student under one variant is drawn."""

    label: str
    color: str
    marker: str = "o"
    dash: Any = "-"
    """A matplotlib line style."""
    width: float = 1.8
    alpha: float = 1.0


def placebos_of(rows: Sequence[Row]) -> set[str]:
    """Variants that are called as placebos are; for rows without a configuration."""
    return {name for name in variants_of(rows) if look(name).is_placebo}


def strokes(
    rows: Sequence[Row], *, headline: str | None = None, placebos: Collection[str] | None = None,
    baseline: str = BASELINE, alone: str = "alone",
) -> dict[tuple[str, str], Stroke]:  # fmt: skip
    """One stroke per student and variant, teachers last.

    Args:
        rows: Rows.
        headline: The student drawn with full lines; the first one by default.
        placebos: Names of the placebos; by default those whose name says so.
        baseline: Name of the student alone.
        alone: What the baseline is called, where it is not the only training without a teacher.
    """
    pale = placebos_of(rows) if placebos is None else placebos
    students = [name for name in students_of(rows) if not is_teacher(name)]
    first = headline or next(iter(students), None)
    students.sort(key=lambda name: name != first)
    colors, markers = _looks(variants_of(rows), pale, baseline)
    labels = looks(variants_of(rows))
    taken = {*colors.values()}
    found: dict[tuple[str, str], Stroke] = {}
    for rank, student in enumerate(students):
        for variant in variants_of(rows, student=student):
            label = alone if variant == baseline else labels[variant].label
            color = colors[variant]
            if rank and variant == baseline:
                color = _free(_OTHERS, taken, rank)
                taken.add(color)
            if len(students) > 1 and alone != "alone":
                label = f"{readable(student)}, {label}"
            elif len(students) > 1 and variant == baseline:
                label = f"{readable(student)} alone"
            elif rank:
                label = f"{readable(student)}, {label}"
            found[student, variant] = Stroke(
                label,
                color, markers[variant],
                dash=(0, (3.2, 1.6)) if variant in pale else _DASHES[(rank - 1) % 3]
                if rank else "-",
                width=1.3 if variant in pale or rank else 1.9,
                alpha=0.55 if variant in pale else 1.0,
            )  # fmt: skip
    teachers = [name for name in students_of(rows) if is_teacher(name)]
    for rank, teacher in enumerate(teachers):
        for variant in dict.fromkeys(r["variant"] for r in rows if r["student"] == teacher):
            found[teacher, variant] = Stroke(
                readable(teacher), INK, "", dash=(0, (5, 2.5)) if not rank else (0, (1.2, 1.8)),
                width=1.0,
            )  # fmt: skip
    return found


def _looks(
    variants: Iterable[str], placebos: Collection[str], baseline: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Colour and marker of every variant; no two alike as long as there are enough."""
    names = list(variants)
    known = looks(name for name in names if look(name).is_known)
    colors = {name: known[name].color for name in known}
    markers = {name: known[name].marker for name in known}
    colors[baseline], markers[baseline] = look(BASELINE).color, look(BASELINE).marker
    for slot, name in enumerate(name for name in names if name not in colors):
        order = _PLACEBOS if name in placebos else _TREATED
        colors[name] = _free(order, {*colors.values()}, slot)
        taken = {markers[other] for other in markers if colors.get(other) == colors[name]}
        unused = [m for m in _MARKERS if m not in markers.values()]
        unused = unused or [m for m in _MARKERS if m not in taken]
        markers[name] = unused[0] if unused else _MARKERS[slot % len(_MARKERS)]
    return colors, markers


def _free(order: Sequence[int], taken: Collection[str], slot: int) -> str:
    colors = [SERIES[k][0] for k in order]
    return next((c for c in colors if c not in taken), colors[slot % len(colors)])
