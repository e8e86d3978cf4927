# SPDX-License-Identifier: Apache-2.0
"""Feature maps, adapters and two teachers at once, in the training loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from qiskit_kd.circuits import CircuitModel, ClassGroups, angle, real_amplitudes
from qiskit_kd.distill import Distiller, Loss, Teacher, Term, distiller, losses, shuffled
from qiskit_kd.distill.adapters import adapters
from qiskit_kd.distill.outputs import engines
from qiskit_kd.errors import DistillError, StorageError
from qiskit_kd.nn import FullyQuantumStudent, QuantumLayer, Quanvolution
from qiskit_kd.nn.modules import num_parameters
from qiskit_kd.seeding import derive, stream

from .toys import (
    CE,
    CLASSES,
    FEATURES,
    TRAIN,
    VALIDATION,
    Interrupted,
    StopAt,
    blobs,
    fit,
    initialise,
    linear,
    mlp,
    same,
)
from .toys import weights as weights_of

TRANSFER = blobs(20, "transfer").features


def images(seed: int = 0, *, channels: int = 3, dropout: float = 0.0, size: int = 2):
    """Flat rows of six as images of 2x3, one convolution, a linear head."""
    kernel = (2, 2) if size == 2 else (1, 1)
    positions = 2 if size == 2 else 6
    module = nn.Sequential()
    module.add_module("image", nn.Unflatten(1, (1, 2, 3)))
    module.add_module("filters", nn.Conv2d(1, channels, kernel))
    module.add_module("norm", nn.BatchNorm2d(channels))
    module.add_module("activation", nn.ReLU())
    module.add_module("drop", nn.Dropout(dropout))
    module.add_module("flatten", nn.Flatten())
    module.add_module("head", nn.Linear(channels * positions, CLASSES))
    return initialise(module, seed)


def maps(module: nn.Module, layers: int, x=TRAIN.features) -> torch.Tensor:
    with torch.no_grad():
        return module.eval()[:layers](torch.as_tensor(np.array(x), dtype=torch.float32))


def terms(adapter="channels", **options) -> list[Term]:
    return [
        Term("ce", 0.5),
        Term("kl", 0.3, name="soft", options={"temperature": 2.0}, teacher="classical"),
        Term("feature_mse", 2.0, name="maps", layers=("filters", "filters"), teacher="hybrid",
             adapter=adapter),
    ]  # fmt: skip


def teachers() -> dict[str, Teacher]:
    return {
        "classical": Teacher.from_module(mlp(7)),
        "hybrid": Teacher.from_module(images(8, channels=5)),
    }


# ---------------------------------------------------------------- two teachers


def test_two_teachers_give_targets_and_gradients_of_their_own():
    student, both = images(1), teachers()
    rate = 0.1
    run = Distiller(
        student, terms(), teacher=both, epochs=1, batch_size=1000, optimizer="sgd",
        learning_rate=rate, seed=4,
    )  # fmt: skip
    before = weights_of(student)
    history = run.fit(TRAIN, VALIDATION)

    # The same step by hand.
    reference = images(1).train()
    adapter = initialise(nn.Conv2d(3, 5, 1), 0)
    built = run.adapters["maps"]
    first = adapters["channels"](
        (3, 1, 2), (5, 1, 2), seed=derive(4, "adapter", "maps"), dtype=torch.float32
    )
    adapter.load_state_dict(first.state_dict())
    x, y = torch.tensor(TRAIN.features).float(), torch.tensor(TRAIN.labels)
    own = reference[:2](x)
    logits = reference[2:](own)
    values = {
        "ce": losses["ce"](logits, None, y),
        "soft": losses["kl"](logits, both["classical"].modules[0](x), temperature=2.0),
        "maps": ((adapter(own) - both["hybrid"].modules[0][:2](x)) ** 2).mean(),
    }
    parameters, scale = list(reference.parameters()), {"ce": 0.5, "soft": 0.3, "maps": 2.0}
    step = [torch.zeros_like(p) for p in parameters]
    for name, value in values.items():
        assert history[f"train/{name}"][0] == pytest.approx(value.item(), rel=1e-4)
        found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        found = [torch.zeros(()) if g is None else g for g in found]
        size = math.sqrt(sum(float(g.square().sum()) for g in found))
        assert history[f"grad/{name}"][0] == pytest.approx(size, rel=1e-3)
        step = [s + scale[name] * g for s, g in zip(step, found, strict=True)]
    for (name, _), gradient in zip(reference.named_parameters(), step, strict=True):
        expected = before[name] - rate * gradient
        torch.testing.assert_close(student.state_dict()[name], expected, rtol=1e-3, atol=1e-5)
    (moved,) = torch.autograd.grad(values["maps"], [adapter.weight])
    torch.testing.assert_close(
        built.weight, adapter.weight - rate * 2.0 * moved, rtol=1e-3, atol=1e-5
    )
    # Each teacher was asked for what its terms read, and for nothing else.
    assert both["classical"].misses == both["hybrid"].misses == 40


def test_swapping_the_teachers_is_noticed():
    def run(a: str, b: str):
        sources = {"a": Teacher.from_module(mlp(7)), "b": Teacher.from_module(mlp(8))}
        objective = [
            Term("kl", teacher=a), Term("feature_mse", layers=("0", "0"), teacher=b),
            Term("reverse_kl", 0, teacher=b),
        ]  # fmt: skip
        return fit(mlp(), objective, teacher=sources, epochs=1)

    right, swapped = run("a", "b"), run("b", "a")
    for key in ("train/kl", "train/feature_mse", "train/reverse_kl"):
        assert abs(right[key][0] - swapped[key][0]) > 1e-2


class Run:
    """One configuration with two teachers, built anew as another process would."""

    def __init__(self, folder=None, *, callbacks=(), adapter="channels", **options) -> None:
        self.student = images(1, dropout=0.3)
        self.distiller = Distiller(
            self.student, terms(adapter), teacher=teachers(), epochs=3, batch_size=20,
            checkpoint_dir=folder, checkpoint_steps=1, callbacks=callbacks, **options,
        )  # fmt: skip

    def fit(self):
        self.history = self.distiller.fit(TRAIN, VALIDATION, TRANSFER)
        self.adapter = weights_of(self.distiller.adapters["maps"])
        return self

    def __eq__(self, other) -> bool:
        return (
            same(weights_of(self.student), weights_of(other.student))
            and same(self.adapter, other.adapter)
            and self.history == other.history
        )


@pytest.mark.parametrize("adapter", ["channels", "linear"])
@pytest.mark.parametrize(("kind", "count"), [("step", 1), ("step", 5), ("epoch", 1), ("epoch", 3)])
def test_interrupted_and_resumed_to_the_bit(tmp_path, adapter: str, kind: str, count: int):
    whole = Run(adapter=adapter).fit()
    with pytest.raises(Interrupted):
        Run(tmp_path, adapter=adapter, callbacks=[StopAt(kind, count)]).fit()
    assert Run(tmp_path, adapter=adapter).fit() == whole


@pytest.mark.parametrize("change", ["adapter", "teacher", "layer"])
def test_teachers_and_adapters_belong_to_the_identity_of_a_run(tmp_path, change: str):
    def attempt(folder, adapter="channels", teacher="hybrid", layer="filters") -> None:
        term = Term("feature_mse", layers=("filters", layer), adapter=adapter, teacher=teacher)
        sources = {
            "hybrid": Teacher.from_module(images(8)),
            "other": Teacher.from_module(images(8)),
        }
        fit(images(1), [term], teacher=sources, epochs=1, checkpoint_dir=folder)

    attempt(tmp_path)
    attempt(tmp_path)
    changed = {"adapter": "linear", "teacher": "other", "layer": "norm"}[change]
    with pytest.raises(StorageError, match="belongs to another run"):
        attempt(tmp_path, **{change: changed})


# ---------------------------------------------------------------- adapters


@pytest.mark.parametrize("adapter", ["channels", "linear"])
def test_adapters_by_name_learn_and_are_not_the_students(adapter: str):
    student = images(1)
    count = num_parameters(student)
    run = Distiller(
        student, terms(adapter), teacher=teachers(), epochs=15, learning_rate=0.02, seed=2
    )
    history = run.fit(TRAIN, VALIDATION, TRANSFER)
    assert history["train/maps"][-1] < 0.7 * history["train/maps"][0]
    assert num_parameters(student) == count
    assert set(student.state_dict()) == set(images(1).state_dict())
    assert not student.filters._forward_hooks
    built = run.adapters["maps"]
    assert num_parameters(built) == (20 if adapter == "channels" else 7 * 10)
    again = Distiller(images(1), terms(adapter), teacher=teachers(), epochs=1, seed=2)
    again.fit(TRAIN, VALIDATION, TRANSFER)
    assert not same(weights_of(built), weights_of(again.adapters["maps"]))


def test_adapters_begin_alike_for_equal_seeds_and_differ_between_terms():
    objective = [
        Term("feature_mse", name=name, layers=("filters", "filters"), adapter="channels")
        for name in ("a", "b")
    ]

    def begin(seed: int):
        run = Distiller(
            images(1), objective, teacher=Teacher.from_module(images(8, channels=5)), epochs=1,
            seed=seed, optimizer="sgd", learning_rate=1e-30,
        )  # fmt: skip
        run.fit(TRAIN, VALIDATION)
        return {name: weights_of(module) for name, module in run.adapters.items()}

    one = begin(1)
    assert same(one["a"], begin(1)["a"])
    assert not same(one["a"], one["b"])
    assert not same(one["a"], begin(2)["a"])


def test_building_an_adapter_leaves_everything_else_as_it_was():
    # With weight 0 the term is only watched: the run must be the one without it.
    def run(objective, **options):
        student = images(1, dropout=0.4)
        torch.manual_seed(len(objective))  # of no influence
        history = fit(
            student, objective, teacher=images(8, channels=5), epochs=2, batch_size=20, **options
        )
        return weights_of(student), history["validation/loss"]

    watched = [
        Term("ce"), Term("feature_mse", 0, layers=("filters", "filters"), adapter="channels")
    ]  # fmt: skip
    plain = run(CE)
    for every in (0, 1):
        found = run(watched, gradient_every=every)
        assert same(found[0], plain[0])
        assert found[1] == plain[1]


class Counts(nn.Identity):
    """Counts its calls in a buffer, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.calls += 1
        return x


