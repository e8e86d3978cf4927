# SPDX-License-Identifier: Apache-2.0
"""Files that are either the old or the new one, never half of either."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from qiskit_kd.errors import StorageError

__all__ = ["write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` under a temporary name, force it to disk, rename it to `path`.

    Raises:
        StorageError: If the disk is full or the folder cannot be written; what `path` held before
            is untouched.
    """
    # Not tempfile, whose files nobody else may read.
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            "a file cannot be written", got=f"{path}: {error.strerror or error}",
            expected=f"{len(content)} bytes of room in a writable folder",
            remedy="Free space or choose another folder; the previous file is intact.",
        ) from error  # fmt: skip
