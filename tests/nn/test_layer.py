from __future__ import annotations

import copy
import io
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from qiskit_machine_learning.algorithms.classifiers import NeuralNetworkClassifier
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.optimizers import COBYLA, L_BFGS_B
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from qiskit_kd import circuits as kd
from qiskit_kd.circuits import (
    CircuitModel,
    ClassGroups,
    Encoding,
    Observables,
    amplitude,
    amplitude_mps,
    angle,
    hardware_efficient,
)
from qiskit_kd.distill import Teacher
from qiskit_kd.errors import CircuitError, ConfigError, DataError
from qiskit_kd.execution import ExactEngine, load_backend
from qiskit_kd.execution.noisy import NoisyEngine
from qiskit_kd.execution.noisy.program_cache import ProgramCache
from qiskit_kd.execution.schema import Noise, Rates
from qiskit_kd.execution.snapshots import open_noise
from qiskit_kd.nn import QuantumLayer, Quanvolution, students
from qiskit_kd.nn.layer import EngineNetwork
from tests.reference import reference_outputs

NOISE = Noise(rates=Rates.model_validate({"one_qubit": 0.002, "two_qubit": 0.02}))


@pytest.fixture
def model() -> CircuitModel:
    return CircuitModel(kd.amplitude(3), kd.hardware_efficient(3, 1), ClassGroups(3, 3))


def rows(batch: int, features: int, dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, features, dtype=dtype, generator=generator)


@pytest.mark.parametrize("readout", [ClassGroups(3, 3), Observables(["ZII", "IXY", "ZZZ"])])
def test_outputs_and_shapes(readout):
    model = CircuitModel(kd.amplitude(3), kd.hardware_efficient(3, 1), readout)
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
    with pytest.raises(ConfigError, match=r"a V2 primitive or a BackendV2; got NoneType"):
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


def stock(model: CircuitModel) -> TorchConnector:
    return TorchConnector(QuantumLayer(model).neural_network)


def test_state_dicts_of_stock_connectors_and_ours_are_the_same(model):
    theirs, ours = stock(model), QuantumLayer(model, seed=1)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for wrap in (lambda m: m, lambda m: nn.Sequential(nn.Linear(8, 8), nn.ModuleDict({"q": m}))):
        source, target = wrap(stock(model)), wrap(QuantumLayer(model, seed=1))
        target.load_state_dict(source.state_dict(), strict=True)
        for one, other in zip(source.parameters(), target.parameters(), strict=True):
            assert torch.equal(one, other)
        back = wrap(stock(model))
        back.load_state_dict(target.state_dict(), strict=True)
        for one, other in zip(back.parameters(), target.parameters(), strict=True):
            assert torch.equal(one, other)
    state = theirs.state_dict()
    for key in ("weight", "_weights"):  # one of them is enough
        layer = QuantumLayer(model, seed=1)
        layer.load_state_dict({key: state[key]}, strict=True)
        assert torch.equal(layer.weight, theirs.weight)
    with pytest.raises(RuntimeError, match="weight and _weights name one tensor, but their values"):
        ours.load_state_dict({"weight": state["weight"], "_weights": state["weight"] + 1})
    with pytest.raises(RuntimeError, match="size mismatch"):
        ours.load_state_dict({"_weights": state["weight"][:2]})
    lost = {key: torch.full_like(value, torch.nan) for key, value in state.items()}
    ours.load_state_dict(lost)  # of a training that diverged
    assert safetensors_keys(ours) == {"weight", "_weights"}
    one = Quanvolution(CircuitModel(kd.angle(4), kd.hardware_efficient(4, 1), ClassGroups(2, 4)), 1)
    one.load_state_dict(stock(one.model).state_dict(), strict=True)
    more = Quanvolution(one.model, 2)
    with pytest.raises(RuntimeError, match="size mismatch"):
        more.load_state_dict(stock(one.model).state_dict())


def safetensors_keys(module: nn.Module) -> set[str]:
    return set(safetensors.torch.load(safetensors.torch.save(module.state_dict())))


