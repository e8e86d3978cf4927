# SPDX-License-Identifier: Apache-2.0
"""What cannot work is said before anything runs: parts are built once and run on a few samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from qiskit_kd.errors import BudgetError, ConfigError, ExecutionError, QiskitKDError
from qiskit_kd.experiment.checks import complaint
from qiskit_kd.experiment.config import ExperimentConfig, ResolvedPoint
from qiskit_kd.experiment.devices import Opened, open_backend
from qiskit_kd.experiment.schema import registry
from qiskit_kd.experiment.store import canonical

if TYPE_CHECKING:
    from torch import nn

    from qiskit_kd.data import Dataset, Split

_IMAGES = 512  # whose patches are cut at once


class Preflight:
    """Tries every network, loss and feature path once, however many points and seeds share it.

    Args:
        opened: From the entry of a backend to the backend.
    """

    def __init__(self, opened: Opened = open_backend) -> None:
        self._opened = opened
        self._networks: dict[str, nn.Module] = {}
        self._done: set[str] = set()
        self._encoded: dict[tuple[int, int], object] = {}

    def _is_new(self, *what: object) -> bool:
        text = canonical(what)
        new = text not in self._done
        self._done.add(text)
        return new

    def networks(self, here: ResolvedPoint, split: Split) -> dict[str, nn.Module]:
        """The networks of a point by their place in the configuration, each built once.

        Raises:
            ConfigError: Naming every network that cannot be built, and why.
        """
        from qiskit_kd.experiment.task import build_network

        entries = [
            (f"students.{name}", student, {**student.options, **dict(chosen)}, backend)
            for name, student in here.config.students.items()
            for backend in here.used_by(name)
            for chosen in product(*([(k, v) for v in vs] for k, vs in student.candidates.items()))
        ]
        teachers = here.config.teachers.items()
        sizes = [split.num_features, split.num_classes, split.shape]
        problems: list[str] = []
        found: dict[str, nn.Module] = {}
        for where, entry, options, backend in (
            *entries,
            *((f"teachers.{name}", t, t.options, "exact") for name, t in teachers),
        ):
            dtype = here.config.training.overridden(entry.training).dtype
            place = here.place(backend)
            key = canonical([entry.kind, options, sizes, place, dtype])
            try:
                if key not in self._networks:
                    spec = {"kind": entry.kind, "options": options, "dtype": dtype}
                    network = build_network(spec, split, seed=0, backend=self._opened(place))
                    for layer in _quantum(network):
                        layer.engine.check(layer.model)
                    self._networks[key] = network
                found.setdefault(where, self._networks[key])
            except (BudgetError, ExecutionError):
                raise  # nothing is wrong with the network
            except (QiskitKDError, TypeError, ValueError) as error:
                problems.append(f"{where}: {error}")
        _refuse("networks that cannot be built:", problems)
        return found

    def losses(self, specs: Iterable[Mapping[str, Any]], num_classes: int) -> None:
        """Push a tiny batch through every term.

        Raises:
            ConfigError: Naming every term that refuses, and why.
        """
        table, problems = registry("loss"), []
        for spec in specs:
            for position, term in enumerate(spec["terms"]):
                where = f"variants.{spec['variant']}.terms.{position}"
                if self._is_new("loss", where, term["loss"], term["options"], num_classes):
                    what = complaint(table[term["loss"]], term["options"], num_classes=num_classes)
                    problems += [] if what is None else [f"{where}: {what}"]
        _refuse("terms that cannot work:", problems)

    def first_steps(self, specs: Iterable[Mapping[str, Any]], split: Split) -> None:
        """Take one step dry with every feature loss: two samples, nothing learned, no weight moves.

        The student is run exactly, whatever its backend: paths and sizes do not depend on it, and
        a device costs money.

        Raises:
            ConfigError: Naming every student and variant that cannot be trained, and why.
        """
        from torch.optim import Optimizer

        from qiskit_kd.distill.distiller import Distiller
        from qiskit_kd.experiment.task import build_network, sources, terms

        class _Still(Optimizer):
            def __init__(self) -> None:
                """No optimiser at all."""

        def teacher(spec: Mapping[str, Any], name: str) -> nn.Module:
            entry = {**spec["teachers"][name], "dtype": spec["training"]["dtype"]}
            return build_network(entry, split, seed=0)

        table, problems = registry("loss"), []
        for spec in specs:
            if not any(table[term["loss"]].features for term in spec["terms"]):
                continue
            parts = [spec[name] for name in ("student", "variant", "kind", "options", "terms")]
            taught = {n: [t["kind"], t["options"]] for n, t in spec["teachers"].items()}
            if not self._is_new("first step", parts, taught, [split.num_features, split.shape]):
                continue
            try:
                network = build_network(spec, split, seed=0)
                teachers = sources(spec, split, lambda name, _, spec=spec: teacher(spec, name))  # type: ignore[misc]
                # No optimiser is made: that takes seconds of imports.
                Distiller(
                    network, terms(spec), teacher=teachers, optimizer=lambda _: _Still()
                ).dry_step(_two_samples(split.train))
            except (QiskitKDError, TypeError, ValueError, RuntimeError) as error:
                problems.append(f"students.{spec['student']}, variants.{spec['variant']}: {error}")
        _refuse("lessons that cannot work:", problems)

    def evaluation(
        self, config: ExperimentConfig, networks: Mapping[str, nn.Module], split: Split
    ) -> None:
        """Disturb two test samples, and look for the feature maps.

        Raises:
            ConfigError: If the data cannot be disturbed so, are no images, or no network has the
                layer or returns maps there.
        """
        from qiskit_kd.distill.outputs import check_paths
        from qiskit_kd.experiment.evaluation import feature_maps
        from qiskit_kd.experiment.task import build_network

        asked, two = config.evaluation, _two_samples(split.test)
        for kind, levels in asked.robustness.items():
            for level in levels:
                with _named(f"evaluation.robustness.{kind}"):
                    registry("perturbation")[kind](two.features, level, shape=two.shape, seed=0)
        wanted, what = asked.feature_maps, "evaluation.feature_maps"
        if wanted is None or not self._is_new("maps", wanted.layer, [*networks], split.shape):
            return
        if split.shape is None or len(split.shape) != 3:
            raise ConfigError(
                f"{what}: feature maps belong to images",
                got=f"the data set {split.train.name!r} of rows",
                remedy="Leave feature_maps out.",
            )
        entries = dict(config.networks())
        able = [
            where
            for where, network in networks.items()
            if wanted.layer in dict(network.named_modules(remove_duplicate=False))
        ]
        for where in able:
            entry = entries[where]
            dtype = config.training.overridden(entry.training).dtype
            spec = {"kind": entry.kind, "options": entry.options, "dtype": dtype}
            with _named(f"{what}, {where}"):
                found = feature_maps(
                    build_network(spec, split, seed=0), two, layer=wanted.layer, images=1
                )
            size = np.shape((found or {})["maps"])
            if len(size) != 4:
                raise ConfigError(
                    f"{what}: the layer {wanted.layer!r} of {where} returns no maps",
                    got=f"a shape of {size[1:]} per sample",
                    expected="(channels, height, width)",
                    remedy="Choose a layer in front of the one that flattens.",
                )
        if not able:
            where, network = next(iter(networks.items()))
            with _named(what):
                check_paths(network, [wanted.layer], role=f"network of {where}")

    def samples(self, networks: Mapping[str, nn.Module], split: Split, seed: int) -> None:
        """Run the check of every encoding over all samples of a split that are new.

        Raises:
            ConfigError: Naming the network, the part of the split and the row.
        """
        for where, network in networks.items():
            for layer in _quantum(network):
                check = _check_of(layer, split)
                if check is None:
                    continue  # it does not see the samples themselves
                for part in ("train", "validation", "test", "transfer", "pool"):
                    samples = getattr(split, part)
                    key = id(samples), id(layer)
                    if self._encoded.get(key) is samples:
                        continue  # seeds and points share it
                    with _named(f"{where} cannot encode the {part} samples of seed {seed}"):
                        check(getattr(samples, "features", samples))
                    self._encoded[key] = samples  # kept, so that nothing else gets its id


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Errors say what they are about."""
    try:
        yield
    except QiskitKDError as error:
        raise ConfigError(f"{what}: {error}") from error


