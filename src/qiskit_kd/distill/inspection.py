# SPDX-License-Identifier: Apache-2.0
"""Looking at networks during a training run without changing how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from qiskit_kd.execution import Engine

__all__ = ["engines", "untouched"]


def engines(module: nn.Module) -> list[Engine]:
    """Engines of all quantum layers of `module`; they carry the random streams of shots."""
    found = (getattr(layer, "engine", None) for layer in module.modules())
    return [engine for engine in found if isinstance(engine, Engine)]


@contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Put the buffers of `modules` and torch's random state back at the end."""
    # By place: a forward pass may write into a buffer, or put another tensor there.
    tables = [part._buffers for module in modules for part in module.modules()]  # noqa: SLF001
    kept = [
        (table, name, buffer, buffer.clone())
        for table in tables for name, buffer in table.items() if buffer is not None
    ]  # fmt: skip
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        with torch.no_grad():
            for table, name, buffer, before in kept:
                table[name] = buffer.copy_(before)
