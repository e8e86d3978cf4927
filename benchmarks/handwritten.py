# SPDX-License-Identifier: Apache-2.0
"""A training step written by hand for one circuit: what the general engine is measured against.

The circuit is 4 layers of RX, RZ and a CRZ chain on 6 qubits, then RY: 74 weights. By hand it is
five real RY layers with a phase in front of each; RX = S^dag RY S, and inner S cancel. Samples are
swept themselves up to 2^n of them, beyond that the circuit is swept once as a matrix.
"""

from __future__ import annotations

import numpy as np
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

N, LAYERS = 6, 4
SIZE, HALF = 2**N, 2 ** (N // 2)


def circuit() -> QuantumCircuit:
    """The circuit; weights in the order RX, RZ, CRZ of each layer, then RY."""
    names = iter(range(1000))
    w = lambda: Parameter(f"w{next(names):03d}")  # noqa: E731
    out = QuantumCircuit(N)
    for _ in range(LAYERS):
        for q in range(N):
            out.rx(w(), q)
        for q in range(N):
            out.rz(w(), q)
        for q in range(N - 1):
            out.crz(w(), q, q + 1)
    for q in range(N):
        out.ry(w(), q)
    return out


class HandWritten:
    """Weights `(74,)` and rows `(batch, 64)` of unit norm to class probabilities."""

    def __init__(self, groups: np.ndarray, dtype: type) -> None:
        self.dtype = np.dtype(dtype)
        self.cdtype = np.result_type(dtype, np.complex64)
        self.groups = groups.astype(dtype)
        both = np.concatenate([groups, groups]).astype(dtype)
        self.groups_t = torch.from_numpy(both)
        k = np.arange(SIZE)
        bits = np.array([(k >> q) & 1 for q in range(N)])  # (n, 2^n)
        rz = bits - 0.5
        crz = np.array([bits[q] * (bits[q + 1] - 0.5) for q in range(N - 1)])
        self.generators = np.concatenate([rz, crz]).T.astype(dtype)  # (2^n, 11)
        ones = bits.sum(0)
        self.first = np.exp(0.5j * np.pi * ones).astype(self.cdtype)[:, None]
        self.last = (-0.5 * np.pi * ones).astype(dtype)
        i, j = np.divmod(np.arange(HALF * HALF), HALF)
        self.pick = np.empty((N // 2, HALF * HALF), int)
        self.sign, self.slope = np.ones(HALF * HALF), np.zeros((HALF * HALF, N // 2))
        for b in range(N // 2):
            bi, bj = (i >> b) & 1, (j >> b) & 1
            self.pick[b] = np.where(bi == bj, b, N // 2 + b)
            self.sign = self.sign * np.where(bi < bj, -1, 1)
            self.slope[:, b] = np.where(i ^ j == 1 << b, np.sign(bi - bj), 0)
        self.sign, self.slope = self.sign.astype(dtype), self.slope.astype(dtype)
        self.spaces: dict[int, list[dict]] = {}
        self.eye = np.eye(SIZE, dtype=dtype)

    def angles(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """RY angles `(5, n)` and phases `(4, 2^n)`."""
        body = w[: LAYERS * 17].reshape(LAYERS, 17)
        ry = np.concatenate([body[:, :N], w[None, LAYERS * 17 :]])
        phase = body[:, N:] @ self.generators.T
        phase[-1] += self.last
        return ry, phase

    def forward(self, w: np.ndarray, columns: np.ndarray) -> dict:
        count = columns.shape[1]
        free = self.spaces.get(count)
        ws = free.pop() if free else self._space(count)
        ry, phase = self.angles(w)
        half = ry.reshape(-1, 2, N // 2) / 2
        table = np.concatenate([np.cos(half), np.sin(half)], axis=2)  # (5, low/high, n)
        picked = table[:, :, self.pick]
        factors = picked.prod(axis=2) * self.sign
        ws["low"], ws["high"] = factors.reshape(LAYERS + 1, 2, HALF, HALF).swapaxes(0, 1)
        ws["phase"] = np.exp(1j * phase).astype(self.cdtype)[..., None]
        np.multiply(columns, self.first, out=ws["zc"])
        for k in range(LAYERS + 1):
            if k:
                np.multiply(ws["yc"][k - 1], ws["phase"][k - 1], out=ws["zc"])
            np.dot(ws["high"][k], ws["z"].reshape(HALF, -1), out=ws["t"].reshape(HALF, -1))
            shape = (HALF, HALF, -1)
            np.matmul(ws["low"][k], ws["t"].reshape(shape), out=ws["y"][k].reshape(shape))
        return ws

    def _space(self, count: int) -> dict:
        ws = {
            "count": count,
            "y": np.empty((LAYERS + 1, SIZE, 2 * count), self.dtype),
            "a": np.empty((LAYERS + 1, SIZE, 2 * count), self.dtype),
            "z": np.empty((SIZE, 2 * count), self.dtype),
            "t": np.empty((SIZE, 2 * count), self.dtype),
        }
        return ws | {f"{key}c": ws[key].view(self.cdtype) for key in "yaz"}

    def backward(self, ws: dict) -> np.ndarray:
        """`ws["a"][-1]` holds the gradient of the last states; returns that of the weights."""
        shape = (HALF, HALF, -1)
        slopes = np.empty((LAYERS, SIZE), self.dtype)
        for k in range(LAYERS, 0, -1):
            np.dot(ws["high"][k].T, ws["a"][k].reshape(HALF, -1), out=ws["t"].reshape(HALF, -1))
            np.matmul(ws["low"][k].T, ws["t"].reshape(shape), out=ws["z"].reshape(shape))
            np.multiply(ws["zc"], ws["phase"][k - 1].conj(), out=ws["ac"][k - 1])
        slopes[:] = np.vecdot(ws["yc"][:-1], ws["ac"][:-1]).imag
        u, v = ws["a"], ws["y"]
        high = np.matmul(u.reshape(5, HALF, -1), v.reshape(5, HALF, -1).swapaxes(1, 2))
        low = np.matmul(
            u.reshape(5 * HALF, HALF, -1), v.reshape(5 * HALF, HALF, -1).swapaxes(1, 2)
        ).reshape(5, HALF, -1)
        ry = np.concatenate(
            [low.sum(1) @ self.slope, high.reshape(5, -1) @ self.slope], axis=1
        ) / 2  # fmt: skip
        body = np.concatenate([ry[:LAYERS], slopes @ self.generators], axis=1)
        return np.concatenate([body.ravel(), ry[LAYERS]])


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w, x, net):
        ctx.net, ctx.direct = net, len(x) <= SIZE
        if ctx.direct:
            ctx.ws = net.forward(w.detach().numpy(), x.numpy().T)
            q = net.groups.T @ np.square(ctx.ws["y"][-1], out=ctx.ws["z"])
            return torch.from_numpy(np.ascontiguousarray((q[:, ::2] + q[:, 1::2]).T))
        ctx.ws = net.forward(w.detach().numpy(), net.eye)
        u = np.moveaxis(ctx.ws["y"][-1].reshape(SIZE, SIZE, 2), 2, 0)
        s = x @ torch.from_numpy(np.ascontiguousarray(u).reshape(-1, SIZE)).T
        ctx.rest = (x, s)
        return (s * s) @ net.groups_t

    @staticmethod
    def backward(ctx, g):
        net, ws = ctx.net, ctx.ws
        if ctx.direct:
            h = (2 * net.groups) @ g.numpy().repeat(2, axis=0).T
            np.multiply(ws["y"][-1], h, out=ws["a"][-1])
        else:
            x, s = ctx.rest
            du = (((g @ (2 * net.groups_t).T) * s).T @ x).numpy().reshape(2, SIZE, SIZE)
            ws["a"][-1].reshape(SIZE, SIZE, 2)[:] = np.moveaxis(du, 0, 2)
        gradient = net.backward(ws)
        net.spaces.setdefault(ws["count"], []).append(ws)
        return torch.from_numpy(gradient), None, None
