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
from qiskit_kd.experiment.config import ExperimentConfig, Point
from qiskit_kd.experiment.schema import Label, is_teacher, teacher_row
from qiskit_kd.experiment.statistics import Gain, collapsed, contrast, verdict
from qiskit_kd.experiment.store import canonical

Row = Mapping[str, Any]
METRICS = ("accuracy", "macro_f1")
_BEATS = {"confirmed": "beats", "harmful": "loses to", "not confirmed": "does not beat"}
_FEW = 3
_PACKAGES = "qiskit-kd qiskit qiskit-aer qiskit-machine-learning torch numpy scipy"


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
        axes = self._config.axes.items()
        return {name: Axis(axis.title or name, tuple(axis.labels)) for name, axis in axes}

    @cached_property
    def points(self) -> list[Point]:
        """Every combination of the axes' values; `[{}]` without axes."""
        return self._config.points()

    @cached_property
    def _settings(self) -> list[ExperimentConfig]:
        """The configuration of each point."""
        return [here.config for here in self._config.resolved_points]

    @cached_property
    def rows(self) -> list[Row]:
        """One row per point, student, variant and seed, of the chosen candidate; teachers first.

        Each has its `point`. A teacher that several points share has a row at each of them.
        """
        return [row for _, rows in self._by_point for row in rows]

    @cached_property
    def _by_point(self) -> list[tuple[Point, list[Row]]]:
        grouped: dict[str, list[Row]] = {canonical(point): [] for point in self.points}
        for row in self.candidates:
            grouped[canonical(row.get("point", {}))].append(row)
        return [
            (point, [{**row, "point": point} for row in choose(rows, config)])
            for point, config, rows in zip(
                self.points, self._settings, grouped.values(), strict=True
            )
        ]

    @cached_property
    def _cells(self) -> dict[tuple[int, str, str], list[Row]]:
        cells: dict[tuple[int, str, str], list[Row]] = {}
        for place, (_, rows) in enumerate(self._by_point):
            for row in rows:
                cells.setdefault((place, row["student"], row["variant"]), []).append(row)
        return cells

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """Mean test metrics by point, student and variant."""
        found = []
        for (place, student, variant), rows in self._cells.items():
            entry = {**self._where(place), "student": student, "variant": variant}
            entry |= {"parameters": rows[0]["parameters"], "n": len(rows)}
            entry |= {m: float(np.mean([row["test"][m] for row in rows])) for m in METRICS}
            found.append({**entry, "collapsed": collapsed_of(rows)})
        return found

    @cached_property
    def comparisons(self) -> list[dict[str, Any]]:
        """Paired gains: every variant against the baseline, taught ones against every control."""
        return [
            {
                **self._where(place),
                "student": student,
                "variant": variant,
                "baseline": baseline,
                "metric": metric,
                "gain": gain.mean,
                "ci95": [end if math.isfinite(end) else None for end in (gain.low, gain.high)],
                "n": gain.n,
                "verdict": verdict(gain),
                "shared": gain.shared,
                "p_sign_flip": gain.p,
            }
            for place, config in enumerate(self._settings)
            for student in config.students
            for variant, baseline in (
                *((v, config.baseline) for v in config.variants if v != config.baseline),
                *((v, control) for v in config.taught() for control in config.controls()),
            )
            for metric in METRICS
            if (gain := self._gain(place, student, variant, baseline, metric)) is not None
        ]

    def gain(
        self,
        student: str,
        variant: str,
        baseline: str,
        *,
        metric: str = "accuracy",
        point: Mapping[str, Label] | None = None,
    ) -> Gain | None:
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
                "a gain is measured at one point of the study's axes",
                got=repr(point),
                expected=f"for example {self.points[0]}",
                remedy="See StudyResult.points.",
            )
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
        most = len(config.candidates(student, variant))
        said += [
            f"{name} was tuned less: {count} of {most} candidates"
            for name in versus
            if (count := len(config.candidates(student, name))) < most
            and any(placebo != "none" for _, placebo in config.variants[name].sources)
        ]
        for name in (variant, *versus):
            cells = [cell for (_, *key), cell in self._cells.items() if key == [student, name]]
            if count := sum(map(collapsed_of, cells)):
                said.append(f"{count} seed{'s' * (count > 1)} of {name} collapsed")
        if any(gain.shared for found in versus.values() for gain in found.values()):
            said.append("intervals allow for samples that seeds share")
        said += filter(None, [longer_training(self.rows, student, variant, config.baseline)])
        return f"test accuracy, {'; '.join(said)}"

    def _counted(self, baseline: str, found: Mapping[int, Gain]) -> str:
        """At how many points a gain has which verdict, and at which where they are few."""
        parts = []
        for name in ("confirmed", "not confirmed", "harmful"):
            points = [self.points[place] for place, gain in found.items() if verdict(gain) == name]
            few = ""
            if name != "not confirmed" and 0 < len(points) <= _FEW:
                words = (", ".join(f"{axis} {value}" for axis, value in p.items()) for p in points)
                few = f" ({'; '.join(words)})"
            parts.append(f"{name} at {len(points)}{few}")
        listed = ", ".join(parts)
        return f"against {baseline} at {len(found)} of {len(self.points)} points: {listed}"

    def _gains(self, student: str, variant: str, baseline: str) -> dict[int, Gain]:
        """The gain at every point that has one."""
        gains = {k: self._gain(k, student, variant, baseline) for k in range(len(self.points))}
        return {place: gain for place, gain in gains.items() if gain is not None}

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


