# SPDX-License-Identifier: Apache-2.0
"""Jobs, and what the rest of the package knows of the service that runs them.

A `Client` sends what it is given, once, and turns every failure into an error of this package; when
to send, wait or try again is the business of `jobs.JobRunner`.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from qiskit.primitives import PubResult

from qiskit_kd.execution.compiled import CompiledCircuit
from qiskit_kd.execution.runtime.cost import Cost
from qiskit_kd.execution.runtime.device import Device

Kind = Literal["sampler", "estimator"]
Status = Literal["queued", "running", "done", "failed", "cancelled"]
_TAG = 32  # digits of the key: 128 bits


@dataclass(eq=False)
class Job:
    """PUBs that a device runs together.

    Args:
        key: Hash of its content.
        kind: Which primitive runs it.
        pubs: Coerced `SamplerPub`s or `EstimatorPub`s over ISA circuits, all with the same shots or
            precision.
        compiled: The circuit of each PUB, as whoever sends them knows it.
        cost: What it is expected to cost.
        backend: Entry of `backends.yaml` that it is sent for.
        device: Name of the device.
        account: Whose it is, as `Device.account` says; budgets are kept per device and account.
        max_seconds: Seconds of the device after which the service cuts it off; None leaves that to
            the service.
        twirled: Whether its shots may be rounded up, to equal shares of random circuits.
    """

    key: str
    kind: Kind
    pubs: tuple[Any, ...]
    compiled: tuple[CompiledCircuit, ...] = ()
    cost: Cost = Cost()  # noqa: RUF009 - which cannot be changed
    backend: str = ""
    device: str = ""
    account: str = ""
    max_seconds: int | None = None
    twirled: bool = False

    def __post_init__(self) -> None:
        self.tag = self.key[:_TAG]
        """Its name at the service, behind `TAG_PREFIX`; unique, so that it is found again by it."""
        self.circuits = "+".join(map(attrgetter("label"), self.compiled))
        """What the journal calls its circuits."""
        first = self.pubs[0] if self.pubs else None
        self.shots: int | None = getattr(first, "shots", None)
        """Shots of each row of values."""
        self.precision: float | None = getattr(first, "precision", None)
        """Standard error asked for."""


@dataclass(frozen=True)
class JobState:
    """What the service says about a job.

    Args:
        job_id: Its id.
        status: How far it is.
        reason: Why it failed, in the service's words.
        seconds: Seconds of the device that it is charged; None until that is known.
        began: ISO time at which it began to run; None if unknown.
    """

    job_id: str
    status: Status
    reason: str = ""
    seconds: float | None = None
    began: str | None = None


@dataclass(frozen=True)
class Calibration:
    """What a device's calibration said of its readout at some time.

    Args:
        date: ISO date of the calibration.
        readout: `(num_qubits, 2)` P(read 1 | state 0) and P(read 0 | state 1) of each qubit.
    """

    date: str
    readout: NDArray[np.float64]


class Client(Protocol):
    """A device and its jobs. Failures are errors of `qiskit_kd.errors`, see `errors.mapped`."""

    device: Device
    local: bool

    def submit(self, job: Job) -> str:
        """Send a job and return its id.

        Raises:
            DeviceError: If the device cannot run it; nothing was sent.
            QuotaError: If the account has no time left; nothing was sent.
            TransientError: If the service did not answer well. The job may have arrived all the
                same: look for its tag.
        """

    def find(self, tag: str) -> list[JobState]:
        """The account's jobs with this tag, newest first."""

    def state(self, job_id: str) -> JobState:
        """Where a job stands."""

    def tag_of(self, job_id: str) -> str | None:
        """The tag that the job was sent with, or None if this package did not send it."""

    def result(self, job_id: str, *, timeout: float | None = None) -> list[PubResult]:
        """Wait for a job, `timeout` seconds at most, and return its results, one for each PUB.

        Raises:
            TransientError: If it has not ended by then; it goes on, and can be asked for again.
            JobError: If it failed, was cancelled, or ran longer than it may.
        """

    def cancel(self, job_id: str) -> None:
        """Ask for a job not to be run. One that has ended is left as it is."""

    def remaining_seconds(self) -> float | None:
        """Seconds of the device that the account may still use; None if unknown."""

    def calibration(self, began: str | None) -> Calibration | None:
        """The calibration at an ISO time, now if None; None where there is only one for ever."""

    def close(self) -> None:
        """Take no more jobs: a batch or session is told so. Jobs that were sent go on."""
