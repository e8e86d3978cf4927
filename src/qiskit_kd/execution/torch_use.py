# SPDX-License-Identifier: Apache-2.0
"""What engines that compute with torch share: how many threads it takes, what a gradient counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from qiskit_kd.execution.engine import Usage

__all__ = ["one_thread", "side_by_side"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, and as before afterwards.

    Sums keep their order, processes do not fight for cores, and for small products a second thread
    costs up to twenty times its gain.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(rows: Sequence[Tensor], weights: Tensor, usage: Usage) -> Tensor:
    """Outputs of every row of weights as one tensor whose gradient is counted.

    Args:
        rows: `(batch, num_outputs)` each, in the order of the leading axes of `weights`.
        weights: `(..., num_weights)`.
        usage: Where a gradient evaluation is counted.

    Returns:
        `(..., batch, num_outputs)`.
    """
    stacked = torch.stack([*rows])

    def count(cotangent: Tensor) -> Tensor:
        usage.backward += 1
        return cotangent

    if stacked.requires_grad:
        stacked.register_hook(count)  # type: ignore[no-untyped-call]
    return stacked.reshape(*weights.shape[:-1], *stacked.shape[1:])
