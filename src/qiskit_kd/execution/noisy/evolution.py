# SPDX-License-Identifier: Apache-2.0
"""States carried through a whole noisy circuit as torch operations, with gradients of everything.

For circuits in which data and weights interleave, for gradients of features, and for other torch
devices. Cost and memory grow with the batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.execution.engine import Array
from qiskit_kd.execution.noisy.native import Part
from qiskit_kd.execution.noisy.program import Program
from qiskit_kd.execution.torch_use import Mapped

__all__ = ["evolve", "evolve_bytes", "through_ansatz"]


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


def evolve(
    model: CircuitModel, program: Program, features: Tensor, weights: Tensor, dtype: torch.dtype
) -> Tensor:
    """`(rows, num_features)` and `(num_weights,)` to `(rows, num_outputs)`."""
    compiled = program.on(dtype, features.device)
    weights = weights.to(features.device)
    states = compiled.zero.expand(len(features), -1)
    for part, section in zip(program.native.parts, compiled.sections, strict=True):
        slots = (
            _input_slots(model, part, features, dtype)
            if part.source == "inputs" else _weight_slots(part, weights, dtype)
        )  # fmt: skip
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
        count for count, part in zip(pieces, program.native.parts, strict=True)
        if part.source == "inputs"
    )  # fmt: skip
    blocks = program.num_blocks() if gradient else 1
    return int(program.row_bytes(dtype) * (2 * blocks + 4) + 4 * own * 256 * item)
