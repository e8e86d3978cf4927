# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import RZZGate
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.transpiler import Target

from qiskit_kd.errors import DeviceError
from qiskit_kd.execution.runtime.client import JobState, Request, check_request
from qiskit_kd.execution.runtime.device import Device
from qiskit_kd.execution.runtime.local_client import LocalClient
from qiskit_kd.execution.runtime.service_client import open_client
from qiskit_kd.execution.schema import RuntimeOptions


def test_states_are_plain_values() -> None:
    assert JobState("d1", "done") == JobState("d1", "done", "", None)


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
    with pytest.raises(DeviceError, match=r"rep_delay lies in the range of the device; got 0.0006 "
                       "s; expected 0 to 0.0005 s on 'fake_lagos'"):  # fmt: skip
        open_client(entry)


@pytest.mark.parametrize(("angle", "fits"), [(0.0, True), (1.5, True), (-0.1, False), (1.6, False)])
def test_rzz_angles_stay_in_range(angle, fits) -> None:
    target = Target(num_qubits=2)
    target.add_instruction(RZZGate(Parameter("t")), {(0, 1): None})
    device = Device("d", type("B", (), {"target": target, "num_qubits": 2})(), None, False)
    theta, plain = Parameter("theta"), QuantumCircuit(2)
    plain.rzz(theta, 0, 1)
    pub = SamplerPub.coerce((plain, [[0.2], [angle]]), 1)
    job = Request("sampler", (pub,), 1, None, "rzz")
    if fits:
        check_request(job, device)
        return
    with pytest.raises(DeviceError, match=r"an RZZ gate of a device turns by 0 to pi/2; got .*rzz "
                       r".*Leave fractional_gates false while training"):  # fmt: skip
        check_request(job, device)
