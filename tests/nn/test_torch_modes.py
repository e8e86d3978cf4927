# SPDX-License-Identifier: Apache-2.0
"""First-order training is right under every mode of torch, on every engine, and nothing is silent.

Values and gradients under a mode are compared with those of an engine of the same seed without it.
"""

from __future__ import annotations

import contextlib
import copy
import io
import threading
import warnings

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from qiskit_kd import circuits as kd
from qiskit_kd.circuits import CircuitModel, ClassGroups, Encoding, Observables
from qiskit_kd.distill import losses
from qiskit_kd.errors import DataError, ExecutionError
from qiskit_kd.execution import ExactEngine, load_backend
from qiskit_kd.execution.engine import Engine, not_negative
from qiskit_kd.execution.noisy import NoisyEngine
from qiskit_kd.execution.schema import Noise, Rates
from qiskit_kd.execution.snapshots import open_noise
from qiskit_kd.nn import QuantumLayer, Quanvolution, students
from qiskit_kd.nn.modules import FullyQuantumStudent
from tests.execution.engines import noisy_shots

QUBITS = 2
RATES = Rates.model_validate({"one_qubit": 0.002, "two_qubit": 0.01, "readout": [0.01, 0.04]})
MODELS = {
    "amplitude": CircuitModel(
        kd.amplitude(QUBITS), kd.hardware_efficient(QUBITS, 1), ClassGroups(2, QUBITS)
    ),
    "angle": CircuitModel(
        kd.angle(QUBITS), kd.hardware_efficient(QUBITS, 1), Observables(["ZI", "XY"])
    ),
    "angle groups": CircuitModel(
        kd.angle(QUBITS), kd.hardware_efficient(QUBITS, 1), ClassGroups(2, QUBITS)
    ),
    "reuploading": CircuitModel(
        kd.reuploading(QUBITS, 2), kd.hardware_efficient(QUBITS, 1), ClassGroups(2, QUBITS)
    ),
}
BATCHES = (1, 4, 5, 40)  # on both sides of 2**QUBITS, and of four times that


def noisy(scale: float = 1.0) -> NoisyEngine:
    return NoisyEngine(open_noise(Noise(rates=RATES), scale=scale, readout=True, num_qubits=2))


ENGINES = {
    "exact": ExactEngine,
    "noisy": noisy,
    "aer": lambda: load_backend("aer").engine(),
    "exact_shots": lambda: load_backend("exact_shots").engine(seed=3, shots=64),
    "aer_shots": lambda: load_backend("aer_shots").engine(seed=3, shots=64),
}
EXACT = {"exact", "noisy", "aer"}


def features(model: CircuitModel, batch: int, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, model.num_features, dtype=torch.float64, generator=generator)
    return x.to(dtype)


def step(layer: QuantumLayer, x: torch.Tensor, cotangent: torch.Tensor) -> list[torch.Tensor]:
    """Values, and gradients of a loss that is not linear in them."""
    layer.weight.grad = None
    values = layer(x)
    loss = (values * cotangent).sum() + values.square().sum()
    loss.backward()
    return [values.detach(), layer.weight.grad]


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def anomaly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that anomaly detection is slow
        with torch.autograd.detect_anomaly():
            yield


MODES = {
    "autocast bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast float16": lambda: torch.autocast("cpu", torch.float16),
    "default dtype": default_dtype,
    "default device": lambda: torch.device("meta"),
    "deterministic": deterministic,
    "anomaly": anomaly,
    "saved on the CPU": torch.autograd.graph.save_on_cpu,
    "grad in no_grad": lambda: torch.set_grad_enabled(True),
}


