# SPDX-License-Identifier: Apache-2.0
"""From rows to the few numbers a report says aloud: means with intervals, paired gains.

Pure functions on plain data (rows and comparisons are dictionaries, as `qiskit_kd.experiment`
stores them); everything a figure, the HTML page and the terminal table agree on lives here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from qiskit_kd.experiment.schema import VariantConfig, is_teacher
from qiskit_kd.experiment.statistics import half_width, paired_gain, shared_variance, verdict
from qiskit_kd.report.palette import BASELINE, look, order_variants, told_apart

__all__ = ["Cell", "Gain", "Result", "Row", "cells", "gains", "headline", "interval", "values"]
__all__ += [
    "ALONE",
    "alone",
    "bounds",
    "is_placebo",
    "is_taught",
    "is_teacher",
    "names_apart",
    "others_of",
    "paired",
    "points",
]
__all__ += ["roles", "rows_of", "students_of", "treatment", "upper_controls", "variants_of"]

T = TypeVar("T")

Row = Mapping[str, Any]
ALONE = "the student alone"


class Result(Protocol):
    """What a report needs to know of a finished study (`experiment.StudyResult` has it)."""

    @property
    def name(self) -> str:
        """The study's name."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """Its resolved configuration."""
        ...

    @property
    def rows(self) -> Sequence[Row]:
        """Its rows, one per student, variant and seed."""
        ...

    @property
    def comparisons(self) -> Sequence[Mapping[str, Any]]:
        """Its paired comparisons."""
        ...

    @property
    def command(self) -> str:
        """The command that repeats it."""
        ...

    @property
    def environment(self) -> Mapping[str, Any]:
        """Versions of what it ran with."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of its resolved configuration."""
        ...

    @property
    def jobs(self) -> Sequence[Mapping[str, Any]]:
        """Its jobs on devices."""
        ...

    @property
    def spent(self) -> Mapping[str, Mapping[str, float | None]]:
        """What they have cost, by backend."""
        ...

    @property
    def estimate(self) -> Mapping[str, Any] | None:
        """What was expected of them."""
        ...


@dataclass(frozen=True, slots=True)
class Cell:
    """One student under one variant, over its seeds."""

    student: str
    variant: str
    parameters: int
    values: tuple[float, ...]
    """The metric per seed, in the order of the seeds."""
    mean: float
    half: float | None
    """Half width of the 95 % interval of the mean; None for a single seed."""
    live: int | None = None
    """Parameters that can move the outputs; None where it is not known."""
    effective: int | None = None
    """The same with the rank of the circuit's Jacobian in place of its weights."""

    @property
    def size(self) -> str:
        """`75`; `75-6` with 6 dead ones; `75-6 (51)` where the effective number is smaller."""
        live = self.parameters if self.live is None else self.live
        less = "" if live == self.parameters else f"−{self.parameters - live:,}"
        rank = "" if self.effective in (None, live) else f" ({self.effective:,})"
        return f"{self.parameters:,}{less}{rank}"

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Gain:
    """A mean paired difference `variant - baseline` of one student."""

    student: str
    variant: str
    baseline: str
    mean: float
    low: float | None
    high: float | None
    n: int
    verdict: str
    """`confirmed`, `not confirmed` or `harmful`."""
    differences: tuple[float, ...] = ()
    """Per seed, where the rows are known."""


def names_apart(say: Callable[..., T]) -> Callable[..., T]:
    """Have a function of a `Result` write names of the study so that no two are alike."""

    @functools.wraps(say)
    def said(result: Result, **more: Any) -> T:
        rows = result.rows
        with told_apart(students_of(rows), variants_of(rows)):
            return say(result, **more)

    return said


def is_taught(variant: Mapping[str, Any]) -> bool:
    """Whether a variant of a resolved configuration has a real teacher and no placebo."""
    return VariantConfig.model_validate(variant).is_taught


def is_placebo(variant: Mapping[str, Any]) -> bool:
    """Whether a variant of a resolved configuration is there to be beaten by a real teacher."""
    return VariantConfig.model_validate(variant).is_placebo


def interval(numbers: Sequence[float], *, shared: float = 0.0) -> tuple[float, float | None]:
    """Mean and half width of its 95 % interval (Student's t); None for fewer than two numbers.

    Args:
        numbers: One per seed.
        shared: See `statistics.shared_variance`.
    """
    data = np.asarray(numbers, dtype=float)
    if len(data) < 2:
        return float(data.mean()), None
    return float(data.mean()), float(half_width(data, shared=shared))


def students_of(rows: Iterable[Row]) -> list[str]:
    """Names of the students in order of appearance, the teacher first."""
    names = list(dict.fromkeys(str(row["student"]) for row in rows))
    return sorted(names, key=lambda name: not is_teacher(name))


def variants_of(rows: Iterable[Row], *, student: str | None = None) -> list[str]:
    """Variants of the students (or of one), baseline first, placebos last; not the teacher's."""
    return order_variants(
        str(row["variant"])
        for row in rows
        if (row["student"] == student if student else not is_teacher(row["student"]))
    )


def values(rows: Iterable[Row], student: str, variant: str, metric: str) -> dict[int, float]:
    """Test metric per seed of one student under one variant, where rows have it."""
    found = {
        int(row["seed"]): float(row["test"][metric])
        for row in rows
        if row["student"] == student and row["variant"] == variant and metric in row["test"]
    }
    return dict(sorted(found.items()))


def rows_of(rows: Iterable[Row], student: str, variant: str) -> list[Row]:
    """Those of one student under one variant."""
    return [row for row in rows if (row["student"], row["variant"]) == (student, variant)]


