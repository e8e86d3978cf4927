# SPDX-License-Identifier: Apache-2.0
"""Figures of results: accuracy, accuracy against parameters, paired gains, a circuit.

Every `plot_*` takes rows as `qiskit_kd.experiment` stores them and returns a matplotlib `Figure`
made without pyplot and without touching rcParams. With `ax` it draws there and returns that
figure; `figsize` is in inches, and `filename` saves it. A `metric` is a key of the rows' `test`,
the `baseline` the variant that is the student alone. Intervals are 95 % (Student's t over seeds); a
single seed is a hollow point without one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qiskit_kd.experiment.schema import is_teacher
from qiskit_kd.report.drawing import (
    METRICS,
    SMALL,
    Canvas,
    at_least,
    canvas,
    finish,
    legend,
    mark,
    saved,
    stroke,
    write,
)
from qiskit_kd.report.frame import BASELINE, Cell, Row, cells, gain_of, variants_of
from qiskit_kd.report.style import INK, MUTED, PAPER, TEACHER, look, looks, readable

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

Item = TypeVar("Item")


def plot_accuracy(
    data: Sequence[Row], *, metric: str = "accuracy", **where: Unpack[Canvas]
) -> Figure:
    """Bars of a test metric per student and variant, with intervals and every seed as a point.

    A student called `teacher` becomes a dashed line with its interval as a band.
    """
    table, drawn = cells(data, metric), looks(variants_of(data))
    teachers = [cell for cell in table if is_teacher(cell.student)]
    bars = [(cell.student, cell) for cell in table[len(teachers) :]]
    _, ax = canvas(where, (5.2, 0.9 + 0.2 * len(bars) + 0.23 * len(dict(bars))))
    for position, cell in _grouped(ax, bars, table):
        style, mean = drawn[cell.variant], 100 * cell.mean
        ax.barh(position, mean, height=0.82, color=style.color, alpha=0.28, linewidth=0)
        ax.scatter(
            100 * np.asarray(cell.values),
            position + (np.linspace(-0.24, 0.24, cell.n) if cell.n > 1 else np.zeros(1)),
            s=9,
            facecolors="none" if cell.n == 1 else style.color,
            edgecolors=style.color,
            linewidths=0.6,
            alpha=0.75,
            zorder=3,
            marker=style.marker,
            label=style.label,
        )
        if cell.half is not None:
            whiskers: dict[str, Any] = {"linewidth": 1.3, "capsize": 2.6, "capthick": 1.3}
            ax.errorbar(mean, position, xerr=_reach(cell), color=INK, zorder=4, **whiskers)
    for rank, cell in enumerate(teachers):
        mean = 100 * cell.mean
        if cell.half is not None:
            below, above = np.ravel(_reach(cell))
            ax.axvspan(mean - below, mean + above, color=INK, alpha=0.1, linewidth=0)
        dash = (0, (4 / (1 + rank), 2))
        ax.axvline(mean, color=INK, linestyle=dash, linewidth=1.1, label=readable(cell.student))
    # An interval may reach beyond what an accuracy can be; the axis does not.
    ax.set_xlim(0, 100)
    ax.set_xlabel(f"test {METRICS.get(metric, metric)}, %")
    legend([ax])
    return finish(ax, where)


def plot_parameters(
    data: Sequence[Row],
    *,
    metric: str = "accuracy",
    variants: Iterable[str] | None = None,
    **where: Unpack[Canvas],
) -> Figure:
    """A test metric against the number of trainable parameters, one point per student and variant.

    All `variants` are drawn by default; the teacher always is.
    """
    _, ax = canvas(where, (5.2, 4.2))
    every = variants_of(data)
    wanted, drawn = set(every if variants is None else variants), looks(every)
    table = [c for c in cells(data, metric) if c.variant in wanted or is_teacher(c.student)]
    shift = _dodge({c.student: c.parameters for c in table})
    labels = []
    for student, group in groupby(table, lambda cell: cell.student):
        mine, teaches = list(group), is_teacher(student)
        for slot, cell in enumerate(mine):
            style = look(TEACHER) if teaches else drawn[cell.variant]
            ax.errorbar(
                cell.parameters * shift[student] * 1.03 ** (slot - (len(mine) - 1) / 2),
                100 * cell.mean,
                yerr=None if cell.half is None else _reach(cell),
                color=style.color,
                marker=style.marker,
                markersize=9 if teaches else 5.5,
                linestyle="none",
                linewidth=1.2,
                capsize=2,
                label=style.label,
                markerfacecolor="none" if cell.n == 1 else style.color,
            )
        labels.append((mine[-1].parameters, shift[student], 100 * mine[-1].mean, student))
    ax.set_xscale("log")
    sizes = _thin(sorted({cell.parameters for cell in table}))
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
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
    legend([ax])
    return finish(ax, where, grid="both")


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

    Of the study's `comparisons` those against the `baseline` are drawn, which the axis calls
    `over`; pale points are differences of single seeds.
    """
    wanted = {(c["student"], c["variant"]): None for c in comparisons if c["baseline"] == baseline}
    table = [
        (student, (variant, gain))
        for student, variant in wanted
        if (gain := gain_of(data, student, variant, baseline, metric))
    ]
    drawn = looks([*variants_of(data), *(variant for _, variant in wanted)])
    _, ax = canvas(where, (5.2, 0.9 + 0.24 * len(table) + 0.28 * len(dict(table))))
    ax.axvline(0, color=INK, linewidth=1.0, zorder=1)
    for position, (variant, gain) in _grouped(ax, table, cells(data, metric)):
        style, single = drawn[variant], 100 * np.asarray(gain.differences)
        pale: dict[str, Any] = {"s": 13, "alpha": 0.28, "linewidths": 0, "zorder": 2}
        ax.scatter(single, np.full(len(single), position), color=style.color, **pale)
        if gain.ends:
            ends = 100 * np.asarray(gain.ends)
            stroke(ax, ends, [position] * 2, style, linewidth=2.4, solid_capstyle="butt", zorder=3)
        filled = gain.ends is not None
        mark(ax, 100 * gain.mean, position, style, 6.5, filled=filled, label=style.label, zorder=4)
    ax.set_xlim(*at_least(*ax.get_xlim(), 6.0))
    ax.set_xlabel(f"points of test {METRICS.get(metric, metric)} gained over {over}")
    legend([ax])
    return finish(ax, where)


