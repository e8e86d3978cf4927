# SPDX-License-Identifier: Apache-2.0
"""One root seed, many independent named streams.

`stream(7, "shuffle")` and `stream(7, "init")` never share numbers, and neither touches the global
generators of numpy or torch. Paired seeds rest on this: two variants of an experiment that differ
only in a loss draw the same initial weights, splits and batches because they ask by the same names.
"""

from __future__ import annotations

import hashlib

import numpy as np

from qiskit_kd.values import whole


def _sequence(seed: int, names: tuple[str | int, ...]) -> np.random.SeedSequence:
    # A hash of the names, not Python's hash(): the latter changes from process to process.
    root = whole(seed, "a seed is a whole number")
    digest = hashlib.sha256("\x1f".join(str(name) for name in names).encode()).digest()
    key = tuple(int.from_bytes(digest[k : k + 4], "little") for k in range(0, 16, 4))
    return np.random.SeedSequence(entropy=root, spawn_key=key)


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
