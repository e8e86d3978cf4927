# SPDX-License-Identifier: Apache-2.0
"""Dry runs against real ones: every job and execution that a sampler counts is foreseen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Engine
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.runtime.cost import Cost, Tariff, cost_of_call, total
from qiskit_kd.experiment.devices import Asked, open_backend
from qiskit_kd.experiment.dry_run import DryRuns, shape
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.plan import Task, plan
from qiskit_kd.experiment.task import run_task

BACKENDS = """\
schema: 1
backends:
  exact: {kind: exact}
  sampled: {kind: exact, shots: 6, perturbations: 3}
  shifted: {kind: exact, shots: 5, gradient: shift}
  other: {kind: aer, shots: 4}
"""

HEAD = """\
name: small
data: {kind: digits, options: {classes: [3, 5], train: 10, validation: 7, test: 9, transfer: 6}}
teacher: {kind: mlp, training: {epochs: 1}}
seeds: 1
training: {epochs: 3, batch_size: 4, patience: 1, gradient_every: 2}
"""

pytestmark = pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")

# Each writes students, variants and whatever else it needs.
EXPERIMENTS = {
    "one term": """\
backend: sampled
students: {q: {kind: fully_quantum, options: {layers: 1}}}
variants: {plain: {terms: [{loss: ce}]}}
""",
    "two terms and unlabelled samples": """\
backend: shifted
students:
  q: {kind: fully_quantum, options: {layers: 1, ansatz_options: {}}}
  h: {kind: hybrid, options: {layers: 1, ansatz_options: {}, measured: [0, 1]}}
variants:
  plain: {terms: [{loss: ce}]}
  taught: {teacher: teacher, temperature: [1, 2], terms: [{loss: ce}, {loss: kl}]}
  placebo: {teacher: teacher, placebo: shuffled, terms: [{loss: kl}]}
""",
    "own shots and steps": """\
backend: sampled
students:
  q: {kind: fully_quantum, options: {layers: 1, shots: 3, gradient: shift, ansatz_options: {}}}
variants: {plain: {terms: [{loss: ce}]}}
training: {epochs: 2, steps_per_epoch: 3, gradient_every: 0}
""",
    "features": """\
backend: sampled
students: {h: {kind: hybrid, options: {layers: 1, ansatz_options: {}}}}
variants:
  plain: {terms: [{loss: ce}]}
  hints:
    teacher: teacher
    terms:
      - {loss: ce}
      - {loss: feature_mse, layers: {student: circuit, teacher: hidden_0}, adapter: linear}
""",
    "two stages, judged elsewhere": """\
backend: exact
students: {q: {kind: fully_quantum, options: {layers: 1, ansatz_options: {}}}}
variants:
  plain: {terms: [{loss: ce}]}
  tuned:
    teacher: teacher
    terms: [{loss: ce}, {loss: kl}]
    fine_tune: {backend: sampled, training: {epochs: 2, batch_size: 5}}
  shifted: {backend: shifted, terms: [{loss: ce}]}
evaluation:
  backend: shifted
  shots: [2, 3]
  side_by_side: {backends: [sampled, other]}
  teacher: teacher
  robustness: {noise: [0.1, 0.2]}
""",
}


@pytest.fixture
def backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "backends.yaml"
    path.write_text(BACKENDS)
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(path))


def tasks_of(text: str) -> list[Task]:
    import yaml

    return plan(parse(yaml.safe_dump({**yaml.safe_load(HEAD), **yaml.safe_load(text)})))


class Watched(Backend):
    """A backend that remembers its engines."""

    def __init__(self, backend: Backend, made: list[Engine]) -> None:
        super().__init__(backend.name, backend.options, backend.source)
        self.made = made

    def engine(self, **options) -> Engine:
        engine = super().engine(**options)
        self.made.append(engine)
        return engine


def counted(task: Task, teachers: dict[str, str]) -> Counter[str]:
    """What the engines of a real run have counted."""
    made: list[Engine] = []
    spec = {**task.spec, "training": {**task.spec["training"], "patience": None}}
    if "fine_tune" in spec:
        stage = spec["fine_tune"]
        spec["fine_tune"] = {**stage, "training": {**stage["training"], "patience": None}}

    def opened(entry, *, shots=None):
        return Watched(open_backend(entry, shots=shots), made)

    run_task(spec, teachers=teachers, opened=opened)
    found: Counter[str] = Counter()
    for engine in made:
        if engine.shots is not None:
            usage = engine.usage
            found.update({"executions": usage.executions, "jobs": usage.jobs, "pubs": usage.pubs})
    return found


def priced(asked: Counter[Asked]) -> Cost:
    return total(
        cost_of_call(
            it.call, Expansion(it.model), Tariff(0.0, 0.0), shots=it.shots, gradient=it.gradient,
            perturbations=it.backend.options.perturbations,
        )
        * times
        for it, times in asked.items()
        if it.shots is not None
    )  # fmt: skip


@pytest.mark.usefixtures("backends")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_dry_run_asks_for_what_a_real_one_runs(name: str, tmp_path: Path) -> None:
    tasks = tasks_of(EXPERIMENTS[name])
    runs, teachers = DryRuns(tasks), {}
    for task in tasks:
        if task.role == "teacher":
            _, weights = run_task(task.spec)
            assert weights is not None
            (tmp_path / task.key).write_bytes(weights)
            teachers[task.key] = str(tmp_path / task.key)
    for task in tasks:
        if task.role == "student":
            cost, real = priced(runs.asked(task)), counted(task, teachers)
            assert (cost.executions, cost.jobs) == (real["executions"], real["jobs"]), task.label
            assert cost.pubs == real["pubs"]


@pytest.mark.usefixtures("backends")
def test_like_tasks_are_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_kd.experiment import dry_run as module

    seen = []
    real = module.run_task

    def watched(spec, **options):
        seen.append(spec["variant"])
        return real(spec, **options)

    tasks = tasks_of(EXPERIMENTS["two terms and unlabelled samples"] + "seeds: 3\n")
    runs = DryRuns(tasks)
    monkeypatch.setattr(module, "run_task", watched)
    for task in tasks:
        if task.role == "student" and task.student == "q":
            runs.asked(task)
    assert Counter(seen) == {"plain": 1, "taught": 1, "placebo": 1}


@pytest.mark.usefixtures("backends")
def test_shape_tells_apart_what_costs_differently() -> None:
    tasks = tasks_of(EXPERIMENTS["two terms and unlabelled samples"] + "seeds: 2\n")
    shapes = {}
    for task in tasks:
        shapes.setdefault(shape(task.spec), set()).add((task.role, task.student, task.variant))
    assert all(len(kinds) == 1 for kinds in shapes.values())
    assert len(shapes) == 1 + 2 * 3


@pytest.mark.usefixtures("backends")
def test_another_backend_in_place_of_one() -> None:
    tasks = tasks_of(EXPERIMENTS["two stages, judged elsewhere"])
    sampled = open_backend({"name": "sampled"})
    runs = DryRuns(tasks, lambda named: sampled if named.name == "shifted" else named)
    found = [runs.asked(task) for task in tasks if task.role == "student"]
    assert {it.backend.name for asked in found for it in asked} == {"exact", "sampled", "other"}
    shots = {it.shots for it in found[0] if it.backend.name == "sampled"}
    assert shots == {6, 2, 3}  # its own, and those that the evaluation asks for
