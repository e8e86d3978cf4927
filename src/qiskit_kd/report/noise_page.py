# SPDX-License-Identifier: Apache-2.0
"""What a page says of noise: which training holds, the price of shots, backends and circuits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qiskit_kd.report.beside import agreement, beside, compiled, shot_noise
from qiskit_kd.report.grid import Grid, Point, at, settled, shown
from qiskit_kd.report.noise_words import answers, lessons
from qiskit_kd.report.palette import look, readable
from qiskit_kd.report.sections import Album
from qiskit_kd.report.sentences import chance_sentence
from qiskit_kd.report.shots import NOWHERE, plot_shots, shots_of
from qiskit_kd.report.strokes import Stroke
from qiskit_kd.report.summary import Gain, Result, is_teacher, points, students_of, variants_of
from qiskit_kd.report.tally import ends_of, looks_of, runs_of, subject
from qiskit_kd.report.trainings import (
    Preferred,
    compared,
    noisy_points,
    preferred,
    scale_at,
    under_noise,
)
from qiskit_kd.report.whereabouts import judged_on, places_sentence, settings_of, trained_on

__all__ = ["answer", "holds", "machines", "shots"]


def answer(result: Result, grid: Grid | None) -> str:
    """Which training holds, for the headline's student; empty for a study without noise."""
    student = subject(result)
    if grid is None or student is None or not all(under_noise(result)):
        return ""
    return " ".join(lessons(result, grid, student, brief=True))


def holds(result: Result, grid: Grid | None) -> dict[str, Any] | None:
    """Per student the sentences, and per panel what validation prefers and what that is worth."""
    if grid is None or not noisy_points(result, grid):
        return None
    students = compared(result)
    tables = {name: preferred(result, grid, name) for name in students}
    seen: dict[Any, Gain] = {}
    for name, found in tables.items():
        for item in found:
            here = at(result.rows, item.point)
            for other, gain in item.gains.items():
                if gain.low is not None:
                    key = runs_of(here, gain) or (name, other, str(item.point))
                    seen.setdefault(key, gain)
    away = sum((g.low or 0.0) > 0 or (g.high or 0.0) < 0 for g in seen.values())
    return {
        "students": [
            {
                "name": readable(name), "answers": answers(result, grid, name),
                "others": [look(v).label for v in variants_of(result.rows, student=name)],
                "panels": _panels(result, grid, name, tables[name]),
            }
            for name in students
        ],
        "axis": grid.titles[grid.x],
        "chance": chance_sentence(len(seen), excluding=away, over="the other trainings"),
    }  # fmt: skip


def _panels(
    result: Result, grid: Grid, student: str, found: list[Preferred]
) -> list[dict[str, Any]]:
    others = variants_of(result.rows, student=student)
    looks = looks_of(result, student=student)
    out = []
    for panel in grid.panels:
        lines = []
        for value in grid.values:
            point = grid.point(panel, value)
            item = next((one for one in found if one.point == point), None)
            if item is None:
                continue
            lines.append(
                {
                    "value": shown(value), "preferred": look(item.variant).label,
                    "color": f"--c{looks[student, item.variant].color.removeprefix('#')}",
                    "accuracy": f"{100 * item.accuracy:.1f}",
                    "n": max((gain.n for gain in item.gains.values()), default=0),
                    "cells": [_cell(item, name) for name in others],
                }
            )  # fmt: skip
        if lines:
            out.append({"name": grid.say(panel), "lines": lines})
    return out


def _cell(item: Preferred, other: str) -> dict[str, str]:
    gain = item.gains.get(other)
    if gain is None:
        return {"gain": "", "range": "", "verdict": "preferred" if other == item.variant else ""}
    return {"gain": points(gain.mean), "range": ends_of(gain), "verdict": gain.verdict}


def shots(result: Result, grid: Grid | None, album: Album) -> dict[str, Any] | None:
    """Accuracy and KL against shots, two figures per student, at the device's own noise."""
    if not shots_of(result.rows):
        return None
    places, where = _at_one(result, grid)
    students = [name for name in students_of(result.rows) if not is_teacher(name)]
    figures: list[dict[str, str]] = []
    for student in students:
        rows = [row for row in result.rows if row["student"] == student]
        looks: Mapping[tuple[str, str], Stroke] = looks_of(result, student=student)
        drawn = [(p, name) for p, name in places if shots_of(at(rows, p))]
        for metric, title in (("accuracy", "accuracy"), ("kl", "KL(teacher ‖ student)")):
            if not any(metric in e for row in rows for e in row.get("shots") or ()) or not drawn:
                continue
            figures.append(
                album.add(
                    f"shots-{metric}-{student}",
                    plot_shots(rows, points=drawn, looks=looks, metric=metric, limit=_end(result)),
                    f"Test {title} of the {readable(student)} student against the shots per "
                    f"circuit at evaluation{f', at {where}' if where else ''}, a line per variant.",
                    title=f"{title[0].upper()}{title[1:]} of the {readable(student)} student",
                )
            )
    many = len({row["seed"] for row in result.rows}) > 1
    return {
        "title": "What shots cost", "legend": [], "figures": figures, "shape": "wide",
        "note": f"The networks trained once, judged with so many shots per circuit"
        f"{f' at {where}' if where else ''}; every number of shots has shots of its own. "
        + ("Means over seeds with 95 % bands. " if many else "A single seed, without bands. ")
        + "Detached at the right: " + ("without shots, from exact probabilities."
           if _end(result) == "∞" else "as it was judged for all other numbers of this page."),
    }  # fmt: skip


def _at_one(result: Result, grid: Grid | None) -> tuple[list[tuple[Point, str]], str]:
    """The points at which errors are the device's own, by panel; else those of the last value."""
    if grid is None:
        return [*NOWHERE], ""
    value = next(
        (v for v in grid.values if scale_at(result, grid.point(grid.panels[0], v)) == 1.0),
        grid.values[-1],
    )
    places = [(grid.point(panel, value), grid.say(panel)) for panel in grid.panels]
    return places, grid.say({grid.x: value})


def _end(result: Result) -> str:
    """What the end of the axis of shots is: no shots, unless a backend of judging has some."""
    config = settled(result.config)
    judged = judged_on(config)
    places = (
        [trained_on(config, name) for name in variants_of(result.rows)]
        if judged is None
        else [judged]
    )
    sampled = any(settings_of(config, place).get("shots") for place in places)
    return "as judged" if sampled else "∞"


def machines(result: Result, grid: Grid | None) -> dict[str, Any] | None:
    """Backends side by side, and what circuits became on devices; None where rows have neither."""
    students = [name for name in students_of(result.rows) if not is_teacher(name)]
    tables = [t for name in students if (t := beside(result, grid, name)) is not None]
    circuits = compiled(result, grid)
    if not tables and circuits is None:
        return None
    classes = next((len(row["distribution"]) for row in result.rows if row.get("distribution")), 0)
    return {
        "beside": tables, "compiled": circuits, "agreement": agreement(result),
        "shot_noise": shot_noise(result, classes), "places": places_sentence(result),
    }  # fmt: skip
