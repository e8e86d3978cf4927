# SPDX-License-Identifier: Apache-2.0
"""Torch modules: circuits as layers, and the students and teachers of distillation studies."""

# Students of other files register themselves when their module is loaded.
from qiskit_kd.nn import controls as _controls  # noqa: F401
from qiskit_kd.nn import images as _images  # noqa: F401
from qiskit_kd.nn.circuit_spec import CircuitSpec, RunOptions, quantum_student
from qiskit_kd.nn.export import export
from qiskit_kd.nn.layer import EngineNetwork, QuantumLayer
from qiskit_kd.nn.modules import FullyQuantumStudent, HybridStudent, num_parameters
from qiskit_kd.nn.quanvolution import Quanvolution
from qiskit_kd.nn.shots import FewShotsWarning, shots_needed
from qiskit_kd.nn.students import students

__all__ = [
    "CircuitSpec",
    "EngineNetwork",
    "FewShotsWarning",
    "FullyQuantumStudent",
    "HybridStudent",
    "QuantumLayer",
    "Quanvolution",
    "RunOptions",
    "export",
    "num_parameters",
    "quantum_student",
    "shots_needed",
    "students",
]
