# SPDX-License-Identifier: Apache-2.0
"""Fused blocks applied: states forwards and observables backwards, with their gradients.

All matrices of a section are built from its slots in a handful of batched products; a sweep then
applies one 16 x 16 matrix per block. `Section.sweep` is plain torch operations, so autograd gives
all gradients, on any device; `pull_back` is the same in NumPy, at a third of the price: what a
training step costs is this sweep, and it is the same for one sample as for a thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qiskit_kd.execution.noisy.fusion import Blocks, Piece, Turning


class Move(NamedTuple):
    """Permute the axes, then apply matrix number `matrix` to the first two of the wires."""

    matrix: int
    axes: tuple[int, ...]
    inverse: tuple[int, ...]


class Plan(NamedTuple):
    """All moves of a sweep, and the permutation that puts the axes back."""

    moves: tuple[Move, ...]
    last: tuple[int, ...]
    inverse: tuple[int, ...]


def _places(labels: list[object], among: list[object]) -> tuple[int, ...]:
    return tuple(among.index(a) for a in labels)


class Section:
    """One part of a noisy circuit.

    Args:
        blocks: The fused blocks.
        num_slots: Angles it takes.
        dtype: `torch.float32` or `torch.float64`.
        device: Where its tensors lie.
    """

    def __init__(
        self, blocks: Blocks, num_slots: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self.num_wires, self.num_slots = blocks.num_wires, num_slots
        self._plans: dict[tuple[bool, bool], Plan] = {}
        self._kind: dict[str, Any] = {"dtype": dtype, "device": device}
        # Longest first, so that piece k of all blocks that have one is a slice of the blocks.
        order = sorted(range(len(blocks.blocks)), key=lambda k: -len(blocks.blocks[k].pieces))
        self._place = [order.index(k) for k in range(len(order))]
        self._wires = [block.wires for block in blocks.blocks]
        longest = max((len(b.pieces) for b in blocks.blocks), default=0)
        levels = [
            [b.pieces[k] for b in (blocks.blocks[j] for j in order) if len(b.pieces) > k]
            for k in range(longest)
        ]
        pieces = [piece for level in levels for piece in level]
        self._levels = [len(level) for level in levels]
        self._low = self._index([p.low for p in pieces])
        self._high = self._index([p.high for p in pieces])
        self._two_qubit(pieces)
        self._one_qubit(blocks)

    def _index(self, values: Any) -> Tensor:
        return torch.tensor(np.array(values, np.int64), device=self._kind["device"])

    def _tensor(self, array: object) -> Tensor:
        return torch.tensor(np.asarray(array, np.float64), **self._kind)

    def _two_qubit(self, pieces: Sequence[Piece]) -> None:
        fixed = [np.zeros((16, 16)) if isinstance(p.two, Turning) else p.two for p in pieces]
        self._fixed_two = self._tensor(np.reshape(fixed, (len(pieces), 16, 16)))
        free = [(k, p.two, p.slot) for k, p in enumerate(pieces) if isinstance(p.two, Turning)]
        most = max((len(two.frequencies) for _, two, _ in free), default=0)
        terms = np.zeros((len(free), 1 + 2 * most, 16, 16))
        frequencies = np.zeros((len(free), most))
        for row, (_, two, _) in enumerate(free):
            count = len(two.frequencies)
            terms[row, : 1 + 2 * count] = two.terms
            frequencies[row, :count] = two.frequencies
        self._free_two = self._index([k for k, _, _ in free])
        self._free_slots = self._index([slot for _, _, slot in free])
        parts = (terms[:, 0], terms[:, 1::2], terms[:, 2::2])
        self._free_terms = tuple(self._tensor(part) for part in parts)
        self._frequencies = self._tensor(frequencies)

    def _one_qubit(self, blocks: Blocks) -> None:
        """Runs as F_0, then F_k R_k(angle) with the fixed matrix multiplied into the terms."""
        runs = blocks.runs
        longest = max((len(run.turns) for run in runs), default=0)
        first = np.reshape([run.fixed[0] for run in runs], (len(runs), 4, 4))
        terms = np.zeros((longest, len(runs), 3, 4, 4))
        terms[:, :, 0] = np.eye(4)
        slots = np.zeros((longest, len(runs)), np.int64)
        for r, run in enumerate(runs):
            for k, (turn, slot) in enumerate(run.turns):
                terms[k, r] = run.fixed[k + 1] @ turn.terms
                slots[k, r] = slot
        self._first = self._tensor(first)
        self._terms = self._tensor(terms)
        self._slots = self._index(slots)

    def matrices(self, slots: Tensor) -> Tensor:
        """`(..., num_slots)` angles to `(blocks, ..., 16, 16)`, in an order of their own."""
        lead = slots.shape[:-1]
        ones = [1] * len(lead)
        run = self._first.reshape(-1, *ones, 4, 4)
        if len(self._terms):
            angle = slots[..., self._slots].movedim((-2, -1), (0, 1))[..., None, None]
            cos, sin = angle.cos(), angle.sin()
            constant, of_cos, of_sin = self._terms.reshape(
                *self._terms.shape[:2], 3, *ones, 4, 4
            ).unbind(2)
            turn = constant + of_cos * cos + of_sin * sin
            for step in turn.unbind(0):
                run = step @ run
        low, high = run[self._low], run[self._high]
        both = (high[..., :, None, :, None] * low[..., None, :, None, :]).flatten(-4, -3)
        piece = self._two(slots, ones) @ both.flatten(-2, -1)
        if not self._levels:
            return piece  # there are no blocks
        rows = torch.split(piece, self._levels)
        whole: Tensor = rows[0]
        for row in rows[1:]:
            whole = torch.cat([row @ whole[: len(row)], whole[len(row) :]])
        return whole

    def _two(self, slots: Tensor, ones: list[int]) -> Tensor:
        fixed = self._fixed_two.reshape(-1, *ones, 16, 16)
        if not len(self._free_two):
            return fixed
        angle = slots[..., self._free_slots].movedim(-1, 0)
        waves = angle[..., None] * self._frequencies.reshape(len(angle), *ones, -1)
        constant, of_cos, of_sin = self._free_terms
        turned = (
            constant.reshape(-1, *ones, 16, 16)
            + torch.einsum("p...f,pfij->p...ij", waves.cos(), of_cos)
            + torch.einsum("p...f,pfij->p...ij", waves.sin(), of_sin)
        )
        shape = (len(fixed), *slots.shape[:-1], 16, 16)
        return fixed.expand(shape).index_copy(0, self._free_two, turned.expand(-1, *shape[1:]))

    def plan(self, *, adjoint: bool, shared: bool = True) -> Plan:
        """The order of blocks, and how axes move from one to the next; they are never put back.

        Args:
            adjoint: Backwards.
            shared: All rows go through the same matrices; else rows stay the first axis.
        """
        key = (adjoint, shared)
        if key not in self._plans:
            start: list[object] = ["rows", *range(self.num_wires - 1, -1, -1)]
            labels, moves = start, []
            order = range(len(self._place))
            for k in reversed(order) if adjoint else order:
                low, high = self._wires[k]
                front: list[object] = [high, low] if shared else ["rows", high, low]
                new = front + [a for a in labels if a not in front]
                moves.append(Move(self._place[k], _places(new, labels), _places(labels, new)))
                labels = new
            back = _places(start, labels), _places(labels, start)
            self._plans[key] = Plan(tuple(moves), *back)
        return self._plans[key]

    @cached_property
    def backwards(self) -> Plan:
        """The plan of observables that all rows share."""
        return self.plan(adjoint=True)

    def sweep(self, x: Tensor, matrices: Tensor, *, adjoint: bool) -> Tensor:
        """Carry states forwards, or observables backwards.

        Args:
            x: `(rows, 4**num_wires)` coefficients, wire 0 fastest.
            matrices: As `matrices` returns them: from one row of slots, `(blocks, 16, 16)`, or from
                one row for each row of `x`, `(blocks, rows, 16, 16)`.
            adjoint: Backwards, transposed.

        Returns:
            `(rows, 4**num_wires)`.
        """
        rows, shared = x.shape[0], matrices.ndim == 3
        plan = self.plan(adjoint=adjoint, shared=shared)
        each = (matrices.mT if adjoint else matrices).unbind(0)
        flat = (16, -1) if shared else (rows, 16, -1)
        x = x.reshape(rows, *[4] * self.num_wires)
        for move in plan.moves:
            x = x.permute(move.axes)
            shape = x.shape
            x = (each[move.matrix] @ x.reshape(flat)).reshape(shape)
        return x.permute(plan.last).reshape(rows, -1)


Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class PulledBack:
    """Observables in front of a section, and what their gradient needs.

    Args:
        rows: `(observables, 4**wires)`.
    """

    rows: Array
    _plan: Plan
    _matrices: Array
    _inputs: list[Array]

    def gradient(self, cotangent: Array) -> Array:
        """Gradient of `rows` to that of the matrices, `(blocks, 16, 16)`."""
        steps, matrices = self._plan, self._matrices
        gradient = np.empty_like(matrices)
        g = cotangent.reshape(len(cotangent), *[4] * (len(steps.last) - 1))
        g = g.transpose(steps.inverse)
        for step, x in zip(reversed(steps.moves), reversed(self._inputs), strict=True):
            shape = g.shape
            flat = g.reshape(16, -1)
            gradient[step.matrix] = x @ flat.T
            g = (matrices[step.matrix] @ flat).reshape(shape).transpose(step.inverse)
        return gradient


def pull_back(
    section: Section, observables: Array, matrices: Array, *, keep: bool = True
) -> PulledBack:
    """Carry `(observables, 4**wires)` backwards through a section.

    Args:
        section: The section.
        observables: Coefficients behind it.
        matrices: `(blocks, 16, 16)`, as `Section.matrices` orders them.
        keep: Keep what the gradient needs: the observables in front of every block.
    """
    steps = section.backwards
    x = observables.reshape(len(observables), *[4] * section.num_wires)
    inputs = []
    for step in steps.moves:
        x = x.transpose(step.axes)
        shape = x.shape
        flat = x.reshape(16, -1)
        if keep:
            inputs.append(flat)
        x = (matrices[step.matrix].T @ flat).reshape(shape)
    rows = np.ascontiguousarray(x.transpose(steps.last).reshape(len(observables), -1))
    return PulledBack(rows, steps, matrices, inputs)
