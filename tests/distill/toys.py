# SPDX-License-Identifier: Apache-2.0
"""Small networks and data for the tests of this room."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from qiskit_kd.data import Dataset
from qiskit_kd.distill import Callback, Distiller, State, Teacher, Term
from qiskit_kd.seeding import derive, stream

FEATURES, CLASSES = 6, 3


def blobs(n: int, name: str, *, spread: float = 1.0, classes: int = CLASSES) -> Dataset:
    centres = stream(0, "centres").normal(size=(classes, FEATURES))
    random = stream(0, name)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, n - classes)])
    noise = random.normal(size=(n, FEATURES))
    return Dataset(centres[labels] + spread * noise, labels, classes, name)


def initialise(module: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(derive(seed, "init"))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


def linear(seed: int = 0, *, classes: int = CLASSES, dtype: torch.dtype = torch.float32):
    return initialise(nn.Linear(FEATURES, classes), seed).to(dtype)


def mlp(seed: int = 0, *, classes: int = CLASSES, width: int = 8, dropout: float = 0.0):
    return initialise(
        nn.Sequential(
            nn.Linear(FEATURES, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(width, classes),
        ),
        seed,
    )  # fmt: skip


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class Interrupted(Exception):
    pass


class StopAt(Callback):
    """Raises at one occasion: `("step", k)` or `("epoch", k)`."""

    def __init__(self, kind: str, count: int) -> None:
        self.kind, self.count = kind, count

    def on_step_end(self, state: State) -> None:
        if self.kind == "step" and state.step == self.count:
            raise Interrupted

    def on_epoch_end(self, state: State) -> None:
        if self.kind == "epoch" and state.epoch == self.count:
            raise Interrupted


TRAIN, VALIDATION = blobs(40, "train"), blobs(30, "validation")
CE = [Term("ce")]


def fit(student, terms, train=TRAIN, validation=VALIDATION, transfer=None, **options):
    """The history of a training; a module is made a teacher, one that is needed and missing too."""
    source = options.pop("teacher", None)
    if source is None and any(term.loss.teacher for term in terms):
        source = mlp(7)
    source = Teacher.from_module(source) if isinstance(source, nn.Module) else source
    return Distiller(student, terms, teacher=source, **options).fit(train, validation, transfer)
