# SPDX-License-Identifier: Apache-2.0
"""What people look at: figures, the HTML report, the table in the terminal.

`write(result, out)` makes the report of a finished study; every figure in it is also a function of
the rows, for papers and notebooks.
"""

from __future__ import annotations

from qiskit_kd.report.page import render, terminal_table, write
from qiskit_kd.report.plots import plot_accuracy, plot_circuit, plot_gains, plot_parameters
from qiskit_kd.report.plots_sweep import plot_accuracy_over, plot_gains_over, plot_robustness
from qiskit_kd.report.plots_training import (
    plot_curves,
    plot_distributions,
    plot_feature_maps,
    plot_gradients,
)

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
