# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qiskit_kd import circuits as kd
from qiskit_kd.circuits import CircuitModel, ClassGroups, Observables
from qiskit_kd.errors import DataError
from qiskit_kd.execution.autograd import run
from qiskit_kd.execution.exact import ExactEngine


@pytest.mark.parametrize("readout", [ClassGroups(3, 3), Observables(["XYZ", "ZZI"])])
@pytest.mark.parametrize("encoding", [kd.amplitude(3), kd.angle(3), kd.dense_angle(3),
                                      kd.reuploading(3, 2)])  # fmt: skip
def test_equals_the_numpy_kernels(encoding, readout):
    model = CircuitModel(encoding, kd.su4_brickwork(3, 1), readout)
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(4, model.num_features)), requires_grad=True)
    w = torch.tensor(rng.normal(size=model.num_weights), requires_grad=True)
    engine = ExactEngine()
    values = run(engine, model, x, w)
    native = engine.torch_outputs(model, x, w)
    torch.testing.assert_close(native, values, atol=1e-12, rtol=0)
    cotangent = torch.tensor(rng.normal(size=values.shape))
    expected = torch.autograd.grad((values * cotangent).sum(), (x, w))
    slopes = torch.autograd.grad((native * cotangent).sum(), (x, w))
    for slope, reference in zip(slopes, expected, strict=True):
        torch.testing.assert_close(slope, reference, atol=1e-11, rtol=0)


def test_second_derivatives():
    model = CircuitModel(kd.amplitude(2), kd.hardware_efficient(2, 1), ClassGroups(2, 2))
    engine = ExactEngine()
    x = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w = torch.linspace(-1, 1, model.num_weights, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: engine.torch_outputs(model, x, v), (w,))


def test_leading_axes():
    model = CircuitModel(kd.amplitude(2), kd.hardware_efficient(2, 1), ClassGroups(2, 2))
    engine = ExactEngine()
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w = torch.linspace(-1, 1, 2 * model.num_weights, dtype=torch.float64).reshape(2, -1)
    torch.testing.assert_close(engine.torch_outputs(model, x, w), run(engine, model, x, w))


def test_nonlinear_angles_are_left_to_the_cpu():
    circuit = QuantumCircuit(1)
    circuit.ry(Parameter("t") ** 2, 0)
    model = CircuitModel(kd.angle(1), circuit, ClassGroups(2, 1))
    assert ExactEngine().torch_outputs(model, torch.ones(1, 1), torch.ones(1)) is None


def test_refusals_and_usage():
    model = CircuitModel(kd.amplitude(2), kd.hardware_efficient(2, 1), ClassGroups(2, 2))
    engine = ExactEngine()
    w = torch.linspace(-1, 1, model.num_weights, requires_grad=True)
    x = torch.eye(4)
    with pytest.raises(DataError, match="a zero vector in row 1"):
        engine.torch_outputs(model, x * torch.tensor([[1.0], [0], [1], [1]]), w)
    with pytest.raises(DataError, match="the model takes 5 weights"):
        engine.torch_outputs(model, x, w[:3])
    engine.torch_outputs(model, x, w).square().sum().backward()
    assert engine.usage.backward == 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_runs_on_cuda():
    model = CircuitModel(kd.amplitude(3), kd.hardware_efficient(3, 1), ClassGroups(3, 3))
    x = torch.randn(5, 8, dtype=torch.float64)
    w = torch.linspace(-1, 1, model.num_weights, dtype=torch.float64, requires_grad=True)
    engine = ExactEngine()
    here = run(engine, model, x, w)
    there = run(engine, model, x.cuda(), w.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here)
