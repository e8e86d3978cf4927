# SPDX-License-Identifier: Apache-2.0
"""Shots of a noisy device by outcome: mitigated readout, and Aer as what draws them.

Without mitigation, and with shots drawn from the engine's own probabilities, `ExactShotsEngine` is
all that is needed: circuits of a device are independent of each other, so multinomial counts of the
exact noisy probabilities are the law of its shots. Here outcomes are kept apart until their readout
errors are undone, and shots may come from Aer, circuit by circuit, to check that law or to go where
the engine's observables would not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import ConfigError, UnknownNameError
from qiskit_kd.execution.engine import Array
from qiskit_kd.execution.engine_source import ExactSource
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.memory import require_memory
from qiskit_kd.execution.mitigation import check_mitigation, mitigate, warn_of_few_shots
from qiskit_kd.execution.noise_sources import DeviceNoise, Float
from qiskit_kd.execution.noisy.aer import AerCircuit
from qiskit_kd.execution.noisy.engine import NoisyEngine
from qiskit_kd.execution.sampled import Block, SampledEngine, fresh_seed

SAMPLED_BY = ("probabilities", "qiskit_aer")
"""What shots come from: the noisy engine's probabilities, or circuits run by Aer."""

_COPIES = 4  # tables of frequencies that a job holds at once


class noisy_shots(SampledEngine):
    """Samples of a noisy device, with mitigated readout or from Aer.

    Values at shifted or perturbed weights are mitigated like all others. The projection onto
    distributions is not linear, so parameter shift is unbiased only as far as it does not act.

    Args:
        engine: The noisy engine; it knows the circuits, and the readout errors that are undone.
        shots: Shots per circuit.
        mitigation: `"none"` or `"tensored"`; see `mitigation.mitigate`.
        sampled_by: `"probabilities"` or `"qiskit_aer"`.
        name: Name for reports.
        gradient: `"auto"` (SPSA), `"shift"` or `"spsa"`.
        perturbations: Directions of SPSA per step.
        epsilon: Step of SPSA in radians.
        seed: Root seed of shots and perturbations; None for a new one.

    Raises:
        UnknownNameError: If the mitigation, the source of shots or the gradient rule is unknown.
        ConfigError: If there are no shots, or a number is not positive.
    """

    source: NoisyShotsSource

    def __init__(
        self,
        engine: NoisyEngine,
        *,
        shots: int | None,
        mitigation: str = "tensored",
        sampled_by: str = "probabilities",
        name: str = "noisy_shots",
        gradient: str = "auto",
        perturbations: int = 4,
        epsilon: float | None = None,
        seed: int | None = None,
    ) -> None:
        seed = fresh_seed() if seed is None else seed
        super().__init__(
            NoisyShotsSource(
                engine, shots=shots, mitigation=mitigation, sampled_by=sampled_by, seed=seed
            ),
            name=name,
            gradient=gradient,
            perturbations=perturbations,
            epsilon=epsilon,
            seed=seed,
        )


