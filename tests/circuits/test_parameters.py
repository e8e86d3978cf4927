# SPDX-License-Identifier: Apache-2.0
"""Names, order and identity of parameters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector

from qiskit_kd.circuits.parameters import input_parameters, rename, weight_parameters
from qiskit_kd.errors import CircuitError


@given(inputs=st.integers(1, 130), weights=st.integers(1, 1100))
def test_names_sort_as_inputs_then_weights_in_order(inputs: int, weights: int) -> None:
    names = [p.name for p in (*input_parameters(inputs), *weight_parameters(weights))]
    assert names == sorted(names)
    assert len(set(names)) == inputs + weights
    assert all(name.isidentifier() for name in names)


def test_the_same_name_is_the_same_parameter() -> None:
    assert weight_parameters(3) == weight_parameters(3)
    assert weight_parameters(2)[1].uuid == weight_parameters(5)[1].uuid
    assert input_parameters(1)[0].uuid == input_parameters(1)[0].uuid
    assert weight_parameters(2, start=3)[0].name == "weight_003"


def test_rename_keeps_the_order_of_a_long_vector() -> None:
    vector = ParameterVector("theta", 12)
    circuit = QuantumCircuit(1)
    for element in vector:
        circuit.rx(element, 0)
    renamed = rename(circuit, weight_parameters(12))
    assert [item.operation.params[0].name for item in renamed.data] == [
        f"weight_{k:03d}" for k in range(12)
    ]


def test_rename_survives_names_that_are_already_ours() -> None:
    first, second = Parameter("input_00"), Parameter("weight_000")  # other objects, our names
    circuit = QuantumCircuit(1, global_phase=second)
    circuit.rx(first, 0)
    circuit.ry(first + 2 * second, 0)
    renamed = rename(circuit, weight_parameters(2))
    assert list(renamed.parameters) == weight_parameters(2)
    value = renamed.assign_parameters([0.25, 0.5])
    assert [float(item.operation.params[0]) for item in value.data] == [0.25, 1.25]
    assert float(value.global_phase) == 0.5


def test_rename_wants_one_name_per_parameter() -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("a"), 0)
    with pytest.raises(CircuitError, match="one name per parameter; got 2 names; expected 1"):
        rename(circuit, weight_parameters(2))
