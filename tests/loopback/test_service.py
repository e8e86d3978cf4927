# SPDX-License-Identifier: Apache-2.0
"""The real, unpatched client against the loopback service: everything later tests rely on."""

from __future__ import annotations

import gc
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager
from qiskit_ibm_runtime import EstimatorV2, QiskitRuntimeService
from qiskit_ibm_runtime.api.exceptions import RequestsApiError
from qiskit_ibm_runtime.exceptions import IBMRuntimeError, RuntimeJobMaxTimeoutError
from qiskit_ibm_runtime.executor_estimator import Estimator
from qiskit_ibm_runtime.executor_sampler import Sampler

from tests.loopback import LoopbackService
from tests.loopback.devices import Snapshot, circuit_seconds
from tests.loopback.simulator import Unsupported, shots_of

ANGLES = np.array([[0.0], [np.pi / 2], [np.pi]])
ROOT = Path(__file__).parents[2]


class User:
    """Somebody with an account: service, device and a measured circuit for it."""

    def __init__(self, server: LoopbackService) -> None:
        self.server = server
        self.service = QiskitRuntimeService(**server.client_options())
        self.backend = self.service.backend(server.name)
        self.bare = QuantumCircuit(2)
        self.bare.ry(Parameter("a"), 0)
        self.bare.cx(0, 1)
        self.isa = self.transpiled(self.bare.measure_all(inplace=False))

    def transpiled(self, circuit: QuantumCircuit) -> QuantumCircuit:
        return generate_preset_pass_manager(2, self.backend, seed_transpiler=1).run(circuit)

    def submit(self, *tags: str, values=ANGLES, shots: int = 200, mode=None, **options):
        sampler = Sampler(mode=self.backend if mode is None else mode)
        if tags:
            sampler.options.environment.job_tags = list(tags)
        for name, value in options.items():
            setattr(sampler.options, name, value)
        return sampler.run([(self.isa, values)], shots=shots)


def bits(job) -> np.ndarray:
    return job.result()[0].data.meas.array


@pytest.fixture
def server() -> Iterator[LoopbackService]:
    with LoopbackService() as service:
        yield service


@pytest.fixture
def user(server: LoopbackService) -> User:
    return User(server)


def test_sampler_job_counts_and_retrieval(user):
    job = user.submit("run-1", "qkd")
    first = job.result()[0].data.meas
    p = np.array([first.get_counts(k).get("11", 0) for k in range(3)]) / 200
    assert p[0] == 0
    assert p[2] == 1
    assert 0.3 < p[1] < 0.7
    again = User(user.server).service
    assert np.array_equal(bits(again.job(job.job_id())), first.array)
    assert [j.job_id() for j in again.jobs(job_tags=["run-1"])] == [job.job_id()]
    assert not again.jobs(job_tags=["run-2"])
    server = user.server
    assert (server.submitted, server.pubs, server.executions) == (1, 1, 600)
    assert list(server.ran.values()) == [1]
    assert server.posts() == 1
    assert job.usage() == pytest.approx(
        2 + 600 * (250e-6 + circuit_seconds(user.isa, server.devices[server.name]))
    )
    assert user.service.usage()["usage_remaining_seconds"] == pytest.approx(600 - job.usage())


def test_shots_are_a_function_of_content_and_tag(user):
    first = bits(user.submit("a"))
    bits(user.submit("b", values=ANGLES + 1))  # something else in between
    assert np.array_equal(bits(user.submit("a")), first)
    assert not np.array_equal(bits(user.submit("b")), first)
    assert max(user.server.ran.values()) == user.server.most_runs() == 2
    # A new service, client and circuit, so new random numbers in the circuit's file.
    with LoopbackService() as other:
        assert np.array_equal(bits(User(other).submit("a")), first)
    assert {c for _, c in other.ran} < {c for _, c in user.server.ran}


