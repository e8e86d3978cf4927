# SPDX-License-Identifier: Apache-2.0
"""Panels side by side, one per combination of the other axes' values, with one legend for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.report.canvas import (
    LEGEND,
    SHARES,
    SIZE,
    SMALL,
    at_least,
    axis_label,
    finish,
    saved,
)
from qiskit_kd.report.grid import Grid, rows_grid, shown
from qiskit_kd.report.palette import INK
from qiskit_kd.report.strokes import Stroke
from qiskit_kd.report.summary import Row, interval

__all__ = ["AxesLike", "Strokes", "beside", "close", "given", "limits", "line", "needed"]
__all__ += ["panels", "positions_of", "reach", "shared_legend", "ticks"]

Strokes = Mapping[tuple[str, str], Stroke]
_WIDE = 34  # characters above one of three panels, beyond which names run into each other
AxesLike = Axes | Sequence[Axes]


def panels(
    names: Sequence[str], ax: AxesLike | None, figsize: tuple[float, float] | None,
    title: str | None,
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """One axes per name, with a common vertical axis and the names on top.

    Raises:
        DataError: If axes are given, but not one per name.
    """
    count = len(names)
    columns = 3 if count % 3 == 0 else min(count, 2)
    if ax is None:
        rows = -(-count // columns)
        height = 3.6 if columns < 3 else 2.9
        figure = Figure(figsize=figsize or (10.6 if columns > 1 else 6.4, 0.6 + height * rows),
                        layout="constrained")  # fmt: skip
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
            ax, count, rule="a figure with panels is drawn into one axes per panel",
            expected=f"{count}: {'; '.join(name or 'a single one' for name in names)}",
        )  # fmt: skip
    narrow = columns == 3
    broken = narrow and max(map(len, names)) > _WIDE
    for name, one in zip(names, axes, strict=True):
        own = (name.replace(", ", "\n") if broken else name) or (title if ax is not None else None)
        finish(figure, one, title=own, filename=None, grid="both")
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
            rule, got=f"{len(axes)} axes", expected=expected,
            remedy="Pass that many, or leave `ax` out.",
        )  # fmt: skip
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
        figure.legend(
            unique.values(), unique, loc="outside upper left", ncols=columns, **options
        )  # fmt: skip


def needed(data: Sequence[Row], grid: Grid | None) -> Grid:
    """The grid, or that of the rows.

    Raises:
        DataError: If no row has a point.
    """
    found = grid or rows_grid(data)
    if found is None:
        raise DataError(
            "this figure is about a study with axes", got="rows without a point",
            remedy="Use `plot_accuracy` and `plot_gains` for a study without axes.",
        )  # fmt: skip
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
    ax: Axes, places: Sequence[float], numbers: Sequence[Sequence[float]], style: Stroke, *,
    metric: str, band: bool, shared: Sequence[float] = (),
) -> None:  # fmt: skip
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
        places, factor * mean, color=style.color, linestyle=style.dash, linewidth=style.width,
        alpha=style.alpha, marker=style.marker, markersize=4.2 if band else 0,
        markeredgewidth=0, label=style.label, zorder=3 if band else 2,
    )  # fmt: skip
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


def close(
    figure: Figure, axes: Sequence[Axes], *, own: bool, filename: str | Path | None
) -> Figure:
    """The finished figure: a legend where it is all ours, saved where `filename` says."""
    if own:
        shared_legend(figure, axes)
    return saved(figure, filename)
