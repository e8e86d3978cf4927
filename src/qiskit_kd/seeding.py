# SPDX-License-Identifier: Apache-2.0
"""One root seed, many independent named streams.

`stream(7, "shuffle")` and `stream(7, "init")` never share numbers, and neither touches the global
generators of numpy or torch. Paired seeds rest on this: two variants of an experiment that differ
only in a loss draw the same initial weights, splits and batches because they ask by the same names.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np

from qiskit_kd.values import whole


def _sequence(seed: int, names: tuple[str | int, ...]) -> np.random.SeedSequence:
    # A hash of the names, not Python's hash(): the latter changes from process to process.
    fine = type(seed) is int and seed >= 0
    root = seed if fine else whole(seed, "a seed is a whole number")
    digest = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return np.random.SeedSequence(entropy=root, spawn_key=struct.unpack("<4I", digest[:16]))


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for the purpose called `names`, the same in every process.

    Args:
        seed: The root seed, a non-negative integer.
        *names: What the numbers are for, e.g. `"shots"` or `"shuffle", epoch`.

    Raises:
        ConfigError: If the seed is anything else.
    """
    return np.random.default_rng(_sequence(seed, names))


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit integer seed for libraries that want one (torch, Aer), from the same tree."""
    low, high = _sequence(seed, names).generate_state(2)
    return int(low) | (int(high) & 0x7FFFFFFF) << 32
