# SPDX-License-Identifier: Apache-2.0
"""Gradient rules for engines that can only evaluate: parameter shift and SPSA.

A rule turns the gradient at a point into a list of *points* to evaluate (slots of an expanded
circuit) and a linear map from what was seen there back to the gradient. Points of all samples and
all shifts therefore fit into one job.

References: parameter shift for two and more frequencies: Schuld et al., arXiv:1811.11184; Crooks,
arXiv:1905.13311; general rules: Wierichs et al., arXiv:2107.12390. SPSA: Spall, IEEE Trans.
Automat. Contr. 37 (1992) 332.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.errors import UnknownNameError
from qiskit_kd.execution.expansion import Expansion

Floats = NDArray[np.floating]
GRADIENTS = ("auto", "shift", "spsa")


def check_gradient(name: str) -> str:
    """Return `name` if it is one of `GRADIENTS`, else raise an UnknownNameError."""
    if name not in GRADIENTS:
        raise UnknownNameError.of("gradient rule", name, GRADIENTS)
    return name


@dataclass(frozen=True, eq=False)
class Points:
    """Where to evaluate, and how to get the gradient from the values there.

    Args:
        slots: `(..., points, slots)` angles to evaluate at.
        pull: `(..., points)` what was seen at each point (outputs, or their product with an
            upstream gradient) to the gradient of the weights or of the encoding angles. Leading
            axes broadcast against those of `slots`.
    """

    slots: NDArray[np.float64]
    pull: Callable[[Floats], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Seen:
    """What one job gave: `outputs (settings, batch, outputs)` and the values at all points.

    Args:
        weights: Points of the weights; None where their gradient is not asked for.
        at_weights: `(settings, points, batch, outputs)` values there.
        inputs: Points of the inputs.
        at_inputs: `(settings, batch, points, outputs)` values there.
        mixed: Points of the inputs differ from setting to setting.
        by_sample: Those of the weights differ from sample to sample.
    """

    outputs: Floats
    weights: Points | None
    at_weights: Floats
    inputs: Points | None
    at_inputs: Floats | None
    mixed: bool = False
    by_sample: bool = False

    def pull(self, upstream: Floats) -> tuple[Floats | None, Floats | None]:
        """Gradient of the outputs to that of angles `(batch, inputs)` and `(settings, weights)`."""
        weights = None
        settings, batch = upstream.shape[:2]
        if self.weights is not None and self.by_sample:
            points = np.einsum("mbo,mtbo->mbt", upstream, self.at_weights)
            each = self.weights.pull(points.reshape(settings * batch, points.shape[-1]))
            weights = each.reshape(settings, batch, each.shape[-1]).sum(1)
        elif self.weights is not None:
            weights = self.weights.pull(np.einsum("mbo,mtbo->mt", upstream, self.at_weights))
        if self.inputs is None or self.at_inputs is None:
            return None, weights
        if self.mixed:
            points = np.einsum("mbo,mbto->mbt", upstream, self.at_inputs)
            each = self.inputs.pull(points.reshape(settings * batch, points.shape[-1]))
            angles = each.reshape(settings, batch, each.shape[-1]).sum(0)
        else:
            angles = self.inputs.pull(np.einsum("mbo,mbto->bt", upstream, self.at_inputs))
        return angles, weights

    def slopes(self) -> tuple[Floats | None, Floats | None]:
        """`(outputs, batch, inputs)` and `(batch, outputs, weights)`, of the only setting."""
        angles = weights = None
        if self.weights is not None and self.by_sample:
            weights = np.moveaxis(self.weights.pull(self.at_weights[0].transpose(2, 1, 0)), 0, 1)
        elif self.weights is not None:
            weights = self.weights.pull(np.moveaxis(self.at_weights[0], 0, -1))
        if self.inputs is not None and self.at_inputs is not None:
            angles = self.inputs.pull(np.moveaxis(self.at_inputs[0], -1, 0))
        return angles, weights


@lru_cache
def shift_rule(frequencies: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    """Shifts s and coefficients c with `f'(x) = sum c f(x + s)`, exact for w, 2w, ..., Rw.

    The ansatz `sum_m c_m [f(x + s_m) - f(x - s_m)]` is exact when
    `2 sum_m c_m sin(w_l s_m) = w_l` for every frequency; the shifts `(2m - 1) pi / (2 R w)` keep
    the variance least (arXiv:2107.12390, eq. 12 and 16).
    """
    w = np.array(frequencies)
    shifts = (2 * np.arange(1, len(w) + 1) - 1) * np.pi / (2 * w[-1])
    coefficients = np.linalg.solve(2 * np.sin(np.outer(w, shifts)), w)
    return tuple(
        (float(sign * s), float(sign * c))
        for s, c in zip(shifts, coefficients, strict=True)
        for sign in (1, -1)
    )


def _table(frequencies: Sequence[tuple[float, ...]]) -> tuple[Floats, Floats]:
    """`(points, slots)` displacement of each point and its share in each slot's derivative."""
    terms = [(k, s, c) for k, w in enumerate(frequencies) if w for s, c in shift_rule(w)]
    displacement = np.zeros((len(terms), len(frequencies)))
    share = np.zeros_like(displacement)
    for point, (slot, s, c) in enumerate(terms):
        displacement[point, slot], share[point, slot] = s, c
    return displacement, share


