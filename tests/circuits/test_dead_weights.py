# SPDX-License-Identifier: Apache-2.0
"""Dead weights: found, against exact derivatives; shipped ansatze have the ones they state."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp, Statevector

from qiskit_kd.circuits import (
    CircuitModel,
    ClassGroups,
    DeadWeightsWarning,
    Encoding,
    Observables,
    amplitude,
    angle,
    ansatze,
    dead_weights,
    hardware_efficient,
    product,
    reuploading,
    strongly_entangling,
    su4_brickwork,
    warn_dead_weights,
)
from qiskit_kd.circuits.dead_weights import _evolve
from qiskit_kd.errors import ResourceError
from qiskit_kd.seeding import stream


def z_on(qubit: int, num_qubits: int) -> Observables:
    label = ["I"] * num_qubits
    label[num_qubits - 1 - qubit] = "Z"
    return Observables(["".join(label)])


@pytest.mark.parametrize("name", ["hardware_efficient", "real_amplitudes", "product"])
@pytest.mark.parametrize("num_qubits", [2, 4])
def test_these_ansatze_are_all_alive_under_class_groups(name: str, num_qubits: int) -> None:
    ansatz = ansatze[name](num_qubits, 2)
    model = CircuitModel(amplitude(num_qubits), ansatz, ClassGroups(3, num_qubits))
    assert warn_dead_weights(model) == []


def test_hardware_efficient_is_alive_where_the_literature_uses_it() -> None:
    filter_ = CircuitModel(angle(4), hardware_efficient(4, 1), z_on(3, 4))
    assert filter_.num_weights == 11
    assert dead_weights(filter_) == []
    two_layers = CircuitModel(amplitude(6), hardware_efficient(6, 2), ClassGroups(3, 6))
    assert dead_weights(two_layers) == []
    student = hardware_efficient(6, 4, final_ry=True)
    assert dead_weights(CircuitModel(amplitude(6), student, ClassGroups(3, 6))) == []
    control = product(6, num_weights=74)
    assert dead_weights(CircuitModel(amplitude(6), control, ClassGroups(3, 6))) == []


def test_the_order_of_rotations_matters() -> None:
    # RX before RZ: the last RZs and what commutes with Z on qubit 3 never learn.
    swapped = QuantumCircuit(4)
    weights = [Parameter(f"weight_{k:03d}") for k in range(11)]
    for qubit in range(4):
        swapped.rx(weights[qubit], qubit)
    for qubit in range(4):
        swapped.rz(weights[4 + qubit], qubit)
    for qubit in range(3):
        swapped.crz(weights[8 + qubit], qubit, qubit + 1)
    assert dead_weights(CircuitModel(amplitude(4), swapped, z_on(3, 4))) == [0, 1, 2, *range(4, 11)]


def test_a_circuit_that_ends_in_rz_has_dead_weights() -> None:
    ansatz = QuantumCircuit(2)
    a, b, c = (Parameter(name) for name in "abc")
    ansatz.ry(a, 0)
    ansatz.rz(b, 0)
    ansatz.rz(c, 1)
    model = CircuitModel(angle(2), ansatz, ClassGroups(2, 2))
    assert dead_weights(model) == [1, 2]
    with pytest.warns(DeadWeightsWarning, match=r"2 of 3 weights cannot move.*\[1, 2\].*not comm"):
        assert warn_dead_weights(model) == [1, 2]
    # Another readout sees what Z does not.
    assert dead_weights(CircuitModel(angle(2), ansatz, Observables(["XX"]))) == []


def test_two_classes_should_be_read_at_the_end_of_the_chain() -> None:
    def dead(scheme: str) -> list[int]:
        groups = ClassGroups(2, 4, scheme)
        return dead_weights(CircuitModel(amplitude(4), hardware_efficient(4, 1), groups))

    assert dead("contiguous") == []  # reads qubit 3, the last target
    assert dead("modulo") == [1, 2, 3, 5, 6, 7, 8, 9, 10]  # reads qubit 0, only ever a control


def test_stated_dead_weights() -> None:
    groups = ClassGroups(3, 3)
    entangling = CircuitModel(amplitude(3), strongly_entangling(3, 2), groups)
    assert dead_weights(entangling) == [11, 14, 17]
    bricks = CircuitModel(amplitude(3), su4_brickwork(3, 1), groups)
    assert dead_weights(bricks) == [11, 26, 29]


def test_a_weight_outside_the_light_cone_is_dead() -> None:
    model = CircuitModel(angle(3), product(3, 1), z_on(1, 3))
    assert dead_weights(model) == [0, 2, 3, 5]


def test_a_phase_is_dead_and_shared_or_halved_weights_are_not() -> None:
    shared, phase = Parameter("a"), Parameter("b")
    ansatz = QuantumCircuit(2, global_phase=phase)
    ansatz.rx(shared / 2, 0)
    ansatz.barrier()
    inner = QuantumCircuit(2, name="inner")
    inner.ry(shared, 1)
    inner.cx(1, 0)
    ansatz.append(inner.to_gate(), [1, 0])
    assert dead_weights(CircuitModel(angle(2), ansatz, z_on(0, 2))) == [1]


def test_every_copy_of_a_reuploading_model_is_looked_at() -> None:
    ansatz = QuantumCircuit(1)
    ansatz.rz(Parameter("a"), 0)
    model = CircuitModel(reuploading(1, 3), ansatz, ClassGroups(2, 1))
    assert dead_weights(model) == [2]


@pytest.mark.parametrize(
    "encoding",
    [reuploading(3, 2), amplitude(3, num_features=7), replace(amplitude(3), layers=2)],
    ids=["angles", "amplitudes", "amplitudes twice"],
)
@pytest.mark.parametrize("name", sorted(ansatze))
def test_the_states_are_qiskits(name: str, encoding: Encoding) -> None:
    readout = Observables([SparsePauliOp(["XYZ", "ZZI"], [0.5, -1])])
    model = CircuitModel(encoding, ansatze[name](3, 1), readout)
    draw = stream(0, name)
    sample, weights = draw.normal(size=model.num_features), draw.normal(size=model.num_weights)
    others = draw.normal(size=model.num_weights)
    inputs = encoding.angles(sample[None])[0]
    states = _evolve(model, sample, weights, others)
    for k, state in enumerate(states):
        moved = weights.copy()
        if k:
            moved[k - 1] = others[k - 1]
        bound = model.circuit.assign_parameters(np.concatenate((inputs, moved)))
        np.testing.assert_allclose(state, Statevector(bound).data, atol=1e-12)


def test_no_warning_without_dead_weights() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        readout = ClassGroups(2, 2, "contiguous")
        warn_dead_weights(CircuitModel(angle(2), hardware_efficient(2, 1), readout))


def test_a_model_too_large_to_look_at_is_refused() -> None:
    model = CircuitModel(angle(24), hardware_efficient(24, 1), z_on(23, 24))
    with pytest.raises(ResourceError, match=r"one state per weight.*for 71 weights on 24 qubits"):
        dead_weights(model)


def test_an_own_gate_named_like_an_inert_one_is_looked_at() -> None:
    inner = QuantumCircuit(1, name="barrier")
    inner.rx(Parameter("a"), 0)
    ansatz = QuantumCircuit(1)
    ansatz.append(inner.to_gate(), [0])
    assert dead_weights(CircuitModel(angle(1), ansatz, ClassGroups(2, 1))) == []


def test_known_dead_weights_are_not_looked_for_again() -> None:
    model = CircuitModel(angle(24), hardware_efficient(24, 1), z_on(23, 24))
    with pytest.warns(DeadWeightsWarning, match=r"1 of 71 weights .*\[5\].*read other qubits"):
        assert warn_dead_weights(model, dead=(5,)) == [5]