@pytest.mark.parametrize("level", [0, 1])
def test_estimator(user, level):
    isa = user.transpiled(user.bare)
    operators = [[SparsePauliOp(p).apply_layout(isa.layout)] for p in ("ZZ", "XX", "ZI")]
    estimator = Estimator(mode=user.backend)
    estimator.options.resilience_level = level
    values = np.array([[0.0], [np.pi / 2]])
    found = estimator.run([(isa, operators, values)], precision=0.03).result()[0].data.evs
    assert np.allclose(found, [[1, 1], [0, 1], [1, 0]], atol=0.15)
    assert user.server.submitted == 1


def test_older_estimator(user):
    isa = user.transpiled(user.bare)
    with pytest.warns(DeprecationWarning, match="EstimatorV2 class is deprecated"):
        estimator = EstimatorV2(mode=user.backend)
    operator = SparsePauliOp(["ZZ", "XX"], [1.0, 0.5]).apply_layout(isa.layout)
    data = estimator.run([(isa, operator, ANGLES)], precision=0.02).result()[0].data
    assert np.allclose(data.evs, [1, 1.5, 1], atol=0.1)
    assert np.allclose(data.stds, 0.02)


def test_accepted_and_then_503_leaves_a_twin(user):
    user.server.hold()
    user.server.accept_then(503)
    job = user.submit("twin")  # the client posts again by itself and notices nothing
    assert (user.server.posts(), user.server.submitted) == (2, 2)
    twins = [j for j in user.service.jobs(job_tags=["twin"]) if j.job_id() != job.job_id()]
    assert len(twins) == 1
    twins[0].cancel()
    user.server.release()
    assert job.result()
    assert user.server.most_runs() == 1
    assert user.server.cancelled_before_running == 1


def test_accepted_and_the_answer_lost(user):
    user.server.hold()
    user.server.accept_then(0)
    job = user.submit("cut")  # a connection cut by a proxy is tried again as well
    assert (user.server.posts(), user.server.submitted) == (2, 2)
    assert len(user.service.jobs(job_tags=["cut"])) == 2
    assert job.status() == "QUEUED"
    user.server.accept_then(429)
    with pytest.raises(IBMRuntimeError, match="Failed to run program"):
        user.submit("lost")  # accepted, and nobody on this side knows
    assert user.server.submitted == 3
    assert len(user.service.jobs(job_tags=["lost"])) == 1


def test_an_answer_can_be_late(user):
    user.server.stall("POST", "*/jobs", 0.3)
    start = time.monotonic()
    assert user.submit().result()
    assert time.monotonic() - start >= 0.3
    user.server.stall("GET", "*", 60)
    with closing(http.client.HTTPConnection("127.0.0.1", user.server.port)) as connection:
        connection.request("GET", "/api/v1/backends")
        assert user.server.pause(0.2) is False
        user.server.stop()  # does not wait for what is stalled: the connection is cut
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()


def test_ends_wait_for_their_turn(user):
    user.server.end_next(after=1)
    user.server.time_out_next()
    jobs = [user.submit(str(k)) for k in range(4)]
    assert [job.status() for job in jobs] == ["DONE", "ERROR", "ERROR", "DONE"]
    assert len(user.server.ran) == 2
    assert len(user.server.begun) == 4
    assert json.loads(json.dumps(user.server.counters()))["submitted"] == 4


def test_several_devices():
    devices = {"ibm_wide": "fake_torino", "ibm_narrow": "fake_lagos"}
    with LoopbackService(devices=devices) as server:
        service = QiskitRuntimeService(**server.client_options())
        assert {b.name: b.num_qubits for b in service.backends()} == {
            "ibm_wide": 133,
            "ibm_narrow": 7,
        }
        server.devices["ibm_wide"].queue_length = 5
        # A client keeps the list that it has read once.
        assert service.least_busy().name == "ibm_wide"
        again = QiskitRuntimeService(**server.client_options())
        assert again.least_busy().name == "ibm_narrow"
        server.devices["ibm_narrow"].status = "maintenance"
        assert service.backend("ibm_narrow").status().status_msg == "maintenance"
        again = QiskitRuntimeService(**server.client_options())
        assert again.least_busy().name == "ibm_wide"


