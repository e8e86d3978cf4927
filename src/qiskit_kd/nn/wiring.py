# SPDX-License-Identifier: Apache-2.0
"""What the layers made of circuits share: their engine, their first weights, their identity."""

from __future__ import annotations

import hashlib
import io
import json
from functools import lru_cache
from typing import Any

import torch
from qiskit import qpy
from torch import Tensor, nn

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.errors import ConfigError, ExecutionError
from qiskit_kd.execution.backends import Backend, load_backend
from qiskit_kd.execution.engine import Engine
from qiskit_kd.seeding import stream
from qiskit_kd.values import python_number

__all__ = [
    "AnyBackend",
    "OnEngine",
    "choose_engine",
    "circuit_digest",
    "first_weights",
]

AnyBackend = str | Backend | Engine
"""A name in the backend file, or the object itself."""


def choose_engine(
    backend: AnyBackend, gradient: str, shots: int | None, seed: int | None
) -> Engine:
    """The engine of a backend, or the engine given.

    Raises:
        ConfigError: If the backend is unknown or an option does not fit it.
    """
    if isinstance(backend, Engine):
        if gradient != "auto" or shots is not None:
            raise ConfigError(
                "an engine already has its gradient rule and shots",
                got=f"gradient={gradient!r}, shots={shots} beside an engine",
                remedy="Leave them out, or pass the backend's name.",
            )
        return backend
    if isinstance(backend, str):
        backend = load_backend(backend)
    if not isinstance(backend, Backend):
        raise ConfigError(
            "a backend is a name, a Backend or an Engine", got=type(backend).__name__,
            remedy="`qkd backends` lists the names.",
        )  # fmt: skip
    return backend.engine(gradient=gradient, shots=python_number(shots), seed=python_number(seed))


def options_digest(backend: AnyBackend) -> str:
    """Eight hexadecimal digits of all options of a backend; nothing of an engine given ready made.

    Two backends of one name, say of a device before and after somebody changed the scale of its
    noise, must not answer for each other where outputs are kept.
    """
    if isinstance(backend, Engine):
        return ""
    options = (load_backend(backend) if isinstance(backend, str) else backend).describe()
    told = {key: value for key, value in options.items() if key not in ("source", "description")}
    return hashlib.sha256(json.dumps(told, default=str, sort_keys=True).encode()).hexdigest()[:8]


class OnEngine(nn.Module):
    """What runs a layer's circuits; backend, engine, gradient rule and shots may be exchanged."""

    model: CircuitModel
    _engine: Engine
    _made: tuple[Engine, str]
    _asked: dict[str, Any]

    def _run_on(self, **asked: Any) -> None:
        """An engine for `backend`, `gradient`, `shots` and `seed`; what is not given stays."""
        asked = {**self.__dict__.get("_asked", {}), **asked}
        engine = choose_engine(**asked)
        self._asked = asked
        self._made, self._engine = (engine, options_digest(asked["backend"])), engine

    @property
    def engine(self) -> Engine:
        """What runs the circuits."""
        return self._engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        if not isinstance(engine, Engine):
            raise ConfigError(
                "an engine runs circuit models", got=repr(engine), expected="an Engine",
                remedy="Names and Backend objects are set as layer.backend.",
            )  # fmt: skip
        self._engine = engine

    @property
    def backend(self) -> AnyBackend:
        """Where the circuits run: what was asked for, or the engine set since."""
        backend: AnyBackend = self._asked["backend"]
        return backend if self._engine is self._made[0] else self._engine

    @backend.setter
    def backend(self, backend: AnyBackend) -> None:
        own = {"gradient": "auto", "shots": None} if isinstance(backend, Engine) else {}
        self._run_on(backend=backend, **own)

    @property
    def gradient(self) -> str:
        """The gradient rule asked for."""
        return str(self._asked["gradient"])

    @gradient.setter
    def gradient(self, gradient: str) -> None:
        self._run_on(backend=self.backend, gradient=gradient)

    @property
    def shots(self) -> int | None:
        """Shots per circuit; None where outputs are exact."""
        return self._engine.shots

    @shots.setter
    def shots(self, shots: int | None) -> None:
        self._run_on(backend=self.backend, shots=shots)

    @property
    def seed(self) -> int | None:
        """The seed asked for; setting it makes an engine that draws its shots from there."""
        seed: int | None = self._asked["seed"]
        return seed

    @seed.setter
    def seed(self, seed: int | None) -> None:
        if isinstance(self.backend, Engine):
            raise ConfigError(
                "an engine already has its seed", got=f"seed={seed!r} beside an engine",
                remedy="Set an engine of that seed, or the backend's name.",
            )  # fmt: skip
        self._run_on(backend=self.backend, seed=seed)

    def engine_text(self) -> str:
        """What the layer's `repr`, under which outputs are kept, says of its engine."""
        engine, options = self._engine, self._made[1] if self._engine is self._made[0] else ""
        shots = f", shots={engine.shots}" if engine.shots else ""
        return f"backend={engine.name!r}{shots}" + (f", options={options}" if options else "")

    def engine_identity(self) -> str:
        """What tells this engine from others of its name where outputs are kept."""
        made = self._engine is self._made[0] and self._made[1]
        return "" if made else self._engine.identity()

    def __prepare_scriptable__(self) -> nn.Module:
        """Refuse `torch.jit.script`.

        Raises:
            ExecutionError: Always.
        """
        raise ExecutionError(
            "a quantum layer runs on an engine, which TorchScript cannot hold",
            got="torch.jit.script", expected="a call of the module itself",
            remedy="Save state_dict(), build the module anew where it is loaded, and script its "
            "classical parts alone.",
        )  # fmt: skip


def first_weights(
    shape: tuple[int, ...], seed: int | None, dtype: torch.dtype, *, trainable: bool = True
) -> nn.Parameter:
    """Angles uniform in [-pi, pi) from the seed's stream; None stands for seed 0.

    Raises:
        ConfigError: If `dtype` is neither single nor double precision.
    """
    if dtype not in (torch.float32, torch.float64):
        raise ConfigError(
            "weights are real numbers", got=str(dtype), expected="torch.float32 or torch.float64"
        )
    start = stream(0 if seed is None else seed, "init").uniform(-torch.pi, torch.pi, shape)
    values: Tensor = torch.tensor(start, dtype=dtype)
    return nn.Parameter(values, requires_grad=trainable)


@lru_cache(maxsize=64)
def circuit_digest(model: CircuitModel) -> str:
    """Sixteen hexadecimal digits of circuit, readout and map of the features.

    Layers carry it in their `repr`, and so in the hash under which outputs are kept: two circuits
    of the same size must not answer for each other. The map is a function, so it counts by its
    values at two rows.
    """
    digest = hashlib.sha256()
    with io.BytesIO() as content:
        qpy.dump(model.circuit, content)
        digest.update(content.getvalue())
    readout = model.readout
    if isinstance(readout, ClassGroups):
        digest.update(readout.labels.tobytes())
    else:
        digest.update(repr([op.to_list() for op in readout.operators]).encode())
    rows = stream(0, "circuit digest").uniform(0.1, 1.0, (2, model.num_features))
    # Nine digits: an angle may differ in its last bits between machines.
    digest.update(repr(model.encoding.angles(rows).round(9).tolist()).encode())
    return digest.hexdigest()[:16]
