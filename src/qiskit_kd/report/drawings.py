# SPDX-License-Identifier: Apache-2.0
"""A circuit as a figure, in the conventions of `qiskit_kd.report.figures`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qiskit_kd.report.canvas import canvas, saved
from qiskit_kd.report.palette import INK

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

__all__ = ["plot_circuit"]


def plot_circuit(
    data: QuantumCircuit, *, fold: int = 28, ax: Axes | None = None,
    figsize: tuple[float, float] | None = None, title: str | None = None,
    filename: str | Path | None = None,
) -> Figure:  # fmt: skip
    """A circuit drawn by Qiskit in its `iqp` style, in lines of at most `fold` columns.

    Args:
        data: The circuit.
        fold: Columns per line; the lines are made equally long.
        ax: Axes to draw in.
        figsize: Inches; by default as large as Qiskit wants it.
        title: Title of the axes.
        filename: Where to save it.
    """
    drawable = _short_names(data)
    # Qiskit fits a drawing into the axes it is given, letters included; so ask it first how many
    # columns it takes, fold these into lines of equal length, and make room for them.
    scratch = Figure().add_subplot()
    drawable.draw("mpl", style="iqp", fold=-1, ax=scratch)
    left, right = scratch.get_xlim()
    lines = max(1, math.ceil((right - left - 2) / fold))
    per_line = -1 if lines == 1 else math.ceil((right - left - 2) / lines) + 1
    if ax is None:
        if lines > 1:
            scratch = Figure().add_subplot()
            drawable.draw("mpl", style="iqp", fold=per_line, ax=scratch)
        (left, right), (bottom, top) = scratch.get_xlim(), scratch.get_ylim()
        figure = Figure(figsize=figsize or (0.52 * (right - left), 0.52 * (top - bottom)))
        ax = figure.add_axes((0, 0, 1, 1))
    else:
        figure, ax = canvas(ax, figsize, (1.0, 1.0))
    drawable.draw("mpl", style="iqp", fold=per_line, ax=ax)
    if title is not None:
        ax.set_title(title, loc="left", color=INK)
    return saved(figure, filename, formulas=True)


def _short_names(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with parameters called x0, x1 ... and w0, w1 ..., which fit into their boxes."""
    from qiskit.circuit import Parameter

    names, taken = {}, {p.name for p in circuit.parameters}
    for parameter in circuit.parameters:
        stem, _, digits = parameter.name.rpartition("_")
        if stem in ("input", "weight") and digits.isdigit():
            short = f"{'x' if stem == 'input' else 'w'}{int(digits)}"
            if short not in taken:
                names[parameter] = Parameter(short)
    return circuit.assign_parameters(names) if names else circuit
