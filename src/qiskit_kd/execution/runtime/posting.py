# SPDX-License-Identifier: Apache-2.0
"""Requests that spend are posted once: what the client library would repeat by itself is not.

The library posts again where the service answers 500, 502, 503 or 504, and after some errors of
TLS, though the service may have accepted the request. Whether it has is found out by the job's tag;
until then nothing may be posted again.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, RequestException, Response, Session
from requests.adapters import BaseAdapter, HTTPAdapter

from qiskit_kd.errors import ExecutionError

__all__ = ["PostOnce", "post_once"]

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

    Args:
        service: A `QiskitRuntimeService`.

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
            "jobs are posted once", got="a client that may post them again by itself",
            expected="qiskit-ibm-runtime from 0.51 to below 0.60",
            remedy="Install such a version; nothing was sent.",
        )  # fmt: skip
    for session in sessions:
        for scheme, adapter in list(session.adapters.items()):
            if not isinstance(adapter, PostOnce):
                session.mount(scheme, PostOnce(adapter))
