# SPDX-License-Identifier: Apache-2.0
"""Devices in sentences: whether fine-tuning helps, what a teacher gives there, what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qiskit_kd.execution.runtime.cost import FREE_SECONDS
from qiskit_kd.report.layouts import day
from qiskit_kd.report.palette import listed, look, readable
from qiskit_kd.report.summary import (
    Gain,
    Result,
    paired,
    points,
    roles,
    values,
    variants_of,
)
from qiskit_kd.report.tally import ends_of, subject
from qiskit_kd.report.tuning import (
    FEWEST,
    Change,
    Corrected,
    Tuned,
    corrected,
    kept_epochs,
    tuned,
)
from qiskit_kd.report.usage import calibrations_of, devices_of, is_simulated, spendings, total_of

__all__ = ["UNITS", "WORDS", "bill", "ends", "in_brief", "lead", "mitigation", "named", "number"]
__all__ += ["price", "said", "seconds", "teaching", "test_sentence", "tuning_tag"]

WORDS = {"confirmed": "better", "harmful": "worse", "not confirmed": "not confirmed"}
UNITS = {"kl": "nats", "nll": "nats", "accuracy": "points"}
_NAMES = {"kl": "KL", "nll": "log loss", "accuracy": "accuracy"}


def lead(result: Result) -> str:
    """The first line of a study that fine-tunes on a device; empty for any other."""
    found = _first(result)
    if found is None:
        return ""
    change, student = found.changes[0], f"the {readable(found.student)} student"
    stage = f"fine-tuning on {_device(result, found)}"
    if change.n < FEWEST:
        opening = f"Too few seeds to say whether {stage} helps {student}"
        rest = f"{said(change)}; a verdict needs {FEWEST} seeds."
        return f"{opening}: {rest}"
    openings = {
        "confirmed": f"{stage} helps {student}",
        "harmful": f"{stage} harms {student}",
        "not confirmed": f"{stage} is not confirmed to help {student}",
    }
    opening = openings[change.verdict]
    return f"{opening[0].upper()}{opening[1:]}: {said(change)}."


def tuning_tag(result: Result) -> str:
    """The verdict of the first line in a word; empty where there is none."""
    found = _first(result)
    return "" if found is None else found.changes[0].verdict


def test_sentence(result: Result) -> str:
    """What fine-tuning did to the test data, which chose nothing; empty without fine-tuning."""
    found = _first(result)
    changes = [] if found is None else [item for item in found.changes if item.part == "test"]
    if found is None or not changes:
        return ""
    parts = [f"{_brief(item)} ({WORDS[item.verdict]})" for item in changes]
    return (
        f"On the test data, which chose nothing: {listed(parts)}. It is compared with "
        f"“{look(found.control).label}”: the same weights, evaluated without a step on the device. "
        f"The validation data also chose which epoch was kept{_kept(result, found)}."
    )


def _kept(result: Result, found: Tuned) -> str:
    """At how many seeds it was the start, where rows tell."""
    epochs = kept_epochs(result.rows, found)
    start = sum(epoch == 0 for epoch in epochs)
    if not epochs:
        return ""
    if not start:
        return ": never the start"
    return (
        f": the start at {start} of {len(epochs)} seed{'s' * (len(epochs) > 1)}, where nothing "
        "changes"
    )


def teaching(result: Result) -> str:
    """How the training that was only evaluated compares with the others, on the test data."""
    found = _first(result)
    if found is None:
        return ""
    rows, placebos = result.rows, roles(result)[1]
    mine = values(rows, found.student, found.control, "accuracy")
    gains = [
        paired(rows, found.student, found.control, name)
        for name in variants_of(rows, student=found.student)
        if name not in (found.variant, found.control)
        and values(rows, found.student, name, "accuracy").keys() & mine.keys()
    ]
    parts = []
    for verb, verdict in (
        ("beats", "confirmed"), ("is not confirmed to differ from", "not confirmed"),
        ("does worse than", "harmful"),
    ):  # fmt: skip
        names = [_gain(gain, placebo=gain.baseline in placebos) for gain in gains
                 if gain.verdict == verdict]  # fmt: skip
        parts += [f"{verb} {listed(names)}"] if names else []
    label = f"“{look(found.control).label}”"
    return f"Evaluated without fine-tuning, {label} {', and '.join(parts)}." if parts else ""


def mitigation(found: Sequence[Corrected]) -> list[str]:
    """Per metric, for how many variants undoing readout errors is better, and for how many not."""
    out = []
    keys = dict.fromkeys((item.part, item.metric) for one in found for item in one.changes)
    for part, metric in keys:
        mine = [c for one in found for c in one.changes if (c.part, c.metric) == (part, metric)]
        counts = Counter(change.verdict for change in mine)
        mean = sum(change.mean for change in mine) / len(mine)
        out.append(
            f"With readout errors undone, {part} {_NAMES[metric]} is better for "
            f"{counts['confirmed']} of {len(mine)} variants, worse for {counts['harmful']} and not "
            f"confirmed to differ for {counts['not confirmed']}; on average it changes by "
            f"{number(mine[0], mean)} {UNITS[metric]}."
        )
    return out


def bill(result: Result) -> str:
    """What was asked of devices, and its share of the free plan; empty without devices."""
    names = list(dict.fromkeys(str(entry["device"]) for entry in devices_of(result)))
    if not names:
        return ""
    whole = total_of(result)
    asked = [_count(whole.jobs, "job"), _count(whole.pubs, "PUB")]
    asked += [_count(whole.executions, "execution")]
    text = (
        f"On {listed(map(readable, names))}: {', '.join(asked)}, {seconds(whole.seconds)} s of "
        f"quantum processor time, {_share(whole.seconds / FREE_SECONDS)} of the {FREE_SECONDS:g} s "
        "that IBM's free plan has in 28 days"
    )
    for backend, sums in result.spent.items():
        if sums["budget_seconds"]:
            used = (sums.get("device_seconds") or sums["seconds"] or 0.0) / sums["budget_seconds"]
            text += f"; {_share(used)} of the budget of “{readable(backend)}”, "
            text += f"{sums['budget_seconds']:g} s"
    if whole.usd:
        text += f"; {price(whole.usd)} USD"
    idle = {
        str(entry["backend"]): entry["without_effect"]
        for entry in devices_of(result) if entry.get("without_effect")
    }  # fmt: skip
    for backend, options in idle.items():
        text += f". Of “{readable(backend)}”, {listed(options)} changed nothing there"
    for device in names:
        dates = calibrations_of(result, device)
        if dates:
            text += (
                f". {readable(device)} was calibrated anew: its jobs ran under the calibration"
                f"{'s' * (len(dates) > 1)} of {listed(map(day, dates))}, and readout errors, where "
                "they are undone, are those in force when each job ran"
            )
    played = [name for name in names if is_simulated(name)]
    if not played:
        return f"{text}."
    return (
        f"{text}. {listed(map(readable, played)).capitalize()} "
        f"{'was' if len(played) == 1 else 'were'} simulated in the process: the seconds are those "
        "of IBM's formula for the same jobs, and nobody was charged."
    )


def _share(number: float) -> str:
    return f"{100 * number:.1f} %"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def in_brief(result: Result) -> list[str]:
    """Two sentences for a terminal, below the table; none without devices."""
    undone = [text for text in mitigation(corrected(result)) if ", test " in text]
    return [*undone[:1], bill(result)] if spendings(result) else []


def said(change: Change) -> str:
    """`validation KL −0.373 nats (95 % interval −0.809 to +0.063, n = 5 paired seeds)`."""
    text = f"{change.part} {_level(change)}"
    if change.low is None or change.high is None:
        return f"{text} (one seed only, n = 1)"
    span = ends(change).replace(", ", " to ")
    return f"{text} (95 % interval {span}, n = {change.n} paired seeds)"


def _brief(change: Change) -> str:
    """`KL −0.373 nats [−0.809, +0.063]`."""
    span = ends(change)
    return f"{_level(change)}{f' [{span}]' if span else ''}"


def _level(change: Change) -> str:
    return f"{named(change)} {number(change, change.mean)} {UNITS[change.metric]}"


def named(change: Change) -> str:
    """What people call its metric."""
    return _NAMES[change.metric]


def number(change: Change, value: float) -> str:
    """A difference of its metric with a sign: points of accuracy, or nats."""
    if change.metric == "accuracy":
        return points(value)
    return f"{value:+.3f}".replace("-", "−") if value else "0.000"


def ends(change: Change) -> str:
    """`−0.809, +0.063`: both ends of its interval; empty for a single seed."""
    if change.low is None or change.high is None:
        return ""
    return f"{number(change, change.low)}, {number(change, change.high)}"


def seconds(number: float) -> str:
    """Seconds of a quantum processor: one decimal, none from 1,000 on."""
    return (f"{number:,.1f}" if number < 1000 else f"{number:,.0f}").replace("-", "−")


def price(usd: float) -> str:
    """Dollars with cents, without from 1,000 on."""
    return (f"{usd:,.2f}" if usd < 1000 else f"{usd:,.0f}").replace("-", "−")


def _gain(gain: Gain, *, placebo: bool) -> str:
    ends = ends_of(gain).replace(", ", " to ")
    name = f"{'the placebo ' * placebo}“{look(gain.baseline).label}”"
    return f"{name} ({points(gain.mean)} points, {ends or 'one seed'})"


def _first(result: Result) -> Tuned | None:
    """The headline student's fine-tuned variant; of a study with axes none stands for all."""
    found = tuned(result)
    wanted = [item for item in found if item.student == subject(result)] or found
    return wanted[0] if wanted and not any(item.point for item in found) else None


def _device(result: Result, found: Tuned) -> str:
    """The name of the device that a variant is fine-tuned on; that of its backend if unknown."""
    backend = result.config["variants"][found.variant]["fine_tune"]["backend"]
    names = (str(d["device"]) for d in devices_of(result) if d["backend"] == backend)
    return readable(next(names, f"“{backend}”"))
