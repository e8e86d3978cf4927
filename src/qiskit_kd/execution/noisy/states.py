# SPDX-License-Identifier: Apache-2.0
"""Encoded density matrices, kept by the content of their rows, within a bound of memory.

A row is found by a 64-bit hash, computed for the whole batch at once, and then compared with what
was stored: a training step on known rows costs one look-up, and no row can answer for another.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from threading import RLock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qiskit_kd.seeding import stream

Array = NDArray[Any]
Encode = Callable[[Array], Tensor]


_GATHERED_ROWS = 128  # copied at once into a buffer that stays in the processor's cache


class EncodedRows:
    """States of the rows of a batch, wherever they lie; read, never written.

    Args:
        states: `(kept, size)`.
        index: Where in `states` each row of the batch is; None where they are the batch.
    """

    def __init__(self, states: Tensor, index: Tensor | None = None) -> None:
        self._states, self._index = states, index

    def __len__(self) -> int:
        return len(self._states if self._index is None else self._index)

    def tensor(self) -> Tensor:
        """`(rows, size)`."""
        return self._states if self._index is None else self._states[self._index]

    def measure(self, observables: Tensor) -> Tensor:
        """`(observables, size)` to `(rows, observables)`: the product with every state."""
        if self._index is None:
            return (observables @ self._states.T).T
        values = [(observables @ block.T).T for _, block in self._blocks()]
        return torch.cat(values) if values else observables.new_zeros(0, len(observables))

    def combine(self, upstream: Tensor) -> Tensor:
        """`(rows, observables)` to `(observables, size)`: states weighted and added up."""
        total = upstream.new_zeros(upstream.shape[1], self._states.shape[1])
        if self._index is None:
            return total.addmm_(upstream.T, self._states)
        for some, block in self._blocks():
            total.addmm_(upstream[some].T, block)
        return total

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of scattered states, in one buffer after the other.

        Gathering a large batch at once costs more than the products: the memory of the copy is
        new to the process in every step.
        """
        assert self._index is not None
        buffer = self._states.new_empty(_GATHERED_ROWS, self._states.shape[1])
        for first in range(0, len(self._index), _GATHERED_ROWS):
            some = slice(first, first + _GATHERED_ROWS)
            index = self._index[some]
            block = buffer[: len(index)]
            yield some, torch.index_select(self._states, 0, index, out=block)


