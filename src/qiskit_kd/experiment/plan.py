# SPDX-License-Identifier: Apache-2.0
"""From a configuration to tasks: one per (student, variant, seed, candidate), one per teacher.

A task's key is the hash of everything its row depends on: its resolved settings, the fingerprints
of the data it sees (not where the files lie), the keys of its teachers, and the version of the
rows. Tasks that are equal at several points of the axes are one. Two variants of one student and
seed differ in their losses, teachers and backends alone, so they share split, initial weights and
batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import ConfigError, QiskitKDError
from qiskit_kd.experiment.checks import faults_of_parts
from qiskit_kd.experiment.config import ExperimentConfig, Point, ResolvedPoint
from qiskit_kd.experiment.devices import DEVICE, Opened, open_backend
from qiskit_kd.experiment.preflight import Preflight
from qiskit_kd.experiment.schema import (
    Label,
    StudentConfig,
    TeacherConfig,
    TermConfig,
    TrainingOverrides,
    VariantConfig,
    has_temperature,
    registry,
    teacher_row,
)
from qiskit_kd.experiment.store import ROWS, canonical
from qiskit_kd.registry import plugin_digest

if TYPE_CHECKING:
    from qiskit_kd.data import Split

# Options of data sets that say where samples come from: what they are is in the fingerprint, so
# that a folder may be moved without training everything again.
_WHEREABOUTS = frozenset({"download", "path", "root"})
_OF_STUDENTS = ("backend", "shots", "side_by_side", "teacher")  # in `evaluation`
_OF_NETWORKS = ("backend", "backends", "evaluation", "students", "teacher", "teachers", "variants")


@dataclass(frozen=True)
class Task:
    """One unit of work: trains one network and yields one row."""

    key: str
    """SHA-256, hexadecimal."""
    role: str
    """`teacher` or `student`."""
    student: str
    variant: str
    seed: int
    candidate: Mapping[str, Label]
    """The settings it is trained with of those that validation chooses among, by name."""
    spec: Mapping[str, Any]
    """What `task.run_task` needs; plain JSON."""
    needs: tuple[str, ...] = ()
    """Keys of the teachers' tasks that have to be done first."""
    checkpoint_epochs: int | None = None
    """For long tasks: leave a checkpoint each so many epochs. No part of the key."""
    points: tuple[int, ...] = (0,)
    """The points it stands for, by their position in `ExperimentConfig.points`."""
    where: str = ""
    """For people: what its points have in common."""
    hashed: str = ""
    """The text that `key` is the hash of: what its row depends on."""

    @property
    def label(self) -> str:
        """For people: which task this is."""
        chosen = (
            f"{name.replace('_', ' ')} {value if isinstance(value, str) else f'{value:g}'}"
            for name, value in self.candidate.items()
        )
        parts = [self.student, self.variant, self.where, f"seed {self.seed}", *chosen]
        return ", ".join(filter(None, parts))

    def describe(self) -> dict[str, Any]:
        """What the study's file remembers of it."""
        names = ("key", "role", "student", "variant", "seed", "candidate", "label", "points")
        found = {name: getattr(self, name) for name in names}
        return {**found, "candidate": dict(self.candidate), "points": list(self.points)}


def plan(config: ExperimentConfig, *, opened: Opened = open_backend) -> list[Task]:
    """All tasks of an experiment, teachers first, then seed by seed.

    Args:
        config: The experiment.
        opened: From the entry of a backend to the backend that networks are tried out on.

    Raises:
        ConfigError: For whatever cannot work at one of the points.
    """
    points = config.resolved_points
    for here in points:
        faults = () if here.checked else faults_of_parts(here.config.resolved())
        if faults:
            texts = [f"{'.'.join(map(str, fault.path))}: {fault.what}" for fault in faults]
            raise ConfigError("\n  ".join(["the experiment cannot be run:", *texts]))
    preflight, planner = Preflight(opened), Planner(config.seeds[0])
    found: dict[str, tuple[Task, dict[int, None]]] = {}
    for seed in config.seeds:
        splits: dict[str, Split] = {}
        for place, here in enumerate(points):
            with _at(config, here.values, ("data",)):
                split = _split(here.config, seed, splits)
            with _at(config, here.values, _OF_NETWORKS):
                networks = preflight.networks(here, split)
                tasks = planner.tasks(here, split, seed)
                if seed == config.seeds[0]:
                    specs = [task.spec for task in tasks if task.role == "student"]
                    preflight.losses(specs, split.num_classes)
                    preflight.first_steps(specs, split)
                    preflight.evaluation(here.config, networks, split)
            with _at(config, here.values, ("data", *_OF_NETWORKS)):
                preflight.samples(networks, split, seed)
            for task in tasks:
                found.setdefault(task.key, (task, {}))[1][place] = None
    _check_axes(config, [here.values for here in points], [where for _, where in found.values()])
    made = [
        replace(task, points=tuple(places), where=_common([points[k].values for k in places]))
        for task, places in found.values()
    ]
    return sorted(made, key=lambda task: task.role != "teacher")


