# SPDX-License-Identifier: Apache-2.0
"""Figures of what trained networks were asked: shots, disturbed samples, feature maps.

Same conventions as `qiskit_kd.report.plots`. Rows carry these where the experiment asks for them
(`evaluation.shots`, `.robustness`, `.feature_maps`); nothing was trained or chosen on them.
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
from qiskit_kd.experiment.statistics import half_width, shared_variance
from qiskit_kd.report.frame import BASELINE, Row, rows_of, values
from qiskit_kd.report.grid import Point, at
from qiskit_kd.report.plots_sweep import (
    Strokes,
    close,
    given,
    limits,
    line,
    panels,
    shared_legend,
)
from qiskit_kd.report.style import (
    INK,
    METRICS,
    MUTED,
    PAPER,
    SIZE,
    SMALL,
    Canvas,
    Stroke,
    canvas,
    finish,
    focused,
    saved,
    strokes,
)

NOWHERE: tuple[tuple[Point, str], ...] = (({}, ""),)
"""The points of a study without axes."""
_MANY = 5  # labels on the axis, beside which they would run into each other


def shots_of(rows: Sequence[Row]) -> list[int]:
    """Numbers of shots that rows were tested with, in ascending order."""
    return sorted({int(e["shots"]) for row in rows for e in row.get("shots") or ()})


def plot_shots(
    data: Sequence[Row],
    *,
    points: Sequence[tuple[Point, str]] = NOWHERE,
    looks: Strokes | None = None,
    metric: str = "accuracy",
    limit: str = "∞",
    **where: Unpack[Canvas],
) -> Figure:
    """A test metric against the shots per circuit, logarithmic, a panel per point.

    Lines are means over seeds with 95 % bands. The detached mark at the right is the row's own test
    metric: without shots, if the backend where it was judged has none.

    Args:
        data: Rows with `shots`; those without are left out.
        points: Points, and what the panels are called.
        looks: How every (student, variant) is drawn; from the rows by default.
        metric: A key of the entries.
        limit: What the right end is called.

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
    looks = looks or strokes(data)
    # As far from the last number as numbers are from each other on average, in octaves.
    step = (numbers[-1] / numbers[0]) ** (1 / max(len(numbers) - 1, 1)) if numbers[1:] else 2.0
    end = numbers[-1] * max(step, 3.0)
    figure, axes = panels([name for _, name in points], where)
    for (point, _), one in zip(points, axes, strict=True):
        rows = at(data, point)
        for (student, variant), style in looks.items():
            mine = [r for r in rows if (r["student"], r["variant"]) == (student, variant)]
            places, found = [], []
            for count in numbers:
                seeds = [
                    e[metric]
                    for r in mine
                    for e in r.get("shots") or ()
                    if e["shots"] == count and e.get(metric) is not None
                ]
                if seeds:
                    places.append(float(count))
                    found.append(seeds)
            if not places:
                continue
            shared = shared_variance(mine)
            line(one, places, found, style, metric=metric, band=True, shared=[shared] * len(found))
            whole = [*values(rows, student, variant, metric).values()]
            line(
                one,
                [end],
                [whole] if whole else [],
                style,
                metric=metric,
                band=True,
                shared=[shared] if whole else [],
            )
        _shot_ticks(one, numbers, end, limit)
    limits(axes, metric)
    return close(figure, axes, where)


