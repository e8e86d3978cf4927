# SPDX-License-Identifier: Apache-2.0
"""What runs inside a worker process. Imports nothing heavy: threads are set before torch loads."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from qiskit_kd.errors import (
    AccountError,
    BudgetError,
    QiskitKDError,
    QuotaError,
    TransientError,
    UncertainJobError,
    UnknownNameError,
)

_FOR_ALL = (AccountError, BudgetError, QuotaError, TransientError, UncertainJobError)
"""Errors that every other task on the device would meet as well."""


@dataclass(frozen=True)
class Outcome:
    """What a worker sends back: a row, or why there is none."""

    row: dict[str, Any] | None
    weights: bytes | None
    """Those of the best epoch as safetensors."""
    seconds: float
    host: str
    pid: int
    error: str = ""
    traceback: str = ""
    stop: QiskitKDError | None = None
    """Why no other task is to be started either."""


class _ImportEnded(BaseException):
    """Ends the import of the user's script at the call that made this worker."""


@dataclass
class _Script:
    """The user's script in this process: whether it is being imported, or why it could not be."""

    importing: bool = False
    fault: str = ""


_script = _Script()


def leave_import() -> None:
    """Where a worker imports the user's script, end that import; called by what starts workers.

    So a script needs no main guard, and what it registered before still reaches the workers.
    """
    if _script.importing:
        raise _ImportEnded


def start_worker(name: str | None = None, path: str | None = None) -> None:
    """Initializer of a worker: one thread, deaf to Ctrl-C, and dead when the driver dies.

    It imports the user's script as `spawn` does, but that may start a study without a main guard.

    Args:
        name: The driver's main module, if it was run by name.
        path: Its file, if it was run as a script.
    """
    for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    os.environ["QISKIT_PARALLEL"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt means
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    _script.importing = True
    try:
        with redirect_stdout(StringIO()):  # the driver has printed it
            if name is not None and not name.endswith("__main__"):
                runpy.run_module(name, run_name="__mp_main__", alter_sys=True)
            elif name is None and path is not None and Path(path).stem != "ipython":
                runpy.run_path(path, run_name="__mp_main__")
    except _ImportEnded:
        pass
    except (Exception, SystemExit) as error:  # perhaps nothing of it is needed
        _script.fault = f"{path or name} cannot be imported: {type(error).__name__}: {error}"
    finally:
        _script.importing = False


def _die_with(parent: Any) -> None:
    parent.join()
    os._exit(1)  # nobody is left to take the row


def warm() -> None:
    """Import what tasks need."""
    import qiskit_kd.experiment.task  # noqa: F401


def work(
    key: str,
    spec: Mapping[str, Any],
    teachers: Mapping[str, str],
    scratch: str | None,
    checkpoint_epochs: int | None,
    journal: str | None = None,
) -> Outcome:
    """Run one task, see `run_task`, and never raise: a failed task comes back as one."""
    begun = time.perf_counter()
    row, weights, error, trace, stop = None, None, "", "", None
    try:
        from qiskit_kd.execution.mitigation import few_shots_known
        from qiskit_kd.experiment.task import run_task

        with few_shots_known():  # the driver has said so, once
            row, weights = run_task(
                spec,
                teachers=teachers,
                scratch=scratch,
                checkpoint_epochs=checkpoint_epochs,
                journal=journal,
            )
        row = {"key": key, **row}
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
        if _script.fault and isinstance(problem, UnknownNameError):
            error += f" In this worker {_script.fault}"
        trace = traceback.format_exc()
        stop = problem if isinstance(problem, _FOR_ALL) else None
    seconds = time.perf_counter() - begun
    return Outcome(row, weights, seconds, socket.gethostname(), os.getpid(), error, trace, stop)
