# SPDX-License-Identifier: Apache-2.0
"""What sharpness and width cost in shots: the numbers of the guide's section on them.

    python benchmarks/shots_needed.py

Sharpness: a student trained on digits by exact simulation, its cross-entropy when sampled. Width:
untrained students on 4 to 12 qubits, all of which or two of which are measured.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import torch

import qiskit_kd as qkd
from qiskit_kd.circuits import DeadWeightsWarning
from qiskit_kd.distill.metrics import metrics
from qiskit_kd.nn import shots_needed

SHOTS = (64, 256, 1024, 4096)


def out(*cells: object) -> None:
    """One line of a table."""
    sys.stdout.write("  ".join(str(cell).rjust(11) for cell in cells) + "\n")
    sys.stdout.flush()


def sharpness() -> None:
    """Cross-entropy on training data, exact and sampled, for students of different sharpness."""
    split = qkd.datasets["digits"](seed=0, classes=[3, 5, 8], train=90, transfer=0)
    out("sharpness", "needs", "exact", *(f"{n} shots" for n in SHOTS))
    for mode, first in (("fixed", 1.0), ("fixed", 4.0), ("learnable", 1.0)):
        student = qkd.students["fully_quantum"](
            64, 3, seed=0, sharpness=mode, initial_sharpness=first, dtype="float64"
        )
        terms = [qkd.Term("ce")]
        qkd.Distiller(student, terms, epochs=150, batch_size=30, learning_rate=0.05).fit(
            split.train, split.validation
        )
        x, y = torch.as_tensor(split.train.features), split.train.labels
        p = student.circuit(x).detach().numpy()
        losses = [loss(p, y, student.sharpness)]
        draw = np.random.default_rng(0)
        for n in SHOTS:
            drawn = (draw.multinomial(n, p / p.sum(axis=1, keepdims=True)) + 0.5) / (n + 1.5)
            losses.append(loss(drawn, y, student.sharpness))
        needed = shots_needed(student, split.train.features)
        out(f"{student.sharpness:.1f} {mode[:5]}", f"{needed:,}", *(f"{v:.4f}" for v in losses))


def loss(p: np.ndarray, labels: np.ndarray, sharp: float) -> float:
    """Mean negative log-likelihood of the tempered class probabilities."""
    return float(metrics(sharp * np.log(p + 1e-12), labels)["nll"])


def width() -> None:
    """Spread of log p over samples, and the shots it takes to see it: medians of five students."""
    out("encoding", "qubits", "sd, all", "needs", "sd, two", "needs")
    for encoding in ("angle", "amplitude"):
        for qubits in (4, 6, 8, 10, 12):
            features = qubits if encoding == "angle" else 2**qubits
            x = np.random.default_rng(0).normal(size=(64, features))
            cells: list[str] = []
            for measured in (None, [qubits - 2, qubits - 1]):
                found = []
                for seed in range(5):
                    student = qkd.students["fully_quantum"](
                        features, 3, seed=seed, encoding=encoding, num_qubits=qubits, layers=2,
                        qubits=measured, dtype="float64",
                    )  # fmt: skip
                    logits = student(torch.as_tensor(x)).detach().numpy()
                    found.append((logits.std(axis=0).mean(), shots_needed(student, x)))
                spread, needed = np.median(found, axis=0)
                cells += [f"{spread:.4f}", f"{needed:,.0f}"]
            out(encoding, qubits, *cells)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeadWeightsWarning)  # of the qubits that are not measured
    sharpness()
    sys.stdout.write("\n")
    width()
