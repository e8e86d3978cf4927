# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from qiskit_kd.errors import ConfigError
from qiskit_kd.execution.backends import list_backends, load_backend
from qiskit_kd.execution.runtime.snapshot import account_of
from qiskit_kd.execution.schema import RuntimeOptions

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "backends.yaml"


def options(**settings: Any) -> RuntimeOptions:
    return RuntimeOptions.model_validate({"kind": "runtime", "device": "ibm_fez", **settings})


def from_file(tmp_path: Path, **settings: Any) -> RuntimeOptions:
    entry = {"kind": "runtime", "device": "ibm_fez", **settings}
    path = tmp_path / "b.yaml"
    path.write_text(yaml.safe_dump({"schema": 1, "backends": {"mine": entry}}))
    found = load_backend("mine", path).options
    assert isinstance(found, RuntimeOptions)
    return found


def test_every_option_can_be_written_in_the_file(tmp_path) -> None:
    found = from_file(
        tmp_path,
        account="work",
        instance="open",
        channel="ibm_cloud",
        url="https://cloud.test",
        proxies={"urls": {"https": "http://proxy.test:3128"}},
        mode="session",
        shots=256,
        rep_delay=0.0001,
        dynamical_decoupling="XY4",
        mitigation="tensored",
        resilience_level=2,
        twirling={"gates": True, "measure": True, "num_randomizations": 8},
        tiles="auto",
        max_execution_time=60,
        budget_seconds=30.0,
        usd_per_second=1.6,
        tags=["a", "b"],
        fractional_gates=True,
        optimization_level=2,
        seed_transpiler=3,
        gradient="spsa",
        perturbations=8,
        epsilon=0.1,
        seed=4,
        journal="jobs.sqlite",
    )
    assert found.tags == ("a", "b")
    assert found.twirling is not None
    assert found.twirling.num_randomizations == 8
    assert found.journal == Path("jobs.sqlite")  # of the working directory
    assert found.proxies is not None
    assert found.proxies.urls == {"https": "http://proxy.test:3128"}
    assert (found.shots, found.tiles, found.mode) == (256, "auto", "session")
    assert from_file(tmp_path, journal="/var/jobs.sqlite").journal == Path("/var/jobs.sqlite")
    assert from_file(tmp_path).journal is None


def test_defaults_of_an_entry() -> None:
    found = options()
    assert (found.shots, found.mode, found.tiles, found.mitigation) == (1024, "job", 1, "none")
    assert found.budget_seconds is found.account is found.journal is found.rep_delay is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token": "secret"}, "token"),
        ({"mode": "fast"}, "mode"),
        ({"tiles": 0}, "tiles"),
        ({"rep_delay": -1.0}, "rep_delay"),
        ({"dynamical_decoupling": "XZ"}, "dynamical_decoupling"),
        ({"twirling": {"gate": True}}, "gate"),
        ({"resilience_level": 3}, "resilience_level"),
        ({"max_execution_time": 0}, "max_execution_time"),
        ({"device": ""}, "device"),
        (
            {"shots": None},
            "a device runs a circuit a number of times; got shots: null; expected 1 "
            "or more. For exact values choose a backend without shots.",
        ),
        ({"proxies": {"password_ntlm": "secret"}}, "password_ntlm"),
        (
            {"tags": ["qkd-mine"]},
            "tags are not empty and do not begin with 'qkd-'; got 'qkd-mine'"
            ". Choose another tag: this one is how jobs are found again",
        ),
        ({"tags": [" "]}, "tags are not empty and do not begin with 'qkd-'; got ' '"),
        (
            {"proxies": {"urls": {"http": "http://me:secret@proxy.test"}}},
            "the backend file holds no secrets; got a proxy with a name or password in it. "
            "Save the "
            "proxy with the account",
        ),
    ],
)
def test_wrong_entries_are_refused_and_their_secrets_not_shown(tmp_path, settings, message) -> None:
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, **settings)
    assert message in str(caught.value)
    assert "me:secret@" not in str(caught.value)


