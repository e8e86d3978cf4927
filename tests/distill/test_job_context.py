# SPDX-License-Identifier: Apache-2.0
"""What a training loop leaves with every job: enough to go on from there by hand."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import nn

from qiskit_kd.circuits import CircuitModel, ClassGroups, angle, hardware_efficient
from qiskit_kd.data import Dataset
from qiskit_kd.distill import Callback, Distiller, State, Term
from qiskit_kd.errors import StorageError
from qiskit_kd.execution.engine import context_bytes, job_context, with_job_context
from qiskit_kd.nn import QuantumLayer
from tests.distill.toys import blobs, linear, mlp, same, weights

TRAIN, VALIDATION = blobs(24, "train"), blobs(12, "validation")


class Asking(nn.Module):
    """A student that asks for the context as an engine with jobs would, in every forward pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls: list[tuple[bool, bytes, dict[str, torch.Tensor], torch.Tensor]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.get_rng_state()
        self.calls.append((self.training, context_bytes(), weights(self.inner), state))
        out: torch.Tensor = self.inner(x)
        return out

    @property
    def contexts(self) -> list[bytes]:
        return [call[1] for call in self.calls]


def fitted(student: nn.Module, **options: object) -> Distiller:
    settings = {"epochs": 2, "batch_size": 12, "seed": 4, "gradient_every": 0, **options}
    distiller = Distiller(student, [Term("ce")], **settings)
    distiller.fit(TRAIN, VALIDATION)
    return distiller


def values_of(content: bytes, tmp_path) -> dict:
    path = tmp_path / "context.safetensors"
    path.write_bytes(content)
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["values"])


