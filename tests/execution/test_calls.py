# SPDX-License-Identifier: Apache-2.0
"""How much Python a warm training step runs through: calls of this package's own functions."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

import qiskit_kd
from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import encodings
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.nn.layer import QuantumLayer

ROOM = qiskit_kd.__path__[0]
MOST = {"exact": 33, "noisy": 50, "aer_shots": 100, "fake_device": 150}


@pytest.mark.parametrize("backend", MOST)
def test_a_step_stays_short(backend: str) -> None:
    model = CircuitModel(encodings["amplitude"](4), hardware_efficient(4, 2), ClassGroups(3, 4))
    layer = QuantumLayer(model, backend)
    x = torch.tensor(np.random.default_rng(0).normal(size=(8, 16)), dtype=torch.float32)
    names: list[str] = []

    def step() -> None:
        layer(x).square().sum().backward()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ROOM):
            names.append(frame.f_code.co_qualname)

    for _ in range(3):
        step()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        step()
    finally:
        sys.setprofile(before)
    assert len(names) <= MOST[backend], names
