# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, generate_preset_pass_manager, transpile
from qiskit.circuit import Parameter
from qiskit.circuit.library import CZGate
from qiskit.primitives import StatevectorSampler
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import SparsePauliOp, Statevector

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import angle
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import CircuitError, DeviceError, JobError, ResourceError
from qiskit_kd.execution import memory
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.noise_sources import DeviceNoise, fake_device, rate_device, readout_rates
from qiskit_kd.execution.noisy import NoisyEngine
from qiskit_kd.execution.noisy.program_cache import ProgramCache
from qiskit_kd.execution.primitives import outcomes
from qiskit_kd.execution.pubs import estimator_pubs, sampler_pubs
from qiskit_kd.execution.runtime.client import Client, Job
from qiskit_kd.execution.runtime.cost import cost_of_pubs
from qiskit_kd.execution.runtime.local import LocalClient
from qiskit_kd.execution.runtime.session import open_client, open_session
from qiskit_kd.execution.runtime.simulator import LocalSimulator
from qiskit_kd.execution.schema import RuntimeOptions

SHOTS = 20_000


@cache
def noise(name: str, *, readout: bool = True, scale: float = 1.0) -> DeviceNoise:
    backend = fake_device(name)
    return DeviceNoise(
        name, backend.target, readout_rates(backend), readout_error=readout, scale=scale
    )


def frequencies(bits) -> np.ndarray:
    """`(rows, outcomes)`."""
    found = outcomes(bits).reshape(-1, bits.num_shots)
    size = 2**bits.num_bits
    return np.stack([np.bincount(row, minlength=size) for row in found]) / bits.num_shots


def distance(p: np.ndarray, q: np.ndarray) -> float:
    """The largest total variation among rows."""
    return float(np.abs(np.asarray(p) - q).sum(-1).max() / 2)


def sampled(device: DeviceNoise | None, pubs: list, shots: int = 1024, *, seed: int = 0) -> list:
    return LocalSimulator(device).run(sampler_pubs(pubs, shots), seed)


def estimated(device: DeviceNoise | None, pub: tuple, precision: float = 0.0) -> list:
    return LocalSimulator(device).run(estimator_pubs([pub], precision), 0)


def two_islands(*, wait: bool = False) -> QuantumCircuit:
    """Two asymmetric circuits on FakeLagos, qubits 0-1 and 4-5-6; registers across both."""
    a, b = Parameter("a"), Parameter("b")
    c, d = ClassicalRegister(2, "left"), ClassicalRegister(3, "mixed")
    circuit = QuantumCircuit(7)
    circuit.add_register(c, d)
    circuit.ry(b, 0)
    circuit.cx(0, 1)
    circuit.rx(a + 0.3 * b, 1)
    circuit.h(6)
    circuit.cx(5, 6)
    circuit.ry(2 * b, 5)
    circuit.cx(5, 4)
    if wait:
        circuit.delay(40_000, 0, "ns")
    circuit.barrier()
    circuit.measure([1, 5], c)
    circuit.measure([0, 6, 4], d)
    return circuit


def on_lagos(circuit: QuantumCircuit, **options) -> QuantumCircuit:
    return transpile(
        circuit,
        target=fake_device("fake_lagos").target,
        seed_transpiler=1,
        initial_layout=list(range(7)),
        optimization_level=1,
        **options,
    )


VALUES = np.array([[0.4, -1.1], [2.0, 0.7]])


def joint(data, *names: str) -> np.ndarray:
    """Frequencies of several registers together, the first in the lowest bits."""
    total, width = 0, 0
    for name in names:
        bits = getattr(data, name)
        total = total + (outcomes(bits).reshape(len(VALUES), -1) << width)
        width += bits.num_bits
    return np.stack([np.bincount(row, minlength=2**width) / row.size for row in total])


