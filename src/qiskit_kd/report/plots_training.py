# SPDX-License-Identifier: Apache-2.0
"""Figures of what happened inside: learning curves, gradient norms, distributions, feature maps.

Same conventions as `qiskit_kd.report.plots`; but for feature maps each figure shows one student, so
that a page can set them side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.experiment.statistics import shared_variance
from qiskit_kd.report.drawing import (
    SIZE,
    SMALL,
    Canvas,
    canvas,
    finish,
    line,
    mark,
    saved,
    stroke,
    write,
)
from qiskit_kd.report.frame import Row, rows_of, variants_of
from qiskit_kd.report.style import INK, MUTED, PAPER, SERIES, Look, Looks, look, readable
from qiskit_kd.report.style import looks as together

_CURVES = {
    "validation/accuracy": ("validation accuracy, %", 100.0),
    "validation/loss": ("validation loss", 1.0),
}
_GAP = 0.55  # between the maps of two networks, in widths of a map


def plot_curves(
    data: Sequence[Row],
    *,
    student: str,
    curve: str = "validation/accuracy",
    looks: Looks | None = None,
    **where: Unpack[Canvas],
) -> Figure:
    """Learning curves of one student: mean over seeds with a 95 % band, one line per variant.

    A run that stopped early is held at its last value, so that the mean is always over all seeds.
    `curve` is a key of the rows' `curves`; without `looks` each variant has its usual one.
    """
    _, ax = canvas(where, (3.5, 2.7))
    label, scale = _CURVES.get(curve, (curve, 1.0))
    drawn = together(variants_of(data))
    for variant in variants_of(data, student=student):
        style = looks[student, variant] if looks else drawn[variant]
        cut = (0.0, 100.0) if scale == 100 else (-np.inf, np.inf)
        _curve(ax, rows_of(data, student, variant), curve, style, scale, cut=cut)
    _epochs(ax)
    ax.set_ylabel(label)
    if scale == 100:
        ax.set_ylim(max(ax.get_ylim()[0], 0), min(ax.get_ylim()[1], 101))
    return finish(ax, where, title=readable(student), grid="both")


def plot_gradients(
    data: Sequence[Row], *, student: str, variant: str = "distilled", **where: Unpack[Canvas]
) -> Figure:
    """Norm of each loss term's gradient (`grad/<term>`) in training, mean and band over seeds."""
    figure, ax = canvas(where, (3.5, 2.7))
    rows = rows_of(data, student, variant)
    terms = dict.fromkeys(k for r in rows for k in r["curves"] if k.startswith("grad/"))
    for slot, term in enumerate(terms):
        style = Look(term.removeprefix("grad/"), SERIES[slot % len(SERIES)], "")
        _curve(ax, rows, term, style, log=True)
    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(NullFormatter())
    _epochs(ax)
    ax.set_ylabel("gradient norm per term")
    finish(ax, where, title=readable(student), grid="both")
    ax.legend(loc="best", frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.2)
    return saved(figure, where.get("filename"))


def plot_distributions(
    data: Sequence[Row],
    *,
    student: str,
    variants: Sequence[str] | None = None,
    looks: Looks | None = None,
    **where: Unpack[Canvas],
) -> Figure:
    """Mean predicted distribution per true class, student alone (left) and distilled (right).

    A row of cells is a true class, a column a predicted one; the depth of colour is the
    probability, averaged over test samples and seeds. Rows have a `distribution`, `(classes,
    classes)`, each of its rows summing to one. By default the first two `variants` are drawn.
    """
    figure, ax = canvas(where, (3.5, 2.35))
    shown = list(variants) if variants is not None else variants_of(data, student=student)[:2]
    offset, classes = 0.0, 1
    drawn = together([*variants_of(data), *shown])
    for variant in shown:
        mean = np.mean(
            [_numbers(row["distribution"]) for row in rows_of(data, student, variant)], axis=0
        )
        classes = len(mean)
        color = looks[student, variant].color if looks else drawn[variant].color
        _cells(ax, mean, offset, color)
        centre, text = offset + classes / 2, drawn[variant].label
        write(ax, centre, -0.12 * classes, text, color=color, fontweight="bold")
        offset += 1.18 * classes
    ax.set_xlim(0, offset - 0.18 * classes)
    ax.set_ylim(classes, -0.3 * classes)
    ax.set_aspect("equal")
    centres, starts = np.arange(classes) + 0.5, 1.18 * classes * np.arange(len(shown))
    ax.set_xticks(np.add.outer(starts, centres).ravel(), [*range(classes)] * len(shown))
    ax.set_yticks(centres, [*range(classes)])
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    finish(ax, where, title=readable(student), grid="")
    ax.spines["bottom"].set_visible(False)
    return saved(figure, where.get("filename"))


