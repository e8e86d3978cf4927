# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_kd.data import Split, cifar10, datasets, fashion_mnist, images, mnist
from qiskit_kd.data.sources import SOURCES, find
from qiskit_kd.errors import DataError
from qiskit_kd.files import write_atomically
from tests.data import synthetic
from tests.data.synthetic import NAMES, nowhere, numbers, publish, put

COUNTS = np.array([70, 60, 55, 66, 61, 58, 63, 54, 69, 44])  # of the classes in the training file


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Made-up files of all three data sets, found without being told where."""
    folder = tmp_path_factory.mktemp("home")
    cache = folder / ".cache" / "qiskit_kd"
    with pytest.MonkeyPatch.context() as patch:
        nowhere(patch, folder)
        made = synthetic.idx_files(train=60, test=12)
        publish(patch, made)
        put(made, cache / "fashion_mnist", packed=True)
        made = synthetic.idx_files(train=COUNTS, test=9)
        publish(patch, made, "mnist")
        put(made, cache / "mnist")
        made = synthetic.batches()
        publish(patch, made, "cifar10")
        put(made, cache / "cifar-10-batches-py")
        yield folder
    images._shared.cache_clear()


def rows(split: Split) -> dict[str, list[int]]:
    """Numbers of the images in the file, in order; those of the test file from 100,000 on."""
    parts = {
        name: getattr(split, name).features for name in ("train", "validation", "test", "pool")
    }
    parts["transfer"] = split.transfer
    return {
        name: (numbers(x) + 100_000 * (np.rint(x[:, 2] * 255) == 1)).tolist() if name == "test"
        else numbers(x).tolist()
        for name, x in parts.items()
    }  # fmt: skip


def assert_balanced(labels: Any, available: Any) -> None:
    taken = np.bincount(labels, minlength=len(available))
    lasting = taken < available
    assert np.all(taken[lasting] >= taken.max() - 1)


@given(
    seed=st.integers(0, 2**40),
    train=st.integers(10, 400),
    more=st.integers(0, 60),
    transfer=st.integers(0, 60),
    validation=st.integers(10, 80),
)
@settings(max_examples=40)
def test_subsets(seed: int, train: int, more: int, transfer: int, validation: int) -> None:
    options = {"validation": validation, "test": 30}
    split = mnist(seed=seed, train=train, transfer=transfer, **options)
    assert (len(split.train), len(split.transfer)) == (train, transfer)
    assert (len(split.validation), len(split.test)) == (validation, 30)
    found = rows(split)
    # Balanced, as far as every class lasts.
    pool = COUNTS - np.bincount(split.validation.labels)
    assert_balanced(split.train.labels, pool)
    assert_balanced(split.validation.labels, COUNTS)
    assert np.bincount(split.test.labels).tolist() == [3] * 10
    # Labels are those of the rows.
    y = synthetic.labels(COUNTS)
    for name in ("train", "validation", "pool"):
        assert np.array_equal(getattr(split, name).labels, y[found[name]])
    # Nothing twice, nothing lost, and nothing that the validation set has is trained on.
    assert sorted(found["pool"] + found["validation"]) == list(range(600))
    assert len({*found["train"], *found["transfer"]}) == train + transfer
    assert {*found["train"], *found["transfer"]} <= set(found["pool"])
    # Nested; and neither size nor seed changes what is shared.
    larger = mnist(seed=seed, train=train + more, **options)
    assert rows(larger)["train"][:train] == found["train"]
    other = mnist(seed=seed + 1, train=train, **options)
    assert sorted(rows(other)["train"]) != sorted(found["train"])
    for part in ("pool", "validation", "test"):
        assert getattr(larger, part) is getattr(split, part)
        assert getattr(other, part) is getattr(split, part)


@given(seed=st.integers(0, 2**40), train=st.integers(10, 100))
@settings(max_examples=10)
def test_is_deterministic(seed: int, train: int) -> None:
    first = fashion_mnist(seed=seed, train=train, validation=30, transfer=5)
    images._shared.cache_clear()
    again = fashion_mnist(seed=seed, train=train, validation=30, transfer=5)
    assert again.pool is not first.pool
    assert again.fingerprint == first.fingerprint
    assert rows(again) == rows(first)


def test_all_of_the_pool_by_default() -> None:
    split = fashion_mnist(seed=0, validation=30)
    assert split.train is split.pool
    assert len(split.pool) == 570
    assert split.transfer.shape == (0, 784)
    assert rows(split)["pool"] == sorted(rows(split)["pool"])
    assert rows(split)["test"] == [100_000 + k for k in range(120)]
    assert fashion_mnist(seed=1, train=570, validation=30).train is split.pool
    but = fashion_mnist(seed=0, validation=30, transfer=70)
    assert (len(but.train), len(but.transfer)) == (500, 70)


def test_the_test_set_is_the_first_images_of_each_class() -> None:
    y = synthetic.labels(12, 1)
    expected = np.sort(np.concatenate([np.flatnonzero(y == label)[:2] for label in range(10)]))
    split = fashion_mnist(seed=3, train=20, validation=30, test=20)
    assert rows(split)["test"] == (100_000 + expected).tolist()
    assert np.array_equal(split.test.labels, y[expected])


def test_classes_are_kept_and_relabelled_in_the_order_given() -> None:
    split = fashion_mnist(seed=0, train=40, validation=20, classes=[7, 2])
    assert (split.num_classes, split.train.name) == (2, "fashion_mnist-72")
    assert (len(split.pool), len(split.test)) == (100, 24)
    y, found = synthetic.labels(60), rows(split)
    for part in ("train", "validation", "pool"):
        assert np.array_equal(np.array([7, 2])[getattr(split, part).labels], y[found[part]])
    assert np.bincount(split.train.labels).tolist() == [20, 20]


@pytest.mark.parametrize(
    ("builder", "shape"),
    [(fashion_mnist, (1, 28, 28)), (mnist, (1, 28, 28)), (cifar10, (3, 32, 32))],
)
def test_pixels_lie_in_0_to_1_and_have_a_shape(builder: Any, shape: tuple[int, ...]) -> None:
    split = builder(seed=0, train=20, validation=10, transfer=10)
    assert split.shape == split.pool.shape == shape
    assert split.num_features == np.prod(shape)
    assert split.train.name == builder.__name__
    assert datasets[builder.__name__] is builder
    for x in (split.train.features, split.pool.features, split.transfer):
        assert x.dtype == np.float64
        assert (x.min(), x.max()) == (0.0, 1.0)
        torch.from_numpy(x)  # warns, which fails here, if it cannot be written to
    assert "20 samples, shape" in repr(split.train)


def test_cifar_rows_are_channel_by_channel() -> None:
    split = cifar10(seed=0, train=20, validation=10)
    made = synthetic.pixels(100, (3072,), test=False) / 255.0
    assert np.array_equal(split.pool.features, made[rows(split)["pool"]])


def test_float_rows_are_made_when_asked_for_and_fingerprints_do_without() -> None:
    images._shared.cache_clear()
    split = fashion_mnist(seed=0, train=20, validation=30)
    before = split.fingerprint
    for part in (split.train, split.validation, split.test, split.pool):
        assert "features" not in vars(part)
        assert part.num_features == 784
    assert "570 samples" in repr(split.pool)
    assert "features" not in vars(split.pool)
    assert split.pool.features is split.pool.features
    assert np.array_equal(split.pool.features, split.pool.pixels / 255.0)
    again = pickle.loads(pickle.dumps(split))
    assert again.fingerprint == before
    assert np.array_equal(again.pool.features, split.pool.features)


def test_the_fingerprint_sees_pixels_labels_and_shape() -> None:
    x, y = synthetic.pixels(20, (12,), test=False), np.arange(20) % 2
    data = images.Images(x, y, 2, "toy", (3, 2, 2))
    z = x.copy()
    z[7, 5] += 1
    others = [
        images.Images(z, y, 2, "toy", (3, 2, 2)), images.Images(x, 1 - y, 2, "toy", (3, 2, 2)),
        images.Images(x, y, 2, "toy", (3, 4, 1)), images.Images(x, y, 3, "toy", (3, 2, 2)),
    ]  # fmt: skip
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert images.Images(x, y, 2, "other name", (3, 2, 2)).fingerprint == data.fingerprint


def test_files_are_read_once_for_all_seeds_and_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    images._shared.cache_clear()
    calls = []

    def counted(*where: Any) -> Any:
        calls.append(where)
        return read(*where)

    read = images.read
    monkeypatch.setattr(images, "read", counted)
    for seed in range(3):
        for train in (10, 20):
            fashion_mnist(seed=seed, train=train, validation=30).fingerprint  # noqa: B018
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 571}, r"fit into the training files of Fashion-MNIST; got 571 train \+ 30 "
         r"validation; expected at most 600 in all\. Ask for fewer samples"),
        ({"train": 560, "transfer": 11}, r"got 560 train \+ 11 transfer \+ 30 validation; expe"),
        ({"transfer": 570}, r"got 570 transfer \+ 30 validation, leaving nothing to train on"),
        ({"validation": 600}, "got 600 validation, leaving nothing to train on; expected at most"),
        ({"test": 121}, "test files of Fashion-MNIST; got 121 test; expected at most 120 in all"),
        ({"train": 9}, r"every class has a training sample; got 9 training samples without "
         r"classes \[\d\]; expected 10 or more\. Raise train"),
        ({"validation": 8}, r"a validation sample; got 8 validation samples without classes \["),
        ({"test": 1}, r"test sample; got 1 test samples without classes \[1, 2, 3, 4, 5, 6, 7, 8"),
        ({"validation": 596}, r"a training sample; got 4 training samples without classes \[\d, "),
        ({"classes": [3]}, r"distinct class numbers of fashion_mnist; got \[3\]; expected at le"),
        ({"classes": [3, 10]}, r"distinct class numbers of fashion_mnist; got \[3, 10\]"),
        ({"train": 0}, "train of Fashion-MNIST is a number of samples to draw; got 0; expected an"),
        ({"train": 0.5}, "train of Fashion-MNIST is a number of samples to draw; got 0.5"),
        ({"validation": 0}, "validation of Fashion-MNIST is .*; got 0; expected an integer from 1"),
        ({"test": True}, "test of Fashion-MNIST is a number of samples to draw; got True"),
        ({"transfer": -1}, "transfer of Fashion-MNIST is .*; got -1; expected an integer from 0"),
    ],
)  # fmt: skip
def test_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fashion_mnist(seed=0, **{"validation": 30, **options})


def test_a_damaged_file_is_reported_by_the_data_set(home: Path, tmp_path: Path) -> None:
    files = synthetic.idx_files(train=60, test=12)
    write_atomically(tmp_path / NAMES[0], files[NAMES[0]][:-1])
    put({name: files[name] for name in NAMES[1:]}, tmp_path)
    with pytest.raises(DataError, match=r"published one of Fashion.*train-images-idx3-ubyte; exp"):
        fashion_mnist(seed=0, train=10, root=tmp_path)


class TestPublishedFiles:
    """Fashion-MNIST as published."""

    @pytest.fixture(autouse=True)
    def root(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        if REAL is None:
            pytest.skip("needs Fashion-MNIST: apt-get install dataset-fashion-mnist")
        monkeypatch.setitem(SOURCES, "fashion_mnist", PUBLISHED)
        images._shared.cache_clear()
        yield REAL
        images._shared.cache_clear()

    def test_is_all_there(self, root: Path) -> None:
        split = fashion_mnist(seed=0, train=100, transfer=50, root=root)
        assert (len(split.pool), len(split.validation), len(split.test)) == (59000, 1000, 10000)
        for part, each in ((split.pool, 5900), (split.validation, 100), (split.test, 1000)):
            assert np.bincount(part.labels).tolist() == [each] * 10
        assert np.bincount(split.train.labels).tolist() == [10] * 10
        x = np.concatenate([split.pool.pixels, split.validation.pixels])
        # Published mean and standard deviation of the training file.
        assert x.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
        assert x.std() / 255 == pytest.approx(0.3530, abs=5e-5)
        # Boots have their dark side below: the picture is not transposed.
        boot = split.test.features[split.test.labels == 9].mean(axis=0).reshape(28, 28)
        assert boot[20:].mean() > 3 * boot[:4].mean()

    def test_the_samples_are_the_same_in_every_version(self, root: Path) -> None:
        split = fashion_mnist(seed=0, train=50, root=root)
        assert split.train.fingerprint[:16] == "a71628a07b45eb7c"
        assert split.validation.fingerprint[:16] == "4e5069a27a665a24"
        assert split.fingerprint[:16] == "5a1c9849056c0165"


PUBLISHED = SOURCES["fashion_mnist"]  # before any test puts another in its place
REAL = find(PUBLISHED)
