# SPDX-License-Identifier: Apache-2.0
"""The loopback service for the tests of hardware: the real client, no internet, no account."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback import LoopbackService
from tests.loopback.service import ENVIRONMENT

_VARIABLES = ("TOKEN", "URL", "INSTANCE", "CHANNEL")


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither variables nor a file of accounts: what a new user has."""
    from qiskit_ibm_runtime.accounts import management

    for name in _VARIABLES:
        monkeypatch.delenv(f"QISKIT_IBM_{name}", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    path = str(tmp_path / "accounts.json")
    monkeypatch.setattr(management, "_DEFAULT_ACCOUNT_CONFIG_JSON_FILE", path)


def _serve(service: LoopbackService, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackService]:
    before = {*threading.enumerate()}
    with service:
        for name, value in service.environment().items():
            if name not in ENVIRONMENT:  # the service sets those, and takes them away again
                monkeypatch.setenv(name, value)
        yield service
    left = {*threading.enumerate()} - before
    assert not any(thread.name.startswith("loopback") for thread in left), left


@pytest.fixture
def loopback(no_account: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackService]:
    """A service with a device of 7 qubits (`ibm_loopback`), an account in the environment."""
    yield from _serve(LoopbackService("fake_lagos"), monkeypatch)


@pytest.fixture
def loopback_torino(no_account: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackService]:
    """The same with a device of 133 qubits."""
    yield from _serve(LoopbackService("fake_torino"), monkeypatch)
