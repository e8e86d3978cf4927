# SPDX-License-Identifier: Apache-2.0
"""Parts of one's own, from files and entry points, in the command line and its workers."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from qiskit_kd.circuits import real_amplitudes
from qiskit_kd.errors import ConfigError, QiskitKDError
from qiskit_kd.experiment.loading import load
from qiskit_kd.experiment.plan import plan
from qiskit_kd.nn import students
from qiskit_kd.registry import PLUGINS, Registry, add_plugins, plugin_files

PLUGIN = """\
import numpy as np
from qiskit_kd.data import arrays, datasets
from qiskit_kd.distill import loss
from qiskit_kd.nn import students


@datasets.register("mine_data")
def data(*, seed, train=20):
    x = np.random.default_rng(0).normal(size=(60, 4))
    return arrays(x, (x[:, 0] > 0).astype(int), seed=seed, train=train)


@students.register("mine_student")
def student(num_features, num_classes, *, seed, backend="exact", dtype="float64"):
    return students["linear"](num_features, num_classes, seed=seed, dtype=dtype)


@loss("mine_loss", teacher=True)
def gap(student, teacher, target=None, *, scale=1.0):
    return scale * (student - teacher).square().mean()
"""

STUDY = """\
name: mine
data: {kind: mine_data}
teacher: {kind: linear}
students:
  own: {kind: mine_student}
  linear: {kind: linear}
variants:
  plain: {terms: [{loss: ce}]}
  taught: {teacher: teacher, terms: [{loss: ce}, {loss: mine_loss, options: {scale: 2.0}}]}
seeds: 1
training: {epochs: 1}
"""


def qkd(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != PLUGINS}
    return subprocess.run(
        [sys.executable, "-m", "qiskit_kd.cli", *words], cwd=folder, env=environment, check=False,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_a_file_named_on_the_command_line_reaches_the_workers(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PLUGIN)
    (tmp_path / "study.yaml").write_text(STUDY)
    without = qkd(tmp_path, "run", "study.yaml", "--out", "here")
    assert without.returncode == 2
    assert "unknown data set; got 'mine_data'" in without.stderr
    assert "Traceback" not in without.stderr
    done = qkd(tmp_path, "run", "study.yaml", "--out", "here", "--plugin", "parts.py",
               "--workers", "2")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "own" in done.stdout
    shown = qkd(tmp_path, "report", "here")
    assert shown.returncode == 0, shown.stderr


def test_an_experiment_file_cannot_execute_anything(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text("open('executed', 'w')")
    (tmp_path / "study.yaml").write_text("plugins: [parts.py]\n" + STUDY)
    with pytest.raises(ConfigError, match=r"names no code to execute.*--plugin PATH"):
        load(tmp_path / "study.yaml")
    assert not list(tmp_path.glob("executed"))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose parts vanish again."""
    monkeypatch.setenv(PLUGINS, "")
    path = tmp_path / "parts.py"
    names = ("data", "student", "loss")
    path.write_text(PLUGIN)
    yield path
    _forget(names)


def _forget(names: tuple[str, ...]) -> None:
    from qiskit_kd.data import datasets
    from qiskit_kd.distill import losses

    for registry, name in zip((datasets, students, losses), names, strict=True):
        registry._parts.pop(f"mine_{name}", None)
    for name in [name for name in sys.modules if name.startswith("qkd_plugin_")]:
        del sys.modules[name]


def test_rows_know_what_their_plugin_says(plugin: Path, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY.replace("mine_data", "digits"))

    def keys() -> dict[str, str]:
        add_plugins([plugin])
        tasks = plan(load(tmp_path / "study.yaml"))
        _forget(("data", "student", "loss"))
        return {task.label: task.key for task in tasks}

    first = keys()
    assert keys() == first
    plugin.write_text(PLUGIN + "\n# another file\n")
    changed = {label for label, key in keys().items() if key != first[label]}
    assert changed == {label for label in first if "own" in label or "taught" in label}
    moved = plugin.with_name("elsewhere.py")
    shutil.move(plugin, moved)
    moved.write_text(PLUGIN)
    os.environ[PLUGINS] = ""
    add_plugins([moved])
    assert {t.label: t.key for t in plan(load(tmp_path / "study.yaml"))} == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"parts\.py: FileNotFoundError"),
        ("1 +", "SyntaxError"),
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError.*leave it out of --plugin"),
        ("from qiskit_kd.nn import students\nstudents.register('linear')(print)", "twice"),
        ("from qiskit_kd.nn import students\nstudents.register(3)(print)", "under a name; got 3"),
    ],
)
def test_a_plugin_that_fails_says_so(
    plugin: Path, text: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin.unlink() if text is None else plugin.write_text(text)
    with pytest.raises(ConfigError, match=message):
        add_plugins([plugin])
    assert plugin_files() == [], "one that fails is not remembered"
    monkeypatch.setenv(PLUGINS, str(plugin))
    with pytest.raises(ConfigError, match=message):
        Registry("thing")["never_registered"]
    monkeypatch.setenv(PLUGINS, "")


def test_entry_points_are_parts_and_broken_ones_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("fine", "qiskit_kd.circuits:real_amplitudes", "qiskit_kd.test_part"),
        EntryPoint("broken", "nowhere_to_be_found:part", "qiskit_kd.test_part"),
    ]
    monkeypatch.setattr(
        "qiskit_kd.registry.entry_points",
        lambda group: [p for p in points if p.group == group],
    )
    assert importlib.metadata.entry_points is not None
    registry: Registry[object] = Registry("test part")
    for _ in range(2):  # the second look-up says it again
        with pytest.raises(ConfigError, match=r"'broken' of the group qiskit_kd\.test_part loads"):
            registry["other"]
    assert registry["fine"] is real_amplitudes


@pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")
def test_circuit_files_lie_beside_the_experiment_and_count_by_what_they_hold(
    tmp_path: Path,
) -> None:
    from qiskit import qpy

    def write(folder: Path, layers: int) -> Path:
        folder.mkdir(exist_ok=True)
        with (folder / "mine.qpy").open("wb") as file:
            qpy.dump(real_amplitudes(6, layers), file)
        text = STUDY.replace("mine_data", "digits, options: {classes: [3, 5], train: 20}")
        text = text.replace("{kind: mine_student}",
                            "{kind: fully_quantum, options: {ansatz: mine.qpy}}")  # fmt: skip
        (folder / "study.yaml").write_text(text.replace("mine_loss, options: {scale: 2.0}", "kl"))
        return folder / "study.yaml"

    def keys(path: Path) -> dict[str, str]:
        return {task.label: task.key for task in plan(load(path))}

    first = keys(write(tmp_path / "a", 1))
    assert keys(write(tmp_path / "b", 1)) == first
    other = keys(write(tmp_path / "b", 2))
    assert {label for label in first if first[label] != other[label]} == {
        label for label in first if "own" in label
    }
    (tmp_path / "b" / "mine.qpy").unlink()
    with pytest.raises(QiskitKDError, match=r"mine\.qpy"):
        keys(tmp_path / "b" / "study.yaml")
