# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import json
import os

import pytest
import torch

from qiskit_kd.distill.checkpoints import NAME, read, write
from qiskit_kd.errors import StorageError

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1], dtype=torch.uint8)}
VALUES = {"x": [0.1, 1 / 3], "y": None, "z": {"k": 1e-300}}


def test_round_trip_to_the_bit(tmp_path):
    assert read(tmp_path / "none", config="c") is None
    write(tmp_path, config="c", tensors=TENSORS, values=VALUES)
    tensors, values = read(tmp_path, config="c")
    assert values == VALUES
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[k], TENSORS[k]) for k in TENSORS)


def test_tensors_may_share_memory(tmp_path):
    shared = torch.zeros(3)
    write(tmp_path, config="c", tensors={"a": shared, "b": shared}, values={})
    assert set(read(tmp_path, config="c")[0]) == {"a", "b"}


def test_only_the_current_pair_is_kept(tmp_path):
    (tmp_path / ".state-1.safetensors-99-abcd").write_bytes(b"left by a killed process")
    for k in range(3):
        write(tmp_path, config="c", tensors={"a": torch.tensor(k)}, values={"k": k})
    assert len(list(tmp_path.iterdir())) == 2
    assert read(tmp_path, config="c")[1] == {"k": 2}


def test_foreign_checkpoints_are_refused_not_overwritten(tmp_path):
    write(tmp_path, config="mine", tensors=TENSORS, values=VALUES)
    with pytest.raises(
        StorageError,
        match=r"belongs to another run; got .*checkpoint\.json of configuration mine; expected "
        r"configuration yours.*Choose another checkpoint_dir",
    ):
        read(tmp_path, config="yours")
    assert read(tmp_path, config="mine") is not None


def damaged(folder, name: str) -> None:
    with pytest.raises(
        StorageError, match=rf"checkpoint is damaged; got .*{name}.*Delete the folder .* start anew"
    ):
        read(folder, config="c")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"{}", b"null", b"\xff", b'{"format": "other"}', "truncated"],
)
def test_a_damaged_record_is_named(tmp_path, content):
    write(tmp_path, config="c", tensors=TENSORS, values=VALUES)
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-9] if content == "truncated" else content)
    damaged(tmp_path, NAME)


@pytest.mark.parametrize("damage", ["gone", "truncated", "flipped", "other"])
def test_damaged_tensors_are_named(tmp_path, damage: str):
    write(tmp_path, config="c", tensors=TENSORS, values=VALUES)
    (path,) = tmp_path.glob("*.safetensors")
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-3])
    elif damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        # A record that vouches for something that is no safetensors file.
        import hashlib

        path.write_bytes(b"nonsense")
        record = json.loads((tmp_path / NAME).read_text())
        record["sha256"] = hashlib.sha256(b"nonsense").hexdigest()
        (tmp_path / NAME).write_text(json.dumps(record))
    damaged(tmp_path, path.name)


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_disk_that_fills_up_leaves_the_previous_checkpoint(tmp_path, monkeypatch, fails_at: int):
    write(tmp_path, config="c", tensors=TENSORS, values={"k": 1})
    calls = []
    fsync = os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write(tmp_path, config="c", tensors={"a": torch.ones(3)}, values={"k": 2})
    monkeypatch.undo()
    tensors, values = read(tmp_path, config="c")
    assert values == {"k": 1}
    assert torch.equal(tensors["a"], TENSORS["a"])