def test_the_shape_is_found_out_in_eval_mode_without_touching_buffers():
    # Batch statistics of one sample would be an error; a counter would count it.
    calls = []
    for adapter in (None, "linear"):
        student = nn.Sequential(Counts(), mlp())
        term = Term("feature_mse", layers=("1.1", "1"), adapter=adapter)
        fit(student, [term], teacher=mlp(7), epochs=1, gradient_every=0)
        calls.append(int(student[0].calls))
    assert calls[0] == calls[1] > 0


def test_looking_for_gradients_does_not_move_an_adapters_statistics():
    def run(every: int):
        adapter = nn.Sequential(initialise(nn.Conv2d(3, 5, 1), 0), nn.BatchNorm2d(5))
        fit(images(1), terms(adapter), teacher=teachers(), epochs=2, gradient_every=every)
        return weights_of(adapter)

    assert same(run(0), run(1))


def test_an_adapter_handed_over_in_eval_mode_trains():
    adapter = nn.Sequential(initialise(nn.Conv2d(3, 5, 1), 0), nn.BatchNorm2d(5)).eval()
    fit(images(1), terms(adapter), teacher=teachers(), epochs=2, batch_size=20, gradient_every=0)
    assert adapter[1].num_batches_tracked == 4


def test_the_shape_is_found_out_without_drawing_shots():
    model = CircuitModel(angle(2), real_amplitudes(2, 1), ClassGroups(2, 2))

    def run(objective):
        layer = QuantumLayer(model, "exact_shots", gradient="spsa", shots=20, seed=3)
        first = initialise(nn.Linear(FEATURES, 2), 1)
        student = FullyQuantumStudent(nn.Sequential(first, layer))
        few, held_out = (blobs(12, name, classes=2) for name in ("a", "b"))
        fit(
            student,
            objective,
            train=few,
            validation=held_out,
            teacher=linear(2, classes=2),
            epochs=1,
            gradient_every=0,
            batch_size=12,
        )
        return weights_of(student), engines(student)[0].position()

    watched = Term("feature_mse", 0, layers=("circuit.1", ""), adapter="linear")
    (a, drawn), (b, as_many) = run(CE), run([Term("ce"), watched])
    assert same(a, b)
    assert drawn == as_many


