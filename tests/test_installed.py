# SPDX-License-Identifier: Apache-2.0
"""The package as a wheel lays it out, used from empty folders: nothing is written into it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from qiskit_kd.experiment.store import Store

ROOT = Path(__file__).parents[1]

STUDY = """\
name: small
data:
  kind: digits
  options: {classes: [3, 5, 8], train: 12, validation: 9, test: 9, components: 2}
students: {quantum: {kind: fully_quantum, options: {encoding: angle, num_qubits: 2, layers: 1}}}
backends:
  device: {base: fake_device, device: fake_lagos, shots: 16, budget_seconds: 60}
  renamed: {base: fake_device, device: fake_lagos, shots: 32, budget_seconds: 60}
variants:
  plain: {terms: [{loss: ce}]}
  tuned:  # with a loss of its own: where validation keeps the start, equal weights share their jobs
    terms: [{loss: label_smoothing}]
    fine_tune: {backend: renamed, training: {epochs: 1, steps_per_epoch: 2, learning_rate: 0.1}}
seeds: 1
training: {epochs: 1, gradient_every: 0}
evaluation: {backend: device}
"""

PROGRAM = """
import json, os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typer.testing import CliRunner
import qiskit_kd
from qiskit_kd.cli import app
from qiskit_kd.experiment.study import Study

for folder in sys.argv[1:]:
    os.chdir(folder)
    with ThreadPoolExecutor(1) as executor:
        Study.load("small.yaml").run("runs/hw", executor=executor)
    found = CliRunner().invoke(app, ["jobs", "runs/hw", "--json"])
    assert found.exit_code == 0, found.output
    print(json.dumps([qiskit_kd.__file__, folder, json.loads(found.stdout)]))
    os.chdir("..")
"""


def install(target: Path) -> dict[Path, tuple[int, int]]:
    """What the wheel holds, where `pip install --target` would put it; sizes and times of all."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]["wheel"]
    ignore = shutil.ignore_patterns("__pycache__")
    for package in wheel["packages"]:
        shutil.copytree(ROOT / package, target / Path(package).name, ignore=ignore)
    for source, place in wheel["force-include"].items():
        copy: Any = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        (target / place).parent.mkdir(exist_ok=True)
        copy(ROOT / source, target / place)
    for path in [target, *target.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)  # a system's own, which users may only read
    return contents(target)


def contents(target: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(target.rglob("*"))}


@pytest.mark.slow
def test_device_steps_from_an_installed_package(tmp_path: Path) -> None:
    target = tmp_path / "site-packages"
    before = install(target)
    environment = {k: v for k, v in os.environ.items() if k != "QISKIT_KD_BACKENDS"}
    environment |= {"PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1",
                    "OMP_NUM_THREADS": "1"}  # fmt: skip

    for folder in ("first", "second"):  # two projects with the same --out
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "small.yaml").write_text(STUDY)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "first", "second"], cwd=tmp_path, env=environment,
        text=True, capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    spent = []
    for line in done.stdout.splitlines():
        where, folder, jobs = json.loads(line)
        assert Path(where).is_relative_to(target)
        assert sorted(jobs["usage"]) == ["device", "renamed"]
        assert (tmp_path / folder / "runs" / "hw" / "jobs.db").is_file()
        with Store(tmp_path / folder / "runs" / "hw") as store:
            charged = [entry["usage"] for row in store.rows().values() for entry in row["devices"]]
        assert len(jobs["jobs"]) == sum(one["jobs"] for one in charged) > 3
        seconds = sum(job["seconds"] for job in jobs["jobs"])
        assert seconds == pytest.approx(sum(one["qpu_seconds"] for one in charged))
        assert all(
            sums["device_seconds"] == pytest.approx(seconds) for sums in jobs["usage"].values()
        )
        spent.append(seconds)
    assert spent[0] == pytest.approx(spent[1])  # a budget of its own
    assert contents(target) == before
    made = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert made == {"site-packages", "first", "second"}
    for path in [target, *target.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
