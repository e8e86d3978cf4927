# SPDX-License-Identifier: Apache-2.0
"""Bad input of studies under noise: one clear error each, before anything is trained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from noisy_study import BACKENDS, RATES, STUDY
from typer.testing import CliRunner

from qiskit_kd import cli
from qiskit_kd.distill.distiller import Distiller
from qiskit_kd.execution.noise_sources import fake_device
from qiskit_kd.execution.snapshots import save_snapshot
from qiskit_kd.experiment import study as study_module


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QISKIT_KD_BACKENDS", raising=False)
    Path("backends.yaml").write_text(BACKENDS)
    Path("noisy.yaml").write_text(STUDY)
    monkeypatch.setattr(Distiller, "fit", lambda *_, **__: pytest.fail("something was trained"))
    monkeypatch.setattr(study_module, "run", lambda *_, **__: pytest.fail("tasks were started"))


def refused(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["run", "noisy.yaml", *words])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert not Path("runs").exists()
    assert done.stderr.startswith("qkd: error: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def add(line: str) -> None:
    """Another entry of the backend file."""
    Path("backends.yaml").write_text(f"{BACKENDS}  {line}\n")


def test_an_unknown_device() -> None:
    add("mine: {kind: noisy, noise: {device: fake_lagoss}}")
    for words in (["evaluation.backend=mine"], ["variants.noisy.backend=mine"],
                  ["backends.device.noise={device: fake_lagoss, rates: null}"]):  # fmt: skip
        text = refused(*words)
        assert text.startswith("qkd: error: networks that cannot be built:\n  students.quantum: ")
        assert "'fake_lagoss'" in text
        assert re.search(r"\bfake_lagos\b", text)  # the nearest
        assert text.count("students.quantum") == 1


@pytest.mark.slow
def test_a_circuit_wider_than_the_device() -> None:
    wide = ["students.quantum.options.num_qubits=8", "data.options.components=8"]
    text = refused("backends.device.base=lagos", *wide)
    assert text == (
        "qkd: error: networks that cannot be built:\n  students.quantum: a circuit is no wider than"
        " the device; got 8 qubits; expected at most the 7 of 'fake_lagos'. Use fewer qubits or a "
        "larger device.\n"
    )


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ("{t1_us: 100, t2_us: 201}", "T2 is at most 2 T1: a qubit that relaxes loses its phase; "
         "got t2_us: 201 beside t1_us: 100; expected t2_us up to 200"),
        ("{two_qubit: 1.01}", "two_qubit: wrong value; got 1.01 (float); expected less than or "
         "equal to 1"),
        ("{one_qubit: -0.1}", "one_qubit: wrong value; got -0.1 (float); expected greater than or "
         "equal to 0"),
        ("{readout: [0.1, 1.5]}", "wrong value; got 1.5 (float); expected less than or equal to 1"),
    ],
)  # fmt: skip
def test_unphysical_rates(rates: str, message: str) -> None:
    changed = refused(f"backends.device={{base: exact, kind: noisy, noise: {{rates: {rates}}}}}")
    assert changed.startswith("qkd: error: override backends.device.noise.rates")
    assert changed.count(message) == 1
    assert changed.count("\n") == 1
    Path("backends.yaml").write_text(BACKENDS.replace(RATES, rates, 1))
    text = refused()
    assert text.startswith("qkd: error: backends.yaml:6:")
    assert "backends.noisy.noise.rates" in text
    assert text.count(message) == 1
    assert text.count("\n") == 1


def snapshot() -> str:
    save_snapshot(fake_device("fake_lagos"), "whole.json")
    return Path("whole.json").read_text()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_truncated_snapshot(share: float) -> None:
    text = snapshot()
    Path("device.json").write_text(text[: int(share * len(text))])
    add("mine: {kind: noisy, noise: {snapshot: device.json}}")
    for words in (["backend=mine"], ["backends.device={base: exact, kind: noisy, scale: 1.0, "
                                     "noise: {snapshot: device.json}}"]):  # fmt: skip
        said = refused(*words)
        assert (
            "students.quantum: a device snapshot is whole and unaltered; got device.json: " in said
        )
        assert "no complete JSON: " in said
        assert "Copy the file again, or take a new snapshot with save_snapshot.\n" in said


def test_a_missing_snapshot() -> None:
    add("mine: {kind: noisy, noise: {snapshot: nowhere.json}}")
    assert (
        "students.quantum: a device snapshot cannot be read; got nowhere.json: No such file or "
        "directory. Check the path, or take a snapshot with save_snapshot."
        in refused("backend=mine")
    )


def test_a_probability_in_a_snapshot() -> None:
    data = json.loads(snapshot())
    data["qubits"][3]["readout"] = [0.1, 1.2]
    Path("device.json").write_text(json.dumps(data))
    add("mine: {kind: noisy, noise: {snapshot: device.json}}")
    assert "qubits.3: a readout error is a probability; got [0.1, 1.2]" in refused("backend=mine")


@pytest.mark.parametrize("sampled", ["", ", shots: 64", ", shots: 64, sampled_by: qiskit_aer"])
def test_a_gate_that_the_device_lacks(sampled: str) -> None:
    data = json.loads(snapshot())
    del data["gates"]["sx"]
    Path("device.json").write_text(json.dumps(data))
    add(f"poor: {{kind: noisy, noise: {{snapshot: device.json}}{sampled}}}")
    text = refused("evaluation.side_by_side.backends=[exact, poor]")
    assert text.startswith(
        "qkd: error: networks that cannot be built:\n  students.quantum: a circuit can be written "
        "in the gates of 'fake_lagos'; got Unable to translate the operations in the circuit: "
    )
    assert text.endswith(
        "; expected cx, delay, id, measure, reset, rz, x. Write the circuit in other gates, or use "
        "another device.\n"
    )
    assert text.count("fake_lagos") == 1


def test_an_unknown_backend() -> None:
    assert refused("evaluation.backend=nosy") == (
        "qkd: error: override evaluation.backend: unknown backend; got 'nosy'. did you mean 'noisy'"
        "? known: aer, exact, exact_shots, lagos, noisy; this study's own: device\n"
    )


def test_a_scale_that_is_none() -> None:
    assert refused("backends.device.scale=-1") == (
        "qkd: error: override backends.device.scale: wrong value; got -1 (int); expected greater "
        "than or equal to 0\n"
    )
