# SPDX-License-Identifier: Apache-2.0
"""From a configuration to tasks: one per (student, variant, seed, temperature), one per teacher.

A task's key is the hash of everything its row depends on: its resolved settings, the fingerprints
of the data it sees (not where the files lie), the keys of its teachers, and the version of the
schema. Tasks that are equal at several points of the axes are one. Two variants of one student and
seed differ in their losses and teachers alone, so they share split, initial weights and batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import ConfigError, QiskitKDError
from qiskit_kd.experiment.checks import faults_of_parts
from qiskit_kd.experiment.config import (
    ExperimentConfig,
    Point,
    StudentConfig,
    TeacherConfig,
    VariantConfig,
    teacher_row,
)
from qiskit_kd.experiment.parts import has_temperature, registry
from qiskit_kd.experiment.rehearsal import Rehearsal
from qiskit_kd.experiment.store import SCHEMA, canonical

if TYPE_CHECKING:
    from qiskit_kd.data import Split

__all__ = ["Task", "plan"]

# Options of data sets that say where samples come from: what they are is in the fingerprint, so
# that a folder may be moved without training everything again.
_WHEREABOUTS = frozenset({"download", "path", "root"})
_OF_NETWORKS = ("backend", "evaluation", "students", "teacher", "teachers", "variants")


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
    temperature: float | None
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

    @property
    def label(self) -> str:
        """For people: which task this is."""
        warm = None if self.temperature is None else f"temperature {self.temperature:g}"
        parts = [self.student, self.variant, self.where, f"seed {self.seed}", warm]
        return ", ".join(filter(None, parts))

    def describe(self) -> dict[str, Any]:
        """What the study's file remembers of it."""
        return {
            "key": self.key,
            "role": self.role,
            "student": self.student,
            "variant": self.variant,
            "seed": self.seed,
            "temperature": self.temperature,
            "label": self.label,
            "points": list(self.points),
        }


def plan(config: ExperimentConfig) -> list[Task]:
    """All tasks of an experiment, teachers first, then seed by seed.

    Raises:
        ConfigError: For whatever cannot work at one of the points.
    """
    points = config.points()
    settings = [config.at(point) for point in points]
    for here in settings:
        faults = faults_of_parts(here.resolved())
        if faults:
            texts = [f"{'.'.join(map(str, fault.path))}: {fault.what}" for fault in faults]
            raise ConfigError("\n  ".join(["the experiment cannot be run:", *texts]))
    rehearsal, planner = Rehearsal(), _Planner(config.seeds[0])
    found: dict[str, tuple[Task, dict[int, None]]] = {}
    for seed in config.seeds:
        splits: dict[str, Split] = {}
        for place, here in enumerate(settings):
            with _at(config, points[place], ("data",)):
                split = _split(here, seed, splits)
            with _at(config, points[place], _OF_NETWORKS):
                networks = rehearsal.networks(here, split)
                tasks = planner.tasks(here, split, seed)
                if seed == config.seeds[0]:
                    specs = [task.spec for task in tasks if task.role == "student"]
                    rehearsal.losses(specs, split.num_classes)
                    rehearsal.lessons(specs, split)
                    rehearsal.evaluation(here, networks, split)
            with _at(config, points[place], ("data", *_OF_NETWORKS)):
                rehearsal.samples(networks, split, seed)
            for task in tasks:
                found.setdefault(task.key, (task, {}))[1][place] = None
    made = [
        replace(task, points=tuple(places), where=_common([points[k] for k in places]))
        for task, places in found.values()
    ]
    return sorted(made, key=lambda task: task.role != "teacher")


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


