# SPDX-License-Identifier: Apache-2.0
"""What the students of a study are made of: their settings, their circuits and what these cost.

Rows hold results only; the networks are built again from the configuration, untrained.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit

from qiskit_kd.errors import QiskitKDError
from qiskit_kd.experiment.schema import teacher_row
from qiskit_kd.report.document import (
    Block,
    Entry,
    Facts,
    Picture,
    Pictures,
    Section,
    Text,
    section,
    tabled,
)
from qiskit_kd.report.frame import Frame
from qiskit_kd.report.grid import labels_of, settled, shown, split_of, varied
from qiskit_kd.report.plots import plot_circuit
from qiskit_kd.report.sections.settings import plain
from qiskit_kd.report.style import listed, readable

if TYPE_CHECKING:
    from qiskit_kd.circuits import CircuitModel
    from qiskit_kd.data import Split

_LABELS = {
    "scheme": "basis states to classes",
    "measured": "measured qubits",
    "budget": "size to match",
    "gradient": "gradient rule",
    "smoothing": "smoothing of probabilities",
}
_COUNTED = ("dead_weights", "effective_weights")
"""Stand with the circuits; None where a circuit is too large to look."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """One student, untrained."""

    student: str
    facts: Mapping[str, Any]
    """Settings, as its module states them."""
    where: str
    """The values of axes at which it is so; empty where it is the same at all."""
    cost: Mapping[str, int] = field(default_factory=dict)
    """Qubits, weights, depth and two-qubit gates; empty for a classical student."""
    drawing: QuantumCircuit | None = None
    """The circuit with its encoding as one box."""


@section("circuits", place=60)
def circuits(frame: Frame) -> Section | None:
    """The circuits as written, and every student as built."""
    found = portraits(frame.config, frame.split)
    if not found:
        return None
    costs = [one for one in found if one.cost]
    keys = dict.fromkeys(key for one in costs for key in one.cost)
    blocks: list[Block] = []
    if costs:
        said = (
            "As written, before they are translated to a device's own gates. The encoding is drawn "
            "as one box. Dead weights cannot move the readout: they count as parameters but never "
            "learn. Effective ones are the rank of the Jacobian."
        )
        columns = {key: partial(_count, key) for key in keys}
        table = tabled(
            costs, {"student": lambda one: Entry(readable(one.student), one.where), **columns}
        )
        blocks = [Text(said), table, Pictures([*_drawings(found)], "one")]
    # What differs between settings stands with all its values.
    facts: dict[str, dict[str, dict[str, None]]] = {}
    for one in found:
        mine = facts.setdefault(readable(one.student), {})
        for label, text in traits(one.facts):
            mine.setdefault(label, {})[text] = None
    for name, mine in facts.items():
        blocks.append(Facts([(label, " or ".join(texts)) for label, texts in mine.items()], name))
    return Section("The students", blocks)


def _count(key: str, one: Portrait) -> str:
    return str(one.cost.get(key, ""))


def portraits(config: Mapping[str, Any], split: Split | None) -> list[Portrait]:
    """One portrait per student of a resolved configuration, in its order.

    A configuration that does not say enough, or names parts that are not installed here, gives
    none: a report of numbers must not fail for want of a drawing.
    """
    if split is None:
        return []
    found: dict[str, list[Portrait]] = {}
    last = settled(config)["data"]
    # Values of the axes that change networks; other axes stay at their last.
    axes = {
        name: axis
        for name, axis in config.get("axes", {}).items()
        if any(key.startswith("students.") for key in varied({"axes": {name: axis}}))
    }
    try:
        for labels in product(*map(labels_of, axes.values())):
            point = dict(zip(axes, labels, strict=True))
            where = ", ".join(f"{axes[n].get('title') or n}: {shown(v)}" for n, v in point.items())
            here = settled(config, point)
            own = split if here["data"] == last else split_of({**here, "axes": {}})
            if own is None:
                return []
            teachers = {teacher_row(k): item for k, item in here.get("teachers", {}).items()}
            for name, item in {**here["students"], **teachers}.items():
                one = _portrait(name, item, here, own, where)
                # A classical teacher is no part of the drawings; what it saw is said elsewhere.
                if name not in teachers or one.drawing is not None:
                    found.setdefault(name, []).append(one)
    except QiskitKDError:
        return []
    for name, (first, *rest) in found.items():
        if all((other.facts, other.cost) == (first.facts, first.cost) for other in rest):
            found[name] = [replace(first, where="")]
    return [one for group in found.values() for one in group]


def _portrait(
    name: str, item: Mapping[str, Any], config: Mapping[str, Any], split: Split, where: str
) -> Portrait:
    from qiskit_kd.circuits import CircuitModel
    from qiskit_kd.nn.modules import describe
    from qiskit_kd.nn.students import students

    builder = students[item["kind"]]
    own = {"shape": split.shape, "samples": split.train.features}
    known = inspect.signature(builder).parameters
    chosen: Mapping[str, Any] = item.get("candidates") or {}
    network = builder(
        split.num_features,
        split.num_classes,
        **{
            "seed": config["seeds"][0],
            "backend": config.get("backend", "exact"),
            **{key: value for key, value in own.items() if key in known},
            **item.get("options", {}),
            **{key: values[0] for key, values in chosen.items()},
        },
    )
    facts = describe(network) | {key: " or ".join(map(str, v)) for key, v in chosen.items()}
    models = (getattr(module, "model", None) for module in network.modules())
    for model in models:
        if isinstance(model, CircuitModel):
            return Portrait(name, facts, where, _cost(model, facts), drawable(model))
    return Portrait(name, facts, where)


def drawable(model: CircuitModel) -> QuantumCircuit:
    """The model's circuit with the encoding as one box, which would fill pages gate by gate."""
    if model.encoding.mixed:
        return model.circuit
    n = model.num_qubits
    circuit = QuantumCircuit(n)
    encoding = QuantumCircuit(n, name=f"{model.encoding.name}\nencoding").to_gate()
    for block in model.ansatz_blocks:
        circuit.append(encoding, range(n))
        circuit.compose(block, inplace=True)
    return circuit


