# SPDX-License-Identifier: Apache-2.0
"""`qkd export RUN`: the best student of a study, with the weights of its row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import qiskit_kd as qkd
from qiskit_kd.cli import app
from qiskit_kd.errors import ConfigError, StorageError
from qiskit_kd.experiment.runner import student_file
from qiskit_kd.experiment.store import Store
from qiskit_kd.experiment.task import split_of, trained_network
from qiskit_kd.interop import export_study

STUDY = """
name: leaves
data: {kind: digits, options: {classes: [3, 5], train: 20, validation: 20, test: 20}}
seeds: 1
students:
  quantum: {kind: fully_quantum, options: {sharpness: learnable}}
  small: {kind: linear}
variants: {plain: {terms: [{loss: ce}]}}
training: {epochs: 2, batch_size: 10, learning_rate: 0.05, dtype: float64}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    file = folder / "study.yaml"
    file.write_text(STUDY)
    with pytest.warns(UserWarning, match="cannot move the readout"):
        qkd.Study.load(str(file)).run(folder / "run", workers=1)
    return folder / "run"


@pytest.mark.slow
def test_the_best_row_leaves_with_labels_and_card(run: Path, tmp_path: Path) -> None:
    out = CliRunner().invoke(app, ["export", str(run), "--to", str(tmp_path), "--json"])
    assert out.exit_code == 0, out.output
    found = json.loads(out.stdout)
    assert (found["student"], found["variant"], found["seed"]) == ("quantum", "plain", 0)
    facts = json.loads((tmp_path / "student.json").read_text())
    assert facts["labels"] == [3, 5]
    card = (tmp_path / "README.md").read_text()
    assert f"| test accuracy | {found['test']['accuracy']:.4f} |" in card
    assert "one row is no verdict" in card
    said = CliRunner().invoke(app, ["export", str(run), "--to", str(tmp_path / "b"), "--seed", "0"])
    assert "student quantum, variant plain, seed 0" in said.stdout


def test_kept_weights_give_the_row(run: Path) -> None:
    store = Store(run)
    rows, specs = store.rows("student"), store.specs()
    store.close()
    assert len(rows) == 2
    for key, row in rows.items():
        network = trained_network(specs[key], student_file(run, key).read_bytes())
        test = split_of(specs[key]).test
        logits = qkd.distill.Distilled(network, None, np.arange(2))._logits(test.features)
        assert (logits.argmax(1) == test.labels).mean() == row["test"]["accuracy"]


def test_errors(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has a finished row; got student any, variant shuffled"):
        export_study(run, tmp_path, variant="shuffled")
    with pytest.raises(ConfigError, match="one circuit with its readout; got ClassicalStudent"):
        export_study(run, tmp_path, student="small")
    with pytest.raises(StorageError):
        export_study(tmp_path, tmp_path)
    for file in (run / "students").iterdir():
        file.unlink()
    with pytest.raises(StorageError, match="weights of a row are kept beside it; got no "):
        export_study(run, tmp_path)


def test_a_student_of_shots_leaves_with_their_smoothing(tmp_path: Path) -> None:
    file = tmp_path / "shots.yaml"
    file.write_text(STUDY + "backend: exact_shots\n")
    with pytest.warns(UserWarning, match="cannot move the readout"):
        qkd.Study.load(str(file)).run(tmp_path / "run", workers=1)
    export_study(tmp_path / "run", tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "student.json").read_text())
    assert facts["smoothing"] == 0.5 / qkd.load_backend("exact_shots").shots
