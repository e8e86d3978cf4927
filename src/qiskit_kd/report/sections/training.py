# SPDX-License-Identifier: Apache-2.0
"""What happened inside: learning curves, answers, the pull of losses, feature maps, robustness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from qiskit_kd.experiment.schema import VariantConfig, is_teacher, teacher_row
from qiskit_kd.report.document import Picture, Pictures, Section, Text, legend_of, section
from qiskit_kd.report.frame import Frame, Row
from qiskit_kd.report.grid import Point
from qiskit_kd.report.plots_sweep import kinds_of, plot_robustness
from qiskit_kd.report.plots_training import (
    plot_curves,
    plot_distributions,
    plot_feature_maps,
    plot_gradients,
)
from qiskit_kd.report.style import Looks, look, looks_of, readable

MANY = 6
"""At most so many learning curves side by side."""


def _places(frame: Frame, *, ends: bool = False) -> list[tuple[Point, str]]:
    """Points of which figures are drawn, and what they are called: some along the last panel."""
    grid = frame.grid
    if grid is None:
        return [({}, "")]
    count = min(2 if ends else MANY, len(grid.values))
    steps = [round(k * (len(grid.values) - 1) / max(count - 1, 1)) for k in range(count)]
    found = [grid.point(grid.panels[-1], grid.values[step]) for step in steps]
    return [(point, grid.say(point)) for point in found]


def _subjects(
    frame: Frame, *, ends: bool = False
) -> Iterator[tuple[str, Point, str, list[Row], str]]:
    """Students, places and their rows: all students of a study without axes, else the main one.

    Last is what tells their figure from others of its kind.
    """
    students = frame.students if frame.grid is None else [s for s in [frame.student] if s]
    for student in students:
        for number, (point, where) in enumerate(_places(frame, ends=ends)):
            rows = [row for row in frame.at(point) if row["student"] == student]
            yield student, point, where, rows, str(number) if where else student


def _styles(frame: Frame) -> Looks | None:
    """Looks along axes; without, each variant has its usual one."""
    return None if frame.grid is None else looks_of(frame)


def _group(title: str, note: str, pictures: Sequence[Picture], **how: Any) -> Section | None:
    return Section(title, [Text(note), Pictures(pictures, **how)]) if pictures else None


@section("curves", place=30)
def curves(frame: Frame) -> Section | None:
    """Validation accuracy over the epochs: a figure per student, or per value of the axis."""
    styles = _styles(frame)
    pictures = [
        Picture(
            f"curves-{name}",
            partial(
                plot_curves,
                rows,
                student=student,
                looks=styles,
                title=where.replace(", ", "\n") or None,
            ),
            f"Validation accuracy of the {readable(student)} student over the epochs"
            f"{' at ' * bool(where)}{where}, per variant.",
        )
        for student, _, where, rows, name in _subjects(frame)
        if any("validation/accuracy" in row["curves"] for row in rows)
    ]
    legend = legend_of(styles or looks_of(frame, student=frame.student), frame.student)
    note = "Validation accuracy, " + (
        "mean over seeds with a 95 % band. A run that stopped early is held at its last value; a "
        "single seed is dashed."
        if frame.many
        else "of a single seed, which has no band."
    )
    return _group("Learning curves", note, pictures, shape="trio", legend=legend)


@section("maps", place=31)
def maps(frame: Frame) -> Section | None:
    """The maps of teacher, taught student and student alone, at the first point that has them."""
    grid = frame.grid
    points: list[Point] = [{}]
    if grid is not None:
        points = [grid.point(p, v) for v in reversed(grid.values) for p in reversed(grid.panels)]
    for point in points:
        picked = _networks(frame, [row for row in frame.at(point) if row.get("feature_maps")])
        if len(picked) < 2:
            continue
        names = [_name(frame, row) for row in picked]
        pair = is_teacher(picked[0]["student"]) and len(picked) > 2
        own = picked[0]["feature_maps"]
        where = f" at {grid.say(point)}" if grid is not None else ""
        said = (
            f"Rows {', '.join(map(str, own['rows'][:4]))} of the test split{where}, and the output "
            f"of layer “{own['layer']}” for them, seed {picked[0]['seed']}. Dark is low and bright "
            "is high; the numbers below the maps are the ends of their grey scale"
            + (", which teacher and taught student share." if pair else ".")
        )
        scales = None if pair else list(range(len(picked)))
        picture = Picture(
            "feature-maps",
            partial(plot_feature_maps, picked, labels=names, scales=scales),
            f"Feature maps of the same test images: {', '.join(names)}.",
            caption=said,
        )
        note = "What the same layer of each network makes of the same images."
        return _group("Feature maps", note, [picture], shape="wide")
    return None


def _networks(frame: Frame, rows: Sequence[Row]) -> list[Row]:
    """The feature teacher, the student it taught and that student alone, where there are maps."""
    by_maps = [
        (len(item["terms"]), name, teacher_row(str(term.get("teacher") or item.get("teacher"))))
        for name, item in frame.listed.items()
        for term in item.get("terms", ())
        if term.get("layers") and VariantConfig.model_validate(item).is_taught
    ]
    # Of several, the one with the fewest other terms: the maps' own doing is seen best there.
    first = next((str(row["student"]) for row in rows if is_teacher(row["student"])), None)
    _, taught, teacher = min(by_maps, key=lambda one: one[0], default=(0, frame.treated, first))
    found: list[Row] = []
    for who, variant in ((teacher, None), (frame.student, taught), (frame.student, frame.baseline)):
        found += [r for r in rows if r["student"] == who and variant in (None, r["variant"])][:1]
    return found


def _name(frame: Frame, row: Row) -> str:
    student = readable(str(row["student"]))
    if is_teacher(row["student"]):
        return student
    alone = row["variant"] == frame.baseline
    return f"{student} alone" if alone else f"{student}, {look(row['variant']).label}"


@section("robustness", place=32)
def robustness(frame: Frame) -> Section | None:
    """Accuracy and gain on disturbed test samples, a figure per point."""
    styles, places = looks_of(frame), _places(frame, ends=True)
    pictures = [
        Picture(
            f"robustness-{number}",
            partial(plot_robustness, rows, looks=styles, baseline=frame.baseline),
            f"Test accuracy under {' and '.join(kinds)}, and the gain over the student "
            f"alone{' at ' * bool(where)}{where}.",
            where,
        )
        for number, (point, where) in enumerate(places)
        if (kinds := kinds_of(rows := frame.at(point)))
    ]
    note = (
        "Accuracy on disturbed test samples, and below it the paired gain over the student alone; "
        "means over seeds with 95 % bands. All networks of a seed are tested on the very same "
        "disturbed samples; nothing was trained or chosen on them. At zero stands the test split "
        "as it is. A placebo far below the others leaves the lower drawing."
    )
    return _group("Robustness", note, pictures, shape="wide")


@section("answers", place=36)
def answers(frame: Frame) -> Section | None:
    """The mean predicted distribution per true class, alone and taught."""
    styles, pictures = _styles(frame), []
    for student, _, where, rows, name in _subjects(frame, ends=True):
        known = {row["variant"] for row in rows}
        pair = [v for v in dict.fromkeys((frame.baseline, frame.treated or "")) if v in known]
        if not pair or rows[0].get("distribution") is None:
            continue
        how: dict[str, Any] = {"variants": pair, "looks": styles}
        how |= {"figsize": (5.2, 3.1), "title": where} if where else {}
        pictures.append(
            Picture(
                f"distributions-{name}",
                partial(plot_distributions, rows, student=student, **how),
                f"Mean predicted distribution per true class of the {readable(student)} student"
                f"{' at ' * bool(where)}{where}, {' and '.join(look(v).label for v in pair)}.",
            )
        )
    note = (
        "Mean predicted distribution of the test samples of each true class"
        + ", at the first and the last value of the axis" * bool(frame.grid)
        + ". For a fully quantum student these are the class-grouped probabilities of basis states "
        "as the circuit gives them, before its sharpness; for the others, the softmax of the "
        "logits."
    )
    return _group("What the students answer", note, pictures, shape="trio")


@section("pulls", place=37)
def pulls(frame: Frame) -> Section | None:
    """The gradient norm of every loss term while students are taught."""
    last, at = _places(frame)[-1]
    pictures = []
    for student, point, where, _, _ in _subjects(frame):
        wanted = frame.having("taught") if where else [frame.treated]
        for variant in wanted if point == last else ():
            rows, label = frame.cell(student, str(variant), point), look(str(variant)).label
            if any(key.startswith("grad/") for row in rows for key in row["curves"]):
                how: dict[str, Any] = {"student": student, "title": label if where else None}
                pictures.append(
                    Picture(
                        f"gradients-{variant if where else student}",
                        partial(plot_gradients, rows, variant=str(variant), **how),
                        f"Gradient norm of every loss term of the {readable(student)} student "
                        f"while taught by {label}.",
                    )
                )
    note = (
        f"Norm of each term's gradient while a student learns{' at ' * bool(at)}{at}, on a "
        "logarithmic axis; measured every few epochs and held in between. A term whose line is "
        "missing or flat at zero teaches nothing."
    )
    return _group("Pull of each loss term", note, pictures, shape="trio")
