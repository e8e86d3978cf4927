# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import math
import pickle
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import angle
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups, Observables
from qiskit_kd.errors import BudgetError, ConfigError, DeviceError, StorageError
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.execution.mitigation import mitigate
from qiskit_kd.execution.noise_sources import DeviceNoise, fake_device, readout_rates
from qiskit_kd.execution.noisy import NoisyEngine
from qiskit_kd.execution.noisy.program_cache import ProgramCache
from qiskit_kd.execution.runtime import session as session_module
from qiskit_kd.execution.runtime.engine import RuntimeEngine
from qiskit_kd.execution.runtime.primitives import RuntimeEstimator, RuntimeSampler
from qiskit_kd.execution.runtime.service import RuntimeClient
from qiskit_kd.execution.schema import RuntimeOptions
from tests.execution.engines import sampler_engine

from .study import forget

WEIGHTS = Needs(features=False, weights=True)
MODEL = CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(2, 3))
RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(5, 3)), RNG.normal(size=MODEL.num_weights)


def new_process() -> None:
    """Forget what a process remembers."""
    forget()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    new_process()
    yield
    new_process()


def entry(device: str = "aer", **settings: Any) -> RuntimeOptions:
    return RuntimeOptions.model_validate({"kind": "runtime", "device": device, **settings})


def engine(
    device: str = "aer",
    *,
    seed: int | None = 1,
    shots: int | None = None,
    gradient: str = "auto",
    **settings: Any,
) -> RuntimeEngine:
    backend = Backend("lab", entry(device, **settings), "a file")
    found = backend.engine(seed=seed, shots=shots, gradient=gradient)
    assert isinstance(found, RuntimeEngine)
    return found


READOUTS = [
    ClassGroups(2, 3),
    ClassGroups(4, 3, qubits=(2, 0)),
    Observables(["ZZI", "IIZ"]),
    Observables(["XIY", "ZZI"]),
]


@pytest.mark.parametrize("readout", READOUTS, ids=["groups", "subset", "diagonal", "general"])
@pytest.mark.parametrize("tiles", [1, 3])
def test_values_are_those_of_the_model(readout: Any, tiles: int) -> None:
    model = CircuitModel(angle(3), hardware_efficient(3, 1), readout)
    shots = 20_000
    found = engine(shots=shots, tiles=tiles)
    exact = ExactEngine().outputs(model, X, W)
    np.testing.assert_allclose(found.outputs(model, X, W), exact, atol=5 / math.sqrt(shots))
    assert found.usage.jobs == 1
    sampled_in_bases = tiles > 1 and readout is READOUTS[3]
    assert found.usage.pubs == (2 if sampled_in_bases else 1)


def test_gradients_come_from_the_same_job() -> None:
    upstream = RNG.normal(size=(5, 2))
    exact = ExactEngine().vjp(MODEL, X, W, WEIGHTS)[1](upstream)[1]
    shift = engine(shots=20_000, gradient="shift", tiles=2)
    _, pullback = shift.vjp(MODEL, X, W, WEIGHTS)
    np.testing.assert_allclose(pullback(upstream)[1], exact, atol=0.1)
    assert (shift.usage.jobs, shift.usage.pubs) == (1, 1)
    assert engine().gradient == "spsa"


@pytest.mark.parametrize("tiles", [1, 2, "auto"])
def test_a_step_is_one_job_and_one_pub_and_transpiles_once_ever(tmp_path: Path, tiles: Any) -> None:
    settings = {"journal": tmp_path / "jobs.db", "tiles": tiles, "shots": 64}
    first = engine("fake_lagos", **settings)
    values = []
    for step in range(3):
        values.append(first.vjp(MODEL, X, W + step, WEIGHTS)[0])
    circuits = 5 * (1 + 2 * first.perturbations)
    copies = 1 if tiles == 1 else 2
    usage = first.usage
    assert (usage.jobs, usage.pubs, usage.transpilations) == (3, 3, 1)
    assert usage.executions == 3 * math.ceil(circuits / copies) * 64
    assert usage.qpu_seconds == pytest.approx(first.source.session.spent())
    assert usage.qpu_seconds == pytest.approx(3 * 2 + usage.executions * 254e-6, rel=0.01)
    # An engine for another task, an equal model built anew, other shots.
    second = engine("fake_lagos", **{**settings, "shots": 32}, seed=2)
    again = CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(2, 3))
    second.outputs(again, X, W)
    assert second.usage.transpilations == 0
    new_process()
    third = engine("fake_lagos", **settings)
    for step in range(3):
        np.testing.assert_array_equal(third.vjp(again, X, W + step, WEIGHTS)[0], values[step])
    assert third.usage.as_dict() == {**usage.as_dict(), "transpilations": 0}
    assert third.source.session.counts == {"sent": 0, "reused": 3, "adopted": 0, "twins": 0}


