# SPDX-License-Identifier: Apache-2.0
"""Figure of a second stage of training: the validation loss of every seed, and where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qiskit_kd.errors import DataError
from qiskit_kd.report.canvas import SMALL, canvas, finish
from qiskit_kd.report.palette import INK, look
from qiskit_kd.report.summary import Row

__all__ = ["plot_fine_tuning"]


def plot_fine_tuning(
    data: Sequence[Row], *, student: str, variant: str, ax: Axes | None = None,
    figsize: tuple[float, float] | None = None, title: str | None = None,
    filename: str | Path | None = None,
) -> Figure:  # fmt: skip
    """Validation loss after each epoch of fine-tuning, a line per seed; epoch 0 is the start.

    A filled point is the epoch whose weights were kept, where rows tell. The number at the end of a
    line is its seed.

    Args:
        data: Rows of one point, with `fine_tuning`.
        student: Which student.
        variant: Which variant.
        ax: Axes to draw in.
        figsize: Inches.
        title: Title of the axes; none by default.
        filename: Where to save it.

    Raises:
        DataError: If no row of them was fine-tuned.
    """
    rows = [
        row for row in data
        if (row["student"], row["variant"]) == (student, variant) and row.get("fine_tuning")
    ]  # fmt: skip
    if not rows:
        raise DataError(
            "the curves of a second stage are drawn of rows that had one",
            got=f"none of {student!r}, {variant!r}", expected="rows with fine_tuning",
            remedy="Name a variant with fine_tune.",
        )  # fmt: skip
    figure, ax = canvas(ax, figsize, (5.6, 3.2))
    style = look(variant)
    ends = []
    rows.sort(key=lambda row: int(row["seed"]))
    lines = [_line(row) for row in rows]
    for row, (epochs, losses) in zip(rows, lines, strict=True):
        ax.plot(
            epochs, losses, color=style.color, linewidth=1.3, marker="o", markersize=4.4,
            markerfacecolor="none", markeredgewidth=0.9, alpha=0.85,
        )  # fmt: skip
        best = row["fine_tuning"].get("best_epoch")
        if best in epochs:
            ax.plot(
                best, losses[epochs.index(best)], color=style.color, marker="o", markersize=6.6,
                linestyle="none",
            )  # fmt: skip
        ends.append((epochs[-1], losses[-1], str(row["seed"])))
    _name_ends(ax, ends)
    ax.set_xlabel("epoch of fine-tuning")
    ax.set_ylabel("validation loss, nats")
    first, last = min(min(epochs) for epochs, _ in lines), max(max(epochs) for epochs, _ in lines)
    ax.set_xticks(range(first, last + 1, max(1, (last - first) // 8)))
    ax.set_xlim(first - 0.25, last + 0.25 + 0.06 * (last - first))
    ax.margins(y=0.08)
    return finish(figure, ax, title=title, filename=filename, grid="both")


def _line(row: Row) -> tuple[list[int], list[float]]:
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
            (group[0][0], float(np.mean([loss for _, loss, _ in group]))), xytext=(7, 0),
            textcoords="offset points", va="center", fontsize=SMALL, color=INK,
        )  # fmt: skip
