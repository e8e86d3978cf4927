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
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from qiskit_kd.errors import ConfigError, UnknownNameError
from qiskit_kd.experiment.checks import faults_of_parts
from qiskit_kd.experiment.config import TEACHER_ROW, ExperimentConfig
from qiskit_kd.experiment.grafting import graft, node_at
from qiskit_kd.yamlfile import Fault, Locator, as_error, faults, load_yaml, parse_yaml

__all__ = ["backend_setting", "example_folders", "find_experiment", "load", "parse", "shipped"]

_OVERRIDE = "override"
_FROM_COMMAND = f"{_OVERRIDE}:0:0"  # in the form of a place in a file


class _Tree(Locator):
    """A locator that knows which nodes came from the command line."""

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
            if node is not None and node.start_mark.name == _OVERRIDE:
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
    return _build(data, locate, overrides, preset, seeds, Path(path).parent)


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
    folder: Path = Path(),
) -> ExperimentConfig:
    tree = _Tree(locate.name, copy.deepcopy(locate.node))
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
            node = copy.deepcopy(node_at(locate.node, ("presets", preset, str(key))))
            graft(data, str(key).split("."), copy.deepcopy(value), root=tree.node, node=node)
    asked: list[tuple[str, list[str]]] = []
    for text in [*overrides, *([f"seeds={seeds}"] if seeds is not None else [])]:
        path, value, node = _override(text)
        graft(data, path, value, root=tree.node, node=node)
        asked += [(text, leaf) for leaf in _leaves(path, value)]
    _root_circuits(data, folder, set())
    config, found = _checked(data, tree)
    if config is not None:
        _check_overruled(config, asked)
    if config is not None and not found:
        found = _faults_of_points(config, data, tree)
    if config is None or found:
        raise ConfigError(str(as_error(found, tree)).replace(f"{_FROM_COMMAND}: ", f"{_OVERRIDE} "))
    return config


def _root_circuits(part: Any, folder: Path, seen: set[int]) -> None:
    """Make the paths of circuit files, which are relative to the experiment file, absolute."""
    if id(part) in seen:  # an alias
        return
    seen.add(id(part))
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        if isinstance(value, dict | list):
            _root_circuits(value, folder, seen)
        elif isinstance(value, str) and value.lower().endswith((".qasm", ".qpy")):
            beside = folder / value
            part[key] = str((beside if beside.is_file() else Path(value)).resolve())


def _checked(data: dict[str, Any], tree: _Tree) -> tuple[ExperimentConfig | None, list[Fault]]:
    """The configuration, if the schema takes it, and every fault of the schema and of the parts."""
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
    return config, faults(found, tree, ExperimentConfig)


def _faults_of_points(config: ExperimentConfig, data: dict[str, Any], tree: _Tree) -> list[Fault]:
    """Every fault that the values of the axes make, at the place of the value or of its key."""
    found: dict[object, Fault] = {}
    listed = set()  # places of plain values: a fault that does not name its value is of their key
    for point in config.points() if config.axes else ():
        grown, grown_tree = copy.deepcopy(data), _Tree(tree.name, copy.deepcopy(tree.node))
        for name, label in point.items():
            axis = config.axes[name]
            for key, value in axis.settings(label).items():
                if isinstance(axis.values, dict):
                    path: tuple[str, ...] = ("axes", name, "values", str(label))
                    pair = _pair_at(node_at(tree.node, path), key)
                else:
                    values = node_at(tree.node, ("axes", name, "values"))
                    node = values.value[axis.values.index(label)] if values else None
                    pair = node_at(tree.node, ("axes", name, "key")), node
                    if node is not None:
                        listed.add((node.start_mark.line + 1, node.start_mark.column + 1))
                try:
                    graft(
                        grown, key.split("."), copy.deepcopy(value), what=f"axis {name}",
                        root=grown_tree.node, node=copy.deepcopy(pair[1]), key=pair[0],
                    )  # fmt: skip
                except ConfigError as error:
                    mark = None if pair[0] is None else pair[0].start_mark
                    raise ConfigError(str(error) if mark is None or mark.name == _OVERRIDE else
                                      f"{tree.name}:{mark.line + 1}:{mark.column + 1}: {error}"
                                      ) from error  # fmt: skip
        for place, text in _checked(grown, grown_tree)[1]:
            what = text.partition(": ")[2]
            found.setdefault(what if place in listed else text, (place, text))
    return list(found.values())


def _pair_at(node: yaml.Node | None, key: str) -> tuple[yaml.Node | None, yaml.Node | None]:
    """The nodes of a key and of its value."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((pair for pair in pairs if pair[0].value == key), (None, None))


def _leaves(path: list[str], value: Any) -> list[list[str]]:
    """The paths of the settings in a value; the short form of a teacher written out."""
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in _leaves([*path, str(key)], inner)]
    return [["teachers", *path] if path[0] == TEACHER_ROW else path]


def _check_overruled(config: ExperimentConfig, asked: Sequence[tuple[str, list[str]]]) -> None:
    """Refuse an override of what an axis sets again.

    Raises:
        ConfigError: Naming override and axis.
    """
    for name, axis in config.axes.items():
        set_again = [(key, leaf) for label in axis.labels
                     for key, value in axis.settings(label).items()
                     for leaf in _leaves(key.split("."), value)]  # fmt: skip
        for text, path in asked:
            for key, other in set_again:
                common = min(len(path), len(other))
                if path[:common] == other[:common]:
                    way = f"axes.{name}.values=[...]" if axis.key else "its values in the file"
                    raise ConfigError(
                        f"override {'.'.join(path)}: the axis {name} sets {key} again, so the "
                        "override would not hold",
                        got=text, expected="a key that no axis sets",
                        remedy=f"Leave it out, or change the axis: {way}.",
                    )  # fmt: skip


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
    _stamp(node)
    return path, parsed, node


def _stamp(node: yaml.Node) -> None:
    """Mark a node and all below it as coming from the command line."""
    node.start_mark = yaml.Mark(_OVERRIDE, 0, 0, 0, None, 0)
    for inner in node.value if isinstance(node, yaml.CollectionNode) else ():
        for part in inner if isinstance(inner, tuple) else (inner,):
            _stamp(part)


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
