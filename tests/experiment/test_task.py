# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fixed_images import IMAGES, fixed_images, registered  # noqa: F401 (a fixture)
from noisy_study import backends, by_label  # noqa: F401 (a fixture)
from test_plan import tasks

from qiskit_kd.circuits import DeadWeightsWarning
from qiskit_kd.data import datasets
from qiskit_kd.distill.metrics import kl, metrics
from qiskit_kd.errors import DataError, StorageError
from qiskit_kd.execution.backends import load_backend
from qiskit_kd.experiment.devices import open_backend
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.plan import Task, plan
from qiskit_kd.experiment.store import canonical
from qiskit_kd.experiment.task import (
    _jury,
    build_network,
    moved,
    run_task,
    sources,
    split_of,
    terms,
    trained_network,
)
from qiskit_kd.nn.students import students
from qiskit_kd.seeding import derive
from tests.reference import reference_noisy_outputs


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


def test_a_worker_leaves_warnings_to_the_one_who_plans(made: dict[str, Task]) -> None:
    spec = dict(made["quantum, plain, seed 0"].spec)
    spec["options"] = {**spec["options"], "scheme": "modulo"}
    spec["training"] = {**spec["training"], "epochs": 1}
    with pytest.warns(DeadWeightsWarning):
        students["fully_quantum"](64, 2, seed=0, **spec["options"])
    row, _ = run_task(spec)  # a warning would be an error here
    assert row["parameters"] > 0


def test_row(made: dict[str, Task], teacher: dict[str, str]) -> None:
    spec = made["quantum, distilled, seed 0, temperature 4"].spec
    row, weights = run_task(spec, teachers=teacher)
    assert trained_network(spec, weights).circuit.weight.numel() > 0
    assert set(row) == {
        "experiment", "student", "variant", "seed", "parameters", "options", "validation", "test",
        "best_epoch", "correct", "curves", "distribution", "extra", "steps_per_epoch",
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
            seen.append((start, self.training.seed, train.fingerprint))
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


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("training.steps_per_epoch=5", [5, 5]), ("training.steps_per_epoch=19", [19, 19]),
     ("training.steps_per_epoch=50", [20, 20]), ("training.batch_size=6", [4, 4]),
     ("training.batch_size=100", [1, 1]),
     ("training={batch_size: 6, steps: unequal}", [4, 7])],
)  # fmt: skip
def test_variants_take_as_many_steps_with_and_without_unlabelled_samples(
    setting: str, expected: list[int], teacher: dict[str, str]
) -> None:
    made = {task.label: task for task in tasks(setting)}
    taught = made["linear, distilled, seed 0, temperature 4"]
    files = {taught.needs[0]: next(iter(teacher.values()))}
    rows = [
        run_task(made["linear, plain, seed 0"].spec)[0], run_task(taught.spec, teachers=files)[0]
    ]  # fmt: skip
    assert [row["steps_per_epoch"] for row in rows] == expected


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
        return build_network(
            {"kind": "convolution", "options": {}, "dtype": "float32"}, split, seed=0
        )

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
    first = build_network(
        {"kind": "quanvolution", "options": {}, "dtype": "float32"},
        fixed_images(seed=0),
        seed=derive(0, "weights"),
    )
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


# One backend to train on, another to be judged on.


def vector(network: torch.nn.Module) -> list[float]:
    return torch.nn.utils.parameters_to_vector(network.parameters()).tolist()


