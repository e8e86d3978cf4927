# SPDX-License-Identifier: Apache-2.0
"""`from_qnn`: the networks of qiskit-machine-learning and ours give the same, and one trains."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, transpile
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.library import real_amplitudes, z_feature_map, zz_feature_map
from qiskit.primitives import StatevectorEstimator, StatevectorSampler
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import SparsePauliOp
from qiskit_machine_learning.circuit.library import qnn_circuit
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import EstimatorQNN, SamplerQNN

import qiskit_kd as qkd
from qiskit_kd.errors import CircuitError, ConfigError
from qiskit_kd.nn import EngineNetwork
from qiskit_kd.seeding import stream


def parity(outcome: int) -> int:
    return outcome.bit_count() % 2


def convolution(parameters: Any) -> QuantumCircuit:
    block = QuantumCircuit(2)
    block.rz(-np.pi / 2, 1)
    block.cx(1, 0)
    block.rz(parameters[0], 0)
    block.ry(parameters[1], 1)
    block.cx(0, 1)
    block.ry(parameters[2], 1)
    return block


def qcnn(num_qubits: int) -> tuple[QuantumCircuit, list[Parameter], list[Parameter]]:
    """A convolutional network as in the tutorials: boxes in boxes, pooled to one qubit."""
    feature_map, w = z_feature_map(num_qubits), ParameterVector("c", 12 * num_qubits)
    ansatz, places, live = QuantumCircuit(num_qubits, name="ansatz"), iter(w), range(num_qubits)
    while len(live) > 1:
        layer = QuantumCircuit(num_qubits, name="layer")
        pairs = [
            *zip(live[::2], live[1::2], strict=True),
            *zip(live[1::2], live[2::2], strict=False),
        ]
        for pair in pairs:
            layer.append(convolution([next(places) for _ in range(3)]).to_instruction(), pair)
        ansatz.append(layer.to_instruction(), range(num_qubits))
        live = live[len(live) // 2 :]
    circuit = QuantumCircuit(num_qubits)
    circuit.compose(feature_map, inplace=True)
    circuit.compose(ansatz, inplace=True)
    return circuit, list(feature_map.parameters), list(ansatz.parameters)


def sampler(**options: Any) -> SamplerQNN:
    circuit, inputs, weights = qnn_circuit(2)
    return SamplerQNN(
        circuit=circuit, input_params=inputs, weight_params=weights, input_gradients=True,
        sampler=StatevectorSampler(default_shots=1_000, seed=1), **options,
    )  # fmt: skip


def estimator(circuit: Any, inputs: Any, weights: Any, observables: Any = None) -> EstimatorQNN:
    return EstimatorQNN(
        circuit=circuit, input_params=inputs, weight_params=weights, observables=observables,
        estimator=StatevectorEstimator(), input_gradients=True, default_precision=0.0,
    )  # fmt: skip


def mixed() -> EstimatorQNN:
    x, w = ParameterVector("x", 2), ParameterVector("w", 3)
    circuit = QuantumCircuit(2)
    circuit.ry(x[0], 0)
    circuit.ry(w[0], 1)
    circuit.cx(0, 1)
    circuit.ry(2 * x[1] + w[1], 0)
    circuit.rz(x[0], 1)
    circuit.rx(w[2], 1)
    return estimator(circuit, x, w, [SparsePauliOp("ZX"), SparsePauliOp(["XI", "YY"], [0.5, 2.0])])


def zz_network() -> EstimatorQNN:
    feature_map, ansatz = zz_feature_map(2), real_amplitudes(2, reps=1)
    circuit = feature_map.compose(ansatz)
    return estimator(circuit, list(feature_map.parameters), list(ansatz.parameters))


@pytest.mark.parametrize("make", [mixed, zz_network, lambda: estimator(*qcnn(8))])
def test_expectation_values_and_their_gradients(make: Any) -> None:
    network = make()
    layer = qkd.from_qnn(network, dtype=torch.float64)
    draw = stream(0, "qnn")
    x, w = draw.normal(size=(2, network.num_inputs)), draw.normal(size=network.num_weights)
    ours = layer.neural_network
    np.testing.assert_allclose(ours.forward(x, w), network.forward(x, w), atol=1e-10)
    theirs = network.backward(x, w)
    for found, want in zip(ours.backward(x, w), theirs, strict=True):
        np.testing.assert_allclose(found, want, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"interpret": lambda k: k % 3, "output_shape": 3},
    ],
)
def test_class_probabilities(options: dict[str, Any]) -> None:
    network = sampler(**options)
    layer = qkd.from_qnn(network, dtype=torch.float64)
    draw = stream(0, "qnn")
    x, w = draw.normal(size=(1, 2)), draw.normal(size=network.num_weights)
    ours = layer.neural_network
    np.testing.assert_allclose(ours.forward(x, w), network.forward(x, w), atol=0.1)
    for found, want in zip(ours.backward(x, w), network.backward(x, w), strict=True):
        np.testing.assert_allclose(found, want, atol=0.2)


def test_several_axes_come_flat() -> None:
    layer = qkd.from_qnn(sampler(interpret=lambda k: (k & 1, k >> 1), output_shape=(2, 2)))
    assert layer.model.readout.outcome_labels.tolist() == [0, 2, 1, 3]


def test_measured_circuits() -> None:
    """Only the qubit that is measured counts, and bits in the order of the classical register."""
    circuit = QuantumCircuit(2, 2)
    circuit.ry(Parameter("x"), 0)
    circuit.rx(Parameter("w"), 1)
    circuit.measure([1, 0], [0, 1])
    x, w = circuit.parameters[1], circuit.parameters[0]
    network = SamplerQNN(circuit=circuit, input_params=[x], weight_params=[w])
    model = qkd.from_qnn(network).model
    assert model.readout.measured_qubits == (1, 0)


@pytest.mark.slow
def test_a_connector_keeps_its_weights_and_trains_much_faster() -> None:
    circuit, inputs, weights = qnn_circuit(4)
    network = SamplerQNN(
        circuit=circuit,
        input_params=inputs,
        weight_params=weights,
        interpret=parity,
        output_shape=2,
    )
    start = np.linspace(-1, 1, network.num_weights)
    connector = TorchConnector(network, initial_weights=start)
    layer = qkd.from_qnn(connector)
    torch.testing.assert_close(layer.weight.detach(), connector.weight.detach())
    x = torch.ones(16, 4)
    torch.testing.assert_close(layer(x), connector(x), atol=0.1, rtol=0)

    def step(module: torch.nn.Module) -> float:
        begin = perf_counter()
        module(x)[:, 0].sum().backward()
        return perf_counter() - begin

    assert step(connector) > 100 * min(step(layer) for _ in range(5))
    again = qkd.from_qnn(layer)
    torch.testing.assert_close(again(x), layer(x))


def test_getters_of_theirs() -> None:
    network = qkd.from_qnn(mixed()).neural_network
    assert isinstance(network, EngineNetwork)
    assert network.circuit.parameters == [*network.input_params, *network.weight_params]
    assert [op.num_qubits for op in network.observables] == [2, 2]
    assert qkd.from_qnn(sampler()).neural_network.observables == ()


def test_one_clear_error_each() -> None:
    circuit, inputs, weights = qnn_circuit(2)
    two = QuantumCircuit(1)
    two.rx(Parameter("a"), 0)
    two.ry(Parameter("b"), 0)
    half = estimator(two, two.parameters[:1], two.parameters[:1])
    with pytest.raises(CircuitError, match="each named once; got 'b' in neither; 'a' twice"):
        qkd.from_qnn(half)
    with pytest.raises(
        CircuitError, match=r"interpret\(2\) = 2; expected indices of an array of sh"
    ):
        qkd.from_qnn(sampler(interpret=lambda k: k, output_shape=2))
    with pytest.raises(
        CircuitError, match=r"sorts the outcomes into all classes.*no outcome of cl"
    ):
        qkd.from_qnn(sampler(interpret=parity, output_shape=3))
    with pytest.raises(CircuitError, match="acts on the qubits of its circuit; got 3 qubits; exp"):
        qkd.from_qnn(estimator(circuit, inputs, weights, SparsePauliOp("ZZZ")))
    with pytest.raises(ConfigError, match="made from a network of circuits; got Linear"):
        qkd.from_qnn(torch.nn.Linear(1, 1))
    assert qkd.from_qnn(sampler(), seed=3, backend="aer").engine.name == "aer"


def outcomes(case: str) -> tuple[QuantumCircuit, int]:
    """Two turned qubits, measured as circuits of others are; number of outcomes."""
    x, w = Parameter("x"), Parameter("w")
    sizes = {"both": [2], "twice into one": [1], "apart": [1, 1], "meas": [1, 1], "high": [2]}
    names = ["meas", "other"] if case == "meas" else ["c", "d"]
    registers = [ClassicalRegister(n, name) for n, name in zip(sizes[case], names, strict=False)]
    circuit = QuantumCircuit(QuantumRegister(2), *registers)
    circuit.ry(x, 0)
    circuit.ry(w, 1)
    pairs = {
        "both": [(1, 0), (0, 1)],
        "twice into one": [(0, 0), (1, 0)],
        "apart": [(0, 1), (1, 0)],
        "meas": [(1, 0), (0, 1)],
        "high": [(0, 1)],
    }
    for qubit, bit in pairs[case]:
        circuit.measure(qubit, bit)
    return circuit, 4


@pytest.mark.parametrize("case", ["both", "twice into one", "apart", "meas", "high"])
def test_measurements_are_read_as_the_network_reads_them(case: str) -> None:
    circuit, count = outcomes(case)
    reached = {"twice into one": [0, 1], "meas": [0, 1], "high": [0, 2]}.get(case, range(count))
    places = {outcome: k for k, outcome in enumerate(reached)}
    network = SamplerQNN(
        circuit=circuit,
        input_params=[circuit.parameters[1]],
        weight_params=[circuit.parameters[0]],
        interpret=lambda outcome: places[outcome],
        output_shape=len(places),
        sampler=StatevectorSampler(default_shots=40_000, seed=1),
    )
    layer = qkd.from_qnn(network, dtype=torch.float64)
    theirs = network.forward([0.7], [2.0])
    with torch.no_grad():
        layer.weight[:] = 2.0
        ours = layer(torch.tensor([[0.7]], dtype=torch.float64)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=0.02)
    assert np.ptp(ours) > 0.1


def test_measurements_that_cannot_be_read() -> None:
    circuit, _ = outcomes("both")
    inputs, weights = [circuit.parameters[1]], [circuit.parameters[0]]
    options = {"input_params": inputs, "weight_params": weights, "output_shape": 4}
    moved = transpile(circuit, GenericBackendV2(3, seed=1))
    with pytest.raises(CircuitError, match="a transpiled circuit is measured by its network; got"):
        qkd.from_qnn(SamplerQNN(circuit=moved, interpret=int, **options))

    def broken(outcome: int) -> int:
        raise RuntimeError("no such outcome")

    network = SamplerQNN(circuit=circuit, interpret=int, **options)
    network.set_interpret(broken, 4)
    with pytest.raises(CircuitError, match=r"interpret\(0\), which raises RuntimeError: no such"):
        qkd.from_qnn(network)
