# SPDX-License-Identifier: Apache-2.0
"""V2 primitives under a device's noise, for any Qiskit code; Aer does the work.

Circuits must consist of the device's gates (`Backend.pass_manager`). Each is run on its active
qubits alone, with the errors of the gates that occur: a circuit on 6 of 133 qubits costs what a
circuit on 6 qubits costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from qiskit import QuantumCircuit, QuantumRegister
from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2, PrimitiveJob, PrimitiveResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.primitives.containers.sampler_pub import SamplerPub

from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.aer import AerEstimator, AerSampler
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.pubs import estimator_pubs, sampler_pubs

_DENSITY_QUBITS = 10  # above, trajectories of state vectors are cheaper than one density matrix


def aer_method(num_qubits: int) -> str:
    """Aer's cheapest method for circuits with noise on so many qubits."""
    return "density_matrix" if num_qubits <= _DENSITY_QUBITS else "statevector"


class NoisySampler(BaseSamplerV2):  # type: ignore[misc]
    """Samples of a noisy device, readout errors included.

    Args:
        device: Gates and noise.
        default_shots: Shots where a PUB or `run` names none.
        seed: Seed of every run; None for fresh randomness.
    """

    def __init__(
        self, device: DeviceNoise, *, default_shots: int = 1024, seed: int | None = None
    ) -> None:
        self._device, self._shots, self._seed = device, default_shots, seed

    @property
    def default_shots(self) -> int:
        """Shots where a PUB or `run` names none."""
        return self._shots

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> Any:
        """See `BaseSamplerV2.run`.

        Raises:
            CircuitError: If a circuit is wider than the device or has a gate that the device lacks.
        """
        coerced = sampler_pubs(pubs, self._shots if shots is None else shots)
        work = []
        for pub in coerced:
            circuit, qubits = _compact(pub.circuit, self._device)
            sampler = AerSampler(
                default_shots=self._shots,
                seed=self._seed,
                options={"backend_options": _options(self._device, circuit, qubits)},
            )
            work.append((sampler, SamplerPub(circuit, pub.parameter_values, pub.shots)))
        return _job(lambda: [sampler.run([pub]).result()[0] for sampler, pub in work])


class NoisyEstimator(BaseEstimatorV2):  # type: ignore[misc]
    """Expectation values under a device's gate errors; measurements do not err.

    Args:
        device: Gates and noise.
        default_precision: Standard error where a PUB or `run` names none; 0 for exact values.
        seed: Seed of every run; None for fresh randomness.
    """

    def __init__(
        self, device: DeviceNoise, *, default_precision: float = 0.0, seed: int | None = None
    ) -> None:
        self._device, self._precision, self._seed = device, default_precision, seed

    @property
    def default_precision(self) -> float:
        """Standard error where a PUB or `run` names none."""
        return self._precision

    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> Any:
        """See `BaseEstimatorV2.run`.

        Raises:
            CircuitError: If a circuit is wider than the device or has a gate that the device lacks.
        """
        precision = self._precision if precision is None else precision
        coerced = estimator_pubs(pubs, precision)
        work = []
        for pub in coerced:
            circuit, qubits = _compact(pub.circuit, self._device, _touched(pub.observables))
            estimator = AerEstimator(
                default_precision=precision,
                seed=self._seed,
                options={"backend_options": _options(self._device, circuit, qubits)},
            )
            observables = _restricted(pub.observables, qubits)
            work.append(
                (estimator, EstimatorPub(circuit, observables, pub.parameter_values, pub.precision))
            )
        return _job(lambda: [estimator.run([pub]).result()[0] for estimator, pub in work])


def _job(function: Callable[[], list[Any]]) -> PrimitiveJob[Any]:
    job: PrimitiveJob[Any] = PrimitiveJob(lambda: PrimitiveResult(function()))
    job._submit()  # noqa: SLF001 - as Qiskit's own primitives do
    return job


def _options(device: DeviceNoise, circuit: QuantumCircuit, qubits: list[int]) -> dict[str, Any]:
    return {"method": aer_method(len(qubits)), "noise_model": device.noise_model(circuit, qubits)}


def _compact(
    circuit: QuantumCircuit, device: DeviceNoise, more: Iterable[int] = ()
) -> tuple[QuantumCircuit, list[int]]:
    """The circuit on its active qubits (and `more`), and their places on the device."""
    device.check_width(circuit.num_qubits)
    active = set(more)
    for item in circuit.data:
        if item.operation.name != "barrier":
            active.update(circuit.find_bit(q).index for q in item.qubits)
        if hasattr(item.operation, "blocks"):
            raise CircuitError(
                "noisy primitives run circuits without control flow",
                got=repr(item.operation.name),
                remedy="Unroll it.",
            )
    qubits = sorted(active) or [0]
    wire = {q: k for k, q in enumerate(qubits)}
    small = QuantumCircuit(QuantumRegister(len(qubits), "q"), *circuit.cregs)
    for item in circuit.data:
        places = [circuit.find_bit(q).index for q in item.qubits]
        if item.operation.name != "barrier":
            small.append(item.operation, [wire[q] for q in places], item.clbits)
    return small, qubits


def _touched(observables: ObservablesArray) -> set[int]:
    letters = [label for each in observables.ravel() for label in each]
    return {
        len(label) - 1 - k for label in letters for k, letter in enumerate(label) if letter != "I"
    }


def _restricted(observables: ObservablesArray, qubits: list[int]) -> ObservablesArray:
    """Observables on the qubits alone; others they do not touch."""

    def on(observable: Any) -> dict[str, float]:
        short: dict[str, float] = {}
        for label, coefficient in observable.items():
            name = "".join(label[len(label) - 1 - q] for q in reversed(qubits))
            short[name] = short.get(name, 0.0) + coefficient
        return short

    flat = [on(each) for each in observables.ravel()]
    return ObservablesArray.coerce(np.array(flat, dtype=object).reshape(observables.shape))
