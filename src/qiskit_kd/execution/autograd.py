# SPDX-License-Identifier: Apache-2.0
"""The one bridge from torch's autograd to an engine's vector-Jacobian product.

Engines compute in numpy, so torch's transformations end here: `torch.compile` leaves its graph,
`vmap` becomes rows or a loop, second derivatives are those of the engine's torch form, and what
cannot be (forward mode, export) is refused instead of answered by a constant.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.errors import DataError, ExecutionError
from qiskit_kd.execution.engine import Array, Engine, Needs, Pullback

P = ParamSpec("P")
T = TypeVar("T")

_DIRECT = (torch.float32, torch.float64)
_NEEDS = {(x, w): Needs(features=x, weights=w) for x in (False, True) for w in (False, True)}


def uncompiled(function: Callable[P, T]) -> Callable[P, T]:
    """A function at which a graph of `torch.compile` ends, with all that it calls.

    As `torch.compiler.disable`, which would import torch's compiler, seconds for every process.
    """
    outside = torch._disable_dynamo(function)  # type: ignore[attr-defined]  # noqa: SLF001

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_dynamo_compiling():
            return outside(*args, **kwargs)
        return function(*args, **kwargs)

    return call


def refuse_export() -> None:
    """Refuse to be recorded: a graph would keep the outputs of one batch as a constant.

    Raises:
        ExecutionError: Under `torch.jit.trace`, `torch.export` and the ONNX exporters.
    """
    recorder = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY)  # noqa: SLF001
    traced = torch._C._is_tracing()  # noqa: SLF001
    if recorder is not None or traced or torch.compiler.is_exporting():
        raise ExecutionError(
            "a quantum layer runs on an engine, which no exported graph can hold",
            got="jit.trace, torch.export, make_fx or an ONNX export",
            expected="a call of the module itself",
            remedy="Save state_dict(), build the module anew where it is loaded, and export its "
            "classical parts alone.",
        )


@dataclass(eq=False, slots=True)
class _Call:
    """One evaluation of a model: what runs it, and how its gradient comes back."""

    engine: Engine
    model: CircuitModel
    needs: Needs
    pullback: Pullback | None = None
    parts: _Call | list[_Call] | None = field(default=None)
    """What a vmap made of it: one call with the axis inside, or one for each entry of the axis."""

    def again(self) -> _Call:
        """The same evaluation of other values."""
        return _Call(self.engine, self.model, self.needs)


_transformed: Callable[[], bool] = torch._C._are_functorch_transforms_active  # noqa: SLF001


def _arrays(*tensors: Tensor) -> list[Array]:
    arrays: list[Array] = []
    for tensor in tensors:
        try:
            arrays.append(tensor.numpy(force=True))
        except (RuntimeError, TypeError) as error:
            raise ExecutionError(
                "an engine computes with numbers",
                got=f"a {type(tensor).__name__} without any ({str(error).splitlines()[0]})",
                remedy="Leave out is_grads_batched and vectorize=True, or take torch.func.vmap and "
                "torch.func.jacrev; fake tensors have no outputs.",
            ) from error
    return arrays


class _Run(torch.autograd.Function):
    """Features `(batch, num_features)` and weights `(..., num_weights)` to outputs."""

    @staticmethod
    def forward(features: Tensor, weights: Tensor, call: _Call) -> Tensor:
        x, w = _arrays(features, weights)
        if call.needs.any:
            values, call.pullback = call.engine.vjp(call.model, x, w, call.needs)
        else:
            values = call.engine.outputs(call.model, x, w)
        return torch.from_numpy(np.ascontiguousarray(values))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, _Call], output: Tensor) -> None:
        del output
        # The pullback holds what it needs; saved tensors let torch see that they were changed.
        ctx.save_for_backward(*inputs[:2])
        ctx.call = inputs[2]

    @staticmethod
    @uncompiled
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        call: _Call = ctx.call
        needs, saved = call.needs, ctx.saved_tensors
        if torch.is_grad_enabled() or _transformed():
            slopes = _apply(_Pull, cotangent, *saved, call)
        else:
            slopes = _Pull.forward(cotangent, saved[0], saved[1], call)
        of_features = slopes[0] if needs.features else None
        return of_features, slopes[-1] if needs.weights else None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], features: Tensor, weights: Tensor, call: _Call
    ) -> tuple[Tensor, int]:
        x, w = _front(features, in_dims[0]), _front(weights, in_dims[1])
        if in_dims[0] is None and not call.needs.features:
            call.parts = call.again()  # engines take several rows of weights
            return _apply(_Run, x, w, call.parts), 0
        if in_dims[1] is None and not call.needs.any:
            values = _apply(_Run, x.flatten(0, 1), w, call.again())
            return values.unflatten(-2, x.shape[:2]), values.ndim - 2
        call.parts = [call.again() for _ in range(info.batch_size)]
        rows = [
            _apply(_Run, _entry(x, in_dims[0], k), _entry(w, in_dims[1], k), part)
            for k, part in enumerate(call.parts)
        ]
        return torch.stack(rows), 0

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        del ctx, tangents
        raise ExecutionError(
            "circuits are differentiated backwards",
            got="forward-mode automatic differentiation",
            remedy="Use backward(), torch.autograd.grad, torch.func.vjp or torch.func.jacrev.",
        )


class _Pull(torch.autograd.Function):
    """The gradient of a run as a function of the cotangent, the features and the weights."""

    @staticmethod
    def forward(
        cotangent: Tensor, features: Tensor, weights: Tensor, call: _Call
    ) -> tuple[Tensor, ...]:
        del features, weights
        assert call.pullback is not None
        x, w = call.pullback(*_arrays(cotangent))
        if x is None or w is None:
            one = np.ascontiguousarray(w if x is None else x)
            return (torch.from_numpy(one),)
        return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(np.ascontiguousarray(w))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        del output
        ctx.save_for_backward(*inputs[:3])
        ctx.call = inputs[3]

    @staticmethod
    @uncompiled
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        cotangent, features, weights = ctx.saved_tensors
        form = call.engine.torch_form(call.model)
        if form is None:
            raise ExecutionError(
                f"second derivatives on {call.engine.name!r} with this circuit are not available",
                got="a gradient of a gradient (create_graph=True)",
                expected="an exact engine and angles that are affine in the parameters",
                remedy="Use backend='exact', or a loss without gradients in it.",
            )
        wanted = (call.needs.features, call.needs.weights)
        given = [t for t, want in zip((features, weights), wanted, strict=True) if want]

        def outputs(*free: Tensor) -> Tensor:
            place = iter(free)
            pair = (
                next(place) if want else t
                for t, want in zip((features, weights), wanted, strict=True)
            )
            return form(*pair)

        def slopes(cotangent: Tensor, *free: Tensor) -> tuple[Tensor, ...]:
            return tuple(torch.func.vjp(outputs, *free)[1](cotangent))

        second = iter(torch.func.vjp(slopes, cotangent, *given)[1](cotangents))
        return (next(second), *(next(second) if want else None for want in wanted), None)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        cotangent: Tensor,
        features: Tensor,
        weights: Tensor,
        call: _Call,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        c, x, w = map(_front, (cotangent, features, weights), in_dims)
        mapped = in_dims[1] is not None or in_dims[2] is not None
        if mapped and isinstance(call.parts, _Call):
            if in_dims[0] is None:
                c = c.expand(info.batch_size, *c.shape)
            found = _apply(_Pull, c, x, w, call.parts)
            return found, (0,) * len(found)
        calls = call.parts if mapped and isinstance(call.parts, list) else [call] * info.batch_size
        rows = [
            _apply(_Pull, *map(_entry, (c, x, w), in_dims, (k, k, k)), part)
            for k, part in enumerate(calls)
        ]
        found = tuple(torch.stack(column) for column in zip(*rows, strict=True))
        return found, (0,) * len(found)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return _Run.jvp(ctx, *tangents)


class _RunDirectly(_Run):
    """The same without `setup_context`, for which torch reads signatures: longer than a circuit."""

    setup_context = staticmethod(torch.autograd.Function.setup_context)

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, features: Tensor, weights: Tensor, call: _Call
    ) -> Tensor:
        ctx.save_for_backward(features, weights)
        ctx.call = call
        return _Run.forward(features, weights, call)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """`function.apply`; transforms of `torch.func` want the context apart from the values."""
    if function is _Run and not _transformed():
        function = _RunDirectly
    return function.apply(*arguments)


def _front(tensor: Tensor, axis: int | None) -> Tensor:
    """The mapped axis first; a tensor that is not mapped as it is."""
    return tensor if axis is None else tensor.movedim(axis, 0)


def _entry(tensor: Tensor, axis: int | None, k: int) -> Tensor:
    return tensor if axis is None else tensor[k]


@uncompiled
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
        DataError: If the features are no dense tensor of real numbers.
        ExecutionError: If torch asks to record the operation instead of running it, for a
            derivative in forward mode, or for a second one that the engine does not have.
    """
    refuse_export()
    if features.layout != torch.strided or features.is_quantized:
        raise DataError(
            "features are a dense tensor",
            got=f"a tensor of layout {features.layout}",
            expected="torch.strided",
            remedy="Call to_dense() (or dequantize()) on it first.",
        )
    if features.dtype not in _DIRECT:
        if features.is_complex() or features.dtype == torch.bool:
            raise DataError(
                "features are real numbers",
                got=f"a tensor of {features.dtype}",
                expected="a floating-point tensor",
                remedy="Convert the features first.",
            )
        if not features.is_floating_point():
            kind = weights.dtype if weights.dtype in _DIRECT else torch.float32
            return run(engine, model, features.to(kind), weights)
        return run(engine, model, features.float(), weights).to(features.dtype)
    if weights.dtype != features.dtype:
        weights = weights.to(features.dtype)
    places = features.device.type, weights.device.type
    if places != ("cpu", "cpu"):
        return _elsewhere(engine, model, features, weights)
    grad = torch.is_grad_enabled()
    if not torch.is_inference_mode_enabled():
        # What was made under inference mode could not be saved for a gradient.
        if features.is_inference():
            features = features.clone()
        if weights.is_inference():
            weights = weights.clone()
    needs = _NEEDS[grad and features.requires_grad, grad and weights.requires_grad]
    direct = _Run if _transformed() else _RunDirectly
    values: Tensor = direct.apply(features, weights, _Call(engine, model, needs))
    return values


def _elsewhere(engine: Engine, model: CircuitModel, features: Tensor, weights: Tensor) -> Tensor:
    """A run of tensors that do not all lie in the processor's memory."""
    if "meta" in (features.device.type, weights.device.type):
        shape = (*weights.shape[:-1], len(features), model.num_outputs)
        return features.new_empty(shape, device="meta")
    native = engine.torch_outputs(model, features, weights)
    if native is not None:
        return native
    return run(engine, model, features.cpu(), weights.cpu()).to(features.device)
