# SPDX-License-Identifier: Apache-2.0
"""`CircuitSpec`: what a student's circuit is. It builds, names, hashes and describes itself.

Equal specs share one model, so hundreds of students of one structure share what engines work out
for it, and whether all of its weights can learn is found out once.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache, wraps
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from qiskit import QuantumCircuit
from torch import nn

from qiskit_kd.circuits import (
    CircuitModel,
    ClassGroups,
    Encoding,
    Observables,
    Readout,
    ansatze,
    dead_weights,
    encodings,
    load_ansatz,
    warn_dead_weights,
)
from qiskit_kd.errors import (
    CircuitError,
    ConfigError,
    QiskitKDError,
    ResourceError,
    UnknownNameError,
)
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Engine
from qiskit_kd.execution.exact.engine import effective_weights
from qiskit_kd.nn.layer import QuantumLayer
from qiskit_kd.nn.modules import Start, check_sizes
from qiskit_kd.registry import Registry
from qiskit_kd.values import (
    gathered,
    keywords,
    listed,
    python_number,
    shown,
    spread_parameters,
    whole,
    with_signature,
)

T = TypeVar("T")
Student = TypeVar("Student", bound=nn.Module)

_KEPT = 64
_MOST_ROTATIONS = 30_000  # layers times qubits; a circuit of a hundred thousand weights
_LOOK_FOR_DEAD_WEIGHTS = 2**18
"""Amplitudes, one state per weight: about ten qubits and half a second, once per structure."""

AnyEncoding: TypeAlias = str | Encoding | Callable[..., Encoding]
"""A registered name, its builder or one like it, or the object."""

AnyAnsatz: TypeAlias = str | Path | QuantumCircuit | Callable[..., QuantumCircuit]
"""A registered name, its builder or one like it, a circuit, or the path of its file."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CircuitSpec:
    """What a student's circuit is; parts are made when they are first asked for.

    Args:
        num_features: Width of a row.
        encoding: A registered name, an `Encoding` or a function that builds one.
        encoding_options: Further options of the encoding.
        ansatz: A registered name, a circuit or its file, or a function that builds one; `layers`
            is for names and functions.
        layers: Layers of the ansatz.
        ansatz_options: Further options of the ansatz.
        num_qubits: None takes the fewest qubits that hold the features.
        measured: The qubits read, lowest bit first, or `"all"`; None reads the last one, or all of
            them in class groups.
        num_classes: None reads Z of each measured qubit; a number reads the probabilities of so
            many groups of basis states.
        scheme: How basis states are grouped, as `ClassGroups`; None is `"contiguous"` where the
            number of classes is a power of two, else `"modulo"`.

    Raises:
        CircuitError: Where a part is asked for: if the features do not fit the qubits, or a part
            cannot be built.
        ConfigError: There too, if an option makes no sense.
        UnknownNameError: There too, for the name of an option or part that is not there.
    """

    num_features: int
    encoding: AnyEncoding = "amplitude"
    encoding_options: Mapping[str, Any] | None = None
    ansatz: AnyAnsatz = "hardware_efficient"
    layers: int = 4
    ansatz_options: Mapping[str, Any] | None = None
    num_qubits: int | None = None
    measured: str | Sequence[int] | None = None
    num_classes: int | None = None
    scheme: str | Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name in ("layers", "num_qubits"):
            object.__setattr__(self, name, python_number(getattr(self, name)))
        # A registered part goes by its name, so that it is treated alike.
        object.__setattr__(self, "encoding", encodings.name_of(self.encoding) or self.encoding)
        object.__setattr__(self, "ansatz", ansatze.name_of(self.ansatz) or self.ansatz)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CircuitSpec) or self._key is None:
            return self is other
        return bool(self._key == other._key)

    def __hash__(self) -> int:
        return object.__hash__(self) if self._key is None else hash(self._key)

    @cached_property
    def _key(self) -> tuple[Any, ...] | None:
        """What equal specs have in common; None where the ansatz is no registered one."""
        if not isinstance(self.ansatz, str) or self.ansatz not in ansatze:
            return None
        readout: object = self.readout if self.num_classes is not None else tuple(self.qubits_read)
        layers = (self.layers, type(self.layers))
        build = ansatze[self.ansatz]
        options = _checked(f"ansatz {self.ansatz!r}", build, self.ansatz_options, given=2)
        key = (self.code, readout, self.ansatz, build, layers, _hashable(options))
        return key if _can_hash(key) else None

    @cached_property
    def code(self) -> Encoding:
        """The encoding; equal questions have the same object for an answer."""
        given = self.encoding
        if isinstance(given, Encoding):
            asked = (self.num_features, self.num_qubits or given.num_qubits)
            if asked != (given.num_features, given.num_qubits) or self.encoding_options:
                raise CircuitError(
                    f"the encoding {given.name!r} takes {given.num_features} features on "
                    f"{given.num_qubits} qubits",
                    got=f"num_features={self.num_features}, num_qubits={self.num_qubits}, "
                    f"encoding_options={self.encoding_options}",
                    remedy="Leave num_qubits and encoding_options out, and take as many features.",
                )
            return given
        name = _part_name(encodings, given)
        build: Any = encodings.get(name, given)
        if not callable(build):
            raise UnknownNameError.of("encoding", name, encodings)
        options = _checked(f"encoding {name!r}", build, self.encoding_options, given=1)
        if "num_features" in inspect.signature(build).parameters:  # it pads rows with zeros
            options.setdefault("num_features", self.num_features)
        key = (build, name, self.num_features, self.num_qubits, _hashable(options))
        return _encoding(*key) if _can_hash(key) else _encoding.__wrapped__(*key)

    @property
    def qubits_read(self) -> list[int]:
        """The qubits measured, lowest bit first."""
        n = self.code.num_qubits
        if isinstance(self.measured, str) and self.measured == "all":
            return list(range(n))
        if self.measured is None:
            return [n - 1] if self.num_classes is None else list(range(n))
        try:
            read = [whole(q, "a qubit", most=n - 1) for q in listed(self.measured, "qubits")]
        except ConfigError:
            read = []
        if not read or len(set(read)) < len(read):
            raise CircuitError(
                "measured qubits are distinct qubits of the circuit",
                got=shown(self.measured),
                expected=f"one or more of 0..{n - 1}, as a list, or 'all'",
            )
        return read

    @cached_property
    def readout(self) -> Readout:
        """Class groups, or Z of each of the qubits read."""
        n, classes = self.code.num_qubits, self.num_classes
        if classes is None:
            return Observables(["I" * (n - 1 - q) + "Z" + "I" * q for q in self.qubits_read])
        scheme = self.scheme
        if scheme is None:
            scheme = "modulo" if classes & (classes - 1) else "contiguous"
        qubits = None if self.measured is None else tuple(self.qubits_read)
        return ClassGroups(classes, n, scheme, qubits=qubits)

    @cached_property
    def model(self) -> CircuitModel:
        """Encoding, ansatz and readout as one model."""
        return _model(self)

    def _circuit(self) -> QuantumCircuit:
        """The ansatz of that name or builder, the circuit given, or that of the file."""
        ansatz, n = self.ansatz, self.code.num_qubits
        if _is_file(ansatz):
            ansatz = load_ansatz(typing.cast("str | Path", ansatz))
        if isinstance(ansatz, QuantumCircuit):
            if self.ansatz_options:
                raise ConfigError(
                    "a circuit has no options",
                    got=f"ansatz_options={shown(self.ansatz_options)}",
                    expected="None",
                    remedy="Leave ansatz_options out, or name a registered ansatz.",
                )
            return ansatz
        build: Any = ansatz if callable(ansatz) else ansatze[typing.cast(str, ansatz)]
        part = f"ansatz {_part_name(ansatze, ansatz)!r}"
        options = _checked(part, build, self.ansatz_options, given=2)
        if isinstance(self.layers, int) and self.layers * n > _MOST_ROTATIONS:
            raise ConfigError(
                f"the layers of an ansatz on {n} qubits are ones a simulator can run",
                got=f"layers={self.layers}",
                expected=f"at most {_MOST_ROTATIONS // n}",
                remedy="Use fewer layers.",
            )
        return _made(build, QuantumCircuit, n, self.layers, **options)

    @property
    def dead_weights(self) -> tuple[int, ...] | None:
        """Weights that never learn; None where looking for them would take long."""
        return _dead_weights(self.model)

    @property
    def effective_weights(self) -> int | None:
        """How many weights count: the rank of the outputs' Jacobian; None for large circuits."""
        return _effective_weights(self.model)

    def warn_dead_weights(self) -> None:
        """Blame whoever asks a builder below `quantum_student` for weights that never learn."""
        if dead := self.dead_weights:
            warn_dead_weights(self.model, dead=dead, stacklevel=5)

    def facts(self) -> dict[str, Any]:
        """What a row and a report say about the circuit."""
        groups = self.readout if isinstance(self.readout, ClassGroups) else None
        found: dict[str, Any] = {
            "encoding": _part_name(encodings, self.encoding),
            "qubits": self.code.num_qubits,
        }
        if groups is not None:
            named = isinstance(groups.scheme, str)
            found["scheme"] = groups.scheme if named else groups.outcome_labels.tolist()
        if groups is None or self.measured is not None:
            found["measured"] = self.qubits_read
        dead = self.dead_weights
        found["dead_weights"] = None if dead is None else len(dead)
        found["effective_weights"] = self.effective_weights
        if isinstance(self.ansatz, QuantumCircuit):
            return {**found, "ansatz": self.ansatz.name}
        if _is_file(self.ansatz):
            return {**found, "ansatz": Path(typing.cast("str | Path", self.ansatz)).name}
        options = {key: python_number(value) for key, value in (self.ansatz_options or {}).items()}
        name = _part_name(ansatze, self.ansatz)
        return {**found, "ansatz": name, "layers": self.layers, "ansatz_options": options}