class StateStore:
    """Tables of encoded rows, one per key, that share one bound.

    Args:
        limit: Bytes kept at most. Where one table alone wants more, it starts anew when it is
            full, with a warning; the tables used longest ago go first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = RLock()  # tables grow and start anew between a find and a take
        self._tables: OrderedDict[Hashable, _Table] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes kept now."""
        return sum(table.nbytes for table in self._tables.values())

    def rows(self, key: Hashable, features: Array, encode: Encode, row_bytes: int) -> EncodedRows:
        """States of all rows; those not kept are encoded first, each content once.

        Args:
            key: What the states depend on apart from the features: circuit, precision, device.
            features: `(rows, num_features)`.
            encode: `(rows, num_features)` to `(rows, size)` states.
            row_bytes: Bytes of one state.

        """
        most = max(1, self.limit // row_bytes)
        if len(features) > most:
            return EncodedRows(encode(features))
        with self._lock:
            table = self._tables.get(key)
            if table is None:
                table = self._tables[key] = _Table()
            self._tables.move_to_end(key)
            found = table.find(features)
            missing = np.flatnonzero(found < 0)
            if len(missing):
                self._add(table, features, missing, encode, most, row_bytes)
                found = table.find(features)
                self._shrink(key)
                if (found < 0).any():  # two contents with one hash, once in the age of the universe
                    return EncodedRows(encode(features))
            return table.take(found)

    def _add(
        self,
        table: _Table,
        features: Array,
        missing: NDArray[np.intp],
        encode: Encode,
        most: int,
        row_bytes: int,
    ) -> None:
        if table.count + len(missing) > most:
            if not table.is_warned and table.count:
                table.is_warned = True
                warnings.warn(
                    f"more encoded rows than are kept ({most:,} of {row_bytes / 2**10:,.0f} "
                    "KiB each): the first are forgotten and encoded again when they return; "
                    "raise cache_gib of the backend, or use fewer samples",
                    UserWarning,
                    stacklevel=2,
                )
            table.clear()
            missing = np.arange(len(features))
        new = features[missing]
        new = new[_distinct(new)]
        table.add(new, encode(new), most)

    def _shrink(self, keep: Hashable) -> None:
        while self.nbytes > self.limit and len(self._tables) > 1:
            oldest = next(k for k in self._tables if k != keep)
            del self._tables[oldest]


class _Table:
    """Rows with their states; a state once written is never changed, so views stay valid."""

    def __init__(self) -> None:
        self.is_warned = False
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self._features: Array | None = None
        self._states: Tensor | None = None
        self._hashes = np.zeros(0, np.uint64)
        self._order = np.zeros(0, np.intp)

    @property
    def nbytes(self) -> int:
        return 0 if self._states is None else self._states.nbytes

    def find(self, features: Array) -> NDArray[np.intp]:
        """Row number of each of `features`, -1 where it is not kept."""
        missing = np.full(len(features), -1, np.intp)
        if self._features is None or self._features.dtype != features.dtype or not self.count:
            return missing
        bits = _bits(features)
        wanted = _hashes(bits)
        place = np.searchsorted(self._hashes, wanted)
        place = np.minimum(place, self.count - 1)
        rows = self._order[place]
        alike = (_bits(self._features[rows]) == bits).all(1)
        same = (self._hashes[place] == wanted) & alike
        return np.where(same, rows, missing)

    def add(self, features: Array, states: Tensor, most: int) -> None:
        total = self.count + len(features)
        if self._states is None or self._features is None or total > len(self._states):
            room = total if self._states is None else min(most, max(total, 2 * self.count))
            grown = torch.empty(room, states.shape[1], dtype=states.dtype, device=states.device)
            kept = np.empty((room, features.shape[1]), features.dtype)
            if self._states is not None and self._features is not None:
                grown[: self.count] = self._states[: self.count]
                kept[: self.count] = self._features[: self.count]
            self._states, self._features = grown, kept
        self._states[self.count : total] = states
        self._features[self.count : total] = features
        self.count = total
        hashes = _hashes(_bits(self._features[:total]))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def take(self, rows: NDArray[np.intp]) -> EncodedRows:
        assert self._states is not None
        first = int(rows[0]) if len(rows) else 0
        if np.array_equal(rows, np.arange(first, first + len(rows))):
            return EncodedRows(self._states[first : first + len(rows)])
        return EncodedRows(self._states, torch.from_numpy(rows).to(self._states.device))


def _bits(features: Array) -> Array:
    kind = np.uint32 if features.dtype.itemsize == 4 else np.uint64
    return np.ascontiguousarray(features).view(kind)


def _hashes(bits: Array) -> NDArray[np.uint64]:
    """One number per row: a random odd multiple of every value's bits, added up modulo 2**64."""
    bits = bits.astype(np.uint64, copy=False)
    # Numbers such as 0.5 differ in their highest bits alone, which a product loses.
    mixed = (bits ^ (bits >> np.uint64(29))) * _multipliers(bits.shape[1])
    total: NDArray[np.uint64] = (mixed ^ (mixed >> np.uint64(32))).sum(1, dtype=np.uint64)
    return total


@lru_cache(maxsize=16)
def _multipliers(width: int) -> NDArray[np.uint64]:
    drawn = stream(0, "row hashes").integers(0, 2**63, width, np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)


def _distinct(features: Array) -> NDArray[np.intp]:
    """The first row of every content, in order."""
    _, first = np.unique(_bits(features), axis=0, return_index=True)
    return np.sort(first)
