# SPDX-License-Identifier: Apache-2.0
"""What people look at: figures, the HTML report, the table in the terminal.

`write(result, out)` makes the report of a finished study; every figure in it is also a function of
the rows, for papers and notebooks.
"""

from __future__ import annotations

from qiskit_kd.report.diagnostics import (
    plot_circuit,
    plot_curves,
    plot_distributions,
    plot_gradients,
)
from qiskit_kd.report.figures import plot_accuracy, plot_gains, plot_parameters
from qiskit_kd.report.page import render, write
from qiskit_kd.report.terminal import terminal_table

__all__ = [
    "plot_accuracy",
    "plot_circuit",
    "plot_curves",
    "plot_distributions",
    "plot_gains",
    "plot_gradients",
    "plot_parameters",
    "render",
    "terminal_table",
    "write",
]