CHANGES = {
    "pruned": lambda m: prune.l1_unstructured(m, "weight", 0.5),
    "pruned at random": lambda m: prune.random_unstructured(m, "weight", 2),
    "parametrised": lambda m: parametrize.register_parametrization(m, "weight", nn.Tanh()),
    "spectral": lambda m: parametrizations.spectral_norm(m, "weight"),
    "weight norm": lambda m: parametrizations.weight_norm(m, "weight"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_torchs_changes_of_the_weight(model, kind):
    x = rows(4, 8, torch.float64)
    layer = QuantumLayer(model, seed=2, dtype=torch.float64)
    CHANGES[kind](layer)
    values = layer(x)
    weight = layer.weight
    expected = reference_outputs(model, x.numpy(), weight.detach().numpy())
    np.testing.assert_allclose(values.detach().numpy(), expected, atol=1e-12)
    values[:, 0].sum().backward()
    assert all(p.grad.abs().max() > 0 for p in layer.parameters())
    assert "_weights" not in layer.state_dict()
    twin = QuantumLayer(model, seed=5, dtype=torch.float64)
    CHANGES[kind](twin)
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(twin.eval()(x), layer.eval()(x))
    if "pruned" in kind:
        prune.remove(layer, "weight")
        assert list(layer.state_dict()) == ["weight", "_weights"]
        torch.testing.assert_close(layer(x), values)


def test_the_weight_is_an_ordinary_parameter(model):
    layer, x = QuantumLayer(model), rows(3, 8)
    seen = []
    layer.register_forward_hook(lambda *_: seen.append("forward"))
    layer.register_full_backward_hook(lambda *_: seen.append("backward"))
    layer.weight.register_hook(lambda _: seen.append("weight"))
    layer(x.requires_grad_()).square().sum().backward()
    assert sorted(seen) == ["backward", "forward", "weight"]
    layer.weight = nn.Parameter(torch.zeros(8))
    assert not layer.weight.any()
    del layer.weight
    with pytest.raises(AttributeError, match="weight"):
        _ = layer.weight
    replica = QuantumLayer(model)._replicate_for_data_parallel()  # as nn.DataParallel does
    replica.weight = torch.zeros(8)
    zero = QuantumLayer(model)
    nn.init.zeros_(zero.weight)
    torch.testing.assert_close(replica(x), zero(x))
    ensemble = [QuantumLayer(model, seed=k) for k in range(3)]
    state, _ = torch.func.stack_module_state(ensemble)
    one = lambda w: torch.func.functional_call(ensemble[0], w, (x,))  # noqa: E731
    values = torch.vmap(one)(state)
    torch.testing.assert_close(values, torch.stack([member(x) for member in ensemble]))
    with pytest.raises(ConfigError, match=r"functional_call takes dict\(layer\.named_parameters"):
        torch.func.functional_call(ensemble[0], ensemble[1].state_dict(), (x,))
    same = torch.func.functional_call(ensemble[0], dict(ensemble[1].named_parameters()), (x,))
    torch.testing.assert_close(same, ensemble[1](x))
    torch.testing.assert_close(ensemble[0](x), QuantumLayer(model, seed=0)(x))


@pytest.mark.parametrize("kind", ["layer", "quanvolution"])
def test_what_runs_a_layer_may_be_exchanged(kind):
    model = CircuitModel(kd.angle(4), kd.hardware_efficient(4, 1), ClassGroups(2, 4))
    make = QuantumLayer if kind == "layer" else Quanvolution
    x = rows(3, 4) if kind == "layer" else rows(3, 16).reshape(3, 1, 4, 4)
    layer = make(model, seed=4)
    exact = layer(x)
    layer.backend = "exact_shots"
    assert (layer.backend, layer.shots) == ("exact_shots", make(model, backend="exact_shots").shots)
    torch.testing.assert_close(layer(x), make(model, backend="exact_shots", seed=4)(x))
    layer.shots = 7
    counts = layer(x) * 7
    torch.testing.assert_close(counts, counts.round())
    assert layer.engine.shots == 7
    layer.seed = 5
    assert (layer.seed, layer.engine.seed, layer.shots) == (5, 5, 7)
    layer.gradient = "shift"
    assert (layer.engine.gradient, layer.shots) == ("shift", 7)
    layer.backend = ExactEngine()
    assert (layer.gradient, layer.shots) == ("auto", None)
    torch.testing.assert_close(layer(x), exact)
    layer.shots = None
    with pytest.raises(ConfigError, match="an engine already has its gradient rule and shots"):
        layer.shots = 5
    with pytest.raises(ConfigError, match="an engine already has its seed; got seed=5 beside"):
        layer.seed = 5
    with pytest.raises(ConfigError, match=r"unknown backend; got 'exat'\. did you mean 'exact'"):
        layer.backend = "exat"
    with pytest.raises(ConfigError, match=r"an engine runs circuit models; got 'noisy'.*\.backend"):
        layer.engine = "noisy"
    torch.testing.assert_close(layer(x), exact)  # a refusal changes nothing


def test_a_teacher_answers_with_the_engine_its_layer_has():
    model = CircuitModel(kd.angle(2), kd.hardware_efficient(2, 1), Observables(["ZI", "IZ"]))
    layer = QuantumLayer(model)
    teacher, x = Teacher.from_module(layer), rows(5, 2)
    noisy = [
        NoisyEngine(
            ProgramCache(
                lambda n, scale=scale: open_noise(NOISE, scale=scale, readout=True, num_qubits=n)
            )
        )
        for scale in (1.0, 5.0)
    ]  # of one name
    own = layer.engine
    for engine in (own, *noisy, noisy[0], own):
        layer.engine = engine
        torch.testing.assert_close(teacher(x), layer(x).detach(), atol=1e-6, rtol=0)
    assert teacher.misses == 3 * len(x)  # each engine was asked once
    assert layer.backend == "exact"


def test_a_student_says_where_its_engine_is_set():
    for name in ("hybrid", "fully_quantum", "quanvolution"):
        options = {"shape": [1, 2, 4]} if name == "quanvolution" else {}
        student = students[name](8, 3, seed=0, **options)
        for attribute, value in (("backend", "aer"), ("engine", ExactEngine()), ("shots", 5)):
            with pytest.raises(
                ConfigError, match="where circuits run is an attribute of"
            ) as caught:
                setattr(student, attribute, value)
            path = re.search(r"set it as network\.(\w+)\.", str(caught.value)).group(1)
        getattr(student, path).backend = "aer"
        assert getattr(student, path).engine.name == "aer"
    with pytest.raises(ConfigError, match="Leave it out: there are no circuits in this network"):
        students["linear"](8, 3, seed=0).backend = "aer"


def test_a_hybrid_takes_what_its_circuit_takes():
    student = students["hybrid"](8, 3, seed=0)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        x = rows(4, 8).to(dtype)
        torch.testing.assert_close(student(x), student(x.float()), atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("encoding", "offered"),
    [
        (amplitude(2), True),
        (replace(amplitude(2), angle_pullback=None), True),
        (angle(2), True),
        (replace(angle(2), angle_pullback=None), False),
        (amplitude_mps(2), False),
    ],
)
def test_gradients_of_the_features_are_those_the_encoding_has(
    encoding: Encoding, offered: bool
) -> None:
    model = CircuitModel(encoding, hardware_efficient(2, 1), ClassGroups(3, 2))
    network = EngineNetwork(model, ExactEngine())
    assert network.input_gradients == offered
    x = np.random.default_rng(0).normal(size=(2, model.num_features))
    weights = np.linspace(-1, 1, model.num_weights)
    features, of_weights = network.backward(x, weights)
    assert of_weights is not None
    assert (features is not None) == offered
    if features is not None:
        step = np.zeros_like(x)
        step[:, 1] = 1e-6
        slope = (network.forward(x + step, weights) - network.forward(x - step, weights)) / 2e-6
        np.testing.assert_allclose(features[:, :, 1], slope, atol=1e-7)
