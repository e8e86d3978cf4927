# SPDX-License-Identifier: Apache-2.0
"""What all figures share: where they go, quiet axes, panels, lines with bands, legends, ranges.

Figures are made without pyplot and without touching rcParams. Inside a page fixed colours become
CSS variables, so one drawing serves light and dark paper; text stays text, in the page's own font.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike

from qiskit_kd.errors import DataError
from qiskit_kd.report.frame import interval
from qiskit_kd.report.style import GRID, INK, MUTED, PAPER, Look

SIZE, SMALL = 10.5, 9.0
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "nll": "negative log-likelihood",
    "kl": "KL(teacher ‖ student)",
}
SHARES = {"accuracy", "macro_f1", "ece"}
"""Metrics between 0 and 1, drawn in per cent; the others are in nats."""
_WIDE = 34  # characters above one of three panels, beyond which names run into each other


class Canvas(TypedDict, total=False):
    """Where a figure goes; every `plot_*` takes these."""

    ax: Any
    """Axes to draw in, one per panel where there are several; a new figure by default."""
    figsize: tuple[float, float] | None
    """Inches."""
    title: str | None
    filename: str | Path | None
    """Where to save it."""


def canvas(where: Canvas, default: tuple[float, float]) -> tuple[Figure, Axes]:
    """The axes to draw in: those given, or those of a new figure of the wanted or default size."""
    if (ax := where.get("ax")) is not None:
        return ax.get_figure(root=True), ax
    figure = Figure(figsize=where.get("figsize") or default, layout="constrained")
    return figure, figure.add_subplot()


def several(
    where: Canvas,
    count: int,
    columns: int,
    size: tuple[float, float],
    *,
    rule: str,
    expected: str,
    sharex: Literal["col", "none"] = "none",
) -> tuple[Figure, list[Axes]]:
    """As `canvas`, so many axes in so many columns, with common vertical axes.

    Raises:
        DataError: With `rule` and `expected`, if axes are given but not so many.
    """
    if (ax := where.get("ax")) is not None:
        axes: list[Any] = [ax] if isinstance(ax, Axes) else list(ax)
        if len(axes) != count:
            raise DataError(
                rule,
                got=f"{len(axes)} axes",
                expected=f"{count}{expected}",
                remedy="Pass that many, or leave `ax` out.",
            )
        return axes[0].get_figure(root=True), axes
    figure = Figure(figsize=where.get("figsize") or size, layout="constrained")
    share: Any = {"sharex": sharex, "sharey": "all" if sharex == "none" else "row"}
    grid = figure.subplots(-(-count // columns), columns, squeeze=False, **share)
    for spare in grid.flat[count:]:
        spare.remove()
    if (title := where.get("title")) is not None:
        figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=SIZE + 1, fontweight="bold")
    return figure, list(grid.flat[:count])


def panels(names: Sequence[str], where: Canvas) -> tuple[Figure, list[Axes]]:
    """One axes per name, with a common vertical axis and the names on top.

    Raises:
        DataError: If axes are given, but not one per name.
    """
    count = len(names)
    columns = 3 if count % 3 == 0 else min(count, 2)
    height = 0.6 + (3.6 if columns < 3 else 2.9) * -(-count // columns)
    figure, axes = several(
        where,
        count,
        columns,
        (10.6 if columns > 1 else 6.4, height),
        rule="a figure with panels is drawn into one axes per panel",
        expected=f": {'; '.join(name or 'a single one' for name in names)}",
    )
    broken = columns == 3 and max(map(len, names)) > _WIDE
    alone = None if where.get("ax") is None else where.get("title")
    for name, one in zip(names, axes, strict=True):
        finish(one, title=(name.replace(", ", "\n") if broken else name) or alone, grid="both")
        if columns == 3:
            one.title.set_fontsize(SMALL)
    return figure, axes


def finish(
    ax: Axes,
    where: Canvas | None = None,
    *,
    title: str | None = None,
    grid: Literal["x", "both", ""] = "x",
) -> Figure:
    """Quiet axes, one text size, `where`'s own or this title; the figure, saved where that says."""
    where, figure = where or {}, ax.get_figure(root=True)
    assert figure is not None
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
        label.set(color=MUTED, fontsize=SMALL)
    if (own := where.get("title")) is not None or title is not None:
        text = title if own is None else own
        ax.set_title(str(text), loc="left", color=INK, fontsize=SIZE, fontweight="bold")
    return saved(figure, where.get("filename"))


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


