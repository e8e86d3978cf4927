# SPDX-License-Identifier: Apache-2.0
"""A user's circuit files: what is read, what is removed, what is refused."""

from __future__ import annotations

import contextlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from qiskit import QuantumCircuit, qasm2, qasm3, qpy, transpile
from qiskit.circuit import ClassicalRegister, Parameter, ParameterVector
from qiskit.quantum_info import Operator

from qiskit_kd.circuits import (
    CircuitModel,
    ClassGroups,
    angle,
    ansatze,
    checks,
    hardware_efficient,
    load_ansatz,
)
from qiskit_kd.errors import CircuitError, ResourceError, StorageError


def save(circuit: QuantumCircuit, path: Path) -> Path:
    if path.suffix == ".qpy":
        with path.open("wb") as file:
            qpy.dump(circuit, file)
    else:
        path.write_text(qasm3.dumps(circuit))
    return path


@pytest.mark.parametrize("ending", ["qasm", "qpy"])
@pytest.mark.parametrize("name", sorted(ansatze))
def test_an_ansatz_comes_back(name: str, ending: str, tmp_path: Path) -> None:
    ansatz = ansatze[name](3, 2)
    loaded = load_ansatz(save(ansatz, tmp_path / f"a.{ending}"))
    weights = np.linspace(-2, 3, ansatz.num_parameters)
    assert [p.name for p in loaded.parameters] == [p.name for p in ansatz.parameters]
    assert Operator(loaded.assign_parameters(weights)) == Operator(
        ansatz.assign_parameters(weights)
    )
    readout = ClassGroups(2, 3)
    ours, theirs = (CircuitModel(angle(3), part, readout).circuit for part in (ansatz, loaded))
    assert ours == theirs


@pytest.mark.parametrize("ending", ["qasm", "qpy"])
def test_final_measurements_are_removed_and_nothing_else(ending: str, tmp_path: Path) -> None:
    a = Parameter("a")
    ansatz = QuantumCircuit(4, name="mine", metadata={"from": "me"})  # qubit 3 stays idle
    ansatz.add_register(ClassicalRegister(2, "kept"), ClassicalRegister(1, "more"))
    ansatz.rx(a, 0)
    ansatz.barrier()
    ansatz.cx(0, 2)
    plain = ansatz.remove_final_measurements(inplace=False)
    ansatz.barrier()
    ansatz.measure([0, 2], [1, 2])
    loaded = load_ansatz(save(ansatz, tmp_path / f"a.{ending}"))
    assert (loaded.num_qubits, loaded.num_clbits) == (4, 0)
    assert loaded.count_ops() == {"rx": 1, "barrier": 1, "cx": 1}
    assert Operator(loaded.assign_parameters([0.3])) == Operator(plain.assign_parameters([0.3]))
    if ending == "qpy":  # OpenQASM keeps no names
        assert (loaded.name, loaded.metadata) == ("mine", {"from": "me"})


@pytest.mark.parametrize("ending", ["qasm", "qpy"])
def test_measurements_in_the_middle_are_refused(ending: str, tmp_path: Path) -> None:
    ansatz = QuantumCircuit(2, 1)
    ansatz.rx(Parameter("a"), 0)
    ansatz.measure(0, 0)
    ansatz.cx(0, 1)
    path = save(ansatz, tmp_path / f"bad.{ending}")
    with pytest.raises(CircuitError, match=rf"\(bad\.{ending}\) is unitary.*'measure' on q"):
        load_ansatz(path)


def test_openqasm_2_is_read_and_lacks_weights(tmp_path: Path) -> None:
    circuit = QuantumCircuit(2, 2)
    circuit.rx(0.5, 0)
    circuit.cx(0, 1)
    wanted = Operator(circuit)
    circuit.measure([0, 1], [0, 1])
    path = tmp_path / "old.qasm"
    path.write_text("// a comment first\n" + qasm2.dumps(circuit))
    loaded = load_ansatz(path)
    assert Operator(loaded) == wanted
    with pytest.raises(CircuitError, match="at least one trainable weight"):
        CircuitModel(angle(2), loaded, ClassGroups(2, 2))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be read; got .*none\.qpy: No such file.*Check"):
        load_ansatz(tmp_path / "none.qpy")
    (tmp_path / "folder.qasm").mkdir()
    with pytest.raises(StorageError, match=r"folder\.qasm: Is a directory"):
        load_ansatz(tmp_path / "folder.qasm")


