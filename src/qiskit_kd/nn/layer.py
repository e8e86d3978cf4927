# SPDX-License-Identifier: Apache-2.0
"""`QuantumLayer`: a circuit model as a torch module, and a `TorchConnector` without its traps.

The stock connector returns float32 whatever it is given,
computes no input gradients unless asked, pays for gradients of frozen weights, and cannot be
pickled. This subclass overrides all of that and stays usable wherever a connector is expected.
"""

from __future__ import annotations

import hashlib
import io
import json
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from qiskit import QuantumCircuit, qpy
from qiskit.circuit import Parameter
from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2
from qiskit.providers import BackendV2
from qiskit.quantum_info import SparsePauliOp
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import NeuralNetwork
from torch import Tensor, nn

from qiskit_kd.circuits.model import CircuitModel, check_model
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import ConfigError, DataError, ExecutionError
from qiskit_kd.execution.autograd import run
from qiskit_kd.execution.backends import Backend, load_backend
from qiskit_kd.execution.engine import Engine, Needs
from qiskit_kd.seeding import stream
from qiskit_kd.values import python_number

AnyBackend: TypeAlias = str | Backend | Engine | BaseSamplerV2 | BaseEstimatorV2 | BackendV2
"""A name in the backend file, the object itself, or what `Backend.of` takes."""


class CircuitLayer(nn.Module):
    """What layers made of one circuit model share: weights, and an engine that may be exchanged.

    Setting `backend`, `gradient`, `shots`, `seed` (of the shots) or `engine` exchanges it.
    """

    model: CircuitModel
    weight: nn.Parameter
    _engine: Engine
    _made: tuple[Engine, str]
    _asked: dict[str, Any]

    def _set_up(
        self,
        model: CircuitModel,
        shape: tuple[int, ...],
        *,
        dtype: torch.dtype = torch.float32,
        trainable: bool = True,
        backend: AnyBackend = "exact",
        gradient: str = "auto",
        shots: int | None = None,
        seed: int | None = 0,
    ) -> None:
        """Model, first weights and engine.

        Weights are uniform in [-pi, pi) from the seed's stream, of seed 0 for None.
        """
        if dtype not in (torch.float32, torch.float64):
            raise ConfigError(
                "weights are real numbers",
                got=str(dtype),
                expected="torch.float32 or torch.float64",
            )
        start = stream(0 if seed is None else seed, "init").uniform(-torch.pi, torch.pi, shape)
        self.model = model
        self._run_on(backend=backend, gradient=gradient, shots=shots, seed=seed)
        values = nn.Parameter(torch.tensor(start, dtype=dtype), requires_grad=trainable)
        self.register_parameter("weight", values)

    def _run_on(self, **asked: Any) -> None:
        """An engine for `backend`, `gradient`, `shots` and `seed`; what is not given stays.

        Its digest are all options of its backend. Two backends of one name, say of a device before
        and after somebody changed the scale of its noise, must not answer for each other where
        outputs are kept.
        """
        asked = {**self.__dict__.get("_asked", {}), **asked}
        backend, gradient, shots = (asked[name] for name in ("backend", "gradient", "shots"))
        if isinstance(backend, str):
            backend = load_backend(backend)
        elif not isinstance(backend, Backend | Engine):
            backend = asked["backend"] = Backend.of(backend)
        if isinstance(backend, Backend):
            shots, seed = python_number(shots), python_number(asked["seed"])
            engine = backend.engine(gradient=gradient, shots=shots, seed=seed)
            options = backend.describe()
            told = {k: v for k, v in options.items() if k not in ("source", "description")}
            text = json.dumps(told, default=str, sort_keys=True)
            digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        elif gradient != "auto" or shots is not None:
            raise ConfigError(
                "an engine already has its gradient rule and shots",
                got=f"gradient={gradient!r}, shots={shots} beside an engine",
                remedy="Leave them out, or pass the backend's name.",
            )
        else:
            engine, digest = backend, ""
        self._asked, self._made, self._engine = asked, (engine, digest), engine

    @property
    def engine(self) -> Engine:
        """What runs the circuits."""
        return self._engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        if not isinstance(engine, Engine):
            raise ConfigError(
                "an engine runs circuit models",
                got=repr(engine),
                expected="an Engine",
                remedy="Names and Backend objects are set as layer.backend.",
            )
        self._engine = engine

    @property
    def backend(self) -> AnyBackend:
        """Where the circuits run: what was asked for, or the engine set since."""
        backend: AnyBackend = self._asked["backend"]
        return backend if self._engine is self._made[0] else self._engine

    @backend.setter
    def backend(self, backend: AnyBackend) -> None:
        own = {"gradient": "auto", "shots": None} if isinstance(backend, Engine) else {}
        self._run_on(backend=backend, **own)

    @property
    def gradient(self) -> str:
        """The gradient rule asked for."""
        return str(self._asked["gradient"])

    @gradient.setter
    def gradient(self, gradient: str) -> None:
        self._run_on(backend=self.backend, gradient=gradient)

    @property
    def shots(self) -> int | None:
        """Shots per circuit; None where outputs are exact."""
        return self._engine.shots

    @shots.setter
    def shots(self, shots: int | None) -> None:
        self._run_on(backend=self.backend, shots=shots)

    @property
    def seed(self) -> int | None:
        """The seed asked for; setting it makes an engine that draws its shots from there."""
        seed: int | None = self._asked["seed"]
        return seed

    @seed.setter
    def seed(self, seed: int | None) -> None:
        if isinstance(self.backend, Engine):
            raise ConfigError(
                "an engine already has its seed",
                got=f"seed={seed!r} beside an engine",
                remedy="Set an engine of that seed, or the backend's name.",
            )
        self._run_on(backend=self.backend, seed=seed)

    def circuit_text(self) -> str:
        """What the layer's `repr`, under which outputs are kept, says of circuit and engine."""
        engine, options = self._engine, self._made[1] if self._engine is self._made[0] else ""
        shots = f", shots={engine.shots}" if engine.shots else ""
        told = f"circuit={circuit_digest(self.model)}, backend={engine.name!r}{shots}"
        return told + (f", options={options}" if options else "")

    def engine_identity(self) -> str:
        """What tells this engine from others of its name where outputs are kept."""
        made = self._engine is self._made[0] and self._made[1]
        return "" if made else self._engine.identity()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """The two keys of a stock connector are one tensor; one of them is enough."""
        twin = state_dict.pop(f"{prefix}_weights", None)
        if twin is not None:
            weight = state_dict.setdefault(f"{prefix}weight", twin)
            other = twin.to(weight)
            alike = weight.shape == other.shape
            if not (alike and torch.allclose(weight, other, rtol=0, atol=0, equal_nan=True)):
                arguments[-1].append(
                    f"{prefix}weight and {prefix}_weights name one tensor, but their values "
                    "differ: leave one of them out."
                )
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def __prepare_scriptable__(self) -> nn.Module:
        """Refuse `torch.jit.script`."""
        raise ExecutionError(
            "a quantum layer runs on an engine, which TorchScript cannot hold",
            got="torch.jit.script",
            expected="a call of the module itself",
            remedy="Save state_dict(), build the module anew where it is loaded, and script its "
            "classical parts alone.",
        )


