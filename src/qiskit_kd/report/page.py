# SPDX-License-Identifier: Apache-2.0
"""The one self-contained HTML page of a study: verdict, table, figures, settings, provenance.

Everything shown is computed here from the rows and handed to one jinja2 template; the page holds
its figures as SVG and its style, runs no script and asks the network for nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from qiskit_kd.errors import DataError, StorageError
from qiskit_kd.report import facts
from qiskit_kd.report.diagnostics import (
    plot_circuit,
    plot_curves,
    plot_distributions,
    plot_gradients,
)
from qiskit_kd.report.figures import plot_accuracy, plot_gains, plot_parameters
from qiskit_kd.report.palette import TEACHER, look, readable
from qiskit_kd.report.portraits import Portrait, portraits, split_of
from qiskit_kd.report.sentences import (
    chance_sentence,
    placebo_sentence,
    setup_sentence,
    verdict_sentence,
)
from qiskit_kd.report.summary import (
    Result,
    cells,
    gains,
    headline,
    points,
    roles,
    students_of,
    treatment,
    variants_of,
)
from qiskit_kd.report.svg import color_variables, inline, to_svg

__all__ = ["render", "rows_csv", "write"]


def write(result: Result | str | Path, out: str | Path | None = None) -> Path:
    """Write `report.html`, `rows.csv` and `figures/*.svg` into the folder `out`.

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
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for name, document in drawings.items():
            _put(folder / "figures" / f"{name}.svg", document)
        _put(folder / "rows.csv", rows_csv(result))
        _put(folder / "report.html", page)
    except OSError as error:
        raise StorageError(
            "the report could not be written", got=f"{error.strerror} for {folder}",
            expected="a folder with room that may be written to",
            remedy="The study's rows are safe; write the report again with `qkd report`.",
        ) from error  # fmt: skip
    return folder / "report.html"


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
    album = _Album()
    split = split_of(result.config)
    sitters = portraits(result.config, split)
    choices = facts.options(result.rows)
    settings = dict(facts.flat(facts.settings(result.config, with_students=not sitters)))
    table = facts.table(result)
    shown = sum(bool(line["range"]) for group in table for line in group["lines"])
    light, dark = color_variables()
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
        headline=headline(result),
        verdict=verdict_sentence(result),
        placebo=placebo_sentence(result),
        others=facts.others(result),
        warning=facts.unfinished(result),
        setup=setup_sentence(result, split),
        chance=chance_sentence(shown),
        many=len({row["seed"] for row in result.rows}) > 1,
        table=table,
        main=_main(result, album),
        groups=_groups(result, album),
        circuits=_circuits(sitters, album),
        costs=[s for s in sitters if s.cost],
        cost_keys=list(dict.fromkeys(key for s in sitters for key in s.cost)),
        settings=list(settings.items()),
        sitters=[(readable(s.student), facts.traits(s.facts)) for s in sitters],
        choices=choices,
        choice_keys=list(dict.fromkeys(k for item in choices for k in item["picked"])),
        command=result.command,
        provenance=facts.provenance(result, split),
        runs=facts.runs(result.rows),
        config=json.dumps(result.config, indent=2, default=str, ensure_ascii=False),
    )
    return page, album.documents


def rows_csv(result: Result) -> str:
    """All rows as CSV: one line per run, with the test and validation metrics."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = [f"{part}_{key}" for part in ("test", "validation") for key in result.rows[0][part]]
    writer.writerow(["student", "variant", "seed", "parameters", *names])
    for row in result.rows:
        numbers = [row[part].get(key) for part in ("test", "validation") for key in
                   result.rows[0][part]]  # fmt: skip
        writer.writerow([row["student"], row["variant"], row["seed"], row["parameters"], *numbers])
    return buffer.getvalue()


class _Album:
    """Collects figures: the stand-alone document and the element for the page."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}

    def add(
        self, name: str, figure: Figure, alt: str, *, title: str = "", caption: str = "",
        drawing: bool = False,
    ) -> dict[str, str]:  # fmt: skip
        document = to_svg(figure, name, outlines=drawing)
        self.documents[name] = document
        svg = inline(document, name, alt, themed=not drawing)
        return {"title": title, "svg": svg, "caption": caption}


