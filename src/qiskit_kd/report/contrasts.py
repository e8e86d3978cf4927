# SPDX-License-Identifier: Apache-2.0
"""Which trainings of a student are compared, a line a contrast, and what chance alone would do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from qiskit_kd.report.document import LEGEND, Entry, Table, gained, tabled
from qiskit_kd.report.frame import Contrast, Frame
from qiskit_kd.report.grid import Point
from qiskit_kd.report.style import look, points, readable


def over(frame: Frame) -> str:
    """What gains are over, in words."""
    return f"“{look(frame.over).label}”" if frame.over else "the student alone"


def pairs_of(frame: Frame, student: str) -> list[tuple[str, str]]:
    """Which trainings of a student are compared: taught ones with all others, these among them."""
    taught, placebos, labels, other = (
        frame.having(role, student) for role in ("taught", "placebo", "labels", "other")
    )
    base = frame.baseline
    noisy = frame.under_noise()[0]
    pairs = [(base, n) if base in noisy and n not in noisy else (n, base) for n in other]
    pairs += [(name, base) for name in (*taught, *labels, *placebos)]
    pairs += [(name, control) for name in taught for control in (*placebos, *labels, *other)]
    return pairs + [(taught[0], name) for name in taught[1:]]


def contrasts(
    frame: Frame, student: str | None, where: Sequence[Point] | None = None, *, brief: bool = False
) -> Table | None:
    """Every contrast of a student in a line: counts of verdicts over its settings, and the mean.

    Args:
        frame: A study.
        student: Whose trainings are compared.
        where: At which points; all by default.
        brief: Only those with the baseline, and of teachers among each other.
    """
    pairs = [] if student is None else pairs_of(frame, student)
    if brief:
        taught = frame.having("taught")
        pairs = [p for p in pairs if frame.baseline in p or {*p} <= {*taught}]
    found = [c for pair in pairs if (c := frame.contrast(str(student), *pair, points=where))]
    if not found:
        return None

    def versus(one: Contrast) -> str:
        return " over ".join(called(frame, name) for name in (one.variant, one.baseline))

    def extreme(which: Callable[..., Any], one: Contrast) -> Entry:
        point, gain = which(one.places, key=lambda item: item[1].mean)
        where = "" if frame.grid is None else frame.grid.say(point)
        return Entry(points(gain.mean), where, gain.verdict)

    many = any(len(one.places) > 1 for one in found)
    noisy = " with noise" if where else ""
    title = f"The {readable(str(student))} student"
    title += f" over settings{noisy}; {LEGEND}" if many else f", {LEGEND}"
    return tabled(
        found,
        {
            "contrast": versus,
            "better": many and (lambda one: str(one.counts[0])),
            "undecided": many and (lambda one: str(one.counts[1])),
            "worse": many and (lambda one: str(one.counts[2])),
            "mean over settings" if many else "points of test accuracy": (
                lambda one: gained(one.gain)
            ),
            "seeds" if many else "pairs": lambda one: str(one.gain.n) if one.gain else "",
            "sign-flip p": lambda one: f"{one.gain.p:.2g}" if one.gain else "",
            "at best": many and partial(extreme, max),
            "at worst": many and partial(extreme, min),
            "verdict": not many and (lambda one: one.gain.verdict if one.gain else ""),
        },
        title=title + "; extremes are no estimates" * (many and not brief),
        narrow=5 if many else None,
    )


def called(frame: Frame, variant: str, label: str = "") -> str:
    """A training, and whether it is a placebo."""
    return (label or look(variant).label) + " (placebo)" * (frame.roles.get(variant) == "placebo")


def chance(count: int, against: str, excluding: int | None = None) -> str:
    """What to expect of many intervals where nothing is true; empty for fewer than two.

    Args:
        count: How many intervals are shown.
        against: What the gains are over.
        excluding: How many of them exclude zero; said beside what chance would give.
    """
    if count < 2:
        return ""
    if excluding is None:
        by_chance = "at 95 % about one in twenty would exclude zero by chance"
        return f"{count} comparisons are shown; {by_chance}."
    expected = f"about {0.05 * count:.0f}" if count >= 30 else f"{0.05 * count:.1f} on average"
    return (
        f"{count} intervals of gains over {against} are shown and {excluding} of them exclude "
        f"zero; if no variant changed anything, {expected} would (one in twenty), and not singly, "
        "for settings share seeds and samples."
    )
