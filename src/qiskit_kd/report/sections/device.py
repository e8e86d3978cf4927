# SPDX-License-Identifier: Apache-2.0
"""Devices: whether fine-tuning there helps, and what undoing readout errors does.

A fine-tuned variant is compared with the variant that is the same but for its second stage: both
have the same weights until then, so that what differs is what the steps on the device did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qiskit_kd.experiment.statistics import FEWEST, Gain, contrast
from qiskit_kd.report.document import (
    Block,
    Entry,
    Headline,
    Line,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
    section,
)
from qiskit_kd.report.frame import Frame, Row
from qiskit_kd.report.grid import Point
from qiskit_kd.report.plots_training import plot_fine_tuning
from qiskit_kd.report.sections.cost import devices_of
from qiskit_kd.report.style import ends_of, listed, look, points, readable

_LESS_IS_BETTER = {"confirmed": "harmful", "harmful": "confirmed"}
_WORDS = {"confirmed": "better", "harmful": "worse", "not confirmed": "not confirmed"}
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

    def number(self, value: float) -> str:
        """A difference with a sign: points of accuracy, or nats."""
        if self.metric == "accuracy":
            return points(value)
        return f"{value:+.3f}".replace("-", "−") if value else "0.000"

    def level(self, value: float) -> str:
        """One side of it."""
        return f"{100 * value:.1f} %" if self.metric == "accuracy" else f"{value:.3f}"

    @property
    def ends(self) -> str:
        """Both ends of its interval; empty for a single seed."""
        return ends_of(self.gain, self.number)

    def __str__(self) -> str:
        units = "points" if self.metric == "accuracy" else "nats"
        return f"{_NAMES[self.metric]} {self.number(self.gain.mean)} {units}"


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

    def first_stage(name: str) -> dict[str, Any]:
        return {key: value for key, value in variants[name].items() if key != "fine_tune"}

    plain = [name for name, own in variants.items() if not own.get("fine_tune")]
    found = {}
    for name, own in variants.items():
        same = [other for other in plain if first_stage(other) == first_stage(name)]
        if own.get("fine_tune") and same:
            found[name] = same[0]
    return found


def tuned(frame: Frame) -> list[Pair]:
    """Every fine-tuned variant that shares a seed with its control, point by point."""
    found = []
    for point in frame.points:
        for student in frame.students:
            for variant, control in controls(frame.config).items():
                sides = [frame.cell(student, name, point) for name in (control, variant)]
                if changes := _changes(*sides):
                    raw = _changes(*map(_raw, sides))
                    found.append(Pair(student, variant, control, point, changes, raw))
    return found


def corrected(frame: Frame) -> list[Pair]:
    """What undoing readout errors changes in the same shots, by student, variant and point."""
    found = []
    for point in frame.points:
        for student in frame.students:
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


def kept_epochs(frame: Frame, item: Pair) -> list[int]:
    """The epoch of fine-tuning that each run kept, 0 for the start; of rows that tell."""
    stages = [row["fine_tuning"] for row in frame.cell(item.student, item.variant, item.point)]
    return [int(stage["best_epoch"]) for stage in stages if stage.get("best_epoch") is not None]


# Sentences at the head of a study that fine-tunes on a device.


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
    if change.gain.n < FEWEST:
        first = (
            f"Too few seeds to say whether {stage} helps {student}: {_said(change)}; a verdict "
            f"needs {FEWEST} seeds."
        )
    else:
        opening = {"confirmed": f"{stage} helps", "harmful": f"{stage} harms"}.get(
            change.verdict, f"{stage} is not confirmed to help"
        )
        first = f"{opening[0].upper()}{opening[1:]} {student}: {_said(change)}."
    tests = [
        f"{one}{f' [{one.ends}]' if one.ends else ''} ({_WORDS[one.verdict]})"
        for one in item.changes
        if one.part == "test"
    ]
    said = f"On the test data, which chose nothing: {listed(tests)}." if tests else ""
    return Headline(change.verdict, first, tuple(filter(None, (said, _teaching(frame, item)))))


def _said(change: Change) -> str:
    """`validation KL −0.373 nats (95 % interval −0.809 to +0.063, n = 5 paired seeds)`."""
    text = f"{change.part} {change}"
    if not change.ends:
        return f"{text} (one seed only, n = 1)"
    span = change.ends.replace(", ", " to ")
    return f"{text} (95 % interval {span}, n = {change.gain.n} paired seeds)"


def _teaching(frame: Frame, item: Pair) -> str:
    """How the training that was only evaluated compares with the others, on the test data."""
    duels = [
        one
        for name in frame.variants_of(item.student)
        if name not in (item.variant, item.control)
        and (one := frame.contrast(item.student, item.control, name))
    ]
    parts = []
    for verb, verdict in (
        ("beats", "confirmed"),
        ("is not confirmed to differ from", "not confirmed"),
        ("does worse than", "harmful"),
    ):
        names = [
            _against(frame, one.baseline, one.gain)
            for one in duels
            if one.gain and one.gain.verdict == verdict
        ]
        parts += [f"{verb} {listed(names)}"] if names else []
    label = f"“{look(item.control).label}”"
    return f"Evaluated without fine-tuning, {label} {', and '.join(parts)}." if parts else ""


def _against(frame: Frame, name: str, gain: Gain) -> str:
    placebo = "the placebo " * (frame.roles[name] == "placebo")
    ends = ends_of(gain).replace(", ", " to ") or "one seed"
    return f"{placebo}“{look(name).label}” ({points(gain.mean)} points, {ends})"


# Fine-tuning and readout errors.


@section("fine tuning", place=15)
def fine_tuning(frame: Frame) -> Section | None:
    """Each fine-tuned variant against the one that is the same but for the steps on the device."""
    found = tuned(frame)
    if not found:
        return None
    least = min(change.gain.n for item in found for change in item.changes)
    few = (
        ""
        if least >= FEWEST
        else (f" A verdict needs {FEWEST} paired seeds; with {least} nothing here is confirmed.")
    )
    raw = " Raw is with readout errors left in." if any(item.raw for item in found) else ""
    note = (
        "Each fine-tuned variant against the one that is the same but for the steps on the device: "
        "the same start, seed by seed, both judged on the device. Change is after less before, in "
        f"nats or points of accuracy; of KL and log loss less is better.{raw}{few}"
    )
    blocks: list[Block] = [Text(note)]
    heads = ["measure", "change", "verdict", "evaluated only", "fine-tuned", "seeds"]
    for item in found:
        lines: list[Line] = [
            [
                f"{one.name}{what}",
                _entry(one),
                _WORDS[one.verdict],
                one.level(one.gain.before),
                one.level(one.gain.before + one.gain.mean),
                str(one.gain.n),
            ]
            for changes, what in ((item.changes, ""), (item.raw, ", raw"))
            for one in changes
        ]
        title = (
            f"{readable(item.student)}: {look(item.variant).label} against "
            f"{look(item.control).label}{_where(frame, item)}"
        )
        blocks.append(Table(heads, lines, title=title))
    blocks.append(Pictures([_curves(frame, item, k) for k, item in enumerate(found)]))
    return Section("Does fine-tuning on the device help?", blocks)


def _entry(one: Change) -> Entry:
    return Entry(one.number(one.gain.mean), f"[{one.ends}]" if one.ends else "", one.verdict)


def _where(frame: Frame, item: Pair) -> str:
    return f", {frame.grid.say(item.point)}" if frame.grid is not None else ""


def _curves(frame: Frame, item: Pair, number: int) -> Picture:
    rows, where = frame.cell(item.student, item.variant, item.point), _where(frame, item)
    kept = kept_epochs(frame, item)
    if kept:
        said = (
            "Epoch 0 is the start; a filled point is the epoch whose weights the validation data "
            f"kept: the start at {sum(epoch == 0 for epoch in kept)} of {len(kept)} seeds, where "
            "nothing changes."
        )
    else:
        said = "Which epoch was kept, the start among them, these rows do not tell."
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
    heads = [f"{c.name}, {'%' if c.metric == 'accuracy' else 'nats'}" for c in longest]
    lines: list[Line] = [
        [
            readable(item.student),
            Entry(look(item.variant).label, _where(frame, item).strip(", ")),
            *(
                Entry(
                    f"{c.level(c.gain.before)} → {c.level(c.gain.before + c.gain.mean)}",
                    f"{c.number(c.gain.mean)} [{c.ends}]" if c.ends else c.number(c.gain.mean),
                    c.verdict,
                )
                for c in item.changes
            ),
            *[""] * (len(longest) - len(item.changes)),
            str(max(c.gain.n for c in item.changes)),
        ]
        for item in found
    ]
    table = Table(["student", "variant", *heads, "seeds"], lines, words=2)
    counts = Table(
        ["readout errors undone", "better", "undecided", "worse", "mean change"],
        [_count(found, one.name) for one in longest],
    )
    return Section("Readout errors left in, and undone", [Text(note), counts, table], [counts])


def _count(found: Sequence[Pair], name: str) -> list[str]:
    """For how many variants undoing readout errors is better, and for how many not."""
    mine = [change for item in found for change in item.changes if change.name == name]
    counts = Counter(change.verdict for change in mine)
    mean = sum(change.gain.mean for change in mine) / len(mine)
    unit = "points" if mine[0].metric == "accuracy" else "nats"
    return [
        name,
        *(str(counts[v]) for v in ("confirmed", "not confirmed", "harmful")),
        f"{mine[0].number(mean)} {unit}",
    ]
