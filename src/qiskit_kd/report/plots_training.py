# SPDX-License-Identifier: Apache-2.0
"""Figures of what happened inside: learning curves, gradient norms, distributions, feature maps.

Same conventions as `qiskit_kd.report.plots`; each figure shows one student, so that a page can
set them side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.experiment.statistics import half_width, shared_variance
from qiskit_kd.report.frame import Row, variants_of
from qiskit_kd.report.style import (
    INK,
    MUTED,
    PAPER,
    SERIES,
    SMALL,
    Canvas,
    Stroke,
    canvas,
    finish,
    look,
    readable,
    saved,
)
from qiskit_kd.report.style import looks as together

_CURVES = {
    "validation/accuracy": ("validation accuracy, %", 100.0),
    "validation/loss": ("validation loss", 1.0),
}


def plot_curves(
    data: Sequence[Row],
    *,
    student: str,
    curve: str = "validation/accuracy",
    looks: Mapping[tuple[str, str], Stroke] | None = None,
    **where: Unpack[Canvas],
) -> Figure:
    """Learning curves of one student: mean over seeds with a 95 % band, one line per variant.

    A run that stopped early is held at its last value, so that the mean is always over all seeds.

    Args:
        data: Rows.
        student: Which student.
        curve: A key of the rows' `curves`.
        looks: How every (student, variant) is drawn, in a study with many; by default each variant
            has its usual look.
    """
    figure, ax = canvas(where, (3.5, 2.7))
    label, scale = _CURVES.get(curve, (curve, 1.0))
    drawn = together(variants_of(data))
    for variant in variants_of(data, student=student):
        rows = [r for r in data if r["student"] == student and r["variant"] == variant]
        epochs, stack = _held([r["curves"] for r in rows], curve)
        if not len(epochs):
            continue
        style = looks[student, variant] if looks else drawn[variant]
        bounds = (0.0, 100.0) if scale == 100 else (-np.inf, np.inf)
        _line_with_band(
            ax,
            epochs,
            scale * stack,
            style.color,
            style.label,
            bounds=bounds,
            marker=style.marker,
            shared=shared_variance(rows),
        )
    _epochs(ax)
    ax.set_ylabel(label)
    if scale == 100:
        ax.set_ylim(max(ax.get_ylim()[0], 0), min(ax.get_ylim()[1], 101))
    return finish(figure, ax, where, title=readable(student), grid="both")


def plot_gradients(
    data: Sequence[Row], *, student: str, variant: str = "distilled", **where: Unpack[Canvas]
) -> Figure:
    """Norm of each loss term's gradient during training, mean and 95 % band over seeds.

    Args:
        data: Rows with `grad/<term>` curves.
        student: Which student.
        variant: Which variant.
    """
    figure, ax = canvas(where, (3.5, 2.7))
    rows = [r for r in data if r["student"] == student and r["variant"] == variant]
    terms = dict.fromkeys(k for r in rows for k in r["curves"] if k.startswith("grad/"))
    for slot, term in enumerate(terms):
        epochs, stack = _held([r["curves"] for r in rows], term)
        color = SERIES[slot % len(SERIES)][0]
        _line_with_band(
            ax,
            epochs,
            stack,
            color,
            term.removeprefix("grad/"),
            log=True,
            shared=shared_variance(rows),
        )
    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(NullFormatter())
    _epochs(ax)
    ax.set_ylabel("gradient norm per term")
    finish(figure, ax, where, title=readable(student), grid="both")
    ax.legend(loc="best", frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.2)
    return saved(figure, where.get("filename"))


def plot_distributions(
    data: Sequence[Row],
    *,
    student: str,
    variants: Sequence[str] | None = None,
    looks: Mapping[tuple[str, str], Stroke] | None = None,
    **where: Unpack[Canvas],
) -> Figure:
    """Mean predicted distribution per true class, student alone (left) and distilled (right).

    A row of cells is a true class, a column a predicted one; the depth of colour is the
    probability, averaged over test samples and seeds.

    Args:
        data: Rows with a `distribution`, `(classes, classes)`, each row summing to one.
        student: Which student.
        variants: The variants, left to right; by default the first two of `variants_of`.
        looks: How every (student, variant) is drawn, in a study with many.
    """
    figure, ax = canvas(where, (3.5, 2.35))
    shown = list(variants) if variants is not None else variants_of(data, student=student)[:2]
    offset, classes = 0.0, 1
    drawn = together([*variants_of(data), *shown])
    for variant in shown:
        tables = [
            _table(r["distribution"])
            for r in data
            if r["student"] == student and r["variant"] == variant
        ]
        mean = np.mean(tables, axis=0)
        color = looks[student, variant].color if looks else drawn[variant].color
        _cells(ax, mean, offset, color)
        classes = len(mean)
        ax.text(
            offset + classes / 2,
            -0.12 * classes,
            drawn[variant].label,
            ha="center",
            va="bottom",
            fontsize=SMALL,
            color=color,
            fontweight="bold",
        )
        offset += 1.18 * classes
    ax.set_xlim(0, offset - 0.18 * classes)
    ax.set_ylim(classes, -0.3 * classes)
    ax.set_aspect("equal")
    centres = np.arange(classes) + 0.5
    starts = [1.18 * classes * k for k in range(len(shown))]
    ax.set_xticks(
        np.concatenate([start + centres for start in starts]), [*range(classes)] * len(shown)
    )
    ax.set_yticks(centres, [*range(classes)])
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    finish(figure, ax, where, title=readable(student), grid="")
    ax.spines["bottom"].set_visible(False)
    return saved(figure, where.get("filename"))


def _epochs(ax: Axes) -> None:
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.margins(x=0.01)


def _held(
    curves: Sequence[Mapping[str, Sequence[float]]], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Epochs and `(runs, epochs)` values; runs that ended early keep their last value."""
    # A number that is not finite is stored as null.
    runs = [_numbers(c[name]) for c in curves if len(c.get(name, ()))]
    if not runs:
        return np.zeros(0), np.zeros((0, 0))
    longest = max(runs, key=len)
    source = next(c for c in curves if len(c.get(name, ())) == len(longest))
    epochs = _numbers(source.get("epoch", range(len(longest))))[: len(longest)]
    return epochs, np.stack(
        [np.pad(run, (0, len(longest) - len(run)), mode="edge") for run in runs]
    )


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.asarray([np.nan if v is None else v for v in values], dtype=float)


