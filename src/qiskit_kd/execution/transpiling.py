# SPDX-License-Identifier: Apache-2.0
"""Circuits as Qiskit's transpiler wants them, and how large they have become.

Transpiler passes know gates by name, multiply angles symbolically, and add up one global phase over
all gates. The first makes a sub-circuit called "x" an X; the others let a pass run for hours over
two dozen U gates (Qiskit 2.6). Every pass manager of this package is a `CarefulPassManager`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import (
    AnnotatedOperation,
    ControlFlowOp,
    ControlledGate,
    Gate,
    Instruction,
    Parameter,
    ParameterExpression,
)
from qiskit.circuit.library import (
    GlobalPhaseGate,
    PauliEvolutionGate,
    UnitaryGate,
    get_standard_gate_name_mapping,
)
from qiskit.circuit.library import standard_gates as gates
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Operator
from qiskit.transpiler import StagedPassManager, Target

from qiskit_kd.errors import QiskitKDError

_FEW = 8  # phases whose sum takes Qiskit less than a second


class CarefulPassManager(StagedPassManager):  # type: ignore[misc]
    """A pass manager that does what another does, on circuits made ready for it.

    Gates of no Qiskit class are replaced by their definitions. Where an angle is a formula, or many
    gates with free angles add to the global phase, passes see a parameter in place of each formula,
    and the result equals the circuit up to a global phase.
    """

    def __init__(self, manager: StagedPassManager) -> None:
        super().__init__(manager.stages)
        for stage in manager.expanded_stages:
            if getattr(manager, stage, None) is not None:
                setattr(self, stage, getattr(manager, stage))

    def run(self, circuits: Any, *args: Any, **options: Any) -> Any:
        """See `PassManager.run`."""
        if not isinstance(circuits, QuantumCircuit):
            return [self.run(circuit, *args, **options) for circuit in circuits]
        ready, meant = _ready(circuits)
        made = super().run(ready, *args, **options)
        return made.assign_parameters(meant, strict=False) if meant else made


def _ready(circuit: QuantumCircuit) -> tuple[QuantumCircuit, dict[Parameter, Any]]:
    """The circuit that passes are to see, and the formulas that its stand-ins mean."""
    circuit = inlined(circuit)
    free = list(_free_angles(circuit))
    long = any(not _is_affine(angle) for _, angle in free)
    if not long and sum(kind in _PHASED for kind, _ in free) <= _FEW:
        return circuit, {}
    meant: dict[Parameter, Any] = {}
    return _without_phases(_stood_in(circuit, meant)), meant


def inlined(circuit: QuantumCircuit) -> QuantumCircuit:
    """`circuit` with every gate of no class of Qiskit's own replaced by its definition; or itself.

    Simulators and transpiler passes know gates by name, so a user's sub-circuit called "x" or "id"
    would be run as X or as nothing. Gates without a definition become their matrix; what has
    neither stays. A `PauliEvolutionGate` is its definition too, the product formula that Aer and
    devices run: as a matrix it would be the exact exponential, another gate where terms do not
    commute.
    """
    if not any(_is_touched(item.operation) for item in circuit.data):
        return circuit
    whole = circuit.copy_empty_like()
    for item in circuit.data:
        operation = item.operation
        if isinstance(operation, ControlFlowOp):
            operation = operation.replace_blocks([inlined(block) for block in operation.blocks])
        elif isinstance(operation, AnnotatedOperation):
            operation = _annotated(operation)
        elif (inner := _inside(operation)) is not None:
            whole.compose(inlined(inner), item.qubits, item.clbits, inplace=True, copy=False)
            continue
        whole.append(operation, item.qubits, item.clbits)
    return whole


def _is_touched(operation: Any) -> bool:
    if isinstance(operation, ControlFlowOp):
        return any(_is_touched(item.operation) for b in operation.blocks for item in b.data)
    if isinstance(operation, AnnotatedOperation):
        return _is_touched(operation.base_op)
    return _is_foreign(operation)


def _is_foreign(operation: Any) -> bool:
    if not isinstance(operation, Instruction):
        return False
    kind = operation.base_class
    if kind in (Instruction, Gate, ControlledGate) or not kind.__module__.startswith("qiskit."):
        return True
    if issubclass(kind, PauliEvolutionGate):
        return True
    standard = _standard().get(operation.name)
    return standard is not None and not issubclass(kind, standard)


@cache
def _standard() -> dict[str, type]:
    return {name: gate.base_class for name, gate in get_standard_gate_name_mapping().items()}


def _inside(operation: Any) -> QuantumCircuit | None:
    """What a foreign operation does, as a circuit; None for Qiskit's own and for the unknown."""
    if not _is_foreign(operation):
        return None
    if operation.definition is not None:
        return operation.definition
    if not isinstance(operation, Gate):
        return None
    try:
        matrix = UnitaryGate(Operator(operation))
    except QiskitError:
        return None
    inner = QuantumCircuit(operation.num_qubits)
    inner.append(matrix, inner.qubits)
    return inner


