# SPDX-License-Identifier: Apache-2.0
"""Runs circuits of a device without noise: only the qubits in use, one component at a time.

Fifteen copies of a circuit side by side are fifteen small circuits, so a device of 133 qubits is
no slower than its busiest part. The shots are a function of the seed and of the circuit alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Operation
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator

__all__ = ["Unsupported", "expectations", "shots_of"]

MOST = 14
"""Most qubits of one component: beyond that a job fails instead of taking long."""


class Unsupported(Exception):
    """A circuit that this imitation cannot run: the job fails."""


@dataclass(frozen=True)
class _Part:
    """Qubits that gates connect: circuit on wires 0, 1, ... and which clbit reads which wire."""

    circuit: QuantumCircuit
    qubits: tuple[int, ...]
    reads: tuple[tuple[int, int], ...]


def _parts(circuit: QuantumCircuit) -> list[_Part]:
    parent = list(range(circuit.num_qubits))

    def root(q: int) -> int:
        while parent[q] != q:
            parent[q] = parent[parent[q]]
            q = parent[q]
        return q

    gates: list[tuple[Operation, list[int]]] = []
    reads: list[tuple[int, int]] = []
    done: set[int] = set()
    for item in circuit.data:
        operation, wires = item.operation, [circuit.find_bit(q).index for q in item.qubits]
        if operation.name in ("barrier", "delay"):
            continue
        if hasattr(operation, "blocks"):
            raise Unsupported(f"{operation.name} is not imitated")
        if done & {*wires}:
            raise Unsupported("gates after a measurement are not imitated")
        if operation.name == "measure":
            done |= {*wires}
            reads.append((wires[0], circuit.find_bit(item.clbits[0]).index))
        elif operation.name == "reset":
            if any(wires[0] in w for _, w in gates):
                raise Unsupported("reset after a gate is not imitated")
        else:
            gates.append((operation, wires))
            for other in wires[1:]:
                parent[root(other)] = root(wires[0])
    members: dict[int, list[int]] = {}
    for q in sorted({w for _, wires in gates for w in wires} | {q for q, _ in reads}):
        members.setdefault(root(q), []).append(q)
    parts = []
    for top, qubits in members.items():
        if len(qubits) > MOST:
            raise Unsupported(f"{len(qubits)} qubits hang together, at most {MOST} are imitated")
        wire = {q: k for k, q in enumerate(qubits)}
        small = QuantumCircuit(len(qubits))
        for operation, wires in gates:
            if root(wires[0]) == top:
                small.append(operation, [wire[q] for q in wires])
        read = tuple((wire[q], c) for q, c in reads if q in wire)
        parts.append(_Part(small, tuple(qubits), read))
    return parts


def _run(
    circuit: QuantumCircuit, columns: dict[str, int], rows: NDArray[np.float64], key: str
) -> list[object]:
    """`data[key]` of every row, in one run."""
    simulator = AerSimulator(method="statevector", max_parallel_threads=1)
    count, free = len(rows), circuit.parameters
    binds = {p: rows[:, columns[p.name]].tolist() for p in free}
    options = {"parameter_binds": [binds]} if binds else {}
    result = simulator.run([circuit], shots=1, **options).result()
    if not result.success:
        raise Unsupported(f"the simulator failed: {result.status}")
    return [result.data(k if free else 0)[key] for k in range(count)]


def _columns(circuit: QuantumCircuit) -> dict[str, int]:
    return {p.name: k for k, p in enumerate(circuit.parameters)}


def shots_of(
    circuit: QuantumCircuit, rows: NDArray[np.float64], shots: int, rng: np.random.Generator
) -> dict[str, NDArray[np.bool_]]:
    """Measured bits of every register.

    Args:
        circuit: Gates and final measurements, any number of qubits.
        rows: `(N, P)` values in the order of `circuit.parameters`.
        shots: Shots of every row.
        rng: What draws them.

    Returns:
        `(N, shots, bits)` per register, bit 0 first.
    """
    bits = np.zeros((len(rows), shots, circuit.num_clbits), bool)
    columns = _columns(circuit)
    for part in _parts(circuit):
        if not part.reads:
            continue
        saved = part.circuit.copy()
        wires = [w for w, _ in part.reads]
        saved.save_probabilities(wires)
        drawn = np.empty((len(rows), shots), np.int64)
        for k, p in enumerate(_run(saved, columns, rows, "probabilities")):
            total = np.cumsum(np.asarray(p, float))
            drawn[k] = np.searchsorted(total / total[-1], rng.random(shots), side="right")
        for place, (_, clbit) in enumerate(part.reads):
            bits[:, :, clbit] = drawn >> place & 1
    return {
        register.name: bits[:, :, [circuit.find_bit(b).index for b in register]]
        for register in circuit.cregs
    }


def expectations(
    circuit: QuantumCircuit, rows: NDArray[np.float64], operators: list[SparsePauliOp]
) -> NDArray[np.float64]:
    """`(len(operators), N)` exact expectation values of operators on all qubits of the circuit."""
    columns, parts = _columns(circuit), _parts(circuit)
    used = [q for part in parts for q in part.qubits]
    values = np.zeros((len(operators), len(rows)))
    for index, operator in enumerate(operators):
        for label, coefficient in zip(
            operator.paulis.to_labels(), operator.coeffs.real, strict=True
        ):
            letters = label.lstrip("+-i")[::-1]
            if any(letters[q] in "XY" for q in range(circuit.num_qubits) if q not in used):
                continue  # zero on a qubit in its ground state; Z is one
            term = np.full(len(rows), float(coefficient))
            for part in parts:
                pauli = "".join(letters[q] for q in reversed(part.qubits))
                if set(pauli) != {"I"}:
                    saved = part.circuit.copy()
                    saved.save_expectation_value(SparsePauliOp(pauli), range(len(part.qubits)))
                    term = term * np.asarray(_run(saved, columns, rows, "expectation_value"), float)
            values[index] += term
    return values
