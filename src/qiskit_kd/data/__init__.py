# SPDX-License-Identifier: Apache-2.0
"""Data sets by name, and the split every experiment works on."""

from qiskit_kd.data.dataset import Dataset, Split, datasets
from qiskit_kd.data.digits import digits
from qiskit_kd.data.splits import arrays, npz, stratified_split
from qiskit_kd.data.xor import extended_xor

__all__ = [
    "Dataset",
    "Split",
    "arrays",
    "datasets",
    "digits",
    "extended_xor",
    "npz",
    "stratified_split",
]
