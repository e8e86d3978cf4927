# SPDX-License-Identifier: Apache-2.0
"""`CircuitFacts`: how large a circuit has become in the gates of a device."""

from __future__ import annotations

from dataclasses import dataclass

from qiskit import QuantumCircuit
from qiskit.transpiler import Target

from qiskit_kd.errors import QiskitKDError

__all__ = ["CircuitFacts", "check_width", "circuit_facts"]

_NO_GATES = ("barrier", "delay", "measure")


@dataclass(frozen=True)
class CircuitFacts:
    """Size of a transpiled circuit, readout left out.

    Args:
        device: Name of the device.
        qubits: Qubits that gates act on.
        gates: Gates, those without duration (changes of frame) included.
        two_qubit_gates: Gates on two qubits.
        depth: Longest chain of gates.
        two_qubit_depth: Longest chain of gates on two qubits.
        seconds: Duration as the device states that of its gates, each begun as early as possible;
            None where it does not.
    """

    device: str
    qubits: int
    gates: int
    two_qubit_gates: int
    depth: int
    two_qubit_depth: int
    seconds: float | None


def circuit_facts(circuit: QuantumCircuit, target: Target, *, device: str) -> CircuitFacts:
    """Measure a circuit that was transpiled to `target`."""
    depth: dict[int, int] = {}
    pairs: dict[int, int] = {}
    ready: dict[int, float] = {}
    count, double, timed = 0, 0, True
    for item in circuit.data:
        name = item.operation.name
        if name in _NO_GATES:
            continue
        qubits = tuple(circuit.find_bit(q).index for q in item.qubits)
        known = target[name].get(qubits) if name in target.operation_names else None
        duration = None if known is None else known.duration
        timed = timed and duration is not None
        end = max(ready.get(q, 0.0) for q in qubits) + (duration or 0.0)
        level = max(depth.get(q, 0) for q in qubits) + 1
        both = max(pairs.get(q, 0) for q in qubits) + (len(qubits) == 2)
        for q in qubits:
            ready[q], depth[q], pairs[q] = end, level, both
        count += 1
        double += len(qubits) == 2
    return CircuitFacts(
        device, len(depth), count, double, max(depth.values(), default=0),
        max(pairs.values(), default=0), max(ready.values(), default=0.0) if timed else None,
    )  # fmt: skip


def check_width(
    num_qubits: int, *, most: int, device: str, error: type[QiskitKDError]
) -> None:  # fmt: skip
    """Refuse a circuit of more qubits than a device has, with an `error`."""
    if num_qubits > most:
        raise error(
            "a circuit is no wider than the device", got=f"{num_qubits} qubits",
            expected=f"at most the {most} of {device!r}",
            remedy="Use fewer qubits or a larger device.",
        )  # fmt: skip
