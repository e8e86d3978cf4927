# SPDX-License-Identifier: Apache-2.0
"""Devices that this machine plays, behind the same calls as the service: nothing is sent or paid.

Shots are drawn from the exact noisy probabilities of a circuit's independent parts. The noise is
the device's own: gate errors, relaxation while waiting, readout errors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qiskit.primitives import (
    PubResult,
)

from qiskit_kd.errors import JobError
from qiskit_kd.execution.runtime.client import Job, JobState
from qiskit_kd.execution.runtime.device import Device
from qiskit_kd.execution.runtime.simulator import LocalSimulator
from qiskit_kd.execution.schema import Noise, RuntimeOptions
from qiskit_kd.execution.snapshots import open_noise
from qiskit_kd.seeding import derive

Floats = NDArray[np.float64]
_DEFAULT_PRECISION = 1 / 64  # as IBM's own estimator
_PREFIX = "local-"
_KEPT = 16  # jobs: whoever sends one fetches its results next


class LocalClient:
    """Runs each job as it is submitted; its jobs end with the process.

    Shots are a function of the entry's seed, the job's tag and its content.

    Args:
        device: A fake device, or Aer.
        options: How its jobs are run. Decoupling and twirling change nothing here: the noise of a
            simulated gate is that of its calibration.
    """

    local = True

    def __init__(self, device: Device, options: RuntimeOptions) -> None:
        self.device = device
        self._options = options
        self._jobs: dict[str, tuple[JobState, list[PubResult]]] = {}
        self._simulator: LocalSimulator | None = None

    def __repr__(self) -> str:
        return f"LocalClient({self.device.name!r})"

    def submit(self, job: Job) -> str:
        """See `Client.submit`; a job is charged what it would have been on the device."""
        self.device.check_pubs(job.pubs, job.compiled)
        if self._simulator is None:
            aer = self.device.name == "aer"
            noise = None if aer else open_noise(Noise(device=self.device.name), 0)
            self._simulator = LocalSimulator(noise)
        seed = derive(self._options.seed or 0, "runtime", job.tag)
        results = self._simulator.run(job.pubs, seed, job.compiled)
        while len(self._jobs) >= _KEPT:
            del self._jobs[next(iter(self._jobs))]
        job_id = _PREFIX + job.tag
        self._jobs[job_id] = JobState(job_id, "done", seconds=job.cost.seconds), results
        return job_id

    def find(self, tag: str) -> list[JobState]:
        """See `Client.find`."""
        return [self._jobs[job_id][0]] if (job_id := _PREFIX + tag) in self._jobs else []

    def state(self, job_id: str) -> JobState:
        """See `Client.state`. A job of an earlier process counts as failed: it is sent again."""
        if job_id in self._jobs:
            return self._jobs[job_id][0]
        return JobState(job_id, "failed", "it ended with the process that ran it")

    def tag_of(self, job_id: str) -> str | None:
        """See `Client.tag_of`."""
        return job_id.removeprefix(_PREFIX) if job_id.startswith(_PREFIX) else None

    def result(self, job_id: str, *, timeout: float | None = None) -> list[PubResult]:
        """See `Client.result`."""
        del timeout
        if job_id not in self._jobs:
            raise JobError(
                f"the job {job_id} was run in this process",
                got="a job of another process",
                remedy="Run the same command again to run it anew.",
                job_id=job_id,
            )
        return self._jobs[job_id][1]

    def cancel(self, job_id: str) -> None:
        """See `Client.cancel`: all of them have ended."""

    def remaining_seconds(self) -> float | None:
        """See `Client.remaining_seconds`: nobody counts them."""
        return None

    def calibration(self, began: str | None) -> None:
        """See `Client.calibration`: the stored one stays as it is."""

    def close(self) -> None:
        """See `Client.close`."""
