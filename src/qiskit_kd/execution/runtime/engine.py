# SPDX-License-Identifier: Apache-2.0
"""Engines and primitives behind entries of kind `runtime`: one job and one PUB a step."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.transpiler import PassManager

from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.measurement import Basis
from qiskit_kd.execution.memory import require_memory
from qiskit_kd.execution.mitigation import mitigate, warn_of_few_shots
from qiskit_kd.execution.primitives import PrimitiveSource, Program, outcomes
from qiskit_kd.execution.runtime.client import Calibration
from qiskit_kd.execution.runtime.compiler import Compiled, device_pass_manager
from qiskit_kd.execution.runtime.device import open_device
from qiskit_kd.execution.runtime.primitives import RuntimeEstimator, RuntimeSampler
from qiskit_kd.execution.runtime.session import DeviceSession, open_session
from qiskit_kd.execution.runtime.tiling import TiledBatch
from qiskit_kd.execution.sampled import Block, SampledEngine, fresh_seed, unpack
from qiskit_kd.execution.schema import RuntimeOptions

SHOTS = 1024
"""Shots where an entry names none: a device always draws some."""

_COPIES = 4  # tables of frequencies that mitigation holds at once


class RuntimeSource(PrimitiveSource):
    """Rows from a device, or from what stands in for it.

    Args:
        options: An entry of kind `runtime`.
        name: Its name.
        shots: Shots per circuit.
        seed: Root seed of the jobs' repetitions.
    """

    raw: Sequence[NDArray[np.float64]] = ()
    """Outputs of the last job before mitigation, block by block as `evaluate` returns them."""

    def __init__(self, options: RuntimeOptions, *, name: str, shots: int, seed: int) -> None:
        self._entry = (options, name)
        self.mitigated = options.mitigation != "none"
        # Expectation values of several copies, or mitigated here, come from samples.
        estimates = options.tiles == 1 and not self.mitigated
        super().__init__(
            self._sampler, estimator=self._estimator if estimates else None, shots=shots, seed=seed
        )
        self._raw: NDArray[np.float64] | None = None
        self._made: dict[int, Compiled] = {}
        self._ran_under: dict[Any, Calibration | None] = {}
        self._session: DeviceSession | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            **super().__getstate__(),
            "_made": {},
            "_ran_under": {},
            "_session": None,
            "_raw": None,
        }

    @property
    def made(self) -> list[Compiled]:
        """Circuits that were asked for so far."""
        return list(self._made.values())

    @property
    def calibrations(self) -> list[str]:
        """ISO dates of the calibrations that its jobs ran under, oldest first, as far as known."""
        dates = {found.date for found in self._ran_under.values() if found is not None}
        return sorted(dates, key=lambda date: datetime.fromisoformat(date).timestamp())

    @property
    def session(self) -> DeviceSession:
        """The client, the journal and the compiler."""
        if self._session is None:
            self._session = open_session(*self._entry)
        return self._session

    def evaluate(self, expansion: Expansion, blocks: Sequence[Block]) -> list[NDArray[np.float64]]:
        """See `Source.evaluate`; keeps `raw` as well."""
        self._raw = None
        values = super().evaluate(expansion, blocks)
        self.raw = values if self._raw is None else unpack(self._raw, blocks)
        return values

    def _sampler(self, repetition: int) -> RuntimeSampler:
        return RuntimeSampler(self.session, repetition=repetition, default_shots=self.shots)

    def _estimator(self, repetition: int) -> RuntimeEstimator:
        return RuntimeEstimator(self.session, repetition=repetition)

    def _compile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        compiler = self.session.compiler
        before = compiler.transpilations
        compiled = compiler.compiled(circuit)
        self.usage.transpilations += compiler.transpilations - before
        if self.mitigated:
            compiler.check_mitigation(compiled)
        self._made[id(compiled.circuit)] = compiled  # kept by the compiler, so the id is its own
        return compiled.circuit

    def _submit(self, primitive: Any, pubs: list[Any], *, circuits: int) -> Sequence[Any]:
        results = super()._submit(primitive, pubs, circuits=circuits)
        journal = self.session.journal
        for job_id in {i for result in results for i in np.ravel(result.metadata["job_id"])}:
            if job_id not in self._ran_under:
                self._ran_under[job_id] = journal.calibration(job_id)
        return results

    def _sample(
        self, program: Program, settings: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        made = [self._made[id(circuit)] for circuit in program.circuits]
        pubs: list[Any] = []
        batches: list[TiledBatch | None] = []
        for one, rows in zip(made, settings, strict=True):
            batch = None if one.tiling is None else one.tiling.tiled(rows, self.shots)
            batches.append(batch)
            pubs.append((one.circuit, rows, self.shots) if batch is None else batch.pub)
        results = self._submit(self.sampler, pubs, circuits=0)
        values, raw = [], []
        for basis, one, batch, result in zip(program.bases, made, batches, results, strict=True):
            data = result.data if batch is None else batch.untiled(result.data)
            found = outcomes(data.meas)
            raw.append(basis.of_outcomes(found))
            if self.mitigated:
                copies = np.zeros(len(found), np.intp)
                jobs = np.broadcast_to(result.metadata["job_id"], result.data.shape)
                if batch is not None:
                    copies = batch.tile_of
                    jobs = batch.each(jobs)
                values.append(self._without_readout_errors(basis, one, found, copies, jobs))
        self._raw = np.sum(raw, axis=0)
        return np.sum(values, axis=0) if self.mitigated else self._raw

    def _without_readout_errors(
        self,
        basis: Basis,
        compiled: Compiled,
        found: NDArray[np.int64],
        copies: NDArray[np.intp],
        jobs: NDArray[Any],
    ) -> NDArray[np.float64]:
        """`(rows, shots)` outcomes, measured on these copies by these jobs, to values.

        Each row is corrected by the rates that were in force when its own job ran.
        """
        rows, size = len(found), len(basis.matrix)
        require_memory(
            8 * _COPIES * rows * size,
            f"the shots of {rows:,} circuits by {size:,} outcomes",
            "Use a smaller batch, or read fewer qubits.",
        )
        flat = found + np.arange(rows)[:, None] * size
        shares = np.bincount(flat.ravel(), minlength=rows * size).reshape(rows, size)
        shares = shares / found.shape[1]
        for job, copy in dict.fromkeys(zip(jobs.tolist(), copies.tolist(), strict=True)):
            there, known = (copies == copy) & (jobs == job), self._ran_under[job]
            rates = None if known is None else known.readout
            shares[there] = mitigate(shares[there], compiled.assignments(copy, rates))
        return basis.of_probabilities(shares)


class RuntimeEngine(SampledEngine):
    """Runs models on a device: one job and one PUB for each call of `outputs` or `vjp`.

    A call whose job was run before, in this process or in an earlier one, takes its results from
    the journal. Observables that are not diagonal are estimated by the service's estimator, with
    its own mitigation, unless copies of the circuit run side by side or readout errors are undone
    here: then they are sampled, one PUB per basis.

    Args:
        options: An entry of kind `runtime`.
        name: Its name, for reports and for the budget.
        gradient: `"auto"` (SPSA), `"shift"` or `"spsa"`.
        shots: Shots per circuit.
        seed: Root seed of perturbations and of the jobs' repetitions: a run with the same seed asks
            for the same jobs.

    Raises:
        UnknownNameError: If the gradient rule is unknown.
        BudgetError: If a device that is not local has no budget.
    """

    source: RuntimeSource

    def __init__(
        self,
        options: RuntimeOptions,
        *,
        name: str,
        gradient: str = "auto",
        shots: int = SHOTS,
        seed: int,
    ) -> None:
        super().__init__(
            RuntimeSource(options, name=name, shots=shots, seed=seed),
            name=name,
            gradient=gradient,
            seed=seed,
            **options.spsa(),
        )
        _ = self.source.session  # what is wrong with it shows here, not in the first step

    def describe(self) -> dict[str, Any]:
        """See `DeviceSession.describe`; only the circuits of this engine."""
        circuits = [made.describe() for made in self.source.made]
        ran = {"circuits": circuits, "calibrations": self.source.calibrations}
        return {**self.source.session.describe(), **ran}


def make_engine(
    options: RuntimeOptions,
    *,
    name: str,
    gradient: str = "auto",
    shots: int | None = None,
    seed: int | None = None,
) -> RuntimeEngine:
    """See `Backend.engine`.

    Without a seed, an engine with a journal takes 0: the same program, run again, asks for the same
    jobs. One that keeps no journal takes a new seed.
    """
    shots = SHOTS if shots is None else shots
    if options.mitigation != "none":
        warn_of_few_shots(shots)
    if seed is None:
        seed = 0 if options.journal is not None or not options.local else fresh_seed()
    return RuntimeEngine(options, name=name, gradient=gradient, shots=shots, seed=seed)


def make_sampler(
    options: RuntimeOptions,
    *,
    name: str,
    shots: int | None = None,
    seed: int | None = None,
) -> RuntimeSampler:
    """See `Backend.sampler`; a seed is which repetition its jobs are."""
    return RuntimeSampler(
        open_session(options, name), repetition=seed, default_shots=shots or SHOTS
    )


def make_estimator(
    options: RuntimeOptions,
    *,
    name: str,
    precision: float = 1 / 64,
    seed: int | None = None,
) -> RuntimeEstimator:
    """See `Backend.estimator`; a seed is which repetition its jobs are."""
    return RuntimeEstimator(
        open_session(options, name), repetition=seed, default_precision=precision
    )


def make_pass_manager(options: RuntimeOptions) -> PassManager:
    """See `Backend.pass_manager`: to one copy of the circuit, where the transpiler puts it."""
    return device_pass_manager(open_device(options), options)
