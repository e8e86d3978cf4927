# SPDX-License-Identifier: Apache-2.0
"""What an experiment will cost on a quantum processor, before anything is sent.

Every kind of task is run dry (see `dry_run`), its circuits are compiled for the device, and its
calls are priced by the device's own delay and the circuits' own length: as the experiment asks for
it, and with other gradient rules, with and without tiling, and as stock networks would do it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import ConfigError
from qiskit_kd.execution.backends import Backend, list_backends, load_backend
from qiskit_kd.execution.runtime.consent import budget_of
from qiskit_kd.execution.runtime.cost import (
    FREE_SECONDS,
    STOCK_SHOTS,
    Cost,
    cost_of_call,
    stock_cost,
    total,
)
from qiskit_kd.execution.runtime.dispatch import PER_MINUTE
from qiskit_kd.experiment.dry_run import Asked, DryRuns, opened_dry, shape
from qiskit_kd.experiment.fitting import Place
from qiskit_kd.experiment.plan import plan
from qiskit_kd.experiment.planner import Task

if TYPE_CHECKING:
    from qiskit_kd.circuits.model import CircuitModel
    from qiskit_kd.experiment.config import ExperimentConfig

__all__ = ["Choice", "Estimate", "Kind", "Site", "estimate"]

KIND = "runtime"
DEFAULT_SHOTS = 1024


@dataclass(frozen=True)
class Site:
    """A device that the experiment uses, and the longest of its circuits there.

    Args:
        backend: Name of the backend.
        device: Name of the device.
        shots: Shots per circuit, where the experiment does not say otherwise.
        gradient: Its gradient rule.
        perturbations: Its directions of SPSA.
        tiles: Copies of the circuit that run side by side.
        fitting: Copies that would fit.
        rep_delay: Seconds before each execution.
        duration: Seconds of a circuit.
        calibrated: ISO date of its calibration, or None if unknown.
        usd_per_second: Price of a second, or None if the backend's entry does not state it.
        budget_seconds: What the entry allows, or None.
        cost: What the experiment costs there.
        device_seconds: What it costs on the device, through all entries that lead there together:
            a budget is that of a device.
        numbers: Every number of shots that the experiment asks for there, ascending.
    """

    backend: str
    device: str
    shots: int
    gradient: str
    perturbations: int
    tiles: int
    fitting: int
    rep_delay: float
    duration: float
    calibrated: str | None
    usd_per_second: float | None
    budget_seconds: float | None
    cost: Cost
    device_seconds: float | None = None
    numbers: tuple[int, ...] = ()

    @property
    def whole(self) -> float:
        """Seconds that count against its budget."""
        return self.cost.seconds if self.device_seconds is None else self.device_seconds


@dataclass(frozen=True)
class Kind:
    """Tasks that cost the same: one student, one variant.

    Args:
        student: Name of the student.
        variant: Name of the variant.
        where: What the points of its axes have in common.
        tasks: How many there are, of all seeds and candidates.
        each: What each of them costs.
    """

    student: str
    variant: str
    where: str
    tasks: int
    each: Cost

    @property
    def cost(self) -> Cost:
        """What all of them cost."""
        return self.each * self.tasks


@dataclass(frozen=True)
class Choice:
    """The whole experiment with another gradient rule or tiling.

    Args:
        gradient: Rule of every gradient.
        tiled: Whether several copies of a circuit run side by side.
        cost: What that costs.
    """

    gradient: str
    tiled: bool
    cost: Cost


@dataclass(frozen=True)
class Estimate:
    """What an experiment will cost.

    Args:
        name: Name of the experiment.
        sites: The devices it uses.
        kinds: Its tasks that run circuits there, like ones together.
        choices: What it would cost with each gradient rule, with and without tiling.
        stock: What stock networks with parameter shift would cost, with as many shots.
        stock_default: The same with the number of shots that IBM's sampler takes by itself.
        may_end_early: Whether some training may end before its last epoch and cost less.
    """

    name: str
    sites: tuple[Site, ...]
    kinds: tuple[Kind, ...]
    choices: tuple[Choice, ...]
    stock: Cost
    stock_default: Cost
    may_end_early: bool

    @property
    def cost(self) -> Cost:
        """What the experiment costs as it stands."""
        return total(kind.cost for kind in self.kinds)

    @property
    def minutes(self) -> float:
        """How long it takes at least to send its jobs, at the pace that is kept on a device."""
        jobs: Counter[str] = Counter()
        for site in self.sites:
            jobs[site.device] += site.cost.jobs
        return max(jobs.values(), default=0) / PER_MINUTE

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON and records."""
        return {
            "experiment": self.name,
            "sites": [asdict(site) for site in self.sites],
            "kinds": [
                {"student": kind.student, "variant": kind.variant, "where": kind.where,
                 "tasks": kind.tasks, "each": kind.each.as_dict(), **kind.cost.as_dict()}
                for kind in self.kinds
            ],
            "total": self.cost.as_dict(),
            "choices": [
                {"gradient": choice.gradient, "tiled": choice.tiled, **choice.cost.as_dict()}
                for choice in self.choices
            ],
            "stock": {"same_shots": self.stock.as_dict(),
                      f"{STOCK_SHOTS}_shots": self.stock_default.as_dict()},
            "free_seconds": FREE_SECONDS,
            "minutes": self.minutes,
            "may_end_early": self.may_end_early,
        }  # fmt: skip


