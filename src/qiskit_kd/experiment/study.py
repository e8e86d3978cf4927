# SPDX-License-Identifier: Apache-2.0
"""`Study`: the five-line way in. `Study.load("c2q-digits").run("runs/digits").verdict`."""

from __future__ import annotations

import multiprocessing
import os
import shlex
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import ConfigError, QiskitKDError, StorageError
from qiskit_kd.experiment.config import ExperimentConfig
from qiskit_kd.experiment.devices import JOURNAL
from qiskit_kd.experiment.loading import backend_setting, find_experiment, load, shipped
from qiskit_kd.experiment.plan import Task, plan
from qiskit_kd.experiment.result import StudyResult, environment
from qiskit_kd.experiment.runner import Summary, Watcher, discard, run, warm_pool
from qiskit_kd.experiment.spending import (
    Announce,
    Outlook,
    check_allowed,
    check_budgets,
    devices_of,
    entry_place,
    few_shots_of,
    is_local,
    jobs_of,
    limits_of,
    opened_at_home,
    spent_of,
    stopped,
)
from qiskit_kd.experiment.store import FILE, Store
from qiskit_kd.experiment.worker import leave_import
from qiskit_kd.registry import plugin_files
from qiskit_kd.values import listed, named_path, shown, whole

if TYPE_CHECKING:
    from qiskit_kd.execution.backends import Backend


