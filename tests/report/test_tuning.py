# SPDX-License-Identifier: Apache-2.0
"""Paired numbers of fine-tuning and of readout errors."""

from __future__ import annotations

import numpy as np
import pytest

from qiskit_kd.report.tuning import changed, controls, corrected, points_of, tuned

from .fake_device import LEVELS, STAGE, TAUGHT, UNDONE, VARIANTS, make
from .fake_result import make as make_plain


def test_the_control_is_the_same_variant_without_its_second_stage() -> None:
    assert controls({"variants": VARIANTS}) == {"fine_tuned": "noise_aware"}
    lonely = {"a": {**TAUGHT, "backend": "exact"}, "b": VARIANTS["fine_tuned"]}
    assert controls({"variants": lonely}) == {}
    two = {**VARIANTS, "also": {**VARIANTS["labels"], "fine_tune": STAGE}}
    assert controls({"variants": two}) == {"fine_tuned": "noise_aware", "also": "labels"}
    assert controls({}) == {}


def test_changes_are_paired_by_seed_and_less_divergence_is_better() -> None:
    result = make()
    (item,) = tuned(result)
    assert (item.student, item.variant, item.control) == ("sharp", "fine_tuned", "noise_aware")
    found = [(c.part, c.metric, c.n, c.verdict) for c in item.changes]
    assert found == [
        ("validation", "kl", 5, "confirmed"), ("test", "kl", 5, "confirmed"),
        ("test", "accuracy", 5, "confirmed"),
    ]  # fmt: skip
    first, kl, accuracy = item.changes
    rows = {(row["variant"], row["seed"]): row for row in result.rows if row["student"] == "sharp"}
    differences = [
        rows["fine_tuned", k]["validation"]["kl"] - rows["noise_aware", k]["validation"]["kl"]
        for k in range(5)
    ]
    assert first.mean == pytest.approx(np.mean(differences))
    assert first.low is not None
    assert first.high is not None
    assert first.low < first.mean < first.high < 0
    assert first.after - first.before == pytest.approx(first.mean)
    assert kl.mean == pytest.approx(-0.05, abs=0.002)
    assert accuracy.mean == pytest.approx(0.02, abs=0.002)
    assert [c.mean for c in item.raw] == pytest.approx([c.mean for c in item.changes], abs=1e-9)


def test_what_is_worse_is_harmful_whichever_sign_it_has() -> None:
    (item,) = tuned(make(levels=LEVELS | {"fine_tuned": (0.6, 0.7, 0.7)}))
    assert [change.verdict for change in item.changes] == ["harmful"] * 3
    assert [np.sign(change.mean) for change in item.changes] == [1, 1, -1]


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_fewer_than_five_seeds_settle_nothing(seeds: int) -> None:
    (item,) = tuned(make(seeds=seeds))
    assert {change.verdict for change in item.changes} == {"not confirmed"}
    assert {change.n for change in item.changes} == {seeds}
    assert all((change.low is None) == (seeds == 1) for change in item.changes)


def test_only_shared_seeds_count_and_none_make_no_entry() -> None:
    result = make(seeds=6)
    result.rows = [r for r in result.rows if (r["variant"], r["seed"]) != ("fine_tuned", 3)]
    (item,) = tuned(result)
    assert {change.n for change in item.changes} == {5}
    result.rows = [row for row in result.rows if row["variant"] != "noise_aware"]
    assert tuned(result) == []
    assert tuned(make_plain(seeds=2)) == []


def test_without_a_teacher_the_loss_stands_for_the_divergence() -> None:
    result = make()
    for row in result.rows:
        for part in ("validation", "test"):
            row[part].pop("kl", None)
            row[part]["nll"] = 0.5 if row["variant"] == "fine_tuned" else 0.6
        if "raw" in row:
            row["raw"] = {part: {"nll": 0.7, "accuracy": 0.5} for part in ("validation", "test")}
    (item,) = tuned(result)
    found = [(change.part, change.metric) for change in item.changes]
    assert found == [("validation", "nll"), ("test", "nll"), ("test", "accuracy")]
    # Differences that are all equal say nothing of other seeds.
    assert item.changes[0].mean == pytest.approx(-0.1)
    assert item.changes[0].verdict == "not confirmed"


def test_readout_errors_per_variant() -> None:
    found = {item.variant: item for item in corrected(make())}
    assert list(found) == list(LEVELS)
    for item in found.values():
        assert [c.mean for c in item.changes] == pytest.approx(
            [1.02 * change for change in UNDONE], abs=1e-6
        )
        assert [c.verdict for c in item.changes] == ["confirmed"] * 3
    assert corrected(make_plain(seeds=2)) == []


def test_points_are_kept_apart() -> None:
    result = make()
    twice = [{**row, "point": {"scale": s}} for s in (1, 2) for row in result.rows]
    result.rows = twice
    assert points_of(twice) == [{"scale": 1}, {"scale": 2}]
    assert [item.point for item in tuned(result)] == [{"scale": 1}, {"scale": 2}]
    assert {change.n for item in tuned(result) for change in item.changes} == {5}
    assert len(corrected(result)) == 2 * len(LEVELS)


def test_a_change_says_where_it_came_from() -> None:
    change = changed({0: 1.0, 1: 2.0, 7: 9.0}, {1: 1.0, 0: 0.5}, part="test", metric="kl")
    assert (change.part, change.metric, change.n) == ("test", "kl", 2)
    assert (change.before, change.after, change.mean) == (1.5, 0.75, -0.75)
