# SPDX-License-Identifier: Apache-2.0
"""A made-up study on a device: one student, five trainings, one of them fine-tuned there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .fake_result import FakeResult, _row

CE, KL = {"loss": "ce"}, {"loss": "kl"}
TAUGHT: dict[str, Any] = {"terms": [CE, KL], "teacher": "teacher", "placebo": "none"}
STAGE = {"backend": "device", "training": {"epochs": 3, "steps_per_epoch": 5}}
VARIANTS: dict[str, dict[str, Any]] = {
    "noise_aware": {**TAUGHT, "backend": "model", "fine_tune": None},
    "fine_tuned": {**TAUGHT, "backend": "model", "fine_tune": STAGE},
    "simulated": {**TAUGHT, "backend": None, "fine_tune": None},
    "labels": {"terms": [CE], "backend": "model", "fine_tune": None},
    "shuffled": {**TAUGHT, "placebo": "shuffled", "backend": "model", "fine_tune": None},
}
LEVELS = {
    # KL on the validation data, KL and accuracy on the test data
    "noise_aware": (0.5, 0.6, 0.8), "fine_tuned": (0.4, 0.55, 0.82), "simulated": (0.7, 0.8, 0.801),
    "labels": (0.6, 0.7, 0.79), "shuffled": (0.9, 0.9, 0.6),
}  # fmt: skip
UNDONE = (-0.02, -0.03, 0.01)
"""What undoing readout errors adds to each of them."""
TILES = [
    {"qubits": [3, 4, 5], "error": 0.25, "ratio": 1.0},
    {"qubits": [9, 8, 7], "error": 0.5, "ratio": 2.0},
]
CIRCUIT = {
    "layout": [[3, 4, 5], [9, 8, 7]], "calibrated": "2025-02-26T15:26:08-05:00", "depth": 175,
    "readout": [[[0.01, 0.03]] * 3, [[0.02, 0.06]] * 3], "duration": 7.18e-6,
    "two_qubit_gates": 50, "tiles": TILES,
    "left_out": [{"qubits": [0, 1, 2], "error": 1.0, "ratio": 4.0}],
}  # fmt: skip
SECONDS = 3.0
"""Of every job."""
START = 1_795_533_970.0
"""2026-11-24 15:26:10 UTC."""


def make(
    *, seeds: int = 5, levels: Mapping[str, tuple[float, float, float]] | None = None,
    device: str = "fake_torino", usd_per_second: float | None = None, kept: bool = True,
) -> FakeResult:  # fmt: skip
    """A study whose variants differ by exactly what they should, give or take a hair per seed.

    Args:
        seeds: How many.
        levels: Mean metrics, see `LEVELS`.
        device: Name of the device.
        usd_per_second: Price of a second.
        kept: Whether rows say where fine-tuning began and which epoch was kept.
    """
    levels = levels or LEVELS
    rows = [_row("teacher", "noise_aware", seed, 1203, 0.95, 3) for seed in range(seeds)]
    jobs: list[dict[str, Any]] = []
    for slot, (variant, level) in enumerate(levels.items()):
        for seed in range(seeds):
            hair = 0.001 * ((seed * (slot + 1)) % 5 - 2)
            rows.append(_student(variant, seed, [x + hair + 0.02 * seed for x in level]))
            row, count = rows[-1], 4 if variant == "fine_tuned" else 2
            row["devices"] = [
                {"backend": "device", "device": device, "calibrated": CIRCUIT["calibrated"],
                 "circuits": [CIRCUIT],
                 "usage": {"executions": 100 * count, "pubs": count, "jobs": count,
                           "backward": count - 2, "qpu_seconds": SECONDS * count}}
            ]  # fmt: skip
            if variant == "fine_tuned":
                row["fine_tuning"] = _stage(seed, kept)
            jobs += [_job(len(jobs) + k, device, usd_per_second) for k in range(count)]
    result = FakeResult(rows, "device-fake", "qkd run device-fake", jobs=jobs)
    result.config = {
        "name": "device-fake", "title": "Does it help there?", "headline": "sharp",
        "teachers": {"teacher": {"kind": "mlp", "sees": "all"}},
        "students": {"sharp": {"kind": "fully_quantum"}},
        "variants": {name: VARIANTS[name] for name in levels}, "baseline": "noise_aware",
        "seeds": list(range(seeds)), "metric": "loss", "backend": "exact",
        "backends": {
            "device": {"base": "fake_device", "device": device, "shots": 512},
            "model": {"base": "noisy", "noise": {"device": "fake_torino"}},
        },
        "evaluation": {"backend": "device", "teacher": "teacher"},
    }  # fmt: skip
    seconds = sum(job["seconds"] for job in jobs)
    result.spent = {
        "device": {"jobs": len(jobs), "executions": 100 * len(jobs), "seconds": seconds,
                   "usd": None, "budget_seconds": 600.0}
    }  # fmt: skip
    return result


def estimated(result: FakeResult, factor: float) -> dict[str, Any]:
    """An estimate of the study that is `factor` times what was counted."""
    kinds = [
        {"student": "sharp", "variant": name, "where": "", "tasks": len(result.config["seeds"]),
         "seconds": factor * SECONDS * len(result.config["seeds"]) * (
             4 if name == "fine_tuned" else 2)}
        for name in result.config["variants"]
    ]  # fmt: skip
    total = sum(kind["seconds"] for kind in kinds)
    return {"kinds": kinds, "total": {"seconds": total}, "may_end_early": False}


def _student(variant: str, seed: int, level: list[float]) -> dict[str, Any]:
    row = _row("sharp", variant, seed, 75, 0.8, 3)
    parts = ("validation", "kl"), ("test", "kl"), ("test", "accuracy")
    raw: dict[str, dict[str, float]] = {"validation": {}, "test": {}}
    for (part, metric), value, change in zip(parts, level, UNDONE, strict=True):
        row[part][metric] = value
        raw[part][metric] = value - change * (1 + 0.01 * seed)
    row["options"] |= {"backend": VARIANTS[variant]["backend"] or "exact", "gradient": "auto"}
    return row | {"raw": raw}


def _stage(seed: int, kept: bool) -> dict[str, Any]:
    losses = [0.5 - 0.01 * seed, 0.45, 0.47]
    curves = {"epoch": [1.0, 2.0, 3.0], "validation/loss": losses, "validation/accuracy": losses}
    if not kept:
        return {"curves": curves}
    # Of seed 0 the start is the best.
    start = 0.4 if seed == 0 else 0.6
    return {
        "curves": curves, "start": {"validation/loss": start, "validation/accuracy": 0.8},
        "best_epoch": 0 if seed == 0 else 2,
    }  # fmt: skip


def _job(number: int, device: str, usd_per_second: float | None) -> dict[str, Any]:
    return {
        "backend": "device", "device": device, "job_id": f"local-0123456789abcdef{number:03d}",
        "status": "done", "shots": 512, "executions": 100, "pubs": 1, "seconds": SECONDS,
        "usd": None if usd_per_second is None else usd_per_second * SECONDS,
        "estimate": 2.5, "created": START + number, "sent": START + number + 0.4,
        "finished": START + number + 3, "error": "",
    }  # fmt: skip
