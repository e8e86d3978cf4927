# SPDX-License-Identifier: Apache-2.0
"""The published circuit files: what they are, how they are written, how they are verified.

Each template is one circuit with free parameters, as OpenQASM 3 and as QPY, for any Qiskit user.
Parameters have fixed identities, so the files are the same bytes on every machine. The manifest
says what generated each file and in which order its parameters are bound. This module must not
import torch.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import qiskit
from qiskit import QuantumCircuit, qasm3, qpy
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Operator

from qiskit_kd.circuits.ansatze import ansatze
from qiskit_kd.circuits.checks import check_unitary
from qiskit_kd.circuits.encodings import encodings
from qiskit_kd.circuits.files import read_circuit
from qiskit_kd.circuits.model import CircuitModel, Encoding
from qiskit_kd.circuits.readouts import Observables
from qiskit_kd.errors import CircuitError, StorageError
from qiskit_kd.files import write_atomically
from qiskit_kd.seeding import stream

QPY_VERSION = 13
"""Readable by Qiskit 1.3 and later."""

_FORMAT = 1
_LICENCE = "Apache-2.0"
_TOLERANCE = 1e-12
_SHOWN = 5  # differences spelt out in an error


@dataclass(frozen=True)
class Template:
    """One published circuit: an ansatz, alone or behind an encoding.

    Args:
        name: File name without ending.
        num_qubits: Qubits.
        ansatz: Registered name and options of the ansatz.
        encoding: Registered name and options of the encoding, or None.
    """

    name: str
    num_qubits: int
    ansatz: tuple[str, dict[str, Any]]
    encoding: tuple[str, dict[str, Any]] | None = None

    @cached_property
    def encoder(self) -> Encoding | None:
        """The encoding, if there is one."""
        if self.encoding is None:
            return None
        name, options = self.encoding
        return encodings[name](self.num_qubits, **options)

    @cached_property
    def circuit(self) -> QuantumCircuit:
        """The circuit, its parameters free.

        Controlled rotations are written as CX and rotations by half the angle: Qiskit Aer, up to
        0.18, runs `crx` at angle zero where values are bound by the run.
        """
        name, options = self.ansatz
        circuit = ansatze[name](self.num_qubits, **options)
        if self.encoder is not None:
            readout = Observables(["Z" * self.num_qubits])  # not part of the circuit
            circuit = CircuitModel(self.encoder, circuit, readout).circuit
        published = QuantumCircuit(self.num_qubits, name=self.name)
        for item in circuit.data:
            if item.operation.name == "crx":
                published.compose(item.operation.definition, item.qubits, inplace=True)
            else:
                published.append(item)
        return published

    @property
    def qasm(self) -> bytes:
        """The OpenQASM 3 file."""
        return f"// SPDX-License-Identifier: Apache-2.0\n{qasm3.dumps(self.circuit)}".encode()

    @property
    def qpy(self) -> bytes:
        """The QPY file."""
        buffer = io.BytesIO()
        qpy.dump(self.circuit, buffer, version=QPY_VERSION)
        return buffer.getvalue()

    @property
    def facts(self) -> dict[str, Any]:
        """The manifest's entry, without the hashes."""
        parts = {"encoding": self.encoding, "ansatz": self.ansatz}
        names = [parameter.name for parameter in self.circuit.parameters]
        return {
            "name": self.name,
            "generator": {
                part: {
                    "function": f"qiskit_kd.circuits.{made[0]}",
                    "arguments": {"num_qubits": self.num_qubits, **made[1]},
                }
                for part, made in parts.items()
                if made is not None
            },
            "qubits": self.num_qubits,
            "depth": self.circuit.depth(),
            "two_qubit_gates": self.circuit.num_nonlocal_gates(),
            "features": self.encoder.num_features if self.encoder else 0,
            "inputs": [name for name in names if name.startswith("input_")],
            "weights": [name for name in names if name.startswith("weight_")],
        }


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found in order."""

    folder: Path
    names: tuple[str, ...]
    """The templates that were checked."""
    deviation: float
    """Largest difference between a matrix element of a reloaded file and of a fresh circuit."""


def templates() -> list[Template]:
    """Every published circuit: ansatze alone and behind encodings, at 2, 4 and 6 qubits."""
    return list(_published())


def _published() -> Iterator[Template]:
    for n, layers in ((2, 1), (4, 1), (6, 4)):
        hardware = ("hardware_efficient", {"layers": layers})
        for name, options in (
            hardware,
            ("real_amplitudes", {"layers": 2}),
            ("strongly_entangling", {"layers": 2}),
            ("su4_brickwork", {"layers": 1}),
            ("product", {"layers": layers}),
        ):
            yield Template(f"{name}-q{n}-l{options['layers']}", n, (name, options))
        for name in ("amplitude", "amplitude_mps", "angle", "dense_angle"):
            yield Template(f"{name}-hardware_efficient-q{n}-l{layers}", n, hardware, (name, {}))
        yield Template(
            f"reuploading-real_amplitudes-q{n}-l2",
            n,
            ("real_amplitudes", {"layers": 1}),
            ("reuploading", {"layers": 2}),
        )
    # The 74-weight student and its entanglement-free control.
    student = ("hardware_efficient", {"layers": 4, "final_ry": True})
    control = ("product", {"num_weights": 74})
    for name, part in (("hardware_efficient-q6-l4-ry", student), ("product-q6-w74", control)):
        yield Template(name, 6, part)
        yield Template(f"amplitude-{name}", 6, part, ("amplitude", {}))


def export(folder: str | Path) -> Path:
    """Write all templates and the manifest; other files in the folder are left alone.

    Args:
        folder: Created if missing; files go to `folder/templates`.

    Returns:
        The path of the manifest, which is written last.

    Raises:
        StorageError: If a file cannot be written.
    """
    folder = Path(folder)
    entries = []
    for template in templates():
        files = {"qasm": template.qasm, "qpy": template.qpy}
        for ending, content in files.items():
            write_atomically(folder / _path(template, ending), content)
        entries.append(
            template.facts
            | {
                "files": {
                    ending: {"path": _path(template, ending), "sha256": _sha256(content)}
                    for ending, content in files.items()
                }
            }
        )
    manifest = {
        "format": _FORMAT,
        "licence": _LICENCE,
        "qpy_version": QPY_VERSION,
        "written_with": {"qiskit": qiskit.__version__},
        "circuits": entries,
    }
    path = folder / "manifest.json"
    write_atomically(path, (json.dumps(manifest, indent=1) + "\n").encode())
    return path


def verify(folder: str | Path) -> VerifyReport:
    """Check a folder of published circuits against freshly generated ones.

    For every template: the manifest's entry is what the generator says; both files have the
    manifest's hash; the OpenQASM text is byte-identical; the QPY circuit is equal; both, loaded
    with plain Qiskit, have their parameters in the manifest's order and the same unitary to 1e-12
    at random angles. (QPY bytes differ between Qiskit versions, which they record.)

    Args:
        folder: The folder that `export` wrote.

    Returns:
        What was checked.

    Raises:
        StorageError: If anything is missing, damaged, foreign or different; the message names the
            files and differences.
    """
    folder = Path(folder)
    entries, problems = _read_manifest(folder / "manifest.json")
    expected = {template.name: template for template in templates()}
    deviation = 0.0
    for name in sorted(expected.keys() - entries.keys()):
        problems.append(f"manifest.json: no entry {name!r}")
    for name in sorted(entries.keys() - expected.keys()):
        problems.append(f"manifest.json: unknown entry {name!r}")
    known = {
        _path(template, ending) for template in expected.values() for ending in ("qasm", "qpy")
    }
    for path in sorted((folder / "templates").glob("*")):
        if f"templates/{path.name}" not in known:
            problems.append(f"templates/{path.name}: not a published circuit")
    for name in (name for name in expected if name in entries):
        found, far = _check(folder, expected[name], entries[name])
        problems += found
        deviation = max(deviation, far)
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise StorageError(
            "the published circuits are not what their generators make",
            got="; ".join(problems[:_SHOWN]) + more,
            remedy="Restore the files, or write them anew with `qkd circuits export`.",
        )
    return VerifyReport(folder, tuple(expected), deviation)


def _check(folder: Path, template: Template, entry: dict[str, Any]) -> tuple[list[str], float]:
    """Differences of one template, and how far its reloaded unitaries are off."""
    problems = [
        f"manifest.json: {template.name}: {key} is {entry.get(key)!r}, not {value!r}"
        for key, value in template.facts.items()
        if not _same(entry.get(key), value)
    ]
    where = f"manifest.json: {template.name}"
    problems += _unknown(entry, {*template.facts, "files"}, where)
    files = _mapping(entry.get("files"), {"qasm", "qpy"}, f"{where}: files", problems)
    deviation = 0.0
    order = template.facts["inputs"] + template.facts["weights"]
    angles = stream(0, "verify", template.name).uniform(-np.pi, np.pi, len(order))
    reference = Operator(template.circuit.assign_parameters(angles)).data
    for ending in ("qasm", "qpy"):
        relative = _path(template, ending)
        path = folder / relative
        stated = _mapping(
            files.get(ending), {"path", "sha256"}, f"{where}: files.{ending}", problems
        )
        if stated.get("path") != relative:
            problems.append(f"manifest.json: {template.name}: no path {relative!r}")
        try:
            content = path.read_bytes()
            with warnings.catch_warnings():
                # Version 13 is written for older readers; that they are older is no news.
                warnings.filterwarnings("ignore", "The qiskit version used to generate")
                loaded = read_circuit(path)
        except (OSError, ValueError, StorageError) as error:
            problems.append(f"{relative}: {error}")
            continue
        if _sha256(content) != stated.get("sha256"):
            problems.append(f"{relative}: its sha256 is not the manifest's")
        if ending == "qasm" and content != template.qasm:
            problems.append(f"{relative}: {_first_difference(content, template.qasm)}")
        if ending == "qpy" and (loaded != template.circuit or loaded.name != template.name):
            problems.append(f"{relative}: another circuit than the generator's")
        names = [parameter.name for parameter in loaded.parameters]
        if names != order:
            problems.append(f"{relative}: its parameters are not those of the manifest, in order")
        elif loaded.num_qubits != template.num_qubits:
            problems.append(f"{relative}: {loaded.num_qubits} qubits, not {template.num_qubits}")
        else:
            try:
                check_unitary(loaded, part="a published circuit")
                unitary = Operator(loaded.assign_parameters(angles)).data
            except (CircuitError, QiskitError) as error:
                problems.append(f"{relative}: {error}")
                continue
            far = float(np.abs(unitary - reference).max())
            deviation = max(deviation, far)
            if not far <= _TOLERANCE:
                problems.append(f"{relative}: its unitary differs by {far:.1e}")
    return problems, deviation


def _same(found: object, wanted: object) -> bool:
    """Equality of JSON values; in Python `True == 1 == 1.0`."""
    return json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def _unknown(found: dict[str, Any], known: set[str], where: str) -> list[str]:
    return [f"{where}: unknown key {key!r}" for key in sorted(found.keys() - known)]


def _mapping(found: object, known: set[str], where: str, problems: list[str]) -> dict[str, Any]:
    """`found` if it is a mapping, else an empty one; what is wrong goes to `problems`."""
    if not isinstance(found, dict):
        if found is not None:
            problems.append(f"{where} is {found!r}, not a mapping")
        return {}
    problems += _unknown(found, known, where)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return made


def _read_manifest(path: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Entries by name, and what is wrong with the manifest as a whole."""
    try:
        manifest = json.loads(path.read_bytes(), object_pairs_hook=_once)
        found = manifest["format"], manifest["qpy_version"]
        names = [entry["name"] for entry in manifest["circuits"]]
        if foreign := [name for name in names if not isinstance(name, str)]:
            raise TypeError(f"the name of a circuit is {foreign[0]!r}, not text")
    except OSError as error:
        raise StorageError(
            "a folder of published circuits has a manifest",
            got=f"{path}: {error.strerror}",
            remedy="Check the path, or write the folder with `qkd circuits export`.",
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StorageError(
            "the manifest is damaged",
            got=f"{path}: {type(error).__name__}: {error}",
            remedy="Restore it, or write it anew with `qkd circuits export`.",
        ) from error
    if found != (_FORMAT, QPY_VERSION):
        raise StorageError(
            "the manifest has another format",
            got=f"{path}: format, QPY version {found}",
            expected=str((_FORMAT, QPY_VERSION)),
            remedy="Use the version of qiskit_kd that wrote it, or export anew.",
        )
    where = "manifest.json"
    known = {"format", "licence", "qpy_version", "written_with", "circuits"}
    problems = _unknown(manifest, known, where)
    if manifest.get("licence") != _LICENCE:
        problems.append(f"{where}: licence is {manifest.get('licence')!r}, not {_LICENCE!r}")
    problems += [
        f"{where}: {names.count(name)} entries {name!r}"
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    return {entry["name"]: entry for entry in manifest["circuits"]}, problems


def _first_difference(found: bytes, wanted: bytes) -> str:
    pairs = zip(found.splitlines(), wanted.splitlines(), strict=False)
    for number, (line, should) in enumerate(pairs, start=1):
        if line != should:
            return f"line {number} is {line.decode(errors='replace')!r}, not {should.decode()!r}"
    return f"{len(found)} bytes, not {len(wanted)}"


def _path(template: Template, ending: str) -> str:
    return f"templates/{template.name}.{ending}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
