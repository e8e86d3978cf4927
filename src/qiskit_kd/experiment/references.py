# SPDX-License-Identifier: Apache-2.0
"""What one section of an experiment says about another: teachers, variants, axes by name.

Works on the raw tree, so that a fault elsewhere in the file does not hide these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import UnknownNameError
from qiskit_kd.experiment.config import TEACHER_ROW
from qiskit_kd.experiment.parts import has_temperature, registry

if TYPE_CHECKING:
    from qiskit_kd.distill.losses import Loss

__all__ = ["Fault", "Path", "faults_of_references", "items", "teachers_of"]

Path = tuple[str | int, ...]

_CHANGEABLE = (
    "backend", "backends", "data", "evaluation", "students", "teacher", "teachers", "training",
    "variants",
)  # fmt: skip
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
            "the row called 'teacher' is the teacher itself; choose another name", TEACHER_ROW,
        )  # fmt: skip
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
        "backends": dict(items(tree.get("backends"))), "students": students, "teachers": teachers,
        "variants": variants,
    }  # fmt: skip
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
                place, f"an axis changes settings of single {section}; got {key!r}; expected for "
                f"example {section}.{next(iter(sections[section]), 'NAME')}", key,
            )  # fmt: skip
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
            (*path, "terms", place), entry,
            table[entry["loss"]]
            if isinstance(entry.get("loss"), str) and entry["loss"] in table else None,
            entry.get("teacher") or default, entry.get("placebo") or placebo,
        )
        for place, entry in enumerate(listed if isinstance(listed, list) else ())
        if isinstance(entry, Mapping)
    ]  # fmt: skip
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
                    (*path, key), f"no loss of the variant uses a teacher; got {value!r}; expected "
                    f"a term such as kl. Add one, or remove `{key}`", value,
                )  # fmt: skip
    warm = any(map(has_temperature, known)) or not complete  # unknown: said already
    if variant.get("temperature") is not None and known and not warm:
        yield Fault(
            (*path, "temperature"), "no loss of the variant has a temperature; got "
            f"{', '.join(loss.name for loss in known)}. Remove the key, or add a term such as kl",
            variant["temperature"],
        )  # fmt: skip
    own = [dict(items(term.entry.get("options"))).get("temperature")
           for term in terms if term.loss is not None and has_temperature(term.loss)]  # fmt: skip
    if variant.get("temperature") is not None and complete and own and None not in own:
        yield Fault(
            (*path, "temperature"), "every term that has a temperature sets its own; got "
            f"{variant['temperature']!r}, which no term would follow. Remove it, or theirs",
            variant["temperature"],
        )  # fmt: skip


def _teacher(path: Path, name: object, teachers: Mapping[str, Any]) -> Iterator[Fault]:
    if not isinstance(name, str) or name == "none" or name in teachers:
        return
    if name in _PLACEBOS:
        yield Fault(
            path, f"a placebo is set apart from the teacher; got `teacher: {name}`. Write "
            f"`placebo: {name}`", name,
        )  # fmt: skip
    elif not teachers:
        yield Fault(
            path, f"the variant asks for a teacher; got {name!r}, but the experiment has no "
            "`teacher` section. Add one", name,
        )  # fmt: skip
    else:
        yield Fault(path, str(UnknownNameError.of("teacher", name, teachers)), name)


def _term(term: _Term, loss: Loss, variant: Path) -> Iterator[Fault]:
    """What a term says that its loss cannot follow."""
    entry, path = term.entry, term.path
    for key in ("teacher", "placebo"):
        if not loss.teacher and entry.get(key) not in (None, "none"):
            yield Fault(
                (*path, key), f"the loss {loss.name!r} reads no teacher; got {entry[key]!r}. "
                f"Remove `{key}`", entry[key],
            )  # fmt: skip
    for key in ("layers", "adapter"):
        if not loss.features and entry.get(key) is not None:
            table = registry("loss")
            able = ", ".join(name for name in table if table[name].features)
            yield Fault(
                (*path, key), f"the loss {loss.name!r} compares class logits; got `{key}`. Remove "
                f"it, or take a feature loss: {able}", entry[key],
            )  # fmt: skip
    if loss.features and isinstance(entry.get("adapter"), str):
        yield from _known((*path, "adapter"), "adapter", entry["adapter"], registry("adapter"))
    if not loss.teacher:
        return
    if term.placebo == "uniform" and entry.get("layers") is not None:
        yield Fault(
            (*path, "layers"), "a uniform placebo has no layers; got `layers`. Set "
            "`placebo: untrained` or `shuffled`", entry["layers"],
        )  # fmt: skip
    if term.teacher != "none" or term.placebo == "uniform":
        return
    if term.placebo in _PLACEBOS:
        place = path if entry.get("placebo") else variant
        yield Fault(
            (*place, "placebo"), f"the placebo {term.placebo!r} is made from a teacher; got "
            f"`teacher: none` for the loss {loss.name!r}. Name a teacher", term.placebo,
        )  # fmt: skip
    elif term.placebo == "none":
        place = path if "teacher" in entry else (*variant, "terms")
        yield Fault(
            place, f"the loss {loss.name!r} needs a teacher; got `teacher: none`. Name a teacher, "
            "or set `placebo: uniform`", term.teacher,
        )  # fmt: skip
