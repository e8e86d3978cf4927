# SPDX-License-Identifier: Apache-2.0
"""The published circuit files verify, load without us, and every kind of tampering is noticed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, qpy
from qiskit.quantum_info import Operator, Statevector
from qiskit_aer.primitives import SamplerV2

from qiskit_kd.circuits import ansatze, encodings, library
from qiskit_kd.circuits.files import read_circuit
from qiskit_kd.circuits.library import QPY_VERSION, export, templates, verify
from qiskit_kd.errors import StorageError
from qiskit_kd.seeding import stream

GOLDEN = Path(__file__).parents[2] / "circuits"
VICTIM = "angle-hardware_efficient-q2-l1"

STRANGER = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("qiskit_kd", "torch"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())

import json
from pathlib import Path
import numpy as np
from qiskit import qasm3, qpy
from qiskit.quantum_info import Operator

folder, answers = Path(sys.argv[1]), np.load(sys.argv[2])
for entry in json.loads((folder / "manifest.json").read_text())["circuits"]:
    text = qasm3.load(str(folder / entry["files"]["qasm"]["path"]))
    with open(folder / entry["files"]["qpy"]["path"], "rb") as file:
        binary = qpy.load(file)[0]
    for circuit in (text, binary):
        assert [p.name for p in circuit.parameters] == entry["inputs"] + entry["weights"]
        assert circuit.num_qubits == entry["qubits"]
        bound = circuit.assign_parameters(answers[entry["name"] + "/angles"])
        assert np.abs(Operator(bound).data - answers[entry["name"]]).max() < 1e-12, entry["name"]
try:
    import qiskit_kd
except ImportError:
    print("loaded without us")
"""


