# SPDX-License-Identifier: Apache-2.0
"""Sizes and circuits that no builder accepts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import XGate
from qiskit.quantum_info import Clifford, Kraus, Operator

from qiskit_kd.circuits.checks import MAX_QUBITS, bare, check_layers, check_qubits, check_unitary
from qiskit_kd.errors import CircuitError, ResourceError


@pytest.mark.parametrize("bad", [0, -1, 2.0, "4", None, True])
def test_qubits_are_a_positive_integer(bad: object) -> None:
    with pytest.raises(
        CircuitError, match=r"a thing needs a whole number of qubits; got .*1 or more"
    ):
        check_qubits(bad, part="a thing")  # type: ignore[arg-type]


def test_qubits_are_bounded() -> None:
    check_qubits(MAX_QUBITS, part="a thing")
    check_qubits(np.int64(3), part="a thing")  # type: ignore[arg-type]
    with pytest.raises(ResourceError, match=r"31 qubits would not fit.*at most 30 qubits"):
        check_qubits(31, part="a thing")
    with pytest.raises(CircuitError, match="2 or more"):
        check_qubits(1, least=2, part="a thing")


@pytest.mark.parametrize("bad", [0, -3, 1.5, "two", False])
def test_layers_are_a_positive_integer(bad: object) -> None:
    with pytest.raises(CircuitError, match="a thing needs a whole number of layers; got"):
        check_layers(bad, part="a thing")  # type: ignore[arg-type]


def _measure(circuit: QuantumCircuit) -> None:
    circuit.measure(1, 0)


def _hidden_measure(circuit: QuantumCircuit) -> None:
    inner = QuantumCircuit(1, 1)
    inner.measure(0, 0)
    circuit.append(inner.to_instruction(), [1], [0])


def _hidden_reset(circuit: QuantumCircuit) -> None:
    inner = QuantumCircuit(1)
    inner.reset(0)
    circuit.append(inner.to_instruction(), [1])


def _branch(circuit: QuantumCircuit) -> None:
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)


def _channel(circuit: QuantumCircuit) -> None:
    circuit.append(Kraus([np.eye(2) * 0.6, np.eye(2) * 0.8]).to_instruction(), [1])


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (_measure, "measure"),
        (_hidden_measure, "circuit"),
        (_hidden_reset, "circuit"),
        (_branch, "if_else"),
        (_channel, "kraus"),
        (lambda circuit: circuit.reset(1), "reset"),
        (lambda circuit: circuit.initialize([1, 0], 1), "initialize"),
    ],
)
def test_what_is_not_unitary_is_named(
    spoil: Callable[[QuantumCircuit], None], name: str
) -> None:  # fmt: skip
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    spoil(circuit)
    with pytest.raises(CircuitError, match=rf"a part is unitary.*got '{name}.*on qubits \[.*1.*\]"):
        check_unitary(circuit, part="a part")


def test_what_is_unitary_passes() -> None:
    inner = QuantumCircuit(2, name="inner")
    inner.rx(Parameter("a"), 0)
    inner.cx(0, 1)
    circuit = QuantumCircuit(3, 2)
    circuit.append(inner.to_gate(), [0, 1])
    circuit.append(inner.to_instruction(), [2, 0])
    circuit.append(Clifford(XGate()), [1])
    circuit.append(XGate().control(2), [0, 1, 2])
    circuit.unitary(np.eye(2), [0])
    circuit.barrier()
    circuit.delay(10, 0)
    check_unitary(circuit, part="a part")


def test_bare_drops_classical_bits_and_nothing_else() -> None:
    angle = Parameter("a")
    circuit = QuantumCircuit(3, 2, name="mine", global_phase=angle, metadata={"k": 1})
    circuit.rx(2 * angle, 2)
    circuit.cx(2, 0)
    plain = bare(circuit)
    assert (plain.num_clbits, plain.name, plain.metadata) == (0, "mine", {"k": 1})
    assert plain.num_qubits == 3
    assert list(plain.parameters) == [angle]
    assert Operator(plain.assign_parameters([0.3])) == Operator(circuit.assign_parameters([0.3]))


def test_a_clifford_becomes_an_instruction_with_parameters() -> None:
    inner = QuantumCircuit(2)
    inner.h(0)
    inner.cx(0, 1)
    circuit = QuantumCircuit(3)
    circuit.append(Clifford(inner), [2, 0])
    plain = bare(circuit)
    assert plain.data[0].operation.params == []
    assert Operator(plain) == Operator(circuit)
