# SPDX-License-Identifier: Apache-2.0
"""Which weights can move the readout at all.

A weight whose gate commutes with everything between it and the readout never gets a gradient: it
is counted, sent and optimised in vain. Found numerically, with no assumption about gates: at random
points each weight is replaced by another random value, and a weight that never changes an output
is dead. All these circuits differ in one weight each, so they are evolved side by side as dense
vectors. This module must not import torch.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import CircuitInstruction
from qiskit.quantum_info import Operator

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import Observables
from qiskit_kd.errors import ResourceError
from qiskit_kd.seeding import stream

__all__ = ["DeadWeightsWarning", "dead_weights", "warn_dead_weights"]

_MAX_AMPLITUDES = 2**24
_TOLERANCE = 1e-10
_POINTS = 3

Complex = NDArray[np.complexfloating]


class DeadWeightsWarning(UserWarning):
    """A model has weights that cannot move its readout."""


def dead_weights(model: CircuitModel) -> list[int]:
    """Indices of the weights that cannot move the readout, in ascending order.

    Decided at three random points of samples (normally distributed features) and weights, the same
    ones on every call.

    Args:
        model: The model; at most about `2**24 / (num_weights + 1)` basis states.

    Raises:
        ResourceError: If the model is too large for this check.
    """
    size = (model.num_weights + 1) * 2**model.num_qubits
    if size > _MAX_AMPLITUDES:
        raise ResourceError(
            "looking for dead weights keeps one state per weight",
            got=f"{size} amplitudes for {model.num_weights} weights on {model.num_qubits} qubits",
            expected=f"at most {_MAX_AMPLITUDES}",
            remedy="Check the same ansatz on fewer qubits.",
        )
    alive = np.zeros(model.num_weights, dtype=bool)
    for point in range(_POINTS):
        draw = stream(0, "dead weights", point)
        sample = draw.normal(size=(1, model.num_features))
        inputs = model.encoding.angles(sample)[0]
        weights, others = draw.uniform(-np.pi, np.pi, size=(2, model.num_weights))
        outputs = _read(model, _evolve(model, inputs, weights, others))
        alive |= np.abs(outputs[1:] - outputs[0]).max(axis=1) > _TOLERANCE
    return [int(k) for k in np.flatnonzero(~alive)]


def warn_dead_weights(model: CircuitModel) -> list[int]:
    """`dead_weights`, with a `DeadWeightsWarning` where there are any."""
    dead = dead_weights(model)
    if dead:
        warnings.warn(
            f"{len(dead)} of {model.num_weights} weights cannot move the readout: {dead}. They "
            "count as parameters but never learn; end the circuit in gates that do not commute "
            "with the readout, or leave these gates out.",
            DeadWeightsWarning,
            stacklevel=2,
        )
    return dead


def _evolve(
    model: CircuitModel, inputs: np.ndarray, weights: np.ndarray, others: np.ndarray
) -> Complex:
    """States `(1 + num_weights, 2**n)`: at `weights`, and with one weight each from `others`."""
    n = model.num_qubits
    parameters = [p.name for p in (*model.inputs, *model.weights)]
    values = dict(zip(parameters, np.concatenate((inputs, weights)), strict=True))
    index = {p.name: k for k, p in enumerate(model.weights)}
    states: Complex = np.zeros((1 + model.num_weights, *[2] * n), dtype=complex)
    states.reshape(len(states), -1)[:, 0] = 1
    for item in model.circuit.data:
        qubits = [model.circuit.find_bit(q).index for q in item.qubits]
        if not qubits or item.operation.name in ("barrier", "delay"):
            continue
        single = _alone(item)
        moved = {}
        for k in (index[p.name] for p in single.parameters if p.name in index):
            matrix = _matrix(single, values | {model.weights[k].name: others[k]})
            moved[k + 1] = _apply(matrix, states[k + 1][None], qubits)[0]
        states = _apply(_matrix(single, values), states, qubits)
        for row, state in moved.items():
            states[row] = state
    return states.reshape(len(states), -1)


def _alone(item: CircuitInstruction) -> QuantumCircuit:
    circuit = QuantumCircuit(len(item.qubits))
    circuit.append(item.operation, range(len(item.qubits)))
    return circuit


def _matrix(circuit: QuantumCircuit, values: dict[str, float]) -> Complex:
    bound = circuit.assign_parameters({p: values[p.name] for p in circuit.parameters})
    matrix: Complex = Operator(bound).data
    return matrix


def _apply(matrix: Complex, states: Complex, qubits: list[int]) -> Complex:
    """Apply a gate to `(batch, 2, ..., 2)` states; axis 1 is the most significant qubit."""
    n, k = states.ndim - 1, len(qubits)
    axes = [n - q for q in reversed(qubits)]  # a gate's first qubit is its least significant
    result = np.tensordot(matrix.reshape([2] * 2 * k), states, axes=(range(k, 2 * k), axes))
    return np.moveaxis(result, range(k), axes)


def _read(model: CircuitModel, states: Complex) -> NDArray[np.float64]:
    readout = model.readout
    if isinstance(readout, Observables) and not readout.is_diagonal:
        columns = [
            np.einsum("bi,bi->b", states.conj(), (op.to_matrix(sparse=True) @ states.T).T).real
            for op in readout.operators
        ]
        return np.stack(columns, axis=1)
    return readout.of_probabilities(np.abs(states) ** 2)
