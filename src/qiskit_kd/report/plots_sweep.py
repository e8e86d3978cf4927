# SPDX-License-Identifier: Apache-2.0
"""Figures against something that was varied: an axis of the study, shots, disturbances.

Same conventions as `qiskit_kd.report.plots`; every combination of the other axes' values is a
panel, and `ax` may be one `Axes` per panel. Lines are means over seeds with 95 % bands, corrected
for samples that seeds share; gains are paired seed by seed. `grid` are panels and values, `looks`
how every (student, variant) is drawn; both come from the rows by default. Shots and disturbances
rows carry where the experiment asks for them (`evaluation.shots`, `.robustness`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.experiment.schema import is_teacher
from qiskit_kd.experiment.statistics import Gain, shared_variance
from qiskit_kd.report.drawing import (
    METRICS,
    SHARES,
    SMALL,
    Canvas,
    at_least,
    axis_label,
    beside,
    closed,
    finish,
    focused,
    line,
    mark,
    panels,
    several,
    stroke,
    ticks,
)
from qiskit_kd.report.frame import BASELINE, Row, gain_of, rows_of, values
from qiskit_kd.report.grid import Grid, Point, at, rows_grid, shown
from qiskit_kd.report.style import INK, MUTED, PAPER, Look, Looks, points, strokes

NOWHERE: tuple[tuple[Point, str], ...] = (({}, ""),)
"""The points of a study without axes."""
_MANY = 5  # labels on the axis of shots, beside which they would run into each other
_KINDS = {"noise": "standard deviation of Gaussian noise", "rotation": "rotation, degrees"}


def plot_accuracy_over(
    data: Sequence[Row],
    *,
    grid: Grid | None = None,
    looks: Looks | None = None,
    metric: str = "accuracy",
    **where: Unpack[Canvas],
) -> Figure:
    """A test metric against the axis of numbers, a line and 95 % band per student and variant.

    Rows without the metric are left out: not every network has a divergence from a teacher.
    Teachers are dashed, thin and without a band.

    Raises:
        DataError: If no row has a point, or the number of axes is not that of the panels.
    """
    grid, looks = _needed(data, grid), looks or strokes(data)
    figure, axes = panels([grid.say(panel) for panel in grid.panels], where)
    for panel, ax in zip(grid.panels, axes, strict=True):
        cells = [at(data, grid.point(panel, value)) for value in grid.values]
        for (student, variant), style in looks.items():
            found = [
                (place, [*numbers.values()], shared_variance(rows_of(rows, student, variant)))
                for place, rows in zip(_positions(grid), cells, strict=True)
                if (numbers := values(rows, student, variant, metric))
            ]
            _means(ax, found, style, metric, band=not is_teacher(student))
        _grid_ticks(ax, grid)
    _limits(axes, metric)
    return closed(figure, axes, where)


def plot_gains_over(
    data: Sequence[Row],
    comparisons: Sequence[Mapping[str, Any]],
    *,
    grid: Grid | None = None,
    looks: Looks | None = None,
    baseline: str = BASELINE,
    metric: str = "accuracy",
    **where: Unpack[Canvas],
) -> Figure:
    """Paired gain over the student alone against the axis of numbers, with intervals.

    Of the study's `comparisons` those against the `baseline` are drawn. A filled mark is a
    confirmed gain, a crossed one a confirmed harm, a hollow one neither. A placebo so far off that
    it would dwarf the rest is an arrow at the edge, with its gain.

    Raises:
        DataError: If no row has a point, or the number of axes is not that of the panels.
    """
    grid, looks = _needed(data, grid), looks or strokes(data, baseline=baseline)
    figure, axes = panels([grid.say(panel) for panel in grid.panels], where)
    mine = {(c["student"], c["variant"]) for c in comparisons if c["baseline"] == baseline}
    drawn = [key for key in looks if key in mine]
    marks: list[tuple[Axes, float, Gain, Look]] = []
    for panel, ax in zip(grid.panels, axes, strict=True):
        ax.axhline(0, color=INK, linewidth=1.0, zorder=1)
        cells = [at(data, grid.point(panel, value)) for value in grid.values]
        for slot, (student, variant) in enumerate(drawn):
            style = looks[student, variant]
            found = [
                (ax, float(place), gain, style)
                for rows, place in zip(cells, _apart(grid, slot, len(drawn)), strict=True)
                if (gain := gain_of(rows, student, variant, baseline, metric))
            ]
            for one in found:
                _mark(*one)
            marks += found
            places, means = [place for _, place, *_ in found], [100 * g.mean for *_, g, _ in found]
            pale: dict[str, Any] = {"linewidth": 0.6 * style.width, "alpha": 0.7 * style.alpha}
            stroke(ax, places, means, style, zorder=2, **pale)
            stroke(ax, [], [], style, marker=style.marker, markersize=5.5, label=style.label)
        _grid_ticks(ax, grid)
    _frame(axes[0], marks)
    beside(axes, f"points of test {METRICS.get(metric, metric)} gained")
    return closed(figure, axes, where)


def shots_of(rows: Sequence[Row]) -> list[int]:
    """Numbers of shots that rows were tested with, in ascending order."""
    return sorted({int(e["shots"]) for row in rows for e in row.get("shots") or ()})


def plot_shots(
    data: Sequence[Row],
    *,
    points: Sequence[tuple[Point, str]] = NOWHERE,
    looks: Looks | None = None,
    metric: str = "accuracy",
    limit: str = "∞",
    **where: Unpack[Canvas],
) -> Figure:
    """A test metric against the shots per circuit, logarithmic, a panel per point.

    Panels are `points` with their names. The detached mark at the right, called `limit`, is the
    row's own test metric: without shots, if the backend where it was judged has none.

    Raises:
        DataError: If no row carries shots, or the number of axes is not that of the points.
    """
    numbers = shots_of(data)
    if not numbers:
        raise DataError(
            "a figure of shots is drawn of rows that carry them",
            got=f"{len(data)} rows without",
            remedy="Set `evaluation: {shots: [64, 1024, 16384]}` and run the study again.",
        )
    # As far from the last number as numbers are from each other on average, in octaves.
    step = (numbers[-1] / numbers[0]) ** (1 / max(len(numbers) - 1, 1)) if numbers[1:] else 2.0
    end = numbers[-1] * max(step, 3.0)
    kept = numbers[::-1][:: -(-len(numbers) // _MANY)][::-1]
    figure, axes = panels([name for _, name in points], where)
    for (point, _), ax in zip(points, axes, strict=True):
        rows = at(data, point)
        for (student, variant), style in (looks or strokes(data)).items():
            mine = rows_of(rows, student, variant)
            shared = shared_variance(mine)
            by_count: dict[float, list[float]] = {float(count): [] for count in numbers}
            for entry in (e for row in mine for e in row.get("shots") or ()):
                if entry.get(metric) is not None:
                    by_count[entry["shots"]].append(entry[metric])
            found = [(count, seeds, shared) for count, seeds in by_count.items() if seeds]
            _means(ax, found, style, metric)
            whole = [*values(rows, student, variant, metric).values()] if found else []
            _means(ax, [(end, whole, shared)] if whole else [], style, metric)
        ax.axvline((numbers[-1] * end) ** 0.5, color=MUTED, linewidth=0.6, linestyle=(0, (1, 2)))
        names = [*(f"{n:,}" for n in kept), limit]
        ticks(ax, [*kept, end], names, "shots per circuit", base=2)
    _limits(axes, metric)
    return closed(figure, axes, where)


def kinds_of(rows: Sequence[Row]) -> list[str]:
    """Kinds of disturbance that rows were tested under, in order of appearance."""
    return list(dict.fromkeys(e["kind"] for row in rows for e in row.get("robustness") or ()))


def plot_robustness(
    data: Sequence[Row],
    *,
    looks: Looks | None = None,
    baseline: str = BASELINE,
    metric: str = "accuracy",
    **where: Unpack[Canvas],
) -> Figure:
    """Two panels per kind of disturbance: the metric against its level, and the gain over alone.

    Rows are those of one point.

    Raises:
        DataError: If no row carries robustness, or the number of axes is not two per kind.
    """
    kinds = kinds_of(data)
    if not kinds:
        raise DataError(
            "robustness is drawn of rows that carry it",
            got=f"{len(data)} rows without",
            remedy="Set `evaluation: {robustness: {noise: [...], rotation: [...]}}` and run the "
            "study again.",
        )
    width = len(kinds)
    figure, axes = several(
        where,
        2 * width,
        width,
        (0.8 + 4.9 * width, 6.0),
        rule="robustness is drawn into two axes per kind of disturbance",
        expected=f" for {', '.join(kinds)}",
        sharex="col",
    )
    for ax in axes:
        finish(ax, grid="both")
        ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    main, others = [0.0], list[float]()
    for kind, above, below in zip(kinds, axes, axes[width:], strict=False):
        below.axhline(0, color=INK, linewidth=1.0, zorder=1)
        found = {0.0}
        for (student, variant), style in (looks or strokes(data, baseline=baseline)).items():
            mine, alone = (rows_of(data, student, name) for name in (variant, baseline))
            levels, runs = _levels(mine, kind, metric)
            if not runs:
                continue
            found |= {*levels}
            numbers, shared = np.stack([*runs.values()]), shared_variance(mine)
            band = not is_teacher(student)
            line(above, levels, numbers.T, style, band=band, shared=shared, cut=(0.0, 100.0))
            plain = _levels(alone, kind, metric)[1]
            if variant != baseline and (seeds := [seed for seed in runs if seed in plain]):
                gain = np.stack([runs[seed] - plain[seed] for seed in seeds])
                ends = line(below, levels, gain.T, style, shared=shared_variance(mine, alone))
                main += ends if style.alpha == 1 else ()
                others += gain.mean(axis=0).tolist() if style.alpha < 1 else []
        above.set_xticks(sorted(found))
        below.set_xlabel(_KINDS.get(kind, kind))
    axes[width].set_ylim(*focused(main, others, least=4.0))
    name = METRICS.get(metric, metric)
    axes[0].set_ylabel(f"{name}, %")
    axes[width].set_ylabel(f"points of {name} gained")
    return closed(figure, axes, where)


def _needed(data: Sequence[Row], grid: Grid | None) -> Grid:
    """The grid, or that of the rows."""
    if (found := grid or rows_grid(data)) is None:
        raise DataError(
            "this figure is about a study with axes",
            got="rows without a point",
            remedy="Use `plot_accuracy` and `plot_gains` for a study without axes.",
        )
    return found


def _positions(grid: Grid) -> NDArray[np.float64]:
    """Where the values stand: at themselves if they are numbers, else one beside the other."""
    return np.asarray(grid.values if grid.numeric else range(len(grid.values)), dtype=float)


def _apart(grid: Grid, slot: int, count: int) -> NDArray[np.float64]:
    """Places of one of several lines, set side by side so that their intervals do not overlap."""
    step, places = 0.014 * (slot - (count - 1) / 2), _positions(grid)
    if grid.logarithmic:
        return np.asarray(places * (places.max() / places.min()) ** step)
    return np.asarray(places + step * max(float(np.ptp(places)), 1.0))


def _grid_ticks(ax: Axes, grid: Grid) -> None:
    base = {"base": 10} if grid.logarithmic else {}
    ticks(ax, [*_positions(grid)], [*map(shown, grid.values)], grid.titles[grid.x], **base)


def _means(
    ax: Axes,
    found: Sequence[tuple[float, Sequence[float], float]],
    style: Look,
    metric: str,
    *,
    band: bool = True,
) -> None:
    """A line through places with the metric of every seed and what seeds share."""
    factor, most = (100.0, 100.0) if metric in SHARES else (1.0, np.inf)
    numbers = [[factor * number for number in seeds] for _, seeds, _ in found]
    places, shared = [place for place, *_ in found], [more for *_, more in found]
    line(ax, places, numbers, style, shared=shared, cut=(0.0, most), band=band)


def _limits(axes: Sequence[Axes], metric: str) -> None:
    """A common vertical axis that holds every line, named after the metric."""
    ends = np.asarray([ax.get_ylim() for ax in axes])
    share = metric in SHARES
    bottom, top = at_least(ends.min(), ends.max(), 10.0 if share else 0.1)
    axes[0].set_ylim(max(bottom, 0.0), min(top, 100.0) if share else top)
    beside(axes, axis_label(metric))


def _levels(
    rows: Sequence[Row], kind: str, metric: str
) -> tuple[list[float], dict[int, NDArray[np.float64]]]:
    """Levels of a disturbance, zero first, and the metric at each in per cent, per seed."""
    runs, levels = {}, list[float]()
    for row in rows:
        found = {float(e["level"]): e for e in row.get("robustness") or () if e["kind"] == kind}
        if found:
            found = {0.0: row["test"], **found}
            levels = sorted(found)
            runs[int(row["seed"])] = np.asarray([100 * found[x][metric] for x in levels])
    return levels, runs


def _mark(ax: Axes, place: float, gain: Gain, style: Look) -> None:
    """Interval and mark of one gain: filled confirmed, crossed harmful, hollow neither."""
    y, size = 100 * gain.mean, 8.0 if style.marker == "P" else 6.6
    confirmed = gain.verdict == "confirmed"
    edge: dict[str, Any] = {"markeredgewidth": 1.1}
    if gain.ends:
        bar = {"linewidth": 1.6, "solid_capstyle": "butt", "zorder": 3, "linestyle": "-"}
        stroke(ax, [place, place], 100 * np.asarray(gain.ends), style, **bar)
    mark(ax, place, y, style, size, markerfacecolor=PAPER, markeredgewidth=0, alpha=1, zorder=4)
    mark(ax, place, y, style, size, filled=confirmed, zorder=5, **edge)
    if gain.verdict == "harmful":
        mark(ax, place, y, style, 8.4, marker="x", zorder=6, **edge)


def _frame(ax: Axes, marks: Sequence[tuple[Axes, float, Gain, Look]]) -> None:
    """Limits made for the treatments; a placebo outside becomes an arrow with its gain."""
    main, others = (
        [
            100 * end
            for *_, gain, style in marks
            if (style.alpha < 1) is placebo
            for end in (gain.mean, *(gain.ends or ()))
        ]
        for placebo in (False, True)
    )
    low, high = focused([0.0, *main], others, least=4.0)
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
        arrow = edge + sign * 0.025 * (high - low)
        mark(one, place, arrow, style, 5, marker="v" if below else "^", zorder=5)
        one.annotate(
            points(gain.mean),
            (place, edge),
            xytext=(4, sign * (5 + 10 * rank)),
            textcoords="offset points",
            ha="left",
            va="bottom" if below else "top",
            fontsize=SMALL - 1.5,
            color=style.color,
            zorder=6,
        )
