# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import ControlledGate, Parameter
from qiskit.circuit.library import PauliEvolutionGate, RVGate, RXGate
from qiskit.circuit.library import standard_gates as gates
from qiskit.quantum_info import SparsePauliOp, Statevector, random_unitary

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import amplitude, angle, reuploading
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import CircuitError, UnknownNameError
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.execution.expansion import FREQUENCIES, Expansion, expand
from qiskit_kd.execution.gradients import (
    check_gradient,
    default_epsilon,
    input_shift_points,
    shift_points,
    shift_rule,
    spsa_points,
)
from tests.execution.engines import exact_shots
from tests.reference import reference_slot_jacobian

STEP = 1e-5


def probabilities(circuit: QuantumCircuit, values) -> np.ndarray:
    return Statevector(circuit.assign_parameters(values)).probabilities()


def finite_differences(circuit: QuantumCircuit, values: np.ndarray) -> np.ndarray:
    columns = [
        probabilities(circuit, values + d) - probabilities(circuit, values - d)
        for d in STEP * np.eye(len(values))
    ]
    return np.stack(columns, axis=-1) / (2 * STEP)


def shift_jacobian(circuit: QuantumCircuit, values: np.ndarray) -> np.ndarray:
    """Gradient of probabilities in the circuit's own parameters, by the reference shift rule."""
    expanded = expand(circuit)
    slots = expanded.angles(values)
    np.testing.assert_allclose(
        probabilities(expanded.circuit, slots), probabilities(circuit, values), atol=1e-12
    )
    by_slot = reference_slot_jacobian(
        lambda s: probabilities(expanded.circuit, s), slots, expanded.frequencies
    )
    return expanded.angles.pullback(np.broadcast_to(values, (len(by_slot), len(values))), by_slot)


def test_rules_of_the_literature() -> None:
    np.testing.assert_allclose(shift_rule((1.0,)), [(np.pi / 2, 0.5), (-np.pi / 2, -0.5)])
    # Four terms of a controlled rotation, arXiv:1905.13311, eq. 12.
    first, second = (2**0.5 + 1) / (4 * 2**0.5), (2**0.5 - 1) / (4 * 2**0.5)
    np.testing.assert_allclose(
        shift_rule((0.5, 1.0)),
        [(np.pi / 2, first), (-np.pi / 2, -first), (3 * np.pi / 2, -second),
         (-3 * np.pi / 2, second)],
    )  # fmt: skip


@given(
    st.lists(st.floats(-2, 2), min_size=6, max_size=6),
    st.floats(-7, 7),
    st.sampled_from([(1.0,), (0.5, 1.0), (1.0, 2.0), (1.0, 2.0, 3.0), (0.25, 0.5, 0.75)]),
)
def test_rules_are_exact_for_trigonometric_polynomials(coefficients, x, frequencies) -> None:
    a, b = np.split(np.array(coefficients)[: 2 * len(frequencies)], 2)
    w = np.array(frequencies)

    def f(t: float) -> float:
        return float(a @ np.cos(w * t) + b @ np.sin(w * t) + 0.7)

    exact = float((-a * w) @ np.sin(w * x) + (b * w) @ np.cos(w * x))
    assert sum(c * f(x + s) for s, c in shift_rule(frequencies)) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(
    ("gate", "open_control"),
    [(gate, False) for gate in FREQUENCIES]
    + [(gate, True) for gate in FREQUENCIES if issubclass(gate, ControlledGate)],
    ids=lambda value: getattr(value, "__name__", {True: "open"}.get(value, "")),
)
def test_frequencies_of_every_gate(gate: type, open_control: bool) -> None:
    own = [Parameter(f"a{k}") for k in range(len(FREQUENCIES[gate]))]
    arguments = [*own, 2] if gate is gates.MCPhaseGate else own
    options = {"ctrl_state": 0} if open_control else {}
    operation = gate(*arguments, **options)
    n = operation.num_qubits
    circuit = QuantumCircuit(n)
    circuit.unitary(random_unitary(2**n, seed=1), range(n))
    circuit.append(operation, range(n))
    circuit.unitary(random_unitary(2**n, seed=2), range(n))
    values = np.random.default_rng(3).normal(size=len(own))
    assert expand(circuit).num_slots == len(own)  # taken as it is, not by definition
    np.testing.assert_allclose(
        shift_jacobian(circuit, values), finite_differences(circuit, values), atol=1e-8
    )


ANGLES = ["x", "y", "2*x", "x - y/2 + 1", "-y", "x*y", "y**2"]
GATES = [
    ("rx", 1), ("ry", 1), ("rz", 1), ("p", 1), ("rxx", 2), ("ryy", 2), ("rzz", 2), ("rzx", 2),
    ("crx", 2), ("cry", 2), ("crz", 2), ("cp", 2),
]  # fmt: skip


