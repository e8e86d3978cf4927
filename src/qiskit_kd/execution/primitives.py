# SPDX-License-Identifier: Apache-2.0
"""Outputs from V2 primitives: one job per step, whatever the batch and however many shifts.

Circuits are measured into a register named `meas` before they are transpiled, transpiled once, and
sent as one broadcast PUB that carries all samples and all shifts. The bytes of the `BitArray`
become class frequencies in numpy, never by dictionaries of bitstrings.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.primitives import BackendSamplerV2, BaseSamplerV2, BitArray
from qiskit.providers import BackendV2
from qiskit.transpiler import PassManager

from qiskit_kd.circuits.readouts import Observables
from qiskit_kd.errors import ConfigError, ExecutionError, QiskitKDError
from qiskit_kd.execution.compiled import circuit_digest
from qiskit_kd.execution.engine import Usage
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.measurement import Basis, bases, measured
from qiskit_kd.execution.memory import require_memory, simulation_bytes
from qiskit_kd.execution.sampled import Block, Floats, Key, Measured, Source, pack
from qiskit_kd.execution.transpiling import CarefulPassManager
from qiskit_kd.seeding import derive
from qiskit_kd.values import whole


def outcomes(bits: BitArray) -> NDArray[np.int64]:
    """`(..., shots)` index of each measured basis state, from the packed big-endian bytes."""
    packed = bits.array
    value = np.zeros(packed.shape[:-1], np.int64)
    for byte in range(packed.shape[-1]):
        value = (value << 8) | packed[..., byte]
    return value


@dataclass(frozen=True, eq=False)
class Program:
    """Compiled circuits of one model: one per basis, or one for an estimator."""

    circuits: tuple[QuantumCircuit, ...]
    bases: tuple[Basis, ...]
    observables: tuple[Any, ...] | None = None
    columns: tuple[list[int], ...] = ()
    """Of the rows of slots, for each circuit."""


class PrimitiveSource(Source):
    """Values from a V2 sampler, or from a V2 estimator where observables are not diagonal.

    Args:
        sampler: A V2 sampler, or a function that makes one from a seed; it is called for every
            job, so that jobs do not repeat each other's shots. None where there is an estimator
            alone, which gives expectation values only.
        estimator: The same for an estimator; None measures non-diagonal observables with the
            sampler, one PUB per basis. It is asked for the precision `1 / sqrt(shots)`, which
            simulators take as the width of normal noise on every exact value: use one only where
            it runs on a device.
        pass_manager: What makes circuits runnable, or a function that makes it (then the engine can
            be pickled); None where the primitive takes any circuit.
        shots: Shots per circuit; None leaves its precision to an estimator that is alone.
        simulated: Whether the circuits run in this process, so memory must be checked.

    Raises:
        ConfigError: If `shots` is not positive, or the sampler is none.
    """

    shots: Any  # an integer, but for an estimator alone
    samples = draws = packed = True

    def __init__(
        self,
        sampler: Any,
        *,
        estimator: Any = None,
        pass_manager: PassManager | Callable[[], PassManager] | None = None,
        shots: int | None = 1024,
        simulated: bool = False,
    ) -> None:
        if shots is not None or sampler is not None:
            shots = whole(shots, "a sampler takes at least one shot", least=1)
        for part, value in (("sampler", sampler), ("estimator", estimator)):
            if value is not None and not (hasattr(value, "run") or callable(value)):
                raise ConfigError(
                    f"the {part} is a V2 primitive or a function that makes one from a seed",
                    got=type(value).__name__,
                    expected=f"an object with run(), or seed -> {part}",
                )
        self.usage = Usage()
        self.sampler, self.estimator = sampler, estimator
        self.samples, self.estimates = sampler is not None, estimator is not None
        self.pass_manager = pass_manager
        self._manager = pass_manager if hasattr(pass_manager, "run") else None
        self.shots = shots
        self.simulated = simulated
        self._programs: dict[Expansion, Program] = {}
        self._compiled: dict[str, QuantumCircuit] = {}

    def __getstate__(self) -> dict[str, Any]:
        made = not hasattr(self.pass_manager, "run")  # can be made again, and may not be picklable
        return {**self.__dict__, "_programs": {}, **({"_manager": None} if made else {})}

    def __deepcopy__(self, memo: dict[int, Any]) -> PrimitiveSource:
        # Samplers and pass managers are handles on a device: copies of a model share them.
        other = copy.copy(self)
        other.usage = copy.deepcopy(self.usage, memo)
        return other

    def measure(
        self, expansion: Expansion, blocks: Sequence[Block], key: Key
    ) -> list[Sequence[Measured]]:
        """See `Source.measure`."""
        circuits = sum(map(attrgetter("size"), blocks))
        qubits = expansion.model.num_qubits
        state = simulation_bytes(expansion.model) if self.simulated else 0
        require_memory(
            state + circuits * (8 * len(expansion.circuit.parameters) + 16 * (self.shots or 0)),
            f"{circuits:,} circuits of {qubits} qubits with {self.shots or 0:,} shots each",
            "Use a smaller batch, fewer shots, fewer qubits or gradient='spsa'.",
        )
        program = self._programs.get(expansion) or self._program(expansion)
        rows = pack(blocks)
        settings = [rows[:, columns] for columns in program.columns]
        if program.observables is None:
            return [self._sample(program, settings, key)]
        return [[Measured(None, raw=self._estimate(program, settings[0], key))]]

    def _sample(self, program: Program, settings: Sequence[Floats], key: Key) -> list[Measured]:
        pubs = [(c, v, self.shots) for c, v in zip(program.circuits, settings, strict=True)]
        results = self._submit("sampler", pubs, len(pubs) * len(settings[0]), key)
        return [
            Measured(None, raw=basis.of_outcomes(outcomes(result.data.meas)))
            for basis, result in zip(program.bases, results, strict=True)
        ]

    def _estimate(self, program: Program, settings: Floats, key: Key) -> Floats:
        observables = [[operator] for operator in program.observables or ()]
        precision = None if self.shots is None else 1 / np.sqrt(self.shots)
        pub = (program.circuits[0], observables, settings, precision)
        circuits = len(program.bases) * len(settings)
        result = self._submit("estimator", [pub], circuits, key)[0]
        return np.asarray(result.data.evs, float).T

    def _submit(self, kind: Any, pubs: list[Any], circuits: int, key: Key) -> Sequence[Any]:
        primitive = _made(getattr(self, kind), derive(*key))
        try:
            job = primitive.run(pubs)
            results: Sequence[Any] = job.result()
        except QiskitKDError:
            raise
        except Exception as error:  # whatever the provider raises
            raise ExecutionError(
                f"{type(primitive).__name__} failed", got=f"{type(error).__name__}: {error}"
            ) from error
        cost = getattr(job, "cost", None)  # of primitives that count for themselves
        self.usage.jobs += 1 if cost is None else cost.jobs
        self.usage.pubs += len(pubs) if cost is None else cost.pubs
        self.usage.executions += circuits * (self.shots or 1) if cost is None else cost.executions
        self.usage.qpu_seconds += 0.0 if cost is None else cost.seconds
        return results

    def _program(self, expansion: Expansion) -> Program:
        readout = expansion.model.readout
        measures, operators = bases(readout), None
        alone = not self.samples
        if alone and not isinstance(readout, Observables):
            raise ConfigError(
                "an estimator gives expectation values",
                got="class groups to read",
                expected="Observables",
                remedy="Hand in a sampler, or a backend.",
            )
        several = alone or len(measures) > 1
        if self.estimates and isinstance(readout, Observables) and several:
            circuit = self._compile(expansion.circuit)
            layout, operators = circuit.layout, readout.operators
            if layout is not None:
                operators = tuple(op.apply_layout(layout) for op in operators)
            circuits: tuple[QuantumCircuit, ...] = (circuit,)
        else:
            circuits = tuple(self._compile(measured(expansion.circuit, one)) for one in measures)
        columns = tuple([k for _, k in expansion.columns(c)] for c in circuits)
        self._programs[expansion] = program = Program(circuits, measures, operators, columns)
        return program

    @property
    def _is_aer(self) -> bool:
        """Whether a primitive is Aer's own; what a function makes is seen when it is made."""
        made = [None if p is None else _made(p, 0) for p in (self.sampler, self.estimator)]
        kinds = [kind for primitive in made for kind in type(primitive).__mro__]
        return any(kind.__module__.startswith("qiskit_aer.") for kind in kinds)

    def _compile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        """Transpile, once per circuit content: a copied model costs nothing.

        Without a pass manager the primitive may be anybody's, Aer's too, which binds some gates
        wrongly; gates that every primitive binds rightly are the only ones it gets then.
        """
        if self.pass_manager is None:
            return _bindable(circuit)
        if self._manager is None:
            self._manager = self.pass_manager()
        key = circuit_digest(circuit)
        if key not in self._compiled:
            found = self._manager.run(circuit)
            self._compiled[key] = _bindable(found) if self._is_aer else found
            self.usage.transpilations += 1
        return self._compiled[key]


