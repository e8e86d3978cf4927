# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from qiskit_kd.distill.adapters import adapters, channels, linear
from qiskit_kd.errors import DistillError, UnknownNameError
from qiskit_kd.nn.modules import num_parameters
from qiskit_kd.seeding import stream

from .toys import same, weights

PAIRS = [((2, 5), (7, 5)), ((3, 4, 6), (2, 4, 6)), ((2, 3, 2, 4), (2, 3, 2, 4))]


def maps(*shape: int) -> torch.Tensor:
    return torch.from_numpy(stream(0, "maps").normal(size=shape))


@pytest.mark.parametrize("name", sorted(adapters))
@pytest.mark.parametrize(("own", "other"), PAIRS)
def test_adapters_lead_from_shape_to_shape(name: str, own, other):
    adapter = adapters[name](own, other, seed=3, dtype=torch.float64)
    assert adapter(maps(4, *own)).shape == (4, *other)
    assert all(p.requires_grad and p.dtype == torch.float64 for p in adapter.parameters())


@pytest.mark.parametrize("name", sorted(adapters))
def test_initial_values_come_from_the_seed_alone(name: str):
    before = torch.get_rng_state()
    built = [
        adapters[name]((3, 4, 4), (5, 4, 4), seed=seed, dtype=torch.float32) for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert same(weights(built[0]), weights(built[1]))
    assert not same(weights(built[0]), weights(built[2]))
    values = torch.cat([p.flatten() for p in built[0].parameters()])
    bound = 1 / math.sqrt(3 if name == "channels" else 48)
    assert values.abs().max() <= bound
    assert values.std() > 0.3 * bound


def test_channels_are_mixed_alike_at_every_position():
    adapter = channels((3, 4, 6), (5, 4, 6), seed=0, dtype=torch.float64)
    assert isinstance(adapter, nn.Conv2d)
    assert num_parameters(adapter) == 20
    x = maps(2, 3, 4, 6)
    matrix, bias = adapter.weight.view(5, 3), adapter.bias
    assert not torch.equal(matrix, matrix.float().double()), "drawn in full precision"
    expected = torch.einsum("oc,bchw->bohw", matrix, x) + bias[:, None, None]
    torch.testing.assert_close(adapter(x), expected)


def test_linear_takes_everything_to_everything():
    adapter = linear((3, 4), (2, 2, 2), seed=0, dtype=torch.float64)
    assert num_parameters(adapter) == 13 * 8
    x = maps(5, 3, 4)
    expected = x.reshape(5, 12) @ adapter[1].weight.T + adapter[1].bias
    torch.testing.assert_close(adapter(x), expected.reshape(5, 2, 2, 2))


@pytest.mark.parametrize(
    ("own", "other"), [((3, 4, 4), (3, 2, 2)), ((3, 4, 4), (3, 16)), ((8,), (8,)), ((), ())]
)
def test_channels_need_equal_positions(own, other):
    with pytest.raises(
        DistillError,
        match=r"adapter 'channels' keeps the positions.*; got student \(.*\), teacher \(.*\); "
        r"expected \(channels, \.\.\.\).*Use the adapter 'linear'",
    ):
        channels(own, other, seed=0, dtype=torch.float32)


def test_linear_needs_an_axis():
    with pytest.raises(
        DistillError, match=r"an axis besides the batch; got student \(\), teacher \(3,\).*Choose o"
    ):
        linear((), (3,), seed=0, dtype=torch.float32)


def test_unknown_adapters_are_answered_with_near_names():
    with pytest.raises(UnknownNameError, match=r"unknown adapter; got 'lineer'. did you mean 'lin"):
        adapters["lineer"]
