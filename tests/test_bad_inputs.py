# SPDX-License-Identifier: Apache-2.0
"""Files and words that nobody can work with, through the real command line: one clear error each.

Whatever somebody else's file holds, nothing in it is executed, nothing hangs, nothing is written,
and the status is 2; files of our own that were altered after they were written give 1.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import signal
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, qpy
from qiskit.circuit import Parameter
from typer.testing import CliRunner

from qiskit_kd import cli

pytestmark = pytest.mark.filterwarnings("ignore:.*cannot move the readout")

SECONDS = 30
"""In which a command must have ended: none of them trains anything."""

GOOD = """\
name: tiny
data: {kind: digits, options: {classes: [3, 5], train: 8, validation: 8, test: 8, components: 2}}
students: {q: {kind: fully_quantum, options: {encoding: angle, num_qubits: 2, layers: 1}}}
variants: {plain: {terms: [{loss: ce}]}}
backend: played
seeds: 1
training: {epochs: 1}
"""
BACKENDS = "schema: 1\nbackends: {exact: {kind: exact}, played: {kind: runtime, device: aer}}\n"
CANARY = "canary"
_FORM = r"[;,] got |; expected |: expected |unknown |not valid YAML: |:\d+:\d+: \w+|cannot "


class _Touch:
    """Makes the canary where somebody unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (CANARY, "w")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"it hangs: {SECONDS} s")

    monkeypatch.chdir(tmp_path)
    Path("backends.yaml").write_text(BACKENDS)
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(tmp_path / "backends.yaml"))
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refused(*words: object, status: int = 2) -> str:
    """What a command says that must do nothing else."""
    there = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    said = done.stderr
    assert done.exit_code == status, (done.output, done.exception)
    assert said.count("qkd: error: ") == 1, said
    assert "Traceback" not in said
    assert done.stdout == ""
    assert re.search(_FORM, said), said
    assert not re.search(r"\b(Type|Attribute|Key|Index|Recursion)Error\b", said), said
    assert len(said) < 6000, "an error is to be read"
    assert not Path(CANARY).exists(), "something was executed"
    left = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    # SQLite writes beside what it reads, and takes that away again.
    assert {path for path in left if "jobs.db" not in path.name} <= {*there}, left.keys() - there
    return said


def changed(**keys: str) -> str:
    """The good experiment with other values of top-level keys."""
    lines = dict(line.split(": ", 1) for line in GOOD.splitlines())
    return "".join(f"{key}: {value}\n" for key, value in {**lines, **keys}.items())


# Experiments


def _layers(number: str) -> str:
    options = f"{{encoding: angle, num_qubits: 2, layers: {number}}}"
    return changed(students=f"{{q: {{kind: fully_quantum, options: {options}}}}}")


