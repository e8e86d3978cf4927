# SPDX-License-Identifier: Apache-2.0
"""The real client of the service, unpatched, over loopback."""

from __future__ import annotations

import gc
import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import Parameter
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import Target
from qiskit_ibm_runtime import RuntimeJobV2

from qiskit_kd.errors import (
    AccountError,
    DeviceError,
    ExecutionError,
    JobError,
    QiskitKDError,
    QuotaError,
    TransientError,
)
from qiskit_kd.execution.runtime.client import Job
from qiskit_kd.execution.runtime.device import Device
from qiskit_kd.execution.runtime.service import RuntimeClient, configure, make_primitive
from qiskit_kd.execution.runtime.session import open_client
from qiskit_kd.execution.schema import RuntimeOptions
from tests.loopback import LoopbackService

TOKEN = "SLfP3xKqzV0WmYbNcRtH8JdAoEuG5iMv_9s-XlQyZw2T"


@pytest.fixture(scope="module")
def running() -> Iterator[LoopbackService]:
    with LoopbackService(api_key=TOKEN) as server:
        yield server


@pytest.fixture
def server(running, monkeypatch) -> Iterator[LoopbackService]:
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    yield running
    running.faults.clear()
    running.outcomes.clear()
    running.release()
    running.set_quota(600)
    running.queue_seconds = 0.0
    running.wait_idle()


def options(server: LoopbackService, **more: Any) -> RuntimeOptions:
    return RuntimeOptions.model_validate({"kind": "runtime", **server.runtime_options(**more)})


def client(server: LoopbackService, **more: Any) -> RuntimeClient:
    found = open_client(options(server, **more))
    assert isinstance(found, RuntimeClient)
    return found


def circuit(target: Target) -> QuantumCircuit:
    angle, plain = Parameter("a"), QuantumCircuit(2)
    plain.ry(angle, 0)
    plain.cx(0, 1)
    plain.measure_all()
    return generate_preset_pass_manager(1, target=target, seed_transpiler=0).run(plain)


def request(device: Device, *, tag: str, shots: int = 200, **more: Any) -> Job:
    pub = SamplerPub.coerce((circuit(device.target), [[0.0], [np.pi]]), shots)
    return Job(tag, "sampler", (pub,), **more)


def test_a_job_from_submission_to_result(server) -> None:
    sender = client(server, tags=["mine"])
    posts = server.posts()
    job_id = sender.submit(request(sender.device, tag="whole"))
    assert server.posts() == posts + 1
    assert server.jobs[job_id].tags == ("qkd-whole", "mine")
    (result,) = sender.result(job_id)
    bits = result.data.meas
    assert (bits.shape, bits.num_shots, bits.num_bits) == ((2,), 200, 2)
    state = sender.state(job_id)
    assert (state.status, state.reason) == ("done", "")
    assert state.seconds == pytest.approx(server.jobs[job_id].seconds)
    assert sender.find("whole") == [state]
    assert sender.find("who") == []
    assert sender.tag_of(job_id) == "whole"
    other = client(server)  # of another process, as it were
    np.testing.assert_array_equal(other.result(job_id)[0].data.meas.array, bits.array)
    left = sender.remaining_seconds()
    assert left is not None
    assert left < 600
    sender.close()
    assert repr(sender) == "RuntimeClient('ibm_loopback', mode='job')"
    assert "Service" not in repr(sender.device)


def test_looking_at_a_job_costs_one_request(server) -> None:
    sender = client(server)
    server.hold()
    job_id = sender.submit(request(sender.device, tag="polled"))
    before = len(server.requests)
    for _ in range(3):
        assert sender.state(job_id).status == "queued"
    assert len(server.requests) == before + 3


def test_expectation_values_come_back_too(server) -> None:
    sender = client(server, resilience_level=0)
    isa = circuit(sender.device.target).remove_final_measurements(inplace=False)
    operator = SparsePauliOp("ZZ").apply_layout(isa.layout)
    pub = EstimatorPub.coerce((isa, operator, [[0.0], [np.pi]]), 0.1)
    job_id = sender.submit(Job("estimate", "estimator", (pub,)))
    assert sender.result(job_id)[0].data.evs.shape == (2,)


