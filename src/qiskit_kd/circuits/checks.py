# SPDX-License-Identifier: Apache-2.0
"""What every circuit builder of this room refuses, said once.

Sizes that make no sense, sizes no simulator holds, circuits that are not unitary, gates that nobody
knows and angles that cannot be learned. This module must not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import (
    AnnotatedOperation,
    Barrier,
    ControlFlowOp,
    Delay,
    Gate,
    Operation,
    Parameter,
    ParameterExpression,
)
from qiskit.circuit.library import (
    GlobalPhaseGate,
    IGate,
    PauliEvolutionGate,
    get_standard_gate_name_mapping,
)
from qiskit.quantum_info import Clifford

from qiskit_kd.errors import CircuitError, ResourceError
from qiskit_kd.values import whole

_INERT = (Barrier, Delay, IGate, GlobalPhaseGate)

# Where expressions are evaluated: the first parameter, and how much further each next one is.
_TRIED = ((-2.7, 0.37), (-1.1, -1.9), (0.0, 0.0), (0.6, -0.6), (2.9, -0.37))

_MOST_GATES = 50_000  # in definitions

MAX_LAYERS = 10_000
"""A circuit of so many layers takes minutes to build, and no device holds it."""
MAX_QUBITS = 30
"""A state vector of 30 qubits takes 16 GiB; engines refuse earlier, by the memory they find."""


def check_qubits(num_qubits: int, *, least: int = 1, most: int = MAX_QUBITS, part: str) -> int:
    """The number of qubits as Python's int; one outside `least..most` is refused."""
    num_qubits = whole(
        num_qubits, f"{part} needs a whole number of qubits", least=least, error=CircuitError
    )
    if num_qubits > most:
        raise ResourceError(
            f"{part} on {num_qubits} qubits would not fit in memory",
            got=f"2**{num_qubits} amplitudes",
            expected=f"at most {most} qubits",
            remedy="Reduce the number of qubits, for instance by reducing the features first.",
        )
    return num_qubits


def check_layers(layers: int, *, part: str) -> int:
    """The number of layers as Python's int; one outside `1..MAX_LAYERS` is refused."""
    rule = f"{part} needs a whole number of layers"
    return whole(layers, rule, least=1, most=MAX_LAYERS, error=CircuitError)


def is_inert(operation: Operation) -> bool:
    """Whether an operation does nothing that a simulation sees: barrier, delay, identity, phase.

    By class, not by name: a user's own gate may be called "barrier" and do something.
    """
    return getattr(operation, "base_class", type(operation)) in _INERT


