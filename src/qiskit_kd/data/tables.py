# SPDX-License-Identifier: Apache-2.0
"""Arrays by name from a user's file: `.npz`, `.npy`, `.safetensors` or `.csv`.

Nothing in a file is executed: pickled objects are refused, cells of a table are numbers or text.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.errors import DataError, QiskitKDError
from qiskit_kd.values import named_path

Arrays = dict[str, NDArray[Any]]

LABEL_NAMES = ("labels", "label", "class", "target", "y")
"""What the column of labels may be called in the header of a table."""

_BOMB = 2**30
"""Bytes; more than this out of a hundredth of it is no data set but a trap."""


def read_path(path: object, *, kinds: str, error: type[QiskitKDError] = DataError) -> Path:
    """A path that names a file."""
    found = named_path(path, "a data file is named by its path", error=error).expanduser()
    try:
        there = found.is_file()
    except OSError:
        there = False
    if not there:
        raise error(
            "the data file does not exist",
            got=str(path),
            expected=kinds,
            remedy="Relative paths start at the working directory.",
        )
    return found


def read_arrays(
    path: Path, *, remedy: str, error: type[QiskitKDError] = DataError
) -> tuple[str, Arrays]:
    """The arrays of a file by name, and what kind of file it is: by what it holds, not its name.

    Returns:
        `npz`, `npy`, `safetensors` or `csv`, and the arrays: that of an `.npy` is called after the
        file, those of a table after its columns, each a vector, of doubles where every cell is a
        number, else of text; without a header columns are called `0`, `1`, ...
    """
    kind = "npz"
    try:
        with path.open("rb") as handle:
            start = handle.read(9)
        kind = _kind(start, path)
        if kind == "csv":
            return kind, _table(path)
        if kind == "npz":
            return kind, _npz(path)
        if kind == "npy":
            with path.open("rb") as handle:
                return kind, {path.stem: np.load(handle, allow_pickle=False)}
        from safetensors.numpy import load

        return kind, load(path.read_bytes())
    except Exception as problem:
        # Damaged files end in whatever error their bytes happen to cause, in four libraries.
        if isinstance(problem, _Unfit):
            got, expected, remedy = problem.args
        else:
            got, expected = str(problem) or type(problem).__name__, _WHOLE[kind]
            if "allow_pickle" in got:  # not numpy's advice, which is to load them all the same
                got, expected = "Python objects, which are never loaded", "arrays of numbers"
        raise error(
            "the data file cannot be read", got=f"{path} ({got})", expected=expected, remedy=remedy
        ) from problem


_WHOLE = {
    "npz": "a complete NumPy .npz file",
    "npy": "a complete NumPy .npy file",
    "safetensors": "a complete .safetensors file of types that NumPy knows",
    "csv": "a table with one row per sample",
}


class _Unfit(Exception):
    """What was found, what was expected, what to do."""


def _kind(start: bytes, path: Path) -> str:
    suffix = path.suffix.lower()
    if start.startswith(b"PK\x03\x04"):
        return "npz"
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if suffix in (".csv", ".tsv", ".txt"):
        return "csv"
    if suffix == ".safetensors" or start[8:9] == b"{":
        return "safetensors"
    if start and start.isascii() and "".join(start.decode().split()).isprintable():
        raise _Unfit(
            "text, no NumPy file",
            "what its name says",
            "Rename it to .csv if it is a table; else write it with numpy.savez.",
        )
    return "npz"


def _npz(path: Path) -> Arrays:
    # Read through a handle of our own: numpy leaves its own one open when the file is damaged.
    with path.open("rb") as handle:
        with zipfile.ZipFile(handle) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > _BOMB and size > 100 * path.stat().st_size:
            raise _Unfit(
                f"{path.stat().st_size} bytes that become {size}",
                "less than a hundredfold",
                "If you know the file, write it again uncompressed: numpy.savez.",
            )
        handle.seek(0)
        with np.load(handle, allow_pickle=False) as file:
            found = {key: file[key] for key in file.files}
    foreign = [key for key, value in found.items() if not isinstance(value, np.ndarray)]
    if foreign:
        raise _Unfit(
            f"{foreign[0]}, which is no array", "arrays only", "Write it again with numpy.savez."
        )
    return found


def _table(path: Path) -> Arrays:
    """The columns of a table whose cells stand between commas, semicolons or tabs."""
    text = path.read_text(encoding="utf-8-sig")
    head = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    write = "Write one row per sample, numbers with a decimal point, cells between commas."
    if not rows:
        raise _Unfit("no rows", _WHOLE["csv"], write)
    numeric = all(_number(cell) is not None for cell in rows[0][1][:-1] or rows[0][1])
    names = [str(k) for k in range(len(rows[0][1]))] if numeric else rows[0][1]
    body = rows if numeric else rows[1:]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _Unfit(f"two columns called {twice[0]!r}", "one name per column", write)
    for line, row in body:
        if len(row) != len(names):
            raise _Unfit(f"{len(row)} cells in line {line}", f"{len(names)} as in the first", write)
        if "" in row:
            raise _Unfit(
                f"an empty cell in line {line}, column {names[row.index('')]!r}",
                "a value in every cell",
                "Remove or impute the row.",
            )
    found: Arrays = {}
    for k, name in enumerate(names):
        cells = [row[k] for _, row in body]
        values = [_number(cell) for cell in cells]
        strange = [place for place, value in enumerate(values) if value is None]
        if strange and len(strange) < len(cells):
            line = body[strange[0]][0]
            raise _Unfit(
                f"{cells[strange[0]][:40]!r} in line {line}, column {name!r}, among numbers",
                "numbers, or text in every row",
                write,
            )
        found[name] = np.array(cells if strange else values)
    return found


def _number(cell: str) -> float | None:
    """The number in a cell; `1_000` is none, whatever Python says."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
