from __future__ import annotations

import copy
import io
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from qiskit_kd import circuits as kd
from qiskit_kd.circuits import CircuitModel, ClassGroups, Encoding, Observables
from qiskit_kd.data import datasets
from qiskit_kd.errors import CircuitError, ConfigError, DataError, StorageError
from qiskit_kd.execution import ExactEngine, load_backend
from qiskit_kd.nn import QuantumLayer, Quanvolution
from qiskit_kd.nn.quanvolution import Window
from tests.reference import reference_outputs

BACKENDS = ["exact", "exact_shots", "aer", "aer_shots"]


def model(encoding: Encoding | None = None, readout: Any = None, layers: int = 1) -> CircuitModel:
    """By default 4 qubits for a patch of 2 x 2, 11 weights, Z of the last qubit."""
    encoding = encoding or kd.angle(4, scale=np.pi)
    n = encoding.num_qubits
    readout = readout or Observables(["Z" + "I" * (n - 1)])
    return CircuitModel(encoding, kd.hardware_efficient(n, layers), readout)


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).random(shape), dtype=dtype)


def digits(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    features = datasets["digits"](seed=0).train.features[:count]
    return torch.as_tensor(np.array(features), dtype=dtype).reshape(count, 1, 8, 8)


def slow(layer: Quanvolution, batch: Tensor) -> NDArray[np.float64]:
    """The definition: image by image, position by position, filter by filter, one Statevector."""
    (high, wide), (down, right) = layer.kernel_size, layer.stride
    above, beside = layer.padding
    maps = []
    for image in batch.detach().numpy():
        padded = np.pad(image, ((0, 0), (above, above), (beside, beside)))
        rows = []
        for top in range(0, padded.shape[1] - high + 1, down):
            row = []
            for left in range(0, padded.shape[2] - wide + 1, right):
                patch = padded[:, top : top + high, left : left + wide].ravel() + layer.offset
                weights = layer.weight.detach().double().numpy()
                row.append([reference_outputs(layer.model, patch[None], w)[0] for w in weights])
            rows.append(row)
        maps.append(rows)
    values = np.array(maps)  # image, row, column, filter, output
    return np.moveaxis(values.reshape(*values.shape[:3], -1), 3, 1)


def equal(layer: Quanvolution, batch: Tensor) -> None:
    np.testing.assert_allclose(layer(batch).detach().numpy(), slow(layer, batch), atol=1e-10)


class TestValues:
    @settings(max_examples=40)
    @given(st.data())
    def test_equals_the_definition(self, data: st.DataObject) -> None:
        draw = data.draw
        kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
        channels = draw(st.integers(1, 5 // (kernel[0] * kernel[1]) or 1))
        features = channels * kernel[0] * kernel[1]
        kind = draw(st.sampled_from(["angle", "amplitude", "reuploading"]))
        qubits = max(1, int(np.ceil(np.log2(features))))
        encoding = {
            "angle": lambda: kd.angle(features, axis="x"),
            "amplitude": lambda: kd.amplitude(qubits, num_features=features),
            "reuploading": lambda: kd.reuploading(features, 2),
        }[kind]()
        n = encoding.num_qubits
        readout = draw(
            st.sampled_from([Observables(["Z" * n]), Observables(["X" * n, "Y" * n]),
                             ClassGroups(2, n)])
        )  # fmt: skip
        layer = Quanvolution(
            model(encoding, readout), draw(st.integers(1, 3)), kernel,
            draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
            draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
            seed=draw(st.integers(0, 99)), offset=draw(st.sampled_from([0.1, 0.7])),
            dtype=torch.float64,
        )  # fmt: skip
        size = (draw(st.integers(kernel[0], 4)), draw(st.integers(kernel[1], 4)))
        batch = images(draw(st.integers(1, 2)), channels, *size, seed=draw(st.integers(0, 99)))
        equal(layer, batch)
        assert layer.output_shape(batch.shape[1:]) == layer(batch).shape[1:]

    def test_a_filter_is_a_quantum_layer_on_patches(self) -> None:
        layer = Quanvolution(model(), filters=1, seed=3, dtype=torch.float64)
        single = QuantumLayer(model(), seed=3, dtype=torch.float64)
        assert torch.equal(layer.weight[0], single.weight)
        batch = images(2, 1, 6, 4)
        patches = nn.Unfold(2, stride=2)(batch).transpose(1, 2)
        torch.testing.assert_close(
            layer(batch).flatten(1), single(patches)[..., 0], atol=1e-12, rtol=0
        )

    @pytest.mark.parametrize("encoding", [kd.angle(4, scale=np.pi), kd.amplitude(2)])
    def test_real_digits(self, encoding: Encoding) -> None:
        layer = Quanvolution(model(encoding), offset=0.05, dtype=torch.float64)
        assert layer(digits(5)).shape == (5, 3, 4, 4)
        equal(layer, digits(5))

    def test_outputs_of_a_filter_lie_side_by_side(self) -> None:
        layer = Quanvolution(
            model(readout=Observables(["ZIII", "IIIZ"])), filters=2, dtype=torch.float64
        )
        last = Quanvolution(
            model(readout=Observables(["IIIZ"])), filters=2, dtype=torch.float64
        )  # the same weights
        batch = images(3, 1, 4, 4)
        assert layer(batch).shape == (3, 4, 2, 2)
        torch.testing.assert_close(layer(batch)[:, 1::2], last(batch), atol=1e-12, rtol=0)

    def test_one_image_without_a_batch(self) -> None:
        layer = Quanvolution(model(), dtype=torch.float64)
        batch = images(2, 1, 5, 4)
        assert layer(batch[0]).shape == (3, 2, 2)
        torch.testing.assert_close(layer(batch[0]), layer(batch)[0], atol=1e-12, rtol=0)

    @pytest.mark.parametrize("trainable", [True, False])
    def test_no_images_make_no_maps(self, trainable: bool) -> None:
        layer = Quanvolution(model(), trainable=trainable)
        assert layer(torch.zeros(0, 1, 4, 6)).shape == (0, 3, 2, 3)

    @settings(max_examples=8)
    @given(
        st.sampled_from([("angle", 1), ("angle", 2), ("amplitude", 1), ("amplitude", 2)]),
        st.integers(1, 2), st.tuples(st.integers(1, 2), st.integers(1, 3)),
        st.tuples(st.integers(0, 1), st.integers(0, 1)),
        st.tuples(st.integers(1, 3), st.integers(2, 4)), st.integers(0, 99), st.booleans(),
    )  # fmt: skip
    def test_equals_itself_on_aer(
        self, kind, filters, stride, padding, size, seed, trainable
    ) -> None:
        name, channels = kind
        encoding = (
            kd.angle(2 * channels, scale=np.pi) if name == "angle" else kd.amplitude(channels)
        )
        layers = [
            Quanvolution(
                model(encoding), filters, (1, 2), stride, padding, backend, seed=seed, offset=0.1,
                trainable=trainable, dtype=torch.float64,
            )
            for backend in ("aer", "exact")
        ]  # fmt: skip
        batch = images(2, channels, *size, seed=seed)
        aer, exact = (layer(batch) for layer in layers)
        torch.testing.assert_close(aer, exact, atol=1e-10, rtol=0)
        equal(layers[0], batch)

    @pytest.mark.slow
    @pytest.mark.parametrize("backend", ["exact_shots", "aer_shots"])
    def test_sampled_backends_are_right_within_their_noise(self, backend: str) -> None:
        shots = 4000
        layer = Quanvolution(model(), backend=backend, shots=shots, seed=1, dtype=torch.float64)
        exact = Quanvolution(model(), seed=1, dtype=torch.float64)
        seen, true = layer(digits(3)), exact(digits(3))
        sigma = ((1 - true.square()).clamp_min(1e-3) / shots).sqrt()
        pull = (seen - true) / sigma
        assert pull.abs().max() < 5
        assert 0.7 < pull.std() < 1.3, "neither less noise than shots make, nor more"


class TestGradients:
    def test_of_weights_and_images(self) -> None:
        layer = Quanvolution(model(), 2, 2, 1, 1, seed=2, dtype=torch.float64)
        batch = images(2, 1, 3, 2).requires_grad_()
        assert torch.autograd.gradcheck(layer, (batch,))
        weight = layer.weight.detach().requires_grad_()
        forward = lambda w: torch.func.functional_call(layer, {"weight": w}, (batch.detach(),))  # noqa: E731
        assert torch.autograd.gradcheck(forward, (weight,))

    def test_reach_a_layer_in_front(self) -> None:
        network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), Quanvolution(model()))
        network(images(2, 1, 4, 4, dtype=torch.float32)).square().sum().backward()
        assert network[0].weight.grad.abs().max() > 1e-4
        assert network[1].weight.grad.abs().max() > 1e-4

    @settings(max_examples=8)
    @given(st.integers(0, 99), st.sampled_from(["angle", "amplitude"]), st.integers(1, 2))
    def test_equal_the_parameter_shift(self, seed: int, kind: str, channels: int) -> None:
        encoding = kd.angle(2 * channels) if kind == "angle" else kd.amplitude(channels)
        rest: dict[str, Any] = {
            "filters": 2, "kernel_size": (1, 2), "stride": (2, 1), "seed": seed, "offset": 0.2,
            "dtype": torch.float64,
        }  # fmt: skip
        batch = images(2, channels, 3, 3, seed=seed)
        found = []
        for gradient in ("auto", "shift"):
            layer, x = Quanvolution(model(encoding), gradient=gradient, **rest), batch.clone()
            x.requires_grad_()
            (layer(x) * images(2, 2, 2, 2, seed=seed + 1)).sum().backward()
            found.append((layer.weight.grad, x.grad))
        for exact, shifted in zip(*found, strict=True):
            assert exact.abs().max() > 1e-6
            torch.testing.assert_close(exact, shifted, atol=1e-9, rtol=0)

    @pytest.mark.slow
    def test_sampled_steps_go_downhill(self) -> None:
        batch, loss = digits(4), lambda maps: (maps - 0.5).square().mean()
        judge = Quanvolution(model(), seed=5, dtype=torch.float64)
        before = loss(judge(batch)).item()
        layer = Quanvolution(model(), backend="exact_shots", seed=5, dtype=torch.float64)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
        for _ in range(15):
            optimizer.zero_grad()
            loss(layer(batch)).backward()
            optimizer.step()
        judge.load_state_dict(layer.state_dict())
        assert loss(judge(batch)).item() < 0.8 * before


class TestCost:
    @pytest.mark.parametrize("backend", ["aer_shots", "exact_shots"])
    @pytest.mark.parametrize("gradient", ["spsa", "shift"])
    def test_a_step_of_training_is_one_job_with_one_pub(self, backend: str, gradient: str) -> None:
        layer = Quanvolution(model(), backend=backend, gradient=gradient, shots=8, seed=0)
        usage = layer.engine.usage
        for step in (1, 2):
            layer(digits(2, torch.float32)).sum().backward()
            assert (usage.jobs, usage.pubs, usage.backward) == (step, step, step)
        assert usage.transpilations == (backend == "aer_shots")
        # RZ and RX are shifted twice, CRX four times; SPSA goes four directions up and down.
        points = 2 * 8 + 4 * 3 if gradient == "shift" else 8
        assert usage.executions == 2 * 8 * 3 * (2 * 16) * (1 + points)

    @pytest.mark.parametrize("backend", ["aer_shots", "exact_shots"])
    def test_gradients_of_the_images_ride_in_the_same_job(self, backend: str) -> None:
        layer = Quanvolution(model(), backend=backend, shots=8, seed=0)
        batch = digits(1, torch.float32)[..., :4, :4].clone().requires_grad_()
        layer(batch).sum().backward()
        assert batch.grad.shape == batch.shape
        usage = layer.engine.usage
        assert (usage.jobs, usage.pubs, usage.transpilations) == (1, 1, backend == "aer_shots")
        assert usage.executions == 8 * 3 * 4 * (1 + 8 + 2 * 4)

    def test_exactly_one_call_of_the_engine(self) -> None:
        class Counting(ExactEngine):
            calls: list[tuple[Any, ...]] = []  # noqa: RUF012

            def vjp(self, circuit, features, weights, needs):
                self.calls.append((features.shape, weights.shape, features.T.flags.c_contiguous))
                return super().vjp(circuit, features, weights, needs)

        layer = Quanvolution(model(), filters=5, backend=Counting())
        layer(images(7, 1, 8, 6, dtype=torch.float32)).sum().backward()
        assert Counting.calls == [((7 * 12, 4), (5, 11), True)]

    def test_frozen_weights_cost_no_backward_evaluation(self) -> None:
        layer = Quanvolution(model()).requires_grad_(False)
        nn.Linear(4, 1)(layer(images(2, 1, 8, 8, dtype=torch.float32))).sum().backward()
        assert layer.engine.usage.backward == 0


class TestModule:
    @pytest.mark.parametrize("trainable", [True, False])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_dtype_of_the_images_is_kept(self, dtype: torch.dtype, trainable: bool) -> None:
        layer = Quanvolution(model(), trainable=trainable)
        values = layer(digits(2, dtype))
        assert values.dtype == dtype
        double = Quanvolution(model(), dtype=torch.float64)(digits(2))
        torch.testing.assert_close(values.double(), double, atol=1e-5, rtol=0)
        if trainable:
            values.sum().backward()
            assert layer.weight.grad.dtype == torch.float32

    @pytest.mark.parametrize("trainable", [True, False])
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_other_types_of_numbers(self, backend: str, trainable: bool) -> None:
        def fresh() -> Quanvolution:
            return Quanvolution(
                model(), filters=2, backend=backend, seed=2, trainable=trainable, offset=0.25
            )

        whole = torch.arange(16).reshape(1, 1, 4, 4)
        assert fresh()(whole).dtype == torch.float32
        assert torch.equal(fresh()(whole), fresh()(whole.float()))
        half = fresh()(whole.to(torch.bfloat16) / 16)
        assert half.dtype == torch.bfloat16
        for wrong in (torch.bool, torch.complex64):
            with pytest.raises(DataError, match=r"pixels are real numbers; got a tensor of torch"):
                fresh()(whole.to(wrong))

    def test_one_key_per_tensor_and_weights_of_ones_own_per_filter(self) -> None:
        layer = Quanvolution(model())
        assert {k: tuple(v.shape) for k, v in layer.state_dict().items()} == {"weight": (3, 11)}
        assert [name for name, _ in layer.named_parameters()] == ["weight"]
        assert not torch.equal(layer.weight[0], layer.weight[1])
        frozen = Quanvolution(model(), trainable=False)
        assert list(frozen.state_dict()) == ["weight"]
        assert not frozen.weight.requires_grad
        assert torch.equal(frozen.weight, layer.weight)

    @pytest.mark.parametrize("trainable", [True, False])
    def test_copies_learn_apart(self, trainable: bool) -> None:
        layer, batch = Quanvolution(model(), seed=4, trainable=trainable), digits(2, torch.float32)
        expected = layer(batch)
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        twins = (
            copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)),
            torch.load(file, weights_only=False),
        )  # fmt: skip
        for twin in twins:
            assert twin.weight.requires_grad == trainable
            torch.testing.assert_close(twin(batch), expected, atol=0, rtol=0)
            with torch.no_grad():
                twin.weight.zero_()
            assert not torch.allclose(twin(batch), expected)
            torch.testing.assert_close(layer(batch), expected, atol=0, rtol=0)

    @pytest.mark.parametrize("trainable", [True, False])
    @pytest.mark.parametrize("assign", [True, False])
    def test_load_state_dict(self, assign: bool, trainable: bool) -> None:
        layer, other = (Quanvolution(model(), seed=k, trainable=trainable) for k in (1, 2))
        batch = digits(2, torch.float32)
        assert not torch.allclose(layer(batch), other(batch))
        layer.load_state_dict(other.state_dict(), assign=assign)
        torch.testing.assert_close(layer(batch), other(batch), atol=0, rtol=0)

    def test_seeds_are_its_own(self) -> None:
        state = torch.random.get_rng_state()
        first = Quanvolution(model(), seed=3)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.equal(first.weight, Quanvolution(model(), seed=3).weight)
        assert not torch.equal(first.weight, Quanvolution(model(), seed=4).weight)
        assert first.weight.abs().max() <= torch.pi

    def test_repr(self) -> None:
        text = repr(Quanvolution(model(), padding=1, backend="exact_shots"))
        assert "channels=1, filters=3, kernel_size=(2, 2), stride=(2, 2), padding=(1, 1)" in text
        assert re.search(r"backend='exact_shots', shots=1024, options=[0-9a-f]{8}, train", text)
        assert text == repr(Quanvolution(model(), padding=1, backend="exact_shots"))


