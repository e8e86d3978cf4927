# SPDX-License-Identifier: Apache-2.0
"""`ProgramCache`: what is made once and shared by engines of equal settings.

Transpiled and fused circuits, and encoded data. Ten students of a study differ in their weights,
not in their circuit: they find the states of the data set that the first of them encoded.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from qiskit import qpy
from torch import Tensor

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.execution.engine import Array
from qiskit_kd.execution.memory import require_memory
from qiskit_kd.execution.noise_sources import DeviceNoise
from qiskit_kd.execution.noisy.isa import ISACircuit, to_isa
from qiskit_kd.execution.noisy.programs import Program
from qiskit_kd.execution.noisy.states import EncodedRows, StateStore

_KEPT_MODELS = 64
_KEPT_PROGRAMS = 16
_ENCODED_AT_ONCE = 32  # rows; their states should stay in the processor's cache
_COPIES = 4  # of the states that a sweep holds at once
_FEWER = "Use fewer qubits, float32, or shots with sampled_by: qiskit_aer."


class ProgramCache:
    """Programs and encoded data of one noisy device.

    Args:
        open_device: The device for a number of qubits (a set of rates is as wide as it has to be).
        optimization_level: Of the transpiler.
        seed: Of the transpiler.
        idle: Whether qubits that wait relax; see `to_isa`.
        cutoff: See `channels.fixed_transfer`.
        cache_bytes: Bytes of encoded data kept at most.
    """

    def __init__(
        self,
        open_device: Callable[[int], DeviceNoise],
        *,
        optimization_level: int = 3,
        seed: int = 0,
        idle: bool = False,
        cutoff: float = 0.0,
        cache_bytes: int = 2 * 2**30,
    ) -> None:
        self._open_device = open_device
        self._options: dict[str, Any] = {
            "optimization_level": optimization_level,
            "seed": seed,
            "idle": idle,
        }
        self._cutoff = cutoff
        self._cache_bytes = cache_bytes
        self._clear()

    def _clear(self) -> None:
        self.states = StateStore(self._cache_bytes)
        self._programs: OrderedDict[object, Program] = OrderedDict()
        self.made: dict[CircuitModel, Program] = {}
        """Programs of the models that asked last."""
        self._natives: OrderedDict[object, ISACircuit] = OrderedDict()
        self.transpilations = 0
        self._originals: WeakKeyDictionary[CircuitModel, CircuitModel] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        names = ("_open_device", "_options", "_cutoff", "_cache_bytes")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> ProgramCache:
        return self  # it holds no state of its own that results depend on

    def device(self, num_qubits: int) -> DeviceNoise:
        """The device for circuits of so many qubits."""
        return self._open_device(num_qubits)

    def native(self, model: CircuitModel) -> ISACircuit:
        """The model's circuit alone; no memory for its density matrices is asked for.

        Models of the same content share it: every student of a study brings a model of its own.

        Raises:
            CircuitError: If it does not fit the device.
        """
        original = self._originals.get(model)
        qubits = None if original is None else self.program(original).native.first
        key = (_content(model), qubits)
        if key not in self._natives:
            if len(self._natives) >= _KEPT_MODELS:
                self._natives.popitem(last=False)
            self._natives[key] = to_isa(
                model, self._open_device(model.num_qubits), qubits=qubits, **self._options
            )
            self.transpilations += 1
        self._natives.move_to_end(key)
        return self._natives[key]

    def place(self, model: CircuitModel, *, like: CircuitModel) -> None:
        """Run one model on the qubits of another: it is the same circuit in another form."""
        self._originals[model] = like

    def place_as(self, model: CircuitModel, other: CircuitModel) -> None:
        """Run one model wherever another one is placed, if it is placed at all."""
        if other in self._originals:
            self._originals[model] = self._originals[other]

    def program(self, model: CircuitModel) -> Program:
        """The model with its noise, transpiled on first use; equal circuits share one program.

        Raises:
            CircuitError: If it does not fit the device.
            ResourceError: If its density matrices do not fit into memory.
        """
        found = self.made.get(model)
        if found is not None:
            return found
        device = self._open_device(model.num_qubits)
        native = self.native(model)
        _require_sweep(model, native)
        key = (native.fingerprint(), _readout_key(model))
        if key not in self._programs:
            if len(self._programs) >= _KEPT_PROGRAMS:
                self._programs.popitem(last=False)
            self._programs[key] = Program(model, native, device, cutoff=self._cutoff)
            if model.is_interleaved:
                warnings.warn(
                    "data and weights interleave in this circuit, so every step carries the states "
                    "of its whole batch through all gates, and its cost grows with the batch; an "
                    "encoding with one layer is encoded once",
                    UserWarning,
                    stacklevel=2,
                )
        if len(self.made) >= _KEPT_MODELS:
            self.made.pop(next(iter(self.made)))
        program = self.made[model] = self._programs[key]
        return program

    def encoded(
        self,
        program: Program,
        model: CircuitModel,
        features: Array,
        dtype: torch.dtype,
        device: torch.device,
    ) -> EncodedRows:
        """Density matrices, `4**wires` numbers each, of the rows behind the noisy encoding.

        Raises:
            DataError: If a row cannot be encoded.
            ResourceError: If the states do not fit into memory.
        """
        model.encoding.check(features)
        each = program.row_bytes[dtype]

        def encode(rows: Array) -> Tensor:
            if device.type == "cpu":
                work = _COPIES * min(len(rows), _ENCODED_AT_ONCE)
                require_memory(
                    (len(rows) + work) * each,
                    f"the density matrices of {len(rows):,} samples on {program.num_wires} qubits",
                    f"{_FEWER[:-1]}, or fewer samples.",
                )
            return encode_rows(model, program, rows, dtype, device)

        # Equal circuits may read their angles from the data in different ways.
        key = (program, _map_key(model.encoding.angle_map), dtype, device)
        return self.states.rows(key, features, encode, each)

    def rows_at_once(self, program: Program, dtype: torch.dtype) -> int:
        """Rows whose states a step holds at once."""
        return max(1, int(min(self._cache_bytes, 2**30)) // program.row_bytes[dtype])


def encode_rows(
    model: CircuitModel, program: Program, rows: Array, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Carry |0...0> through the noisy encoding of every row, a few rows at a time."""
    compiled = program.on(dtype, device)
    section, part = compiled.sections[0], program.native.parts[0]
    out = torch.empty(len(rows), len(compiled.zero), dtype=dtype, device=device)
    with torch.no_grad():
        for first in range(0, len(rows), _ENCODED_AT_ONCE):
            some = rows[first : first + _ENCODED_AT_ONCE]
            angles = model.encoding.angles(np.asarray(some, np.float64))
            slots = torch.from_numpy(part.slots(angles)).to(dtype=dtype, device=device)
            start = compiled.zero.expand(len(some), -1)
            out[first : first + len(some)] = section.sweep(
                start, section.matrices(slots), adjoint=False
            )
    return out


