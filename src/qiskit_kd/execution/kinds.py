# SPDX-License-Identifier: Apache-2.0
"""What is made of a backend's entry: one `Kind` for each kind, with four makers.

Nothing else in the package makes an engine or a primitive from options.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from qiskit import generate_preset_pass_manager
from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2
from qiskit.transpiler import PassManager

from qiskit_kd.execution.engine import Engine
from qiskit_kd.execution.mitigation import warn_of_few_shots
from qiskit_kd.execution.pubs import ExactEstimator, ExactSampler
from qiskit_kd.execution.schema import (
    AerOptions,
    BackendOptions,
    ExactOptions,
    NoisyOptions,
    RuntimeOptions,
)
from qiskit_kd.execution.transpiling import CarefulPassManager
from qiskit_kd.registry import Registry

if TYPE_CHECKING:
    from qiskit_kd.execution.noise_sources import DeviceNoise
    from qiskit_kd.execution.noisy.program_cache import ProgramCache
    from qiskit_kd.execution.sampled import SampledEngine, Source

_ANY_WIDTH = 20  # qubits of a device of rates that is asked for without a circuit

O = TypeVar("O", bound=BackendOptions)  # noqa: E741


class Kind(ABC, Generic[O]):
    """What makes engines, primitives and pass managers of one kind's entries."""

    schema: ClassVar[type[BackendOptions]]
    """The class of the options; its field `kind` is a literal, the name of the kind."""

    def __init__(self, name: str, options: O) -> None:
        self.name, self.options = name, options

    @abstractmethod
    def engine(self, gradient: str, shots: int | None, seed: int | None) -> Engine:
        """An engine with these settings, which `Backend.engine` has checked."""

    @abstractmethod
    def sampler(self, shots: int, seed: int | None) -> BaseSamplerV2:
        """A V2 sampler."""

    @abstractmethod
    def estimator(self, precision: float, seed: int | None) -> BaseEstimatorV2:
        """A V2 estimator."""

    @abstractmethod
    def pass_manager(self) -> PassManager:
        """What makes circuits runnable on this backend."""

    def sampled(
        self,
        source: Source,
        gradient: str,
        seed: int | None,
        *,
        kind: type[SampledEngine] | None = None,
    ) -> Engine:
        """An engine around a source, with the entry's settings of SPSA."""
        from qiskit_kd.execution.sampled import SampledEngine

        made = kind or SampledEngine
        return made(source, name=self.name, gradient=gradient, seed=seed, **self.options.spsa())


kinds: Registry[type[Kind[Any]]] = Registry("backend kind")
"""Kinds of backends by name."""


@kinds.register("exact")
class _Exact(Kind[ExactOptions]):
    schema = ExactOptions

    def engine(self, gradient: str, shots: int | None, seed: int | None) -> Engine:
        from qiskit_kd.execution.engine_source import EngineSource
        from qiskit_kd.execution.exact import ExactEngine

        exact = ExactEngine(name=self.name)
        if shots is None and gradient == "auto":
            return exact
        return self.sampled(EngineSource(exact, shots=shots), gradient, seed)

    def sampler(self, shots: int, seed: int | None) -> BaseSamplerV2:
        return ExactSampler(default_shots=shots, seed=seed)

    def estimator(self, precision: float, seed: int | None) -> BaseEstimatorV2:
        return ExactEstimator(default_precision=precision, seed=seed)

    def pass_manager(self) -> PassManager:
        """Any circuit runs as it is."""
        return CarefulPassManager(generate_preset_pass_manager(optimization_level=0))


@kinds.register("aer")
class _Aer(Kind[AerOptions]):
    schema = AerOptions

    def engine(self, gradient: str, shots: int | None, seed: int | None) -> Engine:
        from qiskit_kd.execution.aer import AerSource
        from qiskit_kd.execution.primitives import PrimitiveSource

        if shots is None:
            exact = AerSource(optimization_level=self.options.optimization_level)
            return self.sampled(exact, gradient, seed)
        # No estimator: Aer's adds normal noise of one width to every exact value, whatever the
        # observable's variance; sampling each basis follows the law of a device.
        manager, sampler = self.pass_manager, partial(_aer_sampler, shots)
        source = PrimitiveSource(sampler, pass_manager=manager, shots=shots, simulated=True)
        return self.sampled(source, gradient, seed)

    def sampler(self, shots: int, seed: int | None) -> BaseSamplerV2:
        from qiskit_kd.execution.aer import AerSampler

        return AerSampler(default_shots=shots, seed=seed)

    def estimator(self, precision: float, seed: int | None) -> BaseEstimatorV2:
        from qiskit_kd.execution.aer import AerEstimator

        return AerEstimator(default_precision=precision, seed=seed)

    def pass_manager(self) -> PassManager:
        from qiskit_kd.execution.aer import aer_pass_manager

        seed = self.options.seed_transpiler
        return aer_pass_manager(optimization_level=self.options.optimization_level, seed=seed)


