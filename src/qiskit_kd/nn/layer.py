# SPDX-License-Identifier: Apache-2.0
"""`QuantumLayer`: a circuit model as a torch module, and a `TorchConnector` without its traps.

The stock connector has two state-dict keys for one tensor, returns float32 whatever it is given,
computes no input gradients unless asked, pays for gradients of frozen weights, and cannot be
pickled. This subclass overrides all of that and stays usable wherever a connector is expected.
"""

from __future__ import annotations

import torch
from qiskit_machine_learning.connectors import TorchConnector
from torch import Tensor, nn

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.errors import DataError
from qiskit_kd.execution.autograd import run
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Engine
from qiskit_kd.nn.network import EngineNetwork
from qiskit_kd.nn.wiring import (
    check_model,
    choose_engine,
    circuit_digest,
    engine_text,
    first_weights,
    options_digest,
)

__all__ = ["QuantumLayer"]


class QuantumLayer(TorchConnector):
    """A trainable circuit as a layer: `(..., num_features)` to `(..., num_outputs)`.

    The outputs are class probabilities (`ClassGroups`) or expectation values (`Observables`), not
    logits; `qiskit_kd.nn` students turn them into logits.

    Args:
        model: The circuit model.
        backend: A name in `backends.yaml`, a `Backend`, or an `Engine`.
        gradient: `"auto"`, `"shift"` or `"spsa"`; auto is exact where the engine differentiates.
        shots: Overrides the backend's number of shots.
        seed: Seeds the initial weights, uniform in [-pi, pi), and the shots; None draws fresh shots
            and the initial weights of seed 0.
        dtype: Type of the weights; outputs have the type of the inputs.

    Raises:
        CircuitError: If `model` is no `CircuitModel`.
        ConfigError: If the backend is unknown, or an option fits neither it nor the weights.

    Attributes:
        weight: `(num_weights,)` angles in radians, the one parameter.
    """

    def __init__(
        self,
        model: CircuitModel,
        backend: str | Backend | Engine = "exact",
        gradient: str = "auto",
        shots: int | None = None,
        seed: int | None = 0,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        # Not the parent's __init__: it registers the parameter twice and draws its start from
        # torch's global generator.
        nn.Module.__init__(self)
        check_model(model, part="a quantum layer")
        start = first_weights((model.num_weights,), seed, dtype)
        self.model = model
        self.engine = choose_engine(backend, gradient, shots, seed)
        self._options = options_digest(backend)
        self._sparse = False
        self.register_parameter("weight", start)

    @property
    def _weights(self) -> Tensor:  # type: ignore[override]
        """The parent's name for the parameter, kept as a view so that it is not a second key."""
        return self.weight

    @property
    def weight(self) -> Tensor:
        """`(num_weights,)` trainable angles in radians."""
        try:
            return self._parameters["weight"]  # type: ignore[return-value]
        except KeyError:
            raise AttributeError("weight") from None

    @property
    def neural_network(self) -> EngineNetwork:
        """The layer as qiskit-machine-learning's `NeuralNetwork`, on the same engine."""
        return EngineNetwork(self.model, self.engine)

    def forward(self, input_data: Tensor | None = None) -> Tensor:
        """Run the circuit for every row of `input_data`.

        Args:
            input_data: `(..., num_features)`, float32 or float64.

        Returns:
            `(..., num_outputs)` in the same dtype and on the same device.

        Raises:
            DataError: If the width is wrong or a row cannot be encoded.
        """
        if input_data is None or input_data.shape[-1:] != (self.model.num_features,):
            raise DataError(
                f"this layer takes rows of {self.model.num_features} features",
                got="nothing" if input_data is None else f"shape {tuple(input_data.shape)}",
                expected=f"(..., {self.model.num_features})",
                remedy="Change the layer in front or the encoding.",
            )
        if input_data.ndim == 2:
            return run(self.engine, self.model, input_data, self.weight)
        rows = input_data.reshape(-1, self.model.num_features)
        values = run(self.engine, self.model, rows, self.weight)
        return values.reshape(*input_data.shape[:-1], self.model.num_outputs)

    def extra_repr(self) -> str:
        """Sizes, circuit and backend, for `print(layer)` and for the hash of a teacher."""
        return (
            f"qubits={self.model.num_qubits}, features={self.model.num_features}, "
            f"weights={self.model.num_weights}, outputs={self.model.num_outputs}, "
            f"circuit={circuit_digest(self.model)}, {engine_text(self.engine, self._options)}"
        )
