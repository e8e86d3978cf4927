# SPDX-License-Identifier: Apache-2.0
"""The unit of study: configuration, plan, tasks, store, runner, statistics.

Names are resolved on first use: a worker process must set its threads before torch is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qiskit_kd.experiment.config import ExperimentConfig
    from qiskit_kd.experiment.result import StudyResult
    from qiskit_kd.experiment.statistics import Gain, paired_gain, verdict
    from qiskit_kd.experiment.study import Study

__all__ = ["ExperimentConfig", "Gain", "Study", "StudyResult", "paired_gain", "verdict"]

_HOMES = {
    "ExperimentConfig": "config",
    "Gain": "statistics",
    "Study": "study",
    "StudyResult": "result",
    "paired_gain": "statistics",
    "verdict": "statistics",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