def _spread(values: Floats, seen: Floats) -> Floats:
    return np.broadcast_to(values, (*seen.shape[:-1], values.shape[-1]))


def shift_points(expansion: Expansion, weights: Floats) -> Points:
    """Parameter shift of every weight slot; weights `(..., num_weights)`."""
    displacement, share = _table(expansion.weight_frequencies)
    slots = expansion.weight_slots(weights)
    return Points(
        slots[..., None, :] + displacement,
        lambda seen: expansion.weight_pullback(_spread(weights, seen), seen @ share),
    )


def input_shift_points(expansion: Expansion, angles: Floats) -> Points:
    """Parameter shift of every input slot; encoding angles `(batch, num_inputs)`."""
    displacement, share = _table(expansion.input_frequencies)
    slots = expansion.input_slots(angles)
    return Points(
        slots[..., None, :] + displacement,
        lambda seen: expansion.input_pullback(_spread(angles, seen), seen @ share),
    )


def mixed_shift_points(expansion: Expansion, values: Floats, *, weights: bool) -> Points:
    """Parameter shift of a circuit in which data and weights mix.

    Args:
        expansion: The expanded model.
        values: `(rows, num_inputs + num_weights)` angles of a sample and weights.
        weights: The gradient of the weights; else of the encoding angles.
    """
    count = expansion.model.num_inputs
    own = slice(count, None) if weights else slice(None, count)
    frequencies = expansion.weight_frequencies if weights else expansion.input_frequencies
    displacement, share = _table(frequencies)
    slots = expansion.input_slots(values)

    def pull(seen: Floats) -> NDArray[np.float64]:
        whole = _spread(values, seen)
        return expansion.input_pullback(whole, seen @ share)[..., own]

    return Points(slots[..., None, :] + displacement, pull)


def default_epsilon(num_weights: int) -> float:
    """Step of SPSA in radians where values are sampled: `min(0.2, 0.5 / sqrt(num_weights))`.

    Stepping in all weights at once shrinks the mean of the estimate: an outcome in which n weights
    interfere is a product of n cosines, and its gradient is seen `cos(epsilon)**n`, about
    `exp(-n epsilon**2 / 2)`, times its size. With the square root the factor no longer depends on
    the number of weights: at least about `exp(-0.5**2 / 2) = 0.88`. Shot noise grows as
    `1 / epsilon`; with 1,024 shots it stays below the noise of the random directions there.
    """
    return min(0.2, 0.5 / math.sqrt(max(1, num_weights)))


def spsa_points(
    expansion: Expansion,
    weights: Floats,
    *,
    generator: np.random.Generator,
    perturbations: int,
    epsilon: float,
) -> Points:
    """Simultaneous perturbation: all weights at once, up and down, a few times.

    Each perturbation is a vector of random signs shared by the whole mini-batch (leading axes of
    the weights `(..., num_weights)` draw their own), so a step costs `2 * perturbations`
    evaluations per sample however many weights there are. The mean over perturbations is the
    gradient up to O(num_weights * epsilon**2); see `default_epsilon`. Where data and weights mix,
    points are weights, not slots.
    """
    weights = np.asarray(weights, float)
    shape = (*weights.shape[:-1], perturbations, weights.shape[-1])
    signs = generator.integers(0, 2, shape) * 2.0 - 1.0
    steps = np.concatenate([signs, -signs], axis=-2)

    def pull(seen: Floats) -> NDArray[np.float64]:
        # 1/sign = sign; up and down carry the minus sign in `steps`.
        gradient: NDArray[np.float64] = np.einsum("...t,...tp->...p", seen, steps)
        return gradient / (2 * epsilon * perturbations)

    moved = weights[..., None, :] + epsilon * steps
    return Points(moved if expansion.mixed else expansion.weight_slots(moved), pull)
