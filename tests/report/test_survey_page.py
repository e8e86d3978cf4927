# SPDX-License-Identifier: Apache-2.0
"""The page and the terminal's table of a study with axes; without axes nothing changes."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from typing import Any

import pytest

from qiskit_kd.report import facts, render, terminal_table
from qiskit_kd.report.grid import shown
from qiskit_kd.report.page import rows_csv
from qiskit_kd.report.terminal import WIDTH

from .fake_axes import FakeStudy, kept, make
from .fake_result import make as plain
from .test_page import read

RESULT = make(seeds=5, train=(50, 5000))


@pytest.fixture(scope="module")
def rendered() -> tuple[str, dict[str, str]]:
    return render(RESULT)


@pytest.fixture(scope="module")
def words(rendered: tuple[str, dict[str, str]]) -> str:
    return re.sub(r"\s+", " ", " ".join(read(rendered[0]).words))


def test_same_rows_same_bytes(rendered: tuple[str, dict[str, str]]) -> None:
    assert render(RESULT) == rendered


def test_figures_are_few_and_named(rendered: tuple[str, dict[str, str]]) -> None:
    page, drawings = rendered
    assert set(drawings) == {
        "gains", "accuracy", "feature-maps", "curves-0", "curves-1", "robustness-0",
        "robustness-1", "distributions-0", "distributions-1", "gradients-soft",
        "gradients-features", "gradients-both",
    }  # fmt: skip
    reader = read(page)
    drawn = [attributes for tag, attributes in reader.tags if tag == "svg"]
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(drawn) == len(drawings)
    assert len(ids) == len(set(ids))
    assert all(attributes["aria-labelledby"] in ids for attributes in drawn)


def test_needs_nothing_but_itself(rendered: tuple[str, dict[str, str]]) -> None:
    page = rendered[0]
    tags = {tag for tag, _ in read(page).tags}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    sources = re.findall(r'(?:src|href)="([^#"][^"]*)"', page)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "url(http" not in page
    assert "{{" not in page


def test_many_points_and_seeds_stay_a_small_page() -> None:
    big = make(seeds=20, train=(50, 100, 250, 500, 1000, 5000))
    page, drawings = render(big)
    assert len(page.encode()) < 2_500_000
    assert len(drawings) < 20


@pytest.mark.parametrize(
    "said",
    [
        "2 students · 4 settings · 5 paired seeds",
        "comparisons (3 variants, 4 settings)",
        "placebos there:",
        "against its placebos",
        "of gains over the student alone are shown",
        "Paired gain over the student alone, points",
        "teacher data: same",
        "quanvolution alone",
        "teacher hybrid",
        "Rows 3, 17, 40, 86 of the test split at labelled samples K = 5,000, teacher data: all",
        "which teacher and taught student share",
        "All networks of a seed are tested on the very same disturbed samples",
        "crossed: below; hollow: neither",
        "Learning curves",
        "Every run",
        "teachers: hybrid",
        "kind quanvolution, sees same or all, shared yes",
        "feature mse (teacher hybrid; layers student activation, teacher activation)",
        "axes: teacher data same, all",
    ],
)
def test_says(words: str, said: str) -> None:
    assert said in words


def test_verdict_comes_first(words: str) -> None:
    assert words.index("comparisons (3 variants") < words.index("Results")


def test_every_run_names_its_point() -> None:
    rows = list(csv.DictReader(io.StringIO(rows_csv(RESULT))))
    assert len(rows) == len(RESULT.rows)
    assert list(rows[0])[:3] == ["train", "sees", "student"]
    assert {(r["train"], r["sees"]) for r in rows} == {
        (k, s) for k in ("50", "5000") for s in ("same", "all")
    }
    assert facts.runs(RESULT.rows)[0]["point"] == ["50", "same"]


def test_without_axes_the_page_is_what_it_was() -> None:
    before = plain(seeds=2, students=("hybrid",))
    rows = [{**row, "point": {}} for row in before.rows]
    after = FakeStudy(**{**vars(before), "rows": rows})
    assert (after.axes, after.points) == ({}, [{}])
    assert render(after) == render(before)
    assert terminal_table(after) == terminal_table(before)
    assert rows_csv(after) == rows_csv(before)
    assert set(render(before)[1]) == {
        "gains", "accuracy", "parameters-accuracy", "curves-hybrid", "distributions-hybrid",
        "gradients-hybrid",
    }  # fmt: skip


def test_maps_and_robustness_need_no_axes() -> None:
    small = make(seeds=2, train=(50,), sees=())
    rows = [{**row, "point": {}} for row in small.rows]
    entries = [{k: v for k, v in c.items() if k != "point"} for c in small.comparisons]
    config = {k: v for k, v in small.config.items() if k != "axes"}
    result = replace(
        small, rows=rows, comparisons=entries, axes={}, points=[{}], config=config
    )  # fmt: skip
    page, drawings = render(result)
    assert {"feature-maps", "robustness-0"} <= set(drawings)
    words = " ".join(read(page).words)
    assert "Rows 3, 17, 40, 86 of the test split, and the output" in words


def test_the_maps_shown_are_those_of_the_variant_taught_by_maps() -> None:
    page, _ = render(RESULT)
    assert "Feature maps of the same test images: teacher hybrid, convolution, features, " in page
    without = kept(RESULT, [r for r in RESULT.rows if not str(r["student"]).startswith("teacher")])
    page, _ = render(without)
    assert "Feature maps of the same test images: convolution, features, convolution al" in page
    assert "which teacher and taught student share" not in page


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8])
def test_unfinished_studies_make_a_page_and_a_table(share: float) -> None:
    small = make(seeds=2, train=(50, 500), maps=False)
    rows = small.rows[: max(1, round(share * len(small.rows)))]
    page, _ = render(kept(small, rows))
    read(page)
    text = terminal_table(kept(small, rows))
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize(
    "train", [(50, 5000), tuple(range(10, 170, 10)), tuple(f"level_{k}" for k in range(3))]
)
def test_the_terminals_table_fits(seeds: int, train: tuple[Any, ...]) -> None:
    result = make(seeds=seeds, train=train, maps=False, robust=False)
    lines = terminal_table(result).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert all(line == line.rstrip() for line in lines)
    for value in train:
        assert any(re.search(rf"\b{shown(value)}\b", line) for line in lines)


def test_the_terminals_table_says_it_all() -> None:
    text = terminal_table(RESULT)
    question, rest = text.split("?\n", 1)
    assert question.startswith("The question: does a teacher help that saw the same labels as its")
    assert rest.startswith("Distillation helps the convolution student at ")
    assert text.count("\nteacher data: same\n") == text.count("\nteacher data: all\n") == 2
    assert re.search(r"\nconvolution alone +\d\d\.\d±\d\.\d +\d\d\.\d±\d\.\d\n", text)
    assert re.search(r"\nsoft +[+−]\d\.\d[*!]? +[+−]\d\.\d", text)
    assert "* confirmed, ! harmful, unmarked: neither" in text
    assert "\n“features”: at best " in text
    assert "intervals of gains over the student alone are shown" in text.replace("\n", " ")
    assert "test macro-f1" in terminal_table(RESULT, metric="macro_f1")
    assert "one seed: no interval" in terminal_table(make(seeds=1, train=(50, 500), maps=False))
