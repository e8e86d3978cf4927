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

from qiskit_kd.execution.runtime.jobs import Answer
from qiskit_kd.execution.runtime.session import DeviceSession
from qiskit_kd.execution.sampled import fresh_seed


class _Finished(BasePrimitiveJob[PrimitiveResult[PubResult], JobStatus]):  # type: ignore[misc]
    """What `run` of these primitives returns: it has waited already."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("+".join(answer.job_ids))
        self.cost, self.job_ids = answer.cost, answer.job_ids
        self._result = PrimitiveResult(answer.results, {"job_ids": list(answer.job_ids)})

    def result(self) -> PrimitiveResult[PubResult]:
        return self._result

    def status(self) -> JobStatus:
        return JobStatus.DONE

    def done(self) -> bool:
        return True

    def running(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def in_final_state(self) -> bool:
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

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> _Finished:
        """Run PUBs in one job, or in one for each number of shots they name.

        Args:
            pubs: Circuits of the device, with values.
            shots: Shots where a PUB names none.
        """
        number = fresh_seed() if self.repetition is None else self.repetition
        shots = self.default_shots if shots is None else shots
        return _Finished(self.session.perform("sampler", pubs, repetition=number, shots=shots))


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

    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> _Finished:
        """Run PUBs in one job, or in one for each precision they name.

        Args:
            pubs: Circuits of the device, with observables and values.
            precision: Standard deviation asked for where a PUB names none.
        """
        number = fresh_seed() if self.repetition is None else self.repetition
        # A device measures: of it nothing is exact, and 0 stands for its usual precision.
        precision = precision or self.default_precision
        return _Finished(
            self.session.perform("estimator", pubs, repetition=number, precision=precision)
        )
