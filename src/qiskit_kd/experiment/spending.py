# SPDX-License-Identifier: Apache-2.0
"""What a study is about to cost on devices, and what its jobs have cost so far."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import BudgetError, QiskitKDError
from qiskit_kd.experiment.places import DEVICE, JOURNAL, entries_of, open_backend, place_of
from qiskit_kd.experiment.store import canonical

if TYPE_CHECKING:
    from qiskit_kd.execution.backends import Backend
    from qiskit_kd.execution.runtime.records import Record
    from qiskit_kd.experiment.config import ExperimentConfig
    from qiskit_kd.experiment.estimate import Estimate
    from qiskit_kd.experiment.planner import Task

__all__ = [
    "Announce",
    "Outlook",
    "check_budgets",
    "device_places",
    "devices_of",
    "few_shots_of",
    "is_local",
    "jobs_of",
    "limits_of",
    "opened_at_home",
    "spent_of",
    "stopped",
]


@dataclass(frozen=True)
class Outlook:
    """What a study is about to do on devices, said before anything is sent.

    Args:
        estimate: The price of the whole study, what is done already included.
        spent: Seconds that its jobs have cost so far, by backend.
        local: Whether this machine plays all of the devices: nothing is charged.
        workers: Worker processes.
        warnings: What to think about first.
    """

    estimate: Estimate
    spent: Mapping[str, float]
    local: bool
    workers: int
    warnings: tuple[str, ...]

    @classmethod
    def of(
        cls, found: Estimate, devices: Sequence[Backend], spent: Mapping[str, float], workers: int
    ) -> Outlook:
        """The outlook of an estimate; says which budgets it exceeds."""
        warnings = [
            f"{site.whole:,.0f} s on {site.backend!r} are expected, more than its budget of "
            f"{site.budget_seconds:g} s: the run stops before crossing it"
            for site in found.sites
            if site.budget_seconds is not None and site.whole > site.budget_seconds
        ]
        return cls(found, spent, all(map(is_local, devices)), workers, tuple(warnings))


Announce = Callable[[Outlook], None]
"""Told what a study is about to cost; it may raise to stop it."""


def devices_of(config: ExperimentConfig) -> list[Backend]:
    """The devices that an experiment's circuits run on; none is contacted.

    One name may have several settings, at several points of the axes.
    """
    return [backend for _, backend in device_places(config)]


def device_places(config: ExperimentConfig) -> list[tuple[dict[str, Any], Backend]]:
    """The devices, each with what `open_backend` needs for it."""
    found: dict[str, tuple[dict[str, Any], Backend]] = {}
    for point in config.points():
        here = config.at(point)
        for name in _named(here):
            place = place_of(here, name)
            key = canonical(place)
            if key not in found:
                found[key] = place, open_backend(place)
    return [pair for pair in found.values() if pair[1].kind == DEVICE]


def _named(config: ExperimentConfig) -> list[str]:
    variants = [
        config.variants[name] for student in config.students for name in config.variants_of(student)
    ]
    asked = config.evaluation
    found = [variant.backend or config.backend for variant in variants]
    found += [stage.backend for v in variants if (stage := v.fine_tune) is not None]
    found += [asked.backend] if asked.backend else []
    found += asked.side_by_side.backends if asked.side_by_side else []
    return list(dict.fromkeys(found))


def check_budgets(devices: Sequence[Backend]) -> None:
    """Refuse devices without a budget; nobody is asked for anything.

    Raises:
        BudgetError: If one that is not local has none.
        ConfigError: If a budget is not positive.
    """
    from qiskit_kd.execution.runtime.consent import budget_of
    from qiskit_kd.execution.runtime.dispatch import check_budget

    for backend in devices:
        options: Any = backend.options
        check_budget(budget_of(options), local=options.local, backend=backend.name)


def is_local(backend: Backend) -> bool:
    """Whether a device is played by this machine."""
    options: Any = backend.options
    return bool(options.local)


def opened_at_home(entry: Mapping[str, Any], *, shots: int | None = None) -> Backend:
    """The backend of an entry, to be looked at.

    A device that is elsewhere is not contacted, and nothing is written into the entry's journal.
    """
    from qiskit_kd.experiment.dry_run import opened_dry

    backend = open_backend(entry, shots=shots)
    if backend.kind != DEVICE:
        return backend
    if not is_local(backend):
        return opened_dry(entry, shots=shots)
    return backend.changed(backend.name, {"journal": None})


def few_shots_of(tasks: Sequence[Task]) -> int | None:
    """The smallest number of shots from which readout errors are undone; None without any."""
    found = []
    for task in tasks:
        own = task.spec.get("options", {}).get("shots")
        for entry in entries_of(task.spec):
            shots = own or entry.get("shots")
            if entry.get("mitigation", "none") != "none" and shots is not None:
                found.append(int(shots))
    return min(found, default=None)


# What was spent


def jobs_of(
    folder: str | Path, prices: Mapping[str, float | None] | None = None
) -> list[dict[str, Any]]:
    """The jobs of a study's journal in the order in which they were first intended.

    Args:
        folder: The folder of the study, or a journal.
        prices: USD for a second, by backend; where it is not known, what the journal says.

    Returns:
        For each job its `backend`, `device`, `job_id` (None until it is known), `status` (`intent`:
        written down, perhaps sent; `sent`; `done`; `failed`), `shots`, `executions`, `pubs`; the
        `seconds` of the device that it has cost, its `usd`, and the `estimate` in seconds; when it
        was `created`, `sent` and `finished`, in seconds since 1970; `error`.

    Raises:
        StorageError: If the journal is damaged.
    """
    prices = prices or {}
    return [_plain(record, prices.get(record.backend)) for record in _records(Path(folder))]


def _plain(job: Record, price: float | None) -> dict[str, Any]:
    return {
        "backend": job.backend, "device": job.device, "job_id": job.job_id, "status": job.state,
        "shots": job.shots, "executions": job.executions, "pubs": job.pubs,
        "seconds": job.seconds, "usd": job.usd if price is None else price * job.seconds,
        "created": job.created, "sent": job.sent, "finished": job.finished,
        "estimate": job.estimate, "error": job.error,
    }  # fmt: skip


def _records(folder: Path) -> list[Record]:
    from qiskit_kd.execution.runtime.journal import Journal

    path = folder if folder.is_file() else folder / JOURNAL
    if not path.is_file() or not path.stat().st_size:
        return []
    with _writable(path) as file:
        journal = Journal(file)
        try:
            return journal.jobs()
        finally:
            journal.close()


@contextmanager
def _writable(path: Path) -> Iterator[Path]:
    """The file, or a copy where it may only be read: even to read, SQLite writes beside it."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        yield path
        return
    with tempfile.TemporaryDirectory() as place:
        for file in path.parent.glob(f"{path.name}*"):
            if file.is_file():
                shutil.copyfile(file, Path(place) / file.name)
        yield Path(place) / path.name


