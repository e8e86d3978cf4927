# SPDX-License-Identifier: Apache-2.0
"""What circuits cost on a quantum processor: executions, jobs, seconds, price.

IBM's documented estimate: a job takes two seconds, and each execution of a circuit its own length
and the delay in front of it. Plain numbers in and out, so that the same formula prices a job before
it is sent, an experiment before it is started, and a job that a simulator ran instead of a device.

References: IBM Quantum documentation, "Estimate job run time" and "Job limits".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.primitives import BitArray, DataBin, PubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import SparsePauliOp

from qiskit_kd.circuits.readouts import Observables
from qiskit_kd.errors import ConfigError
from qiskit_kd.execution.compiled import circuit_duration
from qiskit_kd.execution.measurement import bases
from qiskit_kd.execution.runtime.device import DEFAULT_REP_DELAY

if TYPE_CHECKING:
    from qiskit.transpiler import Target

    from qiskit_kd.execution.expansion import Expansion

JOB_SECONDS = 2.0
"""Seconds a job takes besides its executions."""
MAX_EXECUTIONS = 10_000_000
"""Executions (circuits times shots) of a job at most."""
PER_MINUTE = 5
"""Jobs that may be sent in a minute, by all processes that share a journal."""
FREE_SECONDS = 600.0
"""Seconds of IBM's free plan, in any 28 days."""
JOB_LIMIT_SECONDS = 10_800
"""Seconds of the device that IBM lets a job take at most."""
STOCK_SHOTS = 4096
"""Shots of IBM's sampler where nobody names a number."""

_LEAST_CEILING, _MARGIN = 60, 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What some jobs cost: bound circuits times shots, jobs, PUBs, device seconds, a price."""

    executions: int = 0
    jobs: int = 0
    pubs: int = 0
    seconds: float = 0.0
    usd: float | None = 0.0

    def __add__(self, other: Cost) -> Cost:
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Cost(
            self.executions + other.executions,
            self.jobs + other.jobs,
            self.pubs + other.pubs,
            self.seconds + other.seconds,
            usd,
        )

    def __mul__(self, times: int) -> Cost:
        return Cost(
            self.executions * times,
            self.jobs * times,
            self.pubs * times,
            self.seconds * times,
            None if self.usd is None else self.usd * times,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary, for tables and records."""
        return asdict(self)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum; nothing at all costs nothing."""
    return sum(costs, Cost())


@dataclass(frozen=True, slots=True)
class Tariff:
    """What one execution costs: seconds of the circuit and in front of it, a price if known."""

    duration: float
    rep_delay: float = DEFAULT_REP_DELAY
    usd_per_second: float | None = None

    def __post_init__(self) -> None:
        if self.duration < 0 or self.rep_delay < 0:
            raise ConfigError(
                "an execution takes no negative time",
                got=f"a circuit of {self.duration} s, a delay of {self.rep_delay} s",
                expected="seconds from 0 on",
            )

    def cost(self, rows: int, shots: int, *, pubs: int = 1) -> Cost:
        """PUBs of `rows` circuits each, in as few jobs as may be; one that is cut counts twice."""
        if rows == 0:
            return Cost()
        jobs, sent = -(-rows * pubs // rows_per_job(shots)), pubs
        if jobs > 1:
            sent = sum(map(len, split_rows([rows] * pubs, shots)))
        executions = rows * pubs * shots
        running = executions * (self.rep_delay + self.duration)
        return _priced(executions, jobs, sent, running, self.usd_per_second)


def _priced(executions: int, jobs: int, pubs: int, running: float, price: float | None) -> Cost:
    """The formula: what each job takes, and its executions' own seconds."""
    seconds = jobs * JOB_SECONDS + running
    return Cost(executions, jobs, pubs, seconds, None if price is None else seconds * price)


def ceiling(estimate: float) -> int:
    """Seconds after which a job is cut off where nobody names a limit.

    Far above what is expected of it, so that an estimate that is off cuts off nothing; far below
    what a service allows, so that one job cannot use up a budget.
    """
    return min(JOB_LIMIT_SECONDS, max(_LEAST_CEILING, math.ceil(_MARGIN * estimate)))


