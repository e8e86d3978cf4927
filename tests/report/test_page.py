# SPDX-License-Identifier: Apache-2.0
"""The page: self-contained, accessible, deterministic, complete; written whole or not at all."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qiskit_kd.errors import DataError, StorageError
from qiskit_kd.report import render, terminal_table, write
from qiskit_kd.report.page import rows_csv

from . import fake_axes, fake_device, fake_noise
from .fake_result import FakeResult, make
from .test_circuits import CONFIG

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
    found.config |= {
        "title": "Does <it> help & how?", **CONFIG, "headline": "fully_quantum_learnable",
    }  # fmt: skip
    return found


@pytest.fixture(scope="module")
def rendered(result: FakeResult) -> tuple[str, dict[str, str]]:
    return render(result)


@pytest.fixture(scope="module")
def page(rendered: tuple[str, dict[str, str]]) -> str:
    return rendered[0]


@pytest.mark.slow
def test_same_rows_same_bytes(result: FakeResult, rendered: tuple[str, dict[str, str]]) -> None:
    assert render(result) == rendered


@pytest.mark.slow
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
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)
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


def test_says(page: str) -> None:
    words = " ".join(read(page).words)
    for said in (
        "qkd run c2q-fake --out runs/fake", "configuration", "2.6.2", "data, seed 0",
        "classes 3, 5, 8", "comparisons are shown; at 95 % about one in twenty", "Macro-F1",
        "as the circuit gives them, before its sharpness", "The students", "1 (learnable)",
        "distilled over shuffled teacher (placebo)", "Learning curves", "What the students answer",
        "Pull of each loss term", "Settings", "Every run", "ansatz: two-qubit gates",
        "labelled samples", "As written, before they are translated",
    ):  # fmt: skip
        assert said in words


@pytest.mark.slow
def test_one_seed_claims_no_intervals_and_no_distillation_makes_a_page_too() -> None:
    page, drawings = render(make(seeds=1, students=("linear",)))
    words = " ".join(read(page).words)
    assert "there are no intervals" in words
    assert not any(said in words for said in ("±", "whiskers", "95 % band"))
    assert "parameters-macro_f1" not in drawings
    page, _ = render(make(seeds=2, variants=("plain",)))
    assert "Nothing to compare" in " ".join(read(page).words)


def test_no_raw_identifiers_where_people_read(page: str) -> None:
    head = page[: page.index("Whole configuration")]
    words = " ".join(read_words(head))
    assert not re.findall(
        r"\b(?:over_seeds|fully_quantum|sharpness_mode|hardware_efficient)\b", words
    )


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_named(result: FakeResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        StorageError,
        match=r"the report could not be written; got .* for .*file; expected a folder with room "
        r"that may be written to\. The study's rows are safe; write the report again with",
    ):
        write(result, tmp_path / "file")


def test_no_rows_no_report(tmp_path: Path) -> None:
    empty = FakeResult(rows=[])
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


# Other kinds of studies.

SWEEP = fake_axes.make(seeds=5, train=(50, 5000))
NOISE = fake_noise.make(devices=("torino",))


def words_of(page: str) -> str:
    return " ".join(" ".join(read(page).words).split())


@pytest.mark.slow
def test_a_sweep_has_few_figures() -> None:
    page, drawings = render(SWEEP)
    assert set(drawings) == {
        "gains", "accuracy", "feature-maps", "curves-0", "curves-1", "robustness-0",
        "robustness-1", "distributions-0", "distributions-1", "gradients-soft",
        "gradients-features", "gradients-both",
    }  # fmt: skip
    ids = [attributes["id"] for _, attributes in read(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    sources = re.findall(r'(?:src|href)="([^#"][^"]*)"', page)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    words = words_of(page)
    for said in (
        "at best", "teacher hybrid",
        "2 students · 4 settings · 5 paired seeds", "of gains over the student alone are shown",
        "teacher data: same, gain over the student alone", "at best", "quanvolution alone",
        "Rows 3, 17, 40, 86 of the test split at labelled samples K = 5,000, teacher data: all",
        "which teacher and taught student share", "crossed: harmful; hollow: neither",
        "All networks of a seed are tested on the very same disturbed samples",
        "kind quanvolution, sees same or all, shared yes", "axes: teacher data same, all",
        "feature mse (teacher hybrid; layers student activation, teacher activation)",
    ):  # fmt: skip
        assert said in words
    assert words.index("comparisons (3 variants, 4 settings)") < words.index("Results")
    assert "Feature maps of the same test images: teacher hybrid, convolution, features, " in page


@pytest.mark.slow
def test_many_points_and_seeds_stay_a_small_page() -> None:
    page, drawings = render(fake_axes.make(seeds=20, train=(50, 100, 250, 500, 1000, 5000)))
    assert len(page.encode()) < 2_500_000
    assert len(drawings) < 20


def test_every_run_names_its_point() -> None:
    rows = list(csv.DictReader(io.StringIO(rows_csv(SWEEP))))
    assert len(rows) == len(SWEEP.rows)
    assert list(rows[0])[:3] == ["train", "sees", "student"]
    assert {(r["train"], r["sees"]) for r in rows} == {
        (k, s) for k in ("50", "5000") for s in ("same", "all")
    }


@pytest.mark.slow
def test_without_axes_the_page_is_what_it_was() -> None:
    before = make(seeds=2, students=("hybrid",))
    rows = [{**row, "point": {}} for row in before.rows]
    after = replace(before, rows=rows)
    assert render(after) == render(before)
    assert rows_csv(after) == rows_csv(before)
    small = fake_axes.make(seeds=2, train=(50,), sees=())
    flat = replace(
        small, rows=[{**row, "point": {}} for row in small.rows], axes={},
        config={k: v for k, v in small.config.items() if k != "axes"},
    )  # fmt: skip
    page, drawings = render(flat)
    assert {"feature-maps", "robustness-0"} <= set(drawings)
    assert "Rows 3, 17, 40, 86 of the test split, and the output" in words_of(page)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8])
def test_an_unfinished_sweep_makes_a_page(share: float) -> None:
    small = fake_axes.make(seeds=2, train=(50, 500), maps=False)
    rows = small.rows[: max(1, round(share * len(small.rows)))]
    read(render(replace(small, rows=rows))[0])
    assert terminal_table(replace(small, rows=rows))


@pytest.mark.slow
def test_a_study_under_noise() -> None:
    page, drawings = render(NOISE)
    assert {name for name in drawings if not name.startswith(("curves", "dist", "grad"))} == {
        f"{part}-{student}"
        for student in ("sharp", "hybrid")
        for part in ("gains", "accuracy", "kl", "shots-accuracy", "shots-kl")
    }
    words = words_of(page)
    for said in (
        "Which training holds", "The sharp student over settings with noise",
        "is chosen by the validation data, and measured on the test data",
        "judged with so many shots per circuit at noise scale = 1; every number of shots has",
        "holds the noise of its shots",
        "shuffled teacher (placebo) over noisy", "What shots cost", "KL, nats",
        "Gain of the sharp student over “noisy”, placebos beside it",
        "Divergence of the sharp student from the teacher “classical”",
        "What noise takes, from noise scale 0 to 2, mean over 2 panels", "trained on: device",
        "The same network on several backends", "What the circuits became on the device",
        "rows.csv , shots.csv , backends.csv and circuits.csv",
    ):  # fmt: skip
        assert said in words
    assert "noise free (placebo)" not in words
    # The hybrid student has none.
    assert "hybrid student over “noisy”, placebos" not in words
    rows = [{**r, "test": {k: v for k, v in r["test"].items() if k != "kl"}} for r in NOISE.rows]
    for row in rows:
        if "shots" in row:
            row["shots"] = [{k: v for k, v in e.items() if k != "kl"} for e in row["shots"]]
    page, drawings = render(replace(NOISE, rows=rows))
    assert not any("kl" in name for name in drawings)
    assert "KL, nats" not in page


@pytest.mark.slow
def test_files_beside_the_page(tmp_path: Path) -> None:
    write(NOISE, tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    mine = [r for r in NOISE.rows if "kl" in r["test"]]
    assert sorted(float(r["test_kl"]) for r in rows if r["test_kl"]) == pytest.approx(
        sorted(r["test"]["kl"] for r in mine)
    )
    entries = list(csv.DictReader(io.StringIO((tmp_path / "shots.csv").read_text())))
    assert len(entries) == 3 * len(mine)
    assert {e["scale"] for e in entries} == {"0", "1", "2"}
    circuits = list(csv.DictReader(io.StringIO((tmp_path / "circuits.csv").read_text())))
    assert circuits[0]["device"] == "torino"
    assert circuits[0]["circuits_device"] == "fake_torino"
    assert (tmp_path / "backends.csv").exists()


@pytest.mark.slow
def test_a_study_on_a_device(tmp_path: Path) -> None:
    result = fake_device.make(usd_per_second=1.6)
    result.estimate = fake_device.estimated(result, 1.05)
    page, drawings = render(result)
    assert "fine-tuning-sharp-fine_tuned" in drawings
    assert "parameters-accuracy" not in drawings  # trainings of one student
    assert '<span class="tag confirmed">confirmed</span>' in page
    words = words_of(page)
    for said in (
        "Does fine-tuning on the device help?", "Readout errors left in, and undone",
        "validation KL −0.100 * [−0.102, −0.098] better 0.540 0.440 5", "What it cost",
        "kept: the start at 1 of 5 seeds", "together 25 60 60 6,000 180.0 189.0 288.00",
        "left out 0 1 2 1.000 4.00",
        "Expected before the run: 189.0 s for the whole study; counted is 4.8 % less.",
        "Every job (60)", "Where on the device", "Gain over “noise-aware”", "rows.csv and jobs.csv",
        "variants: fine tuned ce + kl; teacher: teacher; trained on: model; then on device: epochs "
        "3, steps per epoch 5",
    ):  # fmt: skip
        assert said in words
    write(result, tmp_path)
    jobs = list(csv.DictReader(io.StringIO((tmp_path / "jobs.csv").read_text())))
    assert len(jobs) == 60
    assert jobs[0]["job_id"] == "local-0123456789abcdef000"
    one = words_of(render(fake_device.make(seeds=1, kept=False))[0])
    assert "validation KL −0.100 not confirmed 0.498 0.398 1" in one
    assert "Which epoch was kept, the start among them, these rows do not tell." in one
