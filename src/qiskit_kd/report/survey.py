# SPDX-License-Identifier: Apache-2.0
"""What a study with axes found, in words: at how many settings each variant helps, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qiskit_kd.experiment.result import longer_training
from qiskit_kd.experiment.statistics import sign_flip
from qiskit_kd.report.grid import Grid, Point, at
from qiskit_kd.report.palette import look, readable
from qiskit_kd.report.sentences import chance_sentence
from qiskit_kd.report.summary import (
    Gain,
    Result,
    alone,
    gains,
    others_of,
    points,
    roles,
    variants_of,
)
from qiskit_kd.report.tally import Tally, ends_of, runs_of, subject, tallies, taught

__all__ = ["Finding", "caution", "chance", "findings", "first_line", "mood"]

FEWEST = 5  # pairs, below which a verdict settles nothing


def first_line(result: Result, grid: Grid) -> str:
    """The verdict over all settings, for every taught variant of the headline's student."""
    student, variants = subject(result), taught(result)
    if student is None or not variants:
        return "Nothing to compare: the study holds no student both alone and taught."
    found = tallies(result, grid, variants)
    name = readable(student)
    if not found:
        return (
            f"No verdict yet for the {name} student: no seed has finished both alone and taught "
            "at the same setting."
        )
    total = max(len(tally.found) for tally in found)
    helped = sum(tally.count("confirmed") for tally in found)
    harmed = sum(tally.count("harmful") for tally in found)
    tried = sum(len(tally.found) for tally in found)
    where = f"{total} settings" if total > 1 else "the one setting"
    if len(found) > 1 and total > 1:
        where = f"{tried} comparisons ({len(found)} variants, {total} settings)"
    if not helped and not harmed:
        return f"No gain from distillation is confirmed for the {name} student at any of {where}."
    if helped == tried:
        return f"Distillation helps the {name} student at all of {where}."
    if harmed == tried:
        return f"Distillation harms the {name} student at all of {where}."
    counts = "; ".join(_counts(tally, total) for tally in found)
    if total == 1:
        return f"Distillation of the {name} student at the one setting: {counts}."
    if not helped:
        opening = f"Distillation does not help the {name} student at any of {where}"
        opening += f" and harms it at {harmed}"
    else:
        opening = f"Distillation helps the {name} student at {helped} of {where}"
        opening += f" and harms it at {harmed}" if harmed else ""
    if len(found) == 1:
        return f"{opening}; the remaining {tried - helped - harmed} settle nothing."
    return f"{opening}: {counts}."


def mood(result: Result, grid: Grid) -> tuple[str, str]:
    """A word for the tag above the first line, and the class it is coloured by."""
    found = tallies(result, grid, taught(result))
    if not found:
        return "", ""
    helped = any(tally.count("confirmed") for tally in found)
    harmed = any(tally.count("harmful") for tally in found)
    if helped and harmed:
        return "mixed", "mixed"
    if helped:
        everywhere = all(tally.count("confirmed") == len(tally.found) for tally in found)
        return ("confirmed", "confirmed") if everywhere else ("confirmed in part", "confirmed")
    return ("harmful", "harmful") if harmed else ("not confirmed", "not-confirmed")


@dataclass(frozen=True, slots=True)
class Finding:
    """One taught variant of the headline's student, in words."""

    name: str
    best: str
    """Its largest mean gain, and where."""
    beside_best: str
    """What the placebos gain there."""
    worst: str
    """Its smallest mean gain, and where; empty where there is one setting only."""
    beside_worst: str
    against: str
    """At how many settings it beats each placebo; empty without placebos."""
    beyond: str = ""
    """At how many it beats each of the other trainings without a teacher; empty without these."""

    def __str__(self) -> str:
        beside = (self.beside_best, self.beside_worst)
        best, worst = (f" ({text})" if text else "" for text in beside)
        said = f"“{self.name}”: {self.best}{best}."
        if self.worst:
            said = f"“{self.name}”: at best {self.best}{best}; at worst {self.worst}{worst}."
        contests = "; ".join(text for text in (self.against, self.beyond) if text)
        return f"{said} It is {contests}." if contests else said


def findings(result: Result, grid: Grid) -> list[Finding]:
    """What became of every taught variant of the headline's student."""
    controls = _controls(result)
    out = []
    for tally in tallies(result, grid, taught(result)):
        ends = (tally.best, tally.worst)
        said = [f"{_spoken(gain)} at {grid.say(point)}" for point, gain in ends]
        beside = [_beside(result, point, controls) for point, _ in ends]
        if len(tally.found) == 1:
            said[1] = beside[1] = ""
        against, beyond = (
            "; ".join(
                _contest(control, duels[0])
                for control in names
                if (duels := tallies(result, grid, [tally.variant], against=control))
            )
            for names in (controls, others_of(result))
        )
        name = look(tally.variant).label
        out.append(Finding(name, said[0], beside[0], said[1], beside[1], against, beyond))
    return out


