# SPDX-License-Identifier: Apache-2.0
"""Every public callable, each argument in turn replaced by wrong values: errors are ours alone."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives import StatevectorSampler
from torch import nn

import qiskit_kd
from qiskit_kd import circuits, data, distill, execution
from qiskit_kd.circuits import ansatze, encodings
from qiskit_kd.data import datasets, perturbations
from qiskit_kd.distill import adapters, losses
from qiskit_kd.errors import QiskitKDError
from qiskit_kd.nn import EngineNetwork, shots_needed, students

X = np.random.default_rng(0).normal(size=(12, 4))
Y = np.arange(12) % 2
Z = torch.tensor(np.random.default_rng(1).normal(size=(12, 3)), dtype=torch.float32)
TARGET = torch.arange(12) % 3


DIGITS = sklearn.datasets.load_digits(return_X_y=True)


class Odd:
    """Nothing that anybody expects."""


POOL: list[Any] = [
    None, True, -1, 0, 1.5, float("nan"), "x", "", b"x", [], [1], ["x"], (), {}, {"a": 1}, {1},
    Odd(), Odd, np.float64(2.5), np.array([1.0]), np.array("x"), np.array(None), 1j,
    torch.tensor([1.0]), torch.tensor(1j), print, QuantumCircuit(1), Parameter("t"), Path("x"),
    range(2), np.ma.array([1.0], mask=True), nn.Linear(2, 2), float("inf"), slice(None),
]  # fmt: skip


def model() -> Any:
    return circuits.CircuitModel(
        circuits.angle(2), circuits.real_amplitudes(2, 1), circuits.ClassGroups(2, 2)
    )


def dataset() -> data.Dataset:
    return data.Dataset(X, Y, 2, "toy")


def fitted(**options: Any) -> Any:
    parts = {"train": dataset(), "validation": dataset(), **options}
    student = students["linear"](4, 2, seed=0)
    return distill.Distiller(student, [distill.Term("ce")], epochs=1).fit(**parts)


def teacher(**options: Any) -> Any:
    return distill.Teacher.from_module(students["linear"](4, 2, seed=0), **options)


def classified(**options: Any) -> Any:
    return qiskit_kd.DistilledClassifier(**options).fit(X, Y)


CASES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Dataset": (data.Dataset, {"features": X, "labels": Y, "num_classes": 2, "name": "a",
                               "shape": (4,)}),
    "Split": (data.Split, {"train": dataset(), "validation": dataset(), "test": dataset(),
                           "transfer": X, "pool": dataset()}),
    "stratified_split": (data.stratified_split, {
        "features": X, "labels": Y, "seed": 0, "train": 4, "validation": 2, "test": 2,
        "transfer": 1, "num_classes": 2, "shape": (4,)}),
    "Distiller": (distill.Distiller, {
        "student": nn.Linear(4, 2), "terms": [distill.Term("ce")], "teacher": None,
        "optimizer": "adam", "optimizer_options": {}, "learning_rate": 0.1, "epochs": 1,
        "batch_size": 2, "patience": 1, "metric": "loss", "seed": 0, "gradient_every": 1,
        "checkpoint_dir": None, "checkpoint_epochs": 1, "checkpoint_steps": 1, "callbacks": ()}),
    "distill": (qiskit_kd.distill, {
        "teacher": None, "student": nn.Linear(4, 2), "data": (X, Y), "loss": None, "transfer": None,
        "validation": 0.2, "test": 0.2, "backend": None, "seed": 0, "epochs": 1}),
    "DistilledClassifier": (classified, {  # samples, labels, random_state: scikit-learn's errors
        "student": "linear", "teacher": None, "loss": None, "epochs": 1, "learning_rate": 0.1,
        "batch_size": 2, "validation": 0.2, "backend": None, "training": None}),
    "export": (qiskit_kd.export, {
        "student": qiskit_kd.QuantumLayer(model()), "folder": "out", "backend": None,
        "labels": None, "about": None}),
    "from_qnn": (qiskit_kd.from_qnn, {"network": qiskit_kd.QuantumLayer(model())}),
    "from_circuit": (circuits.CircuitModel.from_circuit, {
        "circuit": model().circuit, "inputs": ["input_00", "input_01"], "weights": None,
        "readout": circuits.ClassGroups(2, 2)}),
    "Backend of": (qiskit_kd.Backend.of, {"thing": StatevectorSampler(), "shots": 3}),
    "Training": (distill.Training, {"steps_per_epoch": 1}),
    "fit": (fitted, {"train": dataset(), "validation": dataset(), "transfer": X,
                     "num_classes": 2}),
    "Teacher": (distill.Teacher, {"module": nn.Linear(4, 2), "average": "logits",
                                  "cache_dir": None, "outputs": None}),
    "from_logits": (distill.Teacher.from_logits, {"samples": X, "logits": Z, "outputs": None}),
    "from_file": (distill.Teacher.from_file, {"path": "none.npz", "outputs": None}),
    "logits_for": (teacher().logits_for, {"samples": X}),
    "features_for": (teacher().features_for, {"samples": X, "layer": "output"}),
    "shuffled": (distill.shuffled, {"teacher": teacher(), "seed": 0}),
    "uniform": (distill.uniform, {"num_classes": 2}),
    "Term": (distill.Term, {"loss": "feature_mse", "weight": 1.0, "name": "a", "options": {},
                            "schedule": None, "layers": ("a", "b"), "teacher": "t",
                            "adapter": "linear"}),
    "Ramp": (distill.Ramp, {"first": 0.0, "last": 1.0, "epochs": 2}),
    "Loss": (distill.losses["kl"], {"student": Z, "teacher": Z, "target": TARGET,
                                    "temperature": 2.0, "standardise": False}),
    "QuantumLayer": (qiskit_kd.QuantumLayer, {
        "model": model(), "backend": "exact", "gradient": "auto", "shots": None, "seed": 0,
        "dtype": torch.float32}),
    "layer": (qiskit_kd.QuantumLayer(model()), {"input_data": torch.zeros(2, 2)}),
    "CircuitModel": (circuits.CircuitModel, {
        "encoding": circuits.angle(2), "ansatz": circuits.real_amplitudes(2, 1),
        "readout": circuits.ClassGroups(2, 2)}),
    "ClassGroups": (circuits.ClassGroups, {"num_classes": 2, "num_qubits": 2,
                                           "scheme": "modulo"}),
    "Observables": (circuits.Observables, {"operators": ["ZZ"]}),
    "Encoding": (circuits.Encoding, {
        "name": "a", "circuit": circuits.angle(2).circuit, "num_features": 2,
        "angle_map": lambda x: x}),
    "load_ansatz": (circuits.load_ansatz, {"path": "none.qpy"}),
    "load_backend": (qiskit_kd.load_backend, {"name": "exact"}),
    "list_backends": (qiskit_kd.list_backends, {}),
    "Study": (qiskit_kd.Study.load, {"experiment": "c2q-digits", "preset": "quick", "seeds": 2,
                                     "overrides": ()}),
    "engine": (qiskit_kd.load_backend("exact").engine, {"gradient": "auto", "shots": None,
                                                        "seed": 0}),
    **{f"{name} outputs": (qiskit_kd.load_backend(name).engine().outputs, {
        "model": model(), "features": X[:2, :2], "weights": X[0]})
       for name in ("exact", "noisy", "aer", "exact_shots")},
    "changed": (qiskit_kd.load_backend("exact").changed, {"name": "a", "settings": {"shots": 3}}),
    "run": (qiskit_kd.load_backend("exact").sampler().run, {"pubs": [model().ansatz], "shots": 3}),
    "input_parameters": (circuits.input_parameters, {"count": 2, "start": 0}),
    "weight_parameters": (circuits.weight_parameters, {"count": 2, "start": 0}),
    "dead_weights": (circuits.dead_weights, {"model": model()}),
    "effective_weights": (execution.effective_weights, {"model": model(), "features": X[:, :2]}),
    "EngineNetwork": (EngineNetwork, {"model": model(), "engine": execution.ExactEngine()}),
    "shots_needed": (shots_needed, {
        "student": students["fully_quantum"](4, 3, seed=0), "features": X}),
    **{f"metric {m.__name__}": (m, {"logits": Z, "labels": TARGET})
       for m in (distill.metrics.accuracy, distill.metrics.macro_f1, distill.metrics.nll,
                 distill.metrics.ece)},
    "metric kl": (distill.metrics.kl, {"teacher": Z, "logits": Z}),
    **{f"encoding {name}": (encodings[name], {"num_qubits": 2}) for name in encodings},
    **{f"ansatz {name}": (ansatze[name], {"num_qubits": 2, "layers": 1}) for name in ansatze},
    **{f"loss {name}": (losses[name], {"student": Z, "teacher": Z, "target": TARGET})
       for name in losses},
    **{f"adapter {name}": (adapters[name], {"student_shape": (2, 4), "teacher_shape": (3, 4),
                                            "seed": 0, "dtype": torch.float32})
       for name in adapters},
    **{f"perturbation {name}": (perturbations[name], {"features": X, "level": 1.0,
                                                      "shape": (1, 2, 2), "seed": 0})
       for name in perturbations},
    "data arrays": (datasets["arrays"], {"features": X, "labels": Y, "seed": 0}),
    "data npz": (datasets["npz"], {"path": "none.npz", "seed": 0}),
    "data digits": (datasets["digits"], {"seed": 0, "train": 20, "classes": [3, 5],
                                         "order": "row", "components": 4}),
    "data extended_xor": (datasets["extended_xor"], {
        "seed": 0, "train": 6, "validation": 6, "test": 6, "transfer": 3, "extra": 3,
        "num_features": 8, "pairs": 2, "copies": 1, "amplitude": 1.0, "noise": 0.1, "jitter": 0.1,
        "layout": 0}),
    "data mnist": (datasets["mnist"], {"seed": 0, "train": 20, "classes": [1, 2],
                                       "root": "/nowhere"}),
}  # fmt: skip

_STUDENT = {"num_features": 4, "num_classes": 2, "seed": 0, "backend": "exact"}
_OWN = {
    "shape": (1, 2, 2), "layers": 1, "kernel_size": 2, "stride": 1, "budget": 20,
    "ansatz": "real_amplitudes", "encoding": "angle", "hidden": (3,),
}  # fmt: skip
for _name in students:
    _known = inspect.signature(students[_name]).parameters
    _options = {key: p.default for key, p in _known.items() if p.default is not p.empty}
    _own = {key: value for key, value in _OWN.items() if key in _known}
    CASES[f"student {_name}"] = students[_name], {**_options, **_STUDENT, **_own}


def _options_of(call: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """What is given, and every option with its default."""
    try:
        known = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return given
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {p.name: p.default for p in known
            if p.kind in kinds and p.default is not p.empty} | given  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_wrong_values_end_in_errors_of_this_package(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if case == "data digits":  # reading the file anew takes longer than all the rest
        monkeypatch.setattr(sklearn.datasets, "load_digits", lambda **_: DIGITS)
    call, given = CASES[case]
    every = _options_of(call, given)
    raw = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in every:
            for value in POOL:
                if name in ("download",):
                    continue
                try:
                    call(**{**given, name: value})
                except QiskitKDError:
                    pass
                except Exception as error:
                    raw.append(f"{name}={value!r}: {type(error).__name__}: {error}"[:200])
    assert not raw, f"{len(raw)} raw errors:\n" + "\n".join(raw[:40])


def test_every_public_callable_is_tried() -> None:
    tried = {case.split()[-1] for case in CASES}
    values = {name: getattr(qiskit_kd, name) for name in qiskit_kd.__all__}
    public = {name for name, v in values.items() if callable(v) and not isinstance(v, type)}
    public |= {name for name, v in values.items() if isinstance(v, type)}
    public -= {"Backend"}  # made by `load_backend` alone
    assert public <= tried
    for table in (students, losses, adapters, encodings, ansatze, perturbations):
        assert set(table) <= tried
