# SPDX-License-Identifier: Apache-2.0
"""What the students of a study are made of: their settings, their circuits and what these cost.

Rows hold results only; the networks are built again from the configuration, untrained.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit

from qiskit_kd.circuits import dead_weights
from qiskit_kd.errors import QiskitKDError, ResourceError
from qiskit_kd.execution import effective_weights
from qiskit_kd.experiment.schema import teacher_row
from qiskit_kd.report.grid import labels_of, settled, shown, varied

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
    where: str = ""
    """The values of axes at which it is so; empty where it is the same at all."""


def split_of(config: Mapping[str, Any]) -> Split | None:
    """The data of a resolved configuration's first seed; None where it cannot be had here.

    Where axes change the data, it is that of their last values.
    """
    from qiskit_kd.data import datasets

    data = config.get("data", {})
    if "kind" not in data:
        return None
    options = settled(config)["data"].get("options", {})
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
    found: dict[str, list[Portrait]] = {}
    try:
        for point, where in _sittings(config):
            here = settled(config, point)
            own = (
                split if here["data"] == settled(config)["data"] else split_of({**here, "axes": {}})
            )
            if own is None:
                return []
            for sitter in _sitters(here, own, where):
                found.setdefault(sitter.student, []).append(sitter)
    except QiskitKDError:
        return []
    return [sitter for group in found.values() for sitter in _distinct(group)]


def _sittings(config: Mapping[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Values of the axes that change networks, and what they are called; other axes stay last."""
    axes = {
        name: axis
        for name, axis in config.get("axes", {}).items()
        if any(key.partition(".")[0] == "students" for key in varied({"axes": {name: axis}}))
    }
    return [
        (
            dict(zip(axes, labels, strict=True)),
            ", ".join(
                f"{axes[name].get('title') or name}: {shown(label)}"
                for name, label in zip(axes, labels, strict=True)
            ),
        )
        for labels in product(*map(labels_of, axes.values()))
    ]


def _sitters(config: Mapping[str, Any], split: Split, where: str) -> list[Portrait]:
    """Students and quantum teachers of the configuration of one point."""
    teachers = {teacher_row(name): item for name, item in config.get("teachers", {}).items()}
    found = []
    for name, item in {**config["students"], **teachers}.items():
        sitter = replace(_portrait(name, item, config, split), where=where)
        # A classical teacher is no part of the drawings; what it saw is said elsewhere.
        if name not in teachers or sitter.drawing is not None:
            found.append(sitter)
    return found


def _distinct(sitters: list[Portrait]) -> list[Portrait]:
    """Portraits of one student; a single one, without a place, where all are alike."""
    first, *rest = sitters
    if all((other.facts, other.cost) == (first.facts, first.cost) for other in rest):
        return [replace(first, where="")]
    return sitters


def _portrait(
    name: str, item: Mapping[str, Any], config: Mapping[str, Any], split: Split
) -> Portrait:
    from qiskit_kd.circuits import CircuitModel
    from qiskit_kd.nn.students import describe, students

    builder = students[item["kind"]]
    given = {"seed": config["seeds"][0], "backend": config.get("backend", "exact")}
    known = inspect.signature(builder).parameters
    own = {"shape": split.shape, "samples": split.train.features}
    given |= {name: value for name, value in own.items() if name in known}
    chosen: Mapping[str, Any] = item.get("candidates") or {}
    options = {**item.get("options", {}), **{name: values[0] for name, values in chosen.items()}}
    network = builder(split.num_features, split.num_classes, **{**given, **options})
    facts = describe(network) | {name: " or ".join(map(str, v)) for name, v in chosen.items()}
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

    Dead weights cannot move the readout: they count as parameters but never learn. Effective ones
    are the rank of the Jacobian.
    """
    encoding = model.encoding.circuit
    ansatz = QuantumCircuit(model.num_qubits)
    for block in model.ansatz_blocks:
        ansatz.compose(block, inplace=True)
    repeats = model.encoding.layers
    dead: dict[str, int] = {}
    with contextlib.suppress(ResourceError):  # too large to look: the page then says nothing of it
        dead["dead weights"] = len(dead_weights(model))
        dead["effective weights"] = effective_weights(model)
    return {
        "qubits": model.num_qubits,
        "weights": model.num_weights,
        **dead,
        "encoding: depth": encoding.depth() * repeats,
        "encoding: two-qubit gates": encoding.num_nonlocal_gates() * repeats,
        "ansatz: depth": ansatz.depth(),
        "ansatz: two-qubit gates": ansatz.num_nonlocal_gates(),
    }
