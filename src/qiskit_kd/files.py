# SPDX-License-Identifier: Apache-2.0
"""Files that are either the old or the new one, never half of either; tables as CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import secrets
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qiskit_kd.errors import StorageError

_FORMULAS = tuple("=+-@\t\r\n")


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
            "a file cannot be written",
            got=f"{path}: {error.strerror or error}",
            expected=f"{len(content)} bytes of room in a writable folder",
            remedy="Free space or choose another folder; the previous file is intact.",
        ) from error


def csv_text(heads: Iterable[Any], lines: Iterable[Iterable[Any]]) -> str:
    """A table as CSV; a text that a spreadsheet would carry out as a formula begins with `'`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([_cell(value) for value in line] for line in (heads, *lines))
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    """Numbers stay as they are, negative ones too."""
    if isinstance(value, str):
        value = value.replace("\r", " ")  # which the csv module leaves without quotes
    # Spreadsheets look past blanks in front, and at full-width forms of these signs.
    text = unicodedata.normalize("NFKC", value).lstrip(" ") if isinstance(value, str) else ""
    return f"'{value}" if text.startswith(_FORMULAS) else value
