# SPDX-License-Identifier: Apache-2.0
"""Figures against the axis of numbers: what is drawn, where, and with which marks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from qiskit_kd.errors import DataError
from qiskit_kd.report import plot_accuracy_over, plot_curves, plot_gains_over, plot_robustness
from qiskit_kd.report.frame import Frame, gains, values
from qiskit_kd.report.grid import at, grid_of
from qiskit_kd.report.style import focused, looks_of, points, strokes

from . import fake_noise as noise
from .fake_axes import FakeStudy, kept, make
from .fake_result import make as plain

RESULT = make(seeds=5, train=(50, 500, 5000), maps=False, robust=False)
PLACEBOS = {"untrained", "shuffled"}


def draw(plot: Callable[..., Figure], result: FakeStudy = RESULT, **options: Any) -> Figure:
    options = {"looks": strokes(result.rows, placebos=PLACEBOS), **options}
    if plot is plot_gains_over:
        return plot(result.rows, result.comparisons, **options)
    return plot(result.rows, **options)


PLOTS: list[Callable[..., Figure]] = [plot_accuracy_over, plot_gains_over]


@pytest.mark.parametrize("plot", PLOTS)
def test_conventions(plot: Callable[..., Figure], tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    file = tmp_path / "figure.png"
    figure = draw(plot, title="A title", figsize=(8, 3), filename=file)
    assert tuple(figure.get_size_inches()) == (8, 3)
    assert figure.get_suptitle() == "A title"
    assert file.stat().st_size > 1000
    assert dict(mpl.rcParams) == before


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
def test_draws_into_given_axes(plot: Callable[..., Figure]) -> None:
    figure = Figure()
    axes = figure.subplots(1, 3)
    assert draw(plot, ax=list(axes[1:])) is figure
    assert not axes[0].has_data()
    assert axes[1].has_data()
    assert axes[2].has_data()


@pytest.mark.parametrize("plot", PLOTS)
def test_too_few_axes(plot: Callable[..., Figure]) -> None:
    with pytest.raises(
        DataError,
        match=r"drawn into one axes per panel; got 1 axes; expected 2: sees: same; sees: all\. "
        r"Pass that many, or leave `ax` out\.",
    ):
        draw(plot, ax=Figure().subplots())


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
            for gain in gains(
                at(RESULT.rows, {"train": k, "sees": sees}), RESULT.comparisons, baseline="plain"
            ).values()
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
    result = kept(result, result.rows)
    ax = draw(plot_gains_over, result).axes[0]
    low, high = ax.get_ylim()
    assert -30 < low < 0 < high
    texts = [text.get_text() for text in ax.texts]
    found = Frame(result).contrast("convolution", "shuffled", points=[{"train": 50, "sees": "all"}])
    assert found is not None
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
        result.rows, grid=noise.grid(result), looks=looks_of(Frame(result), student="hybrid")
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
    from qiskit_kd.report import plots_evaluation, plots_sweep, plots_training

    rows = make(seeds=4, train=(500,), sees=("all",), maps=False).rows
    rows = [row | {"shots": [{"shots": n, "accuracy": row["test"]["accuracy"]} for n in (8, 64)]}
            for row in rows]  # fmt: skip
    plots: dict[str, Callable[[], Figure]] = {
        "sweep": lambda: plot_accuracy_over(rows),
        "training": lambda: plot_curves(rows, student="convolution"),
        "robustness": lambda: plot_robustness(rows),
        "shots": lambda: plots_evaluation.plot_shots(rows, points=[(rows[0]["point"], "")]),
    }
    modules = {
        "sweep": plots_sweep,
        "training": plots_training,
        "robustness": plots_evaluation,
        "shots": plots_evaluation,
    }

    def heights(shared: float) -> np.ndarray:
        monkeypatch.setattr(modules[module], "shared_variance", lambda *_: shared)
        drawn = [band for ax in plots[module]().axes for band in ax.collections]
        return np.asarray([np.ptp(path.vertices[:, 1]) for c in drawn for path in c.get_paths()])

    plain, wide = heights(0.0), heights(0.02)
    assert len(plain) == len(wide) > 1
    assert np.all(wide > plain)
    n = 4
    one = wide / plain  # of a band along a line that rises, a part
    assert one.max() <= np.sqrt((1 / n + 0.02) * n) + 1e-6