def _main(result: Result, album: _Album) -> list[dict[str, str]]:
    baseline, _ = roles(result)
    rows = result.rows
    found = gains(rows, result.comparisons, baseline=baseline)
    many = len({row["seed"] for row in rows}) > 1
    accuracies = "; ".join(
        f"{readable(c.student)} {'' if c.student == TEACHER else look(c.variant).label + ' '}"
        f"{100 * c.mean:.1f} %"
        for c in cells(rows)
    )
    figures = []
    if found:
        said = "; ".join(
            f"{readable(g.student)} {look(g.variant).label} {points(g.mean)}" for g in found
        )
        figures.append(
            album.add(
                "gains",
                plot_gains(rows, result.comparisons, baseline=baseline),
                f"Paired gains in test accuracy over the student alone, in points: {said}.",
                title="Gain over the student alone, placebos beside it",
                caption=(
                    "Mean paired difference, its 95 % interval and, pale, every seed. "
                    if many
                    else "Difference of a single seed, which has no interval. "
                )
                + "A gain that a placebo reaches too does not come from the teacher.",
            )
        )
    figures.append(
        album.add(
            "accuracy",
            plot_accuracy(rows),
            f"Test accuracy: {accuracies}.",
            title="Accuracy of every student",
            caption="Bars: mean over seeds; whiskers: 95 % interval, cut at 0 and 100 %; points: "
            "single seeds."
            if many
            else "A single seed: no interval.",
        )
    )
    said = "; ".join(
        f"{readable(c.student)} ({c.parameters}) {100 * c.mean:.1f} %"
        for c in cells(rows)
        if c.variant == baseline
    )
    figures.append(
        album.add(
            "parameters-accuracy",
            plot_parameters(rows),
            f"Test accuracy against the number of parameters, students alone: {said}.",
            title="Accuracy against parameters",
            caption="Students of (nearly) equal size are drawn beside each other.",
        )
    )
    return figures


def _groups(result: Result, album: _Album) -> list[dict[str, Any]]:
    """The small multiples: one figure per student."""
    rows = result.rows
    students = [name for name in students_of(rows) if name != TEACHER]
    baseline, _ = roles(result)
    variants = variants_of(rows)
    legend = [{"color": facts.color(v), "label": look(v).label} for v in variants]
    many = len({row["seed"] for row in rows}) > 1
    treated = treatment(result) or baseline
    curves, shares, norms = [], [], []
    for student in students:
        name = readable(student)
        mine = [row for row in rows if row["student"] == student]
        if any("validation/accuracy" in row["curves"] for row in mine):
            curves.append(
                album.add(
                    f"curves-{student}",
                    plot_curves(rows, student=student),
                    f"Validation accuracy of the {name} student over the epochs, per variant.",
                )
            )
        pair = [v for v in (baseline, treated) if v in variants_of(rows, student=student)]
        if mine[0].get("distribution") is not None and pair:
            pair = list(dict.fromkeys(pair))
            shares.append(
                album.add(
                    f"distributions-{student}",
                    plot_distributions(rows, student=student, variants=pair),
                    f"Mean predicted distribution per true class of the {name} student, "
                    f"{' and '.join(look(v).label for v in pair)}.",
                )
            )
        if any(
            key.startswith("grad/")
            for row in mine
            if row["variant"] == treated
            for key in row["curves"]
        ):
            norms.append(
                album.add(
                    f"gradients-{student}",
                    plot_gradients(rows, student=student, variant=treated),
                    f"Gradient norm of every loss term of the {name} student while distilled.",
                )
            )
    groups = [
        {
            "title": "Learning curves", "legend": legend, "figures": curves,
            "note": "Validation accuracy, mean over seeds with a 95 % band. A run that stopped "
            "early is held at its last value; a single seed is dashed."
            if many
            else "Validation accuracy of a single seed, which has no band.",
        },
        {
            "title": "What the students answer", "legend": [], "figures": shares,
            "note": "Mean predicted distribution of the test samples of each true class, student "
            "alone and distilled. For a fully quantum student these are the class-grouped "
            "probabilities of basis states as the circuit gives them, before its sharpness; for "
            "the others, the softmax of the logits.",
        },
        {
            "title": "Pull of each loss term", "legend": [], "figures": norms,
            "note": "Norm of each term's gradient while the distilled student learns, on "
            "a logarithmic axis; measured every few epochs and held in between. A term whose line "
            "is missing or flat at zero teaches nothing.",
        },
    ]  # fmt: skip
    return [group for group in groups if group["figures"]]


def _circuits(sitters: Sequence[Portrait], album: _Album) -> list[dict[str, str]]:
    """One drawing per distinct circuit, with the names of all students that have it."""
    shared: dict[str, list[Portrait]] = {}
    for sitter in sitters:
        if sitter.drawing is not None:
            shared.setdefault(str(sitter.drawing.draw("text", fold=-1)), []).append(sitter)
    out = []
    for group in shared.values():
        drawing = group[0].drawing
        assert drawing is not None
        names = facts.listed(readable(sitter.student) for sitter in group)
        about = f"{names}: {drawing.num_qubits} qubits, {drawing.num_parameters} weights"
        out.append(
            album.add(
                f"circuit-{group[0].student}",
                plot_circuit(drawing),
                f"Circuit of {about}.",
                caption=f"{about}.",
                drawing=True,
            )
        )
    return out


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("qiskit-kd")
    except PackageNotFoundError:
        return "unknown"


def _put(path: Path, text: str) -> None:
    """Write through a temporary name: a report is whole or not there."""
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)
