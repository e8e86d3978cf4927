# SPDX-License-Identifier: Apache-2.0
"""What went wrong at the service, in a few classes of this package, each with a remedy.

The client library raises some fifteen classes without a common base, and hides the status of HTTP
behind them. Nothing of the message that looks like a secret is passed on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from json import JSONDecodeError

from qiskit_kd.errors import (
    AccountError,
    DeviceError,
    ExecutionError,
    JobError,
    QiskitKDError,
    QuotaError,
    TransientError,
)

_LONGEST = 300  # characters of somebody else's message
_SHORTEST_SECRET = 6  # replacing shorter ones would only garble the message
_SECRETS = (
    re.compile(
        r"(?i)\b(bearer|apikey|api_key|token|access_token|password)([\"']?\s*[=:]?\s*[\"']?)"
        r"(?=[\w.~+/-]*[\d_.-])[\w.~+/-]{12,}"
    ),
    re.compile(r"()()\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"),
    re.compile(r"()(://)[^/@\s]+(?=@)"),
)
_QUOTA = re.compile(r"(?i)usage limit|quota|no more time|met its limit|allocation (is )?exceeded")
_OPEN_PLAN = re.compile(r"(?i)session.*open plan|open plan.*session|\b1352\b")
_PENDING_CAP = re.compile(r"\b3458\b|(?i:pending jobs? limit)")

_FAULTS_OF_CODE = (AssertionError, AttributeError, NameError, TypeError, Warning)
_OF_ANSWERS = (AttributeError, TypeError)

_AGAIN = "Run the same command later: what was sent is found again, not sent twice."
RESULT_AGAIN = (
    "Run the same command later: the result is fetched again, and nothing is paid for twice. If it "
    "stays so, `qkd jobs DIR --forget ID` gives the job up, to be sent again and paid for again."
)
"""Remedy for a result that is not that of its job."""
Kind = Callable[..., QiskitKDError]

_NOT_ACCEPTED = "the service does not accept the account"
_CHECK_KEY = "Check the API key: make a new one at quantum.cloud.ibm.com and save it."

# Class of the library, by name; what it becomes; the rule behind the name of the job; the remedy.
_OF_JOBS: tuple[tuple[str, Kind, str, str], ...] = (
    ("RuntimeJobTimeoutError", TransientError, "has not ended yet", _AGAIN),
    (
        "RuntimeJobNotFound",
        JobError,
        "is one of the account's jobs",
        "Check the account and the instance. The service forgets old jobs: `qkd jobs DIR --forget "
        "{}` gives it up, to be sent again and paid for again.",
    ),
    (
        "RuntimeJobMaxTimeoutError",
        JobError,
        "ran longer than it may",
        "Raise max_execution_time, or send fewer shots or samples.",
    ),
    (
        "RuntimeJobFailureError",
        JobError,
        "failed on the device",
        "Run the same command again; if it fails again, report the job id to IBM.",
    ),
    (
        "RuntimeInvalidStateError",
        JobError,
        "was cancelled",
        "Run the same command again to send it anew.",
    ),
)
_OF_ACCOUNTS_AND_DEVICES: tuple[tuple[str, Kind, str, str], ...] = (
    (
        "AccountNotFoundError",
        AccountError,
        "a device of the service needs an account",
        "Save one with QiskitRuntimeService.save_account, or set QISKIT_IBM_TOKEN.",
    ),
    ("InvalidAccountError", AccountError, _NOT_ACCEPTED, _CHECK_KEY),
    (
        "CloudResourceNameResolutionError",
        AccountError,
        "an instance is one of the account's",
        "Check 'instance' in the backend file; QiskitRuntimeService().instances() lists them.",
    ),
    (
        "QiskitBackendNotFoundError",
        DeviceError,
        "a device is one of the account's",
        "List the devices of the account with QiskitRuntimeService().backends().",
    ),
    (
        "RuntimeProgramNotFound",
        DeviceError,
        "the service runs the primitive on this device",
        "Update qiskit-ibm-runtime, or choose another device.",
    ),
    (
        "IBMInputValueError",
        DeviceError,
        "a job is one that the device takes",
        "Transpile circuits with the backend's own pass manager.",
    ),
)


@contextmanager
def service_errors(
    *, job_id: str | None = None, secrets: Iterable[str] = (), answer: bool = False
) -> Iterator[None]:
    """Turn what the client library raises inside into errors of this package.

    Args:
        job_id: The job that is asked for, where there is one.
        secrets: Texts that must not show.
        answer: Whether the service is only asked: whatever the library stumbles over then is an
            answer that it cannot read, and worth another try.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, _FAULTS_OF_CODE) and not (answer and isinstance(error, _OF_ANSWERS)):
            raise
        found = mapped(error, job_id=job_id, secrets=secrets, answer=answer)
        if found is error:
            raise
        # The original would show in tracebacks, with whatever the service wrote into it.
        raise found from None


