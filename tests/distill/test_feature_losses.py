# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_kd.distill.feature_losses import (
    attention,
    feature_cosine,
    feature_mse,
    kernel_alignment,
    rkd_angle,
    rkd_distance,
)
from qiskit_kd.errors import DistillError
from qiskit_kd.seeding import stream

RELATIONAL = [rkd_distance, rkd_angle, kernel_alignment]


def features(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(stream(1, name).normal(size=shape))


def huber(x: float) -> float:
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def loop_distance(f: np.ndarray, g: np.ndarray) -> float:
    pairs = list(itertools.combinations(range(len(f)), 2))
    d = {id(x): [np.linalg.norm(x[i] - x[j]) for i, j in pairs] for x in (f, g)}
    a, b = (np.array(d[id(x)]) / np.mean(d[id(x)]) for x in (f, g))
    return float(np.mean([huber(u - v) for u, v in zip(a, b, strict=True)]))


def loop_angle(f: np.ndarray, g: np.ndarray) -> float:
    def cosine(x: np.ndarray, i: int, j: int, k: int) -> float:
        a, b = x[i] - x[j], x[k] - x[j]
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    triplets = list(itertools.permutations(range(len(f)), 3))
    return float(np.mean([huber(cosine(f, *t) - cosine(g, *t)) for t in triplets]))


def loop_kernel(f: np.ndarray, g: np.ndarray) -> float:
    def fidelity(x: np.ndarray, i: int, j: int) -> float:
        return float((x[i] @ x[j]) ** 2 / ((x[i] @ x[i]) * (x[j] @ x[j])))

    pairs = itertools.combinations(range(len(f)), 2)
    return float(np.mean([huber(fidelity(f, *p) - fidelity(g, *p)) for p in pairs]))


@pytest.mark.parametrize(
    ("function", "reference"),
    [(rkd_distance, loop_distance), (rkd_angle, loop_angle), (kernel_alignment, loop_kernel)],
)
def test_relational_losses_equal_plain_loops_at_unequal_widths(function, reference):
    f, g = 3 * features("f", 6, 4), features("g", 6, 9)
    value = function(f, g).item()
    assert value == pytest.approx(reference(f.numpy(), g.numpy()), rel=1e-10)
    assert value > 1e-3


@pytest.mark.parametrize("function", RELATIONAL)
@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("constant", ["student", "teacher", "both"])
def test_few_samples_and_constant_features_give_no_nan(function, batch: int, constant: str):
    f, g = features("f", batch, 3), features("g", batch, 5)
    f = torch.ones(batch, 3, dtype=torch.float64) if constant != "teacher" else f
    g = torch.zeros(batch, 5, dtype=torch.float64) if constant != "student" else g
    f.requires_grad_()
    value = function(f, g)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(f.grad).all()
    if batch == 1 or (constant == "both" and function is not kernel_alignment):
        assert value.item() == 0
        assert not f.grad.any()


@pytest.mark.parametrize("function", RELATIONAL)
def test_repeated_samples_have_a_finite_gradient(function):
    f = features("f", 4, 3)
    f = torch.cat([f, f[:1]]).requires_grad_()
    function(f, features("g", 5, 3)).backward()
    assert torch.isfinite(f.grad).all()
    assert f.grad.any()


@settings(max_examples=8, deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 99))
def test_relations_do_not_see_scale_nor_rotation(scale: float, seed: int):
    f, g = features("f", 5, 4), features("g", 5, 4)
    rotation = torch.linalg.qr(torch.from_numpy(stream(seed, "q").normal(size=(4, 4)))).Q
    for function in RELATIONAL:
        torch.testing.assert_close(function(scale * f @ rotation, g), function(f, g))


def test_rkd_also_does_not_see_shifts():
    f, g = features("f", 5, 4), features("g", 5, 4)
    for function in (rkd_distance, rkd_angle):
        torch.testing.assert_close(function(f + 3, g), function(f, g))
    assert not torch.isclose(kernel_alignment(f + 3, g), kernel_alignment(f, g))


def test_kernel_alignment_trains_the_student():
    # A published implementation detached the student's features: its kernel term was a constant.
    f, g = features("f", 8, 4).requires_grad_(), features("g", 8, 6)
    before = kernel_alignment(f, g)
    (gradient,) = torch.autograd.grad(before, f)
    assert gradient.norm() > 1e-3
    with torch.no_grad():
        after = kernel_alignment(f - 0.1 * gradient, g)
    assert after < before


