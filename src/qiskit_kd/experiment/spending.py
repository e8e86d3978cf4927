# SPDX-License-Identifier: Apache-2.0
"""Money: what a study may spend, is about to spend, and has spent so far on devices."""

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

from qiskit_kd.errors import AccountError, BudgetError, DeviceError, QiskitKDError, QuotaError
from qiskit_kd.experiment.devices import DEVICE, JOURNAL, UsageLog, entries_of, open_backend
from qiskit_kd.experiment.store import canonical

if TYPE_CHECKING:
    from qiskit_kd.execution.backends import Backend
    from qiskit_kd.experiment.config import ExperimentConfig
    from qiskit_kd.experiment.cost import Estimate
    from qiskit_kd.experiment.plan import Task


@dataclass(frozen=True)
class Outlook:
    """What a study is about to do on devices, said before anything is sent."""

    estimate: Estimate
    """The price of the whole study, what is done already included."""
    spent: Mapping[str, float]
    """Seconds that its jobs have cost so far, by backend."""
    local: bool
    """Whether this machine plays all of the devices: nothing is charged."""
    workers: int
    warnings: tuple[str, ...]
    """What to think about first: budgets that will not do."""

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
    for here in config.resolved_points:
        for name in here.used_by(*here.config.students):
            place = here.place(name)
            found.setdefault(canonical(place), (place, here.backend(name)))
    return [pair for pair in found.values() if pair[1].kind == DEVICE]


def is_local(backend: Backend) -> bool:
    """Whether a device is played by this machine."""
    return bool(backend.options.local)


def opened_at_home(entry: Mapping[str, Any], *, shots: int | None = None) -> Backend:
    """The backend of an entry, to be looked at.

    A device that is elsewhere is not contacted, and nothing is written into the entry's journal.
    """
    backend = open_backend(entry, shots=shots)
    if backend.kind != DEVICE:
        return backend
    if not is_local(backend):
        return UsageLog(dry=True)(entry, shots=shots)
    return backend.changed(backend.name, {"journal": None})


def few_shots_of(tasks: Sequence[Task]) -> int | None:
    """The smallest number of shots from which readout errors are undone; None without any."""
    found = [
        task.spec.get("options", {}).get("shots") or entry.get("shots")
        for task in tasks
        for entry in entries_of(task.spec)
        if entry.get("mitigation", "none") != "none"
    ]
    return min((int(shots) for shots in found if shots is not None), default=None)


# What may be spent

_WHOSE = ("device", "account", "instance", "channel", "url", "proxies")
"""Options that say which device is charged, and whose account."""


def check_budgets(devices: Sequence[Backend]) -> None:
    """Refuse devices without a budget; nobody is asked for anything.

    Raises:
        BudgetError: If one that is not local has none.
        ConfigError: If a budget is not positive.
    """
    from qiskit_kd.execution.runtime.consent import budget_of, check_budget

    for backend in devices:
        check_budget(budget_of(backend.options), local=backend.options.local, backend=backend.name)


def unasked(config: ExperimentConfig) -> dict[str, float]:
    """Devices that an experiment would spend on by its own word, and the seconds it names.

    A budget counts as its user's if it is in `QKD_BUDGET_SECONDS`, or in the entry of a backend
    file that `QISKIT_KD_BACKENDS` names: both are said outside of the files that come along with
    an experiment. What is written in those can only lower it, for the device and account that the
    entry names.
    """
    from qiskit_kd.execution.backends import ENVIRONMENT_VARIABLE, load_backend
    from qiskit_kd.execution.runtime.consent import allowed_seconds

    if allowed_seconds() is not None:
        return {}
    found = {}
    for place, backend in device_places(config):
        asked = getattr(backend.options, "budget_seconds", None)
        if is_local(backend) or asked is None:
            continue
        base = load_backend(place.get("base", place["name"])).options
        own = getattr(base, "budget_seconds", None)
        moved = any(getattr(base, key, None) != getattr(backend.options, key) for key in _WHOSE)
        if own is None or asked > own or moved or not os.environ.get(ENVIRONMENT_VARIABLE):
            found[backend.name] = asked
    return found


def check_allowed(config: ExperimentConfig) -> None:
    """Refuse an experiment that would spend by its own word; nobody is asked for anything.

    Raises:
        BudgetError: Naming the devices and the seconds.
    """
    from qiskit_kd.execution.runtime.consent import BUDGET

    if asked := unasked(config):
        most = max(asked.values())
        words = ", ".join(f"{seconds:g} s on {name!r}" for name, seconds in asked.items())
        raise BudgetError(
            "what a study may spend is said by who runs it, not by its files alone",
            got=f"{words} by their word",
            remedy=f"Allow it with `qkd run ... --budget {most:g}` or {BUDGET}={most:g}: seconds "
            "of each device at most. `qkd estimate` says how many are needed; nothing was sent.",
        )


