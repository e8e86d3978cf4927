# SPDX-License-Identifier: Apache-2.0
"""`backends.yaml`: one name for what runs a circuit, chosen without touching the model.

A `Backend` gives an engine for circuit models, and plain V2 primitives with a pass manager for any
other Qiskit code. A new kind of backend is one class here: its options and its four makers.
"""

from __future__ import annotations

import importlib.resources
import os
from abc import abstractmethod
from collections.abc import Iterator
from functools import lru_cache, partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from qiskit import generate_preset_pass_manager
from qiskit.primitives import (
    BaseEstimatorV2,
    BaseSamplerV2,
    StatevectorEstimator,
    StatevectorSampler,
)
from qiskit.transpiler import PassManager

from qiskit_kd.errors import ConfigError, UnknownNameError
from qiskit_kd.execution.engine import Engine
from qiskit_kd.execution.gradients import check_gradient
from qiskit_kd.execution.noise_options import Noise, open_device
from qiskit_kd.yamlfile import load_yaml, validation_error

if TYPE_CHECKING:
    from qiskit_kd.execution.noise_sources import DeviceNoise
    from qiskit_kd.execution.noisy.workshop import Workshop

__all__ = ["Backend", "BackendFile", "backends_path", "list_backends", "load_backend"]

ENVIRONMENT_VARIABLE = "QISKIT_KD_BACKENDS"
_ANY_WIDTH = 20  # qubits of a device of rates that is asked for without a circuit


class _Options(BaseModel):
    """What every kind of backend takes."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    description: str = ""
    shots: int | None = Field(default=None, ge=1)
    gradient: Literal["auto", "shift", "spsa"] = "auto"
    perturbations: int = Field(default=4, ge=1)
    epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=0)

    @abstractmethod
    def engine(self, name: str, gradient: str, shots: int | None, seed: int | None) -> Engine:
        """An engine with these settings."""

    @abstractmethod
    def sampler(self, shots: int | None, seed: int | None) -> BaseSamplerV2:
        """A V2 sampler."""

    @abstractmethod
    def estimator(self, precision: float, seed: int | None) -> BaseEstimatorV2:
        """A V2 estimator."""

    @abstractmethod
    def pass_manager(self) -> PassManager:
        """What makes circuits runnable on this backend."""

    def beside(self, folder: Path) -> Self:
        """The same options with relative paths taken from `folder`."""
        del folder
        return self

    def describe(self) -> dict[str, Any]:
        """All options as plain data; it changes where results may."""
        return self.model_dump()

    def spsa(self) -> dict[str, Any]:
        """Options of SPSA, as engines take them."""
        return {"perturbations": self.perturbations, "epsilon": self.epsilon}


class ExactOptions(_Options):
    """Kind `exact`: the package's own simulation; with shots, samples of its probabilities."""

    kind: Literal["exact"]

    def engine(self, name: str, gradient: str, shots: int | None, seed: int | None) -> Engine:
        """See `Backend.engine`."""
        from qiskit_kd.execution.exact import ExactEngine
        from qiskit_kd.execution.exact_shots import ExactShotsEngine

        exact = ExactEngine(name=name)
        if shots is None and gradient == "auto":
            return exact
        return ExactShotsEngine(
            exact, shots=shots, name=name, gradient=gradient, seed=seed, **self.spsa()
        )

    def sampler(self, shots: int | None, seed: int | None) -> BaseSamplerV2:
        """See `Backend.sampler`."""
        return StatevectorSampler(default_shots=shots or 1024, seed=seed)

    def estimator(self, precision: float, seed: int | None) -> BaseEstimatorV2:
        """See `Backend.estimator`."""
        return StatevectorEstimator(default_precision=precision, seed=seed)

    def pass_manager(self) -> PassManager:
        """See `Backend.pass_manager`; any circuit runs as it is."""
        return generate_preset_pass_manager(optimization_level=0)


