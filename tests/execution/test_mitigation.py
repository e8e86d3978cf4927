# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qiskit_kd.errors import ConfigError, DataError, UnknownNameError
from qiskit_kd.execution.mitigation import (
    MITIGATIONS,
    check_mitigation,
    few_shots_known,
    invert,
    mitigate,
    project_simplex,
    tensored,
    warn_of_few_shots,
)

ERRORS = st.lists(st.tuples(st.floats(0, 0.4), st.floats(0, 0.4)), min_size=1, max_size=5)
VECTORS = st.integers(1, 12).flatmap(lambda n: arrays(float, n, elements=st.floats(-3, 3)))


def assignment(one_of_zero: float, zero_of_one: float) -> np.ndarray:
    return np.array([[1 - one_of_zero, zero_of_one], [one_of_zero, 1 - zero_of_one]])


def whole(matrices) -> np.ndarray:
    """The matrix of all qubits; the first is the lowest bit."""
    return reduce(lambda high, low: np.kron(low, high), matrices)


def distribution(outcomes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(outcomes, 0.5))


@given(ERRORS, st.integers(0, 2**32 - 1))
def test_what_was_read_is_turned_back(errors, seed) -> None:
    matrices = [assignment(*each) for each in errors]
    p = distribution(2 ** len(errors), seed)
    read = whole(matrices) @ p
    np.testing.assert_allclose(tensored(matrices, p), read, atol=1e-12)
    np.testing.assert_allclose(tensored(invert(matrices), read), p, atol=1e-9)
    np.testing.assert_allclose(mitigate(read, matrices), p, atol=1e-9)


def test_the_first_matrix_acts_on_the_lowest_bit() -> None:
    flip = assignment(1, 1)
    one = np.eye(4)[0]
    assert tensored([flip, np.eye(2)], one).argmax() == 1
    assert tensored([np.eye(2), flip], one).argmax() == 2


def test_leading_axes_are_kept() -> None:
    matrices = [assignment(0.1, 0.2), assignment(0.0, 0.3)]
    values = np.random.default_rng(0).dirichlet(np.ones(4), (3, 2))
    mitigated = mitigate(values, matrices)
    assert mitigated.shape == (3, 2, 4)
    for index in np.ndindex(3, 2):
        np.testing.assert_allclose(mitigated[index], mitigate(values[index], matrices), atol=1e-15)
    assert mitigate(np.zeros((0, 4)), matrices).shape == (0, 4)
    assert tensored([], np.ones(1)) == 1  # nothing is measured


@given(VECTORS)
def test_the_projection_is_the_nearest_point(v) -> None:
    """Optimal if and only if v - x is one number where x > 0, and v no larger than it elsewhere."""
    x = project_simplex(v)
    assert (x >= 0).all()
    assert x.sum() == pytest.approx(1, abs=1e-12)
    level = (v - x)[x > 0]
    assert np.ptp(level) < 1e-12
    assert (v[x == 0] <= level[0] + 1e-12).all()


@given(VECTORS, st.integers(0, 2**32 - 1))
def test_no_other_distribution_is_nearer(v, seed) -> None:
    x, other = project_simplex(v), distribution(len(v), seed)
    assert np.linalg.norm(v - x) <= np.linalg.norm(v - other) + 1e-12
    # It moves nothing away from any distribution, so from the true one neither.
    assert np.linalg.norm(x - other) <= np.linalg.norm(v - other) + 1e-12
    np.testing.assert_allclose(project_simplex(other), other, atol=1e-14)
    np.testing.assert_allclose(project_simplex(x), x, atol=1e-14)


def test_projections_by_hand() -> None:
    np.testing.assert_allclose(project_simplex(np.array([1.2, -0.2])), [1, 0])
    np.testing.assert_allclose(project_simplex(np.array([0.7, 0.5, -0.2])), [0.6, 0.4, 0])
    np.testing.assert_allclose(
        project_simplex(np.array([[2.0, 2.0], [0, 0]])), np.full((2, 2), 0.5)
    )


RUNS = 20_000


