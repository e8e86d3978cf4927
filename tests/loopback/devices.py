# SPDX-License-Identifier: Apache-2.0
"""The devices of the loopback service: files of Qiskit's fake devices, under names of the service.

The snapshot files of `fake_provider` have the very format in which the service answers.
"""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import json
from pathlib import Path
from typing import Any

from qiskit import QuantumCircuit

__all__ = ["REP_DELAY", "Snapshot", "circuit_seconds", "not_isa"]

REP_DELAY = 250e-6
"""Seconds between executions where a device does not say its own."""

_FREE = ("barrier", "delay", "measure", "reset")


@functools.cache
def _files(fake: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from qiskit_ibm_runtime import fake_provider

    for _, kind in inspect.getmembers(fake_provider, inspect.isclass):
        if getattr(kind, "backend_name", None) == fake:
            folder = Path(kind.dirname)
            configuration = json.loads((folder / kind.conf_filename).read_text())
            properties = json.loads((folder / kind.props_filename).read_text())
            return configuration, properties
    raise ValueError(f"there is no fake device {fake!r}")


class Snapshot:
    """One device as the service shows it.

    Args:
        name: The name the service gives it.
        fake: The fake device whose files it shows, such as `"fake_torino"`.
        queue_length: How many jobs it says are waiting; `least_busy` reads this.
    """

    def __init__(self, name: str, fake: str, *, queue_length: int = 0) -> None:
        configuration, properties = _files(fake)
        self.name, self.fake, self.queue_length = name, fake, queue_length
        self.status = "active"
        self.configuration = configuration | {"backend_name": name}
        self.properties = properties | {"backend_name": name}
        self.num_qubits: int = configuration["n_qubits"]
        self.basis = {*configuration["basis_gates"], *_FREE}
        self.couplings = {tuple(pair) for pair in configuration["coupling_map"]}
        self.couplings |= {(b, a) for a, b in self.couplings}
        self.durations = self._durations(properties)
        # Read once by every client that opens a service: 133 qubits are a megabyte of JSON.
        self._texts = {"configuration": json.dumps(self.configuration)}
        self.calibrations = [(dt.datetime.min.replace(tzinfo=dt.UTC), json.dumps(self.properties))]
        """When each began to hold, oldest first, and the properties as JSON."""

    def recalibrate(self, *readout: float) -> str:
        """From now on every qubit has P(read 1 | state 0) and P(read 0 | state 1); the date."""
        now = dt.datetime.now(dt.UTC)
        found = json.loads(self.calibrations[-1][1])
        found["last_update_date"] = now.isoformat()
        wanted = dict(zip(("prob_meas1_prep0", "prob_meas0_prep1"), readout, strict=True))
        for item in (item for qubit in found["qubits"] for item in qubit):
            item["value"] = wanted.get(item["name"], item["value"])
        self.calibrations.append((now, json.dumps(found)))
        return now.isoformat()

    @property
    def rep_delay(self) -> float:
        """Default seconds between executions."""
        delay = self.configuration.get("default_rep_delay")
        return REP_DELAY if delay is None else delay * 1e-6

    def answer(self, what: str, before: str | None = None) -> str:
        """JSON text of `configuration`, `status`, or the `properties` at some time."""
        if what == "status":
            return json.dumps(
                {
                    "backend_version": "1.0",
                    "state": True,
                    "status": self.status,
                    "length_queue": self.queue_length,
                    "message": "",
                }
            )
        if what == "properties":
            end = dt.datetime.fromisoformat(before) if before else dt.datetime.now(dt.UTC)
            return [text for begun, text in self.calibrations if begun <= end][-1]
        return self._texts[what]

    def listed(self) -> dict[str, Any]:
        """The entry of the device in the list of devices."""
        status = "online" if self.status == "active" else "paused"
        return {
            "name": self.name,
            "status": {"name": status},
            "queue_length": self.queue_length,
            "qubits": self.num_qubits,
            "physical_qubits": self.num_qubits,
        }

    @staticmethod
    def _durations(properties: dict[str, Any]) -> dict[tuple[str, tuple[int, ...]], float]:
        units = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "s": 1.0}
        found = {}
        for gate in properties["gates"]:
            for item in gate["parameters"]:
                if item["name"] == "gate_length":
                    key = gate["gate"], tuple(gate["qubits"])
                    found[key] = item["value"] * units[item["unit"]]
        for qubit, items in enumerate(properties["qubits"]):
            for item in items:
                if item["name"] == "readout_length":
                    found["measure", (qubit,)] = item["value"] * units[item["unit"]]
        return found


def not_isa(circuit: QuantumCircuit, device: Snapshot) -> str:
    """Why a device cannot run a circuit, in the manner of the service; "" where it can."""
    if circuit.num_qubits > device.num_qubits:
        return f"The circuit has {circuit.num_qubits} qubits, {device.name} {device.num_qubits}."
    for item in circuit.data:
        name, wires = item.operation.name, tuple(circuit.find_bit(q).index for q in item.qubits)
        if name == "barrier":
            continue
        if name not in device.basis or (len(wires) == 2 and wires not in device.couplings):
            return f"The instruction {name} on {wires} is not supported by the target system."
    return ""


def circuit_seconds(circuit: QuantumCircuit, device: Snapshot) -> float:
    """Seconds from the first gate to the end of the last readout, every gate as soon as it can."""
    ready = [0.0] * circuit.num_qubits
    for item in circuit.data:
        wires = tuple(circuit.find_bit(q).index for q in item.qubits)
        if not wires:
            continue
        length = 0.0
        if item.operation.name == "delay":
            length = item.operation.duration * (
                device.configuration["dt"] * 1e-9 if item.operation.unit == "dt" else 1.0
            )
        elif item.operation.name != "barrier":
            length = device.durations.get((item.operation.name, wires), 0.0)
        end = max(ready[w] for w in wires) + length
        for w in wires:
            ready[w] = end
    return max(ready, default=0.0)
