# SPDX-License-Identifier: Apache-2.0
"""Angles of a normal form as affine rows over `[parameters, derived variables, 1]`.

A curved expression becomes one derived variable behind the parameters, so that everything after it
is linear; `qiskit_kd.execution.angles` evaluates and differentiates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit.circuit import Parameter, ParameterExpression

from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.angles import AngleMap, real

__all__ = ["AngleRows"]

Array = NDArray[np.floating]


class AngleRows:
    """Collects rows while a circuit is lowered; afterwards maps values to variables and back.

    Args:
        parameters: The parameters, in the order in which values will come.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = tuple(parameters)
        self._column = {p: k for k, p in enumerate(self.parameters)}
        self._derived: list[ParameterExpression] = []

    @property
    def width(self) -> int:
        """Number of variables, derived ones included, without the constant."""
        return len(self.parameters) + len(self._derived)

    @property
    def is_affine(self) -> bool:
        """Whether there are no derived variables."""
        return not self._derived

    def row(self, angle: Any) -> dict[int, float]:
        """`{variable: coefficient}` of an angle; key -1 is the constant term.

        Raises:
            CircuitError: If the angle depends on a parameter that is none of ours.
        """
        free = getattr(angle, "parameters", None)
        if not free:
            return {-1: real(angle)}
        slopes = {}
        for p in free:
            if p not in self._column:
                raise CircuitError(
                    "every circuit parameter is an input or a weight", got=f"{p.name!r}",
                    expected=", ".join(q.name for q in self.parameters) or "no parameters",
                )  # fmt: skip
            slopes[self._column[p]] = angle.gradient(p)
        if any(getattr(slope, "parameters", ()) for slope in slopes.values()):
            return {self._derive(angle): 1.0}
        row = {k: real(slope) for k, slope in slopes.items()}
        row[-1] = real(angle.bind(dict.fromkeys(free, 0.0)))
        return row

    def _derive(self, angle: ParameterExpression) -> int:
        if angle not in self._derived:
            self._derived.append(angle)
        return len(self.parameters) + self._derived.index(angle)

    @cached_property
    def _curved(self) -> AngleMap:
        return AngleMap(self.parameters, tuple(self._derived))

    def variables(self, values: Array) -> Array:
        """`(parameters,)` or `(parameters, batch)` to `(width, ...)`: derived ones appended."""
        if self.is_affine:
            return values
        derived = self._curved(values.T).T.astype(values.dtype)
        return np.concatenate([values, derived])

    def pullback(self, values: Array, gradient: Array) -> Array:
        """Gradient of the variables `(width, ...)` to gradient of the parameters."""
        if self.is_affine:
            return gradient
        count = len(self.parameters)
        through = self._curved.pullback(values.T, gradient[count:].T).T
        return gradient[:count] + through.astype(gradient.dtype)
