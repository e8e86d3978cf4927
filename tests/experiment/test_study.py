# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest
from fixed_images import IMAGES, registered  # noqa: F401 (a fixture)
from test_plan import SMALL
from test_runner import Inline

import qiskit_kd
from qiskit_kd import report
from qiskit_kd.errors import ConfigError, StorageError
from qiskit_kd.experiment.loading import write_template
from qiskit_kd.experiment.result import StudyResult
from qiskit_kd.experiment.store import Store, canonical
from qiskit_kd.experiment.study import Study

PACKAGE = str(Path(qiskit_kd.__path__[0]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("study")
    (place / "small.yaml").write_text(SMALL)
    study = Study.load(place / "small.yaml", ["training.epochs=2"], seeds=2)
    study.run(place / "out", executor=Inline())
    return place


def test_rows(folder: Path) -> None:
    rows = Study.load(folder / "out").rows()
    assert len(rows) == 2 + 2 * 4 * 2
    cells = {(r["student"], r["variant"]) for r in rows}
    assert cells == {("teacher", "plain")} | {
        (s, v) for s in ("linear", "quantum") for v in ("plain", "distilled", "shuffled", "uniform")
    }
    assert {r["parameters"] for r in rows if r["student"] == "teacher"} == {1040 + 136 + 18}


def test_a_study_is_made_of_a_configuration() -> None:
    for wrong in ("c2q-xor", Path("c2q-xor.yaml"), {}, None):
        with pytest.raises(ConfigError, match=r"a checked configuration; got .*Study\.load"):
            Study(wrong)  # type: ignore[arg-type]


def test_the_folder_alone_says_everything(folder: Path) -> None:
    live = Study.load(folder / "small.yaml", ["training.epochs=2"], seeds=2)
    live.folder = folder / "out"
    stored = Study.load(folder / "out")
    assert stored.config.resolved() == live.config.resolved()
    assert stored.table() == live.table()
    assert stored.comparisons() == live.comparisons()
    result = stored.result()
    words = f"qkd run {folder}/small.yaml training.epochs=2 --seeds 2 --out {folder}/out"
    assert result.command == words
    assert (result.missing, result.failures) == (0, {})
    assert len(result.candidates) == 2 + 2 * 6 * 2


def test_the_command_survives_a_shell(folder: Path, tmp_path: Path) -> None:
    words = ["title=two words", "training.epochs=1"]
    study = Study.load(folder / "small.yaml", words, preset=None, seeds=1)
    result = study.run(tmp_path / "my runs", executor=Inline())
    assert shlex.split(result.command) == [
        "qkd", "run", f"{folder}/small.yaml", *words, "--seeds", "1",
        "--out", f"{tmp_path}/my runs",
    ]  # fmt: skip
    again = Study.load(tmp_path / "my runs").run(tmp_path / "my runs", executor=Inline())
    assert again.command == result.command


def test_the_command_names_backends_of_ones_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own backends.yaml"
    own.write_bytes(Path(__file__).parents[2].joinpath("backends.yaml").read_bytes())
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(own))
    command = Study.load(folder / "small.yaml").command
    assert command.startswith("QISKIT_KD_BACKENDS='")
    assert command.endswith("small.yaml")
    assert shlex.split(command)[0] == f"QISKIT_KD_BACKENDS={own}"


@pytest.mark.parametrize(
    "settings", [{"overrides": ["training.epochs=1"]}, {"preset": "quick"}, {"seeds": 3}]
)
def test_a_folder_takes_no_settings(folder: Path, settings: dict) -> None:
    with pytest.raises(ConfigError, match=r"the study in a folder takes no settings; got settings "
                       r"for .*out; expected the YAML file, or a shipped name. Name the YAML"
                       ):  # fmt: skip
        Study.load(folder / "out", **settings)


def test_a_folder_does_not_hide_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c2q-digits").mkdir()
    assert Study.load("c2q-digits", seeds=3).config.name == "c2q-digits"


def test_environments_of_all_rows_are_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qiskit_kd.experiment import study as module

    def run(machine: str, seeds: int) -> StudyResult:
        monkeypatch.setattr(module, "environment", lambda: {"system": machine})
        study = Study.load(folder / "small.yaml", ["training.epochs=1"], seeds=seeds)
        return study.run(tmp_path, executor=Inline())

    assert run("one", 1).environments == ({"system": "one"},)
    assert run("idle", 1).environments == ({"system": "one"},)  # it made no row
    later = run("two", 2)
    assert later.environment == {"system": "one"}
    assert later.environments == ({"system": "one"}, {"system": "two"})
    assert run("one", 3).environments == later.environments


def test_a_study_cut_off_at_its_start_is_run(folder: Path, tmp_path: Path, monkeypatch) -> None:
    from qiskit_kd.experiment import study as module

    monkeypatch.setattr(module, "warm_pool", lambda _: None)
    monkeypatch.setattr(module, "discard", lambda *_: None)
    monkeypatch.setattr(module, "run", lambda *_, **__: None)
    (tmp_path / "study.db").write_bytes(b"")
    with pytest.raises(StorageError, match=r"holds no study; got an empty study.db there"):
        Study.load(tmp_path)
    result = Study.load(folder / "small.yaml", seeds=1).run(tmp_path)
    assert result.missing == 1 + 2 * 6


def test_running_again_does_nothing(folder: Path) -> None:
    class Forbidden(Inline):
        def submit(self, *_, **__):
            pytest.fail("a committed task was done again")

    study = Study.load(folder / "small.yaml", ["training.epochs=2"], seeds=2)
    study.run(folder / "out", executor=Forbidden())
    assert study.summary is not None
    assert (study.summary.done, study.summary.found) == (0, 26)


def test_workers_are_started_early_but_not_for_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qiskit_kd.experiment import study as module

    started = []
    monkeypatch.setattr(module, "warm_pool", lambda n: started.append(n))
    monkeypatch.setattr(module, "discard", lambda *_: None)
    monkeypatch.setattr(module, "run", lambda *_, **__: None)
    path = folder / "small.yaml"
    Study.load(path, ["training.epochs=2"], seeds=2).run(folder / "out", workers=3)
    assert started == []
    Study.load(path, ["training.epochs=2"], seeds=2).run(tmp_path, workers=3)
    assert started == [3]


def test_a_second_run_elsewhere_has_the_same_rows_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    study = Study.load(folder / "small.yaml", ["training.epochs=2"], seeds=2)
    study.run(tmp_path, executor=Inline())
    with Store(folder / "out") as one, Store(tmp_path) as other:
        assert one.texts() == other.texts()


def test_another_plan_in_the_same_folder_keeps_both(folder: Path, tmp_path: Path) -> None:
    path = folder / "small.yaml"
    one = Study.load(path, ["training.epochs=1"], seeds=1).run(tmp_path, executor=Inline())
    two = Study.load(path, ["training.epochs=1"], seeds=2).run(tmp_path, executor=Inline())
    assert len(two.candidates) == 2 * len(one.candidates)
    back = Study.load(path, ["training.epochs=1"], seeds=1)
    assert len(back.run(tmp_path, executor=Inline()).candidates) == len(one.candidates)
    assert back.summary is not None
    assert back.summary.done == 0


@pytest.mark.slow
def test_report_of_it(folder: Path, tmp_path: Path) -> None:
    result = Study.load(folder / "out").result()
    page = report.write(result, tmp_path)
    assert "quantum" in page.read_text(encoding="utf-8")
    assert "linear" in report.terminal_table(result)


def test_json_of_comparisons_is_json(folder: Path) -> None:
    json.dumps(Study.load(folder / "out").comparisons(), allow_nan=False)


def test_not_run_yet(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"has results after it was run; got one that was not"):
        Study.load(folder / "small.yaml").rows()
    Store(tmp_path, write=True).close()
    with pytest.raises(StorageError, match=r"study.db has no configuration; got a study"):
        Study.load(tmp_path)


# Axes.


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
def test_a_study_with_axes(tmp_path: Path) -> None:
    (tmp_path / "images.yaml").write_text(IMAGES)
    study = Study.load(tmp_path / "images.yaml")
    done: list[str] = []
    result = study.run(
        tmp_path / "out", executor=Inline(), watch=lambda _, __, ___, label: done.append(label)
    )
    assert (result.missing, len(done)) == (0, len(study.tasks()))
    assert list(result.axes) == ["images", "sees"]
    per_point = {(row["student"], row["variant"], row["seed"])
                 for row in result.rows if row["point"] == result.points[0]}  # fmt: skip
    assert len(per_point) == 2 * 2 + 2 * (4 + 1)
    shared = [row for row in result.rows if row["student"] == "teacher:soft"
              and row["point"]["sees"] == "all"]  # fmt: skip
    assert [(row["seed"], row["point"]["images"]) for row in shared] == [(0, 12), (0, 24)]
    assert shared[0]["test"] == shared[1]["test"]
    plain = [
        row for row in result.rows
        if (row["student"], row["variant"], row["seed"]) == ("classical", "plain", 1)
    ]  # fmt: skip
    assert [row["point"] for row in plain] == result.points
    assert plain[0]["key"] == plain[1]["key"] != plain[2]["key"]
    stored = Study.load(tmp_path / "out")
    assert stored.table() == result.table
    assert stored.result().verdict == result.verdict
    assert result.verdict.startswith("test accuracy, classical both against plain at 4 of 4 points")
    json.dumps(stored.rows(), allow_nan=False)
    page = report.write(result, tmp_path)
    assert "labelled images" in page.read_text(encoding="utf-8")


@pytest.mark.usefixtures("registered")
def test_more_points_in_the_same_folder_cost_only_what_is_new(tmp_path: Path) -> None:
    (tmp_path / "images.yaml").write_text(IMAGES)

    def run(*only: str) -> Study:
        study = Study.load(tmp_path / "images.yaml", [f"axes.{text}" for text in only], seeds=1)
        study.run(tmp_path / "out", executor=Inline())
        return study

    few = run("images.only=[12]")
    assert few.summary is not None
    assert few.summary.found == 0
    more = run()
    assert more.summary is not None
    assert more.summary.found == few.summary.total
    back = run("images.only=[12]")
    assert back.summary is not None
    assert back.summary.done == 0
    assert {row["point"]["images"] for row in back.rows()} == {12}


_ALTERED = {
    "no table of rows": "DROP TABLE rows",
    "no table of facts": "DROP TABLE meta",
    "no table of attempts": "DROP TABLE attempts",
    "no column": "ALTER TABLE failures DROP COLUMN traceback",
    "another column": "ALTER TABLE rows RENAME COLUMN body TO text",
    "no plan": "DELETE FROM meta WHERE name = 'plan'",
    "no configuration": "DELETE FROM meta WHERE name = 'config'",
    "a plan of nothing": "UPDATE meta SET value = 'null' WHERE name = 'plan'",
    "a plan of something else": "UPDATE meta SET value = '[{}]' WHERE name = 'plan'",
    "a plan that is no JSON": "UPDATE meta SET value = '[{' WHERE name = 'plan'",
    "another configuration": "UPDATE meta SET value = '{}' WHERE name = 'config'",
    "a number": "UPDATE meta SET value = 7 WHERE name = 'config'",
    "bytes": "UPDATE meta SET value = x'ff00' WHERE name = 'config'",
    "no text": "UPDATE meta SET value = cast(x'ff00' AS TEXT) WHERE name = 'config'",
    "another environment": "UPDATE meta SET value = '[3]' WHERE name = 'environments'",
    "a schema to come": "UPDATE meta SET value = '999' WHERE name = 'schema'",
    "no schema": "DELETE FROM meta WHERE name = 'schema'",
    "somebody else's": "UPDATE meta SET value = 'a browser' WHERE name = 'kind'",
    "a table for a view": "DROP TABLE rows; CREATE VIEW rows AS SELECT 1 AS key",
}


@pytest.mark.parametrize("what", _ALTERED)
def test_an_altered_database_is_one_clear_error(folder: Path, tmp_path: Path, what: str) -> None:
    place = tmp_path / "out"
    place.mkdir()
    with (
        sqlite3.connect(folder / "out" / "study.db") as whole,
        sqlite3.connect(place / "study.db") as db,
    ):
        whole.backup(db)
        db.executescript(_ALTERED[what])
    whole.close(), db.close()
    before = (place / "study.db").read_bytes()
    with pytest.raises(StorageError, match=r"study\.db (is damaged|was written by|is not a study)"):
        Study.load(place).result()
    study = Study.load(folder / "small.yaml", ["training.epochs=2"], seeds=2)
    with pytest.raises(StorageError, match=r"study\.db (is damaged|was written by|is not a study)"):
        study.run(place, executor=Inline())
    assert (place / "study.db").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    ["UPDATE rows SET body = replace(body, 'accuracy', 'acuracy')", "DELETE FROM rows",
     "UPDATE rows SET body = '{}'", "UPDATE rows SET body = x'00'",
     "UPDATE failures SET label = x'00'", "UPDATE attempts SET started = 'x', status = 1"],
)  # fmt: skip
def test_rows_that_were_altered_are_done_again(
    folder: Path, tmp_path: Path, change: str
) -> None:  # fmt: skip
    place, own = tmp_path / "out", folder / "out"
    shutil.copytree(own, place)
    with sqlite3.connect(place / "study.db") as db:
        db.execute(change + (" WHERE role = 'student'" if " rows" in change else ""))
    db.close()
    study = Study.load(folder / "small.yaml", ["training.epochs=2"], seeds=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        lost = Study.load(place).result().missing
        assert lost == (24 if " rows" in change or "FROM rows" in change else 0)
        found = study.run(place, executor=Inline())
    assert found.missing == 0
    with Store(own) as store, Store(place) as again:
        assert store.texts() == again.texts()


def test_a_database_that_was_cut_off(folder: Path, tmp_path: Path) -> None:
    content = (folder / "out" / "study.db").read_bytes()
    for share in (0.05, 0.5, 0.9):
        (tmp_path / "study.db").write_bytes(content[: int(share * len(content))])
        with pytest.raises(StorageError, match=r"study\.db is damaged"):
            Study.load(tmp_path)


@pytest.mark.slow
def test_a_driver_does_little(tmp_path: Path) -> None:
    """22 tasks: at most half of the 71,482 calls that the first version took."""
    calls = Counter[bool]()

    def count(frame: FrameType, event: str, _: object) -> None:
        calls[event == "call" and frame.f_code.co_filename.startswith(PACKAGE)] += 1

    path = write_template(tmp_path / "first.yaml")
    sys.setprofile(count)
    try:
        study = Study.load(path, preset="quick")
        result = study.run(tmp_path / "out", workers=1)
    finally:
        sys.setprofile(None)
    assert (len(study.tasks()), result.missing) == (22, 0)
    assert 1000 < calls[True] <= 35_741


SCRIPT = """
import sys
import qiskit_kd as qkd

{before}

@qkd.students.register("of_the_script")
def of_the_script(num_features, num_classes, *, seed, **_):
    return qkd.students["linear"](num_features, num_classes, seed=seed)

print("begun")
result = qkd.Study.load(sys.argv[1]).run(sys.argv[2], workers=2)
print(len(result.rows), result.missing, dict(result.failures))
"""
TINY = """
name: tiny
data: {kind: digits, options: {classes: [3, 5], train: 20, validation: 20, test: 20}}
students: {mine: {kind: of_the_script}}
variants: {plain: {terms: [{loss: ce}]}, smooth: {terms: [{loss: label_smoothing}]}}
seeds: 2
training: {epochs: 1}
"""


def scripted(folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "study.yaml").write_text(TINY)
    (folder / "script.py").write_text(SCRIPT.format(before=before))
    return subprocess.run(
        [sys.executable, folder / "script.py", folder / "study.yaml", folder / "out"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_script_needs_no_main_guard_and_its_parts_reach_the_workers(tmp_path: Path) -> None:
    found = scripted(tmp_path)
    assert found.stdout == "begun\n4 0 {}\n", found.stderr
    assert found.returncode == 0


@pytest.mark.slow
def test_a_script_that_workers_cannot_import_is_named(tmp_path: Path) -> None:
    found = scripted(tmp_path, "if __name__ != '__main__': raise OSError('no such mount')")
    assert "unknown student; got 'of_the_script'" in found.stdout, found.stderr
    assert "script.py cannot be imported: OSError: no such mount" in found.stdout


BEFORE = """\
name: tiny
data: {kind: extended_xor, options: {train: 12, transfer: 0, test: 20}}
students: {linear: {kind: linear}}
variants: {plain: {terms: [{loss: ce}]}}
seeds: 2
training: {epochs: 1, batch_size: 8, learning_rate: 0.05}
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of a study that was written before rows had specs beside them."""
    (tmp_path / "tiny.yaml").write_text(BEFORE)
    (tmp_path / "out").mkdir()
    with sqlite3.connect(tmp_path / "out" / "study.db") as db:
        db.executescript(Path(__file__).with_name("study_of_schema_3.sql").read_text())
    db.close()
    return tmp_path


def test_a_study_of_the_schema_before_is_read(old: Path) -> None:
    result = Study.load(old / "out").result()
    assert [round(row["test"]["accuracy"], 2) for row in result.rows] == [0.35, 0.45]
    assert (result.missing, result.specs) == (0, {})


def test_a_study_of_the_schema_before_goes_on(old: Path) -> None:
    study = Study.load(old / "tiny.yaml", seeds=3)
    with Store(old / "out") as store:
        before = store.texts()
    result = study.run(old / "out", executor=Inline())
    assert study.summary is not None
    assert (study.summary.found, study.summary.done) == (2, 1)  # its rows count
    with Store(old / "out") as store:
        assert before.items() <= store.texts().items()
        assert result.specs == store.specs()
    assert {row["key"] for row in result.rows} == {*result.specs}


def test_the_spec_of_a_row_is_kept_beside_it(folder: Path) -> None:
    study = Study.load(folder / "small.yaml", ["training.epochs=2"], seeds=2)
    specs = Study.load(folder / "out").result().specs
    assert specs == {task.key: json.loads(canonical(task.spec)) for task in study.tasks()}
    with sqlite3.connect(folder / "out" / "study.db") as db:
        found = db.execute("SELECT key, hashed FROM specs").fetchall()
    db.close()
    assert all(hashlib.sha256(text.encode()).hexdigest() == key for key, text in found)
