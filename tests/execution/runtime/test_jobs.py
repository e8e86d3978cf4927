# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives.containers.sampler_pub import SamplerPub

from qiskit_kd.errors import (
    AccountError,
    BudgetError,
    ConfigError,
    DeviceError,
    JobError,
    QuotaError,
    StorageError,
    TransientError,
    UncertainJobError,
)
from qiskit_kd.execution.engine import with_job_context
from qiskit_kd.execution.runtime.client import Job, JobState
from qiskit_kd.execution.runtime.cost import cost_of_pubs
from qiskit_kd.execution.runtime.jobs import SubmitPolicy
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.serialization import unpack_values
from qiskit_kd.execution.runtime.session import DeviceSession

from .memory import Client, Clock, Killed, Service, Steps, Traced, circuit, options, target

VALUES = np.linspace(0, 1, 3)[:, None]
SHOTS = 16


class Lab:
    """A service, and as many processes in a row as a test wants."""

    def __init__(self, folder: Path, **service: Any) -> None:
        self.path = folder / "jobs.db"
        self.clock = Clock()
        self.service = Service(self.clock, **service)

    def process(
        self,
        *,
        steps: Steps | None = None,
        client: Client | None = None,
        local: bool = False,
        settings: Any = None,
        **more: Any,
    ) -> DeviceSession:
        """A session as a new process would make it."""
        self.client: Any = client or Client(self.service, local=local)
        journal: Any = Journal(self.path, clock=self.clock)
        used = self.client
        if steps is not None:
            calls = ("find", "submit", "state", "result", "cancel", "tag_of")
            used = Traced(self.client, calls, steps)
            writes = ("intend", "sent", "alone", "ended", "done", "admit", "refused")
            journal = Traced(journal, writes, steps)
        return DeviceSession(
            used,
            journal,
            options=settings or options(),
            backend="ibm",
            policy=SubmitPolicy(clock=self.clock, sleep=self.clock.sleep, **more),
        )

    @property
    def tags(self) -> list[str]:
        return [job.request.tag for job in self.service.jobs.values()]


def run(session: DeviceSession, repetitions: tuple[int, ...] = (1, 2)) -> list[np.ndarray]:
    """A run of a few steps: a fresh but equal circuit, as a new process builds it."""
    built = circuit()
    return [
        session.perform("sampler", [(built, VALUES, SHOTS)], repetition=k)
        .results[0]
        .data.meas.array
        for k in repetitions
    ]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[np.ndarray]:
    return run(Lab(tmp_path / "undisturbed").process())


