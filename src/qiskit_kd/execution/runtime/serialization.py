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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, cast, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, qpy
from qiskit.primitives import BitArray, DataBin, PubResult

from qiskit_kd.errors import StorageError

T = TypeVar("T")

State = Literal["intent", "sent", "done", "failed"]


def read_circuit(content: bytes) -> QuantumCircuit:
    """The circuit behind `circuit_bytes`; a StorageError if there is none."""
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
        pubs: Coerced PUBs, all with the same shots or precision.
        digests: `circuit_digest` of each PUB's circuit.
        device: Name of the device.
        options: Settings of the primitive that change results, as plain data.
        repetition: Which of several measurements of the same content this is.
    """
    content = {
        "kind": kind,
        "pubs": [
            {
                "circuit": digest,
                "shape": list(values.shape),
                "values": hashlib.sha256(values.tobytes()).hexdigest(),
                "observables": pub.observables.tolist() if kind == "estimator" else None,
            }
            for pub, digest, values in zip(pubs, digests, map(_values, pubs), strict=True)
        ],
        "shots": getattr(pubs[0], "shots", None),
        "precision": getattr(pubs[0], "precision", None),
        "device": device,
        "options": dict(options),
        "occasion": repetition,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _values(pub: Any) -> NDArray[np.float64]:
    """`(..., parameters)` in the order of the circuit's parameters, little-endian doubles."""
    return np.ascontiguousarray(pub.parameter_values.as_array(pub.circuit.parameters), "<f8")


def pack_values(pubs: Sequence[Any]) -> bytes:
    """The parameter values of PUBs, `(..., parameters)` each."""
    return _npz({str(place): _values(pub) for place, pub in enumerate(pubs)})


def unpack_values(content: bytes) -> list[NDArray[np.float64]]:
    """What `pack_values` was given; a StorageError if the bytes are damaged."""
    arrays = _arrays(content)
    return [arrays[str(place)] for place in range(len(arrays))]


def misfit(results: Sequence[Any], pubs: Sequence[Any], *, twirled: bool = False) -> str | None:
    """What keeps results from being those of PUBs; `twirled` ones may have more shots."""
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
    """What `pack_results` was given; a StorageError if the bytes are damaged."""
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


@cache
def row_names(kind: Any) -> str:
    """Fields of a row, as SQL names them."""
    return ", ".join(_allowed(kind))


def read_row(kind: type[T], row: Sequence[Any]) -> T:
    """A row of the file, which anybody may have changed; a StorageError if it is none of ours."""
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
