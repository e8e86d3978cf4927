# SPDX-License-Identifier: Apache-2.0
"""Gates and errors as Pauli transfer matrices: real matrices on the coefficients of Pauli strings.

A density matrix on n qubits is a real vector of `4**n` coefficients of the strings
`P / sqrt(2**n)`, and so is an observable; a channel is a real matrix `R`, its adjoint `R.T`. Bit
order is Qiskit's: the first qubit of a gate is the fastest index, letters count I, X, Y, Z.

References: Greenbaum, arXiv:1509.02921, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit.circuit.library import RYGate, RZGate
from qiskit.circuit.library import standard_gates as standard
from qiskit.quantum_info import Pauli, SuperOp
from qiskit_aer.noise import QuantumError

from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.expansion import FREQUENCIES

__all__ = ["Turning", "exchange", "factors", "fixed_transfer", "transfer", "turning"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Turning:
    """A gate with one free angle: `R(a) = terms[0] + sum_f terms[2f-1] cos(w_f a) + ... sin`.

    Args:
        frequencies: `w_f`.
        terms: `(1 + 2 len(frequencies), 4**k, 4**k)`.
    """

    frequencies: tuple[float, ...]
    terms: Float

    def at(self, angle: float) -> Float:
        """The matrix at one angle."""
        return np.tensordot(_waves(self.frequencies, angle), self.terms, 1)


def transfer(channel: SuperOp) -> Float:
    """The Pauli transfer matrix of a channel on k qubits, `(4**k, 4**k)`."""
    basis = _paulis(channel.num_qubits)
    return np.ascontiguousarray((basis.conj().T @ channel.data @ basis).real)


def fixed_transfer(gate: Any, error: QuantumError | None, *, cutoff: float = 0.0) -> Float:
    """A gate without free angles, then its error.

    Args:
        gate: The gate, or None for the error alone.
        error: Aer's error behind it.
        cutoff: Terms of the error of at most this probability are left out and the others not
            rescaled, as Aer's simulator does at 1e-10; the trace is then not kept exactly.
    """
    matrix = None if gate is None else _superop(gate)
    if error is not None:
        kept = [
            p * SuperOp(circuit).data
            for circuit, p in zip(error.circuits, error.probabilities, strict=True)
            if p > cutoff
        ]
        noise = np.sum(kept, axis=0)
        matrix = noise if matrix is None else noise @ matrix
    if matrix is None:
        return np.eye(4)
    return transfer(SuperOp(matrix))


def _superop(gate: Any) -> NDArray[np.complex128]:
    try:
        return np.asarray(SuperOp(gate).data)
    except Exception as error:  # Qiskit's own classes raise several kinds
        raise CircuitError(
            "gates of a device have a matrix or are channels", got=f"{gate.name!r}: {error}"
        ) from error


def factors(gate: Any) -> list[Any]:
    """A gate with free angles as a product, first factor first, with at most one angle in each.

    Raises:
        CircuitError: If several angles are free in a gate without such a product.
    """
    free = [p for p in gate.params if getattr(p, "parameters", None)]
    if len(free) <= 1 and gate.base_class not in (standard.UGate, standard.U3Gate, standard.U2Gate):
        return [gate]
    kind, p = gate.base_class, list(gate.params)
    if kind is standard.U2Gate:
        return [RZGate(p[1]), RYGate(np.pi / 2), RZGate(p[0])]
    if kind in (standard.UGate, standard.U3Gate):
        return [RZGate(p[2]), RYGate(p[0]), RZGate(p[1])]
    raise CircuitError(
        "a native gate has one free angle", got=f"{gate.name!r} with {len(free)}",
        expected="rz, ry, rx, p, u, rzz and the like", remedy="Use another device.",
    )  # fmt: skip


def turning(gate: Any) -> Turning:
    """A gate whose one free angle is a parameter, as a trigonometric polynomial of it."""
    kind = gate.base_class
    (place,) = [k for k, p in enumerate(gate.params) if getattr(p, "parameters", None)]
    others = tuple(float(p) for k, p in enumerate(gate.params) if k != place)
    return _turning(kind, place, others)


@lru_cache(maxsize=256)
def _turning(kind: Any, place: int, others: tuple[float, ...]) -> Turning:
    frequencies = FREQUENCIES[kind][place]
    count = 1 + 2 * len(frequencies)
    angles = 2 * np.pi / frequencies[0] * np.arange(count) / count
    samples = [transfer(SuperOp(kind(*others[:place], float(a), *others[place:]))) for a in angles]
    waves = np.array([_waves(frequencies, a) for a in angles])
    terms: Float = np.linalg.solve(waves, np.reshape(samples, (count, -1)))
    return Turning(frequencies, terms.reshape(count, *samples[0].shape))


def _waves(frequencies: tuple[float, ...], angle: float) -> Float:
    out = [1.0]
    for w in frequencies:
        out += [np.cos(w * angle), np.sin(w * angle)]
    return np.array(out)


def exchange(matrix: Float) -> Float:
    """The same channel on two qubits with the qubits named in the other order."""
    lead = matrix.shape[:-2]
    split = matrix.reshape(*lead, 4, 4, 4, 4)
    return np.ascontiguousarray(np.moveaxis(split, (-4, -2), (-3, -1)).reshape(*lead, 16, 16))


@lru_cache(maxsize=8)
def _paulis(num_qubits: int) -> NDArray[np.complex128]:
    """Columns: Pauli strings as column-stacked vectors of norm 1, first qubit fastest."""
    letters = np.indices((4,) * num_qubits).reshape(num_qubits, -1).T
    columns = [Pauli("".join("IXYZ"[k] for k in row)).to_matrix().ravel("F") for row in letters]
    return np.asarray(np.array(columns).T / np.sqrt(2) ** num_qubits, np.complex128)
