# SPDX-License-Identifier: Apache-2.0
"""Where noise comes from: fakes, snapshots by path or by the device's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from qiskit_kd.errors import ConfigError, QiskitKDError, StorageError, UnknownNameError
from qiskit_kd.execution.backends import Backend, list_backends, load_backend
from qiskit_kd.execution.noise_sources import fake_device
from qiskit_kd.execution.schema import Noise
from qiskit_kd.execution.snapshots import open_noise, save_snapshot

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
    ("given", "got"),
    [({}, "none"), ({"device": "a", "snapshot": "b"}, "device and snapshot")],
)
def test_one_source(given: dict[str, str], got: str) -> None:
    with pytest.raises((ConfigError, QiskitKDError, ValueError), match=f"noise comes from one "
                       f"source; got {got}; expected one of device, snapshot, rates"):  # fmt: skip
        Noise(**given)