@dataclass(frozen=True, kw_only=True)
class RunOptions(Start):
    """How a student's circuit is run, and what its weights start from.

    Args:
        seed: Fixes the initial weights and, when sampled, the shots.
        backend: Name of a backend, a `Backend` or an `Engine`.
        dtype: Of the parameters, single or double precision.
        gradient: Gradient rule.
        shots: None is the backend's own.
    """

    gradient: str = "auto"
    shots: int | None = None

    def of_layers(self) -> dict[str, Any]:
        """The options of a layer made of circuits."""
        named = {name: getattr(self, name) for name in ("backend", "gradient", "shots", "seed")}
        return {**named, "dtype": self.precision}

    def layer(self, spec: CircuitSpec) -> QuantumLayer:
        """The circuit as a layer."""
        return QuantumLayer(spec.model, **self.of_layers())

    def facts(self) -> dict[str, Any]:
        """What a row and a report say of how a circuit is run."""
        known = self.backend if isinstance(self.backend, str | Backend | Engine) else None
        name = Backend.of(self.backend).name if known is None else getattr(known, "name", known)
        return {"backend": name, "gradient": self.gradient, "shots": python_number(self.shots)}


_OF_CIRCUITS = ("encoding", "encoding_options", "ansatz", "layers", "ansatz_options", "num_qubits")