def test_longest_time_of_a_job(user):
    job = user.submit(shots=20_000, max_execution_time=5)  # 60,000 executions take 17 s
    with pytest.raises(RuntimeJobMaxTimeoutError, match="ran too long"):
        job.result()
    assert job.usage() == 5


def test_many_jobs_in_order(user):
    user.server.hold()
    jobs = [user.submit("many", f"n{k}", values=ANGLES + k / 10, shots=50) for k in range(12)]
    user.server.release()
    user.server.wait_idle()
    found = user.service.jobs(limit=None, job_tags=["many"])
    assert [j.job_id() for j in found] == [j.job_id() for j in jobs][::-1]
    assert {j.status() for j in found} == {"DONE"}
    assert len(user.service.jobs(limit=5, skip=2, pending=False)) == 5
    assert user.service.jobs(limit=1, descending=False)[0].job_id() == jobs[0].job_id()
    started = [user.server.jobs[j.job_id()].running for j in jobs]
    assert started == sorted(started)


@pytest.mark.slow
def test_own_process_with_commands(tmp_path):
    command = [sys.executable, "-m", "tests.loopback", "--quota", "50"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        hello = json.loads(process.stdout.readline())

        def tell(text: str) -> dict:
            process.stdin.write(text + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        with pytest.MonkeyPatch.context() as patch:
            for name, value in hello["environment"].items():
                patch.setenv(name, value)
            address = {k: hello["backend"][k] for k in ("url", "proxies", "instance", "channel")}
            service = QiskitRuntimeService(token=os.environ["QISKIT_IBM_TOKEN"], **address)
            assert service.usage()["usage_remaining_seconds"] == 50
            tell('fault {"method": "GET", "path": "*/usage", "status": 403}')
            with pytest.raises(RequestsApiError):
                service.usage()
            tell("quota 7")
            assert service.usage()["usage_remaining_seconds"] == 7
        assert tell("counters")["submitted"] == 0
        assert tell("nonsense") == {"unknown": "nonsense"}
        process.stdin.close()
        assert json.loads(process.stdout.readline())["quota"] == 7
        assert process.wait(timeout=10) == 0


def test_nothing_is_left_behind(monkeypatch):
    monkeypatch.setenv("IAM_URL", "http://elsewhere.test")
    before = {*threading.enumerate()}
    server = LoopbackService().start()
    assert User(server).submit().result()
    server.hold()
    User(server).submit()  # still queued
    server.stop()
    server.stop()  # again is no harm
    gc.collect()
    assert {*threading.enumerate()} <= before
    assert os.environ["IAM_URL"] == "http://elsewhere.test"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda c: (c.measure(0, 0), c.x(0)), "gates after a measurement"),
        (lambda c: (c.x(0), c.reset(0)), "reset after a gate"),
        (lambda c: [c.cx(k, k + 1) for k in range(15)], "16 qubits hang together"),
        (lambda c: c.if_test((c.clbits[0], 1), QuantumCircuit(1), [0], []), "if_else"),
    ],
)
def test_circuits_that_are_not_imitated(build, message):
    circuit = QuantumCircuit(16, 1)
    build(circuit)
    with pytest.raises(Unsupported, match=message):
        shots_of(circuit, np.zeros((1, 0)), 1, np.random.default_rng(0))


def test_duration_of_a_circuit():
    device = Snapshot("ibm_loopback", "fake_lagos")
    circuit = QuantumCircuit(7, 1)
    circuit.x(0)
    circuit.cx(0, 1)
    circuit.x(1)
    circuit.sx(5)
    circuit.measure(1, 0)
    known = device.durations
    parts = [("x", (0,)), ("cx", (0, 1)), ("x", (1,)), ("measure", (1,))]
    assert circuit_seconds(circuit, device) == pytest.approx(sum(known[p] for p in parts))
    assert 1e-7 < circuit_seconds(circuit, device) < 1e-5
    with pytest.raises(ValueError, match="no fake device 'fake_nowhere'"):
        Snapshot("x", "fake_nowhere")
