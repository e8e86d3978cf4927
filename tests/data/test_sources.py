from __future__ import annotations

import gzip
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets

from qiskit_kd.data import fashion_mnist
from qiskit_kd.data.sources import SOURCES, Raw, find, locate, read
from qiskit_kd.errors import DataError
from tests.data import synthetic
from tests.data.synthetic import NAMES, nowhere, publish, put


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; the package of the system would be in `installed`."""
    nowhere(monkeypatch, tmp_path / "home")
    publish(monkeypatch, synthetic.idx_files(), installed=tmp_path / "installed")
    return tmp_path / "home"


FILES = synthetic.idx_files()


def source() -> Any:
    return SOURCES["fashion_mnist"]


def test_the_md5s_of_mnist_and_cifar_are_torchvisions_where_it_has_them() -> None:
    batches = [*torchvision.datasets.CIFAR10.train_list, *torchvision.datasets.CIFAR10.test_list]
    assert dict(map(tuple, batches)) == dict(SOURCES["cifar10"].files)
    for known in SOURCES.values():
        assert hasattr(torchvision.datasets, known.torchvision)
        assert len(set(known.files.values())) == len(known.files)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["FashionMNIST/raw", "fashion_mnist", "."])
def test_a_root_in_every_layout(home: Path, tmp_path: Path, layout: str, packed: bool) -> None:
    folder = put(FILES, tmp_path / "mine" / layout, packed=packed)
    assert locate(source(), tmp_path / "mine") == folder
    split = fashion_mnist(seed=0, train=10, validation=20, root=str(tmp_path / "mine"))
    assert len(split.pool) == 580


@pytest.mark.parametrize("layout", ["FashionMNIST/raw", "fashion_mnist", "."])
def test_the_usual_places_in_their_order(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    assert find(source()) is None
    installed = put(FILES, tmp_path / "installed", packed=True)
    assert locate(source()) == installed
    cache = put(FILES, home / ".cache" / "qiskit_kd" / layout)
    assert locate(source()) == cache
    monkeypatch.setenv("QKD_DATA", str(tmp_path / "variable"))
    assert locate(source()) == cache
    variable = put(FILES, tmp_path / "variable" / layout)
    assert locate(source()) == variable
    root = put(FILES, tmp_path / "root" / layout)
    assert locate(source(), tmp_path / "root") == root


def test_a_place_without_some_of_the_files_is_passed_over(home: Path, tmp_path: Path) -> None:
    put({NAMES[0]: FILES[NAMES[0]]}, home / ".cache" / "qiskit_kd" / "FashionMNIST" / "raw")
    whole = put(FILES, home / ".cache" / "qiskit_kd" / "fashion_mnist")
    assert locate(source()) == whole


def test_home_is_expanded(home: Path) -> None:
    put(FILES, home / "mine")
    assert locate(source(), "~/mine") == home / "mine"


def test_the_error_lists_every_place_and_every_way_out(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QKD_DATA", str(tmp_path / "variable"))
    put({NAMES[1]: b"", NAMES[2]: b""}, tmp_path / "variable")
    with pytest.raises(DataError) as caught:
        fashion_mnist(seed=0, train=10)
    text = str(caught.value)
    cache, variable = home / ".cache" / "qiskit_kd", tmp_path / "variable"
    assert text.startswith("the files of Fashion-MNIST are in none of the places looked at; got ")
    places = [
        f"{variable}/FashionMNIST/raw (no such folder)", f"{variable}/fashion_mnist (no such",
        f"{variable} (lacks {NAMES[0]}, {NAMES[3]})", f"{cache}/FashionMNIST/raw (no such folder)",
        f"{cache}/fashion_mnist (no such folder)", f"{cache} (no such folder)",
        f"{tmp_path}/installed (no such folder)",
    ]  # fmt: skip
    where = [text.index(place) for place in places]
    assert where == sorted(where)
    for words in (
        f"; expected {', '.join(NAMES)} (each as it is or as .gz). One of: ",
        "apt-get install dataset-fashion-mnist; ", f"copy the files to {variable}/fashion_mnist; ",
        f"set download: true to fetch 30 MB into {variable}; ",
        "set $QKD_DATA or the option root to the folder they are in.",
    ):  # fmt: skip
        assert words in text


def test_a_root_without_the_files_is_not_passed_over(home: Path, tmp_path: Path) -> None:
    put(FILES, tmp_path / "installed")
    (tmp_path / "mine").mkdir()
    with pytest.raises(
        DataError,
        match=r"none of the places looked at; got \S+mine/FashionMNIST/raw \(no such folder\), "
        r"\S+mine/fashion_mnist \(no such folder\), \S+mine \(none of them\); expected .*"
        r"leave root out to look in the usual places \(for one of them: apt-get install",
    ):
        locate(source(), tmp_path / "mine")
    with pytest.raises(DataError, match=r"of MNIST are in none .* in the usual places\.$"):
        locate(SOURCES["mnist"], tmp_path / "mine")


@pytest.mark.parametrize("download", [False, True])
def test_a_root_that_is_a_file(home: Path, tmp_path: Path, download: bool) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(
        DataError, match=r"root of a data set is a folder; got \S+/mine \(a file\); expected the "
        r"folder with the files of Fashion-MNIST\. Relative paths .*\$QKD_DATA and ~/.cache",
    ):  # fmt: skip
        locate(source(), tmp_path / "mine", download=download)


def test_a_root_that_does_not_exist(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder; got \S+/mine \(no such folder\)"):
        fashion_mnist(seed=0, root=tmp_path / "mine")


def test_a_folder_that_may_not_be_entered_has_no_files(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", denied)
    monkeypatch.setattr(Path, "is_dir", denied)
    assert find(source()) is None
    with pytest.raises(DataError, match="none of the places looked at"):
        locate(source())
    with pytest.raises(DataError, match="the root of a data set is a folder"):
        locate(source(), tmp_path)


def forbidden(**options: object) -> None:
    raise AssertionError("nobody asked for a download")


class TestDownload:
    def test_is_never_done_unasked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torchvision.datasets, "FashionMNIST", forbidden)
        with pytest.raises(DataError, match="in none of the places"):
            fashion_mnist(seed=0)

    def test_is_not_done_for_files_that_are_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(FILES, tmp_path / "installed")
        monkeypatch.setattr(torchvision.datasets, "FashionMNIST", forbidden)
        assert locate(source(), download=True) == tmp_path / "installed"

    @pytest.mark.parametrize("into", ["root", "variable", "cache"])
    def test_goes_through_torchvision(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, into: str
    ) -> None:
        def fetch(root: str, download: bool) -> None:
            assert download
            put(FILES, Path(root) / "FashionMNIST" / "raw")

        monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fetch)
        if into == "variable":
            monkeypatch.setenv("QKD_DATA", str(tmp_path / "variable"))
        root = tmp_path / "new" / "root" if into == "root" else None
        base = {"root": root, "variable": tmp_path / "variable",
                "cache": home / ".cache" / "qiskit_kd"}[into]  # fmt: skip
        split = fashion_mnist(seed=0, train=10, validation=20, root=root, download=True)
        assert len(split.pool) == 580
        assert find(source(), root) == base / "FashionMNIST" / "raw"

    @pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("not found")])
    def test_fails(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def fetch(root: str, download: bool) -> None:
            raise error

        monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fetch)
        with pytest.raises(
            DataError, match=rf"download of Fashion-MNIST failed; got {error}; expected 30 MB of "
            r"files in .*/qiskit_kd/FashionMNIST/raw\. Try again, or copy the files there",
        ):  # fmt: skip
            locate(source(), download=True)

    def test_brings_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torchvision.datasets, "FashionMNIST", lambda **_: None)
        with pytest.raises(DataError, match="in none of the places"):
            locate(source(), download=True)


def fashion(folder: Path) -> Raw:
    return read(SOURCES["fashion_mnist"], folder)


class TestFourFiles:
    @pytest.mark.parametrize("packed", [False, True])
    def test_are_read(self, tmp_path: Path, packed: bool) -> None:
        raw = fashion(put(FILES, tmp_path, packed=packed))
        assert raw.train_pixels.shape == (600, 784)
        assert raw.test_pixels.shape == (120, 784)
        assert np.array_equal(raw.train_labels, synthetic.labels(60))
        assert np.array_equal(synthetic.numbers(raw.train_pixels / 255.0), np.arange(600))
        assert raw.test_pixels[:, 2].tolist() == [1] * 120

    def test_compression_is_seen_in_the_content_not_in_the_name(self, tmp_path: Path) -> None:
        put(FILES, tmp_path)
        (tmp_path / NAMES[0]).write_bytes(gzip.compress(FILES[NAMES[0]]))
        (tmp_path / NAMES[1]).rename(tmp_path / f"{NAMES[1]}.gz")
        assert len(fashion(tmp_path).train_pixels) == 600

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            (NAMES[0], lambda b: b[:-9], r"published one of Fashion.* of \d+ bytes in .*train-ima"),
            (NAMES[3], lambda b: b[:-1] + bytes([b[-1] ^ 1]),
             r"not the published one of Fashion-MNIST; got MD5 [0-9a-f]{32} of 128 bytes in .*t10k-"
             r"labels-idx1-ubyte; expected [0-9a-f]{32} \(of the decompressed content\)\. It was"),
            (NAMES[2], lambda _: b"<!DOCTYPE html>", "of 15 bytes in .*cut short. Delete the file"),
            (NAMES[0], lambda b: gzip.compress(b)[:-9],
             r"truncated; got \d+ bytes in .*; expected a complete gzip file\. Delete the file"),
            (NAMES[0], lambda b: gzip.compress(b)[:-8] + b"wrongcrc",
             r"damaged; got \d+ bytes in .*\(CRC check failed.*; expected a complete gzip file"),
            (NAMES[0], lambda b: gzip.compress(b)[:10] + b"\xff" * 50, "the data file is damaged"),
            (NAMES[0], lambda _: b"\x1f\x8b", r"truncated; got 2 bytes in .*complete gzip"),
        ],
    )  # fmt: skip
    def test_refuses(
        self, tmp_path: Path, name: str, change: Callable[[bytes], bytes], message: str
    ) -> None:
        put({**FILES, name: change(FILES[name])}, tmp_path)
        with pytest.raises(DataError, match=message):
            fashion(tmp_path)

    def test_says_whose_files_they_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        others = synthetic.idx_files(train=50)
        publish(monkeypatch, others, "mnist")
        with pytest.raises(
            DataError,
            match=r"one of Fashion-MNIST; got .*train-images-idx3-ubyte, which is a file of MNIST; "
            r"expected .*Give each data set a folder of its own, called fashion_mnist",
        ):
            fashion(put(others, tmp_path))

    def test_an_unreadable_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put(FILES, tmp_path)

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
