# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from qiskit_machine_learning.algorithms.classifiers import NeuralNetworkClassifier
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.optimizers import COBYLA, L_BFGS_B
from torch import nn

from qiskit_kd import circuits as kd
from qiskit_kd.circuits import CircuitModel, ClassGroups, Observables
from qiskit_kd.errors import CircuitError, ConfigError, DataError
from qiskit_kd.execution import ExactEngine, load_backend
from qiskit_kd.execution.reference import reference_outputs
from qiskit_kd.nn import QuantumLayer


@pytest.fixture
def model() -> CircuitModel:
    return CircuitModel(kd.amplitude(3), kd.hardware_efficient(3, 1), ClassGroups(3, 3))


def rows(batch: int, features: int, dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, features, dtype=dtype, generator=generator)


def test_outputs_and_shapes(model):
    layer = QuantumLayer(model, dtype=torch.float64)
    x = rows(6, 8, torch.float64)
    expected = reference_outputs(model, x.numpy(), layer.weight.detach().numpy())
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-12)
    assert layer(x.reshape(2, 3, 8)).shape == (2, 3, 3)
    assert layer(x[0]).shape == (3,)
    torch.testing.assert_close(layer(x[0]), layer(x)[0])


def test_is_a_connector_with_one_parameter(model):
    layer = QuantumLayer(model)
    assert isinstance(layer, TorchConnector)
    assert list(layer.state_dict()) == ["weight", "_weights"]  # as the stock connector's
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert layer._weights is layer.weight
    assert layer.sparse is False


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_of_the_input_is_kept(model, dtype):
    layer = QuantumLayer(model)
    values = layer(rows(4, 8, dtype))
    assert values.dtype == dtype
    values.sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    assert layer.double()(rows(4, 8, torch.float64)).dtype == torch.float64


def test_gradients_reach_a_layer_in_front(model):
    network = nn.Sequential(nn.Linear(5, 8), QuantumLayer(model))
    loss = network(rows(4, 5))[:, 0].sum()
    loss.backward()
    assert network[0].weight.grad.abs().max() > 1e-4
    assert network[1].weight.grad.abs().max() > 1e-4


def test_gradcheck(model):
    layer = QuantumLayer(model, dtype=torch.float64)
    x = rows(3, 8, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))
    forward = lambda w: torch.func.functional_call(layer, {"weight": w}, (x.detach(),))  # noqa: E731
    assert torch.autograd.gradcheck(forward, (layer.weight.detach().requires_grad_(),))


def test_frozen_weights_cost_no_backward_evaluation(model):
    engine = ExactEngine()
    frozen, head = QuantumLayer(model, engine), nn.Linear(3, 2)
    frozen.requires_grad_(False)
    head(frozen(rows(4, 8))).sum().backward()
    assert engine.usage.backward == 0
    with torch.no_grad():
        QuantumLayer(model, engine)(rows(4, 8))
    assert engine.usage.backward == 0
    QuantumLayer(model, engine)(rows(4, 8)).square().sum().backward()
    assert engine.usage.backward == 1


def test_pickle_deepcopy_and_torch_save(model):
    layer = QuantumLayer(model, seed=4)
    x = rows(4, 8)
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    twins = (
        copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)),
        torch.load(buffer, weights_only=False),
    )  # fmt: skip
    for twin in twins:
        assert twin.weight is not layer.weight
        torch.testing.assert_close(twin(x), layer(x), atol=0, rtol=0)
        with torch.no_grad():
            twin.weight.zero_()
        assert layer.weight.abs().max() > 0


@pytest.mark.parametrize("assign", [False, True])
def test_load_state_dict(model, assign):
    layer, other = QuantumLayer(model, seed=1), QuantumLayer(model, seed=2)
    x = rows(4, 8)
    layer.load_state_dict(other.state_dict(), assign=assign)
    torch.testing.assert_close(layer(x), other(x), atol=0, rtol=0)
    assert len(list(layer.parameters())) == 1
    layer(x)[:, 0].sum().backward()  # the assigned tensor is the one that learns
    assert next(layer.parameters()).grad is not None
    before = layer(x).detach()
    with torch.no_grad():
        next(layer.parameters()).add_(0.5)
    assert (layer(x) - before).abs().max() > 1e-3


def test_seed_and_torchs_generator(model):
    state = torch.random.get_rng_state()
    first = QuantumLayer(model, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.weight, QuantumLayer(model, seed=3).weight)
    assert not torch.equal(first.weight, QuantumLayer(model, seed=5).weight)
    assert first.weight.abs().max() <= torch.pi


@pytest.mark.parametrize("backend", ["exact", "aer", load_backend("exact"), ExactEngine()])
def test_one_word_changes_the_backend(model, backend):
    x = rows(3, 8, torch.float64)
    layer = QuantumLayer(model, backend)
    torch.testing.assert_close(layer(x), QuantumLayer(model)(x), atol=1e-10, rtol=0)


