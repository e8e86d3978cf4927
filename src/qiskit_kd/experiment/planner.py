# SPDX-License-Identifier: Apache-2.0
"""The tasks of one point of a study and one seed: their specs, keys and teachers.

Two variants of one student and seed differ in their losses, teachers and backends alone, so they
share split, initial weights and batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import ConfigError
from qiskit_kd.experiment.config import (
    ExperimentConfig,
    StudentConfig,
    TeacherConfig,
    TrainingOverrides,
    VariantConfig,
    teacher_row,
)
from qiskit_kd.experiment.parts import has_temperature, registry
from qiskit_kd.experiment.places import DEVICE, backend_entry
from qiskit_kd.experiment.sections import Label
from qiskit_kd.experiment.store import SCHEMA, canonical
from qiskit_kd.registry import plugin_digest

if TYPE_CHECKING:
    from qiskit_kd.data import Split

__all__ = ["Planner", "Task"]

# Options of data sets that say where samples come from: what they are is in the fingerprint, so
# that a folder may be moved without training everything again.
_WHEREABOUTS = frozenset({"download", "path", "root"})
_OF_STUDENTS = ("backend", "shots", "side_by_side", "teacher")  # in `evaluation`


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
        return {
            "key": self.key,
            "role": self.role,
            "student": self.student,
            "variant": self.variant,
            "seed": self.seed,
            "candidate": dict(self.candidate),
            "label": self.label,
            "points": list(self.points),
        }


class Planner:
    """Makes the tasks of one point and seed after the other."""

    def __init__(self, first_seed: int) -> None:
        self._first = first_seed
        self._shared: dict[str, Task] = {}
        self._entries: dict[str, dict[str, Any]] = {}

    def _backend(self, config: ExperimentConfig, name: str) -> dict[str, Any]:
        """The entry of a backend, described once however many tasks name it."""
        own = config.backends.get(name)
        key = canonical([name, own and own.model_dump()])
        if key not in self._entries:
            self._entries[key] = backend_entry(config, name)
        return self._entries[key]

    def tasks(self, config: ExperimentConfig, split: Split, seed: int) -> list[Task]:
        """Teachers, then students."""
        data = {
            "kind": config.data.kind, "options": config.data.options, "seed": seed,
            "fingerprint": split.fingerprint,
        }  # fmt: skip
        common = {"experiment": config.name, "schema": SCHEMA, "seed": seed, "data": data,
                  "metric": config.metric}  # fmt: skip
        asked = self._evaluation(config, seed)
        of_all = {key: value for key, value in asked.items() if key not in _OF_STUDENTS}
        teachers = {
            name: self._teacher(config, name, teacher, {**common, "evaluation": of_all}, split)
            for name, teacher in config.teachers.items()
        }
        students = self._students(config, {**common, "evaluation": asked}, teachers, split)
        return [*teachers.values(), *students]

    def _evaluation(self, config: ExperimentConfig, seed: int) -> dict[str, Any]:
        asked = config.evaluation.model_dump(mode="json", exclude_none=True)
        if seed != self._first:
            asked.pop("feature_maps", None)  # to be looked at, and large
            asked.pop("side_by_side", None)  # to be looked at, and slow
        if "backend" in asked:
            asked["backend"] = self._backend(config, asked["backend"])
        if "side_by_side" in asked:
            beside = asked["side_by_side"]
            entries = [self._backend(config, name) for name in beside["backends"]]
            asked["side_by_side"] = {**beside, "backends": entries}
        return {name: value for name, value in asked.items() if value}

    def _students(
        self, config: ExperimentConfig, common: Mapping[str, Any], teachers: Mapping[str, Task],
        split: Split,
    ) -> list[Task]:  # fmt: skip
        found = []
        for student_name, student in config.students.items():
            for variant_name in config.variants_of(student_name):
                variant = config.variants[variant_name]
                for candidate in config.candidates(student_name, variant_name):
                    spec = {
                        **common,
                        "role": "student",
                        "student": student_name,
                        "variant": variant_name,
                        "backend": self._backend(config, variant.backend or config.backend),
                        **_network(config, student, candidate),
                        **_lessons(variant, candidate),
                    }
                    spec["teachers"] = _taught_by(spec["terms"], teachers)
                    judge = config.evaluation.teacher
                    if judge is not None:
                        entry = _name_teacher(spec["teachers"], judge, teachers)
                        entry["key"] = teachers[judge].key
                    stage = variant.fine_tune
                    if stage is not None:
                        spec["fine_tune"] = {
                            "backend": self._backend(config, stage.backend),
                            "training": _training(config, student, candidate, stage.training),
                        }
                    identity: Mapping[str, Any] = spec
                    if variant.sees == "all":
                        spec["sees"] = "all"
                        own = variant.training.model_dump(mode="json", exclude_none=True)
                        spec["training"] = _on_the_pool(spec["training"], own, split)
                        if stage is not None:
                            second = spec["fine_tune"]
                            second["training"] = _on_the_pool(second["training"], {}, split)
                        identity = {**spec, "data": _seen(split)}
                    needs = [entry["key"] for entry in spec["teachers"].values()]
                    found.append(
                        Task(
                            _key(identity), "student", student_name, variant_name, common["seed"],
                            candidate, spec, tuple(dict.fromkeys(filter(None, needs))),
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
            "backend": self._backend(config, "exact"),
            "sees": teacher.sees,
            **_network(config, teacher, {}),
            "terms": [
                {"loss": "ce", "weight": 1.0, "name": "ce", "options": {}, "teacher": None,
                 "placebo": "none", "layers": None, "adapter": None}
            ],
            "teachers": {},
            "candidate": {},
        }  # fmt: skip
        # What a teacher of the whole pool has seen does not depend on how the pool was divided.
        seen = _seen(split) if teacher.sees == "all" else None
        identity = spec if seen is None else {**spec, "data": seen}
        seed = common["seed"]
        task = Task(_key(identity), "teacher", row, config.baseline, seed, {}, spec, (),
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


def _taught_by(terms: list[dict[str, Any]], teachers: Mapping[str, Task]) -> dict[str, Any]:
    """Of each teacher that terms name, what its network is made of, and its key if it is trained.

    Of an untrained one the key says nothing, so that its row does not depend on any training.
    """
    found: dict[str, Any] = {}
    for term in terms:
        name = term["teacher"]
        if name is None:
            continue
        entry = _name_teacher(found, name, teachers)
        if term["placebo"] != "untrained":
            entry["key"] = teachers[name].key
    return found


def _name_teacher(found: dict[str, Any], name: str, teachers: Mapping[str, Task]) -> dict[str, Any]:
    """The entry of a teacher, made if it is not there yet."""
    spec = teachers[name].spec
    entry: dict[str, Any] = found.setdefault(
        name,
        {"key": None, "kind": spec["kind"], "options": spec["options"], "backend": "exact",
         "dtype": spec["training"]["dtype"]},
    )  # fmt: skip
    return entry


def _checkpoints(config: ExperimentConfig, entry: StudentConfig | TeacherConfig) -> int | None:
    return config.training.overridden(entry.training).checkpoint_epochs


def _network(
    config: ExperimentConfig, entry: StudentConfig | TeacherConfig, candidate: Mapping[str, Label]
) -> dict[str, Any]:
    own = entry.candidates if isinstance(entry, StudentConfig) else {}
    return {
        "kind": entry.kind,
        "options": {**entry.options, **{k: v for k, v in candidate.items() if k in own}},
        "training": _training(config, entry, candidate),
    }  # fmt: skip


def _training(
    config: ExperimentConfig, entry: StudentConfig | TeacherConfig,
    candidate: Mapping[str, Label], stage: TrainingOverrides | None = None,
) -> dict[str, Any]:  # fmt: skip
    training = config.training.overridden(entry.training)
    if "learning_rate" in candidate:
        training = training.model_copy(update={"learning_rate": candidate["learning_rate"]})
    if stage is not None:
        training = training.overridden(stage)
    return training.model_dump(mode="json", exclude={"checkpoint_epochs"})


def _lessons(variant: VariantConfig, candidate: Mapping[str, Label]) -> dict[str, Any]:
    """Terms with a candidate's weights, and its temperature where a loss has one of none set."""
    table, temperature = registry("loss"), candidate.get("temperature")
    terms = []
    for term in variant.terms:
        options = dict(term.options)
        if temperature is not None and has_temperature(table[term.loss]):
            options.setdefault("temperature", temperature)
        teacher, placebo = variant.source(term)
        terms.append(
            {
                "loss": term.loss,
                "weight": candidate.get(f"weight of {term.label}", term.weight),
                "name": term.label,
                "options": options,
                "teacher": teacher,
                "placebo": placebo,
                "layers": term.layers and [term.layers.student, term.layers.teacher],
                "adapter": term.adapter,
            }
        )
    return {"terms": terms, "candidate": dict(candidate)}


def _key(spec: Mapping[str, Any]) -> str:
    data = dict(spec["data"])
    if "options" in data:
        data["options"] = {k: v for k, v in data["options"].items() if k not in _WHEREABOUTS}
    lasting = {**_lasting({**spec, "data": data}), **_plugins(spec)}
    return hashlib.sha256(canonical(lasting).encode()).hexdigest()


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


def _circuit_digest(ansatz: object) -> object:
    """Of a circuit file what it holds, wherever it lies; a name as it is."""
    if not isinstance(ansatz, str) or not ansatz.lower().endswith((".qasm", ".qpy")):
        return ansatz
    try:
        return "sha256:" + hashlib.sha256(Path(ansatz).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            "the circuit file of an ansatz can be read", got=f"{ansatz}: {error.strerror}",
            remedy="Paths are relative to the experiment file.",
        ) from error  # fmt: skip


def _lasting(part: Any) -> Any:
    """Without those settings of devices that do not change results, such as budgets.

    The entry of a backend describes what results depend on; its `settings` say that again, and more
    where the backend is the study's own.
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
