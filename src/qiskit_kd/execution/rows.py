# SPDX-License-Identifier: Apache-2.0
"""`RowEngine`: gradients for anything that can evaluate rows of circuit angles.

A `Source` evaluates rows: a simulator, a sampler on a device, exact probabilities with shot noise.
The engine plans the rows, so parameter shift and SPSA exist once for all of them, and forward rows
and shifted rows travel together.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.circuits.model import CircuitModel, check_model
from qiskit_kd.errors import DataError
from qiskit_kd.execution.engine import (
    Array,
    Engine,
    Needs,
    Pullback,
    Usage,
    as_array,
    check_weights,
)
from qiskit_kd.execution.expansion import Expansion, expansion_of
from qiskit_kd.execution.gradients import (
    Points,
    check_gradient,
    default_epsilon,
    input_shift_points,
    shift_points,
    spsa_points,
)
from qiskit_kd.execution.transpiling import CircuitFacts
from qiskit_kd.seeding import stream
from qiskit_kd.values import real, whole


@dataclass(frozen=True, eq=False)
class Block:
    """All pairs of some input rows with some weight rows.

    Args:
        inputs: `(rows, input slots)`.
        weights: `(settings, weight slots)`.
        features: `(rows, num_features)` the rows the inputs encode; None where inputs are shifted.
    """

    inputs: NDArray[np.float64]
    weights: NDArray[np.float64]
    features: Array | None = None

    @property
    def size(self) -> int:
        """Number of circuits."""
        return len(self.inputs) * len(self.weights)


class Source(ABC):
    """Evaluates rows of slots of an expanded circuit.

    `usage` counts what that cost.
    """

    usage: Usage
    shots: int | None
    """Shots per circuit; None where values are exact."""
    drawn: int = 0
    """Jobs whose shots have been drawn; each job has a stream of its own."""

    @property
    def sampled(self) -> bool:
        """Whether values carry shot noise."""
        return self.shots is not None

    def check(self, model: CircuitModel) -> None:
        """See `Engine.check`."""
        del model

    def compiled(self, model: CircuitModel) -> CircuitFacts | None:
        """See `Engine.compiled`."""
        del model
        return None

    @abstractmethod
    def evaluate(self, expansion: Expansion, blocks: Sequence[Block]) -> list[NDArray[np.float64]]:
        """Outputs of every block, `(settings, rows, num_outputs)` each, from one job."""


def pack(blocks: Sequence[Block]) -> NDArray[np.float64]:
    """`(circuits, input slots + weight slots)`: every pair of every block, settings outermost."""
    parts = []
    for block in blocks:
        settings, rows = len(block.weights), len(block.inputs)
        inputs = np.broadcast_to(block.inputs[None], (settings, *block.inputs.shape))
        weights = np.broadcast_to(block.weights[:, None], (settings, rows, block.weights.shape[-1]))
        parts.append(np.concatenate([inputs, weights], axis=-1).reshape(settings * rows, -1))
    return np.concatenate(parts)


def unpack(values: NDArray[np.float64], blocks: Sequence[Block]) -> list[NDArray[np.float64]]:
    """`(circuits, num_outputs)` in the order of `pack`, back to one array per block."""
    edges = np.cumsum([block.size for block in blocks])[:-1]
    return [
        part.reshape(len(block.weights), len(block.inputs), values.shape[-1])
        for part, block in zip(np.split(values, edges), blocks, strict=True)
    ]


class _Guard:
    """A lock that copies and pickles of its engine have anew."""

    def __init__(self) -> None:
        self._lock = RLock()

    def __reduce__(self) -> tuple[type[_Guard], tuple[()]]:
        return _Guard, ()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def fresh_seed() -> int:
    """A seed from the system's entropy, for engines that were given none."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])


