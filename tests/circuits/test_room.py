# SPDX-License-Identifier: Apache-2.0
"""The room as a whole: it never imports torch, and its names are there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import qiskit_kd.circuits as room

CODE = """
import sys
import qiskit_kd.circuits
import qiskit_kd.circuits.library as library
qiskit_kd.circuits.dead_weights(qiskit_kd.circuits.CircuitModel(
    qiskit_kd.circuits.angle(2), qiskit_kd.circuits.hardware_efficient(2, 1),
    qiskit_kd.circuits.ClassGroups(2, 2)))
library.templates()[0].qasm
loaded = {name.split(".")[0] for name in sys.modules}
print(sorted(loaded & {"torch", "torchvision", "qiskit_aer", "qiskit_machine_learning"}))
"""


def test_circuits_never_import_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", room.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    part = getattr(room, name)
    assert (part.__doc__ or "").strip()


def test_public_names_are_sorted_and_unique() -> None:
    assert sorted(set(room.__all__)) == room.__all__
