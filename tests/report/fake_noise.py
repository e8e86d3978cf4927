# SPDX-License-Identifier: Apache-2.0
"""A made-up study under noise: scale x device x encoding, two students, five trainings, shots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from qiskit_kd.experiment.result import Axis

from .fake_result import FakeResult, _row

KL = {"loss": "kl", "weight": 1.0, "options": {}}
VARIANTS: dict[str, dict[str, Any]] = {
    "noise_free": {"terms": [{"loss": "ce"}]},
    "noisy": {"terms": [{"loss": "ce"}], "backend": "device"},
    "from_quantum": {"terms": [{"loss": "ce"}, KL], "teacher": "quantum", "backend": "device"},
    "from_classical": {"terms": [{"loss": "ce"}, KL], "teacher": "classical", "backend": "device"},
    "shuffled": {"terms": [{"loss": "ce"}, KL], "teacher": "classical", "placebo": "shuffled",
                 "backend": "device"},
}  # fmt: skip
STUDENTS: dict[str, tuple[str, ...]] = {
    "sharp": tuple(VARIANTS), "hybrid": ("noise_free", "noisy"),
}  # fmt: skip
EFFECTS: dict[str, Mapping[float, float]] = {
    # Gain over `noisy` at each scale; `noise_free` and it are the same where there is no noise.
    "noise_free": {0: 0.0, 1: -0.06, 2: -0.3},
    "noisy": {0: 0.0, 1: 0.0, 2: 0.0},
    "from_quantum": {0: 0.05, 1: 0.05, 2: 0.001},
    "from_classical": {0: 0.06, 1: 0.06, 2: 0.04},
    "shuffled": {0: -0.05, 1: -0.053, 2: 0.001},
}
LOST = {0: 0.0, 0.25: 0.005, 0.5: 0.01, 1: 0.02, 2: 0.1}
BACKENDS = {
    "exact": ("exact", None, 0.08), "aer": ("aer", None, 0.08), "device": ("noisy", None, 0.0),
    "aer_device": ("noisy", 4096, 0.009),
}  # fmt: skip
DEVICES = {"torino": 0, "marrakesh": 40}
GATES = {"amplitude": 190, "angle": 40, "amplitude_mps": 50}


def make(
    *, seeds: int = 5, scales: Sequence[float] = (0, 1, 2),
    devices: Sequence[str] = ("torino", "marrakesh"),
    encodings: Sequence[str] = ("amplitude", "angle"),
    students: Mapping[str, Sequence[str]] | None = None,
    effects: Mapping[str, Mapping[float, float]] | None = None,
) -> FakeResult:  # fmt: skip
    """A study whose variants gain exactly what they should, give or take a hair per seed."""
    students, effects = students or STUDENTS, effects or EFFECTS
    values = {"scale": tuple(scales), "device": tuple(devices), "encoding": tuple(encodings)}
    titles = {"scale": "noise scale", "device": "device", "encoding": "encoding"}
    points = [dict(zip(values, found, strict=True)) for found in product(*values.values())]
    rows = [row for point in points for row in _rows(point, seeds, students, effects)]
    config = {
        "name": "noise-fake", "title": "Which training holds?",
        "teachers": {"classical": {"kind": "mlp", "sees": "all"},
                     "quantum": {"kind": "fully_quantum", "sees": "all"}},
        "students": {name: {"kind": "hybrid"} for name in students},
        "variants": {name: VARIANTS[name] for name in effects}, "baseline": "noisy",
        "headline": "sharp", "seeds": list(range(seeds)), "metric": "accuracy", "backend": "exact",
        "backends": {
            "device": {"base": "noisy", "noise": {"device": "fake_torino"}, "scale": 1.0},
            "aer_device": {"base": "noisy", "noise": {"device": "fake_torino"}, "shots": 4096},
        },
        "evaluation": {"backend": "device", "shots": [64, 1024, 16384], "teacher": "classical"},
        "axes": {
            "scale": {"title": "noise scale",
                      "values": {str(s): {"backends.device.scale": float(s)} for s in scales}},
            "device": {"title": "device", "values": {
                d: {"backends.device.noise.device": f"fake_{d}"} for d in devices}},
            "encoding": {"title": "encoding", "values": {
                e: {f"students.{s}.options.encoding": e for s in students} for e in encodings}},
        },
    }  # fmt: skip
    axes = {name: Axis(titles[name], found) for name, found in values.items()}
    return FakeResult(rows, "noise-fake", "qkd run noise-fake", config=config, axes=axes)


def _rows(
    point: Mapping[str, Any], seeds: int, students: Mapping[str, Sequence[str]],
    effects: Mapping[str, Mapping[float, float]],
) -> list[dict[str, Any]]:  # fmt: skip
    rows = []
    for seed in range(seeds):
        for teacher in ("teacher:classical", "teacher:quantum"):
            row = _row(teacher, "noisy", seed, 1203, 0.95, 3)
            rows.append({**row, "point": point, "key": f"{teacher}-{seed}"})
        for student, variants in students.items():
            for slot, variant in enumerate(name for name in variants if name in effects):
                scale = point["scale"]
                same = variant in ("noise_free", "noisy") and not scale
                hair = 0.0 if same or variant == "noisy" else 0.001 * ((seed * (slot + 1)) % 7 - 3)
                accuracy = 0.8 - LOST[scale] + effects[variant][scale] + 0.01 * seed + hair
                row = _row(student, variant, seed, 74, 0.8, 3)
                row |= {
                    "point": point,
                    "key": f"{student}-{variant}-{seed}-{sorted(point.items())}",
                }
                row["options"] |= {"backend": VARIANTS[variant].get("backend", "exact")}
                kl = 1.2 - accuracy
                row["test"] |= {"accuracy": accuracy, "macro_f1": accuracy, "kl": kl}
                row["validation"] |= {"accuracy": accuracy, "nll": kl}
                row["shots"] = [
                    {"shots": shots, "accuracy": accuracy - loss, "macro_f1": 0.5, "nll": 1.0,
                     "kl": kl + loss}
                    for shots, loss in ((64, 0.2), (1024, 0.02), (16384, 0.001))
                ]  # fmt: skip
                gates = GATES[point["encoding"]] + DEVICES[point["device"]]
                row["circuits"] = [
                    {"device": f"fake_{point['device']}", "qubits": 6, "gates": 5 * gates,
                     "two_qubit_gates": gates, "depth": 3 * gates, "two_qubit_depth": gates - 9,
                     "seconds": gates * 1e-7}
                ]  # fmt: skip
                if seed == 0 and scale == 1:
                    row["backends"] = [
                        {"backend": name, "kind": kind, "shots": shots, "samples": 48,
                         "accuracy": accuracy - distance, "macro_f1": 0.5, "nll": 1.0,
                         "kl": kl + distance + 1e-7 * (name == "aer"), "distance": distance}
                        for name, (kind, shots, distance) in BACKENDS.items()
                    ]  # fmt: skip
                rows.append(row)
    return rows
