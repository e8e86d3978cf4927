# SPDX-License-Identifier: Apache-2.0
"""The plain way to run a model on a noisy device: one density matrix, gate by gate.

Written for reading, not for speed; the engine is tested against it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qiskit.quantum_info import DensityMatrix

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.execution.measurement import bases
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.noisy.native import Native, Part

__all__ = ["reference_noisy_outputs"]


def reference_noisy_outputs(
    model: CircuitModel,
    native: Native,
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
            state = _through(state, part, angles if part.source == "inputs" else weights,
                             device, wire)  # fmt: skip
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
