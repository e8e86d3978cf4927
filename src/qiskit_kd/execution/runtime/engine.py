# SPDX-License-Identifier: Apache-2.0
"""Engines and primitives behind entries of kind `runtime`: one job and one PUB a step.

A `Station` is what all engines of an entry share in a process: the client, the journal, and the
circuits that were transpiled for the device.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
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
from qiskit_kd.execution.rows import Block, RawEngine, fresh_seed, unpack
from qiskit_kd.execution.runtime.client import Calibration
from qiskit_kd.execution.runtime.compiler import Compiled, Compiler, device_pass_manager
from qiskit_kd.execution.runtime.consent import budget_of
from qiskit_kd.execution.runtime.device import LEAST_BUSY, Device, open_device
from qiskit_kd.execution.runtime.dispatch import Dispatcher, check_budget
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.sampler import RuntimeEstimator, RuntimeSampler
from qiskit_kd.execution.runtime.service_client import open_client
from qiskit_kd.execution.runtime.tiling import TiledBatch
from qiskit_kd.execution.schema import RuntimeOptions

__all__ = [
    "JOURNAL",
    "RuntimeEngine",
    "RuntimeSource",
    "Station",
    "make_engine",
    "make_estimator",
    "make_pass_manager",
    "make_sampler",
    "open_station",
]

JOURNAL = "qiskit_kd-jobs.db"
"""Journal of a device's jobs, in the working directory, where an entry names no other."""

SHOTS = 1024
"""Shots where an entry names none: a device always draws some."""

_COPIES = 4  # tables of frequencies that mitigation holds at once


@dataclass(frozen=True, eq=False)
class Station:
    """What the engines of an entry share.

    Args:
        device: The device.
        dispatcher: What sends jobs.
        compiler: What makes circuits for the device.
        options: The entry, with the name of the device that `least_busy` stood for.
    """

    device: Device
    dispatcher: Dispatcher
    compiler: Compiler
    options: RuntimeOptions

    def describe(self) -> dict[str, Any]:
        """Device, calibration, circuits and jobs, for reports."""
        journal, backend = self.dispatcher.journal, self.dispatcher.backend
        return {
            "device": self.device.name,
            "calibrated": self.device.calibrated,
            "budget_seconds": self.options.budget_seconds,
            "spent_seconds": self.dispatcher.spent(),
            "counts": dict(self.dispatcher.counts),
            "circuits": [compiled.describe() for compiled in self.compiler.all()],
            "jobs": [
                {
                    "job_id": one.job_id, "status": one.status, "reason": one.reason,
                    "seconds": one.seconds, "sent": one.sent, "finished": one.finished,
                }
                for record in journal.jobs("backend = ?", backend)
                for one in journal.attempts(record.key)
            ],
        }  # fmt: skip


def open_station(options: RuntimeOptions, name: str) -> Station:
    """The station of an entry: the same one for the same question in one process.

    Args:
        options: An entry of kind `runtime`.
        name: Its name; the budget is that of all its jobs in the journal.

    Raises:
        BudgetError: If a device that is not local has no budget; nobody is asked for anything.
        ConfigError: If the budget is not positive.
        StorageError: If the journal is damaged.
        AccountError: If there is no account, or the service does not accept it.
        DeviceError: If there is no such device.
        TransientError: If the service cannot be reached.
    """
    options = options.model_copy(update={"budget_seconds": budget_of(options)})
    check_budget(options.budget_seconds, local=options.local, backend=name)
    path = options.journal
    if path is None and not options.local:
        path = Path(JOURNAL)
    options = options.model_copy(update={"journal": None if path is None else path.absolute()})
    return _station(_Entry(options, name, _identity(options.journal)))


_ACCOUNT = {"account", "instance", "channel", "url"}
_PLACES = {"device", "account", "instance", "channel", "url", "proxies", "fractional_gates"}
_CIRCUITS = _PLACES | {"optimization_level", "seed_transpiler", "tiles", "journal"}
_ASKED_EACH_TIME = {"description", "gradient", "perturbations", "epsilon", "shots", "mitigation"}


