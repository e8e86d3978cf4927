# SPDX-License-Identifier: Apache-2.0
"""Encodings that leave a product state, every qubit a circle on its Bloch sphere.

Where each qubit is turned by at most one angle t, whatever fixed gates surround that turn, its
density matrix is `F_0 + sin(t) F_1 + cos(t) F_2`, and an expectation value is a multilinear form in
those (1, sin, cos) of the qubits (Schuld et al., arXiv:2008.08605, eq. 7, with one frequency each).
Found by evaluating the circuit, so that it does not matter how the turn is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.circuits.checks import is_inert
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.execution.exact.columns import ColumnSweep
from qiskit_kd.execution.exact.normal_form import normal_form

_FIT = (0.0, np.pi / 2, np.pi)
_CHECKED = (1.0, -0.7, 2.2, 4.1, -5.3, 9.9, 17.3, -31.1)
_ATOL = 1e-12


@dataclass(frozen=True, slots=True)
class ProductEncoding:
    """How each qubit depends on the encoding angles."""

    inputs: tuple[int, ...]
    """Which encoding angle turns each qubit (0 for a qubit that none turns)."""
    factors: NDArray[np.complex128]
    """`(qubits, 3, 2, 2)`: density matrix of a qubit = factors . (1, sin, cos)."""


def product_encoding(model: CircuitModel) -> ProductEncoding | None:
    """The product form of the model's encoding, None where it has none.

    Args:
        model: A model that encodes its data once, by a circuit.
    """
    circuit, n = model.encoding_circuit, model.num_qubits
    column = {p: k for k, p in enumerate(model.inputs)}
    turned: list[set[int]] = [set() for _ in range(n)]
    for item in circuit.data:
        if is_inert(item.operation):
            continue
        if len(item.qubits) != 1:
            return None
        turned[circuit.find_bit(item.qubits[0]).index] |= {
            column[p] for angle in item.operation.params for p in getattr(angle, "parameters", ())
        }
    if any(len(inputs) > 1 for inputs in turned):
        return None
    angles = np.array(_FIT + _CHECKED)
    form = normal_form(circuit, model.inputs, keep_last=True)
    values = np.tile(angles, (len(column), 1))
    states = ColumnSweep(form, np.float64).forward(values, columns=len(angles)).states[-1]
    basis = np.stack([np.ones_like(angles), np.sin(angles), np.cos(angles)], axis=1)
    factors = np.empty((n, 3, 2, 2), complex)
    for q in range(n):
        split = states.reshape(2 ** (n - 1 - q), 2, 2**q, -1)
        rho = np.einsum("aibt,ajbt->tij", split, split.conj())
        zero, quarter, half = rho[:3]
        mean = (zero + half) / 2
        factors[q] = mean, quarter - mean, (zero - half) / 2
        if np.abs(np.einsum("tk,kij->tij", basis, factors[q]) - rho).max() > _ATOL:
            return None
    return ProductEncoding(tuple(min(inputs, default=0) for inputs in turned), factors)


Row = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Factor:
    """Which of 1, sin and cos of a qubit's angle occur."""

    qubit: int
    one: int
    trig: slice
    size: int


@dataclass(frozen=True, slots=True)
class Block:
    """Products of sines or cosines, or both (`trig`), with the rows `source` of the level below.

    They stand at `target` of their level, that of the sine before that of the cosine.
    """

    trig: slice
    source: NDArray[np.intp]
    target: slice


@dataclass(frozen=True, slots=True)
class Level:
    """Products of one more qubit: the rows `ones` of the level below, then the blocks."""

    qubit: int
    size: int
    ones: NDArray[np.intp]
    whole: bool
    """Whether `ones` are all rows of the level below."""
    blocks: tuple[Block, ...]

    @property
    def cost(self) -> int:
        """Rows that have to be written."""
        return self.size - len(self.ones) * self.whole


class Terms:
    """The head's factors and the levels of the other qubits.

    The head is the qubit with the fewest factors: each costs one number a sample and form, whereas
    the products of the others are shared by all forms.

    Args:
        live: `[3] * qubits` booleans, highest qubit first: which products of 1, sin and cos occur.

    Attributes:
        index: Places of head's factors x products in the flat table of `3**qubits`.
    """

    def __init__(self, live: NDArray[np.bool_]) -> None:
        n = live.ndim
        factors = [_factor(q, live) for q in range(n)]
        self.head = min(factors, key=lambda f: (f.size == 1, f.size, -f.qubit))
        rest = [f.qubit for f in factors if f is not self.head and (f.size > 1 or not f.one)]
        found = [row[::-1] for row in np.argwhere(live).tolist()]  # digits by qubit
        orders = [
            _levels(order, {tuple(row[q] for q in order) for row in found})
            for order in itertools.permutations(rest)
        ]
        self.levels, last = min(orders, key=lambda made: sum(level.cost for level in made[0]))
        self.width = len(last)
        powers = [3**level.qubit for level in self.levels]
        products = [sum(t * p for t, p in zip(row, powers, strict=True)) for row in last]
        heads = sorted({row[self.head.qubit] * 3**self.head.qubit for row in found})
        self.index = np.add.outer(heads, products).astype(int).ravel()


def _factor(qubit: int, live: NDArray[np.bool_]) -> Factor:
    axis = live.ndim - 1 - qubit
    one, sin, cos = np.moveaxis(live, axis, 0).reshape(3, -1).any(axis=1).astype(int).tolist()
    return Factor(qubit, one, slice(1 - sin, 1 + cos), one + sin + cos)


def _levels(order: Sequence[int], rows: set[Row]) -> tuple[list[Level], list[Row]]:
    """Levels that end in the products `rows`, and the order in which these then stand."""
    below: list[Row] = [()]
    levels = []
    for j, qubit in enumerate(order):
        wanted = {row[: j + 1] for row in rows}
        sources = [
            np.array([k for k, p in enumerate(below) if (*p, t) in wanted], int) for t in range(3)
        ]
        here = [(*below[k], t) for t in range(3) for k in sources[t]]
        start, blocks = len(sources[0]), []
        _, sin, cos = sources
        if np.array_equal(sin, cos):
            blocks.append(Block(slice(0, 2), sin, slice(start, len(here))))
        else:
            middle = start + len(sin)
            blocks.append(Block(slice(0, 1), sin, slice(start, middle)))
            blocks.append(Block(slice(1, 2), cos, slice(middle, len(here))))
        levels.append(
            Level(
                qubit,
                len(here),
                sources[0],
                len(sources[0]) == len(below),
                tuple(b for b in blocks if len(b.source)),
            )
        )
        below = here
    return levels, below
