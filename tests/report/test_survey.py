# SPDX-License-Identifier: Apache-2.0
"""What is said of a study with axes: counts over settings, extremes, placebos, chance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_kd.report.grid import Grid, at, grid_of
from qiskit_kd.report.sentences import chance_sentence, setup_sentence
from qiskit_kd.report.strokes import strokes
from qiskit_kd.report.summary import gains
from qiskit_kd.report.survey import caution, chance, findings, first_line, mood
from qiskit_kd.report.tally import blocks, tallies, taught

from .fake_axes import FakeAxis, FakeStudy, compare, kept, make

RESULT = make(seeds=6, train=(50, 500, 5000), maps=False, robust=False)


def grid(result: FakeStudy) -> Grid:
    found = grid_of(result)
    assert found is not None
    return found


def invented(effects: Mapping[str, Mapping[int, float]], *, seeds: int = 5) -> FakeStudy:
    """One student whose variants add exactly so much at each K, give or take a hair."""
    points = [{"train": k} for k in next(iter(effects.values()))]
    rows: list[dict[str, Any]] = []
    for point in points:
        for variant, gain in {"plain": {}, **effects}.items():
            for seed in range(seeds):
                accuracy = 0.5 + gain.get(point["train"], 0.0) + 0.001 * (seed % 3) * bool(gain)
                row = {"student": "convolution", "variant": variant, "seed": seed, "point": point,
                       "parameters": 7, "options": {}, "curves": {}, "distribution": None,
                       "test": {"accuracy": accuracy, "macro_f1": accuracy},
                       "validation": {"accuracy": accuracy}}  # fmt: skip
                rows.append(row)
    axes = {"train": FakeAxis("K", tuple(p["train"] for p in points))}
    config = {"headline": "convolution", "variants": {
        "plain": {"terms": [{"loss": "ce"}]},
        **{v: {"teacher": "t", "placebo": "shuffled" if v == "shuffled" else "none",
               "terms": [{"loss": "kl"}]} for v in effects},
    }}  # fmt: skip
    return FakeStudy(rows=rows, comparisons=compare(rows, points), axes=axes, points=points,
                     config=config)  # fmt: skip


@pytest.mark.parametrize(
    ("effects", "said", "tag"),
    [
        (
            {"soft": {50: 0.1, 100: -0.1, 250: -0.001, 500: 0.1}},
            "Distillation helps the convolution student at 2 of 4 settings and harms it at 1; the "
            "remaining 1 settle nothing.",
            "mixed",
        ),
        (
            {"soft": {50: -0.1, 100: -0.001}},
            "Distillation does not help the convolution student at any of 2 settings and harms it "
            "at 1; the remaining 1 settle nothing.",
            "harmful",
        ),
        (
            {"soft": {50: -0.001, 100: -0.001}},
            "No gain from distillation is confirmed for the convolution student at any of 2 "
            "settings.",
            "not confirmed",
        ),
        (
            {"soft": {50: 0.1, 100: 0.1}},
            "Distillation helps the convolution student at all of 2 settings.",
            "confirmed",
        ),
        (
            {"soft": {50: -0.1, 100: -0.1}},
            "Distillation harms the convolution student at all of 2 settings.",
            "harmful",
        ),
        (
            {"soft": {50: 0.1, 100: -0.001}, "features": {50: -0.1, 100: -0.1}},
            "Distillation helps the convolution student at 1 of 4 comparisons (2 variants, 2 "
            "settings) and harms it at 2: “soft” helps at 1, harms nowhere and settles nothing at "
            "1; “features” helps nowhere and harms at 2.",
            "mixed",
        ),
        (
            {"soft": {50: 0.1}, "features": {50: -0.1}, "both": {50: -0.001}},
            "Distillation of the convolution student at the one setting: “soft” helps; “features” "
            "harms; “both” settles nothing.",
            "mixed",
        ),
        (
            {"soft": {50: 0.1, 100: -0.001}, "shuffled": {50: 0.1, 100: 0.1}},
            "Distillation helps the convolution student at 1 of 2 settings; the remaining 1 settle "
            "nothing.",
            "confirmed in part",
        ),
    ],
)
def test_the_first_line_counts_settings(
    effects: dict[str, dict[int, float]], said: str, tag: str
) -> None:
    result = invented(effects)
    assert first_line(result, grid(result)) == said
    assert mood(result, grid(result))[0] == tag


@given(st.lists(st.sampled_from([0.1, -0.1, -0.001]), min_size=2, max_size=5))
@settings(max_examples=20, deadline=None)
def test_counts_add_up_and_extremes_are_extremes(effects: list[float]) -> None:
    result = invented({"soft": dict(zip((50, 100, 250, 500, 5000), effects, strict=False))})
    (tally,) = tallies(result, grid(result), ["soft"])
    assert tally.count("confirmed") == effects.count(0.1)
    assert tally.count("harmful") == effects.count(-0.1)
    assert tally.count("not confirmed") == effects.count(-0.001)
    means = [gain.mean for _, gain in tally.found]
    assert tally.best[1].mean == max(means)
    assert tally.worst[1].mean == min(means)


def test_points_that_are_the_same_runs_count_once() -> None:
    # The placebo of the features does not depend on what the teacher saw: two panels, three tasks.
    assert taught(RESULT) == ["soft", "features", "both"]
    soft, placebo = tallies(RESULT, grid(RESULT), ["soft", "untrained"])
    assert (len(soft.found), len(placebo.found)) == (6, 3)


def test_findings_name_the_extremes_and_the_placebos_there() -> None:
    found = findings(RESULT, grid(RESULT))
    assert [item.name for item in found] == ["soft", "features", "both"]
    soft = found[0]
    (tally, *_) = tallies(RESULT, grid(RESULT), ["soft"])
    point, gain = tally.best
    assert gain.low is not None
    assert soft.best.startswith(f"+{100 * gain.mean:.1f} points [+{100 * gain.low:.1f}, ")
    assert soft.best.endswith(f"at {grid(RESULT).say(point)}")
    there = gains(at(RESULT.rows, point), at(RESULT.comparisons, point), baseline="plain")
    shuffled = next(g for g in there if g.variant == "shuffled")
    assert f"shuffled teacher −{abs(100 * shuffled.mean):.1f} [" in soft.beside_best
    assert re.search(r"better than untrained at \d of 6 settings", soft.against)
    assert str(soft).startswith("“soft”: at best +")
    assert "; at worst " in str(soft)


def test_one_setting_has_no_best_and_worst() -> None:
    result = make(seeds=5, train=(50,), sees=(), maps=False, robust=False)
    one = findings(result, grid(result))[0]
    assert one.worst == one.beside_worst == ""
    assert "at best" not in str(one)
    assert "at 1 of 1 setting" in str(one)


def test_cautions() -> None:
    assert caution(RESULT, grid(RESULT)) == ""
    lonely = invented({"soft": {50: 0.1, 100: 0.1}})
    assert caution(lonely, grid(lonely)).startswith("No placebo was run")
    few = make(seeds=3, train=(50, 500), maps=False, robust=False)
    assert caution(few, grid(few)) == "Fewer than five paired seeds settle nothing."
    assert "is confirmed for the convolution student at any" in first_line(few, grid(few))


def test_nothing_to_compare_and_nothing_yet() -> None:
    rows = [r for r in RESULT.rows if r["variant"] != "plain" or r["student"] != "convolution"]
    waiting = kept(RESULT, rows)
    assert first_line(waiting, grid(RESULT)).startswith(
        "No verdict yet for the convolution student: no seed has finished both"
    )
    assert findings(waiting, grid(RESULT)) == []
    assert mood(waiting, grid(RESULT)) == ("", "")
    untaught = invented({"shuffled": {50: 0.1, 100: 0.1}})
    assert first_line(untaught, grid(untaught)).startswith("Nothing to compare")


def test_chance_counts_distinct_intervals() -> None:
    said = chance(RESULT, grid(RESULT))
    meant = {
        (c["student"], c["variant"], round(c["gain"], 9)): c["ci95"]
        for c in RESULT.comparisons
        if c["baseline"] == "plain" and c["metric"] == "accuracy"
    }
    away = sum(low > 0 or high < 0 for low, high in meant.values())
    assert len(meant) == 4 * 6 + 3
    assert said.startswith(f"27 intervals of gains over the student alone are shown and {away} of")
    assert "picked by these results, so their gains are extremes, not estimates. Sign-flip" in said
    assert said.endswith(
        "have p from 0.031 to 0.66, below 0.05 at 5 of 18; that of each is `p_sign_flip` in "
        "`qkd report FOLDER --json`."
    )
    single = make(seeds=1, train=(50, 500), maps=False, robust=False)
    assert chance(single, grid(single)) == ""


@pytest.mark.parametrize(
    ("count", "said"), [(8, "0.4 on average would"), (84, "about 4 would"), (400, "about 20 would")]
)
def test_what_chance_would_give(count: int, said: str) -> None:
    assert said in chance_sentence(count, excluding=3)
    assert "3 of them exclude zero" in chance_sentence(count, excluding=3)


def test_blocks_hold_every_panel_line_and_value() -> None:
    looks = strokes(RESULT.rows, placebos={"untrained", "shuffled"})
    found = blocks(RESULT, grid(RESULT), looks)
    assert [block["name"] for block in found] == ["teacher data: same", "teacher data: all"]
    for block in found:
        assert len(block["lines"]) == 9
        assert all(len(line["cells"]) == 3 for line in block["lines"])
        with_gain = [line["label"] for line in block["lines"] if line["gains"]]
        assert with_gain == ["soft", "features", "both", "untrained", "shuffled teacher"]
    point = {"train": 50, "sees": "same"}
    mean = np.mean([
        r["test"]["accuracy"] for r in at(RESULT.rows, point)
        if (r["student"], r["variant"]) == ("convolution", "soft")
    ])  # fmt: skip
    line = next(line for line in found[0]["lines"] if line["label"] == "soft")
    assert line["cells"][0]["accuracy"] == f"{100 * mean:.1f}"
    f1 = blocks(RESULT, grid(RESULT), looks, metric="macro_f1")
    assert f1[0]["lines"] != found[0]["lines"]


def test_setup_says_what_each_of_several_teachers_saw() -> None:
    said = setup_sentence(RESULT, None)
    assert said.startswith(
        "The teachers hybrid (quanvolution) and classical (convolution) were each trained on the "
        "students' own samples or the whole labelled pool (sees: same or all); trained on the pool "
        "once, for all seeds and settings. Students were trained on 50, 500 or 5,000 labelled "
        "samples."
    )
    RESULT.config["teachers"]["classical"]["shared"] = False
    try:
        apart = setup_sentence(RESULT, None)
    finally:
        RESULT.config["teachers"]["classical"]["shared"] = True
    assert "The teacher hybrid (quanvolution) was trained on" in apart
    assert "The teacher classical (convolution) was trained on" in apart
    assert apart.count("once, for all seeds") == 1
    assert "The teacher hybrid, trained on the pool, is the same for all seeds" in apart


def test_setup_says_what_intervals_leave_out_where_a_teacher_is_shared() -> None:
    said = setup_sentence(RESULT, None)
    assert (
        "The teachers hybrid and classical, trained on the pool, are the same for all seeds: "
        "intervals of what they taught contain the spread over the students' samples and initial "
        "weights, not what another training of the teacher would change." in said
    )
    config = {**RESULT.config, "axes": {}}
    assert "same for all seeds" not in setup_sentence(replace(RESULT, config=config), None)
    one = {"teacher": {"kind": "mlp", "sees": "all", "shared": True}}
    single = setup_sentence(replace(RESULT, config={**config, "teachers": one}), None)
    assert "intervals of what it taught contain the spread" in single
