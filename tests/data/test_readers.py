# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qiskit_kd.data.sources import SOURCES, Raw, parse_idx, read
from qiskit_kd.errors import DataError
from tests.data import synthetic
from tests.data.synthetic import NAMES, idx, publish, put

HERE = Path("somewhere/file")


def fashion(folder: Path) -> Raw:
    return read(SOURCES["fashion_mnist"], folder)


class TestIdx:
    @pytest.mark.parametrize("shape", [(7,), (3, 2, 5), (0,), (2, 0, 4)])
    def test_reads_what_the_format_says(self, shape: tuple[int, ...]) -> None:
        array = np.arange(np.prod(shape)).reshape(shape)
        assert np.array_equal(parse_idx(idx(array), axes=len(shape), path=HERE), array)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"\x00\x00\x08\x01\x00\x00\x00\x00", "of 3 axes begins with 00000803; got 00000801 "),
            (b"\x80\x02}q", r"begins with 00000803; got 80027d71 in .*file\. This is another kind"),
            (b"", r"truncated; got 0 bytes in somewhere.*; expected at least 16 bytes\. Delete"),
            (b"\x00\x00", "truncated; got 2 bytes in .*; expected at least 16 bytes"),
            (idx(np.ones((2, 3, 4)))[:15], "truncated; got 15 bytes in .*at least 16 bytes"),
            (idx(np.ones((2, 3, 4)))[:-1], "truncated; got 39 bytes in .*; expected 40 bytes"),
            (idx(np.ones((2, 3, 4))) + b"x", "bytes left over; got 41 bytes .* expected 40 bytes"),
        ],
    )
    def test_refuses(self, content: bytes, message: str) -> None:
        with pytest.raises(DataError, match=message):
            parse_idx(content, axes=3, path=HERE)

    def test_refuses_images_for_labels(self) -> None:
        with pytest.raises(DataError, match="of 1 axis begins with 00000801; got 00000803"):
            parse_idx(idx(np.ones((2, 3, 4))), axes=1, path=HERE)


class TestFourFiles:
    @pytest.mark.parametrize("packed", [False, True])
    def test_are_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
        files = synthetic.idx_files()
        publish(monkeypatch, files)
        raw = fashion(put(files, tmp_path, packed=packed))
        assert raw.train_pixels.shape == (600, 784)
        assert raw.test_pixels.shape == (120, 784)
        assert np.array_equal(raw.train_labels, synthetic.labels(60))
        assert np.array_equal(synthetic.numbers(raw.train_pixels / 255.0), np.arange(600))
        assert raw.test_pixels[:, 2].tolist() == [1] * 120

    def test_compression_is_seen_in_the_content_not_in_the_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = synthetic.idx_files()
        publish(monkeypatch, files)
        put(files, tmp_path)
        (tmp_path / NAMES[0]).write_bytes(gzip.compress(files[NAMES[0]]))
        (tmp_path / NAMES[1]).rename(tmp_path / f"{NAMES[1]}.gz")
        assert len(fashion(tmp_path).train_pixels) == 600

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            (NAMES[0], lambda b: b[:-9], r"truncated; got \d+ bytes in .*train-images-idx3-ubyte"),
            (NAMES[3], lambda b: b[:-1] + bytes([b[-1] ^ 1]),
             r"not the published one of Fashion-MNIST; got MD5 [0-9a-f]{32} in .*t10k-labels-idx1-"
             r"ubyte; expected [0-9a-f]{32} \(of the decompressed content\)\. It was altered"),
            (NAMES[1], lambda _: idx(np.zeros(599)), r"one label; got 600 images in .*train-images-"
             r"idx3-ubyte, 599 labels in .*train-labels-idx1-ubyte\. The files do not belong"),
            (NAMES[3], lambda _: idx(np.zeros(121)), "one label; got 120 images in .*, 121 labels"),
            (NAMES[2], lambda _: b"<!DOCTYPE html>", "begins with 00000803; got 3c21444f in .*t1"),
            (NAMES[0], lambda b: gzip.compress(b)[:-9],
             r"truncated; got \d+ bytes in .*; expected a complete gzip file\. Delete the file"),
            (NAMES[0], lambda b: gzip.compress(b)[:-8] + b"wrongcrc",
             r"damaged; got \d+ bytes in .*\(CRC check failed.*; expected a complete gzip file"),
            (NAMES[0], lambda b: gzip.compress(b)[:10] + b"\xff" * 50, "the data file is damaged"),
            (NAMES[0], lambda _: b"\x1f\x8b", r"truncated; got 2 bytes in .*complete gzip"),
        ],
    )  # fmt: skip
    def test_refuses(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str,
        change: Callable[[bytes], bytes], message: str,
    ) -> None:  # fmt: skip
        files = synthetic.idx_files()
        publish(monkeypatch, files)
        put({**files, name: change(files[name])}, tmp_path)
        with pytest.raises(DataError, match=message):
            fashion(tmp_path)

    def test_says_whose_files_they_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files, others = synthetic.idx_files(), synthetic.idx_files(train=50)
        publish(monkeypatch, files)
        publish(monkeypatch, others, "mnist")
        with pytest.raises(
            DataError,
            match=r"one of Fashion-MNIST; got .*train-images-idx3-ubyte, which is a file of MNIST; "
            r"expected .*Give each data set a folder of its own, called fashion_mnist",
        ):
            fashion(put(others, tmp_path))

    def test_an_unreadable_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put(synthetic.idx_files(), tmp_path)

        def denied(self: Path) -> bytes:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "read_bytes", denied)
        with pytest.raises(
            DataError, match=r"cannot be read; got .*ubyte: Permission denied\. Check its permiss"
        ):
            fashion(tmp_path)


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


