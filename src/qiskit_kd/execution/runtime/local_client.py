# SPDX-License-Identifier: Apache-2.0
"""Fake devices and Aer behind the same calls as the service: nothing is sent, nothing is paid."""

from __future__ import annotations

from typing import Any

from qiskit.primitives import PubResult

from qiskit_kd.errors import JobError
from qiskit_kd.execution.runtime.client import JobState, Request, check_request
from qiskit_kd.execution.runtime.device import Device
from qiskit_kd.execution.schema import RuntimeOptions
from qiskit_kd.seeding import derive

__all__ = ["LocalClient"]

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
        self._simulator: Any = None

    def __repr__(self) -> str:
        return f"LocalClient({self.device.name!r})"

    def submit(self, request: Request) -> str:
        """See `Client.submit`."""
        check_request(request, self.device)
        job_id = _PREFIX + request.tag
        results = self._run(request)
        while len(self._jobs) >= _KEPT:
            del self._jobs[next(iter(self._jobs))]
        self._jobs[job_id] = JobState(job_id, "done", seconds=self._seconds(request)), results
        return job_id

    def find(self, tag: str) -> list[JobState]:
        """See `Client.find`."""
        return [self._jobs[job_id][0]] if (job_id := _PREFIX + tag) in self._jobs else []

    def state(self, job_id: str) -> JobState:
        """See `Client.state`. A job of an earlier process counts as failed: it is sent again."""
        if job_id in self._jobs:
            return self._jobs[job_id][0]
        return JobState(job_id, "failed", "it ended with the process that ran it")

    def pubs_of(self, job_id: str) -> str | None:
        """See `Client.pubs_of`."""
        return job_id.removeprefix(_PREFIX) if job_id.startswith(_PREFIX) else None

    def result(self, job_id: str, *, timeout: float | None = None) -> list[PubResult]:
        """See `Client.result`."""
        del timeout
        if job_id not in self._jobs:
            raise JobError(
                f"the job {job_id} was run in this process", got="a job of another process",
                remedy="Run the same command again to run it anew.", job_id=job_id,
            )  # fmt: skip
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

    def _run(self, request: Request) -> list[PubResult]:
        from qiskit_kd.execution.runtime.local import LocalEstimator, LocalSampler, LocalSimulator

        if self._simulator is None:
            self._simulator = LocalSimulator(self._noise())
        seed = derive(self._options.seed or 0, "runtime", request.tag)
        if request.kind == "sampler":
            shots = request.shots or self._options.shots
            return list(LocalSampler(self._simulator, seed).run(request.pubs, shots=shots).result())
        estimator = LocalEstimator(self._simulator, seed)
        return list(estimator.run(request.pubs, precision=request.precision).result())

    def _noise(self) -> Any:
        if self.device.name == "aer":
            return None
        from qiskit_kd.execution.schema import Noise
        from qiskit_kd.execution.snapshots import open_noise

        source = Noise(device=self.device.name)
        return open_noise(source, 0)

    def _seconds(self, request: Request) -> float:
        """What the job would have been charged on the device."""
        from qiskit_kd.execution.runtime.cost import cost_of_pubs

        asked = self._options.rep_delay
        cost = cost_of_pubs(
            request.pubs, target=self.device.target, shots=request.shots or self._options.shots,
            rep_delay=self.device.rep_delay if asked is None else asked,
        )  # fmt: skip
        return cost.seconds
