# SPDX-License-Identifier: Apache-2.0
"""Every option of every kind of backend changes what is run, or is refused, or said to do nothing.

The loop is over the options' own fields: a new one fails here until it is accounted for.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from qiskit.circuit.random import random_circuit

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import angle
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import QiskitKDError
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.schema import AnyOptions

MODEL = CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(2, 3))
RNG = np.random.default_rng(0)
X, W, UP = RNG.normal(size=(5, 3)), RNG.normal(size=MODEL.num_weights), RNG.normal(size=(5, 2))
NOISE = {"rates": {"two_qubit": 0.05, "readout": 0.05, "t1_us": 20.0, "t2_us": 20.0}}
HARD = random_circuit(5, 6, max_operands=2, seed=3)
"""What transpilers do not all agree about."""

ENTRIES: dict[str, dict[str, Any]] = {
    "exact": {"kind": "exact"},
    "exact, shots": {"kind": "exact", "shots": 64},
    "exact, spsa": {"kind": "exact", "gradient": "spsa"},
    "aer": {"kind": "aer"},
    "aer, shots": {"kind": "aer", "shots": 64},
    "noisy": {"kind": "noisy", "noise": NOISE},
    "noisy, shots": {"kind": "noisy", "noise": NOISE, "shots": 64},
    "aer as a device": {"kind": "runtime", "device": "aer", "shots": 64},
    "a fake device": {"kind": "runtime", "device": "fake_torino", "shots": 64},
    "a fake with fractional gates": {"kind": "runtime", "device": "fake_fractional", "shots": 64},
}

OTHER: dict[str, Any] = {
    "shots": 32, "gradient": "shift", "perturbations": 7, "epsilon": 0.7, "seed": 9,
    "optimization_level": 0, "seed_transpiler": 11, "mitigation": "tensored",
    "sampled_by": "qiskit_aer", "scale": 0.5, "readout": False, "idle": True, "account": "work",
    "instance": "mine", "channel": "ibm_cloud", "url": "https://cloud.test", "mode": "batch",
    "proxies": {"urls": {"https": "http://proxy.test"}}, "rep_delay": 4e-4, "tags": ["mine"],
    "dynamical_decoupling": "XY4", "twirling": {"gates": True}, "resilience_level": 2,
    "max_execution_time": 9, "fractional_gates": True, "tiles": 2, "usd_per_second": 2.0,
}  # fmt: skip

ELSEWHERE = {
    "kind", "device", "noise",  # what it is
    "description",  # for people
    "budget_seconds", "journal",  # tests of their own: test_journal, test_spending
    "cache_gib",  # memory, not values
}  # fmt: skip


def observed(settings: dict[str, Any]) -> dict[str, Any]:
    """Values, gradients and costs, with everything drawn from fixed seeds."""
    options: Any = TypeAdapter(AnyOptions).validate_python({"seed": 5, **settings})
    backend = Backend("b", options, "f")
    engine = backend.engine()
    made = backend.pass_manager().run(HARD)
    values, pull = engine.vjp(MODEL, X, W, Needs(features=False, weights=True))
    facts: dict[str, Any] = {"values": values, "gradient": pull(UP.astype(values.dtype))[1],
                             "usage": {k: v for k, v in engine.usage.as_dict().items()
                                       if k != "transpilations"}}  # fmt: skip
    facts["circuit"] = [(i.name, *(made.find_bit(q).index for q in i.qubits)) for i in made.data]
    session = getattr(getattr(engine, "source", None), "session", None)
    if session is not None:
        facts["usd"] = [job.usd for job in session.journal.jobs()]
    return facts


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    drawn = ("values", "gradient")
    return all(np.array_equal(one[k], other[k]) if k in drawn else one[k] == other[k] for k in one)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:readout mitigation amplifies shot noise")
@pytest.mark.parametrize("name", ENTRIES)
def test_every_option_does_something_or_is_said_to_do_nothing(name: str) -> None:
    entry = ENTRIES[name]
    options: Any = TypeAdapter(AnyOptions).validate_python({"seed": 5, **entry})
    fields = set(type(options).model_fields) - ELSEWHERE
    assert fields <= set(OTHER)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "options of the backend")
        before = observed(entry)
        for field in sorted(fields):
            changed = {**entry, field: OTHER[field]}
            if field == "gradient" and "shots" not in entry and name not in ("exact", "noisy"):
                changed[field] = "spsa" if name == "aer" else "auto"  # another rule than here
            try:
                found = TypeAdapter(AnyOptions).validate_python({"seed": 5, **changed})
                idle = field in found.without_effect()
                after = observed(changed)
            except (QiskitKDError, ValidationError):
                continue  # refused
            assert same(before, after) == idle, (field, idle)


def test_what_is_not_done_is_said(tmp_path: Path) -> None:
    options: Any = TypeAdapter(AnyOptions).validate_python(
        {**ENTRIES["a fake device"], "twirling": {"gates": True}, "mode": "batch"}
    )
    backend = Backend("mine", options, "f")
    assert backend.shown()["without_effect"] == "mode, twirling"
    assert "without_effect" not in backend.describe()
    for make in (backend.engine, backend.sampler, backend.estimator):
        with pytest.warns(UserWarning, match="options of the backend 'mine' that change nothing on "
                          "it: mode, twirling"):  # fmt: skip
            make()
    real: Any = TypeAdapter(AnyOptions).validate_python({"kind": "runtime", "device": "ibm_fez",
                                                         "mode": "batch"})  # fmt: skip
    assert real.without_effect() == []
