# SPDX-License-Identifier: Apache-2.0
"""Paired differences over seeds, their 95 % intervals, and the verdict they allow.

Seeds are paired: both sides of a comparison have the same split, initial weights and batches, so
the difference per seed is free of the (large) spread between seeds. The interval is Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from qiskit_kd.errors import DataError

__all__ = ["Gain", "Verdict", "half_width", "paired_gain", "verdict"]

_FEWEST = 5
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

    def __str__(self) -> str:
        if self.n < 2:
            return f"{self.mean:+.3f} (no interval from n = 1)"
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}] (n = {self.n})"


def paired_gain(values: Sequence[float], baseline_values: Sequence[float]) -> Gain:
    """Mean of `values - baseline_values` with Student's t interval at 95 %.

    Args:
        values: `(n,)`, one number per seed.
        baseline_values: `(n,)`, the same seeds in the same order.

    Raises:
        DataError: If the two differ in length, are empty, or hold a number that is not finite.
    """
    differences = _differences(values, baseline_values)
    n = len(differences)
    mean = float(differences.mean())
    if n == 1:
        return Gain(mean, -math.inf, math.inf, n)
    half = float(half_width(differences))
    return Gain(mean, mean - half, mean + half, n)


def half_width(values: ArrayLike) -> NDArray[np.float64]:
    """Half of Student's t interval at 95 % of the mean over the first axis; needs two values."""
    data = np.asarray(values, dtype=np.float64)
    n = len(data)
    return np.asarray(stdtrit(n - 1, 0.975) * data.std(axis=0, ddof=1) / math.sqrt(n))


def verdict(gain: Gain) -> Verdict:
    """`confirmed` if the whole interval lies above 0, `harmful` if below, else `not confirmed`.

    Fewer than five pairs settle nothing, nor do differences that are all equal (a standard
    deviation of 0): accuracies are multiples of one over the number of samples, so a few
    differences are easily equal, and their interval a point that says nothing about other seeds.
    """
    if gain.n < _FEWEST or gain.high - gain.low <= _POINT:
        return "not confirmed"
    if gain.low > 0:
        return "confirmed"
    return "harmful" if gain.high < 0 else "not confirmed"


def _differences(
    values: Sequence[float], baseline_values: Sequence[float]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    left, right = np.asarray(values, dtype=np.float64), np.asarray(baseline_values, np.float64)
    if left.shape != right.shape or left.ndim != 1 or not len(left):
        raise DataError(
            "paired values come one per seed on both sides",
            got=f"{len(values)} and {len(baseline_values)}",
            expected="the same number, at least one",
            remedy="Compare only seeds that both sides have finished.",
        )
    differences = left - right
    if not np.isfinite(differences).all():
        raise DataError(
            "paired values are finite",
            got=f"a difference of {differences[~np.isfinite(differences)][0]} "
            f"at position {int(np.flatnonzero(~np.isfinite(differences))[0])}",
            remedy="Look at that seed's row: its training diverged.",
        )
    return differences
