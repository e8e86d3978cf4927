# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from device_study import STUDY, devices, unreachable  # noqa: F401 (a fixture)
from test_runner import Inline

from qiskit_kd.errors import (
    AccountError,
    BudgetError,
    ConfigError,
    ExecutionError,
    JobError,
    QiskitKDError,
    QuotaError,
    StorageError,
    TransientError,
    UncertainJobError,
)
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.experiment import study as study_module
from qiskit_kd.experiment import task as task_module
from qiskit_kd.experiment.cost import estimate
from qiskit_kd.experiment.devices import open_backend
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.plan import Task, plan
from qiskit_kd.experiment.spending import (
    Outlook,
    check_budgets,
    devices_of,
    few_shots_of,
    jobs_of,
    limits_of,
    opened_at_home,
    spent_of,
    stopped,
)
from qiskit_kd.experiment.store import Store
from qiskit_kd.experiment.study import Study
from qiskit_kd.report.costs import spent_text
from tests.execution.runtime.study import forget

pytestmark = [
    pytest.mark.usefixtures("devices"),
    pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning"),
]


def run(out: str | Path, *overrides: str, **options: Any) -> Study:
    """A run in this process, as far as a process that starts anew would know."""
    forget()
    study = Study.load("device.yaml", overrides)
    study.run(out, executor=Inline(), **options)
    return study


