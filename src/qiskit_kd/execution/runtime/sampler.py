# SPDX-License-Identifier: Apache-2.0
"""V2 primitives whose jobs go through a dispatcher: journalled, within the budget, never twice."""

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
from qiskit_kd.execution.rows import fresh_seed
from qiskit_kd.execution.runtime.cost import Cost
from qiskit_kd.execution.runtime.dispatch import Answer, Dispatcher

__all__ = ["FinishedJob", "RuntimeEstimator", "RuntimeSampler"]


class FinishedJob(BasePrimitiveJob[PrimitiveResult[PubResult], JobStatus]):  # type: ignore[misc]
    """What `run` of these primitives returns: it has waited already.

    Args:
        answers: What the dispatcher gave.
        places: Where the results of each answer stand among those of the job.
    """

    def __init__(self, answers: list[Answer], places: list[list[int]]) -> None:
        ids = tuple(job_id for answer in answers for job_id in answer.job_ids)
        super().__init__("+".join(ids))
        self.job_ids = ids
        self.cost: Cost = sum((answer.cost for answer in answers), Cost())
        """Executions, jobs, PUBs and seconds of the device, in this run or in an earlier one."""
        found = {
            place: result
            for answer, places_of in zip(answers, places, strict=True)
            for place, result in zip(places_of, answer.results, strict=True)
        }
        self._result = PrimitiveResult(
            [found[place] for place in sorted(found)], {"job_ids": list(ids)}
        )

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
        dispatcher: What sends jobs.
        occasion: Which of several measurements of the same content this is; equal ones are measured
            once and then taken from the journal. None measures anew with every `run`.
        default_shots: Shots where a PUB or `run` names none.
    """

    def __init__(
        self, dispatcher: Dispatcher, *, occasion: int | None = None, default_shots: int = 1024
    ) -> None:
        self.dispatcher, self.occasion, self.default_shots = dispatcher, occasion, default_shots

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> FinishedJob:
        """Run PUBs in one job, or in one for each number of shots they name.

        Args:
            pubs: Circuits of the device, with values.
            shots: Shots where a PUB names none.
        """
        coerced = sampler_pubs(pubs, self.default_shots if shots is None else shots)
        return _run(self.dispatcher, "sampler", "shots", coerced, self.occasion)


class RuntimeEstimator(BaseEstimatorV2):  # type: ignore[misc]
    """A V2 estimator; `run` waits until its job is done.

    Args:
        dispatcher: What sends jobs.
        occasion: As for `RuntimeSampler`.
        default_precision: Standard deviation asked for where a PUB or `run` names none.
    """

    def __init__(
        self, dispatcher: Dispatcher, *, occasion: int | None = None,
        default_precision: float = 1 / 64,
    ) -> None:  # fmt: skip
        self.dispatcher, self.occasion = dispatcher, occasion
        self.default_precision = default_precision

    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> FinishedJob:
        """Run PUBs in one job, or in one for each precision they name.

        Args:
            pubs: Circuits of the device, with observables and values.
            precision: Standard deviation asked for where a PUB names none.
        """
        # A device measures: of it nothing is exact, and 0 stands for its usual precision.
        coerced = estimator_pubs(pubs, precision or self.default_precision)
        return _run(self.dispatcher, "estimator", "precision", coerced, self.occasion)


def _run(
    dispatcher: Dispatcher, kind: str, limit: str, pubs: list[Any], occasion: int | None
) -> FinishedJob:
    groups: dict[Any, list[int]] = {}
    for place, pub in enumerate(pubs):
        groups.setdefault(getattr(pub, limit), []).append(place)
    number = fresh_seed() if occasion is None else occasion
    answers = [
        dispatcher.perform(kind, [pubs[place] for place in places], occasion=number)
        for places in groups.values()
    ]
    return FinishedJob(answers, list(groups.values()))
