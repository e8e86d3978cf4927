# SPDX-License-Identifier: Apache-2.0
"""Forward and adjoint sweep of a normal form over columns that share their parameters.

Several vectors of parameters (the filters of a quanvolution) can be swept side by side: a *stack*.

The columns are data vectors (small batches) or the identity (then the sweep gives the unitary).
An RY layer is a real Kronecker product, applied as one small matrix product per group of up to
four qubits on the real view of the state; without phases the arithmetic is real altogether. The
adjoint sweep (Jones and Gacon, arXiv:2009.02823, with stored instead of recomputed states) takes
all RY gradients of a layer from one product per group, since RYs of one layer commute.

NumPy carries out the kernels: a call costs about half of what torch takes at these sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.execution.exact.normal_form import Layer, NormalForm

Array = NDArray[Any]
Call = tuple[Callable[..., Any], tuple[Any, ...]]
_GROUP = 4  # qubits in one Kronecker factor: 16 x 16 products are the largest that stay cheap
_KEPT = 4  # batch sizes, and workspaces of each, that are kept
_DENSE = 2**20  # largest premultiplied phase matrix (entries); beyond, phases are two products


def groups_of(num_qubits: int) -> list[range]:
    """Split the qubits into the fewest, nearly equal groups, highest first."""
    count = -(-num_qubits // _GROUP)
    edges = [round(k * num_qubits / count) for k in range(count + 1)]
    return [range(a, b) for a, b in itertools.pairwise(edges)][::-1]


class Workspace:
    """Arrays and recorded calls of one sweep; pooled, because page faults cost more than the sums.

    All buffers are fixed, so both sweeps are recorded once as lists of `(function, arguments)` on
    ready-made views: at six qubits the slicing and reshaping would cost as much as the arithmetic.
    """

    def __init__(self, sweep: Sweep, columns: int, stack: tuple[int, ...]) -> None:
        size, width = 2**sweep.num_qubits, columns * sweep.reals
        self.columns, self.stack = columns, stack
        self.states = np.empty((sweep.depth + 1, *stack, size, width), sweep.dtype)
        self.states_c = self.states.view(sweep.cdtype)
        self.scratch = [np.empty((*stack, size, width), sweep.dtype) for _ in range(2)]
        self.seed = self.scratch[0]
        """Where the caller of `backward` writes the gradient of the last states (real view)."""
        self.table = np.ones((*stack, sweep.depth, 2 * sweep.num_qubits + 1), sweep.dtype)
        self.entries = np.empty((*stack, sweep.depth, len(sweep.sign)), sweep.dtype)
        self.factors = [
            [g.factor(self.entries[..., k, :]) for k in range(sweep.depth)] for g in sweep.groups
        ]
        self.phases = np.empty((len(sweep.free), *stack, size, 1), sweep.cdtype)
        self.conjugates = np.empty_like(self.phases)
        # What the adjoint sweep leaves behind, summed up once at its end.
        self.products = [
            np.empty((len(rows), *stack, g.before, g.dim, g.dim), sweep.dtype)
            for g, rows in zip(sweep.groups, sweep.trained, strict=True)
        ]
        self.overlaps = np.zeros((len(sweep.free), *stack, size), sweep.cdtype)
        self.forward_calls = sweep.record_forward(self)
        self.backward_calls: dict[bool, tuple[list[Call], Array]] = {}

    def other(self, array: Array) -> Array:
        """The scratch buffer that is not `array`."""
        return self.scratch[1] if array is self.scratch[0] else self.scratch[0]


@dataclass(frozen=True, slots=True)
class _Group:
    """One Kronecker factor: `(before, dim, after * columns)` is the view it acts on."""

    before: int
    dim: int
    entries: slice
    generator: Array

    def view(self, array: Array) -> Array:
        """`array` `(..., 2**n, width)` with this group's qubits as the second last axis."""
        if self.before == 1:
            return array.reshape(*array.shape[:-2], self.dim, -1)
        return array.reshape(*array.shape[:-2], self.before, self.dim, -1)

    def factor(self, entries: Array) -> Array:
        """`entries` `(..., all groups' entries)` as this group's matrix, fit for `view`."""
        matrix = entries[..., self.entries].reshape(*entries.shape[:-1], self.dim, self.dim)
        return matrix if self.before == 1 else matrix[..., None, :, :]

    def target(self, product: Array) -> Array:
        """Where to write products of views, `(..., before, dim, dim)`."""
        return product[..., 0, :, :] if self.before == 1 else product

    def product(self, stack: tuple[int, ...], left: Array, right: Array, out: Array) -> Call:
        """The call that writes `left @ right` of views; `dot` is the faster one where it applies.

        As a method, since `np.dot` first calls a function of Python's to dispatch.
        """
        if stack or self.before > 1:
            return np.matmul, (left, right, out)
        return left.dot, (right, out)