def _table(rows: Sequence[Sequence[float] | None]) -> NDArray[np.float64]:
    """`(classes, classes)`; a class without test samples has a row of NaN."""
    missing = [np.nan] * len(rows)
    return np.asarray([missing if row is None else row for row in rows], dtype=float)


def _line_with_band(
    ax: Axes,
    epochs: NDArray[np.float64],
    stack: NDArray[np.float64],
    color: str,
    label: str,
    *,
    log: bool = False,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    marker: str = "",
    shared: float = 0.0,
) -> None:
    if log:
        # Norms are positive and spread over decades: mean and band of the logarithm.
        stack = np.log10(np.maximum(stack, 1e-16))
    mean = stack.mean(axis=0)
    middle = 10**mean if log else mean
    marks: dict[str, Any] = {
        "marker": marker,
        "markersize": 3.5,
        "markevery": max(1, len(epochs) // 6),
    }
    if len(stack) == 1:
        ax.plot(
            epochs,
            middle,
            color=color,
            linewidth=1.4,
            linestyle=(0, (3, 1.5)),
            label=label,
            **marks,
        )
        return
    ax.plot(epochs, middle, color=color, linewidth=1.6, label=label, **marks)
    half = half_width(stack, shared=shared)
    low, high = np.clip(mean - half, *bounds), np.clip(mean + half, *bounds)
    if log:
        low, high = 10**low, 10**high
    ax.fill_between(epochs, low, high, color=color, alpha=0.17, linewidth=0)


def _cells(ax: Axes, table: NDArray[np.float64], offset: float, color: str) -> None:
    classes = len(table)
    for true in range(classes):
        for predicted in range(classes):
            if np.isnan(table[true, predicted]):
                continue
            p = float(np.clip(table[true, predicted], 0.0, 1.0))
            ax.add_patch(
                Rectangle(
                    (offset + predicted + 0.03, true + 0.03),
                    0.94,
                    0.94,
                    facecolor=color,
                    alpha=0.04 + 0.96 * p,
                    linewidth=0,
                )
            )
            if classes <= 4:
                ax.text(
                    offset + predicted + 0.5,
                    true + 0.5,
                    f"{p:.2f}",
                    ha="center",
                    va="center",
                    fontsize=SMALL,
                    color=PAPER if p > 0.55 else INK,
                )
    ax.add_patch(
        Rectangle((offset, 0), classes, classes, facecolor="none", edgecolor=MUTED, linewidth=0.6)
    )


def plot_fine_tuning(
    data: Sequence[Row], *, student: str, variant: str, **where: Unpack[Canvas]
) -> Figure:
    """Validation loss after each epoch of fine-tuning, a line per seed; epoch 0 is the start.

    A filled point is the epoch whose weights were kept, where rows tell. The number at the end of a
    line is its seed.

    Args:
        data: Rows of one point, with `fine_tuning`.
        student: Which student.
        variant: Which variant.

    Raises:
        DataError: If no row of them was fine-tuned.
    """
    rows = [
        row
        for row in data
        if (row["student"], row["variant"]) == (student, variant) and row.get("fine_tuning")
    ]
    if not rows:
        raise DataError(
            "the curves of a second stage are drawn of rows that had one",
            got=f"none of {student!r}, {variant!r}",
            expected="rows with fine_tuning",
            remedy="Name a variant with fine_tune.",
        )
    figure, ax = canvas(where, (5.6, 3.2))
    style = look(variant)
    ends = []
    rows.sort(key=lambda row: int(row["seed"]))
    lines = [_losses(row) for row in rows]
    for row, (epochs, losses) in zip(rows, lines, strict=True):
        ax.plot(
            epochs,
            losses,
            color=style.color,
            linewidth=1.3,
            marker="o",
            markersize=4.4,
            markerfacecolor="none",
            markeredgewidth=0.9,
            alpha=0.85,
        )
        best = row["fine_tuning"].get("best_epoch")
        if best in epochs:
            ax.plot(
                best,
                losses[epochs.index(best)],
                color=style.color,
                marker="o",
                markersize=6.6,
                linestyle="none",
            )
        ends.append((epochs[-1], losses[-1], str(row["seed"])))
    _name_ends(ax, ends)
    ax.set_xlabel("epoch of fine-tuning")
    ax.set_ylabel("validation loss, nats")
    first, last = min(min(epochs) for epochs, _ in lines), max(max(epochs) for epochs, _ in lines)
    ax.set_xticks(range(first, last + 1, max(1, (last - first) // 8)))
    ax.set_xlim(first - 0.25, last + 0.25 + 0.06 * (last - first))
    ax.margins(y=0.08)
    return finish(figure, ax, where, grid="both")


def _losses(row: Row) -> tuple[list[int], list[float]]:
    """Epochs and losses, the start first where the row has it."""
    found = row["fine_tuning"]
    epochs = [int(epoch) for epoch in found["curves"]["epoch"]]
    losses = [np.nan if x is None else float(x) for x in found["curves"]["validation/loss"]]
    start = found.get("start") or {}
    if start.get("validation/loss") is not None:
        return [0, *epochs], [float(start["validation/loss"]), *losses]
    return epochs, losses


def _name_ends(ax: Axes, ends: Sequence[tuple[int, float, str]]) -> None:
    """The seed at the end of each line; those that would lie on one another are named together."""
    low, high = ax.get_ylim()
    groups: list[list[tuple[int, float, str]]] = []
    for end in sorted((end for end in ends if np.isfinite(end[1])), key=lambda end: end[:2]):
        last = groups[-1][-1] if groups else None
        if last and last[0] == end[0] and abs(end[1] - last[1]) < 0.05 * (high - low):
            groups[-1].append(end)
        else:
            groups.append([end])
    for group in groups:
        ax.annotate(
            ", ".join(name for _, _, name in group),
            (group[0][0], float(np.mean([loss for _, loss, _ in group]))),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=INK,
        )
