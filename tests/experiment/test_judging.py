# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from qiskit_kd.experiment.schema import EvaluationConfig, SideBySideConfig


def test_nothing_is_asked_for_by_default() -> None:
    assert EvaluationConfig().model_dump(exclude_none=True) == {"robustness": {}, "shots": []}


def test_everything() -> None:
    asked = {
        "robustness": {"noise": [0.1]}, "feature_maps": {"layer": "filters", "images": 2},
        "backend": "noisy", "shots": [64, 16384], "teacher": "soft",
        "side_by_side": {"backends": ["exact", "noisy"], "samples": 48},
    }  # fmt: skip
    config = EvaluationConfig.model_validate(asked)
    assert config.model_dump() == asked
    assert SideBySideConfig(backends=["exact"]).samples is None
    with pytest.raises(ValidationError, match="frozen"):
        config.backend = "exact"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"shots": [64, 64]}, "shots\n  Value error, each is named once; got [64, 64]"),
        ({"shots": [0]}, "shots.0\n  Input should be greater than or equal to 1"),
        ({"shots": ["64"]}, "shots.0\n  Input should be a valid integer"),
        ({"shots": [True]}, "shots.0\n  Input should be a valid integer"),
        ({"shots": 64}, "shots\n  Input should be a valid list"),
        ({"side_by_side": {"backends": []}}, "backends\n  List should have at least 1 item"),
        ({"side_by_side": {"backends": ["a", "a"]}},
         "backends\n  Value error, each is named once; got ['a', 'a']"),
        ({"side_by_side": {"backends": ["a"], "samples": 0}}, "samples\n  Input should be greater"),
        ({"side_by_side": {}}, "side_by_side.backends\n  Field required"),
        ({"side_by_side": {"backends": ["a"], "sample": 3}}, "side_by_side.sample\n  Extra inputs"),
        ({"backend": 3}, "backend\n  Input should be a valid string"),
        ({"bakend": "noisy"}, "bakend\n  Extra inputs"),
        ({"feature_maps": {"layer": ""}}, "layer\n  String should have at least 1 character"),
        ({"feature_maps": {"layer": "a", "images": 0}}, "images\n  Input should be greater than"),
        ({"feature_maps": {"layer": "a", "images": 101}}, "images\n  Input should be less than"),
        ({"robustness": {"noise": []}}, "the levels of noise are one or more different numbers"),
        ({"robustness": {"noise": [1, 1.0]}}, "the levels of noise are one or more different"),
    ],
)  # fmt: skip
def test_refuses(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        EvaluationConfig.model_validate(asked)
