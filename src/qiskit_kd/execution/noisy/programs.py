# SPDX-License-Identifier: Apache-2.0
"""`Program`: a native circuit with its noise, ready to run in any precision on any torch device.

Readouts become observables on the device's qubits, with the errors of the measurement folded in:
what is read from a wrong measurement is a right measurement of another observable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.execution.engine import Array
from qiskit_kd.execution.measurement import Basis, bases
from qiskit_kd.execution.noise_sources import DeviceNoise, Float
from qiskit_kd.execution.noisy.fusion import Blocks, fuse, steps
from qiskit_kd.execution.noisy.isa import ISACircuit, Part
from qiskit_kd.execution.noisy.sweeps import Section
from qiskit_kd.execution.torch_use import Mapped

_ROOT = np.sqrt(2)


def observable_rows(
    basis: Basis, device: DeviceNoise, final: tuple[int, ...], wires: Mapping[int, int]
) -> Float:
    """`(num_outputs, 4**wires)` coefficients of what one basis adds to the outputs.

    Args:
        basis: The basis, without its rotation.
        device: Its readout errors.
        final: Physical qubit of each qubit of the model.
        wires: Physical qubits to wires.
    """
    measured, n = basis.qubits, len(wires)
    table = basis.matrix.T.reshape(-1, *[2] * len(measured))  # the last axis is the first qubit
    to_pauli = np.array([[1, 1], [0, 0], [0, 0], [1, -1]]) / _ROOT
    for k, qubit in enumerate(measured):
        axis = len(measured) - k
        turn = to_pauli @ device.assignment(final[qubit]).T
        table = np.moveaxis(np.tensordot(table, turn, ([axis], [1])), -1, axis)
    whole = np.zeros((len(table), *[4] * n))
    places = [n - wires[final[q]] for q in reversed(measured)]
    others = [axis for axis in range(1, n + 1) if axis not in places]
    view = whole.transpose(*others, 0, *places)
    view[(0,) * len(others)] = table * _ROOT ** len(others)
    return whole.reshape(len(table), -1)


def zero_state(num_wires: int) -> Float:
    """`(4**num_wires,)` coefficients of |0...0>."""
    state = np.ones(1)
    for _ in range(num_wires):
        state = np.kron(state, np.array([1, 0, 0, 1]) / _ROOT)
    return state


@dataclass(frozen=True, eq=False)
class Compiled:
    """The tensors of a program: sections in order, observables, the state |0...0>."""

    sections: tuple[Section, ...]
    observables: Tensor
    zero: Tensor


class Program:
    """A model on a noisy device.

    Args:
        model: The model.
        native: Its circuit on the device.
        device: The noise.
        cutoff: See `channels.fixed_transfer`.
    """

    def __init__(
        self, model: CircuitModel, native: ISACircuit, device: DeviceNoise, *, cutoff: float = 0.0
    ) -> None:
        self.native = native
        self.num_outputs = model.num_outputs
        self.is_complete = isinstance(model.readout, ClassGroups) and cutoff == 0
        """Whether outputs are probabilities that add up to one, so that the last is implied."""
        self._bases = bases(model.readout)
        self._device = device
        self._cutoff = cutoff
        wires = list(native.active)
        # Blocks act on pairs; a device of one qubit gets one that nothing happens to.
        self.num_wires = max(2, len(wires))
        spare = [-1] if len(wires) == 1 else []
        self._wires = {qubit: k for k, qubit in enumerate(wires + spare)}
        self._compiled: dict[tuple[torch.dtype, torch.device], Compiled] = {}
        self.row_bytes: dict[torch.dtype, int] = {
            torch.float32: 4 * 4**self.num_wires,
            torch.float64: 8 * 4**self.num_wires,
        }
        """Bytes of one density matrix."""

    @cached_property
    def blocks(self) -> tuple[Blocks, ...]:
        """The fused blocks of every part."""
        return tuple(
            fuse(steps(part, self._device, self._wires, cutoff=self._cutoff), self.num_wires)
            for part in self.native.parts
        )

    @cached_property
    def _observables(self) -> Tensor:
        """`(observables, 4**num_wires)`, double precision: all bases pulled back and added up."""
        # Made in numpy, which the caller's default device does not reach.
        total = torch.from_numpy(np.zeros((self.num_outputs, 4**self.num_wires)))
        for basis, turn in zip(self._bases, self.native.rotations, strict=True):
            rows = observable_rows(basis, self._device, self.native.final, self._wires)
            sequence = steps(turn, self._device, self._wires, cutoff=self._cutoff)
            section = Section(fuse(sequence, self.num_wires), 0, torch.float64, "cpu")
            matrices = section.matrices(torch.from_numpy(np.zeros(0)))
            total += section.sweep(torch.from_numpy(rows), matrices, adjoint=True)
        return total[:-1] if self.is_complete else total

    def join(self, outputs: Tensor) -> Tensor:
        """`(rows, observables)` to `(rows, num_outputs)`: adds the implied probability."""
        if not self.is_complete:
            return outputs
        return torch.cat([outputs, 1 - outputs.sum(1, keepdim=True)], dim=1)

    def split(self, cotangent: Tensor) -> Tensor:
        """Gradient of `join`."""
        if not self.is_complete:
            return cotangent
        return cotangent[:, :-1] - cotangent[:, -1:]

    def on(self, dtype: torch.dtype, device: torch.device) -> Compiled:
        """The tensors in one precision on one torch device, kept."""
        key = (dtype, device)
        if key not in self._compiled:
            sections = tuple(
                Section(blocks, len(part.angles.expressions), dtype, device)
                for blocks, part in zip(self.blocks, self.native.parts, strict=True)
            )
            zero = torch.from_numpy(zero_state(self.num_wires)).to(device, dtype)
            self._compiled[key] = Compiled(sections, self._observables.to(device, dtype), zero)
        return self._compiled[key]

    def num_blocks(self, *parts: int) -> int:
        """Blocks of these parts; of all without arguments."""
        chosen = parts or range(len(self.native.parts))
        return sum(len(self.blocks[k].blocks) for k in chosen)


def _weight_slots(part: Part, weights: Tensor, dtype: torch.dtype) -> Tensor:
    slots: Tensor = Mapped.apply(weights, part.slots, part.pullback, dtype)
    return slots


def _input_slots(model: CircuitModel, part: Part, features: Tensor, dtype: torch.dtype) -> Tensor:
    encoding = model.encoding

    def function(x: Array) -> Array:
        return part.slots(encoding.angles(x.astype(np.float64)))

    def pullback(x: Array, gradient: Array) -> Array:
        whole = x.astype(np.float64)
        return encoding.pullback(whole, part.pullback(encoding.angles(whole), gradient))

    slots: Tensor = Mapped.apply(features, function, pullback, dtype)
    return slots


def _mixed_slots(
    model: CircuitModel, part: Part, features: Tensor, weights: Tensor, dtype: torch.dtype
) -> Tensor:
    encoding = model.encoding
    angles = Mapped.apply(features, encoding.angles, encoding.pullback, torch.float64)
    rows = weights.double().expand(len(features), -1)
    return _weight_slots(part, torch.cat([angles, rows], dim=1), dtype)


def evolve(
    model: CircuitModel, program: Program, features: Tensor, weights: Tensor, dtype: torch.dtype
) -> Tensor:
    """`(rows, num_features)` and `(num_weights,)` to `(rows, num_outputs)`."""
    compiled = program.on(dtype, features.device)
    weights = weights.to(features.device)
    states = compiled.zero.expand(len(features), -1)
    for part, section in zip(program.native.parts, compiled.sections, strict=True):
        if part.source == "both":
            slots = _mixed_slots(model, part, features, weights, dtype)
        elif part.source == "inputs":
            slots = _input_slots(model, part, features, dtype)
        else:
            slots = _weight_slots(part, weights, dtype)
        states = section.sweep(states, section.matrices(slots), adjoint=False)
    return program.join(states @ compiled.observables.T)


def through_ansatz(program: Program, weights: Tensor, dtype: torch.dtype) -> Tensor:
    """`(observables, 4**wires)`: the readout pulled back through the ansatz of one layer."""
    compiled, part = program.on(dtype, weights.device), program.native.parts[1]
    section = compiled.sections[1]
    matrices = section.matrices(_weight_slots(part, weights, dtype))
    return section.sweep(compiled.observables, matrices, adjoint=True)


def evolve_bytes(program: Program, dtype: torch.dtype, *, gradient: bool) -> int:
    """Bytes that carrying one row takes: states of every block, and its own matrices."""
    item = torch.finfo(dtype).bits // 8
    pieces = [sum(len(block.pieces) for block in blocks.blocks) for blocks in program.blocks]
    own = sum(
        count
        for count, part in zip(pieces, program.native.parts, strict=True)
        if part.source in ("inputs", "both")
    )
    blocks = program.num_blocks() if gradient else 1
    return int(program.row_bytes[dtype] * (2 * blocks + 4) + 4 * own * 256 * item)
