# SPDX-License-Identifier: Apache-2.0
"""Copies of a circuit side by side on a device: several samples a shot.

A circuit of a few qubits is transpiled once, onto a line, and its gates are repeated on the
device's best lines in one circuit, each copy with parameters and classical registers of its own.
Time on a device is paid by the shot, so it falls as the number of copies grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from qiskit import ClassicalRegister, QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import Parameter
from qiskit.exceptions import QiskitError
from qiskit.primitives import BitArray, DataBin
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.transpiler import Target

from qiskit_kd.circuits.parameters import rename
from qiskit_kd.errors import CircuitError, DataError, DeviceError
from qiskit_kd.execution.runtime.placement import Tile, Uses, left_out, paths
from qiskit_kd.execution.transpiling import CarefulPassManager

Floats = NDArray[np.floating]
_DATA = "input_"  # parameters of the encoding; see `circuits.parameters`


@dataclass(frozen=True, eq=False)
class Tiling:
    """Copies of one circuit in one circuit of the device.

    Args:
        circuit: All copies. The registers of copy k are called like those of the original with
            `_k` behind, its parameters with `tile_k_` in front, k having as many digits as needed.
        tiles: Where the copies are, the best first.
        parameters: Names of the parameters of one copy: the columns of its values.
        left_out: Where more copies would have fitted, with errors out of line.
    """

    circuit: QuantumCircuit
    tiles: tuple[Tile, ...]
    parameters: tuple[str, ...]
    left_out: tuple[Tile, ...] = ()

    @classmethod
    def from_dict(cls, circuit: QuantumCircuit, facts: Mapping[str, Any]) -> Self:
        """The tiling of a stored circuit, from what `as_dict` returned."""
        tiles, left_out = (
            tuple(Tile(tuple(one["qubits"]), one["error"]) for one in facts.get(name, ()))
            for name in ("tiles", "left_out")
        )
        return cls(circuit, tiles, tuple(facts["parameters"]), left_out)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the circuit: of each copy qubits, faults to expect, ratio to the best."""
        return {
            "tiles": [self._judged(tile) for tile in self.tiles],
            "parameters": list(self.parameters),
            "left_out": [self._judged(tile) for tile in self.left_out],
        }

    def _judged(self, tile: Tile) -> dict[str, Any]:
        best = self.tiles[0].error
        ratio = tile.error / best if best else 1.0
        return {"qubits": list(tile.qubits), "error": tile.error, "ratio": ratio}

    @cached_property
    def single(self) -> QuantumCircuit:
        """The best copy alone, on the device, with the names of the original."""
        digits = _digits(0, len(self.tiles))
        own = set(self.tiles[0].qubits)
        alone = QuantumCircuit(self.circuit.num_qubits, name="tile")
        registers = [r for r in self.circuit.cregs if r.name.endswith(f"_{digits}")]
        for register in registers:
            name = register.name.removesuffix(f"_{digits}")
            alone.add_register(ClassicalRegister(register.size, name))
        bits = dict(zip((b for r in registers for b in r), alone.clbits, strict=True))
        for item in self.circuit.data:
            qubits = [self.circuit.find_bit(q).index for q in item.qubits]
            if own.issuperset(qubits):
                alone.append(item.operation, qubits, [bits[b] for b in item.clbits])
        head = f"tile_{digits}_"
        return rename(alone, [Parameter(p.name.removeprefix(head)) for p in alone.parameters])

    def measured(self, tile: int) -> tuple[int, ...]:
        """Physical qubit of each classical bit of a copy, lowest bit first."""
        ending = f"_{_digits(tile, len(self.tiles))}"
        own = [bit for r in self.circuit.cregs if r.name.endswith(ending) for bit in r]
        return measured_qubits(self.circuit, own)

    def tiled(self, values: Floats, shots: int) -> TiledBatch:
        """Samples `(samples, parameters)` as one PUB of `ceil(samples / copies)` rows.

        Rows of equal data stay on one copy as far as they fit there, so that what differs between
        two settings of the weights is not the copy.
        """
        values = np.asarray(values, float)
        count, copies = len(values), len(self.tiles)
        if values.shape != (count, len(self.parameters)):
            raise DataError(
                f"the circuit takes {len(self.parameters)} values",
                got=f"shape {values.shape}",
                expected=f"(samples, {len(self.parameters)})",
            )
        rows = -(-count // copies)
        order = self._order(values)
        # What is left over of the last copies repeats samples; nobody reads it.
        places = np.resize(order, (copies, rows)) if count else np.zeros((copies, 0), np.intp)
        flat = values[places.T].reshape(rows, copies * len(self.parameters))
        bindings = BindingsArray(shape=(rows,))
        if self.parameters:
            names = tuple(p.name for p in self.circuit.parameters)
            bindings = BindingsArray({names: flat[:, self._columns]})
        return TiledBatch(SamplerPub(self.circuit, bindings, shots), order, copies)

    @cached_property
    def _columns(self) -> list[int]:
        """Columns of all copies' values, copy by copy, in the order of the circuit's parameters."""
        copies, size = len(self.tiles), len(self.parameters)
        column = {
            _renamed(name, tile, copies): tile * size + k
            for tile in range(copies)
            for k, name in enumerate(self.parameters)
        }
        return [column[p.name] for p in self.circuit.parameters]

    def _order(self, values: Floats) -> NDArray[np.intp]:
        data = [k for k, name in enumerate(self.parameters) if name.startswith(_DATA)]
        if not data or not len(values):
            return np.arange(len(values))
        _, first, group = np.unique(values[:, data], axis=0, return_index=True, return_inverse=True)
        return np.argsort(first[group.ravel()], kind="stable")


@dataclass(frozen=True, eq=False)
class TiledBatch:
    """Samples on their way through the copies.

    Args:
        pub: What is run.
        order: `(samples,)` samples in the order in which they fill one copy after the other.
        copies: Number of copies.
    """

    pub: SamplerPub
    order: NDArray[np.intp]
    copies: int

    @property
    def tile_of(self) -> NDArray[np.intp]:
        """`(samples,)` the copy that each sample runs on."""
        found = np.empty(len(self.order), np.intp)
        found[self.order] = np.arange(len(self.order)) // max(1, self.pub.shape[0])
        return found

    def each(self, rows: NDArray[Any]) -> NDArray[Any]:
        """`(rows,)` of the PUB to `(samples,)`."""
        found = np.empty(len(self.order), rows.dtype)
        found[self.order] = np.tile(rows, self.copies)[: len(self.order)]
        return found

    def untiled(self, data: Any) -> DataBin:
        """Shots `(samples,)` in registers called as in the original, from those of the PUB."""
        ending = f"_{_digits(0, self.copies)}"
        names = [
            r.name.removesuffix(ending) for r in self.pub.circuit.cregs if r.name.endswith(ending)
        ]
        found = {}
        for name in names:
            parts = [data[f"{name}_{_digits(k, self.copies)}"] for k in range(self.copies)]
            stacked = np.concatenate([part.array for part in parts])[: len(self.order)]
            array = np.empty_like(stacked)
            array[self.order] = stacked
            found[name] = BitArray(array, parts[0].num_bits)
        return DataBin(**found, shape=(len(self.order),))


def measured_qubits(circuit: QuantumCircuit, bits: Sequence[Any]) -> tuple[int, ...]:
    """The physical qubit that is measured into each of these bits, as far as one is."""
    places = {
        item.clbits[0]: circuit.find_bit(item.qubits[0]).index
        for item in circuit.data
        if item.operation.name == "measure"
    }
    return tuple(places[bit] for bit in bits if bit in places)


def tile_circuit(
    circuit: QuantumCircuit,
    target: Target,
    *,
    tiles: int | Literal["auto"] = "auto",
    worst: float = 3.0,
    optimization_level: int = 3,
    seed: int = 0,
) -> Tiling:
    """Transpile a measured circuit onto a line of qubits and repeat it on the best lines.

    Args:
        circuit: The circuit.
        target: The device.
        tiles: How many copies; `"auto"` for as many as fit.
        worst: A line on which more than `worst` times as many faults are to be expected as on the
            best one is left out.
        optimization_level: Of the transpiler, 0 to 3.
        seed: Of the transpiler.

    Raises:
        CircuitError: If nothing is measured.
        DeviceError: If fewer copies fit than are asked for, or the circuit cannot be written in
            the device's gates.
    """
    if not circuit.cregs:
        raise CircuitError(
            "tiles are copies of a circuit with measurements",
            got="no classical register",
            remedy="Measure before transpiling.",
        )
    size = circuit.num_qubits
    first = paths(target, size, tiles=1)[0]
    line = _on_line(circuit, line_target(target, first.qubits), optimization_level, seed)
    chosen = paths(target, size, tiles=tiles, worst=worst, uses=_uses(line))
    whole = QuantumCircuit(target.num_qubits, name="tiled")
    for number, tile in enumerate(chosen):
        copy = line
        if not _runs_on(line, target, tile.qubits):  # gates that have a direction
            copy = _on_line(line, line_target(target, tile.qubits), 1, seed, fixed=True)
        _add(whole, copy, tile.qubits, number, len(chosen))
    others = left_out(target, size, chosen, uses=_uses(line)) if tiles == "auto" else ()
    return Tiling(whole, tuple(chosen), tuple(p.name for p in line.parameters), tuple(others))


def line_target(target: Target, qubits: Sequence[int]) -> Target:
    """A device of these qubits alone, wire k on `qubits[k]`, with the couplings along the line."""
    wire = {q: k for k, q in enumerate(qubits)}
    known = target.qubit_properties
    small = Target(
        num_qubits=len(wire),
        dt=target.dt,
        granularity=target.granularity,
        min_length=target.min_length,
        pulse_alignment=target.pulse_alignment,
        acquire_alignment=target.acquire_alignment,
        qubit_properties=None if known is None else [known[q] for q in qubits],
    )
    for name in target.operation_names:
        operation, places = target.operation_from_name(name), target[name]
        if isinstance(operation, type):  # control flow
            continue
        if places is None or None in places:
            small.add_instruction(operation, name=name)
            continue
        kept = {
            tuple(wire[q] for q in where): properties
            for where, properties in places.items()
            if set(where) <= wire.keys()
            and all(abs(wire[a] - wire[b]) == 1 for a, b in pairwise(where))
        }
        if kept:
            small.add_instruction(operation, kept, name=name)
    return small


def _on_line(
    circuit: QuantumCircuit, line: Target, level: int, seed: int, *, fixed: bool = False
) -> QuantumCircuit:
    """The circuit in the gates of a line; with `fixed`, wires stay where they are."""
    layout = list(range(line.num_qubits)) if fixed else None
    try:
        manager = generate_preset_pass_manager(
            optimization_level=level, target=line, seed_transpiler=seed, initial_layout=layout
        )
        found = CarefulPassManager(manager).run(circuit)
    except QiskitError as error:
        raise DeviceError(
            "a circuit can be written in the gates of the device",
            got=" ".join(str(error).strip("\"'").split()),
            expected=", ".join(sorted(line.operation_names)),
            remedy="Write the circuit in other gates, or use another device.",
        ) from error
    found.global_phase = 0  # may depend on parameters, and moves nothing
    return found


def _uses(line: QuantumCircuit) -> Uses:
    size = line.num_qubits
    coupling, qubit, readout = [0.0] * (size - 1), [0.0] * size, [0.0] * size
    for item in line.data:
        wires = sorted(line.find_bit(q).index for q in item.qubits)
        name = item.operation.name
        if name == "measure":
            readout[wires[0]] += 1
        elif name in ("barrier", "delay", "rz"):
            continue
        elif len(wires) == 1:
            qubit[wires[0]] += 1
        elif wires[1] - wires[0] == 1:  # any others only where all qubits are alike
            coupling[wires[0]] += 1
    return Uses(tuple(coupling), tuple(qubit), tuple(readout))


def _runs_on(line: QuantumCircuit, target: Target, qubits: Sequence[int]) -> bool:
    places = {
        (item.operation.name, *(qubits[line.find_bit(q).index] for q in item.qubits))
        for item in line.data
        if item.operation.name != "barrier"
    }
    return all(target.instruction_supported(name, where) for name, *where in places)


def _add(
    whole: QuantumCircuit, copy: QuantumCircuit, qubits: Sequence[int], tile: int, copies: int
) -> None:
    clbits = []
    for register in copy.cregs:
        own = ClassicalRegister(register.size, f"{register.name}_{_digits(tile, copies)}")
        whole.add_register(own)
        clbits += list(own)
    named = rename(copy, [Parameter(_renamed(p.name, tile, copies)) for p in copy.parameters])
    whole.compose(named, list(qubits), clbits, inplace=True)


def _renamed(name: str, tile: int, copies: int) -> str:
    return f"tile_{_digits(tile, copies)}_{name}"


def _digits(tile: int, copies: int) -> str:
    """The number of a copy; all of one tiling are equally long, so no two names can collide."""
    return str(tile).zfill(max(2, len(str(copies - 1))))
