# SPDX-License-Identifier: Apache-2.0
"""Figures against the axis of numbers: what is drawn, where, and with which marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from qiskit_kd.errors import DataError
from qiskit_kd.report import plot_accuracy_over, plot_curves, plot_gains_over, plot_robustness
from qiskit_kd.report.drawing import focused
from qiskit_kd.report.frame import Frame, gain_of, values
from qiskit_kd.report.grid import at, grid_of
from qiskit_kd.report.plots_sweep import kinds_of, plot_shots, shots_of
from qiskit_kd.report.style import looks_of, points, strokes

from . import fake_axes
from . import fake_noise as noise
from .fake_axes import make
from .fake_result import FakeResult
from .fake_result import make as plain

RESULT = make(seeds=5, train=(50, 500, 5000), maps=False, robust=False)
PLACEBOS = {"untrained", "shuffled"}


def draw(plot: Callable[..., Figure], result: FakeResult = RESULT, **options: Any) -> Figure:
    options = {"looks": strokes(result.rows, placebos=PLACEBOS), **options}
    if plot is plot_gains_over:
        return plot(result.rows, result.comparisons, **options)
    return plot(result.rows, **options)


PLOTS: list[Callable[..., Figure]] = [plot_accuracy_over, plot_gains_over]


@pytest.mark.parametrize("plot", PLOTS)
def test_a_panel_per_combination_and_ticks_at_the_values(plot: Callable[..., Figure]) -> None:
    figure = draw(plot, grid=grid_of(RESULT))
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "teacher data: same", "teacher data: all",
    ]  # fmt: skip
    for ax in figure.axes:
        assert ax.get_xscale() == "log"
        assert [t.get_text() for t in ax.get_xticklabels()] == ["50", "500", "5,000"]
        assert ax.get_xlabel() == "labelled samples K (logarithmic)"


@pytest.mark.parametrize("plot", PLOTS)
def test_one_axis_of_words_is_one_panel(plot: Callable[..., Figure]) -> None:
    result = make(seeds=2, train=(), maps=False, robust=False)
    (ax,) = draw(plot, result, grid=grid_of(result)).axes
    assert ax.get_xscale() == "linear"
    assert [t.get_text() for t in ax.get_xticklabels()] == ["same", "all"]


@pytest.mark.parametrize("plot", PLOTS)
def test_a_study_without_axes(plot: Callable[..., Figure]) -> None:
    result = plain(seeds=2, students=("hybrid",))
    with pytest.raises(
        DataError,
        match=r"this figure is about a study with axes; got rows without a point\. Use "
        r"`plot_accuracy` and `plot_gains` for a study without axes\.",
    ):
        draw(plot, result)  # type: ignore[arg-type]


def test_lines_are_the_means_and_teachers_have_no_band() -> None:
    ax = draw(plot_accuracy_over).axes[0]
    lines = {str(line.get_label()): line for line in ax.lines}
    means = [
        100 * np.mean([*values(at(RESULT.rows, {"train": k, "sees": "same"}), "convolution",
                               "soft", "accuracy").values()])
        for k in (50, 500, 5000)
    ]  # fmt: skip
    assert np.asarray(lines["soft"].get_ydata()) == pytest.approx(means)
    assert list(np.asarray(lines["soft"].get_xdata())) == [50, 500, 5000]
    assert len(ax.collections) == len(lines) - 2
    assert lines["teacher hybrid"].get_linewidth() < lines["soft"].get_linewidth()


def test_all_panels_share_one_legend_with_every_line_once() -> None:
    figure = draw(plot_accuracy_over)
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert len(labels) == len(set(labels)) == 9
    assert not any(ax.get_legend() for ax in figure.axes)


def test_marks_say_the_verdict_and_lie_at_the_gain() -> None:
    figure = draw(plot_gains_over)
    for ax, sees in zip(figure.axes, ("same", "all"), strict=True):
        meant = [
            gain
            for k in (50, 500, 5000)
            for variant in fake_axes.GAINS
            if (
                gain := gain_of(
                    at(RESULT.rows, {"train": k, "sees": sees}), "convolution", variant, "plain"
                )
            )
        ]
        single = [line for line in ax.lines if np.size(line.get_ydata()) == 1]

        def heights(lines: list[Any]) -> list[float]:
            return sorted(float(np.ravel(line.get_ydata())[0]) for line in lines)

        def wanted(verdict: str, meant: Any = meant) -> Any:
            return pytest.approx(sorted(100 * g.mean for g in meant if g.verdict == verdict))

        crossed = [line for line in single if line.get_marker() == "x"]
        paper = [line for line in single if line.get_markeredgewidth() == 0]
        marks = [line for line in single if line not in crossed and line not in paper]
        filled = [line for line in marks if line.get_markerfacecolor() != "none"]
        assert len(marks) == len(meant) == len(paper)
        assert heights(crossed) == wanted("harmful")
        assert heights(filled) == wanted("confirmed")
    assert any(g.verdict == "harmful" for g in meant)
    assert any(g.verdict == "confirmed" for g in meant)


def test_intervals_of_one_value_stand_side_by_side() -> None:
    ax = draw(plot_gains_over).axes[1]
    bars = [np.asarray(x.get_xdata()) for x in ax.lines if np.size(x.get_xdata()) == 2]
    places = sorted(float(x[0]) for x in bars if x[0] == x[1])
    assert len(places) == len(set(places)) == 15


def test_a_single_seed_and_unfinished_points_are_drawn_too() -> None:
    result = make(seeds=1, train=(50, 500), maps=False, robust=False)
    result.rows = [r for r in result.rows if r["point"] != {"train": 500, "sees": "all"}]
    for plot in PLOTS:
        assert draw(plot, result, grid=grid_of(result)).axes[1].has_data()


def test_a_placebo_far_off_is_an_arrow_with_its_gain() -> None:
    result = make(seeds=5, train=(50, 500), sees=("all",), maps=False, robust=False)
    for row in result.rows:
        if row["variant"] == "shuffled":
            row["test"]["accuracy"] -= 0.4
    ax = draw(plot_gains_over, result).axes[0]
    low, high = ax.get_ylim()
    assert -30 < low < 0 < high
    texts = [text.get_text() for text in ax.texts]
    found = Frame(result).contrast("convolution", "shuffled", points=[{"train": 50, "sees": "all"}])
    assert len(texts) == 2
    assert texts[0] == points(found.places[0][1].mean)
    assert not draw(plot_gains_over).axes[0].texts


@given(st.lists(st.floats(-50, 50), min_size=1), st.lists(st.floats(-500, 500)))
def test_limits_hold_the_treatments_and_no_outlier_dwarfs_them(
    main: list[float], others: list[float]
) -> None:
    low, high = focused(main, others, least=4.0)
    assert low < min(main) <= max(main) < high
    span = max(max(main) - min(main), 4.0)
    assert 4.0 <= high - low <= 2.81 * span


def test_a_divergence_is_drawn_in_nats_and_not_cut_at_one() -> None:
    result = noise.make(devices=("torino",), encodings=("angle",))
    rows = [{**r, "test": {**r["test"], "kl": 2.0 + r["seed"]}} if "kl" in r["test"] else r
            for r in result.rows]  # fmt: skip
    figure = plot_accuracy_over(rows, metric="kl", looks=looks_of(Frame(result), student="sharp"))
    (panel,) = figure.axes
    assert panel.get_ylabel() == "test KL(teacher ‖ student), nats"
    line = next(one for one in panel.lines if one.get_label() == "noisy")
    assert line.get_ydata() == pytest.approx([4.0] * 3)
    assert max(panel.get_ylim()) > 4.0 + 1.9  # the band's end
    # Teachers have no divergence from themselves.
    assert not any("teacher " in str(one.get_label()) for one in panel.lines)


def test_three_panels_or_six_stand_in_rows_of_three() -> None:
    result = noise.make(seeds=2, encodings=("amplitude", "amplitude_mps", "angle"))
    figure = plot_accuracy_over(
        result.rows, grid=grid_of(result), looks=looks_of(Frame(result), student="hybrid")
    )
    tops = [round(one.get_position().y1, 2) for one in figure.axes]
    assert len(set(tops[:3])) == len(set(tops[3:])) == 1
    assert tops[0] > tops[3]
    assert figure.axes[1].get_title(loc="left") == "device: torino\nencoding: amplitude mps"
    assert [bool(one.get_ylabel()) for one in figure.axes] == [True, False, False] * 2
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["0", "1", "2"]
    assert figure.axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("module", ["sweep", "training", "robustness", "shots"])
def test_bands_allow_for_samples_that_seeds_share(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qiskit_kd.report import plots_sweep, plots_training

    rows = make(seeds=4, train=(500,), sees=("all",), maps=False).rows
    rows = [row | {"shots": [{"shots": n, "accuracy": row["test"]["accuracy"]} for n in (8, 64)]}
            for row in rows]  # fmt: skip
    plots: dict[str, Callable[[], Figure]] = {
        "sweep": lambda: plot_accuracy_over(rows),
        "training": lambda: plot_curves(rows, student="convolution"),
        "robustness": lambda: plot_robustness(rows),
        "shots": lambda: plot_shots(rows, points=[(rows[0]["point"], "")]),
    }
    patched = plots_training if module == "training" else plots_sweep

    def heights(shared: float) -> np.ndarray:
        monkeypatch.setattr(patched, "shared_variance", lambda *_: shared)
        drawn = [band for ax in plots[module]().axes for band in ax.collections]
        return np.asarray([np.ptp(path.vertices[:, 1]) for c in drawn for path in c.get_paths()])

    plain, wide = heights(0.0), heights(0.02)
    assert len(plain) == len(wide) > 1
    assert np.all(wide > plain)
    n = 4
    one = wide / plain  # of a band along a line that rises, a part
    assert one.max() <= np.sqrt((1 / n + 0.02) * n) + 1e-6


# Shots and disturbances.

NOISE = noise.make(devices=("torino",))
PLACES = [(p, p["encoding"]) for p in Frame(NOISE).points if p["scale"] == 1]
LOOKS = looks_of(Frame(NOISE), student="sharp")


@pytest.mark.parametrize(("metric", "factor"), [("accuracy", 100.0), ("kl", 1.0)])
def test_lines_are_means_with_their_intervals(metric: str, factor: float) -> None:
    figure = plot_shots(NOISE.rows, points=PLACES, looks=LOOKS, metric=metric)
    panel = figure.axes[1]
    assert panel.get_xscale() == "log"
    rows = [r for r in at(NOISE.rows, PLACES[1][0]) if r["student"] == "sharp"]
    mine = [r for r in rows if r["variant"] == "from_quantum"]
    numbers = factor * np.array([[e[metric] for e in r["shots"]] for r in mine])
    lines = [one for one in panel.lines if one.get_label() == "from quantum"]
    assert lines[0].get_xdata() == pytest.approx([64, 1024, 16384])
    assert lines[0].get_ydata() == pytest.approx(numbers.mean(axis=0))
    # The detached mark is what the row itself reached.
    whole = factor * np.array([r["test"][metric] for r in mine])
    assert lines[1].get_ydata() == pytest.approx([whole.mean()])
    assert lines[1].get_xdata()[0] > 16384
    half = 2.7764451 * numbers.std(axis=0, ddof=1) / np.sqrt(5)
    bands = [c for c in panel.collections if len(c.get_paths()[0].vertices) > 2]
    ends = [band.get_datalim(panel.transData) for band in bands]
    low, high = (numbers.mean(axis=0) - half).min(), (numbers.mean(axis=0) + half).max()
    assert any(box.y0 == pytest.approx(low) and box.y1 == pytest.approx(high) for box in ends)


def test_axes_are_named_and_the_limit_is_marked() -> None:
    figure = plot_shots(NOISE.rows, points=PLACES, looks=LOOKS)
    first, second = figure.axes
    assert first.get_ylabel() == "test accuracy, %"
    assert first.get_xlabel() == "shots per circuit (logarithmic)"
    labels = [text.get_text() for text in second.get_xticklabels()]
    assert labels == ["64", "1,024", "16,384", "∞"]
    assert [one.get_title(loc="left") for one in figure.axes] == ["amplitude", "angle"]
    kl = plot_shots(NOISE.rows, points=PLACES, looks=LOOKS, metric="kl", limit="as judged")
    assert kl.axes[0].get_ylabel() == "test KL(teacher ‖ student), nats"
    assert kl.axes[0].get_xticklabels()[-1].get_text() == "as judged"


def test_many_numbers_keep_labels_apart() -> None:
    rows = [
        {**r, "shots": [{"shots": 2**k, "accuracy": 0.5 + 0.01 * k} for k in range(6, 15)]}
        for r in NOISE.rows
    ]
    figure = plot_shots(rows, points=PLACES, looks=LOOKS)
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == ["64", "256", "1,024", "4,096", "16,384", "∞"]


def test_numbers_of_shots() -> None:
    assert shots_of(NOISE.rows) == [64, 1024, 16384]
    assert shots_of([{"student": "sharp"}]) == []


def test_one_number_of_shots_and_one_seed() -> None:
    rows = [{**r, "shots": r["shots"][:1]} for r in NOISE.rows if r["seed"] == 0 and "shots" in r]
    figure = plot_shots(rows, points=PLACES, looks=LOOKS)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["64", "∞"]


def test_a_study_without_axes_and_rows_without_shots() -> None:
    rows = [{**r, "point": {}} for r in at(NOISE.rows, PLACES[0][0])]
    assert {line.get_label() for line in plot_shots(rows).axes[0].lines} >= {"noise free", "noisy"}
    with pytest.raises(DataError, match=r"rows that carry them; got \d+ rows without. Set `eval"):
        plot_shots(RESULT.rows)


ROWS = fake_axes.make(seeds=4, train=(500,), sees=("all",), maps=False).rows


def test_two_panels_per_kind() -> None:
    assert [ax.get_xlabel() for ax in plot_robustness(ROWS).axes] == [
        "", "", "standard deviation of Gaussian noise", "rotation, degrees",
    ]  # fmt: skip
    assert kinds_of(ROWS) == ["noise", "rotation"]


def test_lines_begin_with_the_undisturbed_test_and_end_at_the_last_level() -> None:
    axes = plot_robustness(ROWS).axes
    line = next(x for x in axes[0].lines if x.get_label() == "soft")
    assert np.asarray(line.get_xdata()) == pytest.approx([0, 0.1, 0.2, 0.3])
    test = np.mean([*values(ROWS, "convolution", "soft", "accuracy").values()])
    assert np.asarray(line.get_ydata())[0] == pytest.approx(100 * test)
    last = [
        e["accuracy"] for r in ROWS if (r["student"], r["variant"]) == ("convolution", "soft")
        for e in r["robustness"] if (e["kind"], e["level"]) == ("noise", 0.3)
    ]  # fmt: skip
    assert np.asarray(line.get_ydata())[-1] == pytest.approx(100 * np.mean(last))


def test_gains_are_paired_differences_to_the_student_alone() -> None:
    axes = plot_robustness(ROWS).axes
    line = next(x for x in axes[2].lines if x.get_label() == "features")
    alone = {r["seed"]: r for r in ROWS if (r["student"], r["variant"]) == ("convolution", "plain")}
    taught = [r for r in ROWS if (r["student"], r["variant"]) == ("convolution", "features")]
    meant = [
        np.mean([r["robustness"][k]["accuracy"] - alone[r["seed"]]["robustness"][k]["accuracy"]
                 for r in taught])
        for k in range(3)
    ]  # fmt: skip
    assert np.asarray(line.get_ydata())[1:] == pytest.approx([100 * m for m in meant])
    labels = {str(x.get_label()) for x in axes[2].lines}
    assert not labels & {"convolution alone", "quanvolution alone", "teacher hybrid"}


def test_rows_without_it() -> None:
    rows = [{**row, "robustness": []} for row in ROWS[:2]]
    with pytest.raises(
        DataError,
        match=r"robustness is drawn of rows that carry it; got 2 rows without\. Set `evaluation: "
        r"\{robustness: \{noise: \[\.\.\.\], rotation: \[\.\.\.\]\}\}` and run the study again\.",
    ):
        plot_robustness(rows)


def test_one_kind_and_one_seed() -> None:
    rows = [
        {**row, "robustness": [e for e in row["robustness"] if e["kind"] == "rotation"]}
        for row in ROWS if row["seed"] == 0
    ]  # fmt: skip
    figure = plot_robustness(rows)
    assert len(figure.axes) == 2
    assert not figure.axes[0].collections
