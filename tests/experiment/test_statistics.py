# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from qiskit_kd.errors import DataError
from qiskit_kd.experiment.statistics import (
    Gain,
    collapsed,
    half_width,
    paired_gain,
    shared_variance,
    sign_flip,
    verdict,
)
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


def seed_row(seed: int, right: np.ndarray, places: np.ndarray, of: int, trained: float) -> dict:
    bits = np.zeros((2, of), dtype=bool)
    bits[0, places], bits[1, places] = True, right
    tested, found = (np.packbits(row).tobytes().hex() for row in bits)
    told = {"source": "small", "of": of, "tested": tested, "right": found, "trained": trained}
    return {"seed": seed, "correct": told, "accuracy": right.mean()}


def drawn_again(random: np.random.Generator, *, of: int, test: int, train: int, seeds: int = 10):
    """Rows of two classifiers on splits of one data set, and their gain on all such data.

    How easy a sample is, and what a training sample teaches, are properties of the samples.
    """
    ease, lesson = random.normal(size=of), random.normal(size=(2, of))
    sides: list[list[dict]] = [[], []]
    for seed in range(seeds):
        order = random.permutation(of)
        places, taught = order[:test], order[test : test + train]
        for k, (side, (level, slope)) in enumerate(zip(sides, LEVELS, strict=True)):
            learned = 0.1 * lesson[k][taught].sum() / np.sqrt(train) + 0.03 * random.normal()
            chance = scipy.special.ndtr(level + slope * ease[places] + learned)
            side.append(seed_row(seed, random.random(test) < chance, places, of, train / of))
    return sides


LEVELS = ((1.3, 1.0), (1.0, -0.1))


def test_the_corrected_interval_covers_the_gain_on_other_data_19_times_of_20() -> None:
    """The plain one, of 539 samples that are split again and again, does not."""
    one, other = (scipy.special.ndtr(level / np.sqrt(1 + slope**2 + 0.1**2 + 0.03**2))
                  for level, slope in LEVELS)  # fmt: skip
    random, truth = stream(3, "resplit"), one - other
    hits = np.zeros((400, 2))
    for place in range(len(hits)):
        left, right = drawn_again(random, of=539, test=215, train=30)
        numbers = [[row["accuracy"] for row in side] for side in (left, right)]
        for which, shared in enumerate((0.0, shared_variance(left, right))):
            gain = paired_gain(*numbers, shared=shared)
            hits[place, which] = gain.low <= truth <= gain.high
    plain, corrected = hits.mean(axis=0)
    assert plain < 0.915
    assert corrected == pytest.approx(0.96, abs=0.02)


def test_seeds_with_samples_of_their_own_share_nothing() -> None:
    random = stream(1, "own")
    rows = [seed_row(k, random.random(60) < 0.7, np.arange(60), 60, 0.0) for k in range(6)]
    other = [seed_row(k, random.random(60) < 0.6, np.arange(60), 60, 0.0) for k in range(6)]
    for k, row in enumerate([*rows, *other]):
        row["correct"]["source"] = f"test set {k % 6}"
    assert shared_variance(rows, other) == 0
    assert shared_variance(rows[:1], other) == 0
    assert shared_variance([{"seed": 0}, {"seed": 1}]) == 0  # rows that do not tell


def test_one_test_set_for_all_seeds_is_allowed_for() -> None:
    """The mean over seeds cannot know an accuracy better than the test samples let it."""
    random = stream(2, "one test set")
    ease = random.normal(size=200)
    rows = [seed_row(k, ease + 0.1 * random.normal(size=200) > 0, np.arange(200), 200, 0.0)
            for k in range(10)]  # fmt: skip
    numbers = [row["accuracy"] for row in rows]
    half = half_width(numbers, shared=shared_variance(rows))
    assert half == pytest.approx(2.26 * np.sqrt(0.25 / 200), rel=0.2)
    assert half_width(numbers) < half / 4


def test_the_correction_is_nadeau_and_bengios() -> None:
    values = [0.1, 0.3, 0.2, 0.6]
    found = half_width(values, shared=0.25)
    assert found == pytest.approx(half_width(values) * np.sqrt(1 + 4 * 0.25))
    gain = paired_gain(values, [0.0] * 4, shared=0.25)
    assert (gain.high - gain.mean, gain.shared) == (pytest.approx(float(found)), 0.25)


@pytest.mark.parametrize("n", [5, 12])
def test_sign_flips_are_scipys_exact_permutation_test(n: int) -> None:
    data = stream(n, "flips").normal(0.5, 1, n)
    found = scipy.stats.permutation_test(
        (data,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(data) == pytest.approx(found.pvalue)


def test_sign_flips_of_few_and_of_many_seeds() -> None:
    assert sign_flip([0.3]) == 1
    assert sign_flip(np.ones(5)) == 2 / 32
    assert sign_flip(np.ones(20)) == pytest.approx(1e-5, abs=3e-5)
    assert sign_flip([1.0, -1.0] * 10) == 1
    assert sign_flip([0.0] * 5) == 1


def test_collapsed_seeds() -> None:
    assert collapsed([0.9, 0.92, 0.35, 0.91], 3) == 1
    assert collapsed([0.9, 0.92, 0.6, 0.91], 3) == 0
    assert collapsed([0.34, 0.33, 0.35, 0.3], 3) == 0  # hardly anybody learned
    assert collapsed([0.1, 0.9], 3) == 0  # of two, nobody is the odd one
