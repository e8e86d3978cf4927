# SPDX-License-Identifier: Apache-2.0
"""From a configuration to tasks: one per (student, variant, seed, temperature), one per teacher.

A task's key is the hash of everything its row depends on: its resolved settings, the fingerprint of
its data, the key of its teacher, and the version of the schema. Two variants of one student and
seed differ in their losses and teacher alone, so they share split, initial weights and batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import ConfigError, QiskitKDError
from qiskit_kd.experiment.checks import complaint, has_temperature, registry
from qiskit_kd.experiment.config import TEACHER_ROW, ExperimentConfig, StudentConfig, VariantConfig
from qiskit_kd.experiment.store import SCHEMA, canonical

if TYPE_CHECKING:
    from torch import nn

    from qiskit_kd.data import Split

__all__ = ["Task", "plan"]


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
    needs: str | None = None
    """Key of the teacher's task, if it has to be done first."""
    checkpoint_epochs: int | None = None
    """For long tasks: leave a checkpoint each so many epochs. No part of the key."""

    @property
    def label(self) -> str:
        """For people: which task this is."""
        warm = "" if self.temperature is None else f", temperature {self.temperature:g}"
        return f"{self.student}, {self.variant}, seed {self.seed}{warm}"

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
        }


def plan(config: ExperimentConfig) -> list[Task]:
    """All tasks of an experiment, teachers first, then seed by seed."""
    builder = registry("data set")[config.data.kind]
    backend = _backend(config.backend)
    teachers: list[Task] = []
    students: list[Task] = []
    networks: dict[str, nn.Module] = {}
    for seed in config.seeds:
        try:
            split = builder(seed=seed, **config.data.options)
        except (QiskitKDError, TypeError) as error:
            raise ConfigError(f"data: {error}") from error
        if seed == config.seeds[0]:
            _try_losses(config, split.num_classes)
            networks = _try_networks(config, split)
        _try_samples(networks, split, seed)
        data = {
            "kind": config.data.kind,
            "options": config.data.options,
            "seed": seed,
            "fingerprint": split.fingerprint,
        }
        common = {"experiment": config.name, "schema": SCHEMA, "seed": seed, "data": data,
                  "metric": config.metric}  # fmt: skip
        teacher = None
        if config.teacher is not None:
            teacher = _teacher(config, common)
            teachers.append(teacher)
        for student_name, student in config.students.items():
            for variant_name, variant in config.variants.items():
                for temperature in _temperatures(variant):
                    spec = {
                        **common,
                        "role": "student",
                        "student": student_name,
                        "variant": variant_name,
                        "backend": backend,
                        **_network(config, student),
                        **_lessons(variant, temperature),
                    }
                    needs = None
                    if variant.teacher in ("teacher", "shuffled"):
                        assert teacher is not None  # checked with the configuration
                        needs, spec["taught_by"] = teacher.key, teacher.spec
                    students.append(
                        Task(
                            _key(spec),
                            "student",
                            student_name,
                            variant_name,
                            seed,
                            temperature,
                            spec,
                            needs,
                            _checkpoints(config, student),
                        )
                    )
    return [*teachers, *students]


def _try_losses(config: ExperimentConfig, num_classes: int) -> None:
    """Push a tiny batch through every term.

    Raises:
        ConfigError: Naming every term that refuses, and why.
    """
    table = registry("loss")
    problems = []
    for name, variant in config.variants.items():
        for temperature in _temperatures(variant):
            for position, term in enumerate(_lessons(variant, temperature)["terms"]):
                what = complaint(table[term["loss"]], term["options"], num_classes=num_classes)
                if what is not None:
                    problems.append(f"variants.{name}.terms.{position}: {what}")
    if problems:
        raise ConfigError("\n  ".join(["terms that cannot work:", *dict.fromkeys(problems)]))


def _try_samples(networks: Mapping[str, nn.Module], split: Split, seed: int) -> None:
    """Run the check of every encoding over all samples of a split.

    Raises:
        ConfigError: Naming the network, the part of the split and the row.
    """
    from qiskit_kd.nn.layer import QuantumLayer

    parts = {
        "train": split.train.features, "validation": split.validation.features,
        "test": split.test.features, "transfer": split.transfer, "pool": split.pool.features,
    }  # fmt: skip
    for where, network in networks.items():
        layers = [part for part in network.modules() if isinstance(part, QuantumLayer)]
        for layer in layers:
            if layer.model.num_features != split.num_features:
                continue  # it does not see the samples themselves
            for part, features in parts.items():
                try:
                    layer.model.encoding.check(features)
                except QiskitKDError as error:
                    raise ConfigError(
                        f"{where} cannot encode the {part} samples of seed {seed}: {error}"
                    ) from error


def _try_networks(config: ExperimentConfig, split: Split) -> dict[str, nn.Module]:
    """Build every network once, so that what cannot work is said before anything runs.

    Returns:
        The networks by their place in the configuration.

    Raises:
        ConfigError: Naming every student that cannot be built, and why.
    """
    from qiskit_kd.experiment.task import build_network

    entries: dict[str, tuple[StudentConfig, str]] = {
        f"students.{name}": (entry, config.backend) for name, entry in config.students.items()
    }
    if config.teacher is not None:
        entries["teacher"] = (config.teacher, "exact")
    problems, networks = [], {}
    for where, (entry, backend) in entries.items():
        try:
            networks[where] = build_network(
                entry.kind,
                entry.options,
                split,
                seed=0,
                backend=backend,
                dtype=config.training.overridden(entry.training).dtype,
            )
        except (QiskitKDError, TypeError, ValueError) as error:
            problems.append(f"{where}: {error}")
    if problems:
        raise ConfigError("\n  ".join(["networks that cannot be built:", *problems]))
    return networks


def _teacher(config: ExperimentConfig, common: Mapping[str, Any]) -> Task:
    assert config.teacher is not None
    spec = {
        **common,
        "role": "teacher",
        "student": TEACHER_ROW,
        "variant": config.baseline,
        "backend": _backend("exact"),
        "sees": config.teacher.sees,
        **_network(config, config.teacher),
        "terms": [{"loss": "ce", "weight": 1.0, "name": "ce", "options": {}}],
        "teacher": "none",
        "temperature": None,
    }
    return Task(_key(spec), "teacher", TEACHER_ROW, config.baseline, common["seed"], None, spec,
                None, _checkpoints(config, config.teacher))  # fmt: skip


def _checkpoints(config: ExperimentConfig, student: StudentConfig) -> int | None:
    return config.training.overridden(student.training).checkpoint_epochs


def _network(config: ExperimentConfig, student: StudentConfig) -> dict[str, Any]:
    training = config.training.overridden(student.training)
    settings = training.model_dump(mode="json", exclude={"checkpoint_epochs"})
    return {"kind": student.kind, "options": dict(student.options), "training": settings}


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
        terms.append(
            {
                "loss": term.loss,
                "weight": term.weight,
                "name": term.name or term.loss,
                "options": options,
            }
        )
    return {"terms": terms, "teacher": variant.teacher, "temperature": temperature}


def _backend(name: str) -> dict[str, Any]:
    """Name and settings of a backend: a changed entry in the backend file is another task."""
    from qiskit_kd.execution.backends import load_backend

    settings = load_backend(name).describe()
    del settings["source"]  # where the file lies does not matter
    return settings


def _key(spec: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(spec).encode()).hexdigest()
