# SPDX-License-Identifier: Apache-2.0
"""What a user is asked before an experiment spends, and which entry an error is about."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import AccountError, BudgetError, DeviceError, QuotaError
from qiskit_kd.experiment.spending import device_places, is_local

if TYPE_CHECKING:
    from qiskit_kd.experiment.config import ExperimentConfig

__all__ = ["allowing", "at_entry", "check_allowed", "unasked"]


_WHOSE = ("device", "account", "instance", "channel", "url", "proxies")
"""Options that say which device is charged, and whose account."""


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
        base: Any = load_backend(place.get("base", place["name"])).options
        own = getattr(base, "budget_seconds", None)
        moved = any(getattr(base, key, None) != getattr(backend.options, key) for key in _WHOSE)
        if own is None or asked > own or moved or not os.environ.get(ENVIRONMENT_VARIABLE):
            found[backend.name] = asked
    return found


def entry_place(file: Path | None, config: ExperimentConfig, text: str) -> str:
    """Where the entry that an error is about stands, as `file:line:col: backends.name`.

    Args:
        file: The experiment; None if it is not known any more.
        config: What it says.
        text: The error: of several devices, the one whose entry or device it names.
    """
    every = device_places(config)
    pairs = [(place, backend) for place, backend in every if not is_local(backend)] or every
    named = [
        (place, backend) for place, backend in every
        if repr(backend.name) in text or repr(getattr(backend.options, "device", None)) in text
    ]  # fmt: skip
    for place, backend in named or pairs:
        if "settings" not in place:
            return backend.place()
        return backend.place(file) if file else f"backends.{backend.name}"
    return ""


def check_allowed(config: ExperimentConfig) -> None:
    """Refuse an experiment that would spend by its own word; nobody is asked for anything.

    Raises:
        BudgetError: Naming the devices and the seconds.
    """
    from qiskit_kd.execution.runtime.consent import BUDGET

    if asked := unasked(config):
        most = max(asked.values())
        raise BudgetError(
            "what a study may spend is said by who runs it, not by its files alone",
            got=", ".join(f"{seconds:g} s on {name!r}" for name, seconds in asked.items())
            + " by their word",
            remedy=f"Allow it with `qkd run ... --budget {most:g}` or {BUDGET}={most:g}: seconds "
            "of each device at most. `qkd estimate` says how many are needed; nothing was sent.",
        )  # fmt: skip


@contextmanager
def allowing(
    config: ExperimentConfig, budget: float | None, ask: Callable[[str], bool] | None
) -> Iterator[None]:  # fmt: skip
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


@contextmanager
def at_entry(
    config: ExperimentConfig | None = None, experiment: str | None = None,
    backend: str | None = None,
) -> Iterator[None]:  # fmt: skip
    """Errors of a device tell the place of its entry: `file:line:col: backends.name: ...`.

    Args:
        config: The experiment.
        experiment: Its file, or the name of a shipped one.
        backend: The entry, where it is known.
    """
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
        if isinstance(error, BudgetError):  # it is about the user's word first
            raise BudgetError(f"{error} The entry: {where}" if where else str(error)) from error
        raise type(error)(f"{where}: {error}" if where else str(error)) from error
