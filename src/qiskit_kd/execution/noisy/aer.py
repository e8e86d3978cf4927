# SPDX-License-Identifier: Apache-2.0
"""A native circuit as Aer samples it: its active qubits alone, with the errors of its own gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Parameter
from qiskit_aer import AerSimulator

from qiskit_kd.errors import ExecutionError
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.noisy.isa import ISACircuit, Part
from qiskit_kd.execution.noisy.primitives import aer_method

Floats = NDArray[np.floating]


class AerCircuit:
    """A circuit of a noisy device with its noise model, both made once.

    Waiting is an error of its own in the circuit: a noise model knows gates, not durations.

    Args:
        native: The circuit; its readout is measured in the Z basis.
        device: The noise.
        measured: Qubits of the model that are measured, lowest bit of the outcome first.
    """

    def __init__(self, native: ISACircuit, device: DeviceNoise, measured: Sequence[int]) -> None:
        self._parts = native.parts
        self._outcomes = 2 ** len(measured)
        wire = {qubit: k for k, qubit in enumerate(native.active)}
        self._circuit = QuantumCircuit(len(wire))
        gates = QuantumCircuit(len(wire))
        self._parameters: list[Parameter] = []
        for number, part in enumerate(native.parts):
            own = [Parameter(f"part_{number}_{k}") for k in range(len(part.angles.expressions))]
            self._parameters += own
            for operation, qubits, is_gate in _instructions(part, device, own):
                places = [wire[q] for q in qubits]
                self._circuit.append(operation, places)
                if is_gate:
                    gates.append(operation, places)
        self._circuit.add_register(ClassicalRegister(len(measured), "meas"))
        self._circuit.measure([wire[native.final[q]] for q in measured], range(len(measured)))
        self._simulator = AerSimulator(
            method=aer_method(len(wire)), noise_model=device.noise_model(gates, native.active)
        )

    def frequencies(
        self, angles: Floats, weights: Floats, shots: int, seed: int
    ) -> NDArray[np.float64]:
        """Run every row of angles at every setting of the weights, in one job.

        Args:
            angles: `(rows, inputs)`.
            weights: `(..., weights)`.
            shots: Shots per circuit.
            seed: Seed of the shots.

        Returns:
            `(..., rows, outcomes)`.

        Raises:
            ExecutionError: If Aer fails.
        """
        lead = (*weights.shape[:-1], len(angles))
        slots = [
            part.slots(angles if part.source == "inputs" else weights[..., None, :])
            for part in self._parts
        ]
        rows = np.concatenate([np.broadcast_to(s, (*lead, s.shape[-1])) for s in slots], -1)
        rows = rows.reshape(-1, rows.shape[-1])
        binds = {p: rows[:, k].tolist() for k, p in enumerate(self._parameters)}
        job = self._simulator.run(
            [self._circuit], parameter_binds=[binds], shots=shots, seed_simulator=seed
        )
        result = job.result()
        if not result.success:
            raise ExecutionError("Aer failed", got=str(result.status))
        counts = np.zeros((len(rows), self._outcomes))
        for row in range(len(rows)):
            for outcome, count in result.data(row)["counts"].items():
                counts[row, int(outcome, 16)] = count
        return counts.reshape(*lead, -1) / shots


def _instructions(
    part: Part, device: DeviceNoise, slots: Sequence[Parameter]
) -> Iterator[tuple[Any, tuple[int, ...], bool]]:
    """Instructions, their physical qubits, and whether they are gates; angles become `slots`."""
    for gate in part.gates:
        if gate.seconds is not None:
            error = device.idle_error(gate.qubits[0], gate.seconds)
            if error is not None:
                yield error.to_instruction(), gate.qubits, False
            continue
        operation = gate.operation
        if gate.slots:
            free = iter(gate.slots)
            operation = operation.to_mutable()
            operation.params = [
                slots[next(free)] if getattr(p, "parameters", None) else p for p in operation.params
            ]
        yield operation, gate.qubits, True