def test_the_shape_is_found_out_without_leaving_maps_in_a_frozen_layer():
    def run(objective):
        model = CircuitModel(angle(2), real_amplitudes(2, 1), ClassGroups(2, 2))
        layer = Quanvolution(model, 1, (1, 2), 1, 0, "exact_shots", shots=20, trainable=False)
        student = nn.Sequential(nn.Unflatten(1, (1, 2, 3)), layer, nn.Flatten())
        student.append(initialise(nn.Linear(8, CLASSES), 1))
        fit(student, objective, teacher=images(8), epochs=1, gradient_every=0, batch_size=20)
        return weights_of(student), layer.engine.position()

    watched = Term("feature_mse", 0, layers=("1", "filters"), adapter="linear")
    (a, drawn), (b, as_many) = run(CE), run([Term("ce"), watched])
    assert drawn == as_many
    assert same(a, b)


@pytest.mark.parametrize("loss", ["feature_mse", "feature_cosine", "attention", "rkd_distance"])
@pytest.mark.parametrize("adapter", ["channels", "linear"])
def test_every_feature_loss_takes_an_adapter(loss: str, adapter: str):
    term = Term(loss, name="maps", layers=("activation", "activation"), adapter=adapter)
    run = Distiller(images(1), [term], teacher=Teacher.from_module(images(8, channels=5)), epochs=2)
    history = run.fit(TRAIN, VALIDATION)
    assert history["grad/maps"][0] > 0
    assert len(run.adapters) == 1


