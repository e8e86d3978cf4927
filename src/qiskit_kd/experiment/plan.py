# SPDX-License-Identifier: Apache-2.0
"""From a configuration to tasks: one per (student, variant, seed, candidate), one per teacher.

A task's key is the hash of everything its row depends on: its resolved settings, the fingerprints
of the data it sees (not where the files lie), the keys of its teachers, and the version of the
schema. Tasks that are equal at several points of the axes are one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from qiskit_kd.errors import ConfigError, QiskitKDError
from qiskit_kd.experiment.checks import faults_of_parts
from qiskit_kd.experiment.config import ExperimentConfig, Point
from qiskit_kd.experiment.parts import registry
from qiskit_kd.experiment.places import Opened, open_backend
from qiskit_kd.experiment.planner import Planner, Task
from qiskit_kd.experiment.rehearsal import Rehearsal
from qiskit_kd.experiment.store import canonical

if TYPE_CHECKING:
    from qiskit_kd.data import Split

__all__ = ["Task", "plan"]

_OF_NETWORKS = (
    "backend", "backends", "evaluation", "students", "teacher", "teachers", "variants",
)  # fmt: skip


def plan(config: ExperimentConfig, *, opened: Opened = open_backend) -> list[Task]:
    """All tasks of an experiment, teachers first, then seed by seed.

    Args:
        config: The experiment.
        opened: From the entry of a backend to the backend that networks are tried out on.

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
    rehearsal, planner = Rehearsal(opened), Planner(config.seeds[0])
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
    _check_axes(config, points, [places for _, places in found.values()])
    made = [
        replace(task, points=tuple(places), where=_common([points[k] for k in places]))
        for task, places in found.values()
    ]
    return sorted(made, key=lambda task: task.role != "teacher")


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
        if all(line <= set(places) or line.isdisjoint(places)
               for line in lines.values() for places in tasks):  # fmt: skip
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
