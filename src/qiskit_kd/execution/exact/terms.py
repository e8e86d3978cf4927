# SPDX-License-Identifier: Apache-2.0
"""Which products of (1, sin, cos) a multilinear form needs, and the cheapest way to make them.

A form of a circuit is sparse: a chain of controlled gates that stops at a qubit brings only the
identity to those beyond. Products are made level by level, one qubit a level; a level's part with
factor 1 is the level before, and costs nothing where it is complete. So the order of the qubits
decides how many products there are; all orders are tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "Factor", "Level", "Terms"]

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
        sources = [np.array([k for k, p in enumerate(below) if (*p, t) in wanted], int)
                   for t in range(3)]  # fmt: skip
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
            Level(qubit, len(here), sources[0], len(sources[0]) == len(below),
                  tuple(b for b in blocks if len(b.source)))
        )  # fmt: skip
        below = here
    return levels, below