class TestBatches:
    def test_are_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = synthetic.batches()
        publish(monkeypatch, files, "cifar10")
        raw = read(SOURCES["cifar10"], put(files, tmp_path))
        assert raw.train_pixels.shape == (100, 3072)
        assert np.array_equal(synthetic.numbers(raw.train_pixels / 255.0), np.arange(100))
        assert raw.train_labels.tolist() == [k % 10 for k in range(20)] * 5
        assert raw.test_pixels[:, 2].tolist() == [1] * 20
        assert raw.test_labels.tolist() == [k % 10 for k in range(20)]

    def test_a_pickle_that_is_not_the_published_one_is_never_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = synthetic.batches()
        publish(monkeypatch, files, "cifar10")
        trap = pickle.dumps(Trap(tmp_path / "sprung"))
        put({**files, "data_batch_2": trap}, tmp_path)
        with pytest.raises(DataError, match=r"published one of CIFAR-10; got MD5 .*data_batch_2"):
            read(SOURCES["cifar10"], tmp_path)
        assert not (tmp_path / "sprung").exists()
        pickle.loads(trap)
        assert (tmp_path / "sprung").exists()

    def test_dtypes_as_python_2_wrote_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = synthetic.batches()
        # dtype("u1", 0, 1), where Python 3 writes dtype("u1", False, True).
        new, then = rb"(u1q.)\x89\x88\x87", b"\\1K\x00K\x01\x87"
        old = {name: re.sub(new, then, batch, flags=re.DOTALL) for name, batch in files.items()}
        assert old != files
        publish(monkeypatch, old, "cifar10")
        assert len(read(SOURCES["cifar10"], put(old, tmp_path)).train_pixels) == 100

    def test_batches_of_different_lengths(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = synthetic.batches()
        batch = pickle.loads(files["data_batch_4"])
        batch["labels"].pop()
        files["data_batch_4"] = pickle.dumps(batch, protocol=2)
        publish(monkeypatch, files, "cifar10")
        with pytest.raises(DataError, match=r"one label; got 20 images in .*_4, 19 labels in"):
            read(SOURCES["cifar10"], put(files, tmp_path))