def test_twins_are_listed_newest_first(server) -> None:
    sender = client(server)
    server.hold()
    job = request(sender.device, tag="twin")
    first, second = sender.submit(job), sender.submit(job)
    states = sender.find("twin")
    assert {s.status for s in states} == {"queued"}
    assert [s.job_id for s in states] == [second, first]
    sender.cancel(first)
    assert sender.state(first).status == "cancelled"
    server.release()
    server.wait_idle()
    sender.cancel(second)  # too late: it has ended, and that is no error
    assert sender.state(second).status == "done"
    with pytest.raises(JobError, match=f"the job {first} was cancelled; got Unable to") as caught:
        sender.result(first)
    assert caught.value.job_id == first


@pytest.mark.parametrize(("mode", "kind"), [("batch", "batch"), ("session", "dedicated")])
def test_a_batch_or_session_is_opened_once_and_closed(server, mode, kind) -> None:
    sender = client(server, mode=mode)
    before = set(server.sessions)
    jobs = [sender.submit(request(sender.device, tag=f"{mode}{k}")) for k in range(2)]
    (opened,) = set(server.sessions) - before
    assert server.sessions[opened]["mode"] == kind
    assert {server.jobs[job].request["session_id"] for job in jobs} == {opened}
    sender.close()
    assert not server.sessions[opened]["accepting_jobs"]
    job_id = sender.submit(request(sender.device, tag=f"{mode} again"))
    assert server.jobs[job_id].request["session_id"] not in (None, opened)
    again = server.jobs[job_id].request["session_id"]
    del sender
    gc.collect()  # the library inspects the stack, and so keeps its callers alive for a while
    assert not server.sessions[again]["accepting_jobs"]


def test_a_batch_that_the_service_closed_is_opened_anew(server) -> None:
    sender = client(server, mode="batch")
    before = set(server.sessions)
    sender.submit(request(sender.device, tag="before"))
    (opened,) = set(server.sessions) - before
    server.sessions[opened]["accepting_jobs"] = False
    with pytest.raises(TransientError, match="the batch is open for as long as jobs are sent; got"):
        sender.submit(request(sender.device, tag="after"))
    job_id = sender.submit(request(sender.device, tag="after"))
    assert server.jobs[job_id].request["session_id"] != opened


SETTINGS = {
    "max_execution_time": 77,
    "rep_delay": 1e-4,
    "dynamical_decoupling": "XY4",
    "twirling": {"gates": True, "measure": True, "num_randomizations": 4},
    "tags": ["mine"],
    "resilience_level": 2,
}