@pytest.mark.parametrize("scheduled", [False, True])
def test_equal_in_law_to_the_fake_device(scheduled: bool) -> None:
    options = {"scheduling_method": "alap"} if scheduled else {}
    isa = on_lagos(two_islands(wait=scheduled), **options)
    assert scheduled == ("delay" in isa.count_ops())
    names = "left", "mixed"
    mine = sampled(noise("fake_lagos"), [(isa, VALUES, SHOTS)], seed=3)[0].data
    bound = [isa.assign_parameters(row) for row in VALUES]
    counts = fake_device("fake_lagos").run(bound, shots=SHOTS, seed_simulator=7).result()
    theirs = np.zeros((len(VALUES), 32))
    for row in range(len(VALUES)):
        for key, count in counts.get_counts(row).items():
            theirs[row, int(key.replace(" ", ""), 2)] = count / SHOTS
    limit = 1.3 * np.sqrt(32 / (np.pi * SHOTS))  # mean TV of two equal laws is at most 1/1.3 of it
    seen = joint(mine, *names)
    assert distance(seen, theirs) < limit
    for other in (noise("fake_lagos", readout=False), None):  # the test would notice
        wrong = sampled(other, [(isa, VALUES, SHOTS)], seed=3)[0].data
        assert distance(joint(wrong, *names), theirs) > 2 * limit


def model_on_torino() -> tuple[CircuitModel, NoisyEngine]:
    device = noise("fake_torino")
    model = CircuitModel(angle(4), hardware_efficient(4, 2), ClassGroups(16, 4))
    # Aer leaves out terms of errors below 1e-10.
    return model, NoisyEngine(ProgramCache(lambda _: device, cutoff=1e-10))


def test_probabilities_are_those_of_the_noisy_engine() -> None:
    model, engine = model_on_torino()
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 4)), rng.normal(size=model.num_weights)
    native = engine.program(model).native
    circuit = native.circuit.copy()
    circuit.add_register(ClassicalRegister(4, "meas"))
    circuit.measure(list(native.final), range(4))
    values = dict(zip(model.inputs, model.encoding.angles(x).T, strict=True))
    values |= dict(zip(model.weights, np.broadcast_to(w[:, None], (len(w), 3)), strict=True))
    rows = np.stack([values[p] for p in circuit.parameters], axis=1)
    (part,) = LocalSimulator(noise("fake_torino")).parts(circuit)
    order = np.argsort(part.bits)
    found = part.probabilities(rows).reshape(3, 2, 2, 2, 2)
    found = found.transpose(0, *(4 - order[::-1])).reshape(3, 16)
    expected = engine.outputs(model, x, w)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("name", ["fake_lagos", "fake_torino"])
def test_blocks_give_what_aer_gives(name: str, scheduled: bool) -> None:
    options = {"scheduling_method": "alap"} if scheduled else {}
    circuit = two_islands(wait=scheduled)
    circuit.add_register(ClassicalRegister(1, "lonely"))
    circuit.measure(3, circuit.cregs[-1])
    isa = transpile(circuit, target=fake_device(name).target, seed_transpiler=2, **options)
    simulator = LocalSimulator(noise(name))
    values = np.random.default_rng(0).normal(size=(40, 2))
    parts = simulator.parts(isa)
    assert len(parts) == 3
    for part in parts:
        reference = part.reference_probabilities(values)
        reference = reference / reference.sum(1, keepdims=True)
        np.testing.assert_allclose(part.probabilities(values), reference, rtol=0, atol=1e-9)


def test_wide_parts_run_on_aer() -> None:
    target, readout = rate_device(8, two_qubit=0.02, readout=(0.01, 0.03))
    circuit = QuantumCircuit(8, 2)
    circuit.sx(0)
    for k in range(7):
        circuit.cz(k, k + 1)
        circuit.sx(k + 1)
    circuit.measure([1, 7], [1, 0])
    (wide,) = LocalSimulator(DeviceNoise("rates", target, readout)).parts(circuit)
    values = np.zeros((2, 0))
    reference = wide.reference_probabilities(values)
    np.testing.assert_allclose(wide.probabilities(values), reference, atol=1e-7)
    ideal = LocalSimulator(None).parts(circuit)[0].probabilities(values)
    assert np.abs(ideal - reference).max() > 1e-3


def test_without_noise_registers_bits_and_rows_lie_where_they_belong() -> None:
    circuit = two_islands()
    data = sampled(None, [(circuit, VALUES[:, None])], seed=5, shots=SHOTS)[0].data
    assert data.shape == data.left.shape == data.mixed.shape == (2, 1)
    assert (data.left.num_bits, data.mixed.num_bits) == (2, 3)
    assert data.left.num_shots == SHOTS
    bare = circuit.remove_final_measurements(inplace=False)
    exact = np.stack(
        [Statevector(bare.assign_parameters(row)).probabilities([1, 5, 0, 6, 4]) for row in VALUES]
    )
    assert distance(joint(data, "left", "mixed"), exact) < 1.3 * np.sqrt(32 / (2 * np.pi * SHOTS))


