# SPDX-License-Identifier: Apache-2.0
"""Studies under noise: which training validation prefers, what noise takes, what shots cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from qiskit_kd.report.document import (
    LEGEND,
    Entry,
    Line,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
    gained,
    section,
    tabled,
)
from qiskit_kd.report.frame import Frame, judged_on, settings_of, trained_on
from qiskit_kd.report.grid import Grid, Point, at, shown
from qiskit_kd.report.plots_sweep import NOWHERE, plot_shots, shots_of
from qiskit_kd.report.style import look, looks_of, readable


@dataclass(frozen=True, slots=True)
class Preferred:
    """What the validation data prefer for one student at one point."""

    point: Point
    variant: str
    accuracy: float
    """Its mean validation accuracy."""


@section("noise", place=20)
def noise(frame: Frame) -> Section | None:
    """Which training holds, setting by setting."""
    grid = frame.grid
    if grid is None or not frame.noisy_points:
        return None
    said = (
        "Which training stands for a setting is chosen by the validation data, and measured on the "
        f"test data, seed by seed, against each of the others: points of accuracy. {LEGEND}."
    )
    tables = [table for name in frame.compared for table in _preferences(frame, grid, name)]
    return Section("Which training holds", [Text(said), *_lost(frame, grid), *tables])


def _lost(frame: Frame, grid: Grid) -> list[Table]:
    """What every training loses from the first value of the axis to the last."""
    scales = {frame.scale_at(grid.point(grid.panels[0], value)) for value in grid.values}
    if len(scales) < 2:
        return []
    lines: list[Line] = [
        [readable(student), look(variant).label, gained(gain), str(gain.n)]
        for student in frame.compared
        for variant in frame.variants_of(student)
        if (gain := frame.lost(student, variant)) is not None
    ]
    ends = f"from {grid.titles[grid.x]} {shown(grid.values[0])} to {shown(grid.values[-1])}"
    panels = f", mean over {len(grid.panels)} panels" * (len(grid.panels) > 1)
    heads = ["student", "training", "change of test accuracy, points", "seeds"]
    return [Table(heads, lines, title=f"What noise takes, {ends}{panels}", words=2)]


def _preferences(frame: Frame, grid: Grid, student: str) -> Iterator[Table]:
    """A table per panel: the preferred training of each value, and its gain over each other."""
    others, styles = frame.variants_of(student), looks_of(frame, student=student)
    found = preferred(frame, student)
    gains = {
        str(one.point): {
            name: frame.gain(student, one.variant, name, points=[one.point])
            for name in others
            if name != one.variant
        }
        for one in found
    }

    def over(name: str, one: Preferred) -> str | Entry:
        return "is preferred" if name == one.variant else gained(gains[str(one.point)][name])

    def pairs(one: Preferred) -> str:
        return str(max((gain.n for gain in gains[str(one.point)].values() if gain), default=0))

    for panel in grid.panels:
        points = [grid.point(panel, value) for value in grid.values]
        where = grid.say(panel)
        table = tabled(
            [one for one in found if one.point in points],
            {
                grid.titles[grid.x]: lambda one: shown(one.point[grid.x]),
                "preferred": lambda one: Entry(
                    look(one.variant).label, color=styles[student, one.variant].color
                ),
                "validation, %": lambda one: f"{100 * one.accuracy:.1f}",
                "pairs": pairs,
                **{f"over {look(name).label}": partial(over, name) for name in others},
            },
            title=f"The {readable(student)} student{', ' * bool(where)}{where}",
            words=2,
        )
        if table.lines:
            yield table


def preferred(frame: Frame, student: str) -> list[Preferred]:
    """One entry per point at which at least two variants share a seed.

    Preferred is the variant with the best mean of the study's own `metric` on the validation split,
    over the seeds that all variants of the point have finished; a tie goes to the other validation
    metric, then to the variant listed first.
    """
    by_loss, found = frame.config.get("metric") == "loss", []
    for point in frame.points:
        rows = [row for row in frame.at(point) if row["student"] == student]
        names = dict.fromkeys(str(row["variant"]) for row in rows)
        by_variant = {n: {int(r["seed"]): r for r in frame.cell(student, n, point)} for n in names}
        shared = set.intersection(*map(set, by_variant.values())) if by_variant else set()
        if len(by_variant) < 2 or not shared:
            continue
        merits = {}
        for name, mine in by_variant.items():
            known = [mine[seed]["validation"] for seed in sorted(shared)]
            accuracy, loss = _mean(known, "accuracy"), -_mean(known, "nll")
            merits[name] = ((loss, accuracy) if by_loss else (accuracy, loss)), accuracy
        best = max(merits, key=lambda name: merits[name][0])
        found.append(Preferred(point, best, merits[best][1]))
    return found


def _mean(found: Sequence[Mapping[str, Any]], metric: str) -> float:
    """Mean of a validation metric; infinite where a run has none, for it has diverged."""
    return float(np.mean([np.inf if f.get(metric) is None else f[metric] for f in found]))


@section("shots", place=35)
def shots(frame: Frame) -> Section | None:
    """Accuracy and KL against shots, two figures per student, at the device's own noise."""
    if not shots_of(frame.rows):
        return None
    places, where, end = _at_one(frame), "", _end(frame)
    if frame.grid is not None:
        where = f" at {frame.grid.say({frame.grid.x: places[0][0][frame.grid.x]})}"
    items = []
    for student in frame.students:
        rows = [row for row in frame.rows if row["student"] == student]
        drawn = [(point, name) for point, name in places if shots_of(at(rows, point))]
        known = {key for row in rows for entry in row.get("shots") or () for key in entry}
        for metric, title in (("accuracy", "Accuracy"), ("kl", "KL(teacher ‖ student)")):
            if drawn and metric in known:
                how: dict[str, Any] = {"looks": looks_of(frame, student=student), "limit": end}
                items.append(
                    Picture(
                        f"shots-{metric}-{student}",
                        partial(plot_shots, rows, points=drawn, metric=metric, **how),
                        f"Test {title if metric == 'kl' else metric} of "
                        f"the {readable(student)} student against the shots per circuit at "
                        f"evaluation{where}, a line per variant.",
                        f"{title} of the {readable(student)} student",
                    )
                )
    said = (
        f"The networks trained once, judged with so many shots per circuit{where}; every number of "
        "shots has shots of its own. "
        + ("Means over seeds with 95 % bands. " if frame.many else "A single seed, without bands. ")
        + "Detached at the right: "
        + (
            "without shots, from exact probabilities."
            if end == "∞"
            else "as it was judged for all other numbers of this page."
        )
    )
    return Section("What shots cost", [Text(said), Pictures(items, "wide")]) if items else None


def _at_one(frame: Frame) -> list[tuple[Point, str]]:
    """The points at which errors are the device's own, by panel; else those of the last value."""
    grid = frame.grid
    if grid is None:
        return [*NOWHERE]
    own = (v for v in grid.values if frame.scale_at(grid.point(grid.panels[0], v)) == 1.0)
    value = next(own, grid.values[-1])
    return [(grid.point(panel, value), grid.say(panel)) for panel in grid.panels]


def _end(frame: Frame) -> str:
    """What the end of the axis of shots is: no shots, unless a backend of judging has some."""
    config = frame.settled()
    judged = judged_on(config)
    places = [judged] if judged else [trained_on(config, n) for n in frame.variants_of()]
    sampled = any(settings_of(config, place).get("shots") for place in places)
    return "as judged" if sampled else "∞"
