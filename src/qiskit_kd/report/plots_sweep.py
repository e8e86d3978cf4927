# SPDX-License-Identifier: Apache-2.0
"""Figures against something that was varied: an axis of the study, shots, disturbances.

Same conventions as `qiskit_kd.report.plots`; every combination of the other axes' values is a
panel, and `ax` may be one `Axes` per panel. Lines are means over seeds with 95 % bands, corrected
for samples that seeds share; gains are paired seed by seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.experiment.schema import is_teacher
from qiskit_kd.experiment.statistics import Gain, contrast, shared_variance
from qiskit_kd.report.frame import BASELINE, Row, interval, rows_of, values
from qiskit_kd.report.grid import Grid, at, rows_grid, shown
from qiskit_kd.report.style import (
    INK,
    LEGEND,
    METRICS,
    PAPER,
    SHARES,
    SIZE,
    SMALL,
    Canvas,
    Stroke,
    at_least,
    axis_label,
    finish,
    focused,
    points,
    saved,
    strokes,
)

Strokes = Mapping[tuple[str, str], Stroke]
_WIDE = 34  # characters above one of three panels, beyond which names run into each other
AxesLike = Axes | Sequence[Axes]


def panels(names: Sequence[str], where: Canvas) -> tuple[Figure, list[Axes]]:
    """One axes per name, with a common vertical axis and the names on top.

    Raises:
        DataError: If axes are given, but not one per name.
    """
    count, ax, title = len(names), where.get("ax"), where.get("title")
    columns = 3 if count % 3 == 0 else min(count, 2)
    if ax is None:
        rows = -(-count // columns)
        height = 3.6 if columns < 3 else 2.9
        figure = Figure(
            figsize=where.get("figsize") or (10.6 if columns > 1 else 6.4, 0.6 + height * rows),
            layout="constrained",
        )
        flat = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
        for spare in flat[count:]:
            spare.remove()
        axes = flat[:count]
        if title is not None:
            figure.suptitle(
                title, x=0.01, ha="left", color=INK, fontsize=SIZE + 1, fontweight="bold"
            )
    else:
        figure, axes = given(
            ax,
            count,
            rule="a figure with panels is drawn into one axes per panel",
            expected=f"{count}: {'; '.join(name or 'a single one' for name in names)}",
        )
    narrow = columns == 3
    broken = narrow and max(map(len, names)) > _WIDE
    for name, one in zip(names, axes, strict=True):
        own = (name.replace(", ", "\n") if broken else name) or (title if ax is not None else None)
        finish(figure, one, title=own, grid="both")
        if narrow:
            one.title.set_fontsize(SMALL)
    return figure, axes


def given(ax: AxesLike, count: int, *, rule: str, expected: str) -> tuple[Figure, list[Axes]]:
    """The caller's own axes and their figure.

    Raises:
        DataError: With `rule` and `expected`, if they are not `count`.
    """
    axes = [ax] if isinstance(ax, Axes) else list(ax)
    if len(axes) != count:
        raise DataError(
            rule,
            got=f"{len(axes)} axes",
            expected=expected,
            remedy="Pass that many, or leave `ax` out.",
        )
    figure = axes[0].get_figure(root=True)
    assert figure is not None
    return figure, axes


def shared_legend(figure: Figure, axes: Sequence[Axes], *, columns: int = 5) -> None:
    """One legend above all panels, every label once."""
    unique: dict[str, Any] = {}
    for one in axes:
        handles, labels = one.get_legend_handles_labels()
        unique |= dict(zip(labels, handles, strict=True))
    if unique:
        options = {**LEGEND, "handlelength": 2.6}
        figure.legend(unique.values(), unique, loc="outside upper left", ncols=columns, **options)


def needed(data: Sequence[Row], grid: Grid | None) -> Grid:
    """The grid, or that of the rows.

    Raises:
        DataError: If no row has a point.
    """
    found = grid or rows_grid(data)
    if found is None:
        raise DataError(
            "this figure is about a study with axes",
            got="rows without a point",
            remedy="Use `plot_accuracy` and `plot_gains` for a study without axes.",
        )
    return found


def positions_of(grid: Grid) -> NDArray[np.float64]:
    """Where the values stand: at themselves if they are numbers, else one beside the other."""
    return np.asarray(grid.values if grid.numeric else range(len(grid.values)), dtype=float)


def ticks(ax: Axes, grid: Grid) -> None:
    """The grid's values on the horizontal axis, and its scale and title."""
    if grid.logarithmic:
        ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(positions_of(grid), [shown(value) for value in grid.values])
    ax.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    ax.set_xlabel(grid.titles[grid.x] + (" (logarithmic)" if grid.logarithmic else ""))
    ax.tick_params(labelsize=SMALL)


