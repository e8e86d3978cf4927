# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from qiskit_kd.execution.engine import Usage
from qiskit_kd.execution.torch_use import counted, one_thread, own_modes


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_is_given_back_after_an_error_too() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == 2


def test_one_gradient_is_counted() -> None:
    weights, usage = torch.ones(2).requires_grad_(), Usage()
    values = counted(weights * 3, usage)
    assert usage.backward == 0
    values.sum().backward()
    assert usage.backward == 1
    assert torch.equal(weights.grad, torch.full((2,), 3.0))
    assert not counted(torch.ones(1), usage).requires_grad  # and nothing where none is asked for


def test_engines_have_modes_of_their_own() -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), own_modes():
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
        made = torch.ones(2, 2) @ torch.ones(2, 2)
    assert made.dtype == torch.float32
    assert not made.is_inference()
    with torch.no_grad(), own_modes():
        assert not torch.is_grad_enabled()
