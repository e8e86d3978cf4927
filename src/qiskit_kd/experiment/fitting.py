# SPDX-License-Identifier: Apache-2.0
"""How a circuit stands on a device: how many copies of it, how long, at what tariff."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from qiskit_kd.errors import DeviceError
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.measurement import bases, measured
from qiskit_kd.execution.runtime.cost import Tariff, circuit_duration

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from qiskit_kd.circuits.model import CircuitModel
    from qiskit_kd.execution.schema import RuntimeOptions

__all__ = ["Fit", "Place"]


@dataclass(frozen=True)
class Fit:
    """So many copies of a circuit side by side.

    Args:
        tiles: How many.
        tariff: What one execution of all of them costs.
    """

    tiles: int
    tariff: Tariff


class Place:
    """One circuit on one device.

    Args:
        backend: A backend of kind `runtime`.
        model: The circuit.

    Attributes:
        options: The entry of the backend.
        device: The device.
        expansion: The circuit, expanded.

    Raises:
        DeviceError: If the circuit does not fit.
        AccountError: If the device cannot be opened.
    """

    def __init__(self, backend: Backend, model: CircuitModel) -> None:
        from qiskit_kd.execution.runtime.device import open_device

        self.backend = backend
        self.expansion = Expansion(model)
        self.options: RuntimeOptions = backend.options
        self.device = open_device(self.options)
        self.device.check_width(model.num_qubits)
        self._circuits = [measured(self.expansion.circuit, one) for one in bases(model.readout)]

    def fit(self, tiled: bool | None) -> Fit:
        """Several copies or one; with None as the entry says."""
        if tiled is None:
            tiled = self.options.tiles != 1
        return self.several if tiled else self.alone

    @cached_property
    def alone(self) -> Fit:
        """One copy."""
        manager = self.backend.pass_manager()
        return self._fit([(1, manager.run(circuit)) for circuit in self._circuits])

    @cached_property
    def several(self) -> Fit:
        """As many copies as the entry asks for; as fit, where it asks for one."""
        from qiskit_kd.execution.runtime.tiling import tile_circuit

        asked = self.options.tiles
        try:
            found = [
                tile_circuit(
                    circuit, self.device.target, tiles="auto" if asked == 1 else asked,
                    optimization_level=self.options.optimization_level,
                    seed=self.options.seed_transpiler,
                )
                for circuit in self._circuits
            ]  # fmt: skip
        except DeviceError:
            if asked != 1:
                raise
            return self.alone  # nobody asked for copies: they need qubits in a row
        return self._fit([(len(tiling.tiles), tiling.circuit) for tiling in found])

    def _fit(self, circuits: list[tuple[int, QuantumCircuit]]) -> Fit:
        """Of all bases of the readout: their mean length, and the copies that all of them have."""
        target, options = self.device.target, self.options
        lengths = [circuit_duration(circuit, target) for _, circuit in circuits]
        delay = self.device.rep_delay if options.rep_delay is None else options.rep_delay
        tariff = Tariff(sum(lengths) / len(lengths), delay, options.usd_per_second)
        return Fit(min(tiles for tiles, _ in circuits), tariff)
