# SPDX-License-Identifier: Apache-2.0
"""Encodings that leave a product state, every qubit a circle on its Bloch sphere.

Where each qubit is turned by at most one angle t, whatever fixed gates surround that turn, its
density matrix is `F_0 + sin(t) F_1 + cos(t) F_2`, and an expectation value is a multilinear form in
those (1, sin, cos) of the qubits (Schuld et al., arXiv:2008.08605, eq. 7, with one frequency each).
Found by evaluating the circuit, so that it does not matter how the turn is written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.circuits.checks import is_inert
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.execution.exact.columns import ColumnSweep
from qiskit_kd.execution.exact.normal_form import normal_form

__all__ = ["ProductEncoding", "product_encoding"]

_FIT = (0.0, np.pi / 2, np.pi)
_CHECKED = (1.0, -0.7, 2.2, 4.1, -5.3, 9.9, 17.3, -31.1)
_ATOL = 1e-12


@dataclass(frozen=True, slots=True)
class ProductEncoding:
    """How each qubit depends on the encoding angles."""

    inputs: tuple[int, ...]
    """Which encoding angle turns each qubit (0 for a qubit that none turns)."""
    factors: NDArray[np.complex128]
    """`(qubits, 3, 2, 2)`: density matrix of a qubit = factors . (1, sin, cos)."""


def product_encoding(model: CircuitModel) -> ProductEncoding | None:
    """The product form of the model's encoding, None where it has none.

    Args:
        model: A model that encodes its data once, by a circuit.
    """
    circuit, n = model.encoding_circuit, model.num_qubits
    column = {p: k for k, p in enumerate(model.inputs)}
    turned: list[set[int]] = [set() for _ in range(n)]
    for item in circuit.data:
        if is_inert(item.operation):
            continue
        if len(item.qubits) != 1:
            return None
        turned[circuit.find_bit(item.qubits[0]).index] |= {
            column[p] for angle in item.operation.params for p in getattr(angle, "parameters", ())
        }
    if any(len(inputs) > 1 for inputs in turned):
        return None
    angles = np.array(_FIT + _CHECKED)
    form = normal_form(circuit, model.inputs, keep_last=True)
    values = np.tile(angles, (len(column), 1))
    states = ColumnSweep(form, np.float64).forward(values, columns=len(angles)).states[-1]
    basis = np.stack([np.ones_like(angles), np.sin(angles), np.cos(angles)], axis=1)
    factors = np.empty((n, 3, 2, 2), complex)
    for q in range(n):
        split = states.reshape(2 ** (n - 1 - q), 2, 2**q, -1)
        rho = np.einsum("aibt,ajbt->tij", split, split.conj())
        zero, quarter, half = rho[:3]
        mean = (zero + half) / 2
        factors[q] = mean, quarter - mean, (zero - half) / 2
        if np.abs(np.einsum("tk,kij->tij", basis, factors[q]) - rho).max() > _ATOL:
            return None
    return ProductEncoding(tuple(min(inputs, default=0) for inputs in turned), factors)
