# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from qiskit_kd.errors import ConfigError, DeviceError, StorageError, UnknownNameError
from qiskit_kd.execution.runtime import snapshot
from qiskit_kd.execution.runtime.snapshot import Taken, account_of, take_snapshot
from qiskit_kd.execution.schema import RuntimeOptions
from qiskit_kd.execution.snapshots import load_snapshot
from tests.loopback import LoopbackService

from .study import forget


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def options(device: str = "fake_lima", **more: object) -> RuntimeOptions:
    return RuntimeOptions.model_validate({"kind": "runtime", "device": device, **more})


def remote(server: LoopbackService, **more: object) -> RuntimeOptions:
    forget()
    return options(**{**server.runtime_options(), **more})


def test_of_a_fake_device() -> None:
    taken = take_snapshot(options())
    assert taken == Taken(Path("fake_lima.json"), "fake_lima", 5, taken.calibrated)
    name, target, readout = load_snapshot(taken.file)
    assert (name, target.num_qubits, readout.shape) == ("fake_lima", 5, (5, 2))
    assert json.loads(taken.file.read_text())["calibrated"] == taken.calibrated
    assert str(taken.calibrated).startswith("20")


def test_of_a_device_of_an_account(loopback: LoopbackService) -> None:
    taken = take_snapshot(remote(loopback))
    assert (taken.file, taken.device, taken.num_qubits) == (
        Path("ibm_loopback.json"),
        "ibm_loopback",
        7,
    )
    text = taken.file.read_text()
    assert loopback.api_key not in text
    name, target, _ = load_snapshot(taken.file)
    assert (name, target.num_qubits) == ("ibm_loopback", 7)
    assert json.loads(text)["calibrated"] == taken.calibrated is not None
    assert loopback.posts() == 0  # nothing ran
    assert loopback.seconds == 0


def test_of_the_least_busy_device(loopback: LoopbackService) -> None:
    assert take_snapshot(remote(loopback, device="least_busy")).file == Path("ibm_loopback.json")
    with pytest.raises(ConfigError, match=r"the file exists already; got ibm_loopback\.json"):
        take_snapshot(remote(loopback, device="least_busy"))


def test_a_file_is_not_overwritten_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.json").write_text("the only one")

    def forbidden(_: object) -> None:
        pytest.fail("the device was asked for nothing")

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "open_device", forbidden)
        with pytest.raises(
            ConfigError,
            match=r"the file exists already; got mine\.json\. Studies know a snapshot by its "
            r"content: name another file, or overwrite it with --force\.",
        ):
            take_snapshot(options(), "mine.json")
    assert Path("mine.json").read_text() == "the only one"
    take_snapshot(options(), "mine.json", force=True)
    assert load_snapshot("mine.json")[0] == "fake_lima"


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_is_no_file(force: bool) -> None:
    Path("folder").mkdir()
    with pytest.raises(
        StorageError,
        match=r"a snapshot is a file; got the folder folder\. Name a "
        r"file in it\.",
    ):
        take_snapshot(options(), "folder", force=force)


def test_a_file_that_cannot_be_written() -> None:
    Path("file").touch()
    with pytest.raises(StorageError, match=r"a file cannot be written; got file/mine\.json: "):
        take_snapshot(options(), "file/mine.json")


def test_others_may_read_it() -> None:
    assert take_snapshot(options()).file.stat().st_mode & stat.S_IRGRP


def test_aer_has_none() -> None:
    with pytest.raises(
        ConfigError,
        match=r"a snapshot is of a device with gates and a calibration;"
        r" got 'aer'\. Name a device such as ibm_fez or fake_torino\.",
    ):
        take_snapshot(options("aer"))


def test_unknown_devices(loopback: LoopbackService) -> None:
    with pytest.raises(DeviceError, match=r"unknown fake device; got 'fake_lime'\. did you mean"):
        take_snapshot(options("fake_lime"))
    with pytest.raises(
        DeviceError,
        match=r"a device is one of the account's; got 'ibm_loopbak'\. "
        r"did you mean 'ibm_loopback'",
    ):
        take_snapshot(remote(loopback, device="ibm_loopbak"))
    assert list(Path().iterdir()) == []


def test_the_account_of_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("backends.yaml").write_text(
        "schema: 1\nbackends:\n  exact: {kind: exact}\n"
        "  mine: {kind: runtime, device: ibm_a, account: work, instance: crn, budget_seconds: 5}\n"
    )
    monkeypatch.setenv("QISKIT_KD_BACKENDS", "backends.yaml")
    found = account_of("ibm_b", backend="mine")
    assert (found.device, found.account, found.instance) == ("ibm_b", "work", "crn")
    plain = account_of("ibm_b", account="home", instance="other")
    assert (plain.device, plain.account, plain.instance) == ("ibm_b", "home", "other")
    assert account_of("ibm_b") == options("ibm_b")
    for given, got in (
        ({"account": "a"}, "account"),
        ({"account": "a", "instance": "b"}, "account and instance"),
    ):
        with pytest.raises(
            ConfigError,
            match=rf"an entry of the backend file names its own account; got the entry 'mine' and "
            rf"{got}\. Leave one of them out\.",
        ):
            account_of("ibm_b", backend="mine", **given)
    with pytest.raises(
        ConfigError,
        match=r"a snapshot is of a device; got 'exact' of kind "
        r"'exact'; expected an entry of kind 'runtime'",
    ):
        account_of("ibm_b", backend="exact")
    with pytest.raises(UnknownNameError, match=r"unknown backend; got 'mina'"):
        account_of("ibm_b", backend="mina")
