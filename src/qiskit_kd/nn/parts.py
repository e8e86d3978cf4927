# SPDX-License-Identifier: Apache-2.0
"""What the builders of students share: circuit parts by name, checks of options, and facts.

Whether all weights of a circuit can learn is found out here too.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard, TypeVar

import torch
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
)
from qiskit_kd.errors import (
    CircuitError,
    ConfigError,
    QiskitKDError,
    ResourceError,
    UnknownNameError,
)
from qiskit_kd.execution.exact.engine import effective_weights
from qiskit_kd.nn.wiring import AnyBackend
from qiskit_kd.registry import Registry
from qiskit_kd.values import listed, python_number, shown, whole

__all__ = [
    "ACTIVATIONS",
    "AnyAnsatz",
    "AnyEncoding",
    "ansatz_facts",
    "build_ansatz",
    "build_encoding",
    "build_model",
    "check_activation",
    "check_sizes",
    "check_widths",
    "dtype_of",
    "find_dead_weights",
    "is_circuit_file",
    "measured_qubits",
    "part_name",
    "registered",
    "run_facts",
    "weight_facts",
    "whole_number",
    "z_on",
]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}

T = TypeVar("T")

_KEPT = 64
_MOST_ROTATIONS = 30_000  # layers times qubits; a circuit of a hundred thousand weights
_LOOK_FOR_DEAD_WEIGHTS = 2**18
"""Amplitudes, one state per weight: about ten qubits and half a second, once per structure."""


AnyEncoding: TypeAlias = str | Encoding | Callable[..., Encoding]
"""A registered name, its builder or one like it, or the object."""

AnyAnsatz: TypeAlias = str | Path | QuantumCircuit | Callable[..., QuantumCircuit]
"""A registered name, its builder or one like it, a circuit, or the path of its file."""


def build_encoding(
    given: AnyEncoding, num_features: int, num_qubits: int | None,
    options: Mapping[str, Any] | None,
) -> Encoding:  # fmt: skip
    """The encoding for rows of `num_features`, by name on as few qubits as hold them.

    Equal questions have the same object for an answer.
    """
    num_qubits = python_number(num_qubits)
    if isinstance(given, Encoding):
        return _fitting(given, num_features, num_qubits, options)
    name = part_name(encodings, given)
    build: Any = encodings.get(name, given)
    if not callable(build):
        raise UnknownNameError.of("encoding", name, encodings)
    key = (build, name, num_features, num_qubits)
    if isinstance(options, Mapping | None) and _can_hash((*key, wanted := _hashable(options))):
        return _encoding(*key, wanted)
    return _new_encoding(*key, options)


def part_name(registry: Registry[Any], given: object) -> str:
    """What facts and messages call a part that was given by name or as itself."""
    if isinstance(given, str):
        return given
    own = getattr(given, "name", None)
    return registry.name_of(given) or str(own or getattr(given, "__name__", type(given).__name__))


def registered(registry: Registry[Any], given: Any) -> Any:
    """A registered part as its name, so that it is treated alike; anything else as it is."""
    return registry.name_of(given) or given


def _fitting(
    code: Encoding, num_features: int, num_qubits: int | None, options: object
) -> Encoding:
    """A ready encoding, if it is what else was asked for."""
    asked = num_features, code.num_qubits if num_qubits is None else num_qubits
    if asked != (code.num_features, code.num_qubits) or options:
        raise CircuitError(
            f"the encoding {code.name!r} takes {code.num_features} features on {code.num_qubits} "
            "qubits",
            got=f"num_features={num_features}, num_qubits={num_qubits}, encoding_options={options}",
            remedy="Leave num_qubits and encoding_options out, and take as many features.",
        )
    return code


def _new_encoding(
    build: Callable[..., Encoding], name: str, num_features: int, num_qubits: int | None,
    options: Mapping[str, Any] | None,
) -> Encoding:  # fmt: skip
    options = _checked(f"encoding {name!r}", build, options, given=1)
    if "num_features" in inspect.signature(build).parameters:  # it pads narrower rows with zeros
        options.setdefault("num_features", num_features)
    least = 2 if name == "amplitude_mps" else 1
    fewest = max(least, math.ceil(math.log2(num_features)))
    qubits = fewest if num_qubits is None else num_qubits
    code = _made(build, Encoding, qubits, **options)
    while num_qubits is None and code.num_features < num_features:
        qubits += 1
        code = build(qubits, **options)
    if code.num_features != num_features:
        raise CircuitError(
            f"the encoding {name!r} on {qubits} qubits takes {code.num_features} features",
            got=f"num_features={num_features}",
            remedy="Change num_qubits, the encoding or the number of features.",
        )  # fmt: skip
    return code


@lru_cache(maxsize=_KEPT, typed=True)
def _encoding(
    build: Callable[..., Encoding], name: str, num_features: int, num_qubits: int | None,
    options: Any,
) -> Encoding:  # fmt: skip
    return _new_encoding(build, name, num_features, num_qubits, _named(options))


def build_model(
    code: Encoding, ansatz: AnyAnsatz, layers: int, options: Mapping[str, Any] | None,
    readout: Readout,
) -> CircuitModel:  # fmt: skip
    """Encoding, ansatz and readout as one model.

    Equal questions have the same object for an answer: hundreds of students of one structure share
    what engines work out for it.
    """
    layers = python_number(layers)
    key = (code, ansatz, layers, _hashable(options), _Alike(readout))
    if isinstance(ansatz, str) and ansatz in ansatze and _can_hash(key):
        return _model(ansatze[ansatz], *key)
    return CircuitModel(code, build_ansatz(ansatz, code.num_qubits, layers, options), readout)


@lru_cache(maxsize=_KEPT, typed=True)
def _model(
    build: object, code: Encoding, ansatz: str, layers: int, options: Any, readout: _Alike
) -> CircuitModel:
    del build
    circuit = build_ansatz(ansatz, code.num_qubits, layers, _named(options))
    return CircuitModel(code, circuit, readout.readout)


class _Alike:
    """A readout that equals every other one that reads the same; operators have no hash."""

    def __init__(self, readout: Readout) -> None:
        self.readout = readout
        self._key: object = readout
        if isinstance(readout, Observables):
            self._key = tuple(str(op.to_list()) for op in readout.operators)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Alike) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _hashable(options: Mapping[str, Any] | None) -> Any:
    """Options as part of a key, with the types of their values: True is not 1 for a builder."""
    if options is not None and not isinstance(options, Mapping):
        return [options]  # no key, so that whoever builds refuses it
    pairs = sorted((options or {}).items(), key=str)
    return tuple((name, value, type(value)) for name, value in pairs)


def _named(options: tuple[tuple[str, Any, type], ...]) -> dict[str, Any]:
    """The options that `_hashable` made a key of."""
    return {name: value for name, value, _ in options}


def _can_hash(key: tuple[Any, ...]) -> bool:
    try:
        hash(key)
    except TypeError:  # an option of another's part may be a list
        return False
    return True


def build_ansatz(
    ansatz: AnyAnsatz, num_qubits: int, layers: int, options: Mapping[str, Any] | None
) -> QuantumCircuit:
    """The ansatz of that name or builder, the circuit given, or that of the file."""
    if is_circuit_file(ansatz):
        ansatz = load_ansatz(ansatz)
    if isinstance(ansatz, QuantumCircuit):
        if options:
            raise ConfigError(
                "a circuit has no options", got=f"ansatz_options={shown(options)}",
                expected="None", remedy="Leave ansatz_options out, or name a registered ansatz.",
            )  # fmt: skip
        return ansatz
    name = part_name(ansatze, ansatz)
    build: Any = ansatz if callable(ansatz) else ansatze[name]
    options, layers = _checked(f"ansatz {name!r}", build, options, given=2), python_number(layers)
    if isinstance(layers, int) and layers * num_qubits > _MOST_ROTATIONS:
        raise ConfigError(
            f"the layers of an ansatz on {num_qubits} qubits are ones a simulator can run",
            got=f"layers={layers}", expected=f"at most {_MOST_ROTATIONS // num_qubits}",
            remedy="Use fewer layers.",
        )  # fmt: skip
    return _made(build, QuantumCircuit, num_qubits, layers, **options)


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
        ) from error  # fmt: skip
    if not isinstance(found, kind):
        raise CircuitError(
            f"a function builds {kind.__name__} objects", got=type(found).__name__,
            expected=f"a {kind.__name__}",
        )  # fmt: skip
    return found


def is_circuit_file(ansatz: object) -> TypeGuard[str | Path]:
    """Whether an ansatz is given as the path of a circuit file."""
    named = isinstance(ansatz, str) and Path(ansatz).suffix.lower() in (".qasm", ".qpy")
    return named or isinstance(ansatz, Path)


def _checked(
    part: str, build: Callable[..., Any], options: Mapping[str, Any] | None, *, given: int
) -> dict[str, Any]:  # fmt: skip
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


def measured_qubits(measured: str | Sequence[int] | None, num_qubits: int) -> list[int]:
    """The qubits to read, checked; None is the last one, `"all"` every one."""
    if measured is None:
        return [num_qubits - 1]
    if isinstance(measured, str) and measured == "all":
        return list(range(num_qubits))
    try:
        read = [whole(q, "a qubit", most=num_qubits - 1) for q in listed(measured, "qubits")]
    except ConfigError:
        read = []
    if not read or len(set(read)) < len(read):
        raise CircuitError(
            "measured qubits are distinct qubits of the circuit", got=shown(measured),
            expected=f"one or more of 0..{num_qubits - 1}, as a list, or 'all'",
        )  # fmt: skip
    return read


def z_on(qubits: Sequence[int], num_qubits: int) -> Observables:
    """Z on each of the qubits, one by one."""
    return Observables(["I" * (num_qubits - 1 - q) + "Z" + "I" * q for q in qubits])


def find_dead_weights(
    model: CircuitModel, encoding: AnyEncoding, encoding_options: Mapping[str, Any] | None,
    ansatz: AnyAnsatz, layers: int, ansatz_options: Mapping[str, Any] | None,
    readout: ClassGroups | tuple[int, ...],
) -> tuple[int, ...] | None:  # fmt: skip
    """Weights that never learn; None where looking for them would take long."""
    if (model.num_weights + 1) * 2**model.num_qubits > _LOOK_FOR_DEAD_WEIGHTS:
        return None
    if isinstance(encoding, str) and isinstance(ansatz, str) and ansatz in ansatze:
        layers = python_number(layers)
        options = [_hashable(each) for each in (encoding_options, ansatz_options)]
        key = (
            encoding, model.num_features, model.num_qubits, options[0],
            ansatz, layers, options[1], readout,
        )  # fmt: skip
        if _can_hash(key):
            return _known_dead_weights(*key)
    return tuple(dead_weights(model))


@lru_cache(maxsize=256)
def _known_dead_weights(
    encoding: str, num_features: int, num_qubits: int, encoding_options: tuple[Any, ...],
    ansatz: str, layers: int, ansatz_options: tuple[Any, ...],
    readout: ClassGroups | tuple[int, ...],
) -> tuple[int, ...]:  # fmt: skip
    """Hundreds of students of one structure in a process pay once."""
    code = build_encoding(encoding, num_features, num_qubits, _named(encoding_options))
    circuit = build_ansatz(ansatz, num_qubits, layers, _named(ansatz_options))
    if not isinstance(readout, ClassGroups):
        return tuple(dead_weights(CircuitModel(code, circuit, z_on(readout, num_qubits))))
    return tuple(dead_weights(CircuitModel(code, circuit, readout)))


def check_sizes(num_features: int, num_classes: int) -> tuple[int, int]:
    """The sizes of a student as Python's integers; those no student can have are refused."""
    sizes = ("num_features", num_features, 1), ("num_classes", num_classes, 2)
    first, second = (whole_number(value, what=f"{name} of a student", least=least)
                     for name, value, least in sizes)  # fmt: skip
    return first, second