def estimate(
    config: ExperimentConfig, backend: str | None = None, *,
    tasks: Sequence[Task] | None = None, compared: bool = True,
) -> Estimate:  # fmt: skip
    """Price an experiment; nothing is sent.

    Args:
        config: The experiment.
        backend: Name of a backend of kind `runtime` that takes the place of those the experiment
            uses; where it uses none, of the backend that its students are trained on.
        tasks: Its plan, where there is one already.
        compared: Whether to price other gradient rules, tilings and stock networks as well.

    Raises:
        ConfigError: If no device is used, `backend` is none, or no circuit runs there.
        UnknownNameError: If there is no such backend.
        DeviceError: If a circuit does not fit the device.
        AccountError: If the device cannot be opened.
    """
    other = None if backend is None else _device_backend(backend)
    tasks = plan(config, opened=opened_dry) if tasks is None else tasks
    students = [task for task in tasks if task.role == "student"]
    homes = {task.spec["backend"]["name"] for task in students}
    uses = any(_uses_device(task.spec) for task in students)

    def chosen(named: Backend) -> Backend:
        replaced = named.kind == KIND if uses else named.name in homes
        return other if other is not None and replaced else named

    if other is None and not uses:
        raise ConfigError(
            "an estimate is for circuits on a device",
            got=f"an experiment on {', '.join(map(repr, sorted(homes)))}",
            expected=_known_devices(), remedy="Name one with --backend NAME.",
        )  # fmt: skip
    return _Pricing(config, tasks, chosen).estimate(compared=compared)


def _device_backend(name: str) -> Backend:
    found = load_backend(name)
    if found.kind != KIND:
        raise ConfigError(
            "an estimate is for a device", got=f"{name!r} of kind {found.kind!r}",
            expected=_known_devices(),
        )  # fmt: skip
    return found


def _known_devices() -> str:
    names = [name for name, entry in list_backends().items() if entry.kind == KIND]
    listed = ", ".join(names) or "none in the backend file yet"
    return f"a backend of kind {KIND!r}: {listed}"


def _uses_device(part: object) -> bool:
    """Whether somewhere in a spec there is the entry of a device."""
    if isinstance(part, Mapping):
        return part.get("kind") == KIND or any(map(_uses_device, part.values()))
    return isinstance(part, list | tuple) and any(map(_uses_device, part))


