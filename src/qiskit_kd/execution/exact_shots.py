# SPDX-License-Identifier: Apache-2.0
"""Shots drawn from exact probabilities: the law of a sampler at the price of the exact engine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qiskit_kd.circuits.model import CircuitModel, Encoding
from qiskit_kd.circuits.parameters import input_parameters, rename
from qiskit_kd.circuits.readouts import ClassGroups, Readout
from qiskit_kd.execution.engine import Engine, Usage
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.measurement import Basis, bases
from qiskit_kd.execution.memory import require_memory, simulation_bytes
from qiskit_kd.execution.sampled import Block, RowEngine, Source, fresh_seed
from qiskit_kd.execution.transpiling import CircuitFacts
from qiskit_kd.seeding import stream
from qiskit_kd.values import whole

_COPIES = 4  # tables of the readout that the exact engine holds at once


class ExactSource(Source):
    """Probabilities of an exact engine, with multinomial shot noise or without.

    Args:
        engine: The exact engine.
        shots: Shots per circuit; None for the exact values.
        seed: Root seed of the shots.

    Raises:
        ConfigError: If `shots` is not positive.
    """

    def __init__(self, engine: Engine, *, shots: int | None, seed: int) -> None:
        if shots is not None:
            shots = whole(shots, "sampling takes at least one shot", least=1)
        self.usage = Usage()
        self.engine = engine
        self.shots = shots
        self.seed = seed

    def check(self, model: CircuitModel) -> None:
        """See `Engine.check`."""
        self.engine.check(model)

    def compiled(self, model: CircuitModel) -> CircuitFacts | None:
        """See `Engine.compiled`."""
        return self.engine.compiled(model)

    def evaluate(self, expansion: Expansion, blocks: Sequence[Block]) -> list[NDArray[np.float64]]:
        """See `Source.evaluate`."""
        qubits = expansion.model.num_qubits
        require_memory(
            simulation_bytes(expansion.model),
            f"a statevector of {qubits} qubits",
            "Use fewer qubits or a device.",
        )
        generator = stream(self.seed, "shots", self.drawn)
        self.drawn += 1
        proxies = _proxies_of(expansion)
        values = [
            np.sum([self._values(proxy, block, generator) for proxy in proxies], axis=0)
            for block in blocks
        ]
        circuits = len(proxies) * sum(block.size for block in blocks)
        self.usage.jobs += 1
        self.usage.pubs += len(proxies)
        self.usage.executions += circuits * (self.shots or 1)
        return values

    def _values(
        self, proxy: _Proxy, block: Block, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        p = proxy.probabilities(self.engine, block)
        if self.shots is not None:
            p = np.clip(p, 0.0, None)
            p /= p.sum(-1, keepdims=True)
            p = generator.multinomial(self.shots, p) / self.shots
        return p @ proxy.matrix


class _Proxy:
    """The expanded circuit in one basis, as models that an exact engine can run.

    Blocks whose rows are real features keep the model's own encoding, which an exact engine need
    not carry out as gates; blocks of shifted inputs run the whole expanded circuit as an encoding.
    """

    def __init__(self, expansion: Expansion, basis: Basis) -> None:
        model = expansion.model
        qubits = model.num_qubits
        self.readout: Readout
        if isinstance(model.readout, ClassGroups):
            # Grouping sampled states and sampling groups follow the same law.
            self.readout, self.matrix = model.readout, np.eye(model.num_outputs)
        else:
            # Outcomes that count alike need not be told apart, which saves an identity matrix of
            # all of them wherever observables share qubits or are few.
            self.matrix, labels = np.unique(basis.matrix, axis=0, return_inverse=True)
            if len(self.matrix) == 1:  # nothing depends on the outcome; a readout has two classes
                self.matrix, labels = basis.matrix, np.arange(len(basis.matrix))
            require_memory(
                _COPIES * 8 * 2**qubits * len(self.matrix),
                f"the probabilities of {len(self.matrix):,} outcomes of {qubits} qubits",
                "Read fewer qubits, or use a backend of kind aer with shots.",
            )
            self.readout = ClassGroups(
                len(self.matrix), qubits, labels.ravel().tolist(), qubits=basis.qubits
            )
        self.expansion, self.rotation = expansion, basis.rotation
        self._models: dict[bool, CircuitModel] = {}

    def probabilities(self, engine: Engine, block: Block) -> NDArray[np.float64]:
        """`(settings, rows, groups)` exact probabilities of a block."""
        rotated = self.rotation is not None and self.expansion.layers > 1
        if block.features is not None and self.expansion.num_weights and not rotated:
            model = self._model(engine, natural=True)
            features = np.asarray(block.features, float)
            return np.asarray(engine.outputs(model, features, block.weights), float)
        shape = (len(block.weights), len(block.inputs), -1)
        rows = np.concatenate(
            [
                np.broadcast_to(block.inputs[None], (*shape[:2], block.inputs.shape[-1])),
                np.broadcast_to(block.weights[:, None], (*shape[:2], block.weights.shape[-1])),
            ],
            axis=-1,
        ).reshape(shape[0] * shape[1], -1)
        p = engine.outputs(self._model(engine, natural=False), rows, np.zeros(1))
        return np.asarray(p, float).reshape(shape)

    def _model(self, engine: Engine, *, natural: bool) -> CircuitModel:
        if natural not in self._models:
            last = self.rotation or QuantumCircuit(self.expansion.model.num_qubits)
            self._models[natural] = (
                self._with_own_encoding(last) if natural else self._all_encoding(last)
            )
        if not natural or self.rotation is not None:  # else it is the very same circuit
            engine.place(self._models[natural], like=self.expansion.model)
        return self._models[natural]

    def _with_own_encoding(self, last: QuantumCircuit) -> CircuitModel:
        ansatz = self.expansion.ansatz.circuit.copy()
        if last.data:
            ansatz.barrier()  # as the noisy engine rotates: behind the ansatz, merged with no gate
        return CircuitModel(self.expansion.model.encoding, ansatz.compose(last), self.readout)

    def _all_encoding(self, last: QuantumCircuit) -> CircuitModel:
        # As the noisy engine transpiles the model itself: part by part.
        circuit = self.expansion.circuit_with_seams
        slots = circuit.num_parameters
        encoding = Encoding("expanded", rename(circuit, input_parameters(slots)), slots, np.asarray)
        # A model needs a weight; one phase at angle zero, in front of nothing, changes nothing.
        ansatz = QuantumCircuit(circuit.num_qubits)
        ansatz.rz(Parameter("nothing"), 0)
        return CircuitModel(encoding, ansatz.compose(last), self.readout)


@lru_cache(maxsize=64)
def _proxies_of(expansion: Expansion) -> tuple[_Proxy, ...]:
    """One proxy per basis, the same for all engines of this process."""
    return tuple(_Proxy(expansion, basis) for basis in bases(expansion.model.readout))


class ExactShotsEngine(RowEngine):
    """Sampled values and sampled gradients, from the exact engine's probabilities.

    Args:
        engine: The exact engine.
        shots: Shots per circuit; None for exact values with a sampled engine's gradient rules.
        name: Name for reports.
        gradient: `"auto"` (SPSA with shots, else shift), `"shift"` or `"spsa"`.
        perturbations: Directions of SPSA per step.
        epsilon: Step of SPSA in radians.
        seed: Root seed of shots and perturbations; None for a new one.

    Raises:
        UnknownNameError: If the gradient rule is unknown.
        ConfigError: If a number is not positive.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        shots: int | None,
        name: str = "exact_shots",
        gradient: str = "auto",
        perturbations: int = 4,
        epsilon: float | None = None,
        seed: int | None = None,
    ) -> None:
        seed = fresh_seed() if seed is None else whole(seed, "a seed is a whole number")
        super().__init__(
            ExactSource(engine, shots=shots, seed=seed),
            name=name,
            gradient=gradient,
            perturbations=perturbations,
            epsilon=epsilon,
            seed=seed,
        )