def _shot_ticks(ax: Axes, numbers: Sequence[int], end: float, limit: str) -> None:
    ax.set_xscale("log", base=2)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    every = -(-len(numbers) // _MANY)
    kept = list(numbers)[::-1][::every][::-1]
    ax.set_xticks([*kept, end], [*(f"{n:,}" for n in kept), limit])
    ax.axvline((numbers[-1] * end) ** 0.5, color=MUTED, linewidth=0.6, linestyle=(0, (1, 2)))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    ax.set_xlabel("shots per circuit (logarithmic)")
    ax.tick_params(labelsize=SMALL)


KINDS = {"noise": "standard deviation of Gaussian noise", "rotation": "rotation, degrees"}


def kinds_of(rows: Sequence[Row]) -> list[str]:
    """Kinds of disturbance that rows were tested under, in order of appearance."""
    return list(dict.fromkeys(e["kind"] for row in rows for e in row.get("robustness") or ()))


def plot_robustness(
    data: Sequence[Row],
    *,
    looks: Strokes | None = None,
    baseline: str = BASELINE,
    metric: str = "accuracy",
    **where: Unpack[Canvas],
) -> Figure:
    """Two panels per kind of disturbance: the metric against its level, and the gain over alone.

    Lines are means over seeds with 95 % bands; gains are paired seed by seed.

    Args:
        data: Rows of one point, with `robustness`.
        looks: How every (student, variant) is drawn; from the rows by default.
        baseline: The variant that is the student alone.
        metric: A key of the entries.

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
    looks = looks or strokes(data, baseline=baseline)
    figure, axes = _pairs(kinds, where)
    reached: dict[bool, list[float]] = {False: [0.0], True: []}
    for column, kind in enumerate(kinds):
        above, below = axes[column], axes[len(kinds) + column]
        below.axhline(0, color=INK, linewidth=1.0, zorder=1)
        for (student, variant), style in looks.items():
            level, runs = _curves(data, student, variant, kind, metric)
            if not runs:
                continue
            numbers = np.stack([*runs.values()])
            mine = rows_of(data, student, variant)
            _steps(
                above,
                level,
                numbers,
                style,
                band=not is_teacher(student),
                cut=(0.0, 100.0),
                shared=shared_variance(mine),
            )
            _, alone = _curves(data, student, baseline, kind, metric)
            seeds = [seed for seed in runs if seed in alone]
            if seeds and variant != baseline:
                gain = np.stack([runs[seed] - alone[seed] for seed in seeds])
                shared = shared_variance(mine, rows_of(data, student, baseline))
                _steps(below, level, gain, style, band=True, shared=shared)
                reached[style.alpha < 1] += gain.mean(axis=0).tolist()
                reached[style.alpha < 1] += [*_reached(gain, shared)] if style.alpha == 1 else []
        for one in (above, below):
            one.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
            one.set_xticks(sorted({0.0} | _levels(data, kind)))
        below.set_xlabel(KINDS.get(kind, kind))
    axes[len(kinds)].set_ylim(*focused(reached[False], reached[True], least=4.0))
    name = METRICS.get(metric, metric)
    axes[0].set_ylabel(f"{name}, %")
    axes[len(kinds)].set_ylabel(f"points of {name} gained")
    if where.get("ax") is None:
        shared_legend(figure, axes[: len(kinds)])
    return saved(figure, where.get("filename"))


def _pairs(kinds: Sequence[str], where: Canvas) -> tuple[Figure, list[Axes]]:
    ax, title = where.get("ax"), where.get("title")
    count = 2 * len(kinds)
    if ax is None:
        size = where.get("figsize") or (0.8 + 4.9 * len(kinds), 6.0)
        figure = Figure(figsize=size, layout="constrained")
        axes = list(figure.subplots(2, len(kinds), sharey="row", sharex="col", squeeze=False).flat)
        if title is not None:
            figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=SIZE, fontweight="bold")
    else:
        figure, axes = given(
            ax,
            count,
            rule="robustness is drawn into two axes per kind of disturbance",
            expected=f"{count} for {', '.join(kinds)}",
        )
    for one in axes:
        finish(figure, one, grid="both")
    return figure, axes


def _levels(data: Sequence[Row], kind: str) -> set[float]:
    entries = (e for row in data for e in row.get("robustness") or ())
    return {float(e["level"]) for e in entries if e["kind"] == kind}


def _curves(
    data: Sequence[Row], student: str, variant: str, kind: str, metric: str
) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]]]:
    """Levels, zero first, and the metric at each in per cent, per seed."""
    runs: dict[int, NDArray[np.float64]] = {}
    levels: list[float] = []
    for row in data:
        if (row["student"], row["variant"]) != (student, variant):
            continue
        found: dict[float, Mapping[str, Any]] = {
            float(entry["level"]): entry
            for entry in row.get("robustness") or ()
            if entry["kind"] == kind
        }
        if found:
            found = {0.0: row["test"], **found}
            levels = sorted(found)
            runs[int(row["seed"])] = np.asarray([100 * found[x][metric] for x in levels])
    return np.asarray(levels), runs


def _steps(
    ax: Axes,
    level: NDArray[np.float64],
    stack: NDArray[np.float64],
    style: Stroke,
    *,
    band: bool,
    cut: tuple[float, float] = (-np.inf, np.inf),
    shared: float = 0.0,
) -> None:
    mean = stack.mean(axis=0)
    ax.plot(
        level,
        mean,
        color=style.color,
        linestyle=style.dash,
        linewidth=style.width,
        alpha=style.alpha,
        marker=style.marker,
        markersize=4.2 if style.marker else 0,
        markeredgewidth=0,
        label=style.label,
    )
    if band and len(stack) > 1:
        half = half_width(stack, shared=shared)
        ax.fill_between(
            level,
            np.clip(mean - half, *cut),
            np.clip(mean + half, *cut),
            color=style.color,
            alpha=0.13 * style.alpha,
            linewidth=0,
        )


def _reached(stack: NDArray[np.float64], shared: float) -> tuple[float, ...]:
    """The lowest and the highest end of the intervals of the mean, where there are intervals."""
    if len(stack) < 2:
        return ()
    mean, half = stack.mean(axis=0), half_width(stack, shared=shared)
    return float((mean - half).min()), float((mean + half).max())


GAP = 0.55
"""Between the maps of two networks, in widths of a map."""


def plot_feature_maps(
    data: Sequence[Row],
    *,
    labels: Sequence[str] | None = None,
    scales: Sequence[int] | None = None,
    images: int = 4,
    **where: Unpack[Canvas],
) -> Figure:
    """A few test images, a line each, and beside them the maps of every network.

    Maps are drawn dark (low) to bright (high). Networks with the same number in `scales` share one
    range of colours, which stands below their maps.

    Args:
        data: One row per network, each with `feature_maps` of the same images.
        labels: A heading per network; by default student and variant.
        scales: A number per network; by default the first two share a range (teacher and the
            student it taught), and every other has its own.
        images: How many images at most.

    Raises:
        DataError: If there is no row, a row has no feature maps, or they are not of one set of
            images.
    """
    stacks, samples = _stacks(data)
    pictures = _pictures(data[0]["feature_maps"]["images"])[:images]
    names = labels or [f"{row['student']} {row['variant']}" for row in data]
    shared = list(scales) if scales is not None else [max(k - 1, 0) for k in range(len(data))]
    ranges = {
        s: map_range([m for m, own in zip(stacks, shared, strict=True) if own == s]) for s in shared
    }
    width = 1 + sum(GAP + stack.shape[1] for stack in stacks)
    figure, ax = _bare(where, (0.78 * width + 0.1, 0.78 * len(pictures) + 0.75))
    for place, picture in enumerate(pictures):
        _image(ax, picture, 0.0, place, (0.0, 1.0))
    _heading(ax, 0.0, 1.0, "image")
    left = 1.0
    for stack, name, scale in zip(stacks, names, shared, strict=True):
        left += GAP
        low, high = ranges[scale]
        for place in range(len(pictures)):
            for channel, plane in enumerate(stack[place]):
                _image(ax, plane, left + channel, place, (low, high))
        _heading(ax, left, stack.shape[1], name)
        ax.text(
            left + 0.04,
            len(pictures) + 0.08,
            f"{low:.2f} to {high:.2f}",
            ha="left",
            va="top",
            fontsize=SMALL,
            color=MUTED,
        )
        left += stack.shape[1]
    for place, sample in enumerate(samples[: len(pictures)]):
        ax.text(
            -0.08,
            place + 0.5,
            f"{sample:,}",
            ha="right",
            va="center",
            fontsize=SMALL - 1,
            color=MUTED,
            rotation=90,
        )
    ax.set_xlim(-0.3, left + 0.02)
    ax.set_ylim(len(pictures) + 0.4, -0.42)
    ax.set_aspect("equal")
    if (title := where.get("title")) is not None:
        ax.set_title(title, loc="left", color=INK, fontsize=SIZE, fontweight="bold")
    return saved(figure, where.get("filename"))


def map_range(stacks: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Lowest and highest value of several networks' maps; never an empty range."""
    low = min(float(stack.min()) for stack in stacks)
    high = max(float(stack.max()) for stack in stacks)
    return low, high if high > low else low + 1.0


def _stacks(data: Sequence[Row]) -> tuple[list[NDArray[np.float64]], list[int]]:
    """`(images, channels, height, width)` per network, and the test rows they are maps of."""
    found: list[Mapping[str, Any]] = [row.get("feature_maps") or {} for row in data]
    if not found or not all(found):
        raise DataError(
            "feature maps are drawn of rows that carry them",
            got=f"{sum(map(bool, found))} of {len(found)} rows with feature maps",
            expected="one row per network, of the first seed",
            remedy="Set `evaluation: {feature_maps: {layer: PATH}}` and run the study again.",
        )
    samples = [int(k) for k in found[0]["rows"]]
    if any([int(k) for k in item["rows"]] != samples for item in found):
        raise DataError(
            "feature maps side by side are those of the same images",
            got=f"test rows {' and '.join(str(list(item['rows'])) for item in found)}",
            remedy="Take rows of one study and one point.",
        )
    return [np.asarray(item["maps"], dtype=float) for item in found], samples


def _pictures(images: Any) -> NDArray[np.float64]:
    """`(n, height, width)` or, of three channels, `(n, height, width, 3)`."""
    stack = np.asarray(images, dtype=float)
    return np.moveaxis(stack, 1, -1) if stack.shape[1] == 3 else stack.mean(axis=1)


def _image(
    ax: Axes, plane: NDArray[np.float64], left: float, top: float, limits: tuple[float, float]
) -> None:
    gap = 0.04
    ax.imshow(
        np.clip(plane, 0, 1) if plane.ndim == 3 else plane,
        cmap="gray",
        vmin=limits[0],
        vmax=limits[1],
        interpolation="none",
        aspect="auto",
        extent=(left + gap, left + 1 - gap, top + 1 - gap, top + gap),
    )


def _heading(ax: Axes, left: float, width: float, text: str) -> None:
    ax.text(
        left + width / 2,
        -0.1,
        text,
        ha="center",
        va="bottom",
        fontsize=SMALL,
        color=INK,
        fontweight="bold",
    )


def _bare(where: Canvas, default: tuple[float, float]) -> tuple[Figure, Axes]:
    figure, ax = canvas(where, default)
    figure.patch.set_facecolor(PAPER)
    ax.set_axis_off()
    return figure, ax
