# SPDX-License-Identifier: Apache-2.0
"""What people look at: figures, the HTML report, the table in the terminal.

`write(result, out)` makes the report of a finished study; every figure in it is also a function of
the rows, for papers and notebooks.
"""

from __future__ import annotations

from qiskit_kd.report.axes import plot_accuracy_over, plot_gains_over
from qiskit_kd.report.diagnostics import plot_curves, plot_distributions, plot_gradients
from qiskit_kd.report.drawings import plot_circuit
from qiskit_kd.report.figures import plot_accuracy, plot_gains, plot_parameters
from qiskit_kd.report.maps import plot_feature_maps
from qiskit_kd.report.page import render, write
from qiskit_kd.report.robustness import plot_robustness
from qiskit_kd.report.terminal import terminal_table

__all__ = [
    "plot_accuracy",
    "plot_accuracy_over",
    "plot_circuit",
    "plot_curves",
    "plot_distributions",
    "plot_feature_maps",
    "plot_gains",
    "plot_gains_over",
    "plot_gradients",
    "plot_parameters",
    "plot_robustness",
    "render",
    "terminal_table",
    "write",
]
