# SPDX-License-Identifier: Apache-2.0
"""Where circuits of a study run, and one log of what their engines are asked.

A task's spec holds the *entry* of a backend: everything results depend on, in plain data, and what
a worker needs to open it. A `UsageLog` opens entries and keeps the engines that are made there. A
real run reads from it what devices did and charged; a dry run, with engines that answer nothing,
what a run would ask for: its price, its preflight. The loop, its batches and its evaluation are the
real ones, so there is no second description of training that may fall behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.execution.backends import Backend, load_backend
from qiskit_kd.execution.engine import Array, Engine, Needs, Pullback, Usage
from qiskit_kd.execution.runtime.cost import Call
from qiskit_kd.experiment.store import canonical

if TYPE_CHECKING:
    from qiskit_kd.circuits.model import CircuitModel

DEVICE = "runtime"
"""Kind of the backends that are devices."""
JOURNAL = "jobs.db"
"""The journal of a study's jobs on devices, in its folder."""
_USED = ("executions", "pubs", "jobs", "backward", "qpu_seconds")
"""Of `Usage`, what is the same whether a task ran at one go or was cut off and replayed."""


class Opened(Protocol):
    """Opens backends, as `open_backend`, or others in their place."""

    def __call__(self, entry: Mapping[str, Any], *, shots: int | None = None) -> Backend:
        """The backend of an entry, with other shots if they are given."""


def open_backend(entry: Mapping[str, Any], *, shots: int | None = None) -> Backend:
    """The backend of an entry.

    Args:
        entry: `name`; for one of the study's own also `base` and `settings`.
        shots: Instead of the entry's own.

    Raises:
        UnknownNameError: If the backend file has no such name.
        ConfigError: If the settings make no valid entry.
    """
    name = entry["name"]
    backend = load_backend(entry.get("base", name))
    if "settings" in entry:
        backend = backend.changed(name, entry["settings"])
    return backend if shots is None else backend.changed(name, {"shots": shots})


