# SPDX-License-Identifier: Apache-2.0
"""Jobs as bytes and rows: what makes two of them equal, and what a journal keeps of them.

Two jobs are equal if they would measure the same: same circuits, values, shots, device, options
and repetition. Names that Python makes up (of circuits, of parameters' identities) are no part of
it, as they differ from process to process.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, cast, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, QuantumRegister, qpy
from qiskit.circuit import Parameter, ParameterExpression
from qiskit.primitives import BitArray, DataBin, PubResult

from qiskit_kd.errors import ConfigError, StorageError

T = TypeVar("T")

State = Literal["intent", "sent", "done", "failed"]

_KEPT_DIGESTS = 64
_VERSION = slice(7, 10)  # of Qiskit, in the head of a QPY file
_FORMAT = min(18, qpy.QPY_VERSION)  # a later one would give every job that was paid a new key


def circuit_bytes(circuit: QuantumCircuit) -> bytes:
    """A circuit as QPY, the same in every process that builds it the same way.

    Parameters keep their names and get an identity that follows from it; the names of the circuit
    and of its qubits are left out, and so is the layout.
    """
    plain = QuantumCircuit(QuantumRegister(circuit.num_qubits, "q"), name="circuit")
    plain.add_bits(circuit.clbits)
    for register in circuit.cregs:
        plain.add_register(register)
    plain.compose(circuit, range(circuit.num_qubits), plain.clbits, inplace=True)
    same = {
        p: Parameter(p.name, uuid=uuid.uuid5(uuid.NAMESPACE_OID, p.name)) for p in plain.parameters
    }
    plain.assign_parameters(same, inplace=True)
    with io.BytesIO() as stream:
        qpy.dump(plain, stream, version=_FORMAT)
        return stream.getvalue()


def circuit_digest(circuit: QuantumCircuit) -> str:
    """SHA-256 of `circuit_bytes`, whatever release of Qiskit from 2.6 on wrote them."""
    content = bytearray(circuit_bytes(_with_named_angles(circuit)))
    content[_VERSION] = bytes(3)
    return hashlib.sha256(content).hexdigest()


class Digests:
    """`circuit_digest` of the circuits that were asked for last, each computed once.

    A circuit that was changed in place since is another circuit: to see that costs a hundredth of
    its digest.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[QuantumCircuit, Any, str]] = {}

    def __call__(self, circuit: QuantumCircuit) -> str:
        """See `circuit_digest`."""
        known = self._known.get(id(circuit))
        if known is None or known[0] is not circuit or known[1] != _state(circuit):
            while len(self._known) >= _KEPT_DIGESTS:
                self._known.pop(next(iter(self._known)))
            known = circuit, _state(circuit), circuit_digest(circuit)
            self._known[id(circuit)] = known
        return known[2]


def _state(circuit: QuantumCircuit) -> tuple[Any, ...]:
    data = circuit._data.copy()  # noqa: SLF001 - `circuit.data` compares gate by gate
    return data, circuit.global_phase, circuit.name, [*circuit.qregs], [*circuit.cregs]


def _with_named_angles(circuit: QuantumCircuit) -> QuantumCircuit:
    """Angles such as `a + 0.3 * b` as parameters of that name.

    QPY writes the terms of a sum in an order that changes from one call to the next.
    """
    named: dict[str, Parameter] = {}

    def name_of(value: Any) -> Any:
        if not isinstance(value, ParameterExpression) or isinstance(value, Parameter):
            return value
        return named.setdefault(str(value), Parameter(f"= {value}"))

    plain = circuit.copy_empty_like()
    plain.global_phase = name_of(circuit.global_phase)
    for item in circuit.data:
        values = list(item.params)
        angles = [name_of(value) for value in values]
        if any(new is not old for new, old in zip(angles, values, strict=True)):
            operation = item.operation.to_mutable()
            operation.params = angles
            item = item.replace(operation=operation)
        plain.append(item)
    return plain


def read_circuit(content: bytes) -> QuantumCircuit:
    """The circuit behind `circuit_bytes`.

    Raises:
        StorageError: If the bytes are none.
    """
    try:
        with io.BytesIO(content) as stream:
            found: QuantumCircuit = qpy.load(stream)[0]
    except Exception as error:  # whatever QPY stumbles over
        raise damaged_circuit(error) from None
    return found


