# SPDX-License-Identifier: Apache-2.0
"""The figure of a second stage of training."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from qiskit_kd.errors import DataError
from qiskit_kd.report.fine_tuning import plot_fine_tuning

from .fake_device import make


def drawn(figure: Figure) -> list[tuple[list[float], list[float], str]]:
    """Every line with the colour its points are filled with."""
    (ax,) = figure.axes
    return [
        ([float(x) for x in line.get_xdata()], [float(y) for y in line.get_ydata()],
         str(line.get_markerfacecolor()))
        for line in ax.get_lines()
    ]  # fmt: skip


def test_a_line_per_seed_from_the_start_and_a_point_at_the_epoch_kept() -> None:
    figure = plot_fine_tuning(make(seeds=3).rows, student="sharp", variant="fine_tuned")
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
    rows = make(seeds=2, kept=False).rows
    found = drawn(plot_fine_tuning(rows, student="sharp", variant="fine_tuned"))
    assert [x for x, _, _ in found] == [[1, 2, 3]] * 2


def test_lines_that_end_apart_are_named_apart_and_a_diverged_one_is_left_open() -> None:
    rows = [row for row in make(seeds=3).rows if "fine_tuning" in row]
    for row, loss in zip(rows, (0.3, 0.9, None), strict=True):
        row["fine_tuning"]["curves"]["validation/loss"][-1] = loss
    figure = plot_fine_tuning(rows, student="sharp", variant="fine_tuned")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "1"]


def test_one_epoch_has_whole_ticks() -> None:
    rows = [row for row in make(seeds=1, kept=False).rows if "fine_tuning" in row]
    curves = rows[0]["fine_tuning"]["curves"]
    curves |= {"epoch": [1.0], "validation/loss": [0.5]}
    figure = plot_fine_tuning(rows, student="sharp", variant="fine_tuned")
    assert figure.axes[0].get_xticks().tolist() == [1]


def test_given_axes_and_a_file(tmp_path: Path) -> None:
    figure = Figure()
    ax = figure.add_subplot()
    rows = make(seeds=1).rows
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
        plot_fine_tuning(make(seeds=1).rows, student="sharp", variant="labels")
