# SPDX-License-Identifier: Apache-2.0
"""The page of a study on a device: its head, its sections, and the files beside it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from qiskit_kd.report import render, write
from qiskit_kd.report.hardware_page import first_words, hardware, jobs_csv, used_devices
from qiskit_kd.report.hardware_words import bill, lead, teaching, test_sentence
from qiskit_kd.report.sections import Album

from .fake_device import LEVELS, estimated, make
from .fake_result import FakeResult
from .fake_result import make as make_plain
from .test_page import read

test_sentence.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def result() -> FakeResult:
    found = make(usd_per_second=1.6)
    found.estimate = estimated(found, 1.05)
    return found


@pytest.fixture(scope="module")
def drawn(result: FakeResult) -> tuple[str, dict[str, str]]:
    return render(result)


@pytest.fixture(scope="module")
def words(drawn: tuple[str, dict[str, str]]) -> str:
    return " ".join(" ".join(read(drawn[0]).words).split())


def test_the_head_speaks_of_fine_tuning_and_not_of_distillation(
    result: FakeResult, drawn: tuple[str, dict[str, str]]
) -> None:
    page = drawn[0]
    head = page[page.index("<header>") : page.index("</header>") + len("</header>")]
    said = " ".join(read(head).words)
    title = lead(result).replace(" %", "\u00a0%")
    assert f"<h1>{title}</h1>" in page
    assert '<span class="tag confirmed">confirmed</span>' in head
    assert said.index(test_sentence(result)) < said.index(teaching(result))
    assert "istill" not in said
    assert "Trained: noise-aware, labels and shuffled teacher on “model” (noisy); " in said
    assert "fine-tuned on “model” (noisy), then on “device”; simulated on “exact”." in said
    assert "Exact gradients, SPSA gradients while fine-tuning" in said


@pytest.mark.parametrize(
    "text",
    [
        "Does fine-tuning on the device help?",
        "sharp fine-tuned against noise-aware",
        "validation KL −0.100 [−0.102, −0.098] better 0.540 0.440 5",
        "test accuracy +2.0 [+1.8, +2.2] better 84.0 % 86.0 % 5",
        "validation KL, raw −0.100 [−0.102, −0.098] better 0.560 0.460 5",
        "Raw is with readout errors left in.",
        "Validation loss during fine-tuning",
        "the epoch whose weights were kept: the start at 1 of 5 seeds.",
        "Readout errors left in, and undone",
        "With readout errors undone, test KL is better for 5 of 5 variants",
        "noise-aware 0.560 → 0.540 −0.020 [−0.021, −0.020] better",
        "83.0 % → 84.0 %",
        "What it cost",
        "Expected before the run: 189.0 s for the whole study; counted is 4.8 % less.",
        "together 25 60 60 6,000 180.0 189.0 288.00",
        "Every job (60)",
        "local-012345… device done 2026-11-24 15:26:10 1 100 2.5 3.00 4.80",
        "Ids are cut short here and whole in jobs.csv",
        "Where on the device",
        "calibrated 2025-02-26 15:26 (UTC−05:00)",
        "1 3 4 5 0.250 1.00 2.0",
        "left out 0 1 2 1.000 4.00",
        "Copies whose errors are out of line were left out.",
        "Gain over “noise-aware”",
        "of each true class, “noise-aware” and “fine-tuned”.",
        "variants: fine tuned ce + kl; teacher: teacher; trained on: model; then on device: epochs "
        "3, steps per epoch 5",
        "rows.csv and jobs.csv",
    ],
)
def test_says(words: str, text: str) -> None:
    assert text in words


def test_the_bill_is_on_the_page(result: FakeResult, words: str) -> None:
    assert bill(result).replace("'", "&#39;") in words or bill(result) in words


def test_one_size_of_student_is_not_drawn_against_parameters(
    drawn: tuple[str, dict[str, str]],
) -> None:
    assert "fine-tuning-sharp-fine_tuned" in drawn[1]
    assert "parameters-accuracy" not in drawn[1]
    assert "parameters-accuracy" in render(make_plain(seeds=2))[1]


def test_too_few_seeds_are_said_to_be_so() -> None:
    page = render(make(seeds=2, kept=False))[0]
    words = " ".join(" ".join(read(page).words).split())
    assert "A verdict needs 5 paired seeds; with 2 nothing here is confirmed." in words
    assert "Which epoch was kept, the start among them, these rows do not tell." in words
    assert "A verdict needs" not in " ".join(read(render(make())[0]).words)


def test_one_seed_has_no_intervals() -> None:
    page = render(make(seeds=1))[0]
    whole = " ".join(" ".join(read(page).words).split())
    words = whole[whole.index("Does fine-tuning") : whole.index("Learning curves")]
    assert "validation KL −0.100 not confirmed 0.498 0.398 1" in words
    assert "[" not in words


def test_a_study_that_only_evaluates_on_a_device() -> None:
    found = make(levels={name: LEVELS[name] for name in LEVELS if name != "fine_tuned"})
    page = render(found)[0]
    words = " ".join(read(page).words)
    assert "Does fine-tuning on the device help?" not in words
    assert "Readout errors left in, and undone" in words
    assert "What it cost" in words
    assert first_words(found) == {}


def test_the_head_where_nothing_else_was_trained() -> None:
    alone = make(levels={name: LEVELS[name] for name in ("noise_aware", "fine_tuned")})
    head = first_words(alone)
    assert (head["answer"], head["placebo"]) == ("", test_sentence(alone))
    both = first_words(make())
    assert (both["answer"], both["placebo"]) == (test_sentence(make()), teaching(make()))
    assert (both["tag"], both["mood"]) == ("confirmed", "confirmed")
    assert first_words(make(seeds=1))["mood"] == "not-confirmed"


def test_other_studies_have_none_of_it() -> None:
    found = make_plain(seeds=2)
    assert first_words(found) == {}
    assert hardware(found, None, Album()) is None
    assert used_devices(found) is None
    assert jobs_csv(found) == {}
    assert "What it cost" not in render(found)[0]


def test_jobs_lie_beside_the_page(result: FakeResult, tmp_path: Path) -> None:
    write(result, tmp_path)
    with (tmp_path / "jobs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["job_id"] for row in rows] == [job["job_id"] for job in result.jobs]
    assert rows[0]["sent"] == "2026-11-24T15:26:10Z"
    assert float(rows[0]["usd"]) == pytest.approx(4.8)


def test_nothing_of_an_account_gets_out(tmp_path: Path) -> None:
    found = make(seeds=1)
    for job in found.jobs:
        job |= {"error": "instance crn:v1:bluemix", "account": "somebody", "token": "s3cr3t"}
    write(found, tmp_path)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert not re.search("crn:v1|somebody|s3cr3t", file.read_text())


def test_points_stand_beside_their_numbers() -> None:
    from .fake_axes import FakeAxis, FakeStudy

    plain = make()
    points = [{"scale": s} for s in (1, 2)]
    study = FakeStudy(
        rows=[{**row, "point": point} for point in points for row in plain.rows],
        comparisons=[{**item, "point": point} for point in points for item in plain.comparisons],
        name=plain.name, command=plain.command, points=points, jobs=plain.jobs, spent=plain.spent,
        config=plain.config | {
            "axes": {"scale": {"title": "noise scale", "key": "backends.model.scale",
                               "values": [1, 2]}}
        },
        axes={"scale": FakeAxis("noise scale", (1, 2))},
    )  # fmt: skip
    page, figures = render(study)
    words = " ".join(" ".join(read(page).words).split())
    assert "fine-tuned against noise-aware, noise scale = 2" in words
    assert "Validation loss during fine-tuning, noise scale = 1" in words
    assert sum(name.startswith("fine-tuning-") for name in figures) == 2
    assert "together 25 60 60 6,000 180.0" in words
