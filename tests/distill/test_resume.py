# SPDX-License-Identifier: Apache-2.0
"""An interrupted run ends with the same bits as one that was not."""

from __future__ import annotations

import errno
import os

import pytest
import torch
from torch import nn

from qiskit_kd.circuits import CircuitModel, ClassGroups, angle, real_amplitudes
from qiskit_kd.distill import Callback, Distiller, Ramp, Teacher, Term
from qiskit_kd.errors import StorageError
from qiskit_kd.nn import FullyQuantumStudent, QuantumLayer

from .toys import FEATURES, Interrupted, StopAt, blobs, initialise, mlp, same, weights

TRAIN, VALIDATION = blobs(40, "train"), blobs(30, "validation")
TRANSFER = blobs(20, "transfer").features
EPOCHS, STEPS = 4, 3  # steps per epoch at batches of 14 labelled samples


def feature_run(adapter) -> dict:
    """Two teachers and a term on features, with an adapter of one's own or by name."""
    layers = ("2", "2")
    return {
        "terms": [
            Term("ce", 0.5),
            Term("kl", 0.5, options={"temperature": 2.0}, schedule=Ramp(0.2, 1.0, 2), teacher="a"),
            Term("feature_mse", 0.1, adapter=adapter, layers=layers, teacher="b"),
        ],
        "teacher": {"a": Teacher.from_module(mlp(7)), "b": Teacher.from_module(mlp(8))},
    }


class Run:
    """One configuration, built anew as another process would."""

    def __init__(self, folder=None, *, adapter=None, **options) -> None:
        self.student = mlp(dropout=0.3)
        adapter = adapter or initialise(nn.Linear(8, 8), 5)
        options = {"epochs": EPOCHS, "batch_size": 14, "learning_rate": 0.05} | options
        made = {**feature_run(adapter), "checkpoint_dir": folder, **options}
        self.distiller = Distiller(self.student, **made)

    def fit(self, train=TRAIN):
        self.history = self.distiller.fit(train, VALIDATION, TRANSFER)
        (adapter,) = self.distiller.adapters.values()
        self.adapter = weights(adapter)
        return self

    def __eq__(self, other) -> bool:
        return (
            same(weights(self.student), weights(other.student))
            and same(self.adapter, other.adapter)
            and self.history == other.history
        )


@pytest.fixture(scope="module")
def whole() -> Run:
    return Run().fit()


def interrupt(folder, kind: str, count: int, **options) -> None:
    with pytest.raises(Interrupted):
        Run(folder, callbacks=[StopAt(kind, count)], **options).fit()


OCCASIONS = [("step", k) for k in range(1, EPOCHS * STEPS + 1)]
OCCASIONS += [("epoch", k) for k in range(1, EPOCHS + 1)]


@pytest.mark.parametrize("every", [1, 2, None])
@pytest.mark.parametrize(("kind", "count"), OCCASIONS)
def test_interrupted_anywhere_and_resumed(tmp_path, whole, kind: str, count: int, every):
    interrupt(tmp_path, kind, count, checkpoint_steps=every)
    assert Run(tmp_path, checkpoint_steps=every).fit() == whole


def test_interrupted_at_every_step(tmp_path, whole):
    for step in range(1, EPOCHS * STEPS + 1):
        interrupt(tmp_path, "step", step, checkpoint_steps=1)
    assert Run(tmp_path, checkpoint_steps=1).fit() == whole


@pytest.mark.parametrize(("kind", "count"), [("step", 5), ("epoch", 3)])
def test_an_adapter_by_name_is_resumed_too(tmp_path, kind: str, count: int):
    options = {"adapter": "linear", "checkpoint_steps": 1}
    interrupt(tmp_path, kind, count, **options)
    assert Run(tmp_path, **options).fit() == Run(adapter="linear").fit()


def test_resuming_does_not_start_over(tmp_path):
    interrupt(tmp_path, "step", 8)
    steps = []

    class Count(Callback):
        def on_step_end(self, state) -> None:
            steps.append(state.step)

    Run(tmp_path, callbacks=[Count()]).fit()
    assert steps == list(range(7, 13)), "from the end of the second epoch"


