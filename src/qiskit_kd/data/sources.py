# SPDX-License-Identifier: Apache-2.0
"""Image data sets that come as files: what their files are, and where to look for them.

Every file is known by the MD5 of what it holds, so any copy of it will do, however it was packed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from qiskit_kd.errors import DataError
from qiskit_kd.values import named_path

__all__ = ["CACHE", "SOURCES", "VARIABLE", "Source", "find", "locate"]

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
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
             "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")  # fmt: skip
    return MappingProxyType(dict(zip(names, digests, strict=True)))


# MNIST and Fashion-MNIST: of the decompressed files, as the published archives contain them. Those
# of the archives themselves, which torchvision lists, differ from one packer to the next.
# CIFAR-10: of the batches, as torchvision.datasets.CIFAR10 lists them.
SOURCES: dict[str, Source] = {
    "fashion_mnist": Source(
        "fashion_mnist", "Fashion-MNIST", (1, 28, 28),
        _idx("f4a8712d7a061bf5bd6d2ca38dc4d50a", "9018921c3c673c538a1fc5bad174d6f9",
             "8181f5470baa50b63fa0f6fddb340f0a", "15d484375f8d13e6eb1aabb0c3f46965"),
        "FashionMNIST", "FashionMNIST/raw", "30 MB",
        Path("/usr/share/datasets/fashion-mnist"), "apt-get install dataset-fashion-mnist",
    ),
    "mnist": Source(
        "mnist", "MNIST", (1, 28, 28),
        _idx("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624",
             "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
        "MNIST", "MNIST/raw", "12 MB",
    ),
    "cifar10": Source(
        "cifar10", "CIFAR-10", (3, 32, 32),
        MappingProxyType({
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        }),
        "CIFAR10", "cifar-10-batches-py", "170 MB",
    ),
}  # fmt: skip
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
        ways = [*([command] if command else []), *ways,
                f"set ${VARIABLE} or the option root to the folder they are in"]  # fmt: skip
    else:
        usual = f" (for one of them: {command})" if command else ""
        ways.append(f"leave root out to look in the usual places{usual}")
    return DataError(
        f"the files of {source.title} are in none of the places looked at",
        got=", ".join(seen), expected=f"{', '.join(source.files)} (each as it is or as .gz)",
        remedy=f"One of: {'; '.join(ways)}.",
    )  # fmt: skip


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
            f"the download of {source.title} failed", got=f"{error or type(error).__name__}",
            expected=f"{source.size} of files in {base / source.layout}",
            remedy="Try again, or copy the files there from another machine.",
        ) from error  # fmt: skip