def whole_number(value: Any, *, what: str, least: int) -> int:
    """An option that counts something, as Python's integer."""
    return whole(value, f"{what} is a whole number", least=least)


def check_widths(widths: Any, *, what: str) -> tuple[int, ...]:
    """An option that lists the widths of hidden layers, as Python's integers."""
    rule, expected = f"{what} lists the widths of layers", "integers from 1 on"
    try:
        return tuple(whole(width, rule, least=1) for width in listed(widths, rule))
    except ConfigError:
        raise ConfigError(rule, got=shown(widths), expected=expected) from None


def check_activation(name: str, known: Collection[str]) -> None:
    """Refuse an activation that is not among `known`."""
    if not isinstance(name, str) or name not in known:
        raise ConfigError(
            "unknown activation", got=repr(name), expected=" or ".join(map(repr, sorted(known)))
        )


def dtype_of(dtype: torch.dtype | str) -> torch.dtype:
    """The type called `dtype`, single or double precision."""
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if kind not in (torch.float32, torch.float64):
        raise ConfigError("unknown dtype", got=repr(dtype), expected="float32 or float64")
    return kind


def weight_facts(model: CircuitModel, dead: Sequence[int] | None) -> dict[str, Any]:
    """How many weights of a circuit cannot learn, and how many count; None where nobody looked."""
    return {
        "dead_weights": None if dead is None else len(dead),
        "effective_weights": _rank(model),
    }


@lru_cache(maxsize=_KEPT)
def _rank(model: CircuitModel) -> int | None:
    try:
        return effective_weights(model)
    except ResourceError:
        return None


def ansatz_facts(
    ansatz: AnyAnsatz, layers: int, options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a report must say of an ansatz."""
    if isinstance(ansatz, QuantumCircuit):
        return {"ansatz": ansatz.name}
    if is_circuit_file(ansatz):
        return {"ansatz": Path(ansatz).name}
    name = part_name(ansatze, ansatz)
    plain = {key: python_number(value) for key, value in (options or {}).items()}
    return {"ansatz": name, "layers": python_number(layers), "ansatz_options": plain}


def run_facts(backend: AnyBackend, gradient: str, shots: int | None) -> dict[str, Any]:
    """What a report must say of how a circuit is run."""
    name = backend if isinstance(backend, str) else backend.name
    return {"backend": name, "gradient": gradient, "shots": python_number(shots)}
