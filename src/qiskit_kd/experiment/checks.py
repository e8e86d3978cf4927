# SPDX-License-Identifier: Apache-2.0
"""What the schema alone cannot know: names of parts, and what one section says about another.

Names of registered parts and their options; teachers, variants, backends and axes by name.
Works on the raw tree, so that a fault elsewhere in the file does not hide these.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import UnknownNameError
from qiskit_kd.experiment.parts import complaint, has_temperature, option_fault, registry
from qiskit_kd.experiment.schema import TEACHER_ROW
from qiskit_kd.experiment.store import canonical

if TYPE_CHECKING:
    from qiskit_kd.distill.losses import Loss
    from qiskit_kd.execution.backends import Backend

Path = tuple[str | int, ...]

_CHANGEABLE = (
    "backend",
    "backends",
    "data",
    "evaluation",
    "students",
    "teacher",
    "teachers",
    "training",
    "variants",
)
_PLACEBOS = ("shuffled", "uniform", "untrained")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: where, what, and the value that stands there."""

    path: Path
    what: str
    value: object


def items(value: object) -> Iterable[tuple[str, Any]]:
    """Key and value of a mapping's entries; none of anything else."""
    return [(str(k), v) for k, v in value.items()] if isinstance(value, Mapping) else []


def teachers_of(tree: Mapping[str, Any]) -> dict[str, tuple[Path, object]]:
    """Place and entry of every teacher by name, the short form included."""
    found: dict[str, tuple[Path, object]] = {
        name: (("teachers", name), entry) for name, entry in items(tree.get("teachers"))
    }
    if tree.get("teacher") is not None:
        found[TEACHER_ROW] = ((TEACHER_ROW,), tree["teacher"])
    return found


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
            ("backends", _OF_TEACHERS),
            f"the backend {_OF_TEACHERS!r} is where teachers run; got "
            "an entry of the study under that name. Choose another name",
            own[_OF_TEACHERS],
        )
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
                str(UnknownNameError.of("perturbation", name, table)),
                levels,
            )


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
    given = [("options", option, value) for option, value in items(entry.get("options"))]
    given += [
        ("candidates", option, values[0])
        for option, values in items(entry.get("candidates"))
        if isinstance(values, list) and values
    ]
    faults = [
        Fault((*path, section, option), what, value)
        for section, option, value in given
        if (what := option_fault(builder, f"{kind} {name!r}", option, value)) is not None
    ]
    yield from faults
    if kind == "loss" and not faults:
        options = dict(items(entry.get("options")))
        what = _complaint(name, canonical(options))  # of the data's own classes: see `preflight`
        if what is not None:
            (*where,) = options if len(options) == 1 else ()
            yield Fault((*path, *(["options", *where] if options else ["loss"])), what, options)


@lru_cache(maxsize=256)
def _complaint(loss: str, options: str) -> str | None:
    """Of three classes; every point of the axes asks the same."""
    return complaint(registry("loss")[loss], json.loads(options), num_classes=3)


def faults_of_references(tree: Mapping[str, Any]) -> Iterator[Fault]:
    """Every name that stands for nothing, and settings that contradict each other."""
    variants, students = dict(items(tree.get("variants"))), dict(items(tree.get("students")))
    teachers = teachers_of(tree)
    yield from _known(("baseline",), "variant", tree.get("baseline", "plain"), variants)
    yield from _known(("headline",), "student", tree.get("headline"), students)
    if "none" in teachers:
        yield Fault(
            teachers["none"][0], "`teacher: none` means no teacher; choose another name", "none"
        )
    if TEACHER_ROW in teachers and TEACHER_ROW in students:
        yield Fault(
            ("students", TEACHER_ROW),
            "the row called 'teacher' is the teacher itself; choose another name",
            TEACHER_ROW,
        )
    for name, student in students.items():
        own = student.get("variants") if isinstance(student, Mapping) else None
        for place, variant in enumerate(own if isinstance(own, list) else ()):
            yield from _known(("students", name, "variants", place), "variant", variant, variants)
    for name, variant in variants.items():
        if isinstance(variant, Mapping):
            yield from _variant(variant, ("variants", name), teachers)
    judge = dict(items(tree.get("evaluation"))).get("teacher")
    if isinstance(judge, str) and judge not in teachers:
        yield Fault(
            ("evaluation", "teacher"), str(UnknownNameError.of("teacher", judge, teachers)), judge
        )
    sections: dict[str, Mapping[str, Any]] = {
        "backends": dict(items(tree.get("backends"))),
        "students": students,
        "teachers": teachers,
        "variants": variants,
    }
    for name, axis in items(tree.get("axes")):
        if isinstance(axis, Mapping):
            yield from _axis(axis, ("axes", name), sections)


def _known(path: Path, kind: str, name: object, known: Mapping[str, Any]) -> Iterator[Fault]:
    if known and isinstance(name, str) and name not in known:
        yield Fault(path, str(UnknownNameError.of(kind, name, known)), name)


def _axis(
    axis: Mapping[str, Any], path: Path, sections: Mapping[str, Mapping[str, Any]]
) -> Iterator[Fault]:
    """Keys that an axis must not set; whether the others exist shows when they are set."""
    if isinstance(axis.get("key"), str):
        keys: list[tuple[Path, str]] = [((*path, "key"), axis["key"])]
    else:
        keys = [
            ((*path, "values", label, key), key)
            for label, settings in items(axis.get("values"))
            for key, _ in items(settings)
        ]
    for place, key in keys:
        section, *rest = key.split(".")
        if section not in _CHANGEABLE:
            fault = UnknownNameError.of("key for an axis", key, _CHANGEABLE)
            yield Fault(place, str(fault), key)
        elif section in sections and not rest:
            yield Fault(
                place,
                f"an axis changes settings of single {section}; got {key!r}; expected for "
                f"example {section}.{next(iter(sections[section]), 'NAME')}",
                key,
            )
        elif section in sections:
            yield from _known(place, section.removesuffix("s"), rest[0], sections[section])