def test_the_ending_tells_the_format(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"got circuit\.json; expected \.qasm or \.qpy"):
        load_ansatz(str(tmp_path / "circuit.json"))


@pytest.mark.parametrize("count", [0, 2])
def test_one_circuit_a_file(count: int, tmp_path: Path) -> None:
    circuits = [hardware_efficient(2, 1) for _ in range(count)]
    for k, circuit in enumerate(circuits):
        circuit.name = f"circuit {k}"
    path = tmp_path / "several.qpy"
    with path.open("wb") as file:
        qpy.dump(circuits, file)
    with pytest.raises(CircuitError, match=rf"one circuit; got {count} in several\.qpy"):
        load_ansatz(path)


@pytest.mark.parametrize("keep", [0, 5, 60, -7])
def test_a_cut_qpy_file_is_damaged(keep: int, tmp_path: Path) -> None:
    path = save(hardware_efficient(2, 1), tmp_path / "cut.qpy")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StorageError, match=r"QPY file is damaged, or newer.*cut\.qpy: .*again"):
        load_ansatz(path)


@pytest.mark.parametrize("text", ["", "qubit[2] q;", "OPENQASM 4.0;", "\xff\xfe not text"])
def test_openqasm_states_its_version(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.qasm"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(StorageError, match=r"states its version first; got bad\.qasm: .*OPENQ"):
        load_ansatz(path)


@pytest.mark.parametrize(("version", "text"), [("2.0", "qreg q[;"), ("3.0", "qubit q[;")])
def test_a_syntax_error_is_located(version: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.qasm"
    path.write_text(f"OPENQASM {version};\n\n{text}\n")  # line 3
    with pytest.raises(StorageError, match=r"be parsed; got bad\.qasm: .*\b3\b.*Mend the file"):
        load_ansatz(path)


def test_a_vectors_weights_keep_their_order_in_both_formats(tmp_path: Path) -> None:
    ansatz = QuantumCircuit(1)
    plain = [Parameter(name) for name in ("theta", "theta_a", "w10", "w9", "_2_")]
    for k, weight in enumerate(
        [*ParameterVector("theta", 12), *ParameterVector("theta1", 2), *plain]
    ):
        (ansatz.rx if k % 2 else ansatz.ry)(weight, 0)
    weights = np.linspace(-2, 3, ansatz.num_parameters)
    wanted = Operator(ansatz.assign_parameters(weights))
    for ending in ("qasm", "qpy"):
        loaded = load_ansatz(save(ansatz, tmp_path / f"a.{ending}"))
        assert [p.name for p in loaded.parameters] == [p.name for p in ansatz.parameters]
        assert Operator(loaded.assign_parameters(weights)) == wanted


def test_names_that_could_be_one_element_twice_come_as_declared(tmp_path: Path) -> None:
    path = tmp_path / "own.qasm"
    inputs = "".join(f"input float[64] {name};" for name in ("_a_1_", "_a_01_"))
    path.write_text(
        f'OPENQASM 3.0; include "stdgates.inc"; {inputs} qubit q; rx(_a_1_) q; ry(_a_01_) q;'
    )
    wanted = QuantumCircuit(1)
    wanted.rx(0.3, 0)
    wanted.ry(0.4, 0)
    assert Operator(load_ansatz(path).assign_parameters([0.3, 0.4])) == Operator(wanted)


_ODD = ("2a", "B", "a b", "a-b", "θ", "θ 1", "input", "gate", "pi", "sin", "x[3]", "_z", "$v",
        "λ10", "λ2", "A.b", "w10", "w9")  # fmt: skip


@pytest.mark.parametrize("ending", ["qasm", "qpy"])
def test_names_that_openqasm_must_escape_keep_their_order(ending: str, tmp_path: Path) -> None:
    ansatz = QuantumCircuit(2)
    # Qiskit 2.5 writes a parameter `pi` as it is, which no reader takes for one.
    names = [name for name in _ODD if name != "pi" or version("qiskit") >= "2.6"]
    for k, weight in enumerate([*map(Parameter, names), *ParameterVector("t-1", 12)]):
        (ansatz.rx if k % 2 else ansatz.ry)(weight, k // 2 % 2)
    ansatz.cx(0, 1)
    weights = np.linspace(-2, 3, ansatz.num_parameters)
    loaded = load_ansatz(save(ansatz, tmp_path / f"odd.{ending}"))
    assert Operator(loaded.assign_parameters(weights)) == Operator(
        ansatz.assign_parameters(weights)
    )


@pytest.mark.parametrize("ending", ["qasm", "qpy"])
def test_a_transpiled_circuit_keeps_its_qubits_or_is_refused(ending: str, tmp_path: Path) -> None:
    ansatz = hardware_efficient(3, 1)
    moved = transpile(ansatz, basis_gates=["cx", "rz", "sx"], initial_layout=[2, 0, 1])
    path = save(moved, tmp_path / f"moved.{ending}")
    if ending == "qasm":  # the file does not say what became of the qubits
        with pytest.raises(CircuitError, match=r"which qubit is which; got moved\.qasm.*\$0.*QPY"):
            load_ansatz(path)
        return
    weights = np.linspace(-2, 3, ansatz.num_parameters)
    found = Operator(load_ansatz(path).assign_parameters(weights))
    assert found.equiv(Operator(ansatz.assign_parameters(weights)))


_LATER = """swap q[0],q[1]; cp(0.3) q[0],q[1]; sx q[0]; p(0.1) q[0]; rzz(0.4) q[0],q[1]; sxdg q[1];
    crx(0.3) q[0],q[1]; cry(0.3) q[0],q[1]; rccx q[0],q[1],q[2]; c3x q[0],q[1],q[2],q[3];
    cu(0.1,0.2,0.3,0.4) q[0],q[1]; u(0.1,0.2,0.3) q[0]; rxx(0.3) q[0],q[1]; csx q[0],q[1];
    cswap q[0],q[1],q[2]; c3sqrtx q[0],q[1],q[2],q[3]; cu3(0.1,0.2,0.3) q[1],q[2];"""


def test_openqasm_2_of_other_tools(tmp_path: Path) -> None:
    # A byte-order mark, an upper-case name, gates that are younger than the paper, an include
    # beside the file and one in a comment, two classical registers.
    (tmp_path / "mine.inc").write_text("gate foo(t) x,y { rx(t) x; cx x,y; ry(0.5) y; }\n")
    path = tmp_path / "OLD.QASM"
    path.write_bytes(
        b"\xef\xbb\xbf// include \"nothing.inc\";\nOPENQASM 2.0; include 'qelib1.inc';"
        b'include "mine.inc"; qreg q[4]; creg a[1]; creg b[3];' + _LATER.encode() +
        b"foo(0.7) q[2],q[3]; barrier q; measure q[0] -> a[0]; measure q[3] -> b[1];"
    )  # fmt: skip
    loaded = load_ansatz(path)
    assert (loaded.num_qubits, loaded.num_clbits) == (4, 0)
    free = load_ansatz(path, trainable=True)
    angles = free.metadata["angles"]
    assert angles == [0.3, 0.1, 0.4, 0.3, 0.3, 0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.3, 0.1, 0.2,
                      0.3, 0.7, 0.5]  # fmt: skip
    assert [p.name for p in free.parameters][:2] == ["weight_000", "weight_001"]
    assert Operator(free.assign_parameters(angles)).equiv(Operator(loaded))
    assert CircuitModel(angle(4), free, ClassGroups(2, 4)).num_weights == 18


def test_a_gate_that_a_file_defines_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "own.qasm"
    path.write_text(
        'OPENQASM 2.0; include "qelib1.inc"; gate cp(t) a,b { cx a,b; rx(t) b; }'
        "qreg q[2]; cp(0.7) q[0],q[1];"
    )
    wanted = QuantumCircuit(2)
    wanted.cx(0, 1)
    wanted.rx(0.7, 1)
    assert Operator(load_ansatz(path)) == Operator(wanted)


def test_free_and_fixed_angles_of_openqasm_3_become_weights_in_order(tmp_path: Path) -> None:
    (tmp_path / "mine.inc").write_text("OPENQASM 3.0; gate foo(t) x { rx(t) x; ry(0.5) x; }")
    path = tmp_path / "new.qasm"
    path.write_text(
        'OPENQASM 3.0; include "stdgates.inc"; include "mine.inc"; input float b; input angle a;'
        "qubit[2] q; foo(0.25) q[0]; foo(a) q[1]; rz(a + b) q[0];"
    )
    free = load_ansatz(path, trainable=True)
    assert free.metadata["angles"] == [0.25, 0.5, None, 0.5, None]
    assert free.num_parameters == 5


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("input float a; qubit q; rx(a**2) q;", r"\*\*.*reader takes less.*qpy\.dump"),
        ("input float a; qubit q; rx(sin(a)) q;", r"FunctionCall.*reader takes less.*qpy\.dump"),
        ('include "no.inc"; qubit q;', r"lies beside it; got 'no\.inc' in .*No such file.*Copy"),
        ('include "loop.inc"; qubit q;', r"got 'loop\.inc'.*without end"),
        ("qubit[2] q; bit c; c = measure q[0]; if (c) {x q[1];}", "unitary.*measure"),
        ("qubit q; reset q; h q;", "unitary.*reset"),
        ("qubit q; for int i in [0:2] {x q;}", "unitary.*for_loop"),
    ],
)
def test_what_openqasm_3_cannot_hold_is_said(body: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "loop.inc").write_text('include "loop.inc";')
    path = tmp_path / "bad.qasm"
    path.write_text(f'OPENQASM 3.0; include "stdgates.inc"; {body}')
    with pytest.raises((CircuitError, StorageError), match=match):
        load_ansatz(path)


@pytest.mark.parametrize(
    "text",
    [
        'OPENQASM 2.0; include "qelib1.inc"; qreg q[100000000]; x q[0];',
        "OPENQASM 2.0; qreg q[2]; creg c [ 100000000 ];",
        "OPENQASM 3.0; qubit[100000000] q;",
        "OPENQASM 3.0; qubit[1] q; bit[100000000] c;",
    ],
)
def test_registers_that_nobody_has_are_refused_at_once(text: str, tmp_path: Path) -> None:
    path = tmp_path / "huge.qasm"
    path.write_text(text)
    with pytest.raises(CircuitError, match=r"could hold; got 100,000,000 bits in huge\.qasm"):
        load_ansatz(path)


@pytest.mark.parametrize("version", [13, qpy.common.QPY_VERSION])
def test_a_qpy_header_that_promises_too_much_is_refused(version: int, tmp_path: Path) -> None:
    path = tmp_path / "huge.qpy"
    with path.open("wb") as file:
        qpy.dump(QuantumCircuit(77), file, version=version)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x00\x00\x00M", b"\x10\x00\x00M", 1))
    with pytest.raises(CircuitError, match=r"got 268,435,533 bits in huge\.qpy"):
        load_ansatz(path)


@pytest.mark.parametrize("version", [13, qpy.common.QPY_VERSION])
@pytest.mark.parametrize("place", [13, 21, 25, 33])  # metadata, registers, instructions, variables
def test_a_qpy_header_that_its_file_cannot_hold_is_damage(
    version: int, place: int, tmp_path: Path
) -> None:
    path = tmp_path / "bad.qpy"
    with path.open("wb") as file:
        qpy.dump(hardware_efficient(2, 1), file, version=version)
    content = bytearray(path.read_bytes())
    content[(20 if version < 16 else 28) + place + (4 if place in (13, 25) else 0)] = 0x7F
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"damaged; got bad\.qpy: [0-9,]+ parts in .* bytes"):
        load_ansatz(path)


