# SPDX-License-Identifier: Apache-2.0
"""Any Qiskit circuit as a sequence of three kinds of operation: RY, diagonal, permutation.

  * RX(t) = S^dag RY(t) S, H = RY(pi/2) Z, U(t, f, l) = P(f) RY(t) P(l): every one-qubit gate is
    diagonals around a real rotation;
  * controlled and two-qubit rotations are diagonal in a rotated frame: CRX = H CRZ H on the target;
  * fixed gates are recognised by their matrix (diagonal, permutation with phases, one qubit);
  * everything else is opened up by its Qiskit definition, at last by Qiskit's own synthesis.

Global phases are dropped: no probability or expectation value sees them. Bit order is Qiskit's:
within a gate the first qubit is the lowest bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Operation, ParameterExpression
from qiskit.circuit.library import UnitaryGate, get_standard_gate_name_mapping
from qiskit.quantum_info import Operator
from qiskit.synthesis import OneQubitEulerDecomposer

from qiskit_kd.circuits.checks import is_inert
from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.transpiling import inlined

Angle: TypeAlias = "ParameterExpression | float"
PI = float(np.pi)
HALF = (-0.5, 0.5)  # generator of RZ: exp(i angle * HALF)
PHASE = (0.0, 1.0)
_ATOL = 1e-12
_MATRIX_QUBITS = 6  # wider fixed gates are opened up instead of building their matrix


@dataclass(frozen=True, slots=True)
class RotationY:
    """RY(angle) on a qubit."""

    angle: Angle
    qubit: int


@dataclass(frozen=True, slots=True)
class Diagonal:
    """exp(i angle * generator[k]) on local basis state k of `qubits` (first qubit lowest)."""

    angle: Angle
    generator: tuple[float, ...]
    qubits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Permutation:
    """New local amplitude k is old local amplitude `source[k]`."""

    source: tuple[int, ...]
    qubits: tuple[int, ...]


Item = RotationY | Diagonal | Permutation


def lower(circuit: QuantumCircuit) -> Iterator[Item]:
    """Yield the operations of `circuit` in order.

    Raises:
        CircuitError: If an instruction is not unitary, e.g. a measurement.
    """
    circuit = inlined(circuit)
    for instruction in circuit.data:
        qubits = tuple(circuit.find_bit(q).index for q in instruction.qubits)
        yield from _gate(instruction.operation, qubits)


def _gate(gate: Operation, qubits: tuple[int, ...]) -> Iterator[Item]:
    name = gate.name
    if is_inert(gate):
        return
    standard = _is_standard(gate)
    if standard and name in _RULES:
        yield from _RULES[name](gate.params, qubits)
        return
    if name in ("measure", "reset", "initialize") or hasattr(gate, "blocks"):
        raise CircuitError(
            "only unitary circuits can be simulated exactly",
            got=f"{name!r} on qubits {list(qubits)}",
            expected="gates",
            remedy="Remove measurements, resets and control flow.",
        )
    matrix = _fixed_matrix(gate)
    if matrix is not None:
        done = _from_matrix(matrix, qubits)
        if done is not None:
            yield from done
            return
    yield from _open_up(gate, qubits)


def _is_standard(gate: Operation) -> bool:
    """Guard against a user's own gate that happens to be called "rx"."""
    known = _standard_gates().get(gate.name)
    return known is not None and getattr(gate, "base_class", type(gate)) is known.base_class


@lru_cache(maxsize=1)
def _standard_gates() -> dict[str, Operation]:
    return dict(get_standard_gate_name_mapping())


def _fixed_matrix(gate: Operation) -> NDArray[np.complex128] | None:
    """Matrix of a gate without free parameters, None if it has some or is too wide."""
    if gate.num_qubits > _MATRIX_QUBITS or any(getattr(p, "parameters", ()) for p in gate.params):
        return None
    if getattr(gate, "definition", None) is not None and gate.definition.num_parameters:
        return None
    try:
        return np.asarray(Operator(gate).data)
    except Exception:  # no matrix and no way to one: the definition or synthesis will tell
        return None


def _from_matrix(matrix: NDArray[np.complex128], qubits: tuple[int, ...]) -> list[Item] | None:
    """Operations of a fixed unitary that is monomial (permutation with phases) or on one qubit."""
    source = np.abs(matrix).argmax(axis=1)
    entries = matrix[np.arange(len(matrix)), source]
    others = matrix.copy()
    others[np.arange(len(matrix)), source] = 0
    # The other entries, not the moduli of these: cos of a small angle is 1 long before sin is 0.
    if np.abs(others).max() < _ATOL and len(set(source.tolist())) == len(matrix):
        items: list[Item] = []
        if (source != np.arange(len(matrix))).any():
            items.append(Permutation(tuple(source.tolist()), qubits))
        if np.abs(entries - entries[0]).max() > _ATOL:
            phases = np.angle(entries / entries[0])
            items.append(Diagonal(1.0, tuple(phases.tolist()), qubits))
        return items
    if len(qubits) == 1:
        theta, phi, lam = OneQubitEulerDecomposer("ZYZ").angles(matrix)
        return [
            Diagonal(lam, HALF, qubits),
            RotationY(theta, qubits[0]),
            Diagonal(phi, HALF, qubits),
        ]
    return None