@dataclass(frozen=True)
class _Term:
    """A term of the raw tree with what holds for it."""

    path: Path
    entry: Mapping[str, Any]
    loss: Loss | None
    """None for a name that is not registered, which has been said."""
    teacher: object
    placebo: object


def _variant(
    variant: Mapping[str, Any], path: Path, teachers: Mapping[str, Any]
) -> Iterator[Fault]:
    table = registry("loss")
    default, placebo = variant.get("teacher", "none"), variant.get("placebo", "none")
    listed = variant.get("terms")
    terms = [
        _Term(
            (*path, "terms", place),
            entry,
            table[entry["loss"]]
            if isinstance(entry.get("loss"), str) and entry["loss"] in table
            else None,
            entry.get("teacher") or default,
            entry.get("placebo") or placebo,
        )
        for place, entry in enumerate(listed if isinstance(listed, list) else ())
        if isinstance(entry, Mapping)
    ]
    yield from _teacher((*path, "teacher"), default, teachers)
    for term in terms:
        yield from _teacher((*term.path, "teacher"), term.entry.get("teacher", "none"), teachers)
        if term.loss is not None:
            yield from _term(term, term.loss, path)
    known = [term.loss for term in terms if term.loss is not None]
    complete = bool(known) and len(known) == len(terms)
    if complete and not any(loss.teacher for loss in known):
        for key, value in (("teacher", default), ("placebo", placebo)):
            if value != "none":
                yield Fault(
                    (*path, key),
                    f"no loss of the variant uses a teacher; got {value!r}; expected "
                    f"a term such as kl. Add one, or remove `{key}`",
                    value,
                )
    warm = any(map(has_temperature, known)) or not complete  # unknown: said already
    if variant.get("temperature") is not None and known and not warm:
        yield Fault(
            (*path, "temperature"),
            "no loss of the variant has a temperature; got "
            f"{', '.join(loss.name for loss in known)}. Remove the key, or add a term such as kl",
            variant["temperature"],
        )
    own = [
        dict(items(term.entry.get("options"))).get("temperature")
        for term in terms
        if term.loss is not None and has_temperature(term.loss)
    ]
    if variant.get("temperature") is not None and complete and own and None not in own:
        yield Fault(
            (*path, "temperature"),
            "every term that has a temperature sets its own; got "
            f"{variant['temperature']!r}, which no term would follow. Remove it, or theirs",
            variant["temperature"],
        )


def _teacher(path: Path, name: object, teachers: Mapping[str, Any]) -> Iterator[Fault]:
    if not isinstance(name, str) or name == "none" or name in teachers:
        return
    if name in _PLACEBOS:
        yield Fault(
            path,
            f"a placebo is set apart from the teacher; got `teacher: {name}`. Write "
            f"`placebo: {name}`",
            name,
        )
    elif not teachers:
        yield Fault(
            path,
            f"the variant asks for a teacher; got {name!r}, but the experiment has no "
            "`teacher` section. Add one",
            name,
        )
    else:
        yield Fault(path, str(UnknownNameError.of("teacher", name, teachers)), name)


def _term(term: _Term, loss: Loss, variant: Path) -> Iterator[Fault]:
    """What a term says that its loss cannot follow."""
    entry, path = term.entry, term.path
    for key in ("teacher", "placebo"):
        if not loss.teacher and entry.get(key) not in (None, "none"):
            yield Fault(
                (*path, key),
                f"the loss {loss.name!r} reads no teacher; got {entry[key]!r}. Remove `{key}`",
                entry[key],
            )
    for key in ("layers", "adapter"):
        if not loss.features and entry.get(key) is not None:
            table = registry("loss")
            able = ", ".join(name for name in table if table[name].features)
            yield Fault(
                (*path, key),
                f"the loss {loss.name!r} compares class logits; got `{key}`. Remove "
                f"it, or take a feature loss: {able}",
                entry[key],
            )
    if loss.features and isinstance(entry.get("adapter"), str):
        yield from _known((*path, "adapter"), "adapter", entry["adapter"], registry("adapter"))
    if not loss.teacher:
        return
    if term.placebo == "uniform" and entry.get("layers") is not None:
        yield Fault(
            (*path, "layers"),
            "a uniform placebo has no layers; got `layers`. Set `placebo: untrained` or `shuffled`",
            entry["layers"],
        )
    if term.teacher != "none" or term.placebo == "uniform":
        return
    if term.placebo in _PLACEBOS:
        place = path if entry.get("placebo") else variant
        yield Fault(
            (*place, "placebo"),
            f"the placebo {term.placebo!r} is made from a teacher; got "
            f"`teacher: none` for the loss {loss.name!r}. Name a teacher",
            term.placebo,
        )
    elif term.placebo == "none":
        place = path if "teacher" in entry else (*variant, "terms")
        yield Fault(
            place,
            f"the loss {loss.name!r} needs a teacher; got `teacher: none`. Name a teacher, "
            "or set `placebo: uniform`",
            term.teacher,
        )
