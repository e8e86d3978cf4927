# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pickle
import warnings

import pytest

from qiskit_kd.errors import BudgetError, JobError, TransientError, UncertainJobError
from qiskit_kd.execution.mitigation import warn_of_few_shots
from qiskit_kd.experiment import task
from qiskit_kd.experiment.worker import Outcome, work


def outcome(monkeypatch: pytest.MonkeyPatch, run) -> Outcome:
    monkeypatch.setattr(task, "run_task", run)
    return work("key", {"seed": 1}, {"t": "file"}, "scratch", 3, "jobs.db")


def test_a_row_comes_back_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def run(spec, **options):
        asked.update(options, spec=spec)
        return {"value": 1}, b"weights"

    found = outcome(monkeypatch, run)
    assert asked == {"spec": {"seed": 1}, "teachers": {"t": "file"}, "scratch": "scratch",
                     "checkpoint_epochs": 3, "journal": "jobs.db"}  # fmt: skip
    assert (found.row, found.weights) == ({"key": "key", "value": 1}, b"weights")
    assert (found.error, found.traceback, found.stop) == ("", "", None)
    assert (found.pid, found.seconds >= 0) == (os.getpid(), True)


@pytest.mark.parametrize(
    ("error", "stops"),
    [
        (BudgetError("no", got="this", remedy="That."), True),
        (UncertainJobError("who knows"), True),
        (TransientError("later", retry_after=3.0), True),
        (JobError("bad", job_id="j"), False),
        (ValueError("anything"), False),
    ],
)
def test_an_error_comes_back_whole(
    monkeypatch: pytest.MonkeyPatch, error: Exception, stops: bool
) -> None:
    def run(*_, **__):
        raise error

    found = pickle.loads(pickle.dumps(outcome(monkeypatch, run)))  # as from another process
    assert (found.row, found.error) == (None, f"{type(error).__name__}: {error}")
    assert found.traceback.rstrip().endswith(str(error))
    assert (type(found.stop), str(found.stop)) == (
        (type(error), str(error)) if stops else (type(None), "None")
    )


def test_tasks_do_not_repeat_the_warning_of_few_shots(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_, **__):
        warn_of_few_shots(5)
        warnings.warn("another", UserWarning, stacklevel=1)
        return {}, None

    with pytest.warns(UserWarning, match="another") as caught:
        found = outcome(monkeypatch, run)
    assert found.error == ""
    assert [str(one.message) for one in caught] == ["another"]
    with pytest.warns(UserWarning, match="6 shots are few"):  # outside of tasks as ever
        warn_of_few_shots(6)