def _annotated(operation: AnnotatedOperation) -> AnnotatedOperation:
    base = operation.base_op
    if isinstance(base, AnnotatedOperation):
        return AnnotatedOperation(_annotated(base), operation.modifiers)
    inner = _inside(base)
    if inner is None:
        return operation
    gate = inlined(inner).to_gate()
    gate.name = f"inlined_{base.name}"  # no name that anything knows
    return AnnotatedOperation(gate, operation.modifiers)


def _free_angles(circuit: QuantumCircuit) -> Iterator[tuple[Any, ParameterExpression]]:
    """Every free angle, with the class of its gate."""
    for item in circuit.data:
        for inner in _circuits_in(item.operation):
            yield from _free_angles(inner)
        operation = _base(item.operation)
        for angle in getattr(operation, "params", ()):
            if isinstance(angle, ParameterExpression):
                yield getattr(operation, "base_class", None), angle


def _base(operation: Any) -> Any:
    while isinstance(operation, AnnotatedOperation):
        operation = operation.base_op
    return operation


def _circuits_in(operation: Any) -> list[QuantumCircuit]:
    """Blocks of control flow; the definition of a gate of no known class below modifiers."""
    if isinstance(operation, ControlFlowOp):
        return list(operation.blocks)
    base = _base(operation)
    return [base.definition] if base is not operation and type(base) is Gate else []


def _is_free(gate: Any) -> bool:
    return any(isinstance(angle, ParameterExpression) for angle in gate.params)


def _is_affine(angle: ParameterExpression) -> bool:
    """Whether it is a multiple of one parameter, plus a number."""
    found = list(angle.parameters)
    return len(found) == 1 and not isinstance(angle.gradient(found[0]), ParameterExpression)


def _stood_in(circuit: QuantumCircuit, meant: dict[Parameter, Any]) -> QuantumCircuit:
    """The circuit with a parameter of its own in place of each formula, added to `meant`."""
    whole = circuit.copy_empty_like()
    whole.global_phase = _named(circuit.global_phase, meant)
    for item in circuit.data:
        found = _short(item.operation, meant)
        if isinstance(found, QuantumCircuit):
            whole.compose(found, item.qubits, item.clbits, inplace=True, copy=False)
        else:
            whole.append(found, item.qubits, item.clbits)
    return whole


def _short(operation: Any, meant: dict[Parameter, Any]) -> Any:
    """The operation, or a circuit equal to it, without formulas."""
    if isinstance(operation, ControlFlowOp):
        return operation.replace_blocks([_stood_in(block, meant) for block in operation.blocks])
    if isinstance(operation, AnnotatedOperation):
        base = _short(operation.base_op, meant)
        if isinstance(base, QuantumCircuit):
            base = base.to_gate()
            base.name = f"short_{operation.base_op.name}"  # no name that anything knows
        return AnnotatedOperation(base, operation.modifiers)
    angles = list(getattr(operation, "params", ()))
    if all(angle is _named(angle, {}) for angle in angles) and type(operation) is not Gate:
        return operation
    kind = operation.base_class
    if isinstance(operation, Gate) and kind in (gates.MCPhaseGate, _standard().get(operation.name)):
        return with_angles(operation, [_named(angle, meant) for angle in angles])
    return _stood_in(operation.definition, meant) if operation.definition else operation


