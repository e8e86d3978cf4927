# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import drive
import fake_work
import pytest

from qiskit_kd.errors import BudgetError, ExecutionError, StorageError
from qiskit_kd.experiment import runner
from qiskit_kd.experiment.plan import Task
from qiskit_kd.experiment.store import Store


class Inline(Executor):
    """Runs at once, in this process."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "work", fake_work.work)


def task(key: str, role: str = "student", *, needs: tuple[str, ...] = (), seed: int = 1, **spec):
    spec = {"role": role, "seed": seed, **spec}
    return Task(key, role, "net", "plain", seed, {}, spec, needs)


def assert_ended(before: set[Any]) -> None:
    """Nothing runs that did not before."""
    deadline = time.monotonic() + 10
    while set(multiprocessing.active_children()) - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(multiprocessing.active_children()) <= before


def test_every_task_once_and_never_again(tmp_path: Path) -> None:
    tasks = [task("t", "teacher"), *(task(f"s{k}", needs=("t",), seed=k) for k in range(5))]
    seen: list[tuple[int, int, int]] = []
    with Store(tmp_path, write=True) as store:
        summary = runner.run(
            tasks, store, executor=Inline(), watch=lambda d, f, t, _: seen.append((d, f, t))
        )
        assert (summary.total, summary.found, summary.done, summary.failed) == (6, 0, 6, [])
        assert seen == [(k, 0, 6) for k in range(1, 7)]
        assert store.rows()["s3"] == {
            "key": "s3", "value": 3 / 7, "taught": ["weights t"],
            "options": {"temperature": None}, "extra": {},
        }  # fmt: skip
        again = runner.run(tasks, store, executor=Inline())
        assert (again.found, again.done) == (6, 0)
        assert Counter(store.attempts()) == {(t.key, "done"): 1 for t in tasks}


def test_only_what_is_missing(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        runner.run([task("a")], store, executor=Inline())
        summary = runner.run([task("a"), task("b")], store, executor=Inline())
        assert (summary.found, summary.done) == (1, 1)
        assert [key for key, _ in store.attempts()] == ["a", "b"]


def test_a_failure_stops_nobody_else_and_is_tried_again(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        tasks = [task("a"), task("b", do="fail"), task("c")]
        summary = runner.run(tasks, store, executor=Inline())
        assert (summary.done, summary.failed) == (2, ["net, plain, seed 1"])
        assert store.failures()["b"] == {
            "label": "net, plain, seed 1", "error": "ValueError: on purpose",
            "traceback": "trace of ValueError: on purpose",
        }  # fmt: skip
        summary = runner.run([task("a"), task("b"), task("c")], store, executor=Inline())
        assert (summary.done, summary.failed, store.failures()) == (1, [], {})


def test_students_of_a_failed_teacher_fail_with_it(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        tasks = [task("t", "teacher", do="fail"), task("a", needs=("t",)), task("b")]
        summary = runner.run(tasks, store, executor=Inline())
        assert (summary.done, len(summary.failed)) == (1, 2)
        assert store.failures()["a"]["error"] == "its teacher failed: ValueError: on purpose"
        assert ("a", "started") not in store.attempts()


def test_a_student_waits_for_all_its_teachers(tmp_path: Path) -> None:
    tasks = [task("t", "teacher"), task("u", "teacher"), task("a", needs=("u", "t")),
             task("b", needs=("t",)), task("c", needs=("u",))]  # fmt: skip
    with Store(tmp_path, write=True) as store:
        runner.run(tasks[:1], store, executor=Inline())
        assert runner.run(tasks, store, executor=Inline()).done == 4
        assert store.rows()["a"]["taught"] == ["weights u", "weights t"]
        assert [key for key, _ in store.attempts()][:2] == ["t", "u"]
    with Store(tmp_path / "pool", write=True) as store, ThreadPoolExecutor(2) as pool:
        slow = [task("t", "teacher"), task("u", "teacher", sleep=0.1), *tasks[2:]]
        assert runner.run(slow, store, executor=pool).done == 5
        order = [key for key, _ in store.attempts()]
        assert order.index("b") < order.index("a")


@pytest.mark.parametrize("broken", [("t",), ("u",), ("t", "u")])
def test_a_student_fails_once_with_whichever_teacher(
    tmp_path: Path, broken: tuple[str, ...]
) -> None:
    tasks = [
        *(task(k, "teacher", do="fail" if k in broken else "row") for k in ("t", "u")),
        task("a", needs=("t", "u")), task("b"),
    ]  # fmt: skip
    with Store(tmp_path, write=True) as store:
        seen: list[int] = []
        summary = runner.run(
            tasks, store, executor=Inline(), watch=lambda _, failed, __, ___: seen.append(failed)
        )
        assert (summary.done, len(summary.failed)) == (3 - len(broken), len(broken) + 1)
        assert max(seen) == len(summary.failed)
        assert store.failures()["a"]["error"] == "its teacher failed: ValueError: on purpose"


def test_a_lost_teacher_is_trained_again_if_needed(tmp_path: Path, caplog) -> None:
    with Store(tmp_path, write=True) as store:
        runner.run([task("t", "teacher")], store, executor=Inline())
        runner.teacher_file(tmp_path, "t").unlink()
        runner.run([task("t", "teacher"), task("b")], store, executor=Inline())
        assert not runner.teacher_file(tmp_path, "t").exists()  # nobody needed it
        summary = runner.run(
            [task("t", "teacher"), task("a", needs=("t",))], store, executor=Inline()
        )
        assert (summary.found, summary.done) == (0, 2)
        assert "is gone; the teacher is trained again" in caplog.text


def test_a_damaged_teacher(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        tasks = [task("t", "teacher"), task("a", needs=("t",))]
        runner.run(tasks[:1], store, executor=Inline())
        runner.teacher_file(tmp_path, "t").write_bytes(b"other")
        with pytest.raises(StorageError, match=r"t.safetensors is damaged; got another checksum "
                           r"than its row recorded. Delete that file"):  # fmt: skip
            runner.run(tasks, store, executor=Inline())


def test_a_full_disk_while_running(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        runner.run([task("a")], store, executor=Inline())
        pages = store.db.execute("PRAGMA page_count").fetchone()[0]
        store.db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match=r"database or disk is full. All rows committed so"):
            runner.run([task(f"{k:0100d}") for k in range(200)], store, executor=Inline())
    with Store(tmp_path) as store:
        assert "a" in store.rows()


def test_any_executor(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store, ThreadPoolExecutor(3) as pool:
        summary = runner.run([task(f"s{k}", seed=k) for k in range(20)], store, executor=pool)
        assert summary.done == 20


DEVICE = {"backend": {"kind": "runtime"}}


@pytest.mark.parametrize("spec", [{}, DEVICE])
def test_nobody_starts_where_no_other_can_do_better(tmp_path: Path, spec: dict[str, Any]) -> None:
    tasks = [
        task(f"s{k}", seed=k, log=str(tmp_path), do="stop" if k == 1 else "row", **spec)
        for k in range(6)
    ]
    with Store(tmp_path, write=True) as store:
        summary = runner.run(tasks, store, executor=Inline(), workers=2)
        assert isinstance(summary.stopped, BudgetError)
        assert str(summary.stopped) == "the money is gone; got nothing left"
        if spec:  # what uses a device is handed out one by one
            assert (summary.done, summary.failed) == (1, ["net, plain, seed 1"])
            assert (tmp_path / "starts").read_text().split() == ["s0", "s1"]
            assert store.keys() == {"s0"}
        else:  # what had come back is kept
            assert store.keys() == {"s0", "s2", "s3"}
        assert store.failures()["s1"]["error"] == "BudgetError: the money is gone; got nothing left"
        again = [task(f"s{k}", seed=k) for k in range(6)]
        assert runner.run(again, store, executor=Inline()).stopped is None
        assert store.failures() == {}


@pytest.mark.slow
def test_a_pool_is_ended_where_no_other_can_do_better(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    tasks = [
        task(f"s{k}", seed=k, log=str(tmp_path), do="stop" if k == 2 else "row",
             sleep=30.0 if k == 3 else 0.0, **DEVICE)
        for k in range(6)
    ]  # fmt: skip
    with Store(tmp_path / "study", write=True) as store:
        begun = time.monotonic()
        summary = runner.run(tasks, store, workers=1)
        assert time.monotonic() - begun < 25
        assert isinstance(summary.stopped, BudgetError)
        assert store.keys() == {"s0", "s1"}
    assert (tmp_path / "starts").read_text().split() == ["s0", "s1", "s2"]
    assert_ended(before)


def test_what_is_trained_on_a_device_replays_its_jobs_and_leaves_no_checkpoints(
    tmp_path: Path,
) -> None:
    here = {"backend": {"kind": "exact"}, "fine_tune": DEVICE}
    tasks = [
        replace(task(key, asks=True, **spec), checkpoint_epochs=5)
        for key, spec in (("device", DEVICE), ("here", here))
    ]
    with Store(tmp_path, write=True) as store:
        runner.run(tasks, store, executor=Inline())
        rows = store.rows()
    assert (rows["device"]["checkpoint_epochs"], rows["here"]["checkpoint_epochs"]) == (None, 5)
    assert rows["device"]["journal"] == rows["here"]["journal"] == str(tmp_path / "jobs.db")


def test_finished_futures_are_dropped(tmp_path: Path) -> None:
    """An executor that recomputes what a live future names must not be provoked."""
    import weakref

    alive: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
    most = 0

    class Watched(Inline):
        def submit(self, fn, /, *args, **kwargs):
            nonlocal most
            most = max(most, len(alive))
            future = super().submit(fn, *args, **kwargs)
            alive.add(future)
            return future

    with Store(tmp_path, write=True) as store:
        runner.run([task(f"s{k}", seed=k) for k in range(12)], store, executor=Watched(), workers=2)
    assert most <= 5


def test_a_broken_foreign_executor(tmp_path: Path) -> None:
    class Broken(Inline):
        def submit(self, *_, **__):
            raise BrokenExecutor("no more workers")

    with (
        Store(tmp_path, write=True) as store,
        pytest.raises(
            ExecutionError, match=r"the executor broke; got no more workers. Rows so far"
        ),
    ):
        runner.run([task("a")], store, executor=Broken())


# The process pool.


@pytest.mark.slow
def test_workers_are_single_threaded_processes(tmp_path: Path) -> None:
    pool = runner.process_pool(1)
    with pool:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        assert [pool.submit(os.getenv, name).result() for name in names] == ["1"] * 3
        assert pool.submit(os.getpid).result() != os.getpid()
        handled = pool.submit(signal.getsignal, signal.SIGINT).result()
        assert handled == signal.SIG_IGN


@pytest.mark.slow
def test_a_pool_that_is_warm_already(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    pool = runner.warm_pool(1)
    tasks = [task(f"s{k}", seed=k) for k in range(4)]
    with Store(tmp_path, write=True) as store:
        assert runner.run(tasks, store, pool=pool).done == 4
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(os.getpid)
    threads = set(threading.enumerate())
    unused = runner.warm_pool(1)
    runner.discard(unused, before)
    assert set(threading.enumerate()) <= threads  # none is left to write to a closed pipe
    assert_ended(before)
    assert set(multiprocessing.active_children()) == before  # the pools of others go on


@pytest.mark.slow
def test_a_worker_killed_once_costs_nothing_but_time(tmp_path: Path) -> None:
    tasks = [task(f"s{k}", seed=k, log=str(tmp_path)) for k in range(8)]
    tasks[3] = task("s3", seed=3, do="die once", log=str(tmp_path))
    with Store(tmp_path / "study", write=True) as store:
        summary = runner.run(tasks, store, workers=2)
        assert (summary.done, summary.failed) == (8, [])
        assert store.keys() == {t.key for t in tasks}


@pytest.mark.slow
def test_a_task_that_kills_its_worker_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    tasks = [task(f"s{k}", seed=k, log=str(tmp_path)) for k in range(8)]
    tasks[2] = task("s2", seed=2, do="die", log=str(tmp_path))
    with Store(tmp_path / "study", write=True) as store:
        summary = runner.run(tasks, store, workers=2)
        assert (summary.done, len(summary.failed)) == (7, 1)
        assert store.failures().keys() == {"s2"}
        assert store.failures()["s2"]["error"] == "its worker process died 3 times"
    starts = Counter((tmp_path / "starts").read_text().split())
    assert starts["s2"] == 3


@pytest.mark.slow
def test_interrupt_keeps_what_is_committed_and_leaves_no_process(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())

    def interrupt(done: int, failed: int, total: int, label: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    tasks = [task(f"s{k}", seed=k, sleep=0.05) for k in range(40)]
    with Store(tmp_path, write=True) as store:
        with pytest.raises(KeyboardInterrupt):
            runner.run(tasks, store, workers=2, watch=interrupt)
        kept = len(store.keys())
        assert 3 <= kept <= 3 + 4  # and what had come back from two workers by then
        assert_ended(before)
        assert set(multiprocessing.active_children()) == before
        summary = runner.run(tasks, store, workers=2)
        assert (summary.found, summary.done) == (kept, 40 - kept)


@pytest.mark.slow
def test_killed_driver_resumes_bit_for_bit(tmp_path: Path) -> None:
    """SIGKILL at random moments: same rows as undisturbed, nothing committed is done again."""
    count, sleep = 50, 0.02

    def start(folder: Path) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        script = str(Path(drive.__file__))
        return subprocess.Popen([sys.executable, script, str(folder), str(count), str(sleep)])

    calm, wild = tmp_path / "calm", tmp_path / "wild"
    assert start(calm).wait() == 0
    moments = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID", "1"))
    kills = 0
    while True:
        process = start(wild)
        wanted = _rows(wild) + moments.randint(6, 20)
        while process.poll() is None and _rows(wild) < wanted:
            time.sleep(0.003)
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.kill()
        process.wait()
        kills += 1
        time.sleep(0.3)  # the workers notice
        committed = _rows(wild)
        time.sleep(0.3)
        assert _rows(wild) == committed
    assert kills >= 2
    with Store(calm / "study") as one, Store(wild / "study") as other:
        assert other.texts() == one.texts()
        assert len(one.keys()) == count
        done = Counter(key for key, status in other.attempts() if status == "done")
        assert set(done.values()) == {1}
        for key in done:  # no attempt after the one that was committed
            assert [s for k, s in other.attempts() if k == key][-1] == "done"
    starts = Counter((wild / "starts").read_text().split())
    assert sum(starts.values()) <= count + kills * 4 + kills  # in flight, at most


def _rows(folder: Path) -> int:
    if not (folder / "study" / "study.db").is_file():
        return 0
    try:
        with Store(folder / "study") as store:
            return len(store.keys())
    except StorageError:
        return 0


@pytest.mark.slow
def test_workers_die_with_their_driver(tmp_path: Path) -> None:
    code = (
        "import sys, time; from qiskit_kd.experiment.runner import process_pool\n"
        "import os\n"
        "if __name__ == '__main__':\n"
        "    pool = process_pool(1)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    pool.submit(time.sleep, 60)\n"
        "    time.sleep(60)\n"
    )
    script = tmp_path / "driver.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    os.kill(worker, 0)
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if (
            Path(f"/proc/{worker}/stat").exists()
            and " Z " in Path(f"/proc/{worker}/stat").read_text()
        ):
            return  # dead, nobody has collected it
        time.sleep(0.05)
    pytest.fail("the worker outlived its driver")
