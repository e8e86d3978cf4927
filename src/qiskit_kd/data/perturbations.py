# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG001 - all take a shape and a seed, and each reads one of them
"""Disturbed copies of samples, on which a trained network's robustness is read off.

All share the signature `(features, level, *, shape, seed) -> features`, `(n, f)` in and out, and
depend on nothing else: every network judged with one seed sees the same disturbed samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.data.dataset import feature_matrix
from qiskit_kd.errors import DataError
from qiskit_kd.registry import Registry
from qiskit_kd.seeding import stream
from qiskit_kd.values import image_shape, real

Array = NDArray[np.float64]

perturbations: Registry[Callable[..., Array]] = Registry("perturbation")
"""Functions `(features, level, *, shape, seed) -> features`."""


@perturbations.register("noise")
def noisy(
    features: Array, level: float, *, shape: tuple[int, ...] | None = None, seed: int
) -> Array:
    """Add Gaussian noise of mean 0 and standard deviation `level` (a white pixel is 1).

    It is not clipped to 0..1: half of the pixels of Fashion-MNIST are black, and clipping would
    halve and bias the noise there, so that `level` would no longer be what it says; and features
    of other data (centred, extended XOR) have no such range.

    Levels share their random numbers, scaled: the noise at 0.2 is twice that at 0.1.
    """
    rule, expected = "the level of noise is a standard deviation", "a finite number, 0 or more"
    level = real(level, rule, least=0, error=DataError, expected=expected)
    features = feature_matrix(features, copy=False)
    noise = stream(seed, "perturbations", "noise").standard_normal(features.shape)
    noise *= level
    noise += features
    return noise


@perturbations.register("rotation")
def rotated(
    features: Array, level: float, *, shape: tuple[int, ...] | None, seed: int = 0
) -> Array:
    """Rotate every image about its centre by `level` degrees, in both directions alternately.

    Rows 0, 2, ... turn counter-clockwise, rows 1, 3, ... clockwise, so that one evaluation covers
    both signs. Bilinear interpolation; what comes in from outside is 0.

    Raises:
        DataError: If samples are no images, or `level` is not finite.
    """
    features = feature_matrix(features, copy=False)
    size = features.shape[1]
    if shape is None or len(kept := image_shape(shape, size)) != 3:
        raise DataError(
            "only images can be rotated",
            got=f"samples of shape {shape or features.shape[1:]}",
            expected="a data set with shape (channels, height, width)",
            remedy="Leave the rotation out, or give the data set its shape.",
        )
    level = real(level, "the level of a rotation is an angle in degrees", error=DataError)
    from scipy.ndimage import rotate  # not needed by whoever only reads data

    images = features.reshape(-1, *kept)
    turned = np.empty_like(images)
    for first, sign in ((0, 1.0), (1, -1.0)):
        how = {"axes": (3, 2), "reshape": False, "order": 1, "mode": "grid-constant"}
        turned[first::2] = rotate(images[first::2], sign * level, **how)
    return turned.reshape(features.shape)
