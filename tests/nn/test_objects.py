# SPDX-License-Identifier: Apache-2.0
"""Wherever a name is taken the object is taken too, and wherever a number is taken numpy's is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import qpy
from torch import nn

from qiskit_kd.circuits import angle, ansatze, encodings, real_amplitudes
from qiskit_kd.distill import Distiller, Teacher, Term, adapters, losses
from qiskit_kd.errors import CircuitError, ConfigError, QiskitKDError, UnknownNameError
from qiskit_kd.nn import students

pytestmark = pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")

BASE = {"num_features": 4, "num_classes": 2, "seed": 0}
QUANTUM = ("hybrid", "fully_quantum", "separable", "quanvolution")
IMAGES = {"quanvolution": {"shape": (1, 2, 2)}, "convolution": {"shape": (1, 2, 2)}}
X = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) + 0.1


def built(kind: str, **options: Any) -> nn.Module:
    return students[kind](**{**BASE, **IMAGES.get(kind, {}), **options})


def same(a: nn.Module, b: nn.Module) -> None:
    with torch.no_grad():
        torch.testing.assert_close(a(X), b(X))
    fa, fb = getattr(a, "facts", {}), getattr(b, "facts", {})
    assert {k: v for k, v in fa.items() if k != "ansatz"} == {
        k: v for k, v in fb.items() if k != "ansatz"
    }


# One `CircuitSpec` reads all parts, so every kind is tried with one of them and one with all.
EACH_ENCODING = [("hybrid", name) for name in encodings] + [(kind, "angle") for kind in QUANTUM[1:]]
EACH_ANSATZ = [("hybrid", name) for name in ansatze] + [
    (kind, "hardware_efficient") for kind in ("fully_quantum", "quanvolution")
]


@pytest.mark.parametrize(("kind", "name"), EACH_ENCODING)
def test_an_encoding_by_name_builder_and_object(kind: str, name: str) -> None:
    wide = {"num_qubits": 2} if name.startswith("amplitude") and kind != "quanvolution" else {}
    named = built(kind, encoding=name, **wide)
    same(named, built(kind, encoding=encodings[name], **wide))
    model = (named.circuit or named.filters).model  # type: ignore[union-attr, operator]
    given = built(kind, encoding=model.encoding)
    with torch.no_grad():
        torch.testing.assert_close(named(X), given(X))
    assert given.facts["encoding"] == name  # type: ignore[index]


@pytest.mark.parametrize(("kind", "name"), EACH_ANSATZ)
def test_an_ansatz_by_name_builder_object_and_file(kind: str, name: str, tmp_path: Path) -> None:
    options = {"layers": 2, "encoding": angle(4)}
    if name == "product":
        options["ansatz_options"] = {"num_weights": 8}
    named = built(kind, ansatz=name, **options)
    same(named, built(kind, ansatz=ansatze[name], **options))
    extra = options.pop("ansatz_options", {})
    if name == "hardware_efficient" and kind == "fully_quantum":
        extra = {"final_ry": True}
    circuit = ansatze[name](4, 2, **extra)
    given = built(kind, ansatz=circuit, **options)
    with torch.no_grad():
        torch.testing.assert_close(named(X), given(X))
    with (tmp_path / "mine.qpy").open("wb") as file:
        qpy.dump(circuit, file)
    for path in (tmp_path / "mine.qpy", str(tmp_path / "mine.qpy")):
        read = built(kind, ansatz=path, **options)
        with torch.no_grad():
            torch.testing.assert_close(read(X), given(X))
        assert read.facts["ansatz"] == "mine.qpy"  # type: ignore[index]


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CircuitError, match=r"takes 3 features on 3 qubits; got num_features=4"):
        built("hybrid", encoding=angle(3))
    with pytest.raises(CircuitError, match=r"num_qubits=3.*Leave num_qubits"):
        built("hybrid", encoding=angle(4), num_qubits=3)
    with pytest.raises(CircuitError, match=r"encoding_options=\{'scale': 2\}"):
        built("hybrid", encoding=angle(4), encoding_options={"scale": 2})
    with pytest.raises(ConfigError, match=r"a circuit has no options; got ansatz_options="):
        built("hybrid", ansatz=real_amplitudes(2, 1), ansatz_options={"a": 1})
    for wrong in (3, None, [1], b"amplitude"):
        with pytest.raises(UnknownNameError, match="unknown encoding"):
            built("hybrid", encoding=wrong)
        with pytest.raises(UnknownNameError, match="unknown ansatz"):
            built("hybrid", ansatz=wrong)
    with pytest.raises(QiskitKDError, match=r"cannot be read; got none\.qpy"):
        built("hybrid", ansatz="none.qpy")


@pytest.mark.parametrize("name", losses)
def test_a_loss_by_name_object_and_function(name: str) -> None:
    terms = [Term(name), Term(losses[name]), Term(losses[name].function)]
    assert len({term.loss for term in terms}) == 1
    assert terms[0].describe() == terms[1].describe() == terms[2].describe()


@pytest.mark.parametrize("name", adapters)
def test_an_adapter_by_name_builder_and_module(name: str) -> None:
    data = students["convolution"](16, 2, seed=1, shape=(1, 4, 4))
    x, y = torch.rand(12, 16, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 2

    def trained(adapter: Any) -> torch.Tensor:
        student = students["convolution"](16, 2, seed=0, shape=(1, 4, 4), filters=2)
        term = Term("feature_mse", layers=("filters", "filters"), adapter=adapter)
        distiller = Distiller(student, [Term("ce"), term], teacher=Teacher(data), epochs=2)
        distiller.fit((x, y), (x, y))
        return student.filters.weight.detach()

    assert torch.equal(trained(name), trained(adapters[name]))
    assert Term("feature_mse", adapter=adapters[name]).describe()["adapter"] == name
    assert Term("feature_mse", adapter=nn.Linear(2, 2)).adapter is not None


NUMBERS = {
    "linear": ["num_features", "num_classes", "seed"],
    "mlp": ["num_features", "num_classes", "seed"],
    "equal_size": ["budget", "num_classes", "seed"],
    "classical_control": ["budget", "num_features", "num_classes", "seed"],
    "hybrid": ["num_features", "num_classes", "layers", "num_qubits", "seed"],
    "hybrid_mlp": ["num_features", "num_classes", "layers", "num_qubits", "seed"],
    "fully_quantum": ["num_features", "num_classes", "layers", "num_qubits", "seed"],
    "separable": ["num_features", "num_classes", "layers", "num_qubits", "seed"],
    "convolution": ["filters", "kernel_size", "stride", "padding", "num_classes", "seed"],
    "quanvolution": ["filters", "kernel_size", "stride", "padding", "layers", "seed"],
}
VALUES = {
    "num_features": 4, "num_classes": 2, "seed": 0, "budget": 20, "layers": 2, "num_qubits": 2,
    "filters": 2, "kernel_size": 2, "stride": 1, "padding": 1,
}  # fmt: skip


@pytest.mark.parametrize("kind", students)
@pytest.mark.parametrize("form", [np.uint8, torch.tensor])
def test_every_whole_number_of_a_student_may_be_numpys(kind: str, form: Any) -> None:
    names = NUMBERS[kind]
    plain = {name: VALUES[name] for name in names}
    expected, found = built(kind, **plain), built(kind, **{k: form(v) for k, v in plain.items()})
    same(expected, found)
    assert repr(expected.facts) == repr(found.facts)
    for name in names:
        for wrong in (True, 2.0, "2", None if name not in ("num_qubits", "seed") else -1):
            with pytest.raises(QiskitKDError):
                built(kind, **{**plain, name: wrong})
