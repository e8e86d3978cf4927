# SPDX-License-Identifier: Apache-2.0
"""A journal of version 0.1, byte for byte: what was paid for then is not paid for again."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import qpy

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import angle
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups, Observables
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.serialization import unpack_values
from qiskit_kd.execution.schema import RuntimeOptions

# What that version said of it, and the keys of its jobs.
TILED = "1ae293ff6f03ccc464bdd794d26f61c89f0097fe8f5715be222632cfe6dae97f"
PLAIN = "942a524b6128d4c5e02bab8f730cb36f902be7f6f1e43cfd9845302a7383bdac"
SECONDS = {TILED: 2.09080896, PLAIN: 2.36119808}
CASES: dict[str, tuple[Any, dict[str, Any], Any, Any]] = {
    "tiled": (
        ClassGroups(2, 2),
        {"tiles": "auto", "mitigation": "tensored"},
        [[0.9780098955470039, 0.021990104452996123], [0.9060959562457009, 0.09390404375429907]],
        [
            -2.7755575615628914e-16,
            1.3877787807814457e-16,
            -2.7755575615628914e-16,
            0.0,
            1.3877787807814457e-16,
        ],
    ),
    "plain": (
        Observables(["ZI", "XX"]),
        {},
        [[0.6000000000000001, -0.4], [0.6000000000000001, 0.1499999999999999]],
        [
            0.18750000000000022,
            0.12499999999999963,
            0.18750000000000022,
            -0.18750000000000022,
            0.12499999999999963,
        ],
    ),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "jobs.db"
    content = Path(__file__).with_name("jobs-of-schema-1.db.xz").read_bytes()
    found.write_bytes(lzma.decompress(content))
    return found


def test_it_is_read(path: Path) -> None:
    journal = Journal(path)
    jobs = {job.key: job for job in journal.jobs()}
    assert [job.kind for job in jobs.values()] == ["sampler", "estimator"]
    assert {key: job.seconds for key, job in jobs.items()} == pytest.approx(SECONDS)
    for key, job in jobs.items():
        assert (job.tag, job.state, job.device) == (key[:32], "done", "fake_lagos")
        assert job.job_id == f"local-{job.tag}"
        assert (job.usd, job.error) == (pytest.approx(1.6 * job.seconds), "")
        (attempt,) = journal.attempts(key)
        assert (attempt.status, attempt.job_id) == ("done", job.job_id)
        assert journal.result(key) is not None
        (values,) = unpack_values(journal.inputs(key)[0])
        assert values.ndim >= 2
    assert journal.spent("fake_lagos") == pytest.approx(sum(SECONDS.values()))
    journal.close()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.skipif(
    qpy.QPY_VERSION < 18, reason="Qiskit 2.5 cannot write the circuits of these keys"
)
@pytest.mark.filterwarnings("ignore:readout mitigation amplifies")
def test_a_run_goes_on_with_it(path: Path, name: str) -> None:
    readout, settings, values, gradient = CASES[name]
    settings = {"kind": "runtime", "device": "fake_lagos", "shots": 40, "seed": 3, **settings}
    options = RuntimeOptions.model_validate({**settings, "journal": path, "budget_seconds": 5.0})
    engine = Backend(name, options, "f").engine(seed=7)
    model = CircuitModel(angle(2), hardware_efficient(2, 1), readout)
    x, w = np.array([[0.3, -0.2], [0.1, 0.7]]), np.linspace(0.1, 1.0, model.num_weights)
    found, pull = engine.vjp(model, x, w, Needs(features=False, weights=True))
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(pull(np.ones_like(found))[1], gradient)
    assert engine.source.session.counts == {"sent": 0, "reused": 1, "adopted": 0, "twins": 0}
    assert engine.usage.transpilations == 0
