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
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_kd.errors import BudgetError, ConfigError, StorageError
from qiskit_kd.execution.runtime.client import Calibration
from qiskit_kd.execution.runtime.consent import BUDGET
from qiskit_kd.execution.runtime.database import Database
from qiskit_kd.execution.runtime.locks import held
from qiskit_kd.execution.runtime.records import Attempt, Intent, Record, read
from qiskit_kd.execution.schema import TAG_PREFIX

__all__ = ["Journal"]

_RECORD = ("key, tag, state, backend, device, kind, circuits, shots, executions, pubs, estimate, "
           "known, job_id, alone, created, sent, finished, seconds, usd, error")  # fmt: skip
_RAN_UNDER = "calibration:"
_ATTEMPT = "job_id, key, status, reason, seconds, sent, finished"


def _digest(key: str, content: bytes) -> str:
    """What binds a result to its job: one that was changed, or another job's, has another."""
    return hashlib.sha256(key.encode() + content).hexdigest()


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise StorageError(
            "what a journal keeps in bytes is in bytes", got=f"{value!r:.80}",
            remedy="Restore the journal from a copy, or start another one; nothing was sent.",
        )  # fmt: skip
    return value


class Journal:
    """The jobs of a study.

    Args:
        path: The file; made if missing. None keeps what must be counted in memory, and no results:
            for jobs that cost nothing to repeat.
        clock: Seconds since 1970.

    Raises:
        StorageError: If the file is damaged, of another kind or version, or cannot be written.
    """

    def __init__(
        self, path: str | Path | None, *, clock: Callable[[], float] = time.time
    ) -> None:  # fmt: skip
        self.path = None if path is None else Path(path)
        self._clock = clock
        self._file = Database(self.path)
        self._db = self._file.db
        self._transaction, self._read = self._file.transaction, self._file.read
        try:
            self.jobs()  # what was altered is said now, not when it has misled somebody
            self.attempts()
        except BaseException:
            self.close()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.path,))

    @property
    def lasting(self) -> bool:
        """Whether it outlives the process, and keeps results."""
        return self.path is not None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # Jobs

    def alone_with(self, key: str) -> AbstractContextManager[None]:
        """Be the only one, of all processes and threads, that works at a job."""
        if self.path is None:
            return nullcontext()
        return held(self.path.with_name(f"{self.path.name}-locks"), key)

    def get(self, key: str) -> Record | None:
        """What is known of a job."""
        found = self.jobs("key = ?", key)
        return found[0] if found else None

    def jobs(self, where: str = "1", *values: Any) -> list[Record]:
        """Jobs in the order in which they were first intended.

        Args:
            where: A condition in SQL over the fields of `Record`.
            *values: Values for its question marks.
        """
        rows = self._read(f"SELECT {_RECORD} FROM jobs WHERE {where} ORDER BY rowid", values)
        names = _RECORD.replace(",", "").split()
        return [read(Record, dict(zip(names, row, strict=True))) for row in rows]

    def attempts(self, key: str | None = None) -> list[Attempt]:
        """Jobs at the service, of one job or of all, in the order in which their ids were known."""
        rows = self._read(
            f"SELECT {_ATTEMPT} FROM attempts WHERE ?1 IS NULL OR key = ?1 ORDER BY rowid", (key,)
        )
        names = _ATTEMPT.replace(",", "").split()
        return [read(Attempt, dict(zip(names, row, strict=True))) for row in rows]

    def inputs(self, key: str) -> tuple[bytes, bytes]:
        """Parameter values and context of a job, as its intent had them."""
        row = self._read("SELECT inputs, context FROM jobs WHERE key = ?", (key,))[0]
        return _bytes(row[0]), _bytes(row[1])

    def result(self, key: str) -> bytes | None:
        """The result of a job; None where there is none, or none was kept.

        Raises:
            StorageError: If it is not what was written for this job. One that an earlier version
                wrote has no checksum and is taken as it is.
        """
        rows = self._read("SELECT result, digest FROM jobs WHERE key = ?", (key,))
        if not rows or rows[0][0] is None:
            return None
        content, digest = rows[0]
        if not isinstance(content, bytes) or digest not in (None, _digest(key, content)):
            raise StorageError(
                "a result of the journal is that of its job", got=f"another one under {key[:12]}…",
                remedy="Run the experiment again: the service is asked for it once more.",
            )  # fmt: skip
        return content

    def intend(self, intent: Intent, *, budget: float | None) -> None:
        """Write down that a job is about to be sent.

        A job that has failed before keeps what it has cost.

        Args:
            intent: The job.
            budget: Seconds that all jobs of its device and account may cost together, by what is
                expected of this one; None for any number.

        Raises:
            BudgetError: If the job would cross the budget; nothing is written.
            StorageError: If it cannot be written; nothing may be sent then.
        """
        cost = intent.cost
        with self._transaction():
            if budget is not None:
                self._afford(intent, budget)
            # A result that was not kept: its job is run anew, perhaps under the same id.
            self._db.execute("DELETE FROM attempts WHERE key = (SELECT key FROM jobs "
                             "WHERE key = ? AND state = 'done')", (intent.key,))  # fmt: skip
            self._db.execute(
                "INSERT INTO jobs (key, tag, state, backend, device, account, kind, circuits, "
                "shots, precision, executions, pubs, estimate, known, created, usd, inputs, "
                "context) "
                "VALUES (?, ?, 'intent', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET state = 'intent', backend = excluded.backend, "
                "account = excluded.account, "
                "estimate = excluded.estimate, known = excluded.known, job_id = NULL, alone = 0, "
                "sent = NULL, context = excluded.context, error = '', result = NULL, "
                "digest = NULL",
                (intent.key, intent.tag, intent.backend, intent.device, intent.account,
                 intent.kind, intent.circuits, intent.shots, intent.precision, cost.executions,
                 cost.pubs, cost.seconds, json.dumps(intent.known), self._clock(), None,
                 intent.values, intent.context),
            )  # fmt: skip

    def _afford(self, intent: Intent, budget: float) -> None:
        spent = self._spent(intent.device, intent.account, intent.key)
        seconds = intent.cost.seconds
        # A job that takes longer than expected may cross the budget by as much.
        limit = intent.max_seconds
        worst = "" if limit is None else f" ({limit} s at the very most: it is cut off then)"
        if spent + seconds > budget:
            raise BudgetError(
                f"the jobs of {intent.backend!r} stay within their budget",
                got=f"{spent:.1f} s used or under way, and a job of {seconds:.1f} s{worst}",
                expected=f"at most {budget:g} s of the device",
                remedy=f"Set budget_seconds to {math.ceil(spent + seconds)} or more and run again: "
                "what is done is kept. Fewer shots, samples or steps, or tiles, cost less. "
                f"A --budget or {BUDGET} must allow it, too.",
            )  # fmt: skip

    def spent(self, device: str, account: str = "") -> float:
        """Seconds of a device that an account's jobs have cost, or will once they are done.

        Jobs of an account that is not known count for every account, whatever entry sent them.
        """
        with self._file.translated():
            return self._spent(device, account)

    def _spent(self, device: str, account: str, but: str = "") -> float:
        """All seconds used, and those expected of jobs under way, one of which may be left out."""
        row = self._db.execute(
            "SELECT TOTAL(seconds), TOTAL(CASE WHEN state IN ('intent', 'sent') AND key != ?1 "
            "THEN estimate END) FROM jobs "
            "WHERE device = ?2 AND (?3 = '' OR account IN (?3, ''))", (but, device, account),
        ).fetchone()  # fmt: skip
        return float(row[0] + row[1])

    def sent(self, key: str, job_id: str) -> None:
        """Write down the id of a job, as soon as it is known."""
        now = self._clock()
        with self._transaction():
            self._db.execute("UPDATE jobs SET state = 'sent', job_id = ?, alone = 0, sent = ? "
                             "WHERE key = ?", (job_id, now, key))  # fmt: skip
            self._db.execute("INSERT OR IGNORE INTO attempts VALUES (?, ?, 'sent', '', 0, ?, NULL)",
                             (job_id, key, now))  # fmt: skip

    def unsent(self, key: str, job_id: str) -> None:
        """Take back an id that was said to be that of a job, and is that of another one."""
        with self._transaction():
            self._db.execute("UPDATE jobs SET state = 'intent', job_id = NULL, sent = NULL "
                             "WHERE key = ? AND job_id = ?", (key, job_id))  # fmt: skip
            self._db.execute("DELETE FROM attempts WHERE key = ? AND job_id = ?", (key, job_id))

    def alone(self, key: str) -> None:
        """Write down that no twin of a job is left to run."""
        with self._transaction():
            self._db.execute("UPDATE jobs SET alone = 1 WHERE key = ?", (key,))

    def ended(
        self, key: str, job_id: str, *, status: str, reason: str = "", seconds: float = 0.0
    ) -> None:
        """Write down how a job at the service ended without a result of use, and what it has cost.

        Args:
            key: The job it was sent for.
            job_id: Its id; one that is not known yet is added (a twin).
            status: `"failed"` or `"cancelled"`; `"done"` of a twin.
            reason: Why.
            seconds: Seconds of the device.
        """
        now = self._clock()
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO attempts VALUES (?, ?, 'sent', '', 0, ?, NULL)",
                             (job_id, key, now))  # fmt: skip
            self._settle(key, job_id, status, reason, seconds, now)
            self._db.execute(
                "UPDATE jobs SET state = 'failed', error = ?, finished = ? "
                "WHERE key = ? AND job_id = ?", (reason, now, key, job_id),
            )  # fmt: skip

    def refused(self, key: str, error: str) -> None:
        """Strike out a job that was certainly not accepted.

        Args:
            key: The job.
            error: Why; kept where earlier attempts at the job have cost something.
        """
        with self._transaction():
            self._db.execute(
                "DELETE FROM jobs WHERE key = ?1 AND state = 'intent' "
                "AND NOT EXISTS (SELECT 1 FROM attempts WHERE key = ?1)", (key,),
            )  # fmt: skip
            self._db.execute(
                "UPDATE jobs SET state = 'failed', error = ? WHERE key = ? AND state = 'intent'",
                (error, key),
            )

    def done(
        self, key: str, job_id: str, result: bytes, *, seconds: float,
        usd_per_second: float | None = None,
    ) -> None:  # fmt: skip
        """Keep the result of a job and what it has cost.

        Args:
            key: The job.
            job_id: Its id at the service.
            result: As `pack_results` writes it.
            seconds: Seconds of the device.
            usd_per_second: Price of a second, for the price of all attempts at the job.
        """
        now = self._clock()
        with self._transaction():
            self._settle(key, job_id, "done", "", seconds, now)
            self._db.execute(
                "UPDATE jobs SET state = 'done', result = ?, digest = ?, usd = seconds * ?, "
                "finished = ? WHERE key = ?",
                (result if self.lasting else None, _digest(key, result), usd_per_second, now, key),
            )  # fmt: skip

    def _settle(
        self, key: str, job_id: str, status: str, reason: str, seconds: float, now: float
    ) -> None:
        """An attempt's end; its seconds are added to those of its job, once."""
        self._db.execute(
            "UPDATE jobs SET seconds = seconds + ?1 - (SELECT seconds FROM attempts "
            "WHERE key = ?2 AND job_id = ?3) WHERE key = ?2", (seconds, key, job_id),
        )  # fmt: skip
        self._db.execute(
            "UPDATE attempts SET status = ?, reason = ?, seconds = ?, finished = ? "
            "WHERE key = ? AND job_id = ?", (status, reason, seconds, now, key, job_id),
        )  # fmt: skip

    # What to do when nobody can say whether a job was sent

    def adopt(self, tag: str, job_id: str) -> None:
        """Take a job of the service as the one that was intended under a tag.

        Raises:
            ConfigError: If no job without an id has this tag.
        """
        self.sent(self._open_intent(tag), job_id)

    def resend(self, tag: str) -> None:
        """Take a job that was intended under a tag as never sent.

        The next run sends it, unless the service has a job of that tag by then.

        Raises:
            ConfigError: If no job without an id has this tag.
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
                "a job whose id is unknown is named by its tag", got=repr(tag),
                expected=", ".join(waiting) or "none: there is no such job",
            )  # fmt: skip
        return found[0].key

    # Pace and pins

    def admit(self, device: str, *, most: int, window: float = 60.0) -> float:
        """Ask to send one more job to a device.

        Args:
            device: Its name.
            most: Jobs that all processes together may send in a window.
            window: Its length in seconds.

        Returns:
            0 if it may be sent now, which is then counted; else seconds to wait before asking
            again.
        """
        now = self._clock()
        with self._transaction():
            # Times in the future are those of a clock that was set back since.
            self._db.execute("DELETE FROM submissions WHERE device = ? AND (time <= ? OR time > ? "
                             "OR typeof(time) NOT IN ('real', 'integer'))",
                             (device, now - window, now))  # fmt: skip
            latest = self._db.execute(
                "SELECT time FROM submissions WHERE device = ? ORDER BY time DESC LIMIT ?",
                (device, most),
            ).fetchall()  # fmt: skip
            if len(latest) >= most:
                return float(latest[-1][0] + window - now)
            self._db.execute("INSERT INTO submissions VALUES (?, ?)", (device, now))
            return 0.0

    def pinned(self, name: str) -> bytes | None:
        """What was pinned under a name."""
        rows = self._read("SELECT body FROM pins WHERE name = ?", (name,))
        return _bytes(rows[0][0]) if rows else None

    def pin(self, name: str, body: bytes) -> bytes:
        """Settle something for all later runs; the first who does so decides.

        A transpiled circuit depends on the calibration of the day. A run that goes on the day after
        must ask for the same circuit, or it would not find its jobs again.

        Returns:
            What is settled now.
        """
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO pins VALUES (?, ?, ?)",
                             (name, body, self._clock()))  # fmt: skip
        found = self.pinned(name)
        assert found is not None
        return found

    def calibrated(self, job_id: str, found: Calibration | None) -> None:
        """Keep with a job at the service the calibration that was in force when it ran."""
        if found is not None:
            body = {"calibrated": found.date, "readout": found.readout.tolist()}
            self.pin(f"{_RAN_UNDER}{job_id}", json.dumps(body).encode())

    def calibration(self, job_id: str) -> Calibration | None:
        """See `calibrated`; None of a job whose calibration was not kept.

        Raises:
            StorageError: If it is damaged.
        """
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
                "the calibration of a job is as it was written down", got=f"{body!r:.80}",
                remedy="Restore the journal from a copy, or start another one; nothing was sent.",
            ) from None  # fmt: skip
        return Calibration(facts["calibrated"], rates)