def test_description_holds_what_changes_results_and_nothing_private() -> None:
    limits = options(
        account="work",
        url="https://x.test",
        journal="j.sqlite",
        budget_seconds=9.0,
        usd_per_second=1.0,
        max_execution_time=5,
        proxies={"urls": {"http": "http://p.test"}},
        instance="crn:v1:bluemix",
        channel="ibm_cloud",
        mode="batch",
        tags=["mine"],
        description="A device.",
    )
    assert limits.describe() == options().describe()
    json.dumps(limits.describe())
    for key, value in {
        "device": "ibm_torino",
        "shots": 2,
        "rep_delay": 1e-4,
        "dynamical_decoupling": "XX",
        "twirling": {"gates": True},
        "mitigation": "tensored",
        "resilience_level": 0,
        "tiles": 3,
        "fractional_gates": True,
        "optimization_level": 1,
        "seed": 3,
    }.items():
        assert options(**{key: value}).describe() != options().describe(), key


def test_a_list_of_backends_shows_more_than_results_depend_on() -> None:
    more = {
        "instance": "crn:v1",
        "channel": "ibm_cloud",
        "mode": "batch",
        "tags": ["mine"],
        "description": "A device.",
    }
    found = options(**more, account="work", journal="j.sqlite")
    assert found.shown() == {**found.describe(), **more}


def test_an_entry_with_some_settings_changed(tmp_path) -> None:
    path = tmp_path / "b.yaml"
    entry = {
        "kind": "runtime",
        "device": "ibm_fez",
        "tags": ["a"],
        "journal": "j.sqlite",
        "twirling": {"gates": True},
        "proxies": {"urls": {"http": "http://p.test"}},
    }
    path.write_text(yaml.safe_dump({"schema": 1, "backends": {"mine": entry}}))
    before = load_backend("mine", path)
    after = before.changed("other", {"tiles": "auto", "shots": 64})
    assert after.options == before.options.model_copy(update={"tiles": "auto", "shots": 64})
    with pytest.raises(ConfigError, match="settings of the backend 'bad': tiles: wrong value"):
        before.changed("bad", {"tiles": -1})


@pytest.mark.parametrize(
    ("device", "local"),
    [("aer", True), ("fake_torino", True), ("ibm_fez", False), ("least_busy", False)],
)
def test_what_runs_here_needs_no_account(device: str, local: bool) -> None:
    assert options(device=device).local is local


def test_shipped_entries_and_the_comments_name_every_option() -> None:
    backends = list_backends(SHIPPED)
    assert backends["fake_device"].options.device == "fake_torino"
    assert backends["ibm"].options.device == "least_busy"
    assert backends["ibm"].options.budget_seconds is None  # whoever pays says how much
    comments = SHIPPED.read_text()[SHIPPED.read_text().index("# Every option") :]
    for name in RuntimeOptions.model_fields:
        if name not in ("kind", "description", "shots"):
            assert f"{name}" in comments, name


@pytest.mark.slow
def test_listing_backends_and_the_doctor_ask_no_service(tmp_path) -> None:
    # A process without network and account: what asked a service would fail or wait.
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('a connection was opened')\n"
        "socket.socket.connect = refuse\n"
        "from qiskit_kd.cli import app\n"
        "for args in (['backends'], ['backends', '--json'], ['doctor', '--json']):\n"
        "    try: app(args)\n"
        "    except SystemExit as end: assert not end.code, (args, end.code)\n"
        "from qiskit_kd.execution.backends import list_backends\n"
        "assert 'ibm' in list_backends()\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "least_busy" in done.stdout


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("FakeLagosV2", "fake_lagos"),
        ("FakeTorino", "fake_torino"),
        ("fake-lagos", "fake_lagos"),
        ("FAKE_QUITO", "fake_quito"),
        ("AerSimulator", "aer"),
        ("Aer", "aer"),
        ("simulator", "aer"),
    ],
)
def test_a_simulator_by_another_name_asks_for_no_account(device: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"got '{device}'; expected .*{expected}"):
        account_of(device)


def test_a_device_without_a_name() -> None:
    with pytest.raises(ConfigError, match="a device has a name; got ''; expected such as ibm_fez"):
        account_of("")
