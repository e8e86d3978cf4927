# SPDX-License-Identifier: Apache-2.0
"""Put the figures and the printed tables of finished studies into README.md.

    make readme                      of all studies below runs/: demo (c2q-digits) and those that
                                     lie in a folder of their own name
    make readme OUT=runs/somewhere   of one folder

Nothing in those parts of README is written by hand, so they are what a run printed or they are not
there. The comment before each holds the hash of the run's configuration: a test compares it with
today's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from qiskit_kd.experiment import Study, StudyResult
from qiskit_kd.experiment.schema import is_teacher
from qiskit_kd.report import (
    plot_accuracy_over,
    plot_gains,
    plot_gains_over,
    plot_parameters,
    terminal_table,
)
from qiskit_kd.report.frame import Frame
from qiskit_kd.report.html import to_svg
from qiskit_kd.report.style import PAPER, looks_of

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "c2q-digits": "demo", "c2q-xor": "c2q-xor", "q2c-fashion": "q2c-fashion",
    "c2q-noise": "c2q-noise", "c2q-hardware": "c2q-hardware",
}  # fmt: skip


def beside(result: StudyResult) -> Figure:
    """Students by size, beside their gains."""
    figure = Figure(figsize=(10.4, 7.4), layout="constrained", facecolor=PAPER)
    left, right = figure.subplots(1, 2)
    frame = Frame(result)
    kept = [name for name in frame.variants_of() if frame.roles[name] != "placebo"]
    plot_parameters(result.rows, variants=kept, ax=left)
    plot_gains(result.rows, result.comparisons, baseline=result.config["baseline"], ax=right)
    return figure


def gains(result: StudyResult) -> Figure:
    """Gains over the axis of numbers."""
    frame = Frame(result)
    return plot_gains_over(
        result.rows, result.comparisons, grid=frame.grid, looks=looks_of(frame),
        baseline=result.config["baseline"], figsize=(10.4, 4.2),
    )  # fmt: skip


def accuracies(result: StudyResult) -> Figure:
    """Accuracy of the headline student over the noise's scale."""
    grid, lead = Frame(result).grid, str(result.config["headline"])
    rows = [row for row in result.rows if row["student"] == lead or is_teacher(row["student"])]
    return plot_accuracy_over(rows, grid=grid, figsize=(10.4, 6.2))


PICTURES: dict[str, tuple[str, Callable[[StudyResult], Figure]]] = {
    "c2q-digits": ("first-light", beside), "q2c-fashion": ("fashion", gains),
    "c2q-noise": ("noise", accuracies),
}  # fmt: skip


def table(result: StudyResult) -> str:
    """What `qkd run` printed; of c2q-xor also, as the slides do, the mean F1 of the classes."""
    printed = terminal_table(result)
    if result.name != "c2q-xor":
        return printed
    f1 = terminal_table(result, metric="macro_f1").split("\n\n")
    return "\n\n".join([printed, next(b for b in f1 if b.startswith(f"{result.name}: test"))])


def update(folder: Path) -> list[Path]:
    """Put one study into README; the files written."""
    result = Study.load(folder).result()
    if result.missing:
        sys.exit(f"{folder} is not finished: {result.missing} tasks have no row")
    if result.name not in FOLDERS:
        sys.exit(f"{folder} holds {result.name}; README shows {', '.join(FOLDERS)}")
    written = []
    if result.name in PICTURES:
        stem, draw = PICTURES[result.name]
        file = ROOT / "docs" / "assets" / f"{stem}.svg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(to_svg(draw(result), stem, outlines=True), encoding="utf-8")
        written.append(file)
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    place = re.compile(
        rf"<!-- output of {result.name}: begin[^>]*-->.*?<!-- output of {result.name}: end -->",
        flags=re.DOTALL,
    )
    block = (
        f"<!-- output of {result.name}: begin; configuration {result.fingerprint[:16]} -->\n"
        f"```\n{table(result)}\n```\n<!-- output of {result.name}: end -->"
    )
    text, count = place.subn(lambda _: block, text)
    if count != 1:
        sys.exit(f"README.md has {count} places for the output of {result.name}, not one")
    readme.write_text(text, encoding="utf-8")
    return [*written, readme]


def main(folders: list[str]) -> None:
    """Update README from the folders, or from every known one that is there."""
    runs = ROOT / "runs"
    found = [Path(folder) for folder in folders]
    found = found or [runs / name for name in FOLDERS.values() if (runs / name).is_dir()]
    if not found:
        sys.exit(f"nothing below {runs}: run a study first, for example `make demo`")
    for folder in found:
        for file in update(folder):
            sys.stdout.write(f"{folder}: {file}\n")
    for name, folder in FOLDERS.items() if not folders else ():
        if not (runs / folder).is_dir():
            sys.stdout.write(f"left as it was: {name}, no folder runs/{folder}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
