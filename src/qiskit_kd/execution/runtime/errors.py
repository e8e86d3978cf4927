# SPDX-License-Identifier: Apache-2.0
"""What went wrong at the service, in a few classes of this package, each with a remedy.

The client library raises some fifteen classes without a common base, and hides the status of HTTP
behind them. Nothing of the message that looks like a secret is passed on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import Any

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
_UNAVAILABLE = range(500, 600)

_FAULTS_OF_CODE = (AssertionError, AttributeError, NameError, TypeError, Warning)
_OF_ANSWERS = (AttributeError, TypeError)

_AGAIN = "Run the same command later: what was sent is found again, not sent twice."
RESULT_AGAIN = (
    "Run the same command later: the result is fetched again, and nothing is paid for twice. If it "
    "stays so, `qkd jobs DIR --forget ID` gives the job up, to be sent again and paid for again."
)
"""Remedy for a result that is not that of its job."""
_LIST = "List the devices of the account with QiskitRuntimeService().backends()."


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
    """The error of this package that says what an exception means.

    Args:
        error: What the client library raised.
        job_id: The job that was asked for, where there is one.
        secrets: Texts that must not show, beside the token of the environment.
        answer: See `service_errors`.

    Returns:
        `AccountError`, `DeviceError`, `QuotaError`, `TransientError`, `JobError`, or where none of
        them says it an `ExecutionError`.
    """
    from qiskit_ibm_runtime.accounts.exceptions import InvalidAccountError

    if isinstance(error, QiskitKDError):
        return error
    # The library takes a service that is down for a wrong token.
    hidden = error.__cause__ or error.__context__
    if isinstance(error, InvalidAccountError) and hidden and _is_transient(_status(error), error):
        error = hidden
    text = redacted(str(getattr(error, "message", None) or error) or type(error).__name__, secrets)
    found = _of_job(error, text, job_id)
    if found is None and answer and _is_unreadable(error):
        found = TransientError(
            "the service's answer can be read", got=f"{type(error).__name__}: {text}", remedy=_AGAIN
        )
    found = found or _of_account(error, text) or _of_device(error, text)
    return found or _of_status(error, text)


def _is_unreadable(error: BaseException) -> bool:
    """Whether the library did not say what is wrong, but fell over it."""
    from qiskit.providers.exceptions import QiskitBackendNotFoundError
    from qiskit_ibm_runtime.exceptions import IBMError, IBMInputValueError

    said = isinstance(error, IBMError | QiskitBackendNotFoundError)
    said = said and not isinstance(error, IBMInputValueError)
    return not said and _status(error) is None and not _is_transient(None, error)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` on one line, cut to a readable length, without anything that looks like a secret."""
    for secret in (*secrets, os.environ.get("QISKIT_IBM_TOKEN") or ""):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    for pattern in _SECRETS:
        text = pattern.sub(r"\1\2***", text)
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _of_job(error: BaseException, text: str, job_id: str | None) -> QiskitKDError | None:
    from qiskit_ibm_runtime import exceptions as ibm

    where = "a job" if job_id is None else f"the job {job_id}"
    if isinstance(error, ibm.RuntimeJobTimeoutError):
        return TransientError(f"{where} has not ended yet", got=text, remedy=_AGAIN)
    known: dict[type[BaseException], tuple[str, str]] = {
        ibm.RuntimeJobNotFound: (
            "is one of the account's jobs",
            "Check the account and the instance. The service forgets old jobs: `qkd jobs DIR "
            f"--forget {job_id or 'ID'}` gives it up, to be sent again and paid for again.",
        ),
        ibm.RuntimeJobMaxTimeoutError: (
            "ran longer than it may",
            "Raise max_execution_time, or send fewer shots or samples.",
        ),
        ibm.RuntimeJobFailureError: (
            "failed on the device",
            "Run the same command again; if it fails again, report the job id to IBM.",
        ),
        ibm.RuntimeInvalidStateError: (
            "was cancelled",
            "Run the same command again to send it anew.",
        ),
    }
    for kind, (what, remedy) in known.items():
        if isinstance(error, kind):
            return JobError(f"{where} {what}", got=text, job_id=job_id, remedy=remedy)
    return None


