# SPDX-License-Identifier: Apache-2.0
"""How things look and are called: one look per variant, names and numbers as people write them.

Colours are Okabe and Ito's colour-blind-safe set (jfly.uni-koeln.de/color) with a lighter twin for
dark backgrounds; markers differ too, so nothing rests on colour alone. Variants keep their look
everywhere; placebos are pale and dashed, teachers thin, dashed and in ink, and other students than
the headline's have a dash of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from qiskit_kd.experiment.schema import is_teacher
from qiskit_kd.experiment.statistics import Gain
from qiskit_kd.report.frame import BASELINE, Frame, Row, students_of, variants_of

INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6471", "#d5dae1", "#fdfdfe"
DARK = {
    "#6f7782": "#a3abb6",
    "#0072b2": "#56b4e9",
    "#c65102": "#f39a4d",
    "#a8508a": "#dd94c1",
    "#8a6d00": "#e3c84a",
    "#007a5e": "#3fc9a3",
    "#5a43a8": "#a794f2",
    INK: "#e8eaed",
    MUTED: "#a9b1bc",
    GRID: "#363c44",
    PAPER: "#14171b",
}
"""Light colour to dark colour, for every colour that figures use."""
SERIES = ("#0072b2", "#c65102", "#007a5e", "#a8508a", "#8a6d00", "#6f7782", "#5a43a8")
"""Colours on light paper, for lines that are not variants."""
TEACHER = "teacher"


@dataclass(frozen=True, slots=True)
class Look:
    """How a variant, or one of a student, is drawn and called."""

    label: str
    """Name for people."""
    color: str
    """Colour on light paper, `#rrggbb`."""
    marker: str = "o"
    """Matplotlib marker."""
    dash: Any = "-"
    """A matplotlib line style."""
    width: float = 1.8
    alpha: float = 1.0


_LOOKS = {
    BASELINE: Look("alone", "#6f7782", "o"),
    "distilled": Look("distilled", "#0072b2", "D"),
    "shuffled": Look("shuffled teacher", "#c65102", "^"),
    "label_smoothing": Look("label smoothing", "#a8508a", "s"),
    "uniform": Look("uniform teacher", "#8a6d00", "v"),
    "teacher_labels": Look("teacher's labels", "#007a5e", "P"),
    # A study on a device compares these two, so they must not look alike.
    "fine_tuned": Look("fine-tuned", "#0072b2", "p"),
    "noise_aware": Look("noise-aware", "#5a43a8", "d"),
    TEACHER: Look("teacher", INK, "*"),
}
_MARKERS, _SPARE = "vPX<>h", "oD^spd8H*1234+x"
# In studies with axes: the order in which names that are not known take colours, and markers.
_TREATED, _PLACEBOS, _OTHERS = (
    [SERIES[k] for k in order] for order in ((0, 2, 4, 6, 3, 1), (1, 3, 5, 6, 4), (6, 3, 4, 1, 5))
)
_LINE_MARKERS = "Dv^sPX<>h"
_DASHES: tuple[Any, ...] = ((0, (6, 1.5, 1.2, 1.5)), (0, (1.2, 1.2)), (0, (8, 2)))
_apart: ContextVar[tuple[Mapping[str, str], Mapping[str, str]]] = ContextVar(
    "names_told_apart", default=({}, {})
)


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
    token = _apart.set((written, {name: one.label for name, one in looks(variants).items()}))
    try:
        yield
    finally:
        _apart.reset(token)


def listed(names: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def signed(number: float, digits: int = 1) -> str:
    """A number with its sign, and a real minus.

    What rounds to zero keeps its sign, so that an interval shows on which side of zero it ends.
    """
    return f"{number:{'+' if number else ''}.{digits}f}".replace("-", "−")


def points(number: float) -> str:
    """A fraction as percentage points with one decimal, see `signed`."""
    return f"{100 * number:{'+' if number else ''}.1f}".replace("-", "−")


def ends_of(gain: Gain, say: Callable[[float], str] = points, joint: str = ", ") -> str:
    """`−0.3, +1.2`: both ends of an interval in points; empty for a single seed."""
    return joint.join(map(say, ends)) if (ends := gain.ends) else ""


def look(variant: str) -> Look:
    """The look of `variant`; names this package does not know get a stable look of their own.

    Two of the latter may look alike; where several are drawn together, `looks` keeps them apart.
    """
    if variant in _LOOKS:
        return _LOOKS[variant]
    # The sum of bytes, not hash(): the same colour in every process.
    slot = sum(variant.encode())
    label = _apart.get()[1].get(variant, readable(variant))
    return Look(label, SERIES[2 + slot % 3], _MARKERS[slot % len(_MARKERS)])


def looks(
    variants: Iterable[str], *, placebos: Collection[str] | None = None, baseline: str = BASELINE
) -> dict[str, Look]:
    """The looks of variants that are drawn together: no two share a label, or colour and marker.

    Each keeps its own look where it can, known names first.

    Args:
        variants: Their names.
        placebos: Where they are known, other names take colours in the order of their kind.
        baseline: What looks like the student alone.
    """
    names, known = list(dict.fromkeys(variants)), {*_LOOKS, baseline}
    found: dict[str, Look] = {}
    for name in sorted(names, key=lambda name: name not in known):
        own, taken = look(name), list(found.values())
        if name == baseline:
            own = replace(_LOOKS[BASELINE], label=own.label)
        colors, markers = [own.color, *SERIES], own.marker + _MARKERS + _SPARE
        if placebos is not None and name not in known:
            colors, markers = _PLACEBOS if name in placebos else _TREATED, _LINE_MARKERS + _SPARE
        color = _free(colors, [item.color for item in taken]) or own.color
        pairs = {(item.color, item.marker) for item in taken}
        marker = (
            _free(markers, [item.marker for item in taken])
            or next((m for m in markers if (color, m) not in pairs), None)
            or markers[0]
        )
        label = _free((own.label, name, f"variant {name}"), [item.label for item in taken])
        found[name] = replace(own, label=str(label), color=color, marker=marker)
    return {name: found[name] for name in names}


def _free(wanted: Iterable[str], taken: Collection[str]) -> str | None:
    return next((one for one in wanted if one not in taken), None)


Looks = Mapping[tuple[str, str], Look]
"""How every student is drawn under each variant."""


def strokes(
    rows: Sequence[Row],
    *,
    headline: str | None = None,
    placebos: Collection[str] = (),
    baseline: str = BASELINE,
    alone: str = "alone",
) -> dict[tuple[str, str], Look]:
    """One look per student and variant, teachers last.

    Args:
        rows: Rows.
        headline: The student drawn with full lines; the first one by default.
        placebos: Names of the placebos.
        baseline: Name of the student alone.
        alone: What the baseline is called, where it is not the only training without a teacher.
    """
    networks, own = (
        students_of(rows),
        looks(variants_of(rows), placebos=placebos, baseline=baseline),
    )
    teachers = [name for name in networks if is_teacher(name)]
    students = sorted(networks[len(teachers) :], key=lambda name: name != headline)
    several, taken = len(students) > 1, {one.color for one in own.values()}
    found: dict[tuple[str, str], Look] = {}
    for rank, student in enumerate(students):
        for variant in variants_of(rows, student=student):
            pale, color = variant in placebos, own[variant].color
            label = alone if variant == baseline else own[variant].label
            if rank and variant == baseline:
                color = _free(_OTHERS, taken) or _OTHERS[rank % len(_OTHERS)]
                taken.add(color)
            if several and variant == baseline and alone == "alone":
                label = f"{readable(student)} alone"
            elif rank or (several and alone != "alone"):
                label = f"{readable(student)}, {label}"
            found[student, variant] = Look(
                label,
                color,
                own[variant].marker,
                (0, (3.2, 1.6)) if pale else _DASHES[(rank - 1) % 3] if rank else "-",
                width=1.3 if pale or rank else 1.9,
                alpha=0.55 if pale else 1.0,
            )
    for rank, teacher in enumerate(teachers):
        dash = (0, (1.2, 1.8)) if rank else (0, (5, 2.5))
        for variant in dict.fromkeys(row["variant"] for row in rows if row["student"] == teacher):
            found[teacher, variant] = Look(readable(teacher), INK, "", dash, width=1.0)
    return found


def looks_of(frame: Frame, *, student: str | None = None) -> dict[tuple[str, str], Look]:
    """How every student and variant of a study is drawn, the same in all its figures.

    Args:
        frame: A study.
        student: Only this student and the teachers, for figures that show no other.
    """
    shown = [student, *frame.teachers] if student else frame.networks
    return strokes(
        [row for row in frame.rows if row["student"] in shown],
        headline=student or frame.student,
        placebos=[name for name, role in frame.roles.items() if role == "placebo"],
        baseline=frame.baseline,
        alone=look(frame.baseline).label if frame.having("other") else "alone",
    )
