# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import Executor, Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from qiskit_kd import cli
from qiskit_kd.experiment import study as study_module
from qiskit_kd.experiment.store import Store

TINY = """\
name: tiny
data: {kind: digits, options: {classes: [3, 5], train: 20, validation: 30, test: 40, transfer: 20}}
teacher: {kind: mlp}
students:
  linear: {kind: linear}
  quantum: {kind: fully_quantum, options: {layers: 1, ansatz_options: {}}}
variants:
  plain: {terms: [{loss: ce}]}
  distilled: {teacher: teacher, temperature: [1, 4], terms: [{loss: ce}, {loss: kl}]}
  shuffled:
    {teacher: teacher, placebo: shuffled, temperature: [1, 4], terms: [{loss: ce}, {loss: kl}]}
seeds: 3
training: {epochs: 2}
presets:
  quick: {seeds: 1, training: {epochs: 1}}
"""


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks run in this process: starting workers takes seconds."""

    class Inline(Executor):
        def submit(self, fn, /, *args, **kwargs):
            future: Future[Any] = Future()
            future.set_result(fn(*args, **kwargs))
            return future

    real = study_module.run

    def here(tasks, store, *, executor=None, **options):
        return real(tasks, store, executor=executor or Inline(), **options)

    monkeypatch.setattr(study_module, "run", here)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def call(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_run_prints_table_verdict_and_report(tiny: Path) -> None:
    done = call("run", "tiny.yaml", "--seeds", 2, "training.epochs=1", "--out", "here")
    assert done.exit_code == 0, done.output
    for text in ("quantum", "linear", "plain", "distilled"):
        assert text in done.stdout.replace("alone", "plain")
    assert "report: here/report.html" in done.stdout
    assert "tasks done" not in done.stdout
    assert "22 of 22 tasks done" in done.stderr
    assert Path("here/report.html").stat().st_size > 10_000
    again = call("run", "tiny.yaml", "--seeds", 2, "training.epochs=1", "--out", "here")
    assert again.exit_code == 0
    assert again.stdout == done.stdout
    assert "tasks done" not in again.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_json_is_the_last_thing_on_stdout(tiny: Path) -> None:
    done = call("run", tiny, "--preset", "quick", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == ["experiment", "rows", "report", "table", "comparisons", "usage"]
    assert found["usage"] == {}
    assert found["experiment"] == "tiny"
    assert found["rows"] == 1 + 2 * 3
    assert found["report"] == "runs/tiny/report.html"
    assert {tuple(entry) for entry in found["table"]} == {
        ("student", "variant", "parameters", "n", "accuracy", "macro_f1", "collapsed")
    }
    assert {tuple(entry) for entry in found["comparisons"]} == {
        ("student", "variant", "baseline", "metric", "gain", "ci95", "n", "verdict", "shared",
         "p_sign_flip")
    }  # fmt: skip
    again = call("report", "runs/tiny", "--json")
    assert json.loads(again.stdout.splitlines()[-1]) == found
    before = {path: path.stat().st_mtime_ns for path in Path("runs/tiny").glob("*.*")}
    other = call("report", "runs/tiny", "--out", "else", "--json")
    assert json.loads(other.stdout.splitlines()[-1])["report"] == "else/report.html"
    assert Path("else/report.html").is_file()
    assert before == {path: path.stat().st_mtime_ns for path in Path("runs/tiny").glob("*.*")}


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_failed_tasks_are_status_4(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_kd.experiment import task

    real = task.run_task

    def sometimes(spec, **options):
        if spec["student"] == "linear":
            raise ValueError("no luck today")
        return real(spec, **options)

    monkeypatch.setattr(task, "run_task", sometimes)
    done = call("run", tiny, "--preset", "quick", "--json")
    assert done.exit_code == 4
    once = "failed: linear, plain, seed 0: ValueError: no luck today"
    assert done.stderr.count(once) == 1
    assert "5 tasks have no row; their tracebacks are in study.db" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 4
    monkeypatch.setattr(task, "run_task", real)
    assert call("run", tiny, "--preset", "quick").exit_code == 0


@pytest.mark.usefixtures("inline")
def test_interrupt_is_status_130(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_kd.experiment import task

    real, calls = task.run_task, []

    def interrupted(spec, **options):
        calls.append(spec)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(spec, **options)

    monkeypatch.setattr(task, "run_task", interrupted)
    done = call("run", tiny, "--preset", "quick", "--out", "here")
    assert done.exit_code == 130
    assert "interrupted; finished rows are kept in here. Run the same command again" in done.stderr
    with Store("here") as store:
        assert len(store.keys()) == 2


def test_faults_of_the_file_are_status_2(tiny: Path) -> None:
    tiny.write_text(TINY.replace("kind: linear", "kind: lineer").replace("epochs: 2", "epoch: 2"))
    done = call("run", "tiny.yaml")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("qkd: error: 2 faults in tiny.yaml:\n")
    assert "tiny.yaml:5:18: students.linear.kind: unknown student; got 'lineer'" in done.stderr
    assert "tiny.yaml:13:12: training.epoch: unknown key; got 'epoch'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "c2q-digit"), "unknown experiment; got 'c2q-digit'. did you mean 'c2q-digits'?"),
        (("run", "tiny.yml"), "the experiment file does not exist; got 'tiny.yml'"),
        (("run", "tiny.yaml", "training.epohcs=3"), "override training.epohcs: unknown key"),
        (("run", "tiny.yaml", "oops"), "an override reads key=value; got 'oops'"),
        (("run", "tiny.yaml", "--preset", "quik"), "unknown preset; got 'quik'"),
        (("run", "tiny.yaml", "data.options.train=9999"), "data: the parts of a split fit"),
        (("run", "tiny.yaml", "backend=exakt"), "unknown backend; got 'exakt'"),
        (("run", "tiny.yaml", "variants.distilled.terms.1.options.temperature=-2"),
         "override variants.distilled.terms.1.options.temperature: a temperature is a positive"),
    ],
)  # fmt: skip
def test_usage_errors(tiny: Path, words: tuple[str, ...], message: str) -> None:
    done = call(*words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize("words", [(), ("training.epochs=1",), ("--preset", "quick")])
def test_a_folder_is_not_run(tiny: Path, words: tuple[str, ...]) -> None:
    Path("mine").mkdir()
    done = call("run", "mine", *words)
    assert done.exit_code == 2
    assert "an experiment is a YAML file or a shipped name; got the folder mine" in done.stderr


def test_losses_and_samples_are_tried_beforehand(tiny: Path) -> None:
    text = TINY.replace("{loss: kl}", "{loss: kl, options: {temperature: -2}}", 1)
    tiny.write_text(text)
    done = call("run", "tiny.yaml")
    assert done.exit_code == 2
    assert "variants.distilled.terms.1.options.temperature: a temperature is a positive" in (
        done.stderr
    )
    assert "tiny.yaml:9:" in done.stderr
    assert done.stderr.count("a temperature is") == 1
    tiny.write_text(TINY)
    done = call("run", "tiny.yaml", "variants.distilled.terms.1.loss=dkd")
    assert done.exit_code == 2
    assert "variants.distilled.terms.1: decoupled distillation compares" in done.stderr
    assert not Path("runs").exists()


def test_help_says_the_defaults() -> None:
    text = " ".join(call("run", "--help").stdout.replace("│", " ").split())
    assert "runs/NAME if left out" in text
    assert "one per core if left out, one for a remote device" in text
    assert "[KEY=VALUE]..." in text


def test_unknown_option_and_command() -> None:
    assert call("run", "x", "--sedes", "3").exit_code == 2
    assert call("rnu").exit_code == 2


def test_storage_errors_are_status_1(tiny: Path) -> None:
    Path("here").mkdir()
    Path("here/study.db").write_text("not a database, but the only copy of something" * 50)
    before = Path("here/study.db").read_bytes()
    for words in (("run", "tiny.yaml", "--out", "here"), ("report", "here")):
        done = call(*words)
        assert done.exit_code == 1
        assert "here/study.db is damaged; got file is not a database" in done.stderr
    assert Path("here/study.db").read_bytes() == before
    done = call("report", "nowhere")
    assert (done.exit_code, "nowhere holds no study" in done.stderr) == (1, True)


def test_debug_shows_the_traceback(tiny: Path) -> None:
    done = call("run", "c2q-digit", "--debug")
    assert type(done.exception).__name__ == "UnknownNameError"


def test_init_writes_something_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("init")
    assert done.exit_code == 0
    assert "wrote experiment.yaml; try: qkd run experiment.yaml --preset quick" in done.stdout
    again = call("init")
    assert again.exit_code == 2
    assert "the file exists already; got experiment.yaml" in again.stderr
    assert "networks" not in call("run", "experiment.yaml", "training.epohcs=1").stderr


def test_backends() -> None:
    done = call("backends")
    assert done.exit_code == 0, done.output
    for name in ("exact", "exact_shots", "aer", "aer_shots"):
        assert name in done.stdout
    found = json.loads(call("backends", "--json").stdout)
    assert {"exact", "aer_shots"} <= set(found["backends"])


@pytest.mark.slow
def test_circuits(tmp_path: Path) -> None:
    done = call("circuits", "export", tmp_path)
    assert done.exit_code == 0, done.output
    assert str(tmp_path) in done.stdout
    done = call("circuits", "verify", tmp_path)
    assert done.exit_code == 0, done.output
    assert "are what their generators make" in done.stdout
    next(tmp_path.rglob("*.qasm")).write_text("OPENQASM 3.0;")
    done = call("circuits", "verify", tmp_path)
    assert done.exit_code == 1
    assert "the published circuits are not what their generators make" in done.stderr


ON_A_DEVICE = """\
schema: 1
backends:
  exact: {kind: exact}
  device: {kind: runtime, device: aer, shots: 16, usd_per_second: 1.6}
