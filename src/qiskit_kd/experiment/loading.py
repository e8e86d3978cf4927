# SPDX-License-Identifier: Apache-2.0
"""From a YAML file, a preset and `key=value` overrides to a checked `ExperimentConfig`.

Presets and overrides are put over the YAML tree *before* validation, each value keeping the place
where it was said, so that one error names every fault as `file:line:col: key: ...` or
`override key: ...`. The points of the axes are resolved here, and carried along. Also where shipped
experiments lie, and what `qkd init` writes.
"""

from __future__ import annotations

import copy
import difflib
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import Any

from pydantic import ValidationError

from qiskit_kd.errors import ConfigError, StorageError, UnknownNameError
from qiskit_kd.experiment.checks import faults_of_parts
from qiskit_kd.experiment.config import ExperimentConfig, Point, ResolvedPoint, set_key
from qiskit_kd.experiment.schema import TEACHER_ROW
from qiskit_kd.yamlfile import Fault, Key, Locator, as_error, faults, load_yaml, parse_yaml

_COMMAND = Locator("override", None, None)


class Origins(Locator):
    """Where the values of a tree were said.

    Args:
        base: Where those were said that nothing was put over.
        data: The tree, which is changed in place.
    """

    def __init__(self, base: Locator, data: dict[str, Any]) -> None:
        super().__init__(base.name, base.node, data)
        self._base = base
        self._said: dict[tuple[str, ...], tuple[Locator, tuple[Key, ...], str]] = {}

    def __call__(self, path: Sequence[Key] = (), *, key: bool = False) -> str:
        """See `Locator`."""
        names = tuple(map(str, path))
        for depth in range(len(names), 0, -1):
            if names[:depth] in self._said:
                locate, above, key_place = self._said[names[:depth]]
                if key and depth == len(names):
                    return key_place
                return locate((*above, *path[depth:]), key=key)
        return self._base(path, key=key)

    def set(
        self,
        path: Sequence[str],
        value: Any,
        locate: Locator,
        above: Sequence[Key] = (),
        *,
        key_place: str | None = None,
        what: str = "override",
    ) -> None:
        """Put a value in, as `set_key`; it was said where `locate` finds it, below `above`.

        Its path was said at `key_place`, by default at the same place.
        """
        for made, inner in set_key(self.data, path, copy.deepcopy(value), what=what):
            for known in [known for known in self._said if known[: len(made)] == made]:
                del self._said[known]
            at = (*above, *inner)
            self._said[made] = locate, at, key_place or locate(at)


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
    _, locate = load_yaml(path)
    return _build(locate, overrides, preset, seeds, Path(path).parent)


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
    return _build(locate, overrides, preset, seeds)


def _build(
    locate: Locator,
    overrides: Iterable[str],
    preset: str | None,
    seeds: int | None,
    folder: Path = Path(),
) -> ExperimentConfig:
    tree = Origins(locate, copy.deepcopy(locate.data))
    if preset is not None:
        presets = locate.data.get("presets")
        known = presets if isinstance(presets, dict) else {}
        if preset not in known:
            raise UnknownNameError.of("preset", preset, map(str, known))
        if not isinstance(known[preset], dict | None):
            raise locate.error(
                ("presets", preset),
                "a preset is a mapping of keys to values",
                got=type(known[preset]).__name__,
                expected="for example {seeds: 2}",
            )
        for key, value in (known[preset] or {}).items():
            tree.set(str(key).split("."), value, locate, ("presets", preset, key))
    asked: list[tuple[str, list[str]]] = []
    for text in [*overrides, *([f"seeds={seeds}"] if seeds is not None else [])]:
        key, equals, said = text.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise ConfigError(
                "an override reads key=value",
                got=repr(text),
                expected="for example training.epochs=20",
                remedy="Put values with blanks into quotes.",
            )
        value = parse_yaml(said, name=f"override {key}")[0]
        tree.set(path, value, _COMMAND)
        asked += [(text, leaf) for leaf in _leaves(path, value)]
    _root_circuits(tree.data, folder, set())
    config, found = _checked(tree)
    if config is not None:
        _check_overruled(config, asked)
        if not found:
            found = _resolve(config, tree)
    if config is None or found:
        raise ConfigError(str(as_error(found, tree)).replace(f"{_COMMAND()}: ", "override "))
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


