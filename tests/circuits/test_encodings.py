# SPDX-License-Identifier: Apache-2.0
"""Every encoding: its circuit prepares the state its formula promises."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from qiskit.quantum_info import Statevector

from qiskit_kd.circuits import (
    Encoding,
    amplitude,
    amplitude_encoding,
    amplitude_mps,
    angle,
    dense_angle,
    encodings,
    reuploading,
)
from qiskit_kd.circuits.amplitude_encoding import mps_fidelity
from qiskit_kd.errors import CircuitError, DataError, ResourceError
from qiskit_kd.seeding import stream

SIZES = (2, 3, 5)


def states(encoding: Encoding, x: np.ndarray) -> np.ndarray:
    """The encoded states by Qiskit, one by one."""
    bound = (encoding.circuit.assign_parameters(row) for row in encoding.angles(x))
    return np.array([Statevector(circuit).data for circuit in bound])


def samples(encoding: Encoding, batch: int = 4) -> np.ndarray:
    return stream(1, encoding.name, encoding.num_qubits).normal(size=(batch, encoding.num_features))


def finite_difference(encoding: Encoding, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    step, result = 1e-6, np.zeros_like(x)
    for column in range(x.shape[1]):
        shift = np.zeros_like(x)
        shift[:, column] = step
        change = encoding.angle_map(x + shift) - encoding.angle_map(x - shift)
        result[:, column] = (gradient * change).sum(axis=1) / (2 * step)
    return result


def product_state(qubits: list[tuple[complex, complex]]) -> np.ndarray:
    """Kronecker product with qubit 0 rightmost."""
    state = np.ones(1, dtype=complex)
    for amplitudes in qubits:
        state = np.kron(np.array(amplitudes), state)
    return state


# --- every encoding ------------------------------------------------------------------------------

every = pytest.mark.parametrize("name", sorted(encodings))
sizes = pytest.mark.parametrize("num_qubits", SIZES)


@every
@sizes
def test_parameters_are_the_inputs_in_order(name: str, num_qubits: int) -> None:
    encoding = encodings[name](num_qubits)
    names = [p.name for p in encoding.circuit.parameters]
    assert names == [f"input_{k:02d}" for k in range(encoding.num_inputs)]
    assert encoding.num_qubits == num_qubits
    assert encoding.circuit.num_clbits == 0
    assert encoding.name == name


@every
@sizes
def test_a_batch_is_its_rows(name: str, num_qubits: int) -> None:
    encoding = encodings[name](num_qubits)
    x = samples(encoding)
    whole = encoding.angles(x)
    assert whole.shape == (len(x), encoding.num_inputs)
    alone = np.concatenate([encoding.angles(row[None]) for row in x])
    np.testing.assert_allclose(whole, alone, atol=1e-12)
    assert encoding.angles(x[:0]).shape == (0, encoding.num_inputs)


@every
def test_the_type_of_the_features_is_kept(name: str) -> None:
    encoding = encodings[name](3)
    x = samples(encoding)
    single = encoding.angles(x.astype(np.float32))
    assert single.dtype == np.float32
    assert encoding.angles(np.ones((1, encoding.num_features), dtype=int)).dtype == np.float64
    # Angles may differ by whole turns where a singular vector changes sign; states may not.
    if name != "amplitude_mps":
        np.testing.assert_allclose(single, encoding.angles(x), atol=1e-4)


@every
@sizes
def test_the_pullback_is_the_gradient(name: str, num_qubits: int) -> None:
    encoding = encodings[name](num_qubits)
    x = samples(encoding)
    if encoding.angle_pullback is None:
        assert name == "amplitude_mps"
        return
    gradient = stream(2, name).normal(size=(len(x), encoding.num_inputs))
    np.testing.assert_allclose(
        encoding.angle_pullback(x, gradient), finite_difference(encoding, x, gradient), atol=1e-6
    )


@every
def test_it_survives_pickle(name: str) -> None:
    encoding = encodings[name](3)
    x = samples(encoding)
    copied = pickle.loads(pickle.dumps(encoding))
    assert copied.circuit == encoding.circuit
    np.testing.assert_array_equal(copied.angles(x), encoding.angles(x))


@every
def test_wrong_width_is_refused(name: str) -> None:
    encoding = encodings[name](3)
    width = encoding.num_features
    with pytest.raises(DataError, match=rf"rows of {width} features; got shape \(2, {width + 1}\)"):
        encoding.angles(np.ones((2, width + 1)))
    with pytest.raises(DataError, match="got shape"):
        encoding.angles(np.ones(width))


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_named(name: str, bad: float) -> None:
    encoding = encodings[name](3)
    x = np.ones((4, encoding.num_features))
    x[2, 1] = bad
    with pytest.raises(DataError, match=f"finite numbers; got {bad} in row 2, feature 1"):
        encoding.angles(x)


@every
def test_only_real_numbers_are_encoded(name: str) -> None:
    encoding = encodings[name](2)
    shape = (1, encoding.num_features)
    with pytest.raises(DataError, match="array of real numbers; got an array of complex128"):
        encoding.angles(np.ones(shape, dtype=complex))
    with pytest.raises(DataError, match="array of real numbers; got list"):
        encoding.angles([[1.0, 2.0]])  # type: ignore[arg-type]


@every
def test_the_zero_vector(name: str) -> None:
    encoding = encodings[name](3)
    x = np.ones((4, encoding.num_features))
    x[[1, 3]] = 0
    if encoding.zero_is_undefined:
        with pytest.raises(DataError, match="all zeros; got a zero vector in row 1 and 1 more"):
            encoding.angles(x)
    else:
        assert np.isfinite(encoding.angles(x)).all()


@every
@pytest.mark.parametrize("bad", [0, -2, 1.5, "3"])
def test_the_number_of_qubits_makes_sense(name: str, bad: Any) -> None:
    with pytest.raises(CircuitError, match=f"{name} encoding needs a whole number of qubits"):
        encodings[name](bad)


@every
def test_too_many_qubits_are_refused(name: str) -> None:
    with pytest.raises(ResourceError, match=f"{name} encoding on 31 qubits would not fit"):
        encodings[name](31)


# --- amplitude -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(data=st.data(), num_qubits=st.integers(1, 5))
def test_amplitude_prepares_the_vector(data: st.DataObject, num_qubits: int) -> None:
    features = data.draw(st.integers(1, 2**num_qubits))
    values = st.floats(-1e3, 1e3, allow_subnormal=False) | st.just(0.0) | st.floats(1e-9, 1e-6)
    x = data.draw(arrays(np.float64, (2, features), elements=values))
    x[:, 0] += np.where(np.abs(x).max(axis=1) < 1e-9, 1.0, 0.0)
    encoding = amplitude(num_qubits, num_features=features)
    wanted = np.zeros((2, 2**num_qubits))
    wanted[:, :features] = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(states(encoding, x), wanted, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_amplitude_ignores_the_norm(scale: float) -> None:
    encoding = amplitude(3)
    x = samples(encoding)
    np.testing.assert_allclose(encoding.angles(scale * x), encoding.angles(x), atol=1e-12)
    assert encoding.angle_pullback is not None
    gradient = encoding.angle_pullback(x, np.ones((len(x), encoding.num_inputs)))
    np.testing.assert_allclose((gradient * x).sum(axis=1), 0, atol=1e-12)


def test_amplitude_pullback_is_finite_at_zeros_and_right_beside_them() -> None:
    encoding = amplitude(3)
    assert encoding.angle_pullback is not None
    x = np.array([[1.0, 2.0, 0.0, 0.0, 0.0, 3.0, -1.0, 0.0]])
    gradient = stream(3, "zeros").normal(size=(1, 7))
    found = encoding.angle_pullback(x, gradient)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0, 2:4], 0)  # an empty pair has no direction
    others = [0, 1, 4, 5, 6, 7]
    wanted = finite_difference(encoding, x, gradient)
    np.testing.assert_allclose(found[0, others], wanted[0, others], atol=1e-6)


@pytest.mark.parametrize("num_qubits", [1, 2, 4, 6])
def test_amplitude_counts(num_qubits: int) -> None:
    encoding = amplitude(num_qubits)
    assert encoding.num_inputs == 2**num_qubits - 1
    assert encoding.circuit.num_nonlocal_gates() == 2**num_qubits - num_qubits - 1
    assert encoding.is_amplitude
    assert encoding.num_features == 2**num_qubits


@pytest.mark.parametrize("value", [1e-170, 1e160])
def test_a_norm_outside_floating_point_is_named(value: float) -> None:
    x = np.ones((3, 4))
    x[1] = value
    with pytest.raises(DataError, match="got a norm that over- or underflows in row 1"):
        amplitude(2).angles(x)


@pytest.mark.parametrize("build", [amplitude, amplitude_mps])
@pytest.mark.parametrize("bad", [0, 5, -1, 2.5])
def test_features_fit_into_the_amplitudes(build: Callable[..., Encoding], bad: Any) -> None:
    with pytest.raises(CircuitError, match=f"hold at most 4 features; got num_features={bad}"):
        build(2, num_features=bad)


def test_the_remedy_says_how_many_qubits_would_do() -> None:
    with pytest.raises(CircuitError, match=r"expected 1 to 4\. Use 6 qubits\."):
        amplitude(2, num_features=64)


def test_the_tree_has_a_bound_of_its_own() -> None:
    with pytest.raises(ResourceError, match=r"15 qubits would not fit.*at most 14 qubits"):
        amplitude(15)


# --- matrix product state ------------------------------------------------------------------------


@pytest.mark.parametrize("num_qubits", [2, 3, 4, 6])
def test_mps_prepares_its_truncated_vector(num_qubits: int) -> None:
    encoding = amplitude_mps(num_qubits)
    x = samples(encoding, batch=6)
    x[1] = np.eye(2**num_qubits)[1]  # degenerate bonds: a basis vector, a product, half zeros
    x[2] = 1
    x[3, 2 ** (num_qubits - 1) :] = 0
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    overlap = np.abs(np.einsum("bk,bk->b", unit, states(encoding, x))) ** 2
    np.testing.assert_allclose(overlap, mps_fidelity(num_qubits, x), atol=1e-9)
    np.testing.assert_allclose(overlap[1:3], 1, atol=1e-9)
    if num_qubits <= 3:  # bond dimension 2 holds every vector
        np.testing.assert_allclose(overlap, 1, atol=1e-9)


@pytest.mark.parametrize("num_qubits", [5, 6])
def test_mps_is_a_local_optimum_above_plain_truncation(
    num_qubits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = stream(5, "mps").normal(size=(20, 2**num_qubits))
    found = mps_fidelity(num_qubits, x)
    monkeypatch.setattr(amplitude_encoding, "_SWEEPS", 0)
    truncated = mps_fidelity(num_qubits, x)
    monkeypatch.setattr(amplitude_encoding, "_SWEEPS", 60)
    longer = mps_fidelity(num_qubits, x)
    assert (found >= truncated - 1e-12).all()  # a sweep is never worse
    assert (longer >= found - 1e-12).all()
    assert (found - truncated).mean() > 0.01
    assert (longer - found).mean() < 0.003
    monkeypatch.undo()
    np.testing.assert_allclose(mps_fidelity(num_qubits, x[3:4]), found[3:4], atol=1e-12)


@pytest.mark.parametrize("num_qubits", [2, 4, 6])
def test_mps_counts(num_qubits: int) -> None:
    encoding = amplitude_mps(num_qubits)
    assert encoding.num_inputs == 6 * (num_qubits - 1)
    assert encoding.circuit.num_nonlocal_gates() == 2 * (num_qubits - 1)
    pairs = {
        tuple(sorted(encoding.circuit.find_bit(q).index for q in item.qubits))
        for item in encoding.circuit.data
        if len(item.qubits) == 2
    }
    assert pairs == {(k, k + 1) for k in range(num_qubits - 1)}
    assert not encoding.is_amplitude
    assert encoding.zero_is_undefined


def test_mps_pads_with_zeros_and_ignores_the_norm() -> None:
    x = stream(4, "mps").normal(size=(3, 11))
    padded = np.concatenate((x, np.zeros((3, 5))), axis=1)
    short = states(amplitude_mps(4, num_features=11), x)
    long = states(amplitude_mps(4), 1e120 * padded)
    np.testing.assert_allclose(np.abs(np.einsum("bk,bk->b", short.conj(), long)), 1, atol=1e-9)
    assert mps_fidelity(4, x[:0]).shape == (0,)


def test_mps_needs_two_qubits() -> None:
    with pytest.raises(CircuitError, match="got 1; expected 2 or more"):
        amplitude_mps(1)


# --- angles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [angle, reuploading])
@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_angle_turns_each_qubit(build: Callable[..., Encoding], axis: str) -> None:
    encoding = build(3, axis=axis, scale=0.7)
    x = samples(encoding)
    for row, state in zip(x, states(encoding, x), strict=True):
        half = 0.35 * row
        c, s = np.cos(half), np.sin(half)
        each = {
            "x": [(c[q], -1j * s[q]) for q in range(3)],
            "y": [(c[q], s[q]) for q in range(3)],
            "z": [(np.exp(-1j * h) / np.sqrt(2), np.exp(1j * h) / np.sqrt(2)) for h in half],
        }[axis]
        np.testing.assert_allclose(state, product_state(each), atol=1e-12)


def test_dense_angle_is_its_formula() -> None:
    encoding = dense_angle(2)
    x = stream(5, "dense").uniform(size=(4, 4))
    for row, state in zip(x, states(encoding, x), strict=True):
        wanted = product_state([
            (np.cos(np.pi * a), np.exp(2j * np.pi * b) * np.sin(np.pi * a))
            for a, b in row.reshape(2, 2)
        ])  # fmt: skip
        np.testing.assert_allclose(abs(np.vdot(wanted, state)), 1, atol=1e-12)


def test_reuploading_states_its_layers() -> None:
    assert reuploading(2, 5).layers == 5
    assert angle(2).layers == dense_angle(2).layers == amplitude(2).layers == 1
    with pytest.raises(CircuitError, match="reuploading encoding needs a whole number of layers"):
        reuploading(2, 0)


@pytest.mark.parametrize("build", [angle, reuploading])
def test_the_axis_is_known(build: Callable[..., Encoding]) -> None:
    with pytest.raises(CircuitError, match="unknown rotation axis; got 'w'; expected 'x', 'y' or"):
        build(2, axis="w")


@pytest.mark.parametrize("build", [angle, dense_angle, reuploading])
@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, "a", None, True])
def test_the_scale_turns_something(build: Callable[..., Encoding], bad: Any) -> None:
    with pytest.raises(CircuitError, match="finite number other than zero; got"):
        build(2, scale=bad)