def alike(found, expected, dtype=torch.float64) -> None:
    atol = 1e-10 if dtype == torch.float64 else 2e-5
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_under_a_mode_is_the_step_without(engine: str, mode: str) -> None:
    cases = [(name, batch) for name in ("amplitude", "angle groups") for batch in BATCHES[1:]]
    kinds = (torch.float32, torch.float64)
    if engine not in EXACT - {"aer"}:
        cases, kinds = cases[::3], kinds[:1]
    for name, batch in cases:
        for dtype in kinds:
            model = MODELS[name]
            x, c = features(model, batch, dtype), torch.ones(batch, 2, dtype=dtype)
            expected = step(QuantumLayer(model, ENGINES[engine](), dtype=dtype), x, c)
            layer = QuantumLayer(model, ENGINES[engine](), dtype=dtype)
            with MODES[mode]():  # the first step here makes all that an engine keeps
                found = step(layer, x, c)
            alike(found, expected, dtype)
            if engine in EXACT:  # and what it keeps serves outside
                alike(step(layer, x, c), expected, dtype)


@pytest.mark.filterwarnings("ignore:data and weights interleave")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", MODELS)
def test_a_look_without_gradients_leaves_nothing_behind(engine: str, name: str) -> None:
    model = MODELS[name]
    for batch in BATCHES if engine in EXACT - {"aer"} else BATCHES[1:2]:
        x, c = features(model, batch), torch.ones(batch, 2, dtype=torch.float64)
        layer = QuantumLayer(model, ENGINES[engine](), dtype=torch.float64)
        for look in (torch.inference_mode, torch.no_grad, torch.inference_mode):
            with look():
                values = layer(x)
            assert not values.requires_grad
            assert values.is_inference() is (look is torch.inference_mode)
            found = step(layer, x, c)
            if engine in EXACT:
                torch.testing.assert_close(found[0], values.clone(), atol=1e-10, rtol=0)
        with torch.inference_mode():
            kept = x * 1.0
        assert layer(kept).requires_grad  # features that were made in inference mode
        layer(kept).sum().backward()


def test_kept_maps_and_logits_serve_every_mode() -> None:
    from qiskit_kd.distill import Teacher

    model = CircuitModel(kd.angle(4), kd.hardware_efficient(4, 1), Observables(["ZIII"]))
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    frozen = Quanvolution(model, 2, trainable=False)
    expected = Quanvolution(model, 2, trainable=False)(images)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(frozen(images), expected)
    maps = frozen(images)
    assert not maps.is_inference()
    head = nn.Linear(8, 1)
    head(maps.flatten(1)).sum().backward()
    teacher, again = (
        Teacher.from_module(nn.Sequential(nn.Flatten(), nn.Linear(16, 2))) for _ in range(2)
    )
    again.modules[0].load_state_dict(teacher.modules[0].state_dict())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        teacher(images)
    torch.testing.assert_close(teacher(images), again(images), atol=0, rtol=0)
    losses["kl"](nn.Linear(16, 2)(images.flatten(1)), teacher(images), None).backward()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning")
def test_compiled_steps_are_eager_steps(engine: str, backend: str, capfd) -> None:
    for name, batch in (("amplitude", 3), ("angle groups", 9))[: 1 + (engine == "exact")]:
        model = MODELS[name]
        x, c = features(model, batch), torch.ones(batch, 2, dtype=torch.float64)
        expected = step(QuantumLayer(model, ENGINES[engine](), dtype=torch.float64), x, c)
        for what in ("step", "layer"):
            torch._dynamo.reset()
            layer = QuantumLayer(model, ENGINES[engine](), dtype=torch.float64)
            if what == "step":
                found = torch.compile(step, backend=backend)(layer, x, c)
            else:
                found = step(torch.compile(layer, backend=backend), x, c)
            alike(found, expected)
    torch._dynamo.reset()
    assert capfd.readouterr() == ("", "")


def loss_of(layer: QuantumLayer):
    def loss(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x,)).square().sum()

    return loss