def texts(out: str | Path) -> dict[str, str]:
    with Store(out) as store:
        return store.texts()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study at one go."""
    from device_study import BACKENDS

    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "backends.yaml").write_text(BACKENDS)
        (folder / "device.yaml").write_text(STUDY)
        patch.setenv("QISKIT_KD_BACKENDS", str(folder / "backends.yaml"))
        patch.chdir(folder)
        run("out")
    return folder / "out"


# Which devices, and whether they may be used.


def test_devices_are_those_that_circuits_run_on() -> None:
    assert [(d.name, d.options.device) for d in devices_of(parse(STUDY))] == [("device", "aer")]
    none = ["evaluation.backend=exact", "variants.tuned.fine_tune.backend=exact"]
    assert devices_of(parse(STUDY, none)) == []
    places = {
        "backend=lagos": "lagos",
        "variants.plain.backend=lagos": "lagos",
        "evaluation.side_by_side={backends: [exact, lagos]}": "lagos",
        "evaluation.backend=lagos": "lagos",
        "variants.tuned.fine_tune.backend=lagos": "lagos",
    }
    for override, name in places.items():
        assert name in [d.name for d in devices_of(parse(STUDY, [*none, override]))], override
    axes = "axes={shots: {key: backends.device.shots, values: [8, 16]}}"
    assert [d.shots for d in devices_of(parse(STUDY, [axes]))] == [8, 16]
    unused = "students.quantum.variants=[plain]"
    assert devices_of(parse(STUDY, ["evaluation.backend=exact", unused])) == []


@pytest.mark.parametrize(
    ("where", "budget", "kind", "message"),
    [
        ("ibm", "null", BudgetError, r"a device is used within a budget, and 'device' has none"),
        ("ibm", "0", ConfigError, r"a budget is a positive number of seconds; got budget_seconds: "
                                  "0; expected more than 0"),
        ("aer", "-1", ConfigError, r"a budget is a positive number of seconds"),
    ],
)  # fmt: skip
def test_refused_before_anybody_is_asked(
    monkeypatch: pytest.MonkeyPatch, where: str, budget: str, kind: type[Exception], message: str
) -> None:
    asked = unreachable(monkeypatch)
    monkeypatch.setattr(study_module, "warm_pool", lambda _: pytest.fail("a worker was started"))
    settings = [f"backends.device={{base: {where}, budget_seconds: {budget}}}"]
    told: list[Outlook] = []
    with pytest.raises(kind, match=message):
        Study.load("device.yaml", settings).run("out", announce=told.append)
    assert (asked, told, Path("out").exists(), Path("qiskit_kd-jobs.db").exists()) == (
        [], [], False, False
    )  # fmt: skip
    assert list(Path().glob("*.db")) == []


def test_an_entry_that_is_not_used_needs_no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable(monkeypatch)
    check_budgets(devices_of(parse(STUDY, ["backends.other={base: ibm}"])))


def test_a_plan_contacts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = unreachable(monkeypatch)
    settings = ["backends.device={base: ibm, budget_seconds: 5}"]
    assert len(Study.load("device.yaml", settings).tasks()) == 2 * (1 + 2)
    assert (asked, list(Path().glob("*.db"))) == ([], [])
    with pytest.raises(AssertionError, match="ibm_fez was contacted"):
        plan(parse(STUDY, settings))  # the test can fail
    here = opened_at_home({"name": "aer"}, shots=9)
    assert (type(here).__name__, here.shots) == ("Backend", 9)


def test_a_plan_writes_into_no_journal_of_an_entry() -> None:
    settings = ["backends.device={base: lagos, journal: theirs.db}"]
    assert Study.load("device.yaml", settings).tasks()
    place = parse(STUDY, settings).resolved_points[0].place("device")
    opened_at_home(place).engine()
    assert not Path("theirs.db").exists()
    open_backend(place).engine()
    assert Path("theirs.db").exists()  # the test can fail


@pytest.mark.parametrize("where", ["aer", "ibm"])
def test_workers(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    unreachable(monkeypatch)
    started: list[int] = []
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(study_module, "warm_pool", started.append)
    monkeypatch.setattr(study_module, "discard", lambda *_: None)
    monkeypatch.setattr(study_module, "run", lambda *_, **__: None)
    monkeypatch.setenv("QKD_BUDGET_SECONDS", "5")
    settings = [f"backends.device={{base: {where}, budget_seconds: 5}}"]
    Study.load("device.yaml", settings).run("out")
    Study.load("device.yaml", settings).run("other", workers=3)
    assert started == [7 if where == "aer" else 1, 3]


# What it will cost.


def test_the_price_is_told_before_anything_is_done(calm: Path) -> None:
    told: list[tuple[Outlook, bool]] = []
    study = run("out", announce=lambda it: told.append((it, Path("out").exists())))
    ((outlook, begun),) = told
    assert not begun
    whole = estimate(study.config)
    assert outlook.estimate.kinds == whole.kinds
    assert outlook.estimate.sites == whole.sites
    assert (outlook.estimate.choices, len(whole.choices)) == ((), 4)
    assert outlook.estimate.stock.seconds == 0 < whole.stock.seconds
    assert (outlook.spent, outlook.local, outlook.warnings) == ({}, True, ())
    assert study.result().estimate == json.loads(json.dumps(outlook.estimate.as_dict()))
    counted = study.result().spent["device"]["seconds"]
    # Fine tuning may leave weights alone: what they give was measured already.
    assert counted is not None
    assert 0.6 * whole.cost.seconds < counted <= whole.cost.seconds
    study.run("out", executor=Inline(), announce=lambda _: pytest.fail("there is nothing to do"))
    assert texts("out") == texts(calm)


def test_a_stop_by_whoever_is_told() -> None:
    def refuse(_: Outlook) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("out", announce=refuse)
    assert not Path("out").exists()


def test_more_than_the_budget_is_said_beforehand() -> None:
    config = parse(STUDY)
    found, backends = estimate(config, compared=False), devices_of(config)
    assert Outlook.of(found, backends, {"device": 3.0}, 2).warnings == ()
    (site,) = found.sites
    small = replace(found, sites=(replace(site, budget_seconds=site.cost.seconds - 0.1),))
    (said,) = Outlook.of(small, backends, {}, 1).warnings
    assert said.startswith(f"{site.cost.seconds:,.0f} s on 'device' are expected, more than its ")
    assert said.endswith("the run stops before crossing it")
    away = devices_of(parse(STUDY, ["backends.device={base: ibm, budget_seconds: 9}"]))
    assert [Outlook.of(found, d, {}, 1).local for d in (backends, away)] == [True, False]


def test_students_without_circuits_cost_nothing() -> None:
    Path("device.yaml").write_text(
        STUDY.replace("quantum: {kind: fully_quantum, options: {encoding: angle, num_qubits: 2, "
                      "layers: 1}}", "small: {kind: linear}")
    )  # fmt: skip
    study = run("out", announce=lambda _: pytest.fail("no circuit runs anywhere"))
    assert study.result().missing == 0
    assert (study.result().jobs, study.result().spent) == ((), {})


# What does not change results is no part of a task.


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:options of the backend")  # of a device played here
def test_limits_and_accounts_are_no_part_of_a_key() -> None:
    def keys(*overrides: str) -> list[str]:
        return [t.key for t in plan(parse(STUDY, overrides), opened=opened_at_home)]

    everywhere = ["backend=device", "evaluation.side_by_side={backends: [exact, device]}"]
    for more in ([], everywhere):
        before = keys(*more)
        for name, value in {
            "budget_seconds": "9", "usd_per_second": "3", "account": "mine",
            "url": "http://cloud.ibm.test", "proxies": "{urls: {http: 'http://127.0.0.1:1'}}",
            "max_execution_time": "60", "journal": "mine.db", "instance": "crn:v1",
            "channel": "ibm_cloud", "mode": "batch", "tags": "[mine]", "description": "mine",
        }.items():  # fmt: skip
            assert keys(*more, f"backends.device.{name}={value}") == before, name
        assert keys(*more, "backends.device={base: aer}") == before
        for name, value in {"shots": "33", "rep_delay": "0.001", "tiles": "auto"}.items():
            other = keys(*more, f"backends.device.{name}={value}")
            assert other[:2] == before[:2]  # teachers
            assert not {*other[2:]} & {*before[2:]}, name


def test_a_price_that_is_set_later_starts_nothing_anew(calm: Path) -> None:
    from shutil import copytree

    copytree(calm, "out")
    study = Study.load("device.yaml", ["backends.device.usd_per_second=2",
                                       "backends.device.budget_seconds=700"])  # fmt: skip
    study.run("out", executor=Inline())
    assert study.summary is not None
    assert (study.summary.done, study.summary.found) == (0, 6)
    sums = study.result().spent["device"]
    assert sums["usd"] == pytest.approx(2 * (sums["seconds"] or 0))
    assert sums["budget_seconds"] == 700


# What was spent.


def test_jobs_and_costs_of_a_study(calm: Path) -> None:
    result = Study.load(calm).result()
    assert {*result.jobs[0]} == {
        "backend", "device", "job_id", "status", "shots", "executions", "pubs", "seconds", "usd",
        "created", "sent", "finished", "estimate", "error",
    }  # fmt: skip
    json.dumps(result.jobs, allow_nan=False)
    journal = Journal(calm / "jobs.db")
    records = journal.jobs()
    journal.close()
    assert len(result.jobs) == len(records) > 10
    for job, record in zip(result.jobs, records, strict=True):
        assert (job["job_id"], job["status"]) == (record.job_id, "done")
        assert (job["backend"], job["device"]) == ("device", "aer")
        assert (job["shots"], job["pubs"]) == (32, 1)
        assert job["usd"] == pytest.approx(1.5 * job["seconds"])
        assert job["created"] <= job["sent"] <= job["finished"]
        assert job["seconds"] == pytest.approx(job["estimate"], rel=1e-6)
    assert len({job["job_id"] for job in result.jobs}) == len(records)
    seconds = sum(record.seconds for record in records)
    assert result.spent == {
        "device": {
            "jobs": len(records), "executions": sum(record.executions for record in records),
            "seconds": pytest.approx(seconds), "usd": pytest.approx(1.5 * seconds),
            "budget_seconds": 600.0,
        }
    }  # fmt: skip
    # Rows and journal speak of the same; a job that two rows asked for was paid once.
    asked = sum(row["devices"][0]["usage"]["jobs"] for row in result.rows if "devices" in row)
    assert len(records) <= asked <= len(records) + 2


def test_prices_are_those_of_the_entry_or_of_the_journal(calm: Path) -> None:
    of_journal = jobs_of(calm)
    assert all(job["usd"] == pytest.approx(1.5 * job["seconds"]) for job in of_journal)
    dearer = jobs_of(calm, {"device": 3.0, "other": 1.0})
    assert [job["usd"] for job in dearer] == pytest.approx([2 * job["usd"] for job in of_journal])
    assert limits_of(devices_of(parse(STUDY)), "usd_per_second") == {"device": 1.5}


def test_sums_of_several_backends() -> None:
    def job(backend: str, status: str, seconds: float, usd: float | None) -> dict[str, Any]:
        return {"backend": backend, "status": status, "executions": 10, "seconds": seconds,
                "usd": usd}  # fmt: skip

    jobs = [job("a", "done", 2.0, 3.0), job("b", "done", 1.0, None), job("a", "failed", 1.0, 1.5),
            job("a", "intent", 0.0, None)]  # fmt: skip
    assert spent_of(jobs, {"a": 7.0}) == {
        "a": {"jobs": 3, "executions": 10, "seconds": 3.0, "usd": 4.5, "budget_seconds": 7.0},
        "b": {"jobs": 1, "executions": 10, "seconds": 1.0, "usd": None, "budget_seconds": None},
    }
    assert spent_of([]) == {}


def test_entries_of_one_device_share_its_budget() -> None:
    def job(backend: str, device: str, seconds: float) -> dict[str, Any]:
        return {"backend": backend, "device": device, "status": "done", "executions": 1,
                "seconds": seconds, "usd": None}  # fmt: skip

    jobs = [job("a", "ibm_x", 2.0), job("renamed", "ibm_x", 1.5), job("c", "ibm_y", 1.0)]
    found = spent_of(jobs, {"a": 7.0, "renamed": 7.0, "c": 7.0})
    assert [sums.get("device_seconds") for sums in found.values()] == [3.5, 3.5, None]
    error = stopped(BudgetError("no"), folder=Path("x"), missing=1, total=3, spent=found)
    assert "renamed: 1.5 s, 3.5 s by all entries of its device, of its budget of 7 s" in str(error)
    assert "c: 1.0 s of its budget of 7 s spent in 1 jobs." in str(error)
    assert spent_text([], found) == [
        "a: 1 job, 2.0 s, 3.5 s by all entries of its device, of a budget of 7 s.",
        "renamed: 1 job, 1.5 s, 3.5 s by all entries of its device, of a budget of 7 s.",
        "c: 1 job, 1.0 s of a budget of 7 s.",
    ]


def test_a_folder_without_jobs(tmp_path: Path) -> None:
    assert jobs_of(tmp_path) == []
    (tmp_path / "jobs.db").touch()  # of a run that was killed as it began
    assert jobs_of(tmp_path) == []
    assert [path.name for path in tmp_path.glob("jobs*")] == ["jobs.db"]


def test_a_journal_that_may_only_be_read(calm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = jobs_of(calm)
    before = {path: path.stat().st_mtime_ns for path in calm.iterdir()}
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
    assert jobs_of(calm) == want
    assert {path: path.stat().st_mtime_ns for path in calm.iterdir()} == before


def test_a_damaged_journal(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match=r"the journal .*jobs.db is damaged; got file is not a"):
        jobs_of(tmp_path)


def test_a_backend_file_that_has_changed_since(calm: Path) -> None:
    file = Path(os.environ["QISKIT_KD_BACKENDS"])
    file.write_text("schema: 1\nbackends: {exact: {kind: exact}}\n")
    result = Study.load(calm).result()
    assert result.spent["device"]["usd"] == pytest.approx(
        1.5 * (result.spent["device"]["seconds"] or 0)
    )
    assert result.spent["device"]["budget_seconds"] is None


# The end of the money.


def test_a_study_stops_at_its_budget_and_goes_on_with_a_larger_one(calm: Path) -> None:
    whole = Study.load(calm).result().spent["device"]["seconds"]
    assert whole is not None
    budget = round(0.55 * whole, 1)
    with pytest.raises(BudgetError) as caught:
        run("out", f"backends.device.budget_seconds={budget}")
    result = Study.load("out").result()
    spent = result.spent["device"]["seconds"]
    assert spent is not None
    assert 0.3 * whole < spent <= budget
    assert 0 < result.missing < len(texts(calm))
    lines = str(caught.value).split("\n  ")
    assert lines[0].startswith("the jobs of 'device' stay within their budget; got ")
    assert lines[1:] == [
        f"{result.missing} of 6 tasks have no row yet; the others are in out.",
        f"device: {spent:.1f} s of its budget of {budget:g} s spent in {len(result.jobs)} jobs.",
        "Run the same command again with a larger budget_seconds: it goes on from there, and no "
        "job is paid for twice.",
    ]
    assert len(result.failures) == 1  # nobody else was started
    with Store("out") as store:
        tried = Counter(key for key, _ in store.attempts())
    assert {*tried} == {*texts("out"), *result.failures}
    assert texts("out").items() <= texts(calm).items()
    with pytest.raises(BudgetError, match="have no row yet"):
        run("out", f"backends.device.budget_seconds={budget}")  # nothing is paid for being told
    assert Study.load("out").result().spent["device"]["seconds"] == spent
    told: list[Outlook] = []
    done = run("out", announce=told.append)
    assert told[0].spent == {"device": spent}
    assert texts("out") == texts(calm)
    assert done.result().spent["device"]["seconds"] == pytest.approx(whole)
    assert {job["job_id"] for job in done.result().jobs} == {
        job["job_id"] for job in Study.load(calm).result().jobs
    }


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, at: int) -> list[str]:
    real, labels = task_module.run_task, []

    def sometimes(spec, **options):
        labels.append(spec["variant"])
        if len(labels) == at:
            raise error
        return real(spec, **options)

    monkeypatch.setattr(task_module, "run_task", sometimes)
    return labels


@pytest.mark.parametrize(
    "kind", [AccountError, BudgetError, QuotaError, TransientError, UncertainJobError]
)
def test_what_no_other_task_could_help_ends_the_study(
    monkeypatch: pytest.MonkeyPatch, kind: type[QiskitKDError]
) -> None:
    asked = failing(monkeypatch, kind("that is that", remedy="Do something."), at=4)
    with pytest.raises(kind) as caught:
        run("out")
    assert type(caught.value) is kind
    lines = str(caught.value).split("\n  ")
    assert lines[:2] == ["that is that. Do something.",
                         "3 of 6 tasks have no row yet; the others are in out."]  # fmt: skip
    end = "with a larger budget_seconds: " if kind is BudgetError else "after that: "
    assert lines[-1] == (
        f"Run the same command again {end}it goes on from there, and no job is paid for twice."
    )
    assert len(asked) == 4
    assert run("out").result().missing == 0


@pytest.mark.parametrize("kind", [JobError, ExecutionError, ConfigError])
def test_other_failures_end_one_task(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    failing(monkeypatch, kind("no luck"), at=4)
    assert run("out").result().missing == 1


def test_what_is_said_where_nothing_was_spent() -> None:
    error = stopped(AccountError("no account"), folder=Path("here"), missing=3, total=3, spent={})
    assert str(error) == (
        "no account\n  3 of 3 tasks have no row yet; the others are in here.\n  Run the same "
        "command again after that: it goes on from there, and no job is paid for twice."
    )
    free = {"d": {"jobs": 2, "executions": 5, "seconds": 1.25, "usd": None, "budget_seconds": None}}
    text = str(stopped(QuotaError("no time"), folder=Path("x"), missing=1, total=3, spent=free))
    assert "\n  d: 1.2 s spent in 2 jobs.\n" in text


# Few shots.

MITIGATED = ["backends.device={base: lagos, mitigation: tensored}"]
FEW = "readout mitigation amplifies shot noise, and {} shots are few"


def test_few_shots_are_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    more = ["seeds=1", "variants.tuned.fine_tune.training.epochs=1",
            "evaluation.side_by_side={backends: [exact, device], samples: 4}"]  # fmt: skip
    with pytest.warns(UserWarning, match=FEW.format(32)) as caught:
        study = run("out", *MITIGATED, *more)
    said = [str(one.message) for one in caught if "mitigation" in str(one.message)]
    assert len(said) == 1
    assert said[0].startswith(FEW.format(32))
    assert study.result().missing == 0
    assert "raw" in study.rows()[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        study.run("out", executor=Inline())  # there is nothing to do


def test_which_shots_are_few() -> None:
    def shots(*overrides: str) -> int | None:
        return few_shots_of(plan(parse(STUDY, overrides), opened=opened_at_home))

    assert shots() is None
    with pytest.warns(UserWarning, match=FEW.format(32)):
        assert shots(*MITIGATED) == 32
    own = "students.quantum.options.shots=16"
    with pytest.warns(UserWarning, match=FEW.format(16)):
        assert shots(*MITIGATED, own) == 16
    noisy = ["backends.other={base: noisy, mitigation: tensored, shots: 50}", "backend=other"]
    with pytest.warns(UserWarning, match=FEW.format(50)):
        assert shots(*noisy) == 50
    assert shots(*noisy, "backends.other.shots=5000") == 5000
    assert shots("backends.unused={base: lagos, mitigation: tensored}") is None
    assert few_shots_of([Task("k", "student", "s", "v", 0, None, {})]) is None
