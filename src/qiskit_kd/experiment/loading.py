# SPDX-License-Identifier: Apache-2.0
"""From a YAML file, a preset and `key=value` overrides to a checked `ExperimentConfig`.

Presets and overrides are grafted onto the YAML tree *before* validation, each value keeping the
place it came from, so that one report names every fault as `file:line:col: key: ...` or
`override key: ...`.
"""

from __future__ import annotations

import copy
import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from qiskit_kd.errors import ConfigError, UnknownNameError
from qiskit_kd.experiment.checks import faults_of_parts
from qiskit_kd.experiment.config import ExperimentConfig
from qiskit_kd.yamlfile import Locator, load_yaml, parse_yaml, validation_error

__all__ = ["backend_setting", "example_folders", "find_experiment", "load", "parse", "shipped"]

_OVERRIDE = "override"
_FROM_COMMAND = f"{_OVERRIDE}:0:0"  # in the form of a place in a file


@dataclass(frozen=True)
class _Tree(Locator):
    """A locator that knows which nodes came from the command line."""

    grafted: frozenset[int] = frozenset()
    """Identities of nodes that an override put in."""

    def __call__(self, path: Sequence[str | int] = (), *, key: bool = False) -> str:
        node = self.node
        for part in path:
            if isinstance(node, yaml.MappingNode):
                pair = next((p for p in node.value if p[0].value == str(part)), None)
                if pair is None:
                    break
                node = pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                if part >= len(node.value):
                    break
                node = node.value[part]
            if id(node) in self.grafted:
                return _FROM_COMMAND
        return super().__call__(path, key=key)


def load(
    path: str | Path,
    overrides: Iterable[str] = (),
    *,
    preset: str | None = None,
    seeds: int | None = None,
) -> ExperimentConfig:
    """Read an experiment file; later arguments win over earlier ones.

    Args:
        path: The YAML file.
        overrides: `dotted.key=value` texts, the value in YAML.
        preset: Name of one of the file's own presets.
        seeds: Number of seeds, wherever else it is set.

    Raises:
        ConfigError: One error that lists every fault with its place.
    """
    data, locate = load_yaml(path)
    return _build(data, locate, overrides, preset, seeds)


def parse(
    text: str,
    overrides: Iterable[str] = (),
    *,
    preset: str | None = None,
    seeds: int | None = None,
    name: str = "<text>",
) -> ExperimentConfig:
    """The same for YAML text at hand."""
    data, locate = parse_yaml(text, name=name)
    if not isinstance(data, dict):
        raise locate.error((), "an experiment is a mapping", got=type(data).__name__)
    return _build(data, locate, overrides, preset, seeds)


def _build(
    data: dict[str, Any],
    locate: Locator,
    overrides: Iterable[str],
    preset: str | None,
    seeds: int | None,
) -> ExperimentConfig:
    root = copy.deepcopy(locate.node)
    grafted: set[int] = set()
    if preset is not None:
        presets = data.get("presets")
        known = presets if isinstance(presets, dict) else {}
        if preset not in known:
            raise UnknownNameError.of("preset", preset, map(str, known))
        if not isinstance(known[preset], dict | None):
            raise locate.error(
                ("presets", preset), "a preset is a mapping of keys to values",
                got=type(known[preset]).__name__, expected="for example {seeds: 2}",
            )  # fmt: skip
        for key, value in (known[preset] or {}).items():
            node = _node_at(locate.node, ("presets", preset, key))
            _graft(
                data, root, str(key).split("."), copy.deepcopy(value), copy.deepcopy(node), set()
            )
    texts = [*overrides, *([f"seeds={seeds}"] if seeds is not None else [])]
    for text in texts:
        path, value, node = _override(text)
        _graft(data, root, path, value, node, grafted)
        grafted |= _identities(node)
    tree = _Tree(locate.name, root, frozenset(grafted))
    config: ExperimentConfig | None = None
    found: list[dict[str, Any]] = []
    try:
        config = ExperimentConfig.model_validate(data)
    except ValidationError as error:
        found = [dict(item) for item in error.errors(include_url=False)]
    broken = [tuple(item["loc"]) for item in found]
    found += [
        {"type": "value_error", "loc": f.path, "msg": f.what, "input": f.value,
         "ctx": {"error": f.what}}
        for f in faults_of_parts(data, broken)
    ]  # fmt: skip
    if config is None or found:
        fault = validation_error(_Found(found), tree, ExperimentConfig)  # type: ignore[arg-type]
        raise ConfigError(str(fault).replace(f"{_FROM_COMMAND}: ", f"{_OVERRIDE} "))
    return config