class Study:
    """An experiment, its tasks, and the folder its rows are kept in.

    Args:
        config: The checked configuration.
        command: What reproduces the study, for its report.
        folder: Where its rows are, if it has been run.

    Raises:
        ConfigError: If `config` is no configuration.
    """

    def __init__(
        self, config: ExperimentConfig, *, command: str = "", folder: str | Path | None = None
    ) -> None:
        if not isinstance(config, ExperimentConfig):
            raise ConfigError(
                "a study is made of a checked configuration",
                got=shown(config),
                expected="an ExperimentConfig",
                remedy="Study.load(...) takes a YAML file, a shipped name or a folder.",
            )
        self.config = config
        self.command = command
        self.folder = None if folder is None else Path(folder)
        self.summary: Summary | None = None
        self._file: Path | None = None
        self._names_no_folder = False  # whether the command still lacks its --out
        self._tasks: list[Task] | None = None

    @classmethod
    def load(
        cls,
        experiment: str | Path,
        overrides: Iterable[str] = (),
        *,
        preset: str | None = None,
        seeds: int | None = None,
    ) -> Study:
        """From a YAML file, a shipped name, or the folder of a study that has been run.

        A folder cannot take overrides, a preset or seeds: its study is what was run.

        Raises:
            ConfigError: Listing every fault of the configuration; for a folder with settings.
            StorageError: For a folder without a readable study.
        """
        folder = named_path(
            experiment, "an experiment is named by its file, folder or shipped name"
        )
        overrides = listed(overrides, "overrides are a list of texts", expected="['key=value']")
        if not all(isinstance(each, str) for each in overrides):
            raise ConfigError("an override reads key=value", got=shown(overrides), expected="texts")
        if not isinstance(preset, str | None):
            raise ConfigError("a preset has a name", got=shown(preset), expected="text, or None")
        if seeds is not None:
            seeds = whole(seeds, "seeds is a number of seeds", least=1)
        if folder.is_dir() and not (isinstance(experiment, str) and experiment in shipped()):
            if overrides or preset is not None or seeds is not None:
                raise ConfigError(
                    "the study in a folder takes no settings",
                    got=f"settings for {folder}",
                    expected="the YAML file, or a shipped name",
                    remedy=f"Name the YAML to run it with other settings, or `qkd report {folder}` "
                    "to see what was run.",
                )
            with Store(folder) as store:
                facts = store.description()
            if "config" not in facts:
                raise StorageError(
                    f"{folder / FILE} has no configuration",
                    got="a study that never started",
                    remedy="Run the experiment again with the same --out.",
                )
            config = ExperimentConfig.model_validate(facts["config"])
            return cls(config, command=facts.get("command", ""), folder=folder)
        file = find_experiment(experiment)
        config = load(file, overrides, preset=preset, seeds=seeds)
        words = ["qkd", "run", str(experiment), *overrides]
        words += [] if preset is None else ["--preset", preset]
        words += [] if seeds is None else ["--seeds", str(seeds)]
        words += [word for path in plugin_files() for word in ("--plugin", str(path))]
        study = cls(config, command=backend_setting() + shlex.join(words))
        study._file, study._names_no_folder = file, True
        return study

    def tasks(self) -> list[Task]:
        """The plan: teachers first, then every student, variant, point, seed and candidate."""
        if self._tasks is None:
            from qiskit_kd.execution.mitigation import few_shots_known

            with few_shots_known():  # `run` says so, once
                self._tasks = plan(self.config, opened=opened_at_home)
        return self._tasks

    def run(
        self,
        out: str | Path,
        *,
        workers: int | None = None,
        executor: Executor | None = None,
        watch: Watcher | None = None,
        announce: Announce | None = None,
    ) -> StudyResult:
        """Do what is missing in `out`; safe to call again, after an interruption too.

        Args:
            out: The study's folder.
            workers: Worker processes, by default one per core; one where circuits run on a device
                that is elsewhere, whose free plan takes three pending jobs.
            executor: Any other `concurrent.futures.Executor`.
            watch: Called as `watch(done, failed, total, label)` after every task.
            announce: Told what the study will cost on devices, before anything is sent; without it
                nobody computes that.

        Raises:
            BudgetError: If a device has no budget, or none that was given outside the experiment's
                files, before it is contacted; or the budget was used up; finished rows are kept.
            AccountError: If the service does not accept the account.
            QuotaError: If the account has no time left.
            TransientError: If the service does not answer.
            UncertainJobError: If nobody can say whether a job was sent.
        """
        leave_import()
        folder = Path(out)
        devices = devices_of(self.config)
        check_budgets(devices)
        if workers is None:
            workers = (os.cpu_count() or 1) if all(map(is_local, devices)) else 1
        idle = self._seems_done(folder)
        if not idle:
            check_allowed(self.config)
        expected: dict[str, Any] | None = None
        with ExitStack() as stack:
            pool = None
            if executor is None and not idle:
                before = set(multiprocessing.active_children())
                pool = warm_pool(workers)
                stack.callback(discard, pool, before)
            tasks = self.tasks()
            if not idle:
                if (shots := few_shots_of(tasks)) is not None:
                    from qiskit_kd.execution.mitigation import warn_of_few_shots

                    warn_of_few_shots(shots)  # for all networks, once
                if announce is not None and devices:
                    expected = self._announce(announce, devices, folder, workers)
            store = stack.enter_context(Store(folder, write=True))
            self._remember(store, tasks, folder)
            if not idle:
                store.describe(estimate=expected)  # for reports, beside what is then counted
            self.folder = folder
            self.summary = run(
                tasks,
                store,
                executor=executor,
                workers=workers,
                pool=pool,
                watch=watch,
                where=self._where,
            )
        result = self.result()  # no worker is left that may still send a job
        if self.summary is not None and (error := self.summary.stopped) is not None:
            missing, total = result.missing, len(tasks)
            raise stopped(
                error, folder=folder, missing=missing, total=total, spent=result.spent
            ) from error
        return result

    def _where(self, text: str) -> str:
        """Where the entry of a device stands; "" where that can no longer be told."""
        with suppress(QiskitKDError):
            return entry_place(self._file, self.config, text)
        return ""

    def _announce(
        self, announce: Announce, devices: list[Backend], folder: Path, workers: int
    ) -> dict[str, Any] | None:
        """Have it said what the study will cost; nothing where no circuit runs on a device.

        Returns:
            The estimate as plain data.
        """
        from qiskit_kd.experiment.cost import estimate

        try:
            found = estimate(self.config, tasks=self.tasks(), compared=False)
        except ConfigError:  # students without circuits: the plan has found everything else
            return None
        spent = {name: sums["seconds"] or 0.0 for name, sums in spent_of(jobs_of(folder)).items()}
        announce(Outlook.of(found, devices, spent, workers))
        return found.as_dict()

    def _remember(self, store: Store, tasks: list[Task], folder: Path) -> None:
        """Keep what is run, how, and where; environments of earlier rows stay."""
        facts = store.description()
        known = facts.get("environments") or [
            facts[name] for name in ("environment",) if name in facts
        ]
        here = environment()
        idle = store.keys().issuperset(task.key for task in tasks)
        if here not in known and not (known and idle):
            known = [*known, here]
        out = f" {shlex.join(['--out', str(folder)])}" if self._names_no_folder else ""
        store.describe(
            config=self.config.resolved(),
            command=self.command + out,
            environments=known,
            plan=[task.describe() for task in tasks],
        )
        store.keep_specs((task.key, task.spec, task.hashed) for task in tasks)

    def _seems_done(self, folder: Path) -> bool:
        """Whether the last run had this configuration and finished: then no workers are started."""
        if not Store.begun(folder):
            return False
        with Store(folder) as store:
            facts, keys = store.description(), store.keys()
        listed = [item["key"] for item in facts.get("plan", [])]
        same = facts.get("config") == self.config.resolved()
        return same and bool(listed) and keys.issuperset(listed)

    def result(self) -> StudyResult:
        """What the study's folder holds for the current plan.

        Raises:
            StorageError: If it has not been run, or its file is damaged.
        """
        if self.folder is None:
            raise StorageError(
                "a study has results after it was run",
                got="one that was not",
                remedy="Call run(out), or Study.load(folder).",
            )
        folder = self.folder
        with Store(folder) as store:
            facts, rows, failures = store.description(), store.rows(), store.failures()
            specs = store.specs()
        if "plan" not in facts:
            raise StorageError(
                f"{folder / FILE} has no plan",
                got="a study that never started",
                remedy="Run the experiment again with the same --out.",
            )
        keys = [item["key"] for item in facts["plan"]]
        points = ExperimentConfig.model_validate(facts["config"]).points()
        environments = facts.get("environments") or [facts.get("environment", {})]
        devices: list[Backend] = []
        if (folder / JOURNAL).is_file():
            with suppress(QiskitKDError):  # as far as the backend file of today knows them
                devices = devices_of(self.config)
        jobs = jobs_of(folder, limits_of(devices, "usd_per_second"))
        return StudyResult(
            name=self.config.name,
            config=facts["config"],
            candidates=tuple(
                {**rows[item["key"]], "point": points[place]}
                for item in facts["plan"]
                if item["key"] in rows
                for place in item["points"]
            ),
            specs={key: specs[key] for key in keys if key in specs},
            failures={key: failures[key] for key in keys if key in failures and key not in rows},
            missing=sum(key not in rows for key in keys),
            command=facts.get("command", ""),
            environment=environments[0],
            environments=tuple(environments),
            jobs=tuple(jobs),
            spent=spent_of(jobs, limits_of(devices, "budget_seconds")),
            estimate=facts.get("estimate"),
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per point, student, variant and seed, of the chosen candidate."""
        return [dict(row) for row in self.result().rows]

    def table(self) -> list[dict[str, Any]]:
        """Mean test metrics by point, student and variant."""
        return self.result().table

    def comparisons(self) -> list[dict[str, Any]]:
        """Paired gains with intervals and verdicts."""
        return self.result().comparisons
