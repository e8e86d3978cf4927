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

    several = len({item.student for item in found}) > 1

    def line(student: str, name: str, runs: str, cost: Cost, said: float | None) -> list[str]:
        """Names, numbers and, where there is an estimate, the seconds that it says."""
        beside = "" if said is None else seconds(said)
        return [
            *[student] * several, name, runs, *_numbers(cost), *[beside] * bool(expected),
            *_usd(cost) * priced,
        ]  # fmt: skip

    lines = [
        line(
            readable(item.student), look(item.variant).label, f"{item.runs:,}", item.cost,
            expected.get((item.student, item.variant), 0.0),
        )
        for item in found
    ]  # fmt: skip
    rest = _rest(whole, found)
    if rest is not None:
        label = "jobs of no run above" if rest.jobs > 0 else "jobs that runs share, paid once"
        lines.append(line("", label, "", rest, None))
    runs = sum(item.runs for item in found)
    lines.append(line("", "together", f"{runs:,}", whole, sum(expected.values())))
    heads = [*["student"] * several, "variant", "runs", "jobs", "PUBs", "executions"]
    heads += ["QPU seconds", *["expected, s"] * bool(expected), *["USD"] * priced]
    return {"heads": heads, "lines": lines, "words": 1 + several}


def _numbers(cost: Cost) -> list[str]:
    counts = [f"{n:,}".replace("-", "−") for n in (cost.jobs, cost.pubs, cost.executions)]
    return [*counts, seconds(cost.seconds)]


def _usd(cost: Cost) -> list[str]:
    return ["" if cost.usd is None else price(cost.usd)]


def _rest(whole: Cost, found: Sequence[Spending]) -> Cost | None:
    """What the journal has beyond the runs that are shown, less what several of them share.

    A run cut off and done again, or of a candidate that was not chosen, has jobs of its own; two
    runs that ask for the same have the same job.
    """
    known = total(item.cost for item in found)
    if whole.jobs == known.jobs:
        return None
    return whole + known * -1


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
    heads = ["job", "backend", "status", "sent, UTC", "PUBs", "executions", "estimate, s"]
    heads += ["QPU seconds"] + ["USD"] * priced
    lines = [
        [
            _short(str(job["job_id"])), readable(str(job["backend"])), str(job["status"]),
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
