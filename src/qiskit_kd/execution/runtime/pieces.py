# SPDX-License-Identifier: Apache-2.0
"""PUBs too large for one job, cut into several and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qiskit.primitives import BitArray, DataBin, PubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub

from qiskit_kd.errors import ConfigError
from qiskit_kd.execution.runtime.cost import MAX_EXECUTIONS, cost_of_pubs, split_rows

__all__ = ["Pub", "cut", "joined"]

Pub = Any
"""A coerced `SamplerPub` or `EstimatorPub`; Qiskit's own classes have no types."""

Parts = list[list[tuple[int, slice]]]


def cut(pubs: Sequence[Pub]) -> tuple[list[tuple[Pub, ...]], Parts]:
    """Divide PUBs among as few jobs as the limit of a job allows.

    Args:
        pubs: Coerced PUBs, which name their shots or their precision.

    Returns:
        The PUBs of each job, and which rows of which PUB each of them holds.

    Raises:
        ConfigError: If a PUB is too large for a job and cannot be divided.
    """
    sizes = [pub.parameter_values.size for pub in pubs]
    costs = [cost_of_pubs([pub], target=None).executions for pub in pubs]
    if sum(costs) <= MAX_EXECUTIONS:
        whole = [(place, slice(0, size)) for place, size in enumerate(sizes)]
        return [tuple(pubs)], [whole]
    parts = split_rows(sizes, max(c // max(1, s) for c, s in zip(costs, sizes, strict=True)))
    return [tuple(_rows(pubs[place], rows) for place, rows in job) for job in parts], parts


def joined(
    pubs: Sequence[Pub], answers: Sequence[Sequence[PubResult]], parts: Parts
) -> list[PubResult]:
    """The results of the PUBs that `cut` divided, with the `job_id` of each row of such a one."""
    if len(parts) == 1:
        return list(answers[0])
    pieces: list[list[PubResult]] = [[] for _ in pubs]
    for job, results in zip(parts, answers, strict=True):
        for (place, _), result in zip(job, results, strict=True):
            pieces[place].append(result)
    return [_join(pub, piece) for pub, piece in zip(pubs, pieces, strict=True)]


def _rows(pub: Pub, rows: slice) -> Pub:
    size = pub.parameter_values.size
    if rows == slice(0, size):
        return pub
    values = pub.parameter_values.ravel()[rows]
    if isinstance(pub, SamplerPub):
        return SamplerPub(pub.circuit, values, shots=pub.shots)
    # Observables must be the same for every row: they lie along axes in front of the rows.
    if pub.parameter_values.ndim != 1 or pub.observables.shape[-1:] not in ((), (1,)):
        raise ConfigError(
            f"a job has at most {MAX_EXECUTIONS:,} executions, and rows of values are divided",
            got=f"observables of shape {pub.observables.shape} beside values of shape "
            f"{pub.parameter_values.shape}",
            expected="observables (K, 1) beside values (N,)", remedy="Divide the PUB by hand.",
        )  # fmt: skip
    return EstimatorPub(pub.circuit, pub.observables, values, precision=pub.precision)


def _join(pub: Pub, pieces: Sequence[PubResult]) -> PubResult:
    if len(pieces) == 1:
        return pieces[0]
    data: dict[str, Any] = {}
    for name in pieces[0].data:
        found = [piece.data[name] for piece in pieces]
        if isinstance(found[0], BitArray):
            data[name] = BitArray.concatenate(found).reshape(pub.shape)
        else:
            data[name] = np.concatenate(found, axis=-1)
    ids = [i for piece, count in zip(pieces, map(_count, pieces), strict=True)
           for i in [piece.metadata.get("job_id")] * count]  # fmt: skip
    return PubResult(DataBin(shape=pub.shape, **data), {**pieces[0].metadata, "job_id": ids})


def _count(piece: PubResult) -> int:
    return int(piece.data.shape[-1])
