# SPDX-License-Identifier: Apache-2.0
"""What the students of a study are made of: their settings, their circuits and what these cost.

Rows hold results only; the networks are built again from the configuration, untrained.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit

from qiskit_kd.circuits import dead_weights
from qiskit_kd.errors import QiskitKDError, ResourceError
from qiskit_kd.experiment.config import teacher_row
from qiskit_kd.report.grid import varied

if TYPE_CHECKING:
    from qiskit_kd.circuits import CircuitModel
    from qiskit_kd.data import Split

__all__ = ["Portrait", "drawable", "portraits", "split_of"]


@dataclass(frozen=True, slots=True)
class Portrait:
    """One student, untrained."""

    student: str
    facts: Mapping[str, Any]
    """Settings, as its module states them."""
    cost: Mapping[str, int] = field(default_factory=dict)
    """Qubits, weights, depth and two-qubit gates; empty for a classical student."""
    drawing: QuantumCircuit | None = None
    """The circuit with its encoding as one box."""


def split_of(config: Mapping[str, Any]) -> Split | None:
    """The data of a resolved configuration's first seed; None where it cannot be had here.

    Where axes change the data, it is that of their last values.
    """
    from qiskit_kd.data import datasets

    data = config.get("data", {})
    if "kind" not in data:
        return None
    options = dict(data.get("options", {}))
    for key, settings in varied(config).items():
        if key.startswith("data.options."):
            options[key.removeprefix("data.options.")] = settings[-1]
    try:
        split: Split = datasets[data["kind"]](seed=config["seeds"][0], **options)
    except QiskitKDError:
        return None
    return split


def portraits(config: Mapping[str, Any], split: Split | None) -> list[Portrait]:
    """One portrait per student of a resolved configuration, in its order.

    A configuration that does not say enough, or names parts that are not installed here, gives
    none: a report of numbers must not fail for want of a drawing.
    """
    if split is None:
        return []
    found = []
    teachers = {teacher_row(name): item for name, item in config.get("teachers", {}).items()}
    try:
        for name, item in {**config["students"], **teachers}.items():
            sitter = _portrait(name, item, config, split)
            # A classical teacher is no part of the drawings; what it saw is said elsewhere.
            if name not in teachers or sitter.drawing is not None:
                found.append(sitter)
    except QiskitKDError:
        return []
    return found


def _portrait(
    name: str, item: Mapping[str, Any], config: Mapping[str, Any], split: Split
) -> Portrait:
    from qiskit_kd.circuits import CircuitModel
    from qiskit_kd.nn.students import describe, students

    builder = students[item["kind"]]
    given = {"seed": config["seeds"][0], "backend": config.get("backend", "exact")}
    if "shape" in inspect.signature(builder).parameters:
        given["shape"] = split.shape
    network = builder(split.num_features, split.num_classes, **{**given, **item.get("options", {})})
    facts = describe(network)
    models = (getattr(module, "model", None) for module in network.modules())
    model = next((m for m in models if isinstance(m, CircuitModel)), None)
    if model is None:
        return Portrait(name, facts)
    return Portrait(name, facts, _cost(model), drawable(model))


def drawable(model: CircuitModel) -> QuantumCircuit:
    """The model's circuit with the encoding as one box, which would fill pages gate by gate."""
    n = model.num_qubits
    circuit = QuantumCircuit(n)
    encoding = QuantumCircuit(n, name=f"{model.encoding.name}\nencoding").to_gate()
    blocks = model.ansatz_blocks
    for block in blocks:
        circuit.append(encoding, range(n))
        circuit.compose(block, inplace=True)
    return circuit


def _cost(model: CircuitModel) -> dict[str, int]:
    """Counts of the circuits as written; a device's own gates come on top.

    Dead weights cannot move the readout: they count as parameters but never learn.
    """
    encoding = model.encoding.circuit
    ansatz = QuantumCircuit(model.num_qubits)
    for block in model.ansatz_blocks:
        ansatz.compose(block, inplace=True)
    repeats = model.encoding.layers
    dead: dict[str, int] = {}
    with contextlib.suppress(ResourceError):  # too large to look: the page then says nothing of it
        dead["dead weights"] = len(dead_weights(model))
    return {
        "qubits": model.num_qubits,
        "weights": model.num_weights,
        **dead,
        "encoding: depth": encoding.depth() * repeats,
        "encoding: two-qubit gates": encoding.num_nonlocal_gates() * repeats,
        "ansatz: depth": ansatz.depth(),
        "ansatz: two-qubit gates": ansatz.num_nonlocal_gates(),
    }
