# SPDX-License-Identifier: Apache-2.0
"""Estimates against what the engine of a device counts when the experiment is really run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from qiskit_kd.errors import AccountError, ConfigError, DeviceError, UnknownNameError
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Engine
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.runtime.cost import Cost, Tariff, cost_of_call, total
from qiskit_kd.experiment import cost as module
from qiskit_kd.experiment.config import ExperimentConfig
from qiskit_kd.experiment.cost import Choice, DryRuns, Estimate, estimate, shape
from qiskit_kd.experiment.devices import Asked, open_backend
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.plan import Task, plan
from qiskit_kd.experiment.task import run_task
from qiskit_kd.report.costs import price_text

pytestmark = pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")

BACKENDS = """\
schema: 1
backends:
  exact: {kind: exact}
  perfect: {kind: runtime, device: aer, shots: 32, seed: 1, usd_per_second: 2, tiles: 1}
  fake: {kind: runtime, device: fake_lagos, shots: 16, perturbations: 2, seed: 1}
  slow: {kind: runtime, device: fake_lagos, shots: 16, rep_delay: 0.0005, budget_seconds: 20}
  hasty: {kind: runtime, device: fake_lagos, shots: 500, rep_delay: 0.0}
  wide: {kind: runtime, device: fake_torino, shots: 16, gradient: shift}
  tiled: {kind: runtime, device: fake_torino, shots: 64, seed: 1, tiles: auto}
  remote: {kind: runtime, device: ibm_nowhere}
  tiny: {kind: runtime, device: fake_manila}
  full: {kind: runtime, device: fake_lagos, tiles: 3}
  sampled: {kind: exact, shots: 6, perturbations: 3}
  shifted: {kind: exact, shots: 5, gradient: shift}
  other: {kind: aer, shots: 4}
"""

HEAD = """\
name: small
data:
  kind: digits
  options: {classes: [3, 5], train: 6, validation: 5, test: 7, transfer: 4, components: 3}
students:
  q: {kind: fully_quantum, options: {layers: 1, encoding: angle}}
  linear: {kind: linear}
variants: {plain: {terms: [{loss: ce}]}}
seeds: 1
training: {epochs: 2, batch_size: 3}
"""

OBSERVED = """\
students:
  h: {kind: hybrid, options: {layers: 1, encoding: angle, measured: [0, 1]}}
"""

STAGES = """\
teacher: {kind: mlp, training: {epochs: 1}}
variants:
  plain: {terms: [{loss: ce}]}
  tuned:
    teacher: teacher
    terms: [{loss: ce}, {loss: kl}]
    fine_tune: {backend: fake, training: {epochs: 1, patience: 1}}
