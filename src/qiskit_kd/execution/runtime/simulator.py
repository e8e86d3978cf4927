# SPDX-License-Identifier: Apache-2.0
"""Exact probabilities of circuits on a large device, part by part.

Each circuit falls into parts that no gate ties together, and each part is run on its own qubits: a
few of them by the blocks of the noisy engine, for all rows at once, more of them by Aer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
import rustworkx
import torch
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Delay
from qiskit.primitives import BitArray, DataBin, PubResult, SamplerPubResult
from qiskit.quantum_info import Pauli
from qiskit_aer import AerSimulator

from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.aer import aer_result, bindable
from qiskit_kd.execution.compiled import CompiledCircuit, CompiledCircuits
from qiskit_kd.execution.expansion import AngleMap, expand
from qiskit_kd.execution.measurement import Basis
from qiskit_kd.execution.memory import require_memory
from qiskit_kd.execution.mitigation import tensored
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.noisy.fusion import fuse, steps
from qiskit_kd.execution.noisy.isa import Gate, Part, delay_seconds, noisy_circuit
from qiskit_kd.execution.noisy.programs import observable_rows, zero_state
from qiskit_kd.execution.noisy.sweeps import Section
from qiskit_kd.execution.runtime.tiling import measured_qubits
from qiskit_kd.execution.torch_use import one_thread
from qiskit_kd.seeding import stream

Floats = NDArray[np.float64]
_KEPT = 32  # circuits
INPUT = "input_"
"""In the names of parameters that are data; see `circuits.parameters`."""
_BLOCK_QUBITS = 7  # above, the table of outcomes takes more than the state
_CUTOFF = 1e-10  # terms of errors that Aer leaves out
_ROWS = 32  # carried at once at least: few, so that they stay in the processor's cache


class LocalSimulator:
    """Circuits on a device, however wide; they and their noise models are kept by content.

    Args:
        noise: The device; None for perfect gates and no limits on them.
    """

    def __init__(self, noise: DeviceNoise | None) -> None:
        self.noise, self.compiled = noise, CompiledCircuits()
        self._parts: dict[tuple[str, frozenset[int]], list[SimulatedPart]] = {}

    def parts(
        self, circuit: QuantumCircuit | CompiledCircuit, *, keep: Iterable[int] = ()
    ) -> list[SimulatedPart]:
        """The parts of a circuit on which something is measured or kept, ready to run.

        Args:
            circuit: The circuit, in the device's own gates.
            keep: Qubits of interest beside the measured ones.

        Raises:
            CircuitError: If it has other gates, is wider than the device, or goes on after a
                measurement.
            ResourceError: If a part is too large for this machine.
        """
        compiled = circuit if isinstance(circuit, CompiledCircuit) else self.compiled(circuit)
        wanted = frozenset(keep)
        key = (compiled.digest, wanted)
        if key not in self._parts:
            whole = compiled.circuit
            if self.noise is not None:
                self.noise.check_width(whole.num_qubits)
            if len(self._parts) >= _KEPT:
                del self._parts[next(iter(self._parts))]
            self._parts[key] = [
                SimulatedPart(part, self.noise, whole) for part in subcircuits(whole, keep=wanted)
            ]
        return self._parts[key]

    def run(
        self, pubs: Sequence[Any], seed: int, compiled: Sequence[CompiledCircuit] = ()
    ) -> list[PubResult]:
        """What coerced PUBs give: shots, or expectation values.

        Shots are a function of the seed, the circuit's content, its values and its place among the
        PUBs. Of expectation values, readout errors count as mitigated, as IBM's estimator does by
        default, and every Pauli string is measured by itself, in `1 / precision**2` shots.

        Args:
            pubs: Coerced PUBs over circuits of the device.
            seed: Seed of the shots.
            compiled: The circuit of each, where somebody knows it already.

        Raises:
            CircuitError: See `parts`.
            ResourceError: If it does not fit into memory.
        """
        known = compiled or [self.compiled(pub.circuit) for pub in pubs]
        found = []
        for number, (pub, one) in enumerate(zip(pubs, known, strict=True)):
            values = np.asarray(pub.parameter_values.as_array(pub.circuit.parameters), float)
            values = values.reshape(pub.parameter_values.size, pub.circuit.num_parameters)
            shots = getattr(pub, "shots", None)
            if shots is None:
                shots = math.ceil(pub.precision**-2) if pub.precision else 0
            content = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
            generator = stream(seed, "local shots", one.digest, content, shots, number)
            measured = self._estimate if hasattr(pub, "observables") else self._sample
            found.append(measured(pub, one, values, shots, generator))
        return found

    def _sample(
        self,
        pub: Any,
        compiled: CompiledCircuit,
        values: Floats,
        shots: int,
        generator: np.random.Generator,
    ) -> PubResult:
        parts, registers = self.parts(compiled), compiled.registers
        size = len(values) * shots
        require_memory(
            size * (16 + sum(map(itemgetter(2), registers))),
            f"{len(values):,} circuits with {shots:,} shots each",
            "Use a smaller batch or fewer shots.",
        )
        arrays = {name: np.zeros((size, width), np.uint8) for name, _, width in registers}
        for part in parts:
            edges = np.cumsum(part.probabilities(values), axis=-1)[:, :-1]
            drawn = zip(edges, generator.random((len(values), shots)), strict=True)
            outcomes = np.stack([np.searchsorted(e, u, "right") for e, u in drawn]).ravel()
            for name, table in part.tables.items():
                arrays[name] |= table[outcomes]
        data = {}
        for name, bits, width in registers:
            data[name] = BitArray(arrays[name].reshape(*pub.shape, shots, width), bits)
        return SamplerPubResult(DataBin(**data, shape=pub.shape), {"shots": shots})

    def _estimate(
        self,
        pub: Any,
        compiled: CompiledCircuit,
        values: Floats,
        shots: int,
        generator: np.random.Generator,
    ) -> PubResult:
        at = np.broadcast_to(np.arange(len(values)).reshape(pub.parameter_values.shape), pub.shape)
        means, variances = np.zeros(pub.shape), np.zeros(pub.shape)
        labels = sorted({label for each in pub.observables.ravel() for label in each})
        exact = {label: self._exact(compiled.circuit, label, values) for label in labels}
        wide: Any = np.broadcast_to(np.asarray(pub.observables), pub.shape)
        for index in np.ndindex(pub.shape):
            for label, coefficient in wide[index].items():
                mean = float(exact[label][at[index]])
                if shots:
                    ones = generator.binomial(shots, min(1.0, max(0.0, (1 + mean) / 2)))
                    mean = 2 * ones / shots - 1
                    variances[index] += coefficient**2 * (1 - mean**2) / shots
                means[index] += coefficient * mean
        data = DataBin(evs=means, stds=np.sqrt(variances), shape=pub.shape)
        return PubResult(data, {"target_precision": pub.precision})

    def _exact(self, circuit: QuantumCircuit, label: str, values: Floats) -> Floats:
        """`(rows,)` mean of a Pauli string, whatever is measured behind it."""
        letters = {q: letter for q, letter in enumerate(reversed(label)) if letter != "I"}
        if not letters.keys().isdisjoint(measured_qubits(circuit, circuit.clbits)):
            circuit = circuit.remove_final_measurements(inplace=False)
        product = np.ones(len(values))
        for part in self.parts(circuit, keep=letters):
            own = "".join(letters.get(q, "I") for q in reversed(part.subcircuit.qubits))
            if set(own) != {"I"}:
                product *= part.expectation(own, values)
        return product


class SimulatedPart:
    """One subcircuit of the whole circuit, with its noise."""

    def __init__(
        self, subcircuit: Subcircuit, noise: DeviceNoise | None, whole: QuantumCircuit
    ) -> None:
        self.subcircuit = subcircuit
        self.bits = tuple(bit for _, bit in subcircuit.measured)
        self._wires = [wire for wire, _ in subcircuit.measured]
        qubits = subcircuit.qubits
        noisy = noise is not None and noise.scale > 0
        require_memory(
            16 * 4 ** len(qubits) if noisy else 16 * 2 ** len(qubits),
            f"the {'noisy ' if noisy else ''}state of {len(qubits)} qubits that gates tie together",
            "Use fewer qubits.",
        )
        expanded = expand(subcircuit.circuit if noise else bindable(subcircuit.circuit))
        few = len(qubits) <= _BLOCK_QUBITS
        slot = {p: k for k, p in enumerate(expanded.circuit.parameters)}
        self._gates = []
        for item in expanded.circuit.data:
            operation = item.operation
            where = tuple(qubits[expanded.circuit.find_bit(q).index] for q in item.qubits)
            if isinstance(operation, Delay):
                seconds = 0.0 if noise is None else delay_seconds(operation, noise)
                self._gates.append(Gate(operation, where, (), seconds))
            else:
                slots = tuple(slot[p] for p in operation.params if p in slot)
                self._gates.append(Gate(operation, where, slots))
        self._blocks = None
        if noise is not None and noisy and few:
            self._blocks = _Blocks(subcircuit, self._gates, expanded.angles, noise)
        self._angles, self._parameters = expanded.angles, list(expanded.circuit.parameters)
        order = {p: k for k, p in enumerate(whole.parameters)}
        self._columns = [order[p] for p in expanded.angles.parameters]
        self._registers = {r.name: [whole.find_bit(b).index for b in r] for r in whole.cregs}
        self._readout = [
            np.eye(2) if noise is None else noise.assignment(qubits[w]) for w in self._wires
        ]
        self._noise, self._noisy = noise, noisy

    @cached_property
    def _aer(self) -> tuple[QuantumCircuit, AerSimulator]:
        """The circuit with relaxation while waiting, and a simulator with all other errors."""
        wires = {q: k for k, q in enumerate(self.subcircuit.qubits)}
        whole, model = noisy_circuit(self._gates, wires, self._noise if self._noisy else None)
        method = "density_matrix" if self._noisy else "statevector"
        return whole, AerSimulator(method=method, noise_model=model)

    @cached_property
    def tables(self) -> dict[str, NDArray[np.uint8]]:
        """What each outcome writes into the registers of the whole circuit: `(2**bits, bytes)`.

        Bytes are big-endian; registers to which the part writes nothing are left out.
        """
        outcomes, tables = np.arange(2 ** len(self.bits)), {}
        for name, places in self._registers.items():
            own = [(k, places.index(bit)) for k, bit in enumerate(self.bits) if bit in places]
            if own:
                table = np.zeros((len(outcomes), -(-len(places) // 8)), np.uint8)
                for k, place in own:
                    byte, shift = divmod(place, 8)
                    table[:, -1 - byte] |= (((outcomes >> k) & 1) << shift).astype(np.uint8)
                tables[name] = table
        return tables

    def probabilities(self, values: Floats) -> Floats:
        """Of outcomes as they are read, the first measured bit being the lowest: `(rows, 2**bits)`.

        Args:
            values: `(rows, parameters of the whole circuit)`.
        """
        require_memory(
            24 * len(values) * 2 ** len(self._wires),
            f"the probabilities of {len(values):,} circuits and {len(self._wires)} qubits",
            "Use a smaller batch, or read fewer qubits.",
        )
        if self._blocks is not None:
            p = self._blocks.probabilities(self._angles(values[:, self._columns]))
        else:
            p = self.reference_probabilities(values)
        # Error terms below 1e-10 are left out.
        p = np.clip(p, 0.0, None)
        return np.asarray(p / p.sum(-1, keepdims=True), float)

    def reference_probabilities(self, values: Floats) -> Floats:
        """The same by Aer, not normalised."""
        circuit = self._aer[0].copy()
        circuit.save_probabilities(self._wires)
        return tensored(self._readout, self._run(circuit, values, "probabilities"))

    def expectation(self, label: str, values: Floats) -> Floats:
        """`(rows,)` mean of the Pauli string `label` on the subcircuit's wires."""
        circuit = self._aer[0].copy()
        circuit.save_expectation_value(Pauli(label), circuit.qubits)
        return self._run(circuit, values, "expectation_value")

    def _run(self, circuit: QuantumCircuit, values: Floats, kind: str) -> Floats:
        slots = self._angles(values[:, self._columns])
        count = len(slots) if slots.shape[1] else min(1, len(slots))
        if not count:
            return np.zeros((0, 2 ** len(self._wires)) if kind == "probabilities" else 0)
        binds = {p: slots[:, k].tolist() for k, p in enumerate(self._parameters)}
        options = {"shots": 1, "runtime_parameter_bind_enable": True}
        result = aer_result(self._aer[1], [circuit], [binds] if binds else None, **options)
        found = np.stack([np.asarray(result.data(k)[kind], float) for k in range(count)])
        return np.broadcast_to(found, (len(slots), *found.shape[1:]))


