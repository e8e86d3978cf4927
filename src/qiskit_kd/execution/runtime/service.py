# SPDX-License-Identifier: Apache-2.0
"""Jobs of IBM's service, through whichever primitives the installed client has.

Requests that spend are posted once. The library posts again where the service answers 500, 502, 503
or 504, and after some errors of TLS, though the service may have accepted the request. Whether it
has is found out by the job's tag; until then nothing may be posted again.
"""

from __future__ import annotations

import math
import re
import weakref
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from qiskit.primitives import PubResult
from requests import PreparedRequest, RequestException, Response, Session
from requests.adapters import BaseAdapter, HTTPAdapter

from qiskit_kd.errors import ExecutionError, TransientError
from qiskit_kd.execution.noise_sources import readout_rates
from qiskit_kd.execution.runtime.client import Calibration, Job, JobState, Status
from qiskit_kd.execution.runtime.device import Device, secrets_of
from qiskit_kd.execution.runtime.errors import RESULT_AGAIN, quota_used_up, redacted, service_errors
from qiskit_kd.execution.schema import TAG_PREFIX, RuntimeOptions

_STATUS: dict[str, Status] = {
    "INITIALIZING": "queued",
    "QUEUED": "queued",
    "RUNNING": "running",
    "DONE": "done",
    "ERROR": "failed",
    "CANCELLED": "cancelled",
}
_CLOSED = re.compile(r"(?i)(session|batch).*(clos|expired|not found|not accept)")


class RuntimeClient:
    """The service, through whichever primitives the installed client has."""

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

    def submit(self, job: Job) -> str:
        """See `Client.submit`."""
        self.device.check_pubs(job.pubs, job.compiled)
        with self._errors():
            # The library itself only warns, and sends the job to wait for better days.
            if self._service.usage().get("usage_limit_reached"):
                raise quota_used_up(f"none left for {self.device.name!r}")
            return self._send(job)

    def _send(self, job: Job) -> str:
        from qiskit.providers.exceptions import QiskitBackendNotFoundError

        limit = {"shots": job.shots} if job.kind == "sampler" else {"precision": job.precision}
        post_once(self._service)
        try:
            primitive = make_primitive(job.kind, self._opened())
            configure(primitive.options, self._options, job)
            sent = primitive.run(_marked(job), **limit)
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
        self._jobs[str(sent.job_id())] = sent
        return str(sent.job_id())

    def find(self, tag: str) -> list[JobState]:
        """See `Client.find`."""
        with self._errors(answer=True):
            # None pages through all of them; twins are few, and none may be overlooked.
            return [
                self._state(job)
                for job in self._service.jobs(limit=None, job_tags=[TAG_PREFIX + tag])
            ]

    def state(self, job_id: str) -> JobState:
        """See `Client.state`."""
        with self._errors(job_id, answer=True):
            return self._state(self._job(job_id))

    def tag_of(self, job_id: str) -> str | None:
        """See `Client.tag_of`."""
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
                    f"the job {job_id} has ended, and its result is there",
                    got="no result yet",
                    remedy="Run the same command later: what was sent is found again, not sent "
                    "twice.",
                )
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
    """A sampler or estimator for a backend, batch or session: the newer ones, where there are."""
    import qiskit_ibm_runtime

    try:
        from qiskit_ibm_runtime.executor_estimator import Estimator
        from qiskit_ibm_runtime.executor_sampler import Sampler
    except ImportError:
        Sampler, Estimator = qiskit_ibm_runtime.SamplerV2, qiskit_ibm_runtime.EstimatorV2
    return Sampler(mode=mode) if kind == "sampler" else Estimator(mode=mode)


def configure(target: Any, options: RuntimeOptions, job: Job) -> None:
    """Write an entry's settings into a primitive's options, which both generations spell alike."""
    target.environment.job_tags = [TAG_PREFIX + job.tag, *options.tags]
    limit = options.max_execution_time or job.max_seconds
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
    if job.kind == "estimator" and options.resilience_level is not None:
        target.resilience_level = options.resilience_level


_MARK = "qkd"
"""Key of a circuit's metadata, which the service sends back with its results."""


def _marked(job: Job) -> list[Any]:
    """The PUBs over circuits that say which job and place they belong to."""
    pubs = []
    for place, pub in enumerate(job.pubs):
        circuit = pub.circuit.copy()
        circuit.metadata = {_MARK: _mark(job.tag, place)}
        rest = {"observables": pub.observables} if job.kind == "estimator" else {}
        limit = {"shots": pub.shots} if job.kind == "sampler" else {"precision": pub.precision}
        pubs.append(
            type(pub)(
                circuit, parameter_values=pub.parameter_values, validate=False, **rest, **limit
            )
        )
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
            expected=f"those of {tag}",
            remedy=RESULT_AGAIN,
        )


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


_SPENDING = ("/jobs", "/sessions")
_PATIENCE = 300.0
"""Seconds without a word after which a request that names no limit is given up."""


class PostOnce(BaseAdapter):
    """Posts jobs and sessions once, and takes only an answer that names what was opened.

    Args:
        inner: What sends all other requests, with its own retries.
    """

    def __init__(self, inner: BaseAdapter) -> None:
        super().__init__()
        self.inner, self.once = inner, HTTPAdapter(max_retries=0)

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        """See `requests.adapters.BaseAdapter.send`."""
        limit = options.get("timeout")
        if limit is None or (isinstance(limit, tuple) and limit[1] is None):
            options["timeout"] = (limit[0] if limit else None, _PATIENCE)
        path = urlsplit(str(request.url)).path
        if request.method != "POST" or not path.endswith(_SPENDING):
            return self.inner.send(request, *args, **options)
        response = self.once.send(request, *args, **options)
        try:
            _check_answer(response)
        except RequestException:
            response.close()
            raise
        return response

    def close(self) -> None:
        """See `requests.adapters.BaseAdapter.close`."""
        self.inner.close()
        self.once.close()


def _check_answer(response: Response) -> None:
    if response.is_redirect:
        raise RequestException("the answer to a job is a redirection to another address")
    body = response.json() if response.ok else {"id": "none"}
    if not isinstance(body, dict) or not isinstance(body.get("id"), str) or not body["id"]:
        raise RequestException("the answer to a job does not name it")


def post_once(service: Any) -> None:
    """Have an account's requests that spend posted once; other accounts are left as they are.

    Raises:
        ExecutionError: If the installed client hides how it sends requests; nothing was sent.
    """
    try:
        clients = [service._get_api_client(), *service._get_api_clients().values()]  # noqa: SLF001
        sessions = [client._session for client in clients]  # noqa: SLF001
    except AttributeError:
        sessions = []
    if not sessions or not all(isinstance(session, Session) for session in sessions):
        raise ExecutionError(
            "jobs are posted once",
            got="a client that may post them again by itself",
            expected="qiskit-ibm-runtime from 0.51 to below 0.60",
            remedy="Install such a version; nothing was sent.",
        )
    for session in sessions:
        for scheme, adapter in list(session.adapters.items()):
            if not isinstance(adapter, PostOnce):
                session.mount(scheme, PostOnce(adapter))