YAML: dict[str, str] = {
    "a tag that calls": f"name: !!python/object/apply:os.system ['touch {CANARY}']\n",
    "a tag that makes an object": f"name: !!python/object/new:open [{CANARY}, w]\n",
    "a tag that imports": "name: !!python/name:os.system\n",
    "a tag of one's own": changed(seeds="!mine 3"),
    "binary": changed(name="!!binary aGVsbG8="),
    "a set": changed(variants="!!set {plain}"),
    "two documents": GOOD + "---\n" + GOOD,
    "a tab": GOOD + "\tseeds: 2\n",
    "an unclosed bracket": GOOD + "axes: {a: [1, 2\n",
    "an unclosed quote": GOOD + "title: 'never ends\n",
    "an unknown alias": changed(seeds="*nobody"),
    "an alias in itself": GOOD + "axes: &a {a: *a}\n",
    "a key twice": GOOD + "seeds: 2\n",
    "a list as a key": GOOD + "? [1, 2]\n: 3\n",
    "a null key": GOOD + "null: 3\n",
    "deep": "a: " + "[" * 3000 + "]" * 3000 + "\n",
    "nothing but a comment": "# nothing\n",
    "a control character": changed(name='"a\\x00b"'),
    "a surrogate": changed(name='"\\ud800"'),
    "a name with a slash": changed(name="../../etc/passwd"),
    "a name that is a number": changed(name="3"),
    "a name that is a list": changed(name="[a, b]"),
    "an empty name": changed(name="''"),
    "a date": changed(seeds="2024-01-01"),
    "seeds of words": changed(seeds="many"),
    "no seeds": changed(seeds="0"),
    "negative seeds": changed(seeds="-1"),
    "seeds that are a fraction": changed(seeds="1.5"),
    "seeds that are nan": changed(seeds=".nan"),
    "seeds without end": changed(seeds=".inf"),
    "the same seed twice": changed(seeds="[1, 1]"),
    "a seed of 30 digits": changed(seeds="[1" + "0" * 29 + "]"),
    "seeds that are true": changed(seeds="true"),
    "epochs below zero": changed(training="{epochs: -1}"),
    "epochs that are words": changed(training="{epochs: ten}"),
    "a rate that is nan": changed(training="{epochs: 1, learning_rate: .nan}"),
    "a rate without end": changed(training="{epochs: 1, learning_rate: .inf}"),
    "a rate below zero": changed(training="{epochs: 1, learning_rate: -0.1}"),
    "an optimiser nobody knows": changed(training="{epochs: 1, optimizer: adamant}"),
    "a batch of none": changed(training="{epochs: 1, batch_size: 0}"),
    "training that is a list": changed(training="[1, 2]"),
    "no students": changed(students="{}"),
    "students in a list": changed(students="[q]"),
    "a student nobody knows": changed(students="{q: {kind: quantumm}}"),
    "a student with another's options": changed(
        students="{q: {kind: linear, options: {layers: 2}}}"),
    "layers without end": _layers(".inf"),
    "layers below zero": _layers("-1"),
    "layers in words": _layers("two"),
    "an encoding nobody knows": changed(
        students="{q: {kind: fully_quantum, options: {encoding: angel}}}"),
    "no variants": changed(variants="{}"),
    "a variant without terms": changed(variants="{plain: {terms: []}}"),
    "a loss nobody knows": changed(variants="{plain: {terms: [{loss: cee}]}}"),
    "a loss that is a formula": changed(variants="{plain: {terms: [{loss: '=1+1'}]}}"),
    "a weight of nan": changed(variants="{plain: {terms: [{loss: ce, weight: .nan}]}}"),
    "a weight in words": changed(variants="{plain: {terms: [{loss: ce, weight: heavy}]}}"),
    "a teacher that is not there": changed(
        variants="{plain: {terms: [{loss: ce}]}, kd: {teacher: nobody, terms: [{loss: kl}]}}"),
    "a backend nobody knows": changed(backend="quantumm"),
    "a backend that is a path": changed(backend="../../etc/passwd"),
    "data nobody knows": changed(data="{kind: digitss}"),
    "data that is a word": changed(data="digits"),
    "data options that are a list": changed(data="{kind: digits, options: [1]}"),
    "a class that is not there": changed(data="{kind: digits, options: {classes: [3, 11]}}"),
    "one class": changed(data="{kind: digits, options: {classes: [3]}}"),
    "more samples than there are": changed(
        data="{kind: digits, options: {classes: [3, 5], train: 99999}}"),
    "a negative number of samples": changed(
        data="{kind: digits, options: {classes: [3, 5], train: -5}}"),
    "an axis of nothing": GOOD + "axes: {a: {key: seeds, values: []}}\n",
    "an axis of a key that is not there": GOOD + "axes: {a: {key: training.epoch, values: [1]}}\n",
    "an axis through a dunder": GOOD + "axes: {a: {key: training.__class__, values: [1]}}\n",
    "code in a file": f"import os\nos.system('touch {CANARY}')\n",
    "a plugin of its own": GOOD + "plugins: [evil.py]\n",
    "JSON that is a list": "[1, 2, 3]\n",
    "HTML": "<html><body onload=alert(1)>hello</body></html>\n",
    "a template": GOOD + "{{ 7 * 7 }}: x\n",
}  # fmt: skip


