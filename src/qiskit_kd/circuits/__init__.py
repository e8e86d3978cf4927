# SPDX-License-Identifier: Apache-2.0
"""What is run: encodings, ansatze, readouts, models and circuit files; never imports torch."""

from __future__ import annotations

from qiskit_kd.circuits.ansatze import (
    ansatze,
    hardware_efficient,
    product,
    real_amplitudes,
    strongly_entangling,
    su4_brickwork,
)
from qiskit_kd.circuits.dead_weights import DeadWeightsWarning, dead_weights, warn_dead_weights
from qiskit_kd.circuits.encodings import (
    amplitude,
    amplitude_mps,
    angle,
    dense_angle,
    encodings,
    reuploading,
)
from qiskit_kd.circuits.files import load_ansatz
from qiskit_kd.circuits.model import CircuitModel, Encoding
from qiskit_kd.circuits.parameters import input_parameters, weight_parameters
from qiskit_kd.circuits.readouts import ClassGroups, Observables, Readout

__all__ = [
    "CircuitModel",
    "ClassGroups",
    "DeadWeightsWarning",
    "Encoding",
    "Observables",
    "Readout",
    "amplitude",
    "amplitude_mps",
    "angle",
    "ansatze",
    "dead_weights",
    "dense_angle",
    "encodings",
    "hardware_efficient",
    "input_parameters",
    "load_ansatz",
    "product",
    "real_amplitudes",
    "reuploading",
    "strongly_entangling",
    "su4_brickwork",
    "warn_dead_weights",
    "weight_parameters",
]
