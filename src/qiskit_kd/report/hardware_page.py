# SPDX-License-Identifier: Apache-2.0
"""What a page says of devices: fine-tuning there, readout errors, layout, usage and jobs."""

from __future__ import annotations

from typing import Any

from qiskit_kd.files import csv_text
from qiskit_kd.report.fine_tuning import plot_fine_tuning
from qiskit_kd.report.grid import Grid, at
from qiskit_kd.report.hardware_words import (
    WORDS,
    bill,
    ends,
    lead,
    mitigation,
    named,
    number,
    teaching,
    test_sentence,
    tuning_tag,
)
from qiskit_kd.report.jobs_table import (
    COLUMNS,
    against_estimate,
    job_lines,
    job_table,
    usage_table,
)
from qiskit_kd.report.layouts import layouts
from qiskit_kd.report.palette import look, readable
from qiskit_kd.report.sections import Album
from qiskit_kd.report.summary import Result
from qiskit_kd.report.tuning import FEWEST, Change, Corrected, Tuned, corrected, kept_epochs, tuned

__all__ = ["first_words", "hardware", "jobs_csv", "used_devices"]


def first_words(result: Result) -> dict[str, str]:
    """The head of a page whose study fine-tunes on a device; empty for any other study."""
    first = lead(result)
    if not first:
        return {}
    tag, said = tuning_tag(result), teaching(result)
    return {
        "tag": tag, "mood": tag.replace(" ", "-"), "verdict": first,
        "answer": test_sentence(result) if said else "",
        "placebo": said or test_sentence(result), "others": "",
    }  # fmt: skip


def hardware(result: Result, grid: Grid | None, album: Album) -> dict[str, Any] | None:
    """Fine-tuning and readout errors; None where rows have neither."""
    found, undone = tuned(result), corrected(result)
    if not found and not undone:
        return None
    return {
        "tuned": [_tuned(item, grid) for item in found], "few": _few(found),
        "raw": any(item.raw for item in found),
        "curves": [_curves(result, item, grid, album) for item in found],
        "corrected": [_corrected(item, grid) for item in undone],
        "heads": _heads(undone), "mitigation": mitigation(undone),
    }  # fmt: skip


def used_devices(result: Result) -> dict[str, Any] | None:
    """Device, layout, usage and jobs; None for a study that used no device."""
    usage = usage_table(result)
    if usage is None:
        return None
    return {
        "bill": bill(result), "estimate": against_estimate(result), "usage": usage,
        "jobs": job_table(result), "layouts": layouts(result),
    }  # fmt: skip


def jobs_csv(result: Result) -> dict[str, str]:
    """`jobs.csv` where the journal has jobs: ids whole, times in UTC."""
    lines = job_lines(result)
    return {"jobs.csv": csv_text(COLUMNS, lines)} if lines else {}


def _few(found: list[Tuned]) -> str:
    """That a verdict needs more seeds, where some of these have too few."""
    least = min((c.n for item in found for c in item.changes), default=FEWEST)
    if least >= FEWEST:
        return ""
    return f"A verdict needs {FEWEST} paired seeds; with {least} nothing here is confirmed."


def _tuned(item: Tuned, grid: Grid | None) -> dict[str, Any]:
    return {
        "student": readable(item.student), "variant": look(item.variant).label,
        "control": look(item.control).label, "where": _where(item, grid),
        "lines": [
            {"name": f"{change.part} {named(change)}{what}", **_cell(change)}
            for changes, what in ((item.changes, ""), (item.raw, ", raw"))
            for change in changes
        ],
    }  # fmt: skip


def _corrected(item: Corrected, grid: Grid | None) -> dict[str, Any]:
    return {
        "student": readable(item.student), "variant": look(item.variant).label,
        "where": _where(item, grid), "n": max(change.n for change in item.changes),
        "cells": [_cell(change) for change in item.changes],
    }  # fmt: skip


def _cell(change: Change) -> dict[str, Any]:
    return {
        "before": _level(change, change.before), "after": _level(change, change.after),
        "change": number(change, change.mean), "range": ends(change), "n": change.n,
        "verdict": change.verdict, "word": WORDS[change.verdict],
    }  # fmt: skip


def _level(change: Change, value: float) -> str:
    return f"{100 * value:.1f} %" if change.metric == "accuracy" else f"{value:.3f}"


def _heads(found: list[Corrected]) -> list[str]:
    longest = max((item.changes for item in found), key=len, default=())
    return [
        f"{change.part} {named(change)}, {'%' if change.metric == 'accuracy' else 'nats'}"
        for change in longest
    ]


def _where(item: Tuned | Corrected, grid: Grid | None) -> str:
    return grid.say(item.point) if grid is not None else ""


def _curves(result: Result, item: Tuned, grid: Grid | None, album: Album) -> dict[str, str]:
    rows = [
        row for row in at(result.rows, item.point)
        if (row["student"], row["variant"]) == (item.student, item.variant)
    ]  # fmt: skip
    where, label = _where(item, grid), look(item.variant).label
    kept = kept_epochs(result.rows, item)
    caption = "A line per seed, whose number stands at its end. "
    if kept:
        start = sum(epoch == 0 for epoch in kept)
        caption += (
            "Epoch 0 is the start, as it was trained under the noise model; a filled point is the "
            f"epoch whose weights were kept: the start at {start} of {len(kept)} seeds."
        )
    else:
        caption += "Which epoch was kept, the start among them, these rows do not tell."
    name = f"fine-tuning-{item.student}-{item.variant}" + f"-{len(album.documents)}" * bool(where)
    return album.add(
        name,
        plot_fine_tuning(rows, student=item.student, variant=item.variant),
        f"Validation loss of the {readable(item.student)} student over the epochs of fine-tuning, "
        f"{label}{f', at {where}' if where else ''}, a line per seed.",
        title=f"Validation loss during fine-tuning{f', {where}' if where else ''}",
        caption=caption,
    )
