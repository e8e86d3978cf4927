# SPDX-License-Identifier: Apache-2.0
"""The schema of an experiment: one frozen pydantic model, unknown keys refused.

An experiment is rows (students) times columns (variants: what the student is taught with) times
paired seeds, all of it at every point of its axes. `loading.load` reads one from YAML; Python
users may call `ExperimentConfig(...)`. Its `resolved_points` are made once; load, plan, price, run
and report share them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from qiskit_kd.errors import ConfigError
from qiskit_kd.experiment.schema import (
    TEACHER_ROW,
    AxisConfig,
    BackendConfig,
    DataConfig,
    EvaluationConfig,
    Label,
    Metric,
    Name,
    Section,
    Seed,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
    VariantConfig,
)

if TYPE_CHECKING:
    from qiskit_kd.execution.backends import Backend

Point = dict[str, Label]
"""A value or label of every axis."""
Role = Literal["baseline", "taught", "placebo", "other"]


class ExperimentConfig(Section):
    """One experiment.

    Where learning rate, a weight or the temperature has several values, one is chosen per student
    and variant by the mean of `metric` on the *validation* splits over all seeds (`selection:
    over_seeds`, so that all seeds of a row share one), or per seed; at every point for itself.
    Baseline and placebos are swept like the real thing.
    """

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    name: Name
    title: str = ""
    data: DataConfig
    teachers: dict[Name, TeacherConfig] = Field(default={})
    """By name. `teacher: {...}` is the short form for one called `teacher`."""
    students: Annotated[dict[Name, StudentConfig], Field(min_length=1)]
    variants: Annotated[dict[Name, VariantConfig], Field(min_length=1)]
    baseline: str = "plain"
    headline: str | None = None
    """The student that the report's first line is about; by default the last one that is taught."""
    seeds: list[Seed] = Field(default=list(range(10)))
    training: TrainingConfig = TrainingConfig()
    metric: Metric = "accuracy"
    selection: Literal["over_seeds", "per_seed"] = "over_seeds"
    backend: str = "exact"
    """Where circuits of students run; those of teachers run exactly."""
    backends: dict[Name, BackendConfig] = Field(default={})
    """Backends of this study's own, by name: entries of the backend file with other settings."""
    axes: dict[Name, AxisConfig] = Field(default={})
    """The study is run at every combination of their values."""
    evaluation: EvaluationConfig = EvaluationConfig()
    presets: dict[Name, dict[str, Any]] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, Mapping) and "plugins" in value:
            raise ValueError(
                "an experiment file names no code to execute; got `plugins`. Name the files "
                "yourself: qkd run FILE --plugin PATH"
            )
        if not isinstance(value, Mapping) or "teacher" not in value:
            return value
        rest = {key: inner for key, inner in value.items() if key != "teacher"}
        if value["teacher"] is None:
            return rest
        if rest.get("teachers"):
            raise ValueError(
                "`teacher` is the short form for a single teacher; got `teachers` too. Write all "
                "of them below `teachers`"
            )
        return {**rest, "teachers": {TEACHER_ROW: value["teacher"]}}

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            if not 1 <= value <= 10_000:
                raise ValueError(f"the number of seeds is 1 to 10000, got {value}")
            return list(range(value))
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: list[int]) -> list[int]:
        if not value or len(set(value)) < len(value):
            raise ValueError("seeds are a number, or a list of one or more different numbers")
        return value

    @model_validator(mode="after")
    def _trainings(self) -> ExperimentConfig:
        for where, entry in self.networks():
            settings = self.training.overridden(entry.training)
            if isinstance(entry, TeacherConfig) and isinstance(settings.learning_rate, list):
                raise ValueError(
                    f"{where}: a teacher has one learning rate; got {settings.learning_rate}. Set "
                    f"{where}.training.learning_rate"
                )
            if settings.steps == "unequal" and settings.steps_per_epoch is not None:
                raise ValueError(
                    f"{where}: as many steps an epoch as `steps_per_epoch` says are equal; got "
                    "`steps: unequal` too. Remove one of them"
                )
        return self

    def networks(self) -> list[tuple[str, StudentConfig | TeacherConfig]]:
        """Every network's entry, after its place in the file."""
        students = [(f"students.{name}", entry) for name, entry in self.students.items()]
        return [*students, *((f"teachers.{name}", entry) for name, entry in self.teachers.items())]

    def resolved(self) -> dict[str, Any]:
        """The canonical form: every default written out, presets left out."""
        found = self.model_dump(mode="json", by_alias=True, exclude={"presets"})
        return {**found, "headline": self.headline or self._lead()}

    def _lead(self) -> str:
        """The last student that some teacher teaches; the last one if there is none."""
        taught = set(self.taught())
        able = [name for name in self.students if taught.intersection(self.variants_of(name))]
        return (able or list(self.students))[-1]

    def points(self) -> list[Point]:
        """Every combination of the axes, the last axis changing fastest; `[{}]` without axes."""
        labels = [axis.labels for axis in self.axes.values()]
        return [dict(zip(self.axes, chosen, strict=True)) for chosen in product(*labels)]

    @cached_property
    def resolved_points(self) -> tuple[ResolvedPoint, ...]:
        """The study at every one of its points.

        Raises:
            ConfigError: If a point makes no valid experiment.
        """
        if not self.axes:
            return (ResolvedPoint({}, self),)
        tree = self.model_dump(by_alias=True, exclude_unset=True, exclude={"axes"})
        return tuple(ResolvedPoint(point, self._at(point, tree)) for point in self.points())

    def _at(self, point: Point, tree: Mapping[str, Any]) -> ExperimentConfig:
        grown = copy.deepcopy(dict(tree))
        for name, label in point.items():
            for key, value in self.axes[name].settings(label).items():
                path = key.split(".")
                if path[0] == TEACHER_ROW:  # the short form is resolved by now
                    path = ["teachers", *path]
                set_key(grown, path, value, what=f"axis {name}")
        try:
            return type(self).model_validate(grown)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ", ".join(f"{name} {label}" for name, label in point.items())
            raise ConfigError(
                f"the axes make an invalid experiment at {where}",
                got=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
                remedy="Correct the values of the axes.",
            ) from None

    def at(self, point: Mapping[str, Label]) -> ExperimentConfig:
        """The experiment of one point, without axes.

        Raises:
            ConfigError: If a point makes no valid experiment, or the study has no such point.
        """
        for found in self.resolved_points:
            if found.values == point:
                return found.config
        raise ConfigError(
            "a point has a value of every axis",
            got=repr(dict(point)),
            expected=f"for example {self.points()[0]}",
        )

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> ExperimentConfig:
        """See `pydantic.BaseModel.model_copy`; the copy has points of its own."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("resolved_points", "roles"):
            vars(copied).pop(name, None)
        return copied

    def variants_of(self, student: str) -> list[str]:
        """The variants a student is trained in."""
        own = self.students[student].variants
        return [name for name in self.variants if own is None or name in own]

    def candidates(self, student: str, variant: str) -> list[dict[str, Label]]:
        """What the validation split chooses among: every combination of a variant's settings.

        The learning rate and a student's own options are of all variants, so the baseline is swept
        like the rest. Each is a mapping from the name of a setting to a value, empty where nothing
        is swept.
        """
        swept: dict[str, list[Any]] = {
            **self.students[student].candidates,
            **{name: [*map(float, v)] for name, v in self.variants[variant].candidates.items()},
        }
        rate = self.training.overridden(self.students[student].training).learning_rate
        if isinstance(rate, list):
            swept["learning_rate"] = [*map(float, rate)]
        return [dict(zip(swept, chosen, strict=True)) for chosen in product(*swept.values())]

    @cached_property
    def roles(self) -> dict[str, Role]:
        """What each variant is.

        The baseline; taught by teachers that know something; a placebo; another training.
        """
        found: dict[str, Role] = {}
        for name, variant in self.variants.items():
            known: Role = "taught" if variant.is_taught else "other"
            found[name] = "placebo" if variant.is_placebo else known
        return found | {self.baseline: "baseline"} if self.baseline in found else found

    def taught(self) -> list[str]:
        """Variants whose terms read teachers that know something, the baseline apart."""
        return [name for name, role in self.roles.items() if role == "taught"]

    def controls(self) -> list[str]:
        """Variants that are neither the baseline nor taught: placebos and other trainings."""
        return [name for name, role in self.roles.items() if role in ("placebo", "other")]


@dataclass(frozen=True, eq=False)
class ResolvedPoint:
    """A study at one combination of its axes: typed, its backends opened once.

    Args:
        values: The value or label of every axis; empty without axes.
        config: The experiment there, without axes.
        checked: Whether `checks` has found no fault in it.
    """

    values: Point
    config: ExperimentConfig
    checked: bool = False
    _backends: dict[str, Backend] = field(default_factory=dict, init=False, repr=False)
    _entries: dict[str, dict[str, Any]] = field(default_factory=dict, init=False, repr=False)

    def place(self, name: str) -> dict[str, Any]:
        """What opens a backend: `name`; for one of the study's own also `base` and `settings`."""
        own = self.config.backends.get(name)
        return {
            "name": name,
            **({} if own is None else {"base": own.base, "settings": own.settings}),
        }

    def backend(self, name: str) -> Backend:
        """A backend of the study's own, or of the backend file.

        Raises:
            UnknownNameError: If neither knows it.
            ConfigError: If the study's own settings make no valid entry.
        """
        from qiskit_kd.experiment.devices import open_backend

        if name not in self._backends:
            self._backends[name] = open_backend(self.place(name))
        return self._backends[name]

    def entry(self, name: str) -> dict[str, Any]:
        """Name and settings of a backend: a changed entry in the backend file is another task."""
        if name not in self._entries:
            settings = self.backend(name).describe()
            del settings["source"]  # where the file lies does not matter
            self._entries[name] = {**settings, **self.place(name)}
        return self._entries[name]

    def used_by(self, *students: str) -> list[str]:
        """The backends that students run on, that of the first variant first; each once."""
        config, asked = self.config, self.config.evaluation
        variants = [config.variants[v] for name in students for v in config.variants_of(name)]
        found = [variant.backend or config.backend for variant in variants]
        found += [stage.backend for v in variants if (stage := v.fine_tune) is not None]
        found += [asked.backend] if asked.backend else []
        found += asked.side_by_side.backends if asked.side_by_side else []
        return list(dict.fromkeys(found))


