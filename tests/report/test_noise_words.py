# SPDX-License-Identifier: Apache-2.0
"""What is said of noise: every sentence, where it helps and where it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qiskit_kd.report.noise_words import answers, lessons
from qiskit_kd.report.summary import alone, others_of, roles
from qiskit_kd.report.survey import caution, chance, findings

from .fake_axes import make as without_noise
from .fake_noise import EFFECTS, FakeStudy, grid, make

RESULT = make(encodings=("angle",))


def said(result: FakeStudy, student: str = "sharp") -> list[str]:
    return [text.replace("\u00a0", " ") for text in answers(result, grid(result), student)]


def mean_of(variant: str, other: str, student: str = "sharp") -> str:
    """The mean difference over the settings with noise, seed by seed, worked out from the rows."""

    def table(name: str) -> np.ndarray:
        cells = {
            (row["seed"], str(row["point"])): row["test"]["accuracy"]
            for row in RESULT.rows
            if (row["student"], row["variant"]) == (student, name) and row["point"]["scale"] > 0
        }
        return np.array([cells[key] for key in sorted(cells)]).reshape(5, -1)

    by_seed = 100 * (table(variant) - table(other)).mean(axis=1)
    half = 2.7764451 * by_seed.std(ddof=1) / np.sqrt(5)
    ends = (by_seed.mean(), by_seed.mean() - half, by_seed.mean() + half)
    mean, low, high = (f"{x:+.1f}".replace("-", "−") for x in ends)
    return f"on average {mean} [{low}, {high}] points, n = 5"


def test_training_under_noise_beats_training_without() -> None:
    assert said(RESULT)[0] == (
        "Training under noise (“noisy”) beats training without (“noise free”) at 4 of 4 settings "
        "with noise, does worse at 0 and settles nothing at 0; "
        f"{mean_of('noisy', 'noise_free')}."
    )


def test_each_teacher_by_itself() -> None:
    assert said(RESULT)[1] == (
        "A teacher adds to “noisy”: “from quantum” at 2 of 4 (worse at 0; "
        f"{mean_of('from_quantum', 'noisy')}) and “from classical” at 4 of 4 (worse at 0; "
        f"{mean_of('from_classical', 'noisy')})."
    )


def test_the_placebo_is_called_one_and_the_other_training_is_not() -> None:
    assert said(RESULT)[2] == (
        "The placebo “shuffled teacher” is better than “noisy” at 0 of 4, worse at 2 and undecided "
        f"at 2; {mean_of('shuffled', 'noisy')}. It is beaten by “from quantum” at 2 of 4 and “from "
        "classical” at 4 of 4."
    )
    assert sum("placebo" in line for line in said(RESULT)) == 1
    assert "placebo" not in " ".join(said(RESULT, "hybrid"))


def test_teachers_among_each_other_and_what_validation_prefers() -> None:
    assert said(RESULT)[3] == (
        "“from quantum” is better than “from classical” at 0 of 4, worse at 4 and undecided at 0; "
        f"{mean_of('from_quantum', 'from_classical')}."
    )
    assert said(RESULT)[4] == (
        "Of 4 settings with noise, the validation data prefer “from classical” at 4. On the test "
        "data the preferred training is confirmed better than “noise free” at 4 of 4, “noisy” at 4 "
        "of 4, “from quantum” at 4 of 4 and “shuffled teacher” at 4 of 4 where another one is "
        "preferred; better than all others at once at 4, and worse than one of them at none."
    )


def test_what_noise_costs() -> None:
    assert said(RESULT)[5].startswith(
        "From noise scale 0 to 2, test accuracy changes on average over 2 panels by, in points: "
        "“noise free” −40."
    )
    assert "“noisy” −10.0 [" in said(RESULT)[5]
    one = make(devices=("torino",), encodings=("angle",))
    assert "changes by, in points: “noise free” −40." in said(one)[-1]


def test_where_nothing_helps_it_is_said_plainly() -> None:
    flat = {name: {0: 0.0, 1: 0.0, 2: 0.0} for name in EFFECTS}
    result = make(effects=flat, encodings=("angle",))
    assert said(result)[0].startswith(
        "Training under noise does not help: “noisy” is confirmed better than “noise free” at none "
        "of 4 settings with noise, does worse at 0 and settles nothing at 4; on average "
    )
    assert said(result)[1].startswith(
        "No teacher is confirmed to add to it: “from quantum” at none of 4 (worse at 0; on average "
    )
    assert "better than all others at once at none" in said(result)[4]


def test_where_one_teacher_helps_and_the_other_does_not() -> None:
    mixed = {**EFFECTS, "from_quantum": {0: 0.0, 1: 0.0, 2: -0.05}}
    text = said(make(effects=mixed, encodings=("angle",)))[1]
    assert text.startswith("A teacher adds to “noisy”: “from classical” at 4 of 4 (worse at 0")
    assert "A gain is confirmed for “from quantum” at none of 4 (worse at 2" in text


def test_training_under_noise_may_harm() -> None:
    harmed = {**EFFECTS, "noise_free": {0: 0.0, 1: 0.06, 2: 0.06}}
    text = said(make(effects=harmed, encodings=("angle",)))[0]
    assert text.startswith("Training under noise does not help: ")
    assert "does worse at 4 and settles nothing at 0" in text


def test_few_seeds_settle_nothing_and_have_intervals_all_the_same() -> None:
    result = make(seeds=3, encodings=("angle",))
    assert "at none of 4 settings with noise" in said(result)[0]
    assert "points, n = 3." in said(result)[0]
    single = make(seeds=1, encodings=("angle",))
    assert "settles nothing at 4; on average +" in said(single)[0]
    assert "[" not in said(single)[0]


def test_the_brief_form_counts_only() -> None:
    brief = lessons(RESULT, grid(RESULT), "sharp", brief=True)
    assert brief == [
        "Training under noise (“noisy”) beats training without (“noise free”) at 4 of 4 settings "
        "with noise, does worse at 0 and settles nothing at 0.",
        "A teacher adds to “noisy”: “from quantum” at 2 of 4 (worse at 0) and “from classical” at "
        "4 of 4 (worse at 0).",
    ]


def test_a_study_without_noise_says_nothing_of_it() -> None:
    quiet = without_noise(seeds=2, train=(50, 500), maps=False, robust=False)
    assert said(quiet, "convolution") == []
    assert lessons(quiet, grid(quiet), "convolution") == []
    one = make(scales=(1,), encodings=("angle",))
    assert not any(text.startswith("From") for text in said(one))


def test_a_student_with_few_variants() -> None:
    texts = said(RESULT, "hybrid")
    assert [text.split()[0] for text in texts] == ["Training", "Of", "From"]
    halted = replace(RESULT, rows=[r for r in RESULT.rows if r["variant"] != "noisy"])
    assert not any("Training under noise" in text for text in said(halted))


def test_roles_of_trainings() -> None:
    assert roles(RESULT) == ("noisy", {"shuffled"})
    assert others_of(RESULT) == ["noise_free"]
    assert alone(RESULT) == "“noisy”"
    quiet = without_noise(seeds=1, train=(50,), maps=False, robust=False)
    assert others_of(quiet) == []
    assert alone(quiet) == "the student alone"


@pytest.mark.parametrize(("loss", "placebo"), [("label_smoothing", True), ("ce", False)])
def test_label_smoothing_is_a_placebo_and_hard_labels_are_not(loss: str, placebo: bool) -> None:
    variants = {**RESULT.config["variants"], "noise_free": {"terms": [{"loss": loss}]}}
    result = replace(RESULT, config={**RESULT.config, "variants": variants})
    assert ("noise_free" in roles(result)[1]) is placebo
    assert ("noise_free" in others_of(result)) is not placebo


def test_findings_set_placebos_and_other_trainings_apart() -> None:
    found = findings(RESULT, grid(RESULT))
    assert [item.name for item in found] == ["from quantum", "from classical"]
    quantum = found[0]
    assert quantum.against == "better than shuffled teacher at 4 of 6 settings, undecided at 2"
    assert quantum.beyond.startswith("better than noise free at ")
    assert quantum.beside_best.startswith("placebos there: shuffled teacher ")
    assert "noise free" not in quantum.beside_best + quantum.beside_worst
    assert str(quantum).endswith(f"It is {quantum.against}; {quantum.beyond}.")


def test_cautions_and_chance_name_what_gains_are_over() -> None:
    assert caution(RESULT, grid(RESULT)) == "Gains are over “noisy”, which has no teacher."
    bare = {name: EFFECTS[name] for name in EFFECTS if name != "shuffled"}
    result = make(effects=bare, encodings=("angle",))
    assert caution(result, grid(result)).endswith("No placebo was run, so a gain may have nothing "
                                                  "to do with a teacher.")  # fmt: skip
    assert "intervals of gains over “noisy” are shown" in chance(RESULT, grid(RESULT))
