# SPDX-License-Identifier: Apache-2.0
"""What all figures share: the axes to draw in, quiet axes, one text size, a frameless legend."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from qiskit_kd.report.palette import GRID, INK, MUTED, PAPER

__all__ = ["LEGEND", "METRICS", "SHARES", "SIZE", "SMALL", "at_least", "axis_label", "canvas"]
__all__ += ["finish", "focused", "legend", "literal", "saved"]

SIZE = 10.5
SMALL = 9.0
METRICS = {
    "accuracy": "accuracy", "macro_f1": "macro-F1", "nll": "negative log-likelihood",
    "kl": "KL(teacher ‖ student)",
}  # fmt: skip
SHARES = {"accuracy", "macro_f1", "ece"}
"""Metrics between 0 and 1, drawn in per cent; the others are in nats."""
LEGEND: dict[str, Any] = {
    "frameon": False, "fontsize": SMALL, "labelcolor": INK, "borderaxespad": 0.2, "borderpad": 0,
    "handlelength": 1.3, "handletextpad": 0.5, "columnspacing": 1.4,
}  # fmt: skip


def canvas(
    ax: Axes | None, figsize: tuple[float, float] | None, default: tuple[float, float]
) -> tuple[Figure, Axes]:
    """The axes to draw in: `ax`, or those of a new figure of the wanted or the default size."""
    if ax is not None:
        figure = ax.get_figure(root=True)
        assert figure is not None
        return figure, ax
    figure = Figure(figsize=figsize or default, layout="constrained")
    return figure, figure.add_subplot()


def finish(
    figure: Figure,
    ax: Axes,
    *,
    title: str | None,
    filename: str | Path | None,
    grid: Literal["x", "both", ""] = "x",
) -> Figure:  # fmt: skip
    """Quiet axes, one text size, the title on the left; saved where `filename` says."""
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
    if title is not None:
        ax.set_title(title, loc="left", color=INK, fontsize=SIZE, fontweight="bold")
    return saved(figure, filename)


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
