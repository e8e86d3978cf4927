# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import AnnotatedOperation, ControlModifier, Gate, InverseModifier, Parameter
from qiskit.circuit.library import PauliEvolutionGate
from qiskit.circuit.library import standard_gates as gates
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import Operator, SparsePauliOp, Statevector
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import amplitude, angle, encodings, reuploading
from qiskit_kd.circuits.model import CircuitModel, Encoding
from qiskit_kd.circuits.readouts import ClassGroups, Observables
from qiskit_kd.errors import (
    CircuitError,
    ConfigError,
    DataError,
    ExecutionError,
    ResourceError,
    UnknownNameError,
)
from qiskit_kd.execution import aer as aer_module
from qiskit_kd.execution import memory
from qiskit_kd.execution.aer import AerEstimator, AerSampler, aer_pass_manager, aer_target, bindable
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.execution.expansion import FREQUENCIES
from qiskit_kd.execution.transpiling import inlined
from tests.execution.engines import aer_exact, exact_shots, sampler_engine
from tests.reference import reference_outputs, reference_weight_gradient

BOTH = Needs(features=True, weights=True)
READOUTS = {
    "classes": ClassGroups(3, 3),
    "selected": ClassGroups(2, 3, "contiguous", qubits=(2, 0)),
    "diagonal": Observables(["ZII", SparsePauliOp(["IZZ", "III"], [0.5, 2.0])]),
    "general": Observables(["XIY", SparsePauliOp(["ZZI", "IXI", "YII"], [1.0, -0.5, 2.0])]),
}


def encoding_called(name: str) -> Encoding:
    builder = encodings[name]
    layers = {"layers": 2} if "layers" in inspect.signature(builder).parameters else {}
    return builder(3, **layers)


def draw(model: CircuitModel, *, batch: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, model.num_features))
    return x, rng.normal(size=model.num_weights), rng.normal(size=(batch, model.num_outputs))


def feature_differences(model: CircuitModel, x, w, upstream, step: float = 1e-5) -> np.ndarray:
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        d = np.zeros_like(x)
        d[place] = step
        up, down = reference_outputs(model, x + d, w), reference_outputs(model, x - d, w)
        gradient[place] = ((up - down) * upstream).sum() / (2 * step)
    return gradient


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("name", list(encodings))
def test_equals_statevector_for_every_encoding(name: str, readout: str) -> None:
    model = CircuitModel(
        encoding_called(name), hardware_efficient(3, 1, final_ry=True), READOUTS[readout]
    )
    x, w, upstream = draw(model)
    values, pullback = aer_exact().vjp(
        model, x, w, Needs(features=model.encoding.angle_pullback is not None, weights=True)
    )
    np.testing.assert_allclose(values, reference_outputs(model, x, w), atol=1e-10)
    gx, gw = pullback(upstream)
    np.testing.assert_allclose(gw, reference_weight_gradient(model, x, w, upstream), atol=1e-6)
    if gx is not None:
        np.testing.assert_allclose(gx, feature_differences(model, x, w, upstream), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 4))
def test_equals_statevector_on_random_circuits(seed: int, num_qubits: int) -> None:
    ansatz = QuantumCircuit(num_qubits)
    ansatz.compose(random_circuit(num_qubits, 4, seed=seed), inplace=True)
    a, b = Parameter("a"), Parameter("b")
    ansatz.crx(a, 0, 1)
    ansatz.cu(2 * b, a, 0.3, -b, 1, 0)
    ansatz.ryy(a - b, 1, 0)
    ansatz.compose(random_circuit(num_qubits, 3, seed=seed + 1), inplace=True)
    model = CircuitModel(angle(num_qubits), ansatz, ClassGroups(4, num_qubits))
    x, w, _ = draw(model, seed=seed)
    np.testing.assert_allclose(
        aer_exact().outputs(model, x, w), reference_outputs(model, x, w), atol=1e-10
    )


