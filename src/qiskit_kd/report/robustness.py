# SPDX-License-Identifier: Apache-2.0
"""Figures of robustness: accuracy on disturbed test samples, and the paired gain there.

Rows carry it where the experiment asks for it (`evaluation.robustness`): one entry per kind of
disturbance and level. Level 0 is the test split as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.experiment.statistics import half_width, shared_variance
from qiskit_kd.report.canvas import METRICS, SIZE, finish, focused, saved
from qiskit_kd.report.palette import BASELINE, INK
from qiskit_kd.report.panels import Strokes, given, shared_legend
from qiskit_kd.report.strokes import Stroke, strokes
from qiskit_kd.report.summary import Row, is_teacher, rows_of

__all__ = ["KINDS", "kinds_of", "plot_robustness"]

KINDS = {
    "noise": "standard deviation of Gaussian noise",
    "rotation": "rotation, degrees",
}


def kinds_of(rows: Sequence[Row]) -> list[str]:
    """Kinds of disturbance that rows were tested under, in order of appearance."""
    return list(dict.fromkeys(e["kind"] for row in rows for e in row.get("robustness") or ()))


def plot_robustness(
    data: Sequence[Row], *, looks: Strokes | None = None, baseline: str = BASELINE,
    metric: str = "accuracy", ax: Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None, title: str | None = None,
    filename: str | Path | None = None,
) -> Figure:  # fmt: skip
    """Two panels per kind of disturbance: the metric against its level, and the gain over alone.

    Lines are means over seeds with 95 % bands; gains are paired seed by seed.

    Args:
        data: Rows of one point, with `robustness`.
        looks: How every (student, variant) is drawn; from the rows by default.
        baseline: The variant that is the student alone.
        metric: A key of the entries.
        ax: Axes: for each kind one for the metric, then for each kind one for the gain.
        figsize: Inches.
        title: Title of the figure.
        filename: Where to save it.

    Raises:
        DataError: If no row carries robustness, or the number of axes is not two per kind.
    """
    kinds = kinds_of(data)
    if not kinds:
        raise DataError(
            "robustness is drawn of rows that carry it", got=f"{len(data)} rows without",
            remedy="Set `evaluation: {robustness: {noise: [...], rotation: [...]}}` and run the "
            "study again.",
        )  # fmt: skip
    looks = looks or strokes(data, baseline=baseline)
    figure, axes = _axes(kinds, ax, figsize, title)
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
            _line(above, level, numbers, style, band=not is_teacher(student), cut=(0.0, 100.0),
                  shared=shared_variance(mine))  # fmt: skip
            _, alone = _curves(data, student, baseline, kind, metric)
            seeds = [seed for seed in runs if seed in alone]
            if seeds and variant != baseline:
                gain = np.stack([runs[seed] - alone[seed] for seed in seeds])
                shared = shared_variance(mine, rows_of(data, student, baseline))
                _line(below, level, gain, style, band=True, shared=shared)
                reached[style.alpha < 1] += gain.mean(axis=0).tolist()
                reached[style.alpha < 1] += [*_ends(gain, shared)] if style.alpha == 1 else []
        for one in (above, below):
            one.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
            one.set_xticks(sorted({0.0} | _levels(data, kind)))
        below.set_xlabel(KINDS.get(kind, kind))
    axes[len(kinds)].set_ylim(*focused(reached[False], reached[True], least=4.0))
    name = METRICS.get(metric, metric)
    axes[0].set_ylabel(f"{name}, %")
    axes[len(kinds)].set_ylabel(f"points of {name} gained")
    if ax is None:
        shared_legend(figure, axes[: len(kinds)])
    return saved(figure, filename)


def _axes(
    kinds: Sequence[str], ax: Sequence[Axes] | None, figsize: tuple[float, float] | None,
    title: str | None,
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    count = 2 * len(kinds)
    if ax is None:
        size = figsize or (0.8 + 4.9 * len(kinds), 6.0)
        figure = Figure(figsize=size, layout="constrained")
        axes = list(figure.subplots(2, len(kinds), sharey="row", sharex="col", squeeze=False).flat)
        if title is not None:
            figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=SIZE, fontweight="bold")
    else:
        figure, axes = given(
            ax, count, rule="robustness is drawn into two axes per kind of disturbance",
            expected=f"{count} for {', '.join(kinds)}",
        )  # fmt: skip
    for one in axes:
        finish(figure, one, title=None, filename=None, grid="both")
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


def _line(
    ax: Axes, level: NDArray[np.float64], stack: NDArray[np.float64], style: Stroke, *,
    band: bool, cut: tuple[float, float] = (-np.inf, np.inf), shared: float = 0.0,
) -> None:  # fmt: skip
    mean = stack.mean(axis=0)
    ax.plot(
        level, mean, color=style.color, linestyle=style.dash, linewidth=style.width,
        alpha=style.alpha, marker=style.marker, markersize=4.2 if style.marker else 0,
        markeredgewidth=0, label=style.label,
    )  # fmt: skip
    if band and len(stack) > 1:
        half = half_width(stack, shared=shared)
        ax.fill_between(
            level, np.clip(mean - half, *cut), np.clip(mean + half, *cut), color=style.color,
            alpha=0.13 * style.alpha, linewidth=0,
        )  # fmt: skip


def _ends(stack: NDArray[np.float64], shared: float) -> tuple[float, ...]:
    """The lowest and the highest end of the intervals of the mean, where there are intervals."""
    if len(stack) < 2:
        return ()
    mean, half = stack.mean(axis=0), half_width(stack, shared=shared)
    return float((mean - half).min()), float((mean + half).max())
