# SPDX-License-Identifier: Apache-2.0
"""The page of a study under noise: sections, figures per student, tables, files."""

from __future__ import annotations

import copy
import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from qiskit_kd.report import render, terminal_table, write
from qiskit_kd.report.noise_page import answer, holds, machines, shots
from qiskit_kd.report.page import parts_csv, rows_csv
from qiskit_kd.report.sections import Album
from qiskit_kd.report.terminal import WIDTH
from qiskit_kd.report.trainings import preferred

from .fake_axes import make as without_noise
from .fake_noise import grid, make
from .test_page import read

RESULT = make(devices=("torino",))
GRID = grid(RESULT)


@pytest.fixture(scope="module")
def rendered() -> tuple[str, dict[str, str]]:
    return render(RESULT)


@pytest.fixture(scope="module")
def words(rendered: tuple[str, dict[str, str]]) -> str:
    return re.sub(r"\s+", " ", " ".join(read(rendered[0]).words))


def test_figures_of_each_student(rendered: tuple[str, dict[str, str]]) -> None:
    page, drawings = rendered
    assert {name for name in drawings if not name.startswith(("curves", "dist", "grad"))} == {
        f"{part}-{student}"
        for student in ("sharp", "hybrid")
        for part in ("gains", "accuracy", "kl", "shots-accuracy", "shots-kl")
    }
    reader = read(page)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert sum(tag == "svg" for tag, _ in reader.tags) == len(drawings)
    assert render(RESULT)[0] == page


@pytest.mark.parametrize(
    "said",
    [
        "Which training holds",
        "The sharp student",
        "Confirmed, which is what “beats” and “adds” mean here: at least five paired seeds",
        "Which training holds, setting by setting",
        "is chosen by the validation data, and measured on the test data",
        "of gains over the other trainings are shown",
        "against other trainings",
        "Gain of the sharp student over “noisy”, placebos beside it",
        "Divergence of the sharp student from the teacher “classical”",
        "Paired gain over “noisy”, points",
        "What shots cost",
        "judged with so many shots per circuit at noise scale = 1; every number of shots has",
        "Detached at the right: without shots, from exact probabilities.",
        "The same network on several backends",
        "holds the noise of its shots",
        "Seed 0; 48 test samples.",
        "noisy, 4,096 shots",
        "What the circuits became on the device",
        "two-qubit depth",
        "duration, µs",
        "trained on: device",
        "KL, nats",
        "rows.csv , shots.csv , backends.csv and circuits.csv",
    ],
)
def test_says(words: str, said: str) -> None:
    assert said in words


def test_only_placebos_are_called_so(words: str) -> None:
    assert set(re.findall("placebo “([^”]+)”", words)) == {"shuffled teacher"}
    beside = re.findall("placebos there: ([a-z ]+)", words)
    assert {name.strip() for name in beside} == {"shuffled teacher"}
    assert "better than shuffled teacher at" in words  # against its placebos
    assert "better than noise free at" in words  # against other trainings
    # The hybrid student has none.
    assert "Gain of the hybrid student over “noisy” " in words
    assert "hybrid student over “noisy”, placebos" not in words


def test_the_answer_stands_before_the_results(words: str) -> None:
    said = answer(RESULT, GRID)
    assert said.startswith("Training under noise (“noisy”) beats training without (“noise free”)")
    assert words.index(said) < words.index("Results Means over seeds")


def test_the_table_of_preferences() -> None:
    found = holds(RESULT, GRID)
    assert found is not None
    sharp, hybrid = found["students"]
    assert [panel["name"] for panel in sharp["panels"]] == [
        "device: torino, encoding: amplitude", "device: torino, encoding: angle",
    ]  # fmt: skip
    assert hybrid["others"] == ["noise free", "noisy"]
    items = preferred(RESULT, GRID, "sharp")
    line = sharp["panels"][1]["lines"][2]
    item = next(i for i in items if i.point == {"scale": 2, "device": "torino",
                                                "encoding": "angle"})  # fmt: skip
    assert (line["value"], line["preferred"], line["n"]) == ("2", "from classical", 5)
    assert line["accuracy"] == f"{100 * item.accuracy:.1f}"
    by_name = dict(zip(sharp["others"], line["cells"], strict=True))
    assert by_name["from classical"] == {"gain": "", "range": "", "verdict": "preferred"}
    gain = item.gains["noise_free"]
    assert gain.low is not None
    assert by_name["noise free"]["gain"] == f"+{100 * gain.mean:.1f}"
    assert by_name["noise free"]["range"].startswith(f"+{100 * gain.low:.1f}, ")
    assert by_name["noise free"]["verdict"] == "confirmed"


