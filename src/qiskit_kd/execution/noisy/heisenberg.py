# SPDX-License-Identifier: Apache-2.0
"""Observables pulled back through fused blocks, and the gradient of every block, in NumPy.

The same as `Section.sweep(..., adjoint=True)` with autograd, at a third of the price: what a
training step costs is this sweep, and it is the same for one sample as for a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.execution.noisy.section import Section

__all__ = ["PulledBack", "pull_back"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class PulledBack:
    """Observables in front of a section, and what their gradient needs.

    Args:
        rows: `(observables, 4**wires)`.
    """

    rows: Array
    _section: Section
    _matrices: Array
    _inputs: list[Array]

    def gradient(self, cotangent: Array) -> Array:
        """Gradient of `rows` to that of the matrices, `(blocks, 16, 16)`."""
        section, matrices = self._section, self._matrices
        gradient = np.empty_like(matrices)
        steps = section.plan(adjoint=True)
        g = cotangent.reshape(len(cotangent), *[4] * section.num_wires)
        g = g.transpose(_inverse(steps.last))
        for step, x in zip(reversed(steps.moves), reversed(self._inputs), strict=True):
            shape = g.shape
            flat = g.reshape(16, -1)
            gradient[step.matrix] = x @ flat.T
            g = (matrices[step.matrix] @ flat).reshape(shape).transpose(_inverse(step.axes))
        return gradient


def pull_back(
    section: Section, observables: Array, matrices: Array, *, keep: bool = True
) -> PulledBack:
    """Carry `(observables, 4**wires)` backwards through a section.

    Args:
        section: The section.
        observables: Coefficients behind it.
        matrices: `(blocks, 16, 16)`, as `Section.matrices` orders them.
        keep: Keep what the gradient needs: the observables in front of every block.
    """
    steps = section.plan(adjoint=True)
    x = observables.reshape(len(observables), *[4] * section.num_wires)
    inputs = []
    for step in steps.moves:
        x = x.transpose(step.axes)
        shape = x.shape
        flat = x.reshape(16, -1)
        if keep:
            inputs.append(flat)
        x = (matrices[step.matrix].T @ flat).reshape(shape)
    rows = np.ascontiguousarray(x.transpose(steps.last).reshape(len(observables), -1))
    return PulledBack(rows, section, matrices, inputs)


def _inverse(axes: tuple[int, ...]) -> list[int]:
    return [axes.index(k) for k in range(len(axes))]
