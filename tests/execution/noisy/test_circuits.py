# SPDX-License-Identifier: Apache-2.0
"""A model's circuit on a noisy device: its parts, and their fused blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import (
    CRXGate,
    CUGate,
    CZGate,
    RXXGate,
    RZGate,
    RZZGate,
    SXGate,
    U2Gate,
    U3Gate,
    UGate,
    XGate,
)  # fmt: skip
from qiskit.quantum_info import PTM, Statevector, SuperOp, random_quantum_channel
from qiskit.transpiler import InstructionProperties, Target

from qiskit_kd.circuits.ansatze import hardware_efficient, real_amplitudes
from qiskit_kd.circuits.encodings import amplitude, angle, reuploading
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.noisy import isa
from qiskit_kd.execution.noisy.fusion import (
    Step,
    Turning,
    exchange,
    factors,
    fixed_transfer,
    fuse,
    transfer,
    turning,
)  # fmt: skip
from qiskit_kd.execution.noisy.isa import to_isa
from qiskit_kd.execution.noisy.sweeps import Section, pull_back

from .conftest import bound, device

OPTIONS = {"optimization_level": 3, "seed": 0, "idle": False}


def model(num_qubits: int = 3) -> CircuitModel:
    return CircuitModel(
        angle(num_qubits), hardware_efficient(num_qubits, 1), ClassGroups(2, num_qubits)
    )


@pytest.mark.parametrize("level", [0, 1, 3])
@pytest.mark.parametrize("source", ["torino", "rates"])
def test_parts_make_up_the_circuit(source, level) -> None:
    one = CircuitModel(amplitude(3), hardware_efficient(3, 1), ClassGroups(3, 3))
    noise = device(source, num_qubits=3)
    native = to_isa(one, noise, optimization_level=level, seed=1, idle=False)
    assert [part.source for part in native.parts] == ["inputs", "weights"]
    assert set(native.final) <= set(native.active)
    assert all(
        gate.qubits in noise.target[gate.operation.name]
        for part in native.parts for gate in part.gates
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 8)), rng.normal(size=one.num_weights)
    state = Statevector(bound(native, one, x[0], w))
    places = [native.active.index(q) for q in native.final]
    values = dict(zip(one.inputs, one.encoding.angles(x)[0], strict=True))
    values |= dict(zip(one.weights, w, strict=True))
    np.testing.assert_allclose(
        state.probabilities(places),
        Statevector(one.circuit.assign_parameters(values)).probabilities(), atol=1e-12,
    )  # fmt: skip


def test_users_own_barriers_are_no_seams() -> None:
    ansatz = hardware_efficient(2, 1).copy()
    ansatz.barrier()
    ansatz.compose(real_amplitudes(2, 1), inplace=True)
    one = CircuitModel(reuploading(2, 2), ansatz, ClassGroups(2, 2))
    native = to_isa(one, device("torino"), **OPTIONS)
    assert [part.source for part in native.parts] == ["inputs", "weights"] * 2


def test_equal_circuits_have_equal_fingerprints() -> None:
    noise = device("torino")
    first, second = (to_isa(model(), noise, **OPTIONS).fingerprint() for _ in range(2))
    assert first == second
    other = CircuitModel(angle(3, scale=1.0), real_amplitudes(3, 1), ClassGroups(2, 3))
    assert to_isa(other, noise, **OPTIONS).fingerprint() != first


def test_waiting_is_kept_on_the_active_qubits_only() -> None:
    native = to_isa(model(), device("torino"), **{**OPTIONS, "idle": True})
    delays = [g for part in native.parts for g in part.gates if g.seconds is not None]
    assert delays
    assert all(0 < g.seconds < 1e-5 for g in delays)
    assert {q for g in delays for q in g.qubits} <= set(native.active)
    assert len(native.active) == 3


def poor_device() -> DeviceNoise:
    """X, RZ and CZ: no way to a superposition."""
    target = Target(num_qubits=3)
    wires = {(q,): InstructionProperties(1e-8, 1e-3) for q in range(3)}
    target.add_instruction(XGate(), wires)
    target.add_instruction(RZGate(Parameter("a")), wires)
    target.add_instruction(CZGate(), {(0, 1): None, (1, 0): None, (1, 2): None, (2, 1): None})
    return DeviceNoise("poor", target, np.zeros((3, 2)))


def test_gates_that_a_device_cannot_do() -> None:
    with pytest.raises(
        CircuitError,
        match=r"a circuit can be written in the gates of 'poor'; got Unable to translate .*; "
        r"expected cz, rz, x\. Write the circuit in other gates, or use another device\.",
    ):
        to_isa(model(), poor_device(), **OPTIONS)


def test_gates_that_are_left_over_are_named() -> None:
    with pytest.raises(
        CircuitError,
        match=r"a circuit consists of gates of the device; got 'sx' on qubits \[1\]; expected the "
        r"gates of 'poor': .*cz.*\. Write the gate as a circuit of those, or use another device\.",
    ):
        poor_device().gate_error("sx", (1,))
    with pytest.raises(CircuitError, match=r"got 'cz' on qubits \[0, 2\]"):
        poor_device().gate_error("cz", (0, 2))


def test_seams_that_the_transpiler_loses_are_noticed(monkeypatch) -> None:

    monkeypatch.setattr(isa, "_pieces", lambda circuit: [circuit])
    with pytest.raises(
        CircuitError,
        match=r"keeps the seam between data and weights; got 1 parts; expected 2\. Choose another "
        r"optimization_level\.",
    ):
        to_isa(model(), device("rates", num_qubits=3), **OPTIONS)


def test_delays_in_a_circuit_of_the_users() -> None:
    ansatz = QuantumCircuit(1)
    ansatz.ry(Parameter("a"), 0)
    for length, unit in ((100, "ns"), (0.2, "us"), (50, "dt")):
        ansatz.delay(length, 0, unit)
    one = CircuitModel(angle(1), ansatz, ClassGroups(2, 1))
    noise = device("torino")
    native = to_isa(one, noise, **OPTIONS)
    seconds = [g.seconds for part in native.parts for g in part.gates if g.seconds is not None]
    np.testing.assert_allclose(sum(seconds), 1e-7 + 2e-7 + 50 * noise.target.dt, rtol=0.05)


ANGLE = Parameter("angle")


def test_transfer_matrices_are_qiskits() -> None:
    for dimension in (2, 4):
        channel = SuperOp(random_quantum_channel(dimension, seed=dimension))
        np.testing.assert_allclose(transfer(channel), PTM(channel).data.real, atol=1e-14)
    assert np.array_equal(fixed_transfer(None, None), np.eye(4))


@pytest.mark.parametrize("kind", [RZGate, RZZGate, RXXGate, CRXGate])
def test_turning_gates_at_any_angle(kind) -> None:
    found = turning(kind(ANGLE))
    for turn in (-7.0, 0.0, 0.3, 2.0):
        np.testing.assert_allclose(found.at(turn), transfer(SuperOp(kind(turn))), atol=1e-13)


@pytest.mark.parametrize(
    "gate", [UGate(0.1, 0.2, 0.3), U3Gate(1.0, -0.4, 0.3), U2Gate(0.4, 0.9), SXGate()]
)
def test_gates_with_several_angles_are_products(gate) -> None:
    circuit = QuantumCircuit(1)
    for factor in factors(gate):
        circuit.append(factor, [0])
    np.testing.assert_allclose(
        transfer(SuperOp(circuit)), transfer(SuperOp(gate)), atol=1e-13
    )  # fmt: skip


def test_gates_that_are_no_known_product_are_refused() -> None:
    gate = CUGate(*(Parameter(f"p{k}") for k in range(4)))
    with pytest.raises(
        CircuitError,
        match=r"a native gate has one free angle; got 'cu' with 4; expected rz, ry, rx, p, u, rzz "
        r"and the like\. Use another device\.",
    ):
        factors(gate)
    with pytest.raises(CircuitError, match="gates of a device have a matrix or are channels; got "):
        fixed_transfer(RZGate(ANGLE), None)


def random_steps(num_wires: int, count: int, seed: int) -> list[Step]:
    """Random channels on random wires, a third of them turning."""
    rng = np.random.default_rng(seed)
    out, slot = [], 0
    for k in range(count):
        width = int(rng.integers(1, 3))
        wires = tuple(rng.permutation(num_wires)[:width].tolist())
        if rng.random() < 0.35:
            kind = RZGate if width == 1 else (RZZGate, CRXGate)[k % 2]
            out.append(Step(wires, turning(kind(ANGLE)), slot))
            slot += 1
        else:
            matrix = transfer(SuperOp(random_quantum_channel(2**width, seed=seed % 2**31 + k)))
            out.append(Step(wires, matrix))
    return out


def one_by_one(sequence: list[Step], num_wires: int, slots: np.ndarray) -> np.ndarray:
    """The whole channel as one matrix, step by step."""
    whole = np.eye(4**num_wires)
    for step in sequence:
        what = step.what.at(slots[step.slot]) if isinstance(step.what, Turning) else step.what
        axes = [num_wires - 1 - w for w in reversed(step.wires)]
        split = whole.reshape(*[4] * num_wires, -1)
        split = np.moveaxis(split, axes, range(len(axes)))
        moved = what @ split.reshape(len(what), -1)
        whole = np.moveaxis(moved.reshape(split.shape), range(len(axes)), axes).reshape(whole.shape)
    return whole


@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    num_wires=st.integers(2, 4), count=st.integers(0, 14), seed=st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_fused_blocks_are_the_steps(num_wires, count, seed) -> None:
    sequence = random_steps(num_wires, count, seed)
    free = sum(step.slot >= 0 for step in sequence)
    blocks = fuse(sequence, num_wires)
    assert len(blocks.blocks) <= sum(len(s.wires) == 2 for s in sequence) + num_wires
    section = Section(blocks, free, torch.float64, "cpu")
    rng = np.random.default_rng(seed)
    slots = rng.uniform(-4, 4, (3, free))
    x = rng.normal(size=(3, 4**num_wires))
    each = section.matrices(torch.from_numpy(slots))
    forward = section.sweep(torch.from_numpy(x), each, adjoint=False).numpy()
    whole = [one_by_one(sequence, num_wires, row) for row in slots]
    np.testing.assert_allclose(forward, [w @ v for w, v in zip(whole, x, strict=True)], atol=1e-10)
    # Backwards with common angles: by torch, and by NumPy with its gradient.
    common = torch.tensor(slots[0], requires_grad=True)
    matrices = section.matrices(common)
    back = section.sweep(torch.from_numpy(x), matrices, adjoint=True)
    np.testing.assert_allclose(back.detach().numpy(), x @ whole[0], atol=1e-10)
    pulled = pull_back(section, x, matrices.detach().numpy())
    np.testing.assert_allclose(pulled.rows, back.detach().numpy(), atol=1e-12)
    if not matrices.requires_grad or not len(matrices) or not free:
        return
    c = rng.normal(size=x.shape)
    (slow,) = torch.autograd.grad(back, matrices, torch.from_numpy(c), retain_graph=True)
    np.testing.assert_allclose(pulled.gradient(c), slow.numpy(), atol=1e-10)


def test_a_crx_between_neighbours_is_one_block() -> None:
    cz, sx = fixed_transfer(CZGate(), None), fixed_transfer(SXGate(), None)
    rz = turning(RZGate(ANGLE))
    sequence = [
        Step((0,), sx), Step((0, 1), cz), Step((1,), sx), Step((1,), rz, 0), Step((1,), sx),
        Step((1, 0), exchange(cz)), Step((1,), rz, 1), Step((2,), sx),
    ]  # fmt: skip
    blocks = fuse(sequence, 3)
    assert [block.wires for block in blocks.blocks] == [(0, 1), (0, 2)]
    assert [len(block.pieces) for block in blocks.blocks] == [3, 1]
