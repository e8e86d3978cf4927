# SPDX-License-Identifier: Apache-2.0
"""Shots of a noisy device by outcome: mitigated readout, and Aer as what draws them.

Without mitigation, and with shots drawn from the engine's own probabilities, an `EngineSource` is
all that is needed: circuits of a device are independent of each other, so multinomial counts of the
exact noisy probabilities are the law of its shots. Here outcomes are kept apart, so that their
readout errors can be undone, and shots may come from Aer, circuit by circuit, to check that law or
to go where the engine's observables would not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import ClassicalRegister
from qiskit.circuit import Parameter
from qiskit_aer import AerSimulator

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import ConfigError, UnknownNameError
from qiskit_kd.execution.aer import aer_result
from qiskit_kd.execution.engine_source import EngineSource, Proxy
from qiskit_kd.execution.expansion import Expansion, Floats
from qiskit_kd.execution.mitigation import check_mitigation, warn_of_few_shots
from qiskit_kd.execution.noise_sources import DeviceNoise, Float
from qiskit_kd.execution.noisy.engine import NoisyEngine
from qiskit_kd.execution.noisy.isa import Gate, ISACircuit, noisy_circuit
from qiskit_kd.execution.noisy.primitives import aer_method
from qiskit_kd.execution.sampled import Block, Key, Measured, require_table
from qiskit_kd.seeding import stream

SAMPLED_BY = ("probabilities", "qiskit_aer")
"""What shots come from: the noisy engine's probabilities, or circuits run by Aer."""


class NoisySource(EngineSource):
    """Outcomes of a noisy device, told apart.

    Args:
        engine: The noisy engine; it knows the circuits, and the readout errors that are undone.
        shots: Shots per circuit.
        mitigation: One of `mitigation.MITIGATIONS`.
        sampled_by: One of `SAMPLED_BY`.

    Raises:
        UnknownNameError: If a name is unknown.
        ConfigError: If there are no shots.
    """

    engine: NoisyEngine

    def __init__(
        self,
        engine: NoisyEngine,
        *,
        shots: int | None,
        mitigation: str = "tensored",
        sampled_by: str = "probabilities",
    ) -> None:
        self.mitigates = check_mitigation(mitigation) != "none"
        if sampled_by not in SAMPLED_BY:
            raise UnknownNameError.of("source of shots", sampled_by, SAMPLED_BY)
        if shots is None:
            what = "readout mitigation corrects" if self.mitigates else "Aer draws"
            raise ConfigError(
                f"{what} shots of a device",
                got="no shots",
                expected="a number of shots",
                remedy="Set shots, or leave mitigation and sampled_by out for exact values.",
            )
        super().__init__(engine, shots=shots)
        if self.mitigates:
            _require_readout_error(engine.programs.device(1))
            warn_of_few_shots(shots)
        self.draws = sampled_by == "qiskit_aer"
        self._circuits: dict[CircuitModel, _Circuit] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_circuits": {}}

    def measure(
        self, expansion: Expansion, blocks: Sequence[Block], key: Key
    ) -> Iterator[Iterable[Measured]]:
        """See `Source.measure`."""
        self._seeds = stream(*key)
        yield from super().measure(expansion, blocks, key)

    def _measured(self, proxy: Proxy, block: Block) -> Measured:
        model, features, weights = proxy.ask(self.engine, block)
        one = self._circuit(model)
        outcomes = len(one.groups)
        require_table(block.size, outcomes)
        if one.aer is None:
            p = self.engine.outputs(one.model, features, weights)
        else:
            angles = np.asarray(model.encoding.angles(features), float)
            seed = int(self._seeds.integers(2**31))
            p = one.aer.frequencies(angles, weights, self.shots or 0, seed)
        shares = np.asarray(p, float).reshape(len(block.weights), len(block.inputs), outcomes)
        return Measured(shares, (one.groups, proxy.matrix), [(..., one.assignments)])

    def _circuit(self, model: CircuitModel) -> _Circuit:
        if model not in self._circuits:
            assert isinstance(model.readout, ClassGroups)
            qubits, programs = model.readout.measured_qubits, self.engine.programs
            device = programs.device(model.num_qubits)
            aer = None
            if self.draws:
                native = programs.native(model)
                aer = AerCircuit(native, device, qubits)
                apart = model
            else:
                readout = ClassGroups(2 ** len(qubits), model.num_qubits, qubits=qubits)
                apart = CircuitModel(model.encoding, model.ansatz, readout)
                programs.place_as(apart, model)
                native = self.engine.program(apart).native
            self._circuits[model] = _Circuit(
                apart,
                tuple(device.assignment(native.final[q]) for q in qubits),
                np.eye(model.num_outputs)[model.readout.outcome_labels],
                aer,
            )
        return self._circuits[model]


