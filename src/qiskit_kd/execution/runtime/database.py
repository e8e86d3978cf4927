# SPDX-License-Identifier: Apache-2.0
"""The SQLite file behind a journal: opened with care, written in transactions."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from qiskit_kd.errors import StorageError

__all__ = ["Database"]

_MARK = "qiskit_kd journal"
_SCHEMA = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
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
_LATER = {"account": "TEXT NOT NULL DEFAULT ''", "digest": "TEXT"}
"""Columns of jobs that earlier versions did not have: jobs of no account count for all of them."""


def _columns(db: sqlite3.Connection) -> dict[str, set[str]]:
    rows = db.execute(
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c "
        "WHERE m.type = 'table'"
    ).fetchall()
    return {table: {name for one, name in rows if one == table} for table, _ in rows}


class Database:
    """The file of a journal, which several threads and processes may use.

    Args:
        path: The file; made if missing. None keeps everything in memory.

    Raises:
        StorageError: If the file is damaged, of another kind or version, or cannot be written.
    """

    def __init__(
        self, path: str | Path | None
    ) -> None:  # fmt: skip
        self.path = None if path is None else Path(path)
        self._guard = threading.RLock()
        with self.translated():
            if self.path is not None:
                try:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise sqlite3.OperationalError(
                        f"unable to open: {error.strerror}"
                    ) from None  # fmt: skip
            self.db = sqlite3.connect(
                self.path or ":memory:", timeout=60.0, isolation_level=None,
                check_same_thread=False,
            )  # fmt: skip
            # A journal lives as long as what sends through it, which a cache may keep to the very
            # end of the process: whoever is last to go, the file is closed and its log merged.
            self.close = weakref.finalize(self, self.db.close)
            try:
                self._open()
            except BaseException:
                self.close()
                raise

    def _open(self) -> None:
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")  # an id that is lost is paid for twice
        verdict = self.db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        with self.transaction():
            tables = {name for (name,) in self.db.execute("SELECT name FROM sqlite_master")}
            if not tables:
                for statement in _TABLES.split(";")[:-1]:
                    self.db.execute(statement)
                facts = [("kind", _MARK), ("schema", str(_SCHEMA))]
                self.db.executemany("INSERT INTO meta VALUES (?, ?)", facts)
                return
            names = "SELECT name, value FROM meta"
            found = dict(self.db.execute(names).fetchall()) if "meta" in tables else {}
        if found.get("kind") != _MARK:
            raise StorageError(
                f"{self.path} is not a journal of this package", got="a foreign SQLite database",
                remedy="Name another file as the journal; nothing was sent.",
            )  # fmt: skip
        if found.get("schema") != str(_SCHEMA):
            raise StorageError(
                f"{self.path} was written by another version",
                got=f"schema {found.get('schema')}", expected=f"schema {_SCHEMA}",
                remedy="Use the version that wrote it, or another file; nothing was sent.",
            )  # fmt: skip
        self._check_columns()

    def _check_columns(self) -> None:
        """Refuse a file that lacks a part; add what earlier versions did not have."""
        with closing(sqlite3.connect(":memory:")) as new:
            new.executescript(_TABLES)
            wanted = _columns(new)
        with self.transaction():
            found = _columns(self.db)
            for table, columns in wanted.items():
                missing = columns - found.get(table, set())
                if missing - {*_LATER} or (missing and table != "jobs"):
                    raise sqlite3.DatabaseError(f"{table} without {', '.join(sorted(missing))}")
                for name in missing:
                    self.db.execute(f"ALTER TABLE jobs ADD COLUMN {name} {_LATER[name]}")

    def read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        """Rows of a query."""
        with self._guard, self.translated():
            return self.db.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is written inside, or nothing; nobody else writes meanwhile."""
        with self._guard, self.translated():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of SQLite as errors of this package."""
        try:
            yield
        except sqlite3.Error as error:
            self._refuse(error)

    def _refuse(self, error: sqlite3.Error) -> NoReturn:
        text = " ".join(str(error).split())
        if any(word in text for word in ("unable to open", "readonly", "full", "I/O", "locked")):
            raise StorageError(
                f"the journal {self.path} cannot be written", got=text,
                remedy="Free space, check permissions, or name another file. Jobs that were sent "
                "are found again by their ids or tags.",
            ) from None  # fmt: skip
        raise StorageError(
            f"the journal {self.path} is damaged", got=text, expected="a SQLite database",
            remedy="Nothing was sent, and the file was left as it is: restore it from a copy, try "
            "`sqlite3 FILE .recover`, or name another file as the journal.",
        ) from None  # fmt: skip
