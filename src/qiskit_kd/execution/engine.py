# SPDX-License-Identifier: Apache-2.0
"""`Engine`: the one interface between a circuit model and whatever runs it.

An engine works on numpy arrays, so that circuits can be run without torch. It offers values
(`outputs`) and values together with their vector-Jacobian product (`vjp`); what lies behind, exact
adjoint sweeps or a job full of shifted circuits, is its own business.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.circuits.model import CircuitModel, check_model
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import DataError
from qiskit_kd.execution.transpiling import CircuitFacts
from qiskit_kd.values import numbers

if TYPE_CHECKING:
    from torch import Tensor


Array = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Needs:
    """Which gradients a caller will ask for; an engine does no work for the others."""

    features: bool
    weights: bool
    any: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "any", self.features or self.weights)


Pullback = Callable[[Array], tuple[Array | None, Array | None]]
"""Gradient of the outputs `(..., batch, num_outputs)` to (gradient of features, of weights)."""


@dataclass(slots=True)
class Usage:
    """What an engine has done since it was made; the numbers a device would be paid for."""

    executions: int = 0
    """Circuit executions: bound circuits times shots (exact engines count bound circuits)."""
    pubs: int = 0
    """Primitive unified blocs sent."""
    jobs: int = 0
    """Jobs submitted."""
    transpilations: int = 0
    """Circuits transpiled."""
    backward: int = 0
    """Gradient evaluations."""
    qpu_seconds: float = 0.0
    """Seconds of quantum processor time reported by the service."""

    def as_dict(self) -> dict[str, float]:
        """Plain dictionary, for logs and rows."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def check_run(
    model: CircuitModel, features: object, weights: object
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The model checked; features and weights as numpy's arrays, masked ones refused.

    Raises:
        CircuitError: If `model` is no `CircuitModel`.
        DataError: As `values.numbers`.
    """
    if not isinstance(model, CircuitModel):
        check_model(model, part="a run")
    arrays: list[NDArray[Any]] = []
    for values, of in ((features, "features"), (weights, "weights")):
        if type(values) is np.ndarray and values.ndim and values.dtype.kind in "fiuc":
            arrays.append(values)  # judged by the engine, in its own precision
        else:
            arrays.append(numbers(values, of))
    return arrays[0], arrays[1]


def check_weights(model: CircuitModel, weights: Array) -> None:
    """Refuse weights that are not `(..., num_weights)` finite numbers, with a DataError."""
    if weights.shape[-1:] != (model.num_weights,):
        raise DataError(
            f"the model takes {model.num_weights} weights",
            got=f"shape {weights.shape}",
            expected=f"(..., {model.num_weights})",
        )
    if not np.isfinite(weights).all():
        place = np.argwhere(~np.isfinite(weights))[0].tolist()
        raise DataError(
            "weights are finite numbers",
            got=f"{weights[tuple(place)]} at {place}",
            remedy="Set finite weights. If training made them so, look at its loss, which was not "
            "finite before, or lower the learning rate.",
        )


def not_negative(
    model: CircuitModel, outputs: Array, pullback: Pullback, needs: Needs
) -> tuple[Array, Pullback]:
    """Class probabilities that rounding left below zero are zero, and nothing moves them.

    `(..., batch, num_outputs)`; expectation values are left alone.
    """
    if not isinstance(model.readout, ClassGroups) or not outputs.size or outputs.min() >= 0:
        return outputs, pullback
    # A logarithm's slope there would be a large number times the rounding error of a zero.
    lost = outputs < 0
    found = np.where(lost, 0, outputs)
    if not needs.any:
        return found, pullback
    return found, lambda cotangent: pullback(np.where(lost, 0, cotangent))


class Engine(ABC):
    """Runs circuit models.

    Features are raw data rows; the engine applies the model's encoding, because how an encoding is
    best carried out (as a circuit, or as a vector that needs no circuit) depends on the engine.
    """

    name: str
    """The name it was asked for by, for reports."""
    usage: Usage
    shots: int | None = None
    """Shots per circuit; None where outputs are exact."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abstractmethod
    def outputs(self, model: CircuitModel, features: Array, weights: Array) -> Array:
        """Run the model.

        Args:
            model: The circuit model.
            features: `(batch, num_features)`.
            weights: `(..., num_weights)`, radians; leading axes are evaluated side by side.

        Returns:
            `(..., batch, num_outputs)` class probabilities or expectation values, in the dtype of
            `features`.
        """

    @abstractmethod
    def vjp(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        """Run the model as `outputs`, and keep what the gradients need that will be asked for.

        Returns:
            The outputs, and a pullback that may be called any number of times.
        """

    def jacobian(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array | None, Array | None]:
        """Full Jacobians at weights `(num_weights,)`, for callers that want them.

        Returns:
            `(batch, num_outputs, num_features)` and `(batch, num_outputs, num_weights)`.
        """
        by_features: list[Array | None] = []
        by_weights: list[Array | None] = []
        for row in features:
            for direction in np.eye(model.num_outputs, dtype=features.dtype):
                _, pullback = self.vjp(model, row[None], weights, needs)
                gx, gw = pullback(direction[None])
                by_features.append(gx)
                by_weights.append(gw)
        shape = (len(features), model.num_outputs)
        return (
            np.array(by_features).reshape(*shape, model.num_features) if needs.features else None,
            np.array(by_weights).reshape(*shape, model.num_weights) if needs.weights else None,
        )

    def place(self, model: CircuitModel, *, like: CircuitModel) -> None:
        """Run one model on the qubits of another: it is the same circuit in another form."""
        del model, like

    def check(self, model: CircuitModel) -> None:
        """Refuse a model that can never run here; cheap, and before anything is paid for.

        Raises:
            CircuitError: If it is wider than the device, or cannot be written in its gates.
        """
        del model

    def compiled(self, model: CircuitModel) -> CircuitFacts | None:
        """What became of a model's circuit on a device; None where there is no device."""
        del model
        return None

    def identity(self) -> str:
        """Text that no other engine has, unless it gives equal outputs; copies have it too."""
        return str(self.__dict__.setdefault("_identity", uuid.uuid4().hex))

    def describe(self) -> dict[str, Any]:
        """Device, calibration, circuits and jobs, for reports; nothing of a simulator."""
        return {}

    def position(self) -> dict[str, int]:
        """How far random streams have been drawn; empty where nothing is random."""
        return {}

    def seek(self, position: Mapping[str, int]) -> None:
        """Continue where an engine with the same seed had `position`."""
        del position

    def torch_form(self, model: CircuitModel) -> Callable[[Tensor, Tensor], Tensor] | None:
        """The model as plain torch operations, for second derivatives; None where there are none.

        It takes features `(batch, num_features)` and weights `(..., num_weights)`, checks nothing
        and counts nothing.
        """
        del model
        return None

    def torch_outputs(
        self, model: CircuitModel, features: Tensor, weights: Tensor
    ) -> Tensor | None:
        """Run on the tensors' own device as torch operations; None where an engine cannot."""
        del model, features, weights
        return None


# The loop knows its weights, its optimiser and its random numbers; what writes a job down is far
# below it.
job_context: ContextVar[Callable[[], bytes] | None] = ContextVar("job_context", default=None)
"""A function that describes the state of the work in hand; None where nobody set one."""


@contextmanager
def with_job_context(describe: Callable[[], bytes]) -> Iterator[None]:
    """Have `describe` asked for the state of the work, once for each job sent inside the block.

    A job that the journal knows already is not sent.
    """
    token = job_context.set(describe)
    try:
        yield
    finally:
        job_context.reset(token)


def context_bytes() -> bytes:
    """The state of the work in hand; empty where nobody set one."""
    describe = job_context.get()
    return b"" if describe is None else describe()
