# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qiskit_kd.errors import StorageError
from qiskit_kd.experiment.store import Store, canonical

FACTS = {"seconds": 0.5, "host": "here", "pid": 1}
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_canonical_is_a_fixed_point(value: object) -> None:
    text = canonical(value)
    assert canonical(json.loads(text)) == text


def test_canonical_ignores_the_order_of_keys_and_keeps_every_bit() -> None:
    number = 0.1 + 0.2
    assert canonical({"b": 1, "a": number}) == canonical({"a": number, "b": 1})
    assert json.loads(canonical({"a": number}))["a"] == number
    assert canonical([float("nan"), float("inf")]) == "[null,null]"


def test_rows_survive(tmp_path: Path) -> None:
    with Store(tmp_path / "s", write=True) as store:
        store.describe(config={"z": 1, "a": 2})
        attempt = store.start("k1")
        store.commit("k1", "student", {"x": 0.1}, **FACTS, attempt=attempt)
        store.start("k2")
    with Store(tmp_path / "s") as store:
        assert store.rows() == {"k1": {"x": 0.1}}
        assert store.rows("teacher") == {}
        assert store.keys() == {"k1"}
        assert store.attempts() == [("k1", "done"), ("k2", "started")]
        assert list(store.description()["config"]) == ["z", "a"]