def test_without_a_journal_circuits_are_shared_by_the_engines_of_a_process() -> None:
    first, second = engine("fake_lagos", seed=1), engine("fake_lagos", seed=2, mitigation="none")
    other = Backend("another", entry("fake_lagos", budget_seconds=100.0), "f").engine(seed=3)
    for one in (first, second, other):
        one.outputs(MODEL, X, W)
    assert [one.usage.transpilations for one in (first, second, other)] == [1, 0, 0]
    assert not list(Path().glob("*.db"))


def test_a_new_calibration_changes_nothing_of_a_run_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"journal": tmp_path / "jobs.db", "mitigation": "tensored", "tiles": 2}
    before = engine("fake_lagos", **settings)
    values = before.outputs_with_raw(MODEL, X, W)
    new_process()
    from qiskit_kd.execution.runtime import compiler

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is transpiled and no calibration is read")

    for name in ("device_pass_manager", "tile_circuit", "readout_rates"):
        monkeypatch.setattr(compiler, name, refuse)
    after = engine("fake_lagos", **settings)
    for one, other in zip(after.outputs_with_raw(MODEL, X, W), values, strict=True):
        np.testing.assert_array_equal(one, other)


def noisy(*, readout: bool) -> np.ndarray:
    device = fake_device("fake_lagos")
    noise = DeviceNoise("lagos", device.target, readout_rates(device), readout_error=readout)
    programs = ProgramCache(lambda _: noise, optimization_level=3, seed=0, idle=False)
    return NoisyEngine(programs, name="n").outputs(MODEL, X, W)


@pytest.mark.parametrize("tiles", [1, 2])
def test_mitigation_undoes_the_readout_errors_of_the_qubits_in_use(tiles: int) -> None:
    shots = 50_000
    mitigated, raw = engine(
        "fake_lagos", shots=shots, mitigation="tensored", tiles=tiles
    ).outputs_with_raw(MODEL, X, W)
    perfect, plain = (noisy(readout=r) for r in (False, True))
    assert np.abs(perfect - plain).max() > 0.02
    assert np.abs(mitigated - perfect).mean() < 0.4 * np.abs(raw - perfect).mean()
    # The same shots, unmitigated, are what an engine without mitigation gives.
    without = engine("fake_lagos", shots=shots, tiles=tiles)
    np.testing.assert_array_equal(without.outputs(MODEL, X, W), raw)
    one, other = without.outputs_with_raw(MODEL, X, W)
    np.testing.assert_array_equal(one, other)


def test_mitigation_of_general_observables_samples_each_basis() -> None:
    model = CircuitModel(angle(3), hardware_efficient(3, 1), Observables(["XIY", "ZZI"]))
    found = engine("fake_lagos", shots=20_000, mitigation="tensored")
    mitigated, raw = found.outputs_with_raw(model, X, W)
    exact = ExactEngine().outputs(model, X, W)
    assert np.abs(mitigated - exact).mean() < np.abs(raw - exact).mean()
    assert (found.usage.jobs, found.usage.pubs) == (1, 2)


def test_nothing_to_mitigate() -> None:
    found = engine(shots=2000, mitigation="tensored")
    with pytest.raises(
        ConfigError,
        match="readout mitigation undoes readout errors; got 'aer', whose calibration has none; "
        r"expected a device with readout errors\. Use mitigation: none",
    ):
        found.outputs(MODEL, X, W)


