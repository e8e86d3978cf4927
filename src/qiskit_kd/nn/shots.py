# SPDX-License-Identifier: Apache-2.0
"""How many shots a student needs that is read in class groups.

Its logits are `sharpness * log p`. A class probability p measured with N shots is off by about
`sqrt(p (1 - p) / N)`, so its logit is off by `sharpness * sqrt((1 - p) / (p N))`: sharpness costs
shots quadratically. And the more qubits class groups sum over, the less p differs from sample to
sample, so that ever smaller differences have to be measured. `benchmarks/shots_needed.py` has
numbers.
"""

from __future__ import annotations

import math
import warnings
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qiskit_kd.errors import ConfigError
from qiskit_kd.execution import ExactEngine
from qiskit_kd.nn.layer import QuantumLayer
from qiskit_kd.nn.modules import FullyQuantumStudent
from qiskit_kd.seeding import stream
from qiskit_kd.values import numbers

LOSS = 0.05
"""Nats that shot noise may cost."""

_FLOOR = 1e-6  # of a probability: nobody takes a million shots to see one
_MOST = 2**40
_WIDEST = 12  # qubits
_DRAWS, _SLACK = 8, 1.1  # repetitions of the drawing, and their spread

Array = NDArray[np.floating]


class FewShotsWarning(UserWarning):
    """A student is read with fewer shots than its class probabilities need."""


def shots_needed(student: FullyQuantumStudent, features: Array) -> int:
    """Shots per circuit that a student needs, as it is now.

    So many that shot noise moves its class distributions by at most 0.05 nats (mean Kullback-
    Leibler divergence), and by no more than they differ from sample to sample, below which nothing
    is left to be seen.

    Args:
        student: Read in class groups. Where its backend samples, it is run exactly instead.
        features: `(batch, num_features)` samples it is going to be asked about.

    Raises:
        ConfigError: If the student is not read in class groups.
        DataError: If the features are no numbers or cannot be encoded.
    """
    if not _is_read(student):
        raise ConfigError(
            "shots are counted of students read in class groups",
            got=type(student).__name__,
            expected="a fully quantum student",
        )
    layer = student.circuit
    engine = layer.engine if layer.engine.shots is None else ExactEngine()
    x = numbers(features, "features")
    weights = layer.weight.detach().to("cpu", torch.float64).numpy()
    return needed_for(engine.outputs(layer.model, x, weights), student.sharpness)


def _is_read(student: nn.Module) -> TypeGuard[FullyQuantumStudent]:
    """Whether it is one circuit, with nothing in front of it."""
    return isinstance(student, FullyQuantumStudent) and isinstance(student.circuit, QuantumLayer)


def needed_for(probabilities: Array, sharpness: float) -> int:
    """See `shots_needed`, from exact class probabilities `(batch, classes)`."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), _FLOOR, None)
    p /= p.sum(axis=1, keepdims=True)
    q = _tempered(p, sharpness)
    told = float((q * np.log(q / q.mean(axis=0))).sum(axis=1).mean())
    allowed = min(LOSS, max(told, 1e-10))
    # To second order KL(q || q of N shots) is half the variance of the errors of logits under q, a
    # constant over N. Of sharp students it is more, so shots are drawn until it holds.
    noise = float(0.5 * sharpness**2 * (q * (1 - q) / p).sum(axis=1).mean())
    shots = max(1, math.ceil(noise / allowed))
    while shots < _MOST and _lost(p, q, sharpness, shots) > _SLACK * allowed:
        shots = math.ceil(1.25 * shots)
    return shots


def _lost(p: Array, q: Array, sharpness: float, shots: int) -> float:
    """Mean KL from exact to drawn class distributions, half a count added as students do."""
    counts = stream(0, "shots needed", shots).multinomial(shots, p, size=(_DRAWS, len(p)))
    drawn = _tempered((counts + 0.5) / (shots + 0.5 * p.shape[1]), sharpness)
    return float((q * np.log(q / drawn)).sum(axis=-1).mean())


def _tempered(p: Array, sharpness: float) -> Array:
    logits = sharpness * np.log(p)
    q = np.exp(logits - logits.max(axis=-1, keepdims=True))
    q = np.clip(q / q.sum(axis=-1, keepdims=True), 1e-300, None)
    return np.asarray(q, dtype=np.float64)


def warn_few_shots(
    student: nn.Module, features: Array | Tensor, *, what: str, stacklevel: int = 2
) -> None:
    """A `FewShotsWarning` where a student's backend takes fewer shots than it needs.

    Circuits of more than twelve qubits are not looked at.
    """
    if not _is_read(student):
        return
    shots = student.circuit.engine.shots
    if shots is None or student.circuit.model.num_qubits > _WIDEST:
        return
    x = features.detach().cpu().numpy() if isinstance(features, Tensor) else features
    needed = shots_needed(student, x)
    if shots < needed:
        warnings.warn(
            f"{what} needs about {needed:,} shots per circuit and has {shots:,}: shot noise will "
            "hide what it has learned. Take more shots, a fixed sharpness, or, with encodings of "
            "one feature per qubit, class groups on a few measured qubits (qubits=[...]).",
            FewShotsWarning,
            stacklevel=stacklevel + 1,
        )