@pytest.mark.parametrize("engine", ["exact", "noisy", "aer"])
@pytest.mark.parametrize("name", ["amplitude", "angle"])
def test_functional_transforms(engine: str, name: str) -> None:
    model = MODELS[name]
    layer = QuantumLayer(model, ENGINES[engine](), dtype=torch.float64)
    x, w = features(model, 3), layer.weight.detach()
    ws, loss = torch.stack([w, 2 * w]), loss_of(layer)
    differentiate = torch.func.grad(loss, argnums=(0, 1))

    def plain(weight: torch.Tensor, rows: torch.Tensor) -> list[torch.Tensor]:
        own = [weight.clone().requires_grad_(), rows.clone().requires_grad_()]
        return list(torch.autograd.grad(loss(*own), own))

    alike(differentiate(w, x), plain(w, x))
    # An ensemble, samples one by one, and both at once.
    each = torch.vmap(differentiate, (0, None))(ws, x)
    single = torch.vmap(differentiate, (None, 0))(w, x)
    both = torch.vmap(torch.vmap(differentiate, (None, 0)), (0, None))(ws, x)
    for k, weight in enumerate(ws):
        alike([part[k] for part in each], plain(weight, x))
        for j, row in enumerate(x):
            alike([part[k, j] for part in both], plain(weight, row))
            if k == 0:
                alike([part[j] for part in single], plain(weight, row))
    jacobian = torch.func.jacrev(layer)(x)
    alike([jacobian], [torch.autograd.functional.jacobian(layer, x)])
    with torch.no_grad():
        spent = layer.engine.usage.jobs
        alike([torch.vmap(layer)(x)], [layer(x)])
        assert layer.engine.usage.jobs - spent in (0, 2)  # one job for all rows, as without vmap


@pytest.mark.parametrize("name", MODELS)
def test_second_derivatives_on_the_exact_engine(name: str) -> None:
    model = MODELS[name]
    layer = QuantumLayer(model, dtype=torch.float64)
    for batch in (2, 17):
        x = features(model, batch).requires_grad_()
        w = layer.weight.detach().requires_grad_()
        forward = lambda x, w: torch.func.functional_call(layer, {"weight": w}, (x,))  # noqa: E731
        assert torch.autograd.gradgradcheck(forward, (x, w), fast_mode=True)
    loss, w, x = loss_of(layer), w.detach(), x.detach()
    hessian = torch.func.jacrev(torch.func.jacrev(loss))(w, x)
    alike([hessian], [torch.autograd.functional.hessian(lambda v: loss(v, x), w)])
    each = torch.vmap(torch.func.jacrev(torch.func.jacrev(loss)), (None, 0))(w, x)
    alike([each.sum(0)], [hessian])


def test_a_gradient_penalty_moves_the_weights() -> None:
    layer = QuantumLayer(MODELS["amplitude"], dtype=torch.float64)
    x = features(layer.model, 6)

    def penalty(weight: torch.Tensor) -> torch.Tensor:
        rows = x.clone().requires_grad_()
        values = torch.func.functional_call(layer, {"weight": weight}, (rows,))
        (slope,) = torch.autograd.grad(values[:, 0].sum(), rows, create_graph=True)
        return slope.square().sum()

    w = layer.weight.detach().requires_grad_()
    (found,) = torch.autograd.grad(penalty(w), w)
    ends = [
        (penalty(w + 1e-5 * d) - penalty(w - 1e-5 * d)) / 2e-5 for d in torch.eye(len(w)).double()
    ]
    alike([found], [torch.stack(ends).detach()], torch.float32)
    assert found.abs().max() > 0.1


def curved() -> CircuitModel:
    circuit = QuantumCircuit(1)
    circuit.ry(Parameter("t") ** 2, 0)
    return CircuitModel(kd.angle(1), circuit, ClassGroups(2, 1))


def own_map() -> CircuitModel:
    encoding = Encoding(
        "squares", kd.angle(QUBITS).circuit, QUBITS, np.square,
        angle_pullback=lambda x, g: 2 * x * g,
    )  # fmt: skip
    return CircuitModel(encoding, kd.hardware_efficient(QUBITS, 1), ClassGroups(2, QUBITS))


