# SPDX-License-Identifier: Apache-2.0
"""Image data sets that come as files: what their files are, and where to look for them.

Every file is known by the MD5 of what it holds, so any copy of it will do, however it was packed.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import pickle
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.values import named_path

VARIABLE = "QKD_DATA"
CACHE = Path("~/.cache/qiskit_kd")


@dataclass(frozen=True)
class Source:
    """One data set's files.

    Args:
        name: As the registry calls it; also the name of a folder of its own below a root.
        title: As messages call it.
        shape: `(channels, height, width)` of its images.
        files: Name of each file to the MD5 of its content, decompressed.
        torchvision: Its class in `torchvision.datasets`.
        layout: The folder below a root into which that class puts the files.
        size: What a download fetches.
        installed: Folder of a system package; None if there is none.
        command: What installs the package.
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    files: Mapping[str, str]
    torchvision: str
    layout: str
    size: str
    installed: Path | None = None
    command: str | None = None

    num_classes: int = 10

    def file(self, folder: Path, name: str) -> Path | None:
        """The file in that folder, as it is or as `.gz`; None if there is neither."""
        for path in (folder / name, folder / f"{name}.gz"):
            if _there(path):
                return path
        return None


def _idx(*digests: str) -> Mapping[str, str]:
    names = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    return MappingProxyType(dict(zip(names, digests, strict=True)))