def spent_of(
    jobs: Sequence[Mapping[str, Any]], budgets: Mapping[str, float | None] | None = None
) -> dict[str, dict[str, float | None]]:
    """What jobs have cost, by backend: `jobs`, `executions`, `seconds`, `usd`, `budget_seconds`.

    A budget is that of the device: where other entries have used it, too, `device_seconds` is what
    all of them have cost together.

    Args:
        jobs: As `jobs_of` returns them.
        budgets: Seconds that are allowed, by backend.
    """
    found: dict[str, dict[str, float | None]] = {}
    for backend in dict.fromkeys(str(job["backend"]) for job in jobs):
        mine = [job for job in jobs if job["backend"] == backend]
        paid = [job["usd"] for job in mine if job["seconds"]]
        devices = {job.get("device") for job in mine}
        found[backend] = {
            "jobs": len(mine),
            "executions": sum(job["executions"] for job in mine if job["status"] == "done"),
            "seconds": math.fsum(job["seconds"] for job in mine),
            "usd": None if None in paid or not paid else math.fsum(paid),
            "budget_seconds": (budgets or {}).get(backend),
        }
        others = [
            j for j in jobs if j["backend"] != backend and j.get("device") in devices - {None}
        ]
        if others:
            whole = math.fsum(job["seconds"] for job in [*mine, *others])
            found[backend]["device_seconds"] = whole
    return found


def limits_of(devices: Sequence[Backend], name: str) -> dict[str, float | None]:
    """A number of the devices' entries, such as `budget_seconds`, by backend."""
    return {backend.name: getattr(backend.options, name) for backend in devices}


def stopped(
    error: QiskitKDError, *, folder: Path, missing: int, total: int,
    spent: Mapping[str, Mapping[str, float | None]],
) -> QiskitKDError:  # fmt: skip
    """The error that ended a study, with how things stand and what to do.

    Args:
        error: What a task ended with.
        folder: Where finished rows are.
        missing: Tasks without a row.
        total: Tasks of the plan.
        spent: See `spent_of`.
    """
    lines = [str(error), f"{missing} of {total} tasks have no row yet; the others are in {folder}."]
    for name, sums in spent.items():
        budget, whole = sums["budget_seconds"], sums.get("device_seconds")
        of = "" if budget is None else f" of its budget of {budget:g} s"
        shared = "" if whole is None else f", {whole:.1f} s by all entries of its device,"
        lines.append(f"{name}: {sums['seconds']:.1f} s{shared}{of} spent in {sums['jobs']} jobs.")
    larger = isinstance(error, BudgetError)
    lines.append(
        f"Run the same command again {'with a larger budget_seconds' if larger else 'after that'}: "
        "it goes on from there, and no job is paid for twice."
    )
    return type(error)("\n  ".join(lines))
