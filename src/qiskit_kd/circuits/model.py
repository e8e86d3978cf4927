# SPDX-License-Identifier: Apache-2.0
"""`Encoding` and `CircuitModel`: what is run, apart from how.

A `CircuitModel` is an encoding of the data, a trainable ansatz and a readout. It says nothing of
simulators or devices; any engine of `qiskit_kd.execution` runs it. This module must not import
torch: its circuits are for any Qiskit user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import InitVar, dataclass, field, fields
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector

from qiskit_kd.circuits.amplitude_encoding import tree_angles, tree_circuit, tree_pullback
from qiskit_kd.circuits.checks import bare, check_unitary
from qiskit_kd.circuits.mixing import take_apart, unmeasured
from qiskit_kd.circuits.parameters import feature_order, input_parameters, rename, weight_parameters
from qiskit_kd.circuits.readouts import ClassGroups, Observables, Readout
from qiskit_kd.errors import CircuitError, DataError
from qiskit_kd.values import python_number

Array = NDArray[np.floating]
Parameters = Iterable[Parameter | str | ParameterVector] | None
"""Some parameters of a circuit, or their names."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """A parametric circuit together with the map from features to its angles.

    An encoding is a value: it keeps its own copy of the circuit.

    Args:
        name: Registered name, e.g. `"amplitude"`.
        circuit: Free parameters only for the angles; no weights.
        num_features: Width of a data row.
        angle_map: `(batch, num_features) -> (batch, num_inputs)` angles in radians.
        angle_pullback: `(x, gradient of the angles) -> gradient of x`, the vector-Jacobian product
            of `angle_map`; None where the map has no derivative.
        is_amplitude: The circuit prepares exactly `x / ||x||` (padded with zeros to `2**n`), so an
            exact engine may skip the circuit.
        zero_is_undefined: Rows are normalised, so the zero vector has no encoding; implied by
            `is_amplitude`.
        layers: How often the encoding is repeated, each time followed by its own copy of the
            ansatz (data re-uploading, Perez-Salinas et al., arXiv:1907.02085).
        scale: Where each angle is that many times its feature; an engine may then do without
            `angle_map`.
        mixed: The circuit is empty: the ansatz takes the angles itself, one a feature, by the names
            `input_00` and on (see `CircuitModel.from_circuit`).
        inputs: The circuit's parameters (or their names) in the order of the angles; None where
            their names tell it: `x0 ... x11` and `x[0] ... x[11]` count as a person counts, not as
            text is sorted.

    Raises:
        CircuitError: If there is no circuit, it is not unitary or has no parameters, their order is
            unclear, or a number is below 1.
    """

    name: str
    circuit: QuantumCircuit = field(repr=False)
    num_features: int
    angle_map: Callable[[Array], Array] = field(repr=False)
    angle_pullback: Callable[[Array, Array], Array] | None = field(
        default=None, kw_only=True, repr=False
    )
    is_amplitude: bool = field(default=False, kw_only=True)
    zero_is_undefined: bool = field(default=False, kw_only=True)
    layers: int = field(default=1, kw_only=True)
    scale: float | None = field(default=None, kw_only=True)
    mixed: bool = field(default=False, kw_only=True)
    inputs: InitVar[Sequence[Parameter | str] | None] = field(default=None, kw_only=True)

    def __post_init__(self, inputs: Sequence[Parameter | str] | None) -> None:
        _check_part("the circuit of an encoding", self.circuit, QuantumCircuit)
        check_unitary(self.circuit, part="an encoding")
        if self.circuit.num_parameters == 0 and not self.mixed:
            raise CircuitError(
                "an encoding has at least one angle",
                got="a circuit without parameters",
                remedy="Replace the angles the data set by qiskit.circuit.Parameter.",
            )
        for name in ("num_features", "layers"):
            object.__setattr__(self, name, python_number(getattr(self, name)))
        numbers = (self.num_features, self.layers)
        if any(not isinstance(k, int) or isinstance(k, bool) or k < 1 for k in numbers):
            raise CircuitError(
                "an encoding takes at least one feature, at least once",
                got=f"num_features={self.num_features!r}, layers={self.layers!r}",
                expected="1 or more of each",
            )
        circuit = bare(self.circuit, part="an encoding")
        order = [] if self.mixed else feature_order(circuit, inputs)
        if order != list(circuit.parameters):
            circuit = rename(circuit, input_parameters(len(order)), order)
        object.__setattr__(self, "circuit", circuit)
        if self.is_amplitude:
            object.__setattr__(self, "zero_is_undefined", True)

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}  # without caches

    @cached_property
    def num_qubits(self) -> int:
        """Qubits of the circuit."""
        return int(self.circuit.num_qubits)

    @cached_property
    def num_inputs(self) -> int:
        """Number of encoding angles."""
        return self.num_features if self.mixed else int(self.circuit.num_parameters)

    def check(self, x: Array) -> None:
        """Refuse rows that cannot be encoded, naming the row.

        Raises:
            DataError: If the values are no real numbers, the width is wrong, a value is NaN or
                infinite, or a row that has to be normalised has no norm.
        """
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu":
            raise DataError(
                "features are an array of real numbers",
                got=f"an array of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__,
                expected="a numpy array of floating-point numbers",
            )
        if x.ndim != 2 or x.shape[1] != self.num_features:
            raise DataError(
                f"the encoding {self.name!r} takes rows of {self.num_features} features",
                got=f"shape {x.shape}",
                expected=f"(batch, {self.num_features})",
                remedy="Change the data or the number of qubits of the encoding.",
            )
        # One sum finds NaN and infinity alike, at a tenth of the price of isfinite().all().
        with np.errstate(over="ignore", invalid="ignore"):
            suspect = not np.isfinite(x.sum())
        if suspect and not (finite := np.isfinite(x)).all():
            row, column = np.argwhere(~finite)[0]
            raise DataError(
                "features are finite numbers",
                got=f"{x[row, column]} in row {row}, feature {column}",
                remedy="Remove or impute the row.",
            )
        if self.zero_is_undefined:
            with np.errstate(over="ignore", under="ignore"):
                squares = np.einsum("bf,bf->b", x, x, dtype=np.result_type(x, np.float32))
            bad = np.flatnonzero((squares == 0) | ~np.isfinite(squares))
            if len(bad):
                what = "a zero vector" if not x[bad[0]].any() else "a norm that over- or underflows"
                raise DataError(
                    "amplitude encoding normalises each row, so no row may be all zeros",
                    got=f"{what} in row {bad[0]}"
                    + (f" and {len(bad) - 1} more" if len(bad) > 1 else ""),
                    remedy="Drop the row, add a constant feature, or scale the data.",
                )

    def angles(self, x: Array) -> Array:
        """`(batch, num_features)` features to `(batch, num_inputs)` angles in radians.

        Computed in float64; returned in the floating-point type of `x` (float64 for integers).

        Raises:
            DataError: As `check`.
            CircuitError: If `angle_map` returns another shape.
        """
        self.check(x)
        angles = self.angle_map(x.astype(np.float64, copy=False))
        if angles.shape != (len(x), self.num_inputs):
            raise CircuitError(
                f"the angle map of the encoding {self.name!r} gives one angle per parameter",
                got=f"shape {angles.shape}",
                expected=f"{(len(x), self.num_inputs)}",
            )
        return angles.astype(x.dtype if x.dtype.kind == "f" else np.float64, copy=False)

    @property
    def is_differentiable(self) -> bool:
        """Whether gradients reach the features: by a pullback or, exactly, as amplitudes."""
        return self.angle_pullback is not None or self.is_amplitude

    def pullback(self, x: Array, gradient: Array) -> Array:
        """Gradient of the angles `(batch, num_inputs)` to that of the features.

        Raises:
            CircuitError: If the angle map has no derivative.
        """
        if self.angle_pullback is None:
            raise self.no_derivative()
        return self.angle_pullback(x, gradient)

    def no_derivative(self) -> CircuitError:
        """The error for features that require a gradient this encoding cannot give."""
        return CircuitError(
            f"the encoding {self.name!r} has no derivative with respect to the features",
            got="features that require a gradient",
            expected="an encoding with an angle_pullback",
            remedy="Detach the features, or use the encodings amplitude or angle behind trainable "
            "layers.",
        )


@dataclass(frozen=True, eq=False)
class CircuitModel:
    """Encoding, ansatz and readout: one trainable circuit.

    A model is a value: it keeps its own copy of the ansatz, copies of a model are the model
    itself, and a pickled model carries no caches.

    Args:
        encoding: How a sample enters.
        ansatz: Any `QuantumCircuit` without measurements; its parameters, in Qiskit's own order
            (`circuit.parameters`, sorted by name as text), become the weights. A transpiled one
            acts on the qubits it had before it was transpiled.
        readout: What is returned.

    Raises:
        CircuitError: If a part is of another type, the widths differ, the ansatz has no weights, or
            it measures, resets or branches in the middle.
    """

    encoding: Encoding
    ansatz: QuantumCircuit = field(repr=False)
    readout: Readout

    def __post_init__(self) -> None:
        _check_part("the encoding of a model", self.encoding, Encoding)
        _check_part("the ansatz of a model", self.ansatz, QuantumCircuit)
        _check_part("the readout of a model", self.readout, ClassGroups, Observables)
        check_unitary(self.ansatz, part="an ansatz")
        object.__setattr__(self, "ansatz", bare(self.ansatz, part="an ansatz"))
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
        if self.num_weights < 1:
            raise CircuitError(
                "an ansatz has at least one trainable weight",
                got="a circuit without parameters",
                remedy="Replace fixed angles by qiskit.circuit.Parameter.",
            )

    @classmethod
    def from_circuit(
        cls,
        circuit: QuantumCircuit,
        inputs: Parameters = None,
        weights: Parameters = None,
        readout: Readout | None = None,
    ) -> CircuitModel:
        """A model of any circuit, in which data and weights may mix.

        Features are the angles, in radians, of the parameters in `inputs`, which may enter many
        gates, in any expression, with weights too. Where all gates of the data come first, the
        model has an encoding and an ansatz, like any other; else every sample has a circuit of its
        own, and a step costs as much as its batch is long. A `RawFeatureVector` becomes amplitude
        encoding.

        Args:
            circuit: Final measurements are dropped.
            inputs: Parameters, names or `ParameterVector`s that a data row sets, in the order of
                the features; None for all that are not in `weights`.
            weights: The same for the trainable weights.
            readout: What is returned.

        Raises:
            CircuitError: If a parameter is neither input nor weight, or both, or the circuit is not
                unitary.
        """
        _check_part("the circuit of a model", circuit, QuantumCircuit)
        parts = take_apart(unmeasured(circuit)[0], inputs, weights)
        _check_part("the readout of a model", readout, ClassGroups, Observables)
        assert readout is not None
        n, count = parts.ansatz.num_qubits, parts.num_features
        if parts.is_amplitude:
            encoding = amplitudes(n, count)
        else:
            mixed, own = parts.encoding is None and count > 0, parts.encoding or QuantumCircuit(n)
            encoding = scaled("features", own, count, 1.0, mixed=mixed)
        return cls(encoding, parts.ansatz, readout)

    def __copy__(self) -> CircuitModel:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> CircuitModel:
        # Immutable, and engines keep their compiled plans by identity.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.encoding, self.ansatz, self.readout))

    @cached_property
    def num_qubits(self) -> int:
        """Qubits of the circuit."""
        return int(self.ansatz.num_qubits)

    @cached_property
    def num_features(self) -> int:
        """Width of a data row."""
        return self.encoding.num_features

    @cached_property
    def num_inputs(self) -> int:
        """Number of encoding angles."""
        return self.encoding.num_inputs

    @cached_property
    def num_weights(self) -> int:
        """Number of trainable weights."""
        own = self.num_inputs if self.encoding.mixed else 0
        return int(self.ansatz.num_parameters) * self.encoding.layers - own

    @cached_property
    def num_outputs(self) -> int:
        """Number of class probabilities or expectation values."""
        return self.readout.num_outputs

    @cached_property
    def inputs(self) -> tuple[Parameter, ...]:
        """Encoding angles in order."""
        return tuple(input_parameters(self.num_inputs))

    @cached_property
    def weights(self) -> tuple[Parameter, ...]:
        """Trainable weights in order: those of the first copy of the ansatz first."""
        return tuple(weight_parameters(self.num_weights))

    @cached_property
    def is_interleaved(self) -> bool:
        """Whether data enter behind weights, so that every sample has a circuit of its own."""
        return self.encoding.layers > 1 or self.encoding.mixed

    @cached_property
    def ansatz_blocks(self) -> tuple[QuantumCircuit, ...]:
        """One copy of the ansatz per encoding layer, each with its own weights."""
        if self.encoding.mixed:
            return (self.ansatz,)
        each = int(self.ansatz.num_parameters)
        return tuple(
            rename(self.ansatz, self.weights[k * each : (k + 1) * each])
            for k in range(self.encoding.layers)
        )

    @cached_property
    def encoding_circuit(self) -> QuantumCircuit:
        """The encoding alone, its parameters named `inputs`."""
        return rename(self.encoding.circuit, self.inputs)

    @property
    def pieces(self) -> tuple[QuantumCircuit, ...]:
        """Encoding and ansatz in turn; the whole circuit where data and weights mix."""
        if self.encoding.mixed:
            return self.ansatz_blocks
        return tuple(p for block in self.ansatz_blocks for p in (self.encoding_circuit, block))

    @cached_property
    def circuit(self) -> QuantumCircuit:
        """The composed circuit, unmeasured; `circuit.parameters` = inputs, then weights."""
        whole = QuantumCircuit(self.num_qubits, name="model")
        for piece in self.pieces:
            whole.compose(piece, inplace=True)
        return whole


def amplitudes(num_qubits: int, num_features: int) -> Encoding:
    """The exact encoding of so many features as amplitudes."""
    return Encoding(
        "amplitude",
        tree_circuit(num_qubits),
        num_features,
        partial(tree_angles, num_qubits),
        angle_pullback=partial(tree_pullback, num_qubits),
        is_amplitude=True,
    )


def scaled(
    name: str, circuit: QuantumCircuit, num_features: int, scale: float, **options: Any
) -> Encoding:
    """An encoding whose angles are the features, times a scale."""
    back = partial(_slope_times, scale)
    options = {"angle_pullback": back, "scale": float(scale), **options}
    return Encoding(name, circuit, num_features, partial(_times, scale), **options)


# Named functions, not lambdas: encodings are pickled to worker processes.
def _times(scale: float, x: Array) -> Array:
    return scale * x


def _slope_times(scale: float, x: Array, gradient: Array) -> Array:  # noqa: ARG001
    return scale * gradient


def check_model(model: object, *, part: str) -> None:
    """Refuse anything but a circuit model."""
    if not isinstance(model, CircuitModel):
        raise CircuitError(
            f"{part} is made from a CircuitModel",
            got=type(model).__name__,
            remedy="Build one: CircuitModel(encoding, ansatz, readout).",
        )


def _check_part(part: str, value: object, *kinds: type) -> None:
    if not isinstance(value, kinds):
        raise CircuitError(
            f"{part} is of the wrong type",
            got=type(value).__name__,
            expected=" or ".join(kind.__name__ for kind in kinds),
            remedy="Wrap a circuit of your own and the map to its angles in an Encoding."
            if kinds == (Encoding,)
            else None,
        )
