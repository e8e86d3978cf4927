# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from qiskit_kd.distill import (
    Callback,
    Distiller,
    Loss,
    Ramp,
    State,
    Teacher,
    Term,
    Training,
    losses,
    uniform,
)
from qiskit_kd.distill.metrics import accuracy, nll
from qiskit_kd.errors import DataError, DistillError
from qiskit_kd.nn.students import students
from qiskit_kd.seeding import stream

from .toys import (
    CE,
    CLASSES,
    FEATURES,
    TRAIN,
    VALIDATION,
    blobs,
    fit,
    initialise,
    linear,
    mlp,
    same,
    weights,
)

TRANSFER = blobs(50, "transfer").features
FULL = {"epochs": 1, "batch_size": 1000, "optimizer": "sgd"}
KD = [Term("ce", 0.5), Term("kl", 0.5, options={"temperature": 2.0})]


def tensor(x) -> torch.Tensor:
    return torch.from_numpy(np.array(x, np.float32))


def teacher(seed: int = 7, **options) -> Teacher:
    return Teacher.from_module(mlp(seed, **options))


def logits(module: nn.Module, x) -> np.ndarray:
    with torch.no_grad():
        return module.eval()(tensor(x)).double().numpy()


class Recorder(Callback):
    def __init__(self) -> None:
        self.events: list[str] = []
        self.modes: list[bool] = []
        self.student: nn.Module | None = None

    def _note(self, event: str) -> None:
        self.events.append(event)
        if self.student is not None:
            self.modes.append(self.student.training)

    def on_fit_start(self, _state: State) -> None:
        self._note("start")

    def on_step_end(self, state: State) -> None:
        self._note(f"step {state.step}")

    def on_epoch_end(self, state: State) -> None:
        self._note(f"epoch {state.epoch}")

    def on_fit_end(self, _state: State) -> None:
        self._note("end")


def test_a_student_learns_from_labels_and_the_history_tells_how():
    student = linear()
    history = fit(student, CE, epochs=30, learning_rate=0.05)
    keys = {"epoch", "train/ce", "grad/ce", "validation/loss", "validation/accuracy"}
    assert history.curves.keys() == keys
    assert all(len(history[key]) == 30 == history.num_epochs for key in keys)
    assert history["epoch"] == list(range(1, 31))
    assert history["train/ce"][-1] < 0.5 * history["train/ce"][0]
    assert history["validation/accuracy"][-1] > 0.7
    assert history.stopped == "epochs"
    assert history.as_dict()["curves"] is not history.curves
    with pytest.raises(AttributeError):
        history.best_epoch = 3


def test_the_student_ends_with_its_best_weights_in_eval_mode():
    student = linear()
    history = fit(student, CE, epochs=25, learning_rate=1.0)
    best = history["validation/loss"][history.best_epoch - 1]
    assert best == min(history["validation/loss"])
    assert history.best_epoch < 25, "the case must tell the best epoch from the last"
    assert nll(logits(student, VALIDATION.features), VALIDATION.labels) == pytest.approx(best)
    assert not student.training


def test_by_accuracy_the_smaller_loss_decides_between_equals():
    student = linear()
    history = fit(student, CE, epochs=25, learning_rate=0.02, metric="accuracy")
    scores = list(zip(history["validation/accuracy"], history["validation/loss"], strict=True))
    best = scores[history.best_epoch - 1]
    assert best[0] == max(a for a, _ in scores)
    assert best[1] == min(loss for a, loss in scores if a == best[0])
    assert sum(a == best[0] for a, _ in scores) > 1
    found = accuracy(logits(student, VALIDATION.features), VALIDATION.labels)
    assert found == pytest.approx(best[0])


def test_patience_ends_a_run():
    history = fit(linear(), CE, epochs=500, learning_rate=1.0, patience=4)
    assert history.stopped == "patience"
    assert history.num_epochs == history.best_epoch + 4


def test_a_start_that_is_never_beaten_is_kept_as_epoch_0():
    student = linear()
    fit(student, CE, epochs=30, learning_rate=0.05)
    before = weights(student)
    options = {"epochs": 2, "learning_rate": 5.0}
    history = fit(student, CE, **options, keep_start=True)
    assert history.best_epoch == 0
    assert same(weights(student), before)
    loss = nll(logits(student, VALIDATION.features), VALIDATION.labels)
    assert history.start["validation/loss"] == pytest.approx(loss)
    assert loss < min(history["validation/loss"])
    assert history.start["validation/accuracy"] > 0.7
    other = fit(student, CE, **options)
    assert (other.start, other.best_epoch > 0) == ({}, True)


