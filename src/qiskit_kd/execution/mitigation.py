# SPDX-License-Identifier: Apache-2.0
"""Readout mitigation: what was read, turned back into what was there.

A device that reads each qubit wrongly now and then turns the distribution `p` of the outcomes into
`A p`. The inverse of `A` undoes that on average, at the price of more noise; what it returns from a
finite number of shots may be negative, and the nearest distribution is taken instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.errors import ConfigError, DataError, UnknownNameError

Float = NDArray[np.float64]

MITIGATIONS = ("none", "tensored")
"""Names of the ways to mitigate."""

_ENOUGH_SHOTS = 1000
_SINGULAR = 1e-9  # a smaller determinant leaves nothing of a state but rounding errors

_known: ContextVar[bool] = ContextVar("few_shots_known", default=False)


def check_mitigation(name: str) -> str:
    """`name` if it is one of `MITIGATIONS`, else an UnknownNameError."""
    if name not in MITIGATIONS:
        raise UnknownNameError.of("readout mitigation", name, MITIGATIONS)
    return name


def warn_of_few_shots(shots: int) -> None:
    """Warn where mitigation is likely to cost more than it gives."""
    if shots < _ENOUGH_SHOTS and not _known.get():
        warnings.warn(
            f"readout mitigation amplifies shot noise, and {shots:,} shots are few: the noise it "
            f"adds is likely to exceed the bias it removes below about {_ENOUGH_SHOTS:,} shots; "
            "compare with the raw values, or use mitigation: none",
            UserWarning,
            stacklevel=3,
        )


@contextmanager
def few_shots_known() -> Iterator[None]:
    """Do not warn of few shots inside: somebody who makes many networks has said it once."""
    token = _known.set(True)
    try:
        yield
    finally:
        _known.reset(token)


def invert(assignments: Sequence[Float]) -> list[Float]:
    """The inverse of each qubit's `(2, 2)` assignment matrix, probabilities `[read, state]`.

    With `a = P(1 | 0)` and `b = P(0 | 1)`, columns being states::

        A = | 1-a   b  |      A^-1 =      1      | 1-b  -b  |
            |  a   1-b |               ---------  |  -a  1-a |
                                       1 - a - b

    Raises:
        ConfigError: If a qubit reads the same whatever its state (`a + b = 1`).
    """
    inverses = []
    for number, matrix in enumerate(assignments):
        a, b = float(matrix[1, 0]), float(matrix[0, 1])
        determinant = 1 - a - b
        if abs(determinant) < _SINGULAR:
            raise ConfigError(
                "readout errors can be undone where a qubit's two states read differently",
                got=f"P(1|0) = {a:g} and P(0|1) = {b:g} for measured qubit {number}",
                expected="a sum other than 1",
                remedy="Use mitigation: none, or a smaller scale of the noise.",
            )
        inverses.append(np.array([[1 - b, -b], [-a, 1 - a]]) / determinant)
    return inverses


def tensored(matrices: Sequence[Float], values: Float) -> Float:
    """Apply one `(2, 2)` matrix per qubit to `(..., outcomes)`, never building the matrix of all.

    `(A_k x ... x A_1 x A_0) v`, the first matrix acting on the lowest bit of the outcome.
    """
    values = np.asarray(values, float)
    if values.shape[-1:] != (2 ** len(matrices),):
        raise DataError(
            f"{len(matrices)} measured qubits have {2 ** len(matrices)} outcomes",
            got=f"shape {values.shape}",
            expected=f"(..., {2 ** len(matrices)})",
        )
    out = values
    for bit, matrix in enumerate(matrices):
        split = out.reshape(*values.shape[:-1], 2 ** (len(matrices) - 1 - bit), 2, 2**bit)
        out = (matrix @ split).reshape(values.shape)
    return out


def project_simplex(values: Float) -> Float:
    """The nearest distribution, in Euclidean distance, to each vector of `(..., outcomes)`.

    `x = max(v - t, 0)`, with the `t` at which the entries of `x` add up to one. With `u` being `v`
    in descending order and `r` the largest number with `u_r > t_r`::

        t_r = (u_1 + ... + u_r - 1) / r,      t = t_r

    References: Duchi et al., "Efficient projections onto the l1-ball", ICML 2008, figure 1; for
    measured distributions Smolin, Gambetta and Smith, arXiv:1106.5458.
    """
    values = np.asarray(values, float)
    descending = -np.sort(-values, axis=-1)
    levels = (np.cumsum(descending, -1) - 1) / np.arange(1, values.shape[-1] + 1)
    last = (descending > levels).sum(-1, keepdims=True) - 1
    found: Float = np.maximum(values - np.take_along_axis(levels, last, -1), 0.0)
    return found


def mitigate(frequencies: Float, assignments: Sequence[Float]) -> Float:
    """Shares of the outcomes as they would have been read without errors.

    The tensored inverse, then the projection. The inverse alone is unbiased: its mean is the
    distribution `p` before the readout. A mean value `f . A^-1 q` of an outcome's share `f` has the
    variance `(q . g^2 - (q . g)^2) / shots` with `g = A^-T f` and `q = A p`, which grows with
    `prod 1 / (1 - a - b)^2`. The projection brings every estimate nearer to `p`, or leaves it at
    its distance, and is biased where `p` has entries near zero.

    References: Bravyi et al., arXiv:2006.14044, section II (tensor product noise).

    Args:
        frequencies: `(..., 2**qubits)` shares of the shots, indexed by outcome.
        assignments: `(2, 2)` of each measured qubit, lowest bit first; see `invert`.
    """
    return project_simplex(tensored(invert(assignments), frequencies))
