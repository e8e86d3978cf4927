# SPDX-License-Identifier: Apache-2.0
"""What engines that compute with torch share: its modes, its threads, what a gradient counts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.errors import ExecutionError
from qiskit_kd.execution.engine import Array, Needs, Pullback, Usage, check_run, not_negative

T = TypeVar("T")

Vjp = Callable[[Any, CircuitModel, Array, Array, Needs], tuple[Array, Pullback]]


def in_own_modes(function: Callable[..., T], *arguments: Any) -> T:
    """A call with torch as it is without the caller's autocast and inference mode.

    Autocast would round what an engine computes, and tensors made in inference mode, once kept,
    can never be used outside it.
    """
    if not (torch.is_inference_mode_enabled() or torch.is_autocast_enabled("cpu")):
        return function(*arguments)
    with torch.inference_mode(mode=False), torch.autocast("cpu", enabled=False):
        return function(*arguments)


def own_vjp(vjp: Vjp) -> Vjp:
    """An engine's `vjp` `in_own_modes`, with class probabilities from 0 on.

    Its pullback is run in them, too, and counts a gradient for every vector of weights.
    """

    @functools.wraps(vjp)
    def wrapped(
        self: Any, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        if torch.is_inference_mode_enabled() or torch.is_autocast_enabled("cpu"):
            return in_own_modes(wrapped, self, model, features, weights, needs)
        features, weights = check_run(model, features, weights)
        outputs, back = vjp(self, model, features, weights, needs)

        def pullback(cotangent: Array) -> tuple[Array | None, Array | None]:
            self.usage.backward += math.prod(weights.shape[:-1])
            if torch.is_inference_mode_enabled() or torch.is_autocast_enabled("cpu"):
                return in_own_modes(back, cotangent)  # not itself: a circle would keep its arrays
            return back(cotangent)

        return not_negative(model, outputs, pullback if needs.any else back, needs)

    return wrapped


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, and as before afterwards.

    Sums keep their order, processes do not fight for cores, and for small products a second thread
    costs up to twenty times its gain.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def counted(outputs: Tensor, usage: Usage) -> Tensor:
    """Outputs whose gradient counts as one evaluation in `usage`."""

    def count(cotangent: Tensor) -> Tensor:
        usage.backward += 1
        return cotangent

    if outputs.requires_grad:
        outputs.register_hook(count)  # type: ignore[no-untyped-call]
    return outputs


class Mapped(torch.autograd.Function):
    """A NumPy function of rows and its pullback as a torch operation; angle maps are those.

    `Mapped.apply(values, function, pullback, dtype)` maps `values` `(..., k)`, and the result has
    `dtype`. Its gradient has none of its own: the function would have to be affine.
    """

    @staticmethod
    def forward(  # noqa: D102
        values: Tensor,
        function: Callable[[Array], Array],
        pullback: Callable[[Array, Array], Array],  # noqa: ARG004
        dtype: torch.dtype,
    ) -> Tensor:
        result = np.ascontiguousarray(function(values.numpy(force=True)))
        return torch.from_numpy(result).to(device=values.device, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: D102
        del output
        ctx.save_for_backward(inputs[0])
        ctx.pullback = inputs[2]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: D102
        return _Slope.apply(*ctx.saved_tensors, slope, ctx.pullback), None, None, None


class _Slope(torch.autograd.Function):
    """The gradient of `Mapped`."""

    @staticmethod
    def forward(values: Tensor, slope: Tensor, pullback: Callable[[Array, Array], Array]) -> Tensor:
        array = values.numpy(force=True)
        gradient = pullback(array, slope.double().numpy(force=True))
        found = torch.from_numpy(np.ascontiguousarray(gradient, array.dtype))
        return found.to(values.device)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del ctx, inputs, output

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, ...]:
        del ctx, cotangents
        raise ExecutionError(
            "second derivatives go through angles that are multiples of their features",
            got="an angle map that is a function of its own",
            expected="an encoding with a scale",
            remedy="Use the encodings amplitude, angle, dense_angle or reuploading.",
        )