def damaged_circuit(error: Exception) -> StorageError:
    """What to say of a circuit, or of what is kept with it, that cannot be read."""
    return StorageError(
        "a circuit of the journal is damaged",
        got=f"{type(error).__name__}: {error}",
        remedy="Restore the journal from a copy, or start another one.",
    )


def content_key(
    kind: str,
    pubs: Sequence[Any],
    digests: Sequence[str],
    *,
    device: str,
    options: Mapping[str, Any],
    repetition: int,
) -> str:
    """What a job is known by: equal for jobs that would measure the same.

    Args:
        kind: `"sampler"` or `"estimator"`.
        pubs: Coerced PUBs.
        digests: `circuit_digest` of each PUB's circuit.
        device: Name of the device.
        options: Settings of the primitive that change results, as plain data.
        repetition: Which of several measurements of the same content this is.

    Raises:
        ConfigError: If PUBs differ in their shots or in their precision.
    """
    content = {
        "kind": kind,
        "pubs": [
            {
                "circuit": digest,
                "shape": list(_values(pub).shape),
                "values": hashlib.sha256(_values(pub).tobytes()).hexdigest(),
                "observables": _observables(pub),
            }
            for pub, digest in zip(pubs, digests, strict=True)
        ],
        "shots": _common(pubs, "shots"),
        "precision": _common(pubs, "precision"),
        "device": device,
        "options": dict(options),
        "occasion": repetition,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _common(pubs: Sequence[Any], name: str) -> Any:
    """The shots, or the precision, of all PUBs of a job: the service takes no mixture."""
    values = {getattr(pub, name, None) for pub in pubs}
    if len(values) > 1:
        raise ConfigError(
            f"all PUBs of a job have the same {name}",
            got=", ".join(sorted(map(str, values))),
            remedy="Send them one by one.",
        )
    return values.pop() if values else None


def _values(pub: Any) -> NDArray[np.float64]:
    """`(..., parameters)` in the order of the circuit's parameters, little-endian doubles."""
    names = [p.name for p in pub.circuit.parameters]
    return np.ascontiguousarray(pub.parameter_values.as_array(names), "<f8")


def _observables(pub: Any) -> Any:
    return pub.observables.tolist() if hasattr(pub, "observables") else None


def pack_values(pubs: Sequence[Any]) -> bytes:
    """The parameter values of PUBs, `(..., parameters)` each."""
    return _npz({str(place): _values(pub) for place, pub in enumerate(pubs)})


def unpack_values(content: bytes) -> list[NDArray[np.float64]]:
    """What `pack_values` was given.

    Raises:
        StorageError: If the bytes are damaged.
    """
    arrays = _arrays(content)
    return [arrays[str(place)] for place in range(len(arrays))]


def misfit(results: Sequence[Any], pubs: Sequence[Any], *, twirled: bool = False) -> str | None:
    """What keeps results from being those of PUBs; None where nothing does.

    Args:
        results: What the service, or a journal, gave.
        pubs: The coerced PUBs that were sent.
        twirled: Whether shots were rounded up to equal shares of random circuits.
    """
    if len(results) != len(pubs):
        return f"{len(results)} results for {len(pubs)} PUBs"
    for place, (result, pub) in enumerate(zip(results, pubs, strict=True)):
        if hasattr(pub, "observables"):
            wrong = _misfit_of_values(result.data, pub)
        else:
            wrong = _misfit_of_shots(result.data, pub, twirled)
        if wrong:
            return f"for PUB {place} {wrong}"
    return None


def _misfit_of_shots(data: Any, pub: Any, twirled: bool) -> str | None:
    wanted = {register.name: register.size for register in pub.circuit.cregs}
    found = {name: getattr(value, "num_bits", None) for name, value in data.items()}
    if found != wanted:
        return f"bits of {found} instead of {wanted}"
    for value in data.values():
        if tuple(value.shape) != tuple(pub.shape):
            return f"shape {tuple(value.shape)} instead of {tuple(pub.shape)}"
        if value.num_shots < pub.shots or (value.num_shots > pub.shots and not twirled):
            return f"{value.num_shots} shots instead of {pub.shots}"
    return None


def _misfit_of_values(data: Any, pub: Any) -> str | None:
    if "evs" not in data:
        return f"{list(data)} instead of expectation values"
    for name in {"evs", "stds"} & {*data}:
        array = np.asarray(data[name])
        if array.shape != tuple(pub.shape):
            return f"{name} of shape {array.shape} instead of {tuple(pub.shape)}"
        if array.dtype.kind not in "fiu":
            return f"{name} of type {array.dtype}"
    if not np.isfinite(np.asarray(data["evs"])).all():
        return "expectation values that are no finite numbers"
    return None


def pack_results(results: Sequence[Any]) -> bytes:
    """Bits and expectation values of a job."""
    arrays: dict[str, NDArray[Any]] = {}
    layout = []
    for place, result in enumerate(results):
        fields = {}
        for name, value in result.data.items():
            bits = value.num_bits if isinstance(value, BitArray) else None
            arrays[f"{place}.{name}"] = value.array if bits is not None else np.asarray(value)
            fields[name] = bits
        layout.append({"shape": list(result.data.shape), "fields": fields})
    text = json.dumps(layout).encode()
    return _npz({"layout": np.frombuffer(text, np.uint8), **arrays})


def unpack_results(content: bytes) -> list[PubResult]:
    """What `pack_results` was given.

    Raises:
        StorageError: If the bytes are damaged.
    """
    arrays = _arrays(content)
    try:
        found = []
        for place, one in enumerate(json.loads(arrays["layout"].tobytes())):
            data: dict[str, Any] = {}
            for name, bits in one["fields"].items():
                array = arrays[f"{place}.{name}"]
                data[name] = array if bits is None else BitArray(array, bits)
            found.append(PubResult(DataBin(shape=tuple(one["shape"]), **data)))
    except Exception as error:  # whatever bytes of somebody else's make it stumble over
        raise _damaged(error) from None
    return found


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    with io.BytesIO() as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
        return stream.getvalue()


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except Exception as error:  # zip, zlib, numpy: each has its own
        raise _damaged(error) from None


def _damaged(error: Exception) -> StorageError:
    return StorageError(
        "a result of the journal is damaged",
        got=f"{type(error).__name__}: {error}",
        remedy="Restore the journal from a copy: the job is paid for and will not be sent again.",
    )


@dataclass(frozen=True)
class JobRecord:
    """What the journal knows of a job; times in seconds since 1970, `seconds` of the device."""

    key: str
    tag: str
    state: State
    backend: str
    device: str
    kind: str
    circuits: str
    shots: int | None
    executions: int
    pubs: int
    estimate: float
    known: tuple[str, ...]
    job_id: str | None
    alone: bool
    created: float
    sent: float | None
    finished: float | None
    seconds: float
    usd: float | None
    error: str


@dataclass(frozen=True)
class Attempt:
    """One job at the service: several where the first failed or had twins."""

    job_id: str
    key: str
    status: str
    reason: str
    seconds: float
    sent: float
    finished: float | None


def row_names(kind: Any) -> str:
    """Fields of a row, as SQL names them."""
    return ", ".join(_allowed(kind))


def read_row(kind: type[T], row: Sequence[Any]) -> T:
    """A `JobRecord` or an `Attempt` from a row of the file, which anybody may have changed.

    Raises:
        StorageError: If a value is none that a journal writes.
    """
    types, values = _allowed(cast(Any, kind)), []
    for (name, allowed), value in zip(types.items(), row, strict=True):
        if bool in allowed and value in (0, 1):
            value = bool(value)
        elif tuple in allowed:
            value = _texts(value)
        elif float in allowed and isinstance(value, int):
            value = float(value)
        right = type(value) in allowed or (isinstance(value, str) and value in allowed)
        if not right or (isinstance(value, int | float) and not 0 <= value < math.inf):
            raise StorageError(
                "a job of the journal is as it was written down",
                got=f"{name} {value!r:.80}",
                remedy="Restore the journal from a copy, or start another one; nothing was sent.",
            )
        values.append(value)
    return kind(*values)


@cache
def _allowed(kind: Any) -> dict[str, tuple[Any, ...]]:
    """Types, or words, that a field may have."""
    hints = get_type_hints(kind)
    return {
        name: (tuple,) if "tuple" in str(hint) else get_args(hint) or (hint,)
        for name, hint in hints.items()
    }


def _texts(value: Any) -> Any:
    try:
        found = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return value
    good = isinstance(found, list) and all(isinstance(one, str) for one in found)
    return tuple(found) if good else value