def assert_once(lab: Lab, found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    """The same results, from jobs of which each has run exactly once."""
    np.testing.assert_array_equal(found, wanted)
    lab.clock.sleep(100)
    lab.service.tick()  # whatever is still queued would run now
    assert set(lab.service.ran.values()) == {1}, lab.service.ran
    assert len(lab.service.ran) == len(wanted)


def test_a_step_is_one_job_and_is_never_run_again(lab: Lab, undisturbed: list[np.ndarray]) -> None:
    first = lab.process()
    assert_once(lab, run(first), undisturbed)
    assert first.counts == {"sent": 2, "reused": 0, "adopted": 0, "twins": 0}
    again = lab.process()
    assert_once(lab, run(again), undisturbed)
    assert again.counts == {"sent": 0, "reused": 2, "adopted": 0, "twins": 0}
    assert lab.client.calls["submit"] == 0
    assert len(lab.service.jobs) == 2


def test_equal_content_repeated_is_measured_twice(lab: Lab) -> None:
    one, two = run(lab.process())
    assert not np.array_equal(one, two)


def test_what_changes_results_makes_another_job(lab: Lab) -> None:
    session = lab.process(per_minute=None)
    pub = (circuit(), VALUES, SHOTS)
    session.perform("sampler", [pub], repetition=1)
    others = [
        ([(circuit("weight_1"), VALUES, SHOTS)], options()),
        ([(circuit(), VALUES + 1, SHOTS)], options()),
        ([(circuit(), VALUES, 2 * SHOTS)], options()),
        ([pub], options(rep_delay=1e-4)),
        ([pub], options(dynamical_decoupling="XX")),
    ]
    for pubs, settings in others:
        lab.process(settings=settings, per_minute=None).perform("sampler", pubs, repetition=1)
    assert len(set(lab.tags)) == 1 + len(others)
    unchanged = options(budget_seconds=500.0, usd_per_second=2.0, tags=("mine",))
    assert lab.process(settings=unchanged).perform("sampler", [pub], repetition=1).results
    assert len(lab.service.jobs) == 1 + len(others)


def kills() -> list[tuple[int, bool]]:
    """Every call of a run that writes or talks, before and after it takes effect."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        steps = Steps()
        run(Lab(Path(folder)).process(steps=steps))
    assert {"intend", "submit", "sent", "alone", "state", "result", "done"} <= set(steps.seen)
    return [(k, late) for k in range(len(steps.seen)) for late in (False, True)]


def test_killed_anywhere_the_next_run_ends_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    places = kills()
    assert len(places) > 30
    for number, (fatal, late) in enumerate(places):
        lab = Lab(tmp_path / str(number))
        with pytest.raises(Killed):
            run(lab.process(steps=Steps(fatal, late)))
        assert_once(lab, run(lab.process()), undisturbed)


def test_killed_twice(tmp_path: Path, undisturbed: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    for number in range(30):
        lab = Lab(tmp_path / str(number))
        for _ in range(3):
            try:
                steps = Steps(int(rng.integers(12)), bool(rng.integers(2)))
                run(lab.process(steps=steps))
            except Killed:
                lab.clock.sleep(float(rng.uniform(0, 8)))
        assert_once(lab, run(lab.process()), undisturbed)


@pytest.mark.parametrize("posts", [1, 2, 6])
@pytest.mark.parametrize("answered", [True, False])
def test_accepted_and_answered_with_503(
    lab: Lab, undisturbed: list[np.ndarray], posts: int, answered: bool
) -> None:
    session = lab.process()
    lab.client.lost = [(posts, answered)]
    assert_once(lab, run(session), undisturbed)
    assert session.counts["twins"] == posts - 1
    cancelled = [a for a in session.journal.attempts() if a.reason == "twin"]
    assert len(cancelled) == posts - 1
    # Found at once: after the wait that the service asks for, twins might have begun.
    assert 7.0 not in lab.clock.slept


@pytest.mark.parametrize(
    ("begun", "kept"),
    [((), 0), ((0,), 0), ((1,), 1), ((2,), 2), ((0, 2), 0), ((1, 2), 1), ((0, 1, 2), 0)],
)
@pytest.mark.parametrize("ended", [False, True])
def test_of_twins_one_is_kept(
    lab: Lab, undisturbed: list[np.ndarray], begun: tuple[int, ...], kept: int, ended: bool
) -> None:
    """One that has begun before one that has not, then the oldest; all others are cancelled."""
    session = lab.process()
    lab.client.lost = [(3, True)]
    original = lab.client.find

    def find(tag: str) -> Any:
        if len(lab.service.jobs) == 3 and lab.service.jobs["job-2"].state == "queued":
            for k in begun:
                lab.service.jobs[f"job-{k}"].begins = lab.clock()
            lab.service.tick()
            if ended and begun:
                lab.clock.sleep(1.0)
        return original(tag)

    lab.client.find = find
    np.testing.assert_array_equal(run(session), undisturbed)
    record = session.journal.jobs()[0]
    assert record.job_id == f"job-{kept}"
    assert record.alone
    lab.clock.sleep(100)
    lab.service.tick()
    alive = {k: lab.service.jobs[f"job-{k}"].state for k in range(3)}
    done = {*begun} if ended else {kept}  # too late for those that had ended
    assert alive == {k: "done" if k in done | {kept} else "cancelled" for k in range(3)}


def test_killed_before_twins_were_looked_for(lab: Lab, undisturbed: list[np.ndarray]) -> None:
    steps = Steps()
    session = lab.process(steps=steps)
    lab.client.lost = [(3, True)]
    steps.fatal = 4  # find, intend, admit, submit, sent
    steps.late = True
    with pytest.raises(Killed, match="sent"):
        run(session)
    assert len(lab.service.jobs) == 3
    assert_once(lab, run(lab.process()), undisturbed)


@pytest.mark.parametrize("shown", [[0], [1], []])
def test_twins_beside_a_search_that_lags_behind(
    lab: Lab, undisturbed: list[np.ndarray], shown: list[int]
) -> None:
    """It shows one of two jobs, or none; where it shows the wrong one, the right one is known."""
    session = lab.process()
    lab.client.lost = [(2, True)]
    original, asked = lab.client.find, []

    def find(tag: str) -> Any:
        asked.append(tag)
        found = original(tag)
        late = len(asked) == 2  # the first search after the job was sent
        return [f for f in found if not late or f.job_id in {f"job-{k}" for k in shown}]

    lab.client.find = find
    np.testing.assert_array_equal(run(session, (1,)), undisturbed[:1])
    lab.clock.sleep(100)
    lab.service.tick()
    # The client was answered with the id of the second; the first is a twin that was posted before.
    states = [job.state for job in lab.service.jobs.values()]
    assert states == {0: ["cancelled", "done"], 1: ["done", "done"]}.get(*shown or [1])


def test_twins_that_have_begun_are_paid_for(lab: Lab) -> None:
    """What one has cost counts; what is expected of it, as long as nobody knows."""
    session = lab.process()
    expected = cost_of_pubs(
        [SamplerPub.coerce((circuit(), VALUES, SHOTS))], target=target(), rep_delay=250e-6
    ).seconds
    lab.client.lost = [(3, True)]
    original = lab.client.find

    def find(tag: str) -> Any:
        if len(lab.service.jobs) == 3 and not lab.service.ran:
            jobs = list(lab.service.jobs.values())
            for job in jobs[:2]:
                job.begins = lab.clock()
            lab.service.tick()
            lab.clock.sleep(1.0)  # these two have ended,
            jobs[2].begins = lab.clock()  # and the third one runs
            lab.service.tick()
        return original(tag)

    lab.client.find = find
    run(session, (1,))
    attempts = {a.job_id: (a.status, a.reason, a.seconds) for a in session.journal.attempts()}
    assert attempts == {
        "job-0": ("done", "", 3.0),
        "job-1": ("done", "twin", 3.0),
        "job-2": ("cancelled", "twin", expected),
    }
    assert session.spent() == 6.0 + expected


def test_a_failed_job_whose_charge_is_not_known_yet_counts_as_expected(lab: Lab) -> None:
    lab.service.ends = [("failed", "a glitch")]
    session = lab.process()
    original = lab.client.state

    def state(job_id: str) -> JobState:
        found = original(job_id)
        return replace(found, seconds=None) if found.status == "failed" else found

    lab.client.state = state
    run(session, (1,))
    first, second = session.journal.attempts()
    assert (first.status, second.status, second.seconds) == ("failed", "done", 3.0)
    assert first.seconds == session.journal.jobs()[0].estimate > 2.0


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_job_that_fails_is_sent_again(
    lab: Lab, undisturbed: list[np.ndarray], status: str
) -> None:
    lab.service.ends = [(status, "ran too long"), ("failed", "a glitch")]
    session = lab.process()
    assert_once(lab, run(session), undisturbed)
    attempts = session.journal.attempts()
    assert [a.status for a in attempts] == [status, "failed", "done", "done"]
    assert [a.reason for a in attempts][:2] == ["ran too long", "a glitch"]
    # What failed is paid for as well.
    assert session.spent() == pytest.approx(0.5 + 0.5 + 3.0 + 3.0)


def test_a_job_that_fails_for_ever(lab: Lab, undisturbed: list[np.ndarray]) -> None:
    lab.service.ends = [("failed", "backend error")] * 3
    with pytest.raises(
        JobError,
        match=r"a job of 'ibm' gives a result in 3 attempts; got failed: backend error \(job-2\)\. "
        "Look at the job at the service; running again tries again",
    ) as caught:
        run(lab.process())
    assert caught.value.job_id == "job-2"
    assert len(lab.service.jobs) == 3
    assert_once(lab, run(lab.process()), undisturbed)


def test_a_result_that_cannot_be_had_counts_as_a_failure(
    lab: Lab, undisturbed: list[np.ndarray]
) -> None:
    session = lab.process()
    lab.client.faults["result"] = [JobError("the result is gone")]
    found = run(session)
    np.testing.assert_array_equal(found, undisturbed)
    assert [a.status for a in session.journal.attempts()] == ["failed", "done", "done"]


@pytest.mark.parametrize("begins", range(0, 12, 2))
def test_service_down_for_a_minute(lab: Lab, undisturbed: list[np.ndarray], begins: int) -> None:
    session = lab.process()
    lab.service.queue = 8.0
    calls = [0]
    original = lab.client._call

    def call(name: str) -> None:
        if calls[0] == begins:
            lab.service.down_until = lab.clock() + 60
        calls[0] += 1
        original(name)

    lab.client._call = call
    assert_once(lab, run(session), undisturbed)
    assert lab.clock.now > 1_000_060


def test_down_for_longer_nothing_is_lost(lab: Lab, undisturbed: list[np.ndarray]) -> None:
    for name, left in (("find", 0), ("submit", 0), ("state", 1), ("result", 1)):
        session = lab.process()
        lab.client.faults[name] = [TransientError("the service is down")] * 10
        if name == "submit":
            lab.client.faults["find"] = [lambda: None] * 9
        with pytest.raises(TransientError, match="the service is down"):
            run(session)
        assert len(lab.service.jobs) == left, name
        assert sum(lab.clock.slept) > 120
    assert_once(lab, run(lab.process()), undisturbed)


def test_when_both_are_uncertain_it_asks(lab: Lab, undisturbed: list[np.ndarray]) -> None:
    lab.service.queue = 1e6
    session = lab.process(tries=2)
    lab.client.lost = [(1, False)]
    lab.client.faults["find"] = [lambda: None] + [TransientError("503")] * 3
    with pytest.raises(
        UncertainJobError,
        match="nobody can say whether a job was sent; got no answer to the question for its tag "
        r"'qkd-[0-9a-f]{32}': 503\. Run the same command when the service answers: it looks for the"
        r" tag first\. If you know better: Journal\(.*jobs\.db'\)\.adopt\('qkd-[0-9a-f]{32}', "
        r"job_id\) takes a job that you have found there, \.resend\(\.\.\.\) sends it again",
    ):
        run(session)
    assert len(lab.service.jobs) == 1
    lab.service.jobs["job-0"].begins = lab.clock()
    lab.service.queue = 5.0
    again = lab.process()
    assert_once(lab, run(again), undisturbed)
    assert again.counts["adopted"] == 1


def test_the_user_knows_better(tmp_path: Path, undisturbed: list[np.ndarray]) -> None:
    for what in ("adopt", "resend"):
        lab = Lab(tmp_path / what)
        with pytest.raises(Killed):
            run(lab.process(steps=Steps(3, what == "adopt")))  # submit
        journal = Journal(lab.path, clock=lab.clock)
        (record,) = journal.jobs()
        assert record.state == "intent"
        if what == "adopt":
            journal.adopt(record.tag, "job-0")
        else:
            journal.resend(record.tag)
        with pytest.raises(
            ConfigError,
            match="a job whose id is unknown is named by its tag; got "
            "'qkd-1'; expected none: there is no such job",
        ):
            journal.adopt("qkd-1", "job-0")
        assert_once(lab, run(lab.process()), undisturbed)


def test_a_job_of_somebody_else(lab: Lab) -> None:
    with pytest.raises(Killed):
        run(lab.process(steps=Steps(4)))  # sent: before the id is written
    (record,) = Journal(lab.path, clock=lab.clock).jobs()
    other = lab.service.accept(Job("other", "sampler", ()))
    journal = Journal(lab.path, clock=lab.clock)
    for job_id, got in ((other, "the tag 'qkd-other'"), ("unheard-of", "a job without a tag")):
        journal.sent(record.key, job_id)
        with pytest.raises(
            JobError, match=rf"the job {job_id} of the journal is that of its circuits; got {got}"
        ):
            run(lab.process())
    assert len(lab.service.jobs) == 2  # nothing was sent


def forget(lab: Lab) -> None:
    for tail in ("", "-wal", "-shm"):
        lab.path.with_name(lab.path.name + tail).unlink(missing_ok=True)


def test_jobs_of_a_journal_that_was_lost_are_adopted(
    lab: Lab, undisturbed: list[np.ndarray]
) -> None:
    run(lab.process())
    forget(lab)
    # Neither budget nor quota are in the way of what is paid for.
    lab.service.remaining = 0.0
    again = lab.process(settings=options(budget_seconds=1.0))
    assert_once(lab, run(again), undisturbed)
    assert again.counts == {"sent": 0, "reused": 0, "adopted": 2, "twins": 0}
    assert again.spent() == 6.0
    with pytest.raises(QuotaError):
        run(again, (3,))
    lab.service.remaining = 600.0
    with pytest.raises(BudgetError):
        run(again, (3,))


def test_jobs_that_a_restored_journal_does_not_know_are_adopted(
    lab: Lab, undisturbed: list[np.ndarray]
) -> None:
    first = lab.process()
    run(first, (1,))
    first.journal.close()
    copy = lab.path.read_bytes()
    run(lab.process())
    forget(lab)
    lab.path.write_bytes(copy)
    again = lab.process()
    assert_once(lab, run(again), undisturbed)
    assert again.counts == {"sent": 0, "reused": 1, "adopted": 1, "twins": 0}


def test_a_job_under_way_of_a_lost_journal_is_waited_for(
    lab: Lab, undisturbed: list[np.ndarray]
) -> None:
    with pytest.raises(TransientError, match="a job ends while somebody waits for it"):
        run(lab.process(patience=0.1), (1,))
    forget(lab)
    lab.client.lost = []
    twin = lab.service.accept(lab.service.jobs["job-0"].request)  # sent twice, and both wait
    again = lab.process()
    assert_once(lab, run(again), undisturbed)
    assert again.counts == {"sent": 1, "reused": 0, "adopted": 1, "twins": 1}
    assert lab.service.jobs[twin].state == "cancelled"


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_job_that_gave_no_result_is_not_adopted(lab: Lab, status: str) -> None:
    lab.service.ends = [(status, "bad luck")]
    run(lab.process(), (1,))
    assert [job.state for job in lab.service.jobs.values()] == [status, "done"]
    forget(lab)
    again = lab.process()
    run(again, (1,))
    assert again.counts["adopted"] == 1
    assert [record.job_id for record in again.journal.jobs()] == ["job-1"]


def test_a_job_whose_result_is_of_no_use_is_not_adopted(lab: Lab) -> None:
    first = lab.process()
    lab.client.faults["result"] = [JobError("cannot be read", job_id="job-0")]
    run(first, (1,))
    # Done, as the service says, but nobody can read it; the journal knows.
    assert [job.state for job in lab.service.jobs.values()] == ["done", "done"]
    assert first.counts == {"sent": 2, "reused": 0, "adopted": 0, "twins": 0}


def test_two_studies_share_what_they_measure_alike(lab: Lab, tmp_path: Path) -> None:
    first = run(lab.process(), (1,))
    lab.path = tmp_path / "another" / "jobs.db"
    second = lab.process()
    np.testing.assert_array_equal(run(second, (1,)), first)
    assert len(lab.service.jobs) == 1
    run(second, (2,))  # another occasion is another measurement
    assert len(lab.service.jobs) == 2


# What a job may take


def test_every_job_of_a_device_has_a_limit(lab: Lab) -> None:
    run(lab.process(), (1,))
    run(lab.process(settings=options(max_execution_time=7)), (2,))
    assert [job.request.max_seconds for job in lab.service.jobs.values()] == [60, 7]
    lab.service.queue = 0.0
    run(lab.process(local=True), (3,))
    assert lab.service.jobs["job-2"].request.max_seconds is None


# Money


def test_no_budget_no_jobs(lab: Lab) -> None:
    with pytest.raises(
        BudgetError,
        match="a device is used within a budget, and 'ibm' has none; got no budget_seconds; "
        r"expected seconds of quantum processor time at most\. Allow some with `qkd run \.\.\. "
        "--budget SECONDS`, with QKD_BUDGET_SECONDS, or with budget_seconds in the entry "
        "'ibm' of the backend file; `qkd estimate` says how many an experiment needs",
    ):
        lab.process(settings=options(budget_seconds=None))
    assert lab.client.calls.total() == 0
    free = lab.process(settings=options(budget_seconds=None), local=True)
    assert len(run(free)) == 2


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("local", [True, False])
def test_a_budget_of_nothing(lab: Lab, budget: float, local: bool) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"a budget is a positive number of seconds; got budget_seconds: {budget:g}; "
        r"expected more than 0\. Correct the entry 'ibm' of the backend file",
    ):
        lab.process(settings=options(budget_seconds=budget), local=local)


def one_job() -> float:
    pub = SamplerPub.coerce((circuit(), VALUES, SHOTS))
    return cost_of_pubs([pub], target=target(), rep_delay=250e-6).seconds


@pytest.mark.parametrize("local", [True, False])
def test_it_stops_before_it_crosses_the_budget(lab: Lab, local: bool) -> None:
    assert 2 < one_job() < 3  # the service charges 3
    settings = options(budget_seconds=3.0 + one_job() - 1e-6)
    session = lab.process(settings=settings, local=local)
    worst = "" if local else r" \(60 s at the very most: it is cut off then\)"
    if local:
        lab.service.queue = 0.0
    with pytest.raises(
        BudgetError,
        match=r"the jobs of 'ibm' stay within their budget; got 3\.0 s used or under way, and a job"
        rf" of 2\.0 s{worst}; expected at most 5\.01\d* s of the device\. Set "
        "budget_seconds to 6 or more and run again: what is done is kept. Fewer shots, "
        "samples or steps, or tiles, cost less",
    ):
        run(session)
    assert len(lab.service.jobs) == 1
    more = lab.process(settings=options(budget_seconds=6.0), local=local)
    assert len(run(more)) == 2
    assert more.counts["reused"] == 1
    assert more.spent() == 6.0


def test_jobs_under_way_count_as_what_they_are_expected_to_cost(lab: Lab) -> None:
    with pytest.raises(Killed):
        run(lab.process(steps=Steps(3, late=True)), (7,))
    session = lab.process(settings=options(budget_seconds=2.5))
    assert session.spent() == pytest.approx(one_job())
    with pytest.raises(BudgetError, match="or under way"):
        run(session, (8,))
    assert len(run(session, (7,))) == 1  # its own money was set aside


def test_a_renamed_entry_has_no_new_budget_and_another_account_has(lab: Lab) -> None:
    settings = options(budget_seconds=7.0)
    run(lab.process(settings=settings))
    other = DeviceSession(
        lab.client,
        Journal(lab.path, clock=lab.clock),
        options=settings,
        backend="another",
        policy=SubmitPolicy(sleep=lab.clock.sleep),
    )
    assert other.spent() == 6.0
    with pytest.raises(BudgetError, match="the jobs of 'another' stay within their budget"):
        run(other, (3, 4))
    lab.client.device.account = "another"
    assert other.spent() == 0.0
    run(other, (3, 4))
    assert other.spent() == 6.0


def test_patience(lab: Lab, undisturbed: list[np.ndarray]) -> None:
    lab.service.queue = 100.0
    with pytest.raises(
        TransientError,
        match=r"a job ends while somebody waits for it; got job-0, which is queued after 30 s\. "
        "Run the same command later: the job goes on and is found again",
    ):
        run(lab.process(patience=30.0))
    assert 30 <= sum(lab.clock.slept) <= 40
    assert_once(lab, run(lab.process()), undisturbed)


def test_quota_reached_in_the_middle(lab: Lab, undisturbed: list[np.ndarray]) -> None:
    lab.service.remaining = 600.0
    session = lab.process()
    run(session, (1,))
    lab.service.remaining = 1.5
    with pytest.raises(
        QuotaError,
        match=r"the account has time left for a job; got 1\.5 s left; expected 2\.0 s for the next "
        r"job\. Run the same command when the account has time again: what is done is kept",
    ):
        run(lab.process())
    assert len(lab.service.jobs) == 1
    lab.service.remaining = None  # a service that does not say
    assert_once(lab, run(lab.process()), undisturbed)


def test_answers_say_what_their_jobs_have_cost(lab: Lab) -> None:
    settings = options(usd_per_second=1.6)
    for _ in range(2):  # when they run, and when they are taken from the journal
        answer = lab.process(settings=settings).perform(
            "sampler", [(circuit(), VALUES, SHOTS)], repetition=1
        )
        assert answer.job_ids == ("job-0",)
        assert answer.results[0].metadata == {"job_id": "job-0"}
        cost = answer.cost
        assert (cost.executions, cost.jobs, cost.pubs) == (3 * SHOTS, 1, 1)
        assert cost.seconds == 3.0
        assert cost.usd == pytest.approx(4.8)


# Refusals


@pytest.mark.parametrize("error", [DeviceError, AccountError, QuotaError])
def test_what_was_certainly_refused_costs_nothing(lab: Lab, error: type[Exception]) -> None:
    session = lab.process()
    lab.client.faults["submit"] = [error("no")]
    with pytest.raises(error, match="no"):
        run(session, (1,))
    assert session.spent() == 0
    assert session.journal.jobs() == []
    lab.service.ends = [("failed", "a glitch")]
    session = lab.process()
    lab.client.faults["submit"] = [lambda: None, error("not again")]
    with pytest.raises(error, match="not again"):
        run(session, (1,))
    (record,) = session.journal.jobs()
    assert (record.state, record.error, record.seconds) == ("failed", "not again", 0.5)
    assert session.spent() == 0.5
    run(lab.process(), (1,))
    assert len(lab.service.jobs) == 2


def test_refused_after_a_try_that_may_have_arrived(lab: Lab) -> None:
    session = lab.process()
    lab.service.queue = 1e6
    lab.client.lost = [(1, False)]
    lab.client.faults["find"] = [lambda: None, AccountError("wrong token")]
    with pytest.raises(AccountError, match="wrong token"):
        run(session, (1,))
    (record,) = session.journal.jobs()
    assert record.state == "intent"
    lab.service.jobs["job-0"].begins = lab.clock()
    assert lab.process().perform("sampler", [(circuit(), VALUES, SHOTS)], repetition=1).job_ids == (
        "job-0",
    )


def test_refused_after_a_try_that_the_search_does_not_show_yet(lab: Lab) -> None:
    session = lab.process()
    lab.client.lost = [(1, False)]
    lab.client.faults["submit"] = [lambda: None, AccountError("wrong token")]
    original, lab.client.find = lab.client.find, lambda _: []
    with pytest.raises(AccountError, match="wrong token"):
        run(session, (1,))
    (record,) = session.journal.jobs()
    assert record.state == "intent"
    lab.client.find = original
    assert len(run(lab.process(client=lab.client), (1,))) == 1
    assert list(lab.service.jobs) == ["job-0"]


def test_a_job_that_failed_before_its_id_was_known_is_paid_for(
    lab: Lab, undisturbed: list[np.ndarray]
) -> None:
    lab.service.ends = [("failed", "a glitch")]
    with pytest.raises(Killed):
        run(lab.process(steps=Steps(3, late=True)))  # submit
    lab.clock.sleep(100)
    again = lab.process()
    assert_once(lab, run(again), undisturbed)
    first = again.journal.attempts()[0]
    assert (first.job_id, first.status, first.seconds) == ("job-0", "failed", 0.5)
    assert again.spent() == 6.5


@pytest.mark.parametrize("local", [False, True])
def test_results_that_are_not_of_their_circuits(
    lab: Lab, undisturbed: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    """Whoever the client is: one that says it is local may be anybody's, too."""
    lab.service.queue = 0.0
    session, client = lab.process(local=local), lab.client
    whole = client.result
    monkeypatch.setattr(client, "result", lambda job_id: 2 * whole(job_id))
    with pytest.raises(TransientError, match="that of its circuits; got 2 results for 1 PUBs"):
        run(session)
    assert {job.state for job in session.journal.jobs()} == {"sent"}
    monkeypatch.undo()
    np.testing.assert_array_equal(run(session), undisturbed)


@pytest.mark.parametrize("asked", ["find", "remaining_seconds", "submit", "state", "result"])
def test_the_service_says_how_long_to_wait(
    lab: Lab, undisturbed: list[np.ndarray], asked: str
) -> None:
    session = lab.process()
    lab.client.faults[asked] = [TransientError("fewer requests", retry_after=33.0)]
    assert_once(lab, run(session), undisturbed)
    assert lab.clock.slept.count(33.0) == 1


@pytest.mark.parametrize("step", range(1, 7))
def test_jobs_of_this_process_end_with_it(
    lab: Lab, undisturbed: list[np.ndarray], step: int
) -> None:
    """Whatever the journal says of them: nobody is asked for a job of a process that is gone."""
    lab.service.queue = 0.0
    with pytest.raises(Killed):
        run(lab.process(steps=Steps(step), local=True))
    lab.service.jobs.clear()
    again = lab.process(local=True)
    np.testing.assert_array_equal(run(again), undisturbed)
    assert again.counts["sent"] == 2
    assert {job.state for job in again.journal.jobs()} == {"done"}


def test_all_pubs_of_a_job_have_the_same_shots(lab: Lab) -> None:
    pubs = [(circuit(), VALUES, n) for n in (16, 32, 16)]
    found = lab.process().perform("sampler", pubs, repetition=1)
    assert [one.data.meas.num_shots for one in found.results] == [16, 32, 16]
    assert [len(job.request.pubs) for job in lab.service.jobs.values()] == [2, 1]
    assert len(found.job_ids) == found.cost.jobs == 2


def test_nothing_is_sent_beside_a_damaged_journal(lab: Lab) -> None:
    lab.path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match="is damaged"):
        lab.process()
    assert lab.client.calls.total() == 0


