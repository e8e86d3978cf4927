# SPDX-License-Identifier: Apache-2.0
"""Students are drawn and priced from the configuration alone."""

from __future__ import annotations

from typing import Any

import pytest

from qiskit_kd.circuits import (
    CircuitModel,
    ClassGroups,
    DeadWeightsWarning,
    hardware_efficient,
    reuploading,
)
from qiskit_kd.report.document import Facts, Pictures
from qiskit_kd.report.frame import Frame
from qiskit_kd.report.grid import split_of
from qiskit_kd.report.sections.circuits import _drawings, circuits, drawable, portraits

from .fake_result import FakeResult

CONFIG: dict[str, Any] = {
    "data": {"kind": "digits", "options": {"classes": [3, 5, 8]}},
    "students": {
        "linear": {"kind": "linear"},
        "hybrid": {"kind": "hybrid"},
        "sharp": {"kind": "fully_quantum", "options": {"sharpness": "learnable"}},
    },
    "seeds": [0],
}


def test_counts_of_the_published_students() -> None:
    split = split_of(CONFIG)
    linear, hybrid, sharp = portraits(CONFIG, split)
    assert linear.drawing is None
    assert not linear.cost
    assert linear.facts["parameters"] == 195
    assert hybrid.cost["weights"] == 68
    assert hybrid.cost["dead weights"] == 0
    assert (sharp.cost["qubits"], sharp.cost["weights"]) == (6, 74)
    assert sharp.cost["ansatz: two-qubit gates"] == 20
    assert sharp.facts["parameters"] == 75


def test_dead_weights_are_counted() -> None:
    student = {"kind": "hybrid", "options": {"ansatz": "strongly_entangling", "layers": 1}}
    config = CONFIG | {"students": {"h": student}}
    with pytest.warns(DeadWeightsWarning):  # said when the student is built
        (portrait,) = portraits(config, split_of(config))
    assert portrait.cost["dead weights"] > 0


def test_the_encoding_is_one_box_and_repeats_when_uploaded_again() -> None:
    encoding = reuploading(2, 3)
    model = CircuitModel(encoding, hardware_efficient(2, 1), ClassGroups(2, 2))
    circuit = drawable(model)
    boxes = [item for item in circuit.data if "encoding" in item.operation.name]
    assert len(boxes) == encoding.layers
    assert circuit.num_parameters == model.num_weights


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"data": {"kind": "nobody_has_this"}, "seeds": [0]},
        {"data": {"kind": "digits", "options": {"classes": [3]}}, "seeds": [0]},
    ],
)
def test_no_data_no_portraits(broken: dict[str, Any]) -> None:
    split = split_of(broken)
    assert split is None
    assert portraits(broken, split) == []


def test_a_student_that_is_not_installed_here_costs_the_drawings_only() -> None:
    config = {**CONFIG, "students": {"x": {"kind": "nobody_has_this"}}}
    assert portraits(config, split_of(config)) == []


def test_image_students_and_quantum_teachers_have_their_portraits() -> None:
    config = {
        "data": {"kind": "digits", "options": {"classes": [3, 5, 8]}},
        "students": {"classical": {"kind": "convolution"}}, "seeds": [0],
        "teachers": {"soft": {"kind": "convolution"}, "hybrid": {"kind": "quanvolution"}},
    }  # fmt: skip
    classical, hybrid = portraits(config, split_of(config))
    assert (classical.student, classical.drawing) == ("classical", None)
    assert hybrid.student == "teacher:hybrid"
    assert [hybrid.cost[key] for key in ("qubits", "weights", "dead weights")] == [4, 11, 0]


def test_data_that_axes_change_is_that_of_their_last_values() -> None:
    axes = {"k": {"key": "data.options.train", "values": [30, 60]}}
    data = {"kind": "digits", "options": {"classes": [3, 5, 8], "train": 30}}
    split = split_of({"data": data, "axes": axes, "seeds": [0]})
    assert len(split.train.labels) == 60


def test_students_that_an_axis_changes_sit_once_per_value() -> None:
    axes = {
        "encoding": {
            "title": "encoding",
            "values": {
                "amplitude": {"students.sharp.options.encoding": "amplitude"},
                "angle": {
                    "students.sharp.options": {"encoding": "angle", "num_qubits": 6},
                    "data.options.components": 6,
                },
            },
        },
        "scale": {"key": "backends.device.scale", "values": [0, 1]},
    }
    students = {"sharp": CONFIG["students"]["sharp"]}
    config = {**CONFIG, "students": students, "axes": axes}
    split = split_of(config)
    assert split.num_features == 6
    first, second = portraits(config, split)
    assert (first.where, second.where) == ("encoding: amplitude", "encoding: angle")
    assert (first.facts["encoding"], second.facts["encoding"]) == ("amplitude", "angle")
    assert first.cost["encoding: two-qubit gates"] > second.cost["encoding: two-qubit gates"] == 0
    assert first.cost["weights"] == second.cost["weights"] == 74
    # One drawing and one list of traits for both: only the encoding differs.
    row = {"student": "sharp", "variant": "plain", "seed": 0, "test": {}, "parameters": 75}
    found = circuits(Frame(FakeResult(rows=[row], config=config)))
    _, _, drawings, traits = found.blocks
    assert isinstance(drawings, Pictures)
    (drawing,) = drawings.items
    assert drawing.caption == "sharp: 6 qubits, 74 weights; the encoding is amplitude or angle."
    assert isinstance(traits, Facts)
    assert traits.title == "sharp"
    assert dict(traits.items)["encoding"] == "amplitude or angle"


def test_students_that_no_axis_changes_sit_once() -> None:
    axes = {"linear": {"key": "students.linear.options", "values": [{}, {}]}}
    config = {**CONFIG, "students": {"linear": {"kind": "linear"}}, "axes": axes}
    (portrait,) = portraits(config, split_of({**config, "axes": {}}))
    assert portrait.where == ""


def test_other_circuits_keep_drawings_of_their_own() -> None:
    axes = {"layers": {"key": "students.sharp.options.layers", "values": [1, 2]}}
    config = {**CONFIG, "students": {"sharp": CONFIG["students"]["sharp"]}, "axes": axes}
    assert [
        (item.name, item.caption) for item in _drawings(portraits(config, split_of(config)))
    ] == [
        ("circuit-sharp", "sharp: 6 qubits, 23 weights."),
        ("circuit-sharp-1", "sharp: 6 qubits, 40 weights."),
    ]
