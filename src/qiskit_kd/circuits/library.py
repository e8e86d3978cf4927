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
from collections.abc import Iterator, Mapping
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
    """One published circuit: an ansatz, alone or behind an encoding, each a name and options."""

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
    def contents(self) -> dict[str, bytes]:
        """The files by their endings: OpenQASM 3, and QPY."""
        text = f"// SPDX-License-Identifier: Apache-2.0\n{qasm3.dumps(self.circuit)}"
        buffer = io.BytesIO()
        qpy.dump(self.circuit, buffer, version=QPY_VERSION)
        return {"qasm": text.encode(), "qpy": buffer.getvalue()}

    def entry(self, contents: Mapping[str, bytes]) -> dict[str, Any]:
        """The manifest's entry, with the hashes of these files."""
        files = {
            ending: {"path": _path(self, ending), "sha256": hashlib.sha256(content).hexdigest()}
            for ending, content in contents.items()
        }
        return {**self.facts, "files": files}

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
    """Write all templates below `folder/templates`, then the manifest, whose path is returned.

    Other files in the folder are left alone.

    Raises:
        StorageError: If a file cannot be written.
    """
    folder = Path(folder)
    entries = []
    for template in templates():
        for ending, content in template.contents.items():
            write_atomically(folder / _path(template, ending), content)
        entries.append(template.entry(template.contents))
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

    Raises:
        StorageError: If anything is missing, damaged, foreign or different; the message names the
            files and differences.
    """
    folder = Path(folder)
    entries, problems = _read_manifest(folder / "manifest.json")
    expected = {template.name: template for template in templates()}
    deviation = 0.0
    lacking, foreign = expected.keys() - entries.keys(), entries.keys() - expected.keys()
    problems += [f"manifest.json: no entry {name!r}" for name in sorted(lacking)]
    problems += [f"manifest.json: unknown entry {name!r}" for name in sorted(foreign)]
    known = {f"{name}.{ending}" for name in expected for ending in ("qasm", "qpy")}
    found = {path.name for path in (folder / "templates").glob("*")}
    problems += [f"templates/{name}: not a published circuit" for name in sorted(found - known)]
    for name in (name for name in expected if name in entries):
        wrong, far = _check(folder, expected[name], entries[name])
        problems += wrong
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
    problems: list[str] = []
    contents: dict[str, bytes] = {}
    deviation, order = 0.0, template.facts["inputs"] + template.facts["weights"]
    angles = stream(0, "verify", template.name).uniform(-np.pi, np.pi, len(order))
    reference = Operator(template.circuit.assign_parameters(angles)).data
    for ending, wanted in template.contents.items():
        relative = _path(template, ending)
        contents[ending] = b""
        try:
            contents[ending] = content = (folder / relative).read_bytes()
            with warnings.catch_warnings():
                # Version 13 is written for older readers; that they are older is no news.
                warnings.filterwarnings("ignore", "The qiskit version used to generate")
                loaded = read_circuit(folder / relative)
            check_unitary(loaded, part="a published circuit")
        except (OSError, ValueError, StorageError) as error:
            problems.append(f"{relative}: {error}")
            continue
        if ending == "qasm" and content != wanted:
            problems.append(f"{relative}: {_first_difference(content, wanted)}")
        if ending == "qpy" and (loaded != template.circuit or loaded.name != template.name):
            problems.append(f"{relative}: another circuit than the generator's")
        names = [parameter.name for parameter in loaded.parameters]
        if names != order:
            problems.append(f"{relative}: its parameters are not those of the manifest, in order")
        elif loaded.num_qubits != template.num_qubits:
            problems.append(f"{relative}: {loaded.num_qubits} qubits, not {template.num_qubits}")
        else:
            try:
                unitary = Operator(loaded.assign_parameters(angles)).data
            except (CircuitError, QiskitError) as error:
                problems.append(f"{relative}: {error}")
                continue
            far = float(np.abs(unitary - reference).max())
            deviation = max(deviation, far)
            if not far <= _TOLERANCE:
                problems.append(f"{relative}: its unitary differs by {far:.1e}")
    where = f"manifest.json: {template.name}"
    return [*_differences(entry, template.entry(contents), where), *problems], deviation


def _differences(found: object, wanted: dict[str, Any], where: str, at: str = ": ") -> list[str]:
    """How a mapping of JSON differs from the one wanted; in Python `True == 1 == 1.0`."""
    if not isinstance(found, dict):
        return [f"{where} is {found!r}, not a mapping"]
    problems = [f"{where}: unknown key {key!r}" for key in sorted(found.keys() - wanted.keys())]
    for key, value in wanted.items():
        given, place = found.get(key), f"{where}{at}{key}"
        if key in ("files", "qasm", "qpy"):
            problems += _differences(given, value, place, ".")
        elif json.dumps(given, sort_keys=True) != json.dumps(value, sort_keys=True):
            problems.append(f"{place} is {given!r}, not {value!r}")
    return problems


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
    where, free = "manifest.json", ("format", "qpy_version", "written_with", "circuits")
    wanted = {"licence": _LICENCE, **{key: manifest.get(key) for key in free}}
    problems = _differences(manifest, wanted, where)
    twice = {name: names.count(name) for name in sorted(set(names)) if names.count(name) > 1}
    problems += [f"{where}: {count} entries {name!r}" for name, count in twice.items()]
    return {entry["name"]: entry for entry in manifest["circuits"]}, problems


def _first_difference(found: bytes, wanted: bytes) -> str:
    pairs = zip(found.splitlines(), wanted.splitlines(), strict=False)
    for number, (line, should) in enumerate(pairs, start=1):
        if line != should:
            return f"line {number} is {line.decode(errors='replace')!r}, not {should.decode()!r}"
    return f"{len(found)} bytes, not {len(wanted)}"


def _path(template: Template, ending: str) -> str:
    return f"templates/{template.name}.{ending}"
