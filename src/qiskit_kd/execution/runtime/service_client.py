# SPDX-License-Identifier: Apache-2.0
"""Jobs of IBM's service, through whichever primitives the installed client has.

`open_client` gives a client of any device: of the service, or of this machine.
"""

from __future__ import annotations

import math
import re
import weakref
from contextlib import suppress
from datetime import datetime
from typing import Any

from qiskit.primitives import PubResult

from qiskit_kd.errors import DeviceError, ExecutionError, TransientError
from qiskit_kd.execution.noise_sources import readout_rates
from qiskit_kd.execution.runtime.client import (
    Calibration,
    Client,
    JobState,
    Request,
    Status,
    check_request,
)
from qiskit_kd.execution.runtime.device import Device, open_device, secrets_of
from qiskit_kd.execution.runtime.failures import (
    RESULT_AGAIN,
    quota_used_up,
    redacted,
    service_errors,
)
from qiskit_kd.execution.runtime.local_client import LocalClient
from qiskit_kd.execution.runtime.posting import post_once
from qiskit_kd.execution.schema import TAG_PREFIX, RuntimeOptions

__all__ = ["RuntimeClient", "configure", "make_primitive", "open_client"]

_STATUS: dict[str, Status] = {
    "INITIALIZING": "queued", "QUEUED": "queued", "RUNNING": "running", "DONE": "done",
    "ERROR": "failed", "CANCELLED": "cancelled",
}  # fmt: skip
_CLOSED = re.compile(r"(?i)(session|batch).*(clos|expired|not found|not accept)")


