# SPDX-License-Identifier: Apache-2.0
"""A tiny study that fine-tunes and is judged on a device, played by this machine; two qubits."""

from __future__ import annotations

from pathlib import Path

import pytest

BACKENDS = """\
schema: 1
backends:
  exact: {kind: exact}
  aer: {kind: runtime, device: aer, seed: 0, shots: 32}
  lagos: {kind: runtime, device: fake_lagos, seed: 0, shots: 32}
  noisy: {kind: noisy, noise: {device: fake_lagos}}
  ibm: {kind: runtime, device: ibm_fez}
"""

STUDY = """\
name: device
data:
  kind: digits
  options: {classes: [3, 5, 8], train: 12, validation: 15, test: 21, components: 2}
teacher: {kind: linear}
students:
  quantum: {kind: fully_quantum, options: {encoding: angle, num_qubits: 2, layers: 1}}
backends:
  device: {base: aer, budget_seconds: 600, usd_per_second: 1.5}
variants:
  plain: {terms: [{loss: ce}]}
  tuned:
    terms: [{loss: ce}]
    fine_tune: {backend: device, training: {epochs: 2, steps_per_epoch: 2, learning_rate: 0.1}}
seeds: 2
training: {epochs: 1, batch_size: 6, gradient_every: 0}
evaluation: {backend: device}
"""


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The backend file in force for one test, in its working directory."""
    path = tmp_path / "backends.yaml"
    path.write_text(BACKENDS)
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "device.yaml").write_text(STUDY)
    return tmp_path


def unreachable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have every device that is elsewhere fail the test that contacts it."""
    from qiskit_kd.execution.runtime import device as module

    asked: list[str] = []

    def refuse(options):
        asked.append(options.device)
        raise AssertionError(f"{options.device} was contacted")

    monkeypatch.setattr(module, "_remote", refuse)
    return asked
