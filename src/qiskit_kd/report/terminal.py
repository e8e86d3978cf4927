# SPDX-License-Identifier: Apache-2.0
"""The result of a study as plain text, at most 100 columns, for terminals and README files."""

from __future__ import annotations

from qiskit_kd.report.grid import Grid, grid_of, shown
from qiskit_kd.report.hardware_words import in_brief, lead, teaching, test_sentence
from qiskit_kd.report.noise_words import answers
from qiskit_kd.report.palette import look, readable
from qiskit_kd.report.portraits import split_of
from qiskit_kd.report.sentences import (
    chance_sentence,
    interval_sentence,
    labels_sentence,
    placebo_sentence,
    question_sentence,
    setup_sentence,
    size_sentence,
    verdict_sentence,
)
from qiskit_kd.report.summary import (
    Cell,
    Result,
    alone,
    cells,
    gains,
    is_teacher,
    names_apart,
    others_of,
    points,
    roles,
    students_of,
    treatment,
    upper_controls,
    variants_of,
)
from qiskit_kd.report.survey import caution, chance, findings, first_line
from qiskit_kd.report.tally import blocks, looks_of, taught
from qiskit_kd.report.trainings import compared

__all__ = ["WIDTH", "aligned", "terminal_table", "wrapped"]

WIDTH = 100
MARKS = "* confirmed, ! harmful, unmarked: neither"
_MARK = {"confirmed": "*", "harmful": "!"}
_SHORT = {
    "shuffled teacher": "shuffled", "label smoothing": "smoothing", "teacher's labels": "labels",
}  # fmt: skip


@names_apart
def terminal_table(result: Result, *, metric: str = "accuracy") -> str:
    """Verdict, then one line per student: a column per variant and the gain of the headline's.

    Numbers are per cent with the half width of their 95 % interval; gains are points. With so many
    variants that 100 columns do not hold them, each variant takes a line of its own.

    Args:
        result: A finished study.
        metric: A key of the rows' `test`.
    """
    grid = grid_of(result)
    if grid is not None:
        return _survey(result, grid, metric)
    rows = result.rows
    table = {(cell.student, cell.variant): cell for cell in cells(rows, metric)}
    baseline, _ = roles(result)
    variants = variants_of(rows) or [baseline]  # the teacher's rows come first
    treated = treatment(result) or ""
    gain = {
        (g.student, g.variant): g
        for g in gains(rows, result.comparisons, metric=metric, baseline=baseline)
    }

    def change(student: str, variant: str) -> str:
        found = gain.get((student, variant))
        if found is None:
            return ""
        if found.low is None or found.high is None:
            return f"{points(found.mean)} (one seed)"
        mark = "" if found.verdict == "not confirmed" else " *"
        return f"{points(found.mean)} [{points(found.low)}, {points(found.high)}]{mark}"

    heads = [
        "student",
        "params",
        *(_short(v) for v in variants),
        f"paired gain, {_short(treated)}" if treated else "",
    ]
    lines = []
    for student in students_of(rows):
        size = next(c.size for c in table.values() if c.student == student)
        if is_teacher(student):
            own = next(c for c in table.values() if c.student == student)
            middle = [_number(own), *[""] * (len(variants) - 1)]
        else:
            middle = [_number(table.get((student, v))) for v in variants]
        lines.append([readable(student), size, *middle, change(student, treated)])
    text = aligned(heads, lines)
    if max(map(len, text)) > WIDTH:
        # The numbers, and below them the gains that the study is about.
        asked = [v for v in variants if v in (*taught(result), *upper_controls(result))]
        text = aligned(heads[:-1], [line[:-1] for line in lines])
        gained = [
            [readable(s), *(change(s, v) for v in asked)]
            for s in students_of(rows)
            if not is_teacher(s)
        ]
        over = f"paired gain over {alone(result).removeprefix('the student ')}"
        below = aligned([over, *map(_short, asked), ""], [[*line, ""] for line in gained])
        text += ["", *(line.rstrip() for line in below)]
    if max(map(len, text)) > WIDTH:
        heads = ["student", "params", "variant", metric, "gain"]
        lines = [
            [
                readable(c.student), c.size,
                "" if is_teacher(c.student) else look(c.variant).label,
                _number(c), change(c.student, c.variant),
            ]
            for c in table.values()
        ]  # fmt: skip
        text = aligned(heads, lines)
    title, split = _title(result, metric), split_of(result.config)
    return "\n".join(
        [
            *wrapped("" if lead(result) else question_sentence(result, split)),
            *wrapped(lead(result) or verdict_sentence(result)),
            *wrapped(
                f"{test_sentence(result)} {teaching(result)}".strip() or placebo_sentence(result)
            ),
            *wrapped(labels_sentence(result)),
            *wrapped(setup_sentence(result, split)),
            "",
            title,
            *(line.rstrip() for line in text),
            *["* the 95 % interval of the paired gain excludes zero"] * any("*" in t for t in text),
            *wrapped(size_sentence(table.values())),
            *wrapped(interval_sentence(result)),
            *wrapped(chance_sentence(sum(t.count("[") for t in text))),
            *(line for said in in_brief(result) for line in wrapped(said)),
        ]
    )


