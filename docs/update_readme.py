# SPDX-License-Identifier: Apache-2.0
"""Put the figure and the printed table of a finished study into README.md: `make readme`.

Nothing in that part of README is written by hand, so it is what a run printed or it is not there.
The comment before it holds the hash of the run's configuration: a test compares it with today's.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from matplotlib.figure import Figure

from qiskit_kd.experiment import Study
from qiskit_kd.report import plot_gains, plot_parameters, terminal_table
from qiskit_kd.report.palette import PAPER
from qiskit_kd.report.svg import to_svg

ROOT = Path(__file__).parents[1]
BEGIN = re.compile(r"<!-- output of `make demo`: begin[^>]*-->")
END = "<!-- output of `make demo`: end -->"


def main(folder: str) -> None:
    result = Study.load(Path(folder)).result()
    if result.missing:
        sys.exit(f"{folder} is not finished: {result.missing} tasks have no row")
    figure = Figure(figsize=(10.4, 5.2), layout="constrained", facecolor=PAPER)
    left, right = figure.subplots(1, 2)
    plot_parameters(result.rows, ax=left)
    plot_gains(result.rows, result.comparisons, baseline=result.config["baseline"], ax=right)
    picture = ROOT / "docs" / "assets" / "first-light.svg"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(to_svg(figure, "first-light", outlines=True), encoding="utf-8")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, rest = BEGIN.split(text)
    _, tail = rest.split(END)
    begin = f"<!-- output of `make demo`: begin; configuration {result.fingerprint[:16]} -->"
    block = f"{begin}\n```\n{terminal_table(result)}\n```\n{END}"
    readme.write_text(head + block + tail, encoding="utf-8")
    sys.stdout.write(f"{picture}\n{readme}\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "runs" / "demo"))
