# SPDX-License-Identifier: Apache-2.0
"""`backends.yaml`: one name for what runs a circuit, chosen without touching the model.

A `Backend` gives an engine for circuit models, and plain V2 primitives with a pass manager for any
other Qiskit code. What its entry may say is `schema`'s, what is made of it a `Kind`'s.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import uuid
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from numbers import Integral
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from qiskit import generate_preset_pass_manager
from qiskit.primitives import BackendEstimatorV2, BaseEstimatorV2, BaseSamplerV2
from qiskit.providers import BackendV2
from qiskit.transpiler import PassManager

from qiskit_kd.errors import ConfigError, UnknownNameError
from qiskit_kd.execution.engine import Engine
from qiskit_kd.execution.gradients import check_gradient
from qiskit_kd.execution.kinds import Kind, kinds
from qiskit_kd.execution.primitives import PrimitiveSource, backend_under, manager_of, sampler_of
from qiskit_kd.execution.sampled import SampledEngine
from qiskit_kd.execution.schema import BackendOptions
from qiskit_kd.execution.transpiling import CarefulPassManager
from qiskit_kd.values import named_path, shown, whole
from qiskit_kd.yamlfile import faults, load_yaml, parse_yaml, validation_error

ENVIRONMENT_VARIABLE = "QISKIT_KD_BACKENDS"

SHOTS = 1024
"""Shots of a sampler where an entry names none."""


def backend_file() -> type[BaseModel]:
    """Schema of `backends.yaml`, with all kinds that are registered."""
    return _file_of(tuple(kinds[name].schema for name in kinds))


@lru_cache(maxsize=4)
def _file_of(schemas: tuple[type[BackendOptions], ...]) -> type[BaseModel]:
    entry: Any = Annotated[Union[schemas], Field(discriminator="kind")]  # noqa: UP007
    return create_model(
        "BackendFile",
        __config__=ConfigDict(strict=True, extra="forbid", frozen=True),
        __doc__="Schema of `backends.yaml`.",
        version=(Literal[1], Field(alias="schema")),
        backends=(dict[str, entry], Field(min_length=1)),
    )


def _entries(data: Any) -> dict[str, BackendOptions]:
    found: dict[str, BackendOptions] = backend_file().model_validate(data).__dict__["backends"]
    return found


class Backend:
    """A named place where circuits run.

    Args:
        name: Name in the file.
        options: The entry of the file.
        source: The file it comes from.
    """

    def __init__(self, name: str, options: Any, source: str) -> None:
        self.name = name
        self.options = options
        self.source = source

    @staticmethod
    def of(
        thing: Any,
        *,
        pass_manager: PassManager | None = None,
        shots: int | None = None,
        name: str | None = None,
    ) -> Backend:
        """Somebody else's primitive or backend as one of ours; `backend=thing` is short for it.

        Args:
            thing: A V2 sampler or estimator, or a `BackendV2`: a simulator, a fake device, or one
                of another vendor. Of an estimator come expectation values only.
            pass_manager: What makes circuits runnable there; None for that of the backend, or of
                the backend that a primitive knows; primitives without one take any circuit.
            shots: Shots per circuit; None for 1,024, or an estimator's own precision.
            name: What reports call it; None for its own name.

        Raises:
            ConfigError: If it is neither, or a device that costs money, which needs a budget.
        """
        return HandedIn(thing, pass_manager=pass_manager, shots=shots, name=name)

    def __repr__(self) -> str:
        return f"Backend({self.name!r}, kind={self.kind!r}, shots={self.shots})"

    @property
    def kind(self) -> str:
        """Kind of the backend, e.g. `"aer"`."""
        return str(self.options.kind)

    @property
    def _kind(self) -> Kind[Any]:
        return kinds[self.kind](self.name, self.options)

    @property
    def shots(self) -> int | None:
        """Shots per circuit; None where outputs are exact."""
        shots: int | None = self.options.shots
        return shots

    def place(self, file: str | Path | None = None) -> str:
        """Where its entry stands, as `file:line:col: backends.name`.

        Args:
            file: Another file than the one it comes from, such as an experiment's.
        """
        _, locate = load_yaml(self.source if file is None else file)
        return f"{locate(('backends', self.name), key=True)}: backends.{self.name}"

    def engine(
        self, *, gradient: str = "auto", shots: int | None = None, seed: int | None = None
    ) -> Engine:
        """An engine that runs circuit models here.

        Args:
            gradient: `"auto"` (what the file says), `"shift"` or `"spsa"`.
            shots: Shots per circuit; None for what the file says. Exact values come from an entry
                without shots (`"exact"`, `"aer"`): no call takes the shots of an entry away.
            seed: Root seed of shots and SPSA; None for what the file says, or a new one. Every job
                of the engine draws shots of its own from it.

        Raises:
            UnknownNameError: If the gradient rule is unknown.
            ConfigError: If `shots` is no positive integer, or `seed` no integer from 0.
        """
        if check_gradient(gradient) == "auto":
            gradient = self.options.gradient
        if not (shots is None or (_is_integer(shots) and shots >= 1)):
            raise ConfigError(
                "a number of shots is a positive integer",
                got=repr(shots),
                expected="1 or more, or None for what the file says",
                remedy="For exact values choose a backend without shots, e.g. 'exact' or 'aer'.",
            )
        seed = self._seed(seed)
        return self._kind.engine(gradient, self.options.shots if shots is None else shots, seed)

    def sampler(self, *, seed: int | None = None) -> BaseSamplerV2:
        """A V2 sampler for any Qiskit code (1,024 shots where the file names none).

        Args:
            seed: Seed of every run, so each `run` of equal circuits repeats the same shots; None
                for what the file says, or fresh shots every time.

        Raises:
            ConfigError: If `seed` is no integer from 0.
        """
        seed = self._seed(seed)
        return self._kind.sampler(self.shots or SHOTS, seed)

    def estimator(self, *, seed: int | None = None) -> BaseEstimatorV2:
        """A V2 estimator for any Qiskit code; exact where the file names no shots.

        Where it names shots, the simulators' estimators add normal noise of standard deviation
        `1 / sqrt(shots)` to the exact values, whatever the observable; `engine` samples instead.
        `run(pubs, precision=0)` gives exact values all the same.

        Args:
            seed: Seed of every run, so each `run` of equal circuits repeats the same noise; None
                for what the file says, or fresh noise every time.

        Raises:
            ConfigError: If `seed` is no integer from 0.
        """
        seed = self._seed(seed)
        precision = 0.0 if self.shots is None else float(self.shots**-0.5)
        return self._kind.estimator(precision, seed)

    def _seed(self, seed: Any) -> int | None:
        """The seed of a call, or of the file; warns of options that results do not show.

        Those are the ones that somebody would look for there; `shown` names all of them.
        """
        if not (seed is None or (_is_integer(seed) and seed >= 0)):
            rule, expected = "a seed is an integer from 0", "0 or more, or None"
            raise ConfigError(rule, got=repr(seed), expected=expected)
        could = {"mode", *self.options.describe()} - BackendOptions.model_fields.keys()
        names = [name for name in self.options.without_effect() if name in could]
        if names:
            said = f"options of the backend {self.name!r} that change nothing on it: "
            warnings.warn(said + ", ".join(names), stacklevel=3)
        found: int | None = self.options.seed if seed is None else seed
        return found

    def pass_manager(self) -> PassManager:
        """A pass manager to circuits this backend runs."""
        return self._kind.pass_manager()

    def changed(self, name: str, settings: Mapping[str, Any]) -> Backend:
        """A backend with some other settings, under another name.

        Args:
            name: What it is called from now on.
            settings: Options of the entry and their values, as the backend file has them. An
                option that is a mapping, such as `noise`, is replaced whole.

        Raises:
            ConfigError: If they make no valid entry.
        """
        if not isinstance(settings, Mapping):
            raise ConfigError(
                "settings of a backend are named",
                got=shown(settings),
                expected="a mapping",
                remedy="For example {'shots': 100}.",
            )
        found = self._options(settings)
        if isinstance(found, list):
            where, what = found[0]
            place = f"{'.'.join(where)}: " if where else ""
            raise ConfigError(f"settings of the backend {name!r}: {place}{what}")
        if "noise" in settings:  # whose snapshot lies beside the backend file
            found = found.beside(Path(self.source).parent)
        return Backend(name, found, self.source)

    def faults(self, settings: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
        """Place and fault of settings that make no valid entry, as `changed` reads them."""
        found = self._options(settings)
        return found if isinstance(found, list) else []

    def _options(
        self, settings: Mapping[str, Any]
    ) -> BackendOptions | list[tuple[tuple[str, ...], str]]:
        """The options with some settings, or what is wrong with them."""
        options = {**self.options.model_dump(), **settings}
        if "kind" in settings and settings["kind"] != self.kind:
            options = dict(settings)
        try:
            return _entries({"schema": 1, "backends": {"entry": options}})["entry"]
        except ValidationError as error:
            return _faults(error, options)

    def describe(self) -> dict[str, Any]:
        """Name, file and all options, for tables and records."""
        return {"name": self.name, "source": self.source, **self.options.describe()}

    def shown(self) -> dict[str, Any]:
        """`describe`, and what results do not depend on, such as the description."""
        found = {"name": self.name, "source": self.source, **self.options.shown()}
        names = self.options.without_effect()
        return {**found, "without_effect": ", ".join(names)} if names else found


class HandedIn(Backend):
    """A V2 primitive or a `BackendV2` of somebody else's; see `Backend.of`."""

    def __init__(
        self,
        thing: Any,
        *,
        pass_manager: PassManager | None = None,
        shots: int | None = None,
        name: str | None = None,
    ) -> None:
        kinds = (BackendV2, BaseSamplerV2, BaseEstimatorV2)
        if not isinstance(thing, kinds):
            raise ConfigError(
                "a backend is a name, a Backend, an Engine, a V2 primitive or a BackendV2",
                got=type(thing).__name__,
                remedy="`qkd backends` lists the names; primitives and backends of version 1 are "
                "no longer Qiskit's.",
            )
        under: Any = thing if isinstance(thing, BackendV2) else backend_under(thing)
        if any(kind.__module__ == "qiskit_ibm_runtime.ibm_backend" for kind in type(under).__mro__):
            raise ConfigError(
                "a device that costs money is used with a budget",
                got=f"{type(thing).__name__} on {under.name!r}",
                expected="an entry of kind runtime in backends.yaml",
                remedy=f"Write one with device: {under.name} and a budget, and pass its name.",
            )
        self.name = str(name or getattr(under, "name", None) or type(thing).__name__)
        self.source, self.options = type(thing).__name__, None
        self._thing = thing
        self._shots = (
            None if shots is None else whole(shots, "a sampler takes at least one shot", least=1)
        )
        if not (pass_manager is None or hasattr(pass_manager, "run")):
            raise ConfigError(
                "a pass manager makes circuits runnable",
                got=type(pass_manager).__name__,
                expected="a PassManager of Qiskit's",
            )
        # One that can be made again need not be pickled, and Qiskit's cannot be.
        self._pass_manager = pass_manager or (under and partial(manager_of, under))
        self._identity = uuid.uuid4().hex  # no two of them answer for each other

    def __repr__(self) -> str:
        return f"Backend.of({self.source} {self.name!r}, shots={self.shots})"

    @property
    def kind(self) -> str:
        """What was handed in: the name of its class."""
        return self.source

    @property
    def shots(self) -> int | None:
        """See `Backend.shots`."""
        return self._shots or (None if isinstance(self._thing, BaseEstimatorV2) else SHOTS)

    def engine(
        self, *, gradient: str = "auto", shots: int | None = None, seed: int | None = None
    ) -> Engine:
        """See `Backend.engine`."""
        thing, estimator = self._thing, None
        sampler: Any = thing
        if isinstance(thing, BackendV2):
            sampler = partial(sampler_of, thing)
        elif isinstance(thing, BaseEstimatorV2):
            sampler, estimator = None, thing
        source = PrimitiveSource(
            sampler,
            estimator=estimator,
            pass_manager=self._pass_manager,
            shots=self.shots if shots is None else shots,
        )
        return SampledEngine(source, name=self.name, gradient=gradient, seed=seed)

    def sampler(self, *, seed: int | None = None) -> BaseSamplerV2:
        """See `Backend.sampler`."""
        found = sampler_of(self._thing, seed) if isinstance(self._thing, BackendV2) else self._thing
        return self._primitive(found, BaseSamplerV2)

    def estimator(self, *, seed: int | None = None) -> BaseEstimatorV2:
        """See `Backend.estimator`."""
        del seed
        thing = self._thing
        found = BackendEstimatorV2(backend=thing) if isinstance(thing, BackendV2) else thing
        return self._primitive(found, BaseEstimatorV2)

    def _primitive(self, found: Any, kind: type) -> Any:
        if isinstance(found, kind):
            return found
        raise ConfigError(
            "a primitive is of the kind that was handed in",
            got=self.source,
            expected=kind.__name__,
        )

    def pass_manager(self) -> PassManager:
        """See `Backend.pass_manager`."""
        if self._pass_manager is None:
            return CarefulPassManager(generate_preset_pass_manager(optimization_level=0))
        given = self._pass_manager
        return given() if isinstance(given, partial) else given

    def describe(self) -> dict[str, Any]:
        """Name and class of what was handed in."""
        return {"name": self.name, "source": self.source, "identity": self._identity}

    def shown(self) -> dict[str, Any]:
        """See `Backend.shown`."""
        return {"name": self.name, "source": self.source}

    def changed(self, name: str, settings: Mapping[str, Any]) -> Backend:
        """See `Backend.changed`; what was handed in has no entry.

        Raises:
            ConfigError: Always.
        """
        del settings
        raise self._no_entry(f"{name!r} from")

    def faults(self, settings: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
        """As `changed`."""
        raise self._no_entry(f"{sorted(settings)} for")

    def place(self, file: str | Path | None = None) -> str:
        """As `changed`."""
        del file
        raise self._no_entry("the place of")

    def _no_entry(self, asked: str) -> ConfigError:
        return ConfigError(
            "settings are those of an entry in the backend file",
            got=f"{asked} a {self.source}",
            remedy="Change it before it is handed in.",
        )


def _faults(
    error: ValidationError, options: Mapping[str, Any]
) -> list[tuple[tuple[str, ...], str]]:
    """Place and fault of an entry's options, in the words of a backend file."""
    data = {"schema": 1, "backends": {"entry": options}}
    _, locate = parse_yaml(json.dumps(data, default=str))  # only where its keys stand
    found = []
    for item in error.errors(include_url=False):
        ((_, text),) = faults([item], locate, backend_file())
        _, where, what = text.split(": ", 2)
        found.append((tuple(where.split(".")[2:]), what))
    return found


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def backends_path(path: str | Path | None = None) -> Path:
    """The backend file in force.

    The first that exists of: `path`, the one named by `QISKIT_KD_BACKENDS`, `backends.yaml` in the
    working directory, that of the source tree, that inside the installed package. The first two
    are taken as given: if named, they must exist.

    Args:
        path: A file, or None to look for one.

    Raises:
        ConfigError: If there is none.
    """
    named = path or os.environ.get(ENVIRONMENT_VARIABLE)
    rule = "a backend file is named by its path"
    candidates = [named_path(named, rule)] if named else list(_usual_places())
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ConfigError(
        "a backend file must exist",
        got=", ".join(f"no {c}" for c in candidates),
        remedy=f"Correct the path or {ENVIRONMENT_VARIABLE}, or write a backends.yaml.",
    )


def _usual_places() -> Iterator[Path]:
    yield Path("backends.yaml")
    root = Path(__file__).resolve().parents[3]
    if (root / "pyproject.toml").is_file():  # its copy is newer than the packaged one
        yield root / "backends.yaml"
    yield Path(str(importlib.resources.files("qiskit_kd") / "_data" / "backends.yaml"))


def list_backends(path: str | Path | None = None) -> dict[str, Backend]:
    """All backends of the file in force, by name.

    Args:
        path: A backend file; None looks in the usual places (see `backends_path`).

    Raises:
        ConfigError: If the file is missing or wrong; every fault is listed with its line.
    """
    file = backends_path(path)
    try:
        facts = file.stat()
        state = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
    except OSError:
        state = (0, 0, 0)  # said by whoever reads it
    parsed = _parsed(str(file), state)
    return {
        name: Backend(name, options.beside(file.parent), str(file))
        for name, options in parsed.items()
    }


@lru_cache(maxsize=8)
def _parsed(file: str, state: tuple[int, int, int]) -> dict[str, BackendOptions]:
    """The entries of a file as it is now: every network of a study asks for them."""
    del state
    data, locate = load_yaml(file)
    try:
        return _entries(data)
    except ValidationError as error:
        raise validation_error(error, locate, backend_file()) from None


def load_backend(name: str, path: str | Path | None = None) -> Backend:
    """The backend called `name`.

    Args:
        name: A name in the backend file.
        path: A backend file; None looks in the usual places (see `backends_path`).

    Raises:
        UnknownNameError: If the file has no such name; the nearest is suggested.
        ConfigError: If the file is missing or wrong.
    """
    backends = list_backends(path)
    if not isinstance(name, str) or name not in backends:
        raise UnknownNameError.of("backend", name, backends)
    return backends[name]
