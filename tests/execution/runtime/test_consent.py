# SPDX-License-Identifier: Apache-2.0
"""A stranger's file neither sends the account's token anywhere nor spends by its own word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from qiskit_kd.errors import AccountError, BudgetError, ConfigError
from qiskit_kd.execution.runtime.consent import BUDGET, TRUSTED, budget_of, check_addresses
from qiskit_kd.execution.runtime.device import open_device
from qiskit_kd.execution.schema import RuntimeOptions
from tests.loopback import LoopbackService


@pytest.fixture(autouse=True)
def _unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (TRUSTED, BUDGET, "QISKIT_KD_BACKENDS"):
        monkeypatch.delenv(name, raising=False)


def options(**more: Any) -> RuntimeOptions:
    return RuntimeOptions.model_validate({"kind": "runtime", "device": "ibm_fez", **more})


def proxied(address: str, kind: str = "https") -> dict[str, Any]:
    return {"proxies": {"urls": {kind: address}}}


IBM = [
    {},
    {"url": "https://cloud.ibm.com"},
    {"url": "https://eu-de.quantum.cloud.ibm.com/api/v1"},
    {"url": "https://CLOUD.IBM.COM"},
    {"channel": "ibm_cloud"},
    {"instance": "my instance (eu)"},
    {"instance": "crn:v1:bluemix:public:quantum-computing:eu-de:a/1f:00-11::"},
]
STRANGERS = [
    {"url": url}
    for url in (
        "https://evil.example",
        "https://cloud.ibm.com.evil.example",
        "https://evilcloud.ibm.com",
        "https://cloud.ibm.com@evil.example",
        "https://evil.example#cloud.ibm.com",
        "https://evil.example?x=.cloud.ibm.com",
        "https://evil.example\\.cloud.ibm.com",
        "https://evil.example/.cloud.ibm.com",
        "http://127.0.0.1:8080",
        "http://localhost",
        "https://cloud.ibm.com.",
        "//evil.example",
        "ftp://cloud.ibm.com",
        "evil.example",
        "https://",
        "https://cloud.ibm.com\n.evil.example",
        "https://evil.example/experimental",
        "http://[::1]:1",
        "http://cloud.ibm.com",
        "http://quantum.cloud.ibm.com",
    )
] + [
    proxied("https://evil.example"),
    proxied("http://127.0.0.1:1"),
    proxied("http://evil.example:3128"),
    proxied("https://cloud.ibm.com"),
    proxied("http://evil.example", "http"),
    {"instance": "crn:v1:bluemix:public:quantum-computing:evil.example#:a/1:2::"},
    {"instance": "crn:v1:bluemix:public:quantum-computing:evil.example/x:a/1:2::"},
    {"instance": "crn:v1:bluemix:public:quantum-computing:evil.example:a/1:2::"},
    {"instance": "crn:evil.example/x"},
    {"instance": "evil.example?x"},
]


@pytest.mark.parametrize("more", IBM, ids=str)
def test_addresses_of_ibm_need_no_word(more: dict[str, Any]) -> None:
    check_addresses(options(**more))


@pytest.mark.parametrize("more", STRANGERS, ids=str)
def test_other_addresses_do(more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUSTED, "https://other.example http://127.0.0.1:2 https://[ 127.0.0.1:x")
    with pytest.raises(AccountError) as caught:
        open_device(options(**more))
    text = str(caught.value)
    assert "trusted by its user" in text or "an address is" in text or "an instance is" in text


@pytest.mark.parametrize(
    ("more", "trusted"),
    [
        ({"url": "https://mine.example"}, "https://mine.example"),
        ({"url": "https://mine.example:8443/api"}, "mine.example, other.example"),
        ({"url": "http://127.0.0.1:99"}, "http://127.0.0.1:99"),
        (
            {"url": "http://mine.test", **proxied("http://127.0.0.1:9", "http")},
            "http://mine.test http://127.0.0.1:9",
        ),
        (proxied("http://proxy.example:3128"), "proxy.example"),
    ],
)
def test_an_address_that_its_user_trusts(more, trusted, monkeypatch) -> None:
    with pytest.raises(AccountError, match=f"set {TRUSTED}=") as caught:
        check_addresses(options(**more))
    assert "nobody was contacted" in str(caught.value)
    monkeypatch.setenv(TRUSTED, trusted)
    check_addresses(options(**more))


def test_a_trusted_address_is_still_not_read_on_the_way(monkeypatch) -> None:
    monkeypatch.setenv(TRUSTED, "mine.example")
    with pytest.raises(AccountError, match=r"token travels over https; got http://mine\.example"):
        check_addresses(options(url="http://mine.example"))
    proxy = proxied("http://mine.example", "http")
    with pytest.raises(AccountError, match="token travels over https"):
        check_addresses(options(url="http://mine.example", **proxy))


def test_nobody_is_contacted_unasked(no_account, monkeypatch) -> None:
    with LoopbackService() as service:
        for name, value in service.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv(TRUSTED)
        entry = {"kind": "runtime", **service.runtime_options()}
        with pytest.raises(AccountError, match="trusted by its user"):
            open_device(RuntimeOptions.model_validate(entry))
        assert service.requests == []
        monkeypatch.setenv(TRUSTED, service.trusted())
        assert open_device(RuntimeOptions.model_validate(entry)).name == "ibm_loopback"
        monkeypatch.delenv(TRUSTED)  # the word counts each time, not for good
        with pytest.raises(AccountError, match="trusted by its user"):
            open_device(RuntimeOptions.model_validate(entry))


def test_the_smaller_budget_counts(monkeypatch) -> None:
    assert budget_of(options()) is None
    assert budget_of(options(budget_seconds=7.0)) == 7
    monkeypatch.setenv(BUDGET, "5")
    assert budget_of(options()) == budget_of(options(budget_seconds=7.0)) == 5
    assert budget_of(options(budget_seconds=3.0)) == 3
    assert budget_of(options(device="fake_lagos", budget_seconds=7.0)) == 7
    for wrong in ("0", "-1", "nan", "inf", "much"):
        monkeypatch.setenv(BUDGET, wrong)
        with pytest.raises(ConfigError, match=f"got {BUDGET}={wrong}"):
            budget_of(options())


STUDY = """\
name: small
data: {kind: digits, options: {classes: [3, 5], train: 8, validation: 6, test: 6, components: 2}}
teacher: {kind: linear}
students: {quantum: {kind: fully_quantum, options: {encoding: angle, num_qubits: 2, layers: 1}}}
variants: {plain: {terms: [{loss: ce}]}}
seeds: 1
training: {epochs: 1, gradient_every: 0}
"""
OWN = f"{STUDY}backends: {{mine: {{base: device, budget_seconds: 50.0}}}}\n"
OWN += "evaluation: {backend: mine}\n"
FILE = STUDY + "evaluation: {backend: device}\n"


@pytest.mark.parametrize(
    ("study", "budget", "named", "allowed", "asked"),
    [
        (OWN, None, False, None, {"mine": 50.0}),
        (FILE, 40.0, False, None, {"device": 40.0}),
        (FILE, 40.0, True, None, {}),  # a file that its user names
        (OWN, 40.0, True, None, {"mine": 50.0}),  # raised by the experiment
        (OWN, 60.0, True, None, {}),  # lowered by the experiment
        (OWN.replace("50.0", "50.0, device: ibm_other"), 60.0, True, None, {"mine": 50.0}),
        (OWN.replace("50.0", "50.0, account: paid"), 60.0, True, None, {"mine": 50.0}),
        (OWN.replace("50.0", "50.0, instance: paid"), 60.0, True, None, {"mine": 50.0}),
        (OWN, None, False, "20", {}),
        (FILE, 40.0, False, "20", {}),
    ],
)
def test_a_budget_is_its_users(
    study: str,
    budget: float | None,
    named: bool,
    allowed: str | None,
    asked: dict[str, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qiskit_kd.experiment.loading import load
    from qiskit_kd.experiment.spending import unasked
    from qiskit_kd.experiment.study import Study

    entry = "kind: runtime, device: ibm_fez" + (f", budget_seconds: {budget}" if budget else "")
    (tmp_path / "backends.yaml").write_text(
        f"schema: 1\nbackends:\n  exact: {{kind: exact}}\n  device: {{{entry}}}\n"
    )
    (tmp_path / "study.yaml").write_text(study)
    monkeypatch.chdir(tmp_path)
    if named:
        monkeypatch.setenv("QISKIT_KD_BACKENDS", str(tmp_path / "backends.yaml"))
    if allowed:
        monkeypatch.setenv(BUDGET, allowed)
    assert unasked(load("study.yaml")) == asked
    if asked:
        with pytest.raises(BudgetError, match=f"--budget {max(asked.values()):g}` or {BUDGET}="):
            Study.load("study.yaml").run("out")
        assert not (tmp_path / "out").exists()


def _call(*words: str) -> Any:
    from typer.testing import CliRunner

    from qiskit_kd.cli import app

    return CliRunner().invoke(app, list(words))


def _write(folder: Path, entry: str, study: str) -> None:
    (folder / "backends.yaml").write_text(
        f"schema: 1\nbackends:\n  exact: {{kind: exact}}\n  device: {{kind: runtime, {entry}}}\n"
    )
    (folder / "study.yaml").write_text(study)


@pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")
def test_the_command_line_says_whose_entry_it_is(no_account, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with LoopbackService() as service:
        for name, value in service.environment().items():
            monkeypatch.setenv(name, value)
        address = f"url: 'http://cloud.ibm.test', {_flow(service)}, channel: ibm_quantum_platform"
        _write(tmp_path, f"device: ibm_lopback, {address}, budget_seconds: 9", FILE)
        told = "backends.yaml:4:3: backends.device"
        for words in (
            ("run", "study.yaml"),
            ("run", "study.yaml", "--out", "o"),
            ("run", "study.yaml", "--budget", "0"),
            ("run", "study.yaml", "--budget", "nan"),
        ):
            done = _call(*words)
            assert done.exit_code == (2 if "--budget" in words else 3), done.output
            assert ("QKD_BUDGET_SECONDS" if "--budget" in words else told) in done.stderr
            assert BUDGET not in os.environ
        assert service.requests == []
        for words in (
            ("estimate", "study.yaml"),
            ("estimate", "study.yaml", "--backend", "device"),
            ("run", "study.yaml", "--budget", "9"),
            ("snapshot", "ibm_lopback", "--backend", "device"),
        ):
            done = _call(*words)
            assert (done.exit_code, told in done.stderr) == (2, True), (words, done.stderr)
            assert "did you mean 'ibm_loopback'" in done.stderr
            assert BUDGET not in os.environ
        asked = len(service.requests)
        monkeypatch.delenv(TRUSTED)
        _write(tmp_path, "device: ibm_fez", OWN.replace("budget_seconds: 50.0", address))
        for words in (("estimate", "study.yaml"), ("run", "study.yaml", "--budget", "5")):
            done = _call(*words)
            assert done.exit_code == 2, done.output
            assert "study.yaml:8:12: backends.mine: an address that a file names" in done.stderr
            assert BUDGET not in os.environ
        assert len(service.requests) == asked


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_asked(answer: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_kd.experiment.loading import load
    from qiskit_kd.experiment.spending import allowing, unasked

    monkeypatch.chdir(tmp_path)
    _write(tmp_path, "device: ibm_fez", OWN)
    config, questions = load("study.yaml"), []

    def ask(question: str) -> bool:
        questions.append(question)
        return answer

    with allowing(config, None, ask):
        assert unasked(config) == ({} if answer else {"mine": 50.0})
    with allowing(config, 7.0, ask):
        assert os.environ[BUDGET] == "7.0"
    assert questions == ["qkd: its files allow up to 50 s on 'mine'. Do you?"]
    assert BUDGET not in os.environ


def _flow(service: LoopbackService) -> str:
    return f"proxies: {{urls: {{http: 'http://127.0.0.1:{service.port}'}}}}"
