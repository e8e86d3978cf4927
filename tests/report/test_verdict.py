# SPDX-License-Identifier: Apache-2.0
"""What a report says at its head: at most three sentences, a line a contrast, and the setup."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

import qiskit_kd
from qiskit_kd.experiment import Study
from qiskit_kd.experiment.result import Axis
from qiskit_kd.report.contrasts import chance, contrasts
from qiskit_kd.report.document import Entry, Facts, Headline
from qiskit_kd.report.frame import Frame
from qiskit_kd.report.sections.verdict import _placebos, unfinished, verdict

from . import fake_axes, fake_device, fake_noise
from .fake_result import FakeResult, make, tiny
from .test_frame import invented


def head(result: FakeResult) -> Headline:
    found = verdict(Frame(result)).blocks[0]
    assert isinstance(found, Headline)
    assert len(found.more) <= 2
    return found


def said(result: FakeResult) -> str:
    return " ".join((head(result).text, *head(result).more))


def settings_said(result: FakeResult) -> dict[str, str]:
    found = verdict(Frame(result)).blocks[-1]
    assert isinstance(found, Facts)
    return dict(found.items)


def test_a_clear_gain_reads_as_one() -> None:
    result = tiny(
        [0.50, 0.52, 0.51, 0.50, 0.52],
        [0.60, 0.63, 0.61, 0.60, 0.63],
        [0.51, 0.52, 0.50, 0.50, 0.52],
    )
    assert said(result).startswith("Distillation helps the tiny student: +10.4 points of test acc")
    assert "n = 5 paired seeds" in said(result)
    assert head(result).more[0].startswith("With the teacher it beats the placebo shuffled teacher")
    assert head(result).tag == "confirmed"


def test_a_harm_and_a_doubt_read_as_such() -> None:
    harm = tiny(
        [0.60, 0.63, 0.61, 0.60, 0.63],
        [0.50, 0.52, 0.51, 0.50, 0.52],
        [0.60, 0.63, 0.61, 0.60, 0.63],
    )
    assert said(harm).startswith("Distillation harms the tiny student: −10.4")
    assert "does worse than the placebo" in said(harm)
    doubt = tiny([0.5, 0.6, 0.7], [0.7, 0.6, 0.52], [0.5, 0.6, 0.7])
    assert said(doubt).startswith("No gain from distillation is confirmed")
    assert "does not clearly beat the placebo" in said(doubt)
    assert "one seed only, n = 1" in said(tiny([0.5], [0.6]))


def test_a_sentence_takes_at_most_a_hundred_calls() -> None:
    result = make(seeds=3, students=("hybrid",))
    frame, calls = Frame(replace(result, rows=result.rows[:14])), Counter[str]()
    assert frame.student == "hybrid"  # which a report knows by then

    def note(at: FrameType, event: str, _: object) -> None:
        if at.f_code.co_filename.startswith(qiskit_kd.__path__[0]):  # numpy's vary by version
            calls[event] += 1

    sys.setprofile(note)
    try:
        text = _placebos(frame, "hybrid", "distilled")
    finally:
        sys.setprofile(None)
    assert text.startswith("With the teacher it ")
    assert calls["call"] <= 100


def test_placebos_that_are_missing_are_missed() -> None:
    result = tiny([0.1, 0.2], [0.2, 0.4])
    assert "No placebo has finished a seed of this student yet." in said(result)
    del result.config["variants"]
    assert "No placebo was run" in said(result)


def test_a_placebo_below_the_student_alone_is_a_low_bar() -> None:
    alone, taught = [0.70, 0.72, 0.71, 0.70, 0.73], [0.74, 0.75, 0.76, 0.73, 0.77]
    low = settings_said(tiny(alone, taught, [0.50, 0.53, 0.51, 0.52, 0.51]))
    assert low["mind"] == (
        "the shuffled teacher is itself harmful (−19.8 points against alone), so beating it says "
        "little"
    )
    assert "mind" not in settings_said(tiny(alone, taught, alone))


def test_nothing_to_compare_and_nothing_yet() -> None:
    assert said(make(seeds=2, variants=("plain",))).startswith("Nothing to compare")
    result = make(seeds=2)
    result.config["headline"] = "hybrid"
    rows = [r for r in result.rows if (r["student"], r["variant"]) != ("hybrid", "plain")]
    assert said(replace(result, rows=rows)) == (
        "No verdict yet for the hybrid student: no seed has finished both alone and distilled."
    )
    study = fake_axes.make(seeds=2, train=(50, 500), maps=False, robust=False)
    rows = [r for r in study.rows if (r["student"], r["variant"]) != ("convolution", "plain")]
    assert said(replace(study, rows=rows)).startswith(
        "No verdict yet for the convolution student: no seed has finished both"
    )


@pytest.mark.parametrize(
    ("effects", "text", "tag"),
    [
        ({"soft": {50: 0.1, 100: -0.1, 250: -0.001, 500: 0.1}},
         "Distillation helps the convolution student at 2 of 4 settings, harms it at 1 and settles "
         "nothing at 1.", "mixed"),
        ({"soft": {50: -0.1, 100: -0.001}},
         "Distillation helps the convolution student at 0 of 2 settings, harms it at 1 and settles "
         "nothing at 1.", "harmful"),
        ({"soft": {50: -0.001, 100: -0.001}},
         "No gain from distillation is confirmed for the convolution student at any of 2 "
         "settings.", "not confirmed"),
        ({"soft": {50: 0.1, 100: 0.1}},
         "Distillation helps the convolution student at all of 2 settings.", "confirmed"),
        ({"soft": {50: -0.1, 100: -0.1}},
         "Distillation harms the convolution student at all of 2 settings.", "harmful"),
        ({"soft": {50: 0.1, 100: -0.001}, "features": {50: -0.1, 100: -0.1}},
         "Distillation helps the convolution student at 1 of 4 comparisons (2 variants, 2 "
         "settings), harms it at 2 and settles nothing at 1.", "mixed"),
        ({"soft": {50: 0.1, 100: -0.001}, "shuffled": {50: 0.1, 100: 0.1}},
         "Distillation helps the convolution student at 1 of 2 settings, harms it at 0 and settles "
         "nothing at 1.", "confirmed in part"),
        ({"shuffled": {50: 0.1, 100: 0.1}},
         "Nothing to compare: the study holds no student both alone and taught.", ""),
    ],
)  # fmt: skip
def test_the_first_line_counts_settings(
    effects: dict[str, dict[int, float]], text: str, tag: str
) -> None:
    found = head(invented(effects))
    assert (found.text, found.tag) == (text, tag)


def test_training_under_noise_and_the_placebos_have_a_sentence_each() -> None:
    hardened, beaten = head(fake_noise.make()).more
    assert hardened == (
        "Training under noise (“noisy”) beats training without (“noise free”) at 8 of 8 settings "
        "with noise, does worse at 0 and settles nothing at 0."
    )
    assert beaten == "Real teachers beat the placebo shuffled teacher in 20 of 24 comparisons."
    effects = {**fake_noise.EFFECTS, "noise_free": {0: 0.0, 1: 0.06, 2: 0.3}}
    assert "at 0 of 8 settings with noise, does worse at 8" in said(
        fake_noise.make(effects=effects)
    )
    assert "under noise" not in said(fake_axes.make(seeds=2, maps=False, robust=False))


def test_a_line_a_contrast() -> None:
    frame = Frame(fake_noise.make())
    table = contrasts(frame, "sharp", frame.noisy_points)
    assert [str(line[0]) for line in table.lines] == [
        "noisy over noise free", "from quantum over noisy", "from classical over noisy",
        "shuffled teacher (placebo) over noisy", "from quantum over shuffled teacher (placebo)",
        "from quantum over noise free", "from classical over shuffled teacher (placebo)",
        "from classical over noise free", "from quantum over from classical",
    ]  # fmt: skip
    line = table.lines[0]
    assert list(line[1:4]) == ["8", "0", "0"]
    mean = frame.contrast("sharp", "noisy", "noise_free", points=frame.noisy_points)
    assert isinstance(line[4], Entry)
    assert line[4].text == f"+{100 * mean.gain.mean:.1f}"
    assert line[4].verdict == "confirmed"
    assert isinstance(line[7], Entry)
    assert line[7].note.startswith("noise scale = 2, device: ")
    plain = contrasts(Frame(make()), "hybrid")
    assert [str(line[0]) for line in plain.lines][:2] == [
        "distilled over alone", "shuffled teacher (placebo) over alone",
    ]  # fmt: skip
    assert contrasts(Frame(make(variants=("plain",))), "hybrid") is None


# Devices.


def test_the_first_line_of_fine_tuning() -> None:
    good = fake_device.make()
    assert said(good).startswith(
        "Fine-tuning on fake torino helps the sharp student: validation KL −0.100 nats (95 % "
        "interval −0.102 to −0.098, n = 5 paired seeds). On the test data, which chose nothing: KL "
        "−0.050 nats [−0.052, −0.048] (better) and accuracy +2.0 points [+1.8, +2.2] (better). "
        "Evaluated without fine-tuning, “noise-aware” beats “labels” ("
    )
    assert "and the placebo “shuffled teacher” (+20.2 points, " in said(good)
    assert head(good).tag == "confirmed"
    assert "istill" not in said(good)
    bad = fake_device.make(levels=fake_device.LEVELS | {"fine_tuned": (0.6, 0.7, 0.7)})
    assert said(bad).startswith("Fine-tuning on fake torino harms the sharp student: validation KL")
    same = fake_device.make(levels=fake_device.LEVELS | {"fine_tuned": (0.5, 0.6, 0.8)})
    assert "fine-tuning on fake torino is not confirmed to help" in said(same).lower()


@pytest.mark.parametrize(
    ("seeds", "numbers"), [(1, "−0.100 nats (one seed only, n = 1)"), (4, "n = 4 paired seeds)")]
)
def test_too_few_seeds_settle_nothing(seeds: int, numbers: str) -> None:
    text = head(fake_device.make(seeds=seeds)).text
    assert text.startswith("Too few seeds to say whether fine-tuning on fake torino helps the sha")
    assert text.endswith(f"{numbers}; a verdict needs 5 seeds.")


def test_a_backend_that_no_row_has_used_is_called_by_its_own_name() -> None:
    result = fake_device.make()
    for row in result.rows:
        row.pop("devices", None)
    assert said(result).startswith("Fine-tuning on “device” helps")


def test_with_axes_no_line_stands_for_all_points() -> None:
    result = fake_device.make()
    result.rows = [{**row, "point": {"scale": s}} for s in (1, 2) for row in result.rows]
    result.axes = {"scale": Axis("scale", (1, 2))}
    assert "Fine-tuning" not in said(result)


# What it rests on.


def digits(sees: str | None) -> FakeResult:
    config = Study.load("c2q-digits").config.resolved()
    one = config["teachers"]["teacher"]
    config["teachers"] = {} if sees is None else {"teacher": {**one, "sees": sees}}
    row: dict[str, Any] = {
        "student": config["headline"], "variant": "plain", "seed": 0, "curves": {}, "options":
        {"backend": "exact", "gradient": "auto", "sharpness_mode": "learnable"},
        "parameters": 75, "test": {"accuracy": 0.5}, "validation": {"accuracy": 0.5},
    }  # fmt: skip
    return FakeResult(rows=[row], config=config)


def test_what_the_teacher_saw_is_said_with_numbers() -> None:
    found = settings_said(digits("all"))
    assert found["teacher (mlp)"] == "trained on the whole labelled pool of 210 samples (sees: all)"
    assert found["students"] == (
        "trained on 30 labelled samples, and through teachers on 180 unlabelled ones; tested on 220"
    )
    assert found["run"] == "backend exact, exact gradients; sharpness learnable"
    assert found["question"] == (
        "does a teacher that saw 210 labels help a student of 30, as much as these labels "
        "themselves would?"
    )
    same = settings_said(digits("same"))
    assert same["teacher (mlp)"] == "trained on the students' own samples (sees: same)"
    assert same["question"] == (
        "does a teacher help that saw the same 30 labels as its student, by its answers on 180 "
        "unlabelled samples?"
    )
    none = settings_said(digits(None))
    assert none["teacher"] == "none"
    assert none["students"] == "trained on 30 labelled samples; tested on 220"
    assert "question" not in none


def test_several_teachers_and_what_axes_change() -> None:
    result = fake_axes.make(seeds=2, train=(50, 500, 5000), maps=False, robust=False)
    found = settings_said(result)
    text = found["teachers hybrid (quanvolution) and classical (convolution)"]
    assert text.startswith(
        "trained on the students' own samples or the whole labelled pool (sees: "
    )
    assert "intervals do not contain what another training of it would change" in text
    assert found["students"] == "trained on 50, 500 or 5,000 labelled samples"
    result.config["teachers"]["classical"]["shared"] = False
    apart = settings_said(result)
    assert "another training" in apart["teacher hybrid (quanvolution)"]
    assert "another training" not in apart["teacher classical (convolution)"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kind": "linear"}, None),
        ({"backend": "exact", "gradient": "auto"}, "backend exact, exact gradients"),
        ({"backend": "exact", "gradient": "shift"}, "backend exact, parameter-shift gradients"),
        ({"backend": "aer_shots", "gradient": "auto", "shots": 1024, "sharpness_mode": "fixed"},
         "backend aer shots, SPSA gradients, 1,024 shots; sharpness fixed"),
    ],
)  # fmt: skip
def test_how_the_student_was_run(options: dict[str, Any], text: str | None) -> None:
    result = digits(None)
    result.rows[0]["options"] = options
    assert settings_said(result).get("run") == text


def test_places_where_variants_are_trained_and_judged() -> None:
    result = fake_noise.make()
    found = settings_said(result)
    judged = "judged, wherever they were trained"
    assert found["trained"] == (
        "noisy, from quantum, from classical and shuffled teacher on “device” (noisy); noise free "
        "on “exact”"
    )
    assert found[judged] == "on “device” (noisy), with exact probabilities"
    assert (found["run"], found["gains"]) == ("exact gradients", "over “noisy”")
    sampled = replace(result, config={**result.config, "evaluation": {"backend": "aer_device"}})
    assert settings_said(sampled)[judged] == "on “aer device” (noisy)"
    at_home = settings_said(replace(result, config={**result.config, "evaluation": {}}))
    assert judged not in at_home
    device = fake_device.make()
    assert settings_said(device)["trained"].endswith(
        "fine-tuned on “model” (noisy), then on “device”; simulated on “exact”"
    )
    assert settings_said(device)["run"] == "exact gradients, SPSA gradients while fine-tuning"
    device.config["variants"]["fine_tuned"]["fine_tune"]["backend"] = "model"
    try:
        assert settings_said(device)["run"] == "exact gradients"
    finally:
        device.config["variants"]["fine_tuned"]["fine_tune"]["backend"] = "device"


def test_cautions() -> None:
    few = fake_axes.make(seeds=3, train=(50, 500), maps=False, robust=False)
    assert settings_said(few)["mind"] == "fewer than five paired seeds settle nothing"
    assert "No placebo was run" in said(invented({"soft": {50: 0.1, 100: 0.1}}))
    longer = make(students=("hybrid",), variants=("plain", "distilled"))
    for row in longer.rows:
        row["steps_per_epoch"] = 4 if row["variant"] == "distilled" else 2
    assert settings_said(longer)["mind"] == (
        "unequal steps: distilled took 4 an epoch and plain 2, so a gain may come from training "
        "for longer"
    )


def test_unfinished_studies_warn() -> None:
    result = make(seeds=2)
    assert unfinished(Frame(result)) == ""
    result.missing = 2  # type: ignore[attr-defined]
    result.failures = {"k": {"label": "hybrid, seed 1", "error": "DataError: bad row"}}  # type: ignore[attr-defined]
    text = unfinished(Frame(result))
    assert "2 tasks have no row, 1 of them failed" in text
    assert "hybrid, seed 1: DataError: bad row" in text


def test_many_comparisons_carry_a_caution() -> None:
    assert chance(1, "x") == ""
    assert chance(18, "x").startswith("18 comparisons are shown; at 95 % about one in twenty")
    for count, text in ((8, "0.4 on average would"), (84, "about 4 would"), (400, "about 20 wo")):
        assert text in chance(count, "x", 3)
        assert "3 of them exclude zero" in chance(count, "x", 3)
