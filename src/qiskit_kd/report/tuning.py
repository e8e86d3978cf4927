# SPDX-License-Identifier: Apache-2.0
"""Whether fine-tuning on a device helps, and what undoing readout errors does: paired numbers.

A fine-tuned variant is compared with the variant that is the same but for its second stage: both
have the same weights until then, so that what differs is what the steps on the device did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qiskit_kd.experiment.statistics import Verdict, paired_gain, shared_variance, verdict
from qiskit_kd.report.grid import Point, at
from qiskit_kd.report.summary import Result, Row, bounds, is_teacher, students_of, variants_of

__all__ = ["FEWEST", "Change", "Corrected", "Tuned", "controls", "corrected", "points_of", "tuned"]
__all__ += ["changed", "kept_epochs"]

FEWEST = 5
"""Pairs, below which `experiment.statistics.verdict` settles nothing."""
_LESS_IS_BETTER = {"kl", "nll"}


@dataclass(frozen=True, slots=True)
class Change:
    """A mean paired difference of one metric of one part of the data."""

    part: str
    """`validation` or `test`."""
    metric: str
    before: float
    """Mean over the paired seeds."""
    after: float
    mean: float
    """Of the differences, after less before."""
    low: float | None
    high: float | None
    n: int
    verdict: Verdict
    """`confirmed` where it is for the better, whichever sign that is; `harmful` for the worse."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A fine-tuned variant of one student beside the same one without its second stage."""

    student: str
    variant: str
    control: str
    point: Point
    changes: tuple[Change, ...]
    """The first one is what the verdict is about: the divergence on the validation data."""
    raw: tuple[Change, ...] = ()
    """The same with readout errors left in, where rows have that."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """One student under one variant: what undoing readout errors changes in the same shots."""

    student: str
    variant: str
    point: Point
    changes: tuple[Change, ...]


def controls(config: Mapping[str, Any]) -> dict[str, str]:
    """From each fine-tuned variant to the one that is the same without fine-tuning.

    Args:
        config: A resolved configuration.
    """
    variants: Mapping[str, Mapping[str, Any]] = config.get("variants", {})

    def first_stage(name: str) -> dict[str, Any]:
        return {key: value for key, value in variants[name].items() if key != "fine_tune"}

    plain = [name for name, own in variants.items() if not own.get("fine_tune")]
    found = {}
    for name, own in variants.items():
        same = [other for other in plain if first_stage(other) == first_stage(name)]
        if own.get("fine_tune") and same:
            found[name] = same[0]
    return found


def tuned(result: Result) -> list[Tuned]:
    """Every fine-tuned variant that shares a seed with its control, point by point."""
    found = []
    for point in points_of(result.rows):
        rows = at(result.rows, point)
        for student in students_of(rows):
            for variant, control in controls(result.config).items():
                sides = [_by_seed(rows, student, name) for name in (control, variant)]
                changes = tuple(_changes(*sides))
                if changes:
                    raw = tuple(_changes(*map(_raw, sides)))
                    found.append(Tuned(student, variant, control, point, changes, raw))
    return found


def corrected(result: Result) -> list[Corrected]:
    """Every student and variant whose rows carry raw metrics, point by point."""
    found = []
    for point in points_of(result.rows):
        rows = [row for row in at(result.rows, point) if row.get("raw")]
        for student in students_of(rows):
            for variant in variants_of(rows, student=student):
                mine = _by_seed(rows, student, variant)
                found.append(Corrected(student, variant, point, tuple(_changes(_raw(mine), mine))))
    return found


def kept_epochs(rows: Sequence[Row], item: Tuned) -> list[int]:
    """The epoch of fine-tuning that each run kept, 0 for the start; of rows that tell."""
    stages = [
        row["fine_tuning"]
        for row in at(rows, item.point)
        if (row["student"], row["variant"]) == (item.student, item.variant)
    ]
    return [int(stage["best_epoch"]) for stage in stages if stage.get("best_epoch") is not None]


def points_of(rows: Sequence[Row]) -> list[Point]:
    """The points that rows have, in order of appearance."""
    found: list[Point] = []
    for row in rows:
        point = row.get("point", {})
        found += [] if point in found else [point]
    return found


def _by_seed(rows: Sequence[Row], student: str, variant: str) -> dict[int, Row]:
    return {
        int(row["seed"]): row
        for row in rows
        if (row["student"], row["variant"]) == (student, variant) and not is_teacher(student)
    }


def _raw(rows: Mapping[int, Row]) -> dict[int, Row]:
    """The rows with their raw metrics in place of the others, where they have both."""
    return {seed: {**row, **row["raw"]} for seed, row in rows.items() if row.get("raw")}


def _changes(before: Mapping[int, Row], after: Mapping[int, Row]) -> list[Change]:
    """Divergence and accuracy on validation and test data, where both sides have them."""
    taught = all("kl" in row["validation"] for row in (*before.values(), *after.values()))
    loss = "kl" if taught else "nll"
    shared = shared_variance(after.values(), before.values())
    wanted = [("validation", loss), ("test", loss), ("test", "accuracy")]
    found = []
    for part, metric in wanted:
        sides = [
            {seed: row[part][metric] for seed, row in side.items()
             if row[part].get(metric) is not None}
            for side in (before, after)
        ]  # fmt: skip
        if sides[0].keys() & sides[1].keys():
            found.append(changed(*sides, part=part, metric=metric, shared=shared))
    return found


def changed(
    before: Mapping[int, float], after: Mapping[int, float], *, part: str, metric: str,
    shared: float = 0.0,
) -> Change:  # fmt: skip
    """The paired difference of two sets of numbers by seed.

    Args:
        before: Metric per seed.
        after: The same.
        part: Of which part of the data.
        metric: Which metric; of divergences and losses less is better.
        shared: See `statistics.shared_variance`.
    """
    seeds = sorted(before.keys() & after.keys())
    left, right = [[side[seed] for seed in seeds] for side in (before, after)]
    gain = paired_gain(right, left, shared=shared)
    better = paired_gain(left, right, shared=shared) if metric in _LESS_IS_BETTER else gain
    return Change(
        part, metric, float(np.mean(left)), float(np.mean(right)), gain.mean,
        *bounds((gain.low, gain.high)), gain.n, verdict(better),
    )  # fmt: skip
