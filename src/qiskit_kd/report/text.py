# SPDX-License-Identifier: Apache-2.0
"""Blocks as plain text of at most 100 columns, for terminals and README files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from io import StringIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text as Literal

from qiskit_kd.report.document import MARKS, Block, Entry, Facts, Headline, Table, Text

WIDTH = 100


def rendered(blocks: Iterable[Block]) -> str:
    """The blocks, one blank line between tables and what stands around them."""
    out: list[str] = []
    for block in blocks:
        lines: list[str] = []
        match block:
            case Headline():
                lines = [line for said in (block.text, *block.more) for line in wrapped(said)]
            case Text():
                lines = wrapped(block.text)
            case Facts():
                for label, said in block.items:
                    lines += textwrap.wrap(f"{label}: {said}", WIDTH, subsequent_indent="  ")
            case Table():
                gap = [""] * bool(not out or out[-1])
                lines = [*gap, *wrapped(block.title), *_table(block), ""]
        out += lines
    return "\n".join(out).strip("\n")


def _table(table: Table) -> list[str]:
    """As it is; without notes where it is too wide; else in parts with fewer columns."""
    heads = list(table.heads)[: table.narrow]
    for noted in (True, False):
        lines = [[_entry(one, noted) for one in line[: table.narrow]] for line in table.lines]
        wide = [max(map(cell_len, column)) for column in zip(heads, *lines, strict=True)]
        if sum(wide) + 2 * (len(wide) - 1) <= WIDTH:
            return aligned(heads, lines, words=table.words)
    words, out = table.words, list[str]()
    most, first = WIDTH - sum(wide[:words]) - 2 * (words - 1), words
    while first < len(heads):
        last = first + 1
        while last < len(heads) and sum(wide[first : last + 1]) + 2 * (last + 1 - first) <= most:
            last += 1
        part = [[*line[:words], *line[first:last]] for line in (heads, *lines)]
        out += [*([""] if out else []), *aligned(part[0], part[1:], words=words)]
        first = last
    return out


def _entry(entry: str | Entry, noted: bool) -> str:
    if isinstance(entry, str):
        return entry
    note = entry.note * noted
    text = entry.text + " " * bool(note and not note.startswith("±")) + note
    mark = MARKS.get(entry.verdict, "")
    return text + " " * bool(note and mark) + mark


def aligned(heads: Sequence[str], lines: Sequence[Sequence[str]], *, words: int = 1) -> list[str]:
    """Columns two blanks apart, words to the left and numbers to the right."""
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, head in enumerate(heads):
        side = "left" if place < words else "right"
        grid.add_column(Literal(head), justify=side, no_wrap=True)  # type: ignore[arg-type]
    for line in lines:
        grid.add_row(*map(Literal, line))
    wide = sum(max(map(cell_len, column)) + 2 for column in zip(heads, *lines, strict=True))
    out = StringIO()
    Console(file=out, width=max(wide, WIDTH), color_system=None, emoji=False).print(grid)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def wrapped(sentence: str) -> list[str]:
    """Lines of at most `WIDTH` columns."""
    return textwrap.wrap(sentence, WIDTH)
