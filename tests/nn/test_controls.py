# SPDX-License-Identifier: Apache-2.0
"""Classical controls: their sizes, that they are fitted to training samples alone, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qiskit_kd.errors import ConfigError, UnknownNameError
from qiskit_kd.nn.controls import CONTROLS, classical_control
from qiskit_kd.nn.modules import num_parameters

SAMPLES = np.random.default_rng(0).normal(size=(90, 64)) @ np.diag(np.linspace(3, 0.1, 64))


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("rows", [8, 90])
def test_each_control_has_the_size_of_the_quantum_students(control: str, rows: int) -> None:
    network = classical_control(64, 3, seed=0, control=control, samples=SAMPLES[:rows])
    assert num_parameters(network) == 75
    logits = network(torch.as_tensor(SAMPLES, dtype=torch.float32))
    assert logits.shape == (90, 3)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(("features", "classes", "budget"), [(64, 10, 74), (6, 3, 30), (2, 2, 5)])
def test_controls_are_the_smallest_with_the_budget(
    control: str, features: int, classes: int, budget: int
) -> None:
    samples = SAMPLES[:, :features]
    network = classical_control(
        features, classes, seed=0, control=control, budget=budget, samples=samples
    )
    size = num_parameters(network)
    # Few features have few components and products; never more than a layer's columns too many.
    assert size < budget + 2 * classes + features
    if control == "random_mlp" or features == 64:
        assert size >= budget


def test_components_are_those_of_the_samples_and_completed_at_random() -> None:
    network = classical_control(
        64, 3, seed=0, control="pca_linear", samples=SAMPLES, dtype="float64"
    )
    values = network.components(torch.as_tensor(SAMPLES)).numpy()
    assert np.allclose(values.mean(axis=0), 0)
    covariance = np.cov(values.T)
    assert np.allclose(covariance, np.diag(np.diag(covariance)), atol=1e-12)
    assert np.diag(covariance).mean() == pytest.approx(1)
    few = [
        classical_control(64, 3, seed=seed, control="pca_linear", samples=SAMPLES[:5]).components
        for seed in (0, 1)
    ]
    same, other = (few[k].matrix.numpy() for k in (0, 1))
    assert np.allclose(same[:, :4], other[:, :4], atol=1e-6)
    assert not np.allclose(same[:, 4:], other[:, 4:])


def test_products_make_the_xor_of_two_signs_learnable() -> None:
    signs = np.array([[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)])
    network = classical_control(
        2, 2, seed=0, control="pca_quadratic", budget=12, samples=signs, dtype="float64"
    )
    features = network[:-1](torch.as_tensor(signs)).numpy()
    target = signs[:, 0] * signs[:, 1]
    design = np.column_stack([features, np.ones(4)])
    fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    assert np.allclose(fitted, target)


@pytest.mark.parametrize(
    "samples", [None, SAMPLES[:1], SAMPLES[:, :3], np.full((4, 64), np.nan), np.ones((4, 64), str)]
)
def test_samples_are_checked(samples: object) -> None:
    with pytest.raises(ConfigError, match="principal components are those of training samples"):
        classical_control(64, 3, seed=0, control="pca_linear", samples=samples)


def test_names_and_budgets_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="pca_linear"):
        classical_control(64, 3, seed=0, control="pca_linaer", samples=SAMPLES)
    with pytest.raises(ConfigError, match="budget is a whole number; got 0"):
        classical_control(64, 3, seed=0, budget=0)