def _named(angle: Any, meant: dict[Parameter, Any]) -> Any:
    if not isinstance(angle, ParameterExpression) or _is_affine(angle):
        return angle
    name = Parameter(f"angle_{len(meant):04d}")
    meant[name] = angle
    return name


def with_angles(gate: Any, angles: Sequence[Any]) -> Any:
    """A gate of Qiskit's own with other angles; `gate` itself where none is free."""
    if not _is_free(gate):
        return gate
    options = {} if getattr(gate, "ctrl_state", None) is None else {"ctrl_state": gate.ctrl_state}
    if gate.base_class is gates.MCPhaseGate:
        return gates.MCPhaseGate(angles[0], gate.num_ctrl_qubits, **options)
    return gate.base_class(*angles, **options)


def _without_phases(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit up to its global phase, with rotations in place of gates that add to it.

    The transpiler adds up a phase for every such gate as one formula; after some thirty of them
    Qiskit takes minutes for each.
    """
    whole = circuit.copy_empty_like()
    whole.global_phase = 0
    for item in circuit.data:
        gate, qubits = item.operation, item.qubits
        kind = getattr(gate, "base_class", None)
        if isinstance(gate, ControlFlowOp):
            blocks = [_without_phases(block) for block in gate.blocks]
            whole.append(gate.replace_blocks(blocks), qubits, item.clbits)
        elif isinstance(gate, AnnotatedOperation):
            whole.compose(_without_modifiers(gate), qubits, inplace=True)
        elif kind is GlobalPhaseGate:
            continue
        elif kind not in _PHASED or not _is_free(gate):
            whole.append(gate, qubits, item.clbits)
        elif kind in (gates.PhaseGate, gates.U1Gate):
            whole.rz(gate.params[0], qubits)
        elif kind in (gates.UGate, gates.U3Gate, gates.U2Gate):
            *turn, phi, lam = gate.params
            whole.rz(lam, qubits)
            whole.ry(turn[0] if turn else np.pi / 2, qubits)
            whole.rz(phi, qubits)
        else:
            whole.compose(_without_phases(gate.definition), qubits, inplace=True)
    return whole


def _without_modifiers(gate: AnnotatedOperation) -> QuantumCircuit:
    alone = QuantumCircuit(gate.num_qubits)
    alone.append(gate, alone.qubits)
    if not alone.parameters:
        return alone
    return _without_phases(transpile(alone, basis_gates=["u", "p", "cx"], optimization_level=0))


_PHASED = frozenset(
    {
        gates.PhaseGate,
        gates.U1Gate,
        gates.UGate,
        gates.U3Gate,
        gates.U2Gate,
        gates.CPhaseGate,
        gates.CU1Gate,
        gates.CUGate,
        gates.CU3Gate,
        gates.MCPhaseGate,
        gates.MCU1Gate,
    }
)


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
        device,
        len(depth),
        count,
        double,
        max(depth.values(), default=0),
        max(pairs.values(), default=0),
        max(ready.values(), default=0.0) if timed else None,
    )


def check_width(num_qubits: int, *, most: int, device: str, error: type[QiskitKDError]) -> None:
    """Refuse a circuit of more qubits than a device has, with an `error`."""
    if num_qubits > most:
        raise error(
            "a circuit is no wider than the device",
            got=f"{num_qubits} qubits",
            expected=f"at most the {most} of {device!r}",
            remedy="Use fewer qubits or a larger device.",
        )
