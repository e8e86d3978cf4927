# SPDX-License-Identifier: Apache-2.0
"""Forward and adjoint sweep of a normal form in which every column has its own parameters.

This carries out encodings (each sample has its own angles) and re-uploading circuits, in which
angles and weights interleave. Rotations act elementwise on pairs of rows, phases elementwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.execution.exact.normal_form import Layer, NormalForm

Array = NDArray[Any]


@dataclass(slots=True)
class Trace:
    """What the adjoint sweep needs: parameter values, half angles, phases and states per layer."""

    values: Array
    half: list[dict[int, tuple[Array, Array]]]
    phases: list[Array | None]
    states: list[Array]


class ColumnSweep:
    """Compiled normal form; start state |0...0> in every column.

    Args:
        form: The circuit, with `keep_last` where the state itself is wanted.
        dtype: `float32` or `float64`.
    """

    def __init__(self, form: NormalForm, dtype: Any) -> None:
        self.angles, self.num_qubits = form.angles, form.num_qubits
        self.dtype = np.dtype(dtype)
        self.cdtype = np.result_type(self.dtype, np.complex64)
        self.depth = len(form.layers) - 1
        self.final = form.layers[-1].permutation
        self._moves = [layer.permutation for layer in form.layers[:-1]]
        self._phases = [self._phase_table(layer) for layer in form.layers[:-1]]
        self._rows = [
            {q: self._dense(row) for q, row in layer.ry.items()} for layer in form.layers[1:]
        ]

    def _dense(self, row: dict[int, float]) -> tuple[Array, float]:
        out = np.zeros(self.angles.width)
        for column, value in row.items():
            if column >= 0:
                out[column] += value
        return out.astype(self.dtype), float(row.get(-1, 0.0))

    def _phase_table(self, layer: Layer) -> tuple[Array, Array, Array]:
        width = self.angles.width
        terms = list(layer.terms.values())
        generators = np.zeros((2**self.num_qubits, len(terms)))
        rows = np.zeros((len(terms), width))
        for t, (generator, row) in enumerate(terms):
            generators[:, t] = generator
            rows[t] = self._dense(row)[0]
        kind = self.dtype
        return generators.astype(kind), rows.astype(kind), layer.constant.astype(kind)

    def bytes_for(self, columns: int) -> int:
        """Memory of one trace."""
        amplitude = self.cdtype.itemsize
        return int((2 * self.depth + 4) * 2**self.num_qubits * columns * amplitude)

    def forward(self, values: Array, *, columns: int) -> Trace:
        """Sweep `values` `(parameters, columns)`; the last states are `states[-1]`."""
        z = self.angles.variables(values)
        state = np.zeros((2**self.num_qubits, columns), self.cdtype)
        state[0] = 1
        trace = Trace(values, [], [], [state])
        for k in range(self.depth):
            generators, rows, constant = self._phases[k]
            phase: Array | None = None
            if rows.shape[0] or constant.any():
                phase = np.exp(1j * (generators @ (rows @ z) + constant[:, None]))
                state = state * phase
            state = state[self._moves[k]]
            halves: dict[int, tuple[Array, Array]] = {}
            for q, (row, const) in self._rows[k].items():
                half = (row @ z + const) / 2
                halves[q] = np.cos(half), np.sin(half)
                state = self._rotate(state, q, *halves[q])
            trace.half.append(halves)
            trace.phases.append(phase)
            trace.states.append(state)
        return trace

    def _pairs(self, state: Array, qubit: int) -> Array:
        return state.reshape(2 ** (self.num_qubits - 1 - qubit), 2, 2**qubit, -1)

    def _rotate(self, state: Array, qubit: int, cos: Array, sin: Array) -> Array:
        pairs = self._pairs(state, qubit)
        out = np.empty_like(pairs)
        out[:, 0] = cos * pairs[:, 0] - sin * pairs[:, 1]
        out[:, 1] = sin * pairs[:, 0] + cos * pairs[:, 1]
        return out.reshape(state.shape)

    def backward(self, trace: Trace, adjoint: Array) -> Array:
        """Gradient of the last states `(2**n, columns)` to that of `values`, per column."""
        gradient = np.zeros((self.angles.width, adjoint.shape[1]), self.dtype)
        for k in range(self.depth - 1, -1, -1):
            state = trace.states[k + 1]
            for q, (row, _) in self._rows[k].items():
                if row.any():
                    a, s = self._pairs(adjoint, q), self._pairs(state, q)
                    slope = _real_dot(a[:, 1], s[:, 0]) - _real_dot(a[:, 0], s[:, 1])
                    gradient += row[:, None] * (slope / 2)
            for q, (cos, sin) in trace.half[k].items():
                adjoint = self._rotate(adjoint, q, cos, -sin)
            adjoint = adjoint[np.argsort(self._moves[k])]
            phase = trace.phases[k]
            if phase is not None:
                adjoint = adjoint * phase.conj()
            generators, rows, _ = self._phases[k]
            if rows.shape[0]:
                before = trace.states[k]
                slope = adjoint.imag * before.real - adjoint.real * before.imag
                gradient += rows.T @ (generators.T @ slope)
        return self.angles.pullback(trace.values, gradient)


def _real_dot(a: Array, b: Array) -> Array:
    """Real part of the inner product over all axes but the last."""
    out: Array = np.einsum("abc,abc->c", a.real, b.real)
    out += np.einsum("abc,abc->c", a.imag, b.imag)
    return out
