# SPDX-License-Identifier: Apache-2.0
"""How much memory is free, so that work that cannot fit is refused before it starts."""

from __future__ import annotations

import os
from pathlib import Path

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import Observables
from qiskit_kd.errors import ResourceError

_GIB = 2**30
_NEGLIGIBLE = 2**26  # not worth asking the system


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that can be allocated without swapping; an estimate where the system does not tell."""
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) // 2
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


def simulation_bytes(model: CircuitModel) -> int:
    """Bytes that simulating one circuit takes: the state, and the eigenvalues of observables."""
    tables = model.num_outputs if isinstance(model.readout, Observables) else 0
    return int(2**model.num_qubits * (16 + 8 * tables))


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse `needed` bytes for `what` where fewer are there, with a ResourceError."""
    if needed < _NEGLIGIBLE:
        return
    available = available_bytes()
    if needed > available:
        raise ResourceError(
            f"{what} must fit into memory",
            got=f"{needed / _GIB:,.1f} GiB needed",
            expected=f"at most the {available / _GIB:,.1f} GiB available",
            remedy=remedy,
        )


def require_statevector(model: CircuitModel) -> None:
    """Refuse a model whose state does not fit into memory."""
    qubits = model.num_qubits
    what, remedy = f"a statevector of {qubits} qubits", "Use fewer qubits or a device."
    require_memory(simulation_bytes(model), what, remedy)
