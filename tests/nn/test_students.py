# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import inspect
import io
import json
import math
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import Statevector
from torch import Tensor, nn

from qiskit_kd.circuits import DeadWeightsWarning
from qiskit_kd.errors import CircuitError, ConfigError, ResourceError, UnknownNameError
from qiskit_kd.nn.circuit_spec import _dead_weights
from qiskit_kd.nn.controls import equal_size
from qiskit_kd.nn.layer import QuantumLayer
from qiskit_kd.nn.modules import (
    FullyQuantumStudent,
    HybridStudent,
    describe,
    fitted_widths,
    num_parameters,
)
from qiskit_kd.nn.students import (
    fully_quantum,
    hybrid,
    linear,
    mlp,
    separable,
    students,
)

Array = NDArray[Any]

# For tests whose students have dead weights by design: what they test does not depend on them.
with_dead_weights = pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")

NAMES = ["classical_control", "equal_size", "fully_quantum", "hybrid", "linear", "mlp", "separable"]
QUANTUM = ["fully_quantum", "hybrid", "separable"]


def rows(count: int = 5, features: int = 64, dtype: torch.dtype = torch.float32) -> Tensor:
    random = np.random.default_rng(0)
    return torch.as_tensor(random.normal(size=(count, features)), dtype=dtype)


def build(name: str, seed: int = 0, **options: object) -> nn.Module:
    if "shape" in inspect.signature(students[name]).parameters:
        options.setdefault("shape", (1, 8, 8))
    return students[name](64, 3, seed=seed, **options)


