# SPDX-License-Identifier: Apache-2.0
"""Sending circuits to a device and asking after them, whatever version of the client is installed.

A `Client` is all that the rest of the package knows of the service. It sends what it is given,
once, and turns every failure into an error of this package; when to send, wait or try again is the
dispatcher's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from qiskit.primitives import PubResult

from qiskit_kd.errors import DeviceError
from qiskit_kd.execution.runtime.device import Device

__all__ = ["Calibration", "Client", "JobState", "Request", "Status", "check_request"]

Status = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Request:
    """One job.

    Args:
        kind: Which primitive runs it.
        pubs: Coerced `SamplerPub`s or `EstimatorPub`s over ISA circuits.
        shots: Shots per row of values (sampler).
        precision: Standard error asked for (estimator).
        tag: The job's own name, unique in the account, by which it is found again.
        tags: Further tags, as the user gave them.
        max_seconds: Seconds of the device after which the service cuts it off; None leaves that to
            the service.
        twirled: Whether its shots may be rounded up, to equal shares of random circuits.
    """

    kind: Literal["sampler", "estimator"]
    pubs: tuple[Any, ...]
    shots: int | None
    precision: float | None
    tag: str
    tags: tuple[str, ...] = ()
    max_seconds: int | None = None
    twirled: bool = False


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
    """A device and its jobs. Failures are errors of `qiskit_kd.errors`, see `failures.mapped`."""

    device: Device
    local: bool

    def submit(self, request: Request) -> str:
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

    def pubs_of(self, job_id: str) -> str | None:
        """The tag that the job was sent with, or None if this package did not send it."""

    def result(self, job_id: str, *, timeout: float | None = None) -> list[PubResult]:
        """Wait for a job and return its results, one for each PUB.

        Args:
            job_id: The job.
            timeout: Seconds to wait; None waits for as long as it takes.

        Raises:
            TransientError: If it has not ended by then; it goes on, and can be asked for again.
            JobError: If it failed, was cancelled, or ran longer than it may.
        """

    def cancel(self, job_id: str) -> None:
        """Ask for a job not to be run. One that has ended is left as it is."""

    def remaining_seconds(self) -> float | None:
        """Seconds of the device that the account may still use; None if unknown."""

    def calibration(self, began: str | None) -> Calibration | None:
        """The calibration in force at a time, now if None; None where there is only one for ever.

        Args:
            began: ISO time.
        """

    def close(self) -> None:
        """Take no more jobs: a batch or session is told so. Jobs that were sent go on."""


def check_request(request: Request, device: Device) -> None:
    """Refuse what the device cannot run: the service would find out after it has charged for it.

    Raises:
        DeviceError: If a circuit is wider than the device, has gates or couplings that the device
            lacks, or an RZZ angle outside of 0 to pi/2.
    """
    from qiskit_ibm_runtime.exceptions import IBMInputValueError
    from qiskit_ibm_runtime.utils.validations import validate_isa_circuits, validate_rzz_pubs

    for pub in request.pubs:
        device.check_width(pub.circuit.num_qubits)
    try:
        validate_isa_circuits([pub.circuit for pub in request.pubs], device.target)
    except IBMInputValueError as error:
        said = str(error.message).split(" Circuits that do not match")[0]
        raise DeviceError(
            "circuits consist of gates that the device has, where it has them", got=said,
            expected=f"circuits for {device.name!r}",
            remedy="Transpile them with the backend's own pass_manager().",
        ) from None  # fmt: skip
    try:
        validate_rzz_pubs(list(request.pubs))
    except IBMInputValueError as error:
        raise DeviceError(
            "an RZZ gate of a device turns by 0 to pi/2", got=str(error.message),
            remedy="Leave fractional_gates false while training: steps of a gradient leave that"
                   " range.",
        ) from None  # fmt: skip
