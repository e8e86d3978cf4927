# SPDX-License-Identifier: Apache-2.0
"""What the loopback service answers: identity, search, catalog and the API of devices and jobs."""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from typing import Any
from urllib.parse import parse_qs

from tests.loopback.jobs import FINAL, Job, decode
from tests.loopback.machine import Machine
from tests.loopback.simulator import Unsupported

__all__ = ["CRN", "Api", "Reply", "error"]

CRN = "crn:v1:bluemix:public:quantum-computing:eu-de:a/loop:00000000-1111-2222-3333-444444444444::"
Reply = tuple[int, Any]
"""HTTP status, and what JSON can hold (a string is sent as it is, None as nothing)."""


def error(status: int, message: str, code: int = 0) -> Reply:
    """An error as the service words it."""
    return status, {"error": {"message": message, "code": code or status}}


class Api(Machine):
    """The answers to requests.

    Args:
        api_key: The key that logs in.
        more: What the machine takes.

    Attributes:
        sessions: Sessions and batches by id.
    """

    def __init__(self, *, api_key: str, **more: Any) -> None:
        super().__init__(**more)
        self.api_key = api_key
        self.sessions: dict[str, dict[str, Any]] = {}

    def answer(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes, *, token: bool
    ) -> Reply:
        """The reply to a request."""
        if path == "/identity/token":
            return self._identity(parse_qs(body.decode()))
        if path == "/v3/resources/search":
            item = {
                "crn": CRN,
                "name": "loopback",
                "service_plan_unique_id": "plan-open",
                "tags": [],
                "doc": {"extensions": {"backends": list(self.devices)}},
            }
            return 200, {"items": [item], "limit": 100}
        if path == "/api/v1/plan-open":
            return 200, {
                "id": "plan-open",
                "metadata": {"pricing": {"type": "free"}},
                "overview_ui": {"en": {"display_name": "Open"}},
            }
        if not token:
            return error(401, "no bearer token", 1200)
        data = json.loads(body) if body.startswith(b"{") else {}
        for verb, pattern, name in _ROUTES:
            if verb == method and (match := re.fullmatch("/api/v1" + pattern, path)):
                reply: Reply = getattr(self, name)(data, query, *match.groups())
                return reply
        return error(404, f"unknown address {method} {path}")

    def _identity(self, form: dict[str, list[str]]) -> Reply:
        if form.get("apikey") != [self.api_key]:
            return 400, {
                "errorCode": "BXNIM0415E",
                "errorMessage": "Provided API key could not be found.",
            }
        now = int(time.time())
        claims = ({"alg": "none"}, {"iat": now, "exp": now + 3600, "iam_id": "IBMid-loopback"})
        parts = [base64.urlsafe_b64encode(json.dumps(c).encode()).rstrip(b"=") for c in claims]
        return 200, {
            "access_token": b".".join([*parts, b"sig"]).decode(),
            "token_type": "Bearer",
            "refresh_token": "-",
            "expires_in": 3600,
            "expiration": now + 3600,
        }

    def _list_devices(self, _data: dict[str, Any], _query: dict[str, list[str]]) -> Reply:
        return 200, {"devices": [device.listed() for device in self.devices.values()]}

    def _device(
        self, _data: dict[str, Any], query: dict[str, list[str]], name: str, what: str
    ) -> Reply:
        if name not in self.devices:
            return error(404, f"no backend named {name}", 1216)
        return 200, self.devices[name].answer(what, *query.get("updated_before", ()))

    def _usage(self, _data: dict[str, Any], _query: dict[str, list[str]]) -> Reply:
        left = 1e9 if self.quota is None else self.quota
        return 200, {
            "instance_id": CRN,
            "plan_id": "open",
            "usage_period": {},
            "usage_consumed_seconds": self.seconds,
            "usage_limit_seconds": self.seconds + left,
            "usage_remaining_seconds": max(left, 0.0),
            "usage_limit_reached": left <= 0,
        }

    def _submit(self, data: dict[str, Any], _query: dict[str, list[str]]) -> Reply:
        device = self.devices.get(data.get("backend", ""))
        if device is None:
            return error(404, f"no backend named {data.get('backend')}", 1216)
        session = self.sessions.get(data.get("session_id") or "")
        if data.get("session_id") and (session is None or not session["accepting_jobs"]):
            return error(400, "Session has been closed.", 1217)
        job = Job("d" + uuid.uuid4().hex[:19], data, len(self.jobs))
        try:
            job.work = decode(data, device)
        except Unsupported as exc:
            return error(404, str(exc), 1207)
        except ValueError as exc:
            return error(400, f"parameters do not fit the schema: {exc}"[:300], 1211)
        self.enqueue(job)
        return 200, {"id": job.id, "backend": device.name}

    def _search(self, _data: dict[str, Any], query: dict[str, list[str]]) -> Reply:
        def given(name: str, default: str = "") -> str:
            return query.get(name, [default])[0]

        found = sorted(self.jobs.values(), key=lambda job: -job.order)
        if given("sort") == "ASC":
            found.reverse()
        wanted = set(query.get("tags", []))
        found = [job for job in found if wanted <= {*job.tags}]
        if pending := given("pending"):
            found = [job for job in found if (job.status not in FINAL) == (pending == "true")]
        for name in ("backend", "session_id"):
            if value := given(name):
                found = [job for job in found if job.request.get(name) == value]
        if program := given("program"):
            found = [job for job in found if job.request["program_id"] == program]
        first = int(given("offset", "0"))
        page = found[first : first + int(given("limit", "200"))]
        return 200, {"jobs": [job.public(params=False) for job in page], "count": len(found)}

    def _job(
        self, _data: dict[str, Any], query: dict[str, list[str]], job_id: str, what: str | None
    ) -> Reply:
        if (job := self.jobs.get(job_id)) is None:
            return error(404, "Job not found", 1291)
        if what is None:
            return 200, job.public(params="exclude_params" not in query)
        if what == "metrics":
            return 200, job.metrics()
        if what == "logs":
            return 200, ""
        return (204, None) if job.result is None else (200, job.result)

    def _cancel(self, _data: dict[str, Any], _query: dict[str, list[str]], job_id: str) -> Reply:
        if (job := self.jobs.get(job_id)) is None:
            return error(404, "Job not found", 1291)
        if not self.cancel(job):
            return error(409, "job is in a final state", 1233)
        return 204, None

    def _open_session(self, data: dict[str, Any], _query: dict[str, list[str]]) -> Reply:
        name = "s-" + uuid.uuid4().hex[:12]
        self.sessions[name] = {
            "id": name,
            "backend_name": data.get("backend") or self.name,
            "state": "open",
            "accepting_jobs": True,
            "elapsed_time": 0,
            "interactive_ttl": 60,
            "max_ttl": 28800,
            "mode": data.get("mode"),
        }
        return 200, self.sessions[name]

    def _session(self, data: dict[str, Any], _query: dict[str, list[str]], name: str) -> Reply:
        if name not in self.sessions:
            return error(404, "Session not found", 1290)
        self.sessions[name] |= data
        return 200, self.sessions[name]

    def _close(self, _data: dict[str, Any], query: dict[str, list[str]], name: str) -> Reply:
        return self._session({"state": "closed", "accepting_jobs": False}, query, name)


_ROUTES = (
    ("GET", "/backends", "_list_devices"),
    ("GET", "/backends/([^/]+)/(configuration|properties|status)", "_device"),
    ("GET", "/instances/usage", "_usage"),
    ("POST", "/jobs", "_submit"),
    ("GET", "/jobs", "_search"),
    ("GET", "/jobs/([^/]+)(?:/(results|metrics|logs))?", "_job"),
    ("POST", "/jobs/([^/]+)/cancel", "_cancel"),
    ("POST", "/sessions", "_open_session"),
    ("GET", "/sessions/([^/]+)", "_session"),
    ("PATCH", "/sessions/([^/]+)", "_session"),
    ("DELETE", "/sessions/([^/]+)/close", "_close"),
)
