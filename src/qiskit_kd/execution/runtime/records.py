# SPDX-License-Identifier: Apache-2.0
"""What the journal is told of a job, and what it tells."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, cast, get_args, get_type_hints

from qiskit_kd.errors import StorageError
from qiskit_kd.execution.runtime.cost import Cost

__all__ = ["Attempt", "Intent", "Record", "State", "read"]

T = TypeVar("T")

State = Literal["intent", "sent", "done", "failed"]


@dataclass(frozen=True)
class Intent:
    """A job that is about to be sent.

    Args:
        key: Hash of its content.
        tag: Its name at the service, which puts `TAG_PREFIX` in front.
        backend: Entry of `backends.yaml` it belongs to.
        device: Name of the device.
        kind: `"sampler"` or `"estimator"`.
        circuits: Hash of its circuits.
        shots: Shots of every row.
        precision: Standard deviation asked for.
        cost: What it is expected to cost.
        known: Ids of jobs with the same tag that were there before.
        values: Parameter values, as `pack_values` writes them.
        context: State of the work that asks for it.
        max_seconds: Seconds after which the service cuts it off; None if it has no such limit.
        account: Whose it is, as `Device.account` says; budgets are kept per device and account.
    """

    key: str
    tag: str
    backend: str
    device: str
    kind: str
    circuits: str
    shots: int | None
    precision: float | None
    cost: Cost
    known: tuple[str, ...] = ()
    values: bytes = b""
    context: bytes = b""
    max_seconds: int | None = None
    account: str = ""


@dataclass(frozen=True)
class Record:
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


def read(kind: type[T], row: Mapping[str, Any]) -> T:
    """A `Record` or an `Attempt` from a row of the file, which anybody may have changed.

    Raises:
        StorageError: If a value is none that a journal writes.
    """
    values = dict(row)
    for name, allowed in _allowed(cast(Any, kind)).items():
        value = values[name]
        if bool in allowed and value in (0, 1):
            value = bool(value)
        elif tuple in allowed:
            value = _texts(value)
        elif float in allowed and isinstance(value, int):
            value = float(value)
        right = type(value) in allowed or (isinstance(value, str) and value in allowed)
        if not right or (isinstance(value, int | float) and not 0 <= value < math.inf):
            raise StorageError(
                "a job of the journal is as it was written down", got=f"{name} {value!r:.80}",
                remedy="Restore the journal from a copy, or start another one; nothing was sent.",
            )  # fmt: skip
        values[name] = value
    return kind(**values)


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
