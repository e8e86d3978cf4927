# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fixed_images import IMAGES, fixed_images, registered  # noqa: F401 (a fixture)
from test_plan import tasks

from qiskit_kd.data import datasets
from qiskit_kd.errors import DataError, StorageError
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.plan import Task, plan
from qiskit_kd.experiment.store import canonical
from qiskit_kd.experiment.task import build_network, run_task, sources, terms
from qiskit_kd.seeding import derive


@pytest.fixture(scope="module")
def made() -> dict[str, Task]:
    return {task.label: task for task in tasks()}


@pytest.fixture(scope="module")
def teacher(made: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    task = made["teacher, plain, seed 0"]
    _, weights = run_task(task.spec)
    assert weights is not None
    path = tmp_path_factory.mktemp("teachers") / "t.safetensors"
    path.write_bytes(weights)
    return {task.key: str(path)}


def test_row(made: dict[str, Task], teacher: dict[str, str]) -> None:
    spec = made["quantum, distilled, seed 0, temperature 4"].spec
    row, weights = run_task(spec, teachers=teacher)
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


def test_the_same_spec_gives_the_same_bits(made: dict[str, Task], teacher: dict[str, str]) -> None:
    state = torch.random.get_rng_state()
    spec = made["quantum, shuffled, seed 0, temperature 1"].spec
    one, two = (canonical(run_task(spec, teachers=teacher)[0]) for _ in range(2))
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


def test_seeds_are_paired(made: dict[str, Task], teacher: dict[str, str], monkeypatch) -> None:
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
        run_task(made[f"quantum, {label}"].spec, teachers=teacher)
    run_task(made["quantum, plain, seed 1"].spec)
    assert seen[0] == seen[1] == seen[2]
    assert all(a != b for a, b in zip(seen[0], seen[3], strict=True))


def test_the_placebo_is_not_the_teacher(made: dict[str, Task], teacher: dict[str, str]) -> None:
    real = run_task(made["linear, distilled, seed 0, temperature 1"].spec, teachers=teacher)[0]
    fake = run_task(made["linear, shuffled, seed 0, temperature 1"].spec, teachers=teacher)[0]
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
    monkeypatch: pytest.MonkeyPatch, teacher: dict[str, str]
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
    taught = made["linear, distilled, seed 0, temperature 4"]
    run_task(taught.spec, teachers={taught.needs[0]: next(iter(teacher.values()))})
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
        run_task(
            made["linear, distilled, seed 0, temperature 1"].spec,
            teachers={made["teacher, plain, seed 0"].key: str(path)},
        )


def test_data_that_changed(made: dict[str, Task], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dict(made["linear, plain, seed 0"].spec)
    spec["data"] = {**spec["data"], "fingerprint": "0" * 64}
    with pytest.raises(DataError, match=r"'digits' changed since the study was planned; got"):
        run_task(spec)
    assert "digits" in datasets


# Several teachers, placebos of single terms, evaluation.


@pytest.fixture
def shown(registered: None, tmp_path: Path) -> dict[str, tuple[Task, dict[str, str]]]:  # noqa: F811
    """Tasks of an experiment on images by label, each with its teachers' files."""
    made = plan(parse(IMAGES, ["axes={}"]))
    files = {}
    for task in made:
        if task.role == "teacher":
            _, weights = run_task(task.spec)
            assert weights is not None
            path = tmp_path / task.key
            path.write_bytes(weights)
            files[task.key] = str(path)
    return {task.label: (task, {key: files[key] for key in task.needs}) for task in made}


def test_two_teachers_and_what_was_asked_for(shown) -> None:
    task, files = shown["classical, both, seed 0, temperature 4"]
    row, _ = run_task(task.spec, teachers=files)
    assert {name for name in row["curves"] if name.startswith("train/")} == {
        "train/ce", "train/kl", "train/feature_mse",
    }  # fmt: skip
    assert [(r["kind"], r["level"]) for r in row["robustness"]] == [
        ("noise", 0.1),
        ("rotation", 10),
    ]
    assert row["feature_maps"]["layer"] == "activation"
    assert np.shape(row["feature_maps"]["maps"]) == (4, 3, 2, 2)
    assert np.shape(row["feature_maps"]["images"]) == (4, 1, 4, 4)
    assert canonical(row) == canonical(run_task(task.spec, teachers=files)[0])
    later, files = shown["classical, both, seed 1, temperature 4"]
    other, _ = run_task(later.spec, teachers=files)
    assert "feature_maps" not in other
    assert len(other["robustness"]) == 2
    quantum, _ = run_task(shown["quantum, plain, seed 0"][0].spec)
    assert quantum["feature_maps"]["images"] == row["feature_maps"]["images"]


def test_each_term_has_its_own_source(shown) -> None:
    from qiskit_kd.distill.placebos import ShuffledTeacher, UniformTeacher

    spec = shown["classical, both, seed 0, temperature 4"][0].spec
    split = fixed_images(seed=0)
    asked: list[tuple[str, bool]] = []

    def network_of(name: str, trained: bool) -> torch.nn.Module:
        asked.append((name, trained))
        return build_network("convolution", {}, split, seed=0, backend="exact", dtype="float32")

    def term(placebo: str, teacher: str | None) -> dict:
        return {**spec["terms"][1], "placebo": placebo, "teacher": teacher, "name": f"{asked}"}

    four = [term("none", "soft"), term("shuffled", "soft"), term("uniform", None),
            term("untrained", "hybrid"), term("none", "soft"), spec["terms"][0]]  # fmt: skip
    found = sources({**spec, "terms": four}, split, network_of)
    assert list(found) == ["soft", "shuffled soft", "uniform", "untrained hybrid"]
    assert asked == [("soft", True), ("soft", True), ("hybrid", False)]
    assert isinstance(found["shuffled soft"], ShuffledTeacher)
    assert isinstance(found["uniform"], UniformTeacher)
    named = [one.teacher for one in terms({**spec, "terms": four})]
    assert named == ["soft", "shuffled soft", "uniform", "untrained hybrid", "soft", None]


def test_an_untrained_teacher_needs_no_file_and_has_weights_of_its_own(shown, monkeypatch) -> None:
    from qiskit_kd.experiment import task as module

    seen: list[torch.Tensor] = []
    of_module = module.Teacher.from_module

    def watched(network):
        seen.append(torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone())
        return of_module(network)

    monkeypatch.setattr(module.Teacher, "from_module", staticmethod(watched))
    for seed in (0, 0, 1):
        run_task(shown[f"classical, untrained, seed {seed}"][0].spec)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])  # another random network for each seed
    first = build_network("quanvolution", {}, fixed_images(seed=0), dtype="float32",
                          backend="exact", seed=derive(0, "weights"))  # fmt: skip
    own = torch.nn.utils.parameters_to_vector(first.parameters())
    assert not torch.equal(seen[0], own)  # nor the one a student starts from


def test_a_named_teacher_is_no_twin_of_a_student_of_its_kind(shown, monkeypatch) -> None:
    from qiskit_kd.experiment import task as module

    starts = []

    class Spy(module.Distiller):
        def fit(self, train, validation, transfer=None):
            starts.append(torch.nn.utils.parameters_to_vector(self.student.parameters()).tolist())
            return super().fit(train, validation, transfer)

    monkeypatch.setattr(module, "Distiller", Spy)
    for label in ("teacher:soft, plain, seed 0", "classical, plain, seed 0"):
        run_task(shown[label][0].spec)
    assert starts[0] != starts[1]


def test_a_shared_teacher_does_not_care_from_which_point_it_came(registered: None) -> None:  # noqa: F811
    """Its key leaves out how the pool was divided, so its row must too."""
    rows = []
    for images in (12, 24):
        made = plan(parse(IMAGES, [f"axes.images.only=[{images}]", "axes.sees.only=[all]"]))
        (task,) = (t for t in made if t.student == "teacher:soft")
        row, weights = run_task(task.spec)
        rows.append((task.key, canonical(row), weights))
    assert rows[0] == rows[1]