@pytest.mark.parametrize(
    ("engine", "model", "text"),
    [
        *((name, MODELS["angle"], r"second derivatives on '.*' with this circuit are not "
           r"available; got a gradient of a gradient .*Use backend='exact', or a loss")
          for name in ENGINES if name != "exact"),
        ("exact", curved(), "second derivatives on 'exact' with this circuit are not available"),
        ("exact", own_map(), "second derivatives go through angles that are multiples of"),
    ],
)  # fmt: skip
def test_second_derivatives_elsewhere_are_refused_and_never_zero(
    engine: str, model: CircuitModel, text: str
) -> None:
    layer = QuantumLayer(model, ENGINES[engine](), dtype=torch.float64)
    x = features(model, 2).requires_grad_()
    (slope,) = torch.autograd.grad(layer(x)[:, 0].sum(), x, create_graph=True)  # the first is right
    alike([slope], torch.autograd.grad(layer(x)[:, 0].sum(), x)) if engine in EXACT else None
    with pytest.raises(ExecutionError, match=text):
        slope.square().sum().backward()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch's own
def test_forward_mode_is_refused() -> None:
    layer, x = QuantumLayer(MODELS["angle"], dtype=torch.float64), features(MODELS["angle"], 2)
    text = r"circuits are differentiated backwards; got forward-mode .*torch\.func\.jacrev\."
    with pytest.raises(ExecutionError, match=text):
        torch.func.jacfwd(layer)(x)
    with torch.no_grad(), forward_ad.dual_level(), pytest.raises(ExecutionError, match=text):
        layer(forward_ad.make_dual(x, x))
    with pytest.raises(ExecutionError, match=r"an engine computes with numbers; .*torch\.func\.vm"):
        torch.autograd.functional.jacobian(layer, x, vectorize=True)


def exporters(network: nn.Module, x: torch.Tensor):
    yield "jit.trace", lambda: torch.jit.trace(network, x)
    yield "torch.jit.script", lambda: torch.jit.script(network)
    yield "torch.export", lambda: torch.export.export(network, (x,), strict=False)
    yield "make_fx", lambda: make_fx(network)(x)
    yield "ONNX", lambda: torch.onnx.export(network, (x,), io.BytesIO(), dynamo=False)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", ["layer", "quanvolution", "student"])
@pytest.mark.filterwarnings("ignore")  # torch's own: the recorders are deprecated, or trace a shape
def test_exports_are_refused(kind: str, frozen: bool) -> None:
    x = torch.ones(2, 1, 2, 2) if kind == "quanvolution" else torch.ones(2, 4)
    if kind == "layer":
        network: nn.Module = QuantumLayer(MODELS["amplitude"])
    elif kind == "student":
        network = students["hybrid"](4, 2, seed=0, layers=1)
    else:
        network = Quanvolution(MODELS["amplitude"], 1, trainable=not frozen)
    network = nn.Sequential(network).eval().requires_grad_(not frozen)
    network(x)  # a frozen quanvolution would find its maps
    for name, export in exporters(network, x):
        with pytest.raises(
            ExecutionError, match=rf"a quantum layer runs on an engine.*{name}.*Save"
        ):
            export()


def test_inputs_of_every_layout() -> None:
    layer = QuantumLayer(MODELS["amplitude"], dtype=torch.float64)
    x = features(layer.model, 4)
    expected = layer(x)
    pair = torch.complex(x, -x).conj()
    wide = torch.zeros(8, 9, dtype=torch.float64)
    wide[::2, 1::2] = x
    for rows in (pair.imag, pair.real, x.T.contiguous().T, wide[::2, 1::2], nn.Parameter(x)):
        alike([layer(rows)], [expected])
    alike([layer(x[:1].expand(3, -1))], [expected[:1].expand(3, -1)])
    alike([layer(x.flip(0))], [expected.flip(0)])
    (found,) = torch.autograd.grad(layer(x).sum(), layer.weight)  # an expanded cotangent
    (same,) = torch.autograd.grad((layer(x) * torch.ones(4, 2)).sum(), layer.weight)
    alike([found], [same])
    empty = layer(x[:0])
    assert empty.shape == (0, 2)
    empty.sum().backward()
    assert not layer.weight.grad.any()
    assert layer(x.to("meta")).shape == (4, 2)
    assert copy.deepcopy(layer).to("meta")(x).device.type == "meta"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda x: x.to_sparse(),
            r"features are a dense tensor; got a tensor of layout torch\.spars",
        ),
        (lambda x: x.numpy(), r"a layer takes one dense tensor; got an object of type ndarray"),
        (list, r"a layer takes one dense tensor; got an object of type list; .*torch\.as_tensor"),
        (lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged), "got a nested tensor"),
    ],
)
def test_what_is_no_dense_tensor_is_refused(change, text: str) -> None:
    x = features(MODELS["amplitude"], 2)
    with pytest.raises(DataError, match=text):
        QuantumLayer(MODELS["amplitude"])(change(x))
    images = change(x)
    with pytest.raises(DataError, match="a quanvolution takes one dense tensor; got"):
        Quanvolution(MODELS["amplitude"])(images)