@lru_cache(maxsize=64)
def circuit_digest(model: CircuitModel) -> str:
    """Sixteen hexadecimal digits of circuit, readout and map of the features.

    Layers carry it in their `repr`, and so in the hash under which outputs are kept: two circuits
    of the same size must not answer for each other. The map is a function, so it counts by its
    values at two rows.
    """
    digest = hashlib.sha256()
    with io.BytesIO() as content:
        qpy.dump(model.circuit, content)
        digest.update(content.getvalue())
    readout = model.readout
    if isinstance(readout, ClassGroups):
        digest.update(readout.labels.tobytes())
    else:
        digest.update(repr([op.to_list() for op in readout.operators]).encode())
    rows = stream(0, "circuit digest").uniform(0.1, 1.0, (2, model.num_features))
    # Nine digits: an angle may differ in its last bits between machines.
    digest.update(repr(model.encoding.angles(rows).round(9).tolist()).encode())
    return digest.hexdigest()[:16]


Array = NDArray[np.floating[Any]]


class EngineNetwork(NeuralNetwork):
    """A circuit model and the engine that runs it."""

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

    def __repr__(self) -> str:
        return f"EngineNetwork({self.num_inputs} inputs, {self.num_weights} weights, {self.engine})"

    @property
    def circuit(self) -> QuantumCircuit:
        """The circuit, unmeasured; its parameters are `input_params`, then `weight_params`."""
        return self.model.circuit.copy()

    @property
    def input_params(self) -> list[Parameter]:
        """Parameters that the angles of a sample set."""
        return list(self.model.inputs)

    @property
    def weight_params(self) -> list[Parameter]:
        """Parameters that the weights set."""
        return list(self.model.weights)

    @property
    def observables(self) -> tuple[SparsePauliOp, ...]:
        """What is read; none where classes are."""
        readout = self.model.readout
        return () if isinstance(readout, ClassGroups) else readout.operators

    def _forward(self, input_data: Any, weights: Any) -> Array:
        return self.engine.outputs(self.model, input_data, weights)

    def _backward(self, input_data: Any, weights: Any) -> tuple[Array | None, Array | None]:
        needs = Needs(features=bool(self.input_gradients), weights=True)
        return self.engine.jacobian(self.model, input_data, weights, needs)


