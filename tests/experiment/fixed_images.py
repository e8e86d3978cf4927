# SPDX-License-Identifier: Apache-2.0
"""Tiny images whose pool, validation and test set do not depend on the seed, like Fashion-MNIST's.

And an experiment on images with two teachers, placebos, axes and everything else switched on.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from qiskit_kd.data import Dataset, Split, datasets
from qiskit_kd.seeding import stream

SHAPE = (1, 4, 4)
CLASSES = 3

IMAGES = """\
name: images
data: {kind: fixed_images, options: {train: 12}}
teachers:
  soft: {kind: convolution, shared: true}
  hybrid: {kind: quanvolution, shared: true, training: {epochs: 1}}
students:
  classical: {kind: convolution}
  quantum: {kind: quanvolution, variants: [plain]}
variants:
  plain: {terms: [{loss: ce}]}
  both:
    temperature: [1, 4]
    terms:
      - {loss: ce}
      - {loss: kl, teacher: soft}
      - loss: feature_mse
        teacher: hybrid
        layers: {student: activation, teacher: activation}
  untrained:
    teacher: hybrid
    placebo: untrained
    terms:
      - {loss: ce}
      - {loss: feature_mse, layers: {student: activation, teacher: activation}}
  shuffled:
    terms:
      - {loss: ce}
      - {loss: kl, teacher: soft, placebo: shuffled}
axes:
  images:
    title: labelled images
    values: {12: {data.options.train: 12}, 24: {data.options.train: 24, training.epochs: 3}}
  sees:
    values:
      same: {teachers.soft.sees: same, teachers.hybrid.sees: same}
      all:
        teachers.soft: {sees: all, training: {epochs: 2}}
        teachers.hybrid: {sees: all}
headline: classical
seeds: 2
training: {epochs: 2, batch_size: 6, dtype: float32}
evaluation:
  robustness: {noise: [0.1], rotation: [10]}
  feature_maps: {layer: activation, images: 4}
"""


@cache
def _parts() -> tuple[Dataset, Dataset, Dataset]:
    rng = stream(0, "fixed images")
    means = rng.random((CLASSES, 16))

    def part(size: int) -> Dataset:
        labels = np.arange(size) % CLASSES
        features = np.clip(means[labels] + 0.2 * rng.normal(size=(size, 16)), 0, 1)
        return Dataset(features, labels, CLASSES, "fixed_images", SHAPE)

    return part(60), part(15), part(18)


def fixed_images(
    *, seed: int, train: int = 12, calls: list[tuple[int, int]] | None = None
) -> Split:
    """A split of which the seed chooses the training samples alone."""
    if calls is not None:
        calls.append((seed, train))
    pool, validation, test = _parts()
    rows = stream(seed, "train").permutation(CLASSES * (len(pool) // CLASSES))[:train]
    chosen = Dataset(pool.features[rows], pool.labels[rows], CLASSES, pool.name, SHAPE)
    return Split(chosen, validation, test, pool=pool)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has `fixed_images` among the data sets for one test."""
    monkeypatch.setitem(datasets._parts, "fixed_images", fixed_images)
