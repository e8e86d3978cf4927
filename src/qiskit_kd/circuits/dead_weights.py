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
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator

from qiskit_kd.circuits.checks import is_inert
from qiskit_kd.circuits.model import CircuitModel, check_model
from qiskit_kd.circuits.readouts import Observables
from qiskit_kd.errors import ResourceError
from qiskit_kd.seeding import stream

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

    Raises:
        CircuitError: If it is no model.
        ResourceError: If the model is too large for this check.
    """
    check_model(model, part="a count of dead weights")
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
        weights, others = draw.uniform(-np.pi, np.pi, size=(2, model.num_weights))
        outputs = _read(model, _evolve(model, sample[0], weights, others))
        alive |= np.abs(outputs[1:] - outputs[0]).max(axis=1) > _TOLERANCE
    return [int(k) for k in np.flatnonzero(~alive)]


def warn_dead_weights(
    model: CircuitModel, *, dead: Sequence[int] | None = None, stacklevel: int = 2
) -> list[int]:
    """`dead_weights`, with a `DeadWeightsWarning` where there are any."""
    dead = dead_weights(model) if dead is None else list(dead)
    if dead:
        warnings.warn(
            f"{len(dead)} of {model.num_weights} weights cannot move the readout: {dead}. They "
            "count as parameters but never learn; end the circuit in gates that do not commute "
            "with the readout, read other qubits, or leave these gates out.",
            DeadWeightsWarning,
            stacklevel=stacklevel,
        )
    return dead


def _evolve(
    model: CircuitModel, sample: np.ndarray, weights: np.ndarray, others: np.ndarray
) -> Complex:
    """States `(1 + num_weights, 2**n)`: at `weights`, and with one weight each from `others`.

    A state is evolved apart from the first only from the gate of its weight on.
    """
    encoding, n = model.encoding, model.num_qubits
    values = {p.name: v for p, v in zip(model.weights, weights, strict=True)}
    moved = {p.name: v for p, v in zip(model.weights, others, strict=True)}
    start = np.zeros(2**n, dtype=complex)
    start[0] = 1
    if encoding.is_amplitude:  # the state is known, and its circuit has `2**n` gates
        start[: len(sample)] = sample / np.linalg.norm(sample)
    apart: dict[str, int] = {}  # weights whose gates came, and the rows of their states
    states: Complex = start.reshape(1, *[2] * n)
    angles = encoding.angles(sample[None])[0]
    values |= {p.name: v for p, v in zip(model.inputs, angles, strict=True)}
    for piece in model.pieces[1:] if encoding.is_amplitude else model.pieces:
        states = _through(piece, states, values, moved, apart)
    # What never met a gate (a global phase) is in the state of all others.
    rows = [0, *(apart.get(p.name, 0) for p in model.weights)]
    return states.reshape(len(states), -1)[rows]


def _through(
    circuit: QuantumCircuit,
    states: Complex,
    values: Mapping[str, float],
    moved: Mapping[str, float],
    apart: dict[str, int],
) -> Complex:
    for item in circuit.data:
        qubits = [circuit.find_bit(q).index for q in item.qubits]
        if not qubits or is_inert(item.operation):
            continue
        single = QuantumCircuit(len(qubits))
        single.append(item.operation, range(len(qubits)))
        mine = [p.name for p in single.parameters if p.name in moved]
        new = [name for name in mine if name not in apart]
        apart.update({name: len(states) + k for k, name in enumerate(new)})
        states = np.concatenate([states, *[states[:1]] * len(new)])
        changed = {
            name: _apply(
                _matrix(single, {**values, name: moved[name]}), states[apart[name]][None], qubits
            )[0]
            for name in mine
        }
        states = _apply(_matrix(single, values), states, qubits)
        for name, state in changed.items():
            states[apart[name]] = state
    return states


def _matrix(circuit: QuantumCircuit, values: Mapping[str, float]) -> Complex:
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