class _Pricing:
    """Prices the tasks of one experiment."""

    def __init__(
        self, config: ExperimentConfig, tasks: Sequence[Task], chosen: Callable[[Backend], Backend]
    ) -> None:
        self._config = config
        self._students = [task for task in tasks if task.role == "student"]
        self._runs = DryRuns(tasks, chosen)
        self._places: dict[tuple[Backend, CircuitModel], Place] = {}

    def estimate(self, *, compared: bool) -> Estimate:
        """See `estimate`."""
        everything: Counter[Asked] = Counter()
        groups: dict[tuple[str, str, str, str], list[Task]] = {}
        for task in self._students:
            key = (task.student, task.variant, task.where, shape(task.spec))
            groups.setdefault(key, []).append(task)
        kinds = []
        for (student, variant, where, _), tasks in groups.items():
            asked = self._paid(tasks[0])
            if asked:
                each = total(self._cost(it) * times for it, times in asked.items())
                kinds.append(Kind(student, variant, where, len(tasks), each))
                for it, times in asked.items():
                    everything[it] += times * len(tasks)
        if not kinds:
            raise ConfigError(
                "an estimate is for circuits on a device", got="an experiment without circuits",
                expected="a quantum student",
            )  # fmt: skip
        longest = sorted(self._places.values(), key=lambda place: place.alone.tariff.duration)
        sites = {_site_of(place): place for place in longest}
        spent = {
            key: total(
                self._cost(it) * times
                for it, times in everything.items()
                if _site_of(self._place(it)) == key
            )
            for key in sites
        }
        numbers: dict[tuple[str, str], set[int]] = {key: set() for key in sites}
        for it in everything:
            numbers[_site_of(self._place(it))].add(_shots(it))
        together = dict.fromkeys((place.device.name for place in longest), 0.0)
        for site, place in sites.items():
            together[place.device.name] += spent[site].seconds
        choices = tuple(
            Choice(rule, tiled, self._sum(everything, gradient=rule, tiled=tiled))
            for rule in ("spsa", "shift") * compared
            for tiled in (False, True)
        )
        stock = everything if compared else {}
        return Estimate(
            self._config.name, tuple(
                _site(place, spent[key], together[place.device.name], numbers[key])
                for key, place in sites.items()
            ),
            tuple(kinds), choices, self._stock(stock, None), self._stock(stock, STOCK_SHOTS),
            any(_may_end_early(task.spec) for task in self._students),
        )  # fmt: skip

    def _paid(self, task: Task) -> Counter[Asked]:
        """The calls of a task that run on a device."""
        asked = self._runs.asked(task)
        return Counter({it: n for it, n in asked.items() if it.backend.kind == KIND})

    def _sum(self, asked: Counter[Asked], *, gradient: str, tiled: bool) -> Cost:
        return total(
            self._cost(it, gradient=gradient, tiled=tiled) * times for it, times in asked.items()
        )

    def _cost(
        self, asked: Asked, *, gradient: str | None = None, tiled: bool | None = None
    ) -> Cost:  # fmt: skip
        place = self._place(asked)
        fit = place.fit(tiled)
        return cost_of_call(
            asked.call, place.expansion, fit.tariff, shots=_shots(asked),
            gradient=gradient or asked.gradient,
            perturbations=asked.backend.options.perturbations, tiles=fit.tiles,
        )  # fmt: skip

    def _stock(self, asked: Mapping[Asked, int], shots: int | None) -> Cost:
        found = []
        for it, times in asked.items():
            place = self._place(it)
            number = _shots(it) if shots is None else shots
            tariff = place.alone.tariff
            found.append(stock_cost(it.call, place.expansion, tariff, shots=number) * times)
        return total(found)

    def _place(self, asked: Asked) -> Place:
        key = (asked.backend, asked.model)
        if key not in self._places:
            self._places[key] = Place(asked.backend, asked.model)
        return self._places[key]


def _shots(asked: Asked) -> int:
    """A device always draws shots: a thousand odd where nobody says how many, as `make_engine`."""
    return asked.shots or DEFAULT_SHOTS


def _may_end_early(spec: Mapping[str, Any]) -> bool:
    stages = [spec, *([spec["fine_tune"]] if "fine_tune" in spec else [])]
    return any(stage["training"]["patience"] is not None for stage in stages)


def _site_of(place: Place) -> tuple[str, str]:
    """What tells sites apart: one name may mean several devices, at several points of the axes."""
    return place.backend.name, place.device.name


def _site(place: Place, cost: Cost, device_seconds: float, numbers: Iterable[int]) -> Site:
    options, here = place.options, place.fit(None)
    gradient = "shift" if options.gradient == "shift" else "spsa"
    return Site(
        place.backend.name, place.device.name, options.shots or DEFAULT_SHOTS, gradient,
        options.perturbations, here.tiles, place.several.tiles, here.tariff.rep_delay,
        here.tariff.duration, place.device.calibrated, options.usd_per_second,
        budget_of(options), cost, device_seconds, tuple(sorted(numbers)),
    )  # fmt: skip