def _survey(result: Result, grid: Grid, metric: str) -> str:
    """Verdict; per panel a line per student and variant, a column per value; then the findings."""
    looks = looks_of(result)
    over = alone(result) if others_of(result) else "alone"
    split = split_of(result.config)
    text = [*wrapped(question_sentence(result, split)), *wrapped(first_line(result, grid)),
            *wrapped(caution(result, grid)), *wrapped(setup_sentence(result, split)), "",
            _title(result, metric)]  # fmt: skip
    tables = blocks(result, grid, looks, metric=metric)
    for block in tables:
        lines = [
            [line["label"], *(_cell(cell["accuracy"], cell["half"]) for cell in line["cells"])]
            for line in block["lines"]
        ]
        text += ["", *([block["name"]] if block["name"] else []), *_columns(grid, lines)]
    gained = [
        (block["name"], [line for line in block["lines"] if line["gains"]]) for block in tables
    ]
    if any(lines for _, lines in gained):
        text += ["", f"gain over {over} in points; {MARKS}"]
    for name, found in gained:
        lines = [
            [line["label"], *(f"{c['gain']}{_MARK.get(c['verdict'], ' ')}" for c in line["cells"])]
            for line in found
        ]
        if lines:
            text += ["", *([name] if name else []), *_columns(grid, lines)]
    for finding in findings(result, grid):
        text += ["", *wrapped(str(finding))]
    said = f"{interval_sentence(result)} {chance(result, grid)}".strip()
    text += [*([""] if said else []), *wrapped(said)]
    for student in compared(result):
        held = answers(result, grid, student)
        text += ["", f"which training holds, {readable(student)}:"] if held else []
        text += [line for sentence in held for line in wrapped(sentence)]
    device = in_brief(result)
    text += [*[""] * bool(device), *(line for said in device for line in wrapped(said))]
    return "\n".join(text)


def _columns(grid: Grid, lines: list[list[str]]) -> list[str]:
    """The lines below the values of the axis; as many tables as 100 columns need."""
    heads = [grid.titles[grid.x], *(shown(value) for value in grid.values)]
    label = max(len(line[0]) for line in [heads, *lines])
    wide = max(len(text) for line in [heads, *lines] for text in line[1:])
    fit = max(1, (WIDTH - label) // (wide + 2))
    out: list[str] = []
    for start in range(1, len(heads), fit):
        part = [[line[0], *line[start : start + fit]] for line in (heads, *lines)]
        table = [
            line[0].ljust(label) + "".join(f"  {text.rjust(wide)}" for text in line[1:])
            for line in part
        ]
        out += [*([""] if out else []), table[0].rstrip(), "─" * len(table[0])]
        out += [line.rstrip() for line in table[1:]]
    return out


def _title(result: Result, metric: str) -> str:
    seeds = len({row["seed"] for row in result.rows})
    return f"{result.name}: test {metric.replace('_', '-')} in %, " + (
        f"mean ± 95 % interval over {seeds} paired seeds" if seeds > 1 else "one seed: no interval"
    )


def _cell(mean: str, half: str) -> str:
    return f"{mean}±{half}" if half else mean


def _short(variant: str) -> str:
    label = look(variant).label
    return _SHORT.get(label, label)


def _number(cell: Cell | None) -> str:
    if cell is None:
        return ""
    half = "" if cell.half is None else f"±{100 * cell.half:.1f}"
    return f"{100 * cell.mean:.1f}{half}"


def aligned(heads: list[str], lines: list[list[str]]) -> list[str]:
    """Columns two blanks apart; the first and last to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    last = len(heads) - 1

    def line(parts: list[str]) -> str:
        return "  ".join(
            part.ljust(width) if k in (0, last) else part.rjust(width)
            for k, (part, width) in enumerate(zip(parts, widths, strict=True))
        )

    rule = "─" * min(sum(widths) + 2 * last, WIDTH)
    return [line(heads), rule, *(line(parts) for parts in lines)]


def wrapped(sentence: str) -> list[str]:
    """Lines of at most `WIDTH` columns."""
    import textwrap

    return textwrap.wrap(sentence, WIDTH)