@st.composite
def circuits(draw) -> QuantumCircuit:
    x, y = Parameter("x"), Parameter("y")
    circuit = QuantumCircuit(3)
    circuit.h([0, 1, 2])
    circuit.rx(x, 0)
    circuit.cry(y, 0, 1)
    for _ in range(draw(st.integers(1, 6))):
        name, width = draw(st.sampled_from(GATES))
        qubits = draw(st.permutations(range(3)))[:width]
        expression = eval(draw(st.sampled_from(ANGLES)), {"x": x, "y": y})
        getattr(circuit, name)(expression, *qubits)
        circuit.sx(qubits[0])
    circuit.u(x, 2 * y, -x, draw(st.integers(0, 2)))
    return circuit


@settings(max_examples=40, deadline=None)
@given(circuits(), st.integers(0, 2**31))
def test_shift_equals_finite_differences(circuit: QuantumCircuit, seed: int) -> None:
    values = np.random.default_rng(seed).uniform(-3, 3, 2)
    np.testing.assert_allclose(
        shift_jacobian(circuit, values), finite_differences(circuit, values), atol=1e-6
    )


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")  # Qiskit's evolution
def test_gates_by_definition() -> None:
    x, y = Parameter("x"), Parameter("y")
    inner = QuantumCircuit(2, global_phase=y, name="inner")
    inner.rx(x / 3 + 1, 0)
    inner.cry(y**2, 0, 1)
    circuit = QuantumCircuit(3)
    circuit.h([0, 1, 2])
    circuit.append(inner.to_gate(), [2, 0])
    circuit.append(RXGate(x).control(2, annotated=True), [0, 1, 2])
    circuit.append(RXGate(x * y).control(2, annotated=False), [2, 1, 0])
    circuit.append(PauliEvolutionGate(SparsePauliOp(["XXI", "ZYZ"]), time=y), [0, 1, 2])
    circuit.append(gates.GlobalPhaseGate(x), [])
    values = np.array([0.3, 0.7])
    np.testing.assert_allclose(
        shift_jacobian(circuit, values), finite_differences(circuit, values), atol=1e-8
    )


def test_gates_without_definition_are_refused() -> None:
    circuit = QuantumCircuit(1)
    circuit.append(RVGate(Parameter("x"), Parameter("y"), 1.0), [0])
    with pytest.raises(
        CircuitError,
        match=r"known frequencies or a definition; got 'rv': .*expected one of CPhaseGate, .* "
        r"Write the gate as a circuit of those\.",
    ):
        expand(circuit)


def model_with(encoding) -> CircuitModel:
    a, b = Parameter("a"), Parameter("b")
    ansatz = QuantumCircuit(2)
    ansatz.crx(2 * a, 0, 1)
    ansatz.ry(a - b, 0)
    ansatz.rzz(b**2, 0, 1)
    ansatz.ry(b, 1)
    return CircuitModel(encoding, ansatz, ClassGroups(2, 2))


@pytest.mark.parametrize("encoding", [angle(2), reuploading(2, 2)], ids=lambda e: e.name)
def test_points_equal_the_reference(encoding) -> None:
    model = model_with(encoding)
    expansion = Expansion(model)
    rng = np.random.default_rng(0)
    angles, weights = rng.normal(size=(3, 2)), rng.normal(size=(2, model.num_weights))
    upstream = rng.normal(size=2)

    def f(inputs: np.ndarray, settings: np.ndarray) -> float:
        values = np.concatenate([inputs, settings])
        p = probabilities(expansion.circuit, values)
        return float(model.readout.of_probabilities(p) @ upstream)

    inputs, slots = expansion.input_slots(angles), expansion.weight_slots(weights)
    np.testing.assert_allclose(
        probabilities(expansion.circuit, np.concatenate([inputs[0], slots[0]])),
        probabilities(model.circuit, np.concatenate([angles[0], weights[0]])), atol=1e-12,
    )  # fmt: skip

    points = shift_points(expansion, weights)
    seen = np.array([[f(inputs[0], s) for s in setting] for setting in points.slots])
    frequencies = expansion.ansatz.frequencies * expansion.layers
    expected = [
        reference_slot_jacobian(lambda s: np.array([f(inputs[0], s)]), row, frequencies)[0]
        for row in slots
    ]
    np.testing.assert_allclose(
        points.pull(seen), expansion.weight_pullback(weights, np.array(expected)), atol=1e-12
    )

    points = input_shift_points(expansion, angles)
    seen = np.array([[f(i, slots[1]) for i in row] for row in points.slots])
    frequencies = expansion.encoding.frequencies * expansion.layers
    expected = [
        reference_slot_jacobian(lambda i: np.array([f(i, slots[1])]), row, frequencies)[0]
        for row in inputs
    ]
    np.testing.assert_allclose(
        points.pull(seen), expansion.input_pullback(angles, np.array(expected)), atol=1e-12
    )