def check_unitary(circuit: QuantumCircuit, *, part: str) -> None:
    """Refuse what is not unitary, unknown gates and unfit angles, at any depth of definitions.

    Raises:
        CircuitError: If an instruction measures, resets, branches or is a channel; if a gate has
            neither a matrix nor a definition; if an angle's expression is not real or has no
            derivative everywhere. Its name and qubits are given.
        ResourceError: If definitions of definitions come to too many gates.
    """
    gates = iter(range(_MOST_GATES))
    for item in circuit.data:
        operation = item.operation
        where = f"on qubits {[circuit.find_bit(q).index for q in item.qubits]}"
        if not _is_unitary(operation):
            raise CircuitError(
                f"{part} is unitary: no mid-circuit measurement, reset or control flow",
                got=f"{operation.name!r} {where}",
                remedy="Remove it; measurements are added by the readout.",
            )
        if (obstacle := _obstacle(operation, gates)) is not None:
            raise CircuitError(
                f"{part} is made of gates that are known, at angles that can be learned",
                got=f"{operation.name!r} {where}: {obstacle[0]}",
                remedy=obstacle[1],
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


@cache
def _standard() -> frozenset[type]:
    return frozenset(gate.base_class for gate in get_standard_gate_name_mapping().values())


def is_standard(operation: Any) -> bool:
    """Whether an operation is a gate of Qiskit's standard library: all its angles are smooth."""
    return getattr(operation, "base_class", None) in _standard()


def of_the_library(operation: Any) -> bool:
    """Whether an operation is of one of Qiskit's own gate classes, standard or not."""
    kind = getattr(operation, "base_class", type(operation))
    return is_standard(operation) or str(kind.__module__).startswith("qiskit.circuit.library")


def _obstacle(operation: Any, gates: Iterator[int]) -> tuple[str, str] | None:
    """Why no engine can run an operation or learn its angles, and what to do; None if all can."""
    if isinstance(operation, AnnotatedOperation):
        return _obstacle(operation.base_op, gates)
    if is_inert(operation) or isinstance(operation, Clifford):
        return None
    free = [value for value in operation.params if isinstance(value, ParameterExpression)]
    for angle in free:
        if not isinstance(angle, Parameter) and (fault := _fault(angle)) is not None:
            return fault, "Use an expression that is smooth for all real values of its parameters."
    fixed = not free and hasattr(operation, "__array__")
    if is_standard(operation) or (fixed and of_the_library(operation)):
        return None
    problem: object = "it has neither a matrix nor a definition"
    try:
        inner = operation.definition
    except Exception as error:  # Qiskit's own classes raise several kinds
        inner, problem = None, str(error).strip("\"'")
    if inner is None:
        if fixed:
            return None
        remedy = "Write it as a circuit of standard gates, exp(-iHt) as a PauliEvolutionGate."
        return str(problem), remedy
    for item in inner.data:
        if next(gates, None) is None:
            raise ResourceError(
                "a circuit is one that can be run",
                got=f"more than {_MOST_GATES:,} gates in definitions of gates",
                remedy="Look for gates that are defined by each other, level upon level.",
            )
        if (obstacle := _obstacle(item.operation, gates)) is not None:
            return obstacle
    return None


def _fault(angle: ParameterExpression) -> str | None:
    """Where an expression, or a derivative of it, is no real number."""
    parameters = sorted(angle.parameters, key=lambda p: str(p.name))
    forms = {str(angle): angle}
    for parameter in parameters:
        try:
            forms[f"the derivative of {angle} by {parameter.name}"] = angle.gradient(parameter)
        except Exception:  # of several kinds
            return f"{angle} has no derivative by {parameter.name}"
    for start, step in _TRIED:
        at = {p: start + k * step for k, p in enumerate(parameters)}
        for name, form in forms.items():
            try:
                value = complex(
                    form.bind({p: at[p] for p in form.parameters})
                    if isinstance(form, ParameterExpression)
                    else form
                )
            except Exception:  # of several kinds: poles, NaN
                value = complex(math.nan)
            if not (math.isfinite(value.real) and abs(value.imag) < 1e-9):
                point = ", ".join(f"{p.name} = {v:g}" for p, v in at.items())
                return f"{name} is no real number at {point}"
    return None


def bare(circuit: QuantumCircuit, *, part: str = "a circuit") -> QuantumCircuit:
    """The same gates, phase and parameters on plain qubits: no classical bits, no registers.

    A transpiled circuit comes back on the qubits it had before: qubit k is where the transpiler's
    layout put it, and at the end returns from where routing left it. What is no instruction (a
    Clifford) becomes one, so that every operation has `params`; a `PauliEvolutionGate` becomes its
    product formula, which is what devices run: simulators would take the exact exponential.

    Raises:
        CircuitError: If a transpiled circuit uses qubits that it did not have before.
    """
    start = end = list(range(circuit.num_qubits))
    if circuit.layout is not None:
        start, end = circuit.layout.initial_index_layout(True), circuit.layout.final_index_layout()
    wire = {place: k for k, place in enumerate(start)}
    plain = QuantumCircuit(
        len(start), name=circuit.name, global_phase=circuit.global_phase, metadata=circuit.metadata
    )
    beside = set(end) - set(start)
    for item in circuit.data:
        operation, places = item.operation, [circuit.find_bit(q).index for q in item.qubits]
        if is_inert(operation) and not wire.keys() >= set(places):
            places = [place for place in places if place in wire]
            if not places:
                continue
            operation = Barrier(len(places))
        beside |= set(places) - wire.keys()
        if beside:
            continue
        if not hasattr(operation, "params") and hasattr(operation, "to_instruction"):
            operation = operation.to_instruction()
        if isinstance(operation, PauliEvolutionGate):
            plain.compose(operation.definition, [wire[place] for place in places], inplace=True)
            continue
        plain.append(operation, [wire[place] for place in places])
    if beside:
        raise CircuitError(
            f"{part} that was transpiled keeps to the qubits it had before",
            got=f"gates on physical qubits {sorted(beside)} beside {start}",
            remedy="Give the circuit as it was before: every engine transpiles for its own device.",
        )
    lies = [wire[place] for place in end]
    for k in range(len(lies)):
        if lies[k] != k:
            plain.swap(k, lies[k])
            lies[lies.index(k)], lies[k] = lies[k], k
    return plain
