# SPDX-License-Identifier: Apache-2.0
"""What a report says at its head."""

from __future__ import annotations

from typing import Any

import pytest

from qiskit_kd.experiment import Study
from qiskit_kd.report.portraits import split_of
from qiskit_kd.report.sentences import (
    chance_sentence,
    placebo_sentence,
    question_sentence,
    setup_sentence,
    verdict_sentence,
)
from qiskit_kd.report.summary import headline

from .fake_result import FakeResult, kept, make, tiny


def test_a_clear_gain_reads_as_one() -> None:
    result = tiny(
        [0.50, 0.52, 0.51, 0.50, 0.52],
        [0.60, 0.63, 0.61, 0.60, 0.63],
        [0.51, 0.52, 0.50, 0.50, 0.52],
    )
    assert verdict_sentence(result).startswith("Distillation helps the tiny student: +10.4 points")
    assert "n = 5 paired seeds" in verdict_sentence(result)
    assert placebo_sentence(result).startswith(
        "With the teacher it beats the placebo shuffled teacher"
    )


def test_a_harm_and_a_doubt_read_as_such() -> None:
    harm = tiny(
        [0.60, 0.63, 0.61, 0.60, 0.63],
        [0.50, 0.52, 0.51, 0.50, 0.52],
        [0.60, 0.63, 0.61, 0.60, 0.63],
    )
    assert verdict_sentence(harm).startswith("Distillation harms the tiny student: −10.4")
    assert "does worse than the placebo" in placebo_sentence(harm)
    doubt = tiny([0.5, 0.6, 0.7], [0.7, 0.6, 0.52], [0.5, 0.6, 0.7])
    assert verdict_sentence(doubt).startswith("No gain from distillation is confirmed")
    assert "does not clearly beat the placebo" in placebo_sentence(doubt)


def test_no_placebo_is_said_aloud() -> None:
    assert placebo_sentence(tiny([0.1, 0.2], [0.2, 0.4])).startswith("No placebo was run")


def test_nothing_to_compare() -> None:
    result = make(seeds=2, variants=("plain",))
    assert headline(result) is None
    assert "Nothing to compare" in verdict_sentence(result)
    assert placebo_sentence(result) == ""


def test_a_placebo_below_the_student_alone_is_a_low_bar() -> None:
    alone = [0.70, 0.72, 0.71, 0.70, 0.73]
    shuffled = [0.50, 0.53, 0.51, 0.52, 0.51]
    low = placebo_sentence(tiny(alone, [0.74, 0.75, 0.76, 0.73, 0.77], shuffled))
    assert low.endswith(
        "The shuffled teacher is itself harmful (−19.8 points against alone), "
        "so beating it says little."
    )
    fair = placebo_sentence(tiny(alone, [0.74, 0.75, 0.76, 0.73, 0.77], alone))
    assert "harmful" not in fair


def test_a_headline_without_a_pair_is_no_verdict_and_no_other_students() -> None:
    result = make(seeds=2)
    result.config["headline"] = "hybrid"
    rows = [r for r in result.rows if (r["student"], r["variant"]) != ("hybrid", "plain")]
    assert verdict_sentence(kept(result, rows)) == (
        "No verdict yet for the hybrid student: no seed has finished both alone and distilled."
    )
    assert placebo_sentence(kept(result, rows)) == ""


def test_a_placebo_that_shares_no_seed_yet_is_waited_for() -> None:
    result = make(seeds=2, students=("hybrid",))
    rows = [
        r for r in result.rows
        if not (r["variant"] in ("shuffled", "label_smoothing") and r["seed"] == 0)
        and not (r["variant"] in ("plain", "distilled") and r["seed"] == 1)
    ]  # fmt: skip
    said = placebo_sentence(kept(result, rows))
    assert said == "No placebo has finished a seed of this student yet."
    planned = tiny([0.5, 0.6], [0.6, 0.7])
    planned.config["variants"] = {
        "plain": {"terms": [{"loss": "ce"}]},
        "distilled": {"teacher": "teacher", "terms": [{"loss": "kl"}]},
        "shuffled": {"teacher": "teacher", "placebo": "shuffled", "terms": [{"loss": "kl"}]},
    }  # fmt: skip
    assert placebo_sentence(planned) == said


def digits(sees: str | None) -> FakeResult:
    config = Study.load("c2q-digits").config.resolved()
    one = config["teachers"]["teacher"]
    config["teachers"] = {} if sees is None else {"teacher": {**one, "sees": sees}}
    row: dict[str, Any] = {
        "student": config["headline"], "variant": "plain", "seed": 0,
        "options": {"backend": "exact", "gradient": "auto", "sharpness_mode": "learnable"},
    }  # fmt: skip
    return FakeResult(rows=[row], comparisons=[], config=config)


@pytest.mark.parametrize(
    ("sees", "said"),
    [
        (
            "all",
            "The teacher was trained on 210 labelled samples (sees: all); students on 30, and "
            "through the teacher on 180 unlabelled ones.",
        ),
        (
            "same",
            "The teacher was trained on 30 labelled samples (sees: same); students on the same 30, "
            "and through the teacher on 180 unlabelled ones.",
        ),
        (None, "Students were trained on 30 labelled samples; there is no teacher."),
    ],
)
def test_what_the_teacher_saw_is_said_with_numbers(sees: str | None, said: str) -> None:
    result = digits(sees)
    assert setup_sentence(result, split_of(result.config)) == (
        f"{said} Backend exact, exact gradients; sharpness learnable."
    )


@pytest.mark.parametrize(
    ("sees", "said"),
    [
        (
            "same",
            "The question: does a teacher help that saw the same 30 labels as its student, by its "
            "answers on 180 unlabelled samples?",
        ),
        (
            "all",
            "The question: does a teacher that saw 210 labels help a student of 30, as much as "
            "these labels themselves would?",
        ),
        (None, ""),
    ],
)
def test_which_question_is_answered(sees: str | None, said: str) -> None:
    result = digits(sees)
    assert question_sentence(result, split_of(result.config)) == said


def test_without_the_data_it_is_said_without_numbers() -> None:
    assert "the whole labelled pool (sees: all)" in setup_sentence(digits("all"), None)
    assert "the students' own samples (sees: same)" in setup_sentence(digits("same"), None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "linear"}, ""),
        ({"backend": "exact", "gradient": "auto"}, "Backend exact, exact gradients."),
        ({"backend": "exact", "gradient": "shift"}, "Backend exact, parameter-shift gradients."),
        (
            {"backend": "aer_shots", "gradient": "auto", "shots": 1024, "sharpness_mode": "fixed"},
            "Backend aer shots, SPSA gradients, 1,024 shots; sharpness fixed.",
        ),
    ],
)
def test_how_the_student_was_run(options: dict[str, Any], said: str) -> None:
    result = digits(None)
    result.rows[0]["options"] = options
    assert setup_sentence(result, None) == said


def test_many_comparisons_carry_a_caution() -> None:
    assert chance_sentence(1) == ""
    assert chance_sentence(18).startswith("18 comparisons are shown; at 95 % about one in twenty")


def test_longer_training_is_said_beside_the_verdict() -> None:
    result = tiny([0.50, 0.52], [0.60, 0.63], [0.51, 0.52])
    for row in result.rows:
        row["steps_per_epoch"] = 7 if row["variant"] == "distilled" else 2
    assert verdict_sentence(result).endswith(
        " Unequal steps: distilled took 7 an epoch and plain 2, so a gain may come from training "
        "for longer."
    )
