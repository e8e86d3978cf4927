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
    parts = [wrapped(_headline(found)), *(wrapped(_site(site)) for site in found.sites)]
    if (minutes := found.minutes) > 1:
        said = (
            f"Jobs are sent {PER_MINUTE} in a minute at most: on a real device this takes at least "
            f"{round(minutes):,} minute{'s' * (round(minutes) > 1)}, before any queue."
        )
        parts.append(wrapped(said))
    if not brief or len(found.kinds) <= _FEW_KINDS:
        parts.append(_kinds(found))
    if not brief:
        parts.append(_choices(found))
    return "\n\n".join("\n".join(map(str.rstrip, part)) for part in parts)


def _headline(found: Estimate) -> str:
    cost, share = found.cost, found.cost.seconds / FREE_SECONDS
    of = f"{share:.0%} of" if share <= 1 else f"{share:.1f} times"
    price = "a price needs usd_per_second in the backend's entry"
    if cost.usd is not None:
        price = f"{_usd(cost.usd)} USD"
    return (
        f"{found.name}: {'at most ' * found.may_end_early}{_seconds(cost.seconds)} s of quantum "
        f"processor time, {of} the {FREE_SECONDS:g} s that IBM's free plan has in 28 days; "
        f"{_jobs(cost.jobs)}, {cost.executions:,} executions; {price}."
    )


def _jobs(number: int) -> str:
    return f"{number:,} job{'s' * (number != 1)}"


def _site(site: Site) -> str:
    rule = _RULES[site.gradient]
    if site.gradient == "spsa":
        rule += f" with {site.perturbations} perturbations"
    copies = "1 copy" if site.tiles == 1 else f"{site.tiles} copies"
    date = f"calibrated {site.calibrated[:10]}" if site.calibrated else "calibration unknown"
    budget = ""
    if site.budget_seconds is not None:
        enough = "within" if site.whole <= site.budget_seconds else "MORE THAN"
        where = "of all entries of the device" if site.whole > site.cost.seconds else "there"
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
    rows = [
        [kind.student, kind.variant, *[kind.where] * places, f"{kind.tasks}", *_numbers(kind.cost)]
        for kind in found.kinds
    ]
    tasks = sum(kind.tasks for kind in found.kinds)
    rows.append(["together", "", *[""] * places, f"{tasks}", *_numbers(found.cost)])
    return aligned(["student", "variant", *["at"] * places, "tasks", *_heads(found)], rows)


def _choices(found: Estimate) -> list[str]:
    named = [
        ("as it stands", found.cost),
        *((_name(choice, found.sites), choice.cost) for choice in found.choices),
        ("stock SamplerQNN, parameter shift", found.stock),
        (f"the same with its {STOCK_SHOTS:,} shots", found.stock_default),
    ]
    rows = []
    for name, cost in named:
        times = cost.seconds / found.cost.seconds
        rows.append(
            [name, *_numbers(cost), f"{times:,.0f} x" if times >= 999.5 else f"{times:.3g} x"]
        )
    return aligned(["this experiment with", *_heads(found), "seconds"], rows)


def _name(choice: Choice, sites: Iterable[Site]) -> str:
    numbers = {site.fitting if site.tiles == 1 else site.tiles for site in sites}
    tiles = " or ".join(map(str, sorted(numbers))) if choice.tiled else "no"
    return f"{_RULES[choice.gradient]}, {tiles} {'tiles' if choice.tiled else 'tiling'}"


def _heads(found: Estimate) -> list[str]:
    return ["executions", "jobs", "QPU s", *["USD"] * (found.cost.usd is not None)]


def _numbers(cost: Cost) -> list[str]:
    price = [] if cost.usd is None else [_usd(cost.usd)]
    return [f"{cost.executions:,}", f"{cost.jobs:,}", _seconds(cost.seconds), *price]


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.1f}"


def _usd(usd: float) -> str:
    return f"{usd:,.0f}" if usd >= 1000 else f"{usd:,.2f}"


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
    # Ids at a service are shown whole, to be looked up there.
    ids = (str(job["job_id"] or "(no id yet)") for job in jobs)
    heads = ["job", "backend", "created", "shots", "executions", "s", *["USD"] * priced, "status"]
    lines = [
        [
            f"{name[:14]}…" if name.startswith("local-") else name,
            str(job["backend"]),
            datetime.fromtimestamp(job["created"]).astimezone().strftime("%m-%d %H:%M:%S"),
            "" if job["shots"] is None else f"{job['shots']:,}",
            f"{job['executions']:,}",
            f"{job['seconds']:.1f}",
            *["" if job["usd"] is None else f"{job['usd']:,.2f}"] * priced,
            "perhaps sent" if job["status"] == "intent" else job["status"],
        ]
        for name, job in zip(ids, jobs, strict=True)
    ]
    return "\n".join([*aligned(heads, lines), "", *spent_text(jobs, spent)])


def spent_text(
    jobs: Sequence[Mapping[str, Any]], spent: Mapping[str, Mapping[str, float | None]]
) -> list[str]:
    """A sentence per backend, and what to do where jobs are under way or uncertain."""
    lines = []
    for name, sums in spent.items():
        budget, usd, whole = sums["budget_seconds"], sums["usd"], sums.get("device_seconds")
        text = f"{name}: {_jobs(int(sums['jobs'] or 0))}, {sums['seconds']:.1f} s"
        if budget is not None:
            shared = "" if whole is None else f", {whole:.1f} s by all entries of its device,"
            text += f"{shared} of a budget of {budget:g} s"
        text += "" if usd is None else f", {usd:,.2f} USD"
        lines += wrapped(f"{text}.")
    if count := sum(job["status"] in ("intent", "sent") for job in jobs):
        are, they = ("is", "it is") if count == 1 else ("are", "they are")
        lines += wrapped(
            f"{_jobs(count)} {are} not known to have ended: run the study again, and {they} found "
            "by id or by tag, not sent twice."
        )
    return lines
