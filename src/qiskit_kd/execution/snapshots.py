# SPDX-License-Identifier: Apache-2.0
"""Where the noise of a backend comes from: a fake device, rates, or a snapshot of a real one.

A snapshot is the gates and the calibration of a device on one day, in one JSON file: a study of a
real device's noise needs the same numbers next year, on a machine without an account.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from qiskit.circuit import ControlFlowOp, Delay, Measure, Parameter
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.providers import QubitProperties
from qiskit.transpiler import InstructionProperties, Target

from qiskit_kd.errors import StorageError, UnknownNameError
from qiskit_kd.execution.noise_sources import (
    DeviceNoise,
    Float,
    fake_device,
    fake_devices_near,
    rate_device,
    readout_rates,
)
from qiskit_kd.execution.schema import Noise, Rates
from qiskit_kd.files import write_atomically

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Qubit(BaseModel):
    """Relaxation times in seconds, frequency in hertz, readout errors P(1 | 0) and P(0 | 1)."""

    model_config = _STRICT

    t1: float | None = Field(ge=0)
    t2: float | None = Field(ge=0)
    frequency: float | None
    readout: tuple[float, float]

    @model_validator(mode="after")
    def _probabilities(self) -> _Qubit:
        if not all(0 <= p <= 1 for p in self.readout):
            raise ValueError(f"a readout error is a probability; got {list(self.readout)}")
        return self


class _Place(BaseModel):
    """One gate on certain qubits; error 1 marks a gate that is out of order."""

    model_config = _STRICT

    qubits: list[int]
    duration: float | None = Field(ge=0)
    error: float | None = Field(ge=0, le=1)


class _Snapshot(BaseModel):
    """Schema of the file."""

    model_config = ConfigDict(**_STRICT, populate_by_name=True)

    form: Literal["qiskit_kd device snapshot"] = Field(alias="format")
    version: Literal[1] = Field(alias="schema")
    name: str
    calibrated: str | None
    dt: float | None
    timing: dict[str, int]
    qubits: list[_Qubit] = Field(min_length=1)
    gates: dict[str, list[_Place]]

    @model_validator(mode="after")
    def _places(self) -> _Snapshot:
        for gate, places in self.gates.items():
            for place in places:
                if not all(0 <= q < len(self.qubits) for q in place.qubits):
                    raise ValueError(
                        f"gates act on qubits of the device; got {gate!r} on {place.qubits}; "
                        f"expected indices below {len(self.qubits)}"
                    )
        return self


_TIMING = ("granularity", "min_length", "pulse_alignment", "acquire_alignment")


def save_snapshot(backend: Any, path: str | Path) -> None:
    """Write the gates and the calibration of any `BackendV2` to a JSON file, whatever is there."""
    target = backend.target
    known = target.qubit_properties or [None] * target.num_qubits
    readout = readout_rates(backend).tolist()
    properties = backend.properties() if hasattr(backend, "properties") else None
    date = getattr(properties, "last_update_date", None)
    content = {
        "format": "qiskit_kd device snapshot",
        "schema": 1,
        "name": str(backend.name),
        "calibrated": None if date is None else date.isoformat(),
        "dt": target.dt,
        "timing": {name: getattr(target, name) for name in _TIMING},
        "qubits": [
            {**{key: getattr(one, key, None) for key in ("t1", "t2", "frequency")}, "readout": r}
            for one, r in zip(known, readout, strict=True)
        ],
        "gates": {
            name: [
                {
                    "qubits": list(qubits),
                    "duration": getattr(one, "duration", None),
                    "error": getattr(one, "error", None),
                }
                for qubits, one in sorted(target[name].items())
            ]
            for name in sorted(target.operation_names)
            if name in _operations()
            and not _is_control_flow(target.operation_from_name(name))
            and target[name] is not None
            and None not in target[name]
        },
    }
    text = json.dumps(content, indent=None, separators=(",", ":"), allow_nan=False)
    write_atomically(Path(path), text.replace('],"gates"', '],\n"gates"').encode() + b"\n")


def load_snapshot(path: str | Path) -> tuple[str, Target, Float]:
    """Name, target and readout errors, as `DeviceNoise` takes them, of what `save_snapshot` wrote.

    Raises:
        StorageError: If the file is missing, cut short, or no snapshot.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        snapshot = _Snapshot.model_validate(data)
    except OSError as error:
        raise StorageError(
            "a device snapshot cannot be read",
            got=f"{path}: {error.strerror}",
            remedy="Check the path, or take a snapshot with save_snapshot.",
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = first["msg"].removeprefix("Value error, ")
        where = ".".join(map(str, first["loc"]))
        raise _damaged(path, f"{where}: {what}" if where else what) from None
    except ValueError as error:  # JSON, or bytes that are no text
        raise _damaged(path, f"no complete JSON: {error}") from None
    return snapshot.name, _target(snapshot, path), np.array([q.readout for q in snapshot.qubits])


def _damaged(path: str | Path, what: str) -> StorageError:
    return StorageError(
        "a device snapshot is whole and unaltered",
        got=f"{path}: {what}",
        remedy="Copy the file again, or take a new snapshot with save_snapshot.",
    )


def _operations() -> dict[str, Any]:
    gates: dict[str, Any] = get_standard_gate_name_mapping()
    return {**gates, "delay": Delay(Parameter("t")), "measure": Measure()}


def _is_control_flow(operation: Any) -> bool:
    return isinstance(operation, type) and issubclass(operation, ControlFlowOp)


def _target(snapshot: _Snapshot, path: str | Path) -> Target:
    target = Target(
        num_qubits=len(snapshot.qubits),
        dt=snapshot.dt,
        qubit_properties=[
            QubitProperties(t1=q.t1, t2=q.t2, frequency=q.frequency) for q in snapshot.qubits
        ],
        **snapshot.timing,
    )
    operations = _operations()
    for name, places in snapshot.gates.items():
        if name not in operations:
            raise _damaged(path, f"gates.{name}: no gate that Qiskit knows")
        target.add_instruction(
            operations[name],
            {tuple(p.qubits): InstructionProperties(p.duration, p.error) for p in places},
        )
    return target


def open_noise(
    noise: Noise, num_qubits: int, *, scale: float = 1.0, readout: bool = True
) -> DeviceNoise:
    """The device that `noise` names; the same object for the same question.

    Args:
        noise: The source.
        num_qubits: Qubits a device of rates needs, where the rates do not say how many it has.
        scale: See `DeviceNoise`.
        readout: Whether measurements err.

    Raises:
        UnknownNameError: If there is neither a fake device nor a snapshot of that name.
        StorageError: If the snapshot is missing or damaged.
    """
    width = num_qubits if noise.rates is not None else 0
    return _open(noise, noise.digest(), scale, readout, width)


@lru_cache(maxsize=16)
def _open(
    noise: Noise, digest: str | None, scale: float, readout: bool, num_qubits: int
) -> DeviceNoise:
    del digest  # a part of the question: the file may have changed
    name = str(noise.device)
    if noise.rates is not None:
        name, (target, rates) = "rates", _alike(noise.rates, num_qubits)
    elif noise.snapshot is not None:
        name, target, rates = load_snapshot(noise.snapshot)
    else:
        try:
            device = fake_device(name)
        except UnknownNameError:
            raise _unknown(name) from None
        target, rates = device.target, readout_rates(device)
    return DeviceNoise(name, target, rates, scale=scale, readout_error=readout)


def _alike(rates: Rates, num_qubits: int) -> tuple[Target, Float]:
    """A device of `num_qubits`, unless the rates say how many there are."""
    t1 = math.inf if rates.t1_us is None else rates.t1_us * 1e-6
    return rate_device(
        rates.num_qubits or num_qubits,
        one_qubit=rates.one_qubit,
        two_qubit=rates.two_qubit,
        readout=rates.readout,
        t1=t1,
        t2=(2 * t1) if rates.t2_us is None else rates.t2_us * 1e-6,
        one_qubit_time=rates.one_qubit_ns * 1e-9,
        two_qubit_time=rates.two_qubit_ns * 1e-9,
        coupling=rates.coupling,
    )


def _unknown(name: str) -> UnknownNameError:
    return UnknownNameError(
        "noise comes from a fake device, or from a snapshot of a device",
        got=f"{name!r}, and no {name}.json beside the backend file or in the working directory",
        expected=f"a fake device such as {', '.join(fake_devices_near(name))}, or a snapshot",
        remedy=None
        if name.startswith("Fake")
        else f"Take one of a device of your account: qkd snapshot {name}",
    )