class TestFrozen:
    def frozen(self, backend: str = "exact", **options: Any) -> Quanvolution:
        return Quanvolution(model(), backend=backend, trainable=False, seed=1, **options)

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_an_image_is_computed_once_whatever_the_order(self, backend: str) -> None:
        layer, batch = self.frozen(backend), digits(4, torch.float32)
        first = layer(batch)
        spent = layer.engine.usage.as_dict()
        assert spent["executions"] > 0
        assert torch.equal(layer(batch.flip(0)), first.flip(0))
        assert torch.equal(layer(batch[[2, 2, 0]]), first[[2, 2, 0]])
        assert torch.equal(layer(batch[3]), first[3])
        assert layer.engine.usage.as_dict() == spent
        layer(1 - batch)
        assert layer.engine.usage.as_dict() != spent
        assert not first.requires_grad

    def test_both_precisions_are_kept_side_by_side(self) -> None:
        layer = self.frozen()
        single, double = layer(digits(2, torch.float32)), layer(digits(2))
        spent = layer.engine.usage.executions
        assert torch.equal(layer(digits(2, torch.float32)), single)
        assert torch.equal(layer(digits(2)), double)
        assert layer.engine.usage.executions == spent
        assert not torch.equal(single.double(), double)

    def test_values_are_those_of_a_trainable_layer(self) -> None:
        layer = self.frozen(dtype=torch.float64)
        equal(layer, digits(3))
        torch.testing.assert_close(
            layer(digits(70)), Quanvolution(model(), seed=1, dtype=torch.float64)(digits(70)),
            atol=1e-12, rtol=0,
        )  # fmt: skip

    def test_maps_do_not_depend_on_the_neighbours(self) -> None:
        batch = digits(130, torch.float32)
        whole = self.frozen()(batch)
        for part in (slice(0, 1), slice(60, 71), slice(100, 130)):
            assert torch.equal(self.frozen()(batch[part]), whole[part])

    def test_other_weights_are_another_layer(self) -> None:
        layer, batch = self.frozen(), digits(2, torch.float32)
        first = layer(batch)
        with torch.no_grad():
            layer.weight += 0.5
        assert not torch.allclose(layer(batch), first)
        with torch.no_grad():
            layer.weight -= 0.5
        torch.testing.assert_close(layer(batch), first, atol=1e-5, rtol=0)

    def test_a_folder_keeps_maps_between_layers(self, tmp_path) -> None:
        batch = digits(3, torch.float32)
        first = self.frozen("exact_shots", cache_dir=tmp_path)(batch)
        again = self.frozen("exact_shots", cache_dir=tmp_path)
        assert torch.equal(again(batch), first)
        assert again.engine.usage.executions == 0
        others = [
            Quanvolution(model(), trainable=False, seed=2, cache_dir=tmp_path),
            self.frozen(cache_dir=tmp_path), self.frozen(cache_dir=tmp_path, offset=0.1),
            self.frozen(cache_dir=tmp_path, padding=1), self.frozen(cache_dir=tmp_path, stride=1),
            Quanvolution(model(kd.angle(4)), trainable=False, seed=1, cache_dir=tmp_path),
        ]  # fmt: skip
        for other in others:
            other(batch)
            assert other.engine.usage.executions > 0
        assert len(list(tmp_path.iterdir())) == 1 + len(others)

    def test_another_engine_answers_for_itself(self) -> None:
        layer, batch = self.frozen("exact_shots"), digits(2, torch.float32)
        first = layer(batch)
        layer.engine = self.frozen("exact_shots").engine  # same name, shots and seed
        layer(batch)
        assert layer.engine.usage.executions > 0
        layer.engine = self.frozen("exact").engine
        torch.testing.assert_close(layer(batch), self.frozen()(batch), atol=0, rtol=0)
        assert not torch.equal(layer(batch), first)

    def test_backends_of_one_name_do_not_share_a_folder(self, tmp_path) -> None:
        batch = digits(2, torch.float32)

        def spent(level: int, description: str = "") -> int:
            path = tmp_path / "backends.yaml"
            path.write_text(
                "schema: 1\nbackends:\n  mine:\n    kind: aer\n"
                f"    optimization_level: {level}\n    description: '{description}'\n"
            )
            layer = self.frozen(load_backend("mine", path), cache_dir=tmp_path / "maps")
            layer(batch)
            return layer.engine.usage.executions

        assert spent(1) > 0
        assert spent(1, "in other words") == 0
        assert spent(0) > 0

    def test_in_another_process_shots_are_drawn_anew_without_a_folder(self, tmp_path) -> None:
        batch = digits(2, torch.float32)
        for folder, same in ((None, False), (tmp_path, True)):
            layer = self.frozen("exact_shots", cache_dir=folder)
            first = layer(batch)
            resumed = self.frozen("exact_shots", cache_dir=folder)
            resumed.load_state_dict(layer.state_dict())
            resumed.engine.seek(layer.engine.position())
            assert torch.equal(layer(batch), first)
            assert torch.equal(resumed(batch), first) == same

    def test_shots_of_another_seed_are_other_maps(self, tmp_path) -> None:
        layers = [Quanvolution(model(), backend="exact_shots", trainable=False, seed=seed,
                               cache_dir=tmp_path) for seed in (1, 2)]  # fmt: skip
        layers[1].load_state_dict(layers[0].state_dict())
        one, other = (layer(digits(2, torch.float32)) for layer in layers)
        assert not torch.equal(one, other)

    def test_copies_do_not_carry_the_maps(self) -> None:
        layer = self.frozen()
        before = len(pickle.dumps(layer))
        layer(digits(20, torch.float32))
        assert len(pickle.dumps(layer)) < before + 1000

    def test_a_damaged_file_is_named(self, tmp_path) -> None:
        self.frozen(cache_dir=tmp_path)(digits(2, torch.float32))
        (file,) = tmp_path.glob("*/*.safetensors")
        file.write_bytes(b"nonsense")
        with pytest.raises(StorageError, match=rf"cannot be read; got .*{file.name}.*Delete the"):
            self.frozen(cache_dir=tmp_path)(digits(2, torch.float32))

    def test_without_memory(self, tmp_path) -> None:
        layer, batch = self.frozen("exact_shots", cache_dir=tmp_path), digits(2, torch.float32)
        first = layer(batch)
        with layer.without_memory():
            assert not torch.equal(layer(batch), first)
            layer(1 - batch)
        spent = layer.engine.usage.executions
        assert torch.equal(layer(batch), first)
        assert layer.engine.usage.executions == spent
        layer(1 - batch)
        assert layer.engine.usage.executions > spent

    def test_gradients_pass_through_it_all_the_same(self) -> None:
        network = nn.Sequential(nn.Conv2d(1, 1, 1), self.frozen())
        for _ in range(2):
            network(digits(2, torch.float32)).sum().backward()
        assert network[0].weight.grad.abs().max() > 1e-4
        assert network[1].weight.grad is None

    def test_thawed_it_learns(self) -> None:
        layer = self.frozen().requires_grad_(True)
        layer(digits(2, torch.float32)).sum().backward()
        assert layer.weight.grad.abs().max() > 1e-4


