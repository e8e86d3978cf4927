# SPDX-License-Identifier: Apache-2.0
"""The sections of an experiment, and the registered parts that they name.

Frozen pydantic models, unknown keys refused. Parts are imported when they are asked for: a worker
sets its threads before torch loads.

What a name in one section says about another (a variant about a teacher, an axis about a key) is
checked by `checks`; here each section stands alone.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticKnownError

if TYPE_CHECKING:
    from qiskit_kd.distill.losses import Loss


_HOMES = {
    "student": ("qiskit_kd.nn.students", "students"),
    "loss": ("qiskit_kd.distill.losses", "losses"),
    "adapter": ("qiskit_kd.distill.adapters", "adapters"),
    "data set": ("qiskit_kd.data", "datasets"),
    "perturbation": ("qiskit_kd.data.perturbations", "perturbations"),
}
# Arguments the runner itself gives to builders and losses: no options.
_GIVEN = {"seed", "backend", "dtype", "shape", "samples", "num_features", "num_classes"}
_GIVEN |= {"student", "teacher", "target"}


def registry(kind: str) -> Mapping[str, Any]:
    """The registry of `student`, `loss`, `adapter`, `data set` or `perturbation`."""
    module, name = _HOMES[kind]
    found: Mapping[str, Any] = getattr(import_module(module), name)
    return found


def option_names(builder: Callable[..., Any]) -> list[str] | None:
    """Names of the options a registered part takes; None if it takes any."""
    parameters = inspect.signature(builder).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return sorted(p.name for p in parameters if p.name not in _GIVEN)


def reads_teacher(loss: str) -> bool:
    """Whether a loss reads a teacher; one that is not registered may."""
    table = registry("loss")
    return loss not in table or bool(table[loss].teacher)


def has_temperature(loss: Loss) -> bool:
    """Whether a loss takes the option `temperature`."""
    return "temperature" in (option_names(loss.function) or ())


# Strict: neither "3" nor true is a number; an integer may stand for a float.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Level = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]
ModulePath = Annotated[str, Field(min_length=1)]
Metric = Literal["accuracy", "loss"]
Placebo = Literal["none", "shuffled", "uniform", "untrained"]
Label = str | int | float
"""A value of an axis: a number or a word."""

TEACHER_ROW = "teacher"


def teacher_row(name: str) -> str:
    """What rows call a teacher: `teacher` for the one of that name, else `teacher:NAME`."""
    return TEACHER_ROW if name == TEACHER_ROW else f"{TEACHER_ROW}:{name}"


def is_teacher(student: str) -> bool:
    """Whether the `student` of a row is a teacher."""
    return student.partition(":")[0] == TEACHER_ROW


_POSITIVE: TypeAdapter[float] = TypeAdapter(Positive)


def _swept(value: object) -> float | list[float]:
    """A number, or several to choose among."""
    if isinstance(value, list) and (not value or len({*map(repr, value)}) < len(value)):
        raise ValueError(f"candidates are one or more different numbers; got {value}")
    try:
        if isinstance(value, list):
            return [_POSITIVE.validate_python(item) for item in value]
        return _POSITIVE.validate_python(value)
    except ValidationError as error:  # as of a plain number
        first = error.errors()[0]
        raise PydanticKnownError(first["type"], first.get("ctx")) from None  # type: ignore[arg-type]


Swept = Annotated[float | list[float], PlainValidator(_swept)]
"""A positive number, or candidates of which the validation split chooses one."""

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


_Value = TypeVar("_Value", int, str)


def _once(values: list[_Value]) -> list[_Value]:
    if len(set(values)) < len(values):
        raise ValueError(f"each is named once; got {values}")
    return values


class Section(BaseModel):
    """Common to all: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class TrainingOverrides(Section):
    """Training settings of one student or of a teacher; what is left out comes from above."""

    epochs: Count | None = None
    batch_size: Count | None = None
    steps_per_epoch: Count | None = None
    steps: Literal["equal", "unequal"] | None = None
    learning_rate: Swept | None = None
    optimizer: Literal["adam", "adamw", "sgd"] | None = None
    patience: Count | None = None
    dtype: Literal["float32", "float64"] | None = None
    gradient_every: Natural | None = None
    checkpoint_epochs: Count | None = None


