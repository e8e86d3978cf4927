# SPDX-License-Identifier: Apache-2.0
"""Outputs as observables pulled back through the ansatz, for many samples of a product encoding.

The ansatz turns an observable O into U^dag O U (Heisenberg picture), 4**n numbers whatever the
number of samples. A product state's expectation value of that is a multilinear form in
(1, sin, cos) of the encoding angles, whose 3**n coefficients are traces. All weight vectors, the
filters of a quanvolution, share the samples' products (see `contraction`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.execution.engine import Needs, Pullback
from qiskit_kd.execution.exact.buffers import Lease, Workers, spent
from qiskit_kd.execution.exact.contraction import Contraction, Run
from qiskit_kd.execution.exact.normal_form import normal_form
from qiskit_kd.execution.exact.product import ProductEncoding, Terms, product_encoding
from qiskit_kd.execution.exact.readout_kernels import Reader, reader
from qiskit_kd.execution.exact.sweep import Sweep, Workspace

Array = NDArray[Any]

MAX_QUBITS = 6
_STACK_BYTES = 2**22  # of one sweep of several weight vectors side by side
_PROBES = 3
_ATOL = 1e-12


Held = tuple[slice, Workspace]
"""Rows of weights and the work arrays of their sweep."""


class Coefficients:
    """The forms' coefficients as functions of the weights.

    Args:
        sweep: The ansatz, in complex arithmetic.
        reads: The observables.
        product: The encoding.
    """

    def __init__(self, sweep: Sweep, reads: Reader, product: ProductEncoding) -> None:
        self.sweep, self.reads = sweep, reads
        n = sweep.num_qubits
        self._low = n // 2  # two small tables instead of one of 3**n x 4**n
        kind = np.result_type(sweep.dtype, np.complex64)
        self._tables = [
            functools.reduce(_kron, product.factors[qubits][::-1], np.ones((1, 1, 1)))
            .reshape(3 ** len(range(n)[qubits]), -1)
            .astype(kind)
            for qubits in (slice(self._low, n), slice(0, self._low))
        ]

    def forward(self, weights: Array) -> tuple[Array, list[Held]]:
        """`(rows, num_weights)` to `(rows, outputs, 3**n)` and the sweeps' work arrays."""
        size, n = 2**self.sweep.num_qubits, self.sweep.num_qubits
        step = max(1, _STACK_BYTES // self.sweep.bytes_for(size))
        held, parts = [], []
        high, low = self._tables
        for k in range(0, len(weights), step):
            rows = slice(k, min(k + step, len(weights)))
            ws, start = self.sweep.start(size, (rows.stop - k,))
            start[:] = np.eye(size, dtype=self.sweep.dtype)
            self.sweep.forward(ws, weights[rows])
            held.append((rows, ws))
            unitaries = ws.states_c[-1]
            applied = self.reads.apply(unitaries)  # (outputs, rows, 2**n, 2**n)
            operators = (unitaries.conj().swapaxes(-1, -2) @ applied).swapaxes(0, 1)
            coefficients = high.conj() @ self._split(operators) @ low.conj().T
            parts.append(coefficients.real.reshape(*operators.shape[:2], 3**n))
        return np.concatenate(parts), held

    def give(self, held: Sequence[Held]) -> None:
        """Put work arrays back."""
        for _, ws in held:
            self.sweep.give(ws)

    def _split(self, operators: Array) -> Array:
        """Axes (row, column) to (row and column of the high qubits, of the low ones)."""
        low = 2**self._low
        high = operators.shape[-1] // low
        lead = operators.shape[:-2]
        six = operators.reshape(-1, high, low, high, low).transpose(0, 1, 3, 2, 4)
        return six.reshape(*lead, high * high, low * low)

    def backward(self, weights: Array, held: Sequence[Held], gradient: Array) -> Array:
        """Gradient of the coefficients `(rows, outputs, 3**n)` to that of the weights."""
        high, low = self._tables
        size, lows = 2**self.sweep.num_qubits, 2**self._low
        result = np.empty_like(weights)
        for rows, ws in held:
            given = gradient[rows].swapaxes(0, 1)
            split = high.T @ given.reshape(*given.shape[:2], len(high), len(low)) @ low
            six = split.reshape(-1, size // lows, size // lows, lows, lows)
            hermitian = six.transpose(0, 1, 3, 2, 4).reshape(*given.shape[:2], size, size)
            adjoint = (self.reads.apply(ws.states_c[-1]) @ hermitian).sum(0)
            np.multiply(adjoint, 2, out=ws.seed.view(self.sweep.cdtype))
            slope, _ = self.sweep.backward(ws, to_input=False)
            result[rows] = self.sweep.angles.pullback(weights[rows].T, slope.T).T
        return result


class OperatorProgram:
    """A compiled model whose encoding is a product.

    Args:
        coefficients: Of the forms.
        contraction: Of the forms with the samples.
    """

    def __init__(self, coefficients: Coefficients, contraction: Contraction) -> None:
        self._coefficients, self._contraction = coefficients, contraction

    def run(self, features: Array, weights: Array, needs: Needs) -> tuple[Array, Pullback]:
        """Outputs `(rows, samples, outputs)` for `weights` `(rows, num_weights)`, and a pullback.

        Raises:
            DataError: If a sample cannot be encoded.
            CircuitError: If the gradient of the features is wanted and the encoding has none.
        """
        table, plan = self._coefficients, self._contraction
        if needs.features and plan.encoding.angle_pullback is None:
            raise plan.encoding.no_derivative()
        c, held = table.forward(weights)
        rows, outputs = c.shape[:2]
        forms = c.reshape(rows * outputs, -1)[:, plan.terms.index]
        run = Run(plan, features, forms, keep=needs.any)
        values = run.outputs.reshape(rows, outputs, -1).swapaxes(1, 2)

        def release(used: Any) -> None:
            table.give(used)
            run.close()

        if not needs.any:
            release(held)
            return values, spent
        lease = Lease(held, release)

        def pullback(cotangent: Array) -> tuple[Array | None, Array | None]:
            work = lease.held
            flat = cotangent.swapaxes(1, 2).reshape(rows * outputs, -1)
            gx, slope = run.pullback(flat, features=needs.features, forms=needs.weights)
            if not needs.weights:
                return gx, None
            full = np.zeros((rows * outputs, c.shape[2]), c.dtype)
            full[:, plan.terms.index] = slope
            return gx, table.backward(weights, work, full.reshape(c.shape))

        return values, pullback


def operator_program(
    model: CircuitModel, sweep: Sweep, reads: Reader, workers: Workers
) -> OperatorProgram | None:
    """The program of a model, None where its encoding is no product.

    Args:
        model: A model that encodes its data once, by a circuit.
        sweep: Its ansatz, in complex arithmetic.
        reads: Its readout.
        workers: Threads.
    """
    if model.num_qubits > MAX_QUBITS:
        return None
    product = product_encoding(model)
    if product is None:
        return None
    terms = Terms(_live(model, product))
    contraction = Contraction(model.encoding, product.inputs, terms, sweep.dtype, workers)
    return OperatorProgram(Coefficients(sweep, reads, product), contraction)


def _live(model: CircuitModel, product: ProductEncoding) -> Array:
    """`[3] * qubits`, highest qubit first: which coefficients are not zero at all weights.

    Coefficients are analytic functions of the weights: one that is zero at weights nobody would
    choose is zero everywhere. Such zeros are common: a chain of controlled rotations brings no
    identity to the qubit that is read, and nothing to those beyond a qubit that has the identity.
    """
    keep = not model.readout.is_diagonal
    form = normal_form(model.ansatz_blocks[0], model.weights, keep_last=keep)
    sweep = Sweep(form, np.float64, force_complex=True)
    reads = reader(model.readout, sweep.final, np.dtype(float), np.dtype(complex))
    steps = np.arange(1, _PROBES * model.num_weights + 1).reshape(_PROBES, model.num_weights)
    weights = np.pi * (2 * np.modf(steps * (np.sqrt(5) - 1) / 2)[0] - 1)
    c, _ = Coefficients(sweep, reads, product).forward(weights)
    n = model.num_qubits
    live: Array = (np.abs(c).reshape(-1, 3**n).max(0) > _ATOL).reshape([3] * n)
    live[(0,) * n] |= not live.any()
    return live


def _kron(a: Array, b: Array) -> Array:
    """Kronecker products of all pairs of matrices, `(len(a) len(b), ...)`, `a` slowest."""
    out: Array = np.einsum("sij,tkl->stikjl", a, b)
    return out.reshape(len(a) * len(b), a.shape[1] * b.shape[1], -1)
