# SPDX-License-Identifier: Apache-2.0
"""What the schema alone cannot know: names of parts, and what one section says about another.

Names of registered parts and their options; teachers, variants, backends and axes by name.
Works on the raw tree, so that a fault elsewhere in the file does not hide these.
"""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from qiskit_kd.errors import QiskitKDError, UnknownNameError
from qiskit_kd.experiment.schema import TEACHER_ROW, has_temperature, option_names, registry
from qiskit_kd.experiment.store import canonical

if TYPE_CHECKING:
    from qiskit_kd.distill.losses import Loss
    from qiskit_kd.execution.backends import Backend

Path = tuple[str | int, ...]

_SINGLE = ("backends", "students", "teachers", "variants")
"""Sections of which an axis changes single entries; of the others it changes keys."""
_CHANGEABLE = ("backend", "data", "evaluation", "teacher", "training", *_SINGLE)
_PLACEBOS = ("shuffled", "uniform", "untrained")
_OF_TEACHERS = "exact"
"""Name of the backend that teachers run on."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: where, what, and the value that stands there."""

    path: Path
    what: str
    value: object


def faults_of_parts(tree: Mapping[str, Any], broken: Sequence[Path] = ()) -> list[Fault]:
    """Every fault in the names, options and references of an experiment's tree.

    Args:
        tree: The experiment as plain mappings and lists, perhaps malformed.
        broken: Paths already reported, which are passed over.
    """
    found = _Checks(tree).found
    return [f for f in found if not any(f.path[: len(path)] == path for path in broken)]


def _items(value: object) -> Iterable[tuple[str, Any]]:
    """Key and value of a mapping's entries; none of anything else: the schema has said so."""
    return [(str(k), v) for k, v in value.items()] if isinstance(value, Mapping) else []


def _list(value: object) -> Iterator[tuple[int, Any]]:
    return enumerate(value if isinstance(value, list) else ())


