# SPDX-License-Identifier: Apache-2.0
"""What was asked of devices, per variant from the rows and in total from the journal, and where.

Of a job only what is named here is shown: nothing of the account it was sent from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from qiskit_kd.execution.runtime.cost import FREE_SECONDS, Cost, total
from qiskit_kd.report.document import (
    Block,
    Details,
    Facts,
    Section,
    Table,
    Text,
    section,
)
from qiskit_kd.report.frame import Frame, Row
from qiskit_kd.report.style import listed, look, readable

COLUMNS = (
    "backend",
    "device",
    "job_id",
    "status",
    "shots",
    "executions",
    "pubs",
    "estimate",
    "seconds",
    "usd",
    "created",
    "sent",
    "finished",
)
"""What `jobs.csv` says of a job."""
_TIMES = {"created", "sent", "finished"}
_LONG = 13  # characters of an id that the page shows whole


@dataclass(frozen=True, slots=True)
class Spending:
    """What the runs of one student under one variant cost on devices."""

    student: str
    variant: str
    runs: int
    cost: Cost


def is_simulated(device: str) -> bool:
    """Whether a device of this name runs in the process: nobody is paid."""
    return device == "aer" or device.startswith("fake_")


def devices_of(frame: Frame) -> list[Mapping[str, Any]]:
    """What every run says of every device that it used; a run counts once, at whichever points."""
    return [entry for row in _runs(frame) for entry in row.get("devices") or ()]


def _runs(frame: Frame) -> list[Row]:
    runs = {str(row.get("key", place)): row for place, row in enumerate(frame.rows)}
    return [*runs.values()]


def calibrations_of(frame: Frame, device: str) -> list[str]:
    """Dates of the calibrations that its jobs ran under, where it was calibrated anew meanwhile."""
    entries = [entry for entry in devices_of(frame) if entry["device"] == device]
    found = [date for entry in entries for date in entry.get("calibrations") or ()]
    same = [entry["calibrated"] for entry in entries if not entry.get("calibrations")]
    if not found:
        return []
    dates = {*found, *filter(None, same)}
    return sorted(dates, key=lambda date: datetime.fromisoformat(date).timestamp())


def spendings(frame: Frame) -> list[Spending]:
    """One entry per student and variant that used a device, in the order of the rows."""
    rates = _rates(frame)
    found: dict[tuple[str, str], list[Cost]] = {}
    for row in _runs(frame):
        costs = [_cost(entry, rates) for entry in row.get("devices") or ()]
        if costs:
            found.setdefault((str(row["student"]), str(row["variant"])), []).append(total(costs))
    return [Spending(*key, len(costs), total(costs)) for key, costs in found.items()]


def total_of(frame: Frame) -> Cost:
    """All jobs of the journal; of a study without one, all that its rows say."""
    sent = sent_jobs(frame)
    if not sent:
        return total(item.cost for item in spendings(frame))
    return total(
        Cost(
            job["executions"] if job["status"] == "done" else 0,
            1,
            job["pubs"],
            job["seconds"] or 0.0,
            job["usd"] if job["seconds"] else 0.0,
        )
        for job in sent
    )


def sent_jobs(frame: Frame) -> list[Mapping[str, Any]]:
    """Jobs of the journal that have an id: those that a device was given."""
    return [job for job in frame.result.jobs if job["job_id"] is not None]


def _cost(entry: Mapping[str, Any], rates: Mapping[str, float]) -> Cost:
    used = entry["usage"]
    rate = rates.get(str(entry["backend"]))
    usd = None if rate is None else rate * used["qpu_seconds"]
    return Cost(used["executions"], used["jobs"], used["pubs"], used["qpu_seconds"], usd)


def _rates(frame: Frame) -> dict[str, float]:
    """Price of a second by backend, from jobs whose price is known."""
    found: dict[str, tuple[float, float]] = {}
    for job in sent_jobs(frame):
        if job["usd"] is not None and job["seconds"]:
            seconds, usd = found.get(job["backend"], (0.0, 0.0))
            found[job["backend"]] = seconds + job["seconds"], usd + job["usd"]
    return {backend: usd / seconds for backend, (seconds, usd) in found.items()}


@section("cost", place=50, terminal=True)
def cost(frame: Frame) -> Section | None:
    """What was asked of devices: per student and variant, and every job."""
    found = spendings(frame)
    if not found:
        return None
    said = Text(bill(frame))
    blocks: list[Block] = [said, *filter(None, [_expected_text(frame)]), _usage(frame, found)]
    if jobs := sent_jobs(frame):
        note = Text("Ids are cut short here and whole in jobs.csv.")
        blocks.append(Details(f"Every job ({len(jobs)})", [note, _job_table(jobs)]))
    return Section("What it cost", blocks, [said])


def bill(frame: Frame) -> str:
    """What was asked of devices, and its share of the free plan; empty without devices."""
    names = list(dict.fromkeys(str(entry["device"]) for entry in devices_of(frame)))
    if not names:
        return ""
    whole = total_of(frame)
    asked = [
        _many(n, noun)
        for n, noun in ((whole.jobs, "job"), (whole.pubs, "PUB"), (whole.executions, "execution"))
    ]
    text = (
        f"On {listed(map(readable, names))}: {', '.join(asked)}, {_seconds(whole.seconds)} s of "
        f"quantum processor time, {100 * whole.seconds / FREE_SECONDS:.1f} % of the "
        f"{FREE_SECONDS:g} s that IBM's free plan has in 28 days"
    )
    for backend, sums in frame.result.spent.items():
        if sums["budget_seconds"]:
            used = (sums.get("device_seconds") or sums["seconds"] or 0.0) / sums["budget_seconds"]
            text += (
                f"; {100 * used:.1f} % of the budget of “{readable(backend)}”, "
                f"{sums['budget_seconds']:g} s"
            )
    text += f"; {_price(whole.usd)} USD" if whole.usd else ""
    idle = {
        str(entry["backend"]): entry["without_effect"]
        for entry in devices_of(frame)
        if entry.get("without_effect")
    }
    for backend, options in idle.items():
        text += f". Of “{readable(backend)}”, {listed(options)} changed nothing there"
    for device in names:
        if dates := calibrations_of(frame, device):
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


def _expected(frame: Frame) -> dict[tuple[str, str], float]:
    """Seconds that the estimate before the run gave all runs of a student and variant."""
    found: dict[tuple[str, str], float] = {}
    for kind in (frame.result.estimate or {}).get("kinds", ()):
        key = str(kind["student"]), str(kind["variant"])
        found[key] = found.get(key, 0.0) + float(kind["seconds"])
    return found


def _expected_text(frame: Frame) -> Text | None:
    """How far what was counted is from what was expected; None where nothing was."""
    counted, estimate = total_of(frame).seconds, frame.result.estimate
    if estimate is None or not counted:
        return None
    expected = float(estimate["total"]["seconds"])
    most = "at most " if estimate["may_end_early"] else ""
    text = f"Expected before the run: {most}{_seconds(expected)} s for the whole study"
    change = f"{100 * abs(counted / expected - 1):.1f} %"
    if change == "0.0 %":
        return Text(f"{text}, as counted.")
    return Text(f"{text}; counted is {change} {'more' if counted > expected else 'less'}.")


def _usage(frame: Frame, found: Sequence[Spending]) -> Table:
    """Per student and variant, and together."""
    whole, expected = total_of(frame), _expected(frame)
    priced, several = bool(whole.usd), len({item.student for item in found}) > 1

    def line(student: str, name: str, runs: str, cost: Cost, said: float | None) -> list[str]:
        counts = [f"{n:,}".replace("-", "−") for n in (cost.jobs, cost.pubs, cost.executions)]
        beside = "" if said is None else _seconds(said)
        usd = "" if cost.usd is None else _price(cost.usd)
        return [
            *[student] * several,
            name,
            runs,
            *counts,
            _seconds(cost.seconds),
            *[beside] * bool(expected),
            *[usd] * priced,
        ]

    lines = [
        line(
            readable(item.student),
            look(item.variant).label,
            f"{item.runs:,}",
            item.cost,
            expected.get((item.student, item.variant), 0.0),
        )
        for item in found
    ]
    known = total(item.cost for item in found)
    if whole.jobs != known.jobs:
        # A run cut off and done again, or of a candidate that was not chosen, has jobs of its own;
        # two runs that ask for the same have the same job.
        rest = whole + known * -1
        label = "jobs of no run above" if rest.jobs > 0 else "jobs that runs share, paid once"
        lines.append(line("", label, "", rest, None))
    runs = sum(item.runs for item in found)
    lines.append(line("", "together", f"{runs:,}", whole, sum(expected.values())))
    heads = [
        *["student"] * several,
        "variant",
        "runs",
        "jobs",
        "PUBs",
        "executions",
        "QPU seconds",
        *["expected, s"] * bool(expected),
        *["USD"] * priced,
    ]
    return Table(heads, lines, words=1 + several)


def _job_table(jobs: Sequence[Mapping[str, Any]]) -> Table:
    """Every job with its id cut short, in the order in which they were made."""
    priced = any(job["usd"] for job in jobs)
    heads = [
        "job",
        "backend",
        "status",
        "sent, UTC",
        "PUBs",
        "executions",
        "estimate, s",
        "QPU seconds",
        *["USD"] * priced,
    ]
    lines = []
    for job in jobs:
        name, usd = str(job["job_id"]), "" if job["usd"] is None else _price(job["usd"])
        lines.append(
            [
                name if len(name) <= _LONG else f"{name[: _LONG - 1]}…",
                readable(str(job["backend"])),
                str(job["status"]),
                _time(job["sent"]).replace("T", " ").removesuffix("Z"),
                f"{job['pubs']:,}",
                f"{job['executions']:,}",
                _seconds(job["estimate"]),
                "" if job["seconds"] is None else f"{job['seconds']:.2f}",
                *[usd] * priced,
            ]
        )
    return Table(heads, lines, words=4)


def job_lines(frame: Frame) -> list[list[Any]]:
    """The lines of `jobs.csv`: ids whole, times in UTC."""
    return [
        [_time(job[name]) if name in _TIMES else job[name] for name in COLUMNS]
        for job in sent_jobs(frame)
    ]


def _time(when: float | None) -> str:
    """`2026-11-24T15:33:10Z`; empty for what has not happened."""
    if when is None:
        return ""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(number: float) -> str:
    """Seconds of a quantum processor: one decimal, none from 1,000 on."""
    return (f"{number:,.1f}" if number < 1000 else f"{number:,.0f}").replace("-", "−")


def _price(usd: float) -> str:
    """Dollars with cents, without from 1,000 on."""
    return (f"{usd:,.2f}" if usd < 1000 else f"{usd:,.0f}").replace("-", "−")


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


# Where on the device circuits ran.


@section("layout", place=55)
def layout(frame: Frame) -> Section | None:
    """Per device and calibration: the physical qubits of every copy, and their errors."""
    found: dict[tuple[str, str | None], dict[str, Mapping[str, Any]]] = {}
    backends: dict[tuple[str, str | None], dict[str, None]] = {}
    for entry in devices_of(frame):
        key = str(entry["device"]), entry["calibrated"]
        backends.setdefault(key, {})[readable(str(entry["backend"]))] = None
        for circuit in entry["circuits"]:
            found.setdefault(key, {}).setdefault(json.dumps(circuit, sort_keys=True), circuit)
    blocks = [
        block
        for (device, calibrated), circuits in found.items()
        for block in _device(
            frame, device, calibrated, listed(backends[device, calibrated]), [*circuits.values()]
        )
    ]
    return Section("Where on the device", blocks) if blocks else None


def _device(
    frame: Frame, device: str, calibrated: str | None, used_as: str, circuits: Sequence[Any]
) -> Iterator[Block]:
    dates = calibrations_of(frame, device)
    kind = (
        "simulated in the process, from the device's stored calibration"
        if is_simulated(device)
        else "quantum processor"
    )
    yield Facts(
        [
            ("used as", used_as),
            ("kind", kind),
            ("calibrated", day(calibrated)),
            *([("jobs ran under the calibrations of", listed(map(day, dates)))] if dates else []),
            ("circuits", f"{len(circuits)} distinct"),
        ],
        title=readable(device),
    )
    yield from map(_circuit, circuits)


def _circuit(facts: Mapping[str, Any]) -> Table:
    tiles, readout, out = facts["tiles"], facts["readout"], facts.get("left_out") or []
    copies = len(facts["layout"])
    text = (
        f"{facts['two_qubit_gates']:,} two-qubit gates, depth {facts['depth']:,}, "
        f"{1e6 * facts['duration']:.2f} µs; "
        + (f"{copies} copies side by side" if copies > 1 else "one copy")
    )
    if tiles:
        text += (
            f", with {tiles[0]['error']:.2f} to {tiles[-1]['error']:.2f} faults to be expected "
            "in one run of a copy"
        )
    text += ". Copies whose errors are out of line were left out." if out else "."
    lines = []
    for place, qubits in enumerate(facts["layout"]):
        own = tiles[place] if tiles else None
        mean = f"{100 * float(np.mean(readout[place])):.1f}" if readout else ""
        lines.append([f"{place + 1}", *_judged(own or {"qubits": qubits}, bool(tiles)), mean])
    lines += [["left out", *_judged(tile, bool(tiles)), ""] for tile in out]
    heads = [
        "copy",
        "physical qubits, the circuit's first one first",
        *(["faults per run", "times the best"] if tiles else []),
        "mean readout error, %",
    ]
    return Table(heads, lines, title=text, words=2)


def _judged(tile: Mapping[str, Any], judged: bool) -> list[str]:
    path = " ".join(map(str, tile["qubits"]))
    return [path, *([f"{tile['error']:.3f}", f"{tile['ratio']:.2f}"] if judged else [])]


def day(calibrated: str | None) -> str:
    """`2025-02-26 15:26 (UTC−05:00)` of an ISO date; what is not known is said to be so."""
    if calibrated is None:
        return "unknown"
    day, _, rest = calibrated.partition("T")
    if rest.endswith("Z"):
        zone = " UTC"
    else:
        zone = f" (UTC{rest[-6:].replace('-', '−')})" if rest[-6:-5] in ("+", "-") else ""
    return f"{day} {rest[:5]}{zone}" if rest else day
