# SPDX-License-Identifier: Apache-2.0
"""Jobs of the loopback service: decoded, counted, run and encoded by IBM's own schema package."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ibm_quantum_schemas.common import CompressedTensorModel
from ibm_quantum_schemas.executor import version_2_0 as schema
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit_ibm_runtime.fake_provider.executor.broadcast_sample import broadcast_sample
from qiskit_ibm_runtime.quantum_program.converters import quantum_program_from_2_0
from samplomatic.quantum_program import CircuitItem

from tests.loopback import legacy
from tests.loopback.devices import Snapshot, circuit_seconds, not_isa
from tests.loopback.simulator import Unsupported, shots_of

__all__ = ["FINAL", "Job", "Work", "altered", "decode"]

FINAL = ("Completed", "Failed", "Cancelled")
OVERHEAD = 2.0
"""Seconds that a job costs beside its executions."""


def utc() -> str:
    """Now, as the service writes it."""
    return dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")


@dataclass
class Job:
    """A job of the service, from its request to its end."""

    id: str
    request: dict[str, Any]
    order: int
    status: str = "Queued"
    reason: str = ""
    code: int = 0
    created: str = field(default_factory=utc)
    running: str | None = None
    finished: str | None = None
    seconds: float = 0.0
    work: Work | None = None
    result: str | None = None
    begun: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags in the order in which they were given."""
        return tuple(self.request.get("tags") or ())

    @property
    def content(self) -> str:
        """Hash of what the job runs, "" where it cannot be read."""
        return "" if self.work is None else self.work.content

    def end(self, status: str, reason: str = "", code: int = 0) -> None:
        """Put the job into a final state."""
        self.status, self.reason, self.code, self.finished = status, reason, code, utc()
        self.done.set()

    def public(self, *, params: bool) -> dict[str, Any]:
        """The job as `GET /jobs/{id}` shows it."""
        state: dict[str, Any] = {"status": self.status}
        if self.reason:
            state |= {"reason": self.reason, "reason_code": self.code}
        body = {
            "id": self.id,
            "state": state,
            "status": self.status,
            "created": self.created,
            "program": {"id": self.request["program_id"]},
            "private": False,
            "estimated_running_time_seconds": 0.0 if self.work is None else self.work.seconds,
        }
        shown = ["backend", "session_id", "tags", "cost"] + ["params"] * params
        return body | {k: v for k, v in self.request.items() if k in shown and v is not None}

    def metrics(self) -> dict[str, Any]:
        """The job as `GET /jobs/{id}/metrics` shows it."""
        names = ("quantum_seconds", "seconds", "qpu_charge_time_seconds")
        usage: dict[str, Any] = {"status": "pending"}
        if self.status in FINAL:
            usage = {"status": "complete"} | dict.fromkeys(names, self.seconds)
        times = {"created": self.created, "running": self.running, "finished": self.finished}
        return {"timestamps": times, "usage": usage}


@dataclass(frozen=True)
class Work:
    """What a job asks for, decoded: items of a quantum program, or PUBs of an older primitive."""

    program: Any
    pubs: int
    executions: int
    content: str
    seconds: float
    wrong: str

    def run(self, tags: tuple[str, ...]) -> str:
        """Run it; the text is what `GET /jobs/{id}/results` answers.

        The shots are a function of content and tags, so a job sent again under its own tag gives
        what the first would have given, in whatever order and at whatever time.
        """
        seed = hashlib.sha256("\0".join([self.content, *sorted(tags)]).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(seed[:16], "big"))
        if isinstance(self.program, legacy.Program):
            return self.program.run(rng)
        return _run_program(self.program, rng)


