# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import ClassicalRegister, QuantumCircuit, qpy
from qiskit.circuit import Gate, Parameter, ParameterVector
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import Statevector
from qiskit.transpiler import InstructionProperties, Target

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import amplitude, angle, dense_angle, reuploading
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import CircuitError, DataError, DeviceError
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.measurement import bases, measured
from qiskit_kd.execution.noise_sources import DeviceNoise, fake_device, rate_device, readout_rates
from qiskit_kd.execution.primitives import outcomes
from qiskit_kd.execution.runtime.cost import JOB_SECONDS, cost_of_pubs
from qiskit_kd.execution.runtime.placement import Tile
from qiskit_kd.execution.runtime.simulator import LocalSimulator
from qiskit_kd.execution.runtime.tiling import Tiling, line_target, tile_circuit

ENCODINGS = {
    "angle": angle(3),
    "dense_angle": dense_angle(3),
    "amplitude": amplitude(3),
    "reuploading": reuploading(3, layers=2),
}


@cache
def target(name: str = "fake_torino") -> Target:
    return fake_device(name).target


@cache
def model(encoding: str, layers: int) -> CircuitModel:
    readout = ClassGroups(3, 3, scheme="modulo")
    return CircuitModel(ENCODINGS[encoding], hardware_efficient(3, layers), readout)


@cache
def tiling(encoding: str, layers: int, tiles: int, device: str = "fake_torino") -> Tiling:
    one = model(encoding, layers)
    circuit = measured(Expansion(one).circuit, bases(one.readout)[0])
    return tile_circuit(circuit, target(device), tiles=tiles, optimization_level=1)


SIMULATOR = LocalSimulator(None)


