# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from qiskit.quantum_info import SuperOp

from qiskit_kd.errors import StorageError
from qiskit_kd.execution.noise_sources import DeviceNoise, fake_device, readout_rates
from qiskit_kd.execution.snapshots import load_snapshot, save_snapshot


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("snapshots") / "lima.json"
    save_snapshot(fake_device("fake_lima"), path)
    return path


@pytest.mark.parametrize("name", ["fake_lima", "fake_torino", "fake_sherbrooke", "fake_fractional"])
def test_a_snapshot_is_the_device(tmp_path, name) -> None:
    backend = fake_device(name)
    save_snapshot(backend, tmp_path / "device.json")
    found, target, readout = load_snapshot(tmp_path / "device.json")
    assert found == name
    original = backend.target
    assert (target.num_qubits, target.dt) == (original.num_qubits, original.dt)
    assert target.pulse_alignment == original.pulse_alignment
    left_out = set(original.operation_names) - set(target.operation_names)
    assert not {"measure", "delay", "sx", "rz", "cx", "cz", "ecr", "rzz"} & left_out
    for gate in target.operation_names:
        assert set(target[gate]) == set(original[gate])
        for place, one in target[gate].items():
            other = original[gate][place]
            for what in ("duration", "error"):
                assert getattr(one, what, None) == getattr(other, what, None), (gate, place)
    for one, other in zip(target.qubit_properties, original.qubit_properties, strict=True):
        assert (one.t1, one.t2, one.frequency) == (other.t1, other.t2, other.frequency)
    np.testing.assert_array_equal(readout, readout_rates(backend))


def test_errors_survive(saved) -> None:
    backend = fake_device("fake_lima")
    one = DeviceNoise(*load_snapshot(saved))
    other = DeviceNoise("fake_lima", backend.target, readout_rates(backend))
    for gate, qubits in (("cx", (1, 0)), ("sx", (3,))):
        np.testing.assert_array_equal(
            SuperOp(one.gate_error(gate, qubits)).data, SuperOp(other.gate_error(gate, qubits)).data
        )


def test_the_file_says_what_it_is(saved) -> None:
    data = json.loads(saved.read_text())
    assert (data["format"], data["schema"], data["name"]) == (
        "qiskit_kd device snapshot", 1, "fake_lima"
    )  # fmt: skip
    assert re.match(r"20\d\d-\d\d-\d\dT", data["calibrated"])
    assert len(data["qubits"]) == 5


def test_a_missing_file(tmp_path) -> None:
    with pytest.raises(
        StorageError,
        match=r"a device snapshot cannot be read; got .*none\.json: No such file or directory\. "
        r"Check the path, or take a snapshot with save_snapshot\.",
    ):
        load_snapshot(tmp_path / "none.json")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_was_cut_short(saved, tmp_path, share) -> None:
    text = saved.read_text()
    (tmp_path / "cut.json").write_text(text[: int(share * len(text))])
    with pytest.raises(
        StorageError,
        match=r"a device snapshot is whole and unaltered; got .*cut\.json: no complete JSON: .*\. "
        r"Copy the file again, or take a new snapshot with save_snapshot\.",
    ):
        load_snapshot(tmp_path / "cut.json")


def drop(key):
    return lambda data: data.pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("gates"), r"gates: Field required"),
        (drop("format"), r"format: Field required"),
        (lambda d: d.update(schema=2), r"schema: Input should be 1"),
        (lambda d: d["qubits"].pop(), r"gates act on qubits of the device; got '\w+' on \[.*4.*\]; "
         r"expected indices below 4"),
        (lambda d: d["qubits"][1].update(readout=[0.1, 1.2]), r"qubits\.1: a readout error is a "
         r"probability; got \[0\.1, 1\.2\]"),
        (lambda d: d["qubits"][1].update(t1=-1.0), r"qubits\.1\.t1: Input should be gre"),
        (lambda d: d["gates"]["cx"][0].update(error=1.5), r"gates\.cx\.0\.error: Input should"),
        (lambda d: d["gates"].update(cxx=d["gates"]["cx"]), r"gates\.cxx: no gate that Qiski"),
    ],
)  # fmt: skip
def test_an_altered_file(saved, tmp_path, change, message) -> None:
    data = json.loads(saved.read_text())
    change(data)
    (tmp_path / "odd.json").write_text(json.dumps(data))
    with pytest.raises(StorageError, match=r"whole and unaltered; got .*odd\.json: " + message):
        load_snapshot(tmp_path / "odd.json")


def test_bytes_that_are_no_text(tmp_path) -> None:
    (tmp_path / "odd.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StorageError, match="no complete JSON"):
        load_snapshot(tmp_path / "odd.json")