def test_registers_wider_than_a_byte_match_qiskits_own_sampler() -> None:
    circuit = QuantumCircuit(11)
    circuit.add_register(ClassicalRegister(11, "wide"), ClassicalRegister(1, "unused"))
    for qubit in (0, 3, 7, 8, 10):
        circuit.x(qubit)
    circuit.measure(range(11), [*range(3, 11), 0, 1, 2])
    theirs = StatevectorSampler().run([circuit], shots=5).result()
    for data in (sampled(None, [circuit], 5)[0].data, theirs[0].data):
        assert data.wide.get_counts() == {"".join(reversed("10110010001")): 5}
        assert data.unused.get_counts() == {"0": 5}
        assert data.wide.array.shape == (5, 2)


def test_shots_are_a_function_of_seed_and_content() -> None:
    circuit = two_islands()

    def shots(seed: int, circuit=circuit, values=VALUES, job: int = 0) -> np.ndarray:
        pubs = [(circuit, values, 50)] * (job + 1)
        return sampled(None, pubs, seed=seed)[job].data.mixed.array

    renamed = circuit.copy(name="another name")
    np.testing.assert_array_equal(shots(1), shots(1))
    np.testing.assert_array_equal(shots(1), shots(1, renamed))
    for other in (shots(2), shots(1, values=VALUES + 1e-3), shots(1, job=1)):
        assert (other != shots(1)).any()
    changed = circuit.copy()
    changed.data[1] = changed.data[1].replace(operation=CZGate())
    assert (shots(1, changed) != shots(1)).any()


def test_a_circuit_is_prepared_once() -> None:
    simulator = LocalSimulator(noise("fake_lagos"))
    isa = on_lagos(two_islands())
    first = simulator.parts(isa)
    assert simulator.parts(isa.copy(name="again")) is first
    assert [part.subcircuit.qubits for part in first] == [(0, 1), (4, 5, 6)]
    changed = isa.copy()
    changed.x(0)
    changed.data.insert(0, changed.data.pop())
    assert simulator.parts(changed) is not first


def test_fifteen_tiles_of_six_qubits_are_no_circuit_of_ninety() -> None:
    whole = QuantumCircuit(133)
    theta = Parameter("t")
    for tile in range(15):
        register = ClassicalRegister(6, f"tile_{tile}")
        whole.add_register(register)
        for k in range(6):
            whole.rx(theta, 6 * tile + k)
        for k in range(5):
            whole.cx(6 * tile + k, 6 * tile + k + 1)
        whole.measure(range(6 * tile, 6 * tile + 6), register)
    result = sampled(None, [(whole, [[0.3], [0.4], [0.5]], 7)])[0].data
    assert len(result) == 15
    assert all(result[f"tile_{k}"].shape == (3,) for k in range(15))


def test_serves_an_engine() -> None:
    model, engine = model_on_torino()
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 4)), rng.normal(size=model.num_weights)
    options = {"kind": "runtime", "device": "fake_torino", "shots": SHOTS}
    backend = Backend("torino", RuntimeOptions.model_validate(options), "a test")
    sampled = backend.engine(seed=0)
    found = sampled.outputs(model, x, w)
    assert sampled.usage.jobs == sampled.usage.pubs == 1
    limit = 1.3 * np.sqrt(16 / (2 * np.pi * SHOTS)) + 0.05  # not the same qubits
    assert distance(found, engine.outputs(model, x, w)) < limit


def test_without_parameters() -> None:
    circuit = QuantumCircuit(2, 2)
    circuit.x(1)
    circuit.measure([0, 1], [0, 1])
    data = sampled(None, [circuit], 3)[0].data
    assert data.c.shape == ()
    assert data.c.get_counts() == {"10": 3}


