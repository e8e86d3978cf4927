# SPDX-License-Identifier: Apache-2.0
"""What `backends.yaml` may say: the options of every kind of backend, as data.

`backends` makes engines, primitives and pass managers of them; nothing here runs a circuit.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from qiskit_kd.errors import ConfigError

TAG_PREFIX = "qkd-"
"""Begins the one tag of a job that this package gives it."""

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)
_FINITE = ConfigDict(**_STRICT, allow_inf_nan=False)
_FAKE = "fake_"

# Settings of a device that say for whom, how and under which limits a job runs, not what it gives.
_NOT_SHOWN = frozenset(
    {"journal", "budget_seconds", "usd_per_second", "account", "url", "proxies"}
    | {"max_execution_time"}
)
_NO_RESULT = _NOT_SHOWN | {"instance", "channel", "mode", "tags", "description"}

_SIMULATORS = {"aer", "aersimulator", "qasmsimulator", "ibmqqasmsimulator", "simulator"}

# What only the service does.
_OF_THE_SERVICE = {
    "account",
    "instance",
    "channel",
    "url",
    "proxies",
    "mode",
    "max_execution_time",
    "tags",
} | {"dynamical_decoupling", "twirling", "resilience_level", "fractional_gates"}

Probability = Annotated[float, Field(ge=0, le=1)]


def _tuple(value: Any) -> Any:
    """YAML has lists where Python has tuples."""
    return tuple(value) if isinstance(value, list) else value


def _pair(value: Any) -> Any:
    """One readout error stands for both."""
    alone = isinstance(value, int | float) and not isinstance(value, bool)
    return (value, value) if alone else _tuple(value)


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) else value


class Rates(BaseModel):
    """A device all of whose qubits are alike; see `noise_sources.rate_device`.

    Times carry their unit in the name: YAML reads `1e-4` as text.
    """

    model_config = _FINITE

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


class Noise(BaseModel):
    """One of a device's name, the path of a snapshot, and rates.

    A device is a fake one, whose name begins with `fake_`, or one whose snapshot `NAME.json` lies
    beside the backend file or in the working directory: `beside` finds it.
    """

    model_config = _FINITE

    device: str | None = None
    snapshot: str | None = None
    rates: Rates | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Noise:
        named = [key for key in ("device", "snapshot", "rates") if getattr(self, key) is not None]
        if len(named) != 1:
            raise ConfigError(
                "noise comes from one source",
                got=" and ".join(named) or "none",
                expected="one of device, snapshot, rates",
            )
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


class BackendOptions(BaseModel):
    """What every kind of backend takes."""

    model_config = _STRICT

    description: str = ""
    shots: int | None = Field(default=None, ge=1)
    gradient: Literal["auto", "shift", "spsa"] = "auto"
    perturbations: int = Field(default=4, ge=1)
    epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=0)

    def beside(self, folder: Path) -> Self:
        """The same options with relative paths taken from `folder`."""
        del folder
        return self

    def describe(self) -> dict[str, Any]:
        """All options as plain data; it changes where results may."""
        return self.model_dump()

    def shown(self) -> dict[str, Any]:
        """What a list of backends says: `describe`, and what results do not depend on."""
        return self.describe()

    def unused(self) -> set[str]:
        """Options that change nothing while the others are as they are, whatever their values."""
        by_spsa = self.gradient == "spsa" or (self.gradient == "auto" and self.shots is not None)
        found = set() if by_spsa else {"perturbations", "epsilon"}
        return found if by_spsa or self.shots is not None else {*found, "seed"}

    def without_effect(self) -> list[str]:
        """Options that were given another value than their default, and change nothing."""
        fields = type(self).model_fields
        return sorted(name for name in self.unused() if getattr(self, name) != fields[name].default)

    def spsa(self) -> dict[str, Any]:
        """Options of SPSA, as engines take them."""
        return {"perturbations": self.perturbations, "epsilon": self.epsilon}


class ExactOptions(BackendOptions):
    """Kind `exact`: the package's own simulation; with shots, samples of its probabilities."""

    kind: Literal["exact"]


class AerOptions(BackendOptions):
    """Kind `aer`: Qiskit Aer's statevector method."""

    kind: Literal["aer"]
    optimization_level: int = Field(default=1, ge=0, le=3)
    seed_transpiler: int = Field(default=0, ge=0)

    def unused(self) -> set[str]:
        """See `BackendOptions.unused`; Aer couples every qubit to every other: nothing is tried."""
        return {*super().unused(), "seed_transpiler"}


class NoisyOptions(BackendOptions):
    """Kind `noisy`: exact density matrices under the noise of a device; with shots, samples.

    Shots are drawn from the exact probabilities: the law of circuits that Aer samples one by one
    (`sampled_by: qiskit_aer`), some hundred times faster.
    """

    kind: Literal["noisy"]
    noise: Noise
    mitigation: Literal["none", "tensored"] = "none"
    sampled_by: Literal["probabilities", "qiskit_aer"] = "probabilities"
    scale: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    readout: bool = True
    idle: bool = False
    optimization_level: int = Field(default=3, ge=0, le=3)
    seed_transpiler: int = Field(default=0, ge=0)
    cache_gib: float = Field(default=2.0, gt=0, allow_inf_nan=False)

    def beside(self, folder: Path) -> Self:
        """See `BackendOptions.beside`: the snapshot lies beside the backend file."""
        return self.model_copy(update={"noise": self.noise.beside(folder)})

    def describe(self) -> dict[str, Any]:
        """See `BackendOptions.describe`."""
        return {**super().describe(), "noise": self.noise.describe()}


