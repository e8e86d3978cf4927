# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import RZZGate
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.providers.exceptions import QiskitBackendNotFoundError
from qiskit.transpiler import Target
from qiskit_ibm_runtime import QiskitRuntimeService

from qiskit_kd.errors import AccountError, DeviceError, TransientError
from qiskit_kd.execution.noise_sources import fake_device
from qiskit_kd.execution.runtime import device as module
from qiskit_kd.execution.runtime.device import DEFAULT_REP_DELAY, Device, open_device
from qiskit_kd.execution.runtime.local import LocalClient
from qiskit_kd.execution.runtime.session import open_client
from qiskit_kd.execution.schema import RuntimeOptions
from tests.loopback import LoopbackService


def options(**settings: Any) -> RuntimeOptions:
    return RuntimeOptions.model_validate({"kind": "runtime", **settings})


def at(server: LoopbackService, **more: Any) -> RuntimeOptions:
    return options(**server.runtime_options(**more))


@pytest.mark.parametrize(
    ("name", "qubits", "calibrated"),
    [("fake_torino", 133, "2025-02-26"), ("fake_lagos", 7, "20"), ("aer", 1, None)],
)
def test_devices_of_this_machine(name, qubits, calibrated, no_account) -> None:
    device = open_device(options(device=name))
    assert device.name == name
    assert device.local
    assert device.service is None
    assert device.num_qubits >= qubits
    assert device.target.num_qubits == device.num_qubits
    assert device.rep_delay == pytest.approx(250e-6)
    assert (device.calibrated or "").startswith(calibrated or "")
    assert (device.calibrated is None) is (calibrated is None)
    assert repr(device) == f"Device(name={name!r}, local=True)"


def test_an_unknown_fake_suggests_the_nearest() -> None:
    with pytest.raises(
        DeviceError,
        match=r"unknown fake device; got 'fake_torin'. did you mean "
        r"'fake_torino'\? known: ",
    ):
        open_device(options(device="fake_torin"))


def test_a_device_is_opened_once_for_all_entries_that_need_the_same() -> None:
    first = open_device(options(device="fake_lagos"))
    assert open_device(options(device="fake_lagos", shots=5, rep_delay=1e-4)) is first
    assert open_device(options(device="fake_jakarta")) is not first


@pytest.mark.parametrize("wanted", [False, True])
def test_a_fake_has_fractional_gates_only_where_they_are_asked_for(wanted: bool) -> None:
    device = open_device(options(device="fake_fractional", fractional_gates=wanted))
    names = set(device.target.operation_names)
    assert ({"rx", "rzz"} <= names) == wanted
    assert bool({"rx", "rzz"} & names) == wanted
    assert {"cx", "rz", "sx", "x", "if_else"} <= names
    whole = fake_device("fake_fractional").target
    assert device.target.qubit_properties[1].t1 == whole.qubit_properties[1].t1
    assert device.target["cx"][0, 1].error == whole["cx"][0, 1].error


def test_a_wide_circuit_is_refused() -> None:
    device = open_device(options(device="fake_lagos"))
    device.check_width(7)
    with pytest.raises(
        DeviceError,
        match=r"a circuit is no wider than the device; got 8 qubits; "
        "expected at most the 7 of 'fake_lagos'. Use fewer qubits",
    ):
        device.check_width(8)


def test_a_device_that_says_little() -> None:
    bare = Device("bare", type("Bare", (), {})(), None, True)  # type: ignore[arg-type]
    assert bare.rep_delay == DEFAULT_REP_DELAY
    assert bare.rep_delay_range is None
    assert bare.calibrated is None


def test_a_device_of_the_service(loopback) -> None:
    device = open_device(at(loopback))
    assert (device.name, device.num_qubits, device.local) == ("ibm_loopback", 7, False)
    assert device.rep_delay == pytest.approx(250e-6)
    assert device.rep_delay_range == (0.0, pytest.approx(500e-6))
    assert device.calibrated is not None
    asked = len(loopback.requests)
    assert open_device(at(loopback, shots=3)) is device
    assert len(loopback.requests) == asked


def test_the_least_busy_one_is_called_by_its_name(loopback) -> None:
    device = open_device(at(loopback, device="least_busy"))
    assert device.name == "ibm_loopback"


def test_without_an_instance_the_one_that_has_the_device_is_taken(loopback, monkeypatch) -> None:
    monkeypatch.delenv("QISKIT_IBM_INSTANCE")
    device = open_device(at(loopback, instance=None))
    assert device.service.active_instance() == loopback.client_options()["instance"]


@pytest.mark.parametrize("name", ["ibm_loopback", "least_busy", "ibm_none"])
def test_with_several_instances_one_is_asked_and_charged(loopback, monkeypatch, name) -> None:
    """The library goes on to ask all instances, and may come back with another one active."""
    crn = loopback.client_options()["instance"]
    known = QiskitRuntimeService.instances
    monkeypatch.setattr(QiskitRuntimeService, "instances", lambda self: [*known(self)] * 2)
    if name == "ibm_none":
        with pytest.raises(DeviceError, match="got 'ibm_none'"):
            open_device(at(loopback, instance=None, device=name))
        return
    device = open_device(at(loopback, instance=None, device=name))
    assert device.service._account.instance == crn


def test_an_unknown_device_lists_the_account_s(loopback) -> None:
    with pytest.raises(
        DeviceError,
        match="a device is one of the account's; got 'ibm_loopbck'. "
        r"did you mean 'ibm_loopback'\? known: ibm_loopback",
    ):
        open_device(at(loopback, device="ibm_loopbck"))
    with pytest.raises(DeviceError, match=r"got 'zzz'. known: ibm_loopback"):
        open_device(at(loopback, device="zzz"))


