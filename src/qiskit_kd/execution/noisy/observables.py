# SPDX-License-Identifier: Apache-2.0
"""Readouts as observables on the device's qubits, with the errors of the measurement folded in.

What is read from a wrong measurement is a right measurement of another observable: the readout's
table of outcomes, multiplied by the assignment matrix of each measured qubit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qiskit_kd.execution.measurement import Basis
from qiskit_kd.execution.noise_sources import DeviceNoise, Float

__all__ = ["observable_rows", "zero_state"]

_ROOT = np.sqrt(2)


def observable_rows(
    basis: Basis, device: DeviceNoise, final: tuple[int, ...], wires: Mapping[int, int]
) -> Float:
    """`(num_outputs, 4**wires)` coefficients of what one basis adds to the outputs.

    Args:
        basis: The basis, without its rotation.
        device: Its readout errors.
        final: Physical qubit of each qubit of the model.
        wires: Physical qubits to wires.
    """
    measured, n = basis.qubits, len(wires)
    table = basis.matrix.T.reshape(-1, *[2] * len(measured))  # the last axis is the first qubit
    to_pauli = np.array([[1, 1], [0, 0], [0, 0], [1, -1]]) / _ROOT
    for k, qubit in enumerate(measured):
        axis = len(measured) - k
        turn = to_pauli @ device.assignment(final[qubit]).T
        table = np.moveaxis(np.tensordot(table, turn, ([axis], [1])), -1, axis)
    whole = np.zeros((len(table), *[4] * n))
    places = [n - wires[final[q]] for q in reversed(measured)]
    others = [axis for axis in range(1, n + 1) if axis not in places]
    view = whole.transpose(*others, 0, *places)
    view[(0,) * len(others)] = table * _ROOT ** len(others)
    return whole.reshape(len(table), -1)


def zero_state(num_wires: int) -> Float:
    """`(4**num_wires,)` coefficients of |0...0>."""
    state = np.ones(1)
    for _ in range(num_wires):
        state = np.kron(state, np.array([1, 0, 0, 1]) / _ROOT)
    return state
