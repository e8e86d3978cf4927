# SPDX-License-Identifier: Apache-2.0
"""What an experiment will cost as plain text, at most 100 columns, to be read before it is run."""

from __future__ import annotations

from collections.abc import Iterable

from qiskit_kd.execution.runtime.cost import FREE_SECONDS, STOCK_SHOTS, Cost
from qiskit_kd.execution.runtime.dispatch import PER_MINUTE
from qiskit_kd.experiment.cost import Choice, Estimate, Site
from qiskit_kd.report.palette import listed
from qiskit_kd.report.terminal import aligned, wrapped

__all__ = ["price_text"]

_FEW_KINDS = 12
_RULES = {"spsa": "SPSA", "shift": "parameter shift"}


def price_text(found: Estimate, *, brief: bool = False) -> str:
    """The price, where it comes from task by task, and what other ways would cost.

    Args:
        found: What `experiment.estimate.estimate` has found.
        brief: Leave out other ways, and the tasks where they are many kinds.
    """
    lines = wrapped(_headline(found))
    for site in found.sites:
        lines += ["", *wrapped(_site(site))]
    if found.minutes > 1:
        lines += ["", *wrapped(
            f"Jobs are sent {PER_MINUTE} in a minute at most: on a real device this takes at least "
            f"{round(found.minutes):,} minute{'s' * (round(found.minutes) > 1)}, before any queue."
        )]  # fmt: skip
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
        f"{_usd(cost.usd)} USD" if cost.usd is not None
        else "a price needs usd_per_second in the backend's entry"
    )  # fmt: skip
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
    return _table(heads, rows)


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
    return _table(["this experiment with", *_heads(found), "seconds"], rows)


def _name(choice: Choice, sites: Iterable[Site]) -> str:
    if not choice.tiled:
        return f"{_RULES[choice.gradient]}, no tiling"
    numbers = {site.fitting if site.tiles == 1 else site.tiles for site in sites}
    return f"{_RULES[choice.gradient]}, {' or '.join(map(str, sorted(numbers)))} tiles"


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Numbers to the right in the last column too."""
    return aligned([*heads, ""], [[*row, ""] for row in rows])


def _heads(found: Estimate) -> list[str]:
    return ["executions", "jobs", "QPU s", *["USD"] * (found.cost.usd is not None)]


def _numbers(cost: Cost) -> list[str]:
    price = [] if cost.usd is None else [_usd(cost.usd)]
    return [f"{cost.executions:,}", f"{cost.jobs:,}", _seconds(cost.seconds), *price]


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.1f}"


def _usd(usd: float) -> str:
    return f"{usd:,.0f}" if usd >= 1000 else f"{usd:,.2f}"
