# SPDX-License-Identifier: Apache-2.0
"""Stands in for `worker.work`: rows from arithmetic, deaths and failures on demand.

A module of its own, so that spawned workers can import it without importing torch.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from qiskit_kd.errors import BudgetError, QiskitKDError
from qiskit_kd.experiment.worker import Outcome


def work(
    key: str, spec: dict[str, Any], teachers: dict[str, str], scratch: str | None,
    checkpoint_epochs: int | None, journal: str | None,
) -> Outcome:  # fmt: skip
    """`spec["do"]`: `row`, `fail`, `stop`, `die`, `die once`; `spec["log"]`: log of starts."""
    begun = time.perf_counter()
    if "log" in spec:
        with (Path(spec["log"]) / "starts").open("a") as file:
            file.write(f"{key}\n")
    time.sleep(spec.get("sleep", 0.0))
    what = spec.get("do", "row")
    flag = Path(spec.get("log", ".")) / f"died-{key}"
    if what == "die" or (what == "die once" and not flag.exists()):
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    row, weights, error = None, None, ""
    stop: QiskitKDError | None = None
    if what == "fail":
        error = "ValueError: on purpose"
    elif what == "stop":
        stop = BudgetError("the money is gone", got="nothing left")
        error = f"BudgetError: {stop}"
    else:
        taught = [Path(file).read_text() for file in teachers.values()]
        row = {"key": key, "value": spec["seed"] / 7, "taught": taught,
               "options": {"temperature": None}, "extra": {}}  # fmt: skip
        if "asks" in spec:
            row |= {"checkpoint_epochs": checkpoint_epochs, "journal": journal}
        if spec["role"] == "teacher":
            import hashlib

            weights = f"weights {key}".encode()
            row["extra"]["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    seconds = time.perf_counter() - begun
    trace = f"trace of {error}"
    return Outcome(row, weights, seconds, "fake", os.getpid(), error, trace, stop)
