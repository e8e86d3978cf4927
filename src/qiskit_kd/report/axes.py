# SPDX-License-Identifier: Apache-2.0
"""Figures of a study with axes: accuracy and paired gain against the axis of numbers.

Same conventions as `qiskit_kd.report.figures`; every combination of the other axes' values is a
panel, and `ax` may be one `Axes` per panel. Intervals are 95 % (Student's t over seeds,
corrected for samples that they share).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qiskit_kd.experiment.statistics import shared_variance
from qiskit_kd.report.canvas import METRICS, SMALL, focused
from qiskit_kd.report.grid import Grid, at
from qiskit_kd.report.palette import BASELINE, INK, PAPER
from qiskit_kd.report.panels import (
    AxesLike,
    Strokes,
    beside,
    close,
    limits,
    line,
    needed,
    panels,
    positions_of,
    ticks,
)
from qiskit_kd.report.strokes import Stroke, strokes
from qiskit_kd.report.summary import (
    Gain,
    Row,
    gains,
    is_teacher,
    points,
    rows_of,
    values,
)

__all__ = ["plot_accuracy_over", "plot_gains_over"]


def plot_accuracy_over(
    data: Sequence[Row], *, grid: Grid | None = None, looks: Strokes | None = None,
    metric: str = "accuracy", ax: AxesLike | None = None,
    figsize: tuple[float, float] | None = None, title: str | None = None,
    filename: str | Path | None = None,
) -> Figure:  # fmt: skip
    """A test metric against the axis of numbers, a line and 95 % band per student and variant.

    Rows without the metric are left out: not every network has a divergence from a teacher.

    Args:
        data: Rows with a `point`. Teachers are dashed, thin and without a band.
        grid: Panels and values; from the rows by default.
        looks: How every (student, variant) is drawn; from the rows by default.
        metric: A key of the rows' `test`.
        ax: One axes per panel.
        figsize: Inches.
        title: Title of the figure, or of the axes where one was given.
        filename: Where to save it.

    Raises:
        DataError: If no row has a point, or the number of axes is not that of the panels.
    """
    grid, looks = needed(data, grid), looks or strokes(data)
    figure, axes = panels([grid.say(panel) for panel in grid.panels], ax, figsize, title)
    for panel, one in zip(grid.panels, axes, strict=True):
        for (student, variant), style in looks.items():
            found = _numbers(data, grid, panel, student, variant, metric)
            places, numbers, shared = found
            line(one, places, numbers, style, metric=metric, band=not is_teacher(student),
                 shared=shared)  # fmt: skip
        ticks(one, grid)
    limits(axes, metric)
    return close(figure, axes, own=ax is None, filename=filename)


def plot_gains_over(
    data: Sequence[Row], comparisons: Sequence[Mapping[str, Any]], *, grid: Grid | None = None,
    looks: Strokes | None = None, baseline: str = BASELINE, metric: str = "accuracy",
    ax: AxesLike | None = None, figsize: tuple[float, float] | None = None,
    title: str | None = None, filename: str | Path | None = None,
) -> Figure:  # fmt: skip
    """Paired gain over the student alone against the axis of numbers, with intervals.

    A filled mark is a confirmed gain, a crossed one a confirmed harm, a hollow one neither. A
    placebo so far off that it would dwarf the rest is an arrow at the edge, with its gain.

    Args:
        data: Rows with a `point`.
        comparisons: The study's comparisons; those against the baseline variant are drawn.
        grid: Panels and values; from the rows by default.
        looks: How every (student, variant) is drawn; from the rows by default.
        baseline: The variant that is the student alone.
        metric: Which metric.
        ax: One axes per panel.
        figsize: Inches.
        title: Title of the figure, or of the axes where one was given.
        filename: Where to save it.

    Raises:
        DataError: If no row has a point, or the number of axes is not that of the panels.
    """
    grid, looks = needed(data, grid), looks or strokes(data, baseline=baseline)
    figure, axes = panels([grid.say(panel) for panel in grid.panels], ax, figsize, title)
    mine = [item for item in comparisons if item["baseline"] == baseline]
    drawn = [key for key in looks if any((c["student"], c["variant"]) == key for c in mine)]
    positions = positions_of(grid)
    marks: list[tuple[Axes, float, Gain, Stroke]] = []
    for panel, one in zip(grid.panels, axes, strict=True):
        one.axhline(0, color=INK, linewidth=1.0, zorder=1)
        for slot, key in enumerate(drawn):
            style = looks[key]
            xs, means = [], []
            places = _beside(grid, positions, slot, len(drawn))
            for value, place in zip(grid.values, places, strict=True):
                point = grid.point(panel, value)
                entries = [c for c in at(mine, point) if (c["student"], c["variant"]) == key]
                for gain in gains(at(data, point), entries, metric=metric, baseline=baseline):
                    _mark(one, place, gain, style)
                    marks.append((one, place, gain, style))
                    xs.append(place)
                    means.append(100 * gain.mean)
            one.plot(
                xs, means, color=style.color, linestyle=style.dash, linewidth=0.6 * style.width,
                alpha=0.7 * style.alpha, zorder=2,
            )  # fmt: skip
            one.plot(
                [], [], color=style.color, linestyle=style.dash, linewidth=style.width,
                alpha=style.alpha, marker=style.marker, markersize=5.5, label=style.label,
            )  # fmt: skip
        ticks(one, grid)
    _frame(axes[0], marks)
    beside(axes, f"points of test {METRICS.get(metric, metric)} gained")
    return close(figure, axes, own=ax is None, filename=filename)


def _beside(grid: Grid, positions: NDArray[np.float64], slot: int, count: int) -> Any:
    """Places of one of several lines, set side by side so that their intervals do not overlap."""
    step = 0.014 * (slot - (count - 1) / 2)
    if grid.logarithmic:
        return positions * (positions.max() / positions.min()) ** step
    return positions + step * max(float(np.ptp(positions)), 1.0)


def _numbers(
    data: Sequence[Row], grid: Grid, panel: Mapping[str, Any], student: str, variant: str,
    metric: str,
) -> tuple[list[float], list[list[float]], list[float]]:  # fmt: skip
    """Places where there are rows, the metric of every seed there, and what they share."""
    places, found, shared = [], [], []
    for value, place in zip(grid.values, positions_of(grid), strict=True):
        rows = at(data, grid.point(panel, value))
        numbers = values(rows, student, variant, metric)
        if numbers:
            places.append(float(place))
            found.append([*numbers.values()])
            shared.append(shared_variance(rows_of(rows, student, variant)))
    return places, found, shared


def _mark(ax: Axes, place: float, gain: Gain, style: Stroke) -> None:
    """Interval and mark of one gain: filled confirmed, crossed harmful, hollow neither."""
    if gain.low is not None and gain.high is not None:
        ax.plot(
            [place, place], [100 * gain.low, 100 * gain.high], color=style.color, linewidth=1.6,
            alpha=style.alpha, solid_capstyle="butt", zorder=3,
        )  # fmt: skip
    look: dict[str, Any] = {"linestyle": "none", "markeredgecolor": style.color}
    y = 100 * gain.mean
    filled = gain.verdict == "confirmed"
    size = 8.0 if style.marker == "P" else 6.6
    ax.plot(place, y, marker=style.marker, markersize=size, markerfacecolor=PAPER,
            markeredgewidth=0, linestyle="none", zorder=4)  # fmt: skip
    ax.plot(
        place, y, marker=style.marker, markersize=size, alpha=style.alpha, zorder=5,
        markerfacecolor=style.color if filled else "none", markeredgewidth=1.1, **look,
    )  # fmt: skip
    if gain.verdict == "harmful":
        ax.plot(place, y, marker="x", markersize=8.4, markeredgewidth=1.1, alpha=style.alpha,
                zorder=6, **look)  # fmt: skip


def _frame(ax: Axes, marks: Sequence[tuple[Axes, float, Gain, Stroke]]) -> None:
    """Limits made for the treatments; a placebo outside becomes an arrow with its gain."""
    ends = {
        placebo: [
            100 * end
            for _, _, gain, style in marks if (style.alpha < 1) is placebo
            for end in (gain.mean, gain.low, gain.high) if end is not None
        ]
        for placebo in (False, True)
    }  # fmt: skip
    low, high = focused([0.0, *ends[False]], ends[True], least=4.0)
    ax.set_ylim(low, high)
    stacked: dict[tuple[int, bool, int], int] = {}
    for one, place, gain, style in marks:
        y = 100 * gain.mean
        if low <= y <= high:
            continue
        below = y < low
        width = one.transData.transform((place, 0.0))[0] - one.bbox.x0
        near = (id(one), below, round(8 * float(width) / one.bbox.width))
        rank = stacked[near] = stacked.get(near, -1) + 1
        sign, edge = (1, low) if below else (-1, high)
        one.plot(place, edge + sign * 0.025 * (high - low), marker="v" if below else "^",
                 color=style.color, alpha=style.alpha, markersize=5, zorder=5)  # fmt: skip
        one.annotate(
            points(gain.mean), (place, edge), xytext=(4, sign * (5 + 10 * rank)),
            textcoords="offset points", ha="left", va="bottom" if below else "top",
            fontsize=SMALL - 1.5, color=style.color, zorder=6,
        )  # fmt: skip
