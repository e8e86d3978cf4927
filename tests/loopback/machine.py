# SPDX-License-Identifier: Apache-2.0
"""The machine behind the loopback service: a queue, one worker, what it ran and what that cost."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Any

from tests.loopback.devices import Snapshot
from tests.loopback.faults import Faults, Outcome
from tests.loopback.jobs import FINAL, Job, utc

__all__ = ["RAN_TOO_LONG", "Machine"]

RAN_TOO_LONG = 1305
"""Code of the service for a job that ran longer than it was allowed to."""


LONGEST = 30.0
"""Seconds for which the answer to a submission waits for the job's end."""


class Machine:
    """Runs jobs in the order in which they were accepted, one at a time.

    Args:
        devices: Name to fake device.
        queue_seconds: Seconds from acceptance to the beginning of a job.
        run_seconds: Seconds a job keeps running beyond what it takes here.
        quota: QPU seconds of the account; jobs use them up. None for no end.

    Attributes:
        jobs: Jobs by id, in the order of their acceptance.
        ran: How often each `(tags, content)` began to run and was not made to fail. Nothing was
            paid for twice where no count is above one.
        begun: The same with those that were made to fail.
        submitted: Jobs accepted.
        cancelled_before_running: Jobs cancelled while they were queued.
        pubs: PUBs of the jobs that began.
        executions: Executions (circuits times shots) of the jobs that began.
        seconds: QPU seconds charged.
        outcomes: How the next jobs end, if not well.
        faults: What the next requests meet.
    """

    def __init__(
        self,
        devices: dict[str, str],
        *,
        queue_seconds: float,
        run_seconds: float,
        quota: float | None,
    ) -> None:
        self.devices = {name: Snapshot(name, fake) for name, fake in devices.items()}
        self.name = next(iter(self.devices))
        self.queue_seconds, self.run_seconds = queue_seconds, run_seconds
        self.quota = quota
        self.jobs: dict[str, Job] = {}
        self.faults = Faults()
        self.outcomes: deque[Outcome] = deque()
        self.ran: Counter[tuple[tuple[str, ...], str]] = Counter()
        self.begun: Counter[tuple[tuple[str, ...], str]] = Counter()
        self.submitted = self.pubs = self.executions = self.cancelled_before_running = 0
        self.seconds = 0.0
        self._held = False
        self._stopping = threading.Event()
        self._change = threading.Condition()
        self._queue: list[tuple[float, Job]] = []
        self._worker: threading.Thread | None = None

    # What a test sets and asks

    def end_next(
        self,
        status: str = "Failed",
        reason: str = "backend error",
        code: int = 1517,
        *,
        after: int = 0,
    ) -> None:
        """The next job that begins ends like this; called again, it is about the one after."""
        self.outcomes.append(Outcome(status, reason, code, after))

    def time_out_next(self, *, after: int = 0) -> None:
        """The next job that begins runs longer than its limit and is cancelled for it."""
        self.end_next("Cancelled", "ran too long", RAN_TOO_LONG, after=after)

    def hold(self) -> None:
        """Let nothing begin until `release`."""
        with self._change:
            self._held = True
            self._change.notify_all()

    def release(self) -> None:
        """Let jobs begin again."""
        with self._change:
            self._held = False
            self._change.notify_all()

    def set_quota(self, remaining: float | None) -> None:
        """QPU seconds that are left; with none left, jobs stay queued. None for no end."""
        with self._change:
            self.quota = remaining
            self._change.notify_all()

    def wait_idle(self, timeout: float = 30.0) -> None:
        """Wait until every accepted job has come to its end.

        Raises:
            TimeoutError: If they do not.
        """
        end = time.monotonic() + timeout
        for job in list(self.jobs.values()):
            if not job.done.wait(max(0.0, end - time.monotonic())):
                raise TimeoutError(f"job {job.id} is still {job.status}")

    def counters(self) -> dict[str, Any]:
        """All counts, in a form that JSON can hold."""
        with self._change:
            return {
                "submitted": self.submitted,
                "pubs": self.pubs,
                "executions": self.executions,
                "cancelled_before_running": self.cancelled_before_running,
                "seconds": self.seconds,
                "quota": self.quota,
                "ran": [[list(t), c, n] for (t, c), n in self.ran.items()],
                "begun": [[list(t), c, n] for (t, c), n in self.begun.items()],
            }

    def most_runs(self) -> int:
        """How often the most frequent job ran: above one, something was paid for twice."""
        with self._change:
            return max(self.ran.values(), default=0)

    # The queue

    def start_worker(self) -> None:
        """Begin to run jobs."""
        self._stopping.clear()
        self._worker = threading.Thread(target=self._work, name="loopback-worker")
        self._worker.start()

    def stop_worker(self) -> None:
        """Run no more; queued jobs stay queued."""
        with self._change:
            self._stopping.set()
            self._change.notify_all()
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def enqueue(self, job: Job) -> None:
        """Accept a job. Where it begins at once, come back at its end."""
        with self._change:
            self.jobs[job.id] = job
            self.submitted += 1
            self._queue.append((time.monotonic() + self.queue_seconds, job))
            self._change.notify_all()
        if self.queue_seconds or self.run_seconds:
            return
        end = time.monotonic() + LONGEST
        while self._free() and not self._stopping.is_set() and time.monotonic() < end:
            if job.done.wait(0.02):
                return

    def cancel(self, job: Job) -> bool:
        """Cancel a job; False where it had come to its end before."""
        with self._change:
            if job.status in FINAL:
                return False
            if job.begun:
                self._charge(job, 0.0 if job.work is None else job.work.seconds)
            else:
                self.cancelled_before_running += 1
            job.end("Cancelled")
            self._queue = [(due, other) for due, other in self._queue if other is not job]
            self._change.notify_all()
        return True

    def _free(self) -> bool:
        return not self._held and (self.quota is None or self.quota > 0)

    def _ready(self) -> Job | None:
        """The job to run now; waits for it, None at the end. Called with the lock held."""
        while not self._stopping.is_set():
            free = self._free()
            due = self._queue[0][0] - time.monotonic() if self._queue else None
            if free and due is not None and due <= 0:
                return self._queue.pop(0)[1]
            self._change.wait(due if free else None)
        return None

    def _work(self) -> None:
        while True:
            with self._change:
                if (job := self._ready()) is None:
                    return
                if job.status in FINAL:
                    continue
                outcome = self._outcome()
                self._begin(job, failing=outcome is not None)
                if outcome is not None:
                    self._charge(job, 1.0)
                    job.end(outcome.status, outcome.reason, outcome.code)
                    continue
                self._wait_running(job)
                if job.status in FINAL:
                    continue
            self._finish(job)

    def _wait_running(self, job: Job) -> None:
        self._change.wait_for(
            lambda: self._stopping.is_set() or job.status in FINAL, self.run_seconds
        )

    def _outcome(self) -> Outcome | None:
        if not self.outcomes:
            return None
        if self.outcomes[0].after > 0:
            self.outcomes[0].after -= 1
            return None
        return self.outcomes.popleft()

    def _begin(self, job: Job, *, failing: bool) -> None:
        work = job.work
        job.status, job.running, job.begun = "Running", utc(), True
        key = job.tags, job.content
        self.begun[key] += 1
        if not failing:
            self.ran[key] += 1
        if work is not None:
            self.pubs += work.pubs
            self.executions += work.executions

    def _finish(self, job: Job) -> None:
        result, status, reason, code = None, "Completed", "", 0
        work, limit = job.work, job.request.get("cost")
        if work is None or work.wrong:
            reason = job.reason if work is None else work.wrong
            status, code = "Failed", 1517
        elif limit is not None and work.seconds > limit:
            status, reason, code = "Cancelled", "ran too long", RAN_TOO_LONG
        else:
            try:
                result = work.run(job.tags)
            except Exception as exc:  # the client must see a failed job
                status, reason, code = "Failed", f"{type(exc).__name__}: {exc}"[:200], 1517
        with self._change:
            if job.status in FINAL:
                return  # cancelled meanwhile
            seconds = 1.0 if work is None or work.wrong else work.seconds
            self._charge(job, min(seconds, limit) if limit is not None else seconds)
            job.result = result
            job.end(status, reason, code)

    def _charge(self, job: Job, seconds: float) -> None:
        job.seconds = seconds
        self.seconds += seconds
        if self.quota is not None:
            self.quota -= seconds