class AerOptions(_Options):
    """Kind `aer`: Qiskit Aer's statevector method."""

    kind: Literal["aer"]
    optimization_level: int = Field(default=1, ge=0, le=3)
    seed_transpiler: int = Field(default=0, ge=0)

    def engine(self, name: str, gradient: str, shots: int | None, seed: int | None) -> Engine:
        """See `Backend.engine`."""
        from qiskit_kd.execution.aer import AerExactEngine
        from qiskit_kd.execution.primitives import SamplerEngine

        if shots is None:
            return AerExactEngine(
                name=name, gradient=gradient, seed=seed, optimization_level=self.optimization_level,
                **self.spsa(),
            )  # fmt: skip
        return SamplerEngine(
            partial(_seeded, self.sampler, shots),
            # No estimator: Aer's adds normal noise of one width to every exact value, whatever the
            # observable's variance; sampling each basis follows the law of a device.
            pass_manager=self.pass_manager, shots=shots, name=name, gradient=gradient, seed=seed,
            simulated=True, **self.spsa(),
        )  # fmt: skip

    def sampler(self, shots: int | None, seed: int | None) -> BaseSamplerV2:
        """See `Backend.sampler`."""
        from qiskit_kd.execution.aer_primitives import AerSampler

        return AerSampler(default_shots=shots or 1024, seed=seed)

    def estimator(self, precision: float, seed: int | None) -> BaseEstimatorV2:
        """See `Backend.estimator`."""
        from qiskit_kd.execution.aer_primitives import AerEstimator

        return AerEstimator(default_precision=precision, seed=seed)

    def pass_manager(self) -> PassManager:
        """See `Backend.pass_manager`."""
        from qiskit_kd.execution.aer_primitives import aer_pass_manager

        return aer_pass_manager(
            optimization_level=self.optimization_level, seed=self.seed_transpiler
        )


class NoisyOptions(_Options):
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

    def engine(self, name: str, gradient: str, shots: int | None, seed: int | None) -> Engine:
        """See `Backend.engine`."""
        from qiskit_kd.execution.exact_shots import ExactShotsEngine
        from qiskit_kd.execution.noisy import NoisyEngine
        from qiskit_kd.execution.noisy.sampled import NoisyShotsEngine

        self.device(1)  # an unknown name or a damaged file shows here, not in the first step
        noisy = NoisyEngine(_workshop(self._circuits(), self.noise.digest()), name=name)
        if self.mitigation != "none" or self.sampled_by != "probabilities":
            return NoisyShotsEngine(
                noisy, shots=shots, mitigation=self.mitigation, sampled_by=self.sampled_by,
                name=name, gradient=gradient, seed=seed, **self.spsa(),
            )  # fmt: skip
        if shots is None and gradient == "auto":
            return noisy
        return ExactShotsEngine(
            noisy, shots=shots, name=name, gradient=gradient, seed=seed, **self.spsa()
        )

    def _circuits(self) -> NoisyOptions:
        """What circuits and their noise depend on: entries that differ in shots alone share it."""
        kept = ("kind", "noise", "scale", "readout", "idle", "optimization_level",
                "seed_transpiler", "cache_gib")  # fmt: skip
        return NoisyOptions.model_construct(**{key: getattr(self, key) for key in kept})

    def device(self, num_qubits: int) -> DeviceNoise:
        """The device; a device of rates has this many qubits, if they do not say how many."""
        return open_device(
            self.noise, scale=self.scale, readout=self.readout, num_qubits=num_qubits
        )

    def sampler(self, shots: int | None, seed: int | None) -> BaseSamplerV2:
        """See `Backend.sampler`."""
        from qiskit_kd.execution.noisy.primitives import NoisySampler

        return NoisySampler(self.device(_ANY_WIDTH), default_shots=shots or 1024, seed=seed)

    def estimator(self, precision: float, seed: int | None) -> BaseEstimatorV2:
        """See `Backend.estimator`; measurements do not err here."""
        from qiskit_kd.execution.noisy.primitives import NoisyEstimator

        return NoisyEstimator(self.device(_ANY_WIDTH), default_precision=precision, seed=seed)

    def pass_manager(self) -> PassManager:
        """See `Backend.pass_manager`."""
        from qiskit_kd.execution.noisy.native import device_pass_manager

        return device_pass_manager(
            self.device(_ANY_WIDTH), optimization_level=self.optimization_level,
            seed=self.seed_transpiler, idle=False,
        )  # fmt: skip

    def beside(self, folder: Path) -> NoisyOptions:
        """See `_Options.beside`: the snapshot lies beside the backend file."""
        return self.model_copy(update={"noise": self.noise.beside(folder)})

    def describe(self) -> dict[str, Any]:
        """See `_Options.describe`."""
        return {**super().describe(), "noise": self.noise.describe()}


