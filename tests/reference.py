# SPDX-License-Identifier: Apache-2.0
"""The plain ways to run a model, written for reading: what the engines are tested against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from qiskit.quantum_info import DensityMatrix, Statevector

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.execution.expansion import Floats
from qiskit_kd.execution.gradients import shift_rule
from qiskit_kd.execution.measurement import bases
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.noisy.isa import ISACircuit, Part


def reference_outputs(
    model: CircuitModel, features: NDArray[np.floating], weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    """`(batch, num_features)`, `(num_weights,)` to `(batch, num_outputs)`, sample by sample."""
    rows = []
    for angles in model.encoding.angles(np.asarray(features, float)):
        values = dict(zip(model.inputs, angles, strict=True))
        values |= dict(zip(model.weights, weights, strict=True))
        state = Statevector(model.circuit.assign_parameters(values))
        if isinstance(model.readout, ClassGroups):
            rows.append(state.probabilities() @ model.readout.matrix)
        else:
            rows.append([state.expectation_value(op).real for op in model.readout.operators])
    return np.array(rows).reshape(len(rows), model.num_outputs)


def reference_weight_gradient(
    model: CircuitModel,
    features: NDArray[np.floating],
    weights: NDArray[np.floating],
    cotangent: NDArray[np.floating],
    *,
    step: float = 1e-5,
) -> NDArray[np.float64]:
    """Central differences of `sum(cotangent * outputs)` in every weight, `(num_weights,)`."""
    gradient = []
    for direction in step * np.eye(len(weights)):
        up = reference_outputs(model, features, weights + direction)
        down = reference_outputs(model, features, weights - direction)
        gradient.append(((up - down) * cotangent).sum() / (2 * step))
    return np.array(gradient)


def reference_noisy_outputs(
    model: CircuitModel,
    native: ISACircuit,
    device: DeviceNoise,
    features: NDArray[np.floating],
    weights: NDArray[np.floating],
) -> NDArray[np.float64]:
    """`(batch, num_features)`, `(num_weights,)` to `(batch, num_outputs)`, sample by sample."""
    wire = {qubit: k for k, qubit in enumerate(native.active)}
    rows = []
    for angles in model.encoding.angles(np.asarray(features, float)):
        state = DensityMatrix.from_label("0" * len(wire))
        for part in native.parts:
            state = _through(
                state, part, angles if part.source == "inputs" else weights, device, wire
            )
        total = np.zeros(model.num_outputs)
        for basis, turn in zip(bases(model.readout), native.rotations, strict=True):
            turned = _through(state, turn, np.zeros(0), device, wire)
            measured = [native.final[q] for q in basis.qubits]
            p = turned.probabilities([wire[q] for q in measured])
            whole: NDArray[np.float64] = np.eye(1)
            for qubit in measured:  # the first measured qubit is the lowest bit
                whole = np.asarray(np.kron(device.assignment(qubit), whole), float)
            total += (whole @ p) @ basis.matrix
        rows.append(total)
    return np.array(rows).reshape(len(rows), model.num_outputs)


def _through(
    state: DensityMatrix,
    part: Part,
    values: NDArray[np.floating],
    device: DeviceNoise,
    wire: dict[int, int],
) -> DensityMatrix:
    slots = part.slots(values)
    for gate in part.gates:
        where = [wire[q] for q in gate.qubits]
        if gate.seconds is not None:
            error = device.idle_error(gate.qubits[0], gate.seconds)
        else:
            free = iter(gate.slots)
            angles = [
                slots[next(free)] if getattr(p, "parameters", None) else p
                for p in gate.operation.params
            ]
            operation = gate.operation
            if gate.slots:
                operation = operation.base_class(*angles)
            state = state.evolve(operation, where)
            error = device.gate_error(operation.name, gate.qubits)
        if error is not None:
            state = state.evolve(error.to_quantumchannel(), where)
    return state


def reference_slot_jacobian(
    evaluate: Callable[[Floats], Floats], slots: Floats, frequencies: Sequence[tuple[float, ...]]
) -> NDArray[np.float64]:
    """Derivative of `evaluate` in every slot, one shifted evaluation at a time.

    Written for reading; `shift_points` and `input_shift_points` are tested against it.

    Args:
        evaluate: `(slots,)` to `(outputs,)`.
        slots: `(slots,)` angles.
        frequencies: Angular frequencies of each slot.

    Returns:
        `(outputs, slots)`.
    """
    columns = []
    for slot, w in enumerate(frequencies):
        derivative = np.zeros_like(np.asarray(evaluate(slots), float))
        for shift, coefficient in shift_rule(w):
            moved = np.array(slots, float)
            moved[slot] += shift
            derivative += coefficient * evaluate(moved)
        columns.append(derivative)
    return np.stack(columns, axis=-1)