def test_weights_optimiser_and_random_numbers_are_in_it(tmp_path) -> None:
    student = Asking(mlp(dropout=0.2))
    fitted(student, optimizer="adam", learning_rate=0.02)
    # 2 epochs of 2 steps and a validation; the weights before each are in the job's context.
    steps = [call[1:] for call in student.calls if call[0]]
    assert len(steps) == 4
    for number, (context, before, random) in enumerate(steps):
        tensors = load(context)
        prefix = "student.inner."
        found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        assert same(found, before)
        assert torch.equal(tensors["random"], random)
        moments = [key for key in tensors if key.endswith(".exp_avg")]
        assert len(moments) == (0 if number == 0 else len(list(student.inner.parameters())))
        values = values_of(context, tmp_path)
        assert (values["state"]["step"], values["state"]["epoch"]) == (number, number // 2)
        assert values["groups"][0]["lr"] == 0.02
        assert values["engines"] == []
    assert not same(steps[0][1], steps[1][1])  # the test can fail


def test_engines_say_how_far_their_shots_are_drawn(tmp_path) -> None:
    model = CircuitModel(angle(2), hardware_efficient(2, 1, final_ry=True), ClassGroups(3, 2))
    layer = QuantumLayer(model, backend="exact_shots", seed=1)
    student = Asking(nn.Sequential(layer, nn.Linear(3, 3)))
    data = Dataset(TRAIN.features[:, :2], TRAIN.labels, 3, "two")
    Distiller(student, [Term("ce")], epochs=1, batch_size=8, gradient_every=0).fit(data, data)
    drawn = [values_of(c, tmp_path)["engines"][0]["drawn"] for c in student.contexts]
    assert drawn == [0, 1, 2, 3]


def test_the_best_weights_so_far_are_in_it() -> None:
    student = Asking(linear())
    fitted(student, epochs=3)
    last = load(student.contexts[-1])
    assert {key for key in last if key.startswith("best.")} == {"best.inner.weight",
                                                               "best.inner.bias"}  # fmt: skip


def test_there_is_one_only_while_it_trains() -> None:
    student = Asking(linear())
    assert job_context.get() is None
    fitted(student)
    assert all(student.contexts)
    assert job_context.get() is None
    student(torch.zeros(1, 6))
    assert student.contexts[-1] == b""


def test_a_failure_takes_it_away() -> None:
    class Broken(Callback):
        def on_epoch_end(self, state: State) -> None:
            raise RuntimeError(f"on purpose, epoch {state.epoch}")

    with pytest.raises(RuntimeError, match="on purpose"):
        Distiller(linear(), [Term("ce")], epochs=1, callbacks=[Broken()]).fit(TRAIN, VALIDATION)
    assert job_context.get() is None


def test_contexts_may_be_nested() -> None:
    outer: Callable[[], bytes] = lambda: b"outer"  # noqa: E731
    with with_job_context(outer):
        with with_job_context(lambda: b"inner"):
            assert context_bytes() == b"inner"
        assert context_bytes() == b"outer"
    assert context_bytes() == b""


# The weights it starts with.


def test_the_start_is_kept_where_nothing_is_better() -> None:
    student = linear()
    fitted(student, epochs=20, learning_rate=0.05)
    before, merit = weights(student), loss(student)
    history = Distiller(student, [Term("ce")], epochs=2, learning_rate=50.0, seed=1,
                        keep_start=True).fit(TRAIN, VALIDATION)  # fmt: skip
    assert history.best_epoch == 0
    assert same(weights(student), before)
    assert min(history.curves["validation/loss"]) > merit
    Distiller(student, [Term("ce")], epochs=2, learning_rate=50.0, seed=1).fit(TRAIN, VALIDATION)
    assert not same(weights(student), before)


def test_what_is_better_replaces_the_start() -> None:
    students = [linear(), linear()]
    kept, plain = (
        Distiller(student, [Term("ce")], epochs=5, learning_rate=0.02, keep_start=keep).fit(
            TRAIN, VALIDATION
        )
        for student, keep in zip(students, (True, False), strict=True)
    )
    assert kept.best_epoch == plain.best_epoch > 0
    assert same(*map(weights, students))
    assert kept.curves == plain.curves  # epoch 0 is no point of a curve


def test_patience_counts_from_the_start() -> None:
    student = linear()
    fitted(student, epochs=20, learning_rate=0.05)
    history = Distiller(student, [Term("ce")], epochs=50, learning_rate=50.0, patience=3, seed=1,
                        keep_start=True).fit(TRAIN, VALIDATION)  # fmt: skip
    assert (history.best_epoch, len(history.curves["epoch"])) == (0, 3)


def test_it_costs_one_validation_more() -> None:
    counts = []
    for keep in (False, True):
        student = Asking(linear())
        fitted(student, keep_start=keep)
        counts.append([training for training, *_ in student.calls].count(False))
    assert counts == [2, 3]


@pytest.mark.parametrize("keep", [False, True])
def test_a_checkpoint_remembers_the_start(tmp_path, keep: bool) -> None:
    student, calm = linear(), linear()
    for one in (student, calm):
        fitted(one, epochs=20, learning_rate=0.05)
    options = {"learning_rate": 50.0, "seed": 1, "keep_start": keep, "epochs": 4}

    class Interrupt(Callback):
        def on_epoch_end(self, state: State) -> None:
            if state.epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Distiller(student, [Term("ce")], checkpoint_dir=tmp_path, callbacks=[Interrupt()],
                  **options).fit(TRAIN, VALIDATION)  # fmt: skip
    history = Distiller(student, [Term("ce")], checkpoint_dir=tmp_path, **options).fit(
        TRAIN, VALIDATION
    )
    expected = Distiller(calm, [Term("ce")], **options).fit(TRAIN, VALIDATION)
    assert history.best_epoch == expected.best_epoch
    assert (history.best_epoch == 0) == keep
    assert same(weights(student), weights(calm))


def test_other_checkpoints_are_not_taken(tmp_path) -> None:
    Distiller(linear(), [Term("ce")], epochs=1, checkpoint_dir=tmp_path).fit(TRAIN, VALIDATION)
    with pytest.raises(StorageError, match="the checkpoint belongs to another run"):
        Distiller(linear(), [Term("ce")], epochs=1, checkpoint_dir=tmp_path,
                  keep_start=True).fit(TRAIN, VALIDATION)  # fmt: skip


def loss(student: nn.Module) -> float:
    with torch.no_grad():
        logits = student(torch.from_numpy(VALIDATION.features).float())
        return nn.functional.cross_entropy(logits, torch.from_numpy(VALIDATION.labels)).item()
