# SPDX-License-Identifier: Apache-2.0
"""The tidy frame of a study: rows by point, student and variant, roles of variants, contrasts.

Everything a report says or draws is read from here. Roles of variants come from the configuration,
never from their names. A point is a dictionary, axis name to value, and every row carries its own;
without axes there is one point, `{}`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qiskit_kd.errors import QiskitKDError
from qiskit_kd.experiment.schema import VariantConfig, is_teacher
from qiskit_kd.experiment.statistics import Gain, contrast, half_width, paired_gain, shared_variance
from qiskit_kd.report.grid import Grid, Point, grid_of, settled, split_of

if TYPE_CHECKING:
    from qiskit_kd.data import Split

Row = Mapping[str, Any]
Result = Any
"""A study, finished or not: an `experiment.StudyResult`, or what has its attributes."""
Role = Literal["baseline", "taught", "placebo", "labels", "other"]
"""Taught: by a real teacher; labels: on the labels that a teacher saw; other: another training
without a teacher, such as on another backend."""
BASELINE = "plain"


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
class Contrast:
    """One training of a student against another, at one place or over several."""

    student: str
    variant: str
    baseline: str
    places: tuple[tuple[Point, Gain], ...]
    """The paired gain at every point that has one; equal runs count once."""
    gain: Gain | None
    """Their mean, seed by seed, over seeds that all points have."""

    @property
    def counts(self) -> tuple[int, int, int]:
        """At how many points it is better, undecided and worse."""
        found = [gain.verdict for _, gain in self.places]
        return found.count("confirmed"), found.count("not confirmed"), found.count("harmful")


class Frame:
    """A study as one table.

    Args:
        result: A study.
        metric: Which test metric its tables show.
    """

    def __init__(self, result: Result, *, metric: str = "accuracy") -> None:
        self.result, self.metric = result, metric
        self.config: Mapping[str, Any] = result.config
        self.rows: Sequence[Row] = result.rows
        self.grid: Grid | None = grid_of(result)
        self.points: list[Point] = [{}] if self.grid is None else self.grid.points
        self.cells: dict[tuple[frozenset[Any], str, str], list[Row]] = {}
        for row in self.rows:
            key = _key(row.get("point", {})), str(row["student"]), str(row["variant"])
            self.cells.setdefault(key, []).append(row)
        self.networks = students_of(self.rows)
        self.teachers = [name for name in self.networks if is_teacher(name)]
        self.students = self.networks[len(self.teachers) :]
        self.seeds = sorted({int(row["seed"]) for row in self.rows})
        self.many = len(self.seeds) > 1
        self.baseline = str(self.config.get("baseline", BASELINE))
        self.listed: Mapping[str, Any] = self.config.get("variants", {})
        found = dict.fromkeys([*self.listed, *(str(row["variant"]) for row in self.rows)])
        self.roles: dict[str, Role] = {name: self._role(name) for name in found}
        self._gains: dict[Any, tuple[Gain | None, Any]] = {}
        self._variants: dict[str | None, list[str]] = {}
        self._settled: dict[Any, dict[str, Any]] = {}

    def _role(self, name: str) -> Role:
        if name == self.baseline:
            return "baseline"
        if name not in self.listed:
            return "other" if self.listed else "taught"
        variant = VariantConfig.model_validate(self.listed[name])
        if variant.is_placebo or variant.is_taught:
            return "placebo" if variant.is_placebo else "taught"
        return "labels" if variant.sees == "all" else "other"

    @cached_property
    def split(self) -> Split | None:
        """Its data for the first seed, see `split_of`."""
        return split_of(self.config)

    def having(self, role: Role, student: str | None = None) -> list[str]:
        """Variants of this role that rows have, of one student or of any; as in the study."""
        known = self.variants_of(student)
        return [name for name in self.roles if self.roles[name] == role and name in known]

    @cached_property
    def over(self) -> str:
        """What gains are over: empty for the student alone, else the baseline's name.

        It goes by its name among other trainings, or where a teacher taught it.
        """
        item = self.listed.get(self.baseline)
        taught = item and VariantConfig.model_validate(item).is_taught
        return self.baseline if taught or self.having("other") else ""

    def variants_of(self, student: str | None = None) -> list[str]:
        """Variants that rows have, of one student or of any: baseline first, placebos last."""
        if student not in self._variants:
            self._variants[student] = variants_of(self.rows, student=student, roles=self.roles)
        return self._variants[student]

    @cached_property
    def treated(self) -> str | None:
        """The variant that the report is about: the first one taught, in rows or not yet."""
        return next((name for name, role in self.roles.items() if role == "taught"), None)

    @cached_property
    def student(self) -> str | None:
        """The student that the report is about: the one named, else the first that is compared."""
        return self.config.get("headline") or next(iter(self.compared), None)

    @cached_property
    def compared(self) -> list[str]:
        """Students trained in more than one way."""
        return [name for name in self.students if len(self.variants_of(name)) > 1]

    def at(self, point: Point) -> list[Row]:
        """Rows of one point."""
        wanted = _key(point)
        return [row for (key, *_), cell in self.cells.items() if key == wanted for row in cell]

    def cell(self, student: str, variant: str, point: Point | None = None) -> list[Row]:
        """Rows of one student under one variant at a point, one per seed."""
        return self.cells.get((_key(point or {}), student, variant), [])

    def contrast(
        self,
        student: str,
        variant: str,
        baseline: str | None = None,
        *,
        points: Sequence[Point] | None = None,
        metric: str = "accuracy",
    ) -> Contrast | None:
        """One training of a student against another, or the study's baseline; None without seeds.

        It is about one test metric, at these points or at all.
        """
        other = self.baseline if baseline is None else baseline
        found: dict[Any, tuple[Point, Gain]] = {}
        for point in self.points if points is None else points:
            where = _key(point)
            key = student, variant, other, where, metric
            if key not in self._gains:
                left = self.cells.get((where, student, variant), [])
                right = self.cells.get((where, student, other), [])
                runs: Any = where  # of both sides, along axes and if rows have keys
                if self.grid and left and right and "key" in left[0]:
                    runs = frozenset([r["key"] for r in left]), frozenset([r["key"] for r in right])
                self._gains[key] = contrast(left, right, metric), runs
            gain, runs = self._gains[key]
            if gain is not None:
                found.setdefault(runs, (point, gain))
        if not found:
            return None
        places = tuple(found.values())
        mean: Gain | None = places[0][1]
        if len(places) > 1:
            pairs = [[self.cell(student, n, p) for n in (variant, other)] for p, _ in places]
            mean = averaged(pairs, metric, [gain.shared for _, gain in places])
        return Contrast(student, variant, other, places, mean)

    def gain(self, student: str, *names: str, **options: Any) -> Gain | None:
        """The mean of a contrast; None where there is none. Arguments as there."""
        found = self.contrast(student, *names, **options)
        return None if found is None else found.gain

    def lost(self, student: str, variant: str) -> Gain | None:
        """What a variant gains from the first to the last value of the axis, over all panels."""
        grid = self.grid
        if grid is None or len(grid.values) < 2:
            return None
        pairs = [
            [self.cell(student, variant, grid.point(panel, grid.values[end])) for end in (-1, 0)]
            for panel in grid.panels
        ]
        pairs = [pair for pair in pairs if all(pair)]
        return averaged(pairs, "accuracy", [shared_variance(*pair) for pair in pairs])

    # Where students are trained and judged, and under how much noise.

    def settled(self, point: Point | None = None) -> dict[str, Any]:
        """The configuration of one point; by default that of the axes' last values."""
        key = None if point is None else _key(point)
        if key not in self._settled:
            self._settled[key] = settled(self.config, point)
        return self._settled[key]

    def scale_at(self, point: Point) -> float | None:
        """The factor on the errors of the device that students are judged on; None without noise.

        Where each is judged on the backend it was trained on, the largest of these factors.
        """
        here = self.settled(point)
        places = {judged_on(here)} - {None} or {trained_on(here, name) for name in self.listed}
        found = [noise_of(here, str(place)) for place in places]
        return max((scale for scale in found if scale is not None), default=None)

    @cached_property
    def noisy_points(self) -> list[Point]:
        """Points at which students are judged under noise that is not scaled down to nothing."""
        return [] if self.grid is None else [p for p in self.points if self.scale_at(p)]

    def under_noise(self) -> tuple[list[str], list[str]]:
        """Trainings without teacher that are no placebo: those under noise, those without."""
        here, known = self.settled(), self.variants_of()
        names = [n for n in (self.baseline, *self.having("other")) if n in known]
        noisy = [name for name in names if noise_of(here, trained_on(here, name)) is not None]
        return noisy, [name for name in names if name not in noisy]


