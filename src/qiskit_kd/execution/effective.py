# SPDX-License-Identifier: Apache-2.0
"""How many weights of a circuit count: the rank of the Jacobian of what is read from it.

A weight that cannot move the readout is dead (`circuits.dead_weights`); beyond that, weights may do
what others do already: three rotations of one qubit in a row are one. The rank counts directions in
which the readout can be moved at all, so it is what circuits are to be compared by.
"""

from __future__ import annotations

import numpy as np

from qiskit_kd.circuits.model import CircuitModel, check_model
from qiskit_kd.errors import ConfigError, ResourceError
from qiskit_kd.execution.engine import Array, Needs
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.seeding import stream
from qiskit_kd.values import numbers

__all__ = ["effective_weights"]

_MAX_AMPLITUDES = 2**15  # one state per weight: eight qubits and 128 weights, half a second
_SPARE = 8  # rows of the Jacobian beyond the number of weights
_TOLERANCE = 1e-10  # of the largest singular value; the gap below the rank is six orders wide


def effective_weights(model: CircuitModel, features: Array | None = None) -> int:
    """The rank of the Jacobian of the outputs in the weights, at random weights.

    Args:
        model: The model; at most `2**15 / (num_weights + 1)` basis states.
        features: `(batch, num_features)` samples to find the rank on, which few samples limit; None
            draws normally distributed ones, more than weights.

    Raises:
        CircuitError: If it is no model.
        ConfigError: If the features are no numbers or have another width.
        ResourceError: If the model is too large.
    """
    check_model(model, part="a count of weights")
    weights = model.num_weights
    if (size := (weights + 1) * 2**model.num_qubits) > _MAX_AMPLITUDES:
        raise ResourceError(
            "the rank of the Jacobian takes one sweep per weight",
            got=f"{size} amplitudes for {weights} weights on {model.num_qubits} qubits",
            expected=f"at most {_MAX_AMPLITUDES}",
            remedy="Count the same ansatz on fewer qubits.",
        )
    draw = stream(0, "effective weights")
    if features is None:
        features = draw.normal(size=(weights + _SPARE, model.num_features))
    features = numbers(features, "features", error=ConfigError)
    if features.ndim != 2 or features.shape[1] != model.num_features:
        raise ConfigError(
            "features to count weights on are rows of the model's width",
            got=f"shape {features.shape}", expected=f"(batch, {model.num_features})",
        )  # fmt: skip
    at = draw.uniform(-np.pi, np.pi, weights)
    outputs, pullback = ExactEngine().vjp(model, features, at, Needs(features=False, weights=True))
    # Random combinations of its rows have the Jacobian's rank, and need few sweeps.
    rows = [pullback(each)[1] for each in draw.normal(size=(weights + _SPARE, *outputs.shape))]
    found = np.linalg.svd(np.array(rows), compute_uv=False)
    return int((found > _TOLERANCE * found[0]).sum()) if found[0] > 0 else 0
