# SPDX-License-Identifier: Apache-2.0
"""What a task asks of its backends, found out by running it with engines that answer nothing.

The loop, its batches, its evaluation and everything else are those of a real run, so what is
counted here is what a real run asks for: no second description of the training loop that may fall
behind. Circuits are neither built for a device nor simulated.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Array, Engine, Needs, Pullback, Usage
from qiskit_kd.execution.runtime.cost import Call
from qiskit_kd.experiment.places import open_backend
from qiskit_kd.experiment.store import canonical

if TYPE_CHECKING:
    from qiskit_kd.circuits.model import CircuitModel
    from qiskit_kd.experiment.planner import Task

__all__ = ["Asked", "DryRuns", "opened_dry", "shape"]

_OWN = ("data", "experiment", "seed", "teachers", "candidate", "terms", "variant")


@dataclass(frozen=True)
class Asked:
    """A call of an engine, and where it was made.

    Args:
        backend: Where.
        model: The circuit; equal ones are one object.
        gradient: The rule that was asked for, `"auto"` replaced by the backend's own.
        shots: Shots per circuit; None where values are exact.
        call: What was asked for.
    """

    backend: Backend
    model: CircuitModel
    gradient: str
    shots: int | None
    call: Call


class DryRuns:
    """Runs tasks without circuits, each kind of task once.

    Args:
        tasks: The plan, with the teachers of its students.
        choose: From the backend that a spec names to the one that takes its place.
    """

    def __init__(
        self, tasks: Sequence[Task], choose: Callable[[Backend], Backend] = lambda it: it
    ) -> None:
        self._tasks = {task.key: task for task in tasks}
        self._choose = choose
        self._backends: dict[str, Backend] = {}
        self._models: dict[str, CircuitModel] = {}
        self._found: dict[str, Counter[Asked]] = {}
        self._asked: Counter[Asked] = Counter()

    def asked(self, task: Task) -> Counter[Asked]:
        """All calls of a task, and how often each is made.

        Training is taken to last for all its epochs, even where patience may end it earlier.
        """
        key = shape(task.spec)
        if key not in self._found:
            self._asked = Counter()
            self._run(task)
            self._found[key] = self._asked
        return self._found[key]

    def _run(self, task: Task) -> None:
        from qiskit_kd.experiment.task import run_task

        spec = {**task.spec, "training": _patient(task.spec["training"])}
        if "fine_tune" in spec:
            stage = spec["fine_tune"]
            spec["fine_tune"] = {**stage, "training": _patient(stage["training"])}
        with tempfile.TemporaryDirectory() as folder:
            teachers = {key: self._teacher(key, Path(folder)) for key in task.needs}
            run_task(spec, teachers=teachers, opened=self._opened)

    def _teacher(self, key: str, folder: Path) -> str:
        """A file with the weights of a teacher that has learned nothing."""
        from safetensors.torch import save_file

        from qiskit_kd.experiment.task import build_network, split_of

        spec = self._tasks[key].spec
        network = build_network(
            spec["kind"], spec["options"], split_of(spec), seed=0, backend="exact",
            dtype=spec["training"]["dtype"],
        )  # fmt: skip
        file = folder / f"{key}.safetensors"
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
        return str(file)

    def _opened(self, entry: Mapping[str, Any], *, shots: int | None = None) -> Backend:
        key = canonical([entry, shots])
        if key not in self._backends:
            backend = self._choose(open_backend(entry))
            if shots is not None:
                backend = backend.changed(backend.name, {"shots": shots})
            self._backends[key] = backend
        return _Counted(self._backends[key], self._count)

    def _count(
        self, backend: Backend, model: CircuitModel, gradient: str, shots: int | None, call: Call
    ) -> None:
        from qiskit_kd.nn.layer import circuit_digest

        same = self._models.setdefault(circuit_digest(model), model)
        self._asked[Asked(backend, same, gradient, shots, call)] += 1


def opened_dry(entry: Mapping[str, Any], *, shots: int | None = None) -> Backend:
    """The backend of an entry, to be looked at only: opens no device and needs no budget."""
    return _Counted(open_backend(entry, shots=shots), lambda *_: None)


def shape(spec: Mapping[str, Any]) -> str:
    """What the number and size of a task's calls depend on; equal for all seeds and candidates.

    Data sets make parts of the same size for every seed.
    """
    kept = {name: value for name, value in spec.items() if name not in _OWN}
    kept["training"] = {**kept["training"], "learning_rate": None}
    terms = [
        {**term, "weight": None,
         "options": {k: v for k, v in term["options"].items() if k != "temperature"}}
        for term in spec["terms"]
    ]  # fmt: skip
    teachers = {
        name: {**entry, "key": entry["key"] is not None} for name, entry in spec["teachers"].items()
    }
    data = [spec["data"]["kind"], spec["data"]["options"]]
    return canonical([kept, terms, teachers, data])


def _patient(training: Mapping[str, Any]) -> dict[str, Any]:
    """No early stopping, and no steps that could lead anywhere: outputs mean nothing here."""
    return {**training, "patience": None, "learning_rate": 1e-12}


_Count = Callable[["Backend", "CircuitModel", str, "int | None", Call], None]


class _Counted(Backend):
    """A backend whose engines count calls."""

    def __init__(self, backend: Backend, count: _Count) -> None:
        super().__init__(backend.name, backend.options, backend.source)
        self._backend, self._count = backend, count

    def engine(
        self, *, gradient: str = "auto", shots: int | None = None, seed: int | None = None
    ) -> Engine:
        """See `Backend.engine`."""
        del seed
        rule = self.options.gradient if gradient == "auto" else gradient
        number = self.options.shots if shots is None else shots

        def count(model: CircuitModel, call: Call) -> None:
            self._count(self._backend, model, rule, number, call)

        return _Counter(self.name, number, count)


class _Counter(Engine):
    """An engine that counts calls and knows nothing: all classes alike, no gradient."""

    def __init__(
        self, name: str, shots: int | None, count: Callable[[CircuitModel, Call], None]
    ) -> None:
        self.name, self.shots, self.usage, self._count = name, shots, Usage(), count

    def outputs(self, model: CircuitModel, features: Array, weights: Array) -> Array:
        """See `Engine.outputs`."""
        return self.vjp(model, features, weights, Needs(features=False, weights=False))[0]

    def vjp(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        """See `Engine.vjp`."""
        settings = int(np.prod(weights.shape[:-1]))
        if len(features) and settings:
            self._count(model, Call(len(features), settings, needs.weights, needs.features))
        value = 1 / model.num_outputs if isinstance(model.readout, ClassGroups) else 0.0
        shape = (*weights.shape[:-1], len(features), model.num_outputs)

        def pullback(gradient: Array) -> tuple[Array | None, Array | None]:
            del gradient
            return (
                np.zeros_like(features) if needs.features else None,
                np.zeros_like(weights) if needs.weights else None,
            )

        return np.full(shape, value, features.dtype), pullback