def entries_of(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The entries of all backends that a task's circuits run on."""
    stage, asked = spec.get("fine_tune") or {}, spec.get("evaluation") or {}
    beside = (asked.get("side_by_side") or {}).get("backends", ())
    yield from filter(None, (*(one.get("backend") for one in (spec, stage, asked)), *beside))


@dataclass(frozen=True)
class Asked:
    """A call of an engine, and where it was made."""

    backend: Backend
    model: CircuitModel
    """The circuit; equal ones are one object."""
    gradient: str
    """The rule that was asked for, `"auto"` replaced by the backend's own."""
    shots: int | None
    """Shots per circuit; None where values are exact."""
    call: Call


class UsageLog:
    """Opens the backends of a task and keeps count of what is asked of them.

    Args:
        journal: The study's journal, from the working directory; None leaves it to the entry.
        dry: Whether engines answer nothing: no circuit is built or run, no device is opened, and
            no budget is needed.
        choose: In a dry run, from the backend that a spec names to the one that takes its place.
    """

    def __init__(
        self,
        journal: str | Path | None = None,
        *,
        dry: bool = False,
        choose: Callable[[Backend], Backend] = lambda backend: backend,
    ) -> None:
        self._journal = None if journal is None else str(Path(journal).absolute())
        self._dry, self._choose = dry, choose
        self._engines: list[tuple[Backend, Engine]] = []
        self._backends: dict[str, Backend] = {}
        self._models: dict[str, CircuitModel] = {}

    def __call__(self, entry: Mapping[str, Any], *, shots: int | None = None) -> Backend:
        """See `open_backend`."""
        if self._dry:
            key = canonical([entry, shots])
            if key not in self._backends:
                chosen = self._choose(open_backend(entry))
                changed = chosen if shots is None else chosen.changed(chosen.name, {"shots": shots})
                self._backends[key] = changed
            return _Logged(self._backends[key], self._engines, dry=True)
        backend = open_backend(entry, shots=shots)
        if backend.kind != DEVICE:
            return backend
        if self._journal is not None:
            backend = backend.changed(backend.name, {"journal": self._journal})
        return _Logged(backend, self._engines, dry=False)

    def take(self) -> Counter[Asked]:
        """All calls of a dry run since the last time, and how often each was made."""
        from qiskit_kd.nn.layer import circuit_digest

        found: Counter[Asked] = Counter()
        for backend, engine in self._engines:
            if isinstance(engine, NullEngine):
                for model, call in engine.calls:
                    same = self._models.setdefault(circuit_digest(model), model)
                    found[Asked(backend, same, engine.gradient, engine.shots, call)] += 1
        self._engines.clear()
        return found

    def devices(self) -> list[dict[str, Any]]:
        """Every device that was used: what it is, how circuits lie on it, and what it was asked.

        Costs are those of the jobs, whether they ran now or in an earlier run that was cut off.
        """
        found: dict[str, dict[str, Any]] = {}
        for backend, engine in self._engines:
            if not engine.usage.jobs:
                continue
            facts, used, name = engine.describe(), engine.usage.as_dict(), backend.name
            new = {"backend": name, "device": facts["device"], "calibrated": None, "circuits": []}
            new |= {"calibrations": [], "usage": dict.fromkeys(_USED, 0)}
            entry = found.setdefault(name, new)
            for part in ("calibrations", "circuits"):
                entry[part] += [one for one in facts[part] if one not in entry[part]]
            if not_done := backend.options.without_effect():
                entry["without_effect"] = not_done
            for part in _USED:
                entry["usage"][part] += used[part]
        for entry in found.values():
            # Of the day the circuits were made, which a run that goes on tomorrow still uses.
            dates = [one["calibrated"] for one in entry["circuits"] if one["calibrated"]]
            entry["calibrated"] = min(dates, default=None)
            # Those that its jobs ran under, where that is not this one alone.
            if {*entry["calibrations"]} <= {entry["calibrated"]}:
                del entry["calibrations"]
        return list(found.values())


class _Logged(Backend):
    """A backend whose engines are kept."""

    def __init__(
        self, backend: Backend, engines: list[tuple[Backend, Engine]], *, dry: bool
    ) -> None:
        super().__init__(backend.name, backend.options, backend.source)
        self._backend, self._engines, self._dry = backend, engines, dry

    def _say_what_is_not_done(self) -> None:
        """Said by the driver, and in the row."""

    def engine(
        self, *, gradient: str = "auto", shots: int | None = None, seed: int | None = None
    ) -> Engine:
        """See `Backend.engine`."""
        if self._dry:
            rule = self.options.gradient if gradient == "auto" else gradient
            engine: Engine = NullEngine(
                self.name, rule, self.options.shots if shots is None else shots
            )
        else:
            engine = super().engine(gradient=gradient, shots=shots, seed=seed)
        self._engines.append((self._backend, engine))
        return engine


class NullEngine(Engine):
    """An engine that logs calls and knows nothing: all classes alike, no gradient."""

    def __init__(self, name: str, gradient: str, shots: int | None) -> None:
        self.name, self.gradient, self.shots, self.usage = name, gradient, shots, Usage()
        self.calls: list[tuple[CircuitModel, Call]] = []

    def outputs(self, model: CircuitModel, features: Array, weights: Array) -> Array:
        """See `Engine.outputs`."""
        return self.vjp(model, features, weights, Needs(features=False, weights=False))[0]

    def vjp(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        """See `Engine.vjp`."""
        settings = int(np.prod(weights.shape[:-1]))
        if len(features) and settings:
            call = Call(len(features), settings, needs.weights, needs.features)
            self.calls.append((model, call))
        value = 1 / model.num_outputs if isinstance(model.readout, ClassGroups) else 0.0
        shape = (*weights.shape[:-1], len(features), model.num_outputs)
        zeros = (
            np.zeros_like(features) if needs.features else None,
            np.zeros_like(weights) if needs.weights else None,
        )
        return np.full(shape, value, features.dtype), lambda _: zeros
