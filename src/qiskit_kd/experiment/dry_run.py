# SPDX-License-Identifier: Apache-2.0
"""What a task asks of its backends, found out by running it with engines that answer nothing."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from qiskit_kd.execution.backends import Backend
from qiskit_kd.experiment.devices import Asked, UsageLog
from qiskit_kd.experiment.plan import Task
from qiskit_kd.experiment.store import canonical
from qiskit_kd.experiment.task import build_network, run_task, split_of

_OWN = ("data", "experiment", "seed", "teachers", "candidate", "terms", "variant")


class DryRuns:
    """Runs tasks without circuits, each kind of task once.

    Args:
        tasks: The plan, with the teachers of its students.
        choose: See `UsageLog`.
    """

    def __init__(
        self, tasks: Sequence[Task], choose: Callable[[Backend], Backend] = lambda it: it
    ) -> None:
        self._tasks = {task.key: task for task in tasks}
        self._log = UsageLog(dry=True, choose=choose)
        self._found: dict[str, Counter[Asked]] = {}

    def asked(self, task: Task) -> Counter[Asked]:
        """All calls of a task, and how often each is made.

        Training is taken to last for all its epochs, even where patience may end it earlier.
        """
        key = shape(task.spec)
        if key not in self._found:
            spec = {**task.spec, "training": _patient(task.spec["training"])}
            if "fine_tune" in spec:
                stage = spec["fine_tune"]
                spec["fine_tune"] = {**stage, "training": _patient(stage["training"])}
            with tempfile.TemporaryDirectory() as folder:
                teachers = {name: self._teacher(name, Path(folder)) for name in task.needs}
                run_task(spec, teachers=teachers, opened=self._log)
            self._found[key] = self._log.take()
        return self._found[key]

    def _teacher(self, key: str, folder: Path) -> str:
        """A file with the weights of a teacher that has learned nothing."""
        spec = self._tasks[key].spec
        dtype = spec["training"]["dtype"]
        network = build_network(
            spec["kind"], spec["options"], split_of(spec), seed=0, backend="exact", dtype=dtype
        )
        file = folder / f"{key}.safetensors"
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
        return str(file)


def shape(spec: Mapping[str, Any]) -> str:
    """What the number and size of a task's calls depend on; equal for all seeds and candidates.

    Data sets make parts of the same size for every seed.
    """
    kept = {name: value for name, value in spec.items() if name not in _OWN}
    kept["training"] = {**kept["training"], "learning_rate": None}
    terms = [
        {
            **term,
            "weight": None,
            "options": {k: v for k, v in term["options"].items() if k != "temperature"},
        }
        for term in spec["terms"]
    ]
    teachers = {
        name: {**entry, "key": entry["key"] is not None} for name, entry in spec["teachers"].items()
    }
    data = [spec["data"]["kind"], spec["data"]["options"]]
    return canonical([kept, terms, teachers, data])


def _patient(training: Mapping[str, Any]) -> dict[str, Any]:
    """No early stopping, and no steps that could lead anywhere: outputs mean nothing here."""
    return {**training, "patience": None, "learning_rate": 1e-12}