def _bindable(circuit: QuantumCircuit) -> QuantumCircuit:
    from qiskit_kd.execution.aer import bindable

    return bindable(circuit)


def _made(primitive: Any, seed: int) -> Any:
    """A primitive: the one given, or what the function given makes from a seed."""
    if hasattr(primitive, "run") and not isinstance(primitive, type):
        return primitive
    try:
        made = primitive(seed)
    except Exception as error:  # somebody else's function
        raise ConfigError(
            "a function makes a V2 primitive from a seed",
            got=f"{type(error).__name__}: {error}",
            expected="lambda seed: SamplerV2(seed=seed)",
        ) from error
    if not hasattr(made, "run"):
        raise ConfigError(
            "a function makes a V2 primitive from a seed",
            got=type(made).__name__,
            expected="lambda seed: SamplerV2(seed=seed)",
        )
    return made


def sampler_of(backend: BackendV2, seed: int | None) -> BaseSamplerV2:
    """A sampler on somebody's backend, of a seed that simulators can read."""
    short = None if seed is None else seed % 2**31
    return BackendSamplerV2(backend=backend, options={"seed_simulator": short})


def manager_of(backend: BackendV2) -> PassManager:
    """What makes circuits runnable on somebody's backend."""
    return CarefulPassManager(
        generate_preset_pass_manager(optimization_level=1, backend=backend, seed_transpiler=0)
    )


def backend_under(primitive: Any) -> BackendV2 | None:
    """The backend that a primitive says it runs on; None where it names none, as simulators do."""
    found = getattr(primitive, "backend", None)
    if callable(found) and not isinstance(found, BackendV2):
        found = found()
    return found if isinstance(found, BackendV2) else None
