from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qiskit_kd.data import arrays, datasets, npz, stratified_split
from qiskit_kd.data.splits import (
    balanced_order,
    check_count,
    check_every_class,
    choose_classes,
    relabelled,
)
from qiskit_kd.errors import DataError

Array = NDArray[Any]


def samples(count: int = 60, classes: int = 3, features: int = 4) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    return random.normal(size=(count, features)), np.arange(count) % classes


class TestStratifiedSplit:
    @settings(max_examples=40, deadline=None)
    @given(
        counts=st.lists(st.integers(8, 40), min_size=2, max_size=5),
        seed=st.integers(0, 2**40),
        train=st.floats(0.2, 0.5),
        transfer=st.floats(0.05, 0.2),
    )
    def test_every_part_is_stratified_and_no_sample_is_lost_or_doubled(
        self, counts: list[int], seed: int, train: float, transfer: float
    ) -> None:
        y = np.repeat(np.arange(len(counts)), counts)
        x = np.arange(len(y), dtype=float)[:, None]  # a row is its own name
        split = stratified_split(
            x, y, seed=seed, train=train, validation=0.15, test=0.15, transfer=transfer
        )
        rows = [p.features[:, 0] for p in (split.train, split.validation, split.test)]
        together = np.concatenate([*rows, split.transfer[:, 0]])
        assert len(np.unique(together)) == len(together)
        for piece in (split.train, split.validation, split.test, split.pool):
            assert np.array_equal(y[piece.features[:, 0].astype(int)], piece.labels)
            part = np.array(counts) / len(y)
            found = np.bincount(piece.labels, minlength=len(counts))
            # The order puts sample k of m at (k + 1/2) / m, so a cut is half a sample off for each
            # class, and the length of a stretch is as uncertain as all classes together.
            cuts = 2 if piece is split.validation else 1
            bound = cuts / 2 * ((1 - part) + part * (len(counts) - 1))
            assert (np.abs(found - part * len(piece)) <= bound + 1e-9).all()
        assert np.array_equal(split.pool.features, np.concatenate([split.train.features,
                                                                  split.transfer]))  # fmt: skip

    def test_equal_classes_are_split_exactly(self) -> None:
        split = stratified_split(*samples(90), seed=1, train=30, validation=15, test=15)
        for piece, each in ((split.train, 10), (split.validation, 5), (split.test, 5)):
            assert np.bincount(piece.labels).tolist() == [each] * 3

    def test_is_deterministic_and_the_seed_matters(self) -> None:
        one = stratified_split(*samples(), seed=3)
        assert one.fingerprint == stratified_split(*samples(), seed=3).fingerprint
        assert one.fingerprint != stratified_split(*samples(), seed=4).fingerprint

    def test_a_larger_training_set_contains_the_smaller_and_leaves_the_rest_alone(self) -> None:
        small = stratified_split(*samples(), seed=5, train=12, validation=9, test=9)
        large = stratified_split(*samples(), seed=5, train=30, validation=9, test=9, transfer=12)
        assert np.array_equal(large.train.features[:12], small.train.features)
        assert large.test.fingerprint == small.test.fingerprint
        assert large.validation.fingerprint == small.validation.fingerprint

    def test_fractions_and_the_rest(self) -> None:
        split = stratified_split(*samples(60), seed=0, validation=0.1, test=0.25, transfer=9)
        sizes = len(split.train), len(split.validation), len(split.test), len(split.transfer)
        assert sizes == (60 - 6 - 15 - 9, 6, 15, 9)

    def test_fractions_that_add_up_to_one_fit(self) -> None:
        for count in range(20, 60):
            split = stratified_split(
                *samples(count), seed=0, train=0.5, validation=0.15, test=0.15, transfer=0.2
            )
            assert len(split.train) == count // 2

    def test_the_samples_given_are_never_shared_with(self) -> None:
        x, y = samples()
        split = stratified_split(x, y, seed=0, transfer=5)
        for array in (split.transfer, *(p.features for p in (split.train, split.pool, split.test))):
            assert not np.shares_memory(array, x)
        for part in (split.train, split.validation, split.test, split.pool):
            assert not np.shares_memory(part.labels, y)

    def test_the_classes_may_be_more_than_shown(self) -> None:
        assert stratified_split(*samples(), seed=0, num_classes=5).num_classes == 5

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"train": 50}, r"got 50 train \+ 12 validation \+ 12 test; expected at most 60"),
            ({"validation": 30, "test": 30}, "leaving nothing to train on; expected at most 60"),
            ({"train": 0}, "train is a number of samples .*; got 0; expected an integer from 1"),
            ({"test": 1.5}, "test is a number of samples or a fraction of them; got 1.5"),
            ({"validation": True}, "validation is a number of samples .*; got True"),
            ({"transfer": -1}, "transfer is .*; got -1; expected an integer from 0"),
            ({"train": 2}, r"training sample; got 2 training samples without classes \[2\]"),
            ({"num_classes": 2}, r"lie in 0\.\.1; got label 2 in row 2"),
        ],
    )
    def test_refuses(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=message):
            stratified_split(*samples(), seed=0, **options)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([0, 1, 2, 0, 7, 1, 2, 9], "label 7 in row 4, but no sample of class 3; expected "
             "labels 0 to 4 for 5 classes. Relabel without gaps, or give num_classes"),
            ([1, 2, 3, 1, 2, 3, 1, 2], "label 1 in row 0, but no sample of class 0"),
        ],
    )  # fmt: skip
    def test_refuses_labels_with_gaps(self, labels: list[int], message: str) -> None:
        with pytest.raises(DataError, match=message):
            arrays(np.ones((8, 2)), labels)
        given = arrays(np.ones((80, 2)), labels * 10, num_classes=10)
        assert given.num_classes == 10

    def test_refuses_one_class_only(self) -> None:
        with pytest.raises(DataError, match="two classes; got only class 0 in arrays"):
            arrays(np.ones((9, 2)), np.zeros(9, int))

    def test_reports_bad_labels_as_such(self) -> None:
        with pytest.raises(DataError, match="labels are integers; got dtype"):
            arrays(np.ones((4, 2)), ["a", "b", "a", "b"])
        with pytest.raises(DataError, match="labels form a vector"):
            arrays(np.ones((4, 2)), 2 * np.eye(4))
        with pytest.raises(DataError, match="labels are integers; got nan in row 0"):
            arrays(np.ones((4, 2)), [np.nan, 0, 1, 1])


