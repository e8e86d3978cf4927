# SPDX-License-Identifier: Apache-2.0
"""A service in memory with faults to order, and a journal whose owner can be killed anywhere."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Measure, Parameter
from qiskit.circuit.library import CXGate, RZGate, SXGate
from qiskit.primitives import BitArray, DataBin, PubResult
from qiskit.transpiler import InstructionProperties, Target

from qiskit_kd.errors import JobError, TransientError
from qiskit_kd.execution.runtime.client import Job, JobState


class Killed(BaseException):
    """The process dies here."""


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def options(**changes: Any) -> SimpleNamespace:
    given = {
        "budget_seconds": 600.0,
        "usd_per_second": None,
        "tags": (),
        "rep_delay": None,
        "dynamical_decoupling": None,
        "twirling": None,
        "resilience_level": None,
        "max_execution_time": None,
    }
    return SimpleNamespace(**{**given, **changes})


def target() -> Target:
    found = Target(num_qubits=2, dt=1e-9)
    wires = [(0,), (1,)]
    for gate, time in ((SXGate(), 50e-9), (RZGate(Parameter("a")), 0.0), (Measure(), 1e-6)):
        found.add_instruction(gate, dict.fromkeys(wires, InstructionProperties(time, 1e-3)))
    found.add_instruction(CXGate(), {(0, 1): InstructionProperties(300e-9, 1e-2)})
    return found


def circuit(name: str = "weight_0") -> QuantumCircuit:
    """A circuit of the target above; every call gives parameters of its own."""
    found = QuantumCircuit(2)
    found.sx(0)
    found.rz(Parameter(name), 0)
    found.sx(0)
    found.cx(0, 1)
    found.measure_all()
    return found


@dataclass
class Sent:
    """A job of the service."""

    job_id: str
    request: Job
    begins: float
    state: str = "queued"
    end: tuple[str, str] = ("done", "")
    reason: str = ""
    seconds: float | None = None


@dataclass
class Service:
    """Jobs begin `queue` seconds after they were accepted and take a second.

    Results are a function of the tag and the values, so that a disturbed run can be compared with
    an undisturbed one.
    """

    clock: Clock
    queue: float = 5.0
    jobs: dict[str, Sent] = field(default_factory=dict)
    ran: Counter = field(default_factory=Counter)
    remaining: float | None = 600.0
    ends: list[tuple[str, str]] = field(default_factory=list)
    """How the next jobs end, instead of well: (status, reason)."""
    down_until: float = 0.0

    def tick(self) -> None:
        for job in self.jobs.values():
            if job.state == "queued" and self.clock() >= job.begins:
                job.state = "running"
                if self.ends:
                    job.end = self.ends.pop(0)
                self.ran[job.request.tag] += job.end[0] == "done"
            if job.state == "running" and self.clock() >= job.begins + 1:
                job.state, job.reason = job.end
                job.seconds = 3.0 if job.state == "done" else 0.5

    def accept(self, request: Job) -> str:
        job_id = f"job-{len(self.jobs)}"
        self.jobs[job_id] = Sent(job_id, request, self.clock() + self.queue)
        return job_id


class Client:
    """A client of the service above.

    Args:
        service: The service.
        local: Whether it says that jobs run in this process.
    """

    def __init__(self, service: Service, *, local: bool = False) -> None:
        self.service, self.local = service, local
        self.device = SimpleNamespace(
            name="memory", target=target(), rep_delay=250e-6, local=local, account="mine"
        )
        self.faults: dict[str, list[Any]] = {}
        """What the next calls of a method do first: an exception, or a function."""
        self.lost: list[tuple[int, bool]] = []
        """How often the next jobs are posted, and whether the last post is answered well."""
        self.calls: Counter = Counter()

    def _call(self, name: str) -> None:
        self.calls[name] += 1
        self.service.tick()
        if self.service.clock() < self.service.down_until:
            raise TransientError("the service is down")
        queue = self.faults.get(name)
        if queue:
            fault = queue.pop(0)
            if isinstance(fault, BaseException):
                raise fault
            fault()

    def submit(self, request: Job) -> str:
        self._call("submit")
        if self.lost:  # accepted, and answered with 503; the library posts again, or gives up
            posts, answered = self.lost.pop(0)
            ids = [self.service.accept(request) for _ in range(posts)]
            if not answered:
                raise TransientError("the service is down", retry_after=7.0)
            return ids[-1]
        return self.service.accept(request)

    def find(self, tag: str) -> list[JobState]:
        self._call("find")
        found = [j for j in self.service.jobs.values() if j.request.tag == tag]
        return [self._state(job) for job in reversed(found)]

    def state(self, job_id: str) -> JobState:
        self._call("state")
        return self._state(self.service.jobs[job_id])

    def _state(self, job: Sent) -> JobState:
        return JobState(job.job_id, job.state, job.reason, job.seconds)

    def tag_of(self, job_id: str) -> str | None:
        self._call("tag_of")
        return self.service.jobs[job_id].request.tag if job_id in self.service.jobs else None

    def result(self, job_id: str, *, timeout: float | None = None) -> list[PubResult]:
        del timeout
        self._call("result")
        job = self.service.jobs[job_id]
        if job.state != "done":
            raise JobError("no result", job_id=job_id)
        return [answer(pub, job.request.tag, k) for k, pub in enumerate(job.request.pubs)]

    def cancel(self, job_id: str) -> None:
        self._call("cancel")
        job = self.service.jobs[job_id]
        if job.state in ("queued", "running"):
            job.state, job.seconds = "cancelled", 0.0

    def remaining_seconds(self) -> float | None:
        self._call("remaining_seconds")
        return self.service.remaining

    def calibration(self, began: str | None) -> None:
        del began
        self._call("calibration")


def answer(pub: Any, tag: str, place: int) -> PubResult:
    values = pub.parameter_values.as_array()
    seed = hashlib.sha256(tag.encode() + values.tobytes() + bytes([place])).digest()
    rng = np.random.default_rng(int.from_bytes(seed[:8], "little"))
    if hasattr(pub, "observables"):
        return PubResult(DataBin(shape=pub.shape, evs=rng.normal(size=pub.shape)))
    bits = rng.integers(0, 4, (*pub.shape, pub.shots, 1), dtype=np.uint8)
    return PubResult(DataBin(shape=pub.shape, meas=BitArray(bits, 2)))


class Traced:
    """Calls of an object's methods, counted, and one of them fatal.

    Args:
        inner: The object.
        names: Methods that count.
        steps: A shared counter; the call number `fatal` (from 0) dies.
        late: Whether it dies after the call has taken effect, rather than before.
    """

    def __init__(self, inner: Any, names: tuple[str, ...], steps: Steps) -> None:
        self._inner, self._names, self._steps = inner, names, steps

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in self._names:
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._steps.step(name):
                return value(*args, **kwargs)

        return call


@dataclass
class Steps:
    """Which step of all traced calls is the last."""

    fatal: int | None = None
    late: bool = False
    seen: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        dies = len(self.seen) == self.fatal
        self.seen.append(name)
        if dies and not self.late:
            raise Killed(name)
        yield
        if dies:
            raise Killed(name)
