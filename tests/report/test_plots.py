# SPDX-License-Identifier: Apache-2.0
"""Figures: one set of conventions for all; what those of results show."""

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
from qiskit import QuantumCircuit

from qiskit_kd import report
from qiskit_kd.circuits import hardware_efficient
from qiskit_kd.errors import DataError
from qiskit_kd.report import plot_accuracy, plot_circuit, plot_gains, plot_parameters, render
from qiskit_kd.report.frame import Frame, gain_of, values, variants_of
from qiskit_kd.report.plots import _thin
from qiskit_kd.report.plots_sweep import plot_shots
from qiskit_kd.report.plots_training import plot_fine_tuning
from qiskit_kd.report.style import look

from . import fake_axes, fake_device, fake_noise
from .fake_result import make

RESULT = make(seeds=2)
SWEEP = fake_axes.make(seeds=2, train=(50, 500), maps=False, robust=False)
ROBUST = fake_axes.make(seeds=2, train=(500,), sees=("all",))
NOISE = fake_noise.make(seeds=2, scales=(1,), devices=("torino",))
MAPS = [{**r, "feature_maps": r["feature_maps"]} for r in ROBUST.rows if "feature_maps" in r][:3]
LINES = {"student": "hybrid"}
PLOTS: dict[str, tuple[int, Callable[..., Figure]]] = {
    "accuracy": (1, lambda **o: plot_accuracy(RESULT.rows, **o)),
    "gains": (1, lambda **o: plot_gains(RESULT.rows, RESULT.comparisons, **o)),
    "parameters": (1, lambda **o: plot_parameters(RESULT.rows, **o)),
    "circuit": (1, lambda **o: plot_circuit(hardware_efficient(2, 1), **o)),
    "curves": (1, lambda **o: report.plot_curves(RESULT.rows, **LINES, **o)),
    "gradients": (1, lambda **o: report.plot_gradients(RESULT.rows, **LINES, **o)),
    "distributions": (1, lambda **o: report.plot_distributions(RESULT.rows, **LINES, **o)),
    "fine tuning": (1, lambda **o: plot_fine_tuning(
        fake_device.make(seeds=1).rows, student="sharp", variant="fine_tuned", **o)),
    "feature maps": (1, lambda **o: report.plot_feature_maps(MAPS, **o)),
    "accuracy over": (2, lambda **o: report.plot_accuracy_over(SWEEP.rows, **o)),
    "gains over": (2, lambda **o: report.plot_gains_over(SWEEP.rows, SWEEP.comparisons, **o)),
    "robustness": (4, lambda **o: report.plot_robustness(ROBUST.rows, **o)),
    "shots": (2, lambda **o: plot_shots(
        NOISE.rows, points=[(p, p["encoding"]) for p in Frame(NOISE).points], **o)),
}  # fmt: skip


@pytest.mark.parametrize("name", PLOTS)
def test_conventions(name: str, tmp_path: Path) -> None:
    count, plot = PLOTS[name]
    before, file = dict(mpl.rcParams), tmp_path / "figure.png"
    figure = plot(title="A title", figsize=(8, 5), filename=file)
    assert tuple(figure.get_size_inches()) == (8, 5)
    whole, (first, *_) = figure.get_suptitle(), figure.axes
    assert (first.get_title(loc="left") if count == 1 else whole) == "A title"
    assert file.stat().st_size > 1000
    plot(filename=tmp_path / "figure.svg")
    assert "<svg" in (tmp_path / "figure.svg").read_text()
    own = Figure()
    spare, *axes = own.subplots(1, count + 1)
    assert plot(ax=axes[0] if count == 1 else axes) is own
    assert all(ax.has_data() or (name == "circuit" and ax.texts) for ax in axes)
    assert not spare.has_data()
    assert dict(mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "accuracy over",
            r"drawn into one axes per panel; got 1 axes; expected 2: sees: same; sees: all\.",
        ),
        (
            "gains over",
            r"drawn into one axes per panel; got 1 axes; expected 2: sees: same; sees: all\.",
        ),
        ("shots", r"drawn into one axes per panel; got 1 axes; expected 2: amplitude; angle\."),
        (
            "robustness",
            r"two axes per kind of disturbance; got 1 axes; expected 4 for noise, rotation\.",
        ),
    ],
)
def test_too_few_axes(name: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"{message} Pass that many, or leave `ax` out\."):
        PLOTS[name][1](ax=Figure().subplots())


@pytest.mark.parametrize("students", [("hybrid",), ("linear", "fully_quantum")])
@pytest.mark.parametrize("seeds", [1, 2])
def test_any_number_of_students_and_seeds(students: tuple[str, ...], seeds: int) -> None:
    result = make(seeds=seeds, students=students)
    for figure in (
        plot_accuracy(result.rows),
        plot_gains(result.rows, result.comparisons),
        plot_parameters(result.rows),
    ):
        assert figure.axes[0].has_data()


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
    pairs = [c for c in result.comparisons if c["baseline"] == "plain"]
    meant = [gain_of(result.rows, c["student"], c["variant"], "plain") for c in pairs]
    assert drawn == pytest.approx(sorted(100 * gain.mean for gain in meant if gain))
    assert any(list(np.ravel(line.get_xdata())) == [0, 0] for line in ax.lines)
    colors = {line.get_color() for line in ax.lines}
    assert {look(v).color for v in ("distilled", "shuffled", "label_smoothing")} <= colors


def test_parameters_are_drawn_of_the_variants_asked_for() -> None:
    rows = make(seeds=2).rows

    def labels(**options: Any) -> set[str]:
        legend = plot_parameters(rows, **options).legends[0]
        return {text.get_text() for text in legend.get_texts()}

    assert labels() == {"teacher", "alone", "distilled", "shuffled teacher", "label smoothing"}
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
    for row in result.rows:
        row["variant"] = row["variant"].replace("plain", "labels")
    assert not plot_gains(result.rows, result.comparisons).axes[0].texts
    pairs = [{**item, "baseline": "labels"} for item in result.comparisons]
    assert plot_gains(result.rows, pairs, baseline="labels").axes[0].texts


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


def test_circuit_is_drawn_large_enough_and_folded(tmp_path: Path) -> None:
    circuit = hardware_efficient(4, 2)
    flat = plot_circuit(circuit, title="Ansatz", filename=tmp_path / "circuit.svg")
    folded = plot_circuit(circuit, fold=6)
    assert flat.axes[0].get_title(loc="left") == "Ansatz"
    assert flat.get_size_inches()[0] > 1.4 * folded.get_size_inches()[0]
    assert flat.get_size_inches()[1] < folded.get_size_inches()[1]
    assert (tmp_path / "circuit.svg").is_file()


def test_drawing_shortens_names_and_leaves_the_circuit_alone() -> None:
    circuit = hardware_efficient(2, 1)
    names = [p.name for p in circuit.parameters]
    texts = " ".join(text.get_text() for text in plot_circuit(circuit).axes[0].texts)
    assert "w0" in texts
    assert "weight" not in texts
    assert [p.name for p in circuit.parameters] == names
    assert plot_circuit(QuantumCircuit(1)).axes
