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
    buffers = [buffer for module in modules for buffer in module.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in zip(buffers, kept, strict=True):
                buffer.copy_(before)
