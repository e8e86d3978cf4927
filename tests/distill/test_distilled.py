# SPDX-License-Identifier: Apache-2.0
"""`distill` in one call: what it takes for teacher, student, data and loss, and what comes back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from qiskit.primitives import StatevectorSampler
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import qiskit_kd as qkd
from qiskit_kd.errors import ConfigError, DataError, DistillError, StorageError

from .toys import CLASSES, blobs, linear, mlp

DATA = blobs(120, "distilled")
X, Y = DATA.features, DATA.labels
NAMES = np.array(["ash", "birch", "cedar"])


def forest(labels: Any = Y) -> Any:
    return RandomForestClassifier(10, random_state=0).fit(X, labels)


def test_a_circuit_learns_from_a_forest_in_one_call() -> None:
    iris = load_iris()
    teacher = make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0))
    teacher.fit(iris.data, iris.target)
    ansatz = qkd.circuits.hardware_efficient(4, 2, final_ry=True)
    model = qkd.CircuitModel(qkd.circuits.angle(4), ansatz, qkd.ClassGroups(3, 4))
    found = qkd.distill(teacher, model, iris, epochs=15, learning_rate=0.1, backend="exact")
    assert found.test()["accuracy"] > 0.6
    assert isinstance(found.student, qkd.nn.FullyQuantumStudent)
    assert repr(found).startswith("Distilled(FullyQuantumStudent, ")
    assert "validation accuracy" not in repr(found.history)
    assert "best" in repr(found.history)
    assert found._repr_html_().count("<tr>") >= 3
    assert "train/kl" in found.history.plot().get_legend_handles_labels()[1]
    pyplot.close("all")


def test_frames() -> None:
    pandas = pytest.importorskip("pandas")
    found = qkd.distill(mlp(), linear(), (pandas.DataFrame(X), pandas.Series(NAMES[Y])), epochs=2)
    assert list(found.history.to_frame().index) == [1, 2]


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        (X.tolist(), Y.tolist()),
        TensorDataset(torch.tensor(X), torch.tensor(Y)),
        DataLoader(TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=7, shuffle=True),
        {"data": X, "target": Y},
        (X, NAMES[Y]),
        (X, NAMES[Y].astype(object)),
        (X, Y[:, None] * 2 + 5),
    ],
)
def test_data_of_any_kind(data: Any) -> None:
    found = qkd.distill(mlp(), linear(), data, epochs=2)
    again = qkd.distill(mlp(), linear(), (X, Y), epochs=2)
    assert found.history.curves == again.history.curves
    assert set(found.predict(X)) <= set(found.classes.tolist())
    assert found.predict_proba(X).shape == (len(X), CLASSES)


def test_files_and_splits(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    np.savez(tmp_path / "xy.npz", features=X, labels=Y)
    for data in (
        (tmp_path / "x.npy", tmp_path / "y.npy"),
        tmp_path / "xy.npz",
        str(tmp_path / "xy.npz"),
        qkd.data.arrays(X, Y, seed=0),
    ):
        assert qkd.distill(mlp(), linear(), data, epochs=1).test()["accuracy"] >= 0


def test_students_by_name_losses_by_name_and_no_teacher() -> None:
    found = qkd.distill(None, "linear", (X, NAMES[Y]), epochs=30, learning_rate=0.1, test=0)
    assert (found.predict(X) == NAMES[Y]).mean() > 0.7
    assert [key for key in found.history.curves if key.startswith("train/")] == ["train/ce"]
    with pytest.raises(DistillError, match="needs samples that were kept for it; got none"):
        found.test()
    teacher = {"soft": forest()}
    loss = ["ce", qkd.Term("kl", 0.5, temperature=4, teacher="soft"), qkd.losses.jsd]
    found = qkd.distill(teacher, qkd.students.linear, (X, Y), loss=loss, epochs=1)
    assert {"train/ce", "train/kl", "train/jsd"} <= found.history.curves.keys()


def test_images_stay_images() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(4, 2))
    x, y = torch.randn(40, 1, 2, 3), torch.arange(40) % 2
    assert qkd.distill(None, network, (x, y), epochs=1).test_set[0].shape[1:] == (1, 2, 3)


def test_saved_and_loaded(tmp_path: Path) -> None:
    found = qkd.distill(forest(NAMES[Y]), linear(), (X, NAMES[Y]), epochs=2)
    again = qkd.distill.distilled.Distilled.load(found.save(tmp_path / "kept"), linear(1))
    assert (again.predict(X) == found.predict(X)).all()
    assert again.history == found.history
    with pytest.raises(StorageError, match="a saved student fits the one it is loaded into; got"):
        qkd.distill.Distilled.load(tmp_path / "kept", linear(classes=4))
    with pytest.raises(StorageError, match=r"expected student.safetensors and distilled.json"):
        qkd.distill.Distilled.load(tmp_path, linear())


def test_errors() -> None:
    with pytest.raises(DistillError, match=r"got a SVC without predict_proba.*Calibrate it"):
        qkd.distill(SVC().fit(X, Y), linear(), (X, Y))
    with pytest.raises(DistillError, match="trained classifier of these samples; got NotFittedErr"):
        qkd.distill(RandomForestClassifier(), linear(), (X, Y), epochs=1)
    with pytest.raises(DataError, match="data are samples and labels; got"):
        qkd.distill(mlp(), linear(), X)
    with pytest.raises(DataError, match=r"one label; got samples \(120, 6\), labels \(3,\)"):
        qkd.distill(mlp(), linear(), (X, Y[:3]))
    with pytest.raises(DataError, match=r"a pair of files are arrays; got nowhere.npy"):
        qkd.distill(mlp(), linear(), ("nowhere.npy", Y))
    with pytest.raises(DistillError, match="a module, a circuit model, a name or a builder; got 3"):
        qkd.distill(mlp(), 3, (X, Y))
    with pytest.raises(DistillError, match="no such option; got 'temp'"):
        qkd.Term("kl", temp=3)


def test_registries_have_attributes_and_say_what_they_hold() -> None:
    assert qkd.losses.kl is qkd.losses["kl"]
    assert "kl" in dir(qkd.losses)
    assert "parts of kind loss: attention, ce, " in repr(qkd.losses)
    with pytest.raises(AttributeError, match="unknown loss; got 'kll'"):
        _ = qkd.losses.kll
    assert not hasattr(qkd.losses, "__wrapped__")


def test_rooms_are_reachable_and_one_is_a_call() -> None:
    assert qkd.nn.QuantumLayer is qkd.QuantumLayer
    assert {"nn", "execution", "data", "experiment", "report", "interop"} <= set(dir(qkd))
    assert qkd.distill.Distiller is qkd.Distiller


TWELVE = np.arange(120) % 12
TEXT = np.array([f"c{k}" for k in range(12)])  # sorted as text: c0, c1, c10, c11, c2, ...
ROWS = np.eye(12)[TWELVE]


@pytest.mark.parametrize(
    ("fitted_to", "labels"),
    [
        (TWELVE, TEXT[TWELVE]),
        (TWELVE, TWELVE + 1),
        (TWELVE % 11, TWELVE),
        (TEXT[TWELVE], TWELVE),
    ],
)
@pytest.mark.parametrize("form", [lambda t: t, qkd.Teacher, lambda t: {"tree": t}])
def test_columns_of_a_teacher_are_the_classes_of_the_labels(
    fitted_to: Any, labels: Any, form: Any
) -> None:
    teacher = form(RandomForestClassifier(5, random_state=0).fit(ROWS, fitted_to))
    with pytest.raises(DistillError, match="a fitted teacher knows the classes of the labels; got"):
        qkd.distill(teacher, "linear", (ROWS, labels), epochs=1)


@pytest.mark.parametrize(
    "labels",
    [
        TWELVE,
        TEXT[TWELVE],
        TWELVE.astype(object),
        TEXT[TWELVE].astype(object),
        TWELVE.astype(np.uint8),
        TWELVE.astype(float).tolist(),
        TEXT[TWELVE].astype("S3"),
        np.datetime64("2026-01-01") + TWELVE,
    ],
)
def test_labels_of_any_kind_come_back(labels: Any) -> None:
    shown = np.asarray(labels)
    shown = np.char.decode(shown) if shown.dtype.kind == "S" else shown
    teacher = None if shown.dtype.kind == "M" else RandomForestClassifier(20, random_state=0)
    if teacher is not None:  # fitted to plain ones, it takes no dates
        plain = shown.astype(int) if shown.dtype.kind in "Oui" and shown[0] == 0 else shown
        teacher.fit(ROWS, plain.astype(str) if plain.dtype.kind == "O" else plain)
    found = qkd.distill(teacher, "linear", (ROWS, labels), epochs=60, learning_rate=0.1, test=0)
    right = found.predict(ROWS).astype(str) == shown.astype(str)
    assert right.all()
    assert [str(one) for one in found.classes] == [str(one) for one in np.unique(shown)]


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.where(Y == 1, np.nan, Y), r"every sample has a label; got \d+ that are not finite"),
        ([None, *Y[1:].tolist()], "labels are of one kind; got NoneType, int"),
        (["a", *Y[1:].tolist()], "labels are of one kind; got int, str; expected numbers, or"),
        (Y + 0j, "labels are numbers or text; got complex128"),
    ],
)
def test_labels_that_are_none(labels: Any, text: str) -> None:
    given = np.array(labels, dtype=object if isinstance(labels, list) else None)
    with pytest.raises(DataError, match=text):
        qkd.distill(None, "linear", (X, given), epochs=1)


@pytest.mark.parametrize("student", ["fully_quantum", "hybrid"])
def test_a_primitive_runs_a_student_by_name(student: str) -> None:
    sampler = StatevectorSampler(seed=1)
    found = qkd.distill(None, student, (X[:24], Y[:24]), backend=sampler, epochs=1)
    assert found.student.facts["backend"] == "StatevectorSampler"


def test_shots_smooth_a_module_as_they_smooth_a_name() -> None:
    few = qkd.load_backend("exact_shots").changed("few", {"shots": 30})
    module = qkd.students["fully_quantum"](X.shape[1], 3, seed=0)
    one = qkd.distill(None, module, (X[:30], Y[:30]), backend=few, epochs=1)
    two = qkd.distill(None, "fully_quantum", (X[:30], Y[:30]), backend=few, epochs=1)
    assert one.student.smoothing == two.student.smoothing == 0.5 / 30
    own = qkd.students["fully_quantum"](X.shape[1], 3, seed=0, smoothing=0.2)
    assert qkd.distill(None, own, (X[:30], Y[:30]), backend=few, epochs=1).student.smoothing == 0.2


@pytest.mark.filterwarnings("ignore:.*weights cannot move the readout")
def test_images_and_a_student_by_name(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((60, 1, 2, 2))
    labels = (images[:, 0, 0, 0] > 0.5).astype(int)
    seen: list[tuple[int, ...]] = []
    teacher = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten())
    teacher[0].register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape[1:])))
    found = qkd.distill(teacher, "fully_quantum", (images, labels), transfer=images[:5], epochs=1)
    assert set(seen) == {(1, 2, 2)}
    assert len(found.predict(images)) == 60
    assert (found.export(tmp_path / "left") / "bound.qpy").is_file()
    with pytest.raises(DataError, match=r"the shape of those that the student learned from; got"):
        found.predict(images[:, :, :1])


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    first = linear()
    tied = nn.Sequential(first, nn.Linear(3, 3), nn.Linear(3, 3))
    tied[2].weight = tied[1].weight
    found = qkd.distill(None, tied, (X, Y), epochs=1)
    assert (found.save(tmp_path / "tied") / "student.safetensors").is_file()
    with pytest.raises(StorageError, match="size mismatch for "):
        qkd.distill.Distilled.load(
            qkd.distill(None, linear(), (X, Y), epochs=1).save(tmp_path / "one"), linear(classes=4)
        )


def test_a_frame_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"a frame is one of pandas; got .* take History\.curves"):
        qkd.distill(None, linear(), (X, Y), epochs=1).history.to_frame()
