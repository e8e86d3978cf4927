# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from qiskit_kd.execution.engine import Usage
from qiskit_kd.execution.torch_use import one_thread, side_by_side


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


def test_rows_take_the_leading_axes_of_the_weights_and_one_gradient_is_counted() -> None:
    weights = torch.arange(12.0).reshape(2, 3, 2).requires_grad_()
    rows = [row.sum() * torch.ones(5, 4) for row in weights.reshape(-1, 2)]
    usage = Usage()
    values = side_by_side(rows, weights, usage)
    assert values.shape == (2, 3, 5, 4)
    assert torch.equal(values[1, 2, 0], torch.full((4,), 21.0))
    assert usage.backward == 0
    values.sum().backward()
    assert usage.backward == 1
    assert torch.equal(weights.grad, torch.full((2, 3, 2), 20.0))


def test_nothing_is_counted_where_no_gradient_is_asked_for() -> None:
    values = side_by_side([torch.ones(1, 1)], torch.ones(2), Usage())
    assert values.shape == (1, 1)
    assert not values.requires_grad
