# SPDX-License-Identifier: Apache-2.0
"""What the students of a study are made of: their settings, their circuits and what these cost.

Rows hold results only; the networks are built again from the configuration, untrained.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit

from qiskit_kd.circuits import dead_weights
from qiskit_kd.errors import QiskitKDError, ResourceError
from qiskit_kd.execution import effective_weights
from qiskit_kd.experiment.schema import teacher_row
from qiskit_kd.report.document import (
    Block,
    Entry,
    Facts,
    Line,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
    section,
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


@section("circuits", place=60)
def circuits(frame: Frame) -> Section | None:
    """The circuits as written, and every student as built."""
    found = portraits(frame.config, frame.split)
    if not found:
        return None
    costs = [one for one in found if one.cost]
    keys = list(dict.fromkeys(key for one in costs for key in one.cost))
    blocks: list[Block] = []
    if costs:
        lines: list[Line] = [
            [Entry(readable(one.student), one.where), *(str(one.cost.get(key, "")) for key in keys)]
            for one in costs
        ]
        said = (
            "As written, before they are translated to a device's own gates. The encoding is drawn "
            "as one box. Dead weights cannot move the readout: they count as parameters but never "
            "learn. Effective ones are the rank of the Jacobian."
        )
        blocks += [
            Text(said),
            Table(["student", *keys], lines),
            Pictures([*_drawings(found)], "one"),
        ]
    blocks += [Facts(traits, name) for name, traits in _traits(found)]
    return Section("The students", blocks)


def portraits(config: Mapping[str, Any], split: Split | None) -> list[Portrait]:
    """One portrait per student of a resolved configuration, in its order.

    A configuration that does not say enough, or names parts that are not installed here, gives
    none: a report of numbers must not fail for want of a drawing.
    """
    if split is None:
        return []
    found: dict[str, list[Portrait]] = {}
    last = settled(config)
    try:
        for point, where in _places(config):
            here = settled(config, point)
            own = split if here["data"] == last["data"] else split_of({**here, "axes": {}})
            if own is None:
                return []
            for one in _built(here, own, where):
                found.setdefault(one.student, []).append(one)
    except QiskitKDError:
        return []
    return [one for group in found.values() for one in _distinct(group)]


def _places(config: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Values of the axes that change networks, and what they are called; other axes stay last."""
    axes = {
        name: axis
        for name, axis in config.get("axes", {}).items()
        if any(key.partition(".")[0] == "students" for key in varied({"axes": {name: axis}}))
    }
    for labels in product(*map(labels_of, axes.values())):
        point = dict(zip(axes, labels, strict=True))
        yield (
            point,
            ", ".join(
                f"{axes[name].get('title') or name}: {shown(label)}"
                for name, label in point.items()
            ),
        )


def _built(config: Mapping[str, Any], split: Split, where: str) -> Iterator[Portrait]:
    """Students and quantum teachers of the configuration of one point."""
    teachers = {teacher_row(name): item for name, item in config.get("teachers", {}).items()}
    for name, item in {**config["students"], **teachers}.items():
        one = replace(_portrait(name, item, config, split), where=where)
        # A classical teacher is no part of the drawings; what it saw is said elsewhere.
        if name not in teachers or one.drawing is not None:
            yield one


def _distinct(found: list[Portrait]) -> list[Portrait]:
    """Portraits of one student; a single one, without a place, where all are alike."""
    first, *rest = found
    if all((other.facts, other.cost) == (first.facts, first.cost) for other in rest):
        return [replace(first, where="")]
    return found


def _portrait(
    name: str, item: Mapping[str, Any], config: Mapping[str, Any], split: Split
) -> Portrait:
    from qiskit_kd.circuits import CircuitModel
    from qiskit_kd.nn.modules import describe
    from qiskit_kd.nn.students import students

    builder = students[item["kind"]]
    given = {"seed": config["seeds"][0], "backend": config.get("backend", "exact")}
    known = inspect.signature(builder).parameters
    own = {"shape": split.shape, "samples": split.train.features}
    given |= {key: value for key, value in own.items() if key in known}
    chosen: Mapping[str, Any] = item.get("candidates") or {}
    options = {**item.get("options", {}), **{key: values[0] for key, values in chosen.items()}}
    network = builder(split.num_features, split.num_classes, **{**given, **options})
    facts = describe(network) | {key: " or ".join(map(str, v)) for key, v in chosen.items()}
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
    for block in model.ansatz_blocks:
        circuit.append(encoding, range(n))
        circuit.compose(block, inplace=True)
    return circuit


def _cost(model: CircuitModel) -> dict[str, int]:
    """Counts of the circuits as written; a device's own gates come on top."""
    encoding, repeats = model.encoding.circuit, model.encoding.layers
    ansatz = QuantumCircuit(model.num_qubits)
    for block in model.ansatz_blocks:
        ansatz.compose(block, inplace=True)
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


def _drawings(found: Sequence[Portrait]) -> Iterator[Picture]:
    """One drawing per distinct circuit, with the names of all students that have it."""
    shared: dict[object, list[Portrait]] = {}
    for one in found:
        if one.drawing is not None:
            shared.setdefault(_alike(one, one.drawing), []).append(one)
    ranks: dict[str, int] = {}
    for group in shared.values():
        first, drawing = group[0].student, group[0].drawing
        assert drawing is not None
        rank = ranks[first] = ranks.get(first, -1) + 1
        names = listed(dict.fromkeys(readable(one.student) for one in group))
        about = f"{names}: {drawing.num_qubits} qubits, {drawing.num_parameters} weights"
        boxes = dict.fromkeys(readable(str(g.facts.get("encoding", ""))) for g in group if g.where)
        if len(boxes) > 1:
            about += f"; the encoding is {', '.join([*boxes][:-1])} or {[*boxes][-1]}"
        yield Picture(
            f"circuit-{first}" + f"-{rank}" * bool(rank),
            partial(plot_circuit, drawing),
            f"Circuit of {about}.",
            caption=f"{about}.",
            drawing=True,
        )


def _alike(one: Portrait, drawing: QuantumCircuit) -> object:
    """Equal for circuits that are drawn once: between settings the encoding's box may differ."""
    if not one.where:
        return str(drawing.draw("text", fold=-1))
    steps = []
    for item in drawing.data:
        box = item.operation.name.endswith("\nencoding")
        qubits = tuple(drawing.find_bit(qubit).index for qubit in item.qubits)
        steps.append(("" if box else item.operation.name, qubits, str(item.operation.params)))
    return drawing.num_qubits, tuple(steps)


def _traits(found: Sequence[Portrait]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Every student with its traits; what differs between settings stands with all its values."""
    out: dict[str, dict[str, dict[str, None]]] = {}
    for one in found:
        mine = out.setdefault(readable(one.student), {})
        for label, text in traits(one.facts):
            mine.setdefault(label, {})[text] = None
    for name, mine in out.items():
        yield name, [(label, " or ".join(texts)) for label, texts in mine.items()]


def traits(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a network says of itself, as labels and text for people."""
    kept = dict(facts)
    for key in ("dead_weights", "effective_weights"):  # counted with the circuits
        kept.pop(key, None)
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
    return [
        (_LABELS.get(key, readable(key)), text)
        for key, value in kept.items()
        if (text := plain(value)) != ""
    ]
