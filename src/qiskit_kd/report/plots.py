# SPDX-License-Identifier: Apache-2.0
"""Figures of results: accuracy, accuracy against parameters, paired gains, a circuit.

Every `plot_*` takes rows as `qiskit_kd.experiment` stores them and returns a matplotlib `Figure`
made without pyplot and without touching rcParams. With `ax` it draws there and returns that
figure; `figsize` is in inches, and `filename` saves it. Intervals are 95 % (Student's t over
seeds); a single seed is a hollow point without one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qiskit_kd.experiment.schema import is_teacher
from qiskit_kd.report.frame import (
    BASELINE,
    Cell,
    Row,
    cells,
    gains,
    students_of,
    variants_of,
)
from qiskit_kd.report.style import (
    INK,
    METRICS,
    MUTED,
    PAPER,
    SMALL,
    TEACHER,
    Canvas,
    at_least,
    canvas,
    finish,
    legend,
    look,
    looks,
    readable,
    saved,
)

if TYPE_CHECKING:
    from qiskit import QuantumCircuit


def plot_accuracy(
    data: Sequence[Row], *, metric: str = "accuracy", **where: Unpack[Canvas]
) -> Figure:
    """Bars of a test metric per student and variant, with intervals and every seed as a point.

    Args:
        data: Rows. A student called `teacher` becomes a dashed line with its interval as a band.
        metric: A key of the rows' `test`.
    """
    students = [name for name in students_of(data) if not is_teacher(name)]
    table, drawn = cells(data, metric), looks(variants_of(data))
    rows = sum(len(variants_of(data, student=name)) for name in students)
    figure, ax = canvas(where, (5.2, 0.9 + 0.2 * rows + 0.23 * len(students)))
    position = 0.0
    for student in students:
        mine = [cell for cell in table if cell.student == student]
        _group(ax, position, student, mine[0].size)
        for cell in mine:
            style = drawn[cell.variant]
            ax.barh(
                position, 100 * cell.mean, height=0.82, color=style.color, alpha=0.28, linewidth=0
            )
            hollow = "none" if cell.n == 1 else style.color
            spread = np.linspace(-0.24, 0.24, cell.n) if cell.n > 1 else np.zeros(1)
            ax.scatter(
                100 * np.asarray(cell.values),
                position + spread,
                s=9,
                facecolors=hollow,
                edgecolors=style.color,
                linewidths=0.6,
                alpha=0.75,
                zorder=3,
                marker=style.marker,
                label=style.label,
            )
            if cell.half is not None:
                ax.errorbar(
                    100 * cell.mean,
                    position,
                    xerr=_reach(cell),
                    color=INK,
                    linewidth=1.3,
                    capsize=2.6,
                    capthick=1.3,
                    zorder=4,
                )
            position += 1
        position += 1.15
    for rank, cell in enumerate(cell for cell in table if is_teacher(cell.student)):
        if cell.half is not None:
            below, above = np.ravel(_reach(cell))
            middle = 100 * cell.mean
            ax.axvspan(middle - below, middle + above, color=INK, alpha=0.1, linewidth=0)
        ax.axvline(
            100 * cell.mean,
            color=INK,
            linestyle=(0, (4 / (1 + rank), 2)),
            linewidth=1.1,
            label=readable(cell.student),
        )
    ax.set_yticks([])
    ax.set_ylim(max(position - 1.5, -0.5), -1.5)
    # An interval may reach beyond what an accuracy can be; the axis does not.
    ax.set_xlim(0, 100)
    ax.set_xlabel(f"test {METRICS.get(metric, metric)}, %")
    legend(figure, ax)
    return finish(figure, ax, where)


def plot_parameters(
    data: Sequence[Row],
    *,
    metric: str = "accuracy",
    variants: Iterable[str] | None = None,
    **where: Unpack[Canvas],
) -> Figure:
    """A test metric against the number of trainable parameters, one point per student and variant.

    Args:
        data: Rows.
        metric: A key of the rows' `test`.
        variants: Which variants; all by default. The teacher is always drawn.
    """
    figure, ax = canvas(where, (5.2, 4.2))
    wanted = set(variants_of(data) if variants is None else variants)
    table = [c for c in cells(data, metric) if c.variant in wanted or is_teacher(c.student)]
    drawn = looks(variants_of(data))
    shift = _dodge({c.student: c.parameters for c in table})
    labels = []
    for student in students_of(data):
        mine = [cell for cell in table if cell.student == student]
        if not mine:
            continue
        for slot, cell in enumerate(mine):
            style = look(TEACHER) if is_teacher(student) else drawn[cell.variant]
            half = None if cell.half is None else _reach(cell)
            ax.errorbar(
                cell.parameters * shift[student] * 1.03 ** (slot - (len(mine) - 1) / 2),
                100 * cell.mean,
                yerr=half,
                color=style.color,
                marker=style.marker,
                markersize=9 if is_teacher(student) else 5.5,
                linestyle="none",
                linewidth=1.2,
                capsize=2,
                label=style.label,
                markerfacecolor="none" if cell.n == 1 else style.color,
            )
        labels.append((mine[-1].parameters, shift[student], 100 * mine[-1].mean, student))
    ax.set_xscale("log")
    sizes = sorted({cell.parameters for cell in table})
    ax.set_xticks(_thin(sizes), [f"{size:,}" for size in _thin(sizes)])
    ax.set_xticks([], minor=True)
    ax.margins(x=0.08, y=0.08)
    low, high = at_least(*ax.get_ylim(), 10.0)
    ax.set_ylim(max(low, 0), min(high, 101))
    left, right = ax.get_xlim()
    widen = max(1.0, 3.0 / (right / left)) ** 0.5
    ax.set_xlim(left / widen, right * widen)
    if labels:
        _label(ax, labels)
    ax.set_xlabel("trainable parameters (logarithmic; equal sizes set side by side)")
    ax.set_ylabel(f"test {METRICS.get(metric, metric)}, %")
    legend(figure, ax)
    return finish(figure, ax, where, grid="both")


def plot_gains(
    data: Sequence[Row],
    comparisons: Sequence[Mapping[str, Any]],
    *,
    metric: str = "accuracy",
    baseline: str = BASELINE,
    over: str = "the student alone",
    **where: Unpack[Canvas],
) -> Figure:
    """Paired gains over the student alone, with intervals, placebos beside them, and a zero line.

    Args:
        data: Rows; they give the pale points, one difference per seed.
        comparisons: The study's comparisons; those against the baseline variant are drawn.
        metric: Which metric.
        baseline: The variant that is the student alone.
        over: What the axis calls it.
    """
    table = gains(data, comparisons, metric=metric, baseline=baseline)
    drawn = looks([*variants_of(data), *(variant for _, variant in table)])
    students = list(dict.fromkeys(student for student, _ in table))
    figure, ax = canvas(where, (5.2, 0.9 + 0.24 * len(table) + 0.28 * len(students)))
    ax.axvline(0, color=INK, linewidth=1.0, zorder=1)
    sizes = {cell.student: cell.size for cell in cells(data, metric)}
    position = 0.0
    for student in students:
        _group(ax, position, student, sizes.get(student))
        for style, gain in ((drawn[v], gain) for (s, v), gain in table.items() if s == student):
            ax.scatter(
                100 * np.asarray(gain.differences),
                np.full(len(gain.differences), position),
                s=13,
                color=style.color,
                alpha=0.28,
                linewidths=0,
                zorder=2,
            )
            if gain.ends:
                ax.plot(
                    100 * np.asarray(gain.ends),
                    [position, position],
                    color=style.color,
                    linewidth=2.4,
                    solid_capstyle="butt",
                    zorder=3,
                )
            ax.plot(
                100 * gain.mean,
                position,
                marker=style.marker,
                markersize=6.5,
                markerfacecolor=style.color if gain.ends else "none",
                markeredgecolor=style.color,
                linestyle="none",
                label=style.label,
                zorder=4,
            )
            position += 1
        position += 1.15
    ax.set_yticks([])
    ax.set_ylim(max(position - 1.5, -0.5), -1.5)
    ax.set_xlim(*at_least(*ax.get_xlim(), 6.0))
    ax.set_xlabel(f"points of test {METRICS.get(metric, metric)} gained over {over}")
    legend(figure, ax)
    return finish(figure, ax, where)


def _group(ax: Axes, position: float, student: str, count: str | None) -> None:
    """The student's name as a heading above its rows, which leaves the width to the data."""
    size = "" if count is None else f"  [{count} parameters]"
    ax.text(
        0,
        position - 0.62,
        readable(student) + size,
        transform=ax.get_yaxis_transform(),
        ha="left",
        va="bottom",
        fontsize=SMALL,
        color=INK,
        fontweight="bold",
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.6},
    )