def _quantum(network: nn.Module) -> list[Any]:
    """Its layers with circuits, of whatever kind."""
    from qiskit_kd.nn.layer import CircuitLayer

    return [part for part in network.modules() if isinstance(part, CircuitLayer)]


def _check_of(layer: Any, split: Split) -> Callable[[Any], None] | None:
    """The check of a layer's encoding over rows of samples; None where it sees something else."""
    from qiskit_kd.nn.quanvolution import Quanvolution

    if not isinstance(layer, Quanvolution):
        check: Callable[[Any], None] = layer.model.encoding.check
        return check if layer.model.num_features == split.num_features else None
    shape = split.shape
    if shape is None or len(shape) != 3 or shape[0] != layer.channels:
        return None

    def check_images(rows: Any) -> None:
        import torch

        images = torch.from_numpy(np.asarray(rows)).reshape(-1, *shape)
        for some in torch.split(images, _IMAGES):
            layer.check(some)

    return check_images


def _two_samples(data: Dataset) -> Dataset:
    """The first sample, and the first one of another class."""
    from qiskit_kd.data import Dataset

    rows = [0, int(np.argmax(data.labels != data.labels[0]))]
    return Dataset(data.features[rows], data.labels[rows], data.num_classes, data.name, data.shape)


def _refuse(rule: str, problems: list[str]) -> None:
    if problems:
        raise ConfigError("\n  ".join([rule, *dict.fromkeys(problems)]))
