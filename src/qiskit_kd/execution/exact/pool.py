# SPDX-License-Identifier: Apache-2.0
"""Work arrays that are used again, because page faults cost more than the sums."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Pool"]

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
