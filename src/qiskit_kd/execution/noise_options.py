# SPDX-License-Identifier: Apache-2.0
"""Where noise comes from, as `backends.yaml` says it: a device, a snapshot of one, or rates."""

from __future__ import annotations

import hashlib
import re
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from qiskit_kd.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from qiskit_kd.execution.noise_sources import DeviceNoise

__all__ = ["Noise", "Rates", "fake_devices_near", "open_device"]

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

_FAKE = "fake_"

Probability = Annotated[float, Field(ge=0, le=1)]


def _pair(value: Any) -> Any:
    """One readout error stands for both; YAML has lists where Python has tuples."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value, value)
    return tuple(value) if isinstance(value, list) else value


class Rates(BaseModel):
    """A device all of whose qubits are alike; see `noise_sources.rate_device`.

    Times carry their unit in the name: YAML reads `1e-4` as text.
    """

    model_config = _STRICT

    one_qubit: Probability = 0.0
    two_qubit: Probability = 0.0
    readout: Annotated[tuple[Probability, Probability], BeforeValidator(_pair)] = (0.0, 0.0)
    t1_us: float | None = Field(default=None, gt=0)
    t2_us: float | None = Field(default=None, gt=0)
    one_qubit_ns: float = Field(default=32.0, ge=0)
    two_qubit_ns: float = Field(default=68.0, ge=0)
    coupling: Literal["line", "full"] = "line"
    num_qubits: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _physical(self) -> Rates:
        if self.t2_us is not None and self.t1_us is not None and self.t2_us > 2 * self.t1_us:
            raise ConfigError(
                "T2 is at most 2 T1: a qubit that relaxes loses its phase",
                got=f"t2_us: {self.t2_us:g} beside t1_us: {self.t1_us:g}",
                expected=f"t2_us up to {2 * self.t1_us:g}",
            )
        return self

    def device(self, num_qubits: int, **options: Any) -> DeviceNoise:
        """A device of `num_qubits`, unless the rates say how many there are."""
        from qiskit_kd.execution.noise_sources import DeviceNoise, rate_device

        infinite = float("inf")
        t1 = infinite if self.t1_us is None else self.t1_us * 1e-6
        t2 = (2 * t1) if self.t2_us is None else self.t2_us * 1e-6
        target, readout = rate_device(
            self.num_qubits or num_qubits, one_qubit=self.one_qubit, two_qubit=self.two_qubit,
            readout=self.readout, t1=t1, t2=t2, one_qubit_time=self.one_qubit_ns * 1e-9,
            two_qubit_time=self.two_qubit_ns * 1e-9, coupling=self.coupling,
        )  # fmt: skip
        return DeviceNoise("rates", target, readout, **options)


class Noise(BaseModel):
    """One of a device's name, the path of a snapshot, and rates.

    A device is a fake one, whose name begins with `fake_`, or one whose snapshot `NAME.json` lies
    beside the backend file or in the working directory: `beside` finds it.
    """

    model_config = _STRICT

    device: str | None = None
    snapshot: str | None = None
    rates: Rates | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Noise:
        named = [key for key in ("device", "snapshot", "rates") if getattr(self, key) is not None]
        if len(named) != 1:
            raise ConfigError(
                "noise comes from one source", got=" and ".join(named) or "none",
                expected="one of device, snapshot, rates",
            )  # fmt: skip
        return self

    def beside(self, folder: Path) -> Noise:
        """The same with the path of its snapshot taken from `folder`."""
        if self.snapshot is not None:
            return self.model_copy(update={"snapshot": str(folder / self.snapshot)})
        found = None if self.device is None else _snapshot_of(self.device, folder)
        if found is None:
            return self
        return self.model_copy(update={"device": None, "snapshot": str(found)})

    def describe(self) -> dict[str, Any]:
        """Plain data that changes where the noise does: a snapshot counts by its content."""
        data = self.model_dump(exclude_none=True)
        if self.snapshot is not None:
            data["snapshot"] = Path(self.snapshot).name
            data["sha256"] = self.digest()
        return data

    def digest(self) -> str | None:
        """SHA-256 of the snapshot; None where there is none."""
        if self.snapshot is None:
            return None
        try:
            return hashlib.sha256(Path(self.snapshot).read_bytes()).hexdigest()
        except OSError:
            return None


def _snapshot_of(device: str, folder: Path) -> Path | None:
    """The snapshot of a device that is no fake one; None where there is none (yet)."""
    if device.startswith(_FAKE) or Path(device).name != device:
        return None
    places = (folder.absolute(), Path.cwd())
    return next((file for p in places if (file := p / f"{device}.json").is_file()), None)


def open_device(noise: Noise, *, scale: float, readout: bool, num_qubits: int) -> DeviceNoise:
    """The device that `noise` names; the same object for the same question.

    Args:
        noise: The source.
        scale: See `DeviceNoise`.
        readout: Whether measurements err.
        num_qubits: Qubits a device of rates needs, where the rates do not say how many it has.

    Raises:
        UnknownNameError: If there is neither a fake device nor a snapshot of that name.
        StorageError: If the snapshot is missing or damaged.
        ConfigError: If a number makes no sense.
    """
    width = num_qubits if noise.rates is not None else 0
    return _open(noise, noise.digest(), scale, readout, width)


@lru_cache(maxsize=16)
def _open(
    noise: Noise, digest: str | None, scale: float, readout: bool, num_qubits: int
) -> DeviceNoise:
    # Aer is loaded here and not with the backend file.
    from qiskit_kd.execution.noise_sources import DeviceNoise, fake_device, readout_rates
    from qiskit_kd.execution.snapshots import load_snapshot

    del digest  # a part of the question: the file may have changed
    options: dict[str, Any] = {"scale": scale, "readout_error": readout}
    if noise.rates is not None:
        return noise.rates.device(num_qubits, **options)
    if noise.snapshot is not None:
        return DeviceNoise(*load_snapshot(noise.snapshot), **options)
    name = str(noise.device)
    try:
        device = fake_device(name)
    except UnknownNameError:
        raise _unknown(name) from None
    return DeviceNoise(name, device.target, readout_rates(device), **options)


def fake_devices_near(name: str) -> list[str]:
    """Fake devices that somebody may have meant by a name; some others where none is near it."""
    from qiskit_kd.execution.noise_sources import fake_device_names

    # `torino` is near to `fake_torino`, and so are `ibm_torino` and the class `FakeTorino`.
    stem = re.sub(r"(?i)^(ibmq?|fake)?_?(.*?)(v2)?$", r"\2", name).lower()
    near = [n for guess in (f"{_FAKE}{stem}", name)
            for n in get_close_matches(guess, fake_device_names(), n=2, cutoff=0.6)]  # fmt: skip
    return list(dict.fromkeys(near)) or [*fake_device_names()[:3], "..."]


def _unknown(name: str) -> UnknownNameError:
    return UnknownNameError(
        "noise comes from a fake device, or from a snapshot of a device",
        got=f"{name!r}, and no {name}.json beside the backend file or in the working directory",
        expected=f"a fake device such as {', '.join(fake_devices_near(name))}, or a snapshot",
        remedy=None
        if name.startswith("Fake")
        else f"Take one of a device of your account: qkd snapshot {name}",
    )
