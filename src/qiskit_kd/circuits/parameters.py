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
    """A copy of `circuit` whose parameters, in `circuit.parameters` order, are `new`.

    Raises:
        CircuitError: If there is not one name per parameter.
    """
    old = tuple(circuit.parameters)
    if len(new) != len(old):
        raise CircuitError(
            "renaming needs one name per parameter", got=f"{len(new)} names", expected=str(len(old))
        )
    # By way of names nobody has: Qiskit refuses two parameters of one name, even for a moment, and
    # a user's own `weight_001` may have to become our `weight_000`.
    longest = max((len(parameter.name) for parameter in old), default=0)
    between = [Parameter(f"{'_' * (longest + 1)}{k}") for k in range(len(old))]
    return circuit.assign_parameters(dict(zip(old, between, strict=True))).assign_parameters(
        dict(zip(between, new, strict=True))
    )
