# SPDX-License-Identifier: Apache-2.0
"""Trainable circuits. Each builder returns a plain `QuantumCircuit` with weights `weight_000 ...`.

Weights are numbered in the order in which their gates act. Any other `QuantumCircuit` is as good an
ansatz; `circuits.files.load_ansatz` reads one from a file. This module must not import torch.
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

    `layers (3 n - 1)` weights, plus n with `final_ry`: 11 per layer at 4 qubits; 68 or 74 at 6
    qubits and 4 layers. The order matters: with RX before RZ, or CRZ for CRX, some weights of the
    last layer commute with a Z readout and never learn.

    Args:
        num_qubits: Qubits n.
        layers: Repetitions.
        final_ry: End with an RY on each qubit.

    Raises:
        CircuitError: If a number makes no sense.
        ResourceError: If there are too many qubits.

    References:
        Kandala et al., arXiv:1704.05018, fig. 1 (hardware-efficient trial states); Sim et al.,
        arXiv:1905.10876, circuit 4 (the CRX chain).
    """
    num_qubits = check_qubits(num_qubits, part="hardware_efficient")
    layers = check_layers(layers, part="hardware_efficient")
    weight = _weights(layers * (3 * num_qubits - 1) + (num_qubits if final_ry else 0))
    circuit = QuantumCircuit(num_qubits, name="hardware_efficient")
    for _ in range(layers):
        for qubit in range(num_qubits):
            circuit.rz(next(weight), qubit)
        for qubit in range(num_qubits):
            circuit.rx(next(weight), qubit)
        for qubit in range(num_qubits - 1):
            circuit.crx(next(weight), qubit, qubit + 1)
    if final_ry:
        for qubit in range(num_qubits):
            circuit.ry(next(weight), qubit)
    return circuit


@ansatze.register("real_amplitudes")
def real_amplitudes(num_qubits: int, layers: int) -> QuantumCircuit:
    """RY on each qubit and a chain of CX 0 -> 1 -> ... -> n - 1, per layer; then a last RY layer.

    `(layers + 1) n` weights; real amplitudes stay real. The same circuit as
    `qiskit.circuit.library.real_amplitudes(n, "linear", reps=layers)`.

    Args:
        num_qubits: Qubits n.
        layers: Repetitions of rotations and chain.

    Raises:
        CircuitError: If a number makes no sense.
        ResourceError: If there are too many qubits.

    References:
        Qiskit, `real_amplitudes`; Sim et al., arXiv:1905.10876, circuit 15 (the CX ring form).
    """
    num_qubits = check_qubits(num_qubits, part="real_amplitudes")
    layers = check_layers(layers, part="real_amplitudes")
    weight = _weights((layers + 1) * num_qubits)
    circuit = QuantumCircuit(num_qubits, name="real_amplitudes")
    for layer in range(layers + 1):
        for qubit in range(num_qubits):
            circuit.ry(next(weight), qubit)
        if layer < layers:
            for qubit in range(num_qubits - 1):
                circuit.cx(qubit, qubit + 1)
    return circuit


@ansatze.register("strongly_entangling")
def strongly_entangling(num_qubits: int, layers: int) -> QuantumCircuit:
    """RZ RY RZ on each qubit, then a ring of CX whose range grows from layer to layer.

    `3 n layers` weights. Layer l (from 0) entangles qubit q with q + r, r = l mod (n - 1) + 1.
    The n last RZ only move phases past a ring that permutes basis states: dead under a readout
    that is diagonal in Z.

    Args:
        num_qubits: Qubits n.
        layers: Repetitions.

    Raises:
        CircuitError: If a number makes no sense.
        ResourceError: If there are too many qubits.

    References:
        Schuld et al., arXiv:1804.00633 (the code blocks of circuit-centric classifiers).
    """
    num_qubits = check_qubits(num_qubits, part="strongly_entangling")
    layers = check_layers(layers, part="strongly_entangling")
    weight = _weights(3 * num_qubits * layers)
    circuit = QuantumCircuit(num_qubits, name="strongly_entangling")
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

    `15 (n - 1) layers` weights and 3 CX a block: each block reaches every two-qubit unitary, up to
    a phase. The last RZ of each qubit is dead under a readout that is diagonal in Z.

    Args:
        num_qubits: Qubits n, at least 2.
        layers: Repetitions of both rows of bricks.

    Raises:
        CircuitError: If a number makes no sense.
        ResourceError: If there are too many qubits.

    References:
        Vatan and Williams, arXiv:quant-ph/0308006 (15 angles and 3 CX).
    """
    num_qubits = check_qubits(num_qubits, least=2, part="su4_brickwork")
    layers = check_layers(layers, part="su4_brickwork")
    weight = _weights(15 * (num_qubits - 1) * layers)
    circuit = QuantumCircuit(num_qubits, name="su4_brickwork")
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

    `2 n layers` weights, the one-qubit rotations of `hardware_efficient`.

    Args:
        num_qubits: Qubits n.
        layers: Repetitions; not used where `num_weights` is given.
        num_weights: Make exactly so many rotations, to match the size of another ansatz: as many
            layers as it takes, of which the first is cut at its beginning, so that no qubit ends
            in an RZ that a Z readout could not see.

    Raises:
        CircuitError: If a number makes no sense, or `num_weights` leaves a qubit without rotation.
        ResourceError: If there are too many qubits.

    References:
        Bowles et al., arXiv:2403.07059 (separable models as controls).
    """
    num_qubits = check_qubits(num_qubits, part="product")
    layers = check_layers(layers, part="product")
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
    circuit = QuantumCircuit(num_qubits, name="product")
    for (gate, qubit), weight in zip(steps[-num_weights:], _weights(num_weights), strict=True):
        getattr(circuit, f"r{gate}")(weight, qubit)
    return circuit


def _weights(count: int) -> Iterator[Parameter]:
    return iter(weight_parameters(count))


def _zyz(circuit: QuantumCircuit, weight: Iterator[Parameter], qubit: int) -> None:
    circuit.rz(next(weight), qubit)
    circuit.ry(next(weight), qubit)
    circuit.rz(next(weight), qubit)
