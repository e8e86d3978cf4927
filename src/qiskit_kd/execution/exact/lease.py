# SPDX-License-Identifier: Apache-2.0
"""Work arrays on loan to a pullback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.errors import ExecutionError

__all__ = ["Lease", "spent"]

T = TypeVar("T")


class Lease:
    """Keeps work arrays while a pullback may still be called, then gives them back to the pool.

    A pullback leaves what the forward pass kept alone, so it can run any number of times
    (`retain_graph=True`); the arrays are free when the last reference to it is gone.

    Args:
        release: Gives the arrays back.
    """

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release

    def check(self, held: T) -> T:
        """The arrays; going through the lease is what keeps it alive."""
        return held

    def __del__(self, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _ending():  # modules are taken apart then
            self._release()


def spent(_: NDArray[np.floating]) -> tuple[None, None]:
    """The pullback of a run that was told there would be none."""
    raise ExecutionError("no gradient was asked for when the model was run", got="a pullback call")
