# SPDX-License-Identifier: Apache-2.0
"""A made-up study with the shape of a real one: 6 students and a teacher, 4 variants, 10 seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qiskit_kd.experiment.result import Axis
from qiskit_kd.seeding import stream

CE, KL = {"loss": "ce"}, {"loss": "kl"}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"terms": [CE]},
    "distilled": {"terms": [CE, KL], "teacher": "teacher"},
    "shuffled": {"terms": [CE, KL], "teacher": "teacher", "placebo": "uniform"},
    "label_smoothing": {"terms": [{"loss": "label_smoothing"}]},
}
STUDENTS = {
    # parameters, accuracy alone, what distillation, shuffled teacher, label smoothing add
    "linear": (195, 0.58, 0.004, -0.01, 0.0),
    "equal_size": (74, 0.70, 0.02, -0.02, 0.004),
    "hybrid": (74, 0.66, 0.012, -0.03, -0.002),
    "fully_quantum": (74, 0.655, -0.05, -0.09, -0.06),
    "fully_quantum_learnable": (75, 0.753, 0.034, -0.012, 0.006),
    "separable": (74, 0.55, 0.018, -0.02, 0.0),
}


@dataclass
class FakeResult:
    """Has the attributes of `StudyResult`."""

    rows: list[dict[str, Any]]
    name: str = "c2q-fake"
    command: str = "qkd run c2q-fake --out runs/fake"
    fingerprint: str = "3f7a" * 16
    config: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, Axis] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    spent: dict[str, dict[str, float | None]] = field(default_factory=dict)
    estimate: dict[str, Any] | None = None

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        """Every training against the baseline."""
        base = self.config.get("baseline", "plain")
        found = dict.fromkeys((row["student"], row["variant"]) for row in self.rows)
        return [{"student": s, "variant": v, "baseline": base} for s, v in found if v != base]


def make(
    *, seeds: int = 10, classes: int = 3, students: tuple[str, ...] = tuple(STUDENTS),
    variants: tuple[str, ...] = tuple(VARIANTS), name: str = "c2q-fake",
) -> FakeResult:  # fmt: skip
    """A result; the same arguments give the same numbers in every process."""
    rows = []
    for seed in range(seeds):
        rows.append(_row("teacher", "plain", seed, 1203, 0.93, classes))
        for student in students:
            parameters, alone, *gains = STUDENTS[student]
            for variant, gain in zip(VARIANTS, (0.0, *gains), strict=True):
                if variant in variants:
                    rows.append(_row(student, variant, seed, parameters, alone + gain, classes))
    result = FakeResult(rows, name)
    result.config = {
        "name": name, "data": {"name": "extended_xor", "num_train": 400, "num_test": 600},
        "teachers": {"teacher": {"kind": "mlp", "options": {"hidden": [16, 8]}, "sees": "all"}},
        "training": {"epochs": 60, "batch_size": 64, "learning_rate": 0.05, "patience": 10},
        "temperature": [1, 2, 4, 8], "backend": "exact", "seeds": list(range(seeds)),
        "variants": {name: VARIANTS[name] for name in variants},
    }  # fmt: skip
    result.environment = {"python": "3.11.7", "qiskit": "2.6.2", "torch": "2.14.1"}
    return result


def _row(
    student: str, variant: str, seed: int, parameters: int, level: float, classes: int
) -> dict[str, Any]:
    common = stream(seed, "fake", student)
    own = stream(seed, "fake", student, variant)
    accuracy = float(np.clip(level + 0.02 * common.normal() + 0.012 * own.normal(), 0.05, 0.99))
    length = int(own.integers(40, 61))
    epoch = np.arange(1, length + 1)
    rise = 1 - np.exp(-epoch / 9)
    curve = 1 / classes + (accuracy - 1 / classes) * rise + 0.008 * own.normal(size=length)
    off = (1 - accuracy) / (classes - 1)
    distribution = np.full((classes, classes), off) + np.eye(classes) * (accuracy - off)
    distribution = distribution * np.exp(0.2 * own.normal(size=(classes, classes)))
    distribution /= distribution.sum(axis=1, keepdims=True)
    options: dict[str, Any] = {"backend": "exact", "gradient": "adjoint"}
    if variant in ("distilled", "shuffled"):
        options["temperature"] = [1, 2, 4, 4, 8][int(own.integers(5))]
    if student.startswith("fully_quantum"):
        options["sharpness"] = "learnable" if student.endswith("learnable") else "fixed"
    quantum = student.startswith("fully") or student in ("hybrid", "separable")
    terms = ("ce", "kl") if variant in ("distilled", "shuffled") else ("ce",)
    curves = {
        "epoch": epoch.tolist(),
        "validation/accuracy": curve.tolist(),
        "validation/loss": (1.1 * np.exp(-epoch / 12) + 0.5).tolist(),
    }
    for slot, term in enumerate(terms):
        noise = np.exp(0.2 * own.normal(size=length))
        curves[f"train/{term}"] = (np.exp(-epoch / 12) + 0.4).tolist()
        curves[f"grad/{term}"] = ((1 + slot) * 0.3 * np.exp(-epoch / 25) * noise).tolist()
    return {
        "key": f"{student}-{variant}-{seed}", "experiment": "c2q-fake", "student": student,
        "variant": variant, "seed": seed, "parameters": parameters, "options": options,
        "validation": {"accuracy": accuracy + 0.01, "macro_f1": accuracy, "nll": 0.6},
        "test": {
            "accuracy": accuracy, "macro_f1": accuracy - 0.008, "nll": 1.4 - accuracy,
            "ece": 0.06 + 0.02 * float(own.random()),
        },
        "curves": curves, "distribution": distribution.tolist(),
        "extra": {"circuit": {"qubits": 6, "depth": 33, "two_qubit_gates": 20}} if quantum else {},
    }  # fmt: skip


def tiny(
    alone: list[float], distilled: list[float], shuffled: list[float] | None = None
) -> FakeResult:
    """One student with given accuracies per seed."""
    common: dict[str, Any] = {
        "student": "tiny", "parameters": 74, "options": {}, "curves": {}, "distribution": None,
        "extra": {},
    }  # fmt: skip
    groups = {"plain": alone, "distilled": distilled, "shuffled": shuffled or []}
    rows = [
        {**common, "variant": variant, "seed": seed, "validation": {"accuracy": number},
         "test": {"accuracy": number, "macro_f1": number}}
        for variant, numbers in groups.items()
        for seed, number in enumerate(numbers)
    ]  # fmt: skip
    return FakeResult(rows, config={"headline": "tiny", "variants": VARIANTS})
