# SPDX-License-Identifier: Apache-2.0
"""Amplitude encoding of real vectors as one parametric circuit: a uniformly controlled RY tree.

A binary tree of uniformly controlled rotations prepares sum_k x_k |k>, signs included (Mottonen et
al., arXiv:quant-ph/0407010, eq. 8 for the angles and fig. 2 for the ladders). Each controlled
rotation is a Gray-code ladder of RY and CZ whose angles are a Walsh-Hadamard transform of the tree
angles. The CZ that would close a ladder is left out: it commutes with all that follows, so it is
one sign per basis state, put into the data. That leaves 2**n - n - 1 two-qubit gates of 2**n - 2.
This module must not import torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit

from qiskit_kd.circuits.parameters import input_parameters

__all__ = ["tree_angles", "tree_circuit", "tree_pullback"]

Array = NDArray[np.floating]


def tree_circuit(num_qubits: int) -> QuantumCircuit:
    """The circuit: `2**n - 1` angles, root (most significant qubit) first."""
    angle = iter(input_parameters(2**num_qubits - 1))
    circuit = QuantumCircuit(num_qubits, name="amplitude")
    for level in range(num_qubits):
        target = num_qubits - 1 - level  # its controls are the qubits above it
        for step in range(1, 2**level + 1):
            circuit.ry(next(angle), target)
            if step < 2**level:
                changed = (step & -step).bit_length()  # the bit in which the Gray code changes
                circuit.cz(target + changed, target)
    return circuit


def tree_angles(num_qubits: int, x: Array) -> Array:
    """Vectors of any positive norm to the angles of `tree_circuit`.

    Args:
        num_qubits: Qubits n.
        x: `(batch, features)` with at most `2**n` features; the rest are zeros.

    Returns:
        `(batch, 2**n - 1)` radians.
    """
    angles = [
        _walsh(2 * np.arctan2(b, a))[:, _gray(level)] / 2**level
        for level, (a, b) in enumerate(_nodes(num_qubits, x))
    ]
    return np.concatenate(angles, axis=1)


def tree_pullback(num_qubits: int, x: Array, gradient: Array) -> Array:
    """Vector-Jacobian product of `tree_angles`.

    Where a whole pair of subtrees is zero its angle is undefined and has no derivative; zero is
    returned for it. (An engine that uses `x / ||x||` directly has no such gap.)

    Args:
        num_qubits: Qubits n.
        x: `(batch, features)`, as for `tree_angles`.
        gradient: `(batch, 2**n - 1)` gradient of the angles.

    Returns:
        `(batch, features)` gradient of the features; orthogonal to `x`, as the norm is ignored.
    """
    batch, features = x.shape
    of_norm = np.zeros((batch, 1), dtype=np.float64)
    for level, (a, b) in enumerate(_nodes(num_qubits, x)):
        spread = np.empty((batch, 2**level))
        spread[:, _gray(level)] = gradient[:, 2**level - 1 : 2 ** (level + 1) - 1]
        of_angle = 2 * _walsh(spread) / 2**level
        radius = np.hypot(a, b)
        radius = np.where(radius == 0, np.inf, radius)
        cosine, sine = a / radius, b / radius
        of_norm = np.stack(
            (of_norm * cosine - of_angle / radius * sine,
             of_norm * sine + of_angle / radius * cosine), axis=-1,
        ).reshape(batch, 2 ** (level + 1))  # fmt: skip
    return (of_norm * _open_signs(num_qubits))[:, :features]


def _nodes(num_qubits: int, x: Array) -> list[tuple[Array, Array]]:
    """Per level, root first: the two values `(batch, 2**level)` each rotation divides between."""
    node = np.zeros((len(x), 2**num_qubits))
    node[:, : x.shape[1]] = x
    node *= _open_signs(num_qubits)
    levels = []
    for _ in range(num_qubits):
        a, b = node[:, 0::2], node[:, 1::2]  # signs live in the last level only
        levels.append((a, b))
        node = np.hypot(a, b)
    return levels[::-1]


def _gray(level: int) -> NDArray[np.intp]:
    """`(2**level,)` Gray code: which Walsh coefficient the i-th rotation of a ladder carries."""
    i = np.arange(2**level, dtype=np.intp)
    code: NDArray[np.intp] = i ^ (i >> 1)
    return code


def _walsh(values: Array) -> Array:
    """Unnormalised Walsh-Hadamard transform of the last axis (symmetric, so its own adjoint)."""
    size, half = values.shape[-1], 1
    while half < size:
        pairs = values.reshape(*values.shape[:-1], size // (2 * half), 2, half)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        values = np.stack((a + b, a - b), axis=-2).reshape(*values.shape[:-1], size)
        half *= 2
    return values


def _open_signs(num_qubits: int) -> NDArray[np.float64]:
    """`(2**n,)` signs of the omitted CZs: highest bit times the parity of the others."""
    k = np.arange(2**num_qubits)
    parity = np.bitwise_count(k & (2 ** (num_qubits - 1) - 1)) & 1
    signs: NDArray[np.float64] = 1.0 - 2.0 * ((k >> (num_qubits - 1)) & parity)
    return signs
