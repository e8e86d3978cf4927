# SPDX-License-Identifier: Apache-2.0
"""Parameter names and order: `input_00 ...` then `weight_000 ...`.

Plain zero-padded identifiers, not `ParameterVector`: a vector of eleven or more elements comes
back from OpenQASM 3 in another order, and positional binding then gives another unitary. UUIDs are
derived from the names, so QPY files are byte-stable and a loaded circuit equals a fresh one.
This module must not import torch.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qiskit_kd.errors import CircuitError

__all__ = ["input_parameters", "rename", "weight_parameters"]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "qiskit-kd")


def _named(name: str) -> Parameter:
    return Parameter(name, uuid=uuid.uuid5(_NAMESPACE, name))


def input_parameters(count: int, start: int = 0) -> list[Parameter]:
    """`count` encoding angles, `input_00` and on (three digits from 100 angles on)."""
    digits = max(2, len(str(start + count - 1)))
    return [_named(f"input_{k:0{digits}d}") for k in range(start, start + count)]


def weight_parameters(count: int, start: int = 0) -> list[Parameter]:
    """`count` trainable weights, `weight_000` and on."""
    digits = max(3, len(str(start + count - 1)))
    return [_named(f"weight_{k:0{digits}d}") for k in range(start, start + count)]


def rename(circuit: QuantumCircuit, new: Sequence[Parameter]) -> QuantumCircuit:
    """A copy of `circuit` whose parameters, in `circuit.parameters` order, are `new`."""
    if len(new) != circuit.num_parameters:
        raise CircuitError(
            "renaming needs one name per parameter", got=f"{len(new)} names",
            expected=str(circuit.num_parameters),
        )  # fmt: skip
    return circuit.assign_parameters(dict(zip(circuit.parameters, new, strict=True)))