class TrainingConfig(Section):
    """How every student is trained."""

    epochs: Count = 60
    batch_size: Count = 64
    """Labelled samples per step at most. Unlabelled ones come along in their share, so that every
    variant takes as many steps and a gain cannot come from training for longer."""
    steps_per_epoch: Count | None = None
    """Instead of `batch_size`."""
    steps: Literal["equal", "unequal"] = "equal"
    """`unequal`: `batch_size` counts unlabelled samples too; the verdict then says so."""
    learning_rate: Swept = 0.02
    """Of several the validation split chooses one, for every student and variant by itself."""
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


class DataConfig(Section):
    """A registered data set and the options of its builder."""

    kind: str
    options: dict[str, Any] = {}


class BackendConfig(BaseModel):
    """An entry of the backend file, and which of its options are other here."""

    model_config = ConfigDict(frozen=True, extra="allow")

    base: str
    """A name in the backend file."""

    @property
    def settings(self) -> dict[str, Any]:
        """Options as the backend file has them."""
        return dict(self.model_extra or {})


class _NetworkConfig(Section):
    """A registered network, the options of its builder, and its own training settings."""

    kind: str
    options: dict[str, Any] = {}
    training: TrainingOverrides = TrainingOverrides()


class StudentConfig(_NetworkConfig):
    """A network that learns in every variant, or in those it lists."""

    variants: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the variants it is trained in; None means all."""
    candidates: dict[str, Annotated[list[Label], Field(min_length=1)]] = {}
    """Options with several values, of which the validation split chooses one per variant."""

    @model_validator(mode="after")
    def _chosen_once(self) -> StudentConfig:
        for name, values in self.candidates.items():
            if name in self.options:
                raise ValueError(
                    f"an option is set or chosen; got {name!r} below `options` and `candidates`. "
                    "Remove one of them"
                )
            if len(set(map(repr, values))) < len(values):
                raise ValueError(f"candidates are different values; got {values} for {name!r}")
        return self


class TeacherConfig(_NetworkConfig):
    """A network that teaches; one is trained per seed, from the same split as its students."""

    sees: Literal["same", "all"] = "same"
    """Whether it trains on the student's own samples or on the whole labelled pool."""
    shared: bool = Field(default=False, strict=True)
    """With `sees: all`: train one, from the first seed, for all seeds and points. It needs a pool
    that is the same for every seed."""


class LayersConfig(Section):
    """Module paths of the two tensors a feature loss compares."""

    student: ModulePath
    teacher: ModulePath


class TermConfig(Section):
    """One weighted loss; what it leaves out of teacher and placebo comes from its variant."""

    loss: str
    weight: Swept = 1.0
    """Of several the validation split chooses one."""
    name: Name | None = None
    options: dict[str, Any] = {}
    teacher: str | None = None
    placebo: Placebo | None = None
    layers: LayersConfig | None = None
    """For feature losses; without, they compare logits."""
    adapter: str | None = None
    """A registered adapter, trained along: brings the student's features to the teacher's shape."""

    @property
    def label(self) -> str:
        """What it is called."""
        return self.name or self.loss


class FineTuneConfig(Section):
    """A second stage of training: on another backend, from the weights that the first one found."""

    backend: str
    training: TrainingOverrides = TrainingOverrides()
    """Settings of this stage; what is left out is as in the first."""

    @field_validator("training")
    @classmethod
    def _of_one_stage(cls, value: TrainingOverrides) -> TrainingOverrides:
        if isinstance(value.learning_rate, list):
            raise ValueError(
                f"a second stage has one learning rate; got {value.learning_rate}. Choose one"
            )
        for key in ("dtype", "checkpoint_epochs"):
            if (own := getattr(value, key)) is not None:
                raise ValueError(
                    f"a second stage has no `{key}` of its own; got {own!r}. Set it in the "
                    "`training` of the study or of the student"
                )
        return value


