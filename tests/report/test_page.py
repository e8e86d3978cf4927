# SPDX-License-Identifier: Apache-2.0
"""The page: self-contained, accessible, deterministic, complete; written whole or not at all."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qiskit_kd.errors import DataError, StorageError
from qiskit_kd.report import render, write

from .fake_result import FakeResult, make
from .test_portraits import CONFIG

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Reader(HTMLParser):
    """Collects tags and text, and insists on proper nesting."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def read_words(part: str) -> list[str]:
    reader = Reader()
    reader.feed(part)
    return reader.words


@pytest.fixture(scope="module")
def result() -> FakeResult:
    found = make(seeds=3, students=("linear", "fully_quantum_learnable"))
    found.config |= {"title": "Does <it> help & how?", **CONFIG}
    return found


@pytest.fixture(scope="module")
def rendered(result: FakeResult) -> tuple[str, dict[str, str]]:
    return render(result)


@pytest.fixture(scope="module")
def page(rendered: tuple[str, dict[str, str]]) -> str:
    return rendered[0]


def test_same_rows_same_bytes(result: FakeResult, rendered: tuple[str, dict[str, str]]) -> None:
    assert render(result) == rendered


def test_needs_nothing_but_itself(page: str) -> None:
    reader = read(page)
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    sources = {
        value
        for _, attributes in reader.tags
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href") and value and not value.startswith("#")
    }
    assert not sources
    assert "@import" not in page
    assert "url(http" not in page
    assert not any(key.startswith("on") for _, attributes in reader.tags for key in attributes)


def test_every_figure_has_a_text_and_ids_are_unique(page: str) -> None:
    reader = read(page)
    drawings = [attributes for tag, attributes in reader.tags if tag == "svg"]
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(drawings) >= 10
    assert len(ids) == len(set(ids))
    for attributes in drawings:
        assert attributes["role"] == "img"
        assert attributes["aria-labelledby"] in ids
    texts = re.findall(r'<title id="[^"]+-alt">([^<]+)</title>', page)
    assert len(texts) == len(drawings)
    assert all(len(text) > 20 for text in texts)


def test_both_papers_print_and_phones(page: str) -> None:
    assert "prefers-color-scheme:dark" in page
    assert "@media print" in page
    assert 'name="viewport"' in page
    assert "{{" not in page
    assert "{%" not in page


def test_verdict_comes_first_and_text_is_escaped(page: str) -> None:
    words = " ".join(read(page).words)
    assert words.index("fully quantum learnable student") < words.index("Results")
    assert "Does &lt;it&gt; help &amp; how?" in page
    assert page.count("<h1>") == 1


@pytest.mark.parametrize(
    "said",
    [
        "qkd run c2q-fake --out runs/fake",
        "configuration",
        "2.6.2",
        "data, seed 0",
        "classes 3, 5, 8",
        "labelled samples",
        "comparisons are shown; at 95 % about one in twenty",
        "as the circuit gives them, before its sharpness",
        "The students",
        "1 (learnable)",
        "1,203 parameters",
        "Learning curves",
        "What the students answer",
        "Pull of each loss term",
        "The circuits",
        "Settings per student",
        "Every run",
        "ansatz: two-qubit gates",
    ],
)
def test_says(page: str, said: str) -> None:
    assert said in " ".join(read(page).words)


def test_one_seed_and_no_distillation_make_a_page_too() -> None:
    for sparse in (make(seeds=1, students=("linear",)), make(seeds=2, variants=("plain",))):
        page, _ = render(sparse)
        read(page)
    assert "Nothing to compare" in page


def test_one_seed_claims_no_intervals() -> None:
    page, drawings = render(make(seeds=1, students=("linear",)))
    words = " ".join(read(page).words)
    assert "there are no intervals" in words
    assert "±" not in words
    assert "whiskers" not in words
    assert "95 % band" not in words
    assert "parameters-macro_f1" not in drawings


def test_no_raw_identifiers_where_people_read(page: str) -> None:
    head = page[: page.index("Whole configuration")]
    words = " ".join(read_words(head))
    assert not re.findall(
        r"\b(?:over_seeds|fully_quantum|sharpness_mode|hardware_efficient)\b", words
    )


def test_write_leaves_page_figures_and_rows(result: FakeResult, tmp_path: Path) -> None:
    path = write(result, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html"
    names = {file.name for file in (path.parent / "figures").iterdir()}
    assert {"gains.svg", "accuracy.svg", "parameters-accuracy.svg"} <= names
    with (path.parent / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.rows)
    assert float(rows[0]["test_accuracy"]) == result.rows[0]["test"]["accuracy"]
    assert not list(path.parent.rglob("*.part"))


def test_a_folder_that_cannot_be_written_is_named(result: FakeResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        StorageError,
        match=r"the report could not be written; got .* for .*file; expected a folder with room "
        r"that may be written to\. The study's rows are safe; write the report again with",
    ):
        write(result, tmp_path / "file")


def test_no_rows_no_report(tmp_path: Path) -> None:
    empty = FakeResult(rows=[], comparisons=[])
    with pytest.raises(
        DataError,
        match=r"a report is about finished rows; got a study without any\. Run the study first",
    ):
        write(empty, tmp_path)


def test_a_small_circuit_is_not_blown_up(page: str) -> None:
    assert 'class="drawing scroll"' in page  # six qubits: wide
    found = make(seeds=1, students=("linear",))
    found.config |= {
        "data": {"kind": "digits", "options": {"classes": [3, 5, 8]}}, "seeds": [0],
        "students": {"hybrid": {"kind": "quanvolution"}},
    }  # fmt: skip
    assert 'class="drawing scroll small"' in render(found)[0]