def _checked(tree: Origins) -> tuple[ExperimentConfig | None, list[Fault]]:
    """The configuration, if the schema takes it, and every fault of the schema and of the parts."""
    config: ExperimentConfig | None = None
    found: list[dict[str, Any]] = []
    try:
        config = ExperimentConfig.model_validate(tree.data)
    except ValidationError as error:
        found = [dict(item) for item in error.errors(include_url=False)]
    for f in faults_of_parts(tree.data, [tuple(item["loc"]) for item in found]):
        context = {"msg": f.what, "ctx": {"error": f.what}}
        found.append({"type": "value_error", "loc": f.path, "input": f.value, **context})
    return config, faults(found, tree, ExperimentConfig)


def _resolve(config: ExperimentConfig, tree: Origins) -> list[Fault]:
    """Give an experiment its points, or say every fault that the values of its axes make.

    Each is at the place of the value or of its key.
    """
    if not config.axes:
        vars(config)["resolved_points"] = (ResolvedPoint({}, config, checked=True),)
        return []
    found: dict[object, Fault] = {}
    listed: set[str] = set()  # places of plain values: a fault that names none is of their key
    points = []
    for point in config.points():
        here, wrong = _checked(_grown(config, tree, point, listed))
        if here is not None:
            points.append(ResolvedPoint(point, here, checked=True))
        for place, text in wrong:
            is_listed = f"{tree.name}:{place[0]}:{place[1]}" in listed
            found.setdefault(text.partition(": ")[2] if is_listed else text, (place, text))
    if not found:
        vars(config)["resolved_points"] = tuple(points)
    return list(found.values())


def _grown(config: ExperimentConfig, tree: Origins, point: Point, listed: set[str]) -> Origins:
    """The tree of one point, without axes.

    Raises:
        ConfigError: If a key of an axis leads nowhere.
    """
    rest = {key: value for key, value in tree.data.items() if key != "axes"}
    grown = Origins(tree, copy.deepcopy(rest))
    for name, label in point.items():
        axis = config.axes[name]
        for key, value in axis.settings(label).items():
            if isinstance(axis.values, dict):
                above: tuple[Key, ...] = ("axes", name, "values", str(label), key)
                key_place = tree(above, key=True)
            else:
                above = ("axes", name, "values", axis.values.index(label))
                key_place = tree(("axes", name, "key"))
                listed.add(tree(above))
            what = f"axis {name}"
            try:
                grown.set(key.split("."), value, tree, above, key_place=key_place, what=what)
            except ConfigError as error:
                said = "" if key_place == _COMMAND() else f"{key_place}: "
                raise ConfigError(f"{said}{error}") from error
    return grown


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
    set_again = [
        (name, axis, key, leaf)
        for name, axis in config.axes.items()
        for label in axis.labels
        for key, value in axis.settings(label).items()
        for leaf in _leaves(key.split("."), value)
    ]
    for text, path in asked:
        for name, axis, key, other in set_again:
            common = min(len(path), len(other))
            if path[:common] == other[:common]:
                way = f"axes.{name}.values=[...]" if axis.key else "its values in the file"
                raise ConfigError(
                    f"override {'.'.join(path)}: the axis {name} sets {key} again, so the "
                    "override would not hold",
                    got=text,
                    expected="a key that no axis sets",
                    remedy=f"Leave it out, or change the axis: {way}.",
                )


# Shipped experiments, and a new one


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
            "an experiment is a YAML file or a shipped name",
            got=f"the folder {path}",
            remedy=f"To see a study that was run: qkd report {path}. To go on with it, name its "
            f"YAML and add --out {path}.",
        )
    if path.suffix in (".yaml", ".yml"):
        beside = [p.stem for p in path.parent.glob(f"*{path.suffix}")]
        near = difflib.get_close_matches(path.stem, beside, n=1, cutoff=0.75)
        hint = f"did you mean {str(path.with_stem(near[0]))!r}? " if near else ""
        raise ConfigError(
            "the experiment file does not exist",
            got=repr(str(name)),
            remedy=f"{hint}Shipped experiments: {', '.join(known) or 'none'}.",
        )
    raise UnknownNameError.of("experiment", str(name), known)


def write_template(path: str | Path) -> Path:
    """Write the template to a new file.

    Raises:
        ConfigError: If the file exists.
        StorageError: If it cannot be written.
    """
    path = Path(path)
    # A name the schema takes, in quotes where YAML would read a number or another value.
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).lstrip("_.-")[:60] or "experiment"
    name = name if parse_yaml(name)[0] == name else json.dumps(name)
    template = Template(Path(__file__).with_name("template.yaml").read_text(encoding="utf-8"))
    text = template.substitute(file=shlex.quote(path.name), name=name)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(
            "the file exists already", got=str(path), remedy="Name another one: qkd init NAME.yaml."
        ) from None
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written", got=str(error.strerror), remedy="Choose another folder."
        ) from None
    return path
