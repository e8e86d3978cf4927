# SPDX-License-Identifier: Apache-2.0
"""What an experiment will cost on a quantum processor, before anything is sent.

Every kind of task is run dry, with engines that answer nothing; its circuits are compiled for the
device, and its calls are priced by the device's own delay and the circuits' own length: as the
experiment asks for it, and with other gradient rules, with and without tiling, and as stock
networks would do it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from qiskit_kd.errors import ConfigError, DeviceError
from qiskit_kd.execution.backends import Backend, list_backends, load_backend
from qiskit_kd.execution.compiled import circuit_duration
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.measurement import bases, measured
from qiskit_kd.execution.runtime.consent import budget_of
from qiskit_kd.execution.runtime.cost import (
    FREE_SECONDS,
    PER_MINUTE,
    STOCK_SHOTS,
    Cost,
    Tariff,
    cost_of_call,
    stock_cost,
    total,
)
from qiskit_kd.experiment.devices import DEVICE, Asked, UsageLog
from qiskit_kd.experiment.plan import Task, plan
from qiskit_kd.experiment.store import canonical
from qiskit_kd.experiment.task import build_network, run_task, split_of

if TYPE_CHECKING:
    from qiskit_kd.circuits.model import CircuitModel
    from qiskit_kd.execution.schema import RuntimeOptions
    from qiskit_kd.experiment.config import ExperimentConfig

DEFAULT_SHOTS = 1024
"""A device always draws shots: so many where nobody says how many, as an engine of it does."""


@dataclass(frozen=True)
class Site:
    """A device that the experiment uses, and the longest of its circuits there."""

    backend: str
    device: str
    shots: int
    """Shots per circuit, where the experiment does not say otherwise."""
    gradient: str
    perturbations: int
    tiles: int
    """Copies of the circuit that run side by side; `fitting` would."""
    fitting: int
    rep_delay: float
    """Seconds before each execution."""
    duration: float
    """Seconds of a circuit."""
    calibrated: str | None
    usd_per_second: float | None
    budget_seconds: float | None
    cost: Cost
    """What the experiment costs there."""
    device_seconds: float | None = None
    """What it costs on the device through all entries that lead there: a budget is a device's."""
    numbers: tuple[int, ...] = ()
    """Every number of shots that the experiment asks for there, ascending."""

    @property
    def whole(self) -> float:
        """Seconds that count against its budget."""
        return self.cost.seconds if self.device_seconds is None else self.device_seconds


@dataclass(frozen=True)
class Kind:
    """Tasks that cost the same: of one student and variant, where their points agree."""

    student: str
    variant: str
    where: str
    tasks: int
    """How many there are, of all seeds and candidates."""
    each: Cost

    @property
    def cost(self) -> Cost:
        """What all of them cost."""
        return self.each * self.tasks


@dataclass(frozen=True)
class Choice:
    """The whole experiment with another gradient rule, with or without copies side by side."""

    gradient: str
    tiled: bool
    cost: Cost