def test_estimates() -> None:
    isa = on_lagos(two_islands())
    bare = isa.remove_final_measurements(inplace=False)
    operators = [
        SparsePauliOp(["IIIIIZX", "ZIXIIII"], [0.5, -2.0]),  # one part each
        SparsePauliOp("IZIIIYI"),  # a product over both
        SparsePauliOp("IIIIIII"),
    ]
    pub = (isa, [[o] for o in operators], VALUES)
    exact = estimated(None, pub)[0].data
    assert exact.evs.shape == (3, 2)
    for column, row in enumerate(VALUES):
        state = Statevector(bare.assign_parameters(row))
        expected = [state.expectation_value(o).real for o in operators]
        np.testing.assert_allclose(exact.evs[:, column], expected, atol=1e-12)
    assert (exact.stds == 0).all()
    noisy = estimated(noise("fake_lagos"), pub)[0].data
    assert (np.abs(noisy.evs[1]) < np.abs(exact.evs[1])).all()
    (found,) = estimated(None, pub, 1 / 64)
    assert found.metadata["target_precision"] == 1 / 64
    error = found.data.evs - exact.evs
    assert (np.abs(error) < 4.5 * np.maximum(found.data.stds, 1e-3)).all()
    assert np.abs(error).max() > 1e-4
    assert (found.data.stds[2] == 0).all()


def test_noise_of_estimates_is_that_of_aers_density_matrix() -> None:
    from qiskit_aer import AerSimulator

    isa = on_lagos(two_islands())
    bare = isa.remove_final_measurements(inplace=False).assign_parameters(VALUES[0])
    operator = SparsePauliOp("IZIIIYI")
    bare.save_expectation_value(operator, range(7))
    simulator = AerSimulator.from_backend(fake_device("fake_lagos"), method="density_matrix")
    expected = simulator.run(bare).result().data(0)["expectation_value"]
    found = estimated(noise("fake_lagos"), (isa, operator, VALUES[0]))
    assert found[0].data.evs == pytest.approx(expected, abs=1e-7)


def broken(kind: str) -> QuantumCircuit:
    circuit = QuantumCircuit(7, 2)
    if kind == "late":
        circuit.measure(0, 0)
        circuit.sx(0)
    elif kind == "twice":
        circuit.measure(0, 0)
        circuit.measure(1, 0)
    elif kind == "reset":
        circuit.reset(2)
        circuit.measure(2, 0)
    elif kind == "control":
        circuit.measure(0, 0)
        with circuit.if_test((circuit.clbits[0], 1)):
            circuit.x(1)
    elif kind == "foreign":
        circuit.h(0)
        circuit.measure(0, 0)
    return circuit


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "late",
            r"measures every qubit at most once; got 'sx' on qubit 0 after its measurement\. "
            r"Measure at the end, and unroll control flow\.",
        ),
        ("twice", "got two measurements of qubit 1 or into bit 0"),
        ("reset", r"got 'reset' on qubits \[2\]"),
        ("control", "got 'if_else' on qubits"),
        ("foreign", r"consists of gates of the device; got 'h' on qubits \[0\]"),
    ],
)
def test_circuits_that_cannot_be_run(kind: str, message: str) -> None:
    with pytest.raises(CircuitError, match=message):
        sampled(noise("fake_lagos"), [broken(kind)])


def test_other_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = QuantumCircuit(8, 1)
    with pytest.raises(CircuitError, match="no wider than the device; got 8 qubits"):
        sampled(noise("fake_lagos"), [wide])
    target, readout = rate_device(20, one_qubit=1e-3)
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    tied = QuantumCircuit(20, 1)
    for k in range(19):
        tied.cz(k, k + 1)
    tied.measure(0, 0)
    with pytest.raises(ResourceError, match="noisy state of 20 qubits that gates tie together"):
        sampled(DeviceNoise("rates", target, readout), [tied])
    many = QuantumCircuit(1, 1)
    many.measure(0, 0)
    with pytest.raises(ResourceError, match="1 circuits with 1,000,000,000 shots each"):
        sampled(None, [many], 10**9)
    tall = QuantumCircuit(26, 26)
    tall.cx(range(25), range(1, 26))
    tall.measure(range(26), range(26))
    with pytest.raises(ResourceError, match="the probabilities of 1 circuits and 26 qubits"):
        sampled(None, [tall], 1)


# As a client that runs jobs


def client(device: str = "fake_lagos", **more: object) -> Client:
    return open_client(RuntimeOptions.model_validate({"kind": "runtime", "device": device, **more}))


def bell(sender: Client) -> QuantumCircuit:
    angle, plain = Parameter("a"), QuantumCircuit(2)
    plain.ry(angle, 0)
    plain.cx(0, 1)
    plain.measure_all()
    passes = generate_preset_pass_manager(1, target=sender.device.target, seed_transpiler=0)
    return passes.run(plain)


