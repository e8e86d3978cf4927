# SPDX-License-Identifier: Apache-2.0
"""Backends side by side and circuits on devices: every number of the tables, every sentence."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qiskit_kd.report.beside import agreement, beside, compiled, shot_noise

from .fake_axes import make as without_noise
from .fake_noise import FakeStudy, grid, make

RESULT = make()


def changed(part: str, change: Any) -> FakeStudy:
    rows = copy.deepcopy(RESULT.rows)
    for row in rows:
        for entry in row.get(part) or ():
            change(entry, row)
    return replace(RESULT, rows=rows)


def test_a_cell_per_backend() -> None:
    table = beside(RESULT, grid(RESULT), "hybrid")
    assert table is not None
    assert table["student"] == "hybrid"
    assert table["columns"] == [
        {"name": "exact", "what": "exact, probabilities"},
        {"name": "aer", "what": "aer, probabilities"},
        {"name": "device", "what": "noisy, probabilities"},
        {"name": "aer device", "what": "noisy, 4,096 shots"},
    ]
    assert (table["seeds"], table["samples"]) == ("0", "48")
    assert len(table["lines"]) == 8  # 2 devices, 2 encodings, 2 variants, at the scale that asks
    first = table["lines"][0]
    assert first["where"] == "noise scale = 1, device: torino, encoding: amplitude"
    assert first["variant"] == "noise free"
    row = next(r for r in RESULT.rows if r["student"] == "hybrid" and "backends" in r)
    for cell, entry in zip(first["cells"], row["backends"], strict=True):
        assert cell["accuracy"] == f"{100 * entry['accuracy']:.1f}"
        assert cell["kl"] == f"{entry['kl']:.3f}"
    assert [cell["distance"] for cell in first["cells"]] == ["0.080", "0.080", "0", "0.009"]


def test_a_backend_that_some_lack_and_no_teacher() -> None:
    def without(entry: dict[str, Any], row: dict[str, Any]) -> None:
        entry.pop("kl")
        entry.pop("samples")
        if row["variant"] == "noisy":
            row["backends"] = [e for e in row["backends"] if e["backend"] != "aer"]

    table = beside(changed("backends", without), grid(RESULT), "hybrid")
    assert table is not None
    noisy = next(line for line in table["lines"] if line["variant"] == "noisy")
    assert noisy["cells"][1] == {"accuracy": "", "kl": "", "distance": ""}
    assert noisy["cells"][0]["kl"] == ""
    assert table["samples"] == "all"


def test_nothing_asked_for_nothing_shown() -> None:
    quiet = without_noise(seeds=1, train=(50,), sees=(), maps=False, robust=False)
    assert beside(quiet, grid(quiet), "convolution") is None
    assert agreement(quiet) == []
    assert compiled(quiet, grid(quiet)) is None
    assert shot_noise(quiet, 3) == ""
    assert shot_noise(RESULT, 0) == ""


def test_sentences_of_agreement() -> None:
    distances, alike = agreement(RESULT)
    assert distances == (
        "Mean total variation distance of class distributions from those the student was judged "
        "by, over 28 networks: “exact” 0.080 (at most 0.080), “aer” 0.080 (at most 0.080), "
        "“device” 0 (at most 0) and “aer device” 0.009 (at most 0.009). That of “aer device” "
        "(4,096 shots) holds the noise of its shots."
    )
    assert alike == (
        "“exact” and “aer” answer alike: every accuracy is the same, and KL differs by 1e-7 nats "
        "at most."
    )


def test_simulators_that_differ_are_not_said_to_agree() -> None:
    def off(entry: dict[str, Any], row: dict[str, Any]) -> None:
        if entry["backend"] == "aer" and row["student"] == "sharp":
            entry["kl"] += 0.01

    assert len(agreement(changed("backends", off))) == 1

    def partly(entry: dict[str, Any], row: dict[str, Any]) -> None:
        row["backends"] = [e for e in row["backends"] if e["backend"] != "aer"]
        if row["student"] == "sharp":
            row["backends"] += [{**row["backends"][0], "backend": "aer"}]

    assert len(agreement(changed("backends", partly))) == 1


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_shots_move_probabilities_by_no_more_than_is_said(classes: int) -> None:
    bound = 0.5 * np.sqrt((classes - 1) / 4096)
    assert f"at most {bound:.3f} with 4,096 shots" in shot_noise(RESULT, classes)
    rng = np.random.default_rng(5)
    for concentration in (0.2, 1.0, 50.0):
        p = rng.dirichlet(np.full(classes, concentration))
        drawn = rng.multinomial(4096, p, size=2000) / 4096
        assert np.abs(drawn - p).sum(axis=1).mean() / 2 <= bound * 1.01


def test_every_distinct_circuit_once() -> None:
    table = compiled(RESULT, grid(RESULT))
    assert table is not None
    assert table["heads"] == [
        "device", "encoding", "student", "qubits", "two-qubit gates", "two-qubit depth", "gates",
        "depth", "duration, µs",
    ]  # fmt: skip
    assert table["lines"] == [
        ["fake torino", "amplitude", "sharp, hybrid", "6", "190", "181", "950", "570", "19.00"],
        ["fake torino", "angle", "sharp, hybrid", "6", "40", "31", "200", "120", "4.00"],
        ["fake marrakesh", "amplitude", "sharp, hybrid", "6", "230", "221", "1,150", "690",
         "23.00"],
        ["fake marrakesh", "angle", "sharp, hybrid", "6", "80", "71", "400", "240", "8.00"],
    ]  # fmt: skip
    assert table["words"] == 3


def test_students_with_other_circuits_and_unknown_durations() -> None:
    def other(entry: dict[str, Any], row: dict[str, Any]) -> None:
        if row["student"] == "hybrid":
            entry |= {"seconds": None, "gates": 1}

    table = compiled(changed("circuits", other), grid(RESULT))
    assert table is not None
    assert len(table["lines"]) == 8
    assert {line[2] for line in table["lines"]} == {"sharp", "hybrid"}
    assert {line[-1] for line in table["lines"] if line[2] == "hybrid"} == {""}


def test_an_axis_that_tells_more_than_the_device_has_a_column() -> None:
    def scaled(entry: dict[str, Any], row: dict[str, Any]) -> None:
        entry["gates"] += int(row["point"]["scale"])

    table = compiled(changed("circuits", scaled), grid(RESULT))
    assert table is not None
    assert table["heads"][1:3] == ["noise scale", "encoding"]
    rows = [{**row, "point": {}} for row in RESULT.rows if row["point"]["scale"] == 1]
    flat = compiled(replace(RESULT, rows=rows), None)
    assert flat is not None
    assert flat["heads"][:2] == ["device", "student"]