class Planner:
    """Makes the tasks of one point and seed after the other."""

    def __init__(self, first_seed: int) -> None:
        self._first = first_seed
        self._shared: dict[str, Task] = {}

    def tasks(self, here: ResolvedPoint, split: Split, seed: int) -> list[Task]:
        """Teachers, then students."""
        config = here.config
        asked = self._evaluation(here, seed)
        common = {
            "experiment": config.name,
            "schema": ROWS,
            "metric": config.metric,
            "seed": seed,
            "data": {
                "kind": config.data.kind,
                "options": config.data.options,
                "seed": seed,
                "fingerprint": split.fingerprint,
            },
            "evaluation": asked,
        }
        of_all = {key: value for key, value in asked.items() if key not in _OF_STUDENTS}
        teachers = {
            name: self._teacher(here, name, {**common, "evaluation": of_all}, split)
            for name in config.teachers
        }
        students = [
            _student(here, student, variant, candidate, common, teachers, split)
            for student in config.students
            for variant in config.variants_of(student)
            for candidate in config.candidates(student, variant)
        ]
        return [*teachers.values(), *students]

    def _evaluation(self, here: ResolvedPoint, seed: int) -> dict[str, Any]:
        asked = here.config.evaluation.model_dump(mode="json", exclude_none=True)
        if seed != self._first:
            asked.pop("feature_maps", None)  # to be looked at, and large
            asked.pop("side_by_side", None)  # to be looked at, and slow
        if "backend" in asked:
            asked["backend"] = here.entry(asked["backend"])
        if beside := asked.get("side_by_side"):
            beside["backends"] = [here.entry(name) for name in beside["backends"]]
        return {name: value for name, value in asked.items() if value}

    def _teacher(
        self, here: ResolvedPoint, name: str, common: Mapping[str, Any], split: Split
    ) -> Task:
        config, teacher = here.config, here.config.teachers[name]
        plain = VariantConfig(terms=[TermConfig(loss="ce")])
        spec = {
            **common,
            "role": "teacher",
            "student": teacher_row(name),
            "variant": config.baseline,
            "backend": here.entry("exact"),
            "sees": teacher.sees,
            **_network(config, teacher, {}),
            "terms": _terms(plain, {}),
            "teachers": {},
            "candidate": {},
        }
        if teacher.sees != "all":
            return _task(spec, spec, teacher.training.checkpoint_epochs, config)
        # What a teacher of the whole pool has seen does not depend on how the pool was divided.
        identity = {**spec, "data": _seen(split)}
        task = _task(spec, identity, teacher.training.checkpoint_epochs, config)
        if not teacher.shared:
            return task
        # The task of the first seed stands for those that see the same.
        varying = ("seed", "data", "evaluation")  # from seed to seed
        settings = {key: value for key, value in identity.items() if key not in varying}
        key = canonical([settings, identity["data"]])
        if task.seed == self._first:
            self._shared.setdefault(key, task)
        if key not in self._shared:
            raise ConfigError(
                f"teachers.{name}: a shared teacher sees the same pool, validation and test set "
                "for every seed",
                got=f"other samples of the data set {config.data.kind!r} for seed {task.seed} than "
                f"for seed {self._first}",
                expected="data such as fashion_mnist, whose parts do not depend on the seed",
                remedy="Set `shared: false`: one teacher per seed.",
            )
        return self._shared[key]