def test_definitions_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_MOST_GATES", 1000)
    levels = "".join(f"gate g{k + 1} a {{ g{k} a; g{k} a; }}" for k in range(40))
    path = tmp_path / "levels.qasm"
    path.write_text(f"OPENQASM 2.0; gate g0 a {{ U(0,0,0.1) a; }} {levels} qreg q[1]; g40 q[0];")
    with pytest.raises(ResourceError, match=r"more than 1,000 gates.*defined by each other"):
        load_ansatz(path)


def test_an_opaque_gate_is_named(tmp_path: Path) -> None:
    path = tmp_path / "opaque.qasm"
    path.write_text("OPENQASM 2.0; opaque bar(t) a,b; qreg q[2]; bar(0.7) q[0],q[1];")
    with pytest.raises(CircuitError, match=r"'bar' on qubits \[0, 1\]: it has neither a matrix"):
        load_ansatz(path)


@pytest.mark.parametrize("seed", range(40))
def test_a_spoilt_file_is_a_clear_error(seed: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(seed)
    path = save(hardware_efficient(2, 1), tmp_path / f"spoilt.{('qpy', 'qasm')[seed % 2]}")
    content = bytearray(path.read_bytes())
    for place in draw.integers(0, len(content), 1 + seed % 4):
        content[place] = draw.integers(0, 256)
    path.write_bytes(content)
    with contextlib.suppress(CircuitError, StorageError):  # nothing of Qiskit's, and no panic
        CircuitModel(angle(2), load_ansatz(path), ClassGroups(2, 2))