def quantum_student(
    *, without: Collection[str] = (), groups: Mapping[str, type] | None = None, **defaults: Any
) -> Callable[[Callable[..., Student]], Callable[..., Student]]:
    """Makes `(spec, num_classes, run, *, own options)` a builder of students.

    The builder takes `num_features`, `num_classes`, `seed` and, as options of a study, those of
    `CircuitSpec` (but for the readout, which is the student's own), of `RunOptions`, and its own.

    Args:
        without: Options of `CircuitSpec` that it does not take.
        groups: Those of its own that are dataclasses, whose fields are the options.
        defaults: Other defaults of those that it takes.
    """

    def decorate(build: Callable[..., Student]) -> Callable[..., Student]:
        circuit = [name for name in _OF_CIRCUITS if name not in without]
        how = [field.name for field in fields(RunOptions) if field.name != "seed"]
        shared = [*keywords(CircuitSpec, circuit), *keywords(RunOptions, how)]
        shared = [p.replace(default=defaults.get(p.name, p.default)) for p in shared]
        kept = spread_parameters(build, groups or {})
        numbers = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=int)
            for name in ("num_features", "num_classes")
        ]
        own = [p for p in kept if p.kind is p.KEYWORD_ONLY]
        seed = inspect.Parameter("seed", inspect.Parameter.KEYWORD_ONLY, annotation=int)
        signature = inspect.Signature([*numbers, seed, *shared, *own])

        @wraps(build)
        def student(num_features: int, num_classes: int, *, seed: int, **options: Any) -> Student:
            signature.bind(num_features, num_classes, seed=seed, **options)
            num_features, num_classes = check_sizes(num_features, num_classes)
            asked = {p.name: options.pop(p.name, p.default) for p in shared}
            spec = CircuitSpec(num_features=num_features, **{name: asked[name] for name in circuit})
            run = RunOptions(seed=seed, **{name: asked[name] for name in how})
            return build(spec, num_classes, run, **gathered(groups or {}, options))

        return with_signature(student, signature)

    return decorate