class RuntimeClient:
    """The service, through whichever primitives the installed client has.

    Args:
        device: A device of the service.
        options: How its jobs are run.
    """

    local = False

    def __init__(self, device: Device, options: RuntimeOptions) -> None:
        self.device = device
        self._options = options
        self._service = device.service
        self._secrets = secrets_of(device.service)
        self._jobs: dict[str, Any] = {}  # those asked for: to look one up costs a request
        self._mode: Any = None
        self._closing: weakref.finalize[[Any], RuntimeClient] | None = None

    def __repr__(self) -> str:
        return f"RuntimeClient({self.device.name!r}, mode={self._options.mode!r})"

    def submit(self, request: Request) -> str:
        """See `Client.submit`."""
        check_request(request, self.device)
        with self._errors():
            # The library itself only warns, and sends the job to wait for better days.
            if self._service.usage().get("usage_limit_reached"):
                raise quota_used_up(f"none left for {self.device.name!r}")
            return self._send(request)

    def _send(self, request: Request) -> str:
        from qiskit.providers.exceptions import QiskitBackendNotFoundError

        limit = {"shots": request.shots} if request.kind == "sampler" else {
            "precision": request.precision}  # fmt: skip
        post_once(self._service)
        try:
            primitive = make_primitive(request.kind, self._opened())
            configure(primitive.options, self._options, request)
            job = primitive.run(_marked(request), **limit)
        except QiskitBackendNotFoundError:
            # The library says so, too, if it is the service that is not there: ask it.
            self._service.usage()
            raise
        except Exception as error:
            if self._mode is not None and _CLOSED.search(str(error)):
                self.close()
                raise TransientError(
                    f"the {self._options.mode} is open for as long as jobs are sent",
                    got=redacted(str(error), self._secrets),
                    remedy="Run the same command again: the next job opens another one.",
                ) from None
            raise
        self._jobs[str(job.job_id())] = job
        return str(job.job_id())

    def find(self, tag: str) -> list[JobState]:
        """See `Client.find`."""
        with self._errors(answer=True):
            # None pages through all of them; twins are few, and none may be overlooked.
            return [self._state(job) for job in self._service.jobs(
                limit=None, job_tags=[TAG_PREFIX + tag])]  # fmt: skip

    def state(self, job_id: str) -> JobState:
        """See `Client.state`."""
        with self._errors(job_id, answer=True):
            return self._state(self._job(job_id))

    def pubs_of(self, job_id: str) -> str | None:
        """See `Client.pubs_of`."""
        self._jobs.pop(job_id, None)  # one that was sent believes that it has its tags
        with self._errors(job_id, answer=True):
            return _own_tag(self._job(job_id).tags or [])

    def result(self, job_id: str, *, timeout: float | None = None) -> list[PubResult]:
        """See `Client.result`."""
        with self._errors(job_id, answer=True):
            job = self._job(job_id)
            self._jobs.pop(job_id, None)
            found = job.result(timeout=timeout)
            if found is None:
                raise TransientError(
                    f"the job {job_id} has ended, and its result is there", got="no result yet",
                    remedy="Run the same command later: what was sent is found again, not sent "
                    "twice.",
                )  # fmt: skip
            results = list(found)
            _check_marks(job, results)
        return results

    def cancel(self, job_id: str) -> None:
        """See `Client.cancel`."""
        from qiskit_ibm_runtime.exceptions import RuntimeInvalidStateError

        with self._errors(job_id), suppress(RuntimeInvalidStateError):
            self._job(job_id).cancel()
        self._jobs.pop(job_id, None)  # it takes itself for cancelled now, whatever became of it

    def remaining_seconds(self) -> float | None:
        """See `Client.remaining_seconds`."""
        with self._errors(answer=True):
            return _seconds(self._service.usage().get("usage_remaining_seconds"))

    def calibration(self, began: str | None) -> Calibration | None:
        """See `Client.calibration`."""
        backend = self.device.backend
        with self._errors(answer=True):
            when = None if began is None else datetime.fromisoformat(began)
            found = backend.properties(datetime=when) if when else None
            found = found or backend.properties(refresh=True)
            if found is None:
                return None
            return Calibration(found.last_update_date.isoformat(), readout_rates(backend, found))

    def close(self) -> None:
        """See `Client.close`."""
        self._mode = None
        if self._closing is not None:
            self._closing()

    def _errors(self, job_id: str | None = None, *, answer: bool = False) -> Any:
        return service_errors(job_id=job_id, secrets=self._secrets, answer=answer)

    def _job(self, job_id: str) -> Any:
        if job_id not in self._jobs:
            self._jobs[job_id] = self._service.job(job_id)
        return self._jobs[job_id]

    def _opened(self) -> Any:
        """What primitives call their mode: the device, or a batch or session opened on it."""
        if self._options.mode == "job":
            return self.device.backend
        if self._mode is None:
            from qiskit_ibm_runtime import Batch, Session

            kind = Batch if self._options.mode == "batch" else Session
            self._mode = kind(backend=self.device.backend)
            # A session that nobody closes is charged until the service gives up on it.
            self._closing = weakref.finalize(self, _close, self._mode)
        return self._mode

    def _state(self, job: Any) -> JobState:
        status = _STATUS.get(str(job.status()), "running")
        reason = job.error_message() or "" if status == "failed" else ""
        seconds = began = None
        if status not in ("queued", "running"):
            metrics = job.metrics()
            usage = metrics.get("usage", {})
            began = (metrics.get("timestamps") or {}).get("running")
            if usage.get("status", "pending") != "pending":
                seconds = usage.get("qpu_charge_time_seconds", usage.get("quantum_seconds"))
        reason = redacted(reason, self._secrets)
        return JobState(str(job.job_id()), status, reason, _seconds(seconds), began)


def make_primitive(kind: str, mode: Any) -> Any:
    """A sampler or estimator of the client: the newer ones, where it has them.

    Args:
        kind: `"sampler"` or `"estimator"`.
        mode: A backend, batch or session.
    """
    import qiskit_ibm_runtime

    try:
        from qiskit_ibm_runtime.executor_estimator import Estimator
        from qiskit_ibm_runtime.executor_sampler import Sampler
    except ImportError:
        Sampler, Estimator = qiskit_ibm_runtime.SamplerV2, qiskit_ibm_runtime.EstimatorV2
    return Sampler(mode=mode) if kind == "sampler" else Estimator(mode=mode)


