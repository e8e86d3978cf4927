# SPDX-License-Identifier: Apache-2.0
"""The benchmark compares equal work; its peers are timed elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qiskit_kd import CircuitModel, ClassGroups, circuits
from qiskit_kd.execution.noisy import NoisyEngine

from .conftest import device

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.mark.slow
def test_it_starts() -> None:
    out = subprocess.run(
        [sys.executable, FOLDER / "noisy_step.py", "--help"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "--aer-circuits" in out.stdout


@pytest.mark.filterwarnings("ignore")
def test_aers_circuits_are_the_engines(monkeypatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    import noisy_step

    model = CircuitModel(
        circuits.amplitude(3), circuits.hardware_efficient(3, 2), ClassGroups(3, 3)
    )
    noise = device("torino", readout=False)
    engine = NoisyEngine(noise)
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 8)), rng.normal(size=model.num_weights)
    aer = noisy_step.Aer(engine, model, noise)
    rows = np.repeat(w[None], 2, axis=0)
    np.testing.assert_allclose(aer.outputs(x, rows), engine.outputs(model, x, w), atol=1e-6)
    # Twelve rotations with two shifts each, four CRX with four, and the circuit itself.
    assert aer.circuits_per_sample == 1 + 12 * 2 + 4 * 4
