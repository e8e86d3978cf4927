# SPDX-License-Identifier: Apache-2.0
"""A trained student as plain Qiskit: a folder that needs none of this package."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qiskit
from numpy.typing import NDArray
from qiskit import ClassicalRegister, QuantumCircuit, qasm3, qpy
from qiskit.exceptions import QiskitError
from safetensors.torch import save as save_weights
from torch import nn

from qiskit_kd.circuits.amplitude_encoding import tree_angles
from qiskit_kd.circuits.library import QPY_VERSION
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import ConfigError
from qiskit_kd.execution.backends import Backend, load_backend
from qiskit_kd.files import write_atomically
from qiskit_kd.nn import plain
from qiskit_kd.nn.layer import AnyBackend, QuantumLayer
from qiskit_kd.nn.modules import FullyQuantumStudent, HybridStudent, as_student, num_parameters
from qiskit_kd.values import listed, named_path, shown

_ACTIVATIONS = {nn.Tanh: "tanh", nn.ReLU: "relu"}


def export(
    student: nn.Module,
    folder: str | Path,
    *,
    backend: AnyBackend | None = None,
    labels: Sequence[Any] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write a student as circuits, numbers and sixty lines of Python that need Qiskit and NumPy.

    - `circuit.qpy`, `circuit.qasm`: the circuit, its inputs `input_00` ..., then its weights;
    - `bound.qpy`, `bound.qasm`: the weights bound, measured into the register `meas`;
    - `isa.qpy`: that one in the gates of `backend`, with its layout;
    - `student.json`: order of the parameters, weights, encoding, what outcomes count for, labels;
    - `plain.py`: `angles(x)`, `logits(shares)` and `predict(shares)` by these numbers;
    - `weights.safetensors`: the state dict; `README.md`: a model card.

    QPY files are of a version that Qiskit 1.3 and later read.

    Args:
        student: A fully quantum or hybrid student over one circuit, or a bare `QuantumLayer` of
            class groups.
        folder: Made if it is not there.
        backend: Where `isa.qpy` is to run: a name, a `Backend` or what `Backend.of` takes; None
            leaves it out.
        labels: What the classes are called; None: 0, 1, ...
        about: Further lines of the model card: data, seeds, teacher, verdict.

    Raises:
        ConfigError: If it is another kind of network, or its encoding or observables have no plain
            form.
        StorageError: If the folder cannot be written.
    """
    where = named_path(folder, "an export is a folder")
    if not isinstance(about, Mapping | None):
        raise ConfigError("lines of a model card are named", got=shown(about), expected="a mapping")
    if isinstance(student, nn.Sequential) and isinstance(student[0], nn.Flatten):
        (_, student) = student  # of images: `plain.py` takes rows
    student = as_student(student)
    model, facts = _facts(student, labels)
    layer: Any = student.circuit
    bound = model.circuit.assign_parameters(dict(zip(model.weights, facts["weights"], strict=True)))
    measured = _measured(bound, facts["measured"])
    files = {**_circuit("circuit", model.circuit), **_circuit("bound", measured)}
    if backend is not None:
        device = load_backend(backend) if isinstance(backend, str) else backend
        if not isinstance(device, Backend):
            device = Backend.of(device)
        files["isa.qpy"] = _qpy(_transpiled(measured, device))
        facts["isa"] = device.name
    files["student.json"] = json.dumps(facts, indent=1).encode()
    files["plain.py"] = Path(plain.__file__).read_bytes()
    state = {name: value.clone().contiguous() for name, value in student.state_dict().items()}
    files["weights.safetensors"] = save_weights(state)
    told = {"trained on": getattr(layer.backend, "name", layer.backend), **(about or {})}
    files["README.md"] = _card(student, model, facts, told).encode()
    for name, content in files.items():
        write_atomically(where / name, content)
    return where


