# SPDX-License-Identifier: Apache-2.0
"""What happened inside: learning curves, answers, the pull of losses, feature maps, robustness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from qiskit_kd.experiment.schema import VariantConfig, is_teacher, teacher_row
from qiskit_kd.report.document import Block, Picture, Pictures, Section, Text, legend_of, section
from qiskit_kd.report.frame import Frame, Row
from qiskit_kd.report.grid import Point
from qiskit_kd.report.plots_sweep import kinds_of, plot_robustness
from qiskit_kd.report.plots_training import (
    plot_curves,
    plot_distributions,
    plot_feature_maps,
    plot_gradients,
)
from qiskit_kd.report.style import look, looks_of, readable

MANY = 6
"""At most so many learning curves side by side."""


def _places(frame: Frame, *, ends: bool = False) -> list[tuple[Point, str]]:
    """Points of which figures are drawn, and what they are called: some along the last panel."""
    grid = frame.grid
    if grid is None:
        return [({}, "")]
    kept = list(grid.values)
    if ends:
        kept = list(dict.fromkeys((kept[0], kept[-1])))
    elif len(kept) > MANY:
        kept = [kept[round(k * (len(kept) - 1) / (MANY - 1))] for k in range(MANY)]
    found = [grid.point(grid.panels[-1], value) for value in kept]
    return [(point, grid.say(point)) for point in found]


def _subjects(frame: Frame) -> list[str]:
    """All students of a study without axes, else the one that it is about."""
    return frame.students if frame.grid is None else [s for s in [frame.student] if s]


def _group(title: str, note: str, pictures: Sequence[Picture], **how: Any) -> Section | None:
    blocks: list[Block] = [Text(note), Pictures(pictures, **how)]
    return Section(title, blocks) if pictures else None


@section("curves", place=30)
def curves(frame: Frame) -> Section | None:
    """Validation accuracy over the epochs: a figure per student, or per value of the axis."""
    styles = looks_of(frame) if frame.grid is not None else None
    pictures: list[Picture] = []
    for student in _subjects(frame):
        for point, where in _places(frame):
            rows = [row for row in frame.at(point) if row["student"] == student]
            if any("validation/accuracy" in row["curves"] for row in rows):
                pictures.append(
                    Picture(
                        f"curves-{len(pictures) if where else student}",
                        partial(
                            plot_curves,
                            rows if where else frame.rows,
                            student=student,
                            looks=styles,
                            title=where or None,
                        ),
                        f"Validation accuracy of the {readable(student)} student over the epochs"
                        f"{' at ' * bool(where)}{where}, per variant.",
                    )
                )
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
    student, variants = frame.student, frame.listed
    by_maps = [
        (name, term.get("teacher") or item.get("teacher"))
        for name, item in variants.items()
        for term in item.get("terms", ())
        if term.get("layers") and VariantConfig.model_validate(item).is_taught
    ]
    wanted: list[tuple[str | None, str | None]]
    if by_maps:
        # Of several, the one with the fewest other terms: the maps' own doing is seen best there.
        name, teacher = min(by_maps, key=lambda pair: len(variants[pair[0]]["terms"]))
        wanted = [(teacher_row(str(teacher)), None), (student, name), (student, frame.baseline)]
    else:
        first = next((str(r["student"]) for r in rows if is_teacher(r["student"])), None)
        wanted = [(first, None), (student, frame.treated), (student, frame.baseline)]
    found: list[Row] = []
    for who, variant in wanted:
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
    pictures: list[Picture] = []
    styles = looks_of(frame)
    for point, where in _places(frame, ends=True):
        rows = frame.at(point)
        if kinds := kinds_of(rows):
            pictures.append(
                Picture(
                    f"robustness-{len(pictures)}",
                    partial(plot_robustness, rows, looks=styles, baseline=frame.baseline),
                    f"Test accuracy under {' and '.join(kinds)}, and the gain over the student "
                    f"alone{' at ' * bool(where)}{where}.",
                    where,
                )
            )
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
    styles = looks_of(frame) if frame.grid is not None else None
    pictures: list[Picture] = []
    for student in _subjects(frame):
        for point, where in _places(frame, ends=True):
            rows = [row for row in frame.at(point) if row["student"] == student]
            known = {row["variant"] for row in rows}
            pair = [v for v in dict.fromkeys((frame.baseline, frame.treated or "")) if v in known]
            if not pair or rows[0].get("distribution") is None:
                continue
            own: Mapping[str, Any] = {"figsize": (5.2, 3.1), "title": where} if where else {}
            pictures.append(
                Picture(
                    f"distributions-{len(pictures) if where else student}",
                    partial(
                        plot_distributions,
                        rows,
                        student=student,
                        variants=pair,
                        looks=styles,
                        **own,
                    ),
                    f"Mean predicted distribution per true class of the {readable(student)} student"
                    f"{' at ' * bool(where)}{where}, {' and '.join(look(v).label for v in pair)}.",
                )
            )
    note = (
        "Mean predicted distribution of the test samples of each true class"
        + (", at the first and the last value of the axis" if frame.grid else "")
        + ". For a fully quantum student these are the class-grouped probabilities of basis states "
        "as the circuit gives them, before its sharpness; for the others, the softmax of the "
        "logits."
    )
    return _group("What the students answer", note, pictures, shape="trio")


@section("pulls", place=37)
def pulls(frame: Frame) -> Section | None:
    """The gradient norm of every loss term while students are taught."""
    point, where = _places(frame)[-1]
    pictures = list(_pulls(frame, point, where))
    note = (
        f"Norm of each term's gradient while a student learns{' at ' * bool(where)}{where}, on a "
        "logarithmic axis; measured every few epochs and held in between. A term whose line is "
        "missing or flat at zero teaches nothing."
    )
    return _group("Pull of each loss term", note, pictures, shape="trio")


def _pulls(frame: Frame, point: Point, where: str) -> Iterator[Picture]:
    taught = frame.having("taught")
    for student in _subjects(frame):
        for variant in taught if where else [v for v in taught if v == frame.treated]:
            rows = frame.cell(student, variant, point)
            if any(key.startswith("grad/") for row in rows for key in row["curves"]):
                label = look(variant).label
                yield Picture(
                    f"gradients-{variant if where else student}",
                    partial(
                        plot_gradients,
                        rows,
                        student=student,
                        variant=variant,
                        title=label if where else None,
                    ),
                    f"Gradient norm of every loss term of the {readable(student)} student while "
                    f"taught by {label}.",
                )
