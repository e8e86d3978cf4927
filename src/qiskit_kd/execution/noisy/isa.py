# SPDX-License-Identifier: Apache-2.0
"""A circuit model as the device's own gates, cut into the parts that data and weights enter.

The whole model is transpiled once, with barriers between encoding and ansatz: what depends on the
data and what depends on the weights can then be carried out apart from each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import Barrier, Delay, Parameter
from qiskit.exceptions import QiskitError
from qiskit.transpiler import PassManager
from qiskit_aer.noise import NoiseModel

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.expansion import AngleMap, expand
from qiskit_kd.execution.measurement import bases
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.transpiling import CarefulPassManager, inlined

_SEAM = "qiskit_kd seam"
Floats = NDArray[np.floating]
Source = Literal["inputs", "weights", "both", "basis"]


@dataclass(frozen=True, eq=False)
class Gate:
    """An instruction on the device.

    Args:
        operation: The gate; a free angle is a parameter of its own, a *slot*.
        qubits: Physical qubits.
        slots: Slots of the part, one per free angle.
        seconds: Duration of a delay; None for gates.
    """

    operation: Any
    qubits: tuple[int, ...]
    slots: tuple[int, ...]
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """A stretch of the native circuit whose angles come from one source.

    Args:
        source: What its angles depend on; rotations of a measurement depend on nothing.
        gates: The gates in order.
        angles: Parameters to slots.
        columns: Places of those parameters among all inputs, or all weights, of the model; among
            inputs and weights for both.
    """

    source: Source
    gates: tuple[Gate, ...]
    angles: AngleMap
    columns: tuple[int, ...]

    def slots(self, values: Floats) -> NDArray[np.float64]:
        """`(..., inputs, weights, or both, of the model)` to `(..., slots)`."""
        return self.angles(np.asarray(values, float)[..., list(self.columns)])

    def on(self, busy: Collection[int]) -> Part:
        """The part without what happens on other qubits: delays, once a circuit is scheduled."""
        kept = tuple(gate for gate in self.gates if set(gate.qubits) <= set(busy))
        return replace(self, gates=kept)

    def pullback(self, values: Floats, gradient: Floats) -> NDArray[np.float64]:
        """Gradient of the slots to that of all inputs, or of all weights."""
        values = np.asarray(values, float)
        whole = np.zeros(values.shape)
        own = list(self.columns)
        whole[..., own] = self.angles.pullback(values[..., own], gradient)
        return whole


@dataclass(frozen=True, eq=False)
class ISACircuit:
    """A model on a device.

    Args:
        circuit: What the transpiler returned, on all qubits of the device, with the barriers.
        parts: Encoding and ansatz in turn.
        rotations: For each basis of the readout, the gates that turn it into the Z basis.
        first: Physical qubit of each qubit of the model at the beginning.
        final: The same at the end.
        active: Physical qubits that take part, ascending.
    """

    circuit: QuantumCircuit
    parts: tuple[Part, ...]
    rotations: tuple[Part, ...]
    first: tuple[int, ...]
    final: tuple[int, ...]
    active: tuple[int, ...]

    def fingerprint(self) -> tuple[object, ...]:
        """Equal for equal circuits on equal qubits with equal parameters."""
        return (self.final, *(_content(part) for part in (*self.parts, *self.rotations)))

    def compact(self) -> QuantumCircuit:
        """The circuit on the active qubits alone, wire k being `active[k]`, without barriers."""
        wires = {qubit: k for k, qubit in enumerate(self.active)}
        small = QuantumCircuit(len(self.active))
        for item in self.circuit.data:
            qubits = [self.circuit.find_bit(q).index for q in item.qubits]
            if item.operation.name != "barrier" and all(q in wires for q in qubits):
                small.append(item.operation, [wires[q] for q in qubits])
        return small


def device_pass_manager(
    device: DeviceNoise,
    *,
    optimization_level: int,
    seed: int,
    idle: bool,
    qubits: Sequence[int] | None = None,
) -> PassManager:
    """What turns circuits into the device's gates; with `idle`, waiting becomes explicit."""
    options: dict[str, Any] = {"scheduling_method": "alap"} if idle else {}
    if qubits is not None:
        options["initial_layout"] = list(qubits)
    return CarefulPassManager(
        generate_preset_pass_manager(
            optimization_level=optimization_level,
            target=device.target,
            seed_transpiler=seed,
            **options,
        )
    )


