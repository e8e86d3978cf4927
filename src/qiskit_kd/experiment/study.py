# SPDX-License-Identifier: Apache-2.0
"""`Study`: the five-line way in. `Study.load("c2q-digits").run("runs/digits").verdict`."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from qiskit_kd.errors import StorageError
from qiskit_kd.experiment.config import ExperimentConfig
from qiskit_kd.experiment.loading import find_experiment, load
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

        Raises:
            ConfigError: Listing every fault of the configuration.
            StorageError: For a folder without a readable study.
        """
        folder = Path(experiment)
        if folder.is_dir():
            with Store(folder) as store:
                facts = store.description()
            if "config" not in facts:
                raise StorageError(
                    f"{folder / FILE} has no configuration", got="a study that never started",
                    remedy="Run the experiment again with the same --out.",
                )  # fmt: skip
            config = ExperimentConfig.model_validate(facts["config"])
            return cls(config, command=facts.get("command", ""), folder=folder)
        path = find_experiment(experiment)
        overrides = list(overrides)
        words = ["qkd run", str(experiment), *overrides]
        words += [] if preset is None else [f"--preset {preset}"]
        words += [] if seeds is None else [f"--seeds {seeds}"]
        config = load(path, overrides, preset=preset, seeds=seeds)
        return cls(config, command=" ".join(words))

    def tasks(self) -> list[Task]:
        """The plan: teachers first, then every student, variant, seed and temperature."""
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
            store.describe(
                config=self.config.resolved(), command=self.command, environment=environment(),
                plan=[task.describe() for task in tasks],
            )  # fmt: skip
            self.folder = folder
            self.summary = run(
                tasks, store, executor=executor, workers=workers, pool=pool, watch=watch
            )
        return self.result()

    def _seems_done(self, folder: Path) -> bool:
        """Whether the last run had this configuration and finished: then no workers are started."""
        if not (folder / FILE).is_file():
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
        return StudyResult(
            name=self.config.name,
            config=facts["config"],
            candidates=tuple(rows[key] for key in keys if key in rows),
            failures={key: failures[key] for key in keys if key in failures and key not in rows},
            missing=sum(key not in rows for key in keys),
            command=facts.get("command", ""),
            environment=facts.get("environment", {}),
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per student, variant and seed, at the chosen temperature."""
        return [dict(row) for row in self.result().rows]

    def table(self) -> list[dict[str, Any]]:
        """Mean test metrics by student and variant."""
        return self.result().table

    def comparisons(self) -> list[dict[str, Any]]:
        """Paired gains with intervals and verdicts."""
        return self.result().comparisons
