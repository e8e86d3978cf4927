# SPDX-License-Identifier: Apache-2.0
"""Composition of a model, the order of its parameters, its errors, and that it is a value."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit import QuantumCircuit, QuantumRegister, transpile
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import Statevector

from qiskit_kd.circuits import (
    CircuitModel,
    ClassGroups,
    Encoding,
    Observables,
    amplitude,
    angle,
    ansatze,
    dense_angle,
    encodings,
    hardware_efficient,
    reuploading,
)
from qiskit_kd.circuits.parameters import input_parameters, rename, weight_parameters
from qiskit_kd.errors import CircuitError
from qiskit_kd.seeding import stream


def identity(x: np.ndarray) -> np.ndarray:
    return x


@pytest.mark.parametrize("encoding", sorted(encodings))
@pytest.mark.parametrize("ansatz", sorted(ansatze))
def test_composition(encoding: str, ansatz: str) -> None:
    model = CircuitModel(encodings[encoding](3), ansatze[ansatz](3, 1), ClassGroups(3, 3))
    repeats = model.encoding.layers
    parameters = (*model.inputs, *model.weights)
    assert tuple(model.circuit.parameters) == parameters
    assert [p.name for p in parameters] == sorted(p.name for p in parameters)
    assert (len(model.inputs), len(model.weights)) == (model.num_inputs, model.num_weights)
    assert model.num_weights == repeats * model.ansatz.num_parameters
    assert len(model.ansatz_blocks) == repeats
    assert (model.num_qubits, model.num_outputs) == (3, 3)
    assert model.num_features == model.encoding.num_features

    draw = stream(0, encoding, ansatz)
    x, weights = draw.normal(size=(1, model.num_features)), draw.normal(size=model.num_weights)
    angles = model.encoding.angles(x)[0]
    found = Statevector(model.circuit.assign_parameters(np.concatenate((angles, weights))))
    state = Statevector.from_label("000")
    for block in weights.reshape(repeats, -1):
        state = state.evolve(model.encoding.circuit.assign_parameters(angles))
        state = state.evolve(model.ansatz.assign_parameters(block))
    np.testing.assert_allclose(found.data, state.data, atol=1e-12)


def test_weights_of_a_users_vector_keep_its_order() -> None:
    vector = ParameterVector("theta", 12)
    ansatz = QuantumCircuit(QuantumRegister(1, "a"), QuantumRegister(1, "b"))
    for k, element in enumerate(vector):
        ansatz.rx(element, k % 2)
    model = CircuitModel(angle(2), ansatz, ClassGroups(2, 2))
    angles = [item.operation.params[0].name for item in model.circuit.data]
    assert angles == ["input_00", "input_01", *(f"weight_{k:03d}" for k in range(12))]


def _turns(names: list[str], **options: Any) -> list[float]:
    """Where the k-th angle of an encoding lands: the factor of the gate that it turns."""
    circuit = QuantumCircuit(1)
    gates = [Parameter(name) for name in names]
    for gate in gates:
        circuit.rx(gate, 0)
    encoding = Encoding("own", circuit, len(names), identity, **options)
    made = CircuitModel(encoding, hardware_efficient(1, 1), ClassGroups(2, 1)).circuit
    bound = made.assign_parameters(dict(zip(made.parameters, range(len(names)), strict=False)))
    return [item.operation.params[0] for item in bound.data if item.operation.name == "rx"][:-1]


@pytest.mark.parametrize("form", ["x{}", "x[{}]", "x_{}_a", "{}", "x_{:02d}"])
def test_numbered_inputs_come_as_a_person_counts(form: str) -> None:
    names = [form.format(k) for k in range(12)]
    assert _turns(names) == list(range(12))
    assert _turns(names[::-1]) == list(range(12))[::-1]
    assert _turns(names, inputs=names[::-1]) == list(range(12))[::-1]


def test_inputs_come_in_the_order_given() -> None:
    assert _turns(["a", "b", "c"]) == [0, 1, 2]
    assert _turns(["x₁", "x₂", "x₁₀"]) == [0, 1, 2]
    assert _turns(["b", "a"], inputs=["b", "a"]) == [0, 1]
    vector = ParameterVector("v", 12)
    circuit = QuantumCircuit(1)
    for element in vector:
        circuit.rx(element, 0)
    for order in (vector, [vector], list(vector), None):
        encoding = Encoding("own", circuit, 12, identity, inputs=order)
        assert [p.name for p in encoding.circuit.parameters] == [p.name for p in vector]


@pytest.mark.parametrize(
    "names", [["x1", "x01"], ["theta", "phi"], ["b2", "a1"], ["a10", "b1", "a9"]]
)
def test_names_that_leave_the_order_open_are_refused(names: list[str]) -> None:
    with pytest.raises(CircuitError, match=r"which feature each belongs to; .*inputs=\["):
        _turns(names)
    assert _turns(names, inputs=names) == list(range(len(names)))


@pytest.mark.parametrize("inputs", [["x0"], ["x0", "x0"], ["x0", "y"], [1, 2]])
def test_a_given_order_is_each_parameter_once(inputs: list[Any]) -> None:
    with pytest.raises(CircuitError, match=r"each parameter of the circuit once; got .*x0, x1"):
        _turns(["x0", "x1"], inputs=inputs)


def test_a_transpiled_ansatz_acts_on_the_qubits_it_had() -> None:
    ansatz = hardware_efficient(3, 2)
    moved = transpile(
        ansatz,
        basis_gates=["cx", "u"],
        coupling_map=[[0, 1], [1, 2], [2, 3]],
        initial_layout=[2, 1, 0],
    )
    weights = np.linspace(-2, 3, ansatz.num_parameters)
    states = [
        Statevector(
            CircuitModel(angle(3), part, ClassGroups(2, 3)).circuit.assign_parameters(
                np.concatenate(([0.3, -0.7, 1.1], weights))
            )
        )
        for part in (ansatz, moved)
    ]
    assert states[0].equiv(states[1])


def test_an_ansatz_may_use_our_own_names_and_have_classical_bits() -> None:
    ansatz = QuantumCircuit(2, 2)
    ansatz.rx(Parameter("input_00"), 0)
    ansatz.rx(Parameter("weight_000"), 1)
    model = CircuitModel(angle(2), ansatz, ClassGroups(2, 2))
    assert tuple(model.circuit.parameters) == (*model.inputs, *model.weights)
    assert model.circuit.num_clbits == 0


# --- a model is a value --------------------------------------------------------------------------


def test_later_changes_of_the_ansatz_do_not_reach_the_model() -> None:
    ansatz = hardware_efficient(2, 1)
    model = CircuitModel(angle(2), ansatz, ClassGroups(2, 2))
    ansatz.rx(Parameter("later"), 0)
    assert model.num_weights == 5
    assert model.circuit.num_parameters == 7


@pytest.mark.parametrize("readout", [ClassGroups(3, 4), Observables(["ZIII", "XXII"])])
@pytest.mark.parametrize("encoding", sorted(encodings))
def test_pickle(encoding: str, readout: ClassGroups | Observables) -> None:
    model = CircuitModel(encodings[encoding](4), hardware_efficient(4, 1), readout)
    fresh = pickle.dumps(model)
    _ = model.circuit, model.weights, model.inputs, model.ansatz_blocks
    copied = pickle.loads(pickle.dumps(model))
    assert len(pickle.dumps(model)) == len(fresh)  # caches stay behind
    assert copied.circuit == model.circuit
    assert copied.readout == readout
    assert copied.weights == model.weights
    x = stream(0, encoding).normal(size=(2, model.num_features))
    np.testing.assert_array_equal(copied.encoding.angles(x), model.encoding.angles(x))


def test_copies_are_the_model_itself() -> None:
    model = CircuitModel(amplitude(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    assert copy.copy(model) is model
    assert copy.deepcopy([model])[0] is model


def test_later_changes_of_the_encodings_circuit_reach_neither_encoding_nor_model() -> None:
    circuit = QuantumCircuit(QuantumRegister(1, "mine"))
    circuit.ry(Parameter("a"), 0)
    encoding = Encoding("mine", circuit, 1, identity)
    model = CircuitModel(encoding, hardware_efficient(1, 1), ClassGroups(2, 1))
    circuit.x(0)
    assert encoding.circuit.count_ops() == {"ry": 1}
    assert model.circuit.count_ops() == {"ry": 1, "rz": 1, "rx": 1}


def test_the_encoding_circuit_is_the_beginning_of_the_whole() -> None:
    model = CircuitModel(dense_angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    encode, whole = model.encoding_circuit, model.circuit
    assert tuple(encode.parameters) == model.inputs
    assert list(whole.data[: len(encode.data)]) == list(encode.data)


# --- errors --------------------------------------------------------------------------------------


def test_widths_agree() -> None:
    with pytest.raises(
        CircuitError, match="same qubits; got encoding: 2, ansatz: 3, readout: 4; expected one"
    ):
        CircuitModel(angle(2), hardware_efficient(3, 1), ClassGroups(2, 4))


def test_an_ansatz_has_weights() -> None:
    fixed = QuantumCircuit(2)
    fixed.h(0)
    with pytest.raises(CircuitError, match=r"at least one trainable weight.*circuit\.Parameter"):
        CircuitModel(angle(2), fixed, ClassGroups(2, 2))


def test_an_ansatz_does_not_measure() -> None:
    ansatz = QuantumCircuit(2, 1)
    ansatz.rx(Parameter("a"), 0)
    ansatz.measure(1, 0)
    with pytest.raises(CircuitError, match=r"an ansatz is unitary.*'measure' on qubits \[1\]"):
        CircuitModel(angle(2), ansatz, ClassGroups(2, 2))


def test_an_encoding_does_not_measure() -> None:
    circuit = angle(1).circuit.copy()
    circuit.reset(0)
    with pytest.raises(CircuitError, match=r"an encoding is unitary.*got 'reset' on qubits \[0\]"):
        Encoding("mine", circuit, 1, identity)


def test_an_encoding_has_angles() -> None:
    with pytest.raises(CircuitError, match="an encoding has at least one angle; got a circuit"):
        Encoding("mine", QuantumCircuit(1), 1, identity)


@pytest.mark.parametrize(
    ("features", "layers"), [(0, 1), (1, 0), ("1", 1), (1, None), (True, 1), (1.0, 1)]
)
def test_an_encoding_takes_features(features: Any, layers: Any) -> None:
    with pytest.raises(CircuitError, match=f"got num_features={features!r}, layers={layers!r}"):
        Encoding("mine", angle(1).circuit, features, identity, layers=layers)


def test_the_angle_map_fits_the_circuit() -> None:
    broken = Encoding("mine", dense_angle(2).circuit, 2, identity)
    with pytest.raises(CircuitError, match=r"'mine' gives one angle.*\(3, 2\); expected \(3, 4\)"):
        broken.angles(np.ones((3, 2)))


def test_an_encoding_that_normalises_refuses_zero() -> None:
    assert Encoding("mine", angle(1).circuit, 1, identity, is_amplitude=True).zero_is_undefined
    assert not Encoding("amplitude-like", angle(1).circuit, 1, identity).zero_is_undefined


def test_reuploading_composes_encoding_and_fresh_weights_in_turn() -> None:
    model = CircuitModel(reuploading(1, 3), hardware_efficient(1, 1), ClassGroups(2, 1))
    angles = [item.operation.params[0].name for item in model.circuit.data]
    assert angles == [
        *("input_00", "weight_000", "weight_001"),
        *("input_00", "weight_002", "weight_003"),
        *("input_00", "weight_004", "weight_005"),
    ]


def test_parts_are_of_their_types() -> None:
    circuit, readout = hardware_efficient(2, 1), ClassGroups(2, 2)
    broken: list[tuple[tuple[Any, Any, Any], str]] = [
        (
            (angle(2).circuit, circuit, readout),
            r"encoding of a model is of the wrong type; got QuantumCircuit; expected Encoding\. "
            "Wrap a circuit of your own",
        ),
        ((angle(2), "real_amplitudes", readout), "ansatz of a model .* got str; expected Quantum"),
        ((angle(2), circuit, ["ZZ"]), "readout .* got list; expected ClassGroups or Observables$"),
    ]
    for parts, message in broken:
        with pytest.raises(CircuitError, match=message):
            CircuitModel(*parts)
    with pytest.raises(CircuitError, match="circuit of an encoding is of the wrong type; got str"):
        Encoding("mine", "angle", 1, identity)  # type: ignore[arg-type]


def test_gradients_reach_the_features_by_a_pullback_or_as_amplitudes() -> None:
    circuit = angle(1).circuit
    assert not Encoding("mine", circuit, 1, identity).is_differentiable
    assert Encoding("mine", circuit, 1, identity, is_amplitude=True).is_differentiable
    assert angle(1).is_differentiable


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