def test_spsa_averages_to_the_gradient() -> None:
    model = model_with(angle(2))
    expansion = Expansion(model)
    weights = np.array([0.4, -0.9])
    inputs = expansion.input_slots(np.array([0.3, 0.8]))

    def f(slots: np.ndarray) -> float:
        p = probabilities(expansion.circuit, np.concatenate([inputs, slots]))
        return float(model.readout.of_probabilities(p)[0])

    points = shift_points(expansion, weights)
    exact = points.pull(np.array([f(s) for s in points.slots]))
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(300):
        points = spsa_points(expansion, weights, generator=rng, perturbations=2, epsilon=1e-3)
        assert points.slots.shape == (4, expansion.num_weights)
        draws.append(points.pull(np.array([f(s) for s in points.slots])))
    error = np.std(draws, axis=0) / np.sqrt(len(draws))
    assert (error > 0).all()  # a single draw is not the gradient
    assert (np.abs(np.mean(draws, axis=0) - exact) < 4 * error).all()


@pytest.mark.slow
def test_the_default_step_keeps_the_gradient_of_the_student() -> None:
    """Projection on the gradient at 74 weights: a step of 0.2 leaves half of it."""
    model = CircuitModel(amplitude(6), hardware_efficient(6, 4, final_ry=True), ClassGroups(3, 6))
    assert model.num_weights == 74
    weights_only = Needs(features=False, weights=True)
    projections = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(4, model.num_features))
        w, upstream = rng.uniform(-3, 3, 74), rng.normal(size=(4, 3))
        exact = ExactEngine().vjp(model, x, w, weights_only)[1](upstream)[1]
        assert exact is not None
        for_step = partial(
            exact_shots, ExactEngine(), shots=None, gradient="spsa", perturbations=1000,
            seed=seed,
        )  # fmt: skip
        row = []
        for step in (default_epsilon(74), 0.2):
            gradient = for_step(epsilon=step).vjp(model, x, w, weights_only)[1](upstream)[1]
            row.append(gradient @ exact / (exact @ exact))
        projections.append(row)
    kept, shrunk = np.mean(projections, axis=0)
    error = np.sqrt(2 / (6 * 1000))  # of the mean of a squared standard normal variable
    assert kept - 2 * error > 0.85
    assert kept > 0.9
    assert shrunk < 0.65


def test_the_default_step() -> None:
    assert [default_epsilon(n) for n in (0, 1, 6)] == [0.2, 0.2, 0.2]
    assert default_epsilon(100) == pytest.approx(0.05)
    # Worst case, an outcome that is one product of all cosines: cos(epsilon)**n stays.
    assert min(np.cos(default_epsilon(n)) ** n for n in range(1, 2000)) > 0.88
    sampled = exact_shots(ExactEngine(), shots=8, seed=0)
    exact = exact_shots(ExactEngine(), shots=None, gradient="spsa", seed=0)
    chosen = exact_shots(ExactEngine(), shots=8, seed=0, epsilon=0.3)
    model = CircuitModel(angle(4), hardware_efficient(4, 4), ClassGroups(2, 4))
    for engine, step in (
        (sampled, default_epsilon(model.num_weights)),
        (exact, 1e-3),
        (chosen, 0.3),
    ):
        expansion = Expansion(model)
        points = engine._weight_points(expansion, np.zeros((1, model.num_weights)))
        assert np.abs(points.slots).max() == pytest.approx(step)
    assert default_epsilon(model.num_weights) < 0.1


def test_spsa_draws_signs_for_each_leading_index() -> None:
    expansion = Expansion(model_with(angle(2)))
    weights = np.zeros((64, 2))
    points = spsa_points(
        expansion, weights, generator=np.random.default_rng(0), perturbations=3, epsilon=0.5
    )
    np.testing.assert_allclose(points.pull(np.ones((64, 6))), 0, atol=1e-12)  # f is constant
    assert len(np.unique(points.slots[:, 0], axis=0)) > 1


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown gradient rule; got 'shfit'. did you mean "
                       r"'shift'\? known: auto, shift, spsa"):  # fmt: skip
        check_gradient("shfit")
    assert check_gradient("spsa") == "spsa"
