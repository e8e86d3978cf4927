# SPDX-License-Identifier: Apache-2.0
"""Trainable circuits. Each builder returns a plain `QuantumCircuit` with weights `weight_000 ...`.

Weights are numbered in the order in which their gates act; `layers` repeats what a builder says of
a layer, on n = `num_qubits`. Sizes that make no sense are a `CircuitError`, too many qubits a
`ResourceError`. Any other `QuantumCircuit` is as good an ansatz; `circuits.files.load_ansatz` reads
one from a file. This module must not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qiskit_kd.circuits.checks import MAX_LAYERS, check_layers, check_qubits
from qiskit_kd.circuits.parameters import weight_parameters
from qiskit_kd.errors import CircuitError
from qiskit_kd.registry import Registry
from qiskit_kd.values import whole

ansatze: Registry[Callable[..., QuantumCircuit]] = Registry("ansatz")
"""Builders `(num_qubits, layers, **options) -> QuantumCircuit`."""


@ansatze.register("hardware_efficient")
def hardware_efficient(num_qubits: int, layers: int, *, final_ry: bool = False) -> QuantumCircuit:
    """RZ on each qubit, RX on each, then a chain of CRX 0 -> 1 -> ... -> n - 1, per layer.

    `layers (3 n - 1)` weights, plus n with `final_ry`, an RY on each qubit at the end: 11 per layer
    at 4 qubits; 68 or 74 at 6 qubits and 4 layers. The order matters: with RX before RZ, or CRZ for
    CRX, some weights of the last layer commute with a Z readout and never learn.

    References:
        Kandala et al., arXiv:1704.05018, fig. 1 (hardware-efficient trial states); Sim et al.,
        arXiv:1905.10876, circuit 4 (the CRX chain).
    """
    circuit, layers = _started("hardware_efficient", num_qubits, layers)
    n = circuit.num_qubits
    weight = _weights(layers * (3 * n - 1) + (n if final_ry else 0))
    for _ in range(layers):
        _rotate(circuit, weight, "zx")
        for qubit in range(n - 1):
            circuit.crx(next(weight), qubit, qubit + 1)
    if final_ry:
        _rotate(circuit, weight, "y")
    return circuit


@ansatze.register("real_amplitudes")
def real_amplitudes(num_qubits: int, layers: int) -> QuantumCircuit:
    """RY on each qubit and a chain of CX 0 -> 1 -> ... -> n - 1, per layer; then a last RY layer.

    `(layers + 1) n` weights; real amplitudes stay real. The same circuit as
    `qiskit.circuit.library.real_amplitudes(n, "linear", reps=layers)`.

    References:
        Qiskit, `real_amplitudes`; Sim et al., arXiv:1905.10876, circuit 15 (the CX ring form).
    """
    circuit, layers = _started("real_amplitudes", num_qubits, layers)
    weight = _weights((layers + 1) * circuit.num_qubits)
    for _ in range(layers):
        _rotate(circuit, weight, "y")
        for qubit in range(circuit.num_qubits - 1):
            circuit.cx(qubit, qubit + 1)
    _rotate(circuit, weight, "y")
    return circuit


@ansatze.register("strongly_entangling")
def strongly_entangling(num_qubits: int, layers: int) -> QuantumCircuit:
    """RZ RY RZ on each qubit, then a ring of CX whose range grows from layer to layer.

    `3 n layers` weights. Layer l (from 0) entangles qubit q with q + r, r = l mod (n - 1) + 1.
    The n last RZ only move phases past a ring that permutes basis states: dead under a readout
    that is diagonal in Z.

    References:
        Schuld et al., arXiv:1804.00633 (the code blocks of circuit-centric classifiers).
    """
    circuit, layers = _started("strongly_entangling", num_qubits, layers)
    num_qubits = circuit.num_qubits
    weight = _weights(3 * num_qubits * layers)
    for layer in range(layers):
        for qubit in range(num_qubits):
            _zyz(circuit, weight, qubit)
        if num_qubits > 1:
            reach = layer % (num_qubits - 1) + 1
            for qubit in range(num_qubits):
                circuit.cx(qubit, (qubit + reach) % num_qubits)
    return circuit


@ansatze.register("su4_brickwork")
def su4_brickwork(num_qubits: int, layers: int) -> QuantumCircuit:
    """Universal two-qubit blocks on (0, 1), (2, 3), ... and then on (1, 2), (3, 4), ..., per layer.

    `15 (n - 1) layers` weights and 3 CX a block, for two qubits or more: each block reaches every
    two-qubit unitary, up to a phase. The last RZ of each qubit is dead under a readout that is
    diagonal in Z.

    References:
        Vatan and Williams, arXiv:quant-ph/0308006 (15 angles and 3 CX).
    """
    circuit, layers = _started("su4_brickwork", num_qubits, layers, least=2)
    num_qubits = circuit.num_qubits
    weight = _weights(15 * (num_qubits - 1) * layers)
    for _ in range(layers):
        for first in (0, 1):
            for a in range(first, num_qubits - 1, 2):
                b = a + 1
                _zyz(circuit, weight, a)
                _zyz(circuit, weight, b)
                circuit.cx(b, a)
                circuit.rz(next(weight), a)
                circuit.ry(next(weight), b)
                circuit.cx(a, b)
                circuit.ry(next(weight), b)
                circuit.cx(b, a)
                _zyz(circuit, weight, a)
                _zyz(circuit, weight, b)
    return circuit


@ansatze.register("product")
def product(num_qubits: int, layers: int = 1, *, num_weights: int | None = None) -> QuantumCircuit:
    """The entanglement-free control: RZ and RX on each qubit per layer, and nothing between them.

    `2 n layers` weights, the one-qubit rotations of `hardware_efficient`. With `num_weights`,
    exactly so many rotations, at least one per qubit, to match the size of another ansatz: as many
    layers as it takes, of which the first is cut at its beginning, so that no qubit ends in an RZ
    that a Z readout could not see.

    References:
        Bowles et al., arXiv:2403.07059 (separable models as controls).
    """
    circuit, layers = _started("product", num_qubits, layers)
    num_qubits = circuit.num_qubits
    if num_weights is None:
        num_weights = 2 * num_qubits * layers
    num_weights = whole(
        num_weights,
        "product needs at least one rotation per qubit",
        name="num_weights",
        least=num_qubits,
        most=2 * num_qubits * MAX_LAYERS,
        error=CircuitError,
        expected=f"{num_qubits} or more",
    )
    rounds = -(-num_weights // (2 * num_qubits))
    steps = [(gate, qubit) for _ in range(rounds) for gate in "zx" for qubit in range(num_qubits)]
    for (gate, qubit), weight in zip(steps[-num_weights:], _weights(num_weights), strict=True):
        getattr(circuit, f"r{gate}")(weight, qubit)
    return circuit


def _started(
    name: str, num_qubits: int, layers: int, *, least: int = 1
) -> tuple[QuantumCircuit, int]:
    """An empty circuit and the number of its layers, both checked."""
    num_qubits = check_qubits(num_qubits, least=least, part=name)
    return QuantumCircuit(num_qubits, name=name), check_layers(layers, part=name)


def _rotate(circuit: QuantumCircuit, weight: Iterator[Parameter], axes: str) -> None:
    """A rotation of each qubit, about one axis after the other."""
    for axis in axes:
        for qubit in range(circuit.num_qubits):
            getattr(circuit, f"r{axis}")(next(weight), qubit)


def _weights(count: int) -> Iterator[Parameter]:
    return iter(weight_parameters(count))


def _zyz(circuit: QuantumCircuit, weight: Iterator[Parameter], qubit: int) -> None:
    circuit.rz(next(weight), qubit)
    circuit.ry(next(weight), qubit)
    circuit.rz(next(weight), qubit)
