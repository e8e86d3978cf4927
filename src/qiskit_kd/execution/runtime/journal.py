# SPDX-License-Identifier: Apache-2.0
"""`Journal`: every job written down before it is sent, and until its result is on the disk.

One SQLite file that several processes may share. A job is known by the hash of its content; it is
intended (written down, perhaps sent), sent (its id is known), done (its result is here) or failed
(whatever was sent has ended without a result). Money is counted from the same rows.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from qiskit_kd.errors import BudgetError, ConfigError, StorageError
from qiskit_kd.execution.runtime.client import Calibration, Job
from qiskit_kd.execution.runtime.consent import BUDGET
from qiskit_kd.execution.runtime.serialization import (
    Attempt,
    JobRecord,
    pack_values,
    read_row,
    row_names,
)
from qiskit_kd.execution.schema import TAG_PREFIX
from qiskit_kd.storage import Database, held

JOURNAL = "qiskit_kd-jobs.db"
"""Journal of a device's jobs, in the working directory, where an entry names no other."""

_RAN_UNDER = "calibration:"
_ATTEMPT = "INSERT OR IGNORE INTO attempts VALUES (:id, :key, 'sent', '', 0, :now, NULL)"
_OF_JOB = ("key", "tag", "backend", "device", "account", "kind", "circuits", "shots", "precision")
_RESTORE = "Restore the journal from a copy, or start another one; nothing was sent."

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    key TEXT PRIMARY KEY, tag TEXT NOT NULL UNIQUE, state TEXT NOT NULL, backend TEXT NOT NULL,
    device TEXT NOT NULL, kind TEXT NOT NULL, circuits TEXT NOT NULL, shots INTEGER,
    precision REAL, executions INTEGER NOT NULL, pubs INTEGER NOT NULL, estimate REAL NOT NULL,
    known TEXT NOT NULL, job_id TEXT, alone INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL,
    sent REAL, finished REAL, seconds REAL NOT NULL DEFAULT 0, usd REAL,
    inputs BLOB NOT NULL, context BLOB NOT NULL, result BLOB, error TEXT NOT NULL DEFAULT '',
    account TEXT NOT NULL DEFAULT '', digest TEXT);
CREATE TABLE IF NOT EXISTS attempts (
    job_id TEXT NOT NULL, key TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
    seconds REAL NOT NULL, sent REAL NOT NULL, finished REAL, PRIMARY KEY (key, job_id));
CREATE TABLE IF NOT EXISTS submissions (device TEXT NOT NULL, time REAL NOT NULL);
CREATE TABLE IF NOT EXISTS pins (name TEXT PRIMARY KEY, body BLOB NOT NULL, created REAL NOT NULL)
    WITHOUT ROWID;