def _facts(student: Any, labels: Sequence[Any] | None) -> tuple[CircuitModel, dict[str, Any]]:
    """The circuit of a student, and its numbers in plain types."""
    one = isinstance(student, FullyQuantumStudent | HybridStudent)
    if not one or not isinstance(student.circuit, QuantumLayer):
        raise ConfigError(
            "what leaves is one circuit with its readout",
            got=type(student).__name__,
            expected="a fully quantum or hybrid student, or a QuantumLayer of class groups",
            remedy="Classical networks leave by torch.onnx.export, other circuits by qiskit.qpy.",
        )
    model, weights = student.circuit.model, student.circuit.weight.detach().double().tolist()
    encoding: dict[str, Any] = {"kind": "amplitude", "qubits": model.num_qubits}
    given = model.encoding.angle_map
    if not (model.encoding.is_amplitude and getattr(given, "func", None) is tree_angles):
        if model.encoding.scale is None:
            raise ConfigError(
                "angles of an exported circuit are features times a number, or amplitudes",
                got=f"the encoding {model.encoding.name!r}",
                remedy="Encode by amplitude, angle, dense_angle or reuploading.",
            )
        encoding = {"kind": "scaled", "scale": model.encoding.scale}
    facts = {
        "format": 1,
        "qiskit": qiskit.__version__,
        "parameters": {
            "inputs": [p.name for p in model.inputs], "weights": [p.name for p in model.weights]
        },
        "encoding": {**encoding, "features": model.num_features},
        "weights": weights,
        **_readout(model),
    }  # fmt: skip
    if isinstance(student, HybridStudent):
        parts = student.head if isinstance(student.head, nn.Sequential) else [student.head]
        facts["head"] = [_head(part) for part in parts]
        count = len(facts["head"][-1]["bias"])
    else:
        facts |= {"sharpness": student.sharpness, "smoothing": student.smoothing}
        count = model.num_outputs
    named: list[Any] = list(range(count))
    if labels is not None:
        named = [
            each if isinstance(each, str | int | float) else str(each)
            for each in (
                getattr(one, "item", lambda one=one: one)()
                for one in listed(labels, "labels are what the classes are called")
            )
        ]
    if len(named) != count:
        raise ConfigError(
            "every class has a label", got=f"{len(named)} labels", expected=f"{count} of them"
        )
    if len(set(map(str, named))) < count:
        raise ConfigError("labels differ from each other", got=f"{named}")
    facts["labels"] = named
    return model, facts


def _readout(model: CircuitModel) -> dict[str, Any]:
    readout = model.readout
    if isinstance(readout, ClassGroups):
        table = np.eye(readout.num_classes, dtype=int)[readout.outcome_labels]
        return {"measured": list(readout.measured_qubits), "table": table.tolist(),
                "groups": readout.outcome_labels.tolist()}  # fmt: skip
    if not readout.is_diagonal:
        raise ConfigError(
            "outcomes of an exported circuit are those of its qubits as they are",
            got="observables of X or Y",
            expected="letters I and Z",
            remedy="Turn the basis in the ansatz, or run circuit.qpy on an estimator.",
        )
    return {"measured": list(range(model.num_qubits)), "table": readout.matrix.tolist(),
            "observables": [[[label, float(value.real)] for label, value in op.to_list()]
                            for op in readout.operators]}  # fmt: skip


def _head(layer: nn.Module) -> Any:
    if isinstance(layer, nn.Linear):
        bias: NDArray[Any] = np.zeros(layer.out_features)
        if layer.bias is not None:
            bias = layer.bias.detach().double().numpy(force=True)
        return {"weight": layer.weight.detach().double().tolist(), "bias": bias.tolist()}
    if type(layer) not in _ACTIVATIONS:
        raise ConfigError(
            "a head that leaves is made of linear layers, tanh and relu", got=type(layer).__name__
        )
    return _ACTIVATIONS[type(layer)]


def _measured(circuit: QuantumCircuit, qubits: Sequence[int]) -> QuantumCircuit:
    register = ClassicalRegister(len(qubits), "meas")
    whole = circuit.copy()
    whole.add_register(register)
    whole.measure(qubits, register)
    return whole


def _circuit(name: str, circuit: QuantumCircuit) -> dict[str, bytes]:
    return {f"{name}.qpy": _qpy(circuit), f"{name}.qasm": qasm3.dumps(circuit).encode()}


def _transpiled(circuit: QuantumCircuit, device: Backend) -> QuantumCircuit:
    try:
        return device.pass_manager().run(circuit)
    except QiskitError as error:
        raise ConfigError(
            "a student that leaves for a backend fits it",
            got=f"{circuit.num_qubits} qubits for {device.name!r}: {error.message}",
            remedy="Choose a larger backend, or leave backend out.",
        ) from error


def _qpy(circuit: QuantumCircuit) -> bytes:
    with io.BytesIO() as content:
        qpy.dump(circuit, content, version=QPY_VERSION)
        return content.getvalue()


def _card(
    student: nn.Module, model: CircuitModel, facts: Mapping[str, Any], told: Mapping[str, Any]
) -> str:
    head = [f"{len(facts['head'])} layers behind it"] if "head" in facts else []
    lines = {
        "student": type(student).__name__,
        "trained numbers": num_parameters(student),
        "circuit": ", ".join([f"{model.num_qubits} qubits", f"{model.num_weights} weights", *head]),
        "encoding": f"{model.encoding.name}, {model.num_features} features",
        "labels": ", ".join(map(str, facts["labels"])),
        **told,
    }
    rows = "\n".join(f"| {key} | {str(value).replace('|', '/')} |" for key, value in lines.items())
    return (
        "---\nlibrary_name: qiskit\ntags: [quantum-machine-learning, knowledge-distillation]\n---\n"
        "# A student distilled with qiskit_kd\n\n| | |\n|---|---|\n" + rows + "\n\n"
        "`plain.py` turns samples into angles and outcomes into labels; `bound.qpy` is what runs.\n"
        "Samples are preprocessed as they were for training. With shots, probabilities are off by\n"
        "`sqrt(p (1 - p) / shots)`; on a device, by its noise too.\n"
    )
