# SPDX-License-Identifier: Apache-2.0
"""Exact outputs from Aer: one run evaluates every row, with probabilities instead of shots.

`save_probabilities` with `parameter_binds` and run-time binding is some hundred times faster than
circuits bound one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.transpiler import PassManager
from qiskit_aer import AerSimulator

from qiskit_kd.errors import ExecutionError
from qiskit_kd.execution.aer import aer_pass_manager
from qiskit_kd.execution.engine import Usage
from qiskit_kd.execution.expansion import AngleMap, Expansion, expand
from qiskit_kd.execution.measurement import Basis, bases
from qiskit_kd.execution.memory import require_memory, simulation_bytes
from qiskit_kd.execution.sampled import Block, RowEngine, Source, pack, unpack

_CHUNK_BYTES = 2**28  # probabilities kept at once


class AerSource(Source):
    """Exact probabilities by Aer's statevector method.

    Args:
        optimization_level: Of the transpilation to Aer's gates.
    """

    shots = None

    def __init__(self, *, optimization_level: int = 1) -> None:
        self.usage = Usage()
        self.optimization_level = optimization_level
        self._simulator = AerSimulator(method="statevector")
        self._compiled: dict[Expansion, list[_Compiled]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": {}}

    def evaluate(self, expansion: Expansion, blocks: Sequence[Block]) -> list[NDArray[np.float64]]:
        """See `Source.evaluate`; more than one run only where memory asks for it."""
        require_memory(
            simulation_bytes(expansion.model),
            f"a statevector of {expansion.model.num_qubits} qubits",
            "Use fewer qubits or a device.",
        )
        compiled = self._compile(expansion)
        rows = pack(blocks)
        each = 8 * sum(len(item.basis.matrix) for item in compiled)
        step = max(1, _CHUNK_BYTES // each)
        values = [
            self._run(expansion, compiled, rows[k : k + step]) for k in range(0, len(rows), step)
        ]
        return unpack(np.concatenate(values), blocks)

    def _run(
        self,
        expansion: Expansion,
        compiled: list[_Compiled],
        rows: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        job = self._simulator.run(
            [item.circuit for item in compiled],
            parameter_binds=[item.binds(rows) for item in compiled],
            shots=1,
            runtime_parameter_bind_enable=True,
        )
        result = job.result()
        if not result.success:
            raise ExecutionError("Aer failed", got=str(result.status))
        self.usage.jobs += 1
        self.usage.pubs += len(compiled)
        self.usage.executions += len(compiled) * len(rows)
        total = np.zeros((len(rows), expansion.model.num_outputs))
        for number, item in enumerate(compiled):
            own = range(number * len(rows), (number + 1) * len(rows))
            total += item.basis.of_probabilities(
                np.stack([np.asarray(result.data(k)["probabilities"]) for k in own])
            )
        return total

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


class AerExactEngine(RowEngine):
    """Exact outputs and gradients by Aer.

    Args:
        name: Name for reports.
        gradient: `"auto"` (parameter shift), `"shift"` or `"spsa"`.
        perturbations: Directions of SPSA per step.
        epsilon: Step of SPSA in radians.
        seed: Root seed of SPSA; None for a new one.
        optimization_level: Of the transpilation to Aer's gates.

    Raises:
        UnknownNameError: If the gradient rule is unknown.
        ConfigError: If `perturbations` or `epsilon` is not positive.
    """

    def __init__(
        self,
        *,
        name: str = "aer",
        gradient: str = "auto",
        perturbations: int = 4,
        epsilon: float | None = None,
        seed: int | None = None,
        optimization_level: int = 1,
    ) -> None:
        super().__init__(
            AerSource(optimization_level=optimization_level),
            name=name,
            gradient=gradient,
            perturbations=perturbations,
            epsilon=epsilon,
            seed=seed,
        )
