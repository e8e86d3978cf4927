# SPDX-License-Identifier: Apache-2.0
"""Whether a network offers gradients of the features follows from its encoding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qiskit_kd.circuits import (
    CircuitModel,
    ClassGroups,
    Encoding,
    amplitude,
    amplitude_mps,
    angle,
    hardware_efficient,
)
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.nn.layer import EngineNetwork


@pytest.mark.parametrize(
    ("encoding", "offered"),
    [
        (amplitude(2), True),
        (replace(amplitude(2), angle_pullback=None), True),
        (angle(2), True),
        (replace(angle(2), angle_pullback=None), False),
        (amplitude_mps(2), False),
    ],
)
def test_gradients_of_the_features_are_those_the_encoding_has(
    encoding: Encoding, offered: bool
) -> None:
    model = CircuitModel(encoding, hardware_efficient(2, 1), ClassGroups(3, 2))
    network = EngineNetwork(model, ExactEngine())
    assert network.input_gradients == offered
    x = np.random.default_rng(0).normal(size=(2, model.num_features))
    weights = np.linspace(-1, 1, model.num_weights)
    features, of_weights = network.backward(x, weights)
    assert of_weights is not None
    assert (features is not None) == offered
    if features is not None:
        step = np.zeros_like(x)
        step[:, 1] = 1e-6
        slope = (network.forward(x + step, weights) - network.forward(x - step, weights)) / 2e-6
        np.testing.assert_allclose(features[:, :, 1], slope, atol=1e-7)
