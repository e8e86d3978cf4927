# SPDX-License-Identifier: Apache-2.0
"""Torch modules: circuits as layers, and the students and teachers of distillation studies."""

from qiskit_kd.nn.layer import QuantumLayer
from qiskit_kd.nn.network import EngineNetwork
from qiskit_kd.nn.students import num_parameters, students

__all__ = ["EngineNetwork", "QuantumLayer", "num_parameters", "students"]
