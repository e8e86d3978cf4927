# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from qiskit_kd.circuits import CircuitModel, ClassGroups, angle, real_amplitudes
from qiskit_kd.distill.outputs import engines, untouched
from qiskit_kd.nn import QuantumLayer

from .toys import FEATURES, mlp, same, weights


def test_buffers_and_random_state_come_back():
    module, other = mlp(dropout=0.5).train(), mlp(1).train()
    x = torch.ones(4, FEATURES)
    before, rng = (weights(module), weights(other)), torch.get_rng_state()
    with untouched(module, other):
        module(x)
        other(x)
        assert not same(weights(module), before[0])
    assert same(weights(module), before[0])
    assert same(weights(other), before[1])
    assert torch.equal(torch.get_rng_state(), rng)

    def interrupted() -> None:
        with untouched(module):
            module(x)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert same(weights(module), before[0])


def test_engines_of_any_layer_that_has_one():
    layer = QuantumLayer(CircuitModel(angle(2), real_amplitudes(2, 1), ClassGroups(2, 2)))

    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.engine = layer.engine

    assert engines(nn.Sequential(nn.Linear(2, 2), layer, Other())) == [layer.engine] * 2
    misleading = nn.Linear(2, 2)
    misleading.engine = "diesel"
    assert engines(misleading) == []


def test_a_buffer_that_was_replaced_comes_back_too():
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.register_buffer("absent", None)

        def forward(self, x):
            self.calls = self.calls + 1
            return x

    module = nn.Sequential(Counts())
    buffer = module[0].calls
    with untouched(module):
        module(torch.ones(1))
        assert module[0].calls == 1
    assert module[0].calls is buffer
    assert buffer == 0
