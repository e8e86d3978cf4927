# SPDX-License-Identifier: Apache-2.0
"""`Dispatcher`: the results of circuits, each measured once and then taken from the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qiskit.primitives import PubResult

from qiskit_kd.errors import BudgetError, ConfigError, StorageError
from qiskit_kd.execution.pubs import estimator_pubs, sampler_pubs
from qiskit_kd.execution.runtime.client import Client, Request
from qiskit_kd.execution.runtime.consent import BUDGET
from qiskit_kd.execution.runtime.cost import Cost, ceiling, cost_of_pubs
from qiskit_kd.execution.runtime.delivery import Courier, Job, Terms
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.payload import (
    Digests,
    content_key,
    misfit,
    unpack_results,
)
from qiskit_kd.execution.runtime.pieces import Pub, cut, joined
from qiskit_kd.execution.runtime.records import Record

__all__ = ["Answer", "Dispatcher", "check_budget"]

PER_MINUTE = 5
"""Jobs that may be sent in a minute, by all processes that share a journal."""

_RESULT_OPTIONS = ("rep_delay", "dynamical_decoupling", "twirling", "resilience_level")
_TAG = 32  # digits of the key: 128 bits


@dataclass(frozen=True)
class Answer:
    """Results of a call, and what their jobs have cost, in this run or in an earlier one.

    Args:
        results: One for each PUB.
        cost: Executions, jobs, PUBs, seconds and price of all its jobs.
        job_ids: Ids of the jobs at the service.
    """

    results: list[PubResult]
    cost: Cost
    job_ids: tuple[str, ...]


def check_budget(budget: float | None, *, local: bool, backend: str) -> None:
    """Refuse to send anything to a device without a budget.

    Args:
        budget: Seconds of the device.
        local: Whether jobs run in this process.
        backend: Name of the entry of `backends.yaml`.

    Raises:
        BudgetError: If there is none, and the device is not local.
        ConfigError: If there is one that is not positive.
    """
    if budget is not None and not budget > 0:
        raise ConfigError(
            "a budget is a positive number of seconds", got=f"budget_seconds: {budget:g}",
            expected="more than 0", remedy=f"Correct the entry {backend!r} of the backend file.",
        )  # fmt: skip
    if budget is None and not local:
        raise BudgetError(
            f"a device is used within a budget, and {backend!r} has none",
            got="no budget_seconds", expected="seconds of quantum processor time at most",
            remedy=f"Allow some with `qkd run ... --budget SECONDS`, with {BUDGET}, or with "
            f"budget_seconds in the entry {backend!r} of the backend file; `qkd estimate` says how "
            "many an experiment needs.",
        )  # fmt: skip


class Dispatcher:
    """Runs jobs on one device, each of them once.

    Args:
        client: The device and its jobs.
        journal: Where jobs are written down.
        options: An entry of kind `runtime`; `budget_seconds`, `usd_per_second`,
            `max_execution_time` and what changes results are read.
        backend: Name of the entry; the budget is for all jobs of its device and account in the
            journal, whatever their entries are called.
        attempts, tries, per_minute, poll, patience: See `Terms`.
        clock: Seconds since some moment.
        sleep: What waits.

    Raises:
        BudgetError: If a device that is not local has no budget.
        ConfigError: If the budget is not positive.
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        *,
        options: Any,
        backend: str = "runtime",
        attempts: int = 3,
        tries: int = 8,
        per_minute: int | None = PER_MINUTE,
        poll: float = 10.0,
        patience: float | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        check_budget(options.budget_seconds, local=client.local, backend=backend)
        self.client, self.journal, self.backend = client, journal, backend
        self._options = options
        self._courier = Courier(client, journal, Terms(
            backend, options.budget_seconds, options.usd_per_second, attempts, tries,
            None if client.local else per_minute, poll, patience, clock, sleep,
        ))  # fmt: skip
        self._digest = Digests()

    @property
    def counts(self) -> dict[str, int]:
        """What this process has done: jobs sent, taken from the journal, found again, cancelled."""
        return self._courier.counts

    def run(
        self, kind: str, pubs: Sequence[Any], *, occasion: int, shots: int | None = None,
        precision: float | None = None,
    ) -> list[PubResult]:  # fmt: skip
        """The results of `perform`."""
        return self.perform(
            kind, pubs, occasion=occasion, shots=shots, precision=precision
        ).results  # fmt: skip

    def perform(
        self, kind: str, pubs: Sequence[Any], *, occasion: int, shots: int | None = None,
        precision: float | None = None,
    ) -> Answer:  # fmt: skip
        """Have PUBs run, or find out what they gave when they were run before.

        They are one job, or as few as the limit of a job allows.

        Args:
            kind: `"sampler"` or `"estimator"`.
            pubs: PUBs over circuits of the device.
            occasion: Which of several measurements of the same content this is; a run that is
                repeated names the same ones.
            shots: Shots of every PUB (sampler).
            precision: Standard deviation asked for (estimator).

        Raises:
            BudgetError: If a job would cross the budget; it was not sent.
            QuotaError: If the account has no time left for it; it was not sent.
            DeviceError: If the device cannot run it; it was not sent.
            AccountError: If the service does not accept the account.
            JobError: If a job fails again and again, or the journal's id is of another circuit.
            TransientError: If the service does not answer. Nothing is lost.
            UncertainJobError: If nobody can say whether a job was sent.
            StorageError: If the journal is damaged.
        """
        coerced: list[Pub] = (
            sampler_pubs(pubs, shots) if kind == "sampler" else estimator_pubs(pubs, precision)
        )
        jobs, parts = cut(coerced)
        answers = [self._perform(self._job(kind, job, occasion)) for job in jobs]
        return Answer(
            joined(coerced, [answer.results for answer in answers], parts),
            sum((answer.cost for answer in answers), Cost()),
            tuple(i for answer in answers for i in answer.job_ids),
        )

    def spent(self) -> float:
        """Seconds that this account's jobs on the device have cost, or are about to."""
        return self.journal.spent(self.client.device.name, self.client.device.account)

    # From the journal to an answer

    def _job(self, kind: Any, pubs: tuple[Pub, ...], occasion: int) -> Job:
        device = self.client.device
        shots, precision = _common(pubs, "shots"), _common(pubs, "precision")
        digests = [self._digest(pub.circuit) for pub in pubs]
        key = content_key(
            kind, pubs, digests, shots=shots, precision=precision, device=device.name,
            options=_options_of(self._options, kind, local=self.client.local), occasion=occasion,
        )  # fmt: skip
        rep_delay = self._options.rep_delay
        cost = cost_of_pubs(
            pubs, target=device.target,
            rep_delay=device.rep_delay if rep_delay is None else rep_delay,
            usd_per_second=self._options.usd_per_second,
        )  # fmt: skip
        limit = None
        if not self.client.local:
            limit = self._options.max_execution_time or ceiling(cost.seconds)
        return Job(
            key,
            Request(
                kind,
                pubs,
                shots,
                precision,
                key[:_TAG],
                max_seconds=limit,
                twirled=self._options.twirling is not None,
            ),
            "+".join(digest[:16] for digest in digests),
            cost,
        )

    def _perform(self, job: Job) -> Answer:
        found = self._answer(job)
        if found is None:
            with self.journal.alone_with(job.key):
                found = self._answer(job)  # another process may have done it meanwhile
                if found is None:
                    return self._work(job)
        self.counts["reused"] += 1
        return found

    def _answer(self, job: Job) -> Answer | None:
        """What the journal knows; None where there is no result, or one that is damaged."""
        record = self.journal.get(job.key)
        if record is None or record.state != "done":
            return None
        try:
            content = self.journal.result(job.key)
            if content is None:
                return None
            found = unpack_results(content, {"job_id": record.job_id})
        except StorageError:
            return None
        if misfit(found, job.request.pubs, twirled=job.request.twirled):
            return None
        return _answered(record, found, record.seconds)

    def _work(self, job: Job) -> Answer:
        before = self.journal.get(job.key)
        content = self._courier.work(job)
        record = self.journal.get(job.key)
        assert record is not None
        # A job whose result was not kept is run anew, and costs anew.
        anew = before is not None and before.state == "done" and not self._courier.keeps
        paid = before.seconds if anew and before is not None else 0.0
        found = unpack_results(content, {"job_id": record.job_id})
        return _answered(record, found, record.seconds - paid)


def _answered(record: Record, found: list[PubResult], seconds: float) -> Answer:
    cost = Cost(record.executions, 1, record.pubs, seconds, record.usd)
    return Answer(found, cost, (str(record.job_id),))


def _common(pubs: Sequence[Pub], name: str) -> Any:
    """The shots, or the precision, of all PUBs of a job: the service takes no mixture."""
    values = {getattr(pub, name, None) for pub in pubs}
    if len(values) > 1:
        raise ConfigError(
            f"all PUBs of a job have the same {name}", got=", ".join(sorted(map(str, values))),
            remedy="Send them one by one.",
        )  # fmt: skip
    return values.pop() if values else None


def _options_of(options: Any, kind: str, *, local: bool) -> Mapping[str, Any]:
    """Settings that change what a job gives, as plain data; here, all but one change nothing."""
    names = [n for n in _RESULT_OPTIONS if n != "resilience_level" or kind == "estimator"]
    values: dict[str, Any] = {
        name: None if local and name != "rep_delay" else getattr(options, name, None)
        for name in names
    }
    return {k: v.model_dump() if hasattr(v, "model_dump") else v for k, v in values.items()}
