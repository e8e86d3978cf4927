# SPDX-License-Identifier: Apache-2.0
"""A study with axes counted: what became of each variant at every setting, and the table of it.

A setting is a point of the study. Points at which a variant and the student alone are the very same
runs (the axis does not concern them) count once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qiskit_kd.report.grid import Grid, Point, at
from qiskit_kd.report.palette import look
from qiskit_kd.report.strokes import Stroke, strokes
from qiskit_kd.report.summary import (
    Gain,
    Result,
    Row,
    cells,
    gains,
    is_taught,
    is_teacher,
    others_of,
    points,
    roles,
    variants_of,
)

__all__ = ["Tally", "blocks", "ends_of", "looks_of", "runs_of", "subject", "tallies", "taught"]


@dataclass(frozen=True, slots=True)
class Tally:
    """One variant of the headline's student against the student alone, over all settings."""

    variant: str
    found: tuple[tuple[Point, Gain], ...]

    def count(self, verdict: str) -> int:
        """Settings with this verdict."""
        return sum(gain.verdict == verdict for _, gain in self.found)

    @property
    def best(self) -> tuple[Point, Gain]:
        """The setting with the largest mean gain."""
        return max(self.found, key=lambda item: item[1].mean)

    @property
    def worst(self) -> tuple[Point, Gain]:
        """The setting with the smallest mean gain."""
        return min(self.found, key=lambda item: item[1].mean)


def subject(result: Result) -> str | None:
    """The student that the first line is about: the headline, or the first one that is compared."""
    wanted = result.config.get("headline")
    return wanted or next((str(c["student"]) for c in result.comparisons), None)


def looks_of(result: Result, *, student: str | None = None) -> dict[tuple[str, str], Stroke]:
    """How every student and variant of a study is drawn, the same in all its figures.

    Args:
        result: A study.
        student: Only this student and the teachers, for figures that show no other.
    """
    baseline, placebos = roles(result)
    rows = [
        row
        for row in result.rows
        if student in (None, row["student"]) or is_teacher(str(row["student"]))
    ]
    return strokes(
        rows, headline=student or subject(result), placebos=placebos, baseline=baseline,
        alone=look(baseline).label if others_of(result) else "alone",
    )  # fmt: skip


def taught(result: Result) -> list[str]:
    """Variants taught by a real teacher, in the order of the configuration or of the rows."""
    baseline, placebos = roles(result)
    listed = result.config.get("variants", {})
    names = [name for name, item in listed.items() if is_taught(item)]
    names += [name for name in variants_of(result.rows) if not listed and name not in placebos]
    return [name for name in names if name != baseline]


def tallies(
    result: Result, grid: Grid, variants: Sequence[str], *, against: str | None = None
) -> list[Tally]:
    """One tally per variant of the headline's student that has been measured anywhere.

    Args:
        result: A study.
        grid: Its points.
        variants: Which variants.
        against: What they are compared with; the student alone by default.
    """
    student, other = subject(result), against or roles(result)[0]
    found = []
    for variant in variants:
        seen: set[Any] = set()
        mine = []
        for point in grid.points:
            here = at(result.rows, point)
            entries = [
                c for c in at(result.comparisons, point)
                if (c["student"], c["variant"]) == (student, variant)
            ]  # fmt: skip
            for gain in gains(here, entries, baseline=other):
                runs = runs_of(here, gain) or str(point)
                if runs not in seen:
                    seen.add(runs)
                    mine.append((point, gain))
        if mine:
            found.append(Tally(variant, tuple(mine)))
    return found


def blocks(
    result: Result, grid: Grid, looks: Mapping[tuple[str, str], Stroke], *,
    metric: str = "accuracy",
) -> list[dict[str, Any]]:  # fmt: skip
    """One table per panel: a line per student and variant, a cell per value of the axis."""
    baseline, placebos = roles(result)
    out = []
    for panel in grid.panels:
        lines: dict[tuple[str, str], list[dict[str, str]]] = {key: [] for key in looks}
        for value in grid.values:
            point = grid.point(panel, value)
            here = at(result.rows, point)
            numbers = {(c.student, c.variant): c for c in cells(here, metric)}
            gained = {
                (g.student, g.variant): g
                for g in gains(here, at(result.comparisons, point), metric=metric,
                               baseline=baseline)
            }  # fmt: skip
            for key in looks:
                cell, gain = numbers.get(key), gained.get(key)
                half = cell.half if cell else None
                lines[key].append(
                    {
                        "accuracy": f"{100 * cell.mean:.1f}" if cell else "",
                        "half": "" if half is None else f"{100 * half:.1f}",
                        "gain": points(gain.mean) if gain else "",
                        "range": ends_of(gain) if gain else "",
                        "verdict": gain.verdict if gain else "",
                    }
                )
        out.append(
            {
                "name": grid.say(panel),
                "lines": [
                    {
                        "label": looks[key].label, "cells": found,
                        "color": f"--c{looks[key].color.removeprefix('#')}",
                        "placebo": key[1] in placebos,
                        "gains": any(cell["gain"] for cell in found),
                    }
                    for key, found in lines.items()
                    if any(cell["accuracy"] for cell in found)
                ],
            }
        )  # fmt: skip
    return out


def runs_of(rows: Sequence[Row], gain: Gain) -> tuple[frozenset[str], ...]:
    """The runs on both sides of a comparison; empty where rows have no keys."""
    sides = tuple(
        frozenset(
            str(r["key"])
            for r in rows
            if (r["student"], r["variant"]) == (gain.student, variant) and "key" in r
        )
        for variant in (gain.variant, gain.baseline)
    )
    return sides if all(sides) else ()


def ends_of(gain: Gain) -> str:
    """`−0.3, +1.2`: both ends of an interval in points; empty for a single seed."""
    if gain.low is None or gain.high is None:
        return ""
    return f"{points(gain.low)}, {points(gain.high)}"
