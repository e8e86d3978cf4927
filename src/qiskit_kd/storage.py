# SPDX-License-Identifier: Apache-2.0
"""What several processes may share: SQLite files opened with care, and locks.

A `Database` is a kind of SQLite file of this package: marked as such, checked when it is opened,
written in transactions, its errors turned into `StorageError`s that say what to do.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

from qiskit_kd.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows: one process at a time may use a file there
    fcntl = None  # type: ignore[assignment]

_META = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
_FAULTS = {
    "cannot be written": ("full", "I/O"),
    "cannot be opened": ("unable to open", "readonly"),
    "is in use": ("locked", "busy"),
}
"""What SQLite's words mean; a kind of file without a remedy of that name cannot be written."""


class Database:
    """An SQLite file, which several threads and processes may use.

    Args:
        path: The file; made if missing. None keeps everything in memory.
        write: Whether it is written to; only read, it may lie in a folder that allows no more.

    Raises:
        StorageError: If the file is damaged, of another kind or version, or cannot be written.
    """

    kind: ClassVar[str]
    """What the file is, in one word."""
    named: ClassVar[str] = "the {kind} {path}"
    """How errors call it."""
    schema: ClassVar[int]
    """Version of its tables."""
    older: ClassVar[tuple[int, ...]] = ()
    """Versions that lack whole tables: read as they are, written on as one of today."""
    tables: ClassVar[str]
    """Statements that make them, each ended by a semicolon."""
    later: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Columns that earlier files lack: table to column to type; they are added."""
    synchronous: ClassVar[str] = "FULL"  # what is lost may be paid for twice
    remedies: ClassVar[Mapping[str, str]]
    """What to do about a file that is `"foreign"`, of another `"version"`, that `"is damaged"`,
    `"cannot be written"`, `"cannot be opened"` or `"is in use"`."""

    def __init__(self, path: str | Path | None, *, write: bool = True) -> None:
        self.path = None if path is None else Path(path)
        self._guard = threading.RLock()
        self._writes = write
        with self.translated():
            if self.path is not None:
                try:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise sqlite3.OperationalError(f"unable to open: {error.strerror}") from None
            self.db = connect(self.path, write=write)
            # It lives as long as what writes to it, which a cache may keep to the very end of the
            # process: whoever is last to go, the file is closed and its log merged.
            self._closing = weakref.finalize(self, self.db.close)
            try:
                self._open()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._closing()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        if self._writes:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute(f"PRAGMA synchronous = {self.synchronous}")
        verdict = self.db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        mark = f"qiskit_kd {self.kind}"
        with self.transaction() if self._writes else nullcontext():
            columns = _columns(self.db)
            if not columns and self._writes:
                self._make_tables()
                self.db.execute("INSERT INTO meta VALUES ('kind', ?)", (mark,))
                return
            query = "SELECT name, value FROM meta"
            found = dict(self.db.execute(query).fetchall()) if "meta" in columns else {}
            if found.get("kind") != mark:
                raise StorageError(
                    f"{self.path} is not a {self.kind} of this package",
                    got="a foreign SQLite database",
                    remedy=self.remedies["foreign"],
                )
            old = found.get("schema") in [str(version) for version in self.older]
            if not old and found.get("schema") != str(self.schema):
                raise StorageError(
                    f"{self.path} was written by another version",
                    got=f"schema {found.get('schema')}",
                    expected=f"schema {self.schema}",
                    remedy=self.remedies["version"],
                )
            if old and self._writes:
                self._make_tables()
                columns, old = _columns(self.db), False
            self._check_columns(columns, old=old)

    def _make_tables(self) -> None:
        for statement in (_META, *self.tables.split(";")[:-1]):
            self.db.execute(statement)
        self.db.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(self.schema),))

    def _check_columns(self, found: Mapping[str, set[str]], *, old: bool) -> None:
        """Refuse a file that lacks a part; add what earlier versions did not have."""
        with closing(sqlite3.connect(":memory:")) as new:
            new.executescript(f"{_META};{self.tables}")
            wanted = _columns(new)
        for table, columns in wanted.items():
            if old and table not in found:
                continue
            missing = columns - found.get(table, set())
            later = self.later.get(table, {})
            if missing - {*later}:
                raise sqlite3.DatabaseError(f"{table} without {', '.join(sorted(missing))}")
            for name in missing:
                self.db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {later[name]}")

    def read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Rows of a query."""
        try:
            with self._guard:
                return self.db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._refuse(error)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is written inside, or nothing; nobody else writes meanwhile."""
        with self._guard:
            try:
                self.db.execute("BEGIN IMMEDIATE")
                yield
                self.db.execute("COMMIT")
            except BaseException as error:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    self._refuse(error)
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
        faults = [name for name, words in _FAULTS.items() if any(word in text for word in words)]
        fault = next(iter(faults), "is damaged")
        fault = fault if fault in self.remedies else "cannot be written"
        raise StorageError(
            f"{self.named.format(kind=self.kind, path=self.path)} {fault}",
            got=text,
            expected="a SQLite database" if fault == "is damaged" else None,
            remedy=self.remedies[fault],
        ) from None


def connect(path: Path | None, *, write: bool = True) -> sqlite3.Connection:
    """Open a file; one in a folder that may not be written to, as what cannot change.

    Even to read, WAL makes files beside the database, unless it is told that nobody writes. A log
    that was never merged still counts, so with one the file is opened in the ordinary way.
    """
    name: Path | str = path or ":memory:"
    reads = path is not None and not write and not os.access(path.parent, os.W_OK)
    if path is not None and reads:
        log = path.with_name(f"{path.name}-wal")
        how = "mode=ro" if log.is_file() and log.stat().st_size else "mode=ro&immutable=1"
        name = f"{path.resolve().as_uri()}?{how}"
    return sqlite3.connect(
        name, uri=reads, timeout=60.0, isolation_level=None, check_same_thread=False
    )


def _columns(db: sqlite3.Connection) -> dict[str, set[str]]:
    rows = db.execute(
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c "
        "WHERE m.type = 'table'"
    ).fetchall()
    return {table: {name for one, name in rows if one == table} for table, _ in rows}


@contextmanager
def held(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock called `name`, waiting for whoever has it, in whatever process or thread.

    A lock of the system on a file of its own: whatever becomes of its owner, the system releases
    it.

    Args:
        folder: Where the files of the locks lie; made if missing.
        name: A file name.

    Raises:
        StorageError: If the folder cannot be written to.
    """
    path = folder / name
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise StorageError(
                "a journal needs a folder for its locks",
                got=f"{path}: {error.strerror}",
                remedy="Put the journal into a folder that may be written to.",
            ) from None
        with file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                same = os.path.samestat(path.stat(), os.fstat(file.fileno()))
            except FileNotFoundError:
                same = False
            if not same:
                continue  # its owner removed it when done; another may hold the one that came after
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
