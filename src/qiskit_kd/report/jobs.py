# SPDX-License-Identifier: Apache-2.0
"""Jobs on devices as plain text, at most 100 columns: what was sent, and what it has cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from qiskit_kd.report.terminal import aligned, wrapped

__all__ = ["jobs_text", "spent_text"]

_SAID = {"intent": "perhaps sent", "sent": "sent", "done": "done", "failed": "failed"}


def jobs_text(
    jobs: Sequence[Mapping[str, Any]], spent: Mapping[str, Mapping[str, float | None]]
) -> str:
    """A line per job, in the order in which they were intended, then what each backend has cost.

    Args:
        jobs: As `experiment.spending.jobs_of` returns them.
        spent: As `experiment.spending.spent_of` returns it.
    """
    if not jobs:
        return "no jobs on devices"
    priced = any(job["usd"] is not None for job in jobs)
    heads = ["job", "backend", "created", "shots", "executions", "s", *["USD"] * priced, "status"]
    lines = [
        [
            _id(job["job_id"]), str(job["backend"]), _time(job["created"]),
            "" if job["shots"] is None else f"{job['shots']:,}", f"{job['executions']:,}",
            f"{job['seconds']:.1f}", *[_usd(job["usd"])] * priced, _SAID[job["status"]],
        ]
        for job in jobs
    ]  # fmt: skip
    text = aligned(heads, lines)
    return "\n".join([*(line.rstrip() for line in text), "", *spent_text(jobs, spent)])


def spent_text(
    jobs: Sequence[Mapping[str, Any]], spent: Mapping[str, Mapping[str, float | None]]
) -> list[str]:
    """A sentence per backend, and what to do where jobs are under way or uncertain."""
    lines = []
    for name, sums in spent.items():
        budget, usd = sums["budget_seconds"], sums["usd"]
        number = int(sums["jobs"] or 0)
        text = f"{name}: {number:,} {'job' if number == 1 else 'jobs'}, {sums['seconds']:.1f} s"
        if budget is not None:
            whole = sums.get("device_seconds")
            shared = "" if whole is None else f", {whole:.1f} s by all entries of its device,"
            text += f"{shared} of a budget of {budget:g} s"
        text += "" if usd is None else f", {usd:,.2f} USD"
        lines += wrapped(f"{text}.")
    open_ones = [job for job in jobs if job["status"] in ("intent", "sent")]
    if open_ones:
        one = len(open_ones) == 1
        lines += wrapped(
            f"{len(open_ones)} {'job is' if one else 'jobs are'} not known to have ended: run the "
            f"study again, and {'it is' if one else 'they are'} found by id or by tag, not sent "
            "twice."
        )
    return lines


def _id(job_id: str | None) -> str:
    """Ids at a service are shown whole, to be looked up there."""
    if job_id is None:
        return "(no id yet)"
    return f"{job_id[:14]}…" if job_id.startswith("local-") else job_id


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%m-%d %H:%M:%S")


def _usd(usd: float | None) -> str:
    return "" if usd is None else f"{usd:,.2f}"
