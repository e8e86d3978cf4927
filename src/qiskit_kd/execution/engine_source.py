# SPDX-License-Identifier: Apache-2.0
"""Outcomes of circuits from an engine that knows probabilities: a sampler's law at its price."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qiskit_kd.circuits.model import CircuitModel, Encoding
from qiskit_kd.circuits.parameters import input_parameters, rename
from qiskit_kd.circuits.readouts import ClassGroups, Readout
from qiskit_kd.execution.engine import Array, Engine, Usage
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.measurement import Basis, bases
from qiskit_kd.execution.memory import require_memory, require_statevector
from qiskit_kd.execution.sampled import Block, Key, Measured, Source, pack
from qiskit_kd.execution.transpiling import CircuitFacts
from qiskit_kd.values import whole

_COPIES = 4  # tables of the readout that the exact engine holds at once


class EngineSource(Source):
    """Probabilities of an exact engine, for multinomial shots or, without, as they are."""

    def __init__(self, engine: Engine, *, shots: int | None) -> None:
        if shots is not None:
            shots = whole(shots, "sampling takes at least one shot", least=1)
        self.usage = Usage()
        self.engine = engine
        self.shots = shots

    def check(self, model: CircuitModel) -> None:
        """See `Engine.check`."""
        self.engine.check(model)

    def compiled(self, model: CircuitModel) -> CircuitFacts | None:
        """See `Engine.compiled`."""
        return self.engine.compiled(model)

    def measure(
        self, expansion: Expansion, blocks: Sequence[Block], key: Key
    ) -> Iterator[Iterable[Measured]]:
        """See `Source.measure`; outcomes that count alike are not told apart."""
        del key
        require_statevector(expansion.model)
        proxies = proxies_of(expansion)
        for block in blocks:
            yield (self._measured(proxy, block) for proxy in proxies)
        circuits = len(proxies) * sum(block.size for block in blocks)
        self.usage.jobs += 1
        self.usage.pubs += len(proxies)
        self.usage.executions += circuits * (self.shots or 1)

    def _measured(self, proxy: Proxy, block: Block) -> Measured:
        p = np.asarray(self.engine.outputs(*proxy.ask(self.engine, block)), float)
        shape = (len(block.weights), len(block.inputs), p.shape[-1])
        return Measured(p.reshape(shape), (proxy.matrix,))


class Proxy:
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

    def ask(self, engine: Engine, block: Block) -> tuple[CircuitModel, Array, Array]:
        """A model, features and weights whose outputs are the block's, `(settings, rows)` first."""
        rotated = self.rotation is not None and self.expansion.layers > 1
        if block.features is not None and self.expansion.num_weights and not rotated:
            model = self._model(engine, natural=True)
            return model, np.asarray(block.features, float), block.weights
        return self._model(engine, natural=False), pack([block]), np.zeros(1)

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
def proxies_of(expansion: Expansion) -> tuple[Proxy, ...]:
    """One proxy per basis, the same for all engines of this process."""
    return tuple(Proxy(expansion, basis) for basis in bases(expansion.model.readout))