@pytest.mark.parametrize("kind", ["sampler", "estimator"])
@pytest.mark.parametrize("generation", ["new", "old"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_settings_reach_the_options_of_both_generations(kind, generation, monkeypatch) -> None:
    if generation == "old":
        for name in ("executor_sampler", "executor_estimator"):
            monkeypatch.setitem(sys.modules, f"qiskit_ibm_runtime.{name}", None)
    backend = open_client(RuntimeOptions(kind="runtime", device="fake_lagos")).device.backend
    primitive, untouched = make_primitive(kind, backend), make_primitive(kind, backend)
    assert type(primitive).__name__ == (
        kind.capitalize() if generation == "new" else f"{kind.capitalize()}V2"
    )
    entry = RuntimeOptions.model_validate({"kind": "runtime", "device": "x", **SETTINGS})
    configure(primitive.options, entry, Job("one", kind, ()))
    found = primitive.options
    assert found.environment.job_tags == ["qkd-one", "mine"]
    assert found.max_execution_time == 77
    assert found.execution.rep_delay == 1e-4
    assert found.dynamical_decoupling.enable is True
    assert found.dynamical_decoupling.sequence_type == "XY4"
    twirling = found.twirling
    assert (twirling.enable_gates, twirling.enable_measure) == (True, True)
    assert twirling.num_randomizations == 4
    if kind == "estimator":
        assert found.resilience_level == 2
    plain = make_primitive(kind, backend)
    bare = RuntimeOptions(kind="runtime", device="x")
    configure(plain.options, bare, Job("one", kind, ()))
    assert plain.options.environment.job_tags == ["qkd-one"]
    plain.options.environment.job_tags = untouched.options.environment.job_tags
    assert plain.options == untouched.options


def test_settings_reach_the_service(server) -> None:
    sender = client(
        server,
        rep_delay=1e-4,
        max_execution_time=77,
        tags=["mine"],
        twirling={"gates": True, "num_randomizations": 4},
    )
    job_id = sender.submit(request(sender.device, tag="settings", max_seconds=9))
    sent = server.jobs[job_id].request
    assert sent["cost"] == 77  # the entry's own, whatever the job asks for
    free = client(server)
    other = free.submit(request(free.device, tag="limited", max_seconds=61))
    assert server.jobs[other].request["cost"] == 61
    assert sent["tags"] == ["qkd-settings", "mine"]
    assert sent["params"]["options"]["rep_delay"] == 1e-4
    assert sender.result(job_id)[0].data.meas.num_shots == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_older_client_does_the_same(server, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "qiskit_ibm_runtime.executor_sampler", None)
    sender = client(server)
    job_id = sender.submit(request(sender.device, tag="old"))
    assert server.jobs[job_id].request["program_id"] == "sampler"
    assert sender.result(job_id)[0].data.meas.num_shots == 200
    assert sender.tag_of(job_id) == "old"


def test_what_the_device_cannot_run_is_not_sent(server) -> None:
    sender = client(server)
    device, before = sender.device, len(server.requests)
    wide = QuantumCircuit(9)
    wide.measure_all()
    foreign = QuantumCircuit(7)
    foreign.ccx(0, 3, 6)
    foreign.measure_all()
    for plain, text in [
        (
            wide,
            "a circuit is no wider than the device; got 9 qubits; expected at most the 7 of "
            "'ibm_loopback'. Use fewer qubits or a larger device.",
        ),
        (
            foreign,
            "circuits consist of gates that the device has, where it has them; got The "
            "instruction ccx on qubits (0, 3, 6) is not supported by the target system.; "
            "expected circuits for 'ibm_loopback'. Transpile them with the backend's own "
            "pass_manager().",
        ),
    ]:
        pub = SamplerPub.coerce(plain, 10)
        with pytest.raises(DeviceError) as caught:
            sender.submit(Job("wrong", "sampler", (pub,)))
        assert str(caught.value) == text
    assert len(server.requests) == before
    assert device.num_qubits == 7


def test_a_used_up_quota_stops_the_job_that_the_library_would_send(server) -> None:
    sender = client(server)
    server.set_quota(0)
    posts = server.posts()
    with pytest.raises(
        QuotaError,
        match=r"the instance has time left on devices; got none left "
        "for 'ibm_loopback'. Wait until the plan's period is over",
    ):
        sender.submit(request(sender.device, tag="poor"))
    assert server.posts() == posts
    assert sender.remaining_seconds() == 0


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (401, AccountError, "the service does not accept the account"),
        (403, AccountError, "the account may do this on this device"),
        (404, DeviceError, "the service runs the primitive on this device"),
        (429, TransientError, "the service asks for fewer requests"),
    ],
)
def test_refusals_of_a_submission(server, status, kind, text) -> None:
    sender = client(server)
    job = request(sender.device, tag=f"refused{status}")
    server.inject("POST", "*/jobs", status, headers={"Retry-After": "3"}, message=f"key {TOKEN}")
    with pytest.raises(kind, match=text) as caught:
        sender.submit(job)
    assert TOKEN not in str(caught.value)
    assert sender.find(job.tag) == []
    if status == 429:
        assert caught.value.retry_after == 3


@pytest.mark.parametrize("status", [500, 503, 0])
def test_a_job_is_posted_once(server, status) -> None:
    """The library would post it again after a 5xx; all that costs nothing it still asks again."""
    sender = client(server, tags=["mine"])
    posts, tag = server.posts(), f"once{status}"
    server.accept_then(status)
    with pytest.raises(TransientError, match="cannot be reached or is down"):
        sender.submit(request(sender.device, tag=tag))
    assert server.posts() == posts + 1
    server.inject("GET", "*/api/v1/jobs", 500)
    (state,) = sender.find(tag)
    server.inject("GET", "*/results", 500)
    assert len(sender.result(state.job_id)) == 1


def test_a_client_that_hides_how_it_posts(server, monkeypatch) -> None:
    sender, posts = client(server), server.posts()
    monkeypatch.setattr(type(sender._service), "_get_api_clients", None)
    monkeypatch.delattr(type(sender._service), "_get_api_client")
    with pytest.raises(ExecutionError, match=r"posted once; got .*; expected qiskit-ibm-run"):
        sender.submit(request(sender.device, tag="hidden"))
    assert server.posts() == posts


