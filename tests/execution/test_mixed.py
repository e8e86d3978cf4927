# SPDX-License-Identifier: Apache-2.0
"""`CircuitModel.from_circuit`: any circuit, on every engine, beside Qiskit on the same circuit."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.library import real_amplitudes, zz_feature_map
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_machine_learning.circuit.library import qnn_circuit, raw_feature_vector

import qiskit_kd as qkd
from qiskit_kd.circuits import CircuitModel, ClassGroups, Observables, Readout, dead_weights
from qiskit_kd.errors import CircuitError
from qiskit_kd.execution import effective_weights
from qiskit_kd.execution.engine import Engine, Needs
from qiskit_kd.execution.expansion import expansion_of
from qiskit_kd.execution.runtime.cost import Call, circuits_of
from qiskit_kd.report.sections.circuits import drawable
from qiskit_kd.seeding import stream


@dataclass
class Given:
    """A circuit as somebody else has it: inputs in the order of the features, then weights."""

    circuit: QuantumCircuit
    inputs: list[Parameter]
    weights: list[Parameter]
    interleaved: bool

    def model(self, readout: Readout) -> CircuitModel:
        return CircuitModel.from_circuit(self.circuit, self.inputs, self.weights, readout)


def products() -> Given:
    """Weights times features, sums of both, a shared weight, gates of two frequencies."""
    x, w = ParameterVector("x", 2), ParameterVector("w", 4)
    circuit = QuantumCircuit(2)
    circuit.ry(x[0] * w[0] + w[1], 0)
    circuit.rx(x[1], 1)
    circuit.cx(0, 1)
    circuit.rz(w[2] + x[0], 1)
    circuit.crx(2 * w[3], 0, 1)
    circuit.ry(x[0] * x[1], 0)
    circuit.ry(w[0], 1)
    return Given(circuit, list(x), list(w), True)


def reuploading() -> Given:
    """Other blocks in every layer, in boxes, with names in no order."""
    b, a, theta = Parameter("b"), Parameter("a"), ParameterVector("t", 12)
    circuit = QuantumCircuit(2)
    for layer in range(3):
        box = QuantumCircuit(2, name="layer")
        box.ry(b * (layer + 1), 0)
        box.rz(a, 1)
        box.ry(theta[2 * layer], 0)
        box.rx(theta[11 - layer], 1)
        box.cz(0, 1)
        box.u(theta[2 * layer + 1], 0.3, theta[9 - layer] if layer else 0.1, 1)
        circuit.append(box.to_instruction(), [1, 0] if layer else [0, 1])
    used = set(circuit.parameters)
    return Given(circuit, [b, a], [p for p in theta if p in used], True)


def zz_map() -> Given:
    feature_map, ansatz = zz_feature_map(3, reps=2), real_amplitudes(3, reps=1)
    circuit = QuantumCircuit(3)
    circuit.append(feature_map.to_gate(), range(3))
    circuit.append(ansatz.to_gate(), range(3))
    circuit.measure_all()
    return Given(circuit, list(feature_map.parameters), list(ansatz.parameters), False)


def turned_round() -> Given:
    """A weight first, then the data."""
    w, x = Parameter("w"), Parameter("x")
    circuit = QuantumCircuit(2, global_phase=w)
    circuit.ry(w, 0)
    circuit.cx(0, 1)
    circuit.barrier()
    circuit.ry(math.pi - x, 1)
    circuit.delay(10, 0)
    return Given(circuit, [x], [w], True)


CIRCUITS: list[Callable[[], Given]] = [products, reuploading, zz_map, turned_round]


def outputs(given: Given, readout: Readout, x: Any, w: Any) -> np.ndarray:
    circuit = given.circuit.remove_final_measurements(inplace=False)
    rows = []
    for row in x:
        values = dict(zip(given.inputs, row, strict=True)) | dict(
            zip(given.weights, w, strict=True)
        )
        state = Statevector(circuit.assign_parameters(values))
        if isinstance(readout, ClassGroups):
            rows.append(state.probabilities() @ readout.matrix)
        else:
            rows.append([state.expectation_value(op).real for op in readout.operators])
    return np.array(rows)


def slopes(given: Given, readout: Readout, x: Any, w: Any, g: Any) -> tuple[Any, Any]:
    def along(dx: Any, dw: Any) -> Any:
        up, down = outputs(given, readout, x + dx, w + dw), outputs(given, readout, x - dx, w - dw)
        return (up - down) * g / 2e-5

    step = 1e-5 * np.eye(max(len(w), x.shape[1]))
    gw = [along(0 * x, d).sum() for d in step[: len(w), : len(w)]]
    gx = [along(d[None], 0 * w).sum(1) for d in step[: x.shape[1], : x.shape[1]]]
    return np.array(gx).T, np.array(gw)


def engines() -> dict[str, Engine]:
    rates = {"rates": {"one_qubit": 0.0, "two_qubit": 0.0, "readout": 0.0}}
    noisy = qkd.load_backend("noisy").changed("noisy", {"noise": rates})
    aer = qkd.load_backend("aer_shots")
    return {
        "exact": qkd.load_backend("exact").engine(),
        "aer": qkd.load_backend("aer").engine(),
        "noisy": noisy.engine(),
        "noisy, shots": noisy.engine(shots=2_000_000, gradient="shift", seed=1),
        "aer, shots": aer.engine(shots=10_000, gradient="shift", seed=1),
    }


def check(given: Given, engine: Engine, readout: Readout, *, atol: float) -> None:
    """Values, gradients and Jacobians of an engine beside those of the circuit."""
    draw = stream(0, "check")
    x, w = draw.normal(size=(3, len(given.inputs))), draw.normal(size=len(given.weights))
    model, g = given.model(readout), draw.normal(size=(3, 2))
    assert model.is_interleaved is given.interleaved
    values, back = engine.vjp(model, x, w, Needs(features=True, weights=True))
    wanted = outputs(given, readout, x, w), *slopes(given, readout, x, w, g)
    for found, want in zip((values, *back(g)), wanted, strict=True):
        np.testing.assert_allclose(found, want, atol=atol)
    jx, jw = engine.jacobian(model, x, w, Needs(features=True, weights=True))
    np.testing.assert_allclose(np.einsum("bo,bof->bf", g, jx), wanted[1], atol=atol)
    np.testing.assert_allclose(np.einsum("bo,bow->w", g, jw), wanted[2], atol=atol)


@pytest.mark.parametrize("make", CIRCUITS)
@pytest.mark.parametrize("name", ["exact", "aer", "noisy", "noisy, shots"])
@pytest.mark.filterwarnings("ignore:data and weights interleave")
def test_values_and_gradients_are_those_of_the_circuit(
    make: Callable[[], Given], name: str
) -> None:
    given, engine = make(), engines()[name]
    n = given.circuit.num_qubits
    operators = ["X" + "Y" * (n - 1), SparsePauliOp(["Z" * n, "I" * (n - 1) + "X"], [0.5, 2])]
    for readout in (ClassGroups(2, n, "contiguous"), Observables(operators)):
        check(given, engine, readout, atol=0.08 if "shots" in name else 2e-7)


def test_shots_of_aer() -> None:
    check(products(), engines()["aer, shots"], ClassGroups(2, 2), atol=0.1)


def test_one_job_a_step_of_as_many_circuits_as_it_is_priced_at() -> None:
    given = products()
    model = given.model(ClassGroups(2, 2))
    x, w = np.ones((4, 2)), np.ones((3, 4))
    for gradient in ("shift", "spsa"):
        for needs in (
            Needs(True, True),
            Needs(False, True),
            Needs(True, False),
            Needs(False, False),
        ):
            engine = qkd.load_backend("aer_shots").engine(shots=10, seed=0, gradient=gradient)
            values, back = engine.vjp(model, x, w, needs)
            gx, gw = back(np.ones_like(values))
            assert (gx is not None, gw is not None) == (needs.features, needs.weights)
            assert values.shape == (3, 4, 2)
            assert (engine.usage.jobs, engine.usage.pubs) == (1, 1)
            call = Call(4, 3, weights=needs.weights, features=needs.features)
            circuits = circuits_of(call, expansion_of(model), gradient)
            assert engine.usage.executions == 10 * circuits
    assert engine.usage.transpilations == 1


def test_settings_side_by_side_are_settings_one_by_one() -> None:
    given, engine = products(), engines()["aer"]
    model, draw = given.model(ClassGroups(3, 2)), stream(0, "settings")
    x, w, g = draw.normal(size=(2, 2)), draw.normal(size=(3, 4)), draw.normal(size=(3, 2, 3))
    values, back = engine.vjp(model, x, w, Needs(features=True, weights=True))
    gx, gw = back(g)
    alone = [engine.vjp(model, x, row, Needs(features=True, weights=True)) for row in w]
    pairs = [b(c) for (_, b), c in zip(alone, g, strict=True)]
    np.testing.assert_allclose(values, [v for v, _ in alone], atol=1e-12)
    np.testing.assert_allclose(gw, [b for _, b in pairs], atol=1e-12)
    np.testing.assert_allclose(gx, sum(a for a, _ in pairs), atol=1e-12)


def test_spsa_points_up_the_slope() -> None:
    given = products()
    model, draw = given.model(ClassGroups(2, 2)), stream(0, "spsa")
    x, w, g = draw.normal(size=(3, 2)), draw.normal(size=4), draw.normal(size=(3, 2))
    engine = qkd.load_backend("aer").engine(gradient="spsa", seed=0)
    found = [engine.vjp(model, x, w, Needs(False, True))[1](g)[1] for _ in range(200)]
    _, want = slopes(given, model.readout, x, w, g)
    np.testing.assert_allclose(np.mean(found, 0), want, atol=0.15)


def test_it_is_a_model_like_any_other() -> None:
    model = products().model(ClassGroups(2, 2))
    assert [p.name for p in model.circuit.parameters] == [
        "input_00", "input_01", "weight_000", "weight_001", "weight_002", "weight_003"
    ]  # fmt: skip
    assert (model.num_features, model.num_inputs, model.num_weights) == (2, 2, 4)
    assert dead_weights(model) == []
    assert effective_weights(model) == 4
    assert drawable(model) == model.circuit
    again = pickle.loads(pickle.dumps(model))
    x, w = np.ones((1, 2)), np.ones(4)
    engine = engines()["exact"]
    np.testing.assert_array_equal(engine.outputs(again, x, w), engine.outputs(model, x, w))
    layer = qkd.QuantumLayer(model)
    layer(torch.ones(2, 3, 2)).sum().backward()
    assert layer.weight.grad is not None


def test_second_derivatives() -> None:
    given = turned_round()
    layer = qkd.QuantumLayer(given.model(Observables(["ZI"])), dtype=torch.float64)
    x = torch.tensor([[0.3]], dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda v: torch.func.functional_call(
        layer, {"weight": v}, (x,)), layer.weight.detach().requires_grad_())  # fmt: skip


def test_raw_feature_vectors_are_amplitudes() -> None:
    circuit = raw_feature_vector(4).compose(real_amplitudes(2, reps=1))
    x = [p for p in circuit.parameters if p.name.startswith("x")]
    model = CircuitModel.from_circuit(circuit, x, readout=ClassGroups(2, 2))
    assert model.encoding.is_amplitude
    w, row = np.arange(4.0), np.array([3.0, -1, 2, 0.5])
    state = Statevector(row / np.linalg.norm(row))
    want = state.evolve(real_amplitudes(2, reps=1).assign_parameters(w))
    found = engines()["exact"].outputs(model, row[None], w)
    np.testing.assert_allclose(found[0], want.probabilities() @ model.readout.matrix, atol=1e-12)
    with pytest.raises(CircuitError, match=r"RawFeatureVector comes first.*in its own order"):
        CircuitModel.from_circuit(circuit, x[::-1], readout=ClassGroups(2, 2))


def test_circuits_of_qiskit_machine_learning_come_as_they_are() -> None:
    model = CircuitModel.from_circuit(*qnn_circuit(3), readout=ClassGroups(2, 3))
    assert not model.is_interleaved
    assert (model.num_features, model.num_weights) == (3, 12)


@pytest.mark.parametrize(
    ("inputs", "weights", "text"),
    [
        (None, None, "got x, y, and neither inputs nor weights"),
        (["x"], [], "'y' in neither"),
        (["x", "y"], ["y"], "'y' twice"),
        (["x", "z"], None, "'z' not in the circuit"),
        (3, None, "its data and its weights; got 3; expected a list"),
    ],
)
def test_parameters_that_are_not_split(inputs: Any, weights: Any, text: str) -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("x"), 0)
    circuit.ry(Parameter("y"), 0)
    with pytest.raises(CircuitError, match=text):
        CircuitModel.from_circuit(circuit, inputs, weights, ClassGroups(2, 1))


def test_other_faults() -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.rx(Parameter("x"), 0)
    circuit.measure(0, 0)
    circuit.ry(Parameter("y"), 0)
    with pytest.raises(CircuitError, match="no mid-circuit measurement"):
        CircuitModel.from_circuit(circuit, ["x"], ["y"], ClassGroups(2, 1))
    with pytest.raises(CircuitError, match="readout of a model is of the wrong type; got NoneType"):
        CircuitModel.from_circuit(products().circuit, ["x[0]", "x[1]"])
    with pytest.raises(CircuitError, match="circuit of a model is of the wrong type; got str"):
        CircuitModel.from_circuit("x", [], [])
    with pytest.raises(CircuitError, match="act on the same qubits"):
        products().model(ClassGroups(2, 3))


def test_features_without_an_order_have_that_of_their_numbers() -> None:
    circuit, weight = QuantumCircuit(2), Parameter("w")
    names = [f"x{k}" for k in range(12)]  # sorted as text, x10 follows x1
    for k, name in enumerate(names):
        circuit.rx(Parameter(name), k % 2)
    circuit.cx(0, 1)
    circuit.ry(weight, 1)
    readout = Observables(["ZI"])
    told = CircuitModel.from_circuit(circuit, names, ["w"], readout)
    found = CircuitModel.from_circuit(circuit, weights=["w"], readout=readout)
    assert found.circuit == told.circuit
    unclear = QuantumCircuit(1)
    for name in ("b", "a", "w"):
        unclear.ry(Parameter(name), 0)
    with pytest.raises(
        CircuitError, match=r"tell which.*order: from_circuit\(\.\.\., inputs=\['b'"
    ):
        CircuitModel.from_circuit(unclear, weights=["w"], readout=Observables(["Z"]))


def test_phases_of_boxes_are_no_parameters() -> None:
    x, w, v = map(Parameter, "xwv")
    inner = QuantumCircuit(1, global_phase=w)
    inner.ry(x, 0)
    inner.rz(w, 0)
    circuit = QuantumCircuit(1)
    circuit.append(inner.to_gate(), [0])
    circuit.ry(v, 0)
    model = CircuitModel.from_circuit(circuit, ["x"], ["w", "v"], Observables(["Z"]))
    assert (model.num_inputs, model.num_weights) == (1, 2)
    layer = qkd.QuantumLayer(model, dtype=torch.float64)
    bound = circuit.assign_parameters({x: 0.4, w: 0.3, v: 1.1})
    with torch.no_grad():
        layer.weight[:] = torch.tensor([0.3, 1.1])
        value = layer(torch.tensor([[0.4]], dtype=torch.float64)).item()
    assert value == pytest.approx(Statevector(bound).expectation_value(SparsePauliOp("Z")).real)
    circuit.global_phase = Parameter("p")
    with pytest.raises(CircuitError, match="got 'p' moves nothing but the global phase"):
        CircuitModel.from_circuit(circuit, ["x"], ["w", "v", "p"], Observables(["Z"]))
