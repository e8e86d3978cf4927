# SPDX-License-Identifier: Apache-2.0
"""Sampled engines in one line each."""

from __future__ import annotations

from typing import Any

from qiskit_kd.execution.aer import AerSource
from qiskit_kd.execution.engine import Engine
from qiskit_kd.execution.engine_source import EngineSource
from qiskit_kd.execution.noisy import NoisyEngine
from qiskit_kd.execution.noisy.sampled import NoisySource
from qiskit_kd.execution.primitives import PrimitiveSource
from qiskit_kd.execution.sampled import SampledEngine


def exact_shots(engine: Engine, *, shots: int | None, **rule: Any) -> SampledEngine:
    return SampledEngine(EngineSource(engine, shots=shots), **rule)


def noisy_shots(
    engine: NoisyEngine,
    *,
    shots: int | None,
    mitigation: str = "tensored",
    sampled_by: str = "probabilities",
    **rule: Any,
) -> SampledEngine:
    source = NoisySource(engine, shots=shots, mitigation=mitigation, sampled_by=sampled_by)
    return SampledEngine(source, **rule)


def sampler_engine(
    sampler: Any,
    *,
    estimator: Any = None,
    pass_manager: Any = None,
    shots: int = 1024,
    simulated: bool = False,
    **rule: Any,
) -> SampledEngine:
    source = PrimitiveSource(
        sampler, estimator=estimator, pass_manager=pass_manager, shots=shots, simulated=simulated
    )
    return SampledEngine(source, **rule)


def aer_exact(*, optimization_level: int = 1, **rule: Any) -> SampledEngine:
    return SampledEngine(AerSource(optimization_level=optimization_level), **rule)
