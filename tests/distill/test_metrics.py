# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import accuracy_score, f1_score, log_loss

from qiskit_kd.distill.metrics import accuracy, ece, kl, macro_f1, metrics, nll
from qiskit_kd.errors import DataError
from qiskit_kd.seeding import stream


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 6), st.floats(0.01, 4))
def test_equal_to_scikit_learn(seed: int, n: int, classes: int, scale: float):
    random = stream(seed, "metrics")
    z = scale * random.normal(size=(n, classes))
    y = random.integers(0, classes, n)
    predicted = z.argmax(axis=1)
    assert accuracy(z, y) == pytest.approx(accuracy_score(y, predicted))
    expected = f1_score(y, predicted, average="macro")
    assert macro_f1(z, y) == pytest.approx(expected)
    shifted = np.exp(z - z.max(axis=1, keepdims=True))
    p = shifted / shifted.sum(axis=1, keepdims=True)
    assert nll(z, y) == pytest.approx(log_loss(y, p, labels=range(classes)), rel=1e-6, abs=1e-9)
    assert 0 <= ece(z, y) <= 1


def test_ece_equals_a_plain_loop():
    random = stream(4, "ece")
    z, y = 2 * random.normal(size=(200, 3)), random.integers(0, 3, 200)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    total = 0.0
    for k in range(10):
        inside = (confidence > k / 10) & (confidence <= (k + 1) / 10)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert ece(z, y, bins=10) == pytest.approx(total)


def test_a_perfectly_calibrated_coin():
    z, y = np.zeros((4, 2)), np.array([0, 0, 1, 1])
    assert ece(z, y) == pytest.approx(0)
    assert nll(z, y) == pytest.approx(np.log(2))
    assert metrics(z, y) == {
        "accuracy": 0.5, "macro_f1": pytest.approx(1 / 3), "nll": pytest.approx(np.log(2)),
        "ece": pytest.approx(0),
    }  # fmt: skip


def test_logits_of_any_size_are_fine():
    z, y = np.array([[1e4, -1e4], [-1e4, 1e4]]), np.array([0, 0])
    assert nll(z, y) == pytest.approx(1e4)
    assert ece(z, y) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("z", "y"),
    [(np.zeros(3), np.zeros(3)), (np.zeros((3, 2)), np.zeros(2)), (np.zeros((0, 2)), [])],
)
def test_shapes_must_fit(z, y):
    with pytest.raises(
        DataError, match=r"one row of logits and one label per sample; got logits \("
    ):
        accuracy(z, y)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(2, 5), st.floats(0.01, 4))
def test_kl_equals_scipys_entropy(seed: int, n: int, classes: int, scale: float):
    teacher, student = scale * stream(seed, "kl").normal(size=(2, n, classes))
    expected = entropy(softmax(teacher, axis=1), softmax(student, axis=1), axis=1).mean()
    assert kl(teacher, student) == pytest.approx(expected, abs=1e-12)
    assert kl(teacher, teacher + 3) == pytest.approx(0, abs=1e-12)


def test_kl_is_of_the_teacher_to_the_student():
    sure, unsure = np.array([[5.0, 0.0]]), np.zeros((1, 2))
    p = 1 / (1 + np.exp(-5))
    assert kl(sure, unsure) == pytest.approx(
        np.log(2) + p * np.log(p) + (1 - p) * np.log(1 - p), abs=1e-12
    )
    assert kl(unsure, sure) > 2 * kl(sure, unsure)
    assert kl(np.array([[1e4, -1e4]]), np.array([[0.0, 0.0]])) == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("teacher", "student"),
    [(np.zeros((2, 3)), np.zeros((2, 2))), (np.zeros(3), np.zeros(3)),
     (np.zeros((0, 2)), np.zeros((0, 2)))],
)  # fmt: skip
def test_kl_compares_the_same_samples(teacher, student):
    with pytest.raises(
        DataError, match=r"a divergence compares the distributions of the same samples; got "
        r"teacher \(.*\), student \(.*\); expected \(n, classes\) twice, n > 0",
    ):  # fmt: skip
        kl(teacher, student)
