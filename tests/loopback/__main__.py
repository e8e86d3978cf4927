# SPDX-License-Identifier: Apache-2.0
"""Run the loopback service in a process of its own: `python -m tests.loopback --port 8099`.

The first line it prints is JSON: the port, the keys of a backend, and the environment that a client
needs. It ends when its input ends, and then prints its counters, as JSON too; in between, each line
of input is a command, answered by one line of JSON:

    counters | hold | release | disconnect | connect | quota SECONDS | fault {JSON of Fault}
"""

from __future__ import annotations

import argparse
import json
import sys

from tests.loopback.faults import Fault
from tests.loopback.service import LoopbackService


def _obey(service: LoopbackService, line: str) -> object:
    word, _, rest = line.strip().partition(" ")
    if word in ("hold", "release", "disconnect", "connect"):
        getattr(service, word)()
    elif word == "quota":
        service.set_quota(float(rest))
    elif word == "fault":
        service.faults.add(Fault(**json.loads(rest)))
    elif word != "counters":
        return {"unknown": word}
    return service.counters()


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="fake_lagos")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--queue-seconds", type=float, default=0.0)
    parser.add_argument("--run-seconds", type=float, default=0.0)
    parser.add_argument("--quota", type=float, default=600.0)
    given = parser.parse_args()
    service = LoopbackService(
        given.device,
        port=given.port,
        queue_seconds=given.queue_seconds,
        run_seconds=given.run_seconds,
        quota=given.quota,
    )
    with service:
        hello = {"port": service.port, "backend": service.runtime_options()}
        print(json.dumps(hello | {"environment": service.environment()}), flush=True)
        for line in sys.stdin:
            print(json.dumps(_obey(service, line)), flush=True)
        print(json.dumps(service.counters()), flush=True)


if __name__ == "__main__":
    main()
