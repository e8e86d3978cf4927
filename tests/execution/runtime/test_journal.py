# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qiskit.primitives.containers.sampler_pub import SamplerPub

from qiskit_kd.errors import BudgetError, ConfigError, StorageError
from qiskit_kd.execution.engine import context_bytes, with_job_context
from qiskit_kd.execution.runtime.client import Job
from qiskit_kd.execution.runtime.cost import Cost
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.serialization import pack_values
from qiskit_kd.storage import held

from .memory import Clock, circuit

PUB = SamplerPub.coerce((circuit(), np.zeros((3, 1)), 10))
INTENT = Job("k1", "sampler", (PUB,), (), Cost(30, 1, 1, 2.5), backend="ibm", device="ibm_a")


def another(number: int, **changes: object) -> Job:
    return replace(INTENT, key=f"k{number}", **changes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Journal:
    return Journal(tmp_path / "new folder" / "jobs.db", clock=clock)


def test_the_life_of_a_job(journal: Journal, clock: Clock) -> None:
    assert journal.get("k1") is None
    journal.intend(INTENT, known=["old"], context=b"context")
    record = journal.get("k1")
    assert record is not None
    assert (record.state, record.tag, record.known, record.job_id) == (
        "intent",
        "k1",
        ("old",),
        None,
    )
    assert (record.executions, record.pubs, record.estimate) == (30, 1, 2.5)
    assert record.created == clock.now
    assert journal.inputs("k1") == (pack_values([PUB]), b"context")
    clock.now += 1
    journal.sent("k1", "job-1")
    record = journal.get("k1")
    assert record is not None
    assert (record.state, record.job_id, record.alone, record.sent) == (
        "sent",
        "job-1",
        False,
        clock.now,
    )
    journal.alone("k1")
    clock.now += 1
    journal.done("k1", "job-1", b"result", seconds=3.0, usd_per_second=2.0)
    record = journal.get("k1")
    assert record is not None
    assert (record.state, record.alone, record.finished) == ("done", True, clock.now)
    assert (record.seconds, record.usd) == (3.0, 6.0)
    assert journal.result("k1") == b"result"
    (attempt,) = journal.attempts()
    assert (attempt.job_id, attempt.status, attempt.seconds) == ("job-1", "done", 3.0)
    assert (attempt.sent, attempt.finished) == (clock.now - 1, clock.now)


@pytest.mark.slow
def test_it_is_on_the_disk_at_once(journal: Journal) -> None:
    journal.intend(INTENT)
    code = (
        "import sys\nfrom qiskit_kd.execution.runtime.journal import Journal\n"
        "print(Journal(sys.argv[1]).get('k1').tag)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(journal.path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert found.stdout.strip() == "k1"


def test_all_attempts_are_paid_for_once(journal: Journal) -> None:
    journal.intend(INTENT)
    journal.sent("k1", "job-1")
    for _ in range(2):  # said twice, charged once
        journal.ended("k1", "job-1", status="failed", reason="a glitch", seconds=0.5)
    record = journal.get("k1")
    assert record is not None
    assert (record.state, record.error, record.seconds) == ("failed", "a glitch", 0.5)
    journal.intend(INTENT, known=["job-1"])
    journal.sent("k1", "job-2")
    journal.ended("k1", "job-3", status="cancelled", reason="twin", seconds=0.25)
    assert journal.get("k1").state == "sent"  # the end of a twin is not that of the job
    journal.done("k1", "job-2", b"", seconds=3.0, usd_per_second=1.0)
    record = journal.get("k1")
    assert record is not None
    assert (record.seconds, record.usd, record.error) == (3.75, 3.75, "")
    assert {a.job_id: a.status for a in journal.attempts("k1")} == {
        "job-1": "failed",
        "job-2": "done",
        "job-3": "cancelled",
    }
    assert journal.attempts("k2") == []
    assert journal.spent("ibm_a") == 3.75


def test_the_budget_counts_what_is_under_way(journal: Journal) -> None:
    journal.intend(INTENT, budget=2.5)
    with pytest.raises(
        BudgetError,
        match=r"got 2\.5 s used or under way, and a job of 2\.5 s; expected at most 4\.9 s",
    ):
        journal.intend(another(2), budget=4.9)
    assert journal.get("k2") is None
    journal.intend(INTENT, budget=2.5)  # again, after a crash: it is its own money
    journal.sent("k1", "job-1")
    journal.done("k1", "job-1", b"", seconds=1.0)
    journal.intend(another(2), budget=3.5)
    journal.intend(another(3, device="ibm_b"), budget=2.5)
    assert (journal.spent("ibm_a"), journal.spent("ibm_b"), journal.spent("none")) == (3.5, 2.5, 0)


def test_a_budget_is_for_a_device_and_an_account_whatever_the_entry_is_called(
    journal: Journal,
) -> None:
    journal.intend(replace(INTENT, account="a"), budget=2.5)
    with pytest.raises(BudgetError, match="the jobs of 'renamed' stay within their budget"):
        journal.intend(another(2, account="a", backend="renamed"), budget=4.9)
    journal.intend(another(2, account="b"), budget=2.5)
    assert (journal.spent("ibm_a", "a"), journal.spent("ibm_a", "b")) == (2.5, 2.5)
    assert journal.spent("ibm_a") == 5.0  # an account that is not known


def test_jobs_of_a_journal_without_accounts_count_for_every_account(journal: Journal) -> None:
    journal.intend(INTENT)
    journal.close()
    database = sqlite3.connect(journal.path)
    database.execute("ALTER TABLE jobs DROP COLUMN account")
    database.close()
    again = Journal(journal.path)
    assert again.spent("ibm_a", "a") == again.spent("ibm_a", "b") == 2.5
    again.intend(another(2, account="a"))
    assert (again.spent("ibm_a", "a"), again.spent("ibm_a", "b")) == (5.0, 2.5)
    again.close()


def test_refusals_leave_no_trace_but_of_money(journal: Journal) -> None:
    journal.intend(INTENT)
    journal.refused("k1", "no")
    assert journal.jobs() == []
    journal.intend(INTENT)
    journal.sent("k1", "job-1")
    journal.refused("k1", "too late")
    assert journal.get("k1").state == "sent"


def test_a_journal_in_memory_counts_and_keeps_no_results(clock: Clock) -> None:
    journal = Journal(None, clock=clock)
    assert not journal.lasting
    for _ in range(2):
        with journal.alone_with("k1"):
            journal.intend(INTENT, budget=10.0)
            journal.sent("k1", "local-k1")
            journal.done("k1", "local-k1", b"result", seconds=3.0)
    assert journal.result("k1") is None
    assert journal.spent("ibm_a") == 6.0


def test_pace(journal: Journal, clock: Clock) -> None:
    for k in range(3):
        assert journal.admit("ibm_a", most=3) == 0, k
        clock.now += 10
    assert journal.admit("ibm_a", most=3) == 30
    assert journal.admit("ibm_b", most=3) == 0
    clock.now += 30
    assert journal.admit("ibm_a", most=3) == 0
    assert journal.admit("ibm_a", most=3) == 10
    clock.now -= 1e6  # somebody sets the clock back
    assert journal.admit("ibm_a", most=3) == 0


def test_the_first_pin_stays(journal: Journal) -> None:
    assert journal.pinned("circuit") is None
    assert journal.pin("circuit", b"one") == b"one"
    assert Journal(journal.path).pin("circuit", b"two") == b"one"
    assert journal.pinned("circuit") == b"one"


def test_it_can_be_pickled(journal: Journal) -> None:
    journal.intend(INTENT)
    copy = pickle.loads(pickle.dumps(journal))
    assert copy.get("k1") == journal.get("k1")


@pytest.mark.parametrize("content", [b"no database " * 100, b"SQLite format 3\0" + b"\1" * 5000])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "jobs.db"
    path.write_bytes(content)
    with pytest.raises(
        StorageError,
        match=r"the journal .*jobs\.db is damaged; got .*; expected a SQLite database\. Nothing "
        r"was sent, and the file was left as it is: restore it from a copy, try `sqlite3 FILE "
        r"\.recover`, or name another file as the journal",
    ):
        Journal(path)
    assert path.read_bytes() == content


def test_a_file_with_a_hole(journal: Journal) -> None:
    for k in range(40):
        journal.intend(another(k), context=os.urandom(3000))
    assert journal.path is not None
    journal.close()
    with journal.path.open("r+b") as file:
        file.seek(4096 * 5)
        file.write(b"\xff" * 4096 * 3)
    with pytest.raises(StorageError, match="is damaged"):
        Journal(journal.path)


def test_somebody_elses_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE poems (line TEXT)")
    other.close()
    with pytest.raises(
        StorageError,
        match=r"jobs\.db is not a journal of this package; got a foreign SQLite database\. Name "
        "another file as the journal; nothing was sent",
    ):
        Journal(path)


def test_another_version(journal: Journal) -> None:
    assert journal.path is not None
    with sqlite3.connect(journal.path) as other:
        other.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    other.close()
    with pytest.raises(
        StorageError,
        match=r"jobs\.db was written by another version; got schema 99; expected schema 1\. Use "
        "the version that wrote it, or another file; nothing was sent",
    ):
        Journal(journal.path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        StorageError,
        match=r"the journal .* cannot be written; got unable to open: .*\. Free space, check "
        r"permissions, or name another file\. Jobs that were sent are found again by their ids or "
        "tags",
    ):
        Journal(tmp_path / "file" / "jobs.db")


def test_what_to_do_by_hand(journal: Journal) -> None:
    for k in (1, 2):
        journal.intend(another(k))
    with pytest.raises(
        ConfigError, match="is named by its tag; got 'qkd-k3'; expected qkd-k1, qkd-k2"
    ):
        journal.adopt("qkd-k3", "job-1")
    journal.adopt("qkd-k1", "job-1")
    assert journal.get("k1").job_id == "job-1"
    journal.resend("k2")  # the tag with or without its beginning
    assert journal.get("k2") is None
    with pytest.raises(ConfigError, match="expected none: there is no such job"):
        journal.resend("qkd-k1")


def test_several_threads_write_at_once(journal: Journal) -> None:
    def work(first: int) -> None:
        own = Journal(journal.path)
        for k in range(first, first + 10):
            own.intend(another(k))
            journal.sent(f"k{k}", f"job-{k}")
        own.close()

    threads = [threading.Thread(target=work, args=(10 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(journal.jobs("state = 'sent'")) == 40


def test_a_budget_is_shared_without_loss_or_overdraft(journal: Journal) -> None:
    granted: list[int] = []

    def work(first: int) -> None:
        own = Journal(journal.path)
        for k in range(first, first + 10):
            try:
                own.intend(another(k, cost=Cost(1, 1, 1, 1.0)), budget=20.0)
            except BudgetError:
                continue
            granted.append(k)
        own.close()

    threads = [threading.Thread(target=work, args=(10 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(granted) == len(journal.jobs()) == 20
    assert journal.spent("ibm_a") == 20.0


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(20):
            with held(tmp_path / "locks", "job"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1]
    assert not list((tmp_path / "locks").iterdir())


def test_a_dead_owner_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal\nfrom pathlib import Path\n"
        "from qiskit_kd.storage import held\n"
        "with held(Path(sys.argv[1]), 'job'):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    dead = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=120)
    assert dead.returncode < 0
    assert (tmp_path / "job").exists()
    with held(tmp_path, "job"):
        pass


def test_locks_need_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(
            StorageError,
            match=r"a journal needs a folder for its locks; got .*\. Put the journal into a folder "
            "that may be written to",
        ),
        held(tmp_path / "file", "job"),
    ):
        pass


def test_the_context_is_that_of_the_block() -> None:
    assert context_bytes() == b""
    with with_job_context(lambda: b"outer"):
        with with_job_context(lambda: b"inner"):
            assert context_bytes() == b"inner"
        assert context_bytes() == b"outer"
    assert context_bytes() == b""


def test_the_file_is_closed_with_the_last_that_holds_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "jobs.db")
    database = journal.db
    del journal
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.execute("SELECT 1")
    assert [file.name for file in tmp_path.iterdir()] == ["jobs.db"]  # its log is merged


# Files that are not as they were written


def _sql(statement: str):
    def alter(path):
        with closing(sqlite3.connect(path)) as file, file:
            file.executescript(statement)

    return alter


def _bytes(change):
    def alter(path):
        for side in ("-wal", "-shm"):
            path.with_name(path.name + side).unlink(missing_ok=True)
        path.write_bytes(change(path.read_bytes()))

    return alter


ALTERED = {
    **{
        f"no {table}": _sql(f"DROP TABLE {table}")
        for table in ("jobs", "attempts", "submissions", "pins")
    },
    "no meta": _sql("DROP TABLE meta"),
    "no kind": _sql("DELETE FROM meta WHERE name = 'kind'"),
    "no schema": _sql("DELETE FROM meta WHERE name = 'schema'"),
    "a schema of the future": _sql("UPDATE meta SET value = '99' WHERE name = 'schema'"),
    "meta without values": _sql("DROP TABLE meta; CREATE TABLE meta (name TEXT)"),
    "a view": _sql("DROP TABLE jobs; CREATE VIEW jobs AS SELECT 1 AS key"),
    **{
        f"no {column}": _sql(f"ALTER TABLE jobs DROP COLUMN {column}")
        for column in ("state", "known", "seconds", "result", "error")
    },
    **{
        f"{column} = {value}": _sql(
            "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, ' NOT "
            "NULL', '');"
            f"PRAGMA writable_schema = RESET; UPDATE jobs SET {column} = {value}"
        )
        for column, value in (
            ("state", "'flying'"),
            ("state", "NULL"),
            ("state", "x'00'"),
            ("seconds", "'many'"),
            ("seconds", "-1e6"),
            ("seconds", "9e999"),
            ("seconds", "NULL"),
            ("known", "'['"),
            ("known", "'{}'"),
            ("known", "'[1]'"),
            ("known", "NULL"),
            ("known", "x'ff'"),
            ("shots", "'few'"),
            ("device", "NULL"),
            ("tag", "x'61'"),
            ("alone", "'maybe'"),
            ("created", "'yesterday'"),
            ("usd", "'free'"),
            ("pubs", "-3"),
            ("estimate", "x'00'"),
            ("error", "NULL"),
            ("executions", "1.5"),
            ("backend", "CAST(x'ff' AS TEXT)"),
        )
    },
    "an attempt's seconds": _sql("UPDATE attempts SET seconds = 'some'"),
    "an attempt's time": _sql("UPDATE attempts SET sent = x'00'"),
    "cut": _bytes(lambda content: content[: len(content) // 2]),
    "cut to its head": _bytes(lambda content: content[:100]),
    "garbage": _bytes(lambda _: b"not a database " * 400),
    "noise inside": _bytes(lambda content: content[:4096] + bytes(255 - b for b in content[4096:])),
}


@pytest.mark.parametrize("kind", ALTERED)
def test_a_file_that_was_altered(tmp_path, kind):
    """One clear error, and the file is left as it is."""
    path = tmp_path / "jobs.db"
    journal = Journal(path)
    journal.intend(INTENT)
    journal.sent("k1", "j1")
    journal.done("k1", "j1", b"result", seconds=1.0)
    journal.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    journal.close()
    ALTERED[kind](path)
    with pytest.raises(StorageError) as caught:
        Journal(path)
    assert "Traceback" not in str(caught.value)
    assert ". " in str(caught.value), "it has a remedy"


def test_a_pin_or_values_that_are_no_bytes(tmp_path):
    journal = Journal(tmp_path / "jobs.db")
    journal.intend(INTENT)
    journal.pin("p", b"body")
    journal.db.execute("UPDATE pins SET body = 'text'")
    journal.db.execute("UPDATE jobs SET inputs = 5")
    for look in (lambda: journal.pinned("p"), lambda: journal.inputs("k1")):
        with pytest.raises(StorageError, match="keeps in bytes is in bytes"):
            look()
    journal.db.execute("INSERT INTO submissions VALUES ('d', 'soon')")
    assert journal.admit("d", most=1) == 0
    journal.close()
