# SPDX-License-Identifier: Apache-2.0
"""A few threads for work that NumPy does without holding the interpreter."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

__all__ = ["Workers"]

T = TypeVar("T")


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
