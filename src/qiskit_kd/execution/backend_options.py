# SPDX-License-Identifier: Apache-2.0
"""The kinds of simulators in `backends.yaml`: each one a class, its options and its makers."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from qiskit import generate_preset_pass_manager
from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2
from qiskit.transpiler import PassManager

from qiskit_kd.execution.engine import Engine
from qiskit_kd.execution.noise_options import Noise, open_device
from qiskit_kd.execution.pubs import ExactEstimator, ExactSampler
from qiskit_kd.execution.transpiling import CarefulPassManager

if TYPE_CHECKING:
    from qiskit_kd.execution.noise_sources import DeviceNoise
    from qiskit_kd.execution.noisy.workshop import Workshop

__all__ = ["AerOptions", "BackendOptions", "ExactOptions", "NoisyOptions"]

_ANY_WIDTH = 20  # qubits of a device of rates that is asked for without a circuit


class BackendOptions(BaseModel):
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
    def sampler(self, name: str, shots: int | None, seed: int | None) -> BaseSamplerV2:
        """A V2 sampler."""

    @abstractmethod
    def estimator(self, name: str, precision: float, seed: int | None) -> BaseEstimatorV2:
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

    def sampler(self, name: str, shots: int | None, seed: int | None) -> BaseSamplerV2:
        """See `Backend.sampler`."""
        del name
        return ExactSampler(default_shots=shots or 1024, seed=seed)

    def estimator(self, name: str, precision: float, seed: int | None) -> BaseEstimatorV2:
        """See `Backend.estimator`."""
        del name
        return ExactEstimator(default_precision=precision, seed=seed)

    def pass_manager(self) -> PassManager:
        """See `Backend.pass_manager`; any circuit runs as it is."""
        return CarefulPassManager(generate_preset_pass_manager(optimization_level=0))


class AerOptions(BackendOptions):
    """Kind `aer`: Qiskit Aer's statevector method."""

    kind: Literal["aer"]
    optimization_level: int = Field(default=1, ge=0, le=3)
    seed_transpiler: int = Field(default=0, ge=0)

    def unused(self) -> set[str]:
        """See `BackendOptions.unused`; Aer couples every qubit to every other: nothing is tried."""
        return {*super().unused(), "seed_transpiler"}

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
            partial(_seeded, self.sampler, name, shots),
            # No estimator: Aer's adds normal noise of one width to every exact value, whatever the
            # observable's variance; sampling each basis follows the law of a device.
            pass_manager=self.pass_manager, shots=shots, name=name, gradient=gradient, seed=seed,
            simulated=True, **self.spsa(),
        )  # fmt: skip

    def sampler(self, name: str, shots: int | None, seed: int | None) -> BaseSamplerV2:
        """See `Backend.sampler`."""
        del name
        from qiskit_kd.execution.aer_primitives import AerSampler

        return AerSampler(default_shots=shots or 1024, seed=seed)

    def estimator(self, name: str, precision: float, seed: int | None) -> BaseEstimatorV2:
        """See `Backend.estimator`."""
        del name
        from qiskit_kd.execution.aer_primitives import AerEstimator

        return AerEstimator(default_precision=precision, seed=seed)

    def pass_manager(self) -> PassManager:
        """See `Backend.pass_manager`."""
        from qiskit_kd.execution.aer_primitives import aer_pass_manager

        return aer_pass_manager(
            optimization_level=self.optimization_level, seed=self.seed_transpiler
        )


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

    def sampler(self, name: str, shots: int | None, seed: int | None) -> BaseSamplerV2:
        """See `Backend.sampler`."""
        del name
        from qiskit_kd.execution.noisy.primitives import NoisySampler

        return NoisySampler(self.device(_ANY_WIDTH), default_shots=shots or 1024, seed=seed)

    def estimator(self, name: str, precision: float, seed: int | None) -> BaseEstimatorV2:
        """See `Backend.estimator`; measurements do not err here."""
        del name
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
        """See `BackendOptions.beside`: the snapshot lies beside the backend file."""
        return self.model_copy(update={"noise": self.noise.beside(folder)})

    def describe(self) -> dict[str, Any]:
        """See `BackendOptions.describe`."""
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


def _seeded(make: Any, name: str, setting: Any, seed: int) -> Any:
    return make(name, setting, seed % 2**31)  # Aer reads 32 bits
