# SPDX-License-Identifier: Apache-2.0
"""One look per variant, figures as SVG text, and names that are shown as they are."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from qiskit_kd.report import plot_curves, plot_gains, render
from qiskit_kd.report.drawing import saved
from qiskit_kd.report.html import color_variables, inline, to_svg
from qiskit_kd.report.page import rows_csv
from qiskit_kd.report.plots import plot_accuracy, plot_circuit
from qiskit_kd.report.style import (
    DARK,
    INK,
    MUTED,
    PAPER,
    SERIES,
    look,
    looks,
    readable,
    strokes,
    told_apart,
)

from . import fake_axes, fake_result
from .test_page import Reader

KNOWN = ["plain", "distilled", "shuffled", "label_smoothing", "teacher"]
ON_DEVICES = ["noise_aware", "fine_tuned", "simulated", "labels", "shuffled"]


def luminance(color: str) -> float:
    """Relative luminance, WCAG 2.1."""
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("names", [KNOWN, ON_DEVICES])
def test_variants_of_a_study_differ_in_colour_and_in_marker(names: list[str]) -> None:
    found = [look(name) for name in names]
    assert len({one.color for one in found}) == len({one.marker for one in found}) == len(found)


def test_variants_of_a_study_on_a_device_have_names_that_read_well() -> None:
    assert [look(name).label for name in ON_DEVICES[:2]] == ["noise-aware", "fine-tuned"]


@pytest.mark.parametrize(
    ("color", "least"),
    [
        *((color, 3) for color in dict.fromkeys((*(look(v).color for v in KNOWN), *SERIES))),
        (INK, 4.5),
        (MUTED, 4.5),
    ],
)
def test_colours_stand_out_on_both_papers(color: str, least: float) -> None:
    # WCAG 2.1: graphical objects need a contrast of 3 to 1, texts of 4.5.
    assert contrast(color, PAPER) >= least
    assert contrast(DARK[color], DARK[PAPER]) >= least


def test_unknown_variants_get_a_stable_look_and_their_own_name() -> None:
    assert look("my_idea") == look("my_idea")
    assert look("my_idea").label == "my idea"
    assert look("my_idea").color in DARK


@pytest.mark.parametrize(
    "names",
    [["kd", "distilled"], ["plain", "alone", "none", "baseline"], ["kd_1", "kd-1", "kd.1"],
     ["uniform", "label_smoothing", "smoothing", "shuffled", "placebo"],
     ["fine_tuned", "distilled"], ["shuffled-teacher", "shuffled"], [f"v{k}" for k in range(60)],
     ["uniform", "uniform-teacher"], ["alone", "plain", "variant-alone"]],
)  # fmt: skip
def test_variants_that_are_drawn_together_are_told_apart(names: list[str]) -> None:
    found = looks(names)
    assert list(found) == names
    assert len({item.label for item in found.values()}) == len(names)
    assert len({(item.color, item.marker) for item in found.values()}) == len(names)
    if len(names) <= len(SERIES):
        assert len({item.color for item in found.values()}) == len(names)
    assert {item.color for item in found.values()} <= {*DARK}


def test_readable() -> None:
    assert readable("fully_quantum-x") == "fully quantum x"


@pytest.mark.slow
def test_names_that_differ_in_punctuation_alone_are_told_apart_everywhere() -> None:
    from qiskit_kd.report import render, terminal_table
    from tests.report.fake_result import make

    result = make()
    names = {"distilled": "kd_1", "shuffled": "kd-1"}
    text = json.dumps([result.rows, result.config])
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    rows, config = json.loads(text)
    other = replace(result, rows=rows, config=config)
    page = render(other)[0].split("<script")[0]
    for said in (terminal_table(other), page):
        assert "kd 1" in said
        assert "kd-1" in said
    assert readable("kd-1") == "kd 1", "it is said of the study alone"
    with told_apart(
        ["a_b", "a-b", "c"], ["x_1", "x-1", "x:1", "label-smoothing", "label_smoothing"]
    ):
        assert [readable(name) for name in ("a_b", "a-b", "c")] == ["a b", "a-b", "c"]
        labels = [look(n).label for n in ("x_1", "x-1", "x:1", "label-smoothing")]
        assert labels == ["x 1", "x-1", "x:1", "label-smoothing"]
        assert look("label_smoothing").label == "label smoothing"


def rows(**students: list[str]) -> list[dict[str, Any]]:
    return [{"student": s, "variant": v} for s, variants in students.items() for v in variants]


def test_the_published_set_of_lines() -> None:
    result = fake_axes.make(seeds=1, train=(50,), sees=("all",), maps=False, robust=False)
    found = strokes(result.rows, headline="convolution", placebos={"untrained", "shuffled"})
    assert len(found) == len(fake_axes.STUDENTS["convolution"][1]) + 1 + 2
    drawn = [(s.color, s.marker, str(s.dash)) for s in found.values()]
    assert len(set(drawn)) == len(drawn)
    labels = [s.label for s in found.values()]
    assert labels[0] == "convolution alone"
    assert "soft" in labels
    assert "quanvolution alone" in labels
    assert labels[-2:] == ["teacher hybrid", "teacher classical"]
    mine = [s.color for (student, _), s in found.items() if student == "convolution"]
    assert len(set(mine)) == len(mine)
    assert found["quanvolution", "plain"].color not in mine


def test_placebos_are_pale_and_dashed_teachers_thin_and_dark() -> None:
    found = strokes(
        rows(teacher=["plain"], a=["plain", "taught", "odd"]), placebos={"odd"}
    )  # fmt: skip
    taught, odd, teacher = found["a", "taught"], found["a", "odd"], found["teacher", "plain"]
    assert odd.alpha < taught.alpha == 1.0
    assert (odd.dash != "-", taught.dash) == (True, "-")
    assert teacher.color == INK
    assert teacher.width < odd.width < taught.width
    assert taught.label == "taught"


def test_known_variants_keep_their_looks() -> None:
    found = strokes(rows(a=["plain", "distilled", "shuffled", "label_smoothing", "mine"]))
    for variant in ("plain", "distilled", "shuffled", "label_smoothing"):
        assert found["a", variant].color == look(variant).color
        assert found["a", variant].marker == look(variant).marker
    assert found["a", "mine"].color not in {look(v).color for v in ("plain", "distilled")}


def test_a_baseline_of_another_name_looks_like_alone() -> None:
    found = strokes(rows(a=["labels", "soft"]), baseline="labels")
    assert found["a", "labels"].color == look("plain").color
    assert found["a", "labels"].label == "alone"


def test_no_students_no_strokes_but_teachers() -> None:
    assert strokes([]) == {}
    assert list(strokes(rows(teacher=["plain"]))) == [("teacher", "plain")]


@given(st.lists(st.text("abc_", min_size=1, max_size=4), min_size=1, max_size=9, unique=True))
def test_any_names_get_colours_that_have_a_dark_twin(names: list[str]) -> None:
    found = strokes(rows(one=["plain", *names], two=["plain"], three=["plain"]))
    assert {s.color for s in found.values()} <= set(DARK)
    marks = [s.marker for (student, _), s in found.items() if student == "one"]
    assert len(set(marks)) >= min(len(marks), 9)


def test_a_baseline_among_other_trainings_goes_by_its_name() -> None:
    found = strokes(
        rows(a=["soft", "hard"], b=["soft", "hard"]), baseline="hard", alone="hard"
    )  # fmt: skip
    assert [s.label for s in found.values()] == ["a, soft", "a, hard", "b, soft", "b, hard"]
    single = strokes(rows(a=["soft", "hard"]), baseline="hard", alone="hard")
    assert [s.label for s in single.values()] == ["soft", "hard"]


def figure() -> Figure:
    result = fake_result.make(seeds=3, students=("hybrid",))
    return plot_gains(result.rows, result.comparisons)


def test_text_stays_text_unless_outlines_are_wanted() -> None:
    assert "label smoothing</text>" in to_svg(figure(), "gains")
    assert "</text>" not in to_svg(figure(), "gains", outlines=True)


def test_same_figure_same_bytes_and_no_date() -> None:
    before = dict(mpl.rcParams)
    one, other = to_svg(figure(), "gains"), to_svg(figure(), "gains")
    assert one == other
    assert "<dc:date>" not in one
    assert dict(mpl.rcParams) == before


def test_inline_is_well_formed_named_and_themed() -> None:
    text = inline(to_svg(figure(), "gains"), "gains", "Gains & <losses>.")
    root = ET.fromstring(text)
    assert root.attrib["role"] == "img"
    assert root[0].text == "Gains & <losses>."
    assert root[0].attrib["id"] == root.attrib["aria-labelledby"] == "gains-alt"
    for color in DARK:
        assert color not in text
    assert f"var(--c{INK.removeprefix('#')})" in text
    assert f"fill: var(--c{PAPER.removeprefix('#')})" not in text.split("<title")[1][:600]
    assert "var(" not in inline(to_svg(figure(), "x"), "x", "alt", themed=False)


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
    rows = fake_result.make(seeds=2).rows
    text = inline(to_svg(plot_curves(rows, student=student), student), student, "alt")
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert all(name.startswith(f"{student}-") for name in ids)
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
    assert references
    assert set(references) <= set(ids)


def test_every_colour_has_a_variable_for_both_papers() -> None:
    light, dark = color_variables()
    assert light.count("--c") == dark.count("--c") == len(DARK)
    assert light != dark


HOSTILE = [
    "$\\frac{", "$a$ & $b_{$", "<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>",
    "=HYPERLINK(1)", "\\theta {{ 7 * 7 }} {% x %}", "a$b^$c", "]]> <!-- &amp;",
]  # fmt: skip


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The same with every name, as key or value, replaced."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, Mapping):
        return {names.get(k, k): renamed(inner, names) for k, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(renamed(inner, names) for inner in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: renamed(getattr(value, f.name), names)
                                 for f in fields(value)})  # fmt: skip
    return value


@pytest.fixture(scope="module", params=["rows", "axes"])
def hostile(request: pytest.FixtureRequest) -> Any:
    if request.param == "rows":
        students, titles = ["hybrid", "linear", "separable"], ["c2q-fake", "shuffled", "distilled"]
        result: Any = fake_result.make(seeds=2, students=tuple(students))
    else:
        result = fake_axes.make(seeds=2)
        students = ["convolution", "quanvolution"]
        titles = ["labelled samples K", "teacher data", "soft", "features"]
    return renamed(result, dict(zip([*students, *titles], HOSTILE * 2, strict=False)))


@pytest.mark.slow
def test_a_page_shows_names_as_they_are_written(hostile: Any) -> None:
    page, drawings = render(hostile)
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    tags = [tag for tag, _ in reader.tags]
    assert "script" not in tags
    assert not any("onerror" in attributes for _, attributes in reader.tags)
    words = "".join(reader.words)
    assert "$\\frac{" in words
    assert "<script>alert(1)</script>" in words
    for document in drawings.values():
        ElementTree.fromstring(document)
    texts = "".join(" ".join(ElementTree.fromstring(d).itertext()) for d in drawings.values())
    assert "$\\frac{" in texts
    for line in csv.reader(io.StringIO(rows_csv(hostile), newline="")):
        assert not any(cell.startswith("=") for cell in line)


def test_every_figure_may_be_saved_by_itself(tmp_path: Path) -> None:
    result = fake_result.make(seeds=2, students=("hybrid", "linear"))
    rows = renamed(result.rows, {"hybrid": "$\\frac{", "distilled": "$x_{$"})
    plot_accuracy(rows, title="$\\sqrt{", filename=tmp_path / "a.png")
    figure = plot_accuracy(rows, title="$\\sqrt{")
    figure.savefig(tmp_path / "b.svg")
    assert "\\sqrt{" in (tmp_path / "b.svg").read_text()


def test_powers_of_ten_stay_formulas() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([1e-6, 1e6], [1, 2])
    axes.set_xscale("log")
    axes.set_xlabel("$\\frac{")
    text = to_svg(saved(figure, None), "powers")
    assert ">$\\mathdefault" not in text
    assert "$\\frac{" in text


@pytest.mark.parametrize("name", ["$\\frac{", "$a$", "\\frac{", "x_{", "<b>&", "$ $ $", "\\"])
def test_names_in_circuits(tmp_path: Path, name: str) -> None:
    from qiskit import QuantumCircuit, QuantumRegister
    from qiskit.circuit import Gate, Parameter

    circuit = QuantumCircuit(QuantumRegister(1, "q"))
    circuit.ry(Parameter(name), 0)
    circuit.append(Gate(name, 1, [], label=name), [0])
    figure = plot_circuit(circuit, filename=tmp_path / "circuit.svg")
    ElementTree.fromstring(to_svg(figure, "circuit", outlines=True))
