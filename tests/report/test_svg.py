# SPDX-License-Identifier: Apache-2.0
"""SVG: the same figure gives the same bytes, and figures share a page in peace."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from qiskit_kd.report import plot_curves, plot_gains
from qiskit_kd.report.palette import INK, PAPER, dark_twins
from qiskit_kd.report.svg import color_variables, inline, to_svg

from .fake_result import make


def figure() -> Figure:
    result = make(seeds=3, students=("hybrid",))
    return plot_gains(result.rows, result.comparisons)


def test_same_figure_same_bytes_and_no_date() -> None:
    before = dict(mpl.rcParams)
    one, other = to_svg(figure(), "gains"), to_svg(figure(), "gains")
    assert one == other
    assert "<dc:date>" not in one
    assert dict(mpl.rcParams) == before


def test_text_stays_text_unless_outlines_are_wanted() -> None:
    assert "label smoothing</text>" in to_svg(figure(), "gains")
    assert "</text>" not in to_svg(figure(), "gains", outlines=True)


def test_inline_is_well_formed_named_and_themed() -> None:
    text = inline(to_svg(figure(), "gains"), "gains", "Gains & <losses>.")
    root = ET.fromstring(text)
    assert root.attrib["role"] == "img"
    assert root[0].text == "Gains & <losses>."
    assert root[0].attrib["id"] == root.attrib["aria-labelledby"] == "gains-alt"
    for color in dark_twins():
        assert color not in text
    assert f"var(--c{INK.removeprefix('#')})" in text
    assert f"fill: var(--c{PAPER.removeprefix('#')})" not in text.split("<title")[1][:600]


def test_inline_loads_nothing() -> None:
    text = inline(to_svg(figure(), "gains"), "gains", "alt")
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "font-family" not in text
    assert "<style" not in text


@pytest.mark.parametrize("student", ["linear", "hybrid"])
def test_ids_are_all_prefixed_and_every_reference_resolves(student: str) -> None:
    rows = make(seeds=2).rows
    text = inline(to_svg(plot_curves(rows, student=student), student), student, "alt")
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert all(name.startswith(f"{student}-") for name in ids)
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
    assert references
    assert set(references) <= set(ids)


def test_unthemed_drawings_keep_their_colours() -> None:
    assert "var(" not in inline(to_svg(figure(), "x"), "x", "alt", themed=False)


def test_every_colour_has_a_variable_for_both_papers() -> None:
    light, dark = color_variables()
    assert light.count("--c") == dark.count("--c") == len(dark_twins())
    assert light != dark