def request(sender: Client, tag: str = "one") -> Job:
    pubs = (SamplerPub.coerce((bell(sender), [[0.0], [np.pi]]), 400),)
    return Job(tag, "sampler", pubs, cost=cost_of_pubs(pubs, target=sender.device.target))


@pytest.mark.parametrize("device", ["fake_lagos", "aer"])
def test_a_job_runs_as_it_is_submitted(device: str) -> None:
    sender = client(device)
    assert isinstance(sender, LocalClient)
    assert sender.local
    job = request(sender)
    job_id = sender.submit(job)
    (result,) = sender.result(job_id, timeout=1.0)
    bits = result.data.meas
    assert (bits.shape, bits.num_shots) == ((2,), 400)
    counts = [bits[k].get_int_counts() for k in range(2)]
    noise = 0 if device == "aer" else 0.45  # it reads badly
    assert counts[0].get(0, 0) >= 400 * (1 - noise)
    assert counts[1].get(3, 0) >= 400 * (1 - noise)
    state = sender.state(job_id)
    assert (state.status, state.reason) == ("done", "")
    assert state.seconds == job.cost.seconds > 2
    assert sender.find("one") == [state]
    assert sender.find("two") == []
    assert sender.tag_of(job_id) == "one"
    sender.cancel(job_id)
    sender.close()
    assert sender.state(job_id) == state
    assert sender.remaining_seconds() is None
    assert repr(sender) == f"LocalClient({device!r})"


def test_shots_follow_seed_and_tag() -> None:
    def bits(tag: str, **more: object) -> np.ndarray:
        sender = client(**more)
        array: np.ndarray = sender.result(sender.submit(request(sender, tag)))[0].data.meas.array
        return array

    np.testing.assert_array_equal(bits("a"), bits("a"))
    np.testing.assert_array_equal(bits("a"), bits("a", rep_delay=1e-4))
    assert (bits("a") != bits("b")).any()
    assert (bits("a") != bits("a", seed=1)).any()


def test_the_delay_is_charged_and_none_is_a_delay_too() -> None:
    def seconds(delay: float | None) -> float:
        options = {"kind": "runtime", "device": "fake_lagos", "rep_delay": delay}
        session = open_session(RuntimeOptions.model_validate(options), "lagos")
        pub = (bell(session.client), [[0.0], [np.pi]], 400)
        return session.perform("sampler", [pub], repetition=0).cost.seconds

    default, fast, none = seconds(None), seconds(1e-4), seconds(0.0)
    assert default - fast == pytest.approx(800 * (250e-6 - 1e-4))
    assert fast - none == pytest.approx(800 * 1e-4)
    assert none < 2.1


def test_shots_of_the_entry_count_where_a_pub_names_none() -> None:
    options = {"kind": "runtime", "device": "fake_lagos", "shots": 7}
    sampler = Backend("lagos", RuntimeOptions.model_validate(options), "a test").sampler()
    (found,) = sampler.run([(bell(client()), [[0.0], [np.pi]])]).result()
    assert found.data.meas.num_shots == 7


def test_expectation_values() -> None:
    sender = client()
    isa = bell(sender).remove_final_measurements(inplace=False)
    operator = SparsePauliOp("IZ").apply_layout(isa.layout)
    pub = EstimatorPub.coerce((isa, operator, [[0.0], [np.pi]]), 0.05)
    found = sender.result(sender.submit(Job("e", "estimator", (pub,))))
    np.testing.assert_allclose(found[0].data.evs, [1, -1], atol=0.3)


def test_what_the_device_could_not_run_does_not_run_here() -> None:
    sender = client()
    plain = QuantumCircuit(2)
    plain.h(0)
    plain.measure_all()
    with pytest.raises(DeviceError, match="circuits consist of gates that the device has"):
        sender.submit(Job("wrong", "sampler", (SamplerPub.coerce(plain, 10),)))
    assert sender.find("wrong") == []


def test_a_job_of_an_earlier_process_has_failed_and_can_be_sent_again() -> None:
    job_id = client().submit(request(client(), "early"))
    later = client()
    state = later.state(job_id)
    assert (state.status, state.reason) == ("failed", "it ended with the process that ran it")
    assert later.find("early") == []
    assert later.tag_of(job_id) == "early"
    with pytest.raises(
        JobError,
        match=f"the job {job_id} was run in this process; got a job of "
        "another process. Run the same command again",
    ) as caught:
        later.result(job_id)
    assert caught.value.job_id == job_id
    assert later.tag_of("d123") is None  # of the service
