# SPDX-License-Identifier: Apache-2.0
"""The one bridge from torch's autograd to an engine's vector-Jacobian product."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.errors import DataError
from qiskit_kd.execution.engine import Engine, Needs

__all__ = ["run"]


_DIRECT = (torch.float32, torch.float64)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weights: Tensor, engine: Engine, model: CircuitModel
    ) -> Tensor:
        needs = Needs(features=ctx.needs_input_grad[0], weights=ctx.needs_input_grad[1])
        values, ctx.pullback = engine.vjp(
            model, features.detach().numpy(), weights.detach().numpy(), needs
        )
        return torch.from_numpy(np.ascontiguousarray(values))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        gx, gw = ctx.pullback(cotangent.numpy())
        return (
            None if gx is None else torch.from_numpy(np.ascontiguousarray(gx)),
            None if gw is None else torch.from_numpy(np.ascontiguousarray(gw)),
            None,
            None,
        )


def run(engine: Engine, model: CircuitModel, features: Tensor, weights: Tensor) -> Tensor:
    """Run `model` on `engine` as a differentiable torch operation.

    Args:
        engine: What runs the circuit.
        model: The circuit model.
        features: `(batch, num_features)`.
        weights: `(..., num_weights)`.

    Returns:
        `(..., batch, num_outputs)` in the dtype and on the device of `features`; integers count in
        the dtype of the weights, half precisions are computed in float32.

    Raises:
        DataError: If the features are no real numbers.
    """
    if features.dtype not in _DIRECT:
        if features.is_complex() or features.dtype == torch.bool:
            raise DataError(
                "features are real numbers", got=f"a tensor of {features.dtype}",
                expected="a floating-point tensor", remedy="Convert the features first.",
            )  # fmt: skip
        if not features.is_floating_point():
            return run(engine, model, features.to(weights.dtype), weights)
        return run(engine, model, features.float(), weights).to(features.dtype)
    if features.device.type != "cpu" or weights.device.type != "cpu":
        native = engine.torch_outputs(model, features, weights)
        if native is not None:
            return native
        home = features.device
        return run(engine, model, features.cpu(), weights.cpu()).to(home)
    if weights.dtype != features.dtype:
        weights = weights.to(features.dtype)
    if torch.is_grad_enabled() and (features.requires_grad or weights.requires_grad):
        return _Run.apply(features, weights, engine, model)  # type: ignore[no-any-return]
    values = engine.outputs(model, features.detach().numpy(), weights.detach().numpy())
    return torch.from_numpy(np.ascontiguousarray(values))
