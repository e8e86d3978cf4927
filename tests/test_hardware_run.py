# SPDX-License-Identifier: Apache-2.0
"""`qkd run` on devices, as a program that is killed at random moments and then run again."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from qiskit_kd.experiment.spending import jobs_of
from qiskit_kd.experiment.store import Store
from tests.execution.runtime.test_crashes import Remote

ROOT = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("qkd_without_pace.py")

STUDY = """\
name: small
data:
  kind: digits
  options: {classes: [3, 5, 8], train: 12, validation: 9, test: 9, components: 2}
teacher: {kind: linear}
students: {quantum: {kind: fully_quantum, options: {encoding: angle, num_qubits: 2, layers: 1}}}
variants:
  plain: {terms: [{loss: ce}]}
  tuned:
    teacher: teacher
    terms: [{loss: ce}, {loss: kl}]
    fine_tune:
      backend: device
      training: {epochs: 2, steps_per_epoch: 2, learning_rate: 0.1}
seeds: 1
training: {epochs: 1, gradient_every: 0}
evaluation: {backend: device}
"""


class Lab:
    """A working directory, and the program in it."""

    def __init__(self, folder: Path, entry: dict[str, Any], environment: dict[str, str]) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        backends = {"exact": {"kind": "exact"}, "device": {"kind": "runtime", "shots": 32, **entry}}
        (folder / "backends.yaml").write_text(json.dumps({"schema": 1, "backends": backends}))
        (folder / "small.yaml").write_text(STUDY)
        self.environment = {
            **os.environ, "QISKIT_KD_BACKENDS": str(folder / "backends.yaml"),
            "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment,
        }  # fmt: skip

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), "run", "small.yaml", "--out", "out", "--workers", "1"],
            cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(self) -> str:
        program = self.start()
        out, err = program.communicate(timeout=300)
        assert program.returncode == 0, err
        return out + err

    def kill(self, jobs: int, after: float) -> bool:
        """Kill the program a while after so many jobs were written down; whether it was alive."""
        program = self.start()
        deadline = time.monotonic() + 240
        while program.poll() is None and self.begun() < jobs and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(after)
        program.send_signal(signal.SIGKILL)
        program.communicate()  # returns when its worker, which shares the pipes, is gone as well
        return program.returncode == -signal.SIGKILL

    def begun(self) -> int:
        path = self.folder / "out" / "jobs.db"
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                count = db.execute("SELECT count(*) FROM jobs").fetchone()[0]
        except sqlite3.OperationalError:
            return 0
        return int(count)

    def rows(self) -> dict[str, str]:
        with Store(self.folder / "out") as store:
            return store.texts()

    def jobs(self) -> list[dict[str, Any]]:
        return jobs_of(self.folder / "out")

    def files(self) -> bytes:
        """Everything it has written, for a search."""
        return b"".join(p.read_bytes() for p in self.folder.rglob("*") if p.is_file())


def disturb(lab: Lab, total: int, times: int = 2) -> int:
    """Kill the program at random moments; how often it was still at work."""
    moments = random.Random(os.getpid())
    marks = sorted(moments.sample(range(1, total + 1), times))
    print("killed at", marks)  # shown where the test fails
    return sum(lab.kill(mark, moments.uniform(0, 0.3)) for mark in marks)


@pytest.mark.slow
def test_killed_on_a_device_that_this_machine_plays(tmp_path: Path) -> None:
    entry = {"device": "fake_lagos", "seed": 0, "tiles": "auto"}
    calm, wild = Lab(tmp_path / "calm", entry, {}), Lab(tmp_path / "wild", entry, {})
    said = calm.finish()
    assert "this machine plays the device: nothing is charged" in said
    assert len(calm.jobs()) >= 8
    assert disturb(wild, len(calm.jobs()) - 1) >= 1
    wild.finish()
    assert wild.rows() == calm.rows()
    assert len(wild.rows()) == 3
    assert {job["status"] for job in wild.jobs()} == {"done"}
    for name in ("job_id", "seconds", "executions"):
        assert {job[name] for job in wild.jobs()} == {job[name] for job in calm.jobs()}, name


@pytest.fixture
def services() -> Any:
    """Two services in processes of their own, so that neither knows the other's jobs."""
    remotes = [Remote("--quota", "100000", "--queue-seconds", "0.2") for _ in range(2)]
    yield remotes
    for remote in remotes:
        remote.close()


@pytest.mark.slow
def test_killed_beside_a_service_that_goes_on(tmp_path: Path, services: list[Remote]) -> None:
    calm, wild = (
        Lab(tmp_path / name, {**remote.backend, "budget_seconds": 90_000}, remote.environment)
        for name, remote in zip(("calm", "wild"), services, strict=True)
    )
    said = calm.finish()
    assert "on device (ibm_loopback, " in said
    assert "the run stops" not in said
    assert disturb(wild, len(calm.jobs()) - 1) >= 1
    said += wild.finish()
    assert wild.rows() == calm.rows()
    assert {job["status"] for job in wild.jobs()} == {"done"}
    for remote, lab in zip(services, (calm, wild), strict=True):
        ran = remote.ran()
        assert set(ran.values()) == {1}, "a job ran twice"
        assert len(ran) == len(lab.jobs())
        counters = remote.ask("counters")
        assert counters["seconds"] == pytest.approx(sum(job["seconds"] for job in lab.jobs()))
    token = wild.environment["QISKIT_IBM_TOKEN"]
    assert token.encode() not in wild.files() + calm.files() + said.encode()
    # Running it once more asks nobody for anything.
    before = services[1].ask("counters")
    wild.finish()
    assert services[1].ask("counters") == before
