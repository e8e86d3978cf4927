# SPDX-License-Identifier: Apache-2.0
"""A stretch of noisy circuit as real matrices on pairs of qubits, fused as far as neighbours allow.

A density matrix on n qubits is a real vector of `4**n` coefficients of the strings
`P / sqrt(2**n)`, and so is an observable; a channel is a real matrix `R`, its adjoint `R.T`. Bit
order is Qiskit's: the first qubit of a gate is the fastest index, letters count I, X, Y, Z.

Runs of one-qubit gates sink into the next two-qubit gate, consecutive two-qubit gates on one pair
into one block, and the runs at the end into the block in front of them. So a CRX between two of
the device's qubits, two CZ and ten other gates with their errors, is one real 16 x 16 matrix.

References: Greenbaum, arXiv:1509.02921, section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit.circuit.library import RYGate, RZGate
from qiskit.circuit.library import standard_gates as standard
from qiskit.quantum_info import Pauli, SuperOp
from qiskit_aer.noise import QuantumError

from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.expansion import FREQUENCIES
from qiskit_kd.execution.noise_sources import DeviceNoise, Float
from qiskit_kd.execution.noisy.isa import Part


@dataclass(frozen=True, eq=False)
class Turning:
    """A gate with one free angle: `R(a) = terms[0] + sum_f terms[2f-1] cos(w_f a) + ... sin`.

    Args:
        frequencies: `w_f`.
        terms: `(1 + 2 len(frequencies), 4**k, 4**k)`.
    """

    frequencies: tuple[float, ...]
    terms: Float

    def at(self, angle: float) -> Float:
        """The matrix at one angle."""
        return np.tensordot(_waves(self.frequencies, angle), self.terms, 1)


def transfer(channel: SuperOp) -> Float:
    """The Pauli transfer matrix of a channel on k qubits, `(4**k, 4**k)`."""
    basis = _paulis(channel.num_qubits)
    return np.ascontiguousarray((basis.conj().T @ channel.data @ basis).real)


def fixed_transfer(gate: Any, error: QuantumError | None, *, cutoff: float = 0.0) -> Float:
    """A gate without free angles, then its error.

    Args:
        gate: The gate, or None for the error alone.
        error: Aer's error behind it.
        cutoff: Terms of the error of at most this probability are left out and the others not
            rescaled, as Aer's simulator does at 1e-10; the trace is then not kept exactly.
    """
    matrix = None if gate is None else _superop(gate)
    if error is not None:
        kept = [
            p * SuperOp(circuit).data
            for circuit, p in zip(error.circuits, error.probabilities, strict=True)
            if p > cutoff
        ]
        noise = np.sum(kept, axis=0)
        matrix = noise if matrix is None else noise @ matrix
    if matrix is None:
        return np.eye(4)
    return transfer(SuperOp(matrix))


def _superop(gate: Any) -> NDArray[np.complex128]:
    try:
        return np.asarray(SuperOp(gate).data)
    except Exception as error:  # Qiskit's own classes raise several kinds
        raise CircuitError(
            "gates of a device have a matrix or are channels", got=f"{gate.name!r}: {error}"
        ) from error


def factors(gate: Any) -> list[Any]:
    """A gate with free angles as a product, first factor first, with at most one angle in each.

    Raises:
        CircuitError: If several angles are free in a gate without such a product.
    """
    free = [p for p in gate.params if getattr(p, "parameters", None)]
    if len(free) <= 1 and gate.base_class not in (standard.UGate, standard.U3Gate, standard.U2Gate):
        return [gate]
    kind, p = gate.base_class, list(gate.params)
    if kind is standard.U2Gate:
        return [RZGate(p[1]), RYGate(np.pi / 2), RZGate(p[0])]
    if kind in (standard.UGate, standard.U3Gate):
        return [RZGate(p[2]), RYGate(p[0]), RZGate(p[1])]
    raise CircuitError(
        "a native gate has one free angle",
        got=f"{gate.name!r} with {len(free)}",
        expected="rz, ry, rx, p, u, rzz and the like",
        remedy="Use another device.",
    )


def turning(gate: Any) -> Turning:
    """A gate whose one free angle is a parameter, as a trigonometric polynomial of it."""
    kind = gate.base_class
    (place,) = [k for k, p in enumerate(gate.params) if getattr(p, "parameters", None)]
    others = tuple(float(p) for k, p in enumerate(gate.params) if k != place)
    return _turning(kind, place, others)


@lru_cache(maxsize=256)
def _turning(kind: Any, place: int, others: tuple[float, ...]) -> Turning:
    frequencies = FREQUENCIES[kind][place]
    count = 1 + 2 * len(frequencies)
    angles = 2 * np.pi / frequencies[0] * np.arange(count) / count
    samples = [transfer(SuperOp(kind(*others[:place], float(a), *others[place:]))) for a in angles]
    waves = np.array([_waves(frequencies, a) for a in angles])
    terms: Float = np.linalg.solve(waves, np.reshape(samples, (count, -1)))
    return Turning(frequencies, terms.reshape(count, *samples[0].shape))


def _waves(frequencies: tuple[float, ...], angle: float) -> Float:
    out = [1.0]
    for w in frequencies:
        out += [np.cos(w * angle), np.sin(w * angle)]
    return np.array(out)


def exchange(matrix: Float) -> Float:
    """The same channel on two qubits with the qubits named in the other order."""
    lead = matrix.shape[:-2]
    split = matrix.reshape(*lead, 4, 4, 4, 4)
    return np.ascontiguousarray(np.moveaxis(split, (-4, -2), (-3, -1)).reshape(*lead, 16, 16))


@lru_cache(maxsize=8)
def _paulis(num_qubits: int) -> NDArray[np.complex128]:
    """Columns: Pauli strings as column-stacked vectors of norm 1, first qubit fastest."""
    letters = np.indices((4,) * num_qubits).reshape(num_qubits, -1).T
    columns = [Pauli("".join("IXYZ"[k] for k in row)).to_matrix().ravel("F") for row in letters]
    return np.asarray(np.array(columns).T / np.sqrt(2) ** num_qubits, np.complex128)


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
                if isinstance(what, Turning)
                else exchange(what)
            )
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
