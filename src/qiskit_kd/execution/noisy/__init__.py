# SPDX-License-Identifier: Apache-2.0
"""Exact simulation under a device's noise, at a cost that hardly depends on the batch."""

from qiskit_kd.execution.noisy.engine import NoisyEngine

__all__ = ["NoisyEngine"]
