# SPDX-License-Identifier: Apache-2.0
"""Small data sets in the published formats, in folders of a test's own.

The first two pixels of an image are its number in its file, and the third tells the test file.
"""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qiskit_kd.data import images
from qiskit_kd.data.sources import SOURCES

Array = NDArray[Any]

NAMES = tuple(SOURCES["fashion_mnist"].files)


def idx(array: Array) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def pixels(count: int, shape: tuple[int, ...], *, test: bool) -> Array:
    made = np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)
    rows = made.reshape(count, -1)
    rows[:, 0], rows[:, 1], rows[:, 2] = np.arange(count) // 256, np.arange(count) % 256, test
    return made


def numbers(features: Array) -> Array:
    """Which images of the file the rows are."""
    return np.rint(features[:, :2] * 255).astype(int) @ np.array([256, 1])


def labels(counts: Any, seed: int = 0) -> Array:
    made = np.repeat(np.arange(10), counts)
    return np.random.default_rng(seed).permutation(made).astype(np.uint8)


def idx_files(train: Any = 60, test: Any = 12) -> dict[str, bytes]:
    """The four files; `train` and `test` count the images of each class."""
    y, t = labels(train), labels(test, 1)
    arrays = (pixels(len(y), (28, 28), test=False), y, pixels(len(t), (28, 28), test=True), t)
    return {name: idx(array) for name, array in zip(NAMES, arrays, strict=True)}


def batches(each: int = 20) -> dict[str, bytes]:
    """CIFAR-10's six batches."""
    made = {}
    for k, name in enumerate(SOURCES["cifar10"].files):
        last = name == "test_batch"
        rows = pixels(each * 5, (3072,), test=last)[: each if last else None]
        if not last:
            rows = rows[k * each : (k + 1) * each]
        batch = {"data": rows, "labels": [i % 10 for i in range(each)]}
        made[name] = pickle.dumps(batch, protocol=2)
    return made


def put(files: Mapping[str, bytes], folder: Path, *, packed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


def publish(
    patch: pytest.MonkeyPatch, files: Mapping[str, bytes], name: str = "fashion_mnist",
    installed: Path | None = None,
) -> None:  # fmt: skip
    """Make the package take these files for the published ones."""
    known = {file: hashlib.md5(content).hexdigest() for file, content in files.items()}
    patch.setitem(SOURCES, name, replace(SOURCES[name], files=known, installed=installed))
    images._shared.cache_clear()


def nowhere(patch: pytest.MonkeyPatch, home: Path) -> None:
    """No data set in any of the usual places."""
    patch.setenv("HOME", str(home))
    patch.delenv("QKD_DATA", raising=False)
    images._shared.cache_clear()
