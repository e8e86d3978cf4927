# SPDX-License-Identifier: Apache-2.0
"""`NoisyEngine`: exact outputs and gradients under a device's noise.

The data are carried through the noisy encoding once and kept. A training step pulls the readout
back through the noisy ansatz, whatever the batch, and multiplies: `outputs = states @ observables`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.errors import DataError
from qiskit_kd.execution.engine import Array, Engine, Needs, Pullback, Usage, check_weights
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.noisy.program_cache import ProgramCache
from qiskit_kd.execution.noisy.programs import Program, evolve, evolve_bytes, through_ansatz
from qiskit_kd.execution.noisy.sweeps import pull_back
from qiskit_kd.execution.torch_use import counted, in_own_modes, one_thread, own_vjp
from qiskit_kd.execution.transpiling import CircuitFacts, circuit_facts

_CPU = torch.device("cpu")
_EVOLVED_BYTES = 2**30  # what carrying a batch may keep; larger ones are split and recomputed
_TORCH = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


class NoisyEngine(Engine):
    """Density matrices under the noise of a device, without shots.

    Args:
        programs: Where circuits are transpiled and data encoded; a device stands for a programs of
            its own with the usual settings.
        name: The backend's name, for reports; None for one made from the device.
    """

    def __init__(self, programs: ProgramCache | DeviceNoise, *, name: str | None = None) -> None:
        if isinstance(programs, DeviceNoise):
            # Names tell engines apart where outputs of frozen layers are kept.
            name = name or f"noisy {programs.name} x {programs.scale:g}"
            programs = ProgramCache(_Always(programs))
        self.programs = programs
        self.name = name or "noisy"
        self.usage = Usage()

    def program(self, model: CircuitModel) -> Program:
        """The transpiled model with its noise, made on first use.

        Raises:
            CircuitError: If it does not fit the device.
            ResourceError: If its density matrices do not fit into memory.
        """
        before = self.programs.transpilations
        program = self.programs.program(model)
        self.usage.transpilations += self.programs.transpilations - before
        return program

    def place(self, model: CircuitModel, *, like: CircuitModel) -> None:
        """See `Engine.place`."""
        self.programs.place(model, like=like)

    def check(self, model: CircuitModel) -> None:
        """See `Engine.check`; a gate that the device cannot do shows when it is transpiled."""
        self.programs.native(model)

    def compiled(self, model: CircuitModel) -> CircuitFacts:
        """See `Engine.compiled`; no memory for density matrices is asked for."""
        device = self.programs.device(model.num_qubits)
        circuit = self.programs.native(model).circuit
        return circuit_facts(circuit, device.target, device=device.name)

    def outputs(self, model: CircuitModel, features: Array, weights: Array) -> Array:
        """See `Engine.outputs`."""
        return self.vjp(model, features, weights, Needs(features=False, weights=False))[0]

    @own_vjp
    def vjp(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        """See `Engine.vjp`.

        Gradients of weights cost the same for every batch. Gradients of features, and circuits in
        which data and weights interleave, carry the whole batch through all gates.
        """
        if features.dtype not in _TORCH:
            raise _other_dtype(features.dtype)
        check_weights(model, weights)
        if needs.features and model.encoding.angle_pullback is None:
            raise model.encoding.no_derivative()
        program = self.programs.made.get(model) or self.program(model)
        self.usage.executions += len(features) * max(1, weights[..., 0].size)
        lead = weights.shape[:-1]
        one = self._evolved if model.is_interleaved or needs.features else self._pulled
        found, backs = [], []
        with one_thread():
            for row in np.asarray(weights, float).reshape(-1, model.num_weights):
                values, back = one(program, model, features, row, needs)
                found.append(values)
                if needs.any:  # what it holds would otherwise pile up, setting by setting
                    backs.append(back)
        shape = (len(found), len(features), model.num_outputs)
        outputs = np.array(found, features.dtype).reshape(shape)

        def pullback(cotangent: Array) -> tuple[Array | None, Array | None]:
            if not needs.any:
                return None, None
            flat = np.asarray(cotangent, features.dtype).reshape(shape)
            gx, gw = np.zeros_like(features), []
            with one_thread():
                for back, slope in zip(backs, flat, strict=True):
                    of_features, of_weights = back(slope)
                    if of_features is not None:
                        gx += of_features
                    gw.append(of_weights)
            return (
                gx if needs.features else None,
                np.array(gw, weights.dtype).reshape(weights.shape) if needs.weights else None,
            )

        return outputs.reshape(*lead, *shape[1:]), pullback

    def _pulled(
        self, program: Program, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        dtype = _TORCH[features.dtype]
        compiled, part = program.on(dtype, _CPU), program.native.parts[1]
        section = compiled.sections[1]
        slots = torch.from_numpy(part.slots(weights)).to(dtype).requires_grad_(needs.weights)
        with torch.set_grad_enabled(needs.weights):  # off inside a function of autograd
            matrices = section.matrices(slots)
        pulled = pull_back(
            section, compiled.observables.numpy(), matrices.detach().numpy(), keep=needs.weights
        )
        rows = torch.from_numpy(pulled.rows)

        step = self.programs.rows_at_once(program, dtype)
        encode = partial(self.programs.encoded, program, model, dtype=dtype, device=_CPU)
        # With one slice its states are kept until the gradient; more are looked up again.
        whole = encode(features) if len(features) <= step else None
        slices = (
            [] if whole is not None else [slice(k, k + step) for k in range(0, len(features), step)]
        )
        outputs = (
            torch.cat([encode(features[some]).measure(rows) for some in slices])
            if whole is None
            else whole.measure(rows)
        )

        def pullback(cotangent: Array) -> tuple[Array | None, Array | None]:
            upstream = program.split(torch.from_numpy(np.ascontiguousarray(cotangent)))
            total = torch.zeros_like(rows) if whole is None else whole.combine(upstream)
            for some in slices:
                total += encode(features[some]).combine(upstream[some])
            if not needs.weights or not matrices.requires_grad:
                return None, np.zeros(weights.shape) if needs.weights else None
            slope = torch.from_numpy(pulled.gradient(total.numpy()))
            (by_slots,) = torch.autograd.grad(matrices, slots, slope, retain_graph=True)
            return None, part.pullback(weights, by_slots.double().numpy())

        return program.join(outputs).numpy(), pullback

    def _evolved(
        self, program: Program, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        dtype = _TORCH[features.dtype]
        per_row = evolve_bytes(program, dtype, gradient=needs.any)
        step = max(1, min(len(features), _EVOLVED_BYTES // per_row))
        slices = [slice(k, k + step) for k in range(0, len(features), step)]

        def run(some: slice, gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
            x = torch.from_numpy(features[some].copy()).requires_grad_(needs.features)
            w = torch.from_numpy(weights.copy()).requires_grad_(needs.weights)
            with torch.set_grad_enabled(gradient):
                return evolve(model, program, x, w, dtype), x, w

        kept = run(slices[0], needs.any) if len(slices) == 1 else None
        values = [(kept or run(some, False))[0].detach() for some in slices]
        nothing = torch.from_numpy(np.zeros((0, model.num_outputs), features.dtype))
        outputs = torch.cat([nothing, *values])

        def pullback(cotangent: Array) -> tuple[Array | None, Array | None]:
            gx, gw = np.zeros_like(features), np.zeros(weights.shape)
            for some in slices:
                y, x, w = kept or run(some, True)
                upstream = torch.from_numpy(np.ascontiguousarray(cotangent[some]))
                wanted = [t for t in (x, w) if t.requires_grad]
                slopes = torch.autograd.grad(
                    y, wanted, upstream, retain_graph=kept is not None, materialize_grads=True
                )
                found = dict(zip(map(id, wanted), slopes, strict=True))
                if needs.features:
                    gx[some] = found[id(x)].numpy()
                if needs.weights:
                    gw += found[id(w)].numpy()
            return gx, gw

        return outputs.numpy(), pullback

    def torch_outputs(
        self, model: CircuitModel, features: Tensor, weights: Tensor
    ) -> Tensor | None:
        """See `Engine.torch_outputs`: the same as torch operations, states kept on the device."""
        dtype, device = features.dtype, features.device
        check_weights(model, weights.detach().cpu().numpy())
        program = self.program(model)
        in_own_modes(program.on, dtype, device)  # kept
        self.usage.executions += len(features) * max(1, weights[..., 0].numel())
        rows = weights.reshape(-1, model.num_weights)
        if model.is_interleaved or features.requires_grad:
            if features.requires_grad and model.encoding.angle_pullback is None:
                raise model.encoding.no_derivative()
            values = [evolve(model, program, features, row, dtype) for row in rows]
        else:
            array = features.detach().cpu().numpy()
            encoded = in_own_modes(self.programs.encoded, program, model, array, dtype, device)
            states = encoded.tensor()
            values = [
                program.join(states @ through_ansatz(program, row.to(device), dtype).T)
                for row in rows
            ]
        outputs = torch.stack(values).reshape(*weights.shape[:-1], *values[0].shape)
        return counted(outputs, self.usage)


class _Always:
    """One device for circuits of any width, in a form that can be pickled."""

    def __init__(self, device: DeviceNoise) -> None:
        self._device = device

    def __call__(self, num_qubits: int) -> DeviceNoise:
        del num_qubits
        return self._device


def _other_dtype(dtype: np.dtype[Any]) -> DataError:
    return DataError(
        "the noisy engine computes in single or double precision",
        got=str(dtype),
        expected="float32 or float64",
        remedy="Convert the features first.",
    )
