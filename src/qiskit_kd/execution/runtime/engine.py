# SPDX-License-Identifier: Apache-2.0
"""The engine behind entries of kind `runtime`: one job and one PUB a step."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.primitives import PubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub

from qiskit_kd.execution.primitives import PrimitiveSource, Program, outcomes
from qiskit_kd.execution.runtime.client import Calibration
from qiskit_kd.execution.runtime.compiler import Compiled
from qiskit_kd.execution.runtime.session import DeviceSession, open_session
from qiskit_kd.execution.runtime.tiling import TiledBatch
from qiskit_kd.execution.sampled import Floats, Key, Measured, SampledEngine, shares_of
from qiskit_kd.execution.schema import RuntimeOptions
from qiskit_kd.seeding import derive


class RuntimeSource(PrimitiveSource):
    """Rows from the device of an entry of kind `runtime`, or from what stands in for it."""

    def __init__(self, options: RuntimeOptions, *, name: str, shots: int) -> None:
        self._entry = (options, name)
        self.mitigates = options.mitigation != "none"
        super().__init__(None, shots=shots)
        # Expectation values of several copies, or mitigated here, come from samples.
        self.samples, self.estimates = True, options.tiles == 1 and not self.mitigates
        self._made: dict[int, Compiled] = {}
        self._ran_under: dict[Any, Calibration | None] = {}
        self._session: DeviceSession | None = open_session(options, name)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_made": {}, "_ran_under": {}, "_session": None}

    @property
    def session(self) -> DeviceSession:
        """The client, the journal and the compiler."""
        if self._session is None:
            self._session = open_session(*self._entry)
        return self._session

    def describe(self) -> dict[str, Any]:
        """Its circuits; ISO dates of the calibrations its jobs ran under, as far as known."""
        dates = {found.date for found in self._ran_under.values() if found is not None}
        return {
            "circuits": [made.describe() for made in self._made.values()],
            "calibrations": sorted(
                dates, key=lambda date: datetime.fromisoformat(date).timestamp()
            ),
        }

    def _compile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        compiler = self.session.compiler
        before = compiler.transpilations
        compiled = compiler.compiled(circuit)
        self.usage.transpilations += compiler.transpilations - before
        if self.mitigates:
            compiler.check_mitigation(compiled)
        self._made[id(compiled.circuit)] = compiled  # kept by the compiler, so the id is its own
        return compiled.circuit

    def _submit(self, kind: Any, pubs: list[Any], circuits: int, key: Key) -> list[PubResult]:
        del circuits  # the session counts
        coerce = SamplerPub.coerce if kind == "sampler" else EstimatorPub.coerce
        session, usage = self.session, self.usage
        answer = session.measure(kind, list(map(coerce, pubs)), derive(*key))
        usage.jobs += answer.cost.jobs
        usage.pubs += answer.cost.pubs
        usage.executions += answer.cost.executions
        usage.qpu_seconds += answer.cost.seconds
        for job_id in answer.job_ids:
            if job_id not in self._ran_under:
                self._ran_under[job_id] = session.journal.calibration(job_id)
        return answer.results

    def _sample(self, program: Program, settings: Sequence[Floats], key: Key) -> list[Measured]:
        made = [self._made[id(circuit)] for circuit in program.circuits]
        pubs: list[Any] = []
        batches: list[TiledBatch | None] = []
        for one, rows in zip(made, settings, strict=True):
            batch = None if one.tiling is None else one.tiling.tiled(rows, self.shots)
            batches.append(batch)
            pubs.append((one.circuit, rows, self.shots) if batch is None else batch.pub)
        results = self._submit("sampler", pubs, 0, key)
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
    the journal: a run with the same seed asks for the same jobs. Observables that are not diagonal
    are estimated by the service's estimator, with its own mitigation, unless copies of the circuit
    run side by side or readout errors are undone here: then they are sampled, one PUB per basis.
    """

    source: RuntimeSource

    def describe(self) -> dict[str, Any]:
        """See `DeviceSession.describe`; only the circuits of this engine."""
        return {**self.source.session.describe(), **self.source.describe()}