def _reach(cell: Cell) -> NDArray[np.float64]:
    """`(2, 1)` lengths of an interval's arms in per cent, cut at 0 and 100 like the axis."""
    mean, half = 100 * cell.mean, 100 * (cell.half or 0.0)
    if not 0 <= mean <= 100:
        return np.full((2, 1), half)
    return np.array([[min(half, mean)], [min(half, 100 - mean)]])


def _dodge(sizes: Mapping[str, int]) -> dict[str, float]:
    """A factor near one per student, so that students of (nearly) equal size do not overlap."""
    factors = {}
    for name, size in sizes.items():
        near = [other for other in sizes if abs(np.log(sizes[other] / size)) < 0.1]
        factors[name] = float(1.09 ** (near.index(name) - (len(near) - 1) / 2))
    return factors


def _label(ax: Axes, labels: Sequence[tuple[int, float, float, str]]) -> None:
    """Names beside the points, pushed apart where they would overlap.

    The smallest students' names stand to the left, where nothing else is; the others' to the right.
    """
    low, high = ax.get_ylim()
    left, right = ax.get_xlim()
    gap = (high - low) * 0.062
    longest = max(len(readable(student)) for *_, student in labels)
    ax.set_xlim(left / (right / left) ** (0.08 + 0.026 * longest), right * (right / left) ** 0.16)
    groups: list[list[tuple[int, float, float, str]]] = []
    for item in sorted(labels):
        if groups and item[0] <= 1.1 * groups[-1][0][0]:
            groups[-1].append(item)
        else:
            groups.append([item])
    for rank, group in enumerate(groups):
        on_left = rank == 0 and len(groups) > 1
        edges = [size * factor for size, factor, _, _ in group]
        x = min(edges) / 1.2 if on_left else max(edges) * 1.2
        group = sorted(group, key=lambda item: item[2])
        heights = [height for _, _, height, _ in group]
        for k in range(1, len(heights)):
            heights[k] = max(heights[k], heights[k - 1] + gap)
        for height, (size, factor, y, student) in zip(heights, group, strict=True):
            ax.annotate(
                readable(student),
                (size * factor * (0.98 if on_left else 1.03), y),
                xytext=(x, height),
                ha="right" if on_left else "left",
                va="center",
                fontsize=SMALL - 0.5,
                color=INK,
                arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 1},
            )


