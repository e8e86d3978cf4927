# SPDX-License-Identifier: Apache-2.0
"""Readouts against slow, obvious references: dictionaries of bitstrings and Qiskit's operators."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.circuit import Parameter
from qiskit.quantum_info import Pauli, SparsePauliOp, random_statevector

from qiskit_kd.circuits import ClassGroups, Observables
from qiskit_kd.errors import CircuitError, ResourceError
from qiskit_kd.seeding import stream


def label_of(bits: str, groups: ClassGroups) -> int:
    """Class of a bitstring as Qiskit prints it, by the definition of the schemes."""
    qubits = range(len(bits)) if groups.qubits is None else groups.qubits
    read = "".join(bits[::-1][q] for q in qubits)  # qubit 0 is the last character
    outcome = int(read[::-1], 2)
    if groups.scheme == "modulo":
        return outcome % groups.num_classes
    if groups.scheme == "contiguous":
        return outcome * groups.num_classes // (1 << len(read))
    return int(groups.scheme[outcome])


@st.composite
def class_groups(draw: st.DrawFn) -> ClassGroups:
    num_qubits = draw(st.integers(1, 5))
    order = draw(st.permutations(range(num_qubits)))
    qubits = draw(st.none() | st.integers(1, num_qubits).map(lambda k: tuple(order[:k])))
    states = 2 ** (num_qubits if qubits is None else len(qubits))
    classes = draw(st.integers(2, min(states, 6)))
    own = st.permutations([k % classes for k in range(states)]).map(tuple)
    scheme = draw(st.sampled_from(["modulo", "contiguous"]) | own)
    return ClassGroups(classes, num_qubits, scheme, qubits=qubits)


@settings(deadline=None)
@given(groups=class_groups(), seed=st.integers(0, 2**32))
def test_groups_equal_a_dictionary_of_bitstrings(groups: ClassGroups, seed: int) -> None:
    n, draw = groups.num_qubits, stream(seed, "groups")
    strings = [format(state, f"0{n}b") for state in range(2**n)]
    probabilities = draw.dirichlet(np.ones(2**n))
    wanted = np.zeros(groups.num_classes)
    for bits, p in zip(strings, probabilities, strict=True):
        wanted[label_of(bits, groups)] += p
    np.testing.assert_allclose(groups.of_probabilities(probabilities), wanted, atol=1e-12)
    np.testing.assert_allclose(
        groups.of_probabilities(np.stack([probabilities] * 2)), np.stack([wanted] * 2), atol=1e-12
    )

    outcomes = draw.integers(2**n, size=(2, 3, 50))
    frequencies = groups.of_outcomes(outcomes)
    assert frequencies.shape == (2, 3, groups.num_classes)
    for index in np.ndindex(2, 3):
        counts: Counter[int] = Counter()
        for bits, times in Counter(strings[k] for k in outcomes[index]).items():
            counts[label_of(bits, groups)] += times
        wanted = np.array([counts[c] for c in range(groups.num_classes)]) / 50
        np.testing.assert_allclose(frequencies[index], wanted, atol=1e-12)


@given(groups=class_groups())
def test_groups_are_a_partition(groups: ClassGroups) -> None:
    assert set(groups.labels.tolist()) == set(range(groups.num_classes))
    np.testing.assert_array_equal(groups.matrix.sum(axis=1), 1)
    assert groups.num_outputs == groups.num_classes
    assert groups.is_diagonal
    assert pickle.loads(pickle.dumps(groups)) == groups


def test_contiguous_groups_are_nearly_equal_runs() -> None:
    labels = ClassGroups(3, 3, "contiguous").labels.tolist()
    assert labels == sorted(labels)
    assert sorted(Counter(labels).values()) == [2, 3, 3]


@pytest.mark.parametrize("classes", [1, 0, -1, 2.0, "3", True])
def test_two_classes_at_least(classes: Any) -> None:
    with pytest.raises(CircuitError, match=f"got num_classes={classes!r}; expected 2 or more"):
        ClassGroups(classes, 4)


def test_a_count_of_classes_may_come_from_numpy() -> None:
    assert ClassGroups(np.int64(3), 2).num_outputs == 3  # type: ignore[arg-type]


def test_no_more_classes_than_basis_states() -> None:
    with pytest.raises(
        CircuitError,
        match=r"10 classes for 8 basis states of 3 qubits; expected at most 8 classes\. Use at le",
    ):
        ClassGroups(10, 3)
    with pytest.raises(CircuitError, match="3 classes for 2 basis states of 1 qubits"):
        ClassGroups(3, 4, qubits=(2,))


def test_the_scheme_is_known() -> None:
    with pytest.raises(CircuitError, match="got 'parity'; expected 'modulo' or 'contiguous'"):
        ClassGroups(2, 2, "parity")


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        ([0, 1, 0], r"3 entries, missing classes \[\], foreign classes \[\]; expected 4 entries"),
        ([0, 0, 0, 0], r"4 entries, missing classes \[1\]"),
        ([0, 1, 2, 0], r"foreign classes \[2\]; expected 4 entries that use each of 0..1"),
    ],
)
def test_groups_that_are_no_partition(scheme: list[int], text: str) -> None:
    with pytest.raises(CircuitError, match=text):
        ClassGroups(2, 2, scheme)


@pytest.mark.parametrize("qubits", [(0, 0), (3,), (-1, 0)])
def test_measured_qubits_exist(qubits: tuple[int, ...]) -> None:
    with pytest.raises(CircuitError, match=r"distinct qubits of the circuit; got .*in 0\.\.2"):
        ClassGroups(2, 3, qubits=qubits)


def test_a_readout_has_a_size() -> None:
    with pytest.raises(CircuitError, match="a readout needs a whole number of qubits; got 0"):
        ClassGroups(2, 0)
    with pytest.raises(ResourceError, match="a readout on 99 qubits would not fit in memory"):
        ClassGroups(2, 99)


# --- observables ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    labels=st.lists(st.text("IZ", min_size=3, max_size=3), min_size=1, max_size=4),
    seed=st.integers(0, 999),
)
def test_diagonal_observables_equal_qiskits_expectation(labels: list[str], seed: int) -> None:
    sums = [SparsePauliOp([label, "IZI"], [0.5, -2.0]) for label in labels]
    readout = Observables([*labels, *sums])
    state = random_statevector(8, seed=seed)
    wanted = [state.expectation_value(op).real for op in readout.operators]
    np.testing.assert_allclose(readout.of_probabilities(state.probabilities()), wanted, atol=1e-12)
    outcomes = stream(seed, "shots").integers(8, size=(2, 40))
    means = [
        np.bincount(row, minlength=8) / 40 @ np.array([np.diag(op.to_matrix()).real for op in
        readout.operators]).T for row in outcomes
    ]  # fmt: skip
    np.testing.assert_allclose(readout.of_outcomes(outcomes), means, atol=1e-12)
    assert readout.is_diagonal
    assert (readout.num_qubits, readout.num_outputs) == (3, 2 * len(labels))


def test_observables_take_paulis_and_survive_pickle() -> None:
    readout = Observables([Pauli("XZ"), "ZZ", SparsePauliOp("IY")])
    assert [op.paulis.to_labels() for op in readout.operators] == [["XZ"], ["ZZ"], ["IY"]]
    assert pickle.loads(pickle.dumps(readout)) == readout
    assert not readout.is_diagonal


def test_only_diagonal_observables_are_read_from_outcomes() -> None:
    with pytest.raises(CircuitError, match=r"only diagonal observables.*got XZ, ZZ; expected"):
        _ = Observables(["XZ", "ZZ"]).matrix


@pytest.mark.parametrize("item", ["ZII", Pauli("ZI"), SparsePauliOp("ZI")])
def test_a_single_observable_is_put_into_a_list(item: Any) -> None:
    with pytest.raises(CircuitError, match=r"(?s)takes a list of observables; got .* Write \["):
        Observables(item)


def test_observables_are_hermitian_paulis_of_one_width() -> None:
    with pytest.raises(CircuitError, match="at least one observable; got none"):
        Observables([])
    with pytest.raises(CircuitError, match="a Pauli string or a SparsePauliOp; got 'ZQ'; expected"):
        Observables(["ZQ"])
    with pytest.raises(CircuitError, match=r"same number of qubits; got widths \[1, 2\].*Pad with"):
        Observables(["Z", "ZI"])
    with pytest.raises(CircuitError, match="observables are Hermitian; got coefficients"):
        Observables([SparsePauliOp("Z", 1j)])


@pytest.mark.parametrize("scheme", [None, 5, ["a", "b"], [0.9, 1.9], [True, False], 0.5])
def test_groups_are_integers(scheme: Any) -> None:
    with pytest.raises(
        CircuitError, match=r"class groups are a scheme or .*; got .*; expected 'modulo' or 'contig"
    ) as caught:
        ClassGroups(2, 1, scheme)
    assert f"got {scheme!r};" in str(caught.value)


@pytest.mark.parametrize("qubits", [1, [0.7], "01", [None], (True,)])
def test_measured_qubits_are_integers(qubits: Any) -> None:
    with pytest.raises(CircuitError, match=r"measured qubits are listed; got .* a list of integ"):
        ClassGroups(2, 2, qubits=qubits)


def test_integers_of_numpy_are_integers() -> None:
    groups = ClassGroups(2, 2, np.array([0, 1, 1, 0]))
    assert groups == ClassGroups(2, 2, [0, 1, 1, 0])
    assert ClassGroups(2, 2, qubits=np.array([1])).qubits == (1,)


def test_an_unknown_scheme_is_answered_with_the_nearest() -> None:
    with pytest.raises(CircuitError, match=r"unknown grouping scheme; got 'modula'.*mean 'modulo'"):
        ClassGroups(2, 2, "modula")
    with pytest.raises(CircuitError, match=r"unknown grouping scheme; got 'xyz'.*basis state$"):
        ClassGroups(2, 2, "xyz")


def test_coefficients_of_observables_are_finite_numbers() -> None:
    with pytest.raises(CircuitError, match=r"observables are finite numbers; got \[\(?nan"):
        Observables([SparsePauliOp("Z", np.nan)])
    with pytest.raises(CircuitError, match=r"are finite numbers; got .*Bind their parameters"):
        Observables([SparsePauliOp("Z", np.array([Parameter("a")]))])
    with pytest.raises(CircuitError, match="a Pauli string or a SparsePauliOp; got ''"):
        Observables([""])
