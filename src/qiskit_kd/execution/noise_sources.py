# SPDX-License-Identifier: Apache-2.0
"""`DeviceNoise`: which gates a device has, and what each of them does wrong.

A fake device, a snapshot of a real one and a set of rates all become the same thing: a Qiskit
`Target` (gates, couplings, errors, durations, T1 and T2) and two readout errors per qubit. Errors
of gates follow Aer's own rule for devices: thermal relaxation for the gate's duration, and as much
depolarising noise as the calibrated error leaves over.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Delay, Measure, Parameter
from qiskit.circuit.library import CZGate, IGate, RZGate, SXGate, XGate
from qiskit.providers import QubitProperties
from qiskit.quantum_info import average_gate_fidelity
from qiskit.transpiler import InstructionProperties, Target
from qiskit_aer.noise import (
    NoiseModel,
    QuantumError,
    ReadoutError,
    depolarizing_error,
    thermal_relaxation_error,
)
from qiskit_aer.noise.device import basic_device_gate_errors

from qiskit_kd.errors import CircuitError, ConfigError, UnknownNameError
from qiskit_kd.execution.transpiling import check_width

Float = NDArray[np.float64]
_RANDOM = 0.5  # a readout error beyond this would be information again


class DeviceNoise:
    """A device's gates and their noise.

    Args:
        name: What it is called in reports and errors.
        target: Gates, couplings, errors, durations and relaxation times of the device.
        readout: `(num_qubits, 2)` P(read 1 | state 0) and P(read 0 | state 1) of each qubit.
        scale: Factor on every error: calibrated gate errors and readout errors are multiplied, T1
            and T2 divided by it. 0 is a perfect device with the same gates; a factor above 1 takes
            no error beyond the one at which nothing of the state is left.
        readout_error: Whether measurements err.

    Raises:
        ConfigError: If the scale is no finite number from 0, or a readout error no probability.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        readout: Float,
        *,
        scale: float = 1.0,
        readout_error: bool = True,
    ) -> None:
        if not (math.isfinite(scale) and scale >= 0):
            raise ConfigError(
                "noise is scaled by a finite factor",
                got=str(scale),
                expected="0 (no noise) or more",
            )
        readout = np.asarray(readout, float).reshape(-1, 2)
        wrong = np.argwhere(~((readout >= 0) & (readout <= 1)))
        if len(wrong):
            qubit, kind = wrong[0].tolist()
            raise ConfigError(
                "a readout error is a probability",
                got=f"{readout[qubit, kind]} for qubit {qubit}",
                expected="0 to 1",
            )
        self.name = name
        self.target = target
        self.scale = float(scale)
        most = np.maximum(readout, _RANDOM)
        self._readout = np.minimum(readout * scale, most) if readout_error else 0 * readout
        self._errors: dict[tuple[str, tuple[int, ...]], QuantumError | None] = {}

    def __repr__(self) -> str:
        return f"DeviceNoise({self.name!r}, qubits={self.num_qubits}, scale={self.scale})"

    @property
    def num_qubits(self) -> int:
        """Qubits of the device."""
        return int(self.target.num_qubits)

    def check_width(self, num_qubits: int) -> None:
        """Refuse a circuit of more qubits than the device has, with a CircuitError."""
        check_width(num_qubits, most=self.num_qubits, device=self.name, error=CircuitError)

    def gate_error(self, name: str, qubits: tuple[int, ...]) -> QuantumError | None:
        """Aer's error behind a gate on physical qubits; None where there is none."""
        key = (name, qubits)
        if key not in self._errors:
            self._errors[key] = self._gate_error(name, qubits)
        return self._errors[key]

    def idle_error(self, qubit: int, seconds: float) -> QuantumError | None:
        """Thermal relaxation of a qubit that waits; None where nothing is known of it."""
        t1, t2 = self._relaxation(qubit)
        if self.scale == 0 or seconds == 0 or (math.isinf(t1) and math.isinf(t2)):
            return None
        return thermal_relaxation_error(t1, t2, seconds)

    def assignment(self, qubit: int) -> Float:
        """`(2, 2)` probabilities `[read, state]` of a measurement."""
        one_of_zero, zero_of_one = self._readout[qubit]
        return np.array([[1 - one_of_zero, zero_of_one], [one_of_zero, 1 - zero_of_one]])

    def noise_model(self, circuit: QuantumCircuit, qubits: Sequence[int]) -> NoiseModel:
        """Gate and readout errors of a compact circuit, wire k being `qubits[k]`, for Aer.

        Waiting times are not covered: Aer attaches errors to gates, not to durations.
        """
        model = NoiseModel(basis_gates=sorted(self.target.operation_names))
        seen = set()
        for item in circuit.data:
            wires = tuple(circuit.find_bit(q).index for q in item.qubits)
            name = item.operation.name
            if name in ("barrier", "delay", "measure") or name.startswith("save_"):
                continue
            if (name, wires) not in seen:
                seen.add((name, wires))
                error = self.gate_error(name, tuple(qubits[w] for w in wires))
                if error is not None:
                    model.add_quantum_error(error, name, list(wires))
        for wire, qubit in enumerate(qubits):
            if self._readout[qubit].any():
                model.add_readout_error(ReadoutError(self.assignment(qubit).T), [wire])
        return model

    def _gate_error(self, name: str, qubits: tuple[int, ...]) -> QuantumError | None:
        properties = self.target[name] if name in self.target.operation_names else {}
        if properties is None or None in properties:
            return None  # a gate without place and calibration
        if qubits not in properties:
            raise CircuitError(
                "a circuit consists of gates of the device",
                got=f"{name!r} on qubits {list(qubits)}",
                expected=f"the gates of {self.name!r}: {', '.join(self.target.operation_names)}",
                remedy="Write the gate as a circuit of those, or use another device.",
            )
        known = properties[qubits]
        if known is None or self.scale == 0:
            return None
        # One gate on a device of its own: building the errors of all gates takes seconds.
        times = [self._relaxation(q) for q in qubits]
        alone = Target(
            num_qubits=len(qubits),
            qubit_properties=[QubitProperties(t1=t1, t2=t2) for t1, t2 in times],
        )
        error = None if known.error is None else known.error * self.scale
        alone.add_instruction(
            self.target.operation_from_name(name),
            {tuple(range(len(qubits))): InstructionProperties(known.duration, error)},
        )
        found = basic_device_gate_errors(target=alone)
        return found[0][2] if found else None

    def _relaxation(self, qubit: int) -> tuple[float, float]:
        """T1 and T2 in seconds, T2 at most 2 T1 (calibrations measure more now and then)."""
        known = self.target.qubit_properties
        one = known[qubit] if known else None
        t1 = math.inf if one is None or one.t1 is None else one.t1
        t2 = 2 * t1 if one is None or one.t2 is None else one.t2
        if self.scale:
            t1, t2 = t1 / self.scale, t2 / self.scale
        return t1, min(t2, 2 * t1)