def _thin(sizes: Sequence[int]) -> list[int]:
    """Tick values far enough apart to be read."""
    kept: list[int] = []
    for size in sizes:
        if not kept or size > 1.3 * kept[-1]:
            kept.append(size)
    return kept


def plot_circuit(data: QuantumCircuit, *, fold: int = 28, **where: Unpack[Canvas]) -> Figure:
    """A circuit drawn by Qiskit in its `iqp` style, in lines of at most `fold` columns.

    Args:
        data: The circuit.
        fold: Columns per line; the lines are made equally long.
    """
    drawable = _short_names(data)
    # Qiskit fits a drawing into the axes it is given, letters included; so ask it first how many
    # columns it takes, fold these into lines of equal length, and make room for them.
    scratch = Figure().add_subplot()
    drawable.draw("mpl", style="iqp", fold=-1, ax=scratch)
    left, right = scratch.get_xlim()
    lines = max(1, math.ceil((right - left - 2) / fold))
    per_line = -1 if lines == 1 else math.ceil((right - left - 2) / lines) + 1
    if where.get("ax") is None:
        if lines > 1:
            scratch = Figure().add_subplot()
            drawable.draw("mpl", style="iqp", fold=per_line, ax=scratch)
        (left, right), (bottom, top) = scratch.get_xlim(), scratch.get_ylim()
        figure = Figure(
            figsize=where.get("figsize") or (0.52 * (right - left), 0.52 * (top - bottom))
        )
        ax = figure.add_axes((0, 0, 1, 1))
    else:
        figure, ax = canvas(where, (1.0, 1.0))
    drawable.draw("mpl", style="iqp", fold=per_line, ax=ax)
    if (title := where.get("title")) is not None:
        ax.set_title(title, loc="left", color=INK)
    return saved(figure, where.get("filename"), formulas=True)


def _short_names(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with parameters called x0, x1 ... and w0, w1 ..., which fit into their boxes."""
    from qiskit.circuit import Parameter

    names, taken = {}, {p.name for p in circuit.parameters}
    for parameter in circuit.parameters:
        stem, _, digits = parameter.name.rpartition("_")
        if stem in ("input", "weight") and digits.isdigit():
            short = f"{'x' if stem == 'input' else 'w'}{int(digits)}"
            if short not in taken:
                names[parameter] = Parameter(short)
    return circuit.assign_parameters(names) if names else circuit
