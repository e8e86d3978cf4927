# SPDX-License-Identifier: Apache-2.0
"""V2 primitives whose jobs go through a session: journalled, within the budget, never twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qiskit.primitives import (
    BaseEstimatorV2,
    BasePrimitiveJob,
    BaseSamplerV2,
    PrimitiveResult,
    PubResult,
)
from qiskit.providers import JobStatus

from qiskit_kd.execution.pubs import estimator_pubs, sampler_pubs
from qiskit_kd.execution.runtime.cost import Cost, total
from qiskit_kd.execution.runtime.session import DeviceSession
from qiskit_kd.execution.sampled import fresh_seed


class FinishedJob(BasePrimitiveJob[PrimitiveResult[PubResult], JobStatus]):  # type: ignore[misc]
    """What `run` of these primitives returns: it has waited already.

    Args:
        results: One for each PUB.
        cost: Executions, jobs, PUBs and seconds of the device, in this run or in an earlier one.
        job_ids: Ids of its jobs at the service.
    """

    def __init__(self, results: list[PubResult], cost: Cost, job_ids: tuple[str, ...]) -> None:
        super().__init__("+".join(job_ids))
        self.cost, self.job_ids = cost, job_ids
        self._result = PrimitiveResult(results, {"job_ids": list(job_ids)})

    def result(self) -> PrimitiveResult[PubResult]:
        """The results, one for each PUB."""
        return self._result

    def status(self) -> JobStatus:
        """Always done."""
        return JobStatus.DONE

    def done(self) -> bool:
        """See `BasePrimitiveJob.done`."""
        return True

    def running(self) -> bool:
        """See `BasePrimitiveJob.running`."""
        return False

    def cancelled(self) -> bool:
        """See `BasePrimitiveJob.cancelled`."""
        return False

    def in_final_state(self) -> bool:
        """See `BasePrimitiveJob.in_final_state`."""
        return True

    def cancel(self) -> None:
        """Too late."""


class RuntimeSampler(BaseSamplerV2):  # type: ignore[misc]
    """A V2 sampler; `run` waits until its job is done.

    Args:
        session: What sends jobs.
        repetition: Which of several measurements of the same content this is; equal ones are
            measured once and then taken from the journal. None measures anew with every `run`.
        default_shots: Shots where a PUB or `run` names none.
    """

    def __init__(
        self, session: DeviceSession, *, repetition: int | None = None, default_shots: int = 1024
    ) -> None:
        self.session, self.repetition, self.default_shots = session, repetition, default_shots

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> FinishedJob:
        """Run PUBs in one job, or in one for each number of shots they name.

        Args:
            pubs: Circuits of the device, with values.
            shots: Shots where a PUB names none.
        """
        coerced = sampler_pubs(pubs, self.default_shots if shots is None else shots)
        return _run(self.session, "sampler", "shots", coerced, self.repetition)


class RuntimeEstimator(BaseEstimatorV2):  # type: ignore[misc]
    """A V2 estimator; `run` waits until its job is done.

    Args:
        session: What sends jobs.
        repetition: As for `RuntimeSampler`.
        default_precision: Standard deviation asked for where a PUB or `run` names none.
    """

    def __init__(
        self,
        session: DeviceSession,
        *,
        repetition: int | None = None,
        default_precision: float = 1 / 64,
    ) -> None:
        self.session, self.repetition = session, repetition
        self.default_precision = default_precision

    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> FinishedJob:
        """Run PUBs in one job, or in one for each precision they name.

        Args:
            pubs: Circuits of the device, with observables and values.
            precision: Standard deviation asked for where a PUB names none.
        """
        # A device measures: of it nothing is exact, and 0 stands for its usual precision.
        coerced = estimator_pubs(pubs, precision or self.default_precision)
        return _run(self.session, "estimator", "precision", coerced, self.repetition)


def _run(
    session: DeviceSession, kind: str, limit: str, pubs: list[Any], repetition: int | None
) -> FinishedJob:
    groups: dict[Any, list[int]] = {}
    for place, pub in enumerate(pubs):
        groups.setdefault(getattr(pub, limit), []).append(place)
    number = fresh_seed() if repetition is None else repetition
    results: dict[int, PubResult] = {}
    answers = []
    for places in groups.values():
        answers.append(session.perform(kind, [pubs[k] for k in places], repetition=number))
        results.update(zip(places, answers[-1].results, strict=True))
    ids = tuple(job_id for answer in answers for job_id in answer.job_ids)
    return FinishedJob(
        [results[place] for place in sorted(results)], total(one.cost for one in answers), ids
    )