def set_key(
    data: dict[str, Any], path: Sequence[str], value: Any, *, what: str = "override"
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Set a dotted key of an experiment's tree, in place; mappings are merged.

    Args:
        data: The experiment as plain mappings and lists.
        path: Keys, and positions in lists as digits.
        value: What to put there.
        what: What messages call this.

    Returns:
        The keys that were made or replaced, and for which part of `value`.

    Raises:
        ConfigError: If something on the path is neither a mapping nor a list.
    """
    if isinstance(value, Mapping) and value:
        return [
            (made, (str(name), *rest))
            for name, inner in value.items()
            for made, rest in set_key(data, [*path, str(name)], inner, what=what)
        ]
    here: Any = data
    found: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for depth, part in enumerate(path, 1):
        at: Any = part
        if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            at = int(part)
        elif isinstance(here, dict):
            at = next((name for name in here if str(name) == part), part)  # 50 is found as "50"
            if depth < len(path) and here.get(at) is None:
                here[at] = {}
                found.append((tuple(path[:depth]), ()))
        else:
            raise ConfigError(
                f"{what} {'.'.join(path)}: there is nothing below {'.'.join(path[: depth - 1])}",
                got=f"{type(here).__name__} there",
                expected="a mapping, or a list and a position in it",
            )
        if depth == len(path):
            here[at] = value
        here = here[at]
    return [*found, (tuple(path), ())]