def test_nothing_is_sent_if_it_cannot_be_written_down(lab: Lab) -> None:
    session = lab.process()
    blocker = sqlite3.connect(lab.path, isolation_level=None)
    blocker.execute("PRAGMA max_page_count")
    session.journal.db.execute(
        f"PRAGMA max_page_count = {blocker.execute('PRAGMA page_count').fetchone()[0]}"
    )
    blocker.close()
    with pytest.raises(
        StorageError, match=r"the journal .* cannot be written; got database or disk is full"
    ):
        session.perform(
            "sampler",
            [(circuit(), np.random.default_rng(0).normal(size=(4000, 1)), 1)],
            repetition=1,
        )
    assert not lab.service.jobs


# Pace and size


def test_five_jobs_a_minute_whoever_sends_them(lab: Lab) -> None:
    lab.service.queue = 0.0
    accepted = []
    original = lab.service.accept
    lab.service.accept = lambda r: (accepted.append(lab.clock()), original(r))[1]  # type: ignore[method-assign]
    for k in range(4):
        run(lab.process(), (3 * k, 3 * k + 1, 3 * k + 2))
    assert len(accepted) == 12
    spans = [b - a for a, b in zip(accepted, accepted[5:], strict=False)]
    assert min(spans) >= 60
    assert max(spans) < 75  # no slower than it has to be


