# SPDX-License-Identifier: Apache-2.0
"""The number of shots a student needs: what it promises holds, and warnings say it."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch

from qiskit_kd.data import Dataset
from qiskit_kd.distill import Distiller, Term
from qiskit_kd.errors import ConfigError
from qiskit_kd.nn import FewShotsWarning, shots_needed, students
from qiskit_kd.nn.shots import needed_for

X = np.random.default_rng(3).normal(size=(40, 16))


def spread(deviation: float) -> np.ndarray:
    p = np.exp(deviation * np.random.default_rng(0).normal(size=(1000, 3)))
    return p / p.sum(axis=1, keepdims=True)


def test_small_differences_need_many_shots() -> None:
    for deviation in (0.2, 0.02):
        p = spread(deviation)
        # Noise of a logit is sqrt(2 / shots) at p = 1/3: as large as what is to be seen.
        by_hand = 2 / np.log(p).std(axis=0).mean() ** 2
        assert needed_for(p, 1.0) == pytest.approx(by_hand, rel=0.15)


@pytest.mark.parametrize("sharpness", [1.0, 7.0, 23.0])
def test_with_so_many_shots_noise_costs_what_is_allowed(sharpness: float) -> None:
    draw = np.random.default_rng(1)
    p = spread(0.5)
    shots = needed_for(p, sharpness)

    def tempered(values: np.ndarray) -> np.ndarray:
        power = values**sharpness
        return power / power.sum(axis=1, keepdims=True)

    def lost(number: int) -> float:
        drawn = (draw.multinomial(number, p) + 0.5) / (number + 1.5)
        return float((tempered(p) * np.log(tempered(p) / tempered(drawn))).sum(axis=1).mean())

    assert lost(shots) < 0.07
    assert lost(shots // 8) > 0.1


def test_a_sharp_student_needs_more() -> None:
    needed = [
        shots_needed(students["fully_quantum"](16, 3, seed=0, initial_sharpness=s), X)
        for s in (1.0, 10.0)
    ]
    assert needed[1] > 5 * needed[0]


def test_students_with_few_shots_warn_and_are_counted_exactly() -> None:
    sharp = {"initial_sharpness": 20.0, "backend": "aer_shots"}
    with pytest.warns(FewShotsWarning, match=r"needs about .* shots per circuit and has 16:"):
        student = students["fully_quantum"](16, 3, seed=0, shots=16, **sharp)
    state = copy.deepcopy(student.state_dict())
    with pytest.warns(FewShotsWarning, match="the trained student needs about"):
        Distiller(student, [Term("ce")], epochs=1, batch_size=30, seed=0).fit(
            Dataset(X, np.arange(40) % 3, 3, "noise"), Dataset(X, np.arange(40) % 3, 3, "noise")
        )
    student.load_state_dict(state)
    exact = students["fully_quantum"](16, 3, seed=0, initial_sharpness=20.0)
    assert shots_needed(student, X) == shots_needed(exact, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        students["fully_quantum"](16, 3, seed=0, shots=10**6, **sharp)
        students["fully_quantum"](16, 3, seed=0, initial_sharpness=20.0)


def test_only_class_groups_are_counted() -> None:
    with pytest.raises(ConfigError, match="read in class groups; got Linear"):
        shots_needed(torch.nn.Linear(2, 2), X)
