# SPDX-License-Identifier: Apache-2.0
"""Amplitude encoding of real vectors as one parametric circuit: exactly, or a matrix product state.

Exactly: a binary tree of uniformly controlled rotations prepares sum_k x_k |k>, signs included
(Mottonen et al., arXiv:quant-ph/0407010, eq. 8 for the angles and fig. 2 for the ladders). Each
controlled rotation is a Gray-code ladder of RY and CZ whose angles are a Walsh-Hadamard transform
of the tree angles. The CZ that would close a ladder is left out: it commutes with all that follows,
so it is one sign per basis state, put into the data. That leaves 2**n - n - 1 two-qubit gates of
2**n - 2.

Approximately: a real vector is truncated to bond dimension 2 by a sweep of singular value
decompositions; further sweeps, two sites at a time, raise the overlap (Schollwoeck,
arXiv:1008.3477, section 4.5). Every site is then an isometry of two qubits (Schoen et al.,
arXiv:quant-ph/0501096; as circuits Ran, arXiv:1908.07958), completed to a rotation in SO(4). In the
magic basis SO(4) is a product of two one-qubit rotations (Vatan and Williams,
arXiv:quant-ph/0308006), so a block is 2 CX and 6 angles and the whole a staircase of 2(n - 1) CX on
a line of qubits. This module must not import torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit

from qiskit_kd.circuits.parameters import input_parameters

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
    """`(batch, <= 2**n)` vectors of positive norm to `(batch, 2**n - 1)` angles in radians."""
    angles = [
        _walsh(2 * np.arctan2(b, a))[:, _gray(level)] / 2**level
        for level, (a, b) in enumerate(_nodes(num_qubits, x))
    ]
    return np.concatenate(angles, axis=1)


def tree_pullback(num_qubits: int, x: Array, gradient: Array) -> Array:
    """Vector-Jacobian product of `tree_angles`: the gradient of `x`, orthogonal to it.

    Where a whole pair of subtrees is zero its angle is undefined and has no derivative; zero is
    returned for it. (An engine that uses `x / ||x||` directly has no such gap.)
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
            (
                of_norm * cosine - of_angle / radius * sine,
                of_norm * sine + of_angle / radius * cosine,
            ),
            axis=-1,
        ).reshape(batch, 2 ** (level + 1))
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


_SWEEPS = 6  # sixty change the mean overlap by 5e-5 for digits, 1e-3 for noise on 6 qubits


def mps_circuit(num_qubits: int) -> QuantumCircuit:
    """The circuit: `6 (n - 1)` angles, blocks from the most significant pair down to (1, 0)."""
    angle = iter(input_parameters(6 * (num_qubits - 1)))
    circuit = QuantumCircuit(num_qubits, name="amplitude_mps")
    for low in reversed(range(num_qubits - 1)):
        high = low + 1
        circuit.s([low, high])
        circuit.h(high)
        circuit.cx(high, low)
        for qubit in (high, low):
            circuit.rz(next(angle), qubit)
            circuit.ry(next(angle), qubit)
            circuit.rz(next(angle), qubit)
        circuit.cx(high, low)
        circuit.h(high)
        circuit.sdg([low, high])
    return circuit


def mps_angles(num_qubits: int, x: Array) -> Array:
    """`(batch, <= 2**n)` vectors, n >= 2, to `(batch, 6 (n - 1))` angles in radians."""
    if not len(x):
        return np.zeros((0, 6 * (num_qubits - 1)))
    sites, _ = _truncate(num_qubits, x)
    magic = _magic()
    angles = []
    for rotation in _rotations(sites):
        local = magic @ rotation @ magic.conj().T  # (high) kron (low), up to rounding
        rows = local.reshape(-1, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 4)
        left, _, right = np.linalg.svd(rows)  # of rank one: the product's two factors
        angles += [_zyz(left[:, :, 0].reshape(-1, 2, 2)), _zyz(right[:, 0].reshape(-1, 2, 2))]
    return np.concatenate(angles, axis=1)


def mps_fidelity(num_qubits: int, x: Array) -> Array:
    """`(batch, features)` to `(batch,)` overlaps |<x|state of the circuit>|**2, in 0..1."""
    return _truncate(num_qubits, x)[1] if len(x) else np.zeros(0)


