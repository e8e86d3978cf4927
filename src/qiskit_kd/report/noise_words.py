# SPDX-License-Identifier: Apache-2.0
"""Which training holds under noise, in sentences: what was confirmed, and what was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qiskit_kd.report.grid import Grid, Point, settled, shown
from qiskit_kd.report.palette import listed, look
from qiskit_kd.report.summary import Gain, Result, points, roles, variants_of
from qiskit_kd.report.tally import Tally, ends_of, taught
from qiskit_kd.report.trainings import (
    averaged,
    contest,
    lost,
    noisy_points,
    preferred,
    scaled,
    under_noise,
)
from qiskit_kd.report.whereabouts import noise_of, trained_on

__all__ = ["answers", "lessons"]


def lessons(result: Result, grid: Grid, student: str, *, brief: bool = False) -> list[str]:
    """What training under noise gives, and what each teacher adds to it.

    Args:
        result: A study.
        grid: Its points.
        student: Which student.
        brief: Counts only, without the means over settings.
    """
    where = noisy_points(result, grid)
    if not where:
        return []
    mine = variants_of(result.rows, student=student)
    noisy, free = ([name for name in names if name in mine] for names in under_noise(result))
    said = [
        _hardened(result, contest(result, student, hard, soft, where), soft, brief)
        for hard in noisy[:1]
        for soft in free
    ]
    said.append(_taught(result, student, noisy, where, brief))
    return [text for text in said if text]


def answers(result: Result, grid: Grid, student: str) -> list[str]:
    """All that is said of a student: `lessons`, then placebos, teachers, choices and losses."""
    where = noisy_points(result, grid)
    if not where:
        return []
    said = [
        *lessons(result, grid, student), *_placebos(result, student, where),
        _teachers(result, student, where), _choices(result, grid, student, where),
        _losses(result, grid, student),
    ]  # fmt: skip
    return [text for text in said if text]


def _hardened(result: Result, tally: Tally, free: str, brief: bool) -> str:
    if not tally.found:
        return ""
    noisy, plain, total = _name(tally.variant), _name(free), _settings(len(tally.found))
    wins, losses, rest = _counts(tally)
    if wins:
        opening = f"Training under noise ({noisy}) beats training without ({plain}) at {wins} of "
        opening += f"{total}"
    else:
        opening = f"Training under noise does not help: {noisy} is confirmed better than {plain} "
        opening += f"at none of {total}"
    mean = "" if brief else _mean(result, tally)
    return f"{opening}, does worse at {losses} and settles nothing at {rest}{mean}."


def _taught(
    result: Result, student: str, noisy: Sequence[str], where: Sequence[Point], brief: bool
) -> str:
    """What each real teacher adds to the training under noise that has none."""
    if not noisy:
        return ""
    base, here = noisy[0], settled(result.config)
    mine = variants_of(result.rows, student=student)
    duels = [
        (name, contest(result, student, name, base, where))
        for name in taught(result)
        if name in mine and noise_of(here, trained_on(here, name)) is not None
    ]
    helped, rest = [], []
    for name, tally in duels:
        if not tally.found:
            continue
        wins, losses, _ = _counts(tally)
        text = f"worse at {losses}{'' if brief else _mean(result, tally)}"
        if wins:
            helped.append(f"{_name(name)} at {wins} of {len(tally.found)} ({text})")
        else:
            rest.append(f"{_name(name)} at none of {len(tally.found)} ({text})")
    said = []
    if helped:
        said.append(f"A teacher adds to {_name(base)}: {listed(helped)}.")
    if rest:
        opening = "A gain is confirmed for" if helped else "No teacher is confirmed to add to it:"
        said.append(f"{opening} {listed(rest)}.")
    return " ".join(said)


def _placebos(result: Result, student: str, where: Sequence[Point]) -> list[str]:
    """What placebos add to the baseline, and how real teachers fare against them."""
    baseline, placebos = roles(result)
    mine = variants_of(result.rows, student=student)
    said = []
    for placebo in (name for name in mine if name in placebos and baseline in mine):
        tally = contest(result, student, placebo, baseline, where)
        if not tally.found:
            continue
        wins, losses, rest = _counts(tally)
        text = (
            f"The placebo {_name(placebo)} is better than {_name(baseline)} at {wins} of "
            f"{len(tally.found)}, worse at {losses} and undecided at "
            f"{rest}{_mean(result, tally)}"
        )
        duels = [
            (name, contest(result, student, name, placebo, where))
            for name in taught(result)
            if name in mine
        ]
        beaten = [f"{_name(n)} at {t.count('confirmed')} of {len(t.found)}" for n, t in duels
                  if t.found]  # fmt: skip
        said.append(f"{text}. It is beaten by {listed(beaten)}." if beaten else f"{text}.")
    return said


def _teachers(result: Result, student: str, where: Sequence[Point]) -> str:
    """Real teachers among each other: the first against each of the others."""
    mine = variants_of(result.rows, student=student)
    names = [name for name in taught(result) if name in mine]
    said = []
    for other in names[1:]:
        tally = contest(result, student, names[0], other, where)
        if tally.found:
            wins, losses, rest = _counts(tally)
            said.append(
                f"{_name(names[0])} is better than {_name(other)} at {wins} of "
                f"{len(tally.found)}, worse at {losses} and undecided at "
                f"{rest}{_mean(result, tally)}"
            )
    return f"{'; '.join(said)}." if said else ""


def _choices(result: Result, grid: Grid, student: str, where: Sequence[Point]) -> str:
    """What the validation data prefer, and what that is worth on the test data."""
    found = [item for item in preferred(result, grid, student) if item.point in where]
    if not found:
        return ""
    counts = Counter(item.variant for item in found)
    liked = [f"{_name(name)} at {count}" for name, count in counts.most_common()]
    best = sum(all(g.verdict == "confirmed" for g in item.gains.values()) for item in found)
    worse = sum(any(g.verdict == "harmful" for g in item.gains.values()) for item in found)
    over = []
    for name in variants_of(result.rows, student=student):
        gains = [item.gains[name] for item in found if name in item.gains]
        if gains:
            wins = sum(gain.verdict == "confirmed" for gain in gains)
            over.append(f"{_name(name)} at {wins} of {len(gains)}")
    return (
        f"Of {_settings(len(found))}, the validation data prefer {listed(liked)}. On the test data "
        f"the preferred training is confirmed better than {listed(over)} where another one is "
        f"preferred; better than all others at once at {best or 'none'}, and worse than one of "
        f"them at {worse or 'none'}."
    )


def _losses(result: Result, grid: Grid, student: str) -> str:
    """What every training loses from the first value of the axis to the last."""
    found = [
        (name, change)
        for name in variants_of(result.rows, student=student)
        if (change := lost(result, grid, student, name)) is not None
    ]
    if not found or not scaled(result, grid):
        return ""
    said = [f"{_name(name)} {_spoken(change)}" for name, change in found]
    panels = f" on average over {len(grid.panels)} panels" if len(grid.panels) > 1 else ""
    return (
        f"From {grid.titles[grid.x]} {shown(grid.values[0])} to {shown(grid.values[-1])}, test "
        f"accuracy changes{panels} by, in points: {listed(said)}."
    )


def _counts(tally: Tally) -> tuple[int, int, int]:
    wins, losses, rest = map(tally.count, ("confirmed", "harmful", "not confirmed"))
    return wins, losses, rest


def _settings(count: int) -> str:
    return f"{count} setting{'s' * (count != 1)} with noise"


def _mean(result: Result, tally: Tally) -> str:
    gain = averaged(result, tally)
    if gain is None:
        return ""
    mean = "on average " if len(tally.found) > 1 else ""
    return f"; {mean}{_spoken(gain)} points, n\u00a0=\u00a0{gain.n}"


def _spoken(gain: Gain) -> str:
    ends = ends_of(gain)
    return f"{points(gain.mean)}{f' [{ends}]' if ends else ''}"


def _name(variant: str) -> str:
    return f"“{look(variant).label}”"
