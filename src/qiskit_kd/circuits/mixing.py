# SPDX-License-Identifier: Apache-2.0
"""Any parametrised circuit, read as data and weights: apart where they are, else as one circuit.

This module must not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qiskit_kd.circuits.checks import bare, check_unitary, is_inert, is_standard
from qiskit_kd.circuits.parameters import (
    feature_order,
    input_parameters,
    parameter_names,
    rename,
    weight_parameters,
)
from qiskit_kd.errors import CircuitError

_AMPLITUDES = "ParameterizedInitialize"  # of qiskit-machine-learning, which has no gates till bound


@dataclass(frozen=True)
class Parts:
    """A circuit in canonical parameter names."""

    num_features: int
    encoding: QuantumCircuit | None
    """The gates of the data, which all come first; None where data and weights mix."""
    ansatz: QuantumCircuit
    """What follows: the gates of the weights, or the whole circuit."""
    is_amplitude: bool = False
    """Whether the data are the amplitudes themselves."""


def unmeasured(circuit: QuantumCircuit) -> tuple[QuantumCircuit, dict[int, int]]:
    """The circuit without its last measurements, and the qubit that each classical bit holds.

    A measurement that a gate follows stays; barriers at the end go too.
    """
    kept: list[Any] = []
    later: set[Any] = set()
    read: dict[int, int] = {}
    for item in reversed(circuit.data):
        bits = {*item.qubits, *item.clbits}
        if item.operation.name in ("measure", "barrier") and later.isdisjoint(bits):
            for qubit, bit in zip(item.qubits, item.clbits, strict=False):
                place = circuit.find_bit(bit).index
                read.setdefault(place, circuit.find_bit(qubit).index)  # the last one counts
            continue
        if not is_inert(item.operation):
            later |= bits
        kept.append(item)
    rest = circuit.copy_empty_like()
    for item in reversed(kept):
        rest.append(item)
    return rest, read


def take_apart(circuit: QuantumCircuit, inputs: Any, weights: Any) -> Parts:
    """An unmeasured circuit as `CircuitModel.from_circuit` reads it.

    Raises:
        CircuitError: If a parameter is neither or both, or amplitudes are encoded in the middle.
    """
    if not any(item.operation.name == _AMPLITUDES for item in circuit.data):
        check_unitary(circuit, part="a circuit")  # before its classical bits are left out
    plain = bare(circuit)
    phase = {p.name for p in _free([plain.global_phase])}
    if phase:
        plain.global_phase = 0  # nobody sees it
    order, first = _order(plain, inputs, weights, phase)
    new = [*input_parameters(first), *weight_parameters(len(order) - first)] if order else []
    whole = _opened(rename(plain, new, order), set(new[:first]))
    if (rest := _without_amplitudes(whole, new[:first])) is not None:
        return Parts(first, None, rest, is_amplitude=True)
    encoding, ansatz = _split(whole, set(new[:first])) or (None, whole)
    return Parts(first, encoding, ansatz)


def _order(
    circuit: QuantumCircuit, inputs: Any, weights: Any, phase: Collection[str]
) -> tuple[list[Parameter], int]:
    """The circuit's parameters, inputs first, and the number of these.

    Features whose order is not given have that of `feature_order`, weights Qiskit's own, as those
    of every ansatz.
    """
    known = {p.name: p for p in circuit.parameters}
    rule = "the parameters of a circuit are its data and its weights"
    if inputs is None and weights is None:
        raise CircuitError(
            rule,
            got=f"{', '.join(known) or 'no parameters'}, and neither inputs nor weights",
            remedy="Say which are the data: from_circuit(circuit, inputs=[...], readout=...).",
        )
    given = [None if part is None else parameter_names(part, rule) for part in (inputs, weights)]
    named = {name for part in given for name in part or ()}
    first, then = ([n for n in known if n not in named] if part is None else part for part in given)
    if inputs is None:
        first = [p.name for p in feature_order(circuit, but=then)]
    faults = [
        f"{name!r} moves nothing but the global phase"
        if name in phase
        else f"{name!r} not in the circuit"
        for name in (*first, *then)
        if name not in known
    ]
    faults += [f"{name!r} in neither" for name in known if name not in {*first, *then}]
    both = {name for name in (*first, *then) if (*first, *then).count(name) > 1}
    faults += [f"{name!r} twice" for name in sorted(both)]
    if faults:
        raise CircuitError(
            f"{rule}, each named once",
            got="; ".join(faults[:5]) + (f"; {len(faults) - 5} more" if len(faults) > 5 else ""),
            expected=", ".join(known) or "a circuit with parameters",
            remedy="Split them: inputs=[...] and weights=[...].",
        )
    return [known[name] for name in (*first, *then)], len(first)


def _free(values: Iterable[Any]) -> set[Parameter]:
    return {p for value in values for p in getattr(value, "parameters", ())}


def _opened(circuit: QuantumCircuit, inputs: set[Parameter]) -> QuantumCircuit:
    """The circuit with boxes that hold both data and weights replaced by what they are made of."""
    whole = circuit.copy_empty_like()
    for item in circuit.data:
        operation = item.operation
        free = _free(operation.params)
        inner = None
        if free & inputs and free - inputs and not is_standard(operation):
            inner = operation.definition
        if inner is None:
            whole.append(item)
        else:
            whole.compose(_opened(inner, inputs), item.qubits, inplace=True)
    if _free([whole.global_phase]):
        whole.global_phase = 0  # of a box; nobody sees it, and it would count as a parameter
    return whole


def _split(
    circuit: QuantumCircuit, inputs: set[Parameter]
) -> tuple[QuantumCircuit, QuantumCircuit] | None:
    """What depends on data and comes first, and the rest; None where the rest needs data too."""
    data, learned = circuit.copy_empty_like(), circuit.copy_empty_like()
    touched: set[Any] = set()
    for item in circuit.data:
        free = _free(item.operation.params)
        if free <= inputs and touched.isdisjoint(item.qubits):
            data.append(item)
        elif free & inputs:
            return None
        else:
            learned.append(item)
            touched.update(item.qubits)
    return data, learned


def _without_amplitudes(
    circuit: QuantumCircuit, inputs: Sequence[Parameter]
) -> QuantumCircuit | None:
    """What follows qiskit-machine-learning's `RawFeatureVector`; None where there is none."""
    boxes = [item for item in circuit.data if item.operation.name == _AMPLITUDES]
    if not boxes:
        return None
    first = circuit.data[0]
    rest = circuit.copy_empty_like()
    for item in circuit.data[1:]:
        rest.append(item)
    alone = first is boxes[0] or first.operation is boxes[0].operation
    whole = list(first.qubits) == circuit.qubits and list(first.operation.params) == list(inputs)
    if (
        not alone
        or not whole
        or len(boxes) > 1
        or _free(v for item in rest.data for v in item.operation.params) & set(inputs)
    ):
        raise CircuitError(
            "a RawFeatureVector comes first, on all qubits, with the features in its own order",
            got=f"inputs {', '.join(p.name for p in inputs[:4])}, ... of a circuit of "
            f"{circuit.num_qubits} qubits",
            expected=f"{2**circuit.num_qubits} features, {int(math.log2(len(inputs) or 1))} qubits",
            remedy="Encode the data by angles where they enter more than once.",
        )
    return rest