@pytest.mark.parametrize("engine", ENGINES)
def test_values_changed_in_place_are_refused(engine: str) -> None:
    layer = QuantumLayer(MODELS["angle"], ENGINES[engine](), dtype=torch.float64)
    for changed in ("weight", "x"):
        x = features(layer.model, 3)
        loss = layer(x).square().sum()
        with torch.no_grad():
            (layer.weight if changed == "weight" else x).add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    # A conversion is a copy of its own: changing what it came from changes nothing.
    x = features(layer.model, 3, torch.float32)
    expected = torch.autograd.grad(layer(x).sum(), layer.weight) if engine in EXACT else None
    loss = layer(x).sum()
    with torch.no_grad():
        layer.weight.add_(0.0)
    found = torch.autograd.grad(loss, layer.weight)
    alike(found, expected) if expected is not None else None


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(reentrant: bool) -> None:
    for engine in ("exact", "noisy"):
        layer = QuantumLayer(MODELS["angle"], ENGINES[engine](), dtype=torch.float64)
        x = features(layer.model, 3).requires_grad_()
        block = lambda rows, layer=layer: layer(rows * 2).square()  # noqa: E731
        plain = torch.autograd.grad(block(x).sum(), (x, layer.weight))
        checkpoint(block, x, use_reentrant=reentrant).sum().backward()
        alike([x.grad, layer.weight.grad], plain)


