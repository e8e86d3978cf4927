# SPDX-License-Identifier: Apache-2.0
"""Which training holds best: every variant of a student against every other, point by point.

The variant that stands for a point is the one the validation data prefer; its gains over the others
are measured on the test data, seed by seed. Placebos take part like all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qiskit_kd.experiment.statistics import paired_gain, shared_variance, verdict
from qiskit_kd.report.grid import Grid, Point, at, settled
from qiskit_kd.report.summary import (
    Gain,
    Result,
    Row,
    bounds,
    is_teacher,
    others_of,
    paired,
    roles,
    students_of,
    values,
    variants_of,
)
from qiskit_kd.report.tally import Tally, runs_of
from qiskit_kd.report.whereabouts import judged_on, noise_of, trained_on

__all__ = ["Preferred", "averaged", "compared", "contest", "lost", "noisy_points", "preferred"]
__all__ += ["scale_at", "scaled", "under_noise"]


@dataclass(frozen=True, slots=True)
class Preferred:
    """What the validation data prefer for one student at one point."""

    point: Point
    variant: str
    accuracy: float
    """Its mean validation accuracy."""
    gains: Mapping[str, Gain]
    """Its paired gain on the test data over each of the other variants."""


def compared(result: Result) -> list[str]:
    """Students trained in more than one way, in order of appearance."""
    names = [name for name in students_of(result.rows) if not is_teacher(name)]
    return [name for name in names if len(variants_of(result.rows, student=name)) > 1]


def preferred(result: Result, grid: Grid, student: str) -> list[Preferred]:
    """One entry per point at which at least two variants share a seed.

    Preferred is the variant with the best mean of the study's own `metric` on the validation split,
    over the seeds that all variants of the point have finished; a tie goes to the other validation
    metric, then to the variant listed first.
    """
    found = []
    by_loss = result.config.get("metric") == "loss"
    for point in grid.points:
        rows = [row for row in at(result.rows, point) if row["student"] == student]
        by_variant = {
            name: {int(r["seed"]): r for r in rows if r["variant"] == name}
            for name in dict.fromkeys(str(r["variant"]) for r in rows)
        }
        shared = set.intersection(*map(set, by_variant.values())) if by_variant else set()
        if len(by_variant) < 2 or not shared:
            continue
        merits = {
            name: _merit([mine[seed] for seed in sorted(shared)], by_loss=by_loss)
            for name, mine in by_variant.items()
        }
        best = max(merits, key=lambda name: merits[name])
        found.append(
            Preferred(
                point, best, _mean([by_variant[best][s]["validation"] for s in shared], "accuracy"),
                {name: paired(rows, student, best, name) for name in by_variant if name != best},
            )
        )  # fmt: skip
    return found


def _merit(rows: Sequence[Row], *, by_loss: bool) -> tuple[float, ...]:
    known = [row["validation"] for row in rows]
    accuracy, loss = _mean(known, "accuracy"), -_mean(known, "nll")
    return (loss, accuracy) if by_loss else (accuracy, loss)


def _mean(found: Sequence[Mapping[str, Any]], metric: str) -> float:
    """Mean of a validation metric; infinite where a run has none, for it has diverged."""
    return float(np.mean([np.inf if f.get(metric) is None else f[metric] for f in found]))


def contest(
    result: Result, student: str, variant: str, other: str, points: Sequence[Point]
) -> Tally:
    """One variant of a student against another at some points; equal runs count once."""
    seen: set[Any] = set()
    found = []
    for point in points:
        here = at(result.rows, point)
        sides = [values(here, student, name, "accuracy") for name in (variant, other)]
        if not sides[0].keys() & sides[1].keys():
            continue
        gain = paired(here, student, variant, other)
        runs = runs_of(here, gain) or str(point)
        if runs not in seen:
            seen.add(runs)
            found.append((point, gain))
    return Tally(variant, tuple(found))


def averaged(result: Result, tally: Tally) -> Gain | None:
    """The mean of a contest over its points, seed by seed, with an interval over the seeds.

    Seeds that are missing at one of the points are left out; None if none is left.
    """
    if not tally.found:
        return None
    first = tally.found[0][1]
    tables = [
        [values(at(result.rows, point), first.student, name, "accuracy")
         for name in (first.variant, first.baseline)]
        for point, _ in tally.found
    ]  # fmt: skip
    seeds = sorted(set.intersection(*(set(side) for table in tables for side in table)))
    if not seeds:
        return None
    left, right = (
        [float(np.mean([table[k][seed] for table in tables])) for seed in seeds] for k in (0, 1)
    )
    shared = [
        shared_variance(*(
            [r for r in at(result.rows, point) if (r["student"], r["variant"]) == (g.student, name)]
            for name in (g.variant, g.baseline)
        ))
        for point, g in tally.found
    ]  # fmt: skip
    return _gain(first.student, first.variant, first.baseline, left, right, float(np.mean(shared)))


def lost(result: Result, grid: Grid, student: str, variant: str) -> Gain | None:
    """What a variant gains between the first and the last value of the axis, over all panels.

    Seed by seed, averaged over the panels that have both ends; None where there is none.
    """
    ends = (grid.values[0], grid.values[-1])
    tables, shared = [], []
    for panel in grid.panels:
        sides = [
            values(at(result.rows, grid.point(panel, end)), student, variant, "accuracy")
            for end in ends
        ]
        if all(sides):
            tables.append(sides)
            shared.append(shared_variance(*(
                [r for r in at(result.rows, grid.point(panel, end))
                 if (r["student"], r["variant"]) == (student, variant)]
                for end in reversed(ends)
            )))  # fmt: skip
    seeds = sorted(set.intersection(*(set(s) for sides in tables for s in sides))) if tables else []
    if not seeds or ends[0] == ends[1]:
        return None
    low, high = ([float(np.mean([t[k][seed] for t in tables])) for seed in seeds] for k in (0, 1))
    return _gain(student, variant, variant, high, low, float(np.mean(shared)))


def _gain(
    student: str, variant: str, baseline: str, left: Sequence[float], right: Sequence[float],
    shared: float,
) -> Gain:  # fmt: skip
    found = paired_gain(left, right, shared=shared)
    return Gain(student, variant, baseline, found.mean, *bounds((found.low, found.high)), found.n,
                verdict(found))  # fmt: skip


def scale_at(result: Result, point: Point) -> float | None:
    """The factor on the errors of the device that students are judged on; None without noise.

    Where each is judged on the backend it was trained on, the largest of these factors.
    """
    here = settled(result.config, point)
    places = [judged_on(here) or trained_on(here, name) for name in here.get("variants", {})]
    found = [
        scale for place in dict.fromkeys(places) if (scale := noise_of(here, place)) is not None
    ]
    return max(found, default=None)


def noisy_points(result: Result, grid: Grid) -> list[Point]:
    """Points at which students are judged under noise that is not scaled down to nothing."""
    return [point for point in grid.points if scale_at(result, point)]


def scaled(result: Result, grid: Grid) -> bool:
    """Whether it is the strength of the noise that changes along the axis."""
    panel = grid.panels[0]
    return len({scale_at(result, grid.point(panel, value)) for value in grid.values}) > 1


def under_noise(result: Result) -> tuple[list[str], list[str]]:
    """Variants without teacher that are no placebo: those trained under noise, those without."""
    here = settled(result.config)
    known = variants_of(result.rows)
    names = [name for name in (roles(result)[0], *others_of(result)) if name in known]
    noisy = [name for name in names if noise_of(here, trained_on(here, name)) is not None]
    return noisy, [name for name in names if name not in noisy]
