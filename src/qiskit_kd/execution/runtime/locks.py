# SPDX-License-Identifier: Apache-2.0
"""One owner per job, among all processes and threads that share a journal.

A lock of the system on a file of its own: whatever becomes of its owner, the system releases it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qiskit_kd.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows: one process at a time may use a journal there
    fcntl = None  # type: ignore[assignment]

__all__ = ["held"]


@contextmanager
def held(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock called `name`, waiting for whoever has it.

    Args:
        folder: Where the files of the locks lie; made if missing.
        name: A file name.

    Raises:
        StorageError: If the folder cannot be written to.
    """
    path = folder / name
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise StorageError(
                "a journal needs a folder for its locks", got=f"{path}: {error.strerror}",
                remedy="Put the journal into a folder that may be written to.",
            ) from None  # fmt: skip
        with file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is(path, file.fileno()):
                continue  # its owner removed it when done; another may hold the one that came after
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
