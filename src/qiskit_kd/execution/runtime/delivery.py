# SPDX-License-Identifier: Apache-2.0
"""`Courier`: one job, from the intent to the result, whatever happens in between.

The order of things is the point. A job is written down before it is sent; its id as soon as it is
known; then twins are looked for, because the client library itself posts again where the service
answers badly; then it is waited for; its result is written down before anybody uses it. Whoever
comes later, the same command after a crash or another process, finds out from the journal how far
that went and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from qiskit.primitives import PubResult

from qiskit_kd.errors import JobError, QiskitKDError, QuotaError, TransientError, UncertainJobError
from qiskit_kd.execution.engine import context_bytes
from qiskit_kd.execution.runtime.client import Client, JobState, Request
from qiskit_kd.execution.runtime.cost import Cost
from qiskit_kd.execution.runtime.failures import RESULT_AGAIN
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.payload import (
    misfit,
    pack_results,
    pack_values,
    unpack_values,
)
from qiskit_kd.execution.runtime.records import Intent, Record
from qiskit_kd.execution.schema import TAG_PREFIX

__all__ = ["Courier", "Job", "Terms", "refetch"]

T = TypeVar("T")

_LAG = 5.0
"""Seconds for a job whose answer was lost to show up under its tag, before it is sent again."""


@dataclass(frozen=True)
class Job:
    """One job to be done.

    Args:
        key: Hash of its content.
        request: What is sent.
        circuits: Hash of its circuits.
        cost: What it is expected to cost.
    """

    key: str
    request: Request
    circuits: str
    cost: Cost


@dataclass(frozen=True)
class Terms:
    """How jobs are sent.

    Args:
        backend: Name of the entry of `backends.yaml`.
        budget: Seconds that all jobs of its device and account in the journal may cost; None for
            any number.
        usd_per_second: Price of a second; None if unknown.
        attempts: Times a job is sent in one run if it fails.
        tries: Times the service is asked in a row before its silence is an error. With the waits in
            between, the first 1 s long and each twice as long as the one before up to a minute, 8
            outlast a service that is down for two minutes.
        per_minute: Jobs that may be sent in a minute; None for any number.
        poll: Longest time between two looks at a job, in seconds; the first ones are shorter.
        patience: Longest time to wait for a job, which goes on all the same; None for ever.
        clock: Seconds since some moment.
        sleep: What waits.
    """

    backend: str
    budget: float | None
    usd_per_second: float | None
    attempts: int
    tries: int
    per_minute: int | None
    poll: float
    patience: float | None
    clock: Callable[[], float]
    sleep: Callable[[float], None]


class Courier:
    """Sends jobs to one device.

    Args:
        client: The device and its jobs.
        journal: Where jobs are written down.
        terms: How jobs are sent.
    """

    def __init__(self, client: Client, journal: Journal, terms: Terms) -> None:
        self.client, self.journal, self.terms = client, journal, terms
        self._sleep = terms.sleep
        self.counts = {"sent": 0, "reused": 0, "adopted": 0, "twins": 0}
        """What this process has done: jobs sent, taken from the journal, found again, cancelled."""

    def work(self, job: Job) -> bytes:
        """Have a job done that is not done yet; its owner alone may ask for that.

        Returns:
            Its results, as `pack_results` writes them; the journal has them, too, if it lasts.
        """
        for attempt, wait in enumerate(_waits(self.terms.attempts), 1):
            job_id = self._under_way(job)
            if job_id is None:
                job_id = self._begin(job)
            state = self._wait(job_id)
            if state.status == "done":
                try:
                    return self._finish(job, job_id, state)
                except JobError as error:
                    state = JobState(job_id, "failed", str(error), state.seconds)
            self.journal.ended(
                job.key, job_id, status=state.status, reason=state.reason,
                seconds=_charge(job, state),
            )  # fmt: skip
            if attempt == self.terms.attempts:
                raise JobError(
                    f"a job of {self.terms.backend!r} gives a result in {attempt} attempts",
                    got=f"{state.status}: {state.reason or 'no reason given'} ({job_id})",
                    remedy="Look at the job at the service; running again tries again.",
                    job_id=job_id,
                )  # fmt: skip
            self._sleep(wait)
        raise AssertionError("at least one attempt is made")

    def _under_way(self, job: Job) -> str | None:
        """The id of a job that was sent before; None where it has to be begun."""
        record = self.journal.get(job.key)
        if record is None or record.state == "failed" or self.client.local:
            return None  # jobs in this process ended with the process that began them
        if record.state == "done" and not self.keeps:
            return None
        if record.state == "intent":
            return self._deliver(job, record.known, fresh=False)
        assert record.job_id is not None
        self._check_ours(job, record.job_id)
        if not record.alone and record.state == "sent":
            return self._alone(job, record.job_id, record.known)
        return record.job_id  # of one that is done, the result is fetched again: it was damaged

    @property
    def keeps(self) -> bool:
        """Whether a job that is done has its result at the service and in the journal."""
        return self.journal.lasting and not self.client.local

    def _check_ours(self, job: Job, job_id: str) -> None:
        tag, wanted = self._ask(lambda: self.client.pubs_of(job_id)), job.request.tag
        if tag != wanted:
            none = "a job without a tag of this package"
            raise JobError(
                f"the job {job_id} of the journal is that of its circuits",
                got=none if tag is None else f"the tag {TAG_PREFIX + tag!r}",
                expected=f"the tag {TAG_PREFIX + wanted!r}",
                remedy="Nothing was sent. Restore the journal from a copy, or name the right job "
                "with Journal.adopt.", job_id=job_id,
            )  # fmt: skip

    def _is_ours(self, job: Job, job_id: str) -> bool:
        try:
            return self.client.pubs_of(job_id) == job.request.tag
        except JobError:
            return False

    # Sending

    def _begin(self, job: Job) -> str:
        """Send a job that the journal has not sent, or take the service's own of its tag.

        A tag is a hash of all that a result depends on, the occasion included, so a job under it is
        this one whoever sent it: this study, whose journal was lost or is an older copy, or another
        study, from whose journal the result would be taken as well. Whether a journal was deleted
        on purpose does not matter, as nothing else can have that tag. What the journal knows to
        have ended without a result of use is not taken again.
        """
        known: tuple[str, ...] = ()
        ours: list[JobState] = []
        if not self.client.local:
            # Before anything is written: if the service cannot answer this, nothing is uncertain.
            there = self._ask(lambda: self.client.find(job.request.tag))
            ours = self._of_use(job, there)
            known = tuple(state.job_id for state in there if state not in ours)
            if not ours:
                self._check_quota(job)
        lasting = self.journal.lasting
        self.journal.intend(
            Intent(
                job.key, job.request.tag, self.terms.backend, self.client.device.name,
                job.request.kind, job.circuits, job.request.shots, job.request.precision, job.cost,
                known, pack_values(job.request.pubs) if lasting else b"",
                context_bytes() if lasting else b"", job.request.max_seconds,
                self.client.device.account,
            ),
            budget=None if ours else self.terms.budget,  # what was sent is paid for
        )  # fmt: skip
        best = _furthest(ours)
        if best is None:
            return self._deliver(job, known, fresh=True)
        self.counts["adopted"] += 1
        self.journal.sent(job.key, best.job_id)
        self._ask(lambda: self._cancel_all_but(best, ours, job))
        return best.job_id

    def _of_use(self, job: Job, states: Sequence[JobState]) -> list[JobState]:
        """Those of the jobs under a tag that have a result, or will have one."""
        if not self.journal.lasting:
            return []  # it keeps no results: what is asked for again is measured again
        ended = ("failed", "cancelled")
        useless = {one.job_id for one in self.journal.attempts(job.key) if one.status in ended}
        return [s for s in states if s.status not in ended and s.job_id not in useless]

    def _check_quota(self, job: Job) -> None:
        left = self._ask(self.client.remaining_seconds)
        if left is not None and left < job.cost.seconds:
            raise QuotaError(
                "the account has time left for a job", got=f"{left:.1f} s left",
                expected=f"{job.cost.seconds:.1f} s for the next job",
                remedy="Run the same command when the account has time again: what is done is "
                "kept.",
            )  # fmt: skip

    def _deliver(self, job: Job, known: Sequence[str], *, fresh: bool) -> str:
        """Send a job that is written down, or find the one that was sent.

        Args:
            job: The job.
            known: Ids of jobs with its tag that are none of ours.
            fresh: Whether it has certainly not been sent yet.
        """
        unclear = not fresh
        problem = TransientError("the service was not asked")
        for wait in _waits(self.terms.tries):
            posted = False
            try:
                if unclear:
                    found = self._sent_already(job, known)
                    if found is not None:
                        self.counts["adopted"] += 1
                        return found
                self._keep_pace()
                unclear = posted = True
                job_id = self.client.submit(job.request)
            except TransientError as error:
                problem, fresh = error, False
                # At once: jobs that arrived all the same must be found before they begin.
                with suppress(TransientError):
                    found = self._sent_already(job, known) if posted else None
                    if found is not None:
                        self.counts["adopted"] += 1
                        return found
                self._sleep(max(wait, error.retry_after or (_LAG if posted else 0.0)))
                continue
            except QiskitKDError as error:
                if fresh:  # no earlier try that might have arrived after all
                    self.journal.refused(job.key, str(error))
                raise
            self.counts["sent"] += 1
            self.journal.sent(job.key, job_id)
            return self._alone(job, job_id, known)
        return self._give_up(job, known, problem)

    def _give_up(self, job: Job, known: Sequence[str], problem: TransientError) -> str:
        try:
            found = self._sent_already(job, known)
        except TransientError:
            tag = TAG_PREFIX + job.request.tag
            raise UncertainJobError(
                "nobody can say whether a job was sent", got=f"no answer to the question for its "
                f"tag {tag!r}: {problem}",
                remedy="Run the same command when the service answers: it looks for the tag first. "
                f"If you know better: Journal({str(self.journal.path)!r}).adopt({tag!r}, job_id) "
                "takes a job that you have found there, .resend(...) sends it again.",
            ) from None  # fmt: skip
        if found is not None:
            self.counts["adopted"] += 1
            return found
        self.journal.refused(job.key, str(problem))
        raise problem

    def _sent_already(self, job: Job, known: Sequence[str]) -> str | None:
        """The job with this tag, if the service has one; its twins are cancelled."""
        states = self._with_tag(job, known)
        self._note_ended(job, states)
        best = _furthest(states)
        if best is None:
            return None
        self.journal.sent(job.key, best.job_id)
        self._cancel_all_but(best, states, job)
        return best.job_id

    def _alone(self, job: Job, job_id: str, known: Sequence[str]) -> str:
        """See that a job is the only one of its tag that runs; the id of that which remains."""
        if self.client.local:
            return job_id
        states = self._ask(lambda: self._with_tag(job, known))
        others = [state for state in states if state.job_id != job_id]
        if len(others) == len(states):
            if self._ask(lambda: self._is_ours(job, job_id)):
                # A search that lags behind shows a twin only, or nothing.
                states.append(self._ask(lambda: self.client.state(job_id)))
            else:
                self.journal.unsent(job.key, job_id)
        self._note_ended(job, others)
        best = _furthest(states)
        if best is None and len(others) == len(states):
            raise TransientError(
                "the service names the job that it was sent", got=f"{job_id}, another one",
                remedy="Run the same command later: the job is looked for by its tag.",
            )  # fmt: skip
        if best is None or [state.job_id for state in states] == [job_id]:
            self.journal.alone(job.key)
            return job_id
        if best.job_id != job_id:
            self.journal.sent(job.key, best.job_id)
        self._ask(lambda: self._cancel_all_but(best, states, job))
        return best.job_id

    def _note_ended(self, job: Job, states: Sequence[JobState]) -> None:
        for state in states:
            if state.status in ("failed", "cancelled"):
                self.journal.ended(
                    job.key, state.job_id, status=state.status, reason=state.reason,
                    seconds=_charge(job, state),
                )  # fmt: skip

    def _with_tag(self, job: Job, known: Sequence[str]) -> list[JobState]:
        return [s for s in self.client.find(job.request.tag) if s.job_id not in known]

    def _cancel_all_but(self, best: JobState, states: Sequence[JobState], job: Job) -> None:
        for state in states:
            if state.job_id == best.job_id or state.status in ("failed", "cancelled"):
                continue
            status = "done"  # too late for one that has ended, but it is charged
            if state.status != "done":
                self.client.cancel(state.job_id)
                self.counts["twins"] += 1
                status = "cancelled"
            self.journal.ended(
                job.key, state.job_id, status=status, reason="twin", seconds=_charge(job, state)
            )
        self.journal.alone(job.key)

    def _keep_pace(self) -> None:
        while self.terms.per_minute is not None:
            wait = self.journal.admit(self.client.device.name, most=self.terms.per_minute)
            if wait <= 0:
                return
            self._sleep(wait)

    # Waiting

    def _wait(self, job_id: str) -> JobState:
        pause, begun, patience = min(0.2, self.terms.poll), self.terms.clock(), self.terms.patience
        while True:
            state = self._ask(lambda: self.client.state(job_id))
            if state.status not in ("queued", "running"):
                return state
            if patience is not None and self.terms.clock() - begun >= patience:
                raise TransientError(
                    "a job ends while somebody waits for it",
                    got=f"{job_id}, which is {state.status} after {patience:g} s",
                    remedy="Run the same command later: the job goes on and is found again.",
                )  # fmt: skip
            self._sleep(pause)
            pause = min(1.5 * pause, self.terms.poll)

    def _finish(self, job: Job, job_id: str, state: JobState) -> bytes:
        content = pack_results(self._ask(lambda: self._result(job, job_id)))
        # Before the result: whoever finds that in the journal finds the calibration, too.
        calibration = self._ask(lambda: self.client.calibration(state.began))
        self.journal.calibrated(job_id, calibration)
        self.journal.done(
            job.key, job_id, content, seconds=_charge(job, state),
            usd_per_second=self.terms.usd_per_second,
        )  # fmt: skip
        return content

    def _result(self, job: Job, job_id: str) -> list[PubResult]:
        """What a job gave, if it is what was asked for; worth another try if not."""
        found = self.client.result(job_id)
        wrong = misfit(found, job.request.pubs, twirled=job.request.twirled)
        if wrong:
            raise TransientError(
                f"the result of the job {job_id} is that of its circuits", got=wrong,
                remedy=RESULT_AGAIN,
            )  # fmt: skip
        return found

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask the service, again where it does not answer; the last error where it never does."""
        waits = _waits(self.terms.tries)
        while True:
            try:
                return question()
            except TransientError as error:
                wait = next(waits, None)
                if wait is None:
                    raise
                self._sleep(max(wait, error.retry_after or 0.0))


