# SPDX-License-Identifier: Apache-2.0
"""Work arrays that are used again, and the threads that fill them."""

from __future__ import annotations

import threading

import pytest
import torch

from qiskit_kd.execution.exact import buffers as module
from qiskit_kd.execution.exact.buffers import Pool, Workers


def test_items_come_back_and_spare_ones_are_bounded():
    pool = Pool(make=lambda key: [key], size=lambda key: key, limit=10)
    first, second = pool.take(4), pool.take(4)
    assert first is not second
    pool.give(4, first)
    pool.give(4, second)
    assert pool.held == 8
    assert pool.take(4) is second
    assert pool.take(3) == [3]
    pool.give(7, [7])  # 4 + 7 are too many: the old ones go
    assert pool.held == 7
    assert pool.take(4) is not first
    pool.give(50, [50])
    assert pool.held == 50
    pool.give(1, [1])
    assert pool.held == 1


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_every_item_once_on_several_threads():
    seen, barrier = [], threading.Barrier(3, timeout=20)

    def work(items):
        barrier.wait()  # passes only if three threads are here at once
        seen.append((threading.get_ident(), list(items)))

    Workers().each(work, list(range(10)))
    assert len({ident for ident, _ in seen}) == 3
    assert sorted(item for _, items in seen for item in items) == list(range(10))


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("bad", [0, 9])
def test_errors_are_raised_where_the_work_was_asked_for(bad):
    def work(items):
        if bad in items:
            raise ValueError(f"item {bad}")

    with pytest.raises(ValueError, match=f"item {bad}"):
        Workers().each(work, list(range(10)))


@pytest.mark.usefixtures("three_threads")
def test_few_items_stay_here():
    idents = []
    Workers().each(lambda _: idents.append(threading.get_ident()), [1])
    Workers().each(lambda _: idents.append(threading.get_ident()), [])
    assert set(idents) == {threading.get_ident()}


@pytest.mark.usefixtures("three_threads")
def test_threads_are_kept_and_made_again_where_they_are_gone(monkeypatch):
    workers = Workers()
    workers.each(lambda _: None, [1, 2, 3])
    first = workers._pool
    workers.each(lambda _: None, [1, 2, 3])
    assert workers._pool is first
    torch.set_num_threads(2)
    workers.each(lambda _: None, [1, 2, 3])
    second = workers._pool
    assert second is not first
    monkeypatch.setattr(module.os, "getpid", lambda: -1)  # as in a forked process
    workers.each(lambda _: None, [1, 2, 3])
    assert workers._pool is not second
    first.shutdown()
    second.shutdown()
