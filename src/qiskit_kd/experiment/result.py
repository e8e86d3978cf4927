# SPDX-License-Identifier: Apache-2.0
"""`StudyResult`: what a study found: rows of chosen candidates, comparisons, verdict.

Everything is said point by point of the study's axes; without axes there is one point, `{}`. Rows
of candidates that were not chosen stay in `candidates`; nothing looks at their test metrics.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from qiskit_kd.errors import ConfigError
from qiskit_kd.experiment.choice import Row, choose
from qiskit_kd.experiment.config import ExperimentConfig, Point
from qiskit_kd.experiment.schema import Label
from qiskit_kd.experiment.statistics import Gain, collapsed, contrast, verdict
from qiskit_kd.experiment.store import canonical

METRICS = ("accuracy", "macro_f1")
_BEATS = {"confirmed": "beats", "harmful": "loses to", "not confirmed": "does not beat"}
_FEW = 3


@dataclass(frozen=True)
class Axis:
    """One of the axes of a study."""

    title: str
    """For people; its name where the experiment gives none."""
    values: tuple[Label, ...]
    """Its values or labels, in order."""


@dataclass(frozen=True)
class StudyResult:
    """A finished, or partly finished, study."""

    name: str
    config: dict[str, Any]
    """The resolved configuration."""
    candidates: tuple[Row, ...]
    """Every finished row of the plan at every point it stands for, chosen or not."""
    failures: Mapping[str, Mapping[str, str]]
    """Label, error and traceback of tasks without a row, by key."""
    missing: int
    """Tasks of the plan without a row, failed ones included."""
    command: str
    """The command that reproduces it."""
    environment: Mapping[str, str]
    """Versions and machine that the first rows come from."""
    environments: Sequence[Mapping[str, str]] = ()
    """All that rows come from, the first one first."""
    jobs: Sequence[Mapping[str, Any]] = ()
    """Its jobs on devices in the order in which they were intended, see `spending.jobs_of`."""
    spent: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """What they have cost, by backend: `jobs`, `executions`, `seconds`, `usd`, `budget_seconds`."""
    estimate: Mapping[str, Any] | None = None
    """What was expected of them before the study was run, see `Estimate.as_dict`."""
    specs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each row is made from, by its key; none of rows that an older version wrote."""

    @cached_property
    def _config(self) -> ExperimentConfig:
        return ExperimentConfig.model_validate(self.config)

    @cached_property
    def axes(self) -> dict[str, Axis]:
        """The axes by name; empty without."""
        return {
            name: Axis(axis.title or name, tuple(axis.labels))
            for name, axis in self._config.axes.items()
        }

    @cached_property
    def points(self) -> list[Point]:
        """Every combination of the axes' values; `[{}]` without axes."""
        return self._config.points()

    @cached_property
    def _settings(self) -> list[ExperimentConfig]:
        """The configuration of each point."""
        return [self._config.at(point) for point in self.points]

    @cached_property
    def rows(self) -> list[Row]:
        """One row per point, student, variant and seed, of the chosen candidate; teachers first.

        Each has its `point`. A teacher that several points share has a row at each of them.
        """
        grouped: dict[str, list[Row]] = {canonical(point): [] for point in self.points}
        for row in self.candidates:
            grouped[canonical(row.get("point", {}))].append(row)
        return [
            {**row, "point": point}
            for point, settings in zip(self.points, self._settings, strict=True)
            for row in choose(grouped[canonical(point)], settings)
        ]

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """Mean test metrics by point, student and variant."""
        return [
            {
                **self._where(place),
                "student": student, "variant": variant, "parameters": rows[0]["parameters"],
                "n": len(rows),
                **{m: float(np.mean([row["test"][m] for row in rows])) for m in METRICS},
                "collapsed": collapsed_of(rows),
            }
            for (place, student, variant), rows in self._cells.items()
        ]  # fmt: skip

    @cached_property
    def comparisons(self) -> list[dict[str, Any]]:
        """Paired gains: every variant against the baseline, taught ones against every control."""
        found = []
        for place, config in enumerate(self._settings):
            pairs = [(v, config.baseline) for v in config.variants if v != config.baseline]
            pairs += [(v, control) for v in config.taught() for control in config.controls()]
            for student in config.students:
                for variant, baseline in pairs:
                    for metric in METRICS:
                        gain = self._gain(place, student, variant, baseline, metric)
                        if gain is None:
                            continue
                        found.append(
                            {
                                **self._where(place),
                                "student": student,
                                "variant": variant,
                                "baseline": baseline,
                                "metric": metric,
                                "gain": gain.mean,
                                "ci95": [_number(gain.low), _number(gain.high)],
                                "n": gain.n,
                                "verdict": verdict(gain),
                                "shared": gain.shared,
                                "p_sign_flip": gain.p,
                            }
                        )
        return found

    def gain(
        self, student: str, variant: str, baseline: str, *, metric: str = "accuracy",
        point: Mapping[str, Label] | None = None,
    ) -> Gain | None:  # fmt: skip
        """Paired gain on the test split over the seeds that both have finished; None if none.

        Args:
            student: A student of the study.
            variant: What is compared.
            baseline: With what.
            metric: `"accuracy"` or `"macro_f1"`.
            point: One of `points`; needed where there are several.

        Raises:
            ConfigError: If the study has no such point.
        """
        if point is None and len(self.points) == 1:
            point = self.points[0]
        if point not in self.points:
            raise ConfigError(
                "a gain is measured at one point of the study's axes", got=repr(point),
                expected=f"for example {self.points[0]}", remedy="See StudyResult.points.",
            )  # fmt: skip
        return self._gain(self.points.index(dict(point)), student, variant, baseline, metric)

    def _gain(
        self, place: int, student: str, variant: str, baseline: str, metric: str = "accuracy"
    ) -> Gain | None:
        left, right = (self._cells.get((place, student, n), []) for n in (variant, baseline))
        return contrast(left, right, metric)

    @cached_property
    def headline(self) -> tuple[str, str] | None:
        """Student and variant that the first line is about."""
        student, config = str(self.config["headline"]), self._settings[0]
        taught = [name for name in config.variants_of(student) if name in config.taught()]
        return (student, taught[0]) if taught else None

    @cached_property
    def verdict(self) -> str:
        """The first line: the headline gain, its interval and n, also over every control.

        Controls are placebos and other trainings without a teacher. With axes: at how many points
        it is confirmed, not confirmed or harmful.
        """
        if self.headline is None:
            return f"no verdict: no variant of {self.config['headline']} has a teacher"
        (student, variant), config = self.headline, self._settings[0]
        versus = {
            name: found
            for name in (config.baseline, *config.controls())
            if (found := self._gains(student, variant, name))
        }
        if config.baseline not in versus:
            return f"no verdict: {student} has no seed with both {variant} and {config.baseline}"
        if not self.axes:
            said = [f"{_BEATS[verdict(g[0])]} {name} {g[0]}" for name, g in versus.items()]
            lead = versus[config.baseline][0]
            said[0] = f"{verdict(lead)}: {student} {variant} against {config.baseline} {lead}"
            if lead.n > 1:
                said[0] += f", sign-flip p = {lead.p:.2g}"
        else:
            said = [self._counted(name, found) for name, found in versus.items()]
            said[0] = f"{student} {variant} {said[0]}"
        if not any(config.variants[name].is_placebo for name in config.controls()):
            said.append("no placebo was run")
        tried = {name: len(config.candidates(student, name)) for name in versus}
        most = len(config.candidates(student, variant))
        said += [
            f"{name} was tuned less: {count} of {most} candidates"
            for name, count in tried.items()
            if count < most
            and any(placebo != "none" for _, placebo in config.variants[name].sources)
        ]
        fallen = {
            name: count
            for name in (variant, *versus)
            if (count := sum(
                collapsed_of(cell) for (_, s, v), cell in self._cells.items()
                if (s, v) == (student, name)
            ))
        }  # fmt: skip
        said += [
            f"{count} seed{'s' * (count > 1)} of {name} collapsed" for name, count in fallen.items()
        ]
        if any(gain.shared for found in versus.values() for gain in found.values()):
            said.append("intervals allow for samples that seeds share")
        said += filter(None, [longer_training(self.rows, student, variant, config.baseline)])
        return f"test accuracy, {'; '.join(said)}"

    def _counted(self, baseline: str, found: Mapping[int, Gain]) -> str:
        """At how many points a gain has which verdict, and at which where they are few."""
        parts = []
        for name in ("confirmed", "not confirmed", "harmful"):
            places = [place for place, gain in found.items() if verdict(gain) == name]
            listed = "; ".join(_words(self.points[place]) for place in places)
            few = f" ({listed})" if name != "not confirmed" and 0 < len(places) <= _FEW else ""
            parts.append(f"{name} at {len(places)}{few}")
        return (
            f"against {baseline} at {len(found)} of {len(self.points)} points: {', '.join(parts)}"
        )

    def _gains(self, student: str, variant: str, baseline: str) -> dict[int, Gain]:
        """The gain at every point that has one."""
        found = {
            place: self._gain(place, student, variant, baseline)
            for place in range(len(self.points))
        }
        return {place: gain for place, gain in found.items() if gain is not None}

    @property
    def title(self) -> str:
        """Title for people."""
        return str(self.config.get("title") or self.name)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the resolved configuration."""
        return hashlib.sha256(canonical(self.config).encode()).hexdigest()

    def _where(self, place: int) -> dict[str, Any]:
        """What entries say of their point; nothing in a study without axes."""
        return {"point": self.points[place]} if self.axes else {}

    @cached_property
    def _cells(self) -> dict[tuple[int, str, str], list[Row]]:
        places = {canonical(point): place for place, point in enumerate(self.points)}
        cells: dict[tuple[int, str, str], list[Row]] = {}
        for row in self.rows:
            key = places[canonical(row["point"])], row["student"], row["variant"]
            cells.setdefault(key, []).append(row)
        return cells


def collapsed_of(rows: Sequence[Row]) -> int:
    """Seeds of one student and variant that collapsed, see `statistics.collapsed`."""
    classes = len(rows[0].get("distribution") or ()) if rows else 0
    if classes < 2:
        return 0
    return collapsed([row["test"]["accuracy"] for row in rows], classes)


def longer_training(rows: Sequence[Row], student: str, variant: str, baseline: str) -> str:
    """What a variant was given of training that its baseline was not; empty where it is the same.

    Args:
        rows: Of a study.
        student: Whose.
        variant: What is compared.
        baseline: With what.
    """
    seen: dict[str, tuple[set[int], bool]] = {}
    for name in (variant, baseline):
        mine = [row for row in rows if (row["student"], row["variant"]) == (student, name)]
        steps = {int(row["steps_per_epoch"]) for row in mine if "steps_per_epoch" in row}
        seen[name] = steps, any("fine_tuning" in row for row in mine)
    (steps, twice), (others, also) = seen[variant], seen[baseline]
    said = []
    if steps and others and steps != others:
        said.append(
            f"unequal steps: {variant} took {_listed(steps)} an epoch and {baseline} "
            f"{_listed(others)}, so a gain may come from training for longer"
        )
    if twice and not also:
        said.append(f"only {variant} had a second stage of training, not {baseline}")
    return "; ".join(said)


def _listed(numbers: set[int]) -> str:
    return " or ".join(map(str, sorted(numbers)))


def _words(point: Point) -> str:
    return ", ".join(f"{name} {value}" for name, value in point.items())


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def environment() -> dict[str, str]:
    """Versions of what computed the numbers, and the machine."""
    names = (
        "qiskit-kd",
        "qiskit",
        "qiskit-aer",
        "qiskit-machine-learning",
        "torch",
        "numpy",
        "scipy",
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["system"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return found