def to_isa(
    model: CircuitModel,
    device: DeviceNoise,
    *,
    optimization_level: int,
    seed: int,
    idle: bool,
    qubits: Sequence[int] | None = None,
) -> ISACircuit:
    """Transpile a model to a device.

    Args:
        model: The model.
        device: The device.
        optimization_level: Of the transpiler, 0 to 3.
        seed: Of the transpiler.
        idle: Schedule the circuit (as late as possible) and keep the delays.
        qubits: Physical qubit of each qubit of the model at the beginning; None lets the transpiler
            choose.

    Raises:
        CircuitError: If the circuit is wider than the device, or cannot be written in its gates.
    """
    device.check_width(model.num_qubits)
    whole = QuantumCircuit(model.num_qubits)
    for piece in model.pieces:
        if whole.data:
            whole.append(Barrier(model.num_qubits, label=_SEAM), whole.qubits)
        whole.compose(inlined(piece), inplace=True)
    # What follows, a rotation into another basis or nothing, must not change the gates before it.
    whole.barrier()
    options: dict[str, Any] = {"optimization_level": optimization_level, "seed": seed}
    if qubits is None:
        # Twice, since with its places given a circuit becomes other gates than it became when they
        # were sought, and a stand-in (see `ProgramCache.place`) has to become the original's.
        seeking = device_pass_manager(device, idle=False, **options)
        found = _transpiled(seeking, whole, device).layout
        qubits = found.initial_index_layout()[: model.num_qubits] if found else None
    manager = device_pass_manager(device, idle=idle, qubits=qubits, **options)
    circuit = _transpiled(manager, whole, device)
    circuit.global_phase = 0  # may depend on every parameter, and moves nothing
    layout = circuit.layout
    count = model.num_qubits
    first = tuple(layout.initial_index_layout()[:count] if layout else range(count))
    final = tuple(layout.final_index_layout() if layout else range(count))
    pieces = _pieces(circuit)
    if len(pieces) != len(model.pieces):
        raise CircuitError(
            "the transpiler keeps the seam between data and weights",
            got=f"{len(pieces)} parts",
            expected=str(len(model.pieces)),
            remedy="Choose another optimization_level.",
        )
    sources: tuple[Source, ...] = ("both",) if model.encoding.mixed else ("inputs", "weights")
    parts = [
        _part(sources[k % len(sources)], piece, device, model) for k, piece in enumerate(pieces)
    ]
    plain = device_pass_manager(device, optimization_level=0, seed=seed, idle=idle)
    rotations = []
    for basis in bases(model.readout):
        turn = QuantumCircuit(device.num_qubits)
        if basis.rotation is not None:
            turn.compose(basis.rotation, [turn.qubits[q] for q in final], inplace=True)
            turn = _transpiled(plain, turn, device)
        rotations.append(_part("basis", turn, device, model))
    busy = set(final)
    for part in (*parts, *rotations):
        busy.update(q for gate in part.gates if gate.seconds is None for q in gate.qubits)
    return ISACircuit(
        circuit,
        tuple(part.on(busy) for part in parts),
        tuple(part.on(busy) for part in rotations),
        first,
        final,
        tuple(sorted(busy)),
    )


def _transpiled(
    manager: PassManager, circuit: QuantumCircuit, device: DeviceNoise
) -> QuantumCircuit:
    try:
        return manager.run(circuit)
    except QiskitError as error:
        raise CircuitError(
            f"a circuit can be written in the gates of {device.name!r}",
            got=" ".join(str(error).strip("\"'").split()),
            expected=", ".join(sorted(device.target.operation_names)),
            remedy="Write the circuit in other gates, or use another device.",
        ) from error


def _pieces(circuit: QuantumCircuit) -> list[QuantumCircuit]:
    """The circuit cut at the seams; the user's own barriers are no seams."""
    blank = circuit.copy_empty_like()
    pieces = [blank.copy()]
    for item in circuit.data:
        if getattr(item.operation, "label", None) == _SEAM:
            pieces.append(blank.copy())
        else:
            pieces[-1].append(item)
    return pieces


def _part(source: Source, piece: QuantumCircuit, device: DeviceNoise, model: CircuitModel) -> Part:
    expanded = expand(piece)
    slot = {p: k for k, p in enumerate(expanded.circuit.parameters)}
    found = []
    for item in expanded.circuit.data:
        operation = item.operation
        qubits = tuple(expanded.circuit.find_bit(q).index for q in item.qubits)
        if isinstance(operation, Barrier):
            continue
        if isinstance(operation, Delay):
            found.append(Gate(operation, qubits, (), delay_seconds(operation, device)))
            continue
        slots = tuple(slot[p] for p in operation.params if isinstance(p, Parameter))
        found.append(Gate(operation, qubits, slots))
    parameters = {"weights": model.weights, "both": (*model.inputs, *model.weights)}.get(
        source, model.inputs
    )
    column = {p.name: k for k, p in enumerate(parameters)}
    columns = tuple(column[p.name] for p in expanded.angles.parameters)
    return Part(source, tuple(found), expanded.angles, columns)


def noisy_circuit(
    gates: Iterable[Gate], wires: Mapping[int, int], noise: DeviceNoise | None
) -> tuple[QuantumCircuit, NoiseModel | None]:
    """Gates of a device as a circuit for Aer, with waiting as an error of its own, and the model.

    A noise model knows gates, not durations.

    Args:
        gates: The gates; their operations are appended as they are.
        wires: Wire of each physical qubit, in order.
        noise: The noise; None for none, and no waiting.
    """
    whole, timeless = QuantumCircuit(len(wires)), QuantumCircuit(len(wires))
    for gate in gates:
        places = [wires[q] for q in gate.qubits]
        if gate.seconds is None:
            whole.append(gate.operation, places)
            timeless.append(gate.operation, places)
        elif noise is not None:
            error = noise.idle_error(gate.qubits[0], gate.seconds)
            if error is not None:
                whole.append(error.to_instruction(), places)
    return whole, None if noise is None else noise.noise_model(timeless, tuple(wires))


def delay_seconds(delay: Delay, device: DeviceNoise) -> float:
    """How long a delay takes on a device."""
    scale = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "ps": 1e-12}
    unit = device.target.dt if delay.unit == "dt" else scale[delay.unit]
    return float(delay.duration * (unit or 0.0))


def _content(part: Part) -> tuple[object, ...]:
    gates = tuple(
        (g.operation.name, g.qubits, g.slots, g.seconds, tuple(map(str, g.operation.params)))
        for g in part.gates
    )
    return (gates, part.columns, tuple(map(str, part.angles.expressions)))
