# SPDX-License-Identifier: Apache-2.0
"""Feature maps side by side: what a teacher's layer makes of an image, and what students' do.

Rows carry them where the experiment asks for it (`evaluation.feature_maps`), for the first seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.report.canvas import SIZE, SMALL, saved
from qiskit_kd.report.palette import INK, MUTED, PAPER
from qiskit_kd.report.summary import Row

__all__ = ["map_range", "plot_feature_maps"]

GAP = 0.55
"""Between the maps of two networks, in widths of a map."""


def plot_feature_maps(
    data: Sequence[Row], *, labels: Sequence[str] | None = None,
    scales: Sequence[int] | None = None, images: int = 4, ax: Axes | None = None,
    figsize: tuple[float, float] | None = None, title: str | None = None,
    filename: str | Path | None = None,
) -> Figure:  # fmt: skip
    """A few test images, a line each, and beside them the maps of every network.

    Maps are drawn dark (low) to bright (high). Networks with the same number in `scales` share one
    range of colours, which stands below their maps.

    Args:
        data: One row per network, each with `feature_maps` of the same images.
        labels: A heading per network; by default student and variant.
        scales: A number per network; by default the first two share a range (teacher and the
            student it taught), and every other has its own.
        images: How many images at most.
        ax: Axes to draw in.
        figsize: Inches.
        title: Title of the axes.
        filename: Where to save it.

    Raises:
        DataError: If there is no row, a row has no feature maps, or they are not of one set of
            images.
    """
    stacks, samples = _stacks(data)
    pictures = _pictures(data[0]["feature_maps"]["images"])[:images]
    names = labels or [f"{row['student']} {row['variant']}" for row in data]
    shared = list(scales) if scales is not None else [max(k - 1, 0) for k in range(len(data))]
    ranges = {s: map_range([m for m, own in zip(stacks, shared, strict=True) if own == s])
              for s in shared}  # fmt: skip
    width = 1 + sum(GAP + stack.shape[1] for stack in stacks)
    figure, ax = _bare(ax, figsize, (0.78 * width + 0.1, 0.78 * len(pictures) + 0.75))
    for line, picture in enumerate(pictures):
        _image(ax, picture, 0.0, line, (0.0, 1.0))
    _heading(ax, 0.0, 1.0, "image")
    left = 1.0
    for stack, name, scale in zip(stacks, names, shared, strict=True):
        left += GAP
        low, high = ranges[scale]
        for line in range(len(pictures)):
            for channel, plane in enumerate(stack[line]):
                _image(ax, plane, left + channel, line, (low, high))
        _heading(ax, left, stack.shape[1], name)
        ax.text(
            left + 0.04, len(pictures) + 0.08, f"{low:.2f} to {high:.2f}", ha="left", va="top",
            fontsize=SMALL, color=MUTED,
        )  # fmt: skip
        left += stack.shape[1]
    for line, sample in enumerate(samples[: len(pictures)]):
        ax.text(-0.08, line + 0.5, f"{sample:,}", ha="right", va="center", fontsize=SMALL - 1,
                color=MUTED, rotation=90)  # fmt: skip
    ax.set_xlim(-0.3, left + 0.02)
    ax.set_ylim(len(pictures) + 0.4, -0.42)
    ax.set_aspect("equal")
    if title is not None:
        ax.set_title(title, loc="left", color=INK, fontsize=SIZE, fontweight="bold")
    return saved(figure, filename)


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
        np.clip(plane, 0, 1) if plane.ndim == 3 else plane, cmap="gray", vmin=limits[0],
        vmax=limits[1], interpolation="none", aspect="auto",
        extent=(left + gap, left + 1 - gap, top + 1 - gap, top + gap),
    )  # fmt: skip


def _heading(ax: Axes, left: float, width: float, text: str) -> None:
    ax.text(
        left + width / 2, -0.1, text, ha="center", va="bottom", fontsize=SMALL, color=INK,
        fontweight="bold",
    )  # fmt: skip


def _bare(
    ax: Axes | None, figsize: tuple[float, float] | None, default: tuple[float, float]
) -> tuple[Figure, Axes]:
    if ax is None:
        figure = Figure(figsize=figsize or default, layout="constrained")
        ax = figure.add_subplot()
    found = ax.get_figure(root=True)
    assert found is not None
    found.patch.set_facecolor(PAPER)
    ax.set_axis_off()
    return found, ax
