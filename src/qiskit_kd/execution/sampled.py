# SPDX-License-Identifier: Apache-2.0
"""`SampledEngine`: values and gradients from the outcomes of circuits, one job a step.

A `Source` answers one question: how often does each outcome of a circuit occur at these rows of
angles? The engine plans the rows, so that parameter shift and SPSA exist once, and forward rows and
shifted rows travel together; it draws the shots of sources that know probabilities, undoes readout
errors, and reads outputs from outcomes, raw ones beside mitigated ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.errors import DataError
from qiskit_kd.execution.engine import (
    Array,
    Engine,
    Needs,
    Pullback,
    Usage,
    check_run,
    check_weights,
)
from qiskit_kd.execution.expansion import Expansion, expansion_of
from qiskit_kd.execution.gradients import (
    Points,
    Seen,
    check_gradient,
    default_epsilon,
    input_shift_points,
    mixed_shift_points,
    shift_points,
    spsa_points,
)
from qiskit_kd.execution.memory import require_memory
from qiskit_kd.execution.mitigation import mitigate
from qiskit_kd.execution.transpiling import CircuitFacts
from qiskit_kd.seeding import stream
from qiskit_kd.values import real, whole

Floats = NDArray[np.float64]
Key = tuple[int, str, int]
"""What random numbers of a job derive from, as `seeding.stream` takes it."""

_SIZE = attrgetter("size")
_COPIES = 4  # tables of frequencies that mitigation holds at once


@dataclass(frozen=True, eq=False)
class Block:
    """All pairs of some input rows with some weight rows.

    Args:
        inputs: `(rows, input slots)`.
        weights: `(settings, weight slots)`.
        features: `(rows, num_features)` the rows the inputs encode; None where inputs are shifted.
    """

    inputs: Floats
    weights: Floats
    features: Array | None = None

    @cached_property
    def size(self) -> int:
        """Number of circuits."""
        return len(self.inputs) * len(self.weights)


def pack(blocks: Sequence[Block]) -> Floats:
    """`(circuits, input slots + weight slots)`: every pair of every block, settings outermost."""
    parts = []
    for block in blocks:
        shape = (len(block.weights), len(block.inputs))
        inputs = np.broadcast_to(block.inputs[None], (*shape, block.inputs.shape[-1]))
        weights = np.broadcast_to(block.weights[:, None], (*shape, block.weights.shape[-1]))
        parts.append(np.concatenate([inputs, weights], axis=-1).reshape(math.prod(shape), -1))
    return np.concatenate(parts)


def unpack(values: Floats, blocks: Sequence[Block]) -> list[Floats]:
    """`(circuits, num_outputs)` in the order of `pack`, back to one array per block."""
    edges = np.cumsum(list(map(_SIZE, blocks)))[:-1]
    return [
        part.reshape(len(block.weights), len(block.inputs), values.shape[-1])
        for part, block in zip(np.split(values, edges), blocks, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Measured:
    """What one basis of the readout showed.

    Args:
        shares: `(..., outcomes)` probabilities, or frequencies of shots.
        tables: What outcomes count for: matrices to be applied in turn, outputs last.
        errors: Readout errors: of which rows, and the assignment matrix of each measured qubit.
        raw: `(..., num_outputs)` outputs as they were read, where the source knows them already.
    """

    shares: Floats | None
    tables: tuple[Floats, ...] = ()
    errors: Sequence[tuple[Any, Sequence[Floats]]] = ()
    raw: Floats | None = None

    def outputs(self, shares: Floats) -> Floats:
        """What some shares of the outcomes count for."""
        for table in self.tables:
            shares = shares @ table
        return np.asarray(shares, float)


class Source(ABC):
    """Says how often outcomes occur."""

    usage: Usage
    """What that cost."""
    shots: int | None = None
    """Shots per circuit; None where probabilities are exact."""
    draws: bool = False
    """Whether it draws its shots itself; else the engine draws them from its probabilities."""
    packed: bool = False
    """Whether its rows are those of `pack`, for all blocks at once, or in parts one after another;
    else they are `(settings, rows)`, block by block."""
    mitigates: bool = False
    """Whether readout errors that it names are to be undone."""

    @abstractmethod
    def measure(
        self, expansion: Expansion, blocks: Sequence[Block], key: Key
    ) -> Iterable[Iterable[Measured]]:
        """What each basis showed of each block; random numbers derive from `key`."""

    def check(self, model: CircuitModel) -> None:
        """See `Engine.check`."""
        del model

    def compiled(self, model: CircuitModel) -> CircuitFacts | None:
        """See `Engine.compiled`."""
        del model
        return None


def shares_of(outcomes: NDArray[np.integer], size: int) -> Floats:
    """`(rows, shots)` outcomes to `(rows, size)` shares of the shots."""
    rows, shots = outcomes.shape
    require_table(rows, size)
    flat = outcomes + np.arange(rows)[:, None] * size
    counts = np.bincount(flat.ravel(), minlength=rows * size)
    return np.asarray(counts.reshape(rows, size) / shots, float)


def require_table(rows: int, size: int) -> None:
    """Refuse shares of the outcomes that do not fit into memory."""
    require_memory(
        8 * _COPIES * rows * size,
        f"the shots of {rows:,} circuits by {size:,} outcomes",
        "Use a smaller batch, or read fewer qubits.",
    )


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


class SampledEngine(Engine):
    """An engine around a `Source`.

    Gradients of features are always by parameter shift: SPSA shares its perturbation among the
    samples, and samples do not share their inputs. Values at shifted or perturbed weights are
    mitigated like all others. The projection onto distributions is not linear, so parameter shift
    is unbiased only as far as it does not act.

    Args:
        source: What knows the outcomes.
        name: Name for reports.
        gradient: `"shift"`, `"spsa"`, or `"auto"`: SPSA where values are sampled, else shift.
        perturbations: Directions of SPSA per step.
        epsilon: Step of SPSA in radians; None for `default_epsilon(num_weights)` where values are
            sampled (a smaller step drowns in shot noise), else 1e-3.
        seed: Root seed of shots and perturbations; None for a new one.

    Raises:
        UnknownNameError: If the rule is unknown.
        ConfigError: If `perturbations` or `epsilon` is not positive.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str = "sampled",
        gradient: str = "auto",
        perturbations: int = 4,
        epsilon: float | None = None,
        seed: int | None = None,
    ) -> None:
        perturbations = whole(perturbations, "SPSA averages at least one perturbation", least=1)
        if epsilon is not None:
            rule, expected = "the SPSA step is positive", "radians above 0, finite"
            epsilon = real(epsilon, rule, least=0, strict=True, expected=expected)
        self.name = name
        self.source = source
        self.usage = source.usage
        self.shots = source.shots
        self._count = source.shots or 0
        self.gradient = check_gradient(gradient)
        if self.gradient == "auto":
            self.gradient = "shift" if source.shots is None else "spsa"
        self.perturbations = perturbations
        self.epsilon = epsilon
        self.seed = fresh_seed() if seed is None else whole(seed, "a seed is a whole number")
        self._steps = self._drawn = 0
        self._raw: list[Floats] = []
        self._guard = _Guard()  # threads draw their shots one after the other, never the same

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_raw": []}

    @property
    def mitigated(self) -> bool:
        """Whether readout errors are undone."""
        return self.source.mitigates

    def position(self) -> dict[str, int]:
        """See `Engine.position`."""
        return {"steps": self._steps, "drawn": self._drawn}

    def seek(self, position: Mapping[str, int]) -> None:
        """See `Engine.seek`."""
        self._steps, self._drawn = position["steps"], position["drawn"]

    def check(self, model: CircuitModel) -> None:
        """See `Engine.check`."""
        self.source.check(model)

    def compiled(self, model: CircuitModel) -> CircuitFacts | None:
        """See `Engine.compiled`."""
        return self.source.compiled(model)

    def outputs(self, model: CircuitModel, features: Array, weights: Array) -> Array:
        """See `Engine.outputs`."""
        return self.vjp(model, features, weights, Needs(features=False, weights=False))[0]

    def outputs_with_raw(
        self, model: CircuitModel, features: Array, weights: Array
    ) -> tuple[Array, Array]:
        """`outputs`, and what the same shots give without mitigation."""
        with self._guard:
            mitigated = self.outputs(model, features, weights)
            if not mitigated.size:  # no shots were drawn
                return mitigated, mitigated.copy()
            raw = self._raw[0].reshape(mitigated.shape)
        return mitigated, raw.astype(mitigated.dtype)

    def vjp(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        """See `Engine.vjp`; rows for the gradients are sent together with the forward rows."""
        x, w = _checked(model, features, weights)
        with self._guard:
            seen = self._ask(model, x, w.reshape(-1, w.shape[-1]), needs)
        settings, batch, outputs = seen.outputs.shape

        def pullback(gradient: Array) -> tuple[Array | None, Array | None]:
            upstream = np.asarray(gradient, float).reshape(settings, batch, outputs)
            angles, slope = seen.pull(upstream)
            gw = None if slope is None else slope.reshape(w.shape).astype(w.dtype)
            gx = None if angles is None else model.encoding.pullback(x, angles).astype(x.dtype)
            return gx, gw

        return seen.outputs.reshape(*w.shape[:-1], batch, outputs).astype(x.dtype), pullback

    def jacobian(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array | None, Array | None]:
        """See `Engine.jacobian`; one job, as `vjp`."""
        x, w = _checked(model, features, weights)
        with self._guard:
            seen = self._ask(model, x, w[None], needs)
        angles, gw = seen.slopes()
        gx = None
        if angles is not None:
            slopes = [model.encoding.pullback(x, each).astype(x.dtype) for each in angles]
            gx = np.stack(slopes, axis=1)
        return gx, None if gw is None else gw.astype(w.dtype)

    def _ask(self, model: CircuitModel, x: Array, w: Array, needs: Needs) -> Seen:
        """Everything a step needs, `w: (settings, num_weights)`, from one job."""
        if needs.features and model.encoding.angle_pullback is None:
            raise model.encoding.no_derivative()
        expansion = expansion_of(model)
        angles = np.asarray(model.encoding.angles(x), float)
        if expansion.mixed:
            return self._ask_mixed(expansion, angles, w, needs)
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
        values = self.evaluate(expansion, blocks)
        # A step that failed takes the same directions when it is asked for again, and so finds a
        # job of it that goes on.
        self._steps += of_weights is not None and self.gradient == "spsa"
        self.usage.backward += needs.any
        here = values[0].reshape(len(w), rows.shape[1], len(x), model.num_outputs)
        there = None
        if of_inputs is not None:
            points = of_inputs.slots.shape[1]
            there = values[1].reshape(len(w), len(x), points, model.num_outputs)
        return Seen(here[:, 0], of_weights, here[:, 1:], of_inputs, there)

    def _ask_mixed(self, expansion: Expansion, angles: Floats, w: Array, needs: Needs) -> Seen:
        """The same where data and weights mix: every sample has rows of its own at each setting."""
        batch, shift = len(angles), self.gradient == "shift"

        def beside(weights: Floats) -> Floats:
            """`(settings, ..., num_weights)` to `(settings, batch, ..., slots)`."""
            lead = (len(weights), batch, *weights.shape[1:-1])
            each = angles.reshape(1, batch, *[1] * (weights.ndim - 2), angles.shape[-1])
            pair = (np.broadcast_to(a, (*lead, a.shape[-1])) for a in (each, weights[:, None]))
            return np.concatenate(list(pair), axis=-1)

        here = beside(np.asarray(w, float))
        flat = here.reshape(len(w) * batch, here.shape[-1])
        of_weights = of_inputs = None
        rows = [expansion.input_slots(here)[:, :, None]]
        if needs.weights and shift:
            of_weights = mixed_shift_points(expansion, flat, weights=True)
            rows.append(of_weights.slots.reshape(len(w), batch, *of_weights.slots.shape[1:]))
        elif needs.weights:
            of_weights = self._weight_points(expansion, w)
            rows.append(expansion.input_slots(beside(of_weights.slots)))
        if needs.features:
            of_inputs = mixed_shift_points(expansion, flat, weights=False)
            rows.append(of_inputs.slots.reshape(len(w), batch, *of_inputs.slots.shape[1:]))
        slots = np.concatenate(rows, axis=2)
        block = Block(slots.reshape(math.prod(slots.shape[:-1]), slots.shape[-1]), np.zeros((1, 0)))
        (values,) = self.evaluate(expansion, [block])
        self._steps += of_weights is not None and not shift
        self.usage.backward += bool(needs)
        found = values.reshape(*slots.shape[:-1], expansion.model.num_outputs)
        edge = 1 + (0 if of_weights is None else rows[1].shape[2])
        at_weights = np.moveaxis(found[:, :, 1:edge], 2, 1)
        return Seen(
            found[:, :, 0],
            of_weights,
            at_weights,
            of_inputs,
            found[:, :, edge:],
            mixed=True,
            by_sample=shift,
        )

    def _weight_points(self, expansion: Expansion, weights: Array) -> Points:
        if self.gradient == "shift":
            return shift_points(expansion, weights)
        epsilon = self.epsilon
        if epsilon is None:
            count = expansion.model.num_weights
            epsilon = 1e-3 if self.shots is None else default_epsilon(count)
        return spsa_points(
            expansion,
            weights,
            generator=stream(self.seed, "spsa", self._steps),
            perturbations=self.perturbations,
            epsilon=epsilon,
        )

    def evaluate(self, expansion: Expansion, blocks: Sequence[Block]) -> list[Floats]:
        """Outputs of every block, `(settings, rows, num_outputs)` each, from one job."""
        if not any(map(_SIZE, blocks)):  # nothing to run, so no job
            outputs = expansion.model.num_outputs
            return [np.zeros((len(b.weights), len(b.inputs), outputs)) for b in blocks]
        source = self.source
        key = (self.seed, "shots", self._drawn)
        draws = self.shots is not None and not source.draws
        generator = stream(*key) if draws else None
        values, raw = [], []
        for bases in source.measure(expansion, blocks, key):
            fixed, seen = zip(*[self._read(one, generator) for one in bases], strict=True)
            values.append(np.sum(fixed, axis=0))
            if source.mitigates:
                raw.append(np.sum(seen, axis=0))
        self._drawn += 1  # a job that failed draws the same shots when it is asked for again
        if source.packed:
            values = unpack(np.concatenate(values), blocks)
            raw = unpack(np.concatenate(raw), blocks) if raw else raw
        self._raw = raw or values
        return values

    def _read(self, one: Measured, generator: np.random.Generator | None) -> tuple[Floats, Floats]:
        """Outputs of one basis with readout errors undone, and as they were read."""
        p = one.shares
        if generator is not None and p is not None:
            p = np.clip(p, 0.0, None)
            p /= p.sum(-1, keepdims=True)
            p = generator.multinomial(self._count, p) / self._count
        raw = one.raw
        if raw is None:
            raw = one.outputs(np.asarray(p))
        if p is None or not self.source.mitigates:
            return raw, raw
        fixed = np.empty_like(p)
        for rows, assignments in one.errors:
            fixed[rows] = mitigate(p[rows], assignments)
        return one.outputs(fixed), raw


def _checked(model: CircuitModel, features: Array, weights: Array) -> tuple[Array, Array]:
    x, w = check_run(model, features, weights)
    x, w = _real(x, "features"), _real(w, "weights")
    check_weights(model, w)
    return x, w


def _real(values: Array, what: str) -> Array:
    if np.iscomplexobj(values):
        raise DataError(
            f"{what} are real numbers",
            got=str(values.dtype),
            expected="float32 or float64",
            remedy="Take their real parts, or encode both parts as features.",
        )
    return values if np.issubdtype(values.dtype, np.floating) else values.astype(float)
