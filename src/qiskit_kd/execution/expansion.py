# SPDX-License-Identifier: Apache-2.0
"""Every gate occurrence gets a parameter of its own: the circuit that gradients are planned on.

A weight may enter many gates, with coefficients, and a shift rule holds for a gate, not for a
weight. In the expanded circuit each angle of each gate is one *slot*; weights and inputs become
slots by a (mostly linear) map, and gradients of slots return through its transpose. One expanded
circuit serves forward runs, shifts of weights and shifts of inputs, so it is transpiled once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import AnnotatedOperation, ParameterExpression
from qiskit.circuit.library import standard_gates as gates
from qiskit.exceptions import QiskitError
from scipy.sparse import csc_array, csr_array

from qiskit_kd.circuits.checks import is_inert
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.parameters import input_parameters, rename, weight_parameters
from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.transpiling import inlined, with_angles

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class AngleMap:
    """Parameters of a circuit, in order, to the expression in each slot, and the transpose."""

    parameters: tuple[Any, ...]
    expressions: tuple[ParameterExpression, ...]

    @cached_property
    def _parts(self) -> tuple[csr_array, NDArray[np.float64], dict[int, dict[int, Any]]]:
        """Coefficients `(slots, parameters)`, constants, and derivatives of curved slots."""
        column = {p: k for k, p in enumerate(self.parameters)}
        rows, columns, values = [], [], []
        constants = np.zeros(len(self.expressions))
        curved: dict[int, dict[int, Any]] = {}
        for slot, expression in enumerate(self.expressions):
            slopes = {column[p]: expression.gradient(p) for p in expression.parameters}
            if any(isinstance(slope, ParameterExpression) for slope in slopes.values()):
                curved[slot] = slopes
                continue
            rows += [slot] * len(slopes)
            columns += list(slopes)
            values += [real(slope) for slope in slopes.values()]
            constants[slot] = real(expression.bind(dict.fromkeys(expression.parameters, 0.0)))
        shape = (len(self.expressions), len(self.parameters))
        return csr_array((values, (rows, columns)), shape=shape), constants, curved

    @cached_property
    def _transposed(self) -> csc_array:
        return self._parts[0].T

    def __call__(self, values: Floats) -> NDArray[np.float64]:
        """`(..., parameters)` to `(..., slots)`."""
        matrix, constants, curved = self._parts
        flat = _rows(values)
        slots = np.asarray((matrix @ flat.T).T) + constants
        for slot in curved:
            slots[:, slot] = self._at(self.expressions[slot], flat)
        return slots.reshape(*np.shape(values)[:-1], len(self.expressions))

    def pullback(self, values: Floats, gradient: Floats) -> NDArray[np.float64]:
        """Gradient of the slots `(..., slots)` at `values` to that of the parameters."""
        curved = self._parts[2]
        slots = _rows(gradient)
        result = np.asarray((self._transposed @ slots.T).T)
        for slot, slopes in curved.items():
            for column, slope in slopes.items():
                result[:, column] += slots[:, slot] * self._at(slope, _rows(values))
        return result.reshape(np.shape(values))

    def _at(self, expression: Any, rows: Floats) -> NDArray[np.float64]:
        """An expression at every row of all parameters."""
        if not isinstance(expression, ParameterExpression):
            return np.full(len(rows), real(expression))
        own = [(k, p) for k, p in enumerate(self.parameters) if p in expression.parameters]
        free, found = [p for _, p in own], []
        for row in rows[:, [k for k, _ in own]].tolist():
            try:
                found.append(real(expression.bind(dict(zip(free, row, strict=True)))))
            except (ArithmeticError, RuntimeError, TypeError, ValueError, QiskitError) as error:
                at = ", ".join(sorted(f"{p.name} = {v:g}" for p, v in zip(free, row, strict=True)))
                raise CircuitError(
                    "angles of gates and their derivatives are finite real numbers",
                    got=f"{expression} at {at}",
                    remedy="Use an expression that is smooth for all real values of its "
                    "parameters.",
                ) from error
        return np.array(found)


def _rows(values: Floats) -> NDArray[np.float64]:
    # Not reshape(-1, ...): an axis may be empty, where every weight is a global phase.
    array = np.asarray(values, float)
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def real(value: Any) -> float:
    """A finite real coefficient; Qiskit gives it as complex now and then."""
    number = complex(value)
    if not math.isfinite(number.real) or not abs(number.imag) <= 1e-9 * max(1.0, abs(number)):
        raise ValueError(f"{number} is no finite real number")
    return number.real


Frequencies = tuple[float, ...]

_ONE: Frequencies = (1.0,)
_HALF: Frequencies = (0.5, 1.0)  # generators with eigenvalues -1/2, 0, 1/2
_TWO: Frequencies = (1.0, 2.0)  # a basis change and its inverse by the same angle

FREQUENCIES: dict[type, tuple[Frequencies, ...]] = {
    **dict.fromkeys(
        (
            gates.RXGate,
            gates.RYGate,
            gates.RZGate,
            gates.PhaseGate,
            gates.U1Gate,
            gates.RXXGate,
            gates.RYYGate,
            gates.RZZGate,
            gates.RZXGate,
            gates.CPhaseGate,
            gates.CU1Gate,
            gates.MCPhaseGate,
        ),
        (_ONE,),
    ),
    **dict.fromkeys((gates.CRXGate, gates.CRYGate, gates.CRZGate), (_HALF,)),
    gates.U2Gate: (_ONE, _ONE),
    gates.UGate: (_ONE, _ONE, _ONE),
    gates.U3Gate: (_ONE, _ONE, _ONE),
    gates.CUGate: (_HALF, _ONE, _ONE, _ONE),
    gates.CU3Gate: (_HALF, _ONE, _ONE),
    gates.RGate: (_ONE, _TWO),
    gates.XXPlusYYGate: (_HALF, _TWO),
    gates.XXMinusYYGate: (_HALF, _TWO),
}
"""Angular frequencies of an expectation value as a function of each angle of a gate: differences
of the eigenvalues of its generator (Wierichs et al., arXiv:2107.12390, section 2)."""


@dataclass(frozen=True, eq=False)
class Expanded:
    """A circuit with one parameter per slot, in the order of its gates.

    Args:
        circuit: The expanded circuit; `circuit.parameters` are the slots in order.
        angles: Original parameters to slots.
        frequencies: Angular frequencies of each slot.
    """

    circuit: QuantumCircuit
    angles: AngleMap
    frequencies: tuple[Frequencies, ...]

    @property
    def num_slots(self) -> int:
        """Number of gate angles that depend on a parameter."""
        return len(self.frequencies)


def expand(circuit: QuantumCircuit) -> Expanded:
    """Give every parametrised angle of every gate its own parameter.

    Parametrised gates outside `FREQUENCIES` are replaced by their definitions, down to gates inside
    it, and gates of no Qiskit class by theirs, whatever their names (see `inlined`).

    Raises:
        CircuitError: If a parametrised gate has neither known frequencies nor a definition.
    """
    leaves = list(_leaves(inlined(circuit), list(range(circuit.num_qubits))))
    count = sum(isinstance(v, ParameterExpression) for gate, _ in leaves for v in gate.params)
    slots = iter(weight_parameters(count) if count else [])
    whole = QuantumCircuit(circuit.num_qubits, name="expanded")
    expressions: list[ParameterExpression] = []
    frequencies: list[Frequencies] = []
    for gate, qubits in leaves:
        angles = list(gate.params)
        for index, angle in enumerate(angles):
            if isinstance(angle, ParameterExpression):
                angles[index] = next(slots)
                expressions.append(angle)
                frequencies.append(FREQUENCIES[gate.base_class][index])
        whole.append(with_angles(gate, angles), qubits)
    return Expanded(
        whole, AngleMap(tuple(circuit.parameters), tuple(expressions)), tuple(frequencies)
    )


def _leaves(circuit: QuantumCircuit, places: Sequence[int]) -> Iterator[tuple[Any, list[int]]]:
    """The gates of `circuit` on `places`, those with unknown angles replaced by definitions."""
    for item in circuit.data:
        gate = item.operation
        qubits = [places[circuit.find_bit(q).index] for q in item.qubits]
        free = any(isinstance(v, ParameterExpression) for v in gate.params)
        if not free or getattr(gate, "base_class", None) in FREQUENCIES:
            yield gate, qubits
        elif is_inert(gate):  # a global phase, or a delay of free duration
            continue
        else:
            yield from _leaves(inlined(_definition(gate)), qubits)


def _definition(gate: Any) -> QuantumCircuit:
    problem: object = "no definition"
    try:
        if isinstance(gate, AnnotatedOperation):
            alone = QuantumCircuit(gate.num_qubits)
            alone.append(gate, range(gate.num_qubits))
            return transpile(alone, basis_gates=["u", "p", "cx"], optimization_level=0)
        if gate.definition is not None:
            return gate.definition
    except Exception as error:  # Qiskit's own classes raise several kinds
        problem = str(error).strip("\"'")
    raise CircuitError(
        "a shift rule needs gates with known frequencies or a definition",
        got=f"{gate.name!r}: {problem}",
        expected=f"one of {', '.join(sorted(c.__name__ for c in FREQUENCIES))}, or gates made of"
        " them",
        remedy="Write the gate as a circuit of those.",
    )


@dataclass(frozen=True, eq=False)
class Expansion:
    """A circuit model whose gates all have parameters of their own.

    Where data and weights mix, every slot is an input slot, a function of angles and weights side
    by side, and there are no weight slots: each sample has a row of its own for every setting.
    """

    model: CircuitModel

    @property
    def mixed(self) -> bool:
        """Whether data and weights mix."""
        return self.model.encoding.mixed

    @cached_property
    def encoding(self) -> Expanded:
        """The encoding, expanded once (it may be repeated); the whole circuit where mixed."""
        if self.mixed:
            return expand(self.model.circuit)
        return expand(rename(self.model.encoding.circuit, self.model.inputs))

    @cached_property
    def ansatz(self) -> Expanded:
        """The ansatz, expanded once (it may be repeated)."""
        return expand(QuantumCircuit(self.model.num_qubits) if self.mixed else self.model.ansatz)

    @cached_property
    def input_frequencies(self) -> tuple[Frequencies, ...]:
        """Of the slots that are shifted for a gradient of the features; empty for other slots."""
        return self._of(slice(None, self.model.num_inputs)) or (
            self.encoding.frequencies * self.layers
        )

    @cached_property
    def weight_frequencies(self) -> tuple[Frequencies, ...]:
        """Of the slots that are shifted for a gradient of the weights; empty for other slots."""
        return self._of(slice(self.model.num_inputs, None)) or (
            self.ansatz.frequencies * self.layers
        )

    def _of(self, parameters: slice) -> tuple[Frequencies, ...]:
        """Where all is mixed, the frequencies of slots that depend on some of the parameters."""
        if not self.mixed:
            return ()
        wanted, angles = set(self.encoding.angles.parameters[parameters]), self.encoding.angles
        return tuple(
            w if wanted & set(expression.parameters) else ()
            for w, expression in zip(self.encoding.frequencies, angles.expressions, strict=True)
        )

    @cached_property
    def layers(self) -> int:
        """How often encoding and ansatz alternate."""
        return self.model.encoding.layers

    @cached_property
    def num_inputs(self) -> int:
        """Input slots of the whole circuit."""
        return self.encoding.num_slots * self.layers

    @cached_property
    def num_weights(self) -> int:
        """Weight slots of the whole circuit."""
        return self.ansatz.num_slots * self.layers

    @cached_property
    def circuit(self) -> QuantumCircuit:
        """The whole circuit, unmeasured; its parameters are input slots, then weight slots."""
        return self._whole(seams=False)

    @cached_property
    def circuit_with_seams(self) -> QuantumCircuit:
        """The same with a barrier wherever data and weights meet, across which nothing cancels."""
        return self._whole(seams=True)

    def _whole(self, *, seams: bool) -> QuantumCircuit:
        inputs = input_parameters(self.num_inputs) if self.num_inputs else []
        weights = weight_parameters(self.num_weights) if self.num_weights else []
        each_in, each_w = self.encoding.num_slots, self.ansatz.num_slots
        whole = QuantumCircuit(self.model.num_qubits, name="expanded")
        for k in range(self.layers):
            encode = rename(self.encoding.circuit, inputs[k * each_in : (k + 1) * each_in])
            block = rename(self.ansatz.circuit, weights[k * each_w : (k + 1) * each_w])
            for piece in (encode, block):
                if seams and whole.data:
                    whole.barrier()
                whole.compose(piece, inplace=True)
        return whole

    def columns(self, circuit: QuantumCircuit) -> list[tuple[Any, int]]:
        """Each parameter of a compiled form of `circuit` with its column in rows of slots.

        Compilation may drop parameters: those that cannot move the outputs.
        """
        return [(p, self._column[p.name]) for p in circuit.parameters]

    @cached_property
    def _column(self) -> dict[str, int]:
        return {p.name: k for k, p in enumerate(self.circuit.parameters)}

    def input_slots(self, angles: Floats) -> NDArray[np.float64]:
        """`(..., num_inputs of the model)` encoding angles to `(..., num_inputs)` slots.

        Where all is mixed, the weights follow the angles.
        """
        once = self.encoding.angles(angles)
        return np.tile(once, self.layers)

    def input_pullback(self, angles: Floats, gradient: Floats) -> NDArray[np.float64]:
        """Gradient of the input slots to that of the encoding angles."""
        split = gradient.reshape(*gradient.shape[:-1], self.layers, self.encoding.num_slots)
        return self.encoding.angles.pullback(angles, split.sum(-2))

    def weight_slots(self, weights: Floats) -> NDArray[np.float64]:
        """`(..., num_weights of the model)` to `(..., num_weights)` slots."""
        once = self.ansatz.angles(self._split(weights))
        return once.reshape(*np.shape(weights)[:-1], self.num_weights)

    def weight_pullback(self, weights: Floats, gradient: Floats) -> NDArray[np.float64]:
        """Gradient of the weight slots to that of the weights."""
        split = gradient.reshape(*gradient.shape[:-1], self.layers, self.ansatz.num_slots)
        return self.ansatz.angles.pullback(self._split(weights), split).reshape(np.shape(weights))

    def _split(self, weights: Floats) -> NDArray[np.float64]:
        each = int(self.model.ansatz.num_parameters)
        return np.asarray(weights, float).reshape(*np.shape(weights)[:-1], self.layers, each)


@lru_cache(maxsize=64)
def expansion_of(model: CircuitModel) -> Expansion:
    """The expansion of a model, the same for all engines of this process."""
    return Expansion(model)