def test_local_jobs_are_not_held_up(lab: Lab) -> None:
    lab.service.queue = 0.0
    session = lab.process(local=True)
    run(session, tuple(range(12)))
    assert max(lab.clock.slept) < 30
    assert lab.client.calls["find"] == lab.client.calls["remaining_seconds"] == 0


def test_jobs_are_divided_at_the_limit_only(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Lab(lab.path.parent / "whole", queue=0.0)
    lab.service.queue = 0.0
    from qiskit_kd.execution.runtime import cost

    pubs = [(circuit(), np.arange(n)[:, None] / 7, SHOTS) for n in (5, 3)]
    whole = other.process().perform("sampler", pubs, repetition=1)
    assert whole.cost.jobs == 1
    monkeypatch.setattr(cost, "MAX_EXECUTIONS", 4 * SHOTS)
    parts = lab.process().perform("sampler", pubs, repetition=1)
    assert [r.data.meas.shape for r in parts.results] == [(5,), (3,)]
    assert parts.cost.jobs == len(parts.job_ids) == 2
    assert parts.cost.executions == whole.cost.executions == 8 * SHOTS
    values = [
        unpack_values(lab.process().journal.inputs(job.key)[0])
        for job in lab.process().journal.jobs()
    ]
    joined = [np.concatenate([values[0][0], values[1][0]]), values[1][1]]
    for found, pub in zip(joined, pubs, strict=True):
        np.testing.assert_array_equal(found, pub[1])


def test_estimators_are_divided_by_rows(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_kd.execution.runtime import cost

    bare = circuit().remove_final_measurements(inplace=False)
    pub = (bare, [["ZZ"], ["XX"]], np.arange(5)[:, None] / 7)
    monkeypatch.setattr(cost, "MAX_EXECUTIONS", 600)  # 2 groups x 100 shots a row
    lab.service.queue = 0.0
    answer = lab.process().perform("estimator", [pub], precision=0.1, repetition=1)
    assert answer.cost.jobs == 2
    evs = answer.results[0].data.evs
    assert evs.shape == (2, 5)
    assert len(np.unique(evs)) == 10
    bad = (bare, [["ZZ", "XX", "ZZ", "YY", "ZZ"]], np.arange(5)[:, None] / 7)
    with pytest.raises(
        ConfigError,
        match=r"a job has at most 600 executions, and rows of values "
        r"are divided; got observables of shape \(1, 5\) beside values of shape "
        r"\(5,\); expected observables \(K, 1\) beside values \(N,\)\. Divide the"
        " PUB by hand",
    ):
        lab.process().perform("estimator", [bad], precision=0.1, repetition=1)


def test_the_state_of_the_work_is_kept_with_the_intent(lab: Lab) -> None:
    seen = []

    def describe() -> bytes:
        seen.append(len(lab.service.jobs))
        return b"weights and generators"

    session = lab.process()
    with with_job_context(describe):
        run(session)
    run(session, (3,))
    contexts = [session.journal.inputs(job.key)[1] for job in session.journal.jobs()]
    assert contexts == [b"weights and generators", b"weights and generators", b""]
    assert seen == [0, 1]  # before each job was sent


def test_two_threads_with_the_same_job_send_it_once(lab: Lab) -> None:
    both = [lab.process() for _ in range(2)]
    entered, second = threading.Event(), threading.Event()
    found: list[Any] = [None, None]

    def linger() -> None:
        entered.set()
        second.wait(0.5)  # long enough for the other to come as far as this

    both[0].client.faults["submit"] = [linger]
    both[1].client.faults["submit"] = [second.set]

    def work(k: int) -> None:
        found[k] = run(both[k], (1,))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    threads[0].start()
    assert entered.wait(30)
    threads[1].start()
    for thread in threads:
        thread.join(30)
    np.testing.assert_array_equal(found[0], found[1])
    assert len(lab.service.jobs) == 1
    assert both[1].counts["reused"] == 1


def test_results_that_are_not_kept_are_run_anew(lab: Lab) -> None:
    lab.service.queue = 0.0
    client = Client(lab.service, local=True)
    session = DeviceSession(
        client,
        Journal(None, clock=lab.clock),
        options=options(),
        policy=SubmitPolicy(sleep=lab.clock.sleep),
    )
    pub = (circuit(), VALUES, SHOTS)
    costs = [session.perform("sampler", [pub], repetition=1).cost.seconds for _ in range(2)]
    assert costs == [3.0, 3.0]
    assert session.spent() == 6.0
    assert session.counts["reused"] == 0


def test_circuits_without_parameters(lab: Lab) -> None:
    plain = QuantumCircuit(2)
    plain.sx(0)
    plain.measure_all()
    (result,) = lab.process().perform("sampler", [(plain, None, 5)], repetition=1).results
    assert result.data.meas.shape == ()
    assert result.data.meas.num_shots == 5
    unused = Parameter("unused")
    assert unused not in plain.parameters