def configure(target: Any, options: RuntimeOptions, request: Request) -> None:
    """Write the entry's settings into a primitive's options, which both generations spell alike.

    Args:
        target: Options of a primitive.
        options: The entry of the backend file.
        request: What is sent.
    """
    target.environment.job_tags = [TAG_PREFIX + request.tag, *options.tags, *request.tags]
    limit = options.max_execution_time or request.max_seconds
    if limit is not None:
        target.max_execution_time = limit
    if options.rep_delay is not None:
        target.execution.rep_delay = options.rep_delay
    if options.dynamical_decoupling is not None:
        target.dynamical_decoupling.enable = True
        target.dynamical_decoupling.sequence_type = options.dynamical_decoupling
    if options.twirling is not None:
        target.twirling.enable_gates = options.twirling.gates
        target.twirling.enable_measure = options.twirling.measure
        target.twirling.num_randomizations = options.twirling.num_randomizations
    if request.kind == "estimator" and options.resilience_level is not None:
        target.resilience_level = options.resilience_level


_MARK = "qkd"
"""Key of a circuit's metadata, which the service sends back with its results."""


def _marked(request: Request) -> list[Any]:
    """The PUBs over circuits that say which job and place they belong to."""
    pubs = []
    for place, pub in enumerate(request.pubs):
        circuit = pub.circuit.copy()
        circuit.metadata = {_MARK: _mark(request.tag, place)}
        rest = {"observables": pub.observables} if request.kind == "estimator" else {}
        limit = {"shots": pub.shots} if request.kind == "sampler" else {"precision": pub.precision}
        pubs.append(type(pub)(
            circuit, parameter_values=pub.parameter_values, validate=False, **rest, **limit
        ))  # fmt: skip
    return pubs


def _mark(tag: str | None, place: int) -> str:
    return f"{tag}/{place}"


def _check_marks(job: Any, results: list[PubResult]) -> None:
    """Refuse results of another job, or in another order."""
    tag = _own_tag(job.tags or [])
    found = [(one.metadata.get("circuit_metadata") or {}).get(_MARK) for one in results]
    wanted = [_mark(tag, place) for place in range(len(results))]
    # An earlier version of this package sent no marks: what was sent is at the service.
    if found != wanted and (any(found) or (wanted and wanted[0] in str(job.inputs))):
        raise TransientError(
            f"the service sends the results of the job {job.job_id()} for it",
            got=f"those of {', '.join(sorted({str(one) for one in found}))}",
            expected=f"those of {tag}", remedy=RESULT_AGAIN,
        )  # fmt: skip


def _seconds(value: Any) -> float | None:
    """A time as the service says it; None where that is no time."""
    found = None if value is None else float(value)
    return found if found is not None and 0 <= found < math.inf else None


def _own_tag(tags: list[str]) -> str | None:
    own = [tag for tag in tags if tag.startswith(TAG_PREFIX)]
    return own[0].removeprefix(TAG_PREFIX) if own else None


def _close(mode: Any) -> None:
    # At the end of the process, or where the service has closed it before: nobody is left to tell.
    with suppress(ExecutionError), service_errors():
        mode.close()


def open_client(options: RuntimeOptions) -> Client:
    """A client of the device that `options` name.

    Args:
        options: An entry of kind `runtime`.

    Raises:
        AccountError: If there is no account, or the service does not accept it.
        DeviceError: If there is no such device, or it cannot keep to the options.
        TransientError: If the service cannot be reached.
    """
    device = open_device(options)
    _check_rep_delay(options, device)
    return LocalClient(device, options) if device.local else RuntimeClient(device, options)


def _check_rep_delay(options: RuntimeOptions, device: Device) -> None:
    bounds = device.rep_delay_range
    if options.rep_delay is not None and bounds is not None:
        low, high = bounds
        if not low <= options.rep_delay <= high:
            raise DeviceError(
                "rep_delay lies in the range of the device", got=f"{options.rep_delay:g} s",
                expected=f"{low:g} to {high:g} s on {device.name!r}",
            )  # fmt: skip