def test_chance_counts_each_interval_once() -> None:
    found = holds(RESULT, GRID)
    assert found is not None
    # Six settings, four other variants of one student and one of the other.
    assert found["chance"].startswith("30 intervals of gains over the other trainings")
    single = make(seeds=1, devices=("torino",))
    few = holds(single, grid(single))
    assert few is not None
    assert few["chance"] == ""


def test_shots_are_shown_at_the_devices_own_noise_or_at_the_last_value() -> None:
    group = shots(RESULT, GRID, Album())
    assert group is not None
    assert [figure["title"] for figure in group["figures"]] == [
        "Accuracy of the sharp student", "KL(teacher ‖ student) of the sharp student",
        "Accuracy of the hybrid student", "KL(teacher ‖ student) of the hybrid student",
    ]  # fmt: skip
    other = make(devices=("torino",), scales=(0, 2))
    group = shots(other, grid(other), Album())
    assert group is not None
    assert "at noise scale = 2;" in group["note"]
    own = {"device": {**RESULT.config["backends"]["device"], "shots": 100}}
    sampled = replace(RESULT, config={**RESULT.config, "backends": own})
    group = shots(sampled, GRID, Album())
    assert group is not None
    assert group["note"].endswith("as it was judged for all other numbers of this page.")


@pytest.mark.parametrize(
    ("judged", "trained"), [("exact_shots", "exact"), (None, "exact_shots"), ("mine", "exact")]
)
def test_shots_of_the_backend_file_are_shots(judged: str | None, trained: str) -> None:
    config = copy.deepcopy(dict(RESULT.config))
    config["backends"] |= {"mine": {"base": "exact_shots"}}
    config["evaluation"] = {"backend": judged}
    for variant in config["variants"].values():
        variant["backend"] = trained
    group = shots(replace(RESULT, config=config), GRID, Album())
    assert group is not None
    assert group["note"].endswith("as it was judged for all other numbers of this page.")


def test_without_a_teacher_to_compare_with_there_is_no_divergence() -> None:
    rows = [{**r, "test": {k: v for k, v in r["test"].items() if k != "kl"}} for r in RESULT.rows]
    for row in rows:
        if "shots" in row:
            row["shots"] = [{k: v for k, v in e.items() if k != "kl"} for e in row["shots"]]
    page, drawings = render(replace(RESULT, rows=rows))
    assert not any("kl" in name for name in drawings)
    assert "KL, nats" not in page


def test_a_study_without_noise_has_none_of_it() -> None:
    quiet = without_noise(seeds=2, train=(50, 500), maps=False, robust=False)
    where = grid(quiet)
    assert answer(quiet, where) == ""
    assert holds(quiet, where) is None
    assert machines(quiet, where) is None
    assert shots(quiet, where, Album()) is None
    assert answer(quiet, None) == ""
    page = render(quiet)[0]
    assert "Which training holds" not in page
    assert "several backends" not in page


def test_a_study_without_axes_shows_shots_backends_and_circuits() -> None:
    point = {"scale": 1, "device": "torino", "encoding": "angle"}
    rows = [{k: v for k, v in r.items() if k != "point"} for r in RESULT.rows
            if r["point"] == point]  # fmt: skip
    comparisons = [{k: v for k, v in c.items() if k != "point"} for c in RESULT.comparisons
                   if c["point"] == point]  # fmt: skip
    flat = replace(
        RESULT, rows=rows, comparisons=comparisons, axes={}, points=[{}],
        config={**RESULT.config, "axes": {}},
    )  # fmt: skip
    page, drawings = render(flat)
    assert "shots-accuracy-sharp" in drawings
    text = re.sub(r"\s+", " ", " ".join(read(page).words))
    assert "What shots cost" in text
    assert "The same network on several backends" in text
    assert "What the circuits became on the device" in text
    assert "Gain over “noisy”" in text


def test_files_beside_the_page(tmp_path: Path) -> None:
    write(RESULT, tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    mine = [r for r in RESULT.rows if "kl" in r["test"]]
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
    assert parts_csv(without_noise(seeds=1, train=(50,), sees=())) == {}
    assert rows_csv(RESULT).startswith("scale,device,encoding,student,")


def test_the_terminal_says_the_same() -> None:
    text = terminal_table(RESULT)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "gain over “noisy” in points" in text
    assert "which training holds, sharp:" in text
    flowing = re.sub(r"\s+", " ", text)
    assert "Training under noise (“noisy”) beats training without (“noise free”)" in flowing
    assert "placebos there: shuffled teacher" in flowing
    assert "noise free −" not in flowing.split("placebos there:")[1].split(")")[0]
    quiet = terminal_table(without_noise(seeds=2, train=(50, 500), maps=False, robust=False))
    assert "which training holds" not in quiet
    assert "gain over alone in points" in quiet