class TestErrors:
    def test_the_circuit_and_the_channels(self) -> None:
        layer = Quanvolution(model())
        match = (
            r"takes 4 features, one for each pixel of a patch; got 3 channels x 2x2 pixels = 12; "
            r"expected images of 1 channels\. Use an encoding of as many features"
        )
        with pytest.raises(DataError, match=match):
            layer(torch.zeros(2, 3, 8, 8))
        assert Quanvolution(model(kd.angle(6)), kernel_size=(1, 2))(torch.zeros(3, 4, 4)).shape == (
            3, 2, 2,
        )  # fmt: skip
        match = r"got 4 features for a kernel of 3x3; expected a multiple of 9\. Use an enc.*\(9\)"
        with pytest.raises(CircuitError, match=match):
            Quanvolution(model(), kernel_size=3)
        with pytest.raises(CircuitError, match=r"a quanvolution is made from a CircuitModel; got"):
            Quanvolution("model")

    @pytest.mark.parametrize("shape", [(8, 8), (1, 1, 1, 8, 8)])
    def test_no_images(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(DataError, match=r"takes images; got shape \(.*Put nn\.Unflatten"):
            Quanvolution(model())(torch.zeros(shape))

    def test_a_kernel_larger_than_the_image(self) -> None:
        match = "a kernel of 2x2 on an image of 1x5 with padding 0x0, which makes 1x5"
        with pytest.raises(DataError, match=match):
            Quanvolution(model())(torch.zeros(2, 1, 1, 5))

    @pytest.mark.parametrize("trainable", [True, False])
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_black_patches_have_no_amplitudes(self, backend: str, trainable: bool) -> None:
        def make(**options: float) -> Quanvolution:
            return Quanvolution(
                model(kd.amplitude(2)), 2, stride=1, padding=1, backend=backend, seed=0,
                trainable=trainable, **options,
            )  # fmt: skip

        batch = torch.rand(3, 1, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.1
        batch[1, 0, :2, :2] = 0
        match = (
            r"no patch may be all zeros; got zeros only in image 1, the patch at row -1, column -1 "
            r"and 3 more\. Set offset, e\.g\. 0\.1, which is added"
        )
        with pytest.raises(DataError, match=match):
            make()(batch)
        uniform = make(offset=0.1)(batch)[1, :, 0, 0]
        if backend in ("exact", "aer"):
            layer = make(offset=0.1)
            ones = [reference_outputs(layer.model, np.ones((1, 4)), w)[0, 0]
                    for w in layer.weight.detach().double().numpy()]  # fmt: skip
            np.testing.assert_allclose(uniform.detach(), ones, atol=1e-6)

    @pytest.mark.parametrize("backend", ["exact", "aer_shots"])
    def test_pixels_that_are_no_numbers(self, backend: str) -> None:
        batch = torch.zeros(3, 1, 4, 4)
        batch[2, 0, 3, 1] = torch.nan
        match = "finite numbers; got NaN or infinity in image 2, the patch at row 2, column 0. Rem"
        with pytest.raises(DataError, match=match):
            Quanvolution(model(), backend=backend)(batch)

    def test_weights_that_are_no_numbers(self) -> None:
        layer = Quanvolution(model())
        with torch.no_grad():
            layer.weight[1, 2] = torch.nan
        with pytest.raises(DataError, match=r"weights are finite numbers; got nan at \[1, 2\]"):
            layer(torch.zeros(2, 1, 4, 4))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"filters": 0}, "filters is a whole number; got 0; expected 1 or more"),
            ({"filters": 2.0}, "filters is a whole number; got 2.0"),
            ({"filters": True}, "filters is a whole number; got True"),
            ({"kernel_size": 0}, "kernel_size is a whole number or a pair of them"),
            ({"stride": 0}, "stride is a whole number or a pair of them"),
            ({"padding": -1}, "padding is a whole number or a pair .* got -1; expected 0 or more"),
            ({"offset": "0.1"}, "offset is a finite number; got '0.1'"),
            ({"offset": float("nan")}, "offset is a finite number; got nan"),
            ({"offset": True}, "offset is a finite number; got True"),
            ({"trainable": "no"}, "trainable is true or false; got 'no'"),
            ({"cache_dir": "maps"}, "only maps of frozen weights are kept; got cache_dir beside"),
            ({"backend": "exat"}, "unknown backend; got 'exat'. did you mean 'exact'"),
            ({"backend": ExactEngine(), "shots": 5}, "an engine already has its gradient rule"),
            ({"dtype": torch.int8}, "weights are real numbers; got torch.int8"),
        ],
    )
    def test_arguments_that_make_no_sense(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Quanvolution(model(), **options)


pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=60)
@given(
    st.integers(0, 3), st.integers(1, 3), st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pairs, pairs, st.tuples(st.integers(0, 2), st.integers(0, 2)),
)  # fmt: skip
def test_patches_are_those_of_torchs_unfold(batch, channels, size, kernel, stride, padding) -> None:
    assume(all(k <= s + 2 * p for k, s, p in zip(kernel, size, padding, strict=True)))
    images = torch.arange(1.0, 1 + batch * channels * size[0] * size[1])
    images = images.reshape(batch, channels, *size)
    window = Window(kernel, stride, padding)
    patches = window.cut(images)
    rows, columns = window.positions(size)
    assert patches.shape == (channels * kernel[0] * kernel[1], batch * rows * columns)
    assert patches.is_contiguous()
    if batch:
        unfold = nn.Unfold(kernel, stride=stride, padding=padding)
        assert torch.equal(patches, unfold(images).transpose(0, 1).reshape(patches.shape))
        assert unfold(images).shape[2] == rows * columns


def test_gradients_come_back_to_every_pixel_that_was_seen() -> None:
    images = torch.rand(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Window((3, 2), (1, 2), (1, 0)).cut, (images,))


def test_pairs() -> None:
    assert Window(np.int64(3), [2, 1], (0, 2)).pairs == ((3, 3), (2, 1), (0, 2))
    for wrong in (0, 1.5, True, "22", [1], [1, 2, 3], [1, 0], [1, 2.0], None):
        with pytest.raises(ConfigError, match=r"stride is a whole number or a pair .*; got .*1 or"):
            Window(stride=wrong)


@pytest.mark.parametrize(("size", "kernel"), [((4, 9), (5, 2)), ((9, 4), (2, 5))])
def test_a_kernel_larger_than_the_image_is_refused(size, kernel) -> None:
    match = (
        rf"a kernel of {kernel[0]}x{kernel[1]} on an image of {size[0]}x{size[1]} with padding 0x0,"
        rf" which makes {size[0]}x{size[1]}\. Use a smaller kernel_size"
    )
    with pytest.raises(DataError, match=match):
        Window(kernel, 1).positions(size)
    assert min(Window(kernel, 1, 1).positions(size)) == 2