# MNIST and Fashion-MNIST: of the decompressed files, as the published archives contain them. Those
# of the archives themselves, which torchvision lists, differ from one packer to the next.
# CIFAR-10: of the batches, as torchvision.datasets.CIFAR10 lists them.
SOURCES: dict[str, Source] = {
    "fashion_mnist": Source(
        "fashion_mnist",
        "Fashion-MNIST",
        (1, 28, 28),
        _idx(
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
        "FashionMNIST",
        "FashionMNIST/raw",
        "30 MB",
        Path("/usr/share/datasets/fashion-mnist"),
        "apt-get install dataset-fashion-mnist",
    ),
    "mnist": Source(
        "mnist",
        "MNIST",
        (1, 28, 28),
        _idx(
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
        "MNIST",
        "MNIST/raw",
        "12 MB",
    ),
    "cifar10": Source(
        "cifar10",
        "CIFAR-10",
        (3, 32, 32),
        MappingProxyType(
            {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
            }
        ),
        "CIFAR10",
        "cifar-10-batches-py",
        "170 MB",
    ),
}
"""Known data sets by name."""


def find(source: Source, root: str | Path | None = None) -> Path | None:
    """The first folder that has all files of a data set; None if there is none.

    Args:
        source: The data set.
        root: Look here and nowhere else. None: `$QKD_DATA`, then `~/.cache/qiskit_kd`, then the
            folder of a system package.
    """
    return next((p for p in _places(source, root) if not _lacking(source, p)), None)


def locate(source: Source, root: str | Path | None = None, *, download: bool = False) -> Path:
    """As `find`, with an error that says what to do if there is none.

    Args:
        source: The data set.
        root: As of `find`.
        download: If there is none, let torchvision fetch the files, into `root`, `$QKD_DATA` or
            `~/.cache/qiskit_kd`.

    Raises:
        DataError: If the files are nowhere, `root` is no folder, or the download fails.
    """
    if root is not None:
        _check_root(source, _bases(root)[0], may_be_made=download)
    found = find(source, root)
    if found is None and download:
        _download(source, _bases(root)[0])
        found = find(source, root)
    if found is None:
        raise _missing(source, root)
    return found


def _check_root(source: Source, root: Path, *, may_be_made: bool) -> None:
    """Refuse a root that is no folder.

    Raises:
        DataError: As said.
    """
    is_file = _there(root)
    if _there(root, folder=True) or (may_be_made and not is_file):
        return
    raise DataError(
        "the root of a data set is a folder",
        got=f"{root} ({'a file' if is_file else 'no such folder'})",
        expected=f"the folder with the files of {source.title}",
        remedy="Relative paths start at the working directory; without root, "
        f"${VARIABLE} and {CACHE} are looked at.",
    )


def _bases(root: str | Path | None) -> list[Path]:
    """Folders that may hold several data sets, or one."""
    if root is not None:
        return [
            named_path(root, "the root of a data set is a folder", error=DataError).expanduser()
        ]
    given = os.environ.get(VARIABLE)
    return [Path(path).expanduser() for path in (given, CACHE) if path]


def _places(source: Source, root: str | Path | None) -> list[Path]:
    """Where the files may be, in the order looked at."""
    below = [
        place for base in _bases(root) for place in (base / source.layout, base / source.name, base)
    ]
    installed = source.installed if root is None else None
    return below if installed is None else [*below, installed]


def _there(path: Path, *, folder: bool = False) -> bool:
    try:
        return path.is_dir() if folder else path.is_file()
    except OSError:  # a folder above it that may not be entered
        return False


def _lacking(source: Source, folder: Path) -> list[str]:
    return [name for name in source.files if source.file(folder, name) is None]


def _missing(source: Source, root: str | Path | None) -> DataError:
    """The error for files that are nowhere: all places tried, and all ways out."""
    seen = []
    for place in _places(source, root):
        lacking = _lacking(source, place)
        if len(lacking) < len(source.files):
            seen.append(f"{place} (lacks {', '.join(lacking)})")
        else:
            none = "none of them" if _there(place, folder=True) else "no such folder"
            seen.append(f"{place} ({none})")
    target = _bases(root)[0]
    command = source.command
    ways = [
        f"copy the files to {target / source.name}",
        f"set download: true to fetch {source.size} into {target}",
    ]
    if root is None:
        ways = [
            *([command] if command else []),
            *ways,
            f"set ${VARIABLE} or the option root to the folder they are in",
        ]
    else:
        usual = f" (for one of them: {command})" if command else ""
        ways.append(f"leave root out to look in the usual places{usual}")
    return DataError(
        f"the files of {source.title} are in none of the places looked at",
        got=", ".join(seen),
        expected=f"{', '.join(source.files)} (each as it is or as .gz)",
        remedy=f"One of: {'; '.join(ways)}.",
    )


def _download(source: Source, base: Path) -> None:
    """Let torchvision fetch the files.

    Raises:
        DataError: If it cannot.
    """
    import torchvision.datasets

    try:
        getattr(torchvision.datasets, source.torchvision)(root=str(base), download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"the download of {source.title} failed",
            got=f"{error or type(error).__name__}",
            expected=f"{source.size} of files in {base / source.layout}",
            remedy="Try again, or copy the files there from another machine.",
        ) from error


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
    return Raw(
        images.reshape(len(images), -1),
        labels,
        test_images.reshape(len(test_images), -1),
        test_labels,
    )


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
            got=f"{content[:4].hex()} in {path}",
            remedy="This is another kind of file. " + _AGAIN,
        )
    start = 4 + 4 * axes
    header = content[4:start].ljust(4 * axes, b"\0")
    lengths = struct.unpack(f">{axes}I", header)
    size = start + math.prod(lengths)
    if len(content) < size:
        raise DataError(
            "the data file is truncated",
            got=f"{len(content)} bytes in {path}",
            expected=f"{size} bytes" if len(content) >= start else f"at least {start} bytes",
            remedy=_AGAIN,
        )
    if len(content) > size:
        raise DataError(
            "the data file has bytes left over",
            got=f"{len(content)} bytes in {path}",
            expected=f"{size} bytes",
            remedy=_AGAIN,
        )
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
            "the data file cannot be read",
            got=f"{path}: {error.strerror or error}",
            remedy="Check its permissions.",
        ) from error
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        truncated = isinstance(error, EOFError)
        raise DataError(
            f"the data file is {'truncated' if truncated else 'damaged'}",
            got=f"{len(content)} bytes in {path} ({error})",
            expected="a complete gzip file",
            remedy=_AGAIN,
        ) from error


def _check_lengths(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], image_file: Path, label_file: Path
) -> None:
    if len(images) != len(labels):
        raise DataError(
            "every image has one label",
            got=f"{len(images)} images in {image_file}, {len(labels)} labels in {label_file}",
            remedy="The files do not belong together. Fetch the data again.",
        )


def _check_md5(source: Source, name: str, content: bytes, path: Path) -> None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found == source.files[name]:
        return
    owner = next((s.title for s in SOURCES.values() if found in s.files.values()), None)
    raise DataError(
        f"the data file is not the published one of {source.title}",
        got=f"MD5 {found} in {path}" + (f", which is a file of {owner}" if owner else ""),
        expected=f"{source.files[name]} (of the decompressed content)",
        remedy=f"Give each data set a folder of its own, called {source.name}."
        if owner
        else f"It was altered or cut short. {_AGAIN}",
    )


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
