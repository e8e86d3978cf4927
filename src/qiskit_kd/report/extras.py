# SPDX-License-Identifier: Apache-2.0
"""Sections of a page that only some experiments ask for: feature maps and robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qiskit_kd.experiment.schema import teacher_row
from qiskit_kd.report.grid import Point, at
from qiskit_kd.report.maps import plot_feature_maps
from qiskit_kd.report.palette import look, readable
from qiskit_kd.report.robustness import kinds_of, plot_robustness
from qiskit_kd.report.sections import Album
from qiskit_kd.report.strokes import Stroke
from qiskit_kd.report.summary import Result, Row, is_taught, is_teacher, roles
from qiskit_kd.report.tally import subject, taught

__all__ = ["feature_maps", "robustness"]

NOWHERE: tuple[tuple[Point, str], ...] = (({}, ""),)
"""The points of a study without axes."""


def feature_maps(
    result: Result, album: Album, *, points: Sequence[tuple[Point, str]] = NOWHERE
) -> dict[str, Any] | None:
    """The maps of teacher, taught student and student alone, at the first point that has them.

    Args:
        result: A study.
        album: Where the figure goes.
        points: Points and what they are called, the preferred one first.
    """
    for point, where in points:
        rows = [row for row in at(result.rows, point) if row.get("feature_maps")]
        picked = _networks(result, rows)
        if len(picked) < 2:
            continue
        labels = [_name(row, result) for row in picked]
        pair = is_teacher(picked[0]["student"]) and len(picked) > 2
        layer, samples = picked[0]["feature_maps"]["layer"], picked[0]["feature_maps"]["rows"][:4]
        said = f"Rows {', '.join(map(str, samples))} of the test split"
        said += f" at {where}" if where else ""
        said += (
            f", and the output of layer “{layer}” for them, seed {picked[0]['seed']}. Dark is low "
            "and bright is high; the numbers below the maps are the ends of their grey scale"
        )
        said += ", which teacher and taught student share." if pair else "."
        figure = album.add(
            "feature-maps",
            plot_feature_maps(
                picked, labels=labels, scales=None if pair else list(range(len(picked)))
            ),
            f"Feature maps of the same test images: {', '.join(labels)}.",
            caption=said,
        )
        return {
            "title": "Feature maps", "legend": [], "figures": [figure], "shape": "wide",
            "note": "What the same layer of each network makes of the same images.",
        }  # fmt: skip
    return None


def robustness(
    result: Result, looks: Mapping[tuple[str, str], Stroke], album: Album, *,
    points: Sequence[tuple[Point, str]] = NOWHERE,
) -> dict[str, Any] | None:  # fmt: skip
    """Accuracy and gain on disturbed test samples, a figure per point.

    Args:
        result: A study.
        looks: How every (student, variant) is drawn.
        album: Where the figures go.
        points: Points and what they are called.
    """
    baseline, _ = roles(result)
    figures: list[dict[str, str]] = []
    for point, where in points:
        rows = at(result.rows, point)
        kinds = kinds_of(rows)
        if kinds:
            figures.append(
                album.add(
                    f"robustness-{len(figures)}",
                    plot_robustness(rows, looks=looks, baseline=baseline),
                    f"Test accuracy under {' and '.join(kinds)}, and the gain over the student "
                    f"alone{f', at {where}' if where else ''}.",
                    title=where,
                )
            )
    return {
        "title": "Robustness", "legend": [], "figures": figures, "shape": "wide",
        "note": "Accuracy on disturbed test samples, and below it the paired gain over the student "
        "alone; means over seeds with 95 % bands. All networks of a seed are tested on the very "
        "same disturbed samples; nothing was trained or chosen on them. At zero stands the test "
        "split as it is. A placebo far below the others leaves the lower drawing.",
    }  # fmt: skip


def _networks(result: Result, rows: Sequence[Row]) -> list[Row]:
    """The feature teacher, the student it taught and that student alone, where there are maps."""
    baseline, _ = roles(result)
    variants: Mapping[str, Any] = result.config.get("variants", {})
    student, lessons = subject(result), taught(result)
    by_maps = [
        (name, term.get("teacher") or item.get("teacher"))
        for name, item in variants.items()
        for term in item.get("terms", ())
        if is_taught(item) and term.get("layers")
    ]
    if by_maps:
        # Of several, the one with the fewest other terms: the maps' own doing is seen best there.
        name, teacher = min(by_maps, key=lambda pair: len(variants[pair[0]]["terms"]))
        wanted = [(teacher_row(str(teacher)), None), (student, name), (student, baseline)]
    else:
        wanted = [(student, name) for name in (*lessons[:1], baseline)]
        first = next((str(r["student"]) for r in rows if is_teacher(r["student"])), None)
        wanted = [(first, None), *wanted]
    found = []
    for who, variant in wanted:
        mine = [r for r in rows if r["student"] == who and variant in (None, r["variant"])]
        found += mine[:1]
    return found


def _name(row: Row, result: Result) -> str:
    student = readable(str(row["student"]))
    if is_teacher(row["student"]):
        return student
    alone = row["variant"] == roles(result)[0]
    return f"{student} alone" if alone else f"{student}, {look(row['variant']).label}"