@kinds.register("noisy")
class _Noisy(Kind[NoisyOptions]):
    schema = NoisyOptions

    def engine(self, gradient: str, shots: int | None, seed: int | None) -> Engine:
        from qiskit_kd.execution.engine_source import EngineSource
        from qiskit_kd.execution.noisy import NoisyEngine
        from qiskit_kd.execution.noisy.sampled import NoisySource

        options = self.options
        self._device(1)  # an unknown name or a damaged file shows here, not in the first step
        noisy = NoisyEngine(
            _program_cache(_circuits(options), options.noise.digest()), name=self.name
        )
        by_outcome = {"mitigation": options.mitigation, "sampled_by": options.sampled_by}
        if by_outcome != {"mitigation": "none", "sampled_by": "probabilities"}:
            return self.sampled(NoisySource(noisy, shots=shots, **by_outcome), gradient, seed)
        if shots is None and gradient == "auto":
            return noisy
        return self.sampled(EngineSource(noisy, shots=shots), gradient, seed)

    def sampler(self, shots: int, seed: int | None) -> BaseSamplerV2:
        from qiskit_kd.execution.noisy.primitives import NoisySampler

        return NoisySampler(self._device(), default_shots=shots, seed=seed)

    def estimator(self, precision: float, seed: int | None) -> BaseEstimatorV2:
        """Measurements do not err here."""
        from qiskit_kd.execution.noisy.primitives import NoisyEstimator

        return NoisyEstimator(self._device(), default_precision=precision, seed=seed)

    def pass_manager(self) -> PassManager:
        from qiskit_kd.execution.noisy.isa import device_pass_manager

        return device_pass_manager(
            self._device(),
            optimization_level=self.options.optimization_level,
            seed=self.options.seed_transpiler,
            idle=False,
        )

    def _device(self, num_qubits: int = _ANY_WIDTH) -> DeviceNoise:
        return _open_noisy(self.options, num_qubits)


def _open_noisy(options: NoisyOptions, num_qubits: int) -> DeviceNoise:
    from qiskit_kd.execution.snapshots import open_noise

    return open_noise(options.noise, num_qubits, scale=options.scale, readout=options.readout)


def _circuits(options: NoisyOptions) -> NoisyOptions:
    """What circuits and their noise depend on: entries that differ in shots alone share it."""
    kept = {"kind", "noise", "scale", "readout", "idle", "optimization_level", "seed_transpiler"}
    kept |= {"cache_gib"}
    return NoisyOptions.model_construct(**{key: getattr(options, key) for key in kept})


@lru_cache(maxsize=8)
def _program_cache(options: NoisyOptions, digest: str | None) -> ProgramCache:
    """One programs for equal settings, so that students of a study share circuits and data."""
    from qiskit_kd.execution.noisy.program_cache import ProgramCache

    del digest  # a part of the question: the file may have changed
    return ProgramCache(
        partial(_open_noisy, options),
        optimization_level=options.optimization_level,
        seed=options.seed_transpiler,
        idle=options.idle,
        cache_bytes=int(options.cache_gib * 2**30),
    )


def _aer_sampler(shots: int, seed: int) -> BaseSamplerV2:
    from qiskit_kd.execution.aer import AerSampler

    return AerSampler(default_shots=shots, seed=seed % 2**31, checked=True)  # Aer reads 32 bits


@kinds.register("runtime")
class _Runtime(Kind[RuntimeOptions]):
    schema = RuntimeOptions

    def engine(self, gradient: str, shots: int | None, seed: int | None) -> Engine:
        from qiskit_kd.execution.runtime.engine import RuntimeEngine, RuntimeSource
        from qiskit_kd.execution.sampled import fresh_seed

        options = self.options
        assert shots is not None  # an entry has some
        if options.mitigation != "none":
            warn_of_few_shots(shots)
        if seed is None:
            # The same program, run again, asks a journal for the same jobs.
            kept = options.journal is not None or not options.local
            seed = 0 if kept else fresh_seed()
        source = RuntimeSource(options, name=self.name, shots=shots)
        return self.sampled(source, gradient, seed, kind=RuntimeEngine)

    def sampler(self, shots: int, seed: int | None) -> BaseSamplerV2:
        """A seed is which repetition its jobs are."""
        from qiskit_kd.execution.runtime.primitives import RuntimeSampler
        from qiskit_kd.execution.runtime.session import open_session

        session = open_session(self.options, self.name)
        return RuntimeSampler(session, repetition=seed, default_shots=shots)

    def estimator(self, precision: float, seed: int | None) -> BaseEstimatorV2:
        """A seed is which repetition its jobs are."""
        from qiskit_kd.execution.runtime.primitives import RuntimeEstimator
        from qiskit_kd.execution.runtime.session import open_session

        session = open_session(self.options, self.name)
        return RuntimeEstimator(session, repetition=seed, default_precision=precision)

    def pass_manager(self) -> PassManager:
        """To one copy of the circuit, where the transpiler puts it."""
        from qiskit_kd.execution.runtime.compiler import device_pass_manager
        from qiskit_kd.execution.runtime.device import open_device

        return device_pass_manager(open_device(self.options), self.options)
