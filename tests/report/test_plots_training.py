# SPDX-License-Identifier: Apache-2.0
"""Learning curves, gradients, distributions, curves of fine-tuning, and feature maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from qiskit_kd.errors import DataError
from qiskit_kd.report import plot_curves, plot_distributions, plot_feature_maps, plot_gradients
from qiskit_kd.report.html import inline, to_svg
from qiskit_kd.report.plots_training import map_range, plot_fine_tuning

from . import fake_device, fake_result
from .fake_axes import feature_maps


def student(*curves: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        {"student": "a", "variant": "plain", "seed": k, "curves": one}
        for k, one in enumerate(curves)
    ]


def test_runs_that_stopped_early_are_held_at_their_last_value() -> None:
    rows = student(
        {"epoch": [1.0, 2.0, 3.0], "validation/accuracy": [0.1, 0.2, 0.3]},
        {"epoch": [1.0], "validation/accuracy": [0.5]},
    )
    (line,) = plot_curves(rows, student="a").axes[0].lines
    assert np.asarray(line.get_xdata()).tolist() == [1, 2, 3]
    assert np.asarray(line.get_ydata()) == pytest.approx([30, 35, 40])


def test_missing_curves_and_nulls() -> None:
    rows = student({"epoch": [1.0, 2.0], "validation/loss": [None, 0.5]})
    (line,) = plot_curves(rows, student="a", curve="validation/loss").axes[0].lines
    assert np.asarray(line.get_ydata()) == pytest.approx([np.nan, 0.5], nan_ok=True)
    assert not plot_curves(student({"epoch": [1.0]}), student="a").axes[0].lines


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


def test_gradients_have_a_line_per_term() -> None:
    ax = plot_gradients(fake_result.make(seeds=3).rows, student="hybrid").axes[0]
    legend = ax.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["ce", "kl"]
    assert ax.get_yscale() == "log"


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_distributions_are_two_tables_of_cells(classes: int) -> None:
    rows = fake_result.make(seeds=2, classes=classes).rows
    ax = plot_distributions(rows, student="hybrid").axes[0]
    cells = [p for p in ax.patches if isinstance(p, Rectangle) and p.get_width() < 1]
    assert len(cells) == 2 * classes**2
    own = [np.asarray(r["distribution"]) for r in rows if r["student"] == "hybrid"
           and r["variant"] == "plain"]  # fmt: skip
    assert cells[0].get_alpha() == pytest.approx(0.04 + 0.96 * np.mean(own, axis=0)[0, 0])


def test_a_class_without_test_samples_stays_empty() -> None:
    rows = fake_result.make(seeds=1, students=("hybrid",)).rows
    for row in rows:
        row["distribution"][1] = None
    ax = plot_distributions(rows, student="hybrid").axes[0]
    assert sum(isinstance(p, Rectangle) and p.get_width() < 1 for p in ax.patches) == 2 * 6


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


def test_rows_without_a_second_stage_are_refused() -> None:
    with pytest.raises(
        DataError,
        match=r"^the curves of a second stage are drawn of rows that had one; got none of 'sharp', "
        r"'labels'; expected rows with fine_tuning\. Name a variant with fine_tune\.$",
    ):
        plot_fine_tuning(fake_device.make(seeds=1).rows, student="sharp", variant="labels")


def networks() -> list[dict[str, Any]]:
    pairs = [("teacher:hybrid", "plain"), ("convolution", "features"), ("convolution", "plain")]
    return [{"student": s, "variant": v, "feature_maps": feature_maps(s, v)} for s, v in pairs]


def test_one_picture_per_image_and_map() -> None:
    assert len(plot_feature_maps(networks()).axes[0].images) == 4 * (1 + 3 * 3)
    assert len(plot_feature_maps(networks(), images=2).axes[0].images) == 2 * 10


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
