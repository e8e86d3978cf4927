# SPDX-License-Identifier: Apache-2.0
"""The schema of an experiment: one frozen pydantic model, unknown keys refused.

An experiment is rows (students) times columns (variants: what the student is taught with) times
paired seeds. `loading.load` reads one from YAML; Python users may call `ExperimentConfig(...)`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "DataConfig",
    "ExperimentConfig",
    "StudentConfig",
    "TeacherConfig",
    "TermConfig",
    "TrainingConfig",
    "TrainingOverrides",
    "VariantConfig",
]

# Strict: neither "3" nor true is a number; an integer may stand for a float.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]
Metric = Literal["accuracy", "loss"]
TEACHER_ROW = "teacher"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class TrainingOverrides(_Model):
    """Training settings of one student or of the teacher; what is left out comes from above."""

    epochs: Count | None = None
    batch_size: Count | None = None
    steps_per_epoch: Count | None = None
    learning_rate: Positive | None = None
    optimizer: Literal["adam", "adamw", "sgd"] | None = None
    patience: Count | None = None
    dtype: Literal["float32", "float64"] | None = None
    gradient_every: Natural | None = None
    checkpoint_epochs: Count | None = None


class TrainingConfig(_Model):
    """How every student is trained."""

    epochs: Count = 60
    batch_size: Count = 64
    steps_per_epoch: Count | None = None
    """Instead of `batch_size`: as many steps for a variant with unlabelled samples as for one
    without, so that a gain cannot come from training for longer."""
    learning_rate: Positive = 0.02
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    patience: Count | None = None
    """Epochs without a better validation result before stopping; None: all epochs."""
    dtype: Literal["float32", "float64"] = "float64"
    gradient_every: Natural = 5
    """Log the gradient norm of every term each so many epochs; 0 never."""
    checkpoint_epochs: Count | None = None
    """For tasks of minutes and more: leave a checkpoint each so many epochs, to resume from."""

    def overridden(self, by: TrainingOverrides) -> TrainingConfig:
        """A copy with the settings that `by` states."""
        return self.model_copy(update=by.model_dump(exclude_none=True))


class DataConfig(_Model):
    """A registered data set and the options of its builder."""

    kind: str
    options: dict[str, Any] = {}


class StudentConfig(_Model):
    """A registered student, the options of its builder, and its own training settings."""

    kind: str
    options: dict[str, Any] = {}
    training: TrainingOverrides = TrainingOverrides()


class TeacherConfig(StudentConfig):
    """The network that teaches; one is trained per seed, from the same split as its students."""

    sees: Literal["same", "all"] = "same"
    """Whether it trains on the student's own samples or on the whole labelled pool."""


class TermConfig(_Model):
    """One weighted loss."""

    loss: str
    weight: Positive = 1.0
    name: Name | None = None
    options: dict[str, Any] = {}


class VariantConfig(_Model):
    """What a student is trained with: weighted losses and, for some of them, a teacher."""

    terms: Annotated[list[TermConfig], Field(min_length=1)]
    teacher: Literal["none", "teacher", "shuffled", "uniform"] = "none"
    """`shuffled` and `uniform` are placebos: a teacher that knows nothing about the samples."""
    temperature: list[Positive] | None = None
    """Candidates for every term that has a temperature; the validation split chooses among them."""

    @field_validator("temperature", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, bool | str):
            raise ValueError(f"a temperature is a number or a list of numbers, got {value!r}")
        return [value] if isinstance(value, int | float) else value

    @field_validator("temperature")
    @classmethod
    def _distinct(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError("the temperatures are one or more different numbers")
        return value

    @model_validator(mode="after")
    def _names(self) -> VariantConfig:
        names = [term.name or term.loss for term in self.terms]
        if len(set(names)) < len(names):
            raise ValueError(
                f"two terms are called the same, got {', '.join(names)}; give each its own `name`"
            )
        return self


class ExperimentConfig(_Model):
    """One experiment.

    The temperature of a variant is chosen per student by the mean of `metric` on the *validation*
    splits over all seeds (`selection: over_seeds`, so that all seeds of a row share one
    temperature), or per seed. Placebos are swept just like the real thing.
    """

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    name: Name
    title: str = ""
    data: DataConfig
    teacher: TeacherConfig | None = None
    students: Annotated[dict[Name, StudentConfig], Field(min_length=1)]
    variants: Annotated[dict[Name, VariantConfig], Field(min_length=1)]
    baseline: str = "plain"
    headline: str | None = None
    """The student that the report's first line is about; by default the last one."""
    seeds: list[Seed] = list(range(10))
    training: TrainingConfig = TrainingConfig()
    metric: Metric = "accuracy"
    selection: Literal["over_seeds", "per_seed"] = "over_seeds"
    backend: str = "exact"
    presets: dict[Name, dict[str, Any]] = {}

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

    def resolved(self) -> dict[str, Any]:
        """The canonical form: every default written out, presets left out."""
        found = self.model_dump(mode="json", by_alias=True, exclude={"presets"})
        return {**found, "headline": self.headline or list(self.students)[-1]}

    def taught(self) -> list[str]:
        """Variants that use the real teacher, the baseline apart."""
        return [
            name
            for name, variant in self.variants.items()
            if variant.teacher == "teacher" and name != self.baseline
        ]

    def controls(self) -> list[str]:
        """Variants that are neither the baseline nor taught: placebos and label smoothing."""
        return [name for name in self.variants if name not in (self.baseline, *self.taught())]
