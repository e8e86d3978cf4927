# SPDX-License-Identifier: Apache-2.0
"""From final states to outputs and back, for the exact engine.

Gradients with respect to a complex state are written as `dL/d(re) + i dL/d(im)`, so that a real
view of the adjoint is the plain gradient of the real view of the state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit.quantum_info import SparsePauliOp

from qiskit_kd.circuits.readouts import Observables, Readout

Array = NDArray[Any]


class DiagonalReader:
    """`outputs[b, m] = sum_k |psi[k, b]|^2 matrix[k, m]`.

    Args:
        matrix: `(2**n, outputs)`, rows permuted to the order in which states are left.
    """

    def __init__(self, matrix: Array) -> None:
        self.matrix = matrix
        self._transposed = np.ascontiguousarray(matrix.T)

    def apply(self, states: Array) -> Array:
        """Every operator times `states` `(rows, 2**n, columns)`, `(outputs, rows, ...)`."""
        return self._transposed[:, None, :, None] * states

    def read(self, states: Array, scratch: Array) -> Array:
        """Real view `(2**n, columns * reals)` of the states to `(columns * reals, outputs)`."""
        return (self._transposed @ np.square(states, out=scratch)).T

    def seed(self, states: Array, cotangent: Array, out: Array) -> None:
        """Write the adjoint of `states`; `cotangent` is `(columns * reals, outputs)`."""
        np.matmul(self.matrix, (2 * cotangent).T, out=out)
        np.multiply(out, states, out=out)


def pauli_terms(operator: SparsePauliOp) -> list[tuple[Array, Array]]:
    """`(source, factor)` per Pauli P, `(P psi)[k] = factor[k] psi[source[k]]`, coefficients in."""
    states = np.arange(2**operator.num_qubits)
    terms = []
    for x, z, coefficient in zip(
        operator.paulis.x, operator.paulis.z, operator.coeffs, strict=True
    ):
        flip = sum(1 << q for q in np.flatnonzero(x).tolist())
        mask = sum(1 << q for q in np.flatnonzero(z).tolist())
        source = states ^ flip  # (P psi)[k] = i^(number of Y) (-1)^(z . source) psi[source]
        sign = 1.0 - 2.0 * (np.bitwise_count(source & mask) & 1)
        terms.append((source, coefficient * 1j ** int((x & z).sum()) * sign))
    return terms


class PauliReader:
    """`outputs[b, m] = <psi_b| O_m |psi_b>` for any Hermitian sums of Paulis.

    Args:
        observables: The operators.
        dtype: Complex type of the states.
    """

    def __init__(self, observables: Observables, dtype: Any) -> None:
        self._terms = [
            [(source, factor.astype(dtype)[:, None]) for source, factor in pauli_terms(op)]
            for op in observables.operators
        ]

    def apply(self, states: Array) -> Array:
        """Every operator times `states` `(rows, 2**n, columns)`, `(outputs, rows, ...)`."""
        return np.stack([self._apply(m, states) for m in range(len(self._terms))])

    def _apply(self, m: int, states: Array) -> Array:
        return sum(
            (factor * states[..., source, :] for source, factor in self._terms[m]),
            start=np.zeros_like(states),
        )

    def read(self, states: Array) -> Array:
        """Complex `(2**n, columns)` to `(columns, outputs)`."""
        values = [
            np.einsum("kb,kb->b", states.conj(), self._apply(m, states)).real
            for m in range(len(self._terms))
        ]
        return np.stack(values, axis=1)

    def seed(self, states: Array, cotangent: Array) -> Array:
        """Adjoint of complex `states`; `cotangent` is `(columns, outputs)`."""
        return sum(
            (2 * cotangent[:, m] * self._apply(m, states) for m in range(len(self._terms))),
            start=np.zeros_like(states),
        )


Reader = DiagonalReader | PauliReader


def reader(readout: Readout, order: Array, dtype: Any, cdtype: Any) -> Reader:
    """The reader of `readout` for states whose row `order[k]` belongs to basis state k."""
    if readout.is_diagonal:
        matrix = np.empty(readout.matrix.shape, dtype)
        matrix[order] = readout.matrix
        return DiagonalReader(matrix)
    return PauliReader(readout, cdtype)  # type: ignore[arg-type]
