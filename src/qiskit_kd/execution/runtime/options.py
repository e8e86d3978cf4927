# SPDX-License-Identifier: Apache-2.0
"""Kind `runtime` of `backends.yaml`: IBM devices, their fakes, and Aer through the same code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2
from qiskit.transpiler import PassManager

from qiskit_kd.errors import ConfigError
from qiskit_kd.execution.backend_options import BackendOptions
from qiskit_kd.execution.engine import Engine

__all__ = ["TAG_PREFIX", "Proxies", "RuntimeOptions", "Twirling"]

TAG_PREFIX = "qkd-"
"""Begins the one tag of a job that this package gives it."""

# Settings that say for whom, how and under which limits a job runs, not what it gives.
_NOT_SHOWN = frozenset({
    "journal", "budget_seconds", "usd_per_second", "account", "url", "proxies",
    "max_execution_time",
})  # fmt: skip
_NO_RESULT = _NOT_SHOWN | {"instance", "channel", "mode", "tags", "description"}

_SIMULATORS = {"aer", "aersimulator", "qasmsimulator", "ibmqqasmsimulator", "simulator"}

# What only the service does.
_OF_THE_SERVICE = {
    "account", "instance", "channel", "url", "proxies", "mode", "max_execution_time", "tags",
    "dynamical_decoupling", "twirling", "resilience_level", "fractional_gates",
}  # fmt: skip

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)


def _tuple(value: Any) -> Any:
    """YAML has lists where Python has tuples."""
    return tuple(value) if isinstance(value, list) else value


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) else value


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
                "the backend file holds no secrets", got="a proxy with a name or password in it",
                remedy="Save the proxy with the account: QiskitRuntimeService.save_account(...,"
                       " proxies=...).",
            )  # fmt: skip
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
            from qiskit_kd.execution.noise_options import fake_devices_near

            raise ConfigError(
                "a device that this machine plays is 'aer', or a fake one by its name at the "
                "service", got=repr(device),
                expected=", ".join(fake_devices_near(device)) if word.startswith("fake") else "aer",
                remedy="No account is needed for it.",
            )  # fmt: skip
        return device

    @field_validator("shots")
    @classmethod
    def _some(cls, shots: int | None) -> int:
        if shots is None:
            raise ConfigError(
                "a device runs a circuit a number of times", got="shots: null",
                expected="1 or more", remedy="For exact values choose a backend without shots.",
            )  # fmt: skip
        return shots

    @field_validator("tags")
    @classmethod
    def _free(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        for tag in tags:
            if tag.startswith(TAG_PREFIX) or not tag.strip():
                raise ConfigError(
                    f"tags are not empty and do not begin with {TAG_PREFIX!r}", got=repr(tag),
                    remedy="Choose another tag: this one is how jobs are found again.",
                )  # fmt: skip
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

    def engine(self, name: str, gradient: str, shots: int | None, seed: int | None) -> Engine:
        """See `Backend.engine`."""
        from qiskit_kd.execution.runtime.engine import make_engine

        return make_engine(self, name=name, gradient=gradient, shots=shots, seed=seed)

    def sampler(self, name: str, shots: int | None, seed: int | None) -> BaseSamplerV2:
        """See `Backend.sampler`."""
        from qiskit_kd.execution.runtime.engine import make_sampler

        return make_sampler(self, name=name, shots=shots, seed=seed)

    def estimator(self, name: str, precision: float, seed: int | None) -> BaseEstimatorV2:
        """See `Backend.estimator`."""
        from qiskit_kd.execution.runtime.engine import make_estimator

        return make_estimator(self, name=name, precision=precision, seed=seed)

    def pass_manager(self) -> PassManager:
        """See `Backend.pass_manager`."""
        from qiskit_kd.execution.runtime.engine import make_pass_manager

        return make_pass_manager(self)

    def describe(self) -> dict[str, Any]:
        """See `BackendOptions.describe`; without what says for whom and under which limits."""
        return self.model_dump(mode="json", exclude=set(_NO_RESULT))

    def shown(self) -> dict[str, Any]:
        """See `BackendOptions.shown`."""
        return self.model_dump(mode="json", exclude=set(_NOT_SHOWN))