def choose(candidates: Sequence[Row], config: ExperimentConfig) -> list[Row]:
    """Of each student, variant and seed of one point the row of the candidate validation prefers.

    `over_seeds`: the candidate with the best mean over the seeds that all candidates have
    finished. `per_seed`: each seed for itself. Ties go to the smaller validation loss, then to the
    candidate listed first.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in candidates:
        groups.setdefault((row["student"], row["variant"]), []).append(row)
    chosen: list[Row] = []
    teachers = [(teacher_row(name), config.baseline) for name in config.teachers]
    students = [(s, v) for s in config.students for v in config.variants_of(s)]
    for student, variant in [*teachers, *students]:
        listed = [{}] if is_teacher(student) else config.candidates(student, variant)
        found: dict[tuple[Label, ...], dict[int, Row]] = {}
        for row in groups.get((student, variant), ()):
            own = tuple(row["options"][name] for name in listed[0])
            found.setdefault(own, {})[row["seed"]] = row
        ranked = [key for item in listed if (key := tuple(item.values())) in found]
        for seed in config.seeds:
            shared = [s for s in config.seeds if all(s in found[key] for key in ranked)]
            judged = [seed] if config.selection == "per_seed" else shared
            best = max(
                ranked,
                key=lambda key: _merit([found[key].get(s) for s in judged], config),
                default=None,
            )
            if best is not None and seed in found[best]:
                chosen.append(found[best][seed])
    return chosen


def _merit(rows: Sequence[Row | None], config: ExperimentConfig) -> tuple[float, float]:
    known = [row["validation"] for row in rows if row is not None]
    if not known:
        return (-math.inf, -math.inf)
    accuracy = float(np.mean([v["accuracy"] for v in known]))
    losses = [math.inf if v["nll"] is None else v["nll"] for v in known]
    loss = -float(np.mean(losses))
    return (accuracy, loss) if config.metric == "accuracy" else (loss, accuracy)


def collapsed_of(rows: Sequence[Row]) -> int:
    """Seeds of one student and variant that collapsed, see `statistics.collapsed`."""
    classes = len(rows[0].get("distribution") or ()) if rows else 0
    if classes < 2:
        return 0
    return collapsed([row["test"]["accuracy"] for row in rows], classes)


def longer_training(rows: Sequence[Row], student: str, variant: str, baseline: str) -> str:
    """What a variant had of training that its baseline had not; empty where it is the same."""
    seen: list[tuple[list[int], bool]] = []
    for name in (variant, baseline):
        mine = [row for row in rows if (row["student"], row["variant"]) == (student, name)]
        own = {int(row["steps_per_epoch"]) for row in mine if "steps_per_epoch" in row}
        seen.append((sorted(own), any("fine_tuning" in row for row in mine)))
    (steps, twice), (others, also) = seen
    said = []
    if steps and others and steps != others:
        took, other = (" or ".join(map(str, numbers)) for numbers in (steps, others))
        said.append(
            f"unequal steps: {variant} took {took} an epoch and {baseline} {other}, so a gain may "
            "come from training for longer"
        )
    if twice and not also:
        said.append(f"only {variant} had a second stage of training, not {baseline}")
    return "; ".join(said)


def environment() -> dict[str, str]:
    """Versions of what computed the numbers, and the machine."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES.split():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["system"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return found