class Sweep:
    """Compiled normal form.

    Args:
        form: The circuit. Phase and permutation of its last layer are not carried out; the
            permutation is `final` (new basis state k was k-th of `final`).
        dtype: `float32` or `float64`.
        force_complex: Use complex arithmetic although the circuit is real, for complex columns.
    """

    def __init__(self, form: NormalForm, dtype: Any, *, force_complex: bool = False) -> None:
        n, layers = form.num_qubits, form.layers
        self.angles, self.num_qubits, self.dtype = form.angles, n, np.dtype(dtype)
        self.affine = form.angles.is_affine
        self.depth = len(layers) - 1
        self.final = layers[-1].permutation
        width = form.angles.width
        constants = [np.exp(1j * layer.constant) for layer in layers[:-1]]
        has_terms = [bool(layer.terms) for layer in layers[:-1]]
        complex_ = (
            force_complex or any(has_terms) or any(np.abs(c.imag).max() > 1e-12 for c in constants)
        )
        self.reals = 2 if complex_ else 1
        self.cdtype = np.result_type(self.dtype, np.complex64) if complex_ else self.dtype
        self._constants = [
            None
            if np.abs(c - 1).max() < 1e-15
            else (c if complex_ else c.real).astype(self.cdtype)[:, None]
            for c in constants
        ]
        self._conjugates = [None if c is None else np.conj(c) for c in self._constants]
        self._moves: list[Array | None] = []
        self._inverse: list[Array | None] = []
        for layer in layers[:-1]:
            move = layer.permutation
            still = bool((move == np.arange(2**n)).all())
            self._moves.append(None if still else move)
            self._inverse.append(None if still else np.argsort(move))
        self._build_rotations(layers, width)
        self._build_phases(layers[:-1], width)
        self._pool: dict[tuple[int, ...], list[Workspace]] = {}

    # --- tables ----------------------------------------------------------------------------------

    def _build_rotations(self, layers: Sequence[Layer], width: int) -> None:
        n = self.num_qubits
        rows = np.zeros((self.depth, n, width + 1))
        for k, layer in enumerate(layers[1:]):
            for q, row in layer.ry.items():
                for column, value in row.items():
                    rows[k, q, column] += value / 2
        self._half = rows[..., :width].reshape(self.depth * n, width).astype(self.dtype)
        self._half_constant = rows[..., width].ravel().astype(self.dtype)
        picks, signs, self.groups, start = [], [], [], 0
        largest = max(len(g) for g in groups_of(n))
        for qubits in groups_of(n):
            dim = 2 ** len(qubits)
            i, j = np.divmod(np.arange(dim * dim), dim)
            pick = np.full((largest, dim * dim), 2 * n)  # column 2n of the table is 1
            sign, generator = np.ones(dim * dim), np.zeros((dim * dim, n))
            for b, q in enumerate(qubits):
                bi, bj = (i >> b) & 1, (j >> b) & 1
                pick[b] = np.where(bi == bj, q, n + q)
                sign *= np.where(bi < bj, -1, 1)
                generator[:, q] = np.where(i ^ j == 1 << b, np.sign(bi - bj), 0)  # -iY on q
            picks.append(pick)
            signs.append(sign)
            self.groups.append(
                _Group(
                    2 ** (n - qubits.stop),
                    dim,
                    slice(start, start + dim * dim),
                    generator.astype(self.dtype),
                )
            )
            start += dim * dim
        self._pick = np.concatenate(picks, axis=1)
        self.sign = np.concatenate(signs).astype(self.dtype)
        self._active = [
            [g for g, qubits in enumerate(groups_of(n)) if any(q in layer.ry for q in qubits)]
            for layer in layers[1:]
        ]
        # Per group, the layers in which it has an angle that depends on a parameter.
        self.trained = [
            [
                k
                for k, layer in enumerate(layers[1:])
                if any(c >= 0 for q in qubits for c in layer.ry.get(q, {}))
            ]
            for qubits in groups_of(n)
        ]
        self._collect = [
            [(g, rows.index(k)) for g, rows in enumerate(self.trained) if k in rows]
            for k in range(self.depth)
        ]

    def _build_phases(self, layers: Sequence[Layer], width: int) -> None:
        size = 2**self.num_qubits
        self.free = [k for k, layer in enumerate(layers) if layer.terms]
        self._phase_constant = np.array(
            [layers[k].constant for k in self.free], self.dtype
        ).reshape(len(self.free), size)
        generators, rows = [], []
        for k in self.free:
            terms = layers[k].terms.values()
            generators.append(np.stack([g for g, _ in terms], axis=1))
            row = np.zeros((len(terms), width))
            for t, (_, coefficients) in enumerate(terms):
                for column, value in coefficients.items():
                    row[t, column] += value
            rows.append(row)
        self._dense: Array | None = None
        if len(self.free) * size * width <= _DENSE:
            stack = [g @ r for g, r in zip(generators, rows, strict=True)]
            self._dense = np.array(stack, self.dtype).reshape(len(self.free) * size, width)
        else:
            self._generators = [g.astype(self.dtype) for g in generators]
            self._rows = [r.astype(self.dtype) for r in rows]
        self._free_at = {k: at for at, k in enumerate(self.free)}
        # The lowest layer in front of which no gradient is left to collect.
        self._first = min(
            [*self.free, *(k for rows in self.trained for k in rows)], default=self.depth
        )
        self._steps = [
            [("phase", 0)] * (k in self._free_at or self._constants[k] is not None)
            + [("move", 0)] * (self._moves[k] is not None)
            + [("group", g) for g in self._active[k]]
            for k in range(self.depth)
        ]

    def _phase_angles(self, z: Array) -> Array:
        """`(width, ...)` to `(free layers, ..., 2**n)`."""
        shape = self._phase_constant.shape
        if self._dense is not None:
            angles = (self._dense @ z).reshape(*shape, *z.shape[1:])
        else:
            pairs = zip(self._generators, self._rows, strict=True)
            angles = np.stack([g @ (r @ z) for g, r in pairs])
        if z.ndim > 1:
            angles = angles.swapaxes(1, 2)
            angles += self._phase_constant[:, None]
        else:
            angles += self._phase_constant
        return angles

    def _phase_gradient(self, slopes: Array) -> Array:
        """Transpose of `_phase_angles`, `(free layers, ..., 2**n)` to `(..., width)`."""
        if self._dense is not None:
            if slopes.ndim == 2:
                return slopes.ravel() @ self._dense
            return slopes.swapaxes(0, 1).reshape(slopes.shape[1], -1) @ self._dense
        triples = zip(slopes, self._generators, self._rows, strict=True)
        start = np.zeros(self.angles.width, self.dtype)
        return sum(((s @ g) @ r for s, g, r in triples), start=start)

    # --- sweeps ----------------------------------------------------------------------------------

    def bytes_for(self, columns: int) -> int:
        """Memory of one workspace, for each vector of parameters."""
        amplitude = self.reals * self.dtype.itemsize
        return int((self.depth + 3) * 2**self.num_qubits * columns * amplitude)

    def give(self, workspace: Workspace) -> None:
        """Put a workspace back."""
        if len(self._pool) > _KEPT:  # batch sizes vary little; a stray one must not stay for ever
            self._pool.clear()
        spare = self._pool.setdefault((workspace.columns, *workspace.stack), [])
        if len(spare) < _KEPT:
            spare.append(workspace)

    def start(self, columns: int, stack: tuple[int, ...] = ()) -> tuple[Workspace, Array]:
        """A workspace and its start states, to be filled before `forward`.

        Args:
            columns: Number of start states.
            stack: `()` for one vector of parameters, `(k,)` for k of them.

        Returns:
            The workspace, and a view `(*stack, 2**n, columns)` of it.
        """
        try:
            ws = self._pool[columns, *stack].pop()
        except (KeyError, IndexError):
            ws = Workspace(self, columns, stack)
        return ws, ws.states_c[0]

    def forward(self, ws: Workspace, values: Array) -> None:
        """Sweep the start states; the last ones lie in `ws.states_c[-1]` (`states`: real view).

        Args:
            ws: From `start`.
            values: The parameters, `(*stack, parameters)`.
        """
        z = values.T if self.affine else self.angles.variables(values.T)
        n = self.num_qubits
        half = (self._half @ z).T
        half += self._half_constant
        half = half.reshape(*ws.stack, -1, n)
        np.cos(half, out=ws.table[..., :n])
        np.sin(half, out=ws.table[..., n : 2 * n])
        picked = ws.table.take(self._pick, axis=-1)
        np.multiply(picked[..., 0, :], self.sign, out=ws.entries)
        for j in range(1, picked.shape[-2]):
            np.multiply(ws.entries, picked[..., j, :], out=ws.entries)
        if self.free:
            angles = self._phase_angles(z)
            np.cos(angles, out=ws.phases.real[..., 0])
            np.sin(angles, out=ws.phases.imag[..., 0])
        for call, arguments in ws.forward_calls:
            call(*arguments)

    def record_forward(self, ws: Workspace) -> list[Call]:
        """states[k] to states[k + 1]: a layer's last step writes there, the others into scratch."""
        calls: list[Call] = []
        for k in range(self.depth):
            state, left = ws.states[k], len(self._steps[k])
            for kind, g in self._steps[k]:
                left -= 1
                out = ws.states[k + 1] if left == 0 else ws.other(state)
                if kind == "phase":
                    phase = self._phase_of(k, ws.phases, self._constants)
                    arguments = (state.view(self.cdtype), phase, out.view(self.cdtype))
                    calls.append((np.multiply, arguments))
                elif kind == "move":
                    calls.append((state.take, (self._moves[k], -2, out, "clip")))
                else:
                    group = self.groups[g]
                    sides = ws.factors[g][k], group.view(state)
                    calls.append(group.product(ws.stack, *sides, group.view(out)))
                state = out
            if not self._steps[k]:
                calls.append((np.copyto, (ws.states[k + 1], state)))
        return calls

    def backward(self, ws: Workspace, *, to_input: bool) -> tuple[Array, Array]:
        """Adjoint sweep from the gradient of the last states in `ws.seed`.

        Args:
            ws: The workspace of the forward sweep; the caller gives it back.
            to_input: Whether the gradient of the start states is wanted as well.

        Returns:
            Gradient of the variables `z`, `(*stack, variables)`, and of the start states (valid
            until the workspace is used again; meaningful only with `to_input`).
        """
        if to_input not in ws.backward_calls:
            ws.backward_calls[to_input] = self._record_backward(ws, to_input)
        calls, adjoint = ws.backward_calls[to_input]
        if self.free:
            np.conjugate(ws.phases, out=ws.conjugates)
        for call, arguments in calls:
            call(*arguments)
        rotation = np.zeros((self.depth, *ws.stack, self.num_qubits), self.dtype)
        for group, rows, product in zip(self.groups, self.trained, ws.products, strict=True):
            if rows:
                total = product[..., 0, :, :] if group.before == 1 else product.sum(-3)
                rotation[rows] += total.reshape(len(rows), *ws.stack, -1) @ group.generator
        if ws.stack:
            rotation = rotation.swapaxes(0, 1)
        gradient = rotation.reshape(*ws.stack, -1) @ self._half
        if self.free:
            gradient += self._phase_gradient(ws.overlaps.imag)
        return gradient, adjoint.view(self.cdtype)

    def _record_backward(self, ws: Workspace, to_input: bool) -> tuple[list[Call], Array]:
        calls: list[Call] = []
        adjoint = ws.seed
        for k in range(self.depth - 1, (0 if to_input else self._first) - 1, -1):
            for g, row in self._collect[k]:
                # The generators commute with their own layer, so the states behind it will do.
                group = self.groups[g]
                u, v = group.view(adjoint), group.view(ws.states[k + 1]).swapaxes(-1, -2)
                out = group.target(ws.products[g][row])
                calls.append(group.product(ws.stack, u, v, out))
            for kind, g in reversed(self._steps[k]):
                out = ws.other(adjoint)
                if kind == "phase":
                    phase = self._phase_of(k, ws.conjugates, self._conjugates)
                    arguments = (adjoint.view(self.cdtype), phase, out.view(self.cdtype))
                    calls.append((np.multiply, arguments))
                elif kind == "move":
                    calls.append((adjoint.take, (self._inverse[k], -2, out, "clip")))
                else:
                    group = self.groups[g]
                    factor = ws.factors[g][k].swapaxes(-1, -2)
                    calls.append(
                        group.product(ws.stack, factor, group.view(adjoint), group.view(out))
                    )
                adjoint = out
            if k in self._free_at:
                arguments = (
                    ws.states_c[k],
                    adjoint.view(self.cdtype),
                    ws.overlaps[self._free_at[k]],
                )
                calls.append((np.vecdot, arguments))
        return calls, adjoint

    def _phase_of(self, k: int, free: Array, fixed: list[Array | None]) -> Array:
        at = self._free_at.get(k)
        phase = fixed[k] if at is None else free[at]
        assert phase is not None
        return phase
