# SPDX-License-Identifier: Apache-2.0
"""The result of a study as plain text, at most 100 columns, for terminals and README files."""

from __future__ import annotations

from qiskit_kd.report.palette import TEACHER, look, readable
from qiskit_kd.report.portraits import split_of
from qiskit_kd.report.sentences import (
    chance_sentence,
    placebo_sentence,
    setup_sentence,
    verdict_sentence,
)
from qiskit_kd.report.summary import (
    Cell,
    Result,
    cells,
    gains,
    points,
    roles,
    students_of,
    treatment,
    variants_of,
)

__all__ = ["WIDTH", "terminal_table"]

WIDTH = 100
_SHORT = {"shuffled teacher": "shuffled", "label smoothing": "smoothing"}


def terminal_table(result: Result, *, metric: str = "accuracy") -> str:
    """Verdict, then one line per student: a column per variant and the gain of the headline's.

    Numbers are per cent with the half width of their 95 % interval; gains are points. With so many
    variants that 100 columns do not hold them, each variant takes a line of its own.

    Args:
        result: A finished study.
        metric: A key of the rows' `test`.
    """
    rows = result.rows
    seeds = len({row["seed"] for row in rows})
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
        size = next(f"{c.parameters:,}" for c in table.values() if c.student == student)
        if student == TEACHER:
            own = next(c for c in table.values() if c.student == student)
            middle = [_number(own), *[""] * (len(variants) - 1)]
        else:
            middle = [_number(table.get((student, v))) for v in variants]
        lines.append([readable(student), size, *middle, change(student, treated)])
    text = _aligned(heads, lines)
    if max(len(line) for line in text) > WIDTH:
        heads = ["student", "params", "variant", metric, "gain"]
        lines = [
            [
                readable(c.student), f"{c.parameters:,}",
                "" if c.student == TEACHER else look(c.variant).label,
                _number(c), change(c.student, c.variant),
            ]
            for c in table.values()
        ]  # fmt: skip
        text = _aligned(heads, lines)
    title = f"{result.name}: test {metric.replace('_', '-')} in %, "
    title += (
        f"mean ± 95 % interval over {seeds} paired seeds" if seeds > 1 else "one seed: no interval"
    )
    return "\n".join(
        [
            *_wrapped(verdict_sentence(result)),
            *_wrapped(placebo_sentence(result)),
            *_wrapped(setup_sentence(result, split_of(result.config))),
            "",
            title,
            *(line.rstrip() for line in text),
            *["* the 95 % interval of the paired gain excludes zero"] * any("*" in t for t in text),
            *_wrapped(chance_sentence(sum("[" in t for t in text))),
        ]
    )


def _short(variant: str) -> str:
    label = look(variant).label
    return _SHORT.get(label, label)


def _number(cell: Cell | None) -> str:
    if cell is None:
        return ""
    half = "" if cell.half is None else f"±{100 * cell.half:.1f}"
    return f"{100 * cell.mean:.1f}{half}"


def _aligned(heads: list[str], lines: list[list[str]]) -> list[str]:
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


def _wrapped(sentence: str) -> list[str]:
    import textwrap

    return textwrap.wrap(sentence, WIDTH)
