# SPDX-License-Identifier: Apache-2.0
"""Image data sets that come as files: what their files are, and where to look for them.

Every file is known by the MD5 of what it holds, so any copy of it will do, however it was packed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.values import named_path

VARIABLE = "QKD_DATA"
CACHE = Path("~/.cache/qiskit_kd")
NUM_CLASSES = 10


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

    def file(self, folder: Path, name: str) -> Path | None:
        """The file in that folder, as it is or as `.gz`; None if there is neither."""
        return next((p for p in (folder / name, folder / f"{name}.gz") if _there(p)), None)

    def lacking(self, folder: Path) -> list[str]:
        """The files that are not in that folder."""
        return [name for name in self.files if self.file(folder, name) is None]


# MNIST and Fashion-MNIST: of the decompressed files, as the published archives contain them. Those
# of the archives themselves, which torchvision lists, differ from one packer to the next.
# CIFAR-10: of the batches, as torchvision.datasets.CIFAR10 lists them.
SOURCES: dict[str, Source] = {
    "fashion_mnist": Source(
        "fashion_mnist",
        "Fashion-MNIST",
        (1, 28, 28),
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
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
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        "MNIST",
        "MNIST/raw",
        "12 MB",
    ),
    "cifar10": Source(
        "cifar10",
        "CIFAR-10",
        (3, 32, 32),
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
        "CIFAR10",
        "cifar-10-batches-py",
        "170 MB",
    ),
}
"""Known data sets by name."""


def find(source: Source, root: str | Path | None = None) -> Path | None:
    """The first folder that has all files of a data set; None if there is none.

    With a `root` nothing else is looked at; else `$QKD_DATA`, `~/.cache/qiskit_kd` and the folder
    of a system package.
    """
    return next((p for p in _places(source, root) if not source.lacking(p)), None)


def locate(source: Source, root: str | Path | None = None, *, download: bool = False) -> Path:
    """As `find`, with an error that says what to do if there is none.

    A download, if there are no files, goes into `root`, `$QKD_DATA` or `~/.cache/qiskit_kd`.

    Raises:
        DataError: If the files are nowhere, `root` is no folder, or the download fails.
    """
    base = _bases(root)[0]
    is_file = _there(base)
    if root is not None and not _there(base, folder=True) and (is_file or not download):
        raise DataError(
            "the root of a data set is a folder",
            got=f"{base} ({'a file' if is_file else 'no such folder'})",
            expected=f"the folder with the files of {source.title}",
            remedy="Relative paths start at the working directory; without root, "
            f"${VARIABLE} and {CACHE} are looked at.",
        )
    found = find(source, root)
    if found is None and download:
        _download(source, base)
        found = find(source, root)
    if found is None:
        raise _missing(source, root)
    return found


def _bases(root: str | Path | None) -> list[Path]:
    """Folders that may hold several data sets, or one."""
    if root is not None:
        rule = "the root of a data set is a folder"
        return [named_path(root, rule, error=DataError).expanduser()]
    given = os.environ.get(VARIABLE)
    return [Path(path).expanduser() for path in (given, CACHE) if path]


def _places(source: Source, root: str | Path | None) -> list[Path]:
    """Where the files may be, in the order looked at."""
    places = [b / below for b in _bases(root) for below in (source.layout, source.name, "")]
    return places if root is not None or source.installed is None else [*places, source.installed]


def _there(path: Path, *, folder: bool = False) -> bool:
    try:
        return path.is_dir() if folder else path.is_file()
    except OSError:  # a folder above it that may not be entered
        return False


def _missing(source: Source, root: str | Path | None) -> DataError:
    """The error for files that are nowhere: all places tried, and all ways out."""
    seen = []
    for place in _places(source, root):
        lacking = source.lacking(place)
        if len(lacking) < len(source.files):
            seen.append(f"{place} (lacks {', '.join(lacking)})")
        else:
            none = "none of them" if _there(place, folder=True) else "no such folder"
            seen.append(f"{place} ({none})")
    target, command = _bases(root)[0], source.command
    ways = [
        f"copy the files to {target / source.name}",
        f"set download: true to fetch {source.size} into {target}",
    ]
    if root is None:
        ways = [command, *ways] if command else ways
        ways.append(f"set ${VARIABLE} or the option root to the folder they are in")
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
    """Let torchvision fetch the files."""
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


@dataclass(frozen=True, eq=False)
class Raw:
    """What the files hold; pixels are `(samples, channels * height * width)` unsigned bytes."""

    train_pixels: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_pixels: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def read(source: Source, folder: Path) -> Raw:
    """All files of a data set, from a folder that has them, see `locate`.

    Each is opened only if it is the published one: by its MD5, whatever its name says.

    Raises:
        DataError: If a file cannot be read, is truncated or altered, or is another one.
    """
    contents = [_content(source, name, folder) for name in source.files]
    if source.name == "cifar10":
        batches = [_unpickled(content) for content in contents]
        pixels, labels = (
            [np.asarray(batch[key], np.uint8) for batch in batches] for key in ("data", "labels")
        )
        return Raw(np.concatenate(pixels[:-1]), np.concatenate(labels[:-1]), pixels[-1], labels[-1])
    # IDX: a magic number whose last byte counts the axes, their lengths in four bytes each, values.
    x, y, test_x, test_y = (
        np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]) for content in contents
    )
    return Raw(x.reshape(len(y), -1), y, test_x.reshape(len(test_y), -1), test_y)


def _unpickled(content: bytes) -> dict[str, object]:
    """A batch of CIFAR-10, a pickle that is known by its MD5."""
    with warnings.catch_warnings():
        # Written by Python 2: numpy 2.4.0 to 2.4.4 deprecates how dtypes were pickled then.
        warnings.filterwarnings("ignore", r"dtype\(\): align")
        batch: dict[str, object] = pickle.loads(content, encoding="latin1")
    return batch


_AGAIN = "Delete the file and fetch the data again."


def _content(source: Source, name: str, folder: Path) -> bytes:
    """What a published file holds, decompressed if it is compressed, whatever its name says."""
    path = source.file(folder, name) or folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            "the data file cannot be read",
            got=f"{path}: {error.strerror or error}",
            remedy="Check its permissions.",
        ) from error
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"the data file is {'truncated' if isinstance(error, EOFError) else 'damaged'}",
                got=f"{len(content)} bytes in {path} ({error})",
                expected="a complete gzip file",
                remedy=_AGAIN,
            ) from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found == source.files[name]:
        return content
    owner = next((s.title for s in SOURCES.values() if found in s.files.values()), None)
    raise DataError(
        f"the data file is not the published one of {source.title}",
        got=f"MD5 {found} of {len(content)} bytes in {path}"
        + (f", which is a file of {owner}" if owner else ""),
        expected=f"{source.files[name]} (of the decompressed content)",
        remedy=f"Give each data set a folder of its own, called {source.name}."
        if owner
        else f"It was altered or cut short. {_AGAIN}",
    )