class RowEngine(Engine):
    """An engine around a `Source`.

    Gradients of features are always by parameter shift: SPSA shares its perturbation among the
    samples, and samples do not share their inputs.

    Args:
        source: What evaluates the rows.
        name: Name for reports.
        gradient: `"shift"`, `"spsa"`, or `"auto"`: SPSA where values are sampled, else shift.
        perturbations: Directions of SPSA per step.
        epsilon: Step of SPSA in radians; None for `default_epsilon(num_weights)` where values are
            sampled (a smaller step drowns in shot noise), else 1e-3.
        seed: Root seed of the perturbations; None for a new one.

    Raises:
        UnknownNameError: If the rule is unknown.
        ConfigError: If `perturbations` or `epsilon` is not positive.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str,
        gradient: str = "auto",
        perturbations: int = 4,
        epsilon: float | None = None,
        seed: int | None = None,
    ) -> None:
        perturbations = whole(perturbations, "SPSA averages at least one perturbation", least=1)
        if epsilon is not None:
            epsilon = real(
                epsilon,
                "the SPSA step is positive",
                least=0,
                strict=True,
                expected="radians above 0, finite",
            )
        self.name = name
        self.source = source
        self.usage = source.usage
        self.shots = source.shots
        self.gradient = check_gradient(gradient)
        if self.gradient == "auto":
            self.gradient = "spsa" if source.sampled else "shift"
        self.perturbations = perturbations
        self.epsilon = epsilon
        self.seed = fresh_seed() if seed is None else whole(seed, "a seed is a whole number")
        self._steps = 0
        self._guard = _Guard()  # threads draw their shots one after the other, never the same

    def position(self) -> dict[str, int]:
        """See `Engine.position`."""
        return {"steps": self._steps, "drawn": self.source.drawn}

    def seek(self, position: Mapping[str, int]) -> None:
        """See `Engine.seek`."""
        self._steps, self.source.drawn = position["steps"], position["drawn"]

    def check(self, model: CircuitModel) -> None:
        """See `Engine.check`."""
        self.source.check(model)

    def compiled(self, model: CircuitModel) -> CircuitFacts | None:
        """See `Engine.compiled`."""
        return self.source.compiled(model)

    def outputs(self, model: CircuitModel, features: Array, weights: Array) -> Array:
        """See `Engine.outputs`."""
        return self.vjp(model, features, weights, Needs(features=False, weights=False))[0]

    def vjp(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        """See `Engine.vjp`; rows for the gradients are sent together with the forward rows."""
        x, w = _features(features), _weights(weights, model)
        seen = self._see(model, x, w.reshape(-1, w.shape[-1]), needs)
        settings, batch, outputs = seen.outputs.shape

        def pullback(gradient: Array) -> tuple[Array | None, Array | None]:
            upstream = np.asarray(gradient, float).reshape(settings, batch, outputs)
            gx = gw = None
            if seen.weights is not None:
                points = np.einsum("mbo,mtbo->mt", upstream, seen.at_weights)
                gw = seen.weights.pull(points).reshape(w.shape).astype(w.dtype)
            if seen.inputs is not None:
                points = np.einsum("mbo,mbto->bt", upstream, seen.at_inputs)
                gx = _through_encoding(model, x, seen.inputs.pull(points))
            return gx, gw

        return seen.outputs.reshape(*w.shape[:-1], batch, outputs).astype(x.dtype), pullback

    def jacobian(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array | None, Array | None]:
        """See `Engine.jacobian`; one job, as `vjp`."""
        x, w = _features(features), _weights(weights, model)
        seen = self._see(model, x, w[None], needs)
        gx = gw = None
        if seen.weights is not None:
            gw = seen.weights.pull(np.moveaxis(seen.at_weights[0], 0, -1)).astype(w.dtype)
        if seen.inputs is not None:
            angles = seen.inputs.pull(np.moveaxis(seen.at_inputs[0], -1, 0))
            gx = np.stack([_through_encoding(model, x, each) for each in angles], axis=1)
        return gx, gw

    def _see(self, model: CircuitModel, x: Array, w: Array, needs: Needs) -> _Seen:
        """Everything a step needs, `w: (settings, num_weights)`, from one job."""
        with self._guard:
            return self._ask(model, x, w, needs)

    def _ask(self, model: CircuitModel, x: Array, w: Array, needs: Needs) -> _Seen:
        if needs.features and model.encoding.angle_pullback is None:
            raise model.encoding.no_derivative()
        expansion = expansion_of(model)
        angles = np.asarray(model.encoding.angles(x), float)
        settings = expansion.weight_slots(w)
        of_weights = self._weight_points(expansion, w) if needs.weights else None
        of_inputs = input_shift_points(expansion, angles) if needs.features else None
        rows = settings[:, None]
        if of_weights is not None:
            rows = np.concatenate([rows, of_weights.slots], axis=1)
        inputs = expansion.input_slots(angles)
        # Row counts are spelt out: a circuit may have no slots (a weight that is a global phase).
        blocks = [Block(inputs, rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1]), x)]
        if of_inputs is not None:
            moved = of_inputs.slots
            moved = moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1])
            blocks.append(Block(moved, settings))
        values = self._evaluate(expansion, blocks)
        # A step that failed takes the same directions when it is asked for again, and so finds a
        # job of it that goes on.
        self._steps += of_weights is not None and self.gradient == "spsa"
        self.usage.backward += bool(needs)
        here = values[0].reshape(len(w), rows.shape[1], len(x), model.num_outputs)
        there = None
        if of_inputs is not None:
            points = of_inputs.slots.shape[1]
            there = values[1].reshape(len(w), len(x), points, model.num_outputs)
        return _Seen(here[:, 0], of_weights, here[:, 1:], of_inputs, there)

    def _weight_points(self, expansion: Expansion, weights: Array) -> Points:
        if self.gradient == "shift":
            return shift_points(expansion, weights)
        generator = stream(self.seed, "spsa", self._steps)
        return spsa_points(
            expansion,
            weights,
            generator=generator,
            perturbations=self.perturbations,
            epsilon=self._step(expansion.model),
        )

    def _step(self, model: CircuitModel) -> float:
        if self.epsilon is not None:
            return self.epsilon
        return default_epsilon(model.num_weights) if self.source.sampled else 1e-3

    def _evaluate(self, expansion: Expansion, blocks: Sequence[Block]) -> list[NDArray[np.float64]]:
        if all(block.size == 0 for block in blocks):  # nothing to run, so no job
            outputs = expansion.model.num_outputs
            return [np.zeros((len(b.weights), len(b.inputs), outputs)) for b in blocks]
        return self.source.evaluate(expansion, blocks)


class SampledEngine(RowEngine):
    """An engine whose source may undo readout errors, and keeps as `raw` what was read."""

    source: Any

    @property
    def mitigated(self) -> bool:
        """Whether readout errors are undone."""
        return bool(self.source.mitigated)

    def outputs_with_raw(
        self, model: CircuitModel, features: Array, weights: Array
    ) -> tuple[Array, Array]:
        """`outputs`, and what the same shots give without mitigation.

        Args:
            model: The circuit model.
            features: `(batch, num_features)`.
            weights: `(..., num_weights)`, radians.

        Returns:
            Mitigated and raw outputs, `(..., batch, num_outputs)` each.
        """
        with self._guard:
            mitigated = self.outputs(model, features, weights)
            if not mitigated.size:  # no shots were drawn
                return mitigated, mitigated.copy()
            raw = self.source.raw[0].reshape(mitigated.shape)
        return mitigated, raw.astype(mitigated.dtype)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What one job gave: `outputs (settings, batch, outputs)` and the values at all points."""

    outputs: NDArray[np.float64]
    weights: Points | None
    at_weights: NDArray[np.float64]
    inputs: Points | None
    at_inputs: NDArray[np.float64] | Any


def _through_encoding(model: CircuitModel, x: Array, gradient: Array) -> Array:
    return model.encoding.pullback(x, gradient).astype(x.dtype)


def _features(features: Array) -> Array:
    return _real(features, "features")


def _weights(weights: Array, model: CircuitModel) -> Array:
    check_model(model, part="a run")
    w = _real(weights, "weights")
    check_weights(model, w)
    return w


def _real(values: Array, what: str) -> Array:
    found = as_array(values, what)
    if np.iscomplexobj(found):
        raise DataError(
            f"{what} are real numbers",
            got=str(found.dtype),
            expected="float32 or float64",
            remedy="Take their real parts, or encode both parts as features.",
        )
    return found if np.issubdtype(found.dtype, np.floating) else found.astype(float)