class Stage:
    """What a stage of training began with, and what it ended with."""

    def __init__(self, distiller, train, validation) -> None:
        self.student, self.seed = distiller.student, distiller.training.seed
        self.backend = getattr(getattr(self.student, "circuit", None), "engine", None)
        self.data = train.fingerprint, validation.fingerprint
        self.start = vector(self.student)
        self.batches: list[list] = []
        self.end: list[float] = []

    def watch(self, network: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if network.training:
            self.batches.append(inputs[0].tolist())


@pytest.fixture
def stages(backends: Path, monkeypatch: pytest.MonkeyPatch) -> list[Stage]:  # noqa: F811
    """Every stage of training from here on."""
    from qiskit_kd.experiment import task as module

    found: list[Stage] = []

    class Spy(module.Distiller):
        def fit(self, train, validation, transfer=None):
            stage = Stage(self, train, validation)
            found.append(stage)
            hook = self.student.register_forward_pre_hook(stage.watch)
            history = super().fit(train, validation, transfer)
            hook.remove()
            stage.end = vector(self.student)
            return history

    monkeypatch.setattr(module, "Distiller", Spy)
    return found


ALONE = ("evaluation={backend: null, shots: [], side_by_side: null, teacher: null}",)


def noisy_logits(network: torch.nn.Module, features: np.ndarray) -> np.ndarray:
    """Of the study's device, by a plain loop over gates and samples."""
    model = network.circuit.model
    engine = load_backend("noisy").changed("two", {"scale": 2.0}).engine()
    device, native = engine.programs.device(2), engine.program(model).native
    weights = network.circuit.weight.detach().double().numpy()
    return np.log(reference_noisy_outputs(model, native, device, features, weights))


def test_variants_that_differ_in_their_backend_are_paired(stages: list[Stage]) -> None:
    made = by_label(*ALONE)
    rows = {name: run_task(made[f"quantum, {name}, seed 0"].spec)[0]
            for name in ("plain", "noisy", "tuned")}  # fmt: skip
    plain, noisy, tuned, _ = stages
    assert [stage.backend.name for stage in (plain, noisy, tuned)] == ["exact", "device", "exact"]
    for other in (noisy, tuned):
        assert other.start == plain.start
        assert (other.seed, other.data) == (plain.seed, plain.data)
        assert other.batches == plain.batches
        assert len(plain.batches) == 4  # two epochs of two batches
    assert tuned.end == plain.end
    assert np.abs(np.subtract(noisy.end, plain.end)).max() > 1e-4
    assert rows["tuned"]["curves"] == rows["plain"]["curves"]
    assert rows["noisy"]["curves"]["train/ce"] != rows["plain"]["curves"]["train/ce"]
    run_task(made["quantum, noisy, seed 1"].spec)
    assert stages[-1].start != plain.start


@pytest.mark.slow
def test_trained_without_noise_and_judged_under_it(stages: list[Stage]) -> None:
    made = by_label("evaluation={shots: [], side_by_side: null, teacher: null}")
    row, _ = run_task(made["quantum, plain, seed 0"].spec)
    alone, _ = run_task(by_label(*ALONE)["quantum, plain, seed 0"].spec)
    assert row["curves"] == alone["curves"]  # validation while training is where it is trained
    assert (row["options"]["backend"], alone["options"]["backend"]) == ("exact", "exact")
    assert row["circuits"][0]["device"] == "rates"
    assert "circuits" not in alone
    split = split_of(made["quantum, plain, seed 0"].spec)
    for part, names in (("validation", ("accuracy", "macro_f1", "nll")),
                        ("test", ("accuracy", "macro_f1", "nll", "ece"))):  # fmt: skip
        data = getattr(split, part)
        expected = metrics(noisy_logits(stages[0].student, data.features), data.labels)
        assert row[part] == pytest.approx({name: expected[name] for name in names}, abs=1e-9)
        assert row[part]["nll"] != pytest.approx(alone[part]["nll"], abs=1e-3)


@pytest.mark.slow
def test_trained_under_noise(stages: list[Stage]) -> None:
    row, _ = run_task(by_label(*ALONE)["quantum, noisy, seed 0"].spec)
    task = by_label(*ALONE)["quantum, noisy, seed 0"]
    split = split_of(task.spec)
    expected = metrics(noisy_logits(stages[0].student, split.test.features), split.test.labels)
    assert row["test"] == pytest.approx(expected, abs=1e-9)  # judged where it was trained
    assert row["options"]["backend"] == "device"
    assert row["circuits"][0]["device"] == "rates"


def test_a_network_is_moved_with_its_weights(backends: Path) -> None:  # noqa: F811
    spec = by_label()["quantum, plain, seed 0"].spec
    split = split_of(spec)
    network = build_network(spec, split, seed=3)
    before = vector(network)
    there = moved(spec, network, split, spec["evaluation"]["backend"])
    assert there is not network
    assert vector(there) == before == vector(network)
    features = split.test.features[:4]
    with torch.no_grad():
        found = there(torch.from_numpy(features)).numpy()
        at_home = network(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, noisy_logits(network, features), atol=1e-9)
    assert np.abs(found - at_home).max() > 1e-2
    with torch.no_grad():
        network.circuit.weight += 1
    assert vector(there) == before  # the two share nothing
    back = moved(spec, there, split, spec["backend"])
    with torch.no_grad():
        np.testing.assert_array_equal(back(torch.from_numpy(features)).numpy(), at_home)
    few, same = (moved(spec, network, split, spec["evaluation"]["backend"], 10) for _ in range(2))
    assert few.circuit.engine.shots == 10
    with torch.no_grad():  # the same shots for the same network, whoever asks
        np.testing.assert_array_equal(few(torch.from_numpy(features)).numpy(),
                                      same(torch.from_numpy(features)).numpy())  # fmt: skip


@pytest.mark.usefixtures("backends")
@pytest.mark.parametrize(
    "student",
    ["{kind: hybrid, options: {encoding: angle, num_qubits: 2, layers: 1}}", "{kind: mlp}",
     "{kind: equal_size, options: {budget: 14}}",
     "{kind: fully_quantum, options: {encoding: angle, num_qubits: 2, layers: 1, sharpness: "
     "learnable, shots: 30}}"],
)  # fmt: skip
def test_every_kind_of_student_is_moved(student: str) -> None:
    task = by_label(f"students.another={student}")["another, plain, seed 0"]
    split = split_of(task.spec)
    network = build_network(task.spec, split, seed=3)
    there = moved(task.spec, network, split, task.spec["evaluation"]["backend"])
    before, after = network.state_dict(), there.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_numbers_of_shots_that_are_asked_for_win_over_a_students_own(
    backends: Path,  # noqa: F811
) -> None:
    spec = by_label("students.quantum.options.shots=17")["quantum, plain, seed 0"].spec
    split = split_of(spec)
    network = build_network(spec, split, seed=3)
    home = spec["evaluation"]["backend"]
    assert moved(spec, network, split, home).circuit.engine.shots == 17
    assert moved(spec, network, split, home, 64).circuit.engine.shots == 64


def test_numbers_of_shots_and_backends_draw_from_streams_of_their_own(
    backends: Path,  # noqa: F811
) -> None:
    seeds: dict[str, list[int]] = {}
    for variant in ("plain", "noisy"):
        spec = by_label("evaluation.backend=exact_shots")[f"quantum, {variant}, seed 0"].spec
        split = split_of(spec)
        network = build_network(spec, split, seed=3)
        alone = {**spec, "evaluation": {**spec["evaluation"], "teacher": None}}
        jury = _jury(alone, network, split, {}, open_backend)
        there = [("exact_shots", None), ("exact_shots", 64), ("exact_shots", 1000), ("aer", 64)]
        networks = [jury.moved({"name": name}, shots) for name, shots in there]
        seeds[variant] = [one.circuit.engine.seed for one in networks]
    assert len({*seeds["plain"]}) == 4
    assert seeds["plain"] == seeds["noisy"]  # variants of a seed are paired


def test_probabilities_are_smoothed_as_the_backend_samples(backends: Path) -> None:  # noqa: F811
    spec = by_label()["quantum, plain, seed 0"].spec
    split = split_of(spec)
    sampled = build_network(spec, split, seed=3, backend="exact_shots")
    assert sampled.smoothing == 0.5 / 100
    exact = moved(spec, sampled, split, spec["backend"])
    assert exact.smoothing == 0
    assert moved(spec, exact, split, {"name": "exact_shots"}).smoothing == 0.5 / 100
    assert moved(spec, sampled, split, spec["evaluation"]["backend"], 64).smoothing == 0.5 / 64


@pytest.mark.slow
def test_the_second_stage_goes_on_from_the_first(stages: list[Stage]) -> None:
    task = by_label()["quantum, tuned, seed 0"]
    spec = {**task.spec, "evaluation": {}}
    row, _ = run_task(spec)
    first, second = stages
    assert (first.backend.name, second.backend.name) == ("exact", "device")
    assert second.backend.programs.device(2).scale == 2.0
    assert second.start == first.end
    assert second.end != second.start
    assert first.seed != second.seed
    assert first.data == second.data
    assert (len(first.batches), len(second.batches)) == (4, 2)
    # With a rate of 0.001, Adam moves no weight by more than that in each of the two steps.
    assert np.abs(np.subtract(second.end, second.start)).max() < 0.0021
    assert len(row["curves"]["train/ce"]) == 2
    assert list(row["fine_tuning"]) == ["curves", "start", "best_epoch", "steps_per_epoch"]
    assert row["fine_tuning"]["best_epoch"] in (0, 1)
    assert row["fine_tuning"]["start"].keys() == {"validation/loss", "validation/accuracy"}
    assert len(row["fine_tuning"]["curves"]["train/ce"]) == 1
    assert row["options"]["backend"] == "device"
    split = split_of(spec)
    expected = metrics(noisy_logits(second.student, split.test.features), split.test.labels)
    assert row["test"] == pytest.approx(expected, abs=1e-9)
    plain, _ = run_task({**by_label()["quantum, plain, seed 0"].spec, "evaluation": {}})
    assert "fine_tuning" not in plain


def test_a_second_stage_on_samples(stages: list[Stage]) -> None:
    made = by_label("variants.tuned.fine_tune.backend=exact_shots", "evaluation.shots=[40]",
                    "evaluation.backend=null", "evaluation.side_by_side=null",
                    "evaluation.teacher=null")  # fmt: skip
    asked: list[tuple[str, int | None]] = []

    def opened(entry, *, shots=None):
        asked.append((entry["name"], shots))
        return open_backend(entry, shots=shots)

    row, _ = run_task(made["quantum, tuned, seed 0"].spec, opened=opened)
    first, second = stages
    assert (first.student.smoothing, second.student.smoothing) == (0, 0.005)
    assert row["options"]["smoothing"] == 0.005
    # Shots are taken where it was trained last.
    assert asked == [("exact", None), ("exact_shots", None), ("exact_shots", 40)]
    assert [entry["shots"] for entry in row["shots"]] == [40]


@pytest.mark.slow
def test_rows_of_a_study_with_everything(stages: list[Stage], tmp_path: Path) -> None:
    made = by_label()
    files = {}
    for name in ("soft", "other"):
        row, weights = run_task(made[f"teacher:{name}, plain, seed 0"].spec)
        assert not {"shots", "backends", "circuits"} & set(row)
        assert "kl" not in row["test"]
        task = made[f"teacher:{name}, plain, seed 0"]
        (tmp_path / task.key).write_bytes(weights)
        files[task.key] = str(tmp_path / task.key)
    teacher = stages[-1].student
    task = made["quantum, taught, seed 0, temperature 2"]
    row, _ = run_task(task.spec, teachers={key: files[key] for key in task.needs})
    split = split_of(task.spec)
    with torch.no_grad():
        taught = teacher(torch.tensor(split.test.features)).numpy()
    expected = kl(taught, noisy_logits(stages[-1].student, split.test.features))
    assert row["test"]["kl"] == pytest.approx(expected, abs=1e-9)
    assert set(row["curves"]) >= {"train/ce", "train/kl"}  # of the other one, who teaches
    assert [entry["shots"] for entry in row["shots"]] == [64, 1000]
    beside = {entry["backend"]: entry for entry in row["backends"]}
    assert list(beside) == ["exact", "aer", "device"]
    assert beside["device"]["distance"] == 0
    assert beside["exact"]["nll"] == pytest.approx(beside["aer"]["nll"], abs=1e-9)
    assert beside["exact"]["distance"] == pytest.approx(beside["aer"]["distance"], abs=1e-9)
    assert beside["exact"]["distance"] > 1e-3
    again, _ = run_task(task.spec, teachers={key: files[key] for key in task.needs})
    assert canonical(again) == canonical(row)  # its shots too
    later = made["quantum, plain, seed 1"].spec
    assert "side_by_side" not in later["evaluation"]


@pytest.mark.usefixtures("backends")
def test_networks_without_circuits_do_not_care() -> None:
    made = by_label("evaluation.teacher=null")
    row, _ = run_task(made["linear, plain, seed 0"].spec)
    alone, _ = run_task(by_label(*ALONE)["linear, plain, seed 0"].spec)
    assert {key: row[key] for key in alone} == alone
    assert {entry["nll"] for entry in row["shots"]} == {row["test"]["nll"]}
    assert [entry["distance"] for entry in row["backends"]] == [0, 0, 0]
    assert [entry["shots"] for entry in row["backends"]] == [None] * 3
    assert "circuits" not in row
