# SPDX-License-Identifier: Apache-2.0
"""What devices were asked, as tables: cost per variant against the estimate, and every job.

Of a job only what is named here is shown: nothing of the account it was sent from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from qiskit_kd.execution.runtime.cost import Cost, total
from qiskit_kd.report.hardware_words import price, seconds
from qiskit_kd.report.palette import look, readable
from qiskit_kd.report.summary import Result
from qiskit_kd.report.usage import Spending, sent_jobs, spendings, total_of

__all__ = ["COLUMNS", "against_estimate", "job_lines", "job_table", "usage_table"]

COLUMNS = (
    "backend", "device", "job_id", "status", "shots", "executions", "pubs", "estimate", "seconds",
    "usd", "created", "sent", "finished",
)  # fmt: skip
"""What `jobs.csv` says of a job."""
_TIMES = {"created", "sent", "finished"}
_SECONDS = 6  # column of the seconds
_LONG = 13  # characters of an id that the page shows whole


def usage_table(result: Result) -> dict[str, Any] | None:
    """Per student and variant, and together; None where no device was used.

    Returns:
        `heads`, `lines` of texts (the last one is the sum) and `words`, how many columns of each
        are words.
    """
    found = spendings(result)
    if not found:
        return None
    whole = total_of(result)
    priced, expected = bool(whole.usd), _expected(result)
    lines = []
    for item in found:
        name = [readable(item.student), look(item.variant).label, f"{item.runs:,}"]
        lines.append([*name, *_numbers(item.cost, priced)])
        if expected:
            lines[-1].insert(_SECONDS + 1, seconds(expected.get((item.student, item.variant), 0.0)))
    rest = _rest(whole, found)
    if rest is not None:
        lines.append(["jobs of no run above", "", "", *_numbers(rest, priced)])
        lines[-1][_SECONDS + 1 : _SECONDS + 1] = [""] * bool(expected)
    runs = sum(item.runs for item in found)
    lines.append(["together", "", f"{runs:,}", *_numbers(whole, priced)])
    if expected:
        lines[-1].insert(_SECONDS + 1, seconds(sum(expected.values())))
    heads = ["student", "variant", "runs", "jobs", "PUBs", "executions", "QPU seconds"]
    heads += ["expected, s"] * bool(expected) + ["USD"] * priced
    return {"heads": heads, "lines": lines, "words": 2}


def _numbers(cost: Cost, priced: bool) -> list[str]:
    usd = [] if not priced else ["" if cost.usd is None else price(cost.usd)]
    return [f"{cost.jobs:,}", f"{cost.pubs:,}", f"{cost.executions:,}", seconds(cost.seconds), *usd]


def _rest(whole: Cost, found: Sequence[Spending]) -> Cost | None:
    """Jobs of the journal that no shown run asked for; None without."""
    known = total(item.cost for item in found)
    if whole.jobs <= known.jobs:
        return None
    usd = None if whole.usd is None or known.usd is None else whole.usd - known.usd
    return Cost(
        max(0, whole.executions - known.executions), whole.jobs - known.jobs,
        max(0, whole.pubs - known.pubs), max(0.0, whole.seconds - known.seconds), usd,
    )  # fmt: skip


def _expected(result: Result) -> dict[tuple[str, str], float]:
    """Seconds that the estimate before the run gave all runs of a student and variant."""
    found: dict[tuple[str, str], float] = {}
    for kind in (result.estimate or {}).get("kinds", ()):
        key = str(kind["student"]), str(kind["variant"])
        found[key] = found.get(key, 0.0) + float(kind["seconds"])
    return found


def against_estimate(result: Result) -> str:
    """How far what was counted is from what was expected; empty where nothing was."""
    counted = total_of(result).seconds
    if result.estimate is None or not counted:
        return ""
    expected = float(result.estimate["total"]["seconds"])
    most = "at most " if result.estimate["may_end_early"] else ""
    text = f"Expected before the run: {most}{seconds(expected)} s for the whole study"
    change = f"{100 * abs(counted / expected - 1):.1f} %"
    if change == "0.0 %":
        return f"{text}, as counted."
    return f"{text}; counted is {change} {'more' if counted > expected else 'less'}."


def job_table(result: Result) -> dict[str, Any] | None:
    """Every job with its id cut short, in the order in which they were made; None without jobs."""
    jobs = sent_jobs(result)
    if not jobs:
        return None
    priced = any(job["usd"] for job in jobs)
    heads = ["job", "device", "status", "sent, UTC", "PUBs", "executions", "estimate, s"]
    heads += ["QPU seconds"] + ["USD"] * priced
    lines = [
        [
            _short(str(job["job_id"])), readable(str(job["device"])), str(job["status"]),
            _time(job["sent"]).replace("T", " ").removesuffix("Z"), f"{job['pubs']:,}",
            f"{job['executions']:,}", seconds(job["estimate"]),
            "" if job["seconds"] is None else f"{job['seconds']:.2f}",
            *(["" if job["usd"] is None else price(job["usd"])] if priced else []),
        ]
        for job in jobs
    ]  # fmt: skip
    return {"heads": heads, "lines": lines, "words": 4}


def job_lines(result: Result) -> list[list[Any]]:
    """The lines of `jobs.csv`: ids whole, times in UTC."""
    return [[_cell(job, name) for name in COLUMNS] for job in sent_jobs(result)]


def _cell(job: Mapping[str, Any], name: str) -> Any:
    return _time(job[name]) if name in _TIMES else job[name]


def _short(job_id: str) -> str:
    return job_id if len(job_id) <= _LONG else f"{job_id[: _LONG - 1]}…"


def _time(when: float | None) -> str:
    """`2026-11-24T15:33:10Z`; empty for what has not happened."""
    if when is None:
        return ""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