evaluation: {backend: fake, shots: [8], teacher: teacher}
"""


@pytest.fixture(autouse=True)
def backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "backends.yaml"
    path.write_text(BACKENDS)
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))  # no account of the machine's owner
    monkeypatch.chdir(tmp_path)


def config_of(text: str = "", **settings: object) -> ExperimentConfig:
    parts = yaml.safe_load(HEAD), yaml.safe_load(text) or {}, settings
    return parse(yaml.safe_dump({key: part[key] for part in parts for key in part}))


class Watched(Backend):
    """A backend that remembers its engines."""

    def __init__(self, backend: Backend, made: list[Engine]) -> None:
        super().__init__(backend.name, backend.options, backend.source)
        self.made = made

    def engine(self, **options) -> Engine:
        engine = super().engine(**options)
        self.made.append(engine)
        return engine


def counted(tasks: list[Task], folder: Path) -> dict[str, Cost]:
    """What the engines of a real run have counted, by task; nothing ends early."""
    files: dict[str, str] = {}
    found = {}
    for task in tasks:
        made: list[Engine] = []
        spec = {**task.spec, "training": {**task.spec["training"], "patience": None}}
        if stage := spec.get("fine_tune"):
            spec["fine_tune"] = {**stage, "training": {**stage["training"], "patience": None}}
        _, weights = run_task(
            spec,
            teachers=files,
            opened=lambda entry, *, shots=None, made=made: Watched(
                open_backend(entry, shots=shots), made
            ),
        )
        if weights is not None:
            files[task.key] = str(folder / task.key)
            Path(files[task.key]).write_bytes(weights)
        usages = [engine.usage for engine in made if engine.shots is not None]
        found[task.key] = total(
            Cost(u.executions, u.jobs, u.pubs, u.qpu_seconds, None) for u in usages
        )
    return found


def choice(found: Estimate, gradient: str, *, tiled: bool) -> Choice:
    return next(c for c in found.choices if (c.gradient, c.tiled) == (gradient, tiled))


CASES = {
    "sampled classes": ("", "perfect"),
    "observables": (OBSERVED, "perfect"),
    "a device with noise": ("", "fake"),
    "parameter shift on a large device": ("", "wide"),
    "tiles": ("", "tiled"),
    "without a delay": ("", "hasty"),
    "fine-tuning and evaluation": (STAGES, "exact"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_estimate_is_what_is_counted(name: str, tmp_path: Path) -> None:
    text, backend = CASES[name]
    config = config_of(text, backend=backend)
    cost, real = estimate(config).cost, total(counted(plan(config), tmp_path).values())
    assert real.jobs > 5
    assert (cost.jobs, cost.pubs, cost.executions) == (real.jobs, real.pubs, real.executions)
    assert cost.seconds == pytest.approx(real.seconds, rel=0.01)


def test_by_hand() -> None:
    """Two epochs of two batches of three, five validation samples each, then five and seven."""
    found = estimate(config_of(backend="perfect"))
    circuits = 2 * (6 * (1 + 2 * 4) + 5) + 5 + 7
    seconds = (2 * 3 + 2) * 2 + 32 * circuits * 255e-6
    assert found.cost.executions == 32 * circuits
    assert (found.cost.jobs, found.cost.pubs) == (8, 8)
    assert found.cost.seconds == pytest.approx(seconds)
    assert found.cost.usd == pytest.approx(2 * seconds)
    (kind,) = found.kinds
    assert (kind.student, kind.variant, kind.tasks, kind.where) == ("q", "plain", 1, "")
    assert not found.may_end_early
    assert estimate(config_of(backend="perfect", seeds=3)).cost.jobs == 24


def test_other_rules_and_tiles() -> None:
    found = estimate(config_of(backend="fake"))  # 7 qubits hold two copies of three
    site = found.sites[0]
    assert (site.tiles, site.fitting) == (1, 2)
    assert choice(found, "spsa", tiled=False).cost == found.cost
    # Layers of RY, RZ and a chain of CRX: 6 + 2 * 2 frequencies, and three RY at the end.
    shifted = choice(found, "shift", tiled=False).cost
    assert shifted.executions == 16 * (2 * (6 * (1 + 2 * (6 + 4 + 3)) + 5) + 12)
    assert choice(found, "shift", tiled=True).cost.executions < 0.6 * shifted.executions
    assert found.stock.executions == shifted.executions
    assert found.stock.jobs == 8 + 4  # forward and backward are two jobs
    assert found.stock_default.executions == 4096 // 16 * shifted.executions
    assert json.loads(json.dumps(found.as_dict()))["total"]["jobs"] == 8


def test_a_large_device_divides_the_executions() -> None:
    found = estimate(config_of(backend="tiled", training={"epochs": 1, "batch_size": 100}))
    assert found.sites[0].tiles == found.sites[0].fitting > 12
    alone, tiled = (choice(found, "spsa", tiled=tiled).cost for tiled in (False, True))
    assert tiled == found.cost
    rows = [-(-n // found.sites[0].tiles) for n in (54, 5, 5, 7)]
    assert tiled.executions == 64 * sum(rows)
    assert alone.executions == 64 * (54 + 5 + 5 + 7)


def test_a_backend_in_place_of_those_of_the_experiment() -> None:
    slow = estimate(config_of(STAGES), "slow")
    assert [site.backend for site in slow.sites] == ["slow"]
    assert slow.sites[0].rep_delay == 0.0005
    assert slow.sites[0].budget_seconds == 20
    assert slow.sites[0].cost.seconds == pytest.approx(slow.cost.seconds)
    assert slow.sites[0].cost.jobs == slow.cost.jobs
    assert slow.may_end_early
    fake = estimate(config_of(STAGES))
    assert [site.backend for site in fake.sites] == ["fake"]
    assert fake.cost.jobs == slow.cost.jobs
    # An experiment without a device is priced as if its students were trained on one.
    assert estimate(config_of(), "fake").cost == estimate(config_of(backend="fake")).cost


def test_points_of_axes() -> None:
    axes = {"batch": {"key": "training.batch_size", "values": [2, 6]}}
    found = estimate(config_of(backend="perfect", axes=axes))
    assert [(kind.where, kind.cost.jobs) for kind in found.kinds] == [
        ("batch 2", 2 * 4 + 2), ("batch 6", 2 * 2 + 2)
    ]  # fmt: skip


def test_nothing_is_opened_or_sent_without_need(tmp_path: Path) -> None:
    estimate(config_of(backend="fake"))
    assert [path.name for path in tmp_path.iterdir()] == ["backends.yaml"]
    # A device without an account or a budget may be replaced by one that needs neither.
    assert estimate(config_of(backend="remote"), "fake").cost.jobs == 8


KNOWN = (
    "expected a backend of kind 'runtime': perfect, fake, slow, hasty, wide, tiled, remote, tiny, "
    "full"
)


def test_an_experiment_without_a_device() -> None:
    message = "an estimate is for circuits on a device; got an experiment on 'exact'"
    with pytest.raises(ConfigError, match=rf"{message}; {KNOWN}\. Name one with --backend NAME"):
        estimate(config_of())


def test_a_backend_that_is_no_device() -> None:
    with pytest.raises(ConfigError, match="an estimate is for a device; got 'exact' of kind "
                       rf"'exact'; {KNOWN}"):  # fmt: skip
        estimate(config_of(), "exact")
    with pytest.raises(UnknownNameError, match=r"unknown backend; got 'fale'\. did you mean"):
        estimate(config_of(), "fale")


def test_a_file_without_devices(tmp_path: Path) -> None:
    (tmp_path / "backends.yaml").write_text("schema: 1\nbackends:\n  exact: {kind: exact}\n")
    with pytest.raises(ConfigError, match="kind 'runtime': none in the backend file yet"):
        estimate(config_of())


def test_an_experiment_without_circuits() -> None:
    config = config_of("students: {linear: {kind: linear}}", backend="fake")
    with pytest.raises(ConfigError, match="circuits on a device; got an experiment without "
                       "circuits; expected a quantum student"):  # fmt: skip
        estimate(config)


def test_a_device_without_room_for_copies() -> None:
    """Seven qubits in the form of an H hold six in some way, but not in a row."""
    six = {"kind": "digits", "options": {"classes": [3, 5], "train": 6}}
    students = {"q": {"kind": "fully_quantum", "options": {"layers": 1}}}
    found = estimate(config_of(data=six, students=students), "fake")
    assert (found.sites[0].tiles, found.sites[0].fitting) == (1, 1)
    assert choice(found, "spsa", tiled=True).cost == found.cost
    with pytest.raises(DeviceError, match="tiles: 3 of 3 qubits; expected at most 2"):
        estimate(config_of(), "full")


def test_a_device_that_is_too_small_or_out_of_reach() -> None:
    six = {"kind": "digits", "options": {"classes": [3, 5], "train": 6}}
    students = {"q": {"kind": "fully_quantum", "options": {"layers": 1}}}
    with pytest.raises(DeviceError, match="no wider than the device; got 6 qubits; expected at "
                       "most the 5 of 'fake_manila'"):  # fmt: skip
        estimate(config_of(data=six, students=students), "tiny")
    with pytest.raises(AccountError, match="a device of the service needs an account"):
        estimate(config_of(), "remote")


def test_every_device_of_an_axis_is_named(backends: Path) -> None:
    text = (
        HEAD
        + """
