# SPDX-License-Identifier: Apache-2.0
"""`DistilledClassifier` keeps scikit-learn's contract, and does what `distill` does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import qiskit_kd as qkd
from qiskit_kd import DistilledClassifier
from qiskit_kd.errors import DataError, DistillError

IRIS = load_iris()
X = MinMaxScaler().fit_transform(IRIS.data)
Y = IRIS.target_names[IRIS.target]
Quick = partial(DistilledClassifier, epochs=3, learning_rate=0.1)


@dataclass(frozen=True)  # whose repr, unlike a function's, is the same in every process
class Circuit:
    """Makes a student of one qubit for each feature, whatever their number."""

    double: bool = False

    def __call__(self, features: int, classes: int, *, seed: int, **_: Any) -> Any:
        ansatz = qkd.circuits.hardware_efficient(features, 2, final_ry=True)
        groups = qkd.ClassGroups(classes, features)
        model = qkd.CircuitModel(qkd.circuits.angle(features), ansatz, groups)
        return qkd.QuantumLayer(model, seed=seed, dtype=torch.float64) if self.double else model


circuit, MODEL = Circuit(), Circuit()(4, 3, seed=0)


def forest(**options: Any) -> RandomForestClassifier:
    return RandomForestClassifier(5, **options)


LEARNS = partial(DistilledClassifier, learning_rate=0.1)
AMPLITUDES = {
    "check_classifiers_train": "amplitudes keep neither length nor sign, by which classes differ",
    "check_estimators_dtypes": "a row of zeros is no amplitudes",
    "check_methods_subset_invariance": "a circuit in single precision rounds by the batch, to 1e-6",
}


@parametrize_with_checks(
    [
        LEARNS("linear", forest(), epochs=10),
        LEARNS(Circuit(double=True), epochs=20),
        LEARNS("hybrid", epochs=5),
    ],
    expected_failed_checks=lambda each: AMPLITUDES if each.student == "hybrid" else {},
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_contract(estimator: DistilledClassifier, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("student", ["linear", circuit, MODEL])
def test_fits_as_distill_does(student: Any) -> None:
    teacher = forest(random_state=0).fit(X, Y)
    found = Quick(
        student, teacher, random_state=3, training=qkd.distill.Training(patience=2, epochs=9)
    ).fit(X, Y)
    options = {"epochs": 3, "learning_rate": 0.1, "patience": 2, "seed": 3}
    again = qkd.distill(teacher, student, (X, Y), test=0, **options)
    assert found.distilled_.history.curves == again.history.curves
    assert (found.predict_proba(X) == again.predict_proba(X)).all()
    assert (found.predict(X) == again.predict(X)).all()
    assert found.score(X, Y) == (again.predict(X) == Y).mean()
    assert found.classes_.tolist() == IRIS.target_names.tolist()
    assert (found.n_features_in_, found.teacher_) == (4, teacher)


def test_what_is_given_stays_as_it_is() -> None:
    student, teacher, untaught = nn.Linear(4, 3), nn.Linear(4, 3), forest()
    before = student.weight.clone()
    found = Quick(student, teacher).fit(X, Y)
    assert (student.weight == before).all()
    assert teacher.weight.requires_grad
    assert (found.predict_proba(X) == found.fit(X, Y).predict_proba(X)).all()
    other = Quick(student, untaught).fit(X, Y)
    assert not hasattr(untaught, "classes_")
    assert other.teacher_.random_state == 0
    assert not np.array_equal(other.predict_proba(X), found.predict_proba(X))


def test_random_states() -> None:
    def curves(state: Any) -> Any:
        made = Quick("linear", make_pipeline(MinMaxScaler(), forest()), random_state=state)
        return made.fit(X, Y).distilled_.history.curves

    assert curves(1) == curves(np.int64(1)) != curves(2)
    assert curves(np.random.RandomState(1)) == curves(np.random.RandomState(1))
    assert curves(None) != curves(None)


def test_transfer_samples_and_their_routing() -> None:
    plain, own = Quick("linear", forest()), Quick("linear", forest())
    taught = own.fit(X[::2], Y[::2], X_transfer=X[1::2])
    assert taught.distilled_.history.curves != plain.fit(X[::2], Y[::2]).distilled_.history.curves
    with pytest.raises(ValueError, match="3 features, but DistilledClassifier is expecting 4"):
        own.fit(X, Y, X_transfer=X[:, :3])
    with sklearn.config_context(enable_metadata_routing=True):
        own = clone(own).set_fit_request(X_transfer=True)
        pipe = make_pipeline(MinMaxScaler(), own, transform_input=["X_transfer"])
        pipe.fit(IRIS.data[::2], Y[::2], X_transfer=IRIS.data[1::2])
    assert pipe[-1].n_features_in_ == 4


def test_searched_in_a_pipeline_and_kept(tmp_path: Path) -> None:
    pipe = make_pipeline(MinMaxScaler(), Quick(teacher=forest()))
    terms = [["ce"], ["ce", qkd.Term("kl", temperature=4)]]
    students = ["linear", circuit, MODEL, nn.Linear(4, 3)]
    grid = {"distilledclassifier__loss": terms, "distilledclassifier__student": students}
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(IRIS.data, Y)
    assert search.best_score_ > 0.6
    joblib.dump(search, tmp_path / "search")
    again = joblib.load(tmp_path / "search")
    assert (again.predict_proba(IRIS.data) == search.predict_proba(IRIS.data)).all()


@pytest.mark.slow
def test_searched_by_several_processes() -> None:
    grid = {"student": [qkd.students.linear, circuit, MODEL], "learning_rate": [0.01, 0.1]}
    one, two = (
        GridSearchCV(Quick(teacher=forest()), grid, cv=2, n_jobs=jobs).fit(X, Y) for jobs in (1, 2)
    )
    assert (one.cv_results_["mean_test_score"] == two.cv_results_["mean_test_score"]).all()


def test_a_fold_fits_a_teacher_of_its_own_unless_it_is_frozen() -> None:
    teacher = forest(random_state=0).fit(X, Y)
    assert not hasattr(clone(Quick("linear", teacher)).teacher, "classes_")
    for kept in (FrozenEstimator(teacher), qkd.Teacher(teacher)):
        found = clone(Quick("linear", kept)).fit(X[::2], Y[::2])
        same = Quick("linear", teacher).fit(X[::2], Y[::2])
        assert (found.predict_proba(X) == same.predict_proba(X)).all()


def test_frames_give_names() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=IRIS.feature_names)
    found = Quick("linear").fit(frame, pandas.Series(Y))
    assert found.feature_names_in_.tolist() == IRIS.feature_names
    assert found.predict(frame).dtype == found.classes_.dtype


def test_what_cannot_be_taught_is_told() -> None:
    with pytest.raises(DistillError, match="a fitted teacher knows the classes of the labels; got"):
        Quick("linear", forest().fit(X, IRIS.target)).fit(X, Y)
    with pytest.raises(DistillError, match="a LinearSVC without predict_proba"):
        Quick("linear", LinearSVC()).fit(X, Y)
    with pytest.raises(DataError, match="every class has a training sample"):
        Quick("linear").fit(X[:4], range(4))
    with pytest.raises(DistillError, match="a student is a module, a circuit model, a name or a"):
        Quick(lambda *_, **__: None).fit(X, Y)
    with pytest.raises(
        DistillError, match="further options of training are one value; got training=3"
    ):
        Quick("linear", training=3).fit(X, Y)
    with pytest.raises(ValueError, match="continuous"):
        Quick("linear").fit(X, X[:, 0])


def test_double_precision_is_the_students_own() -> None:
    student = partial(qkd.students["linear"], dtype=torch.float64)
    found = clone(Quick(student)).fit(X, Y)
    assert next(found.distilled_.student.parameters()).dtype == torch.float64


@pytest.mark.filterwarnings("ignore:.*weights cannot move the readout")
def test_what_it_distilled_has_the_labels(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4))
    labels = np.where(x[:, 0] > 0, "yes", "no")
    found = DistilledClassifier(epochs=1).fit(x, labels)
    assert list(found.distilled_.classes) == ["no", "yes"]
    assert (found.distilled_.predict(x) == found.predict(x)).all()
    assert '"yes"' in (found.distilled_.export(tmp_path / "left") / "student.json").read_text()
