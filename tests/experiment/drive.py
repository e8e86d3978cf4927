# SPDX-License-Identifier: Apache-2.0
"""A driver to be killed: `python drive.py FOLDER TASKS SLEEP`, run in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path


def tasks(count: int, folder: Path, sleep: float):
    from qiskit_kd.experiment.plan import Task

    made = []
    for seed in range(count):
        spec = {"role": "student", "seed": seed, "log": str(folder), "sleep": sleep}
        made.append(Task(f"key{seed:03d}", "student", "net", "plain", seed, None, spec))
    return made


if __name__ == "__main__":
    import fake_work

    from qiskit_kd.experiment import runner
    from qiskit_kd.experiment.store import Store

    place = Path(sys.argv[1])
    runner.work = fake_work.work
    with Store(place / "study", write=True) as study:
        runner.run(tasks(int(sys.argv[2]), place, float(sys.argv[3])), study, workers=2)
