# SPDX-License-Identifier: Apache-2.0
"""What was asked of devices: per variant from the rows, in total from the journal of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from qiskit_kd.execution.runtime.cost import Cost, total
from qiskit_kd.report.summary import Result, Row

__all__ = ["Spending", "calibrations_of", "devices_of", "is_simulated", "sent_jobs", "spendings"]
__all__ += ["total_of"]


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


def devices_of(result: Result) -> list[Mapping[str, Any]]:
    """What every run says of every device that it used; a run counts once, at whichever points."""
    return [entry for row in _runs(result) for entry in row.get("devices") or ()]


def calibrations_of(result: Result, device: str) -> list[str]:
    """Dates of the calibrations that its jobs ran under, where it was calibrated anew meanwhile."""
    entries = [entry for entry in devices_of(result) if entry["device"] == device]
    found = [date for entry in entries for date in entry.get("calibrations") or ()]
    same = [entry["calibrated"] for entry in entries if not entry.get("calibrations")]
    if not found:
        return []
    dates = {*found, *filter(None, same)}
    return sorted(dates, key=lambda date: datetime.fromisoformat(date).timestamp())


def spendings(result: Result) -> list[Spending]:
    """One entry per student and variant that used a device, in the order of the rows."""
    rates = _rates(result)
    found: dict[tuple[str, str], list[Cost]] = {}
    for row in _runs(result):
        costs = [_cost(entry, rates) for entry in row.get("devices") or ()]
        if costs:
            found.setdefault((str(row["student"]), str(row["variant"])), []).append(total(costs))
    return [Spending(*key, len(costs), total(costs)) for key, costs in found.items()]


def total_of(result: Result) -> Cost:
    """All jobs of the journal; of a study without one, all that its rows say."""
    sent = sent_jobs(result)
    if not sent:
        return total(item.cost for item in spendings(result))
    return total(
        Cost(
            job["executions"] if job["status"] == "done" else 0, 1, job["pubs"],
            job["seconds"] or 0.0, job["usd"] if job["seconds"] else 0.0,
        )
        for job in sent
    )  # fmt: skip


def sent_jobs(result: Result) -> list[Mapping[str, Any]]:
    """Jobs of the journal that have an id: those that a device was given."""
    return [job for job in result.jobs if job["job_id"] is not None]


def _runs(result: Result) -> list[Row]:
    """Rows, each run once: one that stands for several points has the same key at all of them."""
    runs = {str(row.get("key", place)): row for place, row in enumerate(result.rows)}
    return [*runs.values()]


def _cost(entry: Mapping[str, Any], rates: Mapping[str, float]) -> Cost:
    used = entry["usage"]
    rate = rates.get(str(entry["backend"]))
    return Cost(
        used["executions"], used["jobs"], used["pubs"], used["qpu_seconds"],
        None if rate is None else rate * used["qpu_seconds"],
    )  # fmt: skip


def _rates(result: Result) -> dict[str, float]:
    """Price of a second by backend, from jobs whose price is known."""
    found: dict[str, tuple[float, float]] = {}
    for job in sent_jobs(result):
        if job["usd"] is not None and job["seconds"]:
            seconds, usd = found.get(job["backend"], (0.0, 0.0))
            found[job["backend"]] = seconds + job["seconds"], usd + job["usd"]
    return {backend: usd / seconds for backend, (seconds, usd) in found.items()}
