# SPDX-License-Identifier: Apache-2.0
"""`CircuitSpec`: equal circuits are one; a quantum student of one's own is one short function."""

from __future__ import annotations

import inspect
import typing
from dataclasses import replace

import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from torch import nn

from qiskit_kd.circuits import ClassGroups, Observables
from qiskit_kd.nn import CircuitSpec, HybridStudent, RunOptions, quantum_student, students

PLAIN = CircuitSpec(num_features=4, layers=1)


def test_equal_specs_share_one_model_and_others_do_not() -> None:
    same = CircuitSpec(num_features=4, layers=1, ansatz_options={}, measured=[1])
    assert same == PLAIN
    assert hash(same) == hash(PLAIN)
    assert same.model is PLAIN.model
    for change in ({"layers": 2}, {"measured": "all"}, {"encoding": "amplitude_mps"},
                   {"num_classes": 2}, {"ansatz_options": {"final_ry": True}}):  # fmt: skip
        other = replace(PLAIN, **change)
        assert other != PLAIN
        assert other.model is not PLAIN.model


def test_true_is_not_one_and_a_list_is_no_key() -> None:
    # A builder may tell True from 1, and an option of somebody's part may be a list.
    assert replace(PLAIN, ansatz_options={"final_ry": 1}) != replace(
        PLAIN, ansatz_options={"final_ry": True}
    )
    groups = [replace(PLAIN, num_classes=2, scheme=[0, 1, 1, 0]) for _ in range(2)]
    assert groups[0].model is groups[1].model


def test_a_circuit_of_ones_own_is_its_own_spec() -> None:
    circuit = QuantumCircuit(2)
    circuit.ry(Parameter("a"), [0, 1])
    spec, twin = (replace(PLAIN, ansatz=circuit) for _ in range(2))
    assert spec.__eq__(spec)
    assert spec != twin
    assert spec.facts()["ansatz"] == circuit.name
    assert "layers" not in spec.facts()


def test_it_says_what_is_read() -> None:
    assert PLAIN.qubits_read == [1]
    assert isinstance(PLAIN.readout, Observables)
    groups = replace(PLAIN, num_classes=3)
    assert isinstance(groups.readout, ClassGroups)
    assert groups.qubits_read == [0, 1]
    assert groups.facts()["scheme"] == "modulo"
    assert "measured" not in groups.facts()
    assert replace(groups, num_classes=2, measured=[1]).facts()["measured"] == [1]


def test_a_quantum_student_of_ones_own_is_one_function() -> None:
    @quantum_student(layers=1)
    def tiny(
        spec: CircuitSpec, num_classes: int, run: RunOptions, *, bias: bool = False
    ) -> nn.Module:
        spec = replace(spec, measured="all")
        head = nn.Linear(spec.code.num_qubits, num_classes, bias=bias)
        return HybridStudent(run.layer(spec), head, {"kind": "tiny", **spec.facts()})

    net = tiny(4, 3, seed=0, ansatz="real_amplitudes", bias=True)
    assert net(torch.zeros(2, 4) + 1).shape == (2, 3)
    assert net.facts["layers"] == 1
    assert net.facts["ansatz"] == "real_amplitudes"
    known = inspect.signature(tiny).parameters
    assert {"num_features", "num_classes", "seed", "backend", "shots", "layers", "bias"} <= {*known}
    assert "measured" not in known
    assert known["layers"].default == 1
    assert typing.get_type_hints(students["hybrid"])["layers"] is int


def test_what_it_does_not_take_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'lyers'"):
        students["hybrid"](4, 2, seed=0, lyers=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'ansatz'"):
        students["separable"](4, 2, seed=0, ansatz="product")