def _require_sweep(model: CircuitModel, native: ISACircuit) -> None:
    wires = max(2, len(native.active))
    gates = [sum(len(g.qubits) == 2 for g in part.gates) for part in native.parts]
    rows = model.num_outputs * (max(gates, default=0) + _COPIES) + _COPIES
    require_memory(rows * 4**wires * 8, f"the noisy simulation of {wires} qubits", _FEWER)


def _content(model: CircuitModel) -> str:
    """What the native circuit of a model depends on, equal for equal circuits."""
    sizes = (model.encoding.layers, len(model.encoding.circuit.data), _readout_key(model))
    digest = hashlib.sha256(repr(sizes).encode())
    with io.BytesIO() as stream:
        qpy.dump(model.circuit, stream)  # its parameters are the same objects in every model
        digest.update(stream.getvalue())
    return digest.hexdigest()


def _map_key(angle_map: Any) -> Hashable:
    """Equal for angle maps that are equal for certain: one object, or one function's partials."""
    if isinstance(angle_map, partial):
        key = (angle_map.func, angle_map.args, tuple(sorted(angle_map.keywords.items())))
        try:
            hash(key)
        except TypeError:
            return angle_map
        return key
    return cast(Hashable, angle_map)


def _readout_key(model: CircuitModel) -> object:
    readout = model.readout
    if readout.is_diagonal:
        return (readout.num_outputs, readout.matrix.tobytes())
    return tuple(str(op.to_list()) for op in readout.operators)  # type: ignore[union-attr]
