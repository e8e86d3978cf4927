# SPDX-License-Identifier: Apache-2.0
"""What the schema alone cannot know: names of registered parts, their options, cross-references.

Works on the raw tree, so that a fault elsewhere in the file does not hide these.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from qiskit_kd.errors import QiskitKDError, UnknownNameError
from qiskit_kd.experiment.config import TEACHER_ROW

if TYPE_CHECKING:
    from qiskit_kd.distill.losses import Loss

__all__ = ["Fault", "complaint", "faults_of_parts", "has_temperature", "option_names", "registry"]

Path = tuple[str | int, ...]

# Arguments the runner itself gives to builders and losses: no options.
_GIVEN = {"seed", "backend", "dtype", "num_features", "num_classes", "student", "teacher", "target"}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: where, what, and the value that stands there."""

    path: Path
    what: str
    value: object


def registry(kind: str) -> Mapping[str, Any]:
    """The registry of `student`, `loss` or `data set`; imports torch on first use."""
    if kind == "student":
        from qiskit_kd.nn.students import students

        return students
    if kind == "loss":
        from qiskit_kd.distill.losses import losses

        return losses
    from qiskit_kd.data import datasets

    return datasets


def faults_of_parts(tree: Mapping[str, Any], broken: Sequence[Path] = ()) -> list[Fault]:
    """Every fault in the names, options and references of an experiment's tree.

    Args:
        tree: The experiment as plain mappings and lists, perhaps malformed.
        broken: Paths already reported, which are passed over.
    """
    found = [*_parts(tree), *_references(tree)]
    return [f for f in found if not any(f.path[: len(path)] == path for path in broken)]


def _parts(tree: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _part("data set", tree.get("data"), ("data",), "kind")
    yield from _part("student", tree.get("teacher"), ("teacher",), "kind")
    for name, student in _items(tree.get("students")):
        yield from _part("student", student, ("students", name), "kind")
    for name, variant in _items(tree.get("variants")):
        terms = variant.get("terms") if isinstance(variant, Mapping) else None
        for position, term in enumerate(terms if isinstance(terms, list) else ()):
            yield from _part("loss", term, ("variants", name, "terms", position), "loss")
    backend = tree.get("backend", "exact")
    if isinstance(backend, str):
        from qiskit_kd.execution.backends import load_backend

        try:
            load_backend(backend)
        except QiskitKDError as error:
            yield Fault(("backend",), str(error), backend)


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
        for option, value in _items(entry.get("options"))
        for fault in _option(builder, f"{kind} {name!r}", option, value, (*path, "options", option))
    ]
    yield from faults
    if kind == "loss" and not faults:
        options = dict(_items(entry.get("options")))
        what = complaint(part, options, num_classes=3)  # the data's own number: see `plan`
        if what is not None:
            (*where,) = options if len(options) == 1 else ()
            yield Fault((*path, *(["options", *where] if options else ["loss"])), what, options)


def complaint(loss: Loss, options: Mapping[str, Any], *, num_classes: int) -> str | None:
    """Why a loss refuses its options, found out with one tiny batch; None if it does not."""
    import torch

    logits = torch.linspace(-1.0, 1.0, 4 * num_classes, dtype=torch.float64)
    student, teacher = logits.sin().reshape(4, -1), logits.cos().reshape(4, -1)
    try:
        loss(student, teacher, torch.arange(4) % num_classes, **options)
    except (QiskitKDError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        return str(error)
    return None


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


def option_names(builder: Callable[..., Any]) -> list[str] | None:
    """Names of the options a registered part takes; None if it takes any."""
    parameters = inspect.signature(builder).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return sorted(p.name for p in parameters if p.name not in _GIVEN)


def _references(tree: Mapping[str, Any]) -> Iterator[Fault]:
    variants, students = dict(_items(tree.get("variants"))), dict(_items(tree.get("students")))
    has_teacher = tree.get("teacher") is not None
    baseline = tree.get("baseline", "plain")
    if variants and isinstance(baseline, str) and baseline not in variants:
        yield Fault(
            ("baseline",), str(UnknownNameError.of("variant", baseline, variants)), baseline
        )
    headline = tree.get("headline")
    if isinstance(headline, str) and students and headline not in students:
        yield Fault(
            ("headline",), str(UnknownNameError.of("student", headline, students)), headline
        )
    if has_teacher and TEACHER_ROW in students:
        yield Fault(
            ("students", TEACHER_ROW),
            "the row called 'teacher' is the teacher itself; choose another name", TEACHER_ROW,
        )  # fmt: skip
    for name, variant in variants.items():
        if isinstance(variant, Mapping):
            yield from _variant(variant, ("variants", name), has_teacher)


def _variant(variant: Mapping[str, Any], path: Path, has_teacher: bool) -> Iterator[Fault]:
    mode = variant.get("teacher", "none")
    if mode in ("teacher", "shuffled") and not has_teacher:
        yield Fault(
            (*path, "teacher"), f"the variant asks for a teacher; got {mode!r}, but the experiment "
            "has no `teacher` section. Add one", mode,
        )  # fmt: skip
    terms = variant.get("terms")
    listed = [t for t in terms if isinstance(t, Mapping)] if isinstance(terms, list) else []
    names = [t.get("loss") for t in listed]
    table = registry("loss")
    known = [table[name] for name in names if isinstance(name, str) and name in table]
    needing = [
        name for name in names if isinstance(name, str) and name in table and table[name].teacher
    ]
    if needing and mode == "none":
        yield Fault(
            (*path, "terms"), f"the loss {needing[0]!r} needs a teacher; got `teacher: none`. "
            "Set teacher, shuffled or uniform", mode,
        )  # fmt: skip
    if mode != "none" and known and len(known) == len(names) and not needing:
        yield Fault(
            (*path, "teacher"), f"no loss of the variant uses a teacher; got {mode!r}; expected "
            "a term such as kl. Add one, or remove `teacher`", mode,
        )  # fmt: skip
    warm = any(map(has_temperature, known)) or len(known) < len(names)  # unknown: said already
    if variant.get("temperature") is not None and known and not warm:
        yield Fault(
            (*path, "temperature"), "no loss of the variant has a temperature; got "
            f"{', '.join(map(str, names))}. Remove the key, or add a term such as kl",
            variant["temperature"],
        )  # fmt: skip


def has_temperature(loss: Loss) -> bool:
    """Whether a loss takes the option `temperature`."""
    return "temperature" in (option_names(loss.function) or ())


def _items(value: object) -> Iterable[tuple[str, Any]]:
    return [(str(k), v) for k, v in value.items()] if isinstance(value, Mapping) else []
