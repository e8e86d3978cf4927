# SPDX-License-Identifier: Apache-2.0
"""Money as plain text of at most 100 columns: what an experiment will cost, and what jobs have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from qiskit_kd.execution.runtime.cost import FREE_SECONDS, PER_MINUTE, STOCK_SHOTS, Cost
from qiskit_kd.experiment.cost import Choice, Estimate, Site
from qiskit_kd.report.style import listed
from qiskit_kd.report.text import aligned, wrapped

_FEW_KINDS = 12
_RULES = {"spsa": "SPSA", "shift": "parameter shift"}


def price_text(found: Estimate, *, brief: bool = False) -> str:
    """The price, where it comes from task by task, and what other ways would cost.

    Args:
        found: What `experiment.cost.estimate` has found.
        brief: Leave out other ways, and the tasks where they are many kinds.
    """
    lines = wrapped(_headline(found))
    for site in found.sites:
        lines += ["", *wrapped(_site(site))]
    if found.minutes > 1:
        lines += [
            "",
            *wrapped(
                f"Jobs are sent {PER_MINUTE} in a minute at most: on a real device this takes at "
                f"least {round(found.minutes):,} minute{'s' * (round(found.minutes) > 1)}, before "
                "any queue."
            ),
        ]
    if not brief or len(found.kinds) <= _FEW_KINDS:
        lines += ["", *_kinds(found)]
    if not brief:
        lines += ["", *_choices(found)]
    return "\n".join(line.rstrip() for line in lines)


def _headline(found: Estimate) -> str:
    cost = found.cost
    most = "at most " if found.may_end_early else ""
    share = cost.seconds / FREE_SECONDS
    free = (
        f"{share:.0%} of the {FREE_SECONDS:g} s that IBM's free plan has in 28 days"
        if share <= 1
        else f"{share:.1f} times the {FREE_SECONDS:g} s that IBM's free plan has in 28 days"
    )
    price = (
        f"{_usd(cost.usd)} USD"
        if cost.usd is not None
        else "a price needs usd_per_second in the backend's entry"
    )
    return (
        f"{found.name}: {most}{_seconds(cost.seconds)} s of quantum processor time, {free}; "
        f"{cost.jobs:,} {'job' if cost.jobs == 1 else 'jobs'}, {cost.executions:,} executions; "
        f"{price}."
    )


def _site(site: Site) -> str:
    rule = _RULES[site.gradient]
    if site.gradient == "spsa":
        rule += f" with {site.perturbations} perturbations"
    copies = "1 copy" if site.tiles == 1 else f"{site.tiles} copies"
    date = "calibration unknown"
    if site.calibrated is not None:
        date = f"calibrated {site.calibrated[:10]}"
    budget = ""
    if site.budget_seconds is not None:
        enough = "within" if site.whole <= site.budget_seconds else "MORE THAN"
        shared = site.whole > site.cost.seconds
        where = "of all entries of the device" if shared else "there"
        budget = (
            f" {_seconds(site.whole)} s {where} is {enough} its budget of "
            f"{site.budget_seconds:g} s."
        )
    shots = listed(f"{number:,}" for number in site.numbers or (site.shots,))
    return (
        f"on {site.backend} ({site.device}, {date}): {shots} shots; {rule}; {copies} of the "
        f"circuit at a time, {site.fitting} would fit; {1e6 * site.rep_delay:.4g} us of delay and "
        f"a circuit of {1e6 * site.duration:.2g} us for each execution.{budget}"
    )


def _kinds(found: Estimate) -> list[str]:
    places = any(kind.where for kind in found.kinds)
    heads = ["student", "variant", *["at"] * places, "tasks", *_heads(found)]
    rows = [
        [kind.student, kind.variant, *[kind.where] * places, f"{kind.tasks}", *_numbers(kind.cost)]
        for kind in found.kinds
    ]
    tasks = sum(kind.tasks for kind in found.kinds)
    rows.append(["together", "", *[""] * places, f"{tasks}", *_numbers(found.cost)])
    return aligned(heads, rows)


def _choices(found: Estimate) -> list[str]:
    whole = found.cost

    def line(name: str, cost: Cost) -> list[str]:
        times = cost.seconds / whole.seconds
        return [name, *_numbers(cost), f"{times:.3g} x" if times < 999.5 else f"{times:,.0f} x"]

    rows = [line("as it stands", whole)]
    rows += [line(_name(choice, found.sites), choice.cost) for choice in found.choices]
    rows += [
        line("stock SamplerQNN, parameter shift", found.stock),
        line(f"the same with its {STOCK_SHOTS:,} shots", found.stock_default),
    ]
    return aligned(["this experiment with", *_heads(found), "seconds"], rows)


def _name(choice: Choice, sites: Iterable[Site]) -> str:
    if not choice.tiled:
        return f"{_RULES[choice.gradient]}, no tiling"
    numbers = {site.fitting if site.tiles == 1 else site.tiles for site in sites}
    return f"{_RULES[choice.gradient]}, {' or '.join(map(str, sorted(numbers)))} tiles"


def _heads(found: Estimate) -> list[str]:
    return ["executions", "jobs", "QPU s", *["USD"] * (found.cost.usd is not None)]


def _numbers(cost: Cost) -> list[str]:
    price = [] if cost.usd is None else [_usd(cost.usd)]
    return [f"{cost.executions:,}", f"{cost.jobs:,}", _seconds(cost.seconds), *price]


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.1f}"


def _usd(usd: float) -> str:
    return f"{usd:,.0f}" if usd >= 1000 else f"{usd:,.2f}"


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
            _id(job["job_id"]),
            str(job["backend"]),
            _time(job["created"]),
            "" if job["shots"] is None else f"{job['shots']:,}",
            f"{job['executions']:,}",
            f"{job['seconds']:.1f}",
            *[_dollars(job["usd"])] * priced,
            _SAID[job["status"]],
        ]
        for job in jobs
    ]
    return "\n".join([*aligned(heads, lines), "", *spent_text(jobs, spent)])


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


def _dollars(usd: float | None) -> str:
    return "" if usd is None else f"{usd:,.2f}"