def _key(point: Point) -> frozenset[Any]:
    return frozenset(point.items())


def averaged(
    pairs: Sequence[Sequence[Sequence[Row]]], metric: str, shared: Sequence[float]
) -> Gain | None:
    """The mean of several comparisons, seed by seed, over the seeds that all of them have."""
    tables = [[by_seed(side, metric) for side in pair] for pair in pairs]
    sides = [set(side) for table in tables for side in table]
    seeds = sorted(set.intersection(*sides)) if sides else []
    if not seeds:
        return None
    left, right = (
        [float(np.mean([table[k][seed] for table in tables])) for seed in seeds] for k in (0, 1)
    )
    return paired_gain(left, right, shared=float(np.mean(shared)))


# Rows by themselves, as figures get them.


def interval(numbers: Sequence[float], *, shared: float = 0.0) -> tuple[float, float | None]:
    """Mean and half width of its 95 % interval (Student's t); None for fewer than two numbers."""
    half = None if len(numbers) < 2 else float(half_width(numbers, shared=shared))
    return float(np.mean(numbers)), half


def students_of(rows: Iterable[Row]) -> list[str]:
    """Names of the students in order of appearance, the teachers first."""
    names = list(dict.fromkeys(str(row["student"]) for row in rows))
    return sorted(names, key=lambda name: not is_teacher(name))


