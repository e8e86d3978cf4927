# SPDX-License-Identifier: Apache-2.0
"""Feature maps: every network's maps of the same images, in stated ranges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from qiskit_kd.errors import DataError
from qiskit_kd.report import plot_feature_maps
from qiskit_kd.report.maps import map_range
from qiskit_kd.report.svg import inline, to_svg

from .fake_axes import feature_maps


def networks() -> list[dict[str, Any]]:
    pairs = [("teacher:hybrid", "plain"), ("convolution", "features"), ("convolution", "plain")]
    return [{"student": s, "variant": v, "feature_maps": feature_maps(s, v)} for s, v in pairs]


def test_conventions_and_one_picture_per_image_and_map(tmp_path: Path) -> None:
    file = tmp_path / "maps.png"
    figure = plot_feature_maps(networks(), title="Maps", figsize=(9, 4), filename=file)
    (ax,) = figure.axes
    assert tuple(figure.get_size_inches()) == (9, 4)
    assert ax.get_title(loc="left") == "Maps"
    assert len(ax.images) == 4 * (1 + 3 * 3)
    assert file.stat().st_size > 1000
    assert len(plot_feature_maps(networks(), images=2).axes[0].images) == 2 * 10


def test_draws_into_given_axes() -> None:
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
