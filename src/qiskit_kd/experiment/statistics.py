# SPDX-License-Identifier: Apache-2.0
"""Paired differences over seeds, their 95 % intervals, and the verdict they allow.

Seeds are paired: both sides of a comparison have the same split, initial weights and batches, so
the difference per seed is free of the (large) spread between seeds. The interval is Student's t,
corrected where seeds share samples: splits that are drawn anew from one small data set overlap, and
the mean over them varies more from data set to data set than their spread tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from qiskit_kd.errors import DataError

FEWEST = 5
"""Pairs, below which a verdict settles nothing."""
_POINT = 1e-12  # equal differences are equal up to rounding

Verdict = Literal["confirmed", "not confirmed", "harmful"]


@dataclass(frozen=True, slots=True)
class Gain:
    """A mean paired difference with its interval."""

    mean: float
    low: float
    """Lower end of the 95 % interval; `-inf` for a single pair."""
    high: float
    """Upper end of the 95 % interval; `inf` for a single pair."""
    n: int
    """Number of pairs."""
    shared: float = 0.0
    """What the variance of the mean got for samples that seeds share, see `shared_variance`."""
    p: float = 1.0
    """Of the sign-flip test, see `sign_flip`."""
    before: float = field(default=math.nan, compare=False, repr=False)
    """Mean of what it is compared with."""
    differences: tuple[float, ...] = field(default=(), compare=False, repr=False)
    """One per pair."""

    @property
    def verdict(self) -> Verdict:
        """See `verdict`."""
        return verdict(self)

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both ends of the interval; None for a single pair."""
        return (self.low, self.high) if math.isfinite(self.low) else None

    def __str__(self) -> str:
        if self.n < 2:
            return f"{self.mean:+.3f} (no interval from n = 1)"
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}] (n = {self.n})"


def paired_gain(
    values: Sequence[float], baseline_values: Sequence[float], *, shared: float = 0.0
) -> Gain:
    """Mean of `values - baseline_values` with Student's t interval at 95 %.

    Args:
        values: `(n,)`, one number per seed.
        baseline_values: `(n,)`, the same seeds in the same order.
        shared: See `shared_variance`; 0 for independent seeds.

    Raises:
        DataError: If the two differ in length, are empty, or hold a number that is not finite.
    """
    left, right = np.asarray(values, dtype=np.float64), np.asarray(baseline_values, np.float64)
    if left.shape != right.shape or left.ndim != 1 or not len(left):
        raise DataError(
            "paired values come one per seed on both sides",
            got=f"{len(values)} and {len(baseline_values)}",
            expected="the same number, at least one",
            remedy="Compare only seeds that both sides have finished.",
        )
    differences = left - right
    if len(odd := np.flatnonzero(~np.isfinite(differences))):
        raise DataError(
            "paired values are finite",
            got=f"a difference of {differences[odd[0]]} at position {int(odd[0])}",
            remedy="Look at that seed's row: its training diverged.",
        )
    n, mean = len(differences), float(differences.mean())
    sides = float(np.mean(right)), tuple(map(float, differences))
    if n == 1:
        return Gain(mean, -math.inf, math.inf, n, 0.0, 1.0, *sides)
    half = float(half_width(differences, shared=shared))
    return Gain(mean, mean - half, mean + half, n, shared, sign_flip(differences), *sides)


def contrast(
    rows: Iterable[Mapping[str, Any]],
    baseline: Iterable[Mapping[str, Any]],
    metric: str = "accuracy",
    *,
    part: str = "test",
) -> Gain | None:
    """The paired comparison of two trainings of one student over the seeds that both have.

    Args:
        rows: Of one student and variant, one per seed.
        baseline: Of what it is compared with.
        metric: A key of the rows' `part`; rows without it are left out.
        part: `test` or `validation`.

    Returns:
        The gain; None without a common seed.
    """
    left = {row["seed"]: row for row in rows if row[part].get(metric) is not None}
    right = {row["seed"]: row for row in baseline if row[part].get(metric) is not None}
    seeds = sorted(left.keys() & right.keys())
    if not seeds:
        return None
    treated = [left[seed][part][metric] for seed in seeds]
    control = [right[seed][part][metric] for seed in seeds]
    shared = shared_variance(left.values(), right.values())
    return paired_gain(treated, control, shared=shared)