def estimates(errors, p, shots, seed=0):
    """Readout errors, the distribution that is read, and shares of the shots of many runs."""
    matrices = [assignment(*each) for each in errors]
    q = whole(matrices) @ p
    drawn = np.random.default_rng(seed).multinomial(shots, q, RUNS) / shots
    return matrices, q, drawn


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 0.2)), min_size=1, max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_the_inverse_is_unbiased_with_the_variance_of_the_docstring(errors, seed) -> None:
    p, shots = distribution(2 ** len(errors), seed), 200
    f = np.random.default_rng(seed).normal(size=len(p))
    matrices, q, drawn = estimates(errors, p, shots, seed)
    values = tensored(invert(matrices), drawn) @ f
    g = np.linalg.inv(whole(matrices)).T @ f
    variance = (q @ g**2 - (q @ g) ** 2) / shots
    assert abs(values.mean() - f @ p) < 5 * np.sqrt(variance / RUNS) + 1e-12
    # Of near-normal values; where one outcome is rare the tails are wider than that.
    assert values.var() == pytest.approx(variance, rel=0.15, abs=1e-12)


@pytest.mark.parametrize(("shots", "pays"), [(30, False), (3000, True)])
def test_mitigation_pays_where_the_bias_exceeds_the_noise_it_adds(shots, pays) -> None:
    p = np.array([0.6, 0.4])
    matrices, q, drawn = estimates([(0.04, 0.10)], p, shots)
    inverted = tensored(invert(matrices), drawn)
    determinant = 1 - 0.04 - 0.10
    noise = q[0] * q[1] / shots
    raw_error, error = ((each[:, 0] - p[0]) ** 2 for each in (drawn, inverted))
    assert raw_error.mean() == pytest.approx((q[0] - p[0]) ** 2 + noise, rel=0.05)
    assert error.mean() == pytest.approx(noise / determinant**2, rel=0.05)
    assert (error.mean() < raw_error.mean()) == pays


def test_the_projection_trades_variance_for_bias_at_the_edge() -> None:
    p = np.array([1.0, 0, 0, 0])
    matrices, _, drawn = estimates([(0.05, 0.05), (0.02, 0.08)], p, 500)
    inverted, projected = tensored(invert(matrices), drawn), mitigate(drawn, matrices)
    sigma = inverted[:, 0].std()
    assert abs(inverted[:, 0].mean() - 1) < 5 * sigma / np.sqrt(RUNS)
    bias = projected[:, 0].mean() - 1
    assert -sigma < bias < -0.2 * sigma
    assert projected[:, 0].var() + bias**2 < inverted[:, 0].var()
    raw_bias = drawn[:, 0].mean() - 1
    assert abs(bias) < abs(raw_bias) / 5


def test_names() -> None:
    assert [check_mitigation(name) for name in MITIGATIONS] == ["none", "tensored"]
    with pytest.raises(
        UnknownNameError,
        match=r"unknown readout mitigation; got 'tensord'\. did you mean 'tensored'\? known: none, "
        "tensored",
    ):
        check_mitigation("tensord")


def test_qubits_that_always_read_the_same_are_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"readout errors can be undone where a qubit's two states read differently; got "
        r"P\(1\|0\) = 0\.3 and P\(0\|1\) = 0\.7 for measured qubit 1; expected a sum other than 1\."
        r" Use mitigation: none, or a smaller scale of the noise\.",
    ):
        invert([np.eye(2), assignment(0.3, 0.7)])


def test_outcomes_must_fit_the_qubits() -> None:
    with pytest.raises(
        DataError,
        match=r"2 measured qubits have 4 outcomes; got shape \(3, 8\); expected \(\.\.\., 4\)",
    ):
        mitigate(np.ones((3, 8)), [np.eye(2), np.eye(2)])


def test_few_shots_are_warned_of() -> None:
    with pytest.warns(
        UserWarning,
        match=r"readout mitigation amplifies shot noise, and 999 shots are few: the noise it adds "
        r"is likely to exceed the bias it removes below about 1,000 shots; compare with the raw "
        "values, or use mitigation: none",
    ):
        warn_of_few_shots(999)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_few_shots(1000)


def test_few_shots_are_not_warned_of_where_they_are_known() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with few_shots_known(), few_shots_known():
            warn_of_few_shots(1)
        with pytest.raises(UserWarning, match="1 shots are few"):
            warn_of_few_shots(1)