"""


@pytest.fixture
def device(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny.parent / "devices.yaml"
    path.write_text(ON_A_DEVICE)
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(path))


@pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")
@pytest.mark.usefixtures("device")
def test_estimate_prints_price_and_plan() -> None:
    words = ("estimate", "tiny.yaml", "--preset", "quick", "--backend", "device")
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("tiny: ")
    for text in ("600 s that IBM's free plan has", "on device (aer", "shuffled", "together", "USD",
                 "SPSA, no tiling", "parameter shift, no tiling", "stock SamplerQNN"):  # fmt: skip
        assert text in " ".join(done.stdout.split())
    found = json.loads(call(*words, "--json").stdout)
    assert found["experiment"] == "tiny"
    one, more = found["total"], json.loads(call(*words, "--seeds", 2, "--json").stdout)["total"]
    assert (more["jobs"], more["executions"]) == (2 * one["jobs"], 2 * one["executions"])
    assert one["usd"] == pytest.approx(1.6 * one["seconds"])
    assert f"{one['jobs']:,} jobs" in " ".join(done.stdout.split())
    longer = json.loads(call(*words, "training.epochs=2", "--json").stdout)["total"]
    assert longer["jobs"] > one["jobs"]
    assert not Path("runs").exists()


@pytest.mark.usefixtures("device")
def test_estimate_needs_a_device() -> None:
    done = call("estimate", "tiny.yaml", "--backend", "exact")
    assert done.exit_code == 2
    assert "an estimate is for a device; got 'exact' of kind 'exact'" in done.stderr
    assert "expected a backend of kind 'runtime': device" in done.stderr


@pytest.mark.usefixtures("tiny")
def test_what_is_refused_for_money_is_status_3(monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_kd.errors import BudgetError
    from qiskit_kd.experiment import cost

    def refuse(*_: object) -> None:
        raise BudgetError("a device is used within a budget", got="none")

    monkeypatch.setattr(cost, "estimate", refuse)
    done = call("estimate", "tiny.yaml")
    assert done.exit_code == 3
    assert "qkd: error: a device is used within a budget; got none" in done.stderr


def test_doctor_shows_accounts_without_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "secret-of-the-environment")
    (tmp_path / ".qiskit").mkdir()
    accounts = {"mine": {"token": "secret-of-the-file", "channel": "ibm_quantum_platform"}}
    path = tmp_path / ".qiskit" / "qiskit-ibm.json"
    path.write_text(json.dumps(accounts))
    for words in (("doctor",), ("doctor", "--json")):
        done = call(*words)
        assert done.exit_code == 0, done.output
        assert "secret" not in done.output
        for text in ("torch", "mine", "ibm_quantum_platform", "QISKIT_IBM_TOKEN", "c2q-digits"):
            assert text in done.stdout
    path.write_text("{")
    assert "cannot be read as JSON" in call("doctor").stdout


# As a program.


def program(*words: object, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qiskit_kd.cli", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, qiskit_kd.cli; heavy = {'torch', 'qiskit', 'numpy', 'sklearn', 'pydantic', "
        "'matplotlib', 'yaml'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    times = []
    for _ in range(4):
        begun = os.times()
        out, _ = program("--help").communicate()
        ended = os.times()
        assert "run" in out
        times.append(
            ended.children_user - begun.children_user + ended.children_system
            - begun.children_system
        )  # fmt: skip
    assert min(times) < 0.4  # processor time: other programs do not count


@pytest.mark.slow
def test_killed_and_run_again_it_ends_with_the_same_rows_bit_for_bit(tiny: Path) -> None:
    """The real thing: spawned workers, SIGKILL of the driver at a random moment, run again."""
    calm = program("run", tiny, "--out", "calm", "--workers", 2, cwd=tiny.parent)
    assert calm.communicate() is not None
    assert calm.returncode == 0
    driver = program("run", tiny, "--out", "wild", "--workers", 2, cwd=tiny.parent)
    wanted = random.Random(os.getpid()).randint(1, 20)
    while driver.poll() is None and _committed(tiny.parent / "wild" / "study.db") < wanted:
        time.sleep(0.005)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()  # returns when the workers, who share the pipes, are gone as well
    assert driver.returncode == -signal.SIGKILL
    last = program("run", tiny, "--out", "wild", "--workers", 2, cwd=tiny.parent)
    last.communicate()
    assert last.returncode == 0
    with Store("calm") as one, Store("wild") as other:
        assert one.texts() == other.texts()
        assert len(one.texts()) == 3 + 2 * 5 * 3
        done = Counter(key for key, status in other.attempts() if status == "done")
        assert set(done.values()) == {1}
        for key in done:
            assert [s for k, s in other.attempts() if k == key][-1] == "done"


def _committed(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            count = db.execute("SELECT count(*) FROM rows").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    return int(count)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_of_the_program(tiny: Path, how: signal.Signals) -> None:
    driver = program("run", tiny, "--out", "here", "training.epochs=500", cwd=tiny.parent)
    while _committed(tiny.parent / "here" / "study.db") < 2 and driver.poll() is None:
        time.sleep(0.01)
    driver.send_signal(how)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130, errors
    assert "interrupted; finished rows are kept in here" in errors
    assert "Traceback" not in errors
    assert "leaked" not in errors
    assert _committed(tiny.parent / "here" / "study.db") >= 2


# Devices.


PAID = """\
schema: 1
backends:
  exact: {kind: exact}
  aer: {kind: runtime, device: aer, shots: 16, seed: 0}
  ibm: {kind: runtime, device: ibm_fez}