def half_width(values: ArrayLike, *, shared: float = 0.0) -> NDArray[np.float64]:
    """Half of Student's t interval at 95 % of the mean over the first axis; needs two values.

    The variance of the mean is `S^2 (1 / n + shared)`.
    """
    data = np.asarray(values, dtype=np.float64)
    n = len(data)
    return np.asarray(stdtrit(n - 1, 0.975) * data.std(axis=0, ddof=1) * math.sqrt(1 / n + shared))


def shared_variance(
    rows: Iterable[Mapping[str, Any]], baseline: Iterable[Mapping[str, Any]] | None = None
) -> float:
    """Covariance of two seeds' accuracies (or paired gains) over their variance.

    This is the term that Nadeau and Bengio's corrected resampled t adds to `1 / n`. They set it to
    `n_test / n_train`, for splits that use up the data; with few training samples it is far too
    much. Here it is estimated: test samples that two seeds share give a covariance that is seen in
    which of them were right; of what is left of the variance, seeds share the part of the training
    samples that they share, at most. It is 0 where seeds have samples of their own, and for rows
    that do not tell.

    Args:
        rows: Of one student and variant, one per seed.
        baseline: Of what it is compared with; without, the accuracies themselves are looked at.

    References:
        C. Nadeau, Y. Bengio, Machine Learning 52, 239 (2003).
    """
    left = {row["seed"]: row for row in rows}
    right = left if baseline is None else {row["seed"]: row for row in baseline}
    seeds = sorted(left.keys() & right.keys())
    if len(seeds) < 2 or not all("correct" in side[s] for side in (left, right) for s in seeds):
        return 0.0
    told = [left[seed]["correct"] for seed in seeds]
    tested = np.stack([_bits(one, "tested") for one in told])
    found = np.stack([_bits(one, "right") for one in told])
    if baseline is not None:
        found = found - np.stack([_bits(right[seed]["correct"], "right") for seed in seeds])
    size = tested.sum(axis=1, keepdims=True)
    means = found.sum(axis=1, keepdims=True) / size
    spread = float(means.var(ddof=1))
    if spread <= _POINT:
        return 0.0
    away = (found - means) * tested / size
    products = away @ away.T
    same = np.equal.outer(*2 * [[one["source"] for one in told]])
    np.fill_diagonal(same, val=False)
    of_test = max(0.0, float(products[same].sum()) / (len(seeds) * (len(seeds) - 1)))
    of_train = min(float(told[0]["trained"]), 0.9)
    rest = max(0.0, spread + of_test - float(np.trace(products)) / len(seeds))
    return (of_test + of_train / (1 - of_train) * rest) / spread


def _bits(told: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    packed = np.frombuffer(bytes.fromhex(told[name]), np.uint8)
    return np.unpackbits(packed, count=told["of"]).astype(np.float64)


def sign_flip(differences: ArrayLike) -> float:
    """Two-sided p of the exact paired permutation test: is the mean farther from 0 than chance?

    Without a gain every difference is as likely to have the other sign. All patterns of signs are
    tried up to 16 differences, else 100,000 of them. Unlike t it needs no bell shape, as where a
    few seeds collapse.
    """
    data = np.asarray(differences, dtype=np.float64)
    n = len(data)
    if n <= 16:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(0).choice((-1, 1), (100_000, n))
        signs[0] = 1
    means = np.abs(signs @ data)
    return float((means >= means[0] * (1 - 1e-9) - _POINT).mean())


def collapsed(accuracies: Sequence[float], classes: int) -> int:
    """How many seeds learned next to nothing where others learned.

    One collapsed if it got less than a third of the way from chance (`1 / classes`) to the median
    of all seeds. Where the median itself is less than a tenth of the way from chance to 1, or there
    are fewer than three seeds, none did.
    """
    data, chance = np.asarray(accuracies, dtype=np.float64), 1 / classes
    if len(data) < 3:
        return 0
    reach = float(np.median(data)) - chance
    return int((data - chance < reach / 3).sum()) if reach >= (1 - chance) / 10 else 0


def verdict(gain: Gain) -> Verdict:
    """`confirmed` if the whole interval lies above 0, `harmful` if below, else `not confirmed`.

    Fewer than five pairs settle nothing, nor do differences that are all equal (a standard
    deviation of 0): accuracies are multiples of one over the number of samples, so a few
    differences are easily equal, and their interval a point that says nothing about other seeds.
    """
    if gain.n < FEWEST or gain.high - gain.low <= _POINT:
        return "not confirmed"
    if gain.low > 0:
        return "confirmed"
    return "harmful" if gain.high < 0 else "not confirmed"