@pytest.fixture(autouse=True)
def global_generator() -> Iterator[None]:
    """No builder and no student may draw from, or reseed, torch's global generator."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


class TestSizes:
    @pytest.mark.parametrize(
        ("name", "options", "count"),
        [
            ("linear", {}, 195),
            ("mlp", {}, 1203),
            ("mlp", {"hidden": [14, 16]}, 1201),
            ("mlp", {"hidden": [18]}, 1227),
            ("mlp", {"hidden": []}, 195),
            ("hybrid", {}, 74),
            ("hybrid", {"measured": [3, 4, 5]}, 68 + 12),
            ("fully_quantum", {}, 74),
            ("fully_quantum", {"sharpness": "learnable"}, 75),
            ("separable", {}, 74),
            ("separable", {"sharpness": "learnable"}, 75),
            ("separable", {"layers": 1}, 23),
            ("equal_size", {}, 75),
            ("equal_size", {"budget": 195}, 195),
        ],
    )
    def test_counts_are_those_of_the_literature(
        self, name: str, options: dict[str, Any], count: int
    ) -> None:
        student = build(name, **options)
        assert num_parameters(student) == count
        assert describe(student)["parameters"] == count

    @pytest.mark.slow
    def test_ten_classes(self) -> None:
        counts = {name: num_parameters(students[name](64, 10, seed=0)) for name in NAMES}
        assert counts == {
            "linear": 650, "mlp": 64 * 16 + 16 + 16 * 8 + 8 + 8 * 10 + 10, "equal_size": 74,
            "classical_control": 74, "hybrid": 68 + 20, "fully_quantum": 74, "separable": 74,
        }  # fmt: skip

    def test_frozen_parameters_do_not_count(self) -> None:
        student = build("mlp")
        student.hidden_0.weight.requires_grad_(False)
        assert num_parameters(student) == 1203 - 64 * 16

    @pytest.mark.parametrize(("classes", "widths"), [(3, (14, 4)), (10, (5, 4))])
    def test_equal_size_has_the_stated_widths(self, classes: int, widths: tuple[int, int]) -> None:
        assert fitted_widths(64, classes, 74) == widths
        facts = describe(equal_size(64, classes, seed=0))
        assert (facts["projected_features"], facts["hidden"]) == widths

    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 20), st.integers(2, 5), st.integers(1, 90))
    def test_no_other_widths_come_nearer_to_the_budget(
        self, features: int, classes: int, budget: int
    ) -> None:
        f, h = fitted_widths(features, classes, budget)
        every = [
            b * (a + 1) + classes * (b + 1)
            for a in range(1, features + 1)
            for b in range(1, budget + 2)
        ]
        assert 1 <= f <= features
        assert h * (f + 1) + classes * (h + 1) == min(c for c in every if c >= budget)


class TestEveryStudent:
    def test_all_are_registered(self) -> None:
        assert set(NAMES) <= set(students)

    @pytest.mark.parametrize("name", sorted(students))
    def test_returns_finite_logits_and_every_parameter_learns(self, name: str) -> None:
        student = build(name)
        logits = student(rows())
        assert logits.shape == (5, 3)
        assert logits.dtype == torch.float32
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0, 1])).backward()
        for key, parameter in student.named_parameters():
            assert parameter.grad is not None, key
            assert bool(parameter.grad.isfinite().all()), key
            assert bool(parameter.grad.abs().max() > 0), key

    @pytest.mark.parametrize("name", sorted(students))
    def test_is_deterministic_in_the_seed(self, name: str) -> None:
        one, same, other = build(name, 7), build(name, 7), build(name, 8)
        for a, b in zip(one.parameters(), same.parameters(), strict=True):
            assert torch.equal(a, b)
        assert torch.equal(one(rows()), same(rows()))
        assert not torch.allclose(one(rows()), other(rows()))

    @pytest.mark.parametrize("dtype", [torch.float64, "float64"])
    @pytest.mark.parametrize("name", sorted(students))
    def test_float64_is_kept_and_agrees_with_float32(self, name: str, dtype: object) -> None:
        double = build(name, dtype=dtype)
        assert {p.dtype for p in double.parameters()} == {torch.float64}
        logits = double(rows(dtype=torch.float64))
        assert logits.dtype == torch.float64
        np.testing.assert_allclose(
            logits.detach(), build(name)(rows()).detach(), rtol=1e-3, atol=1e-3
        )

    @pytest.mark.parametrize("name", sorted(students))
    def test_copies_pickles_and_state_dicts_give_the_same_logits(self, name: str) -> None:
        student, other = build(name, 1), build(name, 2)
        expected = student(rows())
        twin = copy.deepcopy(student)
        assert torch.equal(twin(rows()), expected)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter += 0.3
        assert not torch.allclose(twin(rows()), expected)
        assert torch.equal(student(rows()), expected)
        revived = pickle.loads(pickle.dumps(student))
        assert torch.equal(revived(rows()), expected)
        assert describe(revived) == describe(student)
        file = io.BytesIO()
        torch.save(student.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other(rows()), expected)

    @pytest.mark.parametrize("name", sorted(students))
    @pytest.mark.parametrize(
        ("features", "classes", "message"),
        [
            (64, 1, "num_classes of a student is a whole number; got 1; expected 2 or more"),
            (0, 3, "num_features of a student is a whole number; got 0; expected 1 or more"),
            (64, 2.0, r"num_classes of a student is a whole number; got 2\.0"),
        ],
    )
    def test_refuses_sizes(self, name: str, features: int, classes: int, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            students[name](features, classes, seed=0)

    @pytest.mark.parametrize("name", sorted(students))
    def test_refuses_other_dtypes(self, name: str) -> None:
        with pytest.raises(ConfigError, match="unknown dtype; got 'int8'; expected float32 or"):
            build(name, dtype="int8")

    def test_an_unknown_name_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(UnknownNameError, match=r"unknown student; got 'hybird'.*'hybrid'"):
            students["hybird"]


class TestClassical:
    def test_mlp_is_what_it_says(self) -> None:
        net = mlp(4, 2, seed=0, hidden=[3], activation="tanh")
        x = rows(6, 4)
        hidden = torch.tanh(x @ net.hidden_0.weight.T + net.hidden_0.bias)
        assert torch.allclose(net(x), hidden @ net.output.weight.T + net.output.bias)
        assert describe(net) == {
            "kind": "mlp", "layers": [4, 3, 2], "activation": "tanh", "parameters": 23,
        }  # fmt: skip

    def test_initial_weights_have_torchs_own_range(self) -> None:
        weight = linear(64, 300, seed=0).output.weight
        assert float(weight.detach().abs().max()) == pytest.approx(1 / 8, rel=1e-3)
        assert float(weight.detach().std()) == pytest.approx(1 / 8 / math.sqrt(3), rel=0.02)

    def test_layers_of_one_network_start_differently(self) -> None:
        net = mlp(8, 2, seed=0, hidden=[8, 8])
        assert not torch.equal(net.hidden_0.weight, net.hidden_1.weight)

    def test_the_projection_is_orthonormal_frozen_and_saved(self) -> None:
        student = equal_size(64, 3, seed=0, dtype=torch.float64)
        matrix = student.projection.matrix
        assert torch.allclose(matrix.T @ matrix, torch.eye(14, dtype=torch.float64))
        assert "projection.matrix" in student.state_dict()
        assert not any(p is matrix for p in student.parameters())

    @pytest.mark.parametrize("hidden", [[0], [3, -1], [2.5], [True]])
    def test_mlp_refuses_widths(self, hidden: list[Any]) -> None:
        with pytest.raises(ConfigError, match=r"hidden lists the widths of layers; got \["):
            mlp(4, 2, seed=0, hidden=hidden)

    def test_mlp_refuses_activations(self) -> None:
        with pytest.raises(ConfigError, match="unknown activation; got 'elu'; expected 'relu' or"):
            mlp(4, 2, seed=0, activation="elu")

    @pytest.mark.slow
    def test_a_hybrid_reads_all_qubits_and_may_end_in_an_mlp(self) -> None:
        whole = hybrid(64, 3, seed=0, measured="all")
        assert describe(whole)["measured"] == [0, 1, 2, 3, 4, 5]
        assert num_parameters(whole) == 68 + 7 * 3 == 89
        topped = hybrid(64, 3, seed=0, measured="all", head=[4])
        assert describe(topped)["head"] == [6, 4, 3]
        assert num_parameters(topped) == 68 + 7 * 4 + 5 * 3
        assert topped(torch.ones(2, 64)).shape == (2, 3)
        for wrong in ([0], [2.5], "4", 4, [True]):
            with pytest.raises(ConfigError, match="head lists the widths of layers; got"):
                hybrid(64, 3, seed=0, head=wrong)
        assert num_parameters(hybrid(64, 3, seed=0, head=np.array([4]))) == 68 + 2 * 4 + 5 * 3

    @with_dead_weights
    def test_a_fully_quantum_student_is_read_on_a_few_qubits(self) -> None:
        student = fully_quantum(64, 3, seed=0, qubits=[4, 5])
        readout = student.circuit.model.readout
        assert readout.measured_qubits == (4, 5)
        assert describe(student)["measured"] == [4, 5]
        p = student(torch.ones(2, 64)).exp()
        assert torch.allclose(p.sum(dim=1), torch.ones(2))
        with pytest.raises(CircuitError, match="measured qubits are distinct qubits"):
            fully_quantum(64, 3, seed=0, qubits=[6])

    @pytest.mark.parametrize(
        ("kind", "options", "counts"),
        [
            ("separable", {}, (74, 74, 12)),
            ("fully_quantum", {"sharpness": "learnable"}, (75, 75, 75)),
            ("fully_quantum", {"ansatz": "su4_brickwork", "layers": 1}, (75, 69, 51)),
            ("hybrid", {"measured": "all"}, (89, 89, 89)),
        ],
    )
    @with_dead_weights
    def test_live_and_effective_parameters_are_counted(
        self, kind: str, options: dict[str, object], counts: tuple[int, ...]
    ) -> None:
        facts = describe(students[kind](64, 3, seed=0, **options))
        keys = ("parameters", "live_parameters", "effective_parameters")
        assert tuple(facts[key] for key in keys) == counts

    @pytest.mark.parametrize("budget", [0, 1.5, True])
    def test_equal_size_refuses_budgets(self, budget: object) -> None:
        with pytest.raises(ConfigError, match="budget is a whole number; got"):
            equal_size(4, 2, seed=0, budget=budget)


def layer(student: nn.Module) -> QuantumLayer:
    assert isinstance(student, HybridStudent | FullyQuantumStudent)
    return student.circuit


def gradient(student: nn.Module) -> Tensor:
    found = layer(student).weight.grad
    assert found is not None
    return found.abs()


def reference(student: nn.Module, x: Array) -> Array:
    """Basis-state probabilities of each row by Qiskit's own simulator."""
    circuit = (
        layer(student)
        .model.ansatz_blocks[0]
        .assign_parameters(layer(student).weight.detach().numpy())
    )
    states = [Statevector(row / np.linalg.norm(row)).evolve(circuit) for row in x]
    return np.array([state.probabilities() for state in states])


