# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import qiskit
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, generate_preset_pass_manager
from qiskit.circuit import Parameter
from qiskit.primitives import BitArray, DataBin, PubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.providers.fake_provider import GenericBackendV2

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import amplitude
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import StorageError
from qiskit_kd.execution.compiled import circuit_bytes, circuit_digest
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.measurement import bases, measured
from qiskit_kd.execution.runtime.serialization import (
    content_key,
    misfit,
    pack_results,
    pack_values,
    read_circuit,
    unpack_results,
    unpack_values,
)

from .memory import circuit


def key(pub: object, **changes: object) -> str:
    facts = {"device": "ibm_a", "options": {"rep_delay": None}, "repetition": 1}
    pubs = [pub]
    return content_key(
        "sampler", pubs, [circuit_digest(p.circuit) for p in pubs], **{**facts, **changes}
    )


def model_circuit() -> QuantumCircuit:
    model = CircuitModel(amplitude(3), hardware_efficient(3, 2), ClassGroups(2, 3))
    return measured(Expansion(model).circuit, bases(model.readout)[0])


@pytest.mark.slow
def test_the_digest_of_a_circuit_is_the_same_in_every_process() -> None:
    code = (
        "from tests.execution.runtime.test_serialization import model_circuit, circuit_digest\n"
        "print(circuit_digest(model_circuit()))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert other.stdout.strip() == circuit_digest(model_circuit())


def test_what_python_makes_up_is_no_part_of_a_circuit() -> None:
    one, two = circuit(), circuit()
    assert one.parameters != two.parameters
    two.name, two.metadata = "another", {"who": "me"}
    assert circuit_bytes(one) == circuit_bytes(two)
    backend = GenericBackendV2(4, seed=0)
    manager = generate_preset_pass_manager(3, backend, seed_transpiler=0)
    first, second = (manager.run(circuit()) for _ in range(2))
    assert first.layout is not None
    assert circuit_digest(first) == circuit_digest(second)
    renamed = QuantumCircuit(QuantumRegister(2, "wires"))
    renamed.sx(0)
    plain = QuantumCircuit(2)
    plain.sx(0)
    assert circuit_digest(renamed) == circuit_digest(plain)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.sx(1),
        lambda c: c.rz(1e-15, 0),
        lambda c: c.barrier(),
        lambda c: c.add_register(ClassicalRegister(1, "more")),
        lambda c: c.delay(16, 0),
    ],
)
def test_everything_that_is_run_is_a_part_of_it(change) -> None:
    other = circuit()
    change(other)
    assert circuit_digest(other) != circuit_digest(circuit())
    assert circuit_digest(circuit("weight_1")) != circuit_digest(circuit())


def test_loose_bits_and_expressions_survive() -> None:
    from qiskit.circuit import Clbit

    a, b = Parameter("a"), Parameter("b")
    loose = QuantumCircuit(2)
    loose.add_bits([Clbit()])
    loose.add_register(ClassicalRegister(1, "meas"))
    loose.rz(2 * a + b / 3 - 0.1, 0)
    loose.measure(0, 0)
    loose.measure(1, 1)
    found = read_circuit(circuit_bytes(loose))
    assert [p.name for p in found.parameters] == ["a", "b"]
    values = {"a": 0.7, "b": -0.2}
    assert found.assign_parameters(values).data[0].operation.params == pytest.approx(
        loose.assign_parameters(values).data[0].operation.params, abs=1e-15
    )
    assert circuit_digest(found) == circuit_digest(loose)


def test_a_release_of_qiskit_is_no_part_of_a_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_kd.execution import compiled

    digest = circuit_digest(circuit())
    content = bytearray(circuit_bytes(circuit()))
    release = [int(part) for part in qiskit.__version__.split(".")[:3]]
    assert list(content[7:10]) == release
    content[9] += 1
    monkeypatch.setattr(compiled, "circuit_bytes", lambda _: bytes(content))
    assert circuit_digest(circuit()) == digest


def test_a_damaged_circuit() -> None:
    with pytest.raises(
        StorageError,
        match=r"a circuit of the journal is damaged; got .*\. Restore the journal from a copy, or "
        "start another one",
    ):
        read_circuit(circuit_bytes(circuit())[:100])


def test_what_a_key_depends_on() -> None:
    values = np.linspace(0, 1, 4)[:, None]
    pub = SamplerPub.coerce((circuit(), values, 10))
    same = SamplerPub.coerce((circuit(), np.asfortranarray(values), 10))
    assert key(pub) == key(same)
    others = [
        key(SamplerPub.coerce((circuit(), np.nextafter(values, 2), 10))),
        key(SamplerPub.coerce((circuit(), values.reshape(2, 2, 1), 10))),
        key(SamplerPub.coerce((circuit("w"), values, 10))),
        key(SamplerPub.coerce((circuit(), values, 11))),
        key(pub, device="ibm_b"),
        key(pub, options={"rep_delay": 1e-4}),
        key(pub, repetition=2),
    ]
    assert len({key(pub), *others}) == 1 + len(others)


