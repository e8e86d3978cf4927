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
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from qiskit_kd.errors import StorageError
from qiskit_kd.storage import Database, connect

ROWS = 3
"""Version of the rows; a part of every task's key."""
FILE = "study.db"

_SUM = "sha256"  # of all other facts in `meta`


def canonical(value: object) -> str:
    """The one JSON text of `value`: sorted keys, no blanks, numbers that are not finite as null."""
    return json.dumps(
        _finite(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


_PLAIN = (str, int, bool, type(None))


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): v if type(v) in _PLAIN else _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [v if type(v) in _PLAIN else _finite(v) for v in value]
    return value


def _sum(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Store(Database):
    """The rows of one study.

    Args:
        folder: The study's folder; made if missing when `write` is set.
        write: Open for writing, and refuse if another driver does already.

    Raises:
        StorageError: If the file is damaged, of another kind or version, missing, or in use.
    """

    kind = "study"
    named = "{path}"
    schema = 4
    older = (3,)  # without `specs`
    synchronous = "NORMAL"
    tables = """
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
    remedies: ClassVar = {
        "foreign": "Move it away, or choose another folder with --out.",
        "version": "Use the version that wrote it, or choose another folder with --out.",
        "cannot be written": "All rows committed so far are safe. Free some space, then run again.",
        "cannot be opened": "Check the permissions of the file and of its folder.",
        "is in use": "Close the program that holds it open.",
        "is damaged": "The file was left as it is: keep a copy, try `sqlite3 study.db .recover`, "
        "or choose another folder with --out to start afresh.",
    }

    def __init__(self, folder: str | Path, *, write: bool = False) -> None:
        self.folder, self.path = Path(folder), Path(folder) / FILE
        self._lock = self._take_lock() if write else None
        if not write and not self.begun(folder):
            empty = self.path.is_file()
            raise StorageError(
                f"{folder} holds no study",
                got=f"an empty {FILE} there" if empty else f"no file {FILE} there",
                remedy="Its run was cut off at the start: run it again with the same --out."
                if empty
                else "Give the folder that `qkd run` wrote to.",
            )
        try:
            super().__init__(self.path, write=write)
            self._damaged = self._find_damaged()
        except BaseException:
            if self._lock is not None:
                self._lock.close()
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
            with closing(connect(path, write=False)) as database:
                return bool(database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall())
        except sqlite3.Error:
            return True  # opening it says what is wrong

    def _find_damaged(self) -> set[Any]:
        """Keys of rows that are not as they were written; for a writer they are gone."""
        found = self.read("SELECT key, role, body, sha256 FROM rows")
        damaged = {key for key, role, body, digest in found if _sum(key, role, body) != digest}
        if damaged:
            if self._writes:
                with self.transaction():
                    self.db.executemany("DELETE FROM rows WHERE key = ?", [(k,) for k in damaged])
            what = "done again" if self._writes else "left out, and done again by the next run"
            warnings.warn(
                f"rows of {self.path} that are not as they were written are {what}: {len(damaged)}",
                stacklevel=3,
            )
        return set() if self._writes else damaged

    def _take_lock(self) -> sqlite3.Connection:
        """An exclusive transaction on a file of its own: released by the system when we die."""
        holder = self.folder / "driver.pid"
        what, remedy = (
            f"the folder {self.folder} cannot be made",
            "Choose another folder with --out.",
        )
        with self.translated():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                what = f"{self.folder} cannot be written"
                remedy = "Free some space or check permissions, then run again."
                lock = sqlite3.connect(
                    self.folder / "driver.lock", timeout=0.0, isolation_level=None
                )
                try:
                    lock.execute("BEGIN EXCLUSIVE")
                    holder.write_text(f"process {os.getpid()}\n")
                except BaseException:
                    lock.close()
                    raise
            except OSError as error:
                raise StorageError(what, got=str(error.strerror), remedy=remedy) from None
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                who = holder.read_text().strip() if holder.is_file() else "another process"
                raise StorageError(
                    f"the study in {self.folder} is being run already",
                    got=f"a lock held by {who}",
                    remedy="Wait for it, or choose another folder with --out.",
                ) from None
        return lock

    def close(self) -> None:
        """Close the file and let another driver have it."""
        super().close()
        if self._lock is not None:
            self._lock.close()

    def describe(self, **facts: object) -> None:
        """Keep facts about the study as a whole, as JSON; the order of keys is kept."""
        with self.transaction():
            put = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
            texts = [(name, json.dumps(fact, ensure_ascii=False)) for name, fact in facts.items()]
            self.db.executemany(put, texts)
            self.db.execute(put, (_SUM, _sum(*self._facts()[0].items())))

    def description(self) -> dict[str, Any]:
        """The facts kept by `describe`.

        Raises:
            StorageError: If they are not as they were written.
        """
        with self.translated():
            found, digest = self._facts()
            if digest != _sum(*found.items()) and (found or digest is not None):
                raise sqlite3.DatabaseError("its configuration or plan is not as it was written")
        return {name: json.loads(text) for name, text in found.items()}

    def _facts(self) -> tuple[dict[Any, Any], object]:
        """All facts as they are stored, and the checksum beside them."""
        found = dict(self.read("SELECT name, value FROM meta ORDER BY name"))
        digest = found.pop(_SUM, None)
        return {k: v for k, v in found.items() if k not in ("kind", "schema")}, digest

    def keep_specs(self, specs: Iterable[tuple[str, Mapping[str, Any], str]]) -> None:
        """Keep what the rows of a plan are made from, beside the rows; the first one stays.

        Args:
            specs: Keys, specs, and the texts that the keys are the hashes of.
        """
        with self.transaction():
            known = {key for (key,) in self.db.execute("SELECT key FROM specs")}
            made = [(key, canonical(spec), text) for key, spec, text in specs if key not in known]
            self.db.executemany(
                "INSERT INTO specs VALUES (?, ?, ?, ?)", [(*parts, _sum(*parts)) for parts in made]
            )

    def specs(self) -> dict[str, dict[str, Any]]:
        """By key what rows are made from.

        Nothing of rows that an older version wrote, nor of what is not as it was written.
        """
        if not self.read("SELECT 1 FROM sqlite_master WHERE name = 'specs'"):
            return {}
        found = self.read("SELECT key, spec, hashed, sha256 FROM specs")
        return {
            key: json.loads(spec)
            for key, spec, *rest in found
            if _sum(key, spec, rest[0]) == rest[1]
        }

    def start(self, key: str) -> int:
        """Log that a task is handed out; returns the number of the attempt."""
        with self.transaction():
            query = "INSERT INTO attempts (key, started) VALUES (?, ?)"
            return int(self.db.execute(query, (key, time.time())).lastrowid or 0)

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
        body = canonical(row)
        kept = (key, role, body, _sum(key, role, body))
        with self.transaction():
            self.db.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)", kept)
            self.db.execute(
                "INSERT OR IGNORE INTO timings VALUES (?, ?, ?, ?, ?)",
                (key, seconds, host, pid, time.time()),
            )
            self.db.execute("DELETE FROM failures WHERE key = ?", (key,))
            self.db.execute("UPDATE attempts SET status = 'done' WHERE id = ?", (attempt,))

    def fail(
        self, key: str, label: str, error: str, traceback: str, *, attempt: int | None = None
    ) -> None:
        """Keep why a task failed; it counts as missing and is tried again next time."""
        with self.transaction():
            put = "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)"
            self.db.execute(put, (key, label, error, traceback))
            self.db.execute("UPDATE attempts SET status = 'failed' WHERE id = ?", (attempt,))

    def keys(self) -> set[str]:
        """Keys of the finished tasks."""
        return {key for (key,) in self.read("SELECT key FROM rows")} - self._damaged

    def rows(self, role: str | None = None) -> dict[str, dict[str, Any]]:
        """Finished rows by key, in the order of their keys."""
        return {key: json.loads(body) for key, body in self.texts(role).items()}

    def texts(self, role: str | None = None) -> dict[str, str]:
        """Finished rows by key as the very text that is stored."""
        query = "SELECT key, body FROM rows WHERE ?1 IS NULL OR role = ?1 ORDER BY key"
        return {key: body for key, body in self.read(query, (role,)) if key not in self._damaged}

    def failures(self) -> dict[str, dict[str, str]]:
        """Tasks that failed: `label`, `error` and `traceback` by key."""
        names = ("label", "error", "traceback")
        found = self.read("SELECT key, label, error, traceback FROM failures ORDER BY key")
        return {key: dict(zip(names, texts, strict=True)) for key, *texts in found}

    def attempts(self) -> list[tuple[str, str]]:
        """Every attempt as (key, status) in order; `started` is one that never came back."""
        return self.read("SELECT key, status FROM attempts ORDER BY id")
