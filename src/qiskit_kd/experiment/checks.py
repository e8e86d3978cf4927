# SPDX-License-Identifier: Apache-2.0
"""What the schema alone cannot know: names of registered parts and their options.

Works on the raw tree, so that a fault elsewhere in the file does not hide these.
"""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from qiskit_kd.errors import UnknownNameError
from qiskit_kd.experiment.parts import complaint, option_names, registry
from qiskit_kd.experiment.references import Fault, Path, faults_of_references, items, teachers_of
from qiskit_kd.experiment.store import canonical

if TYPE_CHECKING:
    from qiskit_kd.execution.backends import Backend

__all__ = ["faults_of_parts"]

_OF_TEACHERS = "exact"
"""Name of the backend that teachers run on."""


def faults_of_parts(tree: Mapping[str, Any], broken: Sequence[Path] = ()) -> list[Fault]:
    """Every fault in the names, options and references of an experiment's tree.

    Args:
        tree: The experiment as plain mappings and lists, perhaps malformed.
        broken: Paths already reported, which are passed over.
    """
    found = [*_parts(tree), *faults_of_references(tree)]
    return [f for f in found if not any(f.path[: len(path)] == path for path in broken)]


def _parts(tree: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _part("data set", tree.get("data"), ("data",), "kind")
    for path, teacher in teachers_of(tree).values():
        yield from _part("student", teacher, path, "kind")
    for name, student in items(tree.get("students")):
        yield from _part("student", student, ("students", name), "kind")
    for name, variant in items(tree.get("variants")):
        terms = variant.get("terms") if isinstance(variant, Mapping) else None
        for position, term in enumerate(terms if isinstance(terms, list) else ()):
            yield from _part("loss", term, ("variants", name, "terms", position), "loss")
    yield from _backends(tree)
    yield from _evaluation(tree.get("evaluation"))


def _backends(tree: Mapping[str, Any]) -> Iterator[Fault]:
    """Every name of a backend, and the entries that are the study's own."""
    own = dict(items(tree.get("backends")))
    if _OF_TEACHERS in own:
        yield Fault(
            ("backends", _OF_TEACHERS), f"the backend {_OF_TEACHERS!r} is where teachers run; got "
            "an entry of the study under that name. Choose another name", own[_OF_TEACHERS],
        )  # fmt: skip
    for name, entry in own.items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("base"), str):
            continue  # The schema has said so.
        backend, what = _opened(entry["base"])
        if backend is None:
            yield Fault(("backends", name, "base"), what, entry["base"])
            continue
        settings = {key: value for key, value in entry.items() if key != "base"}
        for where, what in backend.faults(settings):
            yield Fault(("backends", name, *where), what, settings)
    for path, named in _names_of_backends(tree):
        if isinstance(named, str) and named not in own:
            backend, what = _opened(named)
            if backend is None:
                listed = f"; this study's own: {', '.join(own)}" if own else ""
                yield Fault(path, what + listed, named)


def _names_of_backends(tree: Mapping[str, Any]) -> Iterator[tuple[Path, object]]:
    yield ("backend",), tree.get("backend", "exact")
    for name, variant in items(tree.get("variants")):
        yield ("variants", name, "backend"), dict(items(variant)).get("backend")
        stage = dict(items(variant)).get("fine_tune")
        yield ("variants", name, "fine_tune", "backend"), dict(items(stage)).get("backend")
    asked = dict(items(tree.get("evaluation")))
    yield ("evaluation", "backend"), asked.get("backend")
    listed = dict(items(asked.get("side_by_side"))).get("backends")
    for place, name in enumerate(listed if isinstance(listed, list) else ()):
        yield ("evaluation", "side_by_side", "backends", place), name


def _opened(name: str) -> tuple[Backend | None, str]:
    """The backend of that name, or None and why there is none.

    A fault of the backend file is not one of the experiment, and said by itself.
    """
    from qiskit_kd.execution.backends import load_backend

    try:
        return load_backend(name), ""
    except UnknownNameError as error:
        return None, str(error)


def _evaluation(entry: object) -> Iterator[Fault]:
    asked = dict(items(entry)).get("robustness")
    for name, levels in items(asked):
        table = registry("perturbation")
        if name not in table:
            yield Fault(
                ("evaluation", "robustness", name),
                str(UnknownNameError.of("perturbation", name, table)), levels,
            )  # fmt: skip


def _part(kind: str, entry: object, path: Path, key: str) -> Iterator[Fault]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get(key), str):
        return  # The schema has said so.
    name = entry[key]
    try:
        part = registry(kind)[name]
        builder = getattr(part, "function", part)
    except UnknownNameError as error:
        yield Fault((*path, key), str(error), name)
        return
    faults = [
        fault
        for option, value in items(entry.get("options"))
        for fault in _option(builder, f"{kind} {name!r}", option, value, (*path, "options", option))
    ]
    faults += [
        fault
        for option, values in items(entry.get("candidates"))
        for value in (values if isinstance(values, list) else [])[:1]
        for fault in _option(
            builder, f"{kind} {name!r}", option, value, (*path, "candidates", option)
        )
    ]
    yield from faults
    if kind == "loss" and not faults:
        options = dict(items(entry.get("options")))
        what = _complaint(name, canonical(options))  # of the data's own classes: see `rehearsal`
        if what is not None:
            (*where,) = options if len(options) == 1 else ()
            yield Fault((*path, *(["options", *where] if options else ["loss"])), what, options)


@lru_cache(maxsize=256)
def _complaint(loss: str, options: str) -> str | None:
    """Of three classes; every point of the axes asks the same."""
    return complaint(registry("loss")[loss], json.loads(options), num_classes=3)


def _option(
    builder: Callable[..., Any], what: str, option: str, value: object, path: Path
) -> Iterator[Fault]:
    known = option_names(builder)
    if known is None:
        return
    if option not in known:
        near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        yield Fault(
            path, f"unknown option of the {what}; got {option!r}. {hint}"
            f"known: {', '.join(known) or 'none'}", value,
        )  # fmt: skip
        return
    try:
        hint_type = typing.get_type_hints(builder).get(option, Any)
        adapter = TypeAdapter(hint_type, config=ConfigDict(arbitrary_types_allowed=True))
    except (NameError, TypeError, PydanticSchemaGenerationError, PydanticUserError):
        return  # A type that only the builder itself can check.
    try:
        understood = adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        expected = str(first["msg"]).removeprefix("Input should be ")
        yield Fault(path, f"wrong value; got {value!r}; expected {expected}", value)
        return
    kind = _turned_into(value, understood)
    if kind is not None:
        yield Fault(path, f"wrong value; got {value!r}; expected {kind}", value)


def _turned_into(value: object, understood: object) -> str | None:
    """What pydantic silently made of a value; builders get the value as it stands."""
    if isinstance(value, list) and isinstance(understood, list | tuple):
        return next(filter(None, map(_turned_into, value, understood)), None)
    kinds: dict[type, str] = {bool: "true or false", int: "an integer", float: "a number"}
    same = type(value) is type(understood) or (type(value), type(understood)) == (int, float)
    return None if same else kinds.get(type(understood))
