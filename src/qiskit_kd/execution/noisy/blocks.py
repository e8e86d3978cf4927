# SPDX-License-Identifier: Apache-2.0
"""A stretch of noisy circuit as blocks on two qubits, fused as far as neighbours allow.

Runs of one-qubit gates sink into the next two-qubit gate, consecutive two-qubit gates on one pair
into one block, and the runs at the end into the block in front of them. So a CRX between two of
the device's qubits, two CZ and ten other gates with their errors, is one real 16 x 16 matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from qiskit_kd.execution.noise_sources import DeviceNoise, Float
from qiskit_kd.execution.noisy.channels import (
    Turning,
    exchange,
    factors,
    fixed_transfer,
    turning,
)
from qiskit_kd.execution.noisy.native import Part

__all__ = ["Block", "Blocks", "Piece", "Run", "Step", "fuse", "steps"]


@dataclass(frozen=True, eq=False)
class Step:
    """One channel on one or two wires: a turning gate, or a fixed matrix."""

    wires: tuple[int, ...]
    what: Turning | Float
    slot: int = -1


@dataclass(eq=False)
class Run:
    """One-qubit channels in a row: fixed[0], turns[0], fixed[1], turns[1], ... first one first."""

    fixed: list[Float] = field(default_factory=lambda: [np.eye(4)])
    turns: list[tuple[Turning, int]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether it does nothing."""
        return not self.turns and np.array_equal(self.fixed[0], np.eye(4))

    def add(self, step: Step) -> None:
        """Append a channel."""
        if isinstance(step.what, Turning):
            self.turns.append((step.what, step.slot))
            self.fixed.append(np.eye(4))
        else:
            self.fixed[-1] = step.what @ self.fixed[-1]


@dataclass(frozen=True, eq=False)
class Piece:
    """`two @ kron(runs[high], runs[low])`; runs are indices, `two` acts on (low, high)."""

    low: int
    high: int
    two: Turning | Float
    slot: int = -1


@dataclass(frozen=True, eq=False)
class Block:
    """Pieces in order on one pair of wires, `wires[0] < wires[1]`."""

    wires: tuple[int, int]
    pieces: list[Piece]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The whole stretch."""

    num_wires: int
    blocks: tuple[Block, ...]
    runs: tuple[Run, ...]


def steps(
    part: Part, device: DeviceNoise, wires: Mapping[int, int], *, cutoff: float = 0.0
) -> list[Step]:
    """The channels of a part, in order.

    Args:
        part: The gates.
        device: Their noise.
        wires: Physical qubits to wires 0, 1, ...
        cutoff: See `channels.fixed_transfer`.

    Raises:
        CircuitError: If the device has no such gate, or it cannot be simulated.
    """
    kept: dict[tuple[object, ...], Float] = {}
    out = []
    for gate in part.gates:
        operation, name = gate.operation, gate.operation.name
        where = tuple(wires[q] for q in gate.qubits)
        if gate.seconds is not None:
            idle = device.idle_error(gate.qubits[0], gate.seconds)
            if idle is not None:
                out.append(Step(where, fixed_transfer(None, idle, cutoff=cutoff)))
            continue
        error = device.gate_error(name, gate.qubits)
        if not gate.slots:
            key = (name, gate.qubits, *map(str, operation.params))
            if key not in kept:
                kept[key] = fixed_transfer(operation, error, cutoff=cutoff)
            out.append(Step(where, kept[key]))
            continue
        free = [p for p in operation.params if getattr(p, "parameters", None)]
        slot = dict(zip(free, gate.slots, strict=True))
        for factor in factors(operation):
            own = [slot[p] for p in factor.params if p in free]
            what = turning(factor) if own else fixed_transfer(factor, None)
            out.append(Step(where, what, *own))
        if error is not None:
            out.append(Step(where, fixed_transfer(None, error, cutoff=cutoff)))
    return out


def fuse(sequence: Iterable[Step], num_wires: int) -> Blocks:
    """Gather steps into blocks; `num_wires` is at least 2."""
    runs: list[Run] = []
    blocks: list[Block] = []
    pending = [-1] * num_wires  # the run a wire is in
    behind: list[Block | None] = [None] * num_wires  # the last block on a wire

    def run_of(wire: int) -> int:
        if pending[wire] < 0:
            pending[wire] = len(runs)
            runs.append(Run())
        return pending[wire]

    def block_on(pair: tuple[int, int]) -> Block:
        last = behind[pair[0]]
        if last is None or last is not behind[pair[1]]:
            last = Block(pair, [])
            blocks.append(last)
            behind[pair[0]] = behind[pair[1]] = last
        return last

    def close(pair: tuple[int, int], block: Block, two: Turning | Float, slot: int = -1) -> None:
        block.pieces.append(Piece(run_of(pair[0]), run_of(pair[1]), two, slot))
        pending[pair[0]] = pending[pair[1]] = -1

    for step in sequence:
        if len(step.wires) == 1:
            runs[run_of(step.wires[0])].add(step)
            continue
        a, b = step.wires
        what = step.what
        if a > b:
            what = (
                Turning(what.frequencies, exchange(what.terms))
                if isinstance(what, Turning) else exchange(what)
            )  # fmt: skip
        pair = (min(a, b), max(a, b))
        close(pair, block_on(pair), what, step.slot)

    def finish(wire: int) -> None:
        """A run behind the last two-qubit gate joins the block in front of it."""
        last = behind[wire]
        if last is None:  # no two-qubit gate at all: a block with any other wire
            lonely = [w for w in range(num_wires) if w != wire and behind[w] is None]
            partner = lonely[0] if lonely else (wire + 1) % num_wires
            last = behind[wire] = Block((min(wire, partner), max(wire, partner)), [])
            blocks.append(last)
            if lonely:
                behind[partner] = last
        low, high = last.wires
        nothing = len(runs)
        runs.append(Run())
        joint = behind[low] is behind[high]
        close_at = [run_of(w) if w == wire or joint else nothing for w in (low, high)]
        last.pieces.append(Piece(close_at[0], close_at[1], np.eye(16)))
        for w in (low, high) if joint else (wire,):
            pending[w] = -1

    for wire in range(num_wires):
        if pending[wire] >= 0 and not runs[pending[wire]].is_empty:
            finish(wire)
    return Blocks(num_wires, tuple(blocks), tuple(runs))
