# SPDX-License-Identifier: Apache-2.0
"""The loopback service: HTTP on 127.0.0.1, one worker that runs jobs in order, faults on purpose.

Nothing in the client is patched. It is given this server as an HTTP proxy, so all addresses it
knows (identity, global search, catalog, API) arrive here; only `IAM_URL` has to be set, because the
client's identity address is a constant. A job begins `queue_seconds` after it was accepted; with
none, the answer to its submission waits for its end, so that no poll is lost on a short job.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from qiskit_kd.execution.runtime.consent import TRUSTED
from tests.loopback.api import CRN, Api, error
from tests.loopback.faults import Fault

__all__ = ["CRN", "LoopbackService"]

ENVIRONMENT = {
    "IAM_URL": "http://iam.cloud.ibm.test",
    # Or else the client reads the source of every frame of its stack, for a header of statistics.
    "USAGE_DATA_OPT_OUT": "True",
    TRUSTED: "",  # and its own address, see `LoopbackService.trusted`
}
"""What a service sets while it runs."""


class LoopbackService(Api):
    """The service; a context manager. Safe for several clients and threads.

    Args:
        device: The fake device that stands behind `ibm_loopback`, such as `"fake_torino"`.
        devices: More devices, name to fake device; the first one listed is the default.
        api_key: The key that logs in.
        queue_seconds: Seconds from acceptance to the beginning of a job; 0 runs it at once.
        run_seconds: Seconds a job keeps running beyond what it takes here.
        quota: QPU seconds of the account; jobs use them up. None for no end.
        port: Where to listen; 0 for a free one, which `stop` and `start` keep.

    Attributes:
        requests: `(method, path)` of every request.
    """

    def __init__(
        self,
        device: str = "fake_lagos",
        *,
        devices: dict[str, str] | None = None,
        api_key: str = "loopback-key",
        queue_seconds: float = 0.0,
        run_seconds: float = 0.0,
        quota: float | None = 600.0,
        port: int = 0,
    ) -> None:
        super().__init__(
            devices={"ibm_loopback": device} if devices is None else devices,
            api_key=api_key,
            queue_seconds=queue_seconds,
            run_seconds=run_seconds,
            quota=quota,
        )
        self.port = port
        self.requests: list[tuple[str, str]] = []
        self._server: ThreadingHTTPServer | None = None
        self._listener: threading.Thread | None = None
        self._away = threading.Event()
        self._before: dict[str, str | None] = {}

    # Life

    def start(self) -> LoopbackService:
        """Listen, and run jobs; jobs from before are still there."""
        self._before = {name: os.environ.get(name) for name in ENVIRONMENT}
        os.environ.update(ENVIRONMENT)
        self.start_worker()
        self.connect()
        os.environ[TRUSTED] = " ".join([self._before[TRUSTED] or "", self.trusted()])
        return self

    def stop(self) -> None:
        """Stop listening and running; queued jobs stay queued."""
        self._stopping.set()  # a request that waits for a job's end gives up
        self.disconnect()
        self.stop_worker()
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        self._before = {}

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    def connect(self) -> None:
        """Listen, on the same port as before."""
        if self._server is not None:
            return
        self._away.clear()
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_address[1]
        self._listener = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="loopback-listener"
        )
        self._listener.start()

    def disconnect(self) -> None:
        """Stop listening: whoever asks finds nobody. The device goes on with its queue."""
        server, self._server = self._server, None
        if server is None:
            return
        self._away.set()
        server.shutdown()
        server.server_close()
        if self._listener is not None:
            self._listener.join()

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """The service is away, and afterwards back on the same port."""
        self.disconnect()
        try:
            yield
        finally:
            self.connect()

    # What a test sets

    def client_options(self, api_key: str | None = None, instance: str = CRN) -> dict[str, Any]:
        """Keyword arguments for `QiskitRuntimeService`."""
        return {
            "channel": "ibm_quantum_platform",
            "token": api_key or self.api_key,
            "instance": instance,
            **self.address(),
        }

    def address(self) -> dict[str, Any]:
        """`url` and `proxies`: how the client is led here."""
        proxies = {"urls": {"http": f"http://127.0.0.1:{self.port}"}}
        return {"url": "http://cloud.ibm.test", "proxies": proxies}

    def trusted(self) -> str:
        """What its user says of `address`."""
        return f"http://cloud.ibm.test http://127.0.0.1:{self.port}"

    def runtime_options(self, **more: Any) -> dict[str, Any]:
        """Keys of a backend of kind `runtime`; the token is in the environment, as ever."""
        return {
            "device": self.name,
            "instance": CRN,
            "channel": "ibm_quantum_platform",
            **self.address(),
            **more,
        }

    def environment(self) -> dict[str, str]:
        """Variables with which the client finds this account, in this or another process."""
        return {
            "QISKIT_IBM_TOKEN": self.api_key,
            "QISKIT_IBM_CHANNEL": "ibm_quantum_platform",
            "QISKIT_IBM_INSTANCE": CRN,
            **ENVIRONMENT,
            TRUSTED: self.trusted(),
        }

    def inject(self, method: str, path: str, status: int | None, **more: Any) -> Fault:
        """Answer the next matching request with `status`, None for as ever; see `Fault`."""
        fault = Fault(method, path, status, **more)
        self.faults.add(fault)
        return fault

    def accept_then(self, status: int | None, **more: Any) -> Fault:
        """Accept the next job and answer `status` all the same; 0 cuts the connection."""
        return self.inject("POST", "*/jobs", status, accept=True, **more)

    def stall(self, method: str, path: str, seconds: float, **more: Any) -> Fault:
        """Carry out the next matching request, and answer it only after `seconds`."""
        return self.inject(method, path, None, accept=True, delay=seconds, **more)

    def posts(self) -> int:
        """Requests that tried to submit a job, accepted or not."""
        return sum(m == "POST" and p.endswith("/api/v1/jobs") for m, p in list(self.requests))

    def pause(self, seconds: float) -> bool:
        """Wait, but not beyond the time the service listens; whether it has stopped listening."""
        return self._away.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for the requests under way
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening, end connections on which nothing is said, wait for the others."""
        with self._guard:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        super().server_close()


def _handler(service: LoopbackService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet

        def log_message(self, *_: object) -> None:
            pass

        def serve(self) -> None:
            url, size = urlsplit(self.path), int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            service.requests.append((self.command, url.path))
            fault = service.faults.take(self.command, url.path)
            headers: dict[str, str] = {}
            status: int = 0
            reply: Any = None
            if fault is None or fault.accept:
                token = (self.headers.get("Authorization") or "").startswith("Bearer ")
                query = parse_qs(url.query)
                status, reply = service.answer(self.command, url.path, query, body, token=token)
            if fault is not None:
                cut = service.pause(fault.delay) if fault.delay else False
                if cut or fault.status == 0:
                    self.close_connection = True
                    return
                if fault.status is not None:
                    (status, reply), headers = error(fault.status, fault.message), fault.headers
            text = reply if isinstance(reply, str) else "" if reply is None else json.dumps(reply)
            if fault is not None and fault.body is not None:
                text = fault.body if isinstance(fault.body, str) else fault.body(text)
            data = text.encode()
            with contextlib.suppress(ConnectionError):  # the client may have been killed
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if fault is not None and fault.cut:
                    self.close_connection = True
                    data = data[: len(data) // 2]
                self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = serve

    return Handler
