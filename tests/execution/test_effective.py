# SPDX-License-Identifier: Apache-2.0
"""The rank of a circuit's Jacobian, against central differences and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qiskit_kd.circuits import CircuitModel, ClassGroups, Observables, amplitude, angle, ansatze
from qiskit_kd.errors import ConfigError, ResourceError
from qiskit_kd.execution import effective_weights
from tests.reference import reference_outputs


@pytest.mark.parametrize("name", ["hardware_efficient", "product", "real_amplitudes"])
def test_rank_is_that_of_central_differences(name: str) -> None:
    model = CircuitModel(amplitude(2), ansatze[name](2, 2), ClassGroups(3, 2))
    draw = np.random.default_rng(1)
    features, at = draw.normal(size=(20, 4)), draw.uniform(-3, 3, model.num_weights)
    steps = 1e-5 * np.eye(model.num_weights)
    columns = [
        reference_outputs(model, features, at + s) - reference_outputs(model, features, at - s)
        for s in steps
    ]
    jacobian = np.stack(columns, axis=-1).reshape(-1, model.num_weights) / 2e-5
    singular = np.linalg.svd(jacobian, compute_uv=False)
    assert effective_weights(model) == (singular > 1e-6 * singular[0]).sum()


def test_rotations_in_a_row_are_one() -> None:
    circuit = QuantumCircuit(1)
    for k in range(5):
        circuit.rx(Parameter(f"w{k}"), 0)
    assert effective_weights(CircuitModel(angle(1), circuit, Observables(["Z"]))) == 1


def test_a_model_whose_weights_have_no_effect_has_rank_zero() -> None:
    dead = QuantumCircuit(1)
    dead.rz(Parameter("w"), 0)
    assert effective_weights(CircuitModel(angle(1), dead, Observables(["Z"]))) == 0


def test_few_samples_limit_the_rank() -> None:
    model = CircuitModel(amplitude(2), ansatze["hardware_efficient"](2, 2), ClassGroups(2, 2))
    assert effective_weights(model, np.ones((1, 4))) == 1
    with pytest.raises(ConfigError, match="rows of the model's width"):
        effective_weights(model, np.ones((1, 3)))


def test_large_models_are_refused() -> None:
    model = CircuitModel(amplitude(9), ansatze["real_amplitudes"](9, 8), ClassGroups(2, 9))
    with pytest.raises(ResourceError, match="Count the same ansatz on fewer qubits"):
        effective_weights(model)