def _of_account(error: BaseException, text: str) -> QiskitKDError | None:
    from qiskit_ibm_runtime import exceptions as ibm
    from qiskit_ibm_runtime.accounts import exceptions as accounts

    if isinstance(error, accounts.AccountNotFoundError):
        return AccountError(
            "a device of the service needs an account",
            got=text,
            remedy="Save one with QiskitRuntimeService.save_account, or set QISKIT_IBM_TOKEN.",
        )
    if isinstance(error, accounts.InvalidAccountError):
        return AccountError(
            "the service does not accept the account",
            got=text,
            remedy="Check the API key: make a new one at quantum.cloud.ibm.com and save it.",
        )
    about_instance = isinstance(error, ibm.IBMInputValueError) and "instance" in text.lower()
    if about_instance or isinstance(error, accounts.CloudResourceNameResolutionError):
        return AccountError(
            "an instance is one of the account's",
            got=text,
            remedy="Check 'instance' in the backend file; QiskitRuntimeService().instances() lists"
            " them.",
        )
    return None


def _of_device(error: BaseException, text: str) -> QiskitKDError | None:
    from qiskit.providers.exceptions import QiskitBackendNotFoundError
    from qiskit_ibm_runtime import exceptions as ibm

    if isinstance(error, QiskitBackendNotFoundError):
        return DeviceError("a device is one of the account's", got=text, remedy=_LIST)
    if isinstance(error, ibm.RuntimeProgramNotFound):
        return DeviceError(
            "the service runs the primitive on this device",
            got=text,
            remedy="Update qiskit-ibm-runtime, or choose another device.",
        )
    if isinstance(error, ibm.IBMInputValueError):
        return DeviceError(
            "a job is one that the device takes",
            got=text,
            remedy="Transpile circuits with the backend's own pass manager.",
        )
    return None


def _of_status(error: BaseException, text: str) -> QiskitKDError:
    status = _status(error)
    if _OPEN_PLAN.search(text):
        return AccountError(
            "the free plan has no sessions",
            got=text,
            remedy="Write 'mode: batch' or 'mode: job' in the backend file.",
        )
    if _PENDING_CAP.search(text) or _is_transient(status, error):
        rule = (
            "the service asks for fewer requests"
            if status == 429
            else "the service cannot be reached or is down"
        )
        return TransientError(rule, got=text, remedy=_AGAIN, retry_after=_retry_after(error))
    if status in (402, 403) and _QUOTA.search(text):
        return quota_used_up(text)
    if status == 401 or type(error).__name__ == "IBMNotAuthorizedError":
        return AccountError(
            "the service does not accept the account",
            got=text,
            remedy="Check the API key: make a new one at quantum.cloud.ibm.com and save it.",
        )
    if status in (402, 403):
        return AccountError(
            "the account may do this on this device",
            got=text,
            remedy="Ask the owner of the instance for access, or name another instance.",
        )
    return ExecutionError(
        "the service carries out a request",
        got=f"{type(error).__name__}: {text}",
        remedy="If it says nothing to you, update qiskit-ibm-runtime and try again.",
    )


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
        for value in (getattr(one, "status_code", None), _attribute(one, "response.status_code")):
            if isinstance(value, int):
                return value
    return None


def _is_transient(status: int | None, error: BaseException) -> bool:
    if status is not None:
        return status in (-1, 408, 425, 429) or status in _UNAVAILABLE
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    network = (RequestException, HTTPError, ConnectionError, TimeoutError)
    if any(isinstance(one, network) for one in _chain(error)):
        return True
    # An answer that cannot be read: cut short, or written by something between here and there.
    return isinstance(error, KeyError | JSONDecodeError)


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the service asks to wait: a number, or a date beside the answer's own."""
    for one in _chain(error):
        headers = _attribute(one, "response.headers") or {}
        if value := headers.get("Retry-After"):
            try:
                return max(0.0, float(value))
            except ValueError:
                pass
            try:
                until = parsedate_to_datetime(value)
                return max(0.0, (until - parsedate_to_datetime(headers["Date"])).total_seconds())
            except (KeyError, TypeError, ValueError):
                return None
    return None


def _attribute(holder: Any, path: str) -> Any:
    for name in path.split("."):
        holder = getattr(holder, name, None)
    return holder
