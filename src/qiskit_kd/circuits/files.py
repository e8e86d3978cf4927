# SPDX-License-Identifier: Apache-2.0
"""Circuits from a user's files: OpenQASM 3, OpenQASM 2 and QPY.

A file is told by its name (`.qasm`, `.qpy`), an OpenQASM version by the first statement. This
module must not import torch.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from qiskit import QuantumCircuit, qasm2, qasm3, qpy
from qiskit.circuit import ParameterVector

from qiskit_kd.circuits.checks import bare, check_unitary
from qiskit_kd.errors import CircuitError, StorageError

__all__ = ["load_ansatz", "read_circuit"]

_COMMENTS = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_ELEMENT = re.compile(r"_(.+)_(\d{1,5})_")
_VERSION = re.compile(r"\s*OPENQASM\s+(\d+)(?:\.\d+)?\s*;")


def load_ansatz(path: str | Path) -> QuantumCircuit:
    """Read a circuit to be used as an ansatz.

    Measurements at the end, and the classical bits they write to, are removed: what is measured is
    the readout's business. Gates, parameters, name and metadata stay as they are. OpenQASM 2 has no
    free parameters, so a circuit from it needs some before a `CircuitModel` accepts it.

    Qiskit writes the elements of a `ParameterVector` to OpenQASM 3 as `_theta_0_`, `_theta_1_`, and
    so on, which as names sort 0, 1, 10, 11, 2; they are made a vector again, so that the weights
    come in the same order from `.qasm` as from `.qpy`.

    Args:
        path: A `.qasm` or `.qpy` file.

    Returns:
        The circuit on plain qubits. Its weights are its parameters in Qiskit's own order, which is
        that of their names, and within a vector that of the elements.

    Raises:
        StorageError: If the file is missing, unreadable, or not what its name says.
        CircuitError: If it holds no circuit or several, or a circuit that measures in the middle.
    """
    circuit = read_circuit(path).remove_final_measurements(inplace=False)
    check_unitary(circuit, part=f"an ansatz ({Path(path).name})")
    if Path(path).suffix == ".qasm":
        circuit = _with_vectors(circuit)
    return bare(circuit)


def read_circuit(path: str | Path) -> QuantumCircuit:
    """Read the one circuit of a `.qasm` or `.qpy` file, as it is.

    Raises:
        StorageError: If the file is missing, unreadable, or not what its name says.
        CircuitError: If a QPY file holds no circuit or several.
    """
    path = Path(path)
    readers = {".qasm": _read_qasm, ".qpy": _read_qpy}
    if path.suffix not in readers:
        raise StorageError(
            "circuit files are told by their names", got=path.name, expected=".qasm or .qpy",
            remedy="Rename the file, or write it with qiskit.qasm3.dump or qiskit.qpy.dump.",
        )  # fmt: skip
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(
            "the circuit file cannot be read", got=f"{path}: {error.strerror or error}",
            remedy="Check the path; it is taken relative to the current folder.",
        ) from error  # fmt: skip
    return readers[path.suffix](path, content)


def _read_qasm(path: Path, content: bytes) -> QuantumCircuit:
    text = content.decode("utf-8", errors="replace")
    version = _VERSION.match(_COMMENTS.sub("", text))
    loads = {"2": qasm2.loads, "3": qasm3.loads}.get(version.group(1) if version else "")
    if loads is None:
        raise StorageError(
            "an OpenQASM file states its version first", got=f"{path.name}: {text[:40]!r}",
            expected="'OPENQASM 3.0;' or 'OPENQASM 2.0;'",
        )  # fmt: skip
    try:
        circuit: QuantumCircuit = loads(text)
    except Exception as error:
        # The readers raise errors of many classes.
        raise StorageError(
            "the OpenQASM file cannot be parsed", got=f"{path.name}: {str(error) or _where(error)}",
            remedy="Mend the file, or write it with qiskit.qasm3.dump.",
        ) from error  # fmt: skip
    return circuit


def _with_vectors(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with the parameters called `_theta_0_ ...` as elements of vectors."""
    found = {p: m for p in circuit.parameters if (m := _ELEMENT.fullmatch(p.name))}
    sizes: dict[str, int] = {}
    for match in found.values():
        sizes[match[1]] = max(sizes.get(match[1], 0), int(match[2]) + 1)
    vectors = {name: ParameterVector(name, size) for name, size in sizes.items()}
    elements = {p: vectors[match[1]][int(match[2])] for p, match in found.items()}
    if len(set(elements.values())) < len(elements):  # hand-written `_a_1_` beside `_a_01_`
        return circuit
    return circuit.assign_parameters(elements)


def _where(error: Exception) -> str:
    """Where the OpenQASM 3 parser stopped; its own error is empty, the token lies behind it."""
    behind = next(iter(getattr(error.__cause__, "args", ())), None)
    token = getattr(behind, "offendingToken", None)
    if token is None:
        return type(error).__name__
    return f"line {token.line}, column {token.column}: unexpected {token.text!r}"


def _read_qpy(path: Path, content: bytes) -> QuantumCircuit:

    try:
        circuits = qpy.load(io.BytesIO(content))
    except Exception as error:
        # A damaged QPY file ends in whatever error its bytes happen to cause.
        raise StorageError(
            "the QPY file is damaged, or newer than this Qiskit",
            got=f"{path.name}: {type(error).__name__}: {error}",
            remedy="Write it again with qiskit.qpy.dump, with version= for an older reader.",
        ) from error
    if len(circuits) != 1:
        names = ", ".join(circuit.name for circuit in circuits[:5])
        raise CircuitError(
            "an ansatz file holds one circuit",
            got=f"{len(circuits)} in {path.name}" + (f" ({names})" if circuits else ""),
            remedy="Write the wanted circuit into a file of its own.",
        )
    return circuits[0]
