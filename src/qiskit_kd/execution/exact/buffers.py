# SPDX-License-Identifier: Apache-2.0
"""Work arrays that are used again, threads that fill them, and their loan to a pullback.

Page faults cost more than the sums.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Lock
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from qiskit_kd.errors import ExecutionError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Pool(Generic[K, V]):
    """Spare arrays by a key that says how large they are; safe to use from several threads.

    Args:
        make: Key to a new item.
        size: Key to an item's bytes.
        limit: Bytes beyond which all spare items are let go. A single item may be larger.
    """

    def __init__(self, make: Callable[[K], V], size: Callable[[K], int], limit: int) -> None:
        self._make, self._size, self._limit = make, size, limit
        self._spare: dict[K, list[V]] = {}
        self._lock = Lock()
        self.held = 0
        """Bytes of the spare items."""

    def take(self, key: K) -> V:
        """A spare item, or a new one."""
        with self._lock:
            if self._spare.get(key):
                self.held -= self._size(key)
                return self._spare[key].pop()
        return self._make(key)

    def give(self, key: K, item: V) -> None:
        """Put an item back."""
        with self._lock:
            if self.held + self._size(key) > self._limit:
                self._spare.clear()
                self.held = 0
            self._spare.setdefault(key, []).append(item)
            self.held += self._size(key)


T = TypeVar("T")


class Lease(Generic[T]):
    """Keeps work arrays while a pullback may still be called, then gives them back to the pool.

    A pullback leaves what the forward pass kept alone, so it can run any number of times
    (`retain_graph=True`); the arrays are free when the last reference to it is gone.

    Args:
        held: The arrays; a pullback reads them here, which keeps the lease alive.
        release: Takes them back.
    """

    __slots__ = ("_release", "held")

    def __init__(self, held: T, release: Callable[[T], None]) -> None:
        self.held = held
        self._release = release

    def __del__(self, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _ending():  # modules are taken apart then
            self._release(self.held)


def spent(_: NDArray[np.floating]) -> tuple[None, None]:
    """The pullback of a run that was told there would be none."""
    raise ExecutionError("no gradient was asked for when the model was run", got="a pullback call")


class Workers:
    """As many threads as torch was told to use, started when they are first needed."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._made = (0, 0)

    @property
    def count(self) -> int:
        """Threads that share the work, the calling one included."""
        return max(1, torch.get_num_threads())

    def each(self, work: Callable[[Sequence[T]], None], items: Sequence[T]) -> None:
        """Call `work` on equal runs of `items`, one run a thread; errors are raised here."""
        most = self.count  # another thread may change it meanwhile
        count = min(most, len(items))
        if count <= 1:
            work(items)
            return
        edges = [len(items) * k // count for k in range(count + 1)]
        runs = [items[a:b] for a, b in itertools.pairwise(edges)]
        pool = self._threads(most - 1)
        others = [pool.submit(work, run) for run in runs[1:]]
        try:
            work(runs[0])
        finally:
            wait(others)
        for other in others:
            other.result()

    def _threads(self, count: int) -> ThreadPoolExecutor:
        wanted = (os.getpid(), count)  # a forked process has the pool, but none of its threads
        if self._pool is None or self._made != wanted:
            if self._pool is not None and self._made[0] == wanted[0]:
                self._pool.shutdown(wait=False)
            self._pool, self._made = ThreadPoolExecutor(count), wanted
        return self._pool
