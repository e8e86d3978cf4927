# SPDX-License-Identifier: Apache-2.0
"""The figure of shots: what is drawn where, with which band, and what it refuses."""

from __future__ import annotations

import matplotlib.figure
import numpy as np
import pytest

from qiskit_kd.errors import DataError
from qiskit_kd.report.grid import at
from qiskit_kd.report.shots import plot_shots, shots_of
from qiskit_kd.report.tally import looks_of

from .fake_axes import make as without_shots
from .fake_noise import grid, make

RESULT = make(devices=("torino",))
PLACES = [(p, p["encoding"]) for p in grid(RESULT).points if p["scale"] == 1]
LOOKS = looks_of(RESULT, student="sharp")


def test_numbers_of_shots() -> None:
    assert shots_of(RESULT.rows) == [64, 1024, 16384]
    assert shots_of([{"student": "sharp"}]) == []


@pytest.mark.parametrize(("metric", "factor"), [("accuracy", 100.0), ("kl", 1.0)])
def test_lines_are_means_with_their_intervals(metric: str, factor: float) -> None:
    figure = plot_shots(RESULT.rows, points=PLACES, looks=LOOKS, metric=metric)
    panel = figure.axes[1]
    assert panel.get_xscale() == "log"
    rows = [r for r in at(RESULT.rows, PLACES[1][0]) if r["student"] == "sharp"]
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
    figure = plot_shots(RESULT.rows, points=PLACES, looks=LOOKS)
    first, second = figure.axes
    assert first.get_ylabel() == "test accuracy, %"
    assert first.get_xlabel() == "shots per circuit (logarithmic)"
    labels = [text.get_text() for text in second.get_xticklabels()]
    assert labels == ["64", "1,024", "16,384", "∞"]
    assert [one.get_title(loc="left") for one in figure.axes] == ["amplitude", "angle"]
    kl = plot_shots(RESULT.rows, points=PLACES, looks=LOOKS, metric="kl", limit="as judged")
    assert kl.axes[0].get_ylabel() == "test KL(teacher ‖ student), nats"
    assert kl.axes[0].get_xticklabels()[-1].get_text() == "as judged"


def test_many_numbers_keep_labels_apart() -> None:
    rows = [
        {**r, "shots": [{"shots": 2**k, "accuracy": 0.5 + 0.01 * k} for k in range(6, 15)]}
        for r in RESULT.rows
    ]
    figure = plot_shots(rows, points=PLACES, looks=LOOKS)
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == ["64", "256", "1,024", "4,096", "16,384", "∞"]


def test_one_number_of_shots_and_one_seed() -> None:
    rows = [{**r, "shots": r["shots"][:1]} for r in RESULT.rows if r["seed"] == 0 and "shots" in r]
    figure = plot_shots(rows, points=PLACES, looks=LOOKS)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["64", "∞"]


def test_a_study_without_axes_and_axes_of_ones_own() -> None:
    rows = [{**r, "point": {}} for r in at(RESULT.rows, PLACES[0][0])]
    own = matplotlib.figure.Figure()
    ax = own.add_subplot()
    assert plot_shots(rows, ax=ax, title="mine") is own
    assert ax.get_title(loc="left") == "mine"
    assert {line.get_label() for line in ax.lines} >= {"noise free", "noisy"}


def test_refuses_rows_without_shots_and_wrong_axes() -> None:
    quiet = without_shots(seeds=1, train=(50,), sees=(), maps=False, robust=False)
    with pytest.raises(DataError, match=r"rows that carry them; got \d+ rows without. Set `eval"):
        plot_shots(quiet.rows)
    with pytest.raises(DataError, match="per panel; got 1 axes; expected 2: amplitude; angle"):
        plot_shots(RESULT.rows, points=PLACES, ax=matplotlib.figure.Figure().add_subplot())
