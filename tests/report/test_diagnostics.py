# SPDX-License-Identifier: Apache-2.0
"""Figures of what happened inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from qiskit import QuantumCircuit

from qiskit_kd.circuits import hardware_efficient
from qiskit_kd.report import plot_circuit, plot_curves, plot_distributions, plot_gradients
from qiskit_kd.report.diagnostics import _held
from qiskit_kd.report.drawings import _short_names

from .fake_result import make


def test_runs_that_stopped_early_are_held_at_their_last_value() -> None:
    curves = [
        {"epoch": [1.0, 2.0, 3.0], "validation/accuracy": [0.1, 0.2, 0.3]},
        {"epoch": [1.0], "validation/accuracy": [0.5]},
    ]
    epochs, stack = _held(curves, "validation/accuracy")
    assert epochs.tolist() == [1, 2, 3]
    assert stack.tolist() == [[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]]


def test_missing_curves_and_nulls() -> None:
    assert _held([{"epoch": [1.0]}], "grad/kl")[0].size == 0
    null = [{"epoch": [1.0, 2.0], "grad/kl": [None, 0.5]}]
    assert np.isnan(_held(null, "grad/kl")[1][0, 0])  # type: ignore[arg-type]


def test_curves_draw_one_line_and_one_band_per_variant() -> None:
    ax = plot_curves(make(seeds=4).rows, student="hybrid").axes[0]
    assert len(ax.lines) == len(ax.collections) == 4
    assert ax.get_title(loc="left") == "hybrid"
    assert ax.get_ylim()[1] <= 101


def test_a_single_seed_has_no_band() -> None:
    ax = plot_curves(make(seeds=1).rows, student="hybrid").axes[0]
    assert len(ax.lines) == 4
    assert not ax.collections
    assert ax.lines[0].get_linestyle() == "--"


def test_other_curves_are_not_in_per_cent() -> None:
    rows = make(seeds=2).rows
    ax = plot_curves(rows, student="hybrid", curve="validation/loss").axes[0]
    assert ax.get_ylabel() == "validation loss"
    assert max(np.max(line.get_ydata()) for line in ax.lines) < 3


def test_gradients_have_a_line_per_term(tmp_path: Path) -> None:
    file = tmp_path / "gradients.svg"
    figure = plot_gradients(make(seeds=3).rows, student="hybrid", filename=file)
    ax = figure.axes[0]
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["ce", "kl"]
    assert ax.get_yscale() == "log"
    assert file.is_file()


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_distributions_are_two_tables_of_cells(classes: int, tmp_path: Path) -> None:
    rows = make(seeds=2, classes=classes).rows
    file = tmp_path / "distribution.svg"
    ax = plot_distributions(rows, student="hybrid", filename=file).axes[0]
    cells = [p for p in ax.patches if isinstance(p, Rectangle) and p.get_width() < 1]
    assert len(cells) == 2 * classes**2
    own = [np.asarray(r["distribution"]) for r in rows if r["student"] == "hybrid"
           and r["variant"] == "plain"]  # fmt: skip
    assert cells[0].get_alpha() == pytest.approx(0.04 + 0.96 * np.mean(own, axis=0)[0, 0])
    assert file.is_file()


def test_a_class_without_test_samples_stays_empty() -> None:
    rows = make(seeds=1, students=("hybrid",)).rows
    for row in rows:
        row["distribution"][1] = None
    ax = plot_distributions(rows, student="hybrid").axes[0]
    assert sum(isinstance(p, Rectangle) and p.get_width() < 1 for p in ax.patches) == 2 * 6


def test_circuit_is_drawn_large_enough_and_folded(tmp_path: Path) -> None:
    circuit = hardware_efficient(4, 2)
    flat = plot_circuit(circuit, title="Ansatz", filename=tmp_path / "circuit.svg")
    folded = plot_circuit(circuit, fold=6)
    assert flat.axes[0].get_title(loc="left") == "Ansatz"
    assert flat.get_size_inches()[0] > 1.4 * folded.get_size_inches()[0]
    assert flat.get_size_inches()[1] < folded.get_size_inches()[1]
    assert (tmp_path / "circuit.svg").is_file()


def test_circuit_in_given_axes() -> None:
    ax = Figure().add_subplot()
    assert plot_circuit(hardware_efficient(2, 1), ax=ax) is ax.figure
    assert ax.texts


def test_drawing_shortens_names_and_leaves_the_circuit_alone() -> None:
    circuit = hardware_efficient(2, 1)
    names = [p.name for p in circuit.parameters]
    assert [p.name for p in _short_names(circuit).parameters][:2] == ["w0", "w1"]
    assert [p.name for p in circuit.parameters] == names
    plain = QuantumCircuit(1)
    assert _short_names(plain) is plain
