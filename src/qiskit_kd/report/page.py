# SPDX-License-Identifier: Apache-2.0
"""A study's report: the HTML page with its files, and the table in the terminal.

Everything shown is made of the rows by the sections, and handed to one of two renderers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qiskit_kd.report.sections  # noqa: F401  each registers itself
from qiskit_kd.errors import DataError, StorageError
from qiskit_kd.files import csv_text, write_atomically
from qiskit_kd.report import html, text
from qiskit_kd.report.document import written
from qiskit_kd.report.frame import Frame, Result, Row
from qiskit_kd.report.sections.cost import COLUMNS, job_lines
from qiskit_kd.report.style import told_apart

_LABELS = ("student", "variant", "seed")
_COUNTS = ("live_parameters", "effective_parameters")


def write(result: Result | str | Path, out: str | Path | None = None) -> Path:
    """Write `report.html`, `rows.csv` and `figures/*.svg` into the folder `out`.

    Where rows have them, also `shots.csv`, `backends.csv` and `circuits.csv`.

    Args:
        result: A study, finished or not, or the folder of one.
        out: The folder; made if missing. Where a folder was given, that one by default.

    Returns:
        The path of `report.html`.

    Raises:
        StorageError: If the folder cannot be written, or holds no study.
        DataError: If the study has no finished row.
    """
    if isinstance(result, str | Path):
        from qiskit_kd.experiment import Study

        out = result if out is None else out
        result = Study.load(Path(result)).result()
    folder = Path("." if out is None else out)
    page, drawings = render(result)
    files = {f"figures/{name}.svg": document for name, document in drawings.items()}
    files |= {"rows.csv": rows_csv(result), **parts_csv(Frame(result)), "report.html": page}
    try:
        for name, content in files.items():
            write_atomically(folder / name, content.encode())
    except StorageError as error:
        raise StorageError(
            "the report could not be written",
            got=f"{error.__cause__} for {folder}",
            expected="a folder with room that may be written to",
            remedy="The study's rows are safe; write the report again with `qkd report`.",
        ) from error
    return folder / "report.html"


def render(result: Result) -> tuple[str, dict[str, str]]:
    """The page's HTML and its figures as SVG documents by name, without touching the disk.

    Raises:
        DataError: If the study has no finished row.
    """
    if not result.rows:
        raise DataError(
            "a report is about finished rows",
            got="a study without any",
            remedy="Run the study first: `qkd run` says what failed.",
        )
    frame = Frame(result)
    with told_apart(frame.networks, frame.variants_of()):
        return html.page(result.name, title(frame), written(frame), list(parts_csv(frame)))


def terminal_table(result: Result, *, metric: str = "accuracy") -> str:
    """Verdict, then tables of at most 100 columns: accuracies, and paired gains with intervals.

    Numbers are per cent with the half width of their 95 % interval; gains are points.

    Args:
        result: A finished study.
        metric: A key of the rows' `test`.
    """
    frame = Frame(result, metric=metric)
    with told_apart(frame.networks, frame.variants_of()):
        found = written(frame, terminal=True)
        return text.rendered(block for one in found for block in one.brief)


def title(frame: Frame) -> str:
    """The line above the verdict."""
    seeds, students = len(frame.seeds), len(frame.students)
    settings = "" if frame.grid is None else f" · {len(frame.points)} settings"
    return (
        f"{frame.config.get('title') or frame.result.name} · {students} "
        f"student{'s' * (students != 1)}{settings} · {seeds} "
        f"{'paired seeds' if seeds > 1 else 'seed'}"
    )


def rows_csv(result: Result) -> str:
    """All rows as CSV: one line per run, with the test and validation metrics."""
    # Not every network has every metric: a teacher has no divergence from itself.
    metrics = dict.fromkeys(
        (part, key) for part in ("test", "validation") for row in result.rows for key in row[part]
    )
    lines: list[list[Any]] = []
    for row in result.rows:
        options = row.get("options") or {}
        counts = [row["parameters"], *(options.get(key, row["parameters"]) for key in _COUNTS)]
        numbers = [row[part].get(key) for part, key in metrics]
        lines.append([*_labels(row), *counts, *numbers])
    names = [f"{part}_{key}" for part, key in metrics]
    axes = result.rows[0].get("point", {})
    return csv_text([*axes, *_LABELS, "parameters", *_COUNTS, *names], lines)


def parts_csv(frame: Frame) -> dict[str, str]:
    """What rows hold lists of, as CSV by file name: one line per entry of one run."""
    axes = list(frame.rows[0].get("point", {}))
    found = {}
    for part in ("shots", "backends", "circuits"):
        entries = [(row, entry) for row in frame.rows for entry in row.get(part) or ()]
        if entries:
            keys = list(dict.fromkeys(key for _, entry in entries for key in entry))
            lines = [[*_labels(row), *(entry.get(key) for key in keys)] for row, entry in entries]
            # An axis may be called like what an entry says of itself: both have a `device`.
            names = [f"{part}_{key}" if key in axes else key for key in keys]
            found[f"{part}.csv"] = csv_text([*axes, *_LABELS, *names], lines)
    jobs = job_lines(frame)
    return found | ({"jobs.csv": csv_text(COLUMNS, jobs)} if jobs else {})


def _labels(row: Row) -> list[Any]:
    return [*row.get("point", {}).values(), *(row[label] for label in _LABELS)]