@pytest.mark.parametrize("case", YAML)
def test_an_experiment_that_cannot_be(case: str) -> None:
    Path("evil.py").write_text(f"open({CANARY!r}, 'w')\n")
    Path("bad.yaml").write_text(YAML[case], encoding="utf-8")
    refused("estimate", "bad.yaml")


RAW: dict[str, bytes] = {
    "UTF-16": GOOD.encode("utf-16"),
    "Latin-1": changed(name="caf\xe9").encode("latin-1"),
    "zeros": bytes(1000),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "a zip": b"PK\x03\x04" + bytes(100),
    "a pickle": pickle.dumps(_Touch()),
}


@pytest.mark.parametrize("case", RAW)
@pytest.mark.parametrize("command", ["run", "estimate"])
def test_a_file_that_is_no_experiment(case: str, command: str) -> None:
    Path("bad.yaml").write_bytes(RAW[case])
    assert "bad.yaml" in refused(command, "bad.yaml")


OVERRIDES = [
    "seeds", "=3", "seeds=", "seeds==", "a.b.c=1", "seeds.=1", ".seeds=1", "training..epochs=1",
    "training.epochs.deep=1", "training.epochs=[1", "training.epochs={a: 1}", "seeds=!!python/none",
    f"name=!!python/object/apply:os.system ['touch {CANARY}']", "seeds=*a", "seeds=&a [*a]",
    "name=\x00", "data=null", "students=null", "students.q=null", "variants.plain.terms=ce",
    "variants.plain.terms.0.loss=cee", "training.__class__=1", "seeds=1e9999", "seeds=0x",
    "training.learning_rate=fast", "backend=nobody", "presets.quick=1", "$=1", "seeds=-0",
]  # fmt: skip


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_setting_that_cannot_be(override: str) -> None:
    Path("good.yaml").write_text(GOOD)
    refused("run", "good.yaml", override, "--out", "out")
    assert not Path("out").exists()


WORDS: dict[tuple[str, ...], int] = {
    ("run", "good.yaml", "--preset", "fast"): 2, ("run", "nowhere.yaml"): 2, ("run", "folder"): 2,
    ("run", ""): 2, ("run", "good.yaml", "--budget", "nan"): 2, ("estimate", "nowhere"): 2,
    ("run", "good.yaml", "--budget", "-1"): 2, ("run", "good.yaml", "--preset", "odd"): 2,
    ("run", "good.yaml", "--plugin", "nowhere.py"): 2,
    ("run", "good.yaml", "--plugin", "folder"): 2,
    ("estimate", "good.yaml", "--backend", "exact"): 2,
    ("estimate", "good.yaml", "--backend", "nobody"): 2, ("init", "good.yaml"): 2,
    ("snapshot", "aer"): 2, ("snapshot", "fake_nobody"): 2, ("snapshot", "fake_lagos", "taken"): 2,
    ("report", "nowhere"): 1, ("report", "folder"): 1, ("report", "taken"): 1,
    ("jobs", "nowhere"): 1, ("jobs", "folder"): 1, ("jobs", "taken"): 1, ("jobs", "empty"): 1,
    ("init", "taken/x.yaml"): 1, ("circuits", "verify", "folder"): 1,
    ("circuits", "export", "taken"): 1,
}  # fmt: skip
"""What cannot be found or written is storage, see the statuses in `qiskit_kd.cli`."""


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_commands_without_what_they_need(words: tuple[str, ...]) -> None:
    Path("good.yaml").write_text(GOOD + "presets: {odd: {trainning: {epochs: 1}}}\n")
    Path("folder").mkdir()
    Path("taken").write_text("x")
    Path("empty").touch()
    refused(*words, status=WORDS[words])


# Plugins

