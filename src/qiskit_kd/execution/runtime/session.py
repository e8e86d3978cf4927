# SPDX-License-Identifier: Apache-2.0
"""`DeviceSession`: an open device, and what all engines and primitives of an entry share on it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

from qiskit.primitives import PubResult

from qiskit_kd.execution.compiled import CompiledCircuits
from qiskit_kd.execution.pubs import estimator_pubs, sampler_pubs
from qiskit_kd.execution.runtime.client import Client, Job, Kind
from qiskit_kd.execution.runtime.compiler import Compiler
from qiskit_kd.execution.runtime.consent import budget_of, check_budget
from qiskit_kd.execution.runtime.cost import ceiling, cost_of_pubs, join_results, split_pubs, total
from qiskit_kd.execution.runtime.device import LEAST_BUSY, Device, environment, open_device
from qiskit_kd.execution.runtime.jobs import Answer, JobRunner, SubmitPolicy
from qiskit_kd.execution.runtime.journal import JOURNAL, Journal
from qiskit_kd.execution.runtime.local import LocalClient
from qiskit_kd.execution.runtime.serialization import content_key
from qiskit_kd.execution.runtime.service import RuntimeClient
from qiskit_kd.execution.schema import RuntimeOptions

_ACCOUNT = {"account", "instance", "channel", "url"}
_CIRCUITS = _ACCOUNT | {
    "kind",
    "device",
    "proxies",
    "fractional_gates",
    "optimization_level",
    "seed_transpiler",
    "tiles",
    "journal",
}
_ASKED_EACH_TIME = {"description", "gradient", "perturbations", "epsilon", "shots", "mitigation"}

# In the way of every step: read without a call of ours.
_SHOTS, _PRECISION, _CIRCUIT = map(attrgetter, ("shots", "precision", "circuit"))
_DURATION, _DIGEST = map(attrgetter, ("duration", "digest"))


class DeviceSession:
    """A device, its jobs and its circuits.

    Args:
        client: The device and its jobs.
        journal: Where jobs are written down.
        options: An entry of kind `runtime`; `budget_seconds`, `usd_per_second`,
            `max_execution_time` and what changes results are read.
        backend: Name of the entry; the budget is for all jobs of its device and account in the
            journal, whatever their entries are called.
        policy: When jobs are sent, asked for and given up.
        compiler: What makes circuits for the device.

    Raises:
        BudgetError: If a device that is not local has no budget.
        ConfigError: If the budget is not positive.
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        *,
        options: Any,
        backend: str = "runtime",
        policy: SubmitPolicy | None = None,
        compiler: Compiler | None = None,
    ) -> None:
        check_budget(options.budget_seconds, local=client.local, backend=backend)
        self.client, self.journal, self.options, self.backend = client, journal, options, backend
        self.device: Device = client.device
        self._compiler = compiler
        self._circuits = CompiledCircuits(self.device.target)
        self._runner = JobRunner(
            client,
            journal,
            budget=options.budget_seconds,
            usd_per_second=options.usd_per_second,
            policy=policy,
        )
        delay = self.device.rep_delay if options.rep_delay is None else options.rep_delay
        self._rates = {"rep_delay": delay, "usd_per_second": options.usd_per_second}
        self._settings = {k: _result_options(options, k, client.local) for k in get_args(Kind)}

    @property
    def compiler(self) -> Compiler:
        """What makes circuits for the device, and remembers them."""
        if self._compiler is None:
            self._compiler = Compiler(self.device, self.options, self.journal)
        return self._compiler

    @property
    def counts(self) -> dict[str, int]:
        """What this process has done: jobs sent, taken from the journal, found again, cancelled."""
        return self._runner.counts

    def spent(self) -> float:
        """Seconds that this account's jobs on the device have cost, or are about to."""
        return self.journal.spent(self.device.name, self.device.account)

    def perform(
        self,
        kind: Kind,
        pubs: Iterable[Any],
        *,
        repetition: int,
        shots: int | None = None,
        precision: float | None = None,
    ) -> Answer:
        """Have PUBs run, or find out what they gave when they were run before.

        They are one job for each number of shots, or precision, that they name, or as few as the
        limit of a job allows.

        Args:
            kind: `"sampler"` or `"estimator"`.
            pubs: PUBs over circuits of the device.
            repetition: Which of several measurements of the same content this is; a run that is
                repeated names the same ones.
            shots: Shots of a PUB that names none (sampler).
            precision: Standard deviation asked for where a PUB names none (estimator).

        Raises:
            BudgetError: If a job would cross the budget; it was not sent.
            QuotaError: If the account has no time left for it; it was not sent.
            DeviceError: If the device cannot run it; it was not sent.
            AccountError: If the service does not accept the account.
            JobError: If a job fails again and again, or the journal's id is of another circuit.
            TransientError: If the service does not answer. Nothing is lost.
            UncertainJobError: If nobody can say whether a job was sent.
            StorageError: If the journal is damaged.
        """
        if kind == "sampler":
            return self.measure(kind, sampler_pubs(pubs, shots), repetition)
        return self.measure(kind, estimator_pubs(pubs, precision), repetition)

    def measure(self, kind: Kind, coerced: Sequence[Any], repetition: int) -> Answer:
        """See `perform`: of coerced PUBs that name their shots or their precision."""
        groups: dict[Any, list[int]] = {}
        for place, asked in enumerate(map(_SHOTS if kind == "sampler" else _PRECISION, coerced)):
            groups.setdefault(asked, []).append(place)
        answers: list[Answer] = []
        results: dict[int, PubResult] = {}
        for places in groups.values():
            own = list(map(coerced.__getitem__, places))
            job = self._job(kind, own, repetition)
            if job.cost.jobs <= 1:
                answers.append(self._runner.run(job))
                joined = answers[-1].results
            else:
                chunks, parts = split_pubs(own)
                split = [self._runner.run(self._job(kind, one, repetition)) for one in chunks]
                joined = join_results(own, [answer.results for answer in split], parts)
                answers += split
            results.update(zip(places, joined, strict=True))
        if len(answers) == 1:
            return answers[0]
        return Answer(
            [results[place] for place in range(len(coerced))],
            total(answer.cost for answer in answers),
            tuple(i for answer in answers for i in answer.job_ids),
        )

    def _job(self, kind: Kind, pubs: Sequence[Any], repetition: int) -> Job:
        device, options = self.device, self.options
        compiled = tuple(map(self._circuits, map(_CIRCUIT, pubs)))
        durations = list(map(_DURATION, compiled))
        cost = cost_of_pubs(pubs, target=None, durations=durations, **self._rates)
        key = content_key(
            kind,
            pubs,
            list(map(_DIGEST, compiled)),
            device=device.name,
            options=self._settings[kind],
            repetition=repetition,
        )
        limit = None
        if not self.client.local:
            limit = options.max_execution_time or ceiling(cost.seconds)
        return Job(
            key,
            kind,
            tuple(pubs),
            compiled,
            cost=cost,
            backend=self.backend,
            device=device.name,
            account=device.account,
            max_seconds=limit,
            twirled=options.twirling is not None,
        )

    def describe(self) -> dict[str, Any]:
        """Device, calibration, circuits and jobs, for reports."""
        shown = ("job_id", "status", "reason", "seconds", "sent", "finished")
        return {
            "device": self.device.name,
            "calibrated": self.device.calibrated,
            "budget_seconds": self.options.budget_seconds,
            "spent_seconds": self.spent(),
            "counts": dict(self.counts),
            "circuits": [compiled.describe() for compiled in self.compiler.all()],
            "jobs": [
                {name: getattr(one, name) for name in shown}
                for record in self.journal.jobs("backend = ?", self.backend)
                for one in self.journal.attempts(record.key)
            ],
        }


