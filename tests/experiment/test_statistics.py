# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from qiskit_kd.errors import DataError
from qiskit_kd.experiment.statistics import Gain, paired_gain, verdict
from qiskit_kd.seeding import stream

values = st.lists(st.floats(-1, 1), min_size=2, max_size=30)


@given(values, st.integers(0, 1000))
def test_interval_is_scipys_paired_t(left: list[float], seed: int) -> None:
    right = stream(seed, "right").normal(size=len(left))
    gain = paired_gain(left, right)
    test = scipy.stats.ttest_rel(left, right)
    low, high = test.confidence_interval(0.95)
    assert gain.mean == pytest.approx(np.mean(np.subtract(left, right)), abs=1e-12)
    assert (gain.low, gain.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)
    assert gain.n == len(left)


def test_swapping_the_sides_turns_the_gain_around() -> None:
    left, right = [0.9, 0.8, 0.95], [0.7, 0.75, 0.7]
    there, back = paired_gain(left, right), paired_gain(right, left)
    assert there.mean > 0.1
    assert (back.mean, back.low, back.high) == (-there.mean, -there.high, -there.low)


def test_pairing_matters() -> None:
    """A nearly constant gain on top of a large spread is certain when paired."""
    base = [0.1, 0.3, 0.5, 0.7, 0.9]
    better = [b + 0.01 + 0.001 * k for k, b in enumerate(base)]
    assert verdict(paired_gain(better, base)) == "confirmed"
    assert verdict(paired_gain(better, base[::-1])) == "not confirmed"


def test_interval_covers_the_truth_19_times_of_20() -> None:
    draws = stream(5, "coverage").normal(0.3, 1.0, size=(4000, 6))
    hits = [g.low <= 0.3 <= g.high for g in (paired_gain(d, np.zeros(6)) for d in draws)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.01, 0.2, "confirmed"), (-0.2, -0.01, "harmful"), (-0.1, 0.1, "not confirmed"),
     (0.0, 0.1, "not confirmed"), (-0.1, 0.0, "not confirmed")],
)  # fmt: skip
def test_verdict(low: float, high: float, expected: str) -> None:
    assert verdict(Gain((low + high) / 2, low, high, 5)) == expected


def test_one_pair_confirms_nothing() -> None:
    gain = paired_gain([1.0], [0.0])
    assert (gain.mean, gain.n, verdict(gain)) == (1.0, 1, "not confirmed")
    assert str(gain) == "+1.000 (no interval from n = 1)"


def test_text() -> None:
    assert str(Gain(0.0342, 0.0101, 0.0583, 10)) == "+0.034 [+0.010, +0.058] (n = 10)"


@pytest.mark.parametrize("n", [2, 5, 10])
@pytest.mark.parametrize("sign", [1, -1])
def test_equal_differences_confirm_nothing(n: int, sign: int) -> None:
    base = [0.1 + 0.07 * k for k in range(n)]
    assert verdict(paired_gain([b + 0.1 * sign for b in base], base)) == "not confirmed"
    assert verdict(Gain(0.1 * sign, 0.1 * sign, 0.1 * sign, n)) == "not confirmed"


def test_fewer_than_five_pairs_confirm_nothing() -> None:
    gains = [0.10, 0.11, 0.12, 0.11, 0.10]
    assert verdict(paired_gain(gains, [0.0] * 5)) == "confirmed"
    assert verdict(paired_gain([0.0] * 5, gains)) == "harmful"
    assert verdict(paired_gain(gains[:4], [0.0] * 4)) == "not confirmed"


def test_unequal_lengths() -> None:
    with pytest.raises(DataError, match=r"one per seed on both sides; got 2 and 1; expected"):
        paired_gain([1.0, 2.0], [1.0])
    with pytest.raises(DataError, match=r"got 0 and 0"):
        paired_gain([], [])


def test_not_finite() -> None:
    with pytest.raises(DataError, match=r"finite; got a difference of nan at position 1"):
        paired_gain([1.0, np.nan], [1.0, 0.0])
