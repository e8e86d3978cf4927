# SPDX-License-Identifier: Apache-2.0
"""Aer's V2 primitives, made safe for parametrised circuits.

Up to version 0.18, Aer silently runs controlled gates with free parameters (CRX, CRY, CRZ, CP,
CU3, MCPhase) at angle zero when values are bound by the run (Qiskit/qiskit-aer issues 2323, 2391,
2403). Every path of this package to Aer therefore leads through gates that are bound correctly.
Aer also knows gates by their names alone, so gates that merely borrow a name are inlined, and it
takes no free global phase with several rows of values; nobody can see one, so it is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import ControlledGate, ParameterExpression
from qiskit.circuit.library import MCXGate, MCXGrayCode
from qiskit.dagcircuit import DAGCircuit
from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.transpiler import PassManager, Target, TransformationPass
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import EstimatorV2, SamplerV2

from qiskit_kd.circuits.checks import is_inert
from qiskit_kd.execution.pubs import estimator_pubs, sampler_pubs
from qiskit_kd.execution.transpiling import CarefulPassManager, inlined


def _wrongly_bound(gate: Any) -> bool:
    if isinstance(gate, type):  # gates of any width: mcphase, mcrx ...
        return issubclass(gate, ControlledGate) and gate not in (MCXGate, MCXGrayCode)
    free = any(isinstance(v, ParameterExpression) for v in gate.params)
    return free and isinstance(gate, ControlledGate)


@lru_cache(maxsize=1)
def aer_target() -> Target:
    """The gates Aer simulates natively, without the controlled gates it binds wrongly."""
    whole = AerSimulator().target
    target = Target("Aer without parametrised controlled gates", num_qubits=whole.num_qubits)
    for name in sorted(whole.operation_names):
        operation = whole.operation_from_name(name)
        if not _wrongly_bound(operation):
            target.add_instruction(operation, name=name)
    return target


@lru_cache(maxsize=1)
def _native_names() -> frozenset[str]:
    return frozenset(AerSimulator().target.operation_names)


class _WithoutFreePhase(TransformationPass):  # type: ignore[misc]
    """Makes phases of gates the circuit's, and drops it where it depends on parameters."""

    def run(self, dag: DAGCircuit) -> DAGCircuit:
        phase = sum((n.op.params[0] for n in dag.named_nodes("global_phase")), dag.global_phase)
        dag.remove_all_ops_named("global_phase")
        dag.global_phase = 0 if isinstance(phase, ParameterExpression) else phase
        return dag


def aer_pass_manager(*, optimization_level: int = 1, seed: int = 0) -> PassManager:
    """A pass manager to gates that Aer simulates natively and binds correctly."""
    manager = generate_preset_pass_manager(
        optimization_level=optimization_level, target=aer_target(), seed_transpiler=seed
    )
    manager.post_scheduling = PassManager([_WithoutFreePhase()])
    return CarefulPassManager(manager)


def bindable(circuit: QuantumCircuit) -> QuantumCircuit:
    """`circuit` if Aer binds it correctly, else one it does bind, equal up to a phase."""
    circuit = inlined(circuit)
    if isinstance(circuit.global_phase, ParameterExpression):
        circuit = circuit.copy()
        circuit.global_phase = 0
    for item in circuit.data:
        gate = item.operation
        if is_inert(gate) and item.qubits:
            continue
        if gate.name not in _native_names() or _wrongly_bound(gate) or hasattr(gate, "blocks"):
            return aer_pass_manager(optimization_level=0).run(circuit)
    return circuit


class AerSampler(BaseSamplerV2):  # type: ignore[misc]
    """Qiskit Aer's `SamplerV2` that runs any parametrised circuit correctly.

    Args:
        default_shots: Shots where a PUB or `run` names none.
        seed: Seed of every run; None for fresh randomness.
        options: `backend_options` and `run_options`, as Aer's own.
    """

    def __init__(
        self,
        *,
        default_shots: int = 1024,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        options = dict(options or {})
        # Values are bound in the simulator's own loop, a third faster at few shots.
        faster = {"runtime_parameter_bind_enable": True}
        options["run_options"] = {**faster, **options.get("run_options", {})}
        self._inner = SamplerV2(default_shots=default_shots, seed=seed, options=options)

    @property
    def default_shots(self) -> int:
        """Shots where a PUB or `run` names none."""
        return int(self._inner.default_shots)

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> Any:
        """See `BaseSamplerV2.run`."""
        coerced = sampler_pubs(pubs, self.default_shots if shots is None else shots)
        return self._inner.run(
            [SamplerPub(bindable(p.circuit), p.parameter_values, p.shots) for p in coerced]
        )


class AerEstimator(BaseEstimatorV2):  # type: ignore[misc]
    """Qiskit Aer's `EstimatorV2` that runs any parametrised circuit correctly.

    Args:
        default_precision: Standard error where a PUB or `run` names none; 0 for exact values.
        seed: Seed of every run; None for fresh randomness.
        options: `backend_options` and `run_options`, as Aer's own.
    """

    def __init__(
        self,
        *,
        default_precision: float = 0.0,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        chosen = {**(options or {}), "default_precision": default_precision}
        if seed is not None:
            chosen["run_options"] = {**chosen.get("run_options", {}), "seed_simulator": seed}
        self._precision = default_precision
        self._inner = EstimatorV2(options=chosen)

    @property
    def default_precision(self) -> float:
        """Standard error where a PUB or `run` names none."""
        return self._precision

    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> Any:
        """See `BaseEstimatorV2.run`."""
        precision = self._precision if precision is None else precision
        coerced = estimator_pubs(pubs, precision)
        return self._inner.run(
            [
                EstimatorPub(bindable(p.circuit), p.observables, p.parameter_values, p.precision)
                for p in coerced
            ]
        )