def test_values_count_by_the_names_of_their_parameters() -> None:
    two = QuantumCircuit(1)
    two.rz(Parameter("b"), 0)
    two.rz(Parameter("a"), 0)
    by_name = SamplerPub.coerce((two, {"b": 1.0, "a": 2.0}, 10))
    by_order = SamplerPub.coerce((two, [2.0, 1.0], 10))
    assert key(by_name) == key(by_order)
    np.testing.assert_array_equal(unpack_values(pack_values([by_name]))[0], [2.0, 1.0])


def test_observables_are_a_part_of_the_content() -> None:
    bare = QuantumCircuit(1)
    keys = {
        content_key("estimator", [pub], [""], device="d", options={}, repetition=0)
        for pub in (EstimatorPub.coerce((bare, o), 0.1) for o in ("X", "Z", {"Z": 0.5}))
    }
    assert len(keys) == 3


@settings(deadline=None, max_examples=50)
@given(
    shape=st.lists(st.integers(0, 3), max_size=3).map(tuple),
    bits=st.integers(1, 20),
    shots=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_results_come_back_as_they_were(shape, bits, shots, seed) -> None:
    rng = np.random.default_rng(seed)
    packed = rng.integers(0, 256, (*shape, shots, -(-bits // 8)), dtype=np.uint8)
    first, second = BitArray(packed, bits), BitArray(255 - packed, bits)
    results = [
        PubResult(DataBin(shape=shape, meas=first, tile_00_meas=second)),
        PubResult(DataBin(shape=shape, evs=rng.normal(size=shape), stds=rng.normal(size=shape))),
    ]
    found = unpack_results(pack_results(results))
    assert found[0].data.shape == found[1].data.shape == shape
    for name in ("meas", "tile_00_meas"):
        assert found[0].data[name] == results[0].data[name]
        assert found[0].data[name].num_bits == bits
    for name in ("evs", "stds"):
        np.testing.assert_array_equal(found[1].data[name], results[1].data[name])
        assert found[1].data[name].dtype == float


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", pack_results([])[:-20], pack_values([])], ids=range(4)
)
def test_damaged_results(content: bytes) -> None:
    with pytest.raises(
        StorageError,
        match=r"a result of the journal is damaged; got .*\. Restore the journal from a copy: the "
        "job is paid for and will not be sent again",
    ):
        unpack_results(content)


def _sampled(shots: int = 10, bits: int = 2, shape: tuple[int, ...] = (3,), name: str = "meas"):
    array = np.zeros((*shape, shots, -(-bits // 8)), np.uint8)
    return [PubResult(DataBin(shape=shape, **{name: BitArray(array, bits)}))]


def _estimated(values: object, **more: object):
    array = np.asarray(values)
    return [PubResult(DataBin(shape=array.shape, **{"evs": array, **more}))]


def test_what_keeps_results_from_being_those_of_a_job() -> None:
    a, plain = Parameter("a"), QuantumCircuit(2)
    plain.rx(a, 0)
    measured = plain.measure_all(inplace=False)
    shots = [SamplerPub.coerce((measured, [[0.1], [0.2], [0.3]]), 10)]
    assert misfit(_sampled(), shots) is None
    assert misfit(_sampled(12), shots, twirled=True) is None
    for wrong, text in (
        ([], "0 results for 1 PUBs"),
        (_sampled() * 2, "2 results for 1 PUBs"),
        (_sampled(5), "5 shots instead of 10"),
        (_sampled(12), "12 shots instead of 10"),
        (_sampled(bits=3), "bits of"),
        (_sampled(name="c"), "bits of"),
        (_sampled(shape=(3, 1)), "shape (3, 1) instead of (3,)"),
        (_sampled(shape=()), "shape ()"),
        (_estimated(np.zeros(3)), "bits of"),
    ):
        assert text in str(misfit(wrong, shots))
    assert "5 shots" in str(misfit(_sampled(5), shots, twirled=True))
    values = [EstimatorPub.coerce((plain, "ZZ", [[0.1], [0.2], [0.3]]), 0.1)]
    assert misfit(_estimated(np.zeros(3)), values) is None
    assert misfit(_estimated(np.zeros(3), stds=np.full(3, np.nan)), values) is None
    for wrong, text in (
        (_sampled(), "instead of expectation values"),
        (_estimated(np.zeros(2)), "evs of shape"),
        (_estimated([0.0, np.nan, 0.0]), "no finite numbers"),
        (_estimated([0.0, np.inf, 0.0]), "no finite numbers"),
        (_estimated(["a", "b", "c"]), "of type"),
        (_estimated(np.zeros(3, complex)), "of type"),
    ):
        assert text in str(misfit(wrong, values))
