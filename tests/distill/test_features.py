from __future__ import annotations

import pytest
import torch
from torch import nn

from qiskit_kd.circuits import CircuitModel, ClassGroups, angle, real_amplitudes
from qiskit_kd.distill.outputs import FeatureCapture, engines, untouched
from qiskit_kd.errors import DistillError
from qiskit_kd.nn import QuantumLayer

from .toys import FEATURES, mlp, same, weights


def test_keeps_the_output_of_named_layers_and_lets_gradients_through():
    module, x = mlp(), torch.ones(4, FEATURES)
    with FeatureCapture(module, ["0", "2"]) as capture:
        module(x)
        assert capture.outputs.keys() == {"0", "2"}
        torch.testing.assert_close(capture.outputs["0"], module[0](x))
        capture.outputs["2"].sum().backward()
    assert module[1].bias.grad is not None
    assert module[4].bias.grad is None


def test_takes_its_hooks_off():
    module = mlp()
    capture = FeatureCapture(module, ["0"])
    assert module[0]._forward_hooks
    capture.close()
    assert not module[0]._forward_hooks
    module(torch.ones(4, FEATURES))
    assert capture.outputs == {}


def test_unknown_layers_are_answered_with_near_names():
    module = nn.Sequential()
    module.add_module("encoder", nn.Linear(2, 2))
    with pytest.raises(DistillError, match=r"student has no layer .* got 'encodr'.*'encoder'"):
        FeatureCapture(module, ["encodr"], role="student")
    with pytest.raises(DistillError, match=r"got '0'; expected for example 'encoder'"):
        FeatureCapture(module, ["0"])
    assert not module.encoder._forward_hooks


class Pair(nn.Module):
    def __init__(self, second: bool) -> None:
        super().__init__()
        self.second = second

    def forward(self, x):
        return (x, x + 1) if self.second else {"x": x}


def test_of_a_tuple_the_first_tensor_counts_and_nothing_else_is_a_feature():
    module = nn.Sequential(Pair(True))
    with FeatureCapture(module, ["0"]) as capture:
        module(torch.zeros(1))
        assert capture.outputs["0"].item() == 0
    module = nn.Sequential(Pair(False))
    with (
        FeatureCapture(module, ["0"]),
        pytest.raises(DistillError, match=r"layer '0' of the network returns a tensor.*got dict"),
    ):
        module(torch.zeros(1))


def test_a_shared_layer_has_all_its_names():
    relu = nn.ReLU()
    module = nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu)
    with FeatureCapture(module, ["3"]) as capture:
        assert torch.equal(module(torch.ones(1, 2)), capture["3"])


def test_an_output_that_is_overwritten_later_is_not_passed_off_as_the_layers():
    x = torch.ones(4, FEATURES)
    module = nn.Sequential(nn.Linear(FEATURES, 3), nn.ReLU(inplace=True))
    with FeatureCapture(module, ["0", "1"], role="student") as capture:
        module(x)
        with pytest.raises(
            DistillError,
            match=r"output of the layer '0' of the student stays as it was.*in place; expected "
            r"inplace=False.*or name it instead",
        ):
            capture["0"]
        assert torch.equal(capture["1"], module(x))
        with torch.inference_mode():
            module(x)
        capture["0"]  # such tensors count no writes


def test_a_layer_that_is_never_called_says_so():
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    half = Half()
    with FeatureCapture(half, ["spare"], role="teacher") as capture:
        half(torch.ones(1, 2))
        with pytest.raises(
            DistillError, match=r"layer 'spare' of the teacher takes part in .*; got no call\. Choo"
        ):
            capture["spare"]


def test_outputs_of_an_earlier_pass_are_forgotten():
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return self.layer(x) if self.training else x

    module = Sometimes()
    with FeatureCapture(module, ["layer", ""]) as capture:
        assert torch.equal(module(torch.ones(1, 2)), capture["layer"])
        module.eval()(torch.zeros(1, 2))
        assert torch.equal(capture[""], torch.zeros(1, 2))
        with pytest.raises(
            DistillError, match=r"layer 'layer' of the network takes .* got no call"
        ):
            capture["layer"]
    assert not module._forward_pre_hooks
    assert not module._forward_hooks


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
