# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from qiskit_kd.nn.modules import seeded, seeded_linear
from qiskit_kd.seeding import stream


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_initial_values_are_those_of_the_stream_weight_first(dtype: torch.dtype) -> None:
    before = torch.get_rng_state()
    layers = {
        6: seeded_linear(6, 4, seed=3, name="head", dtype=dtype),
        12: seeded(nn.Conv2d(2, 5, (2, 3), dtype=dtype, device="meta"), 12, seed=3, name="head"),
    }
    assert torch.equal(torch.get_rng_state(), before)
    for fan_in, layer in layers.items():
        random, bound = stream(3, "init", "head"), 1 / math.sqrt(fan_in)
        assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
        for parameter in layer.parameters():
            drawn = torch.as_tensor(random.uniform(-bound, bound, parameter.shape), dtype=dtype)
            assert torch.equal(parameter, drawn)
            assert parameter.requires_grad
            assert parameter.is_leaf
    assert layers[12](torch.ones(1, 2, 4, 5, dtype=dtype)).shape == (1, 5, 3, 3)


def test_a_layer_without_bias() -> None:
    layer = seeded(nn.Linear(3, 2, bias=False, device="meta"), 3, seed=0, name="a")
    assert layer.bias is None
    assert layer(torch.ones(1, 3)).device.type == "cpu"


@pytest.mark.slow
def test_building_networks_does_not_import_sympy() -> None:
    # torch's own ways to build without drawing do, and every worker process would pay for it.
    code = (
        "import sys, torch\n"
        "torch.nn.Linear(1, 1, device='meta')\n"  # where older torch imports sympy by itself
        "before = set(sys.modules)\n"
        "from qiskit_kd.nn import students\n"
        "from qiskit_kd.distill.adapters import adapters\n"
        "for name in ('convolution', 'quanvolution'):\n"
        "    students[name](16, 2, seed=0, shape=(1, 4, 4))\n"
        "for name in adapters:\n"
        "    adapters[name]((2, 2), (3, 2), seed=0, dtype=torch.float32)\n"
        "sys.exit(bool({'sympy', 'torch._dynamo'} & (set(sys.modules) - before)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