class VariantConfig(Section):
    """What a student is trained with: weighted losses and, for some of them, a teacher."""

    terms: Annotated[list[TermConfig], Field(min_length=1)]
    teacher: str = "none"
    """Name of the teacher of every term that reads one and does not name its own."""
    placebo: Placebo = "none"
    """A teacher that knows nothing about the samples: `shuffled` (another sample's outputs),
    `uniform` (no teacher at all) or `untrained` (the teacher's network as it was initialised)."""
    temperature: list[Positive] | None = None
    """Candidates for every term that has a temperature; the validation split chooses among them."""
    sees: Literal["same", "all"] = "same"
    """`all`: trained on the whole labelled pool, as a teacher that sees all is. An upper control:
    what the teacher's labels are worth to the student itself."""
    training: TrainingOverrides = TrainingOverrides()
    """With `sees: all`, how: by default in as many steps as the other variants."""
    backend: str | None = None
    """Where circuits run while it is trained; None: on the backend of the study."""
    fine_tune: FineTuneConfig | None = None

    @field_validator("temperature", mode="wrap")
    @classmethod
    def _listed(cls, value: object, checked: ValidatorFunctionWrapHandler) -> list[float] | None:
        if isinstance(value, bool | str):
            raise ValueError(f"a temperature is a number or a list of numbers, got {value!r}")
        found: list[float] | None = checked([value] if isinstance(value, int | float) else value)
        if found is not None and (not found or len(set(found)) < len(found)):
            raise ValueError("the temperatures are one or more different numbers")
        return found

    @model_validator(mode="after")
    def _agrees(self) -> VariantConfig:
        names = [term.label for term in self.terms]
        if len(set(names)) < len(names):
            raise ValueError(
                f"two terms are called the same, got {', '.join(names)}; give each its own `name`"
            )
        if self.sees == "all" and self.sources:
            raise ValueError(
                "a variant that sees the teacher's labels is a control without a teacher; got "
                "`sees: all` and a term that reads one. Remove one of them"
            )
        own = self.training.model_dump(exclude_none=True)
        if self.sees == "same" and own:
            raise ValueError(
                "variants on the same samples are trained alike, or a gain may come from the "
                f"training; got {', '.join(own)}. Set it in the `training` of the study or student"
            )
        return self

    def source(self, term: TermConfig) -> tuple[str | None, Placebo]:
        """Teacher and placebo of one of the terms; `(None, "none")` for one that reads no teacher.

        A uniform placebo has no teacher either.
        """
        if not reads_teacher(term.loss):
            return None, "none"
        placebo, teacher = term.placebo or self.placebo, term.teacher or self.teacher
        return (None if teacher == "none" or placebo == "uniform" else teacher), placebo

    @property
    def sources(self) -> list[tuple[str | None, Placebo]]:
        """Teacher and placebo of every term that reads a teacher."""
        return [self.source(term) for term in self.terms if reads_teacher(term.loss)]

    @property
    def candidates(self) -> dict[str, list[float]]:
        """What is swept over in its terms: every value of each setting."""
        found = {} if self.temperature is None else {"temperature": self.temperature}
        weights = {term.label: term.weight for term in self.terms}
        return found | {
            f"weight of {label}": values
            for label, values in weights.items()
            if isinstance(values, list)
        }

    @property
    def is_taught(self) -> bool:
        """Whether its terms read teachers that know something, and no placebo."""
        return bool(self.sources) and all(placebo == "none" for _, placebo in self.sources)

    @property
    def is_placebo(self) -> bool:
        """Whether a gain of it comes from no teacher: a term's placebo, or label smoothing."""
        smoothed = any(term.loss == "label_smoothing" for term in self.terms)
        knows_nothing = any(placebo != "none" for _, placebo in self.sources)
        return knows_nothing or (smoothed and not self.is_taught)


