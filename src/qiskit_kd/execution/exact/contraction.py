# SPDX-License-Identifier: Apache-2.0
"""Multilinear forms in (1, sin, cos) of many samples' angles, all rows of a form at once.

    outputs[r, p] = sum over t of  forms[r, t] prod_q f_{t_q}(angle_q[p])

One qubit, the head, is kept apart: the products of all the others (`terms` says which occur) go
through one matrix product with the forms, and what is left is summed over the head's factors. With
`kA` factors of the head and `kB` products of the others, `kB` and, for each row, `kA` numbers a
sample are moved, where a table of all products would have `kA kB`.
Samples lie in the last axis. Work is cut into chunks that a core's cache holds, and products into
blocks for which matrix libraries have their kernel for small matrices; the blocks do not depend on
the number of threads, and sums over them have a fixed order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qiskit_kd.circuits.model import Encoding
from qiskit_kd.execution.exact.pool import Pool
from qiskit_kd.execution.exact.terms import Level, Terms
from qiskit_kd.execution.exact.workers import Workers

__all__ = ["Contraction", "Run"]

Array = NDArray[Any]
Call = tuple[Callable[..., Any], tuple[Any, ...]]

_BLOCK, _LEAST = 4096, 256  # samples in one matrix product, at most and at least
_SMALL = 10**6  # rows x columns x samples that libraries still treat as small
_ROOM = 16  # numbers behind each row, see `_rows`
_CHUNK_BYTES = 2**21  # worked on at a time by one thread
_KEEP_BYTES = 2**28  # kept for the pullback; beyond, they are computed again
_SPARE_BYTES = 2**26


class _Chunk:
    """What the pullback needs of a run of samples: sines and cosines, and their products."""

    def __init__(self, plan: Contraction, columns: int) -> None:
        self.columns = columns
        self.trig = _rows(plan.num_qubits, 2, columns, dtype=plan.dtype)
        levels = plan.terms.levels
        self.products = _rows(plan.terms.width, columns, dtype=plan.dtype)
        self.products[:] = 1
        self.levels = [self.products] * len(levels)
        """Products up to each level."""
        for j in range(len(levels) - 1, 0, -1):
            above, size = self.levels[j], levels[j - 1].size
            shared = levels[j].whole
            self.levels[j - 1] = above[:size] if shared else _rows(size, columns, dtype=plan.dtype)
            if not shared:
                self.levels[j - 1][:] = 1
        self._calls = [call for j, level in enumerate(levels) for call in self._record(j, level)]

    def _record(self, j: int, level: Level) -> Iterator[Call]:
        """What makes level `j` from the one below."""
        out, below = self.levels[j], self.levels[j - 1] if j else np.ones((1, 1), self.trig.dtype)
        if not level.whole:
            for run, at in _runs(level.ones):
                yield np.copyto, (out[at : at + run.stop - run.start], below[run])
        for block in level.blocks:
            lines, size = self.trig[level.qubit, block.trig], len(block.source)
            target = out[block.target].reshape(len(lines), size, -1)
            for run, at in _runs(block.source):
                part = target[:, at : at + run.stop - run.start]
                if j == 0:
                    yield np.copyto, (part, lines[:, None])
                else:
                    yield np.multiply, (lines[:, None], below[run], part)

    def multiply(self) -> None:
        """Products from `trig`."""
        for call, arguments in self._calls:
            call(*arguments)


class Contraction:
    """A compiled form.

    Args:
        encoding: Gives the angles.
        inputs: Which angle belongs to each qubit.
        terms: The products that occur.
        dtype: `float32` or `float64`.
        workers: Threads.
    """

    def __init__(
        self, encoding: Encoding, inputs: Sequence[int], terms: Terms, dtype: Any, workers: Workers
    ) -> None:
        self.encoding, self.terms, self.head = encoding, terms, terms.head
        self.dtype, self.workers = np.dtype(dtype), workers
        self.num_qubits = len(inputs)
        self.inputs = np.array(inputs)
        self.in_order = inputs == tuple(range(encoding.num_inputs))
        self.chunks = Pool(lambda columns: _Chunk(self, columns), self.bytes_for, _SPARE_BYTES)

    def bytes_for(self, columns: int) -> int:
        """Memory of the products of that many samples."""
        return int((2 * self.num_qubits + self.terms.width) * columns * self.dtype.itemsize)

    def partition(self, samples: int, rows: int) -> tuple[int, list[int]]:
        """Samples in a block, and the numbers of blocks in each chunk."""
        product = max(1, rows * self.head.size * self.terms.width)
        block = min(_BLOCK, max(_LEAST, 2 ** int(math.log2(max(1, _SMALL / product)))))
        if samples <= block:
            return samples, [1]
        blocks = -(-samples // block)
        table = rows * self.head.size * block * self.dtype.itemsize
        most = max(1, _CHUNK_BYTES // (self.bytes_for(block) + table))
        count = -(-blocks // most)
        threads = min(self.workers.count, blocks)
        count = -(-count // threads) * threads if blocks >= 2 * threads else count
        count = min(count, blocks)
        edges = [blocks * k // count for k in range(count + 1)]
        return block, [b - a for a, b in itertools.pairwise(edges)]


class Run:
    """One evaluation and what its pullback needs; `close` gives the work arrays back.

    Args:
        plan: The compiled form.
        features: `(samples, num_features)`.
        forms: `(rows, kA kB)` coefficients, in the order of `plan.terms.index`.
        keep: Whether a pullback will be called.

    Attributes:
        outputs: `(rows, samples)`.

    Raises:
        DataError: If a sample cannot be encoded.
    """

    def __init__(self, plan: Contraction, features: Array, forms: Array, *, keep: bool) -> None:
        plan.encoding.check(features)
        self.plan, self.features = plan, features
        self._forms = np.ascontiguousarray(forms).reshape(-1, plan.terms.width)
        self._rows, samples = len(forms), len(features)
        self._block, counts = plan.partition(samples, self._rows)
        ends = [0, *itertools.accumulate(counts)]
        self._parts = [
            _Part(slice(a * self._block, min(b * self._block, samples)), a, b - a)
            for a, b in itertools.pairwise(ends)
        ]
        self._keep = keep and plan.bytes_for(ends[-1] * self._block) <= _KEEP_BYTES
        self._kept: dict[int, _Chunk] = {}
        self.outputs = np.empty((self._rows, samples), plan.dtype)
        plan.workers.each(self._forward, self._parts)

    def close(self) -> None:
        """Give the work arrays back."""
        for chunk in self._kept.values():
            self.plan.chunks.give(chunk.columns, chunk)
        self._kept.clear()

    def _filled(self, part: _Part) -> _Chunk:
        """The products of a part, kept or made."""
        kept = self._kept.get(part.first)
        if kept is not None:
            return kept
        plan, features = self.plan, self.features[part.samples]
        chunk = plan.chunks.take(part.blocks * self._block)
        encoding, trig = plan.encoding, chunk.trig[..., : len(features)]
        if encoding.scale is not None and plan.in_order:
            np.multiply(features.T, plan.dtype.type(encoding.scale), out=trig[:, 0])
        else:
            trig[:, 0] = encoding.angles(features).T[plan.inputs]
        _sin_cos(trig)
        chunk.trig[..., len(features) :] = 0
        chunk.multiply()
        return chunk

    def _done(self, part: _Part, chunk: _Chunk) -> None:
        if self._keep:
            self._kept[part.first] = chunk
        else:
            self.plan.chunks.give(chunk.columns, chunk)

    def _scratch(self, parts: Sequence[_Part]) -> Array:
        """`(rows, kA, columns)` for the longest of `parts`."""
        most = max((part.blocks for part in parts), default=0) * self._block
        return _rows(self._rows, self.plan.head.size, most, dtype=self.plan.dtype)

    def _blocked(self, array: Array) -> Array:
        """`(..., columns)` as `(blocks, rows, block)`."""
        return array.reshape(-1, array.shape[-1] // self._block, self._block).swapaxes(0, 1)

    def _table(self, chunk: _Chunk, scratch: Array) -> Array:
        """Forms times products, `(rows, kA, columns)`."""
        out = scratch[..., : chunk.columns]
        np.matmul(self._forms, self._blocked(chunk.products), out=self._blocked(out))
        return out

    def _forward(self, parts: Sequence[_Part]) -> None:
        head, scratch = self.plan.head, self._scratch(parts)
        for part in parts:
            chunk, out = self._filled(part), self.outputs[:, part.samples]
            table = self._table(chunk, scratch)
            if head.size > head.one:
                lines = chunk.trig[head.qubit, head.trig]
                np.multiply(table[:, head.one :], lines, out=table[:, head.one :])
            table = table[..., : out.shape[1]]
            if head.size == 1:
                np.copyto(out, table[:, 0])
            else:
                np.add(table[:, 0], table[:, 1], out=out)
                if head.size == 3:
                    np.add(out, table[:, 2], out=out)
            self._done(part, chunk)

    def pullback(
        self, cotangent: Array, *, features: bool, forms: bool
    ) -> tuple[Array | None, Array | None]:
        """Gradient of the outputs `(rows, samples)` to those of the features and of the forms."""
        encoding = self.plan.encoding
        gx = np.empty_like(self.features) if features else None
        blocks = sum(part.blocks for part in self._parts)
        slopes = np.empty((blocks, *self._forms.shape), self.plan.dtype) if forms else None

        def work(parts: Sequence[_Part]) -> None:
            scratch = self._scratch(parts)
            for part in parts:
                chunk, given = self._filled(part), cotangent[:, part.samples]
                seed = self._seed(chunk, given, scratch)
                if slopes is not None:
                    products = self._blocked(chunk.products).swapaxes(1, 2)
                    out = slopes[part.first : part.first + part.blocks]
                    np.matmul(self._blocked(seed), products, out=out)
                if gx is not None:
                    angles = self._angle_gradient(chunk, given, seed)
                    gx[part.samples] = encoding.pullback(self.features[part.samples], angles.T)
                self._done(part, chunk)

        self.plan.workers.each(work, self._parts)
        return gx, None if slopes is None else slopes.sum(0).reshape(self._rows, -1)

    def _seed(self, chunk: _Chunk, given: Array, scratch: Array) -> Array:
        """The cotangent times the head's factors, `(rows, kA, columns)`."""
        head, width = self.plan.head, given.shape[1]
        seed = scratch[..., : chunk.columns]
        if head.one:
            np.copyto(seed[:, 0, :width], given)
        lines = chunk.trig[head.qubit, head.trig, :width]
        np.multiply(given[:, None], lines, out=seed[:, head.one :, :width])
        seed[..., width:] = 0
        return seed

    def _angle_gradient(self, chunk: _Chunk, given: Array, seed: Array) -> Array:
        """Gradient of the encoding angles, `(num_inputs, samples of the part)`."""
        plan, head, width = self.plan, self.plan.head, given.shape[1]
        trig, levels = chunk.trig, plan.terms.levels
        slope = np.zeros(trig.shape, plan.dtype)  # of sin and cos
        table = self._table(chunk, np.empty_like(seed))[:, head.one :, :width]
        slope[head.qubit, head.trig, :width] = np.einsum("rp,rtp->tp", given, table)
        adjoint = self._forms.T @ seed.reshape(len(self._forms), -1)  # of the products
        for j in range(len(levels) - 1, -1, -1):
            level = levels[j]
            below = chunk.levels[j - 1] if j else np.ones((1, chunk.columns), plan.dtype)
            before = np.zeros_like(below)
            before[level.ones] = adjoint[: len(level.ones)]
            for block in level.blocks:
                lines, source = trig[level.qubit, block.trig], below[block.source]
                part = adjoint[block.target].reshape(len(lines), *source.shape)
                slope[level.qubit, block.trig] += np.einsum("tbp,bp->tp", part, source)
                before[block.source] += np.einsum("tbp,tp->bp", part, lines)
            adjoint = before
        turned = slope[:, 0] * trig[:, 1] - slope[:, 1] * trig[:, 0]
        angles = np.zeros((plan.encoding.num_inputs, width), plan.dtype)
        np.add.at(angles, plan.inputs, turned[:, :width])
        return angles