def _truncate(num_qubits: int, x: Array) -> tuple[list[Array], Array]:
    """Right-canonical sites `(batch, left, 2, right)`, most significant first, and the overlap."""
    batch = len(x)
    rest = np.zeros((batch, 2**num_qubits))
    rest[:, : x.shape[1]] = x / np.abs(x).max(axis=1, keepdims=True)  # no overflow in the norm
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    vector, rest = rest, rest[:, :, None]
    sites: list[Array] = []
    for _ in range(num_qubits - 1):  # cut off the least significant qubit
        right = rest.shape[2]
        u, s, v = np.linalg.svd(rest.reshape(batch, -1, 2 * right), full_matrices=False)
        keep = min(2, s.shape[1])
        sites.append(v[:, :keep].reshape(batch, keep, 2, right))
        rest = u[:, :, :keep] * s[:, None, :keep]
    sites.append(rest.reshape(batch, 1, 2, -1))
    sites = sites[::-1]
    for _ in range(_SWEEPS if num_qubits > 4 else 0):  # one truncated bond: nothing to gain
        _sweep(vector, sites)
    kept = np.square(sites[0]).sum(axis=(1, 2, 3))
    sites[0] = sites[0] / np.sqrt(kept)[:, None, None, None]
    return sites, kept


def _sweep(vector: Array, sites: list[Array]) -> None:
    """Improve right-canonical sites in place, two at a time, there and back; never worse.

    With all other sites isometries, the best pair is the projection of the vector on them, and its
    best truncation that of the singular values.
    """
    batch, n = len(vector), len(sites)
    # Behind site k: an isometry from its right bond to the qubits that follow.
    behind = [np.ones((batch, 1, 1))]
    for site in sites[:1:-1]:
        grown = np.einsum("blpr,brx->blpx", site, behind[-1])
        behind.append(grown.reshape(batch, site.shape[1], -1))
    # Before site k: the vector with the qubits before it contracted.
    before = [vector.reshape(batch, 1, -1)]

    def best() -> tuple[Array, Array, Array]:
        left = before[-1].shape[1]
        rest = before[-1].reshape(batch, left * 4, -1)
        pair = np.einsum("bax,brx->bar", rest, behind[-1]).reshape(batch, left * 2, -1)
        u, s, v = np.linalg.svd(pair, full_matrices=False)
        keep = min(2, s.shape[1])
        return u[:, :, :keep], s[:, :keep], v[:, :keep]

    for k in range(n - 2):  # there
        u, _, _ = best()
        left, keep = before[-1].shape[1], u.shape[2]
        sites[k] = u.reshape(batch, left, 2, keep)
        rest = before[-1].reshape(batch, left * 2, -1)
        before.append(np.einsum("bak,bax->bkx", u, rest))
        behind.pop()
    for k in reversed(range(n - 1)):  # and back
        u, s, v = best()
        keep, right = v.shape[1], behind[-1].shape[1]
        sites[k + 1] = v.reshape(batch, keep, 2, right)
        sites[k] = (u * s[:, None]).reshape(batch, before[-1].shape[1], 2, keep)
        grown = np.einsum("blpr,brx->blpx", sites[k + 1], behind[-1])
        behind.append(grown.reshape(batch, keep, -1))
        before.pop()


def _rotations(sites: list[Array]) -> list[Array]:
    """Sites to n - 1 rotations `(batch, 4, 4)` in SO(4).

    Block k turns |bond, 0> on (high, low) into the qubit it finishes (high) and the next bond
    (low); the last block absorbs the last two sites.
    """
    batch = len(sites[0])
    rotations: list[Array] = []
    for site in [*sites[:-2], np.einsum("blpr,brqs->blpq", sites[-2], sites[-1])]:
        left, right = site.shape[1], site.shape[3]
        isometry = np.zeros((batch, 2, 2, left))  # axes: high, low, left
        isometry[:, :, :right] = site.transpose(0, 2, 3, 1)
        isometry = isometry.reshape(batch, 4, left)
        _, basis = np.linalg.eigh(np.eye(4) - isometry @ isometry.swapaxes(1, 2))
        full = np.empty((batch, 4, 4))
        given = [0, 2][:left]  # the low qubit enters as |0>: columns 0 and 2
        full[:, :, given] = isometry
        full[:, :, [column for column in range(4) if column not in given]] = basis[:, :, left:]
        full[:, :, 3] *= np.sign(np.linalg.det(full))[:, None]
        rotations.append(full)
    return rotations


def _magic() -> NDArray[np.complex128]:
    """`(4, 4)` matrix of the gates S S, H(high), CX(high, low) that open a block."""
    s, h = np.diag([1, 1j]), np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    cx = np.eye(4)[[0, 1, 3, 2]]
    return np.asarray(cx @ np.kron(h, np.eye(2)) @ np.kron(s, s), dtype=np.complex128)


def _zyz(matrix: NDArray[np.complexfloating]) -> Array:
    """`(batch, 2, 2)` multiples of unitaries to `(batch, 3)` angles of RZ, RY, RZ in order."""
    matrix = matrix / np.sqrt(np.linalg.det(matrix))[:, None, None]
    half_sum, half_difference = np.angle(matrix[:, 1, 1]), np.angle(matrix[:, 1, 0])
    theta = 2 * np.arctan2(np.abs(matrix[:, 1, 0]), np.abs(matrix[:, 0, 0]))
    return np.stack([half_sum - half_difference, theta, half_sum + half_difference], axis=1)
