# SPDX-License-Identifier: Apache-2.0
"""Figures of shots, disturbed samples and feature maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from matplotlib.figure import Figure

from qiskit_kd.errors import DataError
from qiskit_kd.report import plot_feature_maps, plot_robustness
from qiskit_kd.report.frame import Frame, values
from qiskit_kd.report.grid import at
from qiskit_kd.report.html import inline, to_svg
from qiskit_kd.report.plots_evaluation import kinds_of, map_range, plot_shots, shots_of
from qiskit_kd.report.style import looks_of

from . import fake_axes, fake_noise

RESULT = fake_noise.make(devices=("torino",))
PLACES = [(p, p["encoding"]) for p in fake_noise.grid(RESULT).points if p["scale"] == 1]
LOOKS = looks_of(Frame(RESULT), student="sharp")


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
    quiet = fake_axes.make(seeds=1, train=(50,), sees=(), maps=False, robust=False)
    with pytest.raises(DataError, match=r"rows that carry them; got \d+ rows without. Set `eval"):
        plot_shots(quiet.rows)
    with pytest.raises(DataError, match="per panel; got 1 axes; expected 2: amplitude; angle"):
        plot_shots(RESULT.rows, points=PLACES, ax=matplotlib.figure.Figure().add_subplot())


ROWS = fake_axes.make(seeds=4, train=(500,), sees=("all",), maps=False).rows


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


def networks() -> list[dict[str, Any]]:
    pairs = [("teacher:hybrid", "plain"), ("convolution", "features"), ("convolution", "plain")]
    return [
        {"student": s, "variant": v, "feature_maps": fake_axes.feature_maps(s, v)} for s, v in pairs
    ]


def test_conventions_and_one_picture_per_image_and_map(tmp_path: Path) -> None:
    file = tmp_path / "maps.png"
    figure = plot_feature_maps(networks(), title="Maps", figsize=(9, 4), filename=file)
    (ax,) = figure.axes
    assert tuple(figure.get_size_inches()) == (9, 4)
    assert ax.get_title(loc="left") == "Maps"
    assert len(ax.images) == 4 * (1 + 3 * 3)
    assert file.stat().st_size > 1000
    assert len(plot_feature_maps(networks(), images=2).axes[0].images) == 2 * 10


def test_maps_draws_into_given_axes() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_feature_maps(networks(), ax=right) is figure
    assert right.images
    assert not left.images


def test_teacher_and_taught_student_share_a_range_that_is_stated() -> None:
    data = networks()
    ax = plot_feature_maps(data, labels=["teacher", "taught", "alone"]).axes[0]
    stacks = [np.asarray(row["feature_maps"]["maps"]) for row in data]
    pair, own = map_range(stacks[:2]), map_range(stacks[2:])
    limits = {image.get_clim() for image in ax.images[4:]}
    assert limits == {pair, own}
    texts = [text.get_text() for text in ax.texts]
    assert texts.count(f"{pair[0]:.2f} to {pair[1]:.2f}") == 2
    assert texts.count(f"{own[0]:.2f} to {own[1]:.2f}") == 1
    assert {"image", "teacher", "taught", "alone", "3", "17"} <= set(texts)
    apart = plot_feature_maps(data, scales=[0, 1, 2]).axes[0]
    assert len({image.get_clim() for image in apart.images[4:]}) == 3


def test_maps_are_shown_unchanged_and_upright() -> None:
    data = networks()[:1]
    data[0]["feature_maps"]["maps"][0][1][0][0] = 9.0
    image = plot_feature_maps(data).axes[0].images[4 + 1]
    assert np.asarray(image.get_array())[0, 0] == 9.0
    left, right, bottom, top = image.get_extent()
    assert top < bottom  # the axis points down, so row 0 is at the top
    assert left < right


def test_coloured_images_and_constant_maps() -> None:
    data = networks()[:1]
    maps = data[0]["feature_maps"]
    maps["images"] = np.repeat(np.asarray(maps["images"]), 3, axis=1).tolist()
    maps["maps"] = np.zeros((4, 2, 5, 5)).tolist()
    ax = plot_feature_maps(data).axes[0]
    assert np.asarray(ax.images[0].get_array()).shape == (28, 28, 3)
    assert ax.images[4].get_clim() == (0.0, 1.0)


def test_same_bytes_every_time_and_fit_for_a_page() -> None:
    one, two = (to_svg(plot_feature_maps(networks()), "maps") for _ in range(2))
    assert one == two
    body = inline(one, "maps", "Maps of images.")
    assert body.count("data:image/png") == 40
    assert "http" not in body.replace("http://www.w3.org", "")


def test_rows_without_maps() -> None:
    rows = [*networks(), {"student": "a", "variant": "b"}]
    with pytest.raises(
        DataError,
        match=r"drawn of rows that carry them; got 3 of 4 rows with feature maps; expected one row "
        r"per network, of the first seed\. Set `evaluation: \{feature_maps: \{layer: PATH\}\}`",
    ):
        plot_feature_maps(rows)


def test_maps_of_different_images() -> None:
    rows = networks()
    rows[1]["feature_maps"]["rows"] = [1, 2, 3, 4]
    with pytest.raises(
        DataError,
        match=r"side by side are those of the same images; got test rows \[3, 17, 40, 86\] and "
        r"\[1, 2, 3, 4\] .*\. Take rows of one study and one point\.",
    ):
        plot_feature_maps(rows)