@dataclass(frozen=True)
class Estimate:
    """What an experiment will cost."""

    name: str
    sites: tuple[Site, ...]
    """The devices it uses."""
    kinds: tuple[Kind, ...]
    """Its tasks that run circuits there, like ones together."""
    choices: tuple[Choice, ...]
    stock: Cost
    """What stock networks with parameter shift would cost, with as many shots."""
    stock_default: Cost
    """The same with the number of shots that IBM's sampler takes by itself."""
    may_end_early: bool
    """Whether some training may end before its last epoch and cost less."""

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
            "kinds": [{**asdict(kind), **kind.cost.as_dict()} for kind in self.kinds],
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
    other = None if backend is None else load_backend(backend)
    if other is not None and other.kind != DEVICE:
        got = f"{backend!r} of kind {other.kind!r}"
        raise ConfigError("an estimate is for a device", got=got, expected=_known_devices())
    tasks = plan(config, opened=UsageLog(dry=True)) if tasks is None else tasks
    students = [task for task in tasks if task.role == "student"]
    homes = {task.spec["backend"]["name"] for task in students}
    uses = any(_uses_device(task.spec) for task in students)
    rule = "an estimate is for circuits on a device"
    if other is None and not uses:
        raise ConfigError(
            rule,
            got=f"an experiment on {', '.join(map(repr, sorted(homes)))}",
            expected=_known_devices(),
            remedy="Name one with --backend NAME.",
        )

    def chosen(named: Backend) -> Backend:
        replaced = named.kind == DEVICE if uses else named.name in homes
        return other if other is not None and replaced else named

    runs, made = DryRuns(tasks, chosen), lru_cache(maxsize=None)(DeviceCircuit)

    def cost(asked: Counter[Asked], **how: Any) -> Cost:
        return total(made(it.backend, it.model).cost(it, **how) * n for it, n in asked.items())

    def stock(shots: int | None) -> Cost:
        asked = everything.items() if compared else ()
        return total(made(it.backend, it.model).stock(it, shots) * n for it, n in asked)

    everything: Counter[Asked] = Counter()
    kinds: dict[tuple[str, ...], Kind] = {}
    for task in students:
        asked = runs.asked(task)
        paid = Counter({it: n for it, n in asked.items() if it.backend.kind == DEVICE})
        if paid:
            key = (task.student, task.variant, task.where, shape(task.spec))
            known = kinds.get(key) or Kind(*key[:3], 0, cost(paid))
            kinds[key] = replace(known, tasks=known.tasks + 1)
            for it, times in paid.items():
                everything[it] += times
    if not kinds:
        got = "an experiment without circuits"
        raise ConfigError(rule, got=got, expected="a quantum student")
    specs = [task.spec for task in students]
    stages = [*specs, *(spec["fine_tune"] for spec in specs if "fine_tune" in spec)]
    at: dict[tuple[str, str], Counter[Asked]] = {}  # one name may mean several devices
    for it, times in everything.items():
        at.setdefault(made(it.backend, it.model).site, Counter())[it] = times
    return Estimate(
        name=config.name,
        sites=_sites(
            list(dict.fromkeys(made(it.backend, it.model) for it in everything)),
            {site: cost(mine) for site, mine in at.items()},
            {site: tuple(sorted(set(map(_shots, mine)))) for site, mine in at.items()},
        ),
        kinds=tuple(kinds.values()),
        choices=tuple(
            Choice(rule, tiled, cost(everything, gradient=rule, tiled=tiled))
            for rule in ("spsa", "shift") * compared
            for tiled in (False, True)
        ),
        stock=stock(None),
        stock_default=stock(STOCK_SHOTS),
        may_end_early=any(stage["training"]["patience"] is not None for stage in stages),
    )


def _known_devices() -> str:
    names = [name for name, entry in list_backends().items() if entry.kind == DEVICE]
    return f"a backend of kind {DEVICE!r}: {', '.join(names) or 'none in the backend file yet'}"


def _uses_device(part: object) -> bool:
    """Whether somewhere in a spec there is the entry of a device."""
    if isinstance(part, Mapping):
        return part.get("kind") == DEVICE or any(map(_uses_device, part.values()))
    return isinstance(part, list | tuple) and any(map(_uses_device, part))


def _shots(asked: Asked) -> int:
    return asked.shots or DEFAULT_SHOTS


def _sites(
    circuits: list[DeviceCircuit],
    costs: Mapping[tuple[str, str], Cost],
    numbers: Mapping[tuple[str, str], tuple[int, ...]],
) -> tuple[Site, ...]:
    """The devices, by name of backend and device, and the longest circuit on each."""
    circuits.sort(key=lambda circuit: circuit.fit(tiled=False)[1].duration)
    found = []
    for site, longest in {circuit.site: circuit for circuit in circuits}.items():
        options = longest.options
        tiles, tariff = longest.fit()
        made = Site(
            *site,
            shots=options.shots or DEFAULT_SHOTS,
            gradient="shift" if options.gradient == "shift" else "spsa",
            perturbations=options.perturbations,
            tiles=tiles,
            fitting=longest.fit(tiled=True)[0],
            rep_delay=tariff.rep_delay,
            duration=tariff.duration,
            calibrated=longest.device.calibrated,
            usd_per_second=options.usd_per_second,
            budget_seconds=budget_of(options),
            cost=costs[site],
            device_seconds=sum(c.seconds for (_, name), c in costs.items() if name == site[1]),
            numbers=numbers[site],
        )
        found.append(made)
    return tuple(found)


