# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import Parameter
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import SparsePauliOp

from qiskit_kd.errors import DeviceError, JobError
from qiskit_kd.execution.runtime.client import Client, Request
from qiskit_kd.execution.runtime.cost import cost_of_pubs
from qiskit_kd.execution.runtime.local_client import LocalClient
from qiskit_kd.execution.runtime.service_client import open_client
from qiskit_kd.execution.schema import RuntimeOptions


def client(device: str = "fake_lagos", **more: object) -> Client:
    return open_client(RuntimeOptions.model_validate({"kind": "runtime", "device": device, **more}))


def circuit(sender: Client) -> QuantumCircuit:
    angle, plain = Parameter("a"), QuantumCircuit(2)
    plain.ry(angle, 0)
    plain.cx(0, 1)
    plain.measure_all()
    passes = generate_preset_pass_manager(1, target=sender.device.target, seed_transpiler=0)
    return passes.run(plain)


def request(sender: Client, tag: str = "one", *, shots: int | None = 400) -> Request:
    pub = SamplerPub.coerce((circuit(sender), [[0.0], [np.pi]]), shots)
    return Request("sampler", (pub,), shots, None, tag)


@pytest.mark.parametrize("device", ["fake_lagos", "aer"])
def test_a_job_runs_as_it_is_submitted(device: str) -> None:
    sender = client(device)
    assert isinstance(sender, LocalClient)
    assert sender.local
    job = request(sender)
    job_id = sender.submit(job)
    (result,) = sender.result(job_id, timeout=1.0)
    bits = result.data.meas
    assert (bits.shape, bits.num_shots) == ((2,), 400)
    counts = [bits[k].get_int_counts() for k in range(2)]
    noise = 0 if device == "aer" else 0.45  # it reads badly
    assert counts[0].get(0, 0) >= 400 * (1 - noise)
    assert counts[1].get(3, 0) >= 400 * (1 - noise)
    state = sender.state(job_id)
    assert (state.status, state.reason) == ("done", "")
    expected = cost_of_pubs(job.pubs, target=sender.device.target, shots=400).seconds
    assert state.seconds == pytest.approx(expected)
    assert sender.find("one") == [state]
    assert sender.find("two") == []
    assert sender.pubs_of(job_id) == "one"
    sender.cancel(job_id)
    sender.close()
    assert sender.state(job_id) == state
    assert sender.remaining_seconds() is None
    assert repr(sender) == f"LocalClient({device!r})"


def test_shots_follow_seed_and_tag_and_the_delay_is_charged() -> None:
    def bits(tag: str, **more: object) -> np.ndarray:
        sender = client(**more)
        array: np.ndarray = sender.result(sender.submit(request(sender, tag)))[0].data.meas.array
        return array

    np.testing.assert_array_equal(bits("a"), bits("a"))
    np.testing.assert_array_equal(bits("a"), bits("a", rep_delay=1e-4))
    assert (bits("a") != bits("b")).any()
    assert (bits("a") != bits("a", seed=1)).any()
    slow, fast = client(), client(rep_delay=1e-4)
    seconds = [c.state(c.submit(request(c))).seconds for c in (slow, fast)]
    assert seconds[0] - seconds[1] == pytest.approx(800 * (250e-6 - 1e-4))


def test_no_delay_is_a_delay_too() -> None:
    sender = client(rep_delay=0.0)
    job = request(sender)
    expected = cost_of_pubs(job.pubs, target=sender.device.target, rep_delay=0.0).seconds
    assert sender.state(sender.submit(job)).seconds == pytest.approx(expected)
    assert expected < 2.1


def test_shots_of_the_entry_count_where_a_job_names_none() -> None:
    sender = client(shots=7)
    assert sender.result(sender.submit(request(sender, shots=None)))[0].data.meas.num_shots == 7


def test_expectation_values() -> None:
    sender = client()
    isa = circuit(sender).remove_final_measurements(inplace=False)
    operator = SparsePauliOp("IZ").apply_layout(isa.layout)
    pub = EstimatorPub.coerce((isa, operator, [[0.0], [np.pi]]), 0.05)
    found = sender.result(sender.submit(Request("estimator", (pub,), None, 0.05, "e")))
    np.testing.assert_allclose(found[0].data.evs, [1, -1], atol=0.3)


def test_what_the_device_could_not_run_does_not_run_here() -> None:
    sender = client()
    plain = QuantumCircuit(2)
    plain.h(0)
    plain.measure_all()
    with pytest.raises(DeviceError, match="circuits consist of gates that the device has"):
        sender.submit(Request("sampler", (SamplerPub.coerce(plain, 10),), 10, None, "wrong"))
    assert sender.find("wrong") == []


def test_a_job_of_an_earlier_process_has_failed_and_can_be_sent_again() -> None:
    job_id = client().submit(request(client(), "early"))
    later = client()
    state = later.state(job_id)
    assert (state.status, state.reason) == ("failed", "it ended with the process that ran it")
    assert later.find("early") == []
    assert later.pubs_of(job_id) == "early"
    with pytest.raises(JobError, match=f"the job {job_id} was run in this process; got a job of "
                       "another process. Run the same command again") as caught:  # fmt: skip
        later.result(job_id)
    assert caught.value.job_id == job_id
    assert later.pubs_of("d123") is None  # of the service
