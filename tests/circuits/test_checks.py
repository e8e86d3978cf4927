# SPDX-License-Identifier: Apache-2.0
"""Sizes and circuits that no builder accepts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Gate, Parameter
from qiskit.circuit.library import (
    HamiltonianGate,
    PauliEvolutionGate,
    PhaseGate,
    RXGate,
    RYGate,
    RZGate,
    UnitaryGate,
    XGate,
)
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import Clifford, Kraus, Operator, SparsePauliOp

from qiskit_kd.circuits.checks import MAX_QUBITS, bare, check_layers, check_qubits, check_unitary
from qiskit_kd.errors import CircuitError, ResourceError


def test_qubits_are_bounded() -> None:
    check_qubits(MAX_QUBITS, part="a thing")
    check_qubits(np.int64(3), part="a thing")  # type: ignore[arg-type]
    with pytest.raises(ResourceError, match=r"31 qubits would not fit.*at most 30 qubits"):
        check_qubits(31, part="a thing")
    with pytest.raises(CircuitError, match="2 or more"):
        check_qubits(1, least=2, part="a thing")


@pytest.mark.parametrize("bad", [0, -1, 2.0, "4", None, True])
def test_qubits_are_a_positive_integer(bad: object) -> None:
    with pytest.raises(
        CircuitError, match=r"a thing needs a whole number of qubits; got .*1 or more"
    ):
        check_qubits(bad, part="a thing")  # type: ignore[arg-type]


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


_ROUTED = (
    {"basis_gates": ["cx", "rz", "sx"], "initial_layout": [2, 0, 1]},
    {"basis_gates": ["cx", "rz", "sx"], "coupling_map": [[0, 1], [1, 2]]},
    {
        "basis_gates": ["cx", "u"],
        "coupling_map": [[0, 1], [1, 2], [2, 3], [3, 4]],
        "initial_layout": [3, 1, 2],
    },
    {"basis_gates": ["cx", "u"], "coupling_map": [[0, 1], [1, 2], [2, 3]], "optimization_level": 3},
    {"basis_gates": ["cx", "u"], "optimization_level": 3},  # takes swaps out, and says so
)


@pytest.mark.parametrize("routing", _ROUTED)
@pytest.mark.parametrize("seed", range(3))
def test_a_transpiled_circuit_acts_on_the_qubits_it_had(routing: dict, seed: int) -> None:
    circuit = random_circuit(3, 5, max_operands=2, seed=seed)
    circuit.rx(Parameter("a"), 0)
    circuit.swap(0, 2)
    circuit.barrier()
    circuit.crx(Parameter("b"), 0, 2)
    moved = bare(transpile(circuit, seed_transpiler=seed, **routing), part="an ansatz")
    assert moved.num_qubits == 3
    assert Operator(moved.assign_parameters([0.3, 0.7])).equiv(
        Operator(circuit.assign_parameters([0.3, 0.7]))
    )


def test_a_circuit_routed_through_other_qubits_is_refused() -> None:
    circuit = QuantumCircuit(2)
    circuit.cx(0, 1)
    moved = transpile(circuit, coupling_map=[[0, 1], [1, 2]], initial_layout=[0, 2])
    with pytest.raises(
        CircuitError, match=r"keeps to the qubits .*physical qubits \[1\] beside \[0, 2\].*before"
    ):
        bare(moved, part="an ansatz")


_A, _B = Parameter("a"), Parameter("b")
_HAMILTONIAN = [[0.0, 1.0], [1.0, 0.5]]


@pytest.mark.parametrize(
    ("gate", "match"),
    [
        (
            RXGate(_A**0.5),
            r"'rx' on qubits \[0\]: a\*\*0\.5 is no real number at a = -2\.7.*smooth",
        ),
        (RYGate(_A.sign()), r"sign\(a\) has no derivative by a"),
        (RZGate(_A.abs()), r"the derivative of abs\(a\) by a is no real number at a = 0"),
        (PhaseGate(_A.log()), r"log\(a\) is no real number"),
        (RXGate(_A.arcsin()), r"asin\(a\) is no real number"),
        (RXGate(1 / _A), "is no real number at a = 0"),
        (RXGate(_A / _B), r"is no real number at a = 0, b = 0"),
        (RXGate((_B - _A) ** 0.5), "is no real number"),
        (RXGate(abs(_B) * _A), r"the derivative of a\*abs\(b\) by . is no real number"),
        (RXGate(1j * _A), "is no real number"),
        (HamiltonianGate(_HAMILTONIAN, _A), "'hamiltonian'.*unbound t parameter a.*PauliEvolution"),
        (Gate("box", 1, []), "'box' .*neither a matrix nor a definition.*standard gates"),
        (Gate("box", 1, [_A]), "'box' .*neither a matrix nor a definition"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_no_engine_can_run_or_learn_is_named(gate: Gate, match: str, wrapped: bool) -> None:
    circuit = QuantumCircuit(2)
    circuit.append(gate, [0])
    if wrapped:
        whole = QuantumCircuit(2)
        whole.append(circuit.to_gate(), [0, 1])
        circuit, match = whole, match.split(": ")[-1].split("'")[-1]
    with pytest.raises(CircuitError, match=f"an ansatz is made of gates that are known.*{match}"):
        check_unitary(circuit, part="an ansatz")


@pytest.mark.parametrize(
    "gate",
    [
        RXGate(_A.sin() * 2), RXGate(2**_A), RXGate(_A**3 - _A / 2 + 1), RXGate(_A.arctan()),
        HamiltonianGate(_HAMILTONIAN, 0.3), UnitaryGate([[0, 1], [1, 0]]),
        PauliEvolutionGate(SparsePauliOp(["X", "Z"]), _A),
    ],
)  # fmt: skip
def test_smooth_expressions_and_known_gates_pass(gate: Gate) -> None:
    circuit = QuantumCircuit(1)
    circuit.append(gate, [0])
    check_unitary(circuit, part="an ansatz")
