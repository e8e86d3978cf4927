# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import traceback

import pytest
import requests
from qiskit.providers.exceptions import QiskitBackendNotFoundError
from qiskit_ibm_runtime import exceptions as ibm
from qiskit_ibm_runtime.accounts import exceptions as accounts
from qiskit_ibm_runtime.api.exceptions import RequestsApiError

from qiskit_kd.errors import (
    AccountError,
    ConfigError,
    DeviceError,
    ExecutionError,
    JobError,
    QuotaError,
    TransientError,
)
from qiskit_kd.execution.runtime.errors import mapped, redacted, service_errors

TOKEN = "SLfP3xKqzV0WmYbNcRtH8JdAoEuG5iMv_9s-XlQyZw2T"
AGAIN = "Run the same command later: what was sent is found again, not sent twice."


def behind(outer: Exception, inner: Exception) -> Exception:
    """`outer` as the library raises it: the cause is hidden from tracebacks, not gone."""
    try:
        try:
            raise inner
        except Exception:
            raise outer from None
    except Exception as error:
        return error


def refused(status: int, said: str = "injected fault") -> Exception:
    """A submission that the service answered with `status`."""
    text = f"{status} Client Error: {said}"
    return behind(
        ibm.IBMRuntimeError(f"Failed to run program: {text!r}"), RequestsApiError(text, status)
    )


def answered(status: int, headers: dict[str, str]) -> Exception:
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    try:
        try:
            raise requests.HTTPError("too many", response=response)
        except requests.HTTPError as error:
            raise RequestsApiError("too many", status) from error
    except RequestsApiError as error:
        return error


INSTANCES = "Unable to retrieve instances. Please check that you are using a valid API token."

CASES = [
    (
        accounts.AccountNotFoundError("Unable to find account."),
        AccountError,
        "a device of the service needs an account; got Unable to find account. Save one with "
        "QiskitRuntimeService.save_account, or set QISKIT_IBM_TOKEN.",
    ),
    (
        behind(accounts.InvalidAccountError(INSTANCES), RequestsApiError("no such key", 400)),
        AccountError,
        "the service does not accept the account; got Unable to retrieve instances. "
        "Please check that you are using a valid API token. Check the API key: make a new one",
    ),
    (
        behind(accounts.InvalidAccountError(INSTANCES), requests.ConnectionError("no route")),
        TransientError,
        f"the service cannot be reached or is down; got no route. {AGAIN}",
    ),
    (
        behind(accounts.InvalidAccountError(INSTANCES), RequestsApiError("maintenance", 503)),
        TransientError,
        "the service cannot be reached or is down; got maintenance. Run",
    ),
    (
        ibm.IBMInputValueError("an account that does not have access to the instance crn:v1:x"),
        AccountError,
        "an instance is one of the account's; got an account that does not have access "
        "to the instance crn:v1:x. Check 'instance' in the backend file",
    ),
    (
        accounts.CloudResourceNameResolutionError("no CRN for open"),
        AccountError,
        "an instance is one of the account's; got no CRN for open",
    ),
    (
        ibm.IBMNotAuthorizedError("401 Client Error: Unauthorized"),
        AccountError,
        "the service does not accept the account; got 401 Client Error: Unauthorized. "
        "Check the API",
    ),
    (
        refused(403, "Forbidden"),
        AccountError,
        "the account may do this on this device; got Failed to run program: '403 Client Error: "
        "Forbidden'. Ask the owner of the instance for access, or name another instance.",
    ),
    (
        refused(403, "the instance has met its usage limit"),
        QuotaError,
        "the instance has time left on devices; got Failed to run program: '403 Client Error: the "
        "instance has met its usage limit'. Wait until the plan's period is over, or name another "
        "instance; what has been measured is kept.",
    ),
    (
        refused(400, "You are not authorized to run a session when using the open plan. 1352"),
        AccountError,
        "the free plan has no sessions; got Failed to run program",
    ),
    (
        QiskitBackendNotFoundError("No backend matches the criteria."),
        DeviceError,
        "a device is one of the account's; got No backend matches the criteria. List "
        "the devices of "
        "the account with QiskitRuntimeService().backends().",
    ),
    (
        ibm.RuntimeProgramNotFound("Program not found: executor"),
        DeviceError,
        "the service runs the primitive on this device; got Program not found: executor. Update "
        "qiskit-ibm-runtime, or choose another device.",
    ),
    (
        ibm.IBMInputValueError("Backend 'ibm_old' does not support fractional gates"),
        DeviceError,
        "a job is one that the device takes; got Backend 'ibm_old' does not support "
        "fractional gates. "
        "Transpile circuits with the backend's own pass manager.",
    ),
    (
        refused(429),
        TransientError,
        "the service asks for fewer requests; got Failed to run program"
        f": '429 Client Error: injected fault'. {AGAIN}",
    ),
    (refused(400, "pending jobs limit reached, code 3458"), TransientError, "3458"),
    (refused(500), TransientError, "the service cannot be reached or is down"),
    (refused(-1, "Max retries exceeded"), TransientError, "Max retries exceeded"),
    (RequestsApiError("429 Client Error", 429), TransientError, "fewer requests"),
    (
        requests.ConnectionError("no route"),
        TransientError,
        f"the service cannot be reached or is down; got no route. {AGAIN}",
    ),
    (TimeoutError("timed out"), TransientError, "got timed out"),
    (KeyError("id"), TransientError, "the service cannot be reached or is down; got 'id'"),
    (requests.exceptions.JSONDecodeError("cut short", "{", 1), TransientError, "cut short"),
    (
        ibm.RuntimeJobTimeoutError("Timed out waiting for job to complete after 1 secs."),
        TransientError,
        "the job d1 has not ended yet; got Timed out waiting for job to complete "
        f"after 1 secs. {AGAIN}",
    ),
    (
        ibm.RuntimeJobNotFound("Job not found: d1"),
        JobError,
        "the job d1 is one of the account's jobs; got Job not found: d1. Check the account and the "
        "instance. The service forgets old jobs: `qkd jobs DIR --forget d1` gives it "
        "up, to be sent "
        "again and paid for again.",
    ),
    (
        ibm.RuntimeJobMaxTimeoutError("Error code 1305; ran too long"),
        JobError,
        "the job d1 ran longer than it may; got Error code 1305; ran too long. Raise "
        "max_execution_time, or send fewer shots or samples.",
    ),
    (
        ibm.RuntimeJobFailureError("Unable to retrieve job result. Error code 1517"),
        JobError,
        "the job d1 failed on the device; got Unable to retrieve job result. Error code 1517. Run "
        "the same command again; if it fails again, report the job id to IBM.",
    ),
    (
        ibm.RuntimeInvalidStateError("Job was cancelled."),
        JobError,
        "the job d1 was cancelled; got Job was cancelled. Run the same command again to send it "
        "anew.",
    ),
    (
        RequestsApiError("413 Payload Too Large", 413),
        ExecutionError,
        "the service carries out a request; got RequestsApiError: 413 Payload Too "
        "Large. If it says "
        "nothing to you, update qiskit-ibm-runtime and try again.",
    ),
]