def run_python(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the published two-qubit circuits to tamper with; six of them, to be quick."""
    few = [template for template in templates() if template.num_qubits == 2][:6]
    assert VICTIM not in [template.name for template in few]
    few.append(next(template for template in templates() if template.name == VICTIM))
    monkeypatch.setattr(library, "templates", lambda: few)
    export(tmp_path / "circuits")
    assert verify(tmp_path / "circuits").deviation <= 1e-12
    return tmp_path / "circuits"


# --- the published folder ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_published_folder_verifies() -> None:
    report = verify(GOLDEN)
    assert report.names == tuple(template.name for template in templates())
    assert report.deviation <= 1e-12
    assert report.folder == GOLDEN


def test_everything_registered_here_is_published_at_every_size() -> None:
    made = {(part[0], t.num_qubits) for t in templates() for part in (t.ansatz, t.encoding) if part}
    for registry in (ansatze, encodings):
        for name, build in registry.items():
            if build.__module__.startswith("qiskit_kd."):
                assert {(name, n) for n in (2, 4, 6)} <= made
    names = [template.name for template in templates()]
    assert len(set(names)) == len(names)


def test_exporting_again_in_another_process_gives_the_same_bytes(tmp_path: Path) -> None:
    code = "import sys; from qiskit_kd.circuits.library import export; print(export(sys.argv[1]))"
    written = run_python("-c", code, str(tmp_path / "one"))
    assert Path(written.strip()) == tmp_path / "one" / "manifest.json"
    export(tmp_path / "two")
    names = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(names) == 2 * len(templates()) + 1
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        if name.suffix == ".qasm":
            assert (GOLDEN / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.slow
def test_plain_qiskit_loads_the_files_without_us(tmp_path: Path) -> None:
    answers: dict[str, np.ndarray] = {}
    for template in templates():
        angles = np.random.default_rng(5).uniform(-3, 3, template.circuit.num_parameters)
        answers[f"{template.name}/angles"] = angles
        answers[template.name] = Operator(template.circuit.assign_parameters(angles)).data
    np.savez(tmp_path / "answers.npz", allow_pickle=False, **answers)
    said = run_python("-I", "-c", STRANGER, str(GOLDEN), str(tmp_path / "answers.npz"))
    assert said.strip() == "loaded without us"


def test_the_readme_is_true(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (GOLDEN / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert len([line for line in block.splitlines() if line]) == 2
        code = f"{block}\nprint(circuit.num_qubits, circuit.num_parameters)"
        done = subprocess.run(
            [sys.executable, "-I", "-c", code], cwd=GOLDEN.parent, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert done.stdout.split() == ["6", str(63 + 74)]


def test_the_manifest_describes_each_file() -> None:
    manifest = json.loads((GOLDEN / "manifest.json").read_text())
    assert (manifest["licence"], manifest["qpy_version"]) == ("Apache-2.0", QPY_VERSION)
    entry = next(
        e for e in manifest["circuits"] if e["name"] == "amplitude-hardware_efficient-q6-l4-ry"
    )
    assert entry["generator"]["ansatz"] == {
        "function": "qiskit_kd.circuits.hardware_efficient",
        "arguments": {"num_qubits": 6, "layers": 4, "final_ry": True},
    }
    assert (entry["qubits"], entry["features"], entry["two_qubit_gates"]) == (6, 64, 57 + 2 * 20)
    assert (len(entry["inputs"]), len(entry["weights"])) == (63, 74)
    assert entry["inputs"][:2] + entry["weights"][-1:] == ["input_00", "input_01", "weight_073"]
    assert entry["depth"] > 0


# --- tampering -----------------------------------------------------------------------------------


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def edit_entry(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit_manifest(folder, lambda m: [change(e) for e in m["circuits"] if e["name"] == VICTIM])


def rewrite(folder: Path, ending: str, content: bytes) -> None:
    """Replace a file and make the manifest's hash agree with it."""
    (folder / "templates" / f"{VICTIM}.{ending}").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit_entry(folder, lambda e: e["files"][ending].update(sha256=digest))


def victim() -> QuantumCircuit:
    return next(t for t in templates() if t.name == VICTIM).circuit


def qpy_bytes(circuit: QuantumCircuit, folder: Path) -> bytes:
    path = folder / "scratch"
    with path.open("wb") as file:
        qpy.dump(circuit, file, version=QPY_VERSION)
    return path.read_bytes()


def refused(folder: Path, text: str) -> None:
    with pytest.raises(StorageError, match=text) as error:
        verify(folder)
    assert "qkd circuits export" in str(error.value)


def test_a_missing_file_is_noticed(folder: Path) -> None:
    (folder / "templates" / f"{VICTIM}.qpy").unlink()
    refused(folder, rf"templates/{VICTIM}\.qpy: .*No such file")


def test_a_changed_text_is_noticed(folder: Path) -> None:
    path = folder / "templates" / f"{VICTIM}.qasm"
    content = path.read_bytes().replace(b"ry(input_00) q[0]", b"ry(input_01) q[0]")
    path.write_bytes(content)
    refused(folder, rf"{VICTIM}: files\.qasm\.sha256 is '\w+', not '\w+'")
    rewrite(folder, "qasm", content)
    refused(folder, rf"{VICTIM}\.qasm: line \d+ is 'ry\(input_01\) q\[0\];', not 'ry\(input_00\)")


def test_a_text_cut_short_or_made_longer_is_noticed(folder: Path) -> None:
    content = (folder / "templates" / f"{VICTIM}.qasm").read_bytes()
    rewrite(folder, "qasm", content + b"// more\n")
    refused(folder, rf"{VICTIM}\.qasm: \d+ bytes, not \d+")
    rewrite(folder, "qasm", content[:20])
    refused(folder, rf"{VICTIM}\.qasm: an OpenQASM file states its version")


def test_a_changed_unitary_is_noticed(folder: Path) -> None:
    circuit = victim().copy()
    circuit.x(0)
    rewrite(folder, "qpy", qpy_bytes(circuit, folder))
    (folder / "scratch").unlink()
    refused(folder, rf"{VICTIM}\.qpy: another circuit.*{VICTIM}\.qpy: its unitary differs by \d")


def test_other_parameters_are_noticed(folder: Path) -> None:
    circuit = victim()
    bound = circuit.assign_parameters({circuit.parameters[0]: 0.5})
    rewrite(folder, "qpy", qpy_bytes(bound, folder))
    refused(folder, rf"{VICTIM}\.qpy: its parameters are not those of the manifest, in order")


def test_another_width_is_noticed(folder: Path) -> None:
    wide = QuantumCircuit(3).compose(victim(), [0, 1])
    rewrite(folder, "qpy", qpy_bytes(wide, folder))
    refused(folder, rf"{VICTIM}\.qpy: 3 qubits, not 2")


def test_another_name_inside_a_qpy_file_is_noticed(folder: Path) -> None:
    circuit = victim().copy(name="other")
    rewrite(folder, "qpy", qpy_bytes(circuit, folder))
    refused(folder, rf"{VICTIM}\.qpy: another circuit than the generator's")


def test_a_damaged_qpy_file_is_noticed(folder: Path) -> None:
    path = folder / "templates" / f"{VICTIM}.qpy"
    path.write_bytes(path.read_bytes()[:40])
    refused(folder, rf"{VICTIM}\.qpy: the QPY file is damaged")


def test_a_foreign_file_is_noticed(folder: Path) -> None:
    (folder / "templates" / "mine.qasm").write_text("OPENQASM 3.0;")
    refused(folder, r"templates/mine\.qasm: not a published circuit")


@pytest.mark.parametrize(
    ("key", "value"),
    [("depth", 99), ("qubits", 3), ("weights", []), ("inputs", ["input_01", "input_00"]),
     ("generator", {}), ("features", 3), ("two_qubit_gates", None)],
)  # fmt: skip
def test_a_changed_entry_is_noticed(folder: Path, key: str, value: object) -> None:
    edit_entry(folder, lambda entry: entry.update({key: value}))
    refused(folder, rf"manifest\.json: {VICTIM}: {key} is {re.escape(repr(value))}, not")


def test_a_changed_path_is_noticed(folder: Path) -> None:
    edit_entry(folder, lambda entry: entry["files"]["qpy"].update(path="/etc/passwd"))
    refused(
        folder, rf"manifest\.json: {VICTIM}: files\.qpy\.path is '/etc/passwd', not 'templates/"
    )
    edit_entry(folder, lambda entry: entry.pop("files"))
    refused(folder, rf"manifest\.json: {VICTIM}: files is None, not a mapping")


@pytest.mark.parametrize(
    ("change", "text"),
    [(lambda e: e.update(files=[1]), r"files is \[1\], not a mapping"),
     (lambda e: e.update(files="qasm"), r"files is 'qasm', not a mapping"),
     (lambda e: e["files"].update(qpy=3), r"files\.qpy is 3, not a mapping"),
     (lambda e: e["files"].update(svg={}), r"files: unknown key 'svg'"),
     (lambda e: e["files"]["qpy"].update(size=3), r"files\.qpy: unknown key 'size'"),
     (lambda e: e["files"]["qpy"].update(path=["a"]), r"files\.qpy\.path is \['a'\]"),
     (lambda e: e.update(note="mine"), r"unknown key 'note'"),
     (lambda e: e.update(qubits=2.0), r"qubits is 2\.0, not 2")],
)  # fmt: skip
def test_wrong_types_and_unknown_keys_are_noticed(
    folder: Path, change: Callable[[dict[str, Any]], object], text: str
) -> None:
    edit_entry(folder, change)
    refused(folder, rf"manifest\.json: {VICTIM}: .*{text}|manifest\.json: {VICTIM}: {text}")


def test_a_measurement_with_a_correct_hash_is_noticed(folder: Path) -> None:
    circuit = victim().copy()
    circuit.measure_all()
    rewrite(folder, "qpy", qpy_bytes(circuit, folder))
    (folder / "scratch").unlink()
    refused(folder, rf"{VICTIM}\.qpy: a published circuit is unitary: .*got 'measure'")
    text = (folder / "templates" / f"{VICTIM}.qasm").read_bytes()
    rewrite(folder, "qasm", text + b"bit[2] c;\nc[0] = measure q[0];\n")
    refused(folder, rf"{VICTIM}\.qasm: a published circuit is unitary: .*got 'measure'")


def test_duplicate_entries_and_keys_are_noticed(folder: Path) -> None:
    edit_manifest(folder, lambda m: m["circuits"].append(m["circuits"][-1]))
    refused(folder, rf"manifest\.json: 2 entries '{VICTIM}'")
    edit_manifest(folder, lambda m: m["circuits"].pop())
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 1, "format": 1'))
    refused(folder, r"the manifest is damaged; got .*: the key 'format' is given twice")


def test_the_manifest_as_a_whole_is_checked(folder: Path) -> None:
    edit_manifest(folder, lambda m: m.update(mine=1, licence="mine"))
    refused(
        folder, r"manifest\.json: unknown key 'mine'; manifest\.json: licence is 'mine', not 'A"
    )


@pytest.mark.parametrize("name", [3, None, ["a"], {}])
def test_names_that_are_none_are_noticed(folder: Path, name: object) -> None:
    edit_entry(folder, lambda entry: entry.update(name=name))
    refused(folder, rf"damaged; got .*the name of a circuit is {re.escape(repr(name))}, not text")


def test_missing_and_unknown_entries_are_noticed(folder: Path) -> None:
    edit_entry(folder, lambda entry: entry.update(name="renamed"))
    refused(folder, rf"no entry '{VICTIM}'; manifest\.json: unknown entry 'renamed'")


def test_many_differences_are_counted(folder: Path) -> None:
    edit_manifest(folder, lambda m: m.update(circuits=[]))
    refused(folder, r"no entry .*; and 2 more")


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    refused(tmp_path, r"has a manifest; got .*manifest\.json: No such file or directory")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "{}", '{"format": 1, "circuits": []}', "[" * 100_000,
     '{"format": 1, "qpy_version": 13, "circuits": 3}',
     '{"format": 1, "qpy_version": 13, "circuits": ["a"]}'],
)  # fmt: skip
def test_a_damaged_manifest(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    refused(tmp_path, r"the manifest is damaged; got .*manifest\.json: \w+Error")


def test_a_manifest_of_the_future(folder: Path) -> None:
    edit_manifest(folder, lambda m: m.update(format=2))
    with pytest.raises(StorageError, match=r"another format; got .*\(2, 13\); expected \(1, 13\)"):
        verify(folder)


# --- writing -------------------------------------------------------------------------------------


def test_export_leaves_other_files_alone(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    (folder / "templates" / f"{VICTIM}.qasm").write_text("damaged")
    export(folder)
    assert (folder / "README.md").read_text() == "mine"
    assert verify(folder).deviation <= 1e-12
    assert not list(folder.rglob("*.tmp"))


def test_a_full_disk_leaves_whole_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))

    def full(descriptor: int) -> None:
        if next(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot be written; got .*: No space left.*Free space"):
        export(tmp_path)
    left = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(left) == 3
    for path in left:
        golden = (GOLDEN / "templates" / path.name).read_bytes()
        found = path.read_bytes()
        start = 10 if path.suffix == ".qpy" else 0  # behind the version of the Qiskit that wrote it
        assert found[start:] == golden[start:]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match=r"cannot be written; got .*taken/templates/.*Not a dir"):
        export(tmp_path / "taken")


@pytest.mark.parametrize("at_run_time", [False, True])
def test_plain_aer_runs_every_published_circuit(at_run_time: bool) -> None:
    shots = 4096
    options = {"run_options": {"runtime_parameter_bind_enable": at_run_time}}
    for template in templates():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The qiskit version used to generate")
            circuit = read_circuit(GOLDEN / "templates" / f"{template.name}.qpy")
        values = stream(0, template.name).uniform(-np.pi, np.pi, (2, circuit.num_parameters))
        measured = circuit.copy()
        measured.measure_all()
        sampler = SamplerV2(seed=7, options=options)
        bits = sampler.run([(measured, values, shots)]).result()[0].data.meas
        for row, each in zip(values, bits, strict=True):
            wanted = Statevector(circuit.assign_parameters(row)).probabilities()
            found = np.zeros_like(wanted)
            for outcome, count in each.get_int_counts().items():
                found[outcome] = count / shots
            noise = np.sqrt(wanted * (1 - wanted) / shots)
            assert (np.abs(found - wanted) <= 6 * noise + 2 / shots).all(), template.name
