# SPDX-License-Identifier: Apache-2.0
"""Where noise comes from: fakes, rates, snapshots by path or by the device's name."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from qiskit.quantum_info import SuperOp, average_gate_fidelity
from qiskit_aer.noise import depolarizing_error, thermal_relaxation_error

from qiskit_kd.errors import (
    CircuitError,
    ConfigError,
    QiskitKDError,
    StorageError,
    UnknownNameError,
)
from qiskit_kd.execution.backends import Backend, list_backends, load_backend
from qiskit_kd.execution.noise_sources import (
    DeviceNoise,
    fake_device,
    fake_device_names,
    rate_device,
    readout_rates,
)
from qiskit_kd.execution.schema import Noise
from qiskit_kd.execution.snapshots import load_snapshot, open_noise, save_snapshot


def torino(**options) -> DeviceNoise:
    backend = fake_device("fake_torino")
    return DeviceNoise("fake_torino", backend.target, readout_rates(backend), **options)


def rates(**options) -> DeviceNoise:
    return DeviceNoise("rates", *rate_device(4, **options))


def test_fake_devices_go_by_their_own_names() -> None:
    names = fake_device_names()
    assert {"fake_torino", "fake_marrakesh", "fake_lima"} <= set(names)
    assert len(names) == len(set(names)) > 50
    assert fake_device("fake_lima").name == "fake_lima"
    with pytest.raises(
        UnknownNameError,
        match=r"unknown fake device; got 'fake_torin'\. did you mean 'fake_torino'\? known: fake_",
    ):
        fake_device("fake_torin")


def test_a_calibrated_gate_errs_as_calibrated() -> None:
    noise = torino()
    pair = next(p for p, k in noise.target["cz"].items() if k.error and k.error < 0.1)
    error = noise.gate_error("cz", pair)
    assert 1 - average_gate_fidelity(error.to_quantumchannel()) == pytest.approx(
        noise.target["cz"][pair].error, rel=1e-6
    )
    assert noise.gate_error("cz", pair) is error  # made once
    assert noise.gate_error("rz", (0,)) is None  # a change of frame


def test_rates_are_depolarising_noise_and_relaxation() -> None:
    noise = rates(
        one_qubit=1e-3, two_qubit=1e-2, t1=1e-4, t2=8e-5, one_qubit_time=4e-8, two_qubit_time=2e-7,
        readout=(0.01, 0.03),
    )  # fmt: skip
    for name, qubits, p, seconds in (("sx", (2,), 1e-3, 4e-8), ("cz", (1, 0), 1e-2, 2e-7)):
        one = thermal_relaxation_error(1e-4, 8e-5, seconds)
        relax = one if len(qubits) == 1 else one.expand(one)
        expected = depolarizing_error(p, len(qubits)).compose(relax)
        found = noise.gate_error(name, qubits)
        np.testing.assert_allclose(SuperOp(found).data, SuperOp(expected).data, atol=1e-12)
    np.testing.assert_allclose(noise.assignment(1), [[0.99, 0.03], [0.01, 0.97]])
    assert noise.gate_error("rz", (0,)) is None
    with pytest.raises(CircuitError, match=r"got 'cz' on qubits \[0, 2\]"):
        noise.gate_error("cz", (0, 2))
    full = rates(two_qubit=0.1, coupling="full")
    assert full.gate_error("cz", (0, 2)) is not None
    assert full.gate_error("sx", (0,)) is None


def test_the_readout_errors_of_both_states() -> None:
    backend = fake_device("fake_torino")
    found = readout_rates(backend)
    items = {item.name: item.value for item in backend.properties().qubits[7]}
    assert found[7].tolist() == [items["prob_meas1_prep0"], items["prob_meas0_prep1"]]
    assert found[7, 0] != found[7, 1]
    matrix = torino().assignment(7)
    np.testing.assert_allclose(matrix.sum(0), 1)
    assert (matrix[1, 0], matrix[0, 1]) == tuple(found[7])


def test_waiting_relaxes() -> None:
    noise = rates(t1=1e-4, t2=8e-5)
    error = SuperOp(noise.idle_error(2, 1e-6))
    np.testing.assert_allclose(error.data, SuperOp(thermal_relaxation_error(1e-4, 8e-5, 1e-6)).data)
    assert noise.idle_error(2, 0.0) is None
    assert rates().idle_error(2, 1e-6) is None  # nothing is known


def test_scaling_strengthens_and_weakens() -> None:
    pair, one = (3, 4), 5
    plain = torino()

    def infidelity(noise: DeviceNoise) -> float:
        return 1 - average_gate_fidelity(noise.gate_error("cz", pair).to_quantumchannel())

    for scale in (0.25, 2.0):
        noise = torino(scale=scale)
        assert infidelity(noise) == pytest.approx(scale * infidelity(plain), rel=1e-6)
        np.testing.assert_allclose(
            noise.assignment(one)[1, 0], scale * plain.assignment(one)[1, 0], rtol=1e-12
        )
        wait = SuperOp(noise.idle_error(one, 1e-6)).data
        np.testing.assert_allclose(
            wait, SuperOp(plain.idle_error(one, scale * 1e-6)).data, atol=1e-12
        )
    none = torino(scale=0.0)
    assert none.gate_error("cz", pair) is None
    assert none.idle_error(one, 1e-6) is None
    np.testing.assert_array_equal(none.assignment(one), np.eye(2))
    most = torino(scale=1e4)  # nothing is left, but nothing is unphysical either
    assert most.assignment(one)[1, 0] == 0.5
    assert 0 < infidelity(most) <= 0.8 + 1e-9
    np.testing.assert_array_equal(torino(readout_error=False).assignment(one), np.eye(2))


def test_t2_of_a_calibration_may_exceed_its_bound() -> None:
    noise = DeviceNoise("odd", *rate_device(1, t1=1e-4, t2=5e-4))
    found = SuperOp(noise.idle_error(0, 1e-5)).data
    np.testing.assert_allclose(found, SuperOp(thermal_relaxation_error(1e-4, 2e-4, 1e-5)).data)


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
def test_scales_that_are_none(scale) -> None:
    with pytest.raises(
        ConfigError, match=r"noise is scaled by a finite factor; got .*; expected 0 \(no noise\) or"
    ):
        torino(scale=scale)


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_readout_errors_are_probabilities(value) -> None:
    target, readout = rate_device(3)
    readout[2, 1] = value
    with pytest.raises(
        ConfigError,
        match=rf"a readout error is a probability; got {value} for qubit 2; expected 0 to 1",
    ):
        DeviceNoise("odd", target, readout)


FILE = """\
schema: 1
backends:
  noisy: {kind: noisy, noise: {device: fake_lima}}
  mine: {kind: noisy, noise: {device: ibm_mine}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backend file in a folder that is not the working directory."""
    place = tmp_path / "files"
    place.mkdir()
    (place / "backends.yaml").write_text(FILE)
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(place / "backends.yaml"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return place


def snapshot(path: Path, device: str = "fake_lima") -> Path:
    save_snapshot(fake_device(device), path)
    return path


def device_of(backend: Backend) -> str:
    return str(open_noise(backend.options.noise, 1).name)


@pytest.mark.parametrize("where", ["beside", "here"])
def test_a_device_is_its_snapshot(folder: Path, where: str) -> None:
    file = snapshot((folder if where == "beside" else Path.cwd()) / "ibm_mine.json")
    backend = load_backend("mine")
    assert backend.options.noise == Noise(snapshot=str(file))
    assert device_of(backend) == "fake_lima"
    assert open_noise(backend.options.noise, 1).target.num_qubits == 5
    described = backend.describe()["noise"]
    assert (described["snapshot"], len(described["sha256"])) == ("ibm_mine.json", 64)
    assert set(described) == {"snapshot", "sha256"}


def test_the_one_beside_the_file_comes_first(folder: Path) -> None:
    snapshot(Path("ibm_mine.json"), "fake_quito")
    elsewhere = load_backend("mine").describe()
    file = snapshot(folder / "ibm_mine.json")
    assert load_backend("mine").options.noise.snapshot == str(file)
    assert load_backend("mine").describe() != elsewhere


def test_another_calibration_is_another_backend(folder: Path) -> None:
    path = snapshot(folder / "ibm_mine.json")
    before = load_backend("mine").describe()
    target = open_noise(load_backend("mine").options.noise, 1)
    assert load_backend("mine").describe() == before
    snapshot(path, "fake_quito")
    assert load_backend("mine").describe() != before
    assert open_noise(load_backend("mine").options.noise, 1) is not target
    assert device_of(load_backend("mine")) == "fake_quito"


def test_where_it_lies_does_not_matter(folder: Path) -> None:
    path = snapshot(folder / "ibm_mine.json")
    before = load_backend("mine").describe()
    path.rename("ibm_mine.json")
    assert load_backend("mine").describe() == before


def test_settings_of_a_study(folder: Path) -> None:
    """`Backend.changed` looks for the snapshot too, and keeps it when something else changes."""
    file = snapshot(folder / "ibm_mine.json")
    for base in ("noisy", "mine"):
        backend = load_backend(base).changed("model", {"noise": {"device": "ibm_mine"}})
        assert backend.options.noise.snapshot == str(file)
        scaled = backend.changed("scaled", {"scale": 2.0})
        assert (scaled.options.scale, scaled.options.noise) == (2.0, backend.options.noise)
    assert load_backend("mine").changed("x", {"scale": 0.5}).options.noise.snapshot == str(file)
    back = load_backend("mine").changed("x", {"noise": {"device": "fake_quito"}})
    assert back.options.noise == Noise(device="fake_quito")


def test_a_fake_device_is_never_a_file(folder: Path) -> None:
    snapshot(folder / "fake_lima.json", "fake_quito")
    assert load_backend("noisy").options.noise == Noise(device="fake_lima")
    assert device_of(load_backend("noisy")) == "fake_lima"


@pytest.mark.parametrize("name", ["../ibm_mine", "sub/ibm_mine", "/etc/ibm_mine"])
def test_a_name_is_no_path(folder: Path, name: str) -> None:
    snapshot(folder.parent / "ibm_mine.json")
    assert Noise(device=name).beside(folder) == Noise(device=name)


@pytest.mark.parametrize(
    ("name", "near"),
    [("ibm_torino", "fake_torino"), ("fake_torinoo", "fake_torino"), ("torino", "fake_torino"),
     ("lagos", "fake_lagos"), ("xyzzy", "fake_")],
)  # fmt: skip
def test_no_snapshot_yet(folder: Path, name: str, near: str) -> None:
    backend = load_backend("mine").changed("model", {"noise": {"device": name}})
    with pytest.raises(
        UnknownNameError,
        match=rf"noise comes from a fake device, or from a snapshot of a device; got '{name}', and "
        rf"no {name}\.json beside the backend file or in the working directory; expected a fake "
        rf"device such as .*{near}.*, or a snapshot\. Take one of a device of your account: "
        rf"qkd snapshot {name}$",
    ):
        backend.engine(seed=0)
    snapshot(folder / f"{name}.json")
    if not name.startswith("fake_"):
        found = load_backend("mine").changed("model", {"noise": {"device": name}})
        assert device_of(found) == "fake_lima"


def test_a_file_without_its_snapshots_can_be_listed(folder: Path) -> None:
    assert list_backends()["mine"].describe()["noise"] == {"device": "ibm_mine"}


def test_a_damaged_snapshot(folder: Path) -> None:
    (folder / "ibm_mine.json").write_text("{")
    with pytest.raises(StorageError, match=r"a device snapshot is whole and unaltered; got "
                       r".*ibm_mine\.json: no complete JSON"):  # fmt: skip
        load_backend("mine").engine(seed=0)


def test_a_snapshot_that_vanished_has_no_hash(folder: Path) -> None:
    noise = Noise(snapshot=str(folder / "gone.json"))
    assert noise.digest() is None
    with pytest.raises(StorageError, match=r"a device snapshot cannot be read; got .*gone\.json"):
        open_noise(noise, scale=1.0, readout=True, num_qubits=0)


@pytest.mark.parametrize(
    ("given", "got"), [({}, "none"), ({"device": "a", "snapshot": "b"}, "device and snapshot")]
)
def test_one_source(given: dict[str, str], got: str) -> None:
    with pytest.raises((ConfigError, QiskitKDError, ValueError), match=f"noise comes from one "
                       f"source; got {got}; expected one of device, snapshot, rates"):  # fmt: skip
        Noise(**given)


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
