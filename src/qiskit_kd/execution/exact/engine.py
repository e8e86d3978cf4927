# SPDX-License-Identifier: Apache-2.0
"""`ExactEngine`: noise-free class probabilities and expectation values, with exact gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from qiskit_kd.circuits.model import CircuitModel, check_model
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import ConfigError, DataError, ResourceError
from qiskit_kd.execution.engine import Array, Engine, Needs, Pullback, Usage, check_weights
from qiskit_kd.execution.exact.program import Program
from qiskit_kd.execution.exact.torch_ops import TorchProgram
from qiskit_kd.execution.memory import require_memory
from qiskit_kd.execution.torch_use import counted, own_vjp
from qiskit_kd.seeding import stream
from qiskit_kd.values import numbers

K = TypeVar("K")
V = TypeVar("V")

_LOCK = Lock()
_KEPT = 64  # compiled models; an engine is shared by many short-lived students
_CHUNK_BYTES = 2**30  # a run that would keep more than this is split and recomputed backwards


class ExactEngine(Engine):
    """Statevector simulation by fused sweeps; circuits are compiled once per dtype.

    Args:
        name: The backend's name, for reports.
    """

    def __init__(self, *, name: str = "exact") -> None:
        self.name = name
        self.usage = Usage()
        self._programs: dict[tuple[CircuitModel, np.dtype[Any]], Program] = {}
        self._torch_programs: dict[CircuitModel, TorchProgram] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "usage": self.usage}  # programs are rebuilt where it lands

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(name=state["name"])  # type: ignore[misc]
        self.usage = state["usage"]

    def identity(self) -> str:
        """See `Engine.identity`."""
        return "exact"

    def outputs(self, model: CircuitModel, features: Array, weights: Array) -> Array:
        """See `Engine.outputs`."""
        return self.vjp(model, features, weights, Needs(features=False, weights=False))[0]

    @own_vjp
    def vjp(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        """See `Engine.vjp`."""
        program = self._programs.get((model, features.dtype)) or self.program(model, features.dtype)
        check_weights(model, weights)
        if weights.dtype != features.dtype:
            weights = weights.astype(features.dtype)
        lead = weights.shape[:-1]
        operator = program.operator if len(features) > program.operator_from else None
        if operator is not None and weights.size:
            rows = weights.reshape(-1, model.num_weights)
            values, back = operator.run(features, rows, needs)
            if _drowns(model, values):
                return _in_double(self.vjp, model, features, weights, needs)
            self.usage.executions += len(features) * len(rows)

            def stacked(cotangent: Array) -> tuple[Array | None, Array | None]:
                gx, gw = back(cotangent.reshape(-1, *cotangent.shape[-2:]))
                return gx, None if gw is None else gw.reshape(*lead, -1)

            return values.reshape(*lead, *values.shape[1:]), stacked if needs.any else back
        if weights.ndim == 1:
            return self._one(program, features, weights, needs)
        runs = [
            self._one(program, features, row, needs)
            for row in weights.reshape(-1, model.num_weights)
        ]
        shape = (len(runs), len(features), model.num_outputs)
        outputs = np.array([values for values, _ in runs], features.dtype).reshape(shape)

        def pullback(cotangent: Array) -> tuple[Array | None, Array | None]:
            flat = cotangent.reshape(len(runs), *outputs.shape[1:])
            pairs = [back(c) for (_, back), c in zip(runs, flat, strict=True)]
            gx = sum((x for x, _ in pairs if x is not None), start=np.zeros_like(features))
            gw = [w for _, w in pairs if w is not None]
            return (
                gx if needs.features else None,
                np.array(gw, weights.dtype).reshape(weights.shape) if needs.weights else None,
            )

        return outputs.reshape(*lead, *outputs.shape[1:]), pullback

    def torch_form(self, model: CircuitModel) -> Callable[[Tensor, Tensor], Tensor] | None:
        """See `Engine.torch_form`: the same layers as torch operations, on any device."""
        program = _cached(self._torch_programs, model, lambda: TorchProgram(model))
        return program.outputs if program.is_supported else None

    def torch_outputs(
        self, model: CircuitModel, features: Tensor, weights: Tensor
    ) -> Tensor | None:
        """See `Engine.torch_outputs`."""
        form = self.torch_form(model)
        if form is None:
            return None
        check_weights(model, weights.detach().cpu().numpy())
        norms = torch.linalg.vector_norm(features.detach(), dim=1)
        least = 0 if model.encoding.zero_is_undefined else -1
        if not bool((torch.isfinite(norms) & (norms > least)).all()):
            model.encoding.check(features.detach().cpu().numpy())  # names the row
        self.usage.executions += len(features) * max(1, weights[..., 0].numel())
        return counted(form(features, weights), self.usage)

    def program(self, model: CircuitModel, dtype: Any) -> Program:
        """The compiled model, made on first use.

        Raises:
            ResourceError: If not even one sample fits into memory.
        """
        kind = np.dtype(dtype)
        return _cached(self._programs, (model, kind), lambda: _compile(model, kind))

    def _one(
        self, program: Program, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        self.usage.executions += len(features)
        if len(features) <= program.fitting or program.bytes_for(len(features)) <= _CHUNK_BYTES:
            program.fitting = max(program.fitting, len(features))
            return program.run(features, weights, needs)
        if program.bytes_for(1) > _CHUNK_BYTES:
            require_memory(
                program.bytes_for(1),
                "the states of one sample behind every layer",
                "Use fewer qubits or fewer layers.",
            )
        run = program.run if len(features) == 1 else partial(_chunked, program)
        return run(features, weights, needs)


def _cached(kept: dict[K, V], key: K, make: Callable[[], V]) -> V:
    """Least recently made goes first; a hit costs one look-up."""
    found = kept.get(key)
    if found is None:
        made = make()
        with _LOCK:
            found = kept.setdefault(key, made)
            while len(kept) > _KEPT:
                kept.pop(next(iter(kept)))
    return found


def _drowns(model: CircuitModel, values: Array) -> bool:
    """Whether a class probability is as small as what single precision rounds.

    A form's rounding error is that of its largest coefficient; the other ways add up squares.
    """
    if values.dtype != np.float32 or not isinstance(model.readout, ClassGroups):
        return False
    return bool(values.size) and values.min() < 16 * float(np.finfo(np.float32).eps)


def _in_double(
    vjp: Callable[..., tuple[Array, Pullback]],
    model: CircuitModel,
    features: Array,
    weights: Array,
    needs: Needs,
) -> tuple[Array, Pullback]:
    """A run in double precision, with outputs and gradients in that of the features."""
    kind = features.dtype
    outputs, back = vjp(model, features.astype(float), weights.astype(float), needs)

    def pullback(cotangent: Array) -> tuple[Array | None, Array | None]:
        gx, gw = back(cotangent.astype(float))
        return (
            None if gx is None else gx.astype(kind),
            None if gw is None else gw.astype(kind),
        )

    return outputs.astype(kind), pullback


def _chunked(
    program: Program, features: Array, weights: Array, needs: Needs
) -> tuple[Array, Pullback]:
    """Run in slices and recompute each one backwards: memory of one slice instead of all."""
    per_row = program.bytes_for(1)
    step = max(1, min(len(features), int(_CHUNK_BYTES // per_row)))
    slices = [slice(k, k + step) for k in range(0, len(features), step)]
    nothing = Needs(features=False, weights=False)
    outputs = np.concatenate([program.run(features[s], weights, nothing)[0] for s in slices])

    def pullback(cotangent: Array) -> tuple[Array | None, Array | None]:
        pairs = [program.run(features[s], weights, needs)[1](cotangent[s]) for s in slices]
        gx = [x for x, _ in pairs if x is not None]
        gw = [w for _, w in pairs if w is not None]
        return (
            np.concatenate(gx) if needs.features else None,
            sum(gw, start=np.zeros_like(weights)) if needs.weights else None,
        )

    return outputs, pullback


def _compile(model: CircuitModel, dtype: np.dtype[Any]) -> Program:
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise DataError(
            "the exact engine computes in single or double precision",
            got=str(dtype),
            expected="float32 or float64",
            remedy="Convert the features first.",
        )
    # The largest tables are the phase generators, one per gate, in double precision while they are
    # collected and once more in `dtype` when they are stacked.
    gates = model.ansatz.size() + model.encoding.circuit.size()
    require_memory(
        (gates + 16) * 2**model.num_qubits * (8 + dtype.itemsize),
        f"the exact simulation of {model.num_qubits} qubits and {gates} gates",
        "Use fewer qubits, or a backend of kind aer or a device.",
    )
    return Program(model, dtype)


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
            got=f"shape {features.shape}",
            expected=f"(batch, {model.num_features})",
        )
    at = draw.uniform(-np.pi, np.pi, weights)
    outputs, pullback = ExactEngine().vjp(model, features, at, Needs(features=False, weights=True))
    # Random combinations of its rows have the Jacobian's rank, and need few sweeps.
    rows = [pullback(each)[1] for each in draw.normal(size=(weights + _SPARE, *outputs.shape))]
    found = np.linalg.svd(np.array(rows), compute_uv=False)
    return int((found > _TOLERANCE * found[0]).sum()) if found[0] > 0 else 0
