# SPDX-License-Identifier: Apache-2.0
"""Every way in which hardware fails, through our whole path and the real client.

What must hold each time: the study ends with the same numbers as one that nothing disturbed, no job
ran twice, and the journal knows of every second that was charged.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import signal
import sqlite3
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3.util.retry
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_kd.errors import (
    AccountError,
    BudgetError,
    ConfigError,
    DeviceError,
    JobError,
    QiskitKDError,
    QuotaError,
    StorageError,
    TransientError,
    UncertainJobError,
)
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.service import PostOnce
from tests.execution.runtime.study import KILLS, STEPS, Clock, Study, Wrap, at, killed, start
from tests.loopback import CRN, LoopbackService
from tests.loopback.jobs import altered
from tests.loopback.service import ENVIRONMENT

Rows = list[np.ndarray]


def _accept(service: LoopbackService, *, path: str, **more: Any) -> object:
    return service.inject("POST", path, accept=True, **more)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own waits between tries pass at once; what it tries stays as it is."""
    hurried = types.SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    monkeypatch.setattr(urllib3.util.retry, "time", hurried)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What the study gives where all goes well."""
    path = tmp_path_factory.mktemp("undisturbed") / "journal.sqlite"
    with pytest.MonkeyPatch.context() as patch, LoopbackService() as service:
        for name, value in service.environment().items():
            if name not in ENVIRONMENT:
                patch.setenv(name, value)
        rows = Study(service.runtime_options(), path, Clock()).run()
        assert service.submitted == STEPS
    return rows


@dataclass
class Lab:
    """A service, a journal and a clock."""

    service: LoopbackService
    path: Path
    clock: Clock

    def study(self, wrap: Wrap | None = None, **options: Any) -> Study:
        return Study(self.service.runtime_options(**options), self.path, self.clock, wrap=wrap)

    def run(self, steps: int = STEPS, **options: Any) -> Rows:
        return self.study(**options).run(steps)

    def work_while_waiting(self) -> None:
        """Jobs begin only while somebody waits for them, as they do behind a long queue."""

        def work(_: float) -> None:
            self.service.release()
            self.service.wait_idle()
            self.service.hold()

        self.service.hold()
        self.clock.on_sleep.append(work)

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        """Act once the study has waited for so long in all."""

        def check(slept: float) -> None:
            if slept >= seconds:
                self.clock.on_sleep.remove(check)
                act()

        self.clock.on_sleep.append(check)

    def check(self, rows: Rows, undisturbed: Rows) -> None:
        """Same numbers, nothing twice, every second accounted for."""
        assert all(np.array_equal(a, b) for a, b in zip(rows, undisturbed, strict=True))
        self.service.wait_idle()
        assert self.service.most_runs() == 1
        assert len(self.service.ran) == STEPS
        journal = Journal(self.path)
        assert journal.spent("ibm_loopback") == pytest.approx(self.service.seconds)
        assert {job.state for job in journal.jobs()} == {"done"}
        journal.close()
        self.no_token()
        # What is done is never asked for again.
        sent = self.service.posts()
        assert all(np.array_equal(a, b) for a, b in zip(self.run(), undisturbed, strict=True))
        assert self.service.posts() == sent

    def no_token(self) -> None:
        key = self.service.api_key.encode()
        for file in self.path.parent.rglob("*"):
            assert not file.is_file() or key not in file.read_bytes(), file


@pytest.fixture
def lab(loopback: LoopbackService, tmp_path: Path) -> Lab:
    return Lab(loopback, tmp_path / "journal" / "jobs.sqlite", Clock())


# What the service does, at any step


Arrange = Callable[[LoopbackService, int], object]

SERVICE: dict[str, tuple[Arrange, type[Exception] | None]] = {
    "401 on submit": (lambda s, k: s.inject("POST", "*/jobs", 401, after=k), AccountError),
    "403 on submit": (lambda s, k: s.inject("POST", "*/jobs", 403, after=k), AccountError),
    "404 on submit": (lambda s, k: s.inject("POST", "*/jobs", 404, after=k), DeviceError),
    "429 on submit": (lambda s, k: s.inject("POST", "*/jobs", 429, after=k), None),
    "429 on submit for ever": (
        lambda s, k: s.inject("POST", "*/jobs", 429, after=k, times=8),
        TransientError,
    ),
    "429 on a GET": (lambda s, k: s.inject("GET", "*/usage", 429, after=k), None),
    "429 on a GET, Retry-After": (
        lambda s, k: s.inject("GET", "*/usage", 429, after=k, headers={"Retry-After": "1"}),
        None,
    ),
    "500 twice on submit": (lambda s, k: s.inject("POST", "*/jobs", 500, after=k, times=2), None),
    "503 on submit for long": (
        lambda s, k: s.inject("POST", "*/jobs", 503, after=k, times=7),
        None,
    ),
    "503 on every status": (lambda s, k: s.inject("GET", "*/jobs/*", 503, after=k, times=13), None),
    "502 on the result": (
        lambda s, k: s.inject("GET", "*/jobs/*/results", 502, after=k, times=7),
        None,
    ),
    "503 on the search for the tag": (
        lambda s, k: s.inject("GET", "*/api/v1/jobs", 503, after=k, times=9),
        None,
    ),
    "connection cut on submit": (
        lambda s, k: s.inject("POST", "*/jobs", 0, after=k, times=7),
        None,
    ),
    "connection cut on the result": (
        lambda s, k: s.inject("GET", "*/jobs/*/results", 0, after=k, times=9),
        None,
    ),
    "job fails": (lambda s, k: s.end_next(after=k), None),
    "job runs too long": (lambda s, k: s.time_out_next(after=k), None),
    "job cancelled by the operator": (
        lambda s, k: s.end_next("Cancelled", "by the operator", 1, after=k),
        None,
    ),
    "job fails three times": (
        lambda s, k: [s.end_next(after=k if j == 0 else 0) for j in range(3)],
        JobError,
    ),
    "accepted, answer is 429": (
        lambda s, k: s.inject("POST", "*/jobs", 429, accept=True, after=k),
        None,
    ),
}


@pytest.mark.parametrize("case", SERVICE)
def test_the_service_fails(lab, undisturbed, case, caplog):
    arrange, expected = SERVICE[case]
    arrange(lab.service, 1)
    if expected is not None:
        with pytest.raises(expected) as caught:
            lab.run()
        assert lab.service.api_key not in str(caught.value)
    lab.check(lab.run(), undisturbed)
    assert lab.service.api_key not in caplog.text


# The process dies


@pytest.mark.parametrize("where", KILLS)
def test_the_process_is_killed(lab, undisturbed, where):
    lab.service.queue_seconds = 0.05
    killed(where, lab.service.runtime_options(), lab.path, lab.service.environment())
    lab.service.wait_idle()
    assert lab.service.submitted == (1 if "intent" in where or "waiting" in where else 2)
    lab.check(lab.run(), undisturbed)
    assert lab.service.submitted == STEPS


def test_the_process_is_killed_while_it_sends(lab, undisturbed):
    lab.service.stall("POST", "*/jobs", 60, after=1)
    options, environment = lab.service.runtime_options(), lab.service.environment()
    process = start("", options, lab.path, environment)
    _until(lambda: lab.service.submitted == 2)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    process.close()
    lab.check(lab.run(), undisturbed)
    assert lab.service.submitted == STEPS


def test_two_processes_share_the_work(lab, undisturbed):
    options, environment = lab.service.runtime_options(), lab.service.environment()
    lab.service.hold()
    both = [start("", options, lab.path, environment) for _ in range(2)]
    _until(lambda: lab.service.submitted == 1)
    lab.service.release()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
        process.close()
    lab.check(lab.run(), undisturbed)
    assert lab.service.posts() == STEPS


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


# The service accepts, and says something else


Lose = Callable[..., object]

LOSSES: dict[str, Lose] = {
    **{str(n): functools.partial(_accept, status=n) for n in (500, 502, 503, 504, 520, 429, 0)},
    "cut body": functools.partial(_accept, status=None, cut=True),
    "not JSON": functools.partial(_accept, status=None, body="<html>gateway</html>"),
    "null": functools.partial(_accept, status=None, body="null"),
    "a list": functools.partial(_accept, status=None, body="[1]"),
    "no id": functools.partial(_accept, status=None, body='{"id": null, "backend": "ibm"}'),
    "no backend": functools.partial(_accept, status=None, body='{"id": "d0"}'),
    "moved": functools.partial(_accept, status=307, headers={"Location": "/api/v1/jobs"}),
    "time-out": functools.partial(_accept, status=None, delay=0.4),
}


_FOREMOST = ("500", "502", "503", "504", "0", "cut body", "time-out")
LOST = [
    *itertools.product(_FOREMOST, (0, 60), (1, 2), ["job"]),
    *itertools.product([loss for loss in LOSSES if loss not in _FOREMOST], [60], [2], ["job"]),
    *itertools.product(("500", "0", "cut body"), [0], [1], ["batch", "session"]),
]


@pytest.mark.parametrize(("loss", "queue", "times", "mode"), LOST)
def test_accepted_and_then_lost(lab, undisturbed, monkeypatch, loss, queue, times, mode):
    """At every request that spends; the client of the service posts none of them again."""
    if loss == "time-out":
        real = PostOnce.send
        monkeypatch.setattr(
            PostOnce,
            "send",
            lambda s, r, *a, **o: real(
                s, r, *a, **o | ({"timeout": 0.2} if r.method == "POST" else {})
            ),
        )
    if queue:
        lab.service.hold()
        lab.after(queue, lambda: (lab.service.release(), lab.service.wait_idle()))
    path = "*/jobs" if mode == "job" else "*/sessions"
    LOSSES[loss](lab.service, path=path, times=times)
    study = lab.study(mode=mode)
    lab.check(study.run(), undisturbed)
    study.client.close()
    assert lab.service.submitted == STEPS
    assert len(lab.service.sessions) == (0 if mode == "job" else 1 + times)


def test_an_answer_names_another_job(lab, undisturbed):
    """Before its search knows of the job, and after."""
    first = lab.run(steps=1)
    other = next(iter(lab.service.jobs))
    lab.service.inject(
        "POST",
        "*/jobs",
        None,
        accept=True,
        body=json.dumps({"id": other, "backend": "ibm_loopback"}),
    )
    lab.check([*first, *lab.run()[1:]], undisturbed)
    assert lab.service.submitted == STEPS


def test_a_search_that_lags_behind_an_answer_of_another_job(lab, undisturbed):
    lab.run(steps=1)
    other = next(iter(lab.service.jobs))
    lab.service.inject(
        "POST",
        "*/jobs",
        None,
        accept=True,
        body=json.dumps({"id": other, "backend": "ibm_loopback"}),
    )
    lab.service.inject(
        "GET", "*/api/v1/jobs", None, accept=True, after=1, body='{"jobs": [], "count": 0}'
    )
    with pytest.raises(TransientError, match=r"names the job that it was sent; got .*another"):
        lab.run()
    lab.check(lab.run(), undisturbed)
    assert lab.service.submitted == STEPS


def _two_of_one(lab: Lab) -> None:
    """Accepted and lost, while the search for tags lags behind: the job is sent again."""
    lab.service.hold()
    lab.after(30, lambda: (lab.service.release(), lab.service.wait_idle()))
    lab.service.accept_then(503)
    lab.service.inject(
        "GET", "*/api/v1/jobs", None, accept=True, after=1, times=2, body='{"jobs": [], "count": 0}'
    )


def test_twins_are_cancelled_before_they_run(lab, undisturbed):
    _two_of_one(lab)
    study = lab.study()
    lab.check(study.run(), undisturbed)
    assert lab.service.submitted == STEPS + 1
    assert lab.service.cancelled_before_running == study.session.counts["twins"] == 1


def test_a_twin_and_a_killed_process(lab, undisturbed):
    _two_of_one(lab)

    def wrap(journal: Journal, client: Any) -> None:
        at(journal, "sent", 1, _interrupt)

    with pytest.raises(KeyboardInterrupt):
        lab.study(wrap).run()
    assert lab.service.submitted == 2
    lab.check(lab.run(), undisturbed)
    assert lab.service.cancelled_before_running == 1


def _interrupt() -> None:
    raise KeyboardInterrupt


# The service sends results that are not those of the job


def _half(text: str) -> str:
    return altered(text, lambda bits: bits[..., : bits.shape[-2] // 2, :])


RESULTS: dict[str, str | Callable[[str], str]] = {
    "half the shots": _half,
    "more shots": lambda text: altered(text, lambda a: np.concatenate([a, a], axis=-2)),
    "another shape": lambda text: altered(text, lambda a: a[:1]),
    "another number of bits": lambda text: altered(text, lambda a: a[..., :1]),
    "another register": lambda text: altered(text, lambda a: a, "other"),
    "another PUB": lambda text: json.dumps(
        (found := json.loads(text)) | {"data": found["data"] * 2}
    ),
    "no PUB": lambda text: json.dumps(json.loads(text) | {"data": []}),
    "truncated": lambda text: text[: len(text) // 2],
    "nothing": "",
    "null": "null",
    "a list": "[]",
    "a number": "3",
    "spoilt": lambda text: re.sub('"data":"....', '"data":"!!!!', text),
    "HTML": "<html>gateway</html>",
    "no passthrough": lambda text: json.dumps(json.loads(text) | {"passthrough_data": None}),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_that_is_not_the_jobs(lab, undisturbed, kind):
    """Fetched again; never stored; and paid once, however long that lasts."""
    for times in (9, 1):
        lab.service.inject("GET", "*/results", None, accept=True, body=RESULTS[kind], times=times)
        if times > 1:
            with pytest.raises(TransientError, match=r"result|answer can be read"):
                lab.run()
            lab.service.faults.clear()
    lab.check(lab.run(), undisturbed)
    assert lab.service.submitted == STEPS


@pytest.mark.parametrize("times", [1, 9])
def test_the_result_of_another_job(lab, undisturbed, times):
    """Of the same circuit and shape, at other values; one that nobody can take for its own."""
    study = lab.study()
    first = study.step(0)
    theirs = next(iter(lab.service.jobs.values())).result
    lab.service.inject("GET", "*/results", None, accept=True, body=theirs, times=times)
    if times == 1:
        study.step(2)
    else:
        with pytest.raises(TransientError, match=r"sends the results of the job \w+ for it; got"):
            study.step(2)
        assert [job.state for job in study.journal.jobs()] == ["done", "sent"]
    lab.service.faults.clear()
    third = study.step(2)
    study.journal.close()
    assert third.tolist() != first.tolist()
    assert lab.service.submitted == 2


# What is in the journal is not what was written there

ALTERED = {
    "swapped": "UPDATE jobs SET result = (SELECT result FROM jobs o WHERE o.rowid != jobs.rowid)",
    "cut": "UPDATE jobs SET result = substr(result, 1, length(result) - 100)",
    "changed": "UPDATE jobs SET result = substr(result, 1, 40) || x'00' || substr(result, 42)",
    "text": "UPDATE jobs SET result = 'a text'",
    "a number": "UPDATE jobs SET result = 7",
    "gone": "UPDATE jobs SET result = NULL",
    "another digest": "UPDATE jobs SET digest = 'ab'",
    "digest of another type": "UPDATE jobs SET digest = 7",
    "swapped before there were digests": "UPDATE jobs SET digest = NULL, result = "
    "(SELECT result FROM jobs o WHERE o.rowid != jobs.rowid)",
    "spoilt before there were digests": "UPDATE jobs SET digest = NULL, result = x'504b0304'",
}


@pytest.mark.parametrize("kind", ALTERED)
def test_a_stored_result_that_was_altered(lab, undisturbed, kind):
    """It is fetched again from the service, which is paid already."""
    lab.run()
    with closing(sqlite3.connect(lab.path)) as file, file:
        file.execute(ALTERED[kind])
    asked = len(lab.service.requests)
    lab.check(lab.run(), undisturbed)
    assert lab.service.submitted == STEPS
    again = [path for _, path in lab.service.requests[asked:] if path.endswith("/results")]
    assert 1 <= len(again) <= STEPS


def test_a_journal_from_before_there_were_checksums(lab, undisturbed):
    lab.run()
    with closing(sqlite3.connect(lab.path)) as file, file:
        file.execute("ALTER TABLE jobs DROP COLUMN digest")
    asked = len(lab.service.requests)
    lab.check(lab.run(), undisturbed)
    assert not any("/jobs" in path for _, path in lab.service.requests[asked:])


# The service is away


@pytest.mark.parametrize("asked", ["find", "remaining_seconds", "submit", "state", "result"])
def test_the_service_is_down_for_a_minute(lab, undisturbed, asked):
    before = lab.clock.slept

    def wrap(journal: Journal, client: Any) -> None:
        at(client, asked, 2, lab.service.disconnect)

    lab.after(60, lab.service.connect)
    lab.check(lab.study(wrap).run(), undisturbed)
    assert lab.clock.slept - before >= 60
    assert lab.service.submitted == STEPS


def test_the_service_goes_down_with_the_answer(lab, undisturbed):
    lab.service.stall("POST", "*/jobs", 600, after=1)
    with ThreadPoolExecutor(1) as pool:

        def leave() -> None:
            _until(lambda: lab.service.submitted == 2)
            lab.service.disconnect()

        left = pool.submit(leave)
        lab.after(60, lab.service.connect)
        rows = lab.run()
        left.result()
    lab.check(rows, undisturbed)
    assert lab.service.submitted == STEPS


def test_nobody_can_say_whether_a_job_was_sent(lab, undisturbed):
    lab.service.stall("POST", "*/jobs", 600, after=1)
    with ThreadPoolExecutor(1) as pool:

        def leave() -> None:
            _until(lambda: lab.service.submitted == 2)
            lab.service.disconnect()

        left = pool.submit(leave)
        with pytest.raises(UncertainJobError, match="nobody can say whether a job was sent"):
            lab.run()
        left.result()
    with pytest.raises(TransientError, match="cannot be reached"):
        lab.run()  # still away
    lab.service.connect()
    lab.check(lab.run(), undisturbed)
    assert lab.service.submitted == STEPS


# Money


def test_the_quota_is_reached_in_the_middle(lab, undisturbed):
    lab.service.set_quota(3)  # enough for one
    with pytest.raises(QuotaError, match="the account has time left for a job"):
        lab.run()
    assert lab.service.posts() == 1
    lab.service.set_quota(600)
    lab.check(lab.run(), undisturbed)


def test_the_quota_ends_while_a_job_waits(lab, undisturbed):
    def wrap(journal: Journal, client: Any) -> None:
        at(client, "submit", 2, lab.service.hold)
        at(client, "submit", 2, lambda: lab.service.set_quota(0), after=True)
        at(client, "submit", 2, lab.service.release, after=True)

    lab.after(1000, lambda: (lab.service.set_quota(600), lab.service.wait_idle()))
    lab.check(lab.study(wrap).run(), undisturbed)
    assert lab.clock.slept >= 1000


def test_the_budget_is_not_crossed(lab, undisturbed):
    with pytest.raises(BudgetError, match="stay within their budget"):
        lab.run(budget_seconds=3.0)
    assert lab.service.posts() == 1
    assert lab.service.seconds <= 3
    lab.check(lab.run(), undisturbed)


# Ways to run


@pytest.mark.parametrize("mode", ["batch", "session"])
def test_the_service_closes_a_session_in_the_middle(lab, undisturbed, mode):
    def close() -> None:
        for session in lab.service.sessions.values():
            session.update(accepting_jobs=False, state="closed")

    def wrap(journal: Journal, client: Any) -> None:
        at(client, "submit", 2, close)

    study = lab.study(wrap, mode=mode)
    lab.check(study.run(), undisturbed)
    study.client.close()
    assert len(lab.service.sessions) == 2
    assert lab.service.submitted == STEPS


def test_a_killed_process_in_a_batch(lab, undisturbed):
    options, environment = lab.service.runtime_options(mode="batch"), lab.service.environment()
    killed("between submit and id", options, lab.path, environment)
    study = lab.study(mode="batch")
    lab.check(study.run(), undisturbed)
    study.client.close()
    assert lab.service.submitted == STEPS


# Bad input: one clear error each, and nothing is sent


def _no_account(lab: Lab, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    patch.delenv("QISKIT_IBM_TOKEN")
    return {}


def _wrong_token(lab: Lab, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    patch.setenv("QISKIT_IBM_TOKEN", "wrong-" + lab.service.api_key)
    return {}


def _garbage(lab: Lab, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    lab.path.parent.mkdir(parents=True)
    lab.path.write_bytes(b"not a journal, and long enough to be read as one" * 100)
    return {}


def _foreign(lab: Lab, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    lab.path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(lab.path)) as other:
        other.execute("CREATE TABLE birds (name TEXT)")
    return {}


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "no account": (_no_account, AccountError, "needs an account"),
    "wrong token": (_wrong_token, AccountError, "does not accept the account"),
    "unknown instance": (
        {"instance": CRN.replace("0000-1111", "0000-9999")},
        AccountError,
        "an instance is one of",
    ),
    "unknown device": (
        {"device": "ibm_lopback"},
        DeviceError,
        "did you mean 'ibm_loopback'. known: ibm_loopback",
    ),
    "budget of zero": ({"budget_seconds": 0.0}, ConfigError, "positive number of seconds"),
    "no budget": ({"budget_seconds": None}, BudgetError, "used within a budget"),
    "corrupt journal": (_garbage, StorageError, "journal"),
    "foreign journal": (_foreign, StorageError, "is not a journal of this package"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(lab, monkeypatch, case, caplog):
    given, expected, message = BAD[case]
    options = given if isinstance(given, dict) else given(lab, monkeypatch)
    with pytest.raises(expected, match=message) as caught:
        lab.run(**options)
    assert lab.service.api_key not in str(caught.value)
    assert lab.service.api_key not in caplog.text
    assert lab.service.posts() == 0
    lab.no_token()


def test_the_job_of_another_circuit(lab, undisturbed):
    lab.run()
    with closing(sqlite3.connect(lab.path)) as journal, journal:
        (first,), (second,) = journal.execute("SELECT job_id FROM jobs ORDER BY rowid")
        journal.execute(
            "UPDATE jobs SET state = 'sent', job_id = ? WHERE job_id = ?", (first, second)
        )
    sent = lab.service.posts()
    with pytest.raises(JobError, match=f"the job {first} of the journal is that of its circuits"):
        lab.run()
    assert lab.service.posts() == sent


# Anything, in any order


FAULTS = st.sampled_from(
    [
        lambda s, k: s.inject("POST", "*/jobs", 429, after=k),
        lambda s, k: s.inject("POST", "*/jobs", 503, after=k, times=7),
        lambda s, k: s.inject("POST", "*/jobs", 403, after=k),
        lambda s, k: s.inject("POST", "*/jobs", 0, after=k, times=4),
        lambda s, k: s.inject("GET", "*/jobs/*", 500, after=3 * k, times=4),
        lambda s, k: s.inject("GET", "*/api/v1/jobs", 429, after=k),
        lambda s, k: s.inject("GET", "*/usage", 401, after=k),
        lambda s, k: s.inject("GET", "*/jobs/*/results", 0, after=k),
        lambda s, k: s.accept_then(503, after=k),
        lambda s, k: s.accept_then(429, after=k),
        lambda s, k: s.accept_then(0, after=k),
        lambda s, k: s.end_next(after=k),
        lambda s, k: s.time_out_next(after=k),
    ]
)


@pytest.mark.slow
@settings(max_examples=8)
@given(
    st.lists(st.tuples(FAULTS, st.integers(0, 2)), min_size=1, max_size=5),
    st.lists(st.integers(1, 12), max_size=3),
)
def test_any_faults_in_any_order(undisturbed, tmp_path_factory, faults, interrupted):
    """Faults of the service, and a process that ends at any call, run again until it is through."""
    with pytest.MonkeyPatch.context() as patch, LoopbackService() as service:
        for name, value in service.environment().items():
            if name not in ENVIRONMENT:
                patch.setenv(name, value)
        lab = Lab(service, tmp_path_factory.mktemp("any") / "journal.sqlite", Clock())
        lab.work_while_waiting()
        for arrange, after in faults:
            arrange(service, after)
        rows, calls = None, iter(interrupted)
        for _ in range(12):
            call = next(calls, None)

            def wrap(journal: Journal, client: Any, call: int | None = call) -> None:
                if call is not None:
                    names = ("intend", "sent", "alone", "done")
                    at(journal, names[call % 4], 1 + call // 8, _interrupt, after=call % 8 > 3)

            with contextlib.suppress(QiskitKDError, KeyboardInterrupt):
                rows = lab.study(wrap).run()
                break
        assert rows is not None, "it did not come through"
        service.faults.clear()
        lab.check(rows, undisturbed)
