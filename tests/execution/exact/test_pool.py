# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from qiskit_kd.execution.exact.buffers import Pool


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
