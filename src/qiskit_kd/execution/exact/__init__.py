# SPDX-License-Identifier: Apache-2.0
"""The exact engine: lowering, normal form, sweeps."""

from qiskit_kd.execution.exact.engine import ExactEngine

__all__ = ["ExactEngine"]