def decode(request: dict[str, Any], device: Snapshot) -> Work:
    """Read a request.

    Raises:
        ValueError: If the schema package refuses it.
        Unsupported: If the program is not imitated.
    """
    program_id, params = request["program_id"], request["params"]
    rep_delay = None
    if program_id == "executor":
        model = schema.ParamsModel.model_validate(params)
        program, _ = quantum_program_from_2_0(model)
        rep_delay = model.options.rep_delay
        items = [(item.circuit, item.size() * program.shots) for item in program.items]
        content = _digest_program(program)
        options = model.options.model_dump_json()
        return _work(
            (model, program),
            items,
            content + options,
            device,
            device.rep_delay if rep_delay is None else rep_delay,
        )
    if program_id in ("sampler", "estimator"):
        old = legacy.decode(program_id, params)
        items = [(pub.circuit, pub.executions) for pub in old.pubs]
        return _work(old, items, old.content(), device, device.rep_delay)
    raise Unsupported(f"program {program_id} is not imitated")


def _work(
    program: Any,
    items: list[tuple[QuantumCircuit, int]],
    content: str,
    device: Snapshot,
    rep_delay: float,
) -> Work:
    wrong = next((text for c, _ in items if (text := not_isa(c, device))), "")
    seconds = OVERHEAD
    for circuit, executions in items:
        seconds += executions * (rep_delay + (0.0 if wrong else circuit_seconds(circuit, device)))
    return Work(
        program,
        len(items),
        sum(n for _, n in items),
        hashlib.sha256(content.encode()).hexdigest(),
        seconds,
        wrong,
    )


def _digest_program(program: Any) -> str:
    parts = [str(program.shots), str(program.meas_level)]
    for item in program.items:
        parts.append(legacy.signature(item.circuit))
        if isinstance(item, CircuitItem):
            values: Any = item.circuit_arguments
        else:
            # The names of a samplex's own draws are random; what it is given is not.
            values = item.samplex_arguments
            parts.append(str(tuple(item.shape)))
            for spec in values.specs:
                if spec.name in values:
                    parts.append(f"{spec.name}={_digest_value(values[spec.name])}")
            continue
        parts.append(_digest_value(values))
    return "\n".join(parts)


def _digest_value(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.shape}{hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    return str(value)


def _run_program(program: Any, rng: np.random.Generator) -> str:
    model, decoded = program
    if decoded.meas_level != "classified":
        raise Unsupported(f"measurement level {decoded.meas_level} is not imitated")
    start, answers = dt.datetime.now(), []
    for item in decoded.items:
        data: dict[str, NDArray[Any]] = {}
        if isinstance(item, CircuitItem):
            values = np.asarray(item.circuit_arguments, float)
        else:
            samplex = item.samplex.finalize()
            data = broadcast_sample(samplex, item.samplex_arguments, item.shape, rng)
            values = np.asarray(data.pop("parameter_values", np.zeros((*item.shape, 0))), float)
        shape = values.shape[:-1]
        rows = values.reshape(int(np.prod(shape)), values.shape[-1])
        for name, bits in shots_of(item.circuit, rows, decoded.shots, rng).items():
            data[name] = bits.reshape(*shape, *bits.shape[1:])
        answers.append(
            schema.QuantumProgramResultItemModel(
                results={k: CompressedTensorModel.from_numpy(v) for k, v in data.items()},
                metadata=schema.ItemMetadataModel(),
            )
        )
    span = schema.ChunkSpan(start=start, stop=dt.datetime.now(), parts=[])
    return schema.QuantumProgramResultModel(
        data=answers,
        semantic_role=model.quantum_program.semantic_role,
        passthrough_data=model.quantum_program.passthrough_data,
        metadata=schema.MetadataModel(chunk_timing=[span]),
    ).model_dump_json()


def altered(text: str, change: Callable[[NDArray[Any]], NDArray[Any]], rename: str = "") -> str:
    """A result whose arrays were changed, under another name where one is given."""
    model = schema.QuantumProgramResultModel.model_validate_json(text)
    for item in model.data:
        arrays = {name: change(value.to_numpy()) for name, value in item.results.items()}
        item.results = {
            rename or name: CompressedTensorModel.from_numpy(value)
            for name, value in arrays.items()
        }
    return model.model_dump_json()
