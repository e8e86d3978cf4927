# SPDX-License-Identifier: Apache-2.0
"""How a data row enters a circuit: amplitude, matrix product state, angle and re-uploading forms.

Every builder returns an `Encoding`: one parametric circuit for all samples, transpiled once and
bound many times, and a vectorised map from features to its angles. Numbers that make no sense and
features that do not fit n = `num_qubits` are a `CircuitError`, what is too large a `ResourceError`.
This module must not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit

from qiskit_kd.circuits.amplitude_encoding import mps_angles, mps_circuit
from qiskit_kd.circuits.checks import check_layers, check_qubits
from qiskit_kd.circuits.model import Encoding, amplitudes, scaled
from qiskit_kd.circuits.parameters import input_parameters
from qiskit_kd.errors import CircuitError
from qiskit_kd.registry import Registry
from qiskit_kd.values import python_number, whole

Array = NDArray[np.floating]

encodings: Registry[Callable[..., Encoding]] = Registry("encoding")
"""Builders `(num_qubits, **options) -> Encoding`."""

MAX_AMPLITUDE_QUBITS = 14  # the tree has 2**n - 1 angles: 16,383 gates and as many CZ


@encodings.register("amplitude")
def amplitude(num_qubits: int, *, num_features: int | None = None) -> Encoding:
    """Amplitude encoding: the state is exactly `x / ||x||`, signs included.

    A tree of uniformly controlled RY rotations with `2**n - 1` angles and `2**n - n - 1` CZ, on at
    most 14 qubits. Rows of `num_features`, `2**n` if None, are padded with zeros.

    References:
        Mottonen et al., arXiv:quant-ph/0407010, eq. 8.
    """
    num_qubits = check_qubits(num_qubits, most=MAX_AMPLITUDE_QUBITS, part="amplitude encoding")
    return amplitudes(num_qubits, _features(num_qubits, num_features))


@encodings.register("amplitude_mps")
def amplitude_mps(num_qubits: int, *, num_features: int | None = None) -> Encoding:
    """Approximate amplitude encoding by a matrix product state of bond dimension 2, up to a phase.

    `6 (n - 1)` angles and `2 (n - 1)` CX on a line of qubits, where the exact tree needs
    `2**n - n - 1`. The price is the fidelity, see `mps.mps_fidelity`. The state is a local optimum
    of it: 0.888 on average for 8 x 8 digits, 0.532 for Gaussian noise on 6 qubits (truncation alone
    has 0.884 and 0.499; the best of a dozen random starts 0.888 and 0.537). The map has no
    derivative (singular vectors jump), so features cannot be trained through it. Rows are as of
    `amplitude`, on 2 to 14 qubits; the order of the features costs nothing and matters: images read
    column by column may fit better.

    References:
        Ran, arXiv:1908.07958 (circuits from matrix product states); Vatan and Williams,
        arXiv:quant-ph/0308006 (2 CX for a rotation in SO(4)).
    """
    num_qubits = check_qubits(
        num_qubits, least=2, most=MAX_AMPLITUDE_QUBITS, part="amplitude_mps encoding"
    )
    return Encoding(
        "amplitude_mps",
        mps_circuit(num_qubits),
        _features(num_qubits, num_features),
        partial(mps_angles, num_qubits),
        zero_is_undefined=True,
    )


@encodings.register("angle")
def angle(num_qubits: int, *, axis: str = "y", scale: float = 1.0) -> Encoding:
    """Angle encoding: feature k turns qubit k by `scale * x_k` radians about the axis x, y or z.

    A Hadamard gate precedes RZ, which alone would do nothing. Features in 0..1 go with scale pi.

    References:
        LaRose and Coyle, arXiv:2003.01695 (angle encoding).
    """
    return _angle("angle", num_qubits, axis, scale, layers=1)


@encodings.register("dense_angle")
def dense_angle(num_qubits: int, *, scale: float = 2 * math.pi) -> Encoding:
    """Dense angle encoding: two features per qubit, as latitude (RY) and longitude (RZ).

    Qubit q holds cos(pi x_2q) |0> + exp(2 pi i x_2q+1) sin(pi x_2q) |1>, up to a phase, with
    the default scale (radians per unit), which suits features in 0..1.

    References:
        LaRose and Coyle, arXiv:2003.01695 (dense angle encoding).
    """
    num_qubits = check_qubits(num_qubits, part="dense_angle encoding")
    _check_scale(scale)
    inputs = input_parameters(2 * num_qubits)
    circuit = QuantumCircuit(num_qubits, name="dense_angle")
    for qubit in range(num_qubits):
        circuit.ry(inputs[2 * qubit], qubit)
        circuit.rz(inputs[2 * qubit + 1], qubit)
    return scaled("dense_angle", circuit, 2 * num_qubits, scale)


@encodings.register("reuploading")
def reuploading(
    num_qubits: int, layers: int = 2, *, axis: str = "y", scale: float = 1.0
) -> Encoding:
    """Data re-uploading: `angle` encoding, repeated before each of `layers` copies of the ansatz.

    The composed model has `layers` times the weights of its ansatz; its outputs are Fourier series
    in the features of degree up to `layers` per qubit.

    References:
        Perez-Salinas et al., arXiv:1907.02085; Schuld et al., arXiv:2008.08605, eq. 4.
    """
    layers = check_layers(layers, part="reuploading encoding")
    return _angle("reuploading", num_qubits, axis, scale, layers=layers)


def _angle(name: str, num_qubits: int, axis: str, scale: float, *, layers: int) -> Encoding:
    num_qubits = check_qubits(num_qubits, part=f"{name} encoding")
    _check_scale(scale)
    if axis not in ("x", "y", "z"):
        raise CircuitError("unknown rotation axis", got=repr(axis), expected="'x', 'y' or 'z'")
    circuit = QuantumCircuit(num_qubits, name=name)
    for qubit, parameter in enumerate(input_parameters(num_qubits)):
        if axis == "z":
            circuit.h(qubit)
        getattr(circuit, f"r{axis}")(parameter, qubit)
    return scaled(name, circuit, num_qubits, scale, layers=layers)


def _features(num_qubits: int, num_features: int | None) -> int:
    most = 1 << num_qubits
    if num_features is None:
        return most
    given = python_number(num_features)
    return whole(
        given,
        f"amplitudes of {num_qubits} qubits hold at most {most} features",
        name="num_features",
        least=1,
        most=most,
        error=CircuitError,
        remedy=f"Use {math.ceil(math.log2(given))} qubits."
        if isinstance(given, int) and given > most
        else None,
    )


def _check_scale(scale: float) -> None:
    number = isinstance(scale, Real) and not isinstance(scale, bool)
    if not number or not math.isfinite(scale) or scale == 0:
        raise CircuitError(
            "the scale of an angle encoding is a finite number other than zero", got=repr(scale)
        )
