# SPDX-License-Identifier: Apache-2.0
"""Devices: whether fine-tuning there helps, and what undoing readout errors does.

A fine-tuned variant is compared with the variant that is the same but for its second stage: both
have the same weights until then, so that what differs is what the steps on the device did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from qiskit_kd.experiment.statistics import FEWEST, Gain, contrast
from qiskit_kd.report.document import (
    Block,
    Entry,
    Headline,
    Picture,
    Pictures,
    Section,
    Text,
    section,
    tabled,
)
from qiskit_kd.report.frame import Frame, Row
from qiskit_kd.report.grid import Point
from qiskit_kd.report.plots_training import plot_fine_tuning
from qiskit_kd.report.sections.cost import devices_of
from qiskit_kd.report.style import ends_of, listed, look, points, readable, signed

_LESS_IS_BETTER = {"confirmed": "harmful", "harmful": "confirmed"}
_WORDS = {"confirmed": "better", "not confirmed": "not confirmed", "harmful": "worse"}
_VERBS = {
    "confirmed": "beats",
    "not confirmed": "is not confirmed to differ from",
    "harmful": "does worse than",
}
_NAMES = {"kl": "KL", "nll": "log loss", "accuracy": "accuracy"}


@dataclass(frozen=True, slots=True)
class Change:
    """A mean paired difference of one metric of one part of the data."""

    part: str
    """`validation` or `test`."""
    metric: str
    gain: Gain

    @property
    def verdict(self) -> str:
        """`confirmed` where it is for the better, whichever sign that is; `harmful` for worse."""
        found = self.gain.verdict
        return found if self.metric == "accuracy" else _LESS_IS_BETTER.get(found, found)

    @property
    def name(self) -> str:
        """`validation KL`."""
        return f"{self.part} {_NAMES[self.metric]}"

    @property
    def units(self) -> str:
        """Of a difference."""
        return "points" if self.metric == "accuracy" else "nats"

    def number(self, value: float) -> str:
        """A difference with a sign: points of accuracy, or nats."""
        return points(value) if self.metric == "accuracy" else signed(value, 3)

    def level(self, value: float) -> str:
        """One side of it."""
        return f"{100 * value:.1f} %" if self.metric == "accuracy" else f"{value:.3f}"

    @property
    def sides(self) -> tuple[str, str]:
        """Before and after."""
        before = self.gain.before
        return self.level(before), self.level(before + self.gain.mean)

    @property
    def ends(self) -> str:
        """` [−0.102, −0.098]`; empty for a single seed."""
        ends = ends_of(self.gain, self.number)
        return f" [{ends}]" if ends else ""

    def __str__(self) -> str:
        return f"{_NAMES[self.metric]} {self.number(self.gain.mean)} {self.units}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Changes of one student between two things, at one point."""

    student: str
    variant: str
    control: str
    point: Point
    changes: tuple[Change, ...]
    """The first one is what a verdict is about: the divergence on the validation data."""
    raw: tuple[Change, ...] = ()
    """The same with readout errors left in, where rows have that."""


def controls(config: Mapping[str, Any]) -> dict[str, str]:
    """From each fine-tuned variant to the one that is the same without fine-tuning."""
    variants: Mapping[str, Mapping[str, Any]] = config.get("variants", {})
    first = {
        name: {key: value for key, value in own.items() if key != "fine_tune"}
        for name, own in variants.items()
    }
    found: dict[str, str] = {}
    for name, other in product(variants, variants):
        tuned = variants[name].get("fine_tune") and not variants[other].get("fine_tune")
        if tuned and first[name] == first[other]:
            found.setdefault(name, other)
    return found


def tuned(frame: Frame) -> list[Pair]:
    """Every fine-tuned variant that shares a seed with its control, point by point."""
    found = []
    for point, student in product(frame.points, frame.students):
        for variant, control in controls(frame.config).items():
            sides = [frame.cell(student, name, point) for name in (control, variant)]
            if changes := _changes(*sides):
                raw = _changes(*map(_raw, sides))
                found.append(Pair(student, variant, control, point, changes, raw))
    return found


