# SPDX-License-Identifier: Apache-2.0
"""A training run on a device, killed by SIGKILL again and again, beside a service that goes on.

The service has a process of its own, and so has the training; what is killed closes no files, ends
no transactions and says no goodbye.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import angle
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.runtime.jobs import SubmitPolicy
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.service import RuntimeClient
from qiskit_kd.execution.schema import RuntimeOptions

from .study import forget

STEPS = 3


class Remote:
    """The service in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.loopback", *arguments],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        hello = self._line()
        self.backend: dict[str, Any] = hello["backend"]
        self.environment: dict[str, str] = hello["environment"]

    def ask(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._line()

    def ran(self) -> Counter[str]:
        """How often each job has run, once the queue is empty."""
        time.sleep(2 * QUEUE)
        return Counter({tag: n for tags, _, n in self.ask("counters")["ran"] for tag in tags})

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def close(self) -> None:
        self.process.communicate(timeout=30)


QUEUE = 0.2  # seconds


@pytest.fixture(scope="module")
def service() -> Iterator[Remote]:
    remote = Remote("--quota", "100000", "--queue-seconds", str(QUEUE))
    yield remote
    remote.close()


def train(backend: dict[str, Any], journal: Path, seed: int) -> list[np.ndarray]:
    """A few steps of SPSA: what a step sends depends on the results of all steps before."""
    forget()
    settings = {"kind": "runtime", "budget_seconds": 90_000.0, "shots": 50, **backend}
    options = RuntimeOptions.model_validate({**settings, "journal": journal})
    engine = Backend("device", options, "a file").engine(seed=seed)
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(3, 2)), rng.normal(size=model.num_weights)
    rows = []
    for _ in range(STEPS):
        values, pullback = engine.vjp(model, x, weights, Needs(features=False, weights=True))
        gradient = pullback(np.tile([1.0, -1.0], (3, 1)))[1]
        assert gradient is not None
        weights = weights - 0.1 * gradient
        rows += [values, weights]
    assert engine.usage.jobs == STEPS
    return rows


def without_pace() -> None:
    # What is killed between permission and submission has used the permission up.
    defaults = SubmitPolicy.__init__.__kwdefaults__
    assert defaults is not None
    defaults["per_minute"] = None


def victim(
    backend: dict[str, Any], journal: Path, seed: int, environment: dict[str, str], deadly: Any
) -> None:
    os.environ.update(environment)
    without_pace()
    if deadly is not None:
        die_at(*deadly)
    train(backend, journal, seed)


def die_at(owner: type, name: str, number: int, late: bool, how: int = signal.SIGKILL) -> None:
    """Have the process killed, or stopped, at a call of a method, before or after its effect."""
    original, calls = getattr(owner, name), [0]

    def method(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == number and not late:
            os.kill(os.getpid(), how)
        found = original(*args, **kwargs)
        if calls[0] == number:
            os.kill(os.getpid(), how)
        return found

    setattr(owner, name, method)


def start(remote: Remote, journal: Path, seed: int, deadly: Any = None) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "qiskit_ibm_runtime.executor_sampler"])
    process = context.Process(
        target=victim, args=(remote.backend, journal, seed, remote.environment, deadly)
    )
    process.start()
    return process


@pytest.fixture(scope="module")
def reference() -> Iterator[Remote]:
    """A service that nothing disturbs; what a job gives depends on its content alone."""
    remote = Remote("--quota", "100000")
    yield remote
    remote.close()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Of this test alone: a job that another test has sent would be found by its tag."""
    return zlib.crc32(request.node.name.encode())


@pytest.fixture
def finish(
    service: Remote, reference: Remote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int
) -> Callable[[], None]:
    """Run the same training here, and compare: the same rows, and every job run exactly once."""
    before = service.ran()

    def there(remote: Remote, name: str) -> list[np.ndarray]:
        for variable, value in remote.environment.items():
            monkeypatch.setenv(variable, value)
        return train(remote.backend, tmp_path / name, seed)

    def run() -> None:
        rows = there(service, "jobs.db")
        for one, other in zip(rows, there(reference, "undisturbed.db"), strict=True):
            np.testing.assert_array_equal(one, other)
        ran = service.ran() - before
        assert len(ran) == STEPS
        assert set(ran.values()) == {1}
        assert {job.state for job in Journal(tmp_path / "jobs.db").jobs()} == {"done"}

    return run


@pytest.mark.slow
def test_killed_at_any_time(
    service: Remote, finish: Callable[[], None], tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(1)
    for _ in range(6):
        process = start(service, tmp_path / "jobs.db", seed)
        time.sleep(float(rng.uniform(0.05, 1.2)))
        process.kill()
        process.join(60)
    finish()


@pytest.mark.slow
def test_one_of_two_is_killed(
    service: Remote, finish: Callable[[], None], tmp_path: Path, seed: int
) -> None:
    """Two processes at the same training; one dies at its work, and the other takes over."""
    sent = service.ask("counters")["submitted"]
    how = (RuntimeClient, "submit", 1, True, signal.SIGSTOP)
    dying = start(service, tmp_path / "jobs.db", seed, how)
    while service.ask("counters")["submitted"] == sent:
        assert dying.is_alive()
        time.sleep(0.05)
    living = start(service, tmp_path / "jobs.db", seed)
    living.join(2.0)
    assert living.is_alive()  # it waits for the job of the other, and sends none
    assert service.ask("counters")["submitted"] == sent + 1
    dying.kill()
    dying.join(60)
    living.join(60)
    assert (dying.exitcode, living.exitcode) == (-signal.SIGKILL, 0)
    finish()
