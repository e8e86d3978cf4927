# SPDX-License-Identifier: Apache-2.0
"""Figures of results: what is drawn, where it goes, and that no global state is touched."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from qiskit_kd.report import plot_accuracy, plot_gains, plot_parameters, render
from qiskit_kd.report.frame import gains, values, variants_of
from qiskit_kd.report.plots import _thin
from qiskit_kd.report.style import look

from .fake_result import FakeResult, make

Plot = Callable[..., Figure]


def call(plot: Plot, result: FakeResult, **options: Any) -> Figure:
    if plot is plot_gains:
        return plot(result.rows, result.comparisons, **options)
    return plot(result.rows, **options)


PLOTS = [plot_accuracy, plot_gains, plot_parameters]


@pytest.mark.parametrize("plot", PLOTS)
def test_conventions(plot: Plot, tmp_path: Path) -> None:
    result = make(seeds=3)
    before = dict(mpl.rcParams)
    file = tmp_path / "figure.png"
    figure = call(plot, result, title="A title", figsize=(4, 3), filename=file)
    assert isinstance(figure, Figure)
    assert tuple(figure.get_size_inches()) == (4, 3)
    assert figure.axes[0].get_title(loc="left") == "A title"
    assert file.stat().st_size > 1000
    assert dict(mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


@pytest.mark.parametrize("plot", PLOTS)
def test_draws_into_given_axes(plot: Plot) -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert call(plot, make(seeds=2), ax=right) is figure
    assert right.has_data()
    assert not left.has_data()


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize("students", [("hybrid",), ("linear", "fully_quantum")])
def test_any_number_of_students_and_seeds(plot: Plot, students: tuple[str, ...]) -> None:
    for seeds in (1, 2):
        assert call(plot, make(seeds=seeds, students=students)).axes[0].has_data()


def test_accuracy_bars_are_the_means_and_every_seed_is_a_point() -> None:
    result = make(seeds=5, students=("hybrid",))
    ax = plot_accuracy(result.rows).axes[0]
    widths = [bar.get_width() for bar in ax.patches if isinstance(bar, Rectangle)]
    means = [
        100 * np.mean(list(values(result.rows, "hybrid", variant, "accuracy").values()))
        for variant in variants_of(result.rows)
    ]
    assert widths[:4] == pytest.approx(means)
    points = [c for c in ax.collections if isinstance(c, PathCollection)]
    assert [len(np.asarray(c.get_offsets())) for c in points] == [5, 5, 5, 5]


def test_a_single_seed_is_hollow_and_has_no_whisker() -> None:
    ax = plot_accuracy(make(seeds=1, students=("hybrid",)).rows).axes[0]
    points = [c for c in ax.collections if isinstance(c, PathCollection)]
    assert points
    assert all(len(np.asarray(c.get_facecolor())) == 0 for c in points)
    assert len(ax.containers) == 4  # bars only, no error bars


def test_gains_lie_where_the_comparisons_say_and_zero_is_marked() -> None:
    result = make(seeds=4)
    ax = plot_gains(result.rows, result.comparisons).axes[0]
    marks = [line for line in ax.lines if line.get_marker() in ("D", "^", "s")]
    drawn = sorted(float(np.ravel(line.get_xdata())[0]) for line in marks)
    meant = gains(result.rows, result.comparisons, baseline="plain")
    assert drawn == pytest.approx(sorted(100 * gain.mean for gain in meant.values()))
    assert any(list(np.ravel(line.get_xdata())) == [0, 0] for line in ax.lines)
    colors = {line.get_color() for line in ax.lines}
    assert {look(v).color for v in ("distilled", "shuffled", "label_smoothing")} <= colors


def test_parameters_are_drawn_of_the_variants_asked_for() -> None:
    rows = make(seeds=2).rows

    def labels(**options: Any) -> set[str]:
        legend = plot_parameters(rows, **options).legends[0]
        return {text.get_text() for text in legend.get_texts()}

    assert labels() == {
        "teacher",
        "alone",
        "distilled",
        "shuffled teacher",
        "label smoothing",
    }
    assert labels(variants=["plain", "shuffled"]) == {"teacher", "alone", "shuffled teacher"}


def test_names_beside_the_points_do_not_overlap() -> None:
    ax = plot_parameters(make(seeds=3).rows).axes[0]
    left = sorted(t.get_position()[1] for t in ax.texts if t.get_horizontalalignment() == "right")
    low, high = ax.get_ylim()
    assert len(left) == 5
    assert min(np.diff(left)) > 0.05 * (high - low)


def test_ticks_are_thinned() -> None:
    assert _thin([74, 75, 195, 1203]) == [74, 195, 1203]


def test_one_seed_does_not_zoom_into_nothing() -> None:
    result = make(seeds=1, students=("hybrid",), variants=("plain",))
    result.rows = [row for row in result.rows if row["student"] == "hybrid"]
    ax = plot_parameters(result.rows).axes[0]
    low, high = ax.get_ylim()
    left, right = ax.get_xlim()
    assert high - low >= 10
    assert right / left >= 3
    pair = make(seeds=1, students=("hybrid",), variants=("plain", "distilled"))
    left, right = plot_gains(pair.rows, pair.comparisons).axes[0].get_xlim()
    assert right - left >= 6


def test_intervals_end_where_accuracies_end() -> None:
    result = make(seeds=2, students=("hybrid",))
    for row in result.rows:
        row["test"]["accuracy"] = 0.9 if row["seed"] else 1.0  # half width 0.64
    for plot, axis in ((plot_accuracy, 0), (plot_parameters, 1)):
        ax = plot(result.rows).axes[0]
        bars = [c for c in ax.collections if isinstance(c, LineCollection)]
        ends = np.concatenate([np.asarray(s)[:, axis] for bar in bars for s in bar.get_segments()])
        assert len(ends)
        assert ends.min() >= 0
        assert ends.max() <= 100


def test_gains_over_a_baseline_of_another_name() -> None:
    result = make(seeds=2, students=("hybrid",))
    for item in result.comparisons:
        item["baseline"] = item["baseline"].replace("plain", "labels")
    for row in result.rows:
        row["variant"] = row["variant"].replace("plain", "labels")
    assert not plot_gains(result.rows, result.comparisons).axes[0].texts
    assert plot_gains(result.rows, result.comparisons, baseline="labels").axes[0].texts


@pytest.mark.parametrize("placebo", ["distilled", "shuffled"])
def test_the_page_knows_placebos_by_what_they_are(placebo: str) -> None:
    result = make(
        seeds=2, students=("hybrid", "linear"), variants=("plain", "distilled", "shuffled")
    )
    terms = [{"loss": "ce"}, {"loss": "kl"}]
    result.config["variants"] = {"plain": {"terms": [{"loss": "ce"}]}} | {
        name: {"terms": terms, "teacher": "teacher"}
        | ({"placebo": "shuffled"} if name == placebo else {})
        for name in ("distilled", "shuffled")
    }
    _, drawings = render(result)
    shown = drawings["parameters-accuracy"]
    assert (">distilled<" in shown, ">shuffled teacher<" in shown) == (
        placebo == "shuffled",
        placebo == "distilled",
    )