def corrected(frame: Frame) -> list[Pair]:
    """What undoing readout errors changes in the same shots, by student, variant and point."""
    found = []
    for point, student in product(frame.points, frame.students):
        for variant in frame.variants_of(student):
            mine = [row for row in frame.cell(student, variant, point) if row.get("raw")]
            if changes := _changes(_raw(mine), mine):
                found.append(Pair(student, variant, "raw", point, changes))
    return found


def _raw(rows: Sequence[Row]) -> list[Row]:
    """The rows with their raw metrics in place of the others, where they have both."""
    return [{**row, **row["raw"]} for row in rows if row.get("raw")]


def _changes(before: Sequence[Row], after: Sequence[Row]) -> tuple[Change, ...]:
    """Divergence and accuracy on validation and test data, where both sides have them."""
    taught = all("kl" in row["validation"] for row in (*before, *after))
    loss = "kl" if taught else "nll"
    wanted = [("validation", loss), ("test", loss), ("test", "accuracy")]
    found = ((part, metric, contrast(after, before, metric, part=part)) for part, metric in wanted)
    return tuple(Change(part, metric, gain) for part, metric, gain in found if gain is not None)


def lead(frame: Frame) -> Headline | None:
    """Whether fine-tuning helps; None for any other study, and with axes: none stands for all."""
    found = tuned(frame)
    wanted = [item for item in found if item.student == frame.student] or found
    if not wanted or any(item.point for item in found):
        return None
    item, change = wanted[0], wanted[0].changes[0]
    student = f"the {readable(item.student)} student"
    backend = frame.listed[item.variant]["fine_tune"]["backend"]
    names = (str(d["device"]) for d in devices_of(frame) if d["backend"] == backend)
    stage = f"fine-tuning on {readable(next(names, f'“{backend}”'))}"
    span = ends_of(change.gain, change.number, " to ")
    pairs = f"95 % interval {span}, n = {change.gain.n} paired seeds"
    said = f"{change.part} {change} ({pairs if span else 'one seed only, n = 1'})"
    if change.gain.n < FEWEST:
        first = f"Too few seeds to say whether {stage} helps {student}: {said}; a verdict needs "
        first += f"{FEWEST} seeds."
    else:
        verb = {"confirmed": "helps", "harmful": "harms"}.get(change.verdict)
        first = f"{stage} {verb or 'is not confirmed to help'} {student}: {said}."
    tests = [f"{c}{c.ends} ({_WORDS[c.verdict]})" for c in item.changes if c.part == "test"]
    tested = f"On the test data, which chose nothing: {listed(tests)}." if tests else ""
    more = tuple(filter(None, (tested, _teaching(frame, item))))
    return Headline(change.verdict, first[0].upper() + first[1:], more)


def _teaching(frame: Frame, item: Pair) -> str:
    """How the training that was only evaluated compares with the others, on the test data."""
    found: dict[str, list[str]] = {}
    for name in frame.variants_of(item.student):
        gain = frame.gain(item.student, item.control, name)
        if name not in (item.variant, item.control) and gain:
            placebo = "the placebo " * (frame.roles[name] == "placebo")
            said = f"{points(gain.mean)} points, {ends_of(gain, joint=' to ') or 'one seed'}"
            found.setdefault(gain.verdict, []).append(f"{placebo}“{look(name).label}” ({said})")
    parts = [f"{verb} {listed(found[v])}" for v, verb in _VERBS.items() if v in found]
    label = f"“{look(item.control).label}”"
    return f"Evaluated without fine-tuning, {label} {', and '.join(parts)}." if parts else ""


