# SPDX-License-Identifier: Apache-2.0
"""What the builders of students share: circuit parts by name, checks of options, and facts.

Whether all weights of a circuit can learn is found out here too.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from numbers import Integral
from typing import Any

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
)
from qiskit_kd.errors import CircuitError, ConfigError, ResourceError, UnknownNameError
from qiskit_kd.execution.effective import effective_weights
from qiskit_kd.nn.wiring import AnyBackend

__all__ = [
    "ACTIVATIONS",
    "ansatz_facts",
    "build_ansatz",
    "build_encoding",
    "build_model",
    "check_activation",
    "check_sizes",
    "check_widths",
    "dtype_of",
    "find_dead_weights",
    "measured_qubits",
    "run_facts",
    "weight_facts",
    "whole_number",
    "z_on",
]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}

_KEPT = 64
_LOOK_FOR_DEAD_WEIGHTS = 2**18
"""Amplitudes, one state per weight: about ten qubits and half a second, once per structure."""


def build_encoding(
    name: str, num_features: int, num_qubits: int | None, options: Mapping[str, Any] | None
) -> Encoding:
    """The named encoding for rows of `num_features`, on as few qubits as hold them.

    Equal questions have the same object for an answer.
    """
    key = (encodings[name], name, num_features, num_qubits, _hashable(options))
    return _encoding(*key) if _can_hash(key) else _new_encoding(*key[1:4], options)


def _new_encoding(
    name: str, num_features: int, num_qubits: int | None, options: Mapping[str, Any] | None
) -> Encoding:
    build = encodings[name]
    options = _checked(f"encoding {name!r}", build, options, given=1)
    if "num_features" in inspect.signature(build).parameters:  # it pads narrower rows with zeros
        options.setdefault("num_features", num_features)
    least = 2 if name == "amplitude_mps" else 1
    fewest = max(least, math.ceil(math.log2(num_features)))
    qubits = fewest if num_qubits is None else num_qubits
    code = build(qubits, **options)
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
    build: object, name: str, num_features: int, num_qubits: int | None, options: Any
) -> Encoding:
    del build  # a part of the question: a name may come to stand for something else
    return _new_encoding(name, num_features, num_qubits, _named(options))


def build_model(
    code: Encoding, ansatz: str | QuantumCircuit, layers: int, options: Mapping[str, Any] | None,
    readout: Readout,
) -> CircuitModel:  # fmt: skip
    """Encoding, ansatz and readout as one model.

    Equal questions have the same object for an answer: hundreds of students of one structure share
    what engines work out for it.
    """
    key = (code, ansatz, layers, _hashable(options), _Alike(readout))
    if isinstance(ansatz, str) and _can_hash(key):
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
    ansatz: str | QuantumCircuit, num_qubits: int, layers: int, options: Mapping[str, Any] | None
) -> QuantumCircuit:
    """The named ansatz, or the circuit given."""
    if isinstance(ansatz, QuantumCircuit):
        return ansatz
    build = ansatze[ansatz]
    return build(num_qubits, layers, **_checked(f"ansatz {ansatz!r}", build, options, given=2))


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
    listed = isinstance(measured, Collection) and not isinstance(measured, str)
    read: list[Any] = list(measured) if listed else []
    if (
        not read
        or any(not isinstance(q, Integral) or isinstance(q, bool) for q in read)
        or len(set(read)) < len(read)
        or not set(read) <= set(range(num_qubits))
    ):
        raise CircuitError(
            "measured qubits are distinct qubits of the circuit", got=repr(measured),
            expected=f"one or more of 0..{num_qubits - 1}, as a list, or 'all'",
        )  # fmt: skip
    return [int(q) for q in read]


def z_on(qubits: Sequence[int], num_qubits: int) -> Observables:
    """Z on each of the qubits, one by one."""
    return Observables(["I" * (num_qubits - 1 - q) + "Z" + "I" * q for q in qubits])


def find_dead_weights(
    model: CircuitModel, encoding: str, encoding_options: Mapping[str, Any] | None,
    ansatz: str | QuantumCircuit, layers: int, ansatz_options: Mapping[str, Any] | None,
    readout: ClassGroups | tuple[int, ...],
) -> tuple[int, ...] | None:  # fmt: skip
    """Weights that never learn; None where looking for them would take long."""
    if (model.num_weights + 1) * 2**model.num_qubits > _LOOK_FOR_DEAD_WEIGHTS:
        return None
    if isinstance(ansatz, str):
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


def check_sizes(num_features: int, num_classes: int) -> None:
    """Refuse sizes no student can have."""
    for name, value, least in (("num_features", num_features, 1), ("num_classes", num_classes, 2)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(
                f"{name} of a student is a whole number", got=repr(value),
                expected=f"{least} or more",
            )  # fmt: skip


def whole_number(value: Any, *, what: str, least: int) -> int:
    """An option that counts something, as Python's integer."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ConfigError(f"{what} is a whole number", got=repr(value), expected=f"{least} or more")
    return int(value)


def check_widths(widths: Any, *, what: str) -> tuple[int, ...]:
    """An option that lists the widths of hidden layers, as Python's integers."""
    listed = isinstance(widths, Iterable) and not isinstance(widths, str)
    items = tuple(widths) if listed else (None,)
    if any(isinstance(w, bool) or not isinstance(w, Integral) or w < 1 for w in items):
        raise ConfigError(
            f"{what} lists the widths of layers", got=repr(widths), expected="integers from 1 on"
        )
    return tuple(int(w) for w in items)


def check_activation(name: str, known: Collection[str]) -> None:
    """Refuse an activation that is not among `known`."""
    if name not in known:
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
    ansatz: str | QuantumCircuit, layers: int, options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a report must say of an ansatz."""
    if isinstance(ansatz, QuantumCircuit):
        return {"ansatz": ansatz.name}
    return {"ansatz": ansatz, "layers": layers, "ansatz_options": dict(options or {})}


def run_facts(backend: AnyBackend, gradient: str, shots: int | None) -> dict[str, Any]:
    """What a report must say of how a circuit is run."""
    name = backend if isinstance(backend, str) else backend.name
    return {"backend": name, "gradient": gradient, "shots": shots}