@dataclass(frozen=True, eq=False)
class _Circuit:
    """How one circuit is measured.

    Args:
        model: The circuit; for the engine with all its outcomes told apart.
        assignments: Readout errors of the measured qubits, lowest bit first.
        groups: `(outcomes, num_outputs)` what each outcome counts for.
        aer: The circuit for Aer; None where the engine's probabilities do.
    """

    model: CircuitModel
    assignments: tuple[Float, ...]
    groups: NDArray[np.float64]
    aer: AerCircuit | None


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


class AerCircuit:
    """A circuit of a noisy device with its noise model, both made once.

    Waiting is an error of its own in the circuit: a noise model knows gates, not durations.

    Args:
        native: The circuit; its readout is measured in the Z basis.
        device: The noise.
        measured: Qubits of the model that are measured, lowest bit of the outcome first.
    """

    def __init__(self, native: ISACircuit, device: DeviceNoise, measured: Sequence[int]) -> None:
        self._parts = native.parts
        self._outcomes = 2 ** len(measured)
        wires = {qubit: k for k, qubit in enumerate(native.active)}
        self._parameters: list[Parameter] = []
        gates: list[Gate] = []
        for number, part in enumerate(native.parts):
            own = [Parameter(f"part_{number}_{k}") for k in range(len(part.angles.expressions))]
            self._parameters += own
            gates += [_with_slots(gate, own) for gate in part.gates]
        self._circuit, model = noisy_circuit(gates, wires, device)
        self._circuit.add_register(ClassicalRegister(len(measured), "meas"))
        self._circuit.measure([wires[native.final[q]] for q in measured], range(len(measured)))
        self._simulator = AerSimulator(method=aer_method(len(wires)), noise_model=model)

    def frequencies(
        self, angles: Floats, weights: Floats, shots: int, seed: int
    ) -> NDArray[np.float64]:
        """Run every row of angles at every setting of the weights, in one job.

        Args:
            angles: `(rows, inputs)`.
            weights: `(..., weights)`.
            shots: Shots per circuit.
            seed: Seed of the shots.

        Returns:
            `(..., rows, outcomes)`.

        Raises:
            ExecutionError: If Aer fails.
        """
        lead = (*weights.shape[:-1], len(angles))
        slots = [
            part.slots(angles if part.source == "inputs" else weights[..., None, :])
            for part in self._parts
        ]
        rows = np.concatenate([np.broadcast_to(s, (*lead, s.shape[-1])) for s in slots], -1)
        rows = rows.reshape(-1, rows.shape[-1])
        binds = {p: rows[:, k].tolist() for k, p in enumerate(self._parameters)}
        options = {"shots": shots, "seed_simulator": seed}
        result = aer_result(self._simulator, [self._circuit], [binds], **options)
        counts = np.zeros((len(rows), self._outcomes))
        for row in range(len(rows)):
            for outcome, count in result.data(row)["counts"].items():
                counts[row, int(outcome, 16)] = count
        return counts.reshape(*lead, -1) / shots


def _with_slots(gate: Gate, slots: Sequence[Parameter]) -> Gate:
    """The gate with `slots` in place of its free angles."""
    if not gate.slots:
        return gate
    free = iter(gate.slots)
    operation = gate.operation.to_mutable()
    operation.params = [
        slots[next(free)] if getattr(p, "parameters", None) else p for p in operation.params
    ]
    return replace(gate, operation=operation)
