# SPDX-License-Identifier: Apache-2.0
"""`Encoding` and `CircuitModel`: what is run, apart from how.

A `CircuitModel` is an encoding of the data, a trainable ansatz and a readout. It says nothing of
simulators or devices; any engine of `qiskit_kd.execution` runs it. This module must not import
torch: its circuits are for any Qiskit user.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qiskit_kd.circuits.parameters import input_parameters, rename, weight_parameters
from qiskit_kd.circuits.readouts import Readout
from qiskit_kd.errors import CircuitError, DataError

__all__ = ["CircuitModel", "Encoding"]

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Encoding:
    """A parametric circuit together with the map from features to its angles.

    Args:
        name: Registered name, e.g. `"amplitude"`.
        circuit: Free parameters `input_00 ...` in order; no weights.
        num_features: Width of a data row.
        angle_map: `(batch, num_features) -> (batch, num_inputs)` angles in radians.
        angle_pullback: `(x, gradient of the angles) -> gradient of x`, the vector-Jacobian product
            of `angle_map`; None where the map has no derivative.
        is_amplitude: The circuit prepares exactly `x / ||x||` (padded with zeros to `2**n`), so an
            exact engine may skip the circuit.
        layers: How often the encoding is repeated, each time followed by its own copy of the
            ansatz (data re-uploading, Perez-Salinas et al., arXiv:1907.02085).
    """

    name: str
    circuit: QuantumCircuit
    num_features: int
    angle_map: Callable[[Array], Array]
    angle_pullback: Callable[[Array, Array], Array] | None = field(default=None, kw_only=True)
    is_amplitude: bool = field(default=False, kw_only=True)
    layers: int = field(default=1, kw_only=True)

    @property
    def num_qubits(self) -> int:
        """Qubits of the circuit."""
        return int(self.circuit.num_qubits)

    @property
    def num_inputs(self) -> int:
        """Number of encoding angles."""
        return int(self.circuit.num_parameters)

    def check(self, x: Array) -> None:
        """Refuse rows that cannot be encoded, naming the row.

        Raises:
            DataError: If the width is wrong, a value is NaN or infinite, or, for amplitude
                encodings, a row is zero.
        """
        if x.ndim != 2 or x.shape[1] != self.num_features:
            raise DataError(
                f"the encoding {self.name!r} takes rows of {self.num_features} features",
                got=f"shape {x.shape}", expected=f"(batch, {self.num_features})",
                remedy="Change the data or the number of qubits of the encoding.",
            )  # fmt: skip
        # One sum finds NaN and infinity alike, at a tenth of the price of isfinite().all().
        if not np.isfinite(x.sum()) and not (finite := np.isfinite(x)).all():
            row, column = np.argwhere(~finite)[0]
            raise DataError(
                "features are finite numbers", got=f"{x[row, column]} in row {row}, feature {column}",
                remedy="Remove or impute the row.",
            )  # fmt: skip
        if self.zero_is_undefined:
            empty = np.flatnonzero(np.einsum("bf,bf->b", x, x) == 0)
            if len(empty):
                raise DataError(
                    "amplitude encoding normalises each row, so no row may be all zeros",
                    got=f"a zero vector in row {empty[0]}"
                    + (f" and {len(empty) - 1} more" if len(empty) > 1 else ""),
                    remedy="Drop the row or add a constant feature.",
                )  # fmt: skip

    @property
    def zero_is_undefined(self) -> bool:
        """Whether the zero vector has no encoding (amplitude encodings)."""
        return self.name.startswith("amplitude")

    def angles(self, x: Array) -> Array:
        """`(batch, num_features)` features to `(batch, num_inputs)` angles in radians.

        Raises:
            DataError: As `check`.
        """
        self.check(x)
        return self.angle_map(x)


@dataclass(frozen=True, eq=False)
class CircuitModel:
    """Encoding, ansatz and readout: one trainable circuit.

    Args:
        encoding: How a sample enters.
        ansatz: Any `QuantumCircuit` without measurements; its parameters, in Qiskit's own order,
            become the weights.
        readout: What is returned.

    Raises:
        CircuitError: If the widths differ, the ansatz has no weights, or it measures, resets or
            branches in the middle.
    """

    encoding: Encoding
    ansatz: QuantumCircuit
    readout: Readout

    def __post_init__(self) -> None:
        widths = {
            "encoding": self.encoding.num_qubits,
            "ansatz": self.ansatz.num_qubits,
            "readout": self.readout.num_qubits,
        }
        if len(set(widths.values())) > 1:
            raise CircuitError(
                "encoding, ansatz and readout act on the same qubits",
                got=", ".join(f"{part}: {n}" for part, n in widths.items()),
                expected="one number of qubits",
            )
        for item in self.ansatz.data:
            operation = item.operation
            if operation.name in ("measure", "reset", "initialize") or hasattr(operation, "blocks"):
                raise CircuitError(
                    "an ansatz is unitary: no mid-circuit measurement, reset or control flow",
                    got=f"{operation.name!r} on qubits "
                    f"{[self.ansatz.find_bit(q).index for q in item.qubits]}",
                    remedy="Remove it; measurements are added by the readout.",
                )
        if self.ansatz.num_parameters == 0:
            raise CircuitError(
                "an ansatz has at least one trainable weight", got="a circuit without parameters",
                remedy="Replace fixed angles by qiskit.circuit.Parameter.",
            )  # fmt: skip

    @property
    def num_qubits(self) -> int:
        """Qubits of the circuit."""
        return int(self.ansatz.num_qubits)

    @property
    def num_features(self) -> int:
        """Width of a data row."""
        return self.encoding.num_features

    @property
    def num_inputs(self) -> int:
        """Number of encoding angles."""
        return self.encoding.num_inputs

    @property
    def num_weights(self) -> int:
        """Number of trainable weights."""
        return int(self.ansatz.num_parameters) * self.encoding.layers

    @property
    def num_outputs(self) -> int:
        """Number of class probabilities or expectation values."""
        return self.readout.num_outputs

    @cached_property
    def inputs(self) -> tuple[Parameter, ...]:
        """Encoding angles in order."""
        return tuple(input_parameters(self.num_inputs))

    @cached_property
    def weights(self) -> tuple[Parameter, ...]:
        """Trainable weights in order."""
        return tuple(weight_parameters(self.num_weights))

    @cached_property
    def ansatz_blocks(self) -> tuple[QuantumCircuit, ...]:
        """One copy of the ansatz per encoding layer, each with its own weights."""
        each = int(self.ansatz.num_parameters)
        return tuple(
            rename(self.ansatz, self.weights[k * each : (k + 1) * each])
            for k in range(self.encoding.layers)
        )

    @cached_property
    def circuit(self) -> QuantumCircuit:
        """The composed circuit, unmeasured; `circuit.parameters` = inputs, then weights."""
        encode = rename(self.encoding.circuit, self.inputs)
        whole = QuantumCircuit(self.num_qubits, name="model")
        for block in self.ansatz_blocks:
            whole.compose(encode, inplace=True)
            whole.compose(block, inplace=True)
        return whole
