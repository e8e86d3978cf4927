# SPDX-License-Identifier: Apache-2.0
"""How things look: one fixed look per variant, quiet axes, and figures as SVG text.

Colours are Okabe and Ito's colour-blind-safe set (jfly.uni-koeln.de/color) with a lighter twin for
dark backgrounds; markers differ too, so nothing rests on colour alone. Variants keep their look
everywhere; placebos are pale and dashed, teachers thin, dashed and in ink, and other students than
the headline's have a dash of their own. Inside a page fixed colours become CSS variables, so one
drawing serves light and dark paper; text stays text, in the page's own font.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal, TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from qiskit_kd.experiment.schema import is_teacher
from qiskit_kd.experiment.statistics import Gain
from qiskit_kd.report.frame import BASELINE, Frame, Row, students_of, variants_of

INK = "#1b1f24"
MUTED = "#5b6471"
GRID = "#d5dae1"
PAPER = "#fdfdfe"

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
    is_known: bool = True
    """Whether the name has a look of its own here; other names share a few colours."""


_LOOKS = {
    BASELINE: Look("alone", "#6f7782", "#a3abb6", "o"),
    "distilled": Look("distilled", "#0072b2", "#56b4e9", "D"),
    "shuffled": Look("shuffled teacher", "#c65102", "#f39a4d", "^"),
    "label_smoothing": Look("label smoothing", "#a8508a", "#dd94c1", "s"),
    "uniform": Look("uniform teacher", "#8a6d00", "#e3c84a", "v"),
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


def points(number: float, *, sign: bool = True) -> str:
    """A fraction as percentage points with one decimal and a real minus sign.

    What rounds to zero keeps its sign, so that an interval shows on which side of zero it ends.
    """
    text = f"{100 * number:+.1f}" if sign else f"{100 * number:.1f}"
    return text.removeprefix("+" if number == 0 else "").replace("-", "−")


def ends_of(gain: Gain, say: Callable[[float], str] = points) -> str:
    """`−0.3, +1.2`: both ends of an interval in points; empty for a single seed."""
    return ", ".join(map(say, gain.ends)) if gain.ends else ""


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


def dark_twins() -> dict[str, str]:
    """Light colour to dark colour, for every colour the figures use."""
    twins = {item.color: item.dark for item in _LOOKS.values()}
    twins.update(SERIES)
    twins.update({INK: "#e8eaed", MUTED: "#a9b1bc", GRID: "#363c44", PAPER: "#14171b"})
    return twins


_TREATED = (0, 2, 4, 6, 3, 1)  # slots of SERIES, in the order in which treatments take them
_PLACEBOS = (1, 3, 5, 6, 4)
_OTHERS = (6, 3, 4, 1, 5)
_STROKE_MARKERS = "Dv^sPX<>h"
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


def strokes(
    rows: Sequence[Row],
    *,
    headline: str | None = None,
    placebos: Collection[str] = (),
    baseline: str = BASELINE,
    alone: str = "alone",
) -> dict[tuple[str, str], Stroke]:
    """One stroke per student and variant, teachers last.

    Args:
        rows: Rows.
        headline: The student drawn with full lines; the first one by default.
        placebos: Names of the placebos.
        baseline: Name of the student alone.
        alone: What the baseline is called, where it is not the only training without a teacher.
    """
    pale = placebos
    students = [name for name in students_of(rows) if not is_teacher(name)]
    first = headline or next(iter(students), None)
    students.sort(key=lambda name: name != first)
    colors, markers = _slots(variants_of(rows), pale, baseline)
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
                color,
                markers[variant],
                dash=(0, (3.2, 1.6))
                if variant in pale
                else _DASHES[(rank - 1) % 3]
                if rank
                else "-",
                width=1.3 if variant in pale or rank else 1.9,
                alpha=0.55 if variant in pale else 1.0,
            )
    teachers = [name for name in students_of(rows) if is_teacher(name)]
    for rank, teacher in enumerate(teachers):
        for variant in dict.fromkeys(r["variant"] for r in rows if r["student"] == teacher):
            found[teacher, variant] = Stroke(
                readable(teacher),
                INK,
                "",
                dash=(0, (5, 2.5)) if not rank else (0, (1.2, 1.8)),
                width=1.0,
            )
    return found


def _slots(
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
        unused = [m for m in _STROKE_MARKERS if m not in markers.values()]
        unused = unused or [m for m in _STROKE_MARKERS if m not in taken]
        markers[name] = unused[0] if unused else _STROKE_MARKERS[slot % len(_STROKE_MARKERS)]
    return colors, markers


def _free(order: Sequence[int], taken: Collection[str], slot: int) -> str:
    colors = [SERIES[k][0] for k in order]
    return next((c for c in colors if c not in taken), colors[slot % len(colors)])


def looks_of(frame: Frame, *, student: str | None = None) -> dict[tuple[str, str], Stroke]:
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


SIZE = 10.5
SMALL = 9.0
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "nll": "negative log-likelihood",
    "kl": "KL(teacher ‖ student)",
}
SHARES = {"accuracy", "macro_f1", "ece"}
"""Metrics between 0 and 1, drawn in per cent; the others are in nats."""
LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": SMALL,
    "labelcolor": INK,
    "borderaxespad": 0.2,
    "borderpad": 0,
    "handlelength": 1.3,
    "handletextpad": 0.5,
    "columnspacing": 1.4,
}


class Canvas(TypedDict, total=False):
    """Where a figure goes; every `plot_*` takes these."""

    ax: Any
    """Axes to draw in, one per panel where there are several; a new figure by default."""
    figsize: tuple[float, float] | None
    """Inches."""
    title: str | None
    filename: str | Path | None
    """Where to save it."""


def canvas(where: Canvas, default: tuple[float, float]) -> tuple[Figure, Axes]:
    """The axes to draw in: those given, or those of a new figure of the wanted or default size."""
    ax = where.get("ax")
    if ax is not None:
        figure = ax.get_figure(root=True)
        assert figure is not None
        return figure, ax
    figure = Figure(figsize=where.get("figsize") or default, layout="constrained")
    return figure, figure.add_subplot()


def finish(
    figure: Figure,
    ax: Axes,
    where: Canvas | None = None,
    *,
    title: str | None = None,
    grid: Literal["x", "both", ""] = "x",
) -> Figure:
    """Quiet axes, one text size, the title on the left; saved where `where` says.

    Args:
        figure: The figure.
        ax: Its axes.
        where: As the figure got it.
        title: Where that has none.
        grid: Which lines.
    """
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom") if grid == "both" else side == "bottom")
        spine.set_color(GRID)
    ax.tick_params(which="both", colors=MUTED, labelsize=SMALL, length=0)
    if grid:
        ax.grid(visible=True, axis=grid, color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.patch.set_alpha(0)
    figure.patch.set_facecolor(PAPER)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_color(MUTED)
        label.set_fontsize(SMALL)
    own = (where or {}).get("title")
    if (title := title if own is None else own) is not None:
        ax.set_title(title, loc="left", color=INK, fontsize=SIZE, fontweight="bold")
    return saved(figure, (where or {}).get("filename"))


def saved(
    figure: Figure, file: str | Path | StringIO | None, *, formulas: bool = False, **options: Any
) -> Figure:
    """The figure, saved where `file` says; its texts are literal, unless they are formulas."""
    if not formulas:
        literal(figure)
    if file is None:
        return figure
    try:
        figure.savefig(file, **options)
    except ValueError:
        if not formulas:
            raise
        literal(figure)  # a name in somebody's circuit that is no formula
        if isinstance(file, StringIO):
            file.seek(0)
            file.truncate()
        figure.savefig(file, **options)
    return figure


def literal(figure: Figure) -> None:
    """Show texts as they are written: a `$` in somebody's label begins no formula.

    Powers of ten along a logarithmic axis are matplotlib's own, and stay formulas.
    """
    texts = figure.findobj(Text)  # which makes the ticks
    powers = {
        id(label)
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        if isinstance(axis.get_major_formatter(), LogFormatter)
        for tick in (*axis.majorTicks, *axis.minorTicks)
        for label in (tick.label1, tick.label2)
    }
    for text in texts:
        if isinstance(text, Text) and id(text) not in powers:
            text.set_parse_math(False)
            text.set_usetex(False)


def legend(figure: Figure, ax: Axes, *, columns: int = 3) -> None:
    """A frameless legend above the axes, entries once each; the layout makes room for it."""
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    if not unique:
        return
    if len(figure.axes) == 1 and figure.get_layout_engine() is not None:
        figure.legend(unique.values(), unique, loc="outside upper left", ncols=columns, **LEGEND)
    else:
        ax.legend(
            unique.values(),
            unique,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=columns,
            **LEGEND,
        )


def focused(main: Sequence[float], others: Sequence[float], *, least: float) -> tuple[float, float]:
    """A range that holds all of `main`, and of `others` what does not dwarf it.

    A placebo far below everything else would otherwise press all the rest into one line.
    """
    every = [*main, *others]
    low, high = at_least(min(main or every), max(main or every), least)
    span = high - low
    near = [x for x in others if low - 0.75 * span <= x <= high + 0.75 * span]
    low, high = min([low, *near]), max([high, *near])
    # What stays outside needs a strip at the edge, where an arrow can point to it.
    low -= (0.15 if min(every) < low else 0.05) * span
    high += (0.15 if max(every) > high else 0.05) * span
    return low, high


def axis_label(metric: str) -> str:
    """What stands beside an axis of a test metric."""
    return f"test {METRICS.get(metric, metric)}, {'%' if metric in SHARES else 'nats'}"


def at_least(low: float, high: float, span: float) -> tuple[float, float]:
    """The range, widened about its middle: a single seed must not be drawn as a precise one."""
    missing = max(0.0, span - (high - low)) / 2
    return low - missing, high + missing