"""
ON_DEVICE = """\
name: paid
data: {kind: digits, options: {classes: [3, 5, 8], train: 9, validation: 9, test: 9, components: 2}}
students: {quantum: {kind: fully_quantum, options: {encoding: angle, num_qubits: 2, layers: 1}}}
backends: {device: {base: aer, budget_seconds: 100, usd_per_second: 2}}
variants:
  plain: {terms: [{loss: ce}]}
  tuned:
    terms: [{loss: ce}]
    fine_tune: {backend: device, training: {epochs: 1, learning_rate: 0.1}}
seeds: 2
training: {epochs: 1, gradient_every: 0}
evaluation: {backend: device}
"""


@pytest.fixture
def paid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backends.yaml").write_text(PAID)
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(tmp_path / "backends.yaml"))
    path = tmp_path / "paid.yaml"
    path.write_text(ON_DEVICE)
    return path


def forgotten() -> None:
    """What a process that starts anew would not know."""
    from tests.execution.runtime.study import forget

    forget()


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_a_run_on_a_device_says_the_price_first(paid: Path) -> None:
    forgotten()
    done = call("run", paid, "--out", "here", "--json")
    assert done.exit_code == 0, done.output
    first = " ".join(done.stderr[: done.stderr.index("tasks done")].split())
    for text in (
        "paid: ", "s of quantum processor time", "on device (aer", "is within its budget of 100 s",
        "together", "qkd: this machine plays the device: nothing is charged",
    ):  # fmt: skip
        assert text in first
    assert "qkd: warning" not in done.stderr
    assert "stock" not in first
    usage = json.loads(done.stdout.splitlines()[-1])["usage"]
    assert set(usage) == {"device"}
    assert usage["device"]["usd"] == pytest.approx(2 * usage["device"]["seconds"])
    assert usage["device"]["budget_seconds"] == 100
    again = call("run", paid, "--out", "here")
    assert (again.exit_code, again.stderr) == (0, "")

    listed = call("jobs", "here")
    assert listed.exit_code == 0, listed.output
    assert listed.stdout.count("done") == usage["device"]["jobs"]
    assert f"{usage['device']['seconds']:.1f} s of a budget of 100 s" in listed.stdout
    found = json.loads(call("jobs", "here", "--json").stdout)
    assert found["usage"] == usage
    assert len(found["jobs"]) == usage["device"]["jobs"]
    assert sum(job["seconds"] for job in found["jobs"]) == pytest.approx(usage["device"]["seconds"])


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_a_budget_that_ends_is_status_3_and_a_larger_one_goes_on(paid: Path) -> None:
    forgotten()
    done = call("run", paid, "--out", "here", "backends.device.budget_seconds=12")
    assert done.exit_code == 3
    assert re.search(r"qkd: warning: \d+ s on 'device' are expected, more than its budget of 12 s: "
                     "the run stops before crossing it", done.stderr)  # fmt: skip
    assert "qkd: error: the jobs of 'device' stay within their budget; got " in done.stderr
    assert "of 4 tasks have no row yet; the others are in here." in done.stderr
    assert "s of its budget of 12 s spent in 5 jobs." in done.stderr
    assert "Run the same command again with a larger budget_seconds: it goes on" in done.stderr
    ids = {job["job_id"] for job in json.loads(call("jobs", "here", "--json").stdout)["jobs"]}
    forgotten()
    more = call("run", paid, "--out", "here")
    assert more.exit_code == 0, more.output
    assert re.search(r"qkd: device: 1\d\.\d s of that are spent already", more.stderr)
    forgotten()
    assert call("run", paid, "--out", "calm").exit_code == 0
    with Store("here") as one, Store("calm") as other:
        assert one.texts() == other.texts()
    wild, calm = (json.loads(call("jobs", f, "--json").stdout)["jobs"] for f in ("here", "calm"))
    assert ids < {job["job_id"] for job in wild} == {job["job_id"] for job in calm}
    assert len(wild) == len(calm)  # nothing was paid for twice


def test_a_device_without_a_budget_is_status_3(paid: Path) -> None:
    done = call("run", paid, "backends.device={base: ibm, budget_seconds: null}")
    assert done.exit_code == 3
    assert done.stderr.startswith(
        "qkd: error: a device is used within a budget, and 'device' has none; got no budget_seconds"
    )
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("kind", "status"),
    [("AccountError", 2), ("QuotaError", 3), ("UncertainJobError", 1),
     ("TransientError", 1), ("BudgetError", 3)],
)  # fmt: skip
@pytest.mark.usefixtures("inline")
def test_the_status_of_what_ends_a_study(
    paid: Path, monkeypatch: pytest.MonkeyPatch, kind: str, status: int
) -> None:
    from qiskit_kd import errors
    from qiskit_kd.experiment import task

    def fail(*_: object, **__: object) -> None:
        raise getattr(errors, kind)("that is that", remedy="Ask somebody.")

    monkeypatch.setattr(task, "run_task", fail)
    done = call("run", paid, "--out", "here", "variants.tuned.fine_tune.backend=exact",
                "evaluation.backend=exact")  # fmt: skip
    assert done.exit_code == status
    assert "qkd: error: that is that. Ask somebody.\n  4 of 4 tasks have no row yet" in done.stderr
    assert "no job is paid for twice" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("inline")
def test_a_device_error_of_a_task_names_the_entry(
    paid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qiskit_kd.errors import DeviceError
    from qiskit_kd.experiment import task

    def fail(*_: object, **__: object) -> None:
        raise DeviceError("that is that", got="'device'", remedy="Ask somebody.")

    real = task.run_task

    def run(spec: dict[str, object], **more: object) -> object:
        return (fail if "device" in str(spec) and more.get("journal") else real)(spec, **more)

    monkeypatch.setattr(task, "run_task", run)
    done = call("run", paid, "--out", "here")
    place = f"{paid}:4:12: backends.device"
    assert done.exit_code == 4
    assert f": DeviceError: {place}: that is that; got 'device'. Ask somebody." in done.stderr
    again = call("report", "here")
    assert f": DeviceError: {place}: that is that" in again.stderr


@pytest.mark.usefixtures("inline")
def test_a_warning_is_a_line_for_people(paid: Path) -> None:
    paid.write_text(ON_DEVICE.replace("base: aer", "base: aer, mitigation: tensored"))
    Path("backends.yaml").write_text(PAID.replace("device: aer", "device: fake_lagos"))
    forgotten()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = call("run", paid, "--seeds", 1, "--out", "here")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("readout mitigation amplifies") == 1
    assert "\nqkd: warning: readout mitigation amplifies" in f"\n{done.stderr}"
    assert "UserWarning" not in done.stderr


def test_one_worker_for_a_remote_device_is_said(
    paid: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from qiskit_kd.experiment import spending
    from qiskit_kd.experiment.cost import estimate
    from qiskit_kd.experiment.loading import load

    config = load(str(paid), ())
    outlook = spending.Outlook.of(estimate(config, compared=False), [], {}, 1)
    cli._announce(outlook)
    assert "nothing is charged" in capsys.readouterr().err
    for workers, said in ((1, 1), (2, 0)):
        cli._announce(replace(outlook, local=False, workers=workers, warnings=("mind this",)))
        err = capsys.readouterr().err
        assert err.count("one worker: IBM's free plan takes three pending jobs") == said
        assert "qkd: warning: mind this\n" in err
        assert "nothing is charged" not in err


def test_snapshot(paid: Path) -> None:
    done = call("snapshot", "fake_lima")
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r"wrote fake_lima\.json: fake_lima, 5 qubits, calibrated 20\S+\n",
                        done.stdout)  # fmt: skip
    again = call("snapshot", "fake_lima")
    assert again.exit_code == 2
    assert "the file exists already; got fake_lima.json" in again.stderr
    found = json.loads(call("snapshot", "fake_lima", "mine.json", "--json").stdout)
    assert (found["file"], found["device"], found["qubits"]) == ("mine.json", "fake_lima", 5)
    assert call("snapshot", "fake_lima", "mine.json", "--force", "--backend", "aer").exit_code == 0
    wrong = call("snapshot", "fake_lime")
    assert (wrong.exit_code, "unknown fake device" in wrong.stderr) == (2, True)
    both = call("snapshot", "ibm_fez", "--backend", "ibm", "--account", "mine")
    assert both.exit_code == 2
    assert "an entry of the backend file names its own account" in both.stderr
    Path("file").touch()
    assert call("snapshot", "fake_lima", "file/x.json").exit_code == 1
    assert not Path("ibm_fez.json").exists()


def test_jobs_of_no_study(paid: Path) -> None:
    done = call("jobs", "nowhere")
    assert (done.exit_code, "nowhere holds no study" in done.stderr) == (1, True)


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_jobs_of_a_bare_journal(paid: Path) -> None:
    forgotten()
    assert call("run", paid, "--out", "here").exit_code == 0
    listed = call("jobs", "here", "--json")
    wanted = json.loads(listed.stdout)["jobs"]
    Path("bare").mkdir()

    def copy(path: str) -> None:  # what lies in the log beside it, too
        with closing(sqlite3.connect("here/jobs.db")) as one, closing(sqlite3.connect(path)) as two:
            one.backup(two)

    for path in ("bare/jobs.db", "bare/qiskit_kd-jobs.db", "other.db"):
        copy(path)
        for name in (path, "bare") if path.startswith("bare") else (path,):
            found = json.loads(call("jobs", name, "--json").stdout)
            assert [one | {"usd": 0} for one in found["jobs"]] == [j | {"usd": 0} for j in wanted]
        assert call("jobs", path).stdout.count("done") == len(wanted)
        Path(path).unlink()
    copy("other.db")
    gone = call("jobs", "other.db", "--forget", wanted[0]["job_id"])
    assert (gone.exit_code, "is given up" in gone.stderr) == (0, True)
    assert call("jobs", "other.db").stdout.count("failed") == 1
    none = "holds no study"
    for path, text in (("bare", none), ("paid.yaml", "no SQLite database"),
                       ("here/study.db", none), ("nowhere.db", none)):  # fmt: skip
        done = call("jobs", path)
        assert (done.exit_code, done.stderr.count("qkd: error: ")) == (1, 1)
        assert text in done.stderr, done.stderr
        assert not Path("nowhere.db").exists()
