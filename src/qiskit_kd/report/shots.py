# SPDX-License-Identifier: Apache-2.0
"""Figure of the price of shots: a test metric against the number of shots at evaluation.

Rows carry it where the experiment asks for it (`evaluation.shots`): one entry per number of shots,
of the network that was trained once. What it reaches where it was judged stands at the right end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from qiskit_kd.errors import DataError
from qiskit_kd.experiment.statistics import shared_variance
from qiskit_kd.report.canvas import SMALL
from qiskit_kd.report.grid import Point, at
from qiskit_kd.report.palette import MUTED
from qiskit_kd.report.panels import AxesLike, Strokes, close, limits, line, panels
from qiskit_kd.report.strokes import strokes
from qiskit_kd.report.summary import Row, values

__all__ = ["NOWHERE", "plot_shots", "shots_of"]

NOWHERE: tuple[tuple[Point, str], ...] = (({}, ""),)
"""The points of a study without axes."""
_MANY = 5  # labels on the axis, beside which they would run into each other


def shots_of(rows: Sequence[Row]) -> list[int]:
    """Numbers of shots that rows were tested with, in ascending order."""
    return sorted({int(e["shots"]) for row in rows for e in row.get("shots") or ()})


def plot_shots(
    data: Sequence[Row], *, points: Sequence[tuple[Point, str]] = NOWHERE,
    looks: Strokes | None = None, metric: str = "accuracy", limit: str = "∞",
    ax: AxesLike | None = None, figsize: tuple[float, float] | None = None,
    title: str | None = None, filename: str | Path | None = None,
) -> Figure:  # fmt: skip
    """A test metric against the shots per circuit, logarithmic, a panel per point.

    Lines are means over seeds with 95 % bands. The detached mark at the right is the row's own test
    metric: without shots, if the backend where it was judged has none.

    Args:
        data: Rows with `shots`; those without are left out.
        points: Points, and what the panels are called.
        looks: How every (student, variant) is drawn; from the rows by default.
        metric: A key of the entries.
        limit: What the right end is called.
        ax: One axes per point.
        figsize: Inches.
        title: Title of the figure, or of the axes where one was given.
        filename: Where to save it.

    Raises:
        DataError: If no row carries shots, or the number of axes is not that of the points.
    """
    numbers = shots_of(data)
    if not numbers:
        raise DataError(
            "a figure of shots is drawn of rows that carry them", got=f"{len(data)} rows without",
            remedy="Set `evaluation: {shots: [64, 1024, 16384]}` and run the study again.",
        )  # fmt: skip
    looks = looks or strokes(data)
    # As far from the last number as numbers are from each other on average, in octaves.
    step = (numbers[-1] / numbers[0]) ** (1 / max(len(numbers) - 1, 1)) if numbers[1:] else 2.0
    end = numbers[-1] * max(step, 3.0)
    figure, axes = panels([name for _, name in points], ax, figsize, title)
    for (point, _), one in zip(points, axes, strict=True):
        rows = at(data, point)
        for (student, variant), style in looks.items():
            mine = [r for r in rows if (r["student"], r["variant"]) == (student, variant)]
            places, found = [], []
            for count in numbers:
                seeds = [e[metric] for r in mine for e in r.get("shots") or ()
                         if e["shots"] == count and e.get(metric) is not None]  # fmt: skip
                if seeds:
                    places.append(float(count))
                    found.append(seeds)
            if not places:
                continue
            shared = shared_variance(mine)
            line(one, places, found, style, metric=metric, band=True, shared=[shared] * len(found))
            whole = [*values(rows, student, variant, metric).values()]
            line(one, [end], [whole] if whole else [], style, metric=metric, band=True,
                 shared=[shared] if whole else [])  # fmt: skip
        _ticks(one, numbers, end, limit)
    limits(axes, metric)
    return close(figure, axes, own=ax is None, filename=filename)


def _ticks(ax: Axes, numbers: Sequence[int], end: float, limit: str) -> None:
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