@pytest.mark.parametrize("engine", ["exact", "noisy", "exact_shots", "aer"])
def test_threads(engine: str) -> None:
    """Several at once, on one layer and on layers that share an engine."""
    runner: Engine = ENGINES[engine]()
    models = [MODELS["amplitude"], MODELS["angle groups"]]
    layers = [QuantumLayer(m, runner, dtype=torch.float64) for m in models]
    batches = [features(m, n) for m in models for n in (3, 30)]
    expected = [
        step(QuantumLayer(m, ENGINES[engine](), dtype=torch.float64), x, torch.ones(len(x), 2))
        for m, x in zip([m for m in models for _ in range(2)], batches, strict=True)
    ]
    faults: list[BaseException] = []

    def work(k: int) -> None:
        try:
            twin = copy.copy(layers[k // 2])  # the same weights and engine; gradients of its own
            twin._parameters = {"weight": nn.Parameter(layers[k // 2].weight.detach())}
            for _ in range(5):
                found = step(twin, batches[k], torch.ones(len(batches[k]), 2))
                if engine in EXACT:
                    alike(found, expected[k])
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[0]
    if engine == "exact_shots":
        assert runner.position()["drawn"] == 20  # no two jobs draw the same shots


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("engine", [*ENGINES, "perfect", "mitigated", "torch"])
def test_class_probabilities_are_never_negative(engine: str, dtype: torch.dtype) -> None:
    """Basis states and half turns, where probabilities are zero but for rounding."""
    n, labels = 3, ClassGroups(5, 3)
    generator = np.random.default_rng(0)
    for encoding in (kd.angle(n), kd.amplitude(n), kd.dense_angle(n)):
        model = CircuitModel(encoding, kd.hardware_efficient(n, 1), labels)
        for batch in (3, 40, 300) if engine in ("exact", "torch") else (3, 40):
            x = torch.from_numpy(generator.integers(0, 2, (batch, model.num_features)) * np.pi)
            x[:, 0] += 0.0 if encoding.name != "amplitude" else 1.0
            for start in (torch.zeros, lambda *s, **k: torch.pi * torch.ones(*s, **k)):
                w = start(model.num_weights, dtype=dtype).requires_grad_()
                p = outputs_of(engine, model, x.to(dtype), w)
                assert p.min() >= 0, (encoding.name, batch)
                torch.testing.assert_close(
                    p.sum(1), torch.ones(batch, dtype=dtype), atol=1e-5, rtol=0
                )
                loss = -torch.log(p + 1e-12).mean()
                (slope,) = torch.autograd.grad(loss, w)
                assert torch.isfinite(loss)
                assert torch.isfinite(slope).all()
                # At a zero nothing moves a probability: 1e-12 divides rounding errors alone.
                most = 1e3 * torch.finfo(dtype).eps / 1e-12
                assert slope.abs().max() < most or engine not in ("exact", "perfect", "torch")


def outputs_of(engine: str, model: CircuitModel, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    from qiskit_kd.execution.autograd import run

    if engine == "torch":
        return ExactEngine().torch_outputs(model, x, w)
    if engine in ("perfect", "mitigated"):
        scale = 0.0 if engine == "perfect" else 1.0
        device = open_noise(Noise(rates=RATES), scale=scale, readout=True, num_qubits=3)
        runner: Engine = NoisyEngine(device)
        if engine == "mitigated":
            runner = noisy_shots(runner, shots=1000, seed=0, gradient="shift")
        return run(runner, model, x, w)
    if engine == "noisy":
        device = open_noise(Noise(rates=RATES), scale=1.0, readout=True, num_qubits=3)
        return run(NoisyEngine(device), model, x, w)
    return run(ENGINES[engine](), model, x, w)


@pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_students_of_half_precision_stay_finite(dtype: torch.dtype) -> None:
    x = torch.eye(4)[torch.arange(6) % 4].to(dtype)
    target = torch.arange(6) % 2
    teacher = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    for name in ("fully_quantum", "hybrid", "nested"):
        kind = "fully_quantum" if name == "nested" else name
        student = students[kind](4, 2, seed=0, layers=1)
        with torch.no_grad():  # the circuit does nothing: probabilities are 0 and 1
            student.circuit.weight.zero_()
        for half in (False, True):
            network = copy.deepcopy(student).to(dtype) if half else student
            if name == "nested":
                network = FullyQuantumStudent(nn.Sequential(nn.Identity(), network.circuit))
            with contextlib.nullcontext() if half else torch.autocast("cpu", dtype):
                rows = x if half else x.float()
                for loss in losses:
                    made = losses[loss]
                    if made.features or loss == "dkd":  # which wants three classes
                        continue
                    network.zero_grad()
                    value = made(network(rows), teacher, target)
                    value.backward()
                    assert torch.isfinite(value), (name, loss, half)
                    for p in network.parameters():
                        assert p.grad is None or torch.isfinite(p.grad).all(), (name, loss, half)


def test_rounding_below_zero_is_cut_with_its_slope() -> None:
    model = MODELS["amplitude"]
    from qiskit_kd.execution.engine import Needs

    given = np.array([[-1e-7, 1.0], [0.3, 0.7]], np.float32)
    asked = []

    def pullback(cotangent):
        asked.append(cotangent)
        return None, cotangent.sum(0)

    values, back = not_negative(model, given, pullback, Needs(False, True))
    np.testing.assert_array_equal(values, [[0, 1], np.float32([0.3, 0.7])])
    back(np.float32([[1e12, 1], [2, 3]]))
    np.testing.assert_array_equal(asked[0], [[0, 1], [2, 3]])
    kept = not_negative(MODELS["angle"], given, pullback, Needs(False, True))
    assert kept == (given, pullback)  # expectation values may be negative
