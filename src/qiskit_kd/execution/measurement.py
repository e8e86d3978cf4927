# SPDX-License-Identifier: Apache-2.0
"""How a readout is measured: which bases, which qubits, and what each outcome counts for.

`ClassGroups` and diagonal `Observables` need one basis. Other observables are split into sets of
Pauli strings that commute qubit by qubit; each set is turned into the Z basis by one-qubit gates
and adds its share to the outputs. Only qubits on which some string acts are measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qiskit_kd.circuits.readouts import ClassGroups, Observables, Readout
from qiskit_kd.execution.memory import require_memory

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
        _check(readout.measured_qubits, readout)
        matrix = np.eye(readout.num_classes)[readout.outcome_labels]
        return (Basis(None, readout.measured_qubits, matrix),)
    groups = _groups(readout)
    touched = [_touched(group) for group in groups]
    for qubits in touched:
        _check(qubits, readout)
    return tuple(
        Basis(_rotation(group), qubits, _shares(group, qubits, readout))
        for group, qubits in zip(groups, touched, strict=True)
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


def _touched(group: SparsePauliOp) -> tuple[int, ...]:
    """Qubits on which a string acts; qubit 0 where none does, as something must be measured."""
    acts = (group.paulis.x | group.paulis.z).any(0)
    return tuple(np.flatnonzero(acts).tolist()) or (0,)


def _check(qubits: tuple[int, ...], readout: Readout) -> None:
    require_memory(
        2 ** len(qubits) * 8 * (readout.num_outputs + 2),
        f"the table of {len(qubits)} measured qubits and {readout.num_outputs} outputs",
        "Read fewer qubits.",
    )


def _rotation(group: SparsePauliOp) -> QuantumCircuit | None:
    has_x, has_z = group.paulis.x.any(0), group.paulis.z.any(0)
    if not has_x.any():
        return None
    circuit = QuantumCircuit(group.num_qubits)
    for qubit in np.flatnonzero(has_x).tolist():
        if has_z[qubit]:
            circuit.sdg(qubit)  # Y
        circuit.h(qubit)
    return circuit


def _shares(
    group: SparsePauliOp, qubits: tuple[int, ...], readout: Observables
) -> NDArray[np.float64]:
    """`(2**len(qubits), num_outputs)` what each outcome adds to each observable."""
    outcomes = np.arange(2 ** len(qubits))
    masks = {}
    for label, pauli in zip(group.paulis.to_labels(), group.paulis, strict=True):
        acts = (pauli.x | pauli.z)[list(qubits)]
        masks[label] = sum(1 << k for k in np.flatnonzero(acts).tolist())
    shares = np.zeros((len(outcomes), readout.num_outputs))
    for output, op in enumerate(readout.operators):
        for label, coefficient in zip(op.paulis.to_labels(), op.coeffs.real, strict=True):
            if label in masks:
                sign = 1.0 - 2.0 * (np.bitwise_count(outcomes & masks[label]) & 1)
                shares[:, output] += coefficient * sign
    return shares