def _part_name(registry: Registry[Any], given: object) -> str:
    """What facts and messages call a part that was given by name or as itself."""
    if isinstance(given, str):
        return given
    own = getattr(given, "name", None)
    return registry.name_of(given) or str(own or getattr(given, "__name__", type(given).__name__))


def _is_file(ansatz: object) -> bool:
    """Whether an ansatz is given as the path of a circuit file."""
    named = isinstance(ansatz, str) and Path(ansatz).suffix.lower() in (".qasm", ".qpy")
    return named or isinstance(ansatz, Path)


def _checked(
    part: str, build: Callable[..., Any], options: Mapping[str, Any] | None, *, given: int
) -> dict[str, Any]:
    """The options, all of which the builder knows besides its `given` first arguments."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"options of the {part} are named", got=repr(options), expected="a mapping"
        )
    every = list(inspect.signature(build).parameters.values())
    if not any(p.kind is p.VAR_KEYWORD for p in every):
        known = [p.name for p in every[given:]]
        for name in options:
            if name not in known:
                raise UnknownNameError.of(f"option of the {part}", str(name), known)
    return dict(options)


def _hashable(options: Mapping[str, Any]) -> tuple[tuple[str, Any, type], ...]:
    """Options as part of a key, with the types of their values: True is not 1 for a builder."""
    return tuple((name, value, type(value)) for name, value in sorted(options.items(), key=str))


def _can_hash(key: object) -> bool:
    try:
        hash(key)
    except TypeError:  # an option of another's part may be a list
        return False
    return True


@lru_cache(maxsize=_KEPT, typed=True)
def _encoding(
    build: Callable[..., Encoding],
    name: str,
    num_features: int,
    num_qubits: int | None,
    options: tuple[tuple[str, Any, type], ...],
) -> Encoding:
    """The encoding for rows of `num_features`, on as few qubits as hold them."""
    named = {key: value for key, value, _ in options}
    least = 2 if name == "amplitude_mps" else 1
    fewest = max(least, math.ceil(math.log2(num_features)))
    qubits = fewest if num_qubits is None else num_qubits
    code = _made(build, Encoding, qubits, **named)
    while num_qubits is None and code.num_features < num_features:
        qubits += 1
        code = build(qubits, **named)
    if code.num_features != num_features:
        raise CircuitError(
            f"the encoding {name!r} on {qubits} qubits takes {code.num_features} features",
            got=f"num_features={num_features}",
            remedy="Change num_qubits, the encoding or the number of features.",
        )
    return code


@lru_cache(maxsize=_KEPT)
def _model(spec: CircuitSpec) -> CircuitModel:
    return CircuitModel(spec.code, spec._circuit(), spec.readout)  # noqa: SLF001


@lru_cache(maxsize=_KEPT)
def _dead_weights(model: CircuitModel) -> tuple[int, ...] | None:
    if (model.num_weights + 1) * 2**model.num_qubits > _LOOK_FOR_DEAD_WEIGHTS:
        return None
    return tuple(dead_weights(model))


@lru_cache(maxsize=_KEPT)
def _effective_weights(model: CircuitModel) -> int | None:
    try:
        return effective_weights(model)
    except ResourceError:
        return None


def _made(build: Callable[..., Any], kind: type[T], *args: Any, **options: Any) -> T:
    """What a builder returns, which may be somebody else's."""
    try:
        found = build(*args, **options)
    except QiskitKDError:
        raise
    except Exception as error:
        raise CircuitError(
            f"a function builds {kind.__name__} objects from a number of qubits",
            got=f"{type(error).__name__}: {error}",
        ) from error
    if not isinstance(found, kind):
        raise CircuitError(
            f"a function builds {kind.__name__} objects",
            got=type(found).__name__,
            expected=f"a {kind.__name__}",
        )
    return found
