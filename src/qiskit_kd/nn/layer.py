# SPDX-License-Identifier: Apache-2.0
"""`QuantumLayer`: a circuit model as a torch module, and a `TorchConnector` without its traps.

The stock connector returns float32 whatever it is given,
computes no input gradients unless asked, pays for gradients of frozen weights, and cannot be
pickled. This subclass overrides all of that and stays usable wherever a connector is expected.
"""

from __future__ import annotations

from typing import Any

import torch
from qiskit_machine_learning.connectors import TorchConnector
from torch import Tensor, nn

from qiskit_kd.circuits.model import CircuitModel, check_model
from qiskit_kd.errors import ConfigError, DataError
from qiskit_kd.execution.autograd import run
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Engine
from qiskit_kd.nn.network import EngineNetwork
from qiskit_kd.nn.wiring import OnEngine, circuit_digest, first_weights

__all__ = ["QuantumLayer"]


class _OwnAttribute:
    """Hides a property of the parent, so that a name is an ordinary parameter's again."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        raise AttributeError  # torch looks among the parameters then


class QuantumLayer(OnEngine, TorchConnector):
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
        weight: `(num_weights,)` angles in radians, the one parameter. In a state dict it has the
            stock connector's two keys, `weight` and `_weights`, so that each loads the other's;
            one of them is enough.
        backend: What `backend` was. Setting it exchanges the engine, as setting `gradient`,
            `shots`, `seed` (of the shots) or `engine` does.
    """

    weight: nn.Parameter = _OwnAttribute()  # type: ignore[assignment]

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
        self._run_on(backend=backend, gradient=gradient, shots=shots, seed=seed)
        self._sparse = False
        self.register_parameter("weight", start)

    @property  # type: ignore[override]
    def _weights(self) -> Tensor:
        """The parent's name for the parameter, kept as a view so that it is not a second one."""
        return self.weight

    @_weights.setter
    def _weights(self, value: Tensor) -> None:
        del value
        raise ConfigError(
            "the weights of a layer are one tensor", got="_weights set", expected="weight",
            remedy="Set layer.weight; functional_call takes dict(layer.named_parameters()).",
        )  # fmt: skip

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        weight = destination.get(f"{prefix}weight")
        if weight is not None:  # a pruned or parametrised layer has other keys
            # A copy: formats such as safetensors refuse two names for one memory.
            destination[f"{prefix}_weights"] = weight if keep_vars else weight.clone()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any],
        strict: bool, missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        twin = state_dict.pop(f"{prefix}_weights", None)
        if twin is not None:
            weight = state_dict.setdefault(f"{prefix}weight", twin)
            other = twin.to(weight)
            alike = weight.shape == other.shape
            if not (alike and torch.allclose(weight, other, rtol=0, atol=0, equal_nan=True)):
                error_msgs.append(
                    f"{prefix}weight and {prefix}_weights name one tensor, but their values "
                    "differ: leave one of them out."
                )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

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
            DataError: If there is no tensor, the width is wrong, or a row cannot be encoded.
            ExecutionError: If the layer is to be exported, or has no derivative of the kind.
        """
        if input_data is not None and (not isinstance(input_data, Tensor) or input_data.is_nested):
            raise DataError(
                "a layer takes one dense tensor",
                got="a nested tensor" if isinstance(input_data, Tensor)
                else f"an object of type {type(input_data).__name__}",
                expected=f"a tensor (..., {self.model.num_features})",
                remedy="Convert it: torch.as_tensor, or to_padded_tensor.",
            )  # fmt: skip
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
            f"circuit={circuit_digest(self.model)}, {self.engine_text()}"
        )
