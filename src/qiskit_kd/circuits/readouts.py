# SPDX-License-Identifier: Apache-2.0
"""What is read from a measured circuit: class groups of basis states, or expectation values.

Bit order is Qiskit's: qubit 0 is the least significant bit of a basis state's index and the
rightmost letter of a Pauli string. No dictionaries of bitstrings anywhere: a readout that is
diagonal in the Z basis is one matrix, applied to a distribution by a product and to counts by one
`bincount`. This module must not import torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from qiskit.quantum_info import Pauli, SparsePauliOp

from qiskit_kd.circuits.checks import check_qubits
from qiskit_kd.errors import CircuitError
from qiskit_kd.values import listed, python_number, shown

SCHEMES = ("modulo", "contiguous")
_NAMED = " or ".join(map(repr, SCHEMES))


@dataclass(frozen=True)
class ClassGroups:
    """A partition of the basis states into classes; the outputs are class probabilities.

    Summing basis-state probabilities into classes makes a fully quantum student's output a
    distribution over classes (slides, "C2Q KD: how is the distillation performed").

    Args:
        num_classes: Number of classes, at least 2.
        num_qubits: Qubits of the circuit that is read.
        scheme: `"modulo"` (state k belongs to class k mod C), `"contiguous"` (C runs of nearly
            equal length), or one class per basis state of the measured qubits (a sequence of
            `2**len(qubits)` integers that uses every class). Where C is a power of two, modulo
            reads the lowest log2(C) qubits only and contiguous the highest: choose the end of the
            ansatz's chain, or more weights than need be are dead (see `dead_weights`).
        qubits: The measured qubits, lowest bit first; the others are summed over ("selective
            measurement"). None measures all.
    """

    num_classes: int
    num_qubits: int
    scheme: str | Sequence[int] = "modulo"
    qubits: tuple[int, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_qubits", check_qubits(self.num_qubits, part="a readout"))
        object.__setattr__(self, "num_classes", python_number(self.num_classes))
        if not isinstance(self.scheme, str):
            groups = _integers(
                self.scheme,
                "class groups are a scheme or one class per basis state",
                expected=f"{_NAMED} or a list of integers",
            )
            object.__setattr__(self, "scheme", groups)
        if self.qubits is not None:
            qubits = _integers(
                self.qubits, "measured qubits are listed", expected="a list of integers, or None"
            )
            object.__setattr__(self, "qubits", qubits)
        qubits, states = self.measured_qubits, 2 ** len(self.measured_qubits)
        if len(set(qubits)) < len(qubits) or not set(qubits) <= set(range(self.num_qubits)):
            raise CircuitError(
                "measured qubits are distinct qubits of the circuit",
                got=str(list(qubits)),
                expected=f"distinct indices in 0..{self.num_qubits - 1}",
            )
        number = isinstance(self.num_classes, int) and not isinstance(self.num_classes, bool)
        if not number or self.num_classes < 2:
            raise CircuitError(
                "a readout distinguishes at least two classes",
                got=f"num_classes={self.num_classes!r}",
                expected="2 or more",
                remedy="Check the labels: a single class cannot be learned.",
            )
        if self.num_classes > states:
            raise CircuitError(
                "every class needs at least one basis state",
                got=f"{self.num_classes} classes for {states} basis states of {len(qubits)} qubits",
                expected=f"at most {states} classes",
                remedy=f"Use at least {int(np.ceil(np.log2(self.num_classes)))} measured qubits.",
            )
        if isinstance(self.scheme, str):
            if self.scheme not in SCHEMES:
                near = difflib.get_close_matches(self.scheme, SCHEMES, n=1, cutoff=0.5)
                raise CircuitError(
                    "unknown grouping scheme",
                    got=repr(self.scheme),
                    expected=f"{_NAMED}, or one class per basis state",
                    remedy=f"Did you mean {near[0]!r}?" if near else None,
                )
        elif len(self.scheme) != states or set(self.scheme) != set(range(self.num_classes)):
            missing = sorted(set(range(self.num_classes)) - set(self.scheme))
            foreign = sorted(set(self.scheme) - set(range(self.num_classes)))
            raise CircuitError(
                "class groups partition the basis states",
                got=f"{len(self.scheme)} entries, missing classes {missing}, "
                f"foreign classes {foreign}",
                expected=f"{states} entries that use each of 0..{self.num_classes - 1}",
            )

    @property
    def measured_qubits(self) -> tuple[int, ...]:
        """The qubits that are read, lowest bit of the outcome first."""
        return tuple(range(self.num_qubits)) if self.qubits is None else self.qubits

    @property
    def num_outputs(self) -> int:
        """Number of class probabilities."""
        return self.num_classes

    @property
    def is_diagonal(self) -> bool:
        """Always true: the outputs are functions of Z-basis outcomes."""
        return True

    @cached_property
    def outcome_labels(self) -> NDArray[np.intp]:
        """`(2**measured,)` class of each outcome of the measured qubits."""
        outcome = np.arange(2 ** len(self.measured_qubits))
        if not isinstance(self.scheme, str):
            return np.asarray(self.scheme, dtype=np.intp)
        if self.scheme == "modulo":
            return (outcome % self.num_classes).astype(np.intp)
        return (outcome * self.num_classes // len(outcome)).astype(np.intp)

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """`(2**num_qubits,)` class of each basis state of the whole circuit."""
        state = np.arange(2**self.num_qubits)
        outcome = sum(
            (((state >> q) & 1) << k for k, q in enumerate(self.measured_qubits)),
            start=np.zeros_like(state),
        )
        return self.outcome_labels[outcome]

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """`(2**num_qubits, num_classes)`: outputs = probabilities @ matrix."""
        return np.eye(self.num_classes)[self.labels]

    def of_probabilities(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(..., 2**num_qubits)` distribution to `(..., num_classes)`."""
        return probabilities @ self.matrix

    def of_outcomes(self, outcomes: NDArray[np.integer]) -> NDArray[np.float64]:
        """`(..., shots)` indices of sampled basis states to `(..., num_classes)` frequencies."""
        return _frequencies(self.labels[outcomes], self.num_classes)


@dataclass(frozen=True)
class Observables:
    """Expectation values of Hermitian operators.

    Args:
        operators: Pauli strings such as `"ZII"` (rightmost letter: qubit 0) or `SparsePauliOp`s,
            all on the same number of qubits.

    Raises:
        CircuitError: If the list is empty, a string is no Pauli, widths differ or a coefficient is
            not a real, finite number.
    """

    operators: tuple[SparsePauliOp, ...]

    def __init__(self, operators: Sequence[str | Pauli | SparsePauliOp]) -> None:
        if isinstance(operators, str | Pauli | SparsePauliOp):
            # A string is a sequence too: "ZII" would silently become three one-qubit operators.
            raise CircuitError(
                "a readout takes a list of observables",
                got=repr(operators),
                remedy=f"Write [{operators!r}].",
            )
        single = getattr(operators, "shape", None) == ()  # an array that is a number
        if single or not isinstance(operators, Iterable) or isinstance(operators, bytes | Mapping):
            raise CircuitError(
                "a readout takes a list of observables",
                got=shown(operators),
                remedy='For example Observables(["ZII"]).',
            )
        operators = list(operators)
        if not operators:
            raise CircuitError("a readout has at least one observable", got="none")
        parsed = []
        for item in operators:
            try:
                parsed.append(SparsePauliOp(item))
                if parsed[-1].num_qubits == 0:
                    raise ValueError("no qubits")
            except Exception as error:
                raise CircuitError(
                    "an observable is a Pauli string or a SparsePauliOp",
                    got=repr(item),
                    expected="letters I, X, Y, Z, one per qubit",
                ) from error
        widths = sorted({op.num_qubits for op in parsed})
        if len(widths) > 1:
            raise CircuitError(
                "all observables act on the same number of qubits",
                got=f"widths {widths}",
                expected="one width",
                remedy="Pad with I.",
            )
        for op in parsed:
            if op.coeffs.dtype == object or not np.isfinite(op.coeffs).all():
                raise CircuitError(
                    "coefficients of observables are finite numbers",
                    got=str(op.coeffs.tolist()),
                    remedy="Bind their parameters; only circuits have trainable weights."
                    if op.coeffs.dtype == object
                    else None,
                )
            if np.abs(op.coeffs.imag).max(initial=0) > 1e-12:
                raise CircuitError("observables are Hermitian", got=f"coefficients {op.coeffs}")
        object.__setattr__(self, "operators", tuple(parsed))

    @property
    def num_qubits(self) -> int:
        """Qubits each observable acts on."""
        return int(self.operators[0].num_qubits)

    @property
    def num_outputs(self) -> int:
        """Number of expectation values."""
        return len(self.operators)

    @property
    def is_diagonal(self) -> bool:
        """Whether every operator is diagonal in the Z basis (only I and Z)."""
        return not any(op.paulis.x.any() for op in self.operators)

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """`(2**num_qubits, num_outputs)` eigenvalues of diagonal observables.

        Raises:
            CircuitError: If an operator is not diagonal.
        """
        if not self.is_diagonal:
            raise CircuitError(
                "only diagonal observables can be read from Z-basis outcomes",
                got=", ".join(op.paulis.to_labels()[0] for op in self.operators),
                expected="letters I and Z",
                remedy="Use an engine that measures other bases.",
            )
        states = np.arange(2**self.num_qubits)
        columns = []
        for op in self.operators:
            column = np.zeros(len(states))
            for z, coeff in zip(op.paulis.z, op.coeffs.real, strict=True):
                mask = sum(1 << q for q in np.flatnonzero(z).tolist())
                column += coeff * (1.0 - 2.0 * (np.bitwise_count(states & mask) & 1))
            columns.append(column)
        return np.stack(columns, axis=1)

    def of_probabilities(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(..., 2**num_qubits)` distribution to `(..., num_outputs)`; diagonal only."""
        return probabilities @ self.matrix

    def of_outcomes(self, outcomes: NDArray[np.integer]) -> NDArray[np.float64]:
        """`(..., shots)` sampled basis states to `(..., num_outputs)` means; diagonal only."""
        means: NDArray[np.float64] = self.matrix[outcomes].mean(axis=-2)
        return means


Readout = ClassGroups | Observables


def _integers(values: object, rule: str, *, expected: str) -> tuple[int, ...]:
    """The values as plain integers; booleans, strings and fractions are refused, not rounded."""
    given = listed(values, rule, error=CircuitError, expected=expected)
    items = tuple(map(python_number, given))
    if any(not isinstance(v, int) or isinstance(v, bool) for v in items):
        raise CircuitError(rule, got=repr(values), expected=expected)
    return items


def _frequencies(labels: NDArray[np.intp], num_classes: int) -> NDArray[np.float64]:
    """`(..., shots)` labels to `(..., num_classes)` relative frequencies, by one `bincount`."""
    flat = labels.reshape(-1, labels.shape[-1])
    offset = np.arange(len(flat))[:, None] * num_classes
    counts = np.bincount((flat + offset).ravel(), minlength=len(flat) * num_classes)
    shares: NDArray[np.float64] = counts.reshape(*labels.shape[:-1], num_classes) / labels.shape[-1]
    return shares
