# SPDX-License-Identifier: Apache-2.0
"""`Program`: a native circuit with its noise, ready to run in any precision on any torch device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.execution.measurement import bases
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.noisy.blocks import Blocks, fuse, steps
from qiskit_kd.execution.noisy.native import Native
from qiskit_kd.execution.noisy.observables import observable_rows, zero_state
from qiskit_kd.execution.noisy.section import Section

__all__ = ["Compiled", "Program"]


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
        self, model: CircuitModel, native: Native, device: DeviceNoise, *, cutoff: float = 0.0
    ) -> None:
        self.native = native
        self.num_outputs = model.num_outputs
        self._is_distribution = isinstance(model.readout, ClassGroups)
        self._bases = bases(model.readout)
        self._device = device
        self._cutoff = cutoff
        wires = list(native.active)
        # Blocks act on pairs; a device of one qubit gets one that nothing happens to.
        self.num_wires = max(2, len(wires))
        spare = [-1] if len(wires) == 1 else []
        self._wires = {qubit: k for k, qubit in enumerate(wires + spare)}
        self._compiled: dict[tuple[torch.dtype, torch.device], Compiled] = {}

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

    @property
    def is_complete(self) -> bool:
        """Whether outputs are probabilities that add up to one, so that the last is implied."""
        return self._is_distribution and self._cutoff == 0

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

    def row_bytes(self, dtype: torch.dtype) -> int:
        """Bytes of one density matrix."""
        return int(4**self.num_wires * torch.finfo(dtype).bits // 8)

    def num_blocks(self, *parts: int) -> int:
        """Blocks of these parts; of all without arguments."""
        chosen = parts or range(len(self.native.parts))
        return sum(len(self.blocks[k].blocks) for k in chosen)
