# SPDX-License-Identifier: Apache-2.0
"""A small study on the loopback service, as a training loop would send it, and a clock of its own.

Two steps, one job each: shots, then an expectation value. `killed` runs it in a process of its
own that ends, by SIGKILL, where it is told to.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from qiskit_kd.execution.runtime import device, session
from qiskit_kd.execution.runtime.jobs import SubmitPolicy
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.session import DeviceSession, open_client
from qiskit_kd.execution.schema import RuntimeOptions

__all__ = ["KILLS", "STEPS", "Clock", "Study", "Wrap", "at", "circuit", "killed", "kinds", "start"]

Wrap = Callable[[Journal, Any], None]
"""Makes a journal and a client into others, for a process that is to be disturbed."""

STEPS = 2


def forget() -> None:
    """Forget what a process that starts anew would not know."""
    for cache in (session._session, session._compiler, device._open):
        cache.cache_clear()


SHOTS = 100


def circuit(*, measured: bool = True) -> QuantumCircuit:
    """RY(a), written as gates of the device, and a CX."""
    a, found = Parameter("a"), QuantumCircuit(7)
    found.sx(0)
    found.rz(a + np.pi, 0)
    found.sx(0)
    found.cx(0, 1)
    if measured:
        register = ClassicalRegister(2, "meas")
        found.add_register(register)
        found.measure([0, 1], register)
    return found


def kinds(step: int) -> str:
    """Which primitive a step uses."""
    return "estimator" if step % 2 else "sampler"


@dataclass
class Clock:
    """Time that passes only where somebody waits for it.

    Args:
        on_sleep: Is told the seconds slept so far, at every sleep.
    """

    now: float = 1_800_000_000.0
    slept: float = 0.0
    on_sleep: list[Callable[[float], None]] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.slept += seconds
        for call in list(self.on_sleep):
            call(self.slept)


class Study:
    """One process's worth of work: opens everything anew, as a command that is run again does.

    Args:
        options: Keys of the backend, without `kind`.
        path: The journal.
        clock: Its time.
        wrap: See `Wrap`.
    """

    def __init__(
        self, options: dict[str, Any], path: Path, clock: Clock, *, wrap: Wrap | None = None
    ) -> None:
        forget()
        full = {"kind": "runtime", "budget_seconds": 600.0, **options}
        self.options = RuntimeOptions.model_validate(full)
        self.journal = Journal(path, clock=clock)
        try:
            self.client = open_client(self.options)
            if wrap is not None:
                wrap(self.journal, self.client)
            self.session = DeviceSession(
                self.client,
                self.journal,
                options=self.options,
                backend="loopback",
                policy=SubmitPolicy(clock=clock, sleep=clock.sleep),
            )
        except BaseException:
            self.journal.close()
            raise

    def step(self, step: int) -> NDArray[Any]:
        """The numbers of one step."""
        values = np.array([[0.3 + step], [1.7 - step]])
        if kinds(step) == "sampler":
            pubs: list[Any] = [(circuit(), values)]
            more: dict[str, Any] = {"shots": SHOTS}
        else:
            operator = SparsePauliOp("IIIIIZZ")
            pubs = [(circuit(measured=False), operator, values)]
            more = {"precision": 0.1}
        answer = self.session.perform(kinds(step), pubs, repetition=step, **more)
        data = answer.results[0].data
        return np.asarray(data.meas.array if kinds(step) == "sampler" else data.evs)

    def run(self, steps: int = STEPS) -> list[NDArray[Any]]:
        """All steps; the journal is closed, whatever happens."""
        try:
            return [self.step(k) for k in range(steps)]
        finally:
            self.journal.close()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at(owner: Any, name: str, call: int, act: Callable[[], Any], *, after: bool = False) -> None:
    """Act at the `call`-th call of a method, before or after it does its work."""
    real, calls = getattr(owner, name), 0

    @functools.wraps(real)
    def counted(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            act()
        found = real(*args, **more)
        if calls == call and after:
            act()
        return found

    setattr(owner, name, counted)


# Where a process dies: (of the journal or of the client, method, which call, after it).
KILLS: dict[str, tuple[str, str, int, bool]] = {
    "before the intent": ("journal", "intend", 2, False),
    "between intent and submit": ("journal", "intend", 2, True),
    "between submit and id": ("client", "submit", 2, True),
    "after the id, before looking for twins": ("journal", "sent", 2, True),
    "while waiting": ("client", "state", 1, False),
    "with the result in hand": ("client", "result", 2, True),
    "while writing the result": ("journal", "_settle", 2, True),
    "after the result": ("journal", "done", 2, True),
}


def _victim(where: str, options: dict[str, Any], path: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)

    def wrap(journal: Journal, client: Any) -> None:
        if where in KILLS:
            which, name, call, after = KILLS[where]
            at(journal if which == "journal" else client, name, call, _die, after=after)

    Study(options, path, Clock(), wrap=wrap).run()


def start(where: str, options: dict[str, Any], path: Path, environment: dict[str, str]) -> Any:
    """A process that runs the study and dies where `KILLS` says (or not by itself)."""
    context = multiprocessing.get_context("forkserver")
    # What takes seconds to load is loaded once, in the process that the others are forked from.
    context.set_forkserver_preload(
        [
            "tests.execution.runtime.study",
            "qiskit_ibm_runtime.executor_sampler",
            "qiskit_ibm_runtime.executor_estimator",
        ]
    )
    process = context.Process(target=_victim, args=(where, options, path, environment))
    process.start()
    return process


def killed(where: str, options: dict[str, Any], path: Path, environment: dict[str, str]) -> None:
    """Run the study in a process that dies there; back when it is dead."""
    process = start(where, options, path, environment)
    process.join(60)
    code = process.exitcode
    process.close()
    assert code == -signal.SIGKILL, f"the process ended with {code}, not where it was told to die"