def test_no_device_online(loopback, monkeypatch) -> None:
    def none_online(self: Any, **kwargs: Any) -> Any:
        raise QiskitBackendNotFoundError("No backend matches the criteria.")

    monkeypatch.setattr(QiskitRuntimeService, "least_busy", none_online)
    with pytest.raises(
        DeviceError,
        match=r"least_busy chooses among the account's devices that "
        "are online; got none online of: ibm_loopback. Try later, or",
    ):
        open_device(at(loopback, device="least_busy"))


def test_no_account(no_account, monkeypatch) -> None:
    with pytest.raises(
        AccountError,
        match=r"a device of the service needs an account; got Unable "
        "to find account.* Save one with QiskitRuntimeService.save_account, or set "
        "QISKIT_IBM_TOKEN",
    ):
        open_device(options(device="ibm_fez"))
    with pytest.raises(
        AccountError,
        match="a device of the service needs an account; got Account "
        "with the name work does not exist",
    ):
        open_device(options(device="ibm_fez", account="work"))
    url = "https://cloud.ibm.test"
    monkeypatch.setenv("QKD_TRUSTED_URLS", url)
    with pytest.raises(AccountError, match="needs an account; got Unable to find account"):
        open_device(options(device="ibm_fez", url=url))
    with pytest.raises(AccountError, match="needs an account; got Account with the name work"):
        open_device(options(device="ibm_fez", url=url, account="work"))


def test_a_wrong_token(loopback, monkeypatch) -> None:
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "a-wrong-token-of-some-length-1")
    with pytest.raises(
        AccountError,
        match=r"the service does not accept the account; got Unable "
        "to retrieve instances.*Check the API key",
    ) as caught:
        open_device(at(loopback))
    assert "a-wrong-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("instance", "got"),
    [
        ("crn:v1:bluemix:public:quantum-computing:eu-de:a/other:0::", "does not have access to"),
        ("elsewhere", "is not a valid instance name"),
    ],
)
def test_an_unknown_instance(loopback, instance, got) -> None:
    with pytest.raises(
        AccountError,
        match=f"an instance is one of the account's; got .*{got}.*"
        "Check 'instance' in the backend file",
    ):
        open_device(at(loopback, instance=instance))


def test_a_service_that_is_down_is_not_a_wrong_token_or_an_unknown_device(loopback) -> None:
    with loopback.down(), pytest.raises(TransientError, match="cannot be reached or is down"):
        open_device(at(loopback))


def test_a_service_that_goes_down_meanwhile_is_not_an_unknown_device(loopback, monkeypatch) -> None:
    """The library finds no device, whatever went wrong; the usage of the account tells."""
    loopback.inject("GET", "*/backends", 404, times=9)
    loopback.inject("GET", "*/usage", 429, times=9)
    with pytest.raises(TransientError, match="the service asks for fewer requests"):
        open_device(at(loopback))


@pytest.mark.parametrize("account", ["work", None])
def test_a_saved_account(loopback, monkeypatch, account) -> None:
    monkeypatch.delenv("QISKIT_IBM_TOKEN")
    settings = loopback.client_options()
    QiskitRuntimeService.save_account(**{**settings, "token": "another-1"}, name="other")
    QiskitRuntimeService.save_account(**settings, name="work", set_as_default=True)
    assert open_device(at(loopback, account=account)).name == "ibm_loopback"  # with an address
    bare = options(device="ibm_loopback", account=account)
    assert open_device(bare).name == "ibm_loopback"  # with the account's own


def test_the_cache_knows_accounts_but_no_token(loopback, monkeypatch) -> None:
    entry = at(loopback)
    device = open_device(entry)
    assert open_device(entry) is device
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "a-wrong-token-of-some-length-2")
    with pytest.raises(AccountError):
        open_device(entry)
    assert loopback.api_key not in json.dumps([str(vars(module)), repr(device), str(device)])


@pytest.mark.slow
def test_loading_the_module_is_quick(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "import qiskit_kd.execution.runtime.client\n"
        "print('qiskit_ibm_runtime' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


def test_what_runs_here_needs_no_service(no_account) -> None:
    client = open_client(RuntimeOptions(kind="runtime", device="fake_lagos"))
    assert isinstance(client, LocalClient)
    assert client.local


@pytest.mark.parametrize("rep_delay", [0.0, 1e-4, 5e-4, 6e-4])
def test_rep_delay_lies_in_the_device_s_range(rep_delay: float) -> None:
    entry = RuntimeOptions(kind="runtime", device="fake_lagos", rep_delay=rep_delay)
    if rep_delay <= 5e-4:
        open_client(entry)
        return
    with pytest.raises(
        DeviceError,
        match=r"rep_delay lies in the range of the device; got 0.0006 "
        "s; expected 0 to 0.0005 s on 'fake_lagos'",
    ):
        open_client(entry)


@pytest.mark.parametrize(("angle", "fits"), [(0.0, True), (1.5, True), (-0.1, False), (1.6, False)])
def test_rzz_angles_stay_in_range(angle, fits) -> None:
    target = Target(num_qubits=2)
    target.add_instruction(RZZGate(Parameter("t")), {(0, 1): None})
    device = Device("d", type("B", (), {"target": target, "num_qubits": 2})(), None, False)
    theta, plain = Parameter("theta"), QuantumCircuit(2)
    plain.rzz(theta, 0, 1)
    pub = SamplerPub.coerce((plain, [[0.2], [angle]]), 1)
    if fits:
        device.check_pubs([pub])
        return
    with pytest.raises(
        DeviceError,
        match=r"an RZZ gate of a device turns by 0 to pi/2; got .*rzz "
        r".*Leave fractional_gates false while training",
    ):
        device.check_pubs([pub])