def line(
    ax: Axes,
    places: Sequence[float],
    numbers: Sequence[Sequence[float]],
    style: Stroke,
    *,
    metric: str,
    band: bool,
    shared: Sequence[float] = (),
) -> None:
    """Means over seeds, joined, with a band of their 95 % intervals.

    Args:
        ax: Where.
        places: Where each mean stands.
        numbers: The metric of every seed at each place; shares are drawn in per cent.
        style: How.
        metric: Which; it decides where bands are cut.
        band: Whether there is a band, and a mark at each mean.
        shared: See `statistics.shared_variance`, at each place; all 0 by default.
    """
    if not len(numbers):
        return
    factor, most = (100.0, 1.0) if metric in SHARES else (1.0, np.inf)
    found = [
        interval(seeds, shared=more)
        for seeds, more in zip(numbers, shared or [0.0] * len(numbers), strict=True)
    ]
    mean = np.asarray([middle for middle, _ in found])
    half = np.asarray([end or 0.0 for _, end in found])
    ax.plot(
        places,
        factor * mean,
        color=style.color,
        linestyle=style.dash,
        linewidth=style.width,
        alpha=style.alpha,
        marker=style.marker,
        markersize=4.2 if band else 0,
        markeredgewidth=0,
        label=style.label,
        zorder=3 if band else 2,
    )
    low, high = factor * np.maximum(mean - half, 0), factor * np.minimum(mean + half, most)
    if band and len(numbers) > 1:
        ax.fill_between(places, low, high, color=style.color, alpha=0.13 * style.alpha, linewidth=0)
    elif band:
        ax.vlines(places, low, high, color=style.color, alpha=0.5 * style.alpha, linewidth=1.0)


def limits(axes: Sequence[Axes], metric: str) -> None:
    """A common vertical axis that holds every line, named after the metric."""
    bottom, top = at_least(*reach(axes), 10.0 if metric in SHARES else 0.1)
    axes[0].set_ylim(max(bottom, 0.0), min(top, 100.0) if metric in SHARES else top)
    beside(axes, axis_label(metric))


def beside(axes: Sequence[Axes], text: str) -> None:
    """What the vertical axis shows, once per row of panels."""
    for one in axes:
        spec = one.get_subplotspec()
        if one is axes[0] or (spec is not None and spec.is_first_col()):
            one.set_ylabel(text)


def reach(axes: Sequence[Axes]) -> tuple[float, float]:
    """The lowest and the highest of what the axes show."""
    ends = [one.get_ylim() for one in axes]
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def close(figure: Figure, axes: Sequence[Axes], where: Canvas) -> Figure:
    """The finished figure: a legend where it is all ours, saved where `where` says."""
    if where.get("ax") is None:
        shared_legend(figure, axes)
    return saved(figure, where.get("filename"))


def plot_accuracy_over(
    data: Sequence[Row],
    *,
    grid: Grid | None = None,
    looks: Strokes | None = None,
    metric: str = "accuracy",
    **where: Unpack[Canvas],
) -> Figure:
    """A test metric against the axis of numbers, a line and 95 % band per student and variant.

    Rows without the metric are left out: not every network has a divergence from a teacher.

    Args:
        data: Rows with a `point`. Teachers are dashed, thin and without a band.
        grid: Panels and values; from the rows by default.
        looks: How every (student, variant) is drawn; from the rows by default.
        metric: A key of the rows' `test`.

    Raises:
        DataError: If no row has a point, or the number of axes is not that of the panels.
    """
    grid, looks = needed(data, grid), looks or strokes(data)
    figure, axes = panels([grid.say(panel) for panel in grid.panels], where)
    for panel, one in zip(grid.panels, axes, strict=True):
        for (student, variant), style in looks.items():
            found = _numbers(data, grid, panel, student, variant, metric)
            places, numbers, shared = found
            line(
                one,
                places,
                numbers,
                style,
                metric=metric,
                band=not is_teacher(student),
                shared=shared,
            )
        ticks(one, grid)
    limits(axes, metric)
    return close(figure, axes, where)


