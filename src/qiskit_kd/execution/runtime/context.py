# SPDX-License-Identifier: Apache-2.0
"""What a training loop wants kept with every job: enough to go on from there by hand.

The loop knows its weights, its optimiser and its random numbers; the journal writes a job down long
below it. A context variable carries the one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["context_bytes", "job_context", "with_job_context"]

job_context: ContextVar[Callable[[], bytes] | None] = ContextVar("job_context", default=None)
"""A function that describes the state of the work in hand; None where nobody set one."""


@contextmanager
def with_job_context(describe: Callable[[], bytes]) -> Iterator[None]:
    """Have `describe` asked for every job that is sent inside the block.

    Args:
        describe: Returns the state, e.g. a checkpoint of weights, optimiser and generators. It is
            called once for each job that is sent, not for one that the journal knows already.
    """
    token = job_context.set(describe)
    try:
        yield
    finally:
        job_context.reset(token)


def context_bytes() -> bytes:
    """The state of the work in hand; empty where nobody set one."""
    describe = job_context.get()
    return b"" if describe is None else describe()
