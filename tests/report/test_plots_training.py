# SPDX-License-Identifier: Apache-2.0
"""Learning curves, gradients, distributions, circuits, and curves of fine-tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from qiskit import QuantumCircuit

from qiskit_kd.circuits import hardware_efficient
from qiskit_kd.errors import DataError
from qiskit_kd.report import plot_circuit, plot_curves, plot_distributions, plot_gradients
from qiskit_kd.report.plots import _short_names
from qiskit_kd.report.plots_training import _held, plot_fine_tuning

from . import fake_device, fake_result


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
    ax = plot_curves(fake_result.make(seeds=4).rows, student="hybrid").axes[0]
    assert len(ax.lines) == len(ax.collections) == 4
    assert ax.get_title(loc="left") == "hybrid"
    assert ax.get_ylim()[1] <= 101


def test_a_single_seed_has_no_band() -> None:
    ax = plot_curves(fake_result.make(seeds=1).rows, student="hybrid").axes[0]
    assert len(ax.lines) == 4
    assert not ax.collections
    assert ax.lines[0].get_linestyle() == "--"


def test_other_curves_are_not_in_per_cent() -> None:
    rows = fake_result.make(seeds=2).rows
    ax = plot_curves(rows, student="hybrid", curve="validation/loss").axes[0]
    assert ax.get_ylabel() == "validation loss"
    assert max(np.max(line.get_ydata()) for line in ax.lines) < 3


def test_gradients_have_a_line_per_term(tmp_path: Path) -> None:
    file = tmp_path / "gradients.svg"
    figure = plot_gradients(fake_result.make(seeds=3).rows, student="hybrid", filename=file)
    ax = figure.axes[0]
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["ce", "kl"]
    assert ax.get_yscale() == "log"
    assert file.is_file()


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_distributions_are_two_tables_of_cells(classes: int, tmp_path: Path) -> None:
    rows = fake_result.make(seeds=2, classes=classes).rows
    file = tmp_path / "distribution.svg"
    ax = plot_distributions(rows, student="hybrid", filename=file).axes[0]
    cells = [p for p in ax.patches if isinstance(p, Rectangle) and p.get_width() < 1]
    assert len(cells) == 2 * classes**2
    own = [np.asarray(r["distribution"]) for r in rows if r["student"] == "hybrid"
           and r["variant"] == "plain"]  # fmt: skip
    assert cells[0].get_alpha() == pytest.approx(0.04 + 0.96 * np.mean(own, axis=0)[0, 0])
    assert file.is_file()


def test_a_class_without_test_samples_stays_empty() -> None:
    rows = fake_result.make(seeds=1, students=("hybrid",)).rows
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


def drawn(figure: Figure) -> list[tuple[list[float], list[float], str]]:
    """Every line with the colour its points are filled with."""
    (ax,) = figure.axes
    return [
        ([float(x) for x in line.get_xdata()], [float(y) for y in line.get_ydata()],
         str(line.get_markerfacecolor()))
        for line in ax.get_lines()
    ]  # fmt: skip


def test_a_line_per_seed_from_the_start_and_a_point_at_the_epoch_kept() -> None:
    figure = plot_fine_tuning(fake_device.make(seeds=3).rows, student="sharp", variant="fine_tuned")
    found = drawn(figure)
    curves = [line for line in found if len(line[0]) > 1]
    points = [line for line in found if len(line[0]) == 1]
    assert [x for x, _, _ in curves] == [[0, 1, 2, 3]] * 3
    assert [y[0] for _, y, _ in curves] == [0.4, 0.6, 0.6]
    assert [(x[0], y[0]) for x, y, _ in points] == [(0, 0.4), (2, 0.45), (2, 0.45)]
    assert all(fill == "none" for _, _, fill in curves)
    assert all(fill != "none" for _, _, fill in points)
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2", "3"]
    # All end at the same loss, so one name is enough.
    assert [text.get_text() for text in ax.texts] == ["0, 1, 2"]


def test_rows_that_do_not_tell_have_neither() -> None:
    rows = fake_device.make(seeds=2, kept=False).rows
    found = drawn(plot_fine_tuning(rows, student="sharp", variant="fine_tuned"))
    assert [x for x, _, _ in found] == [[1, 2, 3]] * 2


def test_lines_that_end_apart_are_named_apart_and_a_diverged_one_is_left_open() -> None:
    rows = [row for row in fake_device.make(seeds=3).rows if "fine_tuning" in row]
    for row, loss in zip(rows, (0.3, 0.9, None), strict=True):
        row["fine_tuning"]["curves"]["validation/loss"][-1] = loss
    figure = plot_fine_tuning(rows, student="sharp", variant="fine_tuned")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "1"]


def test_one_epoch_has_whole_ticks() -> None:
    rows = [row for row in fake_device.make(seeds=1, kept=False).rows if "fine_tuning" in row]
    curves = rows[0]["fine_tuning"]["curves"]
    curves |= {"epoch": [1.0], "validation/loss": [0.5]}
    figure = plot_fine_tuning(rows, student="sharp", variant="fine_tuned")
    assert figure.axes[0].get_xticks().tolist() == [1]


def test_given_axes_and_a_file(tmp_path: Path) -> None:
    figure = Figure()
    ax = figure.add_subplot()
    rows = fake_device.make(seeds=1).rows
    file = tmp_path / "curves.svg"
    found = plot_fine_tuning(
        rows, student="sharp", variant="fine_tuned", ax=ax, title="Here", filename=file
    )
    assert found is figure
    assert ax.get_title(loc="left") == "Here"
    assert "<svg" in file.read_text()


def test_rows_without_a_second_stage_are_refused() -> None:
    with pytest.raises(
        DataError,
        match=r"^the curves of a second stage are drawn of rows that had one; got none of 'sharp', "
        r"'labels'; expected rows with fine_tuning\. Name a variant with fine_tune\.$",
    ):
        plot_fine_tuning(fake_device.make(seeds=1).rows, student="sharp", variant="labels")