def caution(result: Result, grid: Grid) -> str:
    """What keeps the findings from being one; empty for nothing."""
    found = tallies(result, grid, taught(result))
    said = []
    if found and others_of(result):
        said.append(f"Gains are over {alone(result)}, which has no teacher.")
    if found and not _controls(result):
        said.append("No placebo was run, so a gain may have nothing to do with a teacher.")
    if found and all(gain.n < FEWEST for tally in found for _, gain in tally.found):
        said.append("Fewer than five paired seeds settle nothing.")
    longer = {
        text
        for tally in found
        for point, gain in tally.found
        if (text := longer_training(at(result.rows, point), gain.student, gain.variant,
                                    gain.baseline))
    }  # fmt: skip
    said += [f"{text[0].upper()}{text[1:]}." for text in sorted(longer)[:2]]
    return " ".join(said)


def chance(result: Result, grid: Grid) -> str:
    """How many of the intervals against the student alone exclude zero, and would by chance."""
    baseline, _ = roles(result)
    seen: dict[object, Gain] = {}
    for point in grid.points:
        here = at(result.rows, point)
        for gain in gains(here, at(result.comparisons, point), baseline=baseline):
            if gain.low is not None:
                runs = runs_of(here, gain) or str(point)
                seen.setdefault((gain.student, gain.variant, runs), gain)
    excluding = sum((g.low or 0.0) > 0 or (g.high or 0.0) < 0 for g in seen.values())
    said = chance_sentence(len(seen), excluding=excluding, over=alone(result))
    if said and any(len(tally.found) > 1 for tally in tallies(result, grid, taught(result))):
        said += (
            " The best and the worst setting of a variant are picked by these results, so their "
            "gains are extremes, not estimates."
        )
    flips = [
        sign_flip(gain.differences)
        for tally in tallies(result, grid, taught(result))
        for _, gain in tally.found
        if len(gain.differences) > 1
    ]
    if flips:
        said += (
            " Sign-flip tests of the taught variants' gains, which need no bell shape, have p from "
            f"{min(flips):.2g} to {max(flips):.2g}, below 0.05 at "
            f"{sum(p < _LEVEL for p in flips)} of {len(flips)}; that of each is `p_sign_flip` in "
            "`qkd report FOLDER --json`."
        )
    return said.strip()


_LEVEL = 0.05


def _controls(result: Result) -> list[str]:
    """Placebos that the headline's student was trained with."""
    _, placebos = roles(result)
    mine = [r for r in result.rows if r["student"] == subject(result)]
    return [name for name in variants_of(mine) if name in placebos]


def _counts(tally: Tally, total: int) -> str:
    helps, harms, rest = map(tally.count, ("confirmed", "harmful", "not confirmed"))
    name = f"“{look(tally.variant).label}”"
    if total == 1:
        return f"{name} {'helps' if helps else 'harms' if harms else 'settles nothing'}"
    of = f" of {len(tally.found)}" if len(tally.found) < total else ""
    parts = [f"helps at {helps}{of}" if helps else f"helps nowhere{of and f' ({of.strip()})'}"]
    parts.append(f"harms at {harms}" if harms else "harms nowhere")
    if rest:
        parts.append(f"settles nothing at {rest}")
    return f"{name} {', '.join(parts[:-1])} and {parts[-1]}"


def _contest(control: str, tally: Tally) -> str:
    wins, losses, rest = map(tally.count, ("confirmed", "harmful", "not confirmed"))
    total = len(tally.found)
    at_some = f"at {wins} of {total} setting{'s' * (total > 1)}" if wins else "nowhere"
    parts = [f"better than {look(control).label} {at_some}"]
    parts += [f"worse at {losses}"] if losses else []
    parts += [f"undecided at {rest}"] if rest else []
    return ", ".join(parts)


def _beside(result: Result, point: Point, controls: Sequence[str]) -> str:
    """The placebos' own gains at a point."""
    baseline, _ = roles(result)
    found = {
        g.variant: g
        for g in gains(at(result.rows, point), at(result.comparisons, point), baseline=baseline)
        if g.student == subject(result)
    }
    said = [f"{look(c).label} {points(found[c].mean)}{_bracketed(found[c])}"
            for c in controls if c in found]  # fmt: skip
    return f"placebos there: {', '.join(said)}" if said else ""


def _spoken(gain: Gain) -> str:
    return f"{points(gain.mean)} points{_bracketed(gain)}"


def _bracketed(gain: Gain) -> str:
    ends = ends_of(gain)
    return f" [{ends}]" if ends else " (one seed)"