@pytest.mark.parametrize("status", [302, 307])
def test_no_redirection_carries_the_token_away(server, monkeypatch, status) -> None:
    sender, real, seen = client(server), server.answer, []

    def answer(method: str, path: str, *rest: Any, token: bool) -> tuple[int, Any]:
        if path != "/elsewhere":
            return real(method, path, *rest, token=token)
        seen.append(token)
        return 200, {}

    monkeypatch.setattr(server, "answer", answer)
    there = {"Location": "http://elsewhere.test/elsewhere"}
    server.inject("GET", "*/api/v1/jobs", status, headers=there)
    with pytest.raises(TransientError):
        sender.find("anything")
    server.inject("POST", "*/api/v1/jobs", status, headers=there)
    with pytest.raises(TransientError, match="redirection to another address"):
        sender.submit(request(sender.device, tag=f"moved{status}"))
    assert seen == [False]


def test_jobs_that_end_badly(server) -> None:
    sender = client(server)
    server.end_next("Failed", f"backend error for {TOKEN}", 1517)
    failed = sender.submit(request(sender.device, tag="failed"))
    state = sender.state(failed)
    assert state.status == "failed"
    assert "backend error" in state.reason
    assert TOKEN not in state.reason
    assert state.seconds == pytest.approx(1.0)
    with pytest.raises(JobError, match=f"the job {failed} failed on the device; got .*1517"):
        sender.result(failed)
    server.time_out_next()
    late = sender.submit(request(sender.device, tag="late"))
    assert sender.state(late).status == "failed"
    with pytest.raises(JobError, match=f"the job {late} ran longer than it may; got .*1305"):
        sender.result(late)


def test_waiting_ends_and_the_job_goes_on(server) -> None:
    sender = client(server)
    server.hold()
    job_id = sender.submit(request(sender.device, tag="slow"))
    with pytest.raises(TransientError, match=f"the job {job_id} has not ended yet; got Timed out"):
        sender.result(job_id, timeout=0.1)
    server.release()
    assert sender.result(job_id)


def test_a_result_that_is_not_there_yet(server, monkeypatch) -> None:
    sender = client(server)
    job_id = sender.submit(request(sender.device, tag="empty"))
    with monkeypatch.context() as patch:
        patch.setattr(RuntimeJobV2, "result", lambda *_, **__: None)
        with pytest.raises(
            TransientError,
            match=f"the job {job_id} has ended, and its result is "
            "there; got no result yet. Run the same command later",
        ):
            sender.result(job_id)
    assert sender.result(job_id)


@pytest.mark.parametrize("ask", ["state", "tag_of", "result", "cancel"])
def test_an_unknown_job_id(server, ask) -> None:
    with pytest.raises(
        JobError, match="the job d0 is one of the account's jobs; got Job not found"
    ):
        getattr(client(server), ask)("d0")


def test_a_job_that_others_sent_has_no_tag_of_ours(server) -> None:
    sender = client(server)
    from qiskit_ibm_runtime.executor_sampler import Sampler

    primitive = Sampler(mode=sender.device.backend)
    primitive.options.environment.job_tags = ["theirs"]
    job_id = primitive.run([(circuit(sender.device.target), [0.1])], shots=10).job_id()
    assert sender.tag_of(job_id) is None


def test_a_service_that_is_gone(server) -> None:
    sender = client(server)
    job_id = sender.submit(request(sender.device, tag="kept"))
    with server.down():
        down = "the service cannot be reached or is down"
        # The library takes this one for a device that does not exist.
        with pytest.raises(TransientError, match=down):
            sender.submit(request(sender.device, tag="lost"))
    assert sender.result(job_id)
    assert sender.find("lost") == []


def test_no_token_in_anything_that_is_shown(server, caplog) -> None:
    """All of it at the most talkative level of the log."""
    caplog.set_level(logging.DEBUG, logger="qiskit_kd")
    caplog.set_level(logging.DEBUG, logger="qiskit_ibm_runtime")
    shown = []
    sender = client(server)
    job_id = sender.submit(request(sender.device, tag="shown"))
    for status in (401, 403, 404, 413, 429):
        server.inject("POST", "*/jobs", status, message=f"your key {TOKEN}, Bearer {TOKEN}")
        try:
            sender.submit(request(sender.device, tag="shown"))
        except QiskitKDError as error:
            shown += [str(error), repr(error), traceback.format_exc()]
    assert len(shown) == 15
    shown += [repr(sender), repr(sender.device), repr(sender.state(job_id)), caplog.text]
    shown += [str(options(server).describe()), repr(options(server)), str(vars(sender.device))]
    assert not [each for each in shown if TOKEN in each]