@pytest.mark.parametrize("backend", ["exact_shots", "aer_shots"])
def test_sampled_backends_learn_too(model, backend):
    layer = QuantumLayer(model, backend, shots=256, seed=1)
    values = layer(rows(3, 8))
    torch.testing.assert_close(values.sum(1), torch.ones(3), atol=1e-6, rtol=0)
    values[:, 0].sum().backward()
    assert layer.weight.grad.abs().max() > 0
    assert layer.engine.usage.backward == 1


def test_expectation_values():
    model = CircuitModel(kd.angle(3), kd.hardware_efficient(3, 1), Observables(["ZII", "IXY"]))
    layer = QuantumLayer(model, dtype=torch.float64)
    x = rows(4, 3, torch.float64)
    expected = reference_outputs(model, x.numpy(), layer.weight.detach().numpy())
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-12)


BACKENDS = ["exact", "exact_shots", "aer", "aer_shots"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_integers_count_as_numbers_on_every_backend(model, backend):
    x = torch.arange(1, 17).reshape(2, 8) % 5 + 1
    whole = QuantumLayer(model, backend, seed=2)(x)
    assert whole.dtype == torch.float32
    assert whole.requires_grad
    same = QuantumLayer(model, backend, seed=2)(x.float())
    torch.testing.assert_close(whole, same, atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_in_and_out(model, dtype):
    layer, x = QuantumLayer(model), rows(3, 8)
    values = layer(x.to(dtype))
    assert values.dtype == dtype
    torch.testing.assert_close(values.float(), layer(x), atol=2e-2, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_other_types_are_refused_on_every_backend(model, backend, dtype):
    with pytest.raises(DataError, match=r"features are real numbers; got a tensor of torch\."):
        QuantumLayer(model, backend)(torch.ones(2, 8).to(dtype))


def test_wrong_width_and_missing_input(model):
    layer = QuantumLayer(model)
    with pytest.raises(DataError, match=r"takes rows of 8 features; got shape \(2, 5\)"):
        layer(rows(2, 5))
    with pytest.raises(DataError, match="takes rows of 8 features; got nothing"):
        layer()


def test_arguments_that_make_no_sense(model):
    with pytest.raises(CircuitError, match=r"made from a CircuitModel; got str\. Build one"):
        QuantumLayer("model")
    with pytest.raises(ConfigError, match=r"an engine already has its gradient .*got gradient='s"):
        QuantumLayer(model, ExactEngine(), gradient="spsa")
    with pytest.raises(ConfigError, match=r"shots=5 beside an engine\. Leave them out"):
        QuantumLayer(model, ExactEngine(), shots=5)
    with pytest.raises(ConfigError, match=r"a name, a Backend or an Engine; got NoneType"):
        QuantumLayer(model, None)
    with pytest.raises(ConfigError, match=r"weights are real numbers; got torch\.complex64"):
        QuantumLayer(model, dtype=torch.complex64)
    with pytest.raises(ConfigError, match=r"unknown backend; got 'exat'\. did you mean 'exact'"):
        QuantumLayer(model, "exat")


def test_repr_names_sizes_and_backend(model):
    assert "weights=8" in repr(QuantumLayer(model))
    assert "backend='exact'" in repr(QuantumLayer(model))
    sampled = [repr(QuantumLayer(model, "exact_shots", shots=shots)) for shots in (7, 8)]
    assert "backend='exact_shots', shots=7, options=" in sampled[0]
    assert sampled[0].replace("=7", "=8") == sampled[1]
    assert "options" not in repr(QuantumLayer(model, load_backend("exact").engine()))


@pytest.mark.parametrize("optimizer", [COBYLA(maxiter=15), L_BFGS_B(maxiter=5)])
def test_serves_qiskit_machine_learnings_classifier(optimizer):
    model = CircuitModel(kd.angle(2), kd.hardware_efficient(2, 2), ClassGroups(2, 2))
    layer = QuantumLayer(model, dtype=torch.float64)
    rng = np.random.default_rng(0)
    y = np.arange(20) % 2
    x = rng.normal(scale=0.2, size=(20, 2)) + np.where(y, 1.2, -0.2)[:, None]
    start = layer.weight.detach().numpy()
    classifier = NeuralNetworkClassifier(
        layer.neural_network, loss="cross_entropy", one_hot=True, optimizer=optimizer,
        initial_point=start,
    )  # fmt: skip
    classifier.fit(x, y)
    assert classifier.score(x, y) >= 0.8


def test_network_jacobians_match_finite_differences(model):
    network = QuantumLayer(model).neural_network
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 8)), rng.normal(size=model.num_weights)
    by_x, by_w = network.backward(x, w)
    assert by_x.shape == (2, 3, 8)
    assert by_w.shape == (2, 3, model.num_weights)
    for k, step in enumerate(1e-6 * np.eye(model.num_weights)):
        slope = (network.forward(x, w + step) - network.forward(x, w - step)) / 2e-6
        np.testing.assert_allclose(by_w[..., k], slope, atol=1e-8)
    for k, step in enumerate(1e-6 * np.eye(8)):
        slope = (network.forward(x + step, w) - network.forward(x - step, w)) / 2e-6
        np.testing.assert_allclose(by_x[..., k], slope, atol=1e-8)