def test_mitigation_warns_of_few_shots() -> None:
    with pytest.warns(UserWarning, match="readout mitigation amplifies shot noise, and 64 shots"):
        engine("fake_lagos", shots=64, mitigation="tensored")


def test_a_step_that_was_cut_off_is_the_same_step_when_it_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other directions of SPSA would be another job beside one that goes on."""
    undisturbed = engine(journal=tmp_path / "one.db").vjp(MODEL, X, W, WEIGHTS)
    found = engine(journal=tmp_path / "two.db")
    client = found.source.session.client
    with monkeypatch.context() as patch:
        patch.setattr(client, "result", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            found.vjp(MODEL, X, W, WEIGHTS)
    again = found.vjp(MODEL, X, W, WEIGHTS)
    assert len(found.source.session.journal.jobs()) == 1
    np.testing.assert_array_equal(again[0], undisturbed[0])
    pulled = [pull(np.ones((5, 2)) * [1.0, -1.0])[1] for _, pull in (again, undisturbed)]
    np.testing.assert_array_equal(*pulled)
    assert np.any(found.vjp(MODEL, X, W, WEIGHTS)[0] != again[0])  # the next one is another


def test_no_rows_no_job() -> None:
    found = engine("fake_lagos", mitigation="tensored")
    mitigated, raw = found.outputs_with_raw(MODEL, X[:0], W)
    assert mitigated.shape == raw.shape == (0, 2)
    assert found.usage.jobs == 0


def test_seeds() -> None:
    one, same, other = engine(seed=1), engine(seed=1), engine(seed=2)
    values = [e.outputs(MODEL, X, W) for e in (one, same, other)]
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])
    assert not np.array_equal(one.outputs(MODEL, X, W), values[0])  # another job, other shots
    one.seek({"steps": 0, "drawn": 0})
    np.testing.assert_array_equal(one.outputs(MODEL, X, W), values[0])


def test_without_a_seed_a_journal_makes_a_program_repeat_itself(tmp_path: Path) -> None:
    journal = tmp_path / "jobs.db"
    values = [engine(seed=None, journal=journal).outputs(MODEL, X, W) for _ in range(2)]
    np.testing.assert_array_equal(values[0], values[1])
    values = [engine(seed=None).outputs(MODEL, X, W) for _ in range(2)]
    assert not np.array_equal(values[0], values[1])


def test_copies_share_the_station_and_count_for_themselves(tmp_path: Path) -> None:
    one = engine("fake_lagos", journal=tmp_path / "jobs.db", tiles=2)
    values = one.outputs(MODEL, X, W)
    one.seek({"steps": 0, "drawn": 0})
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        np.testing.assert_array_equal(other.outputs(MODEL, X, W), values)
        assert other.source.session is one.source.session
    assert one.usage.jobs == 1
    assert len(one.source.session.journal.jobs()) == 1


def test_a_journal_that_was_deleted_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    first = engine(journal=path)
    first.outputs(MODEL, X, W)
    for tail in ("", "-wal", "-shm"):
        path.with_name(f"{path.name}{tail}").unlink(missing_ok=True)
    second = engine(journal=path)
    second.outputs(MODEL, X, W)
    assert len(second.source.session.journal.jobs()) == 1
    assert second.source.session is not first.source.session


def test_budgets_hold_here_too(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="a device is used within a budget, and 'lab' has none"):
        engine("ibm_anything")  # no account is looked for
    with pytest.raises(
        ConfigError, match="a budget is a positive number of seconds; got budget_seconds: 0"
    ):
        engine("ibm_anything", budget_seconds=0.0)
    found = engine(budget_seconds=7.0, shots=1024, journal=tmp_path / "jobs.db")
    found.outputs(MODEL, X, W)
    found.outputs(MODEL, X, W)
    with pytest.raises(BudgetError, match="the jobs of 'lab' stay within their budget"):
        found.outputs(MODEL, X, W)
    jobs, drawn = found.usage.jobs, found.position()["drawn"]
    assert jobs == drawn == 2
    new_process()
    more = engine(budget_seconds=11.0, shots=1024, journal=tmp_path / "jobs.db")
    for _ in range(3):
        more.outputs(MODEL, X, W)
    assert more.source.session.counts["reused"] == 2


def test_the_least_busy_device_is_chosen_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = iter(["ibm_a", "ibm_b", "ibm_c"])
    target = fake_device("fake_lagos").target

    def open_device(options: Any) -> Any:
        name = next(busy) if options.device == "least_busy" else options.device
        return SimpleNamespace(name=name, target=target, rep_delay=1e-4)

    def open_client(options: Any) -> Any:
        return SimpleNamespace(device=open_device(options), local=False)

    monkeypatch.setattr(session_module, "open_device", open_device)
    monkeypatch.setattr(session_module, "open_client", open_client)
    options = entry("least_busy", budget_seconds=9.0, journal=tmp_path / "jobs.db")
    for _ in range(2):
        new_process()
        session = session_module.open_session(options, "lab")
        assert session.device.name == session.options.device == "ibm_a"
    # A later stage of the study, with settings and a budget of its own.
    stage = options.model_copy(update={"budget_seconds": 5.0, "shots": 9, "tiles": "auto"})
    assert session_module.open_session(stage, "fine").device.name == "ibm_a"
    elsewhere = options.model_copy(update={"journal": tmp_path / "other.db"})
    assert session_module.open_session(elsewhere, "lab").device.name == "ibm_b"
    other = options.model_copy(update={"instance": "crn:v1"})  # another account's devices
    assert session_module.open_session(other, "lab").device.name == "ibm_c"


def test_a_circuit_that_does_not_fit() -> None:
    wide = CircuitModel(angle(8), hardware_efficient(8, 1), ClassGroups(2, 8))
    with pytest.raises(DeviceError, match="a circuit is no wider than the device; got 8 qubits"):
        engine("fake_lagos").outputs(wide, RNG.normal(size=(1, 8)), np.zeros(wide.num_weights))


def test_reports(tmp_path: Path) -> None:
    found = engine("fake_lagos", journal=tmp_path / "jobs.db", tiles=2, budget_seconds=50.0)
    found.outputs(MODEL, X, W)
    facts = found.describe()
    assert (facts["device"], facts["budget_seconds"]) == ("fake_lagos", 50.0)
    assert facts["calibrated"].startswith("20")
    assert facts["spent_seconds"] == found.usage.qpu_seconds == facts["jobs"][0]["seconds"]
    assert [job["status"] for job in facts["jobs"]] == ["done"]
    (circuit,) = facts["circuits"]
    assert circuit["calibrated"] == facts["calibrated"]
    assert [sorted(t["qubits"]) for t in circuit["tiles"]] == [sorted(q) for q in circuit["layout"]]
    assert len(circuit["tiles"]) == 2
    rates = readout_rates(fake_device("fake_lagos"))
    np.testing.assert_array_equal(circuit["readout"], [rates[q] for q in circuit["layout"]])


# Primitives for other code


def test_primitives_for_any_circuit(tmp_path: Path) -> None:
    backend = Backend("lab", entry("fake_lagos", journal=tmp_path / "jobs.db", shots=500), "f")
    bell = QuantumCircuit(2)
    bell.h(0)
    bell.cx(0, 1)
    isa = backend.pass_manager().run(bell.measure_all(inplace=False))
    sampler = backend.sampler(seed=3)
    assert isinstance(sampler, RuntimeSampler)
    job = sampler.run([(isa,), (isa, None, 200), isa], shots=100)
    assert [r.data.meas.num_shots for r in job.result()] == [100, 200, 100]
    assert (job.done(), job.in_final_state(), job.running(), job.cancelled()) == (
        True,
        True,
        False,
        False,
    )
    assert job.status().name == "DONE"
    assert job.cancel() is None
    assert (job.cost.jobs, job.cost.pubs, job.cost.executions) == (2, 3, 400)
    assert job.job_id() == "+".join(job.job_ids)
    assert len(job.job_ids) == 2
    counts = job.result()[1].data.meas.get_counts()
    assert counts["00"] + counts["11"] > 150
    repeated = backend.sampler(seed=3).run([isa], shots=100).result()[0].data.meas
    fresh = backend.sampler().run([isa]).result()[0].data.meas
    assert fresh.num_shots == 500
    assert repeated == backend.sampler(seed=3).run([isa], shots=100).result()[0].data.meas
    assert backend.sampler().run([isa]).result()[0].data.meas != fresh

    isa = backend.pass_manager().run(bell)
    operator = SparsePauliOp("ZZ").apply_layout(isa.layout)
    estimator = backend.estimator(seed=1)
    assert isinstance(estimator, RuntimeEstimator)
    job = estimator.run([(isa, operator), (isa, operator, None, 0.5)])
    assert job.result()[0].data.evs == pytest.approx(0.9, abs=0.3)
    assert job.cost.jobs == 2


def test_an_engine_around_the_sampler_of_an_entry() -> None:
    backend = Backend("lab", entry("fake_lagos", budget_seconds=4.0), "f")
    found = sampler_engine(backend.sampler(seed=1), pass_manager=backend.pass_manager(), shots=100)
    found.outputs(MODEL, X, W)
    assert (found.usage.jobs, found.usage.pubs, found.usage.executions) == (1, 1, 500)
    assert found.usage.qpu_seconds == pytest.approx(2.127, abs=0.01)
    with pytest.raises(BudgetError, match="stay within their budget"):  # not an ExecutionError
        found.outputs(MODEL, X, W + 1)


# The service


@pytest.mark.parametrize("tiles", [1, 2])
def test_through_the_real_client(loopback: Any, tmp_path: Path, tiles: int) -> None:
    settings = loopback.runtime_options(
        journal=tmp_path / "jobs.db", budget_seconds=60.0, tiles=tiles, shots=200
    )
    options = RuntimeOptions.model_validate({"kind": "runtime", **settings})
    values = []
    for _ in range(2):
        new_process()
        found = Backend("ibm", options, "f").engine(seed=1)
        values.append([found.vjp(MODEL, X, W + step, WEIGHTS)[0] for step in range(2)])
        usage = found.usage
        assert (usage.jobs, usage.pubs) == (2, 2)
    assert usage.transpilations == 0
    np.testing.assert_array_equal(values[0], values[1])
    assert loopback.submitted == 2
    assert loopback.most_runs() == 1
    rows = math.ceil(5 * 9 / tiles)
    assert usage.executions == 2 * rows * 200
    exact = ExactEngine().outputs(MODEL, X, W)
    np.testing.assert_allclose(values[0][0], exact, atol=0.3)


def test_a_long_run_keeps_no_results_in_memory() -> None:
    found = engine(shots=8)
    for step in range(40):
        found.outputs(MODEL, X, W + step)
    session = found.source.session
    assert session.journal.result(session.journal.jobs()[-1].key) is None
    assert len(session.client._jobs) <= 16


@pytest.mark.filterwarnings("ignore:readout mitigation amplifies")
@pytest.mark.parametrize("tiles", [1, 2])
def test_readout_errors_are_those_in_force_when_a_job_ran(
    loopback: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiles: int
) -> None:

    forget()
    snapshot = loopback.devices["ibm_loopback"]
    settings = loopback.runtime_options(
        journal=tmp_path / "jobs.db", budget_seconds=600, mitigation="tensored", tiles=tiles
    )

    def run(*steps: int) -> tuple[RuntimeEngine, list[Any], list[Any]]:
        found = engine(**settings, shots=64)
        both = [found.outputs_with_raw(MODEL, X, W + step) for step in steps]
        return found, [m for m, _ in both], [r for _, r in both]

    def undone(raw: Any, a: float, b: float) -> Any:
        assignment = np.array([[1 - a, b], [a, 1 - b]])
        return mitigate(raw, [assignment])

    def one_qubit() -> CircuitModel:
        return CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(2, 3, qubits=(0,)))

    monkeypatch.setattr(sys.modules[__name__], "MODEL", one_qubit())
    dates = [snapshot.recalibrate(0.02, 0.05)]
    first, values, raw = run(0)
    np.testing.assert_allclose(values[0], undone(raw[0], 0.02, 0.05), atol=1e-12)
    dates.append(snapshot.recalibrate(0.2, 0.1))
    found = first.outputs_with_raw(MODEL, X, W + 1)
    np.testing.assert_allclose(found[0], undone(found[1], 0.2, 0.1), atol=1e-12)
    assert first.describe()["calibrations"] == dates
    # A job that had run before the device was calibrated again, and is fetched after.
    with monkeypatch.context() as patch:
        patch.setattr(RuntimeClient, "result", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            first.outputs(MODEL, X, W + 2)
    snapshot.recalibrate(0.3, 0.3)
    new_process()
    forget()
    again, values, raw = run(0, 1, 2)
    np.testing.assert_allclose(values[0], undone(raw[0], 0.02, 0.05), atol=1e-12)
    np.testing.assert_array_equal(values[1], found[0])
    np.testing.assert_allclose(values[2], undone(raw[2], 0.2, 0.1), atol=1e-12)
    assert again.describe()["calibrations"] == dates
    assert loopback.submitted == 3
    # A journal of before knows the rates of the day its circuits were made, and keeps to them.
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        db.execute("DELETE FROM pins WHERE name LIKE 'calibration:%'")
        db.commit()
    old, values, raw = run(0, 1)
    np.testing.assert_allclose(values[1], undone(raw[1], 0.02, 0.05), atol=1e-12)
    assert old.describe()["calibrations"] == []
    job = old.source.session.journal.jobs()[1].job_id
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        db.execute("INSERT INTO pins VALUES (?, '{', 0)", (f"calibration:{job}",))
        db.commit()
    with pytest.raises(StorageError, match="what a journal keeps in bytes"):
        run(0, 1)
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        db.execute("UPDATE pins SET body = ? WHERE name LIKE 'calibration:%'", (b'{"readout": 2}',))
        db.commit()
    with pytest.raises(StorageError, match="the calibration of a job is as it was written down"):
        run(0, 1)
    forget()


@pytest.mark.parametrize(
    "head",
    [
        b"{",
        b"[]",
        b"null",
        b'{"qubits": 3}',
        b'{"tiling": null, "qubits": [[0]]}',
        b'{"tiling": null, "qubits": [[0]], "readout": "x", "calibrated": null}',
    ],
)
def test_what_is_kept_with_a_circuit_was_altered(head: bytes, tmp_path: Path) -> None:
    settings = {"journal": tmp_path / "jobs.db", "shots": 8}
    engine(**settings).outputs(MODEL, X, W)
    new_process()
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        ((body,),) = db.execute("SELECT body FROM pins WHERE name LIKE 'circuit:%'").fetchall()
        altered = head + b"\n" + body.partition(b"\n")[2]
        db.execute("UPDATE pins SET body = ? WHERE name LIKE 'circuit:%'", (altered,))
        db.commit()
    with pytest.raises(StorageError, match="a circuit of the journal is damaged; got "):
        engine(**settings).outputs(MODEL, X, W)


def test_a_call_of_several_jobs_is_corrected_row_by_row(
    loopback: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qiskit_kd.execution.runtime import cost

    forget()
    snapshot = loopback.devices["ibm_loopback"]
    monkeypatch.setattr(cost, "MAX_EXECUTIONS", 3 * 1000)
    model = CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(2, 3, qubits=(0,)))
    rates = iter([(0.2, 0.1), (0.3, 0.3)])
    snapshot.recalibrate(0.02, 0.05)
    real = RuntimeClient.result
    monkeypatch.setattr(
        RuntimeClient,
        "result",
        lambda *a, **k: (real(*a, **k), snapshot.recalibrate(*next(rates)))[0],
    )
    found = engine(
        **loopback.runtime_options(
            journal=tmp_path / "jobs.db", budget_seconds=600, mitigation="tensored"
        ),
        shots=1000,
    )
    values, raw = found.outputs_with_raw(model, X, W)
    assert loopback.submitted == 2
    for rows, (a, b) in ((slice(0, 3), (0.02, 0.05)), (slice(3, 5), (0.2, 0.1))):
        wanted = mitigate(raw[rows], [np.array([[1 - a, b], [a, 1 - b]])])
        np.testing.assert_allclose(values[rows], wanted, atol=1e-12)
    forget()