PLUGINS = {
    "not Python": "this is no Python\n",
    "raises": "raise ValueError('no')\n",
    "leaves": "raise SystemExit(0)\n",
    "imports what is not there": "import nobody_has_this\n",
    "a name that is taken": "from qiskit_kd.nn import students as s\ns.register('linear')(dict)\n",
}


@pytest.mark.parametrize("case", PLUGINS)
def test_a_plugin_that_cannot_be_loaded(case: str) -> None:
    Path("good.yaml").write_text(GOOD)
    Path("mine.py").write_text(PLUGINS[case])
    assert "mine.py" in refused("estimate", "good.yaml", "--plugin", "mine.py")


# Data


def _npz(**arrays: Any) -> bytes:
    with io.BytesIO() as stream:
        np.savez(stream, **arrays)
        return stream.getvalue()


def _npy(array: Any) -> bytes:
    with io.BytesIO() as stream:
        np.save(stream, array, allow_pickle=True)
        return stream.getvalue()


def _zip(**members: bytes) -> bytes:
    with io.BytesIO() as stream:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(f"{name}.npy", content)
        return stream.getvalue()


def _header(text: str) -> bytes:
    head = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def _tensors(head: Any, body: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + body


X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
GOOD_NPZ = _npz(features=X, labels=Y)
DATA: dict[str, tuple[str, bytes]] = {
    "npz: pickles": ("x.npz", _npz(features=X, labels=np.array([_Touch()] * 20, object))),
    "npz: features are pickles": ("x.npz", _npz(features=np.array([[_Touch()]] * 20), labels=Y)),
    "npz: cut": ("x.npz", GOOD_NPZ[: len(GOOD_NPZ) // 2]),
    "npz: empty": ("x.npz", b""),
    "npz: no array": ("x.npz", _npz()),
    "npz: other names": ("x.npz", _npz(a=X, b=Y)),
    "npz: fewer labels": ("x.npz", _npz(features=X, labels=Y[:7])),
    "npz: no samples": ("x.npz", _npz(features=X[:0], labels=Y[:0])),
    "npz: nan": ("x.npz", _npz(features=np.where(X > 30, np.nan, X), labels=Y)),
    "npz: infinite": ("x.npz", _npz(features=np.where(X > 30, np.inf, X), labels=Y)),
    "npz: complex": ("x.npz", _npz(features=X + 1j, labels=Y)),
    "npz: words": ("x.npz", _npz(features=X.astype(str), labels=Y)),
    "npz: dates": ("x.npz", _npz(features=X.astype("datetime64[s]"), labels=Y)),
    "npz: a number": ("x.npz", _npz(features=np.array(3.0), labels=Y)),
    "npz: labels below zero": ("x.npz", _npz(features=X, labels=Y - 1)),
    "npz: labels with fractions": ("x.npz", _npz(features=X, labels=Y + 0.5)),
    "npz: labels of nan": ("x.npz", _npz(features=X, labels=np.full(20, np.nan))),
    "npz: one class": ("x.npz", _npz(features=X, labels=Y * 0)),
    "npz: labels in billions": ("x.npz", _npz(features=X, labels=Y * 10**9)),
    "npz: records": ("x.npz", _npz(features=np.zeros(20, [("a", float)]), labels=Y)),
    "npz: a header that promises terabytes": ("x.npz", _zip(
        features=_header("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000, 99)}"),
        labels=_npy(Y))),
    "npz: a header that calls": ("x.npz", _zip(features=_header(f"open('{CANARY}', 'w')"),
                                               labels=_npy(Y))),
    "npz: a CSV": ("x.npz", b"a,b,label\n1,2,0\n"),
    "npy: pickles": ("x.npy", _npy(np.array([_Touch()], object))),
    "npy: alone": ("x.npy", _npy(X)),
    "csv: empty": ("x.csv", b""),
    "csv: a header alone": ("x.csv", b"a,b,label\n"),
    "csv: a formula": ("x.csv", b"a,b,label\n" + b"=1+1,2,0\n=cmd|' /C calc'!A0,3,1\n" * 10),
    "csv: ragged": ("x.csv", b"a,b,label\n1,2,0\n1,2\n" * 9),
    "csv: words": ("x.csv", b"a,b,label\nred,2,0\nblue,1,1\n" * 9),
    "csv: an empty cell": ("x.csv", b"a,b,label\n" + b"1,,0\n2,3,1\n" * 10),
    "csv: nan": ("x.csv", b"a,b,label\n" + b"nan,1,0\n2,3,1\n" * 10),
    "csv: a name twice": ("x.csv", b"a,a,label\n" + b"1,1,0\n2,3,1\n" * 10),
    "csv: bytes": ("x.csv", bytes(range(256)) * 4),
    "csv: one column": ("x.csv", b"label\n0\n1\n" * 10),
    "csv: a quote that never ends": ("x.csv", b'a,b,label\n"1,2,0\n' + b"1,2,0\n" * 10),
    "safetensors: empty": ("x.safetensors", b""),
    "safetensors: a header of exabytes": ("x.safetensors", struct.pack("<Q", 2**62) + b"{}"),
    "safetensors: no JSON": ("x.safetensors", _tensors(b"nothing")),
    "safetensors: beyond the end": ("x.safetensors", _tensors(
        {"features": {"dtype": "F32", "shape": [9, 2], "data_offsets": [0, 72]}}, bytes(8))),
    "safetensors: other names": ("x.safetensors", _tensors(
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8))),
    "a pickle": ("x.pkl", pickle.dumps(_Touch())),
    "a torch file": ("x.pt", pickle.dumps(_Touch())),
    "nothing": ("y.npz", b""),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
def test_data_that_nobody_can_learn(case: str) -> None:
    name, content = DATA[case]
    Path(name).write_bytes(content)
    name = "x.npz" if case == "nothing" else name
    options = f"{{path: {name}, train: 8, validation: 4, test: 4}}"
    Path("good.yaml").write_text(changed(data=f"{{kind: file, options: {options}}}"))
    refused("estimate", "good.yaml")


# Circuits


def _qpy(circuit: QuantumCircuit) -> bytes:
    with io.BytesIO() as stream:
        qpy.dump(circuit, stream)
        return stream.getvalue()


def _circuit(qubits: int = 2, *, parameters: int = 1) -> QuantumCircuit:
    found = QuantumCircuit(qubits)
    for place in range(parameters):
        found.ry(Parameter(f"w{place}"), 0)
    return found


QASM3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
CIRCUITS: dict[str, tuple[str, bytes]] = {
    "qasm: empty": ("a.qasm", b""),
    "qasm: no circuit": ("a.qasm", b"hello\n"),
    "qasm: no version": ("a.qasm", b"qubit[2] q;\n"),
    "qasm: another version": ("a.qasm", b"OPENQASM 9.9;\nqubit[2] q;\n"),
    "qasm3: an unknown gate": ("a.qasm", (QASM3 + "qubit[2] q; frob q[0];\n").encode()),
    "qasm3: beyond the register": ("a.qasm", (QASM3 + "qubit[2] q; x q[7];\n").encode()),
    "qasm3: an include from elsewhere": (
        "a.qasm", b'OPENQASM 3.0;\ninclude "/etc/passwd";\nqubit[2] q;\n'),
    "qasm3: a loop without end": (
        "a.qasm", (QASM3 + "qubit[2] q; while (true) { x q[0]; }\n").encode()),
    "qasm3: a billion qubits": ("a.qasm", (QASM3 + "qubit[1000000000] q;\n").encode()),
    "qasm3: deep": ("a.qasm", (QASM3 + "input float a; qubit[2] q; rx(" + "(" * 3000 + "a"
                               + ")" * 3000 + ") q[0];\n").encode()),
    "qasm2: an include that is not there": ("a.qasm", b'OPENQASM 2.0;\ninclude "no.inc";\n'),
    "qasm2: an unknown gate": (
        "a.qasm", b'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\nfrob q[0];\n'),
    "qasm2: a division by zero": (
        "a.qasm", b'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\nrx(1/0) q[0];\n'),
    "qasm2: nothing to train": (
        "a.qasm", b'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\nx q[0];\n'),
    "qpy: empty": ("a.qpy", b""),
    "qpy: cut": ("a.qpy", _qpy(_circuit())[:60]),
    "qpy: a version to come": ("a.qpy", b"QISKIT\xff" + _qpy(_circuit())[7:]),
    "qpy: a pickle": ("a.qpy", pickle.dumps(_Touch())),
    "qpy: no parameter": ("a.qpy", _qpy(_circuit(parameters=0))),
    "qpy: other qubits": ("a.qpy", _qpy(_circuit(5))),
    "another ending": ("a.txt", b"OPENQASM 3.0;\n"),
    "a folder": ("a.qpy", b""),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CIRCUITS)
def test_a_circuit_that_nobody_can_run(case: str) -> None:
    name, content = CIRCUITS[case]
    if case == "a folder":
        Path(name).mkdir()
    else:
        Path(name).write_bytes(content)
    options = f"{{encoding: angle, num_qubits: 2, ansatz: {name}}}"
    Path("good.yaml").write_text(
        changed(students=f"{{q: {{kind: fully_quantum, options: {options}}}}}")
    )
    refused("estimate", "good.yaml")


# Backends

ENTRIES: dict[str, str] = {
    "no schema": "backends: {exact: {kind: exact}}\n",
    "another schema": BACKENDS.replace("schema: 1", "schema: 99"),
    "no backends": "schema: 1\nbackends: {}\n",
    "a list": "schema: 1\nbackends: [exact]\n",
    "a kind nobody knows": "schema: 1\nbackends: {played: {kind: magic}}\n",
    "no kind": "schema: 1\nbackends: {played: {shots: 3}}\n",
    "a token": "schema: 1\nbackends: {played: {kind: runtime, device: aer, token: secret}}\n",
    "shots of nan": "schema: 1\nbackends: {played: {kind: runtime, device: aer, shots: .nan}}\n",
    "shots below zero": "schema: 1\nbackends: {played: {kind: runtime, device: aer, shots: -1}}\n",
    "a device that is a list": "schema: 1\nbackends: {played: {kind: runtime, device: [aer]}}\n",
    "no device": "schema: 1\nbackends: {played: {kind: runtime}}\n",
    "a fake nobody knows": "schema: 1\nbackends: {played: {kind: runtime, device: fake_nobody}}\n",
    "tiles in words": "schema: 1\nbackends: {played: {kind: runtime, device: aer, tiles: few}}\n",
    "mitigation nobody knows":
        "schema: 1\nbackends: {played: {kind: runtime, device: aer, mitigation: magic}}\n",
    "a budget of nan":
        "schema: 1\nbackends: {played: {kind: runtime, device: ibm_x, budget_seconds: .nan}}\n",
    "an address over http":
        "schema: 1\nbackends: {played: {kind: runtime, device: ibm_x, url: 'http://e.example'}}\n",
    "a tag that calls":
        f"schema: 1\nbackends: !!python/object/apply:os.system ['touch {CANARY}']\n",
    "not YAML": "{{{\n",
    "nothing": "",
}  # fmt: skip


@pytest.mark.parametrize("case", ENTRIES)
def test_a_backend_file_that_cannot_be(case: str) -> None:
    Path("good.yaml").write_text(GOOD)
    Path("backends.yaml").write_text(ENTRIES[case])
    said = refused("estimate", "good.yaml")
    assert "secret" not in said


# Files of our own that somebody changed


def _study(folder: Path) -> None:
    from qiskit_kd.experiment.loading import load
    from qiskit_kd.experiment.store import Store

    folder.mkdir(exist_ok=True)
    Path("good.yaml").write_text(GOOD)
    config = load(Path("good.yaml"), ())
    with Store(folder, write=True) as store:
        store.describe(config=config.resolved(), command="", environments=[{}], plan=[])


Change = Callable[[sqlite3.Connection], Any]
STUDIES: dict[str, bytes | str] = {
    "zeros": bytes(5000),
    "text": b"not a database\n",
    "cut": b"cut",
    "no tables": "DROP TABLE meta",
    "nothing in it": "DELETE FROM meta",
    "a configuration of pickles": "config",
    "a configuration that is a list": "list",
    "a configuration that calls": "call",
}


@pytest.mark.parametrize("command", ["report", "jobs"])
@pytest.mark.parametrize("case", STUDIES)
def test_a_study_that_was_altered(case: str, command: str) -> None:
    folder, change = Path("study"), STUDIES[case]
    _study(folder)
    path = folder / "study.db"
    if change == b"cut":
        path.write_bytes(path.read_bytes()[:3000])
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        with closing(sqlite3.connect(path)) as db:
            if change.isupper() or " " in change:
                db.executescript(change)
            else:
                value = {"config": pickle.dumps(_Touch()), "list": "[1]",
                         "call": f"__import__('os').system('touch {CANARY}')"}[change]  # fmt: skip
                db.execute("UPDATE meta SET value = ? WHERE name = 'config'", (value,))
            db.commit()
    refused(command, folder, status=1)


JOURNALS: dict[str, str] = {
    "no table of jobs": "DROP TABLE jobs",
    "another kind": "UPDATE meta SET value = 'recipes'",
    "a version to come": "UPDATE meta SET value = '99' WHERE name = 'schema'",
    "a state nobody knows": "UPDATE jobs SET state = 'lost'",
    "seconds in words": "UPDATE jobs SET seconds = 'many'",
    "negative seconds": "UPDATE jobs SET seconds = -5",
    "known ids that are no list": "UPDATE jobs SET known = '{'",
    "shots in words": "UPDATE jobs SET shots = 'some'",
    "a time in words": "UPDATE jobs SET created = 'noon'",
    "a column less": "ALTER TABLE jobs DROP COLUMN estimate",
    "an attempt that is a blob": "INSERT INTO attempts VALUES (x'00', 'k', 'sent', '', 0, 0, NULL)",
}


@pytest.mark.parametrize("case", JOURNALS)
def test_a_journal_that_was_altered(case: str) -> None:
    from qiskit_kd.execution.runtime.client import Job
    from qiskit_kd.execution.runtime.cost import Cost
    from qiskit_kd.execution.runtime.journal import Journal

    journal = Journal("jobs.db")
    journal.intend(Job("k", "sampler", (), (), Cost(1, 1, 1, 2.0), backend="ibm", device="ibm_x"))
    journal.close()
    with closing(sqlite3.connect("jobs.db")) as db:
        db.executescript(JOURNALS[case])
        db.commit()
    refused("jobs", "jobs.db", status=1)


# Labels: they are shown as they are written, whatever they mean elsewhere

LABELS = [
    r"$\frac{", "$", "$$", r"$\undefined{x}$", r"\input{/etc/passwd}", "_^{}",
    "<script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", "{{ 7*7 }}",
    "{% for x in y %}", '=HYPERLINK("http://e")',
    "@SUM(A1)", "%s%n", "a\u202eb", "\u200b", "&amp;&#0;",
]  # fmt: skip


@pytest.mark.slow
def test_titles_of_every_kind_are_shown_as_they_are() -> None:
    from qiskit_kd.report import render, terminal_table
    from tests.report.fake_axes import make

    result = make(seeds=2, train=(50, 500), maps=False, robust=False)
    label = " ".join(LABELS)
    for axis in result.config["axes"].values():
        axis["title"] = label
    result.config["title"] = label
    page, drawings = render(result)
    assert terminal_table(result)
    assert drawings
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "{{ 7*7 }}" in page
