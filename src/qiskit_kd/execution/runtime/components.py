# SPDX-License-Identifier: Apache-2.0
"""A circuit on a large device as its independent parts.

Qubits that no gate ties together, even through others, form circuits of their own, each as wide as
its qubits are many: fifteen tiles of six qubits are fifteen circuits of six qubits, not one of
ninety.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from qiskit import QuantumCircuit

from qiskit_kd.errors import CircuitError

__all__ = ["Component", "components"]


@dataclass(frozen=True, eq=False)
class Component:
    """Qubits that gates tie together, and what happens on them.

    Args:
        qubits: Physical qubits, ascending; wire k of the circuit is `qubits[k]`.
        circuit: The gates and delays on those qubits, without measurements and barriers.
        measured: `(wire, classical bit of the whole circuit)` of every measurement.
    """

    qubits: tuple[int, ...]
    circuit: QuantumCircuit
    measured: tuple[tuple[int, int], ...]


def components(circuit: QuantumCircuit, *, keep: Iterable[int] = ()) -> list[Component]:
    """The parts of a circuit whose measurements all come at the end.

    Args:
        circuit: The circuit on the device's qubits.
        keep: Qubits of interest beside the measured ones.

    Returns:
        The parts on which something is measured or kept, ordered by their least qubit.

    Raises:
        CircuitError: If a qubit is used after its measurement, reset or controlled by an outcome,
            or a classical bit is written twice.
    """
    groups = _Groups(circuit.num_qubits)
    gates: list[tuple[Any, list[int]]] = []
    measured: dict[int, list[int]] = {}
    written: set[int] = set()
    for item in circuit.data:
        name = item.operation.name
        qubits = [circuit.find_bit(q).index for q in item.qubits]
        if name == "barrier":
            continue
        late = [q for q in qubits if q in measured]
        if late and name != "measure" and name != "delay":
            raise _unfit(f"{name!r} on qubit {late[0]} after its measurement")
        if name == "measure":
            bit = circuit.find_bit(item.clbits[0]).index
            if late or bit in written:
                raise _unfit(f"two measurements of qubit {qubits[0]} or into bit {bit}")
            measured.setdefault(qubits[0], []).append(bit)
            written.add(bit)
        elif name == "reset" or item.clbits or hasattr(item.operation, "blocks"):
            raise _unfit(f"{name!r} on qubits {qubits}")
        elif not late:
            groups.join(qubits)
            gates.append((item.operation, qubits))
    wanted = {groups.root(q) for q in (*measured, *keep)}
    members: dict[int, list[int]] = {root: [] for root in wanted}
    busy = {*measured, *keep, *(q for _, qubits in gates for q in qubits)}
    for qubit in sorted(busy):
        if groups.root(qubit) in wanted:
            members[groups.root(qubit)].append(qubit)
    wire = {q: k for qubits in members.values() for k, q in enumerate(qubits)}
    parts = {root: QuantumCircuit(len(qubits)) for root, qubits in members.items()}
    for operation, qubits in gates:
        if (root := groups.root(qubits[0])) in wanted:
            parts[root].append(operation, [wire[q] for q in qubits], copy=False)
    found = [
        Component(
            tuple(qubits), parts[root],
            tuple((wire[q], bit) for q in qubits for bit in measured.get(q, ())),
        )
        for root, qubits in members.items()
    ]  # fmt: skip
    return sorted(found, key=lambda part: part.qubits)


class _Groups:
    """Disjoint sets of qubits."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, qubit: int) -> int:
        while self._parent[qubit] != qubit:
            self._parent[qubit] = self._parent[self._parent[qubit]]
            qubit = self._parent[qubit]
        return qubit

    def join(self, qubits: list[int]) -> None:
        first = self.root(qubits[0]) if qubits else 0
        for qubit in qubits[1:]:
            self._parent[self.root(qubit)] = first


def _unfit(what: str) -> CircuitError:
    return CircuitError(
        "local simulation runs gates, then measures every qubit at most once", got=what,
        remedy="Measure at the end, and unroll control flow.",
    )  # fmt: skip
