# SPDX-License-Identifier: Apache-2.0
"""The driver's loop: hand out what is missing, commit each row as it comes, survive the workers.

Works with any `concurrent.futures.Executor`. A dead worker breaks a process pool with everything in
flight, so the pool is rebuilt and the suspects run alone until the guilty one is known. Finished
futures are dropped at once: some executors (dask) recompute what a live future still names.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from concurrent.futures import ProcessPoolExecutor as Pool
from dataclasses import dataclass, field
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from qiskit_kd.errors import ExecutionError, QiskitKDError, StorageError
from qiskit_kd.experiment.devices import DEVICE, JOURNAL, entries_of
from qiskit_kd.experiment.plan import Task
from qiskit_kd.experiment.store import Store
from qiskit_kd.experiment.worker import Outcome, leave_import, start_worker, warm, work
from qiskit_kd.files import write_atomically

logger = logging.getLogger(__name__)

_OF_ENTRIES = ("AccountError", "DeviceError", "QuotaError")
_STRIKES = 3
_BREAKS = 12


class Watcher(Protocol):
    """Told about progress; `rich` on a terminal, the log elsewhere."""

    def __call__(self, done: int, failed: int, total: int, label: str, /) -> None:
        """After every task."""


@dataclass
class Summary:
    """What one call of `run` did."""

    total: int
    """Tasks in the plan."""
    found: int
    """Finished before."""
    done: int = 0
    failed: list[str] = field(default_factory=list)
    """Labels of tasks that failed."""
    stopped: QiskitKDError | None = None
    """Why it ended before every task was tried: no account, no budget, no service."""


class _Stopped(Exception):
    """Ends a run in which no other task could do better."""

    def __init__(self, error: QiskitKDError) -> None:
        super().__init__(str(error))
        self.error = error


class _Process(SpawnProcess):
    """A process that does not import the main module: `start_worker` does, and knows how."""

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)  # noqa: SLF001
        finally:
            sys.modules["__main__"] = main


class _Context(SpawnContext):
    Process = _Process


def process_pool(workers: int) -> Pool:
    """The default executor: spawned processes of one thread each, which die with the driver."""
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)  # as `spawn` looks for it
    path = getattr(main, "__file__", None)
    script = (name, None if path is None else str(Path(path).absolute()))
    return Pool(workers, mp_context=_Context(), initializer=start_worker, initargs=script)


def warm_pool(workers: int) -> Pool:
    """A process pool whose workers are importing already, while the driver still plans."""
    pool = process_pool(workers)
    for _ in range(workers):
        pool.submit(warm)
    return pool


def discard(pool: Executor, before: set[BaseProcess]) -> None:
    """End a pool and its processes at once: nobody will collect what they do."""
    _terminate(before)
    # Its thread has to be gone, or the interpreter may talk to a closed pipe at its own end.
    pool.shutdown(wait=True, cancel_futures=True)


def _terminate(before: set[BaseProcess]) -> None:
    for child in set(multiprocessing.active_children()) - before:
        child.terminate()


def teacher_file(folder: Path, key: str) -> Path:
    """Where the weights of a teacher's task are kept."""
    return folder / "teachers" / f"{key}.safetensors"


def student_file(folder: Path, key: str) -> Path:
    """Where the weights of a student's task are kept, for whom they may leave."""
    return folder / "students" / f"{key}.safetensors"


def run(
    tasks: Sequence[Task],
    store: Store,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    pool: Pool | None = None,
    watch: Watcher | None = None,
    where: Callable[[str], str] | None = None,
) -> Summary:
    """Run the tasks that have no row yet.

    Where a task finds that no other can do better (no budget, account or service), no other is
    started, and the summary says so.

    Args:
        tasks: The plan, teachers before their students.
        store: Opened for writing.
        executor: Any executor whose workers see the study's folder; None makes a process pool.
        workers: Size of that pool, by default one per core.
        pool: A pool to begin with, see `warm_pool`; it is shut down.
        watch: Told about progress.
        where: Says where the entry stands that the text of a device's error is about.

    Raises:
        ExecutionError: If workers keep dying, whatever they are given.
        StorageError: If a row cannot be written; the rows before it are safe.
        KeyboardInterrupt: After an orderly stop; every finished row is committed.
    """
    leave_import()
    job = _Job(tasks, store, workers or os.cpu_count() or 1, watch, where)
    before = set(multiprocessing.active_children())
    try:
        if executor is not None:
            job.drain(executor, rebuild=None)
        elif job.waiting:
            job.drain(pool or job.new_pool(), rebuild=job.new_pool)
    except BaseException as error:
        if executor is None:  # do not wait for tasks that nobody will collect
            _terminate(before)
        if not isinstance(error, _Stopped):
            raise
        job.summary.stopped = error.error
    return job.summary


