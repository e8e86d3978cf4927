# SPDX-License-Identifier: Apache-2.0
"""One trained network on several backends, and what its circuits became on a device.

Rows carry both where the experiment asks for it (`evaluation.side_by_side`, for the first seed) and
where a network runs on a device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

from qiskit_kd.experiment.schema import is_teacher
from qiskit_kd.report.document import Entry, Section, Table, Text, section, tabled
from qiskit_kd.report.frame import Frame, Row
from qiskit_kd.report.grid import Grid, Point, shown
from qiskit_kd.report.style import listed, look, readable

_SAME = 1e-4
"""Nats, below which two simulators say the same: float32 differs by less."""
_FACTS = {
    "qubits": "qubits",
    "two_qubit_gates": "two-qubit gates",
    "two_qubit_depth": "two-qubit depth",
    "gates": "gates",
    "depth": "depth",
}


@dataclass
class Compiled:
    """A circuit as it became on a device, and which students have it at which points."""

    facts: Mapping[str, Any]
    students: set[str] = field(default_factory=set)
    points: list[Point] = field(default_factory=list)


@section("backends", place=40)
def backends(frame: Frame) -> Section | None:
    """The same network on several backends."""
    tables = [table for name in frame.students if (table := beside(frame, name)) is not None]
    if not tables:
        return None
    said = " ".join([*agreement(frame), shot_noise(frame)]).strip()
    note = (
        "Trained once, moved by changing one word. Per backend the test accuracy in %, below it "
        "KL(teacher ‖ student) in nats where a teacher was named, and the mean total variation "
        "distance (TV) of its class distributions from those of the backend that the student was "
        f"judged on. {said}"
    )
    return Section("The same network on several backends", [Text(note), *tables])


def beside(frame: Frame, student: str) -> Table | None:
    """A line per variant and point, a column per backend; None where no row carries it."""
    rows = [r for r in frame.rows if r["student"] == student and r.get("backends")]
    if not rows:
        return None
    entries: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        for entry in row["backends"]:
            entries.setdefault(str(entry["backend"]), entry)

    def cell(name: str, row: Row) -> Entry:
        own = next((e for e in row["backends"] if e["backend"] == name), None)
        if own is None:
            return Entry("")
        kl = "" if own.get("kl") is None else f"KL {own['kl']:.3f}, "
        return Entry(f"{100 * own['accuracy']:.1f}", f"{kl}TV {_small(own['distance'])}")

    def variant(row: Row) -> Entry:
        where = "" if frame.grid is None else frame.grid.say(row.get("point", {}))
        return Entry(look(row["variant"]).label, where)

    seeds = listed(map(str, sorted({int(row["seed"]) for row in rows})))
    counts = sorted({int(e["samples"]) for r in rows for e in r["backends"] if "samples" in e})
    samples = listed(map(str, counts)) if counts else "all"
    columns = {}
    for name, own in entries.items():
        kind = "device" if own["kind"] == "runtime" else readable(str(own["kind"]))
        drawn = f"{int(own['shots']):,} shots" if own.get("shots") else "probabilities"
        columns[f"{readable(name)}: {kind}, {drawn}"] = partial(cell, name)
    title = f"The {readable(student)} student: seed {seeds}, {samples} test samples"
    return tabled(rows, {"variant": variant, **columns}, title=title)


def _small(number: float) -> str:
    """Three decimals, or the power of ten of what would round to nothing; 0 for the same."""
    if number == 0:
        return "0"
    return f"{number:.3f}" if number >= 0.0005 else f"{number:.0e}".replace("e-0", "e-")


def agreement(frame: Frame) -> Iterator[str]:
    """How far the backends are from where networks were judged, and which agree with each other."""
    moved = [row["backends"] for row in frame.rows if row.get("backends")]
    names = list(dict.fromkeys(str(entry["backend"]) for found in moved for entry in found))
    parts, sampled = [], []
    for name in names:
        mine = [entry for found in moved for entry in found if entry["backend"] == name]
        distances = [float(entry["distance"]) for entry in mine]
        mean, most = sum(distances) / len(distances), max(distances)
        parts.append(f"“{readable(name)}” {_small(mean)} (at most {_small(most)})")
        if shots := mine[0].get("shots"):
            sampled.append(f"“{readable(name)}” ({shots:,} shots)")
    if parts:
        yield f"Mean TV over {len(moved)} networks: {listed(parts)}."
    if sampled:
        yield f"That of {listed(sampled)} holds the noise of its shots."
    yield from (text for pair in combinations(names, 2) if (text := _alike(moved, *pair)))


def _alike(moved: Sequence[Sequence[Mapping[str, Any]]], one: str, other: str) -> str:
    """That two backends without shots answer the same; empty where they do not."""
    most = {"accuracy": 0.0, "kl": 0.0}
    for found in moved:
        by_name = {str(entry["backend"]): entry for entry in found}
        sides = [by_name[name] for name in (one, other) if name in by_name]
        if len(sides) < 2 or any(side.get("shots") for side in sides):
            return ""
        for metric in most:
            left, right = (side.get(metric) for side in sides)
            if left is not None and right is not None:
                most[metric] = max(most[metric], abs(left - right))
    if most["accuracy"] > 0 or most["kl"] > _SAME:
        return ""
    return (
        f"“{readable(one)}” and “{readable(other)}” answer alike: every accuracy is the same, and "
        f"KL differs by {_small(most['kl'])} nats at most."
    )


def shot_noise(frame: Frame) -> str:
    """What shots alone do to the class distribution of a fully quantum network.

    The mean total variation distance of a histogram of S shots from its C probabilities is at most
    `sqrt((C - 1) / S) / 2` (Cauchy and Schwarz over the classes' standard deviations).
    """
    classes = next((len(r["distribution"]) for r in frame.rows if r.get("distribution")), 0)
    shots = sorted(
        {int(e["shots"]) for r in frame.rows for e in r.get("backends") or () if e.get("shots")}
    )
    if not shots or classes < 2:
        return ""
    said = [f"{0.5 * math.sqrt((classes - 1) / count):.3f} with {count:,}" for count in shots]
    return (
        f"Shots alone move the {classes} class probabilities of a circuit by a mean distance of at "
        f"most {listed(said)} shots, where they are not corrected for readout errors."
    )


@section("compiled", place=45)
def compiled(frame: Frame) -> Section | None:
    """Every distinct circuit as it became on a device, and which students at which settings."""
    found: dict[tuple[Any, ...], Compiled] = {}
    for row in frame.rows:
        for facts in () if is_teacher(str(row["student"])) else row.get("circuits") or ():
            key = tuple(facts[name] for name in ("device", *_FACTS, "seconds"))
            one = found.setdefault(key, Compiled(facts))
            one.students.add(str(row["student"]))
            one.points.append(row.get("point", {}))
    if not found:
        return None
    every, grid = [*found.values()], frame.grid
    axes = [] if grid is None else [name for name in grid.titles if _tells(name, every, grid)]

    def values(axis: str, one: Compiled) -> str:
        return listed(dict.fromkeys(shown(point[axis]) for point in one.points))

    def fact(name: str, one: Compiled) -> str:
        return f"{one.facts[name]:,}"

    def duration(one: Compiled) -> str:
        seconds = one.facts["seconds"]
        return "" if seconds is None else f"{1e6 * seconds:.2f}"

    table = tabled(
        every,
        {
            "device": lambda one: readable(str(one.facts["device"])),
            **{grid.titles[name]: partial(values, name) for name in axes if grid},
            "student": lambda one: ", ".join(
                readable(name) for name in frame.students if name in one.students
            ),
            **{title: partial(fact, name) for name, title in _FACTS.items()},
            "duration, µs": duration,
        },
        words=2 + len(axes),
    )
    said = (
        "Encoding and ansatz together, translated to the device's own gates and qubits, for one "
        "execution."
    )
    return Section("What the circuits became on the device", [Text(said), table])


def _tells(axis: str, every: Sequence[Compiled], grid: Grid) -> bool:
    """Whether circuits differ along an axis, and in more than the device that stands beside it."""
    values = [{point[axis] for point in one.points} for one in every]
    whole = set(grid.values) if axis == grid.x else {panel[axis] for panel in grid.panels}
    if len(whole) < 2 or all(seen == whole for seen in values):
        return False
    of_device: dict[str, set[Any]] = {}
    for one, seen in zip(every, values, strict=True):
        of_device.setdefault(str(one.facts["device"]), set()).update(seen)
    return not all(len(seen) == 1 for seen in of_device.values())
