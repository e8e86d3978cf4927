# SPDX-License-Identifier: Apache-2.0
"""Setting a dotted key in an experiment's tree, as overrides, presets and axes do.

An `Origins` keeps for every value that was put in where it was said, so that a fault is reported
there: at a place in the file, or on the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qiskit_kd.errors import ConfigError
from qiskit_kd.yamlfile import Key, Locator

Path = tuple[str, ...]
Place = Callable[..., str]
"""From a path, and whether a key is meant, to `file:line:col`, as a `Locator`."""


def set_key(
    data: dict[str, Any], path: Sequence[str], value: Any, *, what: str = "override"
) -> list[tuple[Path, Path]]:
    """Set `path` to `value`, in place; mappings are merged.

    Args:
        data: The experiment as plain mappings and lists.
        path: Keys, and positions in lists as digits.
        value: What to put there.
        what: What messages call this.

    Returns:
        The keys that were made or replaced, and for which part of `value`.

    Raises:
        ConfigError: If something on the path is neither a mapping nor a list.
    """
    if isinstance(value, Mapping) and value:
        return [
            (made, (str(name), *rest))
            for name, inner in value.items()
            for made, rest in set_key(data, [*path, str(name)], inner, what=what)
        ]
    here: Any = data
    made: list[tuple[Path, Path]] = []
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        at: Any = part
        if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            at = int(part)
        elif not isinstance(here, dict):
            raise ConfigError(
                f"{what} {'.'.join(path)}: there is nothing below {'.'.join(path[:depth])}",
                got=f"{type(here).__name__} there",
                expected="a mapping, or a list and a position in it",
            )
        else:
            at = next((name for name in here if str(name) == part), part)  # 50 is found as "50"
            if not last and here.get(at) is None:
                here[at] = {}
                made.append((tuple(path[: depth + 1]), ()))
        if last:
            here[at] = value
            made.append((tuple(path), ()))
        here = here[at]
    return made


class Origins(Locator):
    """Where the values of a tree were said.

    Args:
        base: Where those were said that nothing was put over.
        data: The tree, which is changed in place.
    """

    def __init__(self, base: Locator, data: dict[str, Any]) -> None:
        super().__init__(base.name, base.node, data)
        self._base = base
        self._said: dict[Path, tuple[Place, Path, str]] = {}

    def __call__(self, path: Sequence[Key] = (), *, key: bool = False) -> str:
        """See `Locator`."""
        names = tuple(map(str, path))
        for depth in range(len(names), 0, -1):
            if names[:depth] in self._said:
                place, inner, key_place = self._said[names[:depth]]
                if key and depth == len(names):
                    return key_place
                return place((*inner, *path[depth:]), key=key)
        return self._base(path, key=key)

    def set(
        self,
        path: Sequence[str],
        value: Any,
        place: Place,
        *,
        key_place: str | None = None,
        what: str = "override",
    ) -> None:
        """Put a value in; see `set_key`.

        Args:
            path: Where.
            value: What.
            place: Where parts of the value were said.
            key_place: Where the path was said; by default where the value was.
            what: What messages call this.
        """
        for made, inner in set_key(self.data, path, value, what=what):
            for known in [known for known in self._said if known[: len(made)] == made]:
                del self._said[known]
            self._said[made] = place, inner, key_place or place(inner)
