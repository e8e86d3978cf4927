# SPDX-License-Identifier: Apache-2.0
"""Figures of merit of a classifier, from `(samples, classes)` logits and `(samples,)` labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qiskit_kd.errors import DataError
from qiskit_kd.values import class_labels, numbers, probabilities, whole


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    z, y = numbers(logits, "logits"), class_labels(labels, "labels of a metric")
    if z.ndim != 2 or y.shape != z.shape[:1] or not len(y):
        raise DataError(
            "a metric takes one row of logits and one label per sample",
            got=f"logits {z.shape}, labels {y.shape}",
            expected="(n, classes) and (n,), n > 0",
            remedy="Pass the logits of the same samples as the labels.",
        )
    if y.min() < 0 or y.max() >= z.shape[1]:
        raise DataError(
            "labels of a metric are classes of its logits",
            got=f"labels {y.min()} to {y.max()}",
            expected=f"0 to {z.shape[1] - 1}",
            remedy="Pass the labels the network learned from.",
        )
    return z, y


def _logits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities, which a softmax of probabilities would not give."""
    if probabilities(values):
        raise DataError(
            "a metric of confidence takes logits",
            got="class probabilities",
            remedy="Pass their logarithms, numpy.log(p + 1e-12).",
        )
    shifted = values - values.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Share of samples whose largest logit is the true class."""
    z, y = _checked(logits, labels)
    return float((z.argmax(axis=1) == y).mean())


def macro_f1(logits: ArrayLike, labels: ArrayLike) -> float:
    """Unweighted mean of the classes' F1, over the classes that occur or are predicted.

    `F1 = 2 TP / (2 TP + FP + FN)`; equals scikit-learn's `f1_score(average="macro")`.
    """
    z, y = _checked(logits, labels)
    classes = z.shape[1]
    predicted = z.argmax(axis=1)
    hits = np.bincount(y[predicted == y], minlength=classes)
    both = np.bincount(y, minlength=classes) + np.bincount(predicted, minlength=classes)
    seen = both > 0
    return float((2 * hits[seen] / both[seen]).mean())


def nll(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative log-likelihood of the true class, in nats."""
    z, y = _checked(logits, labels)
    return float(-_logits(z)[np.arange(len(y)), y].mean())


def ece(logits: ArrayLike, labels: ArrayLike, *, bins: int = 15) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over confidence bins.

    `sum_b (n_b / n) |accuracy_b - confidence_b|` with bins of equal width, open below.

    References:
        Guo et al., arXiv:1706.04599, eq. 3.
    """
    z, y = _checked(logits, labels)
    bins = whole(bins, "bins is a whole number", least=1, error=DataError)
    confidence = np.exp(_logits(z).max(axis=1))
    right = z.argmax(axis=1) == y
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def kl(teacher: ArrayLike, logits: ArrayLike) -> float:
    """Mean divergence `KL(teacher || student)` of class distributions at temperature 1, in nats.

    Args:
        teacher: `(samples, classes)` logits of the teacher.
        logits: The same of the student.
    """
    t, z = numbers(teacher, "logits of the teacher"), numbers(logits, "logits")
    if t.shape != z.shape or z.ndim != 2 or not len(z):
        raise DataError(
            "a divergence compares the distributions of the same samples",
            got=f"teacher {t.shape}, student {z.shape}",
            expected="(n, classes) twice, n > 0",
        )
    log_t, log_p = _logits(t), _logits(z)
    return float((np.exp(log_t) * (log_t - log_p)).sum(axis=1).mean())


def metrics(logits: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Those that need no teacher, by name."""
    return {each.__name__: each(logits, labels) for each in (accuracy, macro_f1, nll, ece)}
