# SPDX-License-Identifier: Apache-2.0
"""Primitives and backends of others as `backend=`: one PUB a step, transpiled once."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import generate_preset_pass_manager
from qiskit.primitives import (
    BackendEstimatorV2,
    BackendSamplerV2,
    StatevectorEstimator,
    StatevectorSampler,
)
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, depolarizing_error
from qiskit_aer.primitives import SamplerV2 as AerSamplerV2
from qiskit_ibm_runtime import executor_sampler
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

import qiskit_kd as qkd
from qiskit_kd.errors import ConfigError, ExecutionError

X = torch.tensor([[0.3, -0.8], [1.1, 0.4], [-0.2, 2.0]], dtype=torch.float64)


def model(readout: Any = None) -> qkd.CircuitModel:
    ansatz = qkd.circuits.hardware_efficient(2, 1, final_ry=True)
    return qkd.CircuitModel(qkd.circuits.angle(2), ansatz, readout or qkd.ClassGroups(2, 2))


def noisy_aer() -> AerSimulator:
    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(depolarizing_error(0.01, 2), ["cx"])
    return AerSimulator(noise_model=noise)


SAMPLERS = {
    "GenericBackendV2": lambda: GenericBackendV2(4, seed=1),
    "Aer with noise": noisy_aer,
    "fake device": FakeManilaV2,
    "StatevectorSampler": lambda: StatevectorSampler(seed=1),
    "BackendSamplerV2": lambda: BackendSamplerV2(backend=AerSimulator()),
    "Aer's SamplerV2": AerSamplerV2,
    "local mode": lambda: executor_sampler.Sampler(mode=FakeManilaV2()),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_trains_the_same_student_one_step(name: str) -> None:
    backend = SAMPLERS[name]()
    layer = qkd.QuantumLayer(model(), backend, gradient="shift", shots=8192, dtype=torch.float64)
    exact = qkd.QuantumLayer(model(), dtype=torch.float64)
    for each in (layer, exact):
        each(X)[:, 0].square().sum().backward()
    slack = (
        0.2 if name in ("GenericBackendV2", "Aer with noise", "fake device", "local mode") else 0.05
    )
    torch.testing.assert_close(layer(X), exact(X), atol=slack, rtol=0)
    torch.testing.assert_close(layer.weight.grad, exact.weight.grad, atol=2 * slack, rtol=0)
    usage = layer.engine.usage
    assert (usage.jobs, usage.pubs) == (2, 2)
    assert usage.transpilations <= 1
    assert repr(layer).count("backend=") == 1
    assert copy.deepcopy(layer).engine.shots == 8192


def test_estimators_read_observables() -> None:
    readout = qkd.Observables(["ZI", "XY"])
    given: Any = StatevectorEstimator(seed=1)
    layer = qkd.QuantumLayer(model(readout), given, dtype=torch.float64)
    exact = qkd.QuantumLayer(model(readout), dtype=torch.float64)
    for each in (layer, exact):
        each(X).square().sum().backward()
    torch.testing.assert_close(layer(X), exact(X), atol=1e-10, rtol=0)
    torch.testing.assert_close(layer.weight.grad, exact.weight.grad, atol=1e-10, rtol=0)
    assert layer.engine.usage.jobs == 2
    with pytest.raises(ConfigError, match="estimator gives expectation values; got class groups"):
        qkd.QuantumLayer(model(), given)(X)


def test_a_pass_manager_of_ones_own() -> None:
    device, runs = GenericBackendV2(3, seed=1), []
    manager = generate_preset_pass_manager(optimization_level=0, backend=device)

    class Counting:
        def run(self, circuit: Any) -> Any:
            runs.append(circuit)
            return manager.run(circuit)

    sampler = BackendSamplerV2(backend=device)
    backend = qkd.Backend.of(sampler, pass_manager=Counting(), shots=100, name="mine")
    layer = qkd.QuantumLayer(model(), backend)
    for _ in range(3):
        layer(X.float()).sum().backward()
    assert len(runs) == 1
    assert (backend.name, backend.shots, backend.kind) == ("mine", 100, "BackendSamplerV2")
    assert layer.engine.name == "mine"
    assert backend.sampler() is sampler


def test_primitives_and_pass_manager_of_what_was_handed_in() -> None:
    backend = qkd.Backend.of(GenericBackendV2(3, seed=1))
    circuit = backend.pass_manager().run(model().circuit)
    bound = circuit.assign_parameters(np.zeros(circuit.num_parameters))
    bound.measure_all()
    counts = backend.sampler(seed=1).run([bound]).result()[0].data.meas.get_counts()
    assert counts == backend.sampler(seed=1).run([bound]).result()[0].data.meas.get_counts()
    assert isinstance(backend.estimator(), BackendEstimatorV2)
    assert backend.shown() == {"name": backend.name, "source": "GenericBackendV2"}
    assert backend.describe() != qkd.Backend.of(GenericBackendV2(3, seed=1)).describe()


def test_errors() -> None:
    with pytest.raises(ConfigError, match="a V2 primitive or a BackendV2; got float"):
        qkd.QuantumLayer(model(), 3.0)
    with pytest.raises(ConfigError, match=r"got SimpleNamespace.*of version 1 are no longer"):
        qkd.Backend.of(SimpleNamespace(run=print))
    sampler = qkd.Backend.of(StatevectorSampler())
    with pytest.raises(
        ConfigError, match="kind that was handed in; got StatevectorSampler; expecte"
    ):
        sampler.estimator()
    with pytest.raises(
        ConfigError, match="those of an entry in the backend file; got 'b' from a St"
    ):
        sampler.changed("b", {"shots": 3})
    for ask in (lambda: sampler.faults({"shots": 3}), sampler.place):
        with pytest.raises(ConfigError, match="of an entry in the backend file; got"):
            ask()
    paid = type("IBMBackend", (GenericBackendV2,), {"__module__": "qiskit_ibm_runtime.ibm_backend"})
    with pytest.raises(ConfigError, match="costs money is used with a budget; got IBMBackend on"):
        qkd.QuantumLayer(model(), paid(3))
    with pytest.raises(ConfigError, match="a sampler takes at least one shot; got -1"):
        qkd.Backend.of(StatevectorSampler(), shots=-1).engine()
    unready = SimpleNamespace(run=lambda circuit: circuit)  # gates that the device does not have
    raw = qkd.Backend.of(executor_sampler.Sampler(mode=FakeManilaV2()), pass_manager=unready)
    with pytest.raises(ExecutionError, match="Sampler failed; got"):
        qkd.QuantumLayer(model(), raw)(X)
    with pytest.raises(ConfigError, match="a sampler takes at least one shot; got 0"):
        qkd.Backend.of(StatevectorSampler(), shots=0)
    with pytest.raises(ConfigError, match="a pass manager makes circuits runnable; got int"):
        qkd.Backend.of(StatevectorSampler(), pass_manager=3)


@pytest.mark.parametrize("name", ["GenericBackendV2", "fake device"])
def test_a_layer_on_somebody_elses_backend_can_be_pickled(name: str) -> None:
    layer = qkd.QuantumLayer(model(), SAMPLERS[name](), dtype=torch.float64, seed=1)
    layer(X)
    again = pickle.loads(pickle.dumps(layer))
    assert torch.equal(again.weight, layer.weight)
    assert torch.allclose(again(X).sum(1), torch.ones(3, dtype=torch.float64))
