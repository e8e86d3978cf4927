# SPDX-License-Identifier: Apache-2.0
"""What an experiment will cost on a quantum processor, before anything is sent.

Every kind of task is run dry (see `dry_run`), its circuits are compiled for the device, and its
calls are priced by the device's own delay and the circuits' own length: as the experiment asks for
it, and with other gradient rules, with and without tiling, and as stock networks would do it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import ConfigError, DeviceError
from qiskit_kd.execution.backends import Backend, list_backends, load_backend
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.measurement import bases, measured
from qiskit_kd.execution.runtime.consent import budget_of
from qiskit_kd.execution.runtime.cost import (
    FREE_SECONDS,
    PER_MINUTE,
    STOCK_SHOTS,
    Cost,
    Tariff,
    circuit_duration,
    cost_of_call,
    stock_cost,
    total,
)
from qiskit_kd.experiment.devices import DEVICE, Asked, UsageLog
from qiskit_kd.experiment.dry_run import DryRuns, shape
from qiskit_kd.experiment.plan import Task, plan

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from qiskit_kd.circuits.model import CircuitModel
    from qiskit_kd.execution.schema import RuntimeOptions
    from qiskit_kd.experiment.config import ExperimentConfig

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
                {
                    "student": kind.student,
                    "variant": kind.variant,
                    "where": kind.where,
                    "tasks": kind.tasks,
                    "each": kind.each.as_dict(),
                    **kind.cost.as_dict(),
                }
                for kind in self.kinds
            ],
            "total": self.cost.as_dict(),
            "choices": [
                {"gradient": choice.gradient, "tiled": choice.tiled, **choice.cost.as_dict()}
                for choice in self.choices
            ],
            "stock": {
                "same_shots": self.stock.as_dict(),
                f"{STOCK_SHOTS}_shots": self.stock_default.as_dict(),
            },
            "free_seconds": FREE_SECONDS,
            "minutes": self.minutes,
            "may_end_early": self.may_end_early,
        }


def estimate(
    config: ExperimentConfig,
    backend: str | None = None,
    *,
    tasks: Sequence[Task] | None = None,
    compared: bool = True,
) -> Estimate:
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
    tasks = plan(config, opened=UsageLog(dry=True)) if tasks is None else tasks
    students = [task for task in tasks if task.role == "student"]
    homes = {task.spec["backend"]["name"] for task in students}
    uses = any(_uses_device(task.spec) for task in students)

    def chosen(named: Backend) -> Backend:
        replaced = named.kind == DEVICE if uses else named.name in homes
        return other if other is not None and replaced else named

    if other is None and not uses:
        raise ConfigError(
            "an estimate is for circuits on a device",
            got=f"an experiment on {', '.join(map(repr, sorted(homes)))}",
            expected=_known_devices(),
            remedy="Name one with --backend NAME.",
        )
    return _Pricing(config, tasks, chosen).estimate(compared=compared)


def _device_backend(name: str) -> Backend:
    found = load_backend(name)
    if found.kind != DEVICE:
        raise ConfigError(
            "an estimate is for a device",
            got=f"{name!r} of kind {found.kind!r}",
            expected=_known_devices(),
        )
    return found


def _known_devices() -> str:
    names = [name for name, entry in list_backends().items() if entry.kind == DEVICE]
    listed = ", ".join(names) or "none in the backend file yet"
    return f"a backend of kind {DEVICE!r}: {listed}"


def _uses_device(part: object) -> bool:
    """Whether somewhere in a spec there is the entry of a device."""
    if isinstance(part, Mapping):
        return part.get("kind") == DEVICE or any(map(_uses_device, part.values()))
    return isinstance(part, list | tuple) and any(map(_uses_device, part))


class _Pricing:
    """Prices the tasks of one experiment."""

    def __init__(
        self, config: ExperimentConfig, tasks: Sequence[Task], chosen: Callable[[Backend], Backend]
    ) -> None:
        self._config = config
        self._students = [task for task in tasks if task.role == "student"]
        self._runs = DryRuns(tasks, chosen)
        self._circuits: dict[tuple[Backend, CircuitModel], DeviceCircuit] = {}

    def estimate(self, *, compared: bool) -> Estimate:
        """See `estimate`."""
        everything: Counter[Asked] = Counter()
        groups: dict[tuple[str, str, str, str], list[Task]] = {}
        for task in self._students:
            key = (task.student, task.variant, task.where, shape(task.spec))
            groups.setdefault(key, []).append(task)
        kinds = []
        for (student, variant, where, _), tasks in groups.items():
            asked = self._runs.asked(tasks[0])
            paid = Counter({it: n for it, n in asked.items() if it.backend.kind == DEVICE})
            if paid:
                kinds.append(Kind(student, variant, where, len(tasks), self._cost(paid)))
                for it, times in paid.items():
                    everything[it] += times * len(tasks)
        if not kinds:
            raise ConfigError(
                "an estimate is for circuits on a device",
                got="an experiment without circuits",
                expected="a quantum student",
            )
        choices = tuple(
            Choice(rule, tiled, self._cost(everything, gradient=rule, tiled=tiled))
            for rule in ("spsa", "shift") * compared
            for tiled in (False, True)
        )
        specs = [task.spec for task in self._students]
        stages: list[Any] = [*specs, *(spec["fine_tune"] for spec in specs if "fine_tune" in spec)]
        stock = everything if compared else Counter()
        return Estimate(
            name=self._config.name,
            sites=self._sites(everything),
            kinds=tuple(kinds),
            choices=choices,
            stock=self._stock(stock, None),
            stock_default=self._stock(stock, STOCK_SHOTS),
            may_end_early=any(s["training"]["patience"] is not None for s in stages),
        )

    def _sites(self, everything: Counter[Asked]) -> tuple[Site, ...]:
        """The devices, by name of backend and device: one name may mean several devices."""
        circuits = {self._circuit(it): None for it in everything}
        sites: dict[tuple[str, str], DeviceCircuit] = {}
        for circuit in sorted(circuits, key=lambda circuit: circuit.alone.tariff.duration):
            sites[circuit.site] = circuit
        asked: dict[tuple[str, str], Counter[Asked]] = {}
        for it, times in everything.items():
            asked.setdefault(self._circuit(it).site, Counter())[it] = times
        costs = {site: self._cost(mine) for site, mine in asked.items()}
        found = []
        for (backend, device), longest in sites.items():
            cost = costs[backend, device]
            options, here = longest.options, longest.fit(None)
            site = Site(
                backend=backend,
                device=device,
                shots=options.shots or DEFAULT_SHOTS,
                gradient="shift" if options.gradient == "shift" else "spsa",
                perturbations=options.perturbations,
                tiles=here.tiles,
                fitting=longest.several.tiles,
                rep_delay=here.tariff.rep_delay,
                duration=here.tariff.duration,
                calibrated=longest.device.calibrated,
                usd_per_second=options.usd_per_second,
                budget_seconds=budget_of(options),
                cost=cost,
                device_seconds=sum(c.seconds for (_, name), c in costs.items() if name == device),
                numbers=tuple(sorted({_shots(it) for it in asked[backend, device]})),
            )
            found.append(site)
        return tuple(found)

    def _cost(
        self, asked: Counter[Asked], *, gradient: str | None = None, tiled: bool | None = None
    ) -> Cost:
        """What calls cost, as they are asked for or with another gradient rule and tiling."""
        costs = []
        for it, times in asked.items():
            circuit = self._circuit(it)
            fit = circuit.fit(tiled)
            each = cost_of_call(
                it.call,
                circuit.expansion,
                fit.tariff,
                shots=_shots(it),
                gradient=gradient or it.gradient,
                perturbations=it.backend.options.perturbations,
                tiles=fit.tiles,
            )
            costs.append(each * times)
        return total(costs)

    def _stock(self, asked: Counter[Asked], shots: int | None) -> Cost:
        found = []
        for it, times in asked.items():
            circuit, number = self._circuit(it), shots or _shots(it)
            tariff = circuit.alone.tariff
            found.append(stock_cost(it.call, circuit.expansion, tariff, shots=number) * times)
        return total(found)

    def _circuit(self, asked: Asked) -> DeviceCircuit:
        key = (asked.backend, asked.model)
        if key not in self._circuits:
            self._circuits[key] = DeviceCircuit(asked.backend, asked.model)
        return self._circuits[key]


def _shots(asked: Asked) -> int:
    """A device always draws shots: a thousand odd where nobody says how many, as `make_engine`."""
    return asked.shots or DEFAULT_SHOTS


@dataclass(frozen=True)
class Fit:
    """So many copies of a circuit side by side.

    Args:
        tiles: How many.
        tariff: What one execution of all of them costs.
    """

    tiles: int
    tariff: Tariff


class DeviceCircuit:
    """One circuit on one device.

    Args:
        backend: A backend of kind `runtime`.
        model: The circuit.

    Attributes:
        options: The entry of the backend.
        device: The device.
        expansion: The circuit, expanded.

    Raises:
        DeviceError: If the circuit does not fit.
        AccountError: If the device cannot be opened.
    """

    def __init__(self, backend: Backend, model: CircuitModel) -> None:
        from qiskit_kd.execution.runtime.device import open_device

        self.backend = backend
        self.expansion = Expansion(model)
        self.options: RuntimeOptions = backend.options
        self.device = open_device(self.options)
        self.device.check_width(model.num_qubits)
        self._circuits = [measured(self.expansion.circuit, one) for one in bases(model.readout)]

    @property
    def site(self) -> tuple[str, str]:
        """Name of the backend and of the device."""
        return self.backend.name, self.device.name

    def fit(self, tiled: bool | None) -> Fit:
        """Several copies or one; with None as the entry says."""
        if tiled is None:
            tiled = self.options.tiles != 1
        return self.several if tiled else self.alone

    @cached_property
    def alone(self) -> Fit:
        """One copy."""
        manager = self.backend.pass_manager()
        return self._fit([(1, manager.run(circuit)) for circuit in self._circuits])

    @cached_property
    def several(self) -> Fit:
        """As many copies as the entry asks for; as fit, where it asks for one."""
        from qiskit_kd.execution.runtime.tiling import tile_circuit

        asked = self.options.tiles
        try:
            found = [
                tile_circuit(
                    circuit,
                    self.device.target,
                    tiles="auto" if asked == 1 else asked,
                    optimization_level=self.options.optimization_level,
                    seed=self.options.seed_transpiler,
                )
                for circuit in self._circuits
            ]
        except DeviceError:
            if asked != 1:
                raise
            return self.alone  # nobody asked for copies: they need qubits in a row
        return self._fit([(len(tiling.tiles), tiling.circuit) for tiling in found])

    def _fit(self, circuits: list[tuple[int, QuantumCircuit]]) -> Fit:
        """Of all bases of the readout: their mean length, and the copies that all of them have."""
        target, options = self.device.target, self.options
        lengths = [circuit_duration(circuit, target) for _, circuit in circuits]
        delay = self.device.rep_delay if options.rep_delay is None else options.rep_delay
        tariff = Tariff(sum(lengths) / len(lengths), delay, options.usd_per_second)
        return Fit(min(tiles for tiles, _ in circuits), tariff)
