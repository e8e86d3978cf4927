# SPDX-License-Identifier: Apache-2.0
"""From the files of an image data set to arrays of bytes; nothing is believed before its MD5.

IDX is the format of MNIST: two zero bytes, the type of element (8: unsigned byte), the number of
axes, then the length of each axis as a big-endian 32-bit integer, then the elements.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import pickle
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.data.sources import SOURCES, Source
from qiskit_kd.errors import DataError

__all__ = ["Raw", "parse_idx", "read"]

_AGAIN = "Delete the file and fetch the data again."


@dataclass(frozen=True, eq=False)
class Raw:
    """What the files hold; pixels are `(samples, channels * height * width)` unsigned bytes."""

    train_pixels: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_pixels: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def read(source: Source, folder: Path) -> Raw:
    """All files of a data set, checked.

    Args:
        source: The data set.
        folder: A folder that has all of them, see `locate`.

    Raises:
        DataError: If a file cannot be read, is truncated, is of another format or altered, or
            images and labels are not equally many.
    """
    if source.name == "cifar10":
        return _read_batches(source, folder)
    paths = {name: source.file(folder, name) or folder / name for name in source.files}
    contents = {name: _content(path) for name, path in paths.items()}
    images, labels, test_images, test_labels = (
        parse_idx(contents[name], axes=3 if "images" in name else 1, path=path)
        for name, path in paths.items()
    )
    names = list(paths.values())
    _check_lengths(images, labels, names[0], names[1])
    _check_lengths(test_images, test_labels, names[2], names[3])
    for name, path in paths.items():
        _check_md5(source, name, contents[name], path)
    return Raw(images.reshape(len(images), -1), labels,
               test_images.reshape(len(test_images), -1), test_labels)  # fmt: skip


def parse_idx(content: bytes, *, axes: int, path: Path) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes; a view of `content`.

    Args:
        content: The whole file, decompressed.
        axes: The number of axes it has to have.
        path: What messages name.

    Raises:
        DataError: If the magic number is another one, or bytes are missing or left over.
    """
    magic = bytes([0, 0, 8, axes])
    if content[:4] != magic[: len(content)]:
        raise DataError(
            f"an IDX file of {axes} {'axes' if axes > 1 else 'axis'} begins with {magic.hex()}",
            got=f"{content[:4].hex()} in {path}", remedy="This is another kind of file. " + _AGAIN,
        )  # fmt: skip
    start = 4 + 4 * axes
    header = content[4:start].ljust(4 * axes, b"\0")
    lengths = struct.unpack(f">{axes}I", header)
    size = start + math.prod(lengths)
    if len(content) < size:
        raise DataError(
            "the data file is truncated", got=f"{len(content)} bytes in {path}",
            expected=f"{size} bytes" if len(content) >= start else f"at least {start} bytes",
            remedy=_AGAIN,
        )  # fmt: skip
    if len(content) > size:
        raise DataError(
            "the data file has bytes left over", got=f"{len(content)} bytes in {path}",
            expected=f"{size} bytes", remedy=_AGAIN,
        )  # fmt: skip
    return np.frombuffer(content, np.uint8, offset=start).reshape(lengths)


def _content(path: Path) -> bytes:
    """What a file holds, decompressed if it is compressed, whatever its name says.

    Raises:
        DataError: If it cannot be read or decompressed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            "the data file cannot be read", got=f"{path}: {error.strerror or error}",
            remedy="Check its permissions.",
        ) from error  # fmt: skip
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        truncated = isinstance(error, EOFError)
        raise DataError(
            f"the data file is {'truncated' if truncated else 'damaged'}",
            got=f"{len(content)} bytes in {path} ({error})", expected="a complete gzip file",
            remedy=_AGAIN,
        ) from error  # fmt: skip


def _check_lengths(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], image_file: Path, label_file: Path
) -> None:
    if len(images) != len(labels):
        raise DataError(
            "every image has one label",
            got=f"{len(images)} images in {image_file}, {len(labels)} labels in {label_file}",
            remedy="The files do not belong together. Fetch the data again.",
        )  # fmt: skip


def _check_md5(source: Source, name: str, content: bytes, path: Path) -> None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found == source.files[name]:
        return
    owner = next((s.title for s in SOURCES.values() if found in s.files.values()), None)
    raise DataError(
        f"the data file is not the published one of {source.title}",
        got=f"MD5 {found} in {path}" + (f", which is a file of {owner}" if owner else ""),
        expected=f"{source.files[name]} (of the decompressed content)",
        remedy=f"Give each data set a folder of its own, called {source.name}." if owner else
        f"It was altered or cut short. {_AGAIN}",
    )  # fmt: skip


def _read_batches(source: Source, folder: Path) -> Raw:
    """CIFAR-10 as Python batches: pickles, so that the MD5 is checked before one is opened."""
    pixels, labels = [], []
    for name in source.files:
        path = source.file(folder, name) or folder / name
        content = _content(path)
        _check_md5(source, name, content, path)
        with warnings.catch_warnings():
            # Written by Python 2: numpy 2.4.0 to 2.4.4 deprecates how dtypes were pickled then.
            warnings.filterwarnings("ignore", r"dtype\(\): align")
            batch = pickle.loads(content, encoding="latin1")
        pixels.append(np.asarray(batch["data"], np.uint8))
        labels.append(np.asarray(batch["labels"], np.uint8))
        _check_lengths(pixels[-1], labels[-1], path, path)
    return Raw(np.concatenate(pixels[:-1]), np.concatenate(labels[:-1]), pixels[-1], labels[-1])
