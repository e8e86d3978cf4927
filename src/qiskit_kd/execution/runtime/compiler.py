# SPDX-License-Identifier: Apache-2.0
"""Circuits made fit for a device, once ever: in this process, and in all that share a journal.

What a transpiler makes of a circuit depends on the calibration of the day. A run that goes on
tomorrow must ask for the very circuits of today, or it would not find its jobs again; so they are
pinned in the journal, with the readout errors of the day, for as long as the device can run them.
Readout errors are undone by those in force when a job ran, which the journal keeps with the job.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, generate_preset_pass_manager, qpy
from qiskit.transpiler import PassManager, Target

from qiskit_kd.errors import ConfigError
from qiskit_kd.execution.compiled import circuit_digest, circuit_duration
from qiskit_kd.execution.noise_sources import readout_rates
from qiskit_kd.execution.runtime.device import Device
from qiskit_kd.execution.runtime.errors import service_errors
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.serialization import damaged_circuit, read_circuit
from qiskit_kd.execution.runtime.tiling import Tiling, measured_qubits, tile_circuit
from qiskit_kd.execution.transpiling import CarefulPassManager

if TYPE_CHECKING:
    from qiskit_kd.execution.schema import RuntimeOptions


@dataclass(frozen=True, eq=False)
class Compiled:
    """A circuit of the device.

    Args:
        circuit: One copy of the circuit; one that measures nothing has its layout.
        tiling: Copies of it side by side; None where it runs alone.
        qubits: Physical qubit of each measured bit of each copy, lowest bit first.
        readout: `(copies, bits, 2)` P(read 1 | state 0) and P(read 0 | state 1) of each, that day.
        calibrated: ISO date of the calibration, or None if unknown.
        duration: Seconds of one run.
    """

    circuit: QuantumCircuit
    tiling: Tiling | None
    qubits: tuple[tuple[int, ...], ...]
    readout: NDArray[np.float64]
    calibrated: str | None
    duration: float

    def assignments(
        self, tile: int = 0, rates: NDArray[np.float64] | None = None
    ) -> list[NDArray[np.float64]]:
        """`(2, 2)` probabilities `[read, state]` of each measured bit of a copy.

        By `rates`, `(num_qubits, 2)` when the job ran, or those of the day it was made.
        """
        found = self.readout[tile] if rates is None else rates[list(self.qubits[tile])]
        return [np.array([[1 - a, b], [a, 1 - b]]) for a, b in found]

    def describe(self) -> dict[str, Any]:
        """For reports: one copy, and where all of them are."""
        tiling = {} if self.tiling is None else self.tiling.as_dict()
        pairs = [i for i in self.circuit.data if len(i.qubits) == 2 and i.name != "barrier"]
        return {
            "layout": [list(copy) for copy in self.qubits],
            "readout": self.readout.tolist(),
            "calibrated": self.calibrated,
            "duration": self.duration,
            "depth": self.circuit.depth(),
            "two_qubit_gates": len(pairs),
            "tiles": tiling.get("tiles", []),
            "left_out": tiling.get("left_out", []),
        }


def device_pass_manager(device: Device, options: RuntimeOptions) -> PassManager:
    """A pass manager to circuits of a device."""
    return CarefulPassManager(
        generate_preset_pass_manager(
            optimization_level=options.optimization_level,
            target=device.target,
            seed_transpiler=options.seed_transpiler,
        )
    )


class Compiler:
    """Makes circuits of a device, remembers them by content, and pins them in a journal."""

    def __init__(self, device: Device, options: RuntimeOptions, journal: Journal) -> None:
        self.device, self.journal = device, journal
        self._options = options
        self._guard = threading.RLock()
        self._known: dict[str, Compiled] = {}
        self._place = json.dumps(
            [
                device.name,
                options.optimization_level,
                options.seed_transpiler,
                options.fractional_gates,
                options.tiles,
            ]
        )
        self.transpilations = 0
        """Circuits that this process has transpiled."""

    def compiled(self, circuit: QuantumCircuit) -> Compiled:
        """The circuit of the device behind a circuit.

        It is the one that was pinned for these settings, unless a part of the device that it uses
        is missing or out of order since. Faults elsewhere on the device change nothing: another
        circuit would be another job, and what a task in hand has paid for would be paid again.

        Raises:
            DeviceError: If it is wider than the device.
            StorageError: If the journal holds a damaged circuit.
        """
        name = hashlib.sha256((self._place + circuit_digest(circuit)).encode()).hexdigest()
        with self._guard:
            if name not in self._known:
                self._known[name] = self._pinned(f"circuit:{name}", circuit)
            return self._known[name]

    def all(self) -> list[Compiled]:
        """Every circuit that was asked for so far."""
        return list(self._known.values())

    def _pinned(self, name: str, circuit: QuantumCircuit) -> Compiled:
        found = self._of_use(self._pins(name), _FIT)
        if found is not None:
            return found
        with self.journal.alone_with(name.replace(":", "-")):
            pins = self._pins(name)
            found = self._of_use(pins, _FIT)
            if found is not None:
                return found
            body = self._transpiled(circuit)
            # Where today's circuit makes do with the same faults, there is no reason for it.
            found = self._of_use(pins, _fitness(self._read(body), self.device.target))
            nth = f"{name}:{len(pins)}" if pins else name
            return found or self._read(self.journal.pin(nth, body))

    def _pins(self, name: str) -> list[bytes]:
        """What was pinned under a name, oldest first: one more each time the device lost a part."""
        found: list[bytes] = []
        while (body := self.journal.pinned(f"{name}:{len(found)}" if found else name)) is not None:
            found.append(body)
        return found

    def _of_use(self, pins: list[bytes], least: int) -> Compiled | None:
        """The latest of the pins that the device can run at least so well.

        The latest, even where an older one is fit again: the work in hand goes on with it.
        """
        read = map(self._read, reversed(pins))
        return next((one for one in read if _fitness(one, self.device.target) >= least), None)

    def _read(self, body: bytes) -> Compiled:
        head, _, content = body.partition(b"\n")
        # The circuit that was written, not the one in memory: tomorrow's run has no other.
        found = read_circuit(content)
        try:
            facts = json.loads(head)
            tiling = Tiling.from_dict(found, facts["tiling"]) if facts["tiling"] else None
            qubits = tuple(map(tuple, facts["qubits"]))
            readout = np.array(facts["readout"], float).reshape(len(qubits), -1, 2)
            calibrated = facts["calibrated"]
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise damaged_circuit(error) from None
        return Compiled(
            found if tiling is None else tiling.single,
            tiling,
            qubits,
            readout,
            calibrated,
            circuit_duration(found, self.device.target),
        )

    def _transpiled(self, circuit: QuantumCircuit) -> bytes:
        self.device.check_width(circuit.num_qubits)
        options, tiling = self._options, None
        if options.tiles == 1 or not circuit.clbits:
            found = device_pass_manager(self.device, options).run(circuit)
            qubits = [measured_qubits(found, found.clbits)]
        else:
            level, seed = options.optimization_level, options.seed_transpiler
            tiling = tile_circuit(
                circuit,
                self.device.target,
                tiles=options.tiles,
                optimization_level=level,
                seed=seed,
            )
            found = tiling.circuit
            qubits = [tiling.measured(tile) for tile in range(len(tiling.tiles))]
        self.transpilations += 1
        rates = self._rates()
        facts = {
            "qubits": qubits,
            "readout": [rates[list(copy)].tolist() for copy in qubits],
            "calibrated": self.device.calibrated,
            "tiling": None if tiling is None else tiling.as_dict(),
        }
        with io.BytesIO() as stream:
            qpy.dump(found, stream)
            return json.dumps(facts).encode() + b"\n" + stream.getvalue()

    def _rates(self) -> NDArray[np.float64]:
        if self.device.name == "aer":
            return np.zeros((self.device.num_qubits, 2))
        with service_errors():
            return readout_rates(self.device.backend)

    def check_mitigation(self, compiled: Compiled) -> None:
        """Refuse to undo readout errors where nothing is known of any measured qubit."""
        if not compiled.readout.any():
            raise ConfigError(
                "readout mitigation undoes readout errors",
                got=f"{self.device.name!r}, whose calibration has none",
                expected="a device with readout errors",
                remedy="Use mitigation: none.",
            )


_FIT, _POOR, _UNFIT = 2, 1, 0


def _fitness(compiled: Compiled, target: Target) -> int:
    """Whether a device can run a circuit: well, with parts that are out of order, or not at all."""
    circuit = compiled.circuit if compiled.tiling is None else compiled.tiling.circuit
    if target.num_qubits is not None and circuit.num_qubits > target.num_qubits:
        return _UNFIT
    found = _FIT
    for item in circuit.data:
        name = item.operation.name
        if name == "barrier":
            continue
        where = tuple(circuit.find_bit(qubit).index for qubit in item.qubits)
        if not target.instruction_supported(name, where):
            return _UNFIT
        facts = (target[name] or {}).get(where)
        if facts is not None and facts.error is not None and facts.error >= 1:
            found = _POOR  # how a service says of a part that it is out of order
    return found
