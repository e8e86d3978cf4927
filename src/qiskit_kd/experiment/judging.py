# SPDX-License-Identifier: Apache-2.0
"""The section `evaluation` of an experiment's schema: what is asked of trained networks."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field, field_validator

from qiskit_kd.experiment.sections import Count, Level, ModulePath, Section

__all__ = ["EvaluationConfig", "FeatureMapsConfig", "SideBySideConfig"]

_Value = TypeVar("_Value", int, str)


def _once(values: list[_Value]) -> list[_Value]:
    if len(set(values)) < len(values):
        raise ValueError(f"each is named once; got {values}")
    return values


class FeatureMapsConfig(Section):
    """Feature maps to keep for people to look at."""

    layer: ModulePath
    """Module path of the maps; networks without it are passed over."""
    images: Annotated[int, Field(ge=1, le=100, strict=True)] = 4
    """How many test images: the first ones, one per class in turn. They are kept in every row of
    the first seed, so not many."""


class SideBySideConfig(Section):
    """The same trained network on several backends."""

    backends: Annotated[list[str], Field(min_length=1)]
    samples: Count | None = None
    """How many test samples: the first ones, one per class in turn; None takes all. Simulators that
    run circuits one by one are slow."""

    @field_validator("backends")
    @classmethod
    def _different(cls, value: list[str]) -> list[str]:
        return _once(value)


class EvaluationConfig(Section):
    """What is looked at after training, beside the test metrics."""

    robustness: dict[str, list[Level]] = Field(default={})
    """Levels by registered perturbation: test metrics on perturbed test samples."""
    feature_maps: FeatureMapsConfig | None = None
    """Kept for the first seed."""
    backend: str | None = None
    """Where circuits of trained students run on validation and test samples; None: where they were
    trained. Teachers stay where they are."""
    shots: list[Count] = Field(default=[])
    """Numbers of shots there: test metrics with each of them."""
    side_by_side: SideBySideConfig | None = None
    """For the first seed."""
    teacher: str | None = None
    """With a teacher's name: KL(teacher || student) at temperature 1 is one of the metrics."""

    @field_validator("shots")
    @classmethod
    def _different(cls, value: list[int]) -> list[int]:
        return _once(value)

    @field_validator("robustness")
    @classmethod
    def _distinct(cls, value: dict[str, list[float]]) -> dict[str, list[float]]:
        for name, levels in value.items():
            if not levels or len(set(levels)) < len(levels):
                raise ValueError(f"the levels of {name} are one or more different numbers")
        return value
