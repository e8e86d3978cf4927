# SPDX-License-Identifier: Apache-2.0
"""What is handed to `run` is checked by every kind of backend, before anything is run or sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import RXGate
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import SparsePauliOp

from qiskit_kd.errors import BudgetError, CircuitError, DataError
from qiskit_kd.execution import compiled
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.runtime.session import open_session
from qiskit_kd.execution.schema import AnyOptions
from tests.execution.runtime.test_engine import MODEL, W, X

KINDS: dict[str, dict[str, Any]] = {
    "exact": {"kind": "exact", "shots": 8},
    "aer": {"kind": "aer", "shots": 8},
    "noisy": {"kind": "noisy", "noise": {"device": "fake_lagos"}, "shots": 8},
    "aer played as a device": {"kind": "runtime", "device": "aer"},
    "a fake device": {"kind": "runtime", "device": "fake_lagos"},
}

BAD: dict[str, Any] = {
    "nan": [[np.nan]], "inf": [[np.inf]], "-inf": {"a": [-np.inf]}, "none": [[None]],
    "complex": [[1j]], "complex array": np.array([[1 + 0j]]), "text": [["x"]],
    "object": np.array([[None, 1.0]], dtype=object), "ragged": [[1.0], [1.0, 2.0]],
    "missing": None, "another name": {"b": 1.0},
    "no row": np.zeros((0, 1)), "huge": [[10**400]],
    "one of a hundred": np.where(np.arange(100) == 71, np.nan, 0.5)[:, None],
}  # fmt: skip


def backend(kind: str, **more: Any) -> Backend:
    return Backend(kind, TypeAdapter(AnyOptions).validate_python({**KINDS[kind], **more}), "f")


def circuit(*, measured: bool = True) -> QuantumCircuit:
    found = QuantumCircuit(1)
    found.sx(0)
    found.rz(Parameter("a"), 0)
    found.sx(0)
    if measured:
        found.measure_all()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_values_are_refused_by_samplers_and_estimators(kind: str) -> None:
    where = backend(kind)
    manager = where.pass_manager()
    counted, bare = manager.run(circuit()), manager.run(circuit(measured=False))
    z = SparsePauliOp("Z").apply_layout(bare.layout)
    sampler, estimator = where.sampler(), where.estimator()
    for what, values in BAD.items():
        with pytest.raises(DataError, match="Nothing was run"):
            pytest.fail(f"{what}: {sampler.run([(counted, values)])}")
        with pytest.raises(DataError, match="Nothing was run"):
            pytest.fail(f"{what}: {estimator.run([(bare, z, values)])}")
    for shots in (0, -1, 2.5, True, "3", 10**20):
        with pytest.raises(DataError, match="a number of shots is a positive integer"):
            sampler.run([(counted, [[0.1]])], shots=shots)
    with pytest.raises(CircuitError, match="runs circuits with measurements; got no classical"):
        sampler.run([(bare, [[0.1]])])
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="coefficients of observables are real, finite"):
            estimator.run([(bare, [z.to_list()[0][0], {z.to_list()[0][0]: bad}], [[0.1]])])
    for precision in (-0.1, np.nan, np.inf, "3", 1j):
        with pytest.raises(DataError, match="a precision is a standard error"):
            estimator.run([(bare, z, [[0.1]])], precision=precision)
    with pytest.raises(DataError, match="a primitive runs a list of PUBs; got int"):
        sampler.run(3)
    with pytest.raises(DataError, match="in PUB 1"):
        sampler.run([(counted, [[0.1]]), (counted, [[np.nan]])])
    some = sampler.run([(counted, np.float32([[0.1]]), np.int64(3))]).result()[0]
    assert some.data.meas.num_shots == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gradient", ["shift", "spsa"])
def test_wrong_values_are_refused_by_engines(kind: str, gradient: str) -> None:
    found = backend(kind).engine(seed=0, gradient=gradient)
    for bad in (np.nan, np.inf, 1j, None):
        x, w = [np.array(part, dtype=type(bad) if bad == 1j else object) for part in (X, W)]
        x[0, 0] = w[0] = bad
        with pytest.raises(DataError, match=r"finite|real"):
            found.outputs(MODEL, x if bad == 1j else x.astype(float), W)
        with pytest.raises(DataError, match=r"finite|real"):
            found.outputs(MODEL, X, w if bad == 1j else w.astype(float))
    assert found.usage.jobs == 0


def test_nothing_is_written_down_for_values_that_are_refused(tmp_path: Path) -> None:
    where = backend("a fake device", journal=tmp_path / "jobs.db")
    isa = where.pass_manager().run(circuit())
    pub = SamplerPub.coerce((isa, [[np.nan]]))
    session = open_session(where.options, where.name)
    for run in (
        where.sampler().run,
        lambda pubs: session.perform("sampler", pubs, repetition=0, shots=8).results,
    ):
        with pytest.raises(DataError, match=r"values of parameters are real, finite numbers; got "
                           r"nan at \[0, 0\], in PUB 0"):  # fmt: skip
            run([pub])
    journal = Journal(tmp_path / "jobs.db")
    assert journal.jobs() == []
    journal.close()


def test_primitives_know_their_entry_and_keep_to_its_budget(tmp_path: Path) -> None:
    """Entries of one device share what they spend; one of another device has its own."""
    settings = {"journal": tmp_path / "jobs.db", "budget_seconds": 8.0, "shots": 1024}
    spender = Backend("spender", backend("a fake device", **settings).options, "f")
    isa = spender.pass_manager().run(circuit())
    spent = 0.0
    while spent < 5.0:
        spent += spender.sampler(seed=int(spent)).run([(isa, [[0.1]])]).cost.seconds
    assert spent <= 8.0
    with pytest.raises(BudgetError, match="the jobs of 'spender' stay within their budget"):
        spender.sampler(seed=99).run([(isa, np.full((20, 1), 0.1))])
    estimator = Backend("renamed", spender.options, "f").estimator(seed=1)
    bare = spender.pass_manager().run(circuit(measured=False))
    with pytest.raises(BudgetError, match="the jobs of 'renamed' stay within their budget"):
        estimator.run([(bare, SparsePauliOp("Z").apply_layout(bare.layout), np.zeros((20, 1)))])
    unused = Backend("unused", backend("aer played as a device", **settings).options, "f")
    assert unused.sampler(seed=0).run([(isa, [[0.1]])]).cost.jobs == 1
    journal = Journal(tmp_path / "jobs.db")
    assert {job.backend for job in journal.jobs()} == {"spender", "unused"}
    journal.close()


def test_a_circuit_changed_in_place_is_another_circuit(tmp_path: Path) -> None:
    """Circuits are kept by content: what was changed since is not what was measured before."""
    where = backend("aer played as a device", journal=tmp_path / "jobs.db", shots=32)
    found = QuantumCircuit(1, 1)
    found.rx(0.0, 0)
    found.measure(0, 0)
    sampler = where.sampler(seed=0)
    assert sampler.run([found]).result()[0].data.c.get_counts() == {"0": 32}
    found.data[0] = found.data[0].replace(operation=RXGate(np.pi))
    assert sampler.run([found]).result()[0].data.c.get_counts() == {"1": 32}
    found.data.insert(0, found.data[0])
    assert sampler.run([found]).result()[0].data.c.get_counts() == {"0": 32}
    assert sampler.session.counts["sent"] == 3


def test_the_digest_of_a_circuit_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    digest = compiled.circuit_digest

    def counted(circuit: QuantumCircuit) -> str:
        calls.append(len(circuit.data))
        return digest(circuit)

    monkeypatch.setattr(compiled, "circuit_digest", counted)
    found = backend("a fake device", tiles=2, shots=8).engine(seed=0)
    found.outputs(MODEL, X, W)
    first = len(calls)
    assert first == 1  # for the session, and for what plays the device
    for step in range(3):
        found.outputs(MODEL, X, W + step)
    assert len(calls) == first