def legend(axes: Sequence[Axes], *, columns: int = 3, length: float = 1.3) -> None:
    """A frameless legend above the axes, entries once each; the layout makes room for it."""
    figure, unique = axes[0].get_figure(root=True), dict[str, Any]()
    assert figure is not None
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        unique |= dict(zip(labels, handles, strict=True))
    if not unique:
        return
    whole = len(axes) == len(figure.axes) and figure.get_layout_engine() is not None
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1)}
    (figure if whole else axes[0]).legend(
        unique.values(),
        unique,
        **({"loc": "outside upper left"} if whole else place),
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        borderaxespad=0.2,
        borderpad=0,
        handlelength=length,
        handletextpad=0.5,
        columnspacing=1.4,
    )


def closed(figure: Figure, axes: Sequence[Axes], where: Canvas) -> Figure:
    """A finished figure of panels: a legend where it is all ours, saved where `where` says."""
    if where.get("ax") is None:
        legend(axes, columns=5, length=2.6)
    return saved(figure, where.get("filename"))


def stroke(ax: Axes, x: Any, y: Any, style: Look, **options: Any) -> None:
    """A line in a look."""
    own = {"color": style.color, "alpha": style.alpha, "linestyle": style.dash}
    ax.plot(x, y, **{**own, "linewidth": style.width, **options})


def mark(
    ax: Axes, x: float, y: float, style: Look, size: float, *, filled: bool = True, **options: Any
) -> None:
    """A single mark in a look, filled or hollow."""
    own = {"marker": style.marker, "markersize": size, "linestyle": "none", "alpha": style.alpha}
    inside = style.color if filled else "none"
    ax.plot(x, y, **{**own, "markeredgecolor": style.color, "markerfacecolor": inside, **options})


def write(
    ax: Axes, x: float, y: float, text: str, at: str = "center bottom", **options: Any
) -> None:
    """A small text, at its `at` horizontally and vertically."""
    across, down = at.split()
    own = {"ha": across, "va": down, "fontsize": SMALL, "color": INK}
    ax.text(x, y, text, **{**own, **options})


def line(
    ax: Axes,
    places: Sequence[float],
    numbers: Sequence[Sequence[float]] | np.ndarray,
    style: Look,
    *,
    shared: ArrayLike = 0.0,
    cut: tuple[float, float] = (-np.inf, np.inf),
    band: bool = True,
    log: bool = False,
    **marks: Any,
) -> tuple[float, float]:
    """Means over seeds, joined, with a band of their 95 % intervals.

    Args:
        ax: Where.
        places: Where each mean stands.
        numbers: Those of every seed at each place.
        style: How.
        shared: See `statistics.shared_variance`, of all places or of each.
        cut: Where the band ends.
        band: Whether there is a band, and a mark at each mean.
        log: Whether means and bands are those of logarithms.
        marks: Options of the line.

    Returns:
        The lowest and the highest number shown.
    """
    if not len(numbers):
        return np.inf, -np.inf
    if log:
        numbers = np.log10(np.maximum(numbers, 1e-16))
    found = [
        interval(seeds, shared=float(more))
        for seeds, more in zip(numbers, np.broadcast_to(shared, len(numbers)), strict=True)
    ]
    mean, half = (np.asarray([end[k] or 0.0 for end in found]) for k in (0, 1))
    ends = mean, np.clip(mean - half, *cut), np.clip(mean + half, *cut)
    middle, low, high = (10**end for end in ends) if log else ends
    own = {"marker": style.marker, "markersize": 4.2 if band else 0, "markeredgewidth": 0} | marks
    stroke(ax, places, middle, style, label=style.label, zorder=3 if band else 2, **own)
    if not band or not half.any():
        return float(middle.min()), float(middle.max())
    if len(numbers) > 1:
        ax.fill_between(places, low, high, color=style.color, alpha=0.13 * style.alpha, linewidth=0)
    else:
        ax.vlines(places, low, high, color=style.color, alpha=0.5 * style.alpha, linewidth=1.0)
    return float(low.min()), float(high.max())


def ticks(
    ax: Axes, places: Sequence[float], labels: Sequence[str], text: str, **scale: Any
) -> None:
    """Labelled places on the horizontal axis, its name and, where it is logarithmic, its base."""
    if scale:
        ax.set_xscale("log", **scale)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(places, labels)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    ax.set_xlabel(text + " (logarithmic)" * bool(scale))
    ax.tick_params(labelsize=SMALL)


def beside(axes: Sequence[Axes], text: str) -> None:
    """What the vertical axis shows, once per row of panels."""
    for one in axes:
        spec = one.get_subplotspec()
        if one is axes[0] or (spec is not None and spec.is_first_col()):
            one.set_ylabel(text)


def axis_label(metric: str) -> str:
    """What stands beside an axis of a test metric."""
    return f"test {METRICS.get(metric, metric)}, {'%' if metric in SHARES else 'nats'}"


def at_least(low: float, high: float, span: float) -> tuple[float, float]:
    """The range, widened about its middle: a single seed must not be drawn as a precise one."""
    missing = max(0.0, span - (high - low)) / 2
    return low - missing, high + missing


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
