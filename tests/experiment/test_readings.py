# SPDX-License-Identifier: Apache-2.0
"""Mitigated and raw values of the same shots: one job for each batch, whatever is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from device_study import devices  # noqa: F401 (a fixture)
from torch import nn

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import angle
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.execution.backends import load_backend
from qiskit_kd.experiment.evaluation import both_readings
from qiskit_kd.nn.layer import QuantumLayer
from qiskit_kd.nn.quanvolution import Quanvolution

pytestmark = [
    pytest.mark.usefixtures("devices"),
    pytest.mark.filterwarnings("ignore:readout mitigation amplifies shot noise"),
]

MODEL = CircuitModel(angle(2), hardware_efficient(2, 1, final_ry=True), ClassGroups(2, 2))
SETTINGS = {
    "device": ("lagos", {"mitigation": "tensored"}),
    "tiled": ("lagos", {"mitigation": "tensored", "tiles": "auto"}),
    "noisy": ("noisy", {"mitigation": "tensored", "shots": 32}),
}


def network(kind: str, seed: int = 3) -> nn.Module:
    name, settings = SETTINGS[kind]
    backend = load_backend(name).changed("mine", settings)
    layer = QuantumLayer(MODEL, backend=backend, seed=seed)
    head = nn.Linear(2, 2, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 2.0], [-0.5, 3.0]]))
        head.bias.zero_()
    return nn.Sequential(layer.to(torch.float64), head).eval()


def batches(number: int = 3) -> list[torch.Tensor]:
    return [*torch.from_numpy(np.random.default_rng(1).normal(size=(number, 4, 2)))]


def forward(net: nn.Module):
    def run() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([net(batch) for batch in batches()])

    return run


@pytest.mark.parametrize("kind", SETTINGS)
def test_both_are_of_the_same_shots(kind: str) -> None:
    net, twin = network(kind), network(kind)
    mitigated, raw = both_readings(net, forward(net))
    layer = twin[0]
    weights = layer.weight.detach().double().numpy()
    pairs = [layer.engine.outputs_with_raw(MODEL, batch.numpy(), weights) for batch in batches()]
    with torch.no_grad():
        for found, place in ((mitigated, 0), (raw, 1)):
            values = torch.from_numpy(np.concatenate([pair[place] for pair in pairs])).double()
            assert torch.allclose(found, twin[1](values), atol=1e-12)
    assert not torch.allclose(mitigated, raw)
    # What a network says by itself is the first of the two.
    assert torch.equal(forward(network(kind))(), mitigated)


@pytest.mark.parametrize("kind", SETTINGS)
def test_one_job_for_each_batch(kind: str) -> None:
    net = network(kind)
    engine = net[0].engine
    both_readings(net, forward(net))
    assert engine.usage.jobs == len(batches())
    assert engine.position()["drawn"] == len(batches())
    assert net[0].engine is engine  # it has its own engine again
    forward(net)()
    assert engine.usage.jobs == 2 * len(batches())


def test_several_layers_keep_their_shots_apart() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = network("device", 1), network("device", 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) - self.b(x)

    both = Two()
    mitigated, raw = both_readings(both, forward(both))
    singles = [both_readings(one, forward(one)) for one in (network("device", 1),
                                                           network("device", 2))]  # fmt: skip
    assert torch.equal(mitigated, singles[0][0] - singles[1][0])
    assert torch.equal(raw, singles[0][1] - singles[1][1])


@pytest.mark.parametrize(
    ("name", "settings"),
    [("exact", {}), ("aer", {}), ("lagos", {}),
     ("noisy", {"shots": 32, "sampled_by": "qiskit_aer"})],
)  # fmt: skip
def test_without_mitigation_nothing_is_raw(name: str, settings: dict) -> None:
    backend = load_backend(name).changed("mine", settings)
    layer = QuantumLayer(MODEL, backend=backend, seed=0).to(torch.float64)
    calls = []

    def run() -> torch.Tensor:
        calls.append(1)
        return forward(layer)()

    found, raw = both_readings(layer, run)
    assert raw is None
    assert len(calls) == 1
    if name == "exact":
        assert torch.equal(found, forward(layer)())
    else:
        assert layer.engine.usage.jobs == len(batches())  # it ran once


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("kind", SETTINGS)
def test_maps_of_a_quanvolution_are_read_both_ways(kind: str, trainable: bool) -> None:
    name, settings = SETTINGS[kind]
    backend = load_backend(name).changed("mine", settings)
    images = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 1, 3, 3)))

    def layer() -> Quanvolution:
        found = Quanvolution(
            MODEL, kernel_size=(2, 1), filters=2, backend=backend, seed=3, trainable=trainable,
            dtype=torch.float64,
        )  # fmt: skip
        return found.eval()

    net, twin = layer(), layer()

    def run() -> torch.Tensor:
        with torch.no_grad():
            return net(images)

    if not trainable:
        run()  # what is kept in memory has no raw maps beside it
        twin.engine.seek(net.engine.position())
    mitigated, raw = both_readings(net, run)
    assert raw is not None
    assert not torch.allclose(mitigated, raw)
    patches = net.window.cut(images).T.numpy()
    pair = twin.engine.outputs_with_raw(MODEL, patches, twin.weight.detach().numpy())
    for found, values in zip((mitigated, raw), pair, strict=True):
        expected = values.reshape(2, 2, *found.shape[2:], 2).transpose(1, 0, 4, 2, 3)
        np.testing.assert_allclose(found.numpy(), expected.reshape(found.shape), atol=1e-12)


def test_the_engines_are_put_back_where_it_fails() -> None:
    net = network("device")
    engine = net[0].engine

    def broken() -> None:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        both_readings(net, broken)
    assert net[0].engine is engine


def test_a_gradient_is_not_asked_for_but_may_be_recorded() -> None:
    """A layer in training mode calls `vjp`; the values are the same, the gradient is none."""
    net = network("device")

    def run() -> torch.Tensor:
        return torch.cat([net(batch) for batch in batches()]).detach()

    mitigated, raw = both_readings(net, run)
    other = network("device")
    again = both_readings(other, forward(other))
    assert torch.equal(mitigated, again[0])
    assert torch.equal(raw, again[1])