def exact_by_sample(tiled: Tiling, values: np.ndarray) -> np.ndarray:
    """`(samples, outcomes)` exact probabilities of what each sample's bits are read from."""
    batch = tiled.tiled(values, 1)
    circuit, copies = batch.pub.circuit, len(tiled.tiles)
    rows = batch.pub.parameter_values.as_array(circuit.parameters)
    by_first_bit = {min(part.bits): part for part in SIMULATOR.parts(circuit)}
    found = []
    for k in range(copies):
        register = next(r for r in circuit.cregs if r.name == f"meas_{k:02d}")
        part = by_first_bit[circuit.find_bit(register[0]).index]
        p = part.probabilities(rows).reshape(len(rows), *(2,) * len(part.bits))
        order = np.argsort(part.bits)[::-1]  # axes from the highest bit to the lowest
        axes = [len(part.bits) - int(place) for place in order]
        found.append(p.transpose(0, *axes).reshape(len(rows), -1))
    filled = np.concatenate(found)[: len(values)]
    result = np.empty_like(filled)
    result[batch.order] = filled
    return result


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_class_distributions_are_those_of_separate_circuits(data) -> None:
    encoding = data.draw(st.sampled_from(sorted(ENCODINGS)))
    layers, tiles = data.draw(st.sampled_from([(1, 2), (2, 3)]))
    samples = data.draw(st.integers(1, 8))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    one, tiled = model(encoding, layers), tiling(encoding, layers, tiles)
    expansion = Expansion(one)
    values = rng.uniform(-3, 3, (samples, len(expansion.circuit.parameters)))
    columns = [c for _, c in expansion.columns(tiled.single)]
    (basis,) = bases(one.readout)
    found = basis.of_probabilities(exact_by_sample(tiled, values[:, columns]))
    separate = [
        basis.of_probabilities(
            Statevector(expansion.circuit.assign_parameters(row)).probabilities(basis.qubits)
        )
        for row in values
    ]
    np.testing.assert_allclose(found, separate, atol=1e-10)
    assert tiled.tiled(values[:, columns], 1).pub.shape == (-(-samples // tiles),)


def switches(names: tuple[str, ...]) -> QuantumCircuit:
    """Bits that follow from the angles: every one of them in another way, in two registers."""
    circuit = QuantumCircuit(3)
    circuit.add_register(ClassicalRegister(2, "meas"), ClassicalRegister(1, "rest"))
    own = {p.name: p for p in VECTOR}
    for k, name in enumerate(names):
        circuit.rx(own[name] if name in own else Parameter(name), k % 3)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    circuit.x(0)
    circuit.measure([1, 0], circuit.cregs[0])
    circuit.measure(2, circuit.cregs[1])
    return circuit


def ordered(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if names == TRICKY["vector"] else tuple(sorted(names))


def switched(names: tuple[str, ...], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `switches` reads in each register; rows of 0 and 1, a column per sorted name."""
    on = dict(zip(ordered(names), rows.T, strict=True))
    bits = [np.zeros(len(rows), int) for _ in range(3)]
    for k, name in enumerate(names):
        bits[k % 3] ^= on[name]
    bits[1] ^= bits[0]
    bits[2] ^= bits[1]
    return bits[1] | ((1 - bits[0]) << 1), bits[2]


VECTOR = ParameterVector("w", 12)  # sorted by number, where names would put 10 before 2
TRICKY = {
    "vector": tuple(p.name for p in VECTOR),
    "plain": ("weight_000", "input_00", "input_01", "weight_001"),
    "alike": ("tile_00_x", "x", "tile_01_x", "00_x", "tile_00_tile_00_x"),
    "few": ("b",),
}


@cache
def tiled_switches(names: str, tiles: int) -> Tiling:
    return tile_circuit(switches(TRICKY[names]), target(), tiles=tiles, optimization_level=1)


def of_single(tiled: Tiling) -> list[int]:
    return [tiled.parameters.index(p.name) for p in tiled.single.parameters]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_bit_of_every_sample_comes_back_where_it_belongs(data) -> None:
    names = data.draw(st.sampled_from(sorted(TRICKY)))
    tiled = tiled_switches(names, data.draw(st.sampled_from([1, 2, 3, 12])))
    samples, shots = data.draw(st.integers(1, 26)), data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    on = rng.integers(0, 2, (samples, len(TRICKY[names])))
    assert tiled.parameters == ordered(TRICKY[names])
    batch = tiled.tiled(on * np.pi, shots)
    result = SIMULATOR.run([batch.pub], 0)[0].data
    assert len(result) == 2 * len(tiled.tiles)
    seen = batch.untiled(result)
    meas, rest = switched(TRICKY[names], on)
    for bits, expected, width in ((seen.meas, meas, 2), (seen.rest, rest, 1)):
        assert bits.num_bits == width
        np.testing.assert_array_equal(
            outcomes(bits), np.broadcast_to(expected[:, None], (samples, shots))
        )
    pub = SamplerPub.coerce((tiled.single, on[:, of_single(tiled)] * np.pi, 1))
    alone = SIMULATOR.run([pub], 0)[0].data
    np.testing.assert_array_equal(outcomes(alone.meas)[:, 0], meas)
    np.testing.assert_array_equal(outcomes(alone.rest)[:, 0], rest)
    assert batch.pub.shots == shots
    assert batch.pub.shape == (-(-samples // len(tiled.tiles)),)


@pytest.mark.parametrize("names", TRICKY)
def test_parameters_of_copies_never_collide(names: str) -> None:
    tiled = tiled_switches(names, 12)
    found = [p.name for p in tiled.circuit.parameters]
    assert len(found) == len(set(found)) == 12 * len(TRICKY[names])
    assert {p.name for p in tiled.single.parameters} == set(TRICKY[names])


def test_rows_of_equal_data_stay_on_one_copy() -> None:
    tiled = tiled_switches("plain", 3)
    data = np.random.default_rng(0).normal(size=(6, 2))
    weights = np.random.default_rng(1).normal(size=(4, 2))
    values = np.concatenate(  # settings of the weights outermost, as engines send them
        [np.tile(data, (4, 1)), np.repeat(weights, 6, axis=0)], axis=1
    )
    where = tiled.tiled(values, 1).tile_of.reshape(4, 6)
    assert (where == where[0]).all()
    assert sorted(where[0]) == [0, 0, 1, 1, 2, 2]


def gates_on(tiled: Tiling, qubits: tuple[int, ...]) -> list:
    return [
        (item.operation, tuple(tiled.circuit.find_bit(q).index for q in item.qubits))
        for item in tiled.circuit.data
        if {tiled.circuit.find_bit(q).index for q in item.qubits} & set(qubits)
    ]


@pytest.mark.parametrize(
    ("device", "at_least"), [("fake_torino", 13), ("fake_marrakesh", 15), ("fake_sherbrooke", 13)]
)
def test_auto_fills_the_device(device: str, at_least: int) -> None:
    one = CircuitModel(angle(6), hardware_efficient(6, 2), ClassGroups(4, 6))
    circuit = measured(Expansion(one).circuit, bases(one.readout)[0])
    tiled = tile_circuit(circuit, target(device))
    assert len(tiled.tiles) >= at_least
    quality = tiled.as_dict()["tiles"]
    assert max(each["ratio"] for each in quality) <= 3
    # What was left out would have fitted beside them, and is out of line.
    worse = [each["error"] for each in tiled.as_dict()["left_out"]]
    assert worse == sorted(worse)
    assert all(error > tiled.tiles[-1].error for error in worse)
    taken = [q for tile in (*tiled.tiles, *tiled.left_out) for q in tile.qubits]
    assert len(taken) == len(set(taken)) == 6 * (len(tiled.tiles) + len(tiled.left_out))
    assert [each["ratio"] for each in quality] == sorted(each["ratio"] for each in quality)
    used = {tiled.circuit.find_bit(q).index for i in tiled.circuit.data for q in i.qubits}
    assert used == {q for tile in tiled.tiles for q in tile.qubits}
    for k, tile in enumerate(tiled.tiles):
        gates = gates_on(tiled, tile.qubits)
        assert all(set(where) <= set(tile.qubits) for _, where in gates)
        assert all(target(device).instruction_supported(g.name, where) for g, where in gates)
        assert set(tiled.measured(k)) == set(tile.qubits)
        errors = [target(device)[g.name][where].error or 0.0 for g, where in gates]
        # Turning a gate that has a direction takes one-qubit gates which the choice left out.
        slack = 0.1 if device == "fake_sherbrooke" else 1e-9
        assert tile.error == pytest.approx(-np.log1p(-np.array(errors)).sum(), rel=slack)
    single = {tiled.single.find_bit(q).index for i in tiled.single.data for q in i.qubits}
    assert single == set(tiled.tiles[0].qubits)
    assert quality[0] == {
        "qubits": list(tiled.tiles[0].qubits),
        "error": tiled.tiles[0].error,
        "ratio": 1.0,
    }


def test_gates_that_have_a_direction() -> None:
    tiled = tiling("reuploading", 1, 12, "fake_sherbrooke")
    one = model("reuploading", 1)
    directions = {
        tuple(tile.qubits.index(q) for q in where)
        for tile in tiled.tiles
        for gate, where in gates_on(tiled, tile.qubits)
        if gate.name == "ecr"
    }
    assert {(0, 1), (1, 0)} <= directions  # the test is about something
    expansion = Expansion(one)
    values = np.random.default_rng(0).uniform(-3, 3, (13, len(expansion.circuit.parameters)))
    columns = [c for _, c in expansion.columns(tiled.single)]
    expected = [Statevector(expansion.circuit.assign_parameters(v)).probabilities() for v in values]
    np.testing.assert_allclose(exact_by_sample(tiled, values[:, columns]), expected, atol=1e-10)


def test_a_copy_does_what_it_would_do_alone() -> None:
    backend = fake_device("fake_torino")
    noisy = LocalSimulator(DeviceNoise("fake_torino", backend.target, readout_rates(backend)))
    tiled = tiling("angle", 1, 3)
    values = np.random.default_rng(0).uniform(-3, 3, (3, len(tiled.parameters)))
    batch = tiled.tiled(values, 1)
    rows = batch.pub.parameter_values.as_array(batch.pub.circuit.parameters)
    parts = {part.subcircuit.qubits: part for part in noisy.parts(tiled.circuit)}
    best = parts[tuple(sorted(tiled.tiles[0].qubits))]
    (alone,) = noisy.parts(tiled.single)
    np.testing.assert_allclose(
        best.probabilities(rows), alone.probabilities(values[[0]][:, of_single(tiled)]), atol=1e-12
    )
    assert [tuple(sorted(t.qubits)) for t in tiled.tiles] != sorted(parts)  # best, not first
    assert tiled.single.cregs[0].name == "meas"


def test_a_tile_out_of_line_is_left_out_and_too_many_are_refused() -> None:
    line, _ = rate_device(8, two_qubit=0.01, readout=(0.01, 0.01))
    for low, error in ((1, 1.0), (3, 1.0), (4, 0.4), (5, 1.0)):
        for pair in ((low, low + 1), (low + 1, low)):
            known = InstructionProperties(line["cz"][pair].duration, error)
            line.update_instruction_properties("cz", pair, known)
    circuit = QuantumCircuit(2)
    circuit.cx(0, 1)
    circuit.measure_all()
    tiles = tile_circuit(circuit, line).tiles
    assert {tuple(sorted(tile.qubits)) for tile in tiles} == {(0, 1), (2, 3), (6, 7)}
    assert len(tile_circuit(circuit, line, worst=1e9).tiles) == 4
    with pytest.raises(DeviceError, match=r"got tiles: 4 of 2 qubits; expected at most 3\. Ask fo"):
        tile_circuit(circuit, line, tiles=4)


def test_time_on_the_device_falls_twelvefold() -> None:
    one = CircuitModel(angle(6), hardware_efficient(6, 2), ClassGroups(4, 6))
    circuit = measured(Expansion(one).circuit, bases(one.readout)[0])
    tiled = tile_circuit(circuit, target())
    rng = np.random.default_rng(0)
    seconds = {"tiled": 0.0, "one by one": 0.0}
    for batch in [32] * 9 + [12]:  # an epoch of 300 samples, SPSA with 4 perturbations
        values = rng.normal(size=(9 * batch, len(tiled.parameters)))
        alone = (tiled.single, values, 1024)
        for kind, pub in (
            ("tiled", tiled.tiled(values, 1024).pub),
            ("one by one", SamplerPub.coerce(alone)),
        ):
            cost = cost_of_pubs([pub], target=target())
            seconds[kind] += cost.seconds - cost.jobs * JOB_SECONDS
    assert seconds["one by one"] >= 12 * seconds["tiled"]


def test_a_tiling_can_be_stored() -> None:
    tiled = tiled_switches("alike", 3)
    with io.BytesIO() as stream:
        qpy.dump(tiled.circuit, stream)
        stream.seek(0)
        (circuit,) = qpy.load(stream)
    again = Tiling.from_dict(circuit, json.loads(json.dumps(tiled.as_dict())))
    assert again.tiles == tiled.tiles
    assert again.left_out == tiled.left_out == ()  # three were asked for, no matter what else fits
    assert isinstance(again.tiles[0], Tile)
    assert again.parameters == tiled.parameters
    assert again.single == tiled.single or again.single.data[0].operation.name == "rz"
    values = np.random.default_rng(0).normal(size=(7, len(tiled.parameters)))
    rows = [
        each.tiled(values, 1).pub.parameter_values.as_array(each.circuit.parameters)
        for each in (tiled, again)
    ]
    np.testing.assert_array_equal(*rows)
    assert again.measured(1) == tiled.measured(1)


def test_line_of_a_device() -> None:
    qubits = tiled_switches("few", 2).tiles[1].qubits
    small = line_target(target(), qubits)
    assert small.num_qubits == 3
    assert sorted(small["cz"]) == [(0, 1), (1, 0), (1, 2), (2, 1)]
    assert small["cz"][(0, 1)].error == target()["cz"][qubits[:2]].error
    assert small["sx"][(2,)].error == target()["sx"][(qubits[2],)].error
    assert small.dt == target().dt
    assert small.qubit_properties[1].t1 == target().qubit_properties[qubits[1]].t1
    full, _ = rate_device(5, coupling="full")
    assert sorted(line_target(full, (4, 0, 2))["cz"]) == [(0, 1), (1, 0), (1, 2), (2, 1)]


def test_refusals() -> None:
    with pytest.raises(CircuitError, match="copies of a circuit with measurements; got no classic"):
        tile_circuit(QuantumCircuit(2), target())
    with pytest.raises(DataError, match=r"takes 1 values; got shape \(4, 2\); expected \(samples"):
        tiled_switches("few", 2).tiled(np.zeros((4, 2)), 1)
    opaque = QuantumCircuit(1, 1)
    opaque.append(Gate("opaque", 1, []), [0])
    opaque.measure(0, 0)
    with pytest.raises(DeviceError, match=r"written in the gates of the device; got .*opaque"):
        tile_circuit(opaque, target())
    wide = QuantumCircuit(134)
    wide.measure_all()
    with pytest.raises(DeviceError, match="got 134 qubits in a row"):
        tile_circuit(wide, target())
