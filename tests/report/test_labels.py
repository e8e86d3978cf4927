# SPDX-License-Identifier: Apache-2.0
"""Names and titles come from strangers: shown as they are written, never carried out."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from qiskit_kd.report import render
from qiskit_kd.report.canvas import saved
from qiskit_kd.report.drawings import plot_circuit
from qiskit_kd.report.figures import plot_accuracy
from qiskit_kd.report.page import rows_csv
from qiskit_kd.report.svg import to_svg

from . import fake_axes, fake_result
from .test_page import Reader

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
