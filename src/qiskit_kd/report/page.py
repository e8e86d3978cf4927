# SPDX-License-Identifier: Apache-2.0
"""The one self-contained HTML page of a study: verdict, table, figures, settings, provenance.

Everything shown is computed here from the rows and handed to one jinja2 template; the page holds
its figures as SVG and its style, runs no script and asks the network for nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qiskit_kd.errors import DataError, StorageError
from qiskit_kd.files import csv_text, write_atomically
from qiskit_kd.report import extras, facts, hardware_page, noise_page, sections, survey, survey_page
from qiskit_kd.report.grid import Grid, grid_of, shown
from qiskit_kd.report.portraits import portraits, split_of
from qiskit_kd.report.sentences import (
    chance_sentence,
    interval_sentence,
    labels_sentence,
    placebo_sentence,
    question_sentence,
    setup_sentence,
    verdict_sentence,
)
from qiskit_kd.report.summary import Result, Row, alone, headline, names_apart
from qiskit_kd.report.svg import color_variables
from qiskit_kd.report.tally import blocks, looks_of

__all__ = ["parts_csv", "render", "rows_csv", "write"]

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
    files |= {"rows.csv": rows_csv(result), **parts_csv(result), "report.html": page}
    try:
        for name, text in files.items():
            write_atomically(folder / name, text.encode())
    except StorageError as error:
        raise StorageError(
            "the report could not be written", got=f"{error.__cause__} for {folder}",
            expected="a folder with room that may be written to",
            remedy="The study's rows are safe; write the report again with `qkd report`.",
        ) from error  # fmt: skip
    return folder / "report.html"


@names_apart
def render(result: Result) -> tuple[str, dict[str, str]]:
    """The page's HTML and its figures as SVG documents by name, without touching the disk.

    Raises:
        DataError: If the study has no finished row.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if not result.rows:
        raise DataError(
            "a report is about finished rows",
            got="a study without any",
            remedy="Run the study first: `qkd run` says what failed.",
        )
    album = sections.Album()
    split = split_of(result.config)
    sitters = portraits(result.config, split)
    choices = facts.options(result.rows, result.config)
    settings = dict(facts.flat(facts.settings(result.config, with_students=not sitters)))
    light, dark = color_variables()
    grid = grid_of(result)
    environment = Environment(
        loader=PackageLoader("qiskit_kd.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    page = environment.get_template("report.html.j2").render(
        name=result.name,
        title=facts.title(result),
        version=_version(),
        light=light,
        dark=dark,
        warning=facts.unfinished(result),
        question="" if hardware_page.first_words(result) else question_sentence(result, split),
        labels=labels_sentence(result) if grid is None else "",
        setup=setup_sentence(result, split),
        many=len({row["seed"] for row in result.rows}) > 1,
        **(_plain(result, album) if grid is None else _survey(result, grid, album)),
        hardware=hardware_page.hardware(result, grid, album),
        machines=noise_page.machines(result, grid),
        devices=hardware_page.used_devices(result),
        circuits=sections.circuits(sitters, album),
        costs=[s for s in sitters if s.cost],
        cost_keys=list(dict.fromkeys(key for s in sitters for key in s.cost)),
        settings=list(settings.items()),
        sitters=sections.sitters(sitters),
        choices=choices,
        choice_keys=list(dict.fromkeys(k for item in choices for k in item["picked"])),
        command=result.command,
        provenance=facts.provenance(result, split),
        runs=facts.runs(result.rows),
        kl=any("kl" in row["test"] for row in result.rows),
        files=list(parts_csv(result)),
        config=json.dumps(result.config, indent=2, default=str, ensure_ascii=False),
    )
    return page, album.documents


def _plain(result: Result, album: sections.Album) -> dict[str, Any]:
    """What the page says and draws of a study without axes."""
    lead, table = headline(result), facts.table(result)
    shown = sum(bool(line["range"]) for group in table for line in group["lines"])
    tag = "" if lead is None else lead.verdict
    groups = sections.groups(result, album)
    looks = looks_of(result)
    more = [
        extras.feature_maps(result, album), extras.robustness(result, looks, album),
        noise_page.shots(result, None, album),
    ]  # fmt: skip
    return {
        "tag": tag, "mood": tag.replace(" ", "-"), "verdict": verdict_sentence(result),
        "placebo": placebo_sentence(result), "others": facts.others(result), "findings": [],
        "chance": f"{interval_sentence(result)} {chance_sentence(shown)}".strip(),
        "table": table, "blocks": [], "columns": [],
        "main": sections.main(result, album), "axis": "", "axes": [],
        "answer": "", "holds": None, "beyond": False, "over": alone(result),
        "groups": groups + [group for group in more if group and group["figures"]],
        **hardware_page.first_words(result),
    }  # fmt: skip


def _survey(result: Result, grid: Grid, album: sections.Album) -> dict[str, Any]:
    """What the page says and draws of a study with axes."""
    looks, found = looks_of(result), survey.findings(result, grid)
    tag, mood = survey.mood(result, grid)
    return {
        "tag": tag, "mood": mood, "verdict": survey.first_line(result, grid),
        "placebo": survey.caution(result, grid), "others": "",
        "findings": found, "beyond": any(item.beyond for item in found),
        "answer": noise_page.answer(result, grid), "holds": noise_page.holds(result, grid),
        "over": alone(result),
        "chance": f"{interval_sentence(result)} {survey.chance(result, grid)}".strip(),
        "table": [],
        "blocks": blocks(result, grid, looks), "columns": [shown(v) for v in grid.values],
        "main": survey_page.main(result, grid, looks, album), "axis": grid.titles[grid.x],
        "axes": list(grid.titles.items()),
        "groups": survey_page.groups(result, grid, looks, album),
    }  # fmt: skip


def rows_csv(result: Result) -> str:
    """All rows as CSV: one line per run, with the test and validation metrics."""
    lines: list[list[Any]] = []
    axes = list(result.rows[0].get("point", {}))
    # Not every network has every metric: a teacher has no divergence from itself.
    metrics = [
        (part, key)
        for part in ("test", "validation")
        for key in dict.fromkeys(key for row in result.rows for key in row[part])
    ]
    names = [f"{part}_{key}" for part, key in metrics]
    for row in result.rows:
        numbers = [row[part].get(key) for part, key in metrics]
        options = row.get("options") or {}
        counts = [row["parameters"], *(options.get(key, row["parameters"]) for key in _COUNTS)]
        lines.append([*_labels(row), *counts, *numbers])
    return csv_text([*axes, "student", "variant", "seed", "parameters", *_COUNTS, *names], lines)


def parts_csv(result: Result) -> dict[str, str]:
    """What rows hold lists of, as CSV by file name: one line per entry of one run."""
    axes = list(result.rows[0].get("point", {}))
    found = {}
    for part in ("shots", "backends", "circuits"):
        entries = [(row, entry) for row in result.rows for entry in row.get(part) or ()]
        if entries:
            keys = list(dict.fromkeys(key for _, entry in entries for key in entry))
            lines = [[*_labels(row), *(entry.get(key) for key in keys)] for row, entry in entries]
            # An axis may be called like what an entry says of itself: both have a `device`.
            names = [f"{part}_{key}" if key in axes else key for key in keys]
            found[f"{part}.csv"] = csv_text([*axes, "student", "variant", "seed", *names], lines)
    return found | hardware_page.jobs_csv(result)


def _labels(row: Row) -> list[Any]:
    return [*row.get("point", {}).values(), row["student"], row["variant"], row["seed"]]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("qiskit-kd")
    except PackageNotFoundError:
        return "unknown"
