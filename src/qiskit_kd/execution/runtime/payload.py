# SPDX-License-Identifier: Apache-2.0
"""Jobs as bytes: what makes two jobs equal, and what is kept of their values and results.

Two jobs are equal if they would measure the same: same circuits, values, shots, device, options and
occasion. Names that Python makes up (of circuits, of parameters' identities) are no part of it, as
they differ from process to process.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, QuantumRegister, qpy
from qiskit.circuit import Parameter, ParameterExpression
from qiskit.primitives import BitArray, DataBin, PubResult

from qiskit_kd.errors import StorageError

__all__ = [
    "Digests",
    "circuit_bytes",
    "circuit_digest",
    "content_key",
    "damaged_circuit",
    "misfit",
    "pack_results",
    "pack_values",
    "read_circuit",
    "unpack_results",
    "unpack_values",
]

_KEPT_DIGESTS = 64
_VERSION = slice(7, 10)  # of Qiskit, in the head of a QPY file


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
    same = {p: Parameter(p.name, uuid=uuid.uuid5(uuid.NAMESPACE_OID, p.name))
            for p in plain.parameters}  # fmt: skip
    plain.assign_parameters(same, inplace=True)
    with io.BytesIO() as stream:
        qpy.dump(plain, stream)
        return stream.getvalue()


def circuit_digest(circuit: QuantumCircuit) -> str:
    """SHA-256 of `circuit_bytes`, whatever release of Qiskit wrote them."""
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
        "a circuit of the journal is damaged", got=f"{type(error).__name__}: {error}",
        remedy="Restore the journal from a copy, or start another one.",
    )  # fmt: skip


def content_key(
    kind: str, pubs: Sequence[Any], digests: Sequence[str], *, shots: int | None,
    precision: float | None, device: str, options: Mapping[str, Any], occasion: int,
) -> str:  # fmt: skip
    """What a job is known by: equal for jobs that would measure the same.

    Args:
        kind: `"sampler"` or `"estimator"`.
        pubs: Coerced PUBs.
        digests: `circuit_digest` of each PUB's circuit.
        shots: Shots of every PUB.
        precision: Standard deviation asked for.
        device: Name of the device.
        options: Settings of the primitive that change results, as plain data.
        occasion: Which of several measurements of the same content this is.
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
        "shots": shots,
        "precision": precision,
        "device": device,
        "options": dict(options),
        "occasion": occasion,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


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


def misfit(
    results: Sequence[Any], pubs: Sequence[Any], *, twirled: bool = False
) -> str | None:  # fmt: skip
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


def unpack_results(content: bytes, metadata: Mapping[str, Any]) -> list[PubResult]:
    """What `pack_results` was given.

    Args:
        content: The bytes.
        metadata: What every result says about itself.

    Raises:
        StorageError: If the bytes are damaged.
    """
    arrays = _arrays(content)
    try:
        layout = json.loads(arrays["layout"].tobytes())
        return [
            PubResult(
                DataBin(
                    shape=tuple(one["shape"]),
                    **{
                        name: arrays[f"{place}.{name}"] if bits is None
                        else BitArray(arrays[f"{place}.{name}"], bits)
                        for name, bits in one["fields"].items()
                    },
                ),
                dict(metadata),
            )
            for place, one in enumerate(layout)
        ]  # fmt: skip
    except Exception as error:  # whatever bytes of somebody else's make it stumble over
        raise _damaged(error) from None


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
        "a result of the journal is damaged", got=f"{type(error).__name__}: {error}",
        remedy="Restore the journal from a copy: the job is paid for and will not be sent again.",
    )  # fmt: skip