def test_first_row_of_a_key_stays(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        store.commit("k", "student", {"x": 1}, **FACTS)
        store.commit("k", "student", {"x": 2}, **FACTS)
        assert store.texts() == {"k": '{"x":1}'}


def test_a_failure_is_forgotten_once_the_row_is_there(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        store.fail("k", "some task", "it broke", "Traceback ...", attempt=store.start("k"))
        assert store.failures()["k"]["error"] == "it broke"
        assert store.attempts() == [("k", "failed")]
        store.commit("k", "student", {}, **FACTS)
        assert store.failures() == {}


def test_reader_while_a_driver_writes(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as driver:
        driver.commit("k", "student", {}, **FACTS)
        with Store(tmp_path) as reader:
            assert reader.keys() == {"k"}


def test_two_drivers(tmp_path: Path) -> None:
    with (
        Store(tmp_path, write=True),
        pytest.raises(StorageError, match=r"is being run already; got a lock held by process \d+"),
    ):
        Store(tmp_path, write=True)
    Store(tmp_path, write=True).close()  # the lock went with its holder


def test_the_lock_of_a_killed_driver_is_gone(tmp_path: Path) -> None:
    code = (
        "import os, sys; from qiskit_kd.experiment.store import Store; "
        "Store(sys.argv[1], write=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    Store(tmp_path, write=True).close()


def _cut_off(folder: Path, how: str) -> None:
    """What a driver leaves that dies before its first transaction."""
    if how == "zero bytes":
        (folder / "study.db").write_bytes(b"")
        return
    db = sqlite3.connect(folder / "study.db")
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    assert (folder / "study.db").stat().st_size > 0


@pytest.mark.parametrize("how", ["zero bytes", "WAL without tables"])
def test_a_file_without_tables_is_not_begun(tmp_path: Path, how: str) -> None:
    _cut_off(tmp_path, how)
    assert not Store.begun(tmp_path)
    with pytest.raises(StorageError, match=r"holds no study; got an empty study.db there. Its run "
                       "was cut off at the start: run it again with the same --out"):  # fmt: skip
        Store(tmp_path)
    with Store(tmp_path, write=True) as store:
        store.commit("k", "student", {}, **FACTS)
    assert Store.begun(tmp_path)
    with Store(tmp_path) as store:
        assert store.keys() == {"k"}


def _read_only(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Permissions do not bind root, so the answer of the system is replaced."""
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode, **o: Path(path) != folder and real(path, mode, **o)
    )


def test_reading_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path, write=True) as store:
        store.commit("k", "student", {}, **FACTS)
    _read_only(monkeypatch, tmp_path)
    before = sorted(tmp_path.iterdir())
    with Store(tmp_path) as store:
        assert store.keys() == {"k"}
        assert sorted(tmp_path.iterdir()) == before  # no log, no shared memory
        with pytest.raises(StorageError, match=r"cannot be opened; got attempt to write a readonly "
                           r"database. Check the permissions of the file and"):  # fmt: skip
            store.start("k")


def test_a_log_that_was_not_merged_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path, write=True) as driver:
        driver.commit("k", "student", {}, **FACTS)
        _read_only(monkeypatch, tmp_path)
        with Store(tmp_path) as store:
            assert store.keys() == {"k"}


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").mkdir()
    with pytest.raises(StorageError, match=r"study.db cannot be opened; got unable to open"):
        Store(tmp_path, write=True)


def test_a_holder_that_cannot_be_noted(tmp_path: Path) -> None:
    (tmp_path / "driver.pid").mkdir()
    with pytest.raises(StorageError, match=r"cannot be written; got Is a directory. Free some"):
        Store(tmp_path, write=True)
    (tmp_path / "driver.pid").rmdir()
    Store(tmp_path, write=True).close()  # and the lock is free again


def test_a_damaged_lock(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").write_bytes(b"no database, no lock" * 200)
    with pytest.raises(StorageError, match=r"is damaged; got file is not a database"):
        Store(tmp_path, write=True)


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"holds no study; got no file study.db there"):
        Store(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(b"this is not a database, but it is somebody's work" * 40)
    before = path.read_bytes()
    for write in (False, True):
        with pytest.raises(StorageError, match=r"study.db is damaged; got file is not a database"):
            Store(tmp_path, write=write)
    assert path.read_bytes() == before


def test_a_damaged_page_is_found_and_the_file_kept(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        for k in range(300):
            store.commit(f"{k:064d}", "student", {"x": "y" * 200}, **FACTS)
    path = tmp_path / "study.db"
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
    path.write_bytes(content)
    with pytest.raises(
        StorageError, match=r"is damaged; .*The file was left as it is: keep a copy"
    ):
        Store(tmp_path, write=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "change",
    ["body = '{\"x\":'", "body = '{\"x\":2}'", "role = 'teacher'", "key = 'another'",
     "body = x'00ff'", "sha256 = ''", "body = 1.5"],
)  # fmt: skip
def test_a_row_that_is_not_as_it_was_written_does_not_count(tmp_path: Path, change: str) -> None:
    with Store(tmp_path, write=True) as store:
        store.commit("a", "student", {"x": 0}, **FACTS)
        store.commit("k", "student", {"x": 1}, **FACTS)
    with sqlite3.connect(tmp_path / "study.db") as db:
        db.execute(f"UPDATE rows SET {change} WHERE key = 'k'")
    db.close()
    with pytest.warns(UserWarning, match="are left out, and done again by the next run: 1"):
        store = Store(tmp_path)
    assert store.rows() == {"a": {"x": 0}}
    assert store.keys() == {"a"}
    store.close()
    with pytest.warns(UserWarning, match=r"not as they were written are done again: 1"):
        store = Store(tmp_path, write=True)
    store.commit("k", "student", {"x": 1}, **FACTS)
    assert store.texts() == {"a": '{"x":0}', "k": '{"x":1}'}
    store.close()


def test_a_foreign_database(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "study.db")
    db.execute("CREATE TABLE other (x)")
    db.close()
    for write in (False, True):
        with pytest.raises(
            StorageError, match=r"not a study of this package; got a foreign SQLite"
        ):
            Store(tmp_path, write=write)


def test_another_schema(tmp_path: Path) -> None:
    Store(tmp_path, write=True).close()
    with sqlite3.connect(tmp_path / "study.db") as db:
        db.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    db.close()
    with pytest.raises(StorageError, match=r"another version; got schema 99; expected schema 4"):
        Store(tmp_path)


def test_a_full_disk_keeps_the_rows_so_far(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        store.commit("first", "student", {"x": 1}, **FACTS)
        pages = store.db.execute("PRAGMA page_count").fetchone()[0]
        store.db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(
            StorageError, match=r"cannot be written; got database or disk is full. All rows"
        ):
            store.commit("second", "student", {"x": "y" * 100_000}, **FACTS)
    with Store(tmp_path) as store:
        assert store.texts() == {"first": '{"x":1}'}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be made; got Not a directory. Choose another"):
        Store(tmp_path / "file" / "out", write=True)


def test_a_table_in_use(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        store.db.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match=r"is in use; got database is locked. Close the"):
            store.start("k")
        other.close()