def test_an_adapter_may_lead_from_logits_to_other_classes():
    source = Teacher.from_module(linear(3, classes=5))
    history = fit(linear(1), [Term("feature_mse", adapter="linear")], teacher=source, epochs=20)
    assert history["train/feature_mse"][-1] < history["train/feature_mse"][0]


def test_maps_that_do_not_fit_are_refused_and_the_hooks_are_gone():
    def attempt(student, **options) -> None:
        term = Term("feature_mse", layers=("filters", "filters"), **options)
        try:
            fit(student, [term], teacher=images(8, channels=5))
        finally:
            assert not student.filters._forward_hooks

    with pytest.raises(
        DistillError, match=r"got student \(20, 3, 1, 2\), teacher \(20, 5, 1, 2\).*Set the term's"
    ):
        attempt(images(1))
    with pytest.raises(
        DistillError, match=r"'channels' keeps .* got student \(3, 2, 3\), teacher \(5, 1, 2\)"
    ):
        attempt(images(1, size=1), adapter="channels")
    attempt(images(1, size=1), adapter="linear")


class Turned(nn.Module):
    """Features with the batch last."""

    def forward(self, x):
        return x.T


def turned(seed: int) -> nn.Sequential:
    return nn.Sequential(linear(seed), Turned(), Turned())


def test_layers_whose_first_axis_is_not_the_batch_are_refused():
    term = Term("rkd_distance", layers=("1", "0"))
    with pytest.raises(
        DistillError, match=r"layer '1' of the student returns one map per sample; got shape \(3, 2"
    ):
        fit(turned(0), [term], teacher=turned(1))
    with pytest.raises(
        DistillError, match=r"layer '1' of the teacher returns one map per .*for 256 samples.*Choos"
    ):
        Teacher.from_module(turned(1)).features_for(TRAIN.features, "1")


# ---------------------------------------------------------------- placebos


def test_shuffled_maps_are_other_samples_maps():
    source = images(8)
    true, placebo = Teacher.from_module(source), shuffled(Teacher.from_module(source), 0)
    seen: dict[str, torch.Tensor] = {}

    def keep(student, teacher, target):
        seen["maps"] = teacher
        return losses["feature_mse"](student, teacher)

    term = Term(Loss("keep", keep, teacher=True, features=True), layers=("filters", "filters"),
                teacher="maps")  # fmt: skip
    for each in (true, placebo):
        fit(images(1), [term], teacher={"soft": true, "maps": each}, epochs=1, batch_size=1000)
        expected = sorted(maps(source, 2).flatten(1).tolist())
        torch.testing.assert_close(torch.tensor(sorted(seen["maps"].flatten(1).tolist())),
                                   torch.tensor(expected))  # fmt: skip
    asked = placebo.features_for(TRAIN.features, "filters")
    assert not (asked == true.features_for(TRAIN.features, "filters")).flatten(1).all(1).any()


# ---------------------------------------------------------------- validation


def test_a_large_validation_set_goes_through_in_parts(monkeypatch):
    seen = []

    class Counts(nn.Linear):
        def forward(self, x):
            if not self.training:
                seen.append(len(x))
            return super().forward(x)

    def run():
        student = Counts(FEATURES, CLASSES)
        student.load_state_dict(linear(0).state_dict())
        return fit(student, CE, epochs=2)

    whole = run()
    assert seen == [30, 30]
    monkeypatch.setattr(distiller, "CHUNK", 13)
    parts = run()
    assert seen[2:] == [13, 13, 4] * 2
    for key in whole.curves:
        np.testing.assert_allclose(parts[key], whole[key], rtol=1e-5)


def test_samples_of_any_float_type_and_read_only_ones_are_taken():
    random = stream(0, "rows").normal(size=(40, FEATURES))

    class Rows:
        features, labels, num_classes, name = random, TRAIN.labels, CLASSES, "rows"

    rows = Rows()
    first = weights_of(fitted(rows))
    rows.features = random.copy()
    rows.features.flags.writeable = False
    assert same(weights_of(fitted(rows)), first)


def fitted(rows) -> nn.Module:
    student = linear()
    fit(student, CE, train=rows, epochs=1)
    return student