@contextmanager
def allowing(
    config: ExperimentConfig, budget: float | None, ask: Callable[[str], bool] | None
) -> Iterator[None]:
    """Inside, the user's budget is that of this process and of workers that it starts.

    Args:
        config: The experiment.
        budget: Seconds of each device, as the command line names them.
        ask: Puts a question to the user, where only the experiment's files name a budget; None
            where nobody is there to answer.

    Raises:
        ConfigError: If the budget is no positive number.
    """
    from qiskit_kd.execution.runtime.consent import BUDGET, allowed_seconds

    if budget is None and ask is not None and (asked := unasked(config)):
        words = ", ".join(f"up to {seconds:g} s on {name!r}" for name, seconds in asked.items())
        if ask(f"qkd: its files allow {words}. Do you?"):
            budget = max(asked.values())
    before = os.environ.get(BUDGET)
    try:
        if budget is not None:
            os.environ[BUDGET] = f"{budget!r}"
            allowed_seconds()
        yield
    finally:
        os.environ.pop(BUDGET, None)
        if before is not None:
            os.environ[BUDGET] = before


def entry_place(file: Path | None, config: ExperimentConfig, text: str) -> str:
    """Where the entry that an error is about stands, as `file:line:col: backends.name`.

    Args:
        file: The experiment; None if it is not known any more.
        config: What it says.
        text: The error: of several devices, the one whose entry or device it names.
    """
    every = device_places(config)
    named = [
        (place, backend)
        for place, backend in every
        if repr(backend.name) in text or repr(getattr(backend.options, "device", None)) in text
    ]
    away = [pair for pair in every if not is_local(pair[1])]
    for place, backend in named or away or every:
        if "settings" not in place:
            return backend.place()
        return backend.place(file) if file else f"backends.{backend.name}"
    return ""


@contextmanager
def at_entry(
    config: ExperimentConfig | None = None,
    experiment: str | None = None,
    backend: str | None = None,
) -> Iterator[None]:
    """Errors of a device tell the place of its entry: `file:line:col: backends.name: ...`."""
    from qiskit_kd.execution.backends import load_backend
    from qiskit_kd.experiment.loading import find_experiment

    try:
        yield
    except (AccountError, BudgetError, DeviceError, QuotaError) as error:
        where = ""
        if backend is not None:
            where = load_backend(backend).place()
        elif config is not None and experiment is not None:
            where = entry_place(find_experiment(experiment), config, str(error))
        if not where:
            raise type(error)(str(error)) from error
        if isinstance(error, BudgetError):  # it is about the user's word first
            raise BudgetError(f"{error} The entry: {where}") from error
        raise type(error)(f"{where}: {error}") from error


# What was spent

_SHOWN = (
    *("backend", "device", "job_id", "state", "shots", "executions", "pubs", "seconds", "usd"),
    *("created", "sent", "finished", "estimate", "error"),
)


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
    from qiskit_kd.execution.runtime.journal import Journal

    path = Path(folder) if Path(folder).is_file() else Path(folder) / JOURNAL
    if not path.is_file() or not path.stat().st_size:
        return []
    with _writable(path) as file, Journal(file) as journal:
        records = journal.jobs()
    found = []
    for record in records:
        price = (prices or {}).get(record.backend)
        job = {"status" if n == "state" else n: getattr(record, n) for n in _SHOWN}
        found.append(job if price is None else {**job, "usd": price * record.seconds})
    return found


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
        found[backend] = {
            "jobs": len(mine),
            "executions": sum(job["executions"] for job in mine if job["status"] == "done"),
            "seconds": math.fsum(job["seconds"] for job in mine),
            "usd": None if None in paid or not paid else math.fsum(paid),
            "budget_seconds": (budgets or {}).get(backend),
        }
        devices = {job.get("device") for job in mine} - {None}
        others = [j for j in jobs if j["backend"] != backend and j.get("device") in devices]
        if others:
            whole = math.fsum(job["seconds"] for job in [*mine, *others])
            found[backend]["device_seconds"] = whole
    return found


def limits_of(devices: Sequence[Backend], name: str) -> dict[str, float | None]:
    """A number of the devices' entries, such as `budget_seconds`, by backend."""
    return {backend.name: getattr(backend.options, name) for backend in devices}


def stopped(
    error: QiskitKDError,
    *,
    folder: Path,
    missing: int,
    total: int,
    spent: Mapping[str, Mapping[str, float | None]],
) -> QiskitKDError:
    """The error that ended a study, with how things stand and what to do."""
    lines = [str(error), f"{missing} of {total} tasks have no row yet; the others are in {folder}."]
    for name, sums in spent.items():
        budget, whole = sums["budget_seconds"], sums.get("device_seconds")
        of = "" if budget is None else f" of its budget of {budget:g} s"
        shared = "" if whole is None else f", {whole:.1f} s by all entries of its device,"
        lines.append(f"{name}: {sums['seconds']:.1f} s{shared}{of} spent in {sums['jobs']} jobs.")
    how = "with a larger budget_seconds" if isinstance(error, BudgetError) else "after that"
    how = f"Run the same command again {how}: it goes on from there, and no job is paid for twice."
    return type(error)("\n  ".join([*lines, how]))
