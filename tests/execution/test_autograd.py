# SPDX-License-Identifier: Apache-2.0
"""The bridge from torch to engines, and what engines that compute with torch share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from qiskit_kd import circuits as kd
from qiskit_kd.circuits import CircuitModel, ClassGroups
from qiskit_kd.execution.autograd import run
from qiskit_kd.execution.engine import Engine, Needs, Usage
from qiskit_kd.execution.torch_use import counted, in_own_modes, one_thread


class Recording(Engine):
    """outputs = [sum of features * sum of weights, 0]; remembers what it was asked for."""

    name = "recording"

    def __init__(self):
        self.usage, self.asked = Usage(), []

    def outputs(self, _model, features, weights):
        self.asked.append("outputs")
        total = features.sum(1) * weights.sum()
        return np.stack([total, np.zeros_like(total)], axis=1)

    def vjp(self, _model, features, weights, needs: Needs):
        self.asked.append(needs)
        values = np.stack([features.sum(1) * weights.sum(), features[:, 0] * 0], axis=1)

        def pullback(cotangent):
            gx = np.broadcast_to(cotangent[:, :1] * weights.sum(), features.shape)
            gw = np.full(weights.shape, (cotangent[:, 0] * features.sum(1)).sum())
            return gx if needs.features else None, gw if needs.weights else None

        return values, pullback


@pytest.fixture
def model():
    return CircuitModel(kd.angle(2), kd.hardware_efficient(2, 1), ClassGroups(2, 2))


@pytest.mark.parametrize(("features", "weights"), [(True, True), (True, False), (False, True)])
def test_asks_only_for_what_is_needed(model, features, weights):
    engine = Recording()
    x = torch.rand(3, 2, dtype=torch.float64).requires_grad_(features)
    w = torch.rand(5, dtype=torch.float64).requires_grad_(weights)
    run(engine, model, x, w).sum().backward()
    assert engine.asked == [Needs(features=features, weights=weights)]
    assert (x.grad is not None) is features
    assert (w.grad is not None) is weights
    if features:
        torch.testing.assert_close(x.grad, torch.full_like(x, float(w.detach().sum())))
    if weights:
        torch.testing.assert_close(w.grad, torch.full_like(w, float(x.detach().sum())))


def test_no_graph_means_no_gradient_work(model):
    engine = Recording()
    w = torch.rand(5, requires_grad=True)
    with torch.no_grad():
        values = run(engine, model, torch.rand(3, 2), w)
    run(engine, model, torch.rand(3, 2), w.detach())
    assert engine.asked == ["outputs", "outputs"]
    assert not values.requires_grad


def test_weights_follow_the_dtype_of_the_features(model):
    w = torch.rand(5, dtype=torch.float32, requires_grad=True)
    values = run(Recording(), model, torch.rand(3, 2, dtype=torch.float64), w)
    assert values.dtype == torch.float64
    values.sum().backward()
    assert w.grad.dtype == torch.float32


def test_an_engine_without_torch_operations_says_so(model):
    assert Recording().torch_outputs(model, torch.rand(1, 2), torch.rand(5)) is None


def test_default_jacobian_is_assembled_from_products(model):
    by_x, by_w = Recording().jacobian(
        model, np.array([[1.0, 2.0], [3.0, 4.0]]), np.arange(5.0), Needs(True, True)
    )
    assert by_x.shape == (2, 2, 2)
    assert by_w.shape == (2, 2, 5)
    np.testing.assert_allclose(by_x[:, 0], 10)
    np.testing.assert_allclose(by_w[:, 0], [[3] * 5, [7] * 5])
    np.testing.assert_allclose(by_w[:, 1], 0)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_is_given_back_after_an_error_too() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == 2


def test_one_gradient_is_counted() -> None:
    weights, usage = torch.ones(2).requires_grad_(), Usage()
    values = counted(weights * 3, usage)
    assert usage.backward == 0
    values.sum().backward()
    assert usage.backward == 1
    assert torch.equal(weights.grad, torch.full((2,), 3.0))
    assert not counted(torch.ones(1), usage).requires_grad  # and nothing where none is asked for


def test_engines_have_modes_of_their_own() -> None:
    def product() -> tuple[Tensor, bool]:
        modes = torch.is_inference_mode_enabled() or torch.is_autocast_enabled("cpu")
        return torch.ones(2, 2) @ torch.ones(2, 2), modes

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        made, modes = in_own_modes(product)
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert not modes
    assert made.dtype == torch.float32
    assert not made.is_inference()
    with torch.no_grad():
        assert not in_own_modes(torch.is_grad_enabled)