@pytest.mark.parametrize(("error", "kind", "text"), CASES)
def test_failures_become_a_few_classes_with_a_remedy(error, kind, text) -> None:
    found = mapped(error, job_id="d1")
    assert type(found) is kind
    assert text in str(found)
    if kind is JobError:
        assert found.job_id == "d1"


def test_a_job_without_id_and_an_error_of_ours() -> None:
    assert str(mapped(ibm.RuntimeInvalidStateError("x"))).startswith("a job was cancelled; got x")
    ours = ConfigError("a rule")
    assert mapped(ours) is ours
    with pytest.raises(ConfigError) as caught, service_errors():
        raise ours
    assert caught.value is ours


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "-1"}, 0.0),
        (
            {
                "Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT",
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30.0,
        ),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_the_service_says_how_long_to_wait(headers, seconds) -> None:
    found = mapped(answered(429, headers))
    assert isinstance(found, TransientError)
    assert found.retry_after == seconds


@pytest.mark.parametrize(
    "text",
    [
        f"key {TOKEN} was not found",
        f"Authorization: Bearer {TOKEN}",
        f"apikey={TOKEN}&grant_type=x",
        f'{{"token": "{TOKEN}"}}',
        f"access_token: {TOKEN}",
        f"eyJhbGciOiJub25lIn0.{TOKEN}.sig",
        f"http://me:{TOKEN}@proxy.test:3128/path",
    ],
)
def test_a_token_shows_in_no_message_repr_log_or_traceback(text, monkeypatch, caplog) -> None:
    for secrets, environment in ([(TOKEN,), None], [(), TOKEN]):
        monkeypatch.delenv("QISKIT_IBM_TOKEN", raising=False)
        if environment:
            monkeypatch.setenv("QISKIT_IBM_TOKEN", environment)
        try:
            with service_errors(secrets=secrets):
                raise behind(ibm.IBMRuntimeError(text), RequestsApiError(text, 403))
        except AccountError as error:
            logging.getLogger("test").exception("failed: %s %r", error, error)
            shown = [str(error), repr(error), traceback.format_exc(), caplog.text]
        assert "failed:" in caplog.text
        assert not [each for each in shown if TOKEN in each]
        caplog.clear()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"Bearer {TOKEN}", "Bearer ***"),
        ("eyJhbGciOiJub25lIn0.eyJpYXQiOjF9.sig", "***"),
        ("http://me:pass@proxy.test", "http://***@proxy.test"),
        (
            "Please check the API token associated with it",
            "Please check the API token associated with it",
        ),
        ("two\n  lines", "two lines"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_even_if_unknown(text, kept) -> None:
    assert redacted(text) == kept


def test_long_messages_are_cut_and_empty_ones_name_the_class() -> None:
    assert redacted("a" * 1000) == "a" * 299 + "…"
    assert "ConnectionResetError" in str(mapped(ConnectionResetError()))
    assert redacted("abc", ("b",)) == "abc"  # too short to be a secret


def test_programming_errors_are_not_taken_for_failures_of_the_service() -> None:
    with pytest.raises(AttributeError, match="ours"), service_errors():
        raise AttributeError("ours")
