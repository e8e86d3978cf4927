# SPDX-License-Identifier: Apache-2.0
"""Devices that this machine plays, behind the same calls as the service: nothing is sent or paid.

Shots are drawn from the exact noisy probabilities of a circuit's independent parts. The noise is
the device's own: gate errors, relaxation while waiting, readout errors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.primitives import (
    BaseEstimatorV2,
    BaseSamplerV2,
    BitArray,
    DataBin,
    PrimitiveJob,
    PrimitiveResult,
    PubResult,
    SamplerPubResult,
)
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub

from qiskit_kd.errors import JobError
from qiskit_kd.execution.compiled import CompiledCircuit
from qiskit_kd.execution.memory import require_memory
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.pubs import estimator_pubs, sampler_pubs
from qiskit_kd.execution.runtime.client import Job, JobState
from qiskit_kd.execution.runtime.device import Device
from qiskit_kd.execution.runtime.simulator import LocalSimulator
from qiskit_kd.execution.schema import Noise, RuntimeOptions
from qiskit_kd.execution.snapshots import open_noise
from qiskit_kd.seeding import derive, stream

Floats = NDArray[np.float64]
_DEFAULT_PRECISION = 1 / 64  # as IBM's own estimator
_PREFIX = "local-"
_KEPT = 16  # jobs: whoever sends one fetches its results next


class LocalClient:
    """Runs each job as it is submitted; its jobs end with the process.

    Shots are a function of the entry's seed, the job's tag and its content.

    Args:
        device: A fake device, or Aer.
        options: How its jobs are run. Decoupling and twirling change nothing here: the noise of a
            simulated gate is that of its calibration.
    """

    local = True

    def __init__(self, device: Device, options: RuntimeOptions) -> None:
        self.device = device
        self._options = options
        self._jobs: dict[str, tuple[JobState, list[PubResult]]] = {}
        self._simulator: LocalSimulator | None = None

    def __repr__(self) -> str:
        return f"LocalClient({self.device.name!r})"

    def submit(self, job: Job) -> str:
        """See `Client.submit`; a job is charged what it would have been on the device."""
        self.device.check_pubs(job.pubs, job.compiled)
        if self._simulator is None:
            aer = self.device.name == "aer"
            noise = None if aer else open_noise(Noise(device=self.device.name), 0)
            self._simulator = LocalSimulator(noise)
            self._primitives = {
                "sampler": LocalSampler(self._simulator),
                "estimator": LocalEstimator(self._simulator),
            }
        primitive = self._primitives[job.kind]
        seed = derive(self._options.seed or 0, "runtime", job.tag)
        results = primitive.results(job.pubs, job.compiled, seed)
        while len(self._jobs) >= _KEPT:
            del self._jobs[next(iter(self._jobs))]
        job_id = _PREFIX + job.tag
        self._jobs[job_id] = JobState(job_id, "done", seconds=job.cost.seconds), results
        return job_id

    def find(self, tag: str) -> list[JobState]:
        """See `Client.find`."""
        return [self._jobs[job_id][0]] if (job_id := _PREFIX + tag) in self._jobs else []

    def state(self, job_id: str) -> JobState:
        """See `Client.state`. A job of an earlier process counts as failed: it is sent again."""
        if job_id in self._jobs:
            return self._jobs[job_id][0]
        return JobState(job_id, "failed", "it ended with the process that ran it")

    def tag_of(self, job_id: str) -> str | None:
        """See `Client.tag_of`."""
        return job_id.removeprefix(_PREFIX) if job_id.startswith(_PREFIX) else None

    def result(self, job_id: str, *, timeout: float | None = None) -> list[PubResult]:
        """See `Client.result`."""
        del timeout
        if job_id not in self._jobs:
            raise JobError(
                f"the job {job_id} was run in this process",
                got="a job of another process",
                remedy="Run the same command again to run it anew.",
                job_id=job_id,
            )
        return self._jobs[job_id][1]

    def cancel(self, job_id: str) -> None:
        """See `Client.cancel`: all of them have ended."""

    def remaining_seconds(self) -> float | None:
        """See `Client.remaining_seconds`: nobody counts them."""
        return None

    def calibration(self, began: str | None) -> None:
        """See `Client.calibration`: the stored one stays as it is."""

    def close(self) -> None:
        """See `Client.close`."""


class _Local:
    """What both primitives share: circuits by content, and the random numbers of each."""

    def __init__(self, device: DeviceNoise | LocalSimulator | None, seed: int = 0) -> None:
        self.simulator = device if isinstance(device, LocalSimulator) else LocalSimulator(device)
        self.seed = seed

    def results(
        self, pubs: Sequence[Any], compiled: Sequence[CompiledCircuit], seed: int
    ) -> list[PubResult]:
        """What coerced PUBs give; the circuit of each as somebody knows it already."""
        known = compiled or [self.simulator.compiled(pub.circuit) for pub in pubs]
        return [self._one(*both, (seed, k)) for k, both in enumerate(zip(pubs, known, strict=True))]

    def _one(self, pub: Any, compiled: CompiledCircuit, key: tuple[int, int]) -> PubResult:
        raise NotImplementedError

    def _job(self, pubs: Sequence[Any]) -> PrimitiveJob[Any]:
        results = self.results(pubs, (), self.seed)
        job: PrimitiveJob[Any] = PrimitiveJob(lambda: PrimitiveResult(results))
        job._submit()  # noqa: SLF001 - as Qiskit's own primitives do
        return job


class LocalSampler(_Local, BaseSamplerV2):  # type: ignore[misc]
    """A V2 sampler that simulates a device, however wide, by its independent parts.

    Shots are a function of the seed, the circuit's content, its values and its place in the job.

    Args:
        device: Gates and noise; None for perfect gates; a `LocalSimulator` to share its circuits.
        seed: Seed of the shots.
        default_shots: Shots where a PUB or `run` names none.
    """

    def __init__(
        self,
        device: DeviceNoise | LocalSimulator | None,
        seed: int = 0,
        *,
        default_shots: int = 1024,
    ) -> None:
        super().__init__(device, seed)
        self.default_shots = default_shots

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> Any:
        """See `BaseSamplerV2.run`.

        Raises:
            CircuitError: If a circuit measures nothing, is wider than the device, has a gate that
                the device lacks, or goes on after a measurement.
        """
        return self._job(sampler_pubs(pubs, self.default_shots if shots is None else shots))

    def _one(self, pub: SamplerPub, compiled: CompiledCircuit, key: tuple[int, int]) -> PubResult:
        parts = self.simulator.parts(compiled)
        values = _rows(pub)
        registers = compiled.registers
        size = len(values) * pub.shots
        require_memory(
            size * (16 + sum(map(itemgetter(2), registers))),
            f"{len(values):,} circuits with {pub.shots:,} shots each",
            "Use a smaller batch or fewer shots.",
        )
        arrays = {name: np.zeros((size, width), np.uint8) for name, _, width in registers}
        generator = _stream(key, compiled, values, pub.shots)
        for part in parts:
            outcomes = _draw(part.probabilities(values), pub.shots, generator).ravel()
            for name, table in part.tables.items():
                arrays[name] |= table[outcomes]
        data = {}
        for name, bits, width in registers:
            array = arrays[name].reshape(*pub.shape, pub.shots, width)
            data[name] = BitArray(array, bits)
        return SamplerPubResult(DataBin(**data, shape=pub.shape), {"shots": pub.shots})


class LocalEstimator(_Local, BaseEstimatorV2):  # type: ignore[misc]
    """A V2 estimator that simulates a device, however wide, by its independent parts.

    Gates err; readout errors count as mitigated, as IBM's estimator does by default. Every Pauli
    string is measured by itself, in `1 / precision**2` shots.

    Args:
        device: As for `LocalSampler`.
        seed: Seed of the shots.
        default_precision: Standard error where a PUB or `run` names none; 0 for exact values.
    """

    def __init__(
        self,
        device: DeviceNoise | LocalSimulator | None,
        seed: int = 0,
        *,
        default_precision: float = _DEFAULT_PRECISION,
    ) -> None:
        super().__init__(device, seed)
        self.default_precision = default_precision

    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> Any:
        """See `BaseEstimatorV2.run`; it raises as `LocalSampler.run`."""
        precision = self.default_precision if precision is None else precision
        return self._job(estimator_pubs(pubs, precision))

    def _one(self, pub: EstimatorPub, compiled: CompiledCircuit, key: tuple[int, int]) -> PubResult:
        shots = math.ceil(pub.precision**-2) if pub.precision else 0
        values = _rows(pub)
        at = np.broadcast_to(np.arange(len(values)).reshape(pub.parameter_values.shape), pub.shape)
        generator = _stream(key, compiled, values, shots)
        means, variances = np.zeros(pub.shape), np.zeros(pub.shape)
        labels = sorted({label for each in pub.observables.ravel() for label in each})
        exact = {label: self._exact(pub.circuit, label, values) for label in labels}
        wide: Any = np.broadcast_to(np.asarray(pub.observables), pub.shape)
        for index in np.ndindex(pub.shape):
            for label, coefficient in wide[index].items():
                mean = float(exact[label][at[index]])
                if shots:
                    ones = generator.binomial(shots, min(1.0, max(0.0, (1 + mean) / 2)))
                    mean = 2 * ones / shots - 1
                    variances[index] += coefficient**2 * (1 - mean**2) / shots
                means[index] += coefficient * mean
        data = DataBin(evs=means, stds=np.sqrt(variances), shape=pub.shape)
        return PubResult(data, {"target_precision": pub.precision})

    def _exact(self, circuit: QuantumCircuit, label: str, values: Floats) -> Floats:
        letters = {q: letter for q, letter in enumerate(reversed(label)) if letter != "I"}
        if not letters.keys().isdisjoint(_measured(circuit)):
            circuit = circuit.remove_final_measurements(inplace=False)
        product = np.ones(len(values))
        for part in self.simulator.parts(circuit, keep=letters):
            own = "".join(letters.get(q, "I") for q in reversed(part.subcircuit.qubits))
            if set(own) != {"I"}:
                product *= part.expectation(own, values)
        return product


def _stream(
    key: tuple[int, int], compiled: CompiledCircuit, values: Floats, shots: int
) -> np.random.Generator:
    content = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    return stream(key[0], "local shots", compiled.digest, content, shots, key[1])


def _measured(circuit: QuantumCircuit) -> set[int]:
    return {
        circuit.find_bit(item.qubits[0]).index
        for item in circuit.data
        if item.operation.name == "measure"
    }


def _rows(pub: SamplerPub | EstimatorPub) -> Floats:
    """`(rows, parameters)`, in the order of `circuit.parameters`."""
    values = pub.parameter_values
    found = np.asarray(values.as_array(pub.circuit.parameters), float)
    return found.reshape(values.size, pub.circuit.num_parameters)


def _draw(probabilities: Floats, shots: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """`(rows, outcomes)` to `(rows, shots)` outcomes."""
    edges = np.cumsum(probabilities, axis=-1)[:, :-1]
    drawn = generator.random((len(probabilities), shots))
    return np.stack([np.searchsorted(e, u, "right") for e, u in zip(edges, drawn, strict=True)])