class _Planner:
    """Makes the tasks of one point and seed after the other."""

    def __init__(self, first_seed: int) -> None:
        self._first = first_seed
        self._shared: dict[str, Task] = {}
        self._backend = cache(_backend)

    def tasks(self, config: ExperimentConfig, split: Split, seed: int) -> list[Task]:
        """Teachers, then students."""
        data = {
            "kind": config.data.kind, "options": config.data.options, "seed": seed,
            "fingerprint": split.fingerprint,
        }  # fmt: skip
        common = {"experiment": config.name, "schema": SCHEMA, "seed": seed, "data": data,
                  "metric": config.metric,
                  "evaluation": self._evaluation(config, seed)}  # fmt: skip
        teachers = {
            name: self._teacher(config, name, teacher, common, split)
            for name, teacher in config.teachers.items()
        }
        return [*teachers.values(), *self._students(config, common, teachers)]

    def _evaluation(self, config: ExperimentConfig, seed: int) -> dict[str, Any]:
        asked = config.evaluation.model_dump(mode="json", exclude_none=True)
        if seed != self._first:
            asked.pop("feature_maps", None)  # to be looked at, and large
        return {name: value for name, value in asked.items() if value}

    def _students(
        self, config: ExperimentConfig, common: Mapping[str, Any], teachers: Mapping[str, Task]
    ) -> list[Task]:
        found = []
        for student_name, student in config.students.items():
            for variant_name in config.variants_of(student_name):
                variant = config.variants[variant_name]
                for temperature in _temperatures(variant):
                    spec = {
                        **common,
                        "role": "student",
                        "student": student_name,
                        "variant": variant_name,
                        "backend": self._backend(config.backend),
                        **_network(config, student),
                        **_lessons(variant, temperature),
                    }
                    spec["teachers"] = _taught_by(spec["terms"], teachers)
                    needs = [entry["key"] for entry in spec["teachers"].values()]
                    found.append(
                        Task(
                            _key(spec), "student", student_name, variant_name, common["seed"],
                            temperature, spec, tuple(dict.fromkeys(filter(None, needs))),
                            _checkpoints(config, student),
                        )
                    )  # fmt: skip
        return found

    def _teacher(
        self, config: ExperimentConfig, name: str, teacher: TeacherConfig,
        common: Mapping[str, Any], split: Split,
    ) -> Task:  # fmt: skip
        row = teacher_row(name)
        spec = {
            **common,
            "role": "teacher",
            "student": row,
            "variant": config.baseline,
            "backend": self._backend("exact"),
            "sees": teacher.sees,
            **_network(config, teacher),
            "terms": [
                {"loss": "ce", "weight": 1.0, "name": "ce", "options": {}, "teacher": None,
                 "placebo": "none", "layers": None, "adapter": None}
            ],
            "teachers": {},
            "temperature": None,
        }  # fmt: skip
        # What a teacher of the whole pool has seen does not depend on how the pool was divided.
        seen = {
            part: getattr(split, part).fingerprint for part in ("pool", "validation", "test")
        } if teacher.sees == "all" else None  # fmt: skip
        identity = spec if seen is None else {**spec, "data": seen}
        seed = common["seed"]
        task = Task(_key(identity), "teacher", row, config.baseline, seed, None, spec, (),
                    _checkpoints(config, teacher))  # fmt: skip
        if seen is None or not teacher.shared:
            return task
        return self._share(name, task, identity, config.data.kind)

    def _share(self, name: str, task: Task, identity: Mapping[str, Any], data: str) -> Task:
        """The task of the first seed that stands for this one.

        Raises:
            ConfigError: If this seed has another pool, validation or test set.
        """
        varying = ("seed", "data", "evaluation")  # from seed to seed
        settings = {name: value for name, value in identity.items() if name not in varying}
        key = canonical([settings, identity["data"]])
        if task.seed == self._first:
            self._shared.setdefault(key, task)
        if key in self._shared:
            return self._shared[key]
        raise ConfigError(
            f"teachers.{name}: a shared teacher sees the same pool, validation and test set for "
            "every seed",
            got=f"other samples of the data set {data!r} for seed {task.seed} than for seed "
            f"{self._first}",
            expected="data such as fashion_mnist, whose parts do not depend on the seed",
            remedy="Set `shared: false`: one teacher per seed.",
        )


def _taught_by(terms: list[dict[str, Any]], teachers: Mapping[str, Task]) -> dict[str, Any]:
    """Of each teacher that terms name, what its network is made of, and its key if it is trained.

    Of an untrained one the key says nothing, so that its row does not depend on any training.
    """
    found: dict[str, Any] = {}
    for term in terms:
        name = term["teacher"]
        if name is None:
            continue
        task = teachers[name]
        entry = found.setdefault(
            name,
            {"key": None, "kind": task.spec["kind"], "options": task.spec["options"],
             "backend": "exact", "dtype": task.spec["training"]["dtype"]},
        )  # fmt: skip
        if term["placebo"] != "untrained":
            entry["key"] = task.key
    return found


def _checkpoints(config: ExperimentConfig, entry: StudentConfig | TeacherConfig) -> int | None:
    return config.training.overridden(entry.training).checkpoint_epochs


def _network(config: ExperimentConfig, entry: StudentConfig | TeacherConfig) -> dict[str, Any]:
    training = config.training.overridden(entry.training)
    settings = training.model_dump(mode="json", exclude={"checkpoint_epochs"})
    return {"kind": entry.kind, "options": dict(entry.options), "training": settings}


def _temperatures(variant: VariantConfig) -> list[float | None]:
    return [None] if variant.temperature is None else [float(t) for t in variant.temperature]


def _lessons(variant: VariantConfig, temperature: float | None) -> dict[str, Any]:
    """Terms with the temperature filled in where a loss has one and the term does not set it."""
    table = registry("loss")
    terms = []
    for term in variant.terms:
        options = dict(term.options)
        if temperature is not None and has_temperature(table[term.loss]):
            options.setdefault("temperature", temperature)
        teacher, placebo = variant.source(term)
        terms.append(
            {
                "loss": term.loss,
                "weight": term.weight,
                "name": term.name or term.loss,
                "options": options,
                "teacher": teacher,
                "placebo": placebo,
                "layers": term.layers and [term.layers.student, term.layers.teacher],
                "adapter": term.adapter,
            }
        )
    return {"terms": terms, "temperature": temperature}


def _backend(name: str) -> dict[str, Any]:
    """Name and settings of a backend: a changed entry in the backend file is another task."""
    from qiskit_kd.execution.backends import load_backend

    settings = load_backend(name).describe()
    del settings["source"]  # where the file lies does not matter
    return settings


def _key(spec: Mapping[str, Any]) -> str:
    data = dict(spec["data"])
    if "options" in data:
        data["options"] = {k: v for k, v in data["options"].items() if k not in _WHEREABOUTS}
    return hashlib.sha256(canonical({**spec, "data": data}).encode()).hexdigest()
