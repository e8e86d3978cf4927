# SPDX-License-Identifier: Apache-2.0
"""The plain way to run a circuit model: bind, build Qiskit's `Statevector`, read it out.

Written for reading, not for speed; every engine is tested against these functions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qiskit.quantum_info import Statevector

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups

__all__ = ["reference_outputs", "reference_weight_gradient"]


def reference_outputs(
    model: CircuitModel, features: NDArray[np.floating], weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    """`(batch, num_features)`, `(num_weights,)` to `(batch, num_outputs)`, sample by sample."""
    rows = []
    for angles in model.encoding.angles(np.asarray(features, float)):
        values = dict(zip(model.inputs, angles, strict=True))
        values |= dict(zip(model.weights, weights, strict=True))
        state = Statevector(model.circuit.assign_parameters(values))
        if isinstance(model.readout, ClassGroups):
            rows.append(state.probabilities() @ model.readout.matrix)
        else:
            rows.append([state.expectation_value(op).real for op in model.readout.operators])
    return np.array(rows).reshape(len(rows), model.num_outputs)


def reference_weight_gradient(
    model: CircuitModel,
    features: NDArray[np.floating],
    weights: NDArray[np.floating],
    cotangent: NDArray[np.floating],
    *,
    step: float = 1e-5,
) -> NDArray[np.float64]:
    """Central differences of `sum(cotangent * outputs)` in every weight, `(num_weights,)`."""
    gradient = []
    for direction in step * np.eye(len(weights)):
        up = reference_outputs(model, features, weights + direction)
        down = reference_outputs(model, features, weights - direction)
        gradient.append(((up - down) * cotangent).sum() / (2 * step))
    return np.array(gradient)
