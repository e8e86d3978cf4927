# SPDX-License-Identifier: Apache-2.0
"""`StudyResult`: what a study found, from its rows: the chosen temperatures, table, comparisons.

A temperature is chosen by the validation split alone. Rows of the candidates that were not chosen
stay in `candidates`; nothing looks at their test metrics.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from qiskit_kd.experiment.config import TEACHER_ROW, ExperimentConfig
from qiskit_kd.experiment.statistics import Gain, paired_gain, verdict
from qiskit_kd.experiment.store import canonical

__all__ = ["StudyResult", "choose", "environment"]

Row = Mapping[str, Any]
METRICS = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class StudyResult:
    """A finished, or partly finished, study."""

    name: str
    config: dict[str, Any]
    """The resolved configuration."""
    candidates: tuple[Row, ...]
    """Every finished row of the plan, all temperatures."""
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

    @cached_property
    def _config(self) -> ExperimentConfig:
        return ExperimentConfig.model_validate(self.config)

    @cached_property
    def rows(self) -> list[Row]:
        """One row per student, variant and seed, at the chosen temperature; the teacher first."""
        return choose(self.candidates, self._config)

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """Mean test metrics by student and variant."""
        return [
            {
                "student": student, "variant": variant, "parameters": rows[0]["parameters"],
                "n": len(rows),
                **{m: float(np.mean([row["test"][m] for row in rows])) for m in METRICS},
            }
            for (student, variant), rows in self._cells.items()
        ]  # fmt: skip

    @cached_property
    def comparisons(self) -> list[dict[str, Any]]:
        """Paired gains: every variant against the baseline, taught ones against every control."""
        config = self._config
        pairs = [(v, config.baseline) for v in config.variants if v != config.baseline]
        pairs += [(v, control) for v in config.taught() for control in config.controls()]
        found = []
        for student in config.students:
            for variant, baseline in pairs:
                for metric in METRICS:
                    gain = self.gain(student, variant, baseline, metric=metric)
                    if gain is not None:
                        found.append(
                            {
                                "student": student,
                                "variant": variant,
                                "baseline": baseline,
                                "metric": metric,
                                "gain": gain.mean,
                                "ci95": [_number(gain.low), _number(gain.high)],
                                "n": gain.n,
                                "verdict": verdict(gain),
                            }
                        )
        return found

    def gain(
        self, student: str, variant: str, baseline: str, *, metric: str = "accuracy"
    ) -> Gain | None:
        """Paired gain on the test split over the seeds that both have finished; None if none."""
        left, right = (
            {row["seed"]: row["test"][metric] for row in self._cells.get((student, name), ())}
            for name in (variant, baseline)
        )
        seeds = sorted(left.keys() & right.keys())
        return paired_gain([left[s] for s in seeds], [right[s] for s in seeds]) if seeds else None

    @cached_property
    def headline(self) -> tuple[str, str] | None:
        """Student and variant that the first line is about."""
        taught = self._config.taught()
        if not taught:
            return None
        return str(self.config["headline"]), taught[0]

    @cached_property
    def verdict(self) -> str:
        """The first line: the headline gain, its interval and n, and how the placebos did."""
        if self.headline is None:
            return "no verdict: no variant has a teacher"
        student, variant = self.headline
        gain = self.gain(student, variant, self._config.baseline)
        if gain is None:
            return (
                f"no verdict: {student} has no seed with both {variant} and {self._config.baseline}"
            )
        parts = [f"{verdict(gain)}: {student} {variant} against {self._config.baseline} {gain}"]
        for control in self._config.controls():
            against = self.gain(student, variant, control)
            if against is not None:
                says = {"confirmed": "beats", "harmful": "loses to"}.get(
                    verdict(against), "does not beat"
                )
                parts.append(f"{says} {control} {against}")
        if not self._config.controls():
            parts.append("no placebo was run")
        return f"test accuracy, {parts[0]}; {'; '.join(parts[1:])}"

    @property
    def title(self) -> str:
        """Title for people."""
        return str(self.config.get("title") or self.name)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the resolved configuration."""
        return hashlib.sha256(canonical(self.config).encode()).hexdigest()

    @cached_property
    def _cells(self) -> dict[tuple[str, str], list[Row]]:
        cells: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            cells.setdefault((row["student"], row["variant"]), []).append(row)
        return cells


def choose(candidates: Sequence[Row], config: ExperimentConfig) -> list[Row]:
    """Of each student, variant and seed the row at the temperature that validation prefers.

    `over_seeds`: the temperature with the best mean over the seeds that all candidates have
    finished. `per_seed`: each seed for itself. Ties go to the smaller validation loss, then to the
    candidate listed first.
    """
    groups: dict[tuple[str, str], dict[float | None, dict[int, Row]]] = {}
    for row in candidates:
        group = groups.setdefault((row["student"], row["variant"]), {})
        group.setdefault(row["options"]["temperature"], {})[row["seed"]] = row
    chosen: list[Row] = []
    for student, variant in _order(config):
        by_temperature = groups.get((student, variant), {})
        listed = config.variants[variant].temperature
        ranked: list[float | None] = [None]
        if student != TEACHER_ROW and listed is not None:
            ranked = [t for t in listed if t in by_temperature]
        for seed in config.seeds:
            shared = [
                s for s in config.seeds if all(s in by_temperature.get(t, {}) for t in ranked)
            ]
            judged = [seed] if config.selection == "per_seed" else shared
            best = max(
                ranked,
                key=lambda t: _merit([by_temperature.get(t, {}).get(s) for s in judged], config),
                default=None,
            )
            found = by_temperature.get(best, {}).get(seed)
            if found is not None:
                chosen.append(found)
    return chosen


def _merit(rows: Sequence[Row | None], config: ExperimentConfig) -> tuple[float, float]:
    known = [row["validation"] for row in rows if row is not None]
    if not known:
        return (-math.inf, -math.inf)
    accuracy = float(np.mean([v["accuracy"] for v in known]))
    losses = [math.inf if v["nll"] is None else v["nll"] for v in known]
    loss = -float(np.mean(losses))
    return (accuracy, loss) if config.metric == "accuracy" else (loss, accuracy)


def _order(config: ExperimentConfig) -> list[tuple[str, str]]:
    teacher = [] if config.teacher is None else [(TEACHER_ROW, config.baseline)]
    return teacher + [(s, v) for s in config.students for v in config.variants]


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