def test_a_finished_run_is_only_read(tmp_path, whole):
    Run(tmp_path).fit()
    assert Run(tmp_path, callbacks=[StopAt("step", 1)]).fit() == whole


def test_checkpoints_do_not_change_a_run(tmp_path, whole):
    assert Run(tmp_path, checkpoint_steps=1).fit() == whole
    assert len(list(tmp_path.iterdir())) == 2


def test_checkpoints_every_few_epochs(tmp_path, whole):
    interrupt(tmp_path, "step", 5, checkpoint_epochs=3)
    assert not tmp_path.exists() or not list(tmp_path.iterdir())
    interrupt(tmp_path, "step", 10, checkpoint_epochs=3)
    assert list(tmp_path.iterdir())
    assert Run(tmp_path, checkpoint_epochs=3).fit() == whole


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_other_optimisers_resume_too(tmp_path, optimizer: str):
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {"amsgrad": True}
    options = {"optimizer": optimizer, "optimizer_options": momentum}
    interrupt(tmp_path, "step", 7, checkpoint_steps=1, **options)
    assert Run(tmp_path, checkpoint_steps=1, **options).fit() == Run(**options).fit()


def test_patience_is_remembered(tmp_path):
    options = {"epochs": 200, "learning_rate": 0.5, "patience": 3}
    whole = Run(**options).fit()
    assert whole.history.stopped == "patience"
    interrupt(tmp_path, "epoch", whole.history.num_epochs - 1, **options)
    assert Run(tmp_path, **options).fit() == whole


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"learning_rate": 0.01}, {"epochs": 9}, {"keep_start": True}, {"data": "other"}],
)
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, whole, change):
    Run(tmp_path).fit()
    train = blobs(40, change.pop("data", "train"))
    with pytest.raises(StorageError, match=r"belongs to another run; got .*checkpoint\.json"):
        Run(tmp_path, **change).fit(train)
    assert Run(tmp_path).fit() == whole


def test_a_damaged_checkpoint_is_refused(tmp_path):
    Run(tmp_path).fit()
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match=rf"checkpoint is damaged; got .*{path.name}.*Del"):
        Run(tmp_path).fit()


def test_a_disk_that_fills_up_ends_the_run_and_loses_nothing(tmp_path, whole, monkeypatch):
    calls, fsync = [], os.fsync

    def full(handle) -> None:
        calls.append(handle)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device.*previous file is intact"):
        Run(tmp_path).fit()
    monkeypatch.undo()
    assert Run(tmp_path).fit() == whole


def test_the_student_file_does_not_hold_the_teacher(tmp_path):
    from safetensors.torch import load_file

    run = Run(tmp_path).fit()
    (path,) = tmp_path.glob("*.safetensors")
    names = {name.split(".")[0] for name in load_file(path)}
    assert names == {"random", "student", "trained", "best", "optimizer"}
    values = sum(t.numel() for k, t in load_file(path).items() if k.startswith("student."))
    assert values == sum(torch.as_tensor(w).numel() for w in run.student.state_dict().values())


@pytest.mark.parametrize("gradient", ["spsa", "shift"])
@pytest.mark.parametrize("backend", ["exact_shots", "aer_shots"])
def test_shots_continue_where_they_stopped(tmp_path, backend: str, gradient: str):
    def run(folder, *callbacks):
        model = CircuitModel(angle(2), real_amplitudes(2, 1), ClassGroups(2, 2))
        layer = QuantumLayer(model, backend, gradient=gradient, shots=20, seed=3)
        first = initialise(nn.Linear(FEATURES, 2), 1)
        student = FullyQuantumStudent(nn.Sequential(first, layer))
        distiller = Distiller(
            student, [Term("ce")], epochs=3, batch_size=8, seed=0, checkpoint_dir=folder,
            checkpoint_steps=1, callbacks=callbacks,
        )  # fmt: skip
        return distiller.fit(train, validation), weights(student)

    train, validation = (blobs(12, name, classes=2) for name in ("a", "b"))
    history, final = run(None)
    with pytest.raises(Interrupted):
        run(tmp_path, StopAt("step", 4))
    resumed, end = run(tmp_path)
    assert resumed == history
    assert same(end, final)
