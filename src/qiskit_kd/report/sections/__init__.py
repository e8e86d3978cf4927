# SPDX-License-Identifier: Apache-2.0
"""The sections of a report, one file each; to add one see `qiskit_kd.report.document`."""

from __future__ import annotations

from qiskit_kd.report.sections import (
    backends,
    circuits,
    cost,
    device,
    noise,
    results,
    settings,
    training,
    verdict,
)

__all__ = [
    "backends",
    "circuits",
    "cost",
    "device",
    "noise",
    "results",
    "settings",
    "training",
    "verdict",
]
