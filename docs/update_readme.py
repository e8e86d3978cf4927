# SPDX-License-Identifier: Apache-2.0
"""Put the figure and the printed table of a finished study into README.md.

    make readme                             after `make demo`
    make readme OUT=runs/q2c-fashion        after `qkd run q2c-fashion --out runs/q2c-fashion`
    make readme OUT=runs/c2q-noise          after `qkd run c2q-noise --out runs/c2q-noise`

Nothing in those parts of README is written by hand, so they are what a run printed or they are not
there. The comment before each holds the hash of the run's configuration: a test compares it with
today's.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from matplotlib.figure import Figure

from qiskit_kd.experiment import Study, StudyResult
from qiskit_kd.experiment.config import is_teacher
from qiskit_kd.report import (
    plot_accuracy_over,
    plot_gains,
    plot_gains_over,
    plot_parameters,
    terminal_table,
)
from qiskit_kd.report.grid import grid_of
from qiskit_kd.report.palette import PAPER
from qiskit_kd.report.svg import to_svg
from qiskit_kd.report.tally import looks_of

ROOT = Path(__file__).parents[1]
PICTURES = {"c2q-digits": "first-light", "q2c-fashion": "fashion", "c2q-noise": "noise"}


def picture(result: StudyResult) -> Figure:
    """Gains over the axis of numbers, or students beside their gains where there is no axis.

    Of a study of noise, accuracy of the headline student over the noise's scale.
    """
    if result.name == "c2q-noise":
        lead = str(result.config["headline"])
        rows = [row for row in result.rows if row["student"] == lead or is_teacher(row["student"])]
        return plot_accuracy_over(rows, grid=grid_of(result), figsize=(10.4, 6.2))
    baseline = result.config["baseline"]
    if (grid := grid_of(result)) is not None:
        return plot_gains_over(
            result.rows, result.comparisons, grid=grid, looks=looks_of(result), baseline=baseline,
            figsize=(10.4, 4.2),
        )  # fmt: skip
    figure = Figure(figsize=(10.4, 5.2), layout="constrained", facecolor=PAPER)
    left, right = figure.subplots(1, 2)
    plot_parameters(result.rows, ax=left)
    plot_gains(result.rows, result.comparisons, baseline=baseline, ax=right)
    return figure


def table(result: StudyResult) -> str:
    """What `qkd run` printed; of a study with axes its first line and the gains."""
    printed = terminal_table(result)
    if not result.axes:
        return printed
    first, *blocks = printed.split("\n\n")
    if result.name == "c2q-noise":  # thirty panels of numbers are for the page
        lead = str(result.config["headline"]).replace("_", " ")
        holds = next(b for b in blocks if b.startswith(f"which training holds, {lead}"))
        return f"{first}\n\n{holds}"
    start = next(k for k, block in enumerate(blocks) if block.startswith("gain over"))
    panels = [b for b in blocks[start + 1 :] if "\n─" in b]
    return "\n\n".join([first, blocks[start], *panels])


def main(folder: str) -> None:
    result = Study.load(Path(folder)).result()
    if result.missing:
        sys.exit(f"{folder} is not finished: {result.missing} tasks have no row")
    if result.name not in PICTURES:
        sys.exit(f"{folder} holds {result.name}; README shows {', '.join(PICTURES)}")
    file = ROOT / "docs" / "assets" / f"{PICTURES[result.name]}.svg"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(to_svg(picture(result), file.stem, outlines=True), encoding="utf-8")
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
    sys.stdout.write(f"{file}\n{readme}\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "runs" / "demo"))
