# SPDX-License-Identifier: Apache-2.0
"""Names for interchangeable parts: ansatze, encodings, losses, data sets, students, backends.

A part registers itself with a decorator in the one file that defines it. Third parties register
through an entry point in the group `qiskit_kd.<kind>` (spaces become underscores), or in files that
the environment variable `QKD_PLUGINS` names, which worker processes inherit. Both are read on the
first lookup that needs them, never at import. An experiment file cannot name a file to execute.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, TypeVar

from qiskit_kd.errors import ConfigError, UnknownNameError

T = TypeVar("T")

PLUGINS = "QKD_PLUGINS"
"""Environment variable: paths of Python files that register parts, with the system's separator."""

_PREFIX = "qkd_plugin_"


def plugin_files() -> list[Path]:
    """The files that the environment names."""
    return [Path(path) for path in os.environ.get(PLUGINS, "").split(os.pathsep) if path]


def add_plugins(paths: Iterable[Path]) -> None:
    """Name files for this process and those it starts, and execute them.

    Raises:
        ConfigError: If one is missing or fails.
    """
    files = dict.fromkeys([*plugin_files(), *(Path(path).resolve() for path in paths)])
    for path in files:
        _execute(path)
    os.environ[PLUGINS] = os.pathsep.join(map(str, files))  # not one that fails


def plugin_digest(part: object) -> str | None:
    """SHA-256 of the content of the plugin file that defines a part; None for any other."""
    module = sys.modules.get(getattr(part, "__module__", None) or "")
    found: str | None = getattr(module, "__plugin_digest__", None)
    return found


def _execute(path: Path) -> None:
    """Import a plugin file, once."""
    name = _PREFIX + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    if name in sys.modules:
        return
    spec = spec_from_file_location(name, path)
    try:
        content = path.read_bytes()
        if spec is None or spec.loader is None:
            raise ImportError("no Python file")
        module = module_from_spec(spec)
        module.__plugin_digest__ = hashlib.sha256(content).hexdigest()  # type: ignore[attr-defined]
        sys.modules[name] = module  # before it runs: its lookups must not run it again
        exec(compile(content, str(path), "exec"), module.__dict__)
    except ConfigError as error:
        sys.modules.pop(name, None)
        raise ConfigError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise ConfigError(
            "a plugin is a Python file that registers parts",
            got=f"{path}: {type(error).__name__}: {error}",
            remedy="Mend the file, or leave it out of --plugin and of $" + PLUGINS + ".",
        ) from error


class Registry(Mapping[str, T]):
    """A mapping from names to parts of one kind.

    Args:
        kind: What the parts are, in the singular, as error messages should call them.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files the decorated object under `name`.

        Raises:
            ConfigError: If the name is taken by another object.
        """
        if not isinstance(name, str) or not name:
            raise ConfigError(f"a {self.kind} is registered under a name", got=repr(name))

        def keep(part: T) -> T:
            if self._parts.get(name, part) is not part:
                raise ConfigError(
                    f"the {self.kind} {name!r} is registered twice",
                    got=repr(part),
                    expected="one object per name",
                    remedy="choose another name.",
                )
            self._parts[name] = part
            return part

        return keep

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise UnknownNameError.of(self.kind, name, self._parts)
        return self._parts[name]

    def __getattr__(self, name: str) -> T:
        if name.startswith("_"):  # of Python's own protocols: no part is called so
            raise AttributeError(name)
        try:
            return self[name]
        except UnknownNameError as error:
            raise AttributeError(str(error)) from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in self if name.isidentifier())})

    def __repr__(self) -> str:
        return f"<{len(self)} parts of kind {self.kind}: {', '.join(self)}>"

    def get(self, name: object, default: Any = None) -> Any:
        """The part of that name, or `default`."""
        return self[name] if isinstance(name, str) and name in self else default

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if name not in self._parts:
            self._load_plugins()
        return name in self._parts

    def name_of(self, part: object) -> str | None:
        """The name that a part is registered under; None if it is not."""
        return next((name for name in self if self._parts[name] is part), None)

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(sorted(self._parts))

    def __len__(self) -> int:
        self._load_plugins()
        return len(self._parts)

    def _load_plugins(self) -> None:
        if self._loaded:
            return
        for path in plugin_files():
            _execute(path)
        for point in entry_points(group=f"qiskit_kd.{self.kind.replace(' ', '_')}"):
            try:
                part = point.load()
            except Exception as error:  # somebody else's package
                raise ConfigError(
                    f"the entry point {point.name!r} of the group {point.group} loads",
                    got=f"{type(error).__name__}: {error}",
                    expected=point.value,
                    remedy="Mend or uninstall the package that brings it.",
                ) from error
            self.register(point.name)(part)
        self._loaded = True
