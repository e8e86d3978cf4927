# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from torch import Tensor, nn

from qiskit_kd.circuits import DeadWeightsWarning, dead_weights
from qiskit_kd.data import datasets
from qiskit_kd.errors import CircuitError, ConfigError, DataError, UnknownNameError
from qiskit_kd.nn import Quanvolution, num_parameters, students
from qiskit_kd.nn.images import ImageStudent, convolution, quanvolution
from qiskit_kd.nn.modules import describe
from tests.reference import reference_outputs

FASHION: dict[str, Any] = {"num_features": 784, "num_classes": 10, "shape": (1, 28, 28)}
DIGITS: dict[str, Any] = {"num_features": 64, "num_classes": 10, "shape": (1, 8, 8)}
NAMES = ("convolution", "quanvolution")
SMALL = {"encoding": "amplitude", "ansatz": "product", "ansatz_options": {"num_weights": 6}}


def rows(count: int, features: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.as_tensor(np.random.default_rng(0).random((count, features)), dtype=dtype)


def digits(count: int) -> Tensor:
    return torch.as_tensor(np.array(datasets["digits"](seed=0).train.features[:count]))


def crz_chain() -> QuantumCircuit:
    """RX and RZ on each qubit, then a chain of CRZ: as many weights, but diagonal gates last."""
    circuit, weight = (
        QuantumCircuit(4, name="crz_chain"),
        (Parameter(f"w{k:02d}") for k in range(11)),
    )
    for gate in ("rx", "rz"):
        for qubit in range(4):
            getattr(circuit, gate)(next(weight), qubit)
    for qubit in range(3):
        circuit.crz(next(weight), qubit, qubit + 1)
    return circuit


class TestSizes:
    def test_the_published_networks(self) -> None:
        classical, quantum = convolution(**FASHION, seed=0), quanvolution(**FASHION, seed=0)
        parts = {
            name: [num_parameters(network.filters), num_parameters(network.head)]
            for name, network in (("classical", classical), ("quantum", quantum))
        }
        assert parts == {"classical": [15, 5890], "quantum": [33, 5890]}
        assert num_parameters(classical) == describe(classical)["parameters"] == 5905
        assert num_parameters(quantum) == describe(quantum)["parameters"] == 5923

    def test_frozen_filters_do_not_count(self) -> None:
        assert num_parameters(quanvolution(**FASHION, seed=0, trainable=False)) == 5890

    def test_amplitudes_need_half_the_qubits(self) -> None:
        network = quanvolution(**FASHION, seed=0, encoding="amplitude")
        facts = describe(network)
        assert (facts["qubits"], facts["quantum_weights"], facts["offset"]) == (2, 15, 0.1)
        assert facts["dead_weights"] == 0

    @pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")
    @settings(max_examples=25)
    @given(
        st.integers(1, 3), st.integers(1, 3), st.tuples(st.integers(1, 2), st.integers(1, 2)),
        st.tuples(st.integers(1, 3), st.integers(1, 3)),
        st.tuples(st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.integers(2, 7), st.integers(2, 7)),
    )  # fmt: skip
    def test_both_make_maps_of_one_size(
        self, filters, channels, kernel, stride, padding, size
    ) -> None:
        shape = (channels, *size)
        options = {"kernel_size": kernel, "stride": stride, "padding": padding, "filters": filters}
        found = []
        for name in NAMES:
            more = {} if name == "convolution" else SMALL
            count = int(np.prod(shape))
            network = students[name](count, 4, seed=1, shape=shape, **options, **more)
            batch = rows(2, count, torch.float32)
            assert network(batch).shape == (2, 4)
            maps = network.filters(network.image(batch))
            assert list(maps.shape[1:]) == describe(network)["maps"]
            found.append(maps.shape)
        assert found[0] == found[1]


class TestNetworks:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("activation", ["relu", "tanh", "none"])
    def test_is_what_it_says(self, name: str, activation: str) -> None:
        network = students[name](**DIGITS, seed=1, activation=activation, dtype="float64")
        assert isinstance(network, ImageStudent)
        assert [key for key, _ in network.named_children()] == [
            "image", "filters", "activation", "flatten", "head",
        ]  # fmt: skip
        x = digits(4)
        images = x.reshape(4, 1, 8, 8)
        if name == "convolution":
            layer = network.filters
            maps = nn.functional.conv2d(images, layer.weight, layer.bias, stride=2)
        else:
            patches = nn.Unfold(2, stride=2)(images).transpose(1, 2).reshape(-1, 4)
            values = [reference_outputs(network.filters.model, patches.numpy(), w.detach().numpy())
                      for w in network.filters.weight]  # fmt: skip
            maps = torch.as_tensor(np.array(values)).reshape(3, 4, 4, 4).transpose(0, 1)
        seen = {"relu": torch.relu, "tanh": torch.tanh, "none": lambda z: z}[activation](maps)
        expected = seen.reshape(4, 48) @ network.head.weight.T + network.head.bias
        torch.testing.assert_close(network(x), expected, atol=1e-10, rtol=0)
        torch.testing.assert_close(network(x[0]), expected[0], atol=1e-10, rtol=0)

    def test_frozen_filters_are_evaluated_once_per_image(self) -> None:
        network = quanvolution(**DIGITS, seed=0, trainable=False, dtype="float64")
        x = digits(5)
        nn.functional.cross_entropy(network(x), torch.arange(5)).backward()
        spent = network.circuit.engine.usage.executions
        nn.functional.cross_entropy(network(x.flip(0)), torch.arange(5)).backward()
        assert network.circuit.engine.usage.executions == spent > 0
        assert network.head.weight.grad.abs().max() > 0
        assert network.filters.weight.grad is None

    @pytest.mark.slow
    @pytest.mark.parametrize("backend", ["exact", "exact_shots", "aer", "aer_shots"])
    def test_every_backend(self, backend: str) -> None:
        network = quanvolution(**DIGITS, seed=0, backend=backend, dtype="float64")
        exact = quanvolution(**DIGITS, seed=0, dtype="float64")
        atol = 1e-10 if describe(network)["backend"] in ("exact", "aer") else 1.0
        torch.testing.assert_close(network(digits(2)), exact(digits(2)), atol=atol, rtol=0)
        network(digits(2)).square().sum().backward()
        assert network.filters.weight.grad.abs().max() > 0

    def test_a_pixel_turns_its_qubit_by_pi(self) -> None:
        encoding = quanvolution(**DIGITS, seed=0).filters.model.encoding
        assert [item.operation.name for item in encoding.circuit.data] == ["ry"] * 4
        pixels = np.array([[0.0, 0.5, 1.0, 0.25]])
        np.testing.assert_allclose(encoding.angles(pixels), np.pi * pixels)
        other = quanvolution(**DIGITS, seed=0, encoding_options={"axis": "x", "scale": 2.0})
        np.testing.assert_allclose(other.filters.model.encoding.angles(pixels), 2 * pixels)
        turned = quanvolution(**DIGITS, seed=0, encoding_options={"axis": "x"})
        np.testing.assert_allclose(turned.filters.model.encoding.angles(pixels), np.pi * pixels)

    def test_the_head_starts_equal_at_the_same_seed(self) -> None:
        networks = [students[name](**DIGITS, seed=7) for name in NAMES]
        networks.append(quanvolution(**DIGITS, seed=7, trainable=False, encoding="amplitude"))
        for network in networks[1:]:
            assert torch.equal(network.head.weight, networks[0].head.weight)
            assert torch.equal(network.head.bias, networks[0].head.bias)
        assert not torch.equal(
            networks[0].head.weight, convolution(**DIGITS, seed=8).head.weight
        )  # fmt: skip

    def test_filters_of_the_convolution_have_torchs_own_range(self) -> None:
        layer = convolution(**{**DIGITS, "num_features": 192, "shape": (3, 8, 8)}, seed=0,
                            filters=200).filters  # fmt: skip
        values = layer.weight.detach()
        assert float(values.abs().max()) == pytest.approx(12**-0.5, rel=1e-2)
        assert float(values.std()) == pytest.approx(36**-0.5, rel=0.05)
        assert layer.bias.detach().abs().max() <= 12**-0.5

    def test_several_qubits_read_make_several_maps(self) -> None:
        network = quanvolution(**DIGITS, seed=0, measured=[2, 3], dtype="float64")
        assert describe(network)["maps"] == [6, 4, 4]
        images = network.image(digits(2))
        torch.testing.assert_close(
            network.filters(images)[:, 1::2],
            quanvolution(**DIGITS, seed=0, dtype="float64").filters(images), atol=1e-12, rtol=0,
        )  # fmt: skip

    def test_the_circuit_is_where_reports_look_for_it(self) -> None:
        network = quanvolution(**DIGITS, seed=0)
        assert isinstance(network.circuit, Quanvolution)
        assert network.circuit.model.num_weights == 11
        assert convolution(**DIGITS, seed=0).circuit is None
        assert list(network.state_dict()) == ["filters.weight", "head.weight", "head.bias"]

    def test_facts(self) -> None:
        sizes = {
            "image": [1, 28, 28], "filters": 3, "kernel_size": [2, 2], "stride": [2, 2],
            "padding": [0, 0], "activation": "relu", "maps": [3, 14, 14],
        }  # fmt: skip
        assert describe(convolution(**FASHION, seed=0)) == {
            "kind": "convolution", **sizes, "parameters": 5905
        }  # fmt: skip
        assert describe(quanvolution(**FASHION, seed=0)) == {
            "kind": "quanvolution", **sizes, "trainable": True, "quantum_weights": 33,
            "encoding": "angle", "encoding_options": {"scale": np.pi}, "offset": 0.0, "qubits": 4,
            "measured": [3], "dead_weights": 0, "ansatz": "hardware_efficient", "layers": 1,
            "ansatz_options": {}, "backend": "exact", "gradient": "auto", "shots": None,
            "parameters": 5923, "live_parameters": 5923, "effective_parameters": 5923,
            "effective_weights": 11,
        }  # fmt: skip


class TestLiveWeights:
    def test_all_33_weights_learn(self) -> None:
        network = quanvolution(**DIGITS, seed=0, dtype="float64")
        assert dead_weights(network.circuit.model) == []
        labels = torch.arange(20) % 10
        for seed in range(3):
            network = quanvolution(**DIGITS, seed=seed, dtype="float64")
            nn.functional.cross_entropy(network(digits(20)), labels).backward()
            gradient = network.filters.weight.grad.abs()
            assert gradient.shape == (3, 11)
            if seed == 0:
                moved = gradient
            moved = torch.maximum(moved, gradient)
        assert float(moved.min()) > 1e-6

    def test_with_diagonal_gates_last_all_but_one_are_dead(self) -> None:
        with pytest.warns(DeadWeightsWarning, match="10 of 11 weights cannot move") as caught:
            network = quanvolution(**DIGITS, seed=0, ansatz=crz_chain(), dtype="float64")
        assert caught[0].filename == __file__
        assert describe(network)["dead_weights"] == 10
        assert dead_weights(network.circuit.model) == [k for k in range(11) if k != 3]
        images = network.image(digits(3))
        maps = network.filters(images)
        maps.square().sum().backward()
        gradient = network.filters.weight.grad.abs()
        assert (gradient.sum(0) > 1e-12).tolist() == [k == 3 for k in range(11)]
        # The filter is a product of cosines: of one weight, and of one pixel of the patch.
        last = torch.cos(torch.pi * images[:, :, 1::2, 1::2])
        weight = torch.cos(network.filters.weight[:, 3]).reshape(1, 3, 1, 1)
        torch.testing.assert_close(maps, weight * last, atol=1e-12, rtol=0)

    def test_frozen_filters_do_not_warn(self) -> None:
        network = quanvolution(**DIGITS, seed=0, ansatz=crz_chain(), trainable=False)
        assert describe(network)["dead_weights"] == 10

    def test_of_the_qubit_read(self) -> None:
        with pytest.warns(DeadWeightsWarning, match="of 11 weights cannot move"):
            quanvolution(**DIGITS, seed=0, measured=[0])


class TestErrors:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        "shape", [None, (64,), (8, 8), [8, 8], (1, 8, 9), (1, 8, 8.0), "abc", (1, -8, -8), 64]
    )
    def test_no_shape_or_another(self, name: str, shape: Any) -> None:
        match = r"needs the shape of its images; got shape .* for 64 features; expected for an"
        with pytest.raises(ConfigError, match=match + r" image.*Use a data set of images"):
            students[name](64, 10, seed=0, shape=shape)

    @pytest.mark.parametrize("name", NAMES)
    def test_a_list_is_a_shape(self, name: str) -> None:
        students[name](64, 10, seed=0, shape=[1, 8, 8])

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"kernel_size": (2, 9)}, DataError, "a kernel of 2x9 on an image of 8x8 with padding"),
            ({"filters": 0}, ConfigError, "filters is a whole number; got 0"),
            ({"kernel_size": 0}, ConfigError, "kernel_size is a whole number or a pair"),
            ({"stride": "2"}, ConfigError, "stride is a whole number or a pair .* got '2'"),
            ({"padding": -1}, ConfigError, "padding is a whole number or a pair .* got -1"),
            ({"activation": "elu"}, ConfigError,
             "unknown activation; got 'elu'; expected 'none' or 'relu' or 'tanh'"),
            ({"dtype": "int8"}, ConfigError, "unknown dtype; got 'int8'"),
        ],
    )  # fmt: skip
    def test_of_both(
        self, name: str, options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        more = {"encoding": "amplitude"} if name == "quanvolution" else {}
        with pytest.raises(error, match=message):
            students[name](**DIGITS, seed=0, **options, **more)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"encoding": "angel"}, UnknownNameError, "did you mean 'angle'"),
            ({"ansatz": "real"}, UnknownNameError, "unknown ansatz; got 'real'"),
            ({"encoding_options": ["y"]}, ConfigError, "options of the encoding 'angle' are named"),
            ({"encoding_options": {"axe": "y"}}, UnknownNameError, "did you mean 'axis'"),
            ({"measured": [4]}, CircuitError, r"got \[4\]; expected one or more of 0..3"),
            ({"trainable": 1}, ConfigError, "trainable is true or false; got 1"),
            ({"offset": "1"}, ConfigError, "offset is a finite number; got '1'"),
            ({"encoding": "dense_angle", "kernel_size": 3}, CircuitError, "takes 10 features; got"),
        ],
    )
    def test_of_the_quantum_one(
        self, options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            quanvolution(**DIGITS, seed=0, **options)

    def test_black_patches_without_an_offset(self) -> None:
        network = quanvolution(**DIGITS, seed=0, encoding="amplitude", offset=0.0)
        with pytest.raises(DataError, match=r"zeros only in image 0, .*Set offset, e\.g\. 0\.1"):
            network(torch.zeros(2, 64))
        assert bool(
            quanvolution(**DIGITS, seed=0, encoding="amplitude")(torch.zeros(2, 64))
            .isfinite()
            .all()
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kernel", [9, 29, [2, 9]])
def test_a_kernel_larger_than_the_image_is_named_whatever_circuit_it_would_take(
    name: str, kernel: Any
) -> None:
    with pytest.raises(DataError, match=r"no larger than the padded image; got a kernel of \d+x\d"):
        students[name](**DIGITS, seed=0, kernel_size=kernel)
