# SPDX-License-Identifier: Apache-2.0
"""Refuses simulations that would not fit into memory before they start."""

from __future__ import annotations

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import Observables
from qiskit_kd.errors import ResourceError
from qiskit_kd.execution.memory import available_bytes

__all__ = ["require_memory", "simulation_bytes"]

_GIB = 2**30
_NEGLIGIBLE = 2**26  # not worth asking the system


def simulation_bytes(model: CircuitModel) -> int:
    """Bytes that simulating one circuit takes: the state, and the eigenvalues of observables."""
    tables = model.num_outputs if isinstance(model.readout, Observables) else 0
    return int(2**model.num_qubits * (16 + 8 * tables))


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse `needed` bytes that are not there.

    Args:
        needed: Bytes.
        what: What would need them, e.g. `"a statevector of 40 qubits"`.
        remedy: What to do instead.

    Raises:
        ResourceError: If less is available.
    """
    if needed < _NEGLIGIBLE:
        return
    available = available_bytes()
    if needed > available:
        raise ResourceError(
            f"{what} must fit into memory", got=f"{needed / _GIB:,.1f} GiB needed",
            expected=f"at most the {available / _GIB:,.1f} GiB available", remedy=remedy,
        )  # fmt: skip
