# SPDX-License-Identifier: Apache-2.0
"""Accuracies and gains of every student under every training, as tables and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qiskit_kd.experiment.schema import is_teacher
from qiskit_kd.report.contrasts import called, chance, contrasts, over
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
    said = (
        "Means over seeds on the test set, which was used once, after every choice had been made; "
        "± is half of the 95 % interval. A gain is the mean of the differences seed by seed, in "
        f"points. {LEGEND}."
        if frame.many
        else "One seed on the test set, which was used once, after every choice had been made: "
        "there are no intervals, so nothing is confirmed."
    )
    blocks, brief = _plain(frame) if frame.grid is None else _sweep(frame, frame.grid)
    return Section("Results", [Text(said), *blocks], brief)


# Without axes.


def _plain(frame: Frame) -> tuple[list[Block], list[Block]]:
    own, seeds = cells(frame.rows, frame.metric), len(frame.seeds)
    percent = " in %" * (frame.metric in SHARES)
    over_seeds = (
        f"mean ± 95 % interval over {seeds} paired seeds" if seeds > 1 else "one seed: no interval"
    )
    title = f"{frame.result.name}: test {frame.metric.replace('_', '-')}{percent}, {over_seeds}"

    def tables(variants: Sequence[str], short: Mapping[str, str]) -> list[Block]:
        gains = _gains(frame, variants, short)
        entries = [one for line in (gains.lines if gains else ()) for one in line[1:]]
        count = sum(isinstance(one, Entry) and "[" in one.note for one in entries)
        said = " ".join(filter(None, (_sizes(own), chance(count, over(frame)))))
        return [_levels(frame, own, title, short), *([gains] if gains else []), Text(said)]

    others = [name for name in frame.variants_of() if name != frame.baseline]
    blocks = [
        *tables(others, {}),
        Pictures(list(_pictures(frame))),
        Details("Macro-F1", [_levels(frame, cells(frame.rows, "macro_f1"), "", {})]),
    ]
    return blocks, tables([*frame.having("taught"), *frame.having("labels")], _SHORT)


def _levels(frame: Frame, table: Sequence[Cell], title: str, short: Mapping[str, str]) -> Table:
    """A line per network, a column per training."""
    drawn = looks(frame.variants_of() or [frame.baseline])
    found = {(c.student, c.variant): c for c in table}
    first = {c.student: c for c in reversed(table)}

    def level(name: str, variant: str, place: int) -> Entry:
        if is_teacher(name):
            return Entry("") if place else share(first.get(name))
        return share(found.get((name, variant)), drawn[variant].color)

    lines: list[Line] = [
        [
            readable(name),
            first[name].size if name in first else "",
            *(level(name, variant, place) for place, variant in enumerate(drawn)),
        ]
        for name in frame.networks
    ]
    heads = [short.get(one.label, one.label) for one in drawn.values()]
    return Table(["student", "params", *heads], lines, title=title)


def _gains(frame: Frame, variants: Sequence[str], short: Mapping[str, str]) -> Table | None:
    """A line per student, a column per training that is compared with the baseline."""
    gains = {
        name: [frame.gain(name, variant, metric=frame.metric) for variant in variants]
        for name in frame.students
    }
    lines: list[Line] = [
        [readable(name), *map(gained, own)] for name, own in gains.items() if any(own)
    ]
    drawn, what = looks(frame.variants_of()), over(frame).removeprefix("the student ")
    labels = [drawn[name].label for name in variants]
    heads = [f"paired gain over {what}", *(short.get(label, label) for label in labels)]
    return Table(heads, lines) if lines else None


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
        (s, v): gain
        for s in frame.students
        for v in frame.variants_of(s)
        if v != base and (gain := frame.gain(s, v))
    }
    if found:
        pairs = [{"student": s, "variant": v, "baseline": base} for s, v in found]
        said = (f"{readable(s)} {look(v).label} {points(g.mean)}" for (s, v), g in found.items())
        yield Picture(
            "gains",
            lambda: plot_gains(rows, pairs, baseline=base, over=against),
            f"Paired gains in test accuracy over {against}, in points: {'; '.join(said)}.",
            f"Gain over {against}, placebos beside it",
            (
                "Mean paired difference, its 95 % interval and, pale, every seed. "
                if frame.many
                else "Difference of a single seed, which has no interval. "
            )
            + "A gain that a placebo reaches too does not come from the teacher.",
        )
    table = cells(rows)
    said = (
        f"{readable(c.student)} {'' if is_teacher(c.student) else look(c.variant).label + ' '}"
        f"{100 * c.mean:.1f} %"
        for c in table
    )
    yield Picture(
        "accuracy",
        lambda: plot_accuracy(rows),
        f"Test accuracy: {'; '.join(said)}.",
        "Accuracy of every student",
        "Bars: mean over seeds; whiskers: 95 % interval, cut at 0 and 100 %; points: single seeds."
        if frame.many
        else "A single seed: no interval.",
    )
    if frame.over and len(frame.students) < 2:
        return  # trainings of one student: its size says nothing of them
    kept = [v for v in frame.variants_of() if frame.roles[v] != "placebo"]
    said = (
        f"{readable(c.student)} ({c.parameters}) {100 * c.mean:.1f} %"
        for c in table
        if c.variant == base
    )
    yield Picture(
        "parameters-accuracy",
        lambda: plot_parameters(rows, variants=kept),
        f"Test accuracy against the number of parameters, students alone: {'; '.join(said)}.",
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
    seen = [
        gain
        for student in frame.students
        for variant in frame.variants_of(student)
        if variant != frame.baseline and (one := frame.contrast(student, variant))
        for _, gain in one.places
        if gain.ends
    ]
    away = sum(gain.low > 0 or gain.high < 0 for gain in seen)
    students = [None] if len(frame.compared) < 2 else frame.students
    blocks: list[Block] = [
        Pictures([one for name in students for one in _lines(frame, grid, name)], "wide"),
        *tables,
        *filter(None, more),
        Text(chance(len(seen), over(frame), away)),
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
    drawn = looks(frame.variants_of())
    several = len(frame.compared) > 1
    who = ", ".join(map(readable, students)) + ", " if several else ""
    # As in the figures, which show each student by itself where there are several.
    styles = {name: looks_of(frame, student=name if several else None) for name in students}
    out = []
    for where, own in panels:
        columns = [[grid.point(panel, value) for panel in own] for value in grid.values]
        gains = {
            (student, variant): [frame.gain(student, variant, points=one) for one in columns]
            for student in students
            for variant in frame.variants_of(student)
            if variant != frame.baseline
        }
        lines = [
            [
                Entry(
                    f"{readable(student)}: " * (len(students) > 1)
                    + called(frame, variant, drawn[variant].label),
                    color=styles[student][student, variant].color,
                ),
                *map(gained, found),
            ]
            for (student, variant), found in gains.items()
            if any(found)
        ]
        title = f"{who}{where}{', ' * bool(where)}gain over {over(frame)}; {LEGEND}"
        heads = [grid.titles[grid.x], *map(shown, grid.values)]
        out += [Table(heads, lines, title=title)] if lines else []
    return out


def _panel(frame: Frame, grid: Grid, panel: Point) -> Table:
    """A line per student and training, a column per value: accuracy, below it the gain."""

    def entry(student: str, variant: str, point: Point) -> Entry:
        level = share(cell_of(frame.cell(student, variant, point), frame.metric))
        gain = Entry("")
        if variant != frame.baseline and not is_teacher(student):
            found = frame.gain(student, variant, points=[point], metric=frame.metric)
            gain = gained(found)
        return Entry(level.text + level.note, f"{gain.text} {gain.note}".strip(), gain.verdict)

    lines = [
        [
            Entry(style.label, color=style.color),
            *(entry(*key, grid.point(panel, value)) for value in grid.values),
        ]
        for key, style in looks_of(frame).items()
    ]
    lines = [line for line in lines if any(one.text for one in line[1:])]
    return Table([grid.titles[grid.x], *map(shown, grid.values)], lines, title=grid.say(panel))


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
        name = f"the teacher “{readable(str(teacher))}”" if teacher else "the teacher"
        yield Picture(
            f"kl{own}",
            lambda: plot_accuracy_over(rows, grid=grid, looks=styles, metric="kl"),
            f"KL(teacher ‖ student){of} on the test data against {axis}, a line per variant.",
            f"Divergence{of} from {name}",
            "Mean KL(teacher ‖ student) of the test samples' class probabilities at temperature 1. "
            + "Bands hold what differs from seed to seed, which paired gains do not. " * frame.many
            + "Less is closer.",
        )