class NoisyShotsSource(ExactSource):
    """Rows by shots of a noisy device.

    Args:
        engine: The noisy engine.
        shots: Shots per circuit.
        mitigation: One of `mitigation.MITIGATIONS`.
        sampled_by: One of `SAMPLED_BY`.
        seed: Root seed of the shots.

    Raises:
        UnknownNameError: If a name is unknown.
        ConfigError: If there are no shots.
    """

    raw: Sequence[NDArray[np.float64]] = ()
    """Outputs of the last job before mitigation, block by block as `evaluate` returns them."""

    def __init__(
        self, engine: NoisyEngine, *, shots: int | None, mitigation: str, sampled_by: str, seed: int
    ) -> None:
        check_mitigation(mitigation)
        if sampled_by not in SAMPLED_BY:
            raise UnknownNameError.of("source of shots", sampled_by, SAMPLED_BY)
        if shots is None:
            what = "readout mitigation corrects" if mitigation != "none" else "Aer draws"
            raise ConfigError(
                f"{what} shots of a device",
                got="no shots",
                expected="a number of shots",
                remedy="Set shots, or leave mitigation and sampled_by out for exact values.",
            )
        super().__init__(engine, shots=shots, seed=seed)
        if mitigation != "none":
            _require_readout_error(engine.programs.device(1))
            warn_of_few_shots(shots)
        self.mitigated = mitigation != "none"
        self._shots_of = _Shots(engine, shots, mitigation=mitigation, sampled_by=sampled_by)
        self._raw_parts: list[NDArray[np.float64]] = []

    def evaluate(self, expansion: Expansion, blocks: Sequence[Block]) -> list[NDArray[np.float64]]:
        """See `Source.evaluate`; keeps `raw` as well."""
        self._raw_parts = []
        values = super().evaluate(expansion, blocks)
        each = len(self._raw_parts) // len(blocks)  # bases, in a block's order
        self.raw = [
            np.sum(self._raw_parts[k : k + each], axis=0)
            for k in range(0, len(self._raw_parts), each)
        ]
        self._raw_parts = []
        return values

    def _values(
        self, proxy: Any, block: Block, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        self._shots_of.generator = generator
        values: NDArray[np.float64] = proxy.probabilities(self._shots_of, block)
        self._raw_parts.append(self._shots_of.raw.reshape(values.shape) @ proxy.matrix)
        return np.asarray(values @ proxy.matrix, float)


def _require_readout_error(device: DeviceNoise) -> None:
    # At scale 0 there is nothing to undo, and undoing nothing keeps studies over the scale whole.
    if device.scale and all(
        np.array_equal(device.assignment(q), np.eye(2)) for q in range(device.num_qubits)
    ):
        raise ConfigError(
            "readout mitigation undoes readout errors",
            got=f"{device.name!r}, whose measurements do not err",
            expected="a device with readout errors",
            remedy="Use mitigation: none, or leave readout: false out.",
        )


@dataclass(frozen=True, eq=False)
class _Station:
    """How one circuit is measured.

    Args:
        model: The circuit; for the engine with all its outcomes told apart.
        assignments: Readout errors of the measured qubits, lowest bit first.
        groups: `(outcomes, num_outputs)` what each outcome counts for.
        circuit: The circuit for Aer; None where the engine's probabilities do.
    """

    model: CircuitModel
    assignments: tuple[Float, ...]
    groups: NDArray[np.float64]
    circuit: AerCircuit | None


class _Shots:
    """Outputs of models with class groups as a device would give them.

    Stands where `ExactSource` has an engine. `generator` draws the shots; `raw` holds the outputs
    of the last call before mitigation.
    """

    generator: np.random.Generator
    raw: NDArray[np.float64]

    def __init__(
        self, engine: NoisyEngine, shots: int, *, mitigation: str, sampled_by: str
    ) -> None:
        self._engine, self._count = engine, shots
        self._mitigation, self._sampled_by = mitigation, sampled_by
        self._stations: dict[CircuitModel, _Station] = {}

    def __getstate__(self) -> dict[str, Any]:
        passing = ("generator", "raw")  # of one job
        kept = {key: value for key, value in self.__dict__.items() if key not in passing}
        return {**kept, "_stations": {}}

    def place(self, model: CircuitModel, *, like: CircuitModel) -> None:
        """See `Engine.place`."""
        self._engine.place(model, like=like)

    def outputs(self, model: CircuitModel, features: Array, weights: Array) -> Array:
        """See `Engine.outputs`; features and weights are rows of slots."""
        station = self._station(model)
        outcomes = len(station.groups)
        rows = len(features) * max(1, weights[..., 0].size)
        require_memory(
            8 * _COPIES * rows * outcomes,
            f"the shots of {rows:,} circuits by {outcomes:,} outcomes",
            "Use a smaller batch, or read fewer qubits.",
        )
        if station.circuit is None:
            p = np.clip(self._engine.outputs(station.model, features, weights), 0.0, None)
            p /= p.sum(-1, keepdims=True)
            frequencies = self.generator.multinomial(self._count, p) / self._count
        else:
            angles = np.asarray(model.encoding.angles(features), float)
            seed = int(self.generator.integers(2**31))
            frequencies = station.circuit.frequencies(angles, weights, self._count, seed)
        self.raw = frequencies @ station.groups
        if self._mitigation == "none":
            return self.raw
        return mitigate(frequencies, station.assignments) @ station.groups

    def _station(self, model: CircuitModel) -> _Station:
        if model not in self._stations:
            assert isinstance(model.readout, ClassGroups)
            qubits, programs = model.readout.measured_qubits, self._engine.programs
            device = programs.device(model.num_qubits)
            circuit = None
            if self._sampled_by == "qiskit_aer":
                native = programs.native(model)
                circuit = AerCircuit(native, device, qubits)
            else:
                apart = ClassGroups(2 ** len(qubits), model.num_qubits, qubits=qubits)
                model_apart = CircuitModel(model.encoding, model.ansatz, apart)
                programs.place_as(model_apart, model)
                native = self._engine.program(model_apart).native
            self._stations[model] = _Station(
                model if circuit else model_apart,
                tuple(device.assignment(native.final[q]) for q in qubits),
                np.eye(model.num_outputs)[model.readout.outcome_labels],
                circuit,
            )
        return self._stations[model]
