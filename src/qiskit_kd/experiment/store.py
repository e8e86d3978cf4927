# SPDX-License-Identifier: Apache-2.0
"""`Store`: one SQLite file per study, written by the driver alone.

Rows are canonical JSON, so that two runs of one plan can be compared byte by byte; whatever differs
from run to run (times, hosts, attempts) has tables of its own. WAL keeps every committed row
through a crash and lets others read while a study runs. A row that is not as it was written, by its
checksum, does not count: it is done again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from qiskit_kd.errors import StorageError

ROWS = 3
"""Version of the rows; a part of every task's key."""
SCHEMA = 4
"""Version of the tables."""
_WITHOUT_SPECS = 3  # the version before: read, and written on as one of today

FILE = "study.db"
_MARK = "qiskit_kd study"

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    key TEXT PRIMARY KEY, role TEXT NOT NULL, body TEXT NOT NULL, sha256 TEXT NOT NULL
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS specs (
    key TEXT PRIMARY KEY, spec TEXT NOT NULL, hashed TEXT NOT NULL, sha256 TEXT NOT NULL
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS timings (
    key TEXT PRIMARY KEY, seconds REAL NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    finished REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, started REAL NOT NULL,
    status TEXT NOT NULL DEFAULT 'started');
CREATE TABLE IF NOT EXISTS failures (
    key TEXT PRIMARY KEY, label TEXT NOT NULL, error TEXT NOT NULL, traceback TEXT NOT NULL
    ) WITHOUT ROWID;
"""


_SUM = "sha256"  # of all other facts in `meta`


def _sum(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@lru_cache(maxsize=1)
def _columns() -> dict[str, set[str]]:
    """Columns of every table."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(_TABLES)
        names = [n for (n,) in database.execute("SELECT name FROM sqlite_master ORDER BY name")]
        return {
            name: {row[1] for row in database.execute(f"PRAGMA table_info({name})")}
            for name in names
            if not name.startswith("sqlite")
        }


def canonical(value: object) -> str:
    """The one JSON text of `value`: sorted keys, no blanks, numbers that are not finite as null."""
    return json.dumps(
        _finite(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open the file; one in a folder that may not be written to, as what cannot change.

    Even to read, WAL makes files beside the database, unless it is told that nobody writes. A log
    that was never merged still counts, so with one the file is opened in the ordinary way.
    """
    if write or os.access(path.parent, os.W_OK):
        return sqlite3.connect(path, timeout=30.0, isolation_level=None)
    log = path.with_name(f"{path.name}-wal")
    how = "mode=ro" if log.is_file() and log.stat().st_size else "mode=ro&immutable=1"
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?{how}", uri=True, timeout=30.0, isolation_level=None
    )


class Store:
    """The rows of one study.

    Args:
        folder: The study's folder; made if missing when `write` is set.
        write: Open for writing, and refuse if another driver does already.

    Raises:
        StorageError: If the file is damaged, of another kind or version, missing, or in use.
    """

    def __init__(self, folder: str | Path, *, write: bool = False) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE
        self._lock: sqlite3.Connection | None = None
        self._damaged: list[Any] = []
        self._has_specs = True
        if write:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    f"the folder {self.folder} cannot be made",
                    got=str(error.strerror),
                    remedy="Choose another folder with --out.",
                ) from None
            self._lock = self._take_lock()
        elif not self.begun(self.folder):
            empty = self.path.is_file()
            raise StorageError(
                f"{self.folder} holds no study",
                got=f"an empty {FILE} there" if empty else f"no file {FILE} there",
                remedy="Its run was cut off at the start: run it again with the same --out."
                if empty
                else "Give the folder that `qkd run` wrote to.",
            )
        try:
            with self._translated():
                self._db = _connect(self.path, write=write)
                self._open(write=write)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def begun(folder: str | Path) -> bool:
        """Whether a folder holds a study file with anything in it.

        A driver that was killed, or met a full disk, before its first transaction leaves an empty
        file or a database without tables. That is not a study yet, nor anybody else's work.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            return False
        try:
            database = _connect(path, write=False)
            try:
                return (
                    database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
                )
            finally:
                database.close()
        except sqlite3.Error:
            return True  # opening it says what is wrong

    def _open(self, *, write: bool) -> None:
        fresh = not self._db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        if write:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if fresh and write:
            with self._transaction():
                self._make_tables()
                self._put_meta("kind", _MARK)
                self._put_meta(_SUM, _sum())
            return
        try:
            found = dict(self._db.execute("SELECT name, value FROM meta").fetchall())
        except sqlite3.OperationalError:
            found = {}
        if found.get("kind") != _MARK:
            raise StorageError(
                f"{self.path} is not a study of this package",
                got="a foreign SQLite database",
                remedy="Move it away, or choose another folder with --out.",
            )
        old = found.get("schema") == str(_WITHOUT_SPECS)
        if old and write:
            with self._transaction():
                self._make_tables()
        elif not old and found.get("schema") != str(SCHEMA):
            raise StorageError(
                f"{self.path} was written by another version",
                got=f"schema {found.get('schema')}",
                expected=f"schema {SCHEMA}",
                remedy="Use the version that wrote it, or choose another folder with --out.",
            )
        self._has_specs = write or not old
        for table, columns in _columns().items():
            if table == "specs" and not self._has_specs:
                continue
            there = {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}
            if not there.issuperset(columns):
                lost = ", ".join(sorted(columns - there))
                raise sqlite3.DatabaseError(
                    f"no {lost} in the table {table!r}" if there else f"no table {table!r}"
                )
        damaged = self._find_damaged()
        if damaged:
            if write:
                with self._transaction():
                    self._db.executemany("DELETE FROM rows WHERE key = ?", [(k,) for k in damaged])
            else:
                self._damaged = damaged
            what = "done again" if write else "left out, and done again by the next run"
            warnings.warn(
                f"rows of {self.path} that are not as they were written are {what}: {len(damaged)}",
                stacklevel=2,
            )

    def _make_tables(self) -> None:
        for statement in _TABLES.split(";")[:-1]:
            self._db.execute(statement)
        self._put_meta("schema", str(SCHEMA))

    def _find_damaged(self) -> list[Any]:
        """Keys of rows that are not as they were written."""
        found = self._db.execute("SELECT key, role, body, sha256 FROM rows").fetchall()
        return [key for key, role, body, digest in found if _sum(key, role, body) != digest]

    def _take_lock(self) -> sqlite3.Connection:
        """An exclusive transaction on a file of its own: released by the system when we die."""
        holder = self.folder / "driver.pid"
        with self._translated():  # a folder that may not be written to
            lock = sqlite3.connect(self.folder / "driver.lock", timeout=0.0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            if "locked" not in str(error):
                self._refuse(error)
            who = holder.read_text().strip() if holder.is_file() else "another process"
            raise StorageError(
                f"the study in {self.folder} is being run already",
                got=f"a lock held by {who}",
                remedy="Wait for it, or choose another folder with --out.",
            ) from None
        except sqlite3.DatabaseError as error:
            lock.close()
            self._refuse(error)
        try:
            holder.write_text(f"process {os.getpid()}\n")
        except OSError as error:
            lock.close()
            raise StorageError(
                f"{self.folder} cannot be written",
                got=str(error.strerror),
                remedy="Free some space or check permissions, then run again.",
            ) from None
        return lock

    def _refuse(self, error: sqlite3.Error) -> NoReturn:
        text = " ".join(str(error).split())
        if "full" in text or "I/O" in text:
            raise StorageError(
                f"{self.path} cannot be written",
                got=text,
                remedy="All rows committed so far are safe. Free some space, then run again.",
            ) from None
        if "readonly" in text or "unable to open" in text:
            raise StorageError(
                f"{self.path} cannot be opened",
                got=text,
                remedy="Check the permissions of the file and of its folder.",
            ) from None
        if "locked" in text or "busy" in text:
            raise StorageError(
                f"{self.path} is in use", got=text, remedy="Close the program that holds it open."
            ) from None
        raise StorageError(
            f"{self.path} is damaged",
            got=text,
            expected="a SQLite database",
            remedy="The file was left as it is: keep a copy, try `sqlite3 study.db .recover`, or "
            "choose another folder with --out to start afresh.",
        ) from None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._refuse(error)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file and let another driver have it."""
        for connection in (getattr(self, "_db", None), self._lock):
            if connection is not None:
                connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _put_meta(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def describe(self, **facts: object) -> None:
        """Keep facts about the study as a whole, as JSON; the order of keys is kept."""
        with self._transaction():
            for name, value in facts.items():
                self._put_meta(name, json.dumps(value, ensure_ascii=False))
            self._put_meta(_SUM, _sum(*self._facts().items()))

    def description(self) -> dict[str, Any]:
        """The facts kept by `describe`.

        Raises:
            StorageError: If they are not as they were written.
        """
        with self._translated():
            found, meta = self._facts(), "SELECT value FROM meta WHERE name = ?"
            if self._db.execute(meta, (_SUM,)).fetchone() != (_sum(*found.items()),):
                raise sqlite3.DatabaseError("its configuration or plan is not as it was written")
        return {name: json.loads(text) for name, text in found.items()}

    def _facts(self) -> dict[Any, Any]:
        rows = self._db.execute("SELECT name, value FROM meta ORDER BY name").fetchall()
        return {name: value for name, value in rows if name not in ("kind", "schema", _SUM)}

    def keep_specs(self, specs: Iterable[tuple[str, Mapping[str, Any], str]]) -> None:
        """Keep what the rows of a plan are made from, beside the rows; the first one stays.

        Args:
            specs: Keys, specs, and the texts that the keys are the hashes of.
        """
        with self._transaction():
            known = {key for (key,) in self._db.execute("SELECT key FROM specs")}
            made = [(key, canonical(spec), text) for key, spec, text in specs if key not in known]
            self._db.executemany(
                "INSERT INTO specs VALUES (?, ?, ?, ?)", [(*parts, _sum(*parts)) for parts in made]
            )

    def specs(self) -> dict[str, dict[str, Any]]:
        """By key what rows are made from.

        Nothing of rows that an older version wrote, nor of what is not as it was written.
        """
        if not self._has_specs:
            return {}
        with self._translated():
            found = self._db.execute("SELECT key, spec, hashed, sha256 FROM specs").fetchall()
        return {
            key: json.loads(spec)
            for key, spec, *rest in found
            if _sum(key, spec, rest[0]) == rest[1]
        }

    def start(self, key: str) -> int:
        """Log that a task is handed out; returns the number of the attempt."""
        with self._transaction():
            done = self._db.execute(
                "INSERT INTO attempts (key, started) VALUES (?, ?)", (key, time.time())
            )
            assert done.lastrowid is not None
            return done.lastrowid

    def commit(
        self,
        key: str,
        role: str,
        row: Mapping[str, Any],
        *,
        seconds: float,
        host: str,
        pid: int,
        attempt: int | None = None,
    ) -> None:
        """Keep a finished row; the first one for a key stays."""
        with self._transaction():
            body = canonical(row)
            self._db.execute(
                "INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)",
                (key, role, body, _sum(key, role, body)),
            )
            self._db.execute(
                "INSERT OR IGNORE INTO timings VALUES (?, ?, ?, ?, ?)",
                (key, seconds, host, pid, time.time()),
            )
            self._db.execute("DELETE FROM failures WHERE key = ?", (key,))
            self._db.execute("UPDATE attempts SET status = 'done' WHERE id = ?", (attempt,))

    def fail(
        self, key: str, label: str, error: str, traceback: str, *, attempt: int | None = None
    ) -> None:
        """Keep why a task failed; it counts as missing and is tried again next time."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)",
                (key, label, error, traceback),
            )
            self._db.execute("UPDATE attempts SET status = 'failed' WHERE id = ?", (attempt,))

    def keys(self) -> set[str]:
        """Keys of the finished tasks."""
        return set(self.texts())

    def rows(self, role: str | None = None) -> dict[str, dict[str, Any]]:
        """Finished rows by key, in the order of their keys."""
        return {key: json.loads(body) for key, body in self.texts(role).items()}

    def texts(self, role: str | None = None) -> dict[str, str]:
        """Finished rows by key as the very text that is stored."""
        with self._translated():
            found = self._db.execute(
                "SELECT key, body FROM rows WHERE ?1 IS NULL OR role = ?1 ORDER BY key", (role,)
            ).fetchall()
        return {key: body for key, body in found if key not in self._damaged}

    def failures(self) -> dict[str, dict[str, str]]:
        """Tasks that failed: `label`, `error` and `traceback` by key."""
        with self._translated():
            found = self._db.execute("SELECT * FROM failures ORDER BY key").fetchall()
        return {
            str(key): {"label": str(label), "error": str(error), "traceback": str(trace)}
            for key, label, error, trace in found
        }

    def attempts(self) -> list[tuple[str, str]]:
        """Every attempt as (key, status) in order; `started` is one that never came back."""
        with self._translated():
            return self._db.execute("SELECT key, status FROM attempts ORDER BY id").fetchall()