def test_feature_mse_is_a_mean_over_everything():
    f, g = features("f", 3, 2, 4, 4), features("g", 3, 2, 4, 4)
    assert feature_mse(f, g).item() == pytest.approx(float(((f - g) ** 2).mean()))


def test_feature_cosine_equals_a_plain_loop_and_does_not_see_scale():
    f, g = features("f", 3, 2, 4, 4), features("g", 3, 2, 4, 4)
    cosines = [
        a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        for a, b in zip(f.numpy().reshape(3, -1), g.numpy().reshape(3, -1), strict=True)
    ]
    assert feature_cosine(f, g).item() == pytest.approx(1 - np.mean(cosines))
    torch.testing.assert_close(feature_cosine(7 * f, 0.1 * g), feature_cosine(f, g))
    assert feature_cosine(f, 2 * f).item() == pytest.approx(0, abs=1e-12)
    assert feature_cosine(f, -f).item() == pytest.approx(2)


@pytest.mark.parametrize("zero", ["student", "teacher", "both"])
def test_feature_cosine_of_a_zero_map_is_one_with_gradient_zero(zero: str):
    f, g = features("f", 3, 2, 4), features("g", 3, 2, 4)
    if zero != "teacher":
        f[1] = 0
    if zero != "student":
        g[1] = 0
    f.requires_grad_()
    value = feature_cosine(f, g)
    value.backward()
    others = feature_cosine(f[[0, 2]], g[[0, 2]])
    assert value.item() == pytest.approx((2 * others.item() + 1) / 3)
    assert not f.grad[1].any()
    assert f.grad[0].any()
    assert torch.isfinite(f.grad).all()


@pytest.mark.parametrize("scale", [1e-18, 1e-20, 1e-22, 1e-30, 1e15])
def test_feature_cosine_is_finite_in_single_precision(scale: float):
    f = (features("f", 3, 8).float() * scale).requires_grad_()
    value = feature_cosine(f, features("g", 3, 8).float() * scale)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(f.grad).all()


@pytest.mark.parametrize("function", [feature_mse, feature_cosine])
def test_maps_of_different_size_name_both_shapes_and_the_remedy(function):
    with pytest.raises(
        DistillError,
        match=r"element by element; got student \(3, 2, 4, 4\), teacher \(3, 5, 4, 4\); expected "
        r"equal shapes\. Set the term's adapter \('channels' .* 'linear' .*'rkd_distance'",
    ):
        function(features("f", 3, 2, 4, 4), features("g", 3, 5, 4, 4))


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_attention_equals_plain_loops_at_unequal_channels(power: float):
    f, g = features("f", 3, 2, 2, 3), features("g", 3, 5, 2, 3)

    def attention_map(x: np.ndarray) -> np.ndarray:
        q = (np.abs(x) ** power).mean(axis=0).ravel()
        return q / math.sqrt((q**2).sum())

    expected = np.mean(
        [((attention_map(a) - attention_map(b)) ** 2).sum()
         for a, b in zip(f.numpy(), g.numpy(), strict=True)]
    )  # fmt: skip
    assert attention(f, g, power=power).item() == pytest.approx(expected)
    torch.testing.assert_close(attention(5 * f, g), attention(f, g))


def test_attention_refuses_maps_it_cannot_compare():
    f = features("f", 3, 2, 4, 4)
    with pytest.raises(
        DistillError, match=r"position by position; got .*teacher \(3, 2, 2, 2\).*'linear'"
    ):
        attention(f, f[..., :2, :2])
    with pytest.raises(DistillError, match=r"expected \(batch, channels, \.\.\.\)"):
        attention(f[..., 0, 0], f[..., 0, 0])
    with pytest.raises(DistillError, match=r"power of an attention map is at least 1; got 0\.5"):
        attention(f, f, power=0.5)


@pytest.mark.parametrize("function", [*RELATIONAL, attention])
def test_gradcheck_of_feature_maps(function):
    f, g = features("f", 4, 2, 2, 2).requires_grad_(), features("g", 4, 3, 2, 2)
    assert torch.autograd.gradcheck(lambda x: function(x, g), (f,))


@pytest.mark.parametrize("function", [feature_mse, feature_cosine])
def test_gradcheck_of_equal_maps(function):
    f, g = features("f", 4, 2, 2, 2).requires_grad_(), features("g", 4, 2, 2, 2)
    assert torch.autograd.gradcheck(lambda x: function(x, g), (f,))
