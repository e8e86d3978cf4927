# SPDX-License-Identifier: Apache-2.0
"""A user's circuit files: what is read, what is removed, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qiskit import QuantumCircuit, qasm2, qasm3, qpy
from qiskit.circuit import ClassicalRegister, Parameter, ParameterVector
from qiskit.quantum_info import Operator

from qiskit_kd.circuits import (
    CircuitModel,
    ClassGroups,
    angle,
    ansatze,
    hardware_efficient,
    load_ansatz,
)
from qiskit_kd.errors import CircuitError, StorageError


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
    with pytest.raises(CircuitError, match=rf"one circuit; got {count} in several\.qpy") as got:
        load_ansatz(path)
    assert ("(circuit 0, circuit 1)" in str(got.value)) == (count == 2)


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


def test_names_that_could_be_one_element_twice_stay(tmp_path: Path) -> None:
    path = tmp_path / "own.qasm"
    inputs = "".join(f"input float[64] {name};" for name in ("_a_1_", "_a_01_"))
    path.write_text(
        f'OPENQASM 3.0; include "stdgates.inc"; {inputs} qubit q; rx(_a_1_) q; ry(_a_01_) q;'
    )
    assert [p.name for p in load_ansatz(path).parameters] == ["_a_01_", "_a_1_"]