def _student(
    here: ResolvedPoint,
    student: str,
    variant: str,
    candidate: Mapping[str, Label],
    common: Mapping[str, Any],
    teachers: Mapping[str, Task],
    split: Split,
) -> Task:
    config = here.config
    entry, asked = config.students[student], config.variants[variant]
    terms = _terms(asked, candidate)
    spec = {
        **common,
        "role": "student",
        "student": student,
        "variant": variant,
        "backend": here.entry(asked.backend or config.backend),
        **_network(config, entry, candidate),
        "terms": terms,
        "candidate": dict(candidate),
        "teachers": _taught_by(terms, config.evaluation.teacher, teachers),
    }
    stage = asked.fine_tune
    if stage is not None:
        training = _training(config, entry, candidate, stage.training)
        spec["fine_tune"] = {"backend": here.entry(stage.backend), "training": training}
    identity: Mapping[str, Any] = spec
    if asked.sees == "all":
        spec["sees"] = "all"
        own = asked.training.model_dump(mode="json", exclude_none=True)
        spec["training"] = _on_the_pool(spec["training"], own, split)
        if stage is not None:
            second = spec["fine_tune"]
            second["training"] = _on_the_pool(second["training"], {}, split)
        identity = {**spec, "data": _seen(split)}
    return _task(spec, identity, entry.training.checkpoint_epochs, config)


def _task(
    spec: Mapping[str, Any],
    identity: Mapping[str, Any],
    every: int | None,
    config: ExperimentConfig,
) -> Task:
    """The task of a spec; its key is the hash of what it depends on.

    That is all of it but where samples come from, settings of devices that do not change results,
    and where circuit files lie; and what the plugin files hold that define its parts.
    """
    data = dict(identity["data"])
    if "options" in data:
        data["options"] = {k: v for k, v in data["options"].items() if k not in _WHEREABOUTS}
    hashed = canonical({**_lasting({**identity, "data": data}), **_plugins(identity)})
    needs = [entry["key"] for entry in spec["teachers"].values()]
    return Task(
        key=hashlib.sha256(hashed.encode()).hexdigest(),
        role=spec["role"],
        student=spec["student"],
        variant=spec["variant"],
        seed=spec["seed"],
        candidate=spec["candidate"],
        spec=spec,
        needs=tuple(dict.fromkeys(filter(None, needs))),
        checkpoint_epochs=config.training.checkpoint_epochs if every is None else every,
        hashed=hashed,
    )


def _seen(split: Split) -> dict[str, str]:
    """What a network depends on that is trained on the whole pool, however that is divided."""
    return {part: getattr(split, part).fingerprint for part in ("pool", "validation", "test")}