backends: {there: {base: fake, device: aer, budget_seconds: 9}}
backend: there
axes: {device: {key: backends.there.device, values: [aer, fake_lagos, fake_manila]}}
"""
    )
    found = estimate(parse(text), compared=False)
    assert sorted(site.device for site in found.sites) == ["aer", "fake_lagos", "fake_manila"]
    assert total(site.cost for site in found.sites).seconds == pytest.approx(found.cost.seconds)
    assert all(site.whole == pytest.approx(site.cost.seconds) for site in found.sites)


def test_entries_of_one_device_are_priced_together_and_at_its_pace(backends: Path) -> None:
    text = HEAD.replace(
        "variants: {plain: {terms: [{loss: ce}]}}",
        """
variants:
  plain: {backend: slow, terms: [{loss: ce}]}
  other: {backend: fake, terms: [{loss: ce}]}
""",
    )
    found = estimate(parse(text), compared=False)
    assert [site.device for site in found.sites] == ["fake_lagos"] * 2
    assert {round(site.whole, 6) for site in found.sites} == {round(found.cost.seconds, 6)}
    assert found.minutes == found.cost.jobs / 5
    assert found.as_dict()["minutes"] == found.minutes


def test_every_number_of_shots_of_an_axis_is_named(backends: Path) -> None:
    text = (
        HEAD
        + """