@lru_cache(maxsize=1)
def _fakes() -> dict[str, type]:
    from qiskit_ibm_runtime import fake_provider  # takes seconds to load

    members = inspect.getmembers(fake_provider, inspect.isclass)
    return {name: kind for _, kind in members if isinstance(name := _name_of(kind), str)}


def _name_of(kind: type) -> object:
    return getattr(kind, "backend_name", None)


def fake_device_names() -> list[str]:
    """Names of the fake devices that come with qiskit-ibm-runtime."""
    return sorted(_fakes())


def fake_device(name: str) -> Any:
    """The fake device called `name`, e.g. `"fake_torino"`, else an UnknownNameError."""
    fakes = _fakes()
    if name not in fakes:
        raise UnknownNameError.of("fake device", name, fakes)
    return fakes[name]()


def fake_devices_near(name: str) -> list[str]:
    """Fake devices that somebody may have meant by a name; some others where none is near it."""
    # `torino` is near to `fake_torino`, and so are `ibm_torino` and the class `FakeTorino`.
    stem = re.sub(r"(?i)^(ibmq?|fake)?_?(.*?)(v2)?$", r"\2", name).lower()
    known = fake_device_names()
    near = [n for guess in (f"fake_{stem}", name) for n in get_close_matches(guess, known, 2, 0.6)]
    return list(dict.fromkeys(near)) or [*known[:3], "..."]


