# SPDX-License-Identifier: Apache-2.0
"""`JobRunner`: the results of circuits, each measured once and then taken from the journal.

The order of things is the point. A job is written down before it is sent; its id as soon as it is
known; then twins are looked for, because a service that answers badly may have accepted a job all
the same; then it is waited for; its result is written down before anybody uses it. Whoever comes
later, the same command after a crash or another process, finds out from the journal how far that
went and goes on from there:

    nothing ──intend──> intent ──sent──> sent ──(alone)──> sent, alone ──done──> done
                          │                │                                      │ damaged result
                          │ refused        │ ended: failed or cancelled           └> fetched again
                          v                v
                    nothing, or failed   failed ──intend──> intent, under the same tag
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from qiskit.primitives import PubResult

from qiskit_kd.errors import (
    JobError,
    QiskitKDError,
    QuotaError,
    StorageError,
    TransientError,
    UncertainJobError,
)
from qiskit_kd.execution.engine import context_bytes
from qiskit_kd.execution.runtime.client import Client, Job, JobState
from qiskit_kd.execution.runtime.cost import PER_MINUTE, Cost
from qiskit_kd.execution.runtime.errors import RESULT_AGAIN
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.serialization import (
    JobRecord,
    misfit,
    pack_results,
    unpack_results,
    unpack_values,
)
from qiskit_kd.execution.schema import TAG_PREFIX

T = TypeVar("T")

_ENDED = ("failed", "cancelled")
_LAG = 5.0
"""Seconds for a job whose answer was lost to show up under its tag, before it is sent again."""


@dataclass(frozen=True)
class Answer:
    """Results, one for each PUB, and what their jobs have cost, now or in an earlier run."""

    results: list[PubResult]
    cost: Cost
    job_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SubmitPolicy:
    """When jobs are sent, asked for and given up.

    Args:
        attempts: Times a job is sent in one run if it fails.
        tries: Times the service is asked in a row before its silence is an error. With the waits in
            between, the first 1 s long and each twice as long as the one before up to a minute, 8
            outlast a service that is down for two minutes.
        per_minute: Jobs that may be sent to a service in a minute; None for any number.
        poll: Longest time between two looks at a job, in seconds; the first ones are shorter.
        patience: Longest time to wait for a job, which goes on all the same; None for ever.
        clock: Seconds since some moment.
        sleep: What waits.
    """

    attempts: int = 3
    tries: int = 8
    per_minute: int | None = PER_MINUTE
    poll: float = 10.0
    patience: float | None = None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class JobRunner:
    """Runs jobs on one device, each of them once.

    Args:
        client: The device and its jobs.
        journal: Where jobs are written down.
        budget: Seconds that all jobs of the device and account in the journal may cost.
        usd_per_second: Price of a second; None if unknown.
        policy: When jobs are sent, asked for and given up.
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        *,
        budget: float | None = None,
        usd_per_second: float | None = None,
        policy: SubmitPolicy | None = None,
    ) -> None:
        self.client, self.journal, self.policy = client, journal, policy or SubmitPolicy()
        self._budget, self._usd_per_second, self._sleep = budget, usd_per_second, self.policy.sleep
        # A job that is done has its result at the service and in the journal.
        self._keeps = journal.lasting and not client.local
        self.counts = {"sent": 0, "reused": 0, "adopted": 0, "twins": 0}
        """What this process has done: jobs sent, taken from the journal, found again, cancelled."""

    def run(self, job: Job) -> Answer:
        """Have a job run, or find out what it gave when it was run before; see `DeviceSession`."""
        record = self.journal.get(job.key)
        found = None if record is None else self._known(job, record)
        if found is None and not self.journal.lasting:
            return self._work(job, record)
        if found is None:
            with self.journal.alone_with(job.key):
                record = self.journal.get(job.key)  # another process may have done it meanwhile
                found = None if record is None else self._known(job, record)
                if found is None:
                    return self._work(job, record)
        self.counts["reused"] += 1
        return found

    def _known(self, job: Job, record: JobRecord) -> Answer | None:
        """What the journal knows; None where there is no result, or one that is damaged."""
        if record.state != "done" or not self.journal.lasting:
            return None
        try:
            content = self.journal.result(job.key)
            found = None if content is None else unpack_results(content)
        except StorageError:
            return None
        if found is None or misfit(found, job.pubs, twirled=job.twirled):
            return None
        return _answer(job, found, str(record.job_id), record.seconds, record.usd)

    def _work(self, job: Job, record: JobRecord | None) -> Answer:
        """Have a job done that is not done yet; its owner alone may ask for that."""
        # A job whose result was not kept is run anew, and costs anew.
        anew = record is not None and record.state == "done" and not self._keeps
        paid = record.seconds if anew and record is not None else 0.0
        for attempt, wait in enumerate(_waits(self.policy.attempts), 1):
            job_id = None if record is None else self._under_way(job, record)
            if job_id is None:
                job_id = self._begin(job)
            state = self._wait(job_id)
            if state.status == "done":
                try:
                    return self._finish(job, state, paid)
                except JobError as error:
                    state = JobState(job_id, "failed", str(error), state.seconds)
            self._note_ended(job, [state])
            if attempt == self.policy.attempts:
                raise JobError(
                    f"a job of {job.backend!r} gives a result in {attempt} attempts",
                    got=f"{state.status}: {state.reason or 'no reason given'} ({job_id})",
                    remedy="Look at the job at the service; running again tries again.",
                    job_id=job_id,
                )
            self._sleep(wait)
            record = self.journal.get(job.key)
        raise AssertionError("at least one attempt is made")

    def _under_way(self, job: Job, record: JobRecord) -> str | None:
        """The id of a job that was sent before; None where it has to be begun."""
        if record.state == "failed" or self.client.local:
            return None  # jobs in this process ended with the process that began them
        if record.state == "done" and not self._keeps:
            return None
        if record.state == "intent":
            return self._deliver(job, record.known, fresh=False)
        assert record.job_id is not None
        self._check_ours(job, record.job_id)
        if not record.alone and record.state == "sent":
            return self._alone(job, record.job_id, record.known)
        return record.job_id  # of one that is done, the result is fetched again: it was damaged

    def _check_ours(self, job: Job, job_id: str) -> None:
        tag = self._ask(self.client.tag_of, job_id)
        if tag != job.tag:
            none = "a job without a tag of this package"
            raise JobError(
                f"the job {job_id} of the journal is that of its circuits",
                got=none if tag is None else f"the tag {TAG_PREFIX + tag!r}",
                expected=f"the tag {TAG_PREFIX + job.tag!r}",
                remedy="Nothing was sent. Restore the journal from a copy, or name the right job "
                "with Journal.adopt.",
                job_id=job_id,
            )

    # Sending

    def _begin(self, job: Job) -> str:
        """Send a job that the journal has not sent, or take the service's own of its tag.

        A tag is a hash of all that a result depends on, the repetition included, so a job under it
        is this one whoever sent it: this study, whose journal was lost or is an older copy, or
        another study, from whose journal the result would be taken as well. Whether a journal was
        deleted on purpose does not matter, as nothing else can have that tag. What the journal
        knows to have ended without a result of use is not taken again.
        """
        known: tuple[str, ...] = ()
        ours: list[JobState] = []
        if not self.client.local:
            # Before anything is written: if the service cannot answer this, nothing is uncertain.
            there = self._ask(self.client.find, job.tag)
            ours = self._of_use(job, there)
            known = tuple(state.job_id for state in there if state not in ours)
            if not ours:
                self._check_quota(job)
        self.journal.intend(
            job,
            known=known,
            context=context_bytes() if self.journal.lasting else b"",
            budget=None if ours else self._budget,  # what was sent is paid for
        )
        if not ours:
            return self._deliver(job, known, fresh=True)
        best = _furthest(ours)
        assert best is not None  # whatever is of use has not ended badly
        self.counts["adopted"] += 1
        self.journal.sent(job.key, best.job_id)
        self._ask(self._cancel_all_but, best, ours, job)
        return best.job_id

    def _of_use(self, job: Job, states: Sequence[JobState]) -> list[JobState]:
        """Those of the jobs under a tag that have a result, or will have one."""
        if not self.journal.lasting:
            return []  # it keeps no results: what is asked for again is measured again
        useless = {one.job_id for one in self.journal.attempts(job.key) if one.status in _ENDED}
        return [s for s in states if s.status not in _ENDED and s.job_id not in useless]

    def _check_quota(self, job: Job) -> None:
        left = self._ask(self.client.remaining_seconds)
        if left is not None and left < job.cost.seconds:
            raise QuotaError(
                "the account has time left for a job",
                got=f"{left:.1f} s left",
                expected=f"{job.cost.seconds:.1f} s for the next job",
                remedy="Run the same command when the account has time again: what is done is "
                "kept.",
            )

    def _deliver(self, job: Job, known: Sequence[str], *, fresh: bool) -> str:
        """Send a job that is written down, or find the one that was sent.

        Jobs with its tag in `known` are none of ours; a `fresh` one has certainly not been sent.
        """
        unclear = not fresh
        problem: TransientError | None = None
        for wait in _waits(self.policy.tries):
            posted = False
            try:
                if unclear and (found := self._sent_already(job, known)) is not None:
                    return found
                if not self.client.local:
                    self._keep_pace()
                unclear = posted = True
                job_id = self.client.submit(job)
            except TransientError as error:
                problem, fresh = error, False
                # At once: jobs that arrived all the same must be found before they begin.
                with suppress(TransientError):
                    found = self._sent_already(job, known) if posted else None
                    if found is not None:
                        return found
                self._sleep(max(wait, error.retry_after or (_LAG if posted else 0.0)))
                continue
            except QiskitKDError as error:
                if fresh:  # no earlier try that might have arrived after all
                    self.journal.refused(job.key, str(error))
                raise
            self.counts["sent"] += 1
            self.journal.sent(job.key, job_id)
            return job_id if self.client.local else self._alone(job, job_id, known)
        assert problem is not None
        return self._give_up(job, known, problem)

    def _give_up(self, job: Job, known: Sequence[str], problem: TransientError) -> str:
        try:
            found = self._sent_already(job, known)
        except TransientError:
            tag = TAG_PREFIX + job.tag
            raise UncertainJobError(
                "nobody can say whether a job was sent",
                got=f"no answer to the question for its tag {tag!r}: {problem}",
                remedy="Run the same command when the service answers: it looks for the tag first. "
                f"If you know better: Journal({str(self.journal.path)!r}).adopt({tag!r}, job_id) "
                "takes a job that you have found there, .resend(...) sends it again.",
            ) from None
        if found is not None:
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
        self.counts["adopted"] += 1
        return best.job_id

    def _alone(self, job: Job, job_id: str, known: Sequence[str]) -> str:
        """See that a job is the only one of its tag that runs; the id of that which remains."""
        states = self._ask(self._with_tag, job, known)
        others = [state for state in states if state.job_id != job_id]
        if len(others) == len(states):
            if self._ask(self._is_ours, job, job_id):
                # A search that lags behind shows a twin only, or nothing.
                states.append(self._ask(self.client.state, job_id))
            else:
                self.journal.unsent(job.key, job_id)
        self._note_ended(job, others)
        best = _furthest(states)
        if best is None and len(others) == len(states):
            raise TransientError(
                "the service names the job that it was sent",
                got=f"{job_id}, another one",
                remedy="Run the same command later: the job is looked for by its tag.",
            )
        if best is None or [state.job_id for state in states] == [job_id]:
            self.journal.alone(job.key)
            return job_id
        if best.job_id != job_id:
            self.journal.sent(job.key, best.job_id)
        self._ask(self._cancel_all_but, best, states, job)
        return best.job_id

    def _is_ours(self, job: Job, job_id: str) -> bool:
        try:
            return self.client.tag_of(job_id) == job.tag
        except JobError:
            return False

    def _note_ended(self, job: Job, states: Sequence[JobState]) -> None:
        for state in states:
            if state.status in _ENDED:
                self._end(job, state, state.status, state.reason)

    def _end(self, job: Job, state: JobState, status: str, reason: str) -> None:
        self.journal.ended(
            job.key, state.job_id, status=status, reason=reason, seconds=_charge(job, state)
        )

    def _with_tag(self, job: Job, known: Sequence[str]) -> list[JobState]:
        return [s for s in self.client.find(job.tag) if s.job_id not in known]

    def _cancel_all_but(self, best: JobState, states: Sequence[JobState], job: Job) -> None:
        for state in states:
            if state.job_id == best.job_id or state.status in _ENDED:
                continue
            status = "done"  # too late for one that has ended, but it is charged
            if state.status != "done":
                self.client.cancel(state.job_id)
                self.counts["twins"] += 1
                status = "cancelled"
            self._end(job, state, status, "twin")
        self.journal.alone(job.key)

    def _keep_pace(self) -> None:
        most = self.policy.per_minute
        while most is not None:
            wait = self.journal.admit(self.client.device.name, most=most)
            if wait <= 0:
                return
            self._sleep(wait)

    # Waiting

    def _wait(self, job_id: str) -> JobState:
        clock, patience = self.policy.clock, self.policy.patience
        pause, begun = min(0.2, self.policy.poll), clock()
        while True:
            state = self._ask(self.client.state, job_id)
            if state.status not in ("queued", "running"):
                return state
            if patience is not None and clock() - begun >= patience:
                raise TransientError(
                    "a job ends while somebody waits for it",
                    got=f"{job_id}, which is {state.status} after {patience:g} s",
                    remedy="Run the same command later: the job goes on and is found again.",
                )
            self._sleep(pause)
            pause = min(1.5 * pause, self.policy.poll)

    def _finish(self, job: Job, state: JobState, paid: float) -> Answer:
        found = self._ask(self._result, job, state.job_id)
        # Before the result: whoever finds that in the journal finds the calibration, too.
        calibration = self._ask(self.client.calibration, state.began)
        if calibration is not None:
            self.journal.calibrated(state.job_id, calibration)
        seconds, usd = self.journal.done(
            job.key,
            state.job_id,
            pack_results(found) if self.journal.lasting else None,
            seconds=_charge(job, state) if state.seconds is None else state.seconds,
            usd_per_second=self._usd_per_second,
        )
        return _answer(job, found, state.job_id, seconds - paid, usd)

    def _result(self, job: Job, job_id: str) -> list[PubResult]:
        """What a job gave, if it is what was asked for; worth another try if not."""
        found = self.client.result(job_id)
        wrong = misfit(found, job.pubs, twirled=job.twirled)
        if wrong:
            raise TransientError(
                f"the result of the job {job_id} is that of its circuits",
                got=wrong,
                remedy=RESULT_AGAIN,
            )
        return found

    def _ask(self, question: Callable[..., T], *about: Any) -> T:
        """Ask the service, again where it does not answer; the last error where it never does."""
        waits = iter(_waits(self.policy.tries))
        while True:
            try:
                return question(*about)
            except TransientError as error:
                wait = next(waits, None)
                if wait is None:
                    raise
                self._sleep(max(wait, error.retry_after or 0.0))


