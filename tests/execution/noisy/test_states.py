# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from qiskit_kd.execution.noisy import states as module
from qiskit_kd.execution.noisy.states import EncodedRows, StateStore

SIZE = 5


class Encoder:
    """A row to a row of `SIZE` numbers, counting how many it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        self.asked += len(rows)
        return torch.from_numpy(np.outer(rows.astype(float).sum(1), np.arange(1.0, SIZE + 1)))


def look(store: StateStore, rows: np.ndarray, encode: Encoder, key: object = "a") -> np.ndarray:
    return store.rows(key, rows, encode, 8 * SIZE).tensor().numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_content_is_encoded_once(dtype) -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(200, 7)).astype(dtype)
    data[10:20] = data[:10]  # contents that occur twice
    store, encode = StateStore(10**6), Encoder()
    for _ in range(30):
        rows = data[rng.integers(0, len(data), 50)]
        np.testing.assert_array_equal(look(store, rows, encode), Encoder()(rows).numpy())
    assert encode.asked <= 190
    whole = look(store, data, encode)
    assert encode.asked == 190
    np.testing.assert_array_equal(whole, Encoder()(data).numpy())


def test_rows_in_order_are_not_copied() -> None:
    store, encode = StateStore(10**6), Encoder()
    data = np.random.default_rng(0).normal(size=(20, 3))
    look(store, data, encode)
    first, second = (store.rows("a", data[4:9], encode, 8 * SIZE) for _ in range(2))
    assert first.tensor().data_ptr() == second.tensor().data_ptr()


def test_equal_hashes_do_not_answer_for_each_other(monkeypatch) -> None:
    monkeypatch.setattr(module, "_hashes", lambda rows: np.zeros(len(rows), np.uint64))
    store, encode = StateStore(10**6), Encoder()
    data = np.random.default_rng(0).normal(size=(6, 3))
    for rows in (data[:3], data[2:], data):
        np.testing.assert_array_equal(look(store, rows, encode), Encoder()(rows).numpy())


def test_zeros_of_both_signs_and_tiny_differences_are_told_apart() -> None:
    store, encode = StateStore(10**6), Encoder()
    rows = np.array([[0.0, 1.0], [-0.0, 1.0], [np.nextafter(0.0, 1), 1.0], [0.5, 1.0], [1.0, 0.5]])
    look(store, rows, encode)
    assert encode.asked == 5


def test_the_bound_is_kept_and_said() -> None:
    store, encode = StateStore(10 * 8 * SIZE), Encoder()
    data = np.random.default_rng(0).normal(size=(25, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        look(store, data[:6], encode)
        look(store, data[:10], encode)  # just fits
    early = store.rows("a", data[:6], encode, 8 * SIZE).tensor()
    kept = early.clone()
    with pytest.warns(UserWarning, match=r"more encoded rows than are kept \(10 of 0 KiB each\)"):
        look(store, data[8:14], encode)
    look(store, data[14:20], encode)  # said once
    torch.testing.assert_close(early, kept)  # what was handed out stays
    assert store.nbytes <= store.limit
    asked = encode.asked
    np.testing.assert_array_equal(look(store, data, encode), Encoder()(data).numpy())
    assert encode.asked == asked + 25  # more than fits is not kept
    assert store.nbytes <= store.limit


def test_tables_used_longest_ago_go_first() -> None:
    store, encode = StateStore(10 * 8 * SIZE), Encoder()
    data = np.random.default_rng(0).normal(size=(4, 3))
    for key in ("a", "b", "a", "c"):
        look(store, data, encode, key)
    assert encode.asked == 12
    assert store.nbytes == 2 * 4 * 8 * SIZE
    look(store, data, encode, "a")
    assert encode.asked == 12
    look(store, data, encode, "b")
    assert encode.asked == 16


@pytest.mark.parametrize("rows", [0, 5, 300])
def test_products_of_scattered_rows(rows) -> None:
    rng = np.random.default_rng(0)
    states = torch.from_numpy(rng.normal(size=(400, 16)))
    index = torch.from_numpy(rng.integers(0, 400, rows))
    observables = torch.from_numpy(rng.normal(size=(3, 16)))
    upstream = torch.from_numpy(rng.normal(size=(rows, 3)))
    for encoded in (EncodedRows(states, index), EncodedRows(states[index])):
        assert len(encoded) == rows
        torch.testing.assert_close(encoded.measure(observables), states[index] @ observables.T)
        torch.testing.assert_close(encoded.combine(upstream), upstream.T @ states[index])