def rows_per_job(shots: int) -> int:
    """Bound circuits that one job may hold.

    Raises:
        ConfigError: If a single circuit with so many shots is too much for a job.
    """
    if not 1 <= shots <= MAX_EXECUTIONS:
        raise ConfigError(
            "the shots of a circuit fit into one job",
            got=f"{shots:,}",
            expected=f"1 to {MAX_EXECUTIONS:,}",
            remedy="Use fewer shots.",
        )
    return MAX_EXECUTIONS // shots


def split_rows(sizes: Sequence[int], shots: int) -> list[list[tuple[int, slice]]]:
    """Jobs that hold PUBs of these sizes, each as full as the limit of a job allows.

    Returns:
        For each job the places of its PUBs and the rows of them, in order.
    """
    room = most = rows_per_job(shots)
    jobs: list[list[tuple[int, slice]]] = [[]]
    for place, size in enumerate(sizes):
        start = 0
        while start < size:
            if room == 0:
                jobs.append([])
                room = most
            stop = min(size, start + room)
            jobs[-1].append((place, slice(start, stop)))
            room -= stop - start
            start = stop
    return [job for job in jobs if job]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an engine: what was asked for, not yet how it is answered.

    Args:
        rows: Samples.
        settings: Sets of weights evaluated side by side.
        weights: Whether the gradient of the weights is wanted.
        features: Whether that of the samples is.
    """

    rows: int
    settings: int = 1
    weights: bool = False
    features: bool = False


def gradient_points(expansion: Expansion, gradient: str, *, perturbations: int = 4) -> int:
    """Evaluations per sample for the gradient of the weights; `"auto"` is SPSA here."""
    if gradient == "shift":
        return 2 * sum(map(len, expansion.weight_frequencies))
    return 2 * perturbations


def circuits_of(call: Call, expansion: Expansion, gradient: str, *, perturbations: int = 4) -> int:
    """Bound circuits of a call, in each basis of the readout."""
    points = 1
    if call.weights:
        points += gradient_points(expansion, gradient, perturbations=perturbations)
    if call.features:  # always by parameter shift: samples do not share their inputs
        points += 2 * sum(map(len, expansion.input_frequencies))
    return call.settings * call.rows * points


def cost_of_call(
    call: Call,
    expansion: Expansion,
    tariff: Tariff,
    *,
    shots: int,
    gradient: str = "auto",
    perturbations: int = 4,
    tiles: int = 1,
) -> Cost:
    """What one call of an engine costs, with `tiles` copies of the circuit side by side."""
    circuits = circuits_of(call, expansion, gradient, perturbations=perturbations)
    measures = len(bases(expansion.model.readout))
    return tariff.cost(-(-circuits // tiles), shots, pubs=measures)


def stock_cost(
    call: Call, expansion: Expansion, tariff: Tariff, *, shots: int = STOCK_SHOTS
) -> Cost:
    """What stock networks of qiskit-machine-learning cost for the same call.

    `SamplerQNN` with parameter shift runs two circuits per weight and sample (more where a weight
    enters several rotations), each a PUB of its own, in a job apart from the forward one.
    `EstimatorQNN` does so for every observable. Gradients of samples are not counted.
    """
    model = expansion.model
    outputs = model.num_outputs if isinstance(model.readout, Observables) else 1
    circuits = call.settings * call.rows
    forward = tariff.cost(circuits, shots, pubs=outputs)
    if not call.weights:
        return forward
    shifted = circuits * outputs * gradient_points(expansion, "shift")
    return forward + tariff.cost(min(shifted, 1), shots, pubs=shifted)


def cost_of_pubs(
    pubs: Sequence[Any],
    *,
    target: Target | None,
    rep_delay: float | None = None,
    shots: int | None = None,
    usd_per_second: float | None = None,
    durations: Sequence[float] | None = None,
) -> Cost:
    """What PUBs that are ready to be sent cost.

    Args:
        pubs: Coerced sampler or estimator PUBs over transpiled circuits. An estimator measures each
            group of observables that commute qubit by qubit on its own.
        target: The device's target.
        rep_delay: Delay before each execution in seconds; None for the default of devices.
        shots: Shots where a PUB names none.
        usd_per_second: Price of a second.
        durations: Seconds of each circuit, where they are known.

    Raises:
        ConfigError: If a PUB names no shots and there are no others.
    """
    delay = DEFAULT_REP_DELAY if rep_delay is None else rep_delay
    lengths = durations or [circuit_duration(pub.circuit, target) for pub in pubs]
    circuits = executions = most = 0
    running = 0.0
    for pub, length in zip(pubs, lengths, strict=True):
        rows, count = _size(pub, shots)
        circuits, executions, most = circuits + rows, executions + rows * count, max(most, count)
        running += rows * count * (delay + length)
    if not circuits:
        return Cost()
    jobs = -(-circuits // rows_per_job(most))
    return _priced(executions, jobs, len(pubs), running, usd_per_second)


def _size(pub: Any, shots: int | None = None) -> tuple[int, int]:
    """Bound circuits of a PUB, and the shots of each, where it names none `shots`."""
    rows: int = pub.parameter_values.size
    if hasattr(pub, "observables"):
        count = max(1, round(pub.precision**-2)) if pub.precision else shots
        rows *= _groups(pub.observables)
    else:
        count = pub.shots or shots
    if count is None:
        raise ConfigError(
            "a price needs the number of shots",
            got="a PUB without shots",
            remedy="Name the shots of the PUB or of the job.",
        )
    return rows, count


def _groups(observables: Any) -> int:
    """Measurement settings of observables."""
    terms = {term for entry in observables.ravel().tolist() for term in entry}
    if any(set(term) - set("IXYZ") for term in terms):  # projectors: each one a setting at most
        return len(terms)
    return len(SparsePauliOp(sorted(terms)).group_commuting(qubit_wise=True))


_Parts = list[list[tuple[int, slice]]]


def split_pubs(pubs: Sequence[Any]) -> tuple[list[list[Any]], _Parts]:
    """PUBs that are too much for one job in as few as may be, and which rows are in each."""
    sizes = [pub.parameter_values.size for pub in pubs]
    each = [math.prod(_size(pub)) // max(1, size) for pub, size in zip(pubs, sizes, strict=True)]
    parts = split_rows(sizes, max(each))
    return [[_rows_of(pubs[place], rows) for place, rows in job] for job in parts], parts


def join_results(
    pubs: Sequence[Any], answers: Sequence[Sequence[PubResult]], parts: _Parts
) -> list[PubResult]:
    """The results of the PUBs that `split_pubs` divided, and the `job_id` of each row."""
    pieces: list[list[PubResult]] = [[] for _ in pubs]
    for job, results in zip(parts, answers, strict=True):
        for (place, _), result in zip(job, results, strict=True):
            pieces[place].append(result)
    return [_join(pub, piece) for pub, piece in zip(pubs, pieces, strict=True)]


def _rows_of(pub: Any, rows: slice) -> Any:
    size = pub.parameter_values.size
    if rows == slice(0, size):
        return pub
    values = pub.parameter_values.ravel()[rows]
    if isinstance(pub, SamplerPub):
        return SamplerPub(pub.circuit, values, shots=pub.shots)
    # Observables must be the same for every row: they lie along axes in front of the rows.
    if pub.parameter_values.ndim != 1 or pub.observables.shape[-1:] not in ((), (1,)):
        raise ConfigError(
            f"a job has at most {MAX_EXECUTIONS:,} executions, and rows of values are divided",
            got=f"observables of shape {pub.observables.shape} beside values of shape "
            f"{pub.parameter_values.shape}",
            expected="observables (K, 1) beside values (N,)",
            remedy="Divide the PUB by hand.",
        )
    return EstimatorPub(pub.circuit, pub.observables, values, precision=pub.precision)


def _join(pub: Any, pieces: Sequence[PubResult]) -> PubResult:
    if len(pieces) == 1:
        return pieces[0]
    data: dict[str, Any] = {}
    for name in pieces[0].data:
        found = [piece.data[name] for piece in pieces]
        if isinstance(found[0], BitArray):
            data[name] = BitArray.concatenate(found).reshape(pub.shape)
        else:
            data[name] = np.concatenate(found, axis=-1)
    ids = [
        i
        for piece, count in zip(pieces, map(_count, pieces), strict=True)
        for i in [piece.metadata.get("job_id")] * count
    ]
    return PubResult(DataBin(shape=pub.shape, **data), {**pieces[0].metadata, "job_id": ids})


def _count(piece: PubResult) -> int:
    return int(piece.data.shape[-1])