def _cost(model: CircuitModel, facts: Mapping[str, Any]) -> dict[str, int]:
    """Counts of the circuits as written; a device's own gates come on top."""
    encoding, repeats = model.encoding.circuit, model.encoding.layers
    ansatz = QuantumCircuit(model.num_qubits)
    for block in model.ansatz_blocks:
        ansatz.compose(block, inplace=True)
    counted = {key.replace("_", " "): facts.get(key) for key in _COUNTED}
    return {
        "qubits": model.num_qubits,
        "weights": model.num_weights,
        **{key: int(count) for key, count in counted.items() if count is not None},
        "encoding: depth": encoding.depth() * repeats,
        "encoding: two-qubit gates": encoding.num_nonlocal_gates() * repeats,
        "ansatz: depth": ansatz.depth(),
        "ansatz: two-qubit gates": ansatz.num_nonlocal_gates(),
    }


def _drawings(found: Sequence[Portrait]) -> Iterator[Picture]:
    """One drawing per distinct circuit, with the names of all students that have it."""
    shared: dict[object, list[Portrait]] = {}
    for one in found:
        if one.drawing is not None:
            shared.setdefault(_alike(one, one.drawing), []).append(one)
    ranks: Counter[str] = Counter()
    for group in shared.values():
        first, drawing = group[0].student, group[0].drawing
        assert drawing is not None
        names = listed(dict.fromkeys(readable(one.student) for one in group))
        about = f"{names}: {drawing.num_qubits} qubits, {drawing.num_parameters} weights"
        boxes = dict.fromkeys(readable(str(g.facts.get("encoding", ""))) for g in group if g.where)
        if len(boxes) > 1:
            *most, last = boxes
            about += f"; the encoding is {', '.join(most)} or {last}"
        yield Picture(
            f"circuit-{first}" + f"-{ranks[first]}" * bool(ranks[first]),
            partial(plot_circuit, drawing),
            f"Circuit of {about}.",
            caption=f"{about}.",
            drawing=True,
        )
        ranks[first] += 1


def _alike(one: Portrait, drawing: QuantumCircuit) -> object:
    """Equal for circuits that are drawn once: between settings the encoding's box may differ."""
    return drawing.num_qubits, *(
        (
            "" if one.where and item.operation.name.endswith("\nencoding") else item.operation.name,
            tuple(drawing.find_bit(qubit).index for qubit in item.qubits),
            str(item.operation.params),
        )
        for item in drawing.data
    )


def traits(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a network says of itself, as labels and text for people."""
    kept = {key: value for key, value in facts.items() if key not in _COUNTED}
    for key in ("parameters", "live_parameters", "effective_parameters"):
        if isinstance(kept.get(key), int):
            kept[key] = f"{kept[key]:,}"
    mode, sharpness = kept.pop("sharpness_mode", None), kept.pop("sharpness", None)
    if sharpness is not None:
        kept["initial_sharpness" if mode == "learnable" else "sharpness"] = (
            f"{plain(sharpness)} ({mode})" if mode else sharpness
        )
    if chosen := kept.pop("ansatz_options", None):
        said = [
            readable(key) if value is True else f"{readable(key)} {plain(value)}"
            for key, value in chosen.items()
        ]
        kept["ansatz"] = f"{plain(kept['ansatz'])} ({', '.join(said)})"
    out = {_LABELS.get(key, readable(key)): plain(value) for key, value in kept.items()}
    return [(label, text) for label, text in out.items() if text]
