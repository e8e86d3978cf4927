# SPDX-License-Identifier: Apache-2.0
"""Which trainings of a student are compared, a line a contrast, and what chance alone would do."""

from __future__ import annotations

from collections.abc import Sequence

from qiskit_kd.experiment.statistics import Gain
from qiskit_kd.report.document import LEGEND, Entry, Line, Table, gained
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
    frame: Frame,
    student: str | None,
    where: Sequence[Point] | None = None,
    *,
    brief: bool = False,
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
    name, several = readable(str(student)), any(len(one.places) > 1 for one in found)
    if not several:
        lines: list[Line] = [
            [
                _versus(frame, one),
                gained(one.gain),
                str(one.gain.n),
                f"{one.gain.p:.2g}",
                one.gain.verdict,
            ]
            for one in found
            if one.gain
        ]
        heads = ["contrast", "points of test accuracy", "pairs", "sign-flip p", "verdict"]
        return Table(heads, lines, title=f"The {name} student, {LEGEND}")
    lines = [
        [
            _versus(frame, one),
            *map(str, one.counts),
            gained(one.gain),
            str(one.gain.n) if one.gain else "",
            f"{one.gain.p:.2g}" if one.gain else "",
            *(_extreme(frame, *end) for end in (one.best, one.worst)),
        ]
        for one in found
    ]
    noisy = " with noise" if where else ""
    heads = [
        "contrast",
        "better",
        "undecided",
        "worse",
        "mean over settings",
        "seeds",
        "sign-flip p",
        "at best",
        "at worst",
    ]
    title = f"The {name} student over settings{noisy}; {LEGEND}"
    title += "" if brief else "; extremes are no estimates"
    return Table(heads, lines, title=title, narrow=5)


def _versus(frame: Frame, one: Contrast) -> str:
    def called(name: str) -> str:
        return look(name).label + " (placebo)" * (frame.roles.get(name) == "placebo")

    return f"{called(one.variant)} over {called(one.baseline)}"


def _extreme(frame: Frame, point: Point, gain: Gain) -> Entry:
    where = "" if frame.grid is None else frame.grid.say(point)
    return Entry(points(gain.mean), where, gain.verdict)


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
        return (
            f"{count} comparisons are shown; at 95 % about one in twenty would exclude zero by "
            "chance."
        )
    expected = f"about {0.05 * count:.0f}" if count >= 30 else f"{0.05 * count:.1f} on average"
    return (
        f"{count} intervals of gains over {against} are shown and {excluding} of them exclude "
        f"zero; if no variant changed anything, {expected} would (one in twenty), and not singly, "
        "for settings share seeds and samples."
    )