class AxisConfig(Section):
    """Settings that the whole study is repeated over.

    Either `key`, a dotted key, and a list of its values; or a mapping from labels to settings,
    each a mapping from dotted keys to values.
    """

    title: str = ""
    key: str | None = None
    values: list[Any] | dict[Any, Any]
    only: list[Label] | None = None
    """Values to keep; None keeps all. For presets, which cannot take anything away."""

    @field_validator("values", mode="before")
    @classmethod
    def _formed(cls, value: object) -> object:
        if isinstance(value, dict):
            for label, settings in value.items():
                if not isinstance(settings, dict) or not settings:
                    raise ValueError(
                        f"a label of an axis stands for settings; got {settings!r} for {label!r}; "
                        "expected a mapping such as {training.epochs: 20}"
                    )
            labels = [_label(label) for label in value]
            value = dict(zip(labels, map(dict, value.values()), strict=True))
        elif isinstance(value, list):
            labels = value
            for entry in value:
                if not isinstance(entry, str | int | float):
                    raise ValueError(
                        f"a value of an axis is a number or a word; got {entry!r}. Give it a "
                        "label: {LABEL: {dotted.key: value}}"
                    )
        else:
            raise ValueError(
                f"an axis has values; got {value!r}; expected a list, or a mapping from labels to "
                "settings"
            )
        if not labels or len(set(map(repr, labels))) < len(labels):
            raise ValueError("an axis has one or more different values")
        return value

    @model_validator(mode="after")
    def _key(self) -> AxisConfig:
        if isinstance(self.values, list) and self.key is None:
            raise ValueError("an axis with a list of values names their `key`, a dotted one")
        if isinstance(self.values, dict) and self.key is not None:
            raise ValueError("an axis with labels names its keys below them; remove `key`")
        strange = [v for v in self.only or () if v not in [*self.values]]
        if strange or self.only == []:
            known = ", ".join(map(str, self.values))
            raise ValueError(f"`only` lists values of the axis; got {strange}; known: {known}")
        return self

    @property
    def labels(self) -> list[Label]:
        """Its values, or the labels of its settings."""
        return [v for v in self.values if self.only is None or v in self.only]

    def settings(self, label: Label) -> dict[str, Any]:
        """What a value sets: dotted keys and values."""
        if isinstance(self.values, dict):
            return dict(self.values[label])
        assert self.key is not None
        return {self.key: label}


def _label(value: object) -> Label:
    """A label that reads as a number is one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    text = str(value)
    if not _NUMBER.fullmatch(text):
        return text
    return int(text) if re.fullmatch(r"[-+]?[0-9]+", text) else float(text)


class FeatureMapsConfig(Section):
    """Feature maps to keep for people to look at."""

    layer: ModulePath
    """Module path of the maps; networks without it are passed over."""
    images: Annotated[int, Field(ge=1, le=100, strict=True)] = 4
    """How many test images: the first ones, one per class in turn. They are kept in every row of
    the first seed, so not many."""


class SideBySideConfig(Section):
    """The same trained network on several backends."""

    backends: Annotated[list[str], Field(min_length=1), AfterValidator(_once)]
    samples: Count | None = None
    """How many test samples: the first ones, one per class in turn; None takes all. Simulators that
    run circuits one by one are slow."""


class EvaluationConfig(Section):
    """What is looked at after training, beside the test metrics."""

    robustness: dict[str, list[Level]] = Field(default={})
    """Levels by registered perturbation: test metrics on perturbed test samples."""
    feature_maps: FeatureMapsConfig | None = None
    """Kept for the first seed."""
    backend: str | None = None
    """Where circuits of trained students run on validation and test samples; None: where they were
    trained. Teachers stay where they are."""
    shots: Annotated[list[Count], AfterValidator(_once)] = Field(default=[])
    """Numbers of shots there: test metrics with each of them."""
    side_by_side: SideBySideConfig | None = None
    """For the first seed."""
    teacher: str | None = None
    """With a teacher's name: KL(teacher || student) at temperature 1 is one of the metrics."""

    @field_validator("robustness")
    @classmethod
    def _distinct(cls, value: dict[str, list[float]]) -> dict[str, list[float]]:
        for name, levels in value.items():
            if not levels or len(set(levels)) < len(levels):
                raise ValueError(f"the levels of {name} are one or more different numbers")
        return value