class Twirling(BaseModel):
    """Random Pauli frames around gates and measurements."""

    model_config = _STRICT

    gates: bool = False
    measure: bool = False
    num_randomizations: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"


class Proxies(BaseModel):
    """Addresses between here and the service, by protocol; nothing private in them."""

    model_config = _STRICT

    urls: dict[str, str]

    @field_validator("urls")
    @classmethod
    def _no_password(cls, urls: dict[str, str]) -> dict[str, str]:
        if any(re.search(r"://[^/@]*@", url) for url in urls.values()):
            raise ConfigError(
                "the backend file holds no secrets",
                got="a proxy with a name or password in it",
                remedy="Save the proxy with the account: QiskitRuntimeService.save_account(...,"
                " proxies=...).",
            )
        return urls


class RuntimeOptions(BackendOptions):
    """Kind `runtime`: a device of IBM's service, or one that stands in for it in this process.

    `device` is a name such as `ibm_fez`, `least_busy`, a fake such as `fake_torino`, or `aer`; the
    last two need no account. Accounts live where Qiskit keeps them, and nowhere else.

    `budget_seconds` is compared with what jobs have cost and what is expected of the next one. A
    job that takes longer is cut off after `max_execution_time` seconds; without one, after three
    times what is expected of it and at least 60 s. By so much a budget may be crossed at worst.
    """

    kind: Literal["runtime"]
    device: str = Field(min_length=1)
    account: str | None = None
    instance: str | None = None
    channel: Literal["ibm_quantum_platform", "ibm_cloud"] | None = None
    url: str | None = None
    proxies: Proxies | None = None
    mode: Literal["job", "batch", "session"] = "job"
    shots: int | None = Field(default=1024, ge=1)
    rep_delay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    dynamical_decoupling: Literal["XX", "XpXm", "XY4"] | None = None
    twirling: Twirling | None = None
    mitigation: Literal["none", "tensored"] = "none"
    resilience_level: int | None = Field(default=None, ge=0, le=2)
    max_execution_time: int | None = Field(default=None, ge=1)
    budget_seconds: float | None = Field(default=None, allow_inf_nan=False)
    usd_per_second: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    tags: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = ()
    fractional_gates: bool = False
    tiles: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    optimization_level: int = Field(default=3, ge=0, le=3)
    seed_transpiler: int = Field(default=0, ge=0)
    journal: Annotated[Path | None, BeforeValidator(_path)] = None

    @field_validator("device")
    @classmethod
    def _known_here(cls, device: str) -> str:
        """Names of simulators that no account has: it would be asked for one."""
        word = re.sub(r"[^a-z0-9]", "", device.lower())
        simulated = word.startswith("fake") or word in _SIMULATORS
        if simulated and device != "aer" and not device.startswith("fake_"):
            from qiskit_kd.execution.noise_sources import fake_devices_near

            raise ConfigError(
                "a device that this machine plays is 'aer', or a fake one by its name at the "
                "service",
                got=repr(device),
                expected=", ".join(fake_devices_near(device)) if word.startswith("fake") else "aer",
                remedy="No account is needed for it.",
            )
        return device

    @field_validator("shots")
    @classmethod
    def _some(cls, shots: int | None) -> int:
        if shots is None:
            raise ConfigError(
                "a device runs a circuit a number of times",
                got="shots: null",
                expected="1 or more",
                remedy="For exact values choose a backend without shots.",
            )
        return shots

    @field_validator("tags")
    @classmethod
    def _free(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        for tag in tags:
            if tag.startswith(TAG_PREFIX) or not tag.strip():
                raise ConfigError(
                    f"tags are not empty and do not begin with {TAG_PREFIX!r}",
                    got=repr(tag),
                    remedy="Choose another tag: this one is how jobs are found again.",
                )
        return tags

    @property
    def local(self) -> bool:
        """Whether jobs run in this process: no account, no money."""
        return self.device == "aer" or self.device.startswith("fake_")

    def unused(self) -> set[str]:
        """See `BackendOptions.unused`.

        A device that this machine plays has no account, no queue and no time limit. Its noise has
        no memory, so that neither decoupling nor random frames change it.
        """
        found = super().unused()
        if self.local:
            found |= _OF_THE_SERVICE
            found -= {"fractional_gates"} if self.device == "fake_fractional" else set()
        if self.device == "aer":
            found |= {"seed_transpiler"}
        elif self.twirling == Twirling():
            found |= {"twirling"}
        return found

    def describe(self) -> dict[str, Any]:
        """See `BackendOptions.describe`; without what says for whom and under which limits."""
        return self.model_dump(mode="json", exclude=set(_NO_RESULT))

    def shown(self) -> dict[str, Any]:
        """See `BackendOptions.shown`."""
        return self.model_dump(mode="json", exclude=set(_NOT_SHOWN))


AnyOptions = ExactOptions | AerOptions | NoisyOptions | RuntimeOptions
"""Options of the kinds that come with the package."""