def test_leading_axes_dtypes_and_needs() -> None:
    model = CircuitModel(amplitude(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, _, _ = draw(model)
    w = np.random.default_rng(1).normal(size=(2, 3, model.num_weights)).astype(np.float32)
    engine = aer_exact()
    values, pullback = engine.vjp(model, x.astype(np.float32), w, BOTH)
    assert values.shape == (2, 3, 3, 2)
    assert values.dtype == np.float32
    upstream = np.random.default_rng(2).normal(size=values.shape)
    gx, gw = pullback(upstream)
    assert gx is not None
    assert gw is not None
    assert (gx.dtype, gw.dtype, gw.shape) == (np.float32, np.float32, w.shape)
    total = 0
    for k in np.ndindex(2, 3):
        np.testing.assert_allclose(values[k], reference_outputs(model, x, w[k]), atol=1e-6)
        expected = reference_weight_gradient(model, x, w[k].astype(float), upstream[k])
        np.testing.assert_allclose(gw[k], expected, atol=1e-5)
        total = total + feature_differences(model, x, w[k], upstream[k])
    np.testing.assert_allclose(gx, total, atol=1e-5)
    before = engine.usage.executions
    values, pullback = engine.vjp(model, x, w[0, 0], Needs(features=False, weights=False))
    assert pullback(upstream[0, 0]) == (None, None)
    assert engine.usage.executions == before + 3  # forward rows only


def test_jacobian_is_one_job() -> None:
    model = CircuitModel(reuploading(2, 2), hardware_efficient(2, 1), ClassGroups(3, 2))
    x, w, upstream = draw(model)
    engine = aer_exact()
    jx, jw = engine.jacobian(model, x, w, BOTH)
    assert engine.usage.jobs == 1
    gx, gw = engine.vjp(model, x, w, BOTH)[1](upstream)
    np.testing.assert_allclose(np.einsum("bo,bof->bf", upstream, jx), gx, atol=1e-12)
    np.testing.assert_allclose(np.einsum("bo,bow->w", upstream, jw), gw, atol=1e-12)


def test_transpiles_once_and_runs_one_job_per_step() -> None:
    model = CircuitModel(amplitude(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, upstream = draw(model)
    engine = aer_exact()
    for step in range(1, 4):
        engine.vjp(model, x, w, Needs(features=False, weights=True))[1](upstream)
        usage = engine.usage
        assert (usage.transpilations, usage.jobs, usage.pubs, usage.backward) == (1, *[step] * 3)
    rows = 1 + 2 * 4 + 4  # two shifts of four rotations, four of one CRX
    assert usage.executions == 3 * len(x) * rows


def test_splits_runs_that_would_keep_too_much(monkeypatch) -> None:
    model = CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(2, 3))
    x, w, _ = draw(model, batch=7)
    engine = aer_exact()
    whole = engine.outputs(model, x, w)
    monkeypatch.setattr(aer_module, "_CHUNK_BYTES", 8 * 8 * 3)
    np.testing.assert_array_equal(engine.outputs(model, x, w), whole)
    assert engine.usage.jobs == 1 + 3


def test_empty_batch_runs_nothing() -> None:
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    engine = aer_exact()
    values, pullback = engine.vjp(model, np.zeros((0, 2)), np.zeros(model.num_weights), BOTH)
    assert values.shape == (0, 2)
    gx, gw = pullback(values)
    assert gx is not None
    assert gx.shape == (0, 2)
    np.testing.assert_array_equal(gw, 0)
    assert engine.usage.jobs == 0


def test_spsa_is_reproducible_and_advances() -> None:
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, upstream = draw(model)

    def gradients(seed: int) -> list:
        engine = aer_exact(gradient="spsa", seed=seed)
        return [
            engine.vjp(model, x, w, Needs(features=False, weights=True))[1](upstream)[1]
            for _ in range(3)
        ]

    first, again, other = gradients(5), gradients(5), gradients(6)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, other)


def test_spsa_gives_exact_feature_gradients() -> None:
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, upstream = draw(model)
    gx, _ = aer_exact(gradient="spsa", seed=0).vjp(model, x, w, BOTH)[1](upstream)
    np.testing.assert_allclose(gx, feature_differences(model, x, w, upstream), atol=1e-6)


def test_copies_and_pickles() -> None:
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, _ = draw(model)
    engine = aer_exact(seed=3)
    values = engine.outputs(model, x, w)
    for other in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        np.testing.assert_array_equal(other.outputs(model, x, w), values)
        assert (other.seed, other.usage.jobs, engine.usage.jobs) == (3, 2, 1)
        assert other.usage is other.source.usage


def test_too_many_qubits_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 3 * 2**30)
    model = CircuitModel(angle(30), hardware_efficient(30, 1), ClassGroups(2, 30, qubits=(0,)))
    with pytest.raises(
        ResourceError,
        match=r"a statevector of 30 qubits must fit into memory; got 16\.0 GiB needed; "
        r"expected at most the 3\.0 GiB available\. Use fewer qubits or a device\.",
    ):
        aer_exact().outputs(model, np.zeros((1, 30)), np.zeros(model.num_weights))


def test_errors_of_arguments() -> None:
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, _ = draw(model)
    engine = aer_exact()
    with pytest.raises(DataError, match=r"the model takes 5 weights; got shape \(4,\); expected "
                       r"\(\.\.\., 5\)"):  # fmt: skip
        engine.outputs(model, x, w[:4])
    w[2] = np.nan
    with pytest.raises(DataError, match=r"weights are finite numbers; got nan at \[2\]\. Set "
                       r"finite weights\. If training made them so, .* lower the"):  # fmt: skip
        engine.outputs(model, x, w)
    with pytest.raises(ConfigError, match="SPSA averages at least one perturbation; got 0; exp"):
        aer_exact(perturbations=0)
    for epsilon in (-0.1, 0.0, float("inf"), float("nan")):
        with pytest.raises(
            ConfigError,
            match=rf"the SPSA step is positive; got {epsilon}; expected radians above 0",
        ):
            aer_exact(epsilon=epsilon)
    with pytest.raises(UnknownNameError, match=r"unknown gradient rule; got 'spas'. did you mean"):
        aer_exact(gradient="spas")


def test_encodings_without_derivative_are_named() -> None:
    plain = angle(2)
    encoding = Encoding("mine", plain.circuit, 2, plain.angle_map)
    model = CircuitModel(encoding, hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, upstream = draw(model)
    engine = aer_exact()
    with pytest.raises(
        CircuitError,
        match=r"the encoding 'mine' has no derivative with respect to the features; got features "
        r"that require a gradient; expected an encoding with an angle_pullback\. Detach",
    ):
        engine.vjp(model, x, w, BOTH)
    gx, gw = engine.vjp(model, x, w, Needs(features=False, weights=True))[1](upstream)
    assert gx is None
    assert gw is not None


def circuit_of(gate: type) -> QuantumCircuit:
    own = [Parameter(f"a{k}") for k in range(len(FREQUENCIES[gate]))]
    operation = gates.MCPhaseGate(own[0], 2) if gate is gates.MCPhaseGate else gate(*own)
    circuit = QuantumCircuit(operation.num_qubits)
    for qubit in range(circuit.num_qubits):
        circuit.ry(0.4 + qubit, qubit)
    circuit.append(operation, range(circuit.num_qubits))
    for qubit in range(circuit.num_qubits):
        circuit.rx(0.7 + qubit, qubit)
    return circuit


@pytest.mark.parametrize("gate", FREQUENCIES, ids=lambda gate: gate.__name__)
def test_primitives_bind_every_gate(gate: type) -> None:
    circuit = circuit_of(gate)
    values = np.random.default_rng(0).uniform(1, 3, circuit.num_parameters)
    n = circuit.num_qubits
    exact = Statevector(circuit.assign_parameters(values))
    operator = SparsePauliOp(["Z" * n, "X" + "I" * (n - 1)])
    found = AerEstimator().run([(circuit, operator, values)]).result()[0].data.evs
    assert found == pytest.approx(exact.expectation_value(operator).real, abs=1e-10)
    measured = circuit.measure_all(inplace=False)
    counts = AerSampler(seed=1).run([(measured, values)], shots=20_000).result()[0].data.meas
    p = exact.probabilities()
    seen = np.array([counts.get_int_counts().get(k, 0) for k in range(2**n)]) / 20_000
    assert (np.abs(seen - p) < 5 * np.sqrt(p * (1 - p) / 20_000) + 1e-12).all()


def test_aer_still_binds_controlled_gates_wrongly() -> None:
    """If this fails Aer has been mended, and `aer_primitives` can go (qiskit-aer 2391, 2403)."""
    circuit = circuit_of(gates.CRYGate)
    exact = Statevector(circuit.assign_parameters([2.0])).probabilities()
    circuit.save_probabilities()
    result = AerSimulator().run([circuit], parameter_binds=[{circuit.parameters[0]: [2.0]}])
    assert np.abs(result.result().data(0)["probabilities"] - exact).max() > 0.01


def borrowing(name: str, *, as_gate: bool = True, depth: int = 1) -> QuantumCircuit:
    """A circuit with a sub-circuit that borrows the name of something else."""
    a = Parameter("a")
    inner = QuantumCircuit(2, name=name, global_phase=0.3)
    inner.ry(a, 0)
    inner.cry(0.7, 0, 1)
    inner.rx(0.4, 1)
    for _ in range(depth - 1):
        outer = QuantumCircuit(2, name=name)
        outer.append(inner.to_gate(), [1, 0])
        inner = outer
    fixed = QuantumCircuit(1, name=name)
    fixed.ry(0.9, 0)
    whole = QuantumCircuit(3)
    for qubit in range(3):
        whole.ry(0.3 + qubit, qubit)
    whole.append(inner.to_gate() if as_gate else inner.to_instruction(), [2, 0])
    whole.append(fixed.to_gate() if as_gate else fixed.to_instruction(), [1])
    whole.barrier()
    whole.ry(Parameter("b"), 1)
    return whole


BORROWED = ["x", "id", "barrier", "delay", "cx", "u", "unitary", "measure", "global_phase", "mine"]


@pytest.mark.parametrize("name", BORROWED)
@pytest.mark.parametrize(("as_gate", "depth"), [(True, 1), (False, 1), (True, 3)])
def test_borrowed_names_mean_what_their_definitions_say(
    name: str, as_gate: bool, depth: int
) -> None:
    circuit = borrowing(name, as_gate=as_gate, depth=depth)
    values = np.array([0.8, -0.5])
    exact = Statevector(circuit.assign_parameters(values)).probabilities()
    model = CircuitModel(angle(3), circuit, ClassGroups(8, 3))
    x, w, upstream = draw(model)
    for engine in (aer_exact(), exact_shots(ExactEngine(), shots=None)):
        y, pullback = engine.vjp(model, x, w, Needs(features=False, weights=True))
        np.testing.assert_allclose(y, reference_outputs(model, x, w), atol=1e-10)
        np.testing.assert_allclose(
            pullback(upstream)[1], reference_weight_gradient(model, x, w, upstream), atol=1e-6
        )
    for level in (0, 1, 2):
        native = aer_pass_manager(optimization_level=level).run(circuit)
        native.save_probabilities()
        bind = {p: [values[int(p.name == "b")]] for p in native.parameters}
        found = AerSimulator().run([native], parameter_binds=[bind], shots=1).result().data(0)
        np.testing.assert_allclose(found["probabilities"], exact, atol=1e-10)
    operators = [SparsePauliOp([p]) for p in ("ZII", "IZI", "IIZ")]
    found = AerEstimator().run([(circuit, p, values) for p in operators]).result()
    state = Statevector(circuit.assign_parameters(values))
    for each, operator in zip(found, operators, strict=True):
        assert each.data.evs == pytest.approx(state.expectation_value(operator).real, abs=1e-10)
    measured = circuit.measure_all(inplace=False)
    bits = AerSampler(seed=1).run([(measured, values)], shots=20_000).result()[0].data.meas
    seen = np.array([bits.get_int_counts().get(k, 0) for k in range(8)]) / 20_000
    assert (np.abs(seen - exact) < 5 * np.sqrt(exact / 20_000)).all()


class Flip(Gate):
    """A user's class: a gate by its matrix alone, with the name of another."""

    def __init__(self) -> None:
        super().__init__("h", 1, [])

    def __array__(self, dtype=None, copy=None):
        return np.array([[0, 1], [1, 0]], complex)


class Opaque(Gate):
    """Neither definition nor matrix."""

    def __init__(self) -> None:
        super().__init__("opaque", 1, [])


def test_what_is_inlined() -> None:
    plain = circuit_of(gates.CUGate)
    assert inlined(plain) is plain
    circuit = QuantumCircuit(2, 1)
    circuit.append(Flip(), [0])
    tilted = QuantumCircuit(1, name="x")
    tilted.ry(0.3, 0)
    circuit.append(AnnotatedOperation(tilted.to_gate(), InverseModifier()), [1])
    circuit.append(AnnotatedOperation(AnnotatedOperation(tilted.to_gate(), InverseModifier()),
                                      InverseModifier()), [1])  # fmt: skip
    circuit.append(AnnotatedOperation(gates.SGate(), InverseModifier()), [1])
    renamed = gates.RYGate(0.5).to_mutable()
    renamed.name = "x"
    circuit.append(renamed, [0])
    found = inlined(circuit)
    assert [item.operation.name for item in found.data] == ["unitary", *["annotated"] * 3, "r"]
    np.testing.assert_allclose(Operator(found), Operator(circuit), atol=1e-12)
    native = aer_pass_manager().run(circuit)
    np.testing.assert_allclose(Operator(native), Operator(circuit), atol=1e-12)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.append(tilted.to_gate(), [1])
    (block,) = inlined(circuit).data[-1].operation.blocks
    assert [item.operation.name for item in block.data] == ["ry"]
    unknown = QuantumCircuit(1)
    unknown.append(Opaque(), [0])
    assert inlined(unknown).data[0].operation.name == "opaque"


@pytest.mark.parametrize("sampled", [True, False])
def test_a_weight_that_is_a_global_phase_has_no_gradient(sampled: bool) -> None:
    ansatz = QuantumCircuit(2, global_phase=Parameter("phase"))
    ansatz.h(0)
    for readout in (ClassGroups(2, 2), Observables(["XI", "IZ"])):
        model = CircuitModel(angle(2), ansatz, readout)
        x, w, upstream = draw(model)
        engines = [aer_exact(), exact_shots(ExactEngine(), shots=None)]
        if sampled:
            engines = [
                exact_shots(ExactEngine(), shots=4000, seed=0, gradient="shift"),
                sampler_engine(AerSampler(seed=0), shots=4000, gradient="shift"),
            ]
        for engine in engines:
            y, pullback = engine.vjp(model, x, w, BOTH)
            gx, gw = pullback(upstream)
            np.testing.assert_array_equal(gw, [0.0])
            tolerance = 5 / np.sqrt(4000) if sampled else 1e-10
            np.testing.assert_allclose(y, reference_outputs(model, x, w), atol=tolerance)
            assert gx is not None
            assert engine.jacobian(model, x, w, BOTH)[1].shape == (3, 2, 1)


def test_the_error_of_aer_is_passed_on(monkeypatch) -> None:
    class Result:
        success, status = False, "ERROR: out of qubits"

    class Job:
        def result(self) -> Result:
            return Result()

    engine = aer_exact()
    monkeypatch.setattr(engine.source._simulator, "run", lambda *_, **__: Job())
    model = CircuitModel(angle(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    x, w, _ = draw(model)
    with pytest.raises(ExecutionError, match=r"^Aer failed; got ERROR: out of qubits$"):
        engine.outputs(model, x, w)
    assert engine.usage.jobs == 0


def test_only_circuits_that_need_it_are_translated() -> None:
    good, bad = circuit_of(gates.RXXGate), circuit_of(gates.CRXGate)
    assert bindable(good) is good
    good.barrier()
    good.delay(10, 0)
    assert bindable(good) is good
    assert bindable(bad.assign_parameters([0.3])).count_ops()["crx"] == 1
    assert "crx" not in bindable(bad).count_ops()
    assert {"rxx", "u", "cx", "mcx", "measure"} <= set(aer_target().operation_names)
    assert not {"crx", "cp", "cu", "mcphase", "mcrx"} & set(aer_target().operation_names)


def test_primitives_of_aer_keep_their_defaults() -> None:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    sampler = AerSampler(default_shots=77)
    assert sampler.default_shots == 77
    measured = circuit.measure_all(inplace=False)
    assert sampler.run([measured]).result()[0].data.meas.num_shots == 77
    assert sampler.run([measured], shots=5).result()[0].data.meas.num_shots == 5
    assert sampler.run([(measured, None, 6)]).result()[0].data.meas.num_shots == 6
    estimator = AerEstimator(default_precision=0.1, seed=4)
    assert estimator.default_precision == 0.1
    pub = (circuit, "Z")
    values = [float(estimator.run([pub]).result()[0].data.evs) for _ in range(2)]
    assert values[0] == values[1] != 0.0
    assert float(estimator.run([pub], precision=0).result()[0].data.evs) == pytest.approx(0.0)


def test_anybodys_sampler_binds_every_gate_rightly() -> None:
    ansatz = QuantumCircuit(2)
    a, b = Parameter("a"), Parameter("b")
    ansatz.global_phase = a / 2
    ansatz.ry(a, 0)
    ansatz.crx(b, 0, 1)
    ansatz.h(1)
    ansatz.cp(b, 0, 1)
    model = CircuitModel(angle(2), ansatz, ClassGroups(4, 2))
    x, w = np.array([[0.3, -0.7], [1.2, 0.4], [2.0, 2.5]]), np.array([1.9, 2.4])
    wanted = reference_outputs(model, x, w)
    at_run_time = {"run_options": {"runtime_parameter_bind_enable": True}}
    level = generate_preset_pass_manager(optimization_level=0, backend=AerSimulator())
    for options in (None, at_run_time):
        own = SamplerV2(seed=1, options=options)
        for sampler, manager in ((own, None), (lambda _, own=own: own, None), (own, level)):
            engine = sampler_engine(sampler, pass_manager=manager, shots=20_000)
            assert np.abs(engine.outputs(model, x, w) - wanted).max() < 0.03


def test_a_pauli_evolution_is_its_product_formula_everywhere() -> None:
    terms = SparsePauliOp(["XX", "ZI", "YZ"], [0.7, 1.1, -0.4])
    for time in (Parameter("t"), 0.9):
        ansatz = QuantumCircuit(2)
        ansatz.ry(Parameter("a"), 0)
        ansatz.append(PauliEvolutionGate(terms, time), [0, 1])
        nested = QuantumCircuit(2)
        nested.append(ansatz.to_gate(), [0, 1])
        spelt = QuantumCircuit(2)
        spelt.ry(Parameter("a"), 0)
        spelt.compose(PauliEvolutionGate(terms, time).definition, [0, 1], inplace=True)
        x, w = np.array([[0.3, -0.7], [1.2, 0.4]]), np.array([0.8, 0.9])[: ansatz.num_parameters]
        readout = Observables(["XY", "ZI"])
        wanted = reference_outputs(CircuitModel(angle(2), spelt, readout), x, w)
        for part in (ansatz, nested):
            model = CircuitModel(angle(2), part, readout)
            for engine in (ExactEngine(), aer_exact()):
                assert np.abs(engine.outputs(model, x, w) - wanted).max() < 1e-12


def test_an_annotated_gate_with_a_borrowed_name_is_its_definition() -> None:
    inner = QuantumCircuit(1, name="h")
    inner.rx(Parameter("a"), 0)
    ansatz = QuantumCircuit(2)
    ansatz.ry(0.4, 0)
    ansatz.append(AnnotatedOperation(inner.to_gate(), ControlModifier(1, 0)), [0, 1])
    model = CircuitModel(angle(2), ansatz, ClassGroups(4, 2))
    x, w = np.array([[0.3, -0.7], [1.2, 0.4]]), np.array([0.8])
    wanted = reference_outputs(model, x, w)
    for engine in (ExactEngine(), aer_exact()):
        assert np.abs(engine.outputs(model, x, w) - wanted).max() < 1e-12