def variants_of(
    rows: Iterable[Row],
    *,
    student: str | None = None,
    roles: Mapping[str, str] = MappingProxyType({BASELINE: "baseline"}),
) -> list[str]:
    """Variants of the students (or of one) in order of appearance, not the teachers'.

    The baseline comes first and, where roles are known, placebos last.
    """
    pairs = dict.fromkeys([(str(row["student"]), str(row["variant"])) for row in rows])
    names = [v for s, v in pairs if (s == student if student else not is_teacher(s))]
    rank = {"baseline": 0, "placebo": 2}
    return sorted(dict.fromkeys(names), key=lambda name: rank.get(roles.get(name, ""), 1))


def by_seed(rows: Iterable[Row], metric: str) -> dict[int, float]:
    """Test metric per seed, of rows that have it."""
    found = {int(r["seed"]): r["test"][metric] for r in rows if r["test"].get(metric) is not None}
    return dict(sorted(found.items()))


def values(rows: Iterable[Row], student: str, variant: str, metric: str) -> dict[int, float]:
    """Test metric per seed of one student under one variant, where rows have it."""
    return by_seed(rows_of(rows, student, variant), metric)


def rows_of(rows: Iterable[Row], student: str, variant: str) -> list[Row]:
    """Those of one student under one variant."""
    return [row for row in rows if (row["student"], row["variant"]) == (student, variant)]


def cell_of(rows: Sequence[Row], metric: str = "accuracy") -> Cell | None:
    """Mean and interval of rows of one student and variant; None where no row has the metric."""
    known = [row for row in sorted(rows, key=lambda r: int(r["seed"])) if metric in row["test"]]
    if not known:
        return None
    first, numbers = known[0], tuple(float(row["test"][metric]) for row in known)
    options = first.get("options") or {}
    return Cell(
        str(first["student"]),
        str(first["variant"]),
        int(first["parameters"]),
        numbers,
        *interval(numbers, shared=shared_variance(rows)),
        *(options.get(f"{key}_parameters") for key in ("live", "effective")),
    )


def cells(rows: Sequence[Row], metric: str = "accuracy") -> list[Cell]:
    """Every (student, variant) with its mean and interval, in the order of tables and figures."""
    found = (
        cell_of(rows_of(rows, student, variant), metric)
        for student in students_of(rows)
        for variant in variants_of(rows, student=student)
    )
    return [cell for cell in found if cell is not None]


def gain_of(
    rows: Sequence[Row], student: str, variant: str, baseline: str, metric: str = "accuracy"
) -> Gain | None:
    """The paired gain of a student over its seeds, from rows of one point."""
    left, right = (rows_of(rows, student, name) for name in (variant, baseline))
    return contrast(left, right, metric)


# Backends of a configuration; rows name them, but do not say what an axis made of them.


def trained_on(config: Mapping[str, Any], variant: str) -> str:
    """Name of the backend that a variant's weights come from: that of its last stage."""
    own = config.get("variants", {}).get(variant, {})
    last = (own.get("fine_tune") or {}).get("backend")
    return str(last or own.get("backend") or config.get("backend", "exact"))


def judged_on(config: Mapping[str, Any]) -> str | None:
    """Name of the backend that all students are judged on; None: each where it was trained."""
    found = (config.get("evaluation") or {}).get("backend")
    return None if found is None else str(found)


def noise_of(config: Mapping[str, Any], backend: str) -> float | None:
    """The factor on the errors of a noisy backend; None for one without noise of its own."""
    settings = settings_of(config, backend)
    return float(settings.get("scale", 1.0)) if settings.get("noise") else None


def settings_of(config: Mapping[str, Any], backend: str) -> dict[str, Any]:
    """The settings of a backend of a study, or of the backend file as it is today."""
    from qiskit_kd.execution.backends import load_backend

    own = dict(config.get("backends", {}).get(backend, {}))
    base: Mapping[str, Any] = {}
    with contextlib.suppress(QiskitKDError):
        base = load_backend(str(own.pop("base", backend))).describe()
    if own.get("kind", base.get("kind")) != base.get("kind"):
        return own  # as `Backend.changed`: another kind takes nothing over
    return {**base, **own}


def is_exact(config: Mapping[str, Any], backend: str) -> bool:
    """Whether a backend gives probabilities rather than shots, and exact gradients with them."""
    entry = settings_of(config, backend)
    return entry.get("kind") in ("exact", "noisy") and not entry.get("shots")
