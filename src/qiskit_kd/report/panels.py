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
from qiskit_kd.report.canvas import LEGEND, SIZE, SMALL, finish
from qiskit_kd.report.grid import Grid, rows_grid, shown
from qiskit_kd.report.palette import INK
from qiskit_kd.report.strokes import Stroke
from qiskit_kd.report.summary import Row

__all__ = ["AxesLike", "Strokes", "close", "given", "needed", "panels", "positions_of", "reach"]
__all__ += ["shared_legend", "ticks"]

Strokes = Mapping[tuple[str, str], Stroke]
AxesLike = Axes | Sequence[Axes]


def panels(
    grid: Grid, ax: AxesLike | None, figsize: tuple[float, float] | None, title: str | None
) -> tuple[Figure, list[Axes]]:
    """One axes per panel of the grid, with a common vertical axis and the panels' names on top.

    Raises:
        DataError: If axes are given, but not one per panel.
    """
    count = len(grid.panels)
    if ax is None:
        columns = min(count, 2)
        rows = -(-count // columns)
        figure = Figure(figsize=figsize or (10.6 if columns > 1 else 6.4, 0.6 + 3.6 * rows),
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
            expected=f"{count}: {_names(grid)}",
        )  # fmt: skip
    for panel, one in zip(grid.panels, axes, strict=True):
        own = grid.say(panel) or (title if ax is not None else None)
        finish(figure, one, title=own, filename=None, grid="both")
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


def _names(grid: Grid) -> str:
    return "; ".join(grid.say(panel) or "a single one" for panel in grid.panels)


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
    if filename is not None:
        figure.savefig(filename)
    return figure