class TestNpz:
    def test_reads_what_arrays_makes(self, tmp_path: Path) -> None:
        x, y = samples()
        np.savez(tmp_path / "mine.npz", features=x, labels=y)
        split = npz(tmp_path / "mine.npz", seed=2, train=21)
        assert split.fingerprint == arrays(x, y, seed=2, train=21).fingerprint
        assert split.train.name == "mine"

    def test_samples_may_have_a_shape(self, tmp_path: Path) -> None:
        x, y = samples()
        np.savez(tmp_path / "mine.npz", features=x, labels=y)
        split = npz(tmp_path / "mine.npz", seed=2, shape=[1, 2, 2])
        assert split.shape == split.pool.shape == (1, 2, 2)
        assert split.fingerprint == arrays(x, y, seed=2, shape=(1, 2, 2)).fingerprint
        with pytest.raises(DataError, match=r"got shape \(5,\) for 4 features"):
            npz(tmp_path / "mine.npz", seed=2, shape=[5])

    def test_other_keys(self, tmp_path: Path) -> None:
        x, y = samples()
        np.savez_compressed(tmp_path / "mine.npz", X=x, Y=y)
        split = npz(str(tmp_path / "mine.npz"), seed=2, features="X", labels="Y", name="other")
        assert split.train.name == "other"

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"file does not exist; got .*none\.npz.*Relative"):
            npz(tmp_path / "none.npz", seed=0)

    def test_missing_key_names_the_keys_there_are(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", X=np.ones(3), labels=np.ones(3))
        with pytest.raises(DataError, match=r"no array 'features'; got keys X, labels; .*options"):
            npz(tmp_path / "a.npz", seed=0)

    @pytest.mark.parametrize("keep", [0, 3, 200, 0.5, 0.99])
    def test_truncated_file(self, tmp_path: Path, keep: float) -> None:
        np.savez(tmp_path / "a.npz", features=samples()[0], labels=samples()[1])
        whole = (tmp_path / "a.npz").read_bytes()
        count = keep if isinstance(keep, int) else int(keep * len(whole))
        (tmp_path / "a.npz").write_bytes(whole[:count])
        with pytest.raises(DataError, match=r"cannot be read; got .*; expected a complete NumPy"):
            npz(tmp_path / "a.npz", seed=0)

    def test_a_flipped_byte_is_found(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", features=samples()[0], labels=samples()[1])
        damaged = bytearray((tmp_path / "a.npz").read_bytes())
        damaged[len(damaged) // 2] ^= 255
        (tmp_path / "a.npz").write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read"):
            npz(tmp_path / "a.npz", seed=0)

    def test_other_kinds_of_file(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.ones((3, 2)))
        with pytest.raises(DataError, match=r"holds the features alone.*savez"):
            npz(tmp_path / "a.npy", seed=0)
        (tmp_path / "b.npz").write_text("1,2,3\n")
        with pytest.raises(DataError, match=r"got .*text, no NumPy file.*Rename it to \.csv"):
            npz(tmp_path / "b.npz", seed=0)

    def test_python_objects_are_never_loaded(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", features=np.array([{}, {}]), labels=np.arange(2))
        with pytest.raises(DataError, match=r"cannot be read; .*expected arrays of numbers"):
            npz(tmp_path / "a.npz", seed=0)


def test_registry_knows_the_data_sets() -> None:
    assert {"arrays", "digits", "extended_xor", "npz"} <= set(datasets)


COUNTS = st.lists(st.integers(0, 9), min_size=2, max_size=6).filter(lambda c: sum(c) > 0)


@given(counts=COUNTS, seed=st.none() | st.integers(0, 2**32))
def test_every_beginning_is_balanced_while_classes_last(
    counts: list[int], seed: int | None
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    order = balanced_order(labels, None if seed is None else np.random.default_rng(seed))
    assert np.array_equal(np.sort(order), np.arange(len(labels)))
    for size in range(1, len(labels) + 1):
        taken = np.bincount(labels[order[:size]], minlength=len(counts))
        lasting = taken < counts
        assert np.all(taken[lasting] >= taken.max() - 1)


def test_without_shuffling_rows_and_classes_keep_their_order() -> None:
    labels = np.array([1, 1, 0, 2, 0, 1])
    assert balanced_order(labels, None).tolist() == [2, 0, 3, 4, 1, 5]


def test_shuffling_changes_the_samples_and_which_class_comes_first() -> None:
    labels = np.arange(100) % 10
    orders = [balanced_order(labels, np.random.default_rng(k)) for k in range(30)]
    assert len({order.tobytes() for order in orders}) == 30
    assert len({labels[order[0]] for order in orders}) > 5


def test_relabels_in_the_order_given() -> None:
    rows, labels = relabelled(np.array([3, 0, 9, 3, 5], np.uint8), (9, 3))
    assert rows.tolist() == [0, 2, 3]
    assert labels.tolist() == [1, 0, 1]
    assert labels.dtype == np.int64
    assert relabelled(np.array([0, 1]), (1, 9))[0].tolist() == [1]


def test_the_choice_of_classes_names_the_data() -> None:
    assert choose_classes(None, 3, name="toy") == ((0, 1, 2), "toy")
    assert choose_classes([2, 0], 3, name="toy") == ((2, 0), "toy-20")


@pytest.mark.parametrize("classes", [[1], [1, 1], [1, 3], [-1, 2], [], 2, "01", [[0], 1], [0.5, 1]])
def test_refuses_other_classes(classes: object) -> None:
    with pytest.raises(
        DataError, match=r"distinct class numbers of toy; got .*; expected at least two of 0\.\.2"
    ):
        choose_classes(classes, 3, name="toy")


@pytest.mark.parametrize("size", [4, -1, 7.0, True, "9", None])
def test_refuses_what_is_no_number_of_samples(size: object) -> None:
    with pytest.raises(
        DataError, match=r"train of toy is a number of samples to draw; got .*integer from 5 on"
    ):
        check_count(size, 5, what="train of toy")
    check_count(5, 5, what="train of toy")
    check_count(np.int64(6), 5, what="train of toy")


def test_names_the_classes_without_samples() -> None:
    check_every_class(np.array([1, 0, 1]), [0, 1], part="train")
    with pytest.raises(
        DataError,
        match=r"class has a training sample; got 3 training samples without classes \[0, 3\]; "
        r"expected 4 or more\. Raise train\.",
    ):
        check_every_class(np.array([1, 2, 1]), np.arange(4), part="train")
    with pytest.raises(DataError, match=r"a test sample; got 1 test samples .*Raise test"):
        check_every_class(np.array([1]), [0, 1], part="test")
