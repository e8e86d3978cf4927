# SPDX-License-Identifier: Apache-2.0
"""`Study`: the five-line way in. `Study.load("c2q-digits").run("runs/digits").verdict`."""

from __future__ import annotations

import multiprocessing
import os
import shlex
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from qiskit_kd.errors import ConfigError, StorageError
from qiskit_kd.experiment.config import ExperimentConfig
from qiskit_kd.experiment.loading import backend_setting, find_experiment, load, shipped
from qiskit_kd.experiment.plan import Task, plan
from qiskit_kd.experiment.result import StudyResult, environment
from qiskit_kd.experiment.runner import Summary, Watcher, discard, run, warm_pool
from qiskit_kd.experiment.store import FILE, Store

__all__ = ["Study"]


class Study:
    """An experiment, its tasks, and the folder its rows are kept in.

    Args:
        config: The checked configuration.
        command: What reproduces the study, for its report.
        folder: Where its rows are, if it has been run.
    """

    def __init__(
        self, config: ExperimentConfig, *, command: str = "", folder: str | Path | None = None
    ) -> None:
        self.config = config
        self.command = command
        self.folder = None if folder is None else Path(folder)
        self.summary: Summary | None = None
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
        folder, overrides = Path(experiment), list(overrides)
        if folder.is_dir() and not (isinstance(experiment, str) and experiment in shipped()):
            if overrides or preset is not None or seeds is not None:
                raise ConfigError(
                    "the study in a folder takes no settings", got=f"settings for {folder}",
                    expected="the YAML file, or a shipped name",
                    remedy=f"Name the YAML to run it with other settings, or `qkd report {folder}` "
                    "to see what was run.",
                )  # fmt: skip
            with Store(folder) as store:
                facts = store.description()
            if "config" not in facts:
                raise StorageError(
                    f"{folder / FILE} has no configuration", got="a study that never started",
                    remedy="Run the experiment again with the same --out.",
                )  # fmt: skip
            config = ExperimentConfig.model_validate(facts["config"])
            return cls(config, command=facts.get("command", ""), folder=folder)
        config = load(find_experiment(experiment), overrides, preset=preset, seeds=seeds)
        words = ["qkd", "run", str(experiment), *overrides]
        words += [] if preset is None else ["--preset", preset]
        words += [] if seeds is None else ["--seeds", str(seeds)]
        study = cls(config, command=backend_setting() + shlex.join(words))
        study._names_no_folder = True
        return study

    def tasks(self) -> list[Task]:
        """The plan: teachers first, then every student, variant, point, seed and temperature."""
        if self._tasks is None:
            self._tasks = plan(self.config)
        return self._tasks

    def run(
        self,
        out: str | Path,
        *,
        workers: int | None = None,
        executor: Executor | None = None,
        watch: Watcher | None = None,
    ) -> StudyResult:
        """Do what is missing in `out`; safe to call again, after an interruption too.

        Args:
            out: The study's folder.
            workers: Worker processes, by default one per core.
            executor: Any other `concurrent.futures.Executor`.
            watch: Called as `watch(done, failed, total, label)` after every task.
        """
        folder = Path(out)
        with ExitStack() as stack:
            pool = None
            if executor is None and not self._seems_done(folder):
                before = set(multiprocessing.active_children())
                pool = warm_pool(workers or os.cpu_count() or 1)
                stack.callback(discard, pool, before)
            tasks = self.tasks()
            store = stack.enter_context(Store(folder, write=True))
            self._remember(store, tasks, folder)
            self.folder = folder
            self.summary = run(
                tasks, store, executor=executor, workers=workers, pool=pool, watch=watch
            )
        return self.result()

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
            config=self.config.resolved(), command=self.command + out, environments=known,
            plan=[task.describe() for task in tasks],
        )  # fmt: skip

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
                "a study has results after it was run", got="one that was not",
                remedy="Call run(out), or Study.load(folder).",
            )  # fmt: skip
        with Store(self.folder) as store:
            facts, rows, failures = store.description(), store.rows(), store.failures()
        keys = [item["key"] for item in facts["plan"]]
        points = ExperimentConfig.model_validate(facts["config"]).points()
        environments = facts.get("environments") or [facts.get("environment", {})]
        return StudyResult(
            name=self.config.name,
            config=facts["config"],
            candidates=tuple(
                {**rows[item["key"]], "point": points[place]}
                for item in facts["plan"]
                if item["key"] in rows
                for place in item["points"]
            ),
            failures={key: failures[key] for key in keys if key in failures and key not in rows},
            missing=sum(key not in rows for key in keys),
            command=facts.get("command", ""),
            environment=environments[0],
            environments=tuple(environments),
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per point, student, variant and seed, at the chosen temperature."""
        return [dict(row) for row in self.result().rows]

    def table(self) -> list[dict[str, Any]]:
        """Mean test metrics by point, student and variant."""
        return self.result().table

    def comparisons(self) -> list[dict[str, Any]]:
        """Paired gains with intervals and verdicts."""
        return self.result().comparisons