class _Entry:
    """A question to a cache: some settings of an entry, in this process and environment.

    Args:
        options: The entry.
        name: Its name.
        file: Which file its journal is: one that was deleted and made again is another.
        only: Settings that the answer depends on; None for all that do not come with each call.
    """

    def __init__(
        self, options: RuntimeOptions, name: str, file: Any, only: set[str] | None = None
    ) -> None:
        self.options, self.name, self.file = options, name, file
        leave = None if only else _ASKED_EACH_TIME
        # The environment may name another account by the next call, and an open file is no good in
        # a process that was forked.
        account = [v for k, v in sorted(os.environ.items()) if k.startswith("QISKIT_IBM_")]
        self._key = (
            "" if only else name, options.model_dump_json(include=only, exclude=leave), file,
            hash(tuple(account)), os.getpid(),
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Entry) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Which file a path means now; one that is missing is made. None if that cannot be done."""
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        found = path.stat()
    except OSError:
        return None  # said by the journal, which is opened next
    return found.st_dev, found.st_ino


@lru_cache(maxsize=16)
def _station(entry: _Entry) -> Station:
    options = entry.options
    journal = Journal(options.journal)
    if options.device == LEAST_BUSY:
        # Tomorrow another device is the least busy one, and has not run the jobs of today.
        # All entries of an account share it: they are stages of one study.
        asked = options.model_dump_json(include=_ACCOUNT)
        pin = f"device:{hashlib.sha256(asked.encode()).hexdigest()}"
        chosen = journal.pinned(pin)
        if chosen is None:
            chosen = journal.pin(pin, open_device(options).name.encode())
        options = options.model_copy(update={"device": chosen.decode(errors="replace")})
    client = open_client(options)
    dispatcher = Dispatcher(client, journal, options=options, backend=entry.name)
    compiler = _compiler(_Entry(options, entry.name, entry.file, _CIRCUITS))
    return Station(client.device, dispatcher, compiler, options)


@lru_cache(maxsize=16)
def _compiler(entry: _Entry) -> Compiler:
    """One for all entries that place circuits alike, so that each circuit is transpiled once."""
    return Compiler(open_device(entry.options), entry.options, Journal(entry.options.journal))


class RuntimeSource(PrimitiveSource):
    """Rows from a device, or from what stands in for it.

    Args:
        options: An entry of kind `runtime`.
        name: Its name.
        shots: Shots per circuit.
        seed: Root seed of the jobs' occasions.
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
        self._station: Station | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            **super().__getstate__(), "_made": {}, "_ran_under": {}, "_station": None, "_raw": None
        }  # fmt: skip

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
    def station(self) -> Station:
        """The client, the journal and the compiler."""
        if self._station is None:
            self._station = open_station(*self._entry)
        return self._station

    def evaluate(self, expansion: Expansion, blocks: Sequence[Block]) -> list[NDArray[np.float64]]:
        """See `Source.evaluate`; keeps `raw` as well."""
        self._raw = None
        values = super().evaluate(expansion, blocks)
        self.raw = values if self._raw is None else unpack(self._raw, blocks)
        return values

    def _sampler(self, occasion: int) -> RuntimeSampler:
        return RuntimeSampler(self.station.dispatcher, occasion=occasion, default_shots=self.shots)

    def _estimator(self, occasion: int) -> RuntimeEstimator:
        return RuntimeEstimator(self.station.dispatcher, occasion=occasion)

    def _compile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        compiler = self.station.compiler
        before = compiler.transpilations
        compiled = compiler.compiled(circuit)
        self.usage.transpilations += compiler.transpilations - before
        if self.mitigated:
            compiler.check_mitigation(compiled)
        self._made[id(compiled.circuit)] = compiled  # kept by the compiler, so the id is its own
        return compiled.circuit

    def _submit(self, primitive: Any, pubs: list[Any], *, circuits: int) -> Sequence[Any]:
        results = super()._submit(primitive, pubs, circuits=circuits)
        journal = self.station.dispatcher.journal
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
        self, basis: Basis, compiled: Compiled, found: NDArray[np.int64],
        copies: NDArray[np.intp], jobs: NDArray[Any],
    ) -> NDArray[np.float64]:  # fmt: skip
        """`(rows, shots)` outcomes, measured on these copies by these jobs, to values.

        Each row is corrected by the rates that were in force when its own job ran.
        """
        rows, size = len(found), len(basis.matrix)
        require_memory(
            8 * _COPIES * rows * size, f"the shots of {rows:,} circuits by {size:,} outcomes",
            "Use a smaller batch, or read fewer qubits.",
        )  # fmt: skip
        flat = found + np.arange(rows)[:, None] * size
        shares = np.bincount(flat.ravel(), minlength=rows * size).reshape(rows, size)
        shares = shares / found.shape[1]
        for job, copy in dict.fromkeys(zip(jobs.tolist(), copies.tolist(), strict=True)):
            there, known = (copies == copy) & (jobs == job), self._ran_under[job]
            rates = None if known is None else known.readout
            shares[there] = mitigate(shares[there], compiled.assignments(copy, rates))
        return basis.of_probabilities(shares)


class RuntimeEngine(RawEngine):
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
        seed: Root seed of perturbations and of the jobs' occasions: a run with the same seed asks
            for the same jobs.

    Raises:
        UnknownNameError: If the gradient rule is unknown.
        BudgetError: If a device that is not local has no budget.
    """

    source: RuntimeSource

    def __init__(
        self, options: RuntimeOptions, *, name: str, gradient: str = "auto", shots: int = SHOTS,
        seed: int,
    ) -> None:  # fmt: skip
        super().__init__(
            RuntimeSource(options, name=name, shots=shots, seed=seed), name=name,
            gradient=gradient, seed=seed, **options.spsa(),
        )  # fmt: skip
        _ = self.source.station  # what is wrong with it shows here, not in the first step

    def describe(self) -> dict[str, Any]:
        """See `Station.describe`; only the circuits of this engine."""
        circuits = [made.describe() for made in self.source.made]
        ran = {"circuits": circuits, "calibrations": self.source.calibrations}
        return {**self.source.station.describe(), **ran}


def make_engine(
    options: RuntimeOptions, *, name: str, gradient: str = "auto", shots: int | None = None,
    seed: int | None = None,
) -> RuntimeEngine:  # fmt: skip
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
    options: RuntimeOptions, *, name: str, shots: int | None = None,
    seed: int | None = None,
) -> RuntimeSampler:  # fmt: skip
    """See `Backend.sampler`; a seed is the occasion of its jobs."""
    return RuntimeSampler(
        open_station(options, name).dispatcher, occasion=seed, default_shots=shots or SHOTS
    )


def make_estimator(
    options: RuntimeOptions, *, name: str, precision: float = 1 / 64,
    seed: int | None = None,
) -> RuntimeEstimator:  # fmt: skip
    """See `Backend.estimator`; a seed is the occasion of its jobs."""
    return RuntimeEstimator(
        open_station(options, name).dispatcher, occasion=seed, default_precision=precision
    )


def make_pass_manager(options: RuntimeOptions) -> PassManager:
    """See `Backend.pass_manager`: to one copy of the circuit, where the transpiler puts it."""
    return device_pass_manager(open_device(options), options)
