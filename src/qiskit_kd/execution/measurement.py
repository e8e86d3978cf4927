# SPDX-License-Identifier: Apache-2.0
"""How a readout is measured: which bases, which qubits, and what each outcome counts for.

`ClassGroups` and diagonal `Observables` need one basis. Other observables are split into sets of
Pauli strings that commute qubit by qubit; each set is turned into the Z basis by one-qubit gates
and adds its share to the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qiskit_kd.circuits.readouts import ClassGroups, Observables, Readout

__all__ = ["Basis", "bases", "measured"]

_DENSE = 2**12  # outcomes up to which a histogram per row is cheaper than looking up each shot


@dataclass(frozen=True, eq=False)
class Basis:
    """One setting of the measurement.

    Args:
        rotation: One-qubit gates before the measurement; None for the Z basis.
        qubits: Qubits measured, lowest bit of the outcome first.
        matrix: `(2**len(qubits), num_outputs)` what each outcome adds to each output.
    """

    rotation: QuantumCircuit | None
    qubits: tuple[int, ...]
    matrix: NDArray[np.float64]

    def of_probabilities(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """`(..., outcomes)` distribution to `(..., num_outputs)`."""
        return np.asarray(probabilities @ self.matrix, float)

    def of_outcomes(self, outcomes: NDArray[np.integer]) -> NDArray[np.float64]:
        """`(rows, shots)` outcomes to `(rows, num_outputs)` means, by one `bincount`."""
        rows, shots = outcomes.shape
        size = len(self.matrix)
        if size > _DENSE:
            return np.stack([self.matrix[row].mean(0) for row in outcomes])
        flat = outcomes.astype(np.intp) + np.arange(rows)[:, None] * size
        counts = np.bincount(flat.ravel(), minlength=rows * size).reshape(rows, size)
        return self.of_probabilities(counts / shots)


def bases(readout: Readout) -> tuple[Basis, ...]:
    """The bases a readout is measured in; their shares are to be added up."""
    if isinstance(readout, ClassGroups):
        matrix = np.eye(readout.num_classes)[readout.outcome_labels]
        return (Basis(None, readout.measured_qubits, matrix),)
    everything = tuple(range(readout.num_qubits))
    if readout.is_diagonal:
        return (Basis(None, everything, readout.matrix),)
    return tuple(
        Basis(_rotation(group), everything, _shares(group, readout)) for group in _groups(readout)
    )


def measured(circuit: QuantumCircuit, basis: Basis) -> QuantumCircuit:
    """`circuit`, turned into the basis, with a measurement into the register `meas`.

    To be called before transpiling, so that classical bits stay those of the logical qubits.
    """
    register = ClassicalRegister(len(basis.qubits), "meas")
    whole = QuantumCircuit(*circuit.qregs, register, name=circuit.name)
    whole.compose(circuit, inplace=True)
    if basis.rotation is not None:
        whole.compose(basis.rotation, inplace=True)
    whole.measure(list(basis.qubits), register)
    return whole


def _groups(readout: Observables) -> list[SparsePauliOp]:
    """All distinct Pauli strings of the observables, split by qubit-wise commutation."""
    paulis = sorted({label for op in readout.operators for label in op.paulis.to_labels()})
    return list(SparsePauliOp(paulis).group_commuting(qubit_wise=True))


def _rotation(group: SparsePauliOp) -> QuantumCircuit:
    circuit = QuantumCircuit(group.num_qubits)
    has_x, has_z = group.paulis.x.any(0), group.paulis.z.any(0)
    for qubit in np.flatnonzero(has_x).tolist():
        if has_z[qubit]:
            circuit.sdg(qubit)  # Y
        circuit.h(qubit)
    return circuit


def _shares(group: SparsePauliOp, readout: Observables) -> NDArray[np.float64]:
    """`(2**num_qubits, num_outputs)` what each outcome of this basis adds to each observable."""
    states = np.arange(2**readout.num_qubits)
    columns = {}
    for label, pauli in zip(group.paulis.to_labels(), group.paulis, strict=True):
        mask = sum(1 << q for q in np.flatnonzero(pauli.x | pauli.z).tolist())
        columns[label] = 1.0 - 2.0 * (np.bitwise_count(states & mask) & 1)
    shares = np.zeros((len(states), readout.num_outputs))
    for output, op in enumerate(readout.operators):
        for label, coefficient in zip(op.paulis.to_labels(), op.coeffs.real, strict=True):
            if label in columns:
                shares[:, output] += coefficient * columns[label]
    return shares