@section("fine tuning", place=15)
def fine_tuning(frame: Frame) -> Section | None:
    """Each fine-tuned variant against the one that is the same but for the steps on the device."""
    found = tuned(frame)
    if not found:
        return None
    least = min(change.gain.n for item in found for change in item.changes)
    few = f" A verdict needs {FEWEST} paired seeds; with {least} nothing here is confirmed."
    raw = " Raw is with readout errors left in."
    note = (
        "Each fine-tuned variant against the one that is the same but for the steps on the device: "
        "the same start, seed by seed, both judged on the device. Change is after less before, in "
        "nats or points of accuracy; of KL and log loss less is better."
        + raw * any(item.raw for item in found)
        + few * (least < FEWEST)
    )
    blocks: list[Block] = [Text(note)]
    for item in found:
        names = f"{look(item.variant).label} against {look(item.control).label}"
        blocks.append(
            tabled(
                [(c, "") for c in item.changes] + [(c, ", raw") for c in item.raw],
                {
                    "measure": lambda one: one[0].name + one[1],
                    "change": lambda one: _entry(one[0]),
                    "verdict": lambda one: _WORDS[one[0].verdict],
                    "evaluated only": lambda one: one[0].sides[0],
                    "fine-tuned": lambda one: one[0].sides[1],
                    "seeds": lambda one: str(one[0].gain.n),
                },
                title=f"{readable(item.student)}: {names}{_where(frame, item)}",
            )
        )
    blocks.append(Pictures([_curves(frame, item, k) for k, item in enumerate(found)]))
    return Section("Does fine-tuning on the device help?", blocks)


def _entry(one: Change) -> Entry:
    return Entry(one.number(one.gain.mean), one.ends.strip(), one.verdict)


def _where(frame: Frame, item: Pair) -> str:
    return f", {frame.grid.say(item.point)}" if frame.grid is not None else ""


def _curves(frame: Frame, item: Pair, number: int) -> Picture:
    rows, where = frame.cell(item.student, item.variant, item.point), _where(frame, item)
    epochs = [row["fine_tuning"].get("best_epoch") for row in rows]
    kept = [int(epoch) for epoch in epochs if epoch is not None]
    said = "Which epoch was kept, the start among them, these rows do not tell."
    if kept:
        said = (
            "Epoch 0 is the start; a filled point is the epoch whose weights the validation data "
            f"kept: the start at {kept.count(0)} of {len(kept)} seeds, where nothing changes."
        )
    return Picture(
        f"fine-tuning-{item.student}-{item.variant}" + f"-{number}" * bool(where),
        lambda: plot_fine_tuning(rows, student=item.student, variant=item.variant),
        f"Validation loss of the {readable(item.student)} student over the epochs of fine-tuning, "
        f"{look(item.variant).label}{where}, a line per seed.",
        f"Validation loss during fine-tuning{where}",
        f"A line per seed, whose number stands at its end. {said}",
    )


@section("readout", place=16, terminal=True)
def readout(frame: Frame) -> Section | None:
    """The same shots twice: raw, and with the device's readout errors undone."""
    found = corrected(frame)
    if not found:
        return None
    note = (
        "The same shots twice: raw, and with the device's readout errors undone, which is how "
        "students are judged on this page. Undoing them takes a bias away and adds noise; below "
        "about 1,000 shots the noise may be more. None of this chose anything."
    )
    longest = max((item.changes for item in found), key=len)

    def change(place: int, item: Pair) -> Entry:
        if place >= len(item.changes):
            return Entry("")
        one = item.changes[place]
        return Entry(" → ".join(one.sides), one.number(one.gain.mean) + one.ends, one.verdict)

    units = {"accuracy": "%"}
    table = tabled(
        found,
        {
            "student": lambda item: readable(item.student),
            "variant": lambda item: Entry(
                look(item.variant).label, _where(frame, item).strip(", ")
            ),
            **{
                f"{one.name}, {units.get(one.metric, 'nats')}": partial(change, place)
                for place, one in enumerate(longest)
            },
            "seeds": lambda item: str(max(one.gain.n for one in item.changes)),
        },
        words=2,
    )
    changes = [change for item in found for change in item.changes]
    counts = tabled(
        [[change for change in changes if change.name == one.name] for one in longest],
        {
            "readout errors undone": lambda mine: mine[0].name,
            "better": lambda mine: _times(mine, "confirmed"),
            "undecided": lambda mine: _times(mine, "not confirmed"),
            "worse": lambda mine: _times(mine, "harmful"),
            "mean change": lambda mine: (
                f"{mine[0].number(float(np.mean([one.gain.mean for one in mine])))} {mine[0].units}"
            ),
        },
    )
    return Section("Readout errors left in, and undone", [Text(note), counts, table], [counts])


def _times(changes: Sequence[Change], verdict: str) -> str:
    return str(sum(one.verdict == verdict for one in changes))
