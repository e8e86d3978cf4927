# SPDX-License-Identifier: Apache-2.0
"""A made-up study with axes: two students, two teachers, controls, images to draw, robustness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from qiskit_kd.experiment.result import Axis
from qiskit_kd.seeding import stream

from .fake_result import FakeResult, _row

TEACHERS = {"teacher:hybrid": (5923, 0.012), "teacher:classical": (5905, 0.02)}
STUDENTS = {
    "convolution": (5905, ("plain", "soft", "features", "both", "untrained", "shuffled")),
    "quanvolution": (5923, ("plain",)),
}
TERM = {"loss": "kl", "weight": 1.0, "options": {}, "teacher": "classical"}
MAPS = {
    "loss": "feature_mse", "weight": 1.0, "options": {}, "teacher": "hybrid",
    "layers": {"student": "activation", "teacher": "activation"},
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"terms": [{"loss": "ce", "weight": 1.0}], "teacher": "none"},
    "soft": {"terms": [{"loss": "ce", "weight": 1.0}, TERM], "temperature": [1.0, 4.0]},
    "features": {"terms": [{"loss": "ce", "weight": 1.0}, MAPS]},
    "both": {"terms": [{"loss": "ce", "weight": 1.0}, TERM, MAPS]},
    "untrained": {"terms": [{"loss": "ce"}, {**MAPS, "placebo": "untrained"}]},
    "shuffled": {"terms": [{"loss": "ce"}, TERM], "placebo": "shuffled"},
}
TITLES = {"train": "labelled samples K", "sees": "teacher data"}
GAINS = {
    # What a variant adds at the smallest and at the largest K, where the teacher saw the same
    # samples, and where it saw all.
    "soft": {"same": (-0.004, 0.002), "all": (0.035, 0.003)},
    "features": {"same": (-0.03, -0.004), "all": (0.006, 0.001)},
    "both": {"same": (-0.02, 0.0), "all": (0.03, 0.004)},
    "untrained": {"same": (-0.035, -0.01), "all": (-0.035, -0.01)},
    "shuffled": {"same": (-0.03, -0.012), "all": (-0.05, -0.015)},
}


def make(
    *, seeds: int = 6, train: Iterable[Any] = (50, 100, 250, 500, 1000, 5000),
    sees: Iterable[str] = ("same", "all"), students: Mapping[str, Any] | None = None,
    maps: bool = True, robust: bool = True,
) -> FakeResult:  # fmt: skip
    """A study; the same arguments give the same numbers in every process."""
    axes = {"train": Axis(TITLES["train"], tuple(train)),
            "sees": Axis(TITLES["sees"], tuple(sees))}  # fmt: skip
    axes = {name: axis for name, axis in axes.items() if axis.values}
    points: list[dict[str, Any]] = [{}]
    for name, axis in axes.items():
        points = [{**point, name: value} for point in points for value in axis.values]
    rows = [
        _at(point, row, maps=maps and row["seed"] == 0, robust=robust)
        for point in points
        for row in _rows(point, seeds, axes, STUDENTS if students is None else students)
    ]
    config = {
        "name": "q2c-fake", "title": "Does a quantum convolution teach a classical one?",
        "teachers": {
            "hybrid": {"kind": "quanvolution", "sees": "same", "shared": True},
            "classical": {"kind": "convolution", "sees": "same", "shared": True},
        },
        "students": {name: {"kind": name} for name in students or STUDENTS},
        "variants": VARIANTS, "headline": "convolution", "baseline": "plain",
        "seeds": list(range(seeds)), "training": {"epochs": 30},
        "axes": {
            "train": {"title": TITLES["train"], "key": "data.options.train", "values": [*train]},
            "sees": {
                "title": TITLES["sees"],
                "values": {s: {"teachers.hybrid.sees": s, "teachers.classical.sees": s}
                           for s in sees},
            },
        },
        "evaluation": {"robustness": {"noise": [0.1, 0.2], "rotation": [10, 20]}},
    }  # fmt: skip
    return FakeResult(
        rows, "q2c-fake", "qkd run q2c-fake --out runs/fake", config=config, axes=axes
    )


def _rows(
    point: Mapping[str, Any], seeds: int, axes: Mapping[str, Axis], students: Mapping[str, Any]
) -> list[dict[str, Any]]:
    numbers = axes["train"].values if "train" in axes else (1000,)
    k = point.get("train", 1000)
    share = numbers.index(k) / max(len(numbers) - 1, 1)
    sees = point.get("sees", "all")
    alone = 0.62 + 0.23 * share
    rows = []
    for seed in range(seeds):
        for teacher, (parameters, above) in TEACHERS.items():
            level = 0.88 + above if sees == "all" else alone + above
            rows.append(_row(teacher, "plain", seed, parameters, level, 10))
        for student, (parameters, variants) in students.items():
            for variant in variants:
                ends = GAINS.get(variant, {}).get(sees, (0.0, 0.0))
                level = alone + ends[0] + (ends[1] - ends[0]) * share
                level += 0.006 if student == "quanvolution" else 0.0
                row = _row(student, variant, seed, parameters, level, 10)
                # What no axis changes is one task, with one result, at both points.
                row["key"] = f"{student}-{variant}-{seed}-{k}"
                row["key"] += f"-{sees}" if variant not in ("plain", "untrained") else ""
                noise = stream(seed, "axes", student, row["key"]).normal()
                row["test"]["accuracy"] += 0.004 * float(noise)
                rows.append(row)
    return rows


def _at(
    point: dict[str, Any], row: dict[str, Any], *, maps: bool, robust: bool
) -> dict[str, Any]:  # fmt: skip
    row["point"] = point
    if robust:
        loss = 0.7 if row["variant"] in ("soft", "both") else 1.0
        row["robustness"] = [
            {"kind": kind, "level": level,
             "accuracy": max(row["test"]["accuracy"] - loss * drop, 0.1), "macro_f1": 0.5,
             "nll": 1.0}
            for kind, levels in (("noise", {0.1: 0.08, 0.2: 0.22, 0.3: 0.38}),
                                 ("rotation", {10: 0.05, 20: 0.17}))
            for level, drop in levels.items()
        ]  # fmt: skip
    if maps:
        row["feature_maps"] = feature_maps(row["student"], row["variant"])
    return row


def feature_maps(student: str, variant: str, *, size: int = 28) -> dict[str, Any]:
    """Four pictures and three maps of each, which differ a little between networks."""
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    shapes = [
        np.hypot(x, y) < 0.3, (abs(x) < 0.18) & (y > -0.35), abs(x) + abs(y) < 0.35,
        (abs(y) < 0.12) | (abs(x) < 0.08),
    ]  # fmt: skip
    images = np.stack([s * (0.6 + 0.8 * (x + 0.5) * (y + 0.5)) for s in shapes])[:, None]
    pooled = images.reshape(4, size // 2, 2, size // 2, 2)
    near = student.startswith("teacher") or variant in ("features", "both")
    own = stream(0, "maps", student, variant)
    if not near:
        filters = own.normal(size=(3, 2, 2))
    else:
        filters = stream(0, "maps").normal(size=(3, 2, 2)) + 0.05 * own.normal(size=(3, 2, 2))
    maps = np.maximum(np.einsum("nhiwj,cij->nchw", pooled, filters), 0)
    return {
        "layer": "activation", "rows": [3, 17, 40, 86], "images": np.round(images, 4).tolist(),
        "maps": np.round(maps, 4).tolist(),
    }  # fmt: skip
