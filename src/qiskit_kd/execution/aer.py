# SPDX-License-Identifier: Apache-2.0
"""Qiskit Aer: its V2 primitives, made safe for parametrised circuits, and its exact probabilities.

Up to version 0.18, Aer silently runs controlled gates with free parameters (CRX, CRY, CRZ, CP,
CU3, MCPhase) at angle zero when values are bound by the run (Qiskit/qiskit-aer issues 2323, 2391,
2403). Every path of this package to Aer therefore leads through gates that are bound correctly.
Aer also knows gates by their names alone, so gates that merely borrow a name are inlined, and it
takes no free global phase with several rows of values; nobody can see one, so it is dropped.

For exact values one run evaluates every row: `save_probabilities` with `parameter_binds` and
run-time binding is some hundred times faster than circuits bound one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
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
from qiskit_kd.errors import ExecutionError
from qiskit_kd.execution.engine import Usage
from qiskit_kd.execution.expansion import AngleMap, Expansion, expand
from qiskit_kd.execution.measurement import Basis, bases
from qiskit_kd.execution.memory import require_statevector
from qiskit_kd.execution.pubs import estimator_pubs, sampler_pubs
from qiskit_kd.execution.sampled import Block, Key, Measured, Source, pack
from qiskit_kd.execution.transpiling import CarefulPassManager, inlined

_CHUNK_BYTES = 2**28  # probabilities kept at once


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


def aer_result(
    simulator: AerSimulator, circuits: list[QuantumCircuit], binds: Any, **options: Any
) -> Any:
    """What Aer gives for rows of parameters' values, bound in its own loop.

    Raises:
        ExecutionError: If Aer fails.
    """
    result = simulator.run(circuits, parameter_binds=binds, **options).result()
    if not result.success:
        raise ExecutionError("Aer failed", got=str(result.status))
    return result


class AerSampler(BaseSamplerV2):  # type: ignore[misc]
    """Qiskit Aer's `SamplerV2` that runs any parametrised circuit correctly.

    Args:
        default_shots: Shots where a PUB or `run` names none.
        seed: Seed of every run; None for fresh randomness.
        options: `backend_options` and `run_options`, as Aer's own.
        checked: Whether every circuit comes from `aer_pass_manager`, so that Aer binds it rightly.
    """

    def __init__(
        self,
        *,
        default_shots: int = 1024,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
        checked: bool = False,
    ) -> None:
        self._checked = checked
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
        if self._checked:
            return self._inner.run(coerced)
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


class AerSource(Source):
    """Exact probabilities by Aer's statevector method."""

    packed = True

    def __init__(self, *, optimization_level: int = 1) -> None:
        self.usage = Usage()
        self.optimization_level = optimization_level
        self._simulator = AerSimulator(method="statevector")
        self._compiled: dict[Expansion, list[_Compiled]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": {}}

    def measure(
        self, expansion: Expansion, blocks: Sequence[Block], key: Key
    ) -> Iterator[list[Measured]]:
        """See `Source.measure`; more than one run only where memory asks for it."""
        del key
        require_statevector(expansion.model)
        compiled = self._compile(expansion)
        rows = pack(blocks)
        each = 8 * sum(len(item.basis.matrix) for item in compiled)
        step = max(1, _CHUNK_BYTES // each)
        for first in range(0, len(rows), step):
            yield self._run(compiled, rows[first : first + step])

    def _run(self, compiled: list[_Compiled], rows: NDArray[np.float64]) -> list[Measured]:
        circuits, binds = (
            [item.circuit for item in compiled],
            [item.binds(rows) for item in compiled],
        )
        options = {"shots": 1, "runtime_parameter_bind_enable": True}
        result = aer_result(self._simulator, circuits, binds, **options)
        self.usage.jobs += 1
        self.usage.pubs += len(compiled)
        self.usage.executions += len(compiled) * len(rows)
        found = []
        for number, item in enumerate(compiled):
            own = range(number * len(rows), (number + 1) * len(rows))
            shares = np.stack([np.asarray(result.data(k)["probabilities"]) for k in own])
            found.append(Measured(shares, (item.basis.matrix,)))
        return found

    def _compile(self, expansion: Expansion) -> list[_Compiled]:
        if expansion not in self._compiled:
            manager = aer_pass_manager(optimization_level=self.optimization_level)
            self._compiled[expansion] = [
                _Compiled.of(expansion, basis, manager) for basis in bases(expansion.model.readout)
            ]
            self.usage.transpilations += len(self._compiled[expansion])
        return self._compiled[expansion]


@dataclass(frozen=True, eq=False)
class _Compiled:
    """A circuit for Aer; `columns` and `angles` lead from rows of slots to its parameters.

    Compilation leaves expressions such as `-weight_003 / 2` behind, which Aer evaluates one by one
    in Python; expanded once more, numpy evaluates them for all rows at once.
    """

    basis: Basis
    circuit: QuantumCircuit
    columns: list[int]
    angles: AngleMap

    @classmethod
    def of(cls, expansion: Expansion, basis: Basis, manager: PassManager) -> _Compiled:
        circuit = expansion.circuit
        if basis.rotation is not None:
            circuit = circuit.compose(basis.rotation)
        native = manager.run(circuit)
        places = native.layout.final_index_layout() if native.layout else range(native.num_qubits)
        again = expand(native)
        again.circuit.save_probabilities([places[q] for q in basis.qubits])
        columns = [column for _, column in expansion.columns(native)]
        return cls(basis, again.circuit, columns, again.angles)

    def binds(self, rows: NDArray[np.float64]) -> dict[Any, list[float]]:
        """Parameter values of every row, as Aer wants them."""
        values = self.angles(rows[:, self.columns])
        return {p: values[:, k].tolist() for k, p in enumerate(self.circuit.parameters)}
