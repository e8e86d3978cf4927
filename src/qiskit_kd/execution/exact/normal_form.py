# SPDX-License-Identifier: Apache-2.0
"""The normal form of a circuit: layers of [RY rotations, one phase, one permutation].

Every operation sinks to the earliest layer it commutes to, so runs of diagonal gates become one
phase vector `exp(i (G R z + c))`, runs of CX, X and SWAP one index permutation, and rotations of
different qubits one real Kronecker product. Layer 0 has no rotations.

    state -> phase * (RY layer @ state), then state[permutation]

`z` are the parameters (and derived variables, see `rows`). A last phase that no Z-basis readout
can see is dropped by the caller, not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterExpression

from qiskit_kd.errors import CircuitError
from qiskit_kd.execution.exact.lowering import Diagonal, RotationY, lower
from qiskit_kd.execution.expansion import AngleMap, real

Array = NDArray[np.floating]


class AngleRows:
    """Collects rows while a circuit is lowered; afterwards maps values to variables and back.

    Args:
        parameters: The parameters, in the order in which values will come.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = tuple(parameters)
        self._column = {p: k for k, p in enumerate(self.parameters)}
        self._derived: list[ParameterExpression] = []

    @property
    def width(self) -> int:
        """Number of variables, derived ones included, without the constant."""
        return len(self.parameters) + len(self._derived)

    @property
    def is_affine(self) -> bool:
        """Whether there are no derived variables."""
        return not self._derived

    def row(self, angle: Any) -> dict[int, float]:
        """`{variable: coefficient}` of an angle; key -1 is the constant term.

        Raises:
            CircuitError: If the angle depends on a parameter that is none of ours.
        """
        free = getattr(angle, "parameters", None)
        if not free:
            return {-1: real(angle)}
        slopes = {}
        for p in free:
            if p not in self._column:
                raise CircuitError(
                    "every circuit parameter is an input or a weight",
                    got=f"{p.name!r}",
                    expected=", ".join(q.name for q in self.parameters) or "no parameters",
                )
            slopes[self._column[p]] = angle.gradient(p)
        if any(getattr(slope, "parameters", ()) for slope in slopes.values()):
            return {self._derive(angle): 1.0}
        row = {k: real(slope) for k, slope in slopes.items()}
        row[-1] = real(angle.bind(dict.fromkeys(free, 0.0)))
        return row

    def _derive(self, angle: ParameterExpression) -> int:
        if angle not in self._derived:
            self._derived.append(angle)
        return len(self.parameters) + self._derived.index(angle)

    @cached_property
    def _curved(self) -> AngleMap:
        return AngleMap(self.parameters, tuple(self._derived))

    def variables(self, values: Array) -> Array:
        """`(parameters,)` or `(parameters, batch)` to `(width, ...)`: derived ones appended."""
        if not self._derived:
            return values
        derived = self._curved(values.T).T.astype(values.dtype)
        return np.concatenate([values, derived])

    def pullback(self, values: Array, gradient: Array) -> Array:
        """Gradient of the variables `(width, ...)` to gradient of the parameters."""
        if not self._derived:
            return gradient
        count = len(self.parameters)
        through = self._curved.pullback(values.T, gradient[count:].T).T
        return gradient[:count] + through.astype(gradient.dtype)


Row = dict[int, float]
Float = NDArray[np.float64]


class Layer:
    """One layer while it is being filled."""

    def __init__(self, num_qubits: int) -> None:
        self.ry: dict[int, Row] = {}
        self.constant = np.zeros(2**num_qubits)
        self.terms: dict[bytes, tuple[Float, Row]] = {}
        self.permutation = np.arange(2**num_qubits)
        self.touched: set[int] = set()

    def add_phase(self, generator: Float, row: Row) -> None:
        """Add `generator * (row . z)` to the phase in front of the permutation."""
        self.constant += generator * row.get(-1, 0.0)
        variable = {k: c for k, c in row.items() if k >= 0}
        if variable:
            # A digest, since the bytes themselves would be a second copy of every generator.
            key = hashlib.blake2b(generator.tobytes(), digest_size=16).digest()
            _, rows = self.terms.setdefault(key, (generator, {}))
            for k, c in variable.items():
                rows[k] = rows.get(k, 0.0) + c


@dataclass(frozen=True, slots=True)
class NormalForm:
    """Layers plus the map from parameters to angles."""

    num_qubits: int
    layers: tuple[Layer, ...]
    angles: AngleRows


def normal_form(
    circuit: QuantumCircuit, parameters: Sequence[Parameter], *, keep_last: bool
) -> NormalForm:
    """Bring `circuit` to normal form.

    Args:
        circuit: Unitary circuit whose free parameters are among `parameters`.
        parameters: Order in which parameter values will come.
        keep_last: End with an empty layer, so that the phase and the permutation of the last real
            layer are carried out too; needed for states and non-diagonal observables.
    """
    n = circuit.num_qubits
    angles = AngleRows(parameters)
    basis = np.arange(2**n)
    layers = [Layer(n)]

    def local(qubits: Sequence[int]) -> NDArray[np.intp]:
        return sum(
            (((basis >> q) & 1) << k for k, q in enumerate(qubits)), start=np.zeros_like(basis)
        )

    def slot(qubits: Sequence[int]) -> Layer:
        k, wanted = len(layers) - 1, set(qubits)
        while k and not wanted & (layers[k].ry.keys() | layers[k].touched):
            k -= 1
        layers[k].touched |= wanted
        return layers[k]

    def rotate(item: RotationY) -> None:
        q = item.qubit
        if len(layers) == 1 or q in layers[-1].touched:
            layers.append(Layer(n))
        k = len(layers) - 1
        while k > 1 and q not in layers[k].ry and q not in layers[k - 1].touched:
            k -= 1
        rows = layers[k].ry.setdefault(q, {})
        for column, value in angles.row(item.angle).items():
            rows[column] = rows.get(column, 0.0) + value

    for item in lower(circuit):
        if isinstance(item, RotationY):
            rotate(item)
        elif isinstance(item, Diagonal):
            layer = slot(item.qubits)
            generator = np.zeros(2**n)  # stored in front of the permutation
            generator[layer.permutation] = np.array(item.generator)[local(item.qubits)]
            layer.add_phase(generator, angles.row(item.angle))
        else:
            layer, move = slot(item.qubits), basis.copy()
            source = np.array(item.source)[local(item.qubits)]
            for k, q in enumerate(item.qubits):
                move = (move & ~(1 << q)) | (((source >> k) & 1) << q)
            layer.permutation = layer.permutation[move]
    if keep_last:
        layers.append(Layer(n))
    return NormalForm(n, tuple(layers), angles)
