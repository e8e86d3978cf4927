# SPDX-License-Identifier: Apache-2.0
"""Every ansatz: counts, order of weights, and the formula behind its gates."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit, qasm3, qpy
from qiskit.circuit.library import real_amplitudes as qiskit_real_amplitudes
from qiskit.quantum_info import Operator, random_unitary
from qiskit.synthesis import OneQubitEulerDecomposer, TwoQubitWeylDecomposition

from qiskit_kd.circuits import (
    ClassGroups,
    amplitude,
    ansatze,
    encodings,
    hardware_efficient,
    product,
    real_amplitudes,
    strongly_entangling,
    su4_brickwork,
)
from qiskit_kd.errors import CircuitError, ResourceError
from qiskit_kd.seeding import stream

COUNTS = {
    "hardware_efficient": lambda n, layers: layers * (3 * n - 1),
    "real_amplitudes": lambda n, layers: (layers + 1) * n,
    "strongly_entangling": lambda n, layers: 3 * n * layers,
    "su4_brickwork": lambda n, layers: 15 * (n - 1) * layers,
    "product": lambda n, layers: 2 * n * layers,
}

every = pytest.mark.parametrize("name", sorted(ansatze))
sizes = pytest.mark.parametrize(("num_qubits", "layers"), [(2, 1), (3, 2), (6, 4)])


def gates(circuit: QuantumCircuit) -> list[tuple[str, tuple[int, ...]]]:
    return [
        (item.operation.name, tuple(circuit.find_bit(q).index for q in item.qubits))
        for item in circuit.data
    ]


@every
@sizes
def test_weights_are_named_in_the_order_they_act(name: str, num_qubits: int, layers: int) -> None:
    circuit = ansatze[name](num_qubits, layers)
    names = [f"weight_{k:03d}" for k in range(circuit.num_parameters)]
    assert [p.name for p in circuit.parameters] == names
    assert [p.name for item in circuit.data for p in item.operation.params] == names
    assert circuit.num_qubits == num_qubits
    if name in COUNTS:  # a third party's ansatz has a count of its own
        assert circuit.num_parameters == COUNTS[name](num_qubits, layers)


@every
@sizes
def test_files_keep_the_order_and_the_unitary(name: str, num_qubits: int, layers: int) -> None:
    circuit = ansatze[name](num_qubits, layers)
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    buffer.seek(0)
    weights = stream(0, name).uniform(-np.pi, np.pi, circuit.num_parameters)
    wanted = Operator(circuit.assign_parameters(weights)).data
    for loaded in (qasm3.loads(qasm3.dumps(circuit)), qpy.load(buffer)[0]):
        assert [p.name for p in loaded.parameters] == [p.name for p in circuit.parameters]
        found = Operator(loaded.assign_parameters(weights)).data
        np.testing.assert_allclose(found, wanted, atol=1e-12)


@every
def test_building_twice_gives_the_same_circuit(name: str) -> None:
    assert ansatze[name](3, 2) == ansatze[name](3, 2)


@every
@pytest.mark.parametrize("bad", [0, -1, 2.5, "4"])
def test_numbers_make_sense(name: str, bad: Any) -> None:
    with pytest.raises(CircuitError, match=f"{name} needs a whole number of qubits; got {bad!r}"):
        ansatze[name](bad, 1)
    with pytest.raises(CircuitError, match=f"{name} needs a whole number of layers; got {bad!r}"):
        ansatze[name](4, bad)


@every
def test_too_many_qubits_are_refused(name: str) -> None:
    with pytest.raises(ResourceError, match=f"{name} on 60 qubits would not fit in memory"):
        ansatze[name](60, 1)


# --- one by one ----------------------------------------------------------------------------------


def test_hardware_efficient_gates() -> None:
    layer: list[tuple[str, tuple[int, ...]]] = [
        ("rz", (0,)),
        ("rz", (1,)),
        ("rz", (2,)),
        ("rx", (0,)),
        ("rx", (1,)),
        ("rx", (2,)),
    ]
    layer += [("crx", (0, 1)), ("crx", (1, 2))]
    last = [("ry", (0,)), ("ry", (1,)), ("ry", (2,))]
    assert gates(hardware_efficient(3, 2, final_ry=True)) == 2 * layer + last
    assert gates(hardware_efficient(3, 2)) == 2 * layer


@pytest.mark.parametrize(
    ("num_qubits", "layers", "final_ry", "count"),
    [(4, 1, False, 11), (6, 4, False, 68), (6, 4, True, 74), (1, 1, False, 2)],
)
def test_hardware_efficient_counts_of_the_literature(
    num_qubits: int, layers: int, final_ry: bool, count: int
) -> None:
    circuit = hardware_efficient(num_qubits, layers, final_ry=final_ry)
    assert circuit.num_parameters == count


def test_real_amplitudes_is_qiskits() -> None:
    ours, theirs = real_amplitudes(4, 3), qiskit_real_amplitudes(4, "linear", reps=3)
    weights = stream(0, "ra").uniform(-np.pi, np.pi, ours.num_parameters)
    a, b = (Operator(c.assign_parameters(weights)).data for c in (ours, theirs))
    np.testing.assert_allclose(a, b, atol=1e-12)
    np.testing.assert_allclose(a.imag, 0, atol=1e-12)


def test_strongly_entangling_ring_grows() -> None:
    pairs = [pair for name, pair in gates(strongly_entangling(4, 4)) if name == "cx"]
    rings = [pairs[k : k + 4] for k in range(0, 16, 4)]
    reach = [[(q, (q + r) % 4) for q in range(4)] for r in (1, 2, 3, 1)]
    assert rings == reach
    assert [name for name, _ in gates(strongly_entangling(1, 1))] == ["rz", "ry", "rz"]


def test_su4_bricks_alternate() -> None:
    pairs = [tuple(sorted(pair)) for name, pair in gates(su4_brickwork(5, 1)) if name == "cx"]
    assert pairs == [pair for pair in [(0, 1), (2, 3), (1, 2), (3, 4)] for _ in range(3)]
    with pytest.raises(CircuitError, match="got 1; expected 2 or more"):
        su4_brickwork(1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_an_su4_block_reaches_any_two_qubit_unitary(seed: int) -> None:
    # By construction, not by optimisation: exp(i (a XX + b YY + c ZZ)) of the Weyl decomposition is
    # the middle of the block between RZ(-pi/2) on qubit 1 and RZ(pi/2) on qubit 0.
    wanted = random_unitary(4, seed=seed)
    weyl = TwoQubitWeylDecomposition(wanted.data)
    quarter = np.diag(np.exp([-0.25j * np.pi, 0.25j * np.pi]))
    euler = OneQubitEulerDecomposer("ZYZ")

    def zyz(matrix: np.ndarray) -> list[float]:
        theta, phi, lam = euler.angles(matrix)
        return [lam, theta, phi]

    weights = [
        *zyz(weyl.K2r),
        *zyz(quarter.conj() @ weyl.K2l),
        *(np.pi / 2 - 2 * weyl.c, 2 * weyl.a - np.pi / 2, np.pi / 2 - 2 * weyl.b),
        *zyz(weyl.K1r @ quarter),
        *zyz(weyl.K1l),
    ]
    found = Operator(su4_brickwork(2, 1).assign_parameters(weights))
    assert found.equiv(wanted, atol=1e-9)


def test_product_has_no_entangler_and_ends_alive() -> None:
    circuit = product(6, num_weights=74)
    assert circuit.num_parameters == 74
    assert circuit.num_nonlocal_gates() == 0
    assert gates(circuit)[:3] == [("rx", (4,)), ("rx", (5,)), ("rz", (0,))]
    assert gates(circuit)[-1] == ("rx", (5,))
    assert gates(product(2, 1)) == [("rz", (0,)), ("rz", (1,)), ("rx", (0,)), ("rx", (1,))]
    assert gates(product(2, num_weights=2)) == [("rx", (0,)), ("rx", (1,))]


@pytest.mark.parametrize("bad", [0, 3, 10.0, "74"])
def test_product_turns_every_qubit(bad: Any) -> None:
    with pytest.raises(CircuitError, match="at least one rotation per qubit; got num_weights="):
        product(4, num_weights=bad)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.array, torch.tensor])
def test_whole_numbers_of_numpy_and_torch_build_the_same_circuits(kind: Any) -> None:
    for name, builder in ansatze.items():
        assert builder(kind(6), kind(10)) == builder(6, 10), name  # 170 weights: no 8 bits hold it
    assert product(kind(5), num_weights=kind(120)) == product(5, num_weights=120)
    for name, encode in encodings.items():
        made, plain = encode(kind(3)), encode(3)
        assert made.circuit == plain.circuit, name
        assert type(made.num_features) is type(made.layers) is int
    assert amplitude(kind(3), num_features=kind(5)).num_features == 5
    groups = ClassGroups(kind(3), kind(2), "contiguous", qubits=(kind(1), kind(0)))
    assert groups == ClassGroups(3, 2, "contiguous", qubits=(1, 0))
    assert type(groups.num_classes) is type(groups.num_qubits) is int
