# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_plan import tasks

from qiskit_kd.data import datasets
from qiskit_kd.errors import DataError, StorageError
from qiskit_kd.experiment.plan import Task
from qiskit_kd.experiment.store import canonical
from qiskit_kd.experiment.task import run_task


@pytest.fixture(scope="module")
def made() -> dict[str, Task]:
    return {task.label: task for task in tasks()}


@pytest.fixture(scope="module")
def teacher(made: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> str:
    _, weights = run_task(made["teacher, plain, seed 0"].spec)
    assert weights is not None
    path = tmp_path_factory.mktemp("teachers") / "t.safetensors"
    path.write_bytes(weights)
    return str(path)


def test_row(made: dict[str, Task], teacher: str) -> None:
    spec = made["quantum, distilled, seed 0, temperature 4"].spec
    row, weights = run_task(spec, teacher=teacher)
    assert weights is None
    assert set(row) == {
        "experiment", "student", "variant", "seed", "parameters", "options", "validation", "test",
        "curves", "distribution", "extra",
    }  # fmt: skip
    assert (row["experiment"], row["student"], row["variant"]) == ("small", "quantum", "distilled")
    assert row["options"]["temperature"] == 4.0
    assert row["options"]["sharpness_mode"] == "fixed"
    assert row["extra"]["sharpness"] == 1.0
    assert set(row["validation"]) == {"accuracy", "macro_f1", "nll"}
    assert set(row["test"]) == {"accuracy", "macro_f1", "nll", "ece"}
    for curve in ("epoch", "train/ce", "train/kl", "validation/accuracy", "validation/loss"):
        assert len(row["curves"][curve]) == 3
    shares = np.array(row["distribution"])
    assert shares.shape == (2, 2)
    assert shares.sum(axis=1) == pytest.approx(1)


def test_the_same_spec_gives_the_same_bits(made: dict[str, Task], teacher: str) -> None:
    state = torch.random.get_rng_state()
    spec = made["quantum, shuffled, seed 0, temperature 1"].spec
    one, two = (canonical(run_task(spec, teacher=teacher)[0]) for _ in range(2))
    assert one == two
    assert torch.equal(state, torch.random.get_rng_state())


def test_torch_threads_are_given_back(made: dict[str, Task]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_task(made["linear, plain, seed 0"].spec)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_seeds_are_paired(made: dict[str, Task], teacher: str, monkeypatch) -> None:
    """All variants of a seed start from the same weights and see the same batches."""
    from qiskit_kd.experiment import task as module

    seen = []

    class Spy(module.Distiller):
        def fit(self, train, validation, transfer=None):
            start = torch.nn.utils.parameters_to_vector(self.student.parameters()).tolist()
            seen.append((start, self.seed, train.fingerprint))
            return super().fit(train, validation, transfer)

    monkeypatch.setattr(module, "Distiller", Spy)
    for variant in ("plain", "distilled, seed 0, temperature 1", "uniform"):
        label = variant if "seed" in variant else f"{variant}, seed 0"
        run_task(made[f"quantum, {label}"].spec, teacher=teacher)
    run_task(made["quantum, plain, seed 1"].spec)
    assert seen[0] == seen[1] == seen[2]
    assert all(a != b for a, b in zip(seen[0], seen[3], strict=True))


def test_the_placebo_is_not_the_teacher(made: dict[str, Task], teacher: str) -> None:
    real = run_task(made["linear, distilled, seed 0, temperature 1"].spec, teacher=teacher)[0]
    fake = run_task(made["linear, shuffled, seed 0, temperature 1"].spec, teacher=teacher)[0]
    assert real["curves"]["train/kl"] != fake["curves"]["train/kl"]
    assert real["parameters"] == fake["parameters"]


def test_what_the_teacher_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_kd.experiment import task as module

    sizes = []

    class Spy(module.Distiller):
        def fit(self, train, validation, transfer=None):
            sizes.append((len(train), transfer is None))
            return super().fit(train, validation, transfer)

    monkeypatch.setattr(module, "Distiller", Spy)
    for sees in ("same", "all"):
        run_task(tasks(f"teacher.sees={sees}")[0].spec)
    assert sizes == [(20, True), (40, True)]


def test_steps_per_epoch_are_the_same_with_and_without_unlabelled_samples(
    monkeypatch: pytest.MonkeyPatch, teacher: str
) -> None:
    from qiskit_kd.experiment import task as module

    steps = []

    class Spy(module.Distiller):
        def fit(self, train, validation, transfer=None):
            samples = len(train) + (0 if transfer is None else len(transfer))
            steps.append(-(-samples // self.batch_size))
            return super().fit(train, validation, transfer)

    monkeypatch.setattr(module, "Distiller", Spy)
    made = {task.label: task for task in tasks("training.steps_per_epoch=5")}
    run_task(made["linear, plain, seed 0"].spec)
    run_task(made["linear, distilled, seed 0, temperature 4"].spec, teacher=teacher)
    assert steps == [5, 5]


def test_scratch_is_removed(made: dict[str, Task], tmp_path: Path) -> None:
    run_task(made["linear, plain, seed 0"].spec, scratch=str(tmp_path / "scratch"))
    assert not (tmp_path / "scratch").exists()


def test_long_tasks_leave_checkpoints_and_resume(tmp_path: Path, monkeypatch) -> None:
    from qiskit_kd.experiment import task as module

    (task,) = (
        t for t in tasks("training.checkpoint_epochs=1") if t.label == "linear, plain, seed 0"
    )
    whole, _ = run_task(task.spec)
    scratch = tmp_path / "scratch"

    class Stops(module.Distiller):
        def _validate(self, state, held_out):
            if state.epoch == 2:
                raise KeyboardInterrupt
            super()._validate(state, held_out)

    with monkeypatch.context() as patch:
        patch.setattr(module, "Distiller", Stops)
        with pytest.raises(KeyboardInterrupt):
            run_task(task.spec, scratch=str(scratch), checkpoint_epochs=1)
    assert any(scratch.iterdir())
    resumed, _ = run_task(task.spec, scratch=str(scratch), checkpoint_epochs=1)
    assert canonical(resumed) == canonical(whole)
    assert not scratch.exists()


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_damaged_teacher(made: dict[str, Task], tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "t.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError, match=r"teacher's weights cannot be read; got .*Delete the"):
        run_task(made["linear, distilled, seed 0, temperature 1"].spec, teacher=str(path))


def test_data_that_changed(made: dict[str, Task], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dict(made["linear, plain, seed 0"].spec)
    spec["data"] = {**spec["data"], "fingerprint": "0" * 64}
    with pytest.raises(DataError, match=r"'digits' changed since the study was planned; got"):
        run_task(spec)
    assert "digits" in datasets
