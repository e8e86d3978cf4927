# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from qiskit_kd.experiment import doctor
from qiskit_kd.experiment.doctor import examine
from tests.data import synthetic


def test_shows_where_image_files_would_be_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.nowhere(monkeypatch, tmp_path)
    files = synthetic.idx_files(train=1, test=1)
    synthetic.publish(monkeypatch, files)
    found = examine()["data"]
    assert found["Fashion-MNIST"] == "not found; apt-get install dataset-fashion-mnist"
    assert found["MNIST"] == found["CIFAR-10"] == "not found; download: true"
    folder = synthetic.put(files, tmp_path / "data" / "FashionMNIST" / "raw")
    monkeypatch.setenv("QKD_DATA", str(tmp_path / "data"))
    assert examine()["data"]["Fashion-MNIST"] == str(folder)


def test_shows_devices_and_their_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "backends.yaml"
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(path))
    path.write_text(
        "schema: 1\nbackends:\n  exact: {kind: exact}\n  here: {kind: runtime, device: aer}\n"
        "  paid: {kind: runtime, device: ibm_fez, budget_seconds: 60}\n"
        "  ibm: {kind: runtime, device: least_busy}\n"
    )
    found = examine()["backends"]
    assert found == {
        "file": str(path), "names": "exact, here, paid, ibm",
        "devices": "here (aer, free), paid (ibm_fez, at most 60 s), "
        "ibm (least_busy, no budget_seconds: nothing is sent)",
    }  # fmt: skip
    path.write_text("schema: 1\nbackends:\n  exact: {kind: exact}\n")
    assert examine()["backends"]["devices"] == "none"
    path.write_text("schema: 2")
    assert set(examine()["backends"]) == {"problem"}


def test_wrong_parameter_expressions_of_qiskit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine()["Qiskit"] == {"parameter expressions": "right"}
    monkeypatch.setattr(doctor, "_angles", lambda: (49.0, 1.91))  # as Qiskit 2.5.1
    found = examine()["Qiskit"]["problem"]
    assert "at (3, 4) is 49, d cos(a)**2 / da at 0.3 is 1.91; pip install" in found
