# SPDX-License-Identifier: Apache-2.0
"""`EngineNetwork`: a circuit model on an engine, as qiskit-machine-learning's `NeuralNetwork`.

It lets our engines serve that package's classifiers, regressors and connectors. Gradients with
respect to inputs are on: the stock default leaves them None without a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit_machine_learning.neural_networks import NeuralNetwork

from qiskit_kd.circuits.model import CircuitModel, check_model
from qiskit_kd.execution.engine import Engine, Needs

__all__ = ["EngineNetwork"]

Array = NDArray[np.floating[Any]]


class EngineNetwork(NeuralNetwork):
    """A circuit model and the engine that runs it.

    Args:
        model: The circuit model.
        engine: What runs it.
    """

    def __init__(self, model: CircuitModel, engine: Engine) -> None:
        check_model(model, part="a network")
        super().__init__(
            num_inputs=model.num_features,
            num_weights=model.num_weights,
            sparse=False,
            output_shape=model.num_outputs,
            input_gradients=model.encoding.is_differentiable,
        )
        self.model = model
        self.engine = engine

    def _forward(self, input_data: Any, weights: Any) -> Array:
        return self.engine.outputs(self.model, input_data, weights)

    def _backward(self, input_data: Any, weights: Any) -> tuple[Array | None, Array | None]:
        needs = Needs(features=bool(self.input_gradients), weights=True)
        return self.engine.jacobian(self.model, input_data, weights, needs)
