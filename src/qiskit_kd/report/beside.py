# SPDX-License-Identifier: Apache-2.0
"""Tables about devices: one trained network on several backends, and what its circuits became.

Rows carry both where the experiment asks for it (`evaluation.side_by_side`, for the first seed) and
where a network runs on a device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from qiskit_kd.report.grid import Grid, Point, shown
from qiskit_kd.report.palette import listed, look, readable
from qiskit_kd.report.summary import Result, is_teacher, students_of

__all__ = ["agreement", "beside", "compiled", "shot_noise"]

_SAME = 1e-4
"""Nats, below which two simulators say the same: float32 differs by less."""
_FACTS = {
    "qubits": "qubits", "two_qubit_gates": "two-qubit gates", "two_qubit_depth": "two-qubit depth",
    "gates": "gates", "depth": "depth",
}  # fmt: skip


def beside(result: Result, grid: Grid | None, student: str) -> dict[str, Any] | None:
    """The same trained network on each backend: accuracy, KL, total variation distance.

    Returns:
        `columns`: what each backend is called, and its shots; `lines`: the panel, the variant, its
        colour-free label, and a cell per backend; None where no row carries it.
    """
    rows = [r for r in result.rows if r["student"] == student and r.get("backends")]
    if not rows:
        return None
    entries: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        for entry in row["backends"]:
            entries.setdefault(str(entry["backend"]), entry)
    lines = []
    for row in rows:
        found = {str(entry["backend"]): entry for entry in row["backends"]}
        point = row.get("point", {})
        lines.append(
            {
                "where": grid.say(point) if grid is not None else "",
                "variant": look(row["variant"]).label,
                "cells": [_cell(found.get(name)) for name in entries],
            }
        )
    seeds = sorted({int(row["seed"]) for row in rows})
    counts = sorted({int(e["samples"]) for r in rows for e in r["backends"] if "samples" in e})
    return {
        "student": readable(student),
        "columns": [{"name": readable(name), "what": _what(entry)}
                    for name, entry in entries.items()],
        "lines": lines, "seeds": listed(map(str, seeds)), "samples": listed(map(str, counts))
        if counts else "all",
    }  # fmt: skip


def _cell(entry: Mapping[str, Any] | None) -> dict[str, str]:
    if entry is None:
        return {"accuracy": "", "kl": "", "distance": ""}
    kl = entry.get("kl")
    return {
        "accuracy": f"{100 * entry['accuracy']:.1f}",
        "kl": "" if kl is None else f"{kl:.3f}",
        "distance": _small(entry["distance"]),
    }


def _small(number: float) -> str:
    """Three decimals, or the power of ten of what would round to nothing; 0 for the same."""
    if number == 0:
        return "0"
    return f"{number:.3f}" if number >= 0.0005 else f"{number:.0e}".replace("e-0", "e-")


def _what(entry: Mapping[str, Any]) -> str:
    shots = entry.get("shots")
    kind = "device" if entry["kind"] == "runtime" else readable(str(entry["kind"]))
    return f"{kind}, " + (f"{int(shots):,} shots" if shots else "probabilities")


def agreement(result: Result) -> list[str]:
    """How far the backends are from where networks were judged, and which agree with each other."""
    moved = [row["backends"] for row in result.rows if row.get("backends")]
    names = list(dict.fromkeys(str(entry["backend"]) for found in moved for entry in found))
    if not names:
        return []
    parts, sampled = [], []
    for name in names:
        mine = [entry for found in moved for entry in found if entry["backend"] == name]
        distances = [float(entry["distance"]) for entry in mine]
        mean = sum(distances) / len(distances)
        parts.append(f"{_name(name)} {_small(mean)} (at most {_small(max(distances))})")
        sampled += [f"{_name(name)} ({mine[0]['shots']:,} shots)"] if mine[0].get("shots") else []
    said = [
        "Mean total variation distance of class distributions from those the student was judged "
        f"by, over {len(moved)} networks: {listed(parts)}."
    ]
    if sampled:
        said[0] += f" That of {listed(sampled)} holds the noise of its shots."
    return said + [text for pair in combinations(names, 2) if (text := _alike(moved, *pair))]


def _alike(moved: Sequence[Sequence[Mapping[str, Any]]], one: str, other: str) -> str:
    """That two backends without shots answer the same; empty where they do not."""
    most = {"accuracy": 0.0, "kl": 0.0}
    for found in moved:
        by_name = {str(entry["backend"]): entry for entry in found}
        if one not in by_name or other not in by_name:
            return ""
        left, right = by_name[one], by_name[other]
        if left.get("shots") or right.get("shots"):
            return ""
        for metric in most:
            if left.get(metric) is not None and right.get(metric) is not None:
                most[metric] = max(most[metric], abs(left[metric] - right[metric]))
    if most["accuracy"] > 0 or most["kl"] > _SAME:
        return ""
    return (
        f"{_name(one)} and {_name(other)} answer alike: every accuracy is the same, and KL differs "
        f"by {_small(most['kl'])} nats at most."
    )


def _name(backend: str) -> str:
    return f"“{readable(backend)}”"


def shot_noise(result: Result, classes: int) -> str:
    """What shots alone do to the class distribution of a fully quantum network.

    The mean total variation distance of a histogram of S shots from its C probabilities is at most
    `sqrt((C - 1) / S) / 2` (Cauchy and Schwarz over the classes' standard deviations).
    """
    shots = sorted({int(e["shots"]) for r in result.rows for e in r.get("backends") or ()
                    if e.get("shots")})  # fmt: skip
    if not shots or classes < 2:
        return ""
    said = [f"{0.5 * math.sqrt((classes - 1) / count):.3f} with {count:,}" for count in shots]
    return (
        f"Shots alone move the {classes} class probabilities of a circuit by a mean distance of at "
        f"most {listed(said)} shots, where they are not corrected for readout errors."
    )


def compiled(result: Result, grid: Grid | None) -> dict[str, Any] | None:
    """Every distinct circuit as it became on a device, and which students at which settings it is.

    Returns:
        `heads` and `lines` of a table; None where no row carries circuits.
    """
    places: dict[tuple[Any, ...], list[tuple[str, Point]]] = {}
    for row in result.rows:
        for facts in () if is_teacher(str(row["student"])) else row.get("circuits") or ():
            key = (facts["device"], *(facts[name] for name in _FACTS), facts["seconds"])
            places.setdefault(key, []).append((str(row["student"]), row.get("point", {})))
    if not places:
        return None
    axes = [] if grid is None else [name for name in grid.titles if _tells(name, places, grid)]
    students = [name for name in students_of(result.rows) if not is_teacher(name)]
    lines = []
    for key, found in places.items():
        device, *numbers, seconds = key
        who = [readable(name) for name in students if any(name == s for s, _ in found)]
        where = [listed(dict.fromkeys(shown(point[name]) for _, point in found)) for name in axes]
        lines.append(
            [readable(str(device)), *where, ", ".join(who), *(f"{n:,}" for n in numbers),
             "" if seconds is None else f"{1e6 * seconds:.2f}"]
        )  # fmt: skip
    titles = [] if grid is None else [grid.titles[name] for name in axes]
    heads = ["device", *titles, "student", *_FACTS.values(), "duration, µs"]
    return {"heads": heads, "lines": lines, "words": 2 + len(axes)}


def _tells(
    axis: str, places: Mapping[tuple[Any, ...], Sequence[tuple[str, Point]]], grid: Grid
) -> bool:
    """Whether circuits differ along an axis, and in more than the device that stands beside it."""
    values = [{point[axis] for _, point in found} for found in places.values()]
    every = set(grid.values) if axis == grid.x else {panel[axis] for panel in grid.panels}
    if len(every) < 2 or all(seen == every for seen in values):
        return False
    of_device: dict[str, set[Any]] = {}
    for key, seen in zip(places, values, strict=True):
        of_device.setdefault(str(key[0]), set()).update(seen)
    return not all(len(seen) == 1 for seen in of_device.values())