"""


class Journal(Database):
    """The jobs of a study.

    Args:
        path: The file; made if missing. None keeps what must be counted in memory, and no results:
            for jobs that cost nothing to repeat.
        clock: Seconds since 1970.
    """

    kind = "journal"
    schema = 1
    tables = _TABLES
    # Jobs of no account count for all of them.
    later: ClassVar = {"jobs": {"account": "TEXT NOT NULL DEFAULT ''", "digest": "TEXT"}}
    remedies: ClassVar = {
        "foreign": "Name another file as the journal; nothing was sent.",
        "version": "Use the version that wrote it, or another file; nothing was sent.",
        "cannot be written": "Free space, check permissions, or name another file. Jobs that were "
        "sent are found again by their ids or tags.",
        "is damaged": "Nothing was sent, and the file was left as it is: restore it from a copy, "
        "try `sqlite3 FILE .recover`, or name another file as the journal.",
    }

    def __init__(self, path: str | Path | None, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path)
        self._clock = clock
        self.lasting = path is not None
        """Whether it outlives the process, and keeps results."""
        try:
            self.jobs()  # what was altered is said now, not when it has misled somebody
            self.attempts()
        except BaseException:
            self.close()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.path,))

    # Jobs

    def alone_with(self, key: str) -> AbstractContextManager[None]:
        """Be the only one, of all processes and threads, that works at a job."""
        if self.path is None:
            return nullcontext()
        return held(self.path.with_name(f"{self.path.name}-locks"), key)

    def get(self, key: str) -> JobRecord | None:
        """What is known of a job."""
        rows = self.read(f"SELECT {row_names(JobRecord)} FROM jobs WHERE key = ?", (key,))
        return read_row(JobRecord, rows[0]) if rows else None

    def jobs(self, where: str = "1", *values: Any) -> list[JobRecord]:
        """Jobs in the order of their first intents, where SQL over `JobRecord` says so."""
        rows = self.read(
            f"SELECT {row_names(JobRecord)} FROM jobs WHERE {where} ORDER BY rowid", values
        )
        return [read_row(JobRecord, row) for row in rows]

    def attempts(self, key: str | None = None) -> list[Attempt]:
        """Jobs at the service, of one job or of all, in the order in which their ids were known."""
        query = (
            f"SELECT {row_names(Attempt)} FROM attempts WHERE ?1 IS NULL OR key = ?1 ORDER BY rowid"
        )
        return [read_row(Attempt, row) for row in self.read(query, (key,))]

    def inputs(self, key: str) -> tuple[bytes, bytes]:
        """Parameter values and context of a job, as its intent had them."""
        row = self.read("SELECT inputs, context FROM jobs WHERE key = ?", (key,))[0]
        return _bytes(row[0]), _bytes(row[1])

    def result(self, key: str) -> bytes | None:
        """The result of a job; None where there is none, or none was kept.

        Raises:
            StorageError: If it is not what was written for this job, as far as it has a checksum.
        """
        rows = self.read("SELECT result, digest FROM jobs WHERE key = ?", (key,))
        if not rows or rows[0][0] is None:
            return None
        content, digest = rows[0]
        if not isinstance(content, bytes) or digest not in (None, _digest(key, content)):
            raise StorageError(
                "a result of the journal is that of its job",
                got=f"another one under {key[:12]}…",
                remedy="Run the experiment again: the service is asked for it once more.",
            )
        return content

    def intend(
        self,
        job: Job,
        *,
        known: Sequence[str] = (),
        context: bytes = b"",
        budget: float | None = None,
    ) -> None:
        """Write down that a job is about to be sent; what it has cost before is kept.

        Args:
            job: The job.
            known: Ids of jobs with the same tag that were there before.
            context: State of the work that asks for it.
            budget: Seconds that all jobs of its device and account may cost together, by what is
                expected of this one; None for any number.

        Raises:
            BudgetError: If the job would cross the budget; nothing is written.
            StorageError: If it cannot be written; nothing may be sent then.
        """
        cost = job.cost
        row = {
            **dict(zip(_OF_JOB, attrgetter(*_OF_JOB)(job), strict=True)),
            "state": "intent",
            "executions": cost.executions,
            "pubs": cost.pubs,
            "estimate": cost.seconds,
            "known": json.dumps(known),
            "created": self._clock(),
            "inputs": pack_values(job.pubs) if self.lasting else b"",
            "context": context,
        }
        with self.transaction():
            if budget is not None:
                self._check_budget(job, budget)
            # A result that was not kept: its job is run anew, perhaps under the same id.
            self.db.execute(
                "DELETE FROM attempts WHERE key = (SELECT key FROM jobs "
                "WHERE key = ? AND state = 'done')",
                (job.key,),
            )
            self.db.execute(
                f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))}) "
                "ON CONFLICT (key) DO UPDATE SET state = 'intent', backend = excluded.backend, "
                "account = excluded.account, estimate = excluded.estimate, "
                "known = excluded.known, job_id = NULL, alone = 0, sent = NULL, "
                "context = excluded.context, error = '', result = NULL, digest = NULL",
                tuple(row.values()),
            )

    def _check_budget(self, job: Job, budget: float) -> None:
        spent, seconds = self._spent(job.device, job.account, job.key), job.cost.seconds
        # A job that takes longer than expected may cross the budget by as much.
        limit = job.max_seconds
        worst = "" if limit is None else f" ({limit} s at the very most: it is cut off then)"
        if spent + seconds > budget:
            raise BudgetError(
                f"the jobs of {job.backend!r} stay within their budget",
                got=f"{spent:.1f} s used or under way, and a job of {seconds:.1f} s{worst}",
                expected=f"at most {budget:g} s of the device",
                remedy=f"Set budget_seconds to {math.ceil(spent + seconds)} or more and run again: "
                "what is done is kept. Fewer shots, samples or steps, or tiles, cost less. "
                f"A --budget or {BUDGET} must allow it, too.",
            )

    def spent(self, device: str, account: str = "") -> float:
        """Seconds of a device that an account's jobs have cost, or will once they are done.

        Jobs of an account that is not known count for every account, whatever entry sent them.
        """
        with self.translated():
            return self._spent(device, account)

    def _spent(self, device: str, account: str, but: str = "") -> float:
        """All seconds used, and those expected of jobs under way, one of which may be left out."""
        row = self.db.execute(
            "SELECT TOTAL(seconds), TOTAL(CASE WHEN state IN ('intent', 'sent') AND key != ?1 "
            "THEN estimate END) FROM jobs "
            "WHERE device = ?2 AND (?3 = '' OR account IN (?3, ''))",
            (but, device, account),
        ).fetchone()
        return float(row[0] + row[1])

    def _write(self, *statements: str, **values: Any) -> None:
        """Statements over named values, all of them or none."""
        with self.transaction():
            for statement in statements:
                self.db.execute(statement, values)

    def sent(self, key: str, job_id: str) -> None:
        """Write down the id of a job, as soon as it is known."""
        self._write(
            "UPDATE jobs SET state = 'sent', job_id = :id, alone = 0, sent = :now WHERE key = :key",
            _ATTEMPT,
            key=key,
            id=job_id,
            now=self._clock(),
        )

    def unsent(self, key: str, job_id: str) -> None:
        """Take back an id that was said to be that of a job, and is that of another one."""
        self._write(
            "UPDATE jobs SET state = 'intent', job_id = NULL, sent = NULL "
            "WHERE key = :key AND job_id = :id",
            "DELETE FROM attempts WHERE key = :key AND job_id = :id",
            key=key,
            id=job_id,
        )

    def alone(self, key: str) -> None:
        """Write down that no twin of a job is left to run."""
        self._write("UPDATE jobs SET alone = 1 WHERE key = :key", key=key)

    def ended(
        self, key: str, job_id: str, *, status: str, reason: str = "", seconds: float = 0.0
    ) -> None:
        """Write down how a job at the service ended without a result of use, and what it has cost.

        An id that is not known yet is added (a twin, which may be `"done"`).
        """
        now = self._clock()
        with self.transaction():
            self.db.execute(_ATTEMPT, {"key": key, "id": job_id, "now": now})
            self._settle(key, job_id, status, reason, seconds, now)
            self.db.execute(
                "UPDATE jobs SET state = 'failed', error = ?, finished = ? "
                "WHERE key = ? AND job_id = ?",
                (reason, now, key, job_id),
            )

    def refused(self, key: str, error: str) -> None:
        """Strike out a job that was certainly not accepted; kept where earlier attempts cost."""
        self._write(
            "DELETE FROM jobs WHERE key = :key AND state = 'intent' "
            "AND NOT EXISTS (SELECT 1 FROM attempts WHERE key = :key)",
            "UPDATE jobs SET state = 'failed', error = :error WHERE key = :key "
            "AND state = 'intent'",
            key=key,
            error=error,
        )

    def done(
        self,
        key: str,
        job_id: str,
        result: bytes | None,
        *,
        seconds: float,
        usd_per_second: float | None = None,
    ) -> tuple[float, float | None]:
        """Keep a result, as `pack_results` writes it; returns seconds and price of all attempts."""
        now = self._clock()
        kept = result if self.lasting else None
        digest = None if kept is None else _digest(key, kept)
        with self.transaction():
            self._settle(key, job_id, "done", "", seconds, now)
            self.db.execute(
                "UPDATE jobs SET state = 'done', result = ?, digest = ?, usd = seconds * ?, "
                "finished = ? WHERE key = ?",
                (kept, digest, usd_per_second, now, key),
            )
            paid = self.db.execute("SELECT seconds, usd FROM jobs WHERE key = ?", (key,)).fetchone()
        return float(paid[0]), paid[1]

    def _settle(
        self, key: str, job_id: str, status: str, reason: str, seconds: float, now: float
    ) -> None:
        """An attempt's end; its seconds are added to those of its job, once."""
        self.db.execute(
            "UPDATE jobs SET seconds = seconds + ?1 - (SELECT seconds FROM attempts "
            "WHERE key = ?2 AND job_id = ?3) WHERE key = ?2",
            (seconds, key, job_id),
        )
        self.db.execute(
            "UPDATE attempts SET status = ?, reason = ?, seconds = ?, finished = ? "
            "WHERE key = ? AND job_id = ?",
            (status, reason, seconds, now, key, job_id),
        )

    # What to do when nobody can say whether a job was sent

    def adopt(self, tag: str, job_id: str) -> None:
        """Take a job of the service as the one that was intended under a tag."""
        self.sent(self._open_intent(tag), job_id)

    def resend(self, tag: str) -> None:
        """Take a job that was intended under a tag as never sent.

        The next run sends it, unless the service has a job of that tag by then.
        """
        self.refused(self._open_intent(tag), "taken as never sent")

    def forget(self, key: str, job_id: str) -> None:
        """Give up a job, so that the next run sends it again.

        One of which nobody knows what it has cost counts as what was expected of it.
        """
        record = self.get(key)
        assert record is not None
        seconds = record.estimate
        if record.state == "done":
            seconds = sum(a.seconds for a in self.attempts(key) if a.job_id == job_id)
        self.ended(key, job_id, status="failed", reason="given up", seconds=seconds)

    def _open_intent(self, tag: str) -> str:
        found = self.jobs("tag = ? AND state = 'intent'", tag.removeprefix(TAG_PREFIX))
        if not found:
            waiting = [TAG_PREFIX + job.tag for job in self.jobs("state = 'intent'")]
            raise ConfigError(
                "a job whose id is unknown is named by its tag",
                got=repr(tag),
                expected=", ".join(waiting) or "none: there is no such job",
            )
        return found[0].key

    # Pace and pins

    def admit(self, device: str, *, most: int, window: float = 60.0) -> float:
        """Seconds to wait before one more job may be sent; 0 counts it among `most` in a window."""
        now = self._clock()
        with self.transaction():
            # Times in the future are those of a clock that was set back since.
            self.db.execute(
                "DELETE FROM submissions WHERE device = ? AND (time <= ? OR time > ? "
                "OR typeof(time) NOT IN ('real', 'integer'))",
                (device, now - window, now),
            )
            latest = self.db.execute(
                "SELECT time FROM submissions WHERE device = ? ORDER BY time DESC LIMIT ?",
                (device, most),
            ).fetchall()
            if len(latest) >= most:
                return float(latest[-1][0] + window - now)
            self.db.execute("INSERT INTO submissions VALUES (?, ?)", (device, now))
            return 0.0

    def pinned(self, name: str) -> bytes | None:
        """What was pinned under a name."""
        rows = self.read("SELECT body FROM pins WHERE name = ?", (name,))
        return _bytes(rows[0][0]) if rows else None

    def pin(self, name: str, body: bytes) -> bytes:
        """Settle something for all later runs; the first who does so decides. What is settled now.

        A transpiled circuit depends on the calibration of the day. A run that goes on the day after
        must ask for the same circuit, or it would not find its jobs again.
        """
        pin = "INSERT OR IGNORE INTO pins VALUES (:name, :body, :now)"
        self._write(pin, name=name, body=body, now=self._clock())
        found = self.pinned(name)
        assert found is not None
        return found

    def calibrated(self, job_id: str, found: Calibration) -> None:
        """Keep with a job at the service the calibration that was in force when it ran."""
        body = {"calibrated": found.date, "readout": found.readout.tolist()}
        self.pin(f"{_RAN_UNDER}{job_id}", json.dumps(body).encode())

    def calibration(self, job_id: str) -> Calibration | None:
        """See `calibrated`; None of a job whose calibration was not kept."""
        body = self.pinned(f"{_RAN_UNDER}{job_id}")
        if body is None:
            return None
        try:
            facts = json.loads(body)
            rates = np.array(facts["readout"], float).reshape(-1, 2)
            datetime.fromisoformat(facts["calibrated"])
            if not np.all((rates >= 0) & (rates <= 1)):
                raise ValueError("no rates")
        except (ValueError, TypeError, KeyError):
            raise StorageError(
                "the calibration of a job is as it was written down",
                got=f"{body!r:.80}",
                remedy=_RESTORE,
            ) from None
        return Calibration(facts["calibrated"], rates)


def _digest(key: str, content: bytes) -> str:
    """What binds a result to its job: one that was changed, or another job's, has another."""
    return hashlib.sha256(key.encode() + content).hexdigest()


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise StorageError(
            "what a journal keeps in bytes is in bytes", got=f"{value!r:.80}", remedy=_RESTORE
        )
    return value
