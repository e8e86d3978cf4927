# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import errno
import io
import os

import pytest

from qiskit_kd.errors import StorageError
from qiskit_kd.files import csv_text, write_atomically


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file"]  # noqa: PTH208
    # As readable for others as any file is.
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, moment: str):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync") if moment == "fsync" else (os, "rename")), full)
    if moment == "replace":
        monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(
        StorageError, match=r"cannot be written; got .*file: No space left.*previous file is int"
    ):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_no_cell_of_a_table_is_a_formula() -> None:
    harmless = ["a", "a=1", "2-3", "", "'=1", "x@y", "x\ny"]
    formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", "  =1", "＝1", "－1", "＠x"]
    numbers = [-1, -0.5, 1e-9, None, True]
    text = csv_text(formulas, [harmless, numbers])
    head, first, second = csv.reader(io.StringIO(text, newline=""))
    assert head == [f"'{formula}" for formula in formulas]
    assert first == harmless
    assert second == ["-1", "-0.5", "1e-09", "", "True"]
