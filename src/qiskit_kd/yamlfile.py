# SPDX-License-Identifier: Apache-2.0
"""YAML files whose errors say where: `file:line:col: key: what; got; expected. remedy`.

Reads by YAML 1.2 rules where YAML 1.1 surprises people (`no` and `off` are words, `1e-3` is a
number, `12:30` is a word, a key given twice is an error) and turns the faults pydantic finds into
one `ConfigError` that lists all of them with their places in the file.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union

import yaml
from pydantic import BaseModel, ValidationError

from qiskit_kd.errors import ConfigError

_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_MERGE = "tag:yaml.org,2002:merge"
_WRITTEN_OUT = 100_000  # values with every alias replaced by what it stands for
Key = str | int
Fault = tuple[tuple[int, int], str]
"""Line and column, and the message."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalar rules of the YAML 1.2 core schema."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused(f"a key is a word or a number, not a {key.id}", key.start_mark)
            if key.value in seen:
                raise _Refused(f"the key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Carry out `<<`: own keys win over merged ones, of several mappings the first wins.

        PyYAML's own (6.0.4) gives a key back its old value where a mapping that overrides it is
        merged again.
        """
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        for key, value in node.value:
            if key.tag == _MERGE:
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(source, yaml.MappingNode):
                        raise _Refused(
                            f"<< merges a mapping or a list of them, not a {source.id}",
                            source.start_mark,
                        )
                    self.flatten_mapping(source)
                    for pair in source.value:
                        merged.setdefault(pair[0].value, pair)
        names = {key.value for key, _ in own}
        node.value = [pair for name, pair in merged.items() if name not in names] + own

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:  # as PyYAML's scalars raise
            kind = node.tag.rpartition(":")[2]
            text = str(node.value)
            shown = repr(text if len(text) < 60 else f"{text[:57]}...")
            raise _Refused(f"{shown} is no valid {kind}", node.start_mark) from error


class _Refused(yaml.YAMLError):
    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem)
        self.problem, self.problem_mark = problem, mark


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), [*_first]
    )
_Loader.yaml_implicit_resolvers.setdefault("", []).append(
    ("tag:yaml.org,2002:null", re.compile(r"^$"))
)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    found = int(text, 0) if text[:2] in ("0o", "0x") else int(text)  # 010 is ten, as in YAML 1.2
    if found.bit_length() > 63:
        raise ValueError  # nothing here counts so far, and Python may refuse to print it
    return found


def _construct_str(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    if _UNWRITABLE.search(text):
        raise ValueError  # in no file's name, no page, no drawing
    return text


def _construct_nothing(loader: _Loader, node: yaml.Node) -> None:
    loader.construct_undefined(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:str", _construct_str)
for _tag in ("binary", "timestamp", "omap", "pairs", "set"):  # of YAML 1.1, and of no use here
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct_nothing)


def _check_aliases(root: yaml.Node) -> None:
    """Refuse aliases inside of what they stand for, and those that write out to very much."""
    sizes: dict[int, int] = {}
    above: set[int] = set()

    def size(node: yaml.Node) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return sizes.setdefault(id(node), 1)
        if id(node) in above:
            raise _Refused("an alias inside of what it stands for", node.start_mark)
        if id(node) not in sizes:
            above.add(id(node))
            pairs = isinstance(node, yaml.MappingNode)
            flat = [part for pair in node.value for part in pair] if pairs else node.value
            sizes[id(node)] = 1 + sum(map(size, flat))
            above.discard(id(node))
            if sizes[id(node)] > _WRITTEN_OUT and sizes[id(node)] > 10 * len(sizes):
                raise _Refused("aliases that write out to too many values", node.start_mark)
        return sizes[id(node)]

    size(root)


class Locator:
    """Where the values of a YAML document stand.

    Calling it with a path of keys and list positions gives `file:line:col`. Path elements that the
    document lacks (a missing key, a name pydantic put in for a member of a union) are skipped, so
    the answer is the nearest place that exists.

    Args:
        name: File name, as messages show it.
        node: Root of the document; None for an empty one.
        data: What the document holds.
    """

    def __init__(self, name: str, node: yaml.Node | None, data: Any) -> None:
        self.name, self.node, self.data = name, node, data

    def __call__(self, path: Sequence[Key] = (), *, key: bool = False) -> str:
        """`file:line:col` of the value at `path`, or of its key."""
        node, mark = self.node, None if self.node is None else self.node.start_mark
        for part in path:
            if isinstance(node, yaml.MappingNode):
                pairs = [pair for pair in node.value if pair[0].value == str(part)]
                if pairs:
                    node, mark = pairs[-1][1], pairs[-1][key is False].start_mark
            elif isinstance(node, yaml.SequenceNode) and part in range(len(node.value)):
                node = node.value[int(part)]
                mark = node.start_mark
        line, column = (0, 0) if mark is None else (mark.line, mark.column)
        return f"{self.name}:{line + 1}:{column + 1}"

    def error(self, path: Sequence[Key], rule: str, **more: str | None) -> ConfigError:
        """A `ConfigError` for the value at `path`; `more` as it takes."""
        return ConfigError(f"{_place(self(path), path)}: {rule}", **more)


def parse_yaml(text: str, *, name: str = "<text>") -> tuple[Any, Locator]:
    """Parse one YAML document; see `load_yaml`."""
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        raise ConfigError(
            f"{name}:{line}:{column}: not valid YAML: a character that no text contains",
            got=f"U+{ord(text[error.position]):04X}",
            remedy="Remove it; the file may be damaged.",
        ) from None
    try:
        node = loader.get_single_node()
        if node is not None:
            _check_aliases(node)
        data = None if node is None else loader.construct_document(node)
    except RecursionError:
        raise ConfigError(
            f"{name}: not valid YAML: nested too deeply", remedy="Remove some levels."
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = name if mark is None else f"{name}:{mark.line + 1}:{mark.column + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(
            f"{where}: not valid YAML: {problem}", remedy="Correct the line."
        ) from None
    finally:
        loader.dispose()
    return data, Locator(name, node, data)


def load_yaml(path: str | Path) -> tuple[dict[str, Any], Locator]:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: The file, UTF-8.

    Returns:
        The data, and a `Locator` for error messages.

    Raises:
        ConfigError: If the file is missing, unreadable, no valid YAML, or no mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(
            f"{path}: the file cannot be read", got=str(what), remedy="Check the path."
        ) from None
    data, locate = parse_yaml(text, name=str(path))
    if not isinstance(data, dict):
        raise locate.error(
            (),
            "the top level is a mapping of keys to values",
            got="an empty file" if data is None else type(data).__name__,
            expected="lines such as `key: value`",
        )
    return data, locate


def validation_error(
    error: ValidationError, locate: Locator, model: type[BaseModel] | None = None
) -> ConfigError:
    """One `ConfigError` with every fault pydantic found and its place in the file.

    Args:
        error: What pydantic raised.
        locate: The locator of the file the data came from.
        model: The schema, for suggesting the right spelling of unknown keys.
    """
    return as_error(faults(error.errors(include_url=False), locate, model), locate)


def faults(
    items: Iterable[Mapping[str, Any]], locate: Locator, model: type[BaseModel] | None = None
) -> list[Fault]:
    """Line and column of every fault, and its message, in the order of their places.

    Args:
        items: Faults as pydantic lists them.
        locate: The locator of the file the data came from.
        model: The schema, for suggesting the right spelling of unknown keys.
    """
    return sorted(_fault(dict(item), locate, model) for item in items)


def as_error(found: Sequence[Fault], locate: Locator) -> ConfigError:
    """One `ConfigError` of all faults."""
    texts = [text for _, text in sorted(found)]
    if len(texts) == 1:
        return ConfigError(texts[0])
    return ConfigError("\n  ".join([f"{len(texts)} faults in {locate.name}:", *texts]))


def _fault(item: dict[str, Any], locate: Locator, model: type[BaseModel] | None) -> Fault:
    kind, path, value = item["type"], tuple(item["loc"]), item["input"]
    context: dict[str, Any] = item.get("ctx", {})
    message, at_key = str(item["msg"]), False
    got: str | None = _show(value)
    expected: str | None = None
    remedy: str | None = None
    if kind.startswith("union_tag"):
        path = (*path, str(context["discriminator"]).strip("'"))
    if kind == "extra_forbidden":
        rule, at_key, got = "unknown key", True, repr(path[-1])
        remedy = _suggest(str(path[-1]), () if model is None else _keys(model, path[:-1]))
    elif kind in ("missing", "union_tag_not_found"):
        rule, got, remedy = "the key is missing", None, "Add it."
    elif kind == "union_tag_invalid":
        rule, got = "unknown value", repr(context["tag"])
        remedy = _suggest(str(context["tag"]), _quoted(context.get("expected_tags", "")))
    elif kind in ("literal_error", "enum"):
        rule, expected = "unknown value", str(context["expected"])
        if isinstance(value, str):
            expected, remedy = None, _suggest(value, _quoted(expected))
    elif kind == "too_short":
        rule, got = "too few entries", str(context["actual_length"])
        expected = f"at least {context['min_length']}"
    elif kind == "invalid_key" or path[-1:] == ("[key]",):
        path = path[:-1] if path[-1:] == ("[key]",) else path
        rule, at_key, expected, remedy = "wrong key", True, "a word", "Put quotes around it."
        if isinstance(value, str):
            expected = "letters, digits, _, . and -, 60 at most, the first one no sign"
            remedy = f"Write, say, {re.sub('[^A-Za-z0-9_.]+', '-', value).strip('-_.') or 'a'}."
    elif kind in ("value_error", "assertion_error"):
        rule, got = str(context.get("error", message)), None
    else:
        expected = message.removeprefix("Input should be ")
        expected = "a mapping" if "dictionary" in expected else expected
        if kind.startswith("int_"):
            expected, remedy = "a valid integer", _as_integer(value)
        wrong_type = kind.endswith(("_type", "_parsing", "_from_float"))
        rule = "wrong type" if wrong_type else "wrong value"
        if expected == message:
            rule, expected = message[0].lower() + message[1:], None
    place = locate(path, key=at_key)
    line, column = map(int, place.rsplit(":", 2)[1:])
    where = _place(place, _visible(path, locate))
    text = str(ConfigError(f"{where}: {rule}", got=got, expected=expected, remedy=remedy))
    return (line, column), text


def _quoted(text: object) -> list[str]:
    return re.findall(r"'([^']*)'", str(text))


def _as_integer(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+", value):
        return "Remove the quotes."
    if isinstance(value, float) and value.is_integer():
        return f"Write {int(value)}."
    return "Write it in digits alone, e.g. 42."


def _place(where: str, path: Sequence[Key]) -> str:
    return f"{where}: {'.'.join(map(str, path))}" if path else where


def _visible(path: Sequence[Key], locate: Locator) -> list[Key]:
    """`path` without the names pydantic puts in for members of a union."""
    kept: list[Key] = []
    at, missing = locate.data, object()
    for position, part in enumerate(path):
        if isinstance(at, dict):
            found = next((v for k, v in at.items() if str(k) == str(part)), missing)
            if found is missing and position < len(path) - 1:
                continue
            at = found
        elif isinstance(at, list) and isinstance(part, int):
            at = at[part] if part < len(at) else missing
        elif at is not missing:
            continue  # below a scalar: the name of a union member
        kept.append(part)
    return kept


def _show(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return f"{text if len(text) < 60 else text[:57] + '...'} ({type(value).__name__})"


def _suggest(name: str, known: Iterable[str]) -> str | None:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(names)}" if names else None


def _keys(model: type[BaseModel], path: Sequence[Key]) -> set[str]:
    """Keys the schema knows at `path`, following mappings, lists and unions."""
    current: list[Any] = [model]
    for part in path:
        models = _models(current)
        inside = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        items = [
            typing.get_args(a)[-1]
            for a in _members(current)
            if typing.get_origin(a) in (dict, list) and typing.get_args(a)
        ]
        tagged = [m for m in models if m.__name__ == part or part in _literals(m)]
        current = inside or items or tagged or current
    return {f.alias or name for m in _models(current) for name, f in m.model_fields.items()}


def _members(annotations: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for annotation in annotations:
        origin = typing.get_origin(annotation)
        if origin in (Union, UnionType):
            found += _members(typing.get_args(annotation))
        elif origin is typing.Annotated:
            found += _members(typing.get_args(annotation)[:1])
        else:
            found.append(annotation)
    return found


def _models(annotations: Iterable[Any]) -> list[type[BaseModel]]:
    return [a for a in _members(annotations) if isinstance(a, type) and issubclass(a, BaseModel)]


def _literals(model: type[BaseModel]) -> set[Any]:
    annotations = [item.annotation for item in model.model_fields.values()]
    return {v for a in annotations if typing.get_origin(a) is Literal for v in typing.get_args(a)}
