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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qiskit_kd.circuits.model import Encoding
from qiskit_kd.execution.exact.buffers import Pool, Workers
from qiskit_kd.execution.exact.product import Level, Terms

Array = NDArray[Any]
Step = tuple[tuple[int, slice] | None, Array | None, Array]
"""Which sines and cosines, times what, go where; None stands for a one."""

_BLOCK, _LEAST = 4096, 256  # samples in one matrix product, at most and at least
_SMALL = 10**6  # rows x columns x samples that libraries still treat as small
_ROOM = 16  # numbers behind each row, see `_rows`
_CHUNK_BYTES = 3 * 2**19  # worked on at a time by one thread
_KEEP_BYTES = 2**28  # kept for the pullback; beyond, they are computed again
_SPARE_BYTES = 2**26


class _Bench:
    """Work arrays of one thread: products of sines and cosines, and a table of forms by them.

    They are filled again in the pullback rather than kept: making them is cheaper than bringing
    them back from memory, and what a step does not write it does not push out of the cache.
    """

    def __init__(self, plan: Contraction, rows: int, columns: int) -> None:
        self.table = _rows(rows, plan.head.size, columns, dtype=plan.dtype)
        levels = plan.terms.levels
        self.products = _rows(plan.terms.width, columns, dtype=plan.dtype, value=1)
        self.levels = [self.products] * len(levels)
        """Products up to each level."""
        for j in range(len(levels) - 1, 0, -1):
            above, size = self.levels[j], levels[j - 1].size
            self.levels[j - 1] = (
                above[:size] if levels[j].whole else _rows(size, columns, dtype=plan.dtype, value=1)
            )
        self._steps = [step for j, level in enumerate(levels) for step in self._record(j, level)]

    def _record(self, j: int, level: Level) -> Iterator[Step]:
        """What makes level `j` from the one below."""
        out = self.levels[j]
        if not level.whole and j:
            for run, at in _runs(level.ones):
                yield None, self.levels[j - 1][run], out[at : at + run.stop - run.start]
        for block in level.blocks:
            target = out[block.target].reshape(-1, len(block.source), out.shape[1])
            for run, at in _runs(block.source):
                below = self.levels[j - 1][run] if j else None
                yield (level.qubit, block.trig), below, target[:, at : at + run.stop - run.start]

    def multiply(self, trig: Array) -> Array:
        """Products `(width, columns)` from `trig` `(qubits, 2, columns)`."""
        columns = trig.shape[-1]
        for factors, below, target in self._steps:
            out = target[..., :columns]
            if factors is None:
                assert below is not None
                np.copyto(out, below[:, :columns])
            elif below is None:
                np.copyto(out, trig[factors][:, None])
            else:
                np.multiply(trig[factors][:, None], below[:, :columns], out=out)
        return self.products[:, :columns]


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
        self.trigs = Pool(self._trig, self.bytes_for, _SPARE_BYTES)
        self.benches = Pool(lambda size: _Bench(self, *size), self._bench_bytes, _SPARE_BYTES)

    def _trig(self, columns: int) -> Array:
        return _rows(self.num_qubits, 2, columns, dtype=self.dtype)

    def bytes_for(self, columns: int) -> int:
        """Memory of the sines and cosines of that many samples."""
        return int(2 * self.num_qubits * columns * self.dtype.itemsize)

    def _bench_bytes(self, size: tuple[int, int]) -> int:
        rows, columns = size
        return int((self.terms.width + rows * self.head.size) * columns * self.dtype.itemsize)

    def partition(self, samples: int, rows: int) -> tuple[int, list[int]]:
        """Samples in a block, and the numbers of blocks in each chunk."""
        product = max(1, rows * self.head.size * self.terms.width)
        block = min(_BLOCK, max(_LEAST, 2 ** int(math.log2(max(1, _SMALL / product)))))
        if samples <= block:
            return samples, [1]
        blocks = -(-samples // block)
        most = max(1, _CHUNK_BYTES // (self.bytes_for(block) + self._bench_bytes((rows, block))))
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
        self._kept: dict[int, Array] = {}
        self.outputs = np.empty((self._rows, samples), plan.dtype)
        plan.workers.each(self._forward, self._parts)

    def close(self) -> None:
        """Give the work arrays back."""
        for trig in self._kept.values():
            self.plan.trigs.give(trig.shape[-1], trig)
        self._kept.clear()

    def _trig(self, part: _Part) -> Array:
        """Sines and cosines of a part, kept or made."""
        kept = self._kept.get(part.first)
        if kept is not None:
            return kept
        plan, features = self.plan, self.features[part.samples]
        whole = plan.trigs.take(part.blocks * self._block)
        encoding, trig = plan.encoding, whole[..., : len(features)]
        if encoding.scale is not None and plan.in_order:
            np.multiply(features.T, plan.dtype.type(encoding.scale), out=trig[:, 0])
        else:
            trig[:, 0] = encoding.angles(features).T[plan.inputs]
        _sin_cos(trig)
        whole[..., len(features) :] = 0
        return whole

    def _done(self, part: _Part, trig: Array) -> None:
        if self._keep:
            self._kept[part.first] = trig
        else:
            self.plan.trigs.give(trig.shape[-1], trig)

    @contextmanager
    def _bench(self, parts: Sequence[_Part]) -> Iterator[_Bench]:
        """Work arrays for the longest of `parts`."""
        size = self._rows, max((part.blocks for part in parts), default=0) * self._block
        bench = self.plan.benches.take(size)
        yield bench
        self.plan.benches.give(size, bench)

    def _blocked(self, array: Array) -> Array:
        """`(..., columns)` as `(blocks, rows, block)`."""
        return array.reshape(-1, array.shape[-1] // self._block, self._block).swapaxes(0, 1)

    def _table(self, products: Array, out: Array) -> Array:
        """Forms times products, `(rows, kA, columns)`."""
        np.matmul(self._forms, self._blocked(products), out=self._blocked(out))
        return out

    def _forward(self, parts: Sequence[_Part]) -> None:
        head = self.plan.head
        with self._bench(parts) as bench:
            for part in parts:
                trig, out = self._trig(part), self.outputs[:, part.samples]
                table = self._table(bench.multiply(trig), bench.table[..., : trig.shape[-1]])
                if head.size > head.one:
                    lines = trig[head.qubit, head.trig]
                    np.multiply(table[:, head.one :], lines, out=table[:, head.one :])
                table = table[..., : out.shape[1]]
                if head.size == 1:
                    np.copyto(out, table[:, 0])
                else:
                    np.add(table[:, 0], table[:, 1], out=out)
                    if head.size == 3:
                        np.add(out, table[:, 2], out=out)
                self._done(part, trig)

    def pullback(
        self, cotangent: Array, *, features: bool, forms: bool
    ) -> tuple[Array | None, Array | None]:
        """Gradient of the outputs `(rows, samples)` to those of the features and of the forms."""
        encoding = self.plan.encoding
        gx = np.empty_like(self.features) if features else None
        blocks = sum(part.blocks for part in self._parts)
        slopes = np.empty((blocks, *self._forms.shape), self.plan.dtype) if forms else None

        def work(parts: Sequence[_Part]) -> None:
            with self._bench(parts) as bench:
                for part in parts:
                    trig, given = self._trig(part), cotangent[:, part.samples]
                    products = bench.multiply(trig)
                    seed = self._seed(trig, given, bench.table[..., : trig.shape[-1]])
                    if slopes is not None:
                        out = slopes[part.first : part.first + part.blocks]
                        np.matmul(
                            self._blocked(seed), self._blocked(products).swapaxes(1, 2), out=out
                        )
                    if gx is not None:
                        angles = self._angle_gradient(trig, bench, given, seed)
                        gx[part.samples] = encoding.pullback(self.features[part.samples], angles.T)
                    self._done(part, trig)

        self.plan.workers.each(work, self._parts)
        return gx, None if slopes is None else slopes.sum(0).reshape(self._rows, -1)

    def _seed(self, trig: Array, given: Array, seed: Array) -> Array:
        """The cotangent times the head's factors, `(rows, kA, columns)`."""
        head, width = self.plan.head, given.shape[1]
        if head.one:
            np.copyto(seed[:, 0, :width], given)
        lines = trig[head.qubit, head.trig, :width]
        np.multiply(given[:, None], lines, out=seed[:, head.one :, :width])
        seed[..., width:] = 0
        return seed

    def _angle_gradient(self, trig: Array, bench: _Bench, given: Array, seed: Array) -> Array:
        """Gradient of the encoding angles, `(num_inputs, samples of the part)`."""
        plan, head, width = self.plan, self.plan.head, given.shape[1]
        columns = trig.shape[-1]
        slope = np.zeros(trig.shape, plan.dtype)  # of sin and cos
        table = self._table(bench.products[:, :columns], np.empty_like(seed))
        slope[head.qubit, head.trig, :width] = np.einsum(
            "rp,rtp->tp", given, table[:, head.one :, :width]
        )
        adjoint = self._forms.T @ seed.reshape(len(self._forms), -1)  # of the products
        for j in range(len(plan.terms.levels) - 1, -1, -1):
            level = plan.terms.levels[j]
            below = bench.levels[j - 1][:, :columns] if j else np.ones((1, columns), plan.dtype)
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