@lru_cache(maxsize=8)
def _workshop(options: NoisyOptions, digest: str | None) -> Workshop:
    """One workshop for equal settings, so that students of a study share circuits and data."""
    from qiskit_kd.execution.noisy.workshop import Workshop

    del digest  # a part of the question: the file may have changed
    return Workshop(
        options.device, optimization_level=options.optimization_level,
        seed=options.seed_transpiler, idle=options.idle,
        cache_bytes=int(options.cache_gib * 2**30),
    )  # fmt: skip


def _seeded(make: Any, setting: Any, seed: int) -> Any:
    return make(setting, seed % 2**31)  # Aer reads 32 bits


AnyOptions = ExactOptions | AerOptions | NoisyOptions


class BackendFile(BaseModel):
    """Schema of `backends.yaml`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    version: Literal[1] = Field(alias="schema")
    backends: dict[str, Annotated[AnyOptions, Field(discriminator="kind")]] = Field(min_length=1)


class Backend:
    """A named place where circuits run.

    Args:
        name: Name in the file.
        options: The entry of the file.
        source: The file it comes from.
    """

    def __init__(self, name: str, options: AnyOptions, source: str) -> None:
        self.name = name
        self.options = options
        self.source = source

    def __repr__(self) -> str:
        return f"Backend({self.name!r}, kind={self.kind!r}, shots={self.shots})"

    @property
    def kind(self) -> str:
        """Kind of the backend, e.g. `"aer"`."""
        return self.options.kind

    @property
    def shots(self) -> int | None:
        """Shots per circuit; None where outputs are exact."""
        return self.options.shots

    def engine(
        self, *, gradient: str = "auto", shots: int | None = None, seed: int | None = None
    ) -> Engine:
        """An engine that runs circuit models here.

        Args:
            gradient: `"auto"` (what the file says), `"shift"` or `"spsa"`.
            shots: Shots per circuit; None for what the file says. Exact values come from an entry
                without shots (`"exact"`, `"aer"`): no call takes the shots of an entry away.
            seed: Root seed of shots and SPSA; None for what the file says, or a new one. Every job
                of the engine draws shots of its own from it.

        Raises:
            UnknownNameError: If the gradient rule is unknown.
            ConfigError: If `shots` is no positive integer, or `seed` no integer from 0.
        """
        if check_gradient(gradient) == "auto":
            gradient = self.options.gradient
        if not (shots is None or (_is_integer(shots) and shots >= 1)):
            raise ConfigError(
                "a number of shots is a positive integer", got=repr(shots),
                expected="1 or more, or None for what the file says",
                remedy="For exact values choose a backend without shots, e.g. 'exact' or 'aer'.",
            )  # fmt: skip
        _check_seed(seed)
        shots = self.options.shots if shots is None else shots
        seed = self.options.seed if seed is None else seed
        return self.options.engine(self.name, gradient, shots, seed)

    def sampler(self, *, seed: int | None = None) -> BaseSamplerV2:
        """A V2 sampler for any Qiskit code (1,024 shots where the file names none).

        Args:
            seed: Seed of every run, so each `run` of equal circuits repeats the same shots; None
                for what the file says, or fresh shots every time.

        Raises:
            ConfigError: If `seed` is no integer from 0.
        """
        _check_seed(seed)
        return self.options.sampler(self.shots, self.options.seed if seed is None else seed)

    def estimator(self, *, seed: int | None = None) -> BaseEstimatorV2:
        """A V2 estimator for any Qiskit code; exact where the file names no shots.

        Where it names shots, the simulators' estimators add normal noise of standard deviation
        `1 / sqrt(shots)` to the exact values, whatever the observable; `engine` samples instead.
        `run(pubs, precision=0)` gives exact values all the same.

        Args:
            seed: Seed of every run, so each `run` of equal circuits repeats the same noise; None
                for what the file says, or fresh noise every time.

        Raises:
            ConfigError: If `seed` is no integer from 0.
        """
        _check_seed(seed)
        precision = 0.0 if self.shots is None else float(self.shots**-0.5)
        return self.options.estimator(precision, self.options.seed if seed is None else seed)

    def pass_manager(self) -> PassManager:
        """A pass manager to circuits this backend runs."""
        return self.options.pass_manager()

    def describe(self) -> dict[str, Any]:
        """Name, file and all options, for tables and records."""
        return {"name": self.name, "source": self.source, **self.options.describe()}


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _check_seed(seed: Any) -> None:
    if not (seed is None or (_is_integer(seed) and seed >= 0)):
        raise ConfigError(
            "a seed is an integer from 0", got=repr(seed), expected="0 or more, or None"
        )


def backends_path(path: str | Path | None = None) -> Path:
    """The backend file in force.

    The first that exists of: `path`, the one named by `QISKIT_KD_BACKENDS`, `backends.yaml` in the
    working directory, that of the source tree, that inside the installed package. The first two
    are taken as given: if named, they must exist.

    Args:
        path: A file, or None to look for one.

    Raises:
        ConfigError: If there is none.
    """
    named = path or os.environ.get(ENVIRONMENT_VARIABLE)
    candidates = [Path(named)] if named else list(_usual_places())
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ConfigError(
        "a backend file must exist", got=", ".join(f"no {c}" for c in candidates),
        remedy=f"Correct the path or {ENVIRONMENT_VARIABLE}, or write a backends.yaml.",
    )  # fmt: skip


def _usual_places() -> Iterator[Path]:
    yield Path("backends.yaml")
    root = Path(__file__).resolve().parents[3]
    if (
        root / "pyproject.toml"
    ).is_file():  # a source tree; its copy is newer than the packaged one
        yield root / "backends.yaml"
    yield Path(str(importlib.resources.files("qiskit_kd") / "_data" / "backends.yaml"))


def list_backends(path: str | Path | None = None) -> dict[str, Backend]:
    """All backends of the file in force, by name.

    Args:
        path: A backend file; None looks in the usual places (see `backends_path`).

    Raises:
        ConfigError: If the file is missing or wrong; every fault is listed with its line.
    """
    data, locate = load_yaml(backends_path(path))
    try:
        parsed = BackendFile.model_validate(data)
    except ValidationError as error:
        raise validation_error(error, locate, BackendFile) from None
    folder = Path(locate.name).parent
    return {
        name: Backend(name, options.beside(folder), locate.name)
        for name, options in parsed.backends.items()
    }


def load_backend(name: str, path: str | Path | None = None) -> Backend:
    """The backend called `name`.

    Args:
        name: A name in the backend file.
        path: A backend file; None looks in the usual places (see `backends_path`).

    Raises:
        UnknownNameError: If the file has no such name; the nearest is suggested.
        ConfigError: If the file is missing or wrong.
    """
    backends = list_backends(path)
    if name not in backends:
        raise UnknownNameError.of("backend", name, backends)
    return backends[name]