def _on_the_pool(
    training: Mapping[str, Any], own: Mapping[str, Any], split: Split
) -> dict[str, Any]:
    """Settings for a student that sees the whole pool: its variant's own, else as many steps."""
    own = {key: value for key, value in own.items() if key != "checkpoint_epochs"}
    if "batch_size" not in own and training["steps_per_epoch"] is None:
        steps = -(-len(split.train.labels) // training["batch_size"])
        return {**training, "steps_per_epoch": steps, **own}
    return {**training, **own}


def _taught_by(
    terms: list[dict[str, Any]], judge: str | None, teachers: Mapping[str, Task]
) -> dict[str, Any]:
    """Of each teacher that is named, what its network is made of, and its key if it is trained.

    Of an untrained one the key says nothing, so that its row does not depend on any training.
    """
    named = [(term["teacher"], term["placebo"] != "untrained") for term in terms]
    found: dict[str, Any] = {}
    for name, is_trained in [*named, (judge, True)]:
        if name is not None:
            spec = teachers[name].spec
            entry = {"key": None, "kind": spec["kind"], "options": spec["options"]}
            entry |= {"backend": "exact", "dtype": spec["training"]["dtype"]}
            found.setdefault(name, entry)
            if is_trained:
                found[name]["key"] = teachers[name].key
    return found


def _network(
    config: ExperimentConfig, entry: StudentConfig | TeacherConfig, candidate: Mapping[str, Label]
) -> dict[str, Any]:
    own = entry.candidates if isinstance(entry, StudentConfig) else {}
    return {
        "kind": entry.kind,
        "options": {**entry.options, **{k: v for k, v in candidate.items() if k in own}},
        "training": _training(config, entry, candidate),
    }


def _training(
    config: ExperimentConfig,
    entry: StudentConfig | TeacherConfig,
    candidate: Mapping[str, Label],
    stage: TrainingOverrides | None = None,
) -> dict[str, Any]:
    training = config.training.overridden(entry.training)
    if "learning_rate" in candidate:
        training = training.model_copy(update={"learning_rate": candidate["learning_rate"]})
    training = training if stage is None else training.overridden(stage)
    return training.model_dump(mode="json", exclude={"checkpoint_epochs"})


def _terms(variant: VariantConfig, candidate: Mapping[str, Label]) -> list[dict[str, Any]]:
    """Terms with a candidate's weights, and its temperature where a loss has one of none set."""
    table, temperature = registry("loss"), candidate.get("temperature")
    terms = []
    for term in variant.terms:
        options = dict(term.options)
        if temperature is not None and has_temperature(table[term.loss]):
            options.setdefault("temperature", temperature)
        teacher, placebo = variant.source(term)
        made = {
            "loss": term.loss,
            "weight": candidate.get(f"weight of {term.label}", term.weight),
            "name": term.label,
            "options": options,
            "teacher": teacher,
            "placebo": placebo,
            "layers": term.layers and [term.layers.student, term.layers.teacher],
            "adapter": term.adapter,
        }
        terms.append(made)
    return terms


def _plugins(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the plugin files hold that define parts of a spec; nothing where none does."""
    names = {("student", spec["kind"]), ("data set", spec["data"].get("kind"))}
    names |= {("student", entry["kind"]) for entry in spec["teachers"].values()}
    for term in spec["terms"]:
        names |= {("loss", term["loss"]), ("adapter", term["adapter"])}
    names |= {("perturbation", name) for name in spec["evaluation"].get("robustness", ())}
    parts = [registry(kind).get(name) for kind, name in names if name is not None]
    found = {plugin_digest(getattr(part, "function", part)) for part in parts} - {None}
    return {"plugins": sorted(found)} if found else {}


def _lasting(part: Any) -> Any:
    """Without those settings of devices that do not change results, such as budgets.

    The entry of a backend describes what results depend on; its `settings` say that again, and more
    where the backend is the study's own. Of a circuit file there is what it holds.
    """
    if isinstance(part, Mapping):
        settings = part.get("settings")
        if part.get("kind") == DEVICE and isinstance(settings, Mapping):
            part = {**part, "settings": {k: v for k, v in settings.items() if k in part}}
        return {
            name: _circuit_digest(inner) if name == "ansatz" else _lasting(inner)
            for name, inner in part.items()
        }
    return [_lasting(inner) for inner in part] if isinstance(part, list | tuple) else part


def _circuit_digest(ansatz: object) -> object:
    if not isinstance(ansatz, str) or not ansatz.lower().endswith((".qasm", ".qpy")):
        return ansatz  # a name
    try:
        return "sha256:" + hashlib.sha256(Path(ansatz).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            "the circuit file of an ansatz can be read",
            got=f"{ansatz}: {error.strerror}",
            remedy="Paths are relative to the experiment file.",
        ) from error


def _check_axes(
    config: ExperimentConfig, points: Sequence[Point], tasks: Iterable[Collection[int]]
) -> None:
    """Refuse an axis along which nothing changes.

    Args:
        config: The experiment.
        points: Its points.
        tasks: The positions of the points that each task stands for.
    """
    tasks = list(tasks)
    for name, axis in config.axes.items():
        if len(axis.labels) < 2:
            continue
        lines: dict[str, set[int]] = {}
        for place, point in enumerate(points):
            rest = {other: label for other, label in point.items() if other != name}
            lines.setdefault(canonical(rest), set()).add(place)
        if all(
            line <= set(places) or line.isdisjoint(places)
            for line in lines.values()
            for places in tasks
        ):
            raise ConfigError(
                f"axes.{name}: the values of an axis make a difference",
                got=f"the same tasks at {', '.join(map(str, axis.labels))}",
                expected="a key that a student, a teacher or the evaluation depends on",
                remedy="Correct its key, or remove the axis.",
            )


@contextmanager
def _at(config: ExperimentConfig, point: Point, sections: Sequence[str]) -> Iterator[None]:
    """Let an error end with the values of the axes that change some sections at a point."""
    try:
        yield
    except ConfigError as error:
        values = ", ".join(
            f"axes.{name} = {label}"
            for name, label in point.items()
            if any(key.split(".")[0] in sections for key in config.axes[name].settings(label))
        )
        if not values:
            raise
        raise ConfigError(f"{error}\n  found at {values}") from error


def _split(config: ExperimentConfig, seed: int, known: dict[str, Split]) -> Split:
    """The data of a point and seed, made once for all points that share it."""
    key = canonical([config.data.kind, config.data.options])
    if key not in known:
        try:
            known[key] = registry("data set")[config.data.kind](seed=seed, **config.data.options)
        except (QiskitKDError, TypeError) as error:
            raise ConfigError(f"data: {error}") from error
    return known[key]


def _common(points: list[Point]) -> str:
    """The values that all of some points share, for people."""
    first, *rest = points
    return ", ".join(
        f"{name} {value}"
        for name, value in first.items()
        if all(point[name] == value for point in rest)
    )
