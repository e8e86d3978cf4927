# SPDX-License-Identifier: Apache-2.0
"""Circuits from a user's files: OpenQASM 3, OpenQASM 2 and QPY.

A file is told by its name (`.qasm`, `.qpy`), an OpenQASM version by the first statement. This
module must not import torch.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable
from pathlib import Path

from qiskit import QuantumCircuit, qasm2, qasm3, qpy
from qiskit.circuit import Parameter, ParameterExpression, ParameterVector

from qiskit_kd.circuits.checks import bare, check_unitary, is_inert, is_standard, of_the_library
from qiskit_kd.circuits.mixing import unmeasured
from qiskit_kd.circuits.parameters import rename, weight_parameters
from qiskit_kd.errors import CircuitError, StorageError
from qiskit_kd.values import named_path

_COMMENTS = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_ELEMENT = re.compile(r"_(.+)_(\d{1,5})_")
_VERSION = re.compile(r"\s*\bOPENQASM\s+(\d+)(?:\.\d+)?\s*;")
_INCLUDE = re.compile(
    rf"""{_COMMENTS.pattern}|\binclude\s*["'](?P<name>[^"']*)["']\s*;""", re.DOTALL
)
_DEEPEST = 10
_NAMED = "a circuit file is named by its path"
# Of QPY from version 12 on: number of circuits and kind of the first; qubits, classical bits, size
# of metadata, registers, instructions, variables.
_FILE = struct.Struct("!10xQxc")
_CIRCUIT = struct.Struct("!5xIIQIQI")
_READABLE, _WITHOUT_CONTENTS = 12, 15  # a table of contents follows in version 16
_MOST_BITS = 1000
_INPUT = re.compile(r"\binput\s+\w+(?:\s*\[[^\]]*\])?\s+(\w+)\s*;")
_REGISTER = re.compile(r"\b[qc]reg\s+\w+\s*\[\s*(\d+)|\b(?:qubit|bit)\s*\[\s*(\d+)")
_PHYSICAL = re.compile(r"\$\d+")
_LIBRARIES = ("stdgates.inc", "stdgates.qasm", "qelib1.inc")


def load_ansatz(path: str | Path, *, trainable: bool = False) -> QuantumCircuit:
    """Read a circuit to be used as an ansatz.

    Measurements at the end, and the classical bits they write to, are removed: what is measured is
    the readout's business. Gates, parameters, name and metadata stay as they are. OpenQASM 2 has no
    free parameters, so a circuit from it needs `trainable`.

    OpenQASM 3 allows fewer names than Qiskit, and the names that Qiskit writes instead sort in
    another order (`_theta_10_` before `_theta_2_`). The weights therefore come in the order in
    which the file declares its inputs, which is that of the circuit it was written from: the same
    from `.qasm` as from `.qpy`. Elements of a `ParameterVector` are made a vector again; where
    names would still sort in another order, the parameters are called `weight_000 ...`.

    Args:
        path: A `.qasm` or `.qpy` file. What an OpenQASM file includes is looked for beside it.
        trainable: Make every fixed angle of a gate a weight of its own, `weight_000 ...` in the
            order of the gates, free parameters among them; the angles are kept in the circuit's
            metadata under `"angles"` (None where a parameter was free).

    Returns:
        The circuit on plain qubits; its weights are `circuit.parameters`.

    Raises:
        StorageError: If the file is missing, unreadable, or not what its name says.
        CircuitError: If it holds no circuit or several, a circuit that measures in the middle or
            whose qubits are physical ones, or gates that nobody knows.
    """
    path = named_path(path, _NAMED, error=StorageError)
    part = f"an ansatz ({path.name})"
    circuit, _ = unmeasured(read_circuit(path))
    check_unitary(circuit, part=part)
    circuit = bare(circuit, part=part)
    return _all_free(circuit) if trainable else circuit


def read_circuit(path: str | Path) -> QuantumCircuit:
    """The one circuit of a `.qasm` or `.qpy` file, as it is but for the order of parameters."""
    path = named_path(path, _NAMED, error=StorageError)
    readers = {".qasm": _read_qasm, ".qpy": _read_qpy}
    ending = path.suffix.lower()
    if ending not in readers:
        raise StorageError(
            "circuit files are told by their names",
            got=path.name,
            expected=".qasm or .qpy",
            remedy="Rename the file, or write it with qiskit.qasm3.dump or qiskit.qpy.dump.",
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(
            "the circuit file cannot be read",
            got=f"{path}: {error.strerror or error}",
            remedy="Check the path; it is taken relative to the current folder, in an experiment "
            "first to its own.",
        ) from error
    return readers[ending](path, content)


def _read_qasm(path: Path, content: bytes) -> QuantumCircuit:
    text = content.decode("utf-8-sig", errors="replace")
    statements = _COMMENTS.sub("", text)
    version = _VERSION.match(statements)
    loads = {"2": _loads_2, "3": _loads_3}.get(version.group(1) if version else "")
    if loads is None:
        raise StorageError(
            "an OpenQASM file states its version first",
            got=f"{path.name}: {text[:40]!r}",
            expected="'OPENQASM 3.0;' or 'OPENQASM 2.0;'",
        )
    if _PHYSICAL.search(statements):
        raise CircuitError(
            "a circuit file says which qubit is which",
            got=f"{path.name}: physical qubits such as {_PHYSICAL.findall(statements)[0]}, of a "
            "circuit that was transpiled",
            expected="'qubit[n] q;'",
            remedy="Write the circuit as it was before it was transpiled, or as QPY, which keeps "
            "the layout.",
        )
    try:
        whole = _included(text, path.parent)
        _check_size(path, [int(a or b) for a, b in _REGISTER.findall(_COMMENTS.sub("", whole))])
        circuit = loads(whole)
    except (CircuitError, StorageError):
        raise
    except Exception as error:  # the readers raise errors of many classes
        problem = str(error) or _where(error)
        tool = "Mend the file, or write it with qiskit.qasm3.dump."
        if re.search("not.{0,40} supported|unsupported|cannot be resolved", problem):
            tool = (
                "Qiskit's reader takes less than its writer writes (no powers, functions or "
                "variables): write the circuit with qiskit.qpy.dump as .qpy."
            )
        raise StorageError(
            "the OpenQASM file cannot be parsed", got=f"{path.name}: {problem}", remedy=tool
        ) from error
    return circuit


def _loads_2(whole: str) -> QuantumCircuit:
    own = set(re.findall(r"\bgate\s+(\w+)", _COMMENTS.sub("", whole)))
    # Gates that were added to qelib1.inc after the paper; what a file defines itself stays its own.
    later = [gate for gate in qasm2.LEGACY_CUSTOM_INSTRUCTIONS if gate.name not in own]
    circuit: QuantumCircuit = qasm2.loads(
        whole, custom_instructions=later, custom_classical=qasm2.LEGACY_CUSTOM_CLASSICAL
    )
    return circuit


def _loads_3(whole: str) -> QuantumCircuit:
    circuit = _with_vectors(qasm3.loads(whole))
    order = {name: k for k, name in enumerate(_INPUT.findall(_COMMENTS.sub("", whole)))}
    declared = sorted(circuit.parameters, key=lambda p: order.get(_escaped(p), len(order)))
    if declared == list(circuit.parameters):
        return circuit
    return rename(circuit, weight_parameters(len(declared)), declared)


def _escaped(parameter: Parameter) -> str:
    """The name that `_with_vectors` found in the file."""
    vector = getattr(parameter, "vector", None)
    return str(parameter.name if vector is None else f"_{vector.name}_{parameter.index}_")


def _included(text: str, folder: Path, depth: int = 0) -> str:
    """The text with the files it includes in their places, but for the standard libraries."""

    def content(match: re.Match[str]) -> str:
        if match["name"] is None or match["name"] in _LIBRARIES:
            return match[0]
        try:
            if depth == _DEEPEST:
                raise OSError("includes within includes, without end")
            inner = (folder / match["name"]).read_text(encoding="utf-8-sig", errors="replace")
        except (OSError, ValueError) as error:
            raise StorageError(
                "what an OpenQASM file includes lies beside it",
                got=f"{match['name']!r} in {folder}: {getattr(error, 'strerror', None) or error}",
                remedy="Copy the file there, or put its text in place of the include.",
            ) from error
        return _included(_VERSION.sub("", inner, count=1), folder, depth + 1)

    return _INCLUDE.sub(content, text)


def _all_free(circuit: QuantumCircuit) -> QuantumCircuit:
    """Every angle of every gate as a weight, in the order of the gates."""
    whole = circuit.copy_empty_like()
    order: dict[Parameter, None] = {}
    angles: list[float | None] = []

    def add(inner: QuantumCircuit, places: list[int]) -> None:
        for item in inner.data:
            gate, qubits = item.operation, [places[inner.find_bit(q).index] for q in item.qubits]
            if is_standard(gate) and not is_inert(gate) and gate.params:
                gate = gate.to_mutable()
                for k, angle in enumerate(gate.params):
                    if not isinstance(angle, ParameterExpression):
                        gate.params[k] = Parameter(f"{len(angles)} of {circuit.name}")
                    new = [p for p in gate.params[k].parameters if p not in order]
                    order.update(dict.fromkeys(sorted(new, key=lambda p: str(p.name))))
                    fixed = None if isinstance(angle, ParameterExpression) else float(angle)
                    angles.extend([fixed] * len(new))
            elif not of_the_library(gate) and getattr(gate, "definition", None) is not None:
                add(gate.definition, qubits)
                continue
            whole.append(gate, qubits)

    add(circuit, list(range(circuit.num_qubits)))
    free = rename(whole, weight_parameters(len(order)), list(order)) if order else whole
    free.metadata = {**(circuit.metadata or {}), "angles": angles}
    return free


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


def _check_size(path: Path, numbers: Iterable[int]) -> None:
    """Refuse bits that nobody has: readers would allocate them all."""
    if (most := max(numbers, default=0)) > _MOST_BITS:
        raise CircuitError(
            "a circuit is one that a device could hold",
            got=f"{most:,} bits in {path.name}",
            expected=f"at most {_MOST_BITS:,}",
            remedy="Declare the qubits that the circuit uses.",
        )


def _check_header(path: Path, content: bytes) -> None:
    """Refuse a QPY file that states other than one circuit, or more of anything than it can hold.

    The reader believes both, and allocates.
    """
    version = content[6] if len(content) > _FILE.size else 0
    if version < _READABLE or not content.startswith(b"QISKIT"):
        return  # said by the reader
    circuits, kind = _FILE.unpack_from(content)
    if circuits != 1:
        raise CircuitError(
            "an ansatz file holds one circuit",
            got=f"{circuits:,} in {path.name}",
            remedy="Write the wanted circuit into a file of its own.",
        )
    start = _FILE.size + (8 if version > _WITHOUT_CONTENTS else 0)
    if kind != b"q" or len(content) < start + _CIRCUIT.size:
        return
    qubits, clbits, *counts = _CIRCUIT.unpack_from(content, start)
    _check_size(path, (qubits, clbits))
    if max(counts) > len(content):
        raise StorageError(
            "the QPY file is damaged",
            got=f"{path.name}: {max(counts):,} parts in {len(content):,} bytes",
            remedy="Write it again with qiskit.qpy.dump.",
        )


def _read_qpy(path: Path, content: bytes) -> QuantumCircuit:
    _check_header(path, content)
    try:
        circuits = qpy.load(io.BytesIO(content))
        for circuit in circuits:  # gates and definitions are built when they are first asked for
            found = [getattr(item.operation, "definition", None) for item in circuit.data]
            if (layout := circuit.layout) is not None:
                found += [layout.initial_index_layout(True), layout.final_index_layout()]
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # the reader's panics are no Exceptions
        # A damaged QPY file ends in whatever error its bytes happen to cause.
        raise StorageError(
            "the QPY file is damaged, or newer than this Qiskit",
            got=f"{path.name}: {type(error).__name__}: {error}",
            remedy="Write it again with qiskit.qpy.dump, with version= for an older reader.",
        ) from error
    if len(circuits) != 1:  # of a version whose header is not looked at
        raise CircuitError(
            "an ansatz file holds one circuit",
            got=f"{len(circuits)} in {path.name}",
            remedy="Write the wanted circuit into a file of its own.",
        )
    return circuits[0]
