# SPDX-License-Identifier: Apache-2.0
"""What a user does to single jobs: `qkd jobs --fetch`, `--cancel`, `--forget`, and Ctrl-C."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qiskit_kd.errors import ConfigError, JobError, UnknownNameError
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.runtime.client import JobState, Status
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.service import RuntimeClient
from qiskit_kd.experiment import jobs
from qiskit_kd.experiment.jobs import manage, under_way
from tests.execution.runtime.study import Clock, Study
from tests.loopback import LoopbackService
from tests.test_hardware_run import PROGRAM, Lab

NOBODY: Any = SimpleNamespace(config=None)


class Desk:
    """A study of two steps whose journal is that of a folder."""

    def __init__(self, service: LoopbackService, folder: Path) -> None:
        self.service, self.folder, self.clock = service, folder, Clock()

    def study(self) -> Study:
        return Study(self.service.runtime_options(), self.folder / "jobs.db", self.clock)

    def records(self) -> list[Any]:
        journal = Journal(self.folder / "jobs.db")
        found = journal.jobs()
        journal.close()
        return found

    def left(self) -> str:
        """The id of a job that was sent, and that nobody waits for any more."""
        self.service.hold()
        self.clock.on_sleep.append(_interrupt)
        with pytest.raises(KeyboardInterrupt):
            self.study().run(1)
        self.clock.on_sleep.clear()
        return str(self.records()[0].job_id)

    def manage(self, **acts: list[str]) -> list[str]:
        return manage(NOBODY, self.folder / "jobs.db", **acts)


def _interrupt(_: float) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def desk(loopback: LoopbackService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    found = Desk(loopback, tmp_path)

    def devices(_: Any) -> list[Backend]:
        from qiskit_kd.execution.schema import RuntimeOptions

        entry = {"kind": "runtime", **loopback.runtime_options()}
        return [Backend("loopback", RuntimeOptions.model_validate(entry), "a file")]

    monkeypatch.setattr(jobs, "devices_of", devices)
    return found


def test_a_job_is_fetched(desk: Desk) -> None:
    job_id = desk.left()
    assert desk.manage(fetch=[job_id]) == [
        f"{job_id} is queued at the service; nothing was fetched"
    ]
    desk.service.release()
    desk.service.wait_idle()
    assert desk.manage(fetch=[job_id]) == [f"{job_id}: its result is kept"]
    (record,) = desk.records()
    assert (record.state, record.seconds) == ("done", pytest.approx(desk.service.seconds))
    asked = len(desk.service.requests)
    desk.study().run(1)
    assert not any(path.endswith("/results") for _, path in desk.service.requests[asked:])
    assert desk.service.submitted == 1


def test_a_job_is_cancelled(desk: Desk) -> None:
    job_id = desk.left()
    assert job_id in under_way(desk.folder)
    assert desk.manage(cancel=[job_id]) == [f"{job_id} is cancelled; the next run sends it again"]
    assert desk.service.cancelled_before_running == 1
    assert under_way(desk.folder) == ""
    assert "nothing to cancel" in desk.manage(cancel=[job_id])[0]
    desk.service.release()
    desk.study().run(1)
    assert desk.service.most_runs() == 1


@pytest.mark.parametrize(("before", "charged"), [("queued", False), ("running", True)])
def test_a_job_that_is_cancelled_while_it_runs_has_cost_what_was_expected(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, before: Status, charged: bool
) -> None:
    job_id = desk.left()
    states = [JobState(job_id, before), JobState(job_id, "cancelled")]
    monkeypatch.setattr(RuntimeClient, "state", lambda *_: states.pop(0))
    desk.manage(cancel=[job_id])
    (record,) = desk.records()
    assert record.seconds == (record.estimate if charged else 0.0)


def test_a_job_that_ended_meanwhile_is_not_cancelled(desk: Desk) -> None:
    job_id = desk.left()
    desk.service.release()
    desk.service.wait_idle()
    assert "had ended before" in desk.manage(cancel=[job_id])[0]
    desk.study().run(1)
    assert desk.service.submitted == 1


def test_a_job_that_the_service_has_forgotten(desk: Desk) -> None:
    job_id = desk.left()
    desk.service.release()
    desk.service.wait_idle()
    del desk.service.jobs[job_id]
    for _ in range(2):
        with pytest.raises(JobError, match=f"qkd jobs DIR --forget {job_id}"):
            desk.study().run(1)
    assert "is given up" in desk.manage(forget=[job_id])[0]
    desk.study().run(1)
    assert desk.service.submitted == 2
    (record,) = desk.records()
    assert record.seconds == pytest.approx(desk.service.seconds, rel=0.01)  # both are counted


def test_a_result_that_is_damaged_and_forgotten(desk: Desk) -> None:
    desk.study().run(1)
    job_id = str(desk.records()[0].job_id)
    journal = Journal(desk.folder / "jobs.db")
    journal.db.execute("UPDATE jobs SET digest = 'x'")
    journal.close()
    del desk.service.jobs[job_id]
    with pytest.raises(JobError, match=f"--forget {job_id}"):
        desk.study().run(1)
    desk.manage(forget=[job_id])
    desk.study().run(1)
    assert desk.service.submitted == 2
    assert desk.records()[0].seconds == pytest.approx(desk.service.seconds)


def test_a_job_given_up_is_not_taken_again(desk: Desk) -> None:
    """Though the service still has it."""
    desk.study().run(1)
    desk.manage(forget=[str(desk.records()[0].job_id)])
    desk.study().run(1)
    assert desk.service.submitted == 2


def test_an_intent_is_named_by_its_tag(desk: Desk) -> None:
    desk.left()
    (record,) = desk.records()
    journal = Journal(desk.folder / "jobs.db")
    journal.unsent(record.key, str(record.job_id))
    journal.close()
    assert "perhaps sent: the next run finds out" in under_way(desk.folder)
    with pytest.raises(ConfigError, match="whose id is not known"):
        desk.manage(cancel=[record.tag])
    assert "is taken as never sent" in desk.manage(forget=[f"qkd-{record.tag}"])[0]
    assert desk.records() == []


def test_jobs_that_are_not_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown job; got .d1.\. known: none"):
        desk.manage(fetch=["d1"])
    job_id = desk.left()
    with pytest.raises(UnknownNameError, match=f"did you mean '{job_id}'"):
        desk.manage(cancel=[job_id, job_id[:-1]])
    assert desk.service.cancelled_before_running == 0, "nothing is done where one is wrong"
    monkeypatch.setattr(jobs, "devices_of", lambda _: [])
    with pytest.raises(ConfigError, match="reached by the entry that sent it; got no device"):
        desk.manage(cancel=[job_id])


@pytest.mark.slow
def test_interrupted(loopback: LoopbackService, tmp_path: Path) -> None:
    """It says which jobs are queued, and the command that it names cancels them."""
    loopback.hold()
    entry = loopback.runtime_options(budget_seconds=600)
    lab = Lab(tmp_path, entry, loopback.environment())
    lab.environment["PYTHONPATH"] = os.pathsep.join([lab.environment["PYTHONPATH"], *sys.path])
    program = lab.start()
    end = time.monotonic() + 240
    while not loopback.submitted and time.monotonic() < end and program.poll() is None:
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=120)
    assert program.returncode == 130, errors
    (job_id,) = loopback.jobs
    assert f"1 job is still queued or running at the service: {job_id}." in errors
    command = shlex.split(errors.split("or cancel them: ")[1].splitlines()[0])
    assert command[:2] == ["qkd", "jobs"]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *command[1:]],
        cwd=tmp_path,
        env=lab.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "is cancelled" in done.stderr
    assert loopback.cancelled_before_running == 1
