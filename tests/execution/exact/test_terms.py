# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_kd.execution.exact.product import Terms


def live_table(n: int, seed: int, share: float) -> np.ndarray:
    live = np.random.default_rng(seed).random([3] * n) < share
    live.flat[seed % live.size] = True
    return live


@settings(max_examples=80, deadline=None)
@given(n=st.integers(1, 5), seed=st.integers(0, 10**6), share=st.sampled_from([0.02, 0.2, 0.7, 1]))
def test_every_product_that_occurs_once_and_from_rows_below(n, seed, share):
    live = live_table(n, seed, share)
    terms = Terms(live)
    assert len(set(terms.index.tolist())) == len(terms.index) == terms.head.size * terms.width
    assert set(np.flatnonzero(live)) <= set(terms.index.tolist())
    factors = np.random.default_rng(1).normal(size=(n, 3))
    factors[:, 0] = 1
    below = np.ones(1)
    for level in terms.levels:
        here = np.full(level.size, np.nan)
        here[: len(level.ones)] = below[level.ones]
        for block in level.blocks:
            lines = factors[level.qubit, 1:][block.trig]
            here[block.target] = np.outer(lines, below[block.source]).ravel()
        below = here
    table = factors[n - 1]
    for q in range(n - 2, -1, -1):
        table = np.outer(table, factors[q]).ravel()
    head = [f for t, f in enumerate(factors[terms.head.qubit]) if t == 0 or _trig(terms, t)]
    head = head if terms.head.one else head[1:]
    np.testing.assert_allclose(np.outer(head, below).ravel(), table[terms.index], rtol=1e-12)


def _trig(terms: Terms, t: int) -> bool:
    return terms.head.trig.start <= t - 1 < terms.head.trig.stop


def test_the_cheapest_order_is_taken():
    # Qubit 0 has a factor only where 1 has, and 1 only where 2 has: built from 2 down, every
    # level contains the one before.
    live = np.zeros([3] * 4, bool)
    live[1:, 0, 0, 0] = live[1:, 1:, 0, 0] = live[1:, 1:, 1:, :] = True
    terms = Terms(live)
    assert [level.qubit for level in terms.levels] == [2, 1, 0]
    assert all(level.whole for level in terms.levels)
    assert [level.size for level in terms.levels] == [3, 7, 15]
    assert sum(level.cost for level in terms.levels) == 14


@pytest.mark.parametrize("n", [1, 4])
def test_one_product_of_sines(n):
    live = np.zeros([3] * n, bool)
    live[(1,) * n] = True
    terms = Terms(live)
    assert (terms.head.size, terms.head.one, terms.width) == (1, 0, 1)
    assert terms.index.tolist() == [sum(3**q for q in range(n))]


def test_a_constant():
    live = np.zeros([3] * 3, bool)
    live[0, 0, 0] = True
    terms = Terms(live)
    assert (terms.head.size, terms.head.one, terms.width, terms.levels) == (1, 1, 1, [])
    assert terms.index.tolist() == [0]
