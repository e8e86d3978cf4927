# SPDX-License-Identifier: Apache-2.0
"""Parameter names and order: `input_00 ...` then `weight_000 ...`.

Plain zero-padded identifiers, not `ParameterVector`: a vector of eleven or more elements comes
back from OpenQASM 3 in another order, and positional binding then gives another unitary. UUIDs are
derived from the names, so QPY files are byte-stable and a loaded circuit equals a fresh one.
This module must not import torch.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Collection, Sequence

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.parametertable import ParameterView

from qiskit_kd.errors import CircuitError
from qiskit_kd.values import listed, whole

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "qiskit-kd")


def _named(name: str) -> Parameter:
    return Parameter(name, uuid=uuid.uuid5(_NAMESPACE, name))


def _counted(number: int) -> int:
    return whole(number, "parameters are counted in whole numbers", error=CircuitError)


def input_parameters(count: int, start: int = 0) -> list[Parameter]:
    """`count` encoding angles, `input_00` and on (three digits from 100 angles on)."""
    count, start = _counted(count), _counted(start)
    digits = max(2, len(str(start + count - 1)))
    return [_named(f"input_{k:0{digits}d}") for k in range(start, start + count)]


def weight_parameters(count: int, start: int = 0) -> list[Parameter]:
    """`count` trainable weights, `weight_000` and on."""
    count, start = _counted(count), _counted(start)
    digits = max(3, len(str(start + count - 1)))
    return [_named(f"weight_{k:0{digits}d}") for k in range(start, start + count)]


def rename(
    circuit: QuantumCircuit, new: Sequence[Parameter], old: Sequence[Parameter] | None = None
) -> QuantumCircuit:
    """A copy of `circuit` whose parameters, in the order `old`, are `new`."""
    old = tuple(circuit.parameters if old is None else old)
    if len(new) != len(old):
        raise CircuitError(
            "renaming needs one name per parameter", got=f"{len(new)} names", expected=str(len(old))
        )
    # By way of names nobody has: Qiskit refuses two parameters of one name, even for a moment, and
    # a user's own `weight_001` may have to become our `weight_000`.
    longest = max((len(parameter.name) for parameter in old), default=0)
    between = [Parameter(f"{'_' * (longest + 1)}{k}") for k in range(len(old))]
    return circuit.assign_parameters(dict(zip(old, between, strict=True))).assign_parameters(
        dict(zip(between, new, strict=True))
    )


def parameter_names(given: object, rule: str) -> list[str]:
    """Names of parameters given as such or by name; a `ParameterVector` stands for its elements."""
    entries = [given] if isinstance(given, ParameterVector) else given
    if isinstance(entries, ParameterView):  # of `circuit.parameters`, in order
        entries = list(entries)
    return [
        p if isinstance(p, str) else str(getattr(p, "name", repr(p)))
        for entry in listed(entries, rule, error=CircuitError)
        for p in (entry if isinstance(entry, ParameterVector) else [entry])
    ]


def feature_order(
    circuit: QuantumCircuit,
    given: Sequence[Parameter | str] | None = None,
    *,
    but: Collection[str] = (),
) -> list[Parameter]:
    """The circuit's parameters in the order in which an angle map fills them.

    Qiskit sorts by name as text, `x0, x1, x10, x11, x2`; meant is x0, x1, x2. Numbers in names are
    read as numbers, and names without a common stem are taken only where every order is one. The
    order may be `given` by parameters or names; a `ParameterVector` stands for its elements.
    Parameters named in `but` are no features.

    Raises:
        CircuitError: If `given` is not each parameter once, or the names do not tell the order.
    """
    known = {p.name: p for p in circuit.parameters if p.name not in but}
    if given is not None:
        names = parameter_names(given, "the order of the inputs is a list of parameters")
        if sorted(names) != sorted(known):
            raise CircuitError(
                "the order of the inputs names each parameter of the circuit once",
                got=", ".join(names) or "none",
                expected=", ".join(known),
            )
        return [known[name] for name in names]
    keys = {name: _natural(name) for name in known}
    order = sorted(known, key=lambda name: keys[name])
    first = dict.fromkeys(
        p.name
        for item in circuit.data
        for v in item.operation.params
        for p in sorted(
            (p for p in getattr(v, "parameters", ()) if p.name in known),
            key=lambda p: keys[p.name],
        )
    )
    call = "from_circuit" if but else "Encoding"
    tied = len({str(key) for key in keys.values()}) < len(keys)
    one_stem = len({tuple(key[::2]) for key in keys.values()}) == 1
    first |= dict.fromkeys(known)
    if tied or not (one_stem or order == list(known) == list(first)):
        raise CircuitError(
            "the names of an encoding's parameters tell which feature each belongs to",
            got=", ".join(known),
            expected="one name with numbers, such as x0, x1, ...",
            remedy=f"Give the order: {call}(..., inputs={list(first)!r}).",
        )
    return [known[name] for name in order]


def _natural(name: str) -> list[str | int]:
    """Text and numbers of a name in turn; subscripts (x\u2081\u2080) are numbers too."""
    parts = re.split(r"([0-9]+)", unicodedata.normalize("NFKC", name))
    return [int(part) if k % 2 else part for k, part in enumerate(parts)]
