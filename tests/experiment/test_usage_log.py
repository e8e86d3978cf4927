# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from device_study import devices  # noqa: F401 (a fixture)

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import angle
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.execution import engine as usage_module
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.runtime.client import Calibration
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.local import LocalClient
from qiskit_kd.experiment.devices import UsageLog
from tests.execution.runtime.study import forget

pytestmark = pytest.mark.usefixtures("devices")

MINE = {"name": "mine", "base": "lagos", "settings": {"tiles": "auto"}}
X = np.array([[0.3, -0.2], [0.1, 0.7], [1.0, 0.4]])


def model(layers: int = 1) -> CircuitModel:
    return CircuitModel(angle(2), hardware_efficient(2, layers), ClassGroups(2, 2))


def weights(of: CircuitModel) -> np.ndarray:
    return np.linspace(0.1, 1.0, of.num_weights)


@pytest.fixture(autouse=True)
def _anew() -> None:
    forget()


def test_simulators_are_opened_as_ever(devices: Path) -> None:  # noqa: F811
    logbook = UsageLog(devices / "jobs.db")
    backend = logbook({"name": "exact"}, shots=7)
    assert (type(backend).__name__, backend.shots) == ("Backend", 7)
    backend.engine(seed=0).outputs(model(), X, weights(model()))
    assert logbook.devices() == []
    assert not (devices / "jobs.db").exists()


def test_jobs_of_devices_go_into_the_journal_of_the_study(devices: Path) -> None:  # noqa: F811
    logbook = UsageLog(devices / "jobs.db")
    backend = logbook(MINE)
    assert (backend.name, backend.options.journal) == ("mine", devices / "jobs.db")
    engine = backend.engine(seed=3)
    assert logbook.devices() == []  # nothing was asked yet
    engine.outputs(model(), X, weights(model()))
    journal = Journal(devices / "jobs.db")
    (job,) = journal.jobs()
    journal.close()
    assert (job.backend, job.device, job.state) == ("mine", "fake_lagos", "done")
    (entry,) = logbook.devices()
    assert {key: entry[key] for key in ("backend", "device")} == {
        "backend": "mine", "device": "fake_lagos"
    }  # fmt: skip
    assert entry["usage"] == {
        "executions": job.executions, "pubs": 1, "jobs": 1, "backward": 0,
        "qpu_seconds": pytest.approx(job.seconds),
    }  # fmt: skip
    (circuit,) = entry["circuits"]
    assert len(circuit["layout"]) == len(circuit["tiles"]) == 2
    assert entry["calibrated"] == circuit["calibrated"] == engine.source.session.device.calibrated


def test_without_a_journal_the_entry_decides(devices: Path) -> None:  # noqa: F811
    assert UsageLog()({"name": "lagos"}).options.journal is None
    entry = {**MINE, "settings": {"journal": "own.db"}}
    assert UsageLog()(entry).options.journal == Path("own.db")
    assert UsageLog("runs/a/jobs.db")(entry).options.journal == devices / "runs/a/jobs.db"
    assert UsageLog(devices / "jobs.db")(entry).options.journal == devices / "jobs.db"


def test_engines_of_one_backend_are_summed_up_those_of_others_apart(
    devices: Path,  # noqa: F811
) -> None:
    logbook = UsageLog(devices / "jobs.db")
    one, two, other = logbook(MINE), logbook(MINE, shots=8), logbook({"name": "aer"})
    first, last = one.engine(seed=0), two.engine(seed=1)
    first.outputs(model(), X, weights(model()))
    _, pullback = last.vjp(model(2), X, weights(model(2)), Needs(features=False, weights=True))
    pullback(np.ones((3, 2)))
    first.outputs(model(), X, 0.5 + weights(model()))
    other.engine(seed=0).outputs(model(), X, weights(model()))
    mine, aer = logbook.devices()
    assert [mine["backend"], aer["backend"]] == ["mine", "aer"]
    assert aer["calibrated"] is None
    assert len(mine["circuits"]) == 2
    usages = [engine.usage for engine in (first, last)]
    for name, value in mine["usage"].items():
        assert value == pytest.approx(sum(getattr(usage, name) for usage in usages))
    assert (mine["usage"]["jobs"], mine["usage"]["backward"]) == (3, 1)


def test_a_row_does_not_depend_on_what_its_process_did_before(
    devices: Path,  # noqa: F811
) -> None:
    def task(journal: str) -> list[dict]:
        logbook = UsageLog(devices / journal)
        logbook(MINE).engine(seed=5).outputs(model(), X, weights(model()))
        return logbook.devices()

    alone = task("one.db")
    other = UsageLog(devices / "two.db")  # another task in the same process
    other(MINE).engine(seed=9).outputs(model(2), X, weights(model(2)))
    assert task("two.db") == alone
    assert task("one.db") == alone  # everything is replayed
    forget()
    assert task("one.db") == alone  # in another process


def test_a_recalibration_is_part_of_the_row(
    devices: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logbook = UsageLog(devices / "jobs.db")
    engine = logbook(MINE).engine(seed=3)
    rates = Calibration("2030-01-01", np.full((7, 2), 0.1))
    dates = iter([None, rates, rates, Calibration("2030-01-02", rates.readout)])
    monkeypatch.setattr(LocalClient, "calibration", lambda *_: next(dates))
    engine.outputs(model(), X, weights(model()))
    assert "calibrations" not in logbook.devices()[0]
    for step in range(3):
        engine.outputs(model(), X, step + weights(model()))
    (entry,) = logbook.devices()
    assert entry["calibrations"] == ["2030-01-01", "2030-01-02"]
    assert entry["calibrated"] == entry["circuits"][0]["calibrated"]


def test_what_a_row_says_is_part_of_what_is_counted() -> None:
    from qiskit_kd.experiment import devices as logbook

    assert {*logbook._USED} == {*usage_module.Usage().as_dict()} - {"transpilations"}
