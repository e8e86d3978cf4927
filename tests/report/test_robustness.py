# SPDX-License-Identifier: Apache-2.0
"""Robustness: accuracy and paired gain against the level of each disturbance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from qiskit_kd.errors import DataError
from qiskit_kd.report import plot_robustness
from qiskit_kd.report.robustness import kinds_of
from qiskit_kd.report.summary import values

from .fake_axes import make

ROWS = make(seeds=4, train=(500,), sees=("all",), maps=False).rows


def test_conventions_and_two_panels_per_kind(tmp_path: Path) -> None:
    file = tmp_path / "robustness.png"
    figure = plot_robustness(ROWS, title="Noise", figsize=(8, 5), filename=file)
    assert tuple(figure.get_size_inches()) == (8, 5)
    assert figure.get_suptitle() == "Noise"
    assert len(figure.axes) == 4
    assert [ax.get_xlabel() for ax in figure.axes[2:]] == [
        "standard deviation of Gaussian noise", "rotation, degrees",
    ]  # fmt: skip
    assert kinds_of(ROWS) == ["noise", "rotation"]
    assert file.stat().st_size > 1000


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


def test_draws_into_given_axes() -> None:
    figure = Figure()
    axes = list(figure.subplots(2, 2).flat)
    assert plot_robustness(ROWS, ax=axes) is figure
    assert all(ax.has_data() for ax in axes)
    with pytest.raises(
        DataError,
        match=r"two axes per kind of disturbance; got 3 axes; expected 4 for noise, rotation\. "
        r"Pass that many, or leave `ax` out\.",
    ):
        plot_robustness(ROWS, ax=axes[:3])


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