def readout_rates(backend: Any, properties: Any = None) -> Float:
    """`(num_qubits, 2)` P(1 | 0) and P(0 | 1) of a backend, zero where nothing is known.

    The two differ by as much as a factor of ten; the target knows their mean only. `properties`
    are those of another moment.
    """
    target = backend.target
    rates = np.zeros((target.num_qubits, 2))
    measure = target["measure"] if "measure" in target.operation_names else None
    for (qubit,), known in (measure or {}).items():
        if known is not None and known.error is not None:
            rates[qubit] = known.error
    if properties is None:
        known = getattr(backend, "properties", None)
        properties = known() if callable(known) else None
    for qubit, items in enumerate([] if properties is None else properties.qubits):
        values = {item.name: item.value for item in items}
        if {"prob_meas1_prep0", "prob_meas0_prep1"} <= values.keys():
            rates[qubit] = values["prob_meas1_prep0"], values["prob_meas0_prep1"]
    return rates


def rate_device(
    num_qubits: int,
    *,
    one_qubit: float = 0.0,
    two_qubit: float = 0.0,
    readout: tuple[float, float] = (0.0, 0.0),
    t1: float = math.inf,
    t2: float | None = None,
    one_qubit_time: float = 0.0,
    two_qubit_time: float = 0.0,
    coupling: str = "line",
) -> tuple[Target, Float]:
    """A device all of whose qubits are alike, from a handful of rates; gates CZ, SX, X, RZ.

    RZ is a change of frame, as on IBM's devices: no time and no error.

    Args:
        num_qubits: Qubits of the device.
        one_qubit: Depolarising probability of SX and X, beside relaxation.
        two_qubit: Depolarising probability of CZ, beside relaxation.
        readout: P(read 1 | state 0) and P(read 0 | state 1).
        t1: Relaxation time in seconds.
        t2: Coherence time in seconds, at most `2 * t1`; None for `2 * t1`.
        one_qubit_time: Duration of SX and X in seconds.
        two_qubit_time: Duration of CZ in seconds.
        coupling: `"line"` or `"full"`: which pairs of qubits have a CZ.

    Returns:
        The target, and the readout errors as `DeviceNoise` takes them.
    """
    t2 = 2 * t1 if t2 is None else t2
    target = Target(
        num_qubits=num_qubits,
        dt=1e-10,
        qubit_properties=[QubitProperties(t1=t1, t2=t2) for _ in range(num_qubits)],
    )
    pairs = [(a, b) for a in range(num_qubits) for b in range(num_qubits) if a != b]
    if coupling == "line":
        pairs = [(a, b) for a, b in pairs if abs(a - b) == 1]
    one = InstructionProperties(
        one_qubit_time, _total_error(one_qubit, (t1, t2), one_qubit_time, 1)
    )
    two = InstructionProperties(
        two_qubit_time, _total_error(two_qubit, (t1, t2), two_qubit_time, 2)
    )
    wires = [(q,) for q in range(num_qubits)]
    for gate in (SXGate(), XGate()):
        target.add_instruction(gate, dict.fromkeys(wires, one))
    free = InstructionProperties(0.0, 0.0)
    for gate in (IGate(), RZGate(Parameter("angle"))):
        target.add_instruction(gate, dict.fromkeys(wires, free))
    target.add_instruction(CZGate(), dict.fromkeys(pairs, two))
    target.add_instruction(Delay(Parameter("t")), dict.fromkeys(wires))
    target.add_instruction(
        Measure(), dict.fromkeys(wires, InstructionProperties(0.0, sum(readout) / 2))
    )
    return target, np.tile(np.array(readout, float), (num_qubits, 1))


def _total_error(
    depolarizing: float, times: tuple[float, float], duration: float, num_qubits: int
) -> float:
    """1 - average fidelity of relaxation and depolarising noise together: what a target states."""
    error = depolarizing_error(depolarizing, num_qubits)
    if duration and math.isfinite(times[1]):
        relaxation = thermal_relaxation_error(*times, duration)
        both = relaxation if num_qubits == 1 else relaxation.expand(relaxation)
        error = error.compose(both)
    return float(1 - average_gate_fidelity(error))