def plot_gains_over(
    data: Sequence[Row],
    comparisons: Sequence[Mapping[str, Any]],
    *,
    grid: Grid | None = None,
    looks: Strokes | None = None,
    baseline: str = BASELINE,
    metric: str = "accuracy",
    **where: Unpack[Canvas],
) -> Figure:
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

    Raises:
        DataError: If no row has a point, or the number of axes is not that of the panels.
    """
    grid, looks = needed(data, grid), looks or strokes(data, baseline=baseline)
    figure, axes = panels([grid.say(panel) for panel in grid.panels], where)
    mine = {
        (str(c["student"]), str(c["variant"])) for c in comparisons if c["baseline"] == baseline
    }
    drawn = [key for key in looks if key in mine]
    positions = positions_of(grid)
    marks: list[tuple[Axes, float, Gain, Stroke]] = []
    for panel, one in zip(grid.panels, axes, strict=True):
        one.axhline(0, color=INK, linewidth=1.0, zorder=1)
        for slot, key in enumerate(drawn):
            style = looks[key]
            xs, means = [], []
            places = _apart(grid, positions, slot, len(drawn))
            for value, place in zip(grid.values, places, strict=True):
                point = grid.point(panel, value)
                rows = at(data, point)
                gain = contrast(rows_of(rows, *key), rows_of(rows, key[0], baseline), metric)
                if gain is not None:
                    _mark(one, place, gain, style)
                    marks.append((one, place, gain, style))
                    xs.append(place)
                    means.append(100 * gain.mean)
            one.plot(
                xs,
                means,
                color=style.color,
                linestyle=style.dash,
                linewidth=0.6 * style.width,
                alpha=0.7 * style.alpha,
                zorder=2,
            )
            one.plot(
                [],
                [],
                color=style.color,
                linestyle=style.dash,
                linewidth=style.width,
                alpha=style.alpha,
                marker=style.marker,
                markersize=5.5,
                label=style.label,
            )
        ticks(one, grid)
    _frame(axes[0], marks)
    beside(axes, f"points of test {METRICS.get(metric, metric)} gained")
    return close(figure, axes, where)


def _apart(grid: Grid, positions: NDArray[np.float64], slot: int, count: int) -> Any:
    """Places of one of several lines, set side by side so that their intervals do not overlap."""
    step = 0.014 * (slot - (count - 1) / 2)
    if grid.logarithmic:
        return positions * (positions.max() / positions.min()) ** step
    return positions + step * max(float(np.ptp(positions)), 1.0)


def _numbers(
    data: Sequence[Row],
    grid: Grid,
    panel: Mapping[str, Any],
    student: str,
    variant: str,
    metric: str,
) -> tuple[list[float], list[list[float]], list[float]]:
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
    if gain.ends:
        ax.plot(
            [place, place],
            100 * np.asarray(gain.ends),
            color=style.color,
            linewidth=1.6,
            alpha=style.alpha,
            solid_capstyle="butt",
            zorder=3,
        )
    look: dict[str, Any] = {"linestyle": "none", "markeredgecolor": style.color}
    y = 100 * gain.mean
    filled = gain.verdict == "confirmed"
    size = 8.0 if style.marker == "P" else 6.6
    ax.plot(
        place,
        y,
        marker=style.marker,
        markersize=size,
        markerfacecolor=PAPER,
        markeredgewidth=0,
        linestyle="none",
        zorder=4,
    )
    ax.plot(
        place,
        y,
        marker=style.marker,
        markersize=size,
        alpha=style.alpha,
        zorder=5,
        markerfacecolor=style.color if filled else "none",
        markeredgewidth=1.1,
        **look,
    )
    if gain.verdict == "harmful":
        ax.plot(
            place,
            y,
            marker="x",
            markersize=8.4,
            markeredgewidth=1.1,
            alpha=style.alpha,
            zorder=6,
            **look,
        )


def _frame(ax: Axes, marks: Sequence[tuple[Axes, float, Gain, Stroke]]) -> None:
    """Limits made for the treatments; a placebo outside becomes an arrow with its gain."""
    ends = {
        placebo: [
            100 * end
            for _, _, gain, style in marks
            if (style.alpha < 1) is placebo
            for end in (gain.mean, *(gain.ends or ()))
        ]
        for placebo in (False, True)
    }
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
        one.plot(
            place,
            edge + sign * 0.025 * (high - low),
            marker="v" if below else "^",
            color=style.color,
            alpha=style.alpha,
            markersize=5,
            zorder=5,
        )
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
