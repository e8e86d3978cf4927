# SPDX-License-Identifier: Apache-2.0
"""A tiny study that trains on one backend and is judged on another, and its backend file.

Two qubits and a device of rates: a step takes milliseconds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.plan import Task, plan

RATES = (
    "{one_qubit: 0.004, two_qubit: 0.04, readout: [0.02, 0.05], t1_us: 100, t2_us: 80, "
    "two_qubit_ns: 300}"
)

BACKENDS = f"""\
schema: 1
backends:
  exact: {{kind: exact}}
  exact_shots: {{kind: exact, shots: 100, seed: 5}}
  aer: {{kind: aer}}
  noisy: {{kind: noisy, noise: {{rates: {RATES}}}}}
  lagos: {{kind: noisy, noise: {{device: fake_lagos}}}}
"""

STUDY = """\
name: noisy
data:
  kind: digits
  options: {classes: [3, 5, 8], train: 12, validation: 15, test: 21, components: 2}
teachers:
  soft: {kind: mlp}
  other: {kind: linear}
students:
  quantum: {kind: fully_quantum, options: {encoding: angle, num_qubits: 2, layers: 1}}
  linear: {kind: linear, variants: [plain]}
backends:
  device: {base: noisy, scale: 2.0}
variants:
  plain: {terms: [{loss: ce}]}
  noisy: {backend: device, terms: [{loss: ce}]}
  tuned:
    terms: [{loss: ce}]
    fine_tune: {backend: device, training: {epochs: 1, learning_rate: 0.001}}
  taught: {teacher: soft, temperature: 2, terms: [{loss: ce}, {loss: kl}]}
seeds: 2
training: {epochs: 2, batch_size: 6}
evaluation:
  backend: device
  shots: [64, 1000]
  side_by_side: {backends: [exact, aer, device], samples: 5}
  teacher: other
"""


@pytest.fixture
def backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The backend file in force for one test."""
    path = tmp_path / "backends.yaml"
    path.write_text(BACKENDS)
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(path))
    return path


def study(*overrides: str) -> list[Task]:
    """Tasks of the study."""
    return plan(parse(STUDY, overrides))


def by_label(*overrides: str) -> dict[str, Task]:
    """The same by their labels."""
    return {task.label: task for task in study(*overrides)}
