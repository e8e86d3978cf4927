# SPDX-License-Identifier: Apache-2.0
"""The terminal: tables of at most 100 columns, the same words as the page."""

from __future__ import annotations

import re
from typing import Any

import pytest

from qiskit_kd.report import terminal_table
from qiskit_kd.report.document import Entry, Table
from qiskit_kd.report.grid import shown
from qiskit_kd.report.text import WIDTH, aligned, rendered

from . import fake_axes, fake_device, fake_noise
from .fake_result import make


@pytest.mark.parametrize("seeds", [1, 2, 10])
def test_never_wider_than_promised(seeds: int) -> None:
    text = terminal_table(make(seeds=seeds))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert all(line == line.rstrip() for line in text.splitlines())


def test_says_verdict_placebos_and_every_student() -> None:
    result = make()
    result.config["headline"] = "fully_quantum_learnable"
    text = terminal_table(result)
    lines = text.splitlines()
    assert lines[0].startswith("Distillation helps the fully quantum learnable student")
    assert "beats the placebos" in text
    assert "mean ± 95 % interval over 10 paired seeds" in text
    for student in ("teacher", "linear", "equal size", "hybrid", "fully quantum", "separable"):
        assert sum(line.startswith(student + " ") for line in lines) >= 1
    row, gain = (line for line in lines if line.startswith("fully quantum learnable"))
    assert re.search(r"75( +\d\d\.\d±\d\.\d){4}$", row)
    assert re.search(r" +\+\d\.\d \[\+\d\.\d, \+\d\.\d\] \*$", gain)
    assert lines[-1].startswith("6 comparisons are shown; at 95 % about one in twenty")


def test_columns_line_up() -> None:
    lines = terminal_table(make()).splitlines()
    head = next(k for k, line in enumerate(lines) if line.startswith("student"))
    end = lines[head].index("distilled") + len("distilled")
    for line in lines[head + 3 : head + 9]:
        assert line[end - 1].isdigit()
        assert line[end] == " "


def test_one_seed_has_no_interval() -> None:
    text = terminal_table(make(seeds=1))
    assert "one seed: no interval" in text
    assert "±" not in text
    assert "(one seed)" in text


def test_wide_tables_lose_their_notes_then_come_in_parts() -> None:
    entry = Entry("+1.0", "[+0.1, +1.9]", "confirmed")
    narrow = rendered([Table(["a", *"bcd"], [["x", entry, entry, entry]])])
    assert narrow.count("+1.0 [+0.1, +1.9] *") == 3
    wide = rendered([Table(["a", *"bcdefgh"], [["x", *[entry] * 7]])])
    assert wide.count("+1.0*") == 7
    parts = rendered([Table(["a", *["head" * 6] * 7], [["x", *[entry] * 7]])])
    assert parts.count("+1.0*") == 7
    assert sum(line.startswith("x ") for line in parts.splitlines()) == 3
    assert max(map(len, parts.splitlines())) <= WIDTH
    short = rendered([Table(["a", "b", "c"], [["x", "1", "2"]], narrow=2)])
    assert "2" not in short


def test_names_are_no_markup() -> None:
    assert aligned(["a"], [["[bold]x[/bold] :smile: $\\frac{"]])[2] == (
        "[bold]x[/bold] :smile: $\\frac{"
    )


def test_another_metric() -> None:
    assert "test macro-f1" in terminal_table(make(seeds=2), metric="macro_f1")


def test_a_study_without_distillation() -> None:
    text = terminal_table(make(seeds=2, variants=("plain",)))
    assert text.startswith("Nothing to compare")
    assert "hybrid" in text


def test_a_student_that_lacks_a_variant_leaves_a_gap() -> None:
    result = make(seeds=2)
    result.rows = [
        row for row in result.rows if (row["student"], row["variant"]) != ("hybrid", "shuffled")
    ]
    assert "hybrid" in terminal_table(result)


def test_a_teacher_alone_is_a_line() -> None:
    result = make(seeds=2)
    result.rows = [row for row in result.rows if row["student"] == "teacher"]
    assert len(re.findall(r"^teacher +1,203", terminal_table(result), re.MULTILINE)) == 1


@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize(
    "train", [(50, 5000), tuple(range(10, 170, 10)), tuple(f"level_{k}" for k in range(3))]
)
def test_a_sweep_fits(seeds: int, train: tuple[Any, ...]) -> None:
    result = fake_axes.make(seeds=seeds, train=train, maps=False, robust=False)
    lines = terminal_table(result).splitlines()
    assert max(map(len, lines)) <= WIDTH
    for value in train:
        assert any(re.search(rf"\b{shown(value)}\b", line) for line in lines)


def test_a_sweep_is_a_table_per_panel() -> None:
    text = terminal_table(fake_axes.make(seeds=5, train=(50, 5000), maps=False, robust=False))
    assert text.startswith("Distillation helps the convolution student at ")
    assert "\nquestion: does a teacher help that saw the same labels as its student" in text
    assert text.count("\nteacher data: same, gain over the student alone") == 1
    assert text.count("\nteacher data: all, gain over the student alone") == 1
    assert re.search(r"\nsoft +[+−]\d\.\d \[.*\]( [*!])? +[+−]\d\.\d \[", text)
    assert "* confirmed, ! harmful, unmarked: neither" in text
    lonely = fake_axes.make(seeds=2, train=(50, 500), students={"quanvolution": (1, ("plain",))})
    assert "±" in terminal_table(lonely)


def test_a_study_under_noise_is_a_table_a_student_within_forty_lines() -> None:
    encodings = ("amplitude", "angle", "amplitude_mps")
    text = terminal_table(fake_noise.make(encodings=encodings))
    assert len(text.splitlines()) <= 40
    flowing = " ".join(text.split())
    assert "Training under noise (“noisy”) beats training without (“noise free”)" in flowing
    assert "sharp, mean over 6 settings each, gain over “noisy”" in text
    assert "from quantum over from classical" in text
    assert "question: " not in text
    assert "hybrid, mean over 6 settings each, gain over “noisy”" in text
    assert re.search(r"\nfrom classical( +\+\d\.\d \[\+\d\.\d, \+\d\.\d\] \*){3}\n", text)
    assert "\nshuffled teacher (placebo) " in text


def test_a_study_on_a_device_ends_with_the_bill() -> None:
    text = terminal_table(fake_device.make())
    assert text.startswith("Fine-tuning on fake torino helps the sharp student")
    assert re.search(r"\ntest KL +5 +0 +0 +−0\.031 nats\n", text)
    assert text.endswith("for the same jobs, and nobody was\ncharged.")
    assert "QPU" not in text