def _grouped(
    ax: Axes, items: Iterable[tuple[str, Item]], table: Iterable[Cell]
) -> Iterator[tuple[float, Item]]:
    """Heights of items, student by student; the names stand above, the width is left to data."""
    sizes = {cell.student: f"  [{cell.size} parameters]" for cell in table}
    groups: dict[str, list[Item]] = {}
    for student, item in items:
        groups.setdefault(student, []).append(item)
    position = 0.0
    for student, group in groups.items():
        write(
            ax,
            0,
            position - 0.62,
            readable(student) + sizes.get(student, ""),
            "left bottom",
            transform=ax.get_yaxis_transform(),
            fontweight="bold",
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.6},
        )
        for item in group:
            yield position, item
            position += 1
        position += 1.15
    ax.set_yticks([])
    ax.set_ylim(max(position - 1.5, -0.5), -1.5)


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
    """Names beside the points, pushed apart; the smallest students' stand alone on the left."""
    low, high = ax.get_ylim()
    left, right = ax.get_xlim()
    gap = (high - low) * 0.062
    longest = max(len(readable(student)) for *_, student in labels)
    ax.set_xlim(left / (right / left) ** (0.08 + 0.026 * longest), right * (right / left) ** 0.16)
    groups: list[list[tuple[int, float, float, str]]] = []
    for item in sorted(labels):
        if not groups or item[0] > 1.1 * groups[-1][0][0]:
            groups.append([])
        groups[-1].append(item)
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
    kept = list(sizes[:1])
    for size in sizes:
        kept += [size] * (size > 1.3 * kept[-1])
    return kept


def plot_circuit(data: QuantumCircuit, *, fold: int = 28, **where: Unpack[Canvas]) -> Figure:
    """A circuit drawn by Qiskit in its `iqp` style, in equal lines of at most `fold` columns."""
    drawable = _short_names(data)
    # Qiskit fits a drawing into the axes it is given, letters included; so ask it first how many
    # columns it takes, fold these into lines of equal length, and make room for them.
    scratch = Figure().add_subplot()
    drawable.draw("mpl", style="iqp", fold=-1, ax=scratch)
    left, right = scratch.get_xlim()
    lines = max(1, math.ceil((right - left - 2) / fold))
    per_line = -1 if lines == 1 else math.ceil((right - left - 2) / lines) + 1
    if where.get("ax") is not None:
        figure, ax = canvas(where, (1.0, 1.0))
    else:
        if lines > 1:
            scratch = Figure().add_subplot()
            drawable.draw("mpl", style="iqp", fold=per_line, ax=scratch)
        (left, right), (bottom, top) = scratch.get_xlim(), scratch.get_ylim()
        size = where.get("figsize") or (0.52 * (right - left), 0.52 * (top - bottom))
        figure = Figure(figsize=size)
        ax = figure.add_axes((0, 0, 1, 1))
    drawable.draw("mpl", style="iqp", fold=per_line, ax=ax)
    if (title := where.get("title")) is not None:
        ax.set_title(title, loc="left", color=INK)
    return saved(figure, where.get("filename"), formulas=True)


def _short_names(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with parameters called x0, x1 ... and w0, w1 ..., which fit into their boxes."""
    from qiskit.circuit import Parameter

    short = {
        p: re.sub(r"^(?:(i)nput|weight)_0*(\d+)$", lambda m: ("x" if m[1] else "w") + m[2], p.name)
        for p in circuit.parameters
    }
    taken = {p.name for p in short}
    names = {p: Parameter(name) for p, name in short.items() if name not in taken}
    return circuit.assign_parameters(names) if names else circuit
