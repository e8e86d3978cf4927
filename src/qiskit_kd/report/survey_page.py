# SPDX-License-Identifier: Apache-2.0
"""The sections of a page about a study with axes: few figures, chosen among its many points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qiskit_kd.report import noise_page
from qiskit_kd.report.axes import plot_accuracy_over, plot_gains_over
from qiskit_kd.report.diagnostics import plot_curves, plot_distributions, plot_gradients
from qiskit_kd.report.extras import feature_maps, robustness
from qiskit_kd.report.grid import Grid, Point, at
from qiskit_kd.report.palette import look, readable
from qiskit_kd.report.sections import Album
from qiskit_kd.report.strokes import Stroke
from qiskit_kd.report.summary import (
    Result,
    alone,
    is_teacher,
    roles,
    students_of,
    variants_of,
)
from qiskit_kd.report.survey import first_line
from qiskit_kd.report.tally import looks_of, subject, taught
from qiskit_kd.report.trainings import compared

__all__ = ["groups", "main"]

Looks = Mapping[tuple[str, str], Stroke]
MANY = 6
"""At most so many learning curves side by side."""


def main(result: Result, grid: Grid, looks: Looks, album: Album) -> list[dict[str, str]]:
    """Gains, accuracies and divergences against the axis of numbers.

    Where several students are trained in several ways, each has figures of its own.
    """
    if len(compared(result)) < 2:
        return _lines(result, grid, looks, album)
    return [
        figure
        for student in (name for name in students_of(result.rows) if not is_teacher(name))
        for figure in _lines(result, grid, looks_of(result, student=student), album, student)
    ]


def _lines(
    result: Result, grid: Grid, looks: Looks, album: Album, student: str | None = None
) -> list[dict[str, str]]:
    baseline, placebos = roles(result)
    many = len({row["seed"] for row in result.rows}) > 1
    axis, over = grid.titles[grid.x], alone(result)
    own = "" if student is None else f"-{student}"
    of = "" if student is None else f" of the {readable(student)} student"
    found = []
    mine = [item for item in result.comparisons if student in (None, item["student"])]
    drawn = any(item["variant"] in placebos for item in mine)
    if any(item["baseline"] == baseline for item in mine):
        found.append(
            album.add(
                f"gains{own}",
                plot_gains_over(result.rows, mine, grid=grid, looks=looks, baseline=baseline),
                f"Paired gains in test accuracy{of} over {over}, against {axis}. "
                f"{first_line(result, grid)}",
                title=f"Gain{of} over {over}" + ", placebos beside it" * drawn,
                caption=(
                    "Mean paired difference with its 95 % interval, variants set side by side. "
                    "Filled mark: the whole interval lies above zero; crossed: below; hollow: "
                    "neither, or fewer than five seeds. "
                    if many
                    else "Difference of a single seed, which has no interval and settles nothing. "
                )
                + (
                    "Pale and dashed: placebos, as an arrow with its number where one lies "
                    "outside; a gain that they reach too does not come from a teacher."
                    if drawn
                    else ""
                ),
            )
        )
    found.append(
        album.add(
            f"accuracy{own}",
            plot_accuracy_over(result.rows, grid=grid, looks=looks),
            f"Test accuracy{of} against {axis}, a line per student and variant.",
            title=f"Accuracy{of}",
            caption=("Mean over seeds with a 95 % band" if many else "A single seed, without band")
            + "; thin, dashed and dark: the teachers themselves.",
        )
    )
    shown = [row for row in result.rows if (row["student"], row["variant"]) in looks]
    if any("kl" in row["test"] for row in shown):
        teacher = (result.config.get("evaluation") or {}).get("teacher")
        called = f"the teacher “{readable(str(teacher))}”" if teacher else "the teacher"
        found.append(
            album.add(
                f"kl{own}",
                plot_accuracy_over(result.rows, grid=grid, looks=looks, metric="kl"),
                f"KL(teacher ‖ student){of} on the test data against {axis}, a line per variant.",
                title=f"Divergence{of} from {called}",
                caption="Mean KL(teacher ‖ student) of the test samples' class probabilities at "
                "temperature 1: how far the student is from saying what that teacher says. "
                + (
                    "Bands are as above; they hold what differs from seed to seed, which paired "
                    "gains do not, so that bands may overlap where a gain is confirmed. "
                    if many
                    else ""
                )
                + "Less is closer.",
            )
        )
    return found


def groups(result: Result, grid: Grid, looks: Looks, album: Album) -> list[dict[str, Any]]:
    """Robustness, feature maps, learning curves and what the student answers."""
    last = grid.point(grid.panels[-1], grid.values[-1])
    ends = dict.fromkeys((grid.values[0], grid.values[-1]))
    chosen = [grid.point(grid.panels[-1], value) for value in ends]
    order = [grid.point(p, v) for v in reversed(grid.values) for p in reversed(grid.panels)]
    found = [
        _curves(result, grid, looks, album),
        feature_maps(result, album, points=[(point, grid.say(point)) for point in order]),
        robustness(result, looks, album, points=[(point, grid.say(point)) for point in chosen]),
        noise_page.shots(result, grid, album),
        _answers(result, grid, chosen, looks, album),
        _pulls(result, grid, last, album),
    ]
    return [group for group in found if group and group["figures"]]


def _curves(result: Result, grid: Grid, looks: Looks, album: Album) -> dict[str, Any] | None:
    student, panel = subject(result), grid.panels[-1]
    if student is None:
        return None
    figures: list[dict[str, str]] = []
    for value in _some(grid.values):
        point = grid.point(panel, value)
        rows = [row for row in at(result.rows, point) if row["student"] == student]
        if any("validation/accuracy" in row["curves"] for row in rows):
            own = grid.say({grid.x: value})
            figures.append(
                album.add(
                    f"curves-{len(figures)}",
                    plot_curves(rows, student=student, looks=looks, title=own),
                    f"Validation accuracy of the {readable(student)} student over the epochs at "
                    f"{grid.say(point)}, per variant.",
                )
            )
    where = f" at {grid.say(panel)}" if panel else ""
    many = len({row["seed"] for row in result.rows}) > 1
    return {
        "title": "Learning curves", "figures": figures,
        "legend": [
            {"color": f"--c{style.color.removeprefix('#')}", "label": style.label}
            for (name, _), style in looks.items()
            if name == student
        ],
        "note": f"Validation accuracy of the {readable(student)} student{where}, "
        + ("mean over seeds with a 95 % band. A run that stopped early is held at its last value."
           if many else "of a single seed, which has no band."),
    }  # fmt: skip


def _answers(
    result: Result, grid: Grid, chosen: Sequence[Point], looks: Looks, album: Album
) -> dict[str, Any] | None:
    student, (baseline, _) = subject(result), roles(result)
    figures: list[dict[str, str]] = []
    for point in chosen:
        rows = [row for row in at(result.rows, point) if row["student"] == student]
        known = variants_of(rows)
        pair = [v for v in (baseline, *taught(result)[:1]) if v in known]
        if student is None or not pair or rows[0].get("distribution") is None:
            continue
        figures.append(
            album.add(
                f"distributions-{len(figures)}",
                plot_distributions(
                    rows,
                    student=student,
                    variants=pair,
                    looks=looks,
                    figsize=(5.2, 3.1),
                    title=grid.say(point),
                ),
                f"Mean predicted distribution per true class of the {readable(student)} student at "
                f"{grid.say(point)}, {' and '.join(look(v).label for v in pair)}.",
            )
        )
    return {
        "title": "What the student answers", "legend": [], "figures": figures, "shape": "pair",
        "note": "Mean predicted distribution of the test samples of each true class, at the first "
        "and the last value of the axis.",
    }  # fmt: skip


def _pulls(result: Result, grid: Grid, point: Point, album: Album) -> dict[str, Any] | None:
    student = subject(result)
    figures: list[dict[str, str]] = []
    for variant in taught(result):
        rows = [
            row for row in at(result.rows, point)
            if (row["student"], row["variant"]) == (student, variant)
        ]  # fmt: skip
        if student and any(key.startswith("grad/") for row in rows for key in row["curves"]):
            label = look(variant).label
            figures.append(
                album.add(
                    f"gradients-{variant}",
                    plot_gradients(rows, student=student, variant=variant, title=label),
                    f"Gradient norm of every loss term of the {readable(student)} student while "
                    f"taught by {label}.",
                )
            )
    return {
        "title": "Pull of each loss term", "legend": [], "figures": figures,
        "note": f"Norm of each term's gradient while the student learns, at {grid.say(point)}, on "
        "a logarithmic axis; measured every few epochs and held in between. A term whose line is "
        "missing or flat at zero teaches nothing.",
    }  # fmt: skip


def _some(values: Sequence[Any]) -> list[Any]:
    """At most `MANY` values, the first and last among them, evenly picked."""
    if len(values) <= MANY:
        return list(values)
    return [values[round(k * (len(values) - 1) / (MANY - 1))] for k in range(MANY)]
