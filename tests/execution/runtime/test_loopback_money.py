# SPDX-License-Identifier: Apache-2.0
"""What one epoch costs on a device of 133 qubits, as the service counts it, not as we do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit.transpiler import generate_preset_pass_manager

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import angle
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.execution.runtime.engine import RuntimeEngine
from qiskit_kd.execution.schema import RuntimeOptions
from tests.loopback import LoopbackService

from .study import forget

MODEL = CircuitModel(angle(6), hardware_efficient(6, 1), ClassGroups(4, 6))
WEIGHTS = Needs(features=False, weights=True)
SAMPLES, STEPS, SHOTS = 104, 2, 64
RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(SAMPLES, 6)), RNG.normal(size=MODEL.num_weights)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget()


def engine(service: LoopbackService, folder: Path, **settings: Any) -> RuntimeEngine:
    keys = service.runtime_options(journal=folder / "jobs.db", budget_seconds=600.0, **settings)
    options = RuntimeOptions.model_validate({"kind": "runtime", "shots": SHOTS, **keys})
    found = Backend("ibm", options, "a file").engine(seed=1)
    assert isinstance(found, RuntimeEngine)
    return found


def epoch(found: RuntimeEngine) -> list[np.ndarray]:
    """All samples once, in a few steps of SPSA."""
    values = []
    for step, rows in enumerate(np.split(X, STEPS)):
        values.append(found.vjp(MODEL, rows, W + step, WEIGHTS)[0])
        assert found.usage.transpilations == 1, "only the first step transpiles"
    return values


def busy_seconds(service: LoopbackService) -> float:
    """Executions times the time of one, without what a job costs beside them."""
    return service.seconds - 2.0 * service.submitted


@pytest.mark.slow
def test_an_epoch_with_and_without_copies(loopback_torino: LoopbackService, tmp_path: Path) -> None:
    service, seconds, values = loopback_torino, {}, {}
    for tiles in (1, "auto"):
        before, jobs = busy_seconds(service), (service.submitted, service.pubs)
        service.set_quota(None)
        found = engine(service, tmp_path / str(tiles), tiles=tiles)
        values[tiles] = epoch(found)
        seconds[tiles] = busy_seconds(service) - before
        assert (service.submitted - jobs[0], service.pubs - jobs[1]) == (STEPS, STEPS)
        assert found.usage.executions * 250e-6 < seconds[tiles] < found.usage.executions * 270e-6
        spent = found.source.session.spent()
        assert spent == pytest.approx(seconds[tiles] + 2.0 * STEPS)
    assert service.most_runs() == 1
    assert seconds[1] / seconds["auto"] >= 12
    for step, rows in enumerate(np.split(X, STEPS)):
        exact = ExactEngine().outputs(MODEL, rows, W + step)
        for tiles in values:
            # 52 rows of 64 shots: the mean of the deviations is known far better than one of them.
            off = values[tiles][step] - exact
            assert np.abs(off).max() < 6 * 0.5 / np.sqrt(SHOTS)
            assert np.abs(off.mean(0)).max() < 6 * 0.5 / np.sqrt(SHOTS * len(rows))
    stock = _stock_seconds(service, found)
    assert stock / seconds["auto"] >= 1000


def _stock_seconds(service: LoopbackService, found: RuntimeEngine) -> float:
    """Seconds of an epoch of qiskit-machine-learning's network, with what it takes by itself.

    Parameter shift and 4,096 shots: counted for one sample, as every other costs the same.
    """
    from qiskit_ibm_runtime.executor_sampler import Sampler
    from qiskit_machine_learning.gradients import ParamShiftSamplerGradient
    from qiskit_machine_learning.neural_networks import SamplerQNN

    backend = found.source.session.device.backend
    sampler = Sampler(mode=backend)
    manager = generate_preset_pass_manager(1, backend=backend, seed_transpiler=1)
    circuit = MODEL.circuit
    inputs = [p for p in circuit.parameters if p.name.startswith("input")]
    network = SamplerQNN(
        circuit=circuit,
        input_params=inputs,
        pass_manager=manager,
        weight_params=[p for p in circuit.parameters if p not in inputs],
        sampler=sampler,
        gradient=ParamShiftSamplerGradient(sampler, pass_manager=manager),
    )
    before = busy_seconds(service)
    network.forward(X[:1], W)
    network.backward(X[:1], W)
    return SAMPLES * (busy_seconds(service) - before)
