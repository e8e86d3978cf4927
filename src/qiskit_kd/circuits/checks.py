# SPDX-License-Identifier: Apache-2.0
"""What every circuit builder of this room refuses, said once.

Sizes that make no sense, sizes no simulator holds, and circuits that are not unitary. This module
must not import torch.
"""

from __future__ import annotations

from numbers import Integral

from qiskit import QuantumCircuit
from qiskit.circuit import AnnotatedOperation, Barrier, ControlFlowOp, Delay, Gate, Operation
from qiskit.circuit.library import GlobalPhaseGate, IGate
from qiskit.quantum_info import Clifford

from qiskit_kd.errors import CircuitError, ResourceError

__all__ = ["MAX_QUBITS", "bare", "check_layers", "check_qubits", "check_unitary", "is_inert"]

_INERT = (Barrier, Delay, IGate, GlobalPhaseGate)

MAX_QUBITS = 30
"""A state vector of 30 qubits takes 16 GiB; engines refuse earlier, by the memory they find."""


def check_qubits(num_qubits: int, *, least: int = 1, most: int = MAX_QUBITS, part: str) -> None:
    """Refuse a number of qubits outside `least..most`.

    Args:
        num_qubits: The number asked for.
        least: Fewest qubits that `part` makes sense on.
        most: Most qubits that `part` can be built on.
        part: What is being built, for the message.

    Raises:
        CircuitError: If the number is no integer or below `least`.
        ResourceError: If it is above `most`.
    """
    if not isinstance(num_qubits, Integral) or isinstance(num_qubits, bool) or num_qubits < least:
        raise CircuitError(
            f"{part} needs a whole number of qubits", got=repr(num_qubits),
            expected=f"{least} or more",
        )  # fmt: skip
    if num_qubits > most:
        raise ResourceError(
            f"{part} on {num_qubits} qubits would not fit in memory",
            got=f"2**{num_qubits} amplitudes", expected=f"at most {most} qubits",
            remedy="Reduce the number of qubits, for instance by reducing the features first.",
        )  # fmt: skip


def check_layers(layers: int, *, part: str) -> None:
    """Refuse fewer than one layer.

    Raises:
        CircuitError: If the number is no integer or below 1.
    """
    if not isinstance(layers, Integral) or isinstance(layers, bool) or layers < 1:
        raise CircuitError(
            f"{part} needs a whole number of layers", got=repr(layers), expected="1 or more"
        )


def is_inert(operation: Operation) -> bool:
    """Whether an operation does nothing that a simulation sees: barrier, delay, identity, phase.

    By class, not by name: a user's own gate may be called "barrier" and do something.
    """
    return getattr(operation, "base_class", type(operation)) in _INERT


def check_unitary(circuit: QuantumCircuit, *, part: str) -> None:
    """Refuse measurements, resets, channels and control flow, at any depth of definitions.

    Args:
        circuit: The circuit to look at; barriers and delays pass.
        part: What the circuit is used as, with its article, for the message.

    Raises:
        CircuitError: If an instruction is not unitary; its name and qubits are given.
    """
    for item in circuit.data:
        if not _is_unitary(item.operation):
            raise CircuitError(
                f"{part} is unitary: no mid-circuit measurement, reset or control flow",
                got=f"{item.operation.name!r} on qubits "
                f"{[circuit.find_bit(q).index for q in item.qubits]}",
                remedy="Remove it; measurements are added by the readout.",
            )


def _is_unitary(operation: Operation) -> bool:
    if isinstance(operation, Gate | Clifford | AnnotatedOperation):
        return True
    if is_inert(operation):
        return True
    if isinstance(operation, ControlFlowOp) or operation.num_clbits:
        return False
    # A circuit turned into an instruction is as unitary as what it is made of; what has no
    # definition (measure, reset, Kraus channels) is not.
    inner = getattr(operation, "definition", None)
    return inner is not None and all(_is_unitary(item.operation) for item in inner.data)


def bare(circuit: QuantumCircuit) -> QuantumCircuit:
    """The same gates, phase and parameters on plain qubits: no classical bits, no registers.

    What is no instruction (a Clifford) becomes one, so that every operation has `params`.
    """
    plain = QuantumCircuit(
        circuit.num_qubits, name=circuit.name, global_phase=circuit.global_phase,
        metadata=circuit.metadata,
    )  # fmt: skip
    for item in circuit.data:
        operation = item.operation
        if not hasattr(operation, "params") and hasattr(operation, "to_instruction"):
            operation = operation.to_instruction()
        plain.append(operation, [circuit.find_bit(q).index for q in item.qubits])
    return plain
