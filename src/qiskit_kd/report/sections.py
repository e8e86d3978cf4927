# SPDX-License-Identifier: Apache-2.0
"""The sections of a page: which figures are drawn of which rows, and what is said below them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from qiskit_kd.report import facts
from qiskit_kd.report.diagnostics import plot_curves, plot_distributions, plot_gradients
from qiskit_kd.report.drawings import plot_circuit
from qiskit_kd.report.figures import plot_accuracy, plot_gains, plot_parameters
from qiskit_kd.report.palette import look, looks, readable
from qiskit_kd.report.portraits import Portrait
from qiskit_kd.report.summary import (
    ALONE,
    Result,
    alone,
    cells,
    gains,
    is_teacher,
    points,
    roles,
    students_of,
    treatment,
    variants_of,
)
from qiskit_kd.report.svg import inline, to_svg, variable

__all__ = ["Album", "circuits", "groups", "main", "sitters"]

READABLE = 860  # pixels, as in the page's style sheet


class Album:
    """Collects figures: the stand-alone document and the element for the page."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}

    def add(
        self, name: str, figure: Figure, alt: str, *, title: str = "", caption: str = "",
        drawing: bool = False,
    ) -> dict[str, str]:  # fmt: skip
        """Keep a figure under `name`; returns what the template needs of it."""
        document = to_svg(figure, name, outlines=drawing)
        self.documents[name] = document
        svg = inline(document, name, alt, themed=not drawing)
        return {"title": title, "svg": svg, "caption": caption}


def main(result: Result, album: Album) -> list[dict[str, str]]:
    """Gains, accuracies, and accuracies against parameters."""
    (baseline, placebos), over = roles(result), alone(result)
    rows = result.rows
    found = gains(rows, result.comparisons, baseline=baseline)
    many = len({row["seed"] for row in rows}) > 1
    accuracies = "; ".join(
        f"{readable(c.student)} {'' if is_teacher(c.student) else look(c.variant).label + ' '}"
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
                plot_gains(rows, result.comparisons, baseline=baseline, over=over),
                f"Paired gains in test accuracy over {over}, in points: {said}.",
                title=f"Gain over {over}, placebos beside it",
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
    sizes = [name for name in students_of(rows) if not is_teacher(name)]
    if over != ALONE and len(sizes) < 2:
        return figures  # trainings of one student: its size says nothing of them
    said = "; ".join(
        f"{readable(c.student)} ({c.parameters}) {100 * c.mean:.1f} %"
        for c in cells(rows)
        if c.variant == baseline
    )
    figures.append(
        album.add(
            "parameters-accuracy",
            plot_parameters(rows, variants=[v for v in variants_of(rows) if v not in placebos]),
            f"Test accuracy against the number of parameters, students alone: {said}.",
            title="Accuracy against parameters",
            caption="Students of (nearly) equal size are drawn beside each other.",
        )
    )
    return figures


def groups(result: Result, album: Album) -> list[dict[str, Any]]:
    """The small multiples: one figure per student."""
    rows = result.rows
    students = [name for name in students_of(rows) if not is_teacher(name)]
    baseline, _ = roles(result)
    variants = variants_of(rows)
    legend = [
        {"color": variable(item.color), "label": item.label} for item in looks(variants).values()
    ]
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
    found = [
        {
            "title": "Learning curves", "legend": legend, "figures": curves,
            "note": "Validation accuracy, mean over seeds with a 95 % band. A run that stopped "
            "early is held at its last value; a single seed is dashed."
            if many
            else "Validation accuracy of a single seed, which has no band.",
        },
        {
            "title": "What the students answer", "legend": [], "figures": shares,
            "note": "Mean predicted distribution of the test samples of each true class, "
            f"{_pair(result)}. For a fully quantum student these are the class-grouped "
            "probabilities of basis states as the circuit gives them, before its sharpness; for "
            "the others, the softmax of the logits.",
        },
        {
            "title": "Pull of each loss term", "legend": [], "figures": norms,
            "note": f"Norm of each term's gradient while the {_taught(result)} student learns, on "
            "a logarithmic axis; measured every few epochs and held in between. A term whose line "
            "is missing or flat at zero teaches nothing.",
        },
    ]  # fmt: skip
    return [group for group in found if group["figures"]]


def _pair(result: Result) -> str:
    if alone(result) == ALONE:
        return "student alone and distilled"
    names = dict.fromkeys((roles(result)[0], treatment(result) or roles(result)[0]))
    return " and ".join(f"“{look(name).label}”" for name in names)


def _taught(result: Result) -> str:
    name = treatment(result)
    return "distilled" if name is None or alone(result) == ALONE else look(name).label


def circuits(sitters: Sequence[Portrait], album: Album) -> list[dict[str, str]]:
    """One drawing per distinct circuit, with the names of all students that have it."""
    shared: dict[object, list[Portrait]] = {}
    for sitter in sitters:
        if sitter.drawing is not None:
            shared.setdefault(_alike(sitter), []).append(sitter)
    out: list[dict[str, str]] = []
    for group in shared.values():
        rank = sum(group[0].student == other[0].student for other in [*shared.values()][: len(out)])
        drawing = group[0].drawing
        assert drawing is not None
        names = facts.listed(dict.fromkeys(readable(sitter.student) for sitter in group))
        about = f"{names}: {drawing.num_qubits} qubits, {drawing.num_parameters} weights"
        boxes = dict.fromkeys(readable(str(s.facts.get("encoding", ""))) for s in group if s.where)
        if len(boxes) > 1:
            about += f"; the encoding is {', '.join([*boxes][:-1])} or {[*boxes][-1]}"
        figure = album.add(
            f"circuit-{group[0].student}" + f"-{rank}" * bool(rank),
            plot_circuit(drawing),
            f"Circuit of {about}.",
            caption=f"{about}.",
            drawing=True,
        )
        # A small circuit keeps its size; a wide one is never made too small to read.
        width = re.search(r' width="(\d+)"', figure["svg"])
        figure["size"] = "small" if width and int(width[1]) < READABLE else ""
        out.append(figure)
    return out


def _alike(sitter: Portrait) -> object:
    """Equal for circuits that are drawn once: between settings the encoding's box may differ."""
    drawing = sitter.drawing
    assert drawing is not None
    if not sitter.where:
        return str(drawing.draw("text", fold=-1))
    steps = []
    for item in drawing.data:
        box = item.operation.name.endswith("\nencoding")
        qubits = tuple(drawing.find_bit(qubit).index for qubit in item.qubits)
        steps.append(("" if box else item.operation.name, qubits, str(item.operation.params)))
    return drawing.num_qubits, tuple(steps)


def sitters(found: Sequence[Portrait]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every student with its traits; what differs between settings stands with all its values."""
    out: dict[str, dict[str, dict[str, None]]] = {}
    for sitter in found:
        mine = out.setdefault(readable(sitter.student), {})
        for label, text in facts.traits(sitter.facts):
            mine.setdefault(label, {})[text] = None
    return [
        (name, [(label, " or ".join(texts)) for label, texts in mine.items()])
        for name, mine in out.items()
    ]
