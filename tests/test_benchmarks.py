# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks compare does equal work; nothing is timed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from qiskit_kd import CircuitModel, ClassGroups, QuantumLayer, circuits

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("batch", [5, 100])
def test_the_step_by_hand_equals_the_layer(monkeypatch, batch):
    monkeypatch.syspath_prepend(FOLDER)
    import handwritten

    readout = ClassGroups(3, 6)
    layer = QuantumLayer(
        CircuitModel(circuits.amplitude(6), handwritten.circuit(), readout), dtype=torch.float64
    )
    random = np.random.default_rng(0)
    x = random.normal(size=(batch, 64))
    x = torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True))
    cotangent = torch.from_numpy(random.normal(size=(batch, 3)))
    net = handwritten.HandWritten(readout.matrix, np.float64)
    values, expected = handwritten.Step.apply(layer.weight, x, net), layer(x)
    torch.testing.assert_close(values, expected, atol=1e-12, rtol=0)
    slopes = [torch.autograd.grad((y * cotangent).sum(), layer.weight) for y in (values, expected)]
    torch.testing.assert_close(slopes[0], slopes[1], atol=1e-11, rtol=0)


@pytest.mark.filterwarnings("ignore")  # of a library that is no dependency of ours
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_quanvolution_of_the_peer_equals_ours(monkeypatch, dtype):
    pytest.importorskip("pennylane", reason="the peers are installed by make bench only")
    monkeypatch.syspath_prepend(FOLDER)
    import quanvolution

    errors = quanvolution.compare(dtype, 0)  # ends the run where they differ
    assert set(errors) == {"PennyLane outputs", "PennyLane gradient"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "option"),
    [("student_step.py", "--stock-samples"), ("quanvolution.py", "--stock-patches")],
)
def test_the_benchmarks_start(script, option):
    out = subprocess.run(
        [sys.executable, FOLDER / script, "--help"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert option in out.stdout
