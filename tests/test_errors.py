# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle

import pytest

from qiskit_kd import errors
from qiskit_kd.errors import ConfigError, QiskitKDError, UnknownNameError

ALL = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, QiskitKDError)
]


def test_message_has_rule_got_expected_and_remedy_in_that_order():
    error = ConfigError("shots are positive", got="0", expected="1 or more", remedy="Raise shots.")
    assert str(error) == "shots are positive; got 0; expected 1 or more. Raise shots."
    assert str(ConfigError("rule")) == "rule"
    assert str(ConfigError("rule", got="x")) == "rule; got x"


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_ours_and_survives_a_process_boundary(kind):
    error = kind("rule", got="a", expected="b", remedy="Do c.")
    assert isinstance(error, QiskitKDError)
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is kind
    assert str(twin) == str(error) == "rule; got a; expected b. Do c."


def test_what_an_error_knows_survives_a_process_boundary_too():
    busy = errors.TransientError("too many requests", retry_after=2.5)
    assert pickle.loads(pickle.dumps(busy)).retry_after == 2.5
    assert errors.TransientError("down").retry_after is None
    failed = errors.JobError("the job failed", job_id="d1")
    assert pickle.loads(pickle.dumps(failed)).job_id == "d1"
    assert errors.JobError("a job failed").job_id is None


def test_money_is_no_failure_of_a_device():
    assert not issubclass(errors.BudgetError, errors.ExecutionError)
    for name in ("Account", "Device", "Quota", "Transient", "Job", "UncertainJob"):
        assert issubclass(getattr(errors, f"{name}Error"), errors.ExecutionError)


def test_builtin_bases_let_ordinary_handlers_catch_them():
    assert issubclass(errors.CircuitError, ValueError)
    assert issubclass(errors.DataError, ValueError)
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.DistillError, ValueError)
    assert issubclass(errors.ExecutionError, RuntimeError)
    assert issubclass(errors.BudgetError, RuntimeError)
    assert issubclass(errors.ResourceError, MemoryError)
    assert issubclass(errors.StorageError, RuntimeError)


def test_unknown_names_suggest_the_nearest_and_list_all():
    error = UnknownNameError.of("ansatz", "real_amplitude", ["su4", "real_amplitudes"])
    assert str(error) == (
        "unknown ansatz; got 'real_amplitude'. did you mean 'real_amplitudes'? "
        "known: real_amplitudes, su4"
    )
    assert "known: none" in str(UnknownNameError.of("loss", "x", []))
    assert "did you mean" not in str(UnknownNameError.of("loss", "qqqq", ["kl"]))


def test_the_tree_in_the_docstring_is_the_tree():
    assert len(ALL) == 16
    for kind in ALL:
        assert kind.__name__ in errors.__doc__