class DeviceCircuit:
    """One circuit on one device, a backend of kind `runtime`.

    Raises:
        DeviceError: If the circuit does not fit.
        AccountError: If the device cannot be opened.
    """

    def __init__(self, backend: Backend, model: CircuitModel) -> None:
        from qiskit_kd.execution.runtime.device import open_device

        self.expansion = Expansion(model)
        self.options: RuntimeOptions = backend.options
        self.device = open_device(self.options)
        self.device.check_width(model.num_qubits)
        self.site = backend.name, self.device.name
        self._backend = backend
        self._circuits = [measured(self.expansion.circuit, one) for one in bases(model.readout)]
        self._fits: dict[bool, tuple[int, Tariff]] = {}

    def cost(self, asked: Asked, *, gradient: str | None = None, tiled: bool | None = None) -> Cost:
        """What a call of it costs, as it is asked for or with another gradient rule and tiling."""
        tiles, tariff = self.fit(tiled=tiled)
        return cost_of_call(
            asked.call,
            self.expansion,
            tariff,
            shots=_shots(asked),
            gradient=gradient or asked.gradient,
            perturbations=self.options.perturbations,
            tiles=tiles,
        )

    def stock(self, asked: Asked, shots: int | None) -> Cost:
        """What stock networks would cost for the same call, with so many or as many shots."""
        _, tariff = self.fit(tiled=False)
        return stock_cost(asked.call, self.expansion, tariff, shots=shots or _shots(asked))

    def fit(self, *, tiled: bool | None = None) -> tuple[int, Tariff]:
        """Copies side by side, and what one execution of them costs; None: as the entry says.

        Tiled, as many as the entry asks for; as fit, where it asks for one.
        """
        tiled = self.options.tiles != 1 if tiled is None else tiled
        if tiled not in self._fits:
            self._fits[tiled] = self._tiled() if tiled else self._alone()
        return self._fits[tiled]

    def _alone(self) -> tuple[int, Tariff]:
        manager = self._backend.pass_manager()
        return 1, self._tariff([manager.run(circuit) for circuit in self._circuits])

    def _tiled(self) -> tuple[int, Tariff]:
        from qiskit_kd.execution.runtime.tiling import tile_circuit

        asked, options = self.options.tiles, self.options
        try:
            found = [
                tile_circuit(
                    circuit,
                    self.device.target,
                    tiles="auto" if asked == 1 else asked,
                    optimization_level=options.optimization_level,
                    seed=options.seed_transpiler,
                )
                for circuit in self._circuits
            ]
        except DeviceError:
            if asked != 1:
                raise
            return self.fit(tiled=False)  # nobody asked for copies: they need qubits in a row
        tariff = self._tariff([tiling.circuit for tiling in found])
        return min(len(tiling.tiles) for tiling in found), tariff

    def _tariff(self, circuits: Sequence[Any]) -> Tariff:
        """Of all bases of the readout: their mean length."""
        lengths = [circuit_duration(circuit, self.device.target) for circuit in circuits]
        delay = self.options.rep_delay
        delay = self.device.rep_delay if delay is None else delay
        return Tariff(sum(lengths) / len(lengths), delay, self.options.usd_per_second)


# What a task of such a kind asks for

_OWN = ("data", "experiment", "seed", "teachers", "candidate", "terms", "variant")


class DryRuns:
    """Runs tasks without circuits, each kind of task once.

    Args:
        tasks: The plan, with the teachers of its students.
        choose: See `UsageLog`.
    """

    def __init__(
        self, tasks: Sequence[Task], choose: Callable[[Backend], Backend] = lambda it: it
    ) -> None:
        self._tasks = {task.key: task for task in tasks}
        self._log = UsageLog(dry=True, choose=choose)
        self._found: dict[str, Counter[Asked]] = {}

    def asked(self, task: Task) -> Counter[Asked]:
        """All calls of a task, and how often each is made.

        Training is taken to last for all its epochs, even where patience may end it earlier, and
        to take no steps that could lead anywhere: outputs mean nothing here.
        """
        key = shape(task.spec)
        if key not in self._found:
            endless = {"patience": None, "learning_rate": 1e-12}
            spec = {**task.spec, "training": {**task.spec["training"], **endless}}
            if "fine_tune" in spec:
                stage = spec["fine_tune"]
                spec["fine_tune"] = {**stage, "training": {**stage["training"], **endless}}
            with tempfile.TemporaryDirectory() as folder:
                teachers = {name: self._teacher(name, Path(folder)) for name in task.needs}
                run_task(spec, teachers=teachers, opened=self._log)
            self._found[key] = self._log.take()
        return self._found[key]

    def _teacher(self, key: str, folder: Path) -> str:
        """A file with the weights of a teacher that has learned nothing."""
        spec, file = self._tasks[key].spec, folder / f"{key}.safetensors"
        network = build_network(spec, split_of(spec), seed=0)
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
        return str(file)


def shape(spec: Mapping[str, Any]) -> str:
    """What the number and size of a task's calls depend on; equal for all seeds and candidates.

    Data sets make parts of the same size for every seed.
    """
    kept = {name: value for name, value in spec.items() if name not in _OWN}
    kept["training"] = {**kept["training"], "learning_rate": None}
    terms = [
        {**term, "weight": None, "options": {**term["options"], "temperature": None}}
        for term in spec["terms"]
    ]
    teachers = {n: {**one, "key": one["key"] is not None} for n, one in spec["teachers"].items()}
    return canonical([kept, terms, teachers, spec["data"]["kind"], spec["data"]["options"]])