class TestQuantum:
    @with_dead_weights
    @pytest.mark.parametrize(
        ("scheme", "classes"), [("modulo", 3), ("contiguous", 10), ([0, 1, 1, 0] * 16, 2)]
    )
    @pytest.mark.parametrize("initial", [1.0, 2.5])
    def test_fully_quantum_logits_are_sharpness_times_log_probability(
        self, scheme: object, classes: int, initial: float
    ) -> None:
        student = fully_quantum(
            64, classes, seed=3, scheme=scheme, initial_sharpness=initial, dtype="float64"
        )
        x = rows(dtype=torch.float64)
        groups = np.eye(classes)[layer(student).model.readout.labels]
        expected = initial * np.log(reference(student, x.numpy()) @ groups)
        np.testing.assert_allclose(student(x).detach(), expected, rtol=1e-8)

    def test_hybrid_reads_z_of_the_last_qubit(self) -> None:
        student = hybrid(64, 3, seed=3, dtype="float64")
        x = rows(dtype=torch.float64)
        z = reference(student, x.numpy()) @ np.repeat([1.0, -1.0], 32)
        expected = z[:, None] * student.head.weight.detach().numpy().T
        expected = expected + student.head.bias.detach().numpy()
        np.testing.assert_allclose(student(x).detach(), expected, atol=1e-10)
        assert describe(student)["measured"] == [5]

    @pytest.mark.slow
    @with_dead_weights
    def test_hybrid_reads_the_qubits_named(self) -> None:
        student = hybrid(64, 3, seed=3, measured=[0, 2], dtype="float64")
        x = rows(dtype=torch.float64)
        state = np.arange(64)
        signs = np.stack([1.0 - 2 * (state & 1), 1.0 - 2 * (state >> 2 & 1)], axis=1)
        values = layer(student)(x).detach().numpy()
        np.testing.assert_allclose(values, reference(student, x.numpy()) @ signs, atol=1e-10)

    @pytest.mark.parametrize("name", ["hybrid", "fully_quantum"])
    def test_every_weight_can_move_the_logits(self, name: str) -> None:
        moved = torch.zeros(0)
        for seed in range(3):
            student = build(name, seed, dtype="float64")
            mix = rows(8, 3, torch.float64) + seed
            (student(rows(8, dtype=torch.float64)) * mix).sum().backward()
            one = gradient(student)
            moved = one if not len(moved) else torch.maximum(moved, one)
        assert float(moved.min()) > 1e-6

    def test_separable_has_no_gate_on_two_qubits(self) -> None:
        student = separable(64, 3, seed=0)
        assert {len(item.qubits) for item in layer(student).model.ansatz.data} == {1}
        assert describe(student)["kind"] == "separable"
        assert describe(student)["ansatz_options"] == {"num_weights": 74}

    def test_learnable_sharpness_is_one_positive_parameter(self) -> None:
        student = fully_quantum(64, 3, seed=0, sharpness="learnable", initial_sharpness=2.0)
        assert isinstance(student, FullyQuantumStudent)
        assert student.sharpness == pytest.approx(2.0)
        with torch.no_grad():
            student.log_sharpness -= 50.0
        assert student.sharpness > 0
        assert "log_sharpness" in dict(student.named_parameters())
        fixed = fully_quantum(64, 3, seed=0)
        assert "log_sharpness" not in dict(fixed.named_parameters())
        assert fixed.sharpness == 1.0

    def test_a_probability_of_zero_still_has_a_finite_logit_and_gradient(self) -> None:
        # One qubit, no rotation of the state 0: p(1) is exactly 0.
        student = fully_quantum(2, 2, seed=0, ansatz="product", layers=1, dtype="float64")
        with torch.no_grad():
            layer(student).weight.zero_()
        logits = student(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
        assert bool(logits.isfinite().all())
        assert float(logits[0, 1].detach()) < -20
        logits.sum().backward()
        assert bool(gradient(student).isfinite().all())

    def test_smoothing_is_additive_and_keeps_a_distribution(self) -> None:
        student = fully_quantum(64, 3, seed=0, smoothing=0.1, dtype="float64")
        plain = fully_quantum(64, 3, seed=0, dtype="float64")
        x = rows(dtype=torch.float64)
        p = plain(x).exp()
        expected = (p + 0.1) / 1.3
        torch.testing.assert_close(student(x).exp(), expected, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(
            student(x).exp().sum(1), torch.ones(5, dtype=torch.float64), rtol=1e-8, atol=1e-8
        )

    def test_sampled_probabilities_are_smoothed_by_half_a_count(self) -> None:
        assert describe(build("fully_quantum", backend="exact_shots", shots=200))[
            "smoothing"
        ] == pytest.approx(0.0025)
        own = describe(build("fully_quantum", backend="aer_shots"))  # the backend's 1,024 shots
        assert own["smoothing"] == pytest.approx(0.5 / 1024)
        assert describe(build("fully_quantum"))["smoothing"] == 0.0

    def test_facts_are_plain_data_whatever_the_numbers_were(self) -> None:
        student = fully_quantum(
            4, 3, seed=0, scheme=np.array([0, 1, 2, 0]), smoothing=np.float32(0.5),
            ansatz="product", layers=1, ansatz_options={"num_weights": np.int64(12)},
        )  # fmt: skip
        made = build("separable", num_weights=np.int64(12))
        for facts in (describe(student), describe(made)):
            assert json.loads(json.dumps(facts)) == facts
        for wrong in (-1, "1", float("nan")):
            with pytest.raises(ConfigError, match="smoothing is 0 or more"):
                FullyQuantumStudent(student.circuit, smoothing=wrong)

    def test_a_hybrid_head_without_parameters(self) -> None:
        student = hybrid(4, 2, seed=0, measured="all")
        student.head = nn.Identity()
        x = torch.linspace(0.1, 1, 12).reshape(3, 4)
        assert torch.equal(student(x), student.circuit(x))

    def test_tempering_is_a_power_of_the_probabilities(self) -> None:
        student = fully_quantum(64, 3, seed=0, dtype="float64")
        logits = student(rows(dtype=torch.float64))
        p = logits.exp() ** (1 / 4)
        torch.testing.assert_close(
            torch.softmax(logits / 4, 1), p / p.sum(1, keepdim=True), rtol=1e-9, atol=1e-9
        )

    def test_describe_states_what_a_report_must(self) -> None:
        student = fully_quantum(64, 3, seed=0, scheme="contiguous", sharpness="learnable")
        assert describe(student) == {
            "kind": "fully_quantum", "encoding": "amplitude", "qubits": 6, "scheme": "contiguous",
            "dead_weights": 0, "ansatz": "hardware_efficient", "layers": 4,
            "ansatz_options": {"final_ry": True},
            "sharpness_mode": "learnable", "sharpness": 1.0, "smoothing": 0.0, "backend": "exact",
            "gradient": "auto", "shots": None, "parameters": 75, "live_parameters": 75,
            "effective_weights": 74, "effective_parameters": 75,
        }  # fmt: skip
        assert describe(nn.Flatten()) == {"kind": "Flatten", "parameters": 0}

    @with_dead_weights
    @pytest.mark.parametrize(
        ("options", "features", "qubits"),
        [
            ({}, 64, 6),
            ({}, 50, 6),
            ({}, 65, 7),
            ({}, 2, 1),
            ({"encoding": "amplitude_mps"}, 2, 2),
            ({"encoding": "angle"}, 5, 5),
            ({"encoding": "dense_angle"}, 6, 3),
            ({"encoding": "reuploading", "encoding_options": {"layers": 2}}, 3, 3),
            ({"num_qubits": 4}, 5, 4),
        ],
    )
    def test_qubits_follow_from_the_features(
        self, options: dict[str, Any], features: int, qubits: int
    ) -> None:
        student = fully_quantum(features, 2, seed=0, layers=1, **options)
        assert describe(student)["qubits"] == qubits
        assert student(rows(3, features)).shape == (3, 2)

    @with_dead_weights
    @pytest.mark.parametrize(
        "ansatz", ["real_amplitudes", "strongly_entangling", "su4_brickwork", "product"]
    )
    @pytest.mark.parametrize("name", ["hybrid", "fully_quantum"])
    def test_other_ansatze_by_name(self, name: str, ansatz: str) -> None:
        student = students[name](16, 3, seed=0, ansatz=ansatz, layers=2)
        assert student(rows(3, 16)).shape == (3, 3)
        assert describe(student)["ansatz"] == ansatz

    def test_a_circuit_as_ansatz(self) -> None:
        circuit = QuantumCircuit(2, name="mine")
        circuit.ry(Parameter("a"), 0)
        circuit.cx(0, 1)
        student = fully_quantum(4, 2, seed=0, ansatz=circuit)
        assert describe(student)["ansatz"] == "mine"
        assert num_parameters(student) == 1

    @pytest.mark.parametrize(
        ("name", "options", "error", "message"),
        [
            ("hybrid", {"ansatz": "real"}, UnknownNameError, "unknown ansatz; got 'real'"),
            ("hybrid", {"encoding": "amp"}, UnknownNameError, "unknown encoding; got 'amp'"),
            ("hybrid", {"measured": []}, CircuitError, r"distinct qubits of the circuit; got \[\]"),
            ("hybrid", {"measured": [6]}, CircuitError, r"got \[6\]; expected one or more of 0..5"),
            ("hybrid", {"num_qubits": 5}, CircuitError, "5 qubits hold at most 32 features; got"),
            (
                "hybrid", {"measured": 3}, CircuitError,
                r"distinct qubits of the circuit; got 3; expected one or more of 0..5, as a list",
            ),
            ("hybrid", {"measured": "3"}, CircuitError, "circuit; got '3'; expected one or more"),
            ("hybrid", {"measured": [1.0]}, CircuitError, r"circuit; got \[1.0\]; expected one"),
            ("hybrid", {"num_qubits": 0}, CircuitError, "whole number of qubits; got 0; expected"),
            (
                "hybrid", {"ansatz_options": {"final_rx": True}}, UnknownNameError,
                "unknown option of the ansatz 'hardware_efficient'; got 'final_rx'. "
                "did you mean 'final_ry'",
            ),
            (
                "fully_quantum", {"ansatz_options": {"layers": 3}}, UnknownNameError,
                "got 'layers'. known: final_ry",
            ),
            (
                "separable", {"encoding_options": {"num_featurs": 64}}, UnknownNameError,
                "unknown option of the encoding 'amplitude'; got 'num_featurs'. did you mean 'num_",
            ),
            (
                "hybrid", {"encoding_options": ["axis"]}, ConfigError,
                r"options of the encoding 'amplitude' are named; got \['axis'\]; expected a mapp",
            ),
            (
                "hybrid", {"encoding_options": "axis"}, ConfigError,
                "options of the encoding 'amplitude' are named; got 'axis'; expected a mapping",
            ),
            (
                "fully_quantum", {"ansatz_options": ("final_ry",)}, ConfigError,
                r"options of the ansatz 'hardware_efficient' are named; got \('final_ry',\)",
            ),
            (
                "hybrid", {"ansatz_options": {1: 2, "final_ry": True}}, UnknownNameError,
                "unknown option of the ansatz 'hardware_efficient'; got '1'",
            ),
            ("fully_quantum", {"scheme": "modula"}, CircuitError, "Did you mean 'modulo'"),
            (
                "fully_quantum", {"initial_sharpness": "1"}, ConfigError,
                "sharpness is positive; got initial_sharpness='1'; expected a number",
            ),
            ("fully_quantum", {"smoothing": "0.1"}, ConfigError, "0 or more; got smoothing='0.1'"),
            ("fully_quantum", {"num_qubits": 3}, CircuitError, "3 qubits hold at most 8 features"),
            ("fully_quantum", {"scheme": "odd"}, CircuitError, "unknown grouping scheme; got"),
            ("fully_quantum", {"sharpness": "free"}, ConfigError, "unknown sharpness; got 'free'"),
            (
                "fully_quantum", {"initial_sharpness": 0.0}, ConfigError,
                "sharpness is positive; got initial_sharpness=0.0",
            ),
            ("fully_quantum", {"smoothing": -1.0}, ConfigError, "smoothing is 0 or more; got"),
            ("separable", {"num_weights": 5}, CircuitError, "at least one rotation per qubit"),
        ],
    )  # fmt: skip
    def test_refuses(
        self, name: str, options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            build(name, **options)

    @pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")
    def test_what_is_kept_answers_for_nothing_else(self) -> None:
        """True and 2.0 equal 1 and 2, but are no numbers of layers."""
        for layers, wrong in ((1, True), (2, 2.0)):
            fully_quantum(4, 2, seed=0, layers=layers)
            with pytest.raises(CircuitError, match="needs a whole number of layers; got"):
                fully_quantum(4, 2, seed=0, layers=wrong)

    def test_refuses_more_classes_than_basis_states(self) -> None:
        with pytest.raises(CircuitError, match="5 classes for 4 basis states of 2 qubits"):
            fully_quantum(4, 5, seed=0)

    def test_refuses_features_that_do_not_fit_the_qubits(self) -> None:
        with pytest.raises(
            CircuitError, match="'dense_angle' on 3 qubits takes 6 features; got num_features=5"
        ):
            fully_quantum(5, 2, seed=0, encoding="dense_angle")
        with pytest.raises(CircuitError, match="'angle' on 4 qubits takes 4 features; got num_f"):
            hybrid(3, 2, seed=0, encoding="angle", num_qubits=4)
        with pytest.raises(ResourceError, match="would not fit in memory"):
            fully_quantum(64, 3, seed=0, encoding="angle")


class TestDeadWeights:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("classes", "scheme", "dead"),
        [(2, "contiguous", 5), (4, "contiguous", 4), (8, "contiguous", 3), (3, "modulo", 0),
         (10, "modulo", 0)],
    )  # fmt: skip
    def test_the_default_groups_leave_the_fewest(
        self, classes: int, scheme: str, dead: int, recwarn: pytest.WarningsRecorder
    ) -> None:
        student = fully_quantum(64, classes, seed=0)
        assert layer(student).model.readout.scheme == scheme
        facts = describe(student)
        assert (facts["scheme"], facts["dead_weights"]) == (scheme, dead)
        found = [w for w in recwarn if w.category is DeadWeightsWarning]
        assert len(found) == (dead > 0)
        assert all(w.filename == __file__ for w in found)

    @pytest.mark.slow
    @pytest.mark.parametrize(("classes", "dead"), [(2, 39), (4, 26), (8, 15)])
    def test_the_other_end_of_the_chain_is_worse(self, classes: int, dead: int) -> None:
        with pytest.warns(DeadWeightsWarning, match=f"^{dead} of 74 weights cannot move"):
            student = fully_quantum(64, classes, seed=0, scheme="modulo")
        assert describe(student)["dead_weights"] == dead

    def test_hybrid_warns_of_qubits_too_early_in_the_chain(self) -> None:
        assert describe(hybrid(64, 2, seed=0))["dead_weights"] == 0
        with pytest.warns(DeadWeightsWarning, match="of 68 weights cannot move") as caught:
            student = hybrid(64, 2, seed=0, measured=[0])
        assert caught[0].filename == __file__
        assert describe(student)["dead_weights"] > 30

    def test_separable_counts_and_does_not_warn(self) -> None:
        assert describe(separable(64, 3, seed=0))["dead_weights"] == 0
        student = separable(64, 2, seed=0)
        assert describe(student)["scheme"] == "contiguous"
        circuit = layer(student).model.ansatz
        read = sum(circuit.find_bit(item.qubits[0]).index == 5 for item in circuit.data)
        assert describe(student)["dead_weights"] == 74 - read == 61

    @pytest.mark.slow
    def test_a_structure_is_looked_at_once(self) -> None:
        def ask(**options: Any) -> None:
            fully_quantum(16, 3, seed=0, **options)

        _dead_weights.cache_clear()
        for options in ({}, {"layers": 2}, {"scheme": "contiguous"}, {"ansatz_options": {}}):
            ask(**options)
        assert _dead_weights.cache_info().misses == 4
        fully_quantum(16, 3, seed=5, dtype="float64", sharpness="learnable")
        ask(layers=2)
        assert _dead_weights.cache_info().misses == 4
        ask(scheme=[k % 3 for k in range(16)])
        assert _dead_weights.cache_info().misses == 5

    def test_a_circuit_of_ones_own_is_looked_at(self) -> None:
        circuit = QuantumCircuit(2)
        circuit.ry(Parameter("a"), 1)
        circuit.rz(Parameter("b"), 1)
        with pytest.warns(DeadWeightsWarning, match=r"1 of 2 weights cannot move .*: \[1\]"):
            fully_quantum(4, 2, seed=0, ansatz=circuit)

    def test_large_circuits_are_not_looked_at(self) -> None:
        student = fully_quantum(13, 2, seed=0, encoding="angle", scheme="modulo")
        assert describe(student)["dead_weights"] is None