def plot_fine_tuning(
    data: Sequence[Row], *, student: str, variant: str, **where: Unpack[Canvas]
) -> Figure:
    """Validation loss after each epoch of fine-tuning, a line per seed; epoch 0 is the start.

    A filled point is the epoch whose weights were kept, where rows tell. The number at the end of a
    line is its seed. Rows are those of one point.

    Raises:
        DataError: If no row of them was fine-tuned.
    """
    rows = [row for row in rows_of(data, student, variant) if row.get("fine_tuning")]
    if not rows:
        raise DataError(
            "the curves of a second stage are drawn of rows that had one",
            got=f"none of {student!r}, {variant!r}",
            expected="rows with fine_tuning",
            remedy="Name a variant with fine_tune.",
        )
    _, ax = canvas(where, (5.6, 3.2))
    style = replace(look(variant), marker="o", width=1.3)
    hollow = {"marker": "o", "markersize": 4.4, "markerfacecolor": "none", "markeredgewidth": 0.9}
    lines = {}
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        epochs, losses = lines[str(row["seed"])] = _losses(row)
        stroke(ax, epochs, losses, style, alpha=0.85, **hollow)
        best = row["fine_tuning"].get("best_epoch")
        if best in epochs:
            mark(ax, best, losses[epochs.index(best)], style, 6.6)
    _name_ends(ax, [(e[-1], losses[-1], name) for name, (e, losses) in lines.items()])
    ax.set_xlabel("epoch of fine-tuning")
    ax.set_ylabel("validation loss, nats")
    every = [epoch for epochs, _ in lines.values() for epoch in epochs]
    first, last = min(every), max(every)
    ax.set_xticks(range(first, last + 1, max(1, (last - first) // 8)))
    ax.set_xlim(first - 0.25, last + 0.25 + 0.06 * (last - first))
    ax.margins(y=0.08)
    return finish(ax, where, grid="both")


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
    pictures = np.asarray(data[0]["feature_maps"]["images"], dtype=float)[:images]
    # (n, height, width) or, of three channels, (n, height, width, 3)
    colored = pictures.shape[1] == 3
    pictures = np.moveaxis(pictures, 1, -1).clip(0, 1) if colored else pictures.mean(axis=1)
    names = labels or [f"{row['student']} {row['variant']}" for row in data]
    shared = list(scales) if scales is not None else [max(k - 1, 0) for k in range(len(data))]
    width = 1 + sum(_GAP + stack.shape[1] for stack in stacks)
    figure, ax = canvas(where, (0.78 * width + 0.1, 0.78 * len(pictures) + 0.75))
    figure.patch.set_facecolor(PAPER)
    ax.set_axis_off()
    _column(ax, 0.0, "image", pictures[:, None], (0.0, 1.0))
    left = 1.0
    for stack, name, scale in zip(stacks, names, shared, strict=True):
        low, high = map_range([m for m, own in zip(stacks, shared, strict=True) if own == scale])
        left += _GAP
        _column(ax, left, name, stack[: len(pictures)], (low, high))
        ends = f"{low:.2f} to {high:.2f}"
        write(ax, left + 0.04, len(pictures) + 0.08, ends, "left top", color=MUTED)
        left += stack.shape[1]
    for place, sample in enumerate(samples[: len(pictures)]):
        side: dict[str, Any] = {"rotation": 90, "color": MUTED, "fontsize": SMALL - 1}
        write(ax, -0.08, place + 0.5, f"{sample:,}", "right center", **side)
    ax.set_xlim(-0.3, left + 0.02)
    ax.set_ylim(len(pictures) + 0.4, -0.42)
    ax.set_aspect("equal")
    if (title := where.get("title")) is not None:
        ax.set_title(title, loc="left", color=INK, fontsize=SIZE, fontweight="bold")
    return saved(figure, where.get("filename"))


def map_range(stacks: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Lowest and highest value of several networks' maps; never an empty range."""
    low, high = min(stack.min() for stack in stacks), max(stack.max() for stack in stacks)
    return float(low), float(high if high > low else low + 1.0)


def _curve(
    ax: Axes, rows: Sequence[Row], name: str, style: Look, scale: float = 1.0, **options: Any
) -> None:
    """Mean and band of a curve; of a single run a dashed line."""
    epochs, stack = _held([row["curves"] for row in rows], name)
    if not len(epochs):
        return
    dash, width = ("-", 1.6) if len(stack) > 1 else ((0, (3, 1.5)), 1.4)
    solid = replace(style, dash=dash, width=width, alpha=1.0)
    every = max(1, len(epochs) // 6)
    options |= {"markersize": 3.5, "markevery": every, "shared": shared_variance(rows)}
    line(ax, [*epochs], scale * stack.T, solid, **options)


def _epochs(ax: Axes) -> None:
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.margins(x=0.01)


def _held(
    curves: Sequence[Mapping[str, Sequence[float]]], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Epochs and `(runs, epochs)` values; runs that ended early keep their last value."""
    runs = [(_numbers(c[name]), c.get("epoch")) for c in curves if len(c.get(name, ()))]
    if not runs:
        return np.zeros(0), np.zeros((0, 0))
    longest, epochs = max(runs, key=lambda run: len(run[0]))
    count = len(longest)
    held = [np.pad(run, (0, count - len(run)), mode="edge") for run, _ in runs]
    return _numbers(range(count) if epochs is None else epochs)[:count], np.stack(held)


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """An array of one or two dimensions; what was not finite is stored as null."""
    missing: Any = np.nan
    if any(isinstance(v, Sequence) for v in values):
        missing = [np.nan] * len(values)
    return np.asarray([missing if v is None else v for v in values], dtype=float)


def _cells(ax: Axes, table: NDArray[np.float64], offset: float, color: str) -> None:
    """A square per pair of classes; one that nobody knows stays empty."""
    classes = len(table)
    for (true, predicted), value in np.ndenumerate(table):
        if np.isnan(value):
            continue
        p = float(np.clip(value, 0.0, 1.0))
        corner, depth = (offset + predicted + 0.03, true + 0.03), 0.04 + 0.96 * p
        ax.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=color, alpha=depth, linewidth=0))
        if classes <= 4:
            ink, x = PAPER if p > 0.55 else INK, offset + predicted + 0.5
            write(ax, x, true + 0.5, f"{p:.2f}", "center center", color=ink)
    edge: dict[str, Any] = {"facecolor": "none", "edgecolor": MUTED, "linewidth": 0.6}
    ax.add_patch(Rectangle((offset, 0), classes, classes, **edge))


def _losses(row: Row) -> tuple[list[int], list[float]]:
    """Epochs and losses, the start first where the row has it."""
    found = row["fine_tuning"]
    epochs = [int(epoch) for epoch in found["curves"]["epoch"]]
    losses = [*_numbers(found["curves"]["validation/loss"])]
    start = (found.get("start") or {}).get("validation/loss")
    return (epochs, losses) if start is None else ([0, *epochs], [float(start), *losses])


def _name_ends(ax: Axes, ends: Sequence[tuple[int, float, str]]) -> None:
    """The seed at the end of each line; those that would lie on one another are named together."""
    low, high = ax.get_ylim()
    groups: list[list[tuple[int, float, str]]] = []
    for end in sorted((end for end in ends if np.isfinite(end[1])), key=lambda end: end[:2]):
        last = groups[-1][-1] if groups else None
        if last is None or last[0] != end[0] or abs(end[1] - last[1]) >= 0.05 * (high - low):
            groups.append([])
        groups[-1].append(end)
    for group in groups:
        ax.annotate(
            ", ".join(name for *_, name in group),
            (group[0][0], float(np.mean([loss for _, loss, _ in group]))),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=INK,
        )


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


def _column(
    ax: Axes, left: float, name: str, planes: NDArray[np.float64], ends: tuple[float, float]
) -> None:
    """Images below each other, their channels side by side, with a heading."""
    gap = 0.04
    for place, channels in enumerate(planes):
        for k, plane in enumerate(channels):
            ax.imshow(
                plane,
                cmap="gray",
                vmin=ends[0],
                vmax=ends[1],
                interpolation="none",
                aspect="auto",
                extent=(left + k + gap, left + k + 1 - gap, place + 1 - gap, place + gap),
            )
    write(ax, left + planes.shape[1] / 2, -0.1, name, fontweight="bold")