def _open_up(gate: Operation, qubits: tuple[int, ...]) -> Iterator[Item]:
    definition = getattr(gate, "definition", None)
    if definition is None:
        whole = QuantumCircuit(gate.num_qubits)
        whole.append(gate, range(gate.num_qubits))
        try:
            definition = transpile(whole, basis_gates=["u", "cx"], optimization_level=0)
        except Exception as error:
            raise CircuitError(
                "every gate has a matrix, a definition or a synthesis",
                got=f"{gate.name!r} on qubits {list(qubits)}: {error}",
                remedy="Give the gate a definition.",
            ) from error
    elif len(definition.data) == 1 and definition.data[0].operation == gate:
        definition = UnitaryGate(Operator(gate)).definition
    for instruction in definition.data:
        inner = tuple(qubits[definition.find_bit(q).index] for q in instruction.qubits)
        yield from _gate(instruction.operation, inner)


# --- rules for gates of the standard library -----------------------------------------------------


def _rz(a: Angle, q: int) -> Item:
    return Diagonal(a, HALF, (q,))


def _p(a: Angle, q: int) -> Item:
    return Diagonal(a, PHASE, (q,))


def _h(q: int) -> list[Item]:
    return [_p(PI, q), RotationY(PI / 2, q)]


def _rx(a: Angle, q: int) -> list[Item]:
    return [_p(PI / 2, q), RotationY(a, q), _p(-PI / 2, q)]


def _u(theta: Angle, phi: Angle, lam: Angle, q: int) -> list[Item]:
    return [_p(lam, q), RotationY(theta, q), _p(phi, q)]


def _cx(control: int, target: int) -> Item:
    return Permutation((0, 3, 2, 1), (control, target))


def _rzz(a: Angle, q: Sequence[int]) -> Item:
    return Diagonal(a, (-0.5, 0.5, 0.5, -0.5), (q[0], q[1]))


def _to_y(q: int) -> list[Item]:
    """Into the frame in which Y is diagonal; `_from_y` leads back."""
    return [_p(-PI / 2, q), *_h(q)]


def _from_y(q: int) -> list[Item]:
    return [*_h(q), _p(PI / 2, q)]


_RULES: dict[str, Callable[[Any, Any], list[Any]]] = {
    "rx": lambda p, q: _rx(p[0], q[0]),
    "ry": lambda p, q: [RotationY(p[0], q[0])],
    "rz": lambda p, q: [_rz(p[0], q[0])],
    "p": lambda p, q: [_p(p[0], q[0])],
    "u1": lambda p, q: [_p(p[0], q[0])],
    "u2": lambda p, q: _u(PI / 2, p[0], p[1], q[0]),
    "u": lambda p, q: _u(p[0], p[1], p[2], q[0]),
    "u3": lambda p, q: _u(p[0], p[1], p[2], q[0]),
    "r": lambda p, q: [_p(-p[1], q[0]), *_rx(p[0], q[0]), _p(p[1], q[0])],
    "h": lambda _, q: _h(q[0]),
    "cx": lambda _, q: [_cx(q[0], q[1])],
    "cp": lambda p, q: [Diagonal(p[0], (0.0, 0.0, 0.0, 1.0), tuple(q))],
    "cu1": lambda p, q: [Diagonal(p[0], (0.0, 0.0, 0.0, 1.0), tuple(q))],
    "crz": lambda p, q: [Diagonal(p[0], (0.0, -0.5, 0.0, 0.5), tuple(q))],
    "crx": lambda p, q: [*_h(q[1]), Diagonal(p[0], (0.0, -0.5, 0.0, 0.5), tuple(q)), *_h(q[1])],
    # Two rotations and two CX rather than a frame change: this form is real.
    "cry": lambda p, q: [
        RotationY(p[0] / 2, q[1]),
        _cx(q[0], q[1]),
        RotationY(-p[0] / 2, q[1]),
        _cx(q[0], q[1]),
    ],
    "rzz": lambda p, q: [_rzz(p[0], q)],
    "rxx": lambda p, q: [*_h(q[0]), *_h(q[1]), _rzz(p[0], q), *_h(q[0]), *_h(q[1])],
    "ryy": lambda p, q: [*_to_y(q[0]), *_to_y(q[1]), _rzz(p[0], q), *_from_y(q[0]), *_from_y(q[1])],
    "rzx": lambda p, q: [*_h(q[1]), _rzz(p[0], q), *_h(q[1])],
}
