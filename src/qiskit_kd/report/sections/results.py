# SPDX-License-Identifier: Apache-2.0
"""Accuracies and gains of every student under every training, as tables and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qiskit_kd.experiment.schema import is_teacher
from qiskit_kd.experiment.statistics import Gain
from qiskit_kd.report.contrasts import chance, contrasts, over
from qiskit_kd.report.document import (
    LEGEND,
    Block,
    Details,
    Entry,
    Line,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
    gained,
    section,
    share,
)
from qiskit_kd.report.drawing import SHARES
from qiskit_kd.report.frame import Cell, Frame, cell_of, cells
from qiskit_kd.report.grid import Grid, Point, shown
from qiskit_kd.report.plots import plot_accuracy, plot_gains, plot_parameters
from qiskit_kd.report.plots_sweep import plot_accuracy_over, plot_gains_over
from qiskit_kd.report.style import look, looks, looks_of, points, readable

_SHORT = {
    "shuffled teacher": "shuffled",
    "label smoothing": "smoothing",
    "teacher's labels": "labels",
}
_MANY = 2  # panels, beyond which a terminal shows means over them


@section("results", place=10, terminal=True)
def results(frame: Frame) -> Section:
    """The main tables and figures."""
    if frame.many:
        said = (
            "Means over seeds on the test set, which was used once, after every choice had been "
            "made; ± is half of the 95 % interval. A gain is the mean of the differences seed by "
            f"seed, in points. {LEGEND}."
        )
    else:
        said = (
            "One seed on the test set, which was used once, after every choice had been made: "
            "there are no intervals, so nothing is confirmed."
        )
    made = _plain(frame) if frame.grid is None else _sweep(frame, frame.grid)
    return Section("Results", [Text(said), *made[0]], made[1])


def _title(frame: Frame, what: str) -> str:
    seeds = len({row["seed"] for row in frame.rows})
    return f"{frame.result.name}: {what}, " + (
        f"mean ± 95 % interval over {seeds} paired seeds" if seeds > 1 else "one seed: no interval"
    )


def _plain(frame: Frame) -> tuple[list[Block], list[Block]]:
    metric, variants = frame.metric, frame.variants_of()
    own = cells(frame.rows, metric)
    said = f"test {metric.replace('_', '-')}" + " in %" * (metric in SHARES)
    title = _title(frame, said)
    accuracy = _levels(frame, own, title)
    gains = _gains(frame, [name for name in variants if name != frame.baseline])
    short = _gains(frame, [*frame.having("taught"), *frame.having("labels")], _SHORT)
    texts = []
    for table in (gains, short):
        shown = [one for line in (table.lines if table else ()) for one in line[1:]]
        count = sum(isinstance(one, Entry) and "[" in one.note for one in shown)
        texts.append(Text(" ".join(filter(None, (_sizes(own), chance(count, over(frame)))))))
    blocks: list[Block] = [
        accuracy,
        *([gains] if gains else []),
        texts[0],
        Pictures(list(_pictures(frame))),
        Details("Macro-F1", [_levels(frame, cells(frame.rows, "macro_f1"), "")]),
    ]
    return blocks, [_levels(frame, own, title, _SHORT), *([short] if short else []), texts[1]]


def _levels(
    frame: Frame, table: Sequence[Cell], title: str, short: Mapping[str, str] | None = None
) -> Table:
    """A line per network, a column per training."""
    variants = frame.variants_of() or [frame.baseline]
    drawn = looks(variants)
    found = {(c.student, c.variant): c for c in table}
    lines: list[Line] = []
    for name in frame.networks:
        mine = [c for c in table if c.student == name]
        if is_teacher(name):
            middle = [share(c) for c in mine[:1]] + [Entry("")] * (len(variants) - 1)
        else:
            middle = [share(found.get((name, v)), drawn[v].color) for v in variants]
        lines.append([readable(name), mine[0].size if mine else "", *middle])
    heads = ["student", "params", *(_called(drawn[name].label, short) for name in variants)]
    return Table(heads, lines, title=title)


def _gains(
    frame: Frame, variants: Sequence[str], short: Mapping[str, str] | None = None
) -> Table | None:
    """A line per student, a column per training that is compared with the baseline."""
    found = {
        (s, v): one.gain
        for s in frame.students
        for v in variants
        if (one := frame.contrast(s, v, metric=frame.metric)) is not None
    }
    if not found:
        return None
    drawn = looks(frame.variants_of())
    lines: list[Line] = [
        [readable(s), *(gained(found.get((s, v))) for v in variants)]
        for s in frame.students
        if any((s, v) in found for v in variants)
    ]
    what = over(frame).removeprefix("the student ")
    return Table(
        [f"paired gain over {what}", *(_called(drawn[v].label, short) for v in variants)], lines
    )


def _called(label: str, short: Mapping[str, str] | None) -> str:
    return (short or {}).get(label, label)


def _sizes(table: Sequence[Cell]) -> str:
    """What is written behind numbers of parameters; empty where nothing is."""
    less, rank = (any(sign in cell.size for cell in table) for sign in "−(")
    said = ["params: trained numbers"] * (less or rank)
    said += ["minus those that cannot move the outputs"] * less
    said += ["in brackets the effective number, by the rank of the circuit's Jacobian"] * rank
    return f"{', '.join(said)}." if said else ""


def _pictures(frame: Frame) -> Iterator[Picture]:
    """Gains, accuracies, and accuracies against parameters."""
    rows, base, against = frame.rows, frame.baseline, over(frame)
    found = {
        (s, v): one.gain.mean
        for s in frame.students
        for v in frame.variants_of(s)
        if v != base and (one := frame.contrast(s, v)) and one.gain
    }
    if found:
        pairs = [{"student": s, "variant": v, "baseline": base} for s, v in found]
        said = "; ".join(
            f"{readable(s)} {look(v).label} {points(mean)}" for (s, v), mean in found.items()
        )
        yield Picture(
            "gains",
            lambda: plot_gains(rows, pairs, baseline=base, over=against),
            f"Paired gains in test accuracy over {against}, in points: {said}.",
            f"Gain over {against}, placebos beside it",
            (
                "Mean paired difference, its 95 % interval and, pale, every seed. "
                if frame.many
                else "Difference of a single seed, which has no interval. "
            )
            + "A gain that a placebo reaches too does not come from the teacher.",
        )
    table = cells(rows)
    said = "; ".join(
        f"{readable(c.student)} {'' if is_teacher(c.student) else look(c.variant).label + ' '}"
        f"{100 * c.mean:.1f} %"
        for c in table
    )
    yield Picture(
        "accuracy",
        lambda: plot_accuracy(rows),
        f"Test accuracy: {said}.",
        "Accuracy of every student",
        "Bars: mean over seeds; whiskers: 95 % interval, cut at 0 and 100 %; points: single seeds."
        if frame.many
        else "A single seed: no interval.",
    )
    if frame.over and len(frame.students) < 2:
        return  # trainings of one student: its size says nothing of them
    kept = [v for v in frame.variants_of() if frame.roles[v] != "placebo"]
    said = "; ".join(
        f"{readable(c.student)} ({c.parameters}) {100 * c.mean:.1f} %"
        for c in table
        if c.variant == base
    )
    yield Picture(
        "parameters-accuracy",
        lambda: plot_parameters(rows, variants=kept),
        f"Test accuracy against the number of parameters, students alone: {said}.",
        "Accuracy against parameters",
        "Students of (nearly) equal size are drawn beside each other.",
    )


# Along axes.


def _sweep(frame: Frame, grid: Grid) -> tuple[list[Block], list[Block]]:
    large = [[s] for s in frame.compared if s == frame.student or len(frame.variants_of(s)) > 2]
    rest = [s for s in frame.compared if [s] not in large]
    tables = [table for group in (*large, rest) for table in trainings(frame, grid, group)]
    noisy = frame.noisy_points or None
    more = [contrasts(frame, name, noisy) for name in frame.compared if name != frame.student]
    panels = [_panel(frame, grid, panel) for panel in grid.panels]
    seen = dict(_intervals(frame))
    away = sum(gain.low > 0 or gain.high < 0 for gain in seen.values())
    text = Text(chance(len(seen), over(frame), away))
    students = [None] if len(frame.compared) < 2 else frame.students
    pictures = [one for name in students for one in _lines(frame, grid, name)]
    blocks: list[Block] = [
        Pictures(pictures, "wide"),
        *tables,
        *filter(None, more),
        text,
        Details("Accuracy at every setting", panels),
    ]
    short = contrasts(frame, frame.student, noisy, brief=True) if noisy else None
    return blocks, [*(tables or panels), *([short] if short else [])]


def trainings(frame: Frame, grid: Grid, students: Sequence[str]) -> list[Table]:
    """Training against the axis: the gain of every training of students, with its verdict.

    A table per panel; of many panels one, with the mean over them, seed by seed.
    """
    panels: list[tuple[str, list[Point]]] = [(grid.say(p), [p]) for p in grid.panels]
    if len(panels) > _MANY:
        panels = [(f"mean over {len(panels)} settings each", list(grid.panels))]
    drawn, out = looks(frame.variants_of()), []
    who = ", ".join(map(readable, students)) + ", " if len(frame.compared) > 1 else ""
    for where, own in panels:
        lines: list[Line] = []
        for student in students:
            for variant in frame.variants_of(student):
                found = [
                    frame.contrast(student, variant, points=[grid.point(p, v) for p in own])
                    for v in grid.values
                ]
                if variant == frame.baseline or not any(found):
                    continue
                name = f"{readable(student)}: " * (len(students) > 1) + drawn[variant].label
                name += " (placebo)" * (frame.roles[variant] == "placebo")
                gains = (gained(one.gain) if one else Entry("") for one in found)
                lines.append([Entry(name, color=drawn[variant].color), *gains])
        if lines:
            title = f"{who}{where}{', ' * bool(where)}gain over {over(frame)}; {LEGEND}"
            heads = [grid.titles[grid.x], *map(shown, grid.values)]
            out.append(Table(heads, lines, title=title))
    return out


def _panel(frame: Frame, grid: Grid, panel: Point) -> Table:
    """A line per student and training, a column per value: accuracy, below it the gain."""
    styles = looks_of(frame)
    lines: list[Line] = []
    for (student, variant), style in styles.items():
        line = []
        for value in grid.values:
            point = grid.point(panel, value)
            level = share(cell_of(frame.cell(student, variant, point), frame.metric))
            one = (
                None
                if variant == frame.baseline or is_teacher(student)
                else frame.contrast(student, variant, points=[point], metric=frame.metric)
            )
            gain = gained(one.gain) if one else Entry("")
            text = f"{level.text}{level.note}"
            line.append(Entry(text, f"{gain.text} {gain.note}".strip(), gain.verdict))
        if any(entry.text for entry in line):
            lines.append([Entry(style.label, color=style.color), *line])
    return Table([grid.titles[grid.x], *map(shown, grid.values)], lines, title=grid.say(panel))


def _intervals(frame: Frame) -> Iterator[tuple[Any, Gain]]:
    """Every interval of a gain over the baseline, equal runs once."""
    for student in frame.students:
        for variant in frame.variants_of(student):
            one = None if variant == frame.baseline else frame.contrast(student, variant)
            for point, gain in one.places if one else ():
                if gain.ends:
                    yield (student, variant, str(point)), gain


def _lines(frame: Frame, grid: Grid, student: str | None) -> Iterator[Picture]:
    """Gains, accuracies and divergences against the axis, of one student or of all."""
    rows, base, against = frame.rows, frame.baseline, over(frame)
    styles = looks_of(frame, student=student)
    own = "" if student is None else f"-{student}"
    of = "" if student is None else f" of the {readable(student)} student"
    axis = grid.titles[grid.x]
    pairs = [
        {"student": s, "variant": v, "baseline": base}
        for s, v in styles
        if v != base and not is_teacher(s) and frame.contrast(s, v)
    ]
    if pairs:
        drawn = any(frame.roles[p["variant"]] == "placebo" for p in pairs)
        yield Picture(
            f"gains{own}",
            lambda: plot_gains_over(rows, pairs, grid=grid, looks=styles, baseline=base),
            f"Paired gains in test accuracy{of} over {against}, against {axis}.",
            f"Gain{of} over {against}" + ", placebos beside it" * drawn,
            (
                "Mean paired difference with its 95 % interval. Filled mark: confirmed; crossed: "
                "harmful; hollow: neither. "
                if frame.many
                else "Difference of a single seed, which has no interval and settles nothing. "
            )
            + "Pale and dashed: placebos, as an arrow with its number where one lies outside; a "
            "gain that they reach too does not come from a teacher." * drawn,
        )
    yield Picture(
        f"accuracy{own}",
        lambda: plot_accuracy_over(rows, grid=grid, looks=styles),
        f"Test accuracy{of} against {axis}, a line per student and variant.",
        f"Accuracy{of}",
        ("Mean over seeds with a 95 % band" if frame.many else "A single seed, without band")
        + "; thin, dashed and dark: the teachers themselves.",
    )
    if any("kl" in row["test"] for row in rows if (row["student"], row["variant"]) in styles):
        teacher = (frame.config.get("evaluation") or {}).get("teacher")
        called = f"the teacher “{readable(str(teacher))}”" if teacher else "the teacher"
        yield Picture(
            f"kl{own}",
            lambda: plot_accuracy_over(rows, grid=grid, looks=styles, metric="kl"),
            f"KL(teacher ‖ student){of} on the test data against {axis}, a line per variant.",
            f"Divergence{of} from {called}",
            "Mean KL(teacher ‖ student) of the test samples' class probabilities at temperature 1. "
            + "Bands hold what differs from seed to seed, which paired gains do not. " * frame.many
            + "Less is closer.",
        )
