# SPDX-License-Identifier: Apache-2.0
"""Where circuits of a study run: names of the backend file, and names of the study's own.

A task's spec holds the *entry* of a backend: everything results depend on, in plain data, and what
a worker needs to open it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from qiskit_kd.execution.backends import Backend
    from qiskit_kd.experiment.config import ExperimentConfig

__all__ = ["DEVICE", "JOURNAL", "Opened", "backend_entry", "entries_of", "open_backend", "place_of"]

DEVICE = "runtime"
"""Kind of the backends that are devices."""
JOURNAL = "jobs.db"
"""The journal of a study's jobs on devices, in its folder."""


class Opened(Protocol):
    """Opens backends, as `open_backend`, or others in their place."""

    def __call__(self, entry: Mapping[str, Any], *, shots: int | None = None) -> Backend:
        """The backend of an entry, with other shots if they are given."""


def backend_entry(config: ExperimentConfig, name: str) -> dict[str, Any]:
    """Name and settings of a backend: a changed entry in the backend file is another task.

    Raises:
        UnknownNameError: If neither the study nor the backend file knows it.
        ConfigError: If the study's own settings make no valid entry.
    """
    place = place_of(config, name)
    return {**_described(open_backend(place)), **place}


def place_of(config: ExperimentConfig, name: str) -> dict[str, Any]:
    """What `open_backend` needs: `name`; for one of the study's own also `base` and `settings`."""
    own = config.backends.get(name)
    return {"name": name, **({} if own is None else {"base": own.base, "settings": own.settings})}


def entries_of(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The entries of all backends that a task's circuits run on."""
    stage, asked = spec.get("fine_tune") or {}, spec.get("evaluation") or {}
    beside = (asked.get("side_by_side") or {}).get("backends", ())
    for entry in (spec.get("backend"), stage.get("backend"), asked.get("backend"), *beside):
        if entry:
            yield entry


def _described(backend: Backend) -> dict[str, Any]:
    settings = backend.describe()
    del settings["source"]  # where the file lies does not matter
    return settings


def open_backend(entry: Mapping[str, Any], *, shots: int | None = None) -> Backend:
    """The backend of an entry.

    Args:
        entry: `name`; for one of the study's own also `base` and `settings`.
        shots: Instead of the entry's own.

    Raises:
        UnknownNameError: If the backend file has no such name.
        ConfigError: If the settings make no valid entry.
    """
    from qiskit_kd.execution.backends import load_backend

    name, base = entry["name"], entry.get("base", entry["name"])
    backend = load_backend(base)
    if "settings" in entry:
        backend = backend.changed(name, entry["settings"])
    if shots is not None:
        backend = backend.changed(name, {"shots": shots})
    return backend