class _OwnAttribute:
    """Hides a property of the parent, so that a name is an ordinary parameter's again."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        raise AttributeError  # torch looks among the parameters then


class QuantumLayer(CircuitLayer, TorchConnector):
    """A trainable circuit as a layer: `(..., num_features)` to `(..., num_outputs)`.

    The outputs are class probabilities (`ClassGroups`) or expectation values (`Observables`), not
    logits; `qiskit_kd.nn` students turn them into logits.

    Args:
        model: The circuit model.
        backend: A name in `backends.yaml`, a `Backend`, an `Engine`, or a V2 primitive or
            `BackendV2` of somebody else's (see `Backend.of`).
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
        backend: AnyBackend = "exact",
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
        self._sparse = False
        run: dict[str, Any] = {"backend": backend, "gradient": gradient, "shots": shots}
        self._set_up(model, (model.num_weights,), dtype=dtype, seed=seed, **run)

    @property  # type: ignore[override]
    def _weights(self) -> Tensor:
        """The parent's name for the parameter, kept as a view so that it is not a second one."""
        return self.weight

    @_weights.setter
    def _weights(self, value: Tensor) -> None:
        del value
        raise ConfigError(
            "the weights of a layer are one tensor",
            got="_weights set",
            expected="weight",
            remedy="Set layer.weight; functional_call takes dict(layer.named_parameters()).",
        )

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        weight = destination.get(f"{prefix}weight")
        if weight is not None:  # a pruned or parametrised layer has other keys
            # A copy: formats such as safetensors refuse two names for one memory.
            destination[f"{prefix}_weights"] = weight if keep_vars else weight.clone()

    @property
    def neural_network(self) -> EngineNetwork:
        """The layer as qiskit-machine-learning's `NeuralNetwork`, on the same engine."""
        return EngineNetwork(self.model, self.engine)

    def forward(self, input_data: Tensor | None = None) -> Tensor:
        """Run the circuit for every row of `(..., num_features)` input data.

        Outputs `(..., num_outputs)` have its dtype and device.

        Raises:
            DataError: If there is no tensor, the width is wrong, or a row cannot be encoded.
            ExecutionError: If the layer is to be exported, or has no derivative of the kind.
        """
        if input_data is not None and (not isinstance(input_data, Tensor) or input_data.is_nested):
            raise DataError(
                "a layer takes one dense tensor",
                got="a nested tensor"
                if isinstance(input_data, Tensor)
                else f"an object of type {type(input_data).__name__}",
                expected=f"a tensor (..., {self.model.num_features})",
                remedy="Convert it: torch.as_tensor, or to_padded_tensor.",
            )
        if input_data is None or input_data.shape[-1:] != (self.model.num_features,):
            raise DataError(
                f"this layer takes rows of {self.model.num_features} features",
                got="nothing" if input_data is None else f"shape {tuple(input_data.shape)}",
                expected=f"(..., {self.model.num_features})",
                remedy="Change the layer in front or the encoding.",
            )
        if input_data.ndim == 2:
            weight = self._parameters.get("weight")  # elsewhere in a pruned or parametrised layer
            return run(
                self._engine, self.model, input_data, self.weight if weight is None else weight
            )
        rows = input_data.reshape(-1, self.model.num_features)
        values = run(self.engine, self.model, rows, self.weight)
        return values.reshape(*input_data.shape[:-1], self.model.num_outputs)

    def extra_repr(self) -> str:
        """Sizes, circuit and backend, for `print(layer)` and for the hash of a teacher."""
        return (
            f"qubits={self.model.num_qubits}, features={self.model.num_features}, "
            f"weights={self.model.num_weights}, outputs={self.model.num_outputs}, "
            f"{self.circuit_text()}"
        )
