# SPDX-License-Identifier: Apache-2.0
"""What runs inside a worker process. Imports nothing heavy: threads are set before torch loads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qiskit_kd.errors import (
    AccountError,
    BudgetError,
    QiskitKDError,
    QuotaError,
    TransientError,
    UncertainJobError,
)

__all__ = ["Outcome", "start_worker", "warm", "work"]

_FOR_ALL = (AccountError, BudgetError, QuotaError, TransientError, UncertainJobError)
"""Errors that every other task on the device would meet as well."""


@dataclass(frozen=True)
class Outcome:
    """What a worker sends back: a row, or why there is none."""

    key: str
    row: dict[str, Any] | None
    weights: bytes | None
    """A teacher's weights as safetensors."""
    seconds: float
    host: str
    pid: int
    error: str = ""
    traceback: str = ""
    stop: QiskitKDError | None = None
    """Why no other task is to be started either."""


def start_worker() -> None:
    """Initializer of a worker: one thread, deaf to Ctrl-C, and dead when the driver dies."""
    for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON"):
        os.environ[f"{name}_NUM_THREADS"] = "1"
    os.environ["QISKIT_PARALLEL"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt means
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: Any) -> None:
    parent.join()
    os._exit(1)  # nobody is left to take the row


def warm() -> None:
    """Import what tasks need."""
    import qiskit_kd.experiment.task  # noqa: F401


def work(
    key: str, spec: Mapping[str, Any], teachers: Mapping[str, str], scratch: str | None,
    checkpoint_epochs: int | None, journal: str | None = None,
) -> Outcome:  # fmt: skip
    """Run one task and never raise: a failed task comes back as one.

    Args:
        key: The task's key.
        spec: The task.
        teachers: Files with the weights of its teachers, by their keys.
        scratch: Folder for checkpoints of a long task.
        checkpoint_epochs: How often it leaves one; None never.
        journal: The study's journal of jobs on devices.
    """
    begun = time.perf_counter()
    row, weights, error, trace, stop = None, None, "", "", None
    try:
        from qiskit_kd.execution.mitigation import few_shots_known
        from qiskit_kd.experiment.task import run_task

        with few_shots_known():  # the driver has said so, once
            row, weights = run_task(
                spec, teachers=teachers, scratch=scratch, checkpoint_epochs=checkpoint_epochs,
                journal=journal,
            )  # fmt: skip
        row = {"key": key, **row}
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
        trace = traceback.format_exc()
        stop = problem if isinstance(problem, _FOR_ALL) else None
    seconds = time.perf_counter() - begun
    return Outcome(
        key, row, weights, seconds, socket.gethostname(), os.getpid(), error, trace, stop
    )  # fmt: skip
