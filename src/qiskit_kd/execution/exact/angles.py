# SPDX-License-Identifier: Apache-2.0
"""From parameter values to gate angles.

Almost every angle in practice is an affine function of the parameters, so angles are rows of one
matrix. A nonlinear expression (`t**2`, `sin(t)`) becomes one derived variable behind the
parameters, evaluated and differentiated by Qiskit itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit.circuit import Parameter, ParameterExpression

from qiskit_kd.errors import CircuitError

__all__ = ["AngleMap"]

Array = NDArray[np.floating]


class AngleMap:
    """Affine rows over `[parameters, derived variables, 1]`.

    Args:
        parameters: The parameters, in the order in which values will come.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = tuple(parameters)
        self._column = {p: k for k, p in enumerate(self.parameters)}
        self._derived: list[ParameterExpression] = []
        self._slopes: list[list[tuple[int, ParameterExpression | float]]] = []

    @property
    def width(self) -> int:
        """Number of variables, derived ones included, without the constant."""
        return len(self.parameters) + len(self._derived)

    def row(self, angle: Any) -> dict[int, float]:
        """`{variable: coefficient}` of an angle; key -1 is the constant term."""
        free = getattr(angle, "parameters", None)
        if not free:
            return {-1: float(angle)}
        slopes = {}
        for p in free:
            if p not in self._column:
                raise CircuitError(
                    "every circuit parameter is an input or a weight", got=f"{p.name!r}",
                    expected=", ".join(q.name for q in self.parameters) or "no parameters",
                )  # fmt: skip
            slopes[self._column[p]] = angle.gradient(p)
        if any(getattr(slope, "parameters", ()) for slope in slopes.values()):
            return {self._derive(angle, slopes): 1.0}
        row = {k: float(slope) for k, slope in slopes.items()}
        row[-1] = float(angle.bind(dict.fromkeys(free, 0.0)))
        return row

    def _derive(
        self, angle: ParameterExpression, slopes: dict[int, ParameterExpression | float]
    ) -> int:
        for k, known in enumerate(self._derived):
            if known == angle:
                return len(self.parameters) + k
        self._derived.append(angle)
        self._slopes.append(list(slopes.items()))
        return self.width - 1

    @property
    def is_affine(self) -> bool:
        """Whether there are no derived variables."""
        return not self._derived

    def variables(self, values: Array) -> Array:
        """`(parameters,)` or `(parameters, batch)` to `(width, ...)`: derived ones appended."""
        if self.is_affine:
            return values
        flat = values.reshape(len(self.parameters), -1)
        extra = np.empty((len(self._derived), flat.shape[1]), values.dtype)
        for j, angle in enumerate(self._derived):
            for b in range(flat.shape[1]):
                extra[j, b] = self._evaluate(angle, flat[:, b])
        return np.concatenate([flat, extra]).reshape(self.width, *values.shape[1:])

    def pullback(self, values: Array, gradient: Array) -> Array:
        """Gradient of the variables `(width, ...)` to gradient of the parameters."""
        count = len(self.parameters)
        if self.is_affine:
            return gradient
        flat, grad = values.reshape(count, -1), gradient.reshape(self.width, -1)
        out = grad[:count].copy()
        for j, slopes in enumerate(self._slopes):
            for k, slope in slopes:
                for b in range(flat.shape[1]):
                    out[k, b] += grad[count + j, b] * self._evaluate(slope, flat[:, b])
        return out.reshape(count, *values.shape[1:])

    def _evaluate(self, expression: Any, values: Array) -> float:
        free = getattr(expression, "parameters", ())
        if not free:
            return float(expression)
        return float(expression.bind({p: float(values[self._column[p]]) for p in free}))