# ---------------------------------------------------------------- wiring


def one_step(student: nn.Module, terms, source: Teacher | None, **options):
    """History of a run of one full-batch epoch, whose values are those of the initial weights."""
    return fit(student, terms, teacher=source, learning_rate=1e-12, **FULL, **options)


@pytest.mark.parametrize(
    ("name", "options"), [("kl", {"temperature": 2.0}), ("reverse_kl", {}), ("jsd", {"beta": 0.1})]
)
def test_student_and_teacher_are_not_swapped(name: str, options: dict):
    student, source = linear(1), linear(2)
    z, t = (torch.from_numpy(logits(m, TRAIN.features)) for m in (student, source))
    history = one_step(student, [Term(name, options=options)], Teacher.from_module(source))
    right, swapped = losses[name](z, t, **options).item(), losses[name](t, z, **options).item()
    assert abs(right - swapped) > 1e-3 * abs(right), "the case must be asymmetric"
    assert history[f"train/{name}"][0] == pytest.approx(right, rel=1e-4)


def test_terms_are_weighted_and_gradients_are_theirs():
    student, source = linear(1), linear(2)
    terms = [Term("ce", 0.3), Term("kl", 2.0, name="soft", options={"temperature": 3.0})]
    z = torch.from_numpy(logits(student, TRAIN.features))
    t = torch.from_numpy(logits(source, TRAIN.features))
    y = torch.from_numpy(np.array(TRAIN.labels))
    before = weights(student)
    reference = linear(1)
    x = tensor(TRAIN.features)
    ce = losses["ce"](reference(x), None, y)
    soft = losses["kl"](reference(x), t.float(), None, temperature=3.0)
    g_ce = torch.autograd.grad(ce, list(reference.parameters()), retain_graph=True)
    g_soft = torch.autograd.grad(soft, list(reference.parameters()))
    rate = 0.1
    history = fit(student, terms, teacher=source, learning_rate=rate, **FULL)
    assert history["train/ce"][0] == pytest.approx(losses["ce"](z, None, y).item(), rel=1e-5)
    assert history["train/soft"][0] == pytest.approx(soft.item(), rel=1e-5)
    for key, gradients in (("grad/ce", g_ce), ("grad/soft", g_soft)):
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        assert history[key][0] == pytest.approx(norm, rel=1e-4)
    for (key, old), a, b in zip(before.items(), g_ce, g_soft, strict=True):
        expected = old - rate * (0.3 * a + 2.0 * b)
        torch.testing.assert_close(student.state_dict()[key], expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_norm_of_a_single_term_is_the_same_as_beside_another():
    alone = one_step(linear(1), [Term("ce", 0.5)], None)
    beside = one_step(linear(1), [Term("ce", 0.5), Term("kl", 0)], teacher())
    assert alone["grad/ce"][0] == pytest.approx(beside["grad/ce"][0], rel=1e-5)
    assert beside["grad/kl"][0] > 0


def test_a_weight_of_zero_logs_without_training():
    plain, watched = linear(), linear()
    a = fit(plain, CE, epochs=3)
    b = fit(watched, [Term("ce"), Term("kl", 0)], epochs=3)
    assert same(weights(plain), weights(watched))
    assert a["validation/loss"] == b["validation/loss"]
    assert len(b["train/kl"]) == 3


def test_schedules_scale_a_term_by_epoch():
    plain, ramped = linear(), linear()
    fit(plain, CE, epochs=2)
    terms = [Term("ce"), Term("kl", 1.0, schedule=Ramp(0.0, 1.0, 2))]
    history = fit(ramped, terms, epochs=2)
    assert not same(weights(plain), weights(ramped))
    shorter = linear()
    fit(plain := linear(), CE, epochs=1)
    fit(shorter, terms, epochs=1)
    assert same(weights(plain), weights(shorter)), "weight 0 in the first epoch"
    assert len(history["grad/kl"]) == 2
    alone = Distiller(linear(), [Term("ce", schedule=Ramp(0, 1, 1))], epochs=3)
    assert alone.fit(TRAIN, VALIDATION)["grad/ce"][0] == 0.0


def test_distillation_beats_its_placebos():
    # A teacher that saw much data teaches a student with few labels; a shuffled one does not.
    from qiskit_kd.distill import shuffled

    expert = mlp(3, width=16)
    fit(expert, CE, train=blobs(400, "much", spread=1.5), epochs=40)
    few, held_out = blobs(6, "few", spread=1.5), blobs(300, "held out", spread=1.5)
    source = Teacher.from_module(expert)
    reached = {}
    for name, one in (("true", source), ("shuffled", shuffled(source, 0))):
        student = linear(4)
        fit(
            student,
            KD,
            train=few,
            transfer=blobs(200, "pool", spread=1.5).features,
            teacher=one,
            epochs=60,
            learning_rate=0.05,
        )
        reached[name] = accuracy(logits(student, held_out.features), held_out.labels)
    assert reached["true"] > reached["shuffled"] + 0.05


# ---------------------------------------------------------------- transfer set


def test_terms_with_targets_see_labelled_samples_only():
    seen: dict[str, list[int]] = {"own": [], "soft": []}

    def own(student, teacher, target):
        seen["own"].append(len(student))
        assert len(student) == len(target)
        return losses["ce"](student, None, target)

    def soft(student, teacher, target):
        seen["soft"].append(len(student))
        assert target is None
        assert len(student) == len(teacher)
        return losses["kl"](student, teacher)

    terms = [Term(Loss("own", own, target=True)), Term(Loss("soft", soft, teacher=True))]
    fit(linear(), terms, transfer=TRANSFER, epochs=1, batch_size=16, gradient_every=0)
    assert sum(seen["own"]) == 40
    assert sum(seen["soft"]) == 90
    assert len(seen["own"]) == len(seen["soft"]) == 3


@pytest.mark.parametrize("options", [{}, {"batch_size": 7}, {"batch_size": 1000},
                                     {"steps_per_epoch": 3}, {"steps_per_epoch": 999}])  # fmt: skip
@pytest.mark.parametrize("unlabelled", [0, 1, 50])
def test_a_transfer_set_does_not_lengthen_an_epoch(options: dict, unlabelled: int):
    steps = []
    for terms, transfer in ((CE, None), (KD, TRANSFER[:unlabelled])):
        student = linear()
        source = teacher() if len(terms) > 1 else None
        history = fit(
            student, terms, transfer=transfer, teacher=source, epochs=1, gradient_every=0, **options
        )
        steps.append(history.steps_per_epoch)
    assert steps[0] == steps[1] > 0


def test_longer_epochs_have_to_be_asked_for():
    def steps(**options) -> int:
        return fit(
            linear(), KD, transfer=TRANSFER, epochs=1, batch_size=30, gradient_every=0, **options
        ).steps_per_epoch

    assert (steps(), steps(steps="unequal")) == (2, 3)
    with pytest.raises(DistillError, match=r"steps says .* got 'per_pass'; expected 'equal' or"):
        steps(steps="per_pass")
    with pytest.raises(DistillError, match=r"are equal; got steps='unequal' too\. Leave one"):
        steps(steps="unequal", steps_per_epoch=3)


def test_teacher_rows_and_labels_stay_with_their_samples():
    # Stored logits that encode the sample itself: any misplaced row is seen.
    x = np.concatenate([TRAIN.features, TRANSFER])
    source = Teacher.from_logits(x, x[:, :CLASSES])
    known = {row.tobytes(): label for row, label in zip(
        TRAIN.features.astype(np.float32), TRAIN.labels, strict=True)}  # fmt: skip

    class Through(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.last: torch.Tensor | None = None

        def forward(self, batch):
            self.last = batch
            return self.scale * batch[:, :CLASSES]

    student = Through()

    def check(z, t, y):
        torch.testing.assert_close(t, student.last[: len(t), :CLASSES])
        for row, label in zip(student.last, y, strict=False):
            assert known[row.numpy().tobytes()] == label
        return losses["dkd"](z, t, y)

    everything = Term(Loss("both", check, teacher=True, target=True))
    history = fit(
        student,
        [everything, Term("kl")],
        transfer=TRANSFER,
        teacher=source,
        epochs=2,
        optimizer="sgd",
        learning_rate=1e-9,
    )
    assert history["train/kl"][0] == pytest.approx(0, abs=1e-6)
    assert history["train/both"][0] == pytest.approx(0, abs=1e-6)


def test_batches_without_labels_train_on_the_teacher_alone():
    few = blobs(3, "three")
    history = fit(
        linear(), [Term("ce"), Term("kl")], train=few, transfer=TRANSFER, epochs=2, batch_size=4
    )
    assert all(math.isfinite(x) for key in history.curves for x in history[key])
    assert all(x > 0 for x in history["grad/ce"])


def test_a_transfer_set_without_a_term_for_it_changes_nothing():
    a, b = linear(), linear()
    fit(a, CE, epochs=2)
    fit(b, CE, transfer=TRANSFER, epochs=2)
    assert same(weights(a), weights(b))
    c = linear()
    fit(c, KD, epochs=2)
    d = linear()
    fit(d, KD, transfer=TRANSFER, epochs=2)
    assert not same(weights(c), weights(d))


# ---------------------------------------------------------------- modes, teachers, features


def test_the_student_trains_in_train_mode_after_every_validation():
    student, recorder = mlp(dropout=0.5), Recorder()
    recorder.student = student.eval()  # as another run would have left it
    fit(student, CE, epochs=3, batch_size=20, callbacks=[recorder])
    assert recorder.events == [
        "start", "step 1", "step 2", "epoch 1", "step 3", "step 4", "epoch 2", "step 5", "step 6",
        "epoch 3", "end",
    ]  # fmt: skip
    assert all(recorder.modes[1:]), "from the first step on"


def test_validation_does_not_move_batch_statistics():
    counted = mlp()
    fit(counted, KD, epochs=2, batch_size=20)
    silent = mlp()
    fit(silent, KD, epochs=2, batch_size=20, gradient_every=0)
    assert counted[1].num_batches_tracked == silent[1].num_batches_tracked
    assert same(weights(counted), weights(silent)), "logging gradients must not change a run"


def test_logging_gradients_does_not_change_dropout():
    noisy, silent = mlp(dropout=0.5), mlp(dropout=0.5)
    a = fit(noisy, KD, epochs=3)
    b = fit(silent, KD, epochs=3, gradient_every=0)
    assert same(weights(noisy), weights(silent))
    assert not [key for key in b.curves if key.startswith("grad/")]
    rare = fit(mlp(dropout=0.5), KD, epochs=3, gradient_every=2)
    assert rare["grad/kl"] == [a["grad/kl"][0]] * 2 + [a["grad/kl"][2]]


def test_the_teacher_is_untouched_to_the_bit():
    source = mlp(7, dropout=0.5)
    before = weights(source)
    fit(mlp(), KD, transfer=TRANSFER, teacher=source, epochs=3)
    assert same(weights(source), before)
    assert not source.training
    assert all(p.grad is None and not p.requires_grad for p in source.parameters())


def test_the_teacher_is_asked_once_per_sample_in_a_whole_study():
    source = teacher()
    for seed in range(3):
        fit(linear(), KD, transfer=TRANSFER, teacher=source, epochs=2, seed=seed)
    assert (source.hits, source.misses) == (2 * 90, 90)


def test_features_are_matched_by_layer_and_adapters_learn():
    student, source = mlp(width=4), mlp(7, width=8)
    adapter = initialise(nn.Linear(4, 8), 3)
    start = weights(adapter)
    terms = [
        Term("ce", 0.1),
        Term("feature_mse", 1.0, adapter=adapter, layers=("2", "2")),
        Term("rkd_distance", 0.1, layers=("0", "0")),
        Term("kernel_alignment", 0.1),
    ]
    history = fit(student, terms, transfer=TRANSFER, teacher=source, epochs=20, learning_rate=0.02)
    assert history["train/feature_mse"][-1] < 0.7 * history["train/feature_mse"][0]
    assert all(history[f"grad/{term.label}"][0] > 0 for term in terms)
    assert not same(weights(adapter), start)
    assert not student[2]._forward_hooks
    assert set(student.state_dict()) == set(mlp(width=4).state_dict())
    with pytest.raises(DistillError, match="the student has no layer of that name; got '2222'"):
        fit(student, [Term("rkd_angle", layers=("2222", "2"))], epochs=1)


def test_the_caller_keeps_its_random_state():
    student = mlp(dropout=0.5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(student, CE, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_equal_seeds_give_equal_bits(dropout: float):
    runs = []
    for seed in (1, 1, 2):
        student = mlp(dropout=dropout)
        torch.manual_seed(len(runs))  # of no influence
        history = fit(student, KD, transfer=TRANSFER, epochs=3, batch_size=16, seed=seed)
        runs.append((weights(student), history))
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert not same(runs[0][0], runs[2][0])


@pytest.mark.parametrize("name", ["linear", "mlp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_students_of_the_package_learn(name: str, dtype: torch.dtype):
    student = students[name](FEATURES, CLASSES, seed=0).to(dtype)
    history = fit(student, KD, epochs=3)
    assert history["train/ce"][-1] < history["train/ce"][0]
    assert next(student.parameters()).dtype == dtype


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", torch.optim.RMSprop])
def test_optimisers_by_name_or_as_a_function(optimizer):
    student = linear()
    before = weights(student)
    fit(student, CE, epochs=2, optimizer=optimizer)
    assert not same(weights(student), before)


def test_the_fused_optimiser_equals_the_plain_one():
    fused, plain = linear(dtype=torch.float64), linear(dtype=torch.float64)
    fit(fused, CE, epochs=5)
    fit(plain, CE, epochs=5, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    torch.testing.assert_close(fused.state_dict(), plain.state_dict(), rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- refusals


def detached(student, teacher, target):
    return losses["kernel_alignment"](student.detach(), teacher)


@pytest.mark.parametrize("beside", [True, False])
def test_a_weighted_term_without_gradient_is_an_error(beside: bool):
    # Two published codebases shipped exactly this: a constant in the objective.
    dead = Term(Loss("dead", detached, teacher=True), 0.1, name="quantum kernel")
    terms = [Term("ce"), dead] if beside else [dead]
    student = linear()
    before = weights(student)
    match = r"term 'quantum kernel' has a weight but no gradient into the student; got weight 0\.1"
    for every in (0, 1):
        with pytest.raises(DistillError, match=match):
            fit(student, terms, gradient_every=every)
    assert same(weights(student), before)


def test_an_adapter_alone_does_not_make_a_term_live():
    def onto_adapter(student, teacher, target, *, inner):
        return losses["feature_mse"](inner(student.detach()), teacher)

    inner = initialise(nn.Linear(CLASSES, CLASSES), 0)
    for term in (
        Term(Loss("x", onto_adapter, teacher=True), options={"inner": inner}),
        Term("feature_mse", name="x", layers=("cut", "0"), adapter=nn.Linear(FEATURES, 8)),
    ):
        student = nn.Sequential()
        student.add_module("cut", nn.Identity())  # the samples themselves: no weight before it
        student.add_module("body", linear())
        with pytest.raises(DistillError, match="term 'x' has a weight but no gradient into the st"):
            fit(student, [term])


def test_a_term_on_a_parameter_itself_is_live():
    class Scaled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(FEATURES, CLASSES)
            self.sharpness = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return super().forward(x) * self.sharpness

    student = Scaled()
    penalty = Term(Loss("penalty", lambda *_: student.sharpness), 0.1)
    history = fit(student, [Term("ce"), penalty], epochs=2)
    assert history["grad/penalty"] == [1, 1]


def test_a_dead_term_of_weight_zero_is_logged():
    dead = Term(Loss("dead", detached, teacher=True), 0)
    history = fit(linear(), [Term("ce"), dead], epochs=2)
    assert history["train/dead"][0] > 0
    assert history["grad/dead"] == [0, 0]


def test_a_value_that_is_not_finite_names_term_and_step():
    def explodes(student, teacher, target):
        explodes.calls += 1
        return losses["kl"](student, teacher) * (math.nan if explodes.calls > 3 else 1)

    explodes.calls = 0
    term = Term(Loss("soft", explodes, teacher=True))
    student = linear()
    with pytest.raises(
        DistillError, match=r"term 'soft' stays finite; got nan at step 4, epoch 2.*are finite, so "
    ):
        fit(student, [Term("ce"), term], batch_size=20, gradient_every=0)
    assert all(torch.isfinite(w).all() for w in weights(student).values())


def test_a_validation_that_is_not_finite_is_named():
    class Breaks(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (1 if self.training else math.nan)

    text = "validation loss stays finite; got nan after epoch 1.* are finite, so look at what"
    with pytest.raises(DistillError, match=text):
        fit(Breaks(FEATURES, CLASSES), CE)


def test_weights_that_are_not_finite_are_told_from_a_loss_that_is_not():
    student = linear()
    with torch.no_grad():
        student.weight[0, 0] = math.nan
    with pytest.raises(DistillError, match=r"are not finite any more: lower learning_rate\."):
        fit(student, CE)


def test_student_teacher_and_data_must_tell_the_same_classes_apart():
    source = Teacher.from_module(linear(classes=5))
    with pytest.raises(
        DistillError, match=r"same classes apart; got 3 classes in the student, 5 in the teacher"
    ):
        fit(linear(), KD, teacher=source)
    with pytest.raises(DistillError, match=r"shape \(20, 4\) for 20 samples; expected \(20, 3\)"):
        fit(linear(classes=4), CE)
    # Relations between samples need no common classes.
    relational = [Term("rkd_distance", layers=("0", "0")), Term("ce")]
    fit(mlp(), relational, teacher=mlp(classes=5), epochs=1)


def test_bad_data_is_refused_before_the_first_step():
    student = linear()
    with pytest.raises(DataError, match="validation set 'four' agrees with the training set"):
        fit(student, CE, validation=blobs(9, "four", classes=4))
    with pytest.raises(DataError, match="transfer set has samples like"):
        fit(student, KD, transfer=TRANSFER[:, :2])
    known = np.concatenate([TRAIN.features, TRANSFER[:-2]])
    source = Teacher.from_logits(known, np.zeros((88, CLASSES)))
    with pytest.raises(DistillError, match="2 of 90 samples without logits, the first in row 88"):
        fit(student, KD, transfer=TRANSFER, teacher=source)
    assert same(weights(student), weights(linear()))


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("epochs", None), ("epochs", 2.5), ("batch_size", 0), ("patience", 0),
     ("seed", -1), ("gradient_every", -1), ("checkpoint_epochs", 0), ("checkpoint_steps", 0)],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(name: str, value):
    with pytest.raises(DistillError, match=rf"{name} is a whole number of at least .; got {value}"):
        Distiller(linear(), CE, **{name: value})


def test_random_labels_and_a_uniform_teacher_run():
    random = blobs(40, "train")
    student = linear()
    history = Distiller(student, [Term("kl")], teacher=uniform(CLASSES), epochs=60).fit(
        random, VALIDATION, stream(0, "noise").normal(size=(5, FEATURES))
    )
    assert history["train/kl"][-1] < 0.1 * history["train/kl"][0]


# ---------------------------------------------------------------- callbacks and progress


def test_a_callback_may_end_the_run():
    class Enough(Callback):
        def on_epoch_end(self, state: State) -> None:
            if state.epoch == 3:
                state.stopped = "enough"

    class Early(Callback):
        def on_step_end(self, state: State) -> None:
            state.stopped = "early"

    history = fit(linear(), CE, callbacks=[Enough()])
    assert (history.stopped, history.num_epochs) == ("enough", 3)
    history = fit(linear(), CE, callbacks=[Early()])
    assert (history.stopped, history.num_epochs) == ("early", 1)


def test_callbacks_hear_of_the_end_after_an_error_too():
    recorder = Recorder()

    class Fails(Callback):
        def on_step_end(self, _state: State) -> None:
            raise RuntimeError("on purpose")

    student = mlp()
    terms = [Term("rkd_distance", layers=("0", "0"))]
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(student, terms, callbacks=[recorder, Fails()])
    assert recorder.events == ["start", "step 1", "end"]
    assert not student[0]._forward_hooks


def test_nothing_is_printed_unless_asked_for(capsys):
    fit(linear(), CE, epochs=2)
    assert capsys.readouterr() == ("", "")


def test_a_bar_shows_progress_and_nothing_else(capsys):
    fit(linear(), CE, epochs=2, progress=True)
    assert "".join(capsys.readouterr()).strip() == ""  # a bar needs a terminal


def test_options_are_one_value_or_keywords():
    training = Training(epochs=3, batch_size=7, seed=2)
    both = Distiller(linear(), CE, training=training, seed=4).training
    assert both == Training(epochs=3, batch_size=7, seed=4)
    a, b = linear(), linear()
    fit(a, CE, training=training)
    fit(b, CE, epochs=3, batch_size=7, seed=2)
    assert same(weights(a), weights(b))
    with pytest.raises(TypeError, match="epoch"):
        Distiller(linear(), CE, epoch=3)
