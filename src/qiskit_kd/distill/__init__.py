# SPDX-License-Identifier: Apache-2.0
"""The method: losses, teachers, and the loop that trains a student on them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from qiskit_kd.distill import feature_losses, metrics
from qiskit_kd.distill.adapters import adapters
from qiskit_kd.distill.callbacks import Callback, History, State
from qiskit_kd.distill.distilled import Distilled, distill
from qiskit_kd.distill.distiller import Distiller
from qiskit_kd.distill.losses import Loss, loss, losses
from qiskit_kd.distill.placebos import shuffled, uniform
from qiskit_kd.distill.teacher import Teacher
from qiskit_kd.distill.terms import Ramp, Term
from qiskit_kd.distill.training import Training

__all__ = [
    "Callback",
    "Distilled",
    "Distiller",
    "History",
    "Loss",
    "Ramp",
    "State",
    "Teacher",
    "Term",
    "Training",
    "adapters",
    "distill",
    "feature_losses",
    "loss",
    "losses",
    "metrics",
    "shuffled",
    "uniform",
]


class _Room(ModuleType):
    """This room, which is also the call that it is named after: `qiskit_kd.distill(...)`."""

    def __call__(self, *arguments: Any, **options: Any) -> Distilled:
        return distill(*arguments, **options)


sys.modules[__name__].__class__ = _Room
