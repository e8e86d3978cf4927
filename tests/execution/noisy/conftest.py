# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.transpiler import Target
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, depolarizing_error, thermal_relaxation_error

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.execution.noise_sources import DeviceNoise, fake_device
from qiskit_kd.execution.noisy.isa import ISACircuit
from qiskit_kd.execution.noisy.program_cache import ProgramCache
from qiskit_kd.execution.schema import Noise, Rates
from qiskit_kd.execution.snapshots import open_noise
from qiskit_kd.execution.torch_use import one_thread

RATES = {
    "one_qubit": 0.002, "two_qubit": 0.01, "readout": [0.01, 0.04], "t1_us": 90.0, "t2_us": 70.0,
    "one_qubit_ns": 40.0, "two_qubit_ns": 300.0,
}  # fmt: skip
SOURCES = {
    "torino": Noise(device="fake_torino"),
    "marrakesh": Noise(device="fake_marrakesh"),
    "rates": Noise(rates=Rates.model_validate(RATES)),
}
AER_CUTOFF = 1e-10


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def device(source: str, *, num_qubits: int = 6, readout: bool = True, scale: float = 1.0):
    return open_noise(SOURCES[source], scale=scale, readout=readout, num_qubits=num_qubits)


def programs(source: str, *, readout: bool = True, **options) -> ProgramCache:
    return ProgramCache(lambda n: device(source, num_qubits=n, readout=readout), **options)


@cache
def aer_noise(source: str, active: tuple[int, ...]) -> NoiseModel:
    """Aer's own noise model of the wires `active`, made without our code."""
    if source == "rates":
        single = thermal_relaxation_error(90e-6, 70e-6, 40e-9)
        double = thermal_relaxation_error(90e-6, 70e-6, 300e-9)
        model = NoiseModel(basis_gates=["cz", "rz", "sx", "x"])
        one, two = depolarizing_error(0.002, 1), depolarizing_error(0.01, 2)
        model.add_all_qubit_quantum_error(one.compose(single), ["sx", "x"])
        model.add_all_qubit_quantum_error(two.compose(double.expand(double)), ["cz"])
        return model
    whole = fake_device(f"fake_{source}").target
    wire = {q: k for k, q in enumerate(active)}
    part = Target(
        num_qubits=len(active), dt=whole.dt,
        qubit_properties=[whole.qubit_properties[q] for q in active],
    )  # fmt: skip
    for name in ("cz", "sx", "x", "rz", "id", "measure"):
        places = {
            tuple(wire[q] for q in qubits): properties
            for qubits, properties in whole[name].items() if set(qubits) <= set(active)
        }  # fmt: skip
        if places:
            part.add_instruction(whole.operation_from_name(name), places)
    # Of all gates of the device the model would take seconds to build.
    backend = SimpleNamespace(version=2, operation_names=list(part.operation_names), target=part,
                              dt=whole.dt)  # fmt: skip
    return NoiseModel.from_backend(backend)


def bound(native: ISACircuit, model: CircuitModel, row: np.ndarray, weights: np.ndarray):
    circuit = native.compact()
    values = dict(zip(model.inputs, model.encoding.angles(row[None])[0], strict=True))
    values |= dict(zip(model.weights, weights, strict=True))
    return circuit.assign_parameters({p: values[p] for p in circuit.parameters})


def aer_outputs(
    native: ISACircuit, model: CircuitModel, x: np.ndarray, w: np.ndarray, source: str
) -> np.ndarray:
    """Aer's density matrix, without readout error."""
    assert isinstance(model.readout, ClassGroups)
    simulator = AerSimulator(method="density_matrix", noise_model=aer_noise(source, native.active))
    rows = []
    for row in x:
        circuit: QuantumCircuit = bound(native, model, row, w)
        circuit.save_probabilities([native.active.index(q) for q in native.final])
        rows.append(simulator.run(circuit, shots=1).result().data(0)["probabilities"])
    return np.array(rows) @ model.readout.matrix


def finite_differences(f: Callable[[np.ndarray], float], at: np.ndarray, h: float = 1e-5):
    gradient = np.zeros(at.size)
    for k, step in enumerate(h * np.eye(at.size)):
        step = step.reshape(at.shape)
        gradient[k] = (f(at + step) - f(at - step)) / (2 * h)
    return gradient.reshape(at.shape)


__all__ = ["AER_CUTOFF", "DeviceNoise", "aer_outputs", "bound", "device", "finite_differences",
           "programs"]  # fmt: skip