def refetch(client: Client, journal: Journal, record: Record, state: JobState) -> None:
    """Keep the result of a job that has ended, as far as its journal can tell that it is its own.

    Its circuits are not known here: the next run, which has them, looks again.

    Raises:
        TransientError: If the result is another job's, or cannot be read.
    """
    found = client.result(state.job_id)
    values = unpack_values(journal.inputs(record.key)[0])
    shapes = [tuple(one.data.shape) for one in found]
    if len(found) != record.pubs or (
        record.kind == "sampler" and shapes != [value.shape[:-1] for value in values]
    ):
        raise TransientError(
            f"the result of the job {state.job_id} is that of its circuits",
            got=f"{len(found)} results of shapes {shapes}", expected=f"{record.pubs} results",
            remedy=RESULT_AGAIN,
        )  # fmt: skip
    journal.calibrated(state.job_id, client.calibration(state.began))
    price = record.usd / record.seconds if record.usd and record.seconds else None
    journal.done(
        record.key, state.job_id, pack_results(found), usd_per_second=price,
        seconds=record.estimate if state.seconds is None else state.seconds,
    )  # fmt: skip


def _waits(times: int) -> Iterator[float]:
    """Seconds between tries: 1, 2, 4, ... 60, 60."""
    return (min(60.0, 2.0**k) for k in range(times))


def _charge(job: Job, state: JobState) -> float:
    """Seconds to count for a job at the service; what is expected of one that began, if unknown."""
    if state.seconds is not None:
        return state.seconds
    return 0.0 if state.status in ("queued", "cancelled") else job.cost.seconds


def _furthest(states: Sequence[JobState]) -> JobState | None:
    """The one to keep of jobs that are the same: what has begun is paid for; then the oldest."""
    rank = {"done": 2, "running": 1, "queued": 0}
    alive = [state for state in reversed(states) if state.status in rank]
    return max(alive, key=lambda state: rank[state.status], default=None)