class _Found:
    """The faults of the schema and of the named parts, in pydantic's form."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self._items = items

    def errors(self, **_: object) -> list[dict[str, Any]]:
        return self._items


def _override(text: str) -> tuple[list[str], Any, yaml.Node]:
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError(
            "an override reads key=value",
            got=repr(text),
            expected="for example training.epochs=20",
            remedy="Put values with blanks into quotes.",
        )
    parsed, locate = parse_yaml(value, name=f"{_OVERRIDE} {key}")
    node = locate.node or yaml.ScalarNode("tag:yaml.org,2002:null", "")
    return path, parsed, node


def _graft(
    data: dict[str, Any], root: yaml.Node | None, path: Sequence[str], value: Any,
    node: yaml.Node | None, made: set[int],
) -> None:  # fmt: skip
    """Set `path` to `value` in the data and in the tree beside it; mappings are merged.

    Identities of nodes that are put in go to `made`.
    """
    if isinstance(value, Mapping) and isinstance(node, yaml.MappingNode) and value:
        for key, inner in value.items():
            _graft(data, root, [*path, str(key)], inner, _node_at(node, (str(key),)), made)
        return
    here: Any = data
    at: yaml.Node | None = root
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            position = int(part)
            if last:
                here[position] = value
                if isinstance(at, yaml.SequenceNode) and node is not None:
                    at.value[position] = node
                    made.add(id(node))
                return
            here = here[position]
            at = at.value[position] if isinstance(at, yaml.SequenceNode) else None
            continue
        if not isinstance(here, dict):
            raise ConfigError(
                f"{_OVERRIDE} {'.'.join(path)}: there is nothing below {'.'.join(path[:depth])}",
                got=f"{type(here).__name__} there",
                expected="a mapping, or a list and a position in it",
            )
        if last or here.get(part) is None:
            here[part] = value if last else {}
            below = node if last or node is None else _mapping_like(node)
            if isinstance(at, yaml.MappingNode) and below is not None:
                name = yaml.ScalarNode("tag:yaml.org,2002:str", part, below.start_mark)
                at.value = [p for p in at.value if p[0].value != part] + [(name, below)]
                made.add(id(below))
        here, at = here[part], _node_at(at, (part,))


def _node_at(node: yaml.Node | None, path: Sequence[str]) -> yaml.Node | None:
    for part in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((p[1] for p in node.value if p[0].value == str(part)), None)
    return node


def _mapping_like(node: yaml.Node) -> yaml.MappingNode:
    return yaml.MappingNode("tag:yaml.org,2002:map", [], node.start_mark, node.end_mark)


def _identities(node: yaml.Node) -> set[int]:
    found = {id(node)}
    if isinstance(node, yaml.MappingNode):
        found |= {i for _, inner in node.value for i in _identities(inner)}
    elif isinstance(node, yaml.SequenceNode):
        found |= {i for inner in node.value for i in _identities(inner)}
    return found


def backend_setting() -> str:
    """`VARIABLE=file ` before a command, if the backends are not those that are shipped."""
    from qiskit_kd.execution.backends import ENVIRONMENT_VARIABLE, backends_path

    here, path = Path(__file__).resolve(), backends_path()
    ours = (here.parents[3] / "backends.yaml", here.parents[1] / "_data" / "backends.yaml")
    return "" if path.resolve() in ours else f"{ENVIRONMENT_VARIABLE}={shlex.quote(str(path))} "


def example_folders() -> list[Path]:
    """Where shipped experiments are looked up, in order."""
    here = Path(__file__).resolve()
    repository = here.parents[3] / "examples"  # of a checkout: src/qiskit_kd/experiment/..
    return [Path("examples"), repository, here.parents[1] / "_data" / "examples"]


def shipped() -> dict[str, Path]:
    """Shipped experiments by name; the first folder that has one wins."""
    found: dict[str, Path] = {}
    for folder in example_folders():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find_experiment(name: str | Path) -> Path:
    """The file that `name` stands for: a path, or a shipped experiment.

    Raises:
        UnknownNameError: If there is neither; the message lists what is shipped.
        ConfigError: If a file of that name is missing, or it is a folder.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = shipped()
    if str(name) in known:
        return known[str(name)]
    if path.is_dir():
        raise ConfigError(
            "an experiment is a YAML file or a shipped name", got=f"the folder {path}",
            remedy=f"To see a study that was run: qkd report {path}. To go on with it, name its "
            f"YAML and add --out {path}.",
        )  # fmt: skip
    if path.suffix in (".yaml", ".yml"):
        beside = [p.stem for p in path.parent.glob(f"*{path.suffix}")]
        near = difflib.get_close_matches(path.stem, beside, n=1, cutoff=0.75)
        hint = f"did you mean {str(path.with_stem(near[0]))!r}? " if near else ""
        raise ConfigError(
            "the experiment file does not exist", got=repr(str(name)),
            remedy=f"{hint}Shipped experiments: {', '.join(known) or 'none'}.",
        )  # fmt: skip
    raise UnknownNameError.of("experiment", str(name), known)
