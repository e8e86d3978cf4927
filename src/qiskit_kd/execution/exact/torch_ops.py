# SPDX-License-Identifier: Apache-2.0
"""The exact engine's normal form as plain torch operations, for tensors on another device.

The same layers as `sweep` and `columns`, differentiated by torch itself, so that second derivatives
exist too. On the CPU the NumPy kernels are twice as fast at these sizes, and `autograd.run` takes
those.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import Observables
from qiskit_kd.execution.exact.normal_form import Layer, NormalForm, normal_form
from qiskit_kd.execution.exact.readout_kernels import pauli_terms
from qiskit_kd.execution.torch_use import Mapped


class TorchProgram:
    """A circuit model whose every step is a torch operation.

    Args:
        model: The circuit model.
    """

    def __init__(self, model: CircuitModel) -> None:
        self.model = model
        parameters = (*model.inputs, *model.weights)
        if model.encoding.is_amplitude and model.encoding.layers == 1:
            self._form = normal_form(model.ansatz_blocks[0], model.weights, keep_last=True)
        else:
            self._form = normal_form(model.circuit, parameters, keep_last=True)

    @property
    def is_supported(self) -> bool:
        """Nonlinear angle expressions are evaluated by Qiskit, on the CPU only."""
        return self._form.angles.is_affine

    def outputs(self, features: Tensor, weights: Tensor) -> Tensor:
        """`(batch, num_features)` and `(..., num_weights)` to `(..., batch, num_outputs)`."""
        if weights.ndim > 1:
            rows = [self.outputs(features, row) for row in weights.flatten(0, -2)]
            shape = (*weights.shape[:-1], features.shape[0], self.model.num_outputs)
            return torch.stack(rows).reshape(shape)
        encoding, batch = self.model.encoding, features.shape[0]
        size = 2**self.model.num_qubits
        kind = torch.complex64 if features.dtype == torch.float32 else torch.complex128
        weights = weights.to(features.dtype)
        if encoding.is_amplitude and encoding.layers == 1:
            unit = features / torch.linalg.vector_norm(features, dim=1, keepdim=True)
            state = torch.nn.functional.pad(unit, (0, size - features.shape[1])).to(kind)
            values = weights[:, None]
        else:
            if encoding.scale is None:
                angles = Mapped.apply(features, encoding.angles, encoding.pullback, features.dtype)
            else:
                angles = encoding.scale * features
            values = torch.cat([angles.T, weights[:, None].expand(-1, batch)])
            zero = torch.zeros(size, dtype=kind, device=features.device)
            zero[0] = 1
            state = zero.expand(batch, -1)
        return self._read(sweep(self._form, state, values))

    def _read(self, state: Tensor) -> Tensor:
        readout = self.model.readout
        if readout.is_diagonal:
            square = state.real.square() + state.imag.square()
            return square @ torch.from_numpy(readout.matrix).to(square)
        assert isinstance(readout, Observables)  # class groups are diagonal
        columns = []
        for op in readout.operators:
            applied = torch.zeros_like(state)
            for source, factor in pauli_terms(op):
                moved = state[:, torch.from_numpy(source).to(state.device)]
                applied = applied + moved * torch.from_numpy(factor).to(state)
            columns.append((state.conj() * applied).sum(1).real)
        return torch.stack(columns, dim=1)


def sweep(form: NormalForm, state: Tensor, values: Tensor) -> Tensor:
    """`(batch, 2**n)` states through all layers; `values` is `(parameters, 1 or batch)`."""
    for layer, following in zip(form.layers[:-1], form.layers[1:], strict=True):
        state = _phase(layer, state, values)
        state = state[:, torch.from_numpy(layer.permutation).to(state.device)]
        for qubit, row in following.ry.items():
            state = _rotate(state, qubit, _affine(row, values) / 2)
    return state


def _affine(row: dict[int, float], values: Tensor) -> Tensor:
    """A row of the angle map at `values`, `(1 or batch,)`."""
    angle = torch.full_like(values[0], row.get(-1, 0.0)) if len(values) else values.sum(0)
    for column, coefficient in row.items():
        if column >= 0:
            angle = angle + coefficient * values[column]
    return angle


def _phase(layer: Layer, state: Tensor, values: Tensor) -> Tensor:
    def tensor(array: Any) -> Tensor:
        return torch.from_numpy(array).to(values)

    if not layer.terms and not layer.constant.any():
        return state
    angles = tensor(layer.constant)[None, :]
    for generator, row in layer.terms.values():
        angles = angles + _affine(row, values)[:, None] * tensor(generator)
    return state * torch.polar(torch.ones_like(angles), angles)


def _rotate(state: Tensor, qubit: int, half: Tensor) -> Tensor:
    cos, sin = torch.cos(half)[:, None, None], torch.sin(half)[:, None, None]
    pairs = state.reshape(state.shape[0], -1, 2, 2**qubit)
    low, high = pairs[:, :, 0], pairs[:, :, 1]
    turned = torch.stack([cos * low - sin * high, sin * low + cos * high], dim=2)
    return turned.reshape(state.shape)