backends: {there: {base: fake}}
backend: there
axes: {shots: {key: backends.there.shots, values: [2048, 8, 16]}}
"""
    )
    found = estimate(parse(text), compared=False)
    (site,) = found.sites
    assert site.numbers == (8, 16, 2048)
    assert "): 8, 16 and 2,048 shots; " in " ".join(price_text(found, brief=True).split())


# Dry runs against real ones: every job and execution that a sampler counts is foreseen.

DRY = """\
name: small
data: {kind: digits, options: {classes: [3, 5], train: 10, validation: 7, test: 9, transfer: 6}}
teacher: {kind: mlp, training: {epochs: 1}}
seeds: 1
training: {epochs: 3, batch_size: 4, patience: 1, gradient_every: 2}
"""

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


def tasks_of(text: str) -> list[Task]:
    return plan(parse(yaml.safe_dump({**yaml.safe_load(DRY), **yaml.safe_load(text)})))


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


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_dry_run_asks_for_what_a_real_one_runs(name: str, tmp_path: Path) -> None:
    tasks = tasks_of(EXPERIMENTS[name])
    runs, real = DryRuns(tasks), counted(tasks, tmp_path)
    for task in tasks:
        if task.role == "student":
            cost, one = priced(runs.asked(task)), real[task.key]
            assert (cost.executions, cost.jobs) == (one.executions, one.jobs), task.label
            assert cost.pubs == one.pubs


def test_like_tasks_are_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_shape_tells_apart_what_costs_differently() -> None:
    tasks = tasks_of(EXPERIMENTS["two terms and unlabelled samples"] + "seeds: 2\n")
    shapes = {}
    for task in tasks:
        shapes.setdefault(shape(task.spec), set()).add((task.role, task.student, task.variant))
    assert all(len(kinds) == 1 for kinds in shapes.values())
    assert len(shapes) == 1 + 2 * 3


def test_another_backend_in_place_of_one() -> None:
    tasks = tasks_of(EXPERIMENTS["two stages, judged elsewhere"])
    sampled = open_backend({"name": "sampled"})
    runs = DryRuns(tasks, lambda named: sampled if named.name == "shifted" else named)
    found = [runs.asked(task) for task in tasks if task.role == "student"]
    assert {it.backend.name for asked in found for it in asked} == {"exact", "sampled", "other"}
    shots = {it.shots for it in found[0] if it.backend.name == "sampled"}
    assert shots == {6, 2, 3}  # its own, and those that the evaluation asks for