class _Checks:
    """Collects the faults of one tree."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self.found: list[Fault] = []
        self._tree = tree
        sections = {name: dict(_items(tree.get(name))) for name in _SINGLE}
        self._students, self._variants = sections["students"], sections["variants"]
        self._own = sections["backends"]
        # With the place of each, the short form included.
        self._teachers: dict[str, tuple[Path, Any]] = {
            name: (("teachers", name), entry) for name, entry in sections["teachers"].items()
        }
        if tree.get(TEACHER_ROW) is not None:
            self._teachers[TEACHER_ROW] = (TEACHER_ROW,), tree[TEACHER_ROW]
        self._evaluation = dict(_items(tree.get("evaluation")))
        self._parts()
        self._backends()
        self._references()
        for name, axis in _items(tree.get("axes")):
            if isinstance(axis, Mapping):
                self._axis(axis, ("axes", name), {**sections, "teachers": self._teachers})

    def _say(self, path: Path, value: object, what: str) -> None:
        self.found.append(Fault(path, what, value))

    def _known(self, path: Path, kind: str, name: object, known: Collection[str]) -> None:
        if isinstance(name, str) and name not in known:
            self._say(path, name, str(UnknownNameError.of(kind, name, known)))

    # Registered parts and their options

    def _parts(self) -> None:
        self._part("data set", self._tree.get("data"), ("data",))
        for path, teacher in self._teachers.values():
            self._part("student", teacher, path)
        for name, student in self._students.items():
            self._part("student", student, ("students", name))
        for name in self._variants:
            for path, term in self._terms(name):
                self._part("loss", term, path, "loss")
        for name, levels in _items(self._evaluation.get("robustness")):
            table = registry("perturbation")
            if name not in table:
                what = str(UnknownNameError.of("perturbation", name, table))
                self._say(("evaluation", "robustness", name), levels, what)

    def _terms(self, variant: str) -> list[tuple[Path, Mapping[str, Any]]]:
        listed = dict(_items(self._variants[variant])).get("terms")
        return [
            (("variants", variant, "terms", place), term)
            for place, term in _list(listed)
            if isinstance(term, Mapping)
        ]

    def _part(self, kind: str, entry: object, path: Path, key: str = "kind") -> None:
        if not isinstance(entry, Mapping) or not isinstance(entry.get(key), str):
            return
        name, table, before = entry[key], registry(kind), len(self.found)
        self._known((*path, key), kind, name, table)
        if name not in table:
            return
        options = dict(_items(entry.get("options")))
        given = [("options", option, value) for option, value in options.items()]
        given += [
            ("candidates", option, values[0])
            for option, values in _items(entry.get("candidates"))
            if isinstance(values, list) and values
        ]
        builder = getattr(table[name], "function", table[name])
        for section, option, value in given:
            what = option_fault(builder, f"{kind} {name!r}", option, value)
            if what is not None:
                self._say((*path, section, option), value, what)
        if kind == "loss" and len(self.found) == before:
            what = _complaint(name, canonical(options))  # of the data's own classes: `preflight`
            if what is not None:
                where = ("options", *options)[:2] if len(options) == 1 else ("options",)
                self._say((*path, *(where if options else ("loss",))), options, what)

    # Backends

    def _backends(self) -> None:
        """Every name of a backend, and the entries that are the study's own."""
        own = self._own
        if _OF_TEACHERS in own:
            what = (
                f"the backend {_OF_TEACHERS!r} is where teachers run; got an entry of the study "
                "under that name. Choose another name"
            )
            self._say(("backends", _OF_TEACHERS), own[_OF_TEACHERS], what)
        for name, entry in own.items():
            if isinstance(entry, Mapping) and isinstance(base := entry.get("base"), str):
                backend, what = _opened(base)
                if backend is None:
                    self._say(("backends", name, "base"), base, what)
                    continue
                settings = {key: value for key, value in entry.items() if key != "base"}
                for where, what in backend.faults(settings):
                    self._say(("backends", name, *where), settings, what)
        named: list[tuple[Path, object]] = [(("backend",), self._tree.get("backend", "exact"))]
        for name, variant in self._variants.items():
            entry = dict(_items(variant))
            stage = dict(_items(entry.get("fine_tune")))
            named.append((("variants", name, "backend"), entry.get("backend")))
            named.append((("variants", name, "fine_tune", "backend"), stage.get("backend")))
        named.append((("evaluation", "backend"), self._evaluation.get("backend")))
        beside = dict(_items(self._evaluation.get("side_by_side"))).get("backends")
        named += [(("evaluation", "side_by_side", "backends", k), one) for k, one in _list(beside)]
        for path, one in named:
            if isinstance(one, str) and one not in own:
                backend, what = _opened(one)
                if backend is None:
                    listed = f"; this study's own: {', '.join(own)}" if own else ""
                    self._say(path, one, what + listed)

    # What one section says about another

    def _references(self) -> None:
        """Every name that stands for nothing, and settings that contradict each other."""
        teachers, students, variants = self._teachers, self._students, self._variants
        if variants:
            self._known(("baseline",), "variant", self._tree.get("baseline", "plain"), variants)
        if students:
            self._known(("headline",), "student", self._tree.get("headline"), students)
        if "none" in teachers:
            what = "`teacher: none` means no teacher; choose another name"
            self._say(teachers["none"][0], "none", what)
        if TEACHER_ROW in teachers and TEACHER_ROW in students:
            what = "the row called 'teacher' is the teacher itself; choose another name"
            self._say(("students", TEACHER_ROW), TEACHER_ROW, what)
        for name, student in students.items():
            for place, variant in _list(dict(_items(student)).get("variants")):
                if variants:
                    path = ("students", name, "variants", place)
                    self._known(path, "variant", variant, variants)
        for name, variant in variants.items():
            if isinstance(variant, Mapping):
                self._variant(variant, name)
        judge = self._evaluation.get("teacher")
        self._known(("evaluation", "teacher"), "teacher", judge, teachers)

    def _variant(self, variant: Mapping[str, Any], name: str) -> None:
        path: Path = ("variants", name)
        table, terms = registry("loss"), self._terms(name)
        default, placebo = variant.get("teacher", "none"), variant.get("placebo", "none")
        self._teacher((*path, "teacher"), default)
        known = []
        for where, term in terms:
            self._teacher((*where, "teacher"), term.get("teacher", "none"))
            loss = term.get("loss")
            if isinstance(loss, str) and loss in table:
                known.append((table[loss], term))
                sources = term.get("teacher") or default, term.get("placebo") or placebo
                self._term(where, term, table[loss], path, *sources)
        complete = bool(known) and len(known) == len(terms)  # else something was said already
        if complete and not any(loss.teacher for loss, _ in known):
            for key, value in (("teacher", default), ("placebo", placebo)):
                if value != "none":
                    what = (
                        f"no loss of the variant uses a teacher; got {value!r}; expected a term "
                        f"such as kl. Add one, or remove `{key}`"
                    )
                    self._say((*path, key), value, what)
        warm = [dict(_items(term.get("options"))) for loss, term in known if has_temperature(loss)]
        asked = variant.get("temperature")
        if asked is None or not complete:
            return
        if not warm:
            what = (
                "no loss of the variant has a temperature; got "
                f"{', '.join(loss.name for loss, _ in known)}. Remove the key, or add a term such "
                "as kl"
            )
            self._say((*path, "temperature"), asked, what)
        elif all(options.get("temperature") is not None for options in warm):
            what = (
                f"every term that has a temperature sets its own; got {asked!r}, which no term "
                "would follow. Remove it, or theirs"
            )
            self._say((*path, "temperature"), asked, what)

    def _teacher(self, path: Path, name: object) -> None:
        if not isinstance(name, str) or name == "none" or name in self._teachers:
            return
        if name in _PLACEBOS:
            what = (
                f"a placebo is set apart from the teacher; got `teacher: {name}`. Write "
                f"`placebo: {name}`"
            )
        elif not self._teachers:
            what = (
                f"the variant asks for a teacher; got {name!r}, but the experiment has no "
                "`teacher` section. Add one"
            )
        else:
            what = str(UnknownNameError.of("teacher", name, self._teachers))
        self._say(path, name, what)

    def _term(
        self,
        path: Path,
        term: Mapping[str, Any],
        loss: Any,
        variant: Path,
        teacher: object,
        placebo: object,
    ) -> None:
        """What a term says that its loss cannot follow; teacher and placebo hold for it."""
        for key in ("teacher", "placebo"):
            if not loss.teacher and term.get(key) not in (None, "none"):
                what = f"the loss {loss.name!r} reads no teacher; got {term[key]!r}. Remove `{key}`"
                self._say((*path, key), term[key], what)
        for key in ("layers", "adapter"):
            if not loss.features and term.get(key) is not None:
                able = ", ".join(name for name, one in registry("loss").items() if one.features)
                what = (
                    f"the loss {loss.name!r} compares class logits; got `{key}`. Remove it, or "
                    f"take a feature loss: {able}"
                )
                self._say((*path, key), term[key], what)
        if loss.teacher and placebo == "uniform" and term.get("layers") is not None:
            what = (
                "a uniform placebo has no layers; got `layers`. Set `placebo: untrained` or "
                "`shuffled`"
            )
            self._say((*path, "layers"), term["layers"], what)
        if loss.features:
            self._known((*path, "adapter"), "adapter", term.get("adapter"), registry("adapter"))
        if not loss.teacher or teacher != "none":
            return
        if placebo in ("shuffled", "untrained"):
            place = path if term.get("placebo") else variant
            what = (
                f"the placebo {placebo!r} is made from a teacher; got `teacher: none` for the loss "
                f"{loss.name!r}. Name a teacher"
            )
            self._say((*place, "placebo"), placebo, what)
        elif placebo == "none":
            place = path if "teacher" in term else (*variant, "terms")
            what = (
                f"the loss {loss.name!r} needs a teacher; got `teacher: none`. Name a teacher, or "
                "set `placebo: uniform`"
            )
            self._say(place, teacher, what)

    def _axis(
        self, axis: Mapping[str, Any], path: Path, sections: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Keys that an axis must not set; whether the others exist shows when they are set."""
        if isinstance(axis.get("key"), str):
            keys: list[tuple[Path, str]] = [((*path, "key"), axis["key"])]
        else:
            keys = [
                ((*path, "values", label, key), key)
                for label, settings in _items(axis.get("values"))
                for key, _ in _items(settings)
            ]
        for place, key in keys:
            section, *rest = key.split(".")
            if section not in _CHANGEABLE:
                fault = UnknownNameError.of("key for an axis", key, _CHANGEABLE)
                self._say(place, key, str(fault))
            elif section in sections and rest:
                if sections[section]:
                    kind = section.removesuffix("s")
                    self._known(place, kind, rest[0], sections[section])
            elif section in sections:
                example = f"{section}.{next(iter(sections[section]), 'NAME')}"
                what = (
                    f"an axis changes settings of single {section}; got {key!r}; expected for "
                    f"example {example}"
                )
                self._say(place, key, what)


def _opened(name: str) -> tuple[Backend | None, str]:
    """The backend of that name, or None and why there is none.

    A fault of the backend file is not one of the experiment, and said by itself.
    """
    from qiskit_kd.execution.backends import load_backend

    try:
        return load_backend(name), ""
    except UnknownNameError as error:
        return None, str(error)


@lru_cache(maxsize=256)
def _complaint(loss: str, options: str) -> str | None:
    """Of three classes; every point of the axes asks the same."""
    return complaint(registry("loss")[loss], json.loads(options), num_classes=3)


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


def option_fault(builder: Callable[..., Any], what: str, option: str, value: object) -> str | None:
    """Why a registered part does not take an option; None if it does.

    Args:
        builder: The part.
        what: What messages call it.
        option: Name of the option.
        value: Its value.
    """
    known = option_names(builder)
    if known is None:
        return None
    if option not in known:
        near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return (
            f"unknown option of the {what}; got {option!r}. {hint}"
            f"known: {', '.join(known) or 'none'}"
        )
    adapter = _adapter(builder, option)
    if adapter is None:
        return None
    try:
        understood = adapter.validate_python(value)
    except ValidationError as error:
        message = str(error.errors(include_url=False)[0]["msg"])
        expected: str | None = message.removeprefix("Input should be ")
    else:
        expected = _turned_into(value, understood)
    return None if expected is None else f"wrong value; got {value!r}; expected {expected}"


@lru_cache(maxsize=512)
def _adapter(builder: Callable[..., Any], option: str) -> TypeAdapter[Any] | None:
    """What checks an option's type; None for one that only the builder itself can check."""
    try:
        hint = typing.get_type_hints(builder).get(option, Any)
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (NameError, TypeError, PydanticSchemaGenerationError, PydanticUserError):
        return None


def _turned_into(value: object, understood: object) -> str | None:
    """What pydantic silently made of a value; builders get the value as it stands."""
    if isinstance(value, list) and isinstance(understood, list | tuple):
        return next(filter(None, map(_turned_into, value, understood)), None)
    kinds: dict[type, str] = {bool: "true or false", int: "an integer", float: "a number"}
    same = type(value) is type(understood) or (type(value), type(understood)) == (int, float)
    return None if same else kinds.get(type(understood))