def mapped(
    error: BaseException,
    *,
    job_id: str | None = None,
    secrets: Iterable[str] = (),
    answer: bool = False,
) -> QiskitKDError:
    """The error of this package that says what an exception of the client library means.

    What none of the finer classes says is an `ExecutionError`; see `service_errors`.
    """
    from qiskit.providers.exceptions import QiskitBackendNotFoundError
    from qiskit_ibm_runtime.accounts.exceptions import InvalidAccountError
    from qiskit_ibm_runtime.exceptions import IBMError, IBMInputValueError

    if isinstance(error, QiskitKDError):
        return error
    # The library takes a service that is down for a wrong token.
    hidden = error.__cause__ or error.__context__
    if isinstance(error, InvalidAccountError) and hidden and _is_transient(_status(error), error):
        error = hidden
    text = redacted(str(getattr(error, "message", None) or error) or type(error).__name__, secrets)
    names = {one.__name__ for one in type(error).__mro__}
    job = "a job" if job_id is None else f"the job {job_id}"
    for name, kind, rule, remedy in _OF_JOBS:
        if name in names:
            more = {} if kind is TransientError else {"job_id": job_id}
            remedy = remedy.format(job_id or "ID")
            return kind(f"{job} {rule}", got=text, remedy=remedy, **more)
    status = _status(error)
    transient = _is_transient(status, error)
    if answer and status is None and not transient:
        said = isinstance(error, IBMError | QiskitBackendNotFoundError)
        if not said or isinstance(error, IBMInputValueError):  # the library fell over the answer
            got = f"{type(error).__name__}: {text}"
            return TransientError("the service's answer can be read", got=got, remedy=_AGAIN)
    if "IBMInputValueError" in names and "instance" in text.lower():
        names = {"CloudResourceNameResolutionError"}
    for name, kind, rule, remedy in _OF_ACCOUNTS_AND_DEVICES:
        if name in names:
            return kind(rule, got=text, remedy=remedy)
    if _OPEN_PLAN.search(text):
        remedy = "Write 'mode: batch' or 'mode: job' in the backend file."
        return AccountError("the free plan has no sessions", got=text, remedy=remedy)
    if _PENDING_CAP.search(text) or transient:
        rule = "the service cannot be reached or is down"
        rule = "the service asks for fewer requests" if status == 429 else rule
        return TransientError(rule, got=text, remedy=_AGAIN, retry_after=_retry_after(error))
    if status in (402, 403) and _QUOTA.search(text):
        return quota_used_up(text)
    if status == 401 or "IBMNotAuthorizedError" in names:
        return AccountError(_NOT_ACCEPTED, got=text, remedy=_CHECK_KEY)
    if status in (402, 403):
        remedy = "Ask the owner of the instance for access, or name another instance."
        return AccountError("the account may do this on this device", got=text, remedy=remedy)
    return ExecutionError(
        "the service carries out a request",
        got=f"{type(error).__name__}: {text}",
        remedy="If it says nothing to you, update qiskit-ibm-runtime and try again.",
    )


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` on one line, cut to a readable length, without anything that looks like a secret."""
    for secret in (*secrets, os.environ.get("QISKIT_IBM_TOKEN") or ""):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    for pattern in _SECRETS:
        text = pattern.sub(r"\1\2***", text)
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def quota_used_up(got: str) -> QuotaError:
    """The error for an instance without time left; nothing was sent."""
    return QuotaError(
        "the instance has time left on devices",
        got=got,
        remedy="Wait until the plan's period is over, or name another instance; what has been"
        " measured is kept.",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those it hides, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """The status of HTTP, -1 where the library lost it, None where there was none."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        for holder in (one, response):
            if isinstance(value := getattr(holder, "status_code", None), int):
                return value
    return None


def _is_transient(status: int | None, error: BaseException) -> bool:
    if status is not None:
        return status in (-1, 408, 425, 429) or 500 <= status < 600
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    network = (RequestException, HTTPError, ConnectionError, TimeoutError)
    if any(isinstance(one, network) for one in _chain(error)):
        return True
    # An answer that cannot be read: cut short, or written by something between here and there.
    return isinstance(error, KeyError | JSONDecodeError)


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the service asks to wait: a number, or a date beside the answer's own."""
    answers = [getattr(getattr(one, "response", None), "headers", None) for one in _chain(error)]
    headers = next((found for found in answers if found and found.get("Retry-After")), None)
    if headers is None:
        return None
    value = headers["Retry-After"]
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
        return max(0.0, (until - parsedate_to_datetime(headers["Date"])).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None