class _Blocks:
    """A part as the noisy engine's fused blocks: all rows at once.

    Rows of a step are pairs of samples and settings of weights. What comes in front of the first
    weight is carried out once per sample, and the matrices of the rest are built once per setting.
    """

    def __init__(
        self, subcircuit: Subcircuit, gates: list[Gate], angles: AngleMap, noise: DeviceNoise
    ) -> None:
        qubits = subcircuit.qubits
        data = {
            k
            for k, angle in enumerate(angles.expressions)
            if all(INPUT in p.name for p in angle.parameters)
        }
        front: list[Gate] = []
        rest: list[Gate] = []
        reached: set[int] = set()  # qubits that a weight has moved
        for gate in gates:
            early = data.issuperset(gate.slots) and reached.isdisjoint(gate.qubits)
            (front if early else rest).append(gate)
            if not early:
                reached.update(gate.qubits)
        # Blocks act on pairs; a single qubit gets one that nothing happens to.
        wires = {q: k for k, q in enumerate(qubits if len(qubits) > 1 else (*qubits, -1))}
        self._sections = []
        for some in (front, rest):
            part = Part("basis", tuple(some), angles, ())
            blocks = fuse(steps(part, noise, wires, cutoff=_CUTOFF), len(wires))
            section = Section(blocks, len(angles.expressions), torch.float64, "cpu")
            self._sections.append((section, sorted({s for gate in some for s in gate.slots})))
        measured = tuple(qubits[wire] for wire, _ in subcircuit.measured)
        basis = Basis(None, tuple(range(len(measured))), np.eye(2 ** len(measured)))
        self._outcomes = torch.from_numpy(observable_rows(basis, noise, measured, wires))
        self._zero = torch.from_numpy(zero_state(len(wires)))
        self._rows = max(_ROWS, 2**15 // len(self._zero))

    def probabilities(self, slots: Floats) -> Floats:
        """`(rows, slots)` to `(rows, outcomes)`, with readout errors."""
        found = np.empty((len(slots), len(self._outcomes)))
        (front, early), (rest, late) = self._sections
        with one_thread(), torch.no_grad():
            order = np.arange(len(slots))
            if len(slots) > self._rows:  # rows of a sample lie beside each other
                order = np.argsort(_distinct(slots, early)[1].numpy(), kind="stable")
            for first in range(0, len(slots), self._rows):
                own = order[first : first + self._rows]
                alike, sample = _distinct(slots[own], early)
                starts = self._zero.expand(len(alike), -1)
                starts = front.sweep(starts, front.matrices(alike), adjoint=False)
                alike, setting = _distinct(slots[own], late)
                matrices = rest.matrices(alike)[:, setting]
                states = rest.sweep(starts[sample], matrices, adjoint=False)
                found[own] = (states @ self._outcomes.T).numpy()
        return found


def _distinct(rows: Floats, columns: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """One row for each that differs in these columns, and which of them stands for each row."""
    if not columns:
        return torch.from_numpy(rows[:1]), torch.zeros(len(rows), dtype=torch.long)
    _, first, of_row = np.unique(rows[:, columns], axis=0, return_index=True, return_inverse=True)
    return torch.from_numpy(rows[first]), torch.from_numpy(of_row.reshape(-1))


@dataclass(frozen=True, eq=False)
class Subcircuit:
    """Qubits that gates tie together, and what happens on them.

    Args:
        qubits: Physical qubits, ascending; wire k of the circuit is `qubits[k]`.
        circuit: The gates and delays on those qubits, without measurements and barriers.
        measured: `(wire, classical bit of the whole circuit)` of every measurement.
    """

    qubits: tuple[int, ...]
    circuit: QuantumCircuit
    measured: tuple[tuple[int, int], ...]


def subcircuits(circuit: QuantumCircuit, *, keep: Iterable[int] = ()) -> list[Subcircuit]:
    """The parts on which something is measured or kept, ordered by their least qubit.

    Raises:
        CircuitError: If a qubit is used after its measurement, reset or controlled by an outcome,
            or a classical bit is written twice.
    """
    ties = rustworkx.PyGraph()
    ties.add_nodes_from(range(circuit.num_qubits))
    gates: list[tuple[Any, list[int]]] = []
    measured: dict[int, list[int]] = {}
    written: set[int] = set()
    for item in circuit.data:
        name = item.operation.name
        qubits = [circuit.find_bit(q).index for q in item.qubits]
        if name == "barrier":
            continue
        late = [q for q in qubits if q in measured]
        if late and name != "measure" and name != "delay":
            raise _unfit(f"{name!r} on qubit {late[0]} after its measurement")
        if name == "measure":
            bit = circuit.find_bit(item.clbits[0]).index
            if late or bit in written:
                raise _unfit(f"two measurements of qubit {qubits[0]} or into bit {bit}")
            measured.setdefault(qubits[0], []).append(bit)
            written.add(bit)
        elif name == "reset" or item.clbits or hasattr(item.operation, "blocks"):
            raise _unfit(f"{name!r} on qubits {qubits}")
        elif not late:
            ties.add_edges_from_no_data([(qubits[0], q) for q in qubits[1:]])
            gates.append((item.operation, qubits))
    interesting = {*measured, *keep}
    busy = interesting.union(*(qubits for _, qubits in gates))
    found: dict[int, Subcircuit] = {}  # by qubit
    for group in rustworkx.connected_components(ties):
        if not interesting.isdisjoint(group):
            members = tuple(sorted(busy & group))
            wires = [(k, bit) for k, q in enumerate(members) for bit in measured.get(q, ())]
            part = Subcircuit(members, QuantumCircuit(len(members)), tuple(wires))
            found.update(dict.fromkeys(members, part))
    for operation, qubits in gates:
        own = found.get(qubits[0]) if qubits else None
        if own is not None:
            own.circuit.append(operation, [own.qubits.index(q) for q in qubits], copy=False)
    return sorted(dict.fromkeys(found.values()), key=lambda part: part.qubits)


def _unfit(what: str) -> CircuitError:
    return CircuitError(
        "local simulation runs gates, then measures every qubit at most once",
        got=what,
        remedy="Measure at the end, and unroll control flow.",
    )
