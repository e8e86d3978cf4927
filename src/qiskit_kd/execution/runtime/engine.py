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

from qiskit_kd.execution.mitigation import warn_of_few_shots
from qiskit_kd.execution.primitives import PrimitiveSource, Program, outcomes
from qiskit_kd.execution.runtime.client import Calibration
from qiskit_kd.execution.runtime.compiler import Compiled, device_pass_manager
from qiskit_kd.execution.runtime.device import open_device
from qiskit_kd.execution.runtime.primitives import RuntimeEstimator, RuntimeSampler
from qiskit_kd.execution.runtime.session import DeviceSession, open_session
from qiskit_kd.execution.runtime.tiling import TiledBatch
from qiskit_kd.execution.sampled import Floats, Key, Measured, SampledEngine, fresh_seed, shares_of
from qiskit_kd.execution.schema import RuntimeOptions

SHOTS = 1024
"""Shots where an entry names none: a device always draws some."""


class RuntimeSource(PrimitiveSource):
    """Rows from a device, or from what stands in for it.

    Args:
        options: An entry of kind `runtime`.
        name: Its name.
        shots: Shots per circuit.
    """

    def __init__(self, options: RuntimeOptions, *, name: str, shots: int) -> None:
        self._entry = (options, name)
        self.mitigates = options.mitigation != "none"
        # Expectation values of several copies, or mitigated here, come from samples.
        estimates = options.tiles == 1 and not self.mitigates
        estimator = self._estimator if estimates else None
        super().__init__(self._sampler, estimator=estimator, shots=shots)
        self._made: dict[int, Compiled] = {}
        self._ran_under: dict[Any, Calibration | None] = {}
        self._session: DeviceSession | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_made": {}, "_ran_under": {}, "_session": None}

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

    def _sampler(self, repetition: int) -> RuntimeSampler:
        return RuntimeSampler(self.session, repetition=repetition, default_shots=self.shots)

    def _estimator(self, repetition: int) -> RuntimeEstimator:
        return RuntimeEstimator(self.session, repetition=repetition)

    def _compile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        compiler = self.session.compiler
        before = compiler.transpilations
        compiled = compiler.compiled(circuit)
        self.usage.transpilations += compiler.transpilations - before
        if self.mitigates:
            compiler.check_mitigation(compiled)
        self._made[id(compiled.circuit)] = compiled  # kept by the compiler, so the id is its own
        return compiled.circuit

    def _submit(self, primitive: Any, pubs: list[Any], circuits: int, key: Key) -> Sequence[Any]:
        results = super()._submit(primitive, pubs, circuits, key)
        journal = self.session.journal
        for job_id in {i for result in results for i in np.ravel(result.metadata["job_id"])}:
            if job_id not in self._ran_under:
                self._ran_under[job_id] = journal.calibration(job_id)
        return results

    def _sample(self, program: Program, settings: Sequence[Floats], key: Key) -> list[Measured]:
        made = [self._made[id(circuit)] for circuit in program.circuits]
        pubs: list[Any] = []
        batches: list[TiledBatch | None] = []
        for one, rows in zip(made, settings, strict=True):
            batch = None if one.tiling is None else one.tiling.tiled(rows, self.shots)
            batches.append(batch)
            pubs.append((one.circuit, rows, self.shots) if batch is None else batch.pub)
        results = self._submit(self.sampler, pubs, 0, key)
        measured = []
        for basis, one, batch, result in zip(program.bases, made, batches, results, strict=True):
            data = result.data if batch is None else batch.untiled(result.data)
            found = outcomes(data.meas)
            raw = basis.of_outcomes(found)
            if not self.mitigates:
                measured.append(Measured(None, raw=raw))
                continue
            copies = np.zeros(len(found), np.intp)
            jobs = np.broadcast_to(result.metadata["job_id"], result.data.shape)
            if batch is not None:
                copies = batch.tile_of
                jobs = batch.each(jobs)
            shares = shares_of(found, len(basis.matrix))
            errors = self._errors(one, copies, jobs)
            measured.append(Measured(shares, (basis.matrix,), errors, raw))
        return measured

    def _errors(
        self, compiled: Compiled, copies: NDArray[np.intp], jobs: NDArray[Any]
    ) -> list[tuple[Any, Sequence[Floats]]]:
        """Readout errors of rows that were measured on these copies by these jobs.

        Each row is corrected by the rates that were in force when its own job ran.
        """
        errors: list[tuple[Any, Sequence[Floats]]] = []
        for job, copy in dict.fromkeys(zip(jobs.tolist(), copies.tolist(), strict=True)):
            known = self._ran_under[job]
            rates = None if known is None else known.readout
            errors.append(((copies == copy) & (jobs == job), compiled.assignments(copy, rates)))
        return errors


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
            RuntimeSource(options, name=name, shots=shots),
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
