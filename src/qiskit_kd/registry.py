# SPDX-License-Identifier: Apache-2.0
"""Names for interchangeable parts: ansatze, encodings, losses, data sets, students, backends.

A part registers itself with a decorator in the one file that defines it. Third parties register
through an entry point in the group `qiskit_kd.<kind>` (spaces become underscores); entry points
are read on the first lookup that needs them, never at import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from qiskit_kd.errors import ConfigError, UnknownNameError

__all__ = ["Registry"]

T = TypeVar("T")


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
        for point in entry_points(group=f"qiskit_kd.{self.kind.replace(' ', '_')}"):
            try:
                part = point.load()
            except Exception as error:  # somebody else's package
                raise ConfigError(
                    f"the entry point {point.name!r} of the group {point.group} loads",
                    got=f"{type(error).__name__}: {error}", expected=point.value,
                    remedy="Mend or uninstall the package that brings it.",
                ) from error  # fmt: skip
            self.register(point.name)(part)
        self._loaded = True
