# SPDX-License-Identifier: Apache-2.0
"""`Logbook`: what a task does on devices: into the study's journal, and summed up in its row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Engine
from qiskit_kd.experiment.places import DEVICE, open_backend

__all__ = ["Logbook"]

_USED = ("executions", "pubs", "jobs", "backward", "qpu_seconds")
"""Of `Usage`, what is the same whether a task ran at one go or was cut off and replayed."""


class Logbook:
    """Opens the backends of a task and keeps count of what was asked of devices.

    Args:
        journal: The study's journal, from the working directory; None leaves it to the entry.
    """

    def __init__(self, journal: str | Path | None = None) -> None:
        self._journal = None if journal is None else str(Path(journal).absolute())
        self._engines: list[tuple[Backend, Engine]] = []

    def __call__(self, entry: Mapping[str, Any], *, shots: int | None = None) -> Backend:
        """See `places.open_backend`."""
        backend = open_backend(entry, shots=shots)
        if backend.kind != DEVICE:
            return backend
        if self._journal is not None:
            backend = backend.changed(backend.name, {"journal": self._journal})
        return _Logged(backend, self._engines)

    def devices(self) -> list[dict[str, Any]]:
        """Every device that was used: what it is, how circuits lie on it, and what it was asked.

        Costs are those of the jobs, whether they ran now or in an earlier run that was cut off.
        """
        found: dict[str, dict[str, Any]] = {}
        for backend, engine in self._engines:
            if not engine.usage.jobs:
                continue
            facts, used = engine.describe(), engine.usage.as_dict()
            entry = found.setdefault(
                backend.name,
                {
                    "backend": backend.name, "device": facts["device"], "calibrated": None,
                    "circuits": [], "calibrations": [], "usage": dict.fromkeys(_USED, 0),
                },
            )  # fmt: skip
            entry["calibrations"] += [
                date for date in facts["calibrations"] if date not in entry["calibrations"]
            ]  # fmt: skip
            not_done = backend.options.without_effect()
            entry |= {"without_effect": not_done} if not_done else {}
            entry["circuits"] += [one for one in facts["circuits"] if one not in entry["circuits"]]
            for name in _USED:
                entry["usage"][name] += used[name]
        for entry in found.values():
            # Of the day the circuits were made, which a run that goes on tomorrow still uses.
            dates = [one["calibrated"] for one in entry["circuits"] if one["calibrated"]]
            entry["calibrated"] = min(dates, default=None)
            # Those that its jobs ran under, where that is not this one alone.
            if {*entry["calibrations"]} <= {entry["calibrated"]}:
                del entry["calibrations"]
        return list(found.values())


class _Logged(Backend):
    """A backend whose engines are remembered."""

    def __init__(self, backend: Backend, engines: list[tuple[Backend, Engine]]) -> None:
        super().__init__(backend.name, backend.options, backend.source)
        self._engines = engines

    def _say_what_is_not_done(self) -> None:
        """Said by the driver, and in the row."""

    def engine(
        self, *, gradient: str = "auto", shots: int | None = None, seed: int | None = None
    ) -> Engine:
        """See `Backend.engine`."""
        engine = super().engine(gradient=gradient, shots=shots, seed=seed)
        self._engines.append((self, engine))
        return engine
