# SPDX-License-Identifier: Apache-2.0
"""Which candidate of a variant counts: chosen by the validation split alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qiskit_kd.experiment.config import ExperimentConfig
from qiskit_kd.experiment.schema import Label, is_teacher, teacher_row

__all__ = ["Row", "choose"]

Row = Mapping[str, Any]


def choose(candidates: Sequence[Row], config: ExperimentConfig) -> list[Row]:
    """Of each student, variant and seed of one point the row of the candidate validation prefers.

    `over_seeds`: the candidate with the best mean over the seeds that all candidates have
    finished. `per_seed`: each seed for itself. Ties go to the smaller validation loss, then to the
    candidate listed first.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in candidates:
        groups.setdefault((row["student"], row["variant"]), []).append(row)
    chosen: list[Row] = []
    for student, variant in _order(config):
        listed = [{}] if is_teacher(student) else config.candidates(student, variant)
        found: dict[tuple[Label, ...], dict[int, Row]] = {}
        for row in groups.get((student, variant), ()):
            own = tuple(row["options"][name] for name in listed[0])
            found.setdefault(own, {})[row["seed"]] = row
        ranked = [key for item in listed if (key := tuple(item.values())) in found]
        for seed in config.seeds:
            shared = [s for s in config.seeds if all(s in found[key] for key in ranked)]
            judged = [seed] if config.selection == "per_seed" else shared
            best = max(
                ranked,
                key=lambda key: _merit([found[key].get(s) for s in judged], config),
                default=None,
            )
            if best is not None and seed in found[best]:
                chosen.append(found[best][seed])
    return chosen


def _merit(rows: Sequence[Row | None], config: ExperimentConfig) -> tuple[float, float]:
    known = [row["validation"] for row in rows if row is not None]
    if not known:
        return (-math.inf, -math.inf)
    accuracy = float(np.mean([v["accuracy"] for v in known]))
    losses = [math.inf if v["nll"] is None else v["nll"] for v in known]
    loss = -float(np.mean(losses))
    return (accuracy, loss) if config.metric == "accuracy" else (loss, accuracy)


def _order(config: ExperimentConfig) -> list[tuple[str, str]]:
    teachers = [(teacher_row(name), config.baseline) for name in config.teachers]
    return teachers + [(s, v) for s in config.students for v in config.variants_of(s)]
