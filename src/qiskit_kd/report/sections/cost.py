# SPDX-License-Identifier: Apache-2.0
"""What was asked of devices, per variant from the rows and in total from the journal, and where.

Of a job only what is named here is shown: nothing of the account it was sent from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from qiskit_kd.execution.runtime.cost import FREE_SECONDS, Cost, total
from qiskit_kd.report.document import Block, Details, Facts, Section, Table, Text, section, tabled
from qiskit_kd.report.frame import Frame, Row
from qiskit_kd.report.style import listed, look, readable

_TIMES = ("created", "sent", "finished")
COLUMNS = (
    *("backend", "device", "job_id", "status", "shots", "executions", "pubs", "estimate"),
    *("seconds", "usd", *_TIMES),
)
"""What `jobs.csv` says of a job."""
_LONG = 13  # characters of an id that the page shows whole


@dataclass(frozen=True, slots=True)
class Spending:
    """What the runs of one student under one variant cost on devices."""

    student: str
    variant: str
    runs: int | None
    cost: Cost
    expected: float | None = None
    """Seconds, as estimated before the run."""


def is_simulated(device: str) -> bool:
    """Whether a device of this name runs in the process: nobody is paid."""
    return device == "aer" or device.startswith("fake_")


def devices_of(frame: Frame) -> list[Mapping[str, Any]]:
    """What every run says of every device that it used; a run counts once, at whichever points."""
    return [entry for row in _runs(frame) for entry in row.get("devices") or ()]


def _runs(frame: Frame) -> list[Row]:
    return [*{str(row.get("key", place)): row for place, row in enumerate(frame.rows)}.values()]


def calibrations_of(frame: Frame, device: str) -> list[str]:
    """Dates of the calibrations that its jobs ran under, where it was calibrated anew meanwhile."""
    entries = [entry for entry in devices_of(frame) if entry["device"] == device]
    found = {date for entry in entries for date in entry.get("calibrations") or ()}
    if found:
        found |= {e["calibrated"] for e in entries if not e.get("calibrations")} - {None, ""}
    return sorted(found, key=lambda date: datetime.fromisoformat(date).timestamp())


def spendings(frame: Frame) -> list[Spending]:
    """One entry per student and variant that used a device, in the order of the rows."""
    priced: dict[str, list[tuple[float, float]]] = {}
    for job in sent_jobs(frame):
        if job["usd"] is not None and job["seconds"]:
            priced.setdefault(job["backend"], []).append((job["usd"], job["seconds"]))
    rates = {
        name: sum(usd for usd, _ in jobs) / sum(s for _, s in jobs) for name, jobs in priced.items()
    }
    expected: dict[tuple[str, str], float] = {}
    for kind in (frame.result.estimate or {}).get("kinds", ()):
        key = str(kind["student"]), str(kind["variant"])
        expected[key] = expected.get(key, 0.0) + float(kind["seconds"])
    found: dict[tuple[str, str], list[Cost]] = {}
    for row in _runs(frame):
        costs = []
        for entry in row.get("devices") or ():
            used, rate = entry["usage"], rates.get(str(entry["backend"]))
            usd = None if rate is None else rate * used["qpu_seconds"]
            counts = used["executions"], used["jobs"], used["pubs"]
            costs.append(Cost(*counts, used["qpu_seconds"], usd))
        if costs:
            found.setdefault((str(row["student"]), str(row["variant"])), []).append(total(costs))
    return [
        Spending(*key, len(costs), total(costs), expected.get(key, 0.0) if expected else None)
        for key, costs in found.items()
    ]


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


@section("cost", place=50, terminal=True)
def cost(frame: Frame) -> Section | None:
    """What was asked of devices: per student and variant, and every job."""
    found = spendings(frame)
    if not found:
        return None
    said, whole = Text(bill(frame)), total_of(frame)
    blocks: list[Block] = [said, *_expected(frame, whole.seconds), _usage(found, whole)]
    if jobs := sent_jobs(frame):
        note = Text("Ids are cut short here and whole in jobs.csv.")
        blocks.append(Details(f"Every job ({len(jobs)})", [note, _job_table(jobs)]))
    return Section("What it cost", blocks, [said])


def bill(frame: Frame) -> str:
    """What was asked of devices, and its share of the free plan; empty without devices."""
    entries = devices_of(frame)
    names = list(dict.fromkeys(str(entry["device"]) for entry in entries))
    if not names:
        return ""
    whole = total_of(frame)
    counts = {"job": whole.jobs, "PUB": whole.pubs, "execution": whole.executions}
    asked = ", ".join(f"{n:,} {noun}{'s' * (n != 1)}" for noun, n in counts.items())
    text = (
        f"On {listed(map(readable, names))}: {asked}, {_seconds(whole.seconds)} s of quantum "
        f"processor time, {100 * whole.seconds / FREE_SECONDS:.1f} % of the {FREE_SECONDS:g} s "
        "that IBM's free plan has in 28 days"
    )
    for backend, sums in frame.result.spent.items():
        if most := sums["budget_seconds"]:
            used = 100 * (sums.get("device_seconds") or sums["seconds"] or 0.0) / most
            text += f"; {used:.1f} % of the budget of “{readable(backend)}”, {most:g} s"
    text += f"; {_price(whole.usd)} USD" if whole.usd else ""
    idle = {str(e["backend"]): e["without_effect"] for e in entries if e.get("without_effect")}
    for backend, options in idle.items():
        text += f". Of “{readable(backend)}”, {listed(options)} changed nothing there"
    for device in names:
        if dates := calibrations_of(frame, device):
            text += (
                f". {readable(device)} was calibrated anew: its jobs ran under the calibration"
                f"{'s' * (len(dates) > 1)} of {listed(map(day, dates))}, and readout errors, where "
                "they are undone, are those in force when each job ran"
            )
    if played := [readable(name) for name in names if is_simulated(name)]:
        text += (
            f". {listed(played).capitalize()} {'was' if len(played) == 1 else 'were'} simulated in "
            "the process: the seconds are those of IBM's formula for the same jobs, and nobody was "
            "charged"
        )
    return f"{text}."


def _expected(frame: Frame, counted: float) -> list[Text]:
    """How far what was counted is from what was expected; nothing where nothing was."""
    estimate = frame.result.estimate
    if estimate is None or not counted:
        return []
    expected = float(estimate["total"]["seconds"])
    most = "at most " * bool(estimate["may_end_early"])
    text = f"Expected before the run: {most}{_seconds(expected)} s for the whole study"
    change = f"{100 * abs(counted / expected - 1):.1f} %"
    if change == "0.0 %":
        return [Text(f"{text}, as counted.")]
    return [Text(f"{text}; counted is {change} {'more' if counted > expected else 'less'}.")]


def _usage(found: Sequence[Spending], whole: Cost) -> Table:
    """Per student and variant, and together."""
    known, expected = total(item.cost for item in found), sum(item.expected or 0 for item in found)
    lines = [
        Spending(readable(i.student), look(i.variant).label, i.runs, i.cost, i.expected)
        for i in found
    ]
    if whole.jobs != known.jobs:
        # A run cut off and done again, or of a candidate that was not chosen, has jobs of its own;
        # two runs that ask for the same have the same job.
        rest = whole + known * -1
        label = "jobs of no run above" if rest.jobs > 0 else "jobs that runs share, paid once"
        lines.append(Spending("", label, None, rest))
    runs = sum(item.runs or 0 for item in found)
    lines.append(Spending("", "together", runs, whole, expected))
    several = len({item.student for item in found}) > 1
    return tabled(
        lines,
        {
            "student": several and (lambda one: one.student),
            "variant": lambda one: one.variant,
            "runs": lambda one: "" if one.runs is None else f"{one.runs:,}",
            "jobs": lambda one: _count(one.cost.jobs),
            "PUBs": lambda one: _count(one.cost.pubs),
            "executions": lambda one: _count(one.cost.executions),
            "QPU seconds": lambda one: _seconds(one.cost.seconds),
            "expected, s": found[0].expected is not None and (lambda one: _seconds(one.expected)),
            "USD": bool(whole.usd) and (lambda one: _price(one.cost.usd)),
        },
        words=1 + several,
    )


def _job_table(jobs: Sequence[Mapping[str, Any]]) -> Table:
    """Every job with its id cut short, in the order in which they were made."""

    def short(job: Mapping[str, Any]) -> str:
        name = str(job["job_id"])
        return name if len(name) <= _LONG else f"{name[: _LONG - 1]}…"

    return tabled(
        jobs,
        {
            "job": short,
            "backend": lambda job: readable(str(job["backend"])),
            "status": lambda job: str(job["status"]),
            "sent, UTC": lambda job: _time(job["sent"]).replace("T", " ").removesuffix("Z"),
            "PUBs": lambda job: f"{job['pubs']:,}",
            "executions": lambda job: f"{job['executions']:,}",
            "estimate, s": lambda job: _seconds(job["estimate"]),
            "QPU seconds": lambda job: "" if job["seconds"] is None else f"{job['seconds']:.2f}",
            "USD": any(job["usd"] for job in jobs) and (lambda job: _price(job["usd"])),
        },
        words=4,
    )


def job_lines(frame: Frame) -> list[list[Any]]:
    """The lines of `jobs.csv`: ids whole, times in UTC."""
    return [
        [_time(job[name]) if name in _TIMES else job[name] for name in COLUMNS]
        for job in sent_jobs(frame)
    ]


def _time(when: float | None) -> str:
    """`2026-11-24T15:33:10Z`; empty for what has not happened."""
    return "" if when is None else datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _count(number: int) -> str:
    return f"{number:,}".replace("-", "−")


def _seconds(number: float | None) -> str:
    """Seconds of a quantum processor: one decimal, none from 1,000 on."""
    return "" if number is None else f"{number:,.{int(number < 1000)}f}".replace("-", "−")


def _price(usd: float | None) -> str:
    """Dollars with cents, without from 1,000 on."""
    return "" if usd is None else f"{usd:,.{2 * (usd < 1000)}f}".replace("-", "−")


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
    blocks: list[Block] = []
    for (device, calibrated), circuits in found.items():
        dates = calibrations_of(frame, device)
        facts = {
            "used as": listed(backends[device, calibrated]),
            "kind": "simulated in the process, from the device's stored calibration"
            if is_simulated(device)
            else "quantum processor",
            "calibrated": day(calibrated),
            "jobs ran under the calibrations of": listed(map(day, dates)) if dates else "",
            "circuits": f"{len(circuits)} distinct",
        }
        kept = [(label, text) for label, text in facts.items() if text]
        blocks += [Facts(kept, readable(device)), *map(_circuit, circuits.values())]
    return Section("Where on the device", blocks) if blocks else None


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
    found: list[dict[str, Any]] = [
        {
            "copy": f"{place + 1}",
            "qubits": qubits,
            "readout": f"{100 * float(np.mean(readout[place])):.1f}" if readout else "",
            **(tiles[place] if tiles else {}),
        }
        for place, qubits in enumerate(facts["layout"])
    ]
    found += [{"copy": "left out", "readout": "", **tile} for tile in out]
    return tabled(
        found,
        {
            "copy": lambda one: str(one["copy"]),
            "physical qubits, the circuit's first one first": (
                lambda one: " ".join(map(str, one["qubits"]))
            ),
            "faults per run": bool(tiles) and (lambda one: f"{one['error']:.3f}"),
            "times the best": bool(tiles) and (lambda one: f"{one['ratio']:.2f}"),
            "mean readout error, %": lambda one: str(one["readout"]),
        },
        title=text,
        words=2,
    )


def day(calibrated: str | None) -> str:
    """`2025-02-26 15:26 (UTC−05:00)` of an ISO date; what is not known is said to be so."""
    if calibrated is None:
        return "unknown"
    day, _, rest = calibrated.partition("T")
    zone = " UTC" if rest.endswith("Z") else ""
    if rest[-6:-5] in ("+", "-"):
        zone = f" (UTC{rest[-6:].replace('-', '−')})"
    return f"{day} {rest[:5]}{zone}" if rest else day