def refetch(client: Client, journal: Journal, record: JobRecord, state: JobState) -> None:
    """Keep the result of a job that has ended, as far as its journal can tell that it is its own.

    Its circuits are not known here: the next run, which has them, looks again.
    """
    found = client.result(state.job_id)
    values = unpack_values(journal.inputs(record.key)[0])
    shapes = [tuple(one.data.shape) for one in found]
    if len(found) != record.pubs or (
        record.kind == "sampler" and shapes != [value.shape[:-1] for value in values]
    ):
        raise TransientError(
            f"the result of the job {state.job_id} is that of its circuits",
            got=f"{len(found)} results of shapes {shapes}",
            expected=f"{record.pubs} results",
            remedy=RESULT_AGAIN,
        )
    if (calibration := client.calibration(state.began)) is not None:
        journal.calibrated(state.job_id, calibration)
    price = record.usd / record.seconds if record.usd and record.seconds else None
    seconds = record.estimate if state.seconds is None else state.seconds
    content = pack_results(found)
    journal.done(record.key, state.job_id, content, seconds=seconds, usd_per_second=price)


def _answer(
    job: Job, found: list[PubResult], job_id: str, seconds: float, usd: float | None
) -> Answer:
    cost = Cost(job.cost.executions, 1, job.cost.pubs, seconds, usd)
    return Answer([PubResult(one.data, {"job_id": job_id}) for one in found], cost, (job_id,))


@cache
def _waits(times: int) -> tuple[float, ...]:
    """Seconds between tries: 1, 2, 4, ... 60, 60."""
    return tuple(min(60.0, 2.0**k) for k in range(times))


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