def _pays(task: Task) -> bool:
    """Whether a task runs circuits on a device."""
    return any(entry["kind"] == DEVICE for entry in entries_of(task.spec))


class _Job:
    """The state of one run: what waits, what is in flight, what is suspected."""

    def __init__(
        self,
        tasks: Sequence[Task],
        store: Store,
        workers: int,
        watch: Watcher | None,
        where: Callable[[str], str] | None,
    ) -> None:
        done = store.keys()
        self.summary = Summary(len(tasks), sum(task.key in done for task in tasks))
        self._store, self._workers, self._watch, self._where = store, workers, watch, where
        self._ready: deque[Task] = deque()
        self._lacks: dict[str, tuple[Task, set[str]]] = {}  # what waits, for which teachers
        self._suspects: deque[Task] = deque()
        self._flying: dict[Future[Outcome], tuple[Task, int]] = {}
        self._strikes: Counter[str] = Counter()
        self._breaks = 0
        # Tasks handed out for each worker, so that none waits for the driver. On a device what is
        # handed out cannot be taken back where the budget ends.
        self._ahead = 1 if any(map(_pays, tasks)) else 2
        self._queue(tasks, done)

    @property
    def waiting(self) -> int:
        """Tasks not yet finished."""
        return sum(map(len, (self._ready, self._suspects, self._flying, self._lacks)))

    def new_pool(self) -> Pool:
        """A pool for what waits."""
        return process_pool(min(self._workers, max(1, self.waiting)))

    def _queue(self, tasks: Sequence[Task], done: set[str]) -> None:
        """Sort what is missing into ready tasks and tasks that wait for teachers."""
        missing = {task.key: task for task in tasks if task.key not in done}
        rows = self._store.rows("teacher").values()
        digests = {row["key"]: row["extra"]["weights_sha256"] for row in rows}
        wanted = {key for task in missing.values() for key in task.needs}
        for task in tasks:  # a teacher whose file is gone is trained again, if still needed
            if task.key in wanted and task.key not in missing:
                path = teacher_file(self._store.folder, task.key)
                if not path.is_file():
                    logger.warning("%s is gone; the teacher is trained again", path)
                    missing[task.key] = task
                    self.summary.found -= 1
                elif hashlib.sha256(path.read_bytes()).hexdigest() != digests[task.key]:
                    raise StorageError(
                        f"{path} is damaged",
                        got="another checksum than its row recorded",
                        remedy="Delete that file and run again: the teacher is trained again.",
                    )
        for task in tasks:
            if task.key in missing:
                if lacks := missing.keys() & set(task.needs):
                    self._lacks[task.key] = task, lacks
                else:
                    self._ready.append(task)

    def drain(self, executor: Executor, *, rebuild: Callable[[], Executor] | None) -> None:
        """Run until nothing is left."""
        try:
            while self.waiting:
                try:
                    self._fill(executor)
                    self._collect()
                except BrokenExecutor as error:
                    self._broken(error, can_rebuild=rebuild is not None)
                    assert rebuild is not None
                    executor.shutdown(wait=False, cancel_futures=True)
                    executor = rebuild()
        except (KeyboardInterrupt, _Stopped):
            self._harvest()
            raise
        except BaseException:
            for future in self._flying:
                future.cancel()
            raise
        finally:
            if rebuild is not None:
                executor.shutdown(wait=not self.waiting, cancel_futures=True)

    def _fill(self, executor: Executor) -> None:
        if self._suspects and not self._flying:
            self._submit(executor, self._suspects.popleft())
            return
        if self._suspects or any(self._strikes[task.key] for task, _ in self._flying.values()):
            return  # a suspect runs alone
        while self._ready and len(self._flying) < self._ahead * self._workers:
            future = self._submit(executor, self._ready.popleft())
            if self._ahead == 1 and future.done():
                return  # perhaps there is nothing to be handed out any more

    def _submit(self, executor: Executor, task: Task) -> Future[Outcome]:
        folder = self._store.folder
        attempt = self._store.start(task.key)
        # Trained on a device, a task that is begun again replays its jobs from the journal. A
        # checkpoint would hide those before it from what the row says of the device.
        replays = dict(task.spec.get("backend") or {}).get("kind") == DEVICE
        try:
            future = executor.submit(
                work,
                task.key,
                dict(task.spec),
                {key: str(teacher_file(folder, key)) for key in task.needs},
                str(folder / "scratch" / task.key),
                None if replays else task.checkpoint_epochs,
                str((folder / JOURNAL).absolute()),
            )
        except BrokenExecutor:
            self._ready.appendleft(task)
            raise
        self._flying[future] = (task, attempt)
        return future

    def _collect(self) -> None:
        finished, _ = wait(self._flying, return_when=FIRST_COMPLETED)
        broken: BrokenExecutor | None = None
        stop: QiskitKDError | None = None
        for future in finished:
            try:
                outcome = future.result()
            except BrokenExecutor as error:
                broken = error  # left in flight: `_broken` makes a suspect of it
                continue
            self._settle(*self._flying.pop(future), outcome)
            stop = stop or outcome.stop
        if stop is not None:
            raise _Stopped(stop)
        if broken is not None:
            raise broken

    def _harvest(self) -> None:
        """Commit what has come back already; the rest is given up."""
        self._watch = None
        for future, (task, attempt) in self._flying.items():
            if not future.cancel() and future.done() and future.exception() is None:
                self._settle(task, attempt, future.result())

    def _settle(self, task: Task, attempt: int, outcome: Outcome) -> None:
        self._breaks = 0
        self._strikes.pop(task.key, None)
        if outcome.row is None:
            kind, _, text = outcome.error.partition(": ")
            told = self._where is not None and kind in _OF_ENTRIES and _pays(task)
            entry = self._where(text) if told and self._where is not None else ""
            error = f"{kind}: {entry}: {text}" if entry else outcome.error
            self._fail(task, error, outcome.traceback, attempt)
            return
        if outcome.weights is not None:
            place = teacher_file if task.role == "teacher" else student_file
            write_atomically(place(self._store.folder, task.key), outcome.weights)
        self._store.commit(
            task.key,
            task.role,
            outcome.row,
            seconds=outcome.seconds,
            host=outcome.host,
            pid=outcome.pid,
            attempt=attempt,
        )
        self.summary.done += 1
        if task.role == "teacher":
            for other, lacks in [*self._lacks.values()]:
                lacks.discard(task.key)
                if not lacks:
                    del self._lacks[other.key]
                    self._ready.append(other)
        self._tell(task)

    def _fail(self, task: Task, error: str, trace: str, attempt: int | None) -> None:
        logger.info("failed: %s: %s", task.label, error)  # the command line shows what is stored
        self._store.fail(task.key, task.label, error, trace, attempt=attempt)
        self.summary.failed.append(task.label)
        self._tell(task)
        for other in [other for other, lacks in self._lacks.values() if task.key in lacks]:
            del self._lacks[other.key]
            self._fail(other, f"its teacher failed: {error}", trace, None)

    def _broken(self, error: BrokenExecutor, *, can_rebuild: bool) -> None:
        """Make suspects of all that was in flight; whoever has three strikes has failed."""
        self._breaks += 1
        if not can_rebuild or self._breaks > _BREAKS:
            raise ExecutionError(
                "the workers keep dying" if can_rebuild else "the executor broke",
                got=str(error),
                remedy="Rows so far are safe. Look for lack of memory, try fewer "
                "--workers, then run again.",
            ) from error
        flying, self._flying = list(self._flying.values()), {}
        for task, attempt in flying:
            self._strikes[task.key] += 1
            if self._strikes[task.key] < _STRIKES:
                self._suspects.append(task)
                continue
            self._breaks = 0
            what = f"its worker process died {_STRIKES} times"
            trace = "no traceback: the process was killed, perhaps for lack of memory"
            self._fail(task, what, trace, attempt)
        logger.warning("a worker died; %d tasks are started again", len(self._suspects))

    def _tell(self, task: Task) -> None:
        if self._watch is not None:
            summary = self.summary
            done, failed = summary.found + summary.done, len(summary.failed)
            self._watch(done, failed, summary.total, task.label)