def cells(rows: Sequence[Row], metric: str = "accuracy") -> list[Cell]:
    """Every (student, variant) with its mean and interval, in the order of tables and figures."""
    out = []
    for student in students_of(rows):
        for variant in variants_of(rows, student=student):
            numbers = tuple(values(rows, student, variant, metric).values())
            row = next(r for r in rows if (r["student"], r["variant"]) == (student, variant))
            known = row.get("options") or {}
            sizes = (known.get(f"{key}_parameters") for key in ("live", "effective"))
            shared = shared_variance(rows_of(rows, student, variant))
            ends = interval(numbers, shared=shared)
            out.append(Cell(student, variant, int(row["parameters"]), numbers, *ends, *sizes))
    return out


def gains(
    rows: Sequence[Row],
    comparisons: Iterable[Mapping[str, Any]],
    *,
    metric: str = "accuracy",
    baseline: str | None = None,
) -> list[Gain]:
    """The study's own comparisons, with the paired differences per seed put beside them.

    Args:
        rows: The study's rows.
        comparisons: Dictionaries with `student, variant, baseline, metric, gain, ci95, n, verdict`.
        metric: Which metric.
        baseline: Keep only comparisons with this variant; None keeps all.
    """
    out = []
    for item in comparisons:
        if item["metric"] != metric or (baseline is not None and item["baseline"] != baseline):
            continue
        student, variant, against = item["student"], item["variant"], item["baseline"]
        treated = values(rows, student, variant, metric)
        control = values(rows, student, against, metric)
        out.append(
            Gain(
                student,
                variant,
                against,
                float(item["gain"]),
                *bounds(item["ci95"]),
                int(item["n"]),
                str(item["verdict"]),
                tuple(treated[s] - control[s] for s in treated if s in control),
            )
        )
    return out


def paired(
    rows: Sequence[Row], student: str, variant: str, baseline: str, metric: str = "accuracy"
) -> Gain:
    """The paired difference of two variants of one student, from the rows."""
    treated = values(rows, student, variant, metric)
    control = values(rows, student, baseline, metric)
    seeds = [seed for seed in treated if seed in control]
    shared = shared_variance(rows_of(rows, student, variant), rows_of(rows, student, baseline))
    found = paired_gain([treated[k] for k in seeds], [control[k] for k in seeds], shared=shared)
    return Gain(
        student, variant, baseline, found.mean, *bounds((found.low, found.high)), found.n,
        verdict(found), tuple(treated[k] - control[k] for k in seeds),
    )  # fmt: skip


def bounds(pair: Sequence[float | None] | None) -> tuple[float | None, float | None]:
    """Both ends of an interval, or None twice where a single seed gives none."""
    if not pair or any(end is None or not math.isfinite(end) for end in pair):
        return None, None
    return pair[0], pair[1]


def roles(result: Result) -> tuple[str, set[str]]:
    """The baseline's name and the names of the placebos.

    A placebo is a variant with a teacher that knows nothing, or with label smoothing; where the
    configuration does not say, the name decides.
    """
    variants = result.config.get("variants", {})
    baseline = str(result.config.get("baseline", BASELINE))
    names = variants_of(result.rows)
    return baseline, {
        name
        for name in names
        if name != baseline
        and (is_placebo(variants[name]) if name in variants else look(name).is_placebo)
    }


def upper_controls(result: Result) -> list[str]:
    """Variants that learn the labels the teacher saw: what a teacher is to be measured by."""
    variants = result.config.get("variants", {})
    return [
        name
        for name in variants_of(result.rows)
        if variants.get(name, {}).get("sees") == "all" and name != roles(result)[0]
    ]


def others_of(result: Result) -> list[str]:
    """Other trainings than the baseline without teacher or placebo, such as on another backend.

    Not those on the teacher's labels, which are no training of the same student.
    """
    variants = result.config.get("variants", {})
    baseline, placebos = roles(result)
    known = (baseline, *placebos, *upper_controls(result))
    return [
        name
        for name in variants_of(result.rows)
        if name in variants and name not in known and not is_taught(variants[name])
    ]


def alone(result: Result) -> str:
    """What gains are over: the student alone or, among other trainings, the baseline by name."""
    baseline, variants = roles(result)[0], result.config.get("variants", {})
    taught = baseline in variants and is_taught(variants[baseline])
    return f"“{look(baseline).label}”" if taught or others_of(result) else ALONE


def treatment(result: Result) -> str | None:
    """The variant that the report is about: the first one taught by the real teacher.

    From the configuration where it lists variants, so that unfinished studies speak of the same
    one as finished ones, else from the rows.
    """
    baseline, placebos = roles(result)
    listed: Mapping[str, Any] = result.config.get("variants", {})
    names = [name for name, item in listed.items() if is_taught(item)]
    names += [name for name in variants_of(result.rows) if not listed and name not in placebos]
    return next((name for name in names if name != baseline), None)


def headline(result: Result) -> Gain | None:
    """The comparison the first line speaks of: a treatment against the student alone.

    It is the student named by `headline` in the configuration, or none where that one has no paired
    seed yet; the first student with a treatment where the configuration names none.
    """
    baseline, _ = roles(result)
    wanted, treated = result.config.get("headline"), treatment(result)
    return next(
        (
            gain
            for gain in gains(result.rows, result.comparisons, baseline=baseline)
            if gain.variant == treated and wanted in (None, gain.student)
        ),
        None,
    )


def points(number: float, *, sign: bool = True) -> str:
    """A fraction as percentage points with one decimal and a real minus sign.

    What rounds to zero keeps its sign, so that an interval shows on which side of zero it ends.
    """
    text = f"{100 * number:+.1f}" if sign else f"{100 * number:.1f}"
    return text.removeprefix("+" if number == 0 else "").replace("-", "−")
