# SPDX-License-Identifier: Apache-2.0
"""From parameter values to gate angles, and gradients back.

Almost every angle in practice is an affine function of the parameters, so angles are rows of one
sparse matrix. A curved expression (`t**2`, `a * b`, `sin(t)`) is evaluated and differentiated by
Qiskit itself, row by row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit.circuit import ParameterExpression
from qiskit.exceptions import QiskitError
from scipy.sparse import csr_array

from qiskit_kd.errors import CircuitError

__all__ = ["AngleMap", "real"]

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class AngleMap:
    """Parameters of a circuit to the angles of its gates, and the transpose.

    Args:
        parameters: The circuit's parameters in order.
        expressions: The expression in each slot.
    """

    parameters: tuple[Any, ...]
    expressions: tuple[ParameterExpression, ...]

    @cached_property
    def _parts(self) -> tuple[csr_array, NDArray[np.float64], dict[int, dict[int, Any]]]:
        """Coefficients `(slots, parameters)`, constants, and derivatives of curved slots."""
        column = {p: k for k, p in enumerate(self.parameters)}
        rows, columns, values = [], [], []
        constants = np.zeros(len(self.expressions))
        curved: dict[int, dict[int, Any]] = {}
        for slot, expression in enumerate(self.expressions):
            slopes = {column[p]: expression.gradient(p) for p in expression.parameters}
            if any(isinstance(slope, ParameterExpression) for slope in slopes.values()):
                curved[slot] = slopes
                continue
            rows += [slot] * len(slopes)
            columns += list(slopes)
            values += [real(slope) for slope in slopes.values()]
            constants[slot] = real(expression.bind(dict.fromkeys(expression.parameters, 0.0)))
        shape = (len(self.expressions), len(self.parameters))
        return csr_array((values, (rows, columns)), shape=shape), constants, curved

    def __call__(self, values: Floats) -> NDArray[np.float64]:
        """`(..., parameters)` to `(..., slots)`."""
        matrix, constants, curved = self._parts
        flat = _rows(values)
        slots = np.asarray((matrix @ flat.T).T) + constants
        for slot in curved:
            slots[:, slot] = [self._at(self.expressions[slot], row) for row in flat]
        return slots.reshape(*np.shape(values)[:-1], len(self.expressions))

    def pullback(self, values: Floats, gradient: Floats) -> NDArray[np.float64]:
        """Gradient of the slots `(..., slots)` at `values` to that of the parameters."""
        matrix, _, curved = self._parts
        flat = _rows(values)
        slots = _rows(gradient)
        result = np.asarray((matrix.T @ slots.T).T)
        for slot, slopes in curved.items():
            for column, slope in slopes.items():
                result[:, column] += slots[:, slot] * [self._at(slope, row) for row in flat]
        return result.reshape(np.shape(values))

    def _at(self, expression: Any, row: Floats) -> float:
        if not isinstance(expression, ParameterExpression):
            return real(expression)
        names = dict(zip(self.parameters, row, strict=True))
        values = {p: float(names[p]) for p in expression.parameters}
        try:
            return real(expression.bind(values))
        except (ArithmeticError, RuntimeError, TypeError, ValueError, QiskitError) as error:
            at = ", ".join(sorted(f"{p.name} = {v:g}" for p, v in values.items()))
            raise CircuitError(
                "angles of gates and their derivatives are finite real numbers",
                got=f"{expression} at {at}",
                remedy="Use an expression that is smooth for all real values of its parameters.",
            ) from error


def _rows(values: Floats) -> NDArray[np.float64]:
    # Not reshape(-1, ...): an axis may be empty, where every weight is a global phase.
    array = np.asarray(values, float)
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def real(value: Any) -> float:
    """A coefficient as Qiskit gives it: sometimes complex with no imaginary part.

    Raises:
        ValueError: If it has one, or is not finite.
    """
    number = complex(value)
    if not math.isfinite(number.real) or not abs(number.imag) <= 1e-9 * max(1.0, abs(number)):
        raise ValueError(f"{number} is no finite real number")
    return number.real