def _result_options(options: Any, kind: Kind, local: bool) -> dict[str, Any]:
    """Settings that change what a job gives, as plain data; here, all but one change nothing."""
    found: dict[str, Any] = {"rep_delay": options.rep_delay}
    for name in ("dynamical_decoupling", "twirling", "resilience_level"):
        if name != "resilience_level" or kind == "estimator":
            value: Any = None if local else getattr(options, name, None)
            found[name] = value.model_dump() if hasattr(value, "model_dump") else value
    return found


def open_client(options: RuntimeOptions) -> Client:
    """A client of the device that `options` name, with the errors of `open_device`."""
    device = open_device(options)
    device.check_rep_delay(options.rep_delay)
    return LocalClient(device, options) if device.local else RuntimeClient(device, options)


def open_session(options: RuntimeOptions, name: str) -> DeviceSession:
    """The session of an entry called `name`: the same one for the same question in one process.

    Raises:
        BudgetError: If a device that is not local has no budget; nobody is asked for anything.
        ConfigError: If the budget is not positive.
        StorageError: If the journal is damaged.
        ExecutionError: See `open_device`.
    """
    budget, path = budget_of(options), options.journal
    check_budget(budget, local=options.local, backend=name)
    if path is None and not options.local:
        path = Path(JOURNAL)
    path = None if path is None else path.absolute()
    options = options.model_copy(update={"budget_seconds": budget, "journal": path})
    return _session(options.model_dump_json(exclude=_ASKED_EACH_TIME), name, _place(path))


def _place(journal: Path | None) -> tuple[Any, ...]:
    """What else a session depends on.

    The environment may name another account by the next call, an open file is no good in a process
    that was forked, and a journal that was deleted and made again is another one. One that is
    missing is made.
    """
    file = None
    if journal is not None:
        try:
            journal.parent.mkdir(parents=True, exist_ok=True)
            journal.touch()
            found = journal.stat()
            file = found.st_dev, found.st_ino
        except OSError:
            pass  # said by the journal, which is opened next
    return file, environment(), os.getpid()


@lru_cache(maxsize=16)
def _session(settings: str, name: str, place: tuple[Any, ...]) -> DeviceSession:
    options = RuntimeOptions.model_validate(json.loads(settings))
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
    compiler = _compiler(options.model_dump_json(include=_CIRCUITS), place)
    return DeviceSession(client, journal, options=options, backend=name, compiler=compiler)


@lru_cache(maxsize=16)
def _compiler(settings: str, place: tuple[Any, ...]) -> Compiler:
    """One for all entries that place circuits alike, so that each circuit is transpiled once."""
    del place  # a part of the question
    options = RuntimeOptions.model_validate(json.loads(settings))
    return Compiler(open_device(options), options, Journal(options.journal))