@dataclass(frozen=True, slots=True)
class _Part:
    """A run of samples, its first block and the number of its blocks."""

    samples: slice
    first: int
    blocks: int


def _runs(indices: Array) -> Iterator[tuple[slice, int]]:
    """Ascending indices as slices, each with its place among them."""
    edges = [0, *(np.flatnonzero(np.diff(indices) != 1) + 1).tolist(), len(indices)]
    for a, b in itertools.pairwise(edges):
        if a < b:
            yield slice(int(indices[a]), int(indices[b - 1]) + 1), a


def _rows(*shape: int, dtype: Any, value: float = 0) -> Array:
    """An array full of `value` with a little room behind each row.

    Rows a power of two apart would compete for the same lines of the cache: a third of the time.
    """
    return np.full((*shape[:-1], shape[-1] + _ROOM), value, dtype)[..., : shape[-1]]


def _sin_cos(trig: Array) -> None:
    """Angles in `trig[:, 0]` to sines there and cosines in `trig[:, 1]`."""
    angles, cosines = trig[:, 0], trig[:, 1]
    if trig.dtype == np.float32:
        np.cos(angles, out=cosines)
        np.sin(angles, out=angles)
        return
    # NumPy has no vector form in double precision. Pieces stay below the size from which torch
    # starts threads of its own.
    step = max(1, 2**15 // len(angles))
    for k in range(0, angles.shape[1], step):
        piece = torch.from_numpy(angles[:, k : k + step])
        torch.cos(piece, out=torch.from_numpy(cosines[:, k : k + step]))
        torch.sin(piece, out=piece)
