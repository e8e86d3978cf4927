# SPDX-License-Identifier: Apache-2.0
"""`CompiledCircuit`: a circuit, and what follows from its content, each worked out once.

Names that Python makes up, of circuits and of parameters' identities, are no part of a content.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from functools import cached_property
from typing import Any

from qiskit import QuantumCircuit, QuantumRegister, qpy
from qiskit.circuit import Parameter, ParameterExpression
from qiskit.exceptions import QiskitError
from qiskit.transpiler import Target

_KEPT = 64  # circuits
_VERSION = slice(7, 10)  # of Qiskit, in the head of a QPY file
_FORMAT = min(18, qpy.QPY_VERSION)  # a later one would give every job that was paid a new key
_NOMINAL_DURATION = 5e-6  # six qubits, sixty weights on a device with CZ gates: 4 to 5.4 us


class CompiledCircuit:
    """A circuit as it is run.

    Args:
        circuit: The circuit, in the gates of what runs it.
        target: The device's gates; None where nothing is known of them.
    """

    def __init__(self, circuit: QuantumCircuit, target: Target | None = None) -> None:
        self.circuit, self._target = circuit, target
        self.fits = False
        """Whether its device has said that it can run it, whatever the values."""

    @cached_property
    def digest(self) -> str:
        """See `circuit_digest`."""
        return circuit_digest(self.circuit)

    @cached_property
    def label(self) -> str:
        """The beginning of its digest, as a journal names it."""
        return self.digest[:16]

    @cached_property
    def duration(self) -> float:
        """See `circuit_duration`."""
        return circuit_duration(self.circuit, self._target)

    @cached_property
    def registers(self) -> list[tuple[str, int, int]]:
        """Name, bits and bytes of each classical register."""
        return [(r.name, r.size, -(-r.size // 8)) for r in self.circuit.cregs]


class CompiledCircuits:
    """The circuits for one target that were asked for last, by their objects.

    One that was changed in place since is another: to see that costs a hundredth of its digest.
    """

    def __init__(self, target: Target | None = None) -> None:
        self._target = target
        self._known: dict[int, tuple[CompiledCircuit, Any]] = {}

    def __call__(self, circuit: QuantumCircuit) -> CompiledCircuit:
        """The same object for the same circuit."""
        data = circuit._data.copy()  # noqa: SLF001 - `circuit.data` compares gate by gate
        state = data, circuit.global_phase, circuit.name, [*circuit.qregs], [*circuit.cregs]
        found = self._known.get(id(circuit))
        if found is None or found[0].circuit is not circuit or found[1] != state:
            while len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            found = self._known[id(circuit)] = CompiledCircuit(circuit, self._target), state
        return found[0]


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


def _with_named_angles(circuit: QuantumCircuit) -> QuantumCircuit:
    """Angles such as `a + b` as parameters of that name: QPY writes a sum in any order."""
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


def circuit_duration(isa: QuantumCircuit, target: Target | None) -> float:
    """Seconds of a transpiled circuit, from the device's own gate times.

    Five microseconds, as of a student of six qubits, where the target states no times: a simulator
    that stands in for a device.
    """
    if target is not None:
        try:
            return float(isa.estimate_duration(target))
        except QiskitError:
            pass
    return _NOMINAL_DURATION
