# SPDX-License-Identifier: Apache-2.0
"""A student of a finished study as plain Qiskit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qiskit_kd.errors import ConfigError, StorageError
from qiskit_kd.experiment.runner import student_file
from qiskit_kd.experiment.store import Store
from qiskit_kd.experiment.task import trained_network
from qiskit_kd.nn import export
from qiskit_kd.nn.layer import AnyBackend
from qiskit_kd.nn.modules import FullyQuantumStudent

_KINDS = ("fully_quantum", "separable", "hybrid")
"""Students over one circuit, which can leave."""


def export_study(
    folder: str | Path,
    to: str | Path,
    *,
    student: str | None = None,
    variant: str | None = None,
    seed: int | None = None,
    backend: AnyBackend | None = None,
) -> dict[str, Any]:
    """Export the student of a study that did best on validation samples.

    Args:
        folder: Folder that `qkd run` wrote.
        to: Folder for the export.
        student: The student's name; None for any over one circuit.
        variant: The variant's name; None for any that is no placebo.
        seed: One of the study's seeds; None for any.
        backend: As of `qiskit_kd.export`.

    Returns:
        What was chosen: `student`, `variant`, `seed`, validation and test metrics, `folder`.

    Raises:
        ConfigError: If no finished row is of that kind, or its student cannot leave.
        StorageError: If the study cannot be read, or its weights were not kept.
    """
    store = Store(folder)
    try:
        rows, specs = store.rows("student"), store.specs()
    finally:
        store.close()

    def fits(row: Mapping[str, Any]) -> bool:
        spec = specs[row["key"]]
        placebo = any(term["placebo"] != "none" for term in spec["terms"])
        return (
            (spec["kind"] in _KINDS if student is None else row["student"] == student)
            and (not placebo if variant is None else row["variant"] == variant)
            and seed in (None, row["seed"])
        )

    found = [row for row in rows.values() if row["key"] in specs and fits(row)]
    if not found:
        done = sorted({f"{row['student']}, {row['variant']}" for row in rows.values()})
        raise ConfigError(
            "a student that leaves has a finished row",
            got=f"student {student or 'any'}, variant {variant or 'any'}, "
            f"seed {'any' if seed is None else seed}",
            expected=f"one of: {'; '.join(done)}" if done else "a study with finished rows",
            remedy=f"See `qkd report {folder}`, or finish it with `qkd run`.",
        )
    best = max(found, key=lambda row: (row["validation"]["accuracy"], -row["validation"]["nll"]))
    spec, path = specs[best["key"]], student_file(Path(folder), best["key"])
    if not path.is_file():
        raise StorageError(
            "the weights of a row are kept beside it",
            got=f"no {path}",
            remedy="The study was run by an earlier version: run it anew in another folder.",
        )
    told = {"student": best["student"], "variant": best["variant"], "seed": best["seed"]}
    data, options = spec["data"], spec["data"]["options"]
    about = {
        "study": spec["experiment"],
        **told,
        "data": f"{data['kind']}, {data['options']}, fingerprint {data['fingerprint'][:16]}",
        "teachers": ", ".join(one["kind"] for one in spec["teachers"].values()) or "none",
        **{f"{part} accuracy": f"{best[part]['accuracy']:.4f}" for part in ("validation", "test")},
        "chosen by": f"validation accuracy, of {len(found)} rows: one row is no verdict",
    }
    network = trained_network(spec, path.read_bytes())
    if isinstance(network, FullyQuantumStudent):  # that of the shots it was trained with
        network.smoothing = float(best["options"]["smoothing"])
    where = export(network, to, backend=backend, labels=options.get("classes"), about=about)
    metrics = {part: best[part] for part in ("validation", "test")}
    return {**told, **metrics, "folder": str(where)}
