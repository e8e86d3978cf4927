# SPDX-License-Identifier: Apache-2.0
"""What can go wrong at the loopback service, on purpose: replies, lost replies, ends of jobs."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Fault", "Faults", "Outcome"]


@dataclass
class Fault:
    """The next `times` requests that match are answered with `status`.

    Args:
        method: `GET`, `POST`, ...
        path: Pattern of the path with `*`, such as `*/jobs` or `*/jobs/*/results`.
        status: HTTP status; 0 cuts the connection without an answer, None answers as ever.
        message: Text of the error.
        headers: More headers, such as `Retry-After`.
        times: How many requests it meets.
        after: How many matching requests pass before the first.
        accept: Whether the request is carried out all the same, and only the answer is wrong.
        delay: Seconds before the answer.
        cut: Whether the body ends in its middle.
        body: What is sent instead of the answer's own body, None for that; a function is given it.
    """

    method: str
    path: str
    status: int | None
    message: str = "injected fault"
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    after: int = 0
    accept: bool = False
    delay: float = 0.0
    cut: bool = False
    body: str | Callable[[str], str] | None = None


@dataclass
class Outcome:
    """How a job ends.

    Args:
        status: `Failed` or `Cancelled`, as the service calls it.
        reason: Why.
        code: The service's number for it.
        after: How many jobs end well before.
    """

    status: str = "Failed"
    reason: str = "backend error"
    code: int = 1517
    after: int = 0


class Faults:
    """The faults that wait for their requests, safe for several threads."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Add a fault behind those that wait."""
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, if any; counts it."""
        with self._lock:
            for fault in self._waiting:
                if fault.method == method and fnmatch.fnmatchcase(path, fault.path):
                    if fault.after > 0:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    if fault.times <= 0:
                        self._waiting.remove(fault)
                    return fault
        return None
