# SPDX-License-Identifier: Apache-2.0
"""One circuit model compiled for one dtype, and the four ways to run it.

  swept     few samples: the encoded states themselves are swept through the ansatz;
  matrix    more samples than basis states: the ansatz becomes one matrix, the batch one product;
  operator  many samples of an encoding that leaves qubits unentangled: the readout is swept back
            through the ansatz and becomes a form in the sines and cosines of the angles;
  columns   data and weights interleave (re-uploading): every sample has its own circuit.

Each way returns outputs and a pullback; their work arrays come from a pool and go back to it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.execution.engine import Needs, Pullback
from qiskit_kd.execution.exact.buffers import Lease, Workers, spent
from qiskit_kd.execution.exact.columns import ColumnSweep
from qiskit_kd.execution.exact.normal_form import normal_form
from qiskit_kd.execution.exact.operator import OperatorProgram, operator_program
from qiskit_kd.execution.exact.readout_kernels import DiagonalReader, PauliReader, reader
from qiskit_kd.execution.exact.sweep import Sweep, Workspace

Array = NDArray[Any]
_OPERATOR = 4  # samples for each basis state from which an operator is faster than a matrix
StatesPullback = Callable[[Array], Array]
"""Adjoint of the encoded states `(2**n, batch)` to the gradient of the features."""


class Program:
    """A compiled model.

    Args:
        model: What to run.
        dtype: `float32` or `float64`.
        workers: Threads for large batches.
    """

    def __init__(self, model: CircuitModel, dtype: Any, workers: Workers | None = None) -> None:
        self.model, self.dtype = model, np.dtype(dtype)
        self._workers = Workers() if workers is None else workers
        self.size = 2**model.num_qubits
        keep = not model.readout.is_diagonal
        self.interleaved = model.is_interleaved
        self._encoder: ColumnSweep | None = None
        if self.interleaved:
            parameters = (*model.inputs, *model.weights)
            self._whole = ColumnSweep(normal_form(model.circuit, parameters, keep_last=keep), dtype)
            order, cdtype = self._whole.final, self._whole.cdtype
        else:
            (block,) = model.ansatz_blocks
            if not model.encoding.is_amplitude:
                form = normal_form(model.encoding_circuit, model.inputs, keep_last=True)
                self._encoder = ColumnSweep(form, dtype)
            # Circuits encode complex states, even where the ansatz is real.
            self.sweep = Sweep(
                normal_form(block, model.weights, keep_last=keep),
                dtype,
                force_complex=self._encoder is not None,
            )
            order, cdtype = self.sweep.final, self.sweep.cdtype
        self.reader = reader(model.readout, order, self.dtype, np.result_type(cdtype, np.complex64))
        self._wide = not self.interleaved and isinstance(self.reader, DiagonalReader)
        self.operator_from = _OPERATOR * self.size
        self.fitting = 0
        """The largest batch that was found to fit into a run."""
        self._spare: dict[int, tuple[Array, torch.Tensor, torch.Tensor]] = {}

    # --- memory ----------------------------------------------------------------------------------

    def bytes_for(self, batch: int) -> int:
        """Memory of one run of `batch` samples, in bytes."""
        if self.interleaved:
            return self._whole.bytes_for(batch)
        encoding = 0 if self._encoder is None else self._encoder.bytes_for(batch)
        return encoding + self.sweep.bytes_for(min(batch, self.size) if self._wide else batch)

    @cached_property
    def operator(self) -> OperatorProgram | None:
        """The program for more than `operator_from` samples and any number of weight vectors."""
        if self._encoder is None:
            return None
        return operator_program(self.model, self.sweep, self.reader, self._workers)

    # --- running ---------------------------------------------------------------------------------

    def run(self, features: Array, weights: Array, needs: Needs) -> tuple[Array, Pullback]:
        """Outputs `(batch, num_outputs)` and their pullback, for one weight vector."""
        if self.interleaved:
            return self._run_columns(features, weights, needs)
        if self._wide and len(features) > self.size:
            return self._run_matrix(features, weights, needs)
        return self._run_swept(features, weights, needs)

    def _encode(self, x: Array, out: Array, differentiate: bool) -> StatesPullback:
        """Write the encoded states of `x` to `out` `(2**n, batch)`."""
        encoding = self.model.encoding
        if self._encoder is None:
            if x.ndim != 2 or x.shape[1] != encoding.num_features:
                encoding.check(x)
            norms = np.sqrt(np.einsum("bf,bf->b", x, x))
            # NaN, infinity and zero all show in the norms, which are needed anyway.
            if len(x) and not 0 < norms.min() <= norms.max() < np.inf:
                encoding.check(x)
            target = out.real if np.iscomplexobj(out) else out
            if target is not out:
                out.imag[:] = 0
            width = x.shape[1]
            np.divide(x.T, norms, out=target[:width])
            target[width:] = 0

            def unnormalise(adjoint: Array) -> Array:
                unit, slope = x / norms[:, None], adjoint.real.T[:, :width]
                gx: Array = slope - unit * (slope * unit).sum(1, keepdims=True)
                gx /= norms[:, None]
                return gx

            return unnormalise
        encoder = self._encoder
        angles = np.ascontiguousarray(encoding.angles(x).T, dtype=self.dtype)
        trace = encoder.forward(angles, columns=len(x))
        out[:] = trace.states[-1]
        if differentiate and encoding.angle_pullback is None:
            raise encoding.no_derivative()

        def through_angles(adjoint: Array) -> Array:
            assert encoding.angle_pullback is not None
            return encoding.angle_pullback(x, encoder.backward(trace, adjoint).T)

        return through_angles

    def _run_swept(self, features: Array, weights: Array, needs: Needs) -> tuple[Array, Pullback]:
        sweep, reads = self.sweep, self.reader
        ws, start = sweep.start(len(features))
        back = self._encode(features, start, needs.features)
        sweep.forward(ws, weights)
        if isinstance(reads, PauliReader):
            outputs = reads.read(ws.states_c[-1]).astype(self.dtype)
        else:
            outputs = reads.read(ws.states[-1], ws.seed)
            if sweep.reals == 2:
                outputs = outputs[::2] + outputs[1::2]
        if not needs.any:
            sweep.give(ws)
            return outputs, spent
        lease = Lease(ws, sweep.give)

        def pullback(cotangent: Array) -> tuple[Array | None, Array | None]:
            held = lease.held
            adjoint = held.seed
            if isinstance(reads, PauliReader):
                seed = reads.seed(held.states_c[-1], cotangent)
                adjoint.view(sweep.cdtype)[:] = seed if sweep.reals == 2 else seed.real
            else:
                both = cotangent if sweep.reals == 1 else cotangent.repeat(2, axis=0)
                reads.seed(held.states[-1], both, adjoint)
            dz, dx = sweep.backward(held, to_input=needs.features)
            gx = back(dx) if needs.features else None
            gw = dz if sweep.affine else sweep.angles.pullback(weights, dz)
            return gx, gw if needs.weights else None

        return outputs, pullback

    def _run_matrix(self, features: Array, weights: Array, needs: Needs) -> tuple[Array, Pullback]:
        # Real and imaginary parts side by side turn the complex product into one real one; torch's
        # matrix product is the faster one at this size.
        sweep, size, reals = self.sweep, self.size, self.sweep.reals
        assert isinstance(self.reader, DiagonalReader)
        real_states, rows = self._encoder is None, len(features)
        kind = self.dtype if real_states else sweep.cdtype
        width = size * reals
        spare = self._spare.pop(rows, None)
        if spare is not None:
            encoded, s, q = spare
        else:
            encoded = np.empty((rows, size), kind)
            s, q = (torch.from_numpy(np.empty((rows, width), self.dtype)) for _ in range(2))
        back = self._encode(features, encoded.T, needs.features)
        ws, start = sweep.start(size)
        start[:] = np.eye(size, dtype=self.dtype)
        sweep.forward(ws, weights)
        u = np.moveaxis(ws.states[-1].reshape(size, size, reals), 2, 0)  # (reals, out, in)
        if real_states:
            left = torch.from_numpy(encoded)
            transfer = torch.from_numpy(np.ascontiguousarray(u).reshape(-1, size))
        else:
            left = torch.from_numpy(np.concatenate([encoded.real, encoded.imag], axis=1))
            u = np.concatenate([np.concatenate([u[0], -u[1]], 1), np.concatenate([u[1], u[0]], 1)])
            transfer = torch.from_numpy(u)  # (2 out, 2 in)
        groups = torch.from_numpy(np.concatenate([self.reader.matrix] * reals))
        torch.mm(left, transfer.T, out=s)
        outputs = (torch.mul(s, s, out=q) @ groups).numpy()

        def release(used: Workspace) -> None:
            sweep.give(used)
            self._keep(rows, (encoded, s, q))

        if not needs.any:
            release(ws)
            return outputs, spent
        lease = Lease(ws, release)

        def pullback(cotangent: Array) -> tuple[Array | None, Array | None]:
            held = lease.held
            torch.mm(torch.from_numpy(np.ascontiguousarray(cotangent)), 2 * groups.T, out=q).mul_(s)
            gw = gx = None
            if needs.weights:
                du = (q.T @ left).numpy()
                target = np.moveaxis(held.seed.reshape(size, size, reals), 2, 0)
                if real_states:
                    target[:] = du.reshape(reals, size, size)
                else:  # there are two ways to reach each part of u
                    top, low = du[:size], du[size:]
                    target[0] = top[:, :size] + low[:, size:]
                    target[1] = low[:, :size] - top[:, size:]
                dz, _ = sweep.backward(held, to_input=False)
                gw = sweep.angles.pullback(weights, dz)
            if needs.features:
                slope = (q @ transfer).numpy()
                if not real_states:
                    slope = slope[:, :size] + 1j * slope[:, size:]
                gx = back(slope.T)
            return gx, gw

        return outputs, pullback

    def _keep(self, rows: int, buffers: tuple[Array, torch.Tensor, torch.Tensor]) -> None:
        if len(self._spare) > 4:
            self._spare.clear()
        self._spare[rows] = buffers

    def _run_columns(self, features: Array, weights: Array, needs: Needs) -> tuple[Array, Pullback]:
        encoding, count = self.model.encoding, self.model.num_inputs
        if needs.features and encoding.angle_pullback is None:
            raise encoding.no_derivative()
        batch = len(features)
        values = np.empty((count + len(weights), batch), self.dtype)
        values[:count] = encoding.angles(features).T
        values[count:] = weights[:, None]
        trace = self._whole.forward(values, columns=batch)
        states, reads = trace.states[-1], self.reader
        real = states.view(self.dtype).reshape(self.size, -1)
        if isinstance(reads, PauliReader):
            outputs = reads.read(states).astype(self.dtype)
        else:
            both = reads.read(real, np.empty_like(real))
            outputs = both[::2] + both[1::2]

        def pullback(cotangent: Array) -> tuple[Array | None, Array | None]:
            if isinstance(reads, PauliReader):
                adjoint = reads.seed(states, cotangent)
            else:
                seed = np.empty_like(real)
                reads.seed(real, cotangent.repeat(2, axis=0), seed)
                adjoint = seed.view(states.dtype)
            gradient = self._whole.backward(trace, adjoint)
            gx = None
            if needs.features:
                assert encoding.angle_pullback is not None
                gx = encoding.angle_pullback(features, gradient[:count].T)
            return gx, gradient[count:].sum(1) if needs.weights else None

        return outputs, pullback
